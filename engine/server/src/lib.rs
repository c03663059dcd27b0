//! x
pub mod listen;
pub mod picture;
