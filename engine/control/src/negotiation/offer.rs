//! The text of an offer -> its media lines, each with all that holds for it: its own attributes, those of its bundle and
//! those of the session.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use holdmusic_media::rtp::Ssrc;
use sdp_types::{AddrType, Attribute, Connection, Media, Session};

use crate::graph::{Refusal, shorten};

/// Most lines of an offer. 4 000: a browser with ten videos sends some 1 500.
const MOST_LINES: usize = 4_000;

/// Most media lines of an offer. 64: a conference of video has a dozen or two, and each comes back in the answer.
const MOST_MEDIA: usize = 64;

/// Directions as attributes (RFC 8866 section 6.7).
const DIRECTIONS: [&str; 4] = ["sendrecv", "recvonly", "sendonly", "inactive"];

/// An offer whose syntax is right.
pub(super) struct Offer(Session);

impl Offer {
    /// # Errors
    ///
    /// 400 8523: it is no SDP, or too much of it.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        if text.lines().nth(MOST_LINES).is_some() {
            return Err(Refusal::invalid(format!(
                "'mediaLeg.sdp' has more than {MOST_LINES} lines; expected at most that many."
            )));
        }
        let session = Session::parse(relevant(text).as_bytes()).map_err(|reason| {
            Refusal::invalid(format!(
                "'mediaLeg.sdp' is no SDP: {}; expected an offer (RFC 8866).",
                shorten(&reason.to_string())
            ))
        })?;
        if session.medias.len() > MOST_MEDIA {
            return Err(Refusal::invalid(format!(
                "'mediaLeg.sdp' has {} m= lines; expected at most {MOST_MEDIA}.",
                session.medias.len()
            )));
        }
        Ok(Self(session))
    }

    /// Its media lines in their order.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.0.medias.iter().map(|media| Line { session: &self.0, media, tagged: self.tagged(media) })
    }

    /// The line whose transport a line of a bundle has (RFC 9143 section 7.1), if that is another one.
    fn tagged(&self, media: &Media) -> Option<&Media> {
        let mid = mid(media)?;
        let tag = bundle(&self.0, mid)?.next()?;
        let tagged = self.0.medias.iter().find(|other| self::mid(other) == Some(tag))?;
        (!std::ptr::eq(tagged, media)).then_some(tagged)
    }
}

/// The lines that an answer depends on, each where it was, so that the parser's complaints name the right one. Telephones
/// write names with blanks into `o=`, fractions into `b=` and worse; none of that keeps anybody from hearing music.
fn relevant(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.trim_end();
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        match key {
            "v" | "a" | "c" => kept.push_str(line),
            "m" => {
                // Some stacks put two blanks, or one at the end, or no format on a line that is switched off.
                // What cannot be printed is left out here already: a word of nothing else would come back as none.
                let words = value.split_ascii_whitespace().map(printable);
                let mut words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
                if words.len() == 3 && words[1] == "0" {
                    words.push("0".into());
                }
                kept.push_str("m=");
                kept.push_str(&words.join(" "));
            }
            "b" if rtcp_bandwidth(value).is_some() => kept.push_str(line),
            _ if key.len() == 1 && line.len() > 1 => {}
            _ => kept.push_str(line),
        }
        kept.push('\n');
    }
    kept
}

/// `RS:` or `RR:` and bits per second (RFC 3556 section 2).
fn rtcp_bandwidth(value: &str) -> Option<u64> {
    value.strip_prefix("RS:").or_else(|| value.strip_prefix("RR:"))?.parse().ok()
}

/// A line's name for itself (RFC 5888 section 4).
fn mid(media: &Media) -> Option<&str> {
    media.get_first_attribute_value("mid").flatten()
}

/// The lines that share one transport with the line `mid`: the first of them is the tagged one (RFC 9143 section 7.2).
fn bundle<'a>(session: &'a Session, mid: &str) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
    session.get_attribute_values("group").flatten().find_map(|group| {
        let mut words = group.split_ascii_whitespace();
        let is_bundle = words.next().is_some_and(|semantics| semantics.eq_ignore_ascii_case("BUNDLE"));
        (is_bundle && words.clone().any(|word| word == mid)).then_some(words)
    })
}

/// One m= line of an offer.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    session: &'a Session,
    pub(super) media: &'a Media,
    tagged: Option<&'a Media>,
}

impl<'a> Line<'a> {
    pub(super) fn is_audio(&self) -> bool {
        self.media.media.eq_ignore_ascii_case("audio")
    }

    /// Its port: that of its bundle where it has none but that (RFC 9143 section 6). `None` if it is switched off.
    pub(super) fn port(&self) -> Option<u16> {
        let shared = self.media.has_attribute("bundle-only").then_some(self.tagged).flatten();
        [self.media.port, shared.map_or(0, |tagged| tagged.port)].into_iter().find(|port| *port != 0)
    }

    pub(super) fn mid(&self) -> Option<&'a str> {
        mid(self.media)
    }

    /// Whether it shares its transport with others, or would.
    pub(super) fn is_bundled(&self) -> bool {
        self.mid().is_some_and(|mid| bundle(self.session, mid).is_some())
    }

    /// The values of one of its own attributes.
    pub(super) fn values(&self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.media.get_attribute_values(name).flatten()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.media.has_attribute(name)
    }

    /// Whether it has an attribute that belongs to the transport, itself or by its bundle (RFC 9143 section 7.1.3).
    pub(super) fn transport_has(&self, name: &str) -> bool {
        self.has(name) || self.tagged.is_some_and(|tagged| tagged.has_attribute(name))
    }

    /// The values of an attribute that belongs to the transport: its own, or else its bundle's, or else the session's.
    pub(super) fn transport_values(&self, name: &str) -> Vec<&'a str> {
        let of = |attributes: &'a [Attribute]| -> Vec<&'a str> {
            let named = attributes.iter().filter(|attribute| attribute.attribute == name);
            named.filter_map(|attribute| attribute.value.as_deref()).collect()
        };
        let of_tagged = self.tagged.map_or(&[][..], |tagged| &tagged.attributes);
        [&self.media.attributes, of_tagged, &self.session.attributes]
            .into_iter()
            .map(of)
            .find(|values| !values.is_empty())
            .unwrap_or_default()
    }

    /// Whether the session as a whole has an attribute.
    pub(super) fn session_has(&self, name: &str) -> bool {
        self.session.has_attribute(name)
    }

    /// Whether it wants to hear anything: the direction of the line holds, or else the session's, or else both ways (RFC
    /// 8866 section 6.7).
    pub(super) fn wants_to_hear(&self) -> bool {
        let direction = |attributes: &'a [Attribute]| {
            let names = attributes.iter().map(|attribute| &*attribute.attribute);
            names.into_iter().find(|name| DIRECTIONS.contains(name))
        };
        let own = direction(&self.media.attributes).or_else(|| direction(&self.session.attributes));
        matches!(own, None | Some("sendrecv" | "recvonly"))
    }

    /// Where it wants to hear it: the c= of the line, or else the session's. An unspecified address is the old way to
    /// say "send me nothing" (RFC 3264 section 8.4).
    ///
    /// # Errors
    ///
    /// In words: there is none, or it is a name.
    pub(super) fn address(&self) -> Result<IpAddr, String> {
        let connection: &Connection = self
            .media
            .connections
            .first()
            .or(self.session.connection.as_ref())
            .or_else(|| self.tagged?.connections.first())
            .ok_or("has no c= line; expected one, of its own or of the session")?;
        // A multicast address may carry a scope behind a slash (RFC 8866 section 5.7); the guard decides about it.
        let text = connection.connection_address.split('/').next().unwrap_or_default();
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        // What stands for the zero address where that cannot be had (RFC 6157 section 5.1).
        if text
            .trim_end_matches('.')
            .rsplit('.')
            .next()
            .is_some_and(|top| top.eq_ignore_ascii_case("invalid"))
        {
            return Ok(match connection.addrtype {
                AddrType::Ip6 => Ipv6Addr::UNSPECIFIED.into(),
                _ => Ipv4Addr::UNSPECIFIED.into(),
            });
        }
        // Names are not looked up: whose answer would the guard have judged?
        let shown = shorten(&connection.connection_address);
        Err(format!("has '{shown}' in its c= line; expected an IP address"))
    }

    /// Whether it wants no RTCP at all (RFC 3556 section 2).
    pub(super) fn refuses_rtcp(&self) -> bool {
        let of = |kind: &str| {
            let lines = [&self.media.bandwidths, &self.session.bandwidths];
            lines.into_iter().flatten().find(|line| line.bwtype == kind).map(|line| line.bandwidth)
        };
        (of("RS"), of("RR")) == (Some(0), Some(0))
    }

    /// The first source that the peer announces (RFC 5576 section 4.1).
    pub(super) fn ssrc(&self) -> Option<Ssrc> {
        self.values("ssrc").next()?.split_ascii_whitespace().next()?.parse().ok().map(Ssrc)
    }

    /// The line as it stands in an answer that rejects it (RFC 3264 section 6).
    pub(super) fn rejected(&self) -> String {
        let Media { media, proto, fmt, .. } = self.media;
        printable(&format!("m={media} 0 {proto} {fmt}")).into_owned()
    }
}

/// Without what would break a line.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        return text.chars().filter(|c| !c.is_control()).collect::<String>().into();
    }
    text.into()
}
