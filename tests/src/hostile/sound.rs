//! Hostile recordings: no panic, nothing beyond the limits, and the same sound whole and in pieces.

use std::cell::Cell;

use holdmusic_codecs::{DecodeError, DecodeLimits, Recording, StreamDecoder, decode_mono, wav as reader};

/// What each format begins with; the first is nothing.
const MAGIC: [&[u8]; 8] = [
    b"",
    b"fLaC\0\0\0\x22",
    b"OggS\0\x02",
    b"\xFF\xFB\x90\x64",
    b"FORM\0\0\x10\0AIFF",
    b"FORM\0\0\x10\0AIFC",
    b"caff\0\x01\0\0desc",
    b"\0\0\0\x18ftypM4A ",
];

/// Longer inputs are decoded once only: a fuzzer wants many of them.
const DECODED_TWICE: usize = 4_096;

fn limits() -> DecodeLimits {
    DecodeLimits { max_seconds: 5, max_samples: 500_000, ..DecodeLimits::default() }
}

/// Any bytes behind the first letters of each format that symphonia reads for us, and as they are. The first byte
/// chooses the letters.
pub fn decode(input: &[u8]) -> bool {
    let Some((&choice, rest)) = input.split_first() else { return false };
    let bytes = [MAGIC[usize::from(choice) % MAGIC.len()], rest].concat();
    let asked = Cell::new(0_u32);
    let patience = || {
        asked.set(asked.get() + 1);
        asked.get() < 20_000
    };
    let mono = decode_mono(&bytes, &limits(), &patience);
    check(&mono);
    if bytes.len() < DECODED_TWICE {
        if let Ok(all) = holdmusic_codecs::decode(&bytes, &limits()) {
            assert!(all.pcm.samples().len() as u64 <= limits().max_samples);
        }
        in_pieces(&bytes, 97, &decode_mono(&bytes, &limits(), &|| true));
    }
    mono.is_ok()
}

/// Any bytes to our own WAV reader. The first byte is the length of the pieces.
pub fn wav(input: &[u8]) -> bool {
    let Some((&pieces, bytes)) = input.split_first() else { return false };
    if let Ok(sound) = reader::read(bytes, &limits()) {
        assert!(!sound.pcm.is_empty() && sound.pcm.samples().len() <= bytes.len());
        assert!(sound.pcm.samples().iter().all(|sample| sample.is_finite()));
        assert!(
            sound.loop_points.is_none_or(|points| points.start < points.end && points.end <= sound.pcm.len())
        );
    }
    // Other kinds have a target of their own.
    if !reader::is_wav(bytes) {
        return false;
    }
    let whole = decode_mono(bytes, &limits(), &|| true);
    check(&whole);
    in_pieces(bytes, usize::from(pieces) * 3 + 1, &whole);
    whole.is_ok()
}

/// Any packets in an Ogg Opus stream that is well-formed around them, checksums included, so that they reach libopus. The
/// first byte is the channel count, the second the pre-skip; then each packet has its length in front of it.
pub fn opus_ogg(input: &[u8]) -> bool {
    let [channels, skip, packets @ ..] = input else { return false };
    let mut head = b"OpusHead\x01".to_vec();
    head.extend([channels % 4, *skip, 0, 0x80, 0xBB, 0, 0, 0, 0, 0]);
    let mut file = page(2, 0, 0, &head);
    file.extend(page(0, 0, 1, b"OpusTags\0\0\0\0\0\0\0\0"));
    let (mut rest, mut number) = (packets, 2_u32);
    while let Some((&length, behind)) = rest.split_first() {
        let (packet, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let flags = if rest.is_empty() { 4 } else { 0 };
        file.extend(page(flags, u64::from(number) * 960, number, packet));
        number += 1;
    }
    let wrapped = decode_mono(&file, &limits(), &|| true);
    check(&wrapped);
    // And as they are, checksums wrong or right.
    let bare = decode_mono(packets, &limits(), &|| true);
    check(&bare);
    wrapped.is_ok() || bare.is_ok()
}

/// What holds for every recording that was read.
fn check(mono: &Result<Recording, DecodeError>) {
    let Ok(recording) = mono else { return };
    assert!(recording.pcm.len() as u64 * u64::from(recording.channels) <= limits().max_samples);
    assert!(recording.pcm.seconds() <= f64::from(limits().max_seconds));
    assert!(recording.pcm.samples().iter().all(|sample| sample.is_finite()));
}

/// A recording that comes in pieces is the same in the end, and began like that.
fn in_pieces(bytes: &[u8], piece: usize, whole: &Result<Recording, DecodeError>) {
    let mut stream = StreamDecoder::new(&limits());
    let mut taken = Vec::new();
    for piece in bytes.chunks(piece) {
        if stream.push(piece).is_err() {
            assert!(whole.is_err());
            return;
        }
        taken.extend(stream.take(usize::MAX));
    }
    assert_eq!(stream.finish(&|| true), *whole);
    if let Ok(whole) = whole {
        assert!(whole.pcm.samples().starts_with(&taken));
    }
}

/// One Ogg page of one whole packet (RFC 3533 section 6).
fn page(flags: u8, position: u64, number: u32, packet: &[u8]) -> Vec<u8> {
    let mut lacing = vec![255; packet.len() / 255];
    lacing.push(u8::try_from(packet.len() % 255).expect("below 255"));
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(position.to_le_bytes());
    page.extend(1_u32.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    page.push(u8::try_from(lacing.len()).expect("a packet of 255 bytes has two"));
    page.extend(lacing);
    page.extend(packet);
    let sum = page.iter().fold(0_u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| {
            sum << 1 ^ if sum >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    });
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}
