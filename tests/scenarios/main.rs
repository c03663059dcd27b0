//! Stories told in the simulated world: each is a claim about what a participant hears and a customer is told.

mod stage;

mod sound;
mod codecs;
mod numbers;
mod prompts;
mod holds;
mod announcements;
mod endings;
mod arrival;
mod callbacks;
mod chance;
mod restarts;
mod disasters;
