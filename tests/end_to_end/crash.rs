//! Real crashes: the binary is killed at random moments under a load of starts, stops and callbacks, and started again on
//! the same data directory. What came out of it on the wire, by HTTP and at the callback must be as if it had never died,
//! but for the packets of the time in which it was dead.
//!
//! `HOLDMUSIC_KILLS=<number>` kills so often instead of the usual twenty; `HOLDMUSIC_SEED=<seed>` chooses the moments.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use holdmusic_media::rtp::{Header, Ssrc};
use holdmusic_tests::asset;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    engine::{Engine, TOKEN},
    http::{self, Response},
    web::{Post, Web, page},
};

/// Kills unless somebody asks for more.
const KILLS: u32 = 20;

/// Participants who are held all the time, and those who come and go.
const HELD: usize = 2;
const BUSY: usize = 4;

const CALLS: &str = "/v1.0/communications/calls";

/// A packet that was heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Instant,
    header: Header,
}

/// Somebody who listens to everything that comes, in a thread that lives as long as the test.
struct Listener {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Listener {
    fn open() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, heard) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(vec![])));
        let keep = Arc::clone(&heard);
        thread::spawn(move || {
            let mut datagram = [0; 1500];
            while let Ok(length) = socket.recv(&mut datagram) {
                let datagram = &datagram[..length];
                if let (false, Ok((header, _))) =
                    (holdmusic_media::rtcp::is_rtcp(datagram), Header::read(datagram))
                {
                    keep.lock().unwrap().push(Heard { at: Instant::now(), header });
                }
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

/// A participant with its call.
#[derive(Clone)]
struct Member {
    call: String,
    path: String,
    ssrc: Ssrc,
}

/// A bot that knows how to ask an engine which may die at any moment.
#[derive(Clone)]
struct Bot {
    engine: SocketAddr,
    /// Start operations that were accepted, and whose call each is of.
    accepted: Arc<Mutex<BTreeMap<String, String>>>,
    requests: Arc<AtomicU64>,
}

impl Bot {
    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Option<Response> {
        self.requests.fetch_add(1, Relaxed);
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        http::attempt(self.engine, method, path, &headers, &body)
    }

    /// Asks until there is an answer that means something.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Response {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match self.try_ask(method, path, body) {
                Some(response) if response.status != 503 => return response,
                _ => thread::sleep(Duration::from_millis(5)),
            }
            assert!(Instant::now() < until, "{method} {path} is never answered");
        }
    }

    fn join(&self, callback: &str, phone: SocketAddr) -> Member {
        let call = self.ask("POST", CALLS, &json!({ "callbackUri": callback })).expect(201).json();
        let call = format!("{CALLS}/{}", call["id"].as_str().unwrap());
        let leg = json!({ "mediaLeg": { "rtp": {
            "address": phone.to_string(), "codec": "opus", "payloadType": 111,
        } } });
        let joined = self.ask("POST", &format!("{call}/participants"), &leg).expect(201).json();
        let path = format!("{call}/participants/{}", joined["id"].as_str().unwrap());
        let ssrc = Ssrc(u32::try_from(joined["mediaLeg"]["ssrc"].as_u64().unwrap()).unwrap());
        Member { call, path, ssrc }
    }

    /// Once: who is not answered does not know.
    fn start(&self, member: &Member, prompt: Option<&str>) {
        let body = prompt.map_or(json!({}), |uri| json!({ "customPrompt": { "mediaInfo": { "uri": uri } } }));
        let Some(response) = self.try_ask("POST", &format!("{}/startHoldMusic", member.path), &body) else {
            return;
        };
        match response.status {
            202 => {
                let operation = response.json()["id"].as_str().unwrap().to_owned();
                self.accepted.lock().unwrap().insert(operation, member.call.clone());
            }
            503 => {}
            other => panic!("{other}: {}", response.text()),
        }
    }

    fn stop(&self, member: &Member) {
        let stopped = self.ask("POST", &format!("{}/stopHoldMusic", member.path), &json!({})).expect(202);
        assert_eq!(stopped.json()["status"], "completed");
    }

    /// Starts and stops, until it is told to cease.
    fn work(&self, member: &Member, prompts: &[Option<String>], seed: u64, ceased: &AtomicBool) {
        let mut dice = StdRng::seed_from_u64(seed);
        while !ceased.load(Relaxed) {
            let prompt = &prompts[dice.random_range(0..prompts.len())];
            self.start(member, prompt.as_deref());
            thread::sleep(Duration::from_millis(dice.random_range(0..120)));
            if dice.random_bool(0.7) {
                self.stop(member);
            }
        }
        self.stop(member);
    }
}

#[test]
fn an_engine_that_is_killed_again_and_again_loses_nothing() {
    let kills = env::var("HOLDMUSIC_KILLS").map_or(KILLS, |kills| kills.parse().expect("a whole number"));
    let seed = holdmusic_tests::seed(7);
    let mut dice = StdRng::seed_from_u64(seed);
    let music = page("200 OK", "audio/wav", &asset("fixtures/music-16k.wav"));
    let web = Web::open([("/music.wav", music)]);
    let prompts = [None, Some(web.url("/music.wav")), Some(web.url("/missing.wav"))];
    let flags = ["--token", TOKEN, "--allow-fetch", "127.0.0.0/8", "--max-preparing", "64"];
    let mut engine = Engine::start_in(tempfile::tempdir().unwrap(), &flags);
    let address = engine.address;
    let accepted = Arc::new(Mutex::new(BTreeMap::new()));
    let requests = Arc::new(AtomicU64::new(0));
    let bot = Bot { engine: address, accepted: Arc::clone(&accepted), requests: Arc::clone(&requests) };
    let callback = web.url("/callback");
    let listeners: Vec<_> = (0..HELD + BUSY).map(|_| Listener::open()).collect();
    let members: Vec<_> = listeners.iter().map(|listener| bot.join(&callback, listener.address)).collect();
    for (member, prompt) in members[..HELD].iter().zip(&prompts) {
        bot.start(member, prompt.as_deref());
    }
    let ceased = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (HELD..HELD + BUSY)
        .map(|index| {
            let (bot, member, prompts) = (bot.clone(), members[index].clone(), prompts.clone());
            let ceased = Arc::clone(&ceased);
            thread::spawn(move || bot.work(&member, &prompts, seed + index as u64, &ceased))
        })
        .collect();

    let mut deaths = vec![];
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(dice.random_range(100..700)));
        let killed = Instant::now();
        engine.signal(Signal::KILL);
        let (log, data) = engine.end_and_keep_data(Duration::from_secs(10));
        assert!(!log.contains("panicked"), "seed {seed}: {log}");
        engine = Engine::start_at(address, data, &flags);
        deaths.push((killed, Instant::now()));
    }
    thread::sleep(Duration::from_millis(500));
    ceased.store(true, Relaxed);
    for worker in workers {
        worker.join().expect("a worker finds everything as it should be");
    }

    let accepted = accepted.lock().unwrap().clone();
    check_operations(&bot, &accepted);
    let posts = told(&web, &accepted);
    check_notifications(&posts, &accepted);
    for (index, (listener, member)) in listeners.iter().zip(&members).enumerate() {
        check_numbers(&listener.heard(), member.ssrc, &format!("seed {seed}, member {index}"));
    }
    let (mut gaps, mut waits) = (vec![], vec![]);
    for listener in &listeners[..HELD] {
        let heard = listener.heard();
        for (killed, ready) in &deaths {
            let before = heard.iter().rfind(|heard| heard.at <= *killed);
            let after = heard.iter().find(|heard| heard.at > *killed + Duration::from_millis(21));
            let (Some(before), Some(after)) = (before, after) else {
                panic!("seed {seed}: nothing is heard")
            };
            gaps.push(after.at - before.at);
            waits.push(after.at.saturating_duration_since(*ready));
        }
    }
    gaps.sort_unstable();
    waits.sort_unstable();
    eprintln!(
        "{kills} kills, {} requests, {} starts accepted, {} callbacks; gap in the music: median {:?}, at most {:?}; \
         music after ready: at most {:?}",
        requests.load(Relaxed),
        accepted.len(),
        posts.len(),
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1],
        waits[waits.len() - 1],
    );
    // The promise is a second; a busy machine gets five.
    assert!(waits[waits.len() - 1] < Duration::from_secs(5), "{waits:?}");

    // Nobody is held but those who are.
    thread::sleep(Duration::from_millis(100));
    let quiet: Vec<_> = listeners[HELD..].iter().map(|listener| listener.heard().len()).collect();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(quiet, listeners[HELD..].iter().map(|listener| listener.heard().len()).collect::<Vec<_>>());
    engine.signal(Signal::TERM);
    let (code, _, log) = engine.end(Duration::from_secs(5));
    assert_eq!(code, Some(0), "{log}");
}

/// Every operation that was accepted is known, and over.
fn check_operations(bot: &Bot, accepted: &BTreeMap<String, String>) {
    let until = Instant::now() + Duration::from_secs(25);
    for (operation, call) in accepted {
        loop {
            let found = bot.ask("GET", &format!("{call}/operations/{operation}"), &Value::Null);
            if found.status == 404 {
                // The oldest leave beyond the limit of a call, and only they.
                let all = bot
                    .ask("GET", &format!("{call}/operations?$count=true&$top=1"), &Value::Null)
                    .expect(200);
                let kept = all.json()["@odata.count"].as_u64().expect("a number");
                assert!(kept >= 1_000, "{operation} is gone, and {kept} others are there");
                break;
            }
            let found = found.expect(200).json();
            if found["status"] != "running" {
                break;
            }
            assert!(Instant::now() < until, "{found} never ends");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What came at the callback until everything that was accepted had been told of.
fn told(web: &Web, accepted: &BTreeMap<String, String>) -> Vec<Post> {
    let mut missing: BTreeSet<_> = accepted.keys().cloned().collect();
    web.posts_until(|post| {
        let notification = post.notification();
        let resource = notification["resourceUrl"].as_str().unwrap_or_default();
        missing.remove(resource.rsplit('/').next().unwrap_or_default());
        missing.is_empty()
    })
}

/// Each end is told under one name, what has one name says one thing, and versions only rise.
fn check_notifications(posts: &[Post], accepted: &BTreeMap<String, String>) {
    let mut bodies: BTreeMap<String, Value> = BTreeMap::new();
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    for post in posts {
        let (name, said) = (post.header("X-Microsoft-Skype-Message-ID").to_owned(), post.notification());
        let resource = said["resourceUrl"].as_str().unwrap_or_default().to_owned();
        if said["changeType"] == "deleted" {
            let operation = resource.rsplit('/').next().unwrap_or_default().to_owned();
            names.entry(operation).or_default().insert(name.clone());
        }
        if let Some(before) = bodies.insert(name.clone(), said.clone()) {
            assert_eq!(before, said, "two things under the name {name}");
            continue;
        }
        let entity = &said["resourceData"];
        let version = entity["@odata.etag"].as_str().or(entity[0]["@odata.etag"].as_str());
        let Some(version) = version.map(|text| text.trim_start_matches("W/\"").trim_end_matches('"')) else {
            continue;
        };
        let version: u64 = version.parse().unwrap();
        let call = resource.split('/').nth(2).unwrap_or_default().to_owned();
        let before = versions.insert(call, version).unwrap_or(0);
        assert!(version > before, "{version} behind {before}: {said}");
    }
    for operation in accepted.keys() {
        assert_eq!(names.get(operation).map(BTreeSet::len), Some(1), "{operation} is told under one name");
    }
}

/// One source for life, whose numbers go forward: by one in mid-hold, and by few where the engine was dead.
fn check_numbers(heard: &[Heard], ssrc: Ssrc, whose: &str) {
    assert!(heard.len() > 10, "{whose} has heard {} packets", heard.len());
    for pair in heard.windows(2) {
        let (before, after) = (&pair[0].header, &pair[1].header);
        assert_eq!((before.ssrc, after.ssrc), (ssrc, ssrc), "{whose}");
        let steps = after.sequence.0.wrapping_sub(before.sequence.0);
        assert!((1..3_000).contains(&steps), "{whose}: {before:?}, then {after:?}");
        assert!(steps == 1 || after.marker, "{whose}: {steps} steps in mid-hold");
        let units = after.timestamp.0.wrapping_sub(before.timestamp.0);
        assert!((1..0x8000_0000).contains(&units), "{whose}: {before:?}, then {after:?}");
    }
}
