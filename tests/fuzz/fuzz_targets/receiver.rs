//! Hostile RTP and RTCP to a receiver, to [`holdmusic_tests::hostile::receiver`].
#![no_main]

use holdmusic_tests::hostile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    hostile::receiver(input);
});
