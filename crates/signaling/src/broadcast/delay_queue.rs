//! The delayed messages of a broadcast room.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::room_handler::{ClientInfo, RelayPayload};
use crate::limits::BroadcastSettings;
use crate::timers::Timers;
use jamjam_core::address::source_network;
use jamjam_core::memory_budget::{MemoryAccount, MemoryPermit};
use jamjam_core::time::{Time, WallClock};

/// How long messages whose delay is over wait before the room asks again whether the queues of their receivers have room.
const FULL_QUEUE_RETRY: Duration = Duration::from_millis(10);

/// The delayed messages of one room may use at most a quarter of the byte limit for all rooms.
const ROOM_SHARE_DIVISOR: usize = 4;

/// The delayed messages from one address (IPv6: one /64) may use at most an eighth of the limits of a room.
const ADDRESS_SHARE_DIVISOR: usize = 8;

/// Origin of a message: sender and receive time.
pub(crate) struct MessageOrigin {
    /// The member that sent the message; `None` if the message was posted over HTTP.
    pub(crate) sender: Option<Arc<ClientInfo>>,
    /// The receive time, which the envelope contains.
    pub(crate) received_at: WallClock,
    /// Length of the received message.
    pub(crate) bytes: usize,
}

/// A message that waits. The message is stored as text, so that it takes about `held_bytes` of memory.
pub(super) struct DelayedMessage {
    pub(super) origin: MessageOrigin,
    /// The address of the sender.
    pub(super) source: IpAddr,
    /// The constructor of a [`RelayPayload`] variant. When the message is relayed, the constructor is called with the parsed `payload`.
    pub(super) variant: fn(Value) -> RelayPayload,
    pub(super) payload: String,
    pub(super) held_bytes: usize,
    /// The memory of the sender.
    pub(super) _memory: MemoryPermit,
}

/// The delayed messages of one room.
pub(crate) struct DelayQueue {
    /// In the order in which they are to be relayed.
    delayed: Timers<Held>,
    /// Until when messages whose delay is over wait for a turn, or for the queues of their receivers.
    retry_at: Time,
    /// The bytes of the delayed messages of all rooms.
    held: Arc<MemoryAccount>,
}

/// A message, and its part of the bytes of all rooms.
type Held = (DelayedMessage, MemoryPermit);

impl DelayQueue {
    pub(super) fn new(held: &Arc<MemoryAccount>) -> Self {
        Self { delayed: Timers::default(), retry_at: Time::ZERO, held: Arc::clone(held) }
    }

    /// Number of messages.
    pub(crate) fn len(&self) -> usize {
        self.delayed.len()
    }

    /// Whether messages wait although their delay is over.
    pub(super) fn has_due(&self, now: Time) -> bool {
        self.delayed.next_deadline().is_some_and(|at| at <= now)
    }

    /// When [`Self::take_due`] is to be called.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.delayed.next_deadline().map(|at| at.max(self.retry_at))
    }

    /// Stores a message for this time. `None` if it would exceed a limit: of its address, its room or all rooms. The share of an address does
    /// not grow if its members leave.
    #[must_use]
    pub(super) fn push(&mut self, message: DelayedMessage, at: Time, limits: &BroadcastSettings) -> Option<()> {
        let (max_messages, max_bytes) = (limits.max_delayed_messages, limits.max_delayed_bytes / ROOM_SHARE_DIVISOR);
        let (mut bytes, mut own_messages, mut own_bytes) = (message.held_bytes, 1, message.held_bytes);
        for (delayed, _) in self.delayed.values() {
            bytes += delayed.held_bytes;
            if source_network(delayed.source) == source_network(message.source) {
                own_messages += 1;
                own_bytes += delayed.held_bytes;
            }
        }
        if self.delayed.len() >= max_messages
            || bytes > max_bytes
            || own_messages > max_messages.div_ceil(ADDRESS_SHARE_DIVISOR)
            || own_bytes > max_bytes / ADDRESS_SHARE_DIVISOR
        {
            return None;
        }
        let permit = self.held.take(message.held_bytes as u64).ok()?;
        self.delayed.insert(at, (message, permit));
        Some(())
    }

    /// Removes the first message whose delay is over, if the queues of its receivers have room.
    pub(super) fn take_due(&mut self, now: Time, has_space: impl FnOnce() -> bool) -> Option<DelayedMessage> {
        if self.has_due(now) {
            // Other rooms, and the heartbeat of this one, have a turn before the next message.
            self.retry_at = now;
            if !has_space() {
                self.retry_at = now + FULL_QUEUE_RETRY;
                return None;
            }
        }
        self.delayed.pop_due(now).map(|(message, _)| message)
    }

    /// Removes all messages.
    pub(super) fn clear(&mut self) {
        *self = Self::new(&self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jamjam_core::memory_budget::MemoryBudget;

    #[test]
    fn delayed_bytes_are_limited_per_address_per_room_and_in_total() {
        let held = MemoryBudget::new(Some(800)).account(None);
        let mut rooms = [(); 5].map(|()| DelayQueue::new(&held));
        let host = |number: u8| IpAddr::from([192, 0, 2, number]);
        // At most 16 messages and 200 bytes per room, and 800 bytes in all rooms. An address may use an eighth of a room: 2 messages and
        // 25 bytes.
        let limits =
            BroadcastSettings { max_delayed_messages: 16, max_delayed_bytes: 800, ..BroadcastSettings::default() };
        let memory = MemoryBudget::new(None).account(None);
        let message = |number, held_bytes| DelayedMessage {
            origin: MessageOrigin { sender: None, received_at: Time::ZERO.into(), bytes: 0 },
            source: host(number),
            variant: RelayPayload::Message,
            payload: String::new(),
            held_bytes,
            _memory: memory.take(0).expect("memory"),
        };
        let mut count = 0;
        let mut admit = |room: &mut DelayQueue, number, bytes| {
            count += usize::from(room.push(message(number, bytes), Time::ZERO, &limits).is_some());
            count
        };
        let [a, others @ .., e] = &mut rooms;
        assert_eq!([admit(a, 1, 10), admit(a, 1, 10), admit(a, 1, 1)], [1, 2, 2]);
        assert_eq!([admit(a, 2, 26), admit(a, 2, 20), admit(a, 2, 6), admit(a, 2, 5)], [2, 3, 3, 4]);
        assert_eq!((3..=10).map(|number| admit(a, number, 25)).collect::<Vec<_>>(), [5, 6, 7, 8, 9, 10, 10, 10]);
        for room in others {
            (1..=8).for_each(|number| _ = admit(room, number, 25));
        }
        // 5 bytes are left.
        assert_eq!([admit(e, 1, 6), admit(e, 1, 5)], [34, 35]);
        assert!(a.take_due(Time::ZERO, || true).is_some_and(|first| first.held_bytes == 10));
        assert!(a.push(message(1, 10), Time::ZERO, &limits).is_some());
    }
}
