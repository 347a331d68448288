//! An independent client of a signaling server: JSON over a WebSocket, without the program's code.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::WebSocket;

use super::TEST_TIMEOUT;

/// A connected client.
pub struct Member(WebSocket<TcpStream>);

impl Member {
    /// Connects.
    pub fn of(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(tungstenite::client(format!("ws://{server}/"), stream).unwrap().0)
    }

    /// Takes a connection that a test's own server was offered.
    pub fn accept(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(tungstenite::accept(stream).unwrap())
    }

    pub fn say(&mut self, kind: &str, data: &Value) {
        let message = if data.is_null() { json!({"type": kind}) } else { json!({"type": kind, "data": data}) };
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message. Pings and the like are none.
    pub fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The next message, which must be of this type.
    pub fn hear_a(&mut self, kind: &str) -> Value {
        let message = self.hear();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    /// Closes the connection with a reason.
    pub fn close(&mut self, reason: &str) {
        let frame = tungstenite::protocol::CloseFrame { code: 1000.into(), reason: reason.to_owned().into() };
        self.0.close(Some(frame)).unwrap();
        self.0.flush().unwrap();
    }

    /// The rooms that are there.
    pub fn rooms(&mut self) -> Vec<Value> {
        self.say("ListRooms", &Value::Null);
        self.hear_a("RoomList")["rooms"].as_array().unwrap().clone()
    }

    /// Joins the room of this id or invite code; the others in it.
    pub fn join(&mut self, room: &Value) -> Vec<Value> {
        self.say("JoinRoom", &json!({"room_id": room, "password": null, "peer_name": "Ann"}));
        self.hear_a("RoomJoined")["peers"].as_array().unwrap().clone()
    }

    pub fn chat(&mut self, content: &str) {
        self.say("ChatMessage", &json!({"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}));
    }
}
