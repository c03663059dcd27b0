//! What a protector promises: the vectors of RFC 3711, the reference packets of libSRTP, and a receiver of our own,
//! written from the RFC with bytes where the protector has numbers.

use aes::cipher::{Array, BlockCipherEncrypt};
use proptest::prelude::*;
use sha1::Digest;

use super::*;
use crate::rtp::{Header, PayloadType, Ssrc, Timestamp};

const COUNTER_SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];

const KEY: &str = "E1F97A0D3E018BE0D64FA32C06DE4139";
const SALT: &str = "0EC675AD498AFEEBB6960B3AABE6";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn protector(suite: Suite) -> Protector {
    Protector::new(&MasterKey::new(suite, &[bytes(KEY), bytes(SALT)].concat()).unwrap())
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

fn protected(protector: &mut Protector, plain: &[u8]) -> Vec<u8> {
    let mut room = plain.to_vec();
    room.resize(plain.len() + MAX_GROWTH, 0);
    let len = protector.protect(&mut room, plain.len()).unwrap();
    room.truncate(len);
    room
}

fn protected_rtcp(protector: &mut Protector, plain: &[u8]) -> Vec<u8> {
    let mut room = plain.to_vec();
    room.resize(plain.len() + MAX_GROWTH, 0);
    let len = protector.protect_rtcp(&mut room, plain.len()).unwrap();
    room.truncate(len);
    room
}

/// RFC 3711 appendix B.3, with its long authentication key.
#[test]
fn session_keys_are_those_of_the_rfc() {
    let master = Aes128Enc::new_from_slice(&bytes(KEY)).unwrap();
    let salt = shifted(bytes(SALT).first_chunk().unwrap());
    let key = |label, len| {
        let mut key = vec![0; len];
        derive(&master, &salt, label, &mut key);
        key
    };
    assert_eq!(key(Labels::RTP.encryption, 16), bytes("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(key(Labels::RTP.salt, 14), bytes("30CBBC08863D8C85D49DB34A9AE1"));
    let authentication = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE \
                          E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25 \
                          6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(key(Labels::RTP.authentication, 94), bytes(authentication));
}

/// RFC 3711 appendix B.2: both ends of 65 282 blocks, so that a carry out of the counter's lower byte is among them.
#[test]
fn the_keystream_is_that_of_the_rfc() {
    let cipher = Aes128Enc::new_from_slice(&bytes("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
    let salt = shifted(bytes("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").first_chunk().unwrap());
    let mut stream = vec![0; 1_044_512];
    apply_keystream(&cipher, *salt, &mut stream);
    let first = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB \
                 41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream[..48], bytes(first));
    let last = "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE \
                6A2CC3787889374FBEB4C81B17BA6C44";
    assert_eq!(stream[stream.len() - 48..], bytes(last));
}

/// The packets with which libSRTP checks itself (`srtp_validate` in its `srtp_driver.c`). It calls its first SRTCP
/// packet number 1.
#[test]
fn packets_are_those_of_libsrtp() {
    let plain = bytes("800f1234decafbadcafebabe abababababababababababababababab");
    let cipher = "800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402";
    let long = bytes(&format!("{cipher} b78d6acc99ea179b8dbb"));
    assert_eq!(protected(&mut protector(Suite::AesCm128HmacSha1_80), &plain), long);
    let short = bytes(&format!("{cipher} b78d6acc"));
    assert_eq!(protected(&mut protector(Suite::AesCm128HmacSha1_32), &plain), short);

    let plain = bytes("81c8000bcafebabe abababababababababababababababab");
    let cipher = bytes("81c8000bcafebabe 7128035be487b9bdbef89041f977a5a8 80000001 993e08cd54d6c1230798");
    for suite in COUNTER_SUITES {
        let mut protector = protector(suite);
        protector.set_srtcp_index(1);
        assert_eq!(protected_rtcp(&mut protector, &plain), cipher, "{}", suite.name());
        assert_eq!(protector.srtcp_index(), Some(2));
    }
}

/// The other side: keys, keystream and tag from their definitions, block by block; the index by estimate.
struct Listener {
    suite: Suite,
    rtp: [Vec<u8>; 3],
    rtcp: [Vec<u8>; 3],
    /// Roll-over counter and highest sequence number heard.
    heard: Option<(u32, u16)>,
}

impl Listener {
    fn new(suite: Suite) -> Self {
        let key = |label, len| {
            let mut block = bytes(SALT);
            block[7] ^= label;
            block.extend([0, 0]);
            let mut key = vec![0; len];
            add_blocks(&bytes(KEY), &block, &mut key);
            key
        };
        let keys = |label| [key(label, 16), key(label + 1, 20), key(label + 2, 14)];
        Self { suite, rtp: keys(0), rtcp: keys(3), heard: None }
    }

    /// The packet and its roll-over counter, if the tag is right.
    fn hear(&mut self, packet: &[u8]) -> Option<(u32, Vec<u8>)> {
        let (packet, tag) = packet.split_at(packet.len() - self.suite.rtp_tag_len());
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let rollover = self.estimate(sequence);
        let [key, authentication, salt] = &self.rtp;
        let covered = [packet, &rollover.to_be_bytes()].concat();
        if hmac_sha1(authentication, &covered)[..tag.len()] != *tag {
            return None;
        }
        self.heard = Some((rollover, sequence));
        let mut clear = 12 + usize::from(packet[0] & 15) * 4;
        if packet[0] & 16 != 0 {
            clear += 4 + usize::from(u16::from_be_bytes([packet[clear + 2], packet[clear + 3]])) * 4;
        }
        let mut plain = packet.to_vec();
        let index = [&rollover.to_be_bytes()[..], &packet[2..4]].concat();
        add_blocks(key, &first_block(salt, &packet[8..12], &index), &mut plain[clear..]);
        Some((rollover, plain))
    }

    /// RFC 3711 section 3.3.1 and appendix A.
    fn estimate(&self, sequence: u16) -> u32 {
        let Some((rollover, highest)) = self.heard else { return 0 };
        let (now, before) = (i32::from(sequence), i32::from(highest));
        if before < 32_768 {
            if now - before > 32_768 { rollover.wrapping_sub(1) } else { rollover }
        } else if before - 32_768 > now {
            rollover.wrapping_add(1)
        } else {
            rollover
        }
    }

    /// The compound and its index, if the tag is right and the E bit is set.
    fn hear_rtcp(&self, packet: &[u8]) -> Option<(u32, Vec<u8>)> {
        let (covered, tag) = packet.split_at(packet.len() - 10);
        let [key, authentication, salt] = &self.rtcp;
        if hmac_sha1(authentication, covered)[..10] != *tag {
            return None;
        }
        let (packet, word) = covered.split_at(covered.len() - 4);
        if word[0] & 0x80 == 0 {
            return None;
        }
        let index = u32::from_be_bytes([word[0] & 0x7f, word[1], word[2], word[3]]);
        let mut plain = packet.to_vec();
        let six = [&[0, 0][..], &index.to_be_bytes()].concat();
        add_blocks(key, &first_block(salt, &packet[4..8], &six), &mut plain[8..]);
        Some((index, plain))
    }
}

/// Salt, SSRC and index laid over each other at their places in a block (RFC 3711 section 4.1.1).
fn first_block(salt: &[u8], ssrc: &[u8], index: &[u8]) -> Vec<u8> {
    let mut block = [salt, &[0, 0]].concat();
    block[4..8].iter_mut().zip(ssrc).for_each(|(byte, ssrc)| *byte ^= ssrc);
    block[8..14].iter_mut().zip(index).for_each(|(byte, index)| *byte ^= index);
    block
}

fn add_blocks(key: &[u8], first: &[u8], into: &mut [u8]) {
    let cipher = Aes128Enc::new_from_slice(key).unwrap();
    for (number, chunk) in into.chunks_mut(16).enumerate() {
        let mut block = [0; 16];
        block.copy_from_slice(first);
        block[14..].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        let mut block = Array::from(block);
        cipher.encrypt_block(&mut block);
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
    prop::sample::select(&COUNTER_SUITES[..])
}

proptest! {
    /// Gaps up to what a receiver can follow, so that the sequence comes round several times.
    #[test]
    fn a_listener_hears_what_was_sent_through_gaps_and_rollovers(
        suite in any_suite(),
        start in 0u16..32_768,
        steps in prop::collection::vec((1u16..32_768, prop::collection::vec(any::<u8>(), 0..200)), 1..40),
    ) {
        let (mut protector, mut listener) = (protector(suite), Listener::new(suite));
        let mut position = u64::from(start);
        for (gap, payload) in steps {
            let (rollover, sequence) = ((position >> 16) as u32, (position & 0xffff) as u16);
            prop_assert_eq!(protector.rollover_counter(SeqNo(sequence)), Some(rollover));
            let plain = packet(sequence, &payload);
            let sent = protected(&mut protector, &plain);
            prop_assert_eq!(sent.len(), plain.len() + suite.rtp_tag_len());
            prop_assert_eq!(&sent[..HEADER_LEN], &plain[..HEADER_LEN]);
            prop_assert_eq!(listener.hear(&sent), Some((rollover, plain)));
            position += u64::from(gap);
        }
    }

    /// Contributing sources and an extension stay readable; a payload of any length, none included, is encrypted.
    #[test]
    fn every_header_stays_readable(
        suite in any_suite(), sources in 0u8..16, extension in prop::option::of(0u8..20), len in 0usize..1300,
        sequence: u16,
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
        let sent = protected(&mut protector(suite), &plain);
        prop_assert_eq!(&sent[..clear], &plain[..clear]);
        prop_assert!(len < 16 || sent[clear..plain.len()] != plain[clear..]);
        prop_assert_eq!(Listener::new(suite).hear(&sent), Some((0, plain)));
    }

    #[test]
    fn a_listener_reads_reports_and_their_index(
        suite in any_suite(), words in 0usize..80, index in 0..=LAST_SRTCP_INDEX,
    ) {
        let mut plain = bytes("80c80006cafebabe");
        plain.resize(8 + words * 4, 9);
        let mut protector = protector(suite);
        protector.set_srtcp_index(index);
        let sent = protected_rtcp(&mut protector, &plain);
        prop_assert_eq!(sent.len(), plain.len() + MAX_GROWTH);
        prop_assert_eq!(Listener::new(suite).hear_rtcp(&sent), Some((index, plain)));
        prop_assert_eq!(protector.srtcp_index(), (index < LAST_SRTCP_INDEX).then_some(index + 1));
    }

    #[test]
    fn hostile_bytes_are_protected_or_refused_but_never_panic(
        suite in any_suite(), mut room in prop::collection::vec(any::<u8>(), 0..100), len in 0usize..120,
    ) {
        let before = room.clone();
        let mut protector = protector(suite);
        if protector.protect(&mut room, len).is_err() {
            prop_assert_eq!(&room, &before);
        }
        room.clone_from(&before);
        if protector.protect_rtcp(&mut room, len).is_err() {
            prop_assert_eq!((&room, protector.srtcp_index()), (&before, Some(0)));
        }
    }
}

/// Every bit of a packet, its tag included.
#[test]
fn a_flipped_bit_is_noticed() {
    for suite in COUNTER_SUITES {
        let rtp = protected(&mut protector(suite), &packet(7, &[1; 20]));
        let rtcp = protected_rtcp(&mut protector(suite), &bytes("80c90001cafebabe"));
        assert!(Listener::new(suite).hear(&rtp).is_some() && Listener::new(suite).hear_rtcp(&rtcp).is_some());
        for bit in 0..rtp.len() * 8 {
            let mut spoilt = rtp.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Listener::new(suite).hear(&spoilt), None, "bit {bit}");
        }
        for bit in 0..rtcp.len() * 8 {
            let mut spoilt = rtcp.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Listener::new(suite).hear_rtcp(&spoilt), None, "bit {bit}");
        }
    }
}

#[test]
fn a_counter_goes_up_once_where_the_sequence_comes_round() {
    let mut protector = protector(Suite::AesCm128HmacSha1_80);
    let counters: Vec<_> = [65_534, 65_535, 0, 0, 1, 65_535, 3]
        .map(|sequence| {
            protected(&mut protector, &packet(sequence, &[0; 10]));
            protector.rollover_counter(SeqNo(sequence)).unwrap()
        })
        .into();
    assert_eq!(counters, [0, 0, 1, 1, 1, 1, 2]);
}

/// A packet that was prepared and never sent is prepared once more, also at the very place where the counter goes up.
#[test]
fn the_same_packet_again_comes_out_the_same() {
    let mut protector = protector(Suite::AesCm128HmacSha1_80);
    protected(&mut protector, &packet(65_535, &[0; 10]));
    let first = protected(&mut protector, &packet(0, &[0; 10]));
    assert_eq!(protected(&mut protector, &packet(0, &[0; 10])), first);
}

#[test]
fn a_stream_that_is_handed_over_goes_on_where_it_was() {
    let suite = Suite::AesCm128HmacSha1_80;
    let (mut before, mut after) = (protector(suite), protector(suite));
    before.set_rollover_counter(41);
    protected(&mut before, &packet(65_535, &[0; 10]));
    after.set_rollover_counter(before.rollover_counter(SeqNo(0)).unwrap());
    let next = packet(0, &[6; 30]);
    assert_eq!(protected(&mut after, &next), protected(&mut before, &next));
    assert_eq!(after.rollover_counter(SeqNo(1)), Some(42));
}

#[test]
fn a_key_protects_no_more_than_it_may() {
    let mut protector = protector(Suite::AesCm128HmacSha1_32);
    protector.set_rollover_counter(u32::MAX);
    protected(&mut protector, &packet(65_535, &[0; 10]));
    let mut room = packet(0, &[0; 10]);
    let len = room.len();
    room.resize(len + MAX_GROWTH, 0);
    assert_eq!(protector.protect(&mut room, len), Err(ProtectError::Spent));
    protector.set_srtcp_index(u32::MAX);
    assert_eq!(protector.srtcp_index(), None);
    assert_eq!(protector.protect_rtcp(&mut room, len), Err(ProtectError::Spent));
}

#[test]
fn a_packet_that_cannot_be_protected_says_why() {
    let mut protector = protector(Suite::AesCm128HmacSha1_80);
    let mut room = packet(0, &[0; 19]);
    let found = room.len();
    let no_room = |expected| Err(ProtectError::NoRoom { expected, found });
    assert_eq!(protector.protect(&mut room, 22), no_room(32));
    assert_eq!(protector.protect(&mut room, usize::MAX), Err(ProtectError::Malformed));
    assert_eq!(protector.protect(&mut room, 11), Err(ProtectError::Malformed));
    assert_eq!(protector.protect_rtcp(&mut room, 18), no_room(32));
    assert_eq!(protector.protect_rtcp(&mut room, 7), Err(ProtectError::Malformed));
    assert_eq!(room, packet(0, &[0; 19]));
}

/// The whole text, so that a field added to it is seen.
#[test]
fn no_key_is_shown() {
    let shown = format!("{:?}", protector(Suite::AesCm128HmacSha1_80));
    assert_eq!(
        shown,
        "Protector { suite: AesCm128HmacSha1_80, rollover_counter: 0, last: None, srtcp_index: 0, .. }"
    );
}

#[test]
fn protecting_allocates_nothing() {
    let mut protector = protector(Suite::AesCm128HmacSha1_80);
    let mut room = packet(0, &[0; 80 + MAX_GROWTH]);
    let len = room.len() - MAX_GROWTH;
    let measured = allocation_counter::measure(|| {
        protector.protect(&mut room, len).unwrap();
        protector.protect_rtcp(&mut room, len).unwrap();
    });
    assert_eq!(measured.count_total, 0);
}
