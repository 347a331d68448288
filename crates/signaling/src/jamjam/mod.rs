//! The dialect of the jamjam app: clients create, list and join rooms, and exchange addresses and chat messages.
//!
//! Two generations of clients meet in the same rooms. Newer ones connect to [`NEWER_PATH`](super::route::NEWER_PATH) and receive invite
//! codes of nine characters and more fields. As they disconnect on a message that they cannot read, everything is checked before it is sent
//! to other members.
//!
//! Test rooms are the rooms of echo servers, which newer clients offer for a test, and which keep their id and codes. Names that begin with
//! their prefix are not protected: whoever creates a room of a name first has it, because a server without accounts knows nothing else of an
//! echo server. What is protected is a room that has an owner.

mod messages;
mod owner;
mod room;

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tracing::debug;

use super::connection_context::{ConnectionContext, MAX_LIST_DEBT};
use super::counters::DialectCounters;
use super::device::DeviceId;
use super::dialect::Dialect;
use super::id_generator::IdGenerator;
use super::json::{MessageError, to_json};
use super::lock::lock;
use super::room::{RoomKey, Roster};
use super::rooms::{AnyRooms, Directory, Rooms};
use jamjam_core::close_code::CloseCode;
use jamjam_core::link::parse_link_key;
use jamjam_core::media_relay::MediaRooms;
use jamjam_core::rate_limit::{WindowLimit, WindowLimiter};
use jamjam_core::sanitize::truncate_bytes;
use owner::{Owner, OwnerState};
use room::{JamjamMember, JamjamRoom, MAX_PEERS_PER_ROOM, PEER_MESSAGE, ROOM_NAMES};

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
pub(super) const MESSAGE_TYPES: [&str; 6] =
    ["CreateRoom", "JoinRoom", "LeaveRoom", "UpdatePeerInfo", "ListRooms", "ChatMessage"];

/// Maximum number of wrong passwords per source address. Each wrong password also counts towards the limit of its connection.
const WRONG_PASSWORD_LIMIT: WindowLimit = WindowLimit { count: 100, period: Duration::from_secs(15 * 60) };

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
    wrong_passwords: Mutex<WindowLimiter>,
}

impl Default for JamjamDialect {
    fn default() -> Self {
        let wrong_passwords = Mutex::new(WindowLimiter::new(WRONG_PASSWORD_LIMIT, MAX_GUESSING_SOURCES));
        let (rooms, media, severed) = <_>::default();
        Self { rooms, media, severed, wrong_passwords }
    }
}

impl JamjamDialect {
    /// Handles a message.
    pub(super) fn on_text(&self, ctx: &mut ConnectionContext<'_>, text: &str) -> Result<(), MessageError> {
        let message = match parse(text)? {
            Ok(message) => message,
            Err(reason) => return reject(ctx, reason),
        };
        let bytes = text.len();
        if let ClientMessage::CreateRoom { peer_name, .. } | ClientMessage::JoinRoom { peer_name, .. } = &message
            && self.is_severed(ctx.newer_client().1.as_ref(), Some(&truncate_bytes(peer_name.clone(), MAX_NAME_BYTES)))
        {
            let reason = "severed by the operator";
            self.rooms.call_own(ctx, |room, call| room.leave_with(call, call.conn, reason));
            ctx.close(ctx.conn, CloseCode::ABNORMAL_CLOSURE, reason);
            // No fault of the client.
            return Ok(());
        }
        match &message {
            ClientMessage::CreateRoom { .. } | ClientMessage::JoinRoom { .. } | ClientMessage::ListRooms => {
                self.rooms.call_own(ctx, |room, call| room.reveal_successor(call, call.conn));
            }
            ClientMessage::UpdatePeerInfo { candidates, public_addr, local_addr } => {
                if candidates.len() > MAX_CANDIDATES {
                    return reject(ctx, "Too many candidates");
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
                let member = new_member(ctx, self.media.is_some(), peer_name, link_key, &features)?;
                self.create_room(ctx, (room_name, password), member, bytes)
            }
            ClientMessage::JoinRoom { room_id, password, peer_name, link_key, features } => {
                let member = new_member(ctx, self.media.is_some(), peer_name, link_key, &features)?;
                self.join_room(ctx, (&room_id, password.as_deref()), member, bytes)
            }
            ClientMessage::ListRooms => self.list_rooms(ctx),
            ClientMessage::LeaveRoom if !self.rooms.is_member(ctx.conn) => Ok(()),
            message => {
                let called = self.rooms.call_own(ctx, |room, call| room.on_message(call, message, bytes));
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
        ctx: &mut ConnectionContext<'_>,
        (name, password): (String, Option<String>),
        member: JamjamMember,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let (state, source) = (ctx.state, ctx.source);
        let name = truncate_bytes(name, MAX_NAME_BYTES);
        // Newer clients join test rooms without a password.
        let has_prefix = state.limits.test_room_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix));
        let is_test_room = has_prefix && password.is_none();
        let (mut arrival, mut created) = (Some(arrival(ctx, member)), None);
        // In the meantime, another owner may have taken the place that is found.
        while let Some((_, creator)) = &arrival {
            let (found, names) = if is_test_room { self.find_place(&name, creator) } else { (None, None) };
            if found.is_none() && self.rooms.directory().rooms_opened_by(source) >= state.limits.max_rooms_per_address {
                ctx.count(DialectCounters::add_limited);
                return reject(ctx, "Too many rooms");
            }
            if password.as_ref().is_some_and(|password| password.len() > MAX_PASSWORD_BYTES) {
                return reject(ctx, "Password too long");
            }
            let created_ms = ctx.now.unix_ms();
            let locate = |directory: &mut Directory<JamjamRoom>| {
                if found.is_some() {
                    return found;
                }
                let is_free = |name: &str| directory.find(name).is_none();
                if names.iter().flatten().any(|name| !is_free(name)) {
                    return None;
                }
                let names = names.clone();
                let names =
                    names.unwrap_or_else(|| ROOM_NAMES.map(|generate| lock(&state.ids).unique(generate, is_free)));
                let roster = |key| Roster::new(key, names.into(), Some(name.clone()), created_ms);
                let room = |key| JamjamRoom::new(roster(key), password.clone(), self.media.clone());
                Some(directory.create(Some(source), room))
            };
            created =
                self.rooms.change_room(ctx, locate, |room, call| room.create(call, &mut arrival, is_test_room, bytes));
        }
        // A room that has failed has closed the connection.
        created.unwrap_or(Ok(()))
    }

    /// Finds where the creator of the test room `name` belongs: in its own room if it returns, otherwise in the first of the rooms of this
    /// name that has no living owner, or in a new one with these names. Neither if there are too many rooms of this name.
    fn find_place(&self, name: &str, creator: &Owner) -> (Option<RoomKey>, Option<[String; 3]>) {
        let mut first = (None, None);
        for number in 0..MAX_NAMESAKES {
            let mut ids = IdGenerator::of_name(name, number);
            let names = ROOM_NAMES.map(|generate| generate(&mut ids));
            let read =
                |room: &JamjamRoom| (room.roster.key, room.is_owner_returning(creator), room.is_free_for(creator));
            let room = self.rooms.read(|directory| directory.find(&names[0]), read);
            if let Some((key, true, _)) = room {
                return (Some(key), None);
            }
            if first != (None, None) {
                continue;
            }
            if let Some((key, _, is_free)) = room {
                first.0 = is_free.then_some(key);
            } else if names.iter().all(|name| self.rooms.directory().find(name).is_none()) {
                first.1 = Some(names);
            }
        }
        first
    }

    fn join_room(
        &self,
        ctx: &mut ConnectionContext<'_>,
        (name, password): (&str, Option<&str>),
        member: JamjamMember,
        bytes: usize,
    ) -> Result<(), MessageError> {
        // Room ids and the two kinds of invite codes have different lengths, so `name` cannot match several.
        let find = |directory: &mut Directory<_>| directory.find(name);
        let expected = self.rooms.read(find, |room| room.password.clone());
        if let Some(Some(expected)) = expected {
            let now = ctx.now.monotonic;
            if lock(&self.wrong_passwords).retry_after(now, ctx.source).is_some() {
                ctx.count(DialectCounters::add_limited);
                return reject(ctx, "Too many wrong passwords from this address");
            }
            let given = password.unwrap_or_default();
            // The comparison takes constant time for passwords of equal length.
            if password.is_none() || !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
                // The limit is not reached yet, so the password is counted.
                let _ = lock(&self.wrong_passwords).check(now, ctx.source);
                let rejected = reject(ctx, "Invalid password");
                if ctx.count_failed_guess() {
                    let reason = "too many wrong passwords";
                    self.rooms.call_own(ctx, |room, call| room.leave_with(call, call.conn, reason));
                    ctx.reject_and_close(CloseCode::POLICY_VIOLATION, "Too many wrong passwords");
                }
                return rejected;
            }
        }
        let arrival = arrival(ctx, member);
        let joined = self.rooms.change_room(ctx, find, |room, call| room.join(call, arrival, bytes));
        joined.unwrap_or_else(|| reject(ctx, "Room not found"))
    }

    fn list_rooms(&self, ctx: &mut ConnectionContext<'_>) -> Result<(), MessageError> {
        if !ctx.state.may_request(ctx.now, ctx.source, MAX_LIST_DEBT) {
            ctx.count(DialectCounters::add_limited);
            return reject(ctx, "Too many requests");
        }
        let (is_newer, _) = ctx.newer_client();
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
        let list = to_json(&ServerMessage::RoomList { rooms });
        ctx.charge(list.len());
        ctx.reply_with(list);
        Ok(())
    }
}

fn reject<T>(ctx: &mut ConnectionContext<'_>, reason: &'static str) -> Result<T, MessageError> {
    debug!(target: "signaling", dialect = Dialect::Jamjam.name(), conn = ctx.conn.0, reason, "request rejected");
    ctx.reply(&ServerMessage::Error { message: reason.to_owned() });
    Err(MessageError::Rejected(reason))
}

/// A member that is about to enter a room, and the owner that it may be.
fn arrival(ctx: &ConnectionContext<'_>, member: JamjamMember) -> (JamjamMember, Owner) {
    let (device, link_key) = (ctx.newer_client().1, member.peer.link_key.clone());
    (member, Owner { conn: ctx.conn, source: ctx.source, device, link_key, state: OwnerState::Open })
}

/// A new member, unless its link key is invalid, or its media cannot be relayed.
fn new_member(
    ctx: &mut ConnectionContext<'_>,
    is_relayed: bool,
    name: String,
    link_key: Option<String>,
    features: &[String],
) -> Result<JamjamMember, MessageError> {
    if link_key.as_deref().is_some_and(|key| parse_link_key(key).is_none()) {
        return reject(ctx, "Invalid link key");
    }
    let source = ctx.source.to_canonical();
    if is_relayed && source.is_ipv6() && !source.is_loopback() {
        return reject(ctx, "media is relayed over IPv4 only");
    }
    let known = features.iter().find(|feature| *feature == PEER_MESSAGE);
    let peer = Peer {
        id: lock(&ctx.state.ids).uuid(),
        name: truncate_bytes(name, MAX_NAME_BYTES),
        joined_at: Some(ctx.now.unix_ms() / 1_000),
        features: known.cloned().into_iter().collect(),
        link_key,
        ..Peer::default()
    };
    let local_ip = ctx.state.connection(ctx.conn, |connection| connection.local_ip);
    Ok(JamjamMember::new(peer, ctx.newer_client().0, local_ip.unwrap_or(Ipv4Addr::LOCALHOST)))
}
