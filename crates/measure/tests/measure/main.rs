//! Tests of the clients and of their reports. They use no sockets, and time is virtual.

#![recursion_limit = "256"]

mod client;
mod report;
mod simulation;
