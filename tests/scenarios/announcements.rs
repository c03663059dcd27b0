//! playPrompt: prompts that are heard once, by who talks and by who is on hold.

use holdmusic_media::MediaTime;
use holdmusic_tests::{Likeness, Member, World};

use crate::stage::{
    DEFAULT_FILE, DONE, MUSIC, MUSIC_FILE, SPEECH, SPEECH_FILE, assert_hears, beginning, hold_and_wait,
    newcomer, no_rules, one, result, seconds, state,
};

/// Both recordings, in seconds.
const MUSIC_SECONDS: f64 = 9.6;
const SPEECH_SECONDS: f64 = 8.0;

#[test]
fn who_talks_hears_each_prompt_once_and_then_nothing_and_the_operation_is_over() {
    let (mut world, call, alice) = one(801, no_rules());
    let bob = newcomer(&mut world, &call);
    let operation = world.play_prompt(&call, &[SPEECH, MUSIC], &[]).expect(200);
    assert_eq!(operation.text("status"), "running");
    world.run(seconds(SPEECH_SECONDS + MUSIC_SECONDS - 1.0));
    assert_eq!(world.operation(&call.path, operation.id())["status"], "running");
    world.run(seconds(2.0));
    assert_eq!(result(&world.operation(&call.path, operation.id())), DONE);
    assert_eq!(world.customer(&call).ends_of(operation.id()).len(), 1);
    let frames = ((SPEECH_SECONDS + MUSIC_SECONDS) * 50.0).round() as usize;
    for member in [&alice, &bob] {
        let flow = world.taps().flow(member.ssrc);
        assert!(flow.is_one_piece(), "{flow:?}");
        assert_eq!(flow.packets, frames);
        let first = world.phone(member.phone).arrivals[0].at;
        assert_hears(&world, member, first, seconds(7.0), SPEECH_FILE);
        assert_hears(&world, member, first + seconds(SPEECH_SECONDS), seconds(9.0), MUSIC_FILE);
    }
    // A second one is a new talkspurt of the same stream.
    world.play_prompt(&call, &[SPEECH], &[&bob]).expect(200);
    world.run(seconds(9.0));
    let heard = &world.phone(bob.phone).arrivals;
    assert_eq!(heard.len(), frames + (SPEECH_SECONDS * 50.0) as usize);
    let marked: Vec<_> = (0..heard.len()).filter(|&n| heard[n].header.marker).collect();
    assert_eq!(marked, [0, frames]);
    assert_eq!(heard[frames].header.sequence, heard[frames - 1].header.sequence.after(1));
    assert_eq!(world.phone(alice.phone).arrivals.len(), frames);
}

/// The music plays on beneath: after the prompt it is where it would have been.
#[test]
fn who_is_on_hold_hears_the_prompt_in_place_of_the_music_which_goes_on() {
    let (mut world, call, alice) = one(802, no_rules());
    assert_eq!(result(&hold_and_wait(&mut world, &alice, None)), DONE);
    world.run(seconds(3.0));
    let began = world.phone(alice.phone).arrivals[0].at;
    let operation = world.play_prompt(&call, &[SPEECH], &[]).expect(200);
    let asked = world.now();
    world.ended_within(&call.path, operation.id(), seconds(9.0));
    world.run(seconds(4.0));
    assert_hears(&world, &alice, asked + seconds(0.02), seconds(7.0), SPEECH_FILE);
    assert_still(&world, &alice, began, asked + seconds(SPEECH_SECONDS + 0.1), seconds(3.0));
    assert_eq!(state(&mut world, &alice)["state"], "playing");
    world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
}

#[test]
fn a_hold_that_begins_during_a_prompt_is_heard_after_it_and_completes_at_once() {
    let (mut world, call, alice) = one(803, no_rules());
    let prompt = world.play_prompt(&call, &[SPEECH], &[]).expect(200);
    world.run(seconds(2.0));
    let asked = world.now();
    assert_eq!(result(&hold_and_wait(&mut world, &alice, None)), DONE);
    assert!(world.now().since(asked) < seconds(0.1), "the music goes on beneath");
    world.ended_within(&call.path, prompt.id(), seconds(7.0));
    world.run(seconds(4.0));
    let first = world.phone(alice.phone).arrivals[0].at;
    assert_hears(&world, &alice, first, seconds(7.0), SPEECH_FILE);
    assert_still(&world, &alice, asked, first + seconds(SPEECH_SECONDS + 0.1), seconds(3.0));
    let report = world.stop(&alice).expect(202).body["holdMusic"]["report"].clone();
    assert!(report["skippedTicks"] == 0, "{report}");
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
}

#[test]
fn cancelling_brings_the_music_back_at_the_next_packet() {
    let (mut world, call, alice) = one(804, no_rules());
    hold_and_wait(&mut world, &alice, None);
    world.run(seconds(1.0));
    let began = world.phone(alice.phone).arrivals[0].at;
    let prompt = world.play_prompt(&call, &[MUSIC], &[]).expect(200);
    world.run(seconds(3.0));
    let path = format!("{}/cancelMediaProcessing", call.path);
    assert_eq!(world.http("POST", &path, serde_json::json!({})).expect(200).text("status"), "completed");
    let cancelled = world.now();
    assert_eq!(result(&world.operation(&call.path, prompt.id())), (400, 8508));
    world.run(seconds(4.0));
    assert_still(&world, &alice, began, cancelled + seconds(0.02), seconds(3.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
}

#[test]
fn a_stop_cuts_a_prompt_off_within_a_packet_interval() {
    let (mut world, call, alice) = one(805, no_rules());
    hold_and_wait(&mut world, &alice, None);
    let prompt = world.play_prompt(&call, &[MUSIC], &[]).expect(200);
    world.run(seconds(3.0));
    world.stop(&alice).expect(202);
    let sent = world.taps().flow(alice.ssrc).packets;
    world.run(seconds(2.0));
    assert_eq!(world.taps().flow(alice.ssrc).packets, sent);
    assert_eq!(result(&world.operation(&call.path, prompt.id())), (400, 8511));
}

/// From `from` on `member` hears the default music as if it had never been away since `began`.
#[track_caller]
fn assert_still(
    world: &World,
    member: &Member,
    began: MediaTime,
    from: MediaTime,
    length: std::time::Duration,
) {
    let heard = world.phone(member.phone).sound_between(from, from + length);
    let until = from.since(began) + length + seconds(0.1);
    let music = beginning(DEFAULT_FILE, until);
    let skipped = (from.since(began).as_secs_f64() * f64::from(music.rate())) as usize;
    let expected = holdmusic_codecs::Pcm::new(music.rate(), 1, music.samples()[skipped..].to_vec());
    let found = Likeness::of(&expected, &heard);
    assert!(found.correlation > 0.85, "{found:?}");
    assert!((-60.0..=60.0).contains(&found.offset_ms), "{found:?}");
}
