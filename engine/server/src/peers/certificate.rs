//! The certificate that DTLS is spoken with: read from the data directory, or made and kept there.
//!
//! It is kept so that a peer finds the same one after a restart. Peers know it by its fingerprint (RFC 8122), which the
//! answer to their offer names; nothing else in it is looked at, so it says as little as it can.

use std::{fs, io, path::Path};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use dimpl::DtlsCertificate;

use crate::{dice, keys::write_secret};

/// In the data directory: the private key and the certificate, as PEM.
const FILE: &str = "webrtc.pem";

const KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";

/// ecdsa-with-SHA256 (RFC 5758 section 3.2), as an AlgorithmIdentifier.
const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// commonName (RFC 5280 appendix A.1).
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

/// The same words in all engines: a certificate says nothing about who sends music.
const NAME: &str = "WebRTC";

/// Dates between which it is always: it is believed for its fingerprint, which an answer has just named.
const NOT_BEFORE: &[u8] = b"200101000000Z";
const NOT_AFTER: &[u8] = b"491231235959Z";

/// The certificate kept in `data`, made at first.
///
/// # Errors
///
/// If it cannot be read, written or made.
pub fn open(data: &Path) -> Result<DtlsCertificate, String> {
    let path = data.join(FILE);
    let told = |error: io::Error| format!("the certificate for WebRTC, {}: {error}", path.display());
    if !path.exists() {
        write_secret(&path, make().map_err(told)?.as_bytes()).map_err(told)?;
    }
    let text = fs::read_to_string(&path).map_err(told)?;
    read(&text).ok_or_else(|| {
        let words = "is not what was written there; remove it to have a new one made";
        format!("the certificate for WebRTC, {}: {words}", path.display())
    })
}

/// A certificate with its key, as [`make`] has written them.
pub fn read(pem: &str) -> Option<DtlsCertificate> {
    Some(DtlsCertificate { certificate: section(pem, CERTIFICATE)?, private_key: section(pem, KEY)? })
}

/// What peers know it by: the SHA-256 of it.
pub fn fingerprint(certificate: &DtlsCertificate) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, &certificate.certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A new key with its certificate, as PEM.
///
/// # Errors
///
/// If the library refuses.
pub fn make() -> io::Result<String> {
    let refused = |_| io::Error::other("no key could be made");
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let pkcs8 = pkcs8.map_err(refused)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref())
        .map_err(|error| io::Error::other(error.to_string()))?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(refused)?;
    let signed = signed_part(public.as_ref());
    let signature = key.sign(&SystemRandom::new(), &signed).map_err(refused)?;
    let signature = der(BIT_STRING, &[&[0], signature.as_ref()]);
    let certificate = der(SEQUENCE, &[&signed, &ECDSA_WITH_SHA256, &signature]);
    Ok(pem(KEY, pkcs8.as_ref()) + &pem(CERTIFICATE, &certificate))
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// TBSCertificate (RFC 5280 section 4.1).
fn signed_part(public: &[u8]) -> Vec<u8> {
    // The same issuer with the same number twice is refused by Firefox, so it is random: 120 bits, positive, not short.
    let mut number = dice::seed()[..16].to_vec();
    number[0] = 0x01;
    let name = der(UTF8_STRING, &[NAME.as_bytes()]);
    let name = der(SEQUENCE, &[&der(SET, &[&der(SEQUENCE, &[&COMMON_NAME, &name])])]);
    let dates = der(SEQUENCE, &[&der(UTC_TIME, &[NOT_BEFORE]), &der(UTC_TIME, &[NOT_AFTER])]);
    // Version 3.
    let version = der(VERSION, &[&der(INTEGER, &[&[2]])]);
    let number = der(INTEGER, &[&number]);
    der(SEQUENCE, &[&version, &number, &ECDSA_WITH_SHA256, &name, &dates, &name, public])
}

/// A value of X.690: what it is, how long, and its content.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let mut whole = vec![tag];
    let len = content.len().to_be_bytes();
    match content.len() {
        short @ 0..=0x7f => whole.extend(short.to_be_bytes().last()),
        _ => {
            let digits = &len[len.iter().position(|digit| *digit != 0).unwrap_or(0)..];
            whole.push(0x80 | digits.len().to_be_bytes()[size_of::<usize>() - 1]);
            whole.extend(digits);
        }
    }
    whole.extend(content);
    whole
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn section(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (text, _) = rest.split_once(&format!("-----END {label}-----"))?;
    BASE64_STANDARD.decode(text.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_for_its_owner_alone_and_found_again() {
        let home = tempfile::tempdir().unwrap();
        let first = open(home.path()).unwrap();
        let again = open(home.path()).unwrap();
        assert_eq!(fingerprint(&first), fingerprint(&again));
        assert_eq!(first.private_key, again.private_key);
        let mode = fs::metadata(home.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(fingerprint(&first), fingerprint(&open(other.path()).unwrap()));
    }

    #[test]
    fn what_is_damaged_is_named_and_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE), "-----BEGIN PRIVATE KEY-----\n").unwrap();
        let error = open(home.path()).unwrap_err();
        assert!(error.contains("webrtc.pem") && error.contains("remove it"), "{error}");
    }
}
