//! Requests to decisions: what enters is an [`Input`], what leaves is an [`Output`]. Control never touches a
//! clock, a socket, a disk or a thread; it is the only owner of calls, participants, operations and notifications.
//!
//! It speaks three verbs. [`Control::handle_input`] takes what happened, [`Control::poll_output`] gives what is to
//! be done, until `None`, and [`Control::poll_timeout`] tells when [`Control::handle_timeout`] wants to be called.
//! The doors perform outputs in the order in which they leave.

pub mod access;
mod announce;
pub mod ask;
pub mod call;
pub mod cause;
pub mod data_uri;
pub mod graph;
pub mod guard;
mod hold;
pub mod id;
mod legs;
mod listening;
pub mod negotiation;
pub mod notification;
pub mod operation;
mod operations;
mod overview;
pub mod participant;
pub mod prompt;
mod receivers;
pub mod record;
mod roster;
pub mod settings;
mod stop;
mod timer;
pub mod transport;
pub mod undelivered;
pub mod whep;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    AnnouncementId, HoldReport, Keying, LegId, LegSpec, MediaTime, Now, Numbering, SourceId, Tick, pacer,
    rtp::Ssrc,
};
use rand::{SeedableRng, rngs::StdRng};
use url::Url;

use crate::{
    access::{Caller, Identity, OwnerKey, Owners, Standing},
    call::Call,
    cause::CauseCounts,
    graph::Writer,
    listening::{Listening, ListeningKey},
    notification::Notifications,
    operations::{Loading, Wanted},
    overview::Glance,
    participant::EndedBy,
    prompt::Prompts,
    receivers::Callback,
    record::{Durability, Made, Record, Write},
    settings::OnRestart,
    stop::OwedReport,
    timer::{Timer, Timers},
    transport::{Disconnection, IceCredentials, PeerOffer},
};

pub use ask::Ask;
pub use cause::{PromptCause, PromptFailure};
pub use data_uri::DataUri;
pub use graph::{Answer, Refusal};
pub use id::{CallId, GrantId, ListenerId, NotificationId, OperationId, ParticipantId, RequestId};
pub use notification::DeliveryOutcome;
pub use prompt::{DEFAULT_SOURCE, Freshness, Origin, Prompt, SourceFacts};
pub use settings::Settings;
pub use whep::{WhepAsk, WhepResource};

/// What enters.
#[derive(Debug)]
pub enum Input {
    /// A door passes on what a customer asked, already parsed (`graph.rs`). Answered by one [`Output::Reply`].
    Request {
        /// To be repeated in the reply.
        request: RequestId,
        /// When the door accepted the request: latencies and deadlines count from here.
        accepted: MediaTime,
        /// What URLs in the answer begin with, without a slash at its end: "https://host/v1.0". The door makes it
        /// of `--public-url` or the request's own host, and of the version in the request's path.
        base: Arc<str>,
        /// Who asks.
        caller: Arc<Caller>,
        /// What is asked.
        ask: Ask,
    },
    /// A source can be played in a codec from its first frame (more frames may still be on their way). Told again when more is
    /// known about it.
    SourceReady {
        /// Which.
        source: SourceId,
        /// In what.
        codec: Codec,
        /// What is known about it.
        facts: SourceFacts,
    },
    /// The origin says that a source is what it was to be instead of ([`Output::Prepare`]).
    SourceUnchanged {
        /// Which.
        source: SourceId,
        /// In what it was to be prepared.
        codec: Codec,
        /// How long that is good for.
        freshness: Freshness,
    },
    /// A prompt could not be made playable in a codec. Also told after `SourceReady` if it broke later.
    SourceFailed {
        /// Which.
        source: SourceId,
        /// In what.
        codec: Codec,
        /// Why.
        failure: PromptFailure,
    },
    /// The first packet since `Play` left on a leg: of a hold, or of a change of music. The sender tells it before
    /// the `Stopped` of that hold.
    Started {
        /// Where.
        leg: LegId,
        /// What the packet belongs to.
        source: SourceId,
        /// When it left.
        sent_at: MediaTime,
    },
    /// An announcement has been heard to its end on a leg.
    Announced {
        /// Where.
        leg: LegId,
        /// Which.
        announcement: AnnouncementId,
    },
    /// How a hold goes, told by the sender now and then; only for reading.
    Progress {
        /// Where.
        leg: LegId,
        /// What was sent so far.
        report: HoldReport,
    },
    /// The answer to `Stop` and `RemoveLeg`, one for each, in their order: the hold's report (of zeros if there was
    /// none), and the numbering of the next packet.
    Stopped {
        /// Where.
        leg: LegId,
        /// What was sent.
        report: HoldReport,
        /// What the next packet will carry.
        next: Numbering,
    },
    /// The receiver said RTCP BYE for its side.
    Bye {
        /// Which leg's.
        leg: LegId,
    },
    /// The destination has answered "port unreachable" throughout the configured time.
    Unreachable {
        /// Which leg's.
        leg: LegId,
    },
    /// The peer has proved to be at another address than the leg goes to.
    Latch {
        /// Which leg's.
        leg: LegId,
        /// Where it is.
        from: SocketAddr,
        /// Which of its two streams came from there.
        stream: pacer::Stream,
    },
    /// The peer of a WebRTC leg has sent a check, or sends them from where media may not be sent to.
    PeerSeen {
        /// Which leg's.
        leg: LegId,
        /// That address.
        refused: Option<IpAddr>,
    },
    /// The peer of a WebRTC leg can hear, or wants to elsewhere.
    Connected {
        /// Which leg's.
        leg: LegId,
        /// Where packets are to go.
        destination: SocketAddr,
        /// What they are protected with; `None` if that has not changed.
        keying: Option<Box<Keying>>,
    },
    /// The peer of a WebRTC leg never came, has gone, or no longer asks for packets.
    Disconnected {
        /// Which leg's.
        leg: LegId,
        /// What the peer that was to be heard last on that leg calls us: another one may be about to be admitted by now.
        name: String,
        /// Why.
        why: Disconnection,
    },
    /// A peer that was to take the place of one that is connected has come to nothing, and that one goes on.
    NotReplaced {
        /// Which leg's.
        leg: LegId,
        /// What the peer calls us that did not come.
        name: String,
    },
    /// How the delivery of a notification went.
    Delivered {
        /// Which.
        notification: NotificationId,
        /// How.
        outcome: DeliveryOutcome,
    },
    /// The store has everything up to this, and will not lose it.
    Stored {
        /// The `ticket` of an [`Output::Persist`].
        ticket: u64,
    },
    /// The answer to [`Output::Load`].
    Loaded {
        /// Which.
        request: RequestId,
        /// Key and value of each record, or why they cannot be read.
        records: Result<Vec<Record>, String>,
    },
    /// The store cannot write at present. It keeps trying, and tells [`Input::Stored`] when it can.
    StoreFailed {
        /// Why, for people and without secrets.
        reason: String,
    },
    /// SIGTERM: take no new holds.
    Drain,
}

/// What leaves. Performed by the doors in this order.
#[derive(Debug)]
pub enum Output {
    /// The answer to a request.
    Reply {
        /// Which.
        request: RequestId,
        /// What to say. The door makes the body of a refusal with [`graph::error_body`].
        result: Result<Answer, Refusal>,
        /// How much is left of what the caller may use, for the headers of the answer.
        standing: Standing,
    },
    /// Write all of this to the store, or nothing of it, behind what was to be written before. Answered by `Stored`.
    Persist {
        /// Counts upwards.
        ticket: u64,
        /// What to write.
        writes: Vec<Write>,
    },
    /// Read the records from the store whose keys begin so. Answered by `Loaded`.
    Load {
        /// To be repeated in the answer.
        request: RequestId,
        /// What keys begin with.
        prefix: Box<[u8]>,
    },
    /// Fetch, decode and encode a prompt for those who hear it in a codec. Answered by `SourceReady`, `SourceUnchanged` or
    /// `SourceFailed`.
    Prepare {
        /// Its name from now on, in all codecs.
        source: SourceId,
        /// What it is to be encoded with.
        codec: Codec,
        /// What was asked for.
        prompt: Prompt,
        /// The source that the same prompt was when it was last fetched: the origin is to be asked whether it still is.
        instead_of: Option<SourceId>,
        /// What is kept of it is as good as what its origin has now, and need not be asked about: it is to go on after a
        /// restart.
        unasked: bool,
    },
    /// What is kept of a prompt beyond this process, or of all prompts, is to be thrown away.
    Purge {
        /// Which; `None` is all of them.
        prompt: Option<Prompt>,
    },
    /// Nobody listens to the source any more and nobody will; its preparation is to be given up if it still goes
    /// on. Nothing needs to be told about it any more.
    Release {
        /// Which.
        source: SourceId,
        /// In what; `None` is in every codec.
        codec: Option<Codec>,
    },
    /// A leg exists from now on (it sends nothing until `Play`).
    AddLeg {
        /// Its name.
        leg: LegId,
        /// What it is made of.
        spec: LegSpec,
    },
    /// A leg was negotiated anew, perhaps in the middle of a hold, which goes on: from the next packet on the
    /// destination, RTCP, codec and payload type of `spec` hold. Sender, numbering and cname stay as they are; the
    /// `numbering` in `spec` is that of the leg's first packet and is to be passed over.
    ChangeLeg {
        /// Which.
        leg: LegId,
        /// What it is made of now.
        spec: LegSpec,
    },
    /// Play a source, in the codec of a leg, from its first frame on that leg (but see `since`): starts a hold, or changes its
    /// music at the next packet. Behind a `ChangeLeg` with another codec the same source goes on in its place.
    /// Answered by `Started` when the first packet of that source has left.
    Play {
        /// Where.
        leg: LegId,
        /// What.
        source: SourceId,
        /// Whether it plays for want of what was asked for, or because nothing was: for the report. A prompt that was
        /// asked for is not default music, even if it is somebody's default.
        is_default: bool,
        /// The numbering that the first packet shall carry instead of the leg's own (`holdMusic.rtpState`); only
        /// at the start of a hold.
        numbering: Option<Numbering>,
        /// The leg takes the place of another, on which this source was first heard in this tick, or the engine was started
        /// again: it does not begin with its first frame but goes on where it would be there.
        since: Option<Tick>,
    },
    /// Play the first `frames` of a source once on a leg, behind what was announced there before, in place of the music of a
    /// hold or without one. Answered by `Announced` at its end, unless `Hush`, `Stop` or `RemoveLeg` comes before.
    Announce {
        /// Where.
        leg: LegId,
        /// Its name.
        announcement: AnnouncementId,
        /// What.
        source: SourceId,
        /// How much of it.
        frames: u64,
    },
    /// Announce nothing more on a leg: the music of its hold is heard again.
    Hush {
        /// Where.
        leg: LegId,
    },
    /// A leg that was just added is sent a copy of every packet that another one sends, as long as both are there.
    Follow {
        /// Which.
        leg: LegId,
        /// The other.
        leader: LegId,
    },
    /// Send nothing more on this leg. Answered by `Stopped`.
    Stop {
        /// Where.
        leg: LegId,
    },
    /// The leg goes away: stop, RTCP BYE. Answered by `Stopped`.
    RemoveLeg {
        /// Which.
        leg: LegId,
    },
    /// A WebRTC leg waits for its peer, to which packets will go by its sender's socket. If the leg has one already, this one
    /// takes its place when it is connected. Answered by `Connected` or `Disconnected`, and `Disconnected` can follow later.
    Admit {
        /// Which.
        leg: LegId,
        /// By whose socket.
        sender: usize,
        /// What the peer calls us by.
        local: IceCredentials,
        /// What it offered.
        offer: PeerOffer,
        /// Where it was connected before the engine was started again: it need not come again.
        resumed: Option<SocketAddr>,
    },
    /// A WebRTC leg has no peer any more, who is told. Nothing is answered.
    Dismiss {
        /// Which.
        leg: LegId,
    },
    /// The first packet of a hold left so long after its request was accepted: for the metrics.
    FirstPacket {
        /// Where.
        leg: LegId,
        /// From acceptance to the packet.
        latency: Duration,
    },
    /// POST this to a customer. Answered by `Delivered`.
    Notify {
        /// Its name; as a GUID the `X-Microsoft-Skype-Message-ID`, the same for every attempt.
        notification: NotificationId,
        /// Whose notification it is.
        call: CallId,
        /// Whose call it is: for the token that it is signed with.
        owner: Arc<Identity>,
        /// Where it goes. Secrets may be in it: redact it in logs.
        uri: Url,
        /// JSON.
        body: Arc<str>,
        /// 1 for the first attempt.
        attempt: u32,
    },
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that have not ended.
    pub calls: u64,
    /// Calls that have ended and are kept for reading.
    pub ended_calls: u64,
    /// Applications that ask or have calls.
    pub owners: u64,
    /// Participants registered.
    pub participants: u64,
    /// Participants on hold.
    pub held: u64,
    /// Who listens in on one.
    pub listeners: u64,
    /// Prompts prepared or being prepared.
    pub prompts: u64,
    /// Prompts being prepared.
    pub preparing: u64,
    /// Operations that can be read.
    pub operations: u64,
    /// Start operations accepted since the beginning; likewise below.
    pub starts: u64,
    /// Start operations completed with what was asked for.
    pub starts_completed: u64,
    /// Start operations completed with default music because the prompt failed.
    pub starts_with_failed_prompt: u64,
    /// Start operations failed.
    pub starts_failed: u64,
    /// Stop operations accepted.
    pub stops: u64,
    /// Prompts that failed, by cause.
    pub prompt_failures: CauseCounts,
    /// Notifications owed and not yet delivered.
    pub notifications_pending: u64,
    /// Notifications delivered.
    pub notifications_delivered: u64,
    /// Notifications given up.
    pub notifications_undelivered: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Control {
    settings: Settings,
    rng: StdRng,
    owners: Owners,
    calls: BTreeMap<CallId, Box<Call>>,
    /// Where notifications of calls go: a bot has thousands of calls and few addresses.
    callbacks: BTreeSet<Arc<Callback>>,
    /// Ended calls that are kept for reading, and until when; oldest first.
    ended: VecDeque<(MediaTime, CallId)>,
    /// Ended operations by call and number, oldest first.
    over: VecDeque<(CallId, u64)>,
    legs: BTreeMap<LegId, (CallId, ParticipantId)>,
    listeners: BTreeMap<ListeningKey, Box<Listening>>,
    listening_legs: BTreeMap<LegId, ListeningKey>,
    /// How many legs each sender carries.
    legs_of_sender: Vec<usize>,
    /// How many legs have it: one, unless customers hand the same one over twice.
    ssrcs: BTreeMap<Ssrc, usize>,
    /// Reports that media owes, in their order.
    reports: BTreeMap<LegId, VecDeque<OwedReport>>,
    prompts: Prompts,
    /// The source of the server's default prompt.
    server_default: Option<SourceId>,
    notifications: Notifications,
    /// Calls that may have something to be told; told after the reply to the request that caused it.
    to_notify: Vec<CallId>,
    timers: Timers,
    outputs: VecDeque<Output>,
    counts: Counts,
    last_call: u64,
    last_leg: u64,
    last_report: u64,
    last_announcement: u64,
    draining: bool,
    durability: Durability,
    /// What the console sees.
    glance: Glance,
    /// Operations that are over, and the change with which that goes to the store.
    settled: VecDeque<(u64, CallId, OperationId)>,
    /// What the request that is being done has made.
    made: Option<Made>,
    /// Requests that wait for what the store has.
    loading: BTreeMap<RequestId, Loading>,
}

impl Control {
    /// An empty house. All ids and random numbers come from `seed`.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let mut control = Self {
            rng: StdRng::from_seed(seed),
            owners: Owners::default(),
            calls: BTreeMap::new(),
            callbacks: BTreeSet::new(),
            ended: VecDeque::new(),
            over: VecDeque::new(),
            legs: BTreeMap::new(),
            listeners: BTreeMap::new(),
            listening_legs: BTreeMap::new(),
            legs_of_sender: vec![0; settings.media_locals.len()],
            ssrcs: BTreeMap::new(),
            reports: BTreeMap::new(),
            prompts: Prompts::default(),
            server_default: None,
            notifications: Notifications::default(),
            to_notify: Vec::new(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            counts: Counts::default(),
            last_call: 0,
            last_leg: 0,
            last_report: 0,
            last_announcement: 0,
            draining: false,
            durability: Durability::default(),
            glance: Glance::default(),
            settled: VecDeque::new(),
            made: None,
            loading: BTreeMap::new(),
            settings,
        };
        control.server_source(MediaTime::ZERO, Codec::Opus);
        control
    }

    /// Takes what happened. Deadlines that have passed at `now` are handled first.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Request { request, accepted, base, caller, ask } => {
                self.request(now, request, accepted, &base, &caller, ask)
            }
            Input::SourceReady { source, codec, facts } => self.source_ready(now, source, codec, facts),
            Input::SourceUnchanged { source, codec, freshness } => {
                self.source_unchanged(now, source, codec, freshness);
            }
            Input::SourceFailed { source, codec, failure } => {
                self.source_failed(now, source, codec, &failure)
            }
            Input::Started { leg, source, sent_at } => self.started(now, leg, source, sent_at),
            Input::Announced { leg, announcement } => self.announced(now, leg, announcement),
            Input::Progress { leg, report } => self.progress(leg, report),
            Input::Stopped { leg, report, next } => self.stopped(now, leg, report, next),
            Input::Bye { leg } => self.end_by_leg(now, leg, EndedBy::Bye),
            Input::Latch { leg, from, stream } => self.latch(leg, from, stream),
            Input::Unreachable { leg } => self.end_by_leg(now, leg, EndedBy::Unreachable),
            Input::PeerSeen { leg, refused } => self.peer_seen(leg, refused),
            Input::Connected { leg, destination, keying } => {
                self.peer_connected(now, leg, destination, keying)
            }
            Input::Disconnected { leg, name, why } => self.peer_disconnected(now, leg, &name, why),
            Input::NotReplaced { leg, name } => self.peer_not_replaced(leg, &name),
            Input::Delivered { notification, outcome } => {
                let told =
                    self.notifications.outcome(now, notification, outcome, &self.settings, &mut self.rng);
                match told {
                    Some((call, Some(again))) => self.timers.set(again, Timer::Notify(call)),
                    Some((call, None)) => self.to_notify.push(call),
                    None => {}
                }
            }
            Input::Stored { ticket } => {
                self.stored(ticket);
                self.shelve();
            }
            Input::Loaded { request, records } => self.loaded(now.mono, request, records),
            Input::StoreFailed { reason } => self.store_failed(now, reason),
            Input::Drain => self.drain(now),
        }
        self.notify_all(now);
        self.commit(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.due(now.mono) {
            match timer {
                Timer::Grace(call, participant) => self.grace_over(now, call, participant),
                Timer::Bound(call, operation) => self.bound_over(now, call, operation),
                Timer::Longest(call, participant) => {
                    self.end_hold(now, call, participant, EndedBy::MaxDuration, None);
                }
                Timer::StopAnswer(leg, number) => self.stop_unanswered(now, leg, number),
                Timer::StopLost(leg, number) => self.report_lost(leg, number),
                Timer::Notify(call) => self.to_notify.push(call),
                Timer::Listening(leg) => drop(self.end_listening_of(leg)),
                Timer::Lifetime(call) => self.lifetime_over(now, call),
                Timer::Retention(call) => self.retention_over(call),
                Timer::Heartbeat => self.heartbeat(),
                Timer::Unused => self.drop_unused(now.mono),
            }
        }
        self.notify_all(now);
        self.commit(now);
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Control::handle_timeout`] wants to be called; [`MediaTime::NEVER`] if nothing waits.
    pub fn poll_timeout(&self) -> MediaTime {
        self.timers.next()
    }

    /// Numbers for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            owners: self.owners.len() as u64,
            prompts: self.prompts.len() as u64,
            preparing: self.prompts.preparing() as u64,
            notifications_pending: self.notifications.pending as u64,
            notifications_delivered: self.notifications.delivered,
            notifications_undelivered: self.notifications.given_up,
            ..self.counts
        }
    }

    fn notify_all(&mut self, now: Now) {
        if self.durability.is_failing() {
            // What they tell might not be so after a crash; all wait until the store has it.
            self.to_notify.sort_unstable();
            self.to_notify.dedup();
            return;
        }
        let calls = std::mem::take(&mut self.to_notify);
        for call in &calls {
            self.notifications.wait(now, *call, &self.settings);
        }
        while let Some(attempt) = self.notifications.attempt(now.mono, &self.settings) {
            self.notify(attempt);
        }
        // Whose turn did not come at once may have to be given up.
        for call in calls {
            if let Some(until) = self.notifications.timer(call) {
                self.timers.set(until, Timer::Notify(call));
            }
        }
    }

    fn request(
        &mut self,
        now: Now,
        request: RequestId,
        accepted: MediaTime,
        base: &Arc<str>,
        caller: &Caller,
        ask: Ask,
    ) {
        let owner = match self.admit(now.mono, caller, &ask) {
            Ok(owner) => owner,
            Err((owner, refusal)) => return self.reply(now.mono, request, None, owner, Err(refusal)),
        };
        let about = (ask.call(), ask.is_new_work());
        self.made = None;
        if about.1
            && let Err(refusal) = self.takes_new_work()
        {
            return self.reply(now.mono, request, None, Some(owner), Err(refusal));
        }
        let result = match ask {
            Ask::Refused(refusal) => Err(refusal),
            Ask::CheckPrompt => Ok(Answer { status: 200, location: None, body: None }),
            Ask::CreateCall(create) => self.create_call(now, base, owner, create),
            Ask::ListCalls { query } => Ok(self.list_calls(base, owner, &query)),
            Ask::Overview { .. } => Ok(self.overview(now, owner)),
            Ask::GetCall { call, query } => {
                self.readable_call(call).map(|call| Writer { base }.call(200, call, &query))
            }
            Ask::DeleteCall { call } => self.delete_call(now, call),
            Ask::KeepAlive { call } => self.keep_alive(now, call),
            Ask::CreateParticipant { call, create } => self.create_participant(now, base, call, create),
            Ask::ListParticipants { call, query } => {
                self.readable_call(call).map(|call| Writer { base }.participants(call, &query))
            }
            Ask::GetParticipant { call, participant, query } => self.readable_call(call).and_then(|call| {
                let (found, locals) = (call.participant(participant)?, &self.settings.media_locals);
                Ok(Writer { base }.participant(200, call, found, locals, &query))
            }),
            Ask::DeleteParticipant { call, participant } => self.delete_participant(now, call, participant),
            Ask::PutMediaLeg { call, participant, offer } => {
                self.put_leg(now, base, call, participant, &offer)
            }
            Ask::GetMediaLeg { call, participant } => self.read_leg(base, call, participant),
            Ask::DeleteMediaLeg { call, participant } => self.delete_leg(now, call, participant),
            Ask::Whep { call, participant, ask } => self.whep(now, base, (call, participant), ask),
            Ask::StartHoldMusic { call, participant, start } => {
                self.start_hold(now, accepted, base, (call, participant), start)
            }
            Ask::StopHoldMusic { call, participant, stop } => {
                match self.stop_hold(now, (request, accepted, base), (call, participant), stop) {
                    Some(result) => result,
                    // Answered when the report is in.
                    None => return,
                }
            }
            Ask::MuteCall { call, mute } => self.mute_call(accepted, base, call, mute),
            Ask::MuteParticipant { call, participant, mute } => {
                self.mute_participant(now, accepted, base, (call, participant), mute)
            }
            Ask::PlayPrompt { call, play } => self.play_prompt(now, accepted, base, call, play),
            Ask::CancelMedia { call, cancel } => self.cancel_media(now, accepted, base, call, cancel),
            Ask::Invite { call, invite } => self.invite(now, accepted, base, call, invite),
            Ask::PurgePrompts { prompt } => Ok(self.purge(now.mono, prompt)),
            Ask::ListUndelivered { query } => Ok(self.list_undelivered(base, owner, &query)),
            Ask::GetUndelivered { notification, query } => {
                self.read_undelivered(base, owner, notification, &query)
            }
            Ask::DropUndelivered { notification } => self.drop_undelivered(owner, notification),
            Ask::Redeliver { notification } => self.redeliver(now, base, owner, notification),
            Ask::RedeliverAll => Ok(self.redeliver_all(now, owner)),
            Ask::ListOperations { call, query } => {
                match self.read_operations(request, base, owner, call, Wanted::All(query)) {
                    Some(result) => result,
                    // Answered when the store has been asked.
                    None => return,
                }
            }
            Ask::GetOperation { call, operation, query } => {
                match self.read_operations(request, base, owner, call, Wanted::One(operation, query)) {
                    Some(result) => result,
                    None => return,
                }
            }
        };
        let made = about.1.then(|| self.made.take().unwrap_or(Made::Other));
        self.reply(now.mono, request, Some((about.0, made)), Some(owner), result);
    }

    /// Whose a request is, if it may be done: whoever asks has requests left, and the call is theirs.
    fn admit(
        &mut self,
        now: MediaTime,
        caller: &Caller,
        ask: &Ask,
    ) -> Result<OwnerKey, (Option<OwnerKey>, Refusal)> {
        let known = self.owners.know(now, caller, self.settings.max_owners);
        let owner = known.map_err(|refusal| (None, refusal))?;
        if !matches!(ask, Ask::Overview { again: true }) {
            self.owners.take_request(now, owner).map_err(|refusal| (Some(owner), refusal))?;
        }
        match ask.call().and_then(|id| self.calls.get(&id)) {
            Some(call) if call.owner != owner => Err((Some(owner), Refusal::not_theirs(call.id))),
            _ => Ok(owner),
        }
    }

    fn reply(
        &mut self,
        now: MediaTime,
        request: RequestId,
        about: Option<(Option<CallId>, Option<Made>)>,
        owner: Option<OwnerKey>,
        result: Result<Answer, Refusal>,
    ) {
        let standing = owner.map(|owner| self.owners.standing(now, owner)).unwrap_or_default();
        let output = Output::Reply { request, result, standing };
        match about {
            Some((call, made)) => self.promise(call, output, made),
            None => self.outputs.push_back(output),
        }
    }

    /// SIGTERM: no new holds; those that there are end only if they are not to go on after a restart.
    fn drain(&mut self, now: Now) {
        self.draining = true;
        if self.settings.on_restart == OnRestart::Resume {
            return;
        }
        let everybody = self
            .calls
            .values()
            .flat_map(|call| call.participants.values().map(|participant| (call.id, participant.id)));
        for (call, id) in everybody.collect::<Vec<_>>() {
            self.end_hold(now, call, id, EndedBy::Restart, None);
            self.stop_announcing(now, call, id);
            self.say_goodbye(now, call, id);
        }
    }
}

#[cfg(test)]
mod tests;
