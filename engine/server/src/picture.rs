//! `held.svg`: sound, packet arrivals and the operation's life go in; one picture over one time axis comes out. The
//! picture of a dry run is beside it.

mod checked;

use std::{fs, io, ops::Range, path::Path, time::Duration};

use holdmusic_codecs::Pcm;
use holdmusic_media::{Hearing, MediaTime, receiver::StreamHearing};
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

pub use checked::checked;

/// A moment in the operation's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When it was, on the clock that also says when datagrams arrived.
    pub at: MediaTime,
    /// What happened, in a few words.
    pub label: String,
}

/// Draws the picture and writes it to `into` as SVG. The sound begins where the first packet of the source with
/// the most packets arrived; seconds count from that or the first mark, whichever is earlier.
///
/// # Errors
///
/// If the file cannot be written.
pub fn held(into: &Path, sound: &Pcm, hearing: &Hearing, marks: &[Mark]) -> io::Result<()> {
    fs::write(into, svg(sound, hearing, marks)?)
}

const SIZE: (i32, i32) = (1200, 640);

/// Pixels between the edges of the picture and the plots.
const LEFT: i32 = 78;
const RIGHT: i32 = 24;
const BOTTOM: i32 = 52;
const TITLE: i32 = 74;

/// Height of one row of mark labels, and how many rows there may be; further labels share the last row.
const MARK_ROW: i32 = 18;
const MAX_MARK_ROWS: usize = 5;

/// Height of a plot's heading.
const HEADING: i32 = 30;

/// plotters writes letters that much smaller than it is told.
const PLOTTERS_EM: f64 = 1.24;

/// The average letter of a sans-serif face at 12 px: there are no fonts here to measure with.
const LETTER: f64 = 6.6;

/// Packet spacing is drawn up to this many milliseconds; what is longer is told in words.
const MAX_SPACING_MS: f64 = 200.0;

const INK: RGBColor = RGBColor(0x22, 0x2b, 0x36);
const FAINT: RGBColor = RGBColor(0x6b, 0x76, 0x85);
const GRID: RGBColor = RGBColor(0xe7, 0xea, 0xee);
const PEAK: RGBColor = RGBColor(0x9c, 0xc3, 0xe6);
const RMS: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const ON_TIME: RGBColor = RGBColor(0x2a, 0x8c, 0x6e);
const GAP: RGBColor = RGBColor(0xd6, 0x2f, 0x2f);
const MARK: RGBColor = RGBColor(0xa8, 0x62, 0x0b);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

fn svg(sound: &Pcm, hearing: &Hearing, marks: &[Mark]) -> io::Result<String> {
    let mut text = String::new();
    draw(&mut text, sound, hearing, marks).map_err(io::Error::other)?;
    Ok(text)
}

fn draw(into: &mut String, sound: &Pcm, hearing: &Hearing, marks: &[Mark]) -> Drawn {
    let time = TimeAxis::over(sound, hearing, marks);
    let root = SVGBackend::with_string(into, (SIZE.0 as u32, SIZE.1 as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    write(&root, "What the participant heard", (LEFT, 26), 22.0, &INK, HPos::Left)?;
    write(&root, &summary(sound, hearing), (LEFT, 53), 13.0, &FAINT, HPos::Left)?;

    let placed = place_labels(&time, marks);
    let rows = placed.iter().map(|label| label.row as i32 + 1).max().unwrap_or(0);
    let top = TITLE + rows * MARK_ROW;
    let height = SIZE.1 - top - BOTTOM;
    let split = top + height * 58 / 100;

    draw_sound(&root, &time, top..split, sound)?;
    draw_spacing(&root, &time, split..SIZE.1 - BOTTOM, hearing.main())?;
    for label in &placed {
        draw_mark(&root, label)?;
    }
    // Last, because the marks' lines run through their rows.
    sound_heading(&root, top, sound)?;
    spacing_heading(&root, split, hearing.main())?;
    root.present()
}

/// The line under the title.
fn summary(sound: &Pcm, hearing: &Hearing) -> String {
    let Some(main) = hearing.main() else { return "no packet arrived".to_owned() };
    format!(
        "{:.2} s of sound  ·  {} packets  ·  {} lost  ·  {} reordered  ·  jitter {:.2} ms  ·  longest gap {:.1} ms  ·  {} sender reports",
        sound.seconds(),
        main.packets,
        main.lost,
        main.reordered,
        ms(main.mean_jitter),
        ms(main.longest_gap),
        hearing.rtcp.sender_reports,
    )
}

/// Where moments are, in seconds and in pixels.
struct TimeAxis {
    origin: MediaTime,
    sound_from: MediaTime,
    seconds: f64,
}

impl TimeAxis {
    fn over(sound: &Pcm, hearing: &Hearing, marks: &[Mark]) -> Self {
        let first_mark = marks.iter().map(|mark| mark.at).min();
        let first_packet = hearing.main().map(|main| main.first_arrival);
        let sound_from = first_packet.or(first_mark).unwrap_or_default();
        let origin = first_mark.map_or(sound_from, |mark| mark.min(sound_from));
        let sound_until = sound_from + Duration::from_secs_f64(sound.seconds());
        let ends = [hearing.main().map(|main| main.last_arrival), marks.iter().map(|mark| mark.at).max()];
        let until = ends.into_iter().flatten().fold(sound_until, MediaTime::max);
        Self { origin, sound_from, seconds: (until.since(origin).as_secs_f64() * 1.01).max(0.1) }
    }

    fn second(&self, moment: MediaTime) -> f64 {
        moment.since(self.origin).as_secs_f64()
    }

    fn pixel(&self, moment: MediaTime) -> i32 {
        LEFT + (self.second(moment) / self.seconds * f64::from(self.columns())) as i32
    }

    /// Width of the plots, in pixels.
    fn columns(&self) -> i32 {
        SIZE.0 - LEFT - RIGHT
    }
}

/// A line over both plots, from beside its label down to the axis.
fn draw_mark(root: &Area<'_>, label: &Label) -> Drawn {
    let y = TITLE + label.row as i32 * MARK_ROW;
    let line = [(label.x, y + 7), (label.x, SIZE.1 - BOTTOM)];
    root.draw(&PathElement::new(line, MARK.mix(0.75).stroke_width(1)))?;
    root.draw(&Circle::new((label.x, y + 7), 3, MARK.filled()))?;
    let (x, side) = if label.leftwards { (label.x - 7, HPos::Right) } else { (label.x + 7, HPos::Left) };
    write(root, &label.text, (x, y + 7), 12.0, &MARK, side)
}

struct Label {
    x: i32,
    row: usize,
    leftwards: bool,
    text: String,
}

/// Each label gets the first row in which it covers no other one; near the right edge it is written leftwards.
fn place_labels(time: &TimeAxis, marks: &[Mark]) -> Vec<Label> {
    let mut marks: Vec<_> = marks.iter().collect();
    marks.sort_by_key(|mark| mark.at);
    let mut taken: Vec<Vec<Range<i32>>> = vec![Vec::new(); MAX_MARK_ROWS];
    let place = |mark: &Mark| {
        let x = time.pixel(mark.at);
        let text = format!("{}  {:.2} s", mark.label, time.second(mark.at));
        let width = (text.chars().count() as f64 * LETTER) as i32 + 14;
        let leftwards = x + width > SIZE.0 - 4;
        let covers = if leftwards { x - width..x + 4 } else { x - 4..x + width };
        let free = |row: &Vec<Range<i32>>| {
            row.iter().all(|other| other.end <= covers.start || covers.end <= other.start)
        };
        let row = taken.iter().position(free).unwrap_or(MAX_MARK_ROWS - 1);
        taken[row].push(covers);
        Label { x, row, leftwards, text }
    };
    marks.into_iter().map(place).collect()
}

/// Highest and lowest sample of every pixel column, and within them the louder and softer of it.
fn draw_sound(root: &Area<'_>, time: &TimeAxis, rows: Range<i32>, sound: &Pcm) -> Drawn {
    let scale = amplitude(f64::from(peak(sound)));
    let mut chart = plot(root, time, &rows, -scale..scale)?;
    rule(&mut chart, None, &|_| String::new(), &|y: &f64| format!("{y:+.2}"))?;

    let per_column = time.seconds / f64::from(time.columns());
    let begins = time.second(time.sound_from);
    let per_second = f64::from(sound.rate()) * f64::from(sound.channels());
    let index = |second: f64| (((second - begins) * per_second).max(0.0) as usize).min(sound.samples().len());
    let columns: Vec<_> = (0..time.columns())
        .filter_map(|column| {
            let from = f64::from(column) * per_column;
            let samples = &sound.samples()[index(from)..index(from + per_column)];
            let power = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
            let rms = (power / samples.len().max(1) as f64).sqrt();
            let low = samples.iter().copied().reduce(f32::min)?;
            let high = samples.iter().copied().reduce(f32::max)?;
            Some((from, f64::from(low), f64::from(high), rms))
        })
        .collect();
    outline(&mut chart, PEAK, &columns, |&(x, low, high, _)| (x, low, high))?;
    outline(&mut chart, RMS, &columns, |&(x, low, high, rms)| (x, (-rms).max(low), rms.min(high)))
}

/// How far up a plot of sound with this peak goes.
fn amplitude(peak: f64) -> f64 {
    [0.1, 0.2, 0.4, 0.6, 0.8].into_iter().find(|scale| peak <= *scale).unwrap_or(1.0)
}

fn sound_heading(root: &Area<'_>, top: i32, sound: &Pcm) -> Drawn {
    let peak = peak(sound);
    let peak = if peak > 0.0 { format!("{:.1} dBFS", 20.0 * peak.log10()) } else { "silence".to_owned() };
    let legend = [
        (PEAK, format!("lowest to highest sample (peak {peak})")),
        (RMS, "effective level (RMS)".to_owned()),
    ];
    heading(root, LEFT..SIZE.0 - RIGHT, top, "Sound (amplitude, 1 = full scale)", &legend)
}

fn peak(sound: &Pcm) -> f32 {
    sound.samples().iter().fold(0.0, |peak, sample| sample.abs().max(peak))
}

/// One filled shape along the upper edges and back along the lower ones.
fn outline<T>(
    chart: &mut Chart<'_, '_>,
    colour: RGBColor,
    columns: &[T],
    edges: impl Fn(&T) -> (f64, f64, f64),
) -> Drawn {
    let upper = columns.iter().map(&edges).map(|(x, _, high)| (x, high));
    let lower = columns.iter().rev().map(&edges).map(|(x, low, _)| (x, low));
    chart.draw_series([Polygon::new(upper.chain(lower).collect::<Vec<_>>(), colour.filled())])?;
    // A shape without height is invisible: silence is a line.
    let middle = columns.iter().map(&edges).map(|(x, low, high)| (x, (low + high) / 2.0));
    chart.draw_series([PathElement::new(middle.collect::<Vec<_>>(), colour.stroke_width(1))])?;
    Ok(())
}

/// The time from each packet to the next, with everything over two packet intervals in red.
fn draw_spacing(root: &Area<'_>, time: &TimeAxis, rows: Range<i32>, main: Option<&StreamHearing>) -> Drawn {
    let interval = main.map_or(20.0, |main| ms(main.packet_time));
    let limit = 2.0 * interval;
    // Pauses are meant; they shall not squeeze the rest into the ground.
    let gaps = main.into_iter().flat_map(|main| &main.first_gaps).filter(|gap| !gap.pause);
    let longest = gaps.map(|gap| ms(gap.length())).fold(0.0, f64::max);
    let top = (longest * 1.3).clamp(1.5 * limit, MAX_SPACING_MS.max(1.5 * limit));
    let mut chart = plot(root, time, &rows, 0.0..top)?;
    rule(&mut chart, Some("time (s)"), &|x: &f64| format!("{x:.1}"), &|y: &f64| format!("{y:.0}"))?;
    let Some(main) = main else { return Ok(()) };

    for gap in &main.first_gaps {
        let (from, until) = (time.second(gap.from), time.second(gap.until));
        let colour = if gap.pause { FAINT } else { GAP };
        chart.draw_series([Rectangle::new([(from, 0.0), (until, top)], colour.mix(0.16).filled())])?;
    }
    let right = [(0.0, interval), (time.seconds, interval)];
    chart.draw_series([PathElement::new(right, ON_TIME.mix(0.35).stroke_width(1))])?;

    let pauses = main.first_gaps.iter().filter(|gap| gap.pause).map(|gap| time.pixel(gap.until));
    let pauses: Vec<_> = pauses.flat_map(|x| x - 1..=x + 1).collect();
    // One stick per pixel column at most, from the shortest time to the longest.
    let mut sticks: Vec<(i32, f64, f64, f64)> = Vec::new();
    for column in &main.spacing_columns {
        let middle = column.from + column.width / 2;
        let (x, low, high) = (time.pixel(middle), ms(column.shortest), ms(column.longest));
        match sticks.last_mut() {
            Some(stick) if stick.0 == x => (stick.2, stick.3) = (stick.2.min(low), stick.3.max(high)),
            _ => sticks.push((x, time.second(middle), low, high)),
        }
    }
    for (pixel, x, low, high) in sticks {
        let (colour, foot) = match high > limit {
            true if pauses.contains(&pixel) => continue,
            true => (GAP, 0.0),
            false => (ON_TIME, low),
        };
        let (foot, head) = ((x, foot), (x, high.min(top)));
        // A stick shorter than a dot is a dot.
        if head.1 - foot.1 > top / 100.0 {
            chart.draw_series([PathElement::new([foot, head], colour.stroke_width(2))])?;
        }
        chart.draw_series([Circle::new(head, 2, colour.filled())])?;
    }
    // The longest ones are told in words: they may be higher than the plot.
    let mut gaps: Vec<_> = main.first_gaps.iter().collect();
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.length()));
    for gap in gaps.into_iter().take(3) {
        let what = if gap.pause { "pause" } else { "gap" };
        let colour = if gap.pause { FAINT } else { GAP };
        let x = time.pixel(gap.until);
        let (x, side) = if x > SIZE.0 - 160 { (x - 5, HPos::Right) } else { (x + 5, HPos::Left) };
        let y = rows.start + HEADING + 10;
        write(root, &format!("{what} {:.0} ms", ms(gap.length())), (x, y), 12.0, &colour, side)?;
    }
    Ok(())
}

fn spacing_heading(root: &Area<'_>, top: i32, main: Option<&StreamHearing>) -> Drawn {
    let interval = main.map_or(20.0, |main| ms(main.packet_time));
    let (gaps, limit) = (main.map_or(0, |main| main.gaps - main.pauses), 2.0 * interval);
    let legend = [
        (ON_TIME, format!("time since the packet before ({interval:.0} ms is right)")),
        (GAP, format!("gap over {limit:.0} ms ({gaps})")),
    ];
    heading(root, LEFT..SIZE.0 - RIGHT, top, "Packet spacing (ms)", &legend)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A plot between two rows of pixels, its axes exactly under those of the other.
fn plot<'b>(
    root: &Area<'b>,
    time: &TimeAxis,
    rows: &Range<i32>,
    values: Range<f64>,
) -> Result<Chart<'b, 'b>, DrawingAreaErrorKind<io::Error>> {
    let margins = (rows.start + HEADING, SIZE.1 - rows.end, LEFT, RIGHT);
    let area = root.clone().margin(margins.0, 0, 0, margins.3);
    ChartBuilder::on(&area)
        .set_label_area_size(LabelAreaPosition::Left, margins.2)
        .set_label_area_size(LabelAreaPosition::Bottom, margins.1)
        .build_cartesian_2d(0.0..time.seconds, values)
}

/// Lines and labels of a plot; an axis may go without a name.
fn rule(
    chart: &mut Chart<'_, '_>,
    x_name: Option<&str>,
    x_label: &dyn Fn(&f64) -> String,
    y_label: &dyn Fn(&f64) -> String,
) -> Drawn {
    let faint = |pixels: f64| ("sans-serif", pixels * PLOTTERS_EM).into_font().color(&FAINT);
    let mut mesh = chart.configure_mesh();
    if let Some(name) = x_name {
        mesh.x_desc(name);
    }
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(12)
        .x_label_formatter(x_label)
        .y_labels(5)
        .y_label_formatter(y_label)
        .axis_desc_style(faint(13.0))
        .label_style(faint(12.0))
        .draw()
}

/// Name on the left, legend on the right.
fn heading(
    root: &Area<'_>,
    columns: Range<i32>,
    top: i32,
    name: &str,
    legend: &[(RGBColor, String)],
) -> Drawn {
    let y = top + HEADING / 2 + 3;
    let width = |text: &str| (text.chars().count() as f64 * LETTER) as i32;
    let mut texts = vec![(columns.start, name, 14.0, INK, width(name) * 14 / 12)];
    let mut x = columns.end;
    for (colour, text) in legend.iter().rev() {
        x -= width(text);
        texts.push((x, text, 12.0, FAINT, width(text)));
        root.draw(&Rectangle::new([(x - 16, y - 5), (x - 6, y + 5)], colour.filled()))?;
        x -= 36;
    }
    for (x, text, size, colour, width) in texts {
        root.draw(&Rectangle::new([(x - 3, y - 9), (x + width, y + 9)], WHITE.filled()))?;
        write(root, text, (x, y), size, &colour, HPos::Left)?;
    }
    Ok(())
}

fn write(root: &Area<'_>, text: &str, at: (i32, i32), size: f64, colour: &RGBColor, side: HPos) -> Drawn {
    let style =
        ("sans-serif", size * PLOTTERS_EM).into_font().color(colour).pos(Pos::new(side, VPos::Center));
    root.draw_text(text, &style, at)
}

#[cfg(test)]
mod tests {
    use holdmusic_codecs::Codec;
    use holdmusic_media::{
        Receiver,
        rtp::{Header, PayloadType, SeqNo, Ssrc, Timestamp},
    };

    use super::*;

    /// Ten seconds of packets, three lost at 4 s, a pause of a second at 7 s, and a swelling tone.
    fn scene() -> (Pcm, Hearing, Vec<Mark>) {
        let mut receiver = Receiver::new(Codec::Opus);
        let (mut sequence, mut slot) = (0u16, 0u32);
        while slot < 500 {
            if slot == 350 {
                slot = 400;
            }
            if !(200..203).contains(&slot) {
                let header = Header {
                    marker: slot == 0 || slot == 400,
                    payload_type: PayloadType::new(111).unwrap(),
                    sequence: SeqNo(sequence),
                    timestamp: Timestamp(960 * slot),
                    ssrc: Ssrc(1),
                };
                let mut datagram = [0; 12];
                header.write(&mut datagram);
                // Up to 4 ms of unevenness, the same in every run.
                let late_us = u64::from(slot.wrapping_mul(2_654_435_761) >> 20);
                let arrived = MediaTime::from_nanos((500_000 + u64::from(slot) * 20_000 + late_us) * 1000);
                receiver.handle_datagram(arrived, &datagram);
            }
            sequence = sequence.wrapping_add(1);
            slot += 1;
        }
        let sample = |n: u32| {
            let t = f64::from(n) / 16_000.0;
            let swell = 0.15 + 0.25 * (1.0 + (t * 2.0).sin()) / 2.0;
            let tone =
                (t * 440.0 * std::f64::consts::TAU).sin() + 0.6 * (t * 662.0 * std::f64::consts::TAU).sin();
            if (7.0..8.0).contains(&t) { 0.0 } else { (swell * tone * 0.8) as f32 }
        };
        let sound = Pcm::new(16_000, 1, (0..160_000).map(sample).collect());
        let mark = |millis, label: &str| Mark { at: MediaTime::from_millis(millis), label: label.to_owned() };
        let marks = vec![
            mark(200, "startHoldMusic accepted"),
            mark(480, "prompt ready"),
            mark(500, "operation completed"),
            mark(520, "notification <delivered>"),
            mark(7_500, "stopHoldMusic"),
            mark(10_480, "stopHoldMusic again"),
        ];
        (sound, receiver.hearing(), marks)
    }

    #[test]
    fn the_picture_tells_the_life_and_the_gaps_and_stays_small() {
        let (sound, hearing, marks) = scene();
        let into = std::env::temp_dir().join(format!("held-{}.svg", std::process::id()));
        held(&into, &sound, &hearing, &marks).unwrap();
        let svg = fs::read_to_string(&into).unwrap();
        fs::remove_file(&into).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for words in
            ["What the participant heard", "notification &lt;delivered&gt;", "gap 78 ms", "pause 1018 ms"]
        {
            assert!(svg.contains(words), "{words} is missing");
        }
        assert!(svg.len() < 400_000, "{} bytes", svg.len());
    }

    #[test]
    fn nothing_heard_is_a_picture_too() {
        let nothing = Pcm::new(16_000, 1, Vec::new());
        let svg = svg(&nothing, &Hearing::default(), &[]).unwrap();
        assert!(svg.contains("no packet arrived"));
    }
}
