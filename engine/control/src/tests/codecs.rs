//! Prompts that are heard in several codecs, and legs that change theirs.

use expect_test::expect;
use holdmusic_codecs::Codec;

use super::*;
use crate::{
    ask::Ask,
    graph::{read_media_leg, read_play_prompt},
    negotiation::MediaOffer,
};

fn leg_in(codec: &str) -> MediaOffer {
    let number = if matches!(codec, "opus" | "L16") { ",\"payloadType\":111" } else { "" };
    let body = format!(r#"{{"rtp":{{"address":"127.0.0.1:40000","codec":"{codec}"{number}}}}}"#);
    read_media_leg(body.as_bytes()).unwrap()
}

/// A house in which every codec is in use.
fn any_codec() -> Desk {
    let mut desk = Desk::new();
    desk.control.settings.codecs = Codec::ALL.to_vec();
    desk
}

impl Desk {
    fn recode(&mut self, who: (CallId, ParticipantId), codec: &str) {
        self.ask(Ask::PutMediaLeg { call: who.0, participant: who.1, offer: leg_in(codec) }).unwrap();
    }

    fn ready_in(&mut self, source: u64, codec: Codec) {
        let facts = SourceFacts {
            seconds: 2.0,
            whole: true,
            format: "WAV".into(),
            gain_db: -1.5,
            ready_at: self.now().mono,
            bytes: 1000,
            freshness: Freshness::FOR_EVER,
        };
        self.tell(Input::SourceReady { source: SourceId(source), codec, facts });
    }

    fn fail_in(&mut self, source: u64, codec: Codec) {
        let failure = PromptFailure::new(PromptCause::HttpStatus, "HTTP status 404 from host");
        self.tell(Input::SourceFailed { source: SourceId(source), codec, failure });
    }
}

#[test]
fn the_same_prompt_is_prepared_once_for_each_codec() {
    let mut desk = any_codec();
    let call = desk.call(r#"{"maxHeldParticipants":4}"#);
    let people = [(); 4].map(|()| (call, desk.participant(call)));
    for (who, codec) in people.into_iter().zip(["opus", "PCMA", "pcma", "G722"]) {
        desk.recode(who, codec);
    }
    desk.said.clear();
    for who in people {
        desk.start(who, "a.wav", "").unwrap();
    }
    let prepared =
        desk.heard().lines().filter(|line| line.starts_with("prepare")).collect::<Vec<_>>().join("\n");
    expect![[r#"
        prepare 1 https://host/a.wav
        prepare 1 https://host/a.wav in Pcma
        prepare 1 https://host/a.wav in G722"#]]
    .assert_eq(&prepared);
    desk.ready_in(1, Codec::Pcma);
    let played = desk.heard().lines().filter(|line| line.starts_with("play")).collect::<Vec<_>>().join("\n");
    expect![[r#"
        play 1 on leg 3
        play 1 on leg 2"#]]
    .assert_eq(&played);
}

/// The prompt is not there in the new codec: default music in it, then the prompt.
#[test]
fn a_hold_whose_leg_changes_its_codec_hears_default_music_until_its_prompt_is_there() {
    let mut desk = any_codec();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    desk.said.clear();
    desk.recode(who, "PCMA");
    check(
        &mut desk,
        &expect![[r#"
        change leg 1 to 127.0.0.1:40000
        prepare 1 https://host/a.wav in Pcma
        play 0 on leg 1
    "#]],
    );
    desk.ready_in(1, Codec::Pcma);
    check(
        &mut desk,
        &expect![[r#"
        play 1 on leg 1
    "#]],
    );
    // Back: it is still there, and goes on.
    desk.recode(who, "opus");
    check(
        &mut desk,
        &expect![[r#"
        change leg 1 to 127.0.0.1:40000
        play 1 on leg 1
    "#]],
    );
}

#[test]
fn a_prompt_that_fails_in_one_codec_is_heard_on_in_another() {
    let mut desk = any_codec();
    let call = desk.call(r#"{"maxHeldParticipants":2}"#);
    let (one, other) = ((call, desk.participant(call)), (call, desk.participant(call)));
    desk.recode(other, "PCMU");
    desk.start(one, "a.wav", "").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    desk.start(other, "a.wav", "").unwrap();
    desk.said.clear();
    desk.fail_in(1, Codec::Pcmu);
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 2
        release 1 in Pcmu
    "#]],
    );
    desk.started(2, 0);
    check(
        &mut desk,
        &expect![[r#"
        notify deleted completed 200/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
    "#]],
    );
    // A moment later nobody is asked again, but who can hear it does.
    desk.start(other, "a.wav", "again").unwrap();
    desk.start(one, "a.wav", "again").unwrap();
    check(
        &mut desk,
        &expect![[r#"
        notify deleted completed again 200/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
        notify deleted completed again 200/0 Action completed successfully.
    "#]],
    );
}

/// It is announced when it is there for all.
#[test]
fn an_announcement_waits_until_everybody_can_hear_it_in_his_codec() {
    let mut desk = any_codec();
    let (call, _) = desk.one("{}");
    let other = (call, desk.participant(call));
    desk.recode(other, "G722");
    desk.said.clear();
    let body = br#"{"prompts":[{"mediaInfo":{"uri":"https://host/a.wav"}}]}"#;
    desk.ask(Ask::PlayPrompt { call, play: read_play_prompt(body).unwrap() }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        prepare 1 https://host/a.wav in G722
    "#]],
    );
    desk.ready(1);
    check(&mut desk, &expect![[""]]);
    desk.ready_in(1, Codec::G722);
    check(
        &mut desk,
        &expect![[r#"
        announce 1 on leg 1: 100 frames of 1
        announce 2 on leg 2: 100 frames of 1
    "#]],
    );
    // In another codec it cannot be heard to its end.
    desk.recode(other, "L16");
    check(
        &mut desk,
        &expect![[r#"
        stop leg 2
        change leg 2 to 127.0.0.1:40000
    "#]],
    );
    desk.tell(Input::Announced { leg: LegId(1), announcement: AnnouncementId(1) });
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
}

/// What has been asked about in one codec takes the place of what it was in all.
#[test]
fn an_origin_is_asked_for_each_codec_and_what_comes_first_counts() {
    let mut desk = any_codec();
    let call = desk.call(r#"{"maxHeldParticipants":2}"#);
    let (one, other) = ((call, desk.participant(call)), (call, desk.participant(call)));
    desk.recode(other, "PCMA");
    desk.start(one, "a.wav", "").unwrap();
    let now = desk.now().mono;
    desk.ready_and(1, Freshness { until: now, while_asked_until: now, when_slow: true });
    desk.started(1, 1);
    desk.stop(one).unwrap();
    desk.said.clear();
    desk.start(one, "a.wav", "").unwrap();
    desk.start(other, "a.wav", "").unwrap();
    check(
        &mut desk,
        &expect![[r#"
        prepare 2 https://host/a.wav instead of 1
        notify updated roster [inactive:starting, sendReceive:none]
        prepare 2 https://host/a.wav in Pcma instead of 1
        notify updated roster [inactive:starting, inactive:starting]
    "#]],
    );
    let freshness = Freshness::FOR_EVER;
    desk.tell(Input::SourceUnchanged { source: SourceId(2), codec: Codec::Opus, freshness });
    check(
        &mut desk,
        &expect![[r#"
        play 1 on leg 1
        prepare 1 https://host/a.wav in Pcma
        release 2
    "#]],
    );
    desk.ready_in(1, Codec::Pcma);
    check(
        &mut desk,
        &expect![[r#"
        play 1 on leg 2
    "#]],
    );
}

#[test]
fn what_a_call_wants_to_find_ready_is_prepared_in_the_codec_of_its_legs() {
    let mut desk = any_codec();
    let body = br##"{"callbackUri":"https://bot.contoso.com/api","mediaConfig":{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig","preFetchMedia":[{"uri":"https://host/a.wav"}]}}"##;
    let answer = desk.ask(Ask::CreateCall(read_create_call(body).unwrap())).unwrap();
    let call = CallId::read(json(&answer)["id"].as_str().unwrap()).unwrap();
    let who = (call, desk.participant(call));
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated established
        add leg 1 to 127.0.0.1:40000
        notify updated roster [sendReceive:none]
    "#]],
    );
    desk.recode(who, "PCMU");
    check(
        &mut desk,
        &expect![[r#"
        change leg 1 to 127.0.0.1:40000
        prepare 1 https://host/a.wav in Pcmu
    "#]],
    );
}

#[test]
fn a_codec_that_is_not_in_use_is_refused() {
    let mut desk = Desk::with(Settings { codecs: vec![Codec::Opus], ..Settings::default() });
    let (call, participant) = desk.one("{}");
    let refusal = desk.ask(Ask::PutMediaLeg { call, participant, offer: leg_in("PCMA") }).unwrap_err();
    expect!["400 8523: 'codec' is 'PCMA', which this server does not use; expected one of those that its operator has chosen (--codecs)."].assert_eq(&refusal.to_string());
}
