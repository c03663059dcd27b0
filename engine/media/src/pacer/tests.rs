//! What a pacer promises, shown on a wire of our own with a clock that jumps.

use holdmusic_codecs::Codec;

use super::*;
use crate::{
    frame::Frame,
    ring,
    rtp::{Header, PayloadType, SeqNo, Timestamp},
    time::WallTime,
};

/// What left, with the moment it left at.
#[derive(Default)]
struct Wire {
    now: MediaTime,
    rtp: Vec<(MediaTime, SocketAddr, Header, Vec<u8>)>,
    rtcp: Vec<(MediaTime, SocketAddr, Vec<u8>)>,
    /// Destinations that the network refuses.
    refuses: Vec<SocketAddr>,
}

impl Sink for Wire {
    fn send(&mut self, batch: &Batch, refused: &mut Vec<usize>) {
        for index in 0..batch.len() {
            let (bytes, to) = batch.datagram(index);
            if self.refuses.contains(&to) {
                refused.push(index);
            } else if rtcp::is_rtcp(bytes) {
                self.rtcp.push((self.now, to, bytes.to_vec()));
            } else {
                let (header, payload) = Header::read(bytes).unwrap();
                self.rtp.push((self.now, to, header, payload.to_vec()));
            }
        }
    }
}

fn at(mono: MediaTime) -> Now {
    Now { mono, wall: WallTime(1_700_000_000_000_000 + (mono.as_nanos() / 1000).cast_signed()) }
}

/// Runs the loop of a sender thread until `until`; every wake-up is late by what `lateness` says.
fn run(
    pacer: &mut Pacer,
    wire: &mut Wire,
    until: MediaTime,
    mut lateness: impl FnMut(MediaTime) -> Duration,
) -> Vec<Event> {
    let mut events = vec![];
    loop {
        events.extend(
            std::iter::from_fn(|| pacer.poll_event()).filter(|event| !matches!(event, Event::Retired(_))),
        );
        let due = pacer.prepare(at(wire.now));
        if due >= until {
            wire.now = until;
            return events;
        }
        wire.now = wire.now.max(due) + lateness(due);
        pacer.send(wire.now, wire);
        pacer.settle(wire.now, wire.now);
    }
}

fn punctual(_: MediaTime) -> Duration {
    Duration::ZERO
}

fn destination(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 40_000 + number))
}

fn spec(number: u16) -> Box<LegSpec> {
    Box::new(LegSpec {
        sender: 0,
        destination: destination(number),
        rtcp: Some(destination(number)),
        codec: Codec::Opus,
        payload_type: PayloadType::new(111).unwrap(),
        numbering: Numbering {
            ssrc: Ssrc(0x1000 + u32::from(number)),
            sequence: SeqNo(65_530),
            timestamp: Timestamp(0),
            at: MediaTime::ZERO,
        },
        cname: "hold@music".into(),
    })
}

/// Music whose frames are single bytes: 0, 1, …, `frames` - 1 and again.
fn music(source: u64, frames: u8) -> Music {
    let (mut writer, reader) = ring::closed(usize::from(frames));
    for byte in 0..frames {
        writer.push(Frame::new(&[byte])).unwrap();
    }
    writer.close(0);
    Music { source: SourceId(source), reader, is_default: source == 0 }
}

fn start(pacer: &mut Pacer, now: MediaTime, number: u16) {
    let leg = LegId(u64::from(number));
    pacer.handle_command(at(now), Command::AddLeg { leg, spec: spec(number) });
    pacer.handle_command(at(now), Command::Play { leg, music: music(1, 7), numbering: None });
}

fn pacer() -> Pacer {
    Pacer::new(1, Duration::from_secs(10))
}

#[test]
fn the_first_packet_leaves_within_two_milliseconds_and_the_rest_every_twenty() {
    let (mut pacer, mut wire) = (pacer(), Wire { now: MediaTime::from_millis(1234), ..Wire::default() });
    start(&mut pacer, wire.now, 1);
    let events = run(&mut pacer, &mut wire, MediaTime::from_millis(1434), punctual);
    let first = wire.rtp[0].0;
    assert!(first.since(MediaTime::from_millis(1234)) <= Duration::from_millis(2));
    assert_eq!(wire.rtp.len(), 10);
    for (number, (sent, to, header, payload)) in wire.rtp.iter().enumerate() {
        let number = u64::try_from(number).unwrap();
        assert_eq!(*sent, first + Duration::from_millis(20 * number));
        assert_eq!(*to, destination(1));
        assert_eq!(header.marker, number == 0);
        assert_eq!(header.sequence, SeqNo(65_530).after(number));
        assert_eq!(header.timestamp.0, wire.rtp[0].2.timestamp.0 + 960 * u32::try_from(number).unwrap());
        assert_eq!(*payload, [u8::try_from(number % 7).unwrap()]);
    }
    let [Event::Started { leg: LegId(1), source: SourceId(1), sent_at }] = &events[..] else {
        panic!("one start expected, found {events:?}")
    };
    assert_eq!(*sent_at, first);
}

/// Another leg's next packet is up to 20 ms away, and so is the next one of a leg that has just stopped.
#[test]
fn a_start_waits_neither_for_other_legs_nor_for_the_hold_before() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    for number in 2..40 {
        run(&mut pacer, &mut wire, MediaTime::from_millis(u64::from(number) * 33), punctual);
        pacer.prepare(at(wire.now));
        let asked = wire.now;
        pacer.handle_command(at(asked), Command::Stop { leg: LegId(u64::from(number) - 1) });
        start(&mut pacer, asked, number);
        run(&mut pacer, &mut wire, asked + Duration::from_millis(5), punctual);
        let first = wire.rtp.iter().find(|(_, to, ..)| *to == destination(number)).expect("it has begun");
        assert!(first.0.since(asked) <= Duration::from_millis(2), "leg {number}");
        assert_eq!(first.2.timestamp.0, u32::try_from(first.0.as_nanos() * 48 / 1_000_000).unwrap());
    }
}

#[test]
fn a_late_sender_skips_but_never_bursts() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    for number in 0..40 {
        start(&mut pacer, wire.now, number);
    }
    // Stopped for half a second at second one.
    let mut stopped = false;
    run(&mut pacer, &mut wire, MediaTime::from_millis(3000), |due| {
        let stop = due >= MediaTime::from_millis(1000)
            && !std::mem::replace(&mut stopped, due >= MediaTime::from_millis(1000));
        Duration::from_millis(if stop { 500 } else { 0 })
    });
    for number in 0..40 {
        let packets: Vec<_> = wire.rtp.iter().filter(|(_, to, ..)| *to == destination(number)).collect();
        let mut jumps = vec![];
        for pair in packets.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            assert_eq!(after.2.sequence, before.2.sequence.after(1), "contiguous");
            assert!(!after.2.marker);
            let step = after.2.timestamp.0.wrapping_sub(before.2.timestamp.0);
            assert_eq!(step % 960, 0);
            if step != 960 {
                jumps.push(step / 960);
            }
            // The music goes on where it would be.
            assert_eq!(u32::from(after.3[0]), (u32::from(before.3[0]) + step / 960) % 7);
        }
        assert_eq!(jumps.len(), 1, "one jump of the timestamp, leg {number}");
        assert!((24..=26).contains(&jumps[0]), "{jumps:?}");
        // At most one packet is sent late after the stop; the next is on the grid again.
        let burst = packets
            .iter()
            .filter(|(sent, ..)| {
                sent.since(MediaTime::from_millis(1499)) > Duration::ZERO
                    && *sent <= MediaTime::from_millis(1502)
            })
            .count();
        assert!(burst <= 2, "{burst} packets at once");
    }
}

#[test]
fn a_hold_after_a_hold_goes_on_with_number_and_time() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
    let before = wire.rtp.last().unwrap().clone();
    pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
    let events = run(&mut pacer, &mut wire, MediaTime::from_millis(700), punctual);
    let [Event::Stopped { leg: LegId(1), report, next }] = &events[..] else {
        panic!("one stop expected, found {events:?}")
    };
    assert_eq!(report.packets, 5);
    assert_eq!(next.sequence, before.2.sequence.after(1));
    assert_eq!(wire.rtp.last().unwrap().0, before.0, "nothing left after the stop");

    let play = Command::Play { leg: LegId(1), music: music(2, 3), numbering: None };
    pacer.handle_command(at(wire.now), play);
    run(&mut pacer, &mut wire, MediaTime::from_millis(760), punctual);
    let after = wire.rtp.iter().find(|(sent, ..)| *sent >= MediaTime::from_millis(700)).unwrap();
    assert!(after.2.marker);
    assert_eq!(after.2.ssrc, before.2.ssrc);
    assert_eq!(after.2.sequence, before.2.sequence.after(1));
    let away = after.0.since(before.0).as_millis();
    assert_eq!(u128::from(after.2.timestamp.0 - before.2.timestamp.0), away * 48);
    assert_eq!(after.3, [0], "from its beginning");
}

/// Holds leg 1 for 90 ms with music 1, asks for music 9, and gives the answer after `pause` milliseconds.
fn change(pause: u64, answer: impl FnOnce(&Crossing) -> Option<Bridge>) -> (Wire, Vec<Event>) {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(90), punctual);
    let play = Command::Play { leg: LegId(1), music: music(9, 200), numbering: None };
    pacer.handle_command(at(wire.now), play);
    let Some(Event::Crossing { leg, crossing }) = pacer.poll_event() else { panic!("a bridge is wanted") };
    assert_eq!((leg, crossing.source, crossing.at), (LegId(1), SourceId(9), 13));
    let mut events = run(&mut pacer, &mut wire, MediaTime::from_millis(90 + pause), punctual);
    let bridge = answer(&crossing);
    let command = Command::Bridge { leg: LegId(1), source: SourceId(9), bridge };
    pacer.handle_command(at(wire.now), command);
    events.extend(run(&mut pacer, &mut wire, MediaTime::from_millis(500), punctual));
    assert!(wire.rtp.windows(2).all(|pair| {
        let (before, after) = (pair[0].2, pair[1].2);
        after.sequence == before.sequence.after(1)
            && after.timestamp == before.timestamp.after(960)
            && !after.marker
    }));
    (wire, events)
}

fn heard(wire: &Wire) -> Vec<u8> {
    wire.rtp.iter().map(|packet| packet.3[0]).collect()
}

#[test]
fn a_change_of_music_goes_over_its_bridge_and_is_not_seen_in_the_numbers() {
    let (wire, events) = change(20, |_| {
        let (mut writer, reader) = ring::closed(3);
        for byte in [250, 251, 252] {
            writer.push(Frame::new(&[byte])).unwrap();
        }
        Some(Bridge { reader, frames: 3 })
    });
    let [Event::Started { source: SourceId(9), sent_at, .. }] = &events[..] else {
        panic!("one start expected, found {events:?}")
    };
    assert_eq!(*sent_at, wire.rtp[13].0, "the first packet of the bridge is the first of what was asked for");
    let old = [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5];
    let new = [250, 251, 252, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    assert_eq!(heard(&wire), [&old[..], &new[..]].concat());
}

#[test]
fn without_a_bridge_the_change_is_a_plain_switch_at_the_next_packet() {
    let (wire, events) = change(30, |_| None);
    assert!(matches!(&events[..], [Event::Started { source: SourceId(9), .. }]), "{events:?}");
    assert_eq!(heard(&wire)[..10], [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]);
}

#[test]
fn a_bridge_that_comes_too_late_is_not_waited_for() {
    let (wire, events) = change(300, |crossing| Some(Bridge { reader: crossing.to.clone(), frames: 3 }));
    assert!(matches!(&events[..], [Event::Started { source: SourceId(9), .. }]), "{events:?}");
    assert_eq!(heard(&wire)[11..16], [4, 5, 0, 1, 2]);
}

#[test]
fn a_starving_ring_keeps_the_stream_alive_and_loses_no_music() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let (mut writer, reader) = ring::closed(10);
    let leg = LegId(1);
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: spec(1) });
    let music = Music { source: SourceId(3), reader, is_default: false };
    pacer.handle_command(at(wire.now), Command::Play { leg, music, numbering: None });
    for (until, frames) in [(40, 0u8..2), (120, 2..4), (200, 4..8)] {
        let events = run(&mut pacer, &mut wire, MediaTime::from_millis(until), punctual);
        assert_eq!(events.len(), usize::from(until == 120), "started with its first sound");
        for byte in frames {
            writer.push(Frame::new(&[byte])).unwrap();
        }
    }
    run(&mut pacer, &mut wire, MediaTime::from_millis(280), punctual);
    let nothing = Codec::Opus.nothing()[0];
    let heard: Vec<_> = wire.rtp.iter().map(|packet| packet.3[0]).collect();
    assert_eq!(heard, [nothing, nothing, 0, 1, nothing, nothing, 2, 3, nothing, nothing, 4, 5, 6, 7]);
}

#[test]
fn legs_spread_over_the_slots_as_the_load_grows() {
    let mut pacer = pacer();
    for number in 0..2000 {
        start(&mut pacer, MediaTime::from_millis(5), number);
    }
    let crowds: Vec<_> = pacer.slots.iter().map(Vec::len).collect();
    assert_eq!(crowds.iter().sum::<usize>(), 2000);
    assert!(crowds.iter().all(|crowd| (90..=110).contains(crowd)), "{crowds:?}");
}

#[test]
fn one_dead_destination_costs_its_own_packets_only() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    for number in 0..3 {
        start(&mut pacer, wire.now, number);
    }
    wire.refuses.push(destination(1));
    run(&mut pacer, &mut wire, MediaTime::from_millis(60), punctual);
    wire.refuses.clear();
    run(&mut pacer, &mut wire, MediaTime::from_millis(200), punctual);
    let count = |number| wire.rtp.iter().filter(|(_, to, ..)| *to == destination(number)).count();
    assert_eq!([count(0), count(1), count(2)], [10, 7, 10]);
    let first = wire.rtp.iter().find(|(_, to, ..)| *to == destination(1)).unwrap();
    assert_eq!(first.2.sequence, SeqNo(65_530), "what never left cost no number");
    assert!(first.2.marker);
}

/// The timestamp in a report is the one a packet sent at the report's calendar time would carry.
#[test]
fn sender_reports_map_the_calendar_to_the_timestamps_of_the_packets() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(60_000), punctual);
    assert!((8..=25).contains(&wire.rtcp.len()), "{} reports a minute", wire.rtcp.len());
    for (sent, to, datagram) in &wire.rtcp {
        assert_eq!(*to, destination(1));
        let ntp = u64::from_be_bytes(datagram[8..16].try_into().unwrap());
        assert_eq!(ntp, at(*sent).wall.ntp());
        let timestamp = u32::from_be_bytes(datagram[16..20].try_into().unwrap());
        let packet = wire.rtp.iter().find(|packet| packet.0 == *sent).unwrap();
        assert_eq!(timestamp, packet.2.timestamp.0);
    }
}

#[test]
fn a_leg_says_goodbye_when_it_goes_and_not_when_it_stops() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
    pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
    pacer.send_goodbyes(&mut wire);
    assert_eq!(wire.rtcp.len(), 0);
    pacer.handle_command(at(wire.now), Command::RemoveLeg { leg: LegId(1) });
    pacer.send_goodbyes(&mut wire);
    let mut words = vec![];
    rtcp::read(&wire.rtcp[0].2, |word| words.push(word));
    assert_eq!(words, [Word::Bye(Ssrc(0x1001))]);
    assert_eq!(pacer.legs(), (0, 0));
}

/// A report with one block about `ssrc`, and a goodbye, both of listener 9.
fn report_and_bye(ssrc: u32) -> Vec<u8> {
    let mut datagram = vec![0x81, 201, 0, 7, 0, 0, 0, 9];
    datagram.extend(ssrc.to_be_bytes());
    datagram.extend([64, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0]);
    datagram.extend([0x81, 203, 0, 1, 0, 0, 0, 9]);
    datagram
}

#[test]
fn a_goodbye_counts_only_from_the_listener_of_the_leg() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
    let stranger = SocketAddr::from(([127, 0, 0, 2], 40_001));
    pacer.handle_datagram(at(wire.now), stranger, &report_and_bye(0x1001));
    pacer.handle_datagram(at(wire.now), destination(1), &report_and_bye(0x2002));
    pacer.handle_datagram(at(wire.now), destination(1), &report_and_bye(0x1001)[32..]);
    assert!(pacer.poll_event().is_none());
    pacer.handle_datagram(at(wire.now), destination(1), &report_and_bye(0x1001));
    assert!(matches!(pacer.poll_event(), Some(Event::Bye { leg: LegId(1) })));
    pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
    let report = std::iter::from_fn(|| pacer.poll_event()).find_map(|event| match event {
        Event::Stopped { report, .. } => Some(report),
        _ => None,
    });
    let quality =
        Quality { fraction_lost: 64, cumulative_lost: 3, jitter_ns: 1_000_000, round_trip_ns: None };
    assert_eq!(report.unwrap().quality, Some(quality));
}

#[test]
fn a_destination_is_given_up_only_when_it_is_unreachable_throughout() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
    let mut gone = |seconds: f64| {
        let now = MediaTime::from_nanos((seconds * 1e9) as u64);
        pacer.handle_unreachable(now, destination(1));
        pacer.poll_event().is_some()
    };
    for tenth in 0..60 {
        assert!(!gone(f64::from(tenth) / 10.0));
    }
    // It was back for four seconds.
    for second in 10..20 {
        assert!(!gone(f64::from(second)));
    }
    assert!(gone(20.0));
}
