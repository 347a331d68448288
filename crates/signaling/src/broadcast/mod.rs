//! The broadcast dialect: a token admits a client to a room, and each message is relayed to all other members. The room's [`RoomHandler`]
//! decides who may join and transforms messages. Control channels only receive.

pub(super) mod builtin_rooms;
mod delay_queue;
pub(super) mod messages;
pub(super) mod room;
pub(super) mod room_handler;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::connection_context::ConnectionContext;
use super::dialect_handler::DialectHandler;
use super::event_sink::ConnId;
use super::json::{JsonError, MessageError};
use super::limits::SignalingLimits;
use super::room::{Member, RoomKey, Roster};
use super::rooms::Rooms;
use super::route::BroadcastParams;
use super::token::{TOKEN_MISSING, verify};
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

impl DialectHandler for BroadcastDialect {
    fn is_protected(&self, _: &SignalingLimits, room: &str) -> bool {
        self.requires_auth(room)
    }

    fn idle_timeout(&self, limits: &SignalingLimits, conn: ConnId) -> Option<Duration> {
        // A control channel must not send messages, so it has no idle time-out.
        let is_control_channel = self.member(conn).is_some_and(|member| member.data.is_control_channel);
        limits.broadcast.idle_timeout.filter(|_| !is_control_channel)
    }

    fn max_connection_age(&self, limits: &SignalingLimits) -> Option<Duration> {
        limits.broadcast.max_connection_age
    }

    fn max_message_bytes(&self, limits: &SignalingLimits, conn: ConnId) -> usize {
        let max_payload_bytes = limits.broadcast.max_payload_bytes;
        let is_authorized =
            |Membership { client, is_control_channel }: &Membership| !is_control_channel && client.claims.is_some();
        if self.member(conn).is_some_and(|member| is_authorized(&member.data)) {
            max_payload_bytes
        } else {
            max_payload_bytes.min(limits.max_message_bytes)
        }
    }

    fn shutdown_close_frame(&self) -> (CloseCode, &'static str) {
        (CloseCode::SERVER_SHUTDOWN, "Server shutting down")
    }

    fn delayed_messages(&self) -> usize {
        self.rooms.iter().map(|room| room.delayed.len()).sum()
    }
}

impl BroadcastDialect {
    pub(super) fn new(limits: &SignalingLimits, handlers: RoomHandlers) -> Self {
        let held = MemoryBudget::new(Some(limits.broadcast.max_delayed_bytes as u64)).account(None);
        let mut dialect = Self { rooms: Rooms::default(), held };
        for (name, handler) in handlers.named {
            dialect.create(&name, handler, true);
        }
        dialect
    }

    fn create(&mut self, name: &str, handler: Box<dyn RoomHandler>, is_named: bool) -> RoomKey {
        let Self { rooms, held } = self;
        rooms.create(vec![name.to_owned()], None, |key| {
            BroadcastRoom::new(Roster::new(key, name.to_owned(), None, 0), handler, is_named, held)
        })
    }

    /// The room with this name. If there is none, it is created, and stays only if the next call finds that it is needed.
    pub(super) fn find_or_create(&mut self, name: &str) -> RoomKey {
        self.rooms.key_of(name).unwrap_or_else(|| self.create(name, Box::new(RelayRoom), false))
    }

    /// Whether joining the room needs a valid token.
    pub(super) fn requires_auth(&self, room: &str) -> bool {
        self.rooms.find(room).map_or(RelayRoom.requires_auth(), |room| room.handler.requires_auth())
    }

    fn member(&self, conn: ConnId) -> Option<&Member<Membership>> {
        self.rooms.get(self.rooms.room_of(conn)?)?.roster.find(conn)
    }

    /// Handles a message of `bytes` bytes from a member.
    pub(super) fn on_message(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        message: Result<Value, JsonError>,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let called = self.rooms.call_own(ctx, |room, call| room.on_message(call, message, bytes));
        called.ok_or(MessageError::NOT_IN_ROOM)?
    }

    /// Adds a new connection to its room, or closes the connection.
    pub(super) fn on_connect(&mut self, ctx: &mut ConnectionContext<'_>, params: BroadcastParams) {
        if let Err((code, reason, detail)) = self.join(ctx, params) {
            let (code, reason) = code.for_frame(&reason);
            ctx.reject_with_detail(code, reason, detail);
        }
    }

    /// Adds a new connection to its room. The error is the close code and reason with which the connection is rejected, and the detail for
    /// the log.
    fn join(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        params: BroadcastParams,
    ) -> Result<(), (CloseCode, Cow<'static, str>, Option<&'static str>)> {
        let BroadcastParams { room, is_control_channel, token, query, headers } = params;
        let name = room.ok_or((CloseCode::ROOM_NAME_REQUIRED, "Room name required".into(), Some(ROOM_NAME_MISSING)))?;
        let is_public = !is_control_channel && !self.requires_auth(&name);
        let claims = match token {
            None if is_public => None,
            None => {
                ctx.counters.closed_invalid_token += 1;
                return Err((
                    CloseCode::AUTHENTICATION_REQUIRED,
                    "Authentication required".into(),
                    Some(TOKEN_MISSING),
                ));
            }
            Some(token) => {
                let secret = ctx.limits.broadcast.secret.as_ref();
                let claims = verify(secret, token.as_str(), &name, ctx.now.unix_ms());
                Some(claims.map_err(|reason| {
                    ctx.counters.closed_invalid_token += 1;
                    (CloseCode::INVALID_TOKEN, "Invalid or expired token".into(), Some(reason))
                })?)
            }
        };
        let client = Arc::new(ClientInfo { conn: ctx.conn, source: ctx.source, claims, query });
        let membership = Membership { client, is_control_channel };
        let has_too_many_rooms = self.rooms.rooms_created_by(ctx.source) >= ctx.limits.max_rooms_per_address;
        let key = self.find_or_create(&name);
        let entered =
            self.rooms.call(key, ctx, |room, call| room.enter(call, membership, &headers, has_too_many_rooms));
        entered.unwrap_or(Ok(())).map_err(|(code, reason)| (code, reason, None))?;
        self.rooms.count_for(key, ctx.source);
        Ok(())
    }
}

/// Why a URL without a valid room name is rejected.
const ROOM_NAME_MISSING: &str =
    "Room name required: neither the path nor the parameter room has a name of 1 to 128 bytes";
