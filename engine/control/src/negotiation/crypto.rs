//! `a=crypto` (SDES, RFC 4568): the lines of an offer -> the first that we can do, and ours for the answer. Keys are in no
//! message.

use holdmusic_media::{MasterKey, Mki, Suite};

use super::offer::Line;
use crate::graph::shorten;

/// Most lines that are looked at. 16: there are four suites, and offers of all that anybody has stay below a dozen.
const MOST_LINES: usize = 16;

/// Most of them that a refusal speaks of.
const MOST_TOLD: usize = 4;

/// What was agreed with `a=crypto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sdes {
    /// The number of the line that was chosen, for the answer.
    pub(crate) tag: u32,
    /// What the peer protects with, and with it the suite.
    pub(crate) peer: MasterKey,
    /// What packets carry behind them. An offer that names its key has ours named likewise: RFC 4568 would let each side
    /// do as it likes, but there are stacks with one setting for both directions.
    pub(crate) mki: Option<Mki>,
}

/// The first `a=crypto` of the line, which is the one that the offerer likes best (RFC 4568 section 5.1.1), that we can
/// do; `Ok(None)` if it has none at all.
///
/// # Errors
///
/// In words, without keys: why none of them.
pub(super) fn choose(line: &Line<'_>) -> Result<Option<Sdes>, String> {
    let mut refused: Vec<String> = Vec::new();
    for (index, value) in line.values("crypto").take(MOST_LINES).enumerate() {
        match read(value) {
            Ok(sdes) => return Ok(Some(sdes)),
            Err(reason) => refused.push(format!("a=crypto line {} {reason}", index + 1)),
        }
    }
    if refused.is_empty() {
        return Ok(None);
    }
    let suites: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
    let more = refused.len().saturating_sub(MOST_TOLD);
    refused.truncate(MOST_TOLD);
    if more > 0 {
        refused.push(format!("and so on with {more} more"));
    }
    Err(format!("{}; expected one of {}", refused.join(", "), suites.join(", ")))
}

/// `tag suite key-parameters [session-parameters]`.
fn read(value: &str) -> Result<Sdes, String> {
    let mut words = value.split_ascii_whitespace();
    let tag = words.next().unwrap_or_default();
    // 1 to 9 digits (RFC 4568 section 9.1).
    let tag = (tag.len() <= 9 && is_number(tag)).then(|| tag.parse().ok()).flatten();
    let tag = tag.ok_or("has no tag that is a number")?;
    let name = words.next().ok_or("has no suite")?;
    let suite = Suite::named(&name.to_ascii_uppercase()).ok_or_else(|| match is_word(name) {
        true => format!("has '{}'", shorten(name)),
        false => "has something else in the place of a suite".to_owned(),
    })?;
    let keys = words.next().ok_or("has no key")?;
    for parameter in words {
        check_session_parameter(parameter)?;
    }
    // Further keys are for later, told by their MKIs (section 6.1). We keep to the first, as who sends them does at first.
    let mut parts = keys.split(';').next().unwrap_or_default().split('|');
    let inline = parts.next().unwrap_or_default();
    let key = match inline.split_at_checked("inline:".len()) {
        Some((method, key)) if method.eq_ignore_ascii_case("inline:") => key,
        _ => return Err("has a key that is not 'inline:'".to_owned()),
    };
    let peer = MasterKey::from_base64(suite, key).map_err(|reason| format!("has {reason}"))?;
    let mut mki = None;
    for (place, part) in parts.enumerate() {
        match part.split_once(':') {
            Some((value, len)) if mki.is_none() => {
                let read = || Mki::new(value.parse().ok()?, len.parse().ok()?);
                let both = is_number(value) && is_number(len);
                mki = Some(
                    both.then(read).flatten().ok_or("has an MKI that is not a number and 1 to 128 bytes")?,
                );
            }
            None if place == 0 && is_lifetime(part) => {}
            _ => return Err("has a key with something behind it that is no lifetime and no MKI".to_owned()),
        }
    }
    Ok(Sdes { tag, peer, mki })
}

/// Whether `text` is a count of packets, perhaps as a power of two (RFC 4568 section 6.1). It limits how long the
/// *peer's* key lasts, which receivers do not outlive: 2^31 reports, or what is in them, are centuries.
fn is_lifetime(text: &str) -> bool {
    match text.strip_prefix("2^") {
        Some(power) => is_number(power) && power.parse().is_ok_and(|power: u32| power <= 48),
        None => is_number(text) && text.parse().is_ok_and(|count: u64| (1..=1 << 48).contains(&count)),
    }
}

/// What would change how packets are protected makes a line useless; what only advises does not (RFC 4568 section 6.3).
fn check_session_parameter(parameter: &str) -> Result<(), String> {
    let name = parameter.split('=').next().unwrap_or_default();
    match &*name.to_ascii_uppercase() {
        // How far a receiver should look back; ours looks as far as it does.
        "WSH" => Ok(()),
        // Session keys that are derived once: the default, said aloud.
        "KDR" if parameter.ends_with("=0") => Ok(()),
        // Who does not know what stands behind a dash may pass it over (section 6.3.7).
        _ if name.starts_with('-') => Ok(()),
        _ if is_word(name) => Err(format!("asks for '{}'", shorten(name))),
        _ => Err("has something behind its key that is no parameter".to_owned()),
    }
}

/// Whether `text` may be shown: what stands in a wrong place may be a key, and those have small letters.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Sdes {
    /// The value of the answer's `a=crypto`, with our own `key` (RFC 4568 section 5.1.2). It names no lifetime: the one of
    /// every suite, 2^48 packets, is more than a leg will send.
    pub(super) fn answered(&self, key: &MasterKey) -> String {
        let mut value = format!("{} {} inline:{}", self.tag, key.suite().name(), *key.to_base64());
        if let Some(mki) = &self.mki {
            let bytes = mki.bytes();
            let number = bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
            value.push_str(&format!("|{number}:{}", bytes.len()));
        }
        value
    }
}
