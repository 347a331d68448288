//! The hub and the send queues of all connections, behind one lock.
//!
//! Messages are parsed before the lock is taken. While it is held, no data is written to a socket and nothing is awaited: the hub's
//! messages go into queues, and a connection with a full queue is closed.
//!
//! A queued message holds memory of the client that caused it, once for all recipients, until the last one has taken it. A client that
//! exceeds the memory budget by a message is closed after this message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::Notify;
use tracing::warn;

use crate::check::SignalingCheck;
use crate::io::clock;
use crate::io::connection_permit::ConnectionLimits;
use crate::io::signaling::event_stream::{EventListeners, EventStream};
use crate::io::websocket::connection::ConnectionHandler;
use crate::io::websocket::frame::{self, FrameError};
use crate::memory_budget::{MemoryAccount, MemoryPermit};
use crate::send_queue::{DEFAULT_MAX_UPDATES, PendingClose, QueueFull, QueuedFrame, SendQueue};
use crate::signaling::{
    CloseCode, ConnId, ControlSurfaceEvent, Dialect, DialectCounters, EventProducer, EventSink, Hub, HubCall,
    NewConnection, REJECTED_CONNECTION, Snapshot, SnapshotQuery, UpdateKey, WorkLimiter, WorkSource,
};
use crate::time::{Time, WallClock, saturating_nanos};

/// Pause between two batches of timers, in which the lock is free.
const BATCH_PAUSE: Duration = Duration::from_millis(1);

/// The hub and all connections of a server.
pub(in crate::io) struct SharedHub {
    started: Instant,
    state: Mutex<LockedHub>,
    max_updates: usize,
    /// Notified when the hub's next deadline is earlier than before.
    deadline_changed: Notify,
}

struct LockedHub {
    hub: Hub,
    work: WorkLimiter,
    queues: OutboundQueues,
    next_conn: u64,
    is_shutting_down: bool,
}

impl SharedHub {
    /// Superseded updates are dropped from queues with more than `max_updates` messages (`None`: 256).
    pub(in crate::io) fn new(
        hub: Hub,
        max_updates: Option<usize>,
        limits: &ConnectionLimits,
        check: Option<Arc<Mutex<SignalingCheck>>>,
    ) -> Arc<Self> {
        let queues = OutboundQueues {
            queues: HashMap::new(),
            evicted: Vec::new(),
            coalesced: Vec::new(),
            listeners: EventListeners::default(),
            check,
            account: None,
            own_account: limits.memory_budget.account(None),
        };
        let state = LockedHub { hub, work: WorkLimiter::default(), queues, next_conn: 0, is_shutting_down: false };
        Arc::new(Self {
            started: Instant::now(),
            state: Mutex::new(state),
            max_updates: max_updates.unwrap_or(DEFAULT_MAX_UPDATES),
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
        self.locked(|now, state| {
            let conn = ConnId(state.next_conn);
            state.next_conn += 1;
            let work_source = WorkSource::new(connection.source, conn);
            if state.is_shutting_down {
                queue.close(pending_close(CloseCode::GOING_AWAY, ""));
            } else {
                state.queues.queues.insert(conn, Arc::clone(&queue));
                state.queues.report(|check| check.on_connect(conn, &connection));
                state.call_for(now, conn, &memory, |call| call.on_connect(conn, connection));
            }
            let max_message_bytes = state.hub.max_message_bytes(conn);
            ServedConnection { hub, conn, queue, memory, work_source, max_message_bytes }
        })
    }

    /// Runs the hub's timers until the future is dropped. Between two batches of due timers, other tasks use the lock and empty the queues.
    pub(in crate::io) async fn run_timers(&self) {
        loop {
            let next = self.state.lock().unwrap_or_else(PoisonError::into_inner).hub.next_deadline();
            let wait = async {
                match next {
                    Some(at) => tokio::time::sleep_until((self.started + at.duration_since(Time::ZERO)).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {
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
        self.locked(|_, state| {
            state.is_shutting_down = true;
            state.queues.listeners.close_all();
            for (conn, queue) in state.queues.queues.drain() {
                let (code, reason) = state.hub.shutdown_close_frame(conn);
                queue.close(PendingClose { code: Some(code), reason: reason.to_owned(), timeout });
            }
        });
    }

    /// Calls the hub for work that does not belong to a connection.
    pub(in crate::io) fn with_hub<T>(&self, action: impl FnOnce(&mut HubCall<'_>) -> T) -> T {
        self.locked(|now, state| action(&mut state.hub.at(now, &mut state.queues)))
    }

    /// Calls the hub for a request, whose messages are held in `account`.
    pub(in crate::io) fn with_hub_for<T>(
        &self,
        account: &Arc<MemoryAccount>,
        action: impl FnOnce(&mut HubCall<'_>) -> T,
    ) -> T {
        self.locked(|now, state| {
            state.queues.account = Some(Arc::clone(account));
            action(&mut state.hub.at(now, &mut state.queues))
        })
    }

    /// Adds the embedding application as a listener for control surface events.
    pub(in crate::io) fn add_program_listener(&self, events: EventProducer) {
        self.locked(|_, state| state.queues.listeners.add_program(events));
    }

    /// Adds an event stream, unless there are too many or the server is shutting down.
    pub(in crate::io) fn add_event_stream(&self) -> Option<EventStream> {
        self.locked(|_, state| state.queues.listeners.add_stream(!state.is_shutting_down))
    }

    /// Calls `read` with the listeners for control surface events.
    pub(in crate::io) fn with_event_listeners<T>(&self, read: impl FnOnce(&EventListeners) -> T) -> T {
        read(&self.state.lock().unwrap_or_else(PoisonError::into_inner).queues.listeners)
    }

    /// Time since the server was started.
    pub(in crate::io) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counters by dialect name.
    pub(in crate::io) fn counters_by_dialect(&self) -> Vec<(&'static str, DialectCounters)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counters_by_dialect()
    }

    /// A snapshot of rooms and connections with their queued bytes, and the counters by dialect name.
    pub(in crate::io) fn snapshot(&self, query: &SnapshotQuery) -> (Snapshot, Vec<(&'static str, DialectCounters)>) {
        self.locked(|now, state| {
            let mut snapshot = state.hub.snapshot(now, query);
            let members = snapshot.rooms.iter_mut().flat_map(|room| &mut room.members);
            for connection in members.chain(&mut snapshot.unjoined) {
                let queue = state.queues.queues.get(&ConnId(connection.connection));
                connection.queued_bytes = queue.map_or(0, |queue| queue.queued_bytes() as u64);
            }
            (snapshot, state.counters_by_dialect())
        })
    }

    /// Bytes queued for all connections.
    pub(in crate::io) fn queued_bytes(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.queues.queues.values().map(|queue| queue.queued_bytes() as u64).sum()
    }

    /// Runs `action` under the lock, and then handles the connections that it has evicted.
    fn locked<T>(&self, action: impl FnOnce(WallClock, &mut LockedHub) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock is read under the lock, so that the times passed to the hub never decrease.
        let now = clock::wall_clock(Time::from_nanos(saturating_nanos(self.started.elapsed())));
        let previous_deadline = state.hub.next_deadline();
        let result = action(now, &mut state);
        let LockedHub { hub, queues, .. } = &mut *state;
        queues.account = None;
        for (conn, dropped) in queues.coalesced.drain(..) {
            hub.update_counters(conn, |counts| counts.updates_coalesced += dropped as u64);
        }
        let mut evicted = 0_u64;
        // Messages about an eviction may fill further queues.
        while let Some(Eviction { conn, reason, dropped_messages }) = queues.evicted.pop() {
            hub.update_counters(conn, |counts| {
                match reason {
                    EvictionReason::SlowReader => counts.closed_slow_reader += 1,
                    EvictionReason::Memory => counts.closed_for_memory += 1,
                }
                counts.messages_dropped_slow_reader += dropped_messages as u64;
            });
            hub.at(now, queues).on_server_close(conn, CloseCode::TRY_AGAIN_LATER, &reason.to_string());
            evicted += 1;
        }
        let next = hub.next_deadline();
        drop(state);
        if next.is_some_and(|next| previous_deadline.is_none_or(|previous_deadline| next < previous_deadline)) {
            self.deadline_changed.notify_one();
        }
        if evicted > 0 {
            warn!(target: "signaling", connections = evicted, "connections closed because a client reads too slowly or exceeds the memory budget");
        }
        result
    }
}

/// One WebSocket connection, for its task. Calls have no effect after the connection was closed or lost. Dropping the value, even because
/// of a panic, makes the client leave its room.
pub(in crate::io) struct ServedConnection {
    hub: Arc<SharedHub>,
    conn: ConnId,
    queue: Arc<SendQueue>,
    /// What the client holds: its incomplete message, and its messages in the queues of others.
    memory: Arc<MemoryAccount>,
    work_source: WorkSource,
    max_message_bytes: usize,
}

impl ConnectionHandler for ServedConnection {
    fn queue(&self) -> &SendQueue {
        &self.queue
    }

    fn memory(&self) -> &Arc<MemoryAccount> {
        &self.memory
    }

    fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// A message is passed again if its sender has used too much processor time.
    fn on_text(&self, text: &str) -> Result<(), Duration> {
        let Self { conn, memory, .. } = self;
        let begun = self.if_open(|now, state| {
            let work = state.work.begin(now.monotonic, self.work_source, text.len());
            if work.is_err() {
                state.hub.on_waiting_message(*conn);
            }
            (work, state.hub.message_parser(*conn))
        });
        let Some((work, parser)) = begun else { return Ok(()) };
        let work = work?;
        let started = Instant::now();
        let parsed = parser.parse(text);
        let parse_time = started.elapsed();
        self.hub.locked(|now, state| {
            // The time for which this thread waited for the lock is not charged.
            let started = Instant::now();
            if state.queues.queues.contains_key(conn) {
                let requests_room_list = parsed.requests_room_list();
                state.queues.report(|check| check.on_message(clock::monotonic_now(), *conn, requests_room_list));
                state.call_for(now, *conn, memory, |call| call.on_parsed_text(*conn, parsed));
            }
            state.work.end(now.monotonic, work, parse_time + started.elapsed());
        });
        Ok(())
    }

    fn on_binary(&self) {
        self.if_open(|now, state| {
            state.queues.report(|check| check.on_message(clock::monotonic_now(), self.conn, false));
            state.hub.at(now, &mut state.queues).on_binary(self.conn);
        });
    }

    fn on_activity(&self) {
        self.if_open(|now, state| state.hub.on_activity(now, self.conn));
    }

    fn on_close(&self, code: CloseCode, reason: &str) {
        self.if_open(|now, state| {
            state.queues.queues.remove(&self.conn);
            state.hub.at(now, &mut state.queues).on_close(self.conn, code, reason);
        });
    }

    fn on_frame_error(&self, error: FrameError) {
        let (code, reason) = (error.close_code(), error.to_string());
        let closed = self.if_open(|now, state| {
            state.hub.update_counters(self.conn, |counts| {
                *match error {
                    FrameError::Protocol => &mut counts.closed_protocol_error,
                    FrameError::InvalidUtf8 => &mut counts.closed_invalid_utf8,
                    FrameError::MessageTooBig => &mut counts.closed_message_too_big,
                    FrameError::RateLimit => &mut counts.closed_frame_rate,
                    FrameError::Memory => &mut counts.closed_for_memory,
                } += 1;
            });
            if !matches!(error, FrameError::RateLimit | FrameError::Memory) {
                state.queues.wrong_message(self.conn, None, REJECTED_CONNECTION, &reason);
            }
            state.hub.at(now, &mut state.queues).close_connection(self.conn, code, &reason);
        });
        if closed.is_some() {
            warn!(target: "signaling", conn = self.conn.0, code = code.get(), reason, "protocol error or limit exceeded; closing the connection");
        }
    }

    fn on_stalled(&self) {
        self.if_open(|_, state| state.queues.evict(self.conn, EvictionReason::SlowReader, 0));
    }
}

impl ServedConnection {
    /// Runs `action` under the lock, unless the connection was closed.
    fn if_open<T>(&self, action: impl FnOnce(WallClock, &mut LockedHub) -> T) -> Option<T> {
        self.hub.locked(|now, state| state.queues.queues.contains_key(&self.conn).then(|| action(now, state)))
    }
}

impl Drop for ServedConnection {
    fn drop(&mut self) {
        self.if_open(|now, state| {
            state.queues.queues.remove(&self.conn);
            state.hub.at(now, &mut state.queues).on_disconnect(self.conn);
        });
    }
}

impl LockedHub {
    /// Calls the hub for a client, whose messages are held in `memory`. If these exceed the memory budget, the client is then closed.
    fn call_for(
        &mut self,
        now: WallClock,
        conn: ConnId,
        memory: &Arc<MemoryAccount>,
        action: impl FnOnce(&mut HubCall<'_>),
    ) {
        self.queues.account = Some(Arc::clone(memory));
        action(&mut self.hub.at(now, &mut self.queues));
        self.queues.report(|check| check.on_membership(conn, self.hub.membership(conn)));
        if memory.is_over() {
            self.queues.evict(conn, EvictionReason::Memory, 0);
        }
    }

    fn counters_by_dialect(&self) -> Vec<(&'static str, DialectCounters)> {
        let mut counters = self.hub.counters_by_dialect();
        for (conn, queue) in &self.queues.queues {
            let dialect_name = self.hub.dialect_name(*conn);
            if let Some((_, counts)) = counters.iter_mut().find(|(dialect, _)| Some(*dialect) == dialect_name) {
                counts.queued_bytes += queue.queued_bytes() as u64;
            }
        }
        counters
    }
}

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The send queues of all connections.
struct OutboundQueues {
    queues: HashMap<ConnId, Arc<SendQueue>>,
    /// Connections closed during the current call to the hub. After the call has returned, the hub is notified that these connections are
    /// closed.
    evicted: Vec<Eviction>,
    /// Updates dropped during the current call to the hub. Each item contains a connection and the number of updates dropped from its
    /// queue.
    coalesced: Vec<(ConnId, usize)>,
    /// Listeners for control surface events.
    listeners: EventListeners,
    /// The check of `--check`.
    check: Option<Arc<Mutex<SignalingCheck>>>,
    /// The memory of the client that causes the messages of the current call; `None`: no client does.
    account: Option<Arc<MemoryAccount>>,
    own_account: Arc<MemoryAccount>,
}

/// A connection closed because of a full queue or too little memory.
#[derive(Debug, PartialEq, Eq)]
struct Eviction {
    conn: ConnId,
    reason: EvictionReason,
    /// Number of lost messages: discarded queued messages, and the message that did not fit, if any.
    dropped_messages: usize,
}

/// The reason in the close frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
enum EvictionReason {
    #[error("the client reads too slowly")]
    SlowReader,
    #[error("{}", FrameError::Memory)]
    Memory,
}

/// Bytes that a queued message holds in addition to its own: its shared buffers.
const FRAME_OVERHEAD: usize = 128;

/// The allocator's blocks are up to a quarter larger than their contents.
fn block_bytes(bytes: usize) -> usize {
    bytes + bytes / 4
}

/// Bytes that a queued message holds per recipient: the entry of a queue, twice, because the memory of a growing queue is doubled.
const ENTRY_BYTES: usize = 2 * size_of::<Arc<QueuedFrame>>();

impl EventSink for OutboundQueues {
    fn send(&mut self, to: &[ConnId], text: String) {
        self.enqueue(to, text, None);
    }

    fn send_update(&mut self, to: &[ConnId], text: String, key: UpdateKey) {
        self.enqueue(to, text, Some(key));
    }

    fn has_room(&mut self, now: Time, to: &[ConnId]) -> bool {
        // Every queue is checked, so that the waiting times of several clients that do not read run at once.
        let full = to.iter().filter_map(|conn| self.queues.get(conn)).filter(|queue| !queue.has_room(now)).count();
        full == 0 && self.own_account.available() > 0
    }

    fn take_memory(&mut self, bytes: u64) -> Option<MemoryPermit> {
        self.account.as_ref().unwrap_or(&self.own_account).take(bytes).ok()
    }

    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        self.listeners.publish(&event);
    }

    fn wrong_message(&mut self, conn: ConnId, _: Option<Dialect>, rule: &'static str, sentence: &str) {
        self.report(|check| check.on_wrong_message(conn, rule, sentence));
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        if let Some(queue) = self.queues.remove(&conn) {
            queue.close(pending_close(code, reason));
        }
    }

    fn ping(&mut self, conn: ConnId) {
        // If the queue is full, no ping is sent. The connection is a slow reader and will time out.
        if let Some(queue) = self.queues.get(&conn) {
            let _ = queue.push(Arc::new(QueuedFrame { bytes: frame::ping_frame().into(), update_key: None }));
        }
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(queue) = self.queues.remove(&conn) {
            queue.discard_and_close(PendingClose { code: None, reason: String::new(), timeout: Duration::ZERO });
        }
    }
}

impl OutboundQueues {
    /// Passes what a client did to the check, if there is one.
    fn report(&self, pass: impl FnOnce(&mut SignalingCheck)) {
        if let Some(Ok(mut check)) = self.check.as_deref().map(Mutex::lock) {
            pass(&mut check);
        }
    }

    fn enqueue(&mut self, to: &[ConnId], text: String, key: Option<UpdateKey>) {
        let bytes = frame::text_frame(text);
        let account = self.account.as_ref().unwrap_or(&self.own_account);
        let memory = account.hold((block_bytes(bytes.len() + FRAME_OVERHEAD) + to.len() * ENTRY_BYTES) as u64);
        let frame = Arc::new(QueuedFrame { bytes: memory.attach(bytes), update_key: key });
        for conn in to {
            match self.queues.get(conn).map_or(Ok(0), |queue| queue.push(Arc::clone(&frame))) {
                Ok(0) => {}
                Ok(dropped) => self.coalesced.push((*conn, dropped)),
                Err(QueueFull) => self.evict(*conn, EvictionReason::SlowReader, 1),
            }
        }
    }

    /// Closes a connection. The number of dropped messages is the number of queued messages plus `more`.
    fn evict(&mut self, conn: ConnId, reason: EvictionReason, more: usize) {
        if let Some(queue) = self.queues.remove(&conn) {
            let discarded = queue.discard_and_close(pending_close(CloseCode::TRY_AGAIN_LATER, &reason.to_string()));
            self.evicted.push(Eviction { conn, reason, dropped_messages: discarded + more });
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

    #[test]
    fn messages_but_no_lists_of_rooms_and_pings_keep_a_check_from_being_idle() {
        let limits = ConnectionLimits::default();
        let check = Arc::<Mutex<SignalingCheck>>::default();
        let hub = Hub::new(SignalingLimits::default(), [0; 4]);
        let hub = SharedHub::new(hub, None, &limits, Some(Arc::clone(&check)));
        let connection = NewConnection { source: [127, 0, 0, 1].into(), is_forwarded: false, route: Route::Undecided };
        let served = hub.on_connect(connection, &limits.memory_budget.account(None));
        let last = || check.lock().expect("no panic").last_message();
        served.on_text(r#"{"type":"ListRooms"}"#).expect("no limit");
        served.on_activity();
        assert_eq!(last(), None);
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
        let limits = ConnectionLimits::default();
        let hub = SharedHub::new(Hub::new(SignalingLimits::default(), [0; 4]), None, &limits, None);
        let queue = Arc::new(SendQueue::new(256));
        hub.locked(|_, state| {
            state.queues.queues.insert(ConnId(1), Arc::clone(&queue));
            state.queues.send(&[ConnId(1); 99], "x".repeat(996));
        });
        // The header of the frame has 4 bytes (RFC 6455, 5.2), the shared buffers take 128, and their blocks a quarter more.
        assert_eq!(limits.memory_budget.held(), 1_000 + 128 + 282 + 99 * 16);
        assert_eq!((queue.advance(99 * 1_000), limits.memory_budget.held()), (99, 0));
    }
}
