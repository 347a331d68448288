//! The configurations of load balancers in `packaging/`, with three signaling servers behind them. Only addresses, ports and, in one test,
//! the limit of a server are replaced, and the user is removed. Only `.ci/full` runs these tests.

#![cfg(target_os = "linux")]

mod balancers;
mod rooms;
mod servers;
mod spreading;
