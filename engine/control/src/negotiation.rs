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
    /// What the peer sends is called so, if it says so.
    pub(crate) peer: Option<Ssrc>,
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
                peer: None,
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
    let offer = Session::parse(text.as_bytes()).map_err(|reason| {
        Refusal::invalid(format!(
            "'mediaLeg.sdp' is no SDP: {}; expected an offer (RFC 8866).",
            shorten(&reason.to_string())
        ))
    })?;
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
        peer: peer_ssrc(media),
        lines: Some(lines.collect()),
    })
}

/// The first source that the peer announces (RFC 5576 section 4.1).
fn peer_ssrc(media: &Media) -> Option<Ssrc> {
    let value = media.get_first_attribute_value("ssrc").flatten()?;
    value.split_ascii_whitespace().next()?.parse().ok().map(Ssrc)
}

/// The first format, in the offer's order, that is one of our codecs.
fn best_codec(media: &Media) -> Option<(Codec, PayloadType)> {
    media.fmt.split_ascii_whitespace().find_map(|format| {
        let payload_type = PayloadType::new(format.parse().ok()?)?;
        let map = media.get_attribute_values("rtpmap").flatten().find_map(|value| {
            let (number, encoding) = value.split_once(' ')?;
            (number == format).then(|| encoding.trim())
        });
        let codec = [Codec::Opus].iter().find(|codec| match map {
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
    pub(crate) fn answer(&self, local: SocketAddr, spec: &LegSpec, session: (u64, u64)) -> Option<Box<str>> {
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
                Codec::Opus | Codec::OpusLow => {
                    put(&format!("a=fmtp:{number} sprop-maxcapturerate=16000;sprop-stereo=0"));
                }
                Codec::OpusFullband => {
                    put(&format!("a=fmtp:{number} sprop-maxcapturerate=48000;sprop-stereo=0"));
                }
                Codec::G722 | Codec::L16 | Codec::Pcma | Codec::Pcmu => {}
            }
            put(&format!("a=ptime:{}", holdmusic_codecs::FRAME_MS));
            put(if self.receives { "a=sendonly" } else { "a=inactive" });
            put(&if chosen.rtcp_mux { "a=rtcp-mux".to_owned() } else { format!("a=rtcp:{}", local.port()) });
            put(&format!("a=ssrc:{} cname:{}", spec.numbering.ssrc.0, spec.cname));
        }
        Some(sdp.into())
    }
}

fn rtpmap(number: u8, codec: Codec) -> String {
    let mut line = format!("a=rtpmap:{number} {}/{}", codec.name(), codec.clock_rate());
    if codec.rtpmap_channels() > 1 {
        let _ = write!(line, "/{}", codec.rtpmap_channels());
    }
    line
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use holdmusic_media::{Cname, MediaTime, Numbering, Protection};
    use proptest::prelude::*;

    use super::*;

    const OFFER: &str = "v=0\r\n\
        o=alice 2890844526 2890844526 IN IP4 192.168.1.10\r\n\
        s=-\r\n\
        c=IN IP4 192.168.1.10\r\n\
        t=0 0\r\n\
        m=audio 49170 RTP/AVP 0 96 101\r\n\
        a=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:96 opus/48000/2\r\n\
        a=rtpmap:101 telephone-event/8000\r\n\
        a=sendrecv\r\n";

    fn negotiate(sdp: &str) -> Result<Negotiated, Refusal> {
        MediaOffer::Sdp(sdp.to_owned()).negotiate(&Guard::default())
    }

    fn answer(sdp: &str) -> Box<str> {
        let negotiated = negotiate(sdp).unwrap();
        let spec = LegSpec {
            sender: 0,
            destination: negotiated.destination,
            rtcp: negotiated.rtcp,
            codec: negotiated.codec,
            payload_type: negotiated.payload_type,
            numbering: Numbering {
                ssrc: Ssrc(7),
                sequence: SeqNo(0),
                timestamp: Timestamp(0),
                at: MediaTime::ZERO,
            },
            cname: Cname::new(0xc0ffee),
            protection: Protection::Plain,
            peer: None,
        };
        negotiated.answer("192.168.1.1:20000".parse().unwrap(), &spec, (5, 1)).unwrap()
    }

    fn check(sdp: &str, expected: &Expect) {
        let answer = answer(sdp);
        assert!(answer.lines().all(|line| !line.is_empty()) && answer.ends_with("\r\n"));
        Session::parse(answer.as_bytes()).expect("what we answer can be read");
        expected.assert_eq(&answer.replace("\r\n", "\n"));
    }

    #[test]
    fn an_offer_is_answered_with_one_stream_of_music() {
        check(
            OFFER,
            &expect![[r#"
            v=0
            o=- 5 1 IN IP4 192.168.1.1
            s=-
            c=IN IP4 192.168.1.1
            t=0 0
            m=audio 20000 RTP/AVP 96
            a=rtpmap:96 opus/48000/2
            a=fmtp:96 sprop-maxcapturerate=16000;sprop-stereo=0
            a=ptime:20
            a=sendonly
            a=rtcp:20000
            a=ssrc:7 cname:000000000000000000c0ffee
        "#]],
        );
        let negotiated = negotiate(OFFER).unwrap();
        assert_eq!(negotiated.destination, "192.168.1.10:49170".parse().unwrap());
        assert_eq!(negotiated.rtcp, Some("192.168.1.10:49171".parse().unwrap()));
        assert_eq!(negotiated.payload_type.number(), 96);
        assert!(negotiated.receives);
    }

    #[test]
    fn other_lines_are_rejected_in_their_places() {
        let sdp = format!(
            "{}m=video 5000 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\na=mid:v\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
            OFFER.replace("a=sendrecv", "a=recvonly\r\na=mid:a\r\na=rtcp-mux")
        );
        check(
            &sdp,
            &expect![[r#"
            v=0
            o=- 5 1 IN IP4 192.168.1.1
            s=-
            c=IN IP4 192.168.1.1
            t=0 0
            m=audio 20000 RTP/AVP 96
            a=mid:a
            a=rtpmap:96 opus/48000/2
            a=fmtp:96 sprop-maxcapturerate=16000;sprop-stereo=0
            a=ptime:20
            a=sendonly
            a=rtcp-mux
            a=ssrc:7 cname:000000000000000000c0ffee
            m=video 0 RTP/AVP 97
            a=mid:v
            m=application 0 UDP/DTLS/SCTP webrtc-datachannel
        "#]],
        );
        assert_eq!(negotiate(&sdp).unwrap().rtcp, Some("192.168.1.10:49170".parse().unwrap()));
    }

    #[test]
    fn rtcp_goes_where_the_offer_says() {
        let at = |line: &str| negotiate(&OFFER.replace("a=sendrecv", line)).map(|negotiated| negotiated.rtcp);
        assert_eq!(at("a=rtcp:53020"), Ok(Some("192.168.1.10:53020".parse().unwrap())));
        assert_eq!(at("a=rtcp:53020 IN IP4 192.168.1.11"), Ok(Some("192.168.1.11:53020".parse().unwrap())));
        assert!(at("a=rtcp:x").unwrap_err().message.contains("a=rtcp:x"));
        assert!(at("a=rtcp:53020 IN IP4 8.8.8.8").unwrap_err().message.contains("--allow-media"));
    }

    #[test]
    fn who_wants_to_hear_nothing_gets_a_leg_that_is_inactive() {
        for quiet in ["a=sendonly", "a=inactive"] {
            let sdp = OFFER.replace("a=sendrecv", quiet);
            assert!(!negotiate(&sdp).unwrap().receives);
            assert!(answer(&sdp).contains("a=inactive\r\n"));
        }
        let sdp = OFFER.replace("c=IN IP4 192.168.1.10", "c=IN IP4 0.0.0.0");
        assert!(!negotiate(&sdp).unwrap().receives);
        // A direction of the whole session holds where the line says nothing (RFC 8866 section 6.7).
        let sdp = OFFER.replace("a=sendrecv\r\n", "").replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n");
        assert!(!negotiate(&sdp).unwrap().receives);
        assert!(negotiate(&OFFER.replace("a=sendrecv\r\n", "")).unwrap().receives);
    }

    #[test]
    fn an_offer_that_cannot_be_served_is_told_why() {
        let told: String = [
            "hello".to_owned(),
            OFFER.replace("RTP/AVP", "RTP/SAVP"),
            OFFER.replace("opus/48000/2", "opus/16000"),
            OFFER.replace("m=audio 49170", "m=audio 0"),
            OFFER.replace("c=IN IP4 192.168.1.10\r\n", ""),
            OFFER.replace("c=IN IP4 192.168.1.10", "c=IN IP4 phone.example.com"),
            OFFER.replace("c=IN IP4 192.168.1.10", "c=IN IP4 224.2.1.1/127"),
        ]
        .iter()
        .map(|sdp| {
            let refusal = negotiate(sdp).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (400, "8523"));
            format!("{}\n", refusal.message)
        })
        .collect();
        expect![[r#"
            'mediaLeg.sdp' is no SDP: Invalid formatted line 1: "Line not in key=value format"; expected an offer (RFC 8866).
            'mediaLeg.sdp' offers audio over 'RTP/SAVP'; expected RTP/AVP (SRTP is not supported by this build).
            'mediaLeg.sdp' offers no audio that we send; expected an m=audio line with a port and opus/48000/2 over RTP/AVP.
            'mediaLeg.sdp' offers no audio that we send; expected an m=audio line with a port and opus/48000/2 over RTP/AVP.
            'mediaLeg.sdp' has no c= line for its audio; expected one.
            'mediaLeg.sdp' has 'phone.example.com' in its c= line; expected an IP address.
            The media destination's address 224.2.1.1 (multicast) is not allowed; the operator can allow it with --allow-media.
        "#]].assert_eq(&told);
    }

    #[test]
    fn bare_line_feeds_are_read_as_well() {
        assert_eq!(negotiate(&OFFER.replace("\r\n", "\n")), negotiate(OFFER));
    }

    proptest! {
        #[test]
        fn hostile_offers_are_answered_or_refused_but_never_panic(
            line in "[a-z]=[ -~]{0,60}", at in 0_usize..10, cut in 0_usize..400,
        ) {
            let mut lines: Vec<_> = OFFER.lines().collect();
            lines[at] = &line;
            let sdp = lines.join("\r\n");
            for text in [&sdp[..], &sdp[..cut.min(sdp.len())]] {
                if negotiate(text).is_ok() {
                    let answer = answer(text);
                    prop_assert!(Session::parse(answer.as_bytes()).is_ok(), "{}", answer);
                }
            }
        }
    }
}
