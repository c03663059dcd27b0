//! Prompts that cannot be played, fetched by real HTTP: the participant hears default music, and the bot is told why.

use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use holdmusic_tests::asset;
use serde_json::{Value, json};

use crate::{
    ear::Ear,
    engine::{Engine, PATIENCE, TOKEN},
    hold::Held,
    web::{Web, page, page_of},
};

/// A prompt, the subcode and the cause of what becomes of it, and a word of the message.
struct Bad {
    name: &'static str,
    url: String,
    subcode: u32,
    cause: &'static str,
    word: &'static str,
}

/// All at once, in one engine, as a busy day would have them.
#[test]
fn every_bad_prompt_is_named_while_default_music_plays() {
    let clip = asset("fixtures/music-16k.wav");
    let wav = |body: &[u8]| page("200 OK", "audio/wav", body);
    let short = page_of("200 OK", &format!("Content-Length: {}\r\n", clip.len()), &clip[..clip.len() / 2]);
    let packed = page_of("200 OK", "Content-Encoding: gzip\r\nContent-Length: 4\r\n", b"\x1F\x8B\x08\0");
    let lies = page_of("200 OK", "Content-Length: 4\r\nContent-Length: 5\r\n", b"RIFF!");
    let away = |to: &str| page_of("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n"), b"");
    let web = Web::open([
        ("/html", wav(&asset("fixtures/broken/html-page.wav"))),
        ("/empty", wav(b"")),
        ("/header", wav(&asset("fixtures/broken/cut-in-header.wav"))),
        ("/samples", wav(&asset("fixtures/broken/data-empty.wav"))),
        ("/channels", wav(&asset("fixtures/broken/channels-65535.wav"))),
        ("/rate", wav(&asset("fixtures/broken/rate-zero.wav"))),
        ("/tag", wav(&asset("fixtures/broken/unsupported-tag.wav"))),
        ("/silence", wav(&asset("fixtures/broken/silence.wav"))),
        ("/long", wav(&wav_of(4000, 4 * 4000))),
        ("/many", wav(&wav_of(48_000, 2 * 48_000))),
        ("/short", short),
        ("/packed", packed),
        ("/lies", lies),
        ("/declared", page_of("200 OK", "Content-Length: 10737418240\r\n", b"RIFF")),
        ("/private", away("http://10.0.0.1/music.wav")),
        ("/file", away("file:///etc/passwd")),
        ("/mail", away("http://127.0.0.1:25/")),
        ("/nowhere-at-all", away("")),
        ("/round", away("/round")),
        ("/error", page("500 Internal Server Error", "text/plain", b"oh")),
    ]);
    let prompts = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("round.wav", prompts.path().join("round.wav")).unwrap();
    // A port where nobody listens: bound, and given back.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nameless = "a".repeat(64);
    let at = |name, path: &str, subcode, cause, word| Bad { name, url: web.url(path), subcode, cause, word };
    let to = |name, url: &str, cause, word| Bad { name, url: url.to_owned(), subcode: 8536, cause, word };
    let bad = [
        at("not found", "/nowhere", 8536, "httpStatus", "404"),
        at("server error", "/error", 8536, "serverError", "500"),
        at("a redirect to a private address", "/private", 8536, "addressRefused", "10.0.0.1"),
        at("a redirect to a file", "/file", 8536, "schemeRefused", "file"),
        at("a redirect to a mail server", "/mail", 8536, "portRefused", "25"),
        at("redirects without end", "/round", 8536, "redirectLimit", "5"),
        at("less than its Content-Length", "/short", 8536, "shortBody", ""),
        at("a compressed body", "/packed", 8536, "contentEncoded", "gzip"),
        at("two lengths", "/lies", 8536, "responseInvalid", ""),
        at("10 GiB declared", "/declared", 8536, "tooLarge", "10737418240"),
        to("refused", &format!("http://{nobody}/music.wav"), "connectionRefused", "refused"),
        to("no TLS there", &web.url("/").replace("http:", "https:"), "tlsFailed", ""),
        to("private address", "http://10.0.0.1/x.wav", "addressRefused", "--allow-fetch"),
        to("private address in octal", "http://012.1/x.wav", "addressRefused", "10.0.0.1"),
        to("a name that cannot be", &format!("http://{nameless}.invalid/"), "dnsFailed", "invalid"),
        to("no file", "file:///none.wav", "fileNotFound", "none.wav"),
        to("a file outside", "file:///%2e%2e/%2e%2e/etc/passwd", "fileNotFound", ""),
        to("a link to itself", "file:///round.wav", "fileUnreadable", "round.wav"),
        at("HTML", "/html", 8535, "notAudio", "HTML"),
        at("zero bytes", "/empty", 8535, "notAudio", "0 bytes"),
        at("cut inside its header", "/header", 8535, "headerCut", ""),
        at("no samples", "/samples", 8535, "noSamples", ""),
        at("too many channels", "/channels", 8535, "tooManyChannels", "65535"),
        at("no rate", "/rate", 8535, "sampleRate", "0 Hz"),
        at("an unknown coding", "/tag", 8535, "unsupportedFormat", ""),
        at("too long", "/long", 8535, "tooLong", "3 seconds"),
        at("too many samples", "/many", 8535, "tooManySamples", "90000"),
        at("digital silence", "/silence", 8535, "silent", "silen"),
        Bad {
            name: "a text in a data URI",
            url: "data:text/plain;base64,aGVsbG8=".to_owned(),
            subcode: 8535,
            cause: "notAudio",
            word: "a text",
        },
    ];
    let directory = prompts.path().to_str().unwrap();
    let limits = ["--max-prompt-seconds", "3", "--max-prompt-samples", "90000", "--prompts", directory];
    let engine = Engine::start_with(&limits);
    let before = engine.peak_memory();
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
        let over = wait_for_end(&engine, &held.call, operation);
        let result = &over["resultInfo"];
        assert_eq!(over["status"], "completed", "{name}: {over}");
        assert_eq!(
            (&result["code"], &result["subcode"]),
            (&json!(200), &json!(bad.subcode)),
            "{name}: {over}"
        );
        assert_eq!(over["holdMusic"]["reason"]["cause"], bad.cause, "{name}: {over}");
        let message = result["message"].as_str().unwrap();
        assert!(message.contains(bad.word) && message.contains(bad.cause), "{name}: {message}");
        let participant = engine.http("GET", &held.participant, &Value::Null).expect(200).json();
        let hold = &participant["holdMusic"];
        assert_eq!(hold["source"], "default", "{name}: {participant}");
        assert_eq!(hold["report"]["reason"], over["holdMusic"]["reason"], "{name}: {participant}");
    }
    // The metrics learn of it a quarter of a second later.
    let until = Instant::now() + PATIENCE;
    for bad in &bad {
        let times = holds.iter().filter(|(other, ..)| other.cause == bad.cause).count();
        let line = format!("holdmusic_prompt_failures_total{{cause=\"{}\"}} {times}", bad.cause);
        while !engine.http("GET", "/metrics", &Value::Null).text().lines().any(|found| found == line) {
            assert!(Instant::now() < until, "{line} is not in the metrics");
            thread::sleep(Duration::from_millis(20));
        }
    }
    // Not one byte of what was only declared.
    assert!(engine.peak_memory() - before < 64 << 20, "{} bytes more", engine.peak_memory() - before);
}

/// A WAV of one channel of 16 bits, so many samples of a saw.
fn wav_of(rate: u32, samples: u32) -> Vec<u8> {
    let data: Vec<u8> = (0..samples).flat_map(|n| ((n % 100) as i16 * 100).to_le_bytes()).collect();
    let numbers = |all: &[u32]| all.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
    [
        &b"RIFF"[..],
        &numbers(&[36 + 2 * samples]),
        b"WAVEfmt ",
        &numbers(&[16, 0x0001_0001, rate, 2 * rate, 0x0010_0002]),
        b"data",
        &numbers(&[2 * samples]),
        &data,
    ]
    .concat()
}

/// Lengths that a header claims and that nobody has sent: what is a lie is told, what is cut plays what is there, and
/// neither takes memory.
#[test]
fn a_length_that_is_only_claimed_takes_no_memory() {
    let tone = asset("fixtures/tones/tone.flac");
    // The 36 bits of samples in a FLAC's first block (RFC 9639, section 8.2): all of them.
    let mut flac = tone.clone();
    flac[21] |= 0x0F;
    flac[22..26].fill(0xFF);
    let mut wav = asset("fixtures/tones/source.wav");
    let at = wav.windows(4).position(|name| name == b"data").unwrap();
    wav[at + 4..at + 8].copy_from_slice(&0x7FFE_FFFF_u32.to_le_bytes());
    let mut rf64 = asset("fixtures/tones/tone-rf64.wav");
    let at = rf64.windows(4).position(|name| name == b"ds64").unwrap();
    for (from, length) in [(8, 10_u64 << 30), (16, 10 << 30), (24, 5 << 30)] {
        rf64[at + from..at + from + 8].copy_from_slice(&length.to_le_bytes());
    }
    let mut aiff = asset("fixtures/tones/tone.aiff");
    let at = aiff.windows(4).position(|name| name == b"COMM").unwrap();
    aiff[at + 10..at + 14].fill(0xFF);
    let page = |body: &[u8]| page("200 OK", "audio/wav", body);
    let files =
        [("/flac", page(&flac)), ("/wav", page(&wav)), ("/rf64", page(&rf64)), ("/aiff", page(&aiff))];
    let (web, callbacks) = (Web::open(files), Web::open([]));
    let engine = Engine::start();
    let before = engine.peak_memory();
    for (path, cause) in [("/flac", Some("tooLong")), ("/wav", None), ("/rf64", None), ("/aiff", None)] {
        let ear = Ear::open();
        let held = Held::new(&engine, &callbacks, &ear);
        let operation = held.start(&web.url(path));
        let over = wait_for_end(&engine, &held.call, &operation);
        assert_eq!(over["holdMusic"]["reason"]["cause"].as_str(), cause, "{path}: {over}");
        ear.hear(5);
    }
    let more = engine.peak_memory() - before;
    assert!(more < 64 << 20, "{more} bytes more");
}

/// A sound that is in the request itself, as long as a request may carry.
#[test]
fn a_prompt_may_be_in_its_own_uri() {
    let (engine, callbacks, ear) = (Engine::start(), Web::open([]), Ear::open());
    let held = Held::new(&engine, &callbacks, &ear);
    let wav = wav_of(16_000, 40_000);
    let percent: String = wav.iter().map(|byte| format!("%{byte:02x}")).collect();
    let short = wav_of(8_000, 8_000);
    let short: String = short.iter().map(|byte| format!("%{byte:02x}")).collect();
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &wav);
    for uri in [format!("data:audio/wav;base64,{base64}"), format!("data:,{short}")] {
        let operation = held.start(&uri);
        let over = wait_for_end(&engine, &held.call, &operation);
        assert_eq!(
            (&over["resultInfo"]["subcode"], &over["holdMusic"]["source"]),
            (&json!(0), &json!("customPrompt"))
        );
        held.stop();
    }
    let body = json!({ "customPrompt": { "mediaInfo": { "uri": format!("data:,{percent}") } } });
    let path = format!("{}/startHoldMusic", held.participant);
    let refused = engine.http("POST", &path, &body).expect(400).json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("131072"), "{message}");
}

/// An engine whose environment names a proxy goes to the origin itself.
#[test]
fn no_proxy_of_the_environment_is_asked() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let variables = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let variables = variables.map(|name| (name, address.as_str()));
    let flags = ["--token", TOKEN, "--allow-fetch", "127.0.0.0/8"];
    let engine = Engine::start_among(tempfile::tempdir().unwrap(), &flags, &variables);
    let clip = asset("fixtures/music-16k.wav");
    let web = Web::open([("/music.wav", page("200 OK", "audio/wav", &clip))]);
    let (callbacks, ear) = (Web::open([]), Ear::open());
    let held = Held::new(&engine, &callbacks, &ear);
    let operation = held.start(&web.url("/music.wav"));
    assert_eq!(wait_for_end(&engine, &held.call, &operation)["resultInfo"]["subcode"], 0);
    callbacks.posts_until(|post| post.ends(&operation));
    proxy.set_nonblocking(true).unwrap();
    assert!(proxy.accept().is_err(), "nobody came to the proxy");
    // It is there for whoever would come.
    assert!(TcpStream::connect(proxy.local_addr().unwrap()).is_ok());
}

/// With one place for preparing, an origin that says nothing keeps the next prompt out: told at once, and not for long.
#[test]
fn more_prompts_than_are_prepared_at_a_time_are_refused_with_a_time_to_come_back() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let engine =
        Engine::start_with(&["--max-preparing", "1", "--fetch-silence", "1", "--fetch-connect", "1"]);
    let (callbacks, ear, other) = (Web::open([]), Ear::open(), Ear::open());
    let held = Held::new(&engine, &callbacks, &ear);
    let operation = held.start(&format!("http://{}/a.wav", silent.local_addr().unwrap()));
    let second = Held::new(&engine, &callbacks, &other);
    // A port where nobody listens: bound, and given back.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let next = format!("http://{nobody}/b.wav");
    let body = json!({ "customPrompt": { "mediaInfo": { "uri": next } } });
    let refused = engine.http("POST", &format!("{}/startHoldMusic", second.participant), &body).expect(503);
    assert!(refused.header("Retry-After").is_some_and(|after| after.parse::<u32>().is_ok()));
    let over = wait_for_end(&engine, &held.call, &operation);
    assert_eq!(over["holdMusic"]["reason"]["cause"], "originSilent");
    let operation = second.start(&next);
    let over = wait_for_end(&engine, &second.call, &operation);
    assert_eq!(over["holdMusic"]["reason"]["cause"], "connectionRefused");
}

/// Waits for the end of an operation by looking, since callbacks of many calls come in any order; the operation.
pub(crate) fn wait_for_end(engine: &Engine, call: &str, operation: &str) -> Value {
    let path = format!("{call}/operations/{operation}");
    let until = Instant::now() + 2 * PATIENCE;
    loop {
        let found = engine.http("GET", &path, &Value::Null).expect(200).json();
        if found["status"] != "running" {
            return found;
        }
        assert!(Instant::now() < until, "an operation ends within 20 s");
        thread::sleep(Duration::from_millis(20));
    }
}
