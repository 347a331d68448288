//! Queue of impaired replies. Each reply has its own delay, jitter and reordering. Each reply is sent as a single datagram.
//!
//! A reply is either dropped immediately (simulated loss) or becomes due later. When a reply is due, it enters the queue of the bandwidth
//! limit, if there is one. Replies to one client form two classes: AUDIO replies and all other replies. Each class keeps its order. Jitter
//! cannot let a reply overtake the previous reply of its class. Instead, the due time of the previous reply applies to both replies.
//! Within a class, only a reply that is reordered on purpose may be overtaken.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::admission::Admission;
use super::counters::Counters;
use super::delay_line::{BufferAccount, BufferFull, BufferLimits, IMMEDIATE_REPLY_LIMITS, PushResult, ReplyPath};
use super::log_events;
use crate::address::canonical_socket_addr;
use crate::impairment::{Impairer, LossCause};
use crate::memory_budget::MemoryBudget;
use crate::node::{MAX_SENDS_PER_POLL, SendStatus, Transmit, TransmitSink};
use crate::time::Time;
use crate::wire::{self, PacketType};

/// Bytes charged for a queued reply and each copy, in addition to the reply's bytes. These bytes cover the reply's share of a tree node,
/// which may be half empty. They also cover the overhead of the allocator and the client's hash table entry.
pub const IMPAIRED_PACKET_OVERHEAD: usize = 500;

/// The outcome of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// At least one copy was sent.
    Sent,
    /// Lost by impairment.
    Lost(LossCause),
    /// The queue of the bandwidth limit was full.
    BottleneckFull,
    /// The reply was dropped because it exceeded a buffer limit.
    Dropped,
    /// Sending failed.
    SendFailed,
    /// The reply was still queued when the server stopped.
    DroppedAtStop,
}

impl ReplyOutcome {
    /// The name of the outcome, as written to the outcome log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Lost(LossCause::Listed) => "listed",
            Self::Lost(LossCause::Burst) => "burst",
            Self::Lost(LossCause::Random) => "lost",
            Self::BottleneckFull => "queue",
            Self::Dropped => "buffer_full",
            Self::SendFailed => "failed",
            Self::DroppedAtStop => "stopped",
        }
    }
}

/// A reply and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyEvent {
    /// Arrival time of the packet that this reply answers.
    pub received_at: Time,
    /// Destination of the reply.
    pub client: SocketAddr,
    /// Type of the answered packet.
    pub packet_type: PacketType,
    /// Sequence number in the header of the answered packet.
    pub sequence: u32,
    /// The outcome.
    pub outcome: ReplyOutcome,
    /// Whether the reply was delayed so that later replies overtake it.
    pub reordered: bool,
    /// The delay that impairment added to the due time of the first copy.
    pub added_delay: Duration,
    /// Number of copies sent.
    pub copies_sent: u8,
}

/// Receives the outcome of each reply on the thread that runs the node. An observer must not block, and must not allocate memory after its
/// first calls.
pub trait ReplyObserver: Send {
    /// The outcome of one reply.
    fn on_reply(&mut self, event: &ReplyEvent);
}

/// Ignores all outcomes.
impl ReplyObserver for () {
    fn on_reply(&mut self, _: &ReplyEvent) {}
}

/// Class of a reply. Each class has its own buffer limits. The order of the replies to a client is tracked separately for each class.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ReplyClass {
    Audio,
    Immediate,
}

/// A queued reply.
struct QueuedReply {
    /// The event that is reported when the reply leaves the queue. A duplicated reply is sent twice: the first send increases
    /// `copies_sent` and leaves the reply in the queue. The bandwidth limit may increase `added_delay`.
    event: ReplyEvent,
    reply_path: ReplyPath,
    contents: Box<[u8]>,
    /// When the reply would be due without impairment.
    unimpaired_due: Time,
    /// Whether the reply must still enter the queue of the bandwidth limit.
    awaits_bottleneck: bool,
    /// Whether the next copy was postponed, because it exceeded the limits of its address. It is already counted towards these limits.
    was_postponed: bool,
    /// Copies still to send, and the time between them.
    copies_left: u8,
    copy_spacing: Duration,
    /// Bytes and packets charged.
    charged: (usize, usize),
}

impl QueuedReply {
    fn class(&self) -> ReplyClass {
        if self.event.packet_type == PacketType::Audio { ReplyClass::Audio } else { ReplyClass::Immediate }
    }
}

/// Order of the replies to one client.
struct ClientOrder {
    /// Due time of the last reply that is not reordered.
    last_due: Time,
    queued: u32,
}

/// The queued replies, ordered by the time at which each reply is due.
pub(super) struct ReleaseQueue {
    impairer: Impairer,
    observer: Box<dyn ReplyObserver>,
    counters: Arc<Counters>,
    audio_account: BufferAccount,
    immediate_account: BufferAccount,
    /// Sorted by due time, then by order of arrival.
    queued: BTreeMap<(Time, u64), QueuedReply>,
    next_arrival: u64,
    /// Entries exist while replies to a client are queued.
    order_by_client: HashMap<(ReplyClass, SocketAddr), ClientOrder>,
    queued_audio: usize,
}

impl ReleaseQueue {
    /// An empty queue. `limits` are the buffer limits for AUDIO only. All replies are charged to `budget`.
    pub(super) fn new(
        impairer: Impairer,
        observer: Box<dyn ReplyObserver>,
        counters: Arc<Counters>,
        limits: BufferLimits,
        limit_loopback: bool,
        budget: &Arc<MemoryBudget>,
    ) -> Self {
        let account = |limits| BufferAccount::new(limits, IMPAIRED_PACKET_OVERHEAD, limit_loopback, Arc::clone(budget));
        Self {
            impairer,
            observer,
            counters,
            audio_account: account(limits),
            immediate_account: account(IMMEDIATE_REPLY_LIMITS),
            queued: BTreeMap::new(),
            next_arrival: 0,
            order_by_client: HashMap::new(),
            queued_audio: 0,
        }
    }

    /// Memory charged for queued replies, in bytes.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.audio_account.charged() + self.immediate_account.charged()
    }

    /// Number of queued AUDIO packets.
    pub(super) fn audio_len(&self) -> usize {
        self.queued_audio
    }

    /// Due time of the first reply.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.queued.first_key_value().map(|((due, _), _)| *due)
    }

    /// Queues the reply to a packet that arrived at `received_at`, to be sent `delay` later. If impairment drops the reply, the
    /// result still reports the reply as admitted. `copy_admitted` is called only if impairment duplicates the reply. The callback returns
    /// whether the rate limits admit the copy.
    pub(super) fn push(
        &mut self,
        received_at: Time,
        delay: Duration,
        reply_path: ReplyPath,
        bytes: &[u8],
        copy_admitted: impl FnOnce() -> bool,
    ) -> PushResult {
        let admitted = PushResult { admitted: 1, dropped: None };
        // Replies are always valid packets.
        let Ok(packet) = wire::parse_packet(bytes) else { return admitted };
        let packet_type = match packet.header.packet_type {
            PacketType::LatencyPong => PacketType::LatencyPing,
            packet_type => packet_type,
        };
        let decision = self.impairer.decide(packet_type, packet.header.sequence);
        let event = ReplyEvent {
            received_at,
            client: reply_path.peer,
            packet_type,
            sequence: packet.header.sequence,
            outcome: ReplyOutcome::Sent,
            reordered: false,
            added_delay: Duration::ZERO,
            copies_sent: 0,
        };
        if let Some(cause) = decision.loss {
            self.report_outcome(ReplyEvent { outcome: ReplyOutcome::Lost(cause), ..event });
            return admitted;
        }
        // Duplicates count towards the rate limits of the source.
        let copies_left = if decision.copies > 1 && !copy_admitted() { 1 } else { decision.copies };
        let charged = (bytes.len() * usize::from(copies_left), usize::from(copies_left));
        if let Some(full) = self.charge(packet_type, reply_path, charged) {
            self.report_outcome(ReplyEvent { outcome: ReplyOutcome::Dropped, ..event });
            return PushResult { admitted: 0, dropped: Some((full, 1)) };
        }
        let unimpaired_due = received_at + delay;
        let mut reply = QueuedReply {
            event: ReplyEvent { reordered: decision.reordered, ..event },
            reply_path,
            contents: bytes.into(),
            unimpaired_due,
            awaits_bottleneck: self.impairer.has_bandwidth_limit(),
            was_postponed: false,
            copies_left,
            copy_spacing: Duration::ZERO,
            charged,
        };
        let class = reply.class();
        let order = self
            .order_by_client
            .entry((class, reply_path.peer))
            .or_insert(ClientOrder { last_due: Time::ZERO, queued: 0 });
        order.queued += 1;
        let mut due = (unimpaired_due + decision.jitter).max(order.last_due);
        if decision.reordered {
            due += self.impairer.reorder_delay();
            self.counters.impaired_reordered.add(1);
        } else {
            order.last_due = due;
        }
        reply.event.added_delay = due - unimpaired_due;
        self.queued_audio += usize::from(class == ReplyClass::Audio);
        self.next_arrival += 1;
        self.queued.insert((due, self.next_arrival), reply);
        admitted
    }

    /// Sends what is due, at most [`MAX_SENDS_PER_POLL`] replies. Returns false if the socket accepts no more.
    pub(super) fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink, admission: &mut Admission) -> bool {
        for _ in 0..MAX_SENDS_PER_POLL {
            let Some(first) = self.queued.first_entry().filter(|first| first.key().0 <= now) else { break };
            let (due, arrival) = *first.key();
            if first.get().awaits_bottleneck {
                let reply = first.remove();
                self.enter_bottleneck(due, arrival, reply);
                continue;
            }
            let QueuedReply { reply_path, contents, event, was_postponed, .. } = first.get();
            let is_audio = event.packet_type == PacketType::Audio;
            let transmit = Transmit {
                destination: reply_path.peer,
                src_ip: reply_path.src_ip,
                contents,
                segment_size: contents.len(),
            };
            let counts = is_audio && !was_postponed;
            if counts
                && let at = admission.send_time(now, &transmit)
                && at > now
            {
                admission.on_sent(now, &transmit);
                let reply = QueuedReply { was_postponed: true, ..first.remove() };
                self.queued.insert((at, arrival), reply);
                continue;
            }
            let status = sink.send(transmit);
            match status {
                // `GsoUnsupported` is never returned for a single datagram.
                SendStatus::WouldBlock | SendStatus::GsoUnsupported => return false,
                SendStatus::Sent => {
                    let counters = &self.counters;
                    counters.sent_bytes.add(contents.len());
                    let lateness = if is_audio { &counters.audio_lateness } else { &counters.immediate_lateness };
                    lateness.observe(now.duration_since(due), 1);
                    if counts {
                        admission.on_sent(now, &transmit);
                    }
                    if is_audio {
                        log_events::log_echoed(&transmit);
                    } else {
                        log_events::log_reply_sent(&transmit);
                    }
                }
                SendStatus::Failed => self.counters.send_failed.add(1),
            }
            let reply = first.remove();
            self.on_sent(due, arrival, reply, status == SendStatus::Sent);
        }
        true
    }

    /// Drops all queued replies. Returns the number of dropped replies.
    pub(super) fn stop(mut self) -> usize {
        let queued = std::mem::take(&mut self.queued);
        let count = queued.len();
        for (_, QueuedReply { event, .. }) in queued {
            let outcome = if event.copies_sent > 0 { ReplyOutcome::Sent } else { ReplyOutcome::DroppedAtStop };
            self.report_outcome(ReplyEvent { outcome, ..event });
        }
        count
    }

    /// Charges a packet and all of its copies, or nothing if they exceed a limit.
    fn charge(
        &mut self,
        packet_type: PacketType,
        reply_path: ReplyPath,
        (bytes, packets): (usize, usize),
    ) -> Option<BufferFull> {
        let account =
            if packet_type == PacketType::Audio { &mut self.audio_account } else { &mut self.immediate_account };
        let (admitted, full) = account.charge(reply_path, bytes, bytes / packets);
        if full.is_some() && admitted > 0 {
            account.release(reply_path.peer, admitted, admitted / (bytes / packets));
        }
        full
    }

    /// Enters a reply into the queue of the bandwidth limit. If that queue is full, the reply is dropped.
    fn enter_bottleneck(&mut self, at: Time, arrival: u64, mut reply: QueuedReply) {
        let size = (reply.contents.len(), reply.copies_left);
        let Some(departure) = self.impairer.enter_bottleneck(at, size, reply.reply_path.peer.ip()) else {
            self.finish(&reply, ReplyOutcome::BottleneckFull);
            return;
        };
        reply.awaits_bottleneck = false;
        reply.copy_spacing = departure.copy_spacing;
        reply.event.added_delay = departure.at - reply.unimpaired_due;
        self.queued.insert((departure.at, arrival), reply);
    }

    /// Records that a copy was sent, or that sending it failed.
    fn on_sent(&mut self, due: Time, arrival: u64, mut reply: QueuedReply, sent: bool) {
        if sent {
            reply.event.copies_sent += 1;
            match reply.class() {
                ReplyClass::Audio => self.counters.sent.add(1),
                ReplyClass::Immediate => self.counters.immediate_replies.add(1),
            }
        }
        reply.copies_left -= 1;
        if reply.copies_left > 0 {
            self.counters.impaired_duplicated.add(1);
            reply.was_postponed = false;
            self.queued.insert((due + reply.copy_spacing, arrival), reply);
        } else {
            let outcome = if reply.event.copies_sent > 0 { ReplyOutcome::Sent } else { ReplyOutcome::SendFailed };
            self.finish(&reply, outcome);
        }
    }

    /// Frees the buffer space of a reply that has left the queue, and reports its outcome.
    fn finish(&mut self, reply: &QueuedReply, outcome: ReplyOutcome) {
        let (class, peer, (bytes, packets)) = (reply.class(), reply.reply_path.peer, reply.charged);
        match class {
            ReplyClass::Audio => {
                self.queued_audio -= 1;
                self.audio_account.release(peer, bytes, packets);
            }
            ReplyClass::Immediate => self.immediate_account.release(peer, bytes, packets),
        }
        if let Some(order) = self.order_by_client.get_mut(&(class, peer)) {
            order.queued -= 1;
            if order.queued == 0 {
                self.order_by_client.remove(&(class, peer));
                // Frees the memory of a table that had many clients.
                if self.order_by_client.is_empty() && self.order_by_client.capacity() > 1024 {
                    self.order_by_client = HashMap::new();
                }
            }
        }
        self.report_outcome(ReplyEvent { outcome, ..reply.event });
    }

    fn report_outcome(&mut self, event: ReplyEvent) {
        match event.outcome {
            ReplyOutcome::Lost(LossCause::Listed) => self.counters.impaired_listed.add(1),
            ReplyOutcome::Lost(LossCause::Burst) => self.counters.impaired_burst.add(1),
            ReplyOutcome::Lost(LossCause::Random) => self.counters.impaired_lost.add(1),
            ReplyOutcome::BottleneckFull => self.counters.impaired_queue.add(1),
            // These outcomes are counted elsewhere.
            ReplyOutcome::Sent | ReplyOutcome::Dropped | ReplyOutcome::SendFailed | ReplyOutcome::DroppedAtStop => {}
        }
        log_impaired(&event);
        self.observer.on_reply(&event);
    }
}

/// Logs a reply that is dropped by impairment. Sent replies are logged by the code that sends them.
fn log_impaired(event: &ReplyEvent) {
    if matches!(event.outcome, ReplyOutcome::Lost(_) | ReplyOutcome::BottleneckFull) {
        debug!(
            target: "echo",
            outcome = event.outcome.name(),
            r#type = event.packet_type.name(),
            seq = event.sequence,
            destination = %canonical_socket_addr(event.client),
            "reply dropped by impairment"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_covers_the_memory_of_a_queued_reply() {
        // Every node of the B-tree has room for 11 entries. Every node except the root contains at least 5 entries. The allocator
        // adds 16 bytes to the `contents` of each reply. A hash table doubles its slots when 7 of 8 slots are in use. Therefore, 16 slots
        // may be allocated for only 7 clients.
        let entry = size_of::<((Time, u64), QueuedReply)>() * 11 / 6 + 16;
        let client = (size_of::<((ReplyClass, SocketAddr), ClientOrder)>() + 1) * 16 / 7;
        assert!(entry + client <= IMPAIRED_PACKET_OVERHEAD, "{entry} + {client}");
    }
}
