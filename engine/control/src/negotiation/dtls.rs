//! The attributes of ICE and DTLS-SRTP: those of an offer -> what a handshake needs to know of the peer, and ours for the
//! answer. We are ICE-lite: the peer looks for the way, so its candidates are not needed.

use std::net::SocketAddr;

use super::offer::Line;
use crate::{graph::shorten, transport::PeerOffer};

/// Most fingerprints of a line that are kept. 8: one certificate under each hash, and a spare one.
const MOST_FINGERPRINTS: usize = 8;

/// Longest user fragment and password, in characters (RFC 8839 section 5.4).
const LONGEST_CREDENTIAL: usize = 256;

/// Hash functions for fingerprints with the bytes of their result; the weak ones that RFC 8122 section 5 knows are not
/// here.
const HASHES: [(&str, usize); 3] = [("sha-256", 32), ("sha-384", 48), ("sha-512", 64)];

/// The hash function that SDP calls `name`, if it is one of those.
pub(crate) fn hash_named(name: &str) -> Option<&'static str> {
    HASHES.iter().map(|(known, _)| *known).find(|known| known.eq_ignore_ascii_case(name))
}

/// Who begins the handshake, as the offer has it (RFC 4145 section 4, RFC 5763 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Either side may.
    ActPass,
    /// The peer will.
    Active,
    /// The peer waits for us.
    Passive,
}

/// A hash function by its name, and what it makes of a certificate.
pub(crate) type Fingerprint = (&'static str, Box<[u8]>);

/// What the offer says of the peer's side of ICE and DTLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DtlsOffer {
    /// In the order of the offer: the certificate must have one of them.
    pub(crate) fingerprints: Vec<Fingerprint>,
    /// Who begins.
    pub(crate) setup: Setup,
    /// The peer's user fragment. With another one than before ICE begins anew (RFC 8839 section 4.4.1.1.1).
    pub(crate) ufrag: String,
    /// Its password.
    pub(crate) pwd: String,
}

/// Our side of ICE and DTLS, for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DtlsLocal {
    /// Our user fragment.
    pub(crate) ufrag: String,
    /// Our password.
    pub(crate) pwd: String,
    /// SHA-256 of our certificate.
    pub(crate) fingerprint: [u8; 32],
    /// Where we are, best first.
    pub(crate) candidates: Vec<SocketAddr>,
}

/// # Errors
///
/// In words: what is missing for a handshake with the peer, or is not as it must be.
pub(super) fn read(line: &Line<'_>) -> Result<DtlsOffer, String> {
    if !line.transport_has("rtcp-mux") && !line.transport_has("rtcp-mux-only") {
        return Err("has DTLS without a=rtcp-mux; expected one port for all".to_owned());
    }
    if line.session_has("ice-lite") {
        return Err("is ICE-lite, as we are; expected one side that looks for the way".to_owned());
    }
    let ufrag = credential(line, "ice-ufrag", 4)?;
    let pwd = credential(line, "ice-pwd", 22)?;
    let setup = match line.transport_values("setup").first().map(|value| value.trim().to_ascii_lowercase()) {
        Some(setup) => match &*setup {
            "actpass" => Setup::ActPass,
            "active" => Setup::Active,
            "passive" => Setup::Passive,
            _ => return Err(format!("has a=setup:{}; expected actpass, active or passive", shorten(&setup))),
        },
        // What it means to say nothing (RFC 4145 section 4).
        None => Setup::Active,
    };
    Ok(DtlsOffer { fingerprints: fingerprints(line)?, setup, ufrag, pwd })
}

fn credential(line: &Line<'_>, name: &str, least: usize) -> Result<String, String> {
    let values = line.transport_values(name);
    let value = values
        .first()
        .ok_or_else(|| format!("has no a={name}; expected ICE, without which DTLS is not begun"))?;
    let value = value.trim();
    let fits = (least..=LONGEST_CREDENTIAL).contains(&value.len());
    // `ice-char` of RFC 8839 section 5.4.
    if !fits || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')) {
        return Err(format!(
            "has an a={name} of {} bytes; expected {least} to {LONGEST_CREDENTIAL} letters, digits, '+' or '/'",
            value.len()
        ));
    }
    Ok(value.to_owned())
}

fn fingerprints(line: &Line<'_>) -> Result<Vec<Fingerprint>, String> {
    let values = line.transport_values("fingerprint");
    let mut found = Vec::new();
    for value in values.iter().take(MOST_FINGERPRINTS) {
        let (hash, digest) = value.trim().split_once(' ').unwrap_or((value, ""));
        let Some((hash, len)) = HASHES.iter().copied().find(|(name, _)| name.eq_ignore_ascii_case(hash))
        else {
            continue;
        };
        let bytes: Option<Box<[u8]>> = digest.trim().split(':').map(byte).collect();
        match bytes {
            Some(bytes) if bytes.len() == len => found.push((hash, bytes)),
            _ => {
                return Err(format!(
                    "has an a=fingerprint with {hash} that is not {len} bytes in hexadecimal"
                ));
            }
        }
    }
    if found.is_empty() {
        let given: Vec<_> = values.iter().filter_map(|value| value.split_ascii_whitespace().next()).collect();
        let given = if given.is_empty() { "none".to_owned() } else { shorten(&given.join(", ")) };
        return Err(format!("has a=fingerprint with {given}; expected sha-256, sha-384 or sha-512"));
    }
    Ok(found)
}

/// Two hexadecimal digits.
fn byte(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(text, 16).ok())
        .flatten()
}

impl DtlsOffer {
    /// Whether we begin the handshake: only if the peer insists. As the passive side we need not know where it is before
    /// its first packet has come.
    pub(crate) fn we_begin(&self) -> bool {
        self.setup == Setup::Passive
    }

    /// What is needed of it to hear the peer.
    pub(crate) fn peer(&self) -> PeerOffer {
        let is_passive = self.we_begin();
        PeerOffer { ufrag: self.ufrag.clone(), fingerprints: self.fingerprints.clone(), is_passive }
    }

    /// Lines of the answer. All candidates are in it, so there will be no more (RFC 8840 section 8).
    pub(super) fn answered(&self, local: &DtlsLocal, mut put: impl FnMut(&str)) {
        put(&format!("a=ice-ufrag:{}", local.ufrag));
        put(&format!("a=ice-pwd:{}", local.pwd));
        let digest: Vec<_> = local.fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
        put(&format!("a=fingerprint:sha-256 {}", digest.join(":")));
        put(if self.we_begin() { "a=setup:active" } else { "a=setup:passive" });
        for (candidate, preference) in local.candidates.iter().zip((0..=u32::from(u16::MAX)).rev()) {
            // 126 is the preference of host candidates, and 1 the only component (RFC 8445 section 5.1.2).
            let priority = 126 << 24 | preference << 8 | (256 - 1);
            let foundation = u32::from(u16::MAX) - preference + 1;
            let (ip, port) = (candidate.ip(), candidate.port());
            put(&format!("a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host"));
        }
        put("a=end-of-candidates");
    }
}
