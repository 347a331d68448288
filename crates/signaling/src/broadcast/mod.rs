//! The broadcast dialect: a token admits a client to a room, and each message is relayed to all other members. The room's [`RoomHandler`]
//! decides who may join and transforms messages. Control channels only receive.

pub(super) mod builtin_rooms;
mod delay_queue;
pub(super) mod messages;
pub(super) mod room;
pub(super) mod room_handler;

use std::sync::Arc;

use super::connection_context::ConnectionContext;
use super::event_sink::ConnId;
use super::json::{MessageError, parse};
use super::limits::SignalingLimits;
use super::lock::lock;
use super::room::{RoomCall, RoomKey, Roster};
use super::rooms::{Directory, Rooms};
use super::route::BroadcastParams;
use super::token::{TOKEN_MISSING, verify};
use delay_queue::DelayQueue;
use jamjam_core::close_code::CloseCode;
use jamjam_core::memory_budget::{MemoryAccount, MemoryBudget};
use room::{BroadcastRoom, Membership};

pub use super::limits::{BroadcastSettings, DEFAULT_MAX_PAYLOAD_BYTES, Envelope};
pub use builtin_rooms::{ChatRoom, DEFAULT_BANNED_WORDS, DeclaredRoom, RadioRoom, RelayRoom, RoomHandlers};
pub use room::MAX_BROADCAST_DELAY;
pub use room_handler::{
    ClientInfo, JoinRequest, Recipients, Rejection, RelayContext, RelayPayload, RoomAction, RoomHandler, RoomView,
};

pub(super) use delay_queue::MessageOrigin;

/// The broadcast dialect.
pub(super) struct BroadcastDialect {
    /// A room exists while it has members or delayed messages. One with a named handler always exists.
    pub(super) rooms: Rooms<BroadcastRoom>,
    /// The bytes of the delayed messages of all rooms.
    held: Arc<MemoryAccount>,
}

impl BroadcastDialect {
    pub(super) fn new(limits: &SignalingLimits, handlers: RoomHandlers) -> Self {
        let held = MemoryBudget::new(Some(limits.broadcast.max_delayed_bytes as u64)).account(None);
        let dialect = Self { rooms: Rooms::default(), held };
        for (name, handler) in handlers.named {
            dialect.create(&mut dialect.rooms.directory(), &name, handler, true);
        }
        dialect
    }

    fn create(
        &self,
        directory: &mut Directory<BroadcastRoom>,
        name: &str,
        handler: Box<dyn RoomHandler>,
        is_named: bool,
    ) -> RoomKey {
        directory.create(None, |key| BroadcastRoom {
            roster: Roster::new(key, vec![name.to_owned()], None, 0),
            handler,
            is_named,
            delayed: DelayQueue::new(&self.held),
            heartbeat: None,
        })
    }

    /// Lets the room with this name act. If there is none, it is created, and stays only if it is needed then.
    pub(super) fn call<T>(
        &self,
        ctx: &mut ConnectionContext<'_>,
        name: &str,
        action: impl FnOnce(&mut BroadcastRoom, &mut RoomCall<'_>) -> T,
    ) -> Option<T> {
        let locate = |directory: &mut Directory<_>| {
            let found = directory.find(name);
            Some(found.unwrap_or_else(|| self.create(directory, name, Box::new(RelayRoom), false)))
        };
        self.rooms.call(ctx, locate, action)
    }

    /// Reads the room with this name, if it exists.
    pub(super) fn read<T>(&self, name: &str, action: impl FnOnce(&BroadcastRoom) -> T) -> Option<T> {
        self.rooms.read(|directory| directory.find(name), action)
    }

    /// Whether joining the room needs a valid token.
    pub(super) fn requires_auth(&self, room: &str) -> bool {
        self.read(room, |room| room.handler.requires_auth()).unwrap_or(RelayRoom.requires_auth())
    }

    /// Whether a connection is a control channel, which must not send messages.
    pub(super) fn is_control_channel(&self, conn: ConnId) -> bool {
        self.member(conn, |member| member.is_control_channel).unwrap_or(false)
    }

    /// Maximum length of a message of a connection, in bytes.
    pub(super) fn max_message_bytes(&self, limits: &SignalingLimits, conn: ConnId) -> usize {
        let max_payload_bytes = limits.broadcast.max_payload_bytes;
        let is_authorized =
            |Membership { client, is_control_channel }: &Membership| !is_control_channel && client.claims.is_some();
        if self.member(conn, is_authorized).unwrap_or(false) {
            max_payload_bytes
        } else {
            max_payload_bytes.min(limits.max_message_bytes)
        }
    }

    fn member<T>(&self, conn: ConnId, action: impl FnOnce(&Membership) -> T) -> Option<T> {
        self.rooms.read(|directory| directory.room_of(conn), |room| Some(action(&room.roster.find(conn)?.data)))?
    }

    /// Handles a message from a member.
    pub(super) fn on_text(&self, ctx: &mut ConnectionContext<'_>, text: &str) -> Result<(), MessageError> {
        let message = parse(text);
        // A connection of this dialect is in a room, unless it was closed, or the room fails.
        self.rooms.call_own(ctx, |room, call| room.on_message(call, message, text.len())).unwrap_or(Ok(()))
    }

    /// Adds a new connection to its room, or closes the connection.
    pub(super) fn on_connect(&self, ctx: &mut ConnectionContext<'_>, params: BroadcastParams) {
        let BroadcastParams { room, is_control_channel, token, query, headers } = params;
        let Some(name) = room else {
            let (code, reason) = (CloseCode::ROOM_NAME_REQUIRED, "Room name required");
            return ctx.reject_with_detail(code, reason, Some(ROOM_NAME_MISSING));
        };
        let is_public = !is_control_channel && !self.requires_auth(&name);
        let secret = ctx.state.limits.broadcast.secret.as_ref();
        let claims = match token.map(|token| verify(secret, token.as_str(), &name, ctx.now.unix_ms())) {
            None if is_public => None,
            None => return ctx.reject_token(TOKEN_MISSING),
            Some(Err(reason)) => return ctx.reject_token(reason),
            Some(Ok(claims)) => {
                claims.log_missing_expiry(|| lock(&ctx.state.log_throttle).allow(ctx.now.monotonic));
                Some(claims)
            }
        };
        let client = Arc::new(ClientInfo { conn: ctx.conn, source: ctx.source, claims, query });
        let membership = Membership { client, is_control_channel };
        let (source, max_rooms) = (ctx.source, ctx.state.limits.max_rooms_per_address);
        let has_too_many_rooms = || self.rooms.directory().rooms_opened_by(source) >= max_rooms;
        let entered = self.call(ctx, &name, |room, call| room.enter(call, membership, &headers, has_too_many_rooms));
        if let Some(Err((code, reason))) = entered {
            let (code, reason) = code.for_frame(&reason);
            ctx.reject_and_close(code, reason);
        }
    }
}

/// Why a URL without a valid room name is rejected.
const ROOM_NAME_MISSING: &str =
    "Room name required: neither the path nor the parameter room has a name of 1 to 128 bytes";
