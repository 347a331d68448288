//! The client side of the jamjam dialect, as state machines without a socket.
//!
//! [`RoomClient`] finds and joins a room and learns the addresses of its members. [`EchoParticipant`] creates a room for an echo server,
//! publishes its addresses and echoes chat messages. [`room_table`] formats lists of rooms.

pub use crate::jamjam::RoomInfo;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, info};
use unicode_normalization::UnicodeNormalization;

use super::id_generator::{INVITE_CODE_LEN, is_invite_code};
use super::jamjam::{
    Candidate, CandidateType, ChatMessage, ClientMessage, HOST_PRIORITY, MAX_NAME_BYTES, Peer, ServerMessage,
};
use jamjam_core::sanitize::{sanitize, truncate_bytes};

use super::lock::lock;

/// Maximum number of other members that are stored. The known servers admit fewer members than this to a room.
const MAX_PEERS: usize = 64;

/// Length of a link key in base64.
const MAX_LINK_KEY_BYTES: usize = 44;

/// Maximum number of rooms that an error message lists.
const MAX_LISTED_ROOMS: usize = 20;

/// The server's error for an unknown room id or invite code.
const ROOM_NOT_FOUND: &str = "Room not found";

/// The server's error for a wrong or missing password.
const INVALID_PASSWORD: &str = "Invalid password";

/// Why a client cannot reach a peer through a room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoomError {
    /// No room matches, or no other member of the room has published an address. This may change.
    #[error("{0}")]
    Missing(String),
    /// The server would reject the request, or has rejected it.
    #[error("{0}")]
    Rejected(String),
}

fn list_first(rooms: &[RoomInfo]) -> String {
    let more = rooms.len().saturating_sub(MAX_LISTED_ROOMS);
    let rest = if more > 0 { format!("\nand {more} more; `jamjam-dev rooms` prints all rooms") } else { String::new() };
    room_table(&rooms[..rooms.len() - more]) + &rest
}

/// The state of a [`RoomClient`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum JoinState {
    #[default]
    Listing,
    Joining,
    Joined,
}

/// A client that joins a room by id, code or name and learns the members' addresses.
#[derive(Debug, Default)]
pub struct RoomClient {
    /// The requested room: an id, an invite code, a name or a part of a name.
    query: String,
    password: Option<String>,
    peer_name: String,
    /// The client's own public link key, in base64.
    link_key: Option<String>,
    state: JoinState,
    /// The sanitized name of the room in the server's list; before the list arrives and if the room is not in it, the sanitized query.
    room_name: String,
    /// The rooms in the server's list.
    rooms: Vec<RoomInfo>,
    /// The client's own id in the room.
    peer_id: String,
    peers: Vec<RoomMember>,
    /// Where the members are published.
    shared: Option<SharedMembers>,
}

/// Another member. The stored data is limited, since the server is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomMember {
    /// The id in the room.
    pub id: String,
    /// The display name.
    pub name: String,
    /// In order of preference.
    pub addresses: Vec<SocketAddr>,
    /// The member's public link key, in base64.
    pub link_key: Option<String>,
}

impl RoomMember {
    /// Whether the member calls itself an echo server.
    pub fn is_echo_server(&self) -> bool {
        self.name == PEER_NAME
    }
}

/// The other members of a room, which one thread publishes and another one takes.
#[derive(Clone, Debug, Default)]
pub struct SharedMembers(Arc<Mutex<Option<Vec<RoomMember>>>>);

impl SharedMembers {
    /// Replaces the members.
    pub fn publish(&self, members: &[RoomMember]) {
        *lock(&self.0) = Some(members.to_vec());
    }

    /// The members, if they were published since the last call. Does not wait.
    pub fn take(&self) -> Option<Vec<RoomMember>> {
        self.0.try_lock().ok()?.take()
    }
}

impl RoomClient {
    /// A client called `name` that joins the room `query` and announces this public link key, in base64.
    pub fn new(query: &str, password: Option<String>, name: &str, link_key: Option<String>) -> Self {
        let (room_name, query, peer_name) = (sanitize(query), query.to_owned(), name.to_owned());
        Self { query, password, peer_name, link_key, room_name, ..Self::default() }
    }

    /// A client that publishes the members in `shared`.
    #[must_use]
    pub fn with_members(self, shared: SharedMembers) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// Whether the client joins a room without other members, too.
    pub fn needs_no_member(&self) -> bool {
        self.shared.is_some()
    }

    /// The first message: requests the list of rooms. The list contains each room's name and whether the room needs a password.
    pub fn on_connected(&self) -> ClientMessage {
        ClientMessage::ListRooms
    }

    /// Handles a message from the server; returns the message to send, if any.
    pub fn on_message(&mut self, message: ServerMessage) -> Result<Option<ClientMessage>, RoomError> {
        match (message, self.state) {
            (ServerMessage::RoomList { rooms }, JoinState::Listing) => self.on_room_list(rooms).map(Some),
            (ServerMessage::Error { message }, JoinState::Joining) if message == ROOM_NOT_FOUND => {
                Err(self.not_found())
            }
            (ServerMessage::Error { message }, JoinState::Listing | JoinState::Joining) => Err(self.rejected(&message)),
            (ServerMessage::RoomJoined { peer_id, peers, .. }, JoinState::Joining) => {
                (self.state, self.peer_id) = (JoinState::Joined, peer_id);
                for peer in peers {
                    self.update_peer(peer);
                }
                Ok(None)
            }
            (ServerMessage::PeerJoined { peer } | ServerMessage::PeerUpdated { peer }, JoinState::Joined) => {
                self.update_peer(peer);
                Ok(None)
            }
            (ServerMessage::PeerLeft { peer_id }, JoinState::Joined) => {
                self.peers.retain(|other| other.id != peer_id);
                self.publish_members();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn publish_members(&self) {
        if let Some(shared) = &self.shared {
            shared.publish(&self.peers);
        }
    }

    /// Whether the client is in the room.
    pub fn is_joined(&self) -> bool {
        self.state == JoinState::Joined
    }

    /// The sanitized name of the room; if it is not in the server's list, the sanitized query.
    pub fn room_name(&self) -> &str {
        &self.room_name
    }

    /// The usable addresses of the other members without duplicates, those of echo servers first. Each member has its candidates by descending
    /// priority, then its public address and its local address.
    pub fn peer_addresses(&self) -> Vec<SocketAddr> {
        let mut others: Vec<&RoomMember> = self.peers.iter().collect();
        others.sort_by_key(|other| !other.is_echo_server());
        let mut seen = HashSet::new();
        others.into_iter().flat_map(|other| &other.addresses).copied().filter(|address| seen.insert(*address)).collect()
    }

    /// The link keys of the members with these addresses, in base64. If several members announce an address, the first of them counts: a
    /// member that joins later cannot replace the key of an echo server.
    pub fn link_keys(&self) -> HashMap<SocketAddr, Option<String>> {
        let mut link_keys = HashMap::new();
        for peer in &self.peers {
            for address in &peer.addresses {
                link_keys.entry(*address).or_insert_with(|| peer.link_key.clone());
            }
        }
        link_keys
    }

    /// The error to report if no peer can be reached.
    pub fn no_peer_error(&self) -> RoomError {
        let room = &self.room_name;
        if self.peers.is_empty() {
            return RoomError::Missing(format!("room `{room}` has no other member to send to"));
        }
        let names: Vec<String> = self.peers.iter().map(|other| sanitize(&other.name)).collect();
        let names = names.join(", ");
        RoomError::Missing(format!("no member of room `{room}` has published an address (members: {names})"))
    }

    /// The message that publishes the client's own socket address.
    pub fn address_update(address: SocketAddr) -> ClientMessage {
        publish(Candidate { address, kind: CandidateType::Host, priority: HOST_PRIORITY })
    }

    fn on_room_list(&mut self, rooms: Vec<RoomInfo>) -> Result<ClientMessage, RoomError> {
        self.rooms = rooms;
        // Keyboards and file systems differ in how they compose letters.
        let normalized = |text: &str| -> String { text.nfc().collect() };
        let (query, name) = (self.query.as_str(), normalized(&self.query));
        let matching = |is: &dyn Fn(&RoomInfo) -> bool| self.rooms.iter().filter(|room| is(room)).cloned().collect();
        let by_code: Vec<RoomInfo> = matching(&|room| room.id == query || room.invite_code == query);
        let by_name: Vec<RoomInfo> = matching(&|room| normalized(&room.name) == name);
        let by_part: Vec<RoomInfo> = matching(&|room| normalized(&room.name).contains(&name));
        let found = [by_code, by_name, by_part].into_iter().find(|found| !found.is_empty()).unwrap_or_default();
        match found.as_slice() {
            [room] => {
                self.room_name = sanitize(&room.name);
                if room.has_password && self.password.is_none() {
                    return Err(self.rejected(INVALID_PASSWORD));
                }
                self.state = JoinState::Joining;
                Ok(join_room(&room.id, self.password.clone(), &self.peer_name, self.link_key.as_deref()))
            }
            // A server may hide rooms from the list.
            [] if is_room_id_or_code(query) => {
                self.state = JoinState::Joining;
                Ok(join_room(query, self.password.clone(), &self.peer_name, self.link_key.as_deref()))
            }
            [] => Err(self.not_found()),
            _ => {
                let (query, rooms) = (&self.room_name, list_first(&found));
                let remedy = "give the id or invite code of one of these rooms";
                Err(RoomError::Rejected(format!("several rooms match `{query}`; {remedy}:\n{rooms}")))
            }
        }
    }

    fn not_found(&self) -> RoomError {
        let rooms = match &*self.rooms {
            [] => "the server has no rooms".to_owned(),
            rooms => format!("the server's rooms are:\n{}", list_first(rooms)),
        };
        RoomError::Missing(format!("no room matches `{}`; {rooms}", self.room_name))
    }

    fn rejected(&self, message: &str) -> RoomError {
        let room = &self.room_name;
        RoomError::Rejected(match message {
            INVALID_PASSWORD if self.password.is_none() => {
                format!("room `{room}` needs a password; give --password-file")
            }
            INVALID_PASSWORD => format!("wrong password for room `{room}`"),
            _ => format!("the server rejected the request for room `{room}`: {}", sanitize(message)),
        })
    }

    /// Stores a member or its new addresses. Some servers also list this client itself; that entry is skipped.
    fn update_peer(&mut self, peer: Peer) {
        if peer.id == self.peer_id || peer.id.len() > MAX_NAME_BYTES {
            return;
        }
        let peer = RoomMember {
            addresses: peer.addresses(),
            id: peer.id,
            name: truncate_bytes(peer.name, MAX_NAME_BYTES),
            link_key: peer.link_key.filter(|key| key.len() <= MAX_LINK_KEY_BYTES),
        };
        match self.peers.iter().position(|other| other.id == peer.id) {
            Some(index) => self.peers[index] = peer,
            None if self.peers.len() < MAX_PEERS => self.peers.push(peer),
            None => {}
        }
        self.publish_members();
    }
}

fn join_room(room: &str, password: Option<String>, peer_name: &str, link_key: Option<&str>) -> ClientMessage {
    let (room_id, peer_name, link_key) = (room.to_owned(), peer_name.to_owned(), link_key.map(str::to_owned));
    ClientMessage::JoinRoom { room_id, password, peer_name, link_key, features: Vec::new() }
}

/// Publishes an address in every field that a client may read.
fn publish(candidate: Candidate) -> ClientMessage {
    let address = Some(candidate.address);
    let local_addr = address.filter(|_| candidate.kind == CandidateType::Host);
    ClientMessage::UpdatePeerInfo { candidates: vec![candidate], public_addr: address, local_addr }
}

/// Whether `query` has the form of a room id or an invite code.
fn is_room_id_or_code(query: &str) -> bool {
    let is_id = query.len() == 8 && query.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id || is_invite_code(query)
}

/// Name of the echo server in its room.
pub(crate) const PEER_NAME: &str = "Echo Bot";

/// Prefix of echoed chat messages.
const ECHO_PREFIX: &str = "🔊 ";

/// Chat timestamps that are seconds since the Unix epoch: the years 2001 to 5138.
const SECONDS_IN_CHAT: Range<u64> = 1_000_000_000..100_000_000_000;

/// Maximum length of an echoed chat message, in bytes.
const MAX_ECHO_BYTES: usize = 16 << 10;

/// Maximum number of echoed messages per second. The echoes of a flood must not exceed the server's message rate limit.
const MAX_ECHOES_PER_SECOND: u64 = 100;

/// Candidate priority of a mapped address; see [`HOST_PRIORITY`].
const SERVER_REFLEXIVE_PRIORITY: u32 = 100 << 24 | 65_535 << 8 | 255;

/// The addresses at which clients reach the echo server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressCandidates {
    /// An address of the echo server's own interface, or the address that the operator configured.
    pub host: Option<SocketAddr>,
    /// The mapped address that a STUN server reported.
    pub server_reflexive: Option<SocketAddr>,
}

/// The room of an [`EchoParticipant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredRoom {
    /// The room's id.
    pub id: String,
    /// The room's name.
    pub name: String,
    /// The invite code: nine characters, or six if the server has no newer clients.
    pub code: String,
    /// The invite code for older clients, if the server has one: six characters.
    pub code_6: Option<String>,
}

/// The state of an [`EchoParticipant`] on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum ParticipantState {
    Rejoining,
    #[default]
    Creating,
    /// The participant is in the room and has the id `peer_id`.
    Joined {
        peer_id: String,
    },
}

/// The room member that represents the echo server. This member publishes the server's addresses and echoes chat messages.
#[derive(Debug, Default)]
pub struct EchoParticipant {
    room_name: String,
    addresses: AddressCandidates,
    /// The echo server's public link key, in base64.
    link_key: Option<String>,
    /// The last room.
    room: Option<RegisteredRoom>,
    state: ParticipantState,
    /// The second since the Unix epoch in which messages are counted.
    echo_second: u64,
    echo_count: u64,
}

impl EchoParticipant {
    /// A participant whose room is called `[BOT] {room_name} ({delay}ms delay)`, and which announces this public link key, in base64. Clients
    /// check the server's signature with it.
    pub fn new(room_name: &str, delay: Duration, link_key: Option<String>) -> Self {
        // A single division rounds the value only once. Therefore, 300 µs are printed as 0.3.
        let room_name = format!("[BOT] {room_name} ({}ms delay)", delay.as_nanos() as f64 / 1e6);
        Self { room_name, link_key, ..Self::default() }
    }

    /// The first message on a new connection: joins the participant's room again, where other clients may still be, or creates a room.
    pub fn on_connected(&mut self) -> ClientMessage {
        let Some(room) = &self.room else { return self.create_room() };
        self.state = ParticipantState::Rejoining;
        join_room(&room.code, None, PEER_NAME, self.link_key.as_deref())
    }

    /// Whether the participant is in its room on the current connection.
    pub fn is_joined(&self) -> bool {
        self.joined_room().is_some()
    }

    /// The room that the participant is in on the current connection.
    pub fn joined_room(&self) -> Option<&RegisteredRoom> {
        self.room.as_ref().filter(|_| matches!(self.state, ParticipantState::Joined { .. }))
    }

    /// Sets new addresses; returns the message that publishes them, if necessary.
    pub fn on_addresses(&mut self, addresses: AddressCandidates) -> Option<ClientMessage> {
        let is_new = std::mem::replace(&mut self.addresses, addresses) != addresses;
        if is_new && self.is_joined() { self.update_peer_info() } else { None }
    }

    /// Handles a message from the server; returns the message to send, if any.
    pub fn on_message(&mut self, message: ServerMessage, unix_ms: u64) -> Result<Option<ClientMessage>, RoomError> {
        match (message, &self.state) {
            (
                ServerMessage::RoomCreated { room_id: id, peer_id, invite_code: code, invite_code_6 },
                ParticipantState::Creating,
            ) => {
                let code_6 = invite_code_6.or_else(|| Some(code.clone()).filter(|code| code.len() == INVITE_CODE_LEN));
                let name = self.room_name.clone();
                let room = self.room.insert(RegisteredRoom { id, name, code, code_6 });
                let [invite_code, id] = [&room.code, &room.id].map(|text| sanitize(text));
                let of_older_clients = room.code_6.as_deref().map(sanitize);
                info!(target: "registration", room = self.room_name, invite_code, of_older_clients, id, "room created");
                self.state = ParticipantState::Joined { peer_id };
                Ok(self.update_peer_info())
            }
            (ServerMessage::RoomJoined { room_id, peer_id, peers, .. }, ParticipantState::Rejoining) => {
                info!(target: "registration", room = self.room_name, id = sanitize(&room_id), other_members = peers.len(), "room rejoined");
                self.state = ParticipantState::Joined { peer_id };
                Ok(self.update_peer_info())
            }
            (ServerMessage::Error { message }, ParticipantState::Rejoining) => {
                debug!(target: "registration", error = sanitize(&message), "cannot rejoin the room; creating a new room");
                Ok(Some(self.create_room()))
            }
            (ServerMessage::Error { message }, ParticipantState::Creating) => Err(RoomError::Rejected(format!(
                "the signaling server rejected the creation of a room: {}",
                sanitize(&message)
            ))),
            (ServerMessage::ChatMessage(chat), ParticipantState::Joined { peer_id }) => {
                let second = unix_ms / 1_000;
                if self.echo_second != second {
                    (self.echo_second, self.echo_count) = (second, 0);
                }
                self.echo_count += 1;
                let is_allowed = self.echo_count <= MAX_ECHOES_PER_SECOND;
                Ok(if is_allowed { echo_chat(&chat, peer_id, unix_ms) } else { None })
            }
            _ => Ok(None),
        }
    }

    fn create_room(&mut self) -> ClientMessage {
        self.state = ParticipantState::Creating;
        self.room = None;
        ClientMessage::CreateRoom {
            room_name: self.room_name.clone(),
            password: None,
            peer_name: PEER_NAME.to_owned(),
            link_key: self.link_key.clone(),
            features: Vec::new(),
        }
    }

    /// The message that publishes one address, if there is any. With a second one, newer clients would first have to find out which answers,
    /// and they have only IPv4 sockets. Old clients read only `public_addr` and `local_addr`.
    fn update_peer_info(&self) -> Option<ClientMessage> {
        let AddressCandidates { host, server_reflexive } = self.addresses;
        let candidates = [
            (server_reflexive, CandidateType::ServerReflexive, SERVER_REFLEXIVE_PRIORITY),
            (host, CandidateType::Host, HOST_PRIORITY),
        ];
        let candidates = candidates
            .into_iter()
            .filter_map(|(address, kind, priority)| Some(Candidate { address: address?, kind, priority }));
        candidates.min_by_key(|candidate| candidate.address.is_ipv6()).map(publish)
    }
}

/// The echo of a chat message. The participant's own messages, very long ones, and those that were echoed twice are not echoed: otherwise,
/// two echo servers would echo each other's messages forever.
fn echo_chat(chat: &ChatMessage, own_id: &str, unix_ms: u64) -> Option<ClientMessage> {
    let is_returned_twice = chat.content.strip_prefix(ECHO_PREFIX).is_some_and(|rest| rest.starts_with(ECHO_PREFIX));
    if chat.sender_id == own_id || is_returned_twice || chat.content.len() > MAX_ECHO_BYTES {
        debug!(target: "registration", bytes = chat.content.len(), "chat message not echoed");
        return None;
    }
    // Newer clients count seconds, older ones milliseconds.
    let is_in_seconds = SECONDS_IN_CHAT.contains(&chat.timestamp);
    Some(ClientMessage::ChatMessage(ChatMessage {
        sender_id: own_id.to_owned(),
        sender_name: PEER_NAME.to_owned(),
        content: format!("{ECHO_PREFIX}{}", chat.content),
        timestamp: if is_in_seconds { unix_ms / 1_000 } else { unix_ms },
    }))
}

/// The rooms as a table with a header line, or `no rooms`. The name comes last, because its width depends on the terminal's font.
pub fn room_table(rooms: &[RoomInfo]) -> String {
    if rooms.is_empty() {
        return "no rooms".to_owned();
    }
    let mut text = "id        invite code  members  password  name".to_owned();
    for room in rooms {
        let [id, code] = [&room.id, &room.invite_code].map(|text| sanitize(text));
        let members = format!("{}/{}", room.peer_count, room.max_peers);
        let password = if room.has_password { "yes" } else { "no" };
        // Writing to a string cannot fail.
        _ = write!(text, "\n{id:<8}  {code:<11}  {members:>7}  {password:<8}  {}", sanitize(&room.name));
    }
    text
}
