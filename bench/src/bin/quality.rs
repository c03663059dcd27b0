//! How good is what a receiver hears? Music and speech go the whole way into a ring, a decoder plays the ring, and what
//! it gives is compared with the 16 kHz sound that was encoded, at several bit rates.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Parser;
use holdmusic_bench::{
    progress::Progress as Bar,
    report::{machine, table},
};
use holdmusic_codecs::{
    Codec, EncoderSettings, Loop, Pcm,
    compare::{correlate, segmental_snr},
    level::measure,
    music, resample,
};
use holdmusic_media::{
    prepare::{PrepareSettings, prepare},
    ring::{At, Reader},
    source::Progress,
};
use plotters::prelude::{
    ChartBuilder, IntoDrawingArea, LineSeries, Palette, Palette99, PathElement, SVGBackend, WHITE,
};
use serde_json::{Value, json};

/// What a receiver hears against what was encoded, for each bit rate
#[derive(Parser)]
struct Options {
    /// Recordings, or directories of them; what is not there is skipped
    paths: Vec<PathBuf>,
    /// Opus bit rates, in bits per second
    #[arg(long, value_delimiter = ',', default_values_t = [24_000u32, 32_000, 48_000])]
    bitrates: Vec<u32>,
    /// Opus complexities; each bit rate with each
    #[arg(long, value_delimiter = ',', default_values_t = [5u8, 9, 10])]
    complexities: Vec<u8>,
    /// How much of each recording is heard, in seconds from its beginning
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Recordings taken from one directory, evenly over its names
    #[arg(long, default_value_t = 6)]
    from_directory: usize,
    /// Where figures, picture and pairs for other judges are written
    #[arg(long, value_name = "DIR", default_value = "target/quality")]
    out: PathBuf,
    /// How much of each recording other judges get, in seconds; 0 writes no pairs
    #[arg(long, default_value_t = 8)]
    pair_seconds: u32,
}

/// Where Debian's packages asterisk-moh-opsound-wav and asterisk-core-sounds-en-wav put real music and speech.
const INSTALLED: [&str; 2] = ["/usr/share/asterisk/moh", "/usr/share/asterisk/sounds/en_US_f_Allison"];

/// What was measured of one recording at one setting.
struct Figure {
    bitrate: u32,
    complexity: u8,
    /// Of all that was heard, in dB.
    snr_db: f64,
    /// Mean over 20 ms, each within -10 to 35 dB.
    segmental_db: f64,
    /// What the receiver hears.
    lufs: f64,
    peak_dbtp: f64,
    /// How much higher its peak is than the peak of what was encoded.
    overshoot_db: f64,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    fs::create_dir_all(&options.out)?;
    let recordings = recordings(&options)?;
    let settings: Vec<_> = options
        .bitrates
        .iter()
        .flat_map(|&bitrate| options.complexities.iter().map(move |&complexity| (bitrate, complexity)))
        .collect();
    let bar = Bar::new((recordings.len() * settings.len()) as u64);
    let mut all: Vec<(String, Vec<Figure>)> = Vec::new();
    let mut pairs = Vec::new();
    for (name, bytes) in recordings {
        let mut figures = Vec::new();
        for &(bitrate, complexity) in &settings {
            match heard(&bytes, bitrate, complexity, options.seconds) {
                Ok((encoded, heard)) => {
                    figures.push(figure(bitrate, complexity, &encoded, &heard));
                    if complexity == EncoderSettings::default().opus_complexity && options.pair_seconds > 0 {
                        let seconds = options.pair_seconds;
                        pairs.push(write_pair(&options.out, &name, bitrate, seconds, &encoded, &heard)?);
                    }
                }
                Err(why) => {
                    let _ = writeln!(io::stderr(), "{name} is skipped: {why}");
                    break;
                }
            }
            bar.step(&name);
        }
        if figures.len() == settings.len() {
            all.push((name, figures));
        }
    }
    drop(bar);
    show(&settings, &all);
    fs::write(options.out.join("pairs.json"), format!("{:#}\n", json!(pairs)))?;
    fs::write(options.out.join("quality.json"), format!("{:#}\n", written(&all)))?;
    draw(&options.out.join("quality.svg"), &options.bitrates, &all).map_err(io::Error::other)
}

/// The default music, our fixtures, and what was named or is installed.
fn recordings(options: &Options) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = vec![("default music".to_owned(), wav(&music::default_music())?)];
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/fixtures");
    let mut places = vec![fixtures.join("music-16k.wav"), fixtures.join("speech-8k.wav")];
    if options.paths.is_empty() {
        places.extend(INSTALLED.map(PathBuf::from));
    } else {
        places.extend(options.paths.iter().cloned());
    }
    for place in places {
        let mut files = Vec::new();
        if place.is_dir() {
            for entry in fs::read_dir(&place)? {
                let entry = entry?;
                // A second is the least that says anything: 16 kB at 8 kHz.
                if entry.file_type()?.is_file() && entry.metadata()?.len() > 60_000 {
                    files.push(entry.path());
                }
            }
            files.sort();
            let step = files.len().div_ceil(options.from_directory.max(1)).max(1);
            files = files.into_iter().step_by(step).collect();
        } else if place.is_file() {
            files.push(place);
        } else {
            let _ = writeln!(io::stderr(), "{} is not there and is skipped", place.display());
        }
        for file in files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, fs::read(&file)?));
        }
    }
    Ok(found)
}

/// What was encoded and what a receiver hears of it, laid over each other.
fn heard(
    bytes: &[u8],
    bitrate: u32,
    complexity: u8,
    seconds: u32,
) -> Result<(Vec<f32>, Vec<f32>), Box<dyn std::error::Error>> {
    let codec = Codec::Opus;
    let settings = PrepareSettings {
        encoder: EncoderSettings {
            opus_bitrate: bitrate,
            opus_complexity: complexity,
            ..EncoderSettings::default()
        },
        ..PrepareSettings::default()
    };
    let mut prepared = prepare(bytes, codec, &settings, &|| true)?;
    while prepared.job.step(1_000)? != Progress::Closed {}
    let sound: &Arc<Loop> = prepared.job.sound().expect("a closed loop is whole");
    // One frame more, because the decoder is late. A short recording is heard more than once.
    let frames = seconds as usize * 50;
    let encoded: Vec<f32> = (0..frames).flat_map(|index| sound.frame(index).iter().copied()).collect();
    let mut heard = decoded(&prepared.reader, codec, frames + 1)?;
    heard.drain(..codec.delay_samples());
    heard.truncate(encoded.len());
    let off = offset(&encoded, &heard);
    if off != 0 {
        return Err(format!("it is heard {off} samples off").into());
    }
    Ok((encoded, heard))
}

/// By how many samples what is heard is late (or early, if negative), looked for within 10 ms: a short recording comes
/// round many times, and is like itself a whole lap away.
fn offset(encoded: &[f32], heard: &[f32]) -> i64 {
    const WITHIN: usize = 160;
    // Two seconds say enough.
    let middle = &encoded[WITHIN..(encoded.len() - WITHIN).min(32_000)];
    let likeness = |late: usize| correlate(middle, &heard[late..]);
    let best = (0..=2 * WITHIN).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).unwrap_or(WITHIN);
    best as i64 - WITHIN as i64
}

fn decoded(reader: &Reader, codec: Codec, frames: usize) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let mut decoder = codec.decoder()?;
    let (mut heard, mut payload) = (Vec::new(), [0; 1280]);
    for position in 0..frames {
        let At::Frame(len) = reader.at(position as u64, &mut payload) else {
            return Err(format!("no frame at {position}").into());
        };
        decoder.decode(Some(&payload[..len]), &mut heard)?;
    }
    Ok(heard)
}

fn figure(bitrate: u32, complexity: u8, encoded: &[f32], heard: &[f32]) -> Figure {
    let energy = |samples: &mut dyn Iterator<Item = f64>| samples.map(|sample| sample * sample).sum::<f64>();
    let signal = energy(&mut encoded.iter().map(|&sample| f64::from(sample)));
    let noise = energy(&mut encoded.iter().zip(heard).map(|(encoded, heard)| f64::from(encoded - heard)));
    let rate = Codec::Opus.sample_rate();
    let (sent, received) = (measure(encoded, rate, false), measure(heard, rate, false));
    Figure {
        bitrate,
        complexity,
        snr_db: 10.0 * (signal / noise.max(1e-12)).log10(),
        segmental_db: segmental_snr(encoded, heard, Codec::Opus.samples_per_frame()).unwrap_or(f64::NAN),
        lufs: received.lufs.unwrap_or(f64::NEG_INFINITY),
        peak_dbtp: received.true_peak_dbtp,
        overshoot_db: received.true_peak_dbtp - sent.true_peak_dbtp,
    }
}

/// Without what has no figure: near-silence has no loudness and no segment that says anything.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values
        .filter(|value| value.is_finite())
        .fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

fn show(settings: &[(u32, u8)], all: &[(String, Vec<Figure>)]) {
    let complexity = EncoderSettings::default().opus_complexity;
    let shown = |figure: &&Figure| figure.complexity == complexity;
    let mut rows: Vec<(String, String)> = all
        .iter()
        .map(|(name, figures)| {
            let cell = |figure: &Figure| format!("{:>6.1} {:>6.1}", figure.snr_db, figure.segmental_db);
            let cells: Vec<_> = figures.iter().filter(shown).map(cell).collect();
            let loudness = mean(figures.iter().filter(shown).map(|figure| figure.lufs));
            let worst = figures.iter().filter(shown).map(|figure| figure.peak_dbtp).fold(f64::MIN, f64::max);
            let over =
                figures.iter().filter(shown).map(|figure| figure.overshoot_db).fold(f64::MIN, f64::max);
            (name.clone(), format!("{}   {loudness:>6.1} {worst:>6.1} {over:>6.2}", cells.join("  ")))
        })
        .collect();
    for &(bitrate, complexity) in settings {
        let of = |(_, figures): &(String, Vec<Figure>), take: fn(&Figure) -> f64| {
            figures.iter().find(|f| f.bitrate == bitrate && f.complexity == complexity).map_or(f64::NAN, take)
        };
        let snr = mean(all.iter().map(|one| of(one, |figure| figure.snr_db)));
        let segmental = mean(all.iter().map(|one| of(one, |figure| figure.segmental_db)));
        rows.push((
            format!("mean, {} kbit/s, complexity {complexity}", bitrate / 1000),
            format!("{snr:>6.1} {segmental:>6.1}"),
        ));
    }
    let mut bitrates: Vec<_> = settings.iter().map(|(bitrate, _)| format!("{}", bitrate / 1000)).collect();
    bitrates.dedup();
    let rows: Vec<_> = rows.iter().map(|(name, row)| (name.as_str(), row.clone())).collect();
    table(
        &format!(
            "What a receiver hears against what was encoded, complexity {complexity}: SNR and segmental SNR in dB at \
             {} kbit/s;\nthen what it hears in LUFS, its highest true peak in dBTP, and by how much the codec has \
             raised the peak in dB",
            bitrates.join(", ")
        ),
        &rows,
    );
}

fn written(all: &[(String, Vec<Figure>)]) -> Value {
    let recordings: Vec<_> = all
        .iter()
        .map(|(name, figures)| {
            let figures: Vec<_> = figures
                .iter()
                .map(|figure| {
                    json!({
                        "bitrate": figure.bitrate, "complexity": figure.complexity, "snrDb": figure.snr_db,
                        "segmentalSnrDb": figure.segmental_db, "lufs": figure.lufs, "truePeakDbtp": figure.peak_dbtp,
                        "overshootDb": figure.overshoot_db,
                    })
                })
                .collect();
            json!({ "recording": name, "figures": figures })
        })
        .collect();
    json!({ "machine": machine(), "recordings": recordings })
}

/// Segmental SNR over bit rate, a line for each recording.
fn draw(
    file: &Path,
    bitrates: &[u32],
    all: &[(String, Vec<Figure>)],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let kilobits = |bitrate: u32| f64::from(bitrate) / 1e3;
    let (least, most) = bitrates.iter().fold((f64::MAX, f64::MIN), |(least, most), &bitrate| {
        (least.min(kilobits(bitrate)), most.max(kilobits(bitrate)))
    });
    let area = SVGBackend::new(file, (900, 520)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(least - 1.0..most + 12.0, 0.0..32.0)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("kbit/s")
        .y_desc("segmental SNR, dB")
        .draw()
        .map_err(|error| failed(&error))?;
    let complexity = EncoderSettings::default().opus_complexity;
    for (index, (name, figures)) in all.iter().enumerate() {
        let points = figures.iter().filter(|figure| figure.complexity == complexity);
        let points = points.map(|figure| (kilobits(figure.bitrate), figure.segmental_db));
        let colour = Palette99::pick(index);
        chart
            .draw_series(LineSeries::new(points, &colour))
            .map_err(|error| failed(&error))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], Palette99::pick(index)));
    }
    chart.configure_series_labels().border_style(WHITE).draw().map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))?;
    Ok(())
}

/// For a judge who wants files: what was encoded and what was heard, both at 48 kHz from a second on, so that its own
/// idea of 16 kHz does not count.
fn write_pair(
    out: &Path,
    name: &str,
    bitrate: u32,
    seconds: u32,
    encoded: &[f32],
    heard: &[f32],
) -> io::Result<Value> {
    let rate = Codec::Opus.sample_rate() as usize;
    let part = |samples: &[f32]| {
        let end = samples.len().min((1 + seconds as usize) * rate);
        resample(&Pcm::new(rate as u32, 1, samples[rate.min(end)..end].to_vec()), 48_000)
    };
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let (reference, degraded) = (format!("{plain}-sent.wav"), format!("{plain}-{bitrate}.wav"));
    fs::write(out.join(&reference), wav(&part(encoded))?)?;
    fs::write(out.join(&degraded), wav(&part(heard))?)?;
    Ok(json!({ "recording": name, "bitrate": bitrate, "reference": reference, "degraded": degraded }))
}

/// A WAV of 32-bit floats: nothing is rounded, nothing is clipped.
fn wav(pcm: &Pcm) -> io::Result<Vec<u8>> {
    let spec = hound::WavSpec {
        channels: pcm.channels(),
        sample_rate: pcm.rate(),
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut file = io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).map_err(io::Error::other)?;
    pcm.samples().iter().try_for_each(|&sample| writer.write_sample(sample)).map_err(io::Error::other)?;
    writer.finalize().map_err(io::Error::other)?;
    Ok(file.into_inner())
}
