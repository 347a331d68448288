//! Tests that rerun themselves in a network namespace.

mod admission;
mod connection_rate;
mod echo;
mod this_host;
