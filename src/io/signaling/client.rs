//! Client side of jamjam's signaling: the connection, the room list, and a session in a room.
//!
//! The thread of a session reads all messages, so that the server never takes this client for a slow reader. Losing the server does not end
//! the run, because audio goes from peer to peer.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, Join, ReadBuf, ReadHalf, WriteHalf, join, split};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tracing::debug;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message};

use crate::client::{StopSignal, WebSocketFailure};
use crate::io::clock;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::signaling::discovery::{DiscoveryError, SignalingUrl};
use crate::io::stop::StopToken;
use crate::io::websocket::connect::{
    CONNECT_TIMEOUT, ClientStream, Connected, PING_INTERVAL, WebSocketConnectError, closed_by_server, connect, failure,
    websocket_config,
};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::io::worker::Worker;
use crate::report::{ClosePhase, diagnose_close};
use crate::sanitize::{sanitize, sanitize_name};
use crate::signaling::Dialect;
use crate::signaling::client::{RoomClient, RoomError};
use crate::signaling::device::DeviceKey;
use crate::signaling::jamjam::{ClientMessage, RoomInfo, ServerMessage};

/// Maximum time for a server reply, and for sending one message.
pub(super) const SERVER_REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time until a member of the room advertises its address.
const PEER_ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time for leaving the room.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes that a connection may read per second. Without this limit, a malicious server could keep a core busy.
const MAX_READ_RATE: f64 = 256.0 * 1024.0;

/// Bytes that each read counts in addition to the bytes read. Therefore, the number of reads per second is limited, too.
const READ_OVERHEAD: usize = 256;

/// The connection may read as many bytes at once as the rate permits in this time: 2 MiB, more than a list of ten thousand rooms.
const READ_BURST: Duration = Duration::from_secs(8);

/// The stream below a WebSocket connection. Writes are not limited.
type LimitedStream = Join<LimitedReader, WriteHalf<Box<dyn ClientStream>>>;

/// Limits reads: a server that sends too much only fills the system's buffers.
struct LimitedReader {
    stream: ReadHalf<Box<dyn ClientStream>>,
    last_received: Instant,
    /// Ends when the next read may start.
    next_read: Pin<Box<Sleep>>,
}

fn limit_reads(stream: Box<dyn ClientStream>) -> LimitedStream {
    let (now, (stream, writer)) = (Instant::now(), split(stream));
    let next_read = Box::pin(sleep_until(now.checked_sub(READ_BURST).unwrap_or(now)));
    join(LimitedReader { stream, last_received: now, next_read }, writer)
}

impl AsyncRead for LimitedReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.next_read.as_mut().poll(cx));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let now = Instant::now();
        let read = buffer.filled().len() - before;
        let work = Duration::from_secs_f64((READ_OVERHEAD + read) as f64 / MAX_READ_RATE);
        let next_read = this.next_read.deadline().max(now.checked_sub(READ_BURST).unwrap_or(now)) + work;
        this.next_read.as_mut().reset(next_read);
        this.last_received = now;
        Poll::Ready(Ok(()))
    }
}

/// A connection to a jamjam signaling server.
pub struct SignalingConnection {
    socket: WebSocketStream<LimitedStream>,
    /// Local address of the connection.
    pub local_addr: SocketAddr,
    /// Server address.
    pub peer_addr: SocketAddr,
    /// When the last ping was sent.
    pinged_at: Option<Instant>,
    /// A silent server is pinged after this time, and counts as lost after twice this time.
    ping_interval: Duration,
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
        let Connected { stream, after_response, local_addr, peer_addr, .. } =
            connect(url, tls, &LocalSocketOptions::default(), CONNECT_TIMEOUT, &headers).await?;
        let (stream, config) = (limit_reads(stream), Some(websocket_config()));
        let socket = WebSocketStream::from_partially_read(stream, after_response, Role::Client, config).await;
        Ok(Self { socket, local_addr, peer_addr, pinged_at: None, ping_interval })
    }

    /// Sends one message. Fails if the server does not accept it in time.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), WebSocketFailure> {
        let text = serde_json::to_string(message)
            .unwrap_or_else(|error| unreachable!("a client message must be serializable as JSON: {error}"));
        let sent = async {
            // The buffer may be full of replies to pings.
            self.socket.flush().await?;
            self.socket.send(Message::text(text)).await
        };
        timeout(SERVER_REPLY_TIMEOUT, sent).await.map_err(|_| no_answer())?.map_err(failure)
    }

    /// The next message that can be parsed. Cancel safe.
    pub async fn recv(&mut self) -> Result<ServerMessage, WebSocketFailure> {
        loop {
            match self.next_message().await? {
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(message) => return Ok(message),
                    Err(error) => {
                        debug!(target: "registration", error = %sanitize(&error.to_string()), "unparsable message from the server ignored");
                    }
                },
                Message::Close(frame) => {
                    // Sends the reply to the close frame. The server may already have disconnected.
                    let _ = self.socket.flush().now_or_never();
                    return Err(closed_by_server(frame));
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The next message of any kind, with a ping to the server if it is silent. Cancel safe.
    async fn next_message(&mut self) -> Result<Message, WebSocketFailure> {
        loop {
            let last_received = self.socket.get_ref().reader().last_received;
            let silent_since = self.pinged_at.map_or(last_received, |pinged_at| pinged_at.max(last_received));
            let next = poll_fn(|cx| {
                // Writes what is buffered, while reading. If this fails, the next read explains more.
                let _ = self.socket.poll_flush_unpin(cx);
                self.socket.poll_next_unpin(cx)
            });
            if let Ok(next) = timeout_at(silent_since + self.ping_interval, next).await {
                return next.unwrap_or(Err(Error::ConnectionClosed)).map_err(failure);
            }
            if self.socket.get_ref().reader().last_received > last_received {
                // A part of a message has arrived.
                continue;
            }
            if self.pinged_at > Some(last_received) {
                return Err(no_answer());
            }
            self.pinged_at = Some(Instant::now());
            // If the server does not accept the ping, it will not answer it either.
            let _ = self.socket.send(Message::Ping(Bytes::new())).now_or_never();
        }
    }

    /// Closes the connection and waits up to 500 ms for the reply.
    pub async fn close(mut self) {
        let closing = async {
            let _ = self.socket.close(None).await;
            while let Ok(message) = self.next_message().await
                && !message.is_close()
            {}
        };
        let _ = timeout(Duration::from_millis(500), closing).await;
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
    Connect(#[from] DiscoveryError),
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
        url: &SignalingUrl,
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
    url: &SignalingUrl,
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
        connection.close().await;
        Ok(rooms)
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn connect_to(
    url: &SignalingUrl,
    tls: &Arc<ClientConfig>,
    device: &DeviceKey,
) -> Result<SignalingConnection, DiscoveryError> {
    let url = url.websocket_url(tls).await?;
    Ok(SignalingConnection::connect(&url, tls, device, PING_INTERVAL).await?)
}

/// Connects, joins, and waits for the address of a member.
async fn connect_and_join(
    url: &SignalingUrl,
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
                    let (user, text) = (sanitize_name(&chat.sender_name), sanitize(&chat.content));
                    debug!(target: "room", user, text, "chat message received");
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::ClientConnection;
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, sink};
    use tokio::net::TcpStream;

    use super::*;

    impl<R: AsyncRead + Send + Unpin, W: AsyncWrite + Send + Unpin> ClientStream for Join<R, W> {
        fn into_parts(self: Box<Self>) -> (TcpStream, Option<ClientConnection>) {
            unreachable!("the room client uses the stream as a whole")
        }
    }

    /// The client end and the server end of a connection in memory.
    async fn connected_pair() -> (SignalingConnection, WebSocketStream<DuplexStream>) {
        let (near, far) = duplex(1 << 10);
        let (reader, writer) = split(near);
        (connection(reader, writer).await, WebSocketStream::from_raw_socket(far, Role::Server, None).await)
    }

    async fn connection(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> SignalingConnection {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut stream = limit_reads(Box::new(join(reader, writer)));
        stream.reader_mut().next_read.as_mut().reset(Instant::now());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(websocket_config())).await;
        SignalingConnection {
            socket,
            local_addr: address,
            peer_addr: address,
            pinged_at: None,
            ping_interval: PING_INTERVAL,
        }
    }

    fn elapsed_tenths(began: Instant) -> u128 {
        began.elapsed().as_millis() / 100
    }

    #[tokio::test(start_paused = true)]
    async fn server_is_pinged_and_times_out_only_when_it_is_silent() {
        let (mut connection, mut server) = connected_pair().await;
        let began = Instant::now();
        // The library answers a ping during the next read. The client sends 120 pings in an hour, of which the last is not answered.
        let answer_for_an_hour = async {
            for _ in 0..120 {
                assert!(matches!(server.next().await, Some(Ok(Message::Ping(_)))));
            }
            assert_eq!(elapsed_tenths(began), 36_000);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            received = connection.recv() => assert_eq!(received.unwrap_err(), no_answer()),
            () = answer_for_an_hour => {}
        }
        assert_eq!(elapsed_tenths(began), 36_300);
    }

    /// A server that always sends one more ping, up to a million.
    struct FloodingServer(Arc<AtomicUsize>);

    impl AsyncRead for FloodingServer {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.0.fetch_add(1, Ordering::Relaxed) < 1_000_000 {
                buffer.put_slice(&[0x89, 0]);
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn flooding_server_is_read_at_a_limited_rate() {
        let reads = Arc::new(AtomicUsize::new(0));
        let mut connection = connection(FloodingServer(Arc::clone(&reads)), sink()).await;
        let flood = timeout(Duration::from_secs(100), connection.recv()).await;
        assert!(flood.is_err(), "{flood:?}");
        // Each read counts as 258 bytes of 262,144 bytes per second.
        let reads = reads.load(Ordering::Relaxed);
        assert!((101_000..101_700).contains(&reads), "{reads} reads in 100 s");
    }

    #[tokio::test(start_paused = true)]
    async fn pongs_to_a_server_that_never_reads_are_bounded() {
        // The buffer of the connection holds one pong of 6 bytes.
        let ((near, mut far), reads) = (duplex(6), Arc::new(AtomicUsize::new(0)));
        let mut connection = connection(FloodingServer(Arc::clone(&reads)), near).await;
        let flood = timeout(Duration::from_secs(100), connection.recv()).await;
        assert!(flood.is_err(), "{flood:?}");
        let send = async {
            connection.send(&ClientMessage::ListRooms).await.unwrap();
            drop(connection);
        };
        let mut accepted = Vec::new();
        let ((), bytes) = tokio::join!(send, far.read_to_end(&mut accepted));
        let (pings, bytes) = (reads.load(Ordering::Relaxed), bytes.unwrap());
        assert!(pings * 6 > 2 * bytes && bytes <= 257 << 10, "{bytes} bytes for {pings} pings");
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_sends_a_message_slowly_is_not_pinged() {
        let (mut connection, mut server) = connected_pair().await;
        let far = server.get_mut();
        let send_slowly = async {
            for byte in [&[0x81, 125][..], &[b'x'; 124]].concat() {
                far.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        };
        tokio::select! {
            received = connection.recv() => panic!("{received:?}"),
            () = send_slowly => {}
        }
        assert!(far.read_u8().now_or_never().is_none());
    }
}
