//! `jamjam-dev echo-server` as a person starts it: a process of its own on real sockets, seen through its address file,
//! its log, its answers and its exit code only.
//!
//! Nothing here knows the program's code. Every wait is for something observable and ends at [`TEST_TIMEOUT`].

#[cfg(target_os = "linux")]
pub mod batch;
pub mod client;
#[cfg(target_os = "linux")]
pub mod forged;
pub mod line;
pub mod member;
#[cfg(target_os = "linux")]
pub mod namespace;
pub mod packet;
pub mod process;

use std::thread;
use std::time::{Duration, Instant};

/// How long anything that should happen may take, on a machine that is busy with other things.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Polls until `observe` returns a value.
///
/// # Panics
/// If it has none in time.
pub fn poll_until<T>(what: &str, mut observe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        if let Some(seen) = observe() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {TEST_TIMEOUT:?}");
        thread::park_timeout(Duration::from_millis(1));
    }
}
