//! Sequence, timestamp and marker: what a receiver counts must add up, whatever happens behind it.

use std::time::Duration;

use holdmusic_media::rtp::SeqNo;
use holdmusic_tests::{Flow, World, silences};
use serde_json::json;

use crate::stage::{MUSIC, SPEECH, fill, hold, newcomer, no_rules, one, seconds, state};

#[test]
fn over_many_loops_each_packet_follows_the_one_before() {
    let (mut world, _, alice) = one(101, no_rules());
    world.shelf.put("https://prompts.test/short.wav", &holdmusic_tests::asset("fixtures/kinds/pcm-16.wav"));
    hold(&mut world, &alice, Some("https://prompts.test/short.wav"));
    world.run(seconds(60.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
    assert!((2998..=3000).contains(&flow.packets), "{flow:?}");
    let types: Vec<_> = world.taps().rtp.iter().map(|sent| sent.header.payload_type.number()).collect();
    assert!(types.iter().all(|&number| number == 111));
}

#[test]
fn no_packet_leaves_after_a_stop_and_the_next_hold_goes_on_with_number_and_time() {
    let (mut world, _, alice) = one(102, no_rules());
    let mut away = seconds(0.017);
    for _ in 0..6 {
        hold(&mut world, &alice, Some(MUSIC));
        world.run(seconds(1.234));
        let stopped = world.stop(&alice).expect(202);
        assert_eq!(stopped.text("status"), "completed");
        assert!(stopped.body["resultInfo"].is_null());
        let (sent, now) = (world.taps().rtp.len(), world.now());
        world.run(away);
        assert_eq!(world.taps().rtp.len(), sent, "silence after the stop at {now:?}");
        away *= 4;
    }
    let packets = world.taps().of(alice.ssrc);
    let flow = Flow::of(&packets);
    assert_eq!(flow.markers.len(), 6, "one at the beginning of each hold");
    // Wherever the timestamp jumps there is a marker, and it jumps by the time that passed.
    for (index, step) in flow.jumps {
        assert!(flow.markers.contains(&index));
        let passed = packets[index].at.since(packets[index - 1].at).as_secs_f64();
        let counted = f64::from(step) / 48_000.0;
        assert!((passed - counted).abs() < 0.001, "{passed} s passed, {counted} s were counted");
    }
}

#[test]
fn another_prompt_in_mid_hold_is_a_change_of_music_and_nothing_else() {
    let (mut world, _, alice) = one(103, no_rules());
    let first = hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(3.0));
    let second = hold(&mut world, &alice, Some(SPEECH));
    assert_ne!(first, second);
    world.run(seconds(3.0));
    hold(&mut world, &alice, None);
    world.run(seconds(3.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
    assert_eq!(world.counts().starts_completed, 3);
    assert_eq!(state(&mut world, &alice)["source"], "default");
}

/// Producers that are busy make no bridge in time: then the change is a plain one, and not waited for.
#[test]
fn a_change_of_music_waits_for_nobody() {
    for bridging in [0, 8, 159, 161, 2_000] {
        let mut world = World::with(111, |settings| settings.bridging = Duration::from_millis(bridging));
        fill(&mut world);
        let call = world.call(no_rules());
        let alice = newcomer(&mut world, &call);
        hold(&mut world, &alice, Some(MUSIC));
        world.run(seconds(2.0));
        let second = hold(&mut world, &alice, Some(SPEECH));
        let asked = world.now();
        world.ended_within(&call.path, &second, seconds(1.0));
        let took = world.now().since(asked);
        assert!(took <= Duration::from_millis(300), "{bridging} ms for a bridge: {took:?}");
        // A change within a change, and one back.
        hold(&mut world, &alice, None);
        world.run(Duration::from_millis(50));
        hold(&mut world, &alice, Some(MUSIC));
        world.run(seconds(3.0));
        let flow = world.taps().flow(alice.ssrc);
        assert!(flow.is_one_piece(), "{flow:?}");
        assert_eq!(silences(&world.phone(alice.phone).decode().sound, 700), []);
        world.stop(&alice).expect(202);
    }
}

#[test]
fn a_new_address_in_mid_hold_is_a_new_address_and_nothing_else() {
    let (mut world, _, alice) = one(104, no_rules());
    hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(2.0));
    let moved_to = world.new_phone();
    let leg = world.move_leg(&alice, moved_to).expect(200);
    assert_eq!(leg.body["ssrc"].as_u64(), Some(u64::from(alice.ssrc.0)));
    let moved_at = world.now();
    world.run(seconds(2.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
    let late = world.taps().to(alice.phone).into_iter().filter(|sent| sent.at > moved_at).count();
    assert_eq!(late, 0, "nothing goes to the old address any more");
    assert!(world.taps().to(moved_to).len() >= 99);
    assert!(!world.phone(moved_to).arrivals[0].header.marker);
}

/// A thread that got no time for half a second: what is missed is skipped, in one piece, and counted.
#[test]
fn a_stalled_sender_makes_one_jump_of_the_timestamp() {
    let (mut world, _, alice) = one(105, no_rules());
    hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(2.0));
    world.stall(0, Duration::from_millis(500));
    world.run(seconds(2.0));
    let flow = world.taps().flow(alice.ssrc);
    let [(_, step)] = flow.jumps[..] else { panic!("one jump, found {flow:?}") };
    assert!(step % 960 == 0 && (24..=26).contains(&(step / 960)), "{step}");
    assert_eq!(flow.markers, [0]);
    let stopped = world.stop(&alice).expect(202);
    assert_eq!(stopped.body["holdMusic"]["report"]["skippedTicks"], step / 960 - 1);
}

/// Less than a packet interval late is late, not lost.
#[test]
fn a_hiccup_shorter_than_a_packet_interval_skips_nothing() {
    let (mut world, _, alice) = one(106, no_rules());
    hold(&mut world, &alice, None);
    for _ in 0..50 {
        world.run(seconds(0.333));
        world.stall(0, Duration::from_millis(18));
    }
    let flow = world.taps().flow(alice.ssrc);
    assert_eq!((flow.jumps.len(), flow.markers.len()), (0, 1), "{flow:?}");
}

#[test]
fn what_a_stop_hands_back_another_engine_goes_on_with() {
    let (mut one_engine, _, alice) = one(107, no_rules());
    hold(&mut one_engine, &alice, None);
    one_engine.run(seconds(3.0));
    let stopped = one_engine.stop(&alice).expect(202);
    let state = &stopped.body["holdMusic"]["rtpState"];
    let last = one_engine.taps().of(alice.ssrc).last().copied().cloned().unwrap();

    // All worlds begin at the same moment of the calendar; this one takes over 1.5 s after the stop.
    let mut other = World::new(108);
    let call = other.call(no_rules());
    let heir = newcomer(&mut other, &call);
    other.run(seconds(4.5));
    let body = json!({ "holdMusic": { "rtpState": state } });
    other.http("POST", &format!("{}/startHoldMusic", heir.path), body).expect(202);
    other.run(seconds(1.0));
    let packets = other.taps().to(heir.phone);
    let first = &packets[0].header;
    assert_eq!((first.ssrc, first.sequence), (alice.ssrc, last.header.sequence.after(1)));
    let counted = f64::from(first.timestamp.0.wrapping_sub(last.header.timestamp.0)) / 48_000.0;
    assert!((counted - 1.52).abs() < 0.05, "{counted} s");
    assert!(Flow::of(&packets).packets >= 49);
}

#[test]
fn a_packet_that_the_network_refused_costs_no_number() {
    let (mut world, _, alice) = one(109, no_rules());
    hold(&mut world, &alice, None);
    world.run(seconds(1.0));
    let refused = holdmusic_tests::Path { refused: true, ..Default::default() };
    world.set_path(alice.phone, refused);
    world.run(seconds(0.5));
    world.set_path(alice.phone, Default::default());
    world.run(seconds(1.0));
    let flow = world.taps().flow(alice.ssrc);
    assert_eq!(flow.jumps.len(), 1, "{flow:?}");
    assert_eq!(flow.jumps[0].1 % 960, 0);
}

#[test]
fn numbers_are_random_and_differ_from_leg_to_leg() {
    let (mut world, call, alice) = one(110, json!({ "maxHeldParticipants": 9 }));
    let mut members = vec![alice];
    members.extend((0..8).map(|_| newcomer(&mut world, &call)));
    for member in &members {
        hold(&mut world, member, None);
    }
    world.run(seconds(0.1));
    let firsts: Vec<SeqNo> =
        members.iter().map(|member| world.taps().of(member.ssrc)[0].header.sequence).collect();
    assert!(firsts.windows(2).any(|pair| pair[0] != pair[1]), "{firsts:?}");
    let sources: std::collections::BTreeSet<_> = members.iter().map(|member| member.ssrc).collect();
    assert_eq!(sources.len(), 9);
}
