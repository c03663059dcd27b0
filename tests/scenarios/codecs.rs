//! Telephones of every kind in one call: each hears the same in its own codec, and one that changes its codec goes on.

use std::time::Duration;

use holdmusic_codecs::{Codec, Pcm, resample};
use holdmusic_media::{MediaTime, time::ClockRate};
use holdmusic_tests::{Likeness, Member, World, codec_of};
use serde_json::json;

use crate::stage::{
    DEFAULT_FILE, DONE, MUSIC, MUSIC_FILE, beginning, fill, hold, newcomer, no_rules, one, result, seconds,
};

/// All that a telephone may have without asking for anything special, but that some take no packets of 20 ms.
const CODECS: [Codec; 10] = [
    Codec::Opus,
    Codec::G722,
    Codec::L16,
    Codec::Pcma,
    Codec::Pcmu,
    Codec::OpusShort,
    Codec::G722Short,
    Codec::L16Short,
    Codec::PcmaShort,
    Codec::PcmuShort,
];

/// What the phone of `member` heard from `from` on, for `length`, is the beginning of a recording.
#[track_caller]
fn assert_hears(world: &World, member: &Member, (from, length): (MediaTime, Duration), file: &str) {
    let heard = world.phone(member.phone).sound_between(from, from + length + seconds(0.04));
    let expected = beginning(file, length);
    let found = Likeness::of(&expected, &resample(&heard, expected.rate()));
    // A telephone has half of the band.
    assert!(found.correlation > 0.88, "{file}: {found:?}");
    assert!((0.0..=40.0).contains(&found.offset_ms), "{file}: {found:?}");
    assert!(found.louder_lu.abs() < 3.0, "{file}: {found:?}");
}

/// Nobody is ever sent bytes that his payload type does not say.
#[track_caller]
fn assert_every_payload_is_what_its_type_says(world: &World) {
    for sent in &world.taps().rtp {
        let codec = codec_of(sent.header.payload_type.number());
        let len = codec.payload_len(&Default::default());
        let fits = sent.payload.len() == len || sent.payload == codec.nothing();
        assert!(fits, "{} bytes of {codec:?} at {:?}", sent.payload.len(), sent.at);
    }
}

#[test]
fn telephones_of_every_kind_hear_the_same_each_in_its_codec() {
    let (mut world, call, first) = one(901, json!({ "maxHeldParticipants": 20 }));
    let mut members = vec![first];
    // Two of each.
    members.extend((0..19).map(|_| newcomer(&mut world, &call)));
    for (member, codec) in members.iter().zip(CODECS.iter().cycle()) {
        world.recode(member, *codec).expect(200);
    }
    let began = world.now();
    let operations: Vec<_> = members.iter().map(|member| hold(&mut world, member, Some(MUSIC))).collect();
    world.run(seconds(5.0));
    assert_eq!(world.preparations(), CODECS.len(), "once for each codec");
    for (member, operation) in members.iter().zip(operations) {
        assert_eq!(result(&world.operation(&member.call, &operation)), DONE);
        let flow = world.taps().flow(member.ssrc);
        assert!(flow.is_one_piece(), "{flow:?}");
        let first = world.phone(member.phone).first_after(began).unwrap().at;
        assert!(first.since(began) < seconds(0.3), "{:?}", first.since(began));
        assert_hears(&world, member, (first, seconds(4.0)), MUSIC_FILE);
    }
    assert_every_payload_is_what_its_type_says(&world);
}

#[test]
fn default_music_is_there_at_once_in_every_codec() {
    let (mut world, call, first) = one(902, json!({ "maxHeldParticipants": 10 }));
    let mut members = vec![first];
    members.extend((0..9).map(|_| newcomer(&mut world, &call)));
    for (member, codec) in members.iter().zip(CODECS) {
        world.recode(member, codec).expect(200);
        let began = world.now();
        hold(&mut world, member, None);
        world.run(seconds(3.5));
        let first = world.phone(member.phone).first_after(began).unwrap().at;
        assert!(first.since(began) < seconds(0.02), "{codec:?}: {:?}", first.since(began));
        assert_hears(&world, member, (first, seconds(3.0)), DEFAULT_FILE);
    }
    assert_eq!(world.preparations(), 0);
    assert_every_payload_is_what_its_type_says(&world);
}

/// Through all codecs in the middle of a hold, twice: the first time default music fills in until the prompt is there,
/// the second time the prompt goes on in its place.
#[test]
fn a_leg_that_changes_its_codec_in_the_middle_of_a_hold_goes_on() {
    let (mut world, _, alice) = one(903, no_rules());
    hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(1.0));
    for codec in CODECS.into_iter().rev() {
        world.recode(&alice, codec).expect(200);
        world.run(seconds(1.0));
    }
    assert_eq!(world.preparations(), CODECS.len());
    world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    let began = world.now();
    hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(1.0));
    let codecs = [Codec::PcmaShort, Codec::Pcma, Codec::OpusShort, Codec::L16, Codec::L16Short, Codec::Opus];
    for codec in codecs {
        let from = world.now();
        world.recode(&alice, codec).expect(200);
        world.run(seconds(1.0));
        let numbers = world.phone(alice.phone).arrivals.iter().filter(|arrival| arrival.at >= from);
        let kinds: Vec<_> = numbers.map(|arrival| codec_of(arrival.header.payload_type.number())).collect();
        let late = kinds.iter().take_while(|kind| **kind != codec).count();
        assert!(late <= 1 && kinds[late..].iter().all(|kind| *kind == codec), "{codec:?}: {kinds:?}");
    }
    let flow = world.taps().flow(alice.ssrc);
    assert_eq!(flow.markers.len(), 2, "one for each hold");
    assert!(flow.jumps.len() == 1, "while it was not on hold: {flow:?}");
    assert_every_payload_is_what_its_type_says(&world);
    // Each codec has a delay of its own, so each second is looked at by itself: it is that second of the music.
    let first = world.phone(alice.phone).first_after(began).unwrap().at;
    let whole = beginning(MUSIC_FILE, seconds(7.0));
    for second in 0..7_u32 {
        let from = first + seconds(f64::from(second) + 0.1);
        let heard = world.phone(alice.phone).sound_between(from, from + seconds(0.8));
        let at = |s: f64| ((f64::from(second) + s) * f64::from(whole.rate())) as usize;
        let expected = Pcm::new(whole.rate(), 1, whole.samples()[at(0.16)..at(0.84)].to_vec());
        let found = Likeness::of(&expected, &resample(&heard, whole.rate()));
        assert!(found.correlation > 0.88, "second {second}: {found:?}");
        assert!((40.0..=90.0).contains(&found.offset_ms), "second {second}: {found:?}");
    }
}

#[test]
fn an_announcement_is_heard_by_each_in_its_codec_and_completes_after_the_last() {
    let (mut world, call, first) = one(904, no_rules());
    let other = newcomer(&mut world, &call);
    world.recode(&other, Codec::Pcma).expect(200);
    let reply = world.play_prompt(&call, &[MUSIC], &[]);
    let operation = reply.expect(200).id().to_owned();
    let over = world.ended_within(&call.path, &operation, seconds(15.0));
    assert_eq!(result(&over), DONE);
    world.run(seconds(0.1));
    assert_eq!(world.preparations(), 2);
    for member in [&first, &other] {
        let from = world.phone(member.phone).arrivals[0].at;
        assert_eq!(world.phone(member.phone).arrivals.len(), 480);
        assert_hears(&world, member, (from, seconds(9.0)), MUSIC_FILE);
    }
    assert_every_payload_is_what_its_type_says(&world);
}

#[test]
fn after_a_crash_each_leg_goes_on_in_its_codec_from_what_was_kept() {
    let (mut world, call, first) = one(905, json!({ "maxHeldParticipants": 10 }));
    fill(&mut world);
    let other = newcomer(&mut world, &call);
    let third = newcomer(&mut world, &call);
    world.recode(&other, Codec::Pcmu).expect(200);
    for member in [&first, &other, &third] {
        hold(&mut world, member, Some(MUSIC));
    }
    world.run(seconds(1.0));
    // In mid-hold, so that other clocks and other packets are counted together.
    world.recode(&third, Codec::PcmuShort).expect(200);
    world.run(seconds(3.0));
    let before = world.preparations();
    world.crash(seconds(1.0));
    world.run(seconds(4.0));
    assert_eq!(world.preparations(), before, "nothing is prepared again");
    for (member, codec) in [(&first, Codec::Opus), (&other, Codec::Pcmu), (&third, Codec::PcmuShort)] {
        let last = world.phone(member.phone).arrivals.last().unwrap();
        assert_eq!(codec_of(last.header.payload_type.number()), codec);
        assert!(world.now().since(last.at) < seconds(0.05));
        // Its timestamps go on where they would be (a sender wakes late by less than a millisecond), and neither its numbers
        // nor they are a jump for a receiver: 50 ms, and where the clock changed a packet of the faster one.
        let flow = world.taps().rtp.iter().filter(|sent| sent.header.ssrc == member.ssrc);
        let headers: Vec<_> = flow.map(|sent| (sent.at, sent.header, codec)).collect();
        for pair in headers.windows(2) {
            let ((before_at, before, _), (at, after, _)) = (pair[0], pair[1]);
            let passed = at.since(before_at);
            let codec = codec_of(after.payload_type.number());
            let units = after.timestamp.0.wrapping_sub(before.timestamp.0);
            let late = i64::from(units) - i64::from(ClockRate(codec.clock_rate()).units(passed));
            let rate = i64::from(codec.clock_rate());
            assert!((-rate / 1000..=rate / 20 + 960).contains(&late), "{codec:?}: {late} units");
            let packets = i64::from(after.sequence.0.wrapping_sub(before.sequence.0));
            assert!((1..=200).contains(&packets), "{codec:?}: {packets}");
        }
    }
    assert_every_payload_is_what_its_type_says(&world);
}
