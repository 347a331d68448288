//! The state of the broadcast dialect: rooms, their members and handlers, and delayed messages.

use std::collections::{HashMap, VecDeque, hash_map};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::builtin_rooms::RoomHandlers;
use super::room_handler::{ClientInfo, RelayPayload, RoomView};
use crate::dialect::Dialect;
use crate::event_sink::ConnId;
use crate::rooms::{MemberData, MemberInfo, Room, RoomKey, RoomMap};
use jamjam_core::address::source_network;
use jamjam_core::memory_budget::MemoryPermit;
use jamjam_core::time::WallClock;

/// The state of the broadcast dialect.
#[derive(Default)]
pub(crate) struct BroadcastDialect {
    /// The `data` field of each room is the number of its control channels.
    pub(crate) rooms: RoomMap<usize, Membership>,
    pub(crate) handlers: RoomHandlers,
    pub(crate) delay_queue: DelayQueue,
}

/// A member or control channel of a room.
#[derive(Clone)]
pub(crate) struct Membership {
    pub(crate) client: Arc<ClientInfo>,
    pub(crate) is_control_channel: bool,
}

impl BroadcastDialect {
    /// The current state of a room. If the room is not open, the numbers are 0.
    pub(crate) fn room_view<'a>(&self, name: &'a str, now: WallClock) -> RoomView<'a> {
        let room = self.rooms.find(name);
        let (all, control_clients) = room.map_or((0, 0), |room| (room.members.len(), room.data));
        RoomView { name, now, clients: all - control_clients, control_clients }
    }

    /// The connections of the members of a room, or of its control channels.
    pub(super) fn members(&self, name: &str, control: bool) -> Vec<ConnId> {
        let members = self.rooms.find(name).into_iter().flat_map(|room| &room.members);
        members.filter(|member| member.data.is_control_channel == control).map(|member| member.conn).collect()
    }

    /// The connections of all members and control channels of a room.
    pub(super) fn connections(&self, name: &str) -> Vec<ConnId> {
        self.rooms.find(name).map(Room::connections).unwrap_or_default()
    }

    pub(crate) fn is_open(&self, key: RoomKey) -> bool {
        self.rooms.get(key).is_some()
    }

    pub(super) fn room_name(&self, key: RoomKey) -> Option<String> {
        self.rooms.get(key).map(|room| room.name().to_owned())
    }
}

impl MemberData for Membership {
    const DIALECT: Dialect = Dialect::Broadcast;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: self.client.id(), name: None, is_control_channel: self.is_control_channel }
    }
}

/// A limit on the number of delayed messages, or on their total bytes, is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DelayQueueFull;

/// Origin of a message: room, sender and receive time.
pub(crate) struct MessageOrigin {
    pub(crate) room: String,
    /// The member that sent the message; `None` if the message was posted over HTTP.
    pub(crate) sender: Option<Arc<ClientInfo>>,
    /// The receive time, which the envelope contains.
    pub(crate) received_at: WallClock,
    /// Length of the received message.
    pub(crate) bytes: usize,
}

/// A message whose delay is not over. The message is stored as text, so that it takes about `held_bytes` of memory.
pub(super) struct DelayedMessage {
    pub(super) origin: MessageOrigin,
    /// The address of the sender.
    pub(super) source: IpAddr,
    /// The constructor of a [`RelayPayload`] variant. When the message is relayed, the constructor is called with the parsed `payload`.
    pub(super) variant: fn(Value) -> RelayPayload,
    pub(super) payload: String,
    pub(super) held_bytes: usize,
    /// Whether the delay is over.
    pub(super) is_due: bool,
    pub(super) _memory: MemoryPermit,
}

/// The delayed messages of one room may use at most a quarter of the byte limit for all rooms.
const ROOM_SHARE_DIVISOR: usize = 4;

/// The delayed messages from one address (IPv6: one /64) may use at most an eighth of the limits of a room.
const ADDRESS_SHARE_DIVISOR: usize = 8;

/// The delayed messages of all rooms, by id.
#[derive(Default)]
pub(crate) struct DelayQueue {
    messages: HashMap<u64, DelayedMessage>,
    last_id: u64,
    rooms: HashMap<String, RoomUsage>,
    bytes: usize,
}

/// The delayed messages of one room, in total and per address. The share of an address does not grow if its members leave.
#[derive(Default)]
struct RoomUsage {
    total: Usage,
    by_source: HashMap<IpAddr, Usage>,
    /// Messages whose delay is over, but which wait for the queues of their receivers. Only the first one has a timer.
    waiting: VecDeque<u64>,
}

/// A number of messages and their bytes.
#[derive(Clone, Copy, Default)]
struct Usage {
    messages: usize,
    bytes: usize,
}

impl Usage {
    /// Whether one more message exceeds a limit.
    fn is_full(self, bytes: usize, max_messages: usize, max_bytes: usize) -> bool {
        self.messages >= max_messages || self.bytes + bytes > max_bytes
    }

    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}

impl DelayQueue {
    /// Stores a message, unless a limit is reached. Returns its id.
    pub(super) fn push(
        &mut self,
        message: DelayedMessage,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<u64, DelayQueueFull> {
        if !self.try_reserve(&message.origin.room, message.source, message.held_bytes, max_messages, max_bytes) {
            return Err(DelayQueueFull);
        }
        self.last_id += 1;
        self.messages.insert(self.last_id, message);
        Ok(self.last_id)
    }

    /// Puts a message whose delay is over behind the waiting messages of its room. Returns the room if the message is the first one.
    pub(super) fn on_due(&mut self, id: u64) -> Option<&str> {
        let DelayedMessage { origin: MessageOrigin { room, .. }, is_due, .. } = self.messages.get_mut(&id)?;
        let waiting = &mut self.rooms.get_mut(room)?.waiting;
        if !std::mem::replace(is_due, true) {
            waiting.push_back(id);
        }
        (waiting.front() == Some(&id)).then_some(room)
    }

    /// Whether messages of the room wait although their delay is over.
    pub(super) fn has_due(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|usage| !usage.waiting.is_empty())
    }

    /// Whether a message has not been relayed yet.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.messages.contains_key(&id)
    }

    /// Removes the first waiting message of a room. Also returns the id of the next one.
    pub(super) fn take(&mut self, id: u64) -> Option<(DelayedMessage, Option<u64>)> {
        let message = self.messages.remove(&id)?;
        let waiting = &mut self.rooms.get_mut(&message.origin.room)?.waiting;
        waiting.pop_front();
        let next = waiting.front().copied();
        self.release(&message.origin.room, message.source, message.held_bytes);
        Some((message, next))
    }

    /// Removes the messages of a room.
    pub(super) fn remove_room(&mut self, room: &str) {
        let usage = self.rooms.remove(room).unwrap_or_default();
        self.bytes -= usage.total.bytes;
        self.messages.retain(|_, message| message.origin.room != room);
    }

    /// Reserves space for a message. Returns false if the message would exceed a limit: of its address, its room or all rooms.
    fn try_reserve(&mut self, room: &str, source: IpAddr, bytes: usize, max_messages: usize, max_bytes: usize) -> bool {
        let source = source_network(source);
        let max_room_bytes = max_bytes / ROOM_SHARE_DIVISOR;
        let (max_own_messages, max_own_bytes) =
            (max_messages.div_ceil(ADDRESS_SHARE_DIVISOR), max_room_bytes / ADDRESS_SHARE_DIVISOR);
        let usage = self.rooms.get(room);
        let total = usage.map_or(Usage::default(), |usage| usage.total);
        let own = usage.and_then(|usage| usage.by_source.get(&source)).copied().unwrap_or_default();
        if own.is_full(bytes, max_own_messages, max_own_bytes)
            || total.is_full(bytes, max_messages, max_room_bytes)
            || self.bytes + bytes > max_bytes
        {
            return false;
        }
        let usage = self.rooms.entry(room.to_owned()).or_default();
        usage.total.add(bytes);
        usage.by_source.entry(source).or_default().add(bytes);
        self.bytes += bytes;
        true
    }

    /// Releases the space used by a message.
    fn release(&mut self, room: &str, source: IpAddr, bytes: usize) {
        self.bytes -= bytes;
        let Some(usage) = self.rooms.get_mut(room) else { return };
        usage.total.remove(bytes);
        if let hash_map::Entry::Occupied(mut own) = usage.by_source.entry(source_network(source)) {
            own.get_mut().remove(bytes);
            if own.get().messages == 0 {
                own.remove();
            }
        }
        if usage.total.messages == 0 {
            self.rooms.remove(room);
        }
    }

    /// The number of delayed messages.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delayed_bytes_are_limited_per_address_per_room_and_in_total() {
        let mut queue = DelayQueue::default();
        let host = |number: u8| IpAddr::from([192, 0, 2, number]);
        // At most 16 messages and 200 bytes per room, and 800 bytes in all rooms. An address may use an eighth of a room: 2 messages and
        // 25 bytes.
        let mut admit = |room, number, bytes| queue.try_reserve(room, host(number), bytes, 16, 800);
        assert_eq!([admit("a", 1, 10), admit("a", 1, 10), admit("a", 1, 1)], [true, true, false]);
        assert_eq!(
            [admit("a", 2, 26), admit("a", 2, 20), admit("a", 2, 6), admit("a", 2, 5)],
            [false, true, false, true]
        );
        let full: Vec<bool> = (3..=10).map(|number| admit("a", number, 25)).collect();
        assert_eq!(full, [true, true, true, true, true, true, false, false]);
        assert!(["b", "c", "d"].iter().all(|room| (1..=8).all(|number| admit(room, number, 25))));
        // 5 bytes are left.
        assert_eq!([admit("e", 1, 6), admit("e", 1, 5)], [false, true]);
        queue.release("a", host(1), 10);
        assert!(queue.try_reserve("a", host(1), 10, 16, 800));
        for room in ["a", "b", "c", "d", "e"] {
            queue.remove_room(room);
        }
        assert!(queue.rooms.is_empty() && queue.bytes == 0);
    }
}
