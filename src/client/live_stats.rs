//! Figures of a run while it is active, for the live view and `--progress`.
//!
//! A [`LiveObserver`] on the node's thread puts small events into a ring. [`LiveStats`] takes them out on another thread and computes the
//! figures there, so that the display costs the node almost no time. `docs/measuring.md` defines the figures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

use super::RunConfig;
use super::results::{PacketEvent, PacketObserver, PacketOutcome, SentAudio, StreamKind};
use crate::stats::{Counter, StreamStats};
use crate::time::{NANOS_PER_SECOND, Pause, Time, saturating_nanos};

/// Capacity of the ring: more than a second of events at the highest packet rates of a client.
const RING_CAPACITY: usize = 65_536;

/// Seconds of round trips that are kept.
pub const HISTORY_SECONDS: usize = 60;

/// Time in which packets count for the current loss, in nanoseconds.
const CURRENT_LOSS_NS: u64 = 10 * NANOS_PER_SECOND;

/// Maximum number of packets that are kept, as in the tracker of sent packets.
const MAX_PACKETS: usize = super::sent_packets::SENT_PACKETS_CAPACITY;

/// What the figures of a run depend on.
#[derive(Clone, Copy, Debug)]
pub struct LiveConfig {
    /// The stream that is displayed.
    pub evaluated_stream: StreamKind,
    /// A packet counts as lost after this time plus the smallest round trip.
    pub timeout: Duration,
    /// Replaces the smallest round trip before the first reply.
    pub first_reply_timeout: Duration,
    /// Configured delay of the server for AUDIO, if it is known.
    pub server_delay: Option<Duration>,
    /// Whether replies are expected.
    pub replies_expected: bool,
    /// Whether the levels of the audio are computed.
    pub has_levels: bool,
}

impl From<&RunConfig> for LiveConfig {
    fn from(config: &RunConfig) -> Self {
        let RunConfig { evaluated_stream, timeout, first_echo_timeout, server_delay, replies_expected, .. } = *config;
        let is_audio = evaluated_stream == StreamKind::Audio;
        Self {
            evaluated_stream,
            timeout,
            first_reply_timeout: if is_audio { first_echo_timeout } else { Duration::ZERO },
            server_delay,
            replies_expected,
            has_levels: false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum LiveEvent {
    Sent { index: u64, at: Time, is_sent: bool },
    SentLevel { at: Time, peak: f32 },
    Paused(Pause),
    Received(LiveReply),
}

/// A datagram that matches a packet.
#[derive(Clone, Copy, Debug)]
struct LiveReply {
    stream: StreamKind,
    index: u64,
    sent_at: Time,
    received_at: Time,
    /// Whether this is the first datagram for its packet.
    is_first: bool,
    /// Whether this is the first undamaged datagram for its packet.
    is_return: bool,
    /// Largest magnitude of the samples; 0 if the packet contains no audio.
    peak: f32,
}

/// Puts the events of a run into the ring. If the ring is full, the event is dropped and counted.
pub struct LiveObserver {
    ring: Producer<LiveEvent>,
    dropped: Arc<Counter>,
    evaluated_stream: StreamKind,
    has_levels: bool,
    next_index: u64,
    last_sent_at: Time,
}

/// The end of the ring from which events are read.
pub struct LiveEvents {
    ring: Consumer<LiveEvent>,
    dropped: Arc<Counter>,
}

/// Creates the ring between the node and the display.
pub fn live_events(config: &LiveConfig) -> (LiveObserver, LiveEvents) {
    let (producer, consumer) = RingBuffer::new(RING_CAPACITY);
    let dropped = Arc::<Counter>::default();
    let observer = LiveObserver {
        ring: producer,
        dropped: Arc::clone(&dropped),
        evaluated_stream: config.evaluated_stream,
        has_levels: config.has_levels,
        next_index: 0,
        last_sent_at: Time::ZERO,
    };
    (observer, LiveEvents { ring: consumer, dropped })
}

impl LiveObserver {
    fn push(&mut self, event: LiveEvent) {
        if self.ring.push(event).is_err() {
            self.dropped.add(1);
        }
    }
}

impl PacketObserver for LiveObserver {
    fn on_sent(&mut self, stream: StreamKind, at: Time) {
        if stream == self.evaluated_stream {
            self.push(LiveEvent::Sent { index: self.next_index, at, is_sent: true });
            self.next_index += 1;
            self.last_sent_at = at;
        }
    }

    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        if self.has_levels {
            self.push(LiveEvent::SentLevel { at: self.last_sent_at, peak: peak(sent.payload) });
        }
    }

    fn on_pause(&mut self, pause: Pause) {
        self.push(LiveEvent::Paused(pause));
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        let is_evaluated = event.stream == self.evaluated_stream;
        if is_evaluated && event.outcome == PacketOutcome::NotSent {
            self.push(LiveEvent::Sent { index: self.next_index, at: event.due, is_sent: false });
            self.next_index += 1;
        }
        let Some(received_at) = event.received_at else { return };
        if !is_evaluated && event.stream != StreamKind::Ping {
            return;
        }
        self.push(LiveEvent::Received(LiveReply {
            stream: event.stream,
            index: event.index,
            sent_at: event.sent_at,
            received_at,
            is_first: event.is_first,
            is_return: matches!(event.outcome, PacketOutcome::Returned | PacketOutcome::Late),
            peak: if self.has_levels && event.stream == StreamKind::Audio { peak(event.payload) } else { 0.0 },
        }));
    }
}

/// The largest magnitude of the samples of a payload in wire format (32-bit floats, little-endian). NaN is ignored.
fn peak(payload: &[u8]) -> f32 {
    let samples = payload.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes).abs());
    samples.fold(0.0, f32::max)
}

/// Raises the largest magnitude so far to `peak`.
fn raise(largest: &mut Option<f32>, peak: f32) {
    *largest = Some(largest.map_or(peak, |largest| largest.max(peak)));
}

/// A packet whose outcome may still change.
#[derive(Clone, Copy, Debug)]
struct LivePacket {
    sent_at: Time,
    is_sent: bool,
    /// True for a packet that was not sent: it can no longer be lost.
    has_reply: bool,
}

/// Figures of the events within one second of the run.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    sent: u64,
    max_rtt: Option<i64>,
    /// `None` without a packet.
    sent_peak: Option<f32>,
    /// The same for returned packets.
    returned_peak: Option<f32>,
}

/// Computes the figures of a run from its events.
#[derive(Debug)]
pub struct LiveStats {
    config: LiveConfig,
    /// Round trips of the returned packets; nothing else is recorded in it.
    round_trips: StreamStats,
    min_ping_rtt: Option<i64>,
    sent: u64,
    not_sent: u64,
    returned: u64,
    /// Packets whose outcome is known, in the order of sending: each has a reply, timed out or was not sent.
    settled: u64,
    settled_not_sent: u64,
    /// Settled packets that have a reply or were not sent.
    settled_with_reply: u64,
    /// The newest packets.
    packets: VecDeque<LivePacket>,
    /// Index of the first element of `packets`.
    first_index: u64,
    /// Lost packets in a row up to the newest settled packet.
    current_burst: u64,
    loss_bursts: u64,
    last_rtt: Option<i64>,
    last_reply_at: Option<Time>,
    /// When the oldest packet was sent that was sent after the last reply and has no reply.
    unanswered_since: Option<Time>,
    started_at: Option<Time>,
    /// The last pause of this host.
    pause: Option<Pause>,
    paused_ns: u64,
    /// The seconds of the run from number `first_second` on.
    seconds: VecDeque<Second>,
    first_second: u64,
    events_dropped: u64,
}

/// The figures at one moment. Times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveSnapshot {
    /// Time since the first packet was sent.
    pub elapsed_ns: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that this host did not send.
    pub not_sent: u64,
    /// Total length of the pauses of this host.
    pub paused_ns: u64,
    /// Packets returned undamaged.
    pub returned: u64,
    /// Packets per second sent within the last complete second of the run.
    pub rate: Option<u64>,
    /// Packets without a reply that timed out.
    pub lost: u64,
    /// Packets lost on the way to the server, if its counts are known; set by the caller.
    pub lost_upstream: Option<u64>,
    /// Whether replies are expected.
    pub replies_expected: bool,
    /// Lost packets divided by packets with a known outcome.
    pub loss_ratio: Option<f64>,
    /// The same for the packets that were sent within ten seconds before the newest packet with a known outcome.
    pub current_loss_ratio: Option<f64>,
    /// Number of lost packets in a row up to the newest packet with a known outcome.
    pub current_burst: u64,
    /// Sequences of lost packets. A packet that returns after its time-out does not change this number.
    pub loss_bursts: u64,
    /// Round trip of the last reply.
    pub rtt_last_ns: Option<i64>,
    /// Median of the round trips.
    pub rtt_p50_ns: Option<i64>,
    /// 99th percentile of the round trips.
    pub rtt_p99_ns: Option<i64>,
    /// Whether the round trips include the delay of the server, because it is not known.
    pub includes_server_delay: bool,
    /// Current jitter estimate (RFC 3550).
    pub jitter_ns: Option<f64>,
    /// Time since the oldest packet was sent that was sent after the last reply and has no reply. `None` if there is no such packet.
    pub unanswered_ns: Option<u64>,
    /// The largest round trip of each of the last seconds, the current second last. `None` for a second without a reply.
    pub rtt_max_by_second: Vec<Option<i64>>,
    /// Whether the levels of the audio are computed.
    pub has_levels: bool,
    /// The largest magnitude of the samples sent within the current and the previous second. `None` if no packet was sent.
    pub sent_peak: Option<f32>,
    /// The same of the returned samples.
    pub returned_peak: Option<f32>,
    /// Events that are missing from all figures, because the display was too slow.
    pub events_dropped: u64,
}

impl LiveStats {
    /// Figures of a run that has not sent yet.
    pub fn new(config: LiveConfig) -> Self {
        Self {
            config,
            round_trips: StreamStats::with_rtt_baseline(),
            min_ping_rtt: None,
            sent: 0,
            not_sent: 0,
            returned: 0,
            settled: 0,
            settled_not_sent: 0,
            settled_with_reply: 0,
            packets: VecDeque::new(),
            first_index: 0,
            current_burst: 0,
            loss_bursts: 0,
            last_rtt: None,
            last_reply_at: None,
            unanswered_since: None,
            started_at: None,
            pause: None,
            paused_ns: 0,
            seconds: VecDeque::with_capacity(HISTORY_SECONDS),
            first_second: 0,
            events_dropped: 0,
        }
    }

    /// Takes all events out of the ring. Returns the time of the newest event.
    pub fn read(&mut self, events: &mut LiveEvents) -> Option<Time> {
        let mut newest = None;
        while let Ok(event) = events.ring.pop() {
            let at = match event {
                LiveEvent::Sent { index, at, is_sent } => {
                    self.on_sent(index, at, is_sent);
                    at
                }
                LiveEvent::SentLevel { at, peak } => {
                    if let Some(second) = self.second_mut(at) {
                        raise(&mut second.sent_peak, peak);
                    }
                    at
                }
                LiveEvent::Paused(pause) => {
                    self.pause = Some(pause);
                    self.paused_ns += saturating_nanos(pause.end - pause.start);
                    pause.end
                }
                LiveEvent::Received(reply) => {
                    self.on_received(reply);
                    reply.received_at
                }
            };
            newest = newest.max(Some(at));
        }
        self.events_dropped = events.dropped.get();
        newest
    }

    fn on_sent(&mut self, index: u64, at: Time, is_sent: bool) {
        self.started_at.get_or_insert(at);
        self.settle(at);
        // If events were dropped, the packets between are unknown. They count as sent at this time.
        while let next = self.first_index + self.packets.len() as u64
            && next <= index
        {
            let is_sent = is_sent || next < index;
            self.packets.push_back(LivePacket { sent_at: at, is_sent, has_reply: !is_sent });
            if self.packets.len() > MAX_PACKETS {
                // At high rates, the oldest packet is usually settled.
                if self.settled == self.first_index {
                    self.settle_next();
                }
                self.discard_oldest();
            }
        }
        self.not_sent += u64::from(!is_sent);
        self.sent = index + 1 - self.not_sent;
        if !is_sent {
            return;
        }
        if self.config.replies_expected && Some(at) > self.last_reply_at {
            self.unanswered_since.get_or_insert(at);
        }
        if let Some(second) = self.second_mut(at) {
            second.sent += 1;
        }
    }

    fn on_received(&mut self, reply: LiveReply) {
        let rtt = reply.received_at.signed_nanos_since(reply.sent_at);
        if reply.stream != self.config.evaluated_stream {
            self.min_ping_rtt = Some(self.min_ping_rtt.map_or(rtt, |min| min.min(rtt)));
            return;
        }
        // Packets time out before this reply counts.
        self.settle(reply.received_at);
        if reply.is_first {
            // A settled packet without a reply was counted as lost until now.
            if reply.index < self.settled {
                self.settled_with_reply += 1;
                let packets_after = self.settled - 1 - reply.index;
                self.current_burst = self.current_burst.min(packets_after);
            }
            let position = reply.index.checked_sub(self.first_index);
            if let Some(packet) = position.and_then(|position| self.packets.get_mut(position as usize)) {
                packet.has_reply = true;
            }
        }
        let is_paused = self.pause.is_some_and(|pause| pause.overlaps(reply.sent_at, reply.received_at));
        let has_rtt = reply.is_return && !is_paused;
        if let Some(second) = self.second_mut(reply.received_at) {
            raise(&mut second.returned_peak, reply.peak);
            if has_rtt {
                second.max_rtt = Some(second.max_rtt.map_or(rtt, |max| max.max(rtt)));
            }
        }
        self.returned += u64::from(reply.is_return);
        if has_rtt {
            self.round_trips.on_return(reply.sent_at, rtt);
            self.last_rtt = Some(rtt);
        }
        let last_reply_at = self.last_reply_at.max(Some(reply.received_at));
        self.last_reply_at = last_reply_at;
        // Usually, no packet was sent between this reply and this call.
        let sent_later = self.packets.iter().rev().take_while(|packet| Some(packet.sent_at) > last_reply_at);
        self.unanswered_since = sent_later.filter(|packet| !packet.has_reply).last().map(|packet| packet.sent_at);
    }

    /// Settles all packets, in the order of sending, that have a reply or timed out by `now`.
    fn settle(&mut self, now: Time) {
        let min_rtt = self.round_trips.min_rtt().map(|rtt| Duration::from_nanos(rtt.max(0).cast_unsigned()));
        let timeout = min_rtt.unwrap_or(self.config.first_reply_timeout) + self.config.timeout;
        while let Some(packet) = self.next_unsettled() {
            let is_overdue = self.config.replies_expected && now >= self.since(packet.sent_at) + timeout;
            if !packet.has_reply && !is_overdue {
                break;
            }
            self.settle_next();
        }
        while self.first_index < self.settled
            && self.newest_settled_at().zip(self.packets.front()).is_some_and(|(newest, oldest)| {
                saturating_nanos(newest.duration_since(oldest.sent_at)) > CURRENT_LOSS_NS
            })
        {
            self.discard_oldest();
        }
    }

    /// `sent_at`, or the end of a later pause. The replies that arrive during a pause are read after it.
    fn since(&self, sent_at: Time) -> Time {
        self.pause.map_or(sent_at, |pause| pause.end.max(sent_at))
    }

    fn next_unsettled(&self) -> Option<LivePacket> {
        self.packets.get((self.settled - self.first_index) as usize).copied()
    }

    fn newest_settled_at(&self) -> Option<Time> {
        let newest = (self.settled - self.first_index).checked_sub(1)?;
        self.packets.get(newest as usize).map(|packet| packet.sent_at)
    }

    fn settle_next(&mut self) {
        let Some(packet) = self.next_unsettled() else { return };
        self.loss_bursts += u64::from(!packet.has_reply && self.current_burst == 0);
        self.current_burst = if packet.has_reply { 0 } else { self.current_burst + 1 };
        self.settled += 1;
        self.settled_not_sent += u64::from(!packet.is_sent);
        self.settled_with_reply += u64::from(packet.has_reply);
    }

    fn discard_oldest(&mut self) {
        if self.packets.pop_front().is_some() {
            self.first_index += 1;
        }
    }

    /// The figures of the second of the run that contains `at`. `None` for seconds that are no longer kept.
    fn second_mut(&mut self, at: Time) -> Option<&mut Second> {
        let number = saturating_nanos(at.duration_since(self.started_at?)) / NANOS_PER_SECOND;
        while self.first_second + (self.seconds.len() as u64) <= number {
            if self.seconds.len() == HISTORY_SECONDS {
                self.seconds.pop_front();
                self.first_second += 1;
                // After a long pause, all kept seconds are empty.
                if self.seconds.iter().all(|second| second.max_rtt.is_none() && second.sent == 0) {
                    self.first_second = self.first_second.max((number + 1).saturating_sub(HISTORY_SECONDS as u64));
                }
            }
            self.seconds.push_back(Second::default());
        }
        let index = number.checked_sub(self.first_second)?;
        self.seconds.get_mut(index as usize)
    }

    /// The delay of the server that the round trips of the evaluated stream include. `None` if it is not known.
    fn server_delay_ns(&self) -> Option<i64> {
        if self.config.evaluated_stream != StreamKind::Audio {
            return Some(0);
        }
        let configured =
            self.config.server_delay.map(|delay| i64::try_from(saturating_nanos(delay)).unwrap_or(i64::MAX));
        configured.or_else(|| Some((self.round_trips.min_rtt()? - self.min_ping_rtt?).max(0)))
    }

    /// The figures at `now`.
    pub fn snapshot(&mut self, now: Time) -> LiveSnapshot {
        self.settle(now);
        let Some(started_at) = self.started_at else { return LiveSnapshot::default() };
        _ = self.second_mut(now);
        let delay = self.server_delay_ns();
        let baseline = self.round_trips.rtt_baseline() - delay.unwrap_or(0);
        let percentile = |p| Some(self.round_trips.rtt.percentile_if_enough(p)?.saturating_add(baseline));
        let path_time = |rtt: i64| rtt - delay.unwrap_or(0);
        let settled_kept = (self.settled - self.first_index) as usize;
        let recent = self.packets.iter().take(settled_kept).filter(|packet| packet.is_sent);
        let recent_lost = recent.clone().filter(|packet| !packet.has_reply).count();
        let lost = self.settled - self.settled_with_reply;
        let ratio = |lost: u64, all: u64| (all > 0).then(|| lost as f64 / all as f64);
        let previous = self.seconds.len().checked_sub(2).and_then(|index| self.seconds.get(index));
        let peak =
            |side: fn(&Second) -> Option<f32>| self.seconds.iter().rev().take(2).filter_map(side).reduce(f32::max);
        LiveSnapshot {
            elapsed_ns: saturating_nanos(now.duration_since(started_at)),
            sent: self.sent,
            not_sent: self.not_sent,
            paused_ns: self.paused_ns,
            returned: self.returned,
            rate: previous.map(|second| second.sent),
            lost,
            lost_upstream: None,
            replies_expected: self.config.replies_expected,
            loss_ratio: ratio(lost, self.settled - self.settled_not_sent),
            current_loss_ratio: ratio(recent_lost as u64, recent.count() as u64),
            current_burst: self.current_burst,
            loss_bursts: self.loss_bursts,
            rtt_last_ns: self.last_rtt.map(path_time),
            rtt_p50_ns: percentile(0.5),
            rtt_p99_ns: percentile(0.99),
            includes_server_delay: delay.is_none(),
            jitter_ns: (self.returned > 1).then(|| self.round_trips.jitter.estimate()),
            unanswered_ns: self.unanswered_since.map(|at| saturating_nanos(now.duration_since(self.since(at)))),
            rtt_max_by_second: self.seconds.iter().map(|second| second.max_rtt.map(path_time)).collect(),
            has_levels: self.config.has_levels,
            sent_peak: peak(|second| second.sent_peak),
            returned_peak: peak(|second| second.returned_peak).filter(|_| self.config.has_levels),
            events_dropped: self.events_dropped,
        }
    }
}
