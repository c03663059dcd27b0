//! The key pair that signs our notifications: made at first start, kept in the data directory, published as JWKS.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::{
    digest,
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

/// RS256 by one RSA key of 2048 bits.
pub struct SigningKey {
    key: EncodingKey,
    id: String,
    modulus: String,
    exponent: String,
}

/// File in the data directory.
const FILE: &str = "notification-key.pem";

impl SigningKey {
    /// Reads the key in `data`, or makes one and writes it there for the owner's eyes only.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written, or holds no RSA key in PKCS #8.
    pub fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(FILE);
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = make()?;
                write_secret(&path, pem.as_bytes())?;
                pem
            }
            Err(error) => return Err(error),
        };
        let refused = || {
            let message =
                format!("{} holds no RSA key in PKCS #8; remove it to have a new one made", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(base64).map_err(|_| refused())?;
        let pair = KeyPair::from_pkcs8(&der).map_err(|_| refused())?;
        let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
        let exponent = pair.public_key().exponent().big_endian_without_leading_zero().to_vec();
        let id = URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, &modulus).as_ref()[..20]);
        Ok(Self {
            key: EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| refused())?,
            id,
            modulus: URL_SAFE_NO_PAD.encode(modulus),
            exponent: URL_SAFE_NO_PAD.encode(exponent),
        })
    }

    /// A token with these claims.
    ///
    /// # Errors
    ///
    /// If the library cannot sign.
    pub fn sign(&self, claims: &serde_json::Value) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header {
            kid: Some(self.id.clone()),
            x5t: Some(self.id.clone()),
            ..Header::new(Algorithm::RS256)
        };
        jsonwebtoken::encode(&header, claims, &self.key)
    }

    /// The public half, as `jwks_uri` shows it (RFC 7517).
    pub fn jwks(&self) -> serde_json::Value {
        json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "x5t": self.id,
            "n": self.modulus, "e": self.exponent,
        }] })
    }
}

fn make() -> io::Result<String> {
    let pair =
        KeyPair::generate(KeySize::Rsa2048).map_err(|_| io::Error::other("no RSA key could be made"))?;
    let der = pair.as_der().map_err(|_| io::Error::other("the RSA key could not be written"))?;
    let base64 = STANDARD.encode(der.as_ref());
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
///
/// As the file system says.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}
