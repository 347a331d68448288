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
use crate::io::cluster::{self, Cluster, ClusterRequest, FollowedRooms, UsedRoom};
use crate::io::connection_permit::ConnectionLimits;
use crate::io::signaling::event_stream::EventListeners;
use crate::io::websocket::frame::{self, FrameError};
use crate::io::websocket::send_queue::{DEFAULT_MAX_UPDATES, PendingClose, QueueFull, QueuedFrame, SendQueue};
use crate::memory_budget::{MemoryAccount, MemoryPermit};
use crate::signaling::cluster::Plan;
use crate::signaling::{
    CloseCode, ConnId, ControlSurfaceEvent, Dialect, EventSink, Hub, NewConnection, REJECTED_CONNECTION, UpdateKey,
    WorkLimiter, WorkSource,
};
use crate::time::{Time, WallClock};

/// The hub and all connections of a server.
pub(in crate::io) struct SharedHub {
    pub(super) started: Instant,
    /// The time at the start. In a cluster, it is that of the wall clock, so that timers of rooms and of connections have one time base.
    pub(super) start_time: Time,
    pub(super) state: Mutex<LockedHub>,
    pub(super) cluster: Option<Cluster>,
    max_updates: usize,
    /// Notified when the hub's next deadline is earlier than before.
    pub(super) deadline_changed: Notify,
}

pub(super) struct LockedHub {
    pub(super) hub: Hub,
    work: WorkLimiter,
    pub(super) queues: OutboundQueues,
    /// The rooms that are shared with other processes, in a cluster.
    pub(super) rooms: Option<FollowedRooms>,
    pub(super) next_conn: ConnId,
    pub(super) is_shutting_down: bool,
}

impl SharedHub {
    /// Superseded updates are dropped from queues with more than `max_updates` messages (`None`: 256).
    pub(in crate::io) fn new(
        mut hub: Hub,
        max_updates: Option<usize>,
        limits: &ConnectionLimits,
        cluster: Option<(Cluster, FollowedRooms)>,
    ) -> Arc<Self> {
        let queues = OutboundQueues {
            queues: HashMap::new(),
            evicted: Vec::new(),
            coalesced: Vec::new(),
            listeners: EventListeners::default(),
            check: None,
            account: None,
            own_account: limits.memory_budget.account(None),
        };
        let (cluster, rooms) = cluster.unzip();
        let (mut start_time, mut next_conn) = (Time::ZERO, ConnId(0));
        if let Some(rooms) = &rooms {
            hub.join_cluster(rooms.process());
            start_time = Time::from_nanos(clock::unix_us() * 1_000);
            next_conn = ConnId::of_process(rooms.process(), 0);
        }
        let work = WorkLimiter::default();
        let state = LockedHub { hub, work, queues, rooms, next_conn, is_shutting_down: false };
        Arc::new(Self {
            started: Instant::now(),
            start_time,
            state: Mutex::new(state),
            cluster,
            max_updates: max_updates.unwrap_or(DEFAULT_MAX_UPDATES),
            deadline_changed: Notify::new(),
        })
    }

    /// Adds a connection, whose messages are held in `memory`. In a cluster, `room` is that of its URL, if it was read, and the plan remains.
    pub(super) fn on_connect(
        self: &Arc<Self>,
        connection: NewConnection,
        memory: Arc<MemoryAccount>,
        room: Option<&UsedRoom>,
    ) -> (ServedConnection, Plan) {
        let (hub, queue) = (Arc::clone(self), Arc::new(SendQueue::new(self.max_updates)));
        let mut plan = Plan::Done;
        let served = self.locked(|now, state| {
            let conn = state.next_conn;
            state.next_conn.0 += 1;
            let work_source = WorkSource::new(connection.source, conn);
            if state.is_shutting_down {
                queue.close(pending_close(CloseCode::GOING_AWAY, ""));
            } else {
                state.queues.queues.insert(conn, Arc::clone(&queue));
                state.queues.report(|check| check.on_connect(clock::monotonic_now(), conn, &connection));
                state.call_for(conn, &memory, |hub, rooms, queues| match rooms {
                    None => hub.on_connect(now, conn, connection, queues),
                    Some(rooms) => {
                        let copy = room.and_then(|used| rooms.replica(used.room));
                        plan = hub.plan_connect(now, conn, connection, copy.as_deref(), queues);
                    }
                });
            }
            ServedConnection { hub, conn, queue, memory, work_source }
        });
        (served, plan)
    }

    /// Runs `action` under the lock, and then handles the connections that it has evicted.
    pub(super) fn locked<T>(&self, action: impl FnOnce(WallClock, &mut LockedHub) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The clock is read under the lock, so that the times passed to the hub never decrease.
        let now = clock::wall_clock(self.start_time + self.started.elapsed());
        let previous_deadline = state.next_deadline();
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
            hub.on_server_close(now, conn, CloseCode::TRY_AGAIN_LATER.get(), &reason.to_string(), queues);
            evicted += 1;
        }
        state.report_departures();
        let next = state.next_deadline();
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

/// What became of a text message.
pub(in crate::io) enum TextOutcome {
    Handled,
    /// Its sender has used too much processor time. It is to be passed again after this time.
    Later(Duration),
    /// It is being appended to its room. Until then, no further message is to be passed.
    Requested(ClusterRequest),
}

/// One WebSocket connection, for its task. Calls have no effect after the connection was closed or lost. Dropping the value, even because
/// of a panic, makes the client leave its room.
pub(in crate::io) struct ServedConnection {
    hub: Arc<SharedHub>,
    pub(super) conn: ConnId,
    pub(in crate::io) queue: Arc<SendQueue>,
    /// What the client holds: its incomplete message, and its messages in the queues of others.
    pub(in crate::io) memory: Arc<MemoryAccount>,
    work_source: WorkSource,
}

impl ServedConnection {
    /// Maximum size of a received message, in bytes. It depends on the room.
    pub(in crate::io) fn max_message_bytes(&self) -> usize {
        self.hub.with_hub(|_, hub, _| hub.max_message_bytes(self.conn))
    }

    /// Handles a whole text message.
    pub(in crate::io) fn on_text(&self, text: &str) -> TextOutcome {
        let Self { conn, memory, .. } = self;
        let begun = self.if_open(|now, state| {
            let work = state.work.begin(now.monotonic, self.work_source, text.len());
            if work.is_err() {
                state.hub.on_waiting_message(*conn);
            }
            (work, state.hub.message_parser(*conn))
        });
        let Some((work, parser)) = begun else { return TextOutcome::Handled };
        let work = match work {
            Ok(work) => work,
            Err(wait) => return TextOutcome::Later(wait),
        };
        let mut plan = Plan::Done;
        let started = Instant::now();
        let parsed = parser.parse(text);
        let parse_time = started.elapsed();
        self.hub.locked(|now, state| {
            // The time for which this thread waited for the lock is not charged.
            let started = Instant::now();
            if state.queues.queues.contains_key(conn) {
                state.queues.report(|check| check.last_event = Some(clock::monotonic_now()));
                state.call_for(*conn, memory, |hub, rooms, queues| match rooms {
                    None => hub.on_parsed_text(now, *conn, parsed, queues),
                    Some(rooms) => plan = hub.plan_message(now, *conn, parsed, rooms.replica_of(*conn), queues),
                });
            }
            state.work.end(now.monotonic, work, parse_time + started.elapsed());
        });
        cluster::for_connection(&self.hub, (*conn, memory), plan, Instant::now())
            .map_or(TextOutcome::Handled, TextOutcome::Requested)
    }

    /// Handles a whole binary message.
    pub(in crate::io) fn on_binary(&self) {
        self.if_open(|now, state| {
            state.queues.report(|check| check.last_event = Some(clock::monotonic_now()));
            state.hub.on_binary(now, self.conn, &mut state.queues);
        });
    }

    /// Handles a ping, a pong or a fragment.
    pub(in crate::io) fn on_activity(&self) {
        self.if_open(|now, state| state.hub.on_activity(now, self.conn));
    }

    /// Handles the client's close frame.
    pub(in crate::io) fn on_close(&self, code: CloseCode, reason: &str) {
        self.if_open(|now, state| {
            state.queues.queues.remove(&self.conn);
            state.hub.on_close(now, self.conn, code.get(), reason, &mut state.queues);
        });
    }

    /// A frame violates the protocol or a limit. The connection reads nothing more.
    pub(in crate::io) fn on_frame_error(&self, error: FrameError) {
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
            state.hub.close_connection(now, self.conn, code, &reason, &mut state.queues);
        });
        if closed.is_some() {
            warn!(target: "signaling", conn = self.conn.0, code = code.get(), reason, "protocol error or limit exceeded; closing the connection");
        }
    }

    /// The client does not read: the connection ends without a close frame.
    pub(in crate::io) fn on_stalled(&self) {
        self.if_open(|_, state| state.queues.evict(self.conn, EvictionReason::SlowReader, 0));
    }

    /// Runs `action` under the lock, unless the connection was closed.
    fn if_open<T>(&self, action: impl FnOnce(WallClock, &mut LockedHub) -> T) -> Option<T> {
        self.hub.locked(|now, state| state.queues.queues.contains_key(&self.conn).then(|| action(now, state)))
    }
}

impl Drop for ServedConnection {
    fn drop(&mut self) {
        self.if_open(|now, state| {
            state.queues.queues.remove(&self.conn);
            state.hub.on_disconnect(now, self.conn, &mut state.queues);
        });
    }
}

impl LockedHub {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let due = self.rooms.as_ref().and_then(FollowedRooms::next_due_us);
        let due = due.map(|us| Time::from_nanos(us.saturating_mul(1_000)));
        self.hub.next_deadline().into_iter().chain(due).min()
    }

    /// Members of shared rooms whose connections this process has closed must leave their rooms.
    fn report_departures(&mut self) {
        if let Some(rooms) = &mut self.rooms {
            for (conn, close) in self.hub.take_departures() {
                rooms.on_departure(conn, &close);
            }
        }
    }

    /// Calls the hub for a client, whose messages are held in `memory`. If these exceed the memory budget, the client is then closed.
    fn call_for(
        &mut self,
        conn: ConnId,
        memory: &Arc<MemoryAccount>,
        call: impl FnOnce(&mut Hub, Option<&mut FollowedRooms>, &mut dyn EventSink),
    ) {
        self.queues.account = Some(Arc::clone(memory));
        call(&mut self.hub, self.rooms.as_mut(), &mut self.queues);
        self.queues.report(|check| check.on_membership(conn, self.hub.membership(conn)));
        if memory.is_over() {
            self.queues.evict(conn, EvictionReason::Memory, 0);
        }
    }
}

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The send queues of all connections.
pub(in crate::io) struct OutboundQueues {
    pub(super) queues: HashMap<ConnId, Arc<SendQueue>>,
    /// Connections closed during the current call to the hub. After the call has returned, the hub is notified that these connections are
    /// closed.
    evicted: Vec<Eviction>,
    /// Updates dropped during the current call to the hub. Each item contains a connection and the number of updates dropped from its
    /// queue.
    coalesced: Vec<(ConnId, usize)>,
    /// Listeners for control surface events.
    pub(super) listeners: EventListeners,
    /// The check of `--check`.
    pub(super) check: Option<Arc<Mutex<SignalingCheck>>>,
    /// The memory of the client that causes the messages of the current call; `None`: no client does.
    pub(super) account: Option<Arc<MemoryAccount>>,
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
pub(super) enum EvictionReason {
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

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        if let Some(queue) = self.queues.remove(&conn) {
            queue.close(pending_close(CloseCode(code), reason));
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
    pub(super) fn evict(&mut self, conn: ConnId, reason: EvictionReason, more: usize) {
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
    fn text_and_binary_messages_are_events_of_the_check() {
        let limits = ConnectionLimits::default();
        let hub = SharedHub::new(Hub::new(SignalingLimits::default(), [0; 4]), None, &limits, None);
        let check = Arc::<Mutex<SignalingCheck>>::default();
        hub.locked(|_, state| state.queues.check = Some(Arc::clone(&check)));
        let connection = NewConnection { source: [127, 0, 0, 1].into(), is_forwarded: false, route: Route::Undecided };
        let (served, _) = hub.on_connect(connection, limits.memory_budget.account(None), None);
        let has_event = || check.lock().expect("no panic").last_event.take().is_some();
        assert!(has_event());
        served.on_activity();
        assert!(!has_event(), "a ping is no message");
        served.on_binary();
        assert!(has_event());
        served.on_text("{}");
        assert!(has_event());
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
