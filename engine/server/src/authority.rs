//! Who a request comes from: its Authorization header goes in, a caller or a refusal comes out.

mod grant;
mod issuer;
mod keys;
mod token;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
};

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use holdmusic_control::{
    Refusal,
    access::{Caller, Identity, Limits},
};
use reqwest::Client;
use subtle::ConstantTimeEq;
use tokio::runtime::Handle;

use crate::{
    clock,
    config::access::{Access, App},
    dice,
    egress::Egress,
};
pub use grant::{GrantKind, Granted, Purpose};

use grant::Grants;
use issuer::Issuer;
use keys::KeySet;
use token::{Token, named};

/// The longest token, in bytes: beyond it no server takes the header.
const MAX_TOKEN: usize = 16 << 10;

/// Tokens that are known to be good. Beyond it the expired ones leave, and if that is not enough all: each costs a
/// signature's check when it comes again, 30 µs on a server of today.
const MAX_VERIFIED: usize = 10_000;

/// Knows whose tokens are good.
#[derive(Debug)]
pub struct Authority {
    policy: RwLock<Arc<Policy>>,
    grants: Grants,
    client: Client,
    runtime: Handle,
}

/// A token by its digest: equally long for all, and useless to who reads memory.
type Digest = [u8; 32];

fn digest_of(token: &[u8]) -> Digest {
    digest(&SHA256, token).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What holds until the settings are read again.
#[derive(Debug)]
struct Policy {
    static_tokens: Vec<(Digest, Arc<Caller>)>,
    own: Identity,
    apps: Vec<App>,
    issuers: Vec<Arc<Issuer>>,
    verified: Mutex<HashMap<Digest, Verified>>,
}

/// A token whose signature was checked.
#[derive(Debug)]
struct Verified {
    caller: Arc<Caller>,
    /// When it expires, in seconds since 1970.
    until_s: i64,
    issuer: Arc<Issuer>,
    /// With which it was checked: when others have come, it is checked again.
    keys: Arc<KeySet>,
}

impl Authority {
    /// Files with keys are read at once; keys from elsewhere are fetched from now on, and meanwhile.
    ///
    /// # Errors
    ///
    /// One line: the file with keys, and what is wrong with it; or that no TLS is to be had.
    pub fn new(access: Access, egress: &Egress, runtime: Handle) -> Result<Self, String> {
        let client = issuer::client(egress).map_err(|error| format!("the TLS client: {error}"))?;
        let policy = Policy::new(access, &[], &client, &runtime)?;
        let grants = Grants::new(&dice::seed());
        Ok(Self { policy: RwLock::new(Arc::new(policy)), grants, client, runtime })
    }

    /// From now on this holds. Keys of an issuer whose settings are as they were stay while they are fetched again.
    ///
    /// # Errors
    ///
    /// As [`Authority::new`]; then everything stays as it was.
    pub fn reload(&self, access: Access) -> Result<(), String> {
        let before = self.policy();
        let policy = Policy::new(access, &before.issuers, &self.client, &self.runtime)?;
        *self.policy.write().expect("nobody panics while holding it") = Arc::new(policy);
        Ok(())
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().expect("nobody panics while holding it"))
    }

    /// Who asks.
    ///
    /// # Errors
    ///
    /// 401 with what is wrong with the token, 403 if it is good but not enough, 503 if the keys of its issuer are not to
    /// be had.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let token = bearer(headers)?;
        if grant::is_grant(token) {
            return Err(grant::not_here());
        }
        self.policy().caller(token).await
    }

    /// Who asks where tokens of WHEP are good too, those that are for `purpose`; and by way of which, if it is one.
    ///
    /// # Errors
    ///
    /// As [`Authority::caller`].
    pub async fn caller_for(
        &self,
        headers: &HeaderMap,
        purpose: &Purpose,
    ) -> Result<(Arc<Caller>, Option<Granted>), Refusal> {
        let token = bearer(headers)?;
        if grant::is_grant(token) {
            let granted = self.granted(token, purpose)?;
            return Ok((Arc::clone(&granted.caller), Some(granted)));
        }
        Ok((self.policy().caller(token).await?, None))
    }
}

/// The token that a request brings.
fn bearer(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let header = given.next().ok_or_else(|| {
        Refusal::unauthenticated("There is no access token; expected the header 'Authorization: Bearer …'.")
    })?;
    if given.next().is_some() {
        // A proxy before us may have judged another one.
        return Err(Refusal::unauthenticated("There is more than one Authorization header; expected one."));
    }
    let token =
        header.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let (_, token) = token
        .ok_or_else(|| Refusal::unauthenticated("The Authorization header does not begin with 'Bearer '."))?;
    let token = token.trim_ascii();
    if token.len() > MAX_TOKEN {
        let words = format!("The access token has {} bytes; expected {MAX_TOKEN} at most.", token.len());
        return Err(Refusal::unauthenticated(words));
    }
    Ok(token)
}

impl Policy {
    fn new(
        access: Access,
        before: &[Arc<Issuer>],
        client: &Client,
        runtime: &Handle,
    ) -> Result<Self, String> {
        let Access { token, identity, apps, issuers } = access;
        let issuers = issuers
            .into_iter()
            .map(|settings| Issuer::open(settings, before, client, runtime))
            .collect::<Result<_, _>>()?;
        let mut policy = Self {
            static_tokens: vec![],
            own: identity,
            apps,
            issuers,
            verified: Mutex::new(HashMap::new()),
        };
        let mut static_tokens = vec![];
        let own = token.map(|token| (token, policy.own.clone()));
        let others = policy.apps.iter().filter_map(|app| {
            let tenant = app.tenant.as_deref().unwrap_or(policy.own.tenant());
            Some((app.token.clone()?, Identity::new(&app.id, tenant)))
        });
        for (token, identity) in own.into_iter().chain(others) {
            let limits = policy.limits(&identity).unwrap_or_default();
            let caller = Arc::new(Caller::by_static_token(identity, limits));
            static_tokens.push((digest_of(token.as_bytes()), caller));
        }
        policy.static_tokens = static_tokens;
        Ok(policy)
    }

    /// What an application may use, if it may use anything.
    fn limits(&self, identity: &Identity) -> Option<Limits> {
        let listed = |app: &&App| {
            let tenant = app.tenant.as_deref().unwrap_or(identity.tenant());
            Identity::new(&app.id, tenant) == *identity
        };
        // Who is listed with its tenant is meant before who is listed with any.
        let found = self.apps.iter().filter(listed).max_by_key(|app| app.tenant.is_some());
        match found {
            Some(app) => Some(app.limits),
            None if self.apps.is_empty() || *identity == self.own => Some(Limits::NONE),
            None => None,
        }
    }

    async fn caller(&self, token: &[u8]) -> Result<Arc<Caller>, Refusal> {
        let digest = digest_of(token);
        if let Some(caller) = self.by_static_token(&digest) {
            return Ok(caller);
        }
        let unknown = "The access token is not one that this server knows";
        if self.issuers.is_empty() {
            return Err(Refusal::unauthenticated(format!("{unknown}.")));
        }
        let now_s = clock::now().wall.0 / 1_000_000;
        if let Some(caller) = self.verified(&digest, now_s) {
            return Ok(caller);
        }
        let text = std::str::from_utf8(token).ok().filter(|text| text.contains('.'));
        let text = text.ok_or_else(|| Refusal::unauthenticated(format!("{unknown}, and no JWT.")))?;
        let token = Token::read(text)?;
        let issuer = self.issuers.iter().find(|issuer| token.is_from(&issuer.settings)).ok_or_else(|| {
            let known = self.issuers.iter().map(|issuer| issuer.settings.issuer.as_str());
            Refusal::unauthenticated(format!(
                "The issuer of the access token ('iss') is {}; expected {}.",
                named(token.issuer()),
                token::one_of(known)
            ))
        })?;
        let (keys, at) = issuer.key(token.key_id()).await?;
        token.verify(&keys.keys[at])?;
        let claims = token.check(&issuer.settings, now_s)?;
        let limits = self.limits(&claims.identity).ok_or_else(|| {
            Refusal::forbidden(format!(
                "The {} is not registered here; the operator of this server adds it to [[apps]].",
                claims.identity
            ))
        })?;
        let caller = Arc::new(Caller::by_signature(claims.identity, &claims.roles, limits)?);
        let verified = Verified {
            caller: Arc::clone(&caller),
            until_s: claims.until_s,
            issuer: Arc::clone(issuer),
            keys,
        };
        self.remember(digest, verified, now_s);
        Ok(caller)
    }

    /// Compared with every one, whichever it is: the time says nothing.
    fn by_static_token(&self, digest: &Digest) -> Option<Arc<Caller>> {
        let mut found = None;
        for (known, caller) in &self.static_tokens {
            if bool::from(known.ct_eq(digest)) {
                found = Some(caller);
            }
        }
        found.cloned()
    }

    /// Who sent this token before, if it is still good: not expired, and its key not taken away.
    fn verified(&self, digest: &Digest, now_s: i64) -> Option<Arc<Caller>> {
        let verified = self.verified.lock().expect("nobody panics while holding it");
        let found = verified.get(digest).filter(|found| now_s < found.until_s)?;
        found.issuer.has(&found.keys).then(|| Arc::clone(&found.caller))
    }

    fn remember(&self, digest: Digest, token: Verified, now_s: i64) {
        let mut verified = self.verified.lock().expect("nobody panics while holding it");
        if verified.len() >= MAX_VERIFIED {
            verified.retain(|_, token| now_s < token.until_s);
            if verified.len() >= MAX_VERIFIED {
                verified.clear();
            }
        }
        verified.insert(digest, token);
    }
}
