//! The broadcast dialect. A token admits a client to a room. Each message is relayed to all other members.
//!
//! A room's [`RoomHandler`] decides who may join and transforms messages. Control channels only receive.

pub(super) mod builtin_rooms;
mod http_posts;
pub(super) mod messages;
pub(super) mod room_handler;
mod room_state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::close_code::CloseCode;
use super::connection_context::ConnectionContext;
use super::dialect::Dialect;
use super::dialect_handler::DialectHandler;
use super::event_sink::ConnId;
use super::limits::SignalingLimits;
use super::member_log::{ConnectionClose, ROOM_CLOSED_BY_OPERATOR, log_join, log_leave};
use super::rooms::{Member, Room, RoomDirectory, RoomKey};
use super::route::{BroadcastParams, Route};
use super::timers::{DialectTimer, TimerEvent};
use super::token::{Claims, TokenError, verify};
use messages::{MessageSender, ServerMessage, wrap};
use room_state::{Membership, logged_member};

pub use super::limits::{BroadcastSettings, DEFAULT_MAX_PAYLOAD_BYTES, DEFAULT_SUPPRESSED_TYPES, Envelope};
pub use builtin_rooms::{ChatRoom, DEFAULT_BANNED_WORDS, DeclaredRoom, RadioRoom, RelayRoom, RoomHandlers};
pub use http_posts::{AcceptedPost, FieldError, IssueError, PostBody, PostError, PostFormat};
pub use messages::MAX_BROADCAST_DELAY;
pub use room_handler::{
    ClientInfo, JoinRequest, Recipients, Rejection, RelayContext, RelayPayload, RoomAction, RoomHandler, RoomView,
};
pub use room_state::BroadcastCounters;

pub(super) use room_state::BroadcastDialect;

impl DialectHandler for BroadcastDialect {
    fn rooms(&self) -> &dyn RoomDirectory {
        &self.rooms
    }

    fn is_protected(&self, room: &str) -> bool {
        self.handlers.get(room).requires_auth()
    }

    fn on_connect(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        limits: &SignalingLimits,
        route: Route,
    ) -> Option<RoomKey> {
        let Route::Broadcast(params) = route else { return None };
        join(ctx, self, limits, params)
    }

    fn on_disconnect(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        limits: &SignalingLimits,
        close: &ConnectionClose<'_>,
    ) {
        if let Some((name, actions)) = remove_member(ctx, self, ctx.conn, close) {
            apply_actions(ctx, self, limits, &name, actions);
        }
    }

    /// The room handler is informed about each leave. Its actions are dropped, because no member remains. Delayed messages are dropped too.
    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let key = self.rooms.find(room)?;
        let Room { members, .. } = self.rooms.close(key)?;
        let (code, reason) = (CloseCode::CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR);
        for timer in self.delay_queue.remove_room(room) {
            ctx.timers.remove(timer);
        }
        let view = self.room_view(room, ctx.now);
        let handler = self.handlers.get_mut(room);
        for Member { conn, data: Membership { client, is_control_channel }, .. } in &members {
            if *is_control_channel {
                drop(handler.on_control_leave(&view, client, code.get(), reason));
            } else {
                drop(handler.on_leave(&view, client, code.get(), reason));
            }
            log_leave(logged_member(client, room), reason, 0);
            ctx.close(*conn, code, reason);
        }
        Some(members.len())
    }

    fn on_timer(&mut self, ctx: &mut ConnectionContext<'_>, limits: &SignalingLimits, timer: DialectTimer) {
        match timer {
            DialectTimer::RoomHeartbeat(room) => {
                let is_open = on_room_heartbeat(ctx, self, limits, room);
                if let (true, Some(interval)) = (is_open, limits.heartbeat.interval) {
                    let next = TimerEvent::Dialect(Dialect::Broadcast, DialectTimer::RoomHeartbeat(room));
                    ctx.timers.insert(ctx.now.monotonic + interval, next);
                }
            }
            DialectTimer::DelayedMessage(id) => messages::relay_delayed(ctx, self, limits, id),
            DialectTimer::RoomExpiry(_) | DialectTimer::ScheduledUpdate { .. } => {}
        }
    }

    fn idle_timeout(&self, limits: &SignalingLimits, conn: ConnId) -> Option<Duration> {
        // A control channel must not send messages, so it has no idle time-out.
        limits.broadcast.idle_timeout.filter(|_| !self.is_control_channel(conn))
    }

    fn max_connection_age(&self, limits: &SignalingLimits) -> Option<Duration> {
        limits.broadcast.max_connection_age
    }

    fn max_message_bytes(&self, limits: &SignalingLimits, conn: ConnId) -> usize {
        let max_payload_bytes = limits.broadcast.max_payload_bytes;
        if self.is_authorized(conn) { max_payload_bytes } else { max_payload_bytes.min(limits.max_message_bytes) }
    }

    fn shutdown_close_frame(&self) -> (CloseCode, &'static str) {
        (CloseCode::SERVER_SHUTDOWN, "Server shutting down")
    }

    fn delayed_messages(&self) -> usize {
        self.delay_queue.len()
    }
}

/// Adds a new connection to its room, or closes the connection. Returns the room if the room was created for this connection. Otherwise,
/// returns `None`.
fn join(
    ctx: &mut ConnectionContext<'_>,
    dialect: &mut BroadcastDialect,
    limits: &SignalingLimits,
    params: BroadcastParams,
) -> Option<RoomKey> {
    let settings = &limits.broadcast;
    let Some(name) = params.room else {
        reject(ctx, CloseCode::ROOM_NAME_REQUIRED, "Room name required");
        return None;
    };
    let is_open = if params.is_control_channel {
        settings.open_control_channel
    } else {
        !dialect.handlers.get(&name).requires_auth()
    };
    let claims = params.token.as_ref().map(|given| verify_token(settings, given.as_str(), &name, ctx.unix_ms()));
    let claims = match claims {
        None if is_open => None,
        None => {
            ctx.counters.closed_invalid_token += 1;
            reject(ctx, CloseCode::AUTHENTICATION_REQUIRED, "Authentication required");
            return None;
        }
        Some(Ok(claims)) => Some(claims),
        Some(Err(error)) => {
            debug!(target: "signaling", conn = ctx.conn.0, reason = %error, "token rejected");
            ctx.counters.closed_invalid_token += 1;
            reject(ctx, CloseCode::INVALID_TOKEN, "Invalid or expired token");
            return None;
        }
    };
    let client = Arc::new(ClientInfo { conn: ctx.conn, source: ctx.source, claims, query: params.query });
    let now = ctx.now;
    let room = dialect.room_view(&name, now);
    let handler = dialect.handlers.get_mut(&name);
    let request = JoinRequest { query: &client.query, headers: &params.headers };
    if let Err(Rejection { code, reason }) = handler.verify_auth(&room, &client, &request) {
        reject(ctx, CloseCode(code), &reason);
        return None;
    }
    if !params.is_control_channel && handler.max_clients().is_some_and(|max| room.clients >= max) {
        reject(ctx, CloseCode::TRY_AGAIN_LATER, "Room is full");
        return None;
    }
    let found = dialect.rooms.find(&name);
    if found.is_none() && dialect.rooms.rooms_created_by(ctx.source) >= limits.max_rooms_per_address {
        reject(ctx, CloseCode::TRY_AGAIN_LATER, "Too many rooms");
        return None;
    }
    if ctx.check_join().is_err() {
        reject(ctx, CloseCode::TRY_AGAIN_LATER, "Too many requests");
        return None;
    }
    let membership = Membership { client: Arc::clone(&client), is_control_channel: params.is_control_channel };
    let created = match found {
        Some(key) => {
            dialect.rooms.join(key, ctx.conn, membership);
            if let Some(room) = dialect.rooms.get_mut(key) {
                room.data += usize::from(params.is_control_channel);
            }
            None
        }
        None => Some(dialect.rooms.create(
            vec![name.clone()],
            ctx.source,
            ctx.unix_ms(),
            usize::from(params.is_control_channel),
            ctx.conn,
            membership,
        )),
    };
    let room = dialect.room_view(&name, now);
    log_join(logged_member(&client, &name), room.clients + room.control_clients);
    let handler = dialect.handlers.get_mut(&name);
    let actions = if params.is_control_channel {
        let message = "Connected to remote control channel";
        ctx.reply(&ServerMessage::ControlWelcome { message, room: &name, time: room.unix_ms() });
        handler.on_control_join(&room, &client)
    } else {
        let welcome = handler.welcome_message(&room, &client);
        ctx.reply_requested(welcome);
        handler.on_join(&room, &client)
    };
    apply_actions(ctx, dialect, limits, &name, actions);
    created
}

/// The claims of a token, if it is valid for this room now.
pub(super) fn verify_token(
    settings: &BroadcastSettings,
    token: &str,
    room: &str,
    unix_ms: u64,
) -> Result<Claims, TokenError> {
    verify(settings.secret.as_ref().ok_or(TokenError::InvalidSignature)?, token, room, unix_ms)
}

/// Rejects and closes the connection.
fn reject(ctx: &mut ConnectionContext<'_>, code: CloseCode, reason: &str) {
    let (code, reason) = code.for_frame(reason);
    ctx.reject_and_close(code, reason);
}

/// Removes a connection from its room. Returns the room's name and the actions of its handler.
fn remove_member(
    ctx: &mut ConnectionContext<'_>,
    dialect: &mut BroadcastDialect,
    conn: ConnId,
    close: &ConnectionClose<'_>,
) -> Option<(String, Vec<RoomAction>)> {
    let ConnectionClose { code, reason, .. } = *close;
    let key = dialect.rooms.room_of(conn)?;
    let name = dialect.room_name(key)?;
    let (Membership { client, is_control_channel }, _) = dialect.rooms.leave(conn, None)?;
    if let Some(room) = dialect.rooms.get_mut(key) {
        room.data -= usize::from(is_control_channel);
    }
    let room = dialect.room_view(&name, ctx.now);
    log_leave(logged_member(&client, &name), &close.leave_reason(), room.clients + room.control_clients);
    let handler = dialect.handlers.get_mut(&name);
    let actions = if is_control_channel {
        handler.on_control_leave(&room, &client, code.get(), reason)
    } else {
        handler.on_leave(&room, &client, code.get(), reason)
    };
    Some((name, actions))
}

/// Calls the heartbeat hook. Returns whether the room is still open.
fn on_room_heartbeat(
    ctx: &mut ConnectionContext<'_>,
    dialect: &mut BroadcastDialect,
    limits: &SignalingLimits,
    key: RoomKey,
) -> bool {
    let Some(name) = dialect.room_name(key) else { return false };
    let room = dialect.room_view(&name, ctx.now);
    let actions = dialect.handlers.get_mut(&name).on_heartbeat(&room);
    apply_actions(ctx, dialect, limits, &name, actions);
    dialect.rooms.get(key).is_some()
}

/// Performs the actions of a room handler, and the actions that result from closing connections. If a handler requests an action on a
/// connection of another room, the action is ignored.
fn apply_actions(
    ctx: &mut ConnectionContext<'_>,
    dialect: &mut BroadcastDialect,
    limits: &SignalingLimits,
    name: &str,
    actions: Vec<RoomAction>,
) {
    let mut pending = VecDeque::from(actions);
    while let Some(action) = pending.pop_front() {
        let is_here = |dialect: &BroadcastDialect, conn: ConnId| {
            dialect.rooms.room_of(conn).is_some_and(|membership| dialect.rooms.find(name) == Some(membership))
        };
        match action {
            RoomAction::Send(Recipients::Connection(conn), message) if is_here(dialect, conn) => {
                ctx.send(&[conn], &message);
            }
            RoomAction::Send(Recipients::Members, message) => ctx.send(&dialect.members(name, false), &message),
            RoomAction::Send(Recipients::ControlChannels, message) => ctx.send(&dialect.members(name, true), &message),
            RoomAction::Broadcast(relay) => {
                let room = dialect.room_view(name, ctx.now);
                let message = wrap(limits.broadcast.envelope, &room, MessageSender::Handler, &relay);
                ctx.send_text(&dialect.members(name, false), message);
            }
            RoomAction::Close(conn, code, reason) if is_here(dialect, conn) => {
                let (code, reason) = CloseCode(code).for_frame(&reason);
                let close = ConnectionClose { code, reason, server_reason: Some(reason) };
                if let Some((_, more)) = remove_member(ctx, dialect, conn, &close) {
                    pending.extend(more);
                }
                ctx.close(conn, code, reason);
            }
            // The connection is not in this room.
            RoomAction::Send(Recipients::Connection(_), _) | RoomAction::Close(..) => {}
        }
    }
}
