//! Mono sound comes in at the level its author liked, and goes out at ours: one gain for the whole of it (EBU R 128),
//! peaks held below a ceiling, no click at the first sample, and mixtures of two sounds.
//!
//! The gain never changes inside a play. Only the limiter moves, and only around a peak that the gain would lift
//! above the ceiling: its reach is finite ([`limiter_reach`]), so that two plays of the same sound get the same
//! samples wherever both have the same neighbourhood. That is what lets lap one be limited as it arrives and the
//! circle as a circle, and be the same sound.

use std::{collections::VecDeque, f64::consts::PI, sync::OnceLock};

use ebur128::{EbuR128, Mode};

use crate::seam::Loop;

/// How loud to play.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelSettings {
    /// Integrated loudness of what is sent, in LUFS (ITU-R BS.1770-4). Default -20: three above EBU R 128's -23,
    /// because a receiver in a noisy room has less room for quiet passages than a television. `None` plays every
    /// recording as it is: no gain and no limiter.
    pub target_lufs: Option<f64>,
    /// Highest true peak that a receiver shall hear, in dBTP (BS.1770-4 annex 2). Default -2 (EBU Tech 3344 asks for as
    /// much below 96 kbit/s). What is encoded stays [`CODEC_ROOM_DB`] below it; what a codec makes of that is not in our
    /// hand.
    pub ceiling_dbtp: f64,
    /// Most gain upwards, in dB. Default 20: more would lift the noise of a quiet recording to the loudness of speech.
    pub most_gain_db: f64,
    /// What is quieter than this, in LUFS, is near-silence and is not amplified. Default -60: the noise of a 10-bit
    /// converter, and 10 above the gate of BS.1770, below which nothing counts as sound.
    pub near_silence_lufs: f64,
}

impl Default for LevelSettings {
    fn default() -> Self {
        Self { target_lufs: Some(-20.0), ceiling_dbtp: -2.0, most_gain_db: 20.0, near_silence_lufs: -60.0 }
    }
}

/// How much a codec is expected to raise a peak, in dB: what is encoded stays so far below the ceiling. Chosen on 82
/// recordings of music and speech with Opus at 32 kbit/s, and tried on 284 others: 0.6 dB in the median, 1.3 in 95 of
/// 100, 1.9 at most. One of either set is heard above -2 dBTP, by 0.12 dB at most; a bound for all sound there is not.
pub const CODEC_ROOM_DB: f64 = 1.75;

/// How loud a sound is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Integrated loudness in LUFS (BS.1770-4, gated). `None` where everything is below the gate of -70 LUFS.
    pub lufs: Option<f64>,
    /// Highest true peak in dBTP, four times oversampled; minus infinity for digital silence.
    pub true_peak_dbtp: f64,
}

/// What a sound is multiplied by, and where its peaks end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// In dB.
    pub db: f64,
    /// As a factor.
    pub linear: f32,
    /// Where the limiter holds peaks of what is encoded, in dBTP; `None` for no limiter at all.
    pub ceiling_dbtp: Option<f64>,
    /// Whether this gain lifts a peak of what was measured above the ceiling, so that the limiter has work. The
    /// limiter looks for itself: what was measured may be only the beginning.
    pub limits: bool,
}

impl Gain {
    /// Everything as it is.
    pub const UNITY: Self = Self { db: 0.0, linear: 1.0, ceiling_dbtp: None, limits: false };

    fn new(db: f64, level: Level, ceiling_dbtp: f64) -> Self {
        Self {
            db,
            linear: factor(db) as f32,
            ceiling_dbtp: Some(ceiling_dbtp),
            limits: level.true_peak_dbtp + db > ceiling_dbtp - MARGIN_DB,
        }
    }
}

/// What is odd about a recording's level. It is played all the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warning {
    /// There is nearly nothing in it, and it is left as it is.
    NearSilence {
        /// Its loudness in LUFS; `None` where all is below -70 LUFS.
        lufs: Option<f64>,
    },
    /// It is so quiet that the most gain that is given does not bring it to the target.
    StaysQuiet {
        /// Its loudness after the gain, in LUFS.
        lufs: f64,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NearSilence { lufs: Some(lufs) } => {
                write!(f, "the recording is nearly silent ({lufs:.1} LUFS) and is played as it is")
            }
            Self::NearSilence { lufs: None } => {
                write!(f, "the recording is nearly silent (below -70 LUFS) and is played as it is")
            }
            Self::StaysQuiet { lufs } => {
                write!(f, "the recording is so quiet that it is played at {lufs:.1} LUFS")
            }
        }
    }
}

/// Loudness is measured over so many seconds, at least: the short-term window of EBU Tech 3341. The gate needs blocks
/// of 0.4 s; a shorter sound is measured as it will be heard, repeated.
const LEAST_SECONDS: f64 = 3.0;

/// Measures mono sound at `rate` Hz. If it is `looped`, or shorter than three seconds, it is measured as a circle
/// that comes round again, true peaks at the seam included.
///
/// The result is that of silence for a rate that BS.1770 cannot weigh (below 16 Hz or above 2.8 MHz).
pub fn measure(mono: &[f32], rate: u32, looped: bool) -> Level {
    let seconds = mono.len() as f64 / f64::from(rate.max(1));
    let comes_round = looped || seconds < LEAST_SECONDS;
    measured(mono, rate, comes_round).unwrap_or(Level { lufs: None, true_peak_dbtp: f64::NEG_INFINITY })
}

fn measured(mono: &[f32], rate: u32, comes_round: bool) -> Option<Level> {
    if mono.is_empty() {
        return None;
    }
    let mut meter = EbuR128::new(1, rate, Mode::I).ok()?;
    let mut turns = 1;
    if comes_round {
        // The filter begins as the lap before would leave it: 10 ms are many times its memory of a peak.
        meter.seed_frames_f32(&mono[mono.len().saturating_sub(rate as usize / 100)..]).ok()?;
        turns = (LEAST_SECONDS * f64::from(rate) / mono.len() as f64).ceil().max(1.0) as usize;
    }
    (0..turns).try_for_each(|_| meter.add_frames_f32(mono)).ok()?;
    let lufs = meter.loudness_global().ok().filter(|lufs| lufs.is_finite());
    // The meter's own true peak is the same to a hundredth of a decibel, and takes longer.
    let peak = if comes_round { highest_peak_round(mono) } else { highest_peak(mono) };
    Some(Level { lufs, true_peak_dbtp: decibels(f64::from(peak)) })
}

/// A circle once, with so many samples before and behind it as the laps around it have there.
fn round(circle: &[f32], reach: usize) -> Vec<f32> {
    let len = circle.len();
    let behind = circle.iter().cycle().take(reach);
    let before = circle.iter().cycle().skip((len - reach % len) % len).take(reach);
    before.chain(circle).chain(behind).copied().collect()
}

/// Chooses the gain for a sound that was measured. It is the same for all of it.
pub fn decide(level: Level, settings: &LevelSettings) -> (Gain, Option<Warning>) {
    let Some(target) = settings.target_lufs else { return (Gain::UNITY, None) };
    let ceiling_dbtp = settings.ceiling_dbtp - CODEC_ROOM_DB;
    let as_it_is = Gain::new(0.0, level, ceiling_dbtp);
    let Some(lufs) = level.lufs.filter(|&lufs| lufs >= settings.near_silence_lufs) else {
        return (as_it_is, Some(Warning::NearSilence { lufs: level.lufs }));
    };
    let wanted = target - lufs;
    let db = wanted.min(settings.most_gain_db);
    let warning = (db < wanted).then_some(Warning::StaysQuiet { lufs: lufs + db });
    (Gain::new(db, level, ceiling_dbtp), warning)
}

/// A loop at its level, and how it came there.
#[derive(Clone, Debug, PartialEq)]
pub struct Levelled {
    /// What is played.
    pub sound: Loop,
    /// How loud it was.
    pub before: Level,
    /// How loud it is.
    pub after: Level,
    /// The gain that was given; what the limiter takes comes on top.
    pub gain: Gain,
    /// What an operator should know.
    pub warning: Option<Warning>,
}

/// The limiter may make a sound quieter by this much, in LU, before the gain makes up for it: a third of what R 128
/// tolerates (±1 LU), and less than anybody hears.
const MOST_LOST_LU: f64 = 0.1;
/// How often the gain makes up for the limiter. Each time about nine tenths of what is missing are won back.
const MOST_ROUNDS: usize = 4;

/// Brings a loop to its level: measures it as a circle, decides, applies, and where the limiter has taken loudness
/// away gives more gain, a bounded number of times and never above [`LevelSettings::most_gain_db`].
pub fn level_loop(sound: &Loop, settings: &LevelSettings) -> Levelled {
    let before = measure_loop(sound);
    let (mut gain, warning) = decide(before, settings);
    if !gain.limits {
        // Nothing but a factor: what it does need not be measured.
        let after = Level {
            lufs: before.lufs.map(|lufs| lufs + gain.db),
            true_peak_dbtp: before.true_peak_dbtp + gain.db,
        };
        return Levelled { sound: amplify_loop(sound, gain.linear), before, after, gain, warning };
    }
    let mut levelled = apply_loop(sound, &gain);
    let mut after = measure_loop(&levelled);
    let aim = before.lufs.map(|lufs| lufs + gain.db);
    for _ in 0..MOST_ROUNDS {
        let (Some(aim), Some(lufs)) = (aim, after.lufs) else { break };
        let missing = aim - lufs;
        if missing <= MOST_LOST_LU || matches!(warning, Some(Warning::NearSilence { .. })) {
            break;
        }
        let db = (gain.db + missing).min(settings.most_gain_db);
        if db <= gain.db {
            break;
        }
        gain = Gain::new(db, before, settings.ceiling_dbtp - CODEC_ROOM_DB);
        levelled = apply_loop(sound, &gain);
        after = measure_loop(&levelled);
    }
    Levelled { sound: levelled, before, after, gain, warning }
}

/// How loud a loop is: its circle, and the intro if that is the longer part.
pub fn measure_loop(sound: &Loop) -> Level {
    let rate = sound.pcm().rate();
    let mut level = measure(sound.samples(), rate, true);
    if !sound.intro().is_empty() {
        let first_lap = [sound.intro(), sound.samples()].concat();
        let once = measure(&first_lap, rate, false);
        if sound.intro().len() > sound.samples().len() {
            level.lufs = once.lufs;
        }
        level.true_peak_dbtp = level.true_peak_dbtp.max(once.true_peak_dbtp);
    }
    level
}

/// A loop with a gain that was decided elsewhere, as a play that has begun already needs it. The limiter goes round
/// the circle, and from the intro into it; where the intro's end would make the circle's first frames differ from
/// later laps, those frames become part of the intro.
pub fn apply_loop(sound: &Loop, gain: &Gain) -> Loop {
    if *gain == Gain::UNITY {
        return sound.clone();
    }
    let reach = limiter_reach(sound.pcm().rate());
    let limiter = gain.ceiling_dbtp.map(|ceiling_dbtp| Limiter::new(sound.pcm().rate(), ceiling_dbtp));
    let sound = match limiter.is_some() && !sound.intro().is_empty() {
        true => &sound.with_longer_intro(reach.div_ceil(sound.samples_per_frame())),
        false => sound,
    };
    let amplified = amplify_loop(sound, gain.linear);
    let Some(limiter) = limiter else { return amplified };
    let circle = limiter.limit(&round(amplified.samples(), reach));
    let mut intro = Vec::new();
    if !amplified.intro().is_empty() {
        let behind: Vec<f32> = amplified.samples().iter().copied().cycle().take(reach).collect();
        intro = limiter.limit(&[&vec![0.0; reach], amplified.intro(), &behind].concat());
    }
    amplified.with_samples(intro, circle)
}

fn amplify_loop(sound: &Loop, factor: f32) -> Loop {
    if factor == 1.0 {
        return sound.clone();
    }
    let amplify = |part: &[f32]| part.iter().map(|sample| sample * factor).collect();
    sound.with_samples(amplify(sound.intro()), amplify(sound.samples()))
}

/// Limits a sound as it arrives: samples go in at a fixed gain, and come out [`limiter_reach`] later with no delay
/// between them, from the first one on. Before the sound there is silence.
///
/// It gives the very samples of [`apply_loop`] wherever a circle has the same neighbourhood.
#[derive(Clone, Debug)]
pub struct LimiterStream {
    limiter: Option<Limiter>,
    gain: f32,
    /// What was amplified and not yet given out, and before it as much as the limiter looks back.
    around: Vec<f32>,
}

/// So many samples are limited in one go, at least, so that what the limiter looks at around them is not looked at
/// again for each handful: 20 ms at 16 kHz.
const LEAST_BATCH: usize = 320;

impl LimiterStream {
    /// A limiter for sound at `rate` Hz that begins in silence.
    pub fn new(rate: u32, gain: &Gain) -> Self {
        let limiter = gain.ceiling_dbtp.map(|ceiling_dbtp| Limiter::new(rate, ceiling_dbtp));
        let around = vec![0.0; limiter.as_ref().map_or(0, Limiter::reach)];
        Self { limiter, gain: gain.linear, around }
    }

    /// Takes `samples` and appends to `out` those that are ready.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        let amplified = samples.iter().map(|sample| sample * self.gain);
        let Some(limiter) = &self.limiter else {
            out.extend(amplified);
            return;
        };
        self.around.extend(amplified);
        let ready = self.around.len().saturating_sub(2 * limiter.reach());
        if ready >= LEAST_BATCH {
            out.extend(limiter.limit(&self.around));
            self.around.drain(..ready);
        }
    }

    /// The sound ends here, in silence: appends the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<f32>) {
        if let Some(limiter) = &self.limiter {
            self.around.resize(self.around.len() + limiter.reach(), 0.0);
            out.extend(limiter.limit(&self.around));
        }
    }
}

/// How far the limiter looks to either side of a sample, in samples at `rate` Hz: 20 ms and the few samples that a
/// true peak is made of.
pub fn limiter_reach(rate: u32) -> usize {
    Limiter::new(rate, 0.0).reach()
}

/// A quarter of the limiter's reach, in seconds. A peak holds the gain down for 10 ms to either side, more than the
/// half period of any tone that a telephone carries, so that the gain does not follow the wave and distort it; and it
/// takes 10 ms more to get there and back, slowly enough not to be heard as a click.
const QUARTER_REACH_SECONDS: f64 = 0.005;

/// Below the ceiling by this much, in dB: what the gain's own movement between two samples may add to a true peak.
const MARGIN_DB: f64 = 0.03;

/// The look-ahead limiter: for every sample the gain that its neighbourhood's largest peak needs, smoothed. All
/// symmetric around the sample and of finite reach.
#[derive(Clone, Debug)]
struct Limiter {
    ceiling: f32,
    quarter: usize,
}

impl Limiter {
    fn new(rate: u32, ceiling_dbtp: f64) -> Self {
        let quarter = (f64::from(rate) * QUARTER_REACH_SECONDS).round().max(1.0) as usize;
        Self { ceiling: factor(ceiling_dbtp - MARGIN_DB) as f32, quarter }
    }

    fn reach(&self) -> usize {
        4 * self.quarter + PEAK_REACH
    }

    /// `around` less its first and its last [`Self::reach`] samples, limited.
    fn limit(&self, around: &[f32]) -> Vec<f32> {
        let reach = self.reach();
        let Some(len) = around.len().checked_sub(2 * reach) else { return Vec::new() };
        let middle = &around[reach..reach + len];
        match self.reductions(around) {
            None => middle.to_vec(),
            Some(reductions) => {
                middle.iter().zip(reductions).map(|(sample, reduction)| sample * (1.0 - reduction)).collect()
            }
        }
    }

    /// What each sample of the middle loses, as a share of it; `None` if none loses anything.
    fn reductions(&self, around: &[f32]) -> Option<Vec<f32>> {
        // No true peak is more than so many times the largest sample.
        let largest = around.iter().fold(0.0f32, |largest, sample| largest.max(sample.abs()));
        if largest * MOST_OVERSHOOT <= self.ceiling {
            return None;
        }
        let peaks = true_peaks(around);
        if peaks.iter().all(|&peak| peak <= self.ceiling) {
            return None;
        }
        let needed = peaks.into_iter().map(|peak| f64::from((1.0 - self.ceiling / peak).max(0.0))).collect();
        // The largest of 20 ms holds; two means of 10 ms then never fall below what the sample itself needs.
        let held = moving_maximum(needed, 4 * self.quarter + 1);
        let smooth = moving_mean(&moving_mean(&held, 2 * self.quarter + 1), 2 * self.quarter + 1);
        Some(smooth.into_iter().map(|reduction| reduction as f32).collect())
    }
}

/// The largest of each `window` values that follow one another: `window - 1` fewer than there are values.
fn moving_maximum(values: Vec<f64>, window: usize) -> Vec<f64> {
    // Candidates in falling order: each is the largest from its place on.
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut maxima = Vec::with_capacity(values.len());
    for (index, &value) in values.iter().enumerate() {
        while candidates.back().is_some_and(|&last| values[last] <= value) {
            candidates.pop_back();
        }
        candidates.push_back(index);
        if let Some(start) = (index + 1).checked_sub(window) {
            while candidates.front().is_some_and(|&first| first < start) {
                candidates.pop_front();
            }
            maxima.push(values[candidates[0]]);
        }
    }
    maxima
}

/// The mean of each `window` values that follow one another: `window - 1` fewer than there are values. A stretch of
/// zeros is exactly zero again, so that what needs no limiting is untouched to the last bit.
fn moving_mean(values: &[f64], window: usize) -> Vec<f64> {
    let (mut sum, mut zeros) = (0.0f64, 0usize);
    let mut means = Vec::with_capacity(values.len());
    for (index, &value) in values.iter().enumerate() {
        zeros = if value == 0.0 { zeros + 1 } else { 0 };
        sum += value;
        if let Some(start) = (index + 1).checked_sub(window) {
            if zeros >= window {
                sum = 0.0;
            }
            means.push((sum / window as f64).max(0.0));
            sum -= values[start];
        }
    }
    means
}

/// Samples to either side that a true peak is made of, in [`true_peaks`].
const PEAK_REACH: usize = 6;
/// Positions between two samples at which a true peak is looked for, and one more: BS.1770-4 annex 2 asks for four
/// times the rate at 48 kHz.
const OVERSAMPLING: usize = 4;
/// The sum of what the taps of one position can do at most: 1.94 as tabled.
const MOST_OVERSHOOT: f32 = 2.0;

/// For each sample but [`PEAK_REACH`] at either end the largest of itself and the positions up to the samples next to
/// it, four times oversampled: what a converter would make of it. 12 taps of a sinc under Hann's window, the same that
/// the meter uses.
fn true_peaks(sound: &[f32]) -> Vec<f32> {
    let Some(len) = sound.len().checked_sub(2 * PEAK_REACH) else { return Vec::new() };
    // gaps[n] is the largest between samples n + PEAK_REACH - 1 and n + PEAK_REACH. One tap after the other over many
    // samples, because that is what processors do four or eight at a time.
    let mut gaps = vec![0.0f32; len + 1];
    for (block, gaps) in gaps.chunks_mut(PEAK_BLOCK).enumerate() {
        let around = &sound[block * PEAK_BLOCK..];
        for taps in between_taps() {
            let mut sums = [0.0f32; PEAK_BLOCK];
            let sums = &mut sums[..gaps.len()];
            for (tap, weight) in taps.iter().enumerate() {
                for (sum, sample) in sums.iter_mut().zip(&around[tap..]) {
                    *sum += sample * weight;
                }
            }
            for (gap, sum) in gaps.iter_mut().zip(sums) {
                *gap = gap.max(sum.abs());
            }
        }
    }
    let samples = &sound[PEAK_REACH..PEAK_REACH + len];
    samples.iter().zip(gaps.windows(2)).map(|(sample, gaps)| sample.abs().max(gaps[0]).max(gaps[1])).collect()
}

/// Samples that [`true_peaks`] looks at in one go: 1 kB of sums.
const PEAK_BLOCK: usize = 256;

fn between_taps() -> &'static [[f32; 2 * PEAK_REACH]; OVERSAMPLING - 1] {
    static TAPS: OnceLock<[[f32; 2 * PEAK_REACH]; OVERSAMPLING - 1]> = OnceLock::new();
    TAPS.get_or_init(|| {
        std::array::from_fn(|position| {
            std::array::from_fn(|tap| {
                let fraction = (position + 1) as f64 / OVERSAMPLING as f64;
                let distance = tap as f64 - (PEAK_REACH as f64 - 1.0) - fraction;
                let hann = 0.5 + 0.5 * (PI * distance / PEAK_REACH as f64).cos();
                ((PI * distance).sin() / (PI * distance) * hann) as f32
            })
        })
    })
}

/// How long a fade-in takes, in seconds: short enough to leave the attack of a note in place, long enough that the
/// spectrum of the step is gone above a few hundred hertz.
const FADE_SECONDS: f64 = 0.005;
/// A first sample below this needs no fade: -60 dB of full scale, a step that is not heard.
const NEAR_ZERO: f32 = 1e-3;

/// Fades the beginning of `samples` (mono, at `rate` Hz) in over 5 ms, a raised cosine, if it does not begin near zero
/// by itself. Returns how many samples it has changed.
pub fn fade_in(samples: &mut [f32], rate: u32) -> usize {
    if samples.first().is_none_or(|first| first.abs() < NEAR_ZERO) {
        return 0;
    }
    let len = ((f64::from(rate) * FADE_SECONDS) as usize).min(samples.len());
    for (n, sample) in samples.iter_mut().take(len).enumerate() {
        *sample *= (0.5 - 0.5 * (PI * n as f64 / len as f64).cos()) as f32;
    }
    len
}

/// A loop whose lap one begins without a click: with [`fade_in`] over its first frame, which becomes part of the
/// intro; all later laps are as they were.
pub fn soft_start(sound: &Loop) -> Loop {
    let rate = sound.pcm().rate();
    if sound.frame(0).first().is_none_or(|first| first.abs() < NEAR_ZERO) {
        return sound.clone();
    }
    let fade = (f64::from(rate) * FADE_SECONDS) as usize;
    let missing = fade.div_ceil(sound.samples_per_frame()).saturating_sub(sound.intro_frames());
    let mut sound = sound.with_longer_intro(missing);
    fade_in(sound.intro_mut(), rate);
    sound
}

/// Leads from one sound to another over the shorter one's length, both mono and at one rate: all of `from` before its
/// first sample, all of `to` behind its last.
///
/// Equal power, so that unrelated music does not sink in the middle; and as much closer to equal amplitude as keeps
/// the mixture's true peaks below the ceiling (or those of its parts, if they are above it already), so that it needs
/// no limiter. That costs up to 3 dB in the middle where two loud sounds meet.
pub fn bridge(from: &[f32], to: &[f32], ceiling_dbtp: f64) -> Vec<f32> {
    let len = from.len().min(to.len());
    let mix = |equal_amplitude: f64| -> Vec<f32> {
        from.iter()
            .zip(to)
            .enumerate()
            .map(|(n, (from, to))| {
                let place = (n as f64 + 0.5) / len as f64;
                let (rising, falling) = ((place * PI / 2.0).sin(), (place * PI / 2.0).cos());
                let (even_rising, even_falling) = (rising * rising, falling * falling);
                let rising = rising + equal_amplitude * (even_rising - rising);
                let falling = falling + equal_amplitude * (even_falling - falling);
                (f64::from(*from) * falling + f64::from(*to) * rising) as f32
            })
            .collect()
    };
    let parts = highest_peak(&from[..len]).max(highest_peak(&to[..len]));
    let allowed = parts.max(factor(ceiling_dbtp) as f32);
    const STEPS: [f64; 4] = [0.0, 0.25, 0.5, 0.75];
    STEPS.into_iter().map(mix).find(|mixed| highest_peak(mixed) <= allowed).unwrap_or_else(|| mix(1.0))
}

/// The highest true peak of a sound that stands in silence.
fn highest_peak(sound: &[f32]) -> f32 {
    let silence = [0.0; 2 * PEAK_REACH];
    if sound.len() < 4 * PEAK_REACH {
        return highest_peak_within(&[&silence, sound, &silence].concat(), 0.0);
    }
    let front = highest_peak_within(&[&silence, &sound[..2 * PEAK_REACH]].concat(), 0.0);
    let back = highest_peak_within(&[&sound[sound.len() - 2 * PEAK_REACH..], &silence].concat(), front);
    highest_peak_within(sound, back)
}

/// The highest true peak of a circle.
fn highest_peak_round(circle: &[f32]) -> f32 {
    if circle.len() < 4 * PEAK_REACH {
        return highest_peak_within(&round(circle, 2 * PEAK_REACH), 0.0);
    }
    let (front, back) = (&circle[..2 * PEAK_REACH], &circle[circle.len() - 2 * PEAK_REACH..]);
    highest_peak_within(circle, highest_peak_within(&[back, front].concat(), 0.0))
}

/// The highest true peak of a sound but for its edges, where it is above `known`. Most of a sound is far below its
/// peak and needs no look between the samples: so it takes a fraction of the
/// time of [`true_peaks`], and no memory.
fn highest_peak_within(sound: &[f32], known: f32) -> f32 {
    let largest = |part: &[f32]| part.iter().fold(0.0f32, |largest, sample| largest.max(sample.abs()));
    let mut highest = known.max(largest(sound));
    for start in (0..sound.len().saturating_sub(2 * PEAK_REACH)).step_by(PEAK_BLOCK) {
        let block = &sound[start..sound.len().min(start + PEAK_BLOCK + 2 * PEAK_REACH)];
        if largest(block) * MOST_OVERSHOOT > highest {
            highest = true_peaks(block).into_iter().fold(highest, f32::max);
        }
    }
    highest
}

fn factor(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

fn decibels(factor: f64) -> f64 {
    20.0 * factor.log10()
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;
    use crate::{DecodeLimits, Pcm, decode, resample, to_mono};

    const RATE: u32 = 16_000;
    const FRAME: usize = 320;
    const MUSIC: &[u8] = include_bytes!("../../assets/fixtures/music-16k.wav");
    const SPEECH: &[u8] = include_bytes!("../../assets/fixtures/speech-8k.wav");
    const STEREO: &[u8] = include_bytes!("../../assets/fixtures/rates/stereo-44100.wav");

    fn recording(bytes: &[u8]) -> Pcm {
        to_mono(&decode(bytes, &DecodeLimits::default()).expect("a recording").pcm)
    }

    fn loop_of(pcm: &Pcm) -> Loop {
        Loop::new(pcm, RATE, FRAME)
    }

    fn synthetic(rate: u32, seconds: f64, sound: impl Fn(f64) -> f64) -> Pcm {
        let len = (seconds * f64::from(rate)) as usize;
        Pcm::new(rate, 1, (0..len).map(|n| sound(n as f64 / f64::from(rate)) as f32).collect())
    }

    /// A quiet tone with a hard knock every half second, and one across the seam: 30 dB of crest.
    fn knocks(seconds: f64) -> Pcm {
        synthetic(RATE, seconds, |t| {
            let since = (t + 0.001).rem_euclid(0.5);
            let knock = if since < 0.002 { (TAU * 1_900.0 * since).sin() * 0.9 } else { 0.0 };
            0.02 * (TAU * 440.0 * t).sin() + knock
        })
    }

    fn settings() -> LevelSettings {
        LevelSettings::default()
    }

    /// The names of the sounds say what they are; every one is measured by the meter as it will be heard, looped.
    #[test]
    fn music_speech_and_tones_of_any_rate_come_to_the_target_below_the_ceiling() {
        let tone = |rate, hz: f64, level: f64, seconds| {
            synthetic(rate, seconds, move |t| level * (TAU * hz * t).sin())
        };
        for (name, clip) in [
            ("music", recording(MUSIC)),
            ("speech at 8 kHz", recording(SPEECH)),
            ("stereo", recording(STEREO)),
            ("a loud tone", tone(44_100, 997.0, 1.0, 4.0)),
            ("a quiet tone", tone(48_000, 440.0, 0.02, 4.0)),
            ("a low tone at 8 kHz", tone(8_000, 120.0, 0.5, 5.0)),
            ("a tone of a tenth of a second", tone(16_000, 1_000.0, 0.3, 0.1)),
            ("a tone near the limit of 8 kHz sound", tone(8_000, 3_400.0, 0.9, 1.7)),
        ] {
            let levelled = level_loop(&loop_of(&clip), &settings());
            let lufs = levelled.after.lufs.expect("a loudness");
            assert!((lufs + 20.0).abs() < 0.2, "{name}: {lufs} LUFS");
            assert!(levelled.after.true_peak_dbtp <= -3.75, "{name}: {} dBTP", levelled.after.true_peak_dbtp);
            assert_eq!(levelled.warning, None, "{name}");
        }
    }

    /// Knocks 30 dB above the rest: the limiter has all the work, and the gain makes up for what it takes.
    #[test]
    fn peaks_stay_below_the_ceiling_and_loudness_is_made_up_for() {
        for (name, clip, least) in [
            ("knocks", knocks(3.0), -20.6),
            (
                "hits in speech",
                {
                    let mut samples = recording(SPEECH).samples().to_vec();
                    samples.iter_mut().step_by(4_001).for_each(|sample| *sample = 1.0);
                    Pcm::new(8_000, 1, samples)
                },
                -20.2,
            ),
            ("a square of full scale", synthetic(RATE, 2.0, |t| (TAU * 100.0 * t).sin().signum()), -20.2),
        ] {
            let levelled = level_loop(&loop_of(&clip), &settings());
            let lufs = levelled.after.lufs.expect("a loudness");
            assert!((least..=-19.8).contains(&lufs), "{name}: {lufs} LUFS");
            assert!(levelled.after.true_peak_dbtp <= -3.7, "{name}: {}", levelled.after.true_peak_dbtp);
        }
    }

    /// How fast the gain moves, from one sample to the next: what modulates the sound.
    #[test]
    fn the_limiters_gain_moves_slowly_and_leaves_all_else_alone() {
        let limiter = Limiter::new(RATE, -2.0);
        let mut sound = vec![0.1f32; 4 * RATE as usize / 10];
        let at = sound.len() / 2;
        sound[at] = 3.0;
        let reductions = limiter.reductions(&sound).expect("a peak");
        let deepest = reductions.iter().copied().fold(0.0, f32::max);
        let fastest = reductions.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        // 12 dB down; a straight line over 10 ms would be 1/160 of that for each sample.
        assert!((0.73..0.75).contains(&deepest), "{deepest}");
        assert!(fastest <= deepest / 80.0 * 1.01, "{fastest}");
        let bend = |at: usize| (reductions[at] - 2.0 * reductions[at + 1] + reductions[at + 2]).abs();
        let sharpest = (0..reductions.len() - 2).map(bend).fold(0.0, f32::max);
        assert!(sharpest < deepest / 5_000.0, "{sharpest}");
        let changed = reductions.iter().filter(|&&reduction| reduction != 0.0).count();
        assert!(changed <= 2 * limiter.reach() + 1, "{changed} samples");
    }

    /// Second differences: a click at the seam would be one that is larger than any inside.
    #[test]
    fn the_limiter_goes_round_the_circle_without_a_click() {
        let circle = loop_of(&knocks(3.0));
        let levelled = level_loop(&circle, &settings());
        assert!(levelled.gain.limits && levelled.sound.intro().is_empty());
        let heard = levelled.sound.samples();
        // The gain itself must be as smooth over the seam as elsewhere.
        let len = heard.len();
        let gain_at = |n: usize| f64::from(heard[n % len]) / f64::from(circle.samples()[n % len]);
        let usable: Vec<usize> =
            (len - 600..len + 600).filter(|&n| circle.samples()[n % len].abs() > 5e-3).collect();
        let step = usable
            .windows(2)
            .filter(|pair| pair[1] == pair[0] + 1)
            .map(|pair| (gain_at(pair[1]) / gain_at(pair[0]) - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(step < 0.05, "the gain jumps by {step}");
        // Turned by half, the same sound limits to the same samples: the seam is nowhere.
        let mut turned = circle.samples().to_vec();
        turned.rotate_left(len / 2);
        let turned = apply_loop(&loop_of(&Pcm::new(RATE, 1, turned)), &levelled.gain);
        let mut back = turned.samples().to_vec();
        back.rotate_right(len / 2);
        let off = back.iter().zip(heard).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-6, "{off}");
    }

    #[test]
    fn near_silence_is_left_as_it_is_and_said() {
        let hiss = synthetic(RATE, 3.0, |t| 1e-3 * (TAU * 700.0 * t).sin());
        let levelled = level_loop(&loop_of(&hiss), &settings());
        let Some(Warning::NearSilence { lufs: Some(lufs) }) = levelled.warning else {
            panic!("{:?}", levelled.warning)
        };
        assert!((-64.0..-62.0).contains(&lufs), "{lufs}");
        assert_eq!((levelled.gain.db, levelled.sound), (0.0, loop_of(&hiss)));
        let less = synthetic(RATE, 3.0, |t| 1e-4 * (TAU * 700.0 * t).sin());
        let levelled = level_loop(&loop_of(&less), &settings());
        assert_eq!(levelled.warning, Some(Warning::NearSilence { lufs: None }));
        assert_eq!(levelled.gain.db, 0.0);
    }

    /// One factor for every sample of music, speech and hits; the limiter takes from it near peaks and nowhere else.
    #[test]
    fn the_gain_does_not_change_inside_a_play() {
        for clip in [recording(MUSIC), recording(SPEECH), knocks(3.0)] {
            let circle = loop_of(&clip);
            let levelled = level_loop(&circle, &settings());
            let ceiling = factor(settings().ceiling_dbtp - CODEC_ROOM_DB - MARGIN_DB) as f32;
            let (before, after) = (circle.samples(), levelled.sound.samples());
            let (len, reach) = (before.len(), limiter_reach(RATE));
            let mut near = vec![false; len];
            // Twice as loud as any sample: what lies between two samples counts too.
            let peaks =
                (0..len).filter(|&n| (before[n] * levelled.gain.linear).abs() * MOST_OVERSHOOT > ceiling);
            peaks.for_each(|peak| (0..=2 * reach).for_each(|n| near[(peak + len + n - reach) % len] = true));
            let far = (0..len).filter(|&n| !near[n]);
            assert!(far.clone().count() > len / 20, "{:?}", levelled.gain);
            for n in far {
                assert_eq!(after[n], before[n] * levelled.gain.linear, "sample {n}");
            }
        }
    }

    #[test]
    fn no_more_gain_is_given_than_the_settings_say() {
        let quiet = synthetic(RATE, 3.0, |t| 4e-3 * (TAU * 997.0 * t).sin());
        let levelled = level_loop(&loop_of(&quiet), &settings());
        assert_eq!(levelled.gain.db, 20.0);
        let Some(Warning::StaysQuiet { lufs }) = levelled.warning else { panic!("{:?}", levelled.warning) };
        assert!((lufs - levelled.after.lufs.expect("a loudness")).abs() < 0.05);
    }

    #[test]
    fn switched_off_nothing_changes_at_all() {
        let off = LevelSettings { target_lufs: None, ..settings() };
        let loud = loop_of(&synthetic(RATE, 1.0, |t| 1.2 * (TAU * 997.0 * t).sin()));
        let levelled = level_loop(&loud, &off);
        assert_eq!((levelled.sound, levelled.gain, levelled.warning), (loud, Gain::UNITY, None));
    }

    /// EBU Tech 3341: a stereo sine of 1 kHz at -23 dBFS is -23 LUFS, so mono is 3.01 below.
    #[test]
    fn loudness_and_true_peak_are_those_of_the_standard() {
        let tone = synthetic(48_000, 20.0, |t| factor(-23.0) * (TAU * 1_000.0 * t).sin());
        let level = measure(tone.samples(), 48_000, false);
        assert!((level.lufs.expect("a loudness") + 26.01).abs() < 0.1, "{level:?}");
        assert!((level.true_peak_dbtp + 23.0).abs() < 0.1, "{level:?}");
        // A quarter of the rate, 45 degrees off: the samples are 3 dB below the peak between them.
        let tone = synthetic(48_000, 1.0, |t| 0.5 * (TAU * 12_000.0 * t + TAU / 8.0).sin());
        let level = measure(tone.samples(), 48_000, true);
        assert!((level.true_peak_dbtp + 6.0).abs() < 0.3, "{level:?}");
        let nothing = Level { lufs: None, true_peak_dbtp: f64::NEG_INFINITY };
        assert_eq!(measure(&[], 48_000, true), nothing);
        assert_eq!(measure(&[0.0; 16_000], 16_000, true), nothing);
        assert_eq!(measure(&[0.1], 1, true), nothing);
    }

    /// Against the meter of the ebur128 crate, as an independent reader of the standard.
    #[test]
    fn two_meters_agree_on_true_peaks_and_loudness() {
        for clip in [recording(MUSIC), recording(SPEECH), knocks(4.0), recording(STEREO)] {
            let mut meter = EbuR128::new(1, clip.rate(), Mode::I | Mode::TRUE_PEAK).expect("a meter");
            meter.add_frames_f32(clip.samples()).expect("samples");
            let ours = measure(clip.samples(), clip.rate(), false).true_peak_dbtp;
            let theirs = decibels(meter.true_peak(0).expect("a peak"));
            // Theirs leaves out what still rings behind the last sample.
            assert!((-0.01..0.2).contains(&(ours - theirs)), "{ours}, {theirs}");
            // What we send is below the ceiling by their measure too.
            let levelled = level_loop(&loop_of(&clip), &settings());
            let mut meter = EbuR128::new(1, RATE, Mode::I | Mode::TRUE_PEAK).expect("a meter");
            let enough = 3 * RATE as usize / levelled.sound.samples().len() + 2;
            (0..enough).for_each(|_| meter.add_frames_f32(levelled.sound.samples()).expect("samples"));
            let peak = decibels(meter.true_peak(0).expect("a peak"));
            assert!(peak <= -2.0, "{peak} dBTP");
            let lufs = meter.loudness_global().expect("a loudness");
            assert!((lufs + 20.0).abs() < 0.2, "{lufs} LUFS");
        }
    }

    /// Looking only where it can be is looking everywhere.
    #[test]
    fn the_highest_peak_is_found_without_looking_everywhere() {
        let mut sounds: Vec<Vec<f32>> =
            (0..60).map(|len| (0..len).map(|n| (n as f32 * 1.3).sin()).collect()).collect();
        sounds.extend([recording(MUSIC), recording(SPEECH), knocks(1.0)].map(|pcm| pcm.samples().to_vec()));
        // Halves of a peak in two blocks, and at both edges.
        for at in [0, 1, 255, 256, 261, 262, 267, 268, 999] {
            let mut sound = vec![0.01; 1_000];
            (sound[at], sound[(at + 1) % 1_000]) = (0.9, 0.8);
            sounds.push(sound);
        }
        for sound in sounds {
            let silence = [0.0; 2 * PEAK_REACH];
            let everywhere = |around: &[f32]| true_peaks(around).into_iter().fold(0.0, f32::max);
            assert_eq!(highest_peak(&sound), everywhere(&[&silence, &sound[..], &silence].concat()));
            if !sound.is_empty() {
                assert_eq!(highest_peak_round(&sound), everywhere(&round(&sound, 2 * PEAK_REACH)));
            }
        }
    }

    /// Two loud halves of one peak, at the end and at the beginning: only a circle shows it.
    #[test]
    fn a_true_peak_across_the_seam_is_seen() {
        let mut samples = vec![0.0f32; 16_000];
        (samples[15_999], samples[0]) = (0.9, 0.9);
        let looped = measure(&samples, RATE, true).true_peak_dbtp;
        assert!(looped > 0.5, "{looped}");
        let levelled = apply_loop(
            &loop_of(&Pcm::new(RATE, 1, samples)),
            &Gain { ceiling_dbtp: Some(-2.0), ..Gain::UNITY },
        );
        let peak = measure_loop(&levelled).true_peak_dbtp;
        assert!((-2.2..=-1.95).contains(&peak), "{peak}");
    }

    #[test]
    fn a_stream_gives_what_the_circle_gives_wherever_both_hear_the_same() {
        let circle = loop_of(&knocks(3.0));
        let levelled = level_loop(&circle, &settings());
        let mut stream = LimiterStream::new(RATE, &levelled.gain);
        let mut heard = Vec::new();
        for part in circle.samples().chunks(777) {
            stream.push(part, &mut heard);
        }
        stream.finish(&mut heard);
        assert_eq!(heard.len(), circle.samples().len());
        let reach = limiter_reach(RATE);
        let off = (reach..heard.len() - reach)
            .map(|n| (heard[n] - levelled.sound.samples()[n]).abs())
            .fold(0.0, f32::max);
        assert!(off < 1e-6, "{off}");
    }

    #[test]
    fn lap_one_begins_softly_and_the_laps_behind_it_are_as_they_were() {
        let sound = loop_of(&synthetic(RATE, 1.0, |t| 0.5 * (TAU * 100.0 * t).cos()));
        let soft = soft_start(&sound);
        assert_eq!((soft.intro_frames(), soft.frames()), (1, sound.frames()));
        assert_eq!(soft.frame(0)[0], 0.0);
        assert_eq!(soft.frame(0)[80..], sound.frame(0)[80..]);
        for index in 1..170 {
            assert_eq!(soft.frame(index), sound.frame(index), "frame {index}");
        }
        let gentle = loop_of(&synthetic(RATE, 1.0, |t| 0.5 * (TAU * 100.0 * t).sin()));
        assert_eq!(soft_start(&gentle), gentle);
        assert_eq!(fade_in(&mut [], RATE), 0);
        assert_eq!(fade_in(&mut [0.5; 7], RATE), 7);
    }

    /// With an intro the limiter sees what is really heard before and behind each place, laps on.
    #[test]
    fn an_intro_and_its_circle_are_limited_as_one_sound() {
        let circle = loop_of(&knocks(1.0)).with_longer_intro(3);
        let mut intro = circle.intro().to_vec();
        // The intro ends without the knock that ends the circle.
        intro.fill(0.01);
        let circle = circle.with_samples(intro, circle.samples().to_vec());
        let gain = Gain { db: 12.0, linear: 4.0, ceiling_dbtp: Some(-2.0), limits: true };
        let limited = apply_loop(&circle, &gain);
        let unrolled =
            |sound: &Loop| -> Vec<f32> { (0..200).flat_map(|n| sound.frame(n).to_vec()).collect() };
        let mut stream = LimiterStream::new(RATE, &gain);
        let mut straight = Vec::new();
        stream.push(&unrolled(&circle), &mut straight);
        let whole = unrolled(&limited);
        let off = straight.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-6, "{off}");
    }

    #[test]
    fn a_bridge_begins_with_one_sound_and_ends_with_the_other_at_no_higher_peak() {
        let from: Vec<f32> = recording(MUSIC).samples()[..3_200].to_vec();
        let to: Vec<f32> = resample(&recording(SPEECH), RATE).samples()[..3_200].to_vec();
        for (from, to) in [(&from, &to), (&from, &from), (&to, &from)] {
            let mixed = bridge(from, to, -60.0);
            assert_eq!(mixed.len(), 3_200);
            assert!((mixed[0] - from[0]).abs() < 1e-3 && (mixed[3_199] - to[3_199]).abs() < 1e-3);
            assert!(highest_peak(&mixed) <= highest_peak(from).max(highest_peak(to)) * 1.0001);
        }
        // Unrelated sounds of equal power keep it in the middle.
        let noise = |seed: u32| -> Vec<f32> {
            let mut state = seed;
            (0..16_000)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 8) as f32 / 8_388_608.0 - 1.0) * 0.3
                })
                .collect()
        };
        let (a, b) = (noise(1), noise(2));
        let mixed = bridge(&a, &b, -2.0);
        let power = |part: &[f32]| part.iter().map(|s| f64::from(s * s)).sum::<f64>() / part.len() as f64;
        let dip = 10.0 * (power(&mixed[7_000..9_000]) / power(&a[7_000..9_000])).log10();
        assert!(dip.abs() < 0.3, "{dip} dB");
        assert!(bridge(&[], &[1.0], -2.0).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever comes, in whatever pieces: as many samples out as in, the same ones, none above the ceiling.
        #[test]
        fn pieces_do_not_matter(
            len in 0usize..9_000,
            pieces in prop::collection::vec(1usize..1_500, 1..20),
            hits in prop::collection::vec((any::<prop::sample::Index>(), -4.0f32..4.0), 0..12),
            gain_db in -10.0f64..20.0,
        ) {
            let mut sound: Vec<f32> = (0..len).map(|n| (n as f32 * 0.3).sin() * 0.1).collect();
            if len > 0 {
                hits.iter().for_each(|(at, hit)| sound[at.index(len)] = *hit);
            }
            let level = Level { lufs: None, true_peak_dbtp: 0.0 };
            let gain = Gain::new(gain_db, level, -2.0);
            let mut whole = Vec::new();
            let mut stream = LimiterStream::new(RATE, &gain);
            stream.push(&sound, &mut whole);
            stream.finish(&mut whole);
            let mut stream = LimiterStream::new(RATE, &gain);
            let (mut parts, mut rest) = (Vec::new(), sound.as_slice());
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                stream.push(now, &mut parts);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            stream.finish(&mut parts);
            prop_assert_eq!(whole.len(), len);
            prop_assert_eq!(parts.len(), len);
            let off = parts.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            prop_assert!(off < 1e-6, "{}", off);
            let peak = decibels(f64::from(highest_peak(&whole)));
            prop_assert!(peak <= -1.95, "{} dBTP", peak);
        }
    }
}
