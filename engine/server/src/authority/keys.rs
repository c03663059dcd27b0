//! A set of keys as an issuer publishes it (RFC 7517): bytes go in, the keys that may sign tokens come out.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Keys of one issuer; Entra ID has about ten.
const MAX_KEYS: usize = 100;

/// The weakest RSA key that is believed, in bits: what JWS asks for (RFC 7518, 3.3).
const LEAST_RSA_BITS: usize = 2048;

/// The keys of an issuer that may sign tokens.
#[derive(Debug)]
pub(super) struct KeySet {
    /// In the order in which they were published.
    pub(super) keys: Vec<Key>,
    digest: Vec<u8>,
}

/// A key that may sign tokens, with the one algorithm that it is for.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) id: Option<String>,
    /// What it is for. A token has no say in it.
    pub(super) algorithm: Algorithm,
    /// The key itself.
    pub(super) key: DecodingKey,
}

/// Why a set has no key for a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// None has that name.
    Unknown,
    /// The token names none, and there is more than one.
    Unnamed,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a document; keys that may not sign tokens are left out.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that no key is left.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("is no set of keys (JWKS): {error}"))?;
        if document.keys.len() > MAX_KEYS {
            return Err(format!("has {} keys; expected {MAX_KEYS} at most", document.keys.len()));
        }
        let published = document.keys.len();
        let keys: Vec<_> = document.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(format!(
                "has {published} keys, none of which may sign tokens; expected RSA of {LEAST_RSA_BITS} bits, P-256, \
                 P-384 or Ed25519, for 'sig'"
            ));
        }
        Ok(Self { keys, digest: digest(&SHA256, bytes).as_ref().to_vec() })
    }

    /// Where the key with this name is.
    pub(super) fn find(&self, id: Option<&str>) -> Result<usize, Missing> {
        match id {
            Some(_) => self.keys.iter().position(|key| key.id.as_deref() == id).ok_or(Missing::Unknown),
            None if self.keys.len() == 1 => Ok(0),
            None => Err(Missing::Unnamed),
        }
    }

    /// Whether it was read from the same bytes.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig")
            || jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return None;
        }
        let bytes =
            |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
        let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let algorithm = match jwk.alg.as_deref().unwrap_or("RS256") {
                    "RS256" => Algorithm::RS256,
                    "RS384" => Algorithm::RS384,
                    "RS512" => Algorithm::RS512,
                    "PS256" => Algorithm::PS256,
                    "PS384" => Algorithm::PS384,
                    "PS512" => Algorithm::PS512,
                    _ => return None,
                };
                let (modulus, exponent) = (bytes(&jwk.n)?, bytes(&jwk.e)?);
                if bits(&modulus) < LEAST_RSA_BITS {
                    return None;
                }
                (algorithm, DecodingKey::from_rsa_raw_components(&modulus, &exponent))
            }
            ("EC", Some(curve)) => {
                let (algorithm, length) = match (curve, jwk.alg.as_deref()) {
                    ("P-256", None | Some("ES256")) => (Algorithm::ES256, 32),
                    ("P-384", None | Some("ES384")) => (Algorithm::ES384, 48),
                    _ => return None,
                };
                let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
                if (x.len(), y.len()) != (length, length) {
                    return None;
                }
                // An uncompressed point (SEC 1, 2.3.3).
                (algorithm, DecodingKey::from_ec_der(&[&[4], x.as_slice(), &y].concat()))
            }
            ("OKP", Some("Ed25519")) => {
                let x = bytes(&jwk.x).filter(|x| x.len() == 32)?;
                if !matches!(jwk.alg.as_deref(), None | Some("EdDSA" | "Ed25519")) {
                    return None;
                }
                (Algorithm::EdDSA, DecodingKey::from_ed_der(&x))
            }
            _ => return None,
        };
        Some(Self { id: jwk.kid, algorithm, key })
    }
}

/// The length of a number, leading zeros left out.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let significant = &number[zeros..];
    significant.first().map_or(0, |first| 8 * significant.len() - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(keys: Value) -> Result<Vec<Algorithm>, String> {
        let set = KeySet::read(json!({ "keys": keys }).to_string().as_bytes())?;
        Ok(set.keys.iter().map(|key| key.algorithm).collect())
    }

    fn number(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0x80; bytes])
    }

    #[test]
    fn the_algorithm_is_the_keys_and_what_may_not_sign_tokens_is_left_out() {
        let rsa = |more: Value| {
            let mut key = json!({ "kty": "RSA", "n": number(256), "e": "AQAB" });
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let ec =
            |curve: &str, bytes| json!({ "kty": "EC", "crv": curve, "x": number(bytes), "y": number(bytes) });
        let good = json!([
            rsa(json!({})),
            rsa(json!({ "alg": "PS256", "use": "sig", "issuer": "https://login/{tenantid}" })),
            ec("P-256", 32),
            ec("P-384", 48),
            { "kty": "OKP", "crv": "Ed25519", "x": number(32) },
        ]);
        use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
        assert_eq!(read(good), Ok(vec![RS256, PS256, ES256, ES384, EdDSA]));
        let bad = json!([
            { "kty": "oct", "k": number(32) },
            rsa(json!({ "use": "enc" })),
            rsa(json!({ "key_ops": ["encrypt"] })),
            rsa(json!({ "alg": "HS256" })),
            rsa(json!({ "alg": "none" })),
            rsa(json!({ "n": number(255) })),
            rsa(json!({ "n": URL_SAFE_NO_PAD.encode([[0; 1].as_slice(), &[0x7f; 256]].concat()) })),
            ec("P-256", 31),
            ec("secp256k1", 32),
            { "kty": "OKP", "crv": "X25519", "x": number(32) },
            { "kid": 1 },
            7,
        ]);
        let error = read(bad).unwrap_err();
        assert!(error.contains("has 12 keys, none of which"), "{error}");
    }

    #[test]
    fn a_key_is_found_by_its_name_and_without_one_only_where_there_is_no_other() {
        let key = |id: Option<&str>| json!({ "kty": "RSA", "n": number(256), "e": "AQAB", "kid": id });
        let set = |keys: Value| KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let two = set(json!([key(Some("a")), key(Some("b"))]));
        assert_eq!((two.find(Some("b")), two.find(Some("../b"))), (Ok(1), Err(Missing::Unknown)));
        assert_eq!(two.find(None), Err(Missing::Unnamed));
        let one = set(json!([key(None)]));
        assert_eq!((one.find(None), one.find(Some("a"))), (Ok(0), Err(Missing::Unknown)));
    }

    #[test]
    fn hostile_documents_are_refused_whole() {
        for (bytes, words) in [
            (&b"<html>"[..], "no set of keys"),
            (b"{}", "no set of keys"),
            (b"[]", "no set of keys"),
            (b"{\"keys\":[]}", "has 0 keys"),
        ] {
            let error = KeySet::read(bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let error = read(Value::Array(vec![json!({}); 101])).unwrap_err();
        assert!(error.contains("100 at most"), "{error}");
    }
}
