//! Participants that are browsers: a leg waits for its peer, is heard when that has come, and ends with it.

use std::net::SocketAddr;

use expect_test::expect;
use holdmusic_media::{Keying, MasterKey, Protection, Suite};

use super::*;
use crate::{
    graph::read_media_leg,
    transport::{Disconnection, IceCredentials},
};

const BROWSER: &str = "192.168.1.10:50000";

/// As a page makes it: no address that is known beforehand, `recvonly`.
fn offer(ufrag: &str, certificate: u8) -> String {
    let fingerprint = vec![format!("{certificate:02X}"); 32].join(":");
    [
        "v=0",
        "o=- 4611 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 0",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        &format!("a=ice-ufrag:{ufrag}"),
        "a=ice-pwd:a+password+of+the+browser",
        &format!("a=fingerprint:sha-256 {fingerprint}"),
        "a=setup:actpass",
        "a=mid:0",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "",
    ]
    .join("\r\n")
}

fn keying(byte: u8) -> Box<Keying> {
    let suite = Suite::AeadAes128Gcm;
    let key = |byte| MasterKey::new(suite, &vec![byte; suite.master_len()]).expect("as long as it must be");
    let receive = Some(key(byte + 1));
    Box::new(Keying { send: key(byte), receive, mki: None, rollover_counter: 0, srtcp_index: 0 })
}

fn webrtc() -> Desk {
    Desk::with(Settings { fingerprint: Some([0xab; 32]), ..Settings::default() })
}

impl Desk {
    /// A call with one participant that is a browser; what was said about it is what admitted the peer.
    fn browser(&mut self) -> ((CallId, ParticipantId), IceCredentials) {
        let call = self.call("{}");
        let body = serde_json::json!({ "mediaLeg": { "sdp": offer("abcd", 1) } });
        let create = read_create_participant(body.to_string().as_bytes()).unwrap();
        let answer = self.ask(Ask::CreateParticipant { call, create }).unwrap();
        let id = ParticipantId::read(json(&answer)["id"].as_str().unwrap()).unwrap();
        let local = self.admitted();
        self.said.clear();
        ((call, id), local)
    }

    /// What the peer that was admitted last calls us by.
    fn admitted(&self) -> IceCredentials {
        let local = self.said.iter().rev().find_map(|output| match output {
            Output::Admit { local, .. } => Some(local.clone()),
            _ => None,
        });
        local.expect("a peer was admitted")
    }

    fn renegotiate(&mut self, (call, participant): (CallId, ParticipantId), sdp: &str) -> Value {
        let body = serde_json::json!({ "sdp": sdp }).to_string();
        let offer = read_media_leg(body.as_bytes()).unwrap();
        json(&self.ask(Ask::PutMediaLeg { call, participant, offer }).unwrap())
    }

    fn connected(&mut self, leg: u64, destination: &str, keying: Option<Box<Keying>>) {
        let destination = destination.parse().unwrap();
        self.tell(Input::Connected { leg: LegId(leg), destination, keying });
    }

    fn disconnected(&mut self, leg: u64, why: Disconnection) {
        let name = self.name(leg);
        self.tell(Input::Disconnected { leg: LegId(leg), name, why });
    }

    /// What the peer of a leg is to call us.
    fn name(&mut self, leg: u64) -> String {
        let leg = self.control.leg_mut(LegId(leg)).and_then(|leg| leg.transport.as_deref());
        leg.map_or(String::new(), |transport| transport.local.ufrag.clone())
    }

    fn leg(&mut self, (call, participant): (CallId, ParticipantId)) -> Value {
        json(&self.ask(Ask::GetMediaLeg { call, participant }).unwrap())
    }

    /// What media was told last of a leg.
    fn spec(&self) -> (SocketAddr, Protection) {
        let spec = self.said.iter().rev().find_map(|output| match output {
            Output::AddLeg { spec, .. } | Output::ChangeLeg { spec, .. } => Some(spec),
            _ => None,
        });
        let spec = spec.expect("media was told");
        (spec.destination, spec.protection.clone())
    }
}

#[test]
fn a_browser_is_put_on_hold_before_it_is_there_and_hears_when_it_is() {
    let mut desk = webrtc();
    let (who, _) = desk.browser();
    desk.start(who, "", "").unwrap();
    desk.pass(3_000);
    desk.tell(Input::PeerSeen { leg: LegId(1), refused: None });
    assert_eq!(desk.leg(who)["transport"], serde_json::json!({ "state": "checking" }));
    desk.connected(1, BROWSER, Some(keying(1)));
    assert_eq!(desk.spec(), (BROWSER.parse().unwrap(), Protection::Srtp(keying(1))));
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        notify updated roster [inactive:starting]
        change leg 1 to 192.168.1.10:50000
        notify deleted completed 200/0 Action completed successfully.
    "#]],
    );
    assert_eq!(
        desk.leg(who)["transport"],
        serde_json::json!({ "state": "connected", "remote": BROWSER, "suite": "AEAD_AES_128_GCM" })
    );
    desk.said.clear();
    desk.stop(who).unwrap();
    desk.start(who, "", "again").unwrap();
    desk.started(1, 0);
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        notify updated roster [sendReceive:none/stop]
        play 0 on leg 1
        notify updated roster [inactive:starting]
        notify deleted completed again 200/0 Action completed successfully.
    "#]],
    );
}

#[test]
fn the_answer_names_us_as_the_peer_must() {
    let mut desk = webrtc();
    let (who, local) = desk.browser();
    let leg = desk.leg(who);
    assert_eq!(leg["transport"], serde_json::json!({ "state": "new" }));
    let sdp = leg["sdp"].as_str().unwrap();
    for line in [
        "a=ice-lite",
        &format!("a=ice-ufrag:{}", local.ufrag),
        &format!("a=ice-pwd:{}", local.pwd),
        "a=setup:passive",
        "a=rtcp-mux",
        "a=sendonly",
    ] {
        assert!(sdp.split("\r\n").any(|found| found == line), "{line} in {sdp}");
    }
    assert!(local.ufrag.len() == 8 && local.pwd.len() == 24);
    assert!(sdp.contains("a=fingerprint:sha-256 AB:AB:"), "{sdp}");
    assert!(!format!("{:?}", desk.control).contains(&local.pwd), "a password is not shown");
}

#[test]
fn a_peer_that_never_comes_fails_the_start_and_says_why() {
    for (seen, words) in [
        (None, "no ICE check came"),
        (Some(None), "DTLS failed: the handshake was not finished in time"),
        (
            Some(Some("203.0.113.9".parse().unwrap())),
            "its address 203.0.113.9 is not one that media may be sent",
        ),
    ] {
        let mut desk = webrtc();
        let (who, _) = desk.browser();
        desk.start(who, "", "").unwrap();
        if let Some(refused) = seen {
            desk.tell(Input::PeerSeen { leg: LegId(1), refused });
        }
        desk.pass(18_999);
        assert!(!desk.heard().contains("failed"));
        desk.pass(1);
        let heard = desk.heard();
        assert!(heard.contains("failed 400/8511") && heard.contains(words), "{heard}");
        assert!(heard.contains("stop leg 1") && desk.read(who)["holdMusic"]["endedBy"] == "unreachable");
    }
}

#[test]
fn a_hold_is_stopped_before_its_peer_has_come() {
    let mut desk = webrtc();
    let (who, _) = desk.browser();
    desk.start(who, "", "").unwrap();
    desk.stop(who).unwrap();
    desk.connected(1, BROWSER, Some(keying(1)));
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        notify updated roster [inactive:starting]
        stop leg 1
        notify deleted failed 400/8508 Action failed, the operation was cancelled: stopped before the music began.
        notify updated roster [sendReceive:none/stop]
        change leg 1 to 192.168.1.10:50000
    "#]],
    );
}

#[test]
fn a_peer_that_no_longer_asks_hears_nothing_more_and_cannot_be_held_again() {
    let mut desk = webrtc();
    let (who, _) = desk.browser();
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.said.clear();
    desk.disconnected(1, Disconnection::Silent);
    assert_eq!(desk.spec().1, Protection::Awaited, "its keys are forgotten");
    check(
        &mut desk,
        &expect![[r#"
        stop leg 1
        change leg 1 to 192.168.1.10:50000
        notify updated roster [sendReceive:none/unreachable]
    "#]],
    );
    assert_eq!(desk.read(who)["holdMusic"]["endedBy"], "unreachable");
    let transport = desk.leg(who)["transport"].clone();
    assert_eq!(transport["state"], "disconnected");
    assert!(transport["reason"].as_str().unwrap().contains("checks have stopped"));
    desk.said.clear();
    // Late news of it change nothing.
    desk.connected(1, BROWSER, Some(keying(3)));
    desk.disconnected(1, Disconnection::Closed);
    assert_eq!(desk.heard(), "");
    desk.start(who, "", "").unwrap();
    check(
        &mut desk,
        &expect![[r#"
        play 0 on leg 1
        stop leg 1
        notify updated roster [sendReceive:none/unreachable]
        notify deleted failed 400/8511 Action failed, the music could not be played: the peer no longer asks for media: its ICE checks have stopped.
        notify updated roster [sendReceive:none/unreachable]
    "#]],
    );
}

#[test]
fn a_peer_that_closes_has_said_goodbye() {
    let mut desk = webrtc();
    let (who, _) = desk.browser();
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.start(who, "", "").unwrap();
    desk.disconnected(1, Disconnection::Closed);
    let heard = desk.heard();
    assert!(heard.contains("400/8511") && heard.contains("the peer has closed the connection"), "{heard}");
    assert_eq!(desk.read(who)["holdMusic"]["endedBy"], "bye");
}

#[test]
fn the_same_names_are_the_same_transport_and_others_begin_ice_anew() {
    let mut desk = webrtc();
    let (who, local) = desk.browser();
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.said.clear();

    let leg = desk.renegotiate(who, &offer("abcd", 1));
    assert!(leg["sdp"].as_str().unwrap().contains(&local.ufrag), "the answer says the same names");
    assert_eq!(desk.spec(), (BROWSER.parse().unwrap(), Protection::Srtp(keying(1))));
    check(
        &mut desk,
        &expect![[r#"
        change leg 1 to 192.168.1.10:50000
    "#]],
    );

    let leg = desk.renegotiate(who, &offer("efgh", 1));
    let renewed = desk.admitted();
    assert!(renewed.ufrag != local.ufrag && leg["sdp"].as_str().unwrap().contains(&renewed.ufrag));
    assert_eq!(desk.spec(), (BROWSER.parse().unwrap(), Protection::Srtp(keying(1))), "heard as before");
    check(
        &mut desk,
        &expect![[r#"
        change leg 1 to 192.168.1.10:50000
        admit a peer to leg 1
    "#]],
    );
    desk.connected(1, "192.168.1.10:50001", None);
    let elsewhere = ("192.168.1.10:50001".parse().unwrap(), Protection::Srtp(keying(1)));
    assert_eq!(desk.spec(), elsewhere);

    // The page was loaded anew: another certificate, and so other keys.
    desk.renegotiate(who, &offer("ijkl", 2));
    assert_eq!(desk.spec(), elsewhere);
    desk.connected(1, "192.168.1.10:50002", Some(keying(5)));
    let anew = ("192.168.1.10:50002".parse().unwrap(), Protection::Srtp(keying(5)));
    assert_eq!(desk.spec(), anew);
    assert_eq!(desk.read(who)["holdMusic"]["state"], "playing");
}

/// What was told of a peer before the next one was admitted does not concern that one.
#[test]
fn the_end_of_a_peer_that_has_been_replaced_is_not_that_of_the_next() {
    for connected in [false, true] {
        let mut desk = webrtc();
        let (who, _) = desk.browser();
        if connected {
            desk.connected(1, BROWSER, Some(keying(1)));
        }
        desk.start(who, "a.wav", "").unwrap();
        let before = desk.name(1);
        desk.renegotiate(who, &offer("efgh", 2));
        desk.said.clear();
        desk.tell(Input::Disconnected { leg: LegId(1), name: before, why: Disconnection::Silent });
        assert_eq!(desk.leg(who)["transport"]["state"], "new", "it is waited for");
        if connected {
            assert_eq!(desk.spec().1, Protection::Awaited, "and nothing is sent to the one before");
        }
        desk.connected(1, "192.168.1.11:50000", Some(keying(3)));
        assert_eq!(desk.spec(), ("192.168.1.11:50000".parse().unwrap(), Protection::Srtp(keying(3))));
        assert_eq!(desk.leg(who)["transport"]["state"], "connected");
        desk.disconnected(1, Disconnection::Silent);
        assert_eq!(desk.leg(who)["transport"]["state"], "disconnected");
    }
}

#[test]
fn an_offer_that_came_to_nothing_may_be_made_again() {
    let mut desk = webrtc();
    let (who, _) = desk.browser();
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.renegotiate(who, &offer("efgh", 2));
    let first = desk.admitted();
    desk.said.clear();
    desk.renegotiate(who, &offer("efgh", 2));
    assert!(!desk.said.iter().any(|output| matches!(output, Output::Admit { .. })), "it is under way");
    desk.tell(Input::NotReplaced { leg: LegId(1), name: "another".to_owned() });
    desk.renegotiate(who, &offer("efgh", 2));
    assert!(!desk.said.iter().any(|output| matches!(output, Output::Admit { .. })), "that was another");
    desk.tell(Input::NotReplaced { leg: LegId(1), name: first.ufrag.clone() });
    assert_eq!(desk.leg(who)["transport"]["state"], "connected", "the one before is heard");
    desk.renegotiate(who, &offer("efgh", 2));
    let second = desk.admitted();
    assert_ne!(second.ufrag, first.ufrag);
    // Nor does that one come, and then the one before ends, by whatever name.
    desk.start(who, "", "").unwrap();
    desk.tell(Input::NotReplaced { leg: LegId(1), name: second.ufrag });
    desk.tell(Input::Disconnected { leg: LegId(1), name: "theirs".to_owned(), why: Disconnection::Silent });
    assert_eq!(desk.leg(who)["transport"]["state"], "disconnected");
    assert_eq!(desk.read(who)["holdMusic"]["state"], "none");
}

#[test]
fn a_leg_becomes_a_browsers_and_a_phones_again() {
    let mut desk = webrtc();
    let who = desk.one("{}");
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.said.clear();
    desk.renegotiate(who, &offer("abcd", 1));
    assert_eq!(desk.spec().1, Protection::Awaited);
    check(
        &mut desk,
        &expect![[r#"
        change leg 1 to 0.0.0.0:9
        admit a peer to leg 1
    "#]],
    );
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.said.clear();
    let phone = "v=0\r\no=- 1 1 IN IP4 192.168.1.9\r\ns=-\r\nc=IN IP4 192.168.1.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 96\r\n\
                 a=rtpmap:96 opus/48000/2\r\n";
    let leg = desk.renegotiate(who, phone);
    assert!(leg.get("transport").is_none());
    assert_eq!(desk.spec(), ("192.168.1.9:4000".parse().unwrap(), Protection::Plain));
    check(
        &mut desk,
        &expect![[r#"
        dismiss the peer of leg 1
        change leg 1 to 192.168.1.9:4000
    "#]],
    );
}

#[test]
fn a_leg_that_goes_away_dismisses_its_peer() {
    let mut desk = webrtc();
    let ((call, participant), _) = desk.browser();
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.said.clear();
    desk.ask(Ask::DeleteMediaLeg { call, participant }).unwrap();
    check(
        &mut desk,
        &expect![[r#"
            dismiss the peer of leg 1
            remove leg 1
        "#]],
    );
    desk.renegotiate((call, participant), &offer("abcd", 1));
    desk.said.clear();
    desk.ask(Ask::DeleteCall { call }).unwrap();
    assert!(desk.heard().contains("dismiss the peer of leg 2"));
    // Nobody knows it any more.
    desk.connected(2, BROWSER, Some(keying(1)));
    desk.disconnected(2, Disconnection::Silent);
    assert_eq!(desk.heard(), "");
}

/// What the peer has, names and keys, is what is kept; it need not know that we were away.
#[test]
fn a_browser_goes_on_after_a_restart_by_the_names_and_keys_that_it_has() {
    let mut desk =
        Desk::with(Settings { fingerprint: Some([0xab; 32]), durable: true, ..Settings::default() });
    let (who, local) = desk.browser();
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.start(who, "", "").unwrap();
    desk.started(1, 0);
    desk.pass(5_000);
    desk.crash();
    assert_eq!(desk.admitted(), local);
    assert_eq!(desk.spec(), (BROWSER.parse().unwrap(), Protection::Srtp(keying(1))));
    check(
        &mut desk,
        &expect![[r#"
        add leg 1 to 192.168.1.10:50000
        admit a peer to leg 1, known at 192.168.1.10:50000
        play 0 on leg 1, on since 0 ms
    "#]],
    );
    let transport =
        serde_json::json!({ "state": "connected", "remote": BROWSER, "suite": "AEAD_AES_128_GCM" });
    assert_eq!(desk.leg(who)["transport"], transport);

    // Once it is gone it is so after a restart, too.
    desk.disconnected(1, Disconnection::Failed("as the test wants".to_owned()));
    let gone = desk.leg(who)["transport"].clone();
    desk.crash();
    assert!(!desk.heard().contains("admit"));
    assert_eq!(desk.leg(who)["transport"], gone);
    assert_eq!(gone["reason"], "DTLS failed: as the test wants");
}

#[test]
fn a_browser_that_was_about_to_connect_does_so_after_a_restart() {
    let mut desk =
        Desk::with(Settings { fingerprint: Some([0xab; 32]), durable: true, ..Settings::default() });
    let (who, local) = desk.browser();
    desk.start(who, "", "").unwrap();
    desk.tell(Input::PeerSeen { leg: LegId(1), refused: None });
    desk.crash();
    assert_eq!(desk.admitted(), local);
    assert_eq!(desk.spec().1, Protection::Awaited);
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.started(1, 0);
    assert!(desk.heard().contains("completed 200/0"));
}

/// Another peer has other keys, and begins to count at 0: what was counted for the first is nothing to it.
#[test]
fn counters_of_srtp_begin_anew_with_other_keys() {
    let mut desk = webrtc();
    let (who, _) = desk.browser();
    desk.connected(1, BROWSER, Some(keying(1)));
    desk.said.clear();
    desk.renegotiate(who, &offer("efgh", 2));
    desk.connected(1, "192.168.1.10:50001", Some(keying(5)));
    let protections: Vec<_> = desk
        .said
        .iter()
        .filter_map(|output| match output {
            Output::ChangeLeg { spec, .. } => Some(spec.protection.clone()),
            _ => None,
        })
        .collect();
    let [.., awaited, renewed] = &protections[..] else { panic!("{protections:?}") };
    assert_eq!((awaited, renewed), (&Protection::Awaited, &Protection::Srtp(keying(5))));
}
