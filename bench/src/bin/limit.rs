//! What does this machine's kernel charge for a packet? The same packets to the same many destinations, one by one and
//! in batches, as fast as they go, in interleaved rounds; and how late a bare timer wakes meanwhile.

use std::{io, time::Duration};

use clap::{Parser, value_parser};
use holdmusic_bench::{
    bare::{Packets, send_all, socket},
    chart::{Chart, Line},
    ear::Drain,
    probe::{Probe, now_ns, pin},
    report::{Report, quantile},
};
use indicatif::ProgressBar;
use rustix::thread::ClockId;

/// The price of a packet
#[derive(Parser)]
struct Options {
    /// Destinations
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u32).range(1..=20_000))]
    legs: u32,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 9, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Milliseconds for each way in each round
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u64).range(1..=60_000))]
    slice_ms: u64,
    /// The core that sends; the drain and the probe take another
    #[arg(long, default_value_t = 0)]
    core: usize,
}

const BATCHES: [usize; 6] = [1, 8, 32, 64, 256, 1024];

fn main() -> io::Result<()> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    let drain = Drain::open(other)?;
    let probe = Probe::start_ahead(other);
    pin(options.core);
    let (socket, packets) = (socket()?, Packets::new(options.legs, drain.port()));
    let slice = Duration::from_millis(options.slice_ms);
    let bar = ProgressBar::new(u64::from(options.rounds));
    let mut singly = Vec::new();
    let mut batched = vec![Vec::new(); BATCHES.len()];
    for _ in 0..options.rounds {
        singly.push(per_packet_ns(options.legs, slice, || packets.send_singly(&socket)));
        packets.with_headers(|headers| {
            for (batch, figures) in BATCHES.iter().zip(&mut batched) {
                figures.push(per_packet_ns(options.legs, slice, || send_all(&socket, headers, *batch)));
            }
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let wakes = probe.stop();
    let heard = drain.close();

    let title =
        format!("A packet of 92 bytes to {} destinations on loopback, as fast as they go", options.legs);
    let mut report = Report::new("limit", &title);
    let single = quantile(&mut singly, 0.5);
    let points =
        BATCHES.iter().zip(&mut batched).map(|(batch, figures)| (*batch as f64, quantile(figures, 0.5)));
    report.chart(Chart {
        title: "What the kernel charges for a packet".to_owned(),
        x: "packets in a call".to_owned(),
        y: "ns of processor time".to_owned(),
        lines: vec![
            Line { name: "sendmmsg".to_owned(), points: points.collect() },
            Line { name: "sendto".to_owned(), points: vec![(1.0, single)] },
        ],
        ..Chart::default()
    });
    report.figure("sendto, one by one", single, "ns of processor time a packet");
    for (batch, figures) in BATCHES.iter().zip(&mut batched) {
        let median = quantile(figures, 0.5);
        let words = format!("ns, {:.2} of one by one", median / single);
        report.figure(&format!("sendmmsg, batches of {batch}"), median, &words);
    }
    report.probe(&wakes);
    report.figure("packets heard", heard as f64, "");
    report.end()
}

/// Thread time for a packet when `send` sends one to each of `legs` again and again for so long.
fn per_packet_ns(legs: u32, slice: Duration, mut send: impl FnMut()) -> f64 {
    send();
    let (began, cpu) = (now_ns(ClockId::Monotonic), now_ns(ClockId::ThreadCPUTime));
    let mut packets = 0u64;
    while u128::from(now_ns(ClockId::Monotonic) - began) < slice.as_nanos() {
        send();
        packets += u64::from(legs);
    }
    (now_ns(ClockId::ThreadCPUTime) - cpu) as f64 / packets as f64
}
