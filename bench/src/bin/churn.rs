//! Do holds that begin and end disturb the others? The engine's own sender thread with as many legs as one core carries, in
//! alternating slices: nothing but playing, and playing while so many other legs are added, started, stopped and removed
//! in a second. The packets of those who play throughout are judged by the kernel's timestamps.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets and real threads")]

use std::{
    collections::BTreeMap,
    io, mem,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use holdmusic_bench::{
    chart::{Chart, Line},
    ear::{Grid, Listener},
    ours::{Ours, ring},
    probe::{Excluded, Probe, now_ns, pin},
    progress::Progress,
    report::{Report, Target, quantile},
    tally::Tally,
};
use holdmusic_codecs::{EncoderSettings, music};
use holdmusic_media::{
    ring::Reader,
    rtcp,
    rtp::{Header, Ssrc},
};
use rustix::thread::ClockId;

/// Starting and stopping among many who play
///
/// One core sends; the listener, the probe and the thread that commands take the other. With --commands-core the
/// commands come from the sender's own core, as they do where all of the engine has one core.
#[derive(Parser)]
struct Options {
    /// Legs that play throughout; fewer if one core does not carry them at full rate
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    legs: u32,
    /// Starts and stops in a second, half of each
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// How long a leg that comes and goes plays, in milliseconds
    #[arg(long, default_value_t = 200)]
    life_ms: u64,
    /// Pairs of slices
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pairs: u32,
    /// Length of a slice in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// The core that sends
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The core that commands [default: the other one]
    #[arg(long)]
    commands_core: Option<usize>,
}

/// Lateness is tallied by windows of so long, so that what a probe excuses can be left out afterwards.
const WINDOW_NS: u64 = 100_000_000;

/// After legs have begun or ended, so long until nothing but sending goes on.
const SETTLE: Duration = Duration::from_millis(300);

/// One core carries legs if all of them together have this part of their packets.
const CARRIED: f64 = 0.995;

/// The least that is tried.
const FEWEST: u32 = 500;

/// Legs that play throughout, as they are heard.
#[derive(Default)]
struct Heard {
    grids: Vec<Option<Leg>>,
    windows: BTreeMap<u64, Window>,
    lost: u64,
}

#[derive(Clone, Copy)]
struct Leg {
    grid: Grid,
    sequence: u16,
    timestamp: u32,
}

#[derive(Default)]
struct Window {
    late: Tally,
    /// Ticks that were left out because they would have been 20 ms late.
    left_out: u64,
}

impl Heard {
    fn hear(&mut self, datagram: &[u8], at_ns: u64) {
        if rtcp::is_rtcp(datagram) {
            return;
        }
        let Ok((Header { ssrc: Ssrc(leg), sequence, timestamp, .. }, _)) = Header::read(datagram) else {
            return;
        };
        // Those who come and go have higher numbers.
        let Some(place) = self.grids.get_mut(leg as usize) else { return };
        let window = self.windows.entry(at_ns / WINDOW_NS).or_default();
        let Some(leg) = place else {
            let grid = Grid::new(at_ns, timestamp.0);
            *place = Some(Leg { grid, sequence: sequence.0, timestamp: timestamp.0 });
            return;
        };
        let packets = sequence.0.wrapping_sub(leg.sequence);
        let ticks = timestamp.0.wrapping_sub(leg.timestamp) / 960;
        self.lost += u64::from(packets.wrapping_sub(1));
        window.left_out += u64::from(ticks.saturating_sub(packets.into()));
        window.late.add(leg.grid.late_ns(at_ns, timestamp.0));
        (leg.sequence, leg.timestamp) = (sequence.0, timestamp.0);
    }
}

/// A stretch of time in which there was churn, or none.
struct Slice {
    from_ns: u64,
    to_ns: u64,
    churn: bool,
    events: u64,
    late: Tally,
    left_out: u64,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let music = ring(&music::default_music(), &EncoderSettings::default())?;
    let progress = Progress::new(u64::from(2 * options.pairs) + 1);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let hearer = Arc::clone(&heard);
    let listener = Listener::open_wide(other, move |datagram, at_ns| {
        hearer.lock().expect("nobody panics while holding it").hear(datagram, at_ns);
    })?;
    let (ours, legs) = carried(&options, listener.port(), &music)?;
    heard.lock().expect("nobody panics while holding it").grids = vec![None; legs as usize];
    progress.step(&format!("{legs} legs play"));

    let probe = Probe::start_ahead(other);
    let own_probe = Probe::start_ahead(options.core);
    let mut slices = Vec::new();
    for index in 0..2 * options.pairs {
        thread::sleep(SETTLE);
        let churn = index % 2 == 1;
        let from_ns = now_ns(ClockId::Realtime);
        let length = Duration::from_secs(options.seconds);
        let events = if churn { self::churn(&options, &ours, legs, &music, length) } else { rest(length) };
        slices.push(Slice {
            from_ns,
            to_ns: now_ns(ClockId::Realtime),
            churn,
            events,
            late: Tally::default(),
            left_out: 0,
        });
        progress.step(if churn { "with churn" } else { "without" });
    }
    drop(progress);
    let (wakes, own_wakes) = (probe.stop(), own_probe.stop());
    let dropped = listener.dropped();
    listener.close();
    let mut both: Vec<_> = wakes.iter().chain(&own_wakes).copied().collect();
    both.sort_unstable_by_key(|wake| wake.due_ns);
    let excluded = Excluded::of(&both);
    let heard = mem::take(&mut *heard.lock().expect("nobody panics while holding it"));
    for slice in &mut slices {
        let windows = heard.windows.range(slice.from_ns / WINDOW_NS + 1..slice.to_ns / WINDOW_NS);
        for (window, of_window) in windows {
            // A window without a packet ends in the next one: what was left out is told when they come again.
            if !excluded.touches((window - 1) * WINDOW_NS, (window + 1) * WINDOW_NS) {
                slice.late.merge(&of_window.late);
                slice.left_out += of_window.left_out;
            }
        }
    }

    let mut report =
        Report::new("churn", "Spacing of those who play while others start and stop, on one core");
    report.figure("legs that play throughout", f64::from(legs), &words(&options, legs));
    let events: u64 = slices.iter().map(|slice| slice.events).sum();
    let churn_s = f64::from(options.pairs) * options.seconds as f64;
    report.figure("starts and stops in a second of churn", events as f64 / churn_s, "");
    let mut p999 = [0.0; 2];
    for (churn, name) in [(false, "without churn"), (true, "with churn")] {
        let mut all = Tally::default();
        slices.iter().filter(|slice| slice.churn == churn).for_each(|slice| all.merge(&slice.late));
        for (word, share) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999)] {
            report.figure(&format!("{name}, packet late on its grid, {word}"), all.quantile_ms(share), "ms");
        }
        report.figure(&format!("{name}, packet late on its grid, largest"), all.longest_ms(), "ms");
        let left_out: u64 =
            slices.iter().filter(|slice| slice.churn == churn).map(|slice| slice.left_out).sum();
        report.judged(&format!("{name}, ticks left out"), left_out as f64, "", Target::AtMost(0.0));
        p999[usize::from(churn)] = all.quantile_ms(0.999);
    }
    let more = p999[1] - p999[0];
    report.judged("99.9 % with churn less that without", more, "ms", Target::AtMost(1.0));
    let each = |slice: &Slice| slice.late.quantile_ms(0.999);
    let mut pairs: Vec<_> = slices.chunks(2).map(|pair| each(&pair[1]) - each(&pair[0])).collect();
    report.figure("the same, median of pairs", quantile(&mut pairs, 0.5), "ms");
    report.figure("the same, highest pair", quantile(&mut pairs, 1.0), "ms");
    report.judged("packets lost", heard.lost.saturating_sub(dropped) as f64, "", Target::AtMost(0.0));
    report.figure("packets that our own socket dropped", dropped as f64, "");
    report.section("On the other core");
    report.probe(&wakes);
    report.section("On the sender's core, ahead of it");
    report.probe(&own_wakes);
    let line = |churn: bool, name: &str| Line {
        name: name.to_owned(),
        points: (0..)
            .zip(&slices)
            .filter(|slice| slice.1.churn == churn)
            .map(|(n, s)| (f64::from(n), each(s)))
            .collect(),
    };
    report.chart(Chart {
        title: format!("99.9 % of packets of {legs} legs are no later than this on their grid"),
        x: "slice".to_owned(),
        y: "ms".to_owned(),
        lines: vec![line(false, "without churn"), line(true, "with churn")],
        ..Chart::default()
    });
    report.end()
}

fn words(options: &Options, legs: u32) -> String {
    if legs == options.legs {
        "at full rate".to_owned()
    } else {
        format!("at full rate; {} were more than one core carries here", options.legs)
    }
}

/// As many legs as are asked for, or fewer by steps of a sixth until one core carries them.
fn carried(options: &Options, port: u16, music: &Reader) -> io::Result<(Ours, u32)> {
    let mut legs = options.legs;
    loop {
        let ours = Ours::start(legs, port, options.core)?;
        ours.play_all(legs, |_| (0, music.clone()));
        thread::sleep(SETTLE);
        let (began, before) = (Instant::now(), ours.counts().packets());
        thread::sleep(Duration::from_secs(2));
        let packets = (ours.counts().packets() - before) as f64;
        if packets >= CARRIED * 50.0 * f64::from(legs) * began.elapsed().as_secs_f64() || legs <= FEWEST {
            return Ok((ours, legs));
        }
        legs = (legs - options.legs / 6).max(FEWEST);
    }
}

fn rest(length: Duration) -> u64 {
    thread::sleep(length);
    0
}

/// Legs come and go; says how many starts and stops there were.
fn churn(options: &Options, ours: &Ours, legs: u32, music: &Reader, length: Duration) -> u64 {
    let (core, other) = (options.commands_core, usize::from(options.core == 0));
    thread::scope(|scope| {
        let commands = scope.spawn(|| {
            pin(core.unwrap_or(other));
            come_and_go(options, ours, legs, music, length)
        });
        commands.join().expect("it does not panic")
    })
}

fn come_and_go(options: &Options, ours: &Ours, legs: u32, music: &Reader, length: Duration) -> u64 {
    let began = Instant::now();
    let between = Duration::from_secs_f64(2.0 / options.rate.max(1.0));
    let life = Duration::from_millis(options.life_ms);
    let (mut started, mut stopped) = (0u32, 0u32);
    loop {
        let now = began.elapsed();
        while started != u32::MAX - legs && between * started <= now && now < length {
            ours.add(legs + started);
            ours.play(legs + started, 0, music);
            started += 1;
        }
        while stopped < started && (between * stopped + life <= now || now >= length) {
            ours.stop(legs + stopped);
            ours.remove(legs + stopped);
            stopped += 1;
        }
        if now >= length {
            return u64::from(started) + u64::from(stopped);
        }
        thread::sleep(Duration::from_micros(200));
    }
}
