//! Tests of state machines, statistics, formats and protocols. Most of these tests run in memory and in virtual time.

#![recursion_limit = "256"]

mod audio;
mod fuzz_corpus;
mod measurement;
mod nodes;
mod printed_values;
mod protocol;
mod room_files;
mod signaling;
mod simulation;
