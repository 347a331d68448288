//! Helpers for the abuse tests: connections on which any bytes can be sent, and two clients that chat.

mod unauthorized;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use test_support::server::{Member, Server, tcp};

/// The maximum message length in bytes.
pub(crate) const MAX_MESSAGE_LEN: usize = 256 << 10;

pub(crate) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A WebSocket on which any bytes can be sent.
pub(crate) fn upgraded(server: SocketAddr) -> TcpStream {
    let mut stream = tcp(server);
    stream.write_all(UPGRADE.as_bytes()).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Reads `stream` to its end. Returns the code of the close frame, if there is one.
pub(crate) fn close_code(mut stream: TcpStream) -> Option<u16> {
    let mut received = Vec::new();
    let mut some = [0; 4_096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(len) => received.extend_from_slice(&some[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection was not closed: {error}"),
        }
    }
    // These clients receive only pongs and one close frame.
    let (mut rest, mut code) = (&received[..], None);
    while let [first, len, more @ ..] = rest {
        let (payload, after) = more.split_at(usize::from(*len));
        if *first == 0x88 && payload.len() >= 2 {
            code = Some(u16::from_be_bytes([payload[0], payload[1]]));
        }
        rest = after;
    }
    code
}

/// Two clients that chat during the abuse.
pub(crate) struct Duo(pub(crate) Member, pub(crate) Member);

impl Duo {
    pub(crate) fn new(server: &Server) -> Self {
        let [mut first, mut second] = [(); 2].map(|()| Member::connect(server.address));
        second.join(&first.create_room("r"));
        first.receive_type("PeerJoined");
        Self(first, second)
    }

    /// Checks that every message from one client reaches the other, in order.
    pub(crate) fn chat(&mut self) {
        for number in 0..50 {
            self.0.chat(&number.to_string());
            assert_eq!(self.1.receive_type("ChatMessage")["content"], number.to_string());
        }
    }
}
