//! Limits concurrent connections of TCP and QUIC servers, in total and per source address (IPv6: per /64). A [`ConnectionPermit`]
//! belongs to one connection and frees its slot when it is dropped.
//!
//! Above the total limit, TCP connections wait in the listen backlog, and QUIC connections are rejected. While many QUIC handshakes are
//! pending, the server validates the source address of each new connection.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use crate::address::source_network;
use crate::io::clock;
use crate::io::http::forwarded::TrustedProxies;
use crate::io::log::SharedLogThrottle;
use crate::memory_budget::{BudgetExceeded, MemoryBudget, MemoryCharge};
use crate::rate_limit::{WindowLimit, WindowLimiter};

/// Maximum number of pending QUIC handshakes before source addresses must be validated with a Retry packet. Spoofed sources cannot occupy
/// more permits than this. They cannot use the Retry for amplification, because it is shorter than the packet that it answers.
const MAX_UNVALIDATED_HANDSHAKES: usize = 8;

/// Maximum number of sources whose new connections are counted.
const MAX_LIMITED_SOURCES: usize = 100_000;

/// Memory of a TCP connection without TLS, in bytes: the state of its task.
const PLAIN_CONNECTION_BYTES: u64 = 8 << 10;

/// Memory for the head of a request, in bytes: the buffer, and its copy while it grows. An upgraded connection has no such buffer.
const REQUEST_HEAD_BYTES: u64 = 28 << 10;

/// Memory of a TCP connection with TLS, in bytes: also the TLS state and buffers of one record each.
pub(in crate::io) const TLS_CONNECTION_BYTES: u64 = 40 << 10;

/// Limits for the connections of one server.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Maximum number of concurrent connections. `None` is no limit.
    pub max_connections: Option<usize>,
    /// Maximum number of concurrent connections per source address. Further connections are closed at once. Loopback is exempt. `None` is
    /// no limit.
    pub max_connections_per_address: Option<usize>,
    /// Maximum number of new connections per source address in a period. Further connections are closed at once. Loopback is exempt.
    /// `None` is no limit.
    pub max_new_connections: Option<WindowLimit>,
    /// Total time for the TLS handshake and the head of a request. Also the maximum idle time of a connection.
    pub handshake_timeout: Duration,
    /// Maximum lifetime of a connection, even of a busy connection. Otherwise, a client that never reads could keep its slot. An upgraded
    /// connection has no maximum lifetime. During an endless response, the lifetime restarts whenever the client reads
    /// ([`ConnectionPermit::extend`]).
    pub max_lifetime: Duration,
    /// The memory budget of the process.
    pub memory_budget: Arc<MemoryBudget>,
    /// Memory that is charged for each TCP connection in addition to the head of a request, in bytes.
    pub bytes_per_connection: u64,
    /// The reverse proxies whose `X-Forwarded-For` names the source address of a request. `None`: the header is ignored.
    pub trusted_proxies: Option<TrustedProxies>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let (handshake_timeout, max_lifetime) = (Duration::from_secs(10), Duration::from_secs(60));
        Self {
            max_connections: Some(64),
            max_connections_per_address: None,
            max_new_connections: None,
            handshake_timeout,
            max_lifetime,
            memory_budget: Arc::default(),
            bytes_per_connection: PLAIN_CONNECTION_BYTES,
            trusted_proxies: None,
        }
    }
}

/// Counts and limits the open connections of one server.
#[derive(Debug)]
pub struct ConnectionLimiter {
    limits: ConnectionLimits,
    semaphore: Arc<Semaphore>,
    open_by_source: Mutex<HashMap<IpAddr, usize>>,
    new_by_source: Option<Mutex<WindowLimiter>>,
    /// QUIC handshakes that are not complete.
    pending_handshakes: AtomicUsize,
    rejected: AtomicU64,
    handshake_timeouts: AtomicU64,
    log_throttle: SharedLogThrottle,
}

/// Decision on a QUIC connection attempt.
#[derive(Debug)]
pub(in crate::io) enum QuicAdmission {
    /// Accepted, with its permit.
    Accepted(ConnectionPermit),
    /// Not accepted yet: the server sends a Retry packet. The client's answer validates the client's address.
    Retry,
    /// Rejected: the total limit is reached.
    ConnectionLimit,
    /// Rejected: the limit per source is reached.
    AddressLimit,
}

/// The right to one connection; dropping it frees the slot.
#[derive(Debug)]
pub struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    /// The source address whose limit the connection counts towards.
    source: OnceLock<IpAddr>,
    /// The charge for the connection, to its source address. A connection of a trusted proxy is charged to the proxy until it is upgraded.
    memory: Mutex<Option<MemoryCharge>>,
    /// Whether the connection is among the pending QUIC handshakes.
    in_handshake: AtomicBool,
    /// Whether a complete request head has arrived.
    has_request: AtomicBool,
    /// When the connection reaches its maximum lifetime.
    deadline: Mutex<Instant>,
    held: OnceLock<Box<dyn Any + Send + Sync>>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimiter {
    /// Creates a limiter for a server that has no connections yet.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        let limit = limits.max_connections.unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let semaphore = Arc::new(Semaphore::new(limit));
        let new_by_source = limits.max_new_connections.map(|limit| WindowLimiter::new(limit, MAX_LIMITED_SOURCES));
        Arc::new(Self {
            limits,
            semaphore,
            open_by_source: Mutex::default(),
            new_by_source: new_by_source.map(Mutex::new),
            pending_handshakes: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            handshake_timeouts: AtomicU64::new(0),
            log_throttle: SharedLogThrottle::default(),
        })
    }

    /// The configured limits.
    pub fn limits(&self) -> &ConnectionLimits {
        &self.limits
    }

    /// TCP connections closed because of a limit of their source address, or because of the memory budget.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Connections closed because no complete request arrived in time.
    pub fn handshake_timeouts(&self) -> u64 {
        self.handshake_timeouts.load(Ordering::Relaxed)
    }

    /// Waits for a free slot for a TCP connection.
    #[doc(hidden)]
    pub async fn acquire(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.semaphore).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Assigns a free slot to `address`; `None` if the limit per address is reached. The address of a trusted proxy is not counted;
    /// [`ConnectionPermit::assign_client`] counts the address of its client.
    #[doc(hidden)]
    pub fn assign(self: &Arc<Self>, free: OwnedSemaphorePermit, address: IpAddr) -> Option<ConnectionPermit> {
        let is_proxy = self.limits.trusted_proxies.as_ref().is_some_and(|proxies| proxies.trusts(address));
        if is_proxy {
            let permit = self.permit(free, None, false);
            return permit.charge(address, MemoryCharge::new_for_proxy).then_some(permit);
        }
        let counted = self.count_tcp_source(address, true).ok()?;
        let permit = self.permit(free, counted, false);
        permit.charge(address, MemoryCharge::new).then_some(permit)
    }

    /// Decides on a QUIC connection attempt from `address`. `validated` is true if the client has answered a Retry packet.
    pub(in crate::io) fn admit_quic(self: &Arc<Self>, address: IpAddr, validated: bool) -> QuicAdmission {
        let Ok(free) = Arc::clone(&self.semaphore).try_acquire_owned() else {
            // No other connection is closed for an address that has reached its own limit.
            let is_full = self.is_address_full(address);
            return if is_full { QuicAdmission::AddressLimit } else { QuicAdmission::ConnectionLimit };
        };
        let max_unvalidated = MAX_UNVALIDATED_HANDSHAKES.min(self.limits.max_connections.unwrap_or(usize::MAX) / 2);
        if !validated && self.pending_handshakes.load(Ordering::Relaxed) >= max_unvalidated {
            return QuicAdmission::Retry;
        }
        self.permit_quic(free, address).map_or(QuicAdmission::AddressLimit, QuicAdmission::Accepted)
    }

    /// Waits until a slot is free for a QUIC connection of a validated `address`. `None` if the limit per address is reached.
    pub(in crate::io) async fn admit_quic_when_free(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        self.permit_quic(self.acquire().await, address)
    }

    fn permit_quic(self: &Arc<Self>, free: OwnedSemaphorePermit, address: IpAddr) -> Option<ConnectionPermit> {
        let counted = self.count_source(address, true).ok()?;
        self.pending_handshakes.fetch_add(1, Ordering::Relaxed);
        Some(self.permit(free, counted, true))
    }

    /// Whether the limit of open connections is reached for `address`.
    fn is_address_full(&self, address: IpAddr) -> bool {
        let address = source_network(address);
        let open = self.open_by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&address).copied().unwrap_or(0);
        !address.is_loopback() && self.limits.max_connections_per_address.is_some_and(|limit| count >= limit)
    }

    fn permit(
        self: &Arc<Self>,
        free: OwnedSemaphorePermit,
        counted: Option<IpAddr>,
        in_handshake: bool,
    ) -> ConnectionPermit {
        ConnectionPermit {
            limiter: Arc::clone(self),
            source: counted.map_or_else(OnceLock::new, OnceLock::from),
            memory: Mutex::default(),
            in_handshake: AtomicBool::new(in_handshake),
            has_request: AtomicBool::new(false),
            deadline: Mutex::new(Instant::now() + self.limits.max_lifetime),
            held: OnceLock::new(),
            _permit: free,
        }
    }

    /// Counts one more TCP connection for `address`. If the limit is reached, counts and logs the rejection.
    fn count_tcp_source(&self, address: IpAddr, exempt_loopback: bool) -> Result<Option<IpAddr>, SourceLimitReached> {
        let counted = self.count_source(address, exempt_loopback);
        if let Err(reached) = counted {
            let limit = if let SourceLimitReached::Count(limit) = reached { Some(limit) } else { None };
            self.reject(address, reached.reason(), limit);
        }
        counted
    }

    /// Counts and logs a rejected TCP connection.
    fn reject(&self, address: IpAddr, reason: &str, limit: Option<usize>) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        if self.log_throttle.allow() {
            warn!(target: "http", source = %source_network(address), reason, limit, "connection rejected");
        }
    }

    /// Counts one more connection for `address`. `Ok(None)` if the address is exempt.
    fn count_source(&self, address: IpAddr, exempt_loopback: bool) -> Result<Option<IpAddr>, SourceLimitReached> {
        let address = source_network(address);
        // Loopback is exempt, because a proxy on this host connects from loopback for all its clients.
        let is_exempt = exempt_loopback && address.is_loopback();
        if let Some(new) = self.new_by_source.as_ref().filter(|_| !is_exempt) {
            let checked = new.lock().unwrap_or_else(PoisonError::into_inner).check(clock::monotonic_now(), address);
            if checked.is_err() {
                return Err(SourceLimitReached::Rate);
            }
        }
        let Some(limit) = self.limits.max_connections_per_address.filter(|_| !is_exempt) else { return Ok(None) };
        let mut open = self.open_by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= limit {
            if limit == 0 {
                open.remove(&address);
            }
            return Err(SourceLimitReached::Count(limit));
        }
        *count += 1;
        Ok(Some(address))
    }
}

/// A limit per source address is reached.
#[derive(Clone, Copy, Debug)]
enum SourceLimitReached {
    /// This number of open connections.
    Count(usize),
    /// The rate of new connections.
    Rate,
}

impl SourceLimitReached {
    fn reason(self) -> &'static str {
        match self {
            Self::Count(_) => "too many connections from this address",
            Self::Rate => "too many new connections from this address",
        }
    }
}

impl ConnectionPermit {
    /// Keeps `what` until the connection has ended and its data has been sent, and then drops it. Only the value of the first call is kept.
    pub fn hold_until_closed(&self, what: impl Any + Send + Sync) {
        let _ = self.held.set(Box::new(what));
    }

    /// Charges a connection of a trusted proxy to the client that sent the current request. False if the memory budget refuses this.
    pub(in crate::io) fn charge_client(&self, address: IpAddr) -> bool {
        self.lock_memory().as_ref().is_some_and(|charge| charge.source() == address)
            || self.charge(address, MemoryCharge::new)
    }

    /// Counts a connection of a trusted proxy for the address of its client. False if the limit of that address is reached. A forwarded
    /// address is never exempt.
    pub fn assign_client(&self, address: IpAddr, is_forwarded: bool) -> bool {
        if !is_forwarded || self.source.get().is_some() {
            return true;
        }
        let Ok(counted) = self.limiter.count_tcp_source(address, false) else { return false };
        if let Some(address) = counted {
            let _ = self.source.set(address);
        }
        true
    }

    /// Charges the connection to `address`. If the memory budget refuses this, counts and logs the rejection.
    fn charge(
        &self,
        address: IpAddr,
        charge: fn(&Arc<MemoryBudget>, IpAddr, u64) -> Result<MemoryCharge, BudgetExceeded>,
    ) -> bool {
        let ConnectionLimits { memory_budget, bytes_per_connection, .. } = &self.limiter.limits;
        let Ok(charge) = charge(memory_budget, address, bytes_per_connection + REQUEST_HEAD_BYTES) else {
            self.limiter.reject(address, "memory budget", None);
            return false;
        };
        *self.lock_memory() = Some(charge);
        true
    }

    fn lock_memory(&self) -> MutexGuard<'_, Option<MemoryCharge>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is being upgraded: it has no request head any more.
    pub(in crate::io) fn on_upgrade(&self) {
        if let Some(charge) = &mut *self.lock_memory() {
            charge.shrink(REQUEST_HEAD_BYTES);
        }
    }

    /// An empty charge to `address`, for the body of a request.
    pub(in crate::io) fn body_charge(&self, address: IpAddr) -> MemoryCharge {
        MemoryCharge::empty(&self.limiter.limits.memory_budget, address)
    }

    /// The QUIC handshake is complete.
    pub(in crate::io) fn finish_handshake(&self) {
        if self.in_handshake.swap(false, Ordering::Relaxed) {
            self.limiter.pending_handshakes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Restarts the maximum lifetime. Code that streams an endless response calls this function whenever the client has read more data.
    pub fn extend(&self) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + self.max_lifetime();
    }

    /// Maximum lifetime after [`ConnectionPermit::extend`].
    pub fn max_lifetime(&self) -> Duration {
        self.limiter.limits.max_lifetime
    }

    /// When the connection reaches its maximum lifetime.
    pub(in crate::io) fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A complete request head has arrived.
    pub(in crate::io) fn on_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
    }

    /// Whether the connection has sent a complete request head.
    pub(in crate::io) fn has_request(&self) -> bool {
        self.has_request.load(Ordering::Relaxed)
    }

    /// Called when the time for a request head is over. Counts a time-out only if the connection never sent a complete request head.
    pub(in crate::io) fn on_header_timeout(&self) {
        if !self.has_request() {
            self.limiter.handshake_timeouts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.finish_handshake();
        let Some(address) = self.source.take() else { return };
        let mut open = self.limiter.open_by_source.lock().unwrap_or_else(PoisonError::into_inner);
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

    use super::*;

    #[test]
    fn connections_per_address_are_limited_except_loopback() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let long = Duration::from_secs(1);
            let limits = ConnectionLimits {
                max_connections: None,
                max_connections_per_address: Some(2),
                handshake_timeout: long,
                max_lifetime: long,
                ..ConnectionLimits::default()
            };
            let limiter = ConnectionLimiter::new(limits);
            let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
            // The address of `one`, written as an IPv4-mapped IPv6 address. A dual-stack socket reports IPv4 addresses in this form.
            let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
            let first = limiter.assign(limiter.acquire().await, one).expect("a free slot");
            let _second = limiter.assign(limiter.acquire().await, mapped).expect("a free slot");
            assert!(limiter.assign(limiter.acquire().await, one).is_none());
            assert!(limiter.assign(limiter.acquire().await, other).is_some());
            assert_eq!(limiter.rejected(), 1);
            drop(first);
            assert!(limiter.assign(limiter.acquire().await, one).is_some());
            // Addresses of one IPv6 /64 count as one address.
            let [a, b, c, other] = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"]
                .map(|text| text.parse::<IpAddr>().expect("an address"));
            let _held = [a, b].map(|address| (address, limiter.semaphore.clone())).map(|(address, free)| {
                limiter.assign(free.try_acquire_owned().expect("a free slot"), address).expect("a free slot")
            });
            assert!(
                limiter.assign(limiter.acquire().await, c).is_none()
                    && limiter.assign(limiter.acquire().await, other).is_some()
            );
            assert_eq!(limiter.rejected(), 2);
            let mut local = Vec::new();
            for _ in 0..9 {
                local.push(limiter.assign(limiter.acquire().await, IpAddr::from([127, 0, 0, 1])).expect("a free slot"));
                local.push(
                    limiter.assign(limiter.acquire().await, "::1".parse().expect("an address")).expect("a free slot"),
                );
            }
            assert_eq!(limiter.rejected(), 2);
        });
    }

    #[test]
    fn new_connections_per_address_are_limited_except_loopback() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let limiter = ConnectionLimiter::new(ConnectionLimits {
                max_new_connections: Some(WindowLimit { count: 3, period: Duration::from_secs(3_600) }),
                ..ConnectionLimits::default()
            });
            // Each connection is closed at once, but still counts.
            let is_accepted = async |text| limiter.assign(limiter.acquire().await, address(text)).is_some();
            for [first, second] in [["192.0.2.1", "::ffff:192.0.2.1"], ["2001:db8::1", "2001:db8::2"]] {
                assert!(is_accepted(first).await && is_accepted(second).await && is_accepted(first).await);
                assert!(!is_accepted(first).await && !is_accepted(second).await, "{first}");
                assert!(matches!(limiter.admit_quic(address(first), true), QuicAdmission::AddressLimit), "{first}");
            }
            assert!(is_accepted("192.0.2.2").await && is_accepted("2001:db8:0:1::1").await);
            for _ in 0..9 {
                assert!(is_accepted("127.0.0.1").await && is_accepted("::1").await);
            }
            // QUIC servers count their rejections themselves.
            assert_eq!(limiter.rejected(), 4);
        });
    }

    #[test]
    fn an_address_at_its_own_limit_causes_no_connection_limit() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let limiter = ConnectionLimiter::new(ConnectionLimits {
                max_connections: Some(1),
                max_connections_per_address: Some(1),
                ..ConnectionLimits::default()
            });
            let QuicAdmission::Accepted(_permit) = limiter.admit_quic(address("2001:db8::1"), true) else {
                panic!("not accepted")
            };
            assert!(matches!(limiter.admit_quic(address("2001:db8::2"), true), QuicAdmission::AddressLimit));
            assert!(matches!(limiter.admit_quic(address("192.0.2.1"), true), QuicAdmission::ConnectionLimit));
        });
    }

    #[test]
    fn forwarded_connections_count_for_the_forwarded_address() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let limits = ConnectionLimits {
                max_connections: None,
                max_connections_per_address: Some(1),
                trusted_proxies: Some(TrustedProxies::Hops(NonZeroUsize::MIN)),
                ..ConnectionLimits::default()
            };
            let limiter = ConnectionLimiter::new(limits);
            let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
            let proxy = IpAddr::from([127, 0, 0, 1]);
            let mut permits = Vec::new();
            for _ in 0..5 {
                permits.push(limiter.assign(limiter.acquire().await, proxy).expect("a free slot"));
            }
            assert!(permits[0].assign_client(one, true) && !permits[1].assign_client(one, true));
            assert!(permits[2].assign_client(other, true));
            // A permit counts towards the limit of the first address that is assigned to it. Assigning a second address has no effect.
            assert!(permits[0].assign_client(other, true));
            assert_eq!(limiter.rejected(), 1);
            // A forwarded loopback address is counted. The proxy's own address is not.
            assert!(permits[3].assign_client(proxy, true) && !permits[4].assign_client(proxy, true));
            assert!(permits[1].assign_client(proxy, false));
            assert!(limiter.assign(limiter.acquire().await, one).is_none(), "not from the proxy");
            drop(permits.remove(0));
            assert!(limiter.assign(limiter.acquire().await, one).is_some());
        });
    }

    #[test]
    fn connections_of_a_proxy_are_charged_to_it_until_they_are_assigned_to_a_client() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let connection_bytes = 1_000 + REQUEST_HEAD_BYTES;
            let memory_budget = MemoryBudget::new(Some(7 * connection_bytes));
            let limiter = ConnectionLimiter::new(ConnectionLimits {
                memory_budget: Arc::clone(&memory_budget),
                bytes_per_connection: 1_000,
                trusted_proxies: Some(TrustedProxies::Hops(NonZeroUsize::MIN)),
                ..ConnectionLimits::default()
            });
            let mut permits = Vec::new();
            // The fifth connection exceeds the share of an address, but a proxy has no share.
            for _ in 0..5 {
                permits.push(limiter.assign(limiter.acquire().await, address("127.0.0.1")).expect("a free slot"));
            }
            assert_eq!(memory_budget.usage().used, 5 * connection_bytes);
            // A client may hold the memory of one connection.
            let client = address("192.0.2.1");
            assert!(permits[0].charge_client(client) && permits[0].charge_client(client));
            assert!(!permits[1].charge_client(client));
            assert_eq!(memory_budget.usage().used, 5 * connection_bytes);
            permits[0].on_upgrade();
            assert_eq!(memory_budget.usage().used, 5 * connection_bytes - REQUEST_HEAD_BYTES);
            drop(permits);
            assert_eq!(memory_budget.usage().used, 0);
        });
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn quic_limiter(total: usize, per_address: usize) -> Arc<ConnectionLimiter> {
        ConnectionLimiter::new(ConnectionLimits {
            max_connections: Some(total),
            max_connections_per_address: Some(per_address),
            ..ConnectionLimits::default()
        })
    }

    fn admitted(limiter: &Arc<ConnectionLimiter>, source: &str) -> ConnectionPermit {
        match limiter.admit_quic(address(source), true) {
            QuicAdmission::Accepted(permit) => {
                permit.finish_handshake();
                permit
            }
            other => panic!("{source}: {other:?}"),
        }
    }

    #[test]
    fn quic_connections_are_limited_in_total_and_per_source() {
        let limiter = quic_limiter(5, 2);
        let first = admitted(&limiter, "192.0.2.1");
        let _second = admitted(&limiter, "::ffff:192.0.2.1");
        assert!(matches!(limiter.admit_quic(address("192.0.2.1"), true), QuicAdmission::AddressLimit));
        // An IPv6 /64 counts as one source.
        let _permits = [admitted(&limiter, "2001:db8::1"), admitted(&limiter, "2001:db8::2")];
        assert!(matches!(limiter.admit_quic(address("2001:db8::3"), true), QuicAdmission::AddressLimit));
        let _fifth = admitted(&limiter, "2001:db8:0:1::1");
        assert!(matches!(limiter.admit_quic(address("192.0.2.9"), true), QuicAdmission::ConnectionLimit));
        drop(first);
        drop(admitted(&limiter, "192.0.2.1"));
        let local = quic_limiter(100, 2);
        let permits: Vec<ConnectionPermit> =
            (0..20).flat_map(|_| [admitted(&local, "127.0.0.1"), admitted(&local, "::1")]).collect();
        assert_eq!(permits.len(), 40);
    }

    #[test]
    fn unvalidated_address_gets_retry_while_handshakes_are_pending() {
        let limiter = quic_limiter(100, 100);
        let source = address("192.0.2.1");
        let mut permits = Vec::new();
        for _ in 0..8 {
            let QuicAdmission::Accepted(permit) = limiter.admit_quic(source, false) else { panic!("no permit") };
            permits.push(permit);
        }
        assert!(matches!(limiter.admit_quic(address("192.0.2.2"), false), QuicAdmission::Retry));
        assert!(matches!(limiter.admit_quic(address("192.0.2.2"), true), QuicAdmission::Accepted(_)));
        permits[0].finish_handshake();
        assert!(matches!(limiter.admit_quic(source, false), QuicAdmission::Accepted(_)));
    }
}
