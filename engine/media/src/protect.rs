//! [`Protector`]: SRTP for what one leg sends. A packet comes in, the same packet encrypted and authenticated goes out
//! (RFC 3711, RFC 7714).
//!
//! It counts nothing: which index a packet has is an argument, since only the leg knows what has left.

use std::fmt;

use crate::{
    keys::{MAX_MKI_LEN, MasterKey, Mki, Suite},
    rtp::HEADER_LEN,
    session::{Behind, ENCRYPTED, INDEX_LEN, Place, RTCP_CLEAR_LEN, Session},
};

/// The most bytes that a packet grows by: SRTCP's index, its longest tag, and the longest MKI.
pub const MAX_GROWTH: usize = INDEX_LEN + 16 + MAX_MKI_LEN;

/// The longest datagram. A keystream has room for sixteen times as much before it would run into the packet index.
const MAX_DATAGRAM_LEN: usize = 65_535;

/// The last index of an SRTCP packet: 31 bits (RFC 3711 section 3.4). One key protects no more packets than there are
/// indices (section 9.2), of RTP as of RTCP.
pub const LAST_SRTCP_INDEX: u32 = u32::MAX >> 1;

/// The outgoing half of one SRTP session.
///
/// Its keys are wiped when it is dropped. What a move leaves behind is not, so it is made once, where it stays.
pub struct Protector {
    session: Session,
    mki: Option<Mki>,
}

impl Protector {
    /// Protects with what is derived from `master`; packets carry `mki`, if there is one.
    pub fn new(master: &MasterKey, mki: Option<Mki>) -> Self {
        Self { session: Session::derive(master), mki }
    }

    /// The suite of the session.
    pub fn suite(&self) -> Suite {
        self.session.suite
    }

    /// Protects the RTP packet in the first `len` bytes of `room` in place; returns its new length.
    ///
    /// `rollover_counter` counts how often the sequence number has come round to 0. Two packets that are both sent must
    /// never share it with the sequence number: they would share a keystream (RFC 3711 section 9.1), and with GCM give
    /// away the key of the tags. The same again for a packet that was prepared and never left is no harm.
    ///
    /// # Errors
    ///
    /// [`ProtectError`], and the packet has not changed.
    pub fn protect(&self, room: &mut [u8], len: usize, rollover_counter: u32) -> Result<usize, ProtectError> {
        let suite = self.session.suite;
        let mki = self.mki();
        let grown = grown(room, len, suite.rtp_tag_len() + mki.len())?;
        let clear = rtp_clear_len(&room[..len]).ok_or(ProtectError::Malformed)?;
        let sequence = u16::from_be_bytes([room[2], room[3]]);
        let index = u64::from(rollover_counter) << 16 | u64::from(sequence);
        let place = Place { ssrc: ssrc_at(room, 8), index };
        let tag = self.session.rtp.seal(place, &mut room[..len], clear, Behind::Rollover(rollover_counter));
        let tag = &tag[..suite.rtp_tag_len()];
        // The tag of GCM belongs to what is encrypted, so there the MKI is last (RFC 7714 section 8).
        let (first, second) = if suite.is_aead() { (tag, mki) } else { (mki, tag) };
        room[len..len + first.len()].copy_from_slice(first);
        room[len + first.len()..grown].copy_from_slice(second);
        Ok(grown)
    }

    /// Protects the RTCP compound in the first `len` bytes of `room` in place; returns its new length. No two compounds
    /// that are both sent may have the same `index`; one that is never sent is a gap, which receivers allow.
    ///
    /// # Errors
    ///
    /// [`ProtectError`], and the packet has not changed.
    pub fn protect_rtcp(&self, room: &mut [u8], len: usize, index: u32) -> Result<usize, ProtectError> {
        let suite = self.session.suite;
        let mki = self.mki();
        let grown = grown(room, len, INDEX_LEN + suite.rtcp_tag_len() + mki.len())?;
        if len < RTCP_CLEAR_LEN || room[0] >> 6 != 2 {
            return Err(ProtectError::Malformed);
        }
        if index > LAST_SRTCP_INDEX {
            return Err(ProtectError::Spent);
        }
        let place = Place { ssrc: ssrc_at(room, 4), index: index.into() };
        let word = ENCRYPTED | index;
        let tag = self.session.rtcp.seal(place, &mut room[..len], RTCP_CLEAR_LEN, Behind::Index(word));
        let (tag, word) = (&tag[..suite.rtcp_tag_len()], &word.to_be_bytes()[..]);
        let parts = if suite.is_aead() { [tag, word, mki] } else { [word, mki, tag] };
        let mut at = len;
        for part in parts {
            room[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(grown)
    }

    fn mki(&self) -> &[u8] {
        self.mki.as_ref().map_or(&[], Mki::bytes)
    }
}

/// Without the keys.
impl fmt::Debug for Protector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protector").field("suite", &self.session.suite).finish_non_exhaustive()
    }
}

/// Why a packet cannot be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtectError {
    /// The packet would grow past the end of its buffer.
    NoRoom {
        /// Bytes that it would have.
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
    /// It is not an RTP or RTCP packet of version 2, or it is longer than a datagram.
    Malformed,
    /// As many packets as one key may protect have been (RFC 3711 section 9.2); only another key helps.
    Spent,
}

/// What a packet of `len` bytes in `room` grows to.
fn grown(room: &[u8], len: usize, by: usize) -> Result<usize, ProtectError> {
    if len > MAX_DATAGRAM_LEN {
        return Err(ProtectError::Malformed);
    }
    let (expected, found) = (len + by, room.len());
    if expected > found { Err(ProtectError::NoRoom { expected, found }) } else { Ok(expected) }
}

/// Header, contributing sources and extension: what stays readable (RFC 3711 section 3.1).
pub(crate) fn rtp_clear_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut len = HEADER_LEN + usize::from(first & 0x0f) * 4;
    if first & 0x10 != 0 {
        let words = packet.get(len + 2..len + 4)?;
        len += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    (first >> 6 == 2 && len <= packet.len()).then_some(len)
}

pub(crate) fn ssrc_at(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

#[cfg(test)]
mod tests;
