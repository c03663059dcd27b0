//! What does a storm of new holds cost those who are held? A full house, and three times as many who ask again and again
//! without waiting; or, as a flood, requests that take control longer than the HTTP door, from more connections than its
//! queue has room for. Every packet of the held is looked at, and every answer. What is not as it should be makes the exit
//! code 1.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets, real threads and the real clock")]

mod client;
mod music;

use std::{
    io,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use holdmusic_bench::{
    engine::{Engine, text},
    probe::{Probe, pin},
    progress::Progress,
    report::{Report, Target},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::{
    client::{Answer, Client},
    music::Music,
};

/// A full house, and three times as many who want to come in
///
/// The engine runs as a process of its own on one core; listener, clients and a bare timer (the probe) run on the other,
/// and a second probe, at real-time priority, on the engine's own core. A packet more than 25 ms after the one before is a
/// gap, and a probe must have been late by as much at that moment.
#[derive(Parser)]
struct Options {
    /// How long the storm lasts, in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Participants who are held, which are as many as may
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    max_held: u32,
    /// Connections by which the others ask [default: 64, with --flood 9500]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9_900))]
    connections: Option<u32>,
    /// Ask for long lists instead, from so many connections at once that the queue before control is full
    #[arg(long)]
    flood: bool,
    /// The core for the engine; everything else takes another
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Others, for each one who is held.
const OTHERS: u32 = 3;

/// Threads that share the connections of a flood: each waits for one answer after the other, in the order in which it
/// asked.
const THREADS: usize = 8;

/// Participants of the call whose list is asked for in a flood: control takes several times as long to write it as the
/// door takes for the request.
const LISTED: u32 = 300;

/// What a storm may add to the engine's memory: what is kept of calls, and buffers of each connection.
const STORM_BYTES: u64 = 16 << 20;
const CONNECTION_BYTES: u64 = 64 << 10;

/// A start and a stop, once the storm is over, take so long at most.
const AFTER: Duration = Duration::from_secs(1);

/// How long anything may take that takes moments.
const PATIENCE: Duration = Duration::from_secs(30);

/// What clients heard.
#[derive(Default)]
struct Told {
    answers: u64,
    refused_503: u64,
    refused_429: u64,
    full_queue: u64,
    late: u64,
    /// Answers that were neither refusals nor, in a flood, lists.
    wrong: u64,
    first_wrong: Option<String>,
    longest: Duration,
}

impl Told {
    fn count(&mut self, answer: &Answer, list: bool, took: Duration) {
        self.answers += 1;
        self.longest = self.longest.max(took);
        if list && answer.status == 200 {
            return;
        }
        self.refused_503 += u64::from(answer.status == 503);
        self.refused_429 += u64::from(answer.status == 429);
        self.full_queue += u64::from(answer.is_full_queue());
        self.late += u64::from(answer.is_late());
        if let Some(fault) = answer.fault() {
            self.wrong += 1;
            self.first_wrong.get_or_insert(fault);
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.answers += other.answers;
        self.refused_503 += other.refused_503;
        self.refused_429 += other.refused_429;
        self.full_queue += other.full_queue;
        self.late += other.late;
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.or(other.first_wrong);
        self.longest = self.longest.max(other.longest);
        self
    }
}

fn main() -> io::Result<ExitCode> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let connections = options.connections.unwrap_or(if options.flood { 9_500 } else { 64 });
    let everybody = options.max_held * (1 + OTHERS);
    let listed = if options.flood { LISTED } else { 0 };
    let (held, calls) = (options.max_held.to_string(), (everybody + u32::from(options.flood)).to_string());
    let participants = (everybody + listed).to_string();
    let flags =
        ["--senders", "1", "--max-held", &held, "--max-calls", &calls, "--max-participants", &participants];
    let engine = Engine::start(&flags, Some(options.core))?;
    let music = Music::open(other)?;
    let progress = Progress::new(options.seconds + 3);

    let inside: Vec<_> =
        (0..options.max_held).map(|_| engine.participant(music.port())).collect::<io::Result<_>>()?;
    let others: Vec<_> = (0..options.max_held * OTHERS)
        .map(|_| engine.participant(music.port()))
        .collect::<io::Result<_>>()?;
    for who in &inside {
        engine.post(&format!("{who}/startHoldMusic"), &json!({}))?;
    }
    let all = inside.len();
    wait("everybody who is held is heard", || {
        let (streams, least) = music.streams();
        streams == all && least > 50
    })?;
    progress.step("the house is full");
    let list = if options.flood { Some(long_list(&engine)?) } else { None };
    let mut clients: Vec<_> =
        (0..connections).map(|_| Client::connect(engine.address())).collect::<io::Result<_>>()?;
    progress.step("the others are at the door");

    let probes = [Probe::start(other), Probe::start_ahead(options.core)];
    music.begin();
    let before = engine.resident_bytes()?;
    let on = AtomicBool::new(true);
    let callback = json!({ "callbackUri": engine.callback() }).to_string();
    let (told, most) = thread::scope(|scope| {
        let threads = if options.flood { THREADS } else { clients.len() };
        let share = clients.len().div_ceil(threads);
        let workers: Vec<_> = clients
            .chunks_mut(share)
            .enumerate()
            .map(|(number, share)| {
                let (on, list, others, callback) = (&on, list.as_deref(), &others, &callback);
                scope.spawn(move || match list {
                    Some(list) => flood(share, list, on),
                    None => offer(&mut share[0], number, others, callback, on),
                })
            })
            .collect();
        let mut most = before;
        for _ in 0..options.seconds {
            thread::sleep(Duration::from_secs(1));
            most = most.max(engine.resident_bytes()?);
            progress.step("the storm");
        }
        on.store(false, Relaxed);
        let told: io::Result<Vec<_>> =
            workers.into_iter().map(|worker| worker.join().expect("it does not panic")).collect();
        let told = told?.into_iter().fold(Told::default(), Told::join);
        most = most.max(engine.resident_bytes()?);
        io::Result::Ok((told, most))
    })?;
    let found = music.found();
    let wakes = probes.map(Probe::stop);

    // A place is free, and the next one has it at once.
    let began = Instant::now();
    engine.post(&format!("{}/stopHoldMusic", inside[0]), &json!({}))?;
    engine.post(&format!("{}/startHoldMusic", others[0]), &json!({}))?;
    wait("a new hold is heard", || music.streams().0 > all)?;
    let after = began.elapsed();
    progress.step("the storm is over");
    drop(progress);

    let title = if options.flood { "A flood of long lists, and" } else { "Three times as many as may, and" };
    let mut report = Report::new("overload", &format!("{title} {all} who are held"));
    let mut judge = Judge { report: &mut report, well: true };
    judge.report.section("The storm");
    judge.report.figure("connections", f64::from(connections), "");
    judge.report.figure(
        "answers",
        told.answers as f64,
        &format!("{} a second", told.answers / options.seconds),
    );
    judge.report.figure("refused with 503", told.refused_503 as f64, "");
    judge.report.figure("refused with 429", told.refused_429 as f64, "");
    judge.report.figure("longest wait for an answer", told.longest.as_secs_f64(), "s");
    if options.flood {
        judge.report.figure("refused because they had waited for a second", told.late as f64, "");
        judge.is("refused because the queue was full", told.full_queue as f64, "", Target::AtLeast(1.0));
    } else {
        judge.is("refused", (told.refused_503 + told.refused_429) as f64, "", Target::AtLeast(1.0));
    }
    judge.is("answers that are not as they should be", told.wrong as f64, "", Target::AtMost(0.0));
    if let Some(fault) = &told.first_wrong {
        judge.report.remark(&format!("the first of them: {fault}"));
    }
    let allowed = (STORM_BYTES + CONNECTION_BYTES * u64::from(connections)) as f64 / f64::from(1 << 20);
    let grown = most.saturating_sub(before) as f64 / f64::from(1 << 20);
    judge.report.figure("memory before it", before as f64 / f64::from(1 << 20), "MiB");
    judge.is("memory that it added", grown, "MiB", Target::AtMost(allowed));
    judge.report.section("The music");
    judge.report.figure("packets", found.packets as f64, "");
    for (words, share) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("largest", 1.0)] {
        judge.report.figure(&format!("late by, {words}"), found.lateness.quantile_ms(share), "ms");
    }
    let (excused, gaps) = found.gaps(&wakes);
    judge.report.figure("the longest gap", found.longest_gap_ms(), "ms");
    judge.report.figure("gaps over 25 ms that a probe explains", excused as f64, "");
    judge.is("gaps over 25 ms that none explains", gaps as f64, "", Target::AtMost(0.0));
    judge.is("packets lost or out of order", found.lost as f64, "", Target::AtMost(0.0));
    judge.report.figure("ticks left out", found.skipped as f64, "");
    judge.report.figure("datagrams that our own ear missed", music.dropped() as f64, "");
    judge.report.section("Afterwards");
    let target = Target::AtMost(AFTER.as_secs_f64());
    judge.is("a stop and a new hold, until it is heard", after.as_secs_f64(), "s", target);
    let well = judge.well;
    report.section("Probe on the other core");
    report.probe(&wakes[0]);
    report.section("Probe on the engine's core, at real-time priority");
    report.probe(&wakes[1]);
    report.end()?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes verdicts, and remembers whether all were good.
struct Judge<'a> {
    report: &'a mut Report,
    well: bool,
}

impl Judge<'_> {
    fn is(&mut self, name: &str, value: f64, unit: &str, target: Target) {
        self.well &= match target {
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
        };
        self.report.judged(name, value, unit, target);
    }
}

fn wait(what: &str, so: impl Fn() -> bool) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !so() {
        if Instant::now() > until {
            return Err(io::Error::other(format!("after {} s it is not so: {what}", PATIENCE.as_secs())));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// One client: a start for each of the others in turn; and for every ten of them a new call, and a new participant, which
/// there are as many of as may be as well.
fn offer(
    client: &mut Client,
    number: usize,
    others: &[String],
    callback: &str,
    on: &AtomicBool,
) -> io::Result<Told> {
    let mut told = Told::default();
    let mut ask = |client: &mut Client, path: &str, body: &str| -> io::Result<()> {
        let asked = Instant::now();
        let answer = client.request("POST", path, body)?;
        told.count(&answer, false, asked.elapsed());
        Ok(())
    };
    for (count, who) in others.iter().cycle().skip(number * others.len() / 64).enumerate() {
        if !on.load(Relaxed) {
            break;
        }
        ask(client, &format!("{who}/startHoldMusic"), "{}")?;
        if count % 10 == 9 {
            ask(client, "/communications/calls", callback)?;
            let participants = who.rsplit_once('/').map_or(who.as_str(), |(all, _)| all);
            ask(client, participants, "{}")?;
        }
    }
    Ok(told)
}

/// Many clients: each asks again as soon as it has its answer.
fn flood(clients: &mut [Client], list: &str, on: &AtomicBool) -> io::Result<Told> {
    let mut told = Told::default();
    let mut asked = Vec::with_capacity(clients.len());
    for client in clients.iter_mut() {
        asked.push(Instant::now());
        client.ask("GET", list, "")?;
    }
    loop {
        let go_on = on.load(Relaxed);
        for (client, asked) in clients.iter_mut().zip(&mut asked) {
            let answer = client.hear()?;
            told.count(&answer, true, asked.elapsed());
            if go_on {
                *asked = Instant::now();
                client.ask("GET", list, "")?;
            }
        }
        if !go_on {
            return Ok(told);
        }
    }
}

/// A call with many participants, and the path of their list: long to write, and short to send.
fn long_list(engine: &Engine) -> io::Result<String> {
    let call = engine.post("/communications/calls", &json!({ "callbackUri": engine.callback() }))?;
    let participants = format!("/communications/calls/{}/participants", text(&call, "id"));
    for _ in 0..LISTED {
        engine.post(&participants, &json!({}))?;
    }
    Ok(format!("{participants}?$select=muted"))
}
