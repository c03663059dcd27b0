//! The simulated world: the product's own control, pacers and rings around a clock that jumps, a network that
//! misbehaves as it is told, prompts on a shelf, customers and telephones. Nothing sleeps, nothing is random that
//! the seed does not say.
//!
//! A story begins with [`World::new`] and speaks HTTP as a customer would: [`World::call`], [`World::join`],
//! [`World::start`]. Between its sentences time passes by [`World::run`]. What was heard is asked of a [`Phone`].
//!
//! Each world is made of a seed. A story that fails prints it, and `HOLDMUSIC_SEED=<seed>` tells the same story again.

mod clock;
mod seed;
mod network;
mod shelf;
mod graph;
mod customer;
mod phone;
mod sound;
mod world;
pub mod hostile;

pub use clock::SimClock;
pub use customer::{Attempt, Customer, Manner, Told};
pub use graph::{Reply, read};
pub use network::{Flow, Path, Port, Sent, SimNetwork, Taps, codec_of};
pub use phone::{Arrival, Phone};
pub use seed::{SEED_VARIABLE, seed, stories};
pub use shelf::{End, Item, Shelf};
pub use sound::{Likeness, asset, one_shot, reference, silences};
pub use world::{Call, Member, World, WorldSettings};
