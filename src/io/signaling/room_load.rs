//! Load on rooms: a task for each member connects, joins and receives, and sends when the calling thread says so. One thread runs all tasks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{io, iter, thread};

use axum::BoxError;
use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{Method, StatusCode};
use futures_util::{FutureExt, SinkExt, StreamExt};
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message};

use crate::client::{JoinHandshake, RoomLoad, RoomLoadConfig, WebSocketFailure};
use crate::io::clock;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::signaling::discovery::HttpConnection;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::{
    ClientStream, Connected, closed_by_server, connect, connect_stream, failure, websocket_config,
};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::lock::lock;
use crate::signaling::Dialect;

/// Maximum number of members that join at the same time.
const MAX_JOINING: usize = 256;

/// Pause before a join that the server has postponed is repeated.
const JOIN_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of such pauses.
const MAX_JOIN_RETRIES: usize = 120;

/// Maximum number of messages that wait for a member's connection.
const MAX_UNSENT: usize = 16;

/// Size of each connection's read buffer, in bytes. The library clears the buffer before each read.
const READ_BUFFER_BYTES: usize = 1 << 10;

/// Maximum size of a message, in bytes. The list of a hundred participants fits into one message.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Maximum time for closing all connections, and for removing a room of control surfaces.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two calls that show the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Where the members connect.
pub struct RoomLoadTarget {
    /// The URL of each member.
    pub urls: Vec<WebSocketUrl>,
    /// How to open the connections.
    pub socket_options: LocalSocketOptions,
    /// TLS of `wss` URLs.
    pub tls: Arc<ClientConfig>,
    /// Maximum time to connect, and to join.
    pub timeout: Duration,
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

/// A run with its connections and rooms.
pub struct RoomLoadRun {
    runtime: Runtime,
    shared: Arc<Shared>,
    /// Each member closes its connection when its sender is dropped.
    senders: Vec<mpsc::Sender<u32>>,
    /// The codes of the rooms that were created.
    codes: Vec<String>,
    stop: StopToken,
}

impl RoomLoadRun {
    /// Prepares a run of `load` until `stop` is requested.
    pub fn new(load: RoomLoad, target: RoomLoadTarget, stop: &StopToken) -> io::Result<Self> {
        // Few other threads resolve names.
        let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(8).enable_all().build()?;
        let known = (load.config.dialect != Dialect::Jamjam).then(String::new);
        let rooms = (0..load.config.rooms).map(|_| watch::Sender::new(known.clone())).collect();
        let shared = Arc::new(Shared { target, load: Mutex::new(load), rooms });
        Ok(Self { runtime, shared, senders: Vec::new(), codes: Vec::new(), stop: stop.clone() })
    }

    /// Runs until all messages are settled, all connections have ended or a stop is requested. Passes the number of joined members and
    /// [`RoomLoad::progress`] to `on_progress` now and then. Fails if there is no room to join.
    pub fn run(&mut self, mut on_progress: impl FnMut(u64, String)) -> Result<RoomLoad, BoxError> {
        let Self { runtime, shared, senders, codes, stop } = self;
        let RoomLoadConfig { members, rooms, dialect, .. } = lock(&shared.load).config.clone();
        if dialect == Dialect::ControlSurface {
            let (stopped, created) = (stop.to_notify(), change_rooms(&shared.target, rooms, codes));
            match runtime.block_on(stop.unless_stopped(&stopped, created)) {
                Ok(created) => created?,
                Err(_) => return Ok(lock(&shared.load).clone()),
            }
            for (room, code) in iter::zip(&shared.rooms, &*codes) {
                room.send_replace(Some(code.clone()));
            }
        }
        let outboxes;
        (*senders, outboxes) = (0..members).map(|_| mpsc::channel(MAX_UNSENT)).unzip();
        let starting = runtime.spawn(start_members(Arc::clone(shared), outboxes));
        let this_thread = thread::current();
        stop.on_stop(move || this_thread.unpark());
        let mut shown = Instant::now();
        while stop.signal().is_none() {
            let now = clock::monotonic_now();
            let mut load = lock(&shared.load);
            load.start(now);
            while let Some((member, number)) = load.poll(now) {
                // A message that does not fit is counted when it is settled.
                let _ = senders[member].try_send(number);
            }
            if starting.is_finished() && Arc::strong_count(shared) == 1 {
                load.settle_all();
                break;
            }
            if load.is_settled(now) {
                break;
            }
            let next = load.next_due().map_or(PROGRESS_INTERVAL, |due| due.duration_since(now).min(PROGRESS_INTERVAL));
            let progress = (shown.elapsed() >= PROGRESS_INTERVAL).then(|| (load.results.joined, load.progress()));
            drop(load);
            if let Some((joined, text)) = progress {
                on_progress(joined, text);
                shown = Instant::now();
            }
            thread::park_timeout(next);
        }
        starting.abort();
        // The connections, which are still open, go on with theirs.
        Ok(lock(&shared.load).clone())
    }

    /// Closes all connections, and removes the created rooms. Returns the codes of those that the server did not remove.
    pub fn close(self) -> Vec<String> {
        let Self { runtime, shared, senders, mut codes, stop } = self;
        drop(senders);
        runtime.block_on(async {
            let closed = async {
                while Arc::strong_count(&shared) > 1 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let _ = timeout(CLOSE_TIMEOUT, closed).await;
            let stopped = stop.to_notify();
            tokio::select! {
                _ = change_rooms(&shared.target, 0, &mut codes) => {}
                () = async { stopped.notified().await; sleep(CLOSE_TIMEOUT).await } => {}
            }
        });
        runtime.shutdown_timeout(CLOSE_TIMEOUT);
        codes
    }
}

/// Creates or removes rooms of control surfaces until there are `count`. Their codes are in `codes`.
async fn change_rooms(target: &RoomLoadTarget, count: usize, codes: &mut Vec<String>) -> Result<(), BoxError> {
    const PATH: &str = "/admin/bbx/rooms";
    #[derive(Deserialize)]
    struct Created {
        code: String,
    }
    if codes.len() == count {
        return Ok(());
    }
    let connected = connect_stream(&target.urls[0], &target.tls, target.timeout).await?;
    let mut http = HttpConnection::new(&target.urls[0], connected.stream).await?;
    while codes.len() < count {
        let (Parts { status, .. }, body) = timeout(target.timeout, http.request(Method::POST, PATH, "{}")).await??;
        if status != StatusCode::CREATED {
            let advice = "Give the login in the URL (ws://USER:PASSWORD@HOST:PORT), and at most BBX_MAX_ROOMS rooms";
            return Err(format!("cannot create a room: HTTP {status}. {advice}").into());
        }
        codes.push(serde_json::from_slice::<Created>(&body)?.code);
    }
    while let Some(code) = codes.last().filter(|_| count == 0) {
        let path = format!("{PATH}/{code}");
        let (Parts { status, .. }, _) =
            timeout(CLOSE_TIMEOUT, http.request(Method::DELETE, &path, Body::empty())).await??;
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            return Err(format!("cannot remove a room: HTTP {status}").into());
        }
        codes.pop();
    }
    Ok(())
}

/// Starts a task for each member, of which the first must have joined before the others are started.
async fn start_members(shared: Arc<Shared>, outboxes: Vec<mpsc::Receiver<u32>>) {
    let slots = Arc::new(Semaphore::new(MAX_JOINING));
    for (member, outbox) in outboxes.into_iter().enumerate() {
        let taken = if member == 0 { MAX_JOINING as u32 } else { 1 };
        let Ok(slot) = Arc::clone(&slots).acquire_many_owned(taken).await else { return };
        if member == 1 && lock(&shared.load).results.joined == 0 {
            return;
        }
        tokio::spawn(Arc::clone(&shared).run_member(member, outbox, slot));
    }
}

impl Shared {
    /// The whole life of a member. `slot` is the right to join.
    async fn run_member(self: Arc<Self>, member: usize, outbox: mpsc::Receiver<u32>, slot: OwnedSemaphorePermit) {
        let mut retries = 0..MAX_JOIN_RETRIES;
        // The future of a join is large, and is freed after it.
        let mut joined = Box::pin(self.join(member)).await;
        while joined.as_ref().is_err_and(is_postponed) && retries.next().is_some() {
            sleep(JOIN_RETRY_INTERVAL).await;
            joined = Box::pin(self.join(member)).await;
        }
        match joined {
            Ok((socket, took)) => {
                lock(&self.load).on_joined(member, took);
                drop(slot);
                if let Some(failure) = self.serve(member, socket, outbox).await {
                    lock(&self.load).on_ended(member, true, failure);
                }
            }
            Err(failure) => {
                self.set_room(member, String::new());
                lock(&self.load).on_ended(member, false, failure);
            }
        }
    }

    /// The room of a member has this id, unless it is known.
    fn set_room(&self, member: usize, id: String) {
        let room = &self.rooms[member % self.rooms.len()];
        room.send_if_modified(|known| known.is_none() && known.replace(id).is_none());
    }

    /// Connects and joins the room of a member. Returns the connection and how long this took.
    async fn join(&self, member: usize) -> Result<(Socket, Duration), WebSocketFailure> {
        let room = &self.rooms[member % self.rooms.len()];
        if member >= self.rooms.len() {
            let _ = room.subscribe().wait_for(Option::is_some).await;
        }
        let room = room.borrow().clone().unwrap_or_default();
        let RoomLoadTarget { urls, socket_options, tls, timeout: limit } = &self.target;
        let (began, url) = (Instant::now(), &urls[member]);
        let connected = connect(url, tls, socket_options, *limit, &[]).await;
        let Connected { stream, after_response, .. } =
            connected.map_err(|error| WebSocketFailure::Unreachable(error.to_string()))?;
        let config = websocket_config().read_buffer_size(READ_BUFFER_BYTES).max_message_size(Some(MAX_MESSAGE_BYTES));
        let config = Some(config.max_frame_size(Some(MAX_MESSAGE_BYTES)));
        let mut socket = WebSocketStream::from_partially_read(stream, after_response, Role::Client, config).await;
        let mut handshake = JoinHandshake::with_message(lock(&self.load).join_message(member, &room));
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
        let late = |_| Err(WebSocketFailure::Rejected(format!("no welcome message within {limit:?}")));
        timeout(*limit, joining).await.unwrap_or_else(late)?;
        self.set_room(member, handshake.room_id.unwrap_or_default());
        Ok((socket, began.elapsed()))
    }

    /// Receives, and sends when a message is due, until the end of the run. Returns why the connection ended before.
    async fn serve(
        &self,
        member: usize,
        mut socket: Socket,
        mut outbox: mpsc::Receiver<u32>,
    ) -> Option<WebSocketFailure> {
        loop {
            // If the server reads too slowly, the connection waits to send, and meanwhile receives nothing.
            tokio::select! {
                biased;
                received = socket.next() => match received.unwrap_or(Err(Error::ConnectionClosed)) {
                    Ok(Message::Text(text)) => {
                        let now = clock::monotonic_now();
                        lock(&self.load).on_message(member, &text, now);
                    }
                    Ok(Message::Close(frame)) => {
                        // Sends the reply to the close frame.
                        let _ = socket.flush().now_or_never();
                        return Some(closed_by_server(frame));
                    }
                    Ok(_) => {}
                    Err(error) => return Some(failure(error)),
                },
                due = outbox.recv() => {
                    let Some(number) = due else {
                        let _ = socket.close(None).await;
                        return None;
                    };
                    let message = lock(&self.load).message(member, number, clock::monotonic_now());
                    if let Some(message) = message
                        && let Err(error) = socket.send(Message::text(message)).await
                    {
                        return Some(failure(error));
                    }
                }
            }
        }
    }
}

/// Whether the server asks to repeat a join later: it limits the joins of an address.
fn is_postponed(failure: &WebSocketFailure) -> bool {
    let text = failure.to_string().to_lowercase();
    text.contains("too many requests") || text.contains("http 429")
}
