//! Everything at once: random requests, late and early media, sources that come, fail and break, a receiver that
//! refuses. Whatever the order, the promises of the contract hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use holdmusic_media::leg::MAX_FOLLOWERS;

use super::{listening::LISTENER, *};
use crate::{
    GrantId, WhepAsk, WhepResource,
    ask::{CancelMedia, Invite, Mute},
    graph::{read_media_leg, read_play_prompt},
    negotiation::MediaOffer,
};

#[derive(Clone, Debug)]
enum Step {
    Start { who: usize, prompt: usize, context: usize, ssrc: usize },
    Stop { who: usize },
    RemoveParticipant { who: usize },
    RemoveLeg { who: usize },
    PutLeg { who: usize, address: usize },
    Listen { who: usize, grant: usize },
    HangUp { which: usize },
    DeleteCall,
    PlayPrompt { first: usize, second: usize, to: usize },
    Heard { which: usize },
    CancelMedia { stop: bool },
    Mute { who: usize, muted: bool },
    Invite,
    Media,
    Bye { who: usize },
    Ready { which: usize },
    Unchanged { which: usize },
    Fail { which: usize },
    Purge { which: usize },
    Deliver { accept: bool },
    Store,
    Crash { stored: usize },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..3_usize;
    prop_oneof![
        8 => (who.clone(), 0..4_usize, 0..3_usize, 0..6_usize)
            .prop_map(|(who, prompt, context, ssrc)| Step::Start { who, prompt, context, ssrc }),
        4 => who.clone().prop_map(|who| Step::Stop { who }),
        1 => who.clone().prop_map(|who| Step::RemoveParticipant { who }),
        1 => who.clone().prop_map(|who| Step::RemoveLeg { who }),
        2 => (who.clone(), 0..3_usize).prop_map(|(who, address)| Step::PutLeg { who, address }),
        3 => (who.clone(), 0..3_usize).prop_map(|(who, grant)| Step::Listen { who, grant }),
        1 => (0..3_usize).prop_map(|which| Step::HangUp { which }),
        1 => Just(Step::DeleteCall),
        3 => (0..3_usize, 0..4_usize, 0..4_usize)
            .prop_map(|(first, second, to)| Step::PlayPrompt { first, second, to }),
        5 => (0..3_usize).prop_map(|which| Step::Heard { which }),
        1 => any::<bool>().prop_map(|stop| Step::CancelMedia { stop }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, muted)| Step::Mute { who, muted }),
        1 => Just(Step::Invite),
        12 => Just(Step::Media),
        1 => who.prop_map(|who| Step::Bye { who }),
        4 => (0..4_usize).prop_map(|which| Step::Ready { which }),
        2 => (0..4_usize).prop_map(|which| Step::Unchanged { which }),
        2 => (0..4_usize).prop_map(|which| Step::Fail { which }),
        1 => (0..3_usize).prop_map(|which| Step::Purge { which }),
        4 => any::<bool>().prop_map(|accept| Step::Deliver { accept }),
        8 => Just(Step::Store),
        1 => (0..4_usize).prop_map(|stored| Step::Crash { stored }),
        3 => prop_oneof![Just(1), Just(150), Just(400), Just(5_000), Just(20_000)]
            .prop_map(|millis| Step::Pass { millis }),
    ]
}

/// A leg as media has it.
#[derive(Clone, Debug)]
struct Path {
    playing: Option<SourceId>,
    /// What is announced, in order.
    announced: VecDeque<(AnnouncementId, SourceId)>,
    /// Whether media sends, or would if it had something.
    begun: bool,
    ssrc: Ssrc,
    /// Whose packets it is sent copies of.
    leader: Option<LegId>,
}

impl Path {
    fn new(ssrc: Ssrc) -> Self {
        Self { playing: None, announced: VecDeque::new(), begun: false, ssrc, leader: None }
    }

    fn hears(&self, source: SourceId) -> bool {
        self.playing == Some(source) || self.announced.iter().any(|(_, announced)| *announced == source)
    }
}

/// What media believes, made of outputs alone.
#[derive(Default)]
struct Around {
    legs: BTreeMap<LegId, Path>,
    /// What media will report, in order.
    reports: VecDeque<Input>,
    sources: BTreeSet<SourceId>,
    playable: BTreeSet<SourceId>,
    in_flight: VecDeque<NotificationId>,
    /// Ends that were told, by operation.
    ended: BTreeMap<String, u32>,
    accepted: BTreeMap<String, u64>,
    etag: u64,
    died: bool,
    /// What was told, and whether that was before the engine died last.
    told: BTreeMap<NotificationId, (String, bool)>,
}

impl Around {
    fn hear(&mut self, desk: &mut Desk, max_held: usize) -> Result<(), TestCaseError> {
        for output in std::mem::take(&mut desk.said) {
            match output {
                Output::AddLeg { leg, spec } => {
                    let path = Path::new(spec.numbering.ssrc);
                    prop_assert!(self.legs.insert(leg, path).is_none(), "added twice")
                }
                Output::ChangeLeg { leg, .. } => {
                    prop_assert!(self.legs.contains_key(&leg), "changed unknown leg")
                }
                Output::Play { leg, source, numbering, .. } => {
                    prop_assert!(
                        source == SourceId(0) || self.playable.contains(&source),
                        "plays {source:?}, which cannot be played"
                    );
                    let path = self.legs.get_mut(&leg);
                    prop_assert!(path.is_some(), "plays on an unknown leg");
                    let path = path.unwrap();
                    prop_assert!(path.leader.is_none(), "plays on a leg that follows another");
                    path.playing = Some(source);
                    path.begun = true;
                    path.ssrc = numbering.map_or(path.ssrc, |numbering| numbering.ssrc);
                    self.reports.push_back(Input::Started { leg, source, sent_at: desk.now().mono });
                }
                Output::Announce { leg, announcement, source, frames } => {
                    prop_assert!(frames > 0 && self.playable.contains(&source), "announces {source:?}");
                    let path = self.legs.get_mut(&leg);
                    prop_assert!(path.is_some(), "announces on an unknown leg");
                    let path = path.unwrap();
                    path.announced.push_back((announcement, source));
                    path.begun = true;
                }
                Output::Follow { leg, leader } => {
                    let leads = self.legs.get(&leader).is_some_and(|path| path.leader.is_none());
                    prop_assert!(leads, "follows a leg that cannot be followed");
                    let followers = self.legs.values().filter(|path| path.leader == Some(leader)).count();
                    prop_assert!(followers < MAX_FOLLOWERS, "{followers} follow it");
                    let path = self.legs.get_mut(&leg).filter(|path| !path.begun && path.leader.is_none());
                    prop_assert!(
                        path.is_some(),
                        "a leg that is not there, or has other things to do, follows"
                    );
                    path.unwrap().leader = Some(leader);
                }
                Output::Hush { leg } => {
                    let path = self.legs.get_mut(&leg);
                    prop_assert!(path.is_some(), "hushes an unknown leg");
                    path.unwrap().announced.clear();
                }
                Output::FirstPacket { .. } | Output::Persist { .. } | Output::Load { .. } => {}
                // Nobody here is a browser.
                Output::Admit { .. } | Output::Dismiss { .. } => prop_assert!(false, "a peer of a phone"),
                Output::Stop { leg } => {
                    let path = self.legs.get_mut(&leg);
                    prop_assert!(path.is_some(), "stops an unknown leg");
                    let path = path.unwrap();
                    (path.playing, path.begun) = (None, false);
                    path.announced.clear();
                    self.reports.push_back(desk.report_as(leg, path.ssrc));
                }
                Output::RemoveLeg { leg } => {
                    let path = self.legs.remove(&leg);
                    prop_assert!(path.is_some(), "removes an unknown leg");
                    self.reports.push_back(desk.report_as(leg, path.unwrap().ssrc));
                    let left = self.legs.values().any(|path| path.leader == Some(leg));
                    prop_assert!(!left, "nobody is left to follow a leg that is gone");
                }
                Output::Prepare { source, instead_of, .. } => {
                    prop_assert!(self.sources.insert(source), "prepared twice");
                    let known = instead_of.is_none_or(|older| self.playable.contains(&older));
                    prop_assert!(known, "to be instead of what is not there");
                }
                Output::Purge { .. } => {}
                Output::Release { source, .. } => {
                    prop_assert!(self.sources.remove(&source), "released twice");
                    self.playable.remove(&source);
                    let still = self.legs.values().any(|path| path.hears(source));
                    prop_assert!(!still, "released while it plays");
                }
                Output::Notify { notification, body, attempt, .. } => {
                    prop_assert!(self.in_flight.is_empty(), "two POSTs at a time");
                    self.in_flight.push_back(notification);
                    let body: Value = serde_json::from_str(&body).unwrap();
                    let data = &body["value"][0]["resourceData"];
                    let etag = data["@odata.etag"].as_str().or(data[0]["@odata.etag"].as_str());
                    if let Some((before, may_be_told_again)) = self.told.get_mut(&notification) {
                        prop_assert_eq!(&*before, &body.to_string(), "another body under the same name");
                        prop_assert!(attempt > 1 || std::mem::take(may_be_told_again), "told twice");
                    } else if let Some(etag) = etag {
                        self.told.insert(notification, (body.to_string(), false));
                        let etag = etag.trim_start_matches("W/\"").trim_end_matches('"').parse().unwrap();
                        prop_assert!(etag > self.etag, "notifications out of order");
                        self.etag = etag;
                        if data["status"].is_string() {
                            *self.ended.entry(data["id"].as_str().unwrap().to_owned()).or_default() += 1;
                        }
                    }
                }
                Output::Reply { result, .. } => {
                    if let Ok(answer) = result
                        && answer.body.as_ref().is_some_and(|body| !body.starts_with("v=0"))
                    {
                        let told = json(&answer);
                        if told["status"] == "running"
                            || told["@odata.type"] == "#microsoft.graph.startHoldMusicOperation"
                        {
                            self.accepted
                                .entry(told["id"].as_str().unwrap().to_owned())
                                .or_insert(desk.millis);
                        }
                    }
                }
            }
        }
        let streams = self.legs.values().filter(|path| path.playing.is_some()).count();
        prop_assert!(streams <= max_held, "{streams} streams, {max_held} allowed");
        Ok(())
    }
}

fn run(steps: &[Step], rules: &str, max_held: usize) -> Result<(), TestCaseError> {
    let mut desk = Desk::with(Settings { durable: true, ..Settings::default() });
    let mut around = Around::default();
    let call = desk.call(rules);
    let people: Vec<_> = (0..3).map(|_| desk.participant(call)).collect();
    // What was told so far was accepted before anybody looked.
    for output in &desk.said {
        match output {
            Output::AddLeg { leg, spec } => {
                around.legs.insert(*leg, Path::new(spec.numbering.ssrc));
            }
            Output::Prepare { source, .. } => {
                around.sources.insert(*source);
            }
            _ => {}
        }
    }
    desk.said.clear();
    (desk.receiver_answers, desk.media_answers, desk.store_answers) = (false, false, false);
    let addresses = ["127.0.0.1:5000", "[::1]:5000", "0.0.0.0:5000"];
    for step in steps {
        match *step {
            Step::Start { who, prompt, context, ssrc } => {
                let prompt = ["", "a.wav", "b.wav", "c.wav"][prompt];
                // Two different ones are handed over now and then, also to two legs at a time.
                let ssrc = [None, None, None, None, Some(77), Some(78)][ssrc];
                desk.start_any((call, people[who]), prompt, ["", "x", "y"][context], ssrc);
            }
            Step::Stop { who } => {
                desk.send(Ask::StopHoldMusic { call, participant: people[who], stop: Default::default() });
            }
            Step::RemoveParticipant { who } => {
                desk.send(Ask::DeleteParticipant { call, participant: people[who] });
            }
            Step::RemoveLeg { who } => {
                desk.send(Ask::DeleteMediaLeg { call, participant: people[who] });
            }
            Step::PutLeg { who, address } => {
                let body = format!(r#"{{"rtp":{{"address":"{}","payloadType":96}}}}"#, addresses[address]);
                let offer = read_media_leg(body.as_bytes()).unwrap();
                desk.send(Ask::PutMediaLeg { call, participant: people[who], offer });
            }
            Step::Listen { who, grant } => {
                let grant = [None, Some(GrantId(1)), Some(GrantId(2))][grant];
                let ask = WhepAsk::Listen(MediaOffer::Sdp(LISTENER.to_owned()), grant);
                desk.send(Ask::Whep { call, participant: people[who], ask });
            }
            Step::HangUp { which } => {
                if let Some(&(call, participant, listener)) = desk.control.listeners.keys().nth(which) {
                    let ask = WhepAsk::Close(WhepResource::Listener(listener), None);
                    desk.send(Ask::Whep { call, participant, ask });
                }
            }
            Step::DeleteCall => {
                desk.send(Ask::DeleteCall { call });
            }
            Step::PlayPrompt { first, second, to } => {
                let mut prompts = vec![["a.wav", "b.wav", "d.wav"][first]];
                prompts.extend(["a.wav", "e.wav"].get(second));
                let prompts: Vec<_> = prompts
                    .iter()
                    .map(|name| serde_json::json!({ "mediaInfo": { "uri": format!("https://host/{name}") } }))
                    .collect();
                let to: Vec<_> = people.get(to).iter().map(|id| id.to_string()).collect();
                let body = serde_json::json!({ "prompts": prompts, "holdMusic": { "participants": to } });
                let play = read_play_prompt(body.to_string().as_bytes()).unwrap();
                desk.send(Ask::PlayPrompt { call, play });
            }
            Step::Heard { which } => {
                let mut hearing = around.legs.iter_mut().filter(|(_, path)| !path.announced.is_empty());
                if let Some((leg, path)) = hearing.nth(which) {
                    let (announcement, _) = path.announced.pop_front().unwrap();
                    around.reports.push_back(Input::Announced { leg: *leg, announcement });
                }
            }
            Step::CancelMedia { stop } => {
                let cancel = CancelMedia { client_context: None, stop_holds: stop };
                desk.send(Ask::CancelMedia { call, cancel });
            }
            Step::Mute { who, muted } => {
                let mute = Mute { muted, client_context: None };
                desk.send(Ask::MuteParticipant { call, participant: people[who], mute });
            }
            Step::Invite => {
                let identities = vec![Box::from("{}")];
                desk.send(Ask::Invite { call, invite: Invite { identities, client_context: None } });
            }
            Step::Media => {
                if let Some(report) = around.reports.pop_front() {
                    desk.tell(report);
                }
            }
            Step::Bye { who } => {
                if let Some(leg) = around.legs.keys().nth(who) {
                    desk.tell(Input::Bye { leg: *leg });
                }
            }
            Step::Ready { which } => {
                if let Some(source) = around.sources.iter().nth(which).copied() {
                    around.playable.insert(source);
                    let now = desk.now().mono;
                    let freshness = [
                        Freshness::FOR_EVER,
                        Freshness { until: now, while_asked_until: now, when_slow: true },
                        Freshness { until: now, while_asked_until: now, when_slow: false },
                        Freshness { until: now, while_asked_until: now + seconds(5), when_slow: true },
                    ];
                    desk.ready_and(source.0, freshness[which % 4]);
                }
            }
            Step::Unchanged { which } => {
                if let Some(source) = around.sources.iter().nth(which).copied()
                    && !around.playable.contains(&source)
                {
                    let now = desk.now().mono;
                    let freshness = Freshness { until: now, while_asked_until: now, when_slow: true };
                    desk.tell(Input::SourceUnchanged { source, codec: Codec::Opus, freshness });
                }
            }
            Step::Purge { which } => {
                let uri = ["a.wav", "b.wav"].get(which).map(|name| format!("https://host/{name}"));
                let prompt = uri.map(|uri| crate::graph::read_prompt(&uri).unwrap());
                desk.send(Ask::PurgePrompts { prompt });
            }
            Step::Fail { which } => {
                if let Some(source) = around.sources.iter().nth(which) {
                    desk.fail(source.0);
                }
            }
            Step::Deliver { accept } => {
                if let Some(notification) = around.in_flight.pop_front() {
                    let retry = DeliveryOutcome::Retry { reason: "503".into(), after: None };
                    desk.delivered(notification, if accept { DeliveryOutcome::Accepted } else { retry });
                }
            }
            Step::Store => {
                if let Some(ticket) = desk.store.write() {
                    desk.tell(Input::Stored { ticket });
                }
            }
            Step::Crash { stored } => {
                for _ in 0..stored {
                    desk.store.write();
                }
                around.die();
                desk.crash();
            }
            Step::Pass { millis } => desk.pass(millis),
        }
        around.hear(&mut desk, max_held)?;
        desk.check_ssrcs(&around)?;
        desk.check_quiet(&around)?;
        desk.check_owner()?;
        desk.check_store()?;
        desk.check_listeners(&around)?;
        let held = desk.control.counts().held;
        prop_assert!(held as usize <= max_held);
    }
    // Everything comes to its end: doors have deadlines, the bound passes, then the call goes.
    for source in around.sources.difference(&around.playable).copied().collect::<Vec<_>>() {
        desk.fail(source.0);
    }
    around.hear(&mut desk, max_held)?;
    desk.pass(20_000);
    around.hear(&mut desk, max_held)?;
    desk.send(Ask::DeleteCall { call });
    loop {
        around.hear(&mut desk, max_held)?;
        if let Some(ticket) = desk.store.write() {
            desk.tell(Input::Stored { ticket });
        } else if let Some(report) = around.reports.pop_front() {
            desk.tell(report);
        } else if let Some(notification) = around.in_flight.pop_front() {
            desk.delivered(notification, DeliveryOutcome::Accepted);
        } else if desk.control.counts().notifications_pending > 0 {
            desk.pass(31_000);
        } else {
            break;
        }
    }
    let accepted: BTreeSet<_> = around.accepted.keys().collect();
    let ended: BTreeSet<_> = around.ended.keys().collect();
    prop_assert!(accepted.is_subset(&ended), "every 202 has an end: {accepted:?}, {ended:?}");
    // Of what was durable when the engine died, the answer may have been lost.
    prop_assert!(around.died || accepted == ended, "what has an end was accepted: {accepted:?}, {ended:?}");
    prop_assert!(around.ended.values().all(|count| *count == 1), "and only one");
    prop_assert!(around.legs.is_empty(), "leaked legs: {:?}", around.legs);
    desk.pass(4_000_000);
    around.hear(&mut desk, max_held)?;
    prop_assert!(around.sources.is_empty(), "leaked sources: {:?}", around.sources);
    prop_assert_eq!(desk.control.poll_timeout(), MediaTime::NEVER, "leaked timers");
    let left: Vec<_> = desk.store.written.keys().filter(|key| !matches!(key[0], 0 | 1)).collect();
    prop_assert!(left.is_empty(), "leaked records: {:?}", left);
    let counts = desk.control.counts();
    prop_assert_eq!((counts.calls, counts.ended_calls, counts.participants, counts.held), (0, 0, 0, 0));
    prop_assert_eq!((counts.operations, counts.prompts, counts.preparing), (0, 0, 0));
    prop_assert!(desk.control.callbacks.is_empty(), "leaked addresses of bots: {:?}", desk.control.callbacks);
    Ok(())
}

impl Around {
    /// The engine dies, and with it what media and doors had in hand.
    fn die(&mut self) {
        self.died = true;
        self.legs.clear();
        self.reports.clear();
        self.sources.clear();
        self.playable.clear();
        self.in_flight.clear();
        self.told.values_mut().for_each(|(_, may_be_told_again)| *may_be_told_again = true);
    }
}

impl Desk {
    /// What is in the store, or on its way there, is how things are.
    fn check_store(&mut self) -> Result<(), TestCaseError> {
        let mut there = self.store.written.clone();
        there.retain(|key, _| key[0] != 0);
        let now = self.now();
        let should = self.control.all_records(now);
        // Operations that are in the store alone.
        for call in self.control.calls.values() {
            for (_, id) in call.operations.shelved() {
                let there = there.remove(&crate::record::Key::Operation(call.id, id).to_bytes());
                prop_assert!(there.is_some(), "neither at hand nor in the store: {id}");
            }
        }
        for (key, value) in &should {
            prop_assert!(
                there.get(key) == Some(value),
                "not in the store as it is: {:?}",
                crate::record::named(key)
            );
        }
        for key in there.keys() {
            prop_assert!(should.contains_key(key), "in the store, and gone: {:?}", crate::record::named(key));
        }
        Ok(())
    }

    /// There is one application: what counts for it is all that there is.
    fn check_owner(&self) -> Result<(), TestCaseError> {
        let Some(call) = self.control.calls.values().next() else { return Ok(()) };
        let (owner, counts) = (self.control.owners.of(call.owner), self.control.counts());
        let theirs = [owner.calls, owner.kept, owner.held, owner.preparing].map(u64::from);
        let all = [counts.calls, counts.calls + counts.ended_calls, counts.held, counts.preparing];
        prop_assert_eq!(theirs, all, "calls, kept ones, held, prompts being prepared");
        Ok(())
    }

    /// The SSRCs in use are those of the legs that there are, and once media has reported everything, those that
    /// media sends with.
    fn check_ssrcs(&self, around: &Around) -> Result<(), TestCaseError> {
        let mut of_legs: BTreeMap<Ssrc, usize> = BTreeMap::new();
        let people = self.control.calls.values().flat_map(|call| call.participants.values());
        let legs = people.filter_map(|participant| participant.leg.as_ref());
        for leg in legs.chain(self.control.listeners.values().map(|listening| &listening.leg)) {
            let ssrc = leg.spec.numbering.ssrc;
            *of_legs.entry(ssrc).or_default() += 1;
            if let Some(path) = around.legs.get(&leg.id).filter(|_| around.reports.is_empty()) {
                prop_assert_eq!(ssrc, path.ssrc, "media sends leg {:?} with another", leg.id);
            }
        }
        prop_assert_eq!(&self.control.ssrcs, &of_legs);
        Ok(())
    }

    /// Media copies for those who listen in, and each counts for its participant.
    fn check_listeners(&self, around: &Around) -> Result<(), TestCaseError> {
        let following = around.legs.iter().filter(|(_, path)| path.leader.is_some());
        let following: BTreeSet<_> = following.map(|(leg, _)| *leg).collect();
        let listening: BTreeSet<_> = self.control.listeners.values().map(|found| found.leg.id).collect();
        prop_assert_eq!(&following, &listening);
        prop_assert!(self.control.listening_legs.keys().eq(&listening), "all can be found by their legs");
        prop_assert_eq!(self.control.counts().listeners, listening.len() as u64);
        for call in self.control.calls.values() {
            for participant in call.participants.values() {
                let keys = self.control.listeners.keys();
                let theirs = keys.filter(|key| (key.0, key.1) == (call.id, participant.id)).count();
                prop_assert_eq!(usize::from(participant.listeners), theirs);
            }
        }
        Ok(())
    }

    /// Media sends on a leg only for a hold, or while something is to be announced.
    fn check_quiet(&self, around: &Around) -> Result<(), TestCaseError> {
        for call in self.control.calls.values().filter(|call| call.plays.is_empty()) {
            for participant in call.participants.values().filter(|participant| participant.hold.is_none()) {
                let leg = participant.leg.as_ref().and_then(|leg| around.legs.get(&leg.id));
                prop_assert!(leg.is_none_or(|leg| !leg.begun), "{:?} is not stopped", participant.id);
            }
        }
        Ok(())
    }

    /// A start whose answer is looked at by nobody but [`Around::hear`].
    fn start_any(
        &mut self,
        (call, participant): (CallId, ParticipantId),
        prompt: &str,
        context: &str,
        ssrc: Option<u32>,
    ) {
        let mut body = serde_json::json!({});
        if !prompt.is_empty() {
            body["customPrompt"] =
                serde_json::json!({ "mediaInfo": { "uri": format!("https://host/{prompt}") } });
        }
        if !context.is_empty() {
            body["clientContext"] = context.into();
        }
        if let Some(ssrc) = ssrc {
            body["holdMusic"] = serde_json::json!({ "rtpState": {
                "ssrc": ssrc, "sequenceNumber": 1, "timestamp": 1, "at": "2023-11-14T22:13:25.000000Z",
            } });
        }
        let start = read_start_hold_music(body.to_string().as_bytes()).unwrap();
        self.send(Ask::StartHoldMusic { call, participant, start });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 35_000, ..ProptestConfig::default() })]

    #[test]
    fn every_accepted_start_ends_once_and_nothing_leaks(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, "{}", 1)?;
    }

    #[test]
    fn the_same_holds_with_two_held_and_failing_prompts(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, r#"{"maxHeldParticipants":2,"onPromptFailure":"fail"}"#, 2)?;
    }

    #[test]
    fn the_same_holds_when_operations_last_as_long_as_the_music(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(&steps, r#"{"completesWhen":"musicEnds","maxDuration":30,
            "defaultPrompt":{"mediaInfo":{"uri":"https://host/a.wav"}}}"#, 1)?;
    }
}
