//! The MOQT echo server: accepts connections on its own thread, validates and limits their sources, runs one session per connection, and
//! counts and logs the outcomes.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{select_all, unfold};
use http::StatusCode;
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, TokioRuntime, TransportErrorCode, VarInt,
};
use rustls::AlertDescription;
use rustls::server::ResolvesServerCert;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::open_connections::OpenConnections;
use super::quic::{self, AlpnRecorder};
use super::streams::{ConnectionStreams, SessionClose, drive_session, new_session};
use super::webtransport::{H3_EXCESSIVE_LOAD, H3_NO_ERROR, SessionRequest, TransportConnection, WebTransportSession};
use super::{ConnectionCounters, CounterSnapshot, ServerCounters};
use crate::address::{Cidr, canonical_socket_addr};
use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, ConnectionPermit, ConnectionRejection};
use crate::io::log::SharedLogThrottle;
use crate::io::stop::StopToken;
use crate::io::udp::BoundSocket;
use crate::io::worker::Worker;
use crate::memory_budget::{MemoryBudget, OverBudget};
use crate::moqt::echo::{MIN_BUFFERED_BYTES, MoqtEcho, MoqtEchoConfig};
use crate::moqt::version::select_protocol;
use crate::moqt::{
    ALPN_WEBTRANSPORT, EndpointRole, MoqtEndpoint, MoqtVersion, SessionCounters, SessionLimits, Transport, error_code,
    path_matches,
};
use crate::time::display_seconds;

/// Maximum number of concurrent connections per source; an IPv6 /64 counts as one source. Loopback sources are exempt from this limit.
const MAX_CONNECTIONS_PER_SOURCE: usize = 16;

/// Maximum time until the slot of a closed idle connection is free.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time for sessions to close after a stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Maximum time for the transport to send and retransmit `CONNECTION_CLOSE` frames.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// A session may hold this number of bytes even if the memory budget is used up: ten streams and [`MIN_BUFFERED_BYTES`], so that a moderate
/// client does not lose its connection because of others.
const MAX_HELD_OVER_BUDGET: u64 = 10 * quic::STREAM_BYTES + MIN_BUFFERED_BYTES as u64;

/// Close reason when the server stops.
const SHUTDOWN_REASON: &str = "server is shutting down";

/// Configuration of a server.
#[derive(Clone, Debug)]
pub struct MoqtServerConfig {
    /// Served path, such as `/echo`.
    pub path: String,
    /// Echo configuration.
    pub echo: MoqtEchoConfig,
    /// Limits per connection.
    pub limits: SessionLimits,
    /// Allowed sources; empty means all. Packets from other sources are dropped without a reply.
    pub allow: Vec<Cidr>,
    /// Maximum number of concurrent connections.
    pub max_connections: usize,
    /// Idle timeout of a connection.
    pub idle_timeout: Duration,
    /// Minimum idle time of a connection that is closed for a new one. This happens if the maximum number of connections is reached, to the
    /// connection whose session has been idle for the longest time. Keep-alives of QUIC do not end the idle time.
    pub min_idle: Duration,
    /// The memory budget of the process.
    pub memory_budget: Arc<MemoryBudget>,
}

impl Default for MoqtServerConfig {
    /// `/echo`; 128 connections, idle timeout of one minute, closed for others after ten seconds; no memory budget.
    fn default() -> Self {
        Self {
            path: "/echo".to_owned(),
            echo: MoqtEchoConfig::default(),
            limits: SessionLimits::default(),
            allow: Vec::new(),
            max_connections: 128,
            idle_timeout: Duration::from_secs(60),
            min_idle: Duration::from_secs(10),
            memory_budget: MemoryBudget::new(None),
        }
    }
}

/// A running server.
pub type ServerThread = Worker<()>;

/// Serves on a new thread until `stop` is requested. The thread then closes every session with code 0 and ends within 2 s.
pub fn spawn(
    bound: Vec<BoundSocket>,
    certificate: Arc<dyn ResolvesServerCert>,
    config: MoqtServerConfig,
    counters: Arc<ServerCounters>,
    stop: &StopToken,
) -> io::Result<ServerThread> {
    let alpns = AlpnRecorder::new(certificate);
    let certificate = Arc::<AlpnRecorder>::clone(&alpns);
    let quic_config =
        quic::server_config(certificate, &config.limits, config.idle_timeout).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let endpoints = {
        let _within = runtime.enter();
        let create_endpoint = |BoundSocket { socket, .. }| {
            counters.watch_kernel_drops(&socket);
            Endpoint::new(EndpointConfig::default(), Some(quic_config.clone()), socket, Arc::new(TokioRuntime))
        };
        bound.into_iter().map(create_endpoint).collect::<io::Result<Vec<Endpoint>>>()?
    };
    let stopped = stop.to_notify();
    let limiter = ConnectionLimiter::new(ConnectionLimits {
        max_connections: Some(config.max_connections),
        max_connections_per_address: Some(MAX_CONNECTIONS_PER_SOURCE),
        memory_budget: Arc::clone(&config.memory_budget),
        bytes_per_connection: quic::CONNECTION_BYTES,
        ..ConnectionLimits::default()
    });
    let (open, log) = (OpenConnections::default(), LogState::default());
    let connections = Arc::new(MoqtConnections { config, counters, alpns, limiter, open, log });
    Worker::spawn("moqt", move || runtime.block_on(run(endpoints, connections, stopped)))
}

async fn run(endpoints: Vec<Endpoint>, connections: Arc<MoqtConnections>, stopped: Arc<Notify>) {
    let limiter = &connections.limiter;
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    // Each socket gets its turn. Otherwise, a flood on the first socket would prevent connections on the other sockets.
    let mut attempts = select_all(endpoints.iter().map(|endpoint| {
        Box::pin(unfold(endpoint, |endpoint| async move { Some((endpoint.accept().await?, endpoint)) }))
    }));
    loop {
        tokio::select! {
            biased;
            () = stopped.notified() => break,
            // Removes finished tasks even while connections keep arriving.
            Some(_) = tasks.join_next() => {}
            Some(incoming) = attempts.next() => {
                let Some(incoming) = connections.drop_unknown_source(incoming) else { continue };
                match limiter.admit_quic(incoming.remote_address().ip(), incoming.remote_address_validated()) {
                    Ok(Some(permit)) => {
                        tasks.spawn(Arc::clone(&connections).handle(incoming, permit, stopping.clone()));
                    }
                    Ok(None) => connections.send_retry(incoming),
                    Err(ConnectionRejection::Total) if connections.open.has_idle(connections.config.min_idle) => {
                        if incoming.remote_address_validated() {
                            tasks.spawn(Arc::clone(&connections).replace_idle(incoming, stopping.clone()));
                        } else {
                            // Forged packets must not close idle connections.
                            connections.send_retry(incoming);
                        }
                    }
                    Err(rejection) => connections.reject(incoming, rejection),
                }
            }
        }
    }
    for endpoint in &endpoints {
        endpoint.set_server_config(None);
    }
    let _ = stop.send(true);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, join_all(endpoints.iter().map(Endpoint::wait_idle))).await;
}

/// State shared by all connections of a server.
struct MoqtConnections {
    config: MoqtServerConfig,
    counters: Arc<ServerCounters>,
    alpns: Arc<AlpnRecorder>,
    limiter: Arc<ConnectionLimiter>,
    open: OpenConnections,
    log: LogState,
}

#[derive(Default)]
struct LogState {
    rejections: SharedLogThrottle,
    failures: SharedLogThrottle,
    connections: SharedLogThrottle,
    drops: SharedLogThrottle,
    /// Number of dropped groups that have been logged.
    drops_logged: AtomicU64,
}

impl MoqtConnections {
    /// Drops a connection attempt of a source that is not allowed.
    fn drop_unknown_source(&self, incoming: Incoming) -> Option<Incoming> {
        let allow = &self.config.allow;
        if allow.is_empty() || allow.iter().any(|network| network.contains(incoming.remote_address().ip())) {
            return Some(incoming);
        }
        self.counters.update(|counters| counters.connections.connections_dropped_not_allowed += 1);
        if self.log.rejections.allow() {
            info!(target: "moqt", source = %incoming.remote_address(), reason = "source not in --allow", "connection dropped");
        }
        incoming.ignore();
        None
    }

    /// Sends a Retry packet. Nothing is stored for the source.
    fn send_retry(&self, incoming: Incoming) {
        self.counters.update(|counters| counters.connections.retries_sent += 1);
        if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
    }

    /// Closes an idle connection for a new client with a validated address, and handles the client's connection.
    async fn replace_idle(self: Arc<Self>, incoming: Incoming, stopping: watch::Receiver<bool>) {
        let Some(source) = self.open.close_longest_idle(self.config.min_idle) else { return incoming.refuse() };
        self.counters.update(|counters| counters.connections.connections_closed_idle += 1);
        if self.log.rejections.allow() {
            warn!(target: "moqt", %source, reason = "idle, and the connection limit is reached", "connection closed");
        }
        // The new client waits for the slot of the closed connection. Otherwise, the address of that connection could take it again.
        let address = incoming.remote_address().ip();
        let admitted = async { self.limiter.permit_quic(self.limiter.acquire().await, address) };
        match tokio::time::timeout(REPLACE_TIMEOUT, admitted).await {
            Ok(Ok(permit)) => self.handle(incoming, permit, stopping).await,
            Ok(Err(rejection)) => self.reject(incoming, rejection),
            Err(_) => self.reject(incoming, ConnectionRejection::Total),
        }
    }

    /// Rejects a connection because of a limit.
    fn reject(&self, incoming: Incoming, rejection: ConnectionRejection) {
        let mut counted = ConnectionCounters::default();
        let (reason, limit) = match rejection {
            ConnectionRejection::Address(_) | ConnectionRejection::Rate => {
                counted.connections_rejected_address_limit = 1;
                ("too many connections from this address", Some(MAX_CONNECTIONS_PER_SOURCE))
            }
            ConnectionRejection::OverBudget(_) => {
                counted.connections_rejected_memory = 1;
                ("memory budget", None)
            }
            ConnectionRejection::Total => {
                counted.connections_rejected_limit = 1;
                ("connection limit", Some(self.config.max_connections))
            }
        };
        self.counters.update(|counters| counters.connections.add(&counted));
        if self.log.rejections.allow() {
            let source = canonical_socket_addr(incoming.remote_address());
            warn!(target: "moqt", %source, reason, limit, "connection rejected");
        }
        incoming.refuse();
    }

    /// Handles a connection until it ends or the server stops.
    async fn handle(
        self: Arc<Self>,
        incoming: Incoming,
        permit: ConnectionPermit,
        mut stopping: watch::Receiver<bool>,
    ) {
        let source = canonical_socket_addr(incoming.remote_address());
        let mut stop = pin!(async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            SHUTDOWN_REASON
        });
        let connection = tokio::select! {
            connection = self.accept_handshake(incoming) => match connection {
                Ok(connection) => connection,
                Err(reason) => {
                    let count = |counters: &mut CounterSnapshot| counters.connections.handshakes_failed += 1;
                    return self.on_failed(source, &reason, "QUIC handshake failed", count);
                }
            },
            _ = &mut stop => return,
        };
        permit.finish_handshake();
        let alpn = quic::negotiated_alpn(&connection).unwrap_or_default();
        let is_webtransport = alpn == ALPN_WEBTRANSPORT;
        self.counters.update(|counters| {
            counters.connections.connections_webtransport += u64::from(is_webtransport);
            counters.connections.connections_quic += u64::from(!is_webtransport);
        });
        let registration = self.open.register(connection.clone(), &self.counters);
        let (session, version) = if is_webtransport {
            tokio::select! {
                accepted = self.accept_webtransport(&connection, source) => match accepted {
                    Some((session, version)) => (Some(session), version),
                    None => return connection.close(VarInt::from_u32(H3_NO_ERROR), b""),
                },
                _ = &mut stop => return connection.close(VarInt::from_u32(H3_NO_ERROR), SHUTDOWN_REASON.as_bytes()),
            }
        } else {
            if let Err(reason) = select_protocol(&[String::from_utf8_lossy(&alpn).into_owned()]) {
                // The client has offered only ALPNs that are accepted to give it this reason.
                self.on_failed(source, &reason, "connection rejected", |counters| counters.sessions.setups_failed += 1);
                return connection.close(VarInt::from_u32(error_code::UNSUPPORTED_VERSION), reason.as_bytes());
            }
            (None, MoqtVersion::from_alpn(&alpn))
        };
        let transport = TransportConnection { connection: connection.clone(), session };
        if self.log.connections.allow() {
            let transport = if is_webtransport { Transport::WebTransport } else { Transport::Quic };
            let version = version.map_or("selected by the setup", MoqtVersion::name);
            info!(target: "moqt", %source, transport = transport.name(), version, "connected");
        }
        let role = EndpointRole::Server { served_path: self.config.path.clone(), path_in_connect: is_webtransport };
        let session = new_session(role, self.config.limits.clone(), version);
        let mut endpoint = MoqtEndpoint::new(session, MoqtEcho::new(self.config.echo.clone()));
        let streams = ConnectionStreams::new(transport, version.is_none());
        let mut held_memory = permit.memory().hold(0);
        let mut rejected_count = 0;
        let close = drive_session(streams, &mut endpoint, stop, |endpoint, streams| {
            let counters = endpoint.take_counters();
            if counters.groups_received + counters.frames_received + counters.frames_sent > 0 {
                registration.on_activity();
            }
            self.add_session_counters(source, &counters);
            let held = endpoint.session.held_bytes() + endpoint.handler.buffered_bytes();
            let held = streams.open_count() as u64 * quic::STREAM_BYTES + held as u64;
            if held_memory.resize(quic::CONNECTION_BYTES + held).is_err() {
                // What exists counts in any case.
                held_memory = permit.memory().hold(quic::CONNECTION_BYTES + held);
                if held > MAX_HELD_OVER_BUDGET {
                    self.close_over_budget(&connection, source);
                }
            }
            endpoint.handler.limit_growth(permit.memory().available());
            let rejected = streams.rejected_count - std::mem::replace(&mut rejected_count, streams.rejected_count);
            if rejected > 0 {
                self.counters.update(|counters| counters.connections.streams_stray += rejected);
            }
        });
        let SessionClose { code, reason, closed_locally } = close.await;
        if matches!(connection.close_reason(), Some(ConnectionError::TimedOut)) {
            self.counters.update(|counters| counters.connections.connections_timed_out += 1);
        }
        if closed_locally && code == H3_EXCESSIVE_LOAD {
            self.counters.update(|counters| counters.connections.connections_closed_excessive_load += 1);
        }
        let closed_by = if closed_locally { "server" } else { "client" };
        if closed_locally && code != error_code::NO_ERROR && self.log.failures.allow() {
            warn!(target: "moqt", %source, code = %format_args!("{code:#x}"), reason, closed_by, "connection closed");
        } else {
            debug!(target: "moqt", %source, code = %format_args!("{code:#x}"), reason, closed_by, "connection closed");
        }
    }

    /// Closes a connection that needs more memory than the budget has.
    fn close_over_budget(&self, connection: &Connection, source: SocketAddr) {
        if connection.close_reason().is_some() {
            return;
        }
        connection.close(VarInt::from_u32(H3_EXCESSIVE_LOAD), OverBudget.to_string().as_bytes());
        self.counters.update(|counters| counters.connections.connections_closed_memory += 1);
        if self.log.failures.allow() {
            warn!(target: "moqt", %source, reason = "memory budget", "connection closed");
        }
    }

    async fn accept_handshake(&self, incoming: Incoming) -> Result<Connection, String> {
        let connecting = incoming.accept().map_err(|error| self.handshake_error(&error))?;
        match tokio::time::timeout(self.config.limits.setup_timeout, connecting).await {
            Ok(connection) => connection.map_err(|error| self.handshake_error(&error)),
            Err(_) => Err("timed out".to_owned()),
        }
    }

    /// Why a handshake failed. If the client offered no supported ALPN, the text names the offered ones.
    fn handshake_error(&self, error: &ConnectionError) -> String {
        let no_alpn = TransportErrorCode::crypto(AlertDescription::NoApplicationProtocol.into());
        let is_alpn_error = matches!(error, ConnectionError::TransportError(error) if error.code == no_alpn);
        let reason = self.alpns.take_reason().filter(|_| is_alpn_error);
        reason.unwrap_or_else(|| error.to_string())
    }

    /// Adds session counters and logs dropped groups.
    fn add_session_counters(&self, source: SocketAddr, session_counters: &SessionCounters) {
        self.counters.add_session(session_counters);
        if session_counters.groups_dropped().iter().sum::<u64>() > 0 && self.log.drops.allow() {
            let dropped = self.counters.snapshot().sessions.groups_dropped();
            let total: u64 = dropped.iter().sum();
            let newly_dropped = total - self.log.drops_logged.swap(total, Ordering::Relaxed);
            warn!(
                target: "moqt",
                newly_dropped,
                last_source = %source,
                groups_dropped_slow_reader_total = dropped[0],
                groups_dropped_buffer_full_total = dropped[1],
                groups_dropped_no_subscriber_total = dropped[2],
                "groups dropped"
            );
        }
    }

    /// Accepts the WebTransport session of the first request. Returns the session, and the version if the client selected one that has no
    /// setup.
    async fn accept_webtransport(
        &self,
        connection: &Connection,
        source: SocketAddr,
    ) -> Option<(WebTransportSession, Option<MoqtVersion>)> {
        let timeout = self.config.limits.setup_timeout;
        let received = match tokio::time::timeout(timeout, SessionRequest::receive(connection)).await {
            Ok(received) => received.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no request within {} s", display_seconds(timeout))),
        };
        let request = received.map_err(|reason| self.on_request_rejected(source, &reason)).ok()?;
        let (status, reason) = match &request.request {
            Ok((path, protocols)) if path_matches(&self.config.path, path) => {
                let selected = select_protocol(protocols);
                let protocol = selected.as_ref().ok().copied().flatten();
                // The response has the same time limit, because it cannot be sent to a client that grants no flow-control credit.
                let Ok(accepted) = tokio::time::timeout(timeout, request.accept(protocol)).await else {
                    let reason = format!("response not read within {} s", display_seconds(timeout));
                    self.on_request_rejected(source, &reason);
                    return None;
                };
                let session = accepted.ok()?;
                if let Err(reason) = selected {
                    self.on_request_rejected(source, &reason);
                    // The reason reaches the client only in an accepted session.
                    let transport = TransportConnection { connection: connection.clone(), session: Some(session) };
                    transport.close(error_code::UNSUPPORTED_VERSION, &reason).await;
                    return None;
                }
                return Some((session, protocol.and_then(|name| MoqtVersion::from_alpn(name.as_bytes()))));
            }
            Ok((path, _)) => {
                (StatusCode::NOT_FOUND, format!("unknown path {path:.64}; this server serves {}", self.config.path))
            }
            Err(error) => (StatusCode::BAD_REQUEST, error.clone()),
        };
        self.on_request_rejected(source, &reason);
        let _ = tokio::time::timeout(timeout, request.reject(status, connection)).await;
        None
    }

    fn on_request_rejected(&self, source: SocketAddr, reason: &str) {
        self.on_failed(source, reason, "WebTransport request rejected", |counters| {
            counters.connections.requests_rejected += 1;
            counters.sessions.setups_failed += 1;
        });
    }

    /// Counts and logs a connection that ends before it has a session.
    fn on_failed(&self, source: SocketAddr, reason: &str, event: &str, count: impl FnOnce(&mut CounterSnapshot)) {
        self.counters.update(count);
        if self.log.failures.allow() {
            warn!(target: "moqt", %source, reason, "{event}");
        }
    }
}
