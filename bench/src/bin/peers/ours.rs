//! Our engine: holds over HTTP, each with the prompt as its `customPrompt`.

use std::{io, thread, time::Duration};

use holdmusic_bench::engine::Engine;
use serde_json::json;

use crate::stage::{Job, Kept, Peer, Playing, moment_ns};

/// The engine that was built beside this program.
pub(crate) struct Ours;

/// After the first hold, so long until the prompt is encoded to its end and closed: the other holds find it warm.
const WARM: Duration = Duration::from_secs(1);

impl Peer for Ours {
    fn name(&self) -> String {
        "holdmusic".to_owned()
    }

    fn begin(&self, job: &Job<'_>) -> io::Result<Playing> {
        let (Some(directory), Some(name)) = (job.prompt.parent(), job.prompt.file_name()) else {
            return Err(io::Error::other("the prompt is not in a directory"));
        };
        let directory = directory.to_string_lossy();
        let flags = ["--senders", "1", "--prompts", &directory];
        let uri = format!("file:///{}", name.to_string_lossy());
        let body = json!({ "customPrompt": { "mediaInfo": { "uri": uri, "resourceId": "peers" } } });
        let engine = Engine::start(&flags, Some(job.core))?;
        Playing::one_by_one(Kept::Engine(engine), job.legs, |kept, leg| {
            let Kept::Engine(engine) = kept else { return Err(io::Error::other("not our engine")) };
            let who = engine.participant_at(job.destination(leg))?;
            let asked_ns = moment_ns();
            engine.post(&format!("{who}/startHoldMusic"), &body)?;
            if leg == 0 {
                thread::sleep(WARM);
            }
            Ok(asked_ns)
        })
    }
}
