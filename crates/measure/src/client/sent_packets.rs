//! Tracks sent packets and matches replies to them, including late and duplicate replies.
//!
//! Memory does not grow with the length of a run: replies are matched by sequence number and compared by a digest of the expected bytes, and a
//! packet keeps its entry only until [`SENT_PACKETS_CAPACITY`] later packets of its stream have been sent.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::time::Duration;

use super::hosts::Hosts;
use super::live_snapshot::{LiveCounts, LiveSnapshot};
use super::reply::ReceivedReply;
use super::results::{PacketEvent, PacketObserver, PacketOutcome, RecordedPacket, ScheduleResults, SentAudio};
use super::run_config::{BLOCKS, RunConfig};
use super::stream_kind::StreamKind;
use jamjam_core::node::{SendStatus, Transmit, TransmitSink};
use jamjam_core::stats::{FinalOutcome, History, PacingStats, Reordering, StreamStats};
use jamjam_core::time::{Time, saturating_nanos};
use jamjam_core::wire::HEADER_LEN;

/// Maximum tracked packets per stream. After this many later packets, the outcome of a packet is final. At 375 packets per second, this
/// takes more than eleven minutes.
pub const SENT_PACKETS_CAPACITY: usize = 262_144;

/// Different round trips per second for which the evaluated stream allocates memory in advance. A jamjam client sends 375 packets per
/// second.
const ROUND_TRIPS_PER_SECOND: usize = 512;

/// The same for each other stream of a run. `send` sends one LATENCY_PING and one KEEPALIVE per second.
const OTHER_ROUND_TRIPS_PER_SECOND: usize = 4;

/// How long a client of several keeps a packet after its time-out, so that later copies count as late or duplicated.
const KEPT_AFTER_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds of returned packets for which memory is allocated in advance, while it is not known whether the server paused.
const UNEVALUATED_SECONDS: usize = 4;

/// The sent packets and pacing of a run over UDP or WebSocket.
pub struct PacketTracker {
    pub(super) config: RunConfig,
    /// The array index is a [`StreamKind`].
    pub(super) streams: [SentPackets; 3],
    pub(super) pacing: Box<PacingStats>,
    pub(super) hosts: Hosts,
    /// Shifts of the schedule, and until [`Self::schedule_results`] no durations.
    schedule: ScheduleResults,
    /// By how much the last packet of the evaluated stream was sent late, in nanoseconds.
    last_lateness_ns: i64,
    /// Received datagrams that belong to no stream of the run.
    pub(super) stray: u64,
    /// Sequence numbers of the KEEPALIVE packets of `--wait-for`, whose replies are not counted.
    pub(super) readiness_sequences: Range<u32>,
    pub(super) observer: Box<dyn PacketObserver>,
}

impl PacketTracker {
    pub(super) fn new(config: RunConfig, first_audio_sequence: u32, observer: Box<dyn PacketObserver>) -> Self {
        let mut streams = StreamKind::ALL.map(|kind| {
            let is_evaluated = kind == config.evaluated_stream;
            let round_trips = if is_evaluated { ROUND_TRIPS_PER_SECOND } else { OTHER_ROUND_TRIPS_PER_SECOND };
            let (first_sequence, first_reply) = match kind {
                StreamKind::Audio => (first_audio_sequence, config.first_echo_timeout),
                StreamKind::Ping | StreamKind::Keepalive => (0, Duration::ZERO),
            };
            let mut stream =
                SentPackets::new(kind, first_sequence, config.replies_expected.then_some(first_reply), round_trips);
            if config.shares_record {
                stream.kept = Some(config.timeout + KEPT_AFTER_TIMEOUT);
                stream.stats.history = History::default();
                stream.live.next_percentile = Time::MAX;
            }
            stream
        });
        if let Some(count) = config.blocks_of {
            let stream = &mut streams[config.evaluated_stream as usize];
            let block = StreamStats { history: History::default(), ..stream.stats.clone() };
            (stream.blocks_of, stream.stats.blocks) = (count.max(1), vec![block; BLOCKS]);
        }
        let hosts = Hosts::new(config.server_delay, config.loss_report_nonce.is_some());
        let (pacing, schedule, last_lateness_ns) = (Box::default(), ScheduleResults::default(), 0);
        let readiness_sequences = 0..0;
        Self { config, streams, pacing, hosts, schedule, last_lateness_ns, stray: 0, readiness_sequences, observer }
    }

    pub(super) fn next_sequence(&self, kind: StreamKind) -> u32 {
        self.streams[kind as usize].next_sequence()
    }

    /// Packets sent so far. The array index is a [`StreamKind`].
    pub(super) fn sent(&self) -> [u64; 3] {
        StreamKind::ALL.map(|kind| self.streams[kind as usize].stats.sent)
    }

    /// Sends one packet that was due at `due` and tracks it, unless the socket would block. `expected_digest` is the
    /// [`reply_digest`] of the expected reply.
    pub(super) fn send(
        &mut self,
        kind: StreamKind,
        (due, now): (Time, Time),
        datagram: &[u8],
        expected_digest: u64,
        sink: &mut dyn TransmitSink,
    ) -> SendStatus {
        let status = sink.send(Transmit::datagram(self.config.peer, datagram));
        if status == SendStatus::WouldBlock {
            return status;
        }
        if let (StreamKind::Audio, Some(payload)) = (kind, datagram.get(HEADER_LEN..)) {
            let audio = &self.streams[kind as usize];
            let (index, sequence) = (audio.next_index(), audio.next_sequence());
            self.observer.on_audio_sent(SentAudio { index, sequence, payload });
        }
        if status == SendStatus::Failed {
            self.on_not_sent(kind, due);
        } else {
            self.on_sent(kind, (due, now), expected_digest);
        }
        status
    }

    /// Records that the rest of the schedule was delayed.
    pub(super) fn on_schedule_shift(&mut self, by: Duration) {
        let (schedule, by_ns) = (&mut self.schedule, saturating_nanos(by));
        schedule.shifts += 1;
        schedule.shift_total_ns = schedule.shift_total_ns.saturating_add(by_ns);
        schedule.shift_max_ns = schedule.shift_max_ns.max(by_ns);
    }

    /// The schedule of packets that were planned to take `planned`, and which the source delayed by `source_paused_ns`; `None` if no packet was
    /// planned.
    pub(super) fn schedule_results(&self, planned: Duration, source_paused_ns: u64) -> Option<ScheduleResults> {
        let planned_ns = saturating_nanos(planned);
        let shifted_ns = planned_ns.saturating_add(self.schedule.shift_total_ns).saturating_add(source_paused_ns);
        let actual_ns = shifted_ns.saturating_add_signed(self.last_lateness_ns);
        (planned_ns > 0).then_some(ScheduleResults { planned_ns, actual_ns, ..self.schedule })
    }

    /// Tracks a packet that was due at `due` and that the system refused to send.
    pub(super) fn on_not_sent(&mut self, kind: StreamKind, due: Time) {
        self.streams[kind as usize].on_not_sent(due, &self.hosts, &mut *self.observer);
    }

    /// Tracks a packet that was due at `due` and sent at `sent_at`.
    pub(super) fn on_sent(&mut self, kind: StreamKind, (due, sent_at): (Time, Time), expected_digest: u64) {
        self.streams[kind as usize].on_sent((due, sent_at), expected_digest, &self.hosts, &mut *self.observer);
        if kind == self.config.evaluated_stream {
            self.last_lateness_ns = sent_at.signed_nanos_since(due);
            self.pacing.on_sent(due, sent_at);
        }
    }

    /// Records a datagram from the peer, as parsed by [`parse_reply`].
    pub(super) fn on_received(&mut self, parsed: Option<(StreamKind, Option<ReceivedReply<'_>>)>) {
        let (kind, reply) = match parsed {
            Some((StreamKind::Keepalive, Some(reply))) if self.readiness_sequences.contains(&reply.sequence) => return,
            Some((kind, reply)) if self.streams[kind as usize].has_sent() => (kind, reply),
            _ => {
                self.stray += 1;
                return;
            }
        };
        let stream = &mut self.streams[kind as usize];
        match reply {
            None => stream.stats.unmatched += 1,
            Some(reply) => stream.on_received(reply, &self.hosts, &mut *self.observer),
        }
    }

    /// The figures of the evaluated stream at `now`, and the number of packets of all streams.
    pub(super) fn snapshot(&mut self, now: Time) -> LiveSnapshot {
        let RunConfig { evaluated_stream, timeout, replies_expected, .. } = self.config;
        let is_audio = evaluated_stream == StreamKind::Audio;
        let server_delay = if is_audio { self.server_delay() } else { Some(0) };
        let packets = StreamKind::ALL.map(|kind| self.streams[kind as usize].next_index());
        let paused_ns = self.hosts.this.total_ns;
        let figures = self.streams[evaluated_stream as usize].snapshot(now, timeout, &self.hosts, server_delay);
        LiveSnapshot { packets, replies_expected, paused_ns, ..figures }
    }

    /// The [`ServerDelay`](super::ServerDelay) as far as it is known.
    fn server_delay(&self) -> Option<i64> {
        let [min_rtt, min_ping] = [StreamKind::Audio, StreamKind::Ping].map(|kind| self.streams[kind as usize].min_rtt);
        let known = self.hosts.holding_time.map(|delay| i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX));
        known.or_else(|| Some((min_rtt? - min_ping?).max(0)))
    }

    /// Decides the outcomes of all packets of a run that was interrupted at this time, if it was. Only the statistics remain.
    pub(super) fn settle(&mut self, interrupted_at: Option<Time>) {
        let interrupted = interrupted_at.map(|at| (at, self.config.timeout));
        let outcome = |stream: &SentPackets, packet: &SentPacket| {
            stream.has_timed_out(packet, interrupted).then(|| stream.unanswered(packet, &self.hosts))
        };
        for stream in &mut self.streams {
            stream.stats = mem::take(stream).finish(outcome, &self.hosts, &mut *self.observer);
        }
    }

    /// Whether every expected reply arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.streams.iter().all(SentPackets::is_complete)
    }

    /// The latest time at which a packet of any stream times out.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.streams.iter().filter_map(|sent_packets| sent_packets.deadline(self.config.timeout)).max()
    }
}

/// State of a packet, with the digest of the expected reply or the RTT in nanoseconds. Of a packet that `Arrived`, it is not known yet whether
/// it is excluded.
#[derive(Clone, Copy)]
enum PacketState {
    NotSent,
    InFlight { expected_digest: u64 },
    Damaged { expected_digest: u64 },
    Arrived { rtt: i64 },
    Returned { rtt: i64 },
    Excluded,
}

#[derive(Clone, Copy)]
pub(super) struct SentPacket {
    due: Time,
    sent_at: Time,
    state: PacketState,
    /// Whether the live view counts the packet as lost.
    is_presumed_lost: bool,
}

impl SentPacket {
    fn was_sent(&self) -> bool {
        !matches!(self.state, PacketState::NotSent)
    }

    fn is_unanswered(&self) -> bool {
        matches!(self.state, PacketState::InFlight { .. })
    }
}

/// The sent packets of one stream.
#[derive(Clone, Default)]
pub(super) struct SentPackets {
    stream_kind: StreamKind,
    /// A packet times out after this time plus the run's time-out, until the first reply arrives and the minimum RTT replaces this time.
    /// `None` if no replies are expected.
    first_reply_timeout: Option<Duration>,
    /// A packet is kept for this time plus that of its expected reply; `None` for as long as there is space.
    kept: Option<Duration>,
    last_sent: Option<Time>,
    first_sequence: u32,
    /// Index of the oldest tracked packet.
    pub(super) first_index: u64,
    packets: VecDeque<SentPacket>,
    reordering: Reordering,
    /// The smallest round trip so far.
    min_rtt: Option<i64>,
    /// The index after the newest answered packet.
    answered_until: u64,
    /// Indexes of returned packets, in the order of arrival. They are evaluated as soon as it is known whether the server paused.
    unevaluated: VecDeque<u64>,
    pub(super) stats: StreamStats,
    /// Number of packets in all blocks, at least 1, because they are divided by it.
    blocks_of: u64,
    live: LiveCounts,
}

impl SentPackets {
    /// An empty stream, with memory allocated in advance for so many different `round_trips` per second.
    fn new(kind: StreamKind, first_sequence: u32, first_reply_timeout: Option<Duration>, round_trips: usize) -> Self {
        let is_audio = kind == StreamKind::Audio;
        let mut stats = if is_audio { StreamStats::with_rtt_baseline() } else { StreamStats::new() };
        stats.history = History::with_capacity(round_trips);
        let (stream_kind, unevaluated) = (kind, VecDeque::with_capacity(round_trips * UNEVALUATED_SECONDS));
        Self { stream_kind, first_reply_timeout, first_sequence, unevaluated, stats, blocks_of: 1, ..Self::default() }
    }

    /// Records an event of the packet `index` in the statistics of the stream and of its block.
    fn record(&mut self, index: u64, event: impl Fn(&mut StreamStats)) {
        event(&mut self.stats);
        if !self.stats.blocks.is_empty() {
            let block = u128::from(index) * BLOCKS as u128 / u128::from(self.blocks_of);
            if let Some(block) = self.stats.blocks.get_mut(block as usize) {
                event(block);
            }
        }
    }

    /// Sets the time at which the reply to a packet is expected before the first reply has arrived.
    pub(super) fn expect_first_reply_after(&mut self, delay: Duration) {
        self.first_reply_timeout = self.first_reply_timeout.map(|_| delay);
    }

    pub(super) fn next_index(&self) -> u64 {
        self.first_index + self.packets.len() as u64
    }

    pub(super) fn next_sequence(&self) -> u32 {
        self.sequence_of(self.next_index())
    }

    pub(super) fn has_sent(&self) -> bool {
        self.last_sent.is_some()
    }

    /// Records a packet that was due and sent at these times. `digest` is the [`reply_digest`] of the expected reply.
    fn on_sent(&mut self, times: (Time, Time), digest: u64, hosts: &Hosts, observer: &mut dyn PacketObserver) {
        let ((due, sent_at), state) = (times, PacketState::InFlight { expected_digest: digest });
        let index = self.next_index();
        self.track(SentPacket { due, sent_at, state, is_presumed_lost: false }, hosts, observer);
        self.last_sent = Some(sent_at);
        self.record(index, |stats| stats.on_sent(sent_at));
    }

    /// Records a packet that was due at `due` and that the system refused to send.
    fn on_not_sent(&mut self, due: Time, hosts: &Hosts, observer: &mut dyn PacketObserver) {
        let (index, state) = (self.next_index(), PacketState::NotSent);
        self.track(SentPacket { due, sent_at: due, state, is_presumed_lost: false }, hosts, observer);
        self.record(index, |stats| stats.on_not_sent(due));
        self.report_unanswered(index, (due, due), PacketOutcome::NotSent, observer);
    }

    fn track(&mut self, packet: SentPacket, hosts: &Hosts, observer: &mut dyn PacketObserver) {
        let is_expired = |stream: &Self| {
            let oldest = stream.kept.zip(stream.packets.front());
            oldest.is_some_and(|(kept, oldest)| oldest.sent_at + stream.reply_timeout(kept) <= packet.sent_at)
        };
        while self.packets.len() == SENT_PACKETS_CAPACITY || is_expired(self) {
            let unanswered = self.packets.front().filter(|oldest| self.expects_replies() && oldest.is_unanswered());
            let outcome = unanswered.map_or(FinalOutcome::InFlight, |oldest| self.unanswered(oldest, hosts));
            self.settle_oldest(outcome, hosts, observer);
        }
        self.packets.push_back(packet);
    }

    /// The outcome of a packet without a reply.
    pub(super) fn unanswered(&self, packet: &SentPacket, hosts: &Hosts) -> FinalOutcome {
        let expected_at = packet.sent_at + self.expected_rtt();
        let is_excluded = hosts.excludes(self.stream_kind, packet.sent_at, expected_at);
        if is_excluded { FinalOutcome::Excluded } else { FinalOutcome::Lost }
    }

    fn on_received(&mut self, reply: ReceivedReply<'_>, hosts: &Hosts, observer: &mut dyn PacketObserver) {
        // There is no reply to a packet that was not sent, or not yet.
        let is_sent = |position: &usize| {
            let packet = &self.packets[*position];
            packet.was_sent() && packet.sent_at <= reply.received_at
        };
        let Some(position) = self.position_of(reply.sequence).filter(is_sent) else {
            self.stats.unmatched += 1;
            return;
        };
        let (index, packet) = (self.first_index + position as u64, &mut self.packets[position]);
        let is_first = packet.is_unanswered();
        self.live.lost -= u64::from(mem::take(&mut packet.is_presumed_lost));
        self.answered_until = self.answered_until.max(index + 1);
        let outcome = match packet.state {
            PacketState::Arrived { .. }
            | PacketState::Returned { .. }
            | PacketState::Excluded
            | PacketState::NotSent => {
                self.stats.duplicated += 1;
                PacketOutcome::Duplicate
            }
            PacketState::InFlight { expected_digest } | PacketState::Damaged { expected_digest }
                if expected_digest != reply.digest =>
            {
                packet.state = PacketState::Damaged { expected_digest };
                self.stats.damaged_copies += 1;
                PacketOutcome::Damaged
            }
            PacketState::InFlight { .. } | PacketState::Damaged { .. } => {
                let rtt = reply.received_at.signed_nanos_since(packet.sent_at);
                self.min_rtt = Some(self.min_rtt.map_or(rtt, |min| min.min(rtt)));
                self.stats.arrived += 1;
                self.unevaluated.push_back(index);
                if !hosts.excludes(self.stream_kind, packet.sent_at, reply.received_at) {
                    self.live.last_rtt = Some(rtt);
                }
                packet.state = PacketState::Arrived { rtt };
                PacketOutcome::Returned
            }
        };
        let SentPacket { due, sent_at, .. } = *packet;
        let (stream, sequence, received_at) = (self.stream_kind, reply.sequence, Some(reply.received_at));
        let packet = RecordedPacket { stream, sequence, due, sent_at, received_at, outcome };
        observer.on_packet(PacketEvent { packet, index, is_first, payload: reply.payload });
        self.evaluate(hosts.server_known_until, hosts);
    }

    /// Evaluates all packets that returned by `until`: excludes those that were in flight during a pause, and records the others.
    fn evaluate(&mut self, until: Time, hosts: &Hosts) {
        while let Some(index) = self.unevaluated.front().copied() {
            let packet = &mut self.packets[(index - self.first_index) as usize];
            let PacketState::Arrived { rtt } = packet.state else { break };
            let received_at = packet.sent_at + Duration::from_nanos(rtt.cast_unsigned());
            if received_at > until {
                break;
            }
            self.unevaluated.pop_front();
            let reordered = self.reordering.on_arrival(index, received_at);
            if hosts.excludes(self.stream_kind, packet.sent_at, received_at) {
                packet.state = PacketState::Excluded;
                continue;
            }
            packet.state = PacketState::Returned { rtt };
            let sent_at = packet.sent_at;
            self.record(index, |stats| stats.on_return(sent_at, rtt));
            if let Some(reordered) = reordered {
                self.stats.on_reordered(reordered);
            }
        }
    }

    /// The figures of the live view at `now`. A packet is presumed lost if a later one has returned, or if it has timed out. Round trips exclude
    /// `server_delay` if it is known.
    fn snapshot(&mut self, now: Time, timeout: Duration, hosts: &Hosts, server_delay: Option<i64>) -> LiveSnapshot {
        let timeout = self.reply_timeout(timeout);
        // The replies that arrived during a pause are read after it.
        let resumed_at = hosts.this.resumed_at().unwrap_or_default();
        while self.expects_replies()
            && let Some(packet) = self.packets.get((self.live.next - self.first_index) as usize)
            && (!packet.is_unanswered()
                || self.live.next < self.answered_until
                || now >= packet.sent_at.max(resumed_at) + timeout)
        {
            self.count_next(hosts);
        }
        self.live.snapshot(now, &self.stats, server_delay)
    }

    /// Counts the next packet in the live view.
    fn count_next(&mut self, hosts: &Hosts) {
        let position = (self.live.next - self.first_index) as usize;
        let packet = self.packets[position];
        let is_lost = packet.is_unanswered() && self.unanswered(&packet, hosts) == FinalOutcome::Lost;
        self.packets[position].is_presumed_lost = is_lost;
        self.live.count(packet.was_sent() && (is_lost || !packet.is_unanswered()), is_lost);
    }

    /// Whether a reply arrived for the tracked packet with this sequence number.
    pub(super) fn has_received(&self, sequence: u32) -> bool {
        let state = self.position_of(sequence).map(|position| self.packets[position].state);
        !matches!(state, None | Some(PacketState::NotSent | PacketState::InFlight { .. }))
    }

    fn expects_replies(&self) -> bool {
        self.first_reply_timeout.is_some()
    }

    /// Whether every expected reply arrived.
    fn is_complete(&self) -> bool {
        !self.expects_replies() || self.stats.arrived == self.stats.sent
    }

    /// The smallest RTT so far. Before the first RTT is measured, `first_reply_timeout` replaces it.
    fn expected_rtt(&self) -> Duration {
        let min_rtt = self.min_rtt.map(|rtt| Duration::from_nanos(rtt.max(0).cast_unsigned()));
        min_rtt.or(self.first_reply_timeout).unwrap_or_default()
    }

    /// Time after sending until a packet counts as lost.
    fn reply_timeout(&self, timeout: Duration) -> Duration {
        self.expected_rtt() + timeout
    }

    /// When the last packet times out.
    fn deadline(&self, timeout: Duration) -> Option<Time> {
        self.last_sent.map(|sent_at| sent_at + self.reply_timeout(timeout))
    }

    /// Whether an unanswered packet has timed out, before the run was interrupted if it was. If the run does not expect replies, no packet
    /// times out.
    pub(super) fn has_timed_out(&self, packet: &SentPacket, interrupted: Option<(Time, Duration)>) -> bool {
        self.expects_replies()
            && interrupted.is_none_or(|(at, timeout)| at >= packet.sent_at + self.reply_timeout(timeout))
    }

    /// Number of bytes that the packets and the statistics allocate.
    pub(super) fn allocated_bytes(&self) -> usize {
        let packets = self.packets.capacity() * size_of::<SentPacket>();
        packets + self.unevaluated.capacity() * size_of::<u64>() + self.stats.allocated_bytes()
    }

    /// Finishes the stream and returns its statistics. `outcome` gets each unanswered packet, which is the oldest tracked one, and returns
    /// `None` if the packet is in flight.
    pub(super) fn finish(
        mut self,
        outcome: impl Fn(&Self, &SentPacket) -> Option<FinalOutcome>,
        hosts: &Hosts,
        observer: &mut dyn PacketObserver,
    ) -> StreamStats {
        self.evaluate(Time::MAX, hosts);
        while let Some(packet) = self.packets.front() {
            let unanswered = if packet.is_unanswered() { outcome(&self, packet) } else { None };
            self.settle_oldest(unanswered.unwrap_or(FinalOutcome::InFlight), hosts, observer);
        }
        self.stats
    }

    /// Stops tracking the oldest packet. `unanswered` is its outcome if it has no reply.
    fn settle_oldest(&mut self, unanswered: FinalOutcome, hosts: &Hosts, observer: &mut dyn PacketObserver) {
        let index = self.first_index;
        if self.live.next == index && self.expects_replies() {
            self.count_next(hosts);
        }
        if self.packets.front().is_some_and(|packet| matches!(packet.state, PacketState::Arrived { .. })) {
            // Memory is bounded, even if the server stops answering.
            self.evaluate(Time::MAX, hosts);
        }
        let Some(SentPacket { due, sent_at, state, .. }) = self.packets.pop_front() else { return };
        self.first_index += 1;
        self.reordering.discard_before(self.first_index);
        let settled = match state {
            PacketState::Arrived { rtt } | PacketState::Returned { rtt } => FinalOutcome::Returned { rtt },
            PacketState::Excluded => FinalOutcome::Excluded,
            PacketState::NotSent => FinalOutcome::NotSent,
            PacketState::Damaged { .. } => FinalOutcome::Damaged,
            PacketState::InFlight { .. } => unanswered,
        };
        self.record(index, |stats| stats.on_settled(sent_at, settled));
        // All other packets have been reported: when the datagram arrived, or when the packet was not sent.
        let outcome = match (state, settled) {
            (PacketState::InFlight { .. }, FinalOutcome::Lost) => PacketOutcome::Lost,
            (PacketState::InFlight { .. }, FinalOutcome::Excluded) => PacketOutcome::Excluded,
            (PacketState::InFlight { .. }, _) => PacketOutcome::InFlight,
            _ => return,
        };
        self.report_unanswered(index, (due, sent_at), outcome, observer);
    }

    /// Reports the outcome of a packet that has no reply.
    fn report_unanswered(
        &self,
        index: u64,
        times: (Time, Time),
        outcome: PacketOutcome,
        observer: &mut dyn PacketObserver,
    ) {
        let ((due, sent_at), stream, sequence) = (times, self.stream_kind, self.sequence_of(index));
        let packet = RecordedPacket { stream, sequence, due, sent_at, received_at: None, outcome };
        observer.on_packet(PacketEvent { packet, index, is_first: false, payload: &[] });
    }

    fn sequence_of(&self, index: u64) -> u32 {
        self.first_sequence.wrapping_add(index as u32)
    }

    /// Position in `packets` of the packet with this sequence number; as these numbers wrap, the one nearest to the next packet is meant.
    fn position_of(&self, sequence: u32) -> Option<usize> {
        let ahead = sequence.wrapping_sub(self.next_sequence()).cast_signed();
        let position = self.packets.len().checked_add_signed(ahead as isize)?;
        (position < self.packets.len()).then_some(position)
    }
}
