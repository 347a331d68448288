//! The sender and the prober of `jamjam-dev`, the report of a run, and the check of other clients.
//!
//! [`client`] records what was sent and received. [`report`] computes every figure from these records once, checks limits, and prints the
//! result in each format. [`check`] judges what clients send to an echo server, and [`machine`] whether this machine can measure. What a report
//! finds is a [`diagnosis`]. [`run_record`] is the file of a recorded run, and [`waveform`] draws its audio. Nothing here reads a clock, a socket or a file.

pub mod check;
pub mod client;
pub mod diagnosis;
pub mod document;
pub mod machine;
mod recorded_path;
pub mod report;
pub mod run_record;
pub mod verdict;
pub mod waveform;
