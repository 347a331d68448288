//! `jamjam-dev signaling-server` as a process on real sockets.

mod broadcast_http;
mod certificate_reload;
mod check;
mod connections;
mod control_surface;
mod custom_room;
mod drain;
pub(crate) mod http;
mod log_lines;
mod newer_clients;
mod options;
mod relayed_media;
mod reverse_proxies;
mod strict;
mod tls;
mod transcripts;
mod webrtc;
mod webrtc_auth;

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;

use jamjam_dev::signaling::token::{Claims, Secret, sign};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use test_support::server::{Member, Server, TEST_TIMEOUT, exchange, tcp};

/// The option with the secret of [`token`].
pub(crate) const SECRET: [&str; 2] = ["--hmac-secret", "test-secret"];

/// A token of this client for a broadcast room.
pub(crate) fn token(client: &str, room: &str) -> String {
    let claims = Claims::new(client, room, serde_json::Map::new(), 4_000_000_000_000, 1.0);
    sign(&Secret::new("test-secret"), &claims)
}

/// Starts a server whose operator logs in as `admin` with `sesame`.
fn start_with_password(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame"], options].concat())
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// The stream of a TLS client that offers the same protocols as a browser, before its handshake.
fn tls_stream(address: SocketAddr, config: &ClientConfig) -> TlsStream {
    let (name, mut config) = (ServerName::try_from("127.0.0.1").unwrap(), config.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp(address))
}

/// A process that gets SIGTERM when this value is dropped, so that it ends the processes that it has started.
pub(crate) struct Terminated(pub(crate) Child);

impl Drop for Terminated {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            _ = Command::new("kill").arg(self.0.id().to_string()).status();
            _ = self.0.wait();
        }
    }
}

/// A page over TLS.
fn get_over_tls(address: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> String {
    exchange(tls_stream(address, config), "GET", path, &[], "").body
}

/// A member of a WebRTC room.
fn webrtc_member(server: SocketAddr, room: &str, user: &str) -> Member {
    let mut member = Member::connect_to(server, &format!("/?roomId={room}&userId={user}&userName={user}"));
    member.skip_to("welcome");
    member
}

/// A member of a broadcast room.
fn broadcast_member(server: SocketAddr, room: &str, user: &str) -> Member {
    let mut member = Member::connect_to(server, &format!("/{room}?token={}", token(user, room)));
    member.skip_to("welcome");
    member
}

/// A control surface that has joined the room of this code.
fn control_surface(server: SocketAddr, code: &str) -> Member {
    let surface = Member::connect(server);
    surface.0.get_ref().set_nodelay(true).unwrap();
    joined(surface, code)
}

/// The control surface, after it has joined the room of this code.
fn joined(mut surface: Member, code: &str) -> Member {
    surface.send_json(&json!({"type": "join", "room_code": code}));
    assert_eq!(surface.receive()["type"], "welcome");
    surface
}

/// A jamjam client or a control surface with a TCP receive buffer of about 4 KiB.
fn slow_reader(server: SocketAddr) -> Member {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&server.into()).unwrap();
    let tcp = TcpStream::from(socket);
    tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    Member(tungstenite::client(format!("ws://{server}/"), tcp).unwrap().0)
}

/// The creator of a jamjam room with a password, and the id of the room.
fn jamjam_creator(server: SocketAddr) -> (Member, Value) {
    let mut member = Member::connect(server);
    member.send("CreateRoom", &json!({"room_name": "jam", "password": "hunter2", "peer_name": "Ann"}));
    let id = member.receive_type("RoomCreated")["room_id"].clone();
    (member, id)
}

fn jamjam_member(server: SocketAddr, id: &Value) -> Member {
    let mut member = Member::connect(server);
    member.send("JoinRoom", &json!({"room_id": id, "password": "hunter2", "peer_name": "Bob"}));
    member.receive_type("RoomJoined");
    member
}
