//! [`Unprotector`]: SRTP for what comes in. A packet comes in, and the same packet believed and readable goes out, once
//! (RFC 3711 section 3.3).

use std::fmt;

use smallvec::SmallVec;

use crate::{
    keys::{MasterKey, Mki, Suite},
    protect::{rtp_clear_len, ssrc_at},
    session::{Behind, ENCRYPTED, INDEX_LEN, Place, RTCP_CLEAR_LEN, Session},
};

/// Packets behind the latest one that are still believed, and so remembered: RFC 3711 section 3.3.2 asks for 64 at least.
const WINDOW: u64 = 128;

/// Sources of each kind whose packets are remembered. Only those that have the key come here, and a leg has one listener;
/// the one heard longest ago makes room for another.
const MAX_SOURCES: usize = 8;

/// The incoming half of one SRTP session: its keys, and what has been heard.
///
/// Its keys are wiped when it is dropped. What a move leaves behind is not, so it is made once, where it stays.
pub struct Unprotector {
    session: Session,
    mki: Option<Mki>,
    /// Of a source that is heard for the first time.
    rollover_counter: u32,
    rtp: Sources,
    rtcp: Sources,
}

impl Unprotector {
    /// Reads what is protected with keys derived from `master`; packets carry `mki`, if there is one. Sources begin with a
    /// roll-over counter of zero.
    pub fn new(master: &MasterKey, mki: Option<Mki>) -> Self {
        let session = Session::derive(master);
        Self { session, mki, rollover_counter: 0, rtp: Sources::default(), rtcp: Sources::default() }
    }

    /// Sources that have not been heard yet begin with this roll-over counter: a listener that comes late must be told it
    /// (RFC 3711 section 3.3.1).
    pub fn set_rollover_counter(&mut self, rollover_counter: u32) {
        self.rollover_counter = rollover_counter;
    }

    /// The suite of the session.
    pub fn suite(&self) -> Suite {
        self.session.suite
    }

    /// Reads the RTP packet `packet` in place; returns its length without what protected it, and the index of 48 bits that
    /// it was protected with.
    ///
    /// # Errors
    ///
    /// [`UnprotectError`], and neither the packet nor anything else has changed.
    pub fn unprotect(&mut self, packet: &mut [u8]) -> Result<(usize, u64), UnprotectError> {
        let suite = self.session.suite;
        let mki = self.mki.as_ref().map_or(&[][..], Mki::bytes);
        let tag_len = suite.rtp_tag_len();
        let len = packet.len().checked_sub(tag_len + mki.len()).ok_or(UnprotectError::Malformed)?;
        let clear = rtp_clear_len(&packet[..len]).ok_or(UnprotectError::Malformed)?;
        let (ssrc, sequence) = (ssrc_at(packet, 8), u16::from_be_bytes([packet[2], packet[3]]));
        let known = self.rtp.find(ssrc);
        let index = match known {
            Some(source) => source.window.estimate(sequence).ok_or(UnprotectError::Replayed)?,
            None => u64::from(self.rollover_counter) << 16 | u64::from(sequence),
        };
        if known.is_some_and(|source| !source.window.is_new(index)) {
            return Err(UnprotectError::Replayed);
        }
        let (packet, behind) = packet.split_at_mut(len);
        let (found_mki, tag) = match suite.is_aead() {
            true => (&behind[tag_len..], &behind[..tag_len]),
            false => behind.split_at(mki.len()),
        };
        let place = Place { ssrc, index };
        let rollover_counter = (index >> 16) as u32;
        if found_mki != mki
            || !self.session.rtp.open(place, packet, clear, Behind::Rollover(rollover_counter), tag)
        {
            return Err(UnprotectError::NotAuthentic);
        }
        self.rtp.heard(ssrc, index);
        Ok((len, index))
    }

    /// Reads the RTCP compound `packet` in place; returns its length without what protected it, and its index.
    ///
    /// # Errors
    ///
    /// [`UnprotectError`], and neither the packet nor anything else has changed.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<(usize, u32), UnprotectError> {
        let suite = self.session.suite;
        let mki = self.mki.as_ref().map_or(&[][..], Mki::bytes);
        let tag_len = suite.rtcp_tag_len();
        let behind = INDEX_LEN + tag_len + mki.len();
        let len = packet.len().checked_sub(behind).ok_or(UnprotectError::Malformed)?;
        if len < RTCP_CLEAR_LEN || packet[0] >> 6 != 2 {
            return Err(UnprotectError::Malformed);
        }
        let ssrc = ssrc_at(packet, 4);
        let (packet, behind) = packet.split_at_mut(len);
        let (tag, word, found_mki) = match suite.is_aead() {
            true => (&behind[..tag_len], &behind[tag_len..], &behind[tag_len + INDEX_LEN..]),
            false => {
                (&behind[INDEX_LEN + mki.len()..], &behind[..], &behind[INDEX_LEN..INDEX_LEN + mki.len()])
            }
        };
        let word = ssrc_at(word, 0);
        let index = word & !ENCRYPTED;
        if self.rtcp.find(ssrc).is_some_and(|source| !source.window.is_new(index.into())) {
            return Err(UnprotectError::Replayed);
        }
        // What is not encrypted must be authentic all the same.
        let clear = if word & ENCRYPTED == 0 { len } else { RTCP_CLEAR_LEN };
        let place = Place { ssrc, index: index.into() };
        if found_mki != mki || !self.session.rtcp.open(place, packet, clear, Behind::Index(word), tag) {
            return Err(UnprotectError::NotAuthentic);
        }
        self.rtcp.heard(ssrc, index.into());
        Ok((len, index))
    }
}

/// Without the keys.
impl fmt::Debug for Unprotector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unprotector").field("suite", &self.session.suite).finish_non_exhaustive()
    }
}

/// Why a packet is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnprotectError {
    /// It is too short, or no RTP or RTCP packet of version 2.
    Malformed,
    /// It has been heard before, or is too old for that to be known.
    Replayed,
    /// Its tag is wrong: it is not from the peer, or is protected with another key.
    NotAuthentic,
}

/// Who has been heard, the latest last.
#[derive(Debug, Default)]
struct Sources(SmallVec<[Source; 1]>);

#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    window: Window,
}

impl Sources {
    fn find(&self, ssrc: u32) -> Option<&Source> {
        self.0.iter().find(|source| source.ssrc == ssrc)
    }

    /// An authentic packet was heard.
    fn heard(&mut self, ssrc: u32, index: u64) {
        let known = self.0.iter().position(|source| source.ssrc == ssrc).map(|at| self.0.remove(at));
        let mut source = known.unwrap_or(Source { ssrc, window: Window { highest: index, seen: 0 } });
        source.window.note(index);
        if self.0.len() == MAX_SOURCES {
            self.0.remove(0);
        }
        self.0.push(source);
    }
}

/// Which of the latest packets of a source have been heard (RFC 3711 section 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    highest: u64,
    /// The lowest bit stands for the highest index, the next one for the one below.
    seen: u128,
}

impl Window {
    /// The index that a packet with this sequence number most probably has (RFC 3711 section 3.3.1, appendix A): the one
    /// nearest to the highest. `None` if there is none of 48 bits.
    fn estimate(&self, sequence: u16) -> Option<u64> {
        let highest = self.highest.cast_signed();
        let ahead = i64::from(sequence.wrapping_sub((highest & 0xffff) as u16).cast_signed());
        u64::try_from(highest + ahead).ok().filter(|index| *index < 1 << 48)
    }

    fn is_new(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    fn note(&mut self, index: u64) {
        if let Some(ahead) = index.checked_sub(self.highest) {
            self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 };
            self.highest = index;
        }
        self.seen |= 1 << (self.highest - index);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set of everything that was ever heard.
        #[test]
        fn nothing_is_believed_twice_and_nothing_new_is_refused(
            start in 0u64..1 << 20, steps in prop::collection::vec((0u64..300, any::<bool>()), 1..300),
        ) {
            let mut window = Window { highest: start, seen: 0 };
            let (mut heard, mut highest) = (std::collections::BTreeSet::new(), start);
            for (step, forward) in steps {
                let index = if forward { highest + step / 10 } else { highest.saturating_sub(step) };
                let is_new = window.is_new(index);
                let expected = !heard.contains(&index) && (index + WINDOW > highest);
                prop_assert_eq!(is_new, expected, "{} of {}", index, highest);
                if is_new {
                    window.note(index);
                    heard.insert(index);
                    highest = highest.max(index);
                }
            }
        }

        /// As the RFC's appendix A has it, with its modulo where it would be less than nothing.
        #[test]
        fn an_index_is_estimated_as_the_rfc_does(highest in 1u64 << 16..1 << 47, sequence: u16) {
            let (rollover, last) = (highest >> 16, highest & 0xffff);
            let number = u64::from(sequence);
            let rollover = if last < 32_768 {
                if number > last + 32_768 { rollover - 1 } else { rollover }
            } else if last - 32_768 > number {
                rollover + 1
            } else {
                rollover
            };
            // Exactly half way round either is right.
            prop_assume!(last.abs_diff(number) != 32_768);
            let window = Window { highest, seen: 0 };
            prop_assert_eq!(window.estimate(sequence), Some(rollover << 16 | number));
        }
    }

    #[test]
    fn there_is_no_index_before_the_first_or_after_the_last() {
        let window = Window { highest: 3, seen: 0 };
        assert_eq!(window.estimate(65_000), None);
        let window = Window { highest: (1 << 48) - 1, seen: 0 };
        assert_eq!(window.estimate(0), None);
    }
}
