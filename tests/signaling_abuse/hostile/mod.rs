//! What the hostile tests work with: connections on which anything can be sent, and clients that behave.

mod door;
mod spoofing;
mod strangers;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::WebSocket;

use crate::server::PATIENCE;
use crate::server::process::Server;

/// The longest message that is taken, in bytes.
pub(crate) const LONGEST: usize = 256 << 10;

pub(crate) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A connection on which anything can be sent.
pub(crate) fn raw(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same, as a WebSocket.
pub(crate) fn upgraded(server: SocketAddr) -> TcpStream {
    let mut stream = raw(server);
    stream.write_all(UPGRADE.as_bytes()).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A frame under a mask of zeros, which says of its length what `len` says.
pub(crate) fn lying(first: u8, len: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match len {
        0..=125 => frame.push(0x80 | len as u8),
        126..=0xffff => frame.extend([&[0xfe][..], &(len as u16).to_be_bytes()].concat()),
        _ => frame.extend([&[0xff][..], &len.to_be_bytes()].concat()),
    }
    [&frame[..], &[0; 4], payload].concat()
}

pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    lying(first, payload.len() as u64, payload)
}

/// Reads to the end; the close code that the last frame said, if it was a close frame.
pub(crate) fn close_code(mut stream: TcpStream) -> Option<u16> {
    let mut heard = Vec::new();
    let mut some = [0; 4_096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(len) => heard.extend_from_slice(&some[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("it goes on: {error}"),
        }
    }
    // All that is said to these clients is pongs and one close frame.
    let (mut rest, mut code) = (&heard[..], None);
    while let [first, len, more @ ..] = rest {
        let (payload, after) = more.split_at(usize::from(*len));
        if *first == 0x88 && payload.len() >= 2 {
            code = Some(u16::from_be_bytes([payload[0], payload[1]]));
        }
        rest = after;
    }
    code
}

/// A client that behaves.
pub(crate) struct Client(pub(crate) WebSocket<TcpStream>);

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        Self(tungstenite::client(format!("ws://{}/", server.address), raw(server.address)).expect("a connection").0)
    }

    pub(crate) fn say(&mut self, kind: &str, data: &Value) {
        self.0.send(Message::text(json!({"type": kind, "data": data}).to_string())).unwrap();
    }

    pub(crate) fn hear_a(&mut self, kind: &str) -> Value {
        let message = self.0.read().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    pub(crate) fn create(&mut self) -> String {
        self.say("CreateRoom", &json!({"room_name": "r", "password": null, "peer_name": "a"}));
        self.hear_a("RoomCreated")["room_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn join(&mut self, room: &str) {
        self.say("JoinRoom", &json!({"room_id": room, "password": null, "peer_name": "b"}));
        self.hear_a("RoomJoined");
    }

    pub(crate) fn chat(&mut self, content: &str) {
        self.say("ChatMessage", &json!({"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}));
    }
}

/// Two who chat while others do harm.
pub(crate) struct Duo(pub(crate) Client, pub(crate) Client);

impl Duo {
    pub(crate) fn new(server: &Server) -> Self {
        let (mut first, mut second) = (Client::new(server), Client::new(server));
        second.join(&first.create());
        first.hear_a("PeerJoined");
        Self(first, second)
    }

    /// All that one says reaches the other, in order.
    pub(crate) fn chat(&mut self) {
        for number in 0..50 {
            self.0.chat(&number.to_string());
            assert_eq!(self.1.hear_a("ChatMessage")["content"], number.to_string());
        }
    }
}

pub(crate) fn resident_kib(server: &Server) -> u64 {
    server.status("VmRSS").parse().unwrap()
}
