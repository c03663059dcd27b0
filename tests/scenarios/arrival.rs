//! Prompts that are heard while they still arrive, and what becomes of them when they do not.

use std::time::Duration;

use holdmusic_codecs::{DecodeLimits, Pcm, decode};
use holdmusic_media::MediaTime;
use holdmusic_tests::{End, Likeness, Member, World, asset, reference, silences};
use serde_json::json;

use crate::stage::{
    DEFAULT_FILE, DONE, MUSIC_FILE, assert_hears, hold, hold_and_wait, newcomer, no_rules, one, result,
    seconds, state,
};

const URL: &str = "https://prompts.test/long.wav";

/// A minute of music that nobody else plays: the default music backwards.
fn minute() -> Vec<u8> {
    let music = decode(&asset(DEFAULT_FILE), &DecodeLimits::default()).unwrap().pcm;
    let samples = music.samples().iter().rev().take(60 * 16_000);
    let data: Vec<u8> = samples.flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes()).collect();
    let len = u32::try_from(data.len()).unwrap();
    let mut wav = [b"RIFF".as_slice(), &(36 + len).to_le_bytes()].concat();
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    wav.extend(len.to_le_bytes());
    wav.extend(data);
    wav
}

/// That from `from` on `member` heard `expected`, five seconds by five seconds, each in its place.
#[track_caller]
fn assert_heard(world: &World, member: &Member, from: MediaTime, expected: &Pcm) {
    const WINDOW: usize = 5 * 16_000;
    let length = seconds(expected.seconds() + 0.04);
    let heard = world.phone(member.phone).sound_between(from, from + length);
    for (index, window) in expected.samples().chunks_exact(WINDOW).enumerate() {
        let end = heard.len().min((index + 1) * WINDOW + 640);
        let here = Pcm::new(16_000, 1, heard.samples()[index * WINDOW..end].to_vec());
        let found = Likeness::of(&Pcm::new(16_000, 1, window.to_vec()), &here);
        assert!(found.correlation > 0.95, "window {index}: {found:?}");
        assert!((0.0..=40.0).contains(&found.offset_ms), "window {index}: {found:?}");
    }
}

/// Six times as fast as it is heard: begun within the grace time, and over two laps nothing is missing.
#[test]
fn a_minute_that_arrives_over_ten_seconds_is_heard_at_once_and_loops_without_a_flaw() {
    let (mut world, _, alice) = one(701, no_rules());
    let clip = minute();
    world.shelf.put_in_pieces(URL, &clip, seconds(10.0), End::Whole);
    let asked = world.now();
    let over = hold_and_wait(&mut world, &alice, Some(URL));
    assert_eq!((result(&over), &over["holdMusic"]["source"]), (DONE, &json!("customPrompt")));
    assert!(world.now().since(asked) <= Duration::from_millis(300));
    world.run(seconds(125.0));
    let first = world.phone(alice.phone).arrivals[0].at;
    assert_heard(&world, &alice, first, &reference(&clip, 2));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
    let decoded = world.phone(alice.phone).decode();
    assert_eq!(decoded.concealed_s, 0.0);
    assert_eq!(silences(&decoded.sound, 300), []);
    assert_eq!(world.stop(&alice).body["holdMusic"]["report"]["defaultMusicMs"], 0);
    assert_eq!(world.underway(), 0, "the loop is closed");
}

/// The gain of the beginning is kept for the play that began with it; the next one has that of the whole.
#[test]
fn a_second_play_has_the_gain_of_the_whole() {
    let (mut world, call, alice) = one(702, json!({ "maxHeldParticipants": 2 }));
    let clip = minute();
    let (head, sound) = clip.split_at(44);
    let quiet = sound.chunks_exact(2).enumerate().flat_map(|(n, sample)| {
        let sample = i16::from_le_bytes([sample[0], sample[1]]);
        // The first eight seconds, 20 dB down.
        (if n < 8 * 16_000 { sample / 10 } else { sample }).to_le_bytes()
    });
    let clip: Vec<u8> = head.iter().copied().chain(quiet).collect();
    world.shelf.put_in_pieces(URL, &clip, seconds(10.0), End::Whole);
    let gain = |over: &serde_json::Value| over["holdMusic"]["gainDb"].as_f64().unwrap();
    let first = gain(&hold_and_wait(&mut world, &alice, Some(URL)));
    world.run(seconds(15.0));
    let bob = newcomer(&mut world, &call);
    let second = gain(&hold_and_wait(&mut world, &bob, Some(URL)));
    assert!(first - second > 3.0, "{first} and {second} dB");
    assert_eq!(world.shelf.fetches(URL), 1);
    world.run(seconds(30.0));
    // Both are 22 s and more into the same music, at the two gains.
    let loudness = |world: &World, member: &Member| {
        let begun = world.phone(member.phone).arrivals[0].at;
        let sound = world.phone(member.phone).sound_between(begun + seconds(20.0), begun + seconds(28.0));
        holdmusic_codecs::loudness_lufs(&sound).unwrap()
    };
    let louder = loudness(&world, &alice) - loudness(&world, &bob);
    assert!((louder - (first - second)).abs() < 1.5, "{louder} LU, {first} and {second} dB");
    assert!(world.taps().flow(alice.ssrc).is_one_piece() && world.taps().flow(bob.ssrc).is_one_piece());
}

/// The origin sends half of it and then nothing: what came is heard, then default music; the operation, which had
/// completed, stays so, and the reason is told.
#[test]
fn an_origin_that_stalls_in_the_middle_is_followed_by_default_music_and_named() {
    for rules in [no_rules(), json!({ "onPromptFailure": "fail" })] {
        let (mut world, call, alice) = one(703, rules);
        let clip = minute();
        let reason = "prompts.test sent nothing for too long".to_owned();
        let end = End::BreaksOff { at: clip.len() / 2, reason, after: seconds(5.0) };
        world.shelf.put_in_pieces(URL, &clip, seconds(10.0), end);
        let operation = hold(&mut world, &alice, Some(URL));
        let over = world.ended_within(&alice.call, &operation, seconds(1.0));
        assert_eq!(result(&over), DONE);
        // It broke off after five seconds, and was given up after ten.
        world.run(seconds(9.0));
        assert_eq!(state(&mut world, &alice)["source"], "customPrompt");
        world.run(seconds(1.0));
        let changed = world.now();
        world.run(seconds(5.0));
        let now = state(&mut world, &alice);
        assert_eq!((&now["state"], &now["source"]), (&json!("playing"), &json!("default")), "{now}");
        let first = world.phone(alice.phone).arrivals[0].at;
        let whole = reference(&clip, 1);
        assert_heard(&world, &alice, first, &Pcm::new(16_000, 1, whole.samples()[..9 * 16_000].to_vec()));
        let heard = world.phone(alice.phone).sound_between(changed + seconds(0.5), changed + seconds(4.5));
        let found = Likeness::of(&heard, &reference(&asset(DEFAULT_FILE), 1));
        assert!(found.correlation > 0.9, "{found:?}");
        let flow = world.taps().flow(alice.ssrc);
        assert!(flow.is_one_piece(), "{flow:?}");
        let after = world.operation(&alice.call, &operation);
        assert_eq!((&after["status"], result(&after)), (&json!("completed"), DONE));
        assert_eq!(world.customer(&call).ends_of(&operation).len(), 1);
        assert_eq!(world.underway(), 0);
    }
}

/// It stalls when only little more has come than was heard: half a second of silence, not the five that the door would
/// wait.
#[test]
fn a_prompt_that_runs_dry_is_followed_by_default_music_at_once() {
    let (mut world, _, alice) = one(707, no_rules());
    let clip = minute();
    let end = End::BreaksOff { at: clip.len() / 15, reason: "never told".to_owned(), after: seconds(5.0) };
    world.shelf.put_in_pieces(URL, &clip, seconds(30.0), end);
    hold(&mut world, &alice, Some(URL));
    world.run(seconds(4.0));
    let now = state(&mut world, &alice);
    assert_eq!(now["source"], "customPrompt", "{now}");
    world.run(seconds(1.6));
    let now = state(&mut world, &alice);
    assert_eq!((&now["state"], &now["source"]), (&json!("playing"), &json!("default")), "{now}");
    assert!(now["report"]["reason"].to_string().contains("more slowly than it was heard"), "{now}");
    world.run(seconds(5.0));
    assert!(world.taps().flow(alice.ssrc).is_one_piece());
    let starved = world.stop(&alice).body["holdMusic"]["report"]["starvedTicks"].as_u64().unwrap();
    assert!((1..=30).contains(&starved), "{starved}");
}

/// Half of what it declared, and nobody had heard any of it.
#[test]
fn an_origin_that_breaks_off_before_anything_is_heard_is_a_prompt_that_failed() {
    let (mut world, _, alice) = one(704, no_rules());
    let clip = asset(MUSIC_FILE);
    let end = End::BreaksOff {
        at: 3_000,
        reason: "307244 bytes were declared, 3000 came".into(),
        after: seconds(0.1),
    };
    world.shelf.put_in_pieces(URL, &clip, seconds(0.1), end);
    assert_eq!(result(&hold_and_wait(&mut world, &alice, Some(URL))), (200, 8536));
    world.run(seconds(2.0));
    let first = world.phone(alice.phone).arrivals[0].at;
    assert_hears(&world, &alice, first, seconds(1.5), DEFAULT_FILE);
}

/// A stop before anything is heard, and one in the middle: of what nobody will hear nothing is left.
#[test]
fn a_stop_while_the_prompt_arrives_gives_up_what_nobody_will_hear() {
    for (over, heard_for, is_ready) in [(55.0, 3.0, false), (10.0, 3.0, true)] {
        let mut world = World::with(705, |settings| settings.control.keep_unused = Duration::ZERO);
        let call = world.call(no_rules());
        let alice = newcomer(&mut world, &call);
        world.shelf.put_in_pieces(URL, &minute(), seconds(over), End::Whole);
        hold(&mut world, &alice, Some(URL));
        world.run(seconds(heard_for));
        let source = state(&mut world, &alice)["source"].clone();
        assert_eq!(source == "customPrompt", is_ready, "{source}");
        assert_eq!(world.underway(), 1);
        world.stop(&alice).expect(202);
        world.run(seconds(0.5));
        assert_eq!((world.underway(), world.counts().prompts), (0, 0), "over {over} s");
        world.run(seconds(60.0));
        assert_eq!(world.preparations(), 0, "it never became whole");
        // What is asked for again is fetched again.
        world.shelf.put(URL, &asset(MUSIC_FILE));
        assert_eq!(result(&hold_and_wait(&mut world, &alice, Some(URL))), DONE);
    }
}

/// Who stops and comes back while it still arrives finds it where it is, and hears it from its beginning.
#[test]
fn a_second_hold_while_the_prompt_arrives_hears_it_from_its_beginning() {
    let (mut world, _, alice) = one(706, no_rules());
    let clip = minute();
    world.shelf.put_in_pieces(URL, &clip, seconds(10.0), End::Whole);
    hold_and_wait(&mut world, &alice, Some(URL));
    world.run(seconds(2.0));
    world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    let again = world.now();
    hold_and_wait(&mut world, &alice, Some(URL));
    world.run(seconds(65.0));
    assert_eq!(world.shelf.fetches(URL), 1);
    let first = world.phone(alice.phone).first_after(again).unwrap().at;
    assert_heard(&world, &alice, first, &reference(&clip, 1));
}
