//! How long does a participant wait? From `startHoldMusic` over a kept HTTP connection to the first RTP packet in the
//! kernel at the receiver's socket: with default music, with a prompt heard before, with one never heard before; alone,
//! and while thousands are on hold. And how long does the music go on after `stopHoldMusic`?

#![expect(clippy::disallowed_methods, reason = "the bench waits for what it measures")]

use std::{
    io, iter,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use clap::{Parser, value_parser};
use holdmusic_bench::{
    bare::destination,
    chart::{Chart, Line},
    ear::{Drain, Ear},
    engine::{Engine, text},
    probe::{Excluded, Probe, Wake, late_ms, now_ns, pin},
    progress::Progress,
    prompt::Prompt,
    report::{Report, Target, quantile},
};
use rustix::thread::ClockId;
use serde_json::{Value, json};

/// Request to first packet, and stop to last
///
/// The engine goes where the system sends it, as it does in service. Each hold is begun and ended alone. What falls into a window in which
/// a bare timer was more than 5 ms late is left out.
#[derive(Parser)]
struct Options {
    /// Holds with default music, and with a prompt heard before
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    holds: u32,
    /// Holds with each kind of prompt never heard before
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=100_000))]
    cold: u32,
    /// Participants on hold meanwhile, in the second half
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u32).range(1..=15_000))]
    beside: u32,
    /// The core for the engine, if it is to have one alone
    #[arg(long)]
    core: Option<usize>,
}

/// What is asked for.
struct Case {
    name: &'static str,
    /// The address of the prompt, if it is not default music. One that is never heard before gets a number behind it.
    prompt: Option<String>,
    cold: bool,
}

impl Case {
    fn body(&self, number: u32) -> Value {
        match &self.prompt {
            None => json!({}),
            Some(url) if self.cold => {
                json!({ "customPrompt": { "mediaInfo": { "uri": format!("{url}{number}") } } })
            }
            Some(url) => json!({ "customPrompt": { "mediaInfo": { "uri": url } } }),
        }
    }
}

/// What was measured of a case: moments since 1970 in nanoseconds, and milliseconds.
#[derive(Default)]
struct Waits {
    first: Vec<(u64, f64)>,
    told: Vec<(u64, f64)>,
    last: Vec<(u64, f64)>,
}

/// Packets of a hold that are heard before it is stopped: until the music asked for has begun, and some more.
const HEARD: usize = 3;

/// After a stop so long nothing more may come: three packet intervals.
const SILENCE: Duration = Duration::from_millis(60);

/// How long a packet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let options = Options::parse();
    let other = usize::from(options.core != Some(1));
    if options.core.is_some() {
        pin(other);
    }
    let flags = ["--senders", "1", "--allow-fetch", "127.0.0.0/8", "--max-preparing", "1000"];
    let engine = Engine::start(&flags, options.core)?;
    let (short, long) = (Prompt::write(3, 48_000, 1)?, Prompt::write(60, 48_000, 1)?);
    let narrow = Prompt::write(60, 8_000, 1)?;
    let cases = [
        Case { name: "default music", prompt: None, cold: false },
        Case { name: "a prompt heard before", prompt: Some(format!("{}/warm", short.serve()?)), cold: false },
        Case {
            name: "a new prompt, 3 s of 48 kHz",
            prompt: Some(format!("{}/", short.serve()?)),
            cold: true,
        },
        Case {
            name: "a new prompt, 60 s of 8 kHz",
            prompt: Some(format!("{}/", narrow.serve()?)),
            cold: true,
        },
        Case {
            name: "a new prompt, 60 s of 48 kHz",
            prompt: Some(format!("{}/", long.serve()?)),
            cold: true,
        },
    ];
    let (tell, packets) = mpsc::channel();
    let ear = Ear::open(move |_, heard| {
        let _ = tell.send(heard.at_ns);
    })?;
    let who = engine.participant(ear.port())?;
    let of = |case: &Case| if case.cold { options.cold } else { options.holds };
    let each: u32 = cases.iter().map(of).sum();
    let bar = Progress::new(u64::from(2 * each + options.beside));
    let mut report = Report::new("latency", "From the request to the first packet, one hold after the other");
    let mut lines = Vec::new();
    let drain = Drain::open(other)?;
    for (load, beside) in [("alone", 0), ("beside", options.beside)] {
        for number in 0..beside {
            let other = engine.participant_at(destination(number, drain.port()))?;
            engine.post(&format!("{other}/startHoldMusic"), &json!({}))?;
            bar.step("participants on hold beside");
        }
        let probe = Probe::start_ahead(other);
        let mut waits: Vec<Waits> = Vec::new();
        for case in &cases {
            let mut of_case = Waits::default();
            for number in 0..of(case) {
                // A prompt heard before was heard before.
                if number == 0 && !case.cold {
                    hold(&engine, &who, &case.body(0), &packets, &mut Waits::default())?;
                }
                let unique = number + beside.min(1) * options.cold;
                hold(&engine, &who, &case.body(unique), &packets, &mut of_case)?;
                bar.step(case.name);
            }
            waits.push(of_case);
        }
        let wakes = probe.stop();
        tell_all(&mut report, &mut lines, &cases, waits, &wakes, (load, beside));
    }
    drop(bar);
    drain.close();
    ear.close();
    report.chart(Chart {
        title: "Holds whose first packet came within so long".to_owned(),
        x: "milliseconds".to_owned(),
        y: "share in percent".to_owned(),
        lines,
        ..Chart::default()
    });
    report.end()
}

/// One hold: begins, is heard, ends.
fn hold(
    engine: &Engine,
    who: &str,
    body: &Value,
    packets: &Receiver<u64>,
    waits: &mut Waits,
) -> io::Result<()> {
    let next = || packets.recv_timeout(PATIENCE).map_err(io::Error::other);
    while packets.try_recv().is_ok() {}
    let asked = now_ns(ClockId::Realtime);
    let operation = engine.post(&format!("{who}/startHoldMusic"), body)?;
    let first = next()?;
    waits.first.push((asked, first.saturating_sub(asked) as f64 / 1e6));
    let call = who.split("/participants").next().unwrap_or_default();
    let operation = format!("{call}/operations/{}", text(&operation, "id"));
    // The operation tells its latency once it has completed; the music gives it time for that.
    for _ in 0..200 {
        next()?;
        let operation = engine.get(&operation)?;
        if let Some(latency) = operation["holdMusic"]["firstPacketLatencyMs"].as_f64()
            && text(&operation, "status") == "completed"
        {
            waits.told.push((asked, latency));
            break;
        }
    }
    (0..HEARD).try_for_each(|_| next().map(drop))?;
    let asked = now_ns(ClockId::Realtime);
    engine.post(&format!("{who}/stopHoldMusic"), &json!({}))?;
    thread::sleep(SILENCE);
    let last = iter::from_fn(|| packets.try_recv().ok()).last().unwrap_or(asked);
    waits.last.push((asked, last.saturating_sub(asked) as f64 / 1e6));
    Ok(())
}

fn tell_all(
    report: &mut Report,
    lines: &mut Vec<Line>,
    cases: &[Case],
    waits: Vec<Waits>,
    wakes: &[Wake],
    (load, beside): (&str, u32),
) {
    let excluded = Excluded::of(wakes);
    let good = |waits: Vec<(u64, f64)>| -> Vec<f64> {
        waits.into_iter().filter(|(at, _)| !excluded.contains(*at)).map(|(_, wait)| wait).collect()
    };
    let beside =
        if beside == 0 { "nobody else on hold".to_owned() } else { format!("{beside} others on hold") };
    report.section(&format!("From the request to the first packet, {beside}"));
    let probe_99 = quantile(&mut late_ms(wakes), 0.99);
    let mut stops = Vec::new();
    for (case, waits) in cases.iter().zip(waits) {
        let (mut first, mut told) = (good(waits.first), good(waits.told));
        stops.extend(good(waits.last));
        let (median, most) = (quantile(&mut first, 0.5), quantile(&mut first, 0.99));
        let (name, name_99) = (format!("{}, median", case.name), format!("{}, 99 %", case.name));
        match (load, case.cold) {
            ("alone", false) => {
                report.judged(&name, median, "ms", Target::AtMost(1.0));
                report.judged(&name_99, most, "ms", Target::AtMost(5.0 + probe_99));
            }
            ("alone", true) if case.name.contains("60 s") => {
                report.judged(&name, median, "ms", Target::AtMost(30.0));
                report.figure(&name_99, most, "ms");
            }
            _ => {
                report.figure(&name, median, "ms");
                report.figure(&name_99, most, "ms");
            }
        }
        report.figure(
            &format!("{}, as the operation says, median", case.name),
            quantile(&mut told, 0.5),
            "ms",
        );
        let share = |rank: usize| 100.0 * (rank + 1) as f64 / first.len() as f64;
        lines.push(Line {
            name: format!("{}, {beside}", case.name),
            points: first.iter().enumerate().map(|(rank, wait)| (*wait, share(rank))).collect(),
        });
    }
    report.section(&format!("From the stop to the last packet, {beside}"));
    report.figure("median (0: none came after the request)", quantile(&mut stops, 0.5), "ms");
    report.judged("largest", quantile(&mut stops, 1.0), "ms", Target::AtMost(20.0));
    report.section(&format!("The machine, {beside}"));
    report.probe(wakes);
}
