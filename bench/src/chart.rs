//! A chart: lines of points under a title, drawn one below the other into one SVG.

use std::{fs, io, path::Path};

use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::{
        ChartBuilder, Circle, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries, Palette, Palette99,
        PathElement, Ranged, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::{Color, IntoFont},
};

/// Pixels of one chart.
const SIZE: (u32, u32) = (900, 420);

/// A line of points.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Where it goes, in the units of the axes.
    pub points: Vec<(f64, f64)>,
}

/// Lines over the same axes.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What it answers.
    pub title: String,
    /// What lies to the right, with its unit.
    pub x: String,
    /// What lies upwards, with its unit.
    pub y: String,
    /// Whether equal steps upwards are equal ratios: for values, all above zero, that are factors apart.
    pub ratios: bool,
    /// The lines.
    pub lines: Vec<Line>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Writes `charts` into the file `into`.
///
/// # Errors
///
/// If the file cannot be written.
pub fn draw(into: &Path, charts: &[Chart]) -> io::Result<()> {
    let mut text = String::new();
    svg(&mut text, charts).map_err(|error| io::Error::other(error.to_string()))?;
    fs::write(into, text)
}

fn svg(text: &mut String, charts: &[Chart]) -> Drawn {
    let height = SIZE.1 * u32::try_from(charts.len())?;
    let root = SVGBackend::with_string(text, (SIZE.0, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for (chart, area) in charts.iter().zip(root.split_evenly((charts.len(), 1))) {
        chart.draw(&area)?;
    }
    root.present()?;
    Ok(())
}

impl Chart {
    fn draw(&self, area: &Area<'_>) -> Drawn {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let right = points().map(|point| point.0).fold(f64::MIN_POSITIVE, f64::max);
        let left = points().map(|point| point.0).fold(right, f64::min);
        let top = points().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
        let bottom = points().map(|point| point.1).fold(top, f64::min);
        // A line along the very edge is not seen.
        let across = if left < right { left..right } else { left - 1.0..right + 1.0 };
        if self.ratios {
            self.draw_over(area, across, (bottom / 1.5..top * 1.5).log_scale())
        } else {
            self.draw_over(area, across, bottom.min(0.0)..top * 1.1)
        }
    }

    fn draw_over<Y>(&self, area: &Area<'_>, across: std::ops::Range<f64>, upwards: Y) -> Drawn
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 16).into_font())
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(across, upwards)?;
        chart.configure_mesh().x_desc(&self.x).y_desc(&self.y).draw()?;
        for (index, line) in self.lines.iter().enumerate() {
            let colour = Palette99::pick(index);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], Palette99::pick(index)));
            // Few points are shown as such; many are the line.
            if line.points.len() <= 40 {
                let dots = line.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
                chart.draw_series(dots)?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_title_and_every_name_even_of_a_single_point() {
        let line = |name: &str, points| Line { name: name.to_owned(), points };
        let chart = |title: &str, ratios, lines| Chart {
            title: title.to_owned(),
            x: "legs".to_owned(),
            y: "ns".to_owned(),
            ratios,
            lines,
        };
        let charts = [
            chart("first", false, vec![line("ours", vec![(1.0, 2.0), (2.0, 4.0)]), line("nothing", vec![])]),
            chart("second", true, vec![line("theirs", vec![(7.0, 0.001)])]),
        ];
        let mut text = String::new();
        svg(&mut text, &charts).unwrap();
        for word in ["first", "second", "ours", "theirs", "legs"] {
            assert!(text.contains(word), "{word} is not in the picture");
        }
        assert!(!text.contains("NaN"));
    }
}
