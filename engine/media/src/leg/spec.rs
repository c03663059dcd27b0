//! [`LegSpec`]: what a leg is made of, and the numbers that lead on from it.

use std::{fmt, net::SocketAddr};

use holdmusic_codecs::Codec;

use crate::{
    keys::Protection,
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
    time::{MediaTime, WallTime},
};

/// Names a leg for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);

/// What a leg is made of. Control writes it; media obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegSpec {
    /// Which sender thread (and so which local socket) carries it.
    pub sender: usize,
    /// Where RTP goes.
    pub destination: SocketAddr,
    /// Where RTCP goes; `None` if the peer wants none.
    pub rtcp: Option<SocketAddr>,
    /// What the payload is.
    pub codec: Codec,
    /// The number that the peer gave this codec.
    pub payload_type: PayloadType,
    /// The numbering that the next packet will carry.
    pub numbering: Numbering,
    /// The canonical name in SDES, the same for the life of the leg.
    pub cname: Cname,
    /// How its packets are protected.
    pub protection: Protection,
    /// The source identifier of what the peer sends, if its offer says so (`a=ssrc`, RFC 5576): by it the peer is known
    /// where latching is on.
    pub peer: Option<Ssrc>,
}

/// A canonical name (RFC 3550 section 6.5.1): 96 random bits in 24 hexadecimal digits (RFC 7022 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cname([u8; 12]);

impl Cname {
    /// The name that the lower 96 bits of `random` make.
    pub fn new(random: u128) -> Self {
        Self(*random.to_be_bytes().last_chunk().expect("16 bytes"))
    }

    /// The 96 bits.
    pub fn number(self) -> u128 {
        self.0.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    /// As text.
    pub fn text(self) -> [u8; 24] {
        std::array::from_fn(|digit| {
            let pair = self.0[digit / 2];
            let value = if digit % 2 == 0 { pair >> 4 } else { pair & 0xf };
            b"0123456789abcdef"[usize::from(value)]
        })
    }
}

impl fmt::Display for Cname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Cname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the next packet of a leg will carry (the contract's `rtpState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// The leg's source identifier, one for life.
    pub ssrc: Ssrc,
    /// The next sequence number.
    pub sequence: SeqNo,
    /// The timestamp that a packet sent at `at` would carry; it advances with time.
    pub timestamp: Timestamp,
    /// The moment for which `timestamp` is right.
    pub at: MediaTime,
    /// How often the sequence number has come round to 0 (RFC 3711 section 3.2.1).
    pub rollover_counter: u32,
    /// The index of the next SRTCP packet, in 31 bits (RFC 3711 section 3.2.1).
    pub srtcp_index: u32,
}

impl Numbering {
    /// That of a stream that begins with nothing but zeros.
    pub fn new(ssrc: Ssrc) -> Self {
        Self {
            ssrc,
            sequence: SeqNo(0),
            timestamp: Timestamp(0),
            at: MediaTime::ZERO,
            rollover_counter: 0,
            srtcp_index: 0,
        }
    }
}

/// Wall-clock form of [`Numbering`], as it leaves the house and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpState {
    /// The source identifier.
    pub ssrc: Ssrc,
    /// The next sequence number.
    pub sequence: SeqNo,
    /// The timestamp that is right at `at`.
    pub timestamp: Timestamp,
    /// The moment for which `timestamp` is right.
    pub at: WallTime,
    /// SRTP's roll-over counter, if the leg is protected.
    pub rollover_counter: Option<u32>,
    /// The index of the next SRTCP packet, likewise.
    pub srtcp_index: Option<u32>,
}
