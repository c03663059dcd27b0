//! GStreamer in its strongest form: the sound is encoded once, and one element sends every packet to all with `sendmmsg`.
//!
//! Its job is easier than ours: all legs get the same SSRC and numbering, and all begin together.

use std::{io, path::Path, process::Command};

use crate::stage::{Children, Job, Kept, Peer, Playing, Sound, moment_ns};

/// `gst-launch-1.0`.
pub(crate) struct Gstreamer {
    version: String,
}

/// An argument has at most 128 KiB (execve(2), `MAX_ARG_STRLEN`), and a client there takes up to 18 bytes.
pub(crate) const MOST_CLIENTS: u32 = 7000;

impl Gstreamer {
    /// Finds it, or says what is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let said = Command::new("gst-launch-1.0").arg("--version").output();
        let said = said.map_err(|_| "gst-launch-1.0 is not installed".to_owned())?;
        let said = String::from_utf8_lossy(&said.stdout);
        let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        for element in ["opusenc", "rtpopuspay", "mulawenc", "rtppcmupay", "multiudpsink"] {
            let found = Command::new("gst-inspect-1.0").args(["--exists", element]).status();
            if !found.is_ok_and(|status| status.success()) {
                return Err(format!("GStreamer's element {element} is not installed"));
            }
        }
        Ok(Self { version: version.unwrap_or_default().to_owned() })
    }
}

impl Peer for Gstreamer {
    fn name(&self) -> String {
        format!("GStreamer {}", self.version)
    }

    fn begin(&self, job: &Job<'_>) -> io::Result<Playing> {
        let clients: Vec<_> = (0..job.legs).map(|leg| job.destination(leg).to_string()).collect();
        let pipeline = match job.sound {
            // Rate, channels, bit rate and effort as ours.
            Sound::Opus => {
                "audio/x-raw,rate=16000,channels=1 ! opusenc bitrate=32000 bitrate-type=cbr complexity=9 \
                 frame-size=20 ! rtpopuspay pt=111"
            }
            Sound::Pcmu => {
                "audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay pt=0 min-ptime=20000000 \
                 max-ptime=20000000"
            }
        };
        let mut command = job.command(Path::new("gst-launch-1.0"));
        command.args(["-q", "filesrc"]).arg(format!("location={}", job.prompt.display()));
        command.args("! wavparse ! audioconvert ! audioresample !".split_whitespace());
        command.args(pipeline.split_whitespace());
        // A send buffer for thousands, as our sockets have it.
        command.args(["!", "multiudpsink", "sync=true", "buffer-size=4194304"]);
        command.arg(format!("clients={}", clients.join(",")));
        let asked_ns = moment_ns();
        let children = Children(vec![command.spawn()?]);
        Ok(Playing::at_once(Kept::Children(children), job.legs, asked_ns))
    }
}
