//! A dry run: a prompt's address, or a file, comes in, is fetched and prepared as an operation would have it done, and
//! what was found goes out. It has threads of its own and asks nothing of control.

mod command;
mod table;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use holdmusic_codecs::{Codec, Join, PointsIgnored, inspect};
use holdmusic_control::{
    Origin, PromptCause, PromptFailure, Refusal, Settings,
    graph::{Playable, PromptCheck, Terms},
    prompt::Prompt,
};
use holdmusic_media::{
    prepare::{PrepareSettings, Prepared, prepare},
    rehearsal::rehearse,
};
use tokio::sync::{Semaphore, oneshot};
use tracing::{debug, error};

use crate::{clock, fetch::Fetcher, producer::corrupt};

pub use command::{CheckOptions, run, shown_argument};

/// Checks at a time, those that still fetch included: as many recordings may be in memory.
const CHECKS: usize = 8;

/// Recordings that are looked at at a time. The others wait with their bytes: a check takes whole seconds of a core,
/// and those who are held come first.
const LOOKS: usize = 2;

/// When somebody who found all places taken may try again, in seconds: a check of a prompt of some minutes takes one.
const TRY_AGAIN_S: u32 = 2;

/// How long encoding a whole lap may take. Half an hour takes about ten seconds of one slow core.
const REHEARSING: Duration = Duration::from_secs(30);

/// Checks prompts for those who ask by HTTP.
pub struct Checker {
    fetcher: Fetcher,
    prepare: PrepareSettings,
    settings: Settings,
    places: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

impl Checker {
    /// A checker that goes where `fetcher` goes and finds what producers with `prepare` would find.
    pub fn new(fetcher: Fetcher, prepare: PrepareSettings, settings: Settings) -> Self {
        let [places, looks] = [CHECKS, LOOKS].map(|places| Arc::new(Semaphore::new(places)));
        Self { fetcher, prepare, settings, places, looks }
    }

    /// Checks a prompt. A prompt that cannot be played is a finding and no refusal.
    ///
    /// # Errors
    ///
    /// 400 8523 for a file where the operator has named no directory, 503 when as many checks are under way as there
    /// are places, 500 for a fault of ours.
    pub async fn check(&self, prompt: Prompt) -> Result<PromptCheck, Refusal> {
        self.settings.check_origin(Some(&prompt))?;
        let full = |_| {
            let words = format!("{CHECKS} prompts are being checked, and there is no place for more.");
            Refusal::unavailable(words, TRY_AGAIN_S)
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        let terms = Terms::from(&self.settings);
        let (bytes, fetch) = match fetched(&self.fetcher, &prompt.origin).await {
            Ok(fetched) => fetched,
            Err(failure) => {
                let outcome = Err(failure);
                return Ok(PromptCheck { prompt: Some(prompt), bytes: None, fetch: None, outcome, terms });
            }
        };
        let internal = || Refusal::internal("The check of this prompt failed.");
        let look = Arc::clone(&self.looks).acquire_owned().await.map_err(|_| internal())?;
        let (tell, told) = oneshot::channel();
        let prepare = self.prepare.clone();
        let work = move || {
            let _ = rustix::process::nice(NICENESS);
            let looked = catch_unwind(AssertUnwindSafe(|| {
                let len = bytes.len() as u64;
                (len, look_at(bytes, &prepare, &|_| ()))
            }));
            // The places are given back with the work and not with the asker, who may have hung up.
            drop((look, place));
            let _ = tell.send(looked);
        };
        thread::Builder::new().name("hm-check".to_owned()).spawn(work).map_err(|error| {
            error!(%error, "no thread for a check");
            Refusal::unavailable("The engine has no thread for a check.", TRY_AGAIN_S)
        })?;
        let (bytes, outcome) = told.await.map_err(|_| internal())?.map_err(|_| internal())?;
        debug!(bytes, playable = outcome.is_ok(), "a prompt is checked");
        Ok(PromptCheck { prompt: Some(prompt), bytes: Some(bytes), fetch: Some(fetch), outcome, terms })
    }
}

/// How far a check gives way to everything else.
const NICENESS: i32 = 15;

/// The bytes of a prompt and how long they took.
async fn fetched(fetcher: &Fetcher, origin: &Origin) -> Result<(Vec<u8>, Duration), PromptFailure> {
    let began = clock::mono();
    let bytes = fetcher.whole(origin).await?;
    Ok((bytes, clock::mono().since(began)))
}

/// What becomes of a recording's bytes: music whose first frames are encoded, or the reason why not, as an operation
/// tells it.
fn playable(settings: &PrepareSettings, bytes: &[u8]) -> Result<Prepared, PromptFailure> {
    let began = clock::thread_cpu();
    let limit = Duration::from_secs(settings.limits.max_cpu_seconds.into());
    let in_time = || clock::thread_cpu().saturating_sub(began) < limit;
    match catch_unwind(AssertUnwindSafe(|| prepare(bytes, Codec::Opus, settings, &in_time))) {
        Ok(prepared) => prepared.map_err(|error| PromptFailure::from(&error)),
        Err(_) => {
            error!("a decoder panicked; the prompt is refused");
            Err(corrupt())
        }
    }
}

/// Where a check is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// It is made playable, as a producer would.
    Preparing,
    /// Every channel of it is looked at.
    Looking,
    /// So many frames of a lap of that many are encoded.
    Encoding { frames: u64, of: u64 },
}

/// Prepares a recording as a producer would, and looks at it. What comes behind the preparation is bounded by the
/// limits of what can be prepared.
pub(crate) fn look_at(
    bytes: Vec<u8>,
    settings: &PrepareSettings,
    at: &dyn Fn(Stage),
) -> Result<Box<Playable>, PromptFailure> {
    at(Stage::Preparing);
    let began = clock::mono();
    let prepared = playable(settings, &bytes)?;
    let prepare = clock::mono().since(began);

    at(Stage::Looking);
    let (recording, inspection) =
        inspect(&bytes, &settings.limits, &|| true).map_err(|error| PromptFailure::from(&error))?;
    drop(bytes);
    let ignored = |points| (points, PointsIgnored::of(points, &recording.pcm));
    let loop_points = recording.loop_points.map(ignored);
    let followed = loop_points.filter(|(_, ignored)| ignored.is_none()).map(|(points, _)| points);
    let codec = Codec::Opus;
    let before = Join::of_repeated(&recording.pcm, followed, codec.sample_rate());
    let points = followed.map(|points| (points, recording.pcm.rate()));
    drop(recording.pcm);

    let Prepared { gain_db, warning, .. } = prepared;
    let of = (inspection.seconds * 50.0) as u64;
    let began = clock::mono();
    let go_on = |frames| {
        at(Stage::Encoding { frames, of });
        clock::mono().since(began) < REHEARSING
    };
    let rehearsal = rehearse(prepared, codec, points, &go_on)
        .map_err(|error| PromptFailure::new(PromptCause::EncodeFailed, error.to_string()))?
        .ok_or_else(corrupt)?;
    Ok(Box::new(Playable {
        format: recording.format,
        inspection,
        cut_short: recording.cut_short,
        loop_points,
        before,
        gain_db,
        level_warning: warning,
        prepare,
        rehearsal,
    }))
}
