//! A leg: one participant's outgoing media path.

use std::net::SocketAddr;

use holdmusic_codecs::Codec;

use crate::{
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
    /// The canonical name in SDES (RFC 3550 section 6.5.1), the same for the life of the leg.
    pub cname: String,
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
}

/// What was sent during one hold, and how well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldReport {
    /// RTP packets handed to the network.
    pub packets: u64,
    /// Bytes of payload in them, without headers.
    pub payload_bytes: u64,
    /// When the first packet left; `None` if none did.
    pub first_sent: Option<MediaTime>,
    /// When the last packet left.
    pub last_sent: Option<MediaTime>,
    /// Packets that left late by more than 5 ms but still went out.
    pub late_ticks: u64,
    /// Ticks whose packet was left out because its time had passed.
    pub skipped_ticks: u64,
    /// The longest time between two packets that left one after the other, in nanoseconds.
    pub longest_gap_ns: u64,
    /// Ticks for which the source had no frame yet.
    pub starved_ticks: u64,
    /// Packets that the network refused.
    pub send_errors: u64,
    /// Packets that carried the default music.
    pub default_music_packets: u64,
    /// What the receiver reported, if it did.
    pub quality: Option<Quality>,
}

/// What receiver reports (RFC 3550 section 6.4.2) said about a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Share of packets lost since the report before, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the receiver began to listen; negative when duplicates came.
    pub cumulative_lost: i32,
    /// Interarrival jitter in nanoseconds.
    pub jitter_ns: u64,
    /// Round trip in nanoseconds, once the receiver has echoed a sender report.
    pub round_trip_ns: Option<u64>,
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
}
