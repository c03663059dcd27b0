//! Producers: the threads that fill rings. Bytes come in piece by piece, a source that can be played goes out, and what
//! is left of it is made behind the listeners. All of it in steps of some milliseconds, and first for those whose
//! listeners would soon have nothing to hear.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError, bounded};
use holdmusic_codecs::{Codec, DecodeLimits};
use holdmusic_control::{DEFAULT_SOURCE, Freshness, PromptCause, PromptFailure, SourceFacts};
use holdmusic_media::{
    MediaTime, SourceId, Tick,
    bridge::bridge,
    prepare::{Facts, Preparation, PrepareError, PrepareSettings, Step},
    ring::Reader,
};
use tracing::{debug, error, info};

use crate::{
    analyst::ANALYSTS,
    clock,
    mailbox::{BridgeWork, Chunk, Errand, Finding, Tiding, Work},
    room::{MEMORY_MIB, Memory, Room},
};

/// A source that is ahead of its first listener by fewer frames than this comes before everything else: 300 ms, in
/// which many others can have a step.
const URGENT: i64 = 15;

/// Chunks taken of one prompt before others have their turn: about a millisecond of work.
const CHUNKS_AT_ONCE: usize = 4;

/// A producer that waits looks around so often for what was given up meanwhile; mostly it is woken.
const SWEEP: Duration = Duration::from_secs(1);

/// Longer than any wait; channels take no infinity.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// What a producer works with.
pub struct Producer {
    /// How prompts are made playable.
    pub settings: PrepareSettings,
    /// New prompts.
    pub work: Receiver<Work>,
    /// Changes of music.
    pub bridges: Receiver<BridgeWork>,
    /// Who does what takes long.
    pub analyses: Sender<Errand>,
    /// Memory for all prompts under way.
    pub memory: Memory,
    /// Where it tells what came of it all.
    pub tell: Sender<Tiding>,
}

impl Producer {
    /// Runs until nobody sends work any more.
    pub fn run(self) {
        // Music is encoded hundreds of times faster than it is heard; senders come first.
        let _ = rustix::process::nice(10);
        let mut bench = Bench { findings: bounded(ANALYSTS), underway: Vec::new(), producer: self };
        while bench.turn().is_ok() {}
    }
}

/// Nobody sends work any more, or nobody hears what came of it.
struct Closed;

/// What lies on a producer's bench.
struct Bench {
    producer: Producer,
    /// What analysts send back. Each of them can have sent one.
    findings: (Sender<Finding>, Receiver<Finding>),
    underway: Vec<Underway>,
}

/// One prompt.
struct Underway {
    source: SourceId,
    preparation: Preparation,
    /// Its bytes; `None` when all have come.
    chunks: Option<Receiver<Chunk>>,
    /// For a correction: its ring, until that takes the place of the one before.
    ring: Ring,
    /// What waits for an analyst.
    errand: Option<Errand>,
    room: Room,
    began: MediaTime,
    ready_at: Option<MediaTime>,
    /// Nothing can be done for it before this moment, or before something comes.
    waits_until: MediaTime,
}

/// Whose ring is filled.
enum Ring {
    /// The one that the desk has made.
    First,
    /// One that takes its place when it is ready.
    Second(Option<Reader>),
}

impl Bench {
    /// Takes what has come, and does one step of what is most urgent; if there is nothing to do, waits.
    fn turn(&mut self) -> Result<(), Closed> {
        self.take_bridges()?;
        self.take_work()?;
        while let Ok(finding) = self.findings.1.try_recv() {
            self.analysed(finding)?;
        }
        self.take_chunks()?;
        self.underway.retain(|underway| !underway.preparation.is_abandoned());
        self.send_errands();
        let now = clock::mono();
        let most_urgent = (0..self.underway.len())
            .filter_map(|index| Some((self.underway[index].urgency(now)?, index)))
            .min_by_key(|(urgency, _)| *urgency);
        match most_urgent {
            Some((_, index)) => self.step(now, index),
            None => {
                self.wait(now);
                Ok(())
            }
        }
    }

    fn take_bridges(&self) -> Result<(), Closed> {
        loop {
            match self.producer.bridges.try_recv() {
                Ok(wanted) => self.tell(cross(&self.producer.settings, wanted))?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Closed),
            }
        }
    }

    fn take_work(&mut self) -> Result<(), Closed> {
        loop {
            let Work { source, writer, chunks } = match self.producer.work.try_recv() {
                Ok(work) => work,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Closed),
            };
            let settings = settings_for(source, &self.producer.settings);
            match guarded(source, || Preparation::new(writer, Codec::Opus, &settings)) {
                Ok(preparation) => self.underway.push(Underway {
                    source,
                    preparation,
                    chunks: Some(chunks),
                    ring: Ring::First,
                    errand: None,
                    room: self.producer.memory.room(),
                    began: clock::mono(),
                    ready_at: None,
                    waits_until: MediaTime::NEVER,
                }),
                Err(failure) => self.tell_failure(source, failure)?,
            }
        }
    }

    fn take_chunks(&mut self) -> Result<(), Closed> {
        let mut failures = Vec::new();
        self.underway.retain_mut(|underway| match underway.take_chunks() {
            Ok(goes_on) => goes_on,
            Err(failure) => {
                failures.push((underway.source, failure));
                false
            }
        });
        failures.into_iter().try_for_each(|(source, failure)| self.tell_failure(source, failure))
    }

    /// Hands what is whole to analysts, as far as they have time.
    fn send_errands(&mut self) {
        for underway in &mut self.underway {
            let Some(errand) = underway.errand.take() else { continue };
            if let Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) =
                self.producer.analyses.try_send(errand)
            {
                underway.errand = Some(errand);
                return;
            }
        }
    }

    fn analysed(&mut self, Finding { source, result }: Finding) -> Result<(), Closed> {
        let found = |underway: &Underway| underway.source == source && matches!(underway.ring, Ring::First);
        // Given up meanwhile.
        let Some(index) = self.underway.iter().position(found) else { return Ok(()) };
        let underway = &mut self.underway[index];
        let taken = result.and_then(|analysed| {
            guarded(source, || underway.preparation.analysed(analysed))?;
            underway.has_come()
        });
        match taken {
            Ok(()) => Ok(()),
            Err(failure) => {
                self.underway.remove(index);
                self.tell_failure(source, failure)
            }
        }
    }

    fn step(&mut self, now: MediaTime, index: usize) -> Result<(), Closed> {
        let underway = &mut self.underway[index];
        let source = underway.source;
        let step = match guarded(source, || underway.preparation.step(now)) {
            Ok(step) => step,
            Err(failure) => {
                let underway = self.underway.swap_remove(index);
                return match underway.ring {
                    Ring::First => self.tell_failure(source, failure),
                    Ring::Second(_) => {
                        error!(source = source.0, ?failure, "the gain of a source was not corrected");
                        Ok(())
                    }
                };
            }
        };
        match step {
            Step::Working => Ok(()),
            Step::Waiting(until) => {
                underway.waits_until = until;
                Ok(())
            }
            Step::Analyse(analysis) => {
                underway.waits_until = MediaTime::NEVER;
                // A ring that is not closed has a writer.
                let Some(watch) = underway.preparation.watch() else { return Ok(()) };
                let room = std::mem::replace(&mut underway.room, self.producer.memory.room());
                let back = self.findings.0.clone();
                underway.errand = Some(Errand { source, analysis, watch, room, back });
                Ok(())
            }
            Step::Ready(facts) => {
                let tiding = underway.ready(facts);
                self.tell(tiding)
            }
            Step::Corrected(correction) => {
                let correction = *correction;
                let mut second = Underway {
                    source,
                    preparation: correction.preparation,
                    chunks: None,
                    ring: Ring::Second(Some(correction.reader)),
                    errand: None,
                    room: self.producer.memory.room(),
                    began: now,
                    ready_at: None,
                    waits_until: MediaTime::ZERO,
                };
                // Without room this play's gain stays that of the next one.
                if second.room.hold(second.preparation.held_bytes()) {
                    self.underway.push(second);
                }
                Ok(())
            }
            Step::Closed => {
                debug!(source = source.0, "the loop is closed");
                self.underway.swap_remove(index);
                self.tell(Tiding::SourceClosed { source })
            }
        }
    }

    /// Until something comes, or the next moment for which something waits.
    fn wait(&self, now: MediaTime) {
        let mut select = Select::new();
        select.recv(&self.producer.bridges);
        select.recv(&self.producer.work);
        select.recv(&self.findings.1);
        let mut next = MediaTime::NEVER;
        for underway in &self.underway {
            next = next.min(underway.waits_until);
            if let Some(chunks) = &underway.chunks {
                select.recv(chunks);
            }
        }
        if self.underway.iter().any(|underway| underway.errand.is_some()) {
            select.send(&self.producer.analyses);
        }
        let longest = if self.underway.is_empty() { FOR_EVER } else { SWEEP };
        let wait = if next == MediaTime::NEVER { longest } else { next.since(now).min(longest) };
        let _ = select.ready_timeout(wait);
    }

    fn tell_failure(&self, source: SourceId, failure: PromptFailure) -> Result<(), Closed> {
        info!(source = source.0, ?failure, "a prompt cannot be played");
        self.tell(Tiding::SourceFailed { source, failure })
    }

    fn tell(&self, tiding: Tiding) -> Result<(), Closed> {
        self.producer.tell.send(tiding).map_err(|_| Closed)
    }
}

impl Underway {
    /// How soon it must have a step, smallest first; `None` if there is nothing to do. Whose listeners would soon have
    /// nothing comes first, then what cannot be heard yet, in its order, then the rest by what it is ahead.
    fn urgency(&self, now: MediaTime) -> Option<(u8, i64)> {
        if self.waits_until > now {
            return None;
        }
        let Some(ready_at) = self.ready_at else {
            return Some((1, i64::try_from(self.began.as_nanos()).unwrap_or(i64::MAX)));
        };
        let signed = |frames: u64| i64::try_from(frames).unwrap_or(i64::MAX);
        let heard = Tick::at(now).0.saturating_sub(Tick::at(ready_at).0);
        let ahead = signed(self.preparation.frames()) - signed(heard);
        Some((if ahead < URGENT { 0 } else { 2 }, ahead))
    }

    /// Whether it goes on: what was given up does not.
    fn take_chunks(&mut self) -> Result<bool, PromptFailure> {
        for _ in 0..CHUNKS_AT_ONCE {
            let Some(chunks) = &self.chunks else { return Ok(true) };
            match chunks.try_recv() {
                Ok(Chunk::Bytes(bytes)) => {
                    let now = clock::mono();
                    guarded(self.source, || self.preparation.push(now, &bytes))?;
                }
                Ok(Chunk::End) => {
                    self.preparation.end();
                    self.chunks = None;
                }
                Ok(Chunk::Failed(failure)) => return Err(failure),
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
            self.has_come()?;
        }
        Ok(true)
    }

    /// Something has come: there may be something to do, and it takes memory.
    fn has_come(&mut self) -> Result<(), PromptFailure> {
        self.waits_until = MediaTime::ZERO;
        if self.room.hold(self.preparation.held_bytes()) { Ok(()) } else { Err(no_room()) }
    }

    fn ready(&mut self, facts: Facts) -> Tiding {
        let Facts { seconds, format, gain_db, warning, bytes } = facts;
        let source = self.source;
        if let Some(warning) = warning {
            info!(source = source.0, ?warning, "a prompt is hardly heard");
        }
        let now = clock::mono();
        let ready_at = *self.ready_at.get_or_insert(now);
        let took_ms = ready_at.since(self.began).as_millis();
        debug!(source = source.0, format, seconds, gain_db, took_ms, "a source is ready");
        let reader = match &mut self.ring {
            Ring::First => None,
            Ring::Second(reader) => reader.take(),
        };
        // The desk knows better, once all of it has come.
        let freshness = Freshness::FOR_EVER;
        let facts = SourceFacts { seconds, format, gain_db, ready_at, bytes, freshness };
        Tiding::SourceReady { source, reader, facts }
    }
}

/// The limits of prompts are not those of our own music.
fn settings_for(source: SourceId, settings: &PrepareSettings) -> PrepareSettings {
    let mut settings = settings.clone();
    if source == DEFAULT_SOURCE {
        settings.limits = DecodeLimits::default();
    }
    settings
}

fn cross(settings: &PrepareSettings, wanted: BridgeWork) -> Tiding {
    let BridgeWork { leg, crossing } = wanted;
    let made = catch_unwind(AssertUnwindSafe(|| {
        bridge(crossing.codec, &settings.encoder, &crossing.from, crossing.at, &crossing.to)
    }));
    Tiding::Bridged { leg, source: crossing.source, bridge: made.unwrap_or_default() }
}

/// A panic of a decoder or an encoder costs its own prompt.
fn guarded<T>(source: SourceId, work: impl FnOnce() -> Result<T, PrepareError>) -> Result<T, PromptFailure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| PromptFailure::from(&error)),
        Err(_) => {
            error!(source = source.0, "a step of preparing panicked; the prompt is refused");
            Err(corrupt())
        }
    }
}

/// What a decoder could not digest.
pub(crate) fn corrupt() -> PromptFailure {
    PromptFailure::new(PromptCause::Corrupt, "the recording is corrupt")
}

/// [`MEMORY_MIB`] is used up.
pub(crate) fn no_room() -> PromptFailure {
    let words = format!(
        "too much sound is being prepared at the same time; there is room for {MEMORY_MIB} MiB of it"
    );
    PromptFailure::new(PromptCause::TooManyPreparing, words)
}
