//! Starts and stops whose answers wait for the disk, and beside them what the disk itself takes.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use holdmusic_bench::engine::Engine;
use serde_json::json;

/// What a page of the store has.
const PAGE: usize = 4096;

/// Pages of the file that is written over and over.
const PAGES: u64 = 64;

/// Writes of one look at the disk, and how long it may take.
const WRITES: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds of each client that play at a time.
const DEPTH: usize = 2;

/// What all clients together did.
pub(crate) struct Done {
    pub(crate) answers_ms: Vec<f64>,
    pub(crate) took: Duration,
}

/// How long the disk takes to have a page that is written over another, in milliseconds, one after the other.
pub(crate) fn bare_ms(directory: &Path) -> io::Result<Vec<f64>> {
    let path = directory.join("bare");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let page = [0x5a; PAGE];
    for number in 0..PAGES {
        file.write_all_at(&page, number * PAGE as u64)?;
    }
    file.sync_all()?;
    let (began, mut took) = (Instant::now(), Vec::new());
    for number in 0..WRITES {
        let asked = Instant::now();
        file.write_all_at(&page, number % PAGES * PAGE as u64)?;
        file.sync_data()?;
        took.push(asked.elapsed().as_secs_f64() * 1000.0);
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    fs::remove_file(path)?;
    Ok(took)
}

/// As many clients as `paths` has rows, each with a connection that is kept, as fast as they go for so long.
pub(crate) fn starts_and_stops(engine: &Engine, paths: &[Vec<String>], length: Duration) -> io::Result<Done> {
    let began = Instant::now();
    let done: io::Result<Vec<_>> = thread::scope(|scope| {
        let workers: Vec<_> =
            paths.iter().map(|own| scope.spawn(move || client(engine, own, began + length))).collect();
        workers.into_iter().map(|worker| worker.join().expect("it does not panic")).collect()
    });
    let took = began.elapsed();
    let answers_ms = done?.into_iter().flatten().collect();
    for path in paths.iter().flatten() {
        engine.post(&format!("{path}/stopHoldMusic"), &json!({}))?;
    }
    Ok(Done { answers_ms, took })
}

/// Each hold is stopped when [`DEPTH`] others have begun since.
fn client(engine: &Engine, paths: &[String], until: Instant) -> io::Result<Vec<f64>> {
    let mut answers_ms = Vec::new();
    let mut ask = |path: &str| {
        let asked = Instant::now();
        engine.post(path, &json!({}))?;
        answers_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
        io::Result::Ok(())
    };
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        ask(&format!("{}/startHoldMusic", paths[number % paths.len()]))?;
        if number >= DEPTH {
            ask(&format!("{}/stopHoldMusic", paths[(number - DEPTH) % paths.len()]))?;
        }
    }
    Ok(answers_ms)
}

/// Participants for so many clients, each with a call of its own.
pub(crate) fn participants(engine: &Engine, clients: usize, port: u16) -> io::Result<Vec<Vec<String>>> {
    (0..clients).map(|_| (0..=DEPTH).map(|_| engine.participant(port)).collect()).collect()
}
