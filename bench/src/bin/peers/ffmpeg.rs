//! FFmpeg: a process for each leg, which decodes, encodes and paces for it alone.

use std::{io, path::Path, process::Command};

use crate::stage::{Children, Job, Kept, Peer, Playing, Sound, moment_ns};

/// `ffmpeg`.
pub(crate) struct Ffmpeg {
    version: String,
}

/// Bytes of a packet at most: 160 of G.711 behind a header of 12. A frame of Opus is smaller.
const PACKET: u32 = 172;

impl Ffmpeg {
    /// Finds it, or says what is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let said = Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).output();
        let said = said.map_err(|_| "ffmpeg is not installed".to_owned())?;
        if !String::from_utf8_lossy(&said.stdout).contains(" libopus ") {
            return Err("this ffmpeg has no libopus".to_owned());
        }
        let said = Command::new("ffmpeg").arg("-version").output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&said.stdout);
        let version = said.split_whitespace().nth(2).unwrap_or_default();
        Ok(Self { version: version.split('-').next().unwrap_or_default().to_owned() })
    }
}

impl Peer for Ffmpeg {
    fn name(&self) -> String {
        format!("FFmpeg {}", self.version)
    }

    fn begin(&self, job: &Job<'_>) -> io::Result<Playing> {
        let encoder = match job.sound {
            // Rate, channels, bit rate and effort as ours.
            Sound::Opus => {
                "-ar 16000 -c:a libopus -b:a 32k -vbr off -compression_level 9 -frame_duration 20 -payload_type 111"
            }
            Sound::Pcmu => "-af aresample=8000,asetnsamples=160:p=0 -c:a pcm_mulaw",
        };
        Playing::one_by_one(Kept::Children(Children::default()), job, |kept, leg| {
            let Kept::Children(children) = kept else { return Err(io::Error::other("not a process")) };
            let mut command = job.command(Path::new("ffmpeg"));
            command.args("-nostdin -loglevel error -re -stream_loop -1 -i".split_whitespace());
            command.arg(job.prompt).args(["-ac", "1"]).args(encoder.split_whitespace());
            command.args(["-f", "rtp"]).arg(format!("rtp://{}?pkt_size={PACKET}", job.destination(leg)));
            job.pause();
            let asked_ns = moment_ns();
            children.0.push(command.spawn()?);
            Ok(asked_ns)
        })
    }
}
