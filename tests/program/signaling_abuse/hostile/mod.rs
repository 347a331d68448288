//! Helpers for the abuse tests: connections on which any bytes can be sent, and two clients that chat.

mod unauthorized;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use test_support::server::{Member, Server, tcp};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

use crate::signaling_server::http::UPGRADE;

/// The maximum message length in bytes.
pub(crate) const MAX_MESSAGE_LEN: usize = 256 << 10;

/// A request for a WebSocket at `path`, with these header lines and an empty line.
pub(crate) fn upgrade_request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n{headers}\r\n", UPGRADE.join("\r\n"))
}

/// The status of the response to the request of a WebSocket, and the stream after it.
pub(crate) fn request_upgrade(server: SocketAddr, path: &str, headers: &str) -> (u16, TcpStream) {
    let mut stream = tcp(server);
    stream.write_all(upgrade_request(path, headers).as_bytes()).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    (str::from_utf8(&answer[9..12]).unwrap().parse().unwrap(), stream)
}

/// A WebSocket on which any bytes can be sent.
pub(crate) fn upgraded(server: SocketAddr) -> TcpStream {
    let (status, stream) = request_upgrade(server, "/", "");
    assert_eq!(status, 101);
    stream
}

/// Reads `stream` to its end. Returns the code of the close frame, if there is one.
pub(crate) fn close_code(stream: TcpStream) -> Option<u16> {
    let (mut socket, mut code) = (WebSocket::from_raw_socket(stream, Role::Client, None), None);
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() != ErrorKind::ConnectionReset => panic!("not closed: {error}"),
            Err(_) => return code,
        }
    }
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
