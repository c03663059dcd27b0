//! The mixing desk: [`Tracks`] go in, 16-bit samples of an even loudness come out, and every step is circular.
//!
//! Filters and room are run over two laps and the second is kept, so that the state in which the end leaves
//! them is the one in which the beginning finds them.

use super::band::Tracks;
use super::exact::{TURN, decibels, fade_60_db};
use super::voices::RATE;

/// Level of each track in dB and, of that, how much is sent into the room.
const GUITAR: (f64, f64) = (-7.5, 0.26);
const PIANO: (f64, f64) = (-14.5, 0.20);
const VIBRAPHONE: (f64, f64) = (-9.0, 0.24);
const REED: (f64, f64) = (-12.0, 0.30);
const STRINGS: (f64, f64) = (-23.5, 0.30);
const BASS: (f64, f64) = (-14.0, 0.05);
const BEAT: (f64, f64) = (-6.5, 0.12);

/// What brings the levelled mix to -20 LUFS, measured with an EBU R128 meter, in dB.
const MASTER: f64 = -6.4;

/// No sample leaves above this, in dB of full scale: 2.5 dB are left for what lies between the samples.
const CEILING: f64 = -4.5;

/// Mixes the band.
pub(super) fn mix(tracks: &Tracks) -> Vec<i16> {
    let desk = [
        (&tracks.guitar, GUITAR),
        (&tracks.piano, PIANO),
        (&tracks.vibraphone, VIBRAPHONE),
        (&tracks.reed, REED),
        (&tracks.strings, STRINGS),
        (&tracks.bass, BASS),
        (&tracks.beat, BEAT),
    ];
    let length = tracks.guitar.samples().len();
    let (mut sum, mut send) = (vec![0.0; length], vec![0.0; length]);
    for (bus, (level, share)) in desk {
        let gain = decibels(level);
        for ((sum, send), value) in sum.iter_mut().zip(&mut send).zip(bus.samples()) {
            *sum += gain * value;
            *send += gain * share * value;
        }
    }
    for (value, echo) in sum.iter_mut().zip(room(&send)) {
        *value += echo;
    }
    let mut sum = without_rumble(&sum);
    even(&mut sum);
    let gain = decibels(MASTER);
    for value in &mut sum {
        *value *= gain;
    }
    limit(&mut sum, decibels(CEILING));
    sum.iter().map(|value| round(value * 32_768.0)).collect()
}

/// To the nearest whole number, halves away from zero; the limiter has made sure that it fits.
fn round(value: f64) -> i16 {
    (if value < 0.0 { value - 0.5 } else { value + 0.5 }) as i16
}

/// A small room: six damped combs beside each other, two all-passes behind (Schroeder's, after Moorer).
fn room(send: &[f64]) -> Vec<f64> {
    const COMBS: [usize; 6] = [467, 521, 587, 631, 683, 743];
    const PASSES: [usize; 2] = [163, 53];
    /// Seconds until the room is silent by 60 dB.
    const FADE: f64 = 1.1;
    /// Samples before the first echo: 15 ms.
    const DELAY: usize = 240;
    let length = send.len();
    let mut combs: Vec<(Vec<f64>, usize, f64, f64)> =
        COMBS.iter().map(|&n| (vec![0.0; n], 0, 0.0, fade_60_db(FADE * RATE / n as f64, 1.0))).collect();
    let mut passes: Vec<(Vec<f64>, usize)> = PASSES.iter().map(|&n| (vec![0.0; n], 0)).collect();
    let mut out = vec![0.0; length];
    for _lap in 0..2 {
        for (i, value) in out.iter_mut().enumerate() {
            let dry = send[(i + length - DELAY) % length];
            let mut wet = 0.0;
            for (line, at, dark, gain) in &mut combs {
                let echo = line[*at];
                wet += echo;
                *dark += 0.6 * (echo - *dark);
                line[*at] = dry + *dark * *gain;
                *at += 1;
                if *at == line.len() {
                    *at = 0;
                }
            }
            wet *= 0.4;
            for (line, at) in &mut passes {
                let held = line[*at];
                line[*at] = wet + 0.5 * held;
                wet = held - 0.5 * line[*at];
                *at += 1;
                if *at == line.len() {
                    *at = 0;
                }
            }
            *value = wet;
        }
    }
    out
}

/// Takes away what no telephone carries: 12 dB per octave below 130 Hz.
fn without_rumble(samples: &[f64]) -> Vec<f64> {
    // Two first-order high-passes one after the other.
    let keep = 1.0 / (1.0 + TURN * 130.0 / RATE);
    let mut out = vec![0.0; samples.len()];
    let (mut x0, mut y0, mut y1) = (0.0, 0.0, 0.0);
    for _lap in 0..2 {
        for (value, &x) in out.iter_mut().zip(samples) {
            let first = keep * (y0 + x - x0);
            y1 = keep * (y1 + first - y0);
            (x0, y0) = (x, first);
            *value = y1;
        }
    }
    out
}

/// Rides the fader: three quarters (in dB) of what the loudness of 3 s differs from the average is taken away.
fn even(samples: &mut [f64]) {
    const BLOCK: usize = 1_600; // 100 ms
    /// Blocks on either side of the one being set: 3.1 s altogether.
    const SIDE: usize = 15;
    let blocks = samples.len() / BLOCK;
    // A first-order high-pass at about 700 Hz stands in for the weighting of the ear and of the telephone.
    let keep = 1.0 / (1.0 + TURN * 700.0 / RATE);
    let (mut x0, mut y0) = (samples[samples.len() - 1], 0.0);
    let mut power = vec![0.0; blocks];
    for (i, &x) in samples.iter().enumerate() {
        y0 = keep * (y0 + x - x0);
        x0 = x;
        power[(i / BLOCK).min(blocks - 1)] += y0 * y0 + 0.25 * x * x;
    }
    let mean = power.iter().sum::<f64>() / blocks as f64;
    let gains: Vec<f64> = (0..blocks)
        .map(|b| {
            let near: f64 = (0..=2 * SIDE).map(|k| power[(b + blocks + k - SIDE) % blocks]).sum();
            let ratio = mean * (2 * SIDE + 1) as f64 / near;
            // The ratio is one of powers: its root is the whole correction, its 3/8th power three quarters.
            let root = ratio.sqrt();
            let fourth = root.sqrt();
            fourth * fourth.sqrt()
        })
        .collect();
    for (i, value) in samples.iter_mut().enumerate() {
        let (block, rest) = (i / BLOCK, (i % BLOCK) as f64 / BLOCK as f64);
        let (here, there) = (gains[block % blocks], gains[(block + 1) % blocks]);
        *value *= here + (there - here) * rest;
    }
}

/// Turns peaks above `ceiling` down, smoothly from 5 ms before to 5 ms after.
fn limit(samples: &mut [f64], ceiling: f64) {
    const REACH: usize = 80;
    let length = samples.len();
    let mut lowest = vec![1.0_f64; length];
    for (i, value) in samples.iter().enumerate() {
        if value.abs() > ceiling {
            let wanted = ceiling / value.abs();
            for k in 0..=2 * REACH {
                let gain = &mut lowest[(i + length + k - REACH) % length];
                *gain = gain.min(wanted);
            }
        }
    }
    // The mean of 81 gains around a peak, each of them low enough, is low enough. The sum slides along in
    // whole units of 2^-32, so that nothing drifts.
    const HALF: usize = REACH / 2;
    let units: Vec<i64> = lowest.iter().map(|gain| (gain * 4_294_967_296.0) as i64).collect();
    let mut sum: i64 = (0..=2 * HALF).map(|k| units[(length + k - HALF) % length]).sum();
    for (i, value) in samples.iter_mut().enumerate() {
        *value *= sum as f64 / ((2 * HALF + 1) as f64 * 4_294_967_296.0);
        sum += units[(i + 1 + HALF) % length] - units[(i + length - HALF) % length];
    }
}
