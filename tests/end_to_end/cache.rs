//! A prompt that was heard before: asked about by the origin's own words, never outdated, kept over a restart.

use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use holdmusic_codecs::Pcm;
use holdmusic_tests::{Likeness, asset, reference};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    ear::Ear,
    engine::{Engine, PATIENCE, TOKEN},
    hold::Held,
    http::{head_of, header},
    web::{Web, page, page_of},
};

/// A web server with one recording, which knows its entity tag.
struct Origin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    body: Vec<u8>,
    tag: &'static str,
    cache_control: &'static str,
    /// The status of each answer, in order.
    answers: Vec<u16>,
}

impl Origin {
    fn open(body: Vec<u8>, tag: &'static str, cache_control: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { body, tag, cache_control, answers: vec![] }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let Some((_, headers)) = head_of(&mut reader) else { continue };
                let mut state = shared.lock().unwrap();
                let same = header(&headers, "if-none-match") == Some(state.tag);
                let about = format!("ETag: {}\r\nCache-Control: {}\r\n", state.tag, state.cache_control);
                let reply = if same {
                    state.answers.push(304);
                    page_of("304 Not Modified", &about, b"")
                } else {
                    state.answers.push(200);
                    let length = format!("{about}Content-Length: {}\r\n", state.body.len());
                    page_of("200 OK", &length, &state.body)
                };
                drop(state);
                let _ = stream.write_all(&reply);
            }
        });
        Self { address, state }
    }

    fn url(&self) -> String {
        format!("http://{}/on-hold.wav", self.address)
    }

    fn change(&self, body: Vec<u8>, tag: &'static str) {
        let mut state = self.state.lock().unwrap();
        (state.body, state.tag) = (body, tag);
    }

    fn answers(&self) -> Vec<u16> {
        self.state.lock().unwrap().answers.clone()
    }
}

/// One hold of a second; asserts that what is heard is `clip`.
fn hear(engine: &Engine, web: &Web, prompt: &str, clip: &[u8]) {
    let ear = Ear::open();
    let held = Held::new(engine, web, &ear);
    let operation = held.start(prompt);
    ear.hear(60);
    let path = format!("{}/operations/{operation}", held.call);
    let over = engine.http("GET", &path, &Value::Null).expect(200).json();
    assert_eq!(
        (&over["status"], &over["holdMusic"]["source"]),
        (&json!("completed"), &json!("customPrompt"))
    );
    assert_eq!(over["resultInfo"]["subcode"], 0, "{over}");
    held.stop();
    let heard = ear.decode().sound;
    let expected = reference(clip, 1);
    let expected =
        Pcm::new(expected.rate(), 1, expected.samples()[..heard.len().min(expected.len())].to_vec());
    let found = Likeness::of(&expected, &heard);
    assert!(found.correlation > 0.9, "{found:?}");
}

fn music() -> Vec<u8> {
    asset("fixtures/music-16k.wav")
}

fn speech() -> Vec<u8> {
    asset("fixtures/speech-8k.wav")
}

#[test]
fn an_origin_is_asked_by_its_own_tag_and_a_changed_prompt_is_heard_by_the_next_hold() {
    let origin = Origin::open(music(), "\"one\"", "no-cache");
    let (engine, web) = (Engine::start(), Web::open([]));
    hear(&engine, &web, &origin.url(), &music());
    hear(&engine, &web, &origin.url(), &music());
    assert_eq!(origin.answers(), [200, 304]);
    origin.change(speech(), "\"two\"");
    hear(&engine, &web, &origin.url(), &speech());
    hear(&engine, &web, &origin.url(), &speech());
    assert_eq!(origin.answers(), [200, 304, 200, 304]);
}

#[test]
fn a_prompt_that_is_good_for_an_hour_is_not_asked_about_until_it_is_purged() {
    let origin = Origin::open(music(), "\"one\"", "max-age=3600");
    let (engine, web) = (Engine::start(), Web::open([]));
    hear(&engine, &web, &origin.url(), &music());
    origin.change(speech(), "\"two\"");
    hear(&engine, &web, &origin.url(), &music());
    assert_eq!(origin.answers(), [200]);
    let body = json!({ "mediaInfo": { "uri": origin.url() } });
    engine.http("POST", "/v1.0/communications/prompts/purge", &body).expect(204);
    hear(&engine, &web, &origin.url(), &speech());
    assert_eq!(origin.answers(), [200, 200]);
}

/// Gone is gone, and moved is moved: what was heard before is not played in its place.
#[test]
fn an_origin_that_says_404_or_redirects_elsewhere_is_believed() {
    let origin = Origin::open(music(), "\"one\"", "max-age=3600");
    let callbacks = Web::open([]);
    let engine = Engine::start();
    let moved = Mover::open(&origin.url());
    hear(&engine, &callbacks, &moved.url, &music());
    let other = Origin::open(speech(), "\"two\"", "max-age=3600");
    moved.to(&other.url());
    hear(&engine, &callbacks, &moved.url, &speech());

    moved.to("");
    let ear = Ear::open();
    let held = Held::new(&engine, &callbacks, &ear);
    let operation = held.start(&moved.url);
    ear.hear(20);
    let path = format!("{}/operations/{operation}", held.call);
    let over = engine.http("GET", &path, &Value::Null).expect(200).json();
    assert_eq!(over["holdMusic"]["reason"]["cause"], "httpStatus", "{over}");
    assert_eq!(over["holdMusic"]["source"], "default");
}

/// A web server that redirects to one place, or answers 404.
struct Mover {
    url: String,
    target: Arc<Mutex<String>>,
}

impl Mover {
    fn open(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/current.wav", listener.local_addr().unwrap());
        let target = Arc::new(Mutex::new(target.to_owned()));
        let shared = Arc::clone(&target);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = head_of(&mut BufReader::new(stream.try_clone().unwrap()));
                let target = shared.lock().unwrap().clone();
                let reply = match target.as_str() {
                    "" => page("404 Not Found", "text/plain", b""),
                    target => {
                        page_of("302 Found", &format!("Location: {target}\r\nContent-Length: 0\r\n"), b"")
                    }
                };
                let _ = stream.write_all(&reply);
            }
        });
        Self { url, target }
    }

    fn to(&self, target: &str) {
        *self.target.lock().unwrap() = target.to_owned();
    }
}

/// An answer that would make a cache add beyond all numbers costs nobody anything.
#[test]
fn an_origin_with_mad_numbers_is_asked_again_and_played() {
    let origin = Origin::open(music(), "\"one\"", "max-age=1\r\nAge: 18446744073709551615");
    let (engine, callbacks) = (Engine::start(), Web::open([]));
    hear(&engine, &callbacks, &origin.url(), &music());
    // The answer must be a second old, and a hold is longer.
    hear(&engine, &callbacks, &origin.url(), &music());
    hear(&engine, &callbacks, &origin.url(), &music());
    assert!(origin.answers().len() >= 2, "{:?}", origin.answers());
}

/// The file of a rendition is there when it is whole: it is renamed into its place.
fn wait_for_renditions(engine: &Engine, count: usize) {
    let until = Instant::now() + PATIENCE;
    let directory = engine.data().join("cache/renditions");
    let kept = || {
        let files = std::fs::read_dir(&directory).unwrap().flatten();
        files.filter(|file| file.file_name().len() == 64).count()
    };
    while kept() < count {
        assert!(Instant::now() < until, "{} of {count} are kept", kept());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_was_prepared_is_played_after_a_restart_without_its_origin() {
    let origin = Origin::open(music(), "\"one\"", "max-age=3600");
    let web = Web::open([("/other.wav", page("200 OK", "audio/wav", &speech()))]);
    let engine = Engine::start();
    hear(&engine, &web, &origin.url(), &music());
    hear(&engine, &web, &web.url("/other.wav"), &speech());
    wait_for_renditions(&engine, 2);
    engine.signal(Signal::TERM);
    let (_, data) = engine.end_and_keep_data(Duration::from_secs(5));

    let flags = ["--token", TOKEN, "--allow-fetch", "127.0.0.0/8"];
    let engine = Engine::start_in(data, &flags);
    hear(&engine, &web, &origin.url(), &music());
    assert_eq!(origin.answers(), [200], "nobody was asked");
    hear(&engine, &web, &web.url("/other.wav"), &speech());
}

#[test]
fn a_call_has_its_prompts_fetched_before_they_are_asked_for() {
    let origin = Origin::open(music(), "\"one\"", "max-age=3600");
    let (engine, web) = (Engine::start(), Web::open([]));
    let body = json!({
        "callbackUri": web.url("/callback"),
        "mediaConfig": {
            "@odata.type": "#microsoft.graph.serviceHostedMediaConfig",
            "preFetchMedia": [{ "uri": origin.url(), "resourceId": "7" }],
        },
    });
    engine.http("POST", "/v1.0/communications/calls", &body).expect(201);
    wait_for_renditions(&engine, 1);
    assert_eq!(origin.answers(), [200]);
}
