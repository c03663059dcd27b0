//! What a run ends with: a table for people, a JSON file for the next run and for scripts, a picture.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use crate::{
    chart::{Chart, draw},
    probe::{Excluded, Wake, late_ms},
};

/// Where reports are written, from the directory in which the bench was started.
const DIRECTORY: &str = "target/bench";

/// The machine in one line: two runs are only compared on the same one.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1.trim().to_owned()))
    };
    let name = field(&cpu, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    // Not what this thread may use: a bench pins itself.
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count().max(1);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {name}, Linux {}", kernel.trim())
}

/// The value below which `share` of `values` lie (nearest rank); NaN if there are none, which meets no target. Sorts them.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// Prints rows of a name and a figure.
pub fn table(title: &str, rows: &[(&str, String)]) {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("\n{title}\n{}\n", machine());
    for (name, figure) in rows {
        text.push_str(&format!("  {name:<width$}  {figure}\n"));
    }
    let _ = io::stdout().write_all(text.as_bytes());
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Target {
    /// Whether `value` is that; nothing measured is not.
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value.is_finite() && value <= limit,
            Self::AtLeast(limit) => value.is_finite() && value >= limit,
        }
    }

    fn words(self, value: f64) -> String {
        if !value.is_finite() {
            return "(nothing was measured: MISSED)".to_owned();
        }
        let (sign, limit) = match self {
            Self::AtMost(limit) => ('≤', limit),
            Self::AtLeast(limit) => ('≥', limit),
        };
        format!("(target {sign} {limit}: {})", if self.is_met(value) { "met" } else { "MISSED" })
    }
}

/// A run's figures.
pub struct Report {
    name: &'static str,
    text: String,
    section: String,
    figures: Vec<(String, f64)>,
    charts: Vec<Chart>,
    missed: bool,
}

impl Report {
    /// The report of bench `name`.
    pub fn new(name: &'static str, title: &str) -> Self {
        Self {
            name,
            text: format!("\n{title}\n{}\n", machine()),
            section: String::new(),
            figures: Vec::new(),
            charts: Vec::new(),
            missed: false,
        }
    }

    /// What follows belongs together.
    pub fn section(&mut self, title: &str) {
        self.section = format!("{title}: ");
        self.text.push_str(&format!("\n  {title}\n"));
    }

    /// What is to be said without a figure.
    pub fn remark(&mut self, words: &str) {
        self.text.push_str(&format!("  {words}\n"));
    }

    /// A figure, its unit and what else is to be said.
    pub fn figure(&mut self, name: &str, value: f64, words: &str) {
        self.text.push_str(&format!("  {name:<62} {value:>12.3} {words}\n"));
        self.figures.push((format!("{}{name}", self.section), value));
    }

    /// A figure that has a target.
    pub fn judged(&mut self, name: &str, value: f64, unit: &str, target: Target) {
        self.missed |= !target.is_met(value);
        let words = format!("{unit} {}", target.words(value));
        self.figure(name, value, words.trim_start());
    }

    /// Whether a figure is not what it was to be.
    pub fn has_missed(&self) -> bool {
        self.missed
    }

    /// Median, 99 %, 99.9 % and the largest of `values`, which it sorts.
    pub fn quantiles(&mut self, name: &str, values: &mut [f64], unit: &str) {
        for (word, share) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("largest", 1.0)] {
            self.figure(&format!("{name}, {word}"), quantile(values, share), unit);
        }
    }

    /// What a probe beside the run found, and what is left out of verdicts because of it.
    pub fn probe(&mut self, wakes: &[Wake]) {
        let mut late = late_ms(wakes);
        self.quantiles("bare clock_nanosleep beside it, late by", &mut late, "ms");
        let excluded = Excluded::of(wakes);
        let words = format!("left out of verdicts, {:.2} s in all", excluded.seconds());
        self.figure("windows in which it was more than 5 ms late", excluded.len() as f64, &words);
    }

    /// Something to look at.
    pub fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// Prints the table, and writes `target/bench/<name>.json`, and `<name>.svg` if there is something to look at.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn end(self) -> io::Result<()> {
        let figures: serde_json::Map<_, _> =
            self.figures.into_iter().map(|(name, value)| (name, value.into())).collect();
        let json = serde_json::json!({ "bench": self.name, "machine": machine(), "figures": figures });
        fs::create_dir_all(DIRECTORY)?;
        let mut path = Path::new(DIRECTORY).join(self.name).with_extension("json");
        fs::write(&path, serde_json::to_string_pretty(&json).map_err(io::Error::other)?)?;
        let mut text = format!("{}\n  written to {}", self.text, path.display());
        if !self.charts.is_empty() {
            path.set_extension("svg");
            draw(&path, &self.charts)?;
            text.push_str(&format!(" and {}", path.display()));
        }
        io::stdout().write_all(format!("{text}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_missed_by_what_is_beyond_it_and_by_what_was_not_measured() {
        for (value, target, missed) in [
            (1.0, Target::AtMost(1.0), false),
            (1.1, Target::AtMost(1.0), true),
            (0.9, Target::AtLeast(1.0), true),
            (f64::NAN, Target::AtLeast(0.0), true),
        ] {
            let mut report = Report::new("test", "A test");
            report.figure("without a target", 9.0, "");
            report.judged("with one", value, "", target);
            report.judged("and another", 0.0, "", Target::AtMost(0.0));
            assert_eq!(report.has_missed(), missed, "{value}, {target:?}");
        }
    }
}
