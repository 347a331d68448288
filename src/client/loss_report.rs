//! `--loss-direction`: queries the server's receive counters before counting starts and again at the end of the run.
//!
//! The second count minus the first is the number of packets that the server received. Sent packets that the server did not receive were
//! lost upstream. All other losses are downstream. Each query is a STUN Binding request (RFC 8489) that is retransmitted with the same
//! transaction ID.

use std::net::SocketAddr;
use std::time::Duration;

use crate::node::{SendStatus, Transmit, TransmitSink};
use crate::time::Time;
use crate::wire::stun::{self, ResponseAttributes, TransactionId};

/// Time between retransmissions.
const RETRANSMIT_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of requests per query, including the first.
const MAX_REQUESTS: u32 = 3;

/// Time after the first request until a query is abandoned.
pub const LOSS_REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Result of both queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossReport {
    /// Whether the server responded to any request.
    pub response_received: bool,
    /// The client's address as seen by the server (XOR-MAPPED-ADDRESS).
    pub mapped_address: Option<SocketAddr>,
    /// Number of packets that the server received during the run, without duplicates. The array index is a `StreamKind`. Each number
    /// wraps at 2^32. `None` if a response is missing or the server restarted its counters.
    pub received: Option<[u32; 3]>,
}

/// Sends both queries of a run and collects the responses.
pub(super) struct LossReportRequester {
    baseline: StunTransaction,
    last: StunTransaction,
}

impl LossReportRequester {
    /// `random` makes the transaction IDs unpredictable.
    pub(super) fn new(random: u128) -> Self {
        // `StunTransaction::new` uses the upper 96 bits as the transaction ID, so adding 2^32 increments the ID.
        Self { baseline: StunTransaction::new(random), last: StunTransaction::new(random.wrapping_add(1 << 32)) }
    }

    /// Returns whether `datagram` is a response to one of the queries. The first response to each query is stored.
    pub(super) fn handle_response(&mut self, datagram: &[u8]) -> bool {
        self.baseline.handle_response(datagram) || self.last.handle_response(datagram)
    }

    /// Sends the query for the baseline when the query is due. Returns true while the query is in progress. Returns false when the server
    /// has answered the query or the query is abandoned. The caller must not start counting before this method returns false.
    pub(super) fn poll_baseline(&mut self, now: Time, destination: SocketAddr, sink: &mut dyn TransmitSink) -> bool {
        self.baseline.poll_transmit(now, destination, sink)
    }

    pub(super) fn has_baseline(&self) -> bool {
        self.baseline.response.is_some()
    }

    /// When to call [`Self::poll_baseline`] next.
    pub(super) fn baseline_deadline(&self) -> Time {
        self.baseline.next_deadline().unwrap_or(Time::ZERO)
    }

    /// Sends the final query when it is due, and returns the time of the next call. Returns `None` if there is nothing left to wait for.
    ///
    /// The query starts early enough that all its requests are sent before the run's `deadline`. However, the query never starts more than
    /// `timeout` before the deadline. Otherwise, the server's counts would be requested before packets in flight can arrive.
    pub(super) fn poll_final(
        &mut self,
        now: Time,
        deadline: Time,
        timeout: Duration,
        destination: SocketAddr,
        sink: &mut dyn TransmitSink,
    ) -> Option<Time> {
        self.baseline.response?.received_counts?;
        let start = deadline.saturating_sub(timeout.min(RETRANSMIT_INTERVAL * MAX_REQUESTS));
        if self.last.first_sent.is_none() && now < start {
            return Some(start);
        }
        if self.last.poll_transmit(now, destination, sink) { self.last.next_deadline() } else { None }
    }

    /// Returns the result. The result of an `interrupted` run has no receive counts, because the final query was not completed.
    pub(super) fn loss_report(&self, interrupted: bool) -> LossReport {
        let responses = [self.last.response, self.baseline.response];
        let counts = |transaction: &StunTransaction| transaction.response?.received_counts;
        let pair = counts(&self.baseline)
            .zip(counts(&self.last))
            .filter(|(before, after)| before.epoch == after.epoch && !interrupted);
        LossReport {
            response_received: responses.iter().any(Option::is_some),
            mapped_address: responses.into_iter().flatten().find_map(|response| response.mapped_address),
            received: pair.map(|(before, after)| {
                [
                    after.audio.wrapping_sub(before.audio),
                    after.ping.wrapping_sub(before.ping),
                    after.keepalive.wrapping_sub(before.keepalive),
                ]
            }),
        }
    }
}

/// One query: up to [`MAX_REQUESTS`] requests with the same transaction ID.
struct StunTransaction {
    id: TransactionId,
    first_sent: Option<Time>,
    requests_sent: u32,
    response: Option<ResponseAttributes>,
}

impl StunTransaction {
    fn new(random: u128) -> Self {
        let [id @ .., _, _, _, _] = random.to_be_bytes();
        Self { id, first_sent: None, requests_sent: 0, response: None }
    }

    /// Sends a request if one is due. The first request is due immediately. Returns false when the query is answered or abandoned.
    fn poll_transmit(&mut self, now: Time, destination: SocketAddr, sink: &mut dyn TransmitSink) -> bool {
        let first = *self.first_sent.get_or_insert(now);
        if self.response.is_some() || now >= first + LOSS_REPORT_TIMEOUT {
            return false;
        }
        if self.requests_sent < MAX_REQUESTS && now >= first + RETRANSMIT_INTERVAL * self.requests_sent {
            let contents = &stun::counts_request(self.id);
            let outcome = sink.send(Transmit { destination, src_ip: None, contents, segment_size: contents.len() });
            self.requests_sent += u32::from(outcome != SendStatus::WouldBlock);
        }
        true
    }

    /// Returns the time at which the next request is due, or `None` before the first request. After the last request, this function
    /// returns the time at which the query times out.
    fn next_deadline(&self) -> Option<Time> {
        let wait = if self.requests_sent < MAX_REQUESTS {
            RETRANSMIT_INTERVAL * self.requests_sent
        } else {
            LOSS_REPORT_TIMEOUT
        };
        self.first_sent.map(|first| first + wait)
    }

    fn handle_response(&mut self, datagram: &[u8]) -> bool {
        // A response before the first request cannot be genuine.
        let matches = self.requests_sent > 0 && stun::is_response_to(datagram, &self.id);
        if matches && self.response.is_none() {
            self.response = ResponseAttributes::parse(datagram);
        }
        matches
    }
}
