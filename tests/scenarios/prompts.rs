//! Prompts that come late, wrong or never: nobody waits in silence, and the customer is told why.

use std::time::Duration;

use holdmusic_control::PromptCause;
use holdmusic_tests::{Item, World, asset};
use serde_json::json;

use crate::stage::{
    DEFAULT_FILE, DONE, ENDS_WITHIN, MUSIC_FILE, assert_hears, hold, hold_and_wait, no_rules, one, result,
    seconds, state,
};

const URL: &str = "https://prompts.test/this.wav";

#[test]
fn a_slow_prompt_comes_after_default_music_without_a_gap() {
    let (mut world, _, alice) = one(201, no_rules());
    world.shelf.put_slowly(URL, &asset(MUSIC_FILE), seconds(2.0));
    let asked = world.now();
    let operation = hold(&mut world, &alice, Some(URL));
    world.run(seconds(1.9));
    assert_eq!(world.operation(&alice.call, &operation)["status"], "running");
    let first = world.taps().rtp[0].at;
    assert!(first.since(asked) <= Duration::from_millis(302), "{:?}", first.since(asked));
    let over = world.ended_within(&alice.call, &operation, seconds(1.0));
    assert_eq!((result(&over), &over["holdMusic"]["source"]), (DONE, &json!("customPrompt")));
    let changed = world.now();
    world.run(seconds(6.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
    assert_hears(&world, &alice, first, seconds(1.5), DEFAULT_FILE);
    assert_hears(&world, &alice, changed, seconds(5.0), MUSIC_FILE);
}

#[test]
fn a_prompt_within_the_grace_time_is_the_first_thing_heard() {
    let (mut world, _, alice) = one(202, no_rules());
    world.shelf.put_slowly(URL, &asset(MUSIC_FILE), seconds(0.25));
    hold_and_wait(&mut world, &alice, Some(URL));
    world.run(seconds(4.0));
    let first = world.phone(alice.phone).arrivals[0].at;
    assert_hears(&world, &alice, first, seconds(3.0), MUSIC_FILE);
    world.run(seconds(0.1));
    assert_eq!(world.stop(&alice).body["holdMusic"]["report"]["defaultMusicMs"], 0);
}

/// Every kind of failure, with its subcode and the word of its cause.
fn failures() -> Vec<(&'static str, Option<Item>, u64, &'static str)> {
    let bytes = |file: &str| Item::Bytes { bytes: asset(file).into(), after: Duration::from_millis(30) };
    let fails = |cause, reason: &str, after| Item::Fails { cause, reason: reason.to_owned(), after };
    let refused = fails(PromptCause::ConnectionRefused, "connection refused", seconds(0.01));
    let nameless = fails(PromptCause::DnsFailed, "the name has no address", seconds(4.9));
    let late = fails(PromptCause::FetchTimeout, "not complete after 15 s", seconds(15.0));
    let mut all = vec![
        ("404", None, 8536, "httpStatus"),
        ("refused", Some(refused), 8536, "connectionRefused"),
        ("DNS", Some(nameless), 8536, "dnsFailed"),
        ("timeout", Some(late), 8536, "fetchTimeout"),
        ("never", Some(Item::Never), 8536, "notReadyInTime"),
    ];
    for (name, file, cause) in [
        ("an error page", "fixtures/broken/html-page.wav", "notAudio"),
        ("nothing", "fixtures/broken/empty.wav", "notAudio"),
        ("cut in its header", "fixtures/broken/cut-in-header.wav", "headerCut"),
        ("no fmt", "fixtures/broken/no-fmt.wav", "corrupt"),
        ("no data", "fixtures/broken/no-data.wav", "noSamples"),
        ("no samples", "fixtures/broken/data-empty.wav", "noSamples"),
        ("no rate", "fixtures/broken/rate-zero.wav", "sampleRate"),
        ("65 535 channels", "fixtures/broken/channels-65535.wav", "tooManyChannels"),
        ("digital silence", "fixtures/broken/silence.wav", "silent"),
        ("an unknown tag", "fixtures/broken/unsupported-tag.wav", "unsupportedFormat"),
    ] {
        all.push((name, Some(bytes(file)), 8535, cause));
    }
    all
}

/// The reason as an operation and a participant show it: the word, and the words.
fn told(holder: &serde_json::Value) -> (&str, &str) {
    let reason = &holder["reason"];
    (reason["cause"].as_str().unwrap_or_default(), reason["message"].as_str().unwrap_or_default())
}

fn put(world: &mut World, item: Option<Item>) {
    match item {
        Some(Item::Bytes { bytes, after }) => world.shelf.put_slowly(URL, &bytes, after),
        Some(Item::Pieces { bytes, over, end, .. }) => world.shelf.put_in_pieces(URL, &bytes, over, end),
        Some(Item::Fails { cause, reason, after }) => world.shelf.put_failure(URL, cause, &reason, after),
        Some(Item::Never) => world.shelf.put_silence(URL),
        None => {}
    }
}

#[test]
fn whatever_is_wrong_with_a_prompt_default_music_is_heard_within_a_second_and_the_reason_is_told() {
    for (name, item, subcode, cause) in failures() {
        let (mut world, call, alice) = one(203, no_rules());
        put(&mut world, item);
        let asked = world.now();
        let operation = hold(&mut world, &alice, Some(URL));
        let over = world.ended_within(&alice.call, &operation, ENDS_WITHIN);
        assert_eq!((&over["status"], result(&over)), (&json!("completed"), (200, subcode)), "{name}: {over}");
        let message = over["resultInfo"]["message"].as_str().unwrap();
        let (word, words) = told(&over["holdMusic"]);
        assert_eq!(word, cause, "{name}: {over}");
        assert!(message.ends_with(&format!(" ({cause}): {words}")) && words.len() > 15, "{name}: {over}");
        world.run(seconds(3.0));
        let first = world.taps().rtp[0].at;
        assert!(first.since(asked) <= seconds(1.0), "{name}: {:?}", first.since(asked));
        assert_hears(&world, &alice, first, seconds(2.5), DEFAULT_FILE);
        let flow = world.taps().flow(alice.ssrc);
        assert!(flow.is_one_piece(), "{name}: {flow:?}");
        let state = state(&mut world, &alice);
        assert_eq!(
            (&state["source"], told(&state["report"]).0),
            (&json!("default"), cause),
            "{name}: {state}"
        );
        assert_eq!(world.customer(&call).ends_of(&operation).len(), 1, "{name}");
    }
}

#[test]
fn who_wants_no_default_music_is_told_of_a_failure_and_the_hold_ends() {
    for (name, item, subcode, cause) in failures() {
        let (mut world, call, alice) = one(204, json!({ "onPromptFailure": "fail" }));
        put(&mut world, item);
        let operation = hold(&mut world, &alice, Some(URL));
        let over = world.ended_within(&alice.call, &operation, ENDS_WITHIN);
        assert_eq!((&over["status"], result(&over)), (&json!("failed"), (400, subcode)), "{name}: {over}");
        assert_eq!(told(&over["holdMusic"]).0, cause, "{name}: {over}");
        assert_eq!(state(&mut world, &alice)["state"], "none", "{name}");
        let sent = world.taps().rtp.len();
        world.run(seconds(2.0));
        assert_eq!(world.taps().rtp.len(), sent, "{name}: the hold is over");
        let ends = world.customer(&call).ends_of(&operation).len();
        assert_eq!(ends, 1, "{name}");
    }
}

#[test]
fn a_prompt_that_fails_in_mid_hold_leaves_what_plays_playing() {
    for (rules, status, code) in
        [(no_rules(), "completed", 200), (json!({ "onPromptFailure": "fail" }), "failed", 400)]
    {
        let (mut world, _, alice) = one(205, rules);
        hold_and_wait(&mut world, &alice, Some(crate::stage::MUSIC));
        world.run(seconds(2.0));
        let over = hold_and_wait(&mut world, &alice, Some(URL));
        assert_eq!((over["status"].as_str(), result(&over)), (Some(status), (code, 8536)));
        world.run(seconds(2.0));
        let flow = world.taps().flow(alice.ssrc);
        assert!(flow.is_one_piece(), "{flow:?}");
        assert_eq!(state(&mut world, &alice)["state"], "playing");
        let first = world.phone(alice.phone).arrivals[0].at;
        assert_hears(&world, &alice, first, seconds(4.0), MUSIC_FILE);
    }
}

#[test]
fn a_call_may_bring_its_own_default_music() {
    let mut world = crate::stage::world(206);
    let rules = json!({ "defaultPrompt": { "mediaInfo": { "uri": crate::stage::MUSIC } } });
    let call = world.call(rules);
    world.run(seconds(1.0));
    let alice = crate::stage::newcomer(&mut world, &call);
    let over = hold_and_wait(&mut world, &alice, Some(URL));
    assert_eq!(result(&over), (200, 8536));
    world.run(seconds(4.0));
    let first = world.phone(alice.phone).arrivals[0].at;
    assert_hears(&world, &alice, first, seconds(3.0), MUSIC_FILE);
    assert_eq!(state(&mut world, &alice)["source"], "default");
    let report = world.stop(&alice).expect(202).body["holdMusic"]["report"].clone();
    assert_eq!(report["defaultMusicMs"].as_u64(), report["packets"].as_u64().map(|packets| 20 * packets));
    // The same recording, asked for by name, is not default music.
    assert_eq!(result(&hold_and_wait(&mut world, &alice, Some(crate::stage::MUSIC))), DONE);
    world.run(seconds(1.0));
    assert_eq!(state(&mut world, &alice)["source"], "customPrompt");
    assert_eq!(world.stop(&alice).expect(202).body["holdMusic"]["report"]["defaultMusicMs"], 0);
}

#[test]
fn a_prompt_that_failed_is_fetched_again_but_not_at_once() {
    let (mut world, _, alice) = one(207, no_rules());
    assert_eq!(result(&hold_and_wait(&mut world, &alice, Some(URL))), (200, 8536));
    world.shelf.put(URL, &asset(MUSIC_FILE));
    assert_eq!(result(&hold_and_wait(&mut world, &alice, Some(URL))), (200, 8536));
    assert_eq!(world.shelf.fetches(URL), 1);
    world.run(seconds(2.0));
    let over = hold_and_wait(&mut world, &alice, Some(URL));
    assert_eq!(result(&over), DONE);
    assert_eq!(world.shelf.fetches(URL), 2);
}

#[test]
fn a_recording_that_was_cut_in_its_data_plays_what_is_there() {
    let (mut world, _, alice) = one(208, no_rules());
    world.shelf.put(URL, &asset("fixtures/lengths/cut-in-data.wav"));
    assert_eq!(result(&hold_and_wait(&mut world, &alice, Some(URL))), DONE);
    assert_eq!(state(&mut world, &alice)["source"], "customPrompt");
}
