//! Any bytes behind the first letters of each format that symphonia reads for us, and as they are: no panic and
//! nothing beyond the limits. The first byte chooses the letters.
#![no_main]

use std::cell::Cell;

use holdmusic_codecs::{DecodeLimits, decode, decode_mono};
use libfuzzer_sys::fuzz_target;

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

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let bytes = [MAGIC[usize::from(choice) % MAGIC.len()], rest].concat();
    let limits = DecodeLimits { max_seconds: 5, max_samples: 500_000, ..DecodeLimits::default() };
    let asked = Cell::new(0u32);
    let patience = || {
        asked.set(asked.get() + 1);
        asked.get() < 20_000
    };
    let mono = decode_mono(&bytes, &limits, &patience);
    if let Ok(recording) = &mono {
        assert!(recording.pcm.len() as u64 * u64::from(recording.channels) <= limits.max_samples);
        assert!(recording.pcm.seconds() <= 5.0);
        assert!(recording.pcm.samples().iter().all(|sample| sample.is_finite()));
    }
    if bytes.len() < 4_096
        && let Ok(all) = decode(&bytes, &limits)
    {
        assert!(all.pcm.samples().len() as u64 <= limits.max_samples);
    }
});
