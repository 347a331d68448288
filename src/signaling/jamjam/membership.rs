//! How jamjam clients find, enter and leave rooms, and what each generation of clients sees.

use subtle::ConstantTimeEq;
use tracing::debug;

use super::messages::{Peer, RoomInfo, ServerMessage};
use crate::link::parse_link_key;
use crate::rate_limit::WindowLimiter;
use crate::sanitize::truncate_bytes;
use crate::signaling::close_code::CloseCode;
use crate::signaling::connection_context::ConnectionContext;
use crate::signaling::dialect::Dialect;
use crate::signaling::event_sink::ConnId;
use crate::signaling::json::{MessageError, to_json};
use crate::signaling::member_log::{CHANGED_ROOM, LoggedMember, RoomLabel, log_join, log_leave};
use crate::signaling::rooms::{IdGenerator, MemberData, MemberInfo, Room, RoomData, RoomIter, RoomKey, RoomMap};

/// Maximum number of members in a room, including its creator.
const MAX_PEERS_PER_ROOM: usize = 10;

/// Maximum length of names, in bytes. Longer names are truncated.
pub(in crate::signaling) const MAX_NAME_BYTES: usize = 256;

/// Maximum length of a password, in bytes. A longer password is rejected: truncating it would let other passwords open the room.
const MAX_PASSWORD_BYTES: usize = 256;

/// The feature of members that receive [`PeerMessage`]. Other features are not passed on.
pub(super) const PEER_MESSAGE: &str = "peer_message";

pub(super) type JamjamRooms = RoomMap<JamjamRoom, Peer>;

/// A room with the data that only this dialect has.
pub(super) struct JamjamRoom {
    pub(super) id: String,
    name: String,
    invite_code: String,
    /// The invite code for newer clients.
    long_invite_code: String,
    pub(super) password: Option<String>,
}

impl JamjamRoom {
    /// The invite code for clients of one generation.
    fn invite_code(&self, is_newer: bool) -> String {
        if is_newer { &self.long_invite_code } else { &self.invite_code }.clone()
    }
}

impl RoomData for JamjamRoom {
    fn display_name(&self) -> Option<&str> {
        Some(&self.name)
    }
}

impl MemberData for Peer {
    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: Some(&self.id), name: Some(&self.name), is_control_channel: false }
    }
}

/// Removes the connection from its room and informs the other members. Returns the room's id, the member's name and the number of other
/// members.
pub(super) fn leave_room(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    keep: Option<RoomKey>,
    reason: &str,
) -> Option<(String, String, usize)> {
    let room = rooms.member(ctx.conn)?.1.data.id.clone();
    let (peer, others) = rooms.leave(ctx.conn, keep)?;
    log_leave(logged_member(ctx.conn, &room, &peer.name), reason, others.len());
    ctx.send(&others, &ServerMessage::PeerLeft { peer_id: peer.id });
    Some((room, peer.name, others.len()))
}

pub(super) fn logged_member<'a>(conn: ConnId, room: &'a str, user: &'a str) -> LoggedMember<'a> {
    LoggedMember { dialect: Dialect::Jamjam, room: RoomLabel::Name(room), user, conn }
}

pub(super) fn create_room(
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
    let id = ctx.generate_unique(IdGenerator::room_id, |id| rooms.contains_name(id));
    let invite_code = ctx.generate_unique(IdGenerator::invite_code, |code| rooms.contains_name(code));
    let long_invite_code = ctx.generate_unique(IdGenerator::long_invite_code, |code| rooms.contains_name(code));
    let names = vec![id.clone(), invite_code.clone(), long_invite_code.clone()];
    let name = truncate_bytes(name, MAX_NAME_BYTES);
    let room = JamjamRoom { id, name, invite_code, long_invite_code, password };
    log_join(logged_member(ctx.conn, &room.id, &peer.name), 1);
    let (room_id, invite_code) = (room.id.clone(), room.invite_code(ctx.is_newer(ctx.conn)));
    ctx.reply(&ServerMessage::RoomCreated { room_id, peer_id: peer.id.clone(), invite_code });
    let key = rooms.create(names, Some(ctx.source), ctx.unix_ms(), room);
    rooms.join(key, ctx.conn, peer);
    Ok(())
}

/// Adds the connection to a room. Returns the number of other members.
pub(super) fn join_room(
    ctx: &mut ConnectionContext<'_>,
    (rooms, wrong_passwords): (&mut JamjamRooms, &mut WindowLimiter),
    name: &str,
    password: Option<&str>,
    peer: Peer,
) -> Result<usize, MessageError> {
    let found = rooms.find(name).and_then(|key| Some((key, rooms.get(key)?)));
    // Room ids and the two kinds of invite codes have different lengths, so `name` cannot match several.
    let Some((key, room)) = found else { return reject(ctx, "Room not found") };
    if let Some(expected) = &room.data.password {
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
    if ctx.check_join().is_err() {
        ctx.count_rejection();
        return reject(ctx, "Too many requests");
    }
    leave_room(ctx, rooms, Some(key), CHANGED_ROOM);
    let mut receivers = 0;
    if let Some(room) = rooms.get(key) {
        let is_newer = ctx.is_newer(ctx.conn);
        let peers = room.members.iter().map(|member| member.data.clone());
        let peers = if is_newer { peers.collect() } else { peers.map(Peer::for_older_clients).collect() };
        let others: Vec<_> = room.members.iter().map(|member| member.conn).collect();
        receivers = others.len();
        log_join(logged_member(ctx.conn, &room.data.id, &peer.name), receivers + 1);
        let joined = ServerMessage::RoomJoined {
            room_id: room.data.id.clone(),
            peer_id: peer.id.clone(),
            invite_code: is_newer.then(|| room.data.invite_code(true)),
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

pub(super) fn list_rooms(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms) -> Result<(), MessageError> {
    if ctx.check_requested_bytes().is_err() {
        ctx.count_rejection();
        return reject(ctx, "Too many requests");
    }
    let (is_newer, test_room_prefix) = (ctx.is_newer(ctx.conn), ctx.limits.test_room_prefix.as_deref());
    let is_test_room = |name: &str| test_room_prefix.is_some_and(|prefix| name.starts_with(prefix));
    let info = |room: &Room<JamjamRoom, Peer>| RoomInfo {
        id: room.data.id.clone(),
        name: room.data.name.clone(),
        peer_count: room.members.len(),
        max_peers: MAX_PEERS_PER_ROOM,
        has_password: room.data.password.is_some(),
        invite_code: room.data.invite_code(is_newer),
        test_room: is_newer.then(|| is_test_room(&room.data.name)),
    };
    let list = |rooms: RoomIter<'_, _, _>| to_json(&ServerMessage::RoomList { rooms: rooms.map(info).collect() });
    ctx.reply_requested(rooms.json(usize::from(is_newer), list));
    Ok(())
}

/// `members` by generation, each with what it sees of `peer`.
pub(super) fn by_generation(
    ctx: &ConnectionContext<'_>,
    members: Vec<ConnId>,
    peer: &Peer,
) -> [(Vec<ConnId>, Peer); 2] {
    let (newer, older) = members.into_iter().partition(|conn| ctx.is_newer(*conn));
    [(newer, peer.clone()), (older, peer.clone().for_older_clients())]
}

pub(super) fn reject<T>(ctx: &mut ConnectionContext<'_>, reason: &'static str) -> Result<T, MessageError> {
    debug!(target: "signaling", dialect = Dialect::Jamjam.name(), conn = ctx.conn.0, reason, "request rejected");
    ctx.reply(&ServerMessage::Error { message: reason.to_owned() });
    Err(MessageError::Rejected(reason))
}

/// A new member, unless its link key is invalid.
pub(super) fn new_peer(
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
        id: ctx.generate_unique(IdGenerator::uuid, |_| false),
        name: truncate_bytes(name, MAX_NAME_BYTES),
        candidates: Vec::new(),
        public_addr: None,
        local_addr: None,
        joined_at: Some(ctx.unix_ms() / 1_000),
        features: known.cloned().into_iter().collect(),
        link_key,
    })
}
