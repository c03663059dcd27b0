//! What a protector promises: the reference packets of libSRTP, and receivers that are not ours or written once more: for
//! counter mode from the RFC with bytes where the protector has numbers, for GCM with another implementation of it.

use aes::{
    Aes128Enc,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

use super::*;
use crate::{
    keys::hex,
    rtp::{Header, PayloadType, SeqNo, Ssrc, Timestamp},
    unprotect::{UnprotectError, Unprotector},
};

const KEY: &str = "E1F97A0D3E018BE0D64FA32C06DE4139";
const SALT: &str = "0EC675AD498AFEEBB6960B3AABE6";

/// A key for each suite: for counter mode that of libSRTP.
fn master(suite: Suite) -> MasterKey {
    let bytes =
        if suite.is_aead() { (1..).take(suite.master_len()).collect() } else { hex(&format!("{KEY}{SALT}")) };
    MasterKey::new(suite, &bytes).unwrap()
}

fn protector(suite: Suite) -> Protector {
    Protector::new(&master(suite), None)
}

fn unprotector(suite: Suite) -> Unprotector {
    Unprotector::new(&master(suite), None)
}

fn packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        marker: false,
        payload_type: PayloadType::new(111).unwrap(),
        sequence: SeqNo(sequence),
        timestamp: Timestamp(0xdeca_fbad),
        ssrc: Ssrc(0xcafe_babe),
    };
    let mut packet = vec![0; HEADER_LEN];
    header.write(packet.first_chunk_mut().unwrap());
    packet.extend_from_slice(payload);
    packet
}

fn protected(protector: &Protector, rollover_counter: u32, plain: &[u8]) -> Vec<u8> {
    let mut room = plain.to_vec();
    room.resize(plain.len() + MAX_GROWTH, 0);
    let len = protector.protect(&mut room, plain.len(), rollover_counter).unwrap();
    room.truncate(len);
    room
}

fn protected_rtcp(protector: &Protector, index: u32, plain: &[u8]) -> Vec<u8> {
    let mut room = plain.to_vec();
    room.resize(plain.len() + MAX_GROWTH, 0);
    let len = protector.protect_rtcp(&mut room, plain.len(), index).unwrap();
    room.truncate(len);
    room
}

fn unprotected(unprotector: &mut Unprotector, packet: &[u8]) -> Result<(u64, Vec<u8>), UnprotectError> {
    let mut packet = packet.to_vec();
    let before = packet.clone();
    let read = unprotector.unprotect(&mut packet);
    if read.is_err() {
        assert_eq!(packet, before);
    }
    read.map(|(len, index)| (index, packet[..len].to_vec()))
}

fn unprotected_rtcp(unprotector: &mut Unprotector, packet: &[u8]) -> Result<(u32, Vec<u8>), UnprotectError> {
    let mut packet = packet.to_vec();
    let before = packet.clone();
    let read = unprotector.unprotect_rtcp(&mut packet);
    if read.is_err() {
        assert_eq!(packet, before);
    }
    read.map(|(len, index)| (index, packet[..len].to_vec()))
}

/// The packets with which libSRTP checks itself (`srtp_validate` and `srtp_validate_gcm` in its `srtp_driver.c`). It calls
/// its first SRTCP packet number 1.
#[test]
fn packets_are_those_of_libsrtp() {
    let plain = hex("800f1234decafbadcafebabe abababababababababababababababab");
    let cipher = "800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402";
    let long = hex(&format!("{cipher} b78d6acc99ea179b8dbb"));
    assert_eq!(protected(&protector(Suite::AesCm128HmacSha1_80), 0, &plain), long);
    let short = hex(&format!("{cipher} b78d6acc"));
    assert_eq!(protected(&protector(Suite::AesCm128HmacSha1_32), 0, &plain), short);
    let key = hex("000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab");
    let gcm = Protector::new(&MasterKey::new(Suite::AeadAes128Gcm, &key).unwrap(), None);
    let cipher = "800f1234decafbadcafebabe c5002ede04cfdd2eb91159e0880aa06e d2976826f796b201df3131a127e8a392";
    assert_eq!(protected(&gcm, 0, &plain), hex(cipher));

    let plain = hex("81c8000bcafebabe abababababababababababababababab");
    let cipher = hex("81c8000bcafebabe 7128035be487b9bdbef89041f977a5a8 80000001 993e08cd54d6c1230798");
    for suite in [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32] {
        assert_eq!(protected_rtcp(&protector(suite), 1, &plain), cipher, "{}", suite.name());
    }
    let cipher =
        "81c8000bcafebabe c98b8b5df0392a55852b6c21ac8e7025 c52c6fbea2b3b446ea31123ba88ce61e 80000001";
    assert_eq!(protected_rtcp(&gcm, 1, &plain), hex(cipher));
}

/// The other side: keys, keystream and tag from their definitions, or from another implementation.
struct Listener {
    suite: Suite,
    /// For encryption, for authentication, and the salt.
    rtp: [Vec<u8>; 3],
    rtcp: [Vec<u8>; 3],
}

impl Listener {
    fn new(suite: Suite) -> Self {
        let master = master(suite);
        let key = |label, len| {
            let mut block = master.salt().to_vec();
            block.resize(16, 0);
            block[7] ^= label;
            let mut key = vec![0; len];
            add_blocks(master.key(), &block, &mut key);
            key
        };
        let (key_len, salt_len) = (suite.master_key_len(), suite.master_salt_len());
        let keys = |label| [key(label, key_len), key(label + 1, 20), key(label + 2, salt_len)];
        Self { suite, rtp: keys(0), rtcp: keys(3) }
    }

    /// The packet that `packet` was with this roll-over counter, if the tag is right.
    fn hear(&self, packet: &[u8], rollover: u32) -> Option<Vec<u8>> {
        let [key, authentication, salt] = &self.rtp;
        let mut clear = 12 + usize::from(packet[0] & 15) * 4;
        if packet[0] & 16 != 0 {
            clear += 4 + usize::from(u16::from_be_bytes([packet[clear + 2], packet[clear + 3]])) * 4;
        }
        let index = [&rollover.to_be_bytes()[..], &packet[2..4]].concat();
        if self.suite.is_aead() {
            let (header, text) = packet.split_at(clear);
            return open(key, salt, &packet[8..12], &index, header, text)
                .map(|text| [header, &text].concat());
        }
        let (packet, tag) = packet.split_at(packet.len() - self.suite.rtp_tag_len());
        let covered = [packet, &rollover.to_be_bytes()].concat();
        if hmac_sha1(authentication, &covered)[..tag.len()] != *tag {
            return None;
        }
        let mut plain = packet.to_vec();
        add_blocks(key, &first_block(salt, &packet[8..12], &index), &mut plain[clear..]);
        Some(plain)
    }

    /// The compound and its index, if the tag is right and the E bit is set.
    fn hear_rtcp(&self, packet: &[u8]) -> Option<(u32, Vec<u8>)> {
        let [key, authentication, salt] = &self.rtcp;
        let index_of = |word: &[u8]| {
            let index = u32::from_be_bytes([word[0] & 0x7f, word[1], word[2], word[3]]);
            (word[0] & 0x80 != 0).then(|| (index, [&[0, 0][..], &index.to_be_bytes()].concat()))
        };
        if self.suite.is_aead() {
            let (header, rest) = packet.split_at(8);
            let (text, word) = rest.split_at(rest.len() - 4);
            let (index, six) = index_of(word)?;
            let header = [header, word].concat();
            let text = open(key, salt, &packet[4..8], &six, &header, text)?;
            return Some((index, [&packet[..8], &text].concat()));
        }
        let (covered, tag) = packet.split_at(packet.len() - 10);
        if hmac_sha1(authentication, covered)[..10] != *tag {
            return None;
        }
        let (packet, word) = covered.split_at(covered.len() - 4);
        let (index, six) = index_of(word)?;
        let mut plain = packet.to_vec();
        add_blocks(key, &first_block(salt, &packet[4..8], &six), &mut plain[8..]);
        Some((index, plain))
    }
}

/// GCM of another implementation; the nonce byte by byte (RFC 7714 section 8.1).
fn open(key: &[u8], salt: &[u8], ssrc: &[u8], index: &[u8], header: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let mut nonce = [&[0, 0], ssrc, index].concat();
    nonce.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
    let mut text = text.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
    let opened = key.open_in_place(nonce, Aad::from(header), &mut text).ok()?;
    Some(opened.to_vec())
}

/// Salt, SSRC and index laid over each other at their places in a block (RFC 3711 section 4.1.1).
fn first_block(salt: &[u8], ssrc: &[u8], index: &[u8]) -> Vec<u8> {
    let mut block = [salt, &[0, 0]].concat();
    block[4..8].iter_mut().zip(ssrc).for_each(|(byte, ssrc)| *byte ^= ssrc);
    block[8..14].iter_mut().zip(index).for_each(|(byte, index)| *byte ^= index);
    block
}

fn add_blocks(key: &[u8], first: &[u8], into: &mut [u8]) {
    for (number, chunk) in into.chunks_mut(16).enumerate() {
        let mut block = [0; 16];
        block.copy_from_slice(first);
        block[14..].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        let mut block = Array::from(block);
        match key.len() {
            16 => Aes128Enc::new_from_slice(key).unwrap().encrypt_block(&mut block),
            _ => aes::Aes256Enc::new_from_slice(key).unwrap().encrypt_block(&mut block),
        }
        chunk.iter_mut().zip(block).for_each(|(byte, stream)| *byte ^= stream);
    }
}

/// RFC 2104.
fn hmac_sha1(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> {
        (0..64).map(|place| key.get(place).copied().unwrap_or_default() ^ with).collect()
    };
    let inner = Sha1::digest([pad(0x36), text.to_vec()].concat());
    Sha1::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

fn any_suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(&Suite::ALL[..])
}

fn any_mki() -> impl Strategy<Value = Option<Mki>> {
    prop::option::of(
        (0u8..=255, 1usize..=MAX_MKI_LEN).prop_map(|(value, len)| Mki::new(value.into(), len).unwrap()),
    )
}

proptest! {
    /// Gaps up to what a receiver can follow, so that the sequence comes round several times.
    #[test]
    fn an_unprotector_hears_what_was_sent_through_gaps_and_rollovers(
        suite in any_suite(), mki in any_mki(),
        start in 0u16..32_768,
        steps in prop::collection::vec((1u16..32_768, prop::collection::vec(any::<u8>(), 0..200)), 1..40),
    ) {
        let protector = Protector::new(&master(suite), mki.clone());
        let mki_len = mki.as_ref().map_or(0, |mki| mki.bytes().len());
        let mut unprotector = Unprotector::new(&master(suite), mki);
        let mut position = u64::from(start);
        for (gap, payload) in steps {
            let (rollover, sequence) = ((position >> 16) as u32, (position & 0xffff) as u16);
            let plain = packet(sequence, &payload);
            let sent = protected(&protector, rollover, &plain);
            prop_assert_eq!(sent.len(), plain.len() + suite.rtp_tag_len() + mki_len);
            prop_assert_eq!(&sent[..HEADER_LEN], &plain[..HEADER_LEN]);
            prop_assert_eq!(unprotected(&mut unprotector, &sent), Ok((position, plain)));
            prop_assert_eq!(unprotected(&mut unprotector, &sent), Err(UnprotectError::Replayed));
            position += u64::from(gap);
        }
    }

    /// Contributing sources and an extension stay readable; a payload of any length, none included, is encrypted.
    #[test]
    fn others_read_what_we_protect_and_we_too(
        suite in any_suite(), sources in 0u8..16, extension in prop::option::of(0u8..20), len in 0usize..1300,
        sequence: u16, rollover: u32,
    ) {
        let mut plain = packet(sequence, &[]);
        plain[0] |= sources;
        plain.resize(HEADER_LEN + usize::from(sources) * 4, 3);
        if let Some(words) = extension {
            plain[0] |= 0x10;
            plain.extend([0xbe, 0xde, 0, words]);
            plain.resize(plain.len() + usize::from(words) * 4, 4);
        }
        let clear = plain.len();
        plain.resize(clear + len, 5);
        let sent = protected(&protector(suite), rollover, &plain);
        prop_assert_eq!(&sent[..clear], &plain[..clear]);
        prop_assert!(len < 16 || sent[clear..plain.len()] != plain[clear..]);
        prop_assert_eq!(Listener::new(suite).hear(&sent, rollover), Some(plain.clone()));
        let mut unprotector = unprotector(suite);
        unprotector.set_rollover_counter(rollover);
        let index = u64::from(rollover) << 16 | u64::from(sequence);
        prop_assert_eq!(unprotected(&mut unprotector, &sent), Ok((index, plain)));
    }

    #[test]
    fn others_read_reports_and_their_index_and_we_too(
        suite in any_suite(), mki in any_mki(), words in 0usize..80, index in 0..=LAST_SRTCP_INDEX,
    ) {
        let mut plain = hex("80c80006cafebabe");
        plain.resize(8 + words * 4, 9);
        let sent = protected_rtcp(&protector(suite), index, &plain);
        prop_assert_eq!(sent.len(), plain.len() + INDEX_LEN + suite.rtcp_tag_len());
        prop_assert_eq!(Listener::new(suite).hear_rtcp(&sent), Some((index, plain.clone())));
        let sent = protected_rtcp(&Protector::new(&master(suite), mki.clone()), index, &plain);
        let mut unprotector = Unprotector::new(&master(suite), mki);
        prop_assert_eq!(unprotected_rtcp(&mut unprotector, &sent), Ok((index, plain)));
        prop_assert_eq!(unprotected_rtcp(&mut unprotector, &sent), Err(UnprotectError::Replayed));
    }

    #[test]
    fn hostile_bytes_are_protected_or_refused_but_never_panic(
        suite in any_suite(), mut room in prop::collection::vec(any::<u8>(), 0..400), len in 0usize..420,
    ) {
        let before = room.clone();
        let protector = protector(suite);
        if protector.protect(&mut room, len, 7).is_err() {
            prop_assert_eq!(&room, &before);
        }
        room.clone_from(&before);
        if protector.protect_rtcp(&mut room, len, 7).is_err() {
            prop_assert_eq!(&room, &before);
        }
    }

    #[test]
    fn hostile_bytes_are_never_believed(
        suite in any_suite(), mki in any_mki(), packet in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut unprotector = Unprotector::new(&master(suite), mki);
        prop_assert!(unprotected(&mut unprotector, &packet).is_err());
        prop_assert!(unprotected_rtcp(&mut unprotector, &packet).is_err());
    }
}

/// Every bit of a packet, its tag and its MKI included.
#[test]
fn a_flipped_bit_is_noticed() {
    for (suite, mki) in Suite::ALL.into_iter().flat_map(|suite| [(suite, None), (suite, Mki::new(77, 3))]) {
        let protector = Protector::new(&master(suite), mki.clone());
        let mut unprotector = Unprotector::new(&master(suite), mki);
        let rtp = protected(&protector, 0, &packet(7, &[1; 20]));
        let rtcp = protected_rtcp(&protector, 5, &hex("80c90001cafebabe"));
        for bit in 0..rtp.len() * 8 {
            let mut spoilt = rtp.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotected(&mut unprotector, &spoilt).is_err(), "bit {bit}");
        }
        for bit in 0..rtcp.len() * 8 {
            let mut spoilt = rtcp.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotected_rtcp(&mut unprotector, &spoilt).is_err(), "bit {bit}");
        }
        assert!(
            unprotected(&mut unprotector, &rtp).is_ok() && unprotected_rtcp(&mut unprotector, &rtcp).is_ok()
        );
    }
}

/// With another key, another roll-over counter or without the MKI nothing is believed, and nothing is remembered.
#[test]
fn a_packet_of_another_session_is_refused() {
    for suite in Suite::ALL {
        let sent = protected(&protector(suite), 1, &packet(7, &[1; 20]));
        let other = MasterKey::new(suite, &vec![9; suite.master_len()]).unwrap();
        let refused = Err(UnprotectError::NotAuthentic);
        assert_eq!(unprotected(&mut Unprotector::new(&other, None), &sent), refused);
        assert_eq!(unprotected(&mut Unprotector::new(&master(suite), Mki::new(1, 1)), &sent), refused);
        let mut unprotector = unprotector(suite);
        assert_eq!(unprotected(&mut unprotector, &sent), refused);
        unprotector.set_rollover_counter(1);
        assert!(unprotected(&mut unprotector, &sent).is_ok());
    }
}

/// Many sources that have the key: the one heard longest ago is forgotten, so memory is bounded.
#[test]
fn many_sources_take_no_more_room() {
    let suite = Suite::AeadAes128Gcm;
    let (protector, mut unprotector) = (protector(suite), unprotector(suite));
    for round in 0..2u32 {
        for source in 0..1000u32 {
            let mut plain = hex("80c90001cafebabe");
            plain[4..8].copy_from_slice(&source.to_be_bytes());
            let sent = protected_rtcp(&protector, round, &plain);
            assert_eq!(unprotected_rtcp(&mut unprotector, &sent), Ok((round, plain)));
            assert_eq!(unprotected_rtcp(&mut unprotector, &sent), Err(UnprotectError::Replayed));
        }
    }
}

/// A packet that was prepared and never sent is prepared once more.
#[test]
fn the_same_packet_again_comes_out_the_same() {
    for suite in Suite::ALL {
        let protector = protector(suite);
        let first = protected(&protector, 1, &packet(0, &[0; 10]));
        assert_eq!(protected(&protector, 1, &packet(0, &[0; 10])), first);
    }
}

#[test]
fn a_key_protects_no_more_than_it_may() {
    for suite in Suite::ALL {
        let mut room = hex("80c90001cafebabe");
        room.resize(8 + MAX_GROWTH, 0);
        let before = room.clone();
        let spent = Err(ProtectError::Spent);
        assert_eq!(protector(suite).protect_rtcp(&mut room, 8, LAST_SRTCP_INDEX + 1), spent);
        assert_eq!(room, before);
    }
}

#[test]
fn a_packet_that_cannot_be_protected_says_why() {
    let protector = protector(Suite::AesCm128HmacSha1_80);
    let mut room = packet(0, &[0; 19]);
    let found = room.len();
    let no_room = |expected| Err(ProtectError::NoRoom { expected, found });
    assert_eq!(protector.protect(&mut room, 22, 0), no_room(32));
    assert_eq!(protector.protect(&mut room, usize::MAX, 0), Err(ProtectError::Malformed));
    assert_eq!(protector.protect(&mut room, 11, 0), Err(ProtectError::Malformed));
    assert_eq!(protector.protect_rtcp(&mut room, 18, 0), no_room(32));
    assert_eq!(protector.protect_rtcp(&mut room, 7, 0), Err(ProtectError::Malformed));
    assert_eq!(room, packet(0, &[0; 19]));
}

/// The whole text, so that a field added to it is seen.
#[test]
fn no_key_is_shown() {
    let shown = format!("{:?}", protector(Suite::AesCm128HmacSha1_80));
    assert_eq!(shown, "Protector { suite: AesCm128HmacSha1_80, .. }");
    let shown = format!("{:?}", unprotector(Suite::AeadAes256Gcm));
    assert_eq!(shown, "Unprotector { suite: AeadAes256Gcm, .. }");
}

#[test]
fn protecting_allocates_nothing() {
    for suite in Suite::ALL {
        let (protector, mut unprotector) = (protector(suite), unprotector(suite));
        let mut room = packet(0, &[0; 80 + MAX_GROWTH]);
        let len = room.len() - MAX_GROWTH;
        let measured = allocation_counter::measure(|| {
            let grown = protector.protect(&mut room, len, 0).unwrap();
            unprotector.unprotect(&mut room[..grown]).unwrap();
            let grown = protector.protect_rtcp(&mut room, len, 0).unwrap();
            unprotector.unprotect_rtcp(&mut room[..grown]).unwrap();
        });
        assert_eq!(measured.count_total, 0);
    }
}
