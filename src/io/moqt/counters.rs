//! Counters of a MOQT server over all connections, and their Prometheus metrics `jamjam_moqt_NAME_total`.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

use prometheus_client::registry::Registry;

use crate::io::udp::KernelDrops;
use crate::lock::lock;
use crate::moqt::SessionCounters;
use crate::stats::metrics::{self, Metric, MetricKind, encode_metric};

jamjam_core::counters! {
/// Connection counters of a server.
ConnectionCounters {
    /// Connections over raw QUIC.
    Counter connections_quic,
    /// Connections over HTTP/3, for WebTransport.
    Counter connections_webtransport,
    /// Connections rejected because of the connection limit.
    Counter connections_rejected_limit,
    /// Connections rejected because of the limit per address.
    Counter connections_rejected_address_limit,
    /// Connections rejected because of the memory budget.
    Counter connections_rejected_memory,
    /// Idle connections closed because the connection limit was reached.
    Counter connections_closed_idle,
    /// Connections closed because of the memory budget.
    Counter connections_closed_memory,
    /// Connection attempts dropped because the source is not allowed.
    Counter connections_dropped_not_allowed,
    /// Retry packets sent to validate the source address.
    Counter retries_sent,
    /// Connections whose handshake failed or timed out.
    Counter handshakes_failed,
    /// HTTP/3 requests rejected: invalid, wrong path, not for WebTransport, no common version, or timed out.
    Counter requests_rejected,
    /// HTTP/3 streams rejected because they do not belong to a session.
    Counter streams_stray,
    /// HTTP/3 connections closed because of too many bytes on the CONNECT stream.
    Counter connections_closed_excessive_load,
    /// Connections closed by the idle timeout.
    Counter connections_timed_out,
}
}

/// Counters of a server. The server's thread updates them; any thread can read them.
#[derive(Debug, Default)]
pub struct ServerCounters {
    current: Mutex<CounterSnapshot>,
    /// Kernel drop counters of the sockets. The sockets stay open until the last snapshot.
    kernel_drops: Mutex<Vec<KernelDrops>>,
}

/// Values of all counters at one point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// Open connections.
    pub connections_open: u64,
    /// Connection counters.
    pub connections: ConnectionCounters,
    /// Sum of the session counters.
    pub sessions: SessionCounters,
    /// Datagrams dropped by the kernel because a receive buffer was full. `None` if the kernel does not report this number.
    pub kernel_dropped: Option<u64>,
}

impl CounterSnapshot {
    /// Every counter and gauge, in the order of the log.
    pub fn metrics(&self) -> impl Iterator<Item = Metric<'static>> + use<> {
        let open = ("connections_open", MetricKind::Gauge, "Open connections.", self.connections_open);
        let help = "Datagrams dropped by the kernel because a receive buffer was full.";
        let kernel_drops = self.kernel_dropped.map(|count| ("kernel_dropped", MetricKind::Counter, help, count));
        std::iter::once(open).chain(self.connections.metrics()).chain(self.sessions.metrics()).chain(kernel_drops)
    }
}

impl ServerCounters {
    /// Reads all counters.
    pub fn snapshot(&self) -> CounterSnapshot {
        let kernel_drops = lock(&self.kernel_drops);
        CounterSnapshot { kernel_dropped: kernel_drops.iter().map(KernelDrops::read).sum(), ..*lock(&self.current) }
    }

    /// Starts counting the kernel drops of `socket` too.
    pub(super) fn watch_kernel_drops(&self, socket: &UdpSocket) {
        lock(&self.kernel_drops).push(KernelDrops::for_socket(socket));
    }

    /// Changes a counter.
    pub(super) fn update(&self, change: impl FnOnce(&mut CounterSnapshot)) {
        change(&mut lock(&self.current));
    }

    /// Adds counters of a session.
    pub(super) fn add_session(&self, session: &SessionCounters) {
        if *session != SessionCounters::default() {
            lock(&self.current).sessions.add(session);
        }
    }
}

/// Registers the metrics of a server.
pub fn register_metrics(counters: Arc<ServerCounters>, registry: &mut Registry) {
    metrics::register(registry, "jamjam_moqt", move |encoder| {
        counters.snapshot().metrics().try_for_each(|metric| encode_metric(encoder, metric))
    });
}
