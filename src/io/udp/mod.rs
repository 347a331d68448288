//! Runs a node on a UDP socket on a thread of its own.
//!
//! One loop (`driver.rs`) serves every node. Platform differences are behind `DriverIo`. Pacing and delayed replies need a
//! precision of tens of microseconds. The timer wheel of an async runtime does not provide this precision.

mod driver;
mod early_wake;
#[cfg(target_os = "linux")]
mod linux;
mod portable;
mod socket;

use std::io;
use std::net::UdpSocket;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::io::stop::StopToken;
use crate::node::Node;
use crate::stats::HostTiming;
use crate::time::Time;

pub use driver::{Backend, DriverOptions, DriverStats, IdlePolicy};
pub(super) use driver::{DriverIo, run as drive};
pub use socket::{BindError, BoundSocket, DEFAULT_RECEIVE_BUFFER, KernelDrops, bind, connect};

/// Default maximum share of one core, in percent, for spinning before deadlines.
pub const DEFAULT_SPIN_PERCENT: u8 = 25;

/// A thread that runs a node.
pub struct NodeThread<N> {
    thread: JoinHandle<(N, DriverStats)>,
    finished: Receiver<()>,
}

/// Runs `node` on `socket`, on a new thread called `name`, until the node finishes or `stop` is requested.
pub fn spawn_node<N: Node + Send + 'static>(
    name: &str,
    socket: UdpSocket,
    mut node: N,
    stop: StopToken,
    options: DriverOptions,
) -> io::Result<NodeThread<N>> {
    NodeThread::spawn(name, move || {
        let result = match options.backend {
            #[cfg(target_os = "linux")]
            Backend::Native => {
                linux::LinuxIo::new(socket, &stop).map(|mut io| drive(&mut io, &mut node, &stop, options))
            }
            _ => portable::PortableIo::new(socket, &stop).map(|mut io| drive(&mut io, &mut node, &stop, options)),
        };
        let stats = result.unwrap_or_else(|error| DriverStats {
            port_unreachable: 0,
            ended_at: Time::ZERO,
            host_timing: HostTiming::default(),
            result: Err(error),
        });
        (node, stats)
    })
}

impl<N: Send + 'static> NodeThread<N> {
    /// Calls `work`, which runs a node to its end, on a new thread called `name`.
    pub(super) fn spawn(name: &str, work: impl FnOnce() -> (N, DriverStats) + Send + 'static) -> io::Result<Self> {
        let (finished_tx, finished) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Timer slack of 1 ns instead of 50 µs. If this fails, the thread wakes later, and the report contains the larger timer error.
            #[cfg(target_os = "linux")]
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            let result = work();
            drop(finished_tx);
            result
        })?;
        Ok(Self { thread, finished })
    }
}

impl<N> NodeThread<N> {
    /// Waits for the end of the run for at most `timeout` (`None`: no limit). Returns whether the run has ended.
    pub fn finished_within(&self, timeout: Option<Duration>) -> bool {
        match timeout {
            Some(timeout) => self.finished.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected),
            None => self.finished.recv().is_err(),
        }
    }

    /// Waits for the end of the run and returns the node and the statistics.
    ///
    /// # Panics
    /// If the node panicked.
    pub fn join(self) -> (N, DriverStats) {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
