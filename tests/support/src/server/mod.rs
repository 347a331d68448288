//! Runs `jamjam-dev echo-server` and `signaling-server` as processes on real sockets, without using their code. Tests observe only the
//! ready file, log, replies and exit code. Every wait waits for an observable event and fails after [`TEST_TIMEOUT`].

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

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
pub use batch::BatchClient;
pub use client::{Client, at};
pub use http::{Response, exchange, get, request, send, send_to};
pub use line::{Line, Stats};
pub use member::{Member, frame, frame_with_length};
#[cfg(target_os = "linux")]
pub use namespace::{add_address, in_network_namespace};
pub use packet::{audio, keepalive, packet};
#[cfg(target_os = "linux")]
pub use process::as_unprivileged_user;
pub use process::{Server, ServerExit, program, ready_address, run, run_during};
#[cfg(target_os = "linux")]
pub use spoofing::{SpoofedSocket, VethCable, ip};
#[cfg(target_os = "linux")]
pub use wrapper::{can_record_system_calls, record_system_calls};

pub use crate::TEST_TIMEOUT;

/// A moment after which a minimum of time must pass. Only a minimum holds on any host.
#[derive(Clone, Copy)]
pub struct Since(Instant);

impl Since {
    pub fn now() -> Self {
        Self(Instant::now())
    }

    #[track_caller]
    pub fn assert_at_least(self, minimum: Duration) {
        let passed = self.0.elapsed();
        assert!(passed >= minimum, "only {passed:?} of {minimum:?}");
    }
}

/// A TCP connection that waits for the server as long as the tests wait for anything.
pub fn tcp(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
}

/// Polls until `observe` returns a value, at most for [`TEST_TIMEOUT`].
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
