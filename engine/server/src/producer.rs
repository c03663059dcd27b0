//! Producers: the threads that fill rings. Bytes come in, a source that can be played goes out, and its loop is
//! encoded step by step behind the listeners.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, select_biased};
use holdmusic_codecs::Codec;
use holdmusic_control::{PromptFailure, SourceFacts};
use holdmusic_media::{
    SourceId,
    bridge::bridge,
    prepare::{PrepareSettings, Prepared, prepare},
    source::{Job, Progress},
};
use tracing::{debug, error, info};

use crate::{
    clock,
    mailbox::{BridgeWork, Tiding, Work},
};

/// The longest that decoding one prompt may take, of this thread's time. Half an hour of MP3 takes about ten seconds on
/// one slow core.
const DECODING: Duration = Duration::from_secs(15);

/// Longer than any wait; channels take no infinity.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Frames encoded before the next source has its turn.
const TURN: usize = 50;

/// Runs until nobody sends work any more.
pub fn run(
    settings: &PrepareSettings,
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
        Ok(Ok(Progress::Working { .. } | Progress::Waiting { .. })) => jobs.push_back((source, job)),
        Ok(Ok(Progress::Closed)) => debug!(source = source.0, "the loop is closed"),
        Ok(Err(_)) | Err(_) => {
            let failure =
                PromptFailure::Sound("the encoder failed in the middle of the recording".to_owned());
            return Some(Tiding::SourceFailed { source, failure });
        }
    }
    None
}

fn cross(settings: &PrepareSettings, wanted: BridgeWork) -> Tiding {
    let BridgeWork { leg, crossing } = wanted;
    let made = catch_unwind(AssertUnwindSafe(|| {
        bridge(crossing.codec, &settings.encoder, &crossing.from, crossing.at, &crossing.to)
    }));
    Tiding::Bridged { leg, source: crossing.source, bridge: made.unwrap_or_default() }
}

/// Makes a recording playable: its first frames are encoded when this returns.
fn begin(settings: &PrepareSettings, work: Work, jobs: &mut VecDeque<(SourceId, Job)>) -> Tiding {
    let Work { source, bytes } = work;
    let began = clock::mono();
    let Prepared { reader, job, seconds, format, gain_db, warning, bytes } = match playable(settings, &bytes)
    {
        Ok(prepared) => prepared,
        Err(failure) => return Tiding::SourceFailed { source, failure },
    };
    if let Some(warning) = warning {
        info!(source = source.0, ?warning, "a prompt is hardly heard");
    }
    let ready_at = clock::mono();
    let took_ms = ready_at.since(began).as_millis();
    debug!(source = source.0, format, seconds, gain_db, took_ms, "a source is ready");
    jobs.push_back((source, job));
    Tiding::SourceReady { source, reader, facts: SourceFacts { seconds, format, gain_db, ready_at, bytes } }
}

/// What becomes of a recording's bytes: music whose first frames are encoded, or the reason why not, as an operation
/// tells it.
pub(crate) fn playable(settings: &PrepareSettings, bytes: &[u8]) -> Result<Prepared, PromptFailure> {
    let began = clock::mono();
    let in_time = || clock::mono().since(began) < DECODING;
    match catch_unwind(AssertUnwindSafe(|| prepare(bytes, Codec::Opus, settings, &in_time))) {
        Ok(prepared) => prepared.map_err(|error| PromptFailure::Sound(error.to_string())),
        Err(_) => {
            error!("a decoder panicked; the prompt is refused");
            Err(PromptFailure::Sound("the recording is corrupt".to_owned()))
        }
    }
}
