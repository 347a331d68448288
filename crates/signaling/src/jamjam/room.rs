//! A jamjam room: its members, what each generation of clients sees of them, and the owner of a test room.

use std::net::Ipv4Addr;

use tracing::debug;

use super::messages::{
    Candidate, CandidateType, ChatMessage, ClientMessage, HOST_PRIORITY, Peer, PeerMessage, ServerMessage,
};
use super::owner::{Owner, OwnerState, RECLAIM_PERIOD};
use crate::connection_context::MAX_JOIN_DEBT;
use crate::dialect::Dialect;
use crate::event_sink::ConnId;
use crate::id_generator::{INVITE_CODE_LEN, IdGenerator, LONG_INVITE_CODE_LEN};
use crate::json::{MessageError, to_json};
use crate::limits::SignalingLimits;
use crate::room::{CHANGED_ROOM, ConnectionClose, LEFT_ROOM, Member, MemberData, MemberInfo, Room, RoomCall, Roster};
use jamjam_core::close_code::CloseCode;
use jamjam_core::media_relay::{MediaMember, MediaRooms};
use jamjam_core::time::Time;

/// Maximum number of members in a room, including its creator.
pub(super) const MAX_PEERS_PER_ROOM: usize = 10;

/// Reason of an error: there is no place in the room.
const ROOM_FULL: &str = "Room is full";

/// Reason of an error: there is no socket that could stand for another member.
const NO_PORTS: &str = "No media ports left on the server";

/// The feature of members that receive [`PeerMessage`]. Other features are not passed on.
pub(super) const PEER_MESSAGE: &str = "peer_message";

/// Generates the names of a room: its id, and the invite codes for older and for newer clients.
pub(super) const ROOM_NAMES: [fn(&mut IdGenerator) -> String; 3] =
    [IdGenerator::room_id, |ids| ids.invite_code(INVITE_CODE_LEN), |ids| ids.invite_code(LONG_INVITE_CODE_LEN)];

/// A room.
pub(crate) struct JamjamRoom {
    /// Its names are the id and the invite codes for older and for newer clients.
    pub(super) roster: Roster<JamjamMember>,
    pub(super) password: Option<String>,
    /// The owner of a test room.
    pub(super) owner: Option<Owner>,
    /// Relays the media of the members, if it is relayed.
    media: Option<MediaRooms>,
    /// Until when the place of a lost owner is kept, and its connection.
    kept_place: Option<(Time, ConnId)>,
}

/// A member: what newer clients see of it, and whether it is a newer client itself.
pub(crate) struct JamjamMember {
    pub(super) peer: Peer,
    pub(super) is_newer: bool,
    /// The server's address at which the member's connection arrived.
    local_ip: Ipv4Addr,
    /// The member in the relay of media, while the room has it.
    media: Option<MediaMember>,
    /// The member that replaces this one as soon as its address is known.
    pub(super) successor: Option<Peer>,
}

impl JamjamMember {
    pub(super) fn new(peer: Peer, is_newer: bool, local_ip: Ipv4Addr) -> Self {
        Self { peer, is_newer, local_ip, media: None, successor: None }
    }

    /// What this member sees of another one, or of its successor, `peer`. While media is relayed, the relay's address replaces all addresses.
    fn sees(&self, other: &Self, peer: &Peer) -> Peer {
        let mut peer = seen_by(self.is_newer, peer);
        if let Some((recipient, member)) = self.media.as_ref().zip(other.media.as_ref()) {
            let priority = peer.candidates.iter().map(|candidate| candidate.priority).max().unwrap_or(HOST_PRIORITY);
            let address = member.address_for(recipient);
            let candidate = address.map(|address| Candidate { address, kind: CandidateType::Host, priority });
            (peer.candidates, peer.public_addr, peer.local_addr) = (candidate.into_iter().collect(), address, None);
        }
        peer
    }
}

impl MemberData for JamjamMember {
    const DIALECT: Dialect = Dialect::Jamjam;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: &self.peer.id, name: Some(&self.peer.name), is_control_channel: false }
    }

    fn user(&self) -> &str {
        &self.peer.name
    }
}

impl Room for JamjamRoom {
    type Member = JamjamMember;

    fn roster(&self) -> &Roster<JamjamMember> {
        &self.roster
    }

    fn roster_mut(&mut self) -> &mut Roster<JamjamMember> {
        &mut self.roster
    }

    fn leave(&mut self, call: &mut RoomCall<'_>, close: &ConnectionClose<'_>) {
        // The server loses a connection, or the client closes it. A connection that the server closes does not return, and one
        // that has changed the room has another place.
        if close.server_reason.is_some() || !self.keep_place(call) {
            self.leave_with(call, call.conn, &close.leave_reason());
        }
    }

    fn is_protected(&self, _: &SignalingLimits) -> bool {
        self.password.is_some()
    }

    fn next_deadline(&self) -> Option<Time> {
        self.kept_place.map(|(at, _)| at)
    }

    /// The place of a lost owner is kept no longer.
    fn on_deadline(&mut self, call: &mut RoomCall<'_>) {
        let Some((_, lost)) = self.kept_place.take() else { return };
        match self.owner.as_ref().map(|owner| owner.conn) {
            Some(conn) if conn != lost => _ = self.reveal_successor(call, conn),
            _ => self.leave_with(call, lost, "connection lost"),
        }
    }
}

impl JamjamRoom {
    pub(super) fn new(roster: Roster<JamjamMember>, password: Option<String>, media: Option<MediaRooms>) -> Self {
        Self { roster, password, owner: None, media, kept_place: None }
    }

    /// Whether there is no place for `conn`, which may be in the room.
    fn is_full_for(&self, conn: ConnId) -> bool {
        self.roster.list.iter().filter(|member| member.conn != conn).count() >= MAX_PEERS_PER_ROOM
    }

    /// The invite code that clients of one generation see.
    pub(super) fn invite_code(&self, is_newer: bool) -> String {
        self.roster.names[1 + usize::from(is_newer)].clone()
    }

    /// Whether `other` is the owner of the room and has a place there.
    pub(super) fn is_owner_returning(&self, other: &Owner) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.is_returning(other) && (owner.is_living() || !self.is_full_for(other.conn))
    }

    /// Whether `other` may replace the owner of the room and has a place there.
    pub(super) fn is_free_for(&self, other: &Owner) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.may_be_replaced(other) && (owner.is_living() || !self.is_full_for(other.conn))
    }

    /// Whether `other` can be the owner: the room is new, or it returns, or another owner may be replaced.
    fn has_place_for(&self, other: &Owner) -> bool {
        self.owner.is_none() || self.is_owner_returning(other) || self.is_free_for(other)
    }

    /// Whether the room is offered for a test.
    pub(super) fn is_test_room(&self) -> bool {
        self.owner.as_ref().is_some_and(Owner::is_living)
    }

    /// Adds the member that has created or found the room for itself, with a message of `bytes` bytes, unless it is an owner that has no place
    /// here.
    pub(super) fn create(
        &mut self,
        call: &mut RoomCall<'_>,
        arrival: &mut Option<(JamjamMember, Owner)>,
        is_test_room: bool,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let own = arrival.take_if(|(_, creator)| !is_test_room || self.has_place_for(creator));
        // Without a reply: the caller looks for another room.
        let mut arrival = own.ok_or(MessageError::Rejected(ROOM_FULL))?;
        if !self.relay_media(call, &mut arrival) {
            return reject(call, NO_PORTS);
        }
        self.leave_with(call, call.conn, CHANGED_ROOM);
        let is_newer = arrival.0.is_newer;
        let peer_id = self.enter(call, arrival, is_test_room);
        call.reply(&ServerMessage::RoomCreated {
            room_id: self.roster.name().to_owned(),
            peer_id,
            invite_code: self.invite_code(is_newer),
            invite_code_6: is_newer.then(|| self.invite_code(false)),
        });
        self.roster.log_message("CreateRoom", call.conn, 0, bytes);
        Ok(())
    }

    /// Adds a member that has named the room, with a message of `bytes` bytes.
    pub(super) fn join(
        &mut self,
        call: &mut RoomCall<'_>,
        mut arrival: (JamjamMember, Owner),
        bytes: usize,
    ) -> Result<(), MessageError> {
        let is_owner = self.is_owner_returning(&arrival.1);
        if self.is_full_for(call.conn) && !is_owner {
            return reject(call, ROOM_FULL);
        }
        if !call.state.may_request(call.now, call.source, MAX_JOIN_DEBT) {
            call.effects.counters.add_limited();
            return reject(call, "Too many requests");
        }
        if !self.relay_media(call, &mut arrival) {
            return reject(call, NO_PORTS);
        }
        self.leave_with(call, call.conn, CHANGED_ROOM);
        let is_newer = arrival.0.is_newer;
        let peer_id = self.enter(call, arrival, is_owner);
        let others = self.roster.list.iter().filter(|member| member.conn != call.conn);
        let own = self.roster.find(call.conn);
        let seen = |other: &Member<JamjamMember>| own.map(|own| own.data.sees(&other.data, &other.data.peer));
        let joined = ServerMessage::RoomJoined {
            room_id: self.roster.name().to_owned(),
            peer_id,
            invite_code: is_newer.then(|| self.invite_code(true)),
            invite_code_6: is_newer.then(|| self.invite_code(false)),
            peers: others.filter_map(seen).collect(),
        };
        call.send_requested([call.conn], || to_json(&joined));
        self.roster.log_message("JoinRoom", call.conn, self.roster.list.len() - 1, bytes);
        Ok(())
    }

    /// Adds the connection, which is not in this room, and informs the others. An owner takes the place of the previous one, or else becomes
    /// the first member. Returns the id of the member: a returning owner remains the same.
    fn enter(&mut self, call: &mut RoomCall<'_>, (member, owner): (JamjamMember, Owner), is_owner: bool) -> String {
        let (is_returning, conn, id) = (self.is_owner_returning(&owner), call.conn, member.peer.id.clone());
        let previous = if is_owner { self.owner.replace(owner).filter(Owner::is_living) } else { None };
        let Some(previous) = previous else {
            for is_newer in [true, false] {
                let joined = || to_json(&ServerMessage::PeerJoined { peer: seen_by(is_newer, &member.peer) });
                call.send_requested(self.others_of(is_newer, conn), joined);
            }
            self.roster.join(call, member, is_owner);
            return id;
        };
        self.roster.replace(call, previous.conn);
        if previous.state == OwnerState::Open {
            call.close(previous.conn, CloseCode::NORMAL_CLOSURE, "Duplicate connection");
        }
        let Some(Member { data: place, .. }) = self.roster.find_mut(conn) else { return id };
        (place.is_newer, place.local_ip, place.media) = (member.is_newer, member.local_ip, member.media);
        if is_returning {
            return place.peer.id.clone();
        }
        place.successor = Some(member.peer);
        id
    }

    /// Removes a member and informs the others.
    pub(super) fn leave_with(&mut self, call: &mut RoomCall<'_>, conn: ConnId, reason: &str) {
        if let Some(owner) = self.owner.as_mut().filter(|owner| owner.conn == conn) {
            owner.state = OwnerState::Gone;
        }
        if let Some(left) = self.roster.leave(call, conn, reason) {
            call.send(self.roster.connections(), &ServerMessage::PeerLeft { peer_id: left.peer.id });
            if let Some(mut media) = left.media {
                media.is_lost = ![LEFT_ROOM, CHANGED_ROOM].contains(&reason);
            }
        }
    }

    /// Gives a member that is about to enter its sockets, if media is relayed. Returns false if there are none left.
    fn relay_media(&self, call: &RoomCall<'_>, (member, owner): &mut (JamjamMember, Owner)) -> bool {
        let Some(media) = &self.media else { return true };
        // A returning owner remains the same for the others.
        let previous = self.owner.as_ref().filter(|_| self.is_owner_returning(owner));
        let previous = previous.and_then(|previous| self.roster.find(previous.conn));
        let id = &previous.map_or(&member.peer, |previous| &previous.data.peer).id;
        let names = [id.clone(), member.peer.name.clone()];
        let leaving = self.roster.find(call.conn).or(previous).and_then(|leaving| leaving.data.media.as_ref());
        member.media = media.join(self.roster.key.0.get(), names, (call.source, member.local_ip), leaving);
        member.media.is_some()
    }

    /// Sends the other members what they see of the member with this connection, or of its successor, `peer`.
    fn send_peer(&self, call: &mut RoomCall<'_>, conn: ConnId, peer: &Peer, message: fn(Peer) -> ServerMessage) {
        let Some(member) = self.roster.find(conn).filter(|_| self.media.is_some()) else {
            for is_newer in [true, false] {
                call.send(self.others_of(is_newer, conn), &message(seen_by(is_newer, peer)));
            }
            return;
        };
        for other in self.roster.receivers().filter(|other| other.conn != conn) {
            call.send([other.conn], &message(other.data.sees(&member.data, peer)));
        }
    }

    /// The members of a generation of clients, without `conn`.
    fn others_of(&self, is_newer: bool, conn: ConnId) -> impl Iterator<Item = ConnId> {
        let of_generation = self.roster.receivers().filter(move |member| member.data.is_newer == is_newer);
        of_generation.map(|member| member.conn).filter(move |other| *other != conn)
    }

    /// Lets the member that replaces a lost owner appear, now that its address is known or there is no time left: first it joins, then the
    /// lost one leaves, so that clients change from one to the other.
    pub(super) fn reveal_successor(&mut self, call: &mut RoomCall<'_>, conn: ConnId) -> bool {
        let Some(Member { data: member, .. }) = self.roster.find_mut(conn) else { return false };
        let Some(successor) = member.successor.take() else { return false };
        let peer_id = std::mem::replace(&mut member.peer, successor.clone()).id;
        self.send_peer(call, conn, &successor, |peer| ServerMessage::PeerJoined { peer });
        call.send(self.roster.others(conn), &ServerMessage::PeerLeft { peer_id });
        true
    }

    /// The connection was lost. If it is the owner of its room, its place is kept for a while. Returns whether it is.
    fn keep_place(&mut self, call: &RoomCall<'_>) -> bool {
        let Some(owner) = self.owner.as_mut().filter(|owner| owner.conn == call.conn) else { return false };
        let Some(member) = self.roster.find_mut(call.conn) else { return false };
        owner.state = OwnerState::Lost;
        member.is_lost = true;
        // The others know only the one before.
        member.data.successor = None;
        self.kept_place = Some((call.now.monotonic + RECLAIM_PERIOD, call.conn));
        true
    }

    /// Handles a message of `bytes` bytes that concerns only this room.
    pub(super) fn on_message(
        &mut self,
        call: &mut RoomCall<'_>,
        message: ClientMessage,
        bytes: usize,
    ) -> Result<(), MessageError> {
        let conn = call.conn;
        if !matches!(message, ClientMessage::UpdatePeerInfo { .. }) {
            self.reveal_successor(call, conn);
        }
        match message {
            ClientMessage::LeaveRoom => {
                self.roster.log_message("LeaveRoom", conn, self.roster.list.len() - 1, bytes);
                self.leave_with(call, conn, LEFT_ROOM);
            }
            ClientMessage::UpdatePeerInfo { candidates, public_addr, local_addr } => {
                let Member { data: member, .. } = self.roster.find_mut(conn).ok_or(MessageError::NOT_IN_ROOM)?;
                let known = member.successor.as_mut().unwrap_or(&mut member.peer);
                let mut peer = Peer { public_addr, local_addr, ..known.clone() };
                if !candidates.is_empty() {
                    peer.candidates = candidates;
                }
                let addresses = || peer.public_addr.into_iter().chain(peer.addresses());
                if !member.media.as_ref().is_none_or(|media| media.publish(addresses())) {
                    return reject(call, NO_PORTS);
                }
                known.clone_from(&peer);
                if !self.reveal_successor(call, conn) {
                    self.send_peer(call, conn, &peer, |peer| ServerMessage::PeerUpdated { peer });
                }
                self.roster.log_message("UpdatePeerInfo", conn, self.roster.list.len() - 1, bytes);
            }
            ClientMessage::ChatMessage(chat) => {
                let JamjamMember { peer, is_newer, .. } =
                    &self.roster.find(conn).ok_or(MessageError::NOT_IN_ROOM)?.data;
                let chat = ChatMessage { sender_id: peer.id.clone(), sender_name: peer.name.clone(), ..chat };
                // Older clients show their own message without waiting for it.
                let receivers = self.roster.others(conn).chain(is_newer.then_some(conn));
                let receivers = call.send(receivers, &ServerMessage::ChatMessage(chat));
                self.roster.log_message("ChatMessage", conn, receivers, bytes);
            }
            ClientMessage::PeerMessage(message) => {
                let sender = &self.roster.find(conn).ok_or(MessageError::NOT_IN_ROOM)?.data.peer;
                let to = message.to.clone();
                let is_receiver = |Member { data: JamjamMember { peer, is_newer, .. }, .. }: &&Member<_>| {
                    let is_supported = *is_newer && peer.features.iter().any(|feature| feature == PEER_MESSAGE);
                    is_supported && to.as_ref().is_none_or(|to| *to == peer.id)
                };
                let receivers = self.roster.receivers().filter(is_receiver).map(|member| member.conn);
                let [from, from_name] = [&sender.id, &sender.name].map(|text| Some(text.clone()));
                let relayed = ServerMessage::PeerMessage(PeerMessage { from, from_name, ..message });
                let receivers = call.send(receivers, &relayed);
                self.roster.log_message("PeerMessage", conn, receivers, bytes);
            }
            ClientMessage::CreateRoom { .. } | ClientMessage::JoinRoom { .. } | ClientMessage::ListRooms => {}
        }
        Ok(())
    }
}

/// What a client of one generation sees of a member.
fn seen_by(is_newer: bool, peer: &Peer) -> Peer {
    if is_newer { peer.clone() } else { peer.clone().for_older_clients() }
}

fn reject<T>(call: &mut RoomCall<'_>, reason: &'static str) -> Result<T, MessageError> {
    debug!(target: "signaling", dialect = Dialect::Jamjam.name(), conn = call.conn.0, reason, "request rejected");
    call.reply(&ServerMessage::Error { message: reason.to_owned() });
    Err(MessageError::Rejected(reason))
}
