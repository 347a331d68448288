//! Runs a node on its UDP sockets on a thread of its own.
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

use crate::io::clock::{exact_wall_clock, monotonic_now};
use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::node::Node;
use crate::stats::HostTiming;
use crate::time::{Time, WallClock};

pub use driver::{Backend, DriverOptions, DriverStats, IdlePolicy};
pub(super) use driver::{DriverIo, run as drive};
pub(super) use portable::is_port_unreachable;
pub use socket::{BindError, BoundSocket, DEFAULT_RECEIVE_BUFFER, KernelDrops, StraySocket, bind, connect, reconnect};

/// Default maximum share of one core, in percent, for spinning before deadlines.
pub const DEFAULT_SPIN_PERCENT: u8 = 25;

/// A thread that runs a node. Its result is the node and the statistics.
pub type NodeThread<N> = Worker<(N, DriverStats)>;

/// Runs `node` on `sockets`, at least one, on a new thread called `name`, until the node finishes or `stop` is requested.
pub fn spawn_node<N: Node + Send + 'static>(
    name: &str,
    sockets: Vec<UdpSocket>,
    mut node: N,
    stop: StopToken,
    options: DriverOptions,
) -> io::Result<NodeThread<N>> {
    spawn_driver(name, move || {
        let inodes: Vec<_> = sockets.iter().map(socket::socket_inode).collect();
        let result = match options.backend {
            #[cfg(target_os = "linux")]
            Backend::Native => {
                linux::LinuxIo::new(sockets, &stop).map(|mut io| drive(&mut io, &mut node, &stop, options, &inodes))
            }
            _ => portable::PortableIo::new(sockets, &stop)
                .map(|mut io| drive(&mut io, &mut node, &stop, options, &inodes)),
        };
        let stats = result.unwrap_or_else(|error| DriverStats {
            ended_at: Time::ZERO,
            host_timing: HostTiming::default(),
            kernel_dropped: Vec::new(),
            address_changes: Vec::new(),
            result: Err(error),
        });
        (node, stats)
    })
}

/// The time of day on the clock of a driver.
pub fn wall_clock(backend: Backend) -> WallClock {
    exact_wall_clock(match backend {
        #[cfg(target_os = "linux")]
        Backend::Native => linux::now,
        _ => monotonic_now,
    })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// The sockets of the batches that `io` receives, until it has received `count` datagrams.
    fn received_batches(io: &mut impl DriverIo, count: usize) -> Vec<usize> {
        let (mut sockets, mut received) = (Vec::new(), 0);
        while received < count {
            let mut take = |_: Time, batch: &[crate::node::Receive<'_>]| {
                sockets.push(batch[0].socket);
                received += batch.iter().map(|receive| receive.segments().count()).sum::<usize>();
            };
            if !io.recv(&mut take).expect("a socket can be read") && received < count {
                assert!(!io.wait(Some(io.now() + PATIENCE), false).expect("a wait"), "only {received} datagrams");
            }
        }
        sockets
    }

    /// Two sockets, of which the first has 100 datagrams, and then the second has one.
    fn flooded_sockets() -> Vec<UdpSocket> {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for number in [0; 100].into_iter().chain([1]) {
            sender.send_to(b"x", sockets[number].local_addr().expect("an address")).expect("sent");
        }
        sockets[1].set_read_timeout(Some(PATIENCE)).expect("a time-out");
        sockets[1].peek(&mut [0]).expect("received");
        sockets.into()
    }

    #[test]
    fn sockets_take_turns_in_a_flood() {
        let (stop, sockets) = (StopToken::default(), flooded_sockets());
        let portable = received_batches(&mut portable::PortableIo::new(sockets, &stop).expect("portable"), 101);
        assert!(portable[..2].contains(&1), "{portable:?}");
        #[cfg(target_os = "linux")]
        {
            let sockets = flooded_sockets();
            let linux = received_batches(&mut linux::LinuxIo::new(sockets, &stop).expect("Linux"), 101);
            assert!(linux[..2].contains(&1), "{linux:?}");
        }
    }
}
