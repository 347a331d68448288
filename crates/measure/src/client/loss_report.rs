//! Queries the server's receive counters, its delay and its pauses with STUN Binding requests (RFC 8489): at the start, once per second, and
//! at the end of the run. The first and the last query are retransmitted with the same transaction ID.
//!
//! The server has received as many packets as its counter grew since the first query. With `--loss-direction`, counting therefore starts only
//! after that query, and sent packets that the server did not receive were lost upstream, all others downstream.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use jamjam_core::node::{SendStatus, Transmit, TransmitSink};
use jamjam_core::stats::{History, Interval};
use jamjam_core::time::Time;
use jamjam_core::wire::stun::{
    self, CountsRequestTime, ReceivedCounts, ResponseAttributes, ServerReport, TransactionId,
};

/// Time between retransmissions.
const RETRANSMIT_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of requests per query, including the first.
const MAX_REQUESTS: u32 = 3;

/// Time after the first request until a query is abandoned.
const LOSS_REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval of the queries during the run. Each time that there are [`MAX_SAMPLES`] samples, every other one is removed and the interval
/// doubles.
const QUERY_INTERVAL: Duration = Duration::from_secs(1);

const MAX_SAMPLES: usize = 600;

/// Packet counts of the client and of the server at one moment of the run. The array index is a `StreamKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountSample {
    /// Packets sent before the query.
    pub sent: [u64; 3],
    /// Packets that the server received during the run, without duplicates. Each number wraps at 2^32.
    pub received: [u32; 3],
}

/// Number of `sent` packets that the server has not `received`. Both counts wrap at 2^32, but are so close to each other that their wrapping
/// difference is correct. It is negative if packets arrived after they were counted as sent.
pub(super) fn missing_packets(sent: u64, received: u32) -> u64 {
    let difference = (sent as u32).wrapping_sub(received).cast_signed();
    u64::from(difference.max(0).cast_unsigned())
}

/// Result of all queries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossReport {
    /// Whether the server responded to any request.
    pub response_received: bool,
    /// The client's address as seen by the server (XOR-MAPPED-ADDRESS).
    pub mapped_address: Option<SocketAddr>,
    /// Number of packets that the server received during the run, counted as in [`CountSample`]. `None` if a response is missing, the run was
    /// interrupted, or the server restarted its counters.
    pub received: Option<[u32; 3]>,
    /// Counts during the run, in order.
    pub samples: Vec<CountSample>,
}

impl LossReport {
    /// Packets lost upstream in each interval of `history`, the history of the stream with the index `stream`; `None` for an interval with
    /// losses that no sample covers. The upstream losses of a sample concern the packets sent since the previous sample. If these span several
    /// intervals, the losses of the earliest ones are taken; if one of these intervals has excluded packets, none of them is known, because
    /// the server may not have received excluded packets either.
    pub fn lost_upstream_by_interval(&self, stream: usize, history: &History) -> Vec<Option<u64>> {
        let intervals = &history.intervals;
        let mut assigned = vec![Some(0); intervals.len()];
        let sent = intervals.iter().scan(0, |end, interval| {
            *end += interval.sent;
            Some(*end)
        });
        let ends: Vec<u64> = sent.collect();
        // A packet that was on its way during a query seems to be lost until the next sample. The number of lost packets is therefore at most
        // that of any later sample.
        let mut missing = u64::MAX;
        let total = |sample: &CountSample| {
            missing = missing.min(missing_packets(sample.sent[stream], sample.received[stream]));
            (sample.sent[stream], missing)
        };
        let totals: Vec<(u64, u64)> = self.samples.iter().rev().map(total).collect();
        let (mut covered, mut previous) = (0, 0);
        for (sent, total) in totals.into_iter().rev() {
            let mut remaining = total - previous;
            let first = ends.partition_point(|end| *end <= covered);
            let last = ends.partition_point(|end| *end < sent);
            // One of several clients has no intervals of its own.
            let spanned = first..(last + 1).clamp(first, intervals.len());
            let is_known = intervals[spanned.clone()].iter().all(|interval| interval.excluded == 0);
            for (interval, assigned) in intervals[spanned.clone()].iter().zip(&mut assigned[spanned]) {
                *assigned = assigned.filter(|_| is_known).map(|already| {
                    let share = remaining.min(interval.lost - already);
                    remaining -= share;
                    already + share
                });
            }
            (covered, previous) = (sent, total);
        }
        let known = |((interval, assigned), end): ((&Interval, Option<u64>), u64)| match interval.lost {
            0 => Some(0),
            _ => assigned.filter(|_| end <= covered),
        };
        intervals.iter().zip(assigned).zip(ends).map(known).collect()
    }
}

/// What a server reported about itself. The server wrote the report between `requested_at` and `received_at`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimedReport {
    pub(super) report: ServerReport,
    pub(super) requested_at: Time,
    pub(super) received_at: Time,
}

/// Sends the queries of a run and collects the responses.
pub(super) struct LossReportRequester {
    /// The first query. Where counting starts after it, it starts when this query is answered or abandoned.
    pub(super) baseline: StunTransaction,
    last: StunTransaction,
    /// The latest query during the run.
    periodic: Option<StunTransaction>,
    next_periodic: Time,
    interval: Duration,
    /// Transaction ID of the next periodic query, as for [`StunTransaction::new`].
    next_id: u128,
    /// Number of periodic queries.
    queries: u128,
    pub(super) samples: Vec<CountSample>,
    /// Whether the result contains packet counts, so that counting starts only after the first query. If not, only servers that report pauses
    /// are queried during the run.
    pub(super) reports_counts: bool,
    /// Whether only the newest sample is kept.
    keeps_newest: bool,
    /// Whether a query was sent after all replies had arrived.
    queried_when_complete: bool,
}

impl LossReportRequester {
    /// `random` makes the transaction IDs unpredictable.
    pub(super) fn new(random: u128, reports_counts: bool, keeps_newest: bool) -> Self {
        Self {
            baseline: StunTransaction::new(random, CountsRequestTime::RunBoundary),
            last: StunTransaction::new(next_id(random), CountsRequestTime::RunBoundary),
            periodic: None,
            next_periodic: Time::ZERO,
            interval: QUERY_INTERVAL,
            next_id: next_id(next_id(random)),
            queries: 0,
            samples: Vec::new(),
            reports_counts,
            keeps_newest,
            queried_when_complete: false,
        }
    }

    /// Until when the pauses of the server are known for certain, if it reported last at `last_report`. A server that does not report pauses is
    /// not waited for. One that has not answered yet may have paused, and answers soon after the replies that waited with the query.
    pub(super) fn server_known_until(&self, now: Time, last_report: Option<Time>) -> Time {
        match self.baseline.response {
            Some(_) if self.reports_pauses() => last_report.unwrap_or(Time::ZERO),
            None => now.saturating_sub(LOSS_REPORT_TIMEOUT),
            Some(_) => Time::MAX,
        }
    }

    pub(super) fn reports_pauses(&self) -> bool {
        self.baseline.response.is_some_and(|response| response.server.is_some())
    }

    /// Whether the server answers further queries.
    fn is_answering(&self) -> bool {
        let has_counts = self.baseline.response.is_some_and(|response| response.received_counts.is_some());
        self.reports_pauses() || self.reports_counts && has_counts
    }

    /// Starts the schedule of the periodic queries. Counting starts at `now`.
    pub(super) fn start(&mut self, now: Time) {
        self.next_periodic = now + self.interval;
    }

    /// Returns whether `datagram` is a response to one of the queries. The first response to each query is stored, and its report is
    /// returned.
    pub(super) fn handle_response(&mut self, datagram: &[u8], received_at: Time) -> (bool, Option<TimedReport>) {
        let baseline_id = self.baseline.id;
        let queries = [&mut self.baseline, &mut self.last].into_iter().chain(&mut self.periodic);
        // A response before the first request cannot be genuine.
        let answered = { queries }.find(|query| query.requests_sent > 0 && stun::is_response_to(datagram, &query.id));
        let Some(query) = answered else { return (self.is_query_of_this_run(datagram), None) };
        if query.response.is_some() {
            return (true, None);
        }
        query.response = ResponseAttributes::parse(datagram);
        let StunTransaction { id, first_sent, sent, response, .. } = *query;
        let counts = response.and_then(|response| response.received_counts).filter(|_| id != baseline_id);
        if let Some(received) = counts.and_then(|counts| self.received_since_baseline(counts)) {
            self.add_sample(CountSample { sent, received });
        }
        let report = response.and_then(|response| response.server).zip(first_sent);
        (true, report.map(|(report, requested_at)| TimedReport { report, requested_at, received_at }))
    }

    /// Whether `datagram` is the response to an earlier query of this run, after a pause, or a query that a simple echo server returned.
    fn is_query_of_this_run(&self, datagram: &[u8]) -> bool {
        let Some(id) = datagram.get(8..20).and_then(|id| TransactionId::try_from(id).ok()) else { return false };
        let mut number = [0; 16];
        number[..12].copy_from_slice(&id);
        let age = self.next_id.wrapping_sub(u128::from_be_bytes(number)) >> 32;
        let is_boundary = [&self.baseline, &self.last].iter().any(|query| query.id == id && query.requests_sent > 0);
        let is_sent = is_boundary || (1..=self.queries).contains(&age);
        let is_echo_of = |time| datagram == stun::counts_request(id, time);
        let is_echo = || is_echo_of(CountsRequestTime::RunBoundary) || is_echo_of(CountsRequestTime::DuringRun);
        is_sent && (stun::is_response_to(datagram, &id) || is_echo())
    }

    /// The packets that the server received since the first query; `None` if the server restarted its counters.
    fn received_since_baseline(&self, after: ReceivedCounts) -> Option<[u32; 3]> {
        let before = self.baseline.response?.received_counts?;
        let counts = [(after.audio, before.audio), (after.ping, before.ping), (after.keepalive, before.keepalive)];
        (before.epoch == after.epoch).then(|| counts.map(|(after, before)| after.wrapping_sub(before)))
    }

    fn add_sample(&mut self, sample: CountSample) {
        if self.keeps_newest {
            self.samples.clear();
        } else if self.samples.len() == MAX_SAMPLES {
            self.samples = self.samples.iter().skip(1).step_by(2).copied().collect();
            self.interval *= 2;
        }
        self.samples.push(sample);
    }

    /// Sends the first query, unless counting starts after it, and then a periodic query whenever one is due. `sent` is the number of packets
    /// sent so far. Returns the time of the next query, or `None` if the server does not answer.
    pub(super) fn poll_periodic(
        &mut self,
        now: Time,
        sent: [u64; 3],
        peer: SocketAddr,
        sink: &mut dyn TransmitSink,
    ) -> Option<Time> {
        if self.baseline.poll_transmit(now, peer, sink) {
            return self.baseline.next_deadline();
        }
        if !self.is_answering() {
            return None;
        }
        if now >= self.next_periodic {
            let mut query = StunTransaction::new(self.next_id, CountsRequestTime::DuringRun);
            query.poll_transmit(now, peer, sink);
            // If the socket would block, the query is sent at the next poll.
            if query.requests_sent > 0 {
                self.periodic = Some(StunTransaction { sent, ..query });
                self.next_id = next_id(self.next_id);
                self.queries += 1;
                self.next_periodic = (self.next_periodic + self.interval).max(now);
            }
        }
        Some(self.next_periodic)
    }

    /// Sends one more query to a server that reports pauses, after all replies have arrived, or the first query in a run whose packets were all
    /// sent at once.
    pub(super) fn poll_complete(&mut self, now: Time, sent: [u64; 3], peer: SocketAddr, sink: &mut dyn TransmitSink) {
        if self.reports_pauses() && !std::mem::replace(&mut self.queried_when_complete, true) {
            self.next_periodic = now;
        }
        if !self.reports_counts || self.reports_pauses() {
            self.poll_periodic(now, sent, peer, sink);
        }
    }

    /// Sends the final query when it is due. `sent` is the number of packets sent. Returns the time of the next call, or `None` if there is
    /// nothing left to wait for.
    ///
    /// The query starts early enough that all its requests are sent before the run's `deadline`, but at most `timeout` before it, so that the
    /// packets in flight can still arrive before the server's counts are requested.
    pub(super) fn poll_final(
        &mut self,
        now: Time,
        sent: [u64; 3],
        (deadline, timeout): (Time, Duration),
        peer: SocketAddr,
        sink: &mut dyn TransmitSink,
    ) -> Option<Time> {
        if !self.is_answering() {
            return None;
        }
        let start = deadline.saturating_sub(timeout.min(RETRANSMIT_INTERVAL * MAX_REQUESTS));
        if self.last.first_sent.is_none() {
            if now < start {
                return Some(start);
            }
            self.last.sent = sent;
        }
        if self.last.poll_transmit(now, peer, sink) { self.last.next_deadline() } else { None }
    }

    /// The result, without final receive counts if the run was `interrupted`, because packets were still in flight.
    pub(super) fn loss_report(&self, interrupted: bool) -> LossReport {
        let periodic = self.periodic.as_ref().and_then(|query| query.response);
        let responses = [self.last.response, self.baseline.response, periodic];
        let last_counts = self.last.response.and_then(|response| response.received_counts).filter(|_| !interrupted);
        let response_received = responses.iter().any(Option::is_some);
        let mapped_address = responses.into_iter().flatten().find_map(|response| response.mapped_address);
        let received = last_counts.and_then(|after| self.received_since_baseline(after));
        LossReport { response_received, mapped_address, received, samples: self.samples.clone() }
    }
}

/// The transaction ID after `id`. [`StunTransaction::new`] uses the upper 96 bits as the transaction ID.
fn next_id(id: u128) -> u128 {
    id.wrapping_add(1 << 32)
}

/// One query: up to [`MAX_REQUESTS`] requests with the same transaction ID.
pub(super) struct StunTransaction {
    id: TransactionId,
    time: CountsRequestTime,
    first_sent: Option<Time>,
    /// Packets of the run that were sent before the query.
    sent: [u64; 3],
    requests_sent: u32,
    pub(super) response: Option<ResponseAttributes>,
}

impl StunTransaction {
    fn new(random: u128, time: CountsRequestTime) -> Self {
        let [id @ .., _, _, _, _] = random.to_be_bytes();
        Self { id, time, first_sent: None, sent: [0; 3], requests_sent: 0, response: None }
    }

    /// Sends a request if one is due, the first one immediately. Returns false when the query is answered or abandoned.
    pub(super) fn poll_transmit(&mut self, now: Time, peer: SocketAddr, sink: &mut dyn TransmitSink) -> bool {
        let first = *self.first_sent.get_or_insert(now);
        if self.response.is_some() || now >= first + LOSS_REPORT_TIMEOUT {
            return false;
        }
        if self.requests_sent < MAX_REQUESTS && now >= first + RETRANSMIT_INTERVAL * self.requests_sent {
            let outcome = sink.send(Transmit::datagram(peer, &stun::counts_request(self.id, self.time)));
            self.requests_sent += u32::from(outcome != SendStatus::WouldBlock);
        }
        true
    }

    /// When the next request is due or, after the last one, when the query times out; `None` before the first request.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let wait = if self.requests_sent < MAX_REQUESTS {
            RETRANSMIT_INTERVAL * self.requests_sent
        } else {
            LOSS_REPORT_TIMEOUT
        };
        self.first_sent.map(|first| first + wait)
    }
}
