//! How many holds a second can bots begin and end over HTTP, and how long does a request wait? Kept connections, the real
//! binary, and a leg for each hold that really begins to play; beside it, in turns, requests that never reach control, as
//! the price of HTTP alone.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets and real threads")]

use std::{
    collections::VecDeque,
    io, thread,
    time::{Duration, Instant},
};

use clap::Parser;
use holdmusic_bench::{
    ear::Ear,
    engine::Engine,
    probe::Probe,
    progress::Progress,
    report::{Report, Target, quantile},
};
use serde_json::json;

/// Starts and stops over HTTP
///
/// Bots, engine and listener share the machine: the rate is that of all of them together. Two loads: as fast as the
/// clients go, and at a rate that leaves time to spare, which shows what a request costs and not what the queue before it
/// does.
#[derive(Parser)]
struct Options {
    /// Connections, each kept by a client of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Holds of each client that play at a time: a hold is stopped when so many have begun since
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    depth: u32,
    /// Pairs of a start and a stop in a second, all clients together, in the second load
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Rounds of each load
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of a round in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
}

/// What one client did.
#[derive(Default)]
struct Done {
    starts_ms: Vec<f64>,
    stops_ms: Vec<f64>,
    /// Stopped before a packet had left.
    unheard: u64,
    took: Duration,
}

impl Done {
    fn join(mut self, other: Self) -> Self {
        self.starts_ms.extend(other.starts_ms);
        self.stops_ms.extend(other.stops_ms);
        Self { unheard: self.unheard + other.unheard, took: self.took.max(other.took), ..self }
    }

    fn pairs_a_second(&self) -> f64 {
        self.stops_ms.len() as f64 / self.took.as_secs_f64()
    }
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let engine = Engine::start(&[], None)?;
    let ear = Ear::open(|_, _| {})?;
    let progress = Progress::new(u64::from(3 * options.rounds) + 1);
    // One participant more than play at a time, so that none begins a hold before its last one has ended.
    let each = options.depth + 1;
    let paths: Vec<Vec<String>> = (0..options.clients)
        .map(|_| (0..each).map(|_| engine.participant(ear.port())).collect())
        .collect::<io::Result<_>>()?;
    progress.step("participants are registered");

    let probe = Probe::start(1);
    let length = Duration::from_secs(options.seconds);
    let (mut bare, mut fast, mut calm) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(healthy(&engine, options.clients, length)?);
        progress.step("HTTP alone");
        fast.push(rounds(&engine, &paths, options.depth, None, length)?);
        progress.step("as fast as it goes");
        calm.push(rounds(&engine, &paths, options.depth, Some(options.rate), length)?);
        progress.step("with time to spare");
    }
    drop(progress);
    let wakes = probe.stop();
    ear.close();

    let mut report = Report::new("api", "Starts and stops over HTTP, each with a leg that plays");
    let (clients, holds) = (f64::from(options.clients), f64::from(options.clients * options.depth));
    report.figure("connections", clients, "");
    report.figure("holds that play at a time", holds, "");
    report.section("As fast as it goes");
    let mut http: Vec<f64> = bare.clone();
    report.figure("GET /healthz, median of rounds", quantile(&mut http, 0.5), "requests a second");
    let mut pairs: Vec<f64> = fast.iter().map(Done::pairs_a_second).collect();
    report.figure("start and stop, median of rounds", quantile(&mut pairs, 0.5), "pairs a second");
    let mut ratios: Vec<f64> =
        fast.iter().zip(&bare).map(|(done, bare)| bare / (2.0 * done.pairs_a_second())).collect();
    report.figure(
        "a request that decides ÷ one of HTTP alone, median",
        quantile(&mut ratios, 0.5),
        "in time",
    );
    tell(&mut report, fast);
    report.section("With time to spare");
    let mut pairs: Vec<f64> = calm.iter().map(Done::pairs_a_second).collect();
    report.figure("start and stop, median of rounds", quantile(&mut pairs, 0.5), "pairs a second");
    tell(&mut report, calm);
    report.section("Beside it");
    report.probe(&wakes);
    let counted = engine.metrics()?;
    let failed = counted.value("holdmusic_notifications_undelivered_total");
    report.judged("notifications given up", failed, "", Target::AtMost(0.0));
    report.end()
}

fn tell(report: &mut Report, rounds: Vec<Done>) {
    let Some(Done { mut starts_ms, mut stops_ms, unheard, .. }) = rounds.into_iter().reduce(Done::join)
    else {
        return;
    };
    report.quantiles("startHoldMusic answered after", &mut starts_ms, "ms");
    report.quantiles("stopHoldMusic answered after", &mut stops_ms, "ms");
    report.judged("holds that ended without a packet", unheard as f64, "", Target::AtMost(0.0));
}

/// Requests that any HTTP server would answer, in a second.
fn healthy(engine: &Engine, clients: u32, length: Duration) -> io::Result<f64> {
    let counts: Vec<io::Result<u64>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let (until, mut done) = (Instant::now() + length, 0);
                    while Instant::now() < until {
                        engine.health()?;
                        done += 1;
                    }
                    Ok(done)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("it does not panic")).collect()
    });
    let done: u64 = counts.into_iter().sum::<io::Result<u64>>()?;
    Ok(done as f64 / length.as_secs_f64())
}

/// All clients for so long; at `rate` pairs a second, or as fast as they go.
fn rounds(
    engine: &Engine,
    paths: &[Vec<String>],
    depth: u32,
    rate: Option<f64>,
    length: Duration,
) -> io::Result<Done> {
    let between = rate.map(|rate| Duration::from_secs_f64(paths.len() as f64 / rate.max(1.0)));
    let done: Vec<io::Result<Done>> = thread::scope(|scope| {
        let workers: Vec<_> =
            paths.iter().map(|own| scope.spawn(move || round(engine, own, depth, between, length))).collect();
        workers.into_iter().map(|worker| worker.join().expect("it does not panic")).collect()
    });
    done.into_iter().try_fold(Done::default(), |all, one| Ok(all.join(one?)))
}

fn round(
    engine: &Engine,
    paths: &[String],
    depth: u32,
    between: Option<Duration>,
    length: Duration,
) -> io::Result<Done> {
    let mut done = Done::default();
    let mut playing = VecDeque::new();
    let began = Instant::now();
    for (number, path) in (0..).zip(paths.iter().cycle()) {
        if began.elapsed() >= length {
            break;
        }
        if let Some(between) = between {
            thread::sleep((began + between * number).saturating_duration_since(Instant::now()));
        }
        let asked = Instant::now();
        engine.post(&format!("{path}/startHoldMusic"), &json!({ "clientContext": "bench" }))?;
        done.starts_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
        playing.push_back(path);
        if playing.len() > depth as usize
            && let Some(path) = playing.pop_front()
        {
            stop(engine, path, &mut done)?;
        }
    }
    done.took = began.elapsed();
    // What still plays is not counted, nor is its end.
    for path in playing {
        stop(engine, path, &mut Done::default())?;
    }
    Ok(done)
}

fn stop(engine: &Engine, path: &str, done: &mut Done) -> io::Result<()> {
    let asked = Instant::now();
    let answer = engine.post(&format!("{path}/stopHoldMusic"), &json!({}))?;
    done.stops_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
    done.unheard += u64::from(answer["holdMusic"]["report"]["packets"].as_u64().is_none_or(|sent| sent == 0));
    Ok(())
}
