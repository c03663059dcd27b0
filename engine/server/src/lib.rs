//! The doors around the pure rooms: clock, dice, sockets, threads, HTTP. No policy is decided here.

#[cfg(not(target_os = "linux"))]
compile_error!("holdmusic runs on Linux: it relies on sendmmsg, absolute sleep and the socket error queue.");

pub mod config;
pub mod clock;
pub mod dice;
pub mod room;
pub mod mailbox;
pub mod authority;
pub mod http;
pub mod console;
pub mod not_ready;
pub mod store;
pub mod desk;
pub mod egress;
pub mod fetch;
pub mod freshness;
pub mod cache;
pub mod supply;
pub mod producer;
pub mod analyst;
pub mod check;
pub mod sender;
pub mod udp;
pub mod peers;
pub mod data_directory;
pub mod keys;
pub mod webhook;
pub mod metrics;
pub mod supervisor;
pub mod house;
pub mod listen;
pub mod picture;
pub mod demo;
