//! Tests of the I/O modules and of the fuzz targets.

mod driver_waker;
mod fuzz_corpus;
mod many_sockets;
mod printed_values;
mod room_files;
mod source_recorder;
#[cfg(target_os = "linux")]
mod this_machine;
