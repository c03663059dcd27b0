//! [`prepare`]: a recording's bytes come in, music that can be played from its first frame goes out, with the work that
//! is left to do behind the listeners.

use std::{fmt, sync::Arc};

use holdmusic_codecs::{
    Codec, DecodeError, DecodeLimits, EncodeError, EncoderSettings, LevelSettings, Loop, Warning,
    decode_mono, level::soft_start, level_loop, trim_silence,
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
    /// What counts as silence at both ends of a recording and is not played, in dB of full scale; `None` plays all.
    pub trim_silence_dbfs: Option<f64>,
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
    let mut recording = decode_mono(bytes, &settings.limits, may_go_on).map_err(PrepareError::Decode)?;
    let seconds = recording.pcm.seconds();
    // Loop points count from the recording's first sample, and say what silence is wanted.
    if let (Some(threshold_dbfs), None) = (settings.trim_silence_dbfs, recording.loop_points) {
        recording.pcm = trim_silence(&recording.pcm, threshold_dbfs);
    }
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

    /// Speech with a second and a half of noise at -70 dB before and behind it: with the setting the first frame is
    /// speech and a lap has no pause, without it all is played.
    #[test]
    fn silence_at_both_ends_is_left_out_where_that_is_wanted() {
        let speech = holdmusic_codecs::decode(MUSIC, &DecodeLimits::default()).unwrap().pcm;
        let noise = |n: usize| if n * 7919 % 13 < 6 { 10i16 } else { -10 };
        let mut samples: Vec<i16> = (0..24_000).map(noise).collect();
        samples.extend(speech.samples().iter().map(|sample| (sample * 32_767.0) as i16));
        samples.extend((0..24_000).map(noise));
        let mut wav = b"RIFF\xFF\xFF\xFF\xFFWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend([16_000u32.to_le_bytes(), 32_000u32.to_le_bytes()].concat());
        wav.extend(b"\x02\0\x10\0data\xFF\xFF\xFF\xFF");
        samples.iter().for_each(|sample| wav.extend(sample.to_le_bytes()));
        let sound = |trim_silence_dbfs| {
            let settings = PrepareSettings { trim_silence_dbfs, ..PrepareSettings::default() };
            let prepared = prepare(&wav, Codec::Opus, &settings, &|| true).unwrap();
            assert!((prepared.seconds - 3.8).abs() < 0.001, "{}", prepared.seconds);
            Arc::clone(prepared.job.sound().unwrap())
        };
        let energy = |frame: &[f32]| frame.iter().map(|sample| sample * sample).sum::<f32>();
        let (all, trimmed) = (sound(None), sound(Some(-60.0)));
        assert_eq!(all.frames(), 190);
        assert!(trimmed.seconds() / (trimmed.turns() as f64) < 0.81, "{} s", trimmed.seconds());
        assert!(energy(all.frame(0)) < 1e-3 && energy(trimmed.frame(0)) > 0.1);
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let given_up = prepare(MUSIC, Codec::Opus, &PrepareSettings::default(), &|| false);
        assert!(matches!(given_up, Err(PrepareError::Decode(DecodeError::TookTooLong { .. }))));
    }
}
