//! A token that somebody says an issuer signed (RFC 7519): text goes in, what is believed of it comes out.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use holdmusic_control::{
    Refusal,
    access::Identity,
    graph::{shorten, wall_text},
};
use holdmusic_media::WallTime;
use jsonwebtoken::crypto;
use serde::{Deserialize, de::IgnoredAny};

use super::keys::Key;
use crate::config::access::{IssuerSettings, TENANT};

/// The longest application or tenant id, in bytes: GUIDs have 36.
const MAX_ID: usize = 128;

/// A token, taken apart. Nothing in it is believed before [`Token::verify`].
#[derive(Debug)]
pub(super) struct Token<'t> {
    header: Header,
    claims: Claims,
    /// What was signed.
    message: &'t str,
    signature: &'t str,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    /// Microsoft's mark on tokens for its own services, which nobody else can verify.
    nonce: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: Option<String>,
    #[serde(default)]
    aud: Several,
    exp: Option<f64>,
    nbf: Option<f64>,
    tid: Option<String>,
    appid: Option<String>,
    azp: Option<String>,
    #[serde(default)]
    roles: Several,
}

/// One or more: both are written.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Several {
    One(String),
    Many(Vec<String>),
}

impl Default for Several {
    fn default() -> Self {
        Self::Many(vec![])
    }
}

impl Several {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// What a good token says.
#[derive(Debug)]
pub(super) struct Checked {
    /// Whose it is.
    pub(super) identity: Identity,
    /// What it may do.
    pub(super) roles: Vec<String>,
    /// From when on it is good no more, in seconds since 1970.
    pub(super) until_s: i64,
}

fn refused(words: String) -> Refusal {
    Refusal::unauthenticated(words)
}

/// What a token says, as a message may repeat it.
pub(super) fn named(text: Option<&str>) -> String {
    text.map_or_else(|| "missing".to_owned(), |text| format!("'{}'", shorten(text)))
}

/// "'a' or 'b'".
pub(super) fn one_of<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    texts.into_iter().map(|text| named(Some(text))).collect::<Vec<_>>().join(" or ")
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// 401 if it is no JWT, or one that asks for what nobody may have.
    pub(super) fn read(text: &'t str) -> Result<Self, Refusal> {
        let broken = |what: &str| refused(format!("The access token is no JWT: {what}."));
        let (message, signature) = text.rsplit_once('.').ok_or_else(|| broken("it has no signature"))?;
        let parts = message.split_once('.').filter(|(_, claims)| !claims.contains('.'));
        let (header, claims) = parts.ok_or_else(|| broken("it has not three parts"))?;
        let json = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = json(header)
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| broken("its header is no JSON in base64url, or has no 'alg'"))?;
        let claims: Claims = json(claims)
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| broken("its claims are no JSON in base64url, or of a wrong type"))?;
        if header.alg.eq_ignore_ascii_case("none") || signature.is_empty() {
            return Err(refused("The access token is not signed.".to_owned()));
        }
        if header.crit.is_some() {
            let words = "The access token asks for extensions ('crit') that this server does not have.";
            return Err(refused(words.to_owned()));
        }
        Ok(Self { header, claims, message, signature })
    }

    /// `iss`.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.iss.as_deref()
    }

    /// `kid`.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// Whether it says that it is from there.
    pub(super) fn is_from(&self, issuer: &IssuerSettings) -> bool {
        let expected = issuer.issuer.replace(TENANT, self.claims.tid.as_deref().unwrap_or_default());
        self.claims.iss.as_deref() == Some(expected.as_str())
    }

    /// Whether `key` has signed it, with the key's own algorithm.
    ///
    /// # Errors
    ///
    /// 401.
    pub(super) fn verify(&self, key: &Key) -> Result<(), Refusal> {
        let expected = format!("{:?}", key.algorithm);
        if self.header.alg != expected {
            return Err(refused(format!(
                "The access token says that it is signed with {}; the key {} of its issuer is for {expected}.",
                named(Some(&self.header.alg)),
                named(key.id.as_deref())
            )));
        }
        match crypto::verify(self.signature, self.message.as_bytes(), &key.key, key.algorithm) {
            Ok(true) => Ok(()),
            _ if self.header.nonce.is_some() => Err(refused(
                "The access token is for a service of Microsoft's own ('nonce' in its header), which nobody else can \
                 verify; ask for a token for this server's audience."
                    .to_owned(),
            )),
            _ => Err(refused("The signature of the access token is wrong.".to_owned())),
        }
    }

    /// Whether what it says is good enough for `issuer`, now.
    ///
    /// # Errors
    ///
    /// 401 with what was expected.
    pub(super) fn check(&self, issuer: &IssuerSettings, now_s: i64) -> Result<Checked, Refusal> {
        let Claims { aud, exp, nbf, tid, appid, azp, roles, .. } = &self.claims;
        let skew_s = i64::try_from(issuer.clock_skew.as_secs()).unwrap_or(0);
        let time = |seconds: i64| wall_text(WallTime(seconds.saturating_mul(1_000_000)), 0);
        let expires = moment(exp.ok_or_else(|| refused("The access token has no end ('exp').".to_owned()))?);
        let until_s = expires.saturating_add(skew_s);
        if until_s <= now_s {
            let (expires, now) = (time(expires), time(now_s));
            return Err(refused(format!("The access token expired at {expires}; it is {now}.")));
        }
        if let Some(begins) = nbf.map(moment).filter(|begins| begins.saturating_sub(skew_s) > now_s) {
            let (begins, now) = (time(begins), time(now_s));
            return Err(refused(format!("The access token is not good before {begins}; it is {now}.")));
        }
        let expected = &issuer.audiences;
        if !aud.all().iter().any(|audience| expected.contains(audience)) {
            return Err(refused(format!(
                "The audience of the access token ('aud') is {}; expected {}.",
                match aud.all() {
                    [] => "missing".to_owned(),
                    all => one_of(all.iter().take(3).map(String::as_str)),
                },
                one_of(expected.iter().map(String::as_str))
            )));
        }
        let tenant = tid.as_deref().filter(|tenant| !tenant.is_empty() && tenant.len() <= MAX_ID);
        let tenant = tenant.ok_or_else(|| {
            refused(format!(
                "The tenant of the access token ('tid') is {}; expected an id.",
                named(tid.as_deref())
            ))
        })?;
        let same = |known: &String| known.eq_ignore_ascii_case(tenant);
        if !issuer.tenants.is_empty() && !issuer.tenants.iter().any(same) {
            return Err(refused(format!(
                "The tenant of the access token ('tid') is {}; expected {}.",
                named(Some(tenant)),
                one_of(issuer.tenants.iter().map(String::as_str))
            )));
        }
        let app = appid.as_deref().or(azp.as_deref()).filter(|app| !app.is_empty() && app.len() <= MAX_ID);
        let app = app.ok_or_else(|| {
            refused("The access token names no application: it has neither 'appid' nor 'azp'.".to_owned())
        })?;
        Ok(Checked { identity: Identity::new(app, tenant), roles: roles.all().to_vec(), until_s })
    }
}

/// Seconds since 1970, which a token may write with a fraction.
#[expect(clippy::cast_possible_truncation, reason = "what is too big is the end of time")]
fn moment(seconds: f64) -> i64 {
    (seconds as i64).clamp(0, MOST_S)
}

/// The year 9999: later moments cannot be written.
const MOST_S: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::access::KeysFrom;

    fn issuer() -> IssuerSettings {
        IssuerSettings {
            issuer: "https://i.example/{tenantid}".into(),
            keys: KeysFrom::File("keys.json".into()),
            audiences: vec!["api".into()],
            tenants: vec![],
            clock_skew: std::time::Duration::from_secs(300),
        }
    }

    proptest! {
        /// Before any signature is looked at: what anybody may send.
        #[test]
        fn hostile_tokens_are_taken_apart_or_refused_in_few_words(
            text in "\\PC{0,60}",
            header in r#"\{"alg":("RS256"|1|"\PC{0,9}"|null)(,"(kid|crit|nonce)":("\PC{0,300}"|1|null))?\}"#,
            claims in r#"\{"exp":(1e300|-1e300|-?[0-9]{1,30}|"1"),"(nbf|tid|aud|roles|iss)":("\PC{0,300}"|[0-9.]{1,9}|\[("a",){0,2}"api"\]|-1e99)\}"#,
            signature in "[A-Za-z0-9_-]{0,9}",
            now_s in 0..MOST_S,
        ) {
            let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let jwt = format!("{}.{}.{signature}", encoded(&header), encoded(&claims));
            for token in [&text, &jwt] {
                let checked = Token::read(token).and_then(|token| {
                    let _ = (token.is_from(&issuer()), token.issuer(), token.key_id());
                    token.check(&issuer(), now_s)
                });
                if let Err(refusal) = checked {
                    prop_assert_eq!(refusal.status, 401);
                    prop_assert!(refusal.message.chars().count() < 1_000, "{}", refusal);
                }
            }
        }
    }
}
