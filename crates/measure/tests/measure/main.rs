//! Tests of the clients and of their reports. They use no sockets, and time is virtual.

// Only the library is pure (crates/clippy.toml).
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
#![recursion_limit = "256"]

mod check;
mod client;
mod recorded_path;
mod report;
mod schema;
mod simulation;
