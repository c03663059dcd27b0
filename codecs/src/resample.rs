//! Any number of channels at any rate to mono at the rate we want, with silence around a clip or as a closed circle.
//!
//! Two stages. The first is rubato's FFT resampler, which filters: blocks of 4096 and more keep everything up to
//! 0.975 of the lower Nyquist frequency and take 144 dB off what is above (measured at 44.1 to 16 kHz; the sinc mode
//! aliases at -29 dB, the polynomial mode does not filter at all). The second reads that result at any position
//! whatever, so that a clip becomes *exactly* as long as asked for; it needs no filter, only 16 taps, because the
//! first stage leaves it twice the rate that its content would need.

use std::{f64::consts::PI, sync::OnceLock};

use rubato::{Fft, FixedSync, Resampler, WindowFunction, audioadapter_buffers::direct::InterleavedSlice};

use crate::pcm::Pcm;

/// Mixes all channels into one, weighted like a listener would hear them from one loudspeaker (after ITU-R
/// BS.775 annex 4: centre full, sides and surrounds at -3 dB of the fronts) and normalised to a sum of 1, so that no
/// recording can clip. The order of channels is that of WAVE: L R C LFE, then pairs; the LFE is left out, as
/// BS.775 does, unless it is all there is. More than eight channels, or a count without a usual layout, are averaged.
pub fn to_mono(pcm: &Pcm) -> Pcm {
    let channels = usize::from(pcm.channels());
    if channels == 1 {
        return pcm.clone();
    }
    let weights = mono_weights(channels);
    let samples = pcm
        .samples()
        .chunks_exact(channels)
        .map(|frame| frame.iter().zip(&weights).map(|(s, w)| s * w).sum());
    Pcm::new(pcm.rate(), 1, samples.collect())
}

/// What each of so many channels counts in [`to_mono`]; together 1.
pub(crate) fn mono_weights(channels: usize) -> Vec<f32> {
    const SIDE: f32 = std::f32::consts::FRAC_1_SQRT_2;
    let weights: Vec<f32> = match channels {
        3 => vec![SIDE, SIDE, 1.0],                          // L R C
        5 => vec![SIDE, SIDE, 1.0, 0.5, 0.5],                // L R C Ls Rs
        6 => vec![SIDE, SIDE, 1.0, 0.0, 0.5, 0.5],           // 5.1
        7 => vec![SIDE, SIDE, 1.0, 0.0, 0.5, 0.5, 0.5],      // 6.1
        8 => vec![SIDE, SIDE, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5], // 7.1
        _ => vec![1.0; channels],                            // mono, stereo, quadro, the unknown
    };
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Resamples a clip that stands in silence: `ceil(length × to_rate / rate)` samples per channel, in phase with the
/// original (no delay). It may overshoot ±1.0, as band-limiting does.
///
/// # Panics
///
/// If `to_rate` is 0.
pub fn resample(pcm: &Pcm, to_rate: u32) -> Pcm {
    assert!(to_rate > 0, "a rate");
    let channels = usize::from(pcm.channels());
    if pcm.rate() == to_rate {
        return pcm.clone();
    }
    let frames_out = (pcm.len() as u64 * u64::from(to_rate)).div_ceil(u64::from(pcm.rate())) as usize;
    let path = Path { rate: pcm.rate(), to_rate, in_time: frames_out, stretched: 0, end: 0.0 };
    let mut samples = vec![0.0; frames_out * channels];
    for channel in 0..channels {
        let clip: Vec<f32> = pcm.samples().iter().skip(channel).step_by(channels).copied().collect();
        let resampled = Surroundings::Silence.resample(&clip, path);
        for (slot, sample) in samples.iter_mut().skip(channel).step_by(channels).zip(resampled) {
            *slot = sample;
        }
    }
    Pcm::new(to_rate, pcm.channels(), samples)
}

/// Resamples a mono clip that stands in silence so that the first of `frames_out` samples stands at `start`, in input
/// samples from the clip's first one: anywhere, even between two.
pub(crate) fn resample_from(mono: &Pcm, to_rate: u32, start: f64, frames_out: usize) -> Vec<f32> {
    let step = f64::from(mono.rate()) / f64::from(to_rate);
    let grid = Grid::lay(Surroundings::Silence, mono.samples(), mono.rate(), to_rate);
    let finer = grid.finer(0.0, mono.len() as f64);
    (0..frames_out).map(|n| finer.between(start + n as f64 * step)).collect()
}

/// How much a circle that does not fit is stretched at most, as long as it has room: 2.2 cents, where a good ear
/// begins to notice 5.
const MOST_STRETCH: f64 = 1.25e-3;

/// Resamples a mono clip as a closed circle, its end leading into its beginning, to exactly `frames_out` samples
/// that cover a whole number of turns: as many as bring the result closest to `to_rate`. The first sample stands
/// where the clip's first one stands.
///
/// What is missing or too much is made up just before the circle closes, by stretching no more than 1.25 in a
/// thousand (all of it, if it is too short for that): half a 20 ms frame takes the last 8.1 seconds, half a sample the
/// last 200 ms. Until there every sample is exactly in time, so that what is heard can be laid over the original,
/// sample against sample; spread over the whole clip, the same stretch would put its end 10 ms off. It begins and ends
/// gently (`Stretch`), so that a tone has no corner there.
///
/// # Panics
///
/// If the clip is not mono or empty, or `to_rate` or `frames_out` is 0.
pub fn resample_loop(mono: &Pcm, to_rate: u32, frames_out: usize) -> Pcm {
    assert!(mono.channels() == 1 && !mono.is_empty(), "one channel with samples");
    assert!(to_rate > 0 && frames_out > 0, "a rate and a length");
    let (clip, rate) = (mono.samples(), mono.rate());
    let per_turn = clip.len() as f64 * f64::from(to_rate) / f64::from(rate);
    let turns = (frames_out as f64 / per_turn).round().max(1.0);
    let fits =
        frames_out as u128 * u128::from(rate) == turns as u128 * clip.len() as u128 * u128::from(to_rate);
    if fits && rate == to_rate {
        return Pcm::new(to_rate, 1, clip.iter().copied().cycle().take(frames_out).collect());
    }
    let path = if fits {
        Path { rate, to_rate, in_time: frames_out, stretched: 0, end: 0.0 }
    } else {
        let stretched = Stretch::of(turns * per_turn - frames_out as f64, frames_out).len;
        Path { rate, to_rate, in_time: frames_out - stretched, stretched, end: turns * clip.len() as f64 }
    };
    Pcm::new(to_rate, 1, Surroundings::Itself.resample(clip, path))
}

/// How the end of a circle gives way: slower and slower (or faster and faster) for a tenth of a second, then evenly,
/// then back in the same way. Where the stretch set in at once, a tone of 2.3 kHz spread 10 dB more around the seam than
/// elsewhere (before the codec, 64 ms under Hann's window); gently, it does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Output samples that are moved.
    pub(crate) len: usize,
    ramp: f64,
}

/// A tenth of a second at 16 kHz.
const STRETCH_RAMP: f64 = 1_600.0;

impl Stretch {
    /// For `rest` samples too many or too few in a circle of `frames_out`.
    pub(crate) fn of(rest: f64, frames_out: usize) -> Self {
        let evenly = rest.abs() / MOST_STRETCH;
        // Rounding must not make one sample more of a whole number.
        let len = (evenly + STRETCH_RAMP - 1e-6).ceil().max(2.0 * STRETCH_RAMP);
        Self::over((len as usize).min(frames_out))
    }

    fn over(len: usize) -> Self {
        Self { len, ramp: (len as f64 / 2.0).min(STRETCH_RAMP) }
    }

    /// How much of the rest is made up before sample `n` of [`Self::len`]: 0 at the first, 1 behind the last.
    pub(crate) fn made_up(self, n: usize) -> f64 {
        let (len, n) = (self.len as f64, n as f64);
        // The speed rises as a raised cosine to 1; this is its sum.
        let rising = |n: f64| (n - self.ramp / PI * (PI * n / self.ramp).sin()) / 2.0;
        let evenly = len - self.ramp;
        let sum = if n < self.ramp {
            rising(n)
        } else if n < evenly {
            n - self.ramp / 2.0
        } else {
            evenly - rising(len - n)
        };
        sum / evenly
    }
}

/// Which positions of a clip become samples: first so many in time, then so many that lead gently to `end`.
#[derive(Clone, Copy)]
struct Path {
    rate: u32,
    to_rate: u32,
    in_time: usize,
    stretched: usize,
    /// Where the sample behind the last one would stand, in input samples; only the stretched part looks at it.
    end: f64,
}

impl Path {
    /// The position of the first sample that is stretched, not wrapped round.
    fn stretched_from(self) -> f64 {
        self.in_time as f64 * f64::from(self.rate) / f64::from(self.to_rate)
    }

    /// The positions in input samples, wrapped round at `period`. In time nothing is rounded, so that the thousandth
    /// turn is as exact as the first.
    fn positions(self, period: Option<usize>) -> impl Iterator<Item = f64> {
        let (rate, to_rate) = (u64::from(self.rate), u64::from(self.to_rate));
        let (step, step_fraction) = (rate / to_rate, rate % to_rate);
        let (mut whole, mut fraction) = (0u64, 0u64);
        let in_time = (0..self.in_time).map(move |_| {
            let position = whole as f64 + fraction as f64 / to_rate as f64;
            whole += step;
            fraction += step_fraction;
            if fraction >= to_rate {
                fraction -= to_rate;
                whole += 1;
            }
            if let Some(period) = period {
                whole %= period as u64;
            }
            position
        });
        let start = self.stretched_from();
        let stride = f64::from(self.rate) / f64::from(self.to_rate);
        let rest = self.end - start - self.stretched as f64 * stride;
        let stretch = Stretch::over(self.stretched);
        let stretched = (0..self.stretched).map(move |n| {
            let position = start + n as f64 * stride + rest * stretch.made_up(n);
            period.map_or(position, |period| position.rem_euclid(period as f64))
        });
        in_time.chain(stretched)
    }
}

/// What lies before and behind a clip.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surroundings {
    Silence,
    Itself,
}

impl Surroundings {
    /// The clip along `path`; beyond its ends lies what `self` says.
    fn resample(self, clip: &[f32], path: Path) -> Vec<f32> {
        if clip.is_empty() {
            return Vec::new();
        }
        let grid = Grid::lay(self, clip, path.rate, path.to_rate);
        let period = (self == Self::Itself).then_some(clip.len());
        let positions = path.positions(period);
        let whole = clip.len() as f64;
        if !self.lies_on_grid(clip.len(), path) {
            let finer = grid.finer(0.0, whole);
            return positions.map(|position| finer.between(position)).collect();
        }
        // In time means on the grid. What is stretched lies at the clip's end, or anywhere if it is more than a turn.
        let mut stretched = Vec::new();
        if path.stretched > 0 {
            let finer = grid.finer((whole - (path.end - path.stretched_from())).max(0.0), whole);
            stretched.extend(positions.skip(path.in_time).map(|position| finer.between(position)));
        }
        let mut samples = grid.turns(path.in_time, clip.len());
        samples.extend(stretched);
        samples
    }

    /// Whether every position that is in time is one that the grid's stage computes.
    fn lies_on_grid(self, len: usize, path: Path) -> bool {
        let stage = Stage::between(path.rate, path.to_rate);
        let (block_in, block_out) = (stage.block_in as u128, stage.block_out as u128);
        let same_step = u128::from(path.rate) * block_out == u128::from(path.to_rate) * block_in;
        // A circle comes round to its first sample only if it is a whole number of steps.
        let closes = (len as u128 * block_out).is_multiple_of(block_in);
        same_step && (closes || self == Self::Silence || path.stretched_from() <= len as f64)
    }

    /// Fills `block` with the clip from `start` on, which may be before its beginning; any part may be outside it.
    fn fill(self, clip: &[f32], start: i64, block: &mut [f32]) {
        let len = clip.len() as i64;
        match self {
            Self::Silence => {
                block.fill(0.0);
                let from = start.clamp(0, len);
                let to = (start + block.len() as i64).clamp(0, len);
                if from < to {
                    let at = (from - start) as usize;
                    let part = &clip[from as usize..to as usize];
                    block[at..at + part.len()].copy_from_slice(part);
                }
            }
            Self::Itself => {
                // A clip may be shorter than a block.
                let mut at = start.rem_euclid(len) as usize;
                let mut rest = block;
                while !rest.is_empty() {
                    let len = rest.len().min(clip.len() - at);
                    let (now, later) = rest.split_at_mut(len);
                    now.copy_from_slice(&clip[at..at + len]);
                    (rest, at) = (later, 0);
                }
            }
        }
    }
}

/// Samples in an FFT block at the slower of two rates, at least. The filter's edge depends on it: 1600 samples (4410
/// at 44.1 kHz) were measured flat to 7.8 of 8 kHz.
const LEAST_BLOCK: u64 = 1536;

/// Rates whose reduced ratio has a smaller side than this are resampled by exactly that ratio; rates without a usable
/// common divisor (44 101 and 16 000) by a ratio within 1/4096 of it, which the second stage makes good.
const MOST_BLOCK: u64 = 4096;

/// One run of rubato's FFT resampler: so many samples in, so many out. Both are even, because the filter delays by
/// half a block, and only a whole number of samples can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stage {
    block_in: usize,
    block_out: usize,
}

impl Stage {
    fn between(rate: u32, to_rate: u32) -> Self {
        let (rate, to_rate) = (u64::from(rate), u64::from(to_rate));
        let divisor = greatest_common_divisor(rate, to_rate);
        let (block_in, block_out) = (rate / divisor, to_rate / divisor);
        let slower = block_in.min(block_out);
        let (block_in, block_out) = if slower <= MOST_BLOCK {
            let times = LEAST_BLOCK.div_ceil(slower).next_multiple_of(2);
            (block_in * times, block_out * times)
        } else {
            let slower = rate.min(to_rate);
            let near = |rate: u64| (rate * MOST_BLOCK / 2 / slower) * 2;
            (near(rate), near(to_rate))
        };
        Self { block_in: block_in as usize, block_out: block_out as usize }
    }

    /// Runs over `len` samples, of which `fill` gives any block from its first sample on. Gives the result and its
    /// delay: sample `delay + i` stands at `i × block_in / block_out`.
    fn run(self, len: usize, mut fill: impl FnMut(usize, &mut [f32])) -> (Vec<f32>, usize) {
        let mut fft = self.start();
        // One more block, to push out what the delay holds back.
        let blocks = len.div_ceil(self.block_in) + 1;
        let mut out = vec![0.0; blocks * self.block_out];
        let mut block = vec![0.0; self.block_in];
        for (index, block_out) in out.chunks_exact_mut(self.block_out).enumerate() {
            fill(index * self.block_in, &mut block);
            self.process(&mut fft, &block, block_out);
        }
        (out, fft.output_delay())
    }

    fn start(self) -> Fft<f32> {
        Fft::new_custom(
            self.block_in,
            self.block_out,
            self.block_in,
            1,
            1,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .expect("two rates and a block above 0 are all it asks for")
    }

    /// One block in, one out.
    fn process(self, fft: &mut Fft<f32>, block: &[f32], block_out: &mut [f32]) {
        let input = InterleavedSlice::new(block, 1, self.block_in).expect("one block of one channel");
        let mut output =
            InterleavedSlice::new_mut(block_out, 1, self.block_out).expect("one block of one channel");
        fft.process_into_buffer(&input, &mut output, None).expect("both are one block long");
    }
}

/// A stage whose samples arrive in pieces: what it gives is [`Stage::run`] of all of them, as far as it goes.
struct StageStream {
    stage: Stage,
    fft: Fft<f32>,
    /// Less than a block that has not been processed.
    waiting: Vec<f32>,
    /// Samples of the result that are the filter's delay and still to be cut off.
    delay: usize,
}

impl StageStream {
    fn new(stage: Stage) -> Self {
        let fft = stage.start();
        let delay = fft.output_delay();
        Self { stage, fft, waiting: Vec::with_capacity(stage.block_in), delay }
    }

    fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) {
        while !samples.is_empty() {
            let room = (self.stage.block_in - self.waiting.len()).min(samples.len());
            let (now, later) = samples.split_at(room);
            self.waiting.extend_from_slice(now);
            samples = later;
            if self.waiting.len() == self.stage.block_in {
                let start = out.len();
                out.resize(start + self.stage.block_out, 0.0);
                self.stage.process(&mut self.fft, &self.waiting, &mut out[start..]);
                self.waiting.clear();
                let cut = self.delay.min(self.stage.block_out);
                out.drain(start..start + cut);
                self.delay -= cut;
            }
        }
    }

    /// Silence to the end of the block, and a block of it to push out what the delay holds back.
    fn finish(&mut self, out: &mut Vec<f32>) {
        let missing = 2 * self.stage.block_in - self.waiting.len();
        self.push(&vec![0.0; missing], out);
    }
}

/// Resamples mono sound as it arrives: what comes out is, sample by sample, what [`resample`] makes of the whole, with
/// no delay between them. It comes later, because filters look ahead by a block and a half: 0.15 s of
/// sound for 44.1 and 48 kHz, 0.29 s for 8 kHz, 0.6 s for 12 345 Hz, and more for slow rates without a common divisor.
pub struct StreamResampler {
    rate: u32,
    to_rate: u32,
    /// Input samples so far.
    taken: u64,
    /// Output samples so far.
    given: u64,
    way: Way,
}

/// What a [`StreamResampler`] needs between the two rates.
enum Way {
    /// They are the same.
    Straight,
    /// Every sample is one of the stage's.
    OnGrid { stage: StageStream },
    /// The stage's result at twice its rate, read between its samples.
    Between {
        stage: StageStream,
        /// The stage's result is dropped up to here, where the second stage begins.
        unused: usize,
        between: Vec<f32>,
        finer: Box<StageStream>,
        /// The second stage's result as far as it is still needed.
        fine: Grid,
        /// How many of its samples are no longer needed.
        gone: usize,
        /// Samples of silence that stand for what is behind the clip.
        margin: usize,
    },
}

impl StreamResampler {
    /// From `rate` to `to_rate`, both in Hz.
    ///
    /// # Panics
    ///
    /// If one of them is 0.
    pub fn new(rate: u32, to_rate: u32) -> Self {
        assert!(rate > 0 && to_rate > 0, "two rates");
        let way = if rate == to_rate { Way::Straight } else { Way::through(rate, to_rate) };
        Self { rate, to_rate, taken: 0, given: 0, way }
    }

    /// Takes `samples` and appends to `out` those that are ready.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.taken += samples.len() as u64;
        let start = out.len();
        match &mut self.way {
            Way::Straight => out.extend_from_slice(samples),
            Way::OnGrid { stage } => stage.push(samples, out),
            Way::Between { .. } => {
                self.way.take(samples);
                self.read_between(u64::MAX, out);
                return;
            }
        }
        self.given += (out.len() - start) as u64;
    }

    /// The clip ends here: appends the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<f32>) {
        let whole =
            (u128::from(self.taken) * u128::from(self.to_rate)).div_ceil(u128::from(self.rate)) as u64;
        let start = out.len();
        match &mut self.way {
            Way::Straight => {}
            Way::OnGrid { stage } => {
                stage.finish(out);
                // The silence behind the clip sounds on; the clip's length does not.
                let missing = (whole.saturating_sub(self.given) as usize).min(out.len() - start);
                out.truncate(start + missing);
            }
            Way::Between { margin, .. } => {
                let silence = vec![0.0; *margin];
                self.way.take(&silence);
                self.way.end();
                self.read_between(whole, out);
            }
        }
    }

    /// Appends the samples that lie between those of the second stage, as long as there are enough around them.
    fn read_between(&mut self, whole: u64, out: &mut Vec<f32>) {
        let Way::Between { fine, gone, .. } = &mut self.way else { return };
        let (rate, to_rate) = (u64::from(self.rate), u64::from(self.to_rate));
        // Beyond the clip nothing is asked for until its length is known.
        let end = whole.min((u128::from(self.taken) * u128::from(to_rate)).div_ceil(u128::from(rate)) as u64);
        let mut first = 0;
        while self.given < end {
            // In whole samples and a rest, as exact in the last hour as in the first.
            let (position, rest) = (self.given * rate / to_rate, self.given * rate % to_rate);
            let position = position as f64 + rest as f64 / to_rate as f64;
            let at = (position + fine.margin) * fine.scale;
            first = (at.floor() as usize + 1).saturating_sub(TAPS / 2) - *gone;
            if first + TAPS > fine.samples.len() {
                break;
            }
            out.push(fine.between_at(at - *gone as f64));
            self.given += 1;
        }
        // Dropped rarely, because it moves the rest.
        if first > LEAST_BLOCK as usize * 4 {
            let unneeded = (first - TAPS).min(fine.samples.len());
            fine.samples.drain(..unneeded);
            *gone += unneeded;
        }
    }
}

impl Way {
    fn through(rate: u32, to_rate: u32) -> Self {
        let stage = Stage::between(rate, to_rate);
        let exact =
            u128::from(rate) * stage.block_out as u128 == u128::from(to_rate) * stage.block_in as u128;
        let stream = StageStream::new(stage);
        if exact {
            return Self::OnGrid { stage: stream };
        }
        // As [`Grid::lay`] and [`Grid::finer`] have it for a clip in silence.
        let margin = Grid::margin_for(stage);
        let scale = stage.block_out as f64 / stage.block_in as f64;
        let first = ((margin as f64 * scale) as usize).saturating_sub(FINER_REACH);
        let fine =
            Grid { samples: Vec::new(), scale: scale * 2.0, margin: margin as f64 - first as f64 / scale };
        let mut way = Self::Between {
            stage: stream,
            unused: first,
            between: Vec::new(),
            finer: Box::new(StageStream::new(FINER)),
            fine,
            gone: 0,
            margin,
        };
        way.take(&vec![0.0; margin]);
        way
    }

    fn take(&mut self, samples: &[f32]) {
        let Self::Between { stage, unused, between, finer, fine, .. } = self else { return };
        between.clear();
        stage.push(samples, between);
        let skipped = (*unused).min(between.len());
        *unused -= skipped;
        finer.push(&between[skipped..], &mut fine.samples);
    }

    fn end(&mut self) {
        let Self::Between { stage, finer, fine, between, .. } = self else { return };
        between.clear();
        stage.finish(between);
        finer.push(between, &mut fine.samples);
        finer.finish(&mut fine.samples);
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A clip after a stage, with margins in which its surroundings still sound right.
struct Grid {
    samples: Vec<f32>,
    /// Grid steps per input sample.
    scale: f64,
    /// Input samples before the clip's first one.
    margin: f64,
}

impl Grid {
    /// The clip at about `to_rate`, which filters.
    fn lay(surroundings: Surroundings, clip: &[f32], rate: u32, to_rate: u32) -> Self {
        let stage = Stage::between(rate, to_rate);
        let scale = stage.block_out as f64 / stage.block_in as f64;
        let margin = Self::margin_for(stage);
        let len = margin + clip.len() + margin;
        let fill =
            |start: usize, block: &mut [f32]| surroundings.fill(clip, start as i64 - margin as i64, block);
        let (samples, delay) = if rate == to_rate {
            let mut samples = vec![0.0; len];
            fill(0, &mut samples);
            (samples, 0)
        } else {
            stage.run(len, fill)
        };
        Self { samples, scale, margin: margin as f64 + delay as f64 / scale }
    }

    /// Input samples to either side of a clip: the filter reaches half a block, and what `finer` needs comes on top.
    /// Whole blocks, so that the clip's first sample falls on the grid.
    fn margin_for(stage: Stage) -> usize {
        let scale = stage.block_out as f64 / stage.block_in as f64;
        let reach = (stage.block_in / 2) as f64 + FINER_REACH as f64 / scale;
        (reach.ceil() as usize).next_multiple_of(stage.block_in)
    }

    /// The part between two positions (in input samples), at twice the rate.
    fn finer(&self, from: f64, to: f64) -> Self {
        let first = (((from + self.margin) * self.scale) as usize).saturating_sub(FINER_REACH);
        let end = (((to + self.margin) * self.scale) as usize + FINER_REACH).min(self.samples.len());
        let part = &self.samples[first.min(end)..end];
        let (samples, delay) =
            FINER.run(part.len(), |start, block| Surroundings::Silence.fill(part, start as i64, block));
        let scale = self.scale * 2.0;
        Self { samples, scale, margin: self.margin - first as f64 / self.scale + delay as f64 / scale }
    }

    /// So many of the grid's own samples, from the clip's first one on, which is followed again by the first behind
    /// `len` input samples. The grid's memory is used on: a second time as much would cost as much as the copy.
    fn turns(mut self, samples: usize, len: usize) -> Vec<f32> {
        let turn = len as f64 * self.scale;
        // More than one turn is asked for only where it is a whole number of steps.
        let once = if samples as f64 <= turn.ceil() { samples } else { turn.round() as usize };
        let first = (self.margin * self.scale).round() as usize;
        self.samples.drain(..first);
        self.samples.truncate(once);
        while self.samples.len() < samples {
            let missing = samples - self.samples.len();
            self.samples.extend_from_within(..missing.min(once));
        }
        self.samples
    }

    /// The sound at any `position`, in input samples from the clip's beginning.
    fn between(&self, position: f64) -> f32 {
        self.between_at((position + self.margin) * self.scale)
    }

    /// The sound at any place `at`, in steps of the grid.
    fn between_at(&self, at: f64) -> f32 {
        let whole = at.floor();
        let phase = (at - whole) * PHASES as f64;
        let row = phase as usize;
        let blend = (phase - row as f64) as f32;
        let first = (whole as usize + 1).saturating_sub(TAPS / 2);
        let Some(sound) = self.samples.get(first..first + TAPS) else { return 0.0 };
        let (taps, next_taps) = (&kernel()[row], &kernel()[row + 1]);
        let mut sum = 0.0;
        for ((sample, tap), next_tap) in sound.iter().zip(taps).zip(next_taps) {
            sum += sample * (tap + blend * (next_tap - tap));
        }
        sum
    }
}

/// The second stage: twice the rate.
const FINER: Stage = Stage { block_in: LEAST_BLOCK as usize, block_out: 2 * LEAST_BLOCK as usize };
/// How far the second stage and its taps reach to either side, in samples of the first stage's grid.
const FINER_REACH: usize = FINER.block_in / 2 + TAPS + 2;
/// Taps of the second stage. Its input holds content up to a quarter of its rate, and images from three quarters on:
/// over so wide a gap 16 taps of a Kaiser window reach 120 dB (Kaiser's formula gives 15.6).
const TAPS: usize = 16;
/// Positions between two samples that the taps are tabled for; between those they are interpolated, with an error of
/// a third of π² over 8 × 1024², or 4e-7.
const PHASES: usize = 1024;
/// Kaiser's shape for 120 dB: 0.1102 × (120 - 8.7).
const KAISER_BETA: f64 = 12.265;

/// The taps for each phase, and once more for phase 1.
fn kernel() -> &'static [[f32; TAPS]] {
    static KERNEL: OnceLock<Vec<[f32; TAPS]>> = OnceLock::new();
    KERNEL.get_or_init(|| {
        (0..=PHASES)
            .map(|phase| {
                let fraction = phase as f64 / PHASES as f64;
                let half = (TAPS / 2) as f64;
                let taps: [f64; TAPS] = std::array::from_fn(|tap| {
                    let distance = tap as f64 - (half - 1.0) - fraction;
                    let shape = (1.0 - (distance / half).powi(2)).max(0.0).sqrt();
                    sinc(distance) * bessel_i0(KAISER_BETA * shape)
                });
                // A constant stays that constant at every phase.
                let sum: f64 = taps.iter().sum();
                taps.map(|tap| (tap / sum) as f32)
            })
            .collect()
    })
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The modified Bessel function of order 0, by its series.
fn bessel_i0(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..60 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    fn sine(rate: u32, frequency: f64, len: usize) -> Vec<f32> {
        (0..len).map(|n| (TAU * frequency * n as f64 / f64::from(rate)).sin() as f32 * 0.5).collect()
    }

    fn largest_difference(ours: &[f32], ideal: impl Fn(usize) -> f64) -> f64 {
        ours.iter().enumerate().map(|(n, &sample)| (f64::from(sample) - ideal(n)).abs()).fold(0.0, f64::max)
    }

    /// Level of `frequency` in `sound`, relative to a full sine of 0.5, in dB (Hann-weighted, so that what lies a few
    /// hertz away does not leak in).
    fn level(sound: &[f32], rate: u32, frequency: f64) -> f64 {
        let (mut re, mut im, mut weight) = (0.0, 0.0, 0.0);
        for (n, &sample) in sound.iter().enumerate() {
            let hann = 0.5 - 0.5 * (TAU * n as f64 / sound.len() as f64).cos();
            let angle = TAU * frequency * n as f64 / f64::from(rate);
            re += f64::from(sample) * hann * angle.cos();
            im += f64::from(sample) * hann * angle.sin();
            weight += hann;
        }
        20.0 * (re.hypot(im) * 2.0 / weight / 0.5).max(1e-12).log10()
    }

    #[test]
    fn mono_never_clips_and_never_changes_what_is_mono() {
        for channels in 1..=12u16 {
            let full = Pcm::new(8000, channels, vec![1.0; 3 * usize::from(channels)]);
            let mono = to_mono(&full);
            assert_eq!((mono.channels(), mono.len()), (1, 3));
            assert!(mono.samples().iter().all(|sample| (sample - 1.0).abs() < 1e-6), "{channels} channels");
        }
        assert_eq!(to_mono(&Pcm::new(8000, 2, vec![0.5, -0.5, 0.5, 0.0])).samples(), [0.0, 0.25]);
        // The centre of a 5.1 recording carries the voice; its bass effects are left out.
        let voice = to_mono(&Pcm::new(8000, 6, vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0]));
        let bass = to_mono(&Pcm::new(8000, 6, vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0]));
        assert!(voice.samples()[0] > 0.29 && bass.samples()[0] == 0.0);
    }

    /// In the middle of a long clip its surroundings do not matter, so an endless sine is the ideal.
    #[test]
    fn a_tone_keeps_its_phase_and_level_at_every_rate() {
        for rate in
            [4_000u32, 8_000, 11_025, 12_345, 22_050, 24_000, 32_000, 44_100, 44_101, 48_000, 96_000, 384_000]
        {
            let len = rate as usize * 3;
            let clip = Pcm::new(rate, 1, sine(rate, 997.0, len));
            let out = resample(&clip, 16_000);
            assert_eq!(out.len(), 48_000, "{rate} Hz");
            let error = largest_difference(&out.samples()[16_000..32_000], |n| {
                0.5 * (TAU * 997.0 * (n + 16_000) as f64 / 16_000.0).sin()
            });
            assert!(error < 2e-6, "{rate} Hz: {error:e}");
        }
    }

    #[test]
    fn what_is_above_the_new_limit_does_not_come_back_as_something_else() {
        for rate in [44_100u32, 44_101, 48_000, 96_000] {
            for (frequency, lowest, highest) in [
                (7_000.0, -0.01, 0.01),
                (7_700.0, -0.5, 0.01),
                (8_300.0, -300.0, -100.0),
                (12_000.0, -300.0, -100.0),
            ] {
                let clip = Pcm::new(rate, 1, sine(rate, frequency, rate as usize * 2));
                let out = resample(&clip, 16_000);
                // What is above 8 kHz would come back mirrored.
                let heard = if frequency > 8_000.0 { 16_000.0 - frequency } else { frequency };
                let level = level(&out.samples()[8_000..24_000], 16_000, heard);
                assert!((lowest..=highest).contains(&level), "{rate} Hz, {frequency} Hz: {level} dB");
            }
        }
    }

    #[test]
    fn every_channel_is_resampled_by_itself() {
        let left = sine(48_000, 440.0, 4_800);
        let right = sine(48_000, 660.0, 4_800);
        let both: Vec<f32> = left.iter().zip(&right).flat_map(|(&l, &r)| [l, r]).collect();
        let out = resample(&Pcm::new(48_000, 2, both), 16_000);
        let alone = resample(&Pcm::new(48_000, 1, right), 16_000);
        assert!(out.samples().iter().skip(1).step_by(2).eq(alone.samples()));
    }

    /// A sine of whole periods is its own circle: the ideal is known everywhere, the wrap included.
    #[test]
    fn a_circle_is_right_everywhere_even_where_it_closes() {
        for (rate, len) in [
            (8_000u32, 5_864usize),
            (16_000, 11_728),
            (16_000, 12_345),
            (22_050, 22_051),
            (44_100, 32_325),
            (44_100, 100_003),
            (44_101, 50_000),
            (48_000, 35_184),
            (48_000, 1_000),
            (48_000, 50),
            (384_000, 400_000),
        ] {
            // About 1 kHz and about 3.4 kHz, rounded to whole periods; the phase moves the wrap onto a slope.
            let seconds = len as f64 / f64::from(rate);
            let periods = [(1_000.0 * seconds).round().max(1.0), (3_400.0 * seconds).round().max(2.0)];
            let ideal = |position: f64| {
                0.4 * (TAU * periods[0] * position + 0.7).sin()
                    + 0.3 * (TAU * periods[1] * position + 2.0).sin()
            };
            let clip: Vec<f32> = (0..len).map(|n| ideal(n as f64 / len as f64) as f32).collect();
            let clip = Pcm::new(rate, 1, clip);
            for turns in [1.0, 3.0] {
                let frames_out = (seconds * turns * 16_000.0 / 320.0).round().max(1.0) as usize * 320;
                let out = resample_loop(&clip, 16_000, frames_out);
                assert_eq!(out.len(), frames_out);
                // In time first; then whatever is left is made up to the end of the last turn.
                let turns = (frames_out as f64 / (seconds * 16_000.0)).round().max(1.0);
                let rest = turns * seconds * 16_000.0 - frames_out as f64;
                let stretch = Stretch::of(rest, frames_out);
                let in_time = frames_out - stretch.len;
                let error = largest_difference(out.samples(), |n| {
                    let late = if n < in_time { 0.0 } else { rest * stretch.made_up(n - in_time) };
                    ideal((n as f64 + late) / (seconds * 16_000.0))
                });
                assert!(error < 1e-5, "{len} samples at {rate} Hz, {turns} turns: {error:e}");
            }
        }
    }

    /// The speed never changes by more than is allowed where there is room, and never at once.
    #[test]
    fn a_stretch_begins_and_ends_gently_and_makes_up_all() {
        for (rest, frames_out) in
            [(0.5, 16_000), (-0.01, 16_000), (160.0, 480_000), (-3.0, 160_000), (20.0, 16_000)]
        {
            let stretch = Stretch::of(rest, frames_out);
            assert!(stretch.len <= frames_out && stretch.made_up(0) == 0.0);
            assert!((stretch.made_up(stretch.len) - 1.0).abs() < 1e-12, "{rest}");
            let speed = |n| (stretch.made_up(n + 1) - stretch.made_up(n)) * rest.abs();
            let fastest = (0..stretch.len).map(speed).fold(0.0, f64::max);
            let sharpest = (1..stretch.len).map(|n| (speed(n) - speed(n - 1)).abs()).fold(0.0, f64::max);
            let allowed = if stretch.len < frames_out { MOST_STRETCH * 1.001 } else { 2.0 * rest / 16_000.0 };
            assert!(fastest <= allowed, "{rest}: {fastest}");
            assert!(sharpest <= fastest * 2.0 / stretch.ramp, "{rest}: {sharpest}");
            assert!(speed(0) < fastest * 0.05 || stretch.len < 100, "{rest}");
        }
        assert_eq!(Stretch::of(160.0, 480_000).len, 129_600);
        assert_eq!(Stretch::of(0.5, 480_000).len, 3_200);
    }

    /// Half a frame off: the last 8.1 seconds give way, all before is what silence around the clip would give too.
    #[test]
    fn a_long_circle_stays_in_time_until_shortly_before_it_closes() {
        for rate in [8_000u32, 16_000, 44_100] {
            let len = rate as usize * 30;
            let frames_out = 30 * 16_000 + 160;
            let clip = Pcm::new(rate, 1, sine(rate, 433.0, len));
            let circle = resample_loop(&clip, 16_000, frames_out);
            let straight = resample(&clip, 16_000);
            let in_time = frames_out - 129_600;
            let error = largest_difference(&circle.samples()[8_000..in_time], |n| {
                f64::from(straight.samples()[n + 8_000])
            });
            assert!(error < 2e-6, "{rate} Hz: {error:e}");
            // Then it is late, by half a frame in the end: 433 Hz is 4.33 periods in 10 ms.
            let late = &circle.samples()[frames_out - 500..frames_out - 100];
            let correlation = crate::compare::correlate(late, &straight.samples()[frames_out - 660..]);
            assert!(correlation > 0.99, "{rate} Hz: {correlation}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Whatever the rates and the pieces, what arrives in pieces is resampled as the whole is.
        #[test]
        fn a_clip_in_pieces_is_the_clip(
            rate in prop::sample::select(vec![
                4_000u32, 8_000, 11_025, 12_345, 16_000, 22_050, 24_000, 44_100, 44_101, 48_000, 96_001,
            ]),
            seconds in 0.0f64..3.0,
            pieces in prop::collection::vec(1usize..20_000, 1..30),
        ) {
            let len = (seconds * f64::from(rate)) as usize;
            let clip: Vec<f32> = (0..len).map(|n| ((n * 7919 % 1000) as f32 / 1000.0) - 0.5).collect();
            let whole = resample(&Pcm::new(rate, 1, clip.clone()), 16_000);
            let mut stream = StreamResampler::new(rate, 16_000);
            let (mut heard, mut rest) = (Vec::new(), clip.as_slice());
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                stream.push(now, &mut heard);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            // What is held back is little.
            let late = seconds - heard.len() as f64 / 16_000.0;
            prop_assert!(late < 0.65, "{} s late", late);
            stream.finish(&mut heard);
            prop_assert_eq!(heard.len(), whole.len());
            let off = largest_difference(&heard, |n| f64::from(whole.samples()[n]));
            prop_assert!(off <= 1e-6, "off by {:e}", off);
        }
    }

    #[test]
    fn a_circle_that_fits_already_is_left_alone() {
        let clip = Pcm::new(16_000, 1, sine(16_000, 313.0, 640));
        let out = resample_loop(&clip, 16_000, 1_280);
        assert_eq!(out.samples(), [clip.samples(), clip.samples()].concat());
    }

    #[test]
    fn the_shortest_clip_is_a_constant() {
        for rate in [4_000, 16_000, 44_101, 384_000] {
            let out = resample_loop(&Pcm::new(rate, 1, vec![0.25]), 16_000, 16_000);
            assert!(out.samples().iter().all(|sample| (sample - 0.25).abs() < 1e-5), "{rate} Hz");
            assert_eq!(
                resample(&Pcm::new(rate, 1, vec![0.25]), 16_000).len(),
                16_000usize.div_ceil(rate as usize)
            );
        }
        assert!(resample(&Pcm::new(8_000, 1, Vec::new()), 16_000).is_empty());
    }
}
