//! Runs a node on a UDP socket, on a thread of its own.
//!
//! One loop (`driver.rs`) serves every node; what differs between systems is behind its `Port`. Audio pacing and the
//! release of echoes want tens of microseconds, which a general-purpose timer wheel does not give, so this is neither
//! tokio nor shared with anything else.

mod bind;
mod driver;
mod kernel_drops;
#[cfg(target_os = "linux")]
mod linux;
mod portable;
mod wake;

use std::io;
use std::net::UdpSocket;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::io::stop::Stop;
use crate::node::Node;
use crate::stats::Machine;
use crate::time::Time;

pub use bind::{BindError, Bound, DEFAULT_BUFFER, bind, connect};
pub use driver::{Idle, Tally};
pub(super) use driver::{Port, run as drive};
pub use kernel_drops::KernelDrops;

/// Share of one core, in percent, that may be spent watching the clock, unless told otherwise.
pub const DEFAULT_SPIN: u8 = 25;

/// Which implementation of the loop's system calls to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The best there is on this system.
    #[default]
    Native,
    /// Plain calls that every system has.
    Portable,
}

/// How to run a node.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What a node without a deadline means.
    pub idle: Idle,
    /// Share of one core, in percent, that may be spent watching the clock.
    pub spin: u8,
    /// Which system calls to use.
    pub backend: Backend,
}

/// Runs `node` on `socket` on the calling thread until it has finished or `stop` is requested.
pub fn run(socket: UdpSocket, node: &mut (impl Node + ?Sized), stop: &Stop, options: Options) -> Tally {
    let Options { idle, spin, backend } = options;
    let result = match backend {
        #[cfg(target_os = "linux")]
        Backend::Native => {
            linux::LinuxPort::new(socket, stop).map(|mut port| driver::run(&mut port, node, stop, idle, spin))
        }
        _ => portable::PortablePort::new(socket, stop).map(|mut port| driver::run(&mut port, node, stop, idle, spin)),
    };
    let nothing = Machine::default;
    result.unwrap_or_else(|error| Tally { refused: 0, ended: Time::ZERO, machine: nothing(), result: Err(error) })
}

/// A node at work on a thread of its own.
pub struct Running<N> {
    thread: JoinHandle<(N, Tally)>,
    ended: Receiver<()>,
}

/// Like [`run`], on a new thread called `name`.
pub fn spawn<N: Node + Send + 'static>(
    name: &str,
    socket: UdpSocket,
    mut node: N,
    stop: Stop,
    options: Options,
) -> io::Result<Running<N>> {
    Running::start(name, move || {
        let tally = run(socket, &mut node, &stop, options);
        (node, tally)
    })
}

impl<N: Send + 'static> Running<N> {
    /// Does `work`, which runs a node to its end, on a new thread called `name`.
    pub(super) fn start(name: &str, work: impl FnOnce() -> (N, Tally) + Send + 'static) -> io::Result<Self> {
        let (at_end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let done = work();
            drop(at_end);
            done
        })?;
        Ok(Self { thread, ended })
    }
}

impl<N> Running<N> {
    /// Waits for the end of the run, at most for `patience` (`None`: for ever). True when it has ended.
    pub fn ended_within(&self, patience: Option<Duration>) -> bool {
        match patience {
            Some(patience) => self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected),
            None => self.ended.recv().is_err(),
        }
    }

    /// Waits for the end of the run and takes the node back, with how the run went.
    ///
    /// # Panics
    /// If the node did.
    pub fn join(self) -> (N, Tally) {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
