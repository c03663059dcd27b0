//! [`Source`]: one prompt made playable, with one rendition per codec. A rendition is a [`Reader`] for the legs and a
//! [`Job`] for a producer, who steps it until the loop is closed.

use std::sync::Arc;

use holdmusic_codecs::{Codec, EncodeError, Encoder, EncoderSettings, Loop};

use crate::{
    frame::Frame,
    ring::{self, LoopWriter, Reader},
};

/// So many frames in a row must come out the same as a lap before, until the encoder is taken to have settled: one
/// second. Measured on music at constant bit rate, the first lap differs from the second in its first dozen frames
/// only, and the second from the third in none.
const SETTLED_FRAMES: u64 = 50;

/// After so many laps the loop is closed whether or not the encoder has settled. What remains then is a step between
/// two encodings of the same sound.
const MAX_LAPS: u64 = 3;

/// Starts to encode a loop of music in `codec`: what legs read, and the work that fills it.
///
/// # Errors
///
/// If the encoder refuses the settings.
pub fn rendition(
    sound: Arc<Loop>,
    codec: Codec,
    settings: &EncoderSettings,
) -> Result<(Reader, Job), EncodeError> {
    let encoder = codec.encoder(settings)?;
    let payload = vec![0; encoder.max_payload_len()];
    let laps = usize::try_from(MAX_LAPS).expect("small");
    let (writer, reader) = ring::closed(sound.frames() * laps);
    Ok((reader, Job { sound, encoder, payload, work: Some(Work { writer, settled: 0 }) }))
}

/// The encoding of one rendition, cut into steps.
pub struct Job {
    sound: Arc<Loop>,
    encoder: Box<dyn Encoder>,
    payload: Vec<u8>,
    work: Option<Work>,
}

struct Work {
    writer: LoopWriter,
    /// Frames in a row that were the same as a lap before.
    settled: u64,
}

/// Whether a [`Job`] has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many frames are in the ring; more are to come.
    Working {
        /// Frames in the ring.
        frames: u64,
    },
    /// The loop is closed: it plays for ever at no further cost.
    Closed,
}

impl Job {
    /// Encodes up to `frames` more frames. The loop is encoded again and again by one encoder, as a listener would
    /// hear it, until the frames come out the same as a lap before: from there on the ring turns back, and the seam
    /// carries exactly the bytes that endless encoding would have made.
    ///
    /// # Errors
    ///
    /// If the encoder fails; the ring then stays open and plays what it has.
    pub fn step(&mut self, frames: usize) -> Result<Progress, EncodeError> {
        let lap = self.sound.frames() as u64;
        for _ in 0..frames {
            let Some(work) = &mut self.work else { return Ok(Progress::Closed) };
            let position = work.writer.written();
            let index = usize::try_from(position % lap).expect("below the length of the loop");
            let len = self.encoder.encode(self.sound.frame(index), &mut self.payload)?;
            let payload = &self.payload[..len];
            let earlier = position.checked_sub(lap);
            let same =
                earlier.and_then(|at| work.writer.frame(at)).is_some_and(|frame| frame.payload() == payload);
            work.settled = if same { work.settled + 1 } else { 0 };
            work.writer.push(Frame::new(payload)).expect("the ring has room for every lap");
            let written = position + 1;
            if work.settled >= SETTLED_FRAMES.min(lap) || written == MAX_LAPS * lap {
                let Some(work) = self.work.take() else { break };
                work.writer.close(written - lap);
            }
        }
        Ok(match &self.work {
            Some(work) => Progress::Working { frames: work.writer.written() },
            None => Progress::Closed,
        })
    }
}

#[cfg(test)]
mod tests {
    use holdmusic_codecs::Pcm;

    use super::*;
    use crate::ring::At;

    /// Three notes with a beat; two seconds and not a whole number of frames.
    fn clip() -> Arc<Loop> {
        let samples = (0..32_123)
            .map(|n| {
                let t = f64::from(n) / 16_000.0;
                let beat = 1.0 - 0.7 * (t * 2.0).fract();
                let notes = [261.6, 329.6, 392.0].map(|hz| (t * hz * std::f64::consts::TAU).sin());
                (notes.iter().sum::<f64>() * 0.2 * beat) as f32
            })
            .collect();
        Arc::new(Loop::new(&Pcm::new(16_000, 1, samples), 16_000, 320))
    }

    fn frame(reader: &Reader, position: u64) -> Vec<u8> {
        let mut payload = [0; 1280];
        let At::Frame(len) = reader.at(position, &mut payload) else { panic!("no frame at {position}") };
        payload[..len].to_vec()
    }

    /// Against one encoder that never stops: the ring hands out its very bytes, over four laps.
    #[test]
    fn a_ring_plays_what_endless_encoding_would_have_made() {
        let sound = clip();
        let settings = EncoderSettings::default();
        let (reader, mut job) = rendition(Arc::clone(&sound), Codec::Opus, &settings).unwrap();
        let mut steps = 0;
        while job.step(10).unwrap() != Progress::Closed {
            steps += 1;
        }
        assert!(reader.is_closed());
        let frames = sound.frames() as u64;
        assert!(steps * 10 <= 2 * frames, "settled after {steps} steps of 10 for a lap of {frames}");

        let mut endless = Codec::Opus.encoder(&settings).unwrap();
        let mut payload = [0; 1280];
        for position in 0..4 * frames {
            let index = usize::try_from(position % frames).unwrap();
            let len = endless.encode(sound.frame(index), &mut payload).unwrap();
            assert_eq!(frame(&reader, position), payload[..len], "position {position}");
        }
    }

    #[test]
    fn the_first_frames_can_be_read_while_the_rest_is_made() {
        let (reader, mut job) = rendition(clip(), Codec::Opus, &EncoderSettings::default()).unwrap();
        assert_eq!(reader.at(0, &mut [0; 1280]), At::NotYet);
        assert_eq!(job.step(3), Ok(Progress::Working { frames: 3 }));
        assert_eq!(frame(&reader, 2).len(), 80);
        assert_eq!(reader.at(3, &mut [0; 1280]), At::NotYet);
    }
}
