//! The echo server as a guest of a signaling server: it makes a room in which clients find it, says where it is to be reached,
//! and returns what is said to it.
//!
//! A state machine without a socket. Whoever has one tells it what the server said, and says what it asks.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, info};

use crate::rooms::harmless::harmless;
use crate::rooms::jamjam::LONGEST_NAME;
use crate::rooms::jamjam::messages::{Asked, Candidate, CandidateType, Chat, Peer, Told};

/// What the bot is called in its room.
pub const NAME: &str = "Echo Bot";

/// What stands before each thing that it returns.
const ECHO: &str = "🔊 ";

/// The longest content that is returned, in bytes: a line of chat, far from what a server takes.
const LONGEST_ECHO: usize = 16 << 10;

/// What is returned in a second at most: who floods the room must not make the server close the bot for flooding.
const MOST_ECHOES: u32 = 100;

/// Comings and goings that are logged in a second at most; anybody in the room can cause them.
const MOST_LOGGED: u32 = 20;

/// Others in the room whose names are remembered: more than any server lets in.
const MOST_OTHERS: usize = 64;

/// Priorities of an address of the host's own and of one that a STUN server saw (RFC 8445, section 5.1.2.2; one component, local
/// preference 65,535).
pub(super) const PRIORITY_HOST: u32 = 126 << 24 | 65_535 << 8 | 255;
const PRIORITY_REFLEXIVE: u32 = 100 << 24 | 65_535 << 8 | 255;

/// Where the echo server is to be reached, as far as anybody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// An address of its own, or the one its operator gave.
    pub host: Option<SocketAddr>,
    /// The one that a STUN server saw.
    pub reflexive: Option<SocketAddr>,
}

/// The server does not let the bot have a room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the signaling server makes no room: {0}")]
pub struct Refused(pub String);

/// Where in its life on one connection the bot is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Returning,
    Making,
    /// In its room, under this id.
    In {
        peer_id: String,
    },
}

/// The bot.
#[derive(Debug)]
pub struct Bot {
    room_name: String,
    reach: Reach,
    /// The room it was in, and its invite code.
    room: Option<String>,
    step: Step,
    /// Ids and names of the others in the room.
    others: Vec<(String, String)>,
    returned: Second,
    logged: Second,
    /// Who came and went since, and was not logged.
    unlogged: u64,
}

/// What happens in a second.
#[derive(Debug, Default)]
struct Second {
    /// Which, since 1970.
    number: u64,
    times: u32,
}

impl Second {
    /// Counts one more at `unix_ms`, unless it is the `most` already.
    fn takes(&mut self, unix_ms: u64, most: u32) -> bool {
        let number = unix_ms / 1_000;
        if self.number != number {
            *self = Self { number, times: 0 };
        }
        let takes = self.times < most;
        self.times += u32::from(takes);
        takes
    }
}

impl Bot {
    /// A bot whose room is `[BOT] {room_name} ({delay}ms delay)`.
    pub fn new(room_name: &str, delay: Duration, reach: Reach) -> Self {
        // Divided once, so that 300 us is 0.3 and not nearly so.
        let room_name = format!("[BOT] {room_name} ({}ms delay)", delay.as_nanos() as f64 / 1e6);
        Self {
            room_name,
            reach,
            room: None,
            step: Step::Making,
            others: Vec::new(),
            returned: Second::default(),
            logged: Second::default(),
            unlogged: 0,
        }
    }

    /// What to ask on a new connection: the old room, where clients may still be, or a new one.
    pub fn on_connected(&mut self) -> Asked {
        let Some(room) = &self.room else { return self.make_room() };
        self.step = Step::Returning;
        Asked::JoinRoom { room_id: room.clone(), password: None, peer_name: NAME.to_owned() }
    }

    /// Whether it has a room on this connection.
    pub fn is_in(&self) -> bool {
        matches!(self.step, Step::In { .. })
    }

    /// It is to be reached elsewhere: what to ask, if that has to be told.
    pub fn on_reach(&mut self, reach: Reach) -> Option<Asked> {
        let is_new = std::mem::replace(&mut self.reach, reach) != reach;
        if is_new && self.is_in() { self.advertise() } else { None }
    }

    /// The server said something: what to ask, if anything. `unix_ms` is the time, in milliseconds since
    /// 1970, as clients count it.
    pub fn on_told(&mut self, told: Told, unix_ms: u64) -> Result<Option<Asked>, Refused> {
        match (told, &self.step) {
            (Told::RoomCreated { room_id, peer_id, invite_code }, Step::Making) => {
                let [id, code] = [&room_id, &invite_code].map(|text| harmless(text));
                info!("Room {:?} is there: id {id}, invite code {code}", self.room_name);
                self.room = Some(invite_code);
                self.step = Step::In { peer_id };
                Ok(self.advertise())
            }
            (Told::RoomJoined { room_id, peer_id, peers }, Step::Returning) => {
                info!("Back in room {:?}, id {}, with {} others", self.room_name, harmless(&room_id), peers.len());
                self.others.clear();
                for peer in peers {
                    self.remember(peer);
                }
                self.step = Step::In { peer_id };
                Ok(self.advertise())
            }
            (Told::Error { message }, Step::Returning) => {
                debug!("The old room is gone ({}); making a new one", harmless(&message));
                Ok(Some(self.make_room()))
            }
            (Told::Error { message }, Step::Making) => Err(Refused(harmless(&message))),
            (Told::PeerJoined { peer }, _) => {
                self.log(unix_ms, &peer.name, "joined");
                self.remember(peer);
                Ok(None)
            }
            (Told::PeerLeft { peer_id }, _) => {
                let known = self.others.iter().position(|(id, _)| *id == peer_id);
                let name = known.map_or(peer_id, |known| self.others.swap_remove(known).1);
                self.log(unix_ms, &name, "left");
                Ok(None)
            }
            (Told::ChatMessage(chat), Step::In { peer_id }) => {
                let takes = self.returned.takes(unix_ms, MOST_ECHOES);
                Ok(if takes { returned(&chat, peer_id, unix_ms) } else { None })
            }
            _ => Ok(None),
        }
    }

    /// Somebody is there. What is kept of them is bounded, whatever the server says.
    fn remember(&mut self, peer: Peer) {
        if self.others.len() < MOST_OTHERS && peer.id.len() <= LONGEST_NAME {
            self.others.push((peer.id, harmless(&peer.name)));
        }
    }

    fn log(&mut self, unix_ms: u64, name: &str, did: &str) {
        if !self.logged.takes(unix_ms, MOST_LOGGED) {
            self.unlogged += 1;
            return;
        }
        if self.unlogged > 0 {
            info!("{} more joined or left the room", std::mem::take(&mut self.unlogged));
        }
        info!("{:?} {did} the room", harmless(name));
    }

    fn make_room(&mut self) -> Asked {
        self.step = Step::Making;
        self.room = None;
        self.others.clear();
        Asked::CreateRoom { room_name: self.room_name.clone(), password: None, peer_name: NAME.to_owned() }
    }

    /// Older clients read only the last two.
    fn advertise(&self) -> Option<Asked> {
        let Reach { host, reflexive } = self.reach;
        let candidate =
            |address: Option<SocketAddr>, kind, priority| address.map(|address| Candidate { address, kind, priority });
        let candidates: Vec<Candidate> = [
            candidate(host, CandidateType::Host, PRIORITY_HOST),
            candidate(reflexive, CandidateType::ServerReflexive, PRIORITY_REFLEXIVE),
        ]
        .into_iter()
        .flatten()
        .collect();
        let public_addr = reflexive.or(host)?;
        Some(Asked::UpdatePeerInfo { candidates, public_addr: Some(public_addr), local_addr: host })
    }
}

/// What is said in answer to `chat`: the same, but for what is the bot's own, very long, or has been returned already. Two bots in
/// one room would never end.
fn returned(chat: &Chat, own_id: &str, unix_ms: u64) -> Option<Asked> {
    let is_returned_twice = chat.content.strip_prefix(ECHO).is_some_and(|rest| rest.starts_with(ECHO));
    if chat.sender_id == own_id || is_returned_twice || chat.content.len() > LONGEST_ECHO {
        debug!("Did not return {} bytes of chat", chat.content.len());
        return None;
    }
    Some(Asked::ChatMessage(Chat {
        sender_id: own_id.to_owned(),
        sender_name: NAME.to_owned(),
        content: format!("{ECHO}{}", chat.content),
        timestamp: unix_ms,
    }))
}
