//! The lines of an offer -> the first audio line that music can be sent to, and why not the ones before it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use holdmusic_media::rtp::Ssrc;

use super::{
    Secured, crypto, dtls,
    formats::{self, Format},
    offer::{Line, Offer},
};
use crate::{
    graph::{Refusal, shorten},
    settings::Settings,
};

/// Most audio lines that a refusal speaks of. 4: more would not be read.
const MOST_TOLD: usize = 4;

/// Bytes that the reasons for more than one line may have.
const LONGEST_TOLD: usize = 700;

/// A line that music is sent to.
pub(super) struct Choice {
    /// Its place among the lines of the offer.
    pub(super) index: usize,
    pub(super) format: Format,
    pub(super) destination: SocketAddr,
    pub(super) rtcp: Option<SocketAddr>,
    /// Whether RTCP shares the port.
    pub(super) rtcp_mux: bool,
    pub(super) receives: bool,
    pub(super) secured: Secured,
    /// What the peer calls what it sends.
    pub(super) peer: Option<Ssrc>,
}

/// The first line of the offer that is audio and can be sent to. The order is the offerer's wish: what it likes better
/// stands first, encryption or the lack of it included.
///
/// # Errors
///
/// 400 8523 with the reason for each audio line, if there is none.
pub(super) fn choose(offer: &Offer, settings: &Settings) -> Result<Choice, Refusal> {
    let mut reasons = Vec::new();
    for (index, line) in offer.lines().enumerate().filter(|(_, line)| line.is_audio()) {
        match usable(index, &line, settings) {
            Ok(choice) => return Ok(choice),
            Err(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        let kinds: Vec<_> = offer.lines().map(|line| line.media.media.as_str()).collect();
        let found = if kinds.is_empty() { "no media".to_owned() } else { shorten(&kinds.join(", ")) };
        return Err(Refusal::invalid(format!("'mediaLeg.sdp' offers {found}; expected an m=audio line.")));
    }
    let count = reasons.len();
    let mut told = String::new();
    let mut more = count;
    for (index, reason) in reasons.into_iter().enumerate().take(MOST_TOLD) {
        let reason = match count {
            1 => format!("its m=audio line {reason}"),
            _ => format!("m=audio line {} {reason}", index + 1),
        };
        if index > 0 && told.len() + reason.len() > LONGEST_TOLD {
            break;
        }
        if index > 0 {
            told.push_str("; ");
        }
        told.push_str(&reason);
        more -= 1;
    }
    let more = if more == 0 { String::new() } else { format!("; so it is with {more} more") };
    Err(Refusal::invalid(format!("'mediaLeg.sdp' offers no audio that can be sent to: {told}{more}.")))
}

/// The line as a leg, or in words why it cannot be one.
fn usable(index: usize, line: &Line<'_>, settings: &Settings) -> Result<Choice, String> {
    let port = line.port().ok_or("has port 0, which switches it off; expected a port")?;
    let secured = secured(line, settings)?;
    let format = formats::choose(line, settings)?;
    let wants_to_hear = line.wants_to_hear();
    let rtcp_mux = line.transport_has("rtcp-mux") || line.transport_has("rtcp-mux-only");
    let peer = line.ssrc();
    if let Secured::Dtls(_) = secured {
        // Where it is will be known when its checks come; what stands in c= may be a promise ("0.0.0.0", RFC 8840
        // section 4.1.1), and the guard judges what comes true.
        let address = line.address().ok().filter(|address| !address.is_unspecified());
        let address = address.filter(|address| check_family(*address, settings).is_ok());
        let destination = SocketAddr::new(address.unwrap_or_else(|| some_family(settings)), port);
        let rtcp = (!line.refuses_rtcp()).then_some(destination);
        return Ok(Choice {
            index,
            format,
            destination,
            rtcp,
            rtcp_mux,
            receives: wants_to_hear,
            secured,
            peer,
        });
    }
    let address = line.address()?;
    check_family(address, settings)?;
    let destination = SocketAddr::new(address, port);
    let receives = wants_to_hear && !address.is_unspecified();
    let rtcp = match () {
        () if line.refuses_rtcp() => None,
        () if rtcp_mux => Some(destination),
        () => rtcp_address(line, destination)?,
    };
    if receives {
        for address in std::iter::once(destination).chain(rtcp) {
            let allowed = settings.guard.media(address.ip());
            allowed.map_err(|refused| format!("is not to be sent to: {refused}"))?;
        }
    }
    if rtcp.is_some_and(|rtcp| rtcp.is_ipv4() != destination.is_ipv4()) {
        return Err("has RTP and RTCP in different address families; expected one".to_owned());
    }
    Ok(Choice { index, format, destination, rtcp, rtcp_mux, receives, secured, peer })
}

/// How what is sent will be protected.
fn secured(line: &Line<'_>, settings: &Settings) -> Result<Secured, String> {
    let proto = line.media.proto.to_ascii_uppercase();
    let sdes = |line| crypto::choose(line).map(|sdes| sdes.map(|sdes| Secured::Sdes(Box::new(sdes))));
    let dtls = |line| match settings.fingerprint {
        Some(_) => dtls::read(line).map(|dtls| Secured::Dtls(Box::new(dtls))),
        None => {
            Err(format!("asks for DTLS-SRTP ({}); this server has WebRTC switched off", line.media.proto))
        }
    };
    match &*proto {
        // Keys on a line without encryption mean "if you can" (RFC 8643), and whoever can, should. Where capabilities are
        // negotiated (RFC 5939) the line means what it says, and the rest would have to be chosen by its rules.
        "RTP/AVP" | "RTP/AVPF" if line.has("crypto") && !line.has("pcfg") => {
            Ok(sdes(line).ok().flatten().unwrap_or(Secured::Plain))
        }
        "RTP/AVP" | "RTP/AVPF" => Ok(Secured::Plain),
        // With both ways to agree on keys the one that does not show them to every proxy is taken.
        "RTP/SAVP" | "RTP/SAVPF" if !line.transport_values("fingerprint").is_empty() => match dtls(line) {
            Ok(secured) => Ok(secured),
            Err(reason) => sdes(line)?.ok_or(reason),
        },
        "RTP/SAVP" | "RTP/SAVPF" => {
            sdes(line)?.ok_or_else(|| format!("asks for {proto} and has no keys; expected a=crypto"))
        }
        "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF" => dtls(line),
        _ => Err(format!(
            "asks for '{}'; expected RTP/AVP, RTP/SAVP or UDP/TLS/RTP/SAVP, or one of them with F",
            shorten(&line.media.proto)
        )),
    }
}

/// `a=rtcp` (RFC 3605), or else the port above (RFC 3550 section 11).
fn rtcp_address(line: &Line<'_>, rtp: SocketAddr) -> Result<Option<SocketAddr>, String> {
    let values = line.transport_values("rtcp");
    let Some(value) = values.first() else {
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
        // As c= says it who wants nothing.
        (Some(_), Some(address)) if address.is_unspecified() => Ok(None),
        (Some(port), Some(address)) => Ok(Some(SocketAddr::new(address, port))),
        _ => Err(format!("has a=rtcp:{}; expected a port, perhaps with an address", shorten(value))),
    }
}

/// Whether we have a socket of the family; without any it is found out later.
fn check_family(address: IpAddr, settings: &Settings) -> Result<(), String> {
    let locals = &settings.media_locals;
    if locals.is_empty() || locals.iter().any(|local| local.is_ipv4() == address.is_ipv4()) {
        return Ok(());
    }
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    Err(format!("goes to {family}; this server has no such media address"))
}

/// The unspecified address of a family that we have.
fn some_family(settings: &Settings) -> IpAddr {
    let locals = &settings.media_locals;
    if locals.is_empty() || locals.iter().any(SocketAddr::is_ipv4) {
        return Ipv4Addr::UNSPECIFIED.into();
    }
    Ipv6Addr::UNSPECIFIED.into()
}
