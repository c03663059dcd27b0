//! The session keys of one direction of SRTP: where a packet stands goes in, and its bytes come out encrypted and
//! authenticated, or believed and readable. What stands in a packet, and which one is believed, is decided in `protect`
//! and `unprotect`.
//!
//! What depends on the keys alone (the schedule of AES, the two pads of HMAC, the powers of GHASH) is computed once: set up
//! for every packet it would cost half as much again. A packet is treated in place, and nothing is allocated.

use aes::{
    Aes128Enc, Aes256Enc, Block,
    cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore, consts::U16},
};
use ctr::{CtrCore, flavors::Ctr128BE};
use ghash::{GHash, universal_hash::UniversalHash};
use hmac::{Hmac, Mac};
use sha1::{Sha1, block_api::Sha1Core};
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::keys::{MasterKey, Suite};

/// Bytes of SRTCP's index with its E bit, and of the roll-over counter (RFC 3711 sections 3.4 and 4.2).
pub(crate) const INDEX_LEN: usize = 4;

/// The header of RTCP and the SSRC of who speaks: the part of a compound that stays readable (RFC 3711 section 3.4).
pub(crate) const RTCP_CLEAR_LEN: usize = 8;

/// The bit that says that an SRTCP packet is encrypted (RFC 3711 section 3.4).
pub(crate) const ENCRYPTED: u32 = 1 << 31;

/// 160 bits: the authentication key of HMAC-SHA1 (RFC 3711 section 5.2).
const AUTHENTICATION_KEY_LEN: usize = 20;

/// A salt as key derivation takes it: 112 bits. The shorter ones of GCM end with zeros (RFC 7714 section 11).
const SALT_LEN: usize = 14;

/// Of GCM (RFC 7714 section 12).
const GCM_TAG_LEN: usize = 16;

/// Bytes of a block of AES, and of GHASH.
const BLOCK_LEN: usize = 16;

/// Blocks that processors encipher side by side in little more than the time of one (so the `aes` crate has it).
const SIDE_BY_SIDE: usize = 8;

/// Blocks that GHASH multiplies side by side (so the `ghash` crate has it).
const HASHED_AT_ONCE: usize = 4;

/// Where a packet stands in the stream of one key: no two packets of different content may ever stand at the same place,
/// because they would share a keystream, and with GCM give away the key of its tags (RFC 3711 section 9.1, RFC 7714
/// section 8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) ssrc: u32,
    /// Of RTP the roll-over counter and the sequence number, 48 bits; of RTCP 31 bits.
    pub(crate) index: u64,
}

impl Place {
    /// SSRC and index as both kinds of cipher lay them over the salt (RFC 3711 section 4.1.1, RFC 7714 sections 8.1 and 9.1).
    fn bits(self) -> u128 {
        u128::from(self.ssrc) << 48 | u128::from(self.index)
    }
}

/// The session keys of RTP and of RTCP.
pub(crate) struct Session {
    pub(crate) suite: Suite,
    pub(crate) rtp: Keys,
    pub(crate) rtcp: Keys,
}

impl Session {
    /// With a key derivation rate of zero, which is what SDES means if it says nothing (RFC 3711 section 4.3.1).
    pub(crate) fn derive(master: &MasterKey) -> Self {
        let mut salt = Zeroizing::new([0; SALT_LEN]);
        salt[..master.salt().len()].copy_from_slice(master.salt());
        let salt = shifted(&salt);
        let (rtp, rtcp) = match master.suite() {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => {
                let cipher = Aes128Enc::new_from_slice(master.key()).expect("16 bytes");
                (Keys::counter(&cipher, &salt, Labels::RTP), Keys::counter(&cipher, &salt, Labels::RTCP))
            }
            Suite::AeadAes128Gcm => {
                let cipher = Aes128Enc::new_from_slice(master.key()).expect("16 bytes");
                let keys =
                    |labels| Keys::Gcm128(Gcm::derive(&cipher, &salt, labels, &mut Zeroizing::new([0; 16])));
                (keys(Labels::RTP), keys(Labels::RTCP))
            }
            Suite::AeadAes256Gcm => {
                let cipher = Aes256Enc::new_from_slice(master.key()).expect("32 bytes");
                let keys =
                    |labels| Keys::Gcm256(Gcm::derive(&cipher, &salt, labels, &mut Zeroizing::new([0; 32])));
                (keys(Labels::RTP), keys(Labels::RTCP))
            }
        };
        Self { suite: master.suite(), rtp, rtcp }
    }
}

/// Which keys are derived: a label for each (RFC 3711 section 4.3.2).
#[derive(Clone, Copy)]
struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

impl Labels {
    const RTP: Self = Self { encryption: 0, authentication: 1, salt: 2 };
    const RTCP: Self = Self { encryption: 3, authentication: 4, salt: 5 };
}

/// The session keys of RTP or of RTCP, in the form in which every packet wants them.
pub(crate) enum Keys {
    /// RFC 3711.
    Counter(Counter),
    /// RFC 7714.
    Gcm128(Gcm<Aes128Enc>),
    /// RFC 7714.
    Gcm256(Gcm<Aes256Enc>),
}

impl Keys {
    fn counter(master: &Aes128Enc, master_salt: &Zeroizing<u128>, labels: Labels) -> Self {
        let mut key = Zeroizing::new([0; 16]);
        derive(master, master_salt, labels.encryption, key.as_mut());
        let mut salt = Zeroizing::new([0; SALT_LEN]);
        derive(master, master_salt, labels.salt, salt.as_mut());
        let mut authentication = Zeroizing::new([0; AUTHENTICATION_KEY_LEN]);
        derive(master, master_salt, labels.authentication, authentication.as_mut());
        Self::Counter(Counter {
            cipher: Aes128Enc::new_from_slice(key.as_ref()).expect("16 bytes"),
            salt: shifted(&salt),
            mac: Hmac::new_from_slice(authentication.as_ref()).expect("HMAC takes keys of any length"),
        })
    }

    /// Encrypts `text`, and returns the tag over it and the readable `header` before it, with what stands `behind` it
    /// (the roll-over counter, or SRTCP's index). HMAC takes what is behind last, GCM with the header (RFC 7714 section
    /// 9.2); of RTP GCM knows it by the nonce.
    #[inline]
    pub(crate) fn seal(&self, place: Place, packet: &mut [u8], clear: usize, behind: Behind) -> [u8; 20] {
        match self {
            Self::Counter(keys) => {
                keys.apply(place, &mut packet[clear..]);
                keys.tag(packet, behind)
            }
            Self::Gcm128(keys) => keys.seal(place, packet, clear, behind),
            Self::Gcm256(keys) => keys.seal(place, packet, clear, behind),
        }
    }

    /// The tag that the encrypted `packet` must have.
    fn expected_tag(&self, place: Place, packet: &[u8], clear: usize, behind: Behind) -> [u8; 20] {
        match self {
            Self::Counter(keys) => keys.tag(packet, behind),
            Self::Gcm128(keys) => keys.tag(&keys.mask(place), packet, clear, behind),
            Self::Gcm256(keys) => keys.tag(&keys.mask(place), packet, clear, behind),
        }
    }

    /// Decrypts what stands behind the readable part of `packet` if `tag` is the right one; otherwise nothing changes.
    #[must_use]
    pub(crate) fn open(
        &self,
        place: Place,
        packet: &mut [u8],
        clear: usize,
        behind: Behind,
        tag: &[u8],
    ) -> bool {
        let expected = self.expected_tag(place, packet, clear, behind);
        if !bool::from(expected[..tag.len()].ct_eq(tag)) {
            return false;
        }
        match self {
            Self::Counter(keys) => keys.apply(place, &mut packet[clear..]),
            Self::Gcm128(keys) => keys.apply(place, &mut packet[clear..]),
            Self::Gcm256(keys) => keys.apply(place, &mut packet[clear..]),
        }
        true
    }
}

/// What is authenticated with a packet and does not stand before its tag.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind {
    /// The roll-over counter of RTP (RFC 3711 section 4.2), which is not sent. For GCM it is part of the place.
    Rollover(u32),
    /// The index of SRTCP with its E bit.
    Index(u32),
}

impl Behind {
    fn bytes(self) -> [u8; INDEX_LEN] {
        let (Self::Rollover(word) | Self::Index(word)) = self;
        word.to_be_bytes()
    }
}

/// AES in counter mode with HMAC-SHA1.
pub(crate) struct Counter {
    cipher: Aes128Enc,
    /// Multiplied by 2^16: the counter's bits are free.
    salt: Zeroizing<u128>,
    /// Has taken its key, and nothing else.
    mac: Hmac<Sha1>,
}

/// What the fields of keys are made of wipes itself; if a crate's feature were lost, this would not compile. (GHASH does so
/// without saying it.)
const _: () = {
    const fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<Aes128Enc>();
    wiped::<Aes256Enc>();
    wiped::<Sha1Core>();
    wiped::<Zeroizing<u128>>();
};

impl Counter {
    /// Encrypts and decrypts (RFC 3711 section 4.1.1).
    #[inline]
    fn apply(&self, place: Place, text: &mut [u8]) {
        apply_keystream(&self.cipher, *self.salt ^ place.bits() << 16, text);
    }

    /// All 160 bits.
    #[inline]
    fn tag(&self, packet: &[u8], behind: Behind) -> [u8; 20] {
        let mut mac = self.mac.clone();
        mac.update(packet);
        mac.update(&behind.bytes());
        mac.finalize().into_bytes().into()
    }
}

/// AES in Galois/counter mode (NIST SP 800-38D).
pub(crate) struct Gcm<C> {
    cipher: C,
    /// Multiplied by 2^32: the counter's bits are free.
    salt: Zeroizing<u128>,
    /// Has taken its key, and nothing else.
    hash: GHash,
}

impl<C: BlockCipherEncrypt<BlockSize = U16> + KeyInit> Gcm<C> {
    fn derive<const N: usize>(
        master: &C,
        master_salt: &Zeroizing<u128>,
        labels: Labels,
        key: &mut Zeroizing<[u8; N]>,
    ) -> Self {
        derive(master, master_salt, labels.encryption, key.as_mut());
        let mut salt = Zeroizing::new([0; 12]);
        derive(master, master_salt, labels.salt, salt.as_mut());
        Self::new(key.as_ref(), &salt)
    }

    fn new(key: &[u8], salt: &[u8; 12]) -> Self {
        let cipher = C::new_from_slice(key).expect("the cipher's length");
        let mut hash_key = Zeroizing::new([0; 16]);
        apply_keystream(&cipher, 0, hash_key.as_mut());
        let mut block = Zeroizing::new([0; 16]);
        block[..12].copy_from_slice(salt);
        let hash = GHash::new((&*hash_key).into());
        Self { cipher, salt: Zeroizing::new(u128::from_be_bytes(*block)), hash }
    }

    /// The first counter, whose block is laid over the tag; the text begins with the next one.
    #[inline]
    fn first(&self, place: Place) -> u128 {
        *self.salt ^ place.bits() << 32 | 1
    }

    fn mask(&self, place: Place) -> [u8; GCM_TAG_LEN] {
        let mut mask = [0; GCM_TAG_LEN];
        apply_keystream(&self.cipher, self.first(place), &mut mask);
        mask
    }

    /// Decrypts.
    fn apply(&self, place: Place, text: &mut [u8]) {
        apply_keystream(&self.cipher, self.first(place) + 1, text);
    }

    #[inline]
    fn seal(&self, place: Place, packet: &mut [u8], clear: usize, behind: Behind) -> [u8; 20] {
        if let (Behind::Rollover(_), Some((header, text))) = (behind, packet.split_at_mut_checked(clear))
            && header.len() <= BLOCK_LEN
            && text.len() <= (SIDE_BY_SIDE - 1) * BLOCK_LEN
        {
            return self.seal_short(place, header, text);
        }
        let mut stream =
            CtrCore::<_, Ctr128BE>::inner_iv_init(&self.cipher, &self.first(place).to_be_bytes().into());
        let mut mask = [0; GCM_TAG_LEN];
        stream.write_keystream_block((&mut mask).into());
        stream.apply_keystream_partial((&mut packet[clear..]).into());
        self.tag(&mask, packet, clear, behind)
    }

    /// Seals a packet of music in Opus, whose header and text are no longer than is done in one go: a fifth sooner than in the
    /// general way, block by block.
    #[inline]
    fn seal_short(&self, place: Place, header: &[u8], text: &mut [u8]) -> [u8; 20] {
        let first = self.first(place);
        let mut stream: [Block; SIDE_BY_SIDE] =
            std::array::from_fn(|number| (first + number as u128).to_be_bytes().into());
        self.cipher.encrypt_blocks(&mut stream);
        let [mask, stream @ ..] = stream;
        // What is hashed: the header, the encrypted text and the lengths, each filled up with zeros. Zeros in front change
        // nothing, since all there is before them is zero; with them the last group is full.
        const HEADER: usize = HASHED_AT_ONCE - 1;
        const TEXT: usize = HEADER + 1;
        let mut blocks = [[0; BLOCK_LEN]; TEXT + SIDE_BY_SIDE];
        blocks[HEADER][..header.len()].copy_from_slice(header);
        let room = blocks[TEXT..].as_flattened_mut();
        room[..text.len()].copy_from_slice(text);
        for (block, stream) in blocks[TEXT..].iter_mut().zip(stream) {
            *block = (u128::from_ne_bytes(*block) ^ u128::from_ne_bytes(stream.0)).to_ne_bytes();
        }
        let room = blocks[TEXT..].as_flattened_mut();
        text.copy_from_slice(&room[..text.len()]);
        let end = text.len().next_multiple_of(BLOCK_LEN);
        room[text.len()..end].fill(0);
        let end = TEXT + end / BLOCK_LEN;
        blocks[end] = ((header.len() as u128) << 67 | (text.len() as u128) << 3).to_be_bytes();
        let count = end + 1 - HEADER;
        let zeros = count.next_multiple_of(HASHED_AT_ONCE) - count;
        let mut hash = self.hash.clone();
        hash.update(Block::cast_slice_from_core(&blocks[HEADER - zeros..=end]));
        masked(hash, &mask.0)
    }

    /// In the first 16 bytes.
    #[inline]
    fn tag(&self, mask: &[u8; GCM_TAG_LEN], packet: &[u8], clear: usize, behind: Behind) -> [u8; 20] {
        let (header, text) = packet.split_at(clear);
        let mut hash = self.hash.clone();
        let header_len = match behind {
            Behind::Rollover(_) => {
                hash.update_padded(header);
                header.len()
            }
            Behind::Index(_) if header.len() == RTCP_CLEAR_LEN => {
                let mut block = [0; RTCP_CLEAR_LEN + INDEX_LEN];
                block[..RTCP_CLEAR_LEN].copy_from_slice(header);
                block[RTCP_CLEAR_LEN..].copy_from_slice(&behind.bytes());
                hash.update_padded(&block);
                block.len()
            }
            // Of a compound that is not encrypted all is header (RFC 7714 section 9.3).
            Behind::Index(_) => {
                let whole = header.len() / 16 * 16;
                hash.update_padded(&header[..whole]);
                let mut block = [0; 15 + INDEX_LEN];
                let rest = header.len() - whole;
                block[..rest].copy_from_slice(&header[whole..]);
                block[rest..rest + INDEX_LEN].copy_from_slice(&behind.bytes());
                hash.update_padded(&block[..rest + INDEX_LEN]);
                header.len() + INDEX_LEN
            }
        };
        hash.update_padded(text);
        let bits = (header_len as u128) << 67 | (text.len() as u128) << 3;
        hash.update(&[bits.to_be_bytes().into()]);
        masked(hash, mask)
    }
}

/// The tag of GCM, in the first 16 bytes.
fn masked(hash: GHash, mask: &[u8; GCM_TAG_LEN]) -> [u8; 20] {
    let mut tag = [0; 20];
    let sums = hash.finalize();
    for (byte, (sum, mask)) in tag.iter_mut().zip(sums.iter().zip(mask)) {
        *byte = sum ^ mask;
    }
    tag
}

/// A salt of 112 bits with 16 bits of zeros behind it, where counters count.
fn shifted(salt: &[u8; SALT_LEN]) -> Zeroizing<u128> {
    let mut block = Zeroizing::new([0; 16]);
    block[..SALT_LEN].copy_from_slice(salt);
    Zeroizing::new(u128::from_be_bytes(*block))
}

/// The session key with this label (RFC 3711 section 4.3.1, RFC 6188 section 3 for the long keys).
fn derive<C: BlockCipherEncrypt<BlockSize = U16>>(
    master: &C,
    master_salt: &Zeroizing<u128>,
    label: u8,
    key: &mut [u8],
) {
    // The label stands above 48 bits of index, and all above the counter's 16.
    apply_keystream(master, **master_salt ^ u128::from(label) << 64, key);
}

/// Adds the keystream that begins with the counter `first`.
#[inline]
fn apply_keystream<C: BlockCipherEncrypt<BlockSize = U16>>(cipher: &C, first: u128, bytes: &mut [u8]) {
    let core = CtrCore::<_, Ctr128BE>::inner_iv_init(cipher, &first.to_be_bytes().into());
    core.apply_keystream_partial(bytes.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::hex;

    /// RFC 3711 appendix B.3, with its long authentication key.
    #[test]
    fn session_keys_are_those_of_the_rfc() {
        let master = Aes128Enc::new_from_slice(&hex("E1F97A0D3E018BE0D64FA32C06DE4139")).unwrap();
        let salt = shifted(hex("0EC675AD498AFEEBB6960B3AABE6").first_chunk().unwrap());
        let key = |label, len| {
            let mut key = vec![0; len];
            derive(&master, &salt, label, &mut key);
            key
        };
        assert_eq!(key(Labels::RTP.encryption, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(key(Labels::RTP.salt, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        let authentication = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE \
                              E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25 \
                              6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
        assert_eq!(key(Labels::RTP.authentication, 94), hex(authentication));
    }

    /// RFC 6188 section 7.2: keys from a master key of 256 bits.
    #[test]
    fn session_keys_of_long_master_keys_are_those_of_the_rfc() {
        let master = "f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6";
        let master = Aes256Enc::new_from_slice(&hex(master)).unwrap();
        let salt = shifted(hex("3b04803de51ee7c96423ab5b78d2").first_chunk().unwrap());
        let mut key = [0; 32];
        derive(&master, &salt, Labels::RTP.encryption, &mut key);
        assert_eq!(key[..], hex("5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4"));
        let mut key = [0; 14];
        derive(&master, &salt, Labels::RTP.salt, &mut key);
        assert_eq!(key[..], hex("fa31791685ca444a9e07c6c64e93"));
    }

    /// RFC 3711 appendix B.2: both ends of 65 282 blocks, so that a carry out of the counter's lower byte is among them.
    #[test]
    fn the_keystream_is_that_of_the_rfc() {
        let cipher = Aes128Enc::new_from_slice(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
        let salt = shifted(hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").first_chunk().unwrap());
        let mut stream = vec![0; 1_044_512];
        apply_keystream(&cipher, *salt, &mut stream);
        let first = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB \
                     41E95B3BB0A2E8DD477901E4FCA894C0";
        assert_eq!(stream[..48], hex(first));
        let last = "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE \
                    6A2CC3787889374FBEB4C81B17BA6C44";
        assert_eq!(stream[stream.len() - 48..], hex(last));
    }

    const GCM_KEY: &str = "000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f";

    /// "Quid pro quo".
    const GCM_SALT: &str = "517569642070726f2071756f";

    fn gcm(suite: Suite) -> Keys {
        let (key, salt) = (hex(GCM_KEY), hex(GCM_SALT));
        let salt = salt.first_chunk().unwrap();
        match suite {
            Suite::AeadAes128Gcm => Keys::Gcm128(Gcm::new(&key[..16], salt)),
            _ => Keys::Gcm256(Gcm::new(&key, salt)),
        }
    }

    /// Seals as the vectors of RFC 7714 do, which begin with session keys, and opens what came of it.
    fn check(suite: Suite, place: Place, plain: &str, clear: usize, behind: Behind, sealed: &str, tag: &str) {
        let (keys, plain) = (gcm(suite), hex(plain));
        let mut packet = plain.clone();
        assert_eq!(keys.seal(place, &mut packet, clear, behind)[..16], hex(tag));
        assert_eq!(packet, hex(sealed));
        let mut wrong = hex(tag);
        wrong[15] ^= 1;
        assert!(!keys.open(place, &mut packet, clear, behind, &wrong));
        assert_eq!(packet, hex(sealed));
        assert!(keys.open(place, &mut packet, clear, behind, &hex(tag)));
        assert_eq!(packet, plain);
    }

    /// RFC 7714 sections 16.1.1 and 16.2.1.
    #[test]
    fn gcm_of_rtp_is_that_of_the_rfc() {
        let header = "8040f17b8041f8d35501a0b2";
        let plain = format!(
            "{header} 47616c6c696120657374206f6d6e6973 2064697669736120696e207061727465 732074726573"
        );
        let place = Place { ssrc: 0x5501_a0b2, index: 0xf17b };
        let sealed = "f24de3a3fb34de6cacba861c9d7e4bca be633bd50d294e6f42a5f47a51c7d19b 36de3adf8833";
        let sealed = format!("{header} {sealed}");
        let tag = "899d7f27beb16a9152cf765ee4390cce";
        check(Suite::AeadAes128Gcm, place, &plain, 12, Behind::Rollover(0), &sealed, tag);
        let sealed = "32b1de78a822fe12ef9f78fa332e33aa b18012389a58e2f3b50b2a0276ffae0f 1ba63799b87b";
        let sealed = format!("{header} {sealed}");
        let tag = "7aa3db36dfffd6b0f9bb7878d7a76c13";
        check(Suite::AeadAes256Gcm, place, &plain, 12, Behind::Rollover(0), &sealed, tag);
    }

    /// Short packets are sealed in one go, and every one is opened block by block.
    #[test]
    fn what_is_sealed_in_one_go_is_what_is_sealed_block_by_block() {
        let place = Place { ssrc: 0x5501_a0b2, index: 0xf17b };
        for suite in [Suite::AeadAes128Gcm, Suite::AeadAes256Gcm] {
            let keys = gcm(suite);
            for clear in [0, 12, 16, 17, 28] {
                for len in 0..=140 {
                    let plain: Vec<u8> = (0..clear + len).map(|n| (n * 7 + len) as u8).collect();
                    let mut packet = plain.clone();
                    let tag = keys.seal(place, &mut packet, clear, Behind::Rollover(0));
                    assert!(
                        keys.open(place, &mut packet, clear, Behind::Rollover(0), &tag[..16]),
                        "{clear}, {len}"
                    );
                    assert_eq!(packet, plain, "{clear}, {len}");
                }
            }
        }
    }

    /// RFC 7714 sections 17.1 to 17.3.
    #[test]
    fn gcm_of_rtcp_is_that_of_the_rfc() {
        let header = "81c8000d4d617273";
        let plain = format!(
            "{header} 4e5450314e5450325254502000000 42a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
        );
        let place = Place { ssrc: 0x4d61_7273, index: 0x5d4 };
        let sealed =
            "63e94885dcdab67ca727d7662f6b7e99 7ff5c0f76c06f32dc676a5f1730d6fda 4ce09b4686303ded0bb9275b";
        let sealed = format!("{header} {sealed}");
        let tag = "c84aa45896cf4d2fc5abf87245d9eade";
        check(Suite::AeadAes128Gcm, place, &plain, 8, Behind::Index(ENCRYPTED | 0x5d4), &sealed, tag);
        let sealed =
            "d50ae4d1f5ce5d304ba297e47d470c28 2c3ece5dbffe0a50a2eaa5c1110555be 8415f658c61de0476f1b6fad";
        let sealed = format!("{header} {sealed}");
        let tag = "1d1eb30c4446839f57ff6f6cb26ac3be";
        check(Suite::AeadAes256Gcm, place, &plain, 8, Behind::Index(ENCRYPTED | 0x5d4), &sealed, tag);
        let tag = "841dd9683dd78ec92ae58790125f62b3";
        let len = hex(&plain).len();
        check(Suite::AeadAes128Gcm, place, &plain, len, Behind::Index(0x5d4), &plain, tag);
    }
}
