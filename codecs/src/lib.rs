//! Sound to bytes and back: recordings become [`Pcm`], [`Pcm`] becomes a loop, and a loop becomes payloads.
//!
//! Nothing here reads a clock, opens a file, starts a thread or throws dice.

pub mod music;
pub mod pcm;
pub mod wav;
pub mod decode;
pub mod arrival;
pub mod resample;
pub mod level;
pub mod seam;
pub mod encode;
pub mod opus;
pub mod g722;
pub mod l16;
pub mod pcma;
pub mod pcmu;
pub mod compare;
pub mod click;
pub mod inspect;

pub use arrival::StreamDecoder;
pub use click::Join;
pub use compare::{Alignment, align, align_loop, loudness_lufs};
pub use decode::{DecodeError, Recording, decode, decode_mono, decode_mono_counted};
pub use encode::{Codec, DecodePayload, EncodeError, Encoder, EncoderSettings};
pub use inspect::{Inspection, inspect};
pub use level::{Gain, Level, LevelSettings, Levelled, LimiterStream, Warning, level_loop};
pub use pcm::{BeyondLimit, DecodeLimits, Pcm};
pub use resample::{StreamResampler, resample, resample_loop, to_mono};
pub use seam::{Loop, PointsIgnored, trim_silence};
pub use wav::{LoopPoints, WavError};

/// Length of one frame of sound in milliseconds, which is the packet interval of every leg but those whose peers take no
/// longer packets than [`SHORT_FRAME_MS`] (RFC 7587 section 4.2 recommends 20 ms for Opus; RFC 3551 section 4.2 makes it
/// the default of the others).
pub const FRAME_MS: u32 = 20;

/// Length of a short frame in milliseconds: half of [`FRAME_MS`], so that two of them fit into every time that one has.
pub const SHORT_FRAME_MS: u32 = 10;
