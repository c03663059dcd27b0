//! How holds end: asked for, by those who leave, and by themselves.

use std::{net::SocketAddr, time::Duration};

use holdmusic_media::rtp::Ssrc;
use holdmusic_tests::World;
use serde_json::{Value, json};

use crate::stage::{MUSIC, hold, hold_and_wait, no_rules, one, result, seconds, state};

/// A prompt that takes five seconds: long enough to be stopped before it.
const SLOW: &str = "https://prompts.test/slow.wav";

#[test]
fn a_stop_before_the_first_packet_cancels_the_start() {
    let (mut world, call, alice) = one(401, no_rules());
    world.shelf.put_slowly(SLOW, &holdmusic_tests::asset(crate::stage::MUSIC_FILE), seconds(5.0));
    let operation = hold(&mut world, &alice, Some(SLOW));
    world.run(seconds(0.1));
    assert_eq!(world.stop(&alice).expect(202).text("status"), "completed");
    let over = world.operation(&call.path, &operation);
    assert_eq!((over["status"].as_str(), result(&over)), (Some("failed"), (400, 8508)));
    world.run(seconds(10.0));
    assert!(world.taps().rtp.is_empty());
    assert_eq!(world.customer(&call).ends_of(&operation).len(), 1);
}

#[test]
fn a_stop_without_a_hold_is_done_at_once_and_says_so() {
    let (mut world, call, alice) = one(402, no_rules());
    world.run(seconds(1.0));
    let before = world.customer(&call).told.len();
    let stopped = world.stop(&alice).expect(202);
    assert_eq!((stopped.text("status"), &stopped.body["resultInfo"]), ("completed", &Value::Null));
    assert_eq!(stopped.body["holdMusic"]["nothingToStop"], true);
    world.run(seconds(1.0));
    assert_eq!(world.customer(&call).told.len(), before, "a stop is not told of");
}

#[test]
fn a_participant_who_is_removed_takes_the_music_with_it() {
    let (mut world, call, alice) = one(403, no_rules());
    let operation = hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(2.0));
    let gone = world.now();
    world.http("DELETE", &alice.path, json!(null)).expect(204);
    let sent = world.taps().rtp.len();
    world.run(seconds(2.0));
    assert_eq!(world.taps().rtp.len(), sent);
    let goodbyes = world.taps().goodbyes(alice.ssrc);
    assert_eq!(goodbyes, [(gone, alice.phone)]);
    assert_eq!(world.customer(&call).ends_of(&operation).len(), 1);
    assert_eq!(world.http("GET", &alice.path, json!(null)).status, 404);
    assert_eq!(world.operation(&call.path, &operation)["status"], "completed");
}

#[test]
fn a_call_that_is_deleted_takes_the_music_with_it_and_its_operations_stay_readable() {
    let (mut world, call, alice) = one(404, no_rules());
    world.shelf.put_silence(SLOW);
    let first = hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(2.0));
    let second = hold(&mut world, &alice, Some(SLOW));
    world.run(seconds(2.0));
    world.http("DELETE", &call.path, json!(null)).expect(204);
    let sent = world.taps().rtp.len();
    world.run(seconds(5.0));
    assert_eq!(world.taps().rtp.len(), sent);
    assert_eq!(world.taps().goodbyes(alice.ssrc).len(), 1);
    assert_eq!(world.operation(&call.path, &first)["status"], "completed");
    let over = world.operation(&call.path, &second);
    assert_eq!((over["status"].as_str(), result(&over)), (Some("failed"), (400, 8528)));
    let told = &world.customer(&call).told;
    assert_eq!(told.last().unwrap().what["resourceData"]["state"], "terminated");
    for operation in [&first, &second] {
        assert_eq!(world.customer(&call).ends_of(operation).len(), 1);
    }
    world.run(Duration::from_secs(3700));
    let path = format!("{}/operations/{first}", call.path);
    assert_eq!(world.http("GET", &path, json!(null)).status, 404, "until the retention time is over");
}

#[test]
fn a_phone_that_says_goodbye_ends_its_hold() {
    let (mut world, call, alice) = one(405, no_rules());
    hold(&mut world, &alice, Some(MUSIC));
    world.run(seconds(2.0));
    world.phone_reports(alice.phone, false);
    world.run(seconds(1.0));
    assert_eq!(state(&mut world, &alice)["state"], "playing", "a report is no goodbye");
    let before = world.customer(&call).told.len();
    world.phone_reports(alice.phone, true);
    world.run(Duration::from_millis(2));
    let sent = world.taps().rtp.len();
    world.run(seconds(1.0));
    assert_eq!(world.taps().rtp.len(), sent);
    let hold_music = state(&mut world, &alice);
    assert_eq!((&hold_music["state"], &hold_music["endedBy"]), (&json!("none"), &json!("bye")));
    let news: Vec<_> =
        world.customer(&call).told[before..].iter().map(|told| told.change().to_owned()).collect();
    assert_eq!(news, ["updated"], "a hold that ends by itself is told with the roster");
    assert!(world.taps().goodbyes(alice.ssrc).is_empty(), "the leg stays");
    hold_and_wait(&mut world, &alice, None);
}

/// RFC 3550 section 6.1: a receiver that leaves need not report once more, and may never have reported.
#[test]
fn a_phone_that_leaves_without_a_report_ends_its_hold() {
    for reports in [false, true] {
        let (mut world, call, alice) = one(411, json!({ "maxHeldParticipants": 2 }));
        let bob = crate::stage::newcomer(&mut world, &call);
        for member in [&alice, &bob] {
            hold(&mut world, member, None);
        }
        world.run(seconds(1.0));
        let mut from = alice.phone;
        if reports {
            for member in [&alice, &bob] {
                world.phone_reports(member.phone, false);
            }
            world.run(seconds(1.0));
        }
        from.set_port(9);
        world.phone_leaves(alice.phone, SocketAddr::from(([10, 9, 9, 9], alice.phone.port())));
        world.run(seconds(1.0));
        assert_eq!(state(&mut world, &alice)["state"], "playing", "a stranger");
        // From another port it must be known who it is.
        world.phone_leaves(alice.phone, if reports { from } else { alice.phone });
        world.run(seconds(1.0));
        assert_eq!(state(&mut world, &alice)["endedBy"], "bye", "reports before: {reports}");
        assert_eq!(state(&mut world, &bob)["state"], "playing");
        assert!(world.taps().flow(bob.ssrc).is_one_piece());
    }
}

/// What the customer is told of a hold that was stopped agrees with the answer to the stop.
#[test]
fn the_roster_after_a_stop_carries_the_report_of_its_answer() {
    let (mut world, call, alice) = one(412, no_rules());
    hold(&mut world, &alice, None);
    world.run(seconds(3.33));
    let answered = world.stop(&alice).expect(202).body["holdMusic"]["report"]["packets"].clone();
    assert!(answered.as_u64() > Some(160), "{answered}");
    world.run(seconds(1.0));
    let told = &world.customer(&call).told.last().unwrap().what["resourceData"][0]["holdMusic"];
    assert_eq!((&told["endedBy"], &told["report"]["packets"]), (&json!("stop"), &answered));
}

#[test]
fn a_goodbye_of_a_stranger_ends_nothing() {
    let (mut world, call, alice) = one(406, json!({ "maxHeldParticipants": 2 }));
    let mallory = crate::stage::newcomer(&mut world, &call);
    for member in [&alice, &mallory] {
        hold(&mut world, member, None);
    }
    world.run(seconds(1.0));
    world.phone_reports(mallory.phone, true);
    world.run(seconds(1.0));
    assert_eq!(state(&mut world, &mallory)["state"], "none");
    assert_eq!(state(&mut world, &alice)["state"], "playing");
    assert!(world.taps().flow(alice.ssrc).is_one_piece());
}

#[test]
fn a_destination_that_is_gone_for_ten_seconds_ends_the_hold_and_a_shorter_absence_does_not() {
    let (mut world, _, alice) = one(407, no_rules());
    hold(&mut world, &alice, None);
    world.run(seconds(2.0));
    world.unplug(alice.phone);
    world.run(seconds(8.0));
    world.plug(alice.phone);
    world.run(seconds(8.0));
    assert_eq!(state(&mut world, &alice)["state"], "playing");
    world.unplug(alice.phone);
    world.run(seconds(9.5));
    assert_eq!(state(&mut world, &alice)["state"], "playing");
    world.run(seconds(1.0));
    let hold_music = state(&mut world, &alice);
    assert_eq!((&hold_music["state"], &hold_music["endedBy"]), (&json!("none"), &json!("unreachable")));
}

#[test]
fn the_longest_duration_of_a_hold_is_kept_to_the_packet() {
    let (mut world, _, alice) = one(408, json!({ "maxDuration": "PT3S" }));
    let asked = world.now();
    hold(&mut world, &alice, None);
    world.run(seconds(10.0));
    let last = world.taps().rtp.last().unwrap().at;
    let lasted = last.since(asked);
    assert!(lasted <= seconds(3.0) && lasted > seconds(2.97), "{lasted:?}");
    assert_eq!(state(&mut world, &alice)["endedBy"], "maxDuration");
}

#[test]
fn a_leg_that_is_deleted_ends_the_hold_and_says_goodbye() {
    let (mut world, _, alice) = one(409, no_rules());
    hold(&mut world, &alice, None);
    world.run(seconds(1.0));
    world.http("DELETE", &format!("{}/mediaLeg", alice.path), json!(null)).expect(204);
    world.run(seconds(1.0));
    assert_eq!(world.taps().goodbyes(alice.ssrc).len(), 1);
    let hold_music = state(&mut world, &alice);
    assert_eq!((&hold_music["state"], &hold_music["endedBy"]), (&json!("none"), &json!("removed")));
}

/// Sender reports come at the intervals of RFC 3550 while music plays, and only then.
#[test]
fn the_engine_reports_while_it_sends_and_not_else() {
    let (mut world, _, alice) = one(410, no_rules());
    world.run(seconds(30.0));
    assert!(world.taps().rtcp.is_empty());
    hold(&mut world, &alice, None);
    world.run(seconds(60.0));
    let reports = world.taps().rtcp.len();
    assert!((8..=25).contains(&reports), "{reports} a minute");
    assert_eq!(world.phone(alice.phone).hearing().rtcp.sender_reports, reports as u64);
    world.stop(&alice).expect(202);
    world.run(seconds(60.0));
    assert_eq!(world.taps().rtcp.len(), reports, "a stop is no goodbye");
}

/// A phone behind a NAT: its offer names an address that nobody can reach, or one that was its own a while ago.
#[test]
fn a_leg_follows_its_peer_only_where_that_is_wanted_and_only_who_proves_itself() {
    let seen: SocketAddr = "10.1.2.3:6000".parse().unwrap();
    let public: SocketAddr = "203.0.113.7:6000".parse().unwrap();
    for latching in [false, true] {
        let (mut world, call, _) = {
            let mut world = World::with(413, |settings| settings.pacer.latching = latching);
            crate::stage::fill(&mut world);
            let call = world.call(no_rules());
            (world, call, ())
        };
        let alice = crate::stage::newcomer(&mut world, &call);
        hold(&mut world, &alice, None);
        world.run(seconds(1.0));
        let goes_to = |world: &mut World, to: SocketAddr, why: &str| {
            world.run(seconds(1.1));
            assert_eq!(world.taps().of(alice.ssrc).last().unwrap().to, to, "{why}");
        };
        // It announced no source, so RTP proves nothing.
        world.phone_answers_from(alice.phone, seen, Some(Ssrc(77)));
        goes_to(&mut world, alice.phone, "a stranger's RTP");
        world.phone_answers_from(alice.phone, public, None);
        goes_to(&mut world, alice.phone, "where legs may not go");
        world.phone_answers_from(alice.phone, seen, None);
        goes_to(&mut world, if latching { seen } else { alice.phone }, "a report about our source");
        assert!(world.taps().flow(alice.ssrc).is_one_piece(), "the same stream");
        if !latching {
            continue;
        }
        let sdp = "v=0\r\no=- 1 1 IN IP4 10.1.1.1\r\ns=-\r\nc=IN IP4 10.1.1.1\r\nt=0 0\r\n\
                   m=audio 7000 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:77 cname:alice\r\n";
        world.http("PUT", &format!("{}/mediaLeg", alice.path), json!({ "sdp": sdp })).expect(200);
        let named = "10.1.1.1:7000".parse().unwrap();
        goes_to(&mut world, named, "renegotiated");
        world.phone_answers_from(alice.phone, seen, Some(Ssrc(78)));
        goes_to(&mut world, named, "another source than the one of the offer");
        world.phone_answers_from(alice.phone, seen, Some(Ssrc(77)));
        goes_to(&mut world, seen, "the source of the offer");
        let leg = world.http("GET", &format!("{}/mediaLeg", alice.path), json!(null)).expect(200).body;
        assert_eq!(leg["remoteAddress"], seen.to_string());
    }
}
