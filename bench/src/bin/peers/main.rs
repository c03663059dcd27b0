//! What does a held participant cost with others? The same WAV to the same receivers on the same core of one run: our
//! engine, GStreamer, rtpengine and FFmpeg in turns, round after round, so that what the machine does meets all alike.

#![expect(
    clippy::disallowed_methods,
    reason = "the bench waits while peers play, and speaks to them over sockets"
)]

mod cast;
mod stage;
mod ours;
mod gstreamer;
mod rtpengine;
mod bencode;
mod ffmpeg;
mod cell;
mod table;

use std::{ffi::OsString, io, time::Duration};

use clap::{Parser, value_parser};
use holdmusic_bench::{
    probe::{Wake, pin},
    progress::Progress,
    prompt::Prompt,
    report::Report,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cast::{Cast, Climb, Part},
    cell::{Cell, LATE_MS, measure},
    table::{Climbed, Table},
};

/// Length of the prompt, which is 44.1 kHz and stereo: rtpengine 10.5 sends bursts when it is given 8 or 16 kHz mono.
/// GStreamer plays it once, so it is longer than the longest window and what comes before that.
const SECONDS: usize = 30;

/// Our engine beside rtpengine, GStreamer and FFmpeg
///
/// Each peer plays the same WAV (44.1 kHz, stereo) on one core, in turns; one socket on another core hears all legs,
/// each at an address of its own. Processor time is that of all threads of a peer's processes, for 50 packets that
/// came: a second of a leg. It ends with a table, target/bench/peers.json and target/bench/peers.svg. A peer that is
/// not installed is left out, with a line that says so; `make bench-peers` installs them.
#[derive(Parser)]
struct Options {
    /// Rounds over all peers; figures are medians of them
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Legs with which all but FFmpeg are compared
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(2..=1000))]
    legs: u32,
    /// Legs with which those are compared that encode once for all
    #[arg(long, value_delimiter = ',', default_value = "1000,2000", value_parser = value_parser!(u32).range(2..=7000))]
    many: Vec<u32>,
    /// Legs of FFmpeg, each with a process
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u32).range(2..=64))]
    ffmpeg_legs: u32,
    /// Length of each window in milliseconds
    #[arg(long, default_value_t = 3000, value_parser = value_parser!(u64).range(500..=10_000))]
    window_ms: u64,
    /// The rtpengine to start, a path or a name in PATH; may be repeated. One that knows --player-cache has it switched
    /// on
    #[arg(long, value_name = "PATH", default_value = "rtpengine")]
    rtpengine: Vec<OsString>,
    /// The core for peers; the ear and the probe take another
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// One round with short windows, and nobody is driven to the limit
    #[arg(long)]
    quick: bool,
}

/// In a quick run windows are so short.
const QUICK_MS: u64 = 1500;

fn main() -> io::Result<()> {
    let mut options = Options::parse();
    if options.quick {
        options.rounds = 1;
        options.window_ms = options.window_ms.min(QUICK_MS);
    }
    pin(usize::from(options.core == 0));
    allow_files();
    let prompt = Prompt::write(SECONDS, 44_100, 2)?;
    let cast = Cast::find(&options, format!("{}/prompt.wav", prompt.serve()?));
    let mut acts = cast.acts(&options);
    let climbs = if options.quick { Vec::new() } else { cast.climbs(&options) };
    let bar = Progress::new(acts.len() as u64 * u64::from(options.rounds) + climbs.len() as u64);
    let mut run =
        Run { cast: &cast, prompt: &prompt, options: &options, wakes: Vec::new(), failures: Vec::new() };
    let window = Duration::from_millis(options.window_ms);
    for round in 0..options.rounds {
        for act in &mut acts {
            act.cells.extend(run.play(act.part, window, true).map(|cell| (round, cell)));
            bar.step(&cast.title(act.part));
        }
    }
    let mut climbed = Vec::new();
    for climb in &climbs {
        let played = acts.iter_mut().find(|act| act.part == climb.part);
        let held = played.and_then(|act| act.cells.iter_mut().find_map(|(_, cell)| cell.held_ms()));
        climbed.push(run.climb(climb, held));
        bar.step(&cast.title(climb.part));
    }
    drop(bar);

    let mut report = Report::new("peers", "The same prompt from several engines, on one core, in turns");
    Table { cast: &cast, acts: &acts, climbed: &climbed }.write(&mut report);
    report.section("The machine itself");
    report.probe(&run.wakes);
    for words in cast.skipped.iter().chain(&run.failures) {
        report.remark(words);
    }
    if options.quick {
        report.remark("nobody was driven to the limit: that takes a run without --quick");
    }
    report.end()
}

/// Everybody in turns.
struct Run<'a> {
    cast: &'a Cast,
    prompt: &'a Prompt,
    options: &'a Options,
    /// What the probe saw in all windows.
    wakes: Vec<Wake>,
    /// Of whom there is no figure, and why.
    failures: Vec<String>,
}

/// A number of legs has another try: the machine may have spoiled the first. Not if packets were late by so many times
/// what they may be.
const TRIES: u32 = 2;
const HOPELESS: f64 = 4.0;

/// A window on the way to the limit. Two thousand legs have 200 000 packets in it.
const CLIMB_WINDOW: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// A window of `part`, if it can be had.
    fn play(&mut self, part: Part, window: Duration, weigh: bool) -> Option<Cell> {
        let peer = &*self.cast.peers[part.peer];
        match measure(peer, (part.sound, part.legs), self.prompt.path(), self.options.core, window, weigh) {
            Ok(mut cell) => {
                self.wakes.append(&mut cell.wakes);
                Some(cell)
            }
            Err(error) => {
                self.failures.push(format!("no figure of {}: {error}", self.cast.title(part)));
                None
            }
        }
    }

    /// Twice as many legs as long as pacing holds, and then the number half-way between.
    /// Where the first number held in a round already, `held` says how late packets were.
    fn climb(&mut self, climb: &Climb, held: Option<f64>) -> Climbed {
        let mut climbed = Climbed { part: climb.part, held: 0, most: climb.most, points: Vec::new() };
        let mut legs = climb.part.legs;
        if let Some(late_ms) = held {
            climbed.held = legs;
            climbed.points.push((f64::from(legs), late_ms));
            legs = (legs * 2).min(climb.most);
        }
        while self.holds(climb.part, legs, &mut climbed) && legs < climb.most {
            legs = (legs * 2).min(climb.most);
        }
        let between = (climbed.held + legs) / 2;
        if climbed.held < between {
            self.holds(climb.part, between, &mut climbed);
        }
        climbed
    }

    /// Whether pacing holds with `legs`, in one try at least.
    fn holds(&mut self, part: Part, legs: u32, climbed: &mut Climbed) -> bool {
        let mut best = None;
        for _ in 0..TRIES {
            let Some(mut cell) = self.play(Part { legs, ..part }, CLIMB_WINDOW, false) else { break };
            let late_ms = cell.late_ms_999();
            best = Some(best.unwrap_or(f64::INFINITY).min(late_ms));
            if cell.held_ms().is_some() {
                climbed.held = climbed.held.max(legs);
                break;
            }
            if late_ms > HOPELESS * LATE_MS {
                break;
            }
        }
        climbed.points.extend(best.map(|late_ms| (f64::from(legs), late_ms)));
        climbed.held >= legs
    }
}

/// What a peer may have open: rtpengine takes four sockets a leg.
const FILES: u64 = 65_536;

/// As many open files as there may be; what is started has them too.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}
