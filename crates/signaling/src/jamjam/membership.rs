//! How jamjam clients find, enter and leave rooms, and what each generation of clients sees.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tracing::debug;

use super::messages::{Peer, RoomInfo, ServerMessage};
use crate::close_code::CloseCode;
use crate::connection_context::{ConnectionContext, MAX_JOIN_DEBT};
use crate::dialect::Dialect;
use crate::event_sink::ConnId;
use crate::json::{MessageError, to_json};
use crate::member_log::CHANGED_ROOM;
use crate::rooms::{
    INVITE_CODE_LEN, IdGenerator, LONG_INVITE_CODE_LEN, MemberData, MemberInfo, Room, RoomKey, RoomMap,
};
use jamjam_core::link::parse_link_key;
use jamjam_core::rate_limit::WindowLimiter;
use jamjam_core::sanitize::truncate_bytes;

/// Maximum number of members in a room, including its creator.
const MAX_PEERS_PER_ROOM: usize = 10;

/// Maximum length of names, in bytes. Longer names are truncated.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// Maximum length of a password, in bytes. A longer password is rejected: truncating it would let other passwords open the room.
const MAX_PASSWORD_BYTES: usize = 256;

/// The feature of members that receive [`PeerMessage`]. Other features are not passed on.
pub(super) const PEER_MESSAGE: &str = "peer_message";

/// Rooms with their passwords. The names of a room are its id and the invite codes for older and for newer clients.
pub(super) type JamjamRooms = RoomMap<Option<String>, JamjamMember>;

type JamjamRoom = Room<Option<String>, JamjamMember>;

/// A member: what newer clients see of it, and whether it is a newer client itself.
#[derive(Serialize, Deserialize)]
pub(super) struct JamjamMember {
    pub(super) peer: Peer,
    pub(super) is_newer: bool,
}

/// Which of the names of a room is the invite code for clients of one generation.
fn invite_code_index(is_newer: bool) -> usize {
    if is_newer { 2 } else { 1 }
}

impl MemberData for JamjamMember {
    const DIALECT: Dialect = Dialect::Jamjam;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: &self.peer.id, name: Some(&self.peer.name), is_control_channel: false }
    }

    fn user(&self) -> &str {
        &self.peer.name
    }
}

/// Removes the connection from its room and informs the other members.
pub(super) fn leave_room(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    keep: Option<RoomKey>,
    reason: &str,
) {
    if let Some((left, others)) = rooms.leave(ctx.conn, keep, reason) {
        ctx.send(&others, &ServerMessage::PeerLeft { peer_id: left.peer.id });
    }
}

/// Checks that the source may create a room with this password.
pub(super) fn check_new_room(
    ctx: &mut ConnectionContext<'_>,
    rooms: &JamjamRooms,
    password: Option<&str>,
) -> Result<(), MessageError> {
    if ctx.has_too_many_rooms(rooms.rooms_created_by(ctx.source)) {
        ctx.count_limited();
        return reject(ctx, "Too many rooms");
    }
    if password.is_some_and(|password| password.len() > MAX_PASSWORD_BYTES) {
        return reject(ctx, "Password too long");
    }
    Ok(())
}

pub(super) fn create_room(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    (name, password): (String, Option<String>),
    member: JamjamMember,
) {
    leave_room(ctx, rooms, None, CHANGED_ROOM);
    let names: [fn(&mut IdGenerator) -> String; 3] =
        [IdGenerator::room_id, |ids| ids.invite_code(INVITE_CODE_LEN), |ids| ids.invite_code(LONG_INVITE_CODE_LEN)];
    let names = names.map(|generate| ctx.ids.unique(generate, |name| rooms.find(name).is_none()));
    let (room_id, invite_code) = (names[0].clone(), names[invite_code_index(member.is_newer)].clone());
    ctx.reply(&ServerMessage::RoomCreated { room_id, peer_id: member.peer.id.clone(), invite_code });
    let name = truncate_bytes(name, MAX_NAME_BYTES);
    let key = rooms.create(names.into(), Some(name), Some(ctx.source), ctx.now.unix_ms(), password);
    rooms.join(key, ctx.conn, member);
}

/// Adds the connection to a room. Returns the number of other members.
pub(super) fn join_room(
    ctx: &mut ConnectionContext<'_>,
    (rooms, wrong_passwords): (&mut JamjamRooms, &mut WindowLimiter),
    name: &str,
    password: Option<&str>,
    member: JamjamMember,
) -> Result<usize, MessageError> {
    // Room ids and the two kinds of invite codes have different lengths, so `name` cannot match several.
    let Some(room) = rooms.find(name) else { return reject(ctx, "Room not found") };
    let key = room.key;
    // In a cluster, the password was verified before the log says that the connection enters.
    if let Some(expected) = room.data.as_ref().filter(|_| !ctx.is_applying()) {
        if wrong_passwords.retry_after(ctx.now.monotonic, ctx.source).is_some() {
            return Err(reject_password(ctx, rooms, true));
        }
        let given = password.unwrap_or_default();
        // The comparison takes constant time for passwords of equal length.
        if password.is_none() || !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            // The limit is not reached yet, so the password is counted.
            let _ = wrong_passwords.check(ctx.now.monotonic, ctx.source);
            return Err(reject_password(ctx, rooms, false));
        }
    }
    if room.members.len() >= MAX_PEERS_PER_ROOM {
        return reject(ctx, "Room is full");
    }
    check_requested(ctx, MAX_JOIN_DEBT)?;
    leave_room(ctx, rooms, Some(key), CHANGED_ROOM);
    let mut receivers = 0;
    if let Some(room) = rooms.get(key) {
        let JamjamMember { peer, is_newer } = &member;
        let peers = room.members.iter().map(|member| member.data.peer.clone());
        let peers = if *is_newer { peers.collect() } else { peers.map(Peer::for_older_clients).collect() };
        receivers = room.members.len();
        let joined = ServerMessage::RoomJoined {
            room_id: room.name().to_owned(),
            peer_id: peer.id.clone(),
            invite_code: is_newer.then(|| room.names[invite_code_index(true)].clone()),
            peers,
        };
        ctx.reply_requested(to_json(&joined));
        for (others, peer) in by_generation(room, ctx.conn, peer) {
            ctx.send_requested(&others, to_json(&ServerMessage::PeerJoined { peer }));
        }
    }
    rooms.join(key, ctx.conn, member);
    Ok(receivers)
}

/// Rejects a join whose password is wrong, or was not compared because of earlier wrong ones (`is_limited`).
pub(super) fn reject_password(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    is_limited: bool,
) -> MessageError {
    if is_limited {
        ctx.count_limited();
        return rejected(ctx, "Too many wrong passwords from this address");
    }
    let rejected = rejected(ctx, "Invalid password");
    if ctx.count_failed_guess() {
        leave_room(ctx, rooms, None, "too many wrong passwords");
        ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Too many wrong passwords");
    }
    rejected
}

/// Rejects a request for a list or a join if the source has requested too many bytes.
pub(super) fn check_requested(ctx: &mut ConnectionContext<'_>, max: Duration) -> Result<(), MessageError> {
    if ctx.check_requested_bytes(max).is_err() {
        ctx.count_limited();
        return reject(ctx, "Too many requests");
    }
    Ok(())
}

pub(super) fn list_rooms(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms) {
    let info = |room: &JamjamRoom| {
        let name = room.display_name.as_deref();
        room_info(ctx, (&room.names, name), room.members.len(), room.data.is_some())
    };
    let list = rooms.json(usize::from(ctx.is_newer()), |rooms| room_list(rooms.map(info)));
    ctx.reply_requested(list);
}

pub(super) fn room_list(rooms: impl Iterator<Item = RoomInfo>) -> String {
    to_json(&ServerMessage::RoomList { rooms: rooms.collect() })
}

/// A room in the list of rooms that the client receives.
pub(super) fn room_info(
    ctx: &ConnectionContext<'_>,
    (names, name): (&[String], Option<&str>),
    peer_count: usize,
    has_password: bool,
) -> RoomInfo {
    let is_newer = ctx.is_newer();
    let name = name.unwrap_or_default().to_owned();
    let is_test_room = ctx.limits.test_room_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix));
    RoomInfo {
        id: names.first().cloned().unwrap_or_default(),
        name,
        peer_count,
        max_peers: MAX_PEERS_PER_ROOM,
        has_password,
        invite_code: names.get(invite_code_index(is_newer)).cloned().unwrap_or_default(),
        test_room: is_newer.then_some(is_test_room),
    }
}

/// The members other than `conn` by generation, each with what it sees of `peer`.
pub(super) fn by_generation(room: &JamjamRoom, conn: ConnId, peer: &Peer) -> [(Vec<ConnId>, Peer); 2] {
    let others = |is_newer| {
        let of_generation = room.members.iter().filter(|member| member.data.is_newer == is_newer);
        of_generation.map(|member| member.conn).filter(|other| *other != conn).collect()
    };
    [(others(true), peer.clone()), (others(false), peer.clone().for_older_clients())]
}

pub(super) fn reject<T>(ctx: &mut ConnectionContext<'_>, reason: &'static str) -> Result<T, MessageError> {
    Err(rejected(ctx, reason))
}

fn rejected(ctx: &mut ConnectionContext<'_>, reason: &'static str) -> MessageError {
    debug!(target: "signaling", dialect = Dialect::Jamjam.name(), conn = ctx.conn.0, reason, "request rejected");
    ctx.reply(&ServerMessage::Error { message: reason.to_owned() });
    MessageError::Rejected(reason)
}

pub(super) fn check_link_key(ctx: &mut ConnectionContext<'_>, link_key: Option<&str>) -> Result<(), MessageError> {
    if link_key.is_some_and(|key| parse_link_key(key).is_none()) {
        return reject(ctx, "Invalid link key");
    }
    Ok(())
}

pub(super) fn new_member(
    ctx: &mut ConnectionContext<'_>,
    name: String,
    link_key: Option<String>,
    features: &[String],
) -> JamjamMember {
    let known = features.iter().find(|feature| *feature == PEER_MESSAGE);
    let peer = Peer {
        id: ctx.ids.uuid(),
        name: truncate_bytes(name, MAX_NAME_BYTES),
        candidates: Vec::new(),
        public_addr: None,
        local_addr: None,
        joined_at: Some(ctx.now.unix_ms() / 1_000),
        features: known.cloned().into_iter().collect(),
        link_key,
    };
    JamjamMember { peer, is_newer: ctx.is_newer() }
}
