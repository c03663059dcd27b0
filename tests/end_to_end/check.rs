//! A dry run says beforehand what an operation will say: at the terminal, by HTTP, and against a real hold.

use std::{fs, path::Path};

use holdmusic_tests::asset;
use serde_json::{Value, json};

use crate::{
    ear::Ear,
    engine::{Engine, PATIENCE, TOKEN, command, said},
    hold::Held,
    http,
    prompts::wait_for_end,
    web::{Web, page},
};

const CHECK: &str = "/v1.0/communications/prompts/check";

fn fixtures() -> Vec<String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fixtures");
    let mut files = vec![];
    let mut rooms = vec![home.clone()];
    while let Some(room) = rooms.pop() {
        for entry in fs::read_dir(room).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Certificates are none.
                rooms.extend(Some(path).filter(|path| !path.ends_with("tls")));
            } else {
                files.push(path.strip_prefix(&home).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn path_of(fixture: &str) -> String {
    format!("{}/../assets/fixtures/{fixture}", env!("CARGO_MANIFEST_DIR"))
}

/// `holdmusic prompt check … --json`: exit code and report.
fn checked(arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, stdout, stderr) =
        said(command(["prompt", "check", "--json"].iter().chain(arguments)), PATIENCE);
    assert_eq!(stderr, "", "nothing is said aside where nobody watches");
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
}

/// Every fixture: exit code, verdict and subcode belong together, and only what is meant to be broken is refused.
#[test]
fn every_fixture_is_played_or_refused_as_an_operation_would() {
    let fixtures = fixtures();
    let aac = ["compressed/music.m4a", "tones/tone.aac", "tones/tone.m4a"];
    let mut played = 0;
    for fixture in &fixtures {
        let (code, report) = checked(&[&path_of(fixture)]);
        let result = &report["resultInfo"];
        let broken = fixture.starts_with("broken/") || fixture.starts_with("raw/");
        if broken || (aac.contains(&fixture.as_str()) && code == Some(1)) {
            assert_eq!(code, Some(1), "{fixture}: {report}");
            assert_eq!(report["playable"], false, "{fixture}");
            assert_eq!((&result["code"], &result["subcode"]), (&json!(200), &json!(8535)), "{fixture}");
            assert_eq!(report["played"], Value::Null, "{fixture}");
            continue;
        }
        played += 1;
        assert_eq!(code, Some(0), "{fixture}: {report}");
        assert_eq!((&result["code"], &result["subcode"]), (&json!(200), &json!(0)), "{fixture}");
        let lufs = report["played"]["loudnessLufs"].as_f64().unwrap();
        assert!((-20.2..=-19.8).contains(&lufs), "{fixture}: {lufs} LUFS");
        assert!(report["played"]["truePeakDbtp"].as_f64().unwrap() <= -1.95, "{fixture}");
        assert_eq!(report["played"]["bitsPerSecond"], 32_000.0, "{fixture}");
        assert!(report["played"]["turnBackDb"].as_f64().unwrap() < 6.0, "{fixture}: {report}");
        let cut = fixture == "lengths/cut-in-data.wav";
        assert_eq!(report["recording"]["cutShort"], cut, "{fixture}");
    }
    assert!(played >= 55 && fixtures.len() - played >= 13, "{played} of {} played", fixtures.len());
}

#[test]
fn the_terminal_is_told_in_words_and_in_a_picture() {
    let room = tempfile::tempdir().unwrap();
    let svg = room.path().join("music.svg");
    let music = path_of("music-16k.wav");
    let arguments = ["prompt", "check", &music, "--svg", svg.to_str().unwrap()];
    let (code, stdout, stderr) = said(command(arguments), PATIENCE);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for words in [
        "can be played",
        "WAV, PCM 16-bit, 16000 Hz, 1 channel; 9.600 s",
        "32.0 kbit/s",
        "200/0 Action completed",
    ] {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg"));

    let html = path_of("broken/html-page.wav");
    let (code, stdout, _) =
        said(command(["prompt", "check", &html, "--on-prompt-failure", "fail"]), PATIENCE);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("CANNOT be played") && stdout.contains("400/8535"), "{stdout}");

    for wrong in [
        &["prompt", "check"][..],
        &["prompt", "check", "/nowhere.wav"],
        &["prompt", "check", "ftp://host/a.wav"],
        &["prompt", "check", "file:///a.wav"],
        &["prompt", "check", &music, "--target-lufs", "loud"],
        &["prompt"],
    ] {
        let (code, stdout, stderr) = said(command(wrong), PATIENCE);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(!stderr.is_empty(), "{wrong:?}");
    }
}

/// Addresses go the way of the engine: through the guard, with its limits, and into its directory.
#[test]
fn an_address_is_fetched_as_the_engine_would() {
    let clip = asset("fixtures/kinds/pcm-16.wav");
    let web = Web::open([("/a.wav", page("200 OK", "audio/wav", &clip))]);
    let url = web.url("/a.wav?sig=secret");
    let plain = web.url("/a.wav");
    let (code, report) = checked(&[&plain]);
    assert_eq!((code, &report["resultInfo"]["subcode"]), (Some(1), &json!(8536)));
    assert!(report["resultInfo"]["message"].as_str().unwrap().contains("--allow-fetch"), "{report}");

    let loopback = ["--allow-fetch", "127.0.0.0/8"];
    let (code, report) = checked(&[&[plain.as_str()][..], &loopback].concat());
    assert_eq!((code, &report["bytes"]), (Some(0), &json!(clip.len())));
    assert!(report["ready"]["fetchMs"].as_f64().unwrap() > 0.0);

    let (code, report) = checked(&[&[url.as_str()][..], &loopback].concat());
    assert_eq!((code, &report["resultInfo"]["subcode"]), (Some(1), &json!(8536)));
    assert!(report["resultInfo"]["message"].as_str().unwrap().contains("404"), "{report}");
    assert!(!report.to_string().contains("secret"), "{report}");

    let (code, report) = checked(&[&[plain.as_str(), "--max-prompt-bytes", "100"][..], &loopback].concat());
    assert_eq!((code, &report["resultInfo"]["subcode"]), (Some(1), &json!(8536)));

    let room = path_of("kinds");
    let (code, report) = checked(&["file:///pcm-16.wav", "--prompts", &room]);
    assert_eq!((code, &report["prompt"]["mediaInfo"]["uri"]), (Some(0), &json!("file:///pcm-16.wav")));
}

/// What a bot is told beforehand is what its operation says afterwards, word for word.
#[test]
fn a_check_and_an_operation_say_the_same() {
    let file = |name: &str| page("200 OK", "audio/wav", &asset(&format!("fixtures/{name}")));
    let web = Web::open([
        ("/music", file("music-16k.wav")),
        ("/html", file("broken/html-page.wav")),
        ("/silence", file("broken/silence.wav")),
        ("/header", file("broken/cut-in-header.wav")),
        ("/raw", file("raw/tone.g722")),
        ("/error", page("500 Internal Server Error", "text/plain", b"oh")),
    ]);
    let engine = Engine::start_with(&["--prompts", &path_of("kinds")]);
    let callbacks = Web::open([]);
    let mut prompts: Vec<_> = ["/music", "/html", "/silence", "/header", "/raw", "/error", "/nowhere"]
        .map(|path| web.url(path))
        .into();
    prompts.extend(["http://10.0.0.1/x.wav", "file:///pcm-16.wav", "file:///none.wav"].map(str::to_owned));
    for uri in &prompts {
        let prompt = json!({ "@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": { "uri": uri } });
        let report = engine.http("POST", CHECK, &prompt).expect(200).json();
        let ear = Ear::open();
        let held = Held::new(&engine, &callbacks, &ear);
        let operation = held.start(uri);
        ear.hear(5);
        wait_for_end(&engine, &held.call, &operation);
        let path = format!("{}/operations/{operation}", held.call);
        let over = engine.http("GET", &path, &Value::Null).expect(200).json();
        assert_eq!(report["resultInfo"], over["resultInfo"], "{uri}");
        let playable = report["resultInfo"]["subcode"] == 0;
        assert_eq!(report["playable"], playable, "{uri}");
        if playable {
            assert_eq!(report["played"]["gainDb"], over["holdMusic"]["gainDb"], "{uri}");
        }
    }
}

#[test]
fn a_check_by_http_is_refused_as_everything_else_is() {
    let engine = Engine::start();
    let body = br#"{"mediaInfo": {"uri": "http://10.0.0.1/a.wav",},}"#;
    http::request(engine.address, "POST", CHECK, &[], body).expect(401);
    let authorization = format!("Bearer {TOKEN}");
    let typed = |kind| [("Authorization", authorization.as_str()), ("Content-Type", kind)];
    http::request(engine.address, "POST", CHECK, &typed("text/plain"), body).expect(415);
    let large = vec![b' '; 300 << 10];
    http::request(engine.address, "POST", CHECK, &typed("application/json"), &large).expect(413);
    let wrong = engine.http("GET", CHECK, &Value::Null).expect(405);
    assert_eq!(wrong.header("Allow"), Some("POST, OPTIONS"));
    for bad in [
        "",
        "{}",
        "{",
        "[]",
        r#"{"mediaInfo": {"uri": "a.wav"}}"#,
        r#"{"mediaInfo": {"uri": "file:///a.wav"}}"#,
    ] {
        let refused = engine.http_bytes("POST", CHECK, bad.as_bytes()).expect(400).json();
        assert_eq!(refused["error"]["code"], "8523", "{bad}: {refused}");
    }
    for path in [CHECK, "/beta/app/prompts/microsoft.graph.check"] {
        let report = engine.http_bytes("POST", path, body).expect(200).json();
        assert_eq!(report["resultInfo"]["subcode"], 8536);
    }
    let wrapped = [br#"{"customPrompt": "#.as_slice(), body, b"}"].concat();
    assert_eq!(engine.http_bytes("POST", CHECK, &wrapped).expect(200).json()["playable"], false);
}

/// Origins that say nothing keep every place. The next one is told to come again, calls go on being made, and whoever
/// hangs up gives a place back.
#[test]
fn checks_are_bounded_and_block_nobody() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/never.wav", silent.local_addr().unwrap());
    // Longer than this test's patience: nothing but the hang-up gives a place back.
    let engine = Engine::start_with(&["--fetch-silence", "60", "--fetch-total", "60"]);
    let body = json!({ "mediaInfo": { "uri": url } }).to_string();
    let head = format!(
        "POST {CHECK} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (waiting, _origins): (Vec<_>, Vec<_>) = (0..8)
        .map(|_| {
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect(engine.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            // Its fetch has begun: the place is taken.
            (stream, silent.accept().unwrap())
        })
        .unzip();
    let prompt = json!({ "mediaInfo": { "uri": "http://10.0.0.1/a.wav" } });
    let refused = engine.http("POST", CHECK, &prompt).expect(503);
    assert!(refused.header("Retry-After").unwrap().parse::<u32>().is_ok());
    engine.http("GET", "/v1.0/communications/calls", &Value::Null).expect(200);
    drop(waiting);
    let until = std::time::Instant::now() + PATIENCE;
    while engine.http("POST", CHECK, &prompt).status != 200 {
        assert!(std::time::Instant::now() < until, "places are given back");
    }
}
