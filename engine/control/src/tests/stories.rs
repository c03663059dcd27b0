//! One story each for the rules of holds, legs, calls and notifications.

use expect_test::expect;

use super::*;
use crate::graph::read_media_leg;

#[test]
fn without_a_prompt_default_music_plays_at_once_and_the_operation_completes_with_the_first_packet() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.millis = 1000;
    let answer = desk.start(who, "", "ctx-1").unwrap();
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        notify updated roster [inactive:starting]
    "#]],
    );
    desk.millis = 1003;
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        notify deleted completed ctx-1 200/0 Action completed successfully.
    "#]],
    );
    let told = json(&answer);
    assert_eq!(
        (answer.status, &told["status"], &told["clientContext"]),
        (202, &"running".into(), &"ctx-1".into())
    );
    let location = answer.location.unwrap();
    assert_eq!(
        location,
        format!("{BASE}/communications/calls/{}/operations/{}", who.0, told["id"].as_str().unwrap())
    );
    let hold = &desk.read(who)["holdMusic"];
    assert_eq!((&hold["state"], &hold["source"]), (&"playing".into(), &"default".into()));
    assert_eq!(hold["since"], "2023-11-14T22:13:21.003000Z");
}

#[test]
fn a_file_is_a_prompt_only_where_the_operator_names_a_directory() {
    let body = br#"{"customPrompt":{"mediaInfo":{"uri":"file:///on%20hold.wav"}}}"#;
    let start = read_start_hold_music(body).unwrap();
    let mut desk = Desk::new();
    let (call, participant) = desk.one("{}");
    let ask = Ask::StartHoldMusic { call, participant, start: start.clone() };
    let refusal = desk.ask(ask).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, "8523"));
    assert!(refusal.message.contains("--prompts"), "{refusal}");

    let mut desk = Desk::with(Settings { prompt_directory: true, ..Settings::default() });
    let (call, participant) = desk.one("{}");
    desk.ask(Ask::StartHoldMusic { call, participant, start }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 file:///on%20hold.wav
        notify updated roster [inactive:starting]
    "#]],
    );
}

#[test]
fn a_prompt_that_is_ready_within_the_grace_time_is_the_first_thing_heard() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav?sig=1", "").unwrap();
    desk.pass(250);
    desk.ready(1);
    desk.started(1, 1);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav?…
        notify updated roster [inactive:starting]
        play 1 on leg 1
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
    assert_eq!(desk.control.counts().starts_completed, 1);
}

#[test]
fn a_slower_prompt_takes_over_from_default_music_and_only_then_the_operation_completes() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "").unwrap();
    desk.pass(301);
    desk.started(1, 0);
    desk.pass(2000);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated roster [inactive:starting]
        play 0 on leg 1
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["source"], "default");
    desk.ready(1);
    desk.started(1, 1);
    check(
        &mut desk,
        &expect![[r#"
        play 1 on leg 1
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["source"], "customPrompt");
}

#[test]
fn a_prompt_that_fails_leaves_default_music_and_a_reason() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "").unwrap();
    desk.pass(100);
    desk.fail(1);
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated roster [inactive:starting]
        play 0 on leg 1
        release 1
        notify deleted completed 200/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["report"]["reason"], not_found());
    // The same prompt once more is tried once more, if not at once, while the music goes on.
    desk.pass(2000);
    desk.start(who, "a.wav", "").unwrap();
    desk.ready(2);
    desk.started(1, 2);
    check(
        &mut desk,
        &expect![[r#"
        prepare 2 https://host/a.wav
        play 2 on leg 1
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
}

#[test]
fn where_the_call_says_fail_a_failed_prompt_ends_the_hold_that_it_began_and_no_other() {
    let mut desk = Desk::new();
    let who = desk.one(r#"{"onPromptFailure":"fail"}"#);
    desk.start(who, "a.wav", "a").unwrap();
    desk.fail(1);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated roster [inactive:starting]
        stop leg 1
        release 1
        notify deleted failed a 400/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
        notify updated roster [sendReceive:none/promptFailed]
    "#]],
    );
    desk.start(who, "", "b").unwrap();
    desk.started(1, 0);
    desk.start(who, "c.wav", "c").unwrap();
    desk.fail(2);
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        notify updated roster [inactive:starting]
        notify deleted completed b 200/0 Action completed successfully.
        prepare 2 https://host/c.wav
        release 2
        notify deleted failed c 400/8536 The prompt could not be fetched (httpStatus): HTTP status 404 from host
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["state"], "playing");
}

#[test]
fn a_prompt_that_never_comes_ends_its_operation_in_time() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "").unwrap();
    desk.pass(400);
    desk.started(1, 0);
    desk.pass(19_000);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated roster [inactive:starting]
        play 0 on leg 1
        release 1
        notify deleted completed 200/8536 The prompt could not be fetched (notReadyInTime): timeout: not ready within 19 s
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["state"], "playing");
}

#[test]
fn an_operation_whose_packets_never_leave_fails_in_time_and_its_hold_ends() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    desk.pass(20_000);
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        notify updated roster [inactive:starting]
        stop leg 1
        notify deleted failed 400/8511 Action failed, the music could not be played: no packet could be sent in time.
        notify updated roster [sendReceive:none/unreachable]
    "#]],
    );
}

/// The reason of what [`Desk::fail`] tells, as customers read it.
fn not_found() -> Value {
    serde_json::json!({ "cause": "httpStatus", "message": "HTTP status 404 from host" })
}

#[test]
fn a_prompt_that_breaks_later_gives_way_to_default_music_and_its_operation_stays_completed() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    desk.heard();
    desk.fail(1);
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        release 1
    "#]],
    );
    let hold = &desk.read(who)["holdMusic"];
    assert_eq!((&hold["source"], &hold["report"]["reason"]), (&"default".into(), &not_found()));
}

#[test]
fn stop_is_answered_with_the_report_and_tells_no_operation() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.heard();
    desk.millis = 5000;
    let answer = desk.stop(who).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        notify updated roster [sendReceive:none/stop]
    "#]],
    );
    let mut told = json(&answer);
    told["id"] = "…".into();
    told["@odata.context"] = "…".into();
    expect![[r##"
        {
          "@odata.context": "…",
          "@odata.type": "#microsoft.graph.stopHoldMusicOperation",
          "holdMusic": {
            "nothingToStop": false,
            "report": {
              "bytes": 560,
              "defaultMusicMs": 0,
              "durationMs": 0.0,
              "lateTicks": 0,
              "longestGapMs": 0.0,
              "packets": 7,
              "sendErrors": 0,
              "skippedTicks": 0,
              "starvedTicks": 0
            },
            "rtpState": {
              "at": "2023-11-14T22:13:25.000000Z",
              "sequenceNumber": 10,
              "ssrc": 9,
              "timestamp": 11
            },
            "source": "default"
          },
          "id": "…",
          "resultInfo": null,
          "status": "completed"
        }
    "##]]
    .assert_eq(&format!("{}\n", serde_json::to_string_pretty(&told).unwrap()));
    assert_eq!(desk.read(who)["holdMusic"]["endedBy"], "stop");
}

/// The reports of the participants in the last roster that was told.
fn told_packets(desk: &Desk) -> Vec<Value> {
    let rosters = desk.said.iter().filter_map(|output| match output {
        Output::Notify { body, .. } => {
            let body: Value = serde_json::from_str(body).unwrap();
            body["value"][0]["resourceData"].as_array().cloned()
        }
        _ => None,
    });
    let mut rosters: Vec<_> = rosters.collect();
    rosters
        .pop()
        .unwrap_or_default()
        .iter()
        .map(|one| one["holdMusic"]["report"]["packets"].clone())
        .collect()
}

#[test]
fn the_roster_after_a_hold_is_told_with_its_last_report() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    for end in 0..3 {
        desk.media_answers = true;
        desk.start(who, "", "").unwrap();
        desk.started(1, 0);
        let report = HoldReport { packets: 3, ..HoldReport::default() };
        desk.tell(Input::Progress { leg: LegId(1), report });
        desk.said.clear();
        desk.media_answers = false;
        match end {
            0 | 2 => {
                desk.send(Ask::StopHoldMusic { call: who.0, participant: who.1, stop: Default::default() });
            }
            _ => desk.tell(Input::Bye { leg: LegId(1) }),
        }
        assert_eq!(desk.heard(), "stop leg 1\n", "the report is waited for");
        if end == 2 {
            // Not for ever.
            desk.pass(200);
            assert_eq!(told_packets(&desk), [3]);
            desk.said.clear();
            let late = desk.report(LegId(1));
            desk.tell(late);
            assert_eq!(told_packets(&desk), [7], "and told when it comes late");
        } else {
            let report = desk.report(LegId(1));
            desk.tell(report);
            assert_eq!(told_packets(&desk), [7]);
        }
    }
}

#[test]
fn a_stop_whose_report_is_late_is_answered_without_it_and_completed_later() {
    let mut desk = Desk::new();
    desk.media_answers = false;
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    let stop = read_stop_hold_music(b"{}").unwrap();
    let request = desk.send(Ask::StopHoldMusic { call: who.0, participant: who.1, stop });
    assert!(desk.reply(request).is_none());
    desk.pass(200);
    let told = json(&desk.reply(request).unwrap().unwrap());
    assert_eq!(told["status"], "completed");
    assert!(told["holdMusic"]["report"].is_null());
    let late = desk.report(LegId(1));
    desk.tell(late);
    let operation = crate::OperationId::read(told["id"].as_str().unwrap()).unwrap();
    let told =
        json(&desk.ask(Ask::GetOperation { call: who.0, operation, query: Query::default() }).unwrap());
    assert_eq!(told["holdMusic"]["report"]["packets"], 7);
}

#[test]
fn a_start_of_the_hold_before_is_not_taken_for_the_one_after() {
    let mut desk = Desk::new();
    desk.media_answers = false;
    let who = desk.one("{}");
    desk.start(who, "", "a").unwrap();
    desk.send(Ask::StopHoldMusic { call: who.0, participant: who.1, stop: Default::default() });
    desk.start(who, "", "b").unwrap();
    desk.heard();
    desk.started(1, 0);
    check(&mut desk, &expect![[r#""#]]);
    let report = desk.report(LegId(1));
    desk.tell(report);
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        reply 202
        notify deleted completed b 200/0 Action completed successfully.
    "#]],
    );
}

#[test]
fn stop_before_the_start_cancels_it_and_stop_without_a_hold_finds_nothing_to_stop() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "a").unwrap();
    let told = json(&desk.stop(who).unwrap());
    assert_eq!(told["holdMusic"]["nothingToStop"], false);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated roster [inactive:starting]
        stop leg 1
        release 1
        notify deleted failed a 400/8508 Action failed, the operation was cancelled: stopped before the music began.
        notify updated roster [sendReceive:none/stop]
    "#]],
    );
    let told = json(&desk.stop(who).unwrap());
    assert_eq!(told["holdMusic"]["nothingToStop"], true);
    assert_eq!((&told["status"], &told["resultInfo"]), (&"completed".into(), &Value::Null));
    check(&mut desk, &expect![[r#""#]]);
}

#[test]
fn a_second_participant_waits_until_the_first_is_back_and_is_told_who_that_is() {
    let mut desk = Desk::new();
    let (call, first) = desk.one("{}");
    let second = desk.participant(call);
    desk.start((call, first), "", "").unwrap();
    let refusal = desk.start((call, second), "", "").unwrap_err();
    assert_eq!((refusal.status, refusal.code), (409, "8519"));
    assert!(refusal.message.contains(&first.to_string()), "{}", refusal.message);
    desk.stop((call, first)).unwrap();
    desk.start((call, second), "", "").unwrap();
}

#[test]
fn the_limit_of_held_participants_is_the_calls() {
    let mut desk = Desk::new();
    let (call, first) = desk.one(r#"{"maxHeldParticipants":2}"#);
    let others = [desk.participant(call), desk.participant(call)];
    desk.start((call, first), "a.wav", "").unwrap();
    desk.start((call, others[0]), "a.wav", "").unwrap();
    assert_eq!(desk.start((call, others[1]), "a.wav", "").unwrap_err().code, "8519");
    desk.heard();
    desk.ready(1);
    check(
        &mut desk,
        &expect![[r#"
        play 1 on leg 1
        play 1 on leg 2
    "#]],
    );
}

#[test]
fn the_same_request_again_is_the_same_operation_and_another_context_a_new_one_on_the_same_music() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    let first = json(&desk.start(who, "a.wav", "x").unwrap());
    let again = json(&desk.start(who, "a.wav", "x").unwrap());
    assert_eq!(first["id"], again["id"]);
    let other = json(&desk.start(who, "a.wav", "y").unwrap());
    assert_ne!(first["id"], other["id"]);
    desk.ready(1);
    desk.started(1, 1);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated roster [inactive:starting]
        play 1 on leg 1
        notify deleted completed x 200/0 Action completed successfully.
        notify deleted completed y 200/0 Action completed successfully.
    "#]],
    );
    assert_eq!(json(&desk.start(who, "a.wav", "x").unwrap())["status"], "completed");
    assert_eq!(json(&desk.start(who, "a.wav", "").unwrap())["status"], "running");
    check(
        &mut desk,
        &expect![[r#"
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
    desk.stop(who).unwrap();
    assert_ne!(json(&desk.start(who, "a.wav", "x").unwrap())["id"], first["id"]);
}

#[test]
fn another_prompt_changes_the_music_when_it_is_ready_and_supersedes_what_was_not_heard() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "a.wav", "a").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    desk.start(who, "b.wav", "b").unwrap();
    desk.pass(1000);
    desk.start(who, "c.wav", "c").unwrap();
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/a.wav
        notify updated roster [inactive:starting]
        play 1 on leg 1
        notify deleted completed a 200/0 Action completed successfully.
        prepare 2 https://host/b.wav
        prepare 3 https://host/c.wav
        release 2
        notify deleted failed b 400/8508 Action failed, the operation was cancelled: another startHoldMusic took its place.
    "#]],
    );
    desk.ready(3);
    desk.started(1, 3);
    check(
        &mut desk,
        &expect![[r#"
        play 3 on leg 1
        notify deleted completed c 200/0 Action completed successfully.
    "#]],
    );
    desk.start(who, "", "d").unwrap();
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        notify deleted completed d 200/0 Action completed successfully.
    "#]],
    );
}

#[test]
fn a_prompt_is_prepared_once_for_all_and_kept_for_a_while_after_the_last() {
    let mut desk = Desk::new();
    let (first, second) = (desk.one("{}"), desk.one("{}"));
    desk.start(first, "a.wav", "").unwrap();
    desk.start(second, "a.wav", "").unwrap();
    desk.ready(1);
    desk.started(1, 1);
    desk.started(2, 1);
    desk.stop(first).unwrap();
    desk.stop(second).unwrap();
    desk.heard();
    desk.pass(59_000);
    desk.start(first, "a.wav", "").unwrap();
    check(
        &mut desk,
        &expect![[r#"
        play 1 on leg 1
        notify updated roster [inactive:starting]
    "#]],
    );
    desk.stop(first).unwrap();
    desk.heard();
    desk.pass(61_000);
    check(
        &mut desk,
        &expect![[r#"
        release 1
    "#]],
    );
}

#[test]
fn with_music_ends_an_operation_runs_as_long_as_its_music() {
    let mut desk = Desk::new();
    let who = desk.one(r#"{"completesWhen":"musicEnds"}"#);
    desk.start(who, "", "a").unwrap();
    desk.started(1, 0);
    desk.pass(100_000);
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        notify updated roster [inactive:starting]
    "#]],
    );
    desk.start(who, "b.wav", "b").unwrap();
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/b.wav
        notify deleted completed a 200/0 Action completed successfully.
    "#]],
    );
    desk.ready(1);
    desk.started(1, 1);
    desk.stop(who).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        play 1 on leg 1
        stop leg 1
        notify deleted completed b 200/0 Action completed successfully.
        notify updated roster [sendReceive:none/stop]
    "#]],
    );
}

#[test]
fn a_hold_ends_by_itself_and_the_roster_says_why() {
    for (ends, by) in
        [(Input::Bye { leg: LegId(1) }, "bye"), (Input::Unreachable { leg: LegId(1) }, "unreachable")]
    {
        let mut desk = Desk::new();
        let who = desk.one("{}");
        desk.start(who, "", "").unwrap();
        desk.started(1, 0);
        desk.heard();
        desk.tell(ends);
        assert_eq!(desk.heard(), format!("stop leg 1\nnotify updated roster [sendReceive:none/{by}]\n"));
        assert_eq!(desk.read(who)["holdMusic"]["report"]["packets"], 7);
        desk.start(who, "", "").unwrap();
    }
    let mut desk = Desk::new();
    let who = desk.one(r#"{"maxDuration":"PT1M"}"#);
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.heard();
    desk.pass(60_000);
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        notify updated roster [sendReceive:none/maxDuration]
    "#]],
    );
}

#[test]
fn the_end_of_a_call_ends_its_holds_and_its_operations_stay_readable_for_a_while() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    let told = json(&desk.start(who, "a.wav", "").unwrap());
    desk.heard();
    assert_eq!(desk.ask(Ask::DeleteCall { call: who.0 }).unwrap().status, 204);
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        release 1
        remove leg 1
        notify deleted failed 400/8528 Action failed, the call has ended.
        notify updated terminating
        notify deleted terminated 200/5001 The call was ended by the application.
    "#]],
    );
    let refusal = desk.start(who, "", "").unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, "8528"));
    assert_eq!(desk.ask(Ask::GetCall { call: who.0, query: Query::default() }).unwrap_err().code, "8522");
    let operation = crate::OperationId::read(told["id"].as_str().unwrap()).unwrap();
    let read = Ask::GetOperation { call: who.0, operation, query: Query::default() };
    assert_eq!(json(&desk.ask(read.clone()).unwrap())["resultInfo"]["subcode"], 8528);
    desk.pass(3_600_001);
    assert_eq!(desk.ask(read).unwrap_err().code, "8522");
    assert_eq!(desk.control.poll_timeout(), MediaTime::NEVER);
    let counts = desk.control.counts();
    assert_eq!((counts.calls, counts.ended_calls, counts.operations, counts.participants), (0, 0, 0, 0));
}

#[test]
fn nothing_can_be_changed_in_a_call_that_has_ended() {
    let mut desk = Desk::new();
    let (call, participant) = desk.one("{}");
    desk.ask(Ask::DeleteCall { call }).unwrap();
    let offer = read_media_leg(br#"{"rtp":{"address":"127.0.0.1:5000","payloadType":96}}"#).unwrap();
    for ask in [
        Ask::DeleteCall { call },
        Ask::KeepAlive { call },
        Ask::CreateParticipant { call, create: Default::default() },
        Ask::DeleteParticipant { call, participant },
        Ask::PutMediaLeg { call, participant, offer },
        Ask::DeleteMediaLeg { call, participant },
        Ask::StartHoldMusic { call, participant, start: Default::default() },
        Ask::StopHoldMusic { call, participant, stop: Default::default() },
    ] {
        let refusal = desk.ask(ask.clone()).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, "8528"), "{ask:?}");
    }
    let query = Query::default();
    assert_eq!(desk.ask(Ask::ListOperations { call, query: query.clone() }).unwrap().status, 200);
    for ask in [
        Ask::GetCall { call, query: query.clone() },
        Ask::ListParticipants { call, query: query.clone() },
        Ask::GetParticipant { call, participant, query },
        Ask::GetMediaLeg { call, participant },
    ] {
        assert_eq!(desk.ask(ask).unwrap_err().code, "8522");
    }
    desk.pass(3_600_001);
    assert_eq!(desk.ask(Ask::DeleteCall { call }).unwrap_err().code, "8522");
}

#[test]
fn a_participant_and_its_leg_go_with_their_hold() {
    let mut desk = Desk::new();
    let (call, id) = desk.one("{}");
    desk.start((call, id), "a.wav", "").unwrap();
    desk.heard();
    assert_eq!(desk.ask(Ask::DeleteMediaLeg { call, participant: id }).unwrap().status, 204);
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        release 1
        remove leg 1
        notify deleted failed 400/8508 Action failed, the operation was cancelled: the participant or its media leg was removed.
        notify updated roster [sendReceive:none/removed]
    "#]],
    );
    assert_eq!(desk.start((call, id), "", "").unwrap_err().code, "8504");
    assert_eq!(desk.ask(Ask::DeleteParticipant { call, participant: id }).unwrap().status, 204);
    assert_eq!(desk.start((call, id), "", "").unwrap_err().code, "8522");
    check(
        &mut desk,
        &expect![[r#"
        notify updated roster []
    "#]],
    );
}

#[test]
fn a_leg_is_negotiated_anew_in_the_middle_of_a_hold() {
    let mut desk = Desk::new();
    let (call, id) = desk.one("{}");
    desk.start((call, id), "", "").unwrap();
    desk.millis = 70;
    desk.started(1, 0);
    desk.heard();
    desk.millis = 5000;
    let before = desk.read((call, id))["mediaLeg"]["ssrc"].clone();
    let offer =
        read_media_leg(br#"{"rtp":{"address":"127.0.0.1:5000","codec":"OPUS","payloadType":96}}"#).unwrap();
    let told = json(&desk.ask(Ask::PutMediaLeg { call, participant: id, offer }).unwrap());
    assert_eq!((&told["ssrc"], &told["payloadType"]), (&before, &96.into()));
    let offer = read_media_leg(br#"{"mediaLeg":{"rtp":{"address":"[::1]:5000","payloadType":96}}}"#).unwrap();
    desk.ask(Ask::PutMediaLeg { call, participant: id, offer }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
            change leg 1 to 127.0.0.1:5000
            remove leg 1
            add leg 2 to [::1]:5000
            play 0 on leg 2, on since 60 ms
        "#]],
    );
    // And back: where the music is does not depend on how often its leg has changed.
    desk.started(2, 0);
    let offer = read_media_leg(br#"{"rtp":{"address":"127.0.0.1:5000","payloadType":96}}"#).unwrap();
    desk.ask(Ask::PutMediaLeg { call, participant: id, offer }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
            remove leg 2
            add leg 3 to 127.0.0.1:5000
            play 0 on leg 3, on since 60 ms
        "#]],
    );
    let offer = read_media_leg(br#"{"rtp":{"address":"0.0.0.0:5000","payloadType":96}}"#).unwrap();
    desk.ask(Ask::PutMediaLeg { call, participant: id, offer }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
            stop leg 3
            change leg 3 to 127.0.0.1:5000
            notify updated roster [sendReceive:none/unreachable]
        "#]],
    );
    let refusal = desk.start((call, id), "", "").unwrap_err();
    assert_eq!(refusal.code, "8504");
    let offer = read_media_leg(br#"{"rtp":{"address":"8.8.8.8:5000","payloadType":96}}"#).unwrap();
    let refusal = desk.ask(Ask::PutMediaLeg { call, participant: id, offer }).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, "8523"));
    assert!(refusal.message.contains("--allow-media"), "{}", refusal.message);
}

#[test]
fn the_numbering_that_stop_hands_back_can_be_given_to_start() {
    let mut desk = Desk::new();
    let (call, participant) = desk.one("{}");
    desk.start((call, participant), "", "").unwrap();
    desk.started(1, 0);
    let told = json(&desk.stop((call, participant)).unwrap());
    desk.pass(10_000);
    desk.heard();
    let body = serde_json::json!({ "holdMusic": { "rtpState": told["holdMusic"]["rtpState"] } }).to_string();
    let start = read_start_hold_music(body.as_bytes()).unwrap();
    desk.ask(Ask::StartHoldMusic { call, participant, start }).unwrap();
    let Some(Output::Play { numbering: Some(numbering), .. }) = desk.said.first() else {
        panic!("{:?}", desk.said)
    };
    // Ten seconds later the timestamp is 480 000 units further.
    let expected = Numbering {
        sequence: SeqNo(10),
        timestamp: Timestamp(11 + 480_000),
        at: MediaTime::from_millis(10_000),
        ..Numbering::new(Ssrc(9))
    };
    assert_eq!(*numbering, expected);
}
