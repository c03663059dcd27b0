//! One hold from the request to the silence after it, heard on a real port and told to a real callback.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use holdmusic_codecs::Pcm;
use holdmusic_tests::{Likeness, asset, one_shot, reference};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    ear::Ear,
    engine::{Engine, PATIENCE},
    http,
    web::{Post, Web, page},
};

/// A call with one participant.
pub(crate) struct Held<'a> {
    engine: &'a Engine,
    pub(crate) call: String,
    pub(crate) participant: String,
}

impl<'a> Held<'a> {
    pub(crate) fn new(engine: &'a Engine, web: &Web, ear: &Ear) -> Self {
        Self::at(engine, web, ear.address)
    }

    /// A participant whose leg goes to `phone`.
    pub(crate) fn at(engine: &'a Engine, web: &Web, phone: SocketAddr) -> Self {
        let body = json!({ "callbackUri": web.url("/callback") });
        let call = engine.http("POST", "/v1.0/communications/calls", &body).expect(201).json();
        let call = format!("/v1.0/communications/calls/{}", call["id"].as_str().unwrap());
        let leg = json!({ "address": phone.to_string(), "codec": "opus", "payloadType": 111 });
        let body = json!({ "mediaLeg": { "rtp": leg } });
        let path = format!("{call}/participants");
        let participant = engine.http("POST", &path, &body).expect(201).json();
        let participant = format!("{path}/{}", participant["id"].as_str().unwrap());
        Self { engine, call, participant }
    }

    /// Starts with a prompt; the id of the operation.
    pub(crate) fn start(&self, prompt: &str) -> String {
        let body = json!({ "customPrompt": { "mediaInfo": { "uri": prompt } }, "clientContext": "ctx" });
        let path = format!("{}/startHoldMusic", self.participant);
        let operation = self.engine.http("POST", &path, &body).expect(202).json();
        assert_eq!(operation["status"], "running");
        operation["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn stop(&self) -> Value {
        self.engine
            .http("POST", &format!("{}/stopHoldMusic", self.participant), &json!({}))
            .expect(202)
            .json()
    }

    /// Ends the call; every notification from the beginning on.
    pub(crate) fn end(self, web: &Web) -> Vec<Post> {
        self.engine.http("DELETE", &self.call, &Value::Null).expect(204);
        web.posts_until(|post| post.notification()["resourceData"]["state"] == "terminated")
    }
}

/// Twenty times, since it is a race: the same request from two connections is one operation, and of two participants of a
/// call one is held.
#[test]
fn requests_that_come_at_the_same_instant_are_decided_one_after_the_other() {
    let web = Web::open([]);
    let (engine, ear) = (Engine::start(), Ear::open());
    let held = Held::new(&engine, &web, &ear);
    let leg = json!({ "address": ear.address.to_string(), "codec": "opus", "payloadType": 111 });
    let body = json!({ "mediaLeg": { "rtp": leg } });
    let other = engine.http("POST", &format!("{}/participants", held.call), &body).expect(201).json();
    let other = format!("{}/participants/{}", held.call, other["id"].as_str().unwrap());
    let start = |participant: &str| {
        let body = json!({ "clientContext": "race" });
        engine.http("POST", &format!("{participant}/startHoldMusic"), &body)
    };
    let at_once = |one: &str, two: &str| {
        thread::scope(|scope| {
            let both = [one, two].map(|who| scope.spawn(move || start(who)));
            both.map(|answer| answer.join().unwrap())
        })
    };
    for _ in 0..20 {
        let [one, two] = at_once(&held.participant, &held.participant);
        assert_eq!((one.status, two.status), (202, 202));
        assert_eq!(one.json()["id"], two.json()["id"]);
        held.stop();
        let answers = at_once(&held.participant, &other);
        let mut statuses = answers.each_ref().map(|answer| answer.status);
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 409]);
        let refused = answers.iter().find(|answer| answer.status == 409).unwrap().json();
        assert_eq!(refused["error"]["code"], "8519");
        for participant in [&held.participant, &other] {
            engine.http("POST", &format!("{participant}/stopHoldMusic"), &json!({})).expect(202);
        }
    }
}

/// A call lives as long as its bot says so, and its end is told with the reason that Graph documents.
#[test]
fn a_call_that_is_not_kept_alive_ends_and_says_why() {
    let web = Web::open([]);
    let (engine, ear) = (Engine::start_with(&["--call-lifetime", "1"]), Ear::open());
    let held = Held::new(&engine, &web, &ear);
    let answer = engine.http("POST", &format!("{}/keepAlive", held.call), &json!({})).expect(200);
    assert_eq!(answer.text(), "");
    let posts = web.posts_until(|post| post.notification()["resourceData"]["state"] == "terminated");
    let end = &posts.last().unwrap().notification()["resourceData"]["resultInfo"];
    assert_eq!((&end["code"], &end["subcode"]), (&json!(408), &json!(8537)));
    let gone = engine.http("GET", &held.call, &Value::Null).expect(404);
    assert_eq!(gone.json()["error"]["code"], "8522");
}

/// The bot talks to who is on hold, on a real port: one stream without a hole, the prompt once, the music after it.
#[test]
fn a_prompt_is_heard_once_by_who_is_on_hold_and_the_bot_is_told_at_its_end() {
    let clip = asset("fixtures/speech-8k.wav");
    let web = Web::open([("/speech.wav", page("200 OK", "audio/wav", &clip))]);
    let (engine, ear) = (Engine::start(), Ear::open());
    let held = Held::new(&engine, &web, &ear);
    engine.http("POST", &format!("{}/startHoldMusic", held.participant), &json!({})).expect(202);
    ear.hear(50);
    let body = json!({
        "clientContext": "talk",
        "prompts": [{ "@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": { "uri": web.url("/speech.wav") } }],
    });
    let answer = engine.http("POST", &format!("{}/playPrompt", held.call), &body).expect(200);
    let operation = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.json()["@odata.type"], "#microsoft.graph.playPromptOperation");
    let posts = web.posts_until(|post| post.ends(&operation));
    let end = &posts.last().unwrap().notification()["resourceData"];
    assert_eq!((&end["status"], &end["resultInfo"]["code"]), (&json!("completed"), &json!(200)));
    // The prompt has 8 s.
    assert!(ear.packets() >= 449, "{} packets", ear.packets());
    ear.hear(500);
    let sent = held.stop()["holdMusic"]["report"]["packets"].as_u64().unwrap();
    ear.hear(sent);
    let hearing = ear.hearing();
    let main = hearing.main().unwrap();
    assert!(main.is_continuous() && hearing.streams.len() == 1, "{hearing:?}");
    let heard = ear.decode().sound;
    let found = Likeness::of(&reference(&clip, 1), &heard);
    assert!(found.correlation > 0.9, "{found:?}");
}

#[test]
fn a_participant_hears_the_prompt_and_then_nothing_more_and_the_bot_is_told_once() {
    let clip = asset("fixtures/music-16k.wav");
    let web = Web::open([("/music.wav", page("200 OK", "audio/wav", &clip))]);
    let (engine, ear) = (Engine::start(), Ear::open());
    let held = Held::new(&engine, &web, &ear);
    let operation = held.start(&web.url("/music.wav"));
    ear.hear(200);
    let path = format!("{}/operations/{operation}", held.call);
    let over = engine.http("GET", &path, &Value::Null).expect(200).json();
    assert_eq!(over["status"], "completed");
    let gain = over["holdMusic"]["gainDb"].as_f64().unwrap();

    let stopped = held.stop();
    assert_eq!((&stopped["status"], &stopped["resultInfo"]), (&json!("completed"), &Value::Null));
    let sent = stopped["holdMusic"]["report"]["packets"].as_u64().unwrap();
    ear.hear(sent);
    // Fifteen packet intervals: what was sent is what is heard, to the packet.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(ear.packets(), sent);

    let hearing = ear.hearing();
    let main = hearing.main().unwrap();
    assert!(main.is_continuous() && hearing.streams.len() == 1, "{hearing:?}");
    assert_eq!((main.markers, main.first_markers[0].packet), (1, 0));
    let late = stopped["holdMusic"]["report"]["skippedTicks"].as_u64().unwrap();
    assert!(main.timestamp_jumps <= late, "the timestamp jumps only where ticks were skipped: {main:?}");

    // What one encoding leaves of the same part of the prompt; the ear missed nothing at the beginning.
    let heard = ear.decode().sound;
    let expected = reference(&clip, 1);
    let expected =
        Pcm::new(expected.rate(), 1, expected.samples()[..heard.len().min(expected.len())].to_vec());
    let (found, best) = (Likeness::of(&expected, &heard), Likeness::of(&expected, &one_shot(&expected)));
    if late == 0 {
        assert!((0.0..=20.0).contains(&found.offset_ms), "{found:?}");
        assert!(found.correlation >= best.correlation - 0.01, "{found:?} {best:?}");
    }
    assert!((found.louder_lu - gain).abs() <= 1.0, "{found:?}, reported {gain} dB");

    let posts = held.end(&web);
    let ends: Vec<_> = posts.iter().filter(|post| post.ends(&operation)).collect();
    let [end] = &ends[..] else { panic!("told once, found {posts:?}") };
    let data = &end.notification()["resourceData"];
    assert_eq!((&data["status"], &data["clientContext"]), (&json!("completed"), &json!("ctx")));
    for post in &posts {
        assert_token(&engine, post);
    }
}

/// A virtual machine is paused, a debugger attached. What was missed stays away: no burst, no lost number, one jump of the
/// timestamp by whole ticks, and the report tells it.
#[test]
fn a_process_that_stood_still_for_half_a_second_comes_back_on_its_grid() {
    let (web, engine, ear) = (Web::open([]), Engine::start(), Ear::open());
    let held = Held::new(&engine, &web, &ear);
    let body = json!({});
    engine.http("POST", &format!("{}/startHoldMusic", held.participant), &body).expect(202);
    ear.hear(25);
    engine.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(500));
    engine.signal(Signal::CONT);
    ear.hear(ear.packets() + 50);
    let report = &held.stop()["holdMusic"]["report"];
    ear.hear(report["packets"].as_u64().unwrap());
    let hearing = ear.hearing();
    let main = hearing.main().unwrap();
    assert!(main.is_continuous() && hearing.streams.len() == 1, "{hearing:?}");
    assert_eq!(main.markers, 1, "the stream goes on, it does not begin anew");
    let jumps: Vec<_> = main.first_timestamp_jumps.iter().map(|jump| jump.units - 960).collect();
    // The machine may stand still by itself as well, but seldom for so long.
    let long = jumps.iter().filter(|units| **units >= 20 * 960).count();
    assert!(long == 1 && jumps.iter().all(|units| units % 960 == 0), "{jumps:?}");
    let skipped: i64 = jumps.iter().map(|units| i64::from(units / 960)).sum();
    assert_eq!(report["skippedTicks"].as_i64().unwrap(), skipped);
    assert!(report["longestGapMs"].as_f64().unwrap() >= 400.0, "{report}");
    // Fewer packets than intervals in which they could have left: nothing was made up for.
    let intervals = main.duration().as_millis() / 20 + 2;
    assert!(u128::from(main.packets) + skipped.unsigned_abs() as u128 <= intervals, "{main:?}");
}

/// The token as a bot's framework checks it: by the key that discovery leads to.
pub(crate) fn assert_token(engine: &Engine, post: &Post) {
    let token = post.header("Authorization").strip_prefix("Bearer ").expect("a bearer token");
    let discovery = http::request(engine.address, "GET", "/v1/.well-known/OpenIdConfiguration", &[], b"");
    let discovery = discovery.expect(200).json();
    let keys = discovery["jwks_uri"].as_str().unwrap();
    let keys = keys.strip_prefix(&format!("http://{}", engine.address)).expect("our own host");
    let keys = http::request(engine.address, "GET", keys, &[], b"").expect(200).json();
    let id = decode_header(token).unwrap().kid.expect("the key is named");
    let key =
        keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == json!(id)).expect("a known key");
    let (modulus, exponent) = (key["n"].as_str().unwrap(), key["e"].as_str().unwrap());
    assert!(BASE64_URL_SAFE_NO_PAD.decode(modulus).unwrap().len() >= 256, "at least 2048 bits");
    let key = DecodingKey::from_rsa_components(modulus, exponent).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["the-bot"]);
    validation.set_issuer(&["https://api.botframework.com"]);
    let token = decode::<Value>(token, &key, &validation).expect("a valid token");
    assert_eq!(token.claims["tid"], "the-tenant");
    assert_eq!(discovery["issuer"], token.claims["iss"]);
}

/// The kernel says "port unreachable" for a socket that was closed; a second of that is enough here.
#[test]
fn a_phone_that_hung_up_ends_its_hold() {
    let engine = Engine::start_with(&["--unreachable-after", "1"]);
    let web = Web::open([]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let held = Held::at(&engine, &web, socket.local_addr().unwrap());
    engine.http("POST", &format!("{}/startHoldMusic", held.participant), &json!({})).expect(202);
    socket.recv(&mut [0; 1500]).expect("music");
    drop(socket);
    let until = Instant::now() + PATIENCE;
    loop {
        let participant = engine.http("GET", &held.participant, &Value::Null).expect(200).json();
        if participant["holdMusic"]["state"] == "none" {
            assert_eq!(participant["holdMusic"]["endedBy"], "unreachable");
            break;
        }
        assert!(Instant::now() < until, "{participant}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The request that Microsoft's documentation prints; it is not JSON.
const DOCUMENTED: &str = r##"{ "customPrompt": { "@odata.type": "#microsoft.graph.mediaPrompt",
    "mediaInfo": { "@odata.type": "#microsoft.graph.mediaInfo", "uri": "https://bot.contoso.com/onHold.wav", }, },
  "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c", }"##;

#[test]
fn the_documented_request_is_taken_byte_for_byte() {
    let (engine, web, ear) = (Engine::start(), Web::open([]), Ear::open());
    let held = Held::new(&engine, &web, &ear);
    for path in [
        format!("{}/startHoldMusic", held.participant),
        format!("{}/microsoft.graph.startHoldMusic", held.participant.replace("v1.0", "beta")),
    ] {
        let accepted = engine.http_bytes("POST", &path, DOCUMENTED.as_bytes()).expect(202);
        let operation = accepted.json();
        assert_eq!(operation["@odata.type"], "#microsoft.graph.startHoldMusicOperation");
        assert_eq!(operation["clientContext"], "d45324c1-fcb5-430a-902c-f20af696537c");
        let location = accepted.header("Location").unwrap();
        let place = location.strip_prefix(&format!("http://{}", engine.address)).expect("our own host");
        let again = engine.http("GET", place, &Value::Null).expect(200).json();
        assert_eq!(again["id"], operation["id"]);
    }
    // Whatever becomes of that prompt, the participant is not left in silence.
    ear.hear(10);
}
