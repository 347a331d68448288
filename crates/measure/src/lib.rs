//! The sender and the prober of `jamjam-dev`, and the report of a run.
//!
//! [`client`] records what was sent and received. [`report`] computes every figure from these records once, checks limits, and prints the
//! result in each format. Nothing here reads a clock, a socket or a file.

pub mod client;
pub mod report;
