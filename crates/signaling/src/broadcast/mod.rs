//! The broadcast dialect: a token admits a client to a room, and each message is relayed to all other members. The room's [`RoomHandler`]
//! decides who may join and transforms messages. Control channels only receive.

pub(super) mod builtin_rooms;
pub(super) mod messages;
pub(super) mod room;
pub(super) mod room_handler;

use std::sync::Arc;

use super::call::Call;
use super::dialect::{DialectFacts, ProbeMethod};
use super::json::{MessageError, parse, to_json};
use super::limits::SignalingLimits;
use super::message_docs::{ROOM_CLOSES, broadcast::channels, closes};
use super::room::{RoomKey, Roster};
use super::rooms::{Directory, Rooms};
use super::route::BroadcastParams;
use super::server::ConnId;
use super::token::{TOKEN_MISSING, verify};
use crate::close_code::CloseCode;
use room::BroadcastRoom;

pub use super::limits::{BroadcastSettings, DEFAULT_MAX_PAYLOAD_BYTES, Envelope};
pub use builtin_rooms::{ChatRoom, DeclaredRoom, RadioRoom, RelayRoom, RoomHandlers};
pub use room::MAX_BROADCAST_DELAY;
pub use room_handler::{
    ClientInfo, Recipients, Rejection, RelayContext, RelayPayload, RoomAction, RoomHandler, RoomView,
};

/// What is known about the dialect.
pub(super) static FACTS: DialectFacts = DialectFacts {
    name: "broadcast",
    description: "Broadcast rooms, with tokens",
    is_selected_by: None,
    error: |error| to_json(&messages::ServerMessage::Error { error }),
    channels: |schemas, limits| channels(schemas, &limits.broadcast).into(),
    closes: &[
        closes! {
            /// The URL contains no valid name of a room.
            ROOM_NAME_REQUIRED "Room name required";
            /// Neither the URL nor the header `Authorization` contains a token.
            AUTHENTICATION_REQUIRED "Authentication required";
            /// The token has expired, belongs to another room, or has a wrong signature.
            INVALID_TOKEN "Invalid or expired token";
            /// The room handler rejected the client. It may use another code and reason.
            REJECTED_BY_ROOM "Rejected by room";
            /// The room handler has failed. The room has closed all its connections.
            INTERNAL_ERROR "Internal error";
            /// The client sent no message within IDLE_TIMEOUT_MS.
            IDLE_TIMEOUT "Idle timeout";
            /// The connection has lasted for MAX_CONN_AGE_MS.
            MAX_CONNECTION_AGE "Max connection age reached";
        },
        ROOM_CLOSES,
    ],
    shutdown_close: (CloseCode::SERVER_SHUTDOWN, "Server shutting down"),
    probe_types: ["broadcast"; 2],
    probe_method: ProbeMethod::Relay,
    join_messages: [""; 2],
    load_message: r#"{"type":"load","content":"TEXT NUMBER"}"#,
    // Only with a token.
    names_senders: false,
    returns_messages: false,
    room_limit: "members of a room: max_clients of the room",
};

/// The broadcast dialect.
pub(super) struct BroadcastDialect {
    /// A room exists while it has members or delayed messages. One with a named handler always exists.
    pub(super) rooms: Rooms<BroadcastRoom>,
}

impl BroadcastDialect {
    /// Handles a message of the connection that causes the call.
    pub(super) fn on_text(&self, call: &mut Call<'_>, text: &str) -> Result<(), MessageError> {
        let message = parse(text);
        // A connection of this dialect is in a room, unless it was closed, or the room fails.
        let called = self.rooms.call_own(call, |room, call| room.on_message(call, message)).unwrap_or(Ok(()));
        call.effects.counters.requests_rejected += u64::from(matches!(called, Err(MessageError::Rejected(_))));
        called
    }

    pub(super) fn new(handlers: RoomHandlers) -> Self {
        let dialect = Self { rooms: Rooms::default() };
        for (name, handler) in handlers.named {
            Self::create(&mut dialect.rooms.directory(), &name, handler, true);
        }
        dialect
    }

    fn create(
        directory: &mut Directory<BroadcastRoom>,
        name: &str,
        handler: Box<dyn RoomHandler>,
        is_named: bool,
    ) -> RoomKey {
        let roster = |key| Roster::new(key, vec![name.to_owned()], None, 0);
        directory.create(|key| BroadcastRoom::new(roster(key), handler, is_named))
    }

    /// Lets the room with this name act. If there is none, it is created, and stays only if it is needed then.
    pub(super) fn call<T>(
        &self,
        call: &mut Call<'_>,
        name: &str,
        action: impl FnOnce(&mut BroadcastRoom, &mut Call<'_>) -> T,
    ) -> Option<T> {
        let locate = |directory: &mut Directory<_>| {
            let found = directory.find(name);
            Some(found.unwrap_or_else(|| Self::create(directory, name, Box::new(RelayRoom), false)))
        };
        self.rooms.call(call, locate, action)
    }

    /// Whether joining the room needs a valid token.
    pub(super) fn requires_auth(&self, room: &str) -> bool {
        let required = self.rooms.read(|directory| directory.find(room), |room| room.handler.requires_auth());
        required.unwrap_or(RelayRoom.requires_auth())
    }

    /// Whether a connection is a control channel, which must not send messages.
    pub(super) fn is_control_channel(&self, conn: ConnId) -> bool {
        self.member(conn, |client| client.is_control_channel).unwrap_or(false)
    }

    /// Maximum length of a message of a connection, in bytes.
    pub(super) fn max_message_bytes(&self, limits: &SignalingLimits, conn: ConnId) -> usize {
        let max_payload_bytes = limits.broadcast.max_payload_bytes;
        let is_authorized = |client: &ClientInfo| !client.is_control_channel && client.claims.is_some();
        if self.member(conn, is_authorized).unwrap_or(false) {
            max_payload_bytes
        } else {
            max_payload_bytes.min(limits.max_message_bytes)
        }
    }

    fn member<T>(&self, conn: ConnId, action: impl FnOnce(&ClientInfo) -> T) -> Option<T> {
        self.rooms.read(|directory| directory.room_of(conn), |room| Some(action(&room.roster.find(conn)?.data)))?
    }

    /// Adds a new connection to its room, or closes the connection.
    pub(super) fn on_connect(&self, call: &mut Call<'_>, params: BroadcastParams) {
        let BroadcastParams { room, is_control_channel, token, query, headers } = params;
        let Some(name) = room else {
            let (code, reason) = (CloseCode::ROOM_NAME_REQUIRED, "Room name required");
            return call.reject_with_detail(code, reason, Some(ROOM_NAME_MISSING));
        };
        let is_public = !is_control_channel && !self.requires_auth(&name);
        let secret = call.server.limits.broadcast.secret.as_ref();
        let claims = match token.map(|token| verify(secret, token.as_str(), &name, call.now.unix_ms())) {
            None if is_public => None,
            None => return call.reject_token(TOKEN_MISSING),
            Some(Err(reason)) => return call.reject_token(reason),
            Some(Ok(claims)) => Some(claims),
        };
        let (conn, source, max_rooms) =
            (call.sender.conn, call.sender.source, call.server.limits.max_rooms_per_address);
        let client = Arc::new(ClientInfo { conn, source, claims, query, is_control_channel });
        let has_too_many_rooms = || self.rooms.directory().rooms_opened_by(source) >= max_rooms;
        let entered = self.call(call, &name, |room, call| room.enter(call, &client, &headers, has_too_many_rooms));
        if let Some(Err(Rejection { code, reason })) = entered {
            let (code, reason) = CloseCode(code).for_frame(&reason);
            call.reject_and_close(code, reason);
        }
    }
}

/// Why a URL without a valid room name is rejected.
const ROOM_NAME_MISSING: &str =
    "Room name required: neither the path nor the parameter room has a name of 1 to 128 bytes";
