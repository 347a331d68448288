//! The control surface dialect (`bbx`): a program creates a room, and clients join it by its code and set parameters of the program.
//!
//! A room stays open until the program closes it or its lifetime ends. The event listeners receive each action of a client
//! as a [`ControlSurfaceEvent`](super::ControlSurfaceEvent), and the other clients of the room receive each new value.

mod guesses;
pub(super) mod messages;
pub(super) mod room;

use std::sync::{Arc, Mutex};

use guesses::CodeGuesses;
use messages::{ClientMessage, PingMessage, ServerMessage};
use room::{ControlSurfaceMember, ControlSurfaceRoom, Ranges};
use tracing::warn;

use super::connection_context::ConnectionContext;
use super::dialect::Dialect;
use super::json::MessageError;
use super::lock::lock;
use super::rooms::{AnyRooms, Directory, Rooms};
use jamjam_core::close_code::CloseCode;

/// Message types that select this dialect.
const MESSAGE_TYPES: [&str; 6] = ["join", "param", "trigger", "sync", "ping", "leave"];

/// The reply to an unknown room code.
pub(super) const INVALID_ROOM: ServerMessage<'static> =
    ServerMessage::Error { code: "INVALID_ROOM", message: "Invalid room code" };

/// The control surface dialect.
#[derive(Default)]
pub(super) struct ControlSurfaceDialect {
    pub(super) rooms: Rooms<ControlSurfaceRoom>,
    pub(super) ranges: Mutex<Arc<Ranges>>,
    guesses: Mutex<CodeGuesses>,
}

/// Whether a first message of this type selects this dialect. Other protocols have a `ping` as well, but without `client_time`.
pub(super) fn is_selected_by(message_type: &str, text: &str) -> bool {
    MESSAGE_TYPES.contains(&message_type)
        && (message_type != "ping" || serde_json::from_str::<PingMessage<'_>>(text).is_ok())
}

impl ControlSurfaceDialect {
    /// Handles a message.
    pub(super) fn on_text(&self, ctx: &mut ConnectionContext<'_>, text: &str) -> Result<(), MessageError> {
        let bytes = text.len();
        match ClientMessage::parse(text)? {
            ClientMessage::Join(message) => self.join(ctx, &message.room_code, bytes),
            ClientMessage::Ping(PingMessage { client_time }) => {
                if !client_time.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                    return Err(MessageError::ignored("client_time is not a number"));
                }
                let server_time = ctx.now.unix_us();
                ctx.reply(&ServerMessage::Pong { client_time, server_time });
                Ok(())
            }
            // Without a room, nothing can be left.
            ClientMessage::Leave if !self.rooms.is_member(ctx.conn) => {
                ctx.close(ctx.conn, CloseCode::NORMAL_CLOSURE, "");
                Ok(())
            }
            message => {
                let ranges = Arc::clone(&lock(&self.ranges));
                let called = self.rooms.call_own(ctx, |room, call| room.on_message(call, message, bytes, &ranges));
                called.ok_or(MessageError::NOT_IN_ROOM)?
            }
        }
    }

    fn join(&self, ctx: &mut ConnectionContext<'_>, room_code: &str, bytes: usize) -> Result<(), MessageError> {
        let (now, from, conn) = (ctx.now.monotonic, ctx.source, ctx.conn);
        let checked = lock(&self.guesses).may_check(now, from);
        let has_synced = self.rooms.read(|directory| directory.room_of(conn), |room| room.has_synced(conn));
        let has_synced = has_synced.unwrap_or(false);
        let member = ControlSurfaceMember { node_id: lock(&ctx.state.ids).uuid(), has_synced };
        let find = |directory: &mut Directory<_>| directory.find(room_code).filter(|_| checked.is_ok());
        let Some(joined) = self.rooms.change_room(ctx, find, |room, call| room.enter(call, member, bytes)) else {
            if checked.is_err() {
                ctx.count(|counters| counters.codes_not_checked += 1);
            } else if !self.rooms.directory().was_closed(room_code)
                && lock(&self.guesses).on_wrong_code(now, from, room_code)
            {
                warn!(target: "signaling", dialect = Dialect::ControlSurface.name(), "too many wrong room codes; only addresses that joined before can join");
            }
            // The reply does not show whether the code was checked.
            ctx.reply(&INVALID_ROOM);
            if ctx.count_failed_guess() {
                self.rooms.call_own(ctx, |room, call| room.roster.leave(call, call.conn, "too many wrong codes"));
                ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Too many wrong codes");
            } else {
                ctx.count(|counters| counters.requests_rejected += 1);
            }
            return Err(MessageError::Rejected(checked.err().unwrap_or("no room has this code")));
        };
        joined?;
        lock(&self.guesses).on_join(now, from);
        Ok(())
    }
}
