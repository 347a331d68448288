//! Runs the program as a process with real sockets, one module for each area.

mod echo_server;
mod send_and_probe;
mod signaling_abuse;
mod signaling_server;
