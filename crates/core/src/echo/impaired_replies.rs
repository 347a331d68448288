//! The impairment of queued replies. A reply is either dropped at once (simulated loss) or becomes due later, by its own jitter and reordering.
//! When it is due, it enters the queue of the bandwidth limit, if there is one.
//!
//! The replies of one type to one client keep their order: a reply whose jitter would let it overtake the previous one is due at the same time
//! as that one. Only a reply that is reordered on purpose is overtaken: if none of the later replies of its type has left when it is due, it is
//! held back until one of them leaves, or until the maximum time has passed.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::counters::Counters;
use super::reply_store::{NewReplies, QueuedReply, ReplyKey};
use crate::address::canonical_socket_addr;
use crate::impairment::{Impairer, ImpairmentDecision, LossCause};
use crate::time::{Time, saturating_nanos};
use crate::wire::{self, PacketType};

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
    /// The keys of the encrypted link were replaced or expired.
    OldLink,
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
            Self::OldLink => "old_link",
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

impl ReplyEvent {
    /// The columns of a row, defined in `docs/measuring.md`.
    pub const CSV_HEADER: &str = "time_us,client,type,sequence,outcome,reordered,delay_us,copies";

    /// Writes one row.
    pub fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { received_at, client, packet_type, sequence, outcome, reordered, added_delay, copies_sent } = self;
        let client = canonical_socket_addr(*client);
        let (time, delay) = (format_micros(received_at.duration_since(Time::ZERO)), format_micros(*added_delay));
        // Replies that were not sent have no delay.
        let delay = if *outcome == ReplyOutcome::Sent { delay.as_str() } else { "" };
        let (kind, outcome, reordered) = (packet_type.name(), outcome.name(), u8::from(*reordered));
        writeln!(out, "{time},{client},{kind},{sequence},{outcome},{reordered},{delay},{copies_sent}")
    }
}

fn format_micros(time: Duration) -> String {
    let nanos = saturating_nanos(time);
    format!("{}.{:03}", nanos / 1_000, nanos % 1_000)
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

/// What happens to a reply that is not lost, and its event.
pub(super) type Decision = (ImpairmentDecision, ReplyEvent);

/// The queue of the bandwidth limit is full.
pub(super) struct BottleneckFull;

/// The impairment of a queued reply.
struct ImpairedReply {
    /// The event that is reported when the reply leaves the queue. A duplicated reply is sent twice: the first send increases
    /// `copies_sent` and leaves the reply in the queue. The bandwidth limit may increase `added_delay`.
    event: ReplyEvent,
    /// When the reply would be due without impairment.
    unimpaired_due: Time,
    /// When a reordered reply leaves even if no later reply has left.
    overtaken_by: Option<Time>,
    /// Whether the reply must still enter the queue of the bandwidth limit.
    awaits_bottleneck: bool,
    /// Copies still to send, and the time between them.
    copies_left: u8,
    copy_spacing: Duration,
    /// Bytes charged for the reply and its copies.
    charged: u64,
}

/// Order of the replies of one type to one client.
#[derive(Default)]
struct ClientOrder {
    /// Due time of the last reply that is not reordered.
    last_due: Time,
    queued: u32,
    /// Position of the reply that arrived last of those that have left.
    last_left: u64,
    /// The replies that are held back.
    held: Vec<HeldKey>,
}

/// When a held reply leaves at the latest, and its key.
type HeldKey = (Time, ReplyKey);

/// The impairment of all queued replies.
pub(super) struct ImpairedReplies {
    impairer: Impairer,
    observer: Box<dyn ReplyObserver>,
    counters: Arc<Counters>,
    /// STUN responses and loop checks are queued, but not impaired.
    replies: BTreeMap<ReplyKey, ImpairedReply>,
    /// Entries exist while replies to a client are queued.
    order_by_client: HashMap<(PacketType, SocketAddr), ClientOrder>,
    /// The replies that are held back. They are in no other queue.
    held: BTreeMap<HeldKey, QueuedReply>,
}

impl ImpairedReplies {
    pub(super) fn new(impairer: Impairer, observer: Box<dyn ReplyObserver>, counters: Arc<Counters>) -> Self {
        let (replies, order_by_client, held) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        Self { impairer, observer, counters, replies, order_by_client, held }
    }

    /// Decides what happens to a reply. `None` if it is lost.
    pub(super) fn decide(&mut self, client: SocketAddr, new: NewReplies<'_>) -> Option<Decision> {
        // Replies are always valid packets.
        let header = wire::parse_packet(new.contents).ok()?.header;
        let packet_type = match header.packet_type {
            PacketType::LatencyPong => PacketType::LatencyPing,
            packet_type => packet_type,
        };
        let decision = self.impairer.decide(packet_type, header.sequence);
        let event = ReplyEvent {
            received_at: new.received_at,
            client,
            packet_type,
            sequence: header.sequence,
            outcome: decision.loss.map_or(ReplyOutcome::Sent, ReplyOutcome::Lost),
            reordered: false,
            added_delay: Duration::ZERO,
            copies_sent: 0,
        };
        if decision.loss.is_some() {
            self.report(event);
            return None;
        }
        Some((decision, event))
    }

    /// Adds a reply that would be due at `due`, and for which `charged` bytes were charged. Returns when it is due now.
    pub(super) fn insert(&mut self, key: ReplyKey, (decision, event): Decision, due: Time, charged: u64) -> Time {
        let unimpaired_due = due;
        let order = self.order_by_client.entry((event.packet_type, event.client)).or_default();
        order.queued += 1;
        let mut due = (due + decision.jitter).max(order.last_due);
        let overtaken_by = decision.reordered.then_some(due + self.impairer.impairment.max_reorder_delay());
        if decision.reordered {
            due += self.impairer.impairment.reorder_delay;
            self.counters.impaired_reordered.add(1);
        } else {
            order.last_due = due;
        }
        let reply = ImpairedReply {
            event: ReplyEvent { reordered: decision.reordered, added_delay: due - unimpaired_due, ..event },
            unimpaired_due,
            overtaken_by,
            awaits_bottleneck: self.impairer.has_bandwidth_limit(),
            copies_left: decision.copies,
            copy_spacing: Duration::ZERO,
            charged,
        };
        self.replies.insert(key, reply);
        due
    }

    /// Holds back a due reply that must be overtaken and was not. Returns false if it may leave.
    pub(super) fn hold_back(&mut self, queued: &QueuedReply) -> bool {
        let Some(ImpairedReply { event, overtaken_by: Some(until), .. }) = self.replies.get(&queued.key()) else {
            return false;
        };
        let Some(order) = self.order_by_client.get_mut(&(event.packet_type, event.client)) else { return false };
        if queued.due >= *until || order.last_left > queued.position {
            return false;
        }
        let key = (*until, queued.key());
        order.held.push(key);
        self.held.insert(key, *queued);
        true
    }

    /// When the next held reply leaves even if it is not overtaken.
    pub(super) fn next_release(&self) -> Option<Time> {
        self.held.first_key_value().map(|((until, _), _)| *until)
    }

    /// Takes a reply that was held back for the maximum time. It is due again.
    pub(super) fn pop_expired(&mut self, now: Time) -> Option<QueuedReply> {
        let (key @ (until, _), queued) = self.held.first_entry().filter(|held| held.key().0 <= now)?.remove_entry();
        let event = &self.replies.get(&queued.key())?.event;
        let order = self.order_by_client.get_mut(&(event.packet_type, event.client));
        order?.held.retain(|held| *held != key);
        released(&mut self.replies, queued, until)
    }

    /// Takes the replies that were held back until `queued` or another reply after them left. They are due now.
    pub(super) fn take_overtaken(&mut self, queued: &QueuedReply) -> Vec<QueuedReply> {
        let Some(ImpairedReply { event, .. }) = self.replies.get(&queued.key()) else { return Vec::new() };
        let Some(order) = self.order_by_client.get_mut(&(event.packet_type, event.client)) else { return Vec::new() };
        order.last_left = order.last_left.max(queued.position);
        let overtaken: Vec<HeldKey> =
            order.held.extract_if(.., |(_, (_, position))| *position < queued.position).collect();
        let release = |key| self.held.remove(&key).and_then(|held| released(&mut self.replies, held, queued.send_at));
        overtaken.into_iter().filter_map(release).collect()
    }

    /// Enters a due reply into the queue of the bandwidth limit, if there is one and the reply was not in it. Returns when the reply leaves
    /// that queue.
    pub(super) fn enter_bottleneck(&mut self, queued: &QueuedReply) -> Option<Result<Time, BottleneckFull>> {
        let reply = self.replies.get_mut(&queued.key()).filter(|reply| reply.awaits_bottleneck)?;
        let size = (queued.len(), reply.copies_left);
        let Some(departure) = self.impairer.enter_bottleneck(queued.due, size, queued.path.peer.ip()) else {
            return Some(Err(BottleneckFull));
        };
        reply.awaits_bottleneck = false;
        reply.copy_spacing = departure.copy_spacing;
        reply.event.added_delay = departure.at - reply.unimpaired_due;
        Some(Ok(departure.at))
    }

    /// Records that a copy was sent, or that sending it failed. If another copy is left, returns the time to wait before it.
    pub(super) fn next_copy(&mut self, key: ReplyKey, is_sent: bool) -> Option<Duration> {
        let reply = self.replies.get_mut(&key)?;
        reply.event.copies_sent += u8::from(is_sent);
        reply.copies_left -= 1;
        (reply.copies_left > 0).then(|| {
            self.counters.impaired_duplicated.add(1);
            reply.copy_spacing
        })
    }

    /// Removes a reply and reports its outcome. If a copy was sent, the outcome is [`ReplyOutcome::Sent`]. Returns the charged bytes.
    pub(super) fn finish(&mut self, queued: &QueuedReply, outcome: ReplyOutcome) -> Option<u64> {
        let ImpairedReply { event, charged, .. } = self.replies.remove(&queued.key())?;
        let client = (event.packet_type, event.client);
        if let Some(order) = self.order_by_client.get_mut(&client) {
            order.queued -= 1;
            if order.queued == 0 {
                self.order_by_client.remove(&client);
            }
        }
        // Frees the memory of a table that had many clients.
        if self.order_by_client.is_empty() && self.order_by_client.capacity() > 1_024 {
            self.order_by_client = HashMap::new();
        }
        let outcome = if event.copies_sent > 0 { ReplyOutcome::Sent } else { outcome };
        self.report(ReplyEvent { outcome, ..event });
        Some(charged)
    }

    /// Counts, logs and reports an outcome.
    pub(super) fn report(&mut self, event: ReplyEvent) {
        let counter = match event.outcome {
            ReplyOutcome::Lost(LossCause::Listed) => Some(&self.counters.impaired_listed),
            ReplyOutcome::Lost(LossCause::Burst) => Some(&self.counters.impaired_burst),
            ReplyOutcome::Lost(LossCause::Random) => Some(&self.counters.impaired_lost),
            ReplyOutcome::BottleneckFull => Some(&self.counters.impaired_queue),
            // The other outcomes are counted and logged elsewhere.
            _ => None,
        };
        if let Some(counter) = counter {
            counter.add(1);
            debug!(
                target: "echo",
                outcome = event.outcome.name(),
                r#type = event.packet_type.name(),
                seq = event.sequence,
                destination = %canonical_socket_addr(event.client),
                "reply dropped by impairment"
            );
        }
        self.observer.on_reply(&event);
    }
}

/// A reply that was held back and leaves at `due`.
fn released(replies: &mut BTreeMap<ReplyKey, ImpairedReply>, held: QueuedReply, due: Time) -> Option<QueuedReply> {
    let reply = replies.get_mut(&held.key())?;
    reply.event.added_delay = due - reply.unimpaired_due;
    Some(QueuedReply { send_at: due, due, ..held })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::reply_memory::{IMPAIRED_PACKET_OVERHEAD, PACKET_OVERHEAD};

    #[test]
    fn overhead_covers_the_memory_of_a_queued_reply() {
        let queued = size_of::<QueuedReply>();
        assert!(queued <= PACKET_OVERHEAD, "{queued}");
        // Every node of a B-tree has room for 11 entries, and contains at least 5 or 6. A hash table has one more byte per slot, and doubles its
        // slots when 7 of 8 are in use. Therefore, 16 slots may be allocated for only 7 entries. The last table contains the memory of each
        // client.
        let tree = size_of::<(ReplyKey, ImpairedReply)>() * 11 / 6;
        let tables = size_of::<((PacketType, SocketAddr), ClientOrder)>() + 1 + size_of::<(u64, u64)>() + 1;
        // A held reply is in a tree instead of the queue. A vector allocates 4 entries for the first, and later twice as many as needed.
        let held = size_of::<(HeldKey, QueuedReply)>() * 11 / 6 + size_of::<HeldKey>() * 4;
        let impaired = queued.max(held) + tree + tables * 16 / 7;
        assert!(impaired <= IMPAIRED_PACKET_OVERHEAD, "{impaired}");
    }
}
