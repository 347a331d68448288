//! How an entry changes a room: with the code of the dialects, and with nothing but the entry and the room as its input.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::entry::{Command, Entrance, Entry, RoomReply, RoomRequest, SavedClose};
use super::replica::Replica;
use crate::broadcast::{ClientInfo, Entrant, PostBody};
use crate::connection_context::ConnectionState;
use crate::control_surface::CreateRoomOptions;
use crate::dialect::{Dialect, DialectSet};
use crate::event_sink::{ConnId, EventSink};
use crate::hub::Hub;
use crate::hub_timers::{MAX_TIMER_BYTES_PER_CALL, MAX_TIMERS_PER_CALL};
use crate::json::MessageError;
use crate::message::MessageParser;
use crate::rooms::IdGenerator;
use jamjam_core::time::{Time, WallClock};

impl Replica {
    /// Runs the timers that are due, and then the command. `sender` is the connection of the command, if it is local and open.
    pub(super) fn execute(
        &mut self,
        entry: &Entry,
        sender: Option<ConnId>,
        sink: &mut dyn EventSink,
    ) -> (Result<(), MessageError>, Option<RoomReply>) {
        self.time_us = self.time_us.max(entry.time_us);
        let now = wall_clock(self.time_us);
        let name = room_name(&entry.command);
        let is_first = self.description.names.is_empty();
        if let (true, Dialect::Broadcast, Some(name)) = (is_first, self.dialect, name) {
            self.hub.dialects.broadcast.handlers.get_mut(name).restore(Value::Null);
        }
        self.hub.ids = IdGenerator::new(entry.seed);
        if let Some(role) = &mut self.hub.replica {
            (role.is_applying, role.entering) =
                (true, sender.filter(|_| matches!(entry.command, Command::Enter { .. })));
        }
        let was_open = self.room().is_some();
        let (members, held) = (self.members(), self.hub.dialects.broadcast.delayed_bytes());
        for _ in 0..MAX_TIMERS_PER_CALL {
            // The number of receivers in all processes counts, so that each of them runs the same timers.
            let relayed = held.saturating_sub(self.hub.dialects.broadcast.delayed_bytes());
            if (members * relayed) as u64 >= MAX_TIMER_BYTES_PER_CALL {
                break;
            }
            let Some(event) = self.hub.timers.pop_due(now.monotonic) else { break };
            self.hub.on_timer(now, event, sink);
        }
        let done = self.run(now, &entry.command, sink);
        if let Some(role) = &mut self.hub.replica {
            (role.is_applying, role.entering) = (false, None);
        }
        if let Some(conn) = entry.command.conn().filter(|conn| !self.is_member(*conn)) {
            self.hub.connections.remove(&conn);
        }
        if was_open && self.room().is_none() {
            let Hub { timers, dialects, .. } = &mut self.hub;
            timers.retain(|event| dialects.awaits(event));
        }
        if is_first {
            self.description = self.describe(name, now);
        }
        done
    }

    fn run(
        &mut self,
        now: WallClock,
        command: &Command,
        sink: &mut dyn EventSink,
    ) -> (Result<(), MessageError>, Option<RoomReply>) {
        let outcome = match command {
            Command::Enter { conn, source, entrance } => {
                self.enter(now, (*conn, *source), entrance, sink);
                self.hub
                    .context(now, *conn, sink)
                    .zip(entrance.message())
                    .map_or(Ok(()), |((mut ctx, dialects), message)| dialects.on_message(&mut ctx, message, 0))
            }
            Command::Message { conn, text } => {
                // The process of the sender has checked the length.
                let enabled = DialectSet::only(self.dialect);
                let parser = MessageParser { dialect: Some(self.dialect), enabled, max_message_bytes: usize::MAX };
                let context = self.hub.context(now, *conn, sink);
                context.map_or(Err(MessageError::NOT_IN_ROOM), |(mut ctx, dialects)| {
                    dialects.on_message(&mut ctx, parser.parse(text).message?, text.len())
                })
            }
            Command::Leave { conn, close } => {
                self.hub.remove_connection(now, *conn, &close.close(), sink);
                Ok(())
            }
            Command::Depart { process } => {
                let gone: Vec<ConnId> = self.connections().filter(|conn| conn.process() == *process).collect();
                for conn in gone {
                    self.hub.remove_connection(now, conn, &SavedClose::lost().close(), sink);
                }
                Ok(())
            }
            Command::Due => Ok(()),
            Command::Request(request) => return (Ok(()), Some(self.serve(now, request, sink))),
        };
        (outcome, None)
    }

    /// Adds a connection, and lets it enter if its URL names the room.
    fn enter(
        &mut self,
        now: WallClock,
        (conn, source): (ConnId, IpAddr),
        entrance: &Entrance,
        sink: &mut dyn EventSink,
    ) {
        let mut state = ConnectionState::new(source, Some(self.dialect), now.monotonic);
        state.is_dialect_in_url = !matches!(entrance, Entrance::Jamjam { is_newer: false, .. });
        self.hub.connections.insert(conn, state);
        let Some((mut ctx, dialects)) = self.hub.context(now, conn, sink) else { return };
        match entrance {
            Entrance::Broadcast { room, claims, query, is_control_channel } => {
                let client = ClientInfo { conn, source, claims: claims.clone(), query: query.clone() };
                let (room, client) = (room.clone(), Arc::new(client));
                let entrant = Entrant { room, client, is_control_channel: *is_control_channel };
                dialects.broadcast.enter(&mut ctx, entrant);
            }
            Entrance::WebRtc { room_id, user_id, user_name } => {
                dialects.webrtc.enter(&mut ctx, room_id, user_id, user_name);
            }
            Entrance::Jamjam { .. } | Entrance::ControlSurface { .. } => {}
        }
    }

    fn serve(&mut self, now: WallClock, request: &RoomRequest, sink: &mut dyn EventSink) -> RoomReply {
        let hub = &mut self.hub;
        match request {
            RoomRequest::Post { room, source, format, body } => {
                let post = (*format, PostBody::parse(body.as_bytes()));
                RoomReply::Posted(hub.post_to_room(now, *source, room, post, sink))
            }
            RoomRequest::Create { code, max_members, lifetime_ms } => {
                let lifetime = Some(Duration::from_millis(*lifetime_ms));
                let options = CreateRoomOptions { code: code.clone(), max_members: Some(*max_members), lifetime };
                RoomReply::Created(hub.create_room(now, options))
            }
            RoomRequest::Close { code } => RoomReply::Count(hub.close_room(now, code, sink)),
            RoomRequest::SetParameter { code, name, value } => {
                RoomReply::Count(hub.broadcast_param(now, Some(code), name, *value, sink))
            }
            RoomRequest::ClearParameters { code } => RoomReply::Count(hub.clear_parameters(now, code, sink)),
            RoomRequest::Visualize { code, data } => {
                RoomReply::Count(hub.broadcast_visualization(now, Some(code), data, sink))
            }
            RoomRequest::CloseByOperator { room } => {
                RoomReply::Closed(hub.close_room_of(now, self.dialect, room, sink))
            }
        }
    }
}

/// The time of an entry on both clocks: the monotonic one of a cluster counts from the Unix epoch as well.
pub(super) fn wall_clock(time_us: u64) -> WallClock {
    WallClock::new(Time::from_nanos(time_us.saturating_mul(1_000)), Duration::from_micros(time_us))
}

/// The room that the command names, if it names one.
fn room_name(command: &Command) -> Option<&str> {
    match command {
        Command::Enter { entrance, .. } => match &**entrance {
            Entrance::Broadcast { room, .. } => Some(room),
            Entrance::WebRtc { room_id, .. } => Some(room_id),
            Entrance::Jamjam { .. } | Entrance::ControlSurface { .. } => None,
        },
        Command::Request(RoomRequest::Post { room, .. }) => Some(room),
        _ => None,
    }
}
