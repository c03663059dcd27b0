//! What the targets share.

use holdmusic_tests::hostile;

/// An expected panic is caught where it is expected, and the fuzzer goes on; any other panic, caught or not, is a finding.
/// The hook that libFuzzer's crate sets would end the run at the first one of either.
pub fn contain() {
    std::panic::set_hook(Box::new(|panic| {
        if !hostile::is_expected(panic) {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}
