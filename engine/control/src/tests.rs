//! Stories: inputs are told to control, and what it says is compared line by line. At the end everything at once
//! and at random.

mod announcing;
mod around;
mod codecs;
mod deliveries;
mod listening;
mod offers;
mod overview;
mod peers;
mod races;
mod refresh;
mod shelved;
mod stories;
mod theirs;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use expect_test::Expect;
use holdmusic_codecs::Codec;
use holdmusic_media::{
    AnnouncementId, HoldReport, LegId, MediaTime, Now, Numbering, SourceId, WallTime,
    rtp::{SeqNo, Ssrc, Timestamp},
};
use serde_json::Value;

use crate::{
    Answer, Ask, CallId, Control, DeliveryOutcome, Freshness, Input, NotificationId, Output, ParticipantId,
    PromptCause, PromptFailure, Refusal, RequestId, Settings, SourceFacts,
    access::{Caller, Identity, Limits},
    graph::{Query, read_create_call, read_create_participant, read_start_hold_music, read_stop_hold_music},
    record::Write,
};

const BASE: &str = "http://127.0.0.1:8080/v1.0";

/// What control has said since it was last listened to.
fn check(desk: &mut Desk, expected: &Expect) {
    expected.assert_eq(&desk.heard());
}

/// An application of the one tenant that there is.
fn caller(app: &str, limits: Limits) -> Arc<Caller> {
    Arc::new(Caller::by_static_token(Identity::new(app, "tenant"), limits))
}

/// Control and everybody around it.
struct Desk {
    control: Control,
    millis: u64,
    requests: u64,
    /// Who asks.
    caller: Arc<Caller>,
    /// What control said and nobody has looked at.
    said: Vec<Output>,
    /// Notifications are accepted as they come.
    receiver_answers: bool,
    /// Media reports at once what it is told to stop.
    media_answers: bool,
    /// The store has at once what it is told to write.
    store_answers: bool,
    store: Store,
    crashes: u8,
    settings: Settings,
}

/// What is on disk, and what is on its way there.
#[derive(Default)]
struct Store {
    durable: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// As it will be when everything has arrived.
    written: BTreeMap<Box<[u8]>, Box<[u8]>>,
    waiting: VecDeque<(u64, Vec<Write>)>,
}

impl Store {
    fn apply(records: &mut BTreeMap<Box<[u8]>, Box<[u8]>>, writes: &[Write]) {
        for Write { key, value } in writes {
            match value {
                Some(value) => records.insert(key.clone(), value.clone()),
                None => records.remove(key),
            };
        }
    }

    fn take(&mut self, ticket: u64, writes: &[Write]) {
        Self::apply(&mut self.written, writes);
        self.waiting.push_back((ticket, writes.to_vec()));
    }

    /// The next change reaches the disk, if there is one: its ticket.
    fn write(&mut self) -> Option<u64> {
        let (ticket, writes) = self.waiting.pop_front()?;
        Self::apply(&mut self.durable, &writes);
        Some(ticket)
    }

    /// What has not reached the disk is lost.
    fn crash(&mut self) {
        self.waiting.clear();
        self.written = self.durable.clone();
    }
}

impl Desk {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut settings = settings;
        settings.guard.callback_loopback = true;
        if settings.media_locals.is_empty() {
            settings.media_locals = vec!["127.0.0.1:20000".parse().unwrap(), "[::1]:20000".parse().unwrap()];
        }
        Self {
            control: Control::new(settings.clone(), [42; 32]),
            settings,
            store: Store::default(),
            crashes: 0,
            store_answers: true,
            millis: 0,
            requests: 0,
            caller: caller("bot", Limits::NONE),
            said: Vec::new(),
            receiver_answers: true,
            media_answers: true,
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: MediaTime::from_millis(self.millis),
            wall: WallTime(1_700_000_000_000_000 + i64::try_from(self.millis).unwrap() * 1000),
        }
    }

    fn tell(&mut self, input: Input) {
        self.control.handle_input(self.now(), input);
        self.listen();
    }

    fn listen(&mut self) {
        while let Some(output) = self.control.poll_output() {
            let reaction = match &output {
                Output::Notify { notification, .. } if self.receiver_answers => {
                    Some(Input::Delivered { notification: *notification, outcome: DeliveryOutcome::Accepted })
                }
                Output::Stop { leg } | Output::RemoveLeg { leg } if self.media_answers => {
                    Some(self.report(*leg))
                }
                Output::Persist { ticket, writes } => {
                    self.store.take(*ticket, writes);
                    if let Some(ticket) = self.store_answers.then(|| self.store.write()).flatten() {
                        self.control.handle_input(self.now(), Input::Stored { ticket });
                    }
                    continue;
                }
                Output::Load { request, prefix } => {
                    let records = self.store.durable.iter().filter(|(key, _)| key.starts_with(prefix));
                    let records = Ok(records.map(|(key, value)| (key.clone(), value.clone())).collect());
                    let request = *request;
                    self.control.handle_input(self.now(), Input::Loaded { request, records });
                    continue;
                }
                // One for every hold that begins; what it measures is tested by reading operations.
                Output::FirstPacket { .. } => continue,
                _ => None,
            };
            self.said.push(output);
            if let Some(reaction) = reaction {
                self.control.handle_input(self.now(), reaction);
            }
        }
    }

    fn report(&self, leg: LegId) -> Input {
        self.report_as(leg, Ssrc(9))
    }

    fn report_as(&self, leg: LegId, ssrc: Ssrc) -> Input {
        let report = HoldReport { packets: 7, payload_bytes: 560, ..HoldReport::default() };
        let (sequence, timestamp, at) = (SeqNo(10), Timestamp(11), self.now().mono);
        let next = Numbering { sequence, timestamp, at, ..Numbering::new(ssrc) };
        Input::Stopped { leg, report, next }
    }

    /// The engine dies and is started again: what the store had is all that is left.
    fn crash(&mut self) {
        self.store.crash();
        let records = self.store.durable.iter().map(|(key, value)| (&**key, &**value));
        self.crashes += 1;
        let seed = [self.crashes; 32];
        let (settings, now) = (self.settings.clone(), self.now());
        self.control = Control::restore(settings, seed, now, records).expect("what was written can be read");
        self.said.clear();
        self.listen();
    }

    /// Lets time pass, up to every timeout on the way.
    fn pass(&mut self, millis: u64) {
        let until = self.millis + millis;
        loop {
            let next = self.control.poll_timeout().as_nanos().div_ceil(1_000_000);
            if next > until {
                break;
            }
            self.millis = next.max(self.millis);
            self.control.handle_timeout(self.now());
            self.listen();
        }
        self.millis = until;
    }

    fn send(&mut self, ask: Ask) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        let (accepted, base, caller) = (self.now().mono, Arc::from(BASE), Arc::clone(&self.caller));
        self.tell(Input::Request { request, accepted, base, caller, ask });
        request
    }

    fn ask(&mut self, ask: Ask) -> Result<Answer, Refusal> {
        let request = self.send(ask);
        self.reply(request).expect("it is answered at once")
    }

    fn reply(&mut self, to: RequestId) -> Option<Result<Answer, Refusal>> {
        let at =
            self.said.iter().position(|o| matches!(o, Output::Reply { request, .. } if *request == to))?;
        match self.said.remove(at) {
            Output::Reply { result, .. } => Some(result),
            _ => unreachable!(),
        }
    }

    /// A call made with `body`'s members besides its callback.
    fn call(&mut self, hold_music: &str) -> CallId {
        let body =
            format!(r#"{{"callbackUri":"https://bot.contoso.com/api?sig=1","holdMusic":{hold_music}}}"#);
        let create = read_create_call(body.as_bytes()).unwrap();
        let answer = self.ask(Ask::CreateCall(create)).unwrap();
        CallId::read(json(&answer)["id"].as_str().unwrap()).unwrap()
    }

    fn participant(&mut self, call: CallId) -> ParticipantId {
        let body = br#"{"mediaLeg":{"rtp":{"address":"127.0.0.1:40000","codec":"opus","payloadType":111}}}"#;
        let create = read_create_participant(body).unwrap();
        let answer = self.ask(Ask::CreateParticipant { call, create }).unwrap();
        ParticipantId::read(json(&answer)["id"].as_str().unwrap()).unwrap()
    }

    /// A call with one participant; what was said about it is forgotten.
    fn one(&mut self, hold_music: &str) -> (CallId, ParticipantId) {
        let call = self.call(hold_music);
        let participant = self.participant(call);
        self.said.clear();
        (call, participant)
    }

    fn start(
        &mut self,
        who: (CallId, ParticipantId),
        prompt: &str,
        context: &str,
    ) -> Result<Answer, Refusal> {
        let mut body = serde_json::json!({});
        if !prompt.is_empty() {
            body["customPrompt"] =
                serde_json::json!({ "mediaInfo": { "uri": format!("https://host/{prompt}") } });
        }
        if !context.is_empty() {
            body["clientContext"] = context.into();
        }
        let start = read_start_hold_music(body.to_string().as_bytes()).unwrap();
        self.ask(Ask::StartHoldMusic { call: who.0, participant: who.1, start })
    }

    fn stop(&mut self, who: (CallId, ParticipantId)) -> Result<Answer, Refusal> {
        let stop = read_stop_hold_music(b"").unwrap();
        let request = self.send(Ask::StopHoldMusic { call: who.0, participant: who.1, stop });
        self.reply(request).expect("media has reported")
    }

    fn ready(&mut self, source: u64) {
        self.ready_and(source, Freshness::FOR_EVER);
    }

    fn ready_and(&mut self, source: u64, freshness: Freshness) {
        let facts = SourceFacts {
            seconds: 2.0,
            whole: true,
            format: "WAV".into(),
            gain_db: -1.5,
            ready_at: self.now().mono,
            bytes: 1000,
            freshness,
        };
        self.tell(Input::SourceReady { source: SourceId(source), codec: Codec::Opus, facts });
    }

    fn fail(&mut self, source: u64) {
        let failure = PromptFailure::new(PromptCause::HttpStatus, "HTTP status 404 from host");
        self.tell(Input::SourceFailed { source: SourceId(source), codec: Codec::Opus, failure });
    }

    fn started(&mut self, leg: u64, source: u64) {
        let sent_at = self.now().mono;
        self.tell(Input::Started { leg: LegId(leg), source: SourceId(source), sent_at });
    }

    fn delivered(&mut self, notification: NotificationId, outcome: DeliveryOutcome) {
        self.tell(Input::Delivered { notification, outcome });
    }

    fn read(&mut self, who: (CallId, ParticipantId)) -> Value {
        let query = Query::default();
        json(&self.ask(Ask::GetParticipant { call: who.0, participant: who.1, query }).unwrap())
    }

    /// What was said since the last time, a line each.
    fn heard(&mut self) -> String {
        std::mem::take(&mut self.said).iter().map(|output| line(output) + "\n").collect()
    }
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(answer.body.as_deref().unwrap()).unwrap()
}

fn line(output: &Output) -> String {
    match output {
        Output::Reply { result: Ok(answer), .. } => format!("reply {}", answer.status),
        Output::Reply { result: Err(refusal), .. } => format!("reply {refusal}"),
        Output::Prepare { source, codec, prompt, instead_of, unasked } => {
            let older = instead_of.map(|older| format!(" instead of {}", older.0)).unwrap_or_default();
            let unasked = if *unasked { ", unasked" } else { "" };
            let codec = Some(codec).filter(|codec| **codec != Codec::Opus);
            let codec = codec.map(|codec| format!(" in {codec:?}")).unwrap_or_default();
            format!("prepare {} {}{codec}{older}{unasked}", source.0, prompt.origin.redacted())
        }
        Output::Load { .. } => "load".to_owned(),
        Output::Persist { writes, .. } => format!("persist {}", writes.len()),
        Output::Purge { prompt } => {
            let what = prompt.as_ref().map_or("everything".to_owned(), |prompt| prompt.origin.redacted());
            format!("purge {what}")
        }
        Output::Release { source, codec: None } => format!("release {}", source.0),
        Output::Release { source, codec: Some(codec) } => format!("release {} in {codec:?}", source.0),
        Output::AddLeg { leg, spec } => format!("add leg {} to {}", leg.0, spec.destination),
        Output::ChangeLeg { leg, spec } => format!("change leg {} to {}", leg.0, spec.destination),
        Output::Play { leg, source, since, .. } => {
            let since = since.map(|since| format!(", on since {} ms", since.0 * 20));
            format!("play {} on leg {}{}", source.0, leg.0, since.unwrap_or_default())
        }
        Output::Announce { leg, announcement, source, frames } => {
            format!("announce {} on leg {}: {frames} frames of {}", announcement.0, leg.0, source.0)
        }
        Output::Follow { leg, leader } => format!("leg {} follows leg {}", leg.0, leader.0),
        Output::Hush { leg } => format!("hush leg {}", leg.0),
        Output::Admit { leg, resumed, .. } => {
            let resumed = resumed.map(|address| format!(", known at {address}")).unwrap_or_default();
            format!("admit a peer to leg {}{resumed}", leg.0)
        }
        Output::Dismiss { leg } => format!("dismiss the peer of leg {}", leg.0),
        Output::FirstPacket { latency, .. } => format!("first packet after {} ms", latency.as_millis()),
        Output::Stop { leg } => format!("stop leg {}", leg.0),
        Output::RemoveLeg { leg } => format!("remove leg {}", leg.0),
        Output::Notify { body, attempt, .. } => {
            let body: Value = serde_json::from_str(body).unwrap();
            let told = &body["value"][0];
            let retry = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            let change = told["changeType"].as_str().unwrap();
            let data = &told["resourceData"];
            let what = match data.as_array() {
                Some(roster) => {
                    let states: Vec<_> = roster
                        .iter()
                        .map(|p| {
                            let hold = &p["holdMusic"];
                            let ended =
                                hold["endedBy"].as_str().map(|by| format!("/{by}")).unwrap_or_default();
                            format!(
                                "{}:{}{ended}",
                                p["mediaStreams"][0]["direction"].as_str().unwrap(),
                                hold["state"].as_str().unwrap()
                            )
                        })
                        .collect();
                    format!("roster [{}]", states.join(", "))
                }
                None => {
                    let word = data["status"].as_str().or(data["state"].as_str()).unwrap();
                    let context = data["clientContext"].as_str().map(|c| format!(" {c}")).unwrap_or_default();
                    let result = &data["resultInfo"];
                    let result = match result["message"].as_str() {
                        Some(message) => format!(" {}/{} {message}", result["code"], result["subcode"]),
                        None => String::new(),
                    };
                    format!("{word}{context}{result}")
                }
            };
            format!("notify {change} {what}{retry}")
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
