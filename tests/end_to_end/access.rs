//! Who gets in, and to what: tokens that issuers signed and tokens that nobody should believe, applications side by side.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    engine::{Engine, PATIENCE, TOKEN},
    http::{self, Response, head_of},
    web::{Web, page},
};

const CALLS: &str = "/v1.0/communications/calls";
const APP: &str = "2b1d3c5e-0000-4000-8000-00000000000a";
const TENANT: &str = "7c6f1a8d-0000-4000-8000-00000000000b";
const AUDIENCE: &str = "api://holdmusic";

/// A key of an issuer: the half that signs, and the half that is published.
struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Value,
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn rsa(id: &'static str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = BASE64_STANDARD.encode(AsDer::as_der(&pair).unwrap().as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
        let modulus = text(pair.public_key().modulus().big_endian_without_leading_zero());
        let jwk = json!({ "kty": "RSA", "use": "sig", "kid": id, "n": modulus, "e": "AQAB" });
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        Self { id, algorithm: Algorithm::RS256, key, jwk }
    }

    fn p256(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": text(x), "y": text(y) });
        Self { id, algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(der.as_ref()), jwk }
    }

    fn ed25519(id: &'static str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": text(pair.public_key().as_ref()) });
        Self { id, algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(der.as_ref()), jwk }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The claims of a good token of `issuer`, with these in place of some; `null` is none.
fn claims(issuer: &str, instead: &Value) -> Value {
    let now = now_s();
    let mut claims = json!({
        "iss": issuer, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 3600,
        "appid": APP, "tid": TENANT, "roles": ["Calls.JoinGroupCallAsGuest.All"],
    });
    for (name, value) in instead.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn with(engine: &Engine, token: &str, method: &str, path: &str, body: &Value) -> Response {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
    http::request(engine.address, method, path, &headers, &body)
}

fn list(engine: &Engine, token: &str) -> Response {
    with(engine, token, "GET", CALLS, &Value::Null)
}

#[test]
fn good_tokens_are_believed_and_bad_ones_are_told_what_is_wrong_with_them() {
    const ISSUER: &str = "https://login.example.com/v2.0";
    let (rsa, ec, ed) = (Signer::rsa("rsa"), Signer::p256("ec"), Signer::ed25519("ed"));
    let stranger = Signer::rsa("rsa");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    let keys = json!({ "keys": [rsa.jwk, ec.jwk, ed.jwk, { "kty": "oct", "kid": "oct", "k": "c2VjcmV0" }] });
    fs::write(&file, keys.to_string()).unwrap();
    let keys = file.to_str().unwrap();
    let engine = Engine::start_with(&[
        "--auth-issuer",
        ISSUER,
        "--auth-audience",
        AUDIENCE,
        "--auth-keys",
        keys,
        "--auth-tenant",
        TENANT,
    ]);
    let claims = |instead: Value| claims(ISSUER, &instead);
    let good = |instead| rsa.sign(&claims(instead));

    for (what, token) in [
        ("RS256", good(json!({}))),
        ("ES256", ec.sign(&claims(json!({})))),
        ("EdDSA", ed.sign(&claims(json!({})))),
        ("azp", good(json!({ "appid": null, "azp": APP }))),
        ("several audiences", good(json!({ "aud": ["other", AUDIENCE] }))),
        ("a misspelled role", good(json!({ "roles": ["Calls.JoinGroupCalls.All"] }))),
        ("the id of a role", good(json!({ "roles": "f6b49018-60ab-4f81-83bd-22caeabfed2d" }))),
        ("a clock that goes wrong", good(json!({ "exp": now_s() - 200, "nbf": now_s() - 4000 }))),
        ("the static token", TOKEN.to_owned()),
    ] {
        for time in ["first", "second"] {
            let answer = list(&engine, &token);
            assert_eq!(answer.status, 200, "{what}, {time} time: {}", answer.text());
        }
    }

    let header = |header: Value, key: &EncodingKey, algorithm| {
        let message = format!(
            "{}.{}",
            text(header.to_string().as_bytes()),
            text(claims(json!({})).to_string().as_bytes())
        );
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
        format!("{message}.{signature}")
    };
    let rsa_header = |more: Value| {
        let mut all = json!({ "alg": "RS256", "kid": "rsa" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        header(all, &rsa.key, Algorithm::RS256)
    };
    let unsigned = |alg: &str| {
        format!(
            "{}.{}.",
            text(json!({ "alg": alg }).to_string().as_bytes()),
            text(claims(json!({})).to_string().as_bytes())
        )
    };
    let public = EncodingKey::from_secret(rsa.jwk["n"].as_str().unwrap().as_bytes());
    let tampered = {
        let token = good(json!({}));
        let parts: Vec<_> = token.split('.').collect();
        let others = text(claims(json!({ "appid": "another" })).to_string().as_bytes());
        format!("{}.{others}.{}", parts[0], parts[2])
    };
    let long = good(json!({ "padding": "x".repeat(17 << 10) }));
    let bad = [
        ("nothing", String::new(), "does not begin with 'Bearer '"),
        ("garbage", "garbage".to_owned(), "no JWT"),
        ("two parts", "a.b".to_owned(), "not three parts"),
        ("four parts", "a.b.c.d".to_owned(), "not three parts"),
        ("no JSON", "a.b.c".to_owned(), "no JSON"),
        ("not signed", unsigned("none"), "not signed"),
        ("not signed, in capitals", unsigned("NONE"), "not signed"),
        ("no signature", unsigned("RS256"), "not signed"),
        (
            "a secret that is public",
            header(json!({ "alg": "HS256", "kid": "rsa" }), &public, Algorithm::HS256),
            "is for RS256",
        ),
        (
            "a secret key that is published",
            header(
                json!({ "alg": "HS256", "kid": "oct" }),
                &EncodingKey::from_secret(b"secret"),
                Algorithm::HS256,
            ),
            "no key 'oct'",
        ),
        (
            "another algorithm",
            header(json!({ "alg": "RS512", "kid": "rsa" }), &rsa.key, Algorithm::RS512),
            "is for RS256",
        ),
        (
            "another key's algorithm",
            header(json!({ "alg": "ES256", "kid": "rsa" }), &ec.key, Algorithm::ES256),
            "is for RS256",
        ),
        ("a stranger's key", stranger.sign(&claims(json!({}))), "signature of the access token is wrong"),
        ("tampered", tampered, "signature of the access token is wrong"),
        ("Microsoft's own", stranger_with_nonce(&stranger, &claims(json!({}))), "service of Microsoft's own"),
        ("extensions", rsa_header(json!({ "crit": ["b64"], "b64": false })), "extensions"),
        ("no name of a key", rsa_header(json!({ "kid": null })), "does not name its key"),
        ("an unknown key", rsa_header(json!({ "kid": "new" })), "no key 'new'"),
        (
            "a path for a key",
            rsa_header(json!({ "kid": "../../../etc/passwd" })),
            "no key '../../../etc/passwd'",
        ),
        (
            "a header for a key",
            rsa_header(json!({ "kid": "a\"\r\nSet-Cookie: b" })),
            "no key 'a\"??Set-Cookie: b'",
        ),
        ("a long name for a key", rsa_header(json!({ "kid": "k".repeat(4000) })), "kkk…'"),
        ("expired", good(json!({ "exp": now_s() - 301 })), "expired at 20"),
        ("no end", good(json!({ "exp": null })), "no end"),
        ("an end that is no number", good(json!({ "exp": "tomorrow" })), "of a wrong type"),
        ("not yet", good(json!({ "nbf": now_s() + 400 })), "not good before 20"),
        (
            "another audience",
            good(json!({ "aud": "https://graph.microsoft.com" })),
            "is 'https://graph.microsoft.com'; expected 'api://holdmusic'",
        ),
        ("no audience", good(json!({ "aud": null })), "missing; expected 'api://holdmusic'"),
        (
            "another issuer",
            good(json!({ "iss": "https://login.example.com/v2.0/" })),
            "expected 'https://login.example.com/v2.0'",
        ),
        ("no issuer", good(json!({ "iss": null })), "('iss') is missing"),
        ("another tenant", good(json!({ "tid": "elsewhere" })), "is 'elsewhere'; expected"),
        ("no tenant", good(json!({ "tid": null })), "('tid') is missing"),
        ("no application", good(json!({ "appid": null })), "neither 'appid' nor 'azp'"),
        ("too long", long, "expected 16384 at most"),
    ];
    for (what, token, words) in &bad {
        let answer = list(&engine, token);
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "InvalidAuthenticationToken", "{what}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{what}: {message}");
        let challenge = answer.header("WWW-Authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer error=\"invalid_token\", error_description=\""),
            "{what}: {challenge}"
        );
        assert_eq!(challenge.matches('"').count(), 4, "{what}: {challenge}");
        assert!(answer.header("Set-Cookie").is_none(), "{what}");
    }
    for (what, roles, words) in [
        ("no role", json!({ "roles": null, "scp": "Calls.JoinGroupCall.All" }), "has no application roles"),
        ("another role", json!({ "roles": ["Calls.Initiate.All"] }), "has only 'Calls.Initiate.All'"),
    ] {
        let answer = list(&engine, &good(roles)).expect(403).json();
        assert_eq!(answer["error"]["code"], "7504", "{what}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(words) && message.contains("Calls.JoinGroupCallAsGuest.All"), "{message}");
    }
    engine.signal(Signal::TERM);
    let (_, _, log) = engine.end(Duration::from_secs(5));
    for (what, token, _) in bad.iter().filter(|(_, token, _)| token.len() > 20) {
        assert!(!log.contains(token), "{what} is in the log");
    }
}

/// A token whose header has a `nonce`, as those for Microsoft Graph itself.
fn stranger_with_nonce(signer: &Signer, claims: &Value) -> String {
    let header = json!({ "alg": "RS256", "kid": "rsa", "nonce": "n" });
    let message = format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, Algorithm::RS256).unwrap();
    format!("{message}.{signature}")
}

/// An issuer on loopback, with a discovery document and keys that change.
struct Provider {
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    /// Paths as they are asked for.
    asked: mpsc::Receiver<String>,
}

impl Provider {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Arc::<Mutex<HashMap<String, Vec<u8>>>>::default();
        let (tell, asked) = mpsc::channel();
        let known = Arc::clone(&pages);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Some((first, _)) = head_of(&mut BufReader::new(&stream)) else { continue };
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let broken = || page("500 Internal Server Error", "text/plain", b"broken");
                let reply = known.lock().unwrap().get(&path).cloned().unwrap_or_else(broken);
                let _ = stream.write_all(&reply);
                let _ = tell.send(path);
            }
        });
        let discovery =
            json!({ "issuer": format!("http://{address}"), "jwks_uri": format!("http://{address}/keys") });
        let provider = Self { address, pages, asked };
        provider.publish("/.well-known/openid-configuration", &discovery);
        provider
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn publish(&self, path: &str, document: &Value) {
        let page = page("200 OK", "application/json", document.to_string().as_bytes());
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    fn publish_keys(&self, signers: &[&Signer]) {
        let keys: Vec<_> = signers.iter().map(|signer| &signer.jwk).collect();
        self.publish("/keys", &json!({ "keys": keys }));
    }

    fn take_away(&self, path: &str) {
        self.pages.lock().unwrap().remove(path);
    }

    /// Waits until `path` is asked for.
    fn until(&self, path: &str) {
        while self.asked.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nobody asks for {path}")) != path {
        }
    }
}

#[test]
fn keys_are_rotated_without_a_restart_and_old_ones_stay_while_the_issuer_is_away() {
    let provider = Provider::open();
    let (first, second, third) = (Signer::rsa("first"), Signer::rsa("second"), Signer::rsa("third"));
    provider.publish_keys(&[&first]);
    let issuer = provider.url();
    let engine = Engine::start_with(&["--auth-issuer", &issuer, "--auth-audience", AUDIENCE]);
    let token = |signer: &Signer| signer.sign(&claims(&issuer, &json!({})));
    let (old, new, newest) = (token(&first), token(&second), token(&third));
    list(&engine, &old).expect(200);
    provider.until("/keys");

    // The new key is looked for at once; what the one that is gone had signed is good no more.
    provider.publish_keys(&[&second]);
    list(&engine, &new).expect(200);
    provider.until("/keys");
    list(&engine, &old).expect(401);
    // Whoever sends unknown keys does not make us ask more often than we say.
    list(&engine, &newest).expect(401);
    assert!(provider.asked.try_recv().is_err());

    // An operator can.
    provider.publish_keys(&[&second, &third]);
    engine.signal(Signal::HUP);
    provider.until("/keys");
    answers(&engine, &newest, 200);

    provider.take_away("/keys");
    engine.signal(Signal::HUP);
    provider.until("/keys");
    list(&engine, &new).expect(200);
    list(&engine, &newest).expect(200);
}

/// Waits until a request with `token` is answered so.
fn answers(engine: &Engine, token: &str, status: u16) {
    let until = Instant::now() + PATIENCE;
    while list(engine, token).status != status {
        assert!(Instant::now() < until, "it does not become {status}: {}", list(engine, token).text());
    }
}

#[test]
fn without_keys_a_client_is_told_to_come_back_and_comes_in_when_there_are_some() {
    let provider = Provider::open();
    let signer = Signer::p256("key");
    let issuer = provider.url();
    let engine = Engine::start_with(&["--auth-issuer", &issuer, "--auth-audience", AUDIENCE]);
    let token = signer.sign(&claims(&issuer, &json!({})));
    let answer = list(&engine, &token).expect(503);
    let seconds: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=31).contains(&seconds), "{seconds}");
    assert!(answer.text().contains("are not to be had"), "{}", answer.text());
    list(&engine, TOKEN).expect(200);
    // A document of somebody else's is not believed.
    provider.publish(
        "/.well-known/openid-configuration",
        &json!({ "issuer": "https://other", "jwks_uri": format!("{issuer}/keys") }),
    );
    provider.publish_keys(&[&signer]);
    engine.signal(Signal::HUP);
    provider.until("/.well-known/openid-configuration");
    list(&engine, &token).expect(503);
    provider.publish(
        "/.well-known/openid-configuration",
        &json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }),
    );
    engine.signal(Signal::HUP);
    answers(&engine, &token, 200);
}

fn apps_file(path: &Path, issuer: &str, token: &str, max_calls: u32) {
    let text = format!(
        "[[issuers]]\nissuer = '{issuer}'\naudiences = ['{AUDIENCE}']\n\
         [[apps]]\nid = 'small'\ntenant = 't1'\ntoken = '{token}'\nmax-calls = {max_calls}\nmax-held = 3\n\
         [[apps]]\nid = '{APP}'\nrequests-per-second = 0.01\n\
         [[apps]]\nid = 'big'\ntoken = 'token-of-big'\n"
    );
    fs::write(path, text).unwrap();
}

#[test]
fn applications_side_by_side_see_their_own_calls_and_have_their_own_limits() {
    let provider = Provider::open();
    let signer = Signer::rsa("key");
    provider.publish_keys(&[&signer]);
    let issuer = provider.url();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("holdmusic.toml");
    apps_file(&file, &issuer, "token-of-small", 1);
    let config = file.to_str().unwrap();
    let engine = Engine::start_with(&["--config", config]);
    let web = Web::open([]);
    let create = json!({ "callbackUri": web.url("/callback") });

    // Two applications, and what each has of its own.
    let made = with(&engine, "token-of-small", "POST", CALLS, &create).expect(201);
    assert_eq!(made.header("RateLimit-Policy"), Some(r#""calls";q=1, "held";q=3"#));
    assert_eq!(made.header("RateLimit"), Some(r#""calls";r=0, "held";r=3"#));
    let call = format!("{CALLS}/{}", made.json()["id"].as_str().unwrap());
    let theirs = with(&engine, "token-of-big", "GET", &call, &Value::Null).expect(403);
    assert_eq!(theirs.json()["error"]["code"], "7505");
    assert_eq!(theirs.header("RateLimit"), None);
    with(&engine, "token-of-big", "DELETE", &call, &Value::Null).expect(403);
    with(&engine, "token-of-big", "POST", &format!("{call}/participants"), &json!({})).expect(403);
    with(&engine, TOKEN, "GET", &format!("{call}/operations"), &Value::Null).expect(403);
    let calls = |token: &str| list(&engine, token).expect(200).json()["value"].as_array().unwrap().len();
    assert_eq!((calls("token-of-small"), calls("token-of-big"), calls(TOKEN)), (1, 0, 0));

    // Its limit is its own.
    let refused = with(&engine, "token-of-small", "POST", CALLS, &create).expect(429);
    assert_eq!(refused.json()["error"]["code"], "TooManyRequests");
    assert!(
        refused.text().contains("application 'small' of tenant 't1' has 1 calls; its limit is 1"),
        "{}",
        refused.text()
    );
    refused.header("Retry-After").unwrap().parse::<u32>().unwrap();
    with(&engine, "token-of-big", "POST", CALLS, &create).expect(201);
    // What cannot be read has the headers too.
    let unread = with(&engine, "token-of-small", "GET", "/v1.0/nowhere", &Value::Null).expect(404);
    assert_eq!(unread.header("RateLimit"), Some(r#""calls";r=0, "held";r=3"#));

    // Notifications are signed for whose call it is.
    let told = RefCell::new(HashMap::new());
    web.posts_until(|post| {
        let token = post.header("Authorization").strip_prefix("Bearer ").unwrap().to_owned();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        told.borrow_mut().insert(claims["aud"].as_str().unwrap().to_owned(), claims["tid"].clone());
        told.borrow().len() == 2
    });
    let told = told.into_inner();
    assert_eq!((&told["small"], &told["big"]), (&json!("t1"), &json!("the-tenant")));

    // By signature: who is listed, as often as is said, and who is not listed.
    let listed = signer.sign(&claims(&issuer, &json!({})));
    let once = list(&engine, &listed).expect(200);
    assert_eq!(once.header("RateLimit-Policy"), Some(r#""requests";q=1;w=100"#));
    assert!(once.header("RateLimit").unwrap().starts_with(r#""requests";r=0;t="#));
    let twice = list(&engine, &listed).expect(429);
    assert!(twice.text().contains("its limit is 1 in 100 s (requests-per-second)"), "{}", twice.text());
    assert!(twice.header("Retry-After").unwrap().parse::<u32>().unwrap() > 50);
    let stranger = signer.sign(&claims(&issuer, &json!({ "appid": "unknown" })));
    let refused = list(&engine, &stranger).expect(403);
    assert_eq!(refused.json()["error"]["code"], "7504");
    assert!(refused.text().contains("is not registered here"), "{}", refused.text());

    // SIGHUP: another token and another limit; the call stays whose it was.
    apps_file(&file, &issuer, "new-token-of-small", 2);
    engine.signal(Signal::HUP);
    answers(&engine, "new-token-of-small", 200);
    list(&engine, "token-of-small").expect(401);
    with(&engine, "new-token-of-small", "GET", &call, &Value::Null).expect(200);
    with(&engine, "new-token-of-small", "POST", CALLS, &create).expect(201);

    // A file that cannot be read leaves everything as it was. Through a pipe the test knows when it has been read.
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    engine.signal(Signal::HUP);
    fs::write(&file, "[[apps]]\nid = 'big'\ntokem = 's3cret'\n").unwrap();
    list(&engine, "new-token-of-small").expect(200);
    fs::remove_file(&file).unwrap();
    apps_file(&file, &issuer, "newest-token-of-small", 2);
    engine.signal(Signal::HUP);
    answers(&engine, "newest-token-of-small", 200);
    engine.signal(Signal::TERM);
    let (_, _, log) = engine.end(Duration::from_secs(10));
    let lines: Vec<_> = log.lines().filter(|line| line.contains("could not be read again")).collect();
    assert!(lines.len() == 1 && lines[0].contains("tokem") && lines[0].contains("line 3"), "{lines:?}");
    assert!(!log.contains("token-of-small") && !log.contains("s3cret"), "{log}");
}
