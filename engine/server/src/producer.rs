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
    Grid, MediaTime, SourceId,
    bridge::bridge,
    prepare::{Facts, Preparation, PrepareError, PrepareSettings, Step, room},
    ring::Reader,
};
use tracing::{debug, error, info};

use crate::{
    analyst::ANALYSTS,
    clock,
    mailbox::{BridgeWork, Chunk, Errand, Finding, Tiding, Work, intake},
    room::{MEMORY_MIB, Memory, Room},
};

/// A source that is ahead of its first listener by fewer frames than this comes before everything else: 300 ms (150 in
/// short frames), in which many others can have a step.
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
    /// Who does what takes longer than a step.
    pub short_analyses: Sender<Errand>,
    /// Who does what may take seconds.
    pub long_analyses: Sender<Errand>,
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

    /// Who has to do with it.
    fn analysts(&self, errand: &Errand) -> &Sender<Errand> {
        if errand.analysis.is_short() { &self.short_analyses } else { &self.long_analyses }
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
    codec: Codec,
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
            let Work { source, codec, writer, chunks } = match self.producer.work.try_recv() {
                Ok(work) => work,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Closed),
            };
            let settings = settings_for(source, &self.producer.settings);
            match guarded(source, || Preparation::new(writer, codec, &settings)) {
                Ok(preparation) => self.underway.push(Underway {
                    source,
                    codec,
                    preparation,
                    chunks: Some(chunks),
                    ring: Ring::First,
                    errand: None,
                    room: self.producer.memory.room(),
                    began: clock::mono(),
                    ready_at: None,
                    waits_until: MediaTime::NEVER,
                }),
                Err(failure) => self.tell_failure(source, codec, failure)?,
            }
        }
    }

    fn take_chunks(&mut self) -> Result<(), Closed> {
        let mut index = 0;
        while index < self.underway.len() {
            match self.underway[index].take_chunks() {
                Ok(true) => index += 1,
                Ok(false) => drop(self.underway.swap_remove(index)),
                Err(failure) => self.fails(index, failure)?,
            }
        }
        Ok(())
    }

    /// Hands what is whole to analysts, as far as they have time.
    fn send_errands(&mut self) {
        for underway in &mut self.underway {
            let Some(errand) = underway.errand.take() else { continue };
            let analysts = self.producer.analysts(&errand);
            if let Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) =
                analysts.try_send(errand)
            {
                underway.errand = Some(errand);
            }
        }
    }

    fn analysed(&mut self, Finding { source, codec, result }: Finding) -> Result<(), Closed> {
        let found = |underway: &Underway| {
            (underway.source, underway.codec) == (source, codec) && matches!(underway.ring, Ring::First)
        };
        // Given up meanwhile.
        let Some(index) = self.underway.iter().position(found) else { return Ok(()) };
        let underway = &mut self.underway[index];
        let taken = result.and_then(|analysed| {
            guarded(source, || underway.preparation.analysed(analysed))?;
            underway.has_come()
        });
        match taken {
            Ok(()) => Ok(()),
            Err(failure) => self.fails(index, failure),
        }
    }

    fn step(&mut self, now: MediaTime, index: usize) -> Result<(), Closed> {
        let underway = &mut self.underway[index];
        let (source, codec) = (underway.source, underway.codec);
        let step = match guarded(source, || underway.preparation.step(now)) {
            Ok(step) => step,
            Err(failure) => return self.fails(index, failure),
        };
        match step {
            Step::Working => Ok(()),
            Step::Waiting(until) => {
                underway.waits_until = until;
                Ok(())
            }
            Step::Analyse(analysis) => {
                // What came of lap one before is heard meanwhile.
                underway.waits_until = MediaTime::ZERO;
                // A ring that is not closed has a writer.
                let Some(watch) = underway.preparation.watch() else { return Ok(()) };
                let room = std::mem::replace(&mut underway.room, self.producer.memory.room());
                let back = self.findings.0.clone();
                underway.errand = Some(Errand { source, codec, analysis, watch, room, back });
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
                    codec,
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
                self.tell(Tiding::SourceClosed { source, codec })
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
            if let Some(errand) = &underway.errand {
                select.send(self.producer.analysts(errand));
            }
        }
        let longest = if self.underway.is_empty() { FOR_EVER } else { SWEEP };
        let wait = if next == MediaTime::NEVER { longest } else { next.since(now).min(longest) };
        let _ = select.ready_timeout(wait);
    }

    /// A prompt cannot be played, or no further. Who gave it up is not told.
    fn fails(&mut self, index: usize, failure: PromptFailure) -> Result<(), Closed> {
        let Underway { source, codec, preparation, ring, .. } = self.underway.swap_remove(index);
        match ring {
            _ if preparation.is_abandoned() => Ok(()),
            Ring::First => self.tell_failure(source, codec, failure),
            Ring::Second(_) => {
                error!(source = source.0, ?failure, "the gain of a source was not corrected");
                Ok(())
            }
        }
    }

    fn tell_failure(&self, source: SourceId, codec: Codec, failure: PromptFailure) -> Result<(), Closed> {
        info!(source = source.0, ?codec, ?failure, "a prompt cannot be played");
        self.tell(Tiding::SourceFailed { source, codec, failure })
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
        let grid = Grid::of(self.codec);
        let heard = grid.tick_at(now).0.saturating_sub(grid.tick_at(ready_at).0);
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
        let has_room = self.room.hold(self.preparation.held_bytes());
        // Our own music is small, and there is nothing to fall back on.
        if has_room || self.source == DEFAULT_SOURCE { Ok(()) } else { Err(no_room()) }
    }

    fn ready(&mut self, facts: Facts) -> Tiding {
        let Facts { seconds, whole, format, gain_db, warning, bytes } = facts;
        let (source, codec) = (self.source, self.codec);
        if let Some(warning) = warning {
            info!(source = source.0, ?warning, "a prompt is hardly heard");
        }
        let now = clock::mono();
        let ready_at = *self.ready_at.get_or_insert(now);
        let took_ms = ready_at.since(self.began).as_millis();
        debug!(source = source.0, ?codec, format, seconds, gain_db, took_ms, "a source is ready");
        let reader = match &mut self.ring {
            Ring::First => None,
            Ring::Second(reader) => reader.take(),
        };
        // The desk knows better, once all of it has come.
        let freshness = Freshness::FOR_EVER;
        let facts = SourceFacts { seconds, whole, format, gain_db, ready_at, bytes, freshness };
        Tiding::SourceReady { source, codec, reader, facts }
    }
}

/// The default music: composed by `codecs/src/music.rs`.
pub const DEFAULT_MUSIC: &[u8] = include_bytes!("../../../assets/default-music.wav");

/// Has the default music encoded in a codec: where it can be read as far as it is there. `None` if no producer has room for
/// it.
pub fn begin_default_music(work: &Sender<Work>, codec: Codec) -> Option<Reader> {
    let (writer, reader) = room(codec, &DecodeLimits::default());
    let (into, chunks) = intake();
    work.try_send(Work { source: DEFAULT_SOURCE, codec, writer, chunks }).ok()?;
    // A new queue has room for both.
    into.push_waiting(Chunk::Bytes(DEFAULT_MUSIC.to_vec())).ok()?;
    into.push_waiting(Chunk::End).ok()?;
    Some(reader)
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

#[cfg(test)]
mod tests {
    use std::thread::{self, JoinHandle};

    use crossbeam_channel::never;
    use holdmusic_media::{prepare::room, ring::Watch};

    use super::*;
    use crate::{
        analyst,
        mailbox::{Intake, Mailboxes, intake},
    };

    /// 9.6 s of music at 16 kHz.
    const MUSIC: &[u8] = include_bytes!("../../../assets/fixtures/music-16k.wav");
    const MP3: &[u8] = include_bytes!("../../../assets/fixtures/compressed/music.mp3");

    /// Bytes of each of its frames, which are 36 ms long; the first one is no sound.
    const MP3_FRAME: usize = 288;

    /// Longer than anything here takes on the slowest machine.
    const PATIENCE: Duration = Duration::from_secs(120);

    /// Producers and analysts at work, without a desk.
    struct Workshop {
        mailboxes: Mailboxes,
        memory: Memory,
        threads: Vec<JoinHandle<()>>,
    }

    /// One prompt in the workshop.
    struct Prompt {
        into: Intake,
        reader: Reader,
        watch: Watch,
    }

    impl Workshop {
        fn open(producers: usize, analysts: usize, memory_mib: usize) -> Self {
            Self::with(PrepareSettings::default(), producers, analysts, memory_mib)
        }

        fn with(settings: PrepareSettings, producers: usize, analysts: usize, memory_mib: usize) -> Self {
            let mailboxes = Mailboxes::new(0);
            let memory = Memory::new(memory_mib);
            let mut threads = vec![];
            let mut start = |name: &str, work: Box<dyn FnOnce() + Send>| {
                threads.push(thread::Builder::new().name(name.to_owned()).spawn(work).unwrap());
            };
            for _ in 0..producers {
                let producer = Producer {
                    settings: settings.clone(),
                    work: mailboxes.work.1.clone(),
                    bridges: mailboxes.bridges.1.clone(),
                    short_analyses: mailboxes.short_analyses.0.clone(),
                    long_analyses: mailboxes.long_analyses.0.clone(),
                    memory: memory.clone(),
                    tell: mailboxes.tidings.0.clone(),
                };
                start("producer", Box::new(move || producer.run()));
            }
            for index in 0..analysts {
                let short = mailboxes.short_analyses.1.clone();
                let long =
                    if index > 0 || analysts == 1 { mailboxes.long_analyses.1.clone() } else { never() };
                start("analyst", Box::new(move || analyst::run(&short, &long)));
            }
            Self { mailboxes, memory, threads }
        }

        fn prompt(&self, source: u64) -> Prompt {
            let (writer, reader) = room(Codec::Opus, &PrepareSettings::default().limits);
            let (watch, (into, chunks)) = (writer.watch(), intake());
            let work = Work { source: SourceId(source), codec: Codec::Opus, writer, chunks };
            self.mailboxes.work.0.send(work).unwrap();
            Prompt { into, reader, watch }
        }

        /// A prompt all of whose bytes are there.
        fn whole(&self, source: u64, bytes: &[u8]) -> Prompt {
            let prompt = self.prompt(source);
            let pieces = bytes.chunks(64 << 10).map(|chunk| Chunk::Bytes(chunk.to_vec()));
            for chunk in pieces.chain([Chunk::End]) {
                // What is refused by its header is not wanted to its end.
                if prompt.into.push_waiting(chunk).is_err() {
                    break;
                }
            }
            prompt
        }

        /// What is told next, closed loops aside.
        fn told(&self) -> Tiding {
            loop {
                match self.mailboxes.tidings.1.recv_timeout(PATIENCE).expect("something is told") {
                    Tiding::SourceClosed { .. } => {}
                    tiding => return tiding,
                }
            }
        }

        /// Whether anything has been told, closed loops aside.
        fn has_told(&self) -> bool {
            self.mailboxes.tidings.1.try_iter().any(|tiding| !matches!(tiding, Tiding::SourceClosed { .. }))
        }

        #[track_caller]
        fn ready(&self, expected: u64) -> SourceFacts {
            match self.told() {
                Tiding::SourceReady { source: SourceId(source), facts, .. } if source == expected => facts,
                other => panic!("{other:?}"),
            }
        }

        #[track_caller]
        fn failed(&self, expected: u64) -> PromptFailure {
            match self.told() {
                Tiding::SourceFailed { source: SourceId(source), failure, .. } if source == expected => {
                    failure
                }
                other => panic!("{other:?}"),
            }
        }

        /// Nothing is left of what was given up, and the workshop still works.
        #[track_caller]
        fn forgets_but_works(self, given_up: &[Watch]) {
            wait_until(|| given_up.iter().all(Watch::is_gone));
            wait_until(|| self.memory.free_mib() == MEMORY_MIB);
            let last = self.whole(999, MUSIC);
            self.ready(999);
            wait_until(|| last.reader.is_closed());
            self.close();
        }

        fn close(self) {
            let Self { mailboxes, threads, .. } = self;
            drop(mailboxes);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    #[track_caller]
    fn wait_until(is_so: impl Fn() -> bool) {
        let until = clock::mono() + PATIENCE;
        while !is_so() {
            assert!(clock::mono() < until, "it takes too long");
            thread::yield_now();
        }
    }

    /// Seconds of decoding for any machine.
    fn half_hour() -> Vec<u8> {
        MP3[MP3_FRAME..].repeat(1_060)
    }

    /// Ten minutes of music, as WAV of no declared length.
    fn ten_minutes() -> Vec<u8> {
        [&MUSIC[..40], &[0xFF; 4], &MUSIC[44..].repeat(62)].concat()
    }

    fn seconds(seconds: u64) -> MediaTime {
        MediaTime::from_millis(seconds * 1000)
    }

    /// Both producers have had something long to do since before the music came, and a third waits. The music is ready
    /// and its loop is made to its end before any of them is; were they decoded by who encodes, it would have its first
    /// 25 frames until then.
    #[test]
    fn a_prompt_that_plays_does_not_wait_for_others_to_be_decoded() {
        let workshop = Workshop::open(2, 3, MEMORY_MIB);
        let long = half_hour();
        let others: Vec<_> = (2..5).map(|source| workshop.whole(source, &long)).collect();
        let music = workshop.whole(1, &MUSIC[..44 + 2 * 16_000]);
        workshop.ready(1);
        wait_until(|| {
            assert!(!workshop.has_told(), "one of the others was ready before");
            music.reader.is_closed()
        });
        let watches: Vec<_> = others.iter().map(|other| other.watch.clone()).collect();
        drop(others);
        workshop.forgets_but_works(&watches);
    }

    fn limited(limits: DecodeLimits) -> Workshop {
        Workshop::with(PrepareSettings { limits, ..PrepareSettings::default() }, 1, 1, MEMORY_MIB)
    }

    #[test]
    fn a_prompt_without_cpu_time_is_given_up_with_that_cause() {
        let workshop = limited(DecodeLimits { max_cpu_seconds: 0, ..DecodeLimits::default() });
        let _prompt = workshop.whole(1, MUSIC);
        assert_eq!(workshop.failed(1).cause, PromptCause::DecodeTimeout);
        workshop.close();
    }

    #[test]
    fn the_limits_of_prompts_do_not_hold_for_our_own_music() {
        let workshop = limited(DecodeLimits { max_seconds: 1, ..DecodeLimits::default() });
        let (_prompt, _ours) = (workshop.whole(1, MUSIC), workshop.whole(DEFAULT_SOURCE.0, MUSIC));
        let told = [workshop.told(), workshop.told()];
        let failed = |tiding: &Tiding| matches!(tiding, Tiding::SourceFailed { source: SourceId(1), .. });
        let ready = |tiding: &Tiding| matches!(tiding, Tiding::SourceReady { source: DEFAULT_SOURCE, .. });
        assert!(told.iter().any(failed) && told.iter().any(ready), "{told:?}");
        workshop.close();
    }

    #[test]
    fn a_prompt_released_while_it_is_fetched_is_forgotten() {
        let workshop = Workshop::open(1, 1, MEMORY_MIB);
        let Prompt { into, reader, watch } = workshop.prompt(1);
        into.push_waiting(Chunk::Bytes(MUSIC[..100_000].to_vec())).unwrap();
        wait_until(|| workshop.memory.free_mib() < MEMORY_MIB);
        // The desk drops its reader and has the fetch aborted, which drops the other.
        drop((reader, into));
        workshop.forgets_but_works(&[watch]);
    }

    /// An origin that goes on sending does not keep it.
    #[test]
    fn a_fetch_whose_prompt_is_released_is_told_so() {
        let workshop = Workshop::open(1, 1, MEMORY_MIB);
        let Prompt { into, reader, watch } = workshop.prompt(1);
        into.push_waiting(Chunk::Bytes(MUSIC[..44].to_vec())).unwrap();
        drop(reader);
        wait_until(|| into.push_waiting(Chunk::Bytes(vec![0; 64])).is_err());
        workshop.forgets_but_works(&[watch]);
    }

    /// Nobody takes work: there is no producer yet.
    #[test]
    fn a_prompt_released_in_the_queue_is_never_begun() {
        let mut workshop = Workshop::open(0, 1, MEMORY_MIB);
        let prompt = workshop.prompt(1);
        prompt.into.push_waiting(Chunk::Bytes(MUSIC.to_vec())).unwrap();
        prompt.into.push_waiting(Chunk::End).unwrap();
        let Prompt { into, reader, watch } = prompt;
        drop((into, reader));
        let producer = Producer {
            settings: PrepareSettings::default(),
            work: workshop.mailboxes.work.1.clone(),
            bridges: workshop.mailboxes.bridges.1.clone(),
            short_analyses: workshop.mailboxes.short_analyses.0.clone(),
            long_analyses: workshop.mailboxes.long_analyses.0.clone(),
            memory: workshop.memory.clone(),
            tell: workshop.mailboxes.tidings.0.clone(),
        };
        workshop.threads.push(thread::Builder::new().spawn(move || producer.run()).unwrap());
        workshop.forgets_but_works(&[watch]);
    }

    #[test]
    fn a_prompt_released_before_an_analyst_has_time_gives_its_bytes_back() {
        let workshop = Workshop::open(1, 1, MEMORY_MIB);
        let busy = workshop.whole(1, &half_hour());
        wait_until(|| workshop.memory.free_mib() < MEMORY_MIB - 15);
        let waiting = workshop.whole(2, MUSIC);
        let watches = [busy.watch.clone(), waiting.watch.clone()];
        drop(waiting);
        wait_until(|| watches[1].is_gone());
        assert!(!watches[0].is_gone(), "the other still goes on");
        drop(busy);
        workshop.forgets_but_works(&watches);
    }

    /// Seconds of decoding end at the next packet.
    #[test]
    fn a_prompt_released_while_it_is_decoded_is_given_up_at_once() {
        let workshop = Workshop::open(1, 1, MEMORY_MIB);
        let prompt = workshop.whole(1, &half_hour());
        // 15 MB of bytes; more is what was decoded.
        wait_until(|| workshop.memory.free_mib() < MEMORY_MIB - 20);
        let watch = prompt.watch.clone();
        drop(prompt);
        workshop.forgets_but_works(&[watch]);
    }

    #[test]
    fn a_prompt_released_while_it_is_encoded_is_encoded_no_further() {
        let workshop = Workshop::open(1, 1, MEMORY_MIB);
        let prompt = workshop.whole(1, &ten_minutes());
        workshop.ready(1);
        let watch = prompt.watch.clone();
        assert!(!prompt.reader.is_closed());
        drop(prompt);
        workshop.forgets_but_works(&[watch]);
    }

    #[test]
    fn what_its_origin_broke_off_fails_with_the_reason_of_the_fetch() {
        let workshop = Workshop::open(1, 1, MEMORY_MIB);
        let prompt = workshop.prompt(1);
        prompt.into.push_waiting(Chunk::Bytes(MUSIC[..200_000].to_vec())).unwrap();
        // 6 s of sound that came at once: played after a while, whole or not.
        workshop.ready(1);
        let failure = PromptFailure::new(PromptCause::OriginSilent, "the origin sent nothing for too long");
        prompt.into.push_waiting(Chunk::Failed(failure.clone())).unwrap();
        assert_eq!(workshop.failed(1), failure);
        assert!(prompt.into.push_waiting(Chunk::End).is_err(), "it was dropped");
        let watch = prompt.watch.clone();
        drop(prompt);
        workshop.forgets_but_works(&[watch]);
    }

    /// A play that began with too little: the same source is told again, with another ring and another gain.
    #[test]
    fn a_gain_that_was_wrong_is_corrected_for_later_plays() {
        let workshop = Workshop::open(1, 1, MEMORY_MIB);
        let prompt = workshop.prompt(1);
        // Two and a half seconds, 20 dB down, then as it is.
        let quiet: Vec<u8> = MUSIC[44..80_044]
            .chunks_exact(2)
            .flat_map(|sample| (i16::from_le_bytes([sample[0], sample[1]]) / 10).to_le_bytes())
            .collect();
        prompt.into.push_waiting(Chunk::Bytes([&MUSIC[..44], &quiet].concat())).unwrap();
        let first = workshop.ready(1);
        prompt.into.push_waiting(Chunk::Bytes(MUSIC[80_044..].to_vec())).unwrap();
        prompt.into.push_waiting(Chunk::End).unwrap();
        assert_eq!(workshop.ready(1).gain_db, first.gain_db);
        let Tiding::SourceReady { reader: Some(second), facts, .. } = workshop.told() else {
            panic!("another ring")
        };
        assert!(facts.gain_db < first.gain_db - 3.0, "{facts:?}");
        wait_until(|| second.is_closed() && prompt.reader.is_closed());
        let watch = prompt.watch.clone();
        drop((prompt, second));
        workshop.forgets_but_works(&[watch]);
    }

    #[test]
    fn more_than_there_is_memory_for_fails_with_that_reason_and_others_go_on() {
        let workshop = Workshop::open(1, 1, 24);
        let music = workshop.whole(1, MUSIC);
        workshop.ready(1);
        // 15 MiB of bytes, and 109 of samples.
        let _long = workshop.whole(2, &half_hour());
        assert_eq!(workshop.failed(2), no_room());
        wait_until(|| music.reader.is_closed());
        wait_until(|| workshop.memory.free_mib() == 24);
        workshop.close();
    }

    #[test]
    fn a_panic_costs_its_own_prompt() {
        let failure = guarded::<()>(SourceId(1), || panic!("as the test wants")).unwrap_err();
        assert_eq!(failure, corrupt());
    }

    /// Who would soon have nothing to hear comes first, then who has heard nothing, then who is least ahead.
    #[test]
    fn whose_listeners_would_starve_comes_first() {
        let memory = Memory::new(MEMORY_MIB);
        let underway = |frames: usize, ready_at: Option<MediaTime>| {
            let (writer, reader) = room(Codec::Opus, &PrepareSettings::default().limits);
            let mut preparation = Preparation::new(writer, Codec::Opus, &PrepareSettings::default()).unwrap();
            preparation.push(seconds(0), MUSIC).unwrap();
            preparation.end();
            let Ok(Step::Analyse(analysis)) = preparation.step(seconds(0)) else { panic!("an analysis") };
            preparation.analysed(analysis.run(&|_| true).unwrap()).unwrap();
            while preparation.frames() < frames as u64 {
                preparation.step(seconds(0)).unwrap();
            }
            let underway = Underway {
                source: SourceId(1),
                codec: Codec::Opus,
                preparation,
                chunks: None,
                ring: Ring::Second(Some(reader)),
                errand: None,
                room: memory.room(),
                began: seconds(100),
                ready_at,
                waits_until: MediaTime::ZERO,
            };
            underway.urgency(seconds(101))
        };
        // A second after they were ready, 50 frames have been heard.
        let (starving, ahead, far_ahead) = (
            underway(50, Some(seconds(100))),
            underway(100, Some(seconds(100))),
            underway(200, Some(seconds(100))),
        );
        let new = underway(0, None);
        assert!(
            starving < new && new < ahead && ahead < far_ahead,
            "{starving:?} {new:?} {ahead:?} {far_ahead:?}"
        );
    }
}
