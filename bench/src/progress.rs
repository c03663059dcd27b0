//! How far a bench has come: a bar at a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// So many steps, told on stderr.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    steps: u64,
}

impl Progress {
    /// For `steps` steps.
    pub fn new(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta}") {
            bar.set_style(style);
        }
        Self { bar, plain: !io::stderr().is_terminal(), steps }
    }

    /// One more is done; `what` says which. Without a terminal about ten lines are written in all.
    pub fn step(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
        let done = self.bar.position();
        if self.plain && (done * 10 / self.steps.max(1) != (done - 1) * 10 / self.steps.max(1)) {
            let _ = writeln!(io::stderr(), "{done} of {}: {what}", self.steps);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
