//! What a process does for its connection on its own, and what is left to be done in the log of a room.

use std::net::IpAddr;

use super::entry::{Command, Entrance, RoomRequest};
use super::replica::{Replica, RoomDescription};
use crate::broadcast::http_posts::check_post;
use crate::broadcast::{PostBody, PostError, PostFormat};
use crate::close_code::CloseCode;
use crate::connection_context::{ConnectionContext, MAX_JOIN_DEBT};
use crate::control_surface::messages::{ClientMessage as ControlSurfaceMessage, JoinMessage};
use crate::control_surface::{CommandError, CreateRoomOptions};
use crate::dialect::Dialect;
use crate::event_sink::{ConnId, EventSink};
use crate::hub::Hub;
use crate::hub_connections::NewConnection;
use crate::jamjam::JamjamDialect;
use crate::json::{MessageError, to_json};
use crate::message::{ParsedMessage, ParsedText};
use crate::route::Route;
use crate::webrtc::{self, ClientMessage as WebRtcMessage};
use jamjam_core::time::WallClock;

/// What is to be done with the log after an event of a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing.
    Done,
    /// Reply with the open rooms of the dialect ([`Hub::reply_room_list`]).
    List(Dialect),
    /// Append the command to the room with this name.
    Enter {
        /// The dialect.
        dialect: Dialect,
        /// One of the names of the room.
        name: String,
        /// Whether the room is created if no room has this name. If false, [`Hub::on_unknown_room`] answers.
        create: bool,
        /// The given password, which is to be compared with [`Replica::password_hash`]. If it is wrong, [`Hub::on_wrong_password`] answers.
        password: Option<String>,
        /// The entry.
        command: Command,
    },
    /// Create a jamjam room, whose names are those of [`Replica::draft`], with this first command.
    Create {
        /// The entry. [`Command::set_password_hash`] adds the hash of the password.
        command: Command,
        /// The password of the room.
        password: Option<String>,
    },
    /// Append the command to the room of the connection.
    Append(Command),
}

/// Whether the connection of the event is a member of a shared room.
pub(crate) fn is_member(ctx: &ConnectionContext<'_>) -> bool {
    ctx.lobby.as_ref().is_some_and(|lobby| lobby.facts(ctx.conn).is_some())
}

/// Leaves a message of a member to the log of its room.
pub(crate) fn plan_append(ctx: &ConnectionContext<'_>, text: &str) -> Result<Option<Plan>, MessageError> {
    let command = Command::Message { conn: ctx.conn, text: text.to_owned() };
    if is_member(ctx) { Ok(Some(Plan::Append(command))) } else { Err(MessageError::NOT_IN_ROOM) }
}

/// Leaves the join of a new connection to the log of the room that its URL names.
fn plan_enter(ctx: &mut ConnectionContext<'_>, dialect: Dialect, name: String, entrance: Entrance) -> Plan {
    if ctx.check_requested_bytes(MAX_JOIN_DEBT).is_err() {
        ctx.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Too many requests");
        return Plan::Done;
    }
    let create = !ctx.has_too_many_rooms(0);
    let command = Command::Enter { conn: ctx.conn, source: ctx.source, entrance: Box::new(entrance) };
    Plan::Enter { dialect, name, create, password: None, command }
}

impl Entrance {
    /// The message by which the connection enters, if it is one.
    pub(super) fn message(&self) -> Option<ParsedMessage<'_>> {
        match self {
            Self::Jamjam { message, .. } => Some(ParsedMessage::Jamjam(Ok(message.clone()))),
            Self::ControlSurface { room_code } => {
                let room_code = room_code.as_str().into();
                Some(ParsedMessage::ControlSurface(ControlSurfaceMessage::Join(JoinMessage { room_code })))
            }
            Self::Broadcast { .. } | Self::WebRtc { .. } => None,
        }
    }

    /// The text of this message, without a password.
    pub(super) fn text(&self) -> Option<String> {
        match self.message()? {
            ParsedMessage::Jamjam(message) => message.as_ref().ok().map(to_json),
            ParsedMessage::ControlSurface(message) => Some(to_json(&message)),
            _ => None,
        }
    }
}

impl Hub {
    /// Like [`Hub::on_connect`], in a cluster. `room` is the replica of the room that the URL names, if this process follows it.
    pub fn plan_connect(
        &mut self,
        now: WallClock,
        conn: ConnId,
        connection: NewConnection,
        room: Option<&Replica>,
        sink: &mut dyn EventSink,
    ) -> Plan {
        let (mut plan, copy) = (Plan::Done, room.map(|room| &room.hub().dialects.broadcast));
        self.add_connection(now, conn, connection, sink, |ctx, dialects, dialect, route| match route {
            Route::Broadcast(params) => {
                let Some(entrant) = dialects.broadcast.admit(ctx, params, copy) else { return };
                let (client, room) = (&entrant.client, entrant.room.clone());
                let (claims, query) = (client.claims.clone(), client.query.clone());
                let is_control_channel = entrant.is_control_channel;
                let entrance = Entrance::Broadcast { room, claims, query, is_control_channel };
                plan = plan_enter(ctx, dialect, entrant.room, entrance);
            }
            Route::WebRtc(params) if webrtc::admit(ctx, &params) => {
                let (room_id, user_id, user_name) = (params.room_id, params.user_id, params.user_name);
                plan = plan_enter(ctx, dialect, room_id.clone(), Entrance::WebRtc { room_id, user_id, user_name });
            }
            _ => {}
        });
        plan
    }

    /// Like [`Hub::on_parsed_text`], in a cluster. `room` is the replica of the connection's room.
    pub fn plan_message(
        &mut self,
        now: WallClock,
        conn: ConnId,
        ParsedText { text, dialect, message }: ParsedText<'_>,
        room: Option<&mut Replica>,
        sink: &mut dyn EventSink,
    ) -> Plan {
        let plan = self.process_message(now, conn, Some(text), sink, |hub, sink| {
            let message = hub.accept_message(now, conn, dialect, message, sink)?;
            // These are answered from the copy of the room, or need it to be checked.
            let needs_room = matches!(
                message,
                ParsedMessage::Broadcast(_)
                    | ParsedMessage::ControlSurface(ControlSurfaceMessage::Sync)
                    | ParsedMessage::WebRtc(WebRtcMessage::Ping | WebRtcMessage::RequestParticipants)
            );
            if needs_room {
                return room.ok_or(MessageError::NOT_IN_ROOM)?.read(hub, |copy| {
                    let (mut ctx, dialects) = copy.context(now, conn, sink).ok_or(MessageError::NOT_IN_ROOM)?;
                    match message {
                        ParsedMessage::Broadcast(message) => dialects.broadcast.plan(&mut ctx, message, text),
                        message => dialects.on_message(&mut ctx, message, text.len()).map(|()| None),
                    }
                });
            }
            let Some((mut ctx, dialects)) = hub.context(now, conn, sink) else { return Ok(None) };
            match message {
                ParsedMessage::Jamjam(message) => dialects.jamjam.plan(&mut ctx, message, text),
                ParsedMessage::ControlSurface(message) => dialects.control_surface.plan(&mut ctx, message, text),
                _ => plan_append(&ctx, text),
            }
        });
        plan.unwrap_or(Plan::Done)
    }

    /// Answers [`Plan::List`] with the rooms in the order of creation, and the number of members of each.
    pub fn reply_room_list(
        &mut self,
        now: WallClock,
        conn: ConnId,
        rooms: &[(RoomDescription, usize)],
        sink: &mut dyn EventSink,
    ) {
        if let Some((mut ctx, _)) = self.context(now, conn, sink) {
            JamjamDialect::reply_room_list(&mut ctx, rooms);
        }
    }

    /// Answers the command of [`Plan::Enter`] if no room has its name, and counts the guess.
    pub fn on_unknown_room(&mut self, now: WallClock, conn: ConnId, command: &Command, sink: &mut dyn EventSink) {
        let Command::Enter { entrance, .. } = command else { return };
        let scope = self.recorded_scope(now, conn);
        let Some((mut ctx, dialects)) = self.context(now, conn, sink) else { return };
        let sender = (conn, ctx.source, ctx.dialect());
        match entrance.message() {
            // The rooms of a lobby are empty, so the message is rejected.
            Some(message) => {
                let outcome = dialects.on_message(&mut ctx, message, 0);
                self.finish_message(now, sender, scope, entrance.text().as_deref(), outcome, sink);
            }
            None => ctx.reject_and_close(CloseCode::TRY_AGAIN_LATER, "Too many rooms"),
        }
    }

    /// Answers the command of [`Plan::Enter`] if its password is wrong, or was not compared because too many were wrong (`is_limited`).
    pub fn on_wrong_password(
        &mut self,
        now: WallClock,
        conn: ConnId,
        command: &Command,
        is_limited: bool,
        sink: &mut dyn EventSink,
    ) {
        let Command::Enter { entrance, .. } = command else { return };
        let scope = self.recorded_scope(now, conn);
        let Some((mut ctx, dialects)) = self.context(now, conn, sink) else { return };
        let sender = (conn, ctx.source, ctx.dialect());
        let error = dialects.jamjam.on_wrong_password(&mut ctx, is_limited);
        self.finish_message(now, sender, scope, entrance.text().as_deref(), Err(error), sink);
    }

    /// Checks a post to a broadcast room, and returns the request that is to be appended. `replica` is the room, if this process follows it.
    pub fn plan_post(
        &mut self,
        now: WallClock,
        source: IpAddr,
        room: &str,
        (format, PostBody { bytes, payload }): (PostFormat, PostBody<'_>),
        replica: Option<&Replica>,
    ) -> Result<RoomRequest, PostError> {
        let view = replica.map_or(&*self, Replica::hub).dialects.broadcast.room_view(room, now);
        let checked = payload
            .ok_or(PostError::InvalidJson)
            .and_then(|payload| check_post(&mut self.dialects.broadcast, &view, format, &payload));
        if let Err(error) = &checked {
            self.record_post(now, room, bytes, Some(error));
        }
        // A body that was parsed is UTF-8.
        let body = String::from_utf8_lossy(bytes).into_owned();
        checked.map(|()| RoomRequest::Post { room: room.to_owned(), source, format, body })
    }

    /// Checks the options of a new control surface room while `open_rooms` are open in the cluster, and returns the request that is to be the
    /// first entry of the room. Its names are those of [`Replica::draft`].
    pub fn plan_create_room(&self, options: CreateRoomOptions, open_rooms: usize) -> Result<RoomRequest, CommandError> {
        self.check_new_room(&options, open_rooms)?;
        let limits = &self.limits().control_surface;
        let lifetime = options.lifetime.unwrap_or(limits.room_lifetime).as_millis();
        Ok(RoomRequest::Create {
            code: options.code,
            max_members: options.max_members.unwrap_or(limits.max_members),
            lifetime_ms: u64::try_from(lifetime).unwrap_or(u64::MAX),
        })
    }
}
