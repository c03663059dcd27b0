//! Producers: the threads that fill rings. Bytes come in, a source that can be played goes out, and its loop is
//! encoded step by step behind the listeners.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, select_biased};
use holdmusic_codecs::{Codec, DecodeError, DecodeLimits, EncoderSettings, Loop, decode, to_mono};
use holdmusic_control::{PromptFailure, SourceFacts};
use holdmusic_media::{
    SourceId,
    bridge::bridge,
    ring::Reader,
    source::{Job, Progress, rendition},
};
use tracing::{debug, error};

use crate::{
    clock,
    mailbox::{BridgeWork, Tiding, Work},
};

/// Frames encoded before a source is called ready: half a second of music, some milliseconds of work.
const AHEAD: usize = 25;

/// Longer than any wait; channels take no infinity.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Frames encoded before the next source has its turn.
const TURN: usize = 50;

/// What a producer needs to know.
#[derive(Clone, Debug, Default)]
pub struct ProducerSettings {
    /// What a recording may be.
    pub limits: DecodeLimits,
    /// How it is encoded.
    pub encoder: EncoderSettings,
}

/// Runs until nobody sends work any more.
pub fn run(
    settings: &ProducerSettings,
    work: &Receiver<Work>,
    bridges: &Receiver<BridgeWork>,
    tidings: &Sender<Tiding>,
) {
    // Music is encoded hundreds of times faster than it is heard; senders come first.
    let _ = rustix::process::nice(10);
    let mut jobs: VecDeque<(SourceId, Job)> = VecDeque::new();
    loop {
        // With jobs under way there is always something to do, so nothing is waited for.
        let wait = if jobs.is_empty() { FOR_EVER } else { Duration::ZERO };
        let tiding = select_biased! {
            recv(bridges) -> wanted => match wanted {
                Ok(wanted) => Some(cross(settings, wanted)),
                Err(_) => return,
            },
            recv(work) -> work => match work {
                Ok(work) => Some(begin(settings, work, &mut jobs)),
                Err(_) => return,
            },
            default(wait) => go_on(&mut jobs),
        };
        if let Some(tiding) = tiding
            && tidings.send(tiding).is_err()
        {
            return;
        }
    }
}

/// Encodes a little more of the source whose turn it is.
fn go_on(jobs: &mut VecDeque<(SourceId, Job)>) -> Option<Tiding> {
    let (source, mut job) = jobs.pop_front()?;
    match catch_unwind(AssertUnwindSafe(|| job.step(TURN))) {
        Ok(Ok(Progress::Working { .. })) => jobs.push_back((source, job)),
        Ok(Ok(Progress::Closed)) => debug!(source = source.0, "the loop is closed"),
        Ok(Err(_)) | Err(_) => {
            let failure =
                PromptFailure::Sound("the encoder failed in the middle of the recording".to_owned());
            return Some(Tiding::SourceFailed { source, failure });
        }
    }
    None
}

fn cross(settings: &ProducerSettings, wanted: BridgeWork) -> Tiding {
    let BridgeWork { leg, crossing } = wanted;
    let made = catch_unwind(AssertUnwindSafe(|| {
        bridge(crossing.codec, &settings.encoder, &crossing.from, crossing.at, &crossing.to)
    }));
    Tiding::Bridged { leg, source: crossing.source, bridge: made.unwrap_or_default() }
}

fn begin(settings: &ProducerSettings, work: Work, jobs: &mut VecDeque<(SourceId, Job)>) -> Tiding {
    let Work { source, bytes } = work;
    match catch_unwind(AssertUnwindSafe(|| prepare(settings, source, bytes))) {
        Ok(Ok((reader, job, facts))) => {
            jobs.push_back((source, job));
            Tiding::SourceReady { source, reader, facts }
        }
        Ok(Err(failure)) => Tiding::SourceFailed { source, failure },
        Err(_) => {
            error!(source = source.0, "a decoder panicked; the prompt is refused");
            let failure = PromptFailure::Sound("the recording is corrupt".to_owned());
            Tiding::SourceFailed { source, failure }
        }
    }
}

/// Makes a recording playable: its first frames are encoded when this returns.
fn prepare(
    settings: &ProducerSettings,
    source: SourceId,
    bytes: Vec<u8>,
) -> Result<(Reader, Job, SourceFacts), PromptFailure> {
    let began = clock::mono();
    let recording = decode(&bytes, &settings.limits).map_err(|error| sound(&error))?;
    drop(bytes);
    let seconds = recording.pcm.seconds();
    let mono = to_mono(&recording.pcm);
    let format = recording.format;
    drop(recording.pcm);
    let codec = Codec::Opus;
    let sound = Arc::new(Loop::new(&mono, codec.sample_rate(), codec.samples_per_frame()));
    let frames = sound.frames();
    let encoder = |error| PromptFailure::Sound(format!("the encoder refused the recording: {error}"));
    let (reader, mut job) = rendition(sound, codec, &settings.encoder).map_err(encoder)?;
    job.step(AHEAD).map_err(encoder)?;
    let ready_at = clock::mono();
    debug!(
        source = source.0,
        format,
        seconds,
        took_ms = ready_at.since(began).as_millis(),
        "a source is ready"
    );
    // What stays in memory: the frames with their slots and the allocator's share.
    let bytes = frames as u64 * 136;
    Ok((reader, job, SourceFacts { seconds, format, gain_db: 0.0, ready_at, bytes }))
}

fn sound(error: &DecodeError) -> PromptFailure {
    PromptFailure::Sound(error.to_string())
}
