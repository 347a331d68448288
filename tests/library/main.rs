//! State machines, statistics, formats and protocols, most of them in memory and in virtual time.

#![recursion_limit = "256"]

mod audio;
mod measurement;
mod nodes;
mod protocol;
mod signaling;
mod simulation;
