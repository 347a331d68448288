//! The hub and the send queues of all connections, behind one lock.
//!
//! While the lock is held, no data is written to a socket and nothing is awaited. The hub's messages go into queues. A connection with a
//! full queue is closed. Messages are parsed before the lock is taken.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::{Notify, mpsc};
use tracing::warn;

use crate::io::clock;
use crate::io::signaling::event_stream::{EventListenerCounters, EventListeners, EventStreamQueue};
use crate::io::websocket::connection::{MessageHandler, ServedConnection};
use crate::io::websocket::frame::{self, FrameError};
use crate::io::websocket::send_queue::{Discarded, PendingClose, QueueBudget, QueueFull, SendQueue, SendQueueLimits};
use crate::memory_budget::{BudgetExceeded, ConnectionMemory, MemoryBudget};
use crate::signaling::{
    CloseCode, ConnId, ControlSurfaceEvent, DialectCounters, EventProducer, EventSink, Hub, NewConnection, Snapshot,
    SnapshotQuery, UpdateKey, WorkLimiter, WorkSource,
};
use crate::time::{Time, WallClock, saturating_nanos};

/// Pause between two batches of timers, in which the lock is free.
const BATCH_PAUSE: Duration = Duration::from_millis(1);

/// The hub and all connections of a server.
pub(in crate::io) struct SharedHub {
    started: Instant,
    state: Mutex<LockedHub>,
    queue_budget: Arc<QueueBudget>,
    memory_budget: Arc<MemoryBudget>,
    /// Notified when a client has reached its share of the memory budget.
    memory_pressure: Arc<Notify>,
    /// Notified when the hub's next deadline is earlier than before.
    deadline_changed: Notify,
}

struct LockedHub {
    hub: Hub,
    work: WorkLimiter,
    queues: OutboundQueues,
    next_conn: u64,
    /// Cloned for every connection; `None` after shutdown has started.
    shutdown_guard: Option<mpsc::Sender<Infallible>>,
}

impl SharedHub {
    /// Returns the shared hub, and a channel that closes when all connections have ended after [`SharedHub::close_all`].
    pub(in crate::io) fn new(hub: Hub, limits: SendQueueLimits) -> (Arc<Self>, mpsc::Receiver<Infallible>) {
        let (shutdown_guard, all_closed) = mpsc::channel(1);
        let memory_budget = Arc::clone(&hub.limits().memory_budget);
        let memory_pressure = Arc::new(Notify::new());
        let notified = Arc::clone(&memory_pressure);
        memory_budget.on_pressure(move || notified.notify_one());
        let queues = OutboundQueues { memory_budget: Arc::clone(&memory_budget), ..OutboundQueues::default() };
        let state =
            LockedHub { hub, work: WorkLimiter::default(), queues, next_conn: 0, shutdown_guard: Some(shutdown_guard) };
        let state = Mutex::new(state);
        (
            Arc::new(Self {
                started: Instant::now(),
                state,
                queue_budget: QueueBudget::new(limits),
                memory_budget,
                memory_pressure,
                deadline_changed: Notify::new(),
            }),
            all_closed,
        )
    }

    /// Charges a new connection to `source`, unless the memory budget refuses it. `url_bytes` is the length of its URL, whose parameters may
    /// be kept.
    pub(in crate::io) fn charge_connection(
        &self,
        source: IpAddr,
        url_bytes: usize,
    ) -> Result<ConnectionMemory, BudgetExceeded> {
        ConnectionMemory::open(&self.memory_budget, source, STATE_BYTES + 2 * url_bytes as u64)
    }

    /// Adds a connection, whose memory was charged before.
    pub(in crate::io) fn on_connect(&self, connection: NewConnection, memory: ConnectionMemory) -> ServedConnection {
        let queue = Arc::new(SendQueue::new(Arc::clone(&self.queue_budget), memory));
        self.with_state(None, |now, state| {
            let conn = ConnId(state.next_conn);
            state.next_conn += 1;
            if state.shutdown_guard.is_some() {
                state.queues.queues.insert(conn, Arc::clone(&queue));
                state.hub.on_connect(now, conn, connection, &mut state.queues);
            } else {
                queue.close(pending_close(CloseCode::GOING_AWAY, ""));
            }
            let max_message_bytes = state.hub.max_message_bytes(conn);
            ServedConnection { conn, queue, max_message_bytes, _shutdown_guard: state.shutdown_guard.clone() }
        })
        .unwrap_or_else(|| unreachable!("`with_state` always returns a value if `required` is `None`"))
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
                    self.with_hub(|now, hub, sink| hub.on_deadline(now, sink));
                    tokio::time::sleep(BATCH_PAUSE).await;
                }
                () = self.memory_pressure.notified() => self.enforce_budget(),
                () = self.deadline_changed.notified() => {}
            }
        }
    }

    /// Closes a connection because of an error, if it is still open.
    fn close_connection(
        &self,
        served: &ServedConnection,
        code: CloseCode,
        reason: &str,
        count: impl FnOnce(&mut DialectCounters),
    ) {
        let closed = self.with_state(Some(served.conn), |now, state| {
            state.hub.update_counters(served.conn, count);
            state.queues.queues.remove(&served.conn);
            state.hub.on_server_close(now, served.conn, code.get(), reason, &mut state.queues);
            served.queue.close(pending_close(code, reason));
        });
        if closed.is_some() {
            warn!(target: "signaling", conn = served.conn.0, code = code.get(), reason, "protocol error or limit exceeded; closing the connection");
        }
    }

    /// Closes all connections, including those that arrive later. Open connections get `timeout` for the closing handshake.
    pub(in crate::io) fn close_all(&self, timeout: Duration) {
        self.with_state(None, |_, state| {
            state.shutdown_guard = None;
            state.queues.listeners.close_all();
            for (conn, queue) in state.queues.queues.drain() {
                let (code, reason) = state.hub.shutdown_close_frame(conn);
                queue.close(PendingClose { code: Some(CloseCode(code)), reason: reason.to_owned(), timeout });
            }
        });
    }

    /// Calls the hub for work that does not belong to a connection.
    pub(in crate::io) fn with_hub<T>(&self, action: impl FnOnce(WallClock, &mut Hub, &mut dyn EventSink) -> T) -> T {
        self.with_state(None, |now, state| action(now, &mut state.hub, &mut state.queues))
            .unwrap_or_else(|| unreachable!("`with_state` always returns a value if `required` is `None`"))
    }

    /// Shutdown waits until the guard is dropped, as it does for connections. `None` after shutdown has started.
    pub(in crate::io) fn shutdown_guard(&self) -> Option<mpsc::Sender<Infallible>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).shutdown_guard.clone()
    }

    /// Adds the embedding application as a listener for control surface events.
    pub(in crate::io) fn add_program_listener(&self, events: EventProducer) {
        self.with_state(None, |_, state| state.queues.listeners.add_program(events));
    }

    /// Adds an event stream, unless there are too many or the server is shutting down.
    pub(in crate::io) fn add_event_stream(&self) -> Option<Arc<EventStreamQueue>> {
        self.with_state(None, |_, state| state.queues.listeners.add_stream(state.shutdown_guard.is_some()))?
    }

    pub(in crate::io) fn event_listener_counters(&self) -> EventListenerCounters {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).queues.listeners.counters()
    }

    /// Time since the server was started.
    pub(in crate::io) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counters by dialect name.
    pub(in crate::io) fn counters_by_dialect(&self) -> Vec<(&'static str, DialectCounters)> {
        let LockedHub { hub, queues, .. } = &*self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counters = hub.counters_by_dialect();
        for (conn, queue) in &queues.queues {
            let dialect_name = hub.dialect_name(*conn);
            if let Some((_, counts)) = counters.iter_mut().find(|(dialect, _)| Some(*dialect) == dialect_name) {
                counts.queued_bytes += queue.queued_bytes() as u64;
            }
        }
        counters
    }

    pub(in crate::io) fn memory_budget(&self) -> Arc<MemoryBudget> {
        Arc::clone(&self.memory_budget)
    }

    /// Bytes queued for all connections, including those that are closing.
    pub(in crate::io) fn queued_bytes(&self) -> u64 {
        self.queue_budget.used_bytes()
    }

    /// Runs `action` under the lock. If `required` names a connection that no longer exists, returns `None` and does not call `action`.
    fn with_state<T>(
        &self,
        required: Option<ConnId>,
        action: impl FnOnce(WallClock, &mut LockedHub) -> T,
    ) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if required.is_some_and(|conn| !state.queues.queues.contains_key(&conn)) {
            return None;
        }
        // The clock is read under the lock, so that the times passed to the hub never decrease.
        let now = clock::wall_clock(Time::from_nanos(saturating_nanos(self.started.elapsed())));
        let previous_deadline = state.hub.next_deadline();
        let result = action(now, &mut state);
        let LockedHub { hub, queues, .. } = &mut *state;
        for (conn, dropped) in queues.coalesced.drain(..) {
            hub.update_counters(conn, |counts| counts.updates_coalesced += dropped as u64);
        }
        let mut evicted = 0_u64;
        // Messages about an eviction may fill further queues.
        while let Some(Eviction { conn, code, dropped_messages, is_over_budget }) = queues.evicted.pop() {
            hub.update_counters(conn, |counts| {
                counts.closed_slow_reader += 1;
                counts.messages_dropped_slow_reader += dropped_messages as u64;
                counts.queue_budget_evictions += u64::from(is_over_budget);
            });
            hub.on_server_close(now, conn, code.get(), close_reason(is_over_budget), queues);
            evicted += 1;
        }
        let next = hub.next_deadline();
        drop(state);
        if next.is_some_and(|next| previous_deadline.is_none_or(|previous_deadline| next < previous_deadline)) {
            self.deadline_changed.notify_one();
        }
        if evicted > 0 {
            warn!(target: "signaling", connections = evicted, "connections closed because a send queue was full or the budget for all queues was used up");
        }
        Some(result)
    }
}

impl MessageHandler for SharedHub {
    fn on_text(&self, conn: ConnId, text: &str) -> Option<Duration> {
        let parser = self.with_state(Some(conn), |_, state| state.hub.message_parser(conn))?;
        let started = Instant::now();
        let parsed = parser.parse(text);
        let parse_time = started.elapsed();
        self.with_state(Some(conn), |now, state| {
            let source = state.queues.queues.get(&conn).map(|queue| WorkSource::new(queue.source(), conn))?;
            // The time for which this thread waited for the lock is not charged.
            let started = Instant::now();
            state.hub.on_parsed_text(now, conn, parsed, &mut state.queues);
            state.work.charge(now.monotonic, source, parse_time + started.elapsed())
        })?
    }

    fn on_binary(&self, conn: ConnId) {
        self.with_state(Some(conn), |now, state| state.hub.on_binary(now, conn, &mut state.queues));
    }

    fn on_activity(&self, conn: ConnId) {
        self.with_state(Some(conn), |now, state| state.hub.on_activity(now, conn));
    }

    fn on_close(&self, conn: ConnId, code: CloseCode, reason: &str) {
        self.with_state(Some(conn), |now, state| {
            state.queues.queues.remove(&conn);
            state.hub.on_close(now, conn, code.get(), reason, &mut state.queues);
        });
    }

    fn on_frame_error(&self, served: &ServedConnection, error: FrameError) {
        self.close_connection(served, error.close_code(), &error.to_string(), |counts| match error {
            FrameError::Protocol => counts.closed_protocol_error += 1,
            FrameError::InvalidUtf8 => counts.closed_invalid_utf8 += 1,
            FrameError::MessageTooBig => counts.closed_message_too_big += 1,
        });
    }

    fn on_frame_rate_exceeded(&self, served: &ServedConnection) {
        self.close_connection(served, CloseCode::POLICY_VIOLATION, "Rate limit exceeded", |counts| {
            counts.closed_frame_rate += 1;
        });
    }

    fn enforce_budget(&self) {
        self.with_state(None, |_, state| {
            state.queues.enforce_budget(&self.queue_budget);
            while let Some(source) = self.memory_budget.source_to_cut() {
                let Some(largest) = state.queues.largest_queue_of(source) else { return };
                state.queues.evict_for_memory(largest, 0);
            }
        });
    }

    fn on_memory_refused(&self, conn: ConnId) -> bool {
        self.with_state(Some(conn), |_, state| state.queues.evict_for_memory_of(conn, 0)).is_some()
    }

    fn on_disconnect(&self, conn: ConnId) {
        self.with_state(Some(conn), |now, state| {
            state.queues.queues.remove(&conn);
            state.hub.on_disconnect(now, conn, &mut state.queues);
        });
    }
}

impl SharedHub {
    /// A snapshot of rooms and connections with their queued bytes, and the counters by dialect name.
    pub(in crate::io) fn snapshot(&self, query: &SnapshotQuery) -> (Snapshot, Vec<(&'static str, DialectCounters)>) {
        let mut snapshot = self.with_hub(|now, hub, _| hub.snapshot(now, query));
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let members = snapshot.rooms.iter_mut().flat_map(|room| &mut room.members);
            for connection in members.chain(&mut snapshot.unjoined) {
                let queue = state.queues.queues.get(&crate::signaling::ConnId(connection.connection));
                connection.queued_bytes = queue.map_or(0, |queue| queue.queued_bytes() as u64);
            }
        }
        (snapshot, self.counters_by_dialect())
    }
}

/// Memory of a WebSocket connection without its queue, in bytes: its state in the hub and in its room.
const STATE_BYTES: u64 = 4 << 10;

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Close reason of a connection whose queue is full, or which was chosen because a budget is exceeded.
fn close_reason(is_over_budget: bool) -> &'static str {
    if is_over_budget {
        "the server has too little memory for the data of this client"
    } else {
        "the client reads too slowly"
    }
}

/// The send queues of all connections.
#[derive(Default)]
struct OutboundQueues {
    pub(in crate::io) queues: HashMap<ConnId, Arc<SendQueue>>,
    /// Connections closed during the current call to the hub. After the call has returned, the hub is notified that these connections are
    /// closed.
    evicted: Vec<Eviction>,
    /// Updates dropped during the current call to the hub. Each item contains a connection and the number of updates dropped from its
    /// queue.
    pub(in crate::io) coalesced: Vec<(ConnId, usize)>,
    /// Listeners for control surface events.
    pub(in crate::io) listeners: EventListeners,
    memory_budget: Arc<MemoryBudget>,
}

/// A connection closed because of a full queue or an exceeded budget.
#[derive(Debug, PartialEq, Eq)]
struct Eviction {
    pub(in crate::io) conn: ConnId,
    /// 1013, or 1006 if the connection ends without a close frame.
    code: CloseCode,
    /// Number of lost messages: discarded queued messages, and the message that did not fit, if any.
    dropped_messages: usize,
    /// Whether the budget of all connections was exceeded.
    is_over_budget: bool,
}

impl EventSink for OutboundQueues {
    fn send(&mut self, to: &[ConnId], text: String) {
        self.enqueue(to, &text, |queue, frame| queue.push(frame).map(|()| 0));
    }

    fn send_update(&mut self, to: &[ConnId], text: String, key: UpdateKey) {
        self.enqueue(to, &text, |queue, frame| queue.push_update(frame, key));
    }

    fn has_room(&mut self, now: Time, to: &[ConnId]) -> bool {
        // All queues are checked, so that the times of several clients that do not read run together.
        to.iter().filter_map(|conn| self.queues.get(conn)).fold(true, |all, queue| queue.has_room(now) && all)
    }

    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        self.listeners.publish(&event);
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        if let Some(queue) = self.queues.remove(&conn) {
            queue.close(pending_close(CloseCode(code), reason));
        }
    }

    fn ping(&mut self, conn: ConnId) {
        // If the queue is full, no ping is sent. The connection is a slow reader and will time out.
        if let Some(queue) = self.queues.get(&conn) {
            let _ = queue.push(frame::ping_frame(None));
        }
    }

    fn abort(&mut self, conn: ConnId) {
        if let Some(queue) = self.queues.remove(&conn) {
            queue.close_discarding(PendingClose { code: None, reason: String::new(), timeout: Duration::ZERO });
        }
    }
}

impl OutboundQueues {
    /// Queues a message with `push`, which returns the number of updates that it dropped.
    fn enqueue(&mut self, to: &[ConnId], text: &str, push: impl Fn(&SendQueue, Bytes) -> Result<usize, QueueFull>) {
        let frame = frame::text_frame(text, None);
        for conn in to {
            while let Some(queue) = self.queues.get(conn) {
                match push(queue, frame.clone()) {
                    Ok(0) => break,
                    Ok(dropped) => {
                        self.coalesced.push((*conn, dropped));
                        break;
                    }
                    Err(QueueFull::Connection) => self.evict(*conn, 1, false),
                    Err(QueueFull::Budget) => {
                        let largest = self.largest_queue().unwrap_or(*conn);
                        self.evict(largest, usize::from(largest == *conn), true);
                    }
                    Err(QueueFull::Memory) => self.evict_for_memory_of(*conn, 1),
                }
            }
        }
    }

    /// The connection that uses the most bytes of the budget. The number of bytes includes queued bytes and the bytes of an incomplete
    /// received message. Called only when the budget is exceeded.
    fn largest_queue(&self) -> Option<ConnId> {
        let charged = self.queues.iter().map(|(conn, queue)| (queue.charged_bytes(), *conn));
        charged.max().filter(|(bytes, _)| *bytes > 0).map(|(_, conn)| conn)
    }

    /// The connection from `source` that holds most memory.
    fn largest_queue_of(&self, source: IpAddr) -> Option<ConnId> {
        let of_source = self.queues.iter().filter(|(_, queue)| queue.source() == source);
        of_source.map(|(conn, queue)| (queue.charged_bytes(), *conn)).max().map(|(_, conn)| conn)
    }

    /// Closes the connections with the most charged bytes until the budget is met.
    pub(in crate::io) fn enforce_budget(&mut self, all: &QueueBudget) {
        while all.is_exceeded() {
            let Some(largest) = self.largest_queue() else { return };
            self.evict(largest, 0, true);
        }
    }

    /// Closes a connection because the memory budget refuses data of `conn`. `refused` is the number of refused messages to `conn`, which are
    /// lost if `conn` itself is closed.
    fn evict_for_memory_of(&mut self, conn: ConnId, refused: usize) {
        let own = self.queues.get(&conn).map(|queue| queue.source());
        // The first address may be that of a client of another server in this process.
        let mut sources = self.memory_budget.source_to_cut().into_iter().chain(own);
        let largest = sources.find_map(|source| self.largest_queue_of(source)).unwrap_or(conn);
        self.evict_for_memory(largest, if largest == conn { refused } else { 0 });
    }

    /// Like [`OutboundQueues::evict`], because of the memory budget.
    fn evict_for_memory(&mut self, conn: ConnId, more: usize) {
        self.memory_budget.count_closed_connection();
        self.evict(conn, more, true);
    }

    /// Closes a connection that does not read, or does not complete its messages. The number of dropped messages is the number
    /// of queued messages plus `more`.
    fn evict(&mut self, conn: ConnId, more: usize, is_over_budget: bool) {
        if let Some(queue) = self.queues.remove(&conn) {
            let reason = close_reason(is_over_budget);
            let Discarded { frames, has_close_frame } =
                queue.close_discarding(pending_close(CloseCode::TRY_AGAIN_LATER, reason));
            let code = if has_close_frame { CloseCode::TRY_AGAIN_LATER } else { CloseCode::ABNORMAL_CLOSURE };
            self.evicted.push(Eviction { conn, code, dropped_messages: frames + more, is_over_budget });
        }
    }
}

/// A pending close that sends a close frame with `code` and `reason`.
pub(in crate::io) fn pending_close(code: CloseCode, reason: &str) -> PendingClose {
    PendingClose { code: Some(code), reason: reason.to_owned(), timeout: CLOSE_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use crate::io::websocket::send_queue::{SendQueueLimits, new_queue};

    use super::*;

    #[test]
    fn budget_overrun_evicts_the_largest_queue_not_the_recipient() {
        let budget =
            QueueBudget::new(SendQueueLimits { max_messages: 9, max_bytes: 99, budget_bytes: 30, max_updates: 9 });
        let mut queues = OutboundQueues::default();
        for conn in [ConnId(1), ConnId(2)] {
            queues.queues.insert(conn, Arc::new(new_queue(&budget)));
        }
        // Frames of ten bytes each.
        for conn in [1, 1, 2, 2] {
            queues.send(&[ConnId(conn)], "12345678".to_owned());
        }
        assert_eq!(
            queues.evicted,
            [Eviction { conn: ConnId(1), code: CloseCode::TRY_AGAIN_LATER, dropped_messages: 2, is_over_budget: true }]
        );
        assert!(queues.queues.contains_key(&ConnId(2)));
        assert_eq!(budget.used_bytes(), 20);
    }

    /// Three connections of one address hold more than one of another address. Messages to a third address do not fit.
    #[test]
    fn memory_budget_evicts_from_the_address_that_holds_most() {
        let memory_budget = MemoryBudget::new(Some(1_380));
        let limits = SendQueueLimits { max_messages: 99, max_bytes: 999, budget_bytes: 999, max_updates: 99 };
        let budget = QueueBudget::new(limits);
        let mut queues = OutboundQueues { memory_budget: Arc::clone(&memory_budget), ..OutboundQueues::default() };
        for (conn, host) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3)] {
            let memory = ConnectionMemory::open(&memory_budget, IpAddr::from([192, 0, 2, host]), 0).expect("0 bytes");
            queues.queues.insert(ConnId(conn), Arc::new(SendQueue::new(Arc::clone(&budget), memory)));
        }
        // Frames of ten bytes, each charged 138 bytes: four for address 1, and three for address 2, which has the largest queue.
        for conn in [1, 2, 2, 3, 4, 4, 4] {
            queues.send(&[ConnId(conn)], "12345678".to_owned());
        }
        assert_eq!((queues.evicted.len(), memory_budget.usage().used), (0, 7 * 138));
        for _ in 0..2 {
            queues.send(&[ConnId(5)], "12345678".to_owned());
        }
        // For the second message to address 3, the largest queue of address 1 is evicted.
        let evicted: Vec<_> = queues.evicted.iter().map(|evicted| (evicted.conn, evicted.dropped_messages)).collect();
        assert_eq!((evicted, memory_budget.usage().connections_closed), (vec![(ConnId(2), 2)], 1));
        assert_eq!(memory_budget.usage().used, (2 + 3 + 2) * 138);
        // A connection of another server holds most. Therefore, the refused address itself loses its largest queue.
        let other = ConnectionMemory::open(&memory_budget, IpAddr::from([192, 0, 2, 9]), 0).expect("0 bytes");
        other.set(9_999);
        let (largest, smallest) =
            if queues.largest_queue_of(IpAddr::from([192, 0, 2, 1])) == Some(ConnId(1)) { (1, 3) } else { (3, 1) };
        queues.evict_for_memory_of(ConnId(smallest), 0);
        assert_eq!(queues.evicted.last().map(|evicted| evicted.conn), Some(ConnId(largest)));
        drop((queues, other));
        assert_eq!(memory_budget.usage().used, 0);
    }

    #[test]
    fn messages_that_can_wait_do_so_while_clients_read_but_at_most_10_s() {
        let limits = SendQueueLimits { max_messages: 4, max_bytes: 99, budget_bytes: 999, max_updates: 9 };
        let budget = QueueBudget::new(limits);
        let mut queues = OutboundQueues::default();
        let members = [ConnId(1), ConnId(2), ConnId(3)];
        for conn in members {
            queues.queues.insert(conn, Arc::new(new_queue(&budget)));
        }
        let second = |second: u64| Time::from_millis(1_000 * second);
        let mut has_room = |at, sent: &[u64], read: &[u64]| {
            for conn in sent {
                queues.send(&[ConnId(*conn)], "12345678".to_owned());
            }
            for conn in read {
                queues.queues[&ConnId(*conn)].advance(10);
            }
            assert_eq!(queues.evicted, []);
            queues.has_room(second(at), &members)
        };
        // Half of a queue must be free.
        assert_eq!([has_room(0, &[1, 1], &[]), has_room(0, &[1, 2, 2, 2, 3, 3], &[])], [true, false]);
        // Connection 1 does not read. Connection 2 reads what is queued within 10 s, while more is queued.
        assert_eq!([has_room(6, &[2], &[2, 2, 2]), has_room(9, &[2, 2], &[])], [false, false]);
        // The wait for connection 1 is over. The wait for connection 2 began when its earlier messages were read.
        assert!(!has_room(10, &[], &[]));
        assert!(!has_room(18, &[], &[]));
        assert!(has_room(19, &[], &[]));
        // Connection 3 fills its queue later, and is waited for.
        assert!(!has_room(20, &[3], &[]));
        assert!(has_room(21, &[], &[3]));
    }

    /// Four connections use up the budget with incomplete messages. Only connections that sent incomplete messages are closed.
    #[test]
    fn partial_messages_are_charged_to_their_senders() {
        let budget =
            QueueBudget::new(SendQueueLimits { max_messages: 9, max_bytes: 99, budget_bytes: 80, max_updates: 9 });
        let mut queues = OutboundQueues::default();
        for conn in 1..=8 {
            queues.queues.insert(ConnId(conn), Arc::new(new_queue(&budget)));
        }
        // In the server, the task of each connection keeps a reference to its queue. In this test, `served` keeps these references.
        let served: Vec<Arc<SendQueue>> = queues.queues.values().map(Arc::clone).collect();
        let charge = |queues: &OutboundQueues, conn: u64, bytes: usize| {
            queues.queues[&ConnId(conn)].charge_partial_message(bytes)
        };
        for conn in 1..=4 {
            assert_eq!(charge(&queues, conn, 20), Ok(()));
        }
        // The budget has no room for four frames of ten bytes. Therefore, two connections with incomplete messages are closed.
        queues.send(&[ConnId(5), ConnId(6), ConnId(7), ConnId(8)], "12345678".to_owned());
        let evicted = |queues: &OutboundQueues| queues.evicted.iter().map(|evicted| evicted.conn).collect::<Vec<_>>();
        assert_eq!((evicted(&queues), budget.used_bytes()), (vec![ConnId(4), ConnId(3)], 80));
        // Connections 1 and 2 are still open. When their messages are complete, the bytes of these messages are no longer charged.
        assert_eq!((charge(&queues, 1, 0), charge(&queues, 2, 0), budget.used_bytes()), (Ok(()), Ok(()), 40));
        let large = Arc::clone(&queues.queues[&ConnId(6)]);
        assert_eq!((large.charge_partial_message(35), charge(&queues, 7, 8)), (Ok(()), Err(QueueFull::Budget)));
        queues.enforce_budget(&budget);
        assert_eq!(evicted(&queues), [ConnId(4), ConnId(3), ConnId(6)]);
        assert_eq!(
            (large.charge_partial_message(35), charge(&queues, 7, 8), budget.used_bytes()),
            (Err(QueueFull::Connection), Ok(()), 38)
        );
        drop((queues, large, served));
        assert_eq!(budget.used_bytes(), 0);
    }
}
