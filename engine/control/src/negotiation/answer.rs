//! What was negotiated, and what is ours -> the text of the answer: our one stream in its place, everything else rejected
//! in place (RFC 3264 section 6).

use std::net::SocketAddr;

use holdmusic_codecs::Codec;
use holdmusic_media::{LegSpec, Protection};

use super::{
    Negotiated, Secured,
    dtls::DtlsLocal,
    formats,
    offer::{Offer, printable},
};

/// What an answer must mirror of its offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    lines: Vec<Mirrored>,
    rtcp_mux: bool,
    /// Whether the offer switched RTCP off.
    no_rtcp: bool,
}

/// One m-line of the offer, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirrored {
    /// The identification of RFC 5888, if it has one.
    mid: Option<String>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The line as it is rejected.
    Rejected(String),
    /// Ours.
    Chosen { proto: String, bundled: bool, has_maxptime: bool },
}

impl Mirror {
    /// What is to be mirrored if the line `chosen` is answered.
    pub(super) fn of(offer: &Offer, chosen: usize, rtcp_mux: bool) -> Self {
        let mut no_rtcp = false;
        let lines = offer.lines().enumerate().map(|(index, line)| {
            let kind = if index == chosen {
                no_rtcp = line.refuses_rtcp();
                Kind::Chosen {
                    proto: printable(&line.media.proto).into_owned(),
                    bundled: line.is_bundled(),
                    has_maxptime: line.has("maxptime"),
                }
            } else {
                Kind::Rejected(line.rejected())
            };
            Mirrored { mid: line.mid().map(|mid| printable(mid).into_owned()), kind }
        });
        let lines = lines.collect();
        Self { lines, rtcp_mux, no_rtcp }
    }
}

/// What of an answer is ours and not in [`LegSpec`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local<'a> {
    /// Where we send from.
    pub(crate) address: SocketAddr,
    /// Session id and version (RFC 8866 section 5.2).
    pub(crate) session: (u64, u64),
    /// For [`Secured::Dtls`].
    pub(crate) dtls: Option<&'a DtlsLocal>,
}

impl Negotiated {
    /// The answer to the offer, if it was SDP. With [`Secured::Sdes`] the key that is answered is that of the spec; with
    /// [`Secured::Dtls`] what is local must be there.
    pub(crate) fn answer(&self, local: &Local<'_>, spec: &LegSpec) -> Option<Box<str>> {
        let mirror = self.mirror.as_ref()?;
        let mut sdp = String::new();
        let mut put = |line: &str| {
            sdp.push_str(line);
            sdp.push_str("\r\n");
        };
        let (id, version) = local.session;
        let (ip, family) = (local.address.ip(), if local.address.is_ipv4() { "IP4" } else { "IP6" });
        put("v=0");
        put(&format!("o=- {id} {version} IN {family} {ip}"));
        put("s=-");
        put(&format!("c=IN {family} {ip}"));
        put("t=0 0");
        if matches!(self.secured, Secured::Dtls(_)) {
            // Of the session, and of nothing less (RFC 8839 section 5.3).
            put("a=ice-lite");
        }
        // What is rejected is no part of a bundle (RFC 9143 section 7.3.3).
        let bundled =
            mirror.lines.iter().filter(|line| matches!(line.kind, Kind::Chosen { bundled: true, .. }));
        if let Some(mid) = bundled.filter_map(|line| line.mid.as_ref()).next() {
            put(&format!("a=group:BUNDLE {mid}"));
        }
        for line in &mirror.lines {
            match &line.kind {
                Kind::Rejected(rejected) => put(rejected),
                Kind::Chosen { proto, .. } => {
                    put(&format!("m=audio {} {proto} {}", local.address.port(), self.payload_type.number()));
                    if mirror.no_rtcp {
                        put("b=RS:0");
                        put("b=RR:0");
                    }
                }
            }
            if let Some(mid) = &line.mid {
                put(&format!("a=mid:{mid}"));
            }
            if let Kind::Chosen { has_maxptime, .. } = line.kind {
                self.put_stream(local, spec, has_maxptime, mirror.rtcp_mux, &mut put);
            }
        }
        Some(sdp.into())
    }

    /// The attributes of our one stream.
    fn put_stream(
        &self,
        local: &Local<'_>,
        spec: &LegSpec,
        has_maxptime: bool,
        rtcp_mux: bool,
        put: &mut impl FnMut(&str),
    ) {
        let number = self.payload_type.number();
        put(&format!("a=rtpmap:{number} {}", formats::encoding(self.codec)));
        if let Some(parameters) = parameters(self.codec) {
            put(&format!("a=fmtp:{number} {parameters}"));
        }
        put(&format!("a=ptime:{}", self.codec.frame_ms()));
        if has_maxptime {
            put(&format!("a=maxptime:{}", self.codec.frame_ms()));
        }
        put(if self.receives { "a=sendonly" } else { "a=inactive" });
        // RTCP is heard where RTP is sent from, also by peers that send it apart.
        put(&if rtcp_mux { "a=rtcp-mux".to_owned() } else { format!("a=rtcp:{}", local.address.port()) });
        match (&self.secured, &spec.protection, local.dtls) {
            (Secured::Sdes(sdes), Protection::Srtp(keying), _) => {
                put(&format!("a=crypto:{}", sdes.answered(&keying.send)));
            }
            (Secured::Dtls(dtls), _, Some(local)) => {
                dtls.answered(local, &mut *put);
                // Pages look for the stream that their track is in (RFC 8830).
                put(&format!("a=msid:{0} {0}", spec.cname));
            }
            (Secured::Plain, ..) => {}
            (secured, ..) => unreachable!("what is ours was not made for {secured:?}"),
        }
        put(&format!("a=ssrc:{} cname:{}", spec.numbering.ssrc.0, spec.cname));
    }
}

/// What we say about our stream in `a=fmtp` (RFC 7587 section 6.1): what is in it. What the other parameters speak of is
/// what one would like to receive, and we receive nothing.
fn parameters(codec: Codec) -> Option<String> {
    let is_opus = codec.on_the_wire() == Codec::Opus;
    is_opus.then(|| format!("sprop-maxcapturerate={};sprop-stereo=0", codec.sample_rate()))
}
