//! The engine's own sender with legs to play to: its thread, pacer and socket on one core, commands through its queue.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;
use holdmusic::{
    mailbox::{Commander, ToPeers},
    metrics::SenderCounts,
    sender::{self, Precedence},
    udp::MediaSocket,
};
use holdmusic_codecs::{Codec, EncoderSettings, Loop, Pcm};
use holdmusic_media::{
    Cname, LegId, LegSpec, MediaTime, Music, Numbering, Protection, SourceId,
    pacer::{Command, Pacer, PacerSettings},
    ring::Reader,
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
    source::{Progress, rendition},
};
use rtrb::RingBuffer;

use crate::bare::destination;

/// A prompt as legs read it, encoded to its end.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn ring(sound: &Pcm, settings: &EncoderSettings) -> io::Result<Reader> {
    let codec = Codec::Opus;
    let sound = Arc::new(Loop::new(sound, codec.sample_rate(), codec.samples_per_frame()));
    let (reader, mut job) = rendition(sound, codec, settings).map_err(io::Error::other)?;
    while job.step(1000).map_err(io::Error::other)? != Progress::Closed {}
    Ok(reader)
}

/// The sender; it ends with this value. Leg `n` has SSRC `n`.
pub struct Ours {
    commands: Mutex<Commander>,
    counts: Arc<SenderCounts>,
    thread: i32,
    port: u16,
}

impl Ours {
    /// Starts on `core` with `legs` legs, each to an address of its own in 127/8, all with `port`.
    ///
    /// # Errors
    ///
    /// If there is no socket to be had.
    pub fn start(legs: u32, port: u16, core: usize) -> io::Result<Self> {
        let socket = MediaSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true)?;
        let (commands, orders) = RingBuffer::new(1 << 16);
        let (tell, told) = bounded(1 << 16);
        let counts = Arc::new(SenderCounts::default());
        let (name, named) = mpsc::channel();
        let counted = Arc::clone(&counts);
        let worker = thread::spawn(move || {
            let _ = name.send(rustix::thread::gettid().as_raw_nonzero().get());
            let precedence = Precedence { realtime: true, cpu: Some(core) };
            sender::run(
                Pacer::new(1, PacerSettings::default()),
                &socket,
                orders,
                &tell,
                &ToPeers { sender: 0, queue: bounded(0).0 },
                &counted,
                precedence,
            );
        });
        let commands = Mutex::new(Commander::new(commands, worker.thread().clone()));
        // What is told is dropped elsewhere, as in the engine.
        thread::spawn(move || for _ in told {});
        let thread = named.recv().map_err(io::Error::other)?;
        let ours = Self { commands, counts, thread, port };
        (0..legs).for_each(|leg| ours.add(leg));
        Ok(ours)
    }

    /// What it counts.
    pub fn counts(&self) -> &SenderCounts {
        &self.counts
    }

    /// Its thread.
    pub fn thread(&self) -> i32 {
        self.thread
    }

    fn command(&self, command: Command) {
        // It ends with this value, so it has not ended.
        let _ = self.commands.lock().expect("nobody panics while holding it").send(command);
    }

    /// One leg more.
    pub fn add(&self, leg: u32) {
        self.add_protected(leg, Protection::Plain);
    }

    /// One leg more, whose packets are protected so.
    pub fn add_protected(&self, leg: u32, protection: Protection) {
        let to = destination(leg, self.port);
        let spec = LegSpec {
            sender: 0,
            destination: to,
            rtcp: Some(to),
            codec: Codec::Opus,
            payload_type: PayloadType::new(111).expect("a dynamic one"),
            numbering: Numbering {
                ssrc: Ssrc(leg),
                sequence: SeqNo(0),
                timestamp: Timestamp(0),
                at: MediaTime::ZERO,
                rollover_counter: 0,
                srtcp_index: 0,
            },
            cname: Cname::new(leg.into()),
            protection,
            peer: None,
        };
        self.command(Command::AddLeg { leg: LegId(leg.into()), spec: Box::new(spec) });
    }

    /// A hold begins, with this music, of which there is only one of this number.
    pub fn play(&self, leg: u32, number: u64, reader: &Reader) {
        let music = Music { source: SourceId(number), reader: reader.clone(), is_default: true };
        self.command(Command::Play { leg: LegId(leg.into()), music, numbering: None, since: None });
    }

    /// The same for all of `legs`, spread over as much time as participants take to come: 50 µs each.
    pub fn play_all(&self, legs: u32, music: impl Fn(u32) -> (u64, Reader)) {
        for leg in 0..legs {
            let (number, reader) = music(leg);
            self.play(leg, number, &reader);
            if leg.is_multiple_of(10) {
                thread::sleep(Duration::from_micros(500));
            }
        }
    }

    /// A hold ends.
    pub fn stop(&self, leg: u32) {
        self.command(Command::Stop { leg: LegId(leg.into()) });
    }

    /// A leg goes.
    pub fn remove(&self, leg: u32) {
        self.command(Command::RemoveLeg { leg: LegId(leg.into()) });
    }
}

/// Processor time of thread `id` for each packet that `count` counts during `slice`, in nanoseconds.
///
/// # Errors
///
/// If there is no such thread of ours.
pub fn per_packet_ns(id: i32, slice: Duration, count: impl Fn() -> u64) -> io::Result<f64> {
    let (cpu, packets) = (cpu_ns(id)?, count());
    thread::sleep(slice);
    Ok((cpu_ns(id)? - cpu) as f64 / (count() - packets).max(1) as f64)
}

/// Nanoseconds that thread `id` has had on a processor so far (proc(5), schedstat).
///
/// # Errors
///
/// If there is no such thread of ours.
pub fn cpu_ns(id: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{id}/schedstat"))?;
    text.split_whitespace().next().and_then(|field| field.parse().ok()).ok_or_else(|| io::Error::other(text))
}
