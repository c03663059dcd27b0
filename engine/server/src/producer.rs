//! Producers: the threads that fill rings. Bytes come in, a source that can be played goes out, and its loop is
//! encoded step by step behind the listeners.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, select_biased};
use holdmusic_codecs::{Codec, DecodeLimits};
use holdmusic_control::{DEFAULT_SOURCE, Freshness, PromptCause, PromptFailure, SourceFacts};
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
            let failure = PromptFailure::new(
                PromptCause::EncodeFailed,
                "the encoder failed in the middle of the recording",
            );
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
    let (began, worked) = (clock::mono(), clock::thread_cpu());
    // The limits are for strangers' recordings: however short they may be, ours is played.
    let ours = PrepareSettings { limits: DecodeLimits::default(), ..settings.clone() };
    let settings = if source == DEFAULT_SOURCE { &ours } else { settings };
    let most = Duration::from_secs(settings.limits.max_cpu_seconds.into());
    let in_time = || clock::thread_cpu().saturating_sub(worked) < most;
    let prepared = catch_unwind(AssertUnwindSafe(|| prepare(&bytes, Codec::Opus, settings, &in_time)));
    let Prepared { reader, job, seconds, format, gain_db, warning, bytes } = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => {
            return Tiding::SourceFailed { source, failure: (&error).into() };
        }
        Err(_) => {
            error!(source = source.0, "a decoder panicked; the prompt is refused");
            let failure = PromptFailure::new(PromptCause::Corrupt, "the recording is corrupt");
            return Tiding::SourceFailed { source, failure };
        }
    };
    if let Some(warning) = warning {
        info!(source = source.0, ?warning, "a prompt is hardly heard");
    }
    let ready_at = clock::mono();
    let took_ms = ready_at.since(began).as_millis();
    debug!(source = source.0, format, seconds, gain_db, took_ms, "a source is ready");
    jobs.push_back((source, job));
    Tiding::SourceReady {
        source,
        reader,
        facts: SourceFacts { seconds, format, gain_db, ready_at, bytes, freshness: Freshness::FOR_EVER },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUSIC: &[u8] = include_bytes!("../../../assets/fixtures/kinds/pcm-16.wav");

    fn begun(source: SourceId, limits: DecodeLimits) -> Tiding {
        let settings = PrepareSettings { limits, ..PrepareSettings::default() };
        begin(&settings, Work { source, bytes: MUSIC.to_vec() }, &mut VecDeque::new())
    }

    #[test]
    fn a_prompt_without_cpu_time_is_given_up_with_that_cause() {
        let Tiding::SourceFailed { failure, .. } =
            begun(SourceId(1), DecodeLimits { max_cpu_seconds: 0, ..DecodeLimits::default() })
        else {
            panic!("it has no time")
        };
        assert_eq!(failure.cause, PromptCause::DecodeTimeout);
    }

    #[test]
    fn the_limits_of_prompts_do_not_hold_for_our_own_music() {
        let short = DecodeLimits { max_seconds: 0, ..DecodeLimits::default() };
        assert!(matches!(begun(SourceId(1), short.clone()), Tiding::SourceFailed { .. }));
        assert!(matches!(begun(DEFAULT_SOURCE, short), Tiding::SourceReady { .. }));
    }
}
