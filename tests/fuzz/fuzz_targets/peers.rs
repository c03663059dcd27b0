//! Hostile STUN and DTLS to a WebRTC leg that waits for its peer, to [`holdmusic_tests::hostile::peers`].
#![no_main]

use holdmusic_tests::hostile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: holdmusic_fuzz::contain(), |input: &[u8]| {
    hostile::peers(input);
});
