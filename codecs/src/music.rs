//! The default music: forty bars of a bossa nova of our own become 96 s of [`Pcm`] that loop without a seam.
//!
//! It is made for telephone ears: every voice lives between 300 Hz and 7 kHz, the loudness hardly moves, and the
//! first bar begins at once, because each hold begins there. The piece is circular: notes and room that ring
//! past the last bar are heard under the first one, which the last harmony leads into.
//!
//! The same samples come out on every machine (see `exact`); a test pins their hash, and `assets/default-music.wav`
//! holds them for everyone who does not want to compute. Read the modules in the order in which a note walks.

mod exact;
mod score;
mod voices;
mod band;
mod mix;

use crate::Pcm;

/// Samples per second of the default music, in Hz.
pub const RATE: u32 = 16_000;

/// Plays and mixes the default music: 16-bit samples, mono, at [`RATE`]. It takes about half a second.
pub fn compose() -> Vec<i16> {
    mix::mix(&band::play())
}

/// The default music as [`Pcm`], at [`RATE`] and mono.
pub fn default_music() -> Pcm {
    Pcm::new(RATE, 1, compose().iter().map(|&sample| f32::from(sample) / 32_768.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a (64 bits) of the samples in little-endian bytes. It changes with every note: then render the asset
    /// anew with `cargo run --release -p holdmusic-codecs --example render_default_music` and put its hash here.
    const HASH: u64 = 0x8d84_4efc_d8af_5e82;

    fn fnv_1a(samples: &[i16]) -> u64 {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    fn rms(samples: &[i16]) -> f64 {
        let power: f64 = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
        (power / samples.len() as f64).sqrt()
    }

    /// Bit for bit, on every machine that runs this test.
    #[test]
    fn the_default_music_is_the_same_everywhere() {
        let samples = compose();
        assert_eq!(fnv_1a(&samples), HASH, "the music is {:#018x}", fnv_1a(&samples));
    }

    /// The file is read with another reader than ours.
    #[test]
    fn the_asset_holds_exactly_what_is_composed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/default-music.wav");
        let mut reader = hound::WavReader::open(path).expect("the asset lies beside the crates");
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, RATE, 16));
        let stored: Vec<i16> = reader.samples().map(|sample| sample.expect("a sample")).collect();
        assert!(stored == compose(), "render the asset anew");
    }

    /// Whole frames of 20 ms, a minute at least, two at most.
    #[test]
    fn the_loop_is_a_whole_number_of_frames() {
        let samples = compose();
        assert_eq!(samples.len() % 320, 0);
        assert!((60..=120).contains(&(samples.len() / RATE as usize)));
        assert_eq!(default_music().len(), samples.len());
    }

    /// The step from the last sample to the first, and the one before it, are below the greatest
    /// twentieth of all steps in the piece: nothing that an ear could find.
    #[test]
    fn the_seam_is_no_jump() {
        let samples = compose();
        let last = samples.len() - 1;
        let step = |i: usize| (i32::from(samples[(i + 1) % samples.len()]) - i32::from(samples[i])).abs();
        let mut steps: Vec<i32> = (0..last).map(step).collect();
        steps.sort_unstable();
        let common = steps[steps.len() * 95 / 100];
        assert!(step(last) <= common, "seam {} against {common}", step(last));
        assert!(step(last - 1) <= common);
    }

    /// The first 50 ms are no more than 3 dB below the average.
    #[test]
    fn it_begins_at_once() {
        let samples = compose();
        let (beginning, average) = (rms(&samples[..800]), rms(&samples));
        assert!(beginning > average * 0.708, "{beginning:.0} against {average:.0}");
    }

    /// Integrated loudness, loudness of every 3 s and true peak, by the meter that the engine uses.
    #[test]
    fn it_is_as_loud_as_the_engine_wants_and_evenly_so() {
        let samples = compose();
        let mut meter = ebur128::EbuR128::new(1, RATE, ebur128::Mode::all()).expect("a valid format");
        let mut lowest = f64::MAX;
        let mut highest = f64::MIN;
        for (i, block) in samples.chunks(1_600).enumerate() {
            meter.add_frames_i16(block).expect("mono frames");
            if i >= 30 {
                let loudness = meter.loudness_shortterm().expect("3 s are there");
                lowest = lowest.min(loudness);
                highest = highest.max(loudness);
            }
        }
        let whole = meter.loudness_global().expect("it is long enough");
        assert!((whole + 20.0).abs() < 0.5, "{whole:.2} LUFS");
        assert!(lowest > whole - 2.5 && highest < whole + 2.5, "{lowest:.2} to {highest:.2} LUFS");
        let peak = 20.0 * meter.true_peak(0).expect("one channel").log10();
        assert!(peak <= -2.0, "{peak:.2} dBTP");
    }
}
