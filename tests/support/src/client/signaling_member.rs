//! A jamjam client that creates a room, publishes its address, and watches members join and leave. It implements the protocol by
//! hand.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Nothing here takes as long.
const DEADLINE: Duration = Duration::from_secs(30);

/// The member. Dropping it closes its connection.
pub struct SignalingMember {
    socket: WebSocket<TcpStream>,
    /// The id and the invite code of its room.
    pub room: String,
    pub invite: String,
}

impl SignalingMember {
    /// Connects to the server and makes a room.
    pub fn with_room(server: SocketAddr, name: &str, password: Option<&str>) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{server}/"), stream).unwrap();
        let mut room_member = Self { socket, room: String::new(), invite: String::new() };
        let data = json!({"room_name": name, "password": password, "peer_name": "Echo Bot"});
        room_member.send_text(&json!({"type": "CreateRoom", "data": data}));
        let made = room_member.receive_type("RoomCreated");
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        Self { room: text("room_id"), invite: text("invite_code"), ..room_member }
    }

    /// The same, and publishes `address`.
    pub fn at(server: SocketAddr, name: &str, password: Option<&str>, address: SocketAddr) -> Self {
        let mut room_member = Self::with_room(server, name, password);
        room_member.is_at(&json!([]), Some(address), None);
        room_member
    }

    /// Publishes its candidate addresses.
    pub fn is_at(&mut self, candidates: &Value, public: Option<SocketAddr>, local: Option<SocketAddr>) {
        let data = json!({"candidates": candidates, "public_addr": public, "local_addr": local});
        self.send_text(&json!({"type": "UpdatePeerInfo", "data": data}));
        // The answer to this comes after the server has taken the other.
        self.send_text(&json!({"type": "ListRooms"}));
        self.receive_type("RoomList");
    }

    /// How many are in its room, as the list has it.
    pub fn members(&mut self) -> u64 {
        self.send_text(&json!({"type": "ListRooms"}));
        let list = self.receive_type("RoomList");
        let rooms = list["rooms"].as_array().unwrap();
        rooms.iter().find(|room| room["id"] == self.room).unwrap()["peer_count"].as_u64().unwrap()
    }

    pub fn send_text(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message, which must be of this type: its data.
    pub fn receive_type(&mut self, kind: &str) -> Value {
        let message = self.socket.read().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    /// The next message that is of this type.
    pub fn receive_next(&mut self, kind: &str) -> Value {
        loop {
            let message = self.socket.read().unwrap();
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if message["type"] == kind {
                return message["data"].clone();
            }
        }
    }
}
