//! Requests that are wrong in every way that we could think of, each with its exact answer, and requests that look wrong
//! and are not. The answers stand in `assets/graph/`; `UPDATE_EXPECT=1` writes them anew, to be read as a bot's developer
//! would read them: does a message say where, what was found and what was expected?

mod odd;
mod refused;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use expect_test::expect_file;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::{
    engine::{Engine, PATIENCE, TOKEN},
    http::{self, Response},
    web::Web,
};

/// What no answer and no line of the log may repeat.
const SECRET: &str = "SECRET";

/// The request that Graph's documentation of startHoldMusic prints, trailing commas included.
const DOCUMENTED: &str = r##"{
  "customPrompt": {
    "@odata.type": "#microsoft.graph.mediaPrompt",
    "mediaInfo": {
      "@odata.type": "#microsoft.graph.mediaInfo",
      "uri": "https://bot.contoso.com/onHold.wav",
    },
  },
  "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
}
"##;

/// One request. In its path, headers and body `{call}` and other names of [`Stage`] stand for what they name.
struct Case {
    /// What is odd about it.
    claim: String,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The body as it is shown, if that is not how it is sent.
    shown: Option<String>,
    /// The whole request as it is sent, where a client library would not write such a thing.
    raw: Option<String>,
}

impl Case {
    fn new(claim: impl Into<String>, method: &'static str, path: impl Into<String>) -> Self {
        let headers = vec![("Authorization".to_owned(), format!("Bearer {TOKEN}"))];
        Self { claim: claim.into(), method, path: path.into(), headers, body: vec![], shown: None, raw: None }
    }

    /// With a body of JSON.
    fn json(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self.header("Content-Type", "application/json") }
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    /// The body is shown like this.
    fn shown(self, shown: impl Into<String>) -> Self {
        Self { shown: Some(shown.into()), ..self }
    }

    /// These lines, and nothing else.
    fn raw(claim: &str, lines: impl Into<String>) -> Self {
        Self { raw: Some(lines.into()), ..Self::new(claim, "", "") }
    }
}

/// `POST` of a body.
fn post(claim: impl Into<String>, path: &str, body: impl Into<Vec<u8>>) -> Case {
    Case::new(claim, "POST", path).json(body)
}

fn get(claim: impl Into<String>, path: impl Into<String>) -> Case {
    Case::new(claim, "GET", path)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::best());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// What the requests are about: a call in which somebody is held and others are not, and one that has ended.
struct Stage {
    engine: Engine,
    web: Web,
    names: Vec<(&'static str, String)>,
}

impl Stage {
    fn set() -> Self {
        let engine = Engine::start();
        let web = Web::open([]);
        let post = |path: &str, body: Value, status| {
            let answer = engine.http("POST", path, &body).expect(status);
            if answer.body.is_empty() { Value::Null } else { answer.json() }
        };
        let id = |answer: &Value| answer["id"].as_str().expect("an id").to_owned();
        let calls = "/v1.0/communications/calls";
        let call = id(&post(calls, json!({ "callbackUri": web.url("/callback") }), 201));
        let ended = id(&post(calls, json!({ "callbackUri": web.url("/callback") }), 201));
        engine.http("DELETE", &format!("{calls}/{ended}"), &Value::Null).expect(204);
        let roster = format!("{calls}/{call}/participants");
        let leg = |sdp: bool| {
            let rtp = json!({ "rtp": { "address": "127.0.0.1:9", "payloadType": 111 } });
            let quiet = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP \
                         96\r\na=rtpmap:96 opus/48000/2\r\na=sendonly\r\n";
            json!({ "mediaLeg": if sdp { json!({ "sdp": quiet }) } else { rtp } })
        };
        let held = id(&post(&roster, leg(false), 201));
        let talking = id(&post(&roster, leg(false), 201));
        let quiet = id(&post(&roster, leg(true), 201));
        let bare = id(&post(&roster, json!({}), 201));
        let start = format!("{roster}/{held}/startHoldMusic");
        let operation = id(&post(&start, json!({ "clientContext": "the first" }), 202));
        let names = vec![
            ("calls", calls.to_owned()),
            ("call", format!("{calls}/{call}")),
            ("held", format!("{roster}/{held}")),
            ("talking", format!("{roster}/{talking}")),
            ("quiet", format!("{roster}/{quiet}")),
            ("bare", format!("{roster}/{bare}")),
            ("operation", format!("{calls}/{call}/operations/{operation}")),
            ("ended", format!("{calls}/{ended}")),
            ("call-id", call),
            ("held-id", held),
            ("talking-id", talking),
            ("quiet-id", quiet),
            ("bare-id", bare),
            ("operation-id", operation),
            ("ended-id", ended),
            ("token", TOKEN.to_owned()),
            ("host", engine.address.to_string()),
            ("callback", web.url("/callback")),
        ];
        let stage = Self { engine, web, names };
        stage.settle(|counts| counts["starts_completed_total"] == 1 && counts["notifications_pending"] == 0);
        stage
    }

    /// `text` with what the names stand for in place of them.
    fn fill(&self, text: &str) -> String {
        let fill = |text: String, (name, value): &(&str, String)| text.replace(&format!("{{{name}}}"), value);
        self.names.iter().fold(text.to_owned(), fill)
    }

    /// `text` with names in place of what they stand for.
    fn name(&self, text: &str) -> String {
        let name = |text: String, (name, value): &(&str, String)| text.replace(value, &format!("{{{name}}}"));
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        names.into_iter().fold(text.to_owned(), name)
    }

    fn ask(&self, case: &Case) -> Response {
        if let Some(raw) = &case.raw {
            return http::exchange(self.engine.address, self.fill(raw).as_bytes());
        }
        let headers: Vec<_> =
            case.headers.iter().map(|(name, value)| (name.as_str(), self.fill(value))).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = match std::str::from_utf8(&case.body) {
            Ok(text) => self.fill(text).into_bytes(),
            Err(_) => case.body.clone(),
        };
        http::request(self.engine.address, case.method, &self.fill(&case.path), &headers, &body)
    }

    /// Everything that can be read of the calls, without what changes as music plays.
    fn state(&self) -> Vec<Value> {
        let paths = [
            "{calls}?$count=true",
            "{call}",
            "{call}/participants",
            "{call}/operations",
            "{held}",
            "{talking}/mediaLeg",
            "{quiet}/mediaLeg",
            "{ended}/operations",
        ];
        let read = |path: &str| {
            let mut state = self.engine.http("GET", &self.fill(path), &Value::Null).expect(200).json();
            without_reports(&mut state);
            state
        };
        paths.map(read).into()
    }

    /// What `/metrics` counts of calls, holds, prompts and notifications.
    fn counts(&self) -> BTreeMap<String, u64> {
        let metrics = http::request(self.engine.address, "GET", "/metrics", &[], b"").expect(200);
        let lines =
            metrics.text().lines().filter_map(|line| line.strip_prefix("holdmusic_")?.split_once(' '));
        let ours = lines.filter(|(name, _)| {
            [
                "calls",
                "participants",
                "held",
                "prompts",
                "prompt_failures",
                "starts",
                "stops",
                "notif",
                "legs",
            ]
            .iter()
            .any(|ours| name.starts_with(ours))
        });
        ours.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
    }

    /// Waits until the counts are as `settled` says; they are published four times a second.
    fn settle(&self, settled: impl Fn(&BTreeMap<String, u64>) -> bool) -> BTreeMap<String, u64> {
        let until = Instant::now() + PATIENCE;
        loop {
            let counts = self.counts();
            if settled(&counts) {
                return counts;
            }
            assert!(Instant::now() < until, "{counts:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Takes away what a hold in progress changes by itself.
fn without_reports(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !matches!(name.as_str(), "report" | "counters"));
            members.values_mut().for_each(without_reports);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_reports),
        _ => {}
    }
}

/// `text` with `{id}` in place of every GUID that came into being by its request.
fn without_ids(text: &str) -> String {
    let is_id = |text: &str| {
        let groups: Vec<_> = text.split('-').map(str::len).collect();
        groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    let words = text.split('"').map(|word| if is_id(word) { "{id}" } else { word });
    words.collect::<Vec<_>>().join("\"")
}

/// The request as the files show it: one line, and one for its body.
fn shown(case: &Case) -> String {
    if let Some(raw) = &case.raw {
        return format!("{}\n", raw.trim_end().escape_default().to_string().replace("\\r\\n", " ⏎ "));
    }
    let mut text = format!("{} {}", case.method, shorten(&case.path));
    let usual = ["Bearer {token}", "application/json"];
    for (name, value) in &case.headers {
        let value = value.replace(TOKEN, "{token}");
        if !usual.contains(&value.as_str()) {
            let _ = write!(text, "  {name}: {}", shorten(&value));
        }
    }
    for name in ["Authorization", "Content-Type"] {
        let needed = name == "Authorization" || !case.body.is_empty();
        if needed && !case.headers.iter().any(|(found, _)| found == name) {
            let _ = write!(text, "  (no {name})");
        }
    }
    text.push('\n');
    let body = match &case.shown {
        Some(shown) => shown.clone(),
        None => match std::str::from_utf8(&case.body) {
            Ok(body) => shorten(body),
            Err(_) => shorten(&case.body.escape_ascii().to_string()),
        },
    };
    if !body.is_empty() {
        let _ = writeln!(text, "{body}");
    }
    text
}

/// What is long is shown by its ends and its length.
fn shorten(text: &str) -> String {
    let shown: String =
        text.chars()
            .map(|c| {
                if c.is_control() || c == '\u{feff}' { c.escape_default().to_string() } else { c.to_string() }
            })
            .collect();
    let length = shown.chars().count();
    if length <= 240 {
        return shown;
    }
    let (head, tail): (String, String) =
        (shown.chars().take(60).collect(), shown.chars().skip(length - 40).collect());
    format!("{head}…{tail} ({} bytes)", text.len())
}

#[test]
fn a_bad_request_is_told_what_is_wrong_with_it_and_changes_nothing() {
    let stage = Stage::set();
    let (state, counts) = (stage.state(), stage.counts());
    let mut file = String::new();
    let mut cases = 0;
    for (theme, group) in refused::table() {
        let _ = writeln!(file, "=== {theme}\n");
        for case in group {
            let answer = stage.ask(&case);
            let claim = &case.claim;
            assert!((400..=501).contains(&answer.status), "{claim}: {} {}", answer.status, answer.text());
            let _ = writeln!(file, "# {claim}\n{}{}", shown(&case), stage.name(&refusal(claim, &answer)));
            assert_eq!(stage.state(), state, "{claim}: something has changed");
            cases += 1;
        }
    }
    assert!(cases >= 100, "only {cases} bad requests");
    // One request that does change something, so that what is counted now was counted after all of them.
    stage
        .engine
        .http("POST", &stage.fill("{calls}"), &json!({ "callbackUri": stage.web.url("/") }))
        .expect(201);
    let delivered = "notifications_delivered_total";
    let mut expected = counts;
    *expected.get_mut("calls").expect("calls are counted") += 1;
    *expected.get_mut(delivered).expect("notifications are counted") += 1;
    let found = stage
        .settle(|counts| counts["calls"] == expected["calls"] && counts[delivered] >= expected[delivered]);
    assert_eq!(found, expected);
    expect_file!["../../assets/graph/refused.txt"].assert_eq(&file);
    let Stage { engine, .. } = stage;
    engine.signal(rustix::process::Signal::TERM);
    let (code, _, log) = engine.end(Duration::from_secs(5));
    assert_eq!(code, Some(0));
    assert!(!log.contains(SECRET), "{log}");
}

/// An answer that refuses, as the file shows it; what every refusal has is checked on the way.
fn refusal(claim: &str, answer: &Response) -> String {
    let mut text = format!("-> {}", answer.status);
    if answer.body.is_empty() {
        // Not even a request: it never came as far as the API.
        text += " (without a body)";
    } else {
        let body = answer.json();
        let error = &body["error"];
        let (code, message) = (error["code"].as_str(), error["message"].as_str());
        let (Some(code), Some(message)) = (code, message) else { panic!("{claim}: {body}") };
        assert!(!message.contains(SECRET), "{claim}: {message}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{claim}");
        assert_eq!(answer.header("OData-Version"), Some("4.0"), "{claim}");
        let id = answer.header("request-id").expect("every answer has one");
        assert_eq!(error["innerError"]["request-id"], id, "{claim}");
        let _ = write!(text, " {code} {message}");
    }
    for name in ["Allow", "Accept", "Accept-Encoding", "WWW-Authenticate", "Retry-After"] {
        if let Some(value) = answer.header(name) {
            let _ = write!(text, "\n   {name}: {value}");
        }
    }
    text + "\n"
}

#[test]
fn a_request_that_looks_wrong_and_is_not_is_served() {
    let stage = Stage::set();
    let mut file = String::new();
    for case in odd::table() {
        let answer = stage.ask(&case);
        let claim = &case.claim;
        assert!((200..=299).contains(&answer.status), "{claim}: {} {}", answer.status, answer.text());
        let mut text = format!("-> {}", answer.status);
        for name in ["Allow", "Content-Type"] {
            if let Some(value) = answer.header(name) {
                let _ = write!(text, "  {name}: {value}");
            }
        }
        let body = without_ids(&stage.name(answer.text()));
        // Bodies are shown where they are short and the same in every run.
        if !body.is_empty() && body.len() < 300 && !body.contains("DateTime") && !body.contains("Ms\"") {
            let _ = write!(text, "\n   {body}");
        }
        let _ = writeln!(file, "# {claim}\n{}{}\n", shown(&case), text);
    }
    expect_file!["../../assets/graph/odd.txt"].assert_eq(&file);
}

/// By the headers of one refusal and one success.
#[test]
fn a_client_finds_the_names_that_it_gave_in_the_headers() {
    let engine = Engine::start();
    let authorization = format!("Bearer {TOKEN}");
    let long = "x".repeat(129);
    let calls = "/v1.0/communications/calls";
    for path in [calls, "/v1.0/communications/calls/7", "/healthz"] {
        let ask = |name: &str| {
            let headers =
                [("Authorization", &*authorization), ("Scenario-Id", name), ("client-request-id", name)];
            http::request(engine.address, "GET", path, &headers, b"")
        };
        let named = ask("11111111-2222-3333-4444-555555555555");
        for header in ["Scenario-Id", "client-request-id"] {
            assert_eq!(named.header(header), Some("11111111-2222-3333-4444-555555555555"), "{path}");
        }
        assert!(named.header("Cache-Control").is_some(), "{path}");
        assert_eq!(named.header("Strict-Transport-Security"), None, "this is not TLS");
        for name in [long.as_str(), "two words", "ümlaut", ""] {
            let unnamed = ask(name);
            assert_eq!(unnamed.header("Scenario-Id"), None, "{name}");
            assert_eq!(unnamed.header("client-request-id"), unnamed.header("request-id"), "{name}");
        }
    }
}
