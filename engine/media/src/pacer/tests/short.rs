//! Legs whose packets hold 10 ms: two slots each, and ticks of their own.

use super::*;

fn coded(number: u16, codec: Codec) -> Box<LegSpec> {
    Box::new(LegSpec { codec, ..*spec(number) })
}

fn begin(pacer: &mut Pacer, now: MediaTime, number: u16, codec: Codec, frames: u8) {
    let leg = LegId(u64::from(number));
    pacer.handle_command(at(now), Command::AddLeg { leg, spec: coded(number, codec) });
    pacer.handle_command(
        at(now),
        Command::Play { leg, music: music(1, frames), numbering: None, since: None },
    );
}

/// The leg has another codec from now on, and the same music in it.
fn recode(pacer: &mut Pacer, now: MediaTime, number: u16, codec: Codec, frames: u8) {
    let leg = LegId(u64::from(number));
    pacer.handle_command(at(now), Command::ChangeLeg { leg, spec: coded(number, codec) });
    pacer.handle_command(
        at(now),
        Command::Play { leg, music: music(1, frames), numbering: None, since: None },
    );
}

fn to(wire: &Wire, number: u16) -> Vec<(MediaTime, Header, u8)> {
    let sent = wire.rtp.iter().filter(|(_, to, ..)| *to == destination(number));
    sent.map(|(at, _, header, payload)| (*at, *header, payload[0])).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// No slot and no count remembers anybody.
fn assert_empty(pacer: &Pacer) {
    assert!(pacer.slots.iter().all(Vec::is_empty));
    assert_eq!((pacer.seats, pacer.playing, pacer.followers), (0, 0, [0; SLOTS]));
}

#[test]
fn a_packet_leaves_every_ten_milliseconds() {
    for started in [1_234, 1_241, 1_259] {
        let (mut pacer, mut wire) =
            (pacer(), Wire { now: MediaTime::from_millis(started), ..Wire::default() });
        begin(&mut pacer, wire.now, 1, Codec::OpusShort, 7);
        let until = wire.now + millis(1_000);
        let events = run(&mut pacer, &mut wire, until, punctual);
        let packets = to(&wire, 1);
        assert_eq!(packets.len(), 100);
        let (first, header, _) = packets[0];
        assert!(first.since(MediaTime::from_millis(started)) <= millis(2), "{started}");
        for (number, (sent, header_now, payload)) in (0_u32..).zip(&packets) {
            assert_eq!(*sent, first + millis(10 * u64::from(number)));
            assert_eq!(header_now.marker, number == 0);
            assert_eq!(header_now.sequence, SeqNo(65_530).after(number.into()));
            assert_eq!(header_now.timestamp, header.timestamp.after(480 * number));
            assert_eq!(u32::from(*payload), number % 7);
        }
        assert!(matches!(events[0], Event::Started { sent_at, .. } if sent_at == first));
        pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
        assert_empty(&pacer);
    }
}

/// Whenever it comes: between two packets, in either half of a tick, before the first packet.
#[test]
fn in_mid_hold_packets_grow_shorter_and_longer_and_the_music_goes_on_in_its_place() {
    for (number, shorter) in (0_u16..).zip([0, 1, 100, 107, 111, 119, 123]) {
        for longer in [1, 9, 10, 11, 200, 203, 211, 217] {
            let (mut pacer, mut wire) =
                (pacer(), Wire { now: MediaTime::from_millis(33), ..Wire::default() });
            let of = wire.now + Duration::from_micros(1_500 * u64::from(number));
            run(&mut pacer, &mut wire, of, punctual);
            begin(&mut pacer, wire.now, number, Codec::Opus, 100);
            let of = wire.now + millis(shorter);
            run(&mut pacer, &mut wire, of, punctual);
            let at_shorter = wire.rtp.len();
            recode(&mut pacer, wire.now, number, Codec::OpusShort, 200);
            let of = wire.now + millis(longer);
            run(&mut pacer, &mut wire, of, punctual);
            let at_longer = wire.rtp.len();
            recode(&mut pacer, wire.now, number, Codec::Opus, 100);
            let of = wire.now + millis(200);
            run(&mut pacer, &mut wire, of, punctual);
            let packets = to(&wire, number);
            let what = format!("shorter after {shorter} ms, longer after {longer}");
            for (index, pair) in packets.windows(2).enumerate() {
                let ((before_at, before, _), (at, after, _)) = (pair[0], pair[1]);
                assert_eq!(after.sequence, before.sequence.after(1), "{what}");
                // What a packet holds is over when the next one leaves.
                let frame = if (at_shorter..at_longer).contains(&index) { 10 } else { 20 };
                assert_eq!(at.since(before_at), millis(frame), "{what}, packet {index}");
                let units = u32::try_from(frame * 48).unwrap();
                assert_eq!(after.timestamp, before.timestamp.after(units), "{what}, packet {index}");
            }
            let first = packets[0].0;
            for (index, (at, header, payload)) in packets.iter().enumerate() {
                assert_eq!(header.marker, index == 0);
                let place = u64::try_from(at.since(first).as_millis()).unwrap();
                let frame = if (at_shorter..at_longer).contains(&index) { 10 } else { 20 };
                assert_eq!(u64::from(*payload), place / frame, "{what}, packet {index}");
            }
            assert_eq!(pacer.seats, 1);
            pacer.handle_command(at(wire.now), Command::RemoveLeg { leg: LegId(number.into()) });
            assert_empty(&pacer);
        }
    }
}

#[test]
fn a_report_counts_what_was_left_out_and_for_how_long_default_music_was_heard() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let leg = LegId(1);
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: coded(1, Codec::PcmaShort) });
    let default = Command::Play { leg, music: music(0, 50), numbering: None, since: None };
    pacer.handle_command(at(wire.now), default);
    let mut stopped = false;
    run(&mut pacer, &mut wire, MediaTime::from_millis(1_000), |due| {
        let stops = due >= MediaTime::from_millis(300) && !std::mem::replace(&mut stopped, true);
        millis(if stops { 500 } else { 0 })
    });
    pacer.handle_command(at(wire.now), Command::Stop { leg });
    let report = std::iter::from_fn(|| pacer.poll_event()).find_map(|event| match event {
        Event::Stopped { report, .. } => Some(report),
        _ => None,
    });
    let (report, packets) = (report.unwrap(), to(&wire, 1));
    assert_eq!(report.packets, packets.len() as u64);
    assert_eq!(report.packets + u64::from(report.skipped_ticks), 100);
    assert_eq!(report.default_music_ms, 10 * report.packets);
    assert!((49..=51).contains(&report.skipped_ticks), "{report:?}");
    for pair in packets.windows(2) {
        assert_eq!(pair[1].1.sequence, pair[0].1.sequence.after(1));
        let ticks = pair[1].1.timestamp.0.wrapping_sub(pair[0].1.timestamp.0) / 80;
        assert_eq!(u32::from(pair[1].2), (u32::from(pair[0].2) + ticks) % 50);
    }
    // What was due less than 20 ms before the sender woke goes out at once, and nothing older.
    let woke = MediaTime::from_millis(799)..MediaTime::from_millis(802);
    assert!((1..=3).contains(&packets.iter().filter(|(at, ..)| woke.contains(at)).count()));
}

/// The leader first or the follower: while they differ it is silent, and then it hears what the leader does.
#[test]
fn a_follower_hears_short_packets_too_and_both_may_change() {
    for (wait, leader_first) in [(0, true), (3, true), (7, false), (13, true), (13, false), (17, false)] {
        let (mut pacer, mut wire) = (pacer(), Wire::default());
        begin(&mut pacer, wire.now, 1, Codec::OpusShort, 200);
        pacer.handle_command(
            at(wire.now),
            Command::AddLeg { leg: LegId(9), spec: coded(9, Codec::OpusShort) },
        );
        run(&mut pacer, &mut wire, MediaTime::from_millis(105), punctual);
        pacer.handle_command(at(wire.now), Command::Follow { leg: LegId(9), leader: LegId(1) });
        let mut changes = vec![(wire.now, wire.now)];
        for codec in [Codec::Opus, Codec::OpusShort, Codec::Pcmu] {
            let until = wire.now + millis(200 + wait);
            run(&mut pacer, &mut wire, until, punctual);
            let begun = wire.now;
            let mut numbers = [1, 9];
            if !leader_first {
                numbers.reverse();
            }
            for number in numbers {
                if number == 1 {
                    recode(&mut pacer, wire.now, number, codec, 200);
                } else {
                    let change = Command::ChangeLeg { leg: LegId(9), spec: coded(9, codec) };
                    pacer.handle_command(at(wire.now), change);
                }
                let until = wire.now + millis(wait);
                run(&mut pacer, &mut wire, until, punctual);
            }
            changes.push((begun, wire.now));
        }
        let until = wire.now + millis(200);
        run(&mut pacer, &mut wire, until, punctual);
        changes.push((wire.now, wire.now));
        let heard = |number| to(&wire, number).into_iter().map(|(at, _, payload)| (at, payload));
        for pair in changes.windows(2) {
            let same = |(at, _): &(MediaTime, u8)| *at > pair[0].1 && *at < pair[1].0;
            let (leader, follower): (Vec<_>, Vec<_>) =
                (heard(1).filter(same).collect(), heard(9).filter(same).collect());
            assert!(leader.len() >= 9, "{wait}, {leader_first}");
            assert_eq!(follower, leader, "{wait}, {leader_first}");
        }
        for pair in to(&wire, 9).windows(2) {
            assert_eq!(pair[1].1.sequence, pair[0].1.sequence.after(1));
            let passed = pair[1].1.timestamp.0.wrapping_sub(pair[0].1.timestamp.0);
            assert!(passed <= 960 + 48 * 40, "forwards, and by no more than the time that passed: {passed}");
        }
        pacer.handle_command(at(wire.now), Command::RemoveLeg { leg: LegId(9) });
        pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
        assert_empty(&pacer);
    }
}

#[test]
fn thousands_of_both_kinds_start_at_once_and_are_spread_over_the_slots() {
    let (mut pacer, mut wire) = (pacer(), Wire { now: MediaTime::from_millis(77), ..Wire::default() });
    for number in 0..6_000 {
        let codec = if number % 3 == 0 { Codec::OpusShort } else { Codec::Opus };
        begin(&mut pacer, wire.now, number, codec, 7);
    }
    let fullest = pacer.slots.iter().map(Vec::len).max().unwrap();
    // 8 000 seats over 20 slots.
    assert!(fullest <= 8_000 / 20 + 10, "{fullest}");
    run(&mut pacer, &mut wire, MediaTime::from_millis(77 + 220), punctual);
    let mut counts = vec![0; 6_000];
    wire.rtp.iter().for_each(|(_, to, ..)| counts[usize::from(to.port() - 40_000)] += 1);
    for (number, count) in counts.iter().enumerate() {
        let expected = if number % 3 == 0 { 20..=22 } else { 10..=11 };
        assert!(expected.contains(count), "leg {number}: {count}");
    }
    for number in 0..6_000 {
        pacer.handle_command(at(wire.now), Command::RemoveLeg { leg: LegId(number) });
    }
    assert_empty(&pacer);
}
