//! What the benchmarks have in common: the engine as a process of its own, an ear with the kernel's timestamps, a
//! probe that shows what the machine itself is late by, progress, and tables.
#![expect(clippy::disallowed_methods, reason = "benches measure real time on real sockets")]

pub mod bare;
pub mod chart;
pub mod dice;
pub mod ear;
pub mod engine;
pub mod ours;
pub mod probe;
pub mod progress;
pub mod prompt;
pub mod report;
pub mod tally;
