//! A rendition: one prompt made playable in one codec. It is a [`Reader`] for the legs and a [`Job`] for a producer, who
//! steps it until the loop is closed.

use std::sync::Arc;

use holdmusic_codecs::{Codec, EncodeError, Encoder, EncoderSettings, Loop};

use crate::{
    frame::Frame,
    ring::{self, Full, LoopWriter, Reader, Watch},
};

/// So many frames in a row must come out the same as a lap before, until the encoder is taken to have settled: one
/// second. Measured on music at constant bit rate, the first lap differs from the second in its first dozen frames
/// only, and the second from the third in none.
const SETTLED_FRAMES: u64 = 50;

/// After so many laps, and [`LONG_ENOUGH`], the loop is closed whether or not the encoder has settled. What remains then
/// is a step between two encodings of the same sound.
const MAX_LAPS: u64 = 3;

/// Short loops have more laps in which the encoder may settle: so many frames, ten seconds, a twelfth of a second of
/// work.
const LONG_ENOUGH: u64 = 500;

/// An encoder may also settle into a few laps in turn: random clips have found a square wave of which every second lap
/// is the same, for ever. Then the ring holds as many.
const MOST_LAPS_IN_TURN: usize = 4;

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
    let frames = sound.intro_frames() + sound.frames();
    let (reader, mut job) = arriving(codec, settings, frames)?;
    job.complete(sound);
    Ok((reader, job))
}

/// Starts to encode music of at most `max_frames` frames a lap that still arrives: [`Job::feed`] takes lap one as it
/// comes, and [`Job::complete`] the whole.
///
/// # Errors
///
/// If the encoder refuses the settings.
pub fn arriving(
    codec: Codec,
    settings: &EncoderSettings,
    max_frames: usize,
) -> Result<(Reader, Job), EncodeError> {
    let (writer, reader) = room(max_frames);
    Ok((reader, Job::new(writer, codec, settings)?))
}

/// An empty ring for music of at most `max_frames` frames a lap: to be read before anybody has begun to fill it. It
/// takes 24 bytes for every 256 frames that may come.
pub fn room(max_frames: usize) -> (LoopWriter, Reader) {
    // One lap more than are encoded of the loop: lap one may have arrived before there is a loop.
    let laps = usize::try_from(MAX_LAPS + 1).expect("small");
    ring::closed(max_frames.saturating_mul(laps).saturating_add(LONG_ENOUGH as usize))
}

/// Frames of the loop that are encoded at most.
fn most_frames(lap: u64) -> u64 {
    (MAX_LAPS * lap).max(LONG_ENOUGH.next_multiple_of(lap))
}

/// Bytes of memory that [`room`] takes before there are frames.
pub(crate) fn room_bytes(max_frames: usize) -> u64 {
    (max_frames as u64).saturating_mul(MAX_LAPS + 1).saturating_add(LONG_ENOUGH).div_ceil(256) * 24
}

/// The encoding of one rendition, cut into steps.
pub struct Job {
    sound: Sound,
    samples_per_frame: usize,
    encoder: Box<dyn Encoder>,
    payload: Vec<u8>,
    work: Option<Work>,
}

/// What is encoded.
enum Sound {
    /// Lap one, as far as it has come.
    Arriving(Vec<f32>),
    /// All of it.
    Whole {
        sound: Arc<Loop>,
        /// The frame at which lap one was left for the loop, mixed from both.
        joint: Option<(u64, Vec<f32>)>,
    },
}

struct Work {
    writer: LoopWriter,
    /// Frames in a row that were the same as one lap before, two laps before, and so on.
    settled: [u64; MOST_LAPS_IN_TURN],
}

/// Whether a [`Job`] has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many frames are in the ring; more can be made.
    Working {
        /// Frames in the ring.
        frames: u64,
    },
    /// So many frames are in the ring; more sound must arrive first.
    Waiting {
        /// Frames in the ring.
        frames: u64,
    },
    /// The loop is closed: it plays for ever at no further cost.
    Closed,
}

impl Job {
    /// Work that fills the ring of `writer`: see [`room`] and [`arriving`].
    ///
    /// # Errors
    ///
    /// If the encoder refuses the settings.
    pub fn new(writer: LoopWriter, codec: Codec, settings: &EncoderSettings) -> Result<Self, EncodeError> {
        let encoder = codec.encoder(settings)?;
        let payload = vec![0; encoder.max_payload_len()];
        Ok(Self {
            sound: Sound::Arriving(Vec::new()),
            samples_per_frame: codec.samples_per_frame(),
            encoder,
            payload,
            work: Some(Work { writer, settled: [0; MOST_LAPS_IN_TURN] }),
        })
    }

    /// Whether nobody is left to hear what is still encoded. A closed loop needs nobody.
    pub fn is_abandoned(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.writer.is_abandoned())
    }

    /// An eye on the ring; `None` once the loop is closed.
    pub fn watch(&self) -> Option<Watch> {
        self.work.as_ref().map(|work| work.writer.watch())
    }

    /// Whether nothing was fed yet, and the whole is not known.
    pub(crate) fn is_unfed(&self) -> bool {
        matches!(&self.sound, Sound::Arriving(arrived) if arrived.is_empty())
    }

    /// Bytes of memory that the sound takes that is not encoded yet; the frames are the ring's.
    pub fn sound_bytes(&self) -> usize {
        let samples = match &self.sound {
            Sound::Arriving(arrived) => arrived.capacity(),
            Sound::Whole { sound, .. } => sound.intro().len() + sound.samples().len(),
        };
        samples * size_of::<f32>()
    }

    /// More of lap one: mono samples at the codec's rate, at the level at which they are to be heard. Without effect
    /// once the whole is known.
    pub fn feed(&mut self, samples: &[f32]) {
        if let Sound::Arriving(arrived) = &mut self.sound {
            arrived.extend_from_slice(samples);
        }
    }

    /// The whole has arrived. The loop is in time with lap one, but for a little just before it closes; where encoding
    /// passes from one to the other one frame is mixed from both.
    pub fn complete(&mut self, sound: Arc<Loop>) {
        let Sound::Arriving(arrived) = &self.sound else { return };
        let at = self.work.as_ref().map_or(0, |work| work.writer.written());
        let index = usize::try_from(at).expect("in memory");
        let left = arrived.get(index * self.samples_per_frame..(index + 1) * self.samples_per_frame);
        let joint = left.filter(|_| at > 0).map(|left| {
            let share = |n: usize| (n as f32 + 0.5) / self.samples_per_frame as f32;
            let mix = |(n, (old, new)): (usize, (&f32, &f32))| old + (new - old) * share(n);
            (at, left.iter().zip(sound.frame(index)).enumerate().map(mix).collect())
        });
        self.sound = Sound::Whole { sound, joint };
    }

    /// Encodes up to `frames` more frames. The loop is encoded again and again by one encoder, as a listener would
    /// hear it, until the frames come out the same as a lap before: from there on the ring turns back, and the seam
    /// carries exactly the bytes that endless encoding would have made.
    ///
    /// # Errors
    ///
    /// If the encoder fails, or more sound came than the ring was made for; the ring then stays open and plays what it
    /// has.
    pub fn step(&mut self, frames: usize) -> Result<Progress, EncodeError> {
        for _ in 0..frames {
            let Some(work) = &mut self.work else { return Ok(Progress::Closed) };
            let position = work.writer.written();
            let Some(samples) = self.sound.frame(position, self.samples_per_frame) else {
                return Ok(Progress::Waiting { frames: position });
            };
            let len = self.encoder.encode(samples, &mut self.payload)?;
            let payload = &self.payload[..len];
            let (before, lap) = self.sound.lengths();
            for (laps, settled) in (1..).zip(&mut work.settled) {
                let earlier = lap.and_then(|lap| position.checked_sub(laps * lap)).filter(|at| *at >= before);
                let earlier = earlier.and_then(|at| work.writer.frame(at));
                let same = earlier.is_some_and(|frame| frame.payload() == payload);
                *settled = if same { *settled + 1 } else { 0 };
            }
            let full = |Full| EncodeError::Library("more sound came than there is room for".to_owned());
            work.writer.push(Frame::new(payload)).map_err(full)?;
            let written = position + 1;
            let Some(lap) = lap.filter(|lap| written >= before + lap) else { continue };
            let mut settled = (1..).zip(work.settled);
            let laps = settled.find(|(_, settled)| *settled >= SETTLED_FRAMES.min(lap)).map(|(laps, _)| laps);
            let given_up = (written >= before + most_frames(lap)).then_some(1);
            if let Some(laps) = laps.or(given_up)
                && let Some(work) = self.work.take()
            {
                work.writer.close(written - laps * lap);
            }
        }
        Ok(match &self.work {
            Some(work) => Progress::Working { frames: work.writer.written() },
            None => Progress::Closed,
        })
    }

    /// The whole sound, once it has arrived.
    pub fn sound(&self) -> Option<&Arc<Loop>> {
        match &self.sound {
            Sound::Whole { sound, .. } => Some(sound),
            Sound::Arriving(_) => None,
        }
    }
}

impl Sound {
    /// The samples of the frame at `position`; `None` if they have not arrived.
    fn frame(&self, position: u64, len: usize) -> Option<&[f32]> {
        let index = usize::try_from(position).ok()?;
        match self {
            // One frame is kept back, to be mixed with the loop's.
            Self::Arriving(arrived) if arrived.len() < (index + 2) * len => None,
            Self::Arriving(arrived) => arrived.get(index * len..(index + 1) * len),
            Self::Whole { joint: Some((at, mixed)), .. } if *at == position => Some(mixed),
            Self::Whole { sound, .. } => Some(sound.frame(index)),
        }
    }

    /// Frames that are heard once, and frames in a lap, if they are known. What was encoded of lap one before there was
    /// a loop is heard once, and the joint: it lies on the recording, where the loop may have been stretched or, by
    /// loop points, be somewhere else.
    fn lengths(&self) -> (u64, Option<u64>) {
        match self {
            Self::Arriving(_) => (0, None),
            Self::Whole { sound, joint } => {
                let joined = joint.as_ref().map_or(0, |(at, _)| at + 1);
                (joined.max(sound.intro_frames() as u64), Some(sound.frames() as u64))
            }
        }
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

    /// Cut anywhere, fed in pieces: the ring is the one of a sound that was there from the beginning.
    #[test]
    fn music_that_arrives_piece_by_piece_sounds_as_if_it_had_been_there() {
        let sound = clip();
        let settings = EncoderSettings::default();
        let (whole, mut job) = rendition(Arc::clone(&sound), Codec::Opus, &settings).unwrap();
        while job.step(100).unwrap() != Progress::Closed {}

        for arrived in [0, 319, 320, 5_000, 31_999] {
            let (reader, mut job) = arriving(Codec::Opus, &settings, 1000).unwrap();
            for piece in sound.samples()[..arrived].chunks(700) {
                job.feed(piece);
                assert!(matches!(job.step(1000).unwrap(), Progress::Waiting { .. }));
            }
            let encoded = (arrived as u64 / 320).saturating_sub(1);
            assert_eq!(job.step(1).unwrap(), Progress::Waiting { frames: encoded });
            job.complete(Arc::clone(&sound));
            while job.step(100).unwrap() != Progress::Closed {}
            for position in 0..3 * sound.frames() as u64 {
                assert_eq!(frame(&reader, position), frame(&whole, position), "{arrived}, {position}");
            }
        }
    }

    /// Lap one lies on the recording; the loop differs from it, by loop points above all. However little of either there
    /// is, every lap behind the joint is the loop's own.
    #[test]
    fn what_arrived_of_lap_one_is_heard_once_even_where_the_loop_is_another_sound() {
        let settings = EncoderSettings::default();
        let arrived: Vec<f32> = (0..320 * 400).map(|n| (n as f32 * 0.31).sin() * 0.3).collect();
        let short = Pcm::new(16_000, 1, clip().samples()[..17_600].to_vec());
        for sound in
            [clip(), Arc::new(Loop::new(&short, 16_000, 320)), Arc::new(clip().with_longer_intro(30))]
        {
            let (reader, mut job) = arriving(Codec::Opus, &settings, 500).unwrap();
            job.feed(&arrived);
            assert_eq!(job.step(1000).unwrap(), Progress::Waiting { frames: 399 });
            job.complete(Arc::clone(&sound));
            while job.step(100).unwrap() != Progress::Closed {}
            let lap = sound.frames() as u64;
            let mut endless = Codec::Opus.encoder(&settings).unwrap();
            let mut payload = [0; 1280];
            for position in 0..400 + 5 * lap {
                let index = usize::try_from(position).unwrap();
                let mixed: Vec<f32>;
                let samples = match index {
                    0..399 => &arrived[index * 320..][..320],
                    399 => {
                        let share = |n: usize| (n as f32 + 0.5) / 320.0;
                        let both = arrived[399 * 320..].iter().zip(sound.frame(399)).enumerate();
                        mixed = both.map(|(n, (old, new))| old + (new - old) * share(n)).collect();
                        &mixed
                    }
                    _ => sound.frame(index),
                };
                let len = endless.encode(samples, &mut payload).unwrap();
                assert_eq!(frame(&reader, position), payload[..len], "position {position}, lap {lap}");
            }
        }
    }

    /// What stands before the loop points is heard once.
    #[test]
    fn an_intro_is_heard_once_and_the_circle_for_ever() {
        let sound = Arc::new(clip().with_longer_intro(30));
        let settings = EncoderSettings::default();
        let (reader, mut job) = rendition(Arc::clone(&sound), Codec::Opus, &settings).unwrap();
        while job.step(100).unwrap() != Progress::Closed {}
        let mut endless = Codec::Opus.encoder(&settings).unwrap();
        let mut payload = [0; 1280];
        for position in 0..4 * sound.frames() as u64 {
            let len = endless.encode(sound.frame(usize::try_from(position).unwrap()), &mut payload).unwrap();
            assert_eq!(frame(&reader, position), payload[..len], "position {position}");
        }
    }

    #[test]
    fn more_sound_than_was_announced_is_an_error_and_no_panic() {
        let (_reader, mut job) = arriving(Codec::Opus, &EncoderSettings::default(), 10).unwrap();
        job.feed(&vec![0.1; 320 * 3000]);
        assert!(job.step(3000).is_err());
    }
}
