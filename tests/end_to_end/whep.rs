//! WHEP: an offer in a POST is a leg, or one who listens in. Receivers here speak plain RTP, which WHEP does not forbid;
//! browsers come by the same door.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use holdmusic_media::rtp::Header;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    engine::{Engine, PATIENCE, TOKEN},
    http::{self, Response},
    web::Web,
};

/// An RTP packet as it came.
type Packet = (Header, Vec<u8>);

/// A UDP port that keeps every packet.
struct Tap {
    address: SocketAddr,
    packets: Arc<Mutex<Vec<Packet>>>,
}

impl Tap {
    fn open() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let address = socket.local_addr().expect("it is bound");
        let packets = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&packets);
        thread::spawn(move || {
            let mut datagram = [0; 2000];
            while let Ok(len) = socket.recv(&mut datagram) {
                // RTCP has payload types that RTP may not have where both share a port (RFC 5761).
                if !(192..=223).contains(&datagram[1])
                    && let Ok((header, payload)) = Header::read(&datagram[..len])
                {
                    kept.lock().expect("nobody panics while holding it").push((header, payload.to_vec()));
                }
            }
        });
        Self { address, packets }
    }

    fn packets(&self) -> Vec<Packet> {
        self.packets.lock().expect("nobody panics while holding it").clone()
    }

    fn hear(&self, packets: usize) {
        let until = Instant::now() + PATIENCE;
        while self.packets().len() < packets {
            assert!(Instant::now() < until, "{} of {packets} packets were heard", self.packets().len());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn offer(&self) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0 96\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:96 opus/48000/2\r\na=rtcp-mux\r\na=recvonly\r\n",
            self.address.port()
        )
    }
}

/// A call with one participant, whose leg goes to a tap.
struct Stage {
    engine: Engine,
    tap: Tap,
    participant: String,
    _web: Web,
}

impl Stage {
    fn set(arguments: &[&str]) -> Self {
        let (engine, tap, web) = (Engine::start_with(arguments), Tap::open(), Web::open([]));
        let call = json!({ "callbackUri": web.url("/callback") });
        let call = engine.http("POST", "/v1.0/communications/calls", &call).expect(201).json();
        let roster =
            format!("/v1.0/communications/calls/{}/participants", call["id"].as_str().expect("an id"));
        let leg = json!({ "address": tap.address.to_string(), "codec": "opus", "payloadType": 111 });
        let made = engine.http("POST", &roster, &json!({ "mediaLeg": { "rtp": leg } })).expect(201).json();
        let participant = format!("{roster}/{}", made["id"].as_str().expect("an id"));
        Self { engine, tap, participant, _web: web }
    }

    /// One more participant of the call, without a leg.
    fn another(&self) -> String {
        let roster = self.participant.rsplit_once('/').expect("a path").0;
        let made = self.engine.http("POST", roster, &json!({})).expect(201).json();
        format!("{roster}/{}", made["id"].as_str().expect("an id"))
    }

    fn token(&self, of: &str) -> String {
        let answer = self.engine.http("POST", &format!("{}/{of}/token", self.participant), &Value::Null);
        let told = answer.expect(200).json();
        assert_eq!(told["url"], format!("http://{}{}/{of}", self.engine.address, self.participant));
        assert!(told["expiresAt"].as_str().expect("a moment").ends_with('Z'));
        told["token"].as_str().expect("a token").to_owned()
    }

    fn send(&self, method: &str, path: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let bearer = format!("Bearer {token}");
        let headers = [&[("Authorization", bearer.as_str())], headers].concat();
        http::request(self.engine.address, method, path, &headers, body.as_bytes())
    }

    fn offer(&self, path: &str, token: &str, sdp: &str) -> Response {
        self.send("POST", path, token, &[("Content-Type", "application/sdp")], sdp)
    }

    /// An offer that is taken: the path of the session.
    fn open(&self, of: &str, token: &str, sdp: &str) -> String {
        let endpoint = format!("{}/{of}", self.participant);
        let answer = self.offer(&endpoint, token, sdp).expect(201);
        assert_eq!(answer.header("Content-Type"), Some("application/sdp"));
        assert!(answer.text().starts_with("v=0\r\n") && answer.text().contains("a=sendonly\r\n"));
        let location = answer.header("Location").expect("where it is");
        let path = location.strip_prefix(&format!("http://{}", self.engine.address)).expect("ours");
        let name = path.strip_prefix(&format!("{endpoint}/")).expect("below the endpoint");
        assert_eq!(answer.header("ETag"), Some(format!("\"{name}\"").as_str()));
        path.to_owned()
    }

    fn start(&self) {
        self.engine.http("POST", &format!("{}/startHoldMusic", self.participant), &json!({})).expect(202);
    }

    fn stop(&self) {
        self.engine.http("POST", &format!("{}/stopHoldMusic", self.participant), &json!({})).expect(202);
    }
}

fn payloads(packets: &[Packet]) -> Vec<&[u8]> {
    packets.iter().map(|(_, payload)| payload.as_slice()).collect()
}

#[test]
fn who_listens_in_hears_the_very_packets_of_the_participant() {
    let stage = Stage::set(&[]);
    let ear = Tap::open();
    stage.start();
    stage.tap.hear(20);
    let token = stage.token("listeners");
    let session = stage.open("listeners", &token, &ear.offer());
    ear.hear(60);
    let read = stage.engine.http("GET", &stage.participant, &Value::Null).expect(200).json();
    assert_eq!(read["holdMusic"]["listeners"], 1);
    stage.stop();
    // A later hold is heard too, from its first packet.
    let first_hold = stage.tap.packets().len();
    stage.start();
    stage.tap.hear(first_hold + 20);
    stage.stop();
    let (leader, heard) = (stage.tap.packets(), ear.packets());
    let joined = leader.len() - heard.len();
    assert!(joined >= 19, "it came after {joined} packets");
    assert_eq!(payloads(&heard), payloads(&leader[joined..]));
    assert_ne!(heard[0].0.ssrc, leader[0].0.ssrc);
    for ((own, _), (other, _)) in heard.iter().zip(&leader[joined..]) {
        assert_eq!((own.ssrc, own.payload_type.number()), (heard[0].0.ssrc, 96));
        // Both count the same time.
        let (since, other_since) = (
            own.timestamp.0.wrapping_sub(heard[0].0.timestamp.0),
            other.timestamp.0.wrapping_sub(leader[joined].0.timestamp.0),
        );
        assert_eq!(since, other_since);
    }
    assert!(heard.windows(2).all(|pair| pair[1].0.sequence == pair[0].0.sequence.after(1)));
    let marked: Vec<_> = (0..heard.len()).filter(|at| heard[*at].0.marker).collect();
    assert_eq!(marked, [0, first_hold - joined]);

    stage.send("GET", &session, &token, &[], "").expect(204);
    stage.send("DELETE", &session, &token, &[("If-Match", "\"whatever\"")], "").expect(200);
    stage.send("DELETE", &session, &token, &[], "").expect(404);
    stage.send("GET", &session, &token, &[], "").expect(404);
    let before = ear.packets().len();
    stage.start();
    let more = stage.tap.packets().len() + 10;
    stage.tap.hear(more);
    assert_eq!(ear.packets().len(), before, "nothing is heard after the end");
    // Counts are published four times a second.
    let until = Instant::now() + PATIENCE;
    while !http::request(stage.engine.address, "GET", "/metrics", &[], b"")
        .text()
        .contains("holdmusic_listeners 0")
    {
        assert!(Instant::now() < until, "it still counts as a listener");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_participants_own_leg_comes_and_goes_by_whep() {
    let stage = Stage::set(&[]);
    let ear = Tap::open();
    let token = stage.token("whep");
    let session = stage.open("whep", &token, &ear.offer());
    stage.start();
    ear.hear(20);
    assert_eq!(stage.tap.packets(), [], "the leg that it had goes elsewhere now");
    // The page is loaded anew: another session of the same leg, in mid-hold.
    let other = Tap::open();
    let second = stage.open("whep", &token, &other.offer());
    other.hear(20);
    assert_ne!(session, second);
    stage.send("DELETE", &session, &token, &[], "").expect(404);
    stage.send("DELETE", &second, &token, &[], "").expect(200);
    let read = stage.engine.http("GET", &stage.participant, &Value::Null).expect(200).json();
    assert_eq!(
        (&read["holdMusic"]["state"], &read["holdMusic"]["endedBy"]),
        (&json!("none"), &json!("removed"))
    );
    assert_eq!(read["mediaLeg"], Value::Null);
}

#[test]
fn tokens_are_good_for_one_participant_and_one_purpose() {
    let stage = Stage::set(&[]);
    let ear = Tap::open();
    let offer = ear.offer();
    let (listen, own) = (stage.token("listeners"), stage.token("whep"));
    let (listeners, whep) =
        (format!("{}/listeners", stage.participant), format!("{}/whep", stage.participant));
    let another = stage.another();
    let refused = |answer: Response, words: &str| {
        let answer = answer.expect(401);
        assert!(answer.header("WWW-Authenticate").expect("it is told").starts_with("Bearer error="));
        let message = answer.json()["error"]["message"].as_str().expect("why").to_owned();
        assert!(message.contains(words), "{message}");
    };
    refused(stage.offer(&whep, &listen, &offer), "another purpose");
    refused(stage.offer(&listeners, &own, &offer), "another purpose");
    refused(stage.offer(&format!("{another}/listeners"), &listen, &offer), "another participant");
    for path in [&stage.participant, "/v1.0/communications/calls", &format!("{}/mediaLeg", stage.participant)]
    {
        refused(stage.send("GET", path, &listen, &[], ""), "good for nothing else");
    }
    for token in [&listen, &own] {
        refused(stage.send("POST", &format!("{listeners}/token"), token, &[], ""), "good for nothing else");
        refused(
            stage.send("POST", &format!("{}/startHoldMusic", stage.participant), token, &[], ""),
            "nothing else",
        );
    }
    let mut forged = listen.clone();
    let last = forged.pop().expect("a character");
    forged.push(if last == 'A' { 'B' } else { 'A' });
    refused(stage.offer(&listeners, &forged, &offer), "not one that this server knows");
    refused(stage.offer(&listeners, "hmw1.", &offer), "not one that this server knows");
    http::request(
        stage.engine.address,
        "POST",
        &listeners,
        &[("Content-Type", "application/sdp")],
        offer.as_bytes(),
    )
    .expect(401);

    // One token, one listener: who comes again takes its own place. What others made is theirs.
    let first = stage.open("listeners", &listen, &offer);
    let second = stage.open("listeners", &listen, &offer);
    let operators = stage.open("listeners", TOKEN, &offer);
    stage.send("DELETE", &first, &listen, &[], "").expect(404);
    let answer = stage.send("DELETE", &operators, &listen, &[], "").expect(403).json();
    assert_eq!(answer["error"]["code"], "7504");
    stage.send("DELETE", &second, &stage.token("listeners"), &[], "").expect(403);
    stage.send("DELETE", &second, TOKEN, &[], "").expect(200);
    stage.send("DELETE", &operators, TOKEN, &[], "").expect(200);

    // Another process does not know them.
    let elsewhere = Stage::set(&[]);
    refused(elsewhere.offer(&listeners, &listen, &offer), "started again");
    let Stage { engine, .. } = stage;
    engine.signal(Signal::TERM);
    let (_, _, log) = engine.end(PATIENCE);
    assert!(!log.contains(&listen) && !log.contains(&own), "{log}");
}

#[test]
fn requests_and_answers_are_as_whep_has_them() {
    let stage = Stage::set(&[]);
    let ear = Tap::open();
    for of in ["listeners", "whep"] {
        let endpoint = format!("{}/{of}", stage.participant);
        let options = http::request(stage.engine.address, "OPTIONS", &endpoint, &[], b"").expect(200);
        assert_eq!(options.header("Accept-Post"), Some("application/sdp"));
        assert_eq!(options.header("Allow"), Some("GET, HEAD, POST, OPTIONS"));
        assert_eq!(stage.send("GET", &endpoint, TOKEN, &[], "").expect(204).body, b"");
        for method in ["PUT", "PATCH", "DELETE"] {
            let answer = stage.send(method, &endpoint, TOKEN, &[], "").expect(405);
            assert_eq!(answer.header("Allow"), Some("GET, HEAD, POST, OPTIONS"));
        }
        for kind in ["application/json", "text/plain", "application/trickle-ice-sdpfrag"] {
            let answer =
                stage.send("POST", &endpoint, TOKEN, &[("Content-Type", kind)], &ear.offer()).expect(415);
            assert_eq!(answer.header("Accept-Post"), Some("application/sdp"));
            assert_eq!(answer.header("Content-Type"), Some("application/json"));
        }
        stage.send("POST", &endpoint, TOKEN, &[], &ear.offer()).expect(415);
        stage.offer(&endpoint, TOKEN, &format!("{}{}", ear.offer(), "a=x\r\n".repeat(20_000))).expect(413);
        for (sdp, words) in [
            ("".to_owned(), "The offer"),
            ("hello".to_owned(), "The offer"),
            (ear.offer().replace("recvonly", "inactive"), "recvonly"),
            (ear.offer().replace("recvonly", "sendonly"), "recvonly"),
            (ear.offer().replace("127.0.0.1", "8.8.8.8"), "--allow-media"),
            (ear.offer().replace("opus", "iLBC").replace("0 96", "96"), "opus"),
        ] {
            let told = stage.offer(&endpoint, TOKEN, &sdp).expect(422).json();
            assert_eq!(told["error"]["code"], "8523");
            let message = told["error"]["message"].as_str().expect("why");
            assert!(message.contains(words) && !message.contains("mediaLeg"), "{sdp}: {message}");
        }
        let session = stage.open(of, TOKEN, &ear.offer());
        let trickle = [("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", "*")];
        let answer = stage.send("PATCH", &session, TOKEN, &trickle, "a=end-of-candidates\r\n").expect(405);
        assert_eq!(answer.header("Allow"), Some("GET, HEAD, DELETE, OPTIONS"));
        for method in ["PUT", "POST"] {
            stage.send(method, &session, TOKEN, &[("Content-Type", "application/sdp")], "").expect(405);
        }
        assert_eq!(stage.send("DELETE", &session, TOKEN, &[], "").expect(200).body, b"");
    }
    let nobody = stage.another();
    let told = stage.offer(&format!("{nobody}/listeners"), TOKEN, &ear.offer()).expect(400).json();
    assert_eq!(told["error"]["code"], "8504");
    for name in ["", "token", "7", "57dab8b1-894c-409a-b240-bd8beae78896"] {
        let expected = if matches!(name, "" | "token") { 405 } else { 404 };
        stage
            .send("DELETE", &format!("{}/listeners/{name}", stage.participant), TOKEN, &[], "")
            .expect(expected);
    }
}

/// Exactly the origins that the operator has named, and only where WHEP is spoken.
#[test]
fn pages_of_the_origins_that_were_named_may_come_and_no_others() {
    let ours = "https://console.example.com:8443";
    let stage = Stage::set(&["--cors-origin", ours, "--cors-origin", "http://localhost:3000"]);
    let endpoint = format!("{}/listeners", stage.participant);
    let preflight = |path: &str, origin: &str| {
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        http::request(stage.engine.address, "OPTIONS", path, &asked, b"")
    };
    for path in [
        endpoint.clone(),
        format!("{}/whep", stage.participant),
        format!("{endpoint}/57dab8b1-894c-409a-b240-bd8beae78896"),
    ] {
        let answer = preflight(&path, ours).expect(200);
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(ours));
        let methods = answer.header("Access-Control-Allow-Methods").expect("they are listed");
        assert_eq!(Some(methods), answer.header("Allow"));
        let headers = answer.header("Access-Control-Allow-Headers").expect("they are listed");
        assert!(headers.contains("Authorization") && headers.contains("Content-Type"));
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
        for other in [
            "https://console.example.com",
            "https://console.example.com:84431",
            "https://evil.example/?https://console.example.com:8443",
            "https://Console.example.com:8443",
            "null",
            "*",
            "",
        ] {
            let answer = preflight(&path, other).expect(200);
            assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{other}");
            assert_eq!(answer.header("Access-Control-Allow-Methods"), None, "{other}");
            assert_eq!(answer.header("Vary"), Some("Origin"));
        }
    }
    // The answer itself, and refusals, can be read too.
    let ear = Tap::open();
    let headers = [("Content-Type", "application/sdp"), ("Origin", "http://localhost:3000")];
    for (sdp, status) in [(ear.offer(), 201), ("v=0".to_owned(), 422)] {
        let answer = stage.send("POST", &endpoint, TOKEN, &headers, &sdp).expect(status);
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("http://localhost:3000"));
        let shown = answer.header("Access-Control-Expose-Headers").expect("they are listed");
        assert!(["Location", "ETag", "Link"].iter().all(|name| shown.contains(name)), "{shown}");
    }
    let unknown = http::request(stage.engine.address, "POST", &endpoint, &headers, b"").expect(401);
    assert_eq!(unknown.header("Access-Control-Allow-Origin"), Some("http://localhost:3000"));
    // Nowhere else.
    for path in
        [stage.participant.clone(), format!("{endpoint}/token"), "/v1.0/communications/calls".to_owned()]
    {
        let answer = stage.send("GET", &path, TOKEN, &[("Origin", ours)], "");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{path}");
    }
    // And by default nobody.
    let closed = Stage::set(&[]);
    let answer =
        closed.send("OPTIONS", &format!("{}/whep", closed.participant), TOKEN, &[("Origin", ours)], "");
    assert_eq!(answer.expect(200).header("Access-Control-Allow-Origin"), None);
}
