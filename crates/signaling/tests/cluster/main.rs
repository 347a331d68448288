//! Tests of rooms that several processes share, on a simulated log and in virtual time.

// Only the library is pure (crates/clippy.toml).
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

mod client_queues;
mod entries;
mod membership;
mod order;
mod processes;
mod snapshots;
mod transcripts;
