//! Hostile queries of everything that can be read, to [`holdmusic_tests::hostile::query`].
#![no_main]

use holdmusic_tests::hostile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    hostile::query(input);
});
