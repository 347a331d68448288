//! An independent client of a signaling server: JSON over a WebSocket, without any of jamjam-dev's code.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::WebSocket;

use super::TEST_TIMEOUT;

pub struct Member(WebSocket<TcpStream>);

impl Member {
    /// Connects like an older client.
    pub fn connect(server: SocketAddr) -> Self {
        Self::connect_to(server, "/")
    }

    pub fn connect_to(server: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(tungstenite::client(format!("ws://{server}{path}"), stream).unwrap().0)
    }

    /// Accepts a connection to the test's own server.
    pub fn accept(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(tungstenite::accept(stream).unwrap())
    }

    pub fn send(&mut self, kind: &str, data: &Value) {
        let message = if data.is_null() { json!({"type": kind}) } else { json!({"type": kind, "data": data}) };
        self.send_text(&message.to_string());
    }

    /// Sends a text message, which may be malformed.
    pub fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The next text message. Other messages are skipped.
    pub fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The next message, which must be of this type.
    pub fn receive_type(&mut self, kind: &str) -> Value {
        let message = self.receive();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    pub fn close(&mut self, reason: &str) {
        let frame = tungstenite::protocol::CloseFrame { code: 1000.into(), reason: reason.to_owned().into() };
        self.0.close(Some(frame)).unwrap();
        self.0.flush().unwrap();
    }

    pub fn rooms(&mut self) -> Vec<Value> {
        self.send("ListRooms", &Value::Null);
        self.receive_type("RoomList")["rooms"].as_array().unwrap().clone()
    }

    /// Joins the room of this id or invite code. Returns the other members of the room.
    pub fn join(&mut self, room: &Value) -> Vec<Value> {
        self.send("JoinRoom", &json!({"room_id": room, "password": null, "peer_name": "Ann"}));
        self.receive_type("RoomJoined")["peers"].as_array().unwrap().clone()
    }

    pub fn chat(&mut self, content: &str) {
        self.send("ChatMessage", &json!({"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}));
    }
}
