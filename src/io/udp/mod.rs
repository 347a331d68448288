//! Runs a node on a UDP socket on a thread of its own.
//!
//! One loop (`driver.rs`) serves every node; platform differences are behind `DriverIo`. Pacing and delayed replies need a precision of tens
//! of microseconds, which the timer wheel of an async runtime does not provide.

mod driver;
mod early_wake;
#[cfg(target_os = "linux")]
mod linux;
mod portable;
mod socket;

use std::io;
use std::net::UdpSocket;

use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::node::Node;
use crate::stats::HostTiming;
use crate::time::{Time, WallClock};

pub use driver::{Backend, DriverOptions, DriverStats, IdlePolicy};
pub(super) use driver::{DriverIo, run as drive};
pub(super) use portable::is_port_unreachable;
pub use socket::{BindError, BoundSocket, DEFAULT_RECEIVE_BUFFER, KernelDrops, StraySocket, bind, connect};

/// Default maximum share of one core, in percent, for spinning before deadlines.
pub const DEFAULT_SPIN_PERCENT: u8 = 25;

/// A thread that runs a node. Its result is the node and the statistics.
pub type NodeThread<N> = Worker<(N, DriverStats)>;

/// Runs `node` on `socket`, on a new thread called `name`, until the node finishes or `stop` is requested.
pub fn spawn_node<N: Node + Send + 'static>(
    name: &str,
    socket: UdpSocket,
    mut node: N,
    stop: StopToken,
    options: DriverOptions,
) -> io::Result<NodeThread<N>> {
    spawn_driver(name, move || {
        let result = match options.backend {
            #[cfg(target_os = "linux")]
            Backend::Native => {
                linux::LinuxIo::new(socket, &stop).map(|mut io| drive(&mut io, &mut node, &stop, options))
            }
            _ => portable::PortableIo::new(socket, &stop).map(|mut io| drive(&mut io, &mut node, &stop, options)),
        };
        let stats = result.unwrap_or_else(|error| DriverStats {
            ended_at: Time::ZERO,
            host_timing: HostTiming::default(),
            result: Err(error),
        });
        (node, stats)
    })
}

/// The time of day on the clock of the native driver. Other clocks start with the node.
pub fn wall_clock(backend: Backend) -> Option<WallClock> {
    #[cfg(target_os = "linux")]
    if backend == Backend::Native {
        return Some(crate::io::clock::exact_wall_clock(linux::now));
    }
    let _ = backend;
    None
}

/// Calls `work`, which runs a node to its end, on a new thread called `name`.
pub(super) fn spawn_driver<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Worker<T>> {
    Worker::spawn(name, move || {
        // Timer slack of 1 ns instead of 50 µs. If this fails, the thread wakes later, and the report contains the larger timer error.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        work()
    })
}
