//! Hostile datagrams: nothing that comes in on a media socket makes a leg send elsewhere, faster or out of order, and no
//! host ends what goes to another one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    Cname, LegId, LegSpec, MediaTime, Music, Now, Numbering, Protection, Receiver, SourceId, WallTime,
    frame::Frame,
    pacer::{Command, Event, Pacer, PacerSettings},
    receiver::MAX_STREAMS,
    ring,
    rtp::{Header, PayloadType, SeqNo, Ssrc, Timestamp},
    sink::{Batch, Sink},
    time::TICK_NS,
};

/// Things that happen in one run.
const MAX_STEPS: usize = 256;

/// An address as a constant can have it.
type Host = (IpAddr, u16);

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 10));
const OTHER: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66));

/// Legs: where RTP and RTCP go, and the SSRC. The first and the third go to one address, the first and the fourth are
/// called the same, the last one is never held.
const LEGS: [(Host, Option<Host>, u32); 6] = [
    ((NEAR, 40_000), Some((NEAR, 40_000)), 0x1001),
    ((NEAR, 40_001), Some((NEAR, 40_101)), 0x1002),
    ((NEAR, 40_000), Some((NEAR, 40_000)), 0x1003),
    ((NEAR, 40_003), Some((NEAR, 40_003)), 0x1001),
    ((OTHER, 40_000), None, 0x1005),
    ((NEAR, 40_005), Some((NEAR, 40_005)), 0x1006),
];

/// Who sends datagrams and refuses ours.
const HOSTS: [Host; 9] = [
    (NEAR, 40_000),
    (NEAR, 40_001),
    (NEAR, 40_101),
    (NEAR, 40_003),
    (NEAR, 40_005),
    (NEAR, 9),
    (OTHER, 40_000),
    (OTHER, 9),
    (STRANGER, 40_000),
];

/// Throughout so long a destination is unreachable before its holds end.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(10);

/// Any datagrams from anybody to a pacer with legs, among its packets, starts, stops and "port unreachable". Each step is
/// what happens, from whom or with which leg, and for a datagram its length and bytes.
pub fn pacer(input: &[u8]) -> bool {
    let mut stage = Stage::new();
    let mut rest = input;
    for _ in 0..MAX_STEPS {
        let [kind, who, tail @ ..] = rest else { break };
        rest = tail;
        let host = SocketAddr::from(HOSTS[usize::from(*who) % HOSTS.len()]);
        match kind % 4 {
            0 => {
                let Some((&length, tail)) = rest.split_first() else { break };
                let (datagram, tail) = tail.split_at(usize::from(length).min(tail.len()));
                rest = tail;
                stage.datagram(host, datagram);
            }
            1 => stage.pass(Duration::from_millis(u64::from(*who))),
            2 => stage.unreachable(host, Duration::from_millis(u64::from(*kind) * 20)),
            _ => stage.toggle(usize::from(*who) % (LEGS.len() - 1)),
        }
    }
    stage.pass(Duration::from_millis(100));
    stage.reached
}

/// A pacer, and what it may do.
struct Stage {
    pacer: Pacer,
    now: MediaTime,
    wire: Wire,
    /// Legs on hold.
    held: BTreeSet<usize>,
    /// Of them, those that a goodbye was told of.
    gone: BTreeSet<usize>,
    /// Since when an address has been said to be unreachable, with or without pauses.
    refused: HashMap<SocketAddr, MediaTime>,
    /// Whether anything came of a datagram.
    reached: bool,
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self {
            pacer: Pacer::new(
                1,
                PacerSettings { unreachable_after: UNREACHABLE_AFTER, ..PacerSettings::default() },
            ),
            now: MediaTime::from_millis(1_234),
            wire: Wire::default(),
            held: BTreeSet::new(),
            gone: BTreeSet::new(),
            refused: HashMap::new(),
            reached: false,
        };
        for (index, (destination, rtcp, ssrc)) in LEGS.into_iter().enumerate() {
            let spec = LegSpec {
                sender: 0,
                destination: destination.into(),
                rtcp: rtcp.map(SocketAddr::from),
                codec: Codec::Opus,
                payload_type: PayloadType::new(111).expect("below 128"),
                numbering: Numbering {
                    ssrc: Ssrc(ssrc),
                    sequence: SeqNo(65_530),
                    timestamp: Timestamp(0),
                    at: MediaTime::ZERO,
                    rollover_counter: 0,
                    srtcp_index: 0,
                },
                cname: Cname::new(7),
                protection: Protection::Plain,
                peer: None,
            };
            stage.obey(Command::AddLeg { leg: id(index), spec: Box::new(spec) });
        }
        for index in 0..LEGS.len() - 1 {
            stage.toggle(index);
        }
        stage.pass(Duration::from_millis(40));
        stage
    }

    fn obey(&mut self, command: Command) {
        self.pacer.handle_command(calendar(self.now), command);
    }

    /// A hold begins or ends.
    fn toggle(&mut self, index: usize) {
        let leg = id(index);
        if self.held.remove(&index) {
            self.gone.remove(&index);
            self.obey(Command::Stop { leg });
        } else {
            self.held.insert(index);
            let (mut writer, reader) = ring::closed(3);
            for byte in 0..3 {
                writer.push(Frame::new(&[byte])).expect("there is room");
            }
            writer.close(0);
            let music = Music { source: SourceId(1), reader, is_default: false };
            self.obey(Command::Play { leg, music, numbering: None, since: None });
        }
        self.listen(|_, event| panic!("nobody said anything: {event:?}"));
    }

    /// Time passes, and what is due is sent.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut packets = 0;
        loop {
            let due = self.pacer.prepare(calendar(self.now));
            if due >= until {
                break;
            }
            self.now = self.now.max(due);
            self.pacer.send(self.now, &mut self.wire);
            packets += self.pacer.settle(self.now, self.now).packets;
            self.listen(|_, event| panic!("nobody said anything: {event:?}"));
        }
        self.now = until;
        // One in each tick, and two ticks begin in less than the time of two.
        let most = (time.as_nanos() / u128::from(TICK_NS) + 2) * LEGS.len() as u128;
        assert!(u128::from(packets) <= most, "{packets} packets in {time:?}");
    }

    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        let before = self.wire.datagrams;
        self.pacer.handle_datagram(calendar(self.now), from, datagram);
        assert_eq!(self.wire.datagrams, before, "nothing is answered");
        self.listen(|stage, event| {
            let Event::Bye { leg } = event else { panic!("a datagram says goodbye or nothing: {event:?}") };
            let index = index(leg);
            let (destination, rtcp, _) = LEGS[index];
            assert!(datagram.contains(&203), "no goodbye is in {datagram:?}");
            assert!(
                destination.0 == from.ip() || rtcp.is_some_and(|rtcp| rtcp.0 == from.ip()),
                "{from} says goodbye for {destination:?}"
            );
            assert!(stage.held.contains(&index), "nobody is on hold there");
            assert!(stage.gone.insert(index), "a second goodbye for one hold");
            stage.reached = true;
        });
    }

    fn unreachable(&mut self, destination: SocketAddr, after: Duration) {
        self.now = self.now + after;
        let now = self.now;
        let since = *self.refused.entry(destination).or_insert(now);
        self.pacer.handle_unreachable(now, destination);
        self.listen(|stage, event| {
            let Event::Unreachable { leg } = event else { panic!("only that was said: {event:?}") };
            let index = index(leg);
            assert_eq!(SocketAddr::from(LEGS[index].0), destination);
            assert!(stage.held.contains(&index), "nobody is on hold there");
            assert!(now.since(since) >= UNREACHABLE_AFTER, "after {:?}", now.since(since));
            stage.reached = true;
        });
    }

    /// Hands to `each` what is told beside the usual course of a hold.
    fn listen(&mut self, mut each: impl FnMut(&mut Self, Event)) {
        while let Some(event) = self.pacer.poll_event() {
            match event {
                Event::Started { .. }
                | Event::Crossing { .. }
                | Event::Announced { .. }
                | Event::Stopped { .. }
                | Event::Retired(_) => {}
                Event::Progress { report, .. } => self.reached |= report.quality.is_some(),
                Event::Bye { .. } | Event::Unreachable { .. } | Event::Latch { .. } => each(self, event),
            }
        }
    }
}

fn id(index: usize) -> LegId {
    LegId(index as u64 + 1)
}

fn index(leg: LegId) -> usize {
    usize::try_from(leg.0 - 1).expect("few legs")
}

fn calendar(mono: MediaTime) -> Now {
    Now { mono, wall: WallTime(1_700_000_000_000_000 + (mono.as_nanos() / 1_000).cast_signed()) }
}

/// Where it leaves: to the addresses of legs only, and each stream in its order.
#[derive(Default)]
struct Wire {
    datagrams: usize,
    /// The last packet of each stream.
    last: BTreeMap<(SocketAddr, Ssrc), SeqNo>,
}

impl Sink for Wire {
    fn send(&mut self, batch: &Batch, _: &mut Vec<usize>) {
        for index in 0..batch.len() {
            let (bytes, to) = batch.datagram(index);
            self.datagrams += 1;
            let expected = |address: Host| SocketAddr::from(address) == to;
            assert!(
                LEGS.iter()
                    .any(|(destination, rtcp, _)| expected(*destination) || rtcp.is_some_and(expected)),
                "a datagram to {to}"
            );
            if let Ok((header, _)) = Header::read(bytes) {
                let before = self.last.insert((to, header.ssrc), header.sequence);
                assert!(before.is_none_or(|before| before.after(1) == header.sequence), "out of order");
            }
        }
    }
}

/// Any datagrams to a receiver, each behind its length and the milliseconds since the one before.
pub fn receiver(input: &[u8]) -> bool {
    let mut receiver = Receiver::new(Codec::Opus);
    let (mut now, mut rest, mut count) = (MediaTime::from_millis(1_000), input, 0_u32);
    while let [pause, length, tail @ ..] = rest {
        let (datagram, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        now = now + Duration::from_millis(u64::from(*pause));
        receiver.handle_datagram(now, datagram);
        count += 1;
    }
    let hearing = receiver.hearing();
    assert_eq!(hearing.datagrams, u64::from(count));
    assert!(hearing.streams.len() <= MAX_STREAMS);
    let measured: u64 = hearing.streams.iter().map(|stream| stream.packets).sum();
    let others = hearing.rtcp.datagrams + hearing.not_rtp + hearing.unmeasured;
    assert_eq!(measured + others, hearing.datagrams, "each datagram counts once");
    // As long as it took to come, but for a sender that is two seconds ahead or in one go; at most 120 ms in a packet.
    let longest = now.since(MediaTime::from_millis(1_000)).as_secs_f64() + 3.0 + 0.12 * f64::from(count);
    let mut heard = !hearing.streams.is_empty() || hearing.rtcp.byes > 0;
    for stream in &hearing.streams {
        let decoded = receiver.decode_source(stream.ssrc);
        assert!(decoded.sound.seconds() <= longest, "{} s", decoded.sound.seconds());
        assert!(decoded.sound.samples().iter().all(|sample| sample.is_finite()));
        heard |= !decoded.sound.is_empty();
    }
    assert!(receiver.decode().sound.seconds() <= longest);
    heard
}
