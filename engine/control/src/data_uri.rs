//! [`DataUri`]: a URI that holds the bytes themselves (RFC 2397) goes in, the bytes come out.

use std::fmt;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode_str;
use url::Url;

/// Base64 as people write it into URIs: with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A `data` URI, read. The media type is a hint at most: the bytes say what they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataUri {
    uri: String,
    bytes: Vec<u8>,
}

/// Why a `data` URI cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataUriError {
    /// Nothing says where the type ends and the bytes begin.
    NoComma,
    /// It says base64 and is none.
    NotBase64,
}

impl fmt::Display for DataUriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoComma => f.write_str("a comma before the data was expected"),
            Self::NotBase64 => f.write_str("base64 was expected behind the comma"),
        }
    }
}

impl DataUri {
    /// Reads a URI of the scheme `data`. A fragment is no part of the data.
    pub(crate) fn read(mut url: Url) -> Result<Self, DataUriError> {
        url.set_fragment(None);
        let uri = String::from(url);
        let body = uri.strip_prefix("data:").unwrap_or(&uri);
        let (kind, data) = body.split_once(',').ok_or(DataUriError::NoComma)?;
        let mut bytes: Vec<u8> = percent_decode_str(data).collect();
        let last = kind.rsplit_once(';').map(|(_, last)| last.trim());
        if last.is_some_and(|last| last.eq_ignore_ascii_case("base64")) {
            bytes.retain(|byte| !byte.is_ascii_whitespace());
            bytes = BASE64.decode(bytes).map_err(|_| DataUriError::NotBase64)?;
        }
        Ok(Self { uri, bytes })
    }

    /// The URI, as it was given but for a fragment.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As messages and logs may show it.
    pub fn redacted(&self) -> String {
        format!("data:… ({} bytes)", self.bytes.len())
    }
}

/// Not the bytes: they would fill the log.
impl fmt::Debug for DataUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u8>, DataUriError> {
        DataUri::read(Url::parse(text).unwrap()).map(|data| data.bytes)
    }

    #[test]
    fn both_codings_of_rfc_2397_are_read() {
        for (uri, bytes) in [
            ("data:,A%20brief%20note", &b"A brief note"[..]),
            ("data:audio/wav;base64,UklGRg==", b"RIFF"),
            ("data:audio/wav;base64,UklGRg", b"RIFF"),
            ("data:audio/wav; BASE64 ,UklG%0ARg%3D%3D", b"RIFF"),
            ("data:audio/wav;codecs=1;base64,UklGRg==#note", b"RIFF"),
            ("DATA:text/plain;charset=utf-8,a?b,c", b"a?b,c"),
            ("data:,%52IFF%00%ff", b"RIFF\0\xFF"),
            ("data:base64,UklGRg==", b"UklGRg=="),
            ("data:,", b""),
        ] {
            assert_eq!(read(uri).as_deref(), Ok(bytes), "{uri}");
        }
        assert_eq!(read("data:audio/wav;base64"), Err(DataUriError::NoComma));
        assert_eq!(read("data:;base64,U*"), Err(DataUriError::NotBase64));
        assert_eq!(read("data:;base64,UklG-_"), Err(DataUriError::NotBase64));
    }

    #[test]
    fn what_is_in_it_is_not_shown() {
        let data = DataUri::read(Url::parse("data:,secret").unwrap()).unwrap();
        assert_eq!(format!("{data:?} {}", data.redacted()), "data:… (6 bytes) data:… (6 bytes)");
    }
}
