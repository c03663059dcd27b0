//! The real binary on real sockets, over loopback: what only a process can show. Every bound on time is generous, since
//! these are the only tests with a real clock.
#![expect(
    clippy::disallowed_methods,
    reason = "real sockets, threads and clocks are what these tests are about"
)]

mod engine;
mod http;
mod web;
mod ear;

mod process;
mod service;
mod connections;
mod console;
mod overload;
mod access;
mod hold;
mod whep;
mod notifications;
mod prompts;
mod cache;
mod crash;
mod check;
mod validation;
mod demo;
mod openapi;
