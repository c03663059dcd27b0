//! Hundreds of things in an order that nobody thought of, over minutes, and after each of them what must always hold.
//!
//! Chance comes from the seed alone. `HOLDMUSIC_SEED=<seed>` tells one story again; `HOLDMUSIC_STORIES=<number>` tells
//! so many instead of the usual few.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_control::PromptCause;
use holdmusic_media::{MediaTime, rtp::Ssrc};
use holdmusic_tests::{Call, End, Manner, Member, Sent, World};
use rand::RngExt;
use serde_json::json;

use crate::stage::{ENDS_WITHIN, MUSIC, SPEECH, fill, newcomer, seconds};

/// Stories that are told unless somebody asks for more.
const STORIES: u64 = 8;

/// The seed of the first.
const FIRST_SEED: u64 = 601;

/// Things that happen in one story.
const DEEDS: usize = 400;

/// Nobody who is held hears nothing for longer than this.
const SILENCE: Duration = Duration::from_secs(1);

#[test]
fn whatever_happens_numbers_add_up_promises_are_kept_and_nobody_waits_in_silence() {
    let stories = holdmusic_tests::stories("HOLDMUSIC_STORIES", STORIES);
    for seed in 0..stories {
        Story::new(FIRST_SEED + seed).tell();
    }
}

/// Or else a seed would replay nothing.
#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = || {
        let mut story = Story::new(600);
        story.new_call();
        story.new_member();
        story.new_member();
        for _ in 0..60 {
            story.deed();
        }
        (story.deeds, story.world.take_taps())
    };
    let ((deeds, taps), (again, taps_again)) = (tell(), tell());
    assert_eq!(deeds, again);
    assert!(taps.rtp == taps_again.rtp && taps.rtcp == taps_again.rtcp, "bit for bit");
    assert!(taps.rtp.len() > 100);
}

/// A member in few words.
fn name(member: &Member) -> String {
    format!("{:08x} of {}", member.ssrc.0, &member.call[member.call.len() - 12..])
}

struct Story {
    world: World,
    calls: Vec<Call>,
    members: Vec<Member>,
    /// Start operations: their call, and when they were accepted.
    starts: BTreeMap<String, (Call, MediaTime)>,
    /// Those of them that are over.
    over: BTreeSet<String>,
    /// The last packet of each source, how many in a row were without sound, and since when it is held, if it is.
    streams: BTreeMap<Ssrc, Stream>,
    seen: usize,
    /// When the last stall of a sender will have been over.
    stalled_until: MediaTime,
    /// Phones that are away.
    unplugged: Vec<SocketAddr>,
    deeds: Vec<String>,
}

#[derive(Default)]
struct Stream {
    last: Option<Sent>,
    starved: u32,
    held_since: Option<MediaTime>,
    /// Packets since the last check.
    fresh: u32,
    /// Whether it was started since the last check.
    started: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut world = World::with(seed, |settings| {
            settings.senders = 2;
            settings.lateness = Duration::from_millis(2);
        });
        fill(&mut world);
        world.shelf.put_slowly(
            "https://prompts.test/slow.wav",
            &holdmusic_tests::asset(crate::stage::MUSIC_FILE),
            seconds(2.5),
        );
        world.shelf.put("https://prompts.test/page.wav", b"<html>nothing to hear</html>");
        world.shelf.put_silence("https://prompts.test/never.wav");
        let music = holdmusic_tests::asset(crate::stage::MUSIC_FILE);
        let breaks = End::BreaksOff { at: 150_000, reason: "it broke off".to_owned(), after: seconds(3.0) };
        world.shelf.put_in_pieces("https://prompts.test/arrives.wav", &music, seconds(3.0), End::Whole);
        world.shelf.put_in_pieces("https://prompts.test/breaks.wav", &music, seconds(3.0), breaks);
        world.shelf.put_failure(
            "https://prompts.test/late.wav",
            PromptCause::FetchTimeout,
            "not complete after 15 s",
            seconds(15.0),
        );
        Self {
            world,
            calls: vec![],
            members: vec![],
            starts: BTreeMap::new(),
            over: BTreeSet::new(),
            streams: BTreeMap::new(),
            seen: 0,
            stalled_until: MediaTime::ZERO,
            unplugged: vec![],
            deeds: vec![],
        }
    }

    fn chance(&mut self, of: usize) -> usize {
        self.world.dice().random_range(0..of)
    }

    fn tell(mut self) {
        for _ in 0..3 {
            self.new_call();
        }
        for _ in 0..6 {
            self.new_member();
        }
        for _ in 0..DEEDS {
            self.deed();
            self.check();
        }
        self.come_to_an_end();
    }

    fn deed(&mut self) {
        let told = match self.chance(40) {
            0..12 => self.start(),
            12..19 => self.stop(),
            19 => self.remove(),
            20 | 21 => self.new_member(),
            22 => self.move_leg(),
            23 => self.stall(),
            24 => self.goodbye(),
            25 => self.manner(),
            26 if self.chance(4) == 0 => self.end_call(),
            27 | 28 => self.unplug_or_plug(),
            _ => self.wait(),
        };
        self.deeds.push(format!("{:.3} {told}", self.world.now().as_nanos() as f64 / 1e9));
    }

    fn any_member(&mut self) -> Option<Member> {
        let count = self.members.len();
        (count > 0).then(|| self.chance(count)).map(|index| self.members[index].clone())
    }

    fn new_call(&mut self) -> String {
        let rules = [json!({}), json!({ "maxHeldParticipants": 3 }), json!({ "onPromptFailure": "fail" })];
        let chosen = self.chance(rules.len());
        let call = self.world.call(rules[chosen].clone());
        let told = format!("call {}", call.path);
        self.calls.push(call);
        told
    }

    fn new_member(&mut self) -> String {
        let count = self.calls.len();
        let call = self.calls[self.world.dice().random_range(0..count)].clone();
        let member = newcomer(&mut self.world, &call);
        self.streams.insert(member.ssrc, Stream::default());
        let told = format!("join {}", name(&member));
        self.members.push(member);
        told
    }

    fn start(&mut self) -> String {
        const PROMPTS: [Option<&str>; 11] = [
            None,
            None,
            Some(MUSIC),
            Some(MUSIC),
            Some(SPEECH),
            Some("https://prompts.test/slow.wav"),
            Some("https://prompts.test/arrives.wav"),
            Some("https://prompts.test/breaks.wav"),
            Some("https://prompts.test/page.wav"),
            Some("https://prompts.test/never.wav"),
            Some("https://prompts.test/late.wav"),
        ];
        let Some(member) = self.any_member() else { return "nobody to hold".to_owned() };
        let prompt = PROMPTS[self.chance(PROMPTS.len())];
        let context = ["a", "b"].get(self.chance(3)).copied();
        let reply = self.world.start(&member, prompt, context);
        match reply.status {
            202 => {
                let call = self.calls.iter().find(|call| call.path == member.call).expect("live").clone();
                let now = self.world.now();
                self.starts.entry(reply.id().to_owned()).or_insert((call, now));
                self.streams.entry(member.ssrc).or_default().started = true;
            }
            409 => assert_eq!(reply.code(), "8519"),
            other => panic!("{other}: {}", reply.body),
        }
        format!("start {} {prompt:?} {context:?}: {}", name(&member), reply.status)
    }

    fn stop(&mut self) -> String {
        let Some(member) = self.any_member() else { return "nobody to stop".to_owned() };
        let reply = self.world.stop(&member).expect(202);
        assert_eq!(reply.text("status"), "completed");
        format!("stop {}", name(&member))
    }

    fn remove(&mut self) -> String {
        let Some(member) = self.any_member() else { return "nobody to remove".to_owned() };
        self.world.http("DELETE", &member.path, json!(null)).expect(204);
        self.members.retain(|other| *other != member);
        self.streams.entry(member.ssrc).or_default().held_since = None;
        format!("remove {}", name(&member))
    }

    fn move_leg(&mut self) -> String {
        let Some(member) = self.any_member() else { return "nobody to move".to_owned() };
        let phone = self.world.new_phone();
        self.world.move_leg(&member, phone).expect(200);
        let moved = self.members.iter_mut().find(|other| other.ssrc == member.ssrc).expect("it is there");
        moved.phone = phone;
        format!("move {}", name(&member))
    }

    fn stall(&mut self) -> String {
        let (sender, pause) = (self.chance(2), Duration::from_millis(1 + self.chance(600) as u64));
        self.world.stall(sender, pause);
        self.stalled_until = self.stalled_until.max(self.world.now() + pause);
        format!("stall {sender} for {pause:?}")
    }

    fn goodbye(&mut self) -> String {
        let Some(member) = self.any_member() else { return "nobody to say goodbye".to_owned() };
        if self.unplugged.contains(&member.phone) || self.world.phone(member.phone).arrivals.is_empty() {
            return "nothing heard yet".to_owned();
        }
        self.world.phone_reports(member.phone, true);
        format!("goodbye of {}", name(&member))
    }

    fn unplug_or_plug(&mut self) -> String {
        if let Some(phone) = self.unplugged.pop() {
            self.world.plug(phone);
            return format!("plug {phone}");
        }
        let Some(member) = self.any_member() else { return "nobody to unplug".to_owned() };
        self.world.unplug(member.phone);
        self.unplugged.push(member.phone);
        format!("unplug {}", member.phone)
    }

    fn manner(&mut self) -> String {
        let manners = [
            Manner::Accepts(Duration::from_millis(2)),
            Manner::Accepts(seconds(3.0)),
            Manner::Fails(seconds(0.2)),
            Manner::TakesAndDrops,
        ];
        let (index, chosen) = (self.chance(self.calls.len()), self.chance(manners.len()));
        let call = self.calls[index].clone();
        self.world.customer(&call).next_answers([manners[chosen]; 3]);
        format!("{} answers {:?}", call.callback, manners[chosen])
    }

    fn end_call(&mut self) -> String {
        let index = self.chance(self.calls.len());
        let call = self.calls.remove(index);
        self.world.http("DELETE", &call.path, json!(null)).expect(204);
        for gone in self.members.extract_if(.., |member| member.call == call.path) {
            self.streams.entry(gone.ssrc).or_default().held_since = None;
        }
        self.new_call();
        format!("end {}", call.path)
    }

    fn wait(&mut self) -> String {
        let longest = [20, 300, 2000][self.chance(3)];
        let pause = Duration::from_millis(self.chance(longest) as u64);
        self.world.run(pause);
        format!("wait {pause:?}")
    }

    /// What must always hold.
    fn check(&mut self) {
        let last = self.deeds.len().saturating_sub(15);
        let told = format!("at {:?}, after:\n  {}", self.world.now(), self.deeds[last..].join("\n  "));
        self.check_packets(&told);
        self.check_silence(&told);
        self.check_promises(&told);
    }

    /// One source per leg for life, contiguous numbers, timestamps in true time, nothing to who is not held.
    fn check_packets(&mut self, told: &str) {
        let new = &self.world.taps().rtp[self.seen..];
        for sent in new {
            let ssrc = sent.header.ssrc;
            let stream =
                self.streams.get_mut(&ssrc).unwrap_or_else(|| panic!("{ssrc:?} is nobody's; {told}"));
            if let Some(last) = &stream.last {
                let step = sent.header.timestamp.0.wrapping_sub(last.header.timestamp.0);
                assert_eq!(sent.header.sequence, last.header.sequence.after(1), "{told}");
                let passed = sent.at.since(last.at).as_secs_f64();
                let counted = f64::from(step) / 48_000.0;
                assert!((passed - counted).abs() < 0.025, "{passed} s passed, {counted} counted; {told}");
                assert!(step % 960 == 0 || sent.header.marker, "a step of {step} in mid-hold; {told}");
            } else {
                assert!(sent.header.marker, "the first packet has the marker; {told}");
            }
            stream.starved = if sent.payload == Codec::Opus.nothing() { stream.starved + 1 } else { 0 };
            assert!(stream.starved < 50, "a second without sound; {told}");
            stream.fresh += 1;
            stream.last = Some(sent.clone());
        }
        self.seen = self.world.taps().rtp.len();
    }

    /// Who is held hears packets; who is not, none.
    fn check_silence(&mut self, told: &str) {
        let now = self.world.now();
        for member in self.members.clone() {
            let hold = self.world.read_member(&member)["holdMusic"]["state"].clone();
            let stream = self.streams.get_mut(&member.ssrc).expect("it has joined");
            let (fresh, started) = (std::mem::take(&mut stream.fresh), std::mem::take(&mut stream.started));
            if hold == "none" {
                let was_held = stream.held_since.take().is_some() || started;
                assert!(was_held || fresh == 0, "{} is not held and hears; {told}", member.path);
                continue;
            }
            let since = *stream.held_since.get_or_insert(now);
            let heard = stream.last.as_ref().map_or(since, |last| last.at.max(since)).max(self.stalled_until);
            let quiet = now.since(heard);
            assert!(quiet <= SILENCE, "{} hears nothing for {quiet:?}; {told}", member.path);
        }
    }

    /// Every start operation ends within twenty seconds.
    fn check_promises(&mut self, told: &str) {
        let now = self.world.now();
        let running: Vec<_> =
            self.starts.iter().filter(|(id, _)| !self.over.contains(*id)).map(|(id, _)| id.clone()).collect();
        for id in running {
            let (call, accepted) = self.starts[&id].clone();
            let found = self.world.operation(&call.path, &id);
            if found["status"] != "running" {
                self.over.insert(id);
            } else {
                let age = now.since(accepted);
                assert!(age <= ENDS_WITHIN, "{id} runs for {age:?}; {told}");
            }
        }
    }

    /// Everybody accepts at last: then each operation has been told of, under one name.
    fn come_to_an_end(mut self) {
        for (call, _) in self.starts.values() {
            self.world.customer(call).forget_answers();
        }
        self.world.run(Duration::from_secs(300));
        self.check();
        for (id, (call, _)) in &self.starts {
            assert!(self.over.contains(id), "{id} never ended");
            let customer = self.world.customer(call);
            let names: BTreeSet<_> = customer.ends_of(id).iter().map(|told| told.notification).collect();
            assert_eq!(names.len(), 1, "{id} of {} was told under {names:?}", call.path);
        }
        assert_eq!(self.world.counts().notifications_pending, 0);
        assert!(self.starts.len() > DEEDS / 40, "something happened");
    }
}
