//! Load on rooms: a task for each member connects, joins, receives, and sends when this thread says so. One thread runs all tasks.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{io, thread};

use axum::BoxError;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use futures_util::{FutureExt, SinkExt, StreamExt};
use rustls::ClientConfig;
use serde::Deserialize;
use thiserror::Error as ThisError;
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message};

use crate::client::{JoinHandshake, RoomLoad, WebSocketFailure};
use crate::io::clock;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::signaling::discovery::HttpConnection;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::{
    ClientStream, Connected, WebSocketConnectError, closed_by_server, connect, connect_stream, failure, websocket_config,
};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::signaling::Dialect;

/// Maximum number of members that join at the same time.
const MAX_JOINING: u32 = 256;

/// Pause before a join that the server has postponed is repeated.
const JOIN_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A postponed join fails after this time.
const MAX_JOIN_WAIT: Duration = Duration::from_secs(120);

/// Maximum number of messages that wait for a member's connection.
const MAX_UNSENT: usize = 16;

/// Read buffer of each connection, in bytes. The library clears the buffer before each read.
const READ_BUFFER_BYTES: usize = 1 << 10;

/// Maximum size of a message, in bytes: ten thousand participants in a list.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Maximum time for close frames, and for removing rooms.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two calls that show the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The path of the rooms of control surfaces.
const CONTROL_SURFACE_ROOMS: &str = "/admin/bbx/rooms";

/// Where the members connect.
pub struct RoomLoadTarget {
    /// The URL of each member, or one URL for all.
    pub urls: Vec<WebSocketUrl>,
    /// The code of an existing control surface room.
    pub room_code: Option<String>,
    /// How to open the connections.
    pub socket_options: LocalSocketOptions,
    /// TLS of `wss` URLs.
    pub tls: Arc<ClientConfig>,
    /// Maximum time to connect, and to join.
    pub timeout: Duration,
}

/// Why nothing could be done.
#[derive(Debug, ThisError)]
pub enum RoomLoadError {
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] WebSocketConnectError),
    /// The server created no control surface room.
    #[error("cannot create a room: HTTP {0}{advice}", advice = creation_advice(*.0))]
    Status(StatusCode),
    /// The request for a control surface room failed.
    #[error("cannot create a room: {0}")]
    Request(#[from] BoxError),
    /// The response is not the one of a control surface server.
    #[error("cannot create a room: the response has no code: {0}")]
    Response(#[from] serde_json::Error),
    /// This system has too few resources.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn creation_advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "; give the login of the server in the URL: ws://USER:PASSWORD@HOST:PORT",
        StatusCode::INSUFFICIENT_STORAGE => "; the server has its maximum number of rooms (BBX_MAX_ROOMS)",
        _ => "; give the URL of a signaling server of jamjam-dev, or --room CODE",
    }
}

/// What the tasks of all members share.
struct Shared {
    target: RoomLoadTarget,
    load: Mutex<RoomLoad>,
    /// The code or id of each room. In the jamjam dialect, it is unknown until the first member has created the room, and empty if it could
    /// not.
    rooms: Vec<watch::Sender<Option<String>>>,
}

type Socket = WebSocketStream<Box<dyn ClientStream>>;

/// Runs `load` until all messages are delivered, all connections have ended or a stop is requested. Calls `on_progress` now and then. The
/// error is why nothing could be done.
pub fn run(
    load: RoomLoad,
    target: RoomLoadTarget,
    stop: &StopToken,
    mut on_progress: impl FnMut(&RoomLoad),
) -> Result<RoomLoad, RoomLoadError> {
    // Few other threads resolve names.
    let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(8).enable_all().build()?;
    let config = load.config;
    let mut created = Vec::new();
    if config.dialect == Dialect::ControlSurface && target.room_code.is_none() {
        let creating = create_rooms(&target, config.rooms, &mut created, stop);
        if let Err(error) = runtime.block_on(creating) {
            runtime.block_on(remove_rooms(&target, &created));
            return Err(error);
        }
    }
    let mut codes = target.room_code.iter().chain(&created).cloned();
    let is_known = config.dialect != Dialect::Jamjam;
    let rooms = (0..config.rooms).map(|_| watch::Sender::new(is_known.then(|| codes.next().unwrap_or_default())));
    let rooms = rooms.collect();
    let shared = Arc::new(Shared { target, load: Mutex::new(load), rooms });
    let (senders, outboxes): (Vec<_>, Vec<_>) = (0..config.members).map(|_| mpsc::channel(MAX_UNSENT)).unzip();
    let starting = runtime.spawn(start_members(Arc::clone(&shared), outboxes));
    let this_thread = thread::current();
    stop.on_stop(move || this_thread.unpark());
    let mut shown = Instant::now();
    while stop.signal().is_none() {
        let now = clock::monotonic_now();
        let mut load = shared.lock();
        while let Some((member, number)) = load.poll(now) {
            // A message that does not fit is counted when it is settled.
            let _ = senders[member].try_send(number);
        }
        if load.is_complete() && load.counts.joined > 0 && !load.has_started() {
            load.start(now);
        } else if load.is_settled(now) || starting.is_finished() && Arc::strong_count(&shared) == 1 {
            break;
        }
        if shown.elapsed() >= PROGRESS_INTERVAL {
            on_progress(&load);
            shown = Instant::now();
        }
        let wait = load.next_due().map_or(PROGRESS_INTERVAL, |due| due.duration_since(now).min(PROGRESS_INTERVAL));
        drop(load);
        thread::park_timeout(wait);
    }
    starting.abort();
    drop(senders);
    runtime.block_on(async {
        let closed = async {
            while Arc::strong_count(&shared) > 1 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, closed).await;
        remove_rooms(&shared.target, &created).await;
    });
    runtime.shutdown_timeout(CLOSE_TIMEOUT);
    let shared = Arc::into_inner(shared).ok_or_else(|| io::Error::other("a connection does not end"))?;
    Ok(shared.load.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Creates rooms of control surfaces, whose codes are appended to `codes`.
async fn create_rooms(
    target: &RoomLoadTarget,
    count: usize,
    codes: &mut Vec<String>,
    stop: &StopToken,
) -> Result<(), RoomLoadError> {
    #[derive(Deserialize)]
    struct Created {
        code: String,
    }
    let mut http = target.http().await?;
    while codes.len() < count && stop.signal().is_none() {
        let (status, body) = http.request(Method::POST, CONTROL_SURFACE_ROOMS, "{}").await?;
        let Created { code } = match status {
            StatusCode::CREATED => serde_json::from_slice(&body)?,
            status => return Err(RoomLoadError::Status(status)),
        };
        codes.push(code);
    }
    Ok(())
}

/// Removes rooms of control surfaces. The server also removes them when they expire.
async fn remove_rooms(target: &RoomLoadTarget, codes: &[String]) {
    let removing = async {
        let mut http = target.http().await?;
        for code in codes {
            http.request(Method::DELETE, &format!("{CONTROL_SURFACE_ROOMS}/{code}"), Body::empty()).await?;
        }
        Ok::<_, RoomLoadError>(())
    };
    if !codes.is_empty() {
        let _ = timeout(CLOSE_TIMEOUT, removing).await;
    }
}

/// Starts a task for each member. Of a server that the first member cannot reach, no other member is started.
async fn start_members(shared: Arc<Shared>, outboxes: Vec<mpsc::Receiver<u32>>) {
    let slots = Arc::new(Semaphore::new(MAX_JOINING as usize));
    for (member, outbox) in outboxes.into_iter().enumerate() {
        let slots_taken = if member == 0 { MAX_JOINING } else { 1 };
        let Ok(slot) = Arc::clone(&slots).acquire_many_owned(slots_taken).await else { return };
        if member == 1 && shared.lock().is_unreachable() {
            return;
        }
        tokio::spawn(Arc::clone(&shared).run_member(member, outbox, slot));
    }
}

/// What a member waits for.
enum Event {
    Received(Option<Result<Message, Error>>),
    /// The number of a message to send; `None` at the end of the run.
    Due(Option<u32>),
}

impl RoomLoadTarget {
    async fn http(&self) -> Result<HttpConnection<'_>, RoomLoadError> {
        let stream = connect_stream(&self.urls[0], &self.tls, self.timeout).await?;
        Ok(HttpConnection::new(&self.urls[0], stream).await?)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, RoomLoad> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole life of a member. `slot` is the right to join.
    async fn run_member(self: Arc<Self>, member: usize, mut outbox: mpsc::Receiver<u32>, slot: OwnedSemaphorePermit) {
        // The future of the join is large, and is freed after it.
        let joined = Box::pin(self.join(member)).await;
        let room = &self.rooms[member % self.rooms.len()];
        let mut socket = match joined {
            Ok((socket, took)) => {
                self.lock().on_joined(member, took);
                socket
            }
            Err(failure) => {
                self.lock().on_ended(member, false, failure);
                room.send_if_modified(|id| id.is_none().then(|| *id = Some(String::new())).is_some());
                return;
            }
        };
        drop(slot);
        match self.serve(member, &mut socket, &mut outbox).await {
            Some(failure) => self.lock().on_ended(member, true, failure),
            None => drop(socket.close(None).await),
        }
    }

    /// Joins the room of a member. Returns the connection and the time that it took.
    async fn join(&self, member: usize) -> Result<(Socket, Duration), WebSocketFailure> {
        let room = &self.rooms[member % self.rooms.len()];
        let mut id = room.borrow().clone();
        if member >= self.rooms.len() {
            id = room.subscribe().wait_for(Option::is_some).await.ok().and_then(|id| id.clone());
        }
        let began = Instant::now();
        loop {
            let attempt = Instant::now();
            match self.try_join(member, id.as_deref().unwrap_or_default()).await {
                Err(error) if is_postponed(&error) && began.elapsed() < MAX_JOIN_WAIT => {
                    sleep(JOIN_RETRY_INTERVAL).await;
                }
                joined => return joined.map(|socket| (socket, attempt.elapsed())),
            }
        }
    }

    async fn try_join(&self, member: usize, room: &str) -> Result<Socket, WebSocketFailure> {
        let RoomLoadTarget { urls, socket_options, tls, timeout: limit, .. } = &self.target;
        let url = urls.get(member).unwrap_or(&urls[0]);
        let connected = connect(url, tls, socket_options, *limit, &[]).await;
        let connected = connected.map_err(|error| WebSocketFailure::Unreachable(error.to_string()))?;
        let Connected { stream, after_response, .. } = connected;
        let config = websocket_config().read_buffer_size(READ_BUFFER_BYTES).max_message_size(Some(MAX_MESSAGE_BYTES));
        let config = Some(config.max_frame_size(Some(MAX_MESSAGE_BYTES)));
        let mut socket = WebSocketStream::from_partially_read(stream, after_response, Role::Client, config).await;
        let mut handshake = JoinHandshake::with_message(self.lock().join_message(member, room));
        let joining = async {
            if let Some(message) = handshake.first_message.take() {
                socket.send(Message::text(message)).await.map_err(failure)?;
            }
            while !handshake.joined {
                match socket.next().await.unwrap_or(Err(Error::ConnectionClosed)).map_err(failure)? {
                    Message::Text(text) => handshake.on_message(&text).map_err(WebSocketFailure::Rejected)?,
                    Message::Close(frame) => return Err(closed_by_server(frame)),
                    _ => {}
                }
            }
            Ok(())
        };
        let in_time = timeout(*limit, joining).await;
        in_time.unwrap_or_else(|_| Err(WebSocketFailure::Rejected(format!("no welcome message within {limit:?}"))))?;
        if let Some(id) = handshake.room_id {
            let room = &self.rooms[member % self.rooms.len()];
            room.send_if_modified(|known| known.is_none().then(|| *known = Some(id)).is_some());
        }
        Ok(socket)
    }

    /// Receives, and sends when a message is due, until the end of the run. Returns why the connection ended before.
    async fn serve(
        &self,
        member: usize,
        socket: &mut Socket,
        outbox: &mut mpsc::Receiver<u32>,
    ) -> Option<WebSocketFailure> {
        loop {
            let event = poll_fn(|cx| {
                // Writes what is buffered. If this fails, the next read explains more.
                let _ = socket.poll_flush_unpin(cx);
                if let Poll::Ready(received) = socket.poll_next_unpin(cx) {
                    return Poll::Ready(Event::Received(received));
                }
                if socket.poll_ready_unpin(cx).is_ready() { outbox.poll_recv(cx).map(Event::Due) } else { Poll::Pending }
            });
            let (event, now) = (event.await, clock::monotonic_now());
            match event {
                Event::Received(Some(Ok(Message::Text(text)))) => self.lock().on_message(member, &text, now),
                Event::Received(Some(Ok(Message::Close(frame)))) => {
                    // Sends the reply to the close frame.
                    let _ = socket.flush().now_or_never();
                    return Some(closed_by_server(frame));
                }
                Event::Received(Some(Ok(_))) => {}
                Event::Received(Some(Err(error))) => return Some(failure(error)),
                Event::Received(None) => return Some(failure(Error::ConnectionClosed)),
                Event::Due(Some(number)) => {
                    let text = self.lock().write_message(member, number, now);
                    let _ = text.map(|text| socket.start_send_unpin(Message::text(text)));
                }
                Event::Due(None) => return None,
            }
        }
    }
}

/// Whether the server asks to repeat a join later: it limits the joins of an address.
fn is_postponed(failure: &WebSocketFailure) -> bool {
    let text = failure.to_string().to_lowercase();
    ["too many requests", "http 429"].iter().any(|part| text.contains(part))
}
