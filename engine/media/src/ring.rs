//! [`Reader`] and its two writers: frames in order, one writer, any number of readers that never wait.
//!
//! A prompt's ring is the closed loop of music itself: every slot is written once, then read for ever. An endless
//! source's ring is a window that slides: slots are overwritten, and a slow reader is told so. A reader is shared
//! by any number of legs; the position is a number that each leg holds for itself. This is the only file, metrics
//! aside, in which two threads look at the same memory.

use std::sync::{Arc, OnceLock, Weak};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::frame::Frame;

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A frame; so many bytes of it were copied out.
    Frame(usize),
    /// The writer has not come so far.
    NotYet,
    /// The window has slid past it; [`Reader::rejoin`] says where to go on.
    Gone,
}

/// Reads frames by position, from any thread, without waiting. Clones read the same ring.
#[derive(Clone, Debug)]
pub struct Reader(Shared);

#[derive(Clone, Debug)]
enum Shared {
    Closed(Arc<Closed>),
    Sliding(Arc<Window>),
}

impl Reader {
    /// Copies the frame at `position` (frames since the beginning, laps included) into `payload`. A frame longer
    /// than `payload` is cut; rings are made with the codec's longest payload in mind.
    pub fn at(&self, position: u64, payload: &mut [u8]) -> At {
        match &self.0 {
            Shared::Closed(ring) => match ring.frame(position) {
                Some(frame) => {
                    let len = frame.payload().len().min(payload.len());
                    payload[..len].copy_from_slice(&frame.payload()[..len]);
                    At::Frame(len)
                }
                None => At::NotYet,
            },
            Shared::Sliding(window) => window.read(position, payload),
        }
    }

    /// All frames of a closed loop, in order, and the position at which the music goes on after the last one; `None` for
    /// a loop that is still open, and for a window.
    pub fn lap(&self) -> Option<(impl ExactSizeIterator<Item = &Frame>, u64)> {
        let Shared::Closed(ring) = &self.0 else { return None };
        let turn = ring.turn.get()?;
        let frame = |position| ring.frame(position).expect("all frames before the turn are written");
        let end = usize::try_from(turn.end).expect("in memory");
        Some(((0..end).map(move |position| frame(position as u64)), turn.back_to))
    }

    /// Where a reader goes on that was told [`At::Gone`]: in the middle of what the window holds, as far from being
    /// overtaken again as from waiting for the writer. The beginning, for a ring that forgets nothing.
    pub fn rejoin(&self) -> u64 {
        match &self.0 {
            Shared::Closed(_) => 0,
            Shared::Sliding(window) => {
                let held = window.slots.len() as u64;
                window.head.load(Ordering::Acquire).saturating_sub(held.div_ceil(2))
            }
        }
    }

    /// Whether every position from 0 on can be read, for ever.
    pub fn is_closed(&self) -> bool {
        matches!(&self.0, Shared::Closed(ring) if ring.turn.get().is_some())
    }
}

/// Frames in one segment of a closed ring: 5.12 s of sound. A ring grows by whole segments, so nothing that was
/// written ever moves.
const SEGMENT: usize = 256;

/// Slots of a closed ring, each filled once.
type Segment = Box<[OnceLock<Frame>]>;

/// A ring written once.
#[derive(Debug)]
struct Closed {
    segments: Box<[OnceLock<Segment>]>,
    turn: OnceLock<Turn>,
}

/// Where the ring turns back.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Position after the last frame written.
    end: u64,
    /// Position that follows it in music.
    back_to: u64,
}

impl Closed {
    fn frame(&self, position: u64) -> Option<&Frame> {
        let index = match self.turn.get() {
            Some(turn) if position >= turn.end => {
                turn.back_to + (position - turn.end) % (turn.end - turn.back_to)
            }
            _ => position,
        };
        let index = usize::try_from(index).ok()?;
        self.segments.get(index / SEGMENT)?.get()?[index % SEGMENT].get()
    }
}

/// Writes a closed ring, frame after frame.
#[derive(Debug)]
pub struct LoopWriter {
    ring: Arc<Closed>,
    written: u64,
}

/// A ring that has no room for one more frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Makes a ring for a prompt of at most `max_frames`. It takes 24 bytes for every 256 of them at once and the rest
/// as frames come.
pub fn closed(max_frames: usize) -> (LoopWriter, Reader) {
    let segments = (0..max_frames.div_ceil(SEGMENT)).map(|_| OnceLock::new()).collect();
    let ring = Arc::new(Closed { segments, turn: OnceLock::new() });
    (LoopWriter { ring: Arc::clone(&ring), written: 0 }, Reader(Shared::Closed(ring)))
}

impl LoopWriter {
    /// Appends a frame; readers see it at once.
    ///
    /// # Errors
    ///
    /// [`Full`] if the ring was made for fewer frames; nothing has changed then.
    pub fn push(&mut self, frame: Frame) -> Result<(), Full> {
        let index = usize::try_from(self.written).map_err(|_| Full)?;
        let segment = self.ring.segments.get(index / SEGMENT).ok_or(Full)?;
        let slots = segment.get_or_init(|| (0..SEGMENT).map(|_| OnceLock::new()).collect());
        slots[index % SEGMENT].set(frame).expect("only this writer fills slots, each one once");
        self.written += 1;
        Ok(())
    }

    /// How many frames were pushed.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The frame at a position that was pushed.
    pub fn frame(&self, position: u64) -> Option<&Frame> {
        self.ring.frame(position)
    }

    /// Whether no reader is left, and so none will ever be: a reader comes from another one only. Nobody will hear what
    /// is still written.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.ring) == 1
    }

    /// An eye on the ring, for who works for its writer elsewhere. It keeps nothing in memory.
    pub fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.ring))
    }

    /// Closes the loop: after the last frame the music goes on at position `back_to`.
    ///
    /// # Panics
    ///
    /// If `back_to` was not written: the loop would be empty.
    pub fn close(self, back_to: u64) {
        assert!(back_to < self.written, "a loop needs a frame");
        let turn = Turn { end: self.written, back_to };
        self.ring.turn.set(turn).expect("close takes the only writer");
    }
}

/// Sees whether anybody is left to read a closed ring, and whether there still is one.
#[derive(Clone, Debug)]
pub struct Watch(Weak<Closed>);

impl Watch {
    /// Whether no reader is left, or the ring is gone. While there is a writer, see [`LoopWriter::is_abandoned`].
    pub fn is_abandoned(&self) -> bool {
        self.0.strong_count() <= 1
    }

    /// Whether the ring's memory has been given back.
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The last frames of an endless source.
///
/// Every slot is a sequence lock made of atomic words, so there is no data race by construction and no `unsafe`:
/// a reader copies the words out and believes them only if the stamp was the same before and after.
#[derive(Debug)]
struct Window {
    /// Frames written so far.
    head: AtomicU64,
    slots: Box<[Slot]>,
}

#[derive(Debug)]
struct Slot {
    /// 2·(position + 1) when the frame at `position` stands here, one less while it is being written, 0 before.
    stamp: AtomicU64,
    /// Payload length in bytes, then the payload, eight bytes a word.
    words: Box<[AtomicU64]>,
}

/// Writes a sliding window.
#[derive(Debug)]
pub struct WindowWriter {
    window: Arc<Window>,
    written: u64,
}

/// Makes a window of the last `slots` frames of at most `max_payload` bytes each.
///
/// # Panics
///
/// If `slots` is 0.
pub fn sliding(slots: usize, max_payload: usize) -> (WindowWriter, Reader) {
    assert!(slots > 0, "a window needs a slot");
    let words = 1 + max_payload.div_ceil(8);
    let slot = || Slot { stamp: AtomicU64::new(0), words: (0..words).map(|_| AtomicU64::new(0)).collect() };
    let window = Arc::new(Window { head: AtomicU64::new(0), slots: (0..slots).map(|_| slot()).collect() });
    (WindowWriter { window: Arc::clone(&window), written: 0 }, Reader(Shared::Sliding(window)))
}

impl WindowWriter {
    /// Writes the next frame over the oldest one.
    ///
    /// # Panics
    ///
    /// If the payload is longer than the window was made for: the codec's longest payload is known beforehand.
    pub fn push(&mut self, payload: &[u8]) {
        let position = self.written;
        let slot = self.window.slot(position);
        assert!(payload.len().div_ceil(8) < slot.words.len(), "the window was made for shorter payloads");
        let stamp = 2 * (position + 1);
        slot.stamp.store(stamp - 1, Ordering::Relaxed);
        // A reader that sees one of the new words must see the odd stamp when it looks again.
        fence(Ordering::Release);
        slot.words[0].store(payload.len() as u64, Ordering::Relaxed);
        for (word, bytes) in slot.words[1..].iter().zip(payload.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        slot.stamp.store(stamp, Ordering::Release);
        self.written += 1;
        self.window.head.store(self.written, Ordering::Release);
    }
}

impl Window {
    fn slot(&self, position: u64) -> &Slot {
        let index = position % self.slots.len() as u64;
        &self.slots[usize::try_from(index).expect("below the number of slots")]
    }

    fn read(&self, position: u64, payload: &mut [u8]) -> At {
        let head = self.head.load(Ordering::Acquire);
        if position >= head {
            return At::NotYet;
        }
        let slot = self.slot(position);
        let stamp = 2 * (position + 1);
        if slot.stamp.load(Ordering::Acquire) != stamp {
            return At::Gone;
        }
        let room = 8 * (slot.words.len() - 1);
        let len = usize::try_from(slot.words[0].load(Ordering::Relaxed)).unwrap_or(room);
        // A length torn from another frame must not lead out of the slot; the stamp tells below.
        let len = len.min(room).min(payload.len());
        for (word, bytes) in slot.words[1..].iter().zip(payload[..len].chunks_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes()[..bytes.len()]);
        }
        // Pairs with the writer's fence: had a word been overwritten, the stamp is no longer the same.
        fence(Ordering::Acquire);
        if slot.stamp.load(Ordering::Relaxed) == stamp { At::Frame(len) } else { At::Gone }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// Every interleaving of a writer that laps a reader twice over two slots.
    #[test]
    fn a_reader_of_a_window_gets_a_whole_frame_or_is_told() {
        loom::model(|| {
            let (mut writer, reader) = sliding(2, 8);
            let listener = loom::thread::spawn(move || {
                for position in 0..2 {
                    let mut payload = [0; 8];
                    if let At::Frame(len) = reader.at(position, &mut payload) {
                        assert_eq!(len, 8);
                        assert_eq!(payload, [u8::try_from(position).unwrap() + 1; 8]);
                    }
                }
            });
            for frame in 1..=3u8 {
                writer.push(&[frame; 8]);
            }
            listener.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// A payload that tells its position and cannot be mixed up with parts of another.
    fn payload_of(position: u64, len: usize) -> Vec<u8> {
        let mut word = position.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..len)
            .map(|_| {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                word.to_le_bytes()[3]
            })
            .collect()
    }

    fn read(reader: &Reader, position: u64) -> Result<Vec<u8>, At> {
        let mut payload = [0; 2048];
        match reader.at(position, &mut payload) {
            At::Frame(len) => Ok(payload[..len].to_vec()),
            other => Err(other),
        }
    }

    proptest! {
        /// The model is the music unrolled by hand.
        #[test]
        fn a_closed_ring_is_its_music_unrolled(
            lens in prop::collection::vec(0usize..200, 1..600), back in any::<prop::sample::Index>(),
        ) {
            let (mut writer, reader) = closed(600);
            let frames: Vec<_> =
                lens.iter().enumerate().map(|(i, len)| payload_of(i as u64, *len)).collect();
            for (position, frame) in frames.iter().enumerate() {
                prop_assert_eq!(read(&reader, position as u64), Err(At::NotYet));
                writer.push(Frame::new(frame)).unwrap();
                prop_assert_eq!(&read(&reader, position as u64).unwrap(), frame);
            }
            let back_to = back.index(frames.len());
            prop_assert!(!reader.is_closed());
            writer.close(back_to as u64);
            prop_assert!(reader.is_closed());
            let unrolled = frames.iter().chain(frames[back_to..].iter().cycle());
            for (position, frame) in unrolled.take(2000).enumerate() {
                prop_assert_eq!(&read(&reader, position as u64).unwrap(), frame);
            }
        }

        #[test]
        fn a_window_shows_its_last_frames_and_no_others(slots in 1usize..20, pushed in 0u64..60) {
            let (mut writer, reader) = sliding(slots, 100);
            for position in 0..pushed {
                writer.push(&payload_of(position, position as usize % 100));
            }
            for position in 0..pushed + 5 {
                let expected = if position >= pushed {
                    Err(At::NotYet)
                } else if position + (slots as u64) < pushed {
                    Err(At::Gone)
                } else {
                    Ok(payload_of(position, position as usize % 100))
                };
                prop_assert_eq!(read(&reader, position), expected);
            }
            if pushed > 0 {
                prop_assert!(read(&reader, reader.rejoin()).is_ok());
            }
        }
    }

    #[test]
    fn a_full_ring_refuses_one_more_frame_and_stays_as_it_was() {
        let (mut writer, reader) = closed(SEGMENT);
        for _ in 0..SEGMENT {
            writer.push(Frame::new(b"x")).unwrap();
        }
        assert_eq!(writer.push(Frame::new(b"y")), Err(Full));
        writer.close(0);
        assert_eq!(read(&reader, SEGMENT as u64).unwrap(), b"x");
    }

    #[test]
    fn a_writer_sees_when_its_last_reader_is_gone() {
        let (writer, reader) = closed(10);
        let (watch, another) = (writer.watch(), reader.clone());
        drop(reader);
        assert!(!writer.is_abandoned() && !watch.is_abandoned());
        drop(another);
        assert!(writer.is_abandoned() && watch.is_abandoned() && !watch.is_gone());
        drop(writer);
        assert!(watch.is_gone());
    }

    /// How much work the stress tests do; Miri interprets, so it gets less.
    const STRESS: u64 = if cfg!(miri) { 300 } else { 200_000 };

    #[test]
    fn many_readers_of_a_growing_loop_see_every_frame_once_it_is_there() {
        let frames = STRESS.min(20_000);
        let (mut writer, reader) = closed(usize::try_from(frames).unwrap());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut position = 0;
                    while position < 2 * frames {
                        match read(&reader, position) {
                            Ok(payload) => {
                                let index = position % frames;
                                assert_eq!(payload, payload_of(index, 80));
                                position += 1;
                            }
                            Err(at) => {
                                assert_eq!(at, At::NotYet);
                                thread::yield_now();
                            }
                        }
                    }
                });
            }
            for position in 0..frames {
                writer.push(Frame::new(&payload_of(position, 80))).unwrap();
            }
            writer.close(0);
        });
    }

    #[test]
    fn many_readers_of_a_window_never_see_a_torn_frame() {
        let (mut writer, reader) = sliding(8, 80);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut position = 0;
                    let mut heard = 0u64;
                    while position < STRESS {
                        match read(&reader, position) {
                            Ok(payload) => {
                                assert_eq!(payload, payload_of(position, 80));
                                heard += 1;
                                position += 1;
                            }
                            // Too slow: go on closer to the head, as a leg would.
                            Err(At::Gone) => position += 4,
                            Err(_) => thread::yield_now(),
                        }
                    }
                    heard
                });
            }
            for position in 0..STRESS {
                writer.push(&payload_of(position, 80));
                if position % 4 == 0 {
                    thread::yield_now();
                }
            }
        });
    }
}
