//! The state of the broadcast dialect: rooms, their members and handlers, and delayed messages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::builtin_rooms::RoomHandlers;
use super::room_handler::{ClientInfo, RelayPayload, RoomView};
use crate::memory_budget::MemoryCharge;
use crate::signaling::dialect::Dialect;
use crate::signaling::event_sink::ConnId;
use crate::signaling::member_log::{LoggedMember, RoomLabel};
use crate::signaling::rooms::{MemberData, MemberInfo, RoomData, RoomKey, RoomMap};
use crate::time::WallClock;

/// The state of the broadcast dialect.
#[derive(Default)]
pub(in crate::signaling) struct BroadcastDialect {
    /// The `data` field of each room is the number of its control channels.
    pub(super) rooms: RoomMap<usize, Membership>,
    pub(super) handlers: RoomHandlers,
    pub(super) delay_queue: DelayQueue,
}

/// A member or control channel of a room.
#[derive(Clone)]
pub(in crate::signaling) struct Membership {
    pub(super) client: Arc<ClientInfo>,
    pub(super) is_control_channel: bool,
}

impl BroadcastDialect {
    /// The current state of a room. If the room is not open, the numbers are 0.
    pub(super) fn room_view<'a>(&self, name: &'a str, now: WallClock) -> RoomView<'a> {
        let room = self.rooms.find(name).and_then(|key| self.rooms.get(key));
        let (all, control_clients) = room.map_or((0, 0), |room| (room.members.len(), room.data));
        RoomView { name, now, clients: all - control_clients, control_clients }
    }

    /// The connections of the members of a room, or of its control channels.
    pub(super) fn members(&self, name: &str, control: bool) -> Vec<ConnId> {
        let room = self.rooms.find(name).and_then(|key| self.rooms.get(key));
        let members = room.into_iter().flat_map(|room| &room.members);
        members.filter(|member| member.data.is_control_channel == control).map(|member| member.conn).collect()
    }

    /// Whether `conn` is a member with a token.
    pub(super) fn is_authorized(&self, conn: ConnId) -> bool {
        let member = self.rooms.member(conn);
        member.is_some_and(|(member, _)| !member.data.is_control_channel && member.data.client.claims.is_some())
    }

    /// Whether `conn` is a control channel.
    pub(super) fn is_control_channel(&self, conn: ConnId) -> bool {
        self.rooms.member(conn).is_some_and(|(member, _)| member.data.is_control_channel)
    }

    /// Number of open rooms, of members per room, and of control channels.
    pub(super) fn counters(&self) -> BroadcastCounters {
        let mut counts = BroadcastCounters { rooms: self.rooms.len() as u64, ..BroadcastCounters::default() };
        for room in self.rooms.iter() {
            counts.control_clients += room.data as u64;
            counts.clients.insert(room.name().to_owned(), (room.members.len() - room.data) as u64);
        }
        counts
    }

    pub(super) fn room_name(&self, key: RoomKey) -> Option<String> {
        self.rooms.get(key).map(|room| room.name().to_owned())
    }
}

/// The client as a member of the room `room`.
pub(super) fn logged_member<'a>(client: &'a ClientInfo, room: &'a str) -> LoggedMember<'a> {
    LoggedMember { dialect: Dialect::Broadcast, room: RoomLabel::Name(room), user: client.id(), conn: client.conn }
}

impl RoomData for usize {}

impl MemberData for Membership {
    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: Some(self.client.id()), name: None, is_control_channel: self.is_control_channel }
    }
}

/// Numbers of broadcast rooms and of their members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroadcastCounters {
    /// Open rooms.
    pub rooms: u64,
    /// Control channels in all rooms.
    pub control_clients: u64,
    /// Members per room, without control channels.
    pub clients: BTreeMap<String, u64>,
}

/// A message whose delay is not over. The message is stored as text, so that it takes about `charged_bytes` of memory.
pub(super) struct DelayedMessage {
    pub(super) room: String,
    pub(super) sender: Option<Arc<ClientInfo>>,
    /// The receive time, which the envelope contains.
    pub(super) received_at: WallClock,
    /// Length of the received message.
    pub(super) bytes: usize,
    /// The constructor of a [`RelayPayload`] variant. When the message is relayed, the constructor is called with the parsed `payload`.
    pub(super) variant: fn(Value) -> RelayPayload,
    pub(super) payload: String,
    pub(super) charged_bytes: usize,
    /// Charged to the address of the sender.
    pub(super) _memory: MemoryCharge,
}

/// The delayed messages of one room may use at most a quarter of the byte limit for all rooms.
const ROOM_SHARE_DIVISOR: usize = 4;

/// The delayed messages of all rooms, by id.
#[derive(Default)]
pub(super) struct DelayQueue {
    messages: HashMap<u64, DelayedMessage>,
    last_id: u64,
    rooms: HashMap<String, RoomUsage>,
    bytes: usize,
}

/// Number and bytes of the delayed messages of one room.
#[derive(Default)]
struct RoomUsage {
    messages: usize,
    bytes: usize,
}

impl DelayQueue {
    /// Stores a message, unless a limit is reached. Returns the id of the stored message.
    pub(super) fn push(&mut self, message: DelayedMessage, max_messages: usize, max_bytes: usize) -> Option<u64> {
        if !self.try_reserve(&message.room, message.charged_bytes, max_messages, max_bytes) {
            return None;
        }
        self.last_id += 1;
        self.messages.insert(self.last_id, message);
        Some(self.last_id)
    }

    /// Removes a message whose delay is over.
    pub(super) fn take(&mut self, id: u64) -> Option<DelayedMessage> {
        let message = self.messages.remove(&id)?;
        self.release(&message.room, message.charged_bytes);
        Some(message)
    }

    /// Reserves space for a message. Returns false if the message would exceed a limit. The limits apply to the room's messages, the room's
    /// bytes and the bytes of all rooms.
    fn try_reserve(&mut self, room: &str, bytes: usize, max_messages: usize, max_bytes: usize) -> bool {
        let (messages, own) = self.rooms.get(room).map_or((0, 0), |usage| (usage.messages, usage.bytes));
        if messages >= max_messages || own + bytes > max_bytes / ROOM_SHARE_DIVISOR || self.bytes + bytes > max_bytes {
            return false;
        }
        let usage = self.rooms.entry(room.to_owned()).or_default();
        usage.messages += 1;
        usage.bytes += bytes;
        self.bytes += bytes;
        true
    }

    /// Releases the space used by a message.
    fn release(&mut self, room: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(usage) = self.rooms.get_mut(room) {
            usage.messages -= 1;
            usage.bytes = usage.bytes.saturating_sub(bytes);
            if usage.messages == 0 {
                self.rooms.remove(room);
            }
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
    fn delayed_bytes_are_limited_per_room_and_in_total() {
        let mut queue = DelayQueue::default();
        // At most two messages and 25 bytes per room, and 100 bytes in all rooms.
        let mut admit = |room, bytes| queue.try_reserve(room, bytes, 2, 100);
        assert_eq!([admit("a", 10), admit("a", 10), admit("a", 1)], [true, true, false]);
        assert_eq!([admit("b", 26), admit("b", 20), admit("b", 6), admit("b", 5)], [false, true, false, true]);
        assert_eq!([admit("c", 25), admit("d", 25), admit("e", 6), admit("e", 5)], [true, true, false, true]);
        queue.release("a", 10);
        assert!(queue.try_reserve("a", 10, 2, 100));
        for (room, bytes) in [("a", 10), ("a", 10), ("b", 20), ("b", 5), ("c", 25), ("d", 25), ("e", 5)] {
            queue.release(room, bytes);
        }
        assert!(queue.rooms.is_empty() && queue.bytes == 0);
    }
}
