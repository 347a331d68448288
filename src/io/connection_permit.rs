//! Limits concurrent connections of TCP and QUIC servers, in total and per source address (IPv6: per /64). A [`ConnectionPermit`] belongs to
//! one connection and frees its slot when it is dropped.
//!
//! Above the total limit, TCP connections wait in the listen backlog, and QUIC connections are rejected. While many QUIC handshakes are
//! pending, the server validates the source address of each new connection.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use crate::address::source_network;
use crate::io::clock;
use crate::io::http::forwarded::TrustedProxies;
use crate::io::log::SharedLogThrottle;
use crate::io::os;
use crate::lock::lock;
use crate::memory_budget::{MemoryAccount, MemoryBudget, MemoryPermit, OverBudget};
use crate::rate_limit::{Gcra, KeyedGcra, RequestRate};

/// Maximum number of pending QUIC handshakes before source addresses must be validated with a Retry packet, so that spoofed sources cannot
/// occupy more permits. The Retry amplifies nothing, because it is shorter than the packet that it answers.
const MAX_UNVALIDATED_HANDSHAKES: usize = 8;

/// Maximum number of addresses whose new connections, requests or failed logins are counted.
pub(in crate::io) const MAX_LIMITED_SOURCES: usize = 100_000;

/// Memory of a TCP connection without TLS, in bytes.
const PLAIN_CONNECTION_BYTES: u64 = 16 << 10;

/// Memory of a TCP connection with TLS, in bytes: also the TLS state and buffers of one record each.
pub(in crate::io) const TLS_CONNECTION_BYTES: u64 = PLAIN_CONNECTION_BYTES + (32 << 10);

/// Memory for the head of a request, in bytes: the buffer, and its copy while it grows. An upgraded connection has no such buffer.
pub(in crate::io) const REQUEST_HEAD_BYTES: u64 = 20 << 10;

/// Limits for the connections of one server.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Maximum number of concurrent connections. `None` is no limit.
    pub max_connections: Option<usize>,
    /// Maximum number of concurrent connections per source address. Further connections are closed at once. Loopback is exempt. `None` is
    /// no limit.
    pub max_connections_per_address: Option<usize>,
    /// Rate of new connections per source address. Further connections are closed at once. Loopback is exempt.
    /// `None` is no limit.
    pub max_new_connections: Option<RequestRate>,
    /// Total time for the TLS handshake and the head of the first request.
    pub handshake_timeout: Duration,
    /// Maximum time from a request to the next one. Otherwise, a client that never reads could keep its slot. Load balancers reuse their
    /// connections for up to 60 s after a response, which must have ended within 15 s. An upgraded connection has no such limit. During an endless response, the time restarts whenever the
    /// client reads ([`ConnectionPermit::extend`]).
    pub max_lifetime: Duration,
    /// The memory budget of the process.
    pub memory_budget: Arc<MemoryBudget>,
    /// Memory that each connection may always use, in bytes. A TCP connection has 20 KiB more until it is upgraded.
    pub bytes_per_connection: u64,
    /// The reverse proxies whose `X-Forwarded-For` names the source address of a request. `None`: the header is ignored.
    pub trusted_proxies: Option<TrustedProxies>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: Some(64),
            max_connections_per_address: None,
            max_new_connections: None,
            handshake_timeout: Duration::from_secs(10),
            max_lifetime: Duration::from_secs(75),
            memory_budget: MemoryBudget::new(None),
            bytes_per_connection: PLAIN_CONNECTION_BYTES,
            trusted_proxies: None,
        }
    }
}

/// Counts and limits the open connections of one server.
#[derive(Debug)]
pub struct ConnectionLimiter {
    /// The configured limits.
    pub limits: ConnectionLimits,
    semaphore: Arc<Semaphore>,
    open_by_source: Mutex<HashMap<IpAddr, usize>>,
    new_by_source: Option<Mutex<KeyedGcra<IpAddr>>>,
    /// QUIC handshakes that are not complete.
    pending_handshakes: AtomicUsize,
    /// TCP connections closed because of a limit of their source address, or because of the memory budget.
    pub rejected: AtomicU64,
    /// Connections closed because no complete request arrived in time.
    pub handshake_timeouts: AtomicU64,
    /// Requests without a head that can be read, such as one that is too long.
    pub malformed_requests: AtomicU64,
    log_throttle: SharedLogThrottle,
}

/// Why a connection is rejected.
#[derive(Clone, Copy, Debug, Error)]
pub(in crate::io) enum ConnectionRejection {
    #[error("connection limit")]
    Total,
    /// The address has this number of open connections.
    #[error("too many connections from this address")]
    Address(usize),
    #[error("too many new connections from this address")]
    Rate,
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// The right to one connection; dropping it frees the slot.
#[derive(Debug)]
pub struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    /// The source address whose limit the connection counts towards.
    source: OnceLock<IpAddr>,
    memory: Arc<MemoryAccount>,
    /// The account of the client behind a trusted proxy, whose connection is being upgraded.
    client_memory: OnceLock<Arc<MemoryAccount>>,
    /// Whether the connection is among the pending QUIC handshakes.
    in_handshake: AtomicBool,
    /// Whether a complete request head has arrived.
    has_request: AtomicBool,
    /// When the connection is closed.
    deadline: Mutex<Instant>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimiter {
    /// Creates a limiter for a server that has no connections yet.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        let limit = limits.max_connections.unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let semaphore = Arc::new(Semaphore::new(limit));
        let new_by_source =
            limits.max_new_connections.map(|limit| KeyedGcra::new(Gcra::with_request_rate(limit), MAX_LIMITED_SOURCES));
        Arc::new(Self {
            limits,
            semaphore,
            open_by_source: Mutex::default(),
            new_by_source: new_by_source.map(Mutex::new),
            pending_handshakes: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            handshake_timeouts: AtomicU64::new(0),
            malformed_requests: AtomicU64::new(0),
            log_throttle: SharedLogThrottle::default(),
        })
    }

    /// Waits for a free slot.
    #[doc(hidden)]
    pub async fn acquire(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.semaphore).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Assigns a free slot to `address`; `None` if the limit per address is reached. The address of a trusted proxy is not counted;
    /// [`ConnectionPermit::assign_client`] counts the address of its client.
    #[doc(hidden)]
    pub fn assign(self: &Arc<Self>, free: OwnedSemaphorePermit, address: IpAddr) -> Option<ConnectionPermit> {
        let is_proxy = self.limits.trusted_proxies.as_ref().is_some_and(|proxies| proxies.trusts(address));
        let permit = self.permit(free, (!is_proxy).then_some(address), REQUEST_HEAD_BYTES);
        permit.map_err(|reason| self.reject(address, reason)).ok()
    }

    /// Decides on a QUIC connection attempt from `address`. `validated` is true if the client has answered a Retry packet. `None`: the
    /// server sends a Retry packet, and the client's answer will validate its address.
    pub(in crate::io) fn admit_quic(
        self: &Arc<Self>,
        address: IpAddr,
        validated: bool,
    ) -> Result<Option<ConnectionPermit>, ConnectionRejection> {
        let Ok(free) = Arc::clone(&self.semaphore).try_acquire_owned() else {
            // No other connection is closed for an address that has reached its own limit.
            self.check_address(address)?;
            return Err(ConnectionRejection::Total);
        };
        let max_unvalidated = MAX_UNVALIDATED_HANDSHAKES.min(self.limits.max_connections.unwrap_or(usize::MAX) / 2);
        if !validated && self.pending_handshakes.load(Ordering::Relaxed) >= max_unvalidated {
            return Ok(None);
        }
        self.permit_quic(free, address).map(Some)
    }

    /// Assigns a free slot to a QUIC connection from `address`.
    pub(in crate::io) fn permit_quic(
        self: &Arc<Self>,
        free: OwnedSemaphorePermit,
        address: IpAddr,
    ) -> Result<ConnectionPermit, ConnectionRejection> {
        let permit = self.permit(free, Some(address), 0)?;
        self.pending_handshakes.fetch_add(1, Ordering::Relaxed);
        permit.in_handshake.store(true, Ordering::Relaxed);
        Ok(permit)
    }

    /// Fails if the limit of open connections is reached for `address`.
    fn check_address(&self, address: IpAddr) -> Result<(), ConnectionRejection> {
        let address = source_network(address);
        let open = lock(&self.open_by_source);
        match self.limits.max_connections_per_address {
            Some(limit) if !address.is_loopback() && open.get(&address).is_some_and(|count| *count >= limit) => {
                Err(ConnectionRejection::Address(limit))
            }
            _ => Ok(()),
        }
    }

    /// Takes the memory of a connection and counts it for `address`. `None`: a trusted proxy, whose address has no limits.
    fn permit(
        self: &Arc<Self>,
        free: OwnedSemaphorePermit,
        address: Option<IpAddr>,
        head_bytes: u64,
    ) -> Result<ConnectionPermit, ConnectionRejection> {
        let memory = self.limits.memory_budget.open(address, self.limits.bytes_per_connection + head_bytes)?;
        let counted = address.map_or(Ok(None), |address| self.count_source(address, true))?;
        Ok(ConnectionPermit {
            limiter: Arc::clone(self),
            source: counted.map_or_else(OnceLock::new, OnceLock::from),
            memory,
            client_memory: OnceLock::new(),
            in_handshake: AtomicBool::new(false),
            has_request: AtomicBool::new(false),
            deadline: Mutex::new(Instant::now() + self.limits.handshake_timeout.min(self.limits.max_lifetime)),
            _permit: free,
        })
    }

    /// Counts and logs a rejected TCP connection.
    fn reject(&self, address: IpAddr, reason: ConnectionRejection) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        if self.log_throttle.allow() {
            let limit = if let ConnectionRejection::Address(limit) = reason { Some(limit) } else { None };
            warn!(target: "http", source = %source_network(address), %reason, limit, "connection rejected");
        }
    }

    /// Logs that the system cannot accept a TCP connection, usually because of the limit on open files.
    pub(in crate::io) fn log_failed_accept(&self, error: &io::Error) {
        if self.log_throttle.allow() {
            let open_files_limit = os::descriptor_limit();
            warn!(target: "http", %error, open_files_limit, "cannot accept a connection; clients wait (ulimit -n, LimitNOFILE=)");
        }
    }

    /// Counts one more connection for `address`. `Ok(None)` if the address is exempt.
    fn count_source(&self, address: IpAddr, exempt_loopback: bool) -> Result<Option<IpAddr>, ConnectionRejection> {
        let address = source_network(address);
        // Loopback is exempt, because a proxy on this host connects from loopback for all its clients.
        let is_exempt = exempt_loopback && address.is_loopback();
        if let Some(new) = self.new_by_source.as_ref().filter(|_| !is_exempt) {
            let checked = lock(new).try_charge(clock::monotonic_now(), source_network(address));
            if checked.is_err() {
                return Err(ConnectionRejection::Rate);
            }
        }
        let Some(limit) = self.limits.max_connections_per_address.filter(|_| !is_exempt) else { return Ok(None) };
        let mut open = lock(&self.open_by_source);
        if open.get(&address).copied().unwrap_or(0) >= limit {
            return Err(ConnectionRejection::Address(limit));
        }
        *open.entry(address).or_default() += 1;
        Ok(Some(address))
    }
}

impl ConnectionPermit {
    /// Counts an upgraded connection of a trusted proxy for the address of its client, as its memory from now on. Fails if a limit
    /// is reached. A forwarded address is never exempt from the limit on connections.
    pub(in crate::io) fn assign_client(&self, address: IpAddr, is_forwarded: bool) -> Result<(), ConnectionRejection> {
        if !is_forwarded || self.client_memory.get().is_some() {
            return Ok(());
        }
        self.try_assign_client(address).inspect_err(|reason| self.limiter.reject(address, *reason))
    }

    fn try_assign_client(&self, address: IpAddr) -> Result<(), ConnectionRejection> {
        let ConnectionLimits { memory_budget, bytes_per_connection, .. } = &self.limiter.limits;
        let memory = memory_budget.open(Some(address), *bytes_per_connection)?;
        if let Some(counted) = self.limiter.count_source(address, false)? {
            let _ = self.source.set(counted);
        }
        let _ = self.client_memory.set(memory);
        self.memory.prepay(0).map_err(ConnectionRejection::from)
    }

    /// The account of the client.
    pub(in crate::io) fn memory(&self) -> &Arc<MemoryAccount> {
        self.client_memory.get().unwrap_or(&self.memory)
    }

    /// Memory for the body of a request. The request also uses the fixed share of the connection.
    pub(in crate::io) fn take_for_body(&self, bytes: u64) -> Result<MemoryPermit, OverBudget> {
        self.memory().take(self.limiter.limits.bytes_per_connection + REQUEST_HEAD_BYTES + bytes)
    }

    /// The connection is being upgraded: it has no request head any more. Returns the memory of the connection itself, which leaves a quarter
    /// of its fixed share for messages.
    pub(in crate::io) fn on_upgrade(&self) -> MemoryPermit {
        let share = self.limiter.limits.bytes_per_connection;
        // Less memory is never refused.
        let _ = self.memory().prepay(share);
        self.memory().hold(share / 4 * 3)
    }

    /// The QUIC handshake is complete.
    pub(in crate::io) fn finish_handshake(&self) {
        if self.in_handshake.swap(false, Ordering::Relaxed) {
            self.limiter.pending_handshakes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Restarts the maximum lifetime. Code that streams an endless response calls this function whenever the client has read more data.
    pub fn extend(&self) {
        *lock(&self.deadline) = Instant::now() + self.max_lifetime();
    }

    /// The time until the end of the lifetime after it was restarted.
    pub fn max_lifetime(&self) -> Duration {
        self.limiter.limits.max_lifetime
    }

    /// When the connection is closed, unless the deadline is extended.
    pub(in crate::io) fn deadline(&self) -> Instant {
        *lock(&self.deadline)
    }

    /// A complete request head has arrived. Its request has the maximum lifetime.
    pub(in crate::io) fn on_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
        self.extend();
    }

    /// Whether more than half of the slots or of the memory are in use. Then, connections are closed after their response. Otherwise, clients without requests could take all slots.
    pub(in crate::io) fn is_scarce(&self) -> bool {
        let ConnectionLimiter { limits, semaphore, .. } = &*self.limiter;
        let is_mostly_used = |limit: usize| semaphore.available_permits() < limit.div_ceil(2);
        limits.max_connections.is_some_and(is_mostly_used) || limits.memory_budget.is_scarce()
    }

    /// Whether the connection has sent a complete request head.
    pub(in crate::io) fn has_request(&self) -> bool {
        self.has_request.load(Ordering::Relaxed)
    }

    /// Counts and logs a request that is answered with 400 or 431 before any route.
    pub(in crate::io) fn on_malformed_request(&self, source: SocketAddr, reason: &str) {
        self.limiter.malformed_requests.fetch_add(1, Ordering::Relaxed);
        if self.limiter.log_throttle.allow() {
            warn!(target: "http", %source, reason, "malformed request");
        }
    }

    /// Called at the deadline. Counts a time-out only if the connection never sent a complete request head.
    pub(in crate::io) fn on_timeout(&self) {
        if !self.has_request() {
            self.limiter.handshake_timeouts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.finish_handshake();
        let Some(address) = self.source.take() else { return };
        let mut open = lock(&self.limiter.open_by_source);
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A TCP connection from this address.
    async fn open(limiter: &Arc<ConnectionLimiter>, from: &str) -> Option<ConnectionPermit> {
        limiter.assign(limiter.acquire().await, address(from))
    }

    #[tokio::test]
    async fn connections_per_address_are_limited_except_loopback() {
        let limiter = ConnectionLimiter::new(ConnectionLimits {
            max_connections: None,
            max_connections_per_address: Some(2),
            ..ConnectionLimits::default()
        });
        let held = async |from| open(&limiter, from).await.expect("a free slot");
        let first = held("192.0.2.1").await;
        // The same address, written as an IPv4-mapped IPv6 address. A dual-stack socket reports IPv4 addresses in this form.
        let _second = held("::ffff:192.0.2.1").await;
        assert!(open(&limiter, "192.0.2.1").await.is_none());
        assert!(open(&limiter, "192.0.2.2").await.is_some());
        assert_eq!(limiter.rejected.load(Ordering::Relaxed), 1);
        drop(first);
        assert!(open(&limiter, "192.0.2.1").await.is_some());
        // Addresses of one IPv6 /64 count as one address.
        let _held = [held("2001:db8::1").await, held("2001:db8::2").await];
        assert!(open(&limiter, "2001:db8::ffff:0:0:1").await.is_none());
        assert!(open(&limiter, "2001:db8:0:1::1").await.is_some());
        assert_eq!(limiter.rejected.load(Ordering::Relaxed), 2);
        let mut local = Vec::new();
        for from in ["127.0.0.1", "::1"].repeat(9) {
            local.push(held(from).await);
        }
        assert_eq!(limiter.rejected.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn new_connections_per_address_are_limited_except_loopback() {
        let limiter = ConnectionLimiter::new(ConnectionLimits {
            max_new_connections: Some(RequestRate { count: 3, period: Duration::from_secs(3_600) }),
            ..ConnectionLimits::default()
        });
        // Each connection is closed at once, but still counts.
        let is_accepted = async |from| open(&limiter, from).await.is_some();
        for [first, second] in [["192.0.2.1", "::ffff:192.0.2.1"], ["2001:db8::1", "2001:db8::2"]] {
            assert!(is_accepted(first).await && is_accepted(second).await && is_accepted(first).await);
            assert!(!is_accepted(first).await && !is_accepted(second).await, "{first}");
            assert!(matches!(limiter.admit_quic(address(first), true), Err(ConnectionRejection::Rate)), "{first}");
        }
        assert!(is_accepted("192.0.2.2").await && is_accepted("2001:db8:0:1::1").await);
        for _ in 0..9 {
            assert!(is_accepted("127.0.0.1").await && is_accepted("::1").await);
        }
        // QUIC servers count their rejections themselves.
        assert_eq!(limiter.rejected.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn forwarded_connections_count_for_the_forwarded_address() {
        let limiter = ConnectionLimiter::new(ConnectionLimits {
            max_connections: None,
            max_connections_per_address: Some(1),
            trusted_proxies: Some(TrustedProxies::Hops(NonZeroUsize::MIN)),
            ..ConnectionLimits::default()
        });
        let [one, other, proxy] = ["192.0.2.1", "192.0.2.2", "127.0.0.1"].map(address);
        let mut permits = Vec::new();
        for _ in 0..5 {
            permits.push(open(&limiter, "127.0.0.1").await.expect("a free slot"));
        }
        assert!(permits[0].assign_client(one, true).is_ok() && permits[1].assign_client(one, true).is_err());
        assert!(permits[2].assign_client(other, true).is_ok());
        // A permit counts towards the limit of the first address that is assigned to it. Assigning a second address has no effect.
        assert!(permits[0].assign_client(other, true).is_ok());
        assert_eq!(limiter.rejected.load(Ordering::Relaxed), 1);
        // A forwarded loopback address is counted. The proxy's own address is not.
        assert!(permits[3].assign_client(proxy, true).is_ok() && permits[4].assign_client(proxy, true).is_err());
        assert!(permits[1].assign_client(proxy, false).is_ok());
        assert!(open(&limiter, "192.0.2.1").await.is_none(), "not from the proxy");
        drop(permits.remove(0));
        assert!(open(&limiter, "192.0.2.1").await.is_some());
    }

    #[tokio::test]
    async fn upgraded_connections_of_a_proxy_use_the_memory_of_their_clients() {
        // An address may hold 40,000 bytes.
        let memory_budget = MemoryBudget::new(Some(320_000));
        let limiter = ConnectionLimiter::new(ConnectionLimits {
            memory_budget: Arc::clone(&memory_budget),
            bytes_per_connection: 1_000,
            trusted_proxies: Some(TrustedProxies::Networks(Arc::from(["192.0.2.9".parse().expect("a network")]))),
            ..ConnectionLimits::default()
        });
        let (proxy, client) = ("192.0.2.9", "192.0.2.1");
        let request_bytes = 1_000 + REQUEST_HEAD_BYTES;
        let mut permits = Vec::new();
        for from in [proxy, proxy, proxy, client] {
            permits.push(open(&limiter, from).await.expect("within the budget"));
        }
        assert!(open(&limiter, client).await.is_none());
        assert_eq!((memory_budget.held(), limiter.rejected.load(Ordering::Relaxed)), (4 * request_bytes, 1));
        let own = [0, 1].map(|index: usize| {
            assert!(permits[index].assign_client(address(client), true).is_ok());
            permits[index].on_upgrade()
        });
        assert_eq!(memory_budget.held(), 2 * request_bytes + 2 * 1_000);
        // The connection itself uses 750 of its 1,000 bytes.
        let message = permits[0].memory().hold(251);
        assert_eq!(memory_budget.held(), 2 * request_bytes + 2 * 1_000 + 1);
        drop((own, message));
        // The client may hold 16,520 bytes more.
        assert!(permits[0].memory().take(18_000).is_err() && permits[0].memory().take(17_000).is_ok());
        drop(permits[3].on_upgrade());
        assert_eq!(memory_budget.held(), request_bytes + 3 * 1_000);
        permits.clear();
        assert_eq!(memory_budget.held(), 0);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_a_slot() {
        let limiter =
            ConnectionLimiter::new(ConnectionLimits { max_connections: Some(1), ..ConnectionLimits::default() });
        let first = limiter.acquire().await;
        assert!(limiter.acquire().now_or_never().is_none());
        drop(first);
        assert!(limiter.acquire().now_or_never().is_some());
    }

    #[test]
    fn quic_connections_are_limited_in_total_and_per_source() {
        let limiter = ConnectionLimiter::new(ConnectionLimits {
            max_connections: Some(2),
            max_connections_per_address: Some(1),
            ..ConnectionLimits::default()
        });
        let admit = |source| limiter.admit_quic(address(source), true);
        let first = admit("192.0.2.1").expect("within the limits");
        assert!(matches!(admit("192.0.2.1"), Err(ConnectionRejection::Address(1))));
        let _second = admit("192.0.2.2").expect("within the limits");
        assert!(matches!(admit("192.0.2.9"), Err(ConnectionRejection::Total)));
        // An address at its own limit causes no total limit.
        assert!(matches!(admit("192.0.2.1"), Err(ConnectionRejection::Address(1))));
        drop(first);
        assert!(matches!(admit("192.0.2.1"), Ok(Some(_))));
    }

    #[test]
    fn unvalidated_address_gets_retry_while_handshakes_are_pending() {
        let limiter =
            ConnectionLimiter::new(ConnectionLimits { max_connections: Some(100), ..ConnectionLimits::default() });
        let source = address("192.0.2.1");
        let mut permits = Vec::new();
        for _ in 0..8 {
            let Ok(Some(permit)) = limiter.admit_quic(source, false) else { panic!("no permit") };
            permits.push(permit);
        }
        assert!(matches!(limiter.admit_quic(address("192.0.2.2"), false), Ok(None)));
        assert!(matches!(limiter.admit_quic(address("192.0.2.2"), true), Ok(Some(_))));
        permits[0].finish_handshake();
        assert!(matches!(limiter.admit_quic(source, false), Ok(Some(_))));
    }
}
