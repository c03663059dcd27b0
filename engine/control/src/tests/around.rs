//! Stories of what is around a hold: the call's default music, its notifications and limits, and how its entities look.

use expect_test::expect;

use super::*;
use crate::{Origin, graph::read_media_leg, prompt::Prompt};

#[test]
fn a_default_prompt_is_prepared_with_its_call_and_falls_back_to_the_built_in_music() {
    let prompt = r#"{"defaultPrompt":{"mediaInfo":{"uri":"https://host/ours.wav"}}}"#;
    let mut desk = Desk::new();
    let call = desk.call(prompt);
    let who = (call, desk.participant(call));
    desk.ready(1);
    desk.start(who, "", "").unwrap();
    desk.started(1, 1);
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/ours.wav
        notify updated established
        add leg 1 to 127.0.0.1:40000
        notify updated roster [sendReceive:none]
        play 1 on leg 1
        notify updated roster [inactive:starting]
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["source"], "default");
    desk.fail(1);
    desk.started(1, 0);
    desk.stop(who).unwrap();
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        release 1
        stop leg 1
        notify updated roster [sendReceive:none/stop]
    "#]],
    );
    // The next hold tries it again, and waits no longer than for any prompt.
    desk.start(who, "", "").unwrap();
    desk.pass(300);
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        prepare 2 https://host/ours.wav
        notify updated roster [inactive:starting]
        play 0 on leg 1
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
}

#[test]
fn a_default_prompt_of_the_server_is_prepared_at_the_beginning() {
    let origin = Origin::Web("https://host/ours.wav".parse().unwrap());
    let settings =
        Settings { default_prompt: Some(Prompt { origin, resource_id: None }), ..Settings::default() };
    let mut desk = Desk::with(settings);
    desk.listen();
    check(
        &mut desk,
        &expect![[r#"
        prepare 1 https://host/ours.wav
    "#]],
    );
    desk.ready(1);
    let who = desk.one("{}");
    desk.start(who, "b.wav", "").unwrap();
    desk.pass(300);
    check(
        &mut desk,
        &expect![[r#"
        prepare 2 https://host/b.wav
        notify updated roster [inactive:starting]
        play 1 on leg 1
    "#]],
    );
}

/// Whether each `Play` since the last time was of default music.
fn played_as_default(desk: &mut Desk) -> Vec<bool> {
    let plays = |output: Output| match output {
        Output::Play { is_default, .. } => Some(is_default),
        _ => None,
    };
    std::mem::take(&mut desk.said).into_iter().filter_map(plays).collect()
}

#[test]
fn music_counts_as_default_unless_it_was_asked_for() {
    let origin = Origin::Web("https://host/server.wav".parse().unwrap());
    let settings =
        Settings { default_prompt: Some(Prompt { origin, resource_id: None }), ..Settings::default() };
    let mut desk = Desk::with(settings);
    desk.ready(1);
    let call = desk.call(r#"{"defaultPrompt":{"mediaInfo":{"uri":"https://host/call.wav"}}}"#);
    let who = (call, desk.participant(call));
    desk.start(who, "", "").unwrap();
    desk.pass(300);
    assert_eq!(played_as_default(&mut desk), [true], "the server's, while the call's is not ready");
    desk.ready(2);
    assert_eq!(played_as_default(&mut desk), [true], "the call's");
    desk.start(who, "server.wav", "").unwrap();
    desk.start(who, "call.wav", "").unwrap();
    assert_eq!(played_as_default(&mut desk), [false, false], "asked for by name");
    desk.started(1, 2);
    assert_eq!(desk.read(who)["holdMusic"]["source"], "customPrompt");
    let offer = read_media_leg(br#"{"rtp":{"address":"[::1]:5000","payloadType":96}}"#).unwrap();
    desk.ask(Ask::PutMediaLeg { call, participant: who.1, offer }).unwrap();
    desk.fail(2);
    assert_eq!(played_as_default(&mut desk), [false, true], "on another leg; and when it breaks");
}

#[test]
fn notifications_of_a_call_leave_in_order_and_again_until_they_are_accepted() {
    let mut desk = Desk::new();
    desk.receiver_answers = false;
    let who = desk.call("{}");
    let who = (who, desk.participant(who));
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    let Some(&Output::Notify { notification: first, .. }) =
        desk.said.iter().find(|output| matches!(output, Output::Notify { .. }))
    else {
        panic!("nothing is told")
    };
    check(
        &mut desk,
        &expect![[r#"
        notify updated established
        add leg 1 to 127.0.0.1:40000
        play 0 on leg 1
    "#]],
    );
    let retry = DeliveryOutcome::Retry { reason: "HTTP status 503".into(), after: None };
    desk.delivered(first, retry);
    desk.pass(249);
    check(&mut desk, &expect![[r#""#]]);
    desk.pass(64);
    check(
        &mut desk,
        &expect![[r#"
        notify updated established (attempt 2)
    "#]],
    );
    desk.receiver_answers = true;
    desk.delivered(first, DeliveryOutcome::Accepted);
    check(
        &mut desk,
        &expect![[r#"
        notify updated roster [inactive:playing]
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
    assert_eq!(desk.control.counts().notifications_delivered, 3);
}

#[test]
fn etags_rise_with_every_notification_of_a_call() {
    let mut desk = Desk::new();
    let call = desk.call("{}");
    let who = (call, desk.participant(call));
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.ask(Ask::DeleteCall { call }).unwrap();
    let etags: Vec<u64> = desk
        .said
        .iter()
        .filter_map(|output| match output {
            Output::Notify { body, .. } => Some(serde_json::from_str::<Value>(body).unwrap()),
            _ => None,
        })
        .map(|body| {
            let data = &body["value"][0]["resourceData"];
            let etag = data["@odata.etag"].as_str().or(data[0]["@odata.etag"].as_str()).unwrap();
            etag.trim_start_matches("W/\"").trim_end_matches('"').parse().unwrap()
        })
        .collect();
    assert!(etags.len() >= 5 && etags.is_sorted_by(|a, b| a < b), "{etags:?}");
}

#[test]
fn a_call_that_is_not_kept_alive_ends() {
    let mut desk = Desk::with(Settings { lifetime: Some(seconds(60)), ..Settings::default() });
    let (call, _) = desk.one("{}");
    desk.pass(50_000);
    assert_eq!(desk.ask(Ask::KeepAlive { call }).unwrap().status, 200);
    desk.pass(50_000);
    check(&mut desk, &expect![[r#""#]]);
    desk.pass(10_000);
    check(
        &mut desk,
        &expect![[r#"
        remove leg 1
        notify updated terminating
        notify deleted terminated 408/8537 The call was not kept alive.
    "#]],
    );
}

#[test]
fn limits_refuse_with_a_time_to_come_back() {
    let settings = Settings {
        max_calls: 2,
        max_held: 1,
        max_participants: 2,
        max_participants_per_call: 1,
        max_preparing: 1,
        ..Settings::default()
    };
    let mut desk = Desk::with(settings);
    let (first, second) = (desk.one("{}"), desk.one("{}"));
    let create = read_create_call(br#"{"callbackUri":"https://bot/"}"#).unwrap();
    let refusal = desk.ask(Ask::CreateCall(create)).unwrap_err();
    assert_eq!((refusal.status, refusal.retry_after_s), (429, Some(5)));
    let refusal = desk.ask(Ask::CreateParticipant { call: first.0, create: Default::default() }).unwrap_err();
    assert_eq!((refusal.status, refusal.retry_after_s), (429, Some(5)));
    desk.ask(Ask::DeleteCall { call: second.0 }).unwrap();
    let third = desk.call("{}");
    desk.participant(third);
    desk.ask(Ask::DeleteCall { call: third }).unwrap();
    let second = desk.one("{}");
    desk.control.settings.max_calls = 3;
    let fourth = desk.call("{}");
    let refusal = desk.ask(Ask::CreateParticipant { call: fourth, create: Default::default() }).unwrap_err();
    assert_eq!(
        (refusal.status, refusal.retry_after_s),
        (503, Some(5)),
        "participants of ended calls are gone"
    );
    desk.start(first, "a.wav", "").unwrap();
    let refusal = desk.start(second, "", "").unwrap_err();
    assert_eq!((refusal.status, refusal.retry_after_s), (503, Some(5)));
    let refusal = desk.start(first, "b.wav", "").unwrap_err();
    assert_eq!((refusal.status, refusal.retry_after_s), (503, Some(2)));
    assert_eq!(desk.control.counts().starts, 1);
    desk.tell(Input::Drain);
    assert_eq!(desk.start(first, "", "").unwrap_err().status, 503);
}

#[test]
fn only_the_last_operations_of_a_call_are_kept() {
    let mut desk = Desk::with(Settings { max_operations_per_call: 3, ..Settings::default() });
    let who = desk.one("{}");
    for _ in 0..10 {
        desk.stop(who).unwrap();
    }
    let query = Query::read("$count=true&$top=2").unwrap();
    let told = json(&desk.ask(Ask::ListOperations { call: who.0, query }).unwrap());
    assert_eq!((&told["@odata.count"], told["value"].as_array().unwrap().len()), (&3.into(), 2));
    let next = told["@odata.nextLink"].as_str().unwrap();
    assert!(next.starts_with(&format!("{BASE}/communications/calls/{}/operations?", who.0)), "{next}");
    assert_eq!(desk.control.counts().operations, 3);
}

#[test]
fn operations_are_filtered_and_selected() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    desk.start(who, "", "mine").unwrap();
    desk.stop(who).unwrap();
    let query = Query::read("$filter=status eq 'failed' and clientContext eq 'mine'&$select=status").unwrap();
    let told = json(&desk.ask(Ask::ListOperations { call: who.0, query }).unwrap());
    expect![[r##"[{"@odata.etag":"W/\"5\"","@odata.type":"#microsoft.graph.startHoldMusicOperation","status":"failed"}]"##]]
        .assert_eq(&told["value"].to_string());
}

#[test]
fn entities_look_as_graph_prints_them() {
    let mut desk = Desk::new();
    let body = br##"{"@odata.type":"#microsoft.graph.call","callbackUri":"https://bot.contoso.com/api",
        "subject":"x","targets":[{"identity":{}}],"unheardOf":1}"##;
    let answer = desk.ask(Ask::CreateCall(read_create_call(body).unwrap())).unwrap();
    let call = CallId::read(json(&answer)["id"].as_str().unwrap()).unwrap();
    let who = (call, desk.participant(call));
    expect![[r##"
        {
          "@odata.context": "http://127.0.0.1:8080/v1.0/$metadata#communications/calls/$entity",
          "@odata.etag": "W/\"0\"",
          "@odata.type": "#microsoft.graph.call",
          "callbackUri": "https://bot.contoso.com/api",
          "createdDateTime": "2023-11-14T22:13:20.000Z",
          "direction": "outgoing",
          "holdMusic": {
            "completesWhen": "musicStarts",
            "defaultPrompt": null,
            "maxDuration": null,
            "maxHeldParticipants": 1,
            "onPromptFailure": "defaultMusic",
            "statusCase": "camel"
          },
          "id": "3cb4dbe2-cd20-4c1b-9c50-ac90b209c7d3",
          "mediaState": {
            "@odata.type": "#microsoft.graph.callMediaState",
            "audio": "active"
          },
          "myParticipantId": "4445a2a3-872a-4ed2-bba7-6ec79b10a5b5",
          "state": "established",
          "subject": "x",
          "targets": [
            {
              "identity": {}
            }
          ]
        }
    "##]]
    .assert_eq(&format!("{}\n", serde_json::to_string_pretty(&json(&answer)).unwrap()));
    let told = desk.read(who);
    expect![[r##"
        {
          "@odata.context": "http://127.0.0.1:8080/v1.0/$metadata#communications/calls('3cb4dbe2-cd20-4c1b-9c50-ac90b209c7d3')/participants/$entity",
          "@odata.etag": "W/\"2\"",
          "@odata.type": "#microsoft.graph.participant",
          "holdMusic": {
            "state": "none"
          },
          "id": "372bb753-73a1-45a0-a26b-b4c02f20d522",
          "info": {
            "@odata.type": "#microsoft.graph.participantInfo",
            "identity": {
              "@odata.type": "#microsoft.graph.identitySet"
            }
          },
          "isInLobby": false,
          "isMuted": false,
          "mediaLeg": {
            "codec": "opus",
            "counters": {
              "bytes": 0,
              "defaultMusicMs": 0,
              "durationMs": 0.0,
              "lateTicks": 0,
              "longestGapMs": 0.0,
              "packets": 0,
              "sendErrors": 0,
              "skippedTicks": 0,
              "starvedTicks": 0
            },
            "direction": "sendOnly",
            "localAddress": "127.0.0.1:20000",
            "payloadType": 111,
            "remoteAddress": "127.0.0.1:40000",
            "rtcpAddress": "127.0.0.1:40000",
            "ssrc": 3778894333
          },
          "mediaStreams": [
            {
              "@odata.type": "#microsoft.graph.mediaStream",
              "direction": "sendReceive",
              "label": "main-audio",
              "mediaType": "audio",
              "serverMuted": false,
              "sourceId": "1"
            }
          ],
          "metadata": null
        }
    "##]].assert_eq(&format!("{}\n", serde_json::to_string_pretty(&told).unwrap()));
}

#[test]
fn the_end_of_an_operation_is_told_in_the_documented_form() {
    let mut desk = Desk::new();
    let who = desk.one(r#"{"statusCase":"pascal"}"#);
    desk.start(who, "", "d45324c1-fcb5-430a-902c-f20af696537c").unwrap();
    desk.said.clear();
    desk.started(1, 0);
    let Some(Output::Notify { body, .. }) = desk.said.last() else { panic!("{:?}", desk.said) };
    expect![[r##"{"@odata.type":"#microsoft.graph.commsNotifications","value":[{"@odata.type":"#microsoft.graph.commsNotification","changeType":"deleted","resource":"/app/calls/3cb4dbe2-cd20-4c1b-9c50-ac90b209c7d3/operations/fc22427f-c8e2-4d72-8310-fd316b7c81ce","resourceUrl":"communications/calls/3cb4dbe2-cd20-4c1b-9c50-ac90b209c7d3/operations/fc22427f-c8e2-4d72-8310-fd316b7c81ce","resourceData":{"@odata.type":"#microsoft.graph.startHoldMusicOperation","@odata.id":"communications/calls/3cb4dbe2-cd20-4c1b-9c50-ac90b209c7d3/operations/fc22427f-c8e2-4d72-8310-fd316b7c81ce","@odata.etag":"W/\"4\"","id":"fc22427f-c8e2-4d72-8310-fd316b7c81ce","status":"Completed","clientContext":"d45324c1-fcb5-430a-902c-f20af696537c","resultInfo":{"@odata.type":"#microsoft.graph.resultInfo","code":200,"subcode":0,"message":"Action completed successfully."}}}]}"##]].assert_eq(body);
}
