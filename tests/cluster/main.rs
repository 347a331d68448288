//! Rooms that several signaling servers share over real Redis servers. Tests are skipped if `redis-server` or `haproxy` is not installed,
//! except in CI. `REDIS_SERVER` names another program, such as that of Valkey.

#![cfg(target_os = "linux")]

mod redis_server;
mod servers;
mod store;
