//! Tests of the I/O modules and of the fuzz targets.

mod fuzz_corpus;
mod live_sender;
#[cfg(target_os = "linux")]
mod this_machine;
