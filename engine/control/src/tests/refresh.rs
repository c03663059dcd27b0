//! A prompt that was heard before: how long it is good, and what happens when its origin is asked again.

use expect_test::expect;

use super::*;
use crate::graph::read_purge;

/// Good until `until` (in milliseconds), played while its origin is asked until `meanwhile`.
fn good(until: u64, meanwhile: u64) -> Freshness {
    Freshness {
        until: MediaTime::from_millis(until),
        while_asked_until: MediaTime::from_millis(meanwhile),
        when_slow: true,
    }
}

/// A call whose participant has heard `a.wav`, prepared as source 1 and good for one second, and is off hold again.
fn heard_before(freshness: Freshness) -> (Desk, (CallId, ParticipantId)) {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "").unwrap();
    desk.ready_and(1, freshness);
    desk.started(1, 1);
    desk.stop(who).unwrap();
    desk.said.clear();
    (desk, who)
}

#[test]
fn as_long_as_it_is_good_nobody_is_asked() {
    let (mut desk, who) = heard_before(good(1000, 0));
    desk.pass(999);
    desk.start(who, "a.wav", "").unwrap();
    check(
        &mut desk,
        &expect![[r#"
            play 1 on leg 1
            notify updated roster [inactive:starting]
        "#]],
    );
}

#[test]
fn afterwards_the_origin_is_asked_first_and_what_has_not_changed_is_played() {
    let (mut desk, who) = heard_before(good(1000, 0));
    desk.pass(1000);
    desk.start(who, "a.wav", "again").unwrap();
    desk.pass(20);
    desk.tell(Input::SourceUnchanged { source: SourceId(2), codec: Codec::Opus, freshness: good(5000, 0) });
    desk.started(1, 1);
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/a.wav instead of 1
            notify updated roster [inactive:starting]
            play 1 on leg 1
            release 2
            notify deleted completed again 200/0 Action completed successfully.
        "#]],
    );
    // It is good again.
    desk.stop(who).unwrap();
    desk.said.clear();
    desk.start(who, "a.wav", "").unwrap();
    assert!(desk.heard().starts_with("play 1 on leg 1"));
}

#[test]
fn what_has_changed_is_heard_by_the_next_hold_and_what_it_was_is_dropped() {
    let (mut desk, who) = heard_before(good(1000, 0));
    desk.pass(1000);
    desk.start(who, "a.wav", "").unwrap();
    desk.pass(20);
    desk.ready_and(2, good(5000, 0));
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/a.wav instead of 1
            notify updated roster [inactive:starting]
            release 1
            play 2 on leg 1
        "#]],
    );
}

#[test]
fn many_holds_ask_the_origin_once() {
    let (mut desk, who) = heard_before(good(1000, 0));
    let others: Vec<_> = (0..3).map(|_| desk.one("{}")).collect();
    desk.pass(1000);
    for who in others.iter().chain([&who]) {
        desk.start(*who, "a.wav", "").unwrap();
    }
    let said = desk.heard();
    assert_eq!(said.matches("prepare").count(), 1, "{said}");
    desk.tell(Input::SourceUnchanged { source: SourceId(2), codec: Codec::Opus, freshness: good(5000, 0) });
    let said = desk.heard();
    assert_eq!(said.matches("play 1").count(), 4, "{said}");
}

#[test]
fn an_origin_that_takes_its_time_has_its_old_prompt_played_and_not_default_music() {
    let (mut desk, who) = heard_before(good(1000, 0));
    desk.pass(1000);
    desk.start(who, "a.wav", "slow").unwrap();
    desk.pass(300);
    desk.started(1, 1);
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/a.wav instead of 1
            notify updated roster [inactive:starting]
            play 1 on leg 1
        "#]],
    );
    desk.pass(1000);
    desk.tell(Input::SourceUnchanged { source: SourceId(2), codec: Codec::Opus, freshness: good(9000, 0) });
    check(
        &mut desk,
        &expect![[r#"
            release 2
            notify deleted completed slow 200/0 Action completed successfully.
        "#]],
    );
}

#[test]
fn an_origin_that_forbids_old_prompts_has_default_music_played_meanwhile() {
    let (mut desk, who) = heard_before(Freshness { when_slow: false, ..good(0, 0) });
    desk.start(who, "a.wav", "").unwrap();
    desk.pass(300);
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/a.wav instead of 1
            notify updated roster [inactive:starting]
            play 0 on leg 1
        "#]],
    );
}

#[test]
fn an_origin_that_wishes_it_has_its_old_prompt_played_while_it_is_asked() {
    let (mut desk, who) = heard_before(good(1000, 60_000));
    desk.pass(2000);
    desk.start(who, "a.wav", "").unwrap();
    desk.started(1, 1);
    desk.ready_and(2, good(9000, 0));
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/a.wav instead of 1
            play 1 on leg 1
            notify updated roster [inactive:starting]
            notify deleted completed 200/0 Action completed successfully.
        "#]],
    );
    desk.stop(who).unwrap();
    desk.said.clear();
    desk.start(who, "a.wav", "").unwrap();
    let said = desk.heard();
    assert!(said.starts_with("play 2 on leg 1"), "{said}");
}

#[test]
fn a_prompt_that_is_gone_is_named_and_not_asked_for_again_at_once() {
    let (mut desk, who) = heard_before(good(1000, 0));
    desk.pass(1000);
    desk.start(who, "a.wav", "first").unwrap();
    desk.fail(2);
    desk.started(1, 0);
    desk.stop(who).unwrap();
    desk.start(who, "a.wav", "second").unwrap();
    desk.started(1, 0);
    desk.stop(who).unwrap();
    desk.pass(2000);
    desk.start(who, "a.wav", "third").unwrap();
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/a.wav instead of 1
            notify updated roster [inactive:starting]
            play 0 on leg 1
            release 2
            notify deleted completed first 200/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
            stop leg 1
            notify updated roster [sendReceive:none/stop]
            play 0 on leg 1
            notify updated roster [inactive:starting]
            notify deleted completed second 200/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
            stop leg 1
            notify updated roster [sendReceive:none/stop]
            prepare 3 https://host/a.wav instead of 1
            notify updated roster [inactive:starting]
        "#]],
    );
}

#[test]
fn default_music_of_a_call_is_asked_about_again_and_renewed() {
    let mut desk = Desk::new();
    let who = desk.one(r#"{"defaultPrompt":{"mediaInfo":{"uri":"https://host/ours.wav"}}}"#);
    desk.ready_and(1, good(1000, 0));
    desk.pass(1000);
    desk.start(who, "", "").unwrap();
    desk.ready_and(2, good(9000, 0));
    desk.started(1, 2);
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/ours.wav instead of 1
            notify updated roster [inactive:starting]
            release 1
            play 2 on leg 1
            notify deleted completed 200/0 Action completed successfully.
        "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["source"], "default");
}

/// A hold that hears default music which has been renewed since still hears default music.
#[test]
fn renewed_default_music_is_still_what_was_asked_for() {
    let mut desk = Desk::new();
    let rules = r#"{"maxHeldParticipants":2,"defaultPrompt":{"mediaInfo":{"uri":"https://host/ours.wav"}}}"#;
    let who = desk.one(rules);
    let other = (who.0, desk.participant(who.0));
    desk.ready_and(1, good(1000, 0));
    desk.start(who, "", "first").unwrap();
    desk.started(1, 1);
    desk.pass(1000);
    desk.start(other, "", "").unwrap();
    desk.ready_and(2, good(9000, 0));
    desk.started(2, 2);
    desk.said.clear();
    desk.start(who, "", "second").unwrap();
    desk.pass(20_000);
    let said = desk.heard();
    assert!(said.contains("completed second 200/0"), "{said}");
    assert!(!said.contains("failed"), "{said}");
}

#[test]
fn default_music_that_was_purged_is_fetched_again_and_is_default_music() {
    let mut desk = Desk::new();
    let who = desk.one(r#"{"defaultPrompt":{"mediaInfo":{"uri":"https://host/ours.wav"}}}"#);
    desk.ready(1);
    desk.ask(Ask::PurgePrompts { prompt: None }).unwrap();
    desk.start(who, "", "").unwrap();
    desk.ready(2);
    desk.started(1, 2);
    check(
        &mut desk,
        &expect![[r#"
            purge everything
            prepare 2 https://host/ours.wav
            release 1
            notify updated roster [inactive:starting]
            play 2 on leg 1
            notify deleted completed 200/0 Action completed successfully.
        "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["source"], "default");
}

/// The old source breaks while its origin is asked whether it is still the same, and it is.
#[test]
fn a_prompt_that_is_unchanged_and_no_longer_there_is_a_failure_and_the_next_hold_fetches_it() {
    let (mut desk, who) = heard_before(good(1000, 0));
    desk.pass(1000);
    desk.start(who, "a.wav", "").unwrap();
    desk.fail(1);
    desk.tell(Input::SourceUnchanged { source: SourceId(2), codec: Codec::Opus, freshness: good(9000, 0) });
    desk.started(1, 0);
    desk.stop(who).unwrap();
    desk.pass(2000);
    desk.start(who, "a.wav", "").unwrap();
    check(
        &mut desk,
        &expect![[r#"
            prepare 2 https://host/a.wav instead of 1
            notify updated roster [inactive:starting]
            release 1
            play 0 on leg 1
            release 2
            notify deleted completed 200/8536 The prompt could not be fetched (notReadyInTime): what it was before can no longer be played
            stop leg 1
            notify updated roster [sendReceive:none/stop]
            prepare 3 https://host/a.wav
            notify updated roster [inactive:starting]
        "#]],
    );
    assert_eq!(desk.control.counts().preparing, 1);
}

/// What may be played while its origin is asked is played, whatever the last one said who asked.
#[test]
fn a_failed_refresh_does_not_silence_what_may_be_played_meanwhile() {
    let (mut desk, who) = heard_before(good(1000, 60_000));
    desk.pass(2000);
    desk.start(who, "a.wav", "").unwrap();
    desk.fail(2);
    desk.stop(who).unwrap();
    desk.said.clear();
    desk.start(who, "a.wav", "").unwrap();
    let said = desk.heard();
    assert!(said.contains("play 1 on leg 1"), "{said}");
}

#[test]
fn a_call_finds_ready_what_it_wanted_to_find_ready() {
    let body = br##"{"callbackUri":"https://bot.contoso.com/api","mediaConfig":{
        "@odata.type":"#microsoft.graph.serviceHostedMediaConfig",
        "preFetchMedia":[{"uri":"https://host/a.wav","resourceId":"1"},{"uri":"https://host/b.wav"}]}}"##;
    let mut desk = Desk::new();
    let answer = desk.ask(Ask::CreateCall(read_create_call(body).unwrap())).unwrap();
    let call = CallId::read(json(&answer)["id"].as_str().unwrap()).unwrap();
    let participant = desk.participant(call);
    desk.fail(1);
    desk.ready(2);
    // Longer than anything is kept that nobody wants.
    desk.pass(600_000);
    desk.start((call, participant), "b.wav", "").unwrap();
    desk.ask(Ask::DeleteCall { call }).unwrap();
    desk.pass(600_000);
    check(
        &mut desk,
        &expect![[r#"
            prepare 1 https://host/a.wav
            prepare 2 https://host/b.wav
            notify updated established
            add leg 1 to 127.0.0.1:40000
            notify updated roster [sendReceive:none]
            release 1
            play 2 on leg 1
            notify updated roster [inactive:starting]
            stop leg 1
            remove leg 1
            notify deleted failed 400/8528 Action failed, the call has ended.
            notify updated terminating
            notify deleted terminated 200/5001 The call was ended by the application.
            release 2
        "#]],
    );
}

#[test]
fn what_is_purged_is_fetched_again_and_heard_to_its_end() {
    let mut desk = Desk::new();
    let (who, other) = (desk.one("{}"), desk.one("{}"));
    desk.start(who, "a.wav", "").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    desk.said.clear();
    let prompt = read_purge(br#"{"mediaInfo":{"uri":"https://host/a.wav"}}"#).unwrap();
    assert!(prompt.is_some());
    desk.ask(Ask::PurgePrompts { prompt }).unwrap();
    desk.start(other, "a.wav", "").unwrap();
    desk.ready(2);
    // Repeated on the same music it is the same music.
    assert_eq!(read_purge(b"{}").unwrap(), None);
    desk.ask(Ask::PurgePrompts { prompt: None }).unwrap();
    desk.start(other, "a.wav", "again").unwrap();
    desk.stop(who).unwrap();
    desk.stop(other).unwrap();
    check(
        &mut desk,
        &expect![[r#"
            purge https://host/a.wav
            prepare 2 https://host/a.wav
            notify updated roster [inactive:starting]
            play 2 on leg 2
            purge everything
            stop leg 1
            release 1
            notify updated roster [sendReceive:none/stop]
            stop leg 2
            release 2
            notify deleted failed 400/8508 Action failed, the operation was cancelled: stopped before the music began.
            notify deleted failed again 400/8508 Action failed, the operation was cancelled: stopped before the music began.
            notify updated roster [sendReceive:none/stop]
        "#]],
    );
}
