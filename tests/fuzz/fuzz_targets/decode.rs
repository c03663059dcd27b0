//! Hostile recordings of every format but our own WAV, to [`holdmusic_tests::hostile::decode`].
#![no_main]

use holdmusic_tests::hostile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    hostile::decode(input);
});
