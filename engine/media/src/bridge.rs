//! [`bridge`]: a change of music. The frames around the change in both rings go in; a small ring that leads from one to
//! the other comes out, to be played in between.
//!
//! A plain switch at a frame boundary would be heard: neither encoder knew the other's state. Here the sound of both is
//! taken from their frames as a listener has it, mixed over a few frames, and encoded by one encoder that has run in
//! on the old music and runs out on the new.

use std::f32::consts::FRAC_PI_2;

use holdmusic_codecs::{Codec, EncoderSettings};

use crate::{
    frame::Frame,
    ring::{self, At, Reader},
};

/// Frames over which the old music leaves and the new one comes: 60 ms, too short to hear two pieces at once and long
/// enough not to click.
const MIXED: usize = 3;

/// Frames of the old music that the encoder hears first, so that the bridge begins in the state in which listeners'
/// decoders are.
const RUN_IN: usize = 10;

/// Frames of the new music at the end of the bridge, so that it ends in the state in which the new ring was encoded.
const RUN_OUT: usize = 8;

/// Frames that a decoder hears before its sound is used.
const WARM_UP: usize = 10;

/// A way from one music into another.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Its frames, from position 0.
    pub reader: Reader,
    /// How many there are; the new music goes on at the same position.
    pub frames: u64,
    /// What they are encoded with.
    pub codec: Codec,
}

/// Makes a bridge that leaves `from` at position `at` and enters `to` at its beginning. `None` if one of the rings does
/// not have the frames (yet), or the codec fails: then the change is a plain switch.
pub fn bridge(
    codec: Codec,
    settings: &EncoderSettings,
    from: &Reader,
    at: u64,
    to: &Reader,
) -> Option<Bridge> {
    let len = codec.samples_per_frame();
    let run_in = RUN_IN.min(usize::try_from(at).unwrap_or(RUN_IN));
    let old = sound(codec, from, at - run_in as u64, run_in + MIXED)?;
    let new = sound(codec, to, 0, MIXED + RUN_OUT)?;

    let (before, old) = old.split_at(run_in * len);
    let mixed = old.iter().zip(&new).enumerate().map(|(n, (old, new))| {
        // Equal power: two pieces of music are not in phase.
        let (coming, leaving) = ((n as f32 + 0.5) / (MIXED * len) as f32 * FRAC_PI_2).sin_cos();
        old * leaving + new * coming
    });
    let samples: Vec<f32> =
        before.iter().copied().chain(mixed).chain(new[MIXED * len..].iter().copied()).collect();

    let mut encoder = codec.encoder(settings).ok()?;
    let mut payload = vec![0; encoder.max_payload_len()];
    let (mut writer, reader) = ring::closed(MIXED + RUN_OUT);
    for (number, frame) in samples.chunks(len).enumerate() {
        let written = encoder.encode(frame, &mut payload).ok()?;
        if number >= run_in {
            writer.push(Frame::new(&payload[..written])).ok()?;
        }
    }
    Some(Bridge { reader, frames: (MIXED + RUN_OUT) as u64, codec })
}

/// The sound of `frames` frames of a ring from position `first` on, as it was before it was encoded: the decoder is
/// warmed up where there is music before, and the delay of encoding and decoding is taken out.
fn sound(codec: Codec, ring: &Reader, first: u64, frames: usize) -> Option<Vec<f32>> {
    let warm_up = WARM_UP.min(usize::try_from(first).unwrap_or(WARM_UP));
    let mut decoder = codec.decoder().ok()?;
    let mut samples = Vec::new();
    let mut payload = [0; 2048];
    let skip = warm_up * codec.samples_per_frame() + codec.delay_samples();
    // One frame more than asked for, because of the delay.
    for position in (first - warm_up as u64..).take(warm_up + frames + 1) {
        let At::Frame(len) = ring.at(position, &mut payload) else { return None };
        decoder.decode(Some(&payload[..len]), &mut samples).ok()?;
    }
    Some(samples.get(skip..skip + frames * codec.samples_per_frame())?.to_vec())
}

#[cfg(test)]
mod tests {
    use std::{f64::consts::TAU, sync::Arc};

    use holdmusic_codecs::{Loop, Pcm, align};

    use super::*;
    use crate::source::{Progress, rendition};

    /// A chord that sounds for ever, and its ring.
    fn music(notes: [f64; 3]) -> (Vec<f32>, Reader) {
        let samples: Vec<f32> = (0..16_000)
            .map(|n| {
                let t = f64::from(n) / 16_000.0;
                (notes.iter().map(|hz| (t * hz * TAU).sin()).sum::<f64>() * 0.2) as f32
            })
            .collect();
        let circle = Arc::new(Loop::new(&Pcm::new(16_000, 1, samples.clone()), 16_000, 320));
        let (reader, mut job) = rendition(circle, Codec::Opus, &EncoderSettings::default()).unwrap();
        while job.step(100).unwrap() != Progress::Closed {}
        (samples, reader)
    }

    /// Largest second difference: what a click is made of.
    fn roughness(samples: &[f32]) -> f32 {
        samples.windows(3).map(|s| (s[2] - 2.0 * s[1] + s[0]).abs()).fold(0.0, f32::max)
    }

    /// A listener's decoder goes through the change; it is compared with the same change made before encoding.
    #[test]
    fn a_listener_hears_one_music_become_the_other_without_a_click() {
        let (old, from) = music([330.0, 415.0, 495.0]);
        let (new, to) = music([262.0, 392.0, 523.0]);
        let at = 63;
        let bridge = bridge(Codec::Opus, &EncoderSettings::default(), &from, at, &to).unwrap();
        assert_eq!(bridge.frames, 11);

        let mut decoder = Codec::Opus.decoder().unwrap();
        let mut heard = Vec::new();
        let mut payload = [0; 1280];
        for position in 0..150u64 {
            let read = match position.checked_sub(at) {
                None => from.at(position, &mut payload),
                Some(into) if into < bridge.frames => bridge.reader.at(into, &mut payload),
                Some(into) => to.at(into, &mut payload),
            };
            let At::Frame(len) = read else { panic!("a frame at {position}") };
            decoder.decode(Some(&payload[..len]), &mut heard).unwrap();
        }

        let change = 63 * 320;
        let ideal: Vec<f32> = (0..150 * 320)
            .map(|n: usize| {
                let old = old[n % old.len()];
                let Some(into) = n.checked_sub(change) else { return old };
                let new = new[into % new.len()];
                let (coming, leaving) = ((into as f32 / 960.0).min(1.0) * FRAC_PI_2).sin_cos();
                old * leaving + new * coming
            })
            .collect();
        let around = change - 640..change + 16 * 320;
        let found = align(&ideal[around.clone()], &heard);
        assert!(found.correlation > 0.98, "{found:?}");
        assert_eq!(found.offset_samples, around.start as i64 + 104, "neither early nor late");
        let rough = roughness(&heard[around.start..around.end + 320]);
        let calm = roughness(&heard[3_200..change - 640]).max(roughness(&heard[change + 20 * 320..]));
        assert!(rough < 1.3 * calm, "{rough} around the change, {calm} elsewhere");
    }

    #[test]
    fn without_the_frames_there_is_no_bridge() {
        let (_, from) = music([330.0, 415.0, 495.0]);
        let (_writer, to) = ring::closed(100);
        assert!(bridge(Codec::Opus, &EncoderSettings::default(), &from, 5, &to).is_none());
    }

    #[test]
    fn a_change_in_the_first_frames_has_a_shorter_run_in() {
        let (_, from) = music([330.0, 415.0, 495.0]);
        let (_, to) = music([262.0, 392.0, 523.0]);
        for at in 0..12 {
            assert!(bridge(Codec::Opus, &EncoderSettings::default(), &from, at, &to).is_some());
        }
    }
}
