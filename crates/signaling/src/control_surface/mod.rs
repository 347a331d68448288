//! The control surface dialect (`bbx`): a program creates a room, and clients join it by its code and set parameters of the program.
//!
//! A room stays open until the program closes it or its lifetime ends. The event listeners receive each action of a client
//! as a [`ControlSurfaceEvent`](super::ControlSurfaceEvent), and the other clients of the room receive each new value.

mod guesses;
pub(super) mod messages;
pub(super) mod room;

use std::sync::Mutex;

use guesses::CodeGuesses;
pub use guesses::{ALL_WRONG_CODES_RATE, WRONG_CODE_RATE};
use messages::{ClientMessage, PingMessage, ServerMessage};
use room::{ControlSurfaceMember, ControlSurfaceRoom, Ranges};
use tracing::warn;

use super::call::Call;
use super::dialect::{Dialect, DialectFacts, ProbeMethod};
use super::json::{MessageError, to_json};
use super::lock::lock;
use super::message_docs::closes;
use super::rooms::{AnyRooms as _, Directory, Rooms};
use crate::close_code::CloseCode;

/// Message types that select this dialect.
const MESSAGE_TYPES: [&str; 6] = ["join", "param", "trigger", "sync", "ping", "leave"];

/// The reply to an unknown room code.
pub(super) const INVALID_ROOM: ServerMessage<'static> =
    ServerMessage::Error { code: "INVALID_ROOM", message: "Invalid room code" };

/// The control surface dialect.
#[derive(Default)]
pub(super) struct ControlSurfaceDialect {
    pub(super) rooms: Rooms<ControlSurfaceRoom>,
    pub(super) ranges: Mutex<Ranges>,
    guesses: Mutex<CodeGuesses>,
}

const JOIN: &str = r#"{"type":"join","room_code":ROOM,"client_name":NAME}"#;

/// What is known about the dialect.
pub(super) static FACTS: DialectFacts = DialectFacts {
    name: "bbx",
    description: "Control surfaces",
    // Other protocols have a `ping` as well, but without `client_time`.
    is_selected_by: Some(|message_type, text| {
        MESSAGE_TYPES.contains(&message_type)
            && (message_type != "ping" || serde_json::from_str::<PingMessage<'_>>(text).is_ok())
    }),
    error: |message| to_json(&ServerMessage::Error { code: "INVALID_MESSAGE", message }),
    channels: |schemas, _| {
        let title = "Control surfaces (bbx)";
        vec![schemas.channel::<ClientMessage<'_>, ServerMessage<'_>>(Dialect::ControlSurface, title)]
    },
    closes: &[closes! {
        /// The client has sent `leave`.
        NORMAL_CLOSURE "";
        /// The program closed the room, or its lifetime ended.
        NORMAL_CLOSURE "Room closed";
        /// 20 wrong room codes on this connection.
        POLICY_VIOLATION "Too many wrong codes";
    }],
    shutdown_close: (CloseCode::GOING_AWAY, ""),
    probe_types: ["ping", "pong"],
    probe_method: ProbeMethod::Timestamp,
    join_messages: [JOIN; 2],
    load_message: r#"{"type":"param","param":"TEXT","value":NUMBER}"#,
    names_senders: false,
    returns_messages: false,
    room_limit: "members of a room: BBX_MAX_CLIENTS",
};

impl ControlSurfaceDialect {
    /// Handles a message of the connection that causes the call.
    pub(super) fn on_text(&self, call: &mut Call<'_>, text: &str) -> Result<(), MessageError> {
        match ClientMessage::parse(text)? {
            ClientMessage::Join(message) => self.join(call, &message.room_code),
            ClientMessage::Ping(PingMessage { client_time }) => {
                if !client_time.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                    return Err(MessageError::ignored("client_time is not a number"));
                }
                let server_time = call.now.unix_us();
                call.reply(&ServerMessage::Pong { client_time, server_time });
                Ok(())
            }
            // Without a room, nothing can be left.
            ClientMessage::Leave if !self.rooms.is_member(call.sender.conn) => {
                call.close(call.sender.conn, CloseCode::NORMAL_CLOSURE, "");
                Ok(())
            }
            message => {
                let called = self.rooms.call_own(call, |room, call| room.on_message(call, message, &self.ranges));
                called.ok_or(MessageError::NOT_IN_ROOM)?
            }
        }
    }

    fn join(&self, call: &mut Call<'_>, room_code: &str) -> Result<(), MessageError> {
        let (now, from) = (call.now.monotonic, call.sender.source);
        let checked = lock(&self.guesses).may_check(now, from);
        let member = ControlSurfaceMember { node_id: lock(&call.server.ids).uuid() };
        let find = |directory: &mut Directory<_>| directory.find(room_code).filter(|_| checked.is_ok());
        let Some(joined) = self.rooms.change_room(call, find, |room, call| room.enter(call, member)) else {
            if checked.is_err() {
                call.effects.counters.codes_not_checked += 1;
            } else if !self.rooms.directory().was_closed(room_code)
                && lock(&self.guesses).on_wrong_code(now, from, room_code)
            {
                warn!(target: "signaling", dialect = Dialect::ControlSurface.name(), "too many wrong room codes; only addresses that joined before can join");
            }
            // The reply does not show whether the code was checked.
            call.reply(&INVALID_ROOM);
            if !self.rooms.count_failed_guess(call, "Too many wrong codes") {
                call.effects.counters.requests_rejected += 1;
            }
            return Err(MessageError::Rejected(checked.err().unwrap_or("no room has this code")));
        };
        joined?;
        lock(&self.guesses).on_join(now, from);
        Ok(())
    }
}
