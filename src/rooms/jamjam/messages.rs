//! The vocabulary of jamjam's signaling: what clients ask and what a server tells, each as both ends write and read it.
//!
//! JSON with the variant in `type` and its fields in `data`; a variant without fields has no `data`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a client says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Asked {
    /// Make a room, and be its first member.
    CreateRoom {
        /// What the room is called.
        room_name: String,
        /// What others have to know to come in.
        password: Option<String>,
        /// What the client is called.
        peer_name: String,
    },
    /// Come into a room.
    JoinRoom {
        /// Its id or its invite code.
        room_id: String,
        /// Its password, if it needs one.
        password: Option<String>,
        /// What the client is called.
        peer_name: String,
    },
    /// Go out of the room.
    LeaveRoom,
    /// Tell the others where the client is to be reached.
    UpdatePeerInfo {
        /// Ways to reach it; none leaves those that are known.
        #[serde(default)]
        candidates: Vec<Candidate>,
        /// Its address as the world sees it.
        public_addr: Option<SocketAddr>,
        /// Its address as it sees itself.
        local_addr: Option<SocketAddr>,
    },
    /// Which rooms are there?
    ListRooms,
    /// Say something to the others in the room.
    ChatMessage(Chat),
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Told {
    /// The room is made.
    RoomCreated {
        /// Its id: eight lower-case hexadecimal digits.
        room_id: String,
        /// What the client is known by from now on: a UUID.
        peer_id: String,
        /// A code to be read out, which is as good as the id.
        invite_code: String,
    },
    /// The client is in the room.
    RoomJoined {
        /// The room's id, however it was asked for.
        room_id: String,
        /// What the client is known by from now on.
        peer_id: String,
        /// Those who were there before.
        peers: Vec<Peer>,
    },
    /// Somebody came.
    PeerJoined {
        /// Who.
        peer: Peer,
    },
    /// Somebody is to be reached elsewhere.
    PeerUpdated {
        /// Who.
        peer: Peer,
    },
    /// Somebody went.
    PeerLeft {
        /// Who.
        peer_id: String,
    },
    /// The rooms that are there.
    RoomList {
        /// In the order of their making.
        rooms: Vec<Listed>,
    },
    /// Somebody said something.
    ChatMessage(Chat),
    /// What was asked is not done.
    Error {
        /// Why.
        message: String,
    },
}

/// Something said in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// Who says it; a server puts in who it really is.
    pub sender_id: String,
    /// What they are called; likewise.
    pub sender_name: String,
    /// What they say.
    pub content: String,
    /// When, as the sender's clock has it, in its own unit.
    pub timestamp: u64,
}

/// Somebody in a room, as the others see them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// A UUID.
    pub id: String,
    /// What they are called.
    pub name: String,
    /// Ways to reach them.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// Their address as the world sees it.
    pub public_addr: Option<SocketAddr>,
    /// Their address as they see themselves.
    pub local_addr: Option<SocketAddr>,
}

/// A room, as those outside see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Eight lower-case hexadecimal digits.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Who is in it.
    pub peer_count: usize,
    /// Who could be.
    pub max_peers: usize,
    /// Whether it needs a password.
    pub has_password: bool,
    /// A code to be read out.
    pub invite_code: String,
}

/// A way to reach a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Where.
    pub address: SocketAddr,
    /// How it was found.
    #[serde(rename = "candidate_type")]
    pub kind: CandidateType,
    /// The higher, the sooner it is tried (RFC 8445, section 5.1.2).
    pub priority: u32,
}

/// How a way to reach a peer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CandidateType {
    /// It is an address of the peer's own.
    Host,
    /// A STUN server saw it.
    ServerReflexive,
}
