//! What packets are protected with: text or bytes of a key come in, a [`MasterKey`] of a [`Suite`] goes out, and with the
//! counters it goes on from, a [`Keying`].
//!
//! Keys are wiped when they are dropped, and in nothing that is printed. What a move leaves behind is not wiped, so a key
//! is made where it stays: in a box.

use std::fmt;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// 128 bits (RFC 4568 section 6.2, RFC 7714 section 12).
const SHORT_KEY_LEN: usize = 16;

/// 256 bits (RFC 7714 section 12).
const LONG_KEY_LEN: usize = 32;

/// 112 bits (RFC 4568 section 6.2).
const COUNTER_SALT_LEN: usize = 14;

/// 96 bits (RFC 7714 section 12).
const GCM_SALT_LEN: usize = 12;

/// The longest key with its salt.
const MAX_MASTER_LEN: usize = LONG_KEY_LEN + GCM_SALT_LEN;

/// 80 bits (RFC 4568 section 6.2).
const LONG_TAG_LEN: usize = 10;

/// 32 bits (RFC 4568 section 6.2).
const SHORT_TAG_LEN: usize = 4;

/// 128 bits (RFC 7714 section 12).
const GCM_TAG_LEN: usize = 16;

/// The longest MKI (RFC 4568 section 6.1).
pub const MAX_MKI_LEN: usize = 128;

/// As `a=crypto` has it: padding is written, and not missed (RFC 4568 section 6.1).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A cipher and its authentication, as SDES names them (RFC 4568 section 6.2, RFC 7714 section 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// AES in counter mode, tags of 80 bits.
    AesCm128HmacSha1_80,
    /// The same with 32 bits for RTP, and 80 bits for RTCP.
    AesCm128HmacSha1_32,
    /// AES in Galois/counter mode, tags of 128 bits.
    AeadAes128Gcm,
    /// The same with keys of 256 bits.
    AeadAes256Gcm,
}

impl Suite {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32, Self::AeadAes128Gcm, Self::AeadAes256Gcm];

    /// The suite that SDES calls `name`, if it is one of ours.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// What SDES calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Whether it encrypts and authenticates in one (RFC 7714).
    pub fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }

    /// Bytes of its master key.
    pub fn master_key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => LONG_KEY_LEN,
            _ => SHORT_KEY_LEN,
        }
    }

    /// Bytes of its master salt, which follows the key in SDES.
    pub fn master_salt_len(self) -> usize {
        if self.is_aead() { GCM_SALT_LEN } else { COUNTER_SALT_LEN }
    }

    /// Bytes of its master key with its salt.
    pub fn master_len(self) -> usize {
        self.master_key_len() + self.master_salt_len()
    }

    /// Bytes that an RTP packet grows by, without an MKI.
    pub fn rtp_tag_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => LONG_TAG_LEN,
            Self::AesCm128HmacSha1_32 => SHORT_TAG_LEN,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => GCM_TAG_LEN,
        }
    }

    /// Bytes of tag that an RTCP packet gets: 80 bits also where RTP has 32.
    pub fn rtcp_tag_len(self) -> usize {
        if self.is_aead() { GCM_TAG_LEN } else { LONG_TAG_LEN }
    }
}

/// A master key with its salt. Wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    /// Key, salt, and zeros.
    bytes: Zeroizing<[u8; MAX_MASTER_LEN]>,
}

impl MasterKey {
    /// The key whose bytes are `bytes`, its salt behind it.
    ///
    /// # Errors
    ///
    /// [`KeyError::Length`] if there are more or fewer than the suite asks for.
    pub fn new(suite: Suite, bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != suite.master_len() {
            return Err(KeyError::Length { expected: suite.master_len(), found: bytes.len() });
        }
        let mut key = Self { suite, bytes: Zeroizing::new([0; MAX_MASTER_LEN]) };
        key.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(key)
    }

    /// The key that `text` is in base64, as in `a=crypto`, with or without padding.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: the text is no base64, or of another length than the suite asks for. Nothing of it is in the error.
    pub fn from_base64(suite: Suite, text: &str) -> Result<Self, KeyError> {
        // Room for a little more than the longest key, so that a wrong length can be named.
        let mut room = Zeroizing::new([0; 2 * MAX_MASTER_LEN]);
        match BASE64.decode_slice(text, room.as_mut()) {
            Ok(len) => Self::new(suite, &room[..len]),
            Err(base64::DecodeSliceError::DecodeError(_)) => Err(KeyError::NotBase64),
            Err(base64::DecodeSliceError::OutputSliceTooSmall) => {
                Err(KeyError::Length { expected: suite.master_len(), found: text.len() / 4 * 3 })
            }
        }
    }

    /// The same in base64, with padding: for `a=crypto`, and for nothing that is logged.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.bytes()))
    }

    /// What it is a key of.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt: for the store and for `a=crypto`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.suite.master_len()]
    }

    /// The key alone.
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[..self.suite.master_key_len()]
    }

    /// The salt alone.
    pub(crate) fn salt(&self) -> &[u8] {
        &self.bytes()[self.suite.master_key_len()..]
    }
}

/// Without the key.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// The bytes or the text are no master key of this suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Key and salt have another length, in bytes.
    Length {
        /// What the suite asks for.
        expected: usize,
        /// What came; of a text that is far too long, about.
        found: usize,
    },
    /// The text is not in base64.
    NotBase64,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "{found} bytes of key and salt; expected {expected}")
            }
            Self::NotBase64 => f.write_str("no base64; expected key and salt in base64"),
        }
    }
}

/// A master key identifier: what packets carry to say which master key they are protected with (RFC 3711 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mki(Box<[u8]>);

impl Mki {
    /// `value` in `len` bytes, as `a=crypto` says it (RFC 4568 section 6.1). `None` if the length is not 1 to 128 or the
    /// value does not fit into it.
    pub fn new(value: u128, len: usize) -> Option<Self> {
        if !(1..=MAX_MKI_LEN).contains(&len) || len < 16 && value >> (8 * len) != 0 {
            return None;
        }
        let mut bytes = vec![0; len];
        let written = value.to_be_bytes();
        let used = len.min(written.len());
        bytes[len - used..].copy_from_slice(&written[written.len() - used..]);
        Some(Self(bytes.into()))
    }

    /// The identifier that is these bytes. `None` if there are not 1 to 128 of them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=MAX_MKI_LEN).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// As packets carry it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a leg is protected with, and where its counters stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keying {
    /// What we protect with.
    pub send: MasterKey,
    /// What the receivers' SRTCP is protected with; without it nothing that comes in is believed.
    pub receive: Option<MasterKey>,
    /// What packets of both directions carry behind them; `None` if no MKI was agreed.
    pub mki: Option<Mki>,
    /// The roll-over counter of the next RTP packet (RFC 3711 section 3.2.1).
    pub rollover_counter: u32,
    /// The index of the next SRTCP packet, in 31 bits (RFC 3711 section 3.2.1).
    pub srtcp_index: u32,
}

impl Keying {
    /// Whether it may be given to a leg that has had it before: a key that a customer gave serves both directions. Those of
    /// SDES and of a handshake do not, and are made anew each time.
    pub fn may_come_again(&self) -> bool {
        self.receive.as_ref() == Some(&self.send)
    }
}

/// How the packets of a leg are protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Not at all: RTP as it is.
    #[default]
    Plain,
    /// SRTP (RFC 3711).
    Srtp(Box<Keying>),
    /// SRTP, with keys that are still to come (RFC 5764). Until then nothing is sent.
    Awaited,
}

/// Bytes of hexadecimal digits; what stands between them is passed over.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(suite: Suite) -> Vec<u8> {
        (1..).take(suite.master_len()).collect()
    }

    #[test]
    fn a_key_is_what_it_was_in_base64_with_and_without_padding() {
        for suite in Suite::ALL {
            let master = MasterKey::new(suite, &key(suite)).unwrap();
            assert_eq!(Suite::named(suite.name()), Some(suite));
            let text = master.to_base64();
            assert_eq!(MasterKey::from_base64(suite, &text).as_ref(), Ok(&master));
            assert_eq!(MasterKey::from_base64(suite, text.trim_end_matches('=')).as_ref(), Ok(&master));
            assert_eq!([master.key(), master.salt()].concat(), key(suite));
            assert_eq!(master.salt().len(), suite.master_salt_len());
        }
        // The example of RFC 4568 section 6.1.
        let text = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
        let master = MasterKey::from_base64(Suite::AesCm128HmacSha1_80, text).unwrap();
        assert_eq!(master.bytes(), b"wDfvg&T+)xG7@fb5jU,RaA}\\|p0%*#");
    }

    #[test]
    fn what_is_no_key_is_named_without_being_shown() {
        let suite = Suite::AesCm128HmacSha1_80;
        let wrong = |text: &str| MasterKey::from_base64(suite, text).unwrap_err();
        assert_eq!(wrong("c2VjcmV0"), KeyError::Length { expected: 30, found: 6 });
        assert_eq!(wrong(""), KeyError::Length { expected: 30, found: 0 });
        assert_eq!(wrong(&"A".repeat(40_000)), KeyError::Length { expected: 30, found: 30_000 });
        assert_eq!(wrong("secret!?"), KeyError::NotBase64);
        let gcm = MasterKey::new(Suite::AeadAes256Gcm, &key(suite)).unwrap_err();
        assert_eq!(gcm.to_string(), "30 bytes of key and salt; expected 44");
    }

    #[test]
    fn keys_are_not_printed() {
        let send = MasterKey::new(Suite::AeadAes128Gcm, &[0xab; 28]).unwrap();
        let keying = Keying { send, receive: None, mki: None, rollover_counter: 1, srtcp_index: 2 };
        let printed = format!("{:?}", Protection::Srtp(Box::new(keying)));
        assert_eq!(
            printed,
            "Srtp(Keying { send: MasterKey { suite: AeadAes128Gcm, .. }, receive: None, mki: None, \
             rollover_counter: 1, srtcp_index: 2 })"
        );
    }

    #[test]
    fn an_identifier_is_a_number_in_so_many_bytes() {
        assert_eq!(Mki::new(1, 4).unwrap().bytes(), [0, 0, 0, 1]);
        assert_eq!(Mki::new(0xffff, 2).unwrap().bytes(), [0xff, 0xff]);
        assert_eq!(Mki::new(0x1_0000, 2), None);
        assert_eq!(Mki::new(u128::MAX, 16).unwrap().bytes(), [0xff; 16]);
        assert_eq!(Mki::new(7, 128).unwrap().bytes()[126..], [0, 7]);
        assert_eq!((Mki::new(0, 0), Mki::new(0, 129)), (None, None));
        assert_eq!(Mki::from_bytes(&[0, 1]), Mki::new(1, 2));
        assert_eq!(Mki::from_bytes(&[]), None);
    }
}
