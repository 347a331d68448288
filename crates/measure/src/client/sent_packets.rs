//! Tracks sent packets and matches replies to them, including late and duplicate replies.
//!
//! Memory does not grow with the length of a run: replies are matched by sequence number and compared by a digest of the expected bytes, and a
//! packet keeps its entry only until [`SENT_PACKETS_CAPACITY`] later packets of its stream have been sent.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::RunConfig;
use super::hosts::{Hosts, Unanswered};
use super::live_figures::{LiveCounts, LiveSnapshot};
use super::reply::ReceivedReply;
use super::results::{PacketEvent, PacketObserver, PacketOutcome, RecordedPacket, SentAudio, StreamKind};
use jamjam_core::node::{SendStatus, Transmit, TransmitSink};
use jamjam_core::stats::{FinalOutcome, History, PacingStats, Reordering, StreamStats};
use jamjam_core::time::{MIN_PAUSE, Time, saturating_nanos};
use jamjam_core::wire::HEADER_LEN;

/// Maximum tracked packets per stream. After this many later packets, the outcome of a packet is final. At 375 packets per second, this
/// takes more than eleven minutes.
pub const SENT_PACKETS_CAPACITY: usize = 262_144;

/// Different round trips per second for which the evaluated stream allocates memory in advance. A jamjam client sends 375 packets per
/// second.
const ROUND_TRIPS_PER_SECOND: usize = 512;

/// The same for each other stream of a run. `send` sends one LATENCY_PING and one KEEPALIVE per second.
const OTHER_ROUND_TRIPS_PER_SECOND: usize = 4;

/// Seconds of round trips for which memory is allocated in advance, while it is not known whether the server paused.
const UNVERIFIED_SECONDS: usize = 4;

/// The sent packets and pacing of a run over UDP or WebSocket.
pub struct PacketTracker {
    pub(super) config: RunConfig,
    /// The array index is a [`StreamKind`].
    pub(super) streams: [SentPackets; 3],
    pub(super) pacing: PacingStats,
    pub(super) hosts: Hosts,
    /// Received datagrams that belong to no stream of the run.
    pub(super) stray: u64,
    /// Sequence numbers of the KEEPALIVE packets of `--wait-for`, whose replies are not counted.
    pub(super) readiness_sequences: Range<u32>,
    pub(super) observer: Box<dyn PacketObserver>,
}

impl PacketTracker {
    pub(super) fn new(config: RunConfig, first_audio_sequence: u32, observer: Box<dyn PacketObserver>) -> Self {
        let streams = StreamKind::ALL.map(|kind| {
            let is_evaluated = kind == config.evaluated_stream;
            let round_trips = if is_evaluated { ROUND_TRIPS_PER_SECOND } else { OTHER_ROUND_TRIPS_PER_SECOND };
            let (first_sequence, first_reply) = match kind {
                StreamKind::Audio => (first_audio_sequence, config.first_echo_timeout),
                StreamKind::Ping | StreamKind::Keepalive => (0, Duration::ZERO),
            };
            SentPackets::new(kind, first_sequence, config.replies_expected.then_some(first_reply), round_trips)
        });
        let (pacing, hosts) = (PacingStats::default(), Hosts::new());
        Self { config, streams, pacing, hosts, stray: 0, readiness_sequences: 0..0, observer }
    }

    /// The sent packets of a stream.
    pub(super) fn stream(&self, kind: StreamKind) -> &SentPackets {
        &self.streams[kind as usize]
    }

    /// Sequence number of the next packet of a stream.
    pub(super) fn next_sequence(&self, kind: StreamKind) -> u32 {
        self.stream(kind).next_sequence()
    }

    /// Packets sent so far. The array index is a [`StreamKind`].
    pub(super) fn sent(&self) -> [u64; 3] {
        StreamKind::ALL.map(|kind| self.stream(kind).stats.sent)
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
        let status = self.send_untracked(datagram, sink);
        match status {
            SendStatus::WouldBlock => {}
            SendStatus::Failed => self.on_not_sent(kind, due, true, datagram),
            SendStatus::Sent | SendStatus::GsoUnsupported => {
                self.on_audio(kind, datagram);
                self.on_sent(kind, (due, now), expected_digest);
            }
        }
        status
    }

    /// Whether a packet that was due at `due` is skipped, because it is overdue by more than [`MIN_PAUSE`] and more than `interval`.
    pub(super) fn is_overdue(due: Time, now: Time, interval: Duration) -> bool {
        now > due + interval.max(MIN_PAUSE)
    }

    /// Tracks a packet that was due at `due` and that this host did not send. If `refused` is true, the operating system refused it.
    pub(super) fn on_not_sent(&mut self, kind: StreamKind, due: Time, refused: bool, datagram: &[u8]) {
        self.on_audio(kind, datagram);
        self.streams[kind as usize].on_not_sent(due, refused, &mut self.hosts, &mut *self.observer);
    }

    /// Passes the audio of the next packet to the observer.
    fn on_audio(&mut self, kind: StreamKind, datagram: &[u8]) {
        let sent_packets = self.stream(kind);
        let (index, sequence) = (sent_packets.next_index(), sent_packets.next_sequence());
        if let (StreamKind::Audio, Some(payload)) = (kind, datagram.get(HEADER_LEN..)) {
            self.observer.on_audio_sent(SentAudio { index, sequence, payload });
        }
    }

    /// Tracks a packet that was due at `due` and sent at `sent_at`.
    pub(super) fn on_sent(&mut self, kind: StreamKind, (due, sent_at): (Time, Time), expected_digest: u64) {
        self.streams[kind as usize].on_sent((due, sent_at), expected_digest, &mut self.hosts, &mut *self.observer);
        if kind == self.config.evaluated_stream && !self.hosts.this.paused_within(due, sent_at) {
            self.pacing.on_sent(due, sent_at);
        }
    }

    /// Sends a packet without tracking it.
    pub(super) fn send_untracked(&self, datagram: &[u8], sink: &mut dyn TransmitSink) -> SendStatus {
        sink.send(Transmit::datagram(self.config.peer, datagram))
    }

    /// Records a datagram from the peer, as parsed by [`parse_reply`].
    pub(super) fn on_received(&mut self, parsed: Option<(StreamKind, Option<ReceivedReply<'_>>)>) {
        let (kind, reply) = match parsed {
            Some((StreamKind::Keepalive, Some(reply))) if self.readiness_sequences.contains(&reply.sequence) => return,
            Some((kind, reply)) if self.stream(kind).has_sent() => (kind, reply),
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
        let server_delay = if is_audio { self.server_delay(now) } else { Some(0) };
        let packets = StreamKind::ALL.map(|kind| self.stream(kind).next_index());
        let (paused_ns, resumed_at) = (self.hosts.this.total_ns, self.hosts.this.resumed_at().unwrap_or_default());
        let evaluated = &mut self.streams[evaluated_stream as usize];
        let figures = evaluated.snapshot(now, timeout, resumed_at, server_delay);
        LiveSnapshot { packets, replies_expected, paused_ns, ..figures }
    }

    /// The [`ServerDelay`](super::ServerDelay) as far as it is known at `at`.
    fn server_delay(&self, at: Time) -> Option<i64> {
        let reported = self.hosts.reported_delay.filter(|(reported_at, _)| *reported_at < at).map(|(_, delay)| delay);
        let known = self.config.server_delay.map(saturating_nanos).or(reported);
        let [min_rtt, min_ping] = [StreamKind::Audio, StreamKind::Ping].map(|kind| self.stream(kind).min_rtt);
        let known = known.map(|delay| i64::try_from(delay).unwrap_or(i64::MAX));
        known.or_else(|| Some((min_rtt? - min_ping?).max(0)))
    }

    /// Finishes all streams of a run, which may have been `interrupted` at this time, with this configured time-out for replies. Events of
    /// packets without a reply go to `observer`.
    pub(super) fn finish(
        streams: [SentPackets; 3],
        hosts: &mut Hosts,
        interrupted: Option<(Time, Duration)>,
        observer: &mut dyn PacketObserver,
    ) -> [StreamStats; 3] {
        let overdue: Vec<_> = streams.iter().flat_map(|stream| stream.overdue(interrupted)).collect();
        let mut outcomes = hosts.attribute_all(&overdue).into_iter();
        streams.map(|stream| {
            let is_overdue = stream.is_overdue(interrupted);
            let outcome = |_, sent_at| is_overdue(sent_at).then(|| outcomes.next()).flatten();
            stream.finish(outcome, hosts, observer)
        })
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

/// State of a packet, with the digest of the expected reply or the RTT in nanoseconds.
#[derive(Clone, Copy)]
enum PacketState {
    NotSent,
    InFlight { expected_digest: u64 },
    Damaged { expected_digest: u64 },
    Returned { rtt: i64 },
}

#[derive(Clone, Copy)]
struct SentPacket {
    due: Time,
    sent_at: Time,
    state: PacketState,
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
#[derive(Clone)]
pub(super) struct SentPackets {
    stream_kind: StreamKind,
    /// A packet times out after this time plus the run's time-out, until the first reply arrives and the minimum RTT replaces this time.
    /// `None` if no replies are expected.
    first_reply_timeout: Option<Duration>,
    last_sent: Option<Time>,
    first_sequence: u32,
    /// Index of the first tracked packet.
    first_index: u64,
    packets: VecDeque<SentPacket>,
    reordering: Reordering,
    /// The smallest round trip so far.
    min_rtt: Option<i64>,
    /// Send and arrival times of returned packets, in the order of arrival. Their round trips are recorded as soon as it is known whether
    /// the server paused.
    unverified: VecDeque<(Time, Time)>,
    pub(super) stats: StreamStats,
    live: LiveCounts,
}

impl SentPackets {
    /// An empty stream, with memory allocated in advance for so many different `round_trips` per second.
    fn new(kind: StreamKind, first_sequence: u32, first_reply_timeout: Option<Duration>, round_trips: usize) -> Self {
        let is_audio = kind == StreamKind::Audio;
        let mut stats = if is_audio { StreamStats::with_rtt_baseline() } else { StreamStats::new() };
        stats.history = History::with_capacity(round_trips);
        Self {
            stream_kind: kind,
            first_reply_timeout,
            last_sent: None,
            first_sequence,
            first_index: 0,
            packets: VecDeque::new(),
            reordering: Reordering::default(),
            min_rtt: None,
            unverified: VecDeque::with_capacity(round_trips * UNVERIFIED_SECONDS),
            stats,
            live: LiveCounts::default(),
        }
    }

    /// Sets the time at which the reply to a packet is expected before the first reply has arrived.
    pub(super) fn expect_first_reply_after(&mut self, delay: Duration) {
        self.first_reply_timeout = self.first_reply_timeout.map(|_| delay);
    }

    /// Index of the next packet.
    pub(super) fn next_index(&self) -> u64 {
        self.first_index + self.packets.len() as u64
    }

    /// Sequence number of the next packet.
    pub(super) fn next_sequence(&self) -> u32 {
        self.sequence_of(self.next_index())
    }

    /// Whether any packet was sent.
    pub(super) fn has_sent(&self) -> bool {
        self.last_sent.is_some()
    }

    /// Records a packet that was due and sent at these times. `digest` is the [`reply_digest`] of the expected reply.
    fn on_sent(&mut self, times: (Time, Time), digest: u64, hosts: &mut Hosts, observer: &mut dyn PacketObserver) {
        let ((due, sent_at), state) = (times, PacketState::InFlight { expected_digest: digest });
        self.track(SentPacket { due, sent_at, state }, hosts, observer);
        self.last_sent = Some(sent_at);
        self.stats.on_sent(sent_at);
    }

    /// Records a packet that was due at `due` and that this host did not send. If `refused` is true, the operating system refused it.
    fn on_not_sent(&mut self, due: Time, refused: bool, hosts: &mut Hosts, observer: &mut dyn PacketObserver) {
        let index = self.next_index();
        self.track(SentPacket { due, sent_at: due, state: PacketState::NotSent }, hosts, observer);
        self.stats.on_not_sent(due, refused);
        self.report_unanswered(index, (due, due), PacketOutcome::NotSent, observer);
    }

    fn track(&mut self, packet: SentPacket, hosts: &mut Hosts, observer: &mut dyn PacketObserver) {
        if self.packets.len() == SENT_PACKETS_CAPACITY {
            let unanswered = self.packets.front().filter(|oldest| self.expects_replies() && oldest.is_unanswered());
            let attribute = |oldest| hosts.attribute(self.expected(oldest), true);
            let outcome = unanswered.map_or(FinalOutcome::InFlight, attribute);
            self.settle_oldest(outcome, hosts, observer);
        }
        self.packets.push_back(packet);
    }

    fn expected(&self, packet: &SentPacket) -> Unanswered {
        (self.stream_kind as usize, packet.sent_at, packet.sent_at + self.expected_rtt())
    }

    /// Records a reply.
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
        if is_first && index < self.live.next {
            self.live.lost -= 1;
        }
        let outcome = match packet.state {
            PacketState::Returned { .. } | PacketState::NotSent => {
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
                self.stats.on_returned(packet.sent_at);
                self.unverified.push_back((packet.sent_at, reply.received_at));
                if !hosts.this.paused_within(packet.sent_at, reply.received_at) {
                    self.live.last_rtt = Some(rtt);
                }
                // After a pause, the streams of a MOQT session are written and read in bursts, in any order.
                if let Some(reordered) = self.reordering.on_arrival(index, reply.received_at)
                    && !hosts.this.paused_within(packet.due, reply.received_at)
                {
                    self.stats.on_reordered(reordered);
                }
                packet.state = PacketState::Returned { rtt };
                PacketOutcome::Returned
            }
        };
        let SentPacket { due, sent_at, .. } = *packet;
        let (stream, sequence, received_at) = (self.stream_kind, reply.sequence, Some(reply.received_at));
        let packet = RecordedPacket { stream, sequence, due, sent_at, received_at, outcome };
        observer.on_packet(PacketEvent { packet, index, is_first, payload: reply.payload });
        // Memory is bounded, even if the server stops answering.
        let is_full = self.unverified.len() >= SENT_PACKETS_CAPACITY;
        self.record_round_trips(if is_full { Time::MAX } else { hosts.server_known_until }, hosts);
    }

    /// Records the round trips of all packets that returned by `until`, except those that were in flight while a host paused.
    fn record_round_trips(&mut self, until: Time, hosts: &Hosts) {
        while let Some((sent_at, received_at)) = self.unverified.front().copied().filter(|(_, at)| *at <= until) {
            self.unverified.pop_front();
            if !hosts.paused_within(sent_at, received_at) {
                self.stats.on_round_trip(sent_at, received_at.signed_nanos_since(sent_at));
            }
        }
    }

    /// The figures of the live view at `now`. Round trips exclude `server_delay` if it is known.
    fn snapshot(&mut self, now: Time, timeout: Duration, resumed_at: Time, server_delay: Option<i64>) -> LiveSnapshot {
        let timeout = self.reply_timeout(timeout);
        // The replies that arrived during a pause are read after it.
        while self.expects_replies()
            && let Some(packet) = self.packets.get((self.live.next - self.first_index) as usize)
            && (!packet.is_unanswered() || now >= packet.sent_at.max(resumed_at) + timeout)
        {
            self.live.count(packet.was_sent(), packet.is_unanswered());
        }
        self.live.snapshot(now, &self.stats, server_delay)
    }

    /// Whether a reply arrived for the tracked packet with this sequence number.
    pub(super) fn has_received(&self, sequence: u32) -> bool {
        let state = self.position_of(sequence).map(|position| self.packets[position].state);
        matches!(state, Some(PacketState::Returned { .. } | PacketState::Damaged { .. }))
    }

    fn expects_replies(&self) -> bool {
        self.first_reply_timeout.is_some()
    }

    /// Whether every expected reply arrived.
    fn is_complete(&self) -> bool {
        !self.expects_replies() || self.stats.returned == self.stats.sent
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

    /// The unanswered packets that timed out, before the run was interrupted if it was.
    pub(super) fn overdue(&self, interrupted: Option<(Time, Duration)>) -> impl Iterator<Item = Unanswered> {
        let is_overdue = self.is_overdue(interrupted);
        let overdue = self.packets.iter().filter(move |packet| packet.is_unanswered() && is_overdue(packet.sent_at));
        overdue.map(|packet| self.expected(packet))
    }

    /// Whether an unanswered packet that was sent at a time has timed out. If the run does not expect replies, no packet times out.
    fn is_overdue(&self, interrupted: Option<(Time, Duration)>) -> impl Fn(Time) -> bool + use<> {
        let interrupted = interrupted.map(|(at, timeout)| (at, self.reply_timeout(timeout)));
        let expects_replies = self.expects_replies();
        move |sent_at| expects_replies && interrupted.is_none_or(|(at, timeout)| at >= sent_at + timeout)
    }

    /// Finishes the stream and returns its statistics. `outcome` gets the index and the send time of each unanswered packet, and returns
    /// `None` if the packet is in flight.
    pub(super) fn finish(
        mut self,
        mut outcome: impl FnMut(u64, Time) -> Option<FinalOutcome>,
        hosts: &Hosts,
        observer: &mut dyn PacketObserver,
    ) -> StreamStats {
        self.record_round_trips(Time::MAX, hosts);
        while let Some(packet) = self.packets.front() {
            let unanswered = if packet.is_unanswered() { outcome(self.first_index, packet.sent_at) } else { None };
            self.settle_oldest(unanswered.unwrap_or(FinalOutcome::InFlight), hosts, observer);
        }
        self.stats
    }

    /// Stops tracking the oldest packet. `unanswered` is its outcome if it has no reply.
    fn settle_oldest(&mut self, unanswered: FinalOutcome, hosts: &Hosts, observer: &mut dyn PacketObserver) {
        let Some(packet) = self.packets.pop_front() else { return };
        let SentPacket { due, sent_at, state } = packet;
        let index = self.first_index;
        if self.live.next == index && self.expects_replies() {
            self.live.count(packet.was_sent(), packet.is_unanswered());
        }
        self.first_index += 1;
        self.reordering.discard_before(self.first_index);
        let settled = match state {
            PacketState::Returned { rtt } => {
                let received_at = Time::from_nanos(sent_at.as_nanos().saturating_add_signed(rtt));
                let is_paused = hosts.paused_within(sent_at, received_at);
                if is_paused { FinalOutcome::Paused } else { FinalOutcome::Returned { rtt } }
            }
            PacketState::NotSent => FinalOutcome::NotSent,
            PacketState::Damaged { .. } => FinalOutcome::Damaged,
            PacketState::InFlight { .. } => unanswered,
        };
        self.stats.on_settled(sent_at, settled);
        // All other packets have been reported: when the datagram arrived, or when the packet was not sent.
        let outcome = match settled {
            FinalOutcome::Lost => PacketOutcome::Lost,
            FinalOutcome::InFlight => PacketOutcome::InFlight,
            FinalOutcome::DroppedByThisHost => PacketOutcome::DroppedByThisHost,
            FinalOutcome::DroppedByServerHost => PacketOutcome::DroppedByServerHost,
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
