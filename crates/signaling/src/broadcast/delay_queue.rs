//! The delayed messages of a broadcast room.

use std::collections::{HashMap, hash_map};
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
    /// The bytes of all messages.
    bytes: usize,
    /// The share of an address does not grow if its members leave.
    by_source: HashMap<IpAddr, Usage>,
    /// The bytes of the delayed messages of all rooms.
    held: Arc<MemoryAccount>,
}

/// A message, and its part of the bytes of all rooms.
type Held = (DelayedMessage, MemoryPermit);

/// A number of messages and their bytes.
#[derive(Clone, Copy, Default)]
struct Usage {
    messages: usize,
    bytes: usize,
}

impl DelayQueue {
    pub(super) fn new(held: &Arc<MemoryAccount>) -> Self {
        Self {
            delayed: Timers::default(),
            retry_at: Time::ZERO,
            bytes: 0,
            by_source: HashMap::new(),
            held: Arc::clone(held),
        }
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

    /// Stores a message for this time. `None` if a limit on the number of delayed messages, or on their total bytes, is reached.
    #[must_use]
    pub(super) fn push(&mut self, message: DelayedMessage, at: Time, limits: &BroadcastSettings) -> Option<()> {
        let permit = self.reserve(message.source, message.held_bytes, limits)?;
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
        let (message, _) = self.delayed.pop_due(now)?;
        self.release(message.source, message.held_bytes);
        Some(message)
    }

    /// Removes all messages.
    pub(super) fn clear(&mut self) {
        *self = Self::new(&self.held);
    }

    /// Reserves space for a message. `None` if it would exceed a limit: of its address, its room or all rooms.
    fn reserve(&mut self, source: IpAddr, bytes: usize, limits: &BroadcastSettings) -> Option<MemoryPermit> {
        let (max_messages, max_bytes) = (limits.max_delayed_messages, limits.max_delayed_bytes / ROOM_SHARE_DIVISOR);
        let own = self.by_source.get(&source_network(source)).copied().unwrap_or_default();
        if self.delayed.len() >= max_messages
            || self.bytes + bytes > max_bytes
            || own.messages >= max_messages.div_ceil(ADDRESS_SHARE_DIVISOR)
            || own.bytes + bytes > max_bytes / ADDRESS_SHARE_DIVISOR
        {
            return None;
        }
        let permit = self.held.take(bytes as u64).ok()?;
        let own = self.by_source.entry(source_network(source)).or_default();
        own.messages += 1;
        own.bytes += bytes;
        self.bytes += bytes;
        Some(permit)
    }

    /// Releases the space used by a message.
    fn release(&mut self, source: IpAddr, bytes: usize) {
        self.bytes -= bytes;
        if let hash_map::Entry::Occupied(mut entry) = self.by_source.entry(source_network(source)) {
            let own = entry.get_mut();
            own.messages -= 1;
            own.bytes -= bytes;
            if own.messages == 0 {
                entry.remove();
            }
        }
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
        let mut permits = Vec::new();
        let mut admit = |room: &mut DelayQueue, number, bytes| {
            permits.extend(room.reserve(host(number), bytes, &limits));
            permits.len()
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
        drop(permits.remove(0));
        a.release(host(1), 10);
        assert!(a.reserve(host(1), 10, &limits).is_some());
    }
}
