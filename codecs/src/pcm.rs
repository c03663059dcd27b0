//! [`Pcm`]: samples that know their rate and channels.

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
