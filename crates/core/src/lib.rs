//! Packets, statistics, audio and the echo server. Nothing here reads a clock, a socket or a file.

pub mod address;
pub mod audio;
pub mod echo;
pub mod impairment;
pub mod link;
pub mod log_throttle;
pub mod memory_budget;
pub mod node;
pub mod rate_limit;
pub mod sanitize;
pub mod stats;
pub mod time;
pub mod units;
pub mod wire;
