//! The calls that come and go, and those that stay: steps of stories become requests, RTCP and closed ports, and what
//! comes of them is looked at.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io, mem,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use holdmusic_bench::{
    bare::destination,
    dice::Dice,
    engine::{Engine, text},
    probe::now_ns,
};
use holdmusic_media::rtp::Ssrc;
use rustix::thread::ClockId;
use serde_json::{Value, json};

use crate::{
    callbacks::{Callbacks, Manner},
    faults::{Fault, Faults},
    hearing::Hearing,
    origin::Origin,
    sabotage::Sabotage,
    sound::Expected,
    story::{Prompt, Step, Story},
};

/// The contract: a start operation ends within so long.
const OPERATION_NS: u64 = 20_000_000_000;

/// How long an end that somebody else brings about may take beyond the moment at which it is looked for.
const PATIENCE_NS: u64 = 5_000_000_000;

/// How often an answer that is waited for is looked at.
const AGAIN_NS: u64 = 50_000_000;

/// A leg that is gone is listened to for so long, to hear whether something still comes.
const ECHO_NS: u64 = 500_000_000;

/// How long before a hold's start a fetch that it shares may have begun.
const SHARED_NS: u64 = 1_000_000_000;

/// Legs have addresses of their own in 127/8; after so many they come again.
const ADDRESSES: u32 = 16_000_000;

/// Interarrival jitter that receivers report: 960 units are 20 ms.
const JITTER_UNITS: u32 = 960;
const JITTER_MS: f64 = 20.0;

/// What must be heard.
#[derive(Clone, Debug)]
enum Sound {
    Default {
        in_step: bool,
    },
    /// One of these prompts.
    OneOf(Vec<usize>),
}

/// A start that was accepted.
struct Started {
    path: String,
    prompt: Prompt,
    body: Value,
    asked_ns: u64,
    /// What played before goes on if this prompt cannot be played.
    in_mid_hold: bool,
}

/// A participant.
pub(crate) struct Person {
    path: String,
    pub(crate) ssrc: Ssrc,
    host: Ipv4Addr,
    door: usize,
    /// Where the engine's media comes from, and RTCP goes.
    media: SocketAddr,
    /// The port of one who will close it.
    phone: Option<UdpSocket>,
    /// What its RTCP is sent from.
    mouth: Option<UdpSocket>,
    held: bool,
    started: Option<Started>,
    sound: Option<Sound>,
    gain_db: Option<f64>,
    /// Lost packets that it has told the engine of.
    reported: Option<u32>,
    /// Packets that the last stop told of.
    told: Option<u64>,
    gone: bool,
}

struct Call {
    number: u64,
    path: String,
    people: Vec<Person>,
    steps: VecDeque<(u64, Step)>,
    /// Since when the step that comes next is tried.
    tried_ns: Option<u64>,
    contexts: u64,
}

impl Call {
    fn of(number: u64, steps: VecDeque<(u64, Step)>) -> Self {
        Self { number, path: String::new(), people: Vec::new(), steps, tried_ns: None, contexts: 0 }
    }
}

/// How much has happened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) participants: u64,
    pub(crate) starts: u64,
    /// Of them, with prompts that nobody had asked for.
    pub(crate) cold: u64,
    pub(crate) operations: u64,
    pub(crate) stops: u64,
    pub(crate) moves: u64,
    pub(crate) reports: u64,
    pub(crate) ended: u64,
    pub(crate) compared: u64,
    pub(crate) likeness: f64,
}

/// Everybody, and what they need.
pub(crate) struct Cast<'a> {
    engine: &'a Engine,
    callbacks: &'a Callbacks,
    origin: &'a Origin,
    default_music: &'a Expected,
    hearing: Arc<Mutex<Hearing>>,
    faults: Faults,
    ports: [u16; 2],
    dice: Dice,
    sabotage: Option<Sabotage>,
    calls: HashMap<u64, Call>,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    forgotten: VecDeque<(u64, Ssrc)>,
    stayers: Vec<Call>,
    numbers: u64,
    pub(crate) counts: Counts,
}

/// Whether a step is done or is to be tried again.
enum Outcome {
    Done,
    Again,
}

impl<'a> Cast<'a> {
    #[expect(clippy::too_many_arguments, reason = "everything of the run meets here, once")]
    pub(crate) fn new(
        engine: &'a Engine,
        callbacks: &'a Callbacks,
        origin: &'a Origin,
        default_music: &'a Expected,
        hearing: Arc<Mutex<Hearing>>,
        faults: Faults,
        ports: [u16; 2],
        seed: u64,
        sabotage: Option<Sabotage>,
    ) -> Self {
        Self {
            engine,
            callbacks,
            origin,
            default_music,
            hearing,
            faults,
            ports,
            dice: Dice::new(seed),
            sabotage,
            calls: HashMap::new(),
            due: BinaryHeap::new(),
            forgotten: VecDeque::new(),
            stayers: Vec::new(),
            numbers: 0,
            counts: Counts::default(),
        }
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().expect("nobody panics while holding it")
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Another call that stays until the end: every fourth one with a prompt, the others with default music.
    pub(crate) fn stay(&mut self) -> io::Result<()> {
        let number = self.number();
        let manner = if number.is_multiple_of(50) { Manner::Slow } else { Manner::Fast };
        self.callbacks.expect(number, manner);
        let mut call = Call::of(number, VecDeque::new());
        self.open(&mut call, 1, false)?;
        let clip = (number / 4 % Origin::CLIPS) as usize;
        let prompt = if number.is_multiple_of(4) { Prompt::Clip(clip) } else { Prompt::Default };
        self.start(&mut call, 0, prompt)?;
        self.stayers.push(call);
        Ok(())
    }

    /// Whether the operations of all who stay have ended; what is wrong about them is told.
    pub(crate) fn stayers_play(&mut self) -> io::Result<bool> {
        let mut stayers = mem::take(&mut self.stayers);
        let mut all = true;
        for call in &mut stayers {
            all &= call.people[0].started.is_none() || matches!(self.ends(call, 0)?, Outcome::Done);
        }
        self.stayers = stayers;
        Ok(all)
    }

    /// Listens to some of those who stay: `share` of them at most.
    pub(crate) fn listen_to_stayers(&mut self, share: usize) {
        let step = (self.stayers.len() / share.max(1)).max(1);
        // An odd step meets default music and prompts.
        for call in self.stayers.iter().step_by(step | 1) {
            self.hearing().record(call.people[0].ssrc);
        }
    }

    /// Compares what was heard of them.
    pub(crate) fn compare_stayers(&mut self) {
        let stayers = mem::take(&mut self.stayers);
        for call in &stayers {
            self.compare(call, 0);
        }
        self.stayers = stayers;
    }

    /// Those who stay are stopped, counted and go; `but` the last so many.
    pub(crate) fn leave(&mut self, but: usize) -> io::Result<()> {
        let mut stayers = mem::take(&mut self.stayers);
        let stay = stayers.len().saturating_sub(but);
        stayers.truncate(stay);
        for call in &mut stayers {
            self.stop(call, 0)?;
        }
        thread::sleep(Duration::from_nanos(ECHO_NS));
        for call in &mut stayers {
            self.counted(&call.people[0], call.number);
            self.close(call)?;
        }
        Ok(())
    }

    /// A call comes whose story the dice tell.
    pub(crate) fn tell(&mut self, now_ns: u64) {
        let story = Story::throw(&mut self.dice);
        let number = self.number();
        self.callbacks.expect(number, story.manner);
        self.calls.insert(number, Call::of(number, story.steps.into()));
        self.due.push(Reverse((now_ns, number)));
    }

    /// Calls whose stories go on.
    pub(crate) fn playing(&self) -> usize {
        self.calls.len()
    }

    /// Does everything that is due.
    pub(crate) fn play(&mut self) {
        while let Some((at_ns, ssrc)) = self.forgotten.front().copied()
            && at_ns < now_ns(ClockId::Realtime)
        {
            self.forgotten.pop_front();
            self.hearing().forget(ssrc);
        }
        while let Some(Reverse((due_ns, number))) = self.due.peek().copied()
            && due_ns <= now_ns(ClockId::Realtime)
        {
            self.due.pop();
            let Some(mut call) = self.calls.remove(&number) else { continue };
            let Some((_, step)) = call.steps.front().copied() else { continue };
            match self.step(&mut call, step) {
                Ok(Outcome::Again) => {
                    self.due.push(Reverse((now_ns(ClockId::Realtime) + AGAIN_NS, number)));
                    self.calls.insert(number, call);
                    continue;
                }
                Ok(Outcome::Done) => {
                    call.steps.pop_front();
                }
                Err(error) => {
                    self.faults.add(Fault::Refused, || format!("call {number}, {step:?}: {error}"));
                    // Whatever became of it, it must not be left over.
                    let close = call.steps.pop_back().filter(|_| step != Step::Close);
                    call.steps = close.into_iter().collect();
                }
            }
            call.tried_ns = None;
            if let Some((after_ms, _)) = call.steps.front() {
                self.due.push(Reverse((now_ns(ClockId::Realtime) + after_ms * 1_000_000, number)));
                self.calls.insert(number, call);
            }
        }
    }

    fn step(&mut self, call: &mut Call, step: Step) -> io::Result<Outcome> {
        match step {
            Step::Open { participants, deaf } => {
                self.open(call, participants, deaf)?;
            }
            Step::Start { who, prompt } => self.start(call, who, prompt)?,
            Step::Again { who } => self.again(call, who)?,
            Step::Ends { who } => return self.ends(call, who),
            Step::Listen { who } => self.hearing().record(call.people[who].ssrc),
            Step::Compare { who } => self.compare(call, who),
            Step::Report { who } => self.report(&mut call.people[who])?,
            Step::Rubbish { who } => self.rubbish(&mut call.people[who])?,
            Step::Move { who } => self.go_elsewhere(&mut call.people[who])?,
            Step::Stop { who } => self.stop(call, who)?,
            Step::Counted { who } => self.counted(&call.people[who], call.number),
            Step::Bye { who } => self.bye(&mut call.people[who])?,
            Step::HangUp { who } => {
                if !self.is_sabotaged(Sabotage::Silence) {
                    call.people[who].phone = None;
                }
            }
            Step::EndedBy { who, reason } => return self.ended_by(call, who, reason),
            Step::Remove { who } => {
                self.engine.delete(&call.people[who].path)?;
                self.gone(&mut call.people[who]);
            }
            Step::Close => self.close(call)?,
        }
        Ok(Outcome::Done)
    }

    fn is_sabotaged(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// The same for every tenth time.
    fn is_now_and_then(&mut self, sabotage: Sabotage) -> bool {
        self.is_sabotaged(sabotage) && self.dice.below(10) == 0
    }

    fn open(&mut self, call: &mut Call, participants: usize, deaf: bool) -> io::Result<()> {
        let body = json!({
            "callbackUri": self.callbacks.uri(call.number),
            "holdMusic": { "maxHeldParticipants": participants },
        });
        let made = self.engine.post("/communications/calls", &body)?;
        self.counts.calls += 1;
        call.path = format!("/communications/calls/{}", text(&made, "id"));
        for _ in 0..participants {
            let person = self.join(call, deaf)?;
            call.people.push(person);
        }
        Ok(())
    }

    fn join(&mut self, call: &Call, deaf: bool) -> io::Result<Person> {
        self.counts.participants += 1;
        let place = u32::try_from(self.counts.participants).unwrap_or(u32::MAX) % ADDRESSES;
        let mut address = destination(place, self.ports[0]);
        let SocketAddr::V4(v4) = address else { unreachable!("destinations are in 127/8") };
        let host = *v4.ip();
        let phone = if deaf { Some(UdpSocket::bind((host, 0))?) } else { None };
        if let Some(phone) = &phone {
            address = phone.local_addr()?;
        }
        let body = json!({ "mediaLeg": { "rtp": leg(address) } });
        let made = self.engine.post(&format!("{}/participants", call.path), &body)?;
        let path = format!("{}/participants/{}", call.path, text(&made, "id"));
        let leg = &made["mediaLeg"];
        let ssrc = leg["ssrc"].as_u64().and_then(|ssrc| u32::try_from(ssrc).ok());
        let ssrc = Ssrc(ssrc.ok_or_else(|| io::Error::other(format!("no SSRC in {made}")))?);
        let media = text(leg, "localAddress").parse().map_err(io::Error::other)?;
        if !deaf {
            let name = format!("participant {place} of call {}", call.number);
            self.hearing().expect(ssrc, name, 0);
        }
        Ok(Person {
            path,
            ssrc,
            host,
            door: 0,
            media,
            phone,
            mouth: None,
            held: false,
            started: None,
            sound: None,
            gain_db: None,
            reported: None,
            told: None,
            gone: false,
        })
    }

    fn start(&mut self, call: &mut Call, who: usize, prompt: Prompt) -> io::Result<()> {
        self.counts.starts += 1;
        call.contexts += 1;
        self.counts.cold += u64::from(matches!(prompt, Prompt::Cold(_)));
        let number = self.counts.starts;
        let uri = match prompt {
            Prompt::Default => None,
            Prompt::Clip(clip) => Some(self.origin.clip(clip, None)),
            Prompt::Cold(clip) => Some(self.origin.clip(clip, Some(number))),
            Prompt::Changing => Some(self.origin.changing()),
            Prompt::Broken(broken) => Some(self.origin.broken(broken, number)),
        };
        let mut body = json!({ "clientContext": format!("{}-{}", call.number, call.contexts) });
        if let Some(uri) = uri {
            body["customPrompt"] = json!({
                "@odata.type": "#microsoft.graph.mediaPrompt",
                "mediaInfo": { "@odata.type": "#microsoft.graph.mediaInfo", "uri": uri },
            });
        }
        let person = &mut call.people[who];
        let in_mid_hold = person.held;
        if !in_mid_hold {
            self.hearing().begin(person.ssrc);
            (person.sound, person.reported) = (None, None);
        }
        let asked_ns = now_ns(ClockId::Realtime);
        let operation = self.engine.post(&format!("{}/startHoldMusic", person.path), &body)?;
        let id = text(&operation, "id");
        self.callbacks.started(call.number, id);
        self.counts.operations += 1;
        person.held = true;
        let path = format!("{}/operations/{id}", call.path);
        person.started = Some(Started { path, prompt, body, asked_ns, in_mid_hold });
        Ok(())
    }

    /// The same request once more is the same operation.
    fn again(&mut self, call: &Call, who: usize) -> io::Result<()> {
        let person = &call.people[who];
        let Some(started) = &person.started else { return Ok(()) };
        let operation = self.engine.post(&format!("{}/startHoldMusic", person.path), &started.body)?;
        if !started.path.ends_with(text(&operation, "id")) {
            self.faults
                .add(Fault::Result, || format!("{}: another operation for the same start", person.path));
            self.callbacks.started(call.number, text(&operation, "id"));
        }
        Ok(())
    }

    /// Looks whether an operation has ended, and as it should.
    fn ends(&mut self, call: &mut Call, who: usize) -> io::Result<Outcome> {
        let wrong = self.is_now_and_then(Sabotage::Result);
        let person = &mut call.people[who];
        let Some(started) = &person.started else { return Ok(Outcome::Done) };
        let operation = self.engine.get(&started.path)?;
        let now = now_ns(ClockId::Realtime);
        let endless = self.sabotage == Some(Sabotage::Endless) && call.number.is_multiple_of(40);
        if endless || matches!(text(&operation, "status"), "running" | "notStarted") {
            if now < started.asked_ns + OPERATION_NS {
                return Ok(Outcome::Again);
            }
            self.faults.add(Fault::Unended, || format!("after 20 s: {operation}"));
        }
        let expected = match started.prompt {
            Prompt::Broken(broken) => broken.subcode(),
            _ => u64::from(wrong),
        };
        let source = match started.prompt {
            Prompt::Default => Some("default"),
            Prompt::Broken(_) => (!started.in_mid_hold).then_some("default"),
            _ => Some("customPrompt"),
        };
        let found = operation["resultInfo"]["subcode"].as_u64();
        let heard = operation["holdMusic"]["source"].as_str();
        if text(&operation, "status") != "completed"
            || found != Some(expected)
            || source.is_some_and(|source| heard != Some(source))
        {
            self.faults.add(Fault::Result, || {
                format!("{:?} should end with {expected} and {source:?}: {operation}", started.prompt)
            });
        }
        let gain_db = operation["holdMusic"]["gainDb"].as_f64();
        let sound = match started.prompt {
            Prompt::Default => Some(Sound::Default { in_step: !started.in_mid_hold }),
            Prompt::Clip(clip) | Prompt::Cold(clip) => Some(Sound::OneOf(vec![clip])),
            Prompt::Changing => {
                let from_ns = started.asked_ns - SHARED_NS;
                Some(Sound::OneOf(self.origin.versions(from_ns, now)))
            }
            Prompt::Broken(_) if started.in_mid_hold => None,
            Prompt::Broken(_) => Some(Sound::Default { in_step: true }),
        };
        if let Some(sound) = sound {
            (person.sound, person.gain_db) = (Some(sound), gain_db);
        }
        person.started = None;
        Ok(Outcome::Done)
    }

    fn compare(&mut self, call: &Call, who: usize) {
        let person = &call.people[who];
        let recorded = self.hearing().recorded(person.ssrc);
        let (Some(recorded), Some(sound)) = (recorded, &person.sound) else { return };
        let wrong = self.is_now_and_then(Sabotage::Sound);
        let judge = |expected: &Expected, in_step| expected.judge(&recorded, person.gain_db, in_step);
        let verdict = match sound {
            _ if wrong => judge(&self.origin.sounds[0], false).and(judge(self.default_music, false)),
            Sound::Default { in_step } => judge(self.default_music, *in_step),
            Sound::OneOf(clips) => {
                let all = clips.iter().map(|clip| judge(&self.origin.sounds[*clip], false));
                let nothing = Err("no prompt could have been heard".to_owned());
                all.fold(nothing, |before, found| if before.is_ok() { before } else { found })
            }
        };
        self.counts.compared += 1;
        match verdict {
            Ok(likeness) => {
                self.counts.likeness =
                    if self.counts.compared == 1 { likeness } else { self.counts.likeness.min(likeness) };
            }
            Err(words) => self
                .faults
                .add(Fault::Sound, || format!("call {}, where {sound:?} is due: {words}", call.number)),
        }
    }

    fn mouth(person: &mut Person) -> io::Result<&UdpSocket> {
        if person.mouth.is_none() {
            let socket = UdpSocket::bind((person.host, 0))?;
            socket.connect(person.media)?;
            person.mouth = Some(socket);
        }
        person.mouth.as_ref().ok_or_else(|| io::Error::other("it was made a moment ago"))
    }

    /// A receiver report (RFC 3550 section 6.4.2) with one block.
    fn report(&mut self, person: &mut Person) -> io::Result<()> {
        let highest = self.hearing().last_sequence(person.ssrc).unwrap_or(0);
        let lost = self.dice.between(1, 200) as u32;
        let mut datagram = vec![0x81, 201, 0, 7];
        datagram.extend(reporter(person.ssrc));
        datagram.extend(person.ssrc.0.to_be_bytes());
        datagram.extend((0x0500_0000 | lost).to_be_bytes());
        datagram.extend(u32::from(highest).to_be_bytes());
        datagram.extend(JITTER_UNITS.to_be_bytes());
        datagram.extend([0; 8]);
        if !self.is_now_and_then(Sabotage::Silence) {
            Self::mouth(person)?.send(&datagram)?;
        }
        self.counts.reports += 1;
        person.reported = Some(lost);
        Ok(())
    }

    /// What is no RTCP, what is cut, and a goodbye of somebody who was never there.
    fn rubbish(&mut self, person: &mut Person) -> io::Result<()> {
        let noise: Vec<u8> = (0..self.dice.between(1, 120)).map(|_| self.dice.any() as u8).collect();
        let stranger = (self.dice.any() as u32).to_be_bytes();
        let mouth = Self::mouth(person)?;
        mouth.send(&noise)?;
        mouth.send(&[0x81, 201, 0, 7, 1, 2])?;
        mouth.send(&[&[0x81, 203, 0xff, 0xff], &stranger[..]].concat())?;
        Ok(())
    }

    fn bye(&mut self, person: &mut Person) -> io::Result<()> {
        let datagram =
            [&[0x80, 201, 0, 1], &reporter(person.ssrc)[..], &[0x81, 203, 0, 1], &reporter(person.ssrc)];
        if !self.is_now_and_then(Sabotage::Silence) {
            Self::mouth(person)?.send(&datagram.concat())?;
        }
        Ok(())
    }

    /// The leg goes to the other door, on the same address.
    fn go_elsewhere(&mut self, person: &mut Person) -> io::Result<()> {
        self.counts.moves += 1;
        let door = 1 - person.door;
        let address = SocketAddr::from((person.host, self.ports[door]));
        // Until the answer has come, packets may come by either.
        self.hearing().move_to(person.ssrc, door, u64::MAX / 2);
        if !self.is_now_and_then(Sabotage::Moved) {
            self.engine.put(&format!("{}/mediaLeg", person.path), &json!({ "rtp": leg(address) }))?;
        }
        person.door = door;
        self.hearing().move_to(person.ssrc, door, now_ns(ClockId::Realtime));
        Ok(())
    }

    fn stop(&mut self, call: &mut Call, who: usize) -> io::Result<()> {
        let forgetful = self.is_now_and_then(Sabotage::Quiet);
        let person = &mut call.people[who];
        if forgetful {
            self.hearing().end(person.ssrc, now_ns(ClockId::Realtime));
            return Ok(());
        }
        let stopped = self.engine.post(&format!("{}/stopHoldMusic", person.path), &json!({}))?;
        self.hearing().end(person.ssrc, now_ns(ClockId::Realtime));
        self.counts.stops += 1;
        person.held = false;
        let report = &stopped["holdMusic"]["report"];
        person.told = report["packets"].as_u64();
        if text(&stopped, "status") != "completed" {
            self.faults.add(Fault::Result, || format!("a stop was answered with {stopped}"));
        }
        if let Some(lost) = person.reported.take()
            && (report["packetsLost"].as_u64() != Some(lost.into())
                || report["jitterMs"].as_f64() != Some(JITTER_MS))
        {
            self.faults.add(Fault::Reported, || {
                format!("call {}: {lost} lost and {JITTER_MS} ms were reported: {report}", call.number)
            });
        }
        Ok(())
    }

    /// Whether as many packets came as the stop has told.
    fn counted(&mut self, person: &Person, number: u64) {
        let Some(told) = person.told else { return };
        let more = u64::from(self.is_now_and_then(Sabotage::Counted));
        let heard = self.hearing().packets_of(person.ssrc) + more;
        // A hold that was stopped before its first packet leaves the count of the one before it.
        if told > 0 && heard != told {
            self.faults.add(Fault::Counted, || format!("call {number}: {told} told, {heard} heard"));
        }
    }

    fn ended_by(&mut self, call: &mut Call, who: usize, reason: &str) -> io::Result<Outcome> {
        let now = now_ns(ClockId::Realtime);
        let since = *call.tried_ns.get_or_insert(now);
        let person = &mut call.people[who];
        let found = self.engine.get(&person.path)?;
        let hold = &found["holdMusic"];
        if hold["state"] != "none" && now < since + PATIENCE_NS {
            return Ok(Outcome::Again);
        }
        self.counts.ended += 1;
        if hold["state"] != "none" || hold["endedBy"] != reason {
            self.faults.add(Fault::Ended, || format!("{reason} is due, found {hold}"));
        }
        person.held = false;
        self.hearing().end(person.ssrc, now);
        Ok(Outcome::Done)
    }

    fn close(&mut self, call: &mut Call) -> io::Result<()> {
        if call.path.is_empty() {
            self.callbacks.forget(call.number);
            return Ok(());
        }
        self.engine.delete(&call.path)?;
        for person in &mut call.people {
            self.gone(person);
        }
        Ok(())
    }

    fn gone(&mut self, person: &mut Person) {
        if !mem::replace(&mut person.gone, true) {
            let now = now_ns(ClockId::Realtime);
            self.hearing().end(person.ssrc, now);
            self.forgotten.push_back((now + ECHO_NS, person.ssrc));
        }
    }
}

/// An Opus leg to `address`.
fn leg(address: SocketAddr) -> Value {
    json!({ "address": address.to_string(), "codec": "opus", "payloadType": 111 })
}

/// The SSRC of the receiver that hears `ssrc`.
fn reporter(ssrc: Ssrc) -> [u8; 4] {
    (!ssrc.0).to_be_bytes()
}
