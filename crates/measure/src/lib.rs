//! The sender, the prober and the report of a run. Nothing here reads a clock, a socket or a file.

pub mod client;
pub mod report;
