//! What does our sender cost beside a bare paced `sendmmsg` of the same packets, and are its packets in time? The engine's
//! own sender thread, pacer and socket with so many legs, each with its own SSRC, numbers and position; the bare sender
//! on the same core in alternating slices of the same run.

#![expect(clippy::disallowed_methods, reason = "a bench on real sockets and real threads")]

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use clap::Parser;
use crossbeam_channel::bounded;
use holdmusic::{
    mailbox::Commander,
    metrics::SenderCounts,
    sender::{self, Precedence},
    udp::MediaSocket,
};
use holdmusic_bench::{
    bare::{destination, pace},
    ear::{Drain, Ear, lateness_ns},
    probe::{Probe, now_ns, pin},
    report::{Report, quantile},
};
use holdmusic_codecs::{Codec, EncoderSettings, Loop, music};
use holdmusic_media::{
    Cname, LegId, LegSpec, MediaTime, Music, Numbering, SourceId,
    pacer::{Command, Pacer},
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
    source::{Progress, rendition},
};
use indicatif::ProgressBar;
use rustix::thread::ClockId;

/// Our sender beside a bare one
#[derive(Parser)]
struct Options {
    /// Numbers of legs to try, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1000,2500")]
    legs: Vec<u32>,
    /// Pairs of slices
    #[arg(long, default_value_t = 8)]
    pairs: u32,
    /// Length of a slice in milliseconds
    #[arg(long, default_value_t = 2000)]
    slice_ms: u64,
    /// Seconds for which the spacing of packets is measured afterwards
    #[arg(long, default_value_t = 10)]
    spacing_seconds: u64,
    /// The core that sends; the ear and the probe take another
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Datagrams in one `sendmmsg`, as in `udp.rs`.
const BATCH: usize = 64;

/// After legs have begun or ended, so long until nothing but sending goes on.
const SETTLE: Duration = Duration::from_millis(300);

fn main() -> io::Result<()> {
    let options = Options::parse();
    let other = usize::from(options.core == 0);
    pin(other);
    let mut report = Report::new("capacity", "Our sender beside a bare paced sendmmsg, on one core");
    let steps = u64::from(options.pairs) + 1;
    let bar = ProgressBar::new(steps * options.legs.len() as u64);
    for &legs in &options.legs {
        let costs = costs(&options, legs, other, &bar)?;
        let spacing = spacing(&options, legs, other)?;
        bar.inc(1);
        let Costs { mut ours, mut bare, mut ratios } = costs;
        let (ours, bare) = (quantile(&mut ours, 0.5), quantile(&mut bare, 0.5));
        report.section(&format!("{legs} legs"));
        report.figure("our sender", ours, "ns of processor time a packet");
        report.figure("bare paced sendmmsg", bare, "ns");
        report.figure("ratio, median of pairs", quantile(&mut ratios, 0.5), "");
        report.figure("ratio, lowest pair", quantile(&mut ratios, 0.0), "");
        report.figure("ratio, highest pair", quantile(&mut ratios, 1.0), "");
        for (name, mut spacing) in [("our sender", spacing.ours), ("bare sender", spacing.bare)] {
            for (word, share) in [("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999)] {
                let name = format!("{name}, packet late on its grid, {word}");
                report.figure(&name, quantile(&mut spacing, share), "ms");
            }
        }
        report.figure("legs with 49.5 to 50.5 packets a second", f64::from(spacing.steady), "");
        let mut late = spacing.probe;
        report.figure("bare clock_nanosleep on the other core, 99 %", quantile(&mut late, 0.99), "ms");
    }
    bar.finish_and_clear();
    report.end()
}

struct Costs {
    ours: Vec<f64>,
    bare: Vec<f64>,
    ratios: Vec<f64>,
}

fn costs(options: &Options, legs: u32, other: usize, bar: &ProgressBar) -> io::Result<Costs> {
    let drain = Drain::open(other)?;
    let ours = Ours::start(legs, drain.port(), options.core)?;
    let bare = Bare::start(legs, drain.port(), options.core);
    let slice = Duration::from_millis(options.slice_ms);
    let mut costs = Costs { ours: Vec::new(), bare: Vec::new(), ratios: Vec::new() };
    for _ in 0..options.pairs {
        ours.play();
        thread::sleep(SETTLE);
        let cost = per_packet_ns(ours.thread, slice, || ours.counts.packets())?;
        ours.stop();
        thread::sleep(SETTLE);
        bare.on.store(true, Relaxed);
        thread::sleep(SETTLE);
        let least = per_packet_ns(bare.thread, slice, || bare.sent.load(Relaxed))?;
        bare.on.store(false, Relaxed);
        thread::sleep(SETTLE);
        costs.ours.push(cost);
        costs.bare.push(least);
        costs.ratios.push(cost / least);
        bar.inc(1);
    }
    drain.close();
    Ok(costs)
}

/// Processor time of thread `id` for each packet that `count` counts during `slice`.
fn per_packet_ns(id: i32, slice: Duration, count: impl Fn() -> u64) -> io::Result<f64> {
    let (cpu, packets) = (cpu_ns(id)?, count());
    thread::sleep(slice);
    Ok((cpu_ns(id)? - cpu) as f64 / (count() - packets).max(1) as f64)
}

/// Nanoseconds on a processor so far (proc(5), schedstat).
fn cpu_ns(id: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{id}/schedstat"))?;
    text.split_whitespace().next().and_then(|field| field.parse().ok()).ok_or_else(|| io::Error::other(text))
}

struct Spacing {
    ours: Vec<f64>,
    bare: Vec<f64>,
    /// Of our legs, those that kept their rate.
    steady: u32,
    probe: Vec<f64>,
}

fn spacing(options: &Options, legs: u32, other: usize) -> io::Result<Spacing> {
    let seconds = options.spacing_seconds;
    let probe = Probe::start(other);
    let ear = Ear::open_wide(|_, _| {})?;
    let ours = Ours::start(legs, ear.port(), options.core)?;
    ours.play();
    thread::sleep(SETTLE);
    let began = now_ns(ClockId::Realtime);
    thread::sleep(Duration::from_secs(seconds));
    let ended = now_ns(ClockId::Realtime);
    drop(ours);
    let (mut late, mut steady) = (Vec::new(), 0);
    for stream in ear.close().values() {
        let within = |at_ns: &u64| (began..ended).contains(at_ns);
        let rate = stream.iter().filter(|heard| within(&heard.at_ns)).count() as f64 / seconds as f64;
        steady += u32::from((49.5..=50.5).contains(&rate));
        let of_stream = lateness_ns(stream, 48_000).into_iter().filter(|(at_ns, _)| within(at_ns));
        late.extend(of_stream.map(|(_, late_ns)| late_ns as f64 / 1e6));
    }
    // The bare packets carry no time; each is due 20 ms after the one before.
    let ear = Ear::open_wide(|_, _| {})?;
    let bare = Bare::start(legs, ear.port(), options.core);
    bare.on.store(true, Relaxed);
    thread::sleep(SETTLE + Duration::from_secs(seconds));
    drop(bare);
    let mut bare_late = Vec::new();
    for stream in ear.close().values_mut() {
        for (number, heard) in (0u32..).zip(stream.iter_mut()) {
            heard.timestamp = number.wrapping_mul(960);
        }
        bare_late.extend(lateness_ns(stream, 48_000).into_iter().skip(15).map(|(_, late)| late as f64 / 1e6));
    }
    let probe = probe.stop().iter().map(|wake| wake.late_ns as f64 / 1e6).collect();
    Ok(Spacing { ours: late, bare: bare_late, steady, probe })
}

/// The engine's sender, with its legs.
struct Ours {
    commands: Commander,
    counts: Arc<SenderCounts>,
    thread: i32,
    legs: u32,
    music: holdmusic_media::ring::Reader,
}

impl Ours {
    fn start(legs: u32, port: u16, core: usize) -> io::Result<Self> {
        let sound = Arc::new(Loop::new(&music::default_music(), 16_000, 320));
        let (reader, mut job) =
            rendition(sound, Codec::Opus, &EncoderSettings::default()).map_err(io::Error::other)?;
        while job.step(1000).map_err(io::Error::other)? != Progress::Closed {}
        let socket = MediaSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true)?;
        let (commands, orders) = bounded(1 << 16);
        let (tell, told) = bounded(1 << 16);
        let counts = Arc::new(SenderCounts::default());
        let (name, named) = mpsc::channel();
        let counted = Arc::clone(&counts);
        let worker = thread::spawn(move || {
            pin(core);
            let _ = name.send(rustix::thread::gettid().as_raw_nonzero().get());
            let precedence = Precedence { realtime: true, cpu: Some(core) };
            sender::run(
                Pacer::new(1, Duration::from_secs(10)),
                &socket,
                &orders,
                &tell,
                &counted,
                precedence,
            );
        });
        let commands = Commander::new(commands, worker.thread().clone());
        // What is told is dropped elsewhere, as in the engine.
        thread::spawn(move || for _ in told {});
        for number in 0..legs {
            let to = destination(number, port);
            let spec = LegSpec {
                sender: 0,
                destination: to,
                rtcp: Some(to),
                codec: Codec::Opus,
                payload_type: PayloadType::new(111).expect("a dynamic one"),
                numbering: Numbering {
                    ssrc: Ssrc(number),
                    sequence: SeqNo(0),
                    timestamp: Timestamp(0),
                    at: MediaTime::ZERO,
                },
                cname: Cname::new(number.into()),
            };
            let _ = commands.send(Command::AddLeg { leg: LegId(u64::from(number)), spec: Box::new(spec) });
        }
        let thread = named.recv().map_err(io::Error::other)?;
        Ok(Self { commands, counts, thread, legs, music: reader })
    }

    fn play(&self) {
        for number in 0..self.legs {
            let music = Music { source: SourceId(0), reader: self.music.clone(), is_default: true };
            let play = Command::Play { leg: LegId(number.into()), music, numbering: None, since: None };
            let _ = self.commands.send(play);
            // Spread over two seconds, as participants come.
            if number % 10 == 0 {
                thread::sleep(Duration::from_micros(500));
            }
        }
    }

    fn stop(&self) {
        for number in 0..self.legs {
            let _ = self.commands.send(Command::Stop { leg: LegId(number.into()) });
        }
    }
}

/// A bare sender, which ends with this value.
struct Bare {
    on: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: i32,
}

impl Bare {
    fn start(legs: u32, port: u16, core: usize) -> Self {
        let (on, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (name, named) = mpsc::channel();
        let (flag, count) = (Arc::clone(&on), Arc::clone(&sent));
        thread::spawn(move || {
            pin(core);
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            let _ = name.send(rustix::thread::gettid().as_raw_nonzero().get());
            pace(legs, port, BATCH, &flag, &count).expect("a socket can be had");
        });
        Self { on, sent, thread: named.recv().expect("the thread tells its name first") }
    }
}
