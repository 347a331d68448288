//! A jamjam client that makes a room, says where it can be reached, and watches who comes and goes. It speaks the protocol by
//! hand.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// Nothing here takes as long.
const DEADLINE: Duration = Duration::from_secs(30);

/// The player. Dropping it closes its connection.
pub struct Player {
    socket: WebSocket<TcpStream>,
    /// The id and the invite code of its room.
    pub room: String,
    pub invite: String,
}

impl Player {
    /// Connects to the server and makes a room.
    pub fn with_room(server: SocketAddr, name: &str, password: Option<&str>) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{server}/"), stream).unwrap();
        let mut player = Self { socket, room: String::new(), invite: String::new() };
        let data = json!({"room_name": name, "password": password, "peer_name": "Echo Bot"});
        player.say(&json!({"type": "CreateRoom", "data": data}));
        let made = player.hear_a("RoomCreated");
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        Self { room: text("room_id"), invite: text("invite_code"), ..player }
    }

    /// The same, and says that it is at `address`.
    pub fn at(server: SocketAddr, name: &str, password: Option<&str>, address: SocketAddr) -> Self {
        let mut player = Self::with_room(server, name, password);
        player.is_at(&json!([]), Some(address), None);
        player
    }

    /// Says where it can be reached.
    pub fn is_at(&mut self, candidates: &Value, public: Option<SocketAddr>, local: Option<SocketAddr>) {
        let data = json!({"candidates": candidates, "public_addr": public, "local_addr": local});
        self.say(&json!({"type": "UpdatePeerInfo", "data": data}));
        // The answer to this comes after the server has taken the other.
        self.say(&json!({"type": "ListRooms"}));
        self.hear_a("RoomList");
    }

    /// How many are in its room, as the list has it.
    pub fn members(&mut self) -> u64 {
        self.say(&json!({"type": "ListRooms"}));
        let list = self.hear_a("RoomList");
        let rooms = list["rooms"].as_array().unwrap();
        rooms.iter().find(|room| room["id"] == self.room).unwrap()["peer_count"].as_u64().unwrap()
    }

    pub fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message, which must be of this type: its data.
    pub fn hear_a(&mut self, kind: &str) -> Value {
        let message = self.socket.read().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    /// The next message that is of this type.
    pub fn hear_next(&mut self, kind: &str) -> Value {
        loop {
            let message = self.socket.read().unwrap();
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if message["type"] == kind {
                return message["data"].clone();
            }
        }
    }
}
