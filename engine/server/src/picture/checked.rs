//! The picture of a dry run: the recording as it is, and its seam before and after, from one closeness.

use std::{fs, io, ops::Range, path::Path};

use holdmusic_codecs::Join;
use holdmusic_control::graph::Playable;
use plotters::{prelude::*, style::text_anchor::HPos};

use super::{
    Area, BOTTOM, Chart, Drawn, FAINT, GAP, GRID, HEADING, INK, LEFT, MARK, PEAK, RIGHT, RMS, SIZE,
    amplitude, heading, outline, rule, write,
};

/// Draws what a dry run has found and writes it to `into` as SVG.
///
/// # Errors
///
/// If the file cannot be written.
pub fn checked(into: &Path, name: &str, playable: &Playable) -> io::Result<()> {
    fs::write(into, svg(name, playable)?)
}

/// Rows of pixels: the title, the recording, the seams, and the lower edge.
const RECORDING: i32 = 44;
const SEAMS: i32 = 300;
const HEIGHT: i32 = 500;

/// To either side of a seam so much is drawn, in milliseconds: a few periods of a voice.
const SEAM_MS: f64 = 15.0;

fn svg(name: &str, playable: &Playable) -> io::Result<String> {
    let mut text = String::new();
    draw(&mut text, name, playable).map_err(io::Error::other)?;
    Ok(text)
}

fn draw(into: &mut String, name: &str, playable: &Playable) -> Drawn {
    let root = SVGBackend::with_string(into, (SIZE.0 as u32, HEIGHT as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    // The end of a path says more than its beginning.
    let letters = name.chars().count();
    let short: String = name.chars().skip(letters.saturating_sub(60)).collect();
    let title = format!("{short}  ·  {}", playable.format);
    write(&root, &title, (LEFT, 24), 16.0, &INK, HPos::Left)?;
    draw_recording(&root, playable)?;
    let middle = SIZE.0 / 2;
    draw_seam(&root, 0..middle, "Seam, simply repeated", &playable.before)?;
    if let Some(joins) = &playable.rehearsal.joins {
        draw_seam(&root, middle..SIZE.0, "Seam, as it is heard", &joins.seam)?;
    }
    root.present()
}

fn draw_recording(root: &Area<'_>, playable: &Playable) -> Drawn {
    let inspection = &playable.inspection;
    let waveform = &inspection.waveform;
    let seconds = inspection.seconds.max(waveform.column_seconds);
    let columns: Vec<_> = waveform
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let at = (index as f64 + 0.5) * waveform.column_seconds;
            (at, f64::from(column.lowest), f64::from(column.highest), f64::from(column.rms))
        })
        .collect();
    let peak = columns.iter().map(|&(_, low, high, _)| high.max(-low)).fold(0.0, f64::max);
    let scale = amplitude(peak);
    let place = (0..SIZE.0, RECORDING..SEAMS);
    let mut chart = plot(root, place, 0.0..seconds, -scale..scale, "time (s)")?;
    for silent in [0.0..inspection.silence_before, seconds - inspection.silence_behind..seconds] {
        let corners = [(silent.start, -scale), (silent.end, scale)];
        chart.draw_series([Rectangle::new(corners, FAINT.mix(0.14).filled())])?;
    }
    outline(&mut chart, PEAK, &columns, |&(x, low, high, _)| (x, low, high))?;
    outline(&mut chart, RMS, &columns, |&(x, low, high, rms)| (x, (-rms).max(low), rms.min(high)))?;
    let rate = f64::from(inspection.rate);
    let line = |x: f64| [(x, -scale), (x, scale)];
    if let Some((points, None)) = playable.loop_points {
        for point in [points.start, points.end] {
            chart.draw_series([PathElement::new(line(point as f64 / rate), MARK.stroke_width(2))])?;
        }
    }
    if let Some(first) = inspection.clipping.first {
        chart.draw_series([PathElement::new(line(first as f64 / rate), GAP.stroke_width(1))])?;
    }
    let mut legend = vec![(PEAK, "lowest to highest sample".to_owned()), (RMS, "effective level".to_owned())];
    if inspection.silence_before + inspection.silence_behind > 0.0 {
        legend.push((GRID, "silence at the ends".to_owned()));
    }
    if matches!(playable.loop_points, Some((_, None))) {
        legend.push((MARK, "loop points".to_owned()));
    }
    if inspection.clipping.first.is_some() {
        legend.push((GAP, format!("first of {} clipped runs", inspection.clipping.runs)));
    }
    heading(root, LEFT..SIZE.0 - RIGHT, RECORDING, "The recording", &legend)
}

fn draw_seam(root: &Area<'_>, columns: Range<i32>, name: &str, join: &Join) -> Drawn {
    let ms = |index: usize| (index as f64 - join.at() as f64) * 1000.0 / f64::from(join.rate());
    let points: Vec<_> = join
        .samples()
        .iter()
        .enumerate()
        .map(|(index, &sample)| (ms(index), f64::from(sample)))
        .filter(|(at, _)| at.abs() <= SEAM_MS)
        .collect();
    // Silence is drawn as silence: what is not heard is not blown up to fill the plot.
    let scale = amplitude(points.iter().map(|(_, sample)| sample.abs()).fold(0.0, f64::max));
    let place = (columns.clone(), SEAMS..HEIGHT);
    let mut chart = plot(root, place, -SEAM_MS..SEAM_MS, -scale..scale, "around the join (ms)")?;
    // What counts as the join itself.
    let near = [(-2.0, -scale), (2.0, scale)];
    chart.draw_series([Rectangle::new(near, MARK.mix(0.1).filled())])?;
    chart.draw_series([PathElement::new(points, RMS.stroke_width(1))])?;
    let legend = [(MARK, format!("the join: {:+.1} dB against the music around it", join.click_db()))];
    heading(root, columns.start + LEFT..columns.end - RIGHT, SEAMS, name, &legend)
}

/// A plot in a part of the picture.
fn plot<'b>(
    root: &Area<'b>,
    (columns, rows): (Range<i32>, Range<i32>),
    x: Range<f64>,
    y: Range<f64>,
    x_name: &str,
) -> Result<Chart<'b, 'b>, DrawingAreaErrorKind<io::Error>> {
    let area = root.clone().shrink(
        (columns.start, rows.start + HEADING),
        (columns.end - columns.start - RIGHT, rows.end - rows.start - HEADING),
    );
    let mut chart = ChartBuilder::on(&area)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM)
        .build_cartesian_2d(x, y)?;
    let seconds = |x: &f64| format!("{x:.4}").trim_end_matches('0').trim_end_matches('.').to_owned();
    rule(&mut chart, Some(x_name), &seconds, &|y: &f64| format!("{y:+.2}"))?;
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use holdmusic_media::prepare::PrepareSettings;

    use super::*;
    use crate::check::look_at;

    #[test]
    fn the_picture_shows_the_recording_and_both_seams_and_stays_small() {
        let clip = include_bytes!("../../../../assets/fixtures/music-16k.wav");
        let playable = look_at(clip.to_vec(), &PrepareSettings::default(), &|_| ()).unwrap();
        let svg = svg("a<b>.wav", &playable).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for words in ["a&lt;b&gt;.wav", "The recording", "Seam, simply repeated", "Seam, as it is heard"] {
            assert!(svg.contains(words), "{words} is missing");
        }
        assert!(svg.len() < 100_000, "{} bytes", svg.len());
    }
}
