//! Stories told in the simulated world: each is a claim about what a participant hears and a customer is told.

mod sound;
