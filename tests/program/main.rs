//! Runs the program as a process with real sockets on Linux, one module for each area.

#![cfg(target_os = "linux")]

mod clients;
mod echo_server;
mod harness;
mod mistakes;
mod relay;
mod signaling_abuse;
mod signaling_server;
