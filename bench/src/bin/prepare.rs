//! What does it cost to make a prompt playable, against what libopus alone needs for one lap of it? All steps in one
//! run, round after round and in turn, in processor time of this thread, so that a busy machine disturbs them alike.

use std::{
    fs,
    hint::black_box,
    io::{self, Cursor},
    path::PathBuf,
    sync::Arc,
};

use clap::Parser;
use holdmusic_bench::{
    progress::Progress as Bar,
    report::{machine, quantile, table},
};
use holdmusic_codecs::{
    Codec, DecodeLimits, EncoderSettings, LevelSettings, Loop, Pcm, decode_mono, level::soft_start,
    level_loop, music, resample,
};
use holdmusic_media::{
    prepare::{PrepareSettings, prepare},
    source::{Progress, rendition},
};
use rustix::{thread::ClockId, time::clock_gettime};
use serde_json::{Value, json};

/// The cost of preparing a prompt
#[derive(Parser)]
struct Options {
    /// Lengths of the prompts, in seconds
    #[arg(long, value_delimiter = ',', default_values_t = [60u32, 240])]
    seconds: Vec<u32>,
    /// Rounds; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Opus complexity
    #[arg(long, default_value_t = EncoderSettings::default().opus_complexity)]
    complexity: u8,
    /// Writes the figures as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a prompt may cost: times real time, laps of libopus for all encoding, and a share of one for all the rest.
const LEAST_SPEED: f64 = 100.0;
const MOST_LAPS: f64 = 2.5;
const MOST_BESIDES: f64 = 0.25;

/// The steps in the order in which a prompt meets them; the last two are measured against each other.
const STEPS: [&str; 6] = ["decode", "resample, close", "level", "encode", "all of it", "libopus, one lap"];

fn main() -> io::Result<()> {
    let options = Options::parse();
    let settings = PrepareSettings {
        encoder: EncoderSettings { opus_complexity: options.complexity, ..EncoderSettings::default() },
        ..PrepareSettings::default()
    };
    let shapes: Vec<(u32, u32, u16)> = options
        .seconds
        .iter()
        .flat_map(|&seconds| {
            [(8_000, 1), (16_000, 1), (44_100, 2)].map(|(rate, channels)| (seconds, rate, channels))
        })
        .collect();
    let bar = Bar::new(shapes.len() as u64 * u64::from(options.rounds));
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (seconds, rate, channels) in shapes {
        let name = format!("{seconds} s, {:.1} kHz, {channels} ch", f64::from(rate) / 1e3);
        let bytes = recording(seconds, rate, channels);
        let mut costs = STEPS.map(|_| Vec::new());
        for _ in 0..options.rounds {
            for (costs, cost) in costs.iter_mut().zip(round(&bytes, &settings)) {
                costs.push(cost);
            }
            bar.step(&name);
        }
        let median = costs.each_mut().map(|costs| quantile(costs, 0.5));
        let [decode, close, level, encode, all, lap] = median;
        let (speed, laps, besides) = (f64::from(seconds) / all, encode / lap, (decode + close + level) / lap);
        let ms = median.map(|cost| format!("{:>8.1}", cost * 1e3)).join(" ");
        let met = |met| if met { "" } else { " missed" };
        rows.push((
            name.clone(),
            format!(
                "{ms} {speed:>8.0}{} {laps:>7.2}{} {besides:>7.3}{}",
                met(speed >= LEAST_SPEED),
                met(laps <= MOST_LAPS),
                met(besides <= MOST_BESIDES)
            ),
        ));
        let steps: Value =
            STEPS.iter().zip(median).map(|(step, cost)| ((*step).to_owned(), json!(cost))).collect();
        figures.push(json!({
            "prompt": name, "cpuSeconds": steps, "timesRealTime": speed, "encodingLaps": laps, "besidesOpus": besides,
        }));
    }
    drop(bar);
    let rows: Vec<_> = rows.iter().map(|(name, row)| (name.as_str(), row.clone())).collect();
    table(
        &format!(
            "Preparing a prompt at Opus complexity {}, medians of {} rounds, CPU milliseconds.\n\
             Columns: {}; times real time (at least {LEAST_SPEED}); encoding in laps of libopus (at most {MOST_LAPS}); \
             all but Opus in such laps (at most {MOST_BESIDES})",
            options.complexity,
            options.rounds,
            STEPS.join("; ")
        ),
        &rows,
    );
    if let Some(file) = options.json {
        let figures = json!({ "machine": machine(), "complexity": options.complexity, "prompts": figures });
        fs::write(file, format!("{figures:#}\n"))?;
    }
    Ok(())
}

/// A 16-bit WAV of the default music, again and again; a second channel is the same half a second later.
fn recording(seconds: u32, rate: u32, channels: u16) -> Vec<u8> {
    let music = music::default_music();
    let len = seconds as usize * 16_000;
    let long: Vec<f32> = music.samples().iter().copied().cycle().take(len).collect();
    let sound = resample(&Pcm::new(16_000, 1, long), rate);
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).expect("a usual shape");
    let samples = sound.samples();
    for n in 0..samples.len() {
        for channel in 0..usize::from(channels) {
            let sample = samples[(n + channel * rate as usize / 2) % samples.len()];
            writer.write_sample((sample * 32_767.0) as i16).expect("memory");
        }
    }
    writer.finalize().expect("memory");
    file.into_inner()
}

/// Processor seconds of each of [`STEPS`].
fn round(bytes: &[u8], settings: &PrepareSettings) -> [f64; 6] {
    let codec = Codec::Opus;
    let (recording, decode) =
        timed(|| decode_mono(bytes, &DecodeLimits::default(), &|| true).expect("our own recording"));
    let (circle, close) = timed(|| {
        let (rate, frame) = (codec.sample_rate(), codec.samples_per_frame());
        Loop::with_points(&recording.pcm, recording.loop_points, rate, frame).0
    });
    let (sound, level) =
        timed(|| Arc::new(soft_start(&level_loop(&circle, &LevelSettings::default()).sound)));
    let (_, encode) = timed(|| {
        let (reader, mut job) =
            rendition(Arc::clone(&sound), codec, &settings.encoder).expect("settings of ours");
        while job.step(1_000).expect("frames") != Progress::Closed {}
        black_box(reader)
    });
    let (_, all) = timed(|| {
        let mut prepared = prepare(bytes, codec, settings, &|| true).expect("our own recording");
        while prepared.job.step(1_000).expect("frames") != Progress::Closed {}
        black_box(prepared.reader)
    });
    let ((), lap) = timed(|| {
        let mut encoder = codec.encoder(&settings.encoder).expect("settings of ours");
        let mut payload = vec![0; encoder.max_payload_len()];
        for index in 0..sound.frames() {
            black_box(encoder.encode(sound.frame(index), &mut payload).expect("a frame"));
        }
    });
    [decode, close, level, encode, all, lap]
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let began = now();
    let result = work();
    (result, now() - began)
}
