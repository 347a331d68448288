//! Client side of jamjam's signaling: the connection, the room list, and a session in a room.
//!
//! The thread of a session reads all messages, so that the server never takes this client for a slow reader. Losing the server does not end
//! the run, because audio goes from peer to peer.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;
use tungstenite::Message;

use crate::client::{StopSignal, WebSocketFailure};
use crate::io::clock;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::{
    CONNECT_TIMEOUT, ClientSocket, PING_INTERVAL, WebSocketConnectError, connect, failure, next_message,
    websocket_config,
};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::io::worker::Worker;
use crate::rate_limit::{Gcra, KeyedGcra};
use crate::report::{ClosePhase, diagnose_close};
use crate::sanitize::{sanitize, sanitize_name};
use crate::signaling::Dialect;
use crate::signaling::client::{RoomClient, RoomError};
use crate::signaling::device::DeviceKey;
use crate::signaling::jamjam::{ClientMessage, RoomInfo, ServerMessage};
use crate::time::Time;

/// Maximum time for a server reply, and for sending one message.
pub(super) const SERVER_REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time until a member of the room advertises its address.
const PEER_ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time for leaving the room, and for closing the connection.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes that are read per second.
const MAX_READ_RATE: u64 = 256 << 10;

/// Bytes that each message counts in addition to its own, so that the number of messages is limited, too.
const READ_OVERHEAD: u64 = 256;

/// 2 MiB are read at once, more than a list of ten thousand rooms.
const READ_BURST_SECONDS: u64 = 8;

fn limited_reads() -> KeyedGcra<()> {
    KeyedGcra::new(Gcra::with_burst_seconds(MAX_READ_RATE, READ_BURST_SECONDS), 1)
}

/// A connection to a jamjam signaling server.
pub struct SignalingConnection {
    socket: ClientSocket,
    /// Local address of the connection.
    pub local_addr: SocketAddr,
    /// Server address.
    pub peer_addr: SocketAddr,
    ping_interval: Duration,
    /// Limits what is read per second. Without it, a malicious server could keep a core busy.
    reads: KeyedGcra<()>,
    /// The beginning of the time of `reads`.
    connected: Instant,
}

impl SignalingConnection {
    /// Connects to `url`, with `tls` for `wss`. The connection proves `device`, which servers for older clients ignore. A silent server is
    /// pinged after `ping_interval`, and counts as lost after twice this time.
    pub async fn connect(
        url: &WebSocketUrl,
        tls: &Arc<ClientConfig>,
        device: &DeviceKey,
        ping_interval: Duration,
    ) -> Result<Self, WebSocketConnectError> {
        let headers = device.headers(clock::unix_ms() / 1_000);
        let connected = connect(url, tls, &LocalSocketOptions::default(), CONNECT_TIMEOUT, &headers).await?;
        let (local_addr, peer_addr) = (connected.local_addr, connected.peer_addr);
        let socket = connected.into_socket(websocket_config()).await;
        let reads = limited_reads();
        Ok(Self { socket, local_addr, peer_addr, ping_interval, reads, connected: Instant::now() })
    }

    /// Sends one message. Fails if the server does not accept it in time.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), WebSocketFailure> {
        let text = serde_json::to_string(message)
            .unwrap_or_else(|error| unreachable!("a client message must be serializable as JSON: {error}"));
        let sent = timeout(SERVER_REPLY_TIMEOUT, self.socket.send(Message::text(text))).await;
        sent.map_err(|_| no_answer())?.map_err(failure)
    }

    /// The next message that can be parsed. Cancel safe, but a cancelled call does not count as silence of the server.
    pub async fn recv(&mut self) -> Result<ServerMessage, WebSocketFailure> {
        let mut is_pinged = false;
        loop {
            let wait = self.reads.wait(self.now(), ());
            if !wait.is_zero() {
                sleep(wait).await;
            }
            let Ok(received) = timeout(self.ping_interval, next_message(&mut self.socket)).await else {
                if is_pinged {
                    return Err(no_answer());
                }
                is_pinged = true;
                // If the server does not accept the ping, it will not answer it either.
                let _ = self.socket.send(Message::Ping(Bytes::new())).now_or_never();
                continue;
            };
            is_pinged = false;
            let message = received?;
            self.reads.charge(self.now(), (), READ_OVERHEAD + message.len() as u64);
            let Message::Text(text) = message else { continue };
            match serde_json::from_str(&text) {
                Ok(message) => return Ok(message),
                Err(error) => {
                    debug!(target: "registration", error = %sanitize(&error.to_string()), "unparsable message from the server ignored");
                }
            }
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.connected.elapsed()
    }

    /// Closes the connection and waits for the reply.
    async fn close(mut self) {
        let _ = self.socket.close(None).await;
        while next_message(&mut self.socket).await.is_ok() {}
    }
}

/// The server did not answer a ping, or did not read a message in time.
fn no_answer() -> WebSocketFailure {
    WebSocketFailure::Broken("the server does not respond".to_owned())
}

/// Why the server has closed a connection to a room, and a remedy.
pub(super) fn explain(failure: &WebSocketFailure) -> String {
    let WebSocketFailure::Closed { code, reason } = failure else { return failure.to_string() };
    format!("{failure}: {}", diagnose_close(Dialect::Jamjam, *code, reason, ClosePhase::BeforeReplies))
}

/// Why a room could not be joined.
#[derive(Debug, Error)]
pub enum RoomSessionError {
    /// The server's WebSocket URL could not be found, or the connection could not be established.
    #[error(transparent)]
    Connect(#[from] WebSocketConnectError),
    /// The connection was lost.
    #[error("{}", explain(.0))]
    Failure(#[from] WebSocketFailure),
    /// The server rejected the request, or the room has no usable member.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The server accepts connections, but does not reply to requests.
    #[error(
        "no reply from the server within {} s. It probably speaks another dialect. Give the URL of a jamjam signaling server",
        SERVER_REPLY_TIMEOUT.as_secs()
    )]
    Timeout,
    /// A stop was requested.
    #[error("interrupted before the room was joined")]
    Interrupted(StopSignal),
    /// The thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Membership in a room. If the session is dropped, the client leaves the room.
pub struct RoomSession {
    /// Name of the room, sanitized for a terminal.
    pub room_name: String,
    /// Addresses of the members when the room was joined, in the order in which to try them; at least one, unless the client needs no member.
    pub peer_addresses: Vec<SocketAddr>,
    /// The public link keys that members with these addresses announced, in base64.
    pub link_keys: HashMap<SocketAddr, Option<String>>,
    /// The address of this host on the connection to the server.
    pub local_ip: IpAddr,
    /// Sends our own address to the session's thread. Dropping the sender ends the session.
    address_sender: Option<mpsc::Sender<SocketAddr>>,
    thread: Option<Worker<Result<(), WebSocketFailure>>>,
}

impl RoomSession {
    /// Joins the room of `client` on the server at `url`, as `device`. A stop request cancels the attempt.
    pub fn join(
        url: &WebSocketUrl,
        (tls, device): (Arc<ClientConfig>, DeviceKey),
        mut client: RoomClient,
        stop: &StopToken,
    ) -> Result<Self, RoomSessionError> {
        let (runtime, stopped) = (runtime()?, stop.to_notify());
        let joining = connect_and_join(url, &tls, &device, &mut client);
        let joined = runtime.block_on(stop.unless_stopped(&stopped, joining));
        let connection = match joined.unwrap_or_else(|signal| Err(RoomSessionError::Interrupted(signal))) {
            Ok(connection) => connection,
            Err(error) => {
                // A DNS lookup may still block a thread of the runtime. This call does not wait for it.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (address_sender, own_addresses) = mpsc::channel(1);
        let (room_name, peer_addresses) = (client.room_name().to_owned(), client.peer_addresses());
        let (link_keys, local_ip) = (client.link_keys(), connection.local_addr.ip().to_canonical());
        let session = move || runtime.block_on(run_session(connection, client, own_addresses));
        Ok(Self {
            room_name,
            peer_addresses,
            link_keys,
            local_ip,
            address_sender: Some(address_sender),
            thread: Some(Worker::spawn("signaling", session)?),
        })
    }

    /// Advertises our own address to the other members. An unspecified IP address stands for that of the connection to the server.
    pub fn advertise(&self, mut address: SocketAddr) {
        if address.ip().is_unspecified() {
            address.set_ip(self.local_ip);
        }
        if let Some(sender) = &self.address_sender {
            // Sending fails only if the connection to the signaling server is lost. The members then cannot receive the address.
            let _ = sender.try_send(address);
        }
    }

    /// Starts to leave the room.
    pub fn start_leaving(&mut self) {
        self.address_sender = None;
    }

    /// Leaves the room, and blocks until the connection is closed (a second at most, because the thread may wait to send an address). If the
    /// connection was lost earlier, returns the reason.
    pub fn leave_room(&mut self) -> Option<WebSocketFailure> {
        self.start_leaving();
        self.thread.take().filter(|thread| thread.finished_within(2 * LEAVE_TIMEOUT))?.join().err()
    }
}

impl Drop for RoomSession {
    fn drop(&mut self) {
        self.leave_room();
    }
}

/// The rooms of the server at `url`.
pub fn list_rooms(
    url: &WebSocketUrl,
    tls: &Arc<ClientConfig>,
    device: &DeviceKey,
) -> Result<Vec<RoomInfo>, RoomSessionError> {
    runtime()?.block_on(async {
        let mut connection = connect_to(url, tls, device).await?;
        let listing = async {
            connection.send(&ClientMessage::ListRooms).await?;
            loop {
                if let ServerMessage::RoomList { rooms } = connection.recv().await? {
                    return Ok(rooms);
                }
            }
        };
        let rooms = timeout(SERVER_REPLY_TIMEOUT, listing).await.unwrap_or(Err(RoomSessionError::Timeout))?;
        let _ = timeout(LEAVE_TIMEOUT, connection.close()).await;
        Ok(rooms)
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn connect_to(
    url: &WebSocketUrl,
    tls: &Arc<ClientConfig>,
    device: &DeviceKey,
) -> Result<SignalingConnection, WebSocketConnectError> {
    let url = url.websocket_url(tls).await?;
    SignalingConnection::connect(&url, tls, device, PING_INTERVAL).await
}

/// Connects, joins, and waits for the address of a member.
async fn connect_and_join(
    url: &WebSocketUrl,
    tls: &Arc<ClientConfig>,
    device: &DeviceKey,
    client: &mut RoomClient,
) -> Result<SignalingConnection, RoomSessionError> {
    let mut connection = connect_to(url, tls, device).await?;
    connection.send(&client.on_connected()).await?;
    let joined = receive_until(&mut connection, client, RoomClient::is_joined);
    let mut joined = timeout(SERVER_REPLY_TIMEOUT, joined).await.unwrap_or(Err(RoomSessionError::Timeout));
    if joined.is_ok() && !client.needs_no_member() {
        let has_peer = receive_until(&mut connection, client, |client| !client.peer_addresses().is_empty());
        joined = timeout(PEER_ADDRESS_TIMEOUT, has_peer).await.unwrap_or_else(|_| Err(client.no_peer_error().into()));
    }
    match joined {
        Err(error @ RoomSessionError::Room(_)) => {
            leave_room(connection).await;
            Err(error)
        }
        joined => joined.map(|()| connection),
    }
}

/// Handles messages until `is_done`.
async fn receive_until(
    connection: &mut SignalingConnection,
    client: &mut RoomClient,
    is_done: fn(&RoomClient) -> bool,
) -> Result<(), RoomSessionError> {
    while !is_done(client) {
        if let Some(reply) = client.on_message(connection.recv().await?)? {
            connection.send(&reply).await?;
        }
    }
    Ok(())
}

/// Stays in the room until the sender of `own_addresses` is dropped or the connection is lost.
async fn run_session(
    mut connection: SignalingConnection,
    mut client: RoomClient,
    mut own_addresses: mpsc::Receiver<SocketAddr>,
) -> Result<(), WebSocketFailure> {
    let is_local_server = connection.peer_addr.ip().to_canonical().is_loopback();
    loop {
        tokio::select! {
            message = connection.recv() => {
                let message = message?;
                if let ServerMessage::ChatMessage(chat) = &message {
                    let (user, bytes) = (sanitize_name(&chat.sender_name), chat.content.len());
                    debug!(target: "room", user, bytes, "chat message received");
                }
                // In the room, no message needs a reply.
                let _ = client.on_message(message);
            }
            address = own_addresses.recv() => match address {
                // A loopback address is useful only to members on this host.
                Some(address) if address.ip().is_loopback() && !is_local_server => {}
                Some(address) => connection.send(&RoomClient::address_update(address)).await?,
                None => {
                    leave_room(connection).await;
                    return Ok(());
                }
            },
        }
    }
}

async fn leave_room(mut connection: SignalingConnection) {
    let leave = async {
        if connection.send(&ClientMessage::LeaveRoom).await.is_ok() {
            connection.close().await;
        }
    };
    let _ = timeout(LEAVE_TIMEOUT, leave).await;
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use rustls::ClientConnection;
    use tokio::io::{DuplexStream, duplex};
    use tokio::net::TcpStream;
    use tokio::time::Instant;
    use tokio_tungstenite::WebSocketStream;
    use tungstenite::protocol::Role;

    use super::*;
    use crate::io::websocket::connect::ClientStream;

    impl ClientStream for DuplexStream {
        fn into_parts(self: Box<Self>) -> (TcpStream, Option<ClientConnection>) {
            unreachable!("the room client uses the stream as a whole")
        }
    }

    async fn connected_pair() -> (SignalingConnection, WebSocketStream<DuplexStream>) {
        let (near, far) = duplex(1 << 10);
        let near: Box<dyn ClientStream> = Box::new(near);
        let socket = WebSocketStream::from_raw_socket(near, Role::Client, Some(websocket_config())).await;
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let (reads, connected) = (limited_reads(), Instant::now());
        let connection = SignalingConnection {
            socket,
            local_addr: address,
            peer_addr: address,
            ping_interval: PING_INTERVAL,
            reads,
            connected,
        };
        (connection, WebSocketStream::from_raw_socket(far, Role::Server, None).await)
    }

    #[tokio::test(start_paused = true)]
    async fn flooding_server_is_read_at_a_limited_rate() {
        const TEXT: &str = r#"{"type": "RoomList", "data": {"rooms": []}}"#;
        let (mut connection, mut server) = connected_pair().await;
        let flood = async { while server.send(Message::text(TEXT)).await.is_ok() {} };
        let mut received: u64 = 0;
        let read_for_16_s = timeout(Duration::from_secs(16), async {
            while connection.recv().await.is_ok() {
                received += 1;
            }
        });
        tokio::select! {
            () = flood => unreachable!("the client is connected"),
            elapsed = read_for_16_s => assert!(elapsed.is_err()),
        }
        // Each message counts 256 bytes more. 2 MiB are read at once, and as many in each 8 s.
        let expected = (6 << 20) / (TEXT.len() as u64 + 256);
        assert!((expected - 2..expected + 3).contains(&received), "{received}");
    }

    #[tokio::test(start_paused = true)]
    async fn server_is_pinged_and_times_out_only_when_it_is_silent() {
        let (mut connection, mut server) = connected_pair().await;
        let began = Instant::now();
        let elapsed_tenths = || began.elapsed().as_millis() / 100;
        // The library answers a ping during the next read. The client sends 120 pings in an hour, of which the last is not answered.
        let answer_for_an_hour = async {
            for _ in 0..120 {
                assert!(matches!(server.next().await, Some(Ok(Message::Ping(_)))));
            }
            assert_eq!(elapsed_tenths(), 36_000);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            received = connection.recv() => assert_eq!(received.unwrap_err(), no_answer()),
            () = answer_for_an_hour => {}
        }
        assert_eq!(elapsed_tenths(), 36_300);
    }
}
