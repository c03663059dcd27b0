//! What a run ends with: the machine, a table, quantiles.

use std::{
    fs,
    io::{self, Write},
};

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

/// The value below which `share` of `values` lie (nearest rank); 0 if there are none. Sorts them.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0.0)
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

/// A run's figures: a table for people, a JSON file for the next run and for scripts.
pub struct Report {
    name: &'static str,
    text: String,
    section: String,
    figures: Vec<(String, f64, String)>,
}

impl Report {
    /// The report of bench `name`.
    pub fn new(name: &'static str, title: &str) -> Self {
        Self {
            name,
            text: format!("\n{title}\n{}\n", machine()),
            section: String::new(),
            figures: Vec::new(),
        }
    }

    /// What follows belongs together.
    pub fn section(&mut self, title: &str) {
        self.section = format!("{title}: ");
        self.text.push_str(&format!("\n  {title}\n"));
    }

    /// A figure, its unit and what else is to be said.
    pub fn figure(&mut self, name: &str, value: f64, words: &str) {
        self.text.push_str(&format!("  {name:<58} {value:>12.3} {words}\n"));
        self.figures.push((format!("{}{name}", self.section), value, words.to_owned()));
    }

    /// Prints the table, and writes `target/bench/<name>.json`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn end(self) -> io::Result<()> {
        let figures: serde_json::Map<_, _> =
            self.figures.into_iter().map(|(name, value, _)| (name, value.into())).collect();
        let json = serde_json::json!({ "bench": self.name, "machine": machine(), "figures": figures });
        fs::create_dir_all("target/bench")?;
        let path = format!("target/bench/{}.json", self.name);
        fs::write(&path, serde_json::to_string_pretty(&json).map_err(io::Error::other)?)?;
        io::stdout().write_all(format!("{}\n  written to {path}\n", self.text).as_bytes())
    }
}
