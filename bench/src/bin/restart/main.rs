//! What does a restart cost those who are held, and what does it cost beforehand? The binary is killed and started again,
//! and told to stop and started again; it is killed with thousands of holds in its store; and starts and stops are timed
//! whose answers wait for the disk, beside the disk alone. What is not as it should be makes the exit code 1.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets, real threads and the real clock")]

mod durable;
mod music;

use std::{
    fs, io,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use holdmusic_bench::{
    engine::Engine,
    probe::Probe,
    progress::Progress,
    prompt::Prompt,
    report::{Report, Target, quantile},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::music::{Gap, Music};

/// Restarts, and the price of being able to
///
/// Everything is on loopback, and engine, listener and clients share the machine. A gap is from the last packet of the old
/// engine to the first of the new one, by the kernel's timestamps.
#[derive(Parser)]
struct Options {
    /// Participants who are held, half of them with a prompt of a web server
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=5_000))]
    held: u32,
    /// Times that the engine is killed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Times that it is told to stop
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    upgrades: u32,
    /// Holds in the store of the engine that is killed with many; 0 leaves that out
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    holds: u32,
    /// Seconds of starts and stops for each number of connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Where data directories are made: on the disk that is of interest [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prompts are on loopback.
const FLAGS: &[&str] = &["--allow-fetch", "127.0.0.0/8"];

/// The music goes on so long after "ready", in seconds.
const AFTER_READY: f64 = 1.0;

/// An upgrade silences nobody for longer than this, in milliseconds.
const UPGRADE_MS: f64 = 1_000.0;

/// How long music plays between two restarts, and a little more each time, so that they come at other moments.
const BETWEEN: Duration = Duration::from_millis(400);
const MORE: Duration = Duration::from_millis(37);

/// Whatever is waited for comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who fills an engine.
const CLIENTS: usize = 16;

/// Connections whose answers wait for the disk.
const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// One restart.
struct Round {
    /// From the signal to the end of the process.
    ending_ms: f64,
    /// From the start of the next one to its being ready.
    ready_ms: f64,
    /// From then to the first packet of the last participant.
    after_ready_s: f64,
    gaps: Vec<Gap>,
}

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let steps = options.rounds + options.upgrades + 5;
    let progress = Progress::new(u64::from(steps));
    let mut report = Report::new("restart", "Restarts, and what it costs to be able to");
    let load_before = load();
    let probe = Probe::start(1);
    let ended = restarts(&options, &progress, &mut report)
        .and_then(|()| many(&options, &progress, &mut report))
        .and_then(|()| operations(&options, &progress, &mut report));
    drop(progress);
    let wakes = probe.stop();
    ended?;
    report.section("Beside it");
    report.probe(&wakes);
    report.remark(&format!("load of the machine before it: {load_before}; after it: {}", load()));
    let missed = report.has_missed();
    report.end()?;
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How many processes were running, on average, in the last 1, 5 and 15 minutes.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

impl Options {
    fn data(&self) -> io::Result<TempDir> {
        match &self.directory {
            Some(directory) => tempfile::tempdir_in(directory),
            None => tempfile::tempdir(),
        }
    }
}

/// Some on default music and some on a prompt, killed and told to stop.
fn restarts(options: &Options, progress: &Progress, report: &mut Report) -> io::Result<()> {
    let mut engine = Engine::start_in(options.data()?, FLAGS, None)?;
    let music = Music::open()?;
    let prompt = Prompt::write(20, 16_000, 1)?;
    let (url, fetches) = prompt.serve_plainly()?;
    let held = options.held as usize;
    let people: Vec<_> = (0..held).map(|_| engine.participant(music.port())).collect::<io::Result<_>>()?;
    let uri = format!("{url}/prompt.wav");
    for (number, who) in people.iter().enumerate() {
        let body = match number % 2 {
            0 => json!({}),
            _ => json!({ "customPrompt": { "mediaInfo": { "uri": uri } } }),
        };
        engine.post(&format!("{who}/startHoldMusic"), &body)?;
    }
    wait("everybody is heard", || Ok(music.sources() == held))?;
    wait("everybody has what was asked for", || Ok(strangers(&engine, &people)? == 0))?;
    let fetched = fetches.load(Relaxed);
    progress.step("everybody is on hold");

    let (mut kills, mut upgrades) = (vec![], vec![]);
    for number in 0..options.rounds + options.upgrades {
        thread::sleep(BETWEEN + MORE * (number % 10));
        let (rounds, signal) = match number < options.rounds {
            true => (&mut kills, Signal::KILL),
            false => (&mut upgrades, Signal::TERM),
        };
        let round;
        (engine, round) = restart(engine, signal, &music, held)?;
        rounds.push(round);
        progress.step("a restart");
    }
    thread::sleep(BETWEEN);

    report.section(&format!("{} are held, kill -9 and start, {} times", options.held, options.rounds));
    tell(report, kills, f64::INFINITY);
    report.section(&format!("{} are held, SIGTERM and start, {} times", options.held, options.upgrades));
    tell(report, upgrades, UPGRADE_MS);
    report.section("After all of them");
    let none = Target::AtMost(0.0);
    report.judged("sources that were not there before", (music.sources() - held) as f64, "", none);
    report.judged("who does not play what was asked for", strangers(&engine, &people)? as f64, "", none);
    let again = fetches.load(Relaxed) - fetched;
    report.judged("times that the prompt was fetched again", again as f64, "", none);
    report.figure("packets lost, other than by a restart", music.lost() as f64, "");
    report.figure("datagrams that our own ear missed", music.dropped() as f64, "");
    Ok(())
}

/// Ends the engine and starts it again, until everybody is heard.
fn restart(engine: Engine, signal: Signal, music: &Music, held: usize) -> io::Result<(Engine, Round)> {
    let asked = Instant::now();
    let stopped = engine.end(signal)?;
    let ending_ms = asked.elapsed().as_secs_f64() * 1000.0;
    music.ended(stopped.ended_ns());
    let engine = stopped.start(FLAGS)?;
    wait("everybody is heard again", || Ok(music.returned() == held))?;
    let gaps = music.gaps();
    let last_ns = gaps.iter().map(Gap::over_ns).max().unwrap_or(0);
    let round = Round {
        ending_ms,
        ready_ms: engine.ready_after().as_secs_f64() * 1000.0,
        after_ready_s: last_ns.saturating_sub(engine.ready_ns()) as f64 / 1e9,
        gaps,
    };
    Ok((engine, round))
}

/// How many do not play what was asked for.
fn strangers(engine: &Engine, people: &[String]) -> io::Result<usize> {
    let mut count = 0;
    for (number, who) in people.iter().enumerate() {
        let one: Value = engine.get(who)?;
        let (state, source) = (&one["holdMusic"]["state"], &one["holdMusic"]["source"]);
        let expected = if number % 2 == 0 { "default" } else { "customPrompt" };
        count += usize::from(state != "playing" || source != expected);
    }
    Ok(count)
}

fn tell(report: &mut Report, rounds: Vec<Round>, most_ms: f64) {
    let mut ending: Vec<_> = rounds.iter().map(|round| round.ending_ms).collect();
    let mut ready: Vec<_> = rounds.iter().map(|round| round.ready_ms).collect();
    let mut after: Vec<_> = rounds.iter().map(|round| round.after_ready_s).collect();
    let gaps: Vec<_> = rounds.into_iter().flat_map(|round| round.gaps).collect();
    let mut lengths: Vec<_> = gaps.iter().map(Gap::ms).collect();
    report.figure("gap in the music of a participant, median", quantile(&mut lengths, 0.5), "ms");
    let longest = quantile(&mut lengths, 1.0);
    if most_ms.is_finite() {
        report.judged("the same, longest", longest, "ms", Target::AtMost(most_ms));
    } else {
        report.figure("the same, longest", longest, "ms");
    }
    report.figure("from the signal to the end of the process, median", quantile(&mut ending, 0.5), "ms");
    report.figure("from start to ready, median", quantile(&mut ready, 0.5), "ms");
    report.figure("from start to ready, longest", quantile(&mut ready, 1.0), "ms");
    report.figure("from ready until everybody is heard, median", quantile(&mut after, 0.5), "s");
    let target = Target::AtMost(AFTER_READY);
    report.judged("from ready until everybody is heard, longest", quantile(&mut after, 1.0), "s", target);
    let none = Target::AtMost(0.0);
    let count = |is: &dyn Fn(&Gap) -> bool| gaps.iter().filter(|gap| is(gap)).count() as f64;
    report.judged("sequence numbers that do not go forward", count(&|gap| gap.steps() == 0), "", none);
    report.judged("timestamps that do not go forward", count(&|gap| gap.off_ms().is_none()), "", none);
    report.judged("source ports that changed", count(&|gap| !gap.keeps_its_port()), "", none);
    let steps = gaps.iter().map(Gap::steps).max().unwrap_or(0);
    report.figure("the largest step of a sequence number", f64::from(steps), "");
    let off = gaps.iter().filter_map(Gap::off_ms).map(f64::abs).fold(0.0, f64::max);
    report.figure("the most that a timestamp is off the clock", off, "ms");
}

/// Very many, killed once.
fn many(options: &Options, progress: &Progress, report: &mut Report) -> io::Result<()> {
    let holds = options.holds as usize;
    if holds == 0 {
        progress.step("without many");
        return Ok(());
    }
    let engine = Engine::start_in(options.data()?, FLAGS, None)?;
    let music = Music::open()?;
    let began = Instant::now();
    let mut people = Vec::with_capacity(holds);
    each_client(holds, |_| engine.participant(music.port()), |who| people.push(who))?;
    let start = |number: usize| engine.post(&format!("{}/startHoldMusic", people[number]), &json!({}));
    each_client(holds, start, drop)?;
    let filled = began.elapsed();
    wait("everybody is heard", || Ok(music.sources() == holds))?;
    wait("everybody was told", || Ok(engine.metrics()?.value("holdmusic_notifications_pending") == 0.0))?;
    let packets = |engine: &Engine| io::Result::Ok(engine.metrics()?.value("holdmusic_rtp_packets_total"));
    let (before, counting) = (packets(&engine)?, Instant::now());
    thread::sleep(Duration::from_secs(1));
    let rate = (packets(&engine)? - before) / counting.elapsed().as_secs_f64() / holds as f64;
    let size = fs::metadata(engine.data().join("records.redb"))?.len();
    progress.step("the store is full");
    let (engine, round) = restart(engine, Signal::KILL, &music, holds)?;
    let memory = engine.resident_bytes()?;

    let mib = f64::from(1 << 20);
    report.section(&format!("{holds} are held, each in a call of his own, kill -9 and start"));
    report.figure("until all of them had been started", filled.as_secs_f64(), "s");
    report.figure("packets of each in a second, before", rate, "");
    report.figure("size of the store", size as f64 / mib, "MiB");
    report.figure("memory after the restart", memory as f64 / mib, "MiB");
    tell(report, vec![round], f64::INFINITY);
    report.figure("datagrams that our own ear missed", music.dropped() as f64, "");
    progress.step("many are heard again");
    Ok(())
}

/// Does `one` for each number, shared by several clients, and gives what came of it to `all`, in any order.
fn each_client<T: Send>(
    count: usize,
    one: impl Fn(usize) -> io::Result<T> + Sync,
    mut all: impl FnMut(T),
) -> io::Result<()> {
    let done: io::Result<Vec<Vec<T>>> = thread::scope(|scope| {
        let one = &one;
        let workers: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || (client..count).step_by(CLIENTS).map(one).collect()))
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("it does not panic")).collect()
    });
    done?.into_iter().flatten().for_each(&mut all);
    Ok(())
}

/// Starts and stops, and the disk alone before and after each number of connections.
fn operations(options: &Options, progress: &Progress, report: &mut Report) -> io::Result<()> {
    let engine = Engine::start_in(options.data()?, FLAGS, None)?;
    let music = Music::open()?;
    let most = CONNECTIONS.into_iter().max().unwrap_or(0);
    let paths = durable::participants(&engine, most, music.port())?;
    for connections in CONNECTIONS {
        let length = Duration::from_secs(options.seconds);
        let mut bare = durable::bare_ms(engine.data())?;
        let mut done = durable::starts_and_stops(&engine, &paths[..connections], length)?;
        bare.extend(durable::bare_ms(engine.data())?);
        progress.step("starts and stops");
        report.section(&format!("Answers that wait for the disk, connections: {connections}"));
        let rate = done.answers_ms.len() as f64 / done.took.as_secs_f64();
        report.figure("starts and stops", rate, "a second");
        let (median, disk) = (quantile(&mut done.answers_ms, 0.5), quantile(&mut bare, 0.5));
        report.figure("an answer, median", median, "ms");
        report.figure("an answer, 99 %", quantile(&mut done.answers_ms, 0.99), "ms");
        report.figure("the disk alone, 4 KiB and fdatasync, median", disk, "ms");
        report.figure("the disk alone, 99 %", quantile(&mut bare, 0.99), "ms");
        report.figure("an answer ÷ the disk alone, median", median / disk, "");
    }
    Ok(())
}

fn wait(what: &str, so: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !so()? {
        if Instant::now() > until {
            return Err(io::Error::other(format!("after {} s it is not so: {what}", PATIENCE.as_secs())));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
