//! The program as a process on real sockets, one module for each subcommand.

mod echo_server;
mod send_and_probe;
mod signaling_abuse;
mod signaling_server;
