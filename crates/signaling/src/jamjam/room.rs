//! A jamjam room: its members, what each generation of clients sees of them, and the owner of a test room.

use std::net::Ipv4Addr;

use super::messages::{
    Candidate, CandidateType, ChatMessage, ClientMessage, HOST_PRIORITY, Peer, PeerMessage, ServerMessage,
};
use super::owner::{Owner, OwnerState};
use crate::call::{Call, MAX_JOIN_DEBT};
use crate::close_code::CloseCode;
use crate::dialect::Dialect;
use crate::id_generator::{INVITE_CODE_LEN, IdGenerator, LONG_INVITE_CODE_LEN};
use crate::json::{MessageError, to_json};
use crate::limits::SignalingLimits;
use crate::room::{CHANGED_ROOM, ConnectionClose, LEFT_ROOM, Member, MemberData, MemberInfo, Room, Roster};
use crate::server::ConnId;
use jamjam_core::media_relay::{MediaMember, MediaRooms};
use jamjam_core::time::Time;

/// Maximum number of members in a room, including its creator.
pub(super) const MAX_PEERS_PER_ROOM: usize = 10;

/// Reason of an error: there is no place in the room.
const ROOM_FULL: &str = "Room is full";

/// Reason of an error: there is no such room.
pub(super) const ROOM_NOT_FOUND: &str = "Room not found";

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
    pub(super) media: Option<MediaRooms>,
    /// Until when the place of a lost owner is kept, and its connection.
    pub(super) kept_place: Option<(Time, ConnId)>,
}

/// A member: what newer clients see of it, and whether it is a newer client itself.
pub(crate) struct JamjamMember {
    pub(super) peer: Peer,
    pub(super) is_newer: bool,
    /// The server's address at which the member's connection arrived.
    pub(super) local_ip: Ipv4Addr,
    /// The member in the relay of media, while the room has it.
    pub(super) media: Option<MediaMember>,
    /// The member that replaces this one as soon as its address is known.
    pub(super) successor: Option<Peer>,
}

impl JamjamMember {
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

    fn leave(&mut self, call: &mut Call<'_>, close: &ConnectionClose<'_>) {
        // The server loses a connection, or the client closes it. A connection that the server closes does not return, and one
        // that has changed the room has another place.
        if close.server_reason.is_some() || !self.keep_place(call) {
            self.leave_with(call, call.sender.conn, &close.leave_reason());
        }
    }

    fn is_protected(&self, _: &SignalingLimits) -> bool {
        self.password.is_some()
    }

    fn next_deadline(&self) -> Option<Time> {
        self.kept_place.map(|(at, _)| at)
    }

    /// The place of a lost owner is kept no longer.
    fn on_deadline(&mut self, call: &mut Call<'_>) {
        let Some((_, lost)) = self.kept_place.take() else { return };
        match self.owner.as_ref().map(|owner| owner.conn) {
            Some(conn) if conn != lost => _ = self.reveal_successor(call, conn),
            _ => self.leave_with(call, lost, "connection lost"),
        }
    }
}

impl JamjamRoom {
    /// Whether there is no place for `conn`, which may be in the room.
    pub(super) fn is_full_for(&self, conn: ConnId) -> bool {
        self.roster.list.iter().filter(|member| member.conn != conn).count() >= MAX_PEERS_PER_ROOM
    }

    /// The invite code that clients of one generation see.
    pub(super) fn invite_code(&self, is_newer: bool) -> String {
        self.roster.names[1 + usize::from(is_newer)].clone()
    }

    /// Adds the member that has created or found the room for itself.
    pub(super) fn create(
        &mut self,
        call: &mut Call<'_>,
        mut arrival: (JamjamMember, Owner),
        is_test_room: bool,
    ) -> Result<(), MessageError> {
        // Another owner may have taken the place in the meantime.
        if is_test_room && !self.has_place_for(&arrival.1) {
            return call.reject(ROOM_FULL);
        }
        if !self.relay_media(call, &mut arrival) {
            return call.reject(NO_PORTS);
        }
        self.leave_with(call, call.sender.conn, CHANGED_ROOM);
        let is_newer = arrival.0.is_newer;
        let peer_id = self.enter(call, arrival, is_test_room);
        call.reply(&ServerMessage::RoomCreated {
            room_id: self.roster.name().to_owned(),
            peer_id,
            invite_code: self.invite_code(is_newer),
            invite_code_6: is_newer.then(|| self.invite_code(false)),
        });
        Ok(())
    }

    /// Adds a member that has named the room.
    pub(super) fn join(&mut self, call: &mut Call<'_>, mut arrival: (JamjamMember, Owner)) -> Result<(), MessageError> {
        let is_owner = self.is_owner_returning(&arrival.1);
        if self.is_full_for(call.sender.conn) && !is_owner {
            return call.reject(ROOM_FULL);
        }
        if !call.may_request(MAX_JOIN_DEBT) {
            return call.reject_limited("Too many requests");
        }
        if !self.relay_media(call, &mut arrival) {
            return call.reject(NO_PORTS);
        }
        self.leave_with(call, call.sender.conn, CHANGED_ROOM);
        let is_newer = arrival.0.is_newer;
        let peer_id = self.enter(call, arrival, is_owner);
        let others = self.roster.list.iter().filter(|member| member.conn != call.sender.conn);
        let own = self.roster.find(call.sender.conn);
        let seen = |other: &Member<JamjamMember>| own.map(|own| own.data.sees(&other.data, &other.data.peer));
        let joined = ServerMessage::RoomJoined {
            room_id: self.roster.name().to_owned(),
            peer_id,
            invite_code: is_newer.then(|| self.invite_code(true)),
            invite_code_6: is_newer.then(|| self.invite_code(false)),
            peers: others.filter_map(seen).collect(),
        };
        call.send_requested([call.sender.conn], || to_json(&joined));
        Ok(())
    }

    /// Adds the connection, which is not in this room, and informs the others. An owner takes the place of the previous one, or else becomes
    /// the first member. Returns the id of the member: a returning owner remains the same.
    fn enter(&mut self, call: &mut Call<'_>, (member, owner): (JamjamMember, Owner), is_owner: bool) -> String {
        let (is_returning, conn, id) = (self.is_owner_returning(&owner), call.sender.conn, member.peer.id.clone());
        let previous = if is_owner { self.owner.replace(owner).filter(Owner::is_living) } else { None };
        let Some(previous) = previous else {
            for other in self.roster.receivers() {
                let joined = ServerMessage::PeerJoined { peer: seen_by(other.data.is_newer, &member.peer) };
                call.send_requested([other.conn], || to_json(&joined));
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
    pub(super) fn leave_with(&mut self, call: &mut Call<'_>, conn: ConnId, reason: &str) {
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
    fn relay_media(&self, call: &Call<'_>, (member, owner): &mut (JamjamMember, Owner)) -> bool {
        let Some(media) = &self.media else { return true };
        // A returning owner remains the same for the others.
        let previous = self.owner.as_ref().filter(|_| self.is_owner_returning(owner));
        let previous = previous.and_then(|previous| self.roster.find(previous.conn));
        let id = &previous.map_or(&member.peer, |previous| &previous.data.peer).id;
        let names = [id.clone(), member.peer.name.clone()];
        let leaving = self.roster.find(call.sender.conn).or(previous).and_then(|leaving| leaving.data.media.as_ref());
        member.media = media.join(self.roster.key.0.get(), names, (call.sender.source, member.local_ip), leaving);
        member.media.is_some()
    }

    /// Sends the other members what they see of the member with this connection, or of its successor, `peer`.
    pub(super) fn send_peer(&self, call: &mut Call<'_>, conn: ConnId, peer: &Peer, message: fn(Peer) -> ServerMessage) {
        let Some(member) = self.roster.find(conn) else { return };
        for other in self.roster.receivers().filter(|other| other.conn != conn) {
            call.send([other.conn], &message(other.data.sees(&member.data, peer)));
        }
    }

    /// Handles a message that concerns only this room.
    pub(super) fn on_message(&mut self, call: &mut Call<'_>, message: ClientMessage) -> Result<(), MessageError> {
        let conn = call.sender.conn;
        if !matches!(message, ClientMessage::UpdatePeerInfo { .. }) {
            self.reveal_successor(call, conn);
        }
        match message {
            ClientMessage::LeaveRoom => {
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
                    return call.reject(NO_PORTS);
                }
                known.clone_from(&peer);
                if !self.reveal_successor(call, conn) {
                    self.send_peer(call, conn, &peer, |peer| ServerMessage::PeerUpdated { peer });
                }
            }
            ClientMessage::ChatMessage(chat) => {
                let JamjamMember { peer, is_newer, .. } =
                    &self.roster.find(conn).ok_or(MessageError::NOT_IN_ROOM)?.data;
                let chat = ChatMessage { sender_id: peer.id.clone(), sender_name: peer.name.clone(), ..chat };
                // Older clients show their own message without waiting for it.
                let receivers = self.roster.others(conn).chain(is_newer.then_some(conn));
                call.send(receivers, &ServerMessage::ChatMessage(chat));
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
                call.send(receivers, &relayed);
            }
            ClientMessage::CreateRoom { .. } | ClientMessage::JoinRoom { .. } | ClientMessage::ListRooms => {}
        }
        Ok(())
    }
}

/// What a client of one generation sees of a member.
fn seen_by(is_newer: bool, peer: &Peer) -> Peer {
    let peer = peer.clone();
    if is_newer { peer } else { Peer { joined_at: None, features: Vec::new(), link_key: None, ..peer } }
}
