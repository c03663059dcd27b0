//! Legs that listen in: what they get is what the leg gets that they follow, and nothing else.

use super::*;
use crate::leg::MAX_FOLLOWERS;

/// Follower `number` of `leader`, which need not play.
fn follow(pacer: &mut Pacer, now: MediaTime, number: u16, leader: u16) {
    let leg = LegId(u64::from(number));
    let own = LegSpec { payload_type: PayloadType::new(96).unwrap(), ..*spec(number) };
    pacer.handle_command(at(now), Command::AddLeg { leg, spec: Box::new(own) });
    pacer.handle_command(at(now), Command::Follow { leg, leader: LegId(u64::from(leader)) });
}

/// When, header and payload of every packet to `number`.
fn to(wire: &Wire, number: u16) -> Vec<(MediaTime, Header, Vec<u8>)> {
    let sent = wire.rtp.iter().filter(|(_, to, ..)| *to == destination(number));
    sent.map(|(at, _, header, payload)| (*at, *header, payload.clone())).collect()
}

/// The moments and payloads alone.
fn sound(wire: &Wire, number: u16) -> Vec<(MediaTime, Vec<u8>)> {
    to(wire, number).into_iter().map(|(at, _, payload)| (at, payload)).collect()
}

/// Its own numbers count by one and by the time that has passed, and the first is marked after each pause.
fn assert_well_numbered(packets: &[(MediaTime, Header, Vec<u8>)], number: u16) {
    for (_, header, _) in packets {
        assert_eq!(header.ssrc, Ssrc(0x1000 + u32::from(number)));
        assert_eq!(header.payload_type.number(), 96);
    }
    assert_eq!(packets[0].1.sequence, SeqNo(65_530));
    assert!(packets[0].1.marker, "the first");
    for pair in packets.windows(2) {
        let ((before_at, before, _), (at, header, _)) = (&pair[0], &pair[1]);
        assert_eq!(header.sequence, before.sequence.after(1));
        let units = u32::try_from(at.since(*before_at).as_nanos() * 48 / 1_000_000).unwrap();
        assert_eq!(header.timestamp, before.timestamp.after(units));
    }
}

fn play(pacer: &mut Pacer, now: MediaTime, number: u16, source: u64, frames: u8) {
    let leg = LegId(u64::from(number));
    let play = Command::Play { leg, music: music(source, frames), numbering: None, since: None };
    pacer.handle_command(at(now), play);
}

#[test]
fn a_follower_gets_the_same_payload_in_the_same_slot_from_the_next_tick_on() {
    let (mut pacer, mut wire) = (pacer(), Wire { now: MediaTime::from_millis(123), ..Wire::default() });
    for number in 0..5 {
        start(&mut pacer, wire.now, number);
    }
    run(&mut pacer, &mut wire, MediaTime::from_millis(333), punctual);
    let joined = wire.now;
    follow(&mut pacer, wire.now, 9, 3);
    follow(&mut pacer, wire.now, 10, 3);
    run(&mut pacer, &mut wire, MediaTime::from_millis(733), punctual);
    let leader: Vec<_> = sound(&wire, 3).into_iter().filter(|(at, _)| *at >= joined).collect();
    assert_eq!(leader.len(), 20);
    for number in [9, 10] {
        assert_eq!(sound(&wire, number), leader);
        assert_well_numbered(&to(&wire, number), number);
        assert_eq!(to(&wire, number).iter().filter(|(_, header, _)| header.marker).count(), 1);
    }
    assert_eq!(pacer.legs(), (7, 5), "a follower plays nothing itself");
}

#[test]
fn a_follower_hears_the_next_hold_too_and_nothing_between() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    pacer.handle_command(at(wire.now), Command::AddLeg { leg: LegId(1), spec: spec(1) });
    follow(&mut pacer, wire.now, 9, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
    for (begins, ends) in [(100, 300), (1_007, 1_307)] {
        run(&mut pacer, &mut wire, MediaTime::from_millis(begins), punctual);
        play(&mut pacer, wire.now, 1, 5, 50);
        run(&mut pacer, &mut wire, MediaTime::from_millis(ends), punctual);
        pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
    }
    run(&mut pacer, &mut wire, MediaTime::from_millis(2_000), punctual);
    assert_eq!(sound(&wire, 9), sound(&wire, 1));
    assert_well_numbered(&to(&wire, 9), 9);
    let marked = |number| -> Vec<usize> {
        let packets = to(&wire, number).into_iter().enumerate();
        packets.filter(|(_, (_, header, _))| header.marker).map(|(at, _)| at).collect()
    };
    assert_eq!(marked(9), [0, 10]);
    assert_eq!(marked(9), marked(1));
}

/// Changes of music with a bridge and without, announcements over music, and music that is not there yet.
#[test]
fn whatever_is_heard_is_heard_by_the_follower() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    follow(&mut pacer, wire.now, 9, 1);
    let leg = LegId(1);
    for (source, bridged) in [(20, true), (21, false)] {
        let until = wire.now + Duration::from_millis(200);
        run(&mut pacer, &mut wire, until, punctual);
        play(&mut pacer, wire.now, 1, source, 90);
        let bridge = bridged.then(|| Bridge { reader: music(8, 3).reader, frames: 3, codec: Codec::Opus });
        pacer.handle_command(at(wire.now), Command::Bridge { leg, source: SourceId(source), bridge });
        let announcement = announcement(source, 4);
        let until = wire.now + Duration::from_millis(300);
        run(&mut pacer, &mut wire, until, punctual);
        pacer.handle_command(at(wire.now), Command::Announce { leg, announcement });
    }
    let (mut writer, reader) = ring::closed(10);
    let slow = Music { source: SourceId(30), reader, is_default: false };
    pacer.handle_command(at(wire.now), Command::Play { leg, music: slow, numbering: None, since: None });
    pacer.handle_command(at(wire.now), Command::Bridge { leg, source: SourceId(30), bridge: None });
    let until = wire.now + Duration::from_millis(200);
    run(&mut pacer, &mut wire, until, punctual);
    writer.push(Frame::new(&[77])).unwrap();
    let until = wire.now + Duration::from_millis(100);
    run(&mut pacer, &mut wire, until, punctual);
    let heard = sound(&wire, 9);
    assert_eq!(heard, sound(&wire, 1));
    let nothing = Codec::Opus.nothing()[0];
    assert!(
        heard.iter().any(|(_, payload)| payload[0] == nothing)
            && heard.iter().any(|(_, payload)| payload[0] == 77)
    );
    assert_well_numbered(&to(&wire, 9), 9);
}

/// Between announcements that nobody is held for nothing is sent, and each begins marked, as at the leader.
#[test]
fn a_follower_pauses_with_its_leader() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let leg = LegId(1);
    pacer.handle_command(at(wire.now), Command::AddLeg { leg, spec: spec(1) });
    follow(&mut pacer, wire.now, 9, 1);
    for (id, frames, hushed) in [(1, 3, false), (2, 50, true), (3, 2, false)] {
        pacer.handle_command(at(wire.now), Command::Announce { leg, announcement: announcement(id, frames) });
        let until = wire.now + Duration::from_millis(200);
        run(&mut pacer, &mut wire, until, punctual);
        if hushed {
            pacer.handle_command(at(wire.now), Command::Hush { leg });
        }
        let until = wire.now + Duration::from_millis(200);
        run(&mut pacer, &mut wire, until, punctual);
    }
    assert_eq!(sound(&wire, 9), sound(&wire, 1));
    let markers = |number| to(&wire, number).iter().map(|(_, header, _)| header.marker).collect::<Vec<_>>();
    assert_eq!(markers(9), markers(1));
    assert_eq!(markers(9).iter().filter(|marker| **marker).count(), 3);
    assert_well_numbered(&to(&wire, 9), 9);
}

/// A sender that stops for half a second skips for both; one that is a little late sends both late.
#[test]
fn late_and_skipped_ticks_are_late_and_skipped_for_both() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    start(&mut pacer, wire.now, 1);
    follow(&mut pacer, wire.now, 9, 1);
    run(&mut pacer, &mut wire, MediaTime::from_millis(3_000), |due| {
        let stops = due.as_nanos() / TICK_NS == 50;
        Duration::from_millis(if stops { 500 } else { due.as_nanos() / TICK_NS % 17 })
    });
    let (leader, follower) = (to(&wire, 1), to(&wire, 9));
    assert_eq!(sound(&wire, 9), sound(&wire, 1));
    assert!(leader.len() > 100 && leader.len() < 130, "{}", leader.len());
    let steps = |packets: &[(MediaTime, Header, Vec<u8>)]| -> Vec<u32> {
        packets.windows(2).map(|pair| pair[1].1.timestamp.0.wrapping_sub(pair[0].1.timestamp.0)).collect()
    };
    assert_eq!(steps(&follower), steps(&leader));
    assert!(follower.windows(2).all(|pair| pair[1].1.sequence == pair[0].1.sequence.after(1)));
}

/// What the network refuses to one costs the other nothing, and the music of both goes on with time.
#[test]
fn refusals_of_one_do_not_touch_the_other() {
    for (refused, other) in [(1, 9), (9, 1)] {
        let (mut pacer, mut wire) = (pacer(), Wire::default());
        play_and_follow(&mut pacer, wire.now);
        run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
        wire.refuses.push(destination(refused));
        run(&mut pacer, &mut wire, MediaTime::from_millis(200), punctual);
        wire.refuses.clear();
        run(&mut pacer, &mut wire, MediaTime::from_millis(400), punctual);
        let numbers = |number| sound(&wire, number).iter().map(|(_, payload)| payload[0]).collect::<Vec<_>>();
        assert_eq!(numbers(other), (0..20).collect::<Vec<_>>());
        assert_eq!(numbers(refused), (0..5).chain(10..20).collect::<Vec<_>>());
        let packets = to(&wire, refused);
        assert!(packets.windows(2).all(|pair| pair[1].1.sequence == pair[0].1.sequence.after(1)));
        assert_eq!(packets[5].1.timestamp.0.wrapping_sub(packets[4].1.timestamp.0), 6 * 960);
        assert_eq!(packets.iter().filter(|(_, header, _)| header.marker).count(), 1);
    }
}

fn play_and_follow(pacer: &mut Pacer, now: MediaTime) {
    pacer.handle_command(at(now), Command::AddLeg { leg: LegId(1), spec: spec(1) });
    play(pacer, now, 1, 5, 100);
    follow(pacer, now, 9, 1);
}

#[test]
fn a_follower_reports_says_goodbye_and_hears_goodbyes_as_every_leg_does() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    play_and_follow(&mut pacer, wire.now);
    run(&mut pacer, &mut wire, MediaTime::from_millis(60_000), punctual);
    let reports: Vec<_> = wire.rtcp.iter().filter(|(_, to, _)| *to == destination(9)).collect();
    assert!((8..=25).contains(&reports.len()), "{} reports a minute", reports.len());
    let packets = to(&wire, 9);
    for (sent, _, datagram) in reports {
        assert_eq!(datagram[4..8], 0x1009_u32.to_be_bytes());
        let timestamp = u32::from_be_bytes(datagram[16..20].try_into().unwrap());
        let before = packets.iter().filter(|(at, ..)| at < sent).count();
        assert_eq!(timestamp, packets[before].1.timestamp.0);
        let told = u32::from_be_bytes(datagram[20..24].try_into().unwrap());
        assert_eq!(told as usize, before);
    }
    // Also while nothing is sent; and told once.
    pacer.handle_command(at(wire.now), Command::Stop { leg: LegId(1) });
    for _ in 0..3 {
        pacer.handle_datagram(at(wire.now), destination(9), &bare_bye(4));
    }
    assert_eq!(byes(&mut pacer), [9]);
    wire.rtcp.clear();
    pacer.handle_command(at(wire.now), Command::RemoveLeg { leg: LegId(9) });
    pacer.send_goodbyes(&mut wire);
    let mut words = vec![];
    rtcp::read(&wire.rtcp[0].2, |word| words.push(word));
    assert_eq!(words, [Word::Bye(Ssrc(0x1009))]);
}

#[test]
fn a_dead_listener_is_told_and_its_leader_is_not() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    play_and_follow(&mut pacer, wire.now);
    run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
    let unreachable = (0..=10).flat_map(|second| {
        pacer.handle_unreachable(MediaTime::from_millis(second * 1000), destination(9));
        std::iter::from_fn(|| pacer.poll_event()).collect::<Vec<_>>()
    });
    let told: Vec<_> = unreachable.filter(|event| matches!(event, Event::Unreachable { .. })).collect();
    assert!(matches!(told[..], [Event::Unreachable { leg: LegId(9) }]), "{told:?}");
}

/// Its payloads would not be what was negotiated with the follower.
#[test]
fn a_follower_is_silent_while_the_codecs_differ() {
    let Some(&other) = Codec::ALL.iter().find(|codec| **codec != Codec::Opus) else { return };
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    play_and_follow(&mut pacer, wire.now);
    for (until, codec) in [(100, other), (300, Codec::Opus), (500, Codec::Opus)] {
        run(&mut pacer, &mut wire, MediaTime::from_millis(until), punctual);
        let spec = Box::new(LegSpec { codec, ..*spec(1) });
        pacer.handle_command(at(wire.now), Command::ChangeLeg { leg: LegId(1), spec });
    }
    let packets = to(&wire, 9);
    assert_eq!(packets.len(), 15);
    let marked: Vec<_> = packets.iter().map(|(_, header, _)| header.marker).collect();
    assert_eq!(marked.iter().filter(|marked| **marked).count(), 2);
    assert!(marked[5]);
}

#[test]
fn who_unfollows_or_loses_its_leader_gets_nothing_more() {
    for command in [
        Command::Unfollow { leg: LegId(9) },
        Command::RemoveLeg { leg: LegId(9) },
        Command::RemoveLeg { leg: LegId(1) },
    ] {
        let (mut pacer, mut wire) = (pacer(), Wire::default());
        play_and_follow(&mut pacer, wire.now);
        run(&mut pacer, &mut wire, MediaTime::from_millis(100), punctual);
        let removed = matches!(command, Command::RemoveLeg { leg: LegId(1) });
        let said = format!("{command:?}");
        pacer.handle_command(at(wire.now), command);
        let was = to(&wire, 9).len();
        if removed {
            // A leg of the same name is another one.
            pacer.handle_command(at(wire.now), Command::AddLeg { leg: LegId(1), spec: spec(1) });
            play(&mut pacer, wire.now, 1, 5, 100);
        }
        run(&mut pacer, &mut wire, MediaTime::from_millis(300), punctual);
        assert_eq!((was, to(&wire, 9).len()), (5, 5), "{said}");
        assert!(to(&wire, 1).len() >= 15, "{said}");
        assert_eq!(pacer.followers, [0; SLOTS], "{said}");
    }
}

#[test]
fn nobody_follows_itself_a_follower_one_leg_too_many_or_while_it_plays() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    let number = |index: usize| u16::try_from(100 + index).unwrap();
    play_and_follow(&mut pacer, wire.now);
    for index in 1..MAX_FOLLOWERS + 3 {
        follow(&mut pacer, wire.now, number(index), 1);
    }
    follow(&mut pacer, wire.now, 50, 50);
    follow(&mut pacer, wire.now, 51, 9);
    follow(&mut pacer, wire.now, 52, 999);
    start(&mut pacer, wire.now, 53);
    pacer.handle_command(at(wire.now), Command::Follow { leg: LegId(53), leader: LegId(1) });
    // Neither does a follower play for itself.
    play(&mut pacer, wire.now, 9, 6, 9);
    let leg = LegId(9);
    pacer.handle_command(at(wire.now), Command::Announce { leg, announcement: announcement(1, 3) });
    pacer.handle_command(at(wire.now), Command::Stop { leg });
    run(&mut pacer, &mut wire, MediaTime::from_millis(200), punctual);
    let leader = sound(&wire, 1);
    assert_eq!(leader.len(), 10);
    let following: Vec<_> = (1..MAX_FOLLOWERS).map(number).chain([9]).collect();
    assert!(following.iter().all(|number| sound(&wire, *number) == leader));
    for silent in [number(MAX_FOLLOWERS), number(MAX_FOLLOWERS + 1), 50, 51, 52] {
        assert_eq!(to(&wire, silent), [], "{silent}");
    }
    assert_eq!(pacer.followers.iter().sum::<usize>(), MAX_FOLLOWERS);
}

/// As many as there may be, with reports and refusals, while holds begin and end.
#[test]
fn nothing_is_allocated_or_freed_for_followers_from_waking_until_everything_is_settled() {
    let (mut pacer, mut wire) = (pacer(), Wire::default());
    for number in 0..20 {
        start(&mut pacer, wire.now, number);
        for follower in 0..8 {
            follow(&mut pacer, wire.now, 100 + 8 * number + follower, number);
        }
    }
    let mut copies = 0;
    for round in 0..4_000 {
        let (leg, now) = (round % 20, wire.now);
        match round % 50 {
            0 => pacer.handle_command(at(now), Command::Stop { leg: LegId(leg) }),
            25 => play(&mut pacer, now, u16::try_from(leg).unwrap(), 3 + round, 30),
            30 => {
                let announcement = announcement(round, 1 + round % 4);
                pacer.handle_command(at(now), Command::Announce { leg: LegId(leg), announcement });
            }
            _ => {}
        }
        while pacer.poll_event().is_some() {}
        wire.now = wire.now.max(pacer.prepare(at(wire.now)));
        let measured = allocation_counter::measure(|| {
            pacer.send(wire.now, &mut Nowhere);
            copies += pacer.settle(wire.now, wire.now).packets;
        });
        assert_eq!((measured.count_total, measured.count_current), (0, 0), "round {round}");
    }
    assert!(copies > 50_000, "{copies}");
}
