//! The broadcast dialect: a token admits a client to a room, and each message is relayed to all other members. The room's [`RoomHandler`]
//! decides who may join and transforms messages. Control channels only receive.

pub(super) mod builtin_rooms;
pub(super) mod messages;
pub(super) mod room_handler;
mod room_state;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::close_code::CloseCode;
use super::connection_context::{ConnectionContext, MAX_JOIN_DEBT};
use super::dialect_handler::DialectHandler;
use super::event_sink::ConnId;
use super::limits::SignalingLimits;
use super::member_log::{ConnectionClose, ROOM_CLOSED_BY_OPERATOR};
use super::rooms::{RoomDirectory, RoomKey};
use super::route::{BroadcastParams, Route};
use super::timers::{BroadcastTimer, TimerEvent};
use super::token::{TOKEN_MISSING, verify};
use messages::{MessageSender, ServerMessage, wrap};

pub use super::limits::{BroadcastSettings, DEFAULT_MAX_PAYLOAD_BYTES, Envelope};
pub use builtin_rooms::{ChatRoom, DEFAULT_BANNED_WORDS, DeclaredRoom, RadioRoom, RelayRoom, RoomHandlers};
pub use messages::MAX_BROADCAST_DELAY;
pub use room_handler::{
    ClientInfo, JoinRequest, Recipients, Rejection, RelayContext, RelayPayload, RoomAction, RoomHandler, RoomView,
};

pub(super) use room_state::{BroadcastDialect, Membership, MessageOrigin};

impl DialectHandler for BroadcastDialect {
    fn rooms(&self) -> &dyn RoomDirectory {
        &self.rooms
    }

    fn is_protected(&self, _: &SignalingLimits, room: &str) -> bool {
        self.handlers.get(room).requires_auth()
    }

    fn on_connect(&mut self, ctx: &mut ConnectionContext<'_>, route: Route) {
        if let Route::Broadcast(params) = route
            && let Err((code, reason, detail)) = self.join(ctx, params)
        {
            let (code, reason) = code.for_frame(&reason);
            ctx.reject_with_detail(code, reason, detail);
        }
    }

    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>) {
        if let Some((name, actions)) = self.remove_member(ctx, ctx.conn, close) {
            self.apply_actions(ctx, &name, actions);
        }
    }

    /// The room handler is informed about each leave, but no member remains for its actions and for delayed messages.
    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let key = self.rooms.find(room)?.key;
        let closed = self.rooms.close(key)?;
        self.delay_queue.remove_room(room);
        let view = self.room_view(room, ctx.now);
        let handler = self.handlers.get_mut(room);
        for member in &closed.members {
            drop(on_leave(handler, &view, &member.data, CloseCode::CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR));
        }
        Some(ctx.close_members(&closed))
    }

    fn idle_timeout(&self, limits: &SignalingLimits, conn: ConnId) -> Option<Duration> {
        // A control channel must not send messages, so it has no idle time-out.
        let is_control_channel = self.rooms.member(conn).is_some_and(|(member, _)| member.data.is_control_channel);
        limits.broadcast.idle_timeout.filter(|_| !is_control_channel)
    }

    fn max_connection_age(&self, limits: &SignalingLimits) -> Option<Duration> {
        limits.broadcast.max_connection_age
    }

    fn max_message_bytes(&self, limits: &SignalingLimits, conn: ConnId) -> usize {
        let max_payload_bytes = limits.broadcast.max_payload_bytes;
        let is_authorized =
            |Membership { client, is_control_channel }: &Membership| !is_control_channel && client.claims.is_some();
        if self.rooms.member(conn).is_some_and(|(member, _)| is_authorized(&member.data)) {
            max_payload_bytes
        } else {
            max_payload_bytes.min(limits.max_message_bytes)
        }
    }

    fn shutdown_close_frame(&self) -> (CloseCode, &'static str) {
        (CloseCode::SERVER_SHUTDOWN, "Server shutting down")
    }

    fn delayed_messages(&self) -> usize {
        self.delay_queue.len()
    }
}

impl BroadcastDialect {
    pub(super) fn on_timer(&mut self, ctx: &mut ConnectionContext<'_>, timer: BroadcastTimer) {
        match timer {
            BroadcastTimer::RoomHeartbeat(key) => {
                let Some(name) = self.room_name(key) else { return };
                let room = self.room_view(&name, ctx.now);
                let actions = self.handlers.get_mut(&name).on_heartbeat(&room);
                self.apply_actions(ctx, &name, actions);
                self.schedule_room_heartbeat(ctx, key);
            }
            BroadcastTimer::DelayedMessage(id) => self.relay_delayed(ctx, id),
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
        let is_open = !is_control_channel && !self.handlers.get(&name).requires_auth();
        let claims = match token {
            None if is_open => None,
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
        let room = self.room_view(&name, ctx.now);
        let handler = self.handlers.get_mut(&name);
        let request = JoinRequest { query: &client.query, headers: &headers };
        handler
            .verify_auth(&room, &client, &request)
            .map_err(|Rejection { code, reason }| (CloseCode(code), reason.into(), None))?;
        let found = self.rooms.find(&name).map(|room| room.key);
        let has_too_many_rooms = || self.rooms.rooms_created_by(ctx.source) >= ctx.limits.max_rooms_per_address;
        let reason = if !is_control_channel && handler.max_clients().is_some_and(|max| room.clients >= max) {
            Some("Room is full")
        } else if found.is_none() && has_too_many_rooms() {
            Some("Too many rooms")
        } else {
            ctx.check_requested_bytes(MAX_JOIN_DEBT).err().map(|_| "Too many requests")
        };
        if let Some(reason) = reason {
            return Err((CloseCode::TRY_AGAIN_LATER, reason.into(), None));
        }
        let membership = Membership { client: Arc::clone(&client), is_control_channel };
        let key = found.unwrap_or_else(|| {
            let key = self.rooms.create(vec![name.clone()], None, Some(ctx.source), ctx.now.unix_ms(), 0);
            self.schedule_room_heartbeat(ctx, key);
            key
        });
        self.rooms.join(key, ctx.conn, membership, false);
        if let Some(room) = self.rooms.get_mut(key) {
            room.data += usize::from(is_control_channel);
        }
        let room = self.room_view(&name, ctx.now);
        let handler = self.handlers.get_mut(&name);
        let actions = if is_control_channel {
            let message = "Connected to remote control channel";
            ctx.reply(&ServerMessage::ControlWelcome { message, room: &name, time: room.unix_ms() });
            handler.on_control_join(&room, &client)
        } else {
            let welcome = handler.welcome_message(&room, &client);
            ctx.reply_requested(welcome);
            handler.on_join(&room, &client)
        };
        self.apply_actions(ctx, &name, actions);
        Ok(())
    }

    /// Schedules the next call of the heartbeat hook, if the room is open.
    fn schedule_room_heartbeat(&self, ctx: &mut ConnectionContext<'_>, room: RoomKey) {
        if let Some(interval) = ctx.limits.heartbeat.interval.filter(|_| self.is_open(room)) {
            let event = TimerEvent::Broadcast(BroadcastTimer::RoomHeartbeat(room));
            ctx.timers.insert(ctx.now.monotonic + interval, event);
        }
    }

    /// Removes a connection from its room. Returns the room's name and the actions of its handler.
    fn remove_member(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        conn: ConnId,
        close: &ConnectionClose<'_>,
    ) -> Option<(String, Vec<RoomAction>)> {
        let ConnectionClose { code, reason, .. } = *close;
        let key = self.rooms.room_of(conn)?;
        let name = self.room_name(key)?;
        let (membership, _) = self.rooms.leave(conn, None, &close.leave_reason())?;
        if let Some(room) = self.rooms.get_mut(key) {
            room.data -= usize::from(membership.is_control_channel);
        }
        let room = self.room_view(&name, ctx.now);
        let actions = on_leave(self.handlers.get_mut(&name), &room, &membership, code, reason);
        Some((name, actions))
    }

    /// Performs the actions of a room handler, and those that result from closing connections. Actions on connections of other rooms are
    /// ignored.
    fn apply_actions(&mut self, ctx: &mut ConnectionContext<'_>, name: &str, actions: Vec<RoomAction>) {
        let mut pending = VecDeque::from(actions);
        while let Some(action) = pending.pop_front() {
            let is_here = |conn: ConnId| self.rooms.room_name_of(conn) == Some(name);
            match action {
                RoomAction::Send(Recipients::Connection(conn), message) if is_here(conn) => ctx.send(&[conn], &message),
                RoomAction::Send(Recipients::Members, message) => ctx.send(&self.members(name, false), &message),
                RoomAction::Send(Recipients::ControlChannels, message) => ctx.send(&self.members(name, true), &message),
                RoomAction::Broadcast(relay) => {
                    let room = self.room_view(name, ctx.now);
                    let message = wrap(ctx.limits.broadcast.envelope, &room, MessageSender::Handler, &relay);
                    ctx.send_text(&self.members(name, false), message);
                }
                RoomAction::Close(conn, code, reason) if is_here(conn) => {
                    let (code, reason) = CloseCode(code).for_frame(&reason);
                    let close = ConnectionClose { code, reason, server_reason: Some(reason) };
                    if let Some((_, more)) = self.remove_member(ctx, conn, &close) {
                        pending.extend(more);
                    }
                    ctx.close(conn, code, reason);
                }
                // The connection is not in this room.
                RoomAction::Send(Recipients::Connection(_), _) | RoomAction::Close(..) => {}
            }
        }
    }
}

/// Why a URL without a valid room name is rejected.
const ROOM_NAME_MISSING: &str =
    "Room name required: neither the path nor the parameter room has a name of 1 to 128 bytes";

/// Informs the room handler that a member or control channel has left.
fn on_leave(
    handler: &mut dyn RoomHandler,
    room: &RoomView<'_>,
    Membership { client, is_control_channel }: &Membership,
    code: CloseCode,
    reason: &str,
) -> Vec<RoomAction> {
    if *is_control_channel {
        handler.on_control_leave(room, client, code.get(), reason)
    } else {
        handler.on_leave(room, client, code.get(), reason)
    }
}
