//! Tests of the I/O modules and of the fuzz targets.

mod driver_waker;
mod fuzz_corpus;
mod mapped_address;
#[cfg(target_os = "linux")]
mod this_machine;
