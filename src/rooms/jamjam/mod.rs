//! jamjam's own signaling: what a music client and the echo server say to find each other.
//!
//! Its vocabulary is in [`messages`]. What cannot be read has no answer.

pub mod messages;

use subtle::ConstantTimeEq;
use tracing::debug;

use super::desk::{Desk, written};
use super::harmless::cut;
use super::ignored::Ignored;
use super::limits::Limits;
use super::names;
use super::space::{self, RoomNumber, Space};
use messages::{Asked, Listed, Peer, Told};

/// Members of a room, the one who made it included.
const MOST_MEMBERS: usize = 10;

/// Ways to reach a peer that are kept.
pub(super) const MOST_CANDIDATES: usize = 64;

/// Names are cut to this many bytes.
pub(super) const LONGEST_NAME: usize = 256;

/// The message types that make an undecided connection one of this dialect.
pub(super) const TYPES: [&str; 6] =
    ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage"];

/// This dialect's rooms.
pub(super) type Rooms = Space<Room, Peer>;

/// What is known of a room.
pub(super) struct Room {
    id: String,
    name: String,
    invite_code: String,
    password: Option<String>,
}

/// Does what `text` asks.
pub(super) fn on_text(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, text: &str) -> Result<(), Ignored> {
    match serde_json::from_str(text)? {
        Asked::CreateRoom { room_name, password, peer_name } => {
            return create(desk, rooms, limits, (room_name, password), peer_name);
        }
        Asked::JoinRoom { room_id, password, peer_name } => {
            return join(desk, rooms, &room_id, password.as_deref(), peer_name);
        }
        Asked::LeaveRoom => on_gone(desk, rooms),
        Asked::UpdatePeerInfo { candidates, public_addr, local_addr } => {
            if candidates.len() > MOST_CANDIDATES {
                return Err(Ignored::TooMuch("candidates"));
            }
            let (peer, others) = rooms.member_mut(desk.conn()).ok_or(Ignored::NoRoom)?;
            if !candidates.is_empty() {
                peer.candidates = candidates;
            }
            (peer.public_addr, peer.local_addr) = (public_addr, local_addr);
            desk.tell(&others, &Told::PeerUpdated { peer: peer.clone() });
        }
        Asked::ListRooms => list(desk, rooms),
        Asked::ChatMessage(mut chat) => {
            let (peer, others) = rooms.member_mut(desk.conn()).ok_or(Ignored::NoRoom)?;
            (chat.sender_id, chat.sender_name) = (peer.id.clone(), peer.name.clone());
            desk.tell(&others, &Told::ChatMessage(chat));
        }
    }
    Ok(())
}

/// The connection leaves its room, if it is in one.
pub(super) fn on_gone(desk: &mut Desk<'_>, rooms: &mut Rooms) {
    leave(desk, rooms, None);
}

fn leave(desk: &mut Desk<'_>, rooms: &mut Rooms, kept: Option<RoomNumber>) {
    if let Some((peer, others)) = rooms.leave(desk.conn(), kept) {
        debug!("Connection {} leaves its room", desk.conn().0);
        desk.tell(&others, &Told::PeerLeft { peer_id: peer.id });
    }
}

fn create(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    limits: &Limits,
    (name, password): (String, Option<String>),
    peer_name: String,
) -> Result<(), Ignored> {
    if rooms.made_by(desk.from()) >= limits.rooms_per_address {
        desk.refused();
        return refuse(desk, "Too many rooms");
    }
    leave(desk, rooms, None);
    let id = desk.fresh(names::Names::room, |id| rooms.is_taken(id));
    let invite_code = desk.fresh(names::Names::invite, |code| rooms.is_taken(code));
    let peer = new_peer(desk, peer_name);
    let [room_id, peer_id, invite] = [&id, &peer.id, &invite_code].map(String::clone);
    debug!("Connection {} makes room {id}", desk.conn().0);
    desk.answer(&Told::RoomCreated { room_id, peer_id, invite_code: invite });
    let names = vec![id.clone(), invite_code.clone()];
    let room = Room { id, name: cut(name, LONGEST_NAME), invite_code, password };
    rooms.make(names, desk.from(), room, desk.conn(), peer);
    Ok(())
}

fn join(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    name: &str,
    password: Option<&str>,
    peer_name: String,
) -> Result<(), Ignored> {
    let found = rooms.find(name).and_then(|number| Some((number, rooms.get(number)?)));
    // Nothing can be meant by both: an id is longer than an invite code.
    let Some((number, room)) = found else { return refuse(desk, "Room not found") };
    if let Some(wanted) = &room.data.password {
        let given = password.unwrap_or_default();
        // Takes as long for a nearly right one as for any other of its length.
        if password.is_none() || !bool::from(wanted.as_bytes().ct_eq(given.as_bytes())) {
            return refuse(desk, "Invalid password");
        }
    }
    if room.members.len() >= MOST_MEMBERS {
        return refuse(desk, "Room is full");
    }
    leave(desk, rooms, Some(number));
    let peer = new_peer(desk, peer_name);
    if let Some(room) = rooms.get(number) {
        let peers = room.members.iter().map(|member| member.data.clone()).collect();
        let others: Vec<_> = room.members.iter().map(|member| member.conn).collect();
        debug!("Connection {} joins room {}", desk.conn().0, room.data.id);
        desk.answer(&Told::RoomJoined { room_id: room.data.id.clone(), peer_id: peer.id.clone(), peers });
        desk.tell(&others, &Told::PeerJoined { peer: peer.clone() });
    }
    rooms.join(number, desk.conn(), peer);
    Ok(())
}

fn list(desk: &mut Desk<'_>, rooms: &mut Rooms) {
    let listed = |room: &space::Room<Room, Peer>| Listed {
        id: room.data.id.clone(),
        name: room.data.name.clone(),
        peer_count: room.members.len(),
        max_peers: MOST_MEMBERS,
        has_password: room.data.password.is_some(),
        invite_code: room.data.invite_code.clone(),
    };
    desk.answer_text(rooms.listing(|rooms| written(&Told::RoomList { rooms: rooms.map(listed).collect() })));
}

fn refuse(desk: &mut Desk<'_>, why: &'static str) -> Result<(), Ignored> {
    debug!("Connection {} is refused: {why}", desk.conn().0);
    desk.answer(&Told::Error { message: why.to_owned() });
    Err(Ignored::Refused(why))
}

fn new_peer(desk: &mut Desk<'_>, name: String) -> Peer {
    let id = desk.fresh(names::Names::uuid, |_| false);
    Peer { id, name: cut(name, LONGEST_NAME), candidates: Vec::new(), public_addr: None, local_addr: None }
}
