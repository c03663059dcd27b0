//! Disasters by the thousand: engines that die in the middle of anything, disks, receivers, origins and networks at their
//! worst, and after each of them what must always hold.
//!
//! Chance comes from the seed alone. `HOLDMUSIC_SEED=<seed>` (or `make sim SEED=<seed>`) tells one story again;
//! `HOLDMUSIC_SEEDS=<number>` tells so many instead of the usual thousand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use holdmusic_control::PromptCause;
use holdmusic_media::{MediaTime, rtp::Ssrc};
use holdmusic_tests::{Call, Manner, Member, Path, Sent, World};
use rand::RngExt;
use serde_json::{Value, json};

use crate::stage::{MUSIC, SPEECH, fill, seconds};

/// Stories that are told unless somebody asks for more or less.
const SEEDS: u64 = 1_000;

/// The seed of the first.
const FIRST_SEED: u64 = 100_000;

/// Things that happen in one story.
const DEEDS: usize = 30;

/// A start operation ends within 20 s of its acceptance, and within 5 s of the last restart if that is later.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Records of a world of this size: the house, and for a handful of calls what was said and done in them.
const MOST_RECORDS: usize = 600;

static CRASHES: AtomicU64 = AtomicU64::new(0);
static DISASTERS: AtomicU64 = AtomicU64::new(0);
static PACKETS: AtomicU64 = AtomicU64::new(0);

#[test]
fn whatever_breaks_nothing_accepted_is_lost_and_numbers_never_go_back() {
    let seeds = holdmusic_tests::stories("HOLDMUSIC_SEEDS", SEEDS);
    let next = Mutex::new(0..seeds);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = next.lock().ok().and_then(|mut next| next.next()) {
                    Story::new(FIRST_SEED + seed).tell();
                }
            });
        }
    });
    let (crashes, disasters) = (CRASHES.load(Relaxed), DISASTERS.load(Relaxed));
    eprintln!(
        "{seeds} seeds, {crashes} crashes among {disasters} disasters, {} packets",
        PACKETS.load(Relaxed)
    );
    assert!(crashes > seeds / 2, "something happened");
}

/// Or else a seed would replay nothing.
#[test]
fn the_same_seed_breaks_the_same_things() {
    let tell = || {
        let mut story = Story::new(99_999);
        (0..DEEDS).for_each(|_| story.deed());
        (story.deeds, story.world.take_taps().rtp)
    };
    assert!(tell() == tell(), "bit for bit");
}

struct Story {
    world: World,
    calls: Vec<Call>,
    /// All that there ever were.
    everybody: Vec<Call>,
    members: Vec<Member>,
    /// Operations that were accepted: their call, and when.
    accepted: BTreeMap<String, (Call, MediaTime)>,
    over: BTreeSet<String>,
    last: BTreeMap<Ssrc, Sent>,
    seen: usize,
    restarts: u32,
    back_since: MediaTime,
    deeds: Vec<String>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut world = World::with(seed, |settings| {
            settings.senders = 2;
            settings.lateness = Duration::from_millis(2);
        });
        fill(&mut world);
        world.shelf.put("https://prompts.test/page.wav", b"<html>nothing to hear</html>");
        let late = "https://prompts.test/late.wav";
        world.shelf.put_failure(late, PromptCause::FetchTimeout, "not complete after 15 s", seconds(15.0));
        world.may_reboot();
        let mut story = Self {
            world,
            calls: vec![],
            everybody: vec![],
            members: vec![],
            accepted: BTreeMap::new(),
            over: BTreeSet::new(),
            last: BTreeMap::new(),
            seen: 0,
            restarts: 0,
            back_since: MediaTime::ZERO,
            deeds: vec![],
        };
        story.new_call();
        story.new_member();
        story
    }

    fn tell(mut self) {
        for _ in 0..DEEDS {
            self.deed();
            self.check();
        }
        self.come_to_an_end();
        CRASHES.fetch_add(u64::from(self.world.crashes()), Relaxed);
        PACKETS.fetch_add(self.seen as u64, Relaxed);
    }

    fn chance(&mut self, of: usize) -> usize {
        self.world.dice().random_range(0..of)
    }

    fn millis(&mut self, most: usize) -> Duration {
        Duration::from_millis(self.chance(most) as u64)
    }

    fn deed(&mut self) {
        let told = match self.chance(36) {
            0..8 => self.start(),
            8..11 => self.stop(),
            11 => self.remove(),
            12 => self.new_member(),
            13 => self.new_call(),
            14 if self.chance(2) == 0 => self.end_call(),
            15 | 16 => self.play_prompt(),
            17..26 => self.disaster(),
            _ => self.wait(),
        };
        self.deeds.push(format!("{:.3} {told}", self.world.now().as_nanos() as f64 / 1e9));
    }

    fn disaster(&mut self) -> String {
        DISASTERS.fetch_add(1, Relaxed);
        let away = [30, 300, 3_000][self.chance(3)];
        let away = self.millis(away) + Duration::from_millis(1);
        match self.chance(12) {
            0 | 1 => {
                self.world.crash(away);
                format!("crash, away for {away:?}")
            }
            // In the middle of whatever is asked next.
            2..5 => {
                let after = self.millis(8);
                self.world.crash_in(after, away);
                format!("crash in {after:?}, away for {away:?}")
            }
            5 => {
                let slowness = [1, 20, 400][self.chance(3)];
                self.world.slow_store(Duration::from_millis(slowness));
                format!("commits take up to {slowness} ms")
            }
            6 => {
                let pause = self.millis(3_000);
                self.world.fail_store(pause);
                format!("the disk refuses for {pause:?}")
            }
            7 => {
                let micros = [-3_600_000_000, -5_000_000, 40_000, 7_200_000_000][self.chance(4)];
                self.world.step_calendar(micros);
                format!("the calendar is set by {micros} us")
            }
            8 => {
                let (sender, pause) = (self.chance(2), self.millis(600));
                self.world.stall(sender, pause);
                format!("sender {sender} stalls for {pause:?}")
            }
            9 => {
                let Some(member) = self.any_member() else { return "nobody".to_owned() };
                let path = [
                    Path::default(),
                    Path { loss: 0.3, duplicates: 0.2, jitter: Duration::from_millis(70), ..Path::default() },
                    Path { delay: Duration::from_millis(400), ..Path::default() },
                ][self.chance(3)];
                self.world.set_path(member.phone, path);
                format!("the way to {} is {path:?}", member.phone)
            }
            _ => {
                let manners = [
                    Manner::Accepts(seconds(3.0)),
                    Manner::Fails(seconds(0.2)),
                    Manner::TakesAndDrops,
                    Manner::Hangs,
                ];
                let (index, chosen) = (self.chance(self.calls.len()), self.chance(manners.len()));
                let call = self.calls[index].clone();
                self.world.customer(&call).next_answers([manners[chosen]; 3]);
                format!("{} answers {:?}", call.callback, manners[chosen])
            }
        }
    }

    fn any_member(&mut self) -> Option<Member> {
        let count = self.members.len();
        (count > 0).then(|| self.chance(count)).map(|index| self.members[index].clone())
    }

    /// What a careful client does: it asks again until there is an answer that means something.
    fn ask(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        loop {
            let reply = self.world.http(method, path, body.clone());
            match reply.status {
                0 | 503 => self.world.run(Duration::from_millis(200)),
                status => return (status, reply.body),
            }
        }
    }

    fn new_call(&mut self) -> String {
        let callback = format!("http://127.0.0.1:9/bot/{}", self.calls.len() + 100 * self.deeds.len());
        let rules = [json!({ "maxHeldParticipants": 3 }), json!({ "onPromptFailure": "fail" })];
        let rules = rules[self.chance(2)].clone();
        let body = json!({ "callbackUri": callback, "holdMusic": rules });
        let (status, body) = self.ask("POST", "/communications/calls", &body);
        assert_eq!(status, 201, "{body}");
        let path = format!("/communications/calls/{}", body["id"].as_str().unwrap());
        self.calls.push(Call { path: path.clone(), callback });
        self.everybody.extend(self.calls.last().cloned());
        format!("call {path}")
    }

    fn new_member(&mut self) -> String {
        let index = self.chance(self.calls.len());
        let (call, phone) = (self.calls[index].path.clone(), self.world.new_phone());
        let body = json!({ "mediaLeg": { "rtp": {
            "address": phone.to_string(), "codec": "opus", "payloadType": 111,
        } } });
        let (status, body) = self.ask("POST", &format!("{call}/participants"), &body);
        assert_eq!(status, 201, "{body}");
        let id = body["id"].as_str().unwrap().to_owned();
        let ssrc = Ssrc(u32::try_from(body["mediaLeg"]["ssrc"].as_u64().unwrap()).unwrap());
        self.members.push(Member { path: format!("{call}/participants/{id}"), call, id, ssrc, phone });
        format!("join {ssrc:?}")
    }

    fn accept(&mut self, call: &str, body: &Value) {
        let call = self.calls.iter().find(|known| known.path == call).expect("it is live").clone();
        let now = self.world.now();
        self.accepted.entry(body["id"].as_str().unwrap().to_owned()).or_insert((call, now));
    }

    fn start(&mut self) -> String {
        const PROMPTS: [Option<&str>; 6] = [
            None,
            None,
            Some(MUSIC),
            Some(SPEECH),
            Some("https://prompts.test/page.wav"),
            Some("https://prompts.test/late.wav"),
        ];
        let Some(member) = self.any_member() else { return "nobody to hold".to_owned() };
        let prompt = PROMPTS[self.chance(PROMPTS.len())];
        let mut body = json!({ "clientContext": self.deeds.len().to_string() });
        if let Some(uri) = prompt {
            body["customPrompt"] = json!({ "mediaInfo": { "uri": uri } });
        }
        let (status, body) = self.ask("POST", &format!("{}/startHoldMusic", member.path), &body);
        match status {
            202 => self.accept(&member.call, &body),
            409 => {}
            other => panic!("{other}: {body}"),
        }
        format!("start {:?} {prompt:?}: {status}", member.ssrc)
    }

    fn play_prompt(&mut self) -> String {
        let index = self.chance(self.calls.len());
        let call = self.calls[index].path.clone();
        let body = json!({ "prompts": [{ "mediaInfo": { "uri": SPEECH } }] });
        let (status, body) = self.ask("POST", &format!("{call}/playPrompt"), &body);
        match status {
            200 => self.accept(&call, &body),
            400 | 429 => {}
            other => panic!("{other}: {body}"),
        }
        format!("playPrompt: {status}")
    }

    fn stop(&mut self) -> String {
        let Some(member) = self.any_member() else { return "nobody to stop".to_owned() };
        let (status, body) = self.ask("POST", &format!("{}/stopHoldMusic", member.path), &json!({}));
        assert_eq!((status, &body["status"]), (202, &json!("completed")));
        // Durable: not even a restart brings it back.
        format!("stop {:?}", member.ssrc)
    }

    fn remove(&mut self) -> String {
        let Some(member) = self.any_member() else { return "nobody to remove".to_owned() };
        let (status, _) = self.ask("DELETE", &member.path, &json!(null));
        // 404: it was done, and the answer lost.
        assert!(matches!(status, 204 | 404));
        self.members.retain(|other| *other != member);
        format!("remove {:?}", member.ssrc)
    }

    fn end_call(&mut self) -> String {
        let index = self.chance(self.calls.len());
        let call = self.calls.remove(index);
        let (status, _) = self.ask("DELETE", &call.path, &json!(null));
        assert!(matches!(status, 204 | 400));
        self.members.retain(|member| member.call != call.path);
        self.new_call();
        self.new_member();
        format!("end {}", call.path)
    }

    fn wait(&mut self) -> String {
        let longest = [20, 200, 1_000][self.chance(3)];
        let pause = self.millis(longest);
        self.world.run(pause);
        format!("wait {pause:?}")
    }

    /// What must always hold.
    fn check(&mut self) {
        let last = self.deeds.len().saturating_sub(15);
        let told = format!("after:\n  {}", self.deeds[last..].join("\n  "));
        if self.world.crashes() > self.restarts {
            if self.world.is_down() {
                return;
            }
            self.restarts = self.world.crashes();
            self.back_since = self.world.now();
        }
        self.check_packets(&told);
        self.check_promises(&told);
        assert!(self.world.records() < MOST_RECORDS, "{} records; {told}", self.world.records());
    }

    /// Numbers go forward, by one but where something was skipped, lost or died, and in true time.
    fn check_packets(&mut self, told: &str) {
        for sent in &self.world.taps().rtp[self.seen..] {
            let Some(last) = self.last.get(&sent.header.ssrc) else {
                self.last.insert(sent.header.ssrc, sent.clone());
                continue;
            };
            let steps = sent.header.sequence.0.wrapping_sub(last.header.sequence.0);
            assert!((1..0x8000).contains(&steps), "a sequence that went back: {last:?}, {sent:?}; {told}");
            assert!(steps == 1 || sent.header.marker, "{steps} steps in mid-hold; {told}");
            let units = sent.header.timestamp.0.wrapping_sub(last.header.timestamp.0);
            let (passed, counted) = (sent.at.since(last.at).as_secs_f64(), f64::from(units) / 48_000.0);
            // A stream may be ahead of the clock by a tick for each time that it stopped and began again within one; what
            // cannot be known any more counts as if it had been so. After a reboot the calendar is believed, which may
            // have been set by hours.
            let most = match steps {
                1 => 0.025,
                _ if self.world.rebooted() > 0 => 8_000.0,
                _ => 0.1,
            };
            assert!(
                (-0.025..most).contains(&(counted - passed)),
                "{passed} s passed, {counted} counted: {last:?}, {sent:?}; {told}"
            );
            assert_eq!(sent.from, last.from, "from another socket; {told}");
            self.last.insert(sent.header.ssrc, sent.clone());
        }
        self.seen = self.world.taps().rtp.len();
    }

    /// Nothing that was accepted is forgotten, and a start ends in time.
    fn check_promises(&mut self, told: &str) {
        let running: Vec<_> = self.accepted.keys().filter(|id| !self.over.contains(*id)).cloned().collect();
        for id in running {
            let (call, accepted) = self.accepted[&id].clone();
            let found = self.world.http("GET", &format!("{}/operations/{id}", call.path), json!(null));
            if found.is_lost() {
                return;
            }
            assert_eq!(found.status, 200, "{id} was accepted and is not known; {told}");
            if found.text("status") != "running" {
                self.over.insert(id);
            } else if found.text("@odata.type").contains("startHoldMusic") {
                let since = accepted.max(self.back_since);
                let age = self.world.now().since(since);
                assert!(age <= ENDS_WITHIN, "{id} runs for {age:?}; {told}");
            }
        }
    }

    /// All is well again: everything that was accepted has ended and was told of, under one name, in order.
    fn come_to_an_end(&mut self) {
        self.world.run(seconds(5.0));
        self.world.slow_store(Duration::from_millis(1));
        for call in &self.everybody {
            self.world.customer(call).forget_answers();
        }
        self.world.run(seconds(20.0));
        self.check();
        // What was ended while the disk refused may have come back with a crash.
        for call in self.everybody.clone() {
            let (status, _) = self.ask("DELETE", &call.path, &json!(null));
            assert!(matches!(status, 204 | 400 | 404), "{status}");
        }
        self.world.run(seconds(200.0));
        self.check();
        let quiet = self.world.taps().rtp.len();
        self.world.run(seconds(1.0));
        assert_eq!(self.world.taps().rtp.len(), quiet, "nobody is held");
        for (id, (call, _)) in self.accepted.clone() {
            assert!(self.over.contains(&id), "{id} never ended; {}", self.deeds.join("\n  "));
            let customer = self.world.customer(&call);
            let names: BTreeSet<_> = customer.ends_of(&id).iter().map(|told| told.notification).collect();
            assert_eq!(names.len(), 1, "{id} of {} was told under {names:?}", call.path);
        }
        self.check_order();
        assert_eq!(self.world.counts().notifications_pending, 0);
        assert_eq!(self.world.counts().held, 0);
    }

    /// Versions of a call's resources only rise, but where a notification is told again.
    fn check_order(&mut self) {
        let calls: Vec<_> = self.accepted.values().map(|(call, _)| call.clone()).collect();
        for call in calls {
            // A call that was made twice, since the first answer was lost, has the same receiver.
            let mut highest: BTreeMap<String, u64> = BTreeMap::new();
            let mut known = BTreeSet::new();
            for told in &self.world.customer(&call).told {
                let entity = &told.what["resourceData"];
                let text = entity["@odata.etag"].as_str().or(entity[0]["@odata.etag"].as_str());
                let Some(text) = text.filter(|_| known.insert(told.notification)) else { continue };
                let version: u64 = text.trim_start_matches("W/\"").trim_end_matches('"').parse().unwrap();
                let of = told.what["resourceUrl"].as_str().unwrap_or_default();
                let of = of.split('/').nth(2).unwrap_or_default().to_owned();
                let before = highest.insert(of, version).unwrap_or(0);
                assert!(version > before, "{version} behind {before} at {}", call.callback);
            }
        }
    }
}
