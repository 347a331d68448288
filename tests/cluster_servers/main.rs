//! Several signaling servers that share their rooms over Redis, as their clients and operators see them. Each test has its own Redis. Tests
//! are skipped if `redis-server` or `haproxy` is not installed, except in CI.

#![cfg(target_os = "linux")]

mod guarantees;
mod load;
mod options;
mod outages;
mod processes;
#[allow(dead_code, unreachable_pub, reason = "the tests of the store use the rest of the module")]
#[path = "../cluster/redis_server.rs"]
mod redis_server;
mod requests;
mod servers;
mod transcripts;
