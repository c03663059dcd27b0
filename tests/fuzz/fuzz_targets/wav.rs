//! Any bytes to our own WAV reader, whole and in pieces: no panic, nothing beyond the limits, and the same sound both
//! ways. The first byte is the length of the pieces.
#![no_main]

use holdmusic_codecs::{DecodeLimits, StreamDecoder, decode_mono, wav};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    let Some((&pieces, bytes)) = input.split_first() else { return };
    let limits = DecodeLimits { max_seconds: 5, max_samples: 500_000, ..DecodeLimits::default() };
    if let Ok(sound) = wav::read(bytes, &limits) {
        assert!(!sound.pcm.is_empty() && sound.pcm.samples().len() <= bytes.len());
        assert!(sound.pcm.samples().iter().all(|sample| sample.is_finite()));
        assert!(
            sound.loop_points.is_none_or(|points| points.start < points.end && points.end <= sound.pcm.len())
        );
    }
    // Other kinds have a target of their own.
    if !wav::is_wav(bytes) {
        return;
    }
    let whole = decode_mono(bytes, &limits, &|| true);
    let mut stream = StreamDecoder::new(&limits);
    let mut taken = Vec::new();
    for piece in bytes.chunks(usize::from(pieces) * 3 + 1) {
        if stream.push(piece).is_err() {
            assert!(whole.is_err());
            return;
        }
        taken.extend(stream.take(usize::MAX));
    }
    assert_eq!(stream.finish(&|| true), whole);
    if let Ok(whole) = whole {
        assert!(whole.pcm.samples().starts_with(&taken));
    }
});
