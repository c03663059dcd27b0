//! [`Pcm`]: samples that know their rate and channels, and how much of it a stranger may make us hold.

use std::fmt;

/// Interleaved samples, nominally within ±1.0, with the rate and the channel count they were made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Pcm {
    rate: u32,
    channels: u16,
    samples: Vec<f32>,
}

impl Pcm {
    /// Takes `samples` interleaved over `channels` at `rate` Hz; a last incomplete frame of samples is cut off.
    ///
    /// # Panics
    ///
    /// If `rate` or `channels` is 0: readers refuse such files before they come here.
    pub fn new(rate: u32, channels: u16, mut samples: Vec<f32>) -> Self {
        assert!(rate > 0 && channels > 0, "a rate and at least one channel");
        samples.truncate(samples.len() - samples.len() % usize::from(channels));
        Self { rate, channels, samples }
    }

    /// Samples per second and channel, in Hz.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How many channels are interleaved.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// The samples, interleaved.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// Samples per channel.
    pub fn len(&self) -> usize {
        self.samples.len() / usize::from(self.channels)
    }

    /// Whether there is no sample at all.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// How long it sounds, in seconds.
    pub fn seconds(&self) -> f64 {
        self.len() as f64 / f64::from(self.rate)
    }
}

/// How much sound a stranger's bytes may become. Checked before memory is taken where a length is declared, and
/// while decoding where none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Longest recording in seconds. Default 1800: half an hour is longer than anybody holds.
    pub max_seconds: u32,
    /// Most channels. Default 8: 7.1 surround, the largest layout that [`crate::resample::to_mono`] knows.
    pub max_channels: u16,
    /// Lowest sample rate in Hz. Default 4000: below it there is no intelligible speech.
    pub min_rate: u32,
    /// Highest sample rate in Hz. Default 384 000: the fastest that studio converters write.
    pub max_rate: u32,
    /// Most samples over all channels. Default 172 800 000, which is half an hour of 48 kHz stereo (659 MiB while
    /// it is decoded): the other limits together would allow 22 GB.
    pub max_samples: u64,
    /// Most CPU time for decoding, in seconds. Default 15: half an hour of MP3 takes about ten on one slow core. Kept by
    /// whoever has a clock, through `may_go_on`.
    pub max_cpu_seconds: u32,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_seconds: 1800,
            max_channels: 8,
            min_rate: 4_000,
            max_rate: 384_000,
            max_samples: 1800 * 48_000 * 2,
            max_cpu_seconds: 15,
        }
    }
}

impl DecodeLimits {
    /// Whether sound of this shape may be held: `frames` samples in each of `channels` at `rate` Hz.
    ///
    /// # Errors
    ///
    /// The first limit that it is beyond.
    pub fn check(&self, rate: u32, channels: usize, frames: u64) -> Result<(), BeyondLimit> {
        if channels == 0 || channels > usize::from(self.max_channels) {
            return Err(BeyondLimit::Channels { found: channels, limit: self.max_channels });
        }
        // A rate of 0 stays outside whatever an operator configures: everything divides by it.
        if rate == 0 || rate < self.min_rate || rate > self.max_rate {
            return Err(BeyondLimit::Rate { found: rate, min: self.min_rate, max: self.max_rate });
        }
        if frames > u64::from(rate) * u64::from(self.max_seconds) {
            return Err(BeyondLimit::Seconds { limit: self.max_seconds });
        }
        if frames.saturating_mul(channels as u64) > self.max_samples {
            return Err(BeyondLimit::Samples { limit: self.max_samples });
        }
        Ok(())
    }
}

/// Which limit a recording is beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeyondLimit {
    /// No channel, or too many.
    Channels {
        /// Channels of the recording.
        found: usize,
        /// [`DecodeLimits::max_channels`].
        limit: u16,
    },
    /// A sample rate that no sound has.
    Rate {
        /// Rate of the recording in Hz.
        found: u32,
        /// [`DecodeLimits::min_rate`].
        min: u32,
        /// [`DecodeLimits::max_rate`].
        max: u32,
    },
    /// Too long; how long is not said, because decoding stops at the limit.
    Seconds {
        /// [`DecodeLimits::max_seconds`].
        limit: u32,
    },
    /// Short enough, but too many samples in all channels together.
    Samples {
        /// [`DecodeLimits::max_samples`].
        limit: u64,
    },
}

impl fmt::Display for BeyondLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channels { found, limit } => {
                write!(f, "the recording has {found} channels; 1 to {limit} are accepted")
            }
            Self::Rate { found, min, max } => {
                write!(f, "the recording has a sample rate of {found} Hz; {min} to {max} Hz are accepted")
            }
            Self::Seconds { limit } => {
                write!(f, "the recording is longer than {limit} seconds, the longest that is accepted")
            }
            Self::Samples { limit } => {
                write!(f, "the recording has more than {limit} samples, the most that are accepted")
            }
        }
    }
}

impl std::error::Error for BeyondLimit {}
