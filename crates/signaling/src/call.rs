//! One call of the hub: its time, who has caused it, what the server answers, and what it causes.
//!
//! A call is made once for each event: a message, a new or ended connection, a timer, a post, or a command. Dialects and rooms add its
//! [`Effects`] in order. They are performed while the room that caused them is locked, so that they set the order of messages.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::close_code::{CloseCode, WebSocketError};
use super::control_surface_events::ControlSurfaceEvent;
use super::counters::DialectCounters;
use super::dialect::Dialect;
use super::json::{MessageError, to_json};
use super::lock::lock;
use super::room::RoomKey;
use super::send_queue::{QueueFull, QueuedFrame, UpdateKey, text_frame};
use super::server::{ConnId, Eviction, Server, blocks};
use jamjam_core::address::source_network;
use jamjam_core::memory_budget::{MemoryAccount, MemoryPermit};
use jamjam_core::time::WallClock;

/// The rule of [`Observer::on_wrong_message`](super::Observer::on_wrong_message): the URL or the token of a connection is wrong, or a frame violates
/// RFC 6455 or is too long, which the connection itself reports.
pub const REJECTED_CONNECTION: &str = "rejected_connection";

/// Maximum debt of a source that requests a list, as seconds of [`REQUESTED_BYTES_PER_SECOND`](super::server::REQUESTED_BYTES_PER_SECOND). Only the
/// last list may exceed it.
pub(super) const MAX_LIST_DEBT: Duration = Duration::from_secs(1);

/// Maximum debt of a source that joins a room. It is high, because many clients behind one address may join at the same time.
pub(super) const MAX_JOIN_DEBT: Duration = Duration::from_secs(32);

/// Bytes that a queued message holds in addition to its own: its shared buffers.
const FRAME_OVERHEAD: usize = 128;

/// Bytes that a queued message holds per recipient: the entry of a queue, twice, because the memory of a growing queue is doubled.
const ENTRY_BYTES: usize = 2 * size_of::<Arc<QueuedFrame>>();

/// One call of the hub.
pub(super) struct Call<'a> {
    pub(super) now: WallClock,
    pub(super) sender: Sender,
    pub(super) server: &'a Server,
    pub(super) effects: Effects,
}

/// Who has caused a call.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) conn: ConnId,
    pub(super) source: IpAddr,
    pub(super) dialect: Option<Dialect>,
    /// Holds the messages that the call causes, and the data that outlives it.
    pub(super) memory: Arc<MemoryAccount>,
}

/// What a call causes.
#[derive(Default)]
pub(super) struct Effects {
    /// What is not performed yet.
    pub(super) list: Vec<Effect>,
    pub(super) counters: DialectCounters,
    /// Number of messages for queues so far, counted once per receiver, and once more for each full block.
    pub(super) deliveries: usize,
    /// Connections whose queues are full. They leave their rooms after the call.
    pub(super) evicted: Vec<Eviction>,
}

/// One effect of a call.
pub(super) enum Effect {
    /// A connection has become a member.
    Entered(ConnId),
    /// A connection is no longer a member.
    Left(ConnId),
    /// Sends a message.
    Send {
        receivers: Vec<ConnId>,
        text: String,
        /// The message supersedes unsent messages with the same key.
        update_key: Option<UpdateKey>,
        /// Whether the address that caused the call pays for the bytes of all receivers.
        is_requested: bool,
    },
    /// Closes a connection that is no longer in this room, or drops it without a close frame (1006).
    Close(ConnId, CloseCode, Cow<'static, str>),
    /// An event for the listeners of control surfaces.
    Event(Box<ControlSurfaceEvent>),
}

impl Call<'_> {
    /// Serializes a message once and sends it to these connections. Returns their number.
    pub(super) fn send(&mut self, to: impl IntoIterator<Item = ConnId>, message: &impl Serialize) -> usize {
        self.send_with(to, || to_json(message), None, false)
    }

    /// Sends a message to the connection that caused the call.
    pub(super) fn reply(&mut self, message: &impl Serialize) {
        self.send([self.sender.conn], message);
    }

    /// Answers a message of the connection that caused the call with an error of its dialect. The message has no effect.
    pub(super) fn reject<T>(&mut self, sentence: &'static str) -> Result<T, MessageError> {
        if let Some(dialect) = self.sender.dialect {
            self.send_with([self.sender.conn], || (dialect.facts().error)(sentence), None, false);
        }
        Err(MessageError::Rejected(sentence))
    }

    /// Like [`Self::reject`], because of a limit.
    pub(super) fn reject_limited<T>(&mut self, sentence: &'static str) -> Result<T, MessageError> {
        self.effects.counters.add_rejected(true);
        self.reject(sentence)
    }

    /// Sends a message that the call has requested, at the expense of its address.
    pub(super) fn send_requested(&mut self, to: impl IntoIterator<Item = ConnId>, text: impl FnOnce() -> String) {
        self.send_with(to, text, None, true);
    }

    /// Sends a text to these connections, if there are any. Returns their number.
    pub(super) fn send_with(
        &mut self,
        to: impl IntoIterator<Item = ConnId>,
        text: impl FnOnce() -> String,
        update_key: Option<UpdateKey>,
        is_requested: bool,
    ) -> usize {
        let receivers: Vec<ConnId> = to.into_iter().collect();
        let count = receivers.len();
        if count > 0 {
            let text = text();
            self.effects.counters.add_sent(count, text.len());
            self.effects.list.push(Effect::Send { receivers, text, update_key, is_requested });
        }
        count
    }

    /// Closes a connection that is no longer in a room, or drops it without a close frame (1006).
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode, reason: impl Into<Cow<'static, str>>) {
        self.effects.list.push(Effect::Close(conn, code, reason.into()));
    }

    /// Performs the effects so far, in order. Members that have entered another room than `room` receive nothing.
    pub(super) fn perform(&mut self, room: Option<RoomKey>) {
        for effect in std::mem::take(&mut self.effects.list) {
            match effect {
                Effect::Entered(_) | Effect::Left(_) => {}
                Effect::Send { receivers: to, text, update_key, is_requested } => {
                    if is_requested {
                        let bytes = (to.len() * text.len()) as u64;
                        lock(&self.server.requested_bytes).charge(
                            self.now.monotonic,
                            source_network(self.sender.source),
                            bytes,
                        );
                    }
                    // The client that caused the call receives its reply, even if it has not become a member.
                    self.deliver(&to, &text, update_key, room.filter(|_| *to != [self.sender.conn]).map(|key| key.0));
                }
                Effect::Close(conn, code, reason) => self.server.close(self.now, conn, code, &reason),
                Effect::Event(event) => (self.server.listener)(&event),
            }
        }
    }

    /// Puts a message into the queues of its receivers. It holds memory of the sender, once for all of them, until the last one has taken it.
    fn deliver(&mut self, to: &[ConnId], text: &str, update_key: Option<UpdateKey>, room: Option<NonZeroU64>) {
        let bytes = text_frame(text);
        // The allocator's blocks are up to a quarter larger than their contents.
        let block_bytes = (bytes.len() + FRAME_OVERHEAD) * 5 / 4;
        let memory = self.sender.memory.hold((block_bytes + to.len() * ENTRY_BYTES) as u64);
        let frame = Arc::new(QueuedFrame { bytes: memory.attach(bytes), update_key, room });
        let Effects { counters, deliveries, evicted, .. } = &mut self.effects;
        *deliveries += to.len() * blocks(text.len());
        for (conn, queue) in self.server.queues(to) {
            match queue.push(Arc::clone(&frame)) {
                Ok(coalesced) => counters.updates_coalesced += coalesced as u64,
                Err(QueueFull) => evicted.extend(Eviction::new(conn, &queue, WebSocketError::SlowReader, 1)),
            }
        }
    }

    /// Counts, after all effects are performed. Returns the connections that do not read, whose queues are closed.
    pub(super) fn end(self) -> Vec<Eviction> {
        let Self { sender, server, effects: Effects { counters, evicted, .. }, .. } = self;
        server.count(sender.dialect, |all| all.add(&counters));
        evicted
    }

    /// Whether the sender has requested so few bytes of states and lists that its debt is at most `max`. Checked before a reply is built.
    pub(super) fn may_request(&self, max: Duration) -> bool {
        let debts = lock(&self.server.requested_bytes);
        debts.debt(self.now.monotonic, source_network(self.sender.source)) <= max
    }

    /// Takes memory of the sender for data that outlives the call. `None`: a limit is reached.
    pub(super) fn take_memory(&self, bytes: usize) -> Option<MemoryPermit> {
        self.sender.memory.take_to_keep(bytes as u64).ok()
    }

    /// Whether a message that can wait may be sent to these connections now. Otherwise, the room tries again later.
    pub(super) fn has_space(&self, to: &[ConnId]) -> bool {
        // Every queue is checked, so that the waiting times of several clients that do not read run at once.
        let full = self.server.queues(to).into_iter().filter(|(_, queue)| !queue.has_space(self.now.monotonic)).count();
        full == 0 && self.server.memory.available() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use jamjam_core::memory_budget::MemoryBudget;
    use jamjam_core::time::Time;

    use super::*;
    use crate::{Hub, NewConnection, Route, SignalingLimits};

    #[test]
    fn message_counts_once_plus_16_bytes_per_recipient_until_it_is_taken() {
        let (hub, budget) = (Hub::new(SignalingLimits::default(), [0; 4]), MemoryBudget::new(None));
        let (now, conn, memory) = (Time::ZERO.into(), ConnId(0), budget.account(None));
        let source = Ipv4Addr::LOCALHOST;
        let connection = NewConnection { source: source.into(), local_ip: source, route: Route::Undecided };
        let queue = hub.on_connect(now, conn, connection, &memory);
        let sender = Sender { conn, source: source.into(), dialect: None, memory };
        hub.call(now, sender, |call| call.send_with([conn; 99], || "x".repeat(996), None, false));
        // The header of the frame has 4 bytes (RFC 6455, 5.2), the shared buffers take 128, and their blocks a quarter more.
        assert_eq!(budget.held(), 1_000 + 128 + 282 + 99 * 16);
        assert_eq!((queue.advance(99 * 1_000), budget.held()), (99, 0));
    }
}
