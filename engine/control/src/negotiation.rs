//! An offer of media -> what a leg is made of, and the answer to the offer.

use std::net::SocketAddr;

use holdmusic_codecs::Codec;
use holdmusic_media::{
    WallTime,
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
};

/// `mediaLeg` as a customer sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaOffer {
    /// An SDP offer.
    Sdp(String),
    /// The same in plain words.
    Rtp(RtpOffer),
}

/// `mediaLeg.rtp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpOffer {
    /// Where RTP goes.
    pub address: SocketAddr,
    /// Where RTCP goes; the same port, multiplexed, if it is not said.
    pub rtcp: Option<SocketAddr>,
    /// What the payload is.
    pub codec: Codec,
    /// Its number.
    pub payload_type: PayloadType,
    /// Members of `rtpState` that stand beside the others.
    pub state: StateOffer,
}

/// `rtpState` as a customer sends it: the numbering that the next packet shall carry, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateOffer {
    /// The source identifier.
    pub ssrc: Option<Ssrc>,
    /// The next sequence number.
    pub sequence: Option<SeqNo>,
    /// The timestamp that is right at `at`.
    pub timestamp: Option<Timestamp>,
    /// The moment for which `timestamp` is right; now if it is not said.
    pub at: Option<WallTime>,
    /// SRTP's roll-over counter; read and checked, used once legs are encrypted.
    pub rollover_counter: Option<u32>,
    /// SRTCP's index; likewise.
    pub srtcp_index: Option<u32>,
}
