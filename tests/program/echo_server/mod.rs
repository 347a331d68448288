//! `jamjam-dev echo-server` as a process on real sockets.

mod addresses;
mod buffer_limits;
mod check;
mod check_command;
mod echo;
mod impairment;
mod link;
mod log;
mod memory_per_packet;
mod metrics;
mod moq_peers;
pub(crate) mod moqt;
mod options;
mod ready_file;
mod registration;
mod shutdown;
mod source_files;
