//! Our engine: holds over HTTP, each with the prompt as its `customPrompt`.

use std::io;

use holdmusic_bench::engine::Engine;
use serde_json::json;

use crate::stage::{Job, Kept, Peer, Playing, moment_ns};

/// The engine that was built beside this program.
pub(crate) struct Ours {
    /// Where the prompt is: at an HTTP origin, which says that it stays good. A file of `--prompts` would be read again
    /// for each hold.
    url: String,
}

impl Ours {
    /// It will play what is at `url`.
    pub(crate) fn new(url: String) -> Self {
        Self { url }
    }
}

impl Peer for Ours {
    fn name(&self) -> String {
        "holdmusic".to_owned()
    }

    fn begin(&self, job: &Job<'_>) -> io::Result<Playing> {
        let body = json!({ "customPrompt": { "mediaInfo": { "uri": self.url, "resourceId": "peers" } } });
        let engine = Engine::start(&["--senders", "1", "--allow-fetch", "127.0.0.0/8"], Some(job.core))?;
        Playing::one_by_one(Kept::Engine(engine), job, |kept, leg| {
            let Kept::Engine(engine) = kept else { return Err(io::Error::other("not our engine")) };
            let who = engine.participant_at(job.destination(leg))?;
            job.pause();
            let asked_ns = moment_ns();
            engine.post(&format!("{who}/startHoldMusic"), &body)?;
            job.warm(leg);
            Ok(asked_ns)
        })
    }
}
