//! Messages of the jamjam dialect: JSON with the variant in `type` and its fields in `data`.
//!
//! Both generations of clients share these types. The server sends the optional fields for newer clients only to connections on
//! [`NEWER_PATH`](crate::NEWER_PATH).

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::json::{MessageError, integer, message_type, null_as_default, optional_integer, unsupported};

/// Maximum number of candidates of a member that are used. Servers other than ours may accept more candidates than ours.
const MAX_USED_CANDIDATES: usize = 64;

/// Candidate priority of a host address (RFC 8445, section 5.1.2.2). There is one component with the local preference 65,535.
pub(crate) const HOST_PRIORITY: u32 = 126 << 24 | 65_535 << 8 | 255;

/// A message from a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data")]
pub enum ClientMessage {
    /// Creates a room with the client as its first member.
    #[schema(example = json!({"type": "CreateRoom", "data": {
        "room_name": "Thursday jam", "password": null, "peer_name": "Ann",
        "link_key": "wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4=", "features": ["peer_message"]
    }}))]
    CreateRoom {
        /// Display name of the room.
        room_name: String,
        /// Password that other clients need to join the room.
        password: Option<String>,
        /// The client's display name.
        peer_name: String,
        /// The client's public key for encrypted links, in base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link_key: Option<String>,
        /// What the client supports, such as `peer_message`.
        #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
        #[schema(value_type = Option<Vec<String>>)]
        features: Vec<String>,
    },
    /// Joins a room.
    #[schema(example = json!({"type": "JoinRoom", "data": {"room_id": "1a2b3c4d", "password": null, "peer_name": "Bob"}}))]
    JoinRoom {
        /// The room's id or invite code.
        room_id: String,
        /// The room's password, if it has one.
        password: Option<String>,
        /// The client's display name.
        peer_name: String,
        /// The client's public key for encrypted links, in base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link_key: Option<String>,
        /// What the client supports, such as `peer_message`.
        #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
        #[schema(value_type = Option<Vec<String>>)]
        features: Vec<String>,
    },
    /// Leaves the room.
    LeaveRoom,
    /// Publishes the addresses of the client to the other members.
    #[schema(example = json!({"type": "UpdatePeerInfo", "data": {
        "candidates": [{"address": "192.168.1.5:5000", "candidate_type": "Host", "priority": HOST_PRIORITY}],
        "public_addr": "203.0.113.9:5000", "local_addr": null
    }}))]
    UpdatePeerInfo {
        /// Candidate addresses. An empty list keeps the previous candidates.
        #[serde(default, deserialize_with = "null_as_default")]
        #[schema(value_type = Option<Vec<Candidate>>)]
        candidates: Vec<Candidate>,
        /// Address as seen from outside the client's network.
        #[schema(value_type = Option<String>, format = "ip-and-port")]
        public_addr: Option<SocketAddr>,
        /// Address in the client's network.
        #[schema(value_type = Option<String>, format = "ip-and-port")]
        local_addr: Option<SocketAddr>,
    },
    /// Requests the list of rooms.
    ListRooms,
    /// Sends a chat message to the other members. On `/v1/signaling`, the sender receives it too.
    #[schema(example = json!({"type": "ChatMessage", "data": example_chat_message()}))]
    ChatMessage(ChatMessage),
    /// Sends data of the app to members that support `peer_message`. If there is no such member, the message has no effect.
    #[schema(example = json!({"type": "PeerMessage", "data": {
        "to": "c9f0f895-fb98-4b91-a6b5-7d2e8c3f4a02", "body": {"tempo": 120}
    }}))]
    PeerMessage(PeerMessage),
}

/// Messages of the jamjam app, whose clients create, list and join rooms, and exchange addresses and chat messages. `/ws` is equivalent to
/// `/`: the first message selects the dialect. Newer clients connect to `/v1/signaling`, and only they receive the fields for newer clients.
/// The server sends nothing before the first message, and ignores invalid messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data")]
pub enum ServerMessage {
    /// The room was created.
    #[schema(example = json!({"type": "RoomCreated", "data": {
        "room_id": "1a2b3c4d", "peer_id": "8f14e45f-ceea-467f-a8d5-3c1d6a2b9e01", "invite_code": "ABC234XYZ"
    }}))]
    RoomCreated {
        /// The room's id: eight lower-case hexadecimal digits.
        room_id: String,
        /// The client's id in the room: a UUID.
        peer_id: String,
        /// An invite code: six characters, or nine on `/v1/signaling`. Clients can join the room by either code or by the room's id.
        invite_code: String,
        /// The invite code that older clients receive, of six characters; only on `/v1/signaling`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invite_code_6: Option<String>,
    },
    /// The client has joined the room.
    #[schema(example = json!({"type": "RoomJoined", "data": {
        "room_id": "1a2b3c4d", "peer_id": "c9f0f895-fb98-4b91-a6b5-7d2e8c3f4a02", "invite_code": "ABC234XYZ",
        "peers": [example_peer()]
    }}))]
    RoomJoined {
        /// The room's id, even if the client sent the invite code.
        room_id: String,
        /// The client's id in the room: a UUID.
        peer_id: String,
        /// The invite code of nine characters; only on `/v1/signaling`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invite_code: Option<String>,
        /// The invite code that older clients receive, of six characters; only on `/v1/signaling`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        invite_code_6: Option<String>,
        /// The other members.
        #[serde(deserialize_with = "null_as_default")]
        peers: Vec<Peer>,
    },
    /// Another client joined.
    #[schema(example = json!({"type": "PeerJoined", "data": {"peer": example_peer()}}))]
    PeerJoined {
        /// The new member.
        peer: Peer,
    },
    /// A member published new addresses.
    #[schema(example = json!({"type": "PeerUpdated", "data": {"peer": example_peer()}}))]
    PeerUpdated {
        /// The member.
        peer: Peer,
    },
    /// A member left.
    #[schema(example = json!({"type": "PeerLeft", "data": {"peer_id": "c9f0f895-fb98-4b91-a6b5-7d2e8c3f4a02"}}))]
    PeerLeft {
        /// The member's id.
        peer_id: String,
    },
    /// The open rooms.
    #[schema(example = json!({"type": "RoomList", "data": {"rooms": [{
        "id": "1a2b3c4d", "name": "Thursday jam", "peer_count": 1, "max_peers": 10, "has_password": false,
        "invite_code": "ABC234XYZ", "test_room": false
    }]}}))]
    RoomList {
        /// The test rooms, then the others, each in the order of creation.
        #[serde(deserialize_with = "null_as_default")]
        rooms: Vec<RoomInfo>,
    },
    /// A chat message from a member.
    #[schema(example = json!({"type": "ChatMessage", "data": example_chat_message()}))]
    ChatMessage(ChatMessage),
    /// Data that the app of a member sends; only on `/v1/signaling`.
    #[schema(example = json!({"type": "PeerMessage", "data": {
        "to": "c9f0f895-fb98-4b91-a6b5-7d2e8c3f4a02", "from": "8f14e45f-ceea-467f-a8d5-3c1d6a2b9e01", "from_name": "Ann",
        "body": {"tempo": 120}
    }}))]
    PeerMessage(PeerMessage),
    /// A request was rejected.
    #[schema(example = json!({"type": "Error", "data": {"message": "Room not found"}}))]
    Error {
        /// The reason.
        message: String,
    },
}

fn example_chat_message() -> Value {
    json!({
        "sender_id": "8f14e45f-ceea-467f-a8d5-3c1d6a2b9e01", "sender_name": "Ann",
        "content": "From the second verse on", "timestamp": 1_795_158_236
    })
}

fn example_peer() -> Value {
    json!({
        "id": "8f14e45f-ceea-467f-a8d5-3c1d6a2b9e01", "name": "Ann",
        "candidates": [{"address": "192.168.1.5:5000", "candidate_type": "Host", "priority": HOST_PRIORITY}],
        "public_addr": "203.0.113.9:5000", "local_addr": null, "joined_at": 1_795_158_200,
        "features": ["peer_message"], "link_key": "wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4="
    })
}

/// A chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// Id of the sender; the server replaces it with the real id.
    pub sender_id: String,
    /// Name of the sender; the server replaces it with the real name.
    pub sender_name: String,
    /// The text.
    pub content: String,
    /// Timestamp by the sender's clock, in a unit of the sender's choice.
    #[serde(deserialize_with = "integer")]
    pub timestamp: u64,
}

/// Data that the app of one member sends to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerMessage {
    /// Id of the receiver. Without it, all members that support `peer_message` receive the message, even its sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Id of the sender; set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Name of the sender; set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    /// Any object. The server does not read it.
    #[schema(value_type = Object)]
    pub body: Map<String, Value>,
}

/// A member as the other members see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// A UUID.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Candidate addresses.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schema(required)]
    pub candidates: Vec<Candidate>,
    /// Address as seen from outside the member's network.
    #[schema(value_type = Option<String>, required)]
    pub public_addr: Option<SocketAddr>,
    /// Address in the member's network.
    #[schema(value_type = Option<String>, required)]
    pub local_addr: Option<SocketAddr>,
    /// When the member joined, in seconds since the Unix epoch; only on `/v1/signaling`.
    #[serde(default, deserialize_with = "optional_integer", skip_serializing_if = "Option::is_none")]
    pub joined_at: Option<u64>,
    /// What the member supports, of what the server knows; only on `/v1/signaling`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The member's public key for encrypted links, as the member announced it; only on `/v1/signaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_key: Option<String>,
}

impl Peer {
    /// The addresses that identify one host: the candidates by descending priority, then the public address and the local address.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let mut candidates: Vec<&Candidate> = self.candidates.iter().collect();
        candidates.sort_by_key(|candidate| Reverse(candidate.priority));
        let candidates = candidates.into_iter().take(MAX_USED_CANDIDATES).map(|candidate| &candidate.address);
        let addresses = candidates.chain(&self.public_addr).chain(&self.local_addr).copied();
        addresses.filter(is_unicast).collect()
    }
}

/// Whether the address identifies one host. Unspecified, multicast and broadcast IP addresses do not identify one host, and neither does
/// port 0.
fn is_unicast(address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast && address.port() != 0
}

/// A room in the list of rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoomInfo {
    /// Eight lower-case hexadecimal digits.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Number of members.
    #[serde(deserialize_with = "integer")]
    pub peer_count: usize,
    /// Maximum number of members.
    #[serde(deserialize_with = "integer")]
    pub max_peers: usize,
    /// Whether a password is needed.
    pub has_password: bool,
    /// The invite code: six characters, or nine on `/v1/signaling`.
    pub invite_code: String,
    /// Whether the app offers the room for a test, because an echo server is in it; only on `/v1/signaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_room: Option<bool>,
}

/// A candidate address of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// The address.
    #[schema(value_type = String, format = "ip-and-port")]
    pub address: SocketAddr,
    /// How the address was found.
    #[serde(rename = "candidate_type")]
    pub kind: CandidateType,
    /// Candidates with a higher priority are tried first (RFC 8445, section 5.1.2).
    #[serde(deserialize_with = "integer")]
    pub priority: u32,
}

/// The type of a candidate (RFC 8445, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum CandidateType {
    /// An address of the peer's own interface.
    Host,
    /// The mapped address that a STUN server reported.
    ServerReflexive,
}

/// Parses a message. The inner error is the reason with which a message is rejected; other unreadable messages are ignored.
pub(crate) fn parse(text: &str) -> Result<Result<ClientMessage, &'static str>, MessageError> {
    serde_json::from_str(text).map(Ok).or_else(|error| match message_type(text).as_deref() {
        // For messages without fields, some libraries write an empty object or array in `data`.
        Ok("LeaveRoom") => Ok(Ok(ClientMessage::LeaveRoom)),
        Ok("ListRooms") => Ok(Ok(ClientMessage::ListRooms)),
        // The client waits for the answer.
        Ok("CreateRoom" | "JoinRoom") => {
            unsupported(&error).map_or_else(|| Err(error.into()), |reason| Ok(Err(reason)))
        }
        _ => Err(error.into()),
    })
}
