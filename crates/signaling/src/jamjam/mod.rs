//! The dialect of the jamjam app: clients create, list and join rooms, and exchange addresses and chat messages.
//!
//! Two generations of clients meet in the same rooms. Newer ones connect to [`NEWER_PATH`](super::route::NEWER_PATH) and receive invite
//! codes of nine characters and more fields. As they disconnect on a message that they cannot read, everything is checked before it is sent
//! to other members.

mod membership;
mod messages;
mod room;
mod test_room;

use std::time::Duration;

use super::connection_context::ConnectionContext;
use super::dialect_handler::DialectHandler;
use super::event_sink::ConnId;
use super::json::MessageError;
use super::limits::{Heartbeat, SignalingLimits};
use super::member_log::{ConnectionClose, LEFT_ROOM};
use super::rooms::{Member, RoomDirectory, RoomKey};
use jamjam_core::rate_limit::{WindowLimit, WindowLimiter};

use membership::{PEER_MESSAGE, create_room, join_room, list_rooms, new_member, reject};
use room::{JamjamMember, JamjamRooms, by_generation, leave_room};

pub(super) use membership::MAX_NAME_BYTES;
pub(super) use messages::parse;
pub use messages::{Candidate, CandidateType, ChatMessage, ClientMessage, Peer, PeerMessage, RoomInfo, ServerMessage};

/// Maximum number of candidates of a peer.
const MAX_CANDIDATES: usize = 16;

/// Message types that select this dialect.
pub(super) const MESSAGE_TYPES: [&str; 6] =
    ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage"];

/// Maximum number of wrong passwords per source address. Each wrong password also counts towards the limit of its connection.
const WRONG_PASSWORD_LIMIT: WindowLimit = WindowLimit { count: 100, period: Duration::from_secs(15 * 60) };

/// Maximum number of sources whose wrong passwords are counted.
const MAX_GUESSING_SOURCES: usize = 100_000;

/// The jamjam dialect.
pub(super) struct JamjamDialect {
    rooms: JamjamRooms,
    wrong_passwords: WindowLimiter,
}

impl Default for JamjamDialect {
    fn default() -> Self {
        let wrong_passwords = WindowLimiter::new(WRONG_PASSWORD_LIMIT, MAX_GUESSING_SOURCES);
        Self { rooms: JamjamRooms::default(), wrong_passwords }
    }
}

impl DialectHandler for JamjamDialect {
    fn rooms(&self) -> &dyn RoomDirectory {
        &self.rooms
    }

    fn is_protected(&self, _: &SignalingLimits, room: &str) -> bool {
        self.rooms.find(room).is_some_and(|room| room.data.password.is_some())
    }

    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>) {
        // The server loses a connection, or the client closes it. A connection that the server closes does not return.
        if close.server_reason.is_some() || !test_room::keep_place(ctx, &mut self.rooms) {
            leave_room(ctx, &mut self.rooms, (ctx.conn, None), &close.leave_reason());
        }
    }

    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let key = self.rooms.find(room)?.key;
        self.rooms.close(key).map(|room| ctx.close_members(&room))
    }

    /// The pings keep silent connections open in proxies. A missing pong closes no connection, because jamjam clients answer a ping only when
    /// they next read from the socket.
    fn heartbeat(&self, limits: &SignalingLimits) -> Heartbeat {
        Heartbeat { timeout: Duration::MAX, ..limits.heartbeat }
    }

    /// Only members are pinged. Outside rooms, an older client takes the first frame that it receives as the answer to its request.
    fn is_pinged(&self, conn: ConnId) -> bool {
        self.rooms.room_of(conn).is_some()
    }
}

impl JamjamDialect {
    /// The place of a lost connection in this room is kept no longer.
    pub(super) fn on_place_timer(&mut self, ctx: &mut ConnectionContext<'_>, room: RoomKey, lost: ConnId) {
        let rooms = &mut self.rooms;
        match rooms.get(room).and_then(|room| room.data.owner.as_ref()).map(|owner| owner.conn) {
            Some(conn) if conn != lost => _ = test_room::reveal_successor(ctx, rooms, conn),
            _ => leave_room(ctx, rooms, (lost, None), "connection lost"),
        }
    }

    /// Handles a message of `bytes` bytes.
    pub(super) fn on_message(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        message: Result<ClientMessage, &'static str>,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let Self { rooms, wrong_passwords } = self;
        let message = match message {
            Ok(message) => message,
            Err(reason) => return reject(ctx, reason),
        };
        if !matches!(message, ClientMessage::UpdatePeerInfo { .. }) {
            test_room::reveal_successor(ctx, rooms, ctx.conn);
        }
        match message {
            ClientMessage::CreateRoom { room_name, password, peer_name, link_key, features, .. } => {
                let member = new_member(ctx, peer_name, link_key, &features)?;
                create_room(ctx, rooms, (room_name, password), member)?;
                rooms.log_message("CreateRoom", ctx.conn, 0, bytes);
            }
            ClientMessage::JoinRoom { room_id, password, peer_name, link_key, features, .. } => {
                let member = new_member(ctx, peer_name, link_key, &features)?;
                let others = join_room(ctx, (rooms, wrong_passwords), &room_id, password.as_deref(), member)?;
                rooms.log_message("JoinRoom", ctx.conn, others, bytes);
            }
            ClientMessage::LeaveRoom => {
                let others = rooms.member(ctx.conn).map_or(0, |(_, room)| room.members.len() - 1);
                rooms.log_message("LeaveRoom", ctx.conn, others, bytes);
                leave_room(ctx, rooms, (ctx.conn, None), LEFT_ROOM);
            }
            ClientMessage::UpdatePeerInfo { candidates, public_addr, local_addr } => {
                if candidates.len() > MAX_CANDIDATES {
                    return reject(ctx, "Too many candidates");
                }
                let addresses = candidates.iter().map(|candidate| &candidate.address);
                if addresses.chain(&public_addr).chain(&local_addr).any(|address| address.port() == 0) {
                    return Err(MessageError::ignored("port 0 in an address"));
                }
                let member = rooms.member_mut(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
                let peer = member.successor.as_mut().unwrap_or(&mut member.peer);
                if !candidates.is_empty() {
                    peer.candidates = candidates;
                }
                (peer.public_addr, peer.local_addr) = (public_addr, local_addr);
                let is_successor = test_room::reveal_successor(ctx, rooms, ctx.conn);
                let (member, room) = rooms.member(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
                for (others, peer) in
                    by_generation(room, ctx.conn, &member.data.peer).into_iter().filter(|_| !is_successor)
                {
                    ctx.send(&others, &ServerMessage::PeerUpdated { peer });
                }
                rooms.log_message("UpdatePeerInfo", ctx.conn, room.members.len() - 1, bytes);
            }
            ClientMessage::ListRooms => return list_rooms(ctx, rooms),
            ClientMessage::ChatMessage(mut chat) => {
                let (Member { data: JamjamMember { peer, is_newer, .. }, .. }, room) =
                    rooms.member(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
                (chat.sender_id, chat.sender_name) = (peer.id.clone(), peer.name.clone());
                // Older clients show their own message without waiting for it.
                let mut receivers = room.others(ctx.conn);
                receivers.extend(is_newer.then_some(ctx.conn));
                ctx.send(&receivers, &ServerMessage::ChatMessage(chat));
                rooms.log_message("ChatMessage", ctx.conn, receivers.len(), bytes);
            }
            ClientMessage::PeerMessage(message) => {
                let receivers = send_peer_message(ctx, rooms, message)?;
                rooms.log_message("PeerMessage", ctx.conn, receivers, bytes);
            }
        }
        Ok(())
    }
}

/// Sends a message to the members that it is for, if any, and returns their number.
fn send_peer_message(
    ctx: &mut ConnectionContext<'_>,
    rooms: &JamjamRooms,
    message: PeerMessage,
) -> Result<usize, MessageError> {
    let (sender, room) = rooms.member(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
    let is_receiver = |Member { data: JamjamMember { peer, is_newer, .. }, .. }: &&Member<_>| {
        let is_supported = *is_newer && peer.features.iter().any(|feature| feature == PEER_MESSAGE);
        is_supported && message.to.as_ref().is_none_or(|to| *to == peer.id)
    };
    let receivers: Vec<ConnId> = room.receivers().filter(is_receiver).map(|member| member.conn).collect();
    let [from, from_name] = [&sender.data.peer.id, &sender.data.peer.name].map(|text| Some(text.clone()));
    ctx.send(&receivers, &ServerMessage::PeerMessage(PeerMessage { from, from_name, ..message }));
    Ok(receivers.len())
}
