//! The room that acts: sockets, threads, clocks, files, devices.

pub mod log;
pub mod process;
pub mod resolve;
pub mod stop;
pub mod udp;
