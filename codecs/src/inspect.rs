//! [`inspect`]: a recording's bytes come in, what is known about it as it is goes out: level, clipping, silence, DC,
//! what mixing takes away, and its outline. Every channel is looked at while it is decoded; none is kept.

use std::cell::RefCell;

use ebur128::Mode;

use crate::{
    compare::LoudnessMeter,
    decode::{DecodeError, Recording, decode_mono_watched},
    level::Level,
    pcm::DecodeLimits,
    resample::mono_weights,
};

/// What a recording is like, before anything is done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Samples per second and channel, in Hz.
    pub rate: u32,
    /// How many channels there are.
    pub channels: u16,
    /// How long it is, in seconds.
    pub seconds: f64,
    /// How loud it is: all channels together, and the highest true peak of any.
    pub level: Level,
    /// Where it is at full scale for longer than a peak is.
    pub clipping: Clipping,
    /// How long no channel reaches [`SILENCE_DBFS`] at its beginning, in seconds; all of it if none ever does.
    pub silence_before: f64,
    /// The same at its end; nothing if no channel ever does.
    pub silence_behind: f64,
    /// The mean of the channel with the largest one, as a share of full scale; with its sign.
    pub dc_offset: f64,
    /// What is left of the channels' power when they are mixed into one, in dB of what would be left if they had
    /// nothing to do with each other: 3 for two equal channels, 0 for unrelated ones, far below where they cancel
    /// each other out. `None` for one channel.
    pub mix_db: Option<f64>,
    /// Its outline.
    pub waveform: Waveform,
}

/// Sound below this, in dB of full scale, is silence at a recording's ends. The noise of a telephone line is above it.
pub const SILENCE_DBFS: f32 = -60.0;

/// Runs of samples that all stand at a channel's highest or lowest value, which is at full scale or close to it: what
/// is left of peaks that did not fit. One such run is three samples or more; below that a peak may be meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clipping {
    /// How many runs.
    pub runs: u64,
    /// How many samples are in them.
    pub samples: u64,
    /// Where the first one begins, in samples per channel.
    pub first: Option<u64>,
}

/// A run of so many equal samples is no accident: two are what a peak between two samples makes.
const LEAST_RUN: u64 = 3;
/// A highest value below this is somebody's choice and no clipping. A-law ends at 0.984 and µ-law at 0.980 (G.711), and
/// a clipped recording may have been made a little softer since.
const NEAR_FULL_SCALE: f32 = 0.9;

/// A recording's outline in columns of equal length, at least 300 of them where it has as many samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    /// How long a column is, in seconds; the last one may be shorter.
    pub column_seconds: f64,
    /// The columns.
    pub columns: Vec<Column>,
}

/// What of all channels is in one column of a waveform, as a share of full scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// The lowest sample.
    pub lowest: f32,
    /// The highest sample.
    pub highest: f32,
    /// The effective level.
    pub rms: f32,
}

/// Decodes a recording, as [`crate::decode_mono`] does, and looks at it.
///
/// # Errors
///
/// As [`crate::decode_mono`].
pub fn inspect(
    bytes: &[u8],
    limits: &DecodeLimits,
    may_go_on: &dyn Fn() -> bool,
) -> Result<(Recording, Inspection), DecodeError> {
    let observer: RefCell<Option<Observer>> = RefCell::new(None);
    let recording = decode_mono_watched(bytes, limits, may_go_on, &|rate, channels, samples| {
        observer.borrow_mut().get_or_insert_with(|| Observer::new(rate, channels)).see(samples);
    })?;
    let observer = observer.into_inner().expect("a recording that is decoded has samples");
    Ok((recording, observer.inspection()))
}

/// Sees every channel once, from the first sample to the last.
struct Observer {
    rate: u32,
    weights: Vec<f32>,
    frames: u64,
    meter: Option<LoudnessMeter>,
    channels: Vec<Channel>,
    mix: Moments,
    first_sound: Option<u64>,
    behind_last_sound: u64,
    outline: Outline,
    finite: Vec<f32>,
}

#[derive(Clone, Default)]
struct Channel {
    moments: Moments,
    high: Plateau,
    low: Plateau,
}

impl Observer {
    fn new(rate: u32, channels: usize) -> Self {
        let narrow = u16::try_from(channels).expect("within the limit of channels");
        Self {
            rate,
            weights: mono_weights(channels),
            frames: 0,
            meter: LoudnessMeter::new(rate, narrow, Mode::I | Mode::TRUE_PEAK),
            channels: vec![Channel::default(); channels],
            mix: Moments::default(),
            first_sound: None,
            behind_last_sound: 0,
            outline: Outline::default(),
            finite: Vec::new(),
        }
    }

    fn see(&mut self, samples: &[f32]) {
        let count = self.channels.len();
        let whole = samples.len() - samples.len() % count;
        let mut finite = std::mem::take(&mut self.finite);
        finite.clear();
        // What is not a number becomes silence, as when it is played.
        finite.extend(samples[..whole].iter().map(|&s| if s.is_finite() { s } else { 0.0 }));
        if let Some(meter) = &mut self.meter {
            meter.add(&finite);
        }
        let threshold = 10f32.powf(SILENCE_DBFS / 20.0);
        for frame in finite.chunks_exact(count) {
            let at = self.frames;
            let mut mixed = 0.0;
            for ((channel, &sample), weight) in self.channels.iter_mut().zip(frame).zip(&self.weights) {
                channel.moments.add(sample);
                channel.high.see(sample, at);
                channel.low.see(-sample, at);
                mixed += sample * weight;
            }
            self.mix.add(mixed);
            self.outline.add(frame);
            self.frames += 1;
            if frame.iter().any(|sample| sample.abs() >= threshold) {
                self.first_sound.get_or_insert(at);
                self.behind_last_sound = self.frames;
            }
        }
        self.finite = finite;
    }

    fn inspection(self) -> Inspection {
        let rate = f64::from(self.rate);
        let seconds = |frames: u64| frames as f64 / rate;
        let (mut lufs, mut true_peak_dbtp) = (None, f64::NEG_INFINITY);
        if let Some(mut meter) = self.meter {
            lufs = meter.loudness_lufs();
            true_peak_dbtp = meter.true_peak_dbtp();
        }
        let means = self.channels.iter().map(|channel| channel.moments.mean(self.frames));
        let dc_offset = means.fold(0.0, |most: f64, mean| if mean.abs() > most.abs() { mean } else { most });
        let unrelated: f64 = self
            .channels
            .iter()
            .zip(&self.weights)
            .map(|(channel, weight)| channel.moments.variance(self.frames) * f64::from(*weight).powi(2))
            .sum();
        let kept = self.mix.variance(self.frames) / unrelated;
        Inspection {
            rate: self.rate,
            channels: u16::try_from(self.channels.len()).expect("it was narrow before"),
            seconds: seconds(self.frames),
            level: Level { lufs, true_peak_dbtp },
            clipping: Clipping::of(&self.channels),
            silence_before: seconds(self.first_sound.unwrap_or(self.frames)),
            silence_behind: self.first_sound.map_or(0.0, |_| seconds(self.frames - self.behind_last_sound)),
            dc_offset,
            mix_db: (self.channels.len() > 1 && unrelated > 0.0).then(|| 10.0 * kept.max(1e-20).log10()),
            waveform: self.outline.waveform(rate),
        }
    }
}

/// Sums from which a mean and a variance are made.
#[derive(Clone, Copy, Default)]
struct Moments {
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, sample: f32) {
        self.sum += f64::from(sample);
        self.squares += f64::from(sample) * f64::from(sample);
    }

    fn mean(&self, count: u64) -> f64 {
        self.sum / count.max(1) as f64
    }

    fn variance(&self, count: u64) -> f64 {
        (self.squares / count.max(1) as f64 - self.mean(count).powi(2)).max(0.0)
    }
}

/// The highest value so far, and the runs of samples that stand at it.
#[derive(Clone, Copy, Default)]
struct Plateau {
    highest: f32,
    run: u64,
    clipping: Clipping,
}

impl Plateau {
    fn see(&mut self, sample: f32, at: u64) {
        // A decoder of MP3 gives back what a clipped master had with ripples above full scale.
        let sample = sample.min(1.0);
        if sample > self.highest {
            *self = Self { highest: sample, run: 1, clipping: Clipping::default() };
        } else if sample < self.highest {
            self.run = 0;
        } else {
            self.run += 1;
            let clipping = &mut self.clipping;
            if self.run == LEAST_RUN {
                clipping.runs += 1;
                clipping.samples += LEAST_RUN;
                clipping.first.get_or_insert(at + 1 - LEAST_RUN);
            } else if self.run > LEAST_RUN {
                clipping.samples += 1;
            }
        }
    }
}

impl Clipping {
    fn of(channels: &[Channel]) -> Self {
        let plateaus = channels.iter().flat_map(|channel| [channel.high, channel.low]);
        let at_full_scale = plateaus.filter(|plateau| plateau.highest >= NEAR_FULL_SCALE);
        at_full_scale.fold(Self::default(), |all, Plateau { clipping, .. }| Self {
            runs: all.runs + clipping.runs,
            samples: all.samples + clipping.samples,
            first: all.first.into_iter().chain(clipping.first).min(),
        })
    }
}

/// With so many columns they become half as many of double length: what a picture of a few hundred pixels can show.
const MOST_COLUMNS: usize = 600;

/// A waveform of a length that is not known yet.
struct Outline {
    frames_per_column: u64,
    columns: Vec<Sums>,
}

/// One column as it grows.
#[derive(Clone, Copy)]
struct Sums {
    lowest: f32,
    highest: f32,
    squares: f64,
    samples: u64,
    frames: u64,
}

impl Default for Outline {
    fn default() -> Self {
        Self { frames_per_column: 1, columns: Vec::new() }
    }
}

impl Outline {
    fn add(&mut self, frame: &[f32]) {
        if self.columns.last().is_none_or(|column| column.frames == self.frames_per_column) {
            if self.columns.len() == MOST_COLUMNS {
                let pair = |pair: &[Sums]| pair.iter().copied().reduce(Sums::with).expect("two columns");
                self.columns = self.columns.chunks(2).map(pair).collect();
                self.frames_per_column *= 2;
            }
            let (lowest, highest) = (f32::INFINITY, f32::NEG_INFINITY);
            self.columns.push(Sums { lowest, highest, squares: 0.0, samples: 0, frames: 0 });
        }
        let column = self.columns.last_mut().expect("one was pushed if there was none");
        for &sample in frame {
            column.lowest = column.lowest.min(sample);
            column.highest = column.highest.max(sample);
            column.squares += f64::from(sample) * f64::from(sample);
        }
        column.samples += frame.len() as u64;
        column.frames += 1;
    }

    fn waveform(&self, rate: f64) -> Waveform {
        let column = |sums: &Sums| Column {
            lowest: sums.lowest,
            highest: sums.highest,
            rms: (sums.squares / sums.samples.max(1) as f64).sqrt() as f32,
        };
        Waveform {
            column_seconds: self.frames_per_column as f64 / rate,
            columns: self.columns.iter().map(column).collect(),
        }
    }
}

impl Sums {
    fn with(self, other: Self) -> Self {
        Self {
            lowest: self.lowest.min(other.lowest),
            highest: self.highest.max(other.highest),
            squares: self.squares + other.squares,
            samples: self.samples + other.samples,
            frames: self.frames + other.frames,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::{compare::loudness_lufs, decode::decode, level};

    /// A WAV of 16-bit PCM.
    fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
        let bytes = u32::try_from(samples.len() * 2).unwrap();
        let block = channels * 2;
        let mut file = b"RIFF".to_vec();
        file.extend((36 + bytes).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend((rate * u32::from(block)).to_le_bytes());
        file.extend(block.to_le_bytes());
        file.extend(b"\x10\0data");
        file.extend(bytes.to_le_bytes());
        samples.iter().for_each(|sample| file.extend(sample.to_le_bytes()));
        file
    }

    fn look(rate: u32, channels: u16, samples: &[i16]) -> Inspection {
        inspect(&wav(rate, channels, samples), &DecodeLimits::default(), &|| true).expect("a recording").1
    }

    fn sine(n: usize, hz: f64, rate: f64, level: f64) -> f64 {
        (TAU * hz * n as f64 / rate).sin() * level
    }

    #[expect(clippy::cast_possible_truncation, reason = "clipping is what is wanted")]
    fn clipped(sample: f64) -> i16 {
        (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
    }

    #[test]
    fn clipping_is_counted_and_found_where_it_begins() {
        // 100 periods of 80 samples, of which five are overdriven: each has a flat top and a flat bottom.
        let samples: Vec<i16> = (0..8_000)
            .map(|n| clipped(sine(n, 100.0, 8_000.0, if (4_000..4_400).contains(&n) { 1.5 } else { 0.5 })))
            .collect();
        let found = look(8_000, 1, &samples).clipping;
        assert_eq!(found.runs, 10, "{found:?}");
        let first = samples.iter().position(|&sample| sample == i16::MAX).unwrap() as u64;
        assert_eq!(found.first, Some(first));
        let flat = samples.iter().filter(|&&sample| sample == i16::MAX || sample == i16::MIN).count() as u64;
        assert_eq!(found.samples, flat);
    }

    #[test]
    fn a_peak_that_fits_and_a_plateau_of_choice_are_no_clipping() {
        // 441 Hz at full scale touches it in single samples; half of full scale is somebody's choice.
        let full: Vec<i16> = (0..44_100).map(|n| clipped(sine(n, 441.0, 44_100.0, 1.0))).collect();
        assert_eq!(look(44_100, 1, &full).clipping, Clipping::default());
        let square: Vec<i16> = (0..8_000).map(|n| if n / 40 % 2 == 0 { 16_000 } else { -16_000 }).collect();
        assert_eq!(look(8_000, 1, &square).clipping, Clipping::default());
    }

    #[test]
    fn silence_at_both_ends_is_measured_to_the_sample() {
        let mut samples = vec![0i16; 16_000 * 2];
        // 30 is -60.8 dB of full scale: noise in the pauses is silence too.
        samples[..500].fill(30);
        // The second channel begins later, and ends later.
        (2_000..10_000).for_each(|frame| samples[frame * 2] = 3_000);
        (3_000..12_000).for_each(|frame| samples[frame * 2 + 1] = -3_000);
        let found = look(8_000, 2, &samples);
        assert_eq!((found.silence_before, found.silence_behind), (0.25, 0.5));
        let quiet: Vec<i16> = (0..8_000).map(|n| clipped(sine(n, 400.0, 8_000.0, 0.000_5))).collect();
        let found = look(8_000, 1, &quiet);
        assert_eq!((found.silence_before, found.silence_behind), (1.0, 0.0));
    }

    #[test]
    fn a_dc_offset_is_that_of_the_worst_channel_with_its_sign() {
        let stereo: Vec<i16> = (0..8_000)
            .flat_map(|n| {
                let tone = sine(n, 400.0, 8_000.0, 0.3);
                [clipped(tone + 0.01), clipped(tone - 0.05)]
            })
            .collect();
        let found = look(8_000, 2, &stereo).dc_offset;
        assert!((found + 0.05).abs() < 1e-4, "{found}");
        assert!(look(8_000, 1, &[100, -100, 100, -100]).dc_offset.abs() < 1e-9);
    }

    #[test]
    fn what_mixing_takes_away_is_told() {
        let mix = |second: &dyn Fn(usize) -> f64| {
            let stereo: Vec<i16> =
                (0..16_000).flat_map(|n| [sine(n, 400.0, 16_000.0, 0.3), second(n)].map(clipped)).collect();
            look(16_000, 2, &stereo).mix_db.expect("two channels")
        };
        let same = mix(&|n| sine(n, 400.0, 16_000.0, 0.3));
        assert!((same - 3.01).abs() < 0.01, "{same}");
        let other = mix(&|n| sine(n, 300.0, 16_000.0, 0.3));
        assert!(other.abs() < 0.05, "{other}");
        // Nine tenths of it, the other way round.
        let against = mix(&|n| sine(n, 400.0, 16_000.0, -0.27));
        assert!((-25.0..-20.0).contains(&against), "{against}");
        assert_eq!(look(16_000, 1, &[100, -100, 50]).mix_db, None);
    }

    /// Against the meters that look at everything at once.
    #[test]
    fn level_is_that_of_the_whole_however_it_was_cut() {
        let files: [&[u8]; 4] = [
            include_bytes!("../../assets/fixtures/music-16k.wav"),
            include_bytes!("../../assets/fixtures/rates/stereo-44100.wav"),
            include_bytes!("../../assets/fixtures/kinds/float-32.wav"),
            include_bytes!("../../assets/fixtures/compressed/music.ogg"),
        ];
        for (index, file) in files.into_iter().enumerate() {
            let (_, found) = inspect(file, &DecodeLimits::default(), &|| true).expect("a recording");
            let whole = decode(file, &DecodeLimits::default()).expect("a recording").pcm;
            let lufs = loudness_lufs(&whole).expect("sound");
            assert!((found.level.lufs.expect("sound") - lufs).abs() < 0.01, "file {index}");
            assert_eq!(found.seconds, whole.seconds(), "file {index}");
            assert_eq!((found.rate, found.channels), (whole.rate(), whole.channels()), "file {index}");
            if whole.channels() == 1 {
                let other = level::measure(whole.samples(), whole.rate(), false).true_peak_dbtp;
                assert!((found.level.true_peak_dbtp - other).abs() < 0.05, "file {index}: {found:?}");
            }
        }
    }

    #[test]
    fn the_outline_covers_all_and_keeps_every_peak() {
        for len in [2usize, 299, 600, 601, 100_001] {
            let mut samples = vec![1_000i16; len];
            samples[len / 2] = 20_000;
            samples[len - 1] = -20_000;
            let found = look(8_000, 1, &samples);
            let Waveform { column_seconds, columns } = found.waveform;
            assert!(
                columns.len() <= MOST_COLUMNS && columns.len() >= len.min(300),
                "{len}: {}",
                columns.len()
            );
            let covered = columns.len() as f64 * column_seconds;
            assert!(covered >= found.seconds - 1e-9 && covered - found.seconds < column_seconds, "{len}");
            let lowest = columns.iter().map(|column| column.lowest).fold(0.0, f32::min);
            assert_eq!(lowest, -20_000.0 / 32_768.0, "{len}");
            let highest = columns.iter().map(|column| column.highest).fold(0.0, f32::max);
            assert_eq!(highest, if len > 2 { 20_000.0 / 32_768.0 } else { 1_000.0 / 32_768.0 }, "{len}");
            assert!(columns.iter().all(|column| column.rms <= column.highest.max(-column.lowest)));
        }
    }
}
