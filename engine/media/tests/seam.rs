//! The seam as a receiver hears it: a closed ring, decoded lap after lap by one decoder, against an encoder that never
//! stopped and a tone that never ended.

use std::{f64::consts::TAU, sync::Arc};

use holdmusic_codecs::{
    Codec, EncoderSettings, LevelSettings, LimiterStream, Loop, Pcm, StreamResampler,
    level::{fade_in, soft_start},
    level_loop,
};
use holdmusic_media::{
    ring::{At, Reader},
    source::{Progress, arriving},
};
use proptest::{prelude::*, test_runner::RngSeed};

const RATE: u32 = 16_000;
const FRAME: usize = 320;

/// Noise within ±1: the same for the same seed.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / 8_388_608.0 - 1.0
    }
}

/// What people upload, drawn roughly, and what they do not: both must loop.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Chords,
    Speech,
    Noise,
    Knocks,
    Sweep,
    Square,
    Hiss,
}

const KINDS: [Kind; 7] =
    [Kind::Chords, Kind::Speech, Kind::Noise, Kind::Knocks, Kind::Sweep, Kind::Square, Kind::Hiss];

/// Made at its own rate, and nothing in it knows where it ends: as a circle it has a seam in the middle of anything.
fn clip(kind: Kind, rate: u32, seconds: f64, seed: u32) -> Pcm {
    let len = ((seconds * f64::from(rate)) as usize).max(1);
    let mut noise = Noise(seed | 1);
    let base = 110.0 + f64::from(seed % 200);
    let half_rate = f64::from(rate) / 2.0;
    let mut sample = |n: usize| {
        let t = n as f64 / f64::from(rate);
        match kind {
            Kind::Chords => {
                let root = base * [1.0, 1.12, 0.89, 1.33][(t * 2.0) as usize % 4];
                let notes =
                    [1.0, 1.26, 1.5, 2.0, 3.01, 4.02].into_iter().filter(|ratio| root * ratio < half_rate);
                let chord: f64 = notes.map(|ratio| (TAU * root * ratio * t).sin() / ratio).sum();
                chord * 0.2 * (-1.5 * (t * 2.0).fract()).exp() + 0.004 * noise.next()
            }
            Kind::Speech if (t * 0.9).sin() < -0.8 => 0.0,
            Kind::Speech if (t * 3.1 + f64::from(seed % 7)).sin() < -0.3 => 0.05 * noise.next(),
            Kind::Speech => 0.4 * ((t * base).fract() - 0.5) * (TAU * 700.0 * t).cos(),
            Kind::Noise => 0.3 * noise.next(),
            Kind::Knocks if n % (rate as usize / 7) < 3 => 0.9,
            Kind::Knocks => 0.01 * (TAU * base * t).sin(),
            Kind::Sweep => 0.5 * (TAU * (60.0 + 300.0 * t) * t).sin(),
            Kind::Square => 0.4 * (TAU * base * t).sin().signum(),
            Kind::Hiss => 0.002 * noise.next(),
        }
    };
    Pcm::new(rate, 1, (0..len).map(|n| sample(n) as f32).collect())
}

/// What a job encoded, frame by frame and over any number of laps: what had arrived of lap one, one frame that leads
/// over, the loop.
struct Unrolled {
    arrived: Vec<f32>,
    sound: Arc<Loop>,
}

impl Unrolled {
    fn frame(&self, index: usize) -> Vec<f32> {
        let whole = self.arrived.len() / FRAME;
        let arrived = self.arrived.get(index * FRAME..(index + 1) * FRAME);
        let looped = self.sound.frame(index);
        match arrived {
            Some(arrived) if index + 1 < whole => arrived.to_vec(),
            Some(arrived) => {
                let mix = |(n, (from, to)): (usize, (&f32, &f32))| {
                    from + (to - from) * (n as f32 + 0.5) / FRAME as f32
                };
                arrived.iter().zip(looped).enumerate().map(mix).collect()
            }
            None => looped.to_vec(),
        }
    }
}

fn payload(reader: &Reader, position: usize) -> Vec<u8> {
    let mut payload = [0; 1280];
    let At::Frame(len) = reader.at(position as u64, &mut payload) else { panic!("no frame at {position}") };
    payload[..len].to_vec()
}

fn decoded(payloads: &[Vec<u8>]) -> Vec<f32> {
    let mut decoder = Codec::Opus.decoder().expect("a decoder");
    let mut heard = Vec::new();
    payloads.iter().for_each(|payload| decoder.decode(Some(payload), &mut heard).expect("sound"));
    heard
}

fn encoded(settings: &EncoderSettings, frames: impl Iterator<Item = Vec<f32>>) -> Vec<Vec<u8>> {
    let mut encoder = Codec::Opus.encoder(settings).expect("an encoder");
    let mut payload = vec![0; encoder.max_payload_len()];
    frames
        .map(|frame| {
            let len = encoder.encode(&frame, &mut payload).expect("a payload");
            payload[..len].to_vec()
        })
        .collect()
}

/// Energy that is lost in 20 ms between a frame and what is heard of it, and as much as nobody hears: -90 dB of full
/// scale, so that digital silence has an error to be compared with.
fn error(frame: &[f32], heard: &[f32]) -> f64 {
    let lost: f64 = frame.iter().zip(heard).map(|(sample, heard)| f64::from(sample - heard).powi(2)).sum();
    lost + FRAME as f64 * 1e-9
}

fn loses_no_more(
    kind: Kind,
    rate: u32,
    length: f64,
    seed: u32,
    arrived: f64,
    settings: EncoderSettings,
) -> Result<(), TestCaseError> {
    let pcm = clip(kind, rate, 0.003 * 2_000f64.powf(length), seed);
    let levelled = level_loop(&Loop::new(&pcm, RATE, FRAME), &LevelSettings::default());
    let sound = Arc::new(soft_start(&levelled.sound));

    let mut unrolled = Unrolled { arrived: Vec::new(), sound: Arc::clone(&sound) };
    let (mut resampler, mut limiter) =
        (StreamResampler::new(rate, RATE), LimiterStream::new(RATE, &levelled.gain));
    for piece in pcm.samples()[..(arrived * pcm.len() as f64) as usize].chunks(1_000) {
        let mut resampled = Vec::new();
        resampler.push(piece, &mut resampled);
        limiter.push(&resampled, &mut unrolled.arrived);
    }
    fade_in(&mut unrolled.arrived, RATE);

    let most = sound.intro_frames() + sound.frames() + unrolled.arrived.len() / FRAME;
    let (reader, mut job) = arriving(Codec::Opus, &settings, most).expect("an encoder");
    job.feed(&unrolled.arrived);
    // One frame is kept back for the joint.
    let now = (unrolled.arrived.len() / FRAME).saturating_sub(1);
    job.step(now).expect("frames");
    if now == 0 {
        unrolled.arrived.clear();
    }
    job.complete(Arc::clone(&sound));
    let mut written = now;
    while job.step(1).expect("frames") != Progress::Closed {
        written += 1;
    }

    let frames = written + 1 + 3 * sound.frames();
    // One more: what a decoder gives is late.
    let endless = encoded(&settings, (0..=frames).map(|index| unrolled.frame(index)));
    let ring: Vec<_> = (0..=frames).map(|index| payload(&reader, index)).collect();
    if ring == endless {
        return Ok(());
    }
    let (ring, endless) = (decoded(&ring), decoded(&endless));
    for index in 0..frames {
        let frame = unrolled.frame(index);
        let heard = index * FRAME + Codec::Opus.delay_samples();
        let (ours, best) = (error(&frame, &ring[heard..]), error(&frame, &endless[heard..]));
        prop_assert!(
            ours <= 1.05 * best,
            "frame {} of {} (written {}, lap {}): {:.3} times the error",
            index,
            frames,
            written + 1,
            sound.frames(),
            ours / best
        );
    }
    Ok(())
}

/// The encoder never comes out of this one the same, but every second time it does.
#[test]
fn an_encoder_may_settle_into_two_laps_in_turn() {
    let settings = EncoderSettings { opus_complexity: 5, ..EncoderSettings::default() };
    loses_no_more(Kind::Square, 161_976, 0.249_626_585_784_573_45, 2_442_458_238, 0.0, settings).unwrap();
}

proptest! {
    // The same cases everywhere; to look for others: PROPTEST_RNG_SEED is passed over, change the seed and the number.
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    /// Any clip of any rate and length, known whole from the beginning or arriving up to some place: no frame of
    /// lap one, of the joint, of the laps until the ring closes and of three laps behind it, seams included, loses
    /// more than 5 % above what an encoder loses there that went on through all of it.
    #[test]
    fn a_loop_loses_no_more_than_endless_encoding_in_any_frame(
        kind in prop::sample::select(&KINDS[..]),
        rate in prop_oneof![
            prop::sample::select(vec![8_000u32, 16_000, 22_050, 44_100, 44_101, 48_000, 96_000, 384_000]),
            4_000u32..=384_000,
        ],
        // From 3 ms to 6 s, short ones as often as long ones.
        length in 0.0f64..1.0,
        seed in any::<u32>(),
        arrived in prop_oneof![Just(0.0), 0.0f64..1.0],
        opus_bitrate in prop::sample::select(vec![24_000u32, 32_000, 32_000, 48_000]),
        opus_complexity in prop::sample::select(vec![5u8, 9, 9, 10]),
    ) {
        loses_no_more(kind, rate, length, seed, arrived, EncoderSettings { opus_bitrate, opus_complexity, ..EncoderSettings::default() })?;
    }
}

/// Samples that a spectrum is made of: 64 ms.
const WINDOW: usize = 1_024;
/// As near to its tone, in Hz, a window's energy counts as tone: Hann's main lobe is ±31 Hz, a circle may be stretched
/// by 1.25 in a thousand of 6.5 kHz, and 64 ms of a corner between two tones so close lie between them.
const NEAR: f64 = 60.0;

/// Share of a window's energy that is not near the tone, in dB.
fn spread_db(window: &[f32], tone: f64) -> f64 {
    let hann = |n: usize| 0.5 - 0.5 * (TAU * n as f64 / WINDOW as f64).cos();
    let weighted: Vec<f64> =
        window.iter().enumerate().map(|(n, &sample)| f64::from(sample) * hann(n)).collect();
    let all: f64 = weighted.iter().map(|sample| sample * sample).sum();
    let bin = f64::from(RATE) / WINDOW as f64;
    let (lowest, highest) =
        (((tone - NEAR) / bin).max(1.0).round() as usize, ((tone + NEAR) / bin).round() as usize);
    let energy = |k: usize| {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in weighted.iter().enumerate() {
            let angle = TAU * (k * n % WINDOW) as f64 / WINDOW as f64;
            re += sample * angle.cos();
            im += sample * angle.sin();
        }
        2.0 * (re * re + im * im) / WINDOW as f64
    };
    let near: f64 = (lowest..=highest).map(energy).sum();
    10.0 * ((all - near).max(0.0) / all + 1e-9).log10()
}

/// The largest spread of the windows that begin at these samples.
fn largest_spread(heard: &[f32], tone: f64, starts: impl Iterator<Item = usize>) -> f64 {
    starts.map(|start| spread_db(&heard[start..start + WINDOW], tone)).fold(f64::MIN, f64::max)
}

fn tone_clip(rate: u32, len: usize, periods: f64) -> Pcm {
    let sample = |n: usize| 0.25 * (TAU * periods * n as f64 / len as f64 + 0.7).sin();
    Pcm::new(rate, 1, (0..len).map(|n| sample(n) as f32).collect())
}

/// What is heard of a circle, over so many laps, through the ring and a decoder.
fn heard_through_ring(sound: &Arc<Loop>, laps: usize) -> Vec<f32> {
    let settings = EncoderSettings::default();
    let (reader, mut job) =
        holdmusic_media::source::rendition(Arc::clone(sound), Codec::Opus, &settings).expect("an encoder");
    while job.step(100).expect("frames") != Progress::Closed {}
    let payloads: Vec<_> = (0..laps * sound.frames()).map(|index| payload(&reader, index)).collect();
    decoded(&payloads)
}

/// How far Opus spreads the same tone where there is no seam: its frames cut a tone at phases that come round slowly,
/// and some cost more than others. Twelve phases, a third of a second each.
fn spread_without_seam(tone: f64) -> f64 {
    let endless = |phase: f64| {
        let sample = |n: usize| 0.25 * (TAU * (tone * n as f64 / f64::from(RATE) + phase)).sin();
        (0..30 * FRAME).map(|n| sample(n) as f32).collect::<Vec<_>>()
    };
    let spreads = (0..12).map(|phase| {
        let sound = endless(f64::from(phase) / 12.0);
        let heard = decoded(&encoded(&EncoderSettings::default(), sound.chunks(FRAME).map(<[f32]>::to_vec)));
        largest_spread(&heard, tone, (10 * FRAME..heard.len() - WINDOW).step_by(FRAME / 2))
    });
    spreads.fold(f64::MIN, f64::max)
}

/// Whole periods, and hardly ever whole frames. Windows over the seam (the middle and a quarter to either side) against
/// windows everywhere else and against the same tone without any seam; and, so that it is known what a click would look
/// like, against a loop that was cut off at a frame boundary.
#[test]
fn a_looped_tone_is_as_pure_at_the_seam_as_elsewhere() {
    let mut clicks = 0;
    for (rate, hz, seconds) in [
        (8_000u32, 200.0, 1.234_5),
        (8_000, 3_300.0, 1.234_5),
        (16_000, 440.0, 0.777),
        (16_000, 6_500.0, 1.234_5),
        (22_050, 997.0, 3.1),
        (44_100, 1_000.0, 0.05),
        (44_100, 2_345.6, 1.234_5),
        (44_101, 440.0, 3.1),
        (44_101, 3_300.0, 3.1),
        (48_000, 997.0, 9.876_5),
        (96_001, 1_500.0, 0.333),
    ] {
        let len = (f64::from(rate) * seconds) as usize;
        let periods = (hz * len as f64 / f64::from(rate)).round();
        let tone = periods * f64::from(rate) / len as f64;
        let name = format!("{tone:.1} Hz at {rate} Hz, {seconds} s");
        let circle = Loop::new(&tone_clip(rate, len, periods), RATE, FRAME);
        let lap = circle.samples().len();

        // Before the codec. Hann's side lobes spread a pure tone to -55 dB, depending on where it lies; the gentle
        // stretch of the circle's end may add to that, far below what any codec adds.
        let twice = circle.samples().repeat(2);
        let seams = [lap - WINDOW * 3 / 4, lap - WINDOW / 2, lap - WINDOW / 4];
        let seam = largest_spread(&twice, tone, seams.into_iter());
        let elsewhere = largest_spread(&twice, tone, (0..lap - WINDOW).step_by(lap / 100 + 7));
        assert!(
            seam <= elsewhere.max(-51.0) + 1.0,
            "{name}: {seam:.1} dB before the codec, {elsewhere:.1} elsewhere"
        );

        const LAPS: usize = 4;
        let spreads = |sound: &Arc<Loop>| {
            let heard = heard_through_ring(sound, LAPS);
            let lap = sound.samples().len();
            let seams = (1..LAPS).flat_map(|number| {
                let seam = number * lap + Codec::Opus.delay_samples();
                [seam - WINDOW * 3 / 4, seam - WINDOW / 2, seam - WINDOW / 4]
            });
            let elsewhere = (lap + 2 * WINDOW..2 * lap - 2 * WINDOW).step_by((lap / 40).max(FRAME / 2 + 7));
            (largest_spread(&heard, tone, seams), largest_spread(&heard, tone, elsewhere))
        };
        let (seam, elsewhere) = spreads(&Arc::new(circle));
        let limit = elsewhere.max(spread_without_seam(tone)) + 1.0;
        assert!(
            seam <= limit,
            "{name}: {seam:.1} dB at the seam, {elsewhere:.1} dB elsewhere, {limit:.1} allowed"
        );

        // A tone that goes on at another phase: a click. 3 ms are no whole period of any of these tones.
        let samples: Vec<f32> = (0..70 * FRAME)
            .map(|n| (0.25 * (TAU * tone * (n as f64 + 48.3) / f64::from(RATE)).sin()) as f32)
            .collect();
        let off = (tone * samples.len() as f64 / f64::from(RATE)).fract();
        if (0.1..0.9).contains(&off) {
            clicks += 1;
            let (click, _) = spreads(&Arc::new(Loop::new(&Pcm::new(RATE, 1, samples), RATE, FRAME)));
            assert!(click > limit + 3.0, "{name}: a click shows with {click:.1} dB only, {limit:.1} allowed");
        }
    }
    assert!(clicks >= 6, "only {clicks} of the tones do not fit whole frames");
}
