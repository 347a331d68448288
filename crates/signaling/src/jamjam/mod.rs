//! The dialect of the jamjam app: clients create, list and join rooms, and exchange addresses and chat messages.
//!
//! Two generations of clients meet in the same rooms. Newer ones connect to [`NEWER_PATH`](super::route::NEWER_PATH) and receive invite
//! codes of nine characters and more fields. As they disconnect on a message that they cannot read, everything is checked before it is sent
//! to other members.
//!
//! Test rooms are the rooms of echo servers, which newer clients offer for a test, and which keep their id and codes. Names that begin with
//! their prefix are not reserved: the first client that creates a room with such a name becomes its owner, because a server without accounts
//! cannot recognize an echo server. A room that has an owner is protected.

mod messages;
mod owner;
mod room;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::call::{Call, MAX_LIST_DEBT};
use super::device::DeviceId;
use super::dialect::{Dialect, DialectFacts, ProbeMethod};
use super::hub_connections::ConnectionState;
use super::id_generator::IdGenerator;
use super::json::{MessageError, to_json};
use super::lock::lock;
use super::message_docs::closes;
use super::room::{RoomKey, Roster};
use super::rooms::{AnyRooms as _, Directory, Rooms};
use crate::close_code::CloseCode;
use jamjam_core::address::source_network;
use jamjam_core::link::parse_link_key;
use jamjam_core::media_relay::MediaRooms;
use jamjam_core::rate_limit::{Gcra, KeyedGcra, RequestRate};
use jamjam_core::sanitize::truncate_bytes;
use owner::{Owner, OwnerState};
use room::{JamjamMember, JamjamRoom, MAX_PEERS_PER_ROOM, PEER_MESSAGE, ROOM_NAMES, ROOM_NOT_FOUND};

pub(crate) use messages::HOST_PRIORITY;
use messages::parse;
pub use messages::{Candidate, CandidateType, ChatMessage, ClientMessage, Peer, PeerMessage, RoomInfo, ServerMessage};

/// Maximum number of candidates of a peer.
const MAX_CANDIDATES: usize = 16;

/// Maximum length of names, in bytes. Longer names are truncated.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Maximum length of a password, in bytes. A longer password is rejected: truncating it would let other passwords open the room.
const MAX_PASSWORD_BYTES: usize = 256;

/// Message types that select this dialect.
const MESSAGE_TYPES: [&str; 6] = ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage"];

/// What is known about the dialect.
pub(super) static FACTS: DialectFacts = DialectFacts {
    name: "jamjam",
    description: "Rooms of the jamjam app",
    is_selected_by: Some(|message_type, _| MESSAGE_TYPES.contains(&message_type)),
    error: |sentence| to_json(&ServerMessage::Error { message: sentence.to_owned() }),
    channels: |schemas, _| vec![schemas.channel::<ClientMessage, ServerMessage>(Dialect::Jamjam, "jamjam rooms")],
    closes: &[closes! {
        /// 20 wrong passwords on this connection.
        POLICY_VIOLATION "Too many wrong passwords";
    }],
    shutdown_close: (CloseCode::GOING_AWAY, ""),
    probe_types: ["ListRooms", "RoomList"],
    probe_method: ProbeMethod::Order,
    join_messages: [
        r#"{"type":"CreateRoom","data":{"room_name":ROOM,"password":null,"peer_name":NAME}}"#,
        r#"{"type":"JoinRoom","data":{"room_id":ROOM,"password":null,"peer_name":NAME}}"#,
    ],
    load_message: r#"{"type":"ChatMessage","data":{"sender_id":"","sender_name":"","timestamp":0,"content":"TEXT NUMBER"}}"#,
    names_senders: true,
    // On the path for newer clients.
    returns_messages: true,
    room_limit: "10 members in a room; give a higher --room-count",
};

/// Maximum number of wrong passwords per source address. Each wrong password also counts towards the limit of its connection.
pub const WRONG_PASSWORD_RATE: RequestRate = RequestRate { count: 100, period: Duration::from_secs(15 * 60) };

/// Maximum number of sources whose wrong passwords are counted.
const MAX_GUESSING_SOURCES: usize = 100_000;

/// Number of test rooms of the same name that have ids and codes which depend only on the name. Further ones have random ones.
const MAX_NAMESAKES: u64 = 16;

/// Who is severed from the server: as the operator has named the members, and one of them, by its device or else by its name or `*`.
pub(super) type Severed = (String, Option<DeviceId>, String);

/// The jamjam dialect.
pub(super) struct JamjamDialect {
    pub(super) rooms: Rooms<JamjamRoom>,
    /// Relays the media of all rooms, if it is relayed.
    pub(super) media: Option<MediaRooms>,
    pub(super) severed: Mutex<Vec<Severed>>,
    wrong_passwords: Mutex<KeyedGcra<IpAddr>>,
}

impl Default for JamjamDialect {
    fn default() -> Self {
        let wrong_passwords = Gcra::with_request_rate(WRONG_PASSWORD_RATE);
        let wrong_passwords = Mutex::new(KeyedGcra::new(wrong_passwords, MAX_GUESSING_SOURCES));
        let (rooms, media, severed) = <_>::default();
        Self { rooms, media, severed, wrong_passwords }
    }
}

impl JamjamDialect {
    /// Handles a message of the connection that causes the call.
    pub(super) fn on_text(&self, call: &mut Call<'_>, text: &str) -> Result<(), MessageError> {
        let message = match parse(text)? {
            Ok(message) => message,
            Err(reason) => return call.reject(reason),
        };
        if let ClientMessage::CreateRoom { peer_name, .. } | ClientMessage::JoinRoom { peer_name, .. } = &message
            && self.is_severed(client_of(call).1.as_ref(), Some(&truncate_bytes(peer_name.clone(), MAX_NAME_BYTES)))
        {
            let reason = "severed by the operator";
            self.rooms.call_own(call, |room, call| room.leave_with(call, call.sender.conn, reason));
            call.close(call.sender.conn, CloseCode::ABNORMAL_CLOSURE, reason);
            // No fault of the client.
            return Ok(());
        }
        match &message {
            ClientMessage::CreateRoom { .. } | ClientMessage::JoinRoom { .. } | ClientMessage::ListRooms => {
                self.rooms.call_own(call, |room, call| room.reveal_successor(call, call.sender.conn));
            }
            ClientMessage::UpdatePeerInfo { candidates, public_addr, local_addr } => {
                if candidates.len() > MAX_CANDIDATES {
                    return call.reject("Too many candidates");
                }
                let addresses = candidates.iter().map(|candidate| &candidate.address);
                if addresses.chain(public_addr).chain(local_addr).any(|address| address.port() == 0) {
                    return Err(MessageError::ignored("port 0 in an address"));
                }
            }
            _ => {}
        }
        match message {
            ClientMessage::CreateRoom { room_name, password, peer_name, link_key, features } => {
                let arrival = new_member(call, self.media.is_some(), peer_name, link_key, &features)?;
                self.create_room(call, (room_name, password), arrival)
            }
            ClientMessage::JoinRoom { room_id, password, peer_name, link_key, features } => {
                let arrival = new_member(call, self.media.is_some(), peer_name, link_key, &features)?;
                self.join_room(call, (&room_id, password.as_deref()), arrival)
            }
            ClientMessage::ListRooms => self.list_rooms(call),
            ClientMessage::LeaveRoom if !self.rooms.is_member(call.sender.conn) => Ok(()),
            message => {
                let called = self.rooms.call_own(call, |room, call| room.on_message(call, message));
                called.ok_or(MessageError::NOT_IN_ROOM)?
            }
        }
    }

    /// Whether this device, or whoever has this name, is severed from the server. The name of a connection is not known before it joins.
    pub(super) fn is_severed(&self, device: Option<&DeviceId>, name: Option<&str>) -> bool {
        lock(&self.severed).iter().any(|(_, known, severed)| match known {
            Some(known) => device == Some(known),
            None => severed == "*" || name == Some(severed.as_str()),
        })
    }

    fn create_room(
        &self,
        call: &mut Call<'_>,
        (name, password): (String, Option<String>),
        arrival: (JamjamMember, Owner),
    ) -> Result<(), MessageError> {
        let (server, source) = (call.server, call.sender.source);
        let name = truncate_bytes(name, MAX_NAME_BYTES);
        // Newer clients join test rooms without a password.
        let has_prefix = server.limits.test_room_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix));
        let is_test_room = has_prefix && password.is_none();
        let (found, lasting) = if is_test_room { self.find_place(&name, &arrival.1) } else { (None, None) };
        if found.is_none() && self.rooms.directory().rooms_opened_by(source) >= server.limits.max_rooms_per_address {
            return call.reject_limited("Too many rooms");
        }
        if password.as_ref().is_some_and(|password| password.len() > MAX_PASSWORD_BYTES) {
            return call.reject("Password too long");
        }
        let created_ms = call.now.unix_ms();
        let locate = |directory: &mut Directory<JamjamRoom>| {
            // The room that was found may have closed in the meantime.
            if found.is_some_and(|key| directory.contains(key)) {
                return found;
            }
            let is_free = |name: &str| directory.find(name).is_none();
            let names = lasting.clone().filter(|names| names.iter().all(|name| is_free(name)));
            let names = names.unwrap_or_else(|| ROOM_NAMES.map(|generate| lock(&server.ids).unique(generate, is_free)));
            Some(directory.create(|key| {
                let roster = Roster::new(key, names.into(), Some(name.clone()), created_ms);
                let (password, media) = (password.clone(), self.media.clone());
                JamjamRoom { roster, password, owner: None, media, kept_place: None }
            }))
        };
        let created = self.rooms.change_room(call, locate, |room, call| room.create(call, arrival, is_test_room));
        created.unwrap_or(Ok(()))
    }

    /// Finds where the creator of the test room `name` belongs: in its own room if it returns, otherwise in the first of the rooms of this
    /// name that has no living owner, or else in a new one with these names. No names if there are too many rooms of this name.
    fn find_place(&self, name: &str, creator: &Owner) -> (Option<RoomKey>, Option<[String; 3]>) {
        let names = |number| {
            let mut ids = IdGenerator::of_name(name, number);
            ROOM_NAMES.map(|generate| generate(&mut ids))
        };
        let namesakes: Vec<_> = (0..MAX_NAMESAKES).map(names).collect();
        let find = |is_fitting: fn(&JamjamRoom, &Owner) -> bool| {
            let key = |room: &JamjamRoom| is_fitting(room, creator).then_some(room.roster.key);
            namesakes.iter().find_map(|names| self.rooms.read(|directory| directory.find(&names[0]), key)?)
        };
        let found = find(JamjamRoom::is_owner_returning).or_else(|| find(JamjamRoom::is_free_for));
        let is_unused = |names: &[String; 3]| self.rooms.directory().find(&names[0]).is_none();
        (found, namesakes.into_iter().find(is_unused))
    }

    fn join_room(
        &self,
        call: &mut Call<'_>,
        (name, password): (&str, Option<&str>),
        arrival: (JamjamMember, Owner),
    ) -> Result<(), MessageError> {
        // Room ids and the two kinds of invite codes have different lengths, so `name` cannot match several.
        let find = |directory: &mut Directory<_>| directory.find(name);
        let expected = self.rooms.read(find, |room| room.password.clone());
        if let Some(Some(expected)) = expected {
            let (now, network) = (call.now.monotonic, source_network(call.sender.source));
            if !lock(&self.wrong_passwords).wait(now, network).is_zero() {
                return call.reject_limited("Too many wrong passwords from this address");
            }
            let given = password.unwrap_or_default();
            // The comparison takes constant time for passwords of equal length.
            if password.is_none() || !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
                lock(&self.wrong_passwords).charge(now, network, 1);
                let rejected = call.reject("Invalid password");
                self.rooms.count_failed_guess(call, "Too many wrong passwords");
                return rejected;
            }
        }
        let joined = self.rooms.change_room(call, find, |room, call| room.join(call, arrival));
        joined.unwrap_or_else(|| call.reject(ROOM_NOT_FOUND))
    }

    fn list_rooms(&self, call: &mut Call<'_>) -> Result<(), MessageError> {
        if !call.may_request(MAX_LIST_DEBT) {
            return call.reject_limited("Too many requests");
        }
        let (is_newer, ..) = client_of(call);
        let (mut rooms, mut others) = (Vec::new(), Vec::new());
        self.rooms.map(|room| {
            let list = if room.is_test_room() { &mut rooms } else { &mut others };
            list.push(RoomInfo {
                id: room.roster.name().to_owned(),
                name: room.roster.display_name.clone().unwrap_or_default(),
                peer_count: room.roster.list.len(),
                max_peers: MAX_PEERS_PER_ROOM,
                has_password: room.password.is_some(),
                invite_code: room.invite_code(is_newer),
                test_room: is_newer.then(|| room.is_test_room()),
            });
        });
        rooms.append(&mut others);
        call.send_requested([call.sender.conn], || to_json(&ServerMessage::RoomList { rooms }));
        Ok(())
    }
}

/// Whether the connection belongs to a newer client, as only these connect to a path of the dialect, the device that it has proven, and the
/// server's address at which it arrived.
fn client_of(call: &Call<'_>) -> (bool, Option<DeviceId>, Ipv4Addr) {
    let client = |connection: &mut ConnectionState| {
        (connection.is_dialect_in_url, connection.device.clone(), connection.local_ip)
    };
    call.server.connection(call.sender.conn, client).unwrap_or((false, None, Ipv4Addr::LOCALHOST))
}

/// A member that is about to enter a room, and the owner that it may be, unless its link key is invalid, or its media cannot be relayed.
fn new_member(
    call: &mut Call<'_>,
    is_relayed: bool,
    name: String,
    link_key: Option<String>,
    features: &[String],
) -> Result<(JamjamMember, Owner), MessageError> {
    if link_key.as_deref().is_some_and(|key| parse_link_key(key).is_none()) {
        return call.reject("Invalid link key");
    }
    let source = call.sender.source.to_canonical();
    if is_relayed && source.is_ipv6() && !source.is_loopback() {
        return call.reject("media is relayed over IPv4 only");
    }
    let known = features.iter().find(|feature| *feature == PEER_MESSAGE);
    let (conn, (is_newer, device, local_ip)) = (call.sender.conn, client_of(call));
    let owner = Owner { conn, source: call.sender.source, device, link_key: link_key.clone(), state: OwnerState::Open };
    let peer = Peer {
        id: lock(&call.server.ids).uuid(),
        name: truncate_bytes(name, MAX_NAME_BYTES),
        joined_at: Some(call.now.unix_ms() / 1_000),
        features: known.cloned().into_iter().collect(),
        link_key,
        ..Peer::default()
    };
    Ok((JamjamMember { peer, is_newer, local_ip, media: None, successor: None }, owner))
}
