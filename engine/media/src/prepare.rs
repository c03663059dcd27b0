//! [`prepare`]: a recording's bytes come in, music that can be played from its first frame goes out, with the work that
//! is left to do behind the listeners.

use std::{fmt, sync::Arc};

use holdmusic_codecs::{
    Codec, DecodeError, DecodeLimits, EncodeError, EncoderSettings, LevelSettings, Loop, Warning,
    decode_mono, level::soft_start, level_loop,
};

use crate::{
    ring::Reader,
    source::{Job, rendition},
};

/// Frames encoded before music is called playable: half a second, some milliseconds of work.
const AHEAD: usize = 25;

/// Bytes of memory that a frame takes in a ring: 80 of payload, 32 of slot and pointer, and the allocator's share.
const FRAME_BYTES: u64 = 136;

/// How prompts are made playable.
#[derive(Clone, Debug, Default)]
pub struct PrepareSettings {
    /// What a recording may be.
    pub limits: DecodeLimits,
    /// How loud it is played.
    pub level: LevelSettings,
    /// How it is encoded.
    pub encoder: EncoderSettings,
}

/// Music that can be played.
pub struct Prepared {
    /// Its frames, for the legs.
    pub reader: Reader,
    /// What is left to encode.
    pub job: Job,
    /// How long the recording is, in seconds.
    pub seconds: f64,
    /// What it was, for a human: `WAV, PCM 16-bit, 8000 Hz, 1 channel`.
    pub format: String,
    /// The gain that it is played with, in dB.
    pub gain_db: f64,
    /// What an operator should know about its level.
    pub warning: Option<Warning>,
    /// Memory that its frames take, in bytes.
    pub bytes: u64,
}

/// Why a recording cannot be played.
#[derive(Clone, Debug, PartialEq)]
pub enum PrepareError {
    /// It is none that we can decode.
    Decode(DecodeError),
    /// It cannot be encoded.
    Encode(EncodeError),
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PrepareError {}

/// Makes a recording playable in `codec`. `may_go_on` is asked now and then while it is decoded; it is how a caller who
/// has a clock limits the time.
///
/// # Errors
///
/// The reason in the customer's voice.
pub fn prepare(
    bytes: &[u8],
    codec: Codec,
    settings: &PrepareSettings,
    may_go_on: &dyn Fn() -> bool,
) -> Result<Prepared, PrepareError> {
    let recording = decode_mono(bytes, &settings.limits, may_go_on).map_err(PrepareError::Decode)?;
    let seconds = recording.pcm.seconds();
    let (rate, frame) = (codec.sample_rate(), codec.samples_per_frame());
    // Points that cannot be meant are passed over: then all of it repeats.
    let (circle, _ignored) = Loop::with_points(&recording.pcm, recording.loop_points, rate, frame);
    drop(recording.pcm);
    let levelled = level_loop(&circle, &settings.level);
    drop(circle);
    let sound = Arc::new(soft_start(&levelled.sound));
    let frames = (sound.intro_frames() + sound.frames()) as u64;
    let (reader, mut job) = rendition(sound, codec, &settings.encoder).map_err(PrepareError::Encode)?;
    job.step(AHEAD).map_err(PrepareError::Encode)?;
    Ok(Prepared {
        reader,
        job,
        seconds,
        format: recording.format,
        gain_db: levelled.gain.db,
        warning: levelled.warning,
        bytes: frames * FRAME_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::At;

    const MUSIC: &[u8] = include_bytes!("../../../assets/fixtures/kinds/pcm-16.wav");

    #[test]
    fn a_recording_can_be_played_from_its_first_frame_when_it_is_prepared() {
        let prepared = prepare(MUSIC, Codec::Opus, &PrepareSettings::default(), &|| true).unwrap();
        for position in 0..AHEAD as u64 {
            assert_eq!(prepared.reader.at(position, &mut [0; 1280]), At::Frame(80));
        }
        assert!(prepared.seconds > 0.5);
        assert!(prepared.format.starts_with("WAV, PCM 16-bit"), "{}", prepared.format);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let given_up = prepare(MUSIC, Codec::Opus, &PrepareSettings::default(), &|| false);
        assert!(matches!(given_up, Err(PrepareError::Decode(DecodeError::TookTooLong { .. }))));
    }
}
