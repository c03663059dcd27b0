//! How long does it take from the request to the first packet? Holds one after the other over a kept connection, with
//! the default music warm; seen from outside, by the kernel's own timestamp of the packet.

use std::{io, sync::mpsc, time::Duration};

use clap::Parser;
use holdmusic_bench::{
    ear::Ear,
    engine::Engine,
    probe::{Probe, now_ns},
    report::{quantile, table},
};
use indicatif::ProgressBar;
use rustix::thread::ClockId;
use serde_json::json;

/// Request to first packet, hold after hold
#[derive(Parser)]
struct Options {
    /// How many holds
    #[arg(long, default_value_t = 200)]
    holds: u32,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let engine = Engine::start(&[], None)?;
    let (tell, packets) = mpsc::channel();
    let ear = Ear::open(move |_, heard| {
        let _ = tell.send(heard.at_ns);
    })?;
    let who = engine.participant(ear.port())?;
    let call = who.split("/participants").next().unwrap_or_default().to_owned();
    let probe = Probe::start(1);
    let bar = ProgressBar::new(u64::from(options.holds));
    let (mut outside, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..options.holds {
        while packets.try_recv().is_ok() {}
        let asked = now_ns(ClockId::Realtime);
        let operation = engine.post(&format!("{who}/startHoldMusic"), &json!({}))?;
        let first = packets.recv_timeout(Duration::from_secs(5)).map_err(io::Error::other)?;
        outside.push(first.saturating_sub(asked) as f64 / 1e6);
        let id = operation["id"].as_str().unwrap_or_default();
        // The operation tells its latency once it has completed; the music gives it time for that.
        for _ in 0..25 {
            packets.recv_timeout(Duration::from_secs(5)).map_err(io::Error::other)?;
            let operation = engine.get(&format!("{call}/operations/{id}"))?;
            if let Some(latency) = operation["holdMusic"]["firstPacketLatencyMs"].as_f64() {
                inside.push(latency);
                break;
            }
        }
        engine.post(&format!("{who}/stopHoldMusic"), &json!({}))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut late: Vec<_> = probe.stop().iter().map(|wake| wake.late_ns as f64 / 1e6).collect();
    ear.close();
    let row = |values: &mut Vec<f64>| {
        let figures = [0.5, 0.9, 0.99, 1.0].map(|share| format!("{:>8.3}", quantile(values, share)));
        figures.join(" ")
    };
    table(
        &format!(
            "First packet, {} holds one after the other, milliseconds:   median      90 %     99 %      max",
            options.holds
        ),
        &[
            ("request sent to packet in the kernel, seen from outside", row(&mut outside)),
            ("request accepted to packet sent, as the operation says", row(&mut inside)),
            ("bare clock_nanosleep beside it, lateness", row(&mut late)),
        ],
    );
    Ok(())
}
