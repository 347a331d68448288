//! An independent client of a signaling server: JSON over a WebSocket, without any of jamjam-dev's code.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::{CloseFrame, WebSocket};
use tungstenite::{Error, HandshakeError, Message};

use super::{TEST_TIMEOUT, tcp};

/// A connected client.
pub struct Member(pub WebSocket<TcpStream>);

impl Member {
    /// Connects like an older client.
    pub fn connect(server: SocketAddr) -> Self {
        Self::connect_to(server, "/")
    }

    pub fn connect_to(server: SocketAddr, path: &str) -> Self {
        Self::try_connect(server, path, &[]).unwrap_or_else(|status| panic!("{path}: {status}"))
    }

    /// Connects with additional headers. Returns the HTTP status if the server rejects the upgrade.
    pub fn try_connect(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{server}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        match tungstenite::client(request, tcp(server)) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            // A read with a time limit ends when the machine is suspended.
            Err(HandshakeError::Failure(Error::Io(error))) if error.kind() == ErrorKind::Interrupted => {
                Self::try_connect(server, path, headers)
            }
            Err(other) => panic!("{path}: {other}"),
        }
    }

    /// Accepts a connection to the test's own server.
    pub fn accept(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(tungstenite::accept(stream).unwrap())
    }

    pub fn send(&mut self, kind: &str, data: &Value) {
        let message = if data.is_null() { json!({"type": kind}) } else { json!({"type": kind, "data": data}) };
        self.send_json(&message);
    }

    /// Sends a message of any dialect.
    pub fn send_json(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

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

    /// The next message of this type. Other messages are skipped.
    pub fn skip_to(&mut self, kind: &str) -> Value {
        loop {
            let message = self.receive();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Code and reason of the close frame, which must be the next message except for pings.
    pub fn closed(&mut self) -> (u16, String) {
        let (end, texts) = self.read_to_close();
        assert!(texts.is_empty(), "{texts:?}");
        end
    }

    /// Code and reason of the close frame, and the text messages before it.
    pub fn read_to_close(&mut self) -> ((u16, String), Vec<Value>) {
        let mut texts = Vec::new();
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => texts.push(serde_json::from_str(&text).unwrap()),
                Message::Ping(_) => {}
                Message::Close(Some(frame)) => return ((frame.code.into(), frame.reason.to_string()), texts),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Creates a room without a password, and returns its id.
    pub fn create_room(&mut self, name: &str) -> Value {
        self.send("CreateRoom", &json!({"room_name": name, "password": null, "peer_name": "Ann"}));
        self.receive_type("RoomCreated")["room_id"].clone()
    }

    /// Closes the connection with a reason, and waits for the reply.
    pub fn close(mut self, reason: &str) {
        self.0.close(Some(CloseFrame { code: 1000.into(), reason: reason.into() })).unwrap();
        while self.0.read().is_ok() {}
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

/// A frame with a mask of zeros and a length field of `len`.
pub fn frame_with_length(first: u8, len: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match len {
        0..=125 => frame.push(0x80 | len as u8),
        126..=0xffff => frame.extend([&[0xfe][..], &(len as u16).to_be_bytes()].concat()),
        _ => frame.extend([&[0xff][..], &len.to_be_bytes()].concat()),
    }
    [&frame[..], &[0; 4], payload].concat()
}

pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with_length(first, payload.len() as u64, payload)
}
