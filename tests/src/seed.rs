//! Where the chance of a world comes from: a number, given by the story or by whoever replays it.

use std::env;

/// The environment variable that replays a story.
pub const SEED_VARIABLE: &str = "HOLDMUSIC_SEED";

/// How many stories are told: what the variable of this name says, or else `usual`; one, if its seed is given.
///
/// # Panics
///
/// If the variable is set to what is no number.
pub fn stories(variable: &str, usual: u64) -> u64 {
    match env::var(variable) {
        _ if env::var_os(SEED_VARIABLE).is_some() => 1,
        Ok(number) => number.trim().parse().unwrap_or_else(|_| panic!("{variable} is a whole number")),
        Err(_) => usual,
    }
}

/// The seed in the environment, or else `usual`.
///
/// # Panics
///
/// If the variable is set to what is no number.
pub fn seed(usual: u64) -> u64 {
    match env::var(SEED_VARIABLE) {
        Ok(text) => text.trim().parse().expect("HOLDMUSIC_SEED is a whole number"),
        Err(_) => usual,
    }
}
