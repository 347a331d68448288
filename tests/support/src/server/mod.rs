//! Runs `jamjam-dev echo-server` and `signaling-server` as processes on real sockets. Tests observe only the address file, log, replies and
//! exit code.
//!
//! Nothing here uses the program's code. Every wait waits for an observable event and fails after [`TEST_TIMEOUT`].

#[cfg(target_os = "linux")]
pub mod batch;
pub mod client;
pub mod http;
pub mod line;
pub mod member;
#[cfg(target_os = "linux")]
pub mod namespace;
pub mod packet;
pub mod process;
#[cfg(target_os = "linux")]
pub mod spoofing;
#[cfg(target_os = "linux")]
pub mod wrapper;

use std::thread;
use std::time::{Duration, Instant};

/// The timeout of every wait, long enough for a busy machine.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Polls until `observe` returns a value.
///
/// # Panics
/// Panics if `observe` returns no value within [`TEST_TIMEOUT`].
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
