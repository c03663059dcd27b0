//! Producers: the threads that fill rings. Bytes come in, a source that can be played goes out, and its loop is
//! encoded step by step behind the listeners.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender};
use holdmusic_codecs::{Codec, DecodeError, DecodeLimits, EncoderSettings, Loop, decode, to_mono};
use holdmusic_control::{PromptFailure, SourceFacts};
use holdmusic_media::{
    SourceId,
    ring::Reader,
    source::{Job, Progress, rendition},
};
use tracing::{debug, error};

use crate::{
    clock,
    mailbox::{Tiding, Work},
};

/// Frames encoded before a source is called ready: half a second of music, some milliseconds of work.
const AHEAD: usize = 25;

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
pub fn run(settings: &ProducerSettings, work: &Receiver<Work>, tidings: &Sender<Tiding>) {
    // Music is encoded hundreds of times faster than it is heard; senders come first.
    let _ = rustix::process::nice(10);
    let mut jobs: VecDeque<(SourceId, Job)> = VecDeque::new();
    loop {
        let next = if jobs.is_empty() { work.recv().ok() } else { work.try_recv().ok() };
        match next {
            Some(Work { source, bytes }) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| begin(settings, source, bytes)));
                let tiding = match outcome {
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
                };
                if tidings.send(tiding).is_err() {
                    return;
                }
            }
            None if jobs.is_empty() => return,
            None => {}
        }
        let Some((source, mut job)) = jobs.pop_front() else { continue };
        match catch_unwind(AssertUnwindSafe(|| job.step(TURN))) {
            Ok(Ok(Progress::Working { .. })) => jobs.push_back((source, job)),
            Ok(Ok(Progress::Closed)) => debug!(source = source.0, "the loop is closed"),
            Ok(Err(_)) | Err(_) => {
                let failure =
                    PromptFailure::Sound("the encoder failed in the middle of the recording".to_owned());
                if tidings.send(Tiding::SourceFailed { source, failure }).is_err() {
                    return;
                }
            }
        }
    }
}

/// Makes a recording playable: its first frames are encoded when this returns.
fn begin(
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
