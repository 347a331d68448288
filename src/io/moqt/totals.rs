//! What all connections of a server have counted together, for whoever prints or exports it.

use std::net::UdpSocket;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::io::udp::KernelDrops;
use crate::moqt::{Counts, counted};

counted! {
/// What became of those who came, before a session.
Arrivals {
    /// Connections over raw QUIC.
    connections_quic,
    /// Connections over HTTP/3, for WebTransport.
    connections_webtransport,
    /// Connections refused because there were as many as may be.
    connections_full,
    /// Connections refused because their address had its share.
    connections_share,
    /// First packets of connections from addresses that are not served, ignored.
    connections_not_allowed,
    /// Connections asked to prove their address before anything was kept for them.
    connections_retried,
    /// Connections whose handshake failed or took too long.
    handshakes_failed,
    /// Requests over HTTP/3 that were refused: of another path, or for no WebTransport session.
    requests_refused,
    /// Streams over HTTP/3 that belong to no session, refused.
    streams_stray,
    /// Connections over HTTP/3 closed because too many bytes came on the stream of the request.
    connections_excessive,
    /// Connections closed because nothing was heard of them any more.
    connections_silent,
}
}

/// The counts of a server. Its thread writes them, any other may read them.
#[derive(Debug, Default)]
pub struct Totals {
    counted: Mutex<Reading>,
    /// What the system counts; the sockets are kept until the last reading.
    kernel: Mutex<Vec<KernelDrops>>,
}

/// What was counted up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Connections that are open now.
    pub open: u64,
    /// What became of those who came.
    pub arrivals: Arrivals,
    /// What the sessions counted.
    pub counts: Counts,
    /// What the kernel threw away because a socket's receive buffer was full; `None` where it does not tell.
    pub kernel_dropped: Option<u64>,
}

impl Reading {
    /// The name of `open`, of which there is an amount now.
    pub const OPEN: &str = "connections_open";

    /// What it says.
    pub const OPEN_HELP: &str = "Connections that are open now";

    /// All that only rises, with names and descriptions, in the order in which a log prints them.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
        let help = "Datagrams that the kernel threw away because a receive buffer was full";
        let kernel = self.kernel_dropped.map(|count| ("kernel_dropped", help, count));
        self.arrivals.fields().chain(self.counts.fields()).chain(kernel)
    }
}

impl Totals {
    /// What was counted up to now.
    pub fn read(&self) -> Reading {
        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        Reading { kernel_dropped: kernel.iter().map(KernelDrops::read).sum(), ..*self.lock() }
    }

    /// Counts from now on what the kernel drops of `socket` too.
    pub(super) fn watch(&self, socket: &UdpSocket) {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner).push(KernelDrops::of(socket));
    }

    /// Counts something.
    pub(super) fn note(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.lock());
    }

    /// Adds what a session has counted.
    pub(super) fn add(&self, counts: &Counts) {
        if *counts != Counts::default() {
            self.lock().counts.add(counts);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
