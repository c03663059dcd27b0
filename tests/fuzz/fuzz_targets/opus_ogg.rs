//! Hostile packets of Opus in an Ogg stream that is well-formed, to [`holdmusic_tests::hostile::opus_ogg`].
#![no_main]

use holdmusic_tests::hostile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    hostile::opus_ogg(input);
});
