//! How jamjam clients find, enter and leave rooms, and what each generation of clients sees.

use subtle::ConstantTimeEq;
use tracing::debug;

use super::messages::{Peer, RoomInfo, ServerMessage};
use super::room::{
    JamjamMember, JamjamRoom, JamjamRooms, MAX_PEERS_PER_ROOM, Owner, ROOM_NAMES, RoomData, is_full, leave_room,
};
use super::test_room;
use crate::close_code::CloseCode;
use crate::connection_context::{ConnectionContext, MAX_JOIN_DEBT, MAX_LIST_DEBT};
use crate::dialect::Dialect;
use crate::json::{MessageError, to_json};
use crate::member_log::CHANGED_ROOM;
use crate::rooms::RoomIter;
use jamjam_core::link::parse_link_key;
use jamjam_core::rate_limit::WindowLimiter;
use jamjam_core::sanitize::truncate_bytes;

/// Maximum length of names, in bytes. Longer names are truncated.
pub(crate) const MAX_NAME_BYTES: usize = 256;

/// Maximum length of a password, in bytes. A longer password is rejected: truncating it would let other passwords open the room.
const MAX_PASSWORD_BYTES: usize = 256;

/// The feature of members that receive [`PeerMessage`]. Other features are not passed on.
pub(super) const PEER_MESSAGE: &str = "peer_message";

/// Which of the names of a room is the invite code for clients of one generation.
fn invite_code_index(is_newer: bool) -> usize {
    if is_newer { 2 } else { 1 }
}

pub(super) fn create_room(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    (name, password): (String, Option<String>),
    member: JamjamMember,
) -> Result<(), MessageError> {
    let name = truncate_bytes(name, MAX_NAME_BYTES);
    let is_test_room = test_room::is_test_room(ctx.limits, &name, password.as_deref());
    let (found, names) = if is_test_room { test_room::find_place(ctx, rooms, &name, &member) } else { (None, None) };
    if found.is_none() && rooms.rooms_created_by(ctx.source) >= ctx.limits.max_rooms_per_address {
        ctx.count_limited();
        return reject(ctx, "Too many rooms");
    }
    if password.as_ref().is_some_and(|password| password.len() > MAX_PASSWORD_BYTES) {
        return reject(ctx, "Password too long");
    }
    leave_room(ctx, rooms, (ctx.conn, found), CHANGED_ROOM);
    let is_newer = member.is_newer;
    let key = found.unwrap_or_else(|| {
        let random = || ROOM_NAMES.map(|generate| ctx.ids.unique(generate, |name| rooms.find(name).is_none()));
        let names = names.unwrap_or_else(random).into();
        let data = RoomData { password, owner: None };
        rooms.create(names, Some(name), Some(ctx.source), ctx.now.unix_ms(), data)
    });
    let peer_id = test_room::enter(ctx, rooms, key, member, is_test_room);
    let Some(room) = rooms.get(key) else { return Ok(()) };
    let code = |is_newer| room.names[invite_code_index(is_newer)].clone();
    let (room_id, invite_code, invite_code_6) = (room.name().to_owned(), code(is_newer), is_newer.then(|| code(false)));
    ctx.reply(&ServerMessage::RoomCreated { room_id, peer_id, invite_code, invite_code_6 });
    Ok(())
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
    if let Some(expected) = &room.data.password {
        if wrong_passwords.retry_after(ctx.now.monotonic, ctx.source).is_some() {
            ctx.count_limited();
            return reject(ctx, "Too many wrong passwords from this address");
        }
        let given = password.unwrap_or_default();
        // The comparison takes constant time for passwords of equal length.
        if password.is_none() || !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            // The limit is not reached yet, so the password is counted.
            let _ = wrong_passwords.check(ctx.now.monotonic, ctx.source);
            let rejected = reject(ctx, "Invalid password");
            if ctx.count_failed_guess() {
                leave_room(ctx, rooms, (ctx.conn, None), "too many wrong passwords");
                ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Too many wrong passwords");
            }
            return rejected;
        }
    }
    let is_owner = test_room::is_owner_returning(ctx, room, &member);
    if is_full(room) && !is_owner {
        return reject(ctx, "Room is full");
    }
    if ctx.check_requested_bytes(MAX_JOIN_DEBT).is_err() {
        ctx.count_limited();
        return reject(ctx, "Too many requests");
    }
    leave_room(ctx, rooms, (ctx.conn, Some(key)), CHANGED_ROOM);
    let is_newer = member.is_newer;
    let peer_id = test_room::enter(ctx, rooms, key, member, is_owner);
    let Some(room) = rooms.get(key) else { return Ok(0) };
    let peers = room.members.iter().filter(|member| member.conn != ctx.conn).map(|member| member.data.peer.clone());
    let peers = if is_newer { peers.collect() } else { peers.map(Peer::for_older_clients).collect() };
    let joined = ServerMessage::RoomJoined {
        room_id: room.name().to_owned(),
        peer_id,
        invite_code: is_newer.then(|| room.names[invite_code_index(true)].clone()),
        invite_code_6: is_newer.then(|| room.names[invite_code_index(false)].clone()),
        peers,
    };
    ctx.reply_requested(to_json(&joined));
    Ok(room.members.len() - 1)
}

pub(super) fn list_rooms(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms) -> Result<(), MessageError> {
    if ctx.check_requested_bytes(MAX_LIST_DEBT).is_err() {
        ctx.count_limited();
        return reject(ctx, "Too many requests");
    }
    let is_newer = ctx.is_newer();
    let is_test_room = |room: &JamjamRoom| room.data.owner.as_ref().is_some_and(Owner::is_living);
    let info = |room: &JamjamRoom| RoomInfo {
        id: room.name().to_owned(),
        name: room.display_name.clone().unwrap_or_default(),
        peer_count: room.members.len(),
        max_peers: MAX_PEERS_PER_ROOM,
        has_password: room.data.password.is_some(),
        invite_code: room.names[invite_code_index(is_newer)].clone(),
        test_room: is_newer.then(|| is_test_room(room)),
    };
    let list = |rooms: RoomIter<'_, _, _>| {
        let (test_rooms, others): (Vec<_>, Vec<_>) = rooms.partition(|room| is_test_room(room));
        to_json(&ServerMessage::RoomList { rooms: test_rooms.into_iter().chain(others).map(info).collect() })
    };
    ctx.reply_requested(rooms.json(usize::from(is_newer), list));
    Ok(())
}

pub(super) fn reject<T>(ctx: &mut ConnectionContext<'_>, reason: &'static str) -> Result<T, MessageError> {
    debug!(target: "signaling", dialect = Dialect::Jamjam.name(), conn = ctx.conn.0, reason, "request rejected");
    ctx.reply(&ServerMessage::Error { message: reason.to_owned() });
    Err(MessageError::Rejected(reason))
}

/// A new member, unless its link key is invalid.
pub(super) fn new_member(
    ctx: &mut ConnectionContext<'_>,
    name: String,
    link_key: Option<String>,
    features: &[String],
) -> Result<JamjamMember, MessageError> {
    if link_key.as_deref().is_some_and(|key| parse_link_key(key).is_none()) {
        return reject(ctx, "Invalid link key");
    }
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
    Ok(JamjamMember { peer, is_newer: ctx.is_newer(), successor: None })
}
