//! What comes from somebody who means ill: any bytes go to a reader, and whatever they are, what must hold is asserted.
//!
//! Each function is a fuzz target of `tests/fuzz`, and the tests in `tests/hostile` play its corpus to it. It says whether
//! anything came of the bytes, so that a test can tell a corpus that reaches something from one that is only refused.

mod datagrams;
mod offers;
mod peers;
mod requests;
mod sound;
mod stores;

use std::panic::PanicHookInfo;

pub use datagrams::{pacer, receiver};
pub use offers::offer;
pub use peers::peers;
pub use requests::{graph, query};
pub use sound::{decode, opus_ogg, wav};
pub use stores::{records, written};

/// What bytes are played to.
pub type Target = fn(&[u8]) -> bool;

/// Every fuzz target by its name.
pub const TARGETS: [(&str, Target); 10] = [
    ("decode", decode),
    ("graph", graph),
    ("offer", offer),
    ("opus_ogg", opus_ogg),
    ("pacer", pacer),
    ("peers", peers),
    ("query", query),
    ("receiver", receiver),
    ("records", records),
    ("wav", wav),
];

/// Whether a panic is one that the product counts on: symphonia's end in `decode` as a corrupt recording. Any other one is
/// a finding, also if it was caught.
pub fn is_expected(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_some_and(|place| place.file().contains("symphonia"))
}
