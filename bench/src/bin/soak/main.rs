//! Does it stay right for long? Half of what one sender carries is on hold from beginning to end, and among them others
//! come and go: prompts that are new, that change, that are broken; legs that move; receivers that report, say goodbye or
//! die; bots whose web servers are slow or fail. Every packet of everybody is looked at, every notification, and at some
//! receivers the sound. What was found wrong is named, and the exit code is 1.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets, real threads and the real clock")]

mod callbacks;
mod cast;
mod faults;
mod hearing;
mod origin;
mod sabotage;
mod sound;
mod story;

use std::{
    io::{self, Write},
    net::TcpStream,
    process::ExitCode,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use holdmusic_bench::{
    chart::{Chart, Line},
    ear::Listener,
    engine::{Engine, Metrics, text},
    probe::{Excluded, Probe, Wake, now_ns, pin},
    progress::Progress,
    report::{Report, Target},
    tally::Tally,
};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::ClockId,
};
use serde_json::json;

use crate::{
    callbacks::{Callbacks, Manner},
    cast::Cast,
    faults::{Fault, Faults},
    hearing::{Hearing, Judged},
    origin::Origin,
    sabotage::Sabotage,
    sound::Expected,
};

/// Calls, holds, prompts and receivers come and go among many who stay, and everything is checked
///
/// The engine runs as a process of its own on one core; listeners, bots, web servers and a bare timer (the probe) run on
/// the other. Windows in which a probe is more than 5 ms late are reported and left out of verdicts on gaps and lateness.
/// What happens when is decided by dice: the same seed tells the same stories. The exit code is 0 only if nothing at all
/// was found wrong.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  soak                              two minutes
  soak --seconds 14400              four hours
  soak --seconds 20 --legs 100      a quick look
  soak --seconds 30 --sabotage stop shows that a standstill of 200 ms is found")]
struct Options {
    /// How long, in seconds, once everybody who stays is on hold
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=604_800))]
    seconds: u64,
    /// Participants who are on hold from beginning to end: by default half of what one sender carries
    #[arg(long, default_value_t = 1_200)]
    legs: u32,
    /// Calls that come, in a second, each with a story of its own
    #[arg(long, default_value_t = 10.0)]
    stories: f64,
    /// What decides the stories
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The core for the engine; everything else takes another
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Spoil something on purpose, to see that it is found
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
}

/// Probes are read and packets judged so often.
const SLICE: Duration = Duration::from_secs(10);

/// The prompt that changes does so so often: out of step with everything else.
const CHANGES: Duration = Duration::from_millis(7_300);

/// Stories that are told when the time is over go on to their end: the longest takes a broken prompt, three comparisons
/// and half a minute of slow answers.
const TO_THE_END: Duration = Duration::from_secs(60);

/// Slow and failing receivers are given so long to be told everything: a second and a half for each of some ten
/// notifications, and the retries of the last ones.
const TOLD: Duration = Duration::from_secs(60);

/// After everything is deleted, so long until nothing is left: reports of senders, closed connections.
const EMPTY: Duration = Duration::from_secs(10);

/// Descriptors that may be there at the end and were not at the beginning: our own kept connection, and three that
/// libraries open once when they are first needed.
const DESCRIPTORS: usize = 4;

/// What an ended call may take, with its participants and all that is kept for an hour to be read, and each of its
/// operations. Measured over three thousand calls of one participant: 6.1 kB with one start and one stop, 6.8 kB with four
/// of each; stories have up to three participants.
const KEPT_CALL: u64 = 8_192;
const KEPT_OPERATION: u64 = 400;

/// A prompt of ten seconds that nobody hears any more is kept for a minute: its ring has up to two laps of 500 frames.
const KEPT_PROMPT: u64 = 96 << 10;
const PROMPT_KEPT_S: usize = 60;

/// What memory may vary by for no lasting reason: recordings being decoded, and pages that the allocator has not given
/// back.
const VARIES: u64 = 8 << 20;

/// Who is listened to among those who stay.
const LISTENED: usize = 8;

/// How long the engine is stopped when it is to be seen that this is found.
const STOPPED: Duration = Duration::from_millis(200);

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let faults = Faults::default();
    let default_music = Expected::default_music()?;
    let origin = Origin::open()?;
    let callbacks = Callbacks::open(faults.clone(), options.sabotage)?;
    let hearing = Arc::new(Mutex::new(Hearing::new(faults.clone(), options.sabotage)));
    let listener = |door| {
        let hearing = Arc::clone(&hearing);
        Listener::open_wide(other, move |datagram, at_ns| {
            hearing.lock().expect("nobody panics while holding it").hear(door, datagram, at_ns);
        })
    };
    let listeners = [listener(0)?, listener(1)?];
    let flags = [
        "--senders",
        "1",
        "--unreachable-after",
        "3",
        "--fetch-silence",
        "2",
        "--allow-fetch",
        "127.0.0.0/8",
    ];
    let engine = Engine::start(&flags, Some(options.core))?;
    let descriptors = engine.descriptors()?;
    let ports = [listeners[0].port(), listeners[1].port()];
    let cast = Cast::new(
        &engine,
        &callbacks,
        &origin,
        &default_music,
        Arc::clone(&hearing),
        faults.clone(),
        ports,
        options.seed,
        options.sabotage,
    );
    let progress = Progress::new(options.seconds + 1);
    let mut run = Run {
        watch: Watch::start(&options, other, Arc::clone(&hearing)),
        options,
        engine: &engine,
        origin: &origin,
        callbacks: &callbacks,
        cast,
        faults,
        resident: Vec::new(),
        cold: Vec::new(),
        warm: Holds::default(),
        last: Holds::default(),
    };
    run.begin(&progress)?;
    run.go_on(&progress)?;
    run.end(descriptors)?;
    drop(progress);
    let dropped = listeners.iter().map(Listener::dropped).sum::<u64>();
    listeners.into_iter().for_each(Listener::close);
    run.report(dropped)
}

/// What the engine holds at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Holds {
    /// The most memory of the last few seconds.
    bytes: u64,
    /// What that may be because of what is kept on purpose.
    kept: u64,
}

/// The run.
struct Run<'a> {
    options: Options,
    engine: &'a Engine,
    origin: &'a Origin,
    callbacks: &'a Callbacks,
    cast: Cast<'a>,
    faults: Faults,
    watch: Watch,
    /// Resident memory and new prompts so far, second for second.
    resident: Vec<u64>,
    cold: Vec<u64>,
    /// At the end of the warm-up, and at the end.
    warm: Holds,
    last: Holds,
}

impl Run<'_> {
    /// Those who stay come.
    fn begin(&mut self, progress: &Progress) -> io::Result<()> {
        for _ in 0..self.options.legs {
            self.cast.stay()?;
        }
        let until = Instant::now() + TO_THE_END;
        while !self.cast.stayers_play()? {
            if Instant::now() > until {
                return Err(io::Error::other("not all who should stay are on hold after a minute"));
            }
        }
        self.cast.listen_to_stayers(LISTENED);
        progress.step("everybody who stays is on hold");
        Ok(())
    }

    /// The first quarter is for warming up, at most two minutes: twice as long as unused prompts are kept.
    fn warm_up(&self) -> u64 {
        (self.options.seconds / 4).min(120)
    }

    /// Others come and go.
    fn go_on(&mut self, progress: &Progress) -> io::Result<()> {
        let (began, length) = (Instant::now(), Duration::from_secs(self.options.seconds));
        let between = Duration::from_secs_f64(1.0 / self.options.stories.clamp(0.01, 1_000.0));
        let (mut next_story, mut next_second) = (began, began + Duration::from_secs(1));
        let (mut next_slice, mut next_change) = (began + SLICE, began + CHANGES);
        self.watch.second(self.engine.metrics()?);
        while began.elapsed() < length {
            let now = Instant::now();
            if now >= next_story {
                next_story += between;
                self.cast.tell(now_ns(ClockId::Realtime));
            }
            self.cast.play();
            if now >= next_change {
                next_change += CHANGES;
                self.origin.change();
            }
            if now >= next_second {
                next_second += Duration::from_secs(1);
                self.second(progress)?;
            }
            if now >= next_slice {
                next_slice += SLICE;
                self.slice();
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.last = self.holds();
        Ok(())
    }

    fn second(&mut self, progress: &Progress) -> io::Result<()> {
        self.resident.push(self.engine.resident_bytes()?);
        self.cold.push(self.cast.counts.cold);
        self.watch.second(self.engine.metrics()?);
        progress.step(&format!("seconds, {} calls among those who stay", self.cast.playing()));
        let seconds = self.resident.len() as u64;
        if seconds == self.warm_up() {
            self.warm = self.holds();
            if self.options.sabotage == Some(Sabotage::Memory) {
                self.waste()?;
            }
        }
        if seconds == self.options.seconds / 2 && self.options.sabotage == Some(Sabotage::Stop) {
            let id = i32::try_from(self.engine.id()).ok().and_then(Pid::from_raw);
            let id = id.ok_or_else(|| io::Error::other("the engine has no id"))?;
            kill_process(id, Signal::STOP)?;
            thread::sleep(STOPPED);
            kill_process(id, Signal::CONT)?;
        }
        Ok(())
    }

    fn slice(&mut self) {
        self.watch.slice();
        self.cast.compare_stayers();
        self.cast.listen_to_stayers(LISTENED);
    }

    /// The most memory of the last quarter, or of the warm-up, and what is kept on purpose by now.
    fn holds(&self) -> Holds {
        let quarter = (self.options.seconds / 4).max(1) as usize;
        let last = &self.resident[self.resident.len().saturating_sub(quarter)..];
        let counts = self.cast.counts;
        let before = self.cold.len().checked_sub(PROMPT_KEPT_S).map_or(0, |second| self.cold[second]);
        let kept = counts.calls * KEPT_CALL
            + (counts.operations + counts.stops) * KEPT_OPERATION
            + (counts.cold - before) * KEPT_PROMPT;
        Holds { bytes: last.iter().copied().max().unwrap_or(0), kept }
    }

    /// Calls that nobody needs and nobody ends.
    fn waste(&self) -> io::Result<()> {
        for number in (0..12_000).map(|number| 1 << 40 | number) {
            self.callbacks.expect(number, Manner::Fast);
            let body = json!({ "callbackUri": self.callbacks.uri(number) });
            let call = self.engine.post("/communications/calls", &body)?;
            let path = format!("/communications/calls/{}/participants", text(&call, "id"));
            let leg = json!({ "address": "127.0.0.1:9", "codec": "opus", "payloadType": 111 });
            self.engine.post(&path, &json!({ "mediaLeg": { "rtp": leg } }))?;
        }
        Ok(())
    }

    /// Stories go to their end, those who stay leave, and nothing is left.
    fn end(&mut self, descriptors: usize) -> io::Result<()> {
        let until = Instant::now() + TO_THE_END;
        while self.cast.playing() > 0 && Instant::now() < until {
            self.cast.play();
            thread::sleep(Duration::from_millis(1));
        }
        if self.cast.playing() > 0 {
            let playing = self.cast.playing();
            self.faults.add(Fault::Unended, || format!("{playing} stories have not come to their end"));
        }
        self.slice();
        self.cast.leave(usize::from(self.options.sabotage == Some(Sabotage::Leg)))?;
        let until = Instant::now() + TOLD;
        while self.engine.metrics()?.value("holdmusic_notifications_pending") > 0.0 && Instant::now() < until
        {
            self.cast.play();
            thread::sleep(Duration::from_millis(100));
        }
        let until = Instant::now() + EMPTY;
        while Instant::now() < until && !self.left()?.is_empty() {
            self.cast.play();
            thread::sleep(Duration::from_millis(100));
        }
        for (name, count) in self.left()? {
            self.faults.add_many(Fault::Left, count, || format!("{name}: {count}"));
        }
        self.watch.slice();
        self.callbacks.close();
        let until = Instant::now() + EMPTY;
        while self.engine.descriptors()? > descriptors + DESCRIPTORS && Instant::now() < until {
            thread::sleep(Duration::from_millis(100));
        }
        let mut open = Vec::new();
        if self.options.sabotage == Some(Sabotage::Descriptors) {
            open.extend((0..20).map_while(|_| TcpStream::connect(self.engine.address()).ok()));
            // They are accepted by then.
            thread::sleep(Duration::from_millis(500));
        }
        let left = self.engine.descriptors()?.saturating_sub(descriptors);
        drop(open);
        self.watch.descriptors = left;
        if left > DESCRIPTORS {
            self.faults.add_many(Fault::Descriptors, left as u64, || {
                format!("{left} more than the {descriptors} at the beginning")
            });
        }
        Ok(())
    }

    /// What should not be there when everything is stopped and deleted.
    fn left(&self) -> io::Result<Vec<(&'static str, u64)>> {
        let metrics = self.engine.metrics()?;
        let names = [
            "holdmusic_calls",
            "holdmusic_participants",
            "holdmusic_held_participants",
            "holdmusic_legs",
            "holdmusic_legs_playing",
            "holdmusic_notifications_pending",
            "holdmusic_notifications_undelivered_total",
        ];
        Ok(names
            .map(|name| (name, metrics.value(name) as u64))
            .into_iter()
            .filter(|left| left.1 > 0)
            .collect())
    }

    fn report(self, dropped: u64) -> io::Result<ExitCode> {
        let Self { options, engine, origin, callbacks, cast, faults, watch, resident, warm, last, .. } = self;
        let counts = cast.counts;
        let hearing = watch.hearing.lock().expect("nobody panics while holding it");
        let grown = last.bytes.saturating_sub(warm.bytes);
        let kept = last.kept.saturating_sub(warm.kept);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        if grown > VARIES + kept {
            faults.add_many(Fault::Memory, (grown - VARIES - kept) >> 20, || {
                format!("{:.1} MiB grown, {:.1} MiB may be", mib(grown), mib(VARIES + kept))
            });
        }
        let skipped = engine.metrics()?.value("holdmusic_skipped_ticks_total") as u64;
        if hearing.skipped > skipped {
            faults.add_many(Fault::Step, hearing.skipped - skipped, || {
                format!("{} ticks left out, {skipped} announced", hearing.skipped)
            });
        }

        let title = format!(
            "{} s of calls that come and go among {} who stay, seed {}, engine on core {}",
            options.seconds, options.legs, options.seed, options.core
        );
        let mut report = Report::new("soak", &title);
        report.section("What happened");
        report.figure("participants who stayed", f64::from(options.legs), "");
        report.figure("calls that came and went", (counts.calls - u64::from(options.legs)) as f64, "");
        report.figure("starts and stops accepted", (counts.operations + counts.stops) as f64, "");
        report.figure("legs that moved in mid-hold", counts.moves as f64, "");
        report.figure("holds ended by BYE or a closed port", counts.ended as f64, "");
        report.figure("receiver reports sent", counts.reports as f64, "");
        report.figure("RTP packets heard", hearing.packets as f64, "");
        let (accepted, refused, ends) = callbacks.counts();
        report.figure("notifications accepted", accepted as f64, &format!("after {refused} answers of 503"));
        report.figure("ends of operations told", ends as f64, "");
        let (answers, unchanged) = origin.answers();
        report.figure("prompts asked for", answers as f64, &format!("of which {unchanged} had not changed"));
        report.figure("sounds compared", counts.compared as f64, "");
        report.figure("lowest correlation", counts.likeness, "");
        report.figure("ticks left out, which the engine announced", hearing.skipped as f64, "");

        report.section("What was found wrong");
        for fault in Fault::ALL {
            report.judged(fault.words(), faults.count(fault) as f64, "", Target::AtMost(0.0));
        }
        report.figure("gaps over 40 ms within what a probe excuses", watch.excused as f64, "");
        report.figure("packets that our own sockets dropped", dropped as f64, "no fault of the engine's");

        report.section("Lateness outside what a probe excuses");
        for (name, tally) in [
            ("bare clock_nanosleep on the other core", &watch.other_tally),
            ("bare clock_nanosleep on the engine's core, ahead of it", &watch.own_tally),
            ("packets, on the grid of their hold", &watch.lateness),
        ] {
            report.figure(&format!("{name}, 99 %"), tally.quantile_ms(0.99), "ms");
            report.figure(&format!("{name}, 99.9 %"), tally.quantile_ms(0.999), "ms");
            report.figure(&format!("{name}, largest"), tally.longest_ms(), "ms");
        }
        let target = watch.other_tally.quantile_ms(0.999) + 1.0;
        let ticks = watch.tick_quantile_ms(0.999);
        report.judged("ticks, as the engine counts them, 99.9 %", ticks, "ms", Target::AtMost(target));
        let excluded = Excluded::of(&watch.late);
        let words = format!("left out, {:.2} s in all", excluded.seconds());
        report.figure("windows in which a probe was more than 5 ms late", excluded.len() as f64, &words);

        report.section("What it holds");
        report.figure("memory at the end of the warm-up", mib(warm.bytes), "MiB");
        report.figure("most memory in the last quarter", mib(last.bytes), "MiB");
        let may =
            format!("MiB; {:.1} are for what is kept on purpose, and {:.0} may vary", mib(kept), mib(VARIES));
        report.figure("grown by", mib(grown), &may);
        report.figure("descriptors more than at the beginning", watch.descriptors as f64, "");

        let memory = (1..).zip(&resident).map(|(second, bytes)| (f64::from(second), mib(*bytes))).collect();
        report.chart(Chart {
            title: "Resident memory of the engine".to_owned(),
            x: "s".to_owned(),
            y: "MiB".to_owned(),
            ratios: false,
            lines: vec![Line { name: "resident".to_owned(), points: memory }],
        });
        report.chart(Chart {
            title: "Lateness, 99.9 % of each ten seconds".to_owned(),
            x: "s".to_owned(),
            y: "ms".to_owned(),
            ratios: false,
            lines: watch.lines.to_vec(),
        });
        report.end()?;
        let words = faults.words();
        let verdict = if words.is_empty() { "  Nothing was found wrong.\n" } else { &words };
        io::stdout().write_all(format!("\n{verdict}").as_bytes())?;
        Ok(if words.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Two probes, one beside the engine and one ahead of it, and what they excuse.
struct Watch {
    hearing: Arc<Mutex<Hearing>>,
    cores: (usize, usize),
    other: Probe,
    own: Probe,
    /// Wakes that were much too late, of both.
    late: Vec<Wake>,
    other_tally: Tally,
    own_tally: Tally,
    lateness: Tally,
    excused: u64,
    /// Since the last slice: moments and what the engine had counted of its ticks by then.
    seconds: Vec<(u64, Vec<(f64, u64)>)>,
    ticks: Vec<(f64, u64)>,
    lines: [Line; 3],
    began: Instant,
    descriptors: usize,
}

/// Before the last moment of a slice, so long is judged with the next: what a probe excuses reaches back.
const REACH_NS: u64 = 1_000_000_000;

impl Watch {
    fn start(options: &Options, other: usize, hearing: Arc<Mutex<Hearing>>) -> Self {
        let line = |name: &str| Line { name: name.to_owned(), points: Vec::new() };
        Self {
            hearing,
            cores: (other, options.core),
            other: Probe::start_ahead(other),
            own: Probe::start_ahead(options.core),
            late: Vec::new(),
            other_tally: Tally::default(),
            own_tally: Tally::default(),
            lateness: Tally::default(),
            excused: 0,
            seconds: Vec::new(),
            ticks: Vec::new(),
            lines: [line("packets"), line("probe on the other core"), line("probe on the engine's core")],
            began: Instant::now(),
            descriptors: 0,
        }
    }

    /// What the engine counts now.
    fn second(&mut self, metrics: Metrics) {
        let histogram = metrics.histogram("holdmusic_tick_lateness_seconds");
        self.seconds.push((now_ns(ClockId::Realtime), histogram));
    }

    /// Reads the probes, and judges what has been heard by them.
    fn slice(&mut self) {
        // The next ones begin before these end: no moment is without.
        let next = (Probe::start_ahead(self.cores.0), Probe::start_ahead(self.cores.1));
        let ended = now_ns(ClockId::Realtime);
        let other = std::mem::replace(&mut self.other, next.0).stop();
        let own = std::mem::replace(&mut self.own, next.1).stop();
        let at_s = self.began.elapsed().as_secs_f64();
        for (wakes, tally, line) in [(&other, &mut self.other_tally, 1), (&own, &mut self.own_tally, 2)] {
            let mut slice = Tally::default();
            wakes.iter().for_each(|wake| slice.add(wake.late_ns));
            tally.merge(&slice);
            self.lines[line].points.push((at_s, slice.quantile_ms(0.999)));
        }
        self.late.extend(other.into_iter().chain(own).filter(|wake| wake.late_ns > 5_000_000));
        self.late.sort_unstable_by_key(|wake| wake.due_ns);
        let excluded = Excluded::of(&self.late);
        let Judged { lateness, excused } = {
            let mut hearing = self.hearing.lock().expect("nobody panics while holding it");
            hearing.judge(&excluded, ended - REACH_NS)
        };
        self.lines[0].points.push((at_s, lateness.quantile_ms(0.999)));
        self.lateness.merge(&lateness);
        self.excused += excused;
        for pair in self.seconds.windows(2) {
            let [(from_ns, before), (to_ns, after)] = pair else { continue };
            if !excluded.touches(*from_ns, *to_ns) {
                self.ticks.resize(after.len(), (0.0, 0));
                let each = self.ticks.iter_mut().zip(after).zip(before);
                each.for_each(|((sum, after), before)| *sum = (after.0, sum.1 + after.1 - before.1));
            }
        }
        let last = self.seconds.len().saturating_sub(1);
        self.seconds.drain(..last);
    }

    /// The lateness of ticks that `share` of them are not above, between the bounds of the histogram as if they were
    /// spread evenly there.
    fn tick_quantile_ms(&self, share: f64) -> f64 {
        let rank = share * self.ticks.last().map_or(0, |all| all.1) as f64;
        let (mut from, mut below) = (0.0, 0);
        for (bound, count) in &self.ticks {
            if *count as f64 >= rank && *count > below {
                let part = (rank - below as f64) / (count - below) as f64;
                let to = if bound.is_finite() { *bound } else { from };
                return 1e3 * (from + (to - from) * part);
            }
            (from, below) = (*bound, *count);
        }
        0.0
    }
}
