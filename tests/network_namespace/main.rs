//! Tests that rerun themselves in a network namespace.

#![cfg(target_os = "linux")]

mod admission;
mod connection_rate;
mod echo;
mod this_host;
