//! A jamjam client that creates a room, publishes its address, and is notified of joins and leaves.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::server::member::Member;

pub struct SignalingMember {
    member: Member,
    /// The id and the invite code of its room.
    pub room: String,
    pub invite: String,
}

impl SignalingMember {
    pub fn with_room(server: SocketAddr, name: &str, password: Option<&str>) -> Self {
        let mut member = Member::connect(server);
        member.send("CreateRoom", &json!({"room_name": name, "password": password, "peer_name": "Echo Bot"}));
        let created = member.receive_type("RoomCreated");
        let [room, invite] = ["room_id", "invite_code"].map(|name| created[name].as_str().unwrap().to_owned());
        Self { member, room, invite }
    }

    /// Like [`Self::with_room`], and also publishes `address`.
    pub fn with_address(server: SocketAddr, name: &str, password: Option<&str>, address: SocketAddr) -> Self {
        let mut member = Self::with_room(server, name, password);
        member.publish_addresses(&json!([]), Some(address), None);
        member
    }

    pub fn publish_addresses(&mut self, candidates: &Value, public: Option<SocketAddr>, local: Option<SocketAddr>) {
        let data = json!({"candidates": candidates, "public_addr": public, "local_addr": local});
        self.member.send("UpdatePeerInfo", &data);
        // The server responds to this request after it has processed the update.
        self.member.rooms();
    }

    pub fn send_text(&mut self, message: &Value) {
        self.member.send_text(&message.to_string());
    }

    /// The next message, which must be of this type.
    pub fn receive_type(&mut self, kind: &str) -> Value {
        self.member.receive_type(kind)
    }

    /// The next message of this type. Other messages are skipped.
    pub fn receive_next(&mut self, kind: &str) -> Value {
        loop {
            let mut message = self.member.receive();
            if message["type"] == kind {
                return message["data"].take();
            }
        }
    }
}
