//! Runs the program as a process with real sockets on Linux, one module for each area.

#![cfg(target_os = "linux")]

mod echo_server;
mod harness;
mod relay;
mod send_and_probe;
mod signaling_abuse;
mod signaling_server;
