//! Who may be on hold, what a second request means, and what the music does not notice.

use serde_json::json;

use crate::stage::{
    DONE, ENDS_WITHIN, MUSIC, MUSIC_FILE, SPEECH, SPEECH_FILE, assert_hears, hold, hold_and_wait, newcomer,
    no_rules, one, result, seconds, state,
};

#[test]
fn a_second_participant_is_refused_by_name_while_one_is_held() {
    let (mut world, call, alice) = one(301, no_rules());
    let bob = newcomer(&mut world, &call);
    hold(&mut world, &alice, None);
    let refused = world.start(&bob, None, None).expect(409);
    assert_eq!(refused.code(), "8519");
    assert!(refused.message().contains(&alice.id), "{}", refused.message());
    world.run(seconds(1.0));
    assert!(world.phone(bob.phone).arrivals.is_empty());
    world.stop(&alice).expect(202);
    world.start(&bob, None, None).expect(202);
}

#[test]
fn two_held_at_a_time_hear_each_their_own_prompt() {
    let (mut world, call, alice) = one(302, json!({ "maxHeldParticipants": 2 }));
    let (bob, carol) = (newcomer(&mut world, &call), newcomer(&mut world, &call));
    let of_alice = hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(0.5));
    let of_bob = hold(&mut world, &bob, Some(SPEECH));
    assert_eq!(world.start(&carol, None, None).expect(409).code(), "8519");
    world.run(seconds(5.0));
    for (member, operation, file) in [(&alice, of_alice, MUSIC_FILE), (&bob, of_bob, SPEECH_FILE)] {
        assert_eq!(result(&world.operation(&member.call, &operation)), DONE);
        let first = world.phone(member.phone).arrivals[0].at;
        assert_hears(&world, member, first, seconds(4.0), file);
    }
    world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    let flow = world.taps().flow(bob.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
}

#[test]
fn the_same_request_again_is_the_same_operation_and_one_stream() {
    let (mut world, call, alice) = one(303, no_rules());
    let first = world.start(&alice, Some(MUSIC), Some("ctx")).expect(202);
    let again = world.start(&alice, Some(MUSIC), Some("ctx")).expect(202);
    assert_eq!(first.id(), again.id());
    world.run(seconds(2.0));
    let later = world.start(&alice, Some(MUSIC), Some("ctx")).expect(202);
    assert_eq!((later.id(), later.text("status")), (first.id(), "completed"));
    let other = world.start(&alice, Some(MUSIC), Some("another")).expect(202);
    let none = world.start(&alice, Some(MUSIC), None).expect(202);
    assert!(other.id() != first.id() && none.id() != first.id() && none.id() != other.id());
    world.run(seconds(2.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
    assert_eq!(world.taps().rtp.len(), flow.packets, "one stream");
    for operation in [&first, &other, &none] {
        assert_eq!(world.customer(&call).ends_of(operation.id()).len(), 1);
        assert_eq!(result(&world.operation(&call.path, operation.id())), DONE);
    }
    let start = world.phone(alice.phone).arrivals[0].at;
    assert_hears(&world, &alice, start, seconds(3.5), MUSIC_FILE);
    world.stop(&alice).expect(202);
    let new = world.start(&alice, Some(MUSIC), Some("ctx")).expect(202);
    assert_ne!(new.id(), first.id(), "after a stop always a new operation");
}

#[test]
fn another_prompt_before_the_first_was_heard_takes_its_place() {
    let (mut world, call, alice) = one(304, no_rules());
    world.shelf.put_slowly(
        "https://prompts.test/slow.wav",
        &holdmusic_tests::asset(SPEECH_FILE),
        seconds(3.0),
    );
    let first = hold(&mut world, &alice, Some("https://prompts.test/slow.wav"));
    world.run(seconds(1.0));
    let second = hold(&mut world, &alice, Some(MUSIC));
    let over = world.ended_within(&call.path, &second, seconds(1.0));
    assert_eq!(result(&over), DONE);
    let superseded = world.operation(&call.path, &first);
    assert_eq!((superseded["status"].as_str(), result(&superseded)), (Some("failed"), (400, 8508)));
    let changed = world.now();
    world.run(seconds(5.0));
    assert_hears(&world, &alice, changed, seconds(4.5), MUSIC_FILE);
    assert!(world.taps().flow(alice.ssrc).is_one_piece());
}

#[test]
fn who_comes_and_goes_does_not_disturb_the_music() {
    let (mut world, call, alice) = one(305, no_rules());
    hold(&mut world, &alice, Some(MUSIC));
    let mut others = vec![];
    for round in 0..40 {
        world.run(seconds(0.11));
        others.push(newcomer(&mut world, &call));
        if round % 3 == 2 {
            let gone = others.remove(0);
            world.http("DELETE", &gone.path, json!(null)).expect(204);
        }
        world.http("GET", &format!("{}/participants", call.path), json!(null)).expect(200);
    }
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece() && flow.packets > 210, "{flow:?}");
    let first = world.phone(alice.phone).arrivals[0].at;
    assert_hears(&world, &alice, first, seconds(4.0), MUSIC_FILE);
}

#[test]
fn who_has_no_leg_cannot_be_held() {
    let (mut world, call, _) = one(306, no_rules());
    let bare = world.http("POST", &format!("{}/participants", call.path), json!({})).expect(201);
    let path = format!("{}/participants/{}/startHoldMusic", call.path, bare.id());
    assert_eq!(world.http("POST", &path, json!({})).expect(400).code(), "8504");
    let sdp = "v=0\r\no=- 1 1 IN IP4 10.9.9.9\r\ns=-\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\n\
               m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\na=inactive\r\n";
    let body = json!({ "mediaLeg": { "sdp": sdp } });
    let deaf = world.http("POST", &format!("{}/participants", call.path), body).expect(201);
    let path = format!("{}/participants/{}/startHoldMusic", call.path, deaf.id());
    assert_eq!(world.http("POST", &path, json!({})).expect(400).code(), "8504");
}

#[test]
fn an_offer_by_sdp_is_answered_and_sounds_as_the_answer_says() {
    let (mut world, call, _) = one(307, no_rules());
    let phone = world.new_phone();
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\n\
         m=audio {1} RTP/AVP 102 8\r\na=rtpmap:102 opus/48000/2\r\na=rtcp-mux\r\na=sendrecv\r\n",
        phone.ip(),
        phone.port()
    );
    let body = json!({ "mediaLeg": { "sdp": sdp } });
    let member = world.http("POST", &format!("{}/participants", call.path), body).expect(201);
    let answer = member.body["mediaLeg"]["sdp"].as_str().unwrap().to_owned();
    assert!(answer.contains("a=sendonly") && answer.contains("a=rtpmap:102 opus/48000/2"), "{answer}");
    let path = format!("{}/participants/{}/startHoldMusic", call.path, member.id());
    world.http("POST", &path, json!({})).expect(202);
    world.run(seconds(1.0));
    let packets = world.taps().to(phone);
    assert!(packets.len() >= 49 && packets.iter().all(|sent| sent.header.payload_type.number() == 102));
}

#[test]
fn an_operation_can_wait_for_the_end_of_the_music() {
    let (mut world, call, alice) = one(308, json!({ "completesWhen": "musicEnds" }));
    let operation = hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(60.0));
    assert_eq!(world.operation(&call.path, &operation)["status"], "running");
    assert_eq!(world.customer(&call).ends_of(&operation).len(), 0);
    world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    assert_eq!(result(&world.operation(&call.path, &operation)), DONE);
    assert_eq!(world.customer(&call).ends_of(&operation).len(), 1);
}

#[test]
fn a_house_that_is_closing_takes_no_new_hold_and_leaves_the_others_their_music() {
    let (mut world, call, alice) = one(309, json!({ "maxHeldParticipants": 2 }));
    let bob = newcomer(&mut world, &call);
    hold_and_wait(&mut world, &alice, None);
    world.drain();
    let refused = world.start(&bob, None, None).expect(503);
    assert!(!refused.message().is_empty());
    world.run(seconds(2.0));
    assert!(world.taps().flow(alice.ssrc).is_one_piece());
    world.stop(&alice).expect(202);
}

#[test]
fn what_is_finished_can_be_read_as_long_as_its_call_lives() {
    let (mut world, call, alice) = one(310, no_rules());
    let mut operations = vec![];
    for _ in 0..30 {
        operations.push(hold(&mut world, &alice, Some(MUSIC)));
        world.run(seconds(0.2));
        operations.push(world.stop(&alice).expect(202).id().to_owned());
    }
    world.run(ENDS_WITHIN);
    for operation in &operations {
        assert_eq!(world.operation(&call.path, operation)["status"], "completed");
    }
    let listed = world.http("GET", &format!("{}/operations?$count=true&$top=7", call.path), json!(null));
    assert_eq!(listed.body["@odata.count"], 60);
    assert_eq!(listed.body["value"].as_array().unwrap().len(), 7);
    assert_eq!(state(&mut world, &alice)["state"], "none");
}
