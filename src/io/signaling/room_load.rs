//! Load on rooms: a task for each member connects, joins and receives, and sends when the calling thread says so. One thread runs all tasks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{io, thread};

use futures_util::SinkExt;
use rustls::ClientConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tungstenite::Message;

use crate::client::{JoinHandshake, RoomLoad, WebSocketFailure};
use crate::io::clock;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::stop::StopToken;
use crate::io::websocket::connect::{ClientSocket, connect, failure, next_message, websocket_config};
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

/// Maximum time for closing all connections.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two calls that show the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Where the members connect.
pub struct RoomLoadTarget {
    /// The URL of each member.
    pub urls: Vec<WebSocketUrl>,
    /// The code of each room of control surfaces.
    pub codes: Vec<String>,
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
    /// The code or id of each room, empty if the URL names it. In the jamjam dialect, it is unknown until the first member has created the room,
    /// and empty if that failed.
    rooms: Vec<watch::Sender<Option<String>>>,
}

/// A run with its connections.
pub struct RoomLoadRun {
    runtime: Runtime,
    shared: Arc<Shared>,
    /// Each member closes its connection when its sender is dropped.
    senders: Vec<mpsc::Sender<u32>>,
    stop: StopToken,
}

impl RoomLoadRun {
    /// Prepares a run of `load` until `stop` is requested.
    pub fn new(load: RoomLoad, target: RoomLoadTarget, stop: &StopToken) -> io::Result<Self> {
        // Few other threads resolve names.
        let runtime = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(8).enable_all().build()?;
        let is_known = load.config.dialect != Dialect::Jamjam;
        let code = |room| is_known.then(|| target.codes.get(room).cloned().unwrap_or_default());
        let rooms = (0..load.config.rooms).map(|room| watch::Sender::new(code(room))).collect();
        let shared = Arc::new(Shared { target, load: Mutex::new(load), rooms });
        Ok(Self { runtime, shared, senders: Vec::new(), stop: stop.clone() })
    }

    /// Runs until all messages are settled, all connections have ended or a stop is requested. Passes the number of joined members and
    /// [`RoomLoad::progress`] to `on_progress` now and then.
    pub fn run(&mut self, mut on_progress: impl FnMut(u64, String)) -> RoomLoad {
        let Self { runtime, shared, senders, stop } = self;
        let outboxes;
        (*senders, outboxes) = (0..shared.target.urls.len()).map(|_| mpsc::channel(MAX_UNSENT)).unzip();
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
        lock(&shared.load).clone()
    }

    /// Closes all connections.
    pub fn close(self) {
        let Self { runtime, shared, senders, .. } = self;
        drop(senders);
        runtime.block_on(async {
            let closed = async {
                while Arc::strong_count(&shared) > 1 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let _ = timeout(CLOSE_TIMEOUT, closed).await;
        });
        runtime.shutdown_timeout(CLOSE_TIMEOUT);
    }
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
    async fn join(&self, member: usize) -> Result<(ClientSocket, Duration), WebSocketFailure> {
        let room = &self.rooms[member % self.rooms.len()];
        if member >= self.rooms.len() {
            let _ = room.subscribe().wait_for(Option::is_some).await;
        }
        let room = room.borrow().clone().unwrap_or_default();
        let RoomLoadTarget { urls, socket_options, tls, timeout: limit, .. } = &self.target;
        let (began, url) = (Instant::now(), &urls[member]);
        let connected = connect(url, tls, socket_options, *limit, &[]).await;
        let connected = connected.map_err(|error| WebSocketFailure::Unreachable(error.to_string()))?;
        let mut socket = connected.into_socket(websocket_config().read_buffer_size(READ_BUFFER_BYTES)).await;
        let mut handshake = JoinHandshake::with_message(lock(&self.load).join_message(member, &room));
        let joining = async {
            if let Some(message) = handshake.first_message.take() {
                socket.send(Message::text(message)).await.map_err(failure)?;
            }
            while !handshake.joined {
                if let Message::Text(text) = next_message(&mut socket).await? {
                    handshake.on_message(&text).map_err(WebSocketFailure::Rejected)?;
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
        mut socket: ClientSocket,
        mut outbox: mpsc::Receiver<u32>,
    ) -> Option<WebSocketFailure> {
        loop {
            // If the server reads too slowly, the connection waits to send, and meanwhile receives nothing.
            tokio::select! {
                biased;
                received = next_message(&mut socket) => match received {
                    Ok(Message::Text(text)) => {
                        let now = clock::monotonic_now();
                        lock(&self.load).on_message(member, &text, now);
                    }
                    Ok(_) => {}
                    Err(failure) => return Some(failure),
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
