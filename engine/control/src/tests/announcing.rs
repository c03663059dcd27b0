//! playPrompt, cancelMediaProcessing, mute and invite.

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::{
    ask::{CancelMedia, Mute},
    graph::{read_invite, read_play_prompt},
};

impl Desk {
    fn play(&mut self, call: CallId, prompts: &[&str], to: &[ParticipantId]) -> Result<Answer, Refusal> {
        let prompts: Vec<_> = prompts
            .iter()
            .map(|prompt| json!({ "mediaInfo": { "uri": format!("https://host/{prompt}") } }))
            .collect();
        let to: Vec<_> = to.iter().map(ParticipantId::to_string).collect();
        let body = json!({ "prompts": prompts, "clientContext": "p", "holdMusic": { "participants": to } });
        let play = read_play_prompt(body.to_string().as_bytes()).unwrap();
        self.ask(Ask::PlayPrompt { call, play })
    }

    fn heard_to_its_end(&mut self, leg: u64, announcement: u64) {
        let announcement = AnnouncementId(announcement);
        self.tell(Input::Announced { leg: LegId(leg), announcement });
    }

    fn cancel(&mut self, call: CallId, stop_holds: bool) -> Result<Answer, Refusal> {
        self.ask(Ask::CancelMedia { call, cancel: CancelMedia { client_context: None, stop_holds } })
    }
}

#[test]
fn prompts_are_heard_by_everybody_in_order_and_the_operation_completes_at_their_end() {
    let mut desk = Desk::new();
    let (call, _) = desk.one("{}");
    desk.participant(call);
    desk.said.clear();
    let answer = desk.play(call, &["a.wav", "b.wav"], &[]).unwrap();
    assert_eq!(answer.status, 200);
    let told = json(&answer);
    assert_eq!(told["@odata.type"], "#microsoft.graph.playPromptOperation");
    assert_eq!((&told["status"], &told["clientContext"]), (&json!("running"), &json!("p")));
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        prepare 2 https://host/b.wav
    "#]],
    );
    // The second is there first and waits for its turn.
    desk.ready(2);
    check(&mut desk, &expect![""]);
    desk.ready(1);
    check(
        &mut desk,
        &expect![[r#"
        announce 1 on leg 1: 100 frames of 1
        announce 2 on leg 2: 100 frames of 1
        announce 3 on leg 1: 100 frames of 2
        announce 4 on leg 2: 100 frames of 2
    "#]],
    );
    for (leg, announcement) in [(1, 1), (2, 2), (1, 3)] {
        desk.heard_to_its_end(leg, announcement);
    }
    check(&mut desk, &expect![""]);
    desk.heard_to_its_end(2, 4);
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        stop leg 2
        notify deleted completed p 200/0 Action completed successfully.
    "#]],
    );
}

#[test]
fn who_is_on_hold_hears_a_prompt_in_place_of_the_music_and_stays_on_hold() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.said.clear();
    desk.play(who.0, &["a.wav"], &[who.1]).unwrap();
    desk.ready(1);
    desk.heard_to_its_end(1, 1);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        announce 1 on leg 1: 100 frames of 1
        notify deleted completed p 200/0 Action completed successfully.
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["state"], "playing");
    desk.stop(who).unwrap();
}

#[test]
fn a_hold_that_begins_while_a_prompt_is_heard_does_not_cut_it_off() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.play(who.0, &["a.wav"], &[]).unwrap();
    desk.ready(1);
    desk.start(who, "", "x").unwrap();
    desk.started(1, 0);
    desk.heard_to_its_end(1, 1);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        announce 1 on leg 1: 100 frames of 1
        play 0 on leg 1
        notify updated roster [inactive:starting]
        notify deleted completed x 200/0 Action completed successfully.
        notify deleted completed p 200/0 Action completed successfully.
    "#]],
    );
}

#[test]
fn a_stop_ends_what_is_announced_on_that_leg_and_the_others_hear_it_out() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.participant(who.0);
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.play(who.0, &["a.wav"], &[]).unwrap();
    desk.ready(1);
    desk.said.clear();
    desk.stop(who).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        notify updated roster [sendReceive:none/stop, sendReceive:none]
    "#]],
    );
    desk.heard_to_its_end(2, 2);
    check(
        &mut desk,
        &expect![[r#"
        stop leg 2
        notify deleted completed p 200/0 Action completed successfully.
    "#]],
    );
    desk.play(who.0, &["a.wav"], &[who.1]).unwrap();
    desk.said.clear();
    desk.ask(Ask::DeleteParticipant { call: who.0, participant: who.1 }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        remove leg 1
        notify deleted failed p 400/8511 Action failed, the music could not be played: nobody heard it to its end.
        notify updated roster [sendReceive:none]
    "#]],
    );
}

#[test]
fn cancelling_fails_what_plays_and_what_waits_and_leaves_hold_music_alone_unless_asked() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.play(who.0, &["a.wav"], &[]).unwrap();
    desk.ready(1);
    desk.play(who.0, &["b.wav"], &[]).unwrap();
    desk.said.clear();
    let answer = desk.cancel(who.0, false).unwrap();
    assert_eq!(answer.status, 200);
    let told = json(&answer);
    assert_eq!(told["@odata.type"], "#microsoft.graph.cancelMediaProcessingOperation");
    assert_eq!((&told["status"], &told["resultInfo"]), (&json!("completed"), &json!(null)));
    check(
        &mut desk,
        &expect![[r#"
        hush leg 1
        release 2
        notify deleted failed p 400/8508 Action failed, the operation was cancelled: cancelMediaProcessing.
        notify deleted failed p 400/8508 Action failed, the operation was cancelled: cancelMediaProcessing.
    "#]],
    );
    // Its end was under way.
    desk.heard_to_its_end(1, 1);
    assert_eq!(desk.read(who)["holdMusic"]["state"], "playing");
    desk.cancel(who.0, true).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        notify updated roster [sendReceive:none/stop]
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["endedBy"], "stop");
}

#[test]
fn a_prompt_that_fails_ends_its_operation_after_what_came_before_and_the_next_goes_on() {
    let mut desk = Desk::new();
    let (call, _) = desk.one("{}");
    desk.play(call, &["a.wav", "broken.wav", "b.wav"], &[]).unwrap();
    desk.play(call, &["b.wav"], &[]).unwrap();
    desk.ready(1);
    desk.ready(3);
    desk.fail(2);
    desk.said.clear();
    desk.heard_to_its_end(1, 1);
    desk.heard_to_its_end(1, 2);
    check(
        &mut desk,
        &expect![[r#"
        notify deleted failed p 400/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
        stop leg 1
        notify deleted completed p 200/0 Action completed successfully.
    "#]],
    );
}

/// Twice the same in one operation, and another operation behind it.
#[test]
fn a_prompt_that_breaks_while_it_is_heard_ends_its_own_operation_only() {
    let mut desk = Desk::new();
    let (call, _) = desk.one("{}");
    desk.play(call, &["a.wav", "a.wav"], &[]).unwrap();
    desk.play(call, &["b.wav"], &[]).unwrap();
    desk.ready(1);
    desk.ready(2);
    desk.said.clear();
    desk.fail(1);
    check(
        &mut desk,
        &expect![[r#"
            hush leg 1
            announce 4 on leg 1: 100 frames of 2
            release 1
            notify deleted failed p 400/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
        "#]],
    );
    desk.heard_to_its_end(1, 3);
    check(&mut desk, &expect![""]);
    desk.heard_to_its_end(1, 4);
    check(
        &mut desk,
        &expect![[r#"
            stop leg 1
            notify deleted completed p 200/0 Action completed successfully.
        "#]],
    );
}

#[test]
fn a_call_that_ends_ends_its_prompts() {
    let mut desk = Desk::new();
    let (call, _) = desk.one("{}");
    desk.play(call, &["a.wav"], &[]).unwrap();
    desk.ready(1);
    desk.said.clear();
    desk.ask(Ask::DeleteCall { call }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        remove leg 1
        notify deleted failed p 400/8528 Action failed, the call has ended.
        notify updated terminating
        notify deleted terminated 200/5001 The call was ended by the application.
    "#]],
    );
}

#[test]
fn what_nobody_can_hear_is_refused_and_so_is_one_prompt_too_many() {
    let mut desk = Desk::new();
    let call = desk.call("{}");
    let refusal = desk.play(call, &["a.wav"], &[]).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, "8504"), "{refusal}");
    let who = desk.participant(call);
    let refusal = desk.play(call, &["a.wav"], &[ParticipantId(7)]).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (404, "8522"), "{refusal}");
    for _ in 0..20 {
        desk.play(call, &["a.wav"], &[who]).unwrap();
    }
    let refusal = desk.play(call, &["a.wav"], &[]).unwrap_err();
    assert_eq!((refusal.status, refusal.retry_after_s), (429, Some(2)), "{refusal}");
}

#[test]
fn muting_is_told_to_the_roster_once_and_disturbs_no_music() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.said.clear();
    for muted in [true, true, false] {
        let mute = Mute { muted, client_context: Some("m".into()) };
        let answer = desk.ask(Ask::MuteParticipant { call: who.0, participant: who.1, mute }).unwrap();
        let told = json(&answer);
        let kind = if muted { "muteParticipantOperation" } else { "unmuteParticipantOperation" };
        assert_eq!(told["@odata.type"], format!("#microsoft.graph.{kind}"));
        assert_eq!(
            (answer.status, &told["status"], &told["clientContext"]),
            (200, &json!("completed"), &json!("m"))
        );
        assert!(answer.location.unwrap().contains("/operations/"));
        assert_eq!(desk.read(who)["isMuted"], muted);
    }
    check(
        &mut desk,
        &expect![[r#"
        notify updated roster [inactive:playing]
        notify updated roster [inactive:playing]
    "#]],
    );
}

#[test]
fn the_invited_are_registered_and_wait_for_their_legs() {
    let mut desk = Desk::new();
    let (call, _) = desk.one("{}");
    let body = json!({ "clientContext": "i", "participants": [{
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "identity": { "@odata.type": "#microsoft.graph.identitySet", "user": { "id": "u-1" } },
    }] });
    let invite = read_invite(body.to_string().as_bytes()).unwrap();
    let answer = desk.ask(Ask::Invite { call, invite }).unwrap();
    let told = json(&answer);
    assert_eq!((answer.status, &told["status"]), (200, &json!("running")));
    assert_eq!(told["participants"][0]["identity"]["user"]["id"], "u-1");
    check(
        &mut desk,
        &expect![[r#"
        notify deleted completed i 200/0 Action completed successfully.
        notify updated roster [sendReceive:none, sendReceive:none]
    "#]],
    );
    let id = ParticipantId::read(told["participants"][0]["participantId"].as_str().unwrap()).unwrap();
    let read = desk.read((call, id));
    assert_eq!(read["info"]["identity"]["user"]["id"], "u-1");
    let refusal = desk.start((call, id), "", "").unwrap_err();
    assert_eq!(refusal.code, "8504");
}
