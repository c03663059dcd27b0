//! What a pacer promises, shown on a wire of our own with a clock that jumps.

mod listening;
mod protected;
mod short;

use holdmusic_codecs::Codec;

use super::*;
use crate::{
    Cname, Protection, Quality,
    frame::Frame,
    ring,
    rtcp::Word,
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
            rollover_counter: 0,
            srtcp_index: 0,
        },
        cname: Cname::new(0x401d),
        protection: Protection::Plain,
        peer: None,
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
    pacer.handle_command(at(now), Command::Play { leg, music: music(1, 7), numbering: None, since: None });
}

fn pacer() -> Pacer {
    Pacer::new(1, PacerSettings::default())
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

    let play = Command::Play { leg: LegId(1), music: music(2, 3), numbering: None, since: None };
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
    let play = Command::Play { leg: LegId(1), music: music(9, 200), numbering: None, since: None };
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
        Some(Bridge { reader, frames: 3, codec: Codec::Opus })
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
    let (wire, events) =
        change(300, |crossing| Some(Bridge { reader: crossing.to.clone(), frames: 3, codec: Codec::Opus }));
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
    pacer.handle_command(at(wire.now), Command::Play { leg, music, numbering: None, since: None });
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

/// The producer of the old music has stopped, so the position at which it was to be left never comes.
#[test]
fn a_change_does_not_wait_for_music_that_starves() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let (mut writer, reader) = ring::closed(10);
    for byte in 0..3 {
        writer.push(Frame::new(&[byte])).unwrap();
    }
    let leg = LegId(1);
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: spec(1) });
    let old = Music { source: SourceId(3), reader, is_default: false };
    pacer.handle_command(at(wire.now), Command::Play { leg, music: old, numbering: None, since: None });
    run(&mut pacer, &mut wire, MediaTime::from_millis(50), punctual);
    pacer.handle_command(
        at(wire.now),
        Command::Play { leg, music: music(9, 200), numbering: None, since: None },
    );
    let bridge = Bridge { reader: music(8, 3).reader, frames: 3, codec: Codec::Opus };
    pacer.handle_command(at(wire.now), Command::Bridge { leg, source: SourceId(9), bridge: Some(bridge) });
    let events = run(&mut pacer, &mut wire, MediaTime::from_millis(130), punctual);
    assert!(matches!(&events[..], [.., Event::Started { source: SourceId(9), .. }]), "{events:?}");
    let nothing = Codec::Opus.nothing()[0];
    assert_eq!(heard(&wire), [0, 1, 2, nothing, 0, 1, 2]);
}

#[test]
fn a_leg_that_falls_out_of_a_window_goes_on_in_the_middle_of_what_the_window_has() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let (mut writer, reader) = ring::sliding(8, 1);
    let leg = LegId(1);
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: spec(1) });
    (0..20).for_each(|byte| writer.push(&[byte]));
    let live = Music { source: SourceId(3), reader, is_default: false };
    pacer.handle_command(at(wire.now), Command::Play { leg, music: live, numbering: None, since: None });
    run(&mut pacer, &mut wire, MediaTime::from_millis(50), punctual);
    (20..40).for_each(|byte| writer.push(&[byte]));
    run(&mut pacer, &mut wire, MediaTime::from_millis(130), punctual);
    assert_eq!(heard(&wire), [16, 17, 18, 36, 37, 38, 39]);
    assert!(wire.rtp.windows(2).all(|pair| {
        let (before, after) = (pair[0].2, pair[1].2);
        after.sequence == before.sequence.after(1) && after.timestamp == before.timestamp.after(960)
    }));
    // A change waits for no position of what was lost.
    pacer.handle_command(
        at(wire.now),
        Command::Play { leg, music: music(9, 200), numbering: None, since: None },
    );
    (40..80).for_each(|byte| writer.push(&[byte]));
    run(&mut pacer, &mut wire, MediaTime::from_millis(190), punctual);
    assert_eq!(heard(&wire)[7..], [76, 0, 1]);
}

/// Bridges among the things that want to be dropped elsewhere.
fn retired_bridges(events: &[Event]) -> usize {
    let bridges = |event: &Event| match event {
        Event::Retired(Retired(Remains::Bridge(_))) => 1,
        Event::Retired(Retired(Remains::Left(left))) => left.bridges().count(),
        Event::Retired(Retired(Remains::Hold(hold))) => hold.bridges().count(),
        _ => 0,
    };
    events.iter().map(bridges).sum()
}

/// Bridges come for changes that are no longer wanted, twice, too late, and one after the other.
#[test]
fn every_bridge_that_a_leg_was_given_leaves_as_an_event() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let mut events = vec![];
    let mut given = 0;
    let play =
        |source| Command::Play { leg: LegId(1), music: music(source, 50), numbering: None, since: None };
    let mut bridge = |source| {
        given += 1;
        let bridge = Some(Bridge { reader: music(8, 3).reader, frames: 3, codec: Codec::Opus });
        Command::Bridge { leg: LegId(1), source: SourceId(source), bridge }
    };
    let run_on = |pacer: &mut Pacer, wire: &mut Wire, events: &mut Vec<Event>, millis| {
        let until = wire.now + Duration::from_millis(millis);
        loop {
            events.extend(std::iter::from_fn(|| pacer.poll_event()));
            let due = pacer.prepare(at(wire.now));
            if due >= until {
                wire.now = until;
                return;
            }
            wire.now = wire.now.max(due);
            pacer.send(wire.now, wire);
            pacer.settle(wire.now, wire.now);
        }
    };
    start(&mut pacer, wire.now, 1);
    run_on(&mut pacer, &mut wire, &mut events, 50);
    // Gone over, then left by another change, which has one too.
    for source in [2, 3] {
        pacer.handle_command(at(wire.now), play(source));
        pacer.handle_command(at(wire.now), bridge(source));
        run_on(&mut pacer, &mut wire, &mut events, 500);
    }
    // For nothing; twice; replaced; and by a plain switch.
    pacer.handle_command(at(wire.now), bridge(7));
    pacer.handle_command(at(wire.now), play(4));
    pacer.handle_command(at(wire.now), bridge(4));
    pacer.handle_command(at(wire.now), bridge(4));
    pacer.handle_command(at(wire.now), play(5));
    pacer.handle_command(at(wire.now), bridge(5));
    let none = Command::Bridge { leg: LegId(1), source: SourceId(5), bridge: None };
    pacer.handle_command(at(wire.now), none);
    // Waiting when the hold ends, and too late.
    run_on(&mut pacer, &mut wire, &mut events, 50);
    pacer.handle_command(at(wire.now), play(6));
    pacer.handle_command(at(wire.now), bridge(6));
    pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
    pacer.handle_command(at(wire.now), bridge(6));
    pacer.handle_command(at(wire.now), Command::RemoveLeg { leg: LegId(1) });
    pacer.handle_command(at(wire.now), bridge(6));
    events.extend(std::iter::from_fn(|| pacer.poll_event()));
    assert_eq!(retired_bridges(&events), given);
}

/// A batch of the wire that keeps nothing, so that only the pacer is measured.
struct Nowhere;

impl Sink for Nowhere {
    fn send(&mut self, batch: &Batch, refused: &mut Vec<usize>) {
        // The network refuses the last one, for the longest way through `settle`.
        refused.extend(batch.len().checked_sub(1));
    }
}

/// Sixty legs, with reports, starvation, refusals, announcements, and changes of music with a bridge and without.
#[test]
fn nothing_is_allocated_or_freed_from_waking_until_everything_is_settled() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    for number in 0..60 {
        start(&mut pacer, wire.now, number);
    }
    let mut kept = vec![];
    let mut rounds = 0;
    while wire.now < MediaTime::from_millis(16_000) {
        let leg = rounds % 60;
        if rounds % 3 == 0 {
            let source = 2 + rounds;
            let play =
                Command::Play { leg: LegId(leg), music: music(source, 20), numbering: None, since: None };
            pacer.handle_command(at(wire.now), play);
            let bridge = (rounds % 2 == 0).then(|| Bridge {
                reader: music(8, 3).reader,
                frames: 3,
                codec: Codec::Opus,
            });
            if rounds % 9 != 0 {
                let leg = LegId(leg);
                let source = SourceId(source);
                pacer.handle_command(at(wire.now), Command::Bridge { leg, source, bridge });
            }
        }
        if rounds % 5 == 0 {
            let announcement = announcement(rounds, 1 + rounds % 4);
            pacer.handle_command(at(wire.now), Command::Announce { leg: LegId(leg), announcement });
        }
        kept.extend(std::iter::from_fn(|| pacer.poll_event()));
        let due = pacer.prepare(at(wire.now));
        wire.now = wire.now.max(due);
        let measured = allocation_counter::measure(|| {
            pacer.send(wire.now, &mut Nowhere);
            pacer.settle(wire.now, wire.now);
        });
        assert_eq!((measured.count_total, measured.count_current), (0, 0), "round {rounds}");
        rounds += 1;
    }
    let told = |wanted: fn(&Event) -> bool| kept.iter().filter(|event| wanted(event)).count();
    assert!(told(|event| matches!(event, Event::Progress { .. })) > 60);
    assert!(told(|event| matches!(event, Event::Retired(Retired(Remains::Left(_))))) > 60);
    assert!(told(|event| matches!(event, Event::Started { .. })) > 120);
    assert!(told(|event| matches!(event, Event::Announced { .. })) > 60);
}

fn announcement(id: u64, frames: u64) -> Announcement {
    Announcement { id: AnnouncementId(id), music: music(1000 + id, 7), frames }
}

/// Without a hold: each is heard once and begins marked, nothing is sent between them, the numbers go on.
#[test]
fn a_leg_that_nobody_holds_plays_what_is_announced_and_nothing_else() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let leg = LegId(1);
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: spec(1) });
    pacer.handle_command(at(wire.now), Command::Announce { leg, announcement: announcement(1, 3) });
    pacer.handle_command(at(wire.now), Command::Announce { leg, announcement: announcement(2, 2) });
    let told = run(&mut pacer, &mut wire, MediaTime::from_millis(500), punctual);
    let ended = |told: &[Event]| -> Vec<u64> {
        let ended = told.iter().filter_map(|event| match event {
            Event::Announced { announcement, .. } => Some(announcement.0),
            _ => None,
        });
        ended.collect()
    };
    assert_eq!(ended(&told), [1, 2]);
    assert!(!told.iter().any(|event| matches!(event, Event::Started { .. })), "{told:?}");
    assert_eq!(heard(&wire), [0, 1, 2, 0, 1]);
    pacer.handle_command(at(wire.now), Command::Announce { leg, announcement: announcement(3, 1) });
    let told = run(&mut pacer, &mut wire, MediaTime::from_millis(600), punctual);
    assert_eq!(ended(&told), [3]);
    let headers: Vec<_> = wire.rtp.iter().map(|(_, _, header, _)| *header).collect();
    assert_eq!(
        headers.iter().map(|header| header.marker).collect::<Vec<_>>(),
        [true, false, false, false, false, true]
    );
    for (before, after) in headers.iter().zip(&headers[1..]) {
        assert_eq!(after.sequence, before.sequence.after(1));
    }
    pacer.handle_command(at(wire.now), Command::Stop { leg });
    let told = run(&mut pacer, &mut wire, MediaTime::from_millis(700), punctual);
    assert!(matches!(told[..], [Event::Stopped { .. }]), "{told:?}");
    assert_eq!(pacer.legs(), (1, 0));
}

/// Whether a packet is without sound is a matter of what it carries, not of music that nobody asked for.
#[test]
fn what_is_announced_without_a_hold_does_not_count_as_starved() {
    let mut pacer = pacer();
    let (leg, now) = (LegId(1), at(MediaTime::ZERO));
    pacer.handle_command(now, Command::AddLeg { leg, spec: spec(1) });
    pacer.handle_command(now, Command::Announce { leg, announcement: announcement(1, 2) });
    let mut wire = Wire::default();
    let due = pacer.prepare(now);
    pacer.send(due, &mut wire);
    let served = pacer.settle(due, due);
    assert_eq!((served.packets, served.starved), (1, 0));
}

/// Refused packets cost an announcement its time and not its end.
#[test]
fn an_announcement_to_a_dead_destination_ends_all_the_same() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    wire.refuses.push(destination(1));
    let leg = LegId(1);
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: spec(1) });
    pacer.handle_command(at(wire.now), Command::Announce { leg, announcement: announcement(1, 3) });
    let told = run(&mut pacer, &mut wire, MediaTime::from_millis(500), punctual);
    assert!(matches!(told[..], [Event::Announced { announcement: AnnouncementId(1), .. }]), "{told:?}");
}

/// A leg that comes in the place of another.
#[test]
fn music_that_began_elsewhere_goes_on_where_it_would_be() {
    let (mut pacer, mut wire) = (pacer(), Wire { now: MediaTime::from_millis(1010), ..Wire::default() });
    pacer.handle_command(at(wire.now), Command::AddLeg { leg: LegId(1), spec: spec(1) });
    let since = Some(Tick::at(MediaTime::from_millis(505)));
    let play = Command::Play { leg: LegId(1), music: music(2, 100), numbering: None, since };
    pacer.handle_command(at(wire.now), play);
    let events = run(&mut pacer, &mut wire, MediaTime::from_millis(1070), punctual);
    assert!(matches!(&events[..], [Event::Started { source: SourceId(2), .. }]), "{events:?}");
    // Tick 25 was its first, this is tick 50.
    assert_eq!(heard(&wire), [25, 26, 27]);
    assert!(wire.rtp[0].2.marker);
    // Other music that is asked for before the first packet begins with its beginning.
    let since = Some(Tick::at(MediaTime::from_millis(505)));
    pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
    let play = Command::Play { leg: LegId(1), music: music(2, 100), numbering: None, since };
    pacer.handle_command(at(wire.now), play);
    let other = Command::Play { leg: LegId(1), music: music(3, 50), numbering: None, since: None };
    pacer.handle_command(at(wire.now), other);
    run(&mut pacer, &mut wire, MediaTime::from_millis(1110), punctual);
    assert_eq!(heard(&wire)[3..], [0, 1]);
}

/// Starts `legs` legs, each 7.3 ms after the one before, so at every phase of the tick; how many each slot then has.
fn crowds(legs: u16) -> Vec<usize> {
    let mut pacer = pacer();
    for number in 0..legs {
        let now = MediaTime::from_nanos(5_000_000 + u64::from(number) * 7_300_000);
        start(&mut pacer, now, number);
        let leg = pacer.legs[usize::from(number)].as_ref().unwrap();
        let waits = due_of(u64::from(leg.slot().unwrap()) + SLOTS as u64).as_nanos();
        let waits_ms = (waits + TICK_NS - now.as_nanos() % TICK_NS) % TICK_NS / 1_000_000;
        assert!(waits_ms <= SLOTS_NEAR as u64 || number > 128, "leg {number} waits {waits_ms} ms");
    }
    pacer.slots.iter().map(Vec::len).collect()
}

#[test]
fn few_legs_keep_to_few_slots_and_thousands_spread_over_all() {
    let few = crowds(1000);
    assert_eq!(few.iter().sum::<usize>(), 1000);
    assert!(few.iter().filter(|crowd| **crowd > 0).count() <= 14, "{few:?}");
    let (many, full) = (crowds(2500), crowds(6000));
    assert!(many.iter().all(|crowd| *crowd <= SLOT_SHARE), "{many:?}");
    let full: Vec<_> = full.into_iter().step_by(SPREAD).collect();
    assert!(full.iter().all(|crowd| *crowd <= 300), "{full:?}");
    assert!(full.iter().filter(|crowd| **crowd > 0).count() >= 19, "{full:?}");
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

/// An empty report, a description, and a goodbye of `listener`: what RFC 3550 section 6.1 makes of a receiver that
/// leaves.
fn bare_bye(listener: u8) -> Vec<u8> {
    let mut datagram = vec![0x80, 201, 0, 1, 0, 0, 0, listener];
    datagram.extend([0x81, 202, 0, 3, 0, 0, 0, listener, 1, 2, b'm', b'e', 0, 0, 0, 0]);
    datagram.extend([0x81, 203, 0, 1, 0, 0, 0, listener]);
    datagram
}

/// A pacer whose legs of these numbers play.
fn playing(numbers: &[u16]) -> (Pacer, Now) {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    for &number in numbers {
        start(&mut pacer, wire.now, number);
    }
    run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
    (pacer, at(wire.now))
}

/// The legs whose receivers have said goodbye.
fn byes(pacer: &mut Pacer) -> Vec<u64> {
    let events = std::iter::from_fn(|| pacer.poll_event());
    let mut legs: Vec<_> =
        events.filter_map(|event| if let Event::Bye { leg } = event { Some(leg.0) } else { None }).collect();
    legs.sort_unstable();
    legs
}

const STRANGER: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(127, 0, 0, 2), 40_001));

#[test]
fn a_goodbye_counts_only_from_the_listener_of_the_leg() {
    let (mut pacer, now) = playing(&[1]);
    pacer.handle_datagram(now, STRANGER, &report_and_bye(0x1001));
    pacer.handle_datagram(now, STRANGER, &bare_bye(9));
    pacer.handle_datagram(now, destination(7), &report_and_bye(0x2002));
    pacer.handle_datagram(now, destination(7), &bare_bye(9));
    assert_eq!(byes(&mut pacer), [0; 0]);
    pacer.handle_datagram(now, destination(1), &report_and_bye(0x1001));
    assert_eq!(byes(&mut pacer), [1]);
    pacer.handle_command(now, Command::Stop { leg: LegId(1) });
    let report = std::iter::from_fn(|| pacer.poll_event()).find_map(|event| match event {
        Event::Stopped { report, .. } => Some(report),
        _ => None,
    });
    let quality = Quality { fraction_lost: 64, cumulative_lost: 3, jitter_us: 1_000, round_trip_us: None };
    assert_eq!(report.unwrap().quality, Some(quality));
}

/// The report came a while ago; the goodbye has none, and comes from another port of the same host.
#[test]
fn a_listener_says_goodbye_without_a_report() {
    let (mut pacer, now) = playing(&[1, 2]);
    pacer.handle_datagram(now, destination(1), &report_and_bye(0x1001)[..32]);
    pacer.handle_datagram(now, STRANGER, &bare_bye(9));
    pacer.handle_datagram(now, destination(7), &bare_bye(8));
    assert_eq!(byes(&mut pacer), [0; 0]);
    pacer.handle_datagram(now, destination(7), &bare_bye(9));
    assert_eq!(byes(&mut pacer), [1]);
}

#[test]
fn who_is_the_destination_of_one_leg_may_say_goodbye_without_having_reported() {
    let (mut pacer, now) = playing(&[1, 2, 3]);
    pacer.handle_datagram(now, destination(1), &bare_bye(5));
    assert_eq!(byes(&mut pacer), [1]);
    // Somebody else is known to listen there.
    pacer.handle_datagram(now, destination(2), &report_and_bye(0x1002)[..32]);
    pacer.handle_datagram(now, destination(2), &bare_bye(5));
    assert_eq!(byes(&mut pacer), [0; 0]);
    // RTCP has an address of its own.
    let apart = LegSpec { rtcp: Some(destination(33)), ..*spec(3) };
    pacer.handle_command(now, Command::ChangeLeg { leg: LegId(3), spec: Box::new(apart) });
    pacer.handle_datagram(now, destination(33), &bare_bye(5));
    assert_eq!(byes(&mut pacer), [3]);
}

#[test]
fn a_goodbye_from_the_destination_of_two_legs_does_not_say_which() {
    let (mut pacer, now) = playing(&[1, 2]);
    let same = LegSpec { destination: destination(1), ..*spec(2) };
    pacer.handle_command(now, Command::ChangeLeg { leg: LegId(2), spec: Box::new(same) });
    pacer.handle_datagram(now, destination(1), &bare_bye(5));
    assert_eq!(byes(&mut pacer), [0; 0]);
    // Once it is known whom it hears, it is known what it leaves.
    pacer.handle_datagram(now, destination(1), &report_and_bye(0x1002)[..32]);
    pacer.handle_datagram(now, destination(1), &bare_bye(9));
    assert_eq!(byes(&mut pacer), [2]);
}

/// Many receivers of one host take the same SSRC when they send nothing; one that hears several legs says goodbye once.
#[test]
fn receivers_that_share_a_host_and_an_ssrc_say_goodbye_for_themselves() {
    let (mut pacer, now) = playing(&[1, 2, 3]);
    for number in 1..=2u16 {
        let report = report_and_bye(0x1000 + u32::from(number));
        pacer.handle_datagram(now, destination(number), &report[..32]);
    }
    pacer.handle_datagram(now, destination(2), &report_and_bye(0x1003)[..32]);
    pacer.handle_datagram(now, destination(7), &bare_bye(9));
    assert_eq!(byes(&mut pacer), [0; 0], "which of the two it is cannot be known");
    pacer.handle_datagram(now, destination(2), &bare_bye(9));
    assert_eq!(byes(&mut pacer), [2, 3]);
    pacer.handle_datagram(now, destination(7), &bare_bye(9));
    assert_eq!(byes(&mut pacer), [1]);
}

#[test]
fn a_hold_hears_of_one_goodbye_and_the_next_hold_of_another() {
    let (mut pacer, now) = playing(&[1]);
    for _ in 0..100 {
        pacer.handle_datagram(now, destination(1), &bare_bye(5));
        pacer.handle_datagram(now, destination(1), &report_and_bye(0x1001));
    }
    assert_eq!(byes(&mut pacer), [1]);
    pacer.handle_command(now, Command::Stop { leg: LegId(1) });
    pacer.handle_datagram(now, destination(1), &bare_bye(5));
    assert_eq!(byes(&mut pacer), [0; 0]);
    let again = Command::Play { leg: LegId(1), music: music(1, 7), numbering: None, since: None };
    pacer.handle_command(now, again);
    pacer.handle_datagram(now, destination(1), &bare_bye(6));
    assert_eq!(byes(&mut pacer), [1]);
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

/// By somebody who knows both addresses: where an ICMP error came from is not told, so nobody needs to lie about it.
#[test]
fn made_up_errors_end_no_hold_whose_listener_goes_on_reporting() {
    let (mut pacer, now) = playing(&[1]);
    let report = &report_and_bye(0x1001)[..32];
    for tenth in 0..1_000_u32 {
        let now = at(now.mono + Duration::from_millis(100) * tenth);
        // As seldom as reports of two participants ever come.
        if tenth % 62 == 0 {
            pacer.handle_datagram(now, destination(1), report);
        }
        pacer.handle_unreachable(now.mono, destination(1));
        let events: Vec<_> = std::iter::from_fn(|| pacer.poll_event()).collect();
        assert!(
            !events.iter().any(|event| matches!(event, Event::Unreachable { .. })),
            "{tenth}: {events:?}"
        );
    }
}

/// Reports come as seldom as they ever may; then they end, and in a later hold nobody reports at first.
#[test]
fn a_receiver_that_used_to_report_and_is_silent_ends_its_hold_where_that_is_wanted() {
    let silent_after = Some(Duration::from_secs(20));
    for (wanted, expected) in [(None, false), (silent_after, true)] {
        let settings = PacerSettings { silent_after: wanted, ..PacerSettings::default() };
        let (mut pacer, mut wire) = (Pacer::new(1, settings), Wire::default());
        // The second never reports, and is not judged.
        start(&mut pacer, wire.now, 1);
        start(&mut pacer, wire.now, 2);
        let mut ended = |pacer: &mut Pacer, seconds: u64| {
            let events = run(pacer, &mut wire, MediaTime::from_millis(seconds * 1000), punctual);
            let silent = |event: &Event| match event {
                Event::Unreachable { leg } => Some(leg.0),
                _ => None,
            };
            events.iter().filter_map(silent).collect::<Vec<_>>()
        };
        let report = &report_and_bye(0x1001)[..32];
        for second in (8..80).step_by(8) {
            assert_eq!(ended(&mut pacer, second), []);
            pacer.handle_datagram(at(MediaTime::from_millis(second * 1000)), destination(1), report);
        }
        pacer.handle_command(at(MediaTime::from_millis(80_000)), Command::Stop { leg: LegId(1) });
        assert_eq!(ended(&mut pacer, 200), []);
        start(&mut pacer, MediaTime::from_millis(200_000), 1);
        assert_eq!(ended(&mut pacer, 219), []);
        assert_eq!(ended(&mut pacer, 260), if expected { vec![1] } else { vec![] });
    }
}

/// In the middle of a hold: never a payload of the old codec under the new payload type, whatever comes in between, and the
/// same music goes on in its place.
#[test]
fn a_leg_with_another_codec_sends_nothing_of_the_old_one_and_goes_on_in_its_place() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let leg = LegId(1);
    let play =
        |source, frames| Command::Play { leg, music: music(source, frames), numbering: None, since: None };
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: spec(1) });
    pacer.handle_command(at(wire.now), play(3, 100));
    run(&mut pacer, &mut wire, MediaTime::from_millis(190), punctual);
    // Its bridge comes when it is of no use any more.
    pacer.handle_command(at(wire.now), play(4, 100));
    let new = LegSpec { codec: Codec::Pcma, payload_type: PayloadType::new(8).unwrap(), ..*spec(1) };
    pacer.handle_command(at(wire.now), Command::ChangeLeg { leg, spec: Box::new(new) });
    let bridge = Some(Bridge { reader: music(8, 3).reader, frames: 3, codec: Codec::Opus });
    pacer.handle_command(at(wire.now), Command::Bridge { leg, source: SourceId(4), bridge });
    run(&mut pacer, &mut wire, MediaTime::from_millis(230), punctual);
    pacer.handle_command(at(wire.now), play(3, 100));
    let events = run(&mut pacer, &mut wire, MediaTime::from_millis(290), punctual);
    assert!(matches!(&events[..], [Event::Started { source: SourceId(3), .. }]), "{events:?}");

    let (before, after) = wire.rtp.split_at(10);
    assert!(before.iter().all(|packet| packet.2.payload_type.number() == 111));
    assert!(after.iter().all(|packet| packet.2.payload_type.number() == 8));
    assert!(after[..2].iter().all(|packet| packet.3 == Codec::Pcma.nothing()));
    assert_eq!(heard(&wire)[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(heard(&wire)[12..], [10, 11, 12]);
    let steps = wire.rtp.windows(2).map(|pair| pair[1].2.timestamp.0.wrapping_sub(pair[0].2.timestamp.0));
    assert_eq!(steps.collect::<Vec<_>>(), [[960; 9].as_slice(), &[160; 5]].concat());
    assert!(wire.rtp.windows(2).all(|pair| pair[1].2.sequence == pair[0].2.sequence.after(1)));
}
