//! What should be heard, and whether it was.

use std::{fs, io, path::Path};

use holdmusic_codecs::{
    Codec, DecodeLimits, EncoderSettings, Loop, Pcm, align, align_loop, compare::correlate, decode,
    loudness_lufs, music, to_mono,
};

use crate::hearing::Recorded;

/// How much less like the recording than a plain encoding of the same part of it may what was heard be. Another
/// recording is less like it by more than half.
const TOLERANCE: f64 = 0.03;

/// How far the loudness may be from the recording's plus the gain, in LU, as in `holdmusic demo`.
const LOUDNESS_LU: f64 = 1.0;

/// A decoder that begins in mid-stream needs some frames to find into the music: 100 ms.
const FINDING_IN: usize = 1_600;

/// Less than this of a sound cannot be judged: a second.
const LEAST: usize = 16_000;

/// Where a sound is looked for around where it should be: 100 ms, five frames.
const AROUND: usize = 1_600;

/// Frames of concealment that are no fault: none was lost, so none.
const CONCEALED_S: f64 = 0.0;

/// A recording as the engine plays it, round and round.
pub(crate) struct Expected {
    pub(crate) name: &'static str,
    samples: Vec<f32>,
    /// The same, encoded and decoded.
    plain: Vec<f32>,
}

impl Expected {
    /// What a recording's bytes sound like.
    pub(crate) fn of(name: &'static str, bytes: &[u8]) -> io::Result<Self> {
        let recording = decode(bytes, &DecodeLimits::default()).map_err(io::Error::other)?;
        Self::of_sound(name, &to_mono(&recording.pcm))
    }

    /// The default music.
    pub(crate) fn default_music() -> io::Result<Self> {
        Self::of_sound("default music", &music::default_music())
    }

    fn of_sound(name: &'static str, sound: &Pcm) -> io::Result<Self> {
        let codec = Codec::Opus;
        let sound = Loop::new(sound, codec.sample_rate(), codec.samples_per_frame());
        let mut encoder = codec.encoder(&EncoderSettings::default()).map_err(io::Error::other)?;
        let mut decoder = codec.decoder().map_err(io::Error::other)?;
        let mut payload = vec![0; encoder.max_payload_len()];
        let mut plain = Vec::with_capacity(sound.samples().len());
        for index in 0..sound.frames() {
            let len = encoder.encode(sound.frame(index), &mut payload).map_err(io::Error::other)?;
            decoder.decode(Some(&payload[..len]), &mut plain).map_err(io::Error::other)?;
        }
        Ok(Self { name, samples: sound.samples().to_vec(), plain })
    }

    /// Whether this was heard: how alike they are, or what is wrong. `in_step` if the recording began with the hold, so
    /// that it is known which part must be heard.
    pub(crate) fn judge(
        &self,
        recorded: &Recorded,
        gain_db: Option<f64>,
        in_step: bool,
    ) -> Result<f64, String> {
        let decoded = recorded.receiver.decode();
        if decoded.refused > 0 || decoded.concealed_s > CONCEALED_S {
            return Err(format!(
                "{} payloads refused, {:.2} s made up by the decoder",
                decoded.refused, decoded.concealed_s
            ));
        }
        let heard = decoded.sound.samples().get(FINDING_IN..).unwrap_or_default();
        if heard.len() < LEAST {
            return Err(format!("only {} ms were heard", decoded.sound.len() / 16));
        }
        let lap = self.samples.len();
        let from = if in_step {
            // Three timestamp units are a sample at 16 kHz.
            let meant = recorded.from_units as usize / 3 + FINDING_IN;
            let around = self.part(&self.samples, meant + lap - AROUND, heard.len() + 2 * AROUND);
            let shift = align(&around, heard).offset_samples;
            let from = meant as i64 - AROUND as i64 - shift;
            usize::try_from(from.rem_euclid(lap as i64)).expect("not negative")
        } else {
            let offset = align_loop(&self.samples, heard).offset_samples;
            usize::try_from((-offset).rem_euclid(lap as i64)).expect("not negative")
        };
        let meant = self.part(&self.samples, from, heard.len());
        // A tick that was left out is silence at the receiver; it is told elsewhere and not judged here.
        let plain = sounding(&self.part(&self.plain, from, heard.len()), heard);
        let (meant, heard) = (sounding(&meant, heard), sounding(heard, heard));
        let (correlation, plain) = (correlate(&meant, &heard), correlate(&meant, &plain));
        if correlation < plain - TOLERANCE {
            return Err(format!("correlation {correlation:.4} with {}; Opus alone {plain:.4}", self.name));
        }
        let rate = Codec::Opus.sample_rate();
        let loudness = |samples: &[f32]| loudness_lufs(&Pcm::new(rate, 1, samples.to_vec()));
        if let (Some(gain_db), Some(meant), Some(heard)) = (gain_db, loudness(&meant), loudness(&heard))
            && (heard - meant - gain_db).abs() > LOUDNESS_LU
        {
            return Err(format!("{heard:.1} LUFS instead of {meant:.1} and a gain of {gain_db:+.1} dB"));
        }
        Ok(correlation)
    }

    fn part(&self, samples: &[f32], from: usize, len: usize) -> Vec<f32> {
        samples.iter().cycle().skip(from % samples.len()).take(len).copied().collect()
    }
}

/// What of `samples` stands where something was heard: half a frame without any sound, and the two frames after it, do
/// not count.
fn sounding(samples: &[f32], heard: &[f32]) -> Vec<f32> {
    let half = Codec::Opus.samples_per_frame() / 2;
    let (mut left_out, mut there) = (0, Vec::new());
    for (samples, heard) in samples.chunks(half).zip(heard.chunks(half)) {
        if heard.iter().all(|sample| *sample == 0.0) {
            left_out = 4;
        } else if left_out > 0 {
            left_out -= 1;
        } else {
            there.extend_from_slice(samples);
        }
    }
    there
}

/// A fixture.
pub(crate) fn fixture(name: &str) -> io::Result<Vec<u8>> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fixtures").join(name))
}
