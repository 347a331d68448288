//! Tests of the core. They use no sockets, and time is virtual.

mod audio;
mod echo;
mod impairment;
mod stats;
mod units;
mod wire;
