//! x
pub mod clock;
pub mod listen;
pub mod picture;
