//! The hub of a server, the send queues of its connections, and what belongs to the whole server.
//!
//! The hub's rooms have a lock each. No data is written to a socket and nothing is awaited under them: the hub's messages go into queues. A
//! connection with a full queue is closed at once, and leaves its room after the call.
//!
//! A queued message holds memory of the client that caused it, once for all recipients, until the last one has taken it. A client that
//! exceeds the memory budget by a message is closed after this message.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::check::SignalingCheck;
use crate::io::clock;
use crate::io::signaling::config::SignalingServerConfig;
use crate::io::signaling::event_stream::EventListeners;
use crate::io::websocket::frame::{self, WebSocketError};
use crate::lock::lock;
use crate::memory_budget::{MemoryAccount, MemoryPermit};
use crate::send_queue::{DEFAULT_MAX_UPDATES, PendingClose, QueueFull, QueuedFrame, SendQueue};
use crate::signaling::{
    CloseCode, ConnId, ControlSurfaceEvent, DialectCounters, EventSink, Hub, HubCall, NewConnection, OutgoingMessage,
    REJECTED_CONNECTION, Snapshot, SnapshotQuery, WorkLimiter, WorkSource,
};
use crate::time::{Time, WallClock};

/// Pause between two batches of timers.
const BATCH_PAUSE: Duration = Duration::from_millis(1);

/// The hub and all connections of a server.
pub(in crate::io) struct SharedHub {
    started: Time,
    hub: Hub,
    queues: RwLock<OpenQueues>,
    work: Mutex<WorkLimiter>,
    /// Listeners for control surface events.
    pub(in crate::io) listeners: Mutex<EventListeners>,
    /// The check of `--check`.
    check: Option<Arc<Mutex<SignalingCheck>>>,
    own_account: Arc<MemoryAccount>,
    max_updates: usize,
    /// Connections closed by a call, until the hub has removed them.
    evicted: Mutex<Vec<Eviction>>,
    /// Until when the timer task sleeps, in nanoseconds of [`clock::monotonic_now`].
    sleeping_until: AtomicU64,
    /// Notified when the hub has an earlier deadline.
    deadline_changed: Notify,
}

/// The send queues of the connections that are not closed.
#[derive(Default)]
struct OpenQueues {
    by_number: HashMap<ConnId, Arc<SendQueue>>,
    last_conn: u64,
    is_shutting_down: bool,
}

impl SharedHub {
    pub(in crate::io) fn new(hub: Hub, config: &SignalingServerConfig) -> Arc<Self> {
        Arc::new(Self {
            started: clock::monotonic_now(),
            hub,
            queues: RwLock::default(),
            work: Mutex::default(),
            listeners: Mutex::default(),
            check: config.check.clone(),
            own_account: config.connection_limits.memory_budget.account(None),
            max_updates: config.max_updates.unwrap_or(DEFAULT_MAX_UPDATES),
            evicted: Mutex::default(),
            sleeping_until: AtomicU64::new(0),
            deadline_changed: Notify::new(),
        })
    }

    /// Adds a connection, whose messages are held in `memory`.
    pub(in crate::io) fn on_connect(
        self: &Arc<Self>,
        connection: NewConnection,
        memory: &Arc<MemoryAccount>,
    ) -> ServedConnection {
        let (hub, queue, memory) = (Arc::clone(self), Arc::new(SendQueue::new(self.max_updates)), Arc::clone(memory));
        let (conn, is_shutting_down) = {
            let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
            queues.last_conn += 1;
            let conn = ConnId(queues.last_conn - 1);
            if !queues.is_shutting_down {
                queues.by_number.insert(conn, Arc::clone(&queue));
            }
            (conn, queues.is_shutting_down)
        };
        let work_source = WorkSource::new(connection.source, conn);
        if is_shutting_down {
            queue.close(pending_close(CloseCode::GOING_AWAY, ""));
        } else {
            self.report(|check| check.on_connect(conn, &connection));
            self.call_for(conn, &memory, |call| call.on_connect(conn, connection));
        }
        let max_message_bytes = self.hub.max_message_bytes(conn);
        ServedConnection { hub, conn, queue, memory, work_source, max_message_bytes }
    }

    /// Runs the hub's timers until the future is dropped. Between two batches of due timers, other tasks empty the queues.
    pub(in crate::io) async fn run_timers(&self) {
        loop {
            // A deadline that is set from here on wakes this task.
            self.sleeping_until.store(u64::MAX, Ordering::SeqCst);
            let next = self.hub.next_deadline();
            self.sleeping_until.store(next.map_or(u64::MAX, Time::as_nanos), Ordering::SeqCst);
            let wait = next.map(|at| at.duration_since(clock::monotonic_now()));
            tokio::select! {
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    self.with_hub(|call| {
                        call.on_deadline();
                    });
                    tokio::time::sleep(BATCH_PAUSE).await;
                }
                () = self.deadline_changed.notified() => {}
            }
        }
    }

    /// Closes all connections, including those that arrive later. Open connections get `timeout` for the closing handshake.
    pub(in crate::io) fn close_all(&self, timeout: Duration) {
        let open = {
            let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
            queues.is_shutting_down = true;
            std::mem::take(&mut queues.by_number)
        };
        lock(&self.listeners).close_all();
        for (conn, queue) in open {
            let (code, reason) = self.hub.shutdown_close_frame(conn);
            queue.close(PendingClose { code: Some(code), reason: reason.to_owned(), timeout });
        }
    }

    /// Calls the hub for work that does not belong to a connection.
    pub(in crate::io) fn with_hub<T>(&self, action: impl FnOnce(&mut HubCall<'_>) -> T) -> T {
        self.with_hub_for(&self.own_account, action)
    }

    /// Calls the hub for a request, whose messages are held in `account`.
    pub(in crate::io) fn with_hub_for<T>(
        &self,
        account: &Arc<MemoryAccount>,
        action: impl FnOnce(&mut HubCall<'_>) -> T,
    ) -> T {
        self.with_outbox(account, |outbox, now| action(&mut self.hub.at(now, outbox)))
    }

    /// Runs `action`, and then handles the connections that it has evicted.
    fn with_outbox<T>(&self, account: &Arc<MemoryAccount>, action: impl FnOnce(&mut Outbox<'_>, WallClock) -> T) -> T {
        let now = clock::wall_clock(clock::monotonic_now());
        let mut outbox = Outbox { server: self, account, coalesced: Vec::new() };
        let result = action(&mut outbox, now);
        for (conn, dropped) in outbox.coalesced.drain(..) {
            self.hub.update_counters(conn, |counts| counts.updates_coalesced += dropped as u64);
        }
        let mut evicted = 0_u64;
        // No client pays for the messages about an eviction, which may fill further queues.
        outbox.account = &self.own_account;
        loop {
            let next = lock(&self.evicted).pop();
            let Some(Eviction { conn, reason, dropped_messages }) = next else { break };
            self.hub.update_counters(conn, |counts| {
                *closed_counter(counts, reason) += 1;
                counts.messages_dropped_slow_reader += dropped_messages as u64;
            });
            let (code, reason) = (reason.close_code(), reason.to_string());
            self.hub.at(now, &mut outbox).on_server_close(conn, code, &reason);
            evicted += 1;
        }
        let next = self.hub.next_deadline();
        if next.is_some_and(|next| next.as_nanos() < self.sleeping_until.load(Ordering::SeqCst)) {
            self.deadline_changed.notify_one();
        }
        if evicted > 0 {
            warn!(target: "signaling", connections = evicted, "connections closed because a client reads too slowly or exceeds the memory budget");
        }
        result
    }

    /// Calls the hub for a client, whose messages are held in `memory`. If these exceed the memory budget, the client is then closed.
    fn call_for(&self, conn: ConnId, memory: &Arc<MemoryAccount>, action: impl FnOnce(&mut HubCall<'_>)) {
        self.with_hub_for(memory, action);
        let membership = self.hub.membership(conn);
        self.report(|check| check.on_membership(conn, membership));
        if memory.is_over() {
            self.evict(conn, WebSocketError::Memory);
        }
    }

    /// Closes a connection whose client does not read, or exceeds the memory budget.
    fn evict(&self, conn: ConnId, reason: WebSocketError) {
        self.with_outbox(&self.own_account, |outbox, _| outbox.evict(conn, reason, 0));
    }

    fn queue(&self, conn: ConnId) -> Option<Arc<SendQueue>> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).by_number.get(&conn).cloned()
    }

    /// Removes the queue of a connection, which then counts as closed.
    fn take_queue(&self, conn: ConnId) -> Option<Arc<SendQueue>> {
        self.queues.write().unwrap_or_else(PoisonError::into_inner).by_number.remove(&conn)
    }

    /// The upgrade of a connection was rejected.
    pub(in crate::io) fn on_rejected(&self, connection: &NewConnection, reason: &str) {
        if self.check.is_none() {
            return;
        }
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        let conn = ConnId(queues.last_conn);
        queues.last_conn += 1;
        self.report(|check| {
            check.on_connect(conn, connection);
            check.on_wrong_message(conn, REJECTED_CONNECTION, reason);
        });
    }

    /// Passes what a client did to the check, if there is one.
    fn report(&self, pass: impl FnOnce(&mut SignalingCheck)) {
        if let Some(Ok(mut check)) = self.check.as_deref().map(Mutex::lock) {
            pass(&mut check);
        }
    }

    /// Time since the server was started.
    pub(in crate::io) fn uptime(&self) -> Duration {
        clock::monotonic_now().duration_since(self.started)
    }

    /// Counters by dialect name.
    pub(in crate::io) fn counters_by_dialect(&self) -> Vec<(&'static str, DialectCounters)> {
        self.hub.counters_by_dialect(|conn| self.queued_bytes(conn))
    }

    /// A snapshot of rooms and connections with their queued bytes, and the counters by dialect name.
    pub(in crate::io) fn snapshot(&self, query: &SnapshotQuery) -> (Snapshot, Vec<(&'static str, DialectCounters)>) {
        let mut snapshot = self.with_hub(|call| call.hub.snapshot(call.now, query));
        let members = snapshot.rooms.iter_mut().flat_map(|room| &mut room.members);
        for connection in members.chain(&mut snapshot.unjoined) {
            connection.queued_bytes = self.queued_bytes(ConnId(connection.connection));
        }
        (snapshot, self.counters_by_dialect())
    }

    /// Bytes queued for a connection, unless it is closing.
    fn queued_bytes(&self, conn: ConnId) -> u64 {
        self.queue(conn).map_or(0, |queue| queue.queued_bytes() as u64)
    }
}

/// One WebSocket connection, for its task. Calls have no effect after the connection was closed or lost. Dropping the value, even because
/// of a panic, makes the client leave its room.
pub(in crate::io) struct ServedConnection {
    hub: Arc<SharedHub>,
    conn: ConnId,
    /// The frames to write.
    pub(in crate::io) queue: Arc<SendQueue>,
    /// What the client holds: its incomplete message, and its messages in the queues of others.
    pub(in crate::io) memory: Arc<MemoryAccount>,
    work_source: WorkSource,
    pub(in crate::io) max_message_bytes: usize,
}

impl ServedConnection {
    /// Whether the server has not closed the connection.
    fn is_open(&self) -> bool {
        !self.queue.is_closing()
    }

    /// Handles a whole text message. `Err`: its sender has used too much processor time. Until it is passed again after this time, nothing
    /// is to be read.
    pub(in crate::io) fn on_text(&self, text: &str) -> Result<(), Duration> {
        let Self { hub, conn, memory, .. } = self;
        if !self.is_open() {
            return Ok(());
        }
        let work_limiter = || lock(&hub.work);
        let begun = work_limiter().begin(clock::monotonic_now(), self.work_source, text.len());
        let work = begun.inspect_err(|_| hub.hub.on_waiting_message(*conn))?;
        let used = if work.is_exact { clock::thread_time } else { clock::monotonic_now };
        let started = used();
        hub.call_for(*conn, memory, |call| call.on_text(*conn, text));
        let requests_room_list = hub.check.is_some() && hub.hub.is_room_list_request(*conn, text);
        hub.report(|check| check.on_message(clock::monotonic_now(), *conn, requests_room_list));
        work_limiter().end(clock::monotonic_now(), work, used().duration_since(started));
        Ok(())
    }

    /// Handles a whole binary message.
    pub(in crate::io) fn on_binary(&self) {
        if self.is_open() {
            self.hub.report(|check| check.on_message(clock::monotonic_now(), self.conn, false));
            self.hub.with_hub(|call| call.on_binary(self.conn));
        }
    }

    /// Handles a ping, a pong or a fragment.
    pub(in crate::io) fn on_activity(&self) {
        if self.is_open() {
            self.hub.hub.on_activity(clock::wall_clock(clock::monotonic_now()), self.conn);
        }
    }

    /// Handles the client's close frame.
    pub(in crate::io) fn on_close(&self, code: CloseCode, reason: &str) {
        if self.hub.take_queue(self.conn).is_some() {
            self.hub.with_hub(|call| call.on_close(self.conn, code, reason));
        }
    }

    /// A frame violates the protocol or a limit. The connection reads nothing more.
    pub(in crate::io) fn on_frame_error(&self, error: WebSocketError) {
        if !self.is_open() {
            return;
        }
        let (code, reason) = (error.close_code(), error.to_string());
        self.hub.hub.update_counters(self.conn, |counts| *closed_counter(counts, error) += 1);
        if !matches!(error, WebSocketError::RateLimit | WebSocketError::Memory | WebSocketError::SlowReader) {
            self.hub.report(|check| check.on_wrong_message(self.conn, REJECTED_CONNECTION, &reason));
        }
        self.hub.with_hub(|call| call.close_connection(self.conn, code, &reason));
        warn!(target: "signaling", conn = self.conn.0, code = code.get(), reason, "protocol error or limit exceeded; closing the connection");
    }

    /// The client does not read: the connection ends without a close frame.
    pub(in crate::io) fn on_stalled(&self) {
        self.hub.evict(self.conn, WebSocketError::SlowReader);
    }
}

impl Drop for ServedConnection {
    fn drop(&mut self) {
        if self.hub.take_queue(self.conn).is_some() {
            self.hub.with_hub(|call| call.on_disconnect(self.conn));
        }
    }
}

/// The counter of connections that are closed for this reason.
fn closed_counter(counts: &mut DialectCounters, reason: WebSocketError) -> &mut u64 {
    match reason {
        WebSocketError::Protocol => &mut counts.closed_protocol_error,
        WebSocketError::InvalidUtf8 => &mut counts.closed_invalid_utf8,
        WebSocketError::MessageTooBig => &mut counts.closed_message_too_big,
        WebSocketError::RateLimit => &mut counts.closed_frame_rate,
        WebSocketError::Memory => &mut counts.closed_for_memory,
        WebSocketError::SlowReader => &mut counts.closed_slow_reader,
    }
}

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a call of the hub sends and closes.
struct Outbox<'a> {
    server: &'a SharedHub,
    /// The memory of the client that causes the messages.
    account: &'a Arc<MemoryAccount>,
    /// Updates dropped during the call: a connection, and the number of updates dropped from its queue.
    coalesced: Vec<(ConnId, usize)>,
}

/// A connection closed because of a full queue or too little memory.
#[derive(Debug, PartialEq, Eq)]
struct Eviction {
    conn: ConnId,
    reason: WebSocketError,
    /// Number of lost messages: discarded queued messages, and the message that did not fit, if any.
    dropped_messages: usize,
}

/// Bytes that a queued message holds in addition to its own: its shared buffers.
const FRAME_OVERHEAD: usize = 128;

/// The allocator's blocks are up to a quarter larger than their contents.
fn block_bytes(bytes: usize) -> usize {
    bytes + bytes / 4
}

/// Bytes that a queued message holds per recipient: the entry of a queue, twice, because the memory of a growing queue is doubled.
const ENTRY_BYTES: usize = 2 * size_of::<Arc<QueuedFrame>>();

impl EventSink for Outbox<'_> {
    fn send(&mut self, to: &[ConnId], OutgoingMessage { text, update_key, room }: OutgoingMessage) {
        let bytes = frame::text_frame(text);
        let memory = self.account.hold((block_bytes(bytes.len() + FRAME_OVERHEAD) + to.len() * ENTRY_BYTES) as u64);
        let frame = Arc::new(QueuedFrame { bytes: memory.attach(bytes), update_key, room });
        let mut full = Vec::new();
        {
            let queues = self.server.queues.read().unwrap_or_else(PoisonError::into_inner);
            for conn in to {
                match queues.by_number.get(conn).map_or(Ok(0), |queue| queue.push(Arc::clone(&frame))) {
                    Ok(0) => {}
                    Ok(dropped) => self.coalesced.push((*conn, dropped)),
                    Err(QueueFull) => full.push(*conn),
                }
            }
        }
        for conn in full {
            self.evict(conn, WebSocketError::SlowReader, 1);
        }
    }

    fn enter(&mut self, conn: ConnId, room: NonZeroU64) {
        if let Some(queue) = self.server.queue(conn) {
            queue.enter(room);
        }
    }

    fn has_space(&mut self, now: Time, to: &[ConnId]) -> bool {
        // Every queue is checked, so that the waiting times of several clients that do not read run at once.
        let queues = to.iter().filter_map(|conn| self.server.queue(*conn));
        queues.filter(|queue| !queue.has_space(now)).count() == 0 && self.server.own_account.available() > 0
    }

    fn take_memory(&mut self, bytes: u64) -> Option<MemoryPermit> {
        self.account.take_to_keep(bytes).ok()
    }

    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        lock(&self.server.listeners).publish(&event);
    }

    fn wrong_message(&mut self, conn: ConnId, rule: &'static str, sentence: &str) {
        self.server.report(|check| check.on_wrong_message(conn, rule, sentence));
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        if let Some(queue) = self.server.take_queue(conn) {
            queue.close(pending_close(code, reason));
        }
    }

    fn ping(&mut self, conn: ConnId) {
        // If the queue is full, no ping is sent. The connection is a slow reader and will time out.
        if let Some(queue) = self.server.queue(conn) {
            let _ =
                queue.push(Arc::new(QueuedFrame { bytes: frame::ping_frame().into(), update_key: None, room: None }));
        }
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(queue) = self.server.take_queue(conn) {
            queue.discard_and_close(PendingClose { code: None, reason: String::new(), timeout: Duration::ZERO });
        }
    }
}

impl Outbox<'_> {
    /// Closes a connection. The number of dropped messages is the number of queued messages plus `more`.
    fn evict(&mut self, conn: ConnId, reason: WebSocketError, more: usize) {
        if let Some(queue) = self.server.take_queue(conn) {
            let discarded = queue.discard_and_close(pending_close(reason.close_code(), &reason.to_string()));
            lock(&self.server.evicted).push(Eviction { conn, reason, dropped_messages: discarded + more });
        }
    }
}

/// A pending close that sends a close frame with `code` and `reason`.
pub(in crate::io) fn pending_close(code: CloseCode, reason: &str) -> PendingClose {
    PendingClose { code: Some(code), reason: reason.to_owned(), timeout: CLOSE_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signaling::{Route, SignalingLimits};

    /// A new connection.
    fn connect(hub: &Arc<SharedHub>, config: &SignalingServerConfig) -> ServedConnection {
        let connection = NewConnection {
            source: [127, 0, 0, 1].into(),
            local_ip: [127, 0, 0, 1].into(),
            is_forwarded: false,
            route: Route::Undecided,
        };
        hub.on_connect(connection, &config.connection_limits.memory_budget.account(None))
    }

    #[test]
    fn messages_but_no_lists_of_rooms_and_pings_keep_a_check_from_being_idle() {
        let check = Arc::<Mutex<SignalingCheck>>::default();
        let config = SignalingServerConfig { check: Some(Arc::clone(&check)), ..SignalingServerConfig::default() };
        let hub = Hub::new(SignalingLimits { message_rate: Some(2), ..SignalingLimits::default() }, [0; 4]);
        let hub = SharedHub::new(hub, &config);
        let last = || check.lock().expect("no panic").last_message;
        // The last list exceeds the message rate, which closes the connection.
        let closed = connect(&hub, &config);
        (0..5).for_each(|_| closed.on_text(r#"{"type":"ListRooms"}"#).expect("no limit"));
        closed.on_activity();
        assert_eq!((last(), closed.is_open()), (None, false));
        let served = connect(&hub, &config);
        served.on_binary();
        let mut before = last();
        assert!(before.is_some());
        for text in ["{}", r#"{"type":"ListRooms"}"#] {
            served.on_text(text).expect("no limit");
            assert!(last() > before, "{text}");
            before = last();
        }
    }

    #[test]
    fn message_counts_once_plus_16_bytes_per_recipient_until_it_is_taken() {
        let config = SignalingServerConfig::default();
        let hub = SharedHub::new(Hub::new(SignalingLimits::default(), [0; 4]), &config);
        let memory_budget = &config.connection_limits.memory_budget;
        let served = connect(&hub, &config);
        let message = OutgoingMessage { text: "x".repeat(996), update_key: None, room: None };
        hub.with_outbox(&hub.own_account, |outbox, _| outbox.send(&[served.conn; 99], message));
        // The header of the frame has 4 bytes (RFC 6455, 5.2), the shared buffers take 128, and their blocks a quarter more.
        assert_eq!(memory_budget.held(), 1_000 + 128 + 282 + 99 * 16);
        assert_eq!((served.queue.advance(99 * 1_000), memory_budget.held()), (99, 0));
    }
}
