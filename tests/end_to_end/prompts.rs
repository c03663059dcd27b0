//! Prompts that cannot be played, fetched by real HTTP: the participant hears default music, and the bot is told why.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use holdmusic_tests::asset;
use serde_json::{Value, json};

use crate::{
    ear::Ear,
    engine::Engine,
    hold::Held,
    web::{Web, page, page_of},
};

/// A prompt, the subcode of what becomes of it, and a word of the reason.
struct Bad {
    name: &'static str,
    url: String,
    subcode: u32,
    word: &'static str,
}

/// All at once, in one engine, as a busy day would have them.
#[test]
fn every_bad_prompt_is_named_while_default_music_plays() {
    let clip = asset("fixtures/music-16k.wav");
    let wav = |body: &[u8]| page("200 OK", "audio/wav", body);
    let short = page_of("200 OK", &format!("Content-Length: {}\r\n", clip.len()), &clip[..clip.len() / 2]);
    let away = |to: &str| page_of("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n"), b"");
    let web = Web::open([
        ("/html", wav(&asset("fixtures/broken/html-page.wav"))),
        ("/empty", wav(b"")),
        ("/header", wav(&asset("fixtures/broken/cut-in-header.wav"))),
        ("/silence", wav(&asset("fixtures/broken/silence.wav"))),
        ("/short", short),
        ("/private", away("http://10.0.0.1/music.wav")),
        ("/round", away("/round")),
        ("/error", page("500 Internal Server Error", "text/plain", b"oh")),
    ]);
    // A port where nobody listens: bound, and given back.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = |name, path: &str, subcode, word| Bad { name, url: web.url(path), subcode, word };
    let bad = [
        at("not found", "/nowhere", 8536, "404"),
        at("server error", "/error", 8536, "500"),
        at("a redirect to a private address", "/private", 8536, "10.0.0.1"),
        at("redirects without end", "/round", 8536, "redirect"),
        at("less than its Content-Length", "/short", 8536, ""),
        Bad { name: "refused", url: format!("http://{nobody}/music.wav"), subcode: 8536, word: "refused" },
        Bad {
            name: "private address",
            url: "http://10.0.0.1/x.wav".to_owned(),
            subcode: 8536,
            word: "--allow-fetch",
        },
        at("HTML", "/html", 8535, ""),
        at("zero bytes", "/empty", 8535, ""),
        at("cut inside its header", "/header", 8535, ""),
        at("digital silence", "/silence", 8535, "silen"),
    ];
    let engine = Engine::start();
    let callbacks = Web::open([]);
    let holds: Vec<_> = bad
        .iter()
        .map(|bad| {
            let ear = Ear::open();
            let held = Held::new(&engine, &callbacks, &ear);
            let operation = held.start(&bad.url);
            (bad, held, ear, operation)
        })
        .collect();
    for (bad, held, ear, operation) in &holds {
        let name = bad.name;
        ear.hear(5);
        wait_for_end(&engine, &held.call, operation);
        let path = format!("{}/operations/{operation}", held.call);
        let over = engine.http("GET", &path, &Value::Null).expect(200).json();
        let result = &over["resultInfo"];
        assert_eq!(over["status"], "completed", "{name}: {over}");
        assert_eq!(
            (&result["code"], &result["subcode"]),
            (&json!(200), &json!(bad.subcode)),
            "{name}: {over}"
        );
        let message = result["message"].as_str().unwrap();
        assert!(message.contains(bad.word), "{name}: {message}");
        let participant = engine.http("GET", &held.participant, &Value::Null).expect(200).json();
        assert_eq!(participant["holdMusic"]["source"], "default", "{name}: {participant}");
    }
}

/// Waits for the end of an operation by looking, since callbacks of many calls come in any order.
pub(crate) fn wait_for_end(engine: &Engine, call: &str, operation: &str) {
    let path = format!("{call}/operations/{operation}");
    let until = Instant::now() + Duration::from_secs(20);
    while engine.http("GET", &path, &Value::Null).expect(200).json()["status"] == "running" {
        assert!(Instant::now() < until, "an operation ends within 20 s");
        thread::sleep(Duration::from_millis(20));
    }
}
