//! The store of a cluster with real Redis servers. Tests are skipped if `redis-server` is not installed, except in CI. `REDIS_SERVER` names
//! another program, such as that of Valkey.

#![cfg(target_os = "linux")]

mod connection;
mod directory;
mod latency;
mod log;
mod member;
mod processes;
#[allow(unreachable_pub, reason = "the module is used only in this test")]
mod redis_server;
mod sentinel;
