//! Determines the public address of the server's own socket from a STUN server (RFC 8489, section 6.2.1).
//!
//! A NAT assigns the address and removes the mapping when the socket sends nothing for a while. A transaction every 25 s keeps the mapping
//! alive and detects changes. A STUN response starts like an AUDIO packet, and is recognized by the STUN server's address and an unpredictable
//! transaction ID.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{info, warn};

use super::counters::Counters;
use crate::address::{canonical_socket_addr, is_invalid_source};
use crate::node::{SendStatus, Transmit, TransmitSink};
use crate::time::Time;
use crate::wire::stun::{self, ResponseAttributes, TransactionId};

/// Time between the first requests of two consecutive transactions. Many NATs remove a mapping after 30 s.
const REFRESH_INTERVAL: Duration = Duration::from_secs(25);

/// Time until the address of the STUN server is requested again while it is unknown.
const UNKNOWN_SERVER_INTERVAL: Duration = Duration::from_millis(200);

/// Time-out of the first request of a transaction. The time-out of each further request is twice the previous time-out.
const INITIAL_RTO: Duration = Duration::from_millis(500);

/// Maximum number of requests in a transaction. The requests are sent after 0, 0.5, 1.5 and 3.5 s. The transaction times out after 7.5 s.
const MAX_REQUESTS: u32 = 4;

/// The STUN server from which the echo server learns its mapped address.
pub struct StunConfig {
    /// Returns the address of the STUN server, or `None` while it is unknown. The address is in the address family of the echo server's
    /// socket. On an IPv6 socket, an IPv4 address of the STUN server must have the form `::ffff:192.0.2.1`.
    pub server: Box<dyn FnMut() -> Option<SocketAddr> + Send>,
    /// A secret from which transaction IDs are derived, so that responses cannot be forged.
    pub hash_key: [u64; 4],
}

/// Sends STUN requests and keeps the last mapped address.
pub(super) struct MappedAddressMonitor {
    config: StunConfig,
    observer: Box<dyn FnMut(SocketAddr) + Send>,
    /// The STUN server of the last transaction.
    server: Option<SocketAddr>,
    mapped_address: Option<SocketAddr>,
    /// Number of transactions so far.
    transactions: u64,
    /// ID of the last transaction; `None` before the first.
    transaction_id: Option<TransactionId>,
    transaction_started: Time,
    /// Number of requests sent in the last transaction.
    requests_sent: u32,
    /// Whether the transaction still waits for a usable response.
    pending: bool,
    /// Why the transaction has no address.
    failure: String,
    /// When to poll next: to send a request, or to time out.
    pub(super) deadline: Time,
    /// Whether a time-out was logged since the last usable response.
    timeout_logged: bool,
}

impl MappedAddressMonitor {
    /// Sends the first request at the first poll. `observer` receives each new mapped address.
    pub(super) fn new(config: StunConfig, observer: Box<dyn FnMut(SocketAddr) + Send>) -> Self {
        Self {
            config,
            observer,
            server: None,
            mapped_address: None,
            transactions: 0,
            transaction_id: None,
            transaction_started: Time::ZERO,
            requests_sent: 0,
            pending: false,
            failure: String::new(),
            deadline: Time::ZERO,
            timeout_logged: false,
        }
    }

    /// Sends a request if one is due. Returns false if the socket would block.
    pub(super) fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink, counters: &Counters) -> bool {
        if now < self.deadline {
            return true;
        }
        if self.pending && self.requests_sent == MAX_REQUESTS {
            self.time_out(counters);
            return true;
        }
        if !self.pending {
            self.server = (self.config.server)();
            if self.server.is_none() {
                self.deadline = now + UNKNOWN_SERVER_INTERVAL;
                return true;
            }
            self.transactions += 1;
            self.transaction_id = Some(transaction_id(self.config.hash_key, self.transactions));
            self.transaction_started = now;
            (self.requests_sent, self.pending) = (0, true);
            "no response".clone_into(&mut self.failure);
        }
        let Some((destination, transaction_id)) = self.server.zip(self.transaction_id) else { return true };
        let contents = &stun::binding_request(transaction_id);
        match sink.send(Transmit::datagram(destination, contents)) {
            SendStatus::Sent => {
                counters.mapped_address_requests.add(1);
                counters.sent_bytes.add(contents.len());
            }
            // The next request of the transaction may succeed. If no request succeeds, the transaction times out and is counted.
            SendStatus::Failed => {}
            // `GsoUnsupported` is never returned for a single datagram.
            SendStatus::WouldBlock | SendStatus::GsoUnsupported => return false,
        }
        self.deadline = now + INITIAL_RTO * (1 << self.requests_sent);
        self.requests_sent += 1;
        true
    }

    fn time_out(&mut self, counters: &Counters) {
        self.pending = false;
        self.deadline = self.transaction_started + REFRESH_INTERVAL;
        counters.mapped_address_timeouts.add(1);
        if let Some(server) = self.server
            && !std::mem::replace(&mut self.timeout_logged, true)
        {
            warn!(
                target: "echo",
                stun_server = %canonical_socket_addr(server),
                reason = self.failure,
                last_mapped_address = self.mapped_address.map(tracing::field::display),
                retry_s = REFRESH_INTERVAL.as_secs(),
                hint = "check the STUN server and the firewall",
                "mapped address request failed"
            );
        }
    }

    pub(super) fn is_stun_server(&self, address: SocketAddr) -> bool {
        self.server.is_some_and(|server| canonical_socket_addr(address) == canonical_socket_addr(server))
    }

    /// Handles a datagram from the STUN server. Returns false if it is not a response to the last transaction.
    pub(super) fn handle_response(&mut self, datagram: &[u8], counters: &Counters) -> bool {
        if !self.transaction_id.is_some_and(|transaction_id| stun::is_response_to(datagram, &transaction_id)) {
            return false;
        }
        counters.mapped_address_responses.add(1);
        let Some((server, address)) = self.server.zip(usable_mapped_address(datagram)) else {
            self.failure = match stun::error_response(datagram) {
                Some((code, reason)) => format!("error {code} {reason}").trim_end().to_owned(),
                None => "no usable address in the response".to_owned(),
            };
            return true;
        };
        if self.pending {
            self.pending = false;
            self.deadline = self.transaction_started + REFRESH_INTERVAL;
        }
        self.timeout_logged = false;
        if self.mapped_address != Some(address) {
            let previous = self.mapped_address.replace(address);
            let change = if previous.is_none() { "learned" } else { "changed" };
            info!(
                target: "echo",
                mapped_address = %address,
                previous = previous.map(tracing::field::display),
                stun_server = %canonical_socket_addr(server),
                "mapped address {change}"
            );
            (self.observer)(address);
        }
        true
    }
}

/// The mapped address of a success response, if datagrams can be sent to it.
fn usable_mapped_address(response: &[u8]) -> Option<SocketAddr> {
    let address = ResponseAttributes::parse(response).filter(|_| !stun::is_error_response(response))?.mapped_address?;
    let address = canonical_socket_addr(address);
    (address.port() != 0 && !is_invalid_source(address.ip())).then_some(address)
}

/// A keyed digest of the transaction's number.
fn transaction_id(hash_key: [u64; 4], number: u64) -> TransactionId {
    let mut hasher = DefaultHasher::new();
    (hash_key, number).hash(&mut hasher);
    let high = hasher.finish();
    hasher.write_u8(0);
    let [transaction_id @ .., _, _, _, _] = (u128::from(high) << 64 | u128::from(hasher.finish())).to_be_bytes();
    transaction_id
}
