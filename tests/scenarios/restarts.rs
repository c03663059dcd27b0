//! The engine dies and is started again: what plays plays on, what was promised is kept, what was owed is told.

use std::time::Duration;

use holdmusic_control::settings::OnRestart;
use holdmusic_media::{MasterKey, Suite, rtp::HEADER_LEN, unprotect::Unprotector};
use holdmusic_tests::{Manner, Sent, World};
use serde_json::{Value, json};

use crate::stage::{
    DONE, ENDS_WITHIN, MUSIC, hold, hold_and_wait, newcomer, no_rules, one, result, seconds, state,
};

/// What left for a phone from `from` on, as time and payload: the same music at the same time is the same here.
fn music_after(
    world: &World,
    to: std::net::SocketAddr,
    from: holdmusic_media::MediaTime,
) -> Vec<(u64, Vec<u8>)> {
    let later = world.taps().to(to).into_iter().filter(|sent| sent.at >= from);
    later.map(|sent| (sent.at.as_nanos() / 20_000_000, sent.payload.clone())).collect()
}

/// Two worlds of one seed, in one of which the engine dies: afterwards both send the same frames in the same ticks.
#[test]
fn music_goes_on_as_if_it_had_played_on() {
    let of_the_call = json!({ "defaultPrompt": { "mediaInfo": { "uri": MUSIC } } });
    for (prompt, rules, fetches) in
        [(None, no_rules(), 0), (Some(MUSIC), no_rules(), 1), (None, of_the_call, 1)]
    {
        let told = |dies: bool| {
            let (mut world, _, alice) = one(701, rules.clone());
            // The default music of the call is ready before it is wanted.
            world.run(seconds(1.0));
            hold_and_wait(&mut world, &alice, prompt);
            let began = world.now();
            // The prompt is 9.6 s long: by then it is in its second lap, and kept.
            world.run(seconds(12.0));
            if dies {
                world.crash(Duration::from_millis(300));
            }
            world.run_until(began + seconds(13.0));
            let again = world.now();
            world.run_until(began + seconds(16.0));
            assert_eq!(world.shelf.fetches(MUSIC), fetches, "no fetch is needed");
            (
                music_after(&world, alice.phone, again),
                world.taps().of(alice.ssrc).into_iter().cloned().collect(),
            )
        };
        let ((undisturbed, _), (resumed, sent)): (_, (_, Vec<Sent>)) = (told(false), told(true));
        let frames: std::collections::BTreeMap<_, _> = undisturbed.into_iter().collect();
        assert!(resumed.len() >= 149, "{prompt:?}: {}", resumed.len());
        for (tick, payload) in &resumed {
            assert!(
                frames.get(tick).is_none_or(|there| there == payload),
                "{prompt:?}: another frame at {tick}"
            );
        }
        check_numbers(&sent, 1);
    }
}

/// One source; sequence and timestamp go forward, by one and by 960 but where the engine was away, and each beginning
/// has the marker.
#[track_caller]
fn check_numbers(sent: &[Sent], crashes: usize) {
    let mut jumps = 0;
    for pair in sent.windows(2) {
        let (before, after) = (&pair[0].header, &pair[1].header);
        assert_eq!((after.ssrc, pair[1].from), (before.ssrc, pair[0].from), "one source, one socket");
        let steps = after.sequence.0.wrapping_sub(before.sequence.0);
        let units = after.timestamp.0.wrapping_sub(before.timestamp.0);
        let away = pair[1].at.since(pair[0].at);
        let counted = Duration::from_micros(u64::from(units) * 1_000 / 48);
        assert!(counted.abs_diff(away) < Duration::from_millis(25), "{counted:?} counted, {away:?} passed");
        if steps == 1 {
            continue;
        }
        jumps += 1;
        assert!(after.marker, "the first after a restart has the marker");
        let most = away.as_millis() / 20 + 2;
        assert!((2..=u16::try_from(most).unwrap()).contains(&steps), "{steps} for {away:?}");
    }
    assert_eq!(jumps, crashes);
}

/// Of a prompt that was not kept the place is not there for a while, but its beginning is.
#[test]
fn music_that_is_not_kept_begins_anew_and_not_in_silence() {
    let (mut world, _, alice) = one(708, no_rules());
    hold_and_wait(&mut world, &alice, Some(MUSIC));
    world.run(seconds(6.0));
    world.forget_prompts();
    world.crash(seconds(0.3));
    world.run(seconds(0.3));
    let again = world.now();
    world.run(seconds(1.5));
    assert_eq!(world.shelf.fetches(MUSIC), 2);
    let silence = holdmusic_codecs::Codec::Opus.nothing();
    let sent: Vec<_> = world.taps().of(alice.ssrc).into_iter().filter(|sent| sent.at >= again).collect();
    let silent = sent.iter().filter(|sent| sent.payload == silence).count();
    assert!(sent.len() > 60 && silent == 0, "{silent} of {} packets have no sound", sent.len());
    assert_eq!(state(&mut world, &alice)["source"], "customPrompt");
}

#[test]
fn an_operation_that_was_under_way_ends_as_it_would_have() {
    let (mut world, call, alice) = one(702, no_rules());
    world.shelf.put_slowly(
        "https://prompts.test/slow.wav",
        &holdmusic_tests::asset(crate::stage::MUSIC_FILE),
        seconds(3.0),
    );
    let operation = hold(&mut world, &alice, Some("https://prompts.test/slow.wav"));
    world.run(seconds(1.0));
    world.crash(Duration::from_millis(200));
    world.run(seconds(1.0));
    assert_eq!(state(&mut world, &alice)["source"], "default", "meanwhile");
    let ended = world.ended_within(&call.path, &operation, ENDS_WITHIN);
    assert_eq!((ended["status"].as_str(), result(&ended)), (Some("completed"), DONE));
    world.run(seconds(1.0));
    assert_eq!(world.customer(&call).ends_of(&operation).len(), 1);
    assert_eq!(state(&mut world, &alice)["source"], "customPrompt");
}

#[test]
fn what_was_owed_is_told_under_the_same_name_and_in_order() {
    let (mut world, call, alice) = one(703, no_rules());
    world.customer(&call).answers(Manner::Fails(Duration::from_millis(5)));
    let operation = hold(&mut world, &alice, None);
    world.run(seconds(2.0));
    world.crash(seconds(1.0));
    world.run(seconds(3.0));
    world.customer(&call).answers(Manner::Accepts(Duration::from_millis(5)));
    world.run(seconds(60.0));
    let customer = world.customer(&call);
    let names: std::collections::BTreeSet<_> =
        customer.attempts.iter().map(|attempt| attempt.notification).collect();
    let told: Vec<_> = customer.told.iter().map(|told| told.notification).collect();
    assert_eq!(names.len(), told.len(), "nothing was told under two names");
    assert_eq!(customer.ends_of(&operation).len(), 1);
    let etags: Vec<u64> = customer.told.iter().filter_map(|told| etag(&told.what["resourceData"])).collect();
    assert!(etags.len() >= 3 && etags.is_sorted(), "{etags:?}");
    assert_eq!(world.counts().notifications_pending, 0);
}

fn etag(entity: &Value) -> Option<u64> {
    let text = entity["@odata.etag"].as_str().or(entity[0]["@odata.etag"].as_str())?;
    text.trim_start_matches("W/\"").trim_end_matches('"').parse().ok()
}

#[test]
fn what_was_said_and_heard_before_can_be_read_afterwards() {
    let (mut world, call, alice) = one(704, no_rules());
    let operation = hold_and_wait(&mut world, &alice, Some(MUSIC));
    world.run(seconds(1.0));
    let stopped = world.stop(&alice).expect(202);
    world.run(seconds(0.5));
    let read = |world: &mut World| {
        let mut member = world.read_member(&alice);
        member.as_object_mut().unwrap().remove("mediaLeg");
        let operations =
            world.http("GET", &format!("{}/operations", call.path), json!(null)).expect(200).body;
        (member, operations, world.http("GET", &call.path, json!(null)).expect(200).body)
    };
    let before = read(&mut world);
    assert_eq!(before.1["value"].as_array().unwrap().len(), 2);
    world.crash(seconds(5.0));
    world.run(seconds(6.0));
    assert_eq!(read(&mut world), before);
    let first = world.operation(&call.path, operation["id"].as_str().unwrap());
    assert_eq!(first["status"], "completed");
    assert_eq!(world.operation(&call.path, stopped.id())["holdMusic"]["rtpState"]["ssrc"], alice.ssrc.0);
}

#[test]
fn holds_whose_time_was_over_meanwhile_end() {
    let (mut world, _, alice) = one(705, json!({ "maxDuration": 5 }));
    hold_and_wait(&mut world, &alice, None);
    world.run(seconds(1.0));
    world.crash(seconds(10.0));
    world.run(seconds(10.5));
    let hold = state(&mut world, &alice);
    assert_eq!((hold["state"].as_str(), hold["endedBy"].as_str()), (Some("none"), Some("maxDuration")));
}

#[test]
fn holds_end_with_the_engine_if_they_are_to() {
    for in_good_order in [true, false] {
        let mut world = World::with(706, |settings| settings.control.on_restart = OnRestart::End);
        let call = world.call(no_rules());
        let alice = newcomer(&mut world, &call);
        hold_and_wait(&mut world, &alice, None);
        world.run(seconds(1.0));
        if in_good_order {
            world.drain();
            world.run(seconds(0.5));
            assert_eq!(world.taps().goodbyes(alice.ssrc).len(), 1, "the stream ends for good");
        }
        world.crash(seconds(1.0));
        world.run(seconds(2.0));
        let hold = state(&mut world, &alice);
        assert_eq!((hold["state"].as_str(), hold["endedBy"].as_str()), (Some("none"), Some("restart")));
        let sent = world.taps().rtp.len();
        world.run(seconds(2.0));
        assert_eq!(world.taps().rtp.len(), sent);
        // It can be held again, and numbers go on.
        hold_and_wait(&mut world, &alice, None);
        world.run(seconds(1.0));
        let rosters = world.customer(&call).told.iter().filter(|told| told.change() == "updated").count();
        assert!(rosters >= 3, "{rosters}");
    }
}

#[test]
fn a_full_disk_stops_new_work_and_no_music() {
    let (mut world, call, alice) = one(707, json!({ "maxHeldParticipants": 2 }));
    let bob = newcomer(&mut world, &call);
    hold_and_wait(&mut world, &alice, None);
    world.fail_store(seconds(5.0));
    // The first finds it out and is told, and nothing is left of it; the next ones are refused at once.
    let first = world.start(&bob, None, None).expect(503);
    assert!(first.message().contains("the disk is full"), "{}", first.message());
    assert_eq!(state(&mut world, &bob)["state"], "none");
    let sent = world.taps().of(bob.ssrc).len();
    world.run(seconds(0.5));
    assert_eq!(world.taps().of(bob.ssrc).len(), sent, "nobody is held who is believed not to be");
    let second =
        world.http("POST", "/communications/calls", json!({ "callbackUri": "http://127.0.0.1:9/b" }));
    assert_eq!((second.status, second.message()), (503, first.message()));
    let began = world.now();
    world.run(seconds(2.0));
    let flow = world.taps().flow(alice.ssrc);
    assert!(flow.is_one_piece(), "{flow:?}");
    assert_eq!(world.stop(&alice).expect(202).text("status"), "completed");
    assert!(world.now().since(began) < seconds(3.0), "a stop does not wait for the disk");
    let operations = format!("{}/operations", call.path);
    let reading = world.http("GET", &operations, json!(null));
    assert!(matches!(reading.status, 200 | 503), "answered in any case");
    world.run(seconds(6.0));
    world.http("GET", &operations, json!(null)).expect(200);
    // It works again: what was begun goes on, and everything is on the disk.
    world.start(&alice, None, None).expect(202);
    world.run(seconds(1.0));
    let held = world.counts().held;
    world.crash(seconds(0.2));
    world.run(seconds(1.0));
    assert_eq!(world.counts().held, held);
}

/// The key of the protected legs of these stories.
fn srtp_key(suite: Suite) -> MasterKey {
    MasterKey::new(suite, &vec![7; suite.master_len()]).expect("its length")
}

/// A participant whose leg is protected, and whose sequence number comes round soon.
fn protected(world: &mut World, call: &holdmusic_tests::Call, suite: Suite) -> holdmusic_tests::Member {
    let phone = world.new_phone();
    let srtp = json!({ "suite": suite.name(), "key": *srtp_key(suite).to_base64() });
    world.join_with(call, phone, json!({ "srtp": srtp, "sequenceNumber": 65_300, "rolloverCounter": 0 }))
}

/// Everything that was sent, read as a phone would: each packet is authentic, and none has an index that one before it
/// had, whatever happened between. How many packets of RTP and of RTCP.
fn hear_protected(world: &World, suite: Suite) -> (usize, usize) {
    hear_by(world, &srtp_key(suite))
}

fn hear_by(world: &World, key: &MasterKey) -> (usize, usize) {
    let mut phone = Unprotector::new(key, None);
    let taps = world.taps();
    for sent in &taps.rtp {
        let mut datagram = vec![0; HEADER_LEN];
        sent.header.write(datagram.first_chunk_mut().expect("room for a header"));
        datagram.extend_from_slice(&sent.payload);
        let heard = phone.unprotect(&mut datagram);
        assert!(heard.is_ok(), "{} at {:?}: {heard:?}", sent.header.sequence.0, sent.at);
    }
    for (at, _, datagram) in &taps.rtcp {
        let heard = phone.unprotect_rtcp(&mut datagram.clone());
        assert!(heard.is_ok(), "RTCP at {at:?}: {heard:?}");
    }
    (taps.rtp.len(), taps.rtcp.len())
}

/// Holds, stops and crashes at odd moments, also right behind a request, for each suite: with GCM a second packet with the
/// same index would give away the key of the tags.
#[test]
fn no_index_of_srtp_is_used_twice_whenever_the_engine_dies() {
    for (seed, suite) in (760..).zip(Suite::ALL.into_iter().cycle().take(12)) {
        let mut world = crate::stage::world(seed);
        let call = world.call(no_rules());
        let alice = protected(&mut world, &call, suite);
        for round in 0..8u64 {
            let odd = |number: u64| Duration::from_millis((seed * 37 + round * 211 + number * 97) % 1_700);
            world.start(&alice, None, None).expect(202);
            world.run(odd(1));
            if round % 3 == 0 {
                world.stop(&alice).expect(202);
                world.start(&alice, None, None).expect(202);
            }
            world.run(odd(2));
            world.crash(odd(3));
            world.run(odd(3) + odd(4) + seconds(1.0));
            world.stop(&alice).expect(202);
            world.run(odd(5));
        }
        let (rtp, rtcp) = hear_protected(&world, suite);
        assert!(rtp > 300 && rtcp > 2, "{rtp} and {rtcp}");
        let leg = world.http("GET", &format!("{}/mediaLeg", alice.path), json!(null)).expect(200).body;
        assert_eq!(leg["srtp"], json!({ "suite": suite.name() }), "never with the key");
    }
}

/// As above, while the peer changes how long packets are and what is in them, and keeps its key: with short packets numbers go
/// up twice as fast, and a crash finds records of either kind.
#[test]
fn no_index_comes_again_when_packets_grow_shorter_and_longer_between_crashes() {
    const FORMATS: [(&str, &str); 4] =
        [("8", ""), ("8", "a=maxptime:10\r\n"), ("0", "a=maxptime:10\r\n"), ("0", "a=maxptime:20\r\n")];
    for (seed, suite) in (780..).zip(Suite::ALL.into_iter().cycle().take(12)) {
        let mut world = crate::stage::world(seed);
        let call = world.call(no_rules());
        let phone = world.new_phone();
        let theirs = MasterKey::new(suite, &vec![9; suite.master_len()]).expect("its length");
        let offer = |(number, length): (&str, &str)| {
            let (address, port, key) = (phone.ip(), phone.port(), theirs.to_base64());
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
                 m=audio {port} RTP/SAVP {number}\r\na=crypto:1 {} inline:{}\r\n{length}a=rtcp-mux\r\n",
                suite.name(),
                *key
            );
            json!({ "sdp": sdp })
        };
        let body = json!({ "mediaLeg": offer(FORMATS[0]) });
        let joined = world.http("POST", &format!("{}/participants", call.path), body).expect(201);
        let path = format!("{}/participants/{}", call.path, joined.id());
        let answer = joined.body["mediaLeg"]["sdp"].as_str().unwrap().to_owned();
        let ours = answer.split_once("inline:").unwrap().1.split(['\r', '|']).next().unwrap().to_owned();
        let ssrc = &joined.body["mediaLeg"]["ssrc"];
        let state = json!({
            "ssrc": ssrc, "sequenceNumber": 65_300, "timestamp": 7, "at": "2026-01-01T00:00:00Z", "rolloverCounter": 0,
        });
        let mut start = json!({ "holdMusic": { "rtpState": state } });
        for round in 0..8u64 {
            let odd = |number: u64| Duration::from_millis((seed * 41 + round * 193 + number * 89) % 1_700);
            world.http("POST", &format!("{path}/startHoldMusic"), start).expect(202);
            world.run(odd(1));
            for number in 0..3 {
                let format = FORMATS[((seed * 7 + round * 5 + number * 3) % 4) as usize];
                let reply = world.http("PUT", &format!("{path}/mediaLeg"), offer(format)).expect(200);
                let answer = reply.body["sdp"].as_str().unwrap();
                assert!(answer.contains(&ours), "the same key: {answer}");
                world.run(odd(2 + number) / 2);
            }
            world.crash(odd(6));
            world.run(odd(6) + odd(7) + seconds(1.0));
            world.http("POST", &format!("{path}/stopHoldMusic"), json!({})).expect(202);
            world.run(odd(8));
            start = json!({});
        }
        let (rtp, rtcp) = hear_by(&world, &MasterKey::from_base64(suite, &ours).expect("as it was answered"));
        assert!(rtp > 500 && rtcp > 2, "{rtp} and {rtcp}");
    }
}

/// What a stop hands back leads on from the last packet, and what would come again is refused.
#[test]
fn counters_of_srtp_are_handed_back_and_taken() {
    let suite = Suite::AeadAes256Gcm;
    let mut world = crate::stage::world(775);
    let call = world.call(no_rules());
    let alice = protected(&mut world, &call, suite);
    hold_and_wait(&mut world, &alice, None);
    world.run(seconds(6.0));
    let stopped = world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    let state = world.operation(&call.path, stopped.id())["holdMusic"]["rtpState"].clone();
    assert_eq!(state["rolloverCounter"], 1, "{state}");
    assert!(state["srtcpIndex"].as_u64() >= Some(1), "{state}");
    let start = |world: &mut World, state: &Value| {
        let body = json!({ "holdMusic": { "rtpState": state } });
        world.http("POST", &format!("{}/startHoldMusic", alice.path), body)
    };
    for (member, value) in [("rolloverCounter", json!(0)), ("srtcpIndex", json!(0))] {
        let mut back = state.clone();
        back[member] = value;
        let refused = start(&mut world, &back);
        assert_eq!(refused.status, 400, "{member}");
        assert!(refused.message().contains(member), "{}", refused.message());
        // A prompt that came with it is not prepared for nobody.
        let prompt = json!({ "mediaInfo": { "uri": MUSIC } });
        let body = json!({ "customPrompt": prompt, "holdMusic": { "rtpState": back } });
        world.http("POST", &format!("{}/startHoldMusic", alice.path), body).expect(400);
    }
    world.run(seconds(2.0));
    assert_eq!(world.preparations(), 0);
    start(&mut world, &state).expect(202);
    world.run(seconds(3.0));
    world.stop(&alice).expect(202);
    world.run(seconds(1.0));
    hear_protected(&world, suite);
}

/// Stores of short stories, for the fuzzer to begin with: written by `UPDATE_EXPECT=1`, otherwise there and as they are
/// written now.
#[test]
fn the_fuzzer_begins_with_stores_as_they_are_written() {
    type Story = fn(&mut World);
    let stories: [(&str, Story); 5] = [
        ("protected", |world| {
            let call = world.call(no_rules());
            let alice = protected(world, &call, Suite::AeadAes128Gcm);
            hold_and_wait(world, &alice, None);
            world.run(seconds(1.0));
            world.stop(&alice).expect(202);
            world.run(seconds(1.0));
            hold_and_wait(world, &alice, None);
        }),
        ("held", |world| {
            let call = world.call(json!({ "maxHeldParticipants": 2, "maxDuration": 600 }));
            let (alice, bob) = (newcomer(world, &call), newcomer(world, &call));
            hold_and_wait(world, &alice, Some(MUSIC));
            hold(world, &bob, Some("https://prompts.test/none.wav"));
            world.run(seconds(0.5));
        }),
        ("stopped", |world| {
            let call = world.call(no_rules());
            let alice = newcomer(world, &call);
            hold_and_wait(world, &alice, None);
            world.stop(&alice).expect(202);
            world.run(seconds(1.0));
        }),
        ("owed", |world| {
            let call = world.call(no_rules());
            world.customer(&call).answers(Manner::Refuses);
            let alice = newcomer(world, &call);
            world.run(seconds(1.0));
            world.customer(&call).answers(Manner::Hangs);
            hold(world, &alice, None);
            world.play_prompt(&call, &[MUSIC], &[]).expect(200);
            world.run(seconds(0.2));
        }),
        ("ended", |world| {
            let call = world.call(json!({ "defaultPrompt": { "mediaInfo": { "uri": MUSIC } } }));
            let alice = newcomer(world, &call);
            hold(world, &alice, None);
            world.run(seconds(0.5));
            world.http("DELETE", &call.path, json!(null)).expect(204);
            world.run(seconds(0.5));
        }),
    ];
    for (name, tell) in stories {
        let mut world = crate::stage::world(750);
        tell(&mut world);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/records").join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory can be made");
            std::fs::write(&path, world.written()).expect("a file can be written");
        }
        let kept = std::fs::read(&path).expect("it is there");
        assert_eq!(kept.len(), world.written().len(), "{name}: UPDATE_EXPECT=1 writes it again");
    }
}

/// Stores of earlier versions of the layout, kept as they were written: an upgrade finds its way from each of them.
#[test]
fn every_store_that_was_ever_written_can_be_started_with() {
    let mut known = 0;
    let first = ["held", "stopped", "owed", "ended"].map(|name| format!("version-1-{name}"));
    let second = ["held", "protected", "stopped"].map(|name| format!("version-2-{name}"));
    for name in first.iter().chain(&second) {
        let store = holdmusic_tests::asset(&format!("records/{name}"));
        assert!(holdmusic_tests::hostile::records(&store), "{name}");
        known += 1;
    }
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/records");
    assert_eq!(std::fs::read_dir(directory).expect("it is there").count(), known, "each is looked at");
}
