//! A client as a guest of a signaling server: it finds a room by what a person calls it, joins, and learns where those who are
//! there can be reached.
//!
//! A state machine without a socket. Whoever has one tells it what the server said, and says what it asks.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::bot;
use super::listing::table;
use crate::rooms::harmless::{cut, harmless};
use crate::rooms::jamjam::messages::{Asked, Candidate, CandidateType, Listed, Peer, Told};
use crate::rooms::jamjam::{LONGEST_NAME, MOST_CANDIDATES};
use crate::rooms::names;

/// Others in the room who are remembered: more than any server lets in.
const MOST_OTHERS: usize = 64;

/// Rooms that an error lists.
const MOST_LISTED: usize = 20;

/// What a server says where no room has the id or code.
const NOT_FOUND: &str = "Room not found";

/// What it says to a wrong password, or to none where one is needed.
const INVALID_PASSWORD: &str = "Invalid password";

/// Why there is nobody to send to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoRoom {
    /// No room is called so.
    #[error("no room is called `{word}`; there {}", there(.rooms))]
    Unknown {
        /// What was looked for.
        word: String,
        /// What is there.
        rooms: Vec<Listed>,
    },
    /// Several are.
    #[error("several rooms are called `{word}`; give the id or the invite code of one:\n{}", some(.rooms))]
    Ambiguous {
        /// What was looked for.
        word: String,
        /// Those that it could be.
        rooms: Vec<Listed>,
    },
    /// It takes a password, and none was given.
    #[error("room `{0}` needs a password; give --password or --password-file")]
    NeedsPassword(String),
    /// It takes another one.
    #[error("that is not the password of room `{0}`")]
    WrongPassword(String),
    /// The server has its own reason.
    #[error("the server does not let us into room `{room}`: {message}")]
    Refused {
        /// The room.
        room: String,
        /// The server's word.
        message: String,
    },
    /// Nobody else is there.
    #[error("nobody else is in room `{0}`: there is nobody to send to")]
    Alone(String),
    /// Nobody who is there says where they are.
    #[error("nobody in room `{room}` says where they can be reached: {}", .peers.join(", "))]
    NoAddress {
        /// The room.
        room: String,
        /// Who is there.
        peers: Vec<String>,
    },
}

fn there(rooms: &[Listed]) -> String {
    if rooms.is_empty() { "are none".to_owned() } else { format!("are these:\n{}", some(rooms)) }
}

fn some(rooms: &[Listed]) -> String {
    let more = rooms.len().saturating_sub(MOST_LISTED);
    let rest = if more > 0 { format!("\nand {more} more; --list-rooms prints all") } else { String::new() };
    table(&rooms[..rooms.len() - more]) + &rest
}

/// How far the guest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Listing,
    Joining {
        /// Whether the room was in the list.
        listed: bool,
    },
    In,
}

/// The guest.
#[derive(Debug)]
pub struct Guest {
    /// The room as a person calls it: an id, an invite code, a name or a part of one.
    word: String,
    password: Option<String>,
    name: String,
    step: Step,
    /// The name of the room it means to be in, harmless; until a list tells it, the word.
    room: String,
    /// The rooms that were listed.
    rooms: Vec<Listed>,
    /// What the guest is known by.
    id: String,
    others: Vec<Other>,
}

/// Somebody in the room: what is kept of them is bounded, whatever the server says.
#[derive(Debug)]
struct Other {
    id: String,
    name: String,
    /// In the order in which to try them.
    addresses: Vec<SocketAddr>,
}

impl Guest {
    /// A guest called `name` who looks for the room `word`.
    pub fn new(word: &str, password: Option<String>, name: &str) -> Self {
        Self {
            word: word.to_owned(),
            password,
            name: name.to_owned(),
            step: Step::Listing,
            room: harmless(word),
            rooms: Vec::new(),
            id: String::new(),
            others: Vec::new(),
        }
    }

    /// What to ask first: the list tells the room's name and whether it has a password, whatever it was called by.
    pub fn on_connected(&self) -> Asked {
        Asked::ListRooms
    }

    /// The server said something: what to ask, if anything.
    pub fn on_told(&mut self, told: Told) -> Result<Option<Asked>, NoRoom> {
        match (told, self.step) {
            (Told::RoomList { rooms }, Step::Listing) => self.on_list(rooms).map(Some),
            (Told::Error { message }, Step::Joining { listed: false }) if message == NOT_FOUND => Err(self.unknown()),
            (Told::Error { message }, Step::Listing | Step::Joining { .. }) => Err(self.refused(&message)),
            (Told::RoomJoined { peer_id, peers, .. }, Step::Joining { .. }) => {
                (self.step, self.id) = (Step::In, peer_id);
                for peer in peers {
                    self.remember(peer);
                }
                Ok(None)
            }
            (Told::PeerJoined { peer } | Told::PeerUpdated { peer }, Step::In) => {
                self.remember(peer);
                Ok(None)
            }
            (Told::PeerLeft { peer_id }, Step::In) => {
                self.others.retain(|other| other.id != peer_id);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether it is in the room.
    pub fn is_in(&self) -> bool {
        self.step == Step::In
    }

    /// What the room is called, harmless; by its id or invite code where the server lists no such room.
    pub fn room(&self) -> &str {
        &self.room
    }

    /// Where those in the room say they can be reached, as far as it makes sense to try: the bot's addresses first, and of each
    /// the candidates by falling priority, then the public and the local address; none twice.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut others: Vec<&Other> = self.others.iter().collect();
        others.sort_by_key(|other| other.name != bot::NAME);
        let mut seen = HashSet::new();
        others.into_iter().flat_map(|other| &other.addresses).copied().filter(|address| seen.insert(*address)).collect()
    }

    /// Why nobody can be sent to, if it stays as it is.
    pub fn nobody(&self) -> NoRoom {
        let room = self.room.clone();
        if self.others.is_empty() {
            return NoRoom::Alone(room);
        }
        NoRoom::NoAddress { room, peers: self.others.iter().map(|other| harmless(&other.name)).collect() }
    }

    /// What to say once the guest has a socket of its own at `address`, as clients do.
    pub fn here(address: SocketAddr) -> Asked {
        let candidate = Candidate { address, kind: CandidateType::Host, priority: bot::PRIORITY_HOST };
        let address = Some(address);
        Asked::UpdatePeerInfo { candidates: vec![candidate], public_addr: address, local_addr: address }
    }

    fn on_list(&mut self, rooms: Vec<Listed>) -> Result<Asked, NoRoom> {
        self.rooms = rooms;
        let word = self.word.as_str();
        let those = |is: &dyn Fn(&Listed) -> bool| self.rooms.iter().filter(|room| is(room)).cloned().collect();
        let by_code: Vec<Listed> = those(&|room| room.id == word || room.invite_code == word);
        let by_name: Vec<Listed> = those(&|room| room.name == word);
        let by_part: Vec<Listed> = those(&|room| room.name.contains(word));
        let found = [by_code, by_name, by_part].into_iter().find(|found| !found.is_empty()).unwrap_or_default();
        match found.as_slice() {
            [room] => {
                self.room = harmless(&room.name);
                if room.has_password && self.password.is_none() {
                    return Err(NoRoom::NeedsPassword(self.room.clone()));
                }
                self.step = Step::Joining { listed: true };
                Ok(self.join(&room.id))
            }
            // A server need not list every room.
            [] if is_code(word) => {
                self.step = Step::Joining { listed: false };
                Ok(self.join(word))
            }
            [] => Err(self.unknown()),
            _ => Err(NoRoom::Ambiguous { word: self.room.clone(), rooms: found }),
        }
    }

    fn join(&self, room: &str) -> Asked {
        let (password, peer_name) = (self.password.clone(), self.name.clone());
        Asked::JoinRoom { room_id: room.to_owned(), password, peer_name }
    }

    fn unknown(&self) -> NoRoom {
        NoRoom::Unknown { word: self.room.clone(), rooms: self.rooms.clone() }
    }

    fn refused(&self, message: &str) -> NoRoom {
        match message {
            INVALID_PASSWORD if self.password.is_none() => NoRoom::NeedsPassword(self.room.clone()),
            INVALID_PASSWORD => NoRoom::WrongPassword(self.room.clone()),
            _ => NoRoom::Refused { room: self.room.clone(), message: harmless(message) },
        }
    }

    /// Somebody is there, or is to be reached elsewhere. Some servers tell us of ourselves too.
    fn remember(&mut self, peer: Peer) {
        if peer.id == self.id || peer.id.len() > LONGEST_NAME {
            return;
        }
        let peer = Other { addresses: addresses_of(&peer), id: peer.id, name: cut(peer.name, LONGEST_NAME) };
        match self.others.iter().position(|other| other.id == peer.id) {
            Some(known) => self.others[known] = peer,
            None if self.others.len() < MOST_OTHERS => self.others.push(peer),
            None => {}
        }
    }
}

fn addresses_of(peer: &Peer) -> Vec<SocketAddr> {
    let mut candidates: Vec<&Candidate> = peer.candidates.iter().collect();
    candidates.sort_by_key(|candidate| Reverse(candidate.priority));
    let candidates = candidates.into_iter().take(MOST_CANDIDATES).map(|candidate| &candidate.address);
    let told = candidates.chain(&peer.public_addr).chain(&peer.local_addr).copied();
    told.filter(is_somebody).collect()
}

/// Whether one party can be at this address: not any, none or many.
fn is_somebody(address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_everybody = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_everybody && address.port() != 0
}

/// Whether this could be the id or the invite code of a room; newer servers make codes of nine letters.
fn is_code(word: &str) -> bool {
    let is_id = word.len() == 8 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id || names::is_invite(word) || names::is_long_invite(word)
}
