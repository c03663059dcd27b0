//! Hostile RTCP and "port unreachable" to a sender with legs, to [`holdmusic_tests::hostile::pacer`].
#![no_main]

use holdmusic_tests::hostile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    hostile::pacer(input);
});
