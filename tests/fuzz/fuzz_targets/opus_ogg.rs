//! Any packets in an Ogg Opus stream that is well-formed around them, checksums included, so that the fuzzer reaches
//! libopus. The first byte of the input is the channel count, the second the pre-skip; then each packet has its length
//! in front of it.
#![no_main]

use holdmusic_codecs::{DecodeLimits, decode_mono};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    let [channels, skip, packets @ ..] = input else { return };
    let mut head = b"OpusHead\x01".to_vec();
    head.extend([channels % 4, *skip, 0, 0x80, 0xBB, 0, 0, 0, 0, 0]);
    let mut file = page(2, 0, 0, &[&head]);
    file.extend(page(0, 0, 1, &[b"OpusTags\0\0\0\0\0\0\0\0"]));
    let (mut rest, mut number) = (packets, 2u32);
    while let Some((&length, behind)) = rest.split_first() {
        let (packet, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let flags = if rest.is_empty() { 4 } else { 0 };
        file.extend(page(flags, u64::from(number) * 960, number, &[packet]));
        number += 1;
    }
    let limits = DecodeLimits { max_seconds: 5, max_samples: 500_000, ..DecodeLimits::default() };
    if let Ok(recording) = decode_mono(&file, &limits, &|| true) {
        assert!(recording.pcm.seconds() <= 5.0);
        assert!(recording.pcm.samples().iter().all(|sample| sample.is_finite()));
    }
    // And as they are, checksums wrong or right.
    let _ = decode_mono(packets, &limits, &|| true);
});

/// One Ogg page of whole packets (RFC 3533 section 6).
fn page(flags: u8, position: u64, number: u32, packets: &[&[u8]]) -> Vec<u8> {
    let mut lacing = Vec::new();
    for packet in packets {
        lacing.extend(std::iter::repeat_n(255u8, packet.len() / 255));
        lacing.push((packet.len() % 255) as u8);
    }
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(position.to_le_bytes());
    page.extend(1u32.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    page.push(lacing.len() as u8);
    page.extend(lacing);
    packets.iter().for_each(|packet| page.extend_from_slice(packet));
    let sum = page.iter().fold(0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| {
            sum << 1 ^ if sum >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    });
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}
