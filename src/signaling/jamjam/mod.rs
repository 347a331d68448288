//! The dialect of the jamjam app. Clients create, list and join rooms, and exchange addresses and chat messages.
//!
//! Two generations of clients meet in the same rooms. Newer clients connect to [`NEWER_PATH`](super::route::NEWER_PATH). They receive invite
//! codes of nine characters and more fields. A newer client disconnects if it cannot read a message. Therefore, everything is checked before
//! it is sent to other members. Unreadable messages are ignored.

mod messages;

use std::time::Duration;

use serde::Deserialize;
use subtle::ConstantTimeEq;
use tracing::debug;

use super::close_code::CloseCode;
use super::connection_context::{ConnectionContext, MAX_JOIN_DEBT, MAX_LIST_DEBT};
use super::dialect::Dialect;
use super::dialect_handler::DialectHandler;
use super::event_sink::ConnId;
use super::json::{MessageError, to_json};
use super::limits::{Heartbeat, SignalingLimits};
use super::member_log::{CHANGED_ROOM, ConnectionClose, LEFT_ROOM};
use super::rooms::{IdGenerator, Member, MemberData, MemberInfo, Room, RoomDirectory, RoomIter, RoomKey, RoomMap};
use crate::link::parse_link_key;
use crate::rate_limit::{WindowLimit, WindowLimiter};
use crate::sanitize::truncate_bytes;

pub use messages::{Candidate, CandidateType, ChatMessage, ClientMessage, Peer, PeerMessage, RoomInfo, ServerMessage};

/// Maximum number of candidates of a peer.
const MAX_CANDIDATES: usize = 16;

/// Length of a candidate address, in bytes, above which the client receives an error. Other unreadable addresses are ignored.
const MAX_ADDRESS_BYTES: usize = 256;

/// Maximum number of members in a room, including its creator.
const MAX_PEERS_PER_ROOM: usize = 10;

/// Maximum length of names, in bytes. Longer names are truncated.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Maximum length of a password, in bytes. A longer password is rejected: truncating it would let other passwords open the room.
const MAX_PASSWORD_BYTES: usize = 256;

/// The feature of members that receive [`PeerMessage`]. Other features are not passed on.
const PEER_MESSAGE: &str = "peer_message";

/// Message types that select this dialect.
pub(super) const MESSAGE_TYPES: [&str; 6] =
    ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage"];

/// Maximum number of wrong passwords per source address. Each wrong password also counts towards the limit of its connection.
const WRONG_PASSWORD_LIMIT: WindowLimit = WindowLimit { count: 100, period: Duration::from_secs(15 * 60) };

/// Maximum number of sources whose wrong passwords are counted.
const MAX_GUESSING_SOURCES: usize = 100_000;

/// Rooms with their passwords. The names of a room are its id and the invite codes for older and for newer clients.
type JamjamRooms = RoomMap<Option<String>, Peer>;

type JamjamRoom = Room<Option<String>, Peer>;

/// Which of the names of a room is the invite code for clients of one generation.
fn invite_code_index(is_newer: bool) -> usize {
    if is_newer { 2 } else { 1 }
}

impl MemberData for Peer {
    const DIALECT: Dialect = Dialect::Jamjam;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: &self.id, name: Some(&self.name), is_control_channel: false }
    }

    fn user(&self) -> &str {
        &self.name
    }
}

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
        self.rooms.find(room).is_some_and(|room| room.data.is_some())
    }

    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>) {
        leave_room(ctx, &mut self.rooms, None, &close.leave_reason());
    }

    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let key = self.rooms.find(room)?.key;
        self.rooms.close(key).map(|room| ctx.close_members(&room))
    }

    /// jamjam clients answer a ping only when they next read from the socket. Therefore, the server does not ping jamjam clients.
    fn heartbeat(&self, _: &SignalingLimits) -> Option<Heartbeat> {
        None
    }
}

/// Parses a message. The inner error is the reason with which a message is rejected; other unreadable messages are ignored.
pub(super) fn parse(text: &str) -> Result<Result<ClientMessage, &'static str>, MessageError> {
    match serde_json::from_str(text) {
        Ok(message) => Ok(Ok(message)),
        Err(_) if has_overlong_candidate(text) => Ok(Err("Candidate address too long")),
        Err(error) => Err(error.into()),
    }
}

impl JamjamDialect {
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
        match message {
            ClientMessage::CreateRoom { room_name, password, peer_name, link_key, features, .. } => {
                let peer = new_peer(ctx, peer_name, link_key, &features)?;
                create_room(ctx, rooms, (room_name, password), peer)?;
                rooms.log_message("CreateRoom", ctx.conn, 0, bytes);
            }
            ClientMessage::JoinRoom { room_id, password, peer_name, link_key, features, .. } => {
                let peer = new_peer(ctx, peer_name, link_key, &features)?;
                let others = join_room(ctx, (rooms, wrong_passwords), &room_id, password.as_deref(), peer)?;
                rooms.log_message("JoinRoom", ctx.conn, others, bytes);
            }
            ClientMessage::LeaveRoom => {
                let others = rooms.member(ctx.conn).map_or(0, |(_, room)| room.members.len() - 1);
                rooms.log_message("LeaveRoom", ctx.conn, others, bytes);
                leave_room(ctx, rooms, None, LEFT_ROOM);
            }
            ClientMessage::UpdatePeerInfo { candidates, public_addr, local_addr } => {
                if candidates.len() > MAX_CANDIDATES {
                    return reject(ctx, "Too many candidates");
                }
                let addresses = candidates.iter().map(|candidate| &candidate.address);
                if addresses.chain(&public_addr).chain(&local_addr).any(|address| address.port() == 0) {
                    return Err(MessageError::ignored("port 0 in an address"));
                }
                let (peer, others) = rooms.member_mut(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
                if !candidates.is_empty() {
                    peer.candidates = candidates;
                }
                (peer.public_addr, peer.local_addr) = (public_addr, local_addr);
                let receivers = others.len();
                for (others, peer) in by_generation(ctx, others, peer) {
                    ctx.send(&others, &ServerMessage::PeerUpdated { peer });
                }
                rooms.log_message("UpdatePeerInfo", ctx.conn, receivers, bytes);
            }
            ClientMessage::ListRooms => return list_rooms(ctx, rooms),
            ClientMessage::ChatMessage(mut chat) => {
                let (peer, mut receivers) = rooms.member_mut(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
                (chat.sender_id, chat.sender_name) = (peer.id.clone(), peer.name.clone());
                // Older clients show their own message without waiting for it.
                receivers.extend(Some(ctx.conn).filter(|conn| ctx.is_newer(*conn)));
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

/// Whether an unreadable message is an `UpdatePeerInfo` with a candidate address above [`MAX_ADDRESS_BYTES`].
fn has_overlong_candidate(text: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(tag = "type", content = "data")]
    enum Message {
        UpdatePeerInfo { candidates: Vec<CandidateText> },
    }
    #[derive(Deserialize)]
    struct CandidateText {
        address: String,
    }
    serde_json::from_str(text).is_ok_and(|Message::UpdatePeerInfo { candidates }| {
        candidates.iter().any(|candidate| candidate.address.len() > MAX_ADDRESS_BYTES)
    })
}

/// Sends a message to the members that it is for. Returns their number. Without any, the message is dropped.
fn send_peer_message(
    ctx: &mut ConnectionContext<'_>,
    rooms: &JamjamRooms,
    message: PeerMessage,
) -> Result<usize, MessageError> {
    let (sender, room) = rooms.member(ctx.conn).ok_or(MessageError::NOT_IN_ROOM)?;
    let is_receiver = |member: &&Member<Peer>| {
        message.to.as_ref().is_none_or(|to| *to == member.data.id)
            && member.data.features.iter().any(|feature| feature == PEER_MESSAGE)
            && ctx.is_newer(member.conn)
    };
    let receivers: Vec<ConnId> = room.members.iter().filter(is_receiver).map(|member| member.conn).collect();
    let [from, from_name] = [&sender.data.id, &sender.data.name].map(|text| Some(text.clone()));
    ctx.send(&receivers, &ServerMessage::PeerMessage(PeerMessage { from, from_name, ..message }));
    Ok(receivers.len())
}

/// Removes the connection from its room and informs the other members.
fn leave_room(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms, keep: Option<RoomKey>, reason: &str) {
    if let Some((peer, others)) = rooms.leave(ctx.conn, keep, reason) {
        ctx.send(&others, &ServerMessage::PeerLeft { peer_id: peer.id });
    }
}

fn create_room(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    (name, password): (String, Option<String>),
    peer: Peer,
) -> Result<(), MessageError> {
    if rooms.rooms_created_by(ctx.source) >= ctx.limits.max_rooms_per_address {
        ctx.count_rejection();
        return reject(ctx, "Too many rooms");
    }
    if password.as_ref().is_some_and(|password| password.len() > MAX_PASSWORD_BYTES) {
        return reject(ctx, "Password too long");
    }
    leave_room(ctx, rooms, None, CHANGED_ROOM);
    let names: [fn(&mut IdGenerator) -> String; 3] =
        [IdGenerator::room_id, IdGenerator::invite_code, IdGenerator::long_invite_code];
    let names = names.map(|generate| ctx.ids.unique(generate, |name| rooms.find(name).is_none()));
    let (room_id, invite_code) = (names[0].clone(), names[invite_code_index(ctx.is_newer(ctx.conn))].clone());
    ctx.reply(&ServerMessage::RoomCreated { room_id, peer_id: peer.id.clone(), invite_code });
    let name = truncate_bytes(name, MAX_NAME_BYTES);
    let key = rooms.create(names.into(), Some(name), Some(ctx.source), ctx.now.unix_ms(), password);
    rooms.join(key, ctx.conn, peer);
    Ok(())
}

/// Adds the connection to a room. Returns the number of other members.
fn join_room(
    ctx: &mut ConnectionContext<'_>,
    (rooms, wrong_passwords): (&mut JamjamRooms, &mut WindowLimiter),
    name: &str,
    password: Option<&str>,
    peer: Peer,
) -> Result<usize, MessageError> {
    // Room ids and the two kinds of invite codes have different lengths, so `name` cannot match several.
    let Some(room) = rooms.find(name) else { return reject(ctx, "Room not found") };
    let key = room.key;
    if let Some(expected) = &room.data {
        if wrong_passwords.retry_after(ctx.now.monotonic, ctx.source).is_some() {
            ctx.count_rejection();
            return reject(ctx, "Too many wrong passwords from this address");
        }
        let given = password.unwrap_or_default();
        // The comparison takes constant time for passwords of equal length.
        if password.is_none() || !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            // The limit is not reached yet, so the password is counted.
            let _ = wrong_passwords.check(ctx.now.monotonic, ctx.source);
            let rejected = reject(ctx, "Invalid password");
            if ctx.count_failed_guess() {
                leave_room(ctx, rooms, None, "too many wrong passwords");
                ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Too many wrong passwords");
            }
            return rejected;
        }
    }
    if room.members.len() >= MAX_PEERS_PER_ROOM {
        return reject(ctx, "Room is full");
    }
    if ctx.check_requested_bytes(MAX_JOIN_DEBT).is_err() {
        ctx.count_rejection();
        return reject(ctx, "Too many requests");
    }
    leave_room(ctx, rooms, Some(key), CHANGED_ROOM);
    let mut receivers = 0;
    if let Some(room) = rooms.get(key) {
        let is_newer = ctx.is_newer(ctx.conn);
        let peers = room.members.iter().map(|member| member.data.clone());
        let peers = if is_newer { peers.collect() } else { peers.map(Peer::for_older_clients).collect() };
        let others = room.connections();
        receivers = others.len();
        let joined = ServerMessage::RoomJoined {
            room_id: room.name().to_owned(),
            peer_id: peer.id.clone(),
            invite_code: is_newer.then(|| room.names[invite_code_index(true)].clone()),
            peers,
        };
        ctx.reply_requested(to_json(&joined));
        for (others, peer) in by_generation(ctx, others, &peer) {
            ctx.send_requested(&others, to_json(&ServerMessage::PeerJoined { peer }));
        }
    }
    rooms.join(key, ctx.conn, peer);
    Ok(receivers)
}

fn list_rooms(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms) -> Result<(), MessageError> {
    if ctx.check_requested_bytes(MAX_LIST_DEBT).is_err() {
        ctx.count_rejection();
        return reject(ctx, "Too many requests");
    }
    let (is_newer, test_room_prefix) = (ctx.is_newer(ctx.conn), ctx.limits.test_room_prefix.as_deref());
    let info = |room: &JamjamRoom| {
        let name = room.display_name.clone().unwrap_or_default();
        let is_test_room = test_room_prefix.is_some_and(|prefix| name.starts_with(prefix));
        RoomInfo {
            id: room.name().to_owned(),
            name,
            peer_count: room.members.len(),
            max_peers: MAX_PEERS_PER_ROOM,
            has_password: room.data.is_some(),
            invite_code: room.names[invite_code_index(is_newer)].clone(),
            test_room: is_newer.then_some(is_test_room),
        }
    };
    let list = |rooms: RoomIter<'_, _, _>| to_json(&ServerMessage::RoomList { rooms: rooms.map(info).collect() });
    ctx.reply_requested(rooms.json(usize::from(is_newer), list));
    Ok(())
}

/// `members` by generation, each with what it sees of `peer`.
fn by_generation(ctx: &ConnectionContext<'_>, members: Vec<ConnId>, peer: &Peer) -> [(Vec<ConnId>, Peer); 2] {
    let (newer, older) = members.into_iter().partition(|conn| ctx.is_newer(*conn));
    [(newer, peer.clone()), (older, peer.clone().for_older_clients())]
}

fn reject<T>(ctx: &mut ConnectionContext<'_>, reason: &'static str) -> Result<T, MessageError> {
    debug!(target: "signaling", dialect = Dialect::Jamjam.name(), conn = ctx.conn.0, reason, "request rejected");
    ctx.reply(&ServerMessage::Error { message: reason.to_owned() });
    Err(MessageError::Rejected(reason))
}

/// A new member, unless its link key is invalid.
fn new_peer(
    ctx: &mut ConnectionContext<'_>,
    name: String,
    link_key: Option<String>,
    features: &[String],
) -> Result<Peer, MessageError> {
    if link_key.as_deref().is_some_and(|key| parse_link_key(key).is_none()) {
        return reject(ctx, "Invalid link key");
    }
    let known = features.iter().find(|feature| *feature == PEER_MESSAGE);
    Ok(Peer {
        id: ctx.ids.uuid(),
        name: truncate_bytes(name, MAX_NAME_BYTES),
        candidates: Vec::new(),
        public_addr: None,
        local_addr: None,
        joined_at: Some(ctx.now.unix_ms() / 1_000),
        features: known.cloned().into_iter().collect(),
        link_key,
    })
}
