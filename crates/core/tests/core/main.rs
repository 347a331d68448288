//! Tests of the core. They use no sockets, and time is virtual.

// Only the library is pure (crates/clippy.toml).
#![allow(clippy::disallowed_methods)]

mod audio;
mod echo;
mod impairment;
mod media_relay;

mod recorded_path;
mod recovery;
mod relay;
mod stats;
mod transit;
mod units;
mod wire;
