//! An offer of media -> what a leg is made of, and the answer to the offer.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use holdmusic_codecs::Codec;
use holdmusic_media::{
    LegSpec, WallTime,
    rtp::{PayloadType, SeqNo, Ssrc, Timestamp},
};
use sdp_types::{Connection, Media, Session};

use crate::{
    graph::{Refusal, shorten},
    guard::Guard,
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

/// What an offer amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) destination: SocketAddr,
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) codec: Codec,
    pub(crate) payload_type: PayloadType,
    /// Whether the peer wants to hear anything.
    pub(crate) receives: bool,
    pub(crate) state: StateOffer,
    /// What the answer must mirror; `None` if the offer was not SDP.
    lines: Option<Vec<Line>>,
}

/// One m-line of the offer, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// What stands in the answer if the line is rejected.
    rejected: String,
    /// The identification of RFC 5888, if it has one.
    mid: Option<String>,
    /// Present in the line that is answered.
    chosen: Option<Chosen>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chosen {
    proto: String,
    rtcp_mux: bool,
}

impl MediaOffer {
    /// Negotiates, within what the guard allows.
    pub(crate) fn negotiate(&self, guard: &Guard) -> Result<Negotiated, Refusal> {
        let negotiated = match self {
            Self::Rtp(rtp) => Negotiated {
                destination: rtp.address,
                rtcp: Some(rtp.rtcp.unwrap_or(rtp.address)),
                codec: rtp.codec,
                payload_type: rtp.payload_type,
                // The old way to say "send me nothing" (RFC 3264 section 8.4).
                receives: !rtp.address.ip().is_unspecified(),
                state: rtp.state,
                lines: None,
            },
            Self::Sdp(text) => read_offer(text)?,
        };
        let Negotiated { destination, rtcp, receives, .. } = negotiated;
        if receives {
            let allowed = |address: SocketAddr| {
                guard
                    .media(address.ip())
                    .map_err(|refused| Refusal::invalid(format!("The media destination's {refused}.")))
            };
            allowed(destination)?;
            if let Some(rtcp) = rtcp {
                allowed(rtcp)?;
                if rtcp.is_ipv4() != destination.is_ipv4() {
                    return Err(Refusal::invalid(
                        "RTP and RTCP go to different address families; expected one.",
                    ));
                }
            }
        }
        Ok(negotiated)
    }
}

fn read_offer(text: &str) -> Result<Negotiated, Refusal> {
    let offer = Session::parse(text.as_bytes())
        .map_err(|reason| Refusal::invalid(format!("'mediaLeg.sdp' is no SDP: {reason}.")))?;
    let mut secure = None;
    let mut chosen = None;
    for (index, media) in offer.medias.iter().enumerate() {
        if !media.media.eq_ignore_ascii_case("audio") || media.port == 0 {
            continue;
        }
        if !matches!(media.proto.to_ascii_uppercase().as_str(), "RTP/AVP" | "RTP/AVPF") {
            secure.get_or_insert_with(|| media.proto.clone());
            continue;
        }
        if let Some((codec, payload_type)) = best_codec(media) {
            chosen = Some((index, media, codec, payload_type));
            break;
        }
    }
    let Some((index, media, codec, payload_type)) = chosen else {
        return Err(Refusal::invalid(match secure {
            Some(proto) => format!(
                "'mediaLeg.sdp' offers audio over '{}'; expected RTP/AVP (SRTP is not supported by this build).",
                shorten(&proto)
            ),
            None => "'mediaLeg.sdp' offers no audio that we send; expected an m=audio line with a port and \
                     opus/48000/2 over RTP/AVP."
                .to_owned(),
        }));
    };
    let address = connection_address(&offer, media)?;
    let destination = SocketAddr::new(address, media.port);
    let rtcp_mux = media.has_attribute("rtcp-mux");
    let direction = ["sendrecv", "recvonly", "sendonly", "inactive"];
    let wanted = direction
        .iter()
        .find(|name| media.has_attribute(name))
        .or_else(|| direction.iter().find(|name| offer.has_attribute(name)))
        .unwrap_or(&"sendrecv");
    let lines = offer.medias.iter().enumerate().map(|(at, line)| Line {
        rejected: printable(&format!("m={} 0 {} {}", line.media, line.proto, line.fmt)),
        mid: line.get_first_attribute_value("mid").flatten().map(printable),
        chosen: (at == index).then(|| Chosen { proto: printable(&line.proto), rtcp_mux }),
    });
    Ok(Negotiated {
        destination,
        rtcp: if rtcp_mux { Some(destination) } else { rtcp_address(media, destination)? },
        codec,
        payload_type,
        receives: matches!(*wanted, "sendrecv" | "recvonly") && !address.is_unspecified(),
        state: StateOffer::default(),
        lines: Some(lines.collect()),
    })
}

/// The first format, in the offer's order, that is one of our codecs.
fn best_codec(media: &Media) -> Option<(Codec, PayloadType)> {
    media.fmt.split_ascii_whitespace().find_map(|format| {
        let payload_type = PayloadType::new(format.parse().ok()?)?;
        let map = media.get_attribute_values("rtpmap").flatten().find_map(|value| {
            let (number, encoding) = value.split_once(' ')?;
            (number == format).then(|| encoding.trim())
        });
        let codec = Codec::ALL.iter().find(|codec| match map {
            Some(encoding) => {
                let mut parts = encoding.split('/');
                parts.next().is_some_and(|name| name.eq_ignore_ascii_case(codec.name()))
                    && parts.next().and_then(|rate| rate.parse().ok()) == Some(codec.clock_rate())
                    && parts.next().map_or(Some(1), |channels| channels.parse().ok())
                        == Some(codec.rtpmap_channels())
            }
            None => codec.static_payload_type() == Some(payload_type.number()),
        })?;
        Some((*codec, payload_type))
    })
}

fn connection_address(offer: &Session, media: &Media) -> Result<IpAddr, Refusal> {
    let connection: &Connection = media
        .connections
        .first()
        .or(offer.connection.as_ref())
        .ok_or_else(|| Refusal::invalid("'mediaLeg.sdp' has no c= line for its audio; expected one."))?;
    // A multicast address may carry a scope behind a slash (RFC 8866 section 5.7); the guard decides about it.
    let text = connection.connection_address.split('/').next().unwrap_or_default();
    text.parse().map_err(|_| {
        Refusal::invalid(format!(
            "'mediaLeg.sdp' has '{}' in its c= line; expected an IP address.",
            shorten(&connection.connection_address)
        ))
    })
}

/// `a=rtcp` (RFC 3605), or else the port above (RFC 3550 section 11).
fn rtcp_address(media: &Media, rtp: SocketAddr) -> Result<Option<SocketAddr>, Refusal> {
    let Some(value) = media.get_first_attribute_value("rtcp").flatten() else {
        return Ok(rtp.port().checked_add(1).map(|port| SocketAddr::new(rtp.ip(), port)));
    };
    let mut parts = value.split_ascii_whitespace();
    let port = parts.next().and_then(|port| port.parse().ok());
    let address = match parts.nth(2) {
        Some(text) => text.parse().ok(),
        None => Some(rtp.ip()),
    };
    match (port, address) {
        (Some(0), Some(_)) => Ok(None),
        (Some(port), Some(address)) => Ok(Some(SocketAddr::new(address, port))),
        _ => Err(Refusal::invalid(format!(
            "'mediaLeg.sdp' has a=rtcp:{}; expected a port, perhaps with an address.",
            shorten(value)
        ))),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

impl Negotiated {
    /// The answer to the offer, if it was SDP: our one stream in its place, everything else rejected in place
    /// (RFC 3264 section 6).
    pub(crate) fn answer(&self, local: SocketAddr, spec: &LegSpec, session: (u64, u64)) -> Option<String> {
        let lines = self.lines.as_ref()?;
        let mut sdp = String::new();
        let mut put = |line: &str| {
            sdp.push_str(line);
            sdp.push_str("\r\n");
        };
        let family = if local.is_ipv4() { "IP4" } else { "IP6" };
        put("v=0");
        put(&format!("o=- {} {} IN {family} {}", session.0, session.1, local.ip()));
        put("s=-");
        put(&format!("c=IN {family} {}", local.ip()));
        put("t=0 0");
        for line in lines {
            let Some(chosen) = &line.chosen else {
                put(&line.rejected);
                if let Some(mid) = &line.mid {
                    put(&format!("a=mid:{mid}"));
                }
                continue;
            };
            let (number, codec) = (self.payload_type.number(), self.codec);
            put(&format!("m=audio {} {} {number}", local.port(), chosen.proto));
            if let Some(mid) = &line.mid {
                put(&format!("a=mid:{mid}"));
            }
            put(&rtpmap(number, codec));
            match codec {
                // What we send is 16 kHz and mono (RFC 7587 section 6.1).
                Codec::Opus => put(&format!("a=fmtp:{number} sprop-maxcapturerate=16000;sprop-stereo=0")),
            }
            put(&format!("a=ptime:{}", holdmusic_codecs::FRAME_MS));
            put(if self.receives { "a=sendonly" } else { "a=inactive" });
            put(&if chosen.rtcp_mux { "a=rtcp-mux".to_owned() } else { format!("a=rtcp:{}", local.port()) });
            put(&format!("a=ssrc:{} cname:{}", spec.numbering.ssrc.0, spec.cname));
        }
        Some(sdp)
    }
}

fn rtpmap(number: u8, codec: Codec) -> String {
    let mut line = format!("a=rtpmap:{number} {}/{}", codec.name(), codec.clock_rate());
    if codec.rtpmap_channels() > 1 {
        let _ = write!(line, "/{}", codec.rtpmap_channels());
    }
    line
}
