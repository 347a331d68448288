//! A jamjam client that creates a room, publishes its address, and is notified of joins and leaves. This client uses none of the program's
//! code.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// The timeout of every wait, longer than any wait should take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The member. Dropping it closes its connection.
pub struct SignalingMember {
    socket: WebSocket<TcpStream>,
    /// The id and the invite code of its room.
    pub room: String,
    pub invite: String,
}

impl SignalingMember {
    /// Connects to the server and creates a room.
    pub fn with_room(server: SocketAddr, name: &str, password: Option<&str>) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{server}/"), stream).unwrap();
        let mut member = Self { socket, room: String::new(), invite: String::new() };
        let data = json!({"room_name": name, "password": password, "peer_name": "Echo Bot"});
        member.send_text(&json!({"type": "CreateRoom", "data": data}));
        let created = member.receive_type("RoomCreated");
        let text = |member: &str| created[member].as_str().unwrap().to_owned();
        Self { room: text("room_id"), invite: text("invite_code"), ..member }
    }

    /// Like [`Self::with_room`], and also publishes `address`.
    pub fn with_address(server: SocketAddr, name: &str, password: Option<&str>, address: SocketAddr) -> Self {
        let mut member = Self::with_room(server, name, password);
        member.publish_addresses(&json!([]), Some(address), None);
        member
    }

    /// Publishes its candidate addresses.
    pub fn publish_addresses(&mut self, candidates: &Value, public: Option<SocketAddr>, local: Option<SocketAddr>) {
        let data = json!({"candidates": candidates, "public_addr": public, "local_addr": local});
        self.send_text(&json!({"type": "UpdatePeerInfo", "data": data}));
        // The server responds to this request after it has processed the update.
        self.send_text(&json!({"type": "ListRooms"}));
        self.receive_type("RoomList");
    }

    /// Requests the room list. Returns the number of members that the list states for this client's room.
    pub fn members(&mut self) -> u64 {
        self.send_text(&json!({"type": "ListRooms"}));
        let list = self.receive_type("RoomList");
        let rooms = list["rooms"].as_array().unwrap();
        rooms.iter().find(|room| room["id"] == self.room).unwrap()["peer_count"].as_u64().unwrap()
    }

    pub fn send_text(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// Receives the next message, which must have this type, and returns its data.
    pub fn receive_type(&mut self, kind: &str) -> Value {
        let message = self.socket.read().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    /// Receives the next message of this type and skips other messages.
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
