//! An offer of media -> what a leg is made of, and the answer to the offer.
//!
//! Offer and answer are RFC 3264 for a side that only sends, and sends one stream. docs/sdp.md says what is answered to
//! what.

mod offer;
mod choice;
mod formats;
mod crypto;
mod dtls;
mod answer;

use std::{fmt, net::SocketAddr};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    MasterKey, WallTime,
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
};

use crate::{graph::Refusal, settings::Settings};

pub(crate) use answer::Local;
pub(crate) use crypto::Sdes;
pub(crate) use dtls::{DtlsLocal, DtlsOffer, hash_named};

/// `mediaLeg` as a customer sends it.
#[derive(Clone, PartialEq, Eq)]
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
    /// What packets are protected with, in both directions; without it not at all.
    pub srtp: Option<MasterKey>,
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
    /// SRTP's roll-over counter.
    pub rollover_counter: Option<u32>,
    /// The index of the next SRTCP packet.
    pub srtcp_index: Option<u32>,
}

/// What an offer amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) destination: SocketAddr,
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) codec: Codec,
    pub(crate) payload_type: PayloadType,
    /// Whether the peer wants to hear anything.
    pub(crate) receives: bool,
    /// How what is sent is protected.
    pub(crate) secured: Secured,
    pub(crate) state: StateOffer,
    /// What the peer sends is called so, if it says so.
    pub(crate) peer: Option<Ssrc>,
    /// What the answer must mirror; `None` if the offer was not SDP.
    mirror: Option<answer::Mirror>,
}

/// How what is sent to a peer is protected, and what the peer's side of that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secured {
    /// Not at all.
    Plain,
    /// With this key, in both directions.
    Given(Box<MasterKey>),
    /// With keys that are in the offer and in the answer.
    Sdes(Box<Sdes>),
    /// With keys that a handshake will bring.
    Dtls(Box<DtlsOffer>),
}

impl MediaOffer {
    /// Negotiates, by the settings.
    ///
    /// # Errors
    ///
    /// 400 8523, with what was found and what was expected.
    pub(crate) fn negotiate(&self, settings: &Settings) -> Result<Negotiated, Refusal> {
        match self {
            Self::Sdp(text) => {
                let offer = offer::Offer::read(text)?;
                let choice = choice::choose(&offer, settings)?;
                let mirror = Some(answer::Mirror::of(&offer, choice.index, choice.rtcp_mux));
                Ok(Negotiated {
                    destination: choice.destination,
                    rtcp: choice.rtcp,
                    codec: choice.format.codec,
                    payload_type: choice.format.payload_type,
                    receives: choice.receives,
                    secured: choice.secured,
                    state: StateOffer::default(),
                    peer: choice.peer,
                    mirror,
                })
            }
            Self::Rtp(rtp) => rtp.negotiate(settings),
        }
    }
}

/// An SDP may have keys in it.
impl fmt::Debug for MediaOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sdp(text) => write!(f, "Sdp({} bytes)", text.len()),
            Self::Rtp(rtp) => f.debug_tuple("Rtp").field(rtp).finish(),
        }
    }
}

impl RtpOffer {
    fn negotiate(&self, settings: &Settings) -> Result<Negotiated, Refusal> {
        let (destination, rtcp) = (self.address, self.rtcp.unwrap_or(self.address));
        // The first in use of those that are the same on the wire.
        let codec = settings.codecs.iter().copied().find(|codec| codec.on_the_wire() == self.codec);
        let codec = codec.ok_or_else(|| {
            Refusal::invalid(format!(
                "'codec' is '{}', which this server does not use; expected one of those that its operator has chosen \
                 (--codecs).",
                self.codec
            ))
        })?;
        // The old way to say "send me nothing" (RFC 3264 section 8.4).
        let receives = !destination.ip().is_unspecified();
        if receives {
            for address in [destination, rtcp] {
                let allowed = settings.guard.media(address.ip());
                allowed.map_err(|refused| Refusal::invalid(format!("The media destination's {refused}.")))?;
            }
            if rtcp.is_ipv4() != destination.is_ipv4() {
                return Err(Refusal::invalid("RTP and RTCP go to different address families; expected one."));
            }
        }
        Ok(Negotiated {
            destination,
            rtcp: Some(rtcp),
            codec,
            payload_type: self.payload_type,
            receives,
            secured: self.srtp.clone().map_or(Secured::Plain, |key| Secured::Given(Box::new(key))),
            state: self.state,
            peer: None,
            mirror: None,
        })
    }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
