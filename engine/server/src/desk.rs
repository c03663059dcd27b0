//! The desk: the thread that owns [`Control`]. Requests and tidings come in, and what control decides is done by the
//! doors. No policy is here.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, Sender, select};
use holdmusic_codecs::{Codec, DecodeLimits};
use holdmusic_control::{
    Control, DEFAULT_SOURCE, Freshness, Input, NotificationId, Output, PromptCause, PromptFailure, Refusal,
    RequestId, SourceFacts, access::Standing, prompt::Prompt,
};
use holdmusic_media::{
    Announcement, LegId, MediaTime, Music, Now, SourceId,
    pacer::{Command, Event},
    prepare::room,
    preserve::Preserved,
    ring::Reader,
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{AbortHandle, JoinSet},
};
use tracing::{debug, error, info, warn};

use crate::{
    cache::Hash,
    clock,
    mailbox::{
        BridgeWork, Chunk, Commander, PeerCommand, REQUEST_WAITS, Reply, Request, Tiding, Work, intake,
    },
    metrics::Metrics,
    not_ready::{Cause, NotReady},
    peers::PeerEvent,
    producer::begin_default_music,
    store::{Outbox, Read},
    supply::{Supplied, Supply},
    webhook::{Notification, Webhook},
};

/// Prompts fetched at the same time; with more, each would be slower than its deadline allows.
pub const FETCHES: usize = 64;

/// How often the metrics get control's counts.
const COUNTS_EVERY: Duration = Duration::from_millis(250);

/// How long notifications that are under way have before the desk leaves them to the engine that is started next.
const LAST_TOLD: Duration = Duration::from_millis(300);

/// What the desk works with.
pub struct Desk {
    /// Who decides.
    pub control: Control,
    /// What it has decided already.
    pub first: Vec<Output>,
    /// What customers ask.
    pub requests: Receiver<Request>,
    /// What doors and senders tell.
    pub tidings: Receiver<Tiding>,
    /// Where tasks of ours tell how they went.
    pub tell: Sender<Tiding>,
    /// The senders.
    pub commands: Vec<Commander>,
    /// The producers.
    pub work: Sender<Work>,
    /// The producers, for changes of music.
    pub bridges: Sender<BridgeWork>,
    /// Where fetches and deliveries run.
    pub runtime: Handle,
    /// Where prompts come from.
    pub supply: Supply,
    /// What a prompt may be: how long the ring is that is made for one.
    pub prompts: DecodeLimits,
    /// The default music in every codec that is in use, which is always ready.
    pub default_music: Vec<(Codec, Reader)>,
    /// What it is made of.
    pub default_content: Hash,
    /// The way to customers.
    pub webhook: Arc<Webhook>,
    /// The way to the disk.
    pub outbox: Outbox,
    /// And back.
    pub reads: Sender<Read>,
    /// The thread of WebRTC peers.
    pub peers: Sender<PeerCommand>,
    /// Why the engine is not ready, if it is not, for whoever asks.
    pub not_ready: Arc<NotReady>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What the desk remembers between inputs: ways back, never decisions.
struct State {
    desk: Desk,
    waiting: HashMap<RequestId, oneshot::Sender<Reply>>,
    last_request: u64,
    /// One rendition each.
    sources: HashMap<(SourceId, Codec), Prepared>,
    /// The sender of each leg, and what it carries.
    legs: HashMap<LegId, (usize, Codec)>,
    leave_by: Option<MediaTime>,
    tell_until: MediaTime,
    counted: MediaTime,
}

/// A source in one codec as the doors know it. Dropping it gives up what is still done for it.
struct Prepared {
    /// Where its frames are; besides those of legs and bridges this is the only reader.
    reader: Reader,
    fetch: Option<AbortHandle>,
    /// What it is made of, once all of it has come.
    content: Option<Hash>,
    /// How long it is good. As long as it arrives nobody asks for it again.
    freshness: Freshness,
    /// Whether it may be kept beyond this process, and is not already.
    may_be_kept: bool,
    /// What control was told of it.
    facts: Option<SourceFacts>,
}

impl Prepared {
    fn new(reader: Reader, fetch: Option<AbortHandle>) -> Self {
        Self { reader, fetch, content: None, freshness: Freshness::FOR_EVER, may_be_kept: false, facts: None }
    }

    /// What is to be kept: all of it has come, and its loop is closed.
    fn finished(&self) -> Option<(Hash, Preserved)> {
        let SourceFacts { seconds, format, gain_db, .. } = self.facts.clone()?;
        let preserved = Preserved { reader: self.reader.clone(), seconds, format, gain_db };
        (self.may_be_kept && self.reader.is_closed()).then_some((self.content?, preserved))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(fetch) = &self.fetch {
            fetch.abort();
        }
    }
}

impl Desk {
    /// Works until it is told to drain and everything is durable. The senders play on as long as somebody has their
    /// commanders.
    pub fn run(self) -> Vec<Commander> {
        let default_music = self.default_music.iter().map(|(codec, reader)| {
            let mut prepared = Prepared::new(reader.clone(), None);
            (prepared.content, prepared.may_be_kept) = (Some(self.default_content), true);
            ((DEFAULT_SOURCE, *codec), prepared)
        });
        let sources = default_music.collect();
        let mut state = State {
            desk: self,
            waiting: HashMap::new(),
            last_request: 0,
            sources,
            legs: HashMap::new(),
            leave_by: None,
            tell_until: MediaTime::NEVER,
            counted: MediaTime::ZERO,
        };
        for output in std::mem::take(&mut state.desk.first) {
            state.perform(output);
        }
        while !state.may_leave() {
            state.step();
        }
        state.desk.commands
    }
}

impl State {
    fn step(&mut self) {
        let now = clock::now();
        self.desk.metrics.desk_round(now.mono);
        if self.desk.control.poll_timeout() <= now.mono {
            self.desk.control.handle_timeout(now);
        }
        while let Some(output) = self.desk.control.poll_output() {
            self.perform(output);
        }
        self.desk.outbox.send(now.mono);
        if let Some(reason) = self.desk.outbox.has_stalled(now.mono) {
            self.hear(now, Tiding::StoreFailed { reason });
            return;
        }
        if now.mono.since(self.counted) >= COUNTS_EVERY {
            self.counted = now.mono;
            self.desk.metrics.set_control(self.desk.control.counts());
        }
        let next = self.desk.control.poll_timeout().min(self.desk.outbox.deadline());
        let wait = next.since(now.mono).min(COUNTS_EVERY);
        select! {
            recv(self.desk.requests) -> request => {
                if let Ok(request) = request {
                    self.ask(clock::now(), request);
                }
            }
            recv(self.desk.tidings) -> tiding => {
                if let Ok(tiding) = tiding {
                    self.hear(clock::now(), tiding);
                }
            }
            default(wait) => {}
        }
    }

    fn ask(&mut self, now: Now, request: Request) {
        let Request { ask, accepted, queued, base, caller, reply } = request;
        if now.mono.since(queued) > REQUEST_WAITS {
            let words = "The request has waited for too long: the engine has more than it can take.";
            let result = Err(Refusal::unavailable(words, 1));
            let _ = reply.send(Reply { result, standing: Standing::default() });
            return;
        }
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.waiting.insert(request, reply);
        self.desk.control.handle_input(now, Input::Request { request, accepted, base, caller, ask });
    }

    fn hear(&mut self, now: Now, tiding: Tiding) {
        let input = match tiding {
            Tiding::Media(Event::Started { leg, source, sent_at }) => Input::Started { leg, source, sent_at },
            Tiding::Media(Event::Stopped { leg, report, next }) => Input::Stopped { leg, report, next },
            Tiding::Media(Event::Announced { leg, announcement }) => Input::Announced { leg, announcement },
            Tiding::Media(Event::Progress { leg, report }) => Input::Progress { leg, report },
            Tiding::Peer(PeerEvent::Seen { leg, refused }) => Input::PeerSeen { leg, refused },
            Tiding::Peer(PeerEvent::Connected { leg, destination, keying }) => {
                Input::Connected { leg, destination, keying }
            }
            Tiding::Peer(PeerEvent::Disconnected { leg, name, why }) => {
                Input::Disconnected { leg, name, why }
            }
            Tiding::Peer(PeerEvent::NotReplaced { leg, name }) => Input::NotReplaced { leg, name },
            Tiding::Media(Event::Bye { leg }) => Input::Bye { leg },
            Tiding::Media(Event::Latch { leg, from, stream }) => Input::Latch { leg, from, stream },
            Tiding::Media(Event::Unreachable { leg }) => Input::Unreachable { leg },
            Tiding::Media(Event::Crossing { leg, crossing }) => {
                if let Err(full) = self.desk.bridges.try_send(BridgeWork { leg, crossing }) {
                    let source = full.into_inner().crossing.source;
                    self.command(leg, Command::Bridge { leg, source, bridge: None });
                }
                return;
            }
            Tiding::Bridged { leg, source, bridge } => {
                // Removed meanwhile: then nobody waits for it.
                if self.legs.contains_key(&leg) {
                    self.command(leg, Command::Bridge { leg, source, bridge });
                }
                return;
            }
            // Dropped here, where nobody waits for it.
            Tiding::Media(Event::Retired(_)) => return,
            Tiding::SourceReady { source, codec, reader, facts } => {
                // Released meanwhile: then nobody is to be told.
                let Some(prepared) = self.sources.get_mut(&(source, codec)) else { return };
                if let Some(reader) = reader {
                    prepared.reader = reader;
                }
                let facts = SourceFacts { freshness: prepared.freshness, ..facts };
                prepared.facts = Some(facts.clone());
                if source == DEFAULT_SOURCE {
                    return;
                }
                Input::SourceReady { source, codec, facts }
            }
            Tiding::Supplied { source, codec, supplied } => match self.supplied(now, source, codec, supplied)
            {
                Some(input) => input,
                None => return,
            },
            Tiding::SourceClosed { source, codec } => return self.keep(source, codec),
            Tiding::SourceFailed { source, codec, failure } => {
                if source == DEFAULT_SOURCE {
                    // Whoever wants it next has it tried again.
                    self.sources.remove(&(source, codec));
                    return error!(?codec, ?failure, "the default music cannot be played");
                }
                if !self.sources.contains_key(&(source, codec)) {
                    return;
                }
                Input::SourceFailed { source, codec, failure }
            }
            Tiding::Delivered { notification, outcome } => Input::Delivered { notification, outcome },
            Tiding::Stored { ticket } => {
                let took = self.desk.outbox.stored(now.mono);
                self.desk.metrics.committed(took);
                self.desk.not_ready.clear(Cause::Store);
                Input::Stored { ticket }
            }
            Tiding::Loaded { request, records } => Input::Loaded { request, records },
            Tiding::StoreFailed { reason } => {
                self.desk.outbox.refused();
                self.desk.metrics.store_refuses();
                self.desk.not_ready.say(Cause::Store, format!("the store cannot be written: {reason}"));
                Input::StoreFailed { reason }
            }
            Tiding::Drain { by } => {
                info!("draining: no new holds");
                self.leave_by = Some(by);
                self.tell_until = now.mono + LAST_TOLD;
                Input::Drain
            }
        };
        self.desk.control.handle_input(now, input);
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Reply { request, result, standing } => {
                if let Some(reply) = self.waiting.remove(&request) {
                    // A customer who has hung up misses the answer, not what was asked for.
                    let _ = reply.send(Reply { result, standing });
                }
            }
            Output::Persist { ticket, writes } => self.desk.outbox.gather(ticket, writes),
            Output::Load { request, prefix } => {
                if self.desk.reads.try_send(Read { request, prefix }).is_err() {
                    let records = Err("too many others wait for it".to_owned());
                    self.desk.control.handle_input(clock::now(), Input::Loaded { request, records });
                }
            }
            Output::Prepare { source, codec, prompt, instead_of, unasked } => {
                self.prepare((source, codec), prompt, instead_of, unasked);
            }
            Output::Purge { prompt } => {
                let cache = Arc::clone(&self.desk.supply.cache);
                cache.announce_purge();
                self.desk.runtime.spawn_blocking(move || cache.purge(prompt.as_ref()));
            }
            Output::Release { source, codec: Some(codec) } => {
                self.sources.remove(&(source, codec));
            }
            Output::Release { source, codec: None } => {
                for &codec in Codec::ALL {
                    self.sources.remove(&(source, codec));
                }
            }
            Output::AddLeg { leg, spec } => {
                self.legs.insert(leg, (spec.sender, spec.codec));
                self.have_default_music(spec.codec);
                self.command(leg, Command::AddLeg { leg, spec: Box::new(spec) });
            }
            Output::ChangeLeg { leg, spec } => {
                if let Some((_, codec)) = self.legs.get_mut(&leg) {
                    *codec = spec.codec;
                }
                self.have_default_music(spec.codec);
                self.command(leg, Command::ChangeLeg { leg, spec: Box::new(spec) });
            }
            Output::Play { leg, source, is_default, numbering, since } => {
                if let Some(music) = self.music(leg, source, is_default) {
                    self.command(leg, Command::Play { leg, music, numbering, since });
                }
            }
            Output::Announce { leg, announcement, source, frames } => {
                if let Some(music) = self.music(leg, source, false) {
                    let announcement = Announcement { id: announcement, music, frames };
                    self.command(leg, Command::Announce { leg, announcement });
                }
            }
            Output::Hush { leg } => self.command(leg, Command::Hush { leg }),
            Output::Follow { leg, leader } => self.command(leg, Command::Follow { leg, leader }),
            Output::Stop { leg } => self.command(leg, Command::Stop { leg }),
            Output::RemoveLeg { leg } => {
                self.command(leg, Command::RemoveLeg { leg });
                self.legs.remove(&leg);
            }
            Output::Admit { leg, sender, local, offer, resumed } => {
                self.tell_peers(PeerCommand::Admit { leg, sender, local, offer, resumed });
            }
            Output::Dismiss { leg } => self.tell_peers(PeerCommand::Dismiss { leg }),
            Output::FirstPacket { leg, latency } => {
                if let Some(&(sender, _)) = self.legs.get(&leg) {
                    let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                    self.desk.metrics.first_packet(sender, latency_ns);
                }
            }
            Output::Notify { notification, call, owner, uri, body, attempt } => {
                let call = call.to_string();
                let notification = Notification { id: notification, owner, uri, body, call, attempt };
                self.notify(notification);
            }
        }
    }

    /// What `source` sounds like on a leg.
    fn music(&mut self, leg: LegId, source: SourceId, is_default: bool) -> Option<Music> {
        let codec = self.legs.get(&leg).map(|(_, codec)| *codec)?;
        if source == DEFAULT_SOURCE {
            self.have_default_music(codec);
        }
        let reader = self.sources.get(&(source, codec)).map(|prepared| prepared.reader.clone());
        if reader.is_none() {
            error!(leg = leg.0, source = source.0, ?codec, "a source without frames was to be played");
        }
        Some(Music { source, reader: reader?, is_default })
    }

    /// A leg that is there may want to hear the default music at once. In most codecs it has been made before; not in short
    /// frames, which few legs ask for, and not for a leg from before a restart whose codec is not in use any more.
    fn have_default_music(&mut self, codec: Codec) {
        let default = (DEFAULT_SOURCE, codec);
        if !self.sources.contains_key(&default)
            && let Some(reader) = begin_default_music(&self.desk.work, codec)
        {
            let mut prepared = Prepared::new(reader, None);
            (prepared.content, prepared.may_be_kept) = (Some(self.desk.default_content), true);
            self.sources.insert(default, prepared);
        }
    }

    /// Their thread waits for nobody, so this waits for no longer than a handshake takes.
    fn tell_peers(&self, command: PeerCommand) {
        if self.desk.peers.send(command).is_err() {
            error!("the thread of WebRTC peers has ended");
        }
    }

    /// A sender takes thousands of commands a millisecond and never waits for us, so this waits for no longer.
    fn command(&mut self, leg: LegId, command: Command) {
        let Some(sender) = self.legs.get(&leg).and_then(|(sender, _)| self.desk.commands.get_mut(*sender))
        else {
            return error!(leg = leg.0, "a command for a leg without a sender");
        };
        if sender.send(command).is_err() {
            error!(leg = leg.0, "the sender of this leg has ended");
        }
    }

    fn prepare(
        &mut self,
        (source, codec): (SourceId, Codec),
        prompt: Prompt,
        instead_of: Option<SourceId>,
        unasked: bool,
    ) {
        let (writer, reader) = room(codec, &self.desk.prompts);
        let (into, chunks) = intake();
        let handed_over = hand_over(&self.desk.work, Work { source, codec, writer, chunks });
        let (supply, tell) = (self.desk.supply.clone(), self.desk.tell.clone());
        let before = instead_of.and_then(|older| self.sources.get(&(older, codec))?.content);
        let task = self.desk.runtime.spawn(async move {
            if let Err(failure) = handed_over {
                return tell_later(&tell, Tiding::SourceFailed { source, codec, failure }).await;
            }
            let began = clock::mono();
            // A panic there must not leave control waiting; and it ends with this task.
            let mut supplying = JoinSet::new();
            let bytes = into.clone();
            supplying.spawn(async move { supply.supply((&prompt, codec), before, unasked, &bytes).await });
            let supplied = supplying.join_next().await.and_then(Result::ok).unwrap_or_else(|| {
                error!(source = source.0, "supplying a prompt panicked; the prompt is refused");
                Err(PromptFailure::new(
                    PromptCause::ResponseInvalid,
                    "the origin's answer cannot be understood",
                ))
            });
            match supplied {
                Ok(supplied) => {
                    let took_ms = clock::mono().since(began).as_millis();
                    debug!(source = source.0, ?codec, took_ms, ?supplied, "a prompt is supplied");
                    tell_later(&tell, Tiding::Supplied { source, codec, supplied }).await;
                }
                // Behind what was passed on. Not wanted any more: then nobody is to be told.
                Err(failure) => drop(into.push(Chunk::Failed(failure)).await),
            }
        });
        self.sources.insert((source, codec), Prepared::new(reader, Some(task.abort_handle())));
    }

    /// What there is to be told to control when a prompt has been supplied.
    fn supplied(&mut self, now: Now, source: SourceId, codec: Codec, supplied: Supplied) -> Option<Input> {
        let prepared = self.sources.get_mut(&(source, codec))?;
        let input = match supplied {
            Supplied::Unchanged { freshness } => {
                return Some(Input::SourceUnchanged { source, codec, freshness });
            }
            Supplied::Bytes { content, freshness, may_be_kept } => {
                prepared.content = Some(content);
                prepared.may_be_kept = may_be_kept;
                prepared.freshness = freshness;
                prepared.facts.as_mut().map(|facts| {
                    facts.freshness = freshness;
                    Input::SourceReady { source, codec, facts: facts.clone() }
                })
            }
            Supplied::Finished { content, preserved, freshness } => {
                let bytes = preserved.memory_bytes();
                let Preserved { reader, seconds, format, gain_db } = preserved;
                let ready_at = now.mono;
                let facts = SourceFacts { seconds, whole: true, format, gain_db, ready_at, bytes, freshness };
                prepared.reader = reader;
                prepared.content = Some(content);
                prepared.freshness = freshness;
                prepared.facts = Some(facts.clone());
                return Some(Input::SourceReady { source, codec, facts });
            }
        };
        self.keep(source, codec);
        input
    }

    /// Keeps what is finished beyond this process.
    fn keep(&self, source: SourceId, codec: Codec) {
        let Some((content, preserved)) = self.sources.get(&(source, codec)).and_then(Prepared::finished)
        else {
            return;
        };
        let cache = Arc::clone(&self.desk.supply.cache);
        self.desk.runtime.spawn_blocking(move || cache.keep(content, codec, &preserved));
    }

    /// At once: control says how many may be under way.
    fn notify(&self, notification: Notification) {
        let (webhook, tell) = (Arc::clone(&self.desk.webhook), self.desk.tell.clone());
        self.desk.runtime.spawn(async move {
            let outcome = webhook.deliver(&notification).await;
            let id: NotificationId = notification.id;
            tell_later(&tell, Tiding::Delivered { notification: id, outcome }).await;
        });
    }

    fn may_leave(&self) -> bool {
        let Some(by) = self.leave_by else { return false };
        let by_then = self.tell_until;
        if clock::mono() >= by {
            let owed = self.desk.control.counts().notifications_pending;
            if owed > 0 {
                warn!(owed, "leaving with notifications undelivered");
            }
            return true;
        }
        let everything_said = self.waiting.is_empty() && self.desk.control.is_durable();
        // What is owed is owed by whoever is started next; what is under way may arrive.
        let all_told = self.desk.control.counts().notifications_pending == 0;
        everything_said && (all_told || clock::mono() >= by_then)
    }
}

/// Gives a prompt to the producers, if their queue has room.
fn hand_over(work: &Sender<Work>, prompt: Work) -> Result<(), PromptFailure> {
    work.try_send(prompt).map_err(|_| {
        PromptFailure::new(PromptCause::TooManyPreparing, "too many prompts wait to be prepared")
    })
}

/// Tells control, without keeping a thread of the runtime while the mailbox is full.
async fn tell_later(tell: &Sender<Tiding>, mut tiding: Tiding) {
    while let Err(crossbeam_channel::TrySendError::Full(back)) = tell.try_send(tiding) {
        tiding = back;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_for_which_the_queue_has_no_room_fails_with_that_cause() {
        let (work, _prompts) = crossbeam_channel::bounded(1);
        let prompt = || {
            let (writer, _) = room(Codec::Opus, &DecodeLimits::default());
            Work { source: SourceId(1), codec: Codec::Opus, writer, chunks: intake().1 }
        };
        assert_eq!(hand_over(&work, prompt()), Ok(()));
        assert_eq!(
            hand_over(&work, prompt()).map_err(|failure| failure.cause),
            Err(PromptCause::TooManyPreparing)
        );
    }
}
