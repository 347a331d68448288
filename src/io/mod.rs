//! The room that acts: sockets, threads, clocks, files, devices.

pub mod stop;
pub mod udp;
