//! What all parts of `jamjam-dev` share: packets, the encrypted link, statistics, audio, and the echo server.
//!
//! Nothing here reads a clock, a socket or a file. `docs/ARCHITECTURE.md` explains how the program drives these state machines.

pub mod address;
pub mod audio;
mod datagram_store;
pub mod direction;
pub mod echo;
pub mod impairment;
pub mod impairment_patch;
pub mod link;
pub mod lock;
pub mod log_throttle;
pub mod media_relay;
pub mod memory_budget;
pub mod node;
pub mod node_group;
pub mod outcome;
mod pauses;
pub mod rate_limit;
pub mod recorded_path;
pub mod relay;
pub mod sanitize;
pub mod stats;
pub mod time;
pub mod transit;
pub mod units;
pub mod wire;
