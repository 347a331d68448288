//! jamjam's own signaling: what a music client and the echo server say to find each other.
//!
//! JSON with the variant in `type` and its fields in `data`. What cannot be read has no answer.

use std::net::{AddrParseError, SocketAddr};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::hub::{Desk, Ignored, Limits};
use super::names;
use super::space::Space;

/// Members of a room, the one who made it included.
const MOST_MEMBERS: usize = 10;

/// Ways to reach a peer that are kept.
const MOST_CANDIDATES: usize = 64;

/// Names are cut to this many bytes.
const LONGEST_NAME: usize = 256;

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

/// Somebody in a room, as the others see them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Peer {
    id: String,
    name: String,
    candidates: Vec<Candidate>,
    public_addr: Option<Address>,
    local_addr: Option<Address>,
}

/// An IP address and port as a client wrote it: the others' parsers take nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Address(String);

impl TryFrom<String> for Address {
    type Error = AddrParseError;

    fn try_from(text: String) -> Result<Self, AddrParseError> {
        text.parse::<SocketAddr>().map(|_| Self(text))
    }
}

/// A way to reach a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Candidate {
    address: Address,
    #[serde(rename = "candidate_type")]
    kind: CandidateType,
    priority: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum CandidateType {
    Host,
    ServerReflexive,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data")]
enum Asked {
    CreateRoom {
        room_name: String,
        password: Option<String>,
        peer_name: String,
    },
    JoinRoom {
        room_id: String,
        password: Option<String>,
        peer_name: String,
    },
    LeaveRoom,
    UpdatePeerInfo {
        #[serde(default)]
        candidates: Vec<Candidate>,
        public_addr: Option<Address>,
        local_addr: Option<Address>,
    },
    ListRooms,
    ChatMessage(Chat),
}

/// Its sender is whoever the connection is, whatever it says.
#[derive(Deserialize, Serialize)]
struct Chat {
    sender_id: String,
    sender_name: String,
    content: String,
    timestamp: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "data")]
enum Told<'a> {
    RoomCreated { room_id: &'a str, peer_id: &'a str, invite_code: &'a str },
    RoomJoined { room_id: &'a str, peer_id: &'a str, peers: Vec<&'a Peer> },
    PeerJoined { peer: &'a Peer },
    PeerUpdated { peer: &'a Peer },
    PeerLeft { peer_id: &'a str },
    RoomList { rooms: Vec<Listed<'a>> },
    ChatMessage(&'a Chat),
    Error { message: &'a str },
}

/// A room, as those outside see it.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    peer_count: usize,
    max_peers: usize,
    has_password: bool,
    invite_code: &'a str,
}

/// Does what `text` asks.
pub(super) fn on_text(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, text: &str) -> Result<(), Ignored> {
    match serde_json::from_str(text)? {
        Asked::CreateRoom { room_name, password, peer_name } => {
            create(desk, rooms, limits, (room_name, password), peer_name);
        }
        Asked::JoinRoom { room_id, password, peer_name } => join(desk, rooms, &room_id, password.as_deref(), peer_name),
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
            desk.tell(&others, &Told::PeerUpdated { peer });
        }
        Asked::ListRooms => list(desk, rooms),
        Asked::ChatMessage(mut chat) => {
            let (peer, others) = rooms.member_mut(desk.conn()).ok_or(Ignored::NoRoom)?;
            (chat.sender_id, chat.sender_name) = (peer.id.clone(), peer.name.clone());
            desk.tell(&others, &Told::ChatMessage(&chat));
        }
    }
    Ok(())
}

/// The connection leaves its room, if it is in one.
pub(super) fn on_gone(desk: &mut Desk<'_>, rooms: &mut Rooms) {
    leave(desk, rooms, None);
}

fn leave(desk: &mut Desk<'_>, rooms: &mut Rooms, kept: Option<super::space::RoomNumber>) {
    if let Some((peer, others)) = rooms.leave(desk.conn(), kept) {
        desk.tell(&others, &Told::PeerLeft { peer_id: &peer.id });
    }
}

fn create(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    limits: &Limits,
    (name, password): (String, Option<String>),
    peer_name: String,
) {
    if rooms.made_by(desk.from()) >= limits.rooms_per_address {
        desk.refused();
        return desk.answer(&Told::Error { message: "Too many rooms" });
    }
    leave(desk, rooms, None);
    let id = desk.fresh(names::Names::room, |id| rooms.is_taken(id));
    let invite_code = desk.fresh(names::Names::invite, |code| rooms.is_taken(code));
    let peer = new_peer(desk, peer_name);
    desk.answer(&Told::RoomCreated { room_id: &id, peer_id: &peer.id, invite_code: &invite_code });
    let names = vec![id.clone(), invite_code.clone()];
    let room = Room { id, name: cut(name), invite_code, password };
    rooms.make(names, desk.from(), room, desk.conn(), peer);
}

fn join(desk: &mut Desk<'_>, rooms: &mut Rooms, name: &str, password: Option<&str>, peer_name: String) {
    let found = rooms.find(name).and_then(|number| Some((number, rooms.get(number)?)));
    // Where both could be meant, an invite code's form is an invite code; an id never has it.
    let Some((number, room)) = found.filter(|(_, room)| (room.data.invite_code == name) == names::is_invite(name))
    else {
        return desk.answer(&Told::Error { message: "Room not found" });
    };
    if let Some(wanted) = &room.data.password {
        let given = password.unwrap_or_default();
        // Takes as long for a nearly right one as for any other of its length.
        if password.is_none() || !bool::from(wanted.as_bytes().ct_eq(given.as_bytes())) {
            return desk.answer(&Told::Error { message: "Invalid password" });
        }
    }
    if room.members.len() >= MOST_MEMBERS {
        return desk.answer(&Told::Error { message: "Room is full" });
    }
    leave(desk, rooms, Some(number));
    let peer = new_peer(desk, peer_name);
    if let Some(room) = rooms.get(number) {
        let peers = room.members.iter().map(|member| &member.data).collect();
        let others: Vec<_> = room.members.iter().map(|member| member.conn).collect();
        desk.answer(&Told::RoomJoined { room_id: &room.data.id, peer_id: &peer.id, peers });
        desk.tell(&others, &Told::PeerJoined { peer: &peer });
    }
    rooms.join(number, desk.conn(), peer);
}

fn list(desk: &mut Desk<'_>, rooms: &Rooms) {
    let rooms = rooms.iter().map(|room| Listed {
        id: &room.data.id,
        name: &room.data.name,
        peer_count: room.members.len(),
        max_peers: MOST_MEMBERS,
        has_password: room.data.password.is_some(),
        invite_code: &room.data.invite_code,
    });
    desk.answer(&Told::RoomList { rooms: rooms.collect() });
}

fn new_peer(desk: &mut Desk<'_>, name: String) -> Peer {
    let id = desk.fresh(names::Names::uuid, |_| false);
    Peer { id, name: cut(name), candidates: Vec::new(), public_addr: None, local_addr: None }
}

/// The beginning of a name that is too long, whole letters only.
fn cut(mut name: String) -> String {
    if name.len() > LONGEST_NAME {
        let ends = name.char_indices().map(|(end, _)| end).take_while(|end| *end <= LONGEST_NAME);
        name.truncate(ends.last().unwrap_or(0));
    }
    name
}
