//! Legs that are negotiated by SDP: what media is told of them, and what becomes of it with another offer.

use holdmusic_media::{LegSpec, MasterKey, Protection, Suite};

use super::*;
use crate::graph::read_media_leg;

/// Key and salt of one peer, and those of another, in base64.
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const OTHER: &str = "NzB4d1BINUAvLEw6UzF3ZSJ+PSdFcGdUJShpX1Zj";

fn offer(proto: &str, address: &str, attributes: &[&str]) -> String {
    let family = if address.contains(':') { "IP6" } else { "IP4" };
    let attributes: String = attributes.iter().map(|attribute| format!("a={attribute}\r\n")).collect();
    format!(
        "v=0\r\nc=IN {family} {address}\r\nm=audio 40000 {proto} 96\r\na=rtpmap:96 opus/48000/2\r\n{attributes}"
    )
}

fn crypto(key: &str) -> String {
    format!("crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^31|1:4")
}

/// The answer, and what media was told of the leg if it was told anything.
fn put(desk: &mut Desk, (call, id): (CallId, ParticipantId), sdp: &str) -> (String, Option<LegSpec>) {
    let offer = read_media_leg(serde_json::json!({ "sdp": sdp }).to_string().as_bytes()).unwrap();
    let told = json(&desk.ask(Ask::PutMediaLeg { call, participant: id, offer }).unwrap());
    let spec = std::mem::take(&mut desk.said).into_iter().rev().find_map(|said| match said {
        Output::AddLeg { spec, .. } | Output::ChangeLeg { spec, .. } => Some(spec),
        _ => None,
    });
    (told["sdp"].as_str().unwrap().to_owned(), spec)
}

/// Our key, as media has it; the peer's must be `peer`.
#[track_caller]
fn our_key(spec: &LegSpec, peer: &str) -> MasterKey {
    let Protection::Srtp(keying) = &spec.protection else { panic!("{spec:?}") };
    assert_eq!(keying.receive, Some(MasterKey::from_base64(Suite::AesCm128HmacSha1_80, peer).unwrap()));
    assert_eq!(keying.mki.as_ref().unwrap().bytes(), [0, 0, 0, 1]);
    keying.send.clone()
}

/// Session id and version of our `o=`.
fn session(answer: &str) -> (u64, u64) {
    let line = answer.lines().find_map(|line| line.strip_prefix("o=- ")).unwrap();
    let mut words = line.split(' ').map(|word| word.parse().unwrap());
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn a_leg_keeps_its_key_as_long_as_its_peer_does() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    let secure = offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY)]);
    let (first, spec) = put(&mut desk, who, &secure);
    let spec = spec.unwrap();
    let ours = our_key(&spec, KEY);
    // What is answered is what media protects with, and it is not the peer's.
    let line = format!("a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{}|1:4\r\n", *ours.to_base64());
    assert!(first.contains(&line) && !first.contains(KEY), "{first}");
    let (id, version) = session(&first);

    let (second, again) = put(&mut desk, who, &secure);
    assert_eq!(again.as_ref(), Some(&spec));
    assert_eq!((second.contains(&line), session(&second)), (true, (id, version + 1)));

    let (third, other) = put(&mut desk, who, &offer("RTP/SAVP", "127.0.0.1", &[&crypto(OTHER)]));
    let other = other.unwrap();
    let new = our_key(&other, OTHER);
    assert_ne!(new, ours);
    assert_eq!((other.numbering.ssrc, other.cname), (spec.numbering.ssrc, spec.cname));
    assert_eq!((third.contains(&*new.to_base64()), session(&third)), (true, (id, version + 2)));

    // On hold in the SIP sense the key is the same afterwards.
    let away = offer("RTP/SAVP", "127.0.0.1", &[&crypto(OTHER), "inactive"]);
    let (fourth, silent) = put(&mut desk, who, &away);
    assert_eq!((silent, fourth.contains(&*new.to_base64())), (Some(other.clone()), true));
    let (_, back) = put(&mut desk, who, &offer("RTP/SAVP", "127.0.0.1", &[&crypto(OTHER)]));
    assert_eq!(back, Some(other));

    let (fifth, plain) = put(&mut desk, who, &offer("RTP/AVP", "127.0.0.1", &[]));
    assert_eq!((plain.unwrap().protection, fifth.contains("a=crypto")), (Protection::Plain, false));
}

/// Twice as many packets a second are counted by the store before the first of them leaves: otherwise a number might come
/// again after a crash. Half as many need not wait.
#[test]
fn a_leg_with_a_key_goes_over_to_short_packets_when_the_store_knows() {
    let mut desk = Desk::with(Settings { durable: true, ..Settings::default() });
    let who = desk.one("{}");
    let usual = offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY)]);
    let short = offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY), "maxptime:10"]);
    put(&mut desk, who, &usual);
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    let told = |desk: &mut Desk| {
        let told = std::mem::take(&mut desk.said).into_iter().filter_map(|said| match said {
            Output::ChangeLeg { spec, .. } => Some(format!("{:?}", spec.codec)),
            Output::Play { .. } => Some("play".to_owned()),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    for (sdp, waits, words) in [(&short, true, ["OpusShort", "play"]), (&usual, false, ["Opus", "play"])] {
        desk.said.clear();
        desk.store_answers = false;
        let body = serde_json::json!({ "sdp": sdp }).to_string();
        let offer = read_media_leg(body.as_bytes()).unwrap();
        desk.send(Ask::PutMediaLeg { call: who.0, participant: who.1, offer });
        let at_once = told(&mut desk);
        assert_eq!(at_once.is_empty(), waits, "{at_once:?}");
        desk.store_answers = true;
        while let Some(ticket) = desk.store.write() {
            desk.tell(Input::Stored { ticket });
        }
        assert_eq!([at_once, told(&mut desk)].concat(), words);
    }
}

/// What media is told while the store hears of nothing, and then of one thing after the other.
#[test]
fn what_waits_for_the_store_stays_in_order_and_a_stop_does_not_wait() {
    let mut desk = Desk::with(Settings { durable: true, ..Settings::default() });
    let who = desk.one("{}");
    put(&mut desk, who, &offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY)]));
    let told = |desk: &mut Desk| {
        let told = std::mem::take(&mut desk.said).into_iter().filter_map(|said| match said {
            Output::ChangeLeg { spec, .. } => Some(format!("{:?}", spec.codec)),
            Output::Play { .. } => Some("play".to_owned()),
            Output::Stop { .. } => Some("stop".to_owned()),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let send_short = |desk: &mut Desk| {
        let short = offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY), "maxptime:10"]);
        let body = serde_json::json!({ "sdp": short }).to_string();
        let offer = read_media_leg(body.as_bytes()).unwrap();
        desk.send(Ask::PutMediaLeg { call: who.0, participant: who.1, offer });
    };
    for is_stopped in [false, true] {
        desk.said.clear();
        desk.store_answers = false;
        let start = read_start_hold_music(b"{}").unwrap();
        desk.send(Ask::StartHoldMusic { call: who.0, participant: who.1, start });
        send_short(&mut desk);
        assert_eq!(told(&mut desk), [""; 0]);
        if is_stopped {
            desk.media_answers = false;
            desk.send(Ask::StopHoldMusic { call: who.0, participant: who.1, stop: Default::default() });
            assert_eq!(told(&mut desk), ["stop", "OpusShort"]);
        }
        let mut later = Vec::new();
        while let Some(ticket) = desk.store.write() {
            desk.tell(Input::Stored { ticket });
            later.extend(told(&mut desk));
        }
        let expected: &[&str] = if is_stopped { &[] } else { &["play", "OpusShort", "play"] };
        assert_eq!(later, expected);
        desk.store_answers = true;
        if !is_stopped {
            desk.stop(who).unwrap();
            put(&mut desk, who, &offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY)]));
        }
    }
}

#[test]
fn no_two_legs_have_the_same_key() {
    let mut desk = Desk::new();
    let secure = offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY)]);
    let keys: Vec<_> = (0..2)
        .map(|_| {
            let who = desk.one("{}");
            our_key(&put(&mut desk, who, &secure).1.unwrap(), KEY)
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_leg_of_another_family_goes_on_with_the_session_that_there_was() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    let (first, _) = put(&mut desk, who, &offer("RTP/AVP", "127.0.0.1", &[]));
    let (second, _) = put(&mut desk, who, &offer("RTP/AVP", "::1", &[]));
    let (id, version) = session(&first);
    assert_eq!(session(&second), (id, version + 1));
}

#[test]
fn an_offer_that_is_refused_changes_nothing() {
    let mut desk = Desk::new();
    let who = desk.one("{}");
    put(&mut desk, who, &offer("RTP/SAVP", "127.0.0.1", &[&crypto(KEY)]));
    let before = desk.read(who);
    for bad in [
        offer("RTP/SAVP", "127.0.0.1", &[]),
        offer("RTP/SAVP", "8.8.8.8", &[&crypto(KEY)]),
        offer("UDP/TLS/RTP/SAVPF", "127.0.0.1", &[]),
    ] {
        let sdp = serde_json::json!({ "sdp": bad }).to_string();
        let offer = read_media_leg(sdp.as_bytes()).unwrap();
        let refusal = desk.ask(Ask::PutMediaLeg { call: who.0, participant: who.1, offer }).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, "8523"));
        assert!(!format!("{refusal:?}").contains(KEY));
        assert!(desk.said.is_empty());
    }
    assert_eq!(desk.read(who), before);
}
