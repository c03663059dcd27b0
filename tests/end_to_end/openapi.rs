//! What `/openapi.json` promises is kept: every operation is asked, in good and in bad ways, and each answer is held
//! against the document by a validator that is no part of the product.

use std::{cell::RefCell, collections::BTreeSet};

use holdmusic_tests::asset;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::{
    ear::Ear,
    engine::{Engine, TOKEN},
    http::{self, Response},
    web::{Web, page},
};

/// Headers that an answer has only sometimes.
const SOMETIMES: &[&str] = &["Accept", "Accept-Encoding", "Accept-Post", "RateLimit", "RateLimit-Policy"];

/// The document, and what of it was seen.
struct Document {
    json: Value,
    /// Where its schemas stand, closed: what they do not name is not in an answer.
    closed: Value,
    seen: RefCell<BTreeSet<(String, u16)>>,
}

impl Document {
    fn of(engine: &Engine) -> Self {
        let json = http::request(engine.address, "GET", "/openapi.json", &[], b"").expect(200).json();
        let mut closed = json["components"].clone();
        for (name, schema) in closed["schemas"].as_object_mut().unwrap() {
            // What customers gave is given back in it, and the document itself is too long a story.
            if !["callGiven", "openApi", "jsonWebKeySet"].contains(&name.as_str()) {
                close(schema);
            }
        }
        Self { json, closed, seen: RefCell::default() }
    }

    /// A schema of the document by itself.
    fn validator(components: &Value, schema: &Value) -> Validator {
        let mut whole = schema.clone();
        whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        whole["components"] = components.clone();
        jsonschema::options().should_validate_formats(true).build(&whole).expect("a schema")
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                self.json.pointer(reference.trim_start_matches('#')).expect("it leads somewhere")
            }
            None => value,
        }
    }

    /// The schema of the body of an operation.
    fn body(&self, operation: &Value) -> Option<Validator> {
        let schema = operation.pointer("/requestBody/content/application~1json/schema")?;
        Some(Self::validator(&self.json["components"], schema))
    }

    /// Holds an answer against what is promised for it.
    fn check(&self, method: &str, template: &str, answer: &Response) {
        let operation = &self.json["paths"][template][method.to_ascii_lowercase()];
        let id =
            operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {template} is not there"));
        let status = answer.status;
        let promised = &operation["responses"][status.to_string()];
        assert!(promised.is_object(), "{id} answers {status}: {}", answer.text());
        self.seen.borrow_mut().insert((id.to_owned(), status));
        for (name, header) in promised["headers"].as_object().unwrap_or(&Map::new()) {
            match answer.header(name) {
                Some(value) => {
                    let schema = &self.resolve(header)["schema"];
                    let value = match schema["type"].as_str() {
                        Some("integer") => json!(value.parse::<u64>().unwrap()),
                        _ => json!(value),
                    };
                    let wrong = Self::validator(&self.json["components"], schema).validate(&value).err();
                    assert!(wrong.is_none(), "{id} {status} {name}: {wrong:?}");
                }
                None => assert!(SOMETIMES.contains(&name.as_str()), "{id} {status} has no {name}"),
            }
        }
        let kind = answer.header("Content-Type").unwrap_or_default();
        let Some(content) = promised["content"].as_object() else {
            assert!(answer.body.is_empty(), "{id} {status}: {}", answer.text());
            return;
        };
        let content = content.get(kind).unwrap_or_else(|| panic!("{id} {status} is {kind:?}"));
        let body = if kind.starts_with("application/json") || kind == "text/plain" {
            answer.json()
        } else {
            json!(answer.text())
        };
        for components in [&self.json["components"], &self.closed] {
            let wrong: Vec<_> = Self::validator(components, &content["schema"])
                .iter_errors(&body)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(wrong.is_empty(), "{id} {status}: {wrong:#?}\n{body:#}");
        }
    }
}

/// Has a schema refuse members that it does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let whole = members.contains_key("allOf") || members.contains_key("properties");
            if whole && members.get("additionalProperties").is_none() {
                members.insert("unevaluatedProperties".to_owned(), json!(false));
            }
            for (name, inner) in members.iter_mut() {
                // The parts of a whole each name a part of its members.
                if name != "allOf" {
                    close(inner);
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(close),
        _ => {}
    }
}

/// An engine that is asked by the document.
struct Asker<'a> {
    engine: &'a Engine,
    document: &'a Document,
    /// For the ids of a path, in the order of the path.
    ids: Vec<String>,
}

impl Asker<'_> {
    fn path(&self, template: &str, ids: &[String]) -> String {
        let mut ids = ids.iter();
        let parts = template.split('/').map(|part| match part.starts_with('{') {
            true => ids.next().expect("an id for each place").as_str(),
            false => part,
        });
        parts.collect::<Vec<_>>().join("/")
    }

    fn send(
        &self,
        method: &str,
        template: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let path = format!("{}{query}", self.path(template, &self.ids));
        let answer = http::request(self.engine.address, method, &path, headers, body);
        self.document.check(method, template, &answer);
        answer
    }

    /// Asks with a token; the answer must have this status.
    fn ask(&self, method: &str, template: &str, query: &str, body: &Value, status: u16) -> Response {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let headers = if body.is_null() { &headers[..1] } else { &headers[..] };
        self.send(method, template, query, headers, text.as_bytes()).expect(status)
    }

    /// Offers by WHEP; the answer must have this status.
    fn offer(&self, template: &str, sdp: &str, status: u16) -> Response {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/sdp")];
        self.send("POST", template, "", &headers, sdp.as_bytes()).expect(status)
    }
}

const ROOT: &str = "/v1.0/communications";

fn below(path: &str) -> String {
    format!("{ROOT}{path}")
}

#[test]
fn every_operation_answers_as_the_document_says() {
    let clip = asset("fixtures/music-16k.wav");
    let web = Web::open([("/music.wav", page("200 OK", "audio/wav", &clip))]);
    let (engine, ear) = (Engine::start(), Ear::open());
    let document = Document::of(&engine);
    let mut asker = Asker { engine: &engine, document: &document, ids: vec![] };
    let nothing = &Value::Null;

    for path in [
        "/",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/keys",
        "/v1/.well-known/OpenIdConfiguration",
    ] {
        asker.send("GET", path, "", &[], b"").expect(200);
    }

    let calls = below("/calls");
    let body =
        json!({ "callbackUri": web.url("/callback"), "subject": "a test", "targets": [], "mediaConfig": {} });
    let made = asker.ask("POST", &calls, "", &body, 201).json();
    asker.ids = vec![made["id"].as_str().unwrap().to_owned()];
    asker.ask("GET", &calls, "?$count=true&$top=1&$select=id,state", nothing, 200);
    asker.ask("GET", &below("/calls/$count"), "", nothing, 200);
    let call = below("/calls/{call-id}");
    asker.ask("GET", &call, "", nothing, 200);
    asker.ask("GET", &call, "?$select=id", nothing, 200);
    asker.ask("POST", &format!("{call}/keepAlive"), "", &json!({}), 200);

    let participants = format!("{call}/participants");
    let rtp = json!({ "address": ear.address.to_string(), "codec": "opus", "payloadType": 111 });
    let leg = json!({ "mediaLeg": { "rtp": rtp } });
    let other = asker.ask("POST", &participants, "", &leg, 201).json();
    let made = asker.ask("POST", &participants, "", &json!({ "metadata": "mine", "info": {} }), 201).json();
    let invited = json!({ "participants": [{ "identity": { "user": { "id": "1" } } }] });
    asker.ask("POST", &format!("{participants}/invite"), "", &invited, 200);
    asker.ask("POST", &format!("{call}/mute"), "", &json!({ "clientContext": "mute" }), 200);
    asker.ask("GET", &call, "", nothing, 200);
    asker.ask("POST", &format!("{call}/unmute"), "", &json!({}), 200);
    asker.ask("GET", &participants, "?$count=true&$top=1", nothing, 200);
    asker.ask("GET", &format!("{participants}/$count"), "", nothing, 200);
    asker.ids.push(made["id"].as_str().unwrap().to_owned());
    let participant = format!("{participants}/{{participant-id}}");
    let start = format!("{participant}/startHoldMusic");
    asker.ask("POST", &start, "", &json!({}), 400);
    asker.ask("GET", &format!("{participant}/mediaLeg"), "", nothing, 404);
    asker.ask("PUT", &format!("{participant}/mediaLeg"), "", &json!({ "rtp": rtp }), 200);
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 111\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtcp-mux\r\na=sendrecv\r\n",
        ear.address.port()
    );
    asker.ask("PUT", &format!("{participant}/mediaLeg"), "", &json!({ "mediaLeg": { "sdp": sdp } }), 200);
    asker.ask("GET", &format!("{participant}/mediaLeg"), "", nothing, 200);
    asker.ask("GET", &participant, "", nothing, 200);

    for (of, named) in [("listeners", "{listener-id}"), ("whep", "{session-id}")] {
        let endpoint = format!("{participant}/{of}");
        asker.ask("POST", &format!("{endpoint}/token"), "", nothing, 200);
        asker.ask("GET", &endpoint, "", nothing, 204);
        asker.offer(&endpoint, "v=0", 422);
        let made = asker.offer(&endpoint, &sdp, 201);
        asker.ask("GET", &participant, "", nothing, 200);
        asker.ids.push(made.header("Location").unwrap().rsplit('/').next().unwrap().to_owned());
        let session = format!("{endpoint}/{named}");
        asker.ask("GET", &session, "", nothing, 204);
        asker.ask("DELETE", &session, "", nothing, 200);
        asker.ask("DELETE", &session, "", nothing, 404);
        asker.ids.pop();
    }
    asker.offer(&format!("{participant}/listeners"), &sdp, 400);
    asker.ask("PUT", &format!("{participant}/mediaLeg"), "", &json!({ "mediaLeg": { "sdp": sdp } }), 200);

    let prompt = json!({ "mediaInfo": { "uri": web.url("/music.wav") } });
    let body = json!({ "customPrompt": prompt, "clientContext": "context" });
    let started = asker.ask("POST", &start, "", &body, 202).json();
    ear.hear(25);
    asker.ask("GET", &participant, "", nothing, 200);
    asker.ask("POST", &format!("{participant}/mute"), "", nothing, 200);
    asker.ask("POST", &format!("{participant}/unmute"), "", nothing, 200);
    asker.ask("POST", &format!("{call}/playPrompt"), "", &json!({ "prompts": [prompt] }), 200);
    asker.ask("POST", &format!("{call}/cancelMediaProcessing"), "", &json!({}), 200);
    let held = asker.ids[1].clone();
    asker.ids[1] = other["id"].as_str().unwrap().to_owned();
    asker.ask("POST", &start, "", &json!({}), 409);
    asker.ids[1] = held.clone();
    let operations = format!("{call}/operations");
    asker.ids[1] = started["id"].as_str().unwrap().to_owned();
    let operation = format!("{operations}/{{operation-id}}");
    asker.ask("GET", &operation, "", nothing, 200);
    asker.ask("GET", &operation, "?$select=status", nothing, 200);
    asker.ask("GET", &operations, "?$count=true&$filter=clientContext%20eq%20'context'", nothing, 200);
    asker.ask("GET", &format!("{operations}/$count"), "", nothing, 200);
    asker.ids[1] = held;
    asker.ask("POST", &format!("{participant}/stopHoldMusic"), "", &json!({ "clientContext": "end" }), 202);
    asker.ask("POST", &format!("{participant}/stopHoldMusic"), "", nothing, 202);
    asker.ask("GET", &participant, "", nothing, 200);

    asker.ask("POST", &below("/prompts/check"), "", &prompt, 200);
    let missing = json!({ "customPrompt": { "mediaInfo": { "uri": web.url("/nothing.wav") } } });
    asker.ask("POST", &below("/prompts/check"), "", &missing, 200);
    asker.ask("POST", &below("/prompts/purge"), "", &json!({}), 204);

    asker.ask("DELETE", &format!("{participant}/mediaLeg"), "", nothing, 204);
    asker.ask("DELETE", &participant, "", nothing, 204);
    asker.ask("DELETE", &call, "", nothing, 204);
    asker.ask("POST", &participants, "", &json!({}), 400);

    // What was told meanwhile is in the document too.
    let told =
        Document::validator(&document.closed, &json!({ "$ref": "#/components/schemas/commsNotifications" }));
    for post in web.posts_until(|post| post.notification()["resourceData"]["state"] == "terminated") {
        let body: Value = serde_json::from_slice(&post.body).unwrap();
        let wrong: Vec<_> = told.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{body:#}");
    }

    asker.ask("GET", &below("/notifications/undelivered"), "?$count=true", nothing, 200);
    asker.ask("POST", &below("/notifications/redeliver"), "", &json!({}), 202);

    // Nothing was left out, but for what takes a receiver that is dead for minutes.
    let elsewhere = ["getUndelivered", "dropUndelivered", "redeliver"];
    let seen = document.seen.borrow();
    for item in document.json["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            let asked = seen.iter().any(|(seen, status)| seen == id && *status < 300);
            assert!(asked || elsewhere.contains(&id), "{id} was not asked");
        }
    }
}

/// Without a token, with ids that nobody has, with options and bodies that are wrong: refused, each as it is said.
#[test]
fn every_operation_is_refused_as_the_document_says() {
    let engine = Engine::start();
    let document = Document::of(&engine);
    let nobody = "57dab8b1-894c-409a-b240-bd8beae78896".to_owned();
    let asker = Asker { engine: &engine, document: &document, ids: vec![nobody; 3] };
    let bearer = format!("Bearer {TOKEN}");
    let token = [("Authorization", bearer.as_str())];
    let json_type = [token[0], ("Content-Type", "application/json")];
    for (path, item) in document.json["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_ascii_uppercase();
            let promised = |status: &str| operation["responses"][status].is_object();
            if operation["security"] == json!([{ "bearer": [] }]) {
                asker.send(&method, path, "", &[], b"").expect(401);
                asker.send(&method, path, "", &[("Authorization", "Bearer nonsense")], b"").expect(401);
            }
            let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
            if parameters.iter().any(|parameter| document.resolve(parameter)["name"] == "$select") {
                asker.send(&method, path, "?$orderby=id", &token, b"").expect(400);
            }
            if path.contains('{') && operation["requestBody"].is_null() {
                asker.send(&method, path, "", &token, b"").expect(404);
            }
            if promised("415") {
                asker.send(&method, path, "", &token, b"{}").expect(415);
                let coded = [json_type[0], json_type[1], ("Content-Encoding", "br")];
                asker.send(&method, path, "", &coded, b"{}").expect(415);
                asker.send(&method, path, "", &json_type, &vec![b' '; 300 << 10]).expect(413);
            }
        }
    }
}

/// What the schemas of bodies allow is read, and what they forbid is refused: by the examples of the document, and by
/// bodies that are wrong in one thing each.
#[test]
fn bodies_are_read_where_the_document_allows_them_and_refused_where_it_does_not() {
    // The network of the example of a media leg (RFC 5737).
    let engine = Engine::start_with(&["--allow-media", "192.0.2.0/24", "--allow-media", "127.0.0.0/8"]);
    let document = Document::of(&engine);
    let mut asker = Asker { engine: &engine, document: &document, ids: vec![] };
    let call = json!({ "callbackUri": "https://bot.contoso.com/api/calls" });
    let made = asker.ask("POST", &below("/calls"), "", &call, 201).json();
    asker.ids = vec![made["id"].as_str().unwrap().to_owned()];
    let participants = below("/calls/{call-id}/participants");
    let made = asker.ask("POST", &participants, "", &json!({}), 201).json();
    asker.ids.push(made["id"].as_str().unwrap().to_owned());
    let participant = format!("{participants}/{{participant-id}}");
    let rtp = |members: Value| {
        let mut rtp = json!({ "address": "127.0.0.1:40000", "codec": "opus", "payloadType": 111 });
        rtp.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({ "rtp": rtp })
    };
    let start = |uri: &str| json!({ "customPrompt": { "mediaInfo": { "uri": uri } } });
    let hold = |members: Value| json!({ "callbackUri": "https://bot.contoso.com/", "holdMusic": members });
    let leg = format!("{participant}/mediaLeg");
    let started = format!("{participant}/startHoldMusic");
    let stopped = format!("{participant}/stopHoldMusic");
    let cases: [(&str, String, Vec<Value>, Vec<Value>); 8] = [
        (
            "POST",
            below("/calls"),
            vec![
                call,
                hold(json!({ "maxHeldParticipants": 7.0 })),
                hold(json!({ "maxHeldParticipants": 1_000_000, "maxDuration": 1.5, "statusCase": null })),
                hold(json!({ "maxDuration": "PT1S", "completesWhen": "musicEnds", "unknown": [] })),
            ],
            vec![
                json!({}),
                json!({ "callbackUri": 7 }),
                json!({ "callbackUri": "https://bot.contoso.com/", "@odata.type": "#microsoft.graph.participant" }),
                json!({ "callbackUri": "https://bot.contoso.com/", "mediaConfig": [] }),
                hold(json!({ "maxHeldParticipants": 0 })),
                hold(json!({ "maxHeldParticipants": 1_000_001 })),
                hold(json!({ "maxHeldParticipants": 1.5 })),
                hold(json!({ "onPromptFailure": "explode" })),
                hold(json!({ "completesWhen": 1 })),
                hold(json!({ "maxDuration": 0.5 })),
                hold(json!({ "maxDuration": 31_622_401 })),
                hold(json!({ "maxDuration": "soon" })),
                hold(json!({ "defaultPrompt": {} })),
            ],
        ),
        (
            "POST",
            participants.clone(),
            vec![json!({}), json!({ "mediaLeg": rtp(json!({})), "metadata": null })],
            vec![json!({ "mediaLeg": {} }), json!({ "metadata": 1 }), json!({ "info": "me" })],
        ),
        (
            "PUT",
            leg,
            vec![
                rtp(json!({ "rtcp": "127.0.0.1:40001", "ssrc": 4_294_967_295_u32 })),
                json!({ "mediaLeg": rtp(json!({})) }),
            ],
            vec![
                json!({}),
                json!({ "sdp": "v=0", "rtp": {} }),
                json!({ "rtp": {} }),
                rtp(json!({ "payloadType": 72 })),
                rtp(json!({ "payloadType": 128 })),
                rtp(json!({ "codec": "g729" })),
                rtp(json!({ "srtp": {} })),
                rtp(json!({ "sequenceNumber": 65_536 })),
                rtp(json!({ "ssrc": -1 })),
            ],
        ),
        (
            "POST",
            started,
            vec![
                json!({}),
                json!({ "clientContext": "ä".repeat(256), "customPrompt": null }),
                start("data:audio/wav;base64,UklGRg=="),
            ],
            vec![
                json!({ "clientContext": "ä".repeat(257) }),
                json!({ "clientContext": {} }),
                json!({ "customPrompt": "x" }),
                start(""),
                start("onHold.wav"),
                start("ftp://bot.contoso.com/onHold.wav"),
                json!({ "holdMusic": { "rtpState": { "ssrc": 1 } } }),
            ],
        ),
        ("POST", stopped, vec![json!({ "clientContext": null })], vec![json!({ "clientContext": 1 })]),
        (
            "POST",
            format!("{participants}/invite"),
            vec![json!({ "participants": [{ "identity": {} }] })],
            vec![
                json!({}),
                json!({ "participants": [] }),
                json!({ "participants": [{}] }),
                json!({ "participants": [{ "identity": {} }, 1] }),
            ],
        ),
        (
            "POST",
            below("/calls/{call-id}/cancelMediaProcessing"),
            vec![json!({ "holdMusic": { "stop": true } })],
            vec![json!({ "holdMusic": { "stop": "yes" } }), json!({ "holdMusic": [] })],
        ),
        (
            "POST",
            below("/prompts/check"),
            vec![json!({ "prompt": { "mediaInfo": { "uri": "http://127.0.0.1:9/a.wav" } } })],
            vec![json!({}), json!({ "prompt": {} }), json!({ "mediaInfo": { "uri": 1 } })],
        ),
    ];
    for (method, path, allowed, forbidden) in cases {
        let operation = &document.json["paths"][&path][method.to_ascii_lowercase()];
        let schema = document.body(operation).expect("it has a body");
        let reference = &operation["requestBody"]["content"]["application/json"]["schema"];
        let examples = document.resolve(reference)["examples"].as_array().cloned().unwrap_or_default();
        let at = |body: &Value| {
            let bearer = format!("Bearer {TOKEN}");
            let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
            asker.send(method, &path, "", &headers, body.to_string().as_bytes())
        };
        for body in examples.iter().chain(&allowed) {
            assert!(schema.is_valid(body), "{method} {path} forbids {body}");
            let answer = at(body);
            assert!(answer.status < 300, "{method} {path} {body}: {}", answer.text());
        }
        for body in &forbidden {
            assert!(!schema.is_valid(body), "{method} {path} allows {body}");
            let answer = at(body).expect(400).json();
            assert_eq!(answer["error"]["code"], "8523", "{method} {path} {body}");
        }
    }
}
