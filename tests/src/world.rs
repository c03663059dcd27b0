//! [`World`]: everything at once. Control decides, the doors around it are simulated, pacers send, phones hear.
//!
//! It does what `desk.rs`, `sender.rs` and `producer.rs` do in the product, in one thread and in an order that
//! depends on nothing but the seed.

mod doors;
mod power;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_control::{
    Control, Input, RequestId, Settings,
    access::{Caller, Identity, Limits},
};
use holdmusic_media::{
    LegId, MediaTime, SourceId,
    pacer::{Command, Event, Pacer, PacerSettings},
    rtp::{HEADER_LEN, Header, PayloadType, SeqNo, Ssrc, Timestamp},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    clock::SimClock,
    customer::Customer,
    graph::{self, Reply},
    network::{Path, SimNetwork, Taps, is_remains, payload_type_of},
    phone::Phone,
    shelf::Shelf,
};
use doors::{Happening, Place, Underway};
use power::SimStore;

/// What URLs in answers begin with.
const BASE: &str = "https://engine.test/v1.0";

/// The longest that a request may take to be answered, in simulated time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Things that happen at one moment before the world counts as going round in circles.
const MAX_AT_ONCE: u32 = 1_000_000;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldSettings {
    /// What control is told; the media addresses are filled in.
    pub control: Settings,
    /// How many senders there are.
    pub senders: usize,
    /// How late a sender may wake.
    pub lateness: Duration,
    /// How long an analyst takes for a recording that is whole.
    pub decoding: Duration,
    /// How long a producer takes for one step.
    pub turn: Duration,
    /// How long a producer takes to make a bridge for a change of music.
    pub bridging: Duration,
    /// When a leg is given up.
    pub pacer: PacerSettings,
}

impl Default for WorldSettings {
    fn default() -> Self {
        let mut control = Settings::default();
        control.guard.callback_loopback = true;
        control.durable = true;
        // Phones of stories have any.
        control.codecs = vec![Codec::Opus, Codec::G722, Codec::L16, Codec::Pcma, Codec::Pcmu];
        Self {
            control,
            senders: 1,
            lateness: Duration::from_micros(80),
            decoding: Duration::from_millis(5),
            turn: Duration::from_millis(10),
            bridging: Duration::from_millis(8),
            pacer: PacerSettings::default(),
        }
    }
}

/// A call that a customer made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its path behind the version.
    pub path: String,
    /// Where its notifications go.
    pub callback: String,
}

/// A participant with a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path behind the version.
    pub path: String,
    /// The path of its call.
    pub call: String,
    /// Its id.
    pub id: String,
    /// The source that its leg sends as.
    pub ssrc: Ssrc,
    /// Its phone.
    pub phone: SocketAddr,
}

/// One simulated engine with all that is around it.
#[derive(Debug)]
pub struct World {
    seed: u64,
    rng: StdRng,
    clock: SimClock,
    settings: WorldSettings,
    control: Control,
    senders: Vec<SimSender>,
    /// The sender of each leg, and what it carries.
    legs: HashMap<LegId, (usize, Codec)>,
    network: SimNetwork,
    phones: BTreeMap<SocketAddr, Phone>,
    /// What is on the shelf.
    pub shelf: Shelf,
    sources: HashMap<(SourceId, Codec), Place>,
    underway: BTreeMap<u64, Underway>,
    preparations: usize,
    customers: BTreeMap<String, Customer>,
    agenda: BTreeMap<(MediaTime, u64), Happening>,
    happenings: u64,
    requests: u64,
    replies: HashMap<RequestId, Reply>,
    store: SimStore,
    is_down: bool,
    crashes: u32,
    reboots: bool,
    rebooted: u32,
}

#[derive(Debug)]
struct SimSender {
    pacer: Pacer,
    local: SocketAddr,
    orders: VecDeque<Command>,
    stalled_until: MediaTime,
    /// When it wakes; `None` when it has to look again.
    wakes: Option<MediaTime>,
}

impl World {
    /// A world in its usual state. `usual_seed` is overruled by the environment variable `HOLDMUSIC_SEED`.
    pub fn new(usual_seed: u64) -> Self {
        Self::with(usual_seed, |_| {})
    }

    /// A world whose settings `change` has seen.
    pub fn with(usual_seed: u64, change: impl FnOnce(&mut WorldSettings)) -> Self {
        let seed = crate::seed::seed(usual_seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut settings = WorldSettings::default();
        change(&mut settings);
        let locals: Vec<SocketAddr> =
            (0..settings.senders).map(|index| local(u16::try_from(index).expect("few senders"))).collect();
        settings.control.media_locals.clone_from(&locals);
        let mut control_seed = [0; 32];
        rng.fill_bytes(&mut control_seed);
        let senders = locals
            .into_iter()
            .map(|local| SimSender {
                pacer: Pacer::new(rng.next_u64(), settings.pacer),
                local,
                orders: VecDeque::new(),
                stalled_until: MediaTime::ZERO,
                wakes: None,
            })
            .collect();
        // Not on the grid of ticks, and not at the origin.
        let start = MediaTime::from_nanos(rng.random_range(1_000_000_000_000..2_000_000_000_000));
        Self {
            seed,
            clock: SimClock::new(start),
            control: Control::new(settings.control.clone(), control_seed),
            senders,
            legs: HashMap::new(),
            network: SimNetwork::new(rng.next_u64()),
            phones: BTreeMap::new(),
            shelf: Shelf::default(),
            sources: doors::default_music(),
            underway: BTreeMap::new(),
            preparations: 0,
            customers: BTreeMap::new(),
            agenda: BTreeMap::new(),
            happenings: 0,
            requests: 0,
            replies: HashMap::new(),
            store: SimStore::default(),
            is_down: false,
            crashes: 0,
            reboots: false,
            rebooted: 0,
            settings,
            rng,
        }
    }

    /// The moment.
    pub fn now(&self) -> MediaTime {
        self.clock.mono()
    }

    /// The seed that this world was made of.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Dice for stories that leave something to chance.
    pub fn dice(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// What control counts.
    pub fn counts(&self) -> holdmusic_control::Counts {
        self.control.counts()
    }

    /// How many prompts producers have prepared or refused.
    pub fn preparations(&self) -> usize {
        self.preparations
    }

    /// How many prompts producers have in hand.
    pub fn underway(&self) -> usize {
        self.underway.len()
    }

    /// What left the engine.
    pub fn taps(&self) -> &Taps {
        self.network.taps()
    }

    /// What left the engine so far; from now on the taps begin anew.
    pub fn take_taps(&mut self) -> Taps {
        self.network.take_taps()
    }

    /// The phone at `address`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn phone(&self, address: SocketAddr) -> &Phone {
        self.phones.get(&address).expect("a phone was put there")
    }

    /// Who answers at the callback of `call`.
    pub fn customer(&mut self, call: &Call) -> &mut Customer {
        self.customers.entry(call.callback.clone()).or_default()
    }

    /// Puts a phone somewhere.
    pub fn new_phone(&mut self) -> SocketAddr {
        let number = u16::try_from(self.phones.len()).expect("few phones");
        let [high, low] = number.to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(10, 1, high, low), 4000 + number * 2));
        self.phones.insert(address, Phone::new(address));
        address
    }

    /// Takes a phone away: from now on its port is unreachable.
    pub fn unplug(&mut self, phone: SocketAddr) {
        self.phones.remove(&phone);
    }

    /// Puts the phone back, without memory.
    pub fn plug(&mut self, phone: SocketAddr) {
        self.phones.insert(phone, Phone::new(phone));
    }

    /// From now on the way to `to` is like this.
    pub fn set_path(&mut self, to: SocketAddr, path: Path) {
        self.network.set_path(to, path);
    }

    /// The phone reports what it hears, and says goodbye if `goodbye`.
    ///
    /// # Panics
    ///
    /// If it has heard nothing yet.
    pub fn phone_reports(&mut self, phone: SocketAddr, goodbye: bool) {
        let (datagram, to) = {
            let phone = self.phone(phone);
            (phone.report(goodbye), phone.heard_from().expect("it has heard something"))
        };
        self.network.carry(self.clock.mono(), phone, to, &datagram);
    }

    /// The phone says goodbye without a report about anybody, from `from`.
    ///
    /// # Panics
    ///
    /// If it has heard nothing yet.
    pub fn phone_leaves(&mut self, phone: SocketAddr, from: SocketAddr) {
        let to = self.phone(phone).heard_from().expect("it has heard something");
        self.network.carry(self.clock.mono(), from, to, &Phone::bare_goodbye());
    }

    /// What the phone has heard so far is answered from another address: with RTP of the source `ssrc`, or with a report
    /// about what it heard if there is none.
    ///
    /// # Panics
    ///
    /// If it has heard nothing yet.
    pub fn phone_answers_from(&mut self, phone: SocketAddr, from: SocketAddr, ssrc: Option<Ssrc>) {
        let (report, to) = {
            let phone = self.phone(phone);
            (phone.report(false), phone.heard_from().expect("it has heard something"))
        };
        let datagram = ssrc.map_or(report, |ssrc| {
            let payload_type = PayloadType::new(8).expect("below 64");
            let (sequence, timestamp) = (SeqNo(1), Timestamp(160));
            let mut datagram = [0; HEADER_LEN];
            Header { marker: false, payload_type, sequence, timestamp, ssrc }.write(&mut datagram);
            datagram.to_vec()
        });
        self.network.carry(self.clock.mono(), from, to, &datagram);
    }

    /// The thread of a sender gets no time for so long.
    pub fn stall(&mut self, sender: usize, pause: Duration) {
        self.settle();
        let until = self.now() + pause;
        let sender = &mut self.senders[sender];
        sender.stalled_until = until;
        sender.wakes = sender.wakes.map(|wakes| wakes.max(until));
    }

    /// SIGTERM.
    pub fn drain(&mut self) {
        self.control.handle_input(self.clock.now(), Input::Drain);
        self.settle();
    }

    /// A call, with `rules` as its `holdMusic`.
    pub fn call(&mut self, rules: Value) -> Call {
        let callback = format!("http://127.0.0.1:9/bot/{}", self.customers.len());
        self.customers.insert(callback.clone(), Customer::default());
        let body = json!({ "callbackUri": callback, "holdMusic": rules });
        let reply = self.http("POST", "/communications/calls", body).expect(201);
        Call { path: format!("/communications/calls/{}", reply.id()), callback }
    }

    /// A participant whose leg goes to `phone`.
    pub fn join(&mut self, call: &Call, phone: SocketAddr) -> Member {
        self.join_with(call, phone, json!({}))
    }

    /// A participant whose leg goes to `phone`, with further members of `mediaLeg.rtp`.
    pub fn join_with(&mut self, call: &Call, phone: SocketAddr, members: Value) -> Member {
        let mut leg = leg(phone);
        if let (Some(leg), Value::Object(members)) = (leg["rtp"].as_object_mut(), members) {
            leg.extend(members);
        }
        let body = json!({ "mediaLeg": leg });
        let reply = self.http("POST", &format!("{}/participants", call.path), body).expect(201);
        let id = reply.id().to_owned();
        let ssrc = reply.body["mediaLeg"]["ssrc"].as_u64().and_then(|ssrc| u32::try_from(ssrc).ok());
        Member {
            path: format!("{}/participants/{id}", call.path),
            call: call.path.clone(),
            id,
            ssrc: Ssrc(ssrc.expect("a leg has its source")),
            phone,
        }
    }

    /// `startHoldMusic`, with a prompt or without.
    pub fn start(&mut self, member: &Member, prompt: Option<&str>, context: Option<&str>) -> Reply {
        let mut body = json!({});
        if let Some(uri) = prompt {
            body["customPrompt"] = json!({
                "@odata.type": "#microsoft.graph.mediaPrompt",
                "mediaInfo": { "@odata.type": "#microsoft.graph.mediaInfo", "uri": uri },
            });
        }
        if let Some(context) = context {
            body["clientContext"] = json!(context);
        }
        self.http("POST", &format!("{}/startHoldMusic", member.path), body)
    }

    /// `stopHoldMusic`.
    pub fn stop(&mut self, member: &Member) -> Reply {
        self.http("POST", &format!("{}/stopHoldMusic", member.path), json!({}))
    }

    /// `playPrompt`, for those who are named or for everybody.
    pub fn play_prompt(&mut self, call: &Call, prompts: &[&str], to: &[&Member]) -> Reply {
        let prompts: Vec<_> = prompts.iter().map(|uri| json!({ "mediaInfo": { "uri": uri } })).collect();
        let to: Vec<_> = to.iter().map(|member| &member.id).collect();
        let body = json!({ "prompts": prompts, "holdMusic": { "participants": to } });
        self.http("POST", &format!("{}/playPrompt", call.path), body)
    }

    /// The leg goes to `phone` from now on.
    pub fn move_leg(&mut self, member: &Member, phone: SocketAddr) -> Reply {
        self.http("PUT", &format!("{}/mediaLeg", member.path), leg(phone))
    }

    /// The leg stays where it is, and carries `codec` from now on: as stories number them ([`codec_of`](crate::codec_of)).
    pub fn recode(&mut self, member: &Member, codec: Codec) -> Reply {
        let (number, name, phone) = (payload_type_of(codec).number(), codec.name(), member.phone);
        let leg = if codec.short() == Some(codec) {
            let (address, port, rate) = (phone.ip(), phone.port(), codec.clock_rate());
            let channels = if codec.rtpmap_channels() == 2 { "/2" } else { "" };
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
                 m=audio {port} RTP/AVP {number}\r\na=rtpmap:{number} {name}/{rate}{channels}\r\n\
                 a=maxptime:10\r\na=rtcp-mux\r\n"
            );
            json!({ "sdp": sdp })
        } else {
            json!({ "rtp": { "address": phone.to_string(), "codec": name, "payloadType": number } })
        };
        self.http("PUT", &format!("{}/mediaLeg", member.path), leg)
    }

    /// The participant as it can be read.
    pub fn read_member(&mut self, member: &Member) -> Value {
        self.http("GET", &member.path, Value::Null).expect(200).body
    }

    /// An operation as it can be read.
    pub fn operation(&mut self, call: &str, operation: &str) -> Value {
        self.http("GET", &format!("{call}/operations/{operation}"), Value::Null).expect(200).body
    }

    /// Time passes until an operation is over, for at most `within`; what became of it.
    ///
    /// # Panics
    ///
    /// If it is not over by then.
    pub fn ended_within(&mut self, call: &str, operation: &str, within: Duration) -> Value {
        let until = self.now() + within;
        loop {
            let found = self.operation(call, operation);
            if found["status"] != "running" {
                return found;
            }
            assert!(self.step(until), "seed {}: still running after {within:?}: {found}", self.seed);
        }
    }

    /// A request; time passes until it is answered. A body of `null` is none.
    pub fn http(&mut self, method: &str, path: &str, body: Value) -> Reply {
        let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        self.http_bytes(method, path, &body)
    }

    /// A request with a body of any bytes.
    ///
    /// # Panics
    ///
    /// If it is not answered within two simulated seconds.
    pub fn http_bytes(&mut self, method: &str, path: &str, body: &[u8]) -> Reply {
        let ask = match graph::read(method, path, body) {
            Ok(ask) => ask,
            Err(refusal) => return Err(refusal).into(),
        };
        self.settle();
        if self.is_down {
            return Reply::lost();
        }
        let crashes = self.crashes;
        self.requests += 1;
        let (request, now) = (RequestId(self.requests), self.clock.now());
        let caller = Caller::by_static_token(Identity::new("bot", "tenant"), Limits::NONE);
        let (base, caller) = (Arc::from(BASE), Arc::new(caller));
        let input = Input::Request { request, accepted: now.mono, base, caller, ask };
        self.control.handle_input(now, input);
        self.settle();
        let until = now.mono + ANSWERED_WITHIN;
        loop {
            if let Some(reply) = self.replies.remove(&request) {
                return reply;
            }
            if self.crashes > crashes {
                return Reply::lost();
            }
            assert!(self.step(until), "seed {}: {method} {path} was never answered", self.seed);
        }
    }

    /// Time passes.
    pub fn run(&mut self, duration: Duration) {
        self.run_until(self.now() + duration);
    }

    /// Time passes until `until`.
    pub fn run_until(&mut self, until: MediaTime) {
        while self.step(until) {}
    }

    /// Jumps to the next thing that happens and lets it happen. `false` if nothing does before `until`, which is then
    /// the time.
    pub fn step(&mut self, until: MediaTime) -> bool {
        self.settle();
        let agenda = self.agenda.first_key_value().map_or(MediaTime::NEVER, |((at, _), _)| *at);
        let senders =
            (0..self.senders.len()).map(|index| self.wakes(index)).min().unwrap_or(MediaTime::NEVER);
        let next = agenda.min(senders).min(self.network.next()).min(self.control.poll_timeout());
        if next > until {
            self.clock.jump(until);
            return false;
        }
        self.clock.jump(next);
        self.senders_work();
        while let Some(datagram) = self.network.arrived(self.now()) {
            self.deliver(datagram.from, datagram.to, &datagram.bytes);
        }
        while let Some(first) = self.agenda.first_entry().filter(|first| first.key().0 <= self.clock.mono()) {
            let happening = first.remove();
            self.happen(happening);
        }
        self.settle();
        true
    }

    /// Lets everything happen that takes no time.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < MAX_AT_ONCE, "seed {}: the world goes round in circles", self.seed);
            let mut quiet = true;
            if self.control.poll_timeout() <= self.now() {
                self.control.handle_timeout(self.clock.now());
                quiet = false;
            }
            while let Some(output) = self.control.poll_output() {
                self.perform(output);
                quiet = false;
            }
            for index in 0..self.senders.len() {
                quiet &= !self.obey(index);
                quiet &= !self.hear_events(index);
            }
            if quiet {
                return;
            }
        }
    }

    /// A sender takes its commands, unless its thread has no time.
    fn obey(&mut self, index: usize) -> bool {
        let now = self.clock.now();
        let sender = &mut self.senders[index];
        if sender.orders.is_empty() || sender.stalled_until > now.mono {
            return false;
        }
        for command in sender.orders.drain(..) {
            sender.pacer.handle_command(now, command);
        }
        sender.pacer.send_goodbyes(&mut self.network.port(now.mono, sender.local));
        sender.wakes = None;
        true
    }

    fn hear_events(&mut self, index: usize) -> bool {
        let mut heard = false;
        while let Some(event) = self.senders[index].pacer.poll_event() {
            if is_remains(&event) {
                continue;
            }
            heard = true;
            let input = match event {
                Event::Crossing { leg, crossing } => {
                    let after = self.settings.bridging;
                    self.later(after, Happening::Bridge(leg, Box::new(crossing)));
                    continue;
                }
                Event::Started { leg, source, sent_at } => Input::Started { leg, source, sent_at },
                Event::Stopped { leg, report, next } => Input::Stopped { leg, report, next },
                Event::Announced { leg, announcement } => Input::Announced { leg, announcement },
                Event::Progress { leg, report } => Input::Progress { leg, report },
                Event::Bye { leg } => Input::Bye { leg },
                Event::Latch { leg, from, stream } => Input::Latch { leg, from, stream },
                Event::Unreachable { leg } => Input::Unreachable { leg },
                Event::Retired(_) => continue,
            };
            self.control.handle_input(self.clock.now(), input);
        }
        heard
    }

    /// When a sender wakes. It prepares when it has to look again.
    fn wakes(&mut self, index: usize) -> MediaTime {
        let now = self.clock.now();
        let sender = &mut self.senders[index];
        // What waits for it wakes it as soon as it has time.
        if sender.stalled_until > now.mono && (sender.wakes.is_none() || !sender.orders.is_empty()) {
            return sender.stalled_until;
        }
        if let Some(wakes) = sender.wakes {
            return wakes;
        }
        let due = sender.pacer.prepare(now);
        let wakes = if due == MediaTime::NEVER {
            due
        } else {
            due.max(now.mono) + self.settings.lateness.mul_f64(self.rng.random::<f64>())
        };
        sender.wakes = Some(wakes);
        wakes
    }

    fn senders_work(&mut self) {
        let now = self.now();
        for sender in &mut self.senders {
            if sender.stalled_until > now || sender.wakes.is_none_or(|wakes| wakes > now) {
                continue;
            }
            sender.pacer.send(now, &mut self.network.port(now, sender.local));
            sender.pacer.settle(now, now);
            sender.wakes = None;
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let now = self.clock.now();
        if let Some(sender) = self.senders.iter_mut().find(|sender| sender.local == to) {
            sender.pacer.handle_datagram(now, from, datagram);
        } else if let Some(phone) = self.phones.get_mut(&to) {
            phone.hear(now.mono, from, datagram);
        } else if let Some(sender) = self.senders.iter_mut().find(|sender| sender.local == from) {
            sender.pacer.handle_unreachable(now.mono, to);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "this world was made of seed {0}; {1}={0} replays it",
                self.seed,
                crate::seed::SEED_VARIABLE
            );
        }
    }
}

fn local(sender: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 20_000 + 2 * sender))
}

fn leg(phone: SocketAddr) -> Value {
    json!({ "rtp": { "address": phone.to_string(), "codec": "opus", "payloadType": 111 } })
}
