//! Tokens of our own for WHEP: for one participant and one purpose, and for a short time. What they are for stands in
//! them, and that we made them.

use std::sync::Arc;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use holdmusic_control::{
    CallId, GrantId, ParticipantId, Refusal,
    access::{Caller, Identity},
};
use holdmusic_media::WallTime;

use super::Authority;
use crate::{clock, dice};

/// How long a token is good for beginning something: 5 minutes are enough for a page to be loaded and to gather its
/// candidates, and short for whoever finds it in a log.
const GOOD_FOR_S: i64 = 300;

/// What our tokens begin with: no JWT does, and no other token of ours.
const PREFIX: &str = "hmw1.";

/// Bytes before the names of the application and its tenant: call, participant, kind, name of the token, expiry.
const FIXED: usize = 16 + 16 + 1 + 16 + 8;

/// Bytes of a code that shows that we made it.
const TAG: usize = 32;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    /// The participant's own leg.
    Leg,
    /// Listening in on it.
    Listener,
}

/// What a token must be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Which call.
    pub call: CallId,
    /// Who in it.
    pub participant: ParticipantId,
    /// What with it.
    pub kind: GrantKind,
    /// Whether it must not have expired.
    pub expires: bool,
}

/// A token that is good.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Its name.
    pub id: GrantId,
    /// Whose it is: who asked for it.
    pub caller: Arc<Caller>,
}

/// Makes tokens, and knows them again as long as this process lives.
pub(super) struct Grants(hmac::Key);

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grants")
    }
}

/// What stands in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    call: CallId,
    participant: ParticipantId,
    kind: GrantKind,
    id: GrantId,
    until_s: i64,
    identity: Identity,
}

impl Grants {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, key))
    }

    fn seal(&self, grant: &Grant) -> String {
        let mut bytes = grant.bytes();
        let tag = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Compared in constant time, before anything in it is believed.
    fn open(&self, token: &[u8]) -> Option<Grant> {
        let text = token.strip_prefix(PREFIX.as_bytes())?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (content, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        hmac::verify(&self.0, content, tag).ok()?;
        Grant::read(content)
    }
}

impl Grant {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + 128 + TAG);
        bytes.extend(self.call.0.to_be_bytes());
        bytes.extend(self.participant.0.to_be_bytes());
        bytes.push(u8::from(self.kind == GrantKind::Listener));
        bytes.extend(self.id.0.to_be_bytes());
        bytes.extend(self.until_s.to_be_bytes());
        // Neither has a zero in it: identities are made of headers' and settings' text.
        bytes.extend(self.identity.app().as_bytes());
        bytes.push(0);
        bytes.extend(self.identity.tenant().as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (fixed, names) = bytes.split_at_checked(FIXED)?;
        let (call, rest) = fixed.split_first_chunk::<16>()?;
        let (participant, rest) = rest.split_first_chunk::<16>()?;
        let (kind, rest) = rest.split_first()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let until = rest.first_chunk::<8>()?;
        let (app, tenant) = std::str::from_utf8(names).ok()?.split_once('\0')?;
        Some(Self {
            call: CallId(u128::from_be_bytes(*call)),
            participant: ParticipantId(u128::from_be_bytes(*participant)),
            kind: if *kind == 1 { GrantKind::Listener } else { GrantKind::Leg },
            id: GrantId(u128::from_be_bytes(*id)),
            until_s: i64::from_be_bytes(*until),
            identity: Identity::new(app, tenant),
        })
    }
}

/// Whether this is a token of ours for WHEP, good or not.
pub(super) fn is_grant(token: &[u8]) -> bool {
    token.starts_with(PREFIX.as_bytes())
}

/// What is said about it where it is not good for anything.
pub(super) fn not_here() -> Refusal {
    Refusal::unauthenticated("The access token is one for WHEP, and good for nothing else.")
}

impl Authority {
    /// A token for what is said, on behalf of `caller`, and until when it is good for beginning.
    pub fn grant(
        &self,
        caller: &Caller,
        call: CallId,
        participant: ParticipantId,
        kind: GrantKind,
    ) -> (String, WallTime) {
        let until_s = clock::now().wall.0 / 1_000_000 + GOOD_FOR_S;
        let id = GrantId(u128::from_be_bytes(*dice::seed().first_chunk().expect("32 bytes")));
        let identity = Identity::clone(&caller.identity);
        let grant = Grant { call, participant, kind, id, until_s, identity };
        (self.grants.seal(&grant), WallTime(until_s * 1_000_000))
    }

    /// Whose token this is, if it is one of ours that is good for `purpose`.
    ///
    /// # Errors
    ///
    /// 401 if it is not, 403 if its application may not use the server any more.
    pub(super) fn granted(&self, token: &[u8], purpose: &Purpose) -> Result<Granted, Refusal> {
        let unknown =
            "The access token is not one that this server knows; it was perhaps started again since.";
        let grant = self.grants.open(token).ok_or_else(|| Refusal::unauthenticated(unknown))?;
        let Purpose { call, participant, kind, expires } = *purpose;
        if (grant.call, grant.participant, grant.kind) != (call, participant, kind) {
            return Err(Refusal::unauthenticated(
                "The access token is for another participant, or for another purpose.",
            ));
        }
        if expires && clock::now().wall.0 / 1_000_000 >= grant.until_s {
            let words = format!("The access token has expired: it is good for {GOOD_FOR_S} s to begin with.");
            return Err(Refusal::unauthenticated(words));
        }
        let limits = self.policy().limits(&grant.identity).ok_or_else(|| {
            Refusal::forbidden(format!("The {} is not registered here any more.", grant.identity))
        })?;
        let caller = Arc::new(Caller::by_static_token(grant.identity, limits));
        Ok(Granted { id: grant.id, caller })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            call: CallId(7),
            participant: ParticipantId(u128::MAX),
            kind: GrantKind::Listener,
            id: GrantId(3),
            until_s: 1_700_000_000,
            identity: Identity::new("bot", "a tenant"),
        }
    }

    #[test]
    fn what_was_sealed_is_read_again_and_nothing_else_is() {
        let grants = Grants::new(&[1; 32]);
        for kind in [GrantKind::Leg, GrantKind::Listener] {
            let grant = Grant { kind, ..grant() };
            let token = grants.seal(&grant);
            assert_eq!(grants.open(token.as_bytes()), Some(grant));
            assert_eq!(Grants::new(&[2; 32]).open(token.as_bytes()), None, "another process");
            assert!(is_grant(token.as_bytes()));
        }
    }

    #[test]
    fn no_byte_can_be_changed_left_out_or_added() {
        let grants = Grants::new(&[1; 32]);
        let token = grants.seal(&grant());
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(grants.open(&other), None, "{at}");
            assert_eq!(grants.open(&token.as_bytes()[..at]), None, "{at}");
        }
        for more in ["A", "AAAA", "=", " "] {
            assert_eq!(grants.open(format!("{token}{more}").as_bytes()), None);
        }
        for odd in ["", "hmw1.", "hmw1.AAAA", "hmw1.\u{e4}", "hmw2.AAAA"] {
            assert_eq!(grants.open(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Grants::new(&[0x5a; 32])), "Grants");
    }
}
