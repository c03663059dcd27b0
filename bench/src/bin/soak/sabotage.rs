//! Harm on purpose: each check of the soak must be able to fail, and this shows it.

use clap::ValueEnum;

/// What is spoilt, once or a few times in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// The engine is stopped for 200 ms: gaps
    Stop,
    /// The listener passes one packet over: a loss
    Packet,
    /// The listener misreads a timestamp
    Step,
    /// Some legs do not move when they should
    Moved,
    /// Some operations are taken for running for ever
    Endless,
    /// The wrong sound is expected in some comparisons
    Sound,
    /// Another result is expected of some operations
    Result,
    /// A receiver forgets that it accepted a notification: one more is told twice
    Twice,
    /// A receiver throws a notification of an operation's end away: one is missing
    Missing,
    /// A receiver takes some notifications for older than they are: order
    Order,
    /// Some holds are not stopped when the others are told that they were
    Quiet,
    /// The listener counts a packet more in some holds
    Counted,
    /// Some receivers say nothing when they should report or hang up
    Silence,
    /// A call is left alone at the end
    Leg,
    /// Connections stay open at the end
    Descriptors,
    /// Twelve thousand calls are made after the warm-up, and never ended
    Memory,
}
