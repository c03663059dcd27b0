//! Hostile stores, to [`holdmusic_tests::hostile::records`].
#![no_main]

use holdmusic_tests::hostile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    hostile::records(input);
});
