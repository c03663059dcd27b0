//! A finished rendition to bytes that can be kept, and back: what was encoded once need not be encoded again.
//!
//! The layout is ours, little-endian, and has a version: eight bytes of name and version, the position at which the
//! loop turns back (8), the number of frames (8), the length of the recording in seconds (8, IEEE 754), the gain in
//! decibels (8, IEEE 754), the length of the format's name (2) and the name, then for each frame its length (2) and its
//! payload. Whoever keeps the bytes sees to it that they come back whole; what does not fit is an error all the same.

use std::fmt;

use crate::{
    frame::{self, Frame},
    ring::{self, Reader},
};

/// Name and version of the layout.
const MAGIC: [u8; 8] = *b"HMRING\x00\x01";

/// Longest name of a format that is written, in characters; a longer one is cut.
const MAX_FORMAT: usize = 256;

/// A finished rendition, and what is known about it.
#[derive(Clone, Debug)]
pub struct Preserved {
    /// Its frames; the ring is closed.
    pub reader: Reader,
    /// How long the recording is, in seconds.
    pub seconds: f64,
    /// What it was, for a human.
    pub format: String,
    /// The gain that it is played with, in dB.
    pub gain_db: f64,
}

/// Why bytes are no rendition that was preserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// They are of another kind, or of another version.
    Unknown,
    /// They end too early, or go on too long.
    Length,
    /// A number in them cannot be.
    Nonsense,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "not a rendition, or one of another version",
            Self::Length => "a rendition that is cut, or has something behind it",
            Self::Nonsense => "a rendition with impossible numbers",
        })
    }
}

impl std::error::Error for RestoreError {}

impl Preserved {
    /// Memory that its frames take, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let frames = self.reader.lap().map(|(frames, _)| frames);
        frames.into_iter().flatten().map(|frame| frame::memory_bytes(frame.payload().len())).sum()
    }

    /// As bytes; `None` while the ring is open.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let (frames, back_to) = self.reader.lap()?;
        let format: String = self.format.chars().take(MAX_FORMAT).collect();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(back_to.to_le_bytes());
        bytes.extend((frames.len() as u64).to_le_bytes());
        bytes.extend(self.seconds.to_le_bytes());
        bytes.extend(self.gain_db.to_le_bytes());
        bytes.extend(length(format.as_bytes()).to_le_bytes());
        bytes.extend(format.as_bytes());
        for frame in frames {
            bytes.extend(length(frame.payload()).to_le_bytes());
            bytes.extend(frame.payload());
        }
        Some(bytes)
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] for anything that [`Preserved::to_bytes`] did not write. No more memory is taken than there are
    /// bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut rest = bytes;
        if take(&mut rest)? != MAGIC {
            return Err(RestoreError::Unknown);
        }
        let back_to = u64::from_le_bytes(take(&mut rest)?);
        let frames = u64::from_le_bytes(take(&mut rest)?);
        let seconds = f64::from_le_bytes(take(&mut rest)?);
        let gain_db = f64::from_le_bytes(take(&mut rest)?);
        let format = take_counted(&mut rest)?;
        let format = std::str::from_utf8(format).map_err(|_| RestoreError::Nonsense)?.to_owned();
        // A frame takes two bytes at least.
        let frames = usize::try_from(frames).map_err(|_| RestoreError::Nonsense)?;
        if back_to >= frames as u64 || !seconds.is_finite() || !gain_db.is_finite() {
            return Err(RestoreError::Nonsense);
        }
        if frames > rest.len() / 2 {
            return Err(RestoreError::Length);
        }
        let (mut writer, reader) = ring::closed(frames);
        for _ in 0..frames {
            let frame = Frame::new(take_counted(&mut rest)?);
            writer.push(frame).expect("the ring was made for so many");
        }
        if !rest.is_empty() {
            return Err(RestoreError::Length);
        }
        writer.close(back_to);
        Ok(Self { reader, seconds, format, gain_db })
    }
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("payloads and names of formats are short")
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RestoreError> {
    let (taken, behind) = rest.split_first_chunk().ok_or(RestoreError::Length)?;
    *rest = behind;
    Ok(*taken)
}

fn take_counted<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], RestoreError> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let (taken, behind) = rest.split_at_checked(length).ok_or(RestoreError::Length)?;
    *rest = behind;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::At;

    fn preserved(payloads: &[Vec<u8>], back_to: usize) -> Preserved {
        let (mut writer, reader) = ring::closed(payloads.len());
        for payload in payloads {
            writer.push(Frame::new(payload)).unwrap();
        }
        writer.close(back_to as u64);
        Preserved {
            reader,
            seconds: 1.25,
            format: "WAV, PCM 16-bit, 8000 Hz, 1 channel".into(),
            gain_db: -3.5,
        }
    }

    proptest! {
        #[test]
        fn what_was_preserved_plays_as_it_did(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..300),
            back in any::<prop::sample::Index>(),
        ) {
            let before = preserved(&payloads, back.index(payloads.len()));
            let after = Preserved::from_bytes(&before.to_bytes().unwrap()).unwrap();
            prop_assert_eq!((after.seconds, &after.format, after.gain_db), (1.25, &before.format, -3.5));
            for position in 0..3 * payloads.len() as u64 {
                let (mut one, mut other) = ([0; 128], [0; 128]);
                let read = (before.reader.at(position, &mut one), after.reader.at(position, &mut other));
                prop_assert_eq!(read.0, read.1);
                prop_assert_eq!(one, other);
            }
        }

        #[test]
        fn damaged_bytes_are_an_error_or_a_rendition_and_never_a_panic(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let whole = preserved(&[vec![1; 80], vec![2; 80], vec![3; 40]], 1).to_bytes().unwrap();
            let mut damaged = whole.clone();
            damaged[at.index(whole.len())] = byte;
            let _ = Preserved::from_bytes(&damaged);
            let cut = &whole[..cut.index(whole.len())];
            prop_assert!(Preserved::from_bytes(cut).is_err());
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        let whole = preserved(&[vec![1; 80], vec![2; 80]], 1).to_bytes().unwrap();
        let changed = |at: usize, with: &[u8]| {
            let mut bytes = whole.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            Preserved::from_bytes(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(changed(7, &[9]), RestoreError::Unknown);
        assert_eq!(
            changed(8, &2u64.to_le_bytes()),
            RestoreError::Nonsense,
            "turns back to what is not there"
        );
        assert_eq!(changed(16, &u64::MAX.to_le_bytes()), RestoreError::Length, "more frames than bytes");
        assert_eq!(changed(16, &0u64.to_le_bytes()), RestoreError::Nonsense, "no frames");
        assert_eq!(changed(24, &f64::NAN.to_le_bytes()), RestoreError::Nonsense);
        let longer = [&whole[..], b"x"].concat();
        assert_eq!(Preserved::from_bytes(&longer).map(|_| ()), Err(RestoreError::Length));
    }

    #[test]
    fn an_open_ring_is_not_preserved() {
        let (mut writer, reader) = ring::closed(10);
        writer.push(Frame::new(b"x")).unwrap();
        let open = Preserved { reader: reader.clone(), seconds: 1.0, format: String::new(), gain_db: 0.0 };
        assert!(open.to_bytes().is_none());
        assert_eq!(reader.at(0, &mut [0; 8]), At::Frame(1));
    }
}
