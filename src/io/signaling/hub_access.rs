//! What others than connections do with the shared hub: timers, shutdown, HTTP requests, the operator, and the cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::check::SignalingCheck;
use crate::io::cluster::{Cluster, FollowedRooms, UsedRoom};
use crate::io::signaling::event_stream::{EventListeners, EventStream};
use crate::io::signaling::shared_hub::{EvictionReason, LockedHub, OutboundQueues, SharedHub};
use crate::io::websocket::send_queue::PendingClose;
use crate::memory_budget::MemoryAccount;
use crate::signaling::{
    CloseCode, ConnId, ControlSurfaceEvent, DialectCounters, EventProducer, EventSink, Hub, Snapshot, SnapshotQuery,
};
use crate::time::WallClock;

/// Pause between two batches of timers, in which the lock is free.
const BATCH_PAUSE: Duration = Duration::from_millis(1);

/// Pause between two batches of connections that are closed at shutdown.
const DRAIN_PAUSE: Duration = Duration::from_millis(50);

impl SharedHub {
    /// The cluster that this process belongs to.
    pub(in crate::io) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Calls the hub for work that does not belong to a connection.
    pub(in crate::io) fn with_hub<T>(&self, action: impl FnOnce(WallClock, &mut Hub, &mut dyn EventSink) -> T) -> T {
        self.locked(|now, state| action(now, &mut state.hub, &mut state.queues))
    }

    /// Calls `action` with the rooms that this process of a cluster follows.
    pub(in crate::io) fn with_rooms<T>(&self, action: impl FnOnce(&mut FollowedRooms) -> T) -> T {
        self.with_hub_and_rooms(|_, rooms, _, _| action(rooms))
    }

    /// Like [`Self::with_rooms`], with the time, the hub and its output.
    pub(in crate::io) fn with_hub_and_rooms<T>(
        &self,
        action: impl FnOnce(WallClock, &mut FollowedRooms, &mut Hub, &mut OutboundQueues) -> T,
    ) -> T {
        self.locked(|now, LockedHub { hub, queues, rooms, .. }| {
            action(now, rooms.as_mut().expect("called only in a cluster"), hub, queues)
        })
    }

    /// Calls `action` with the hub that has a broadcast room: in a cluster, the copy of the room that the request uses.
    pub(super) fn with_room<T>(&self, used: Option<&UsedRoom>, action: impl FnOnce(WallClock, &mut Hub) -> T) -> T {
        self.locked(|now, LockedHub { hub, rooms, .. }| {
            match used.zip(rooms.as_mut()).and_then(|(used, rooms)| rooms.replica(used.room)) {
                Some(copy) => copy.read(hub, |copy| action(now, copy)),
                None => action(now, hub),
            }
        })
    }

    /// Closes a client whose messages exceed the memory budget.
    pub(in crate::io) fn check_memory(&self, conn: ConnId, memory: &Arc<MemoryAccount>) {
        if memory.is_over() {
            self.locked(|_, state| state.queues.evict(conn, EvictionReason::Memory, 0));
        }
    }

    /// Begins anew in the cluster, with another process number. Connections that were opened with the old one are closed.
    pub(in crate::io) fn join_cluster(&self, process: u32, code: CloseCode, reason: &str) {
        self.locked(|now, state| {
            state.close_connections(now, code, reason);
            if let Some(rooms) = &mut state.rooms {
                rooms.restart(process, &mut state.hub);
                state.hub.join_cluster(process);
                state.next_conn = ConnId::of_process(process, 0);
            }
        });
    }

    /// Closes all connections with this code.
    pub(in crate::io) fn close_connections(&self, code: CloseCode, reason: &str) {
        self.locked(|now, state| state.close_connections(now, code, reason));
    }

    /// Runs the hub's timers until the future is dropped. Between two batches of due timers, other tasks use the lock and empty the queues.
    pub(in crate::io) async fn run_timers(&self) {
        loop {
            let next = self.state.lock().unwrap_or_else(PoisonError::into_inner).next_deadline();
            let wait = async {
                match next {
                    Some(at) => {
                        tokio::time::sleep_until((self.started + at.duration_since(self.start_time)).into()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {
                    self.locked(|now, LockedHub { hub, queues, rooms, .. }| {
                        hub.on_deadline(now, queues);
                        if let Some(rooms) = rooms {
                            rooms.run_timers(now, queues);
                        }
                    });
                    tokio::time::sleep(BATCH_PAUSE).await;
                }
                () = self.deadline_changed.notified() => {}
            }
        }
    }

    /// In a cluster, closes the connections one after the other within `time`.
    pub(in crate::io) async fn drain(&self, time: Duration) {
        if self.cluster().is_none() {
            return;
        }
        let connections = self.locked(|_, state| {
            state.is_shutting_down = true;
            state.queues.queues.keys().copied().collect::<Vec<_>>()
        });
        let batch = connections.len().div_ceil((time.as_millis() / DRAIN_PAUSE.as_millis()) as usize);
        for batch in connections.chunks(batch.max(1)) {
            self.locked(|now, LockedHub { hub, queues, .. }| {
                for conn in batch {
                    let (code, reason) = hub.shutdown_close_frame(*conn);
                    hub.close_connection(now, *conn, code, reason, queues);
                }
            });
            tokio::time::sleep(DRAIN_PAUSE).await;
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

    /// Calls the hub for a request, whose messages are held in `account`.
    pub(in crate::io) fn with_hub_for<T>(
        &self,
        account: &Arc<MemoryAccount>,
        action: impl FnOnce(WallClock, &mut Hub, &mut dyn EventSink) -> T,
    ) -> T {
        self.locked(|now, state| {
            state.queues.account = Some(Arc::clone(account));
            action(now, &mut state.hub, &mut state.queues)
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
            let replicas = state.rooms.iter().flat_map(FollowedRooms::replicas);
            let mut snapshot = state.hub.snapshot_with(now, query, replicas);
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
}

impl OutboundQueues {
    /// Sets the memory of the client that causes the next messages.
    pub(in crate::io) fn set_account(&mut self, account: Option<Arc<MemoryAccount>>) {
        self.account = account;
    }

    /// Passes an event to the listeners of this process.
    pub(in crate::io) fn publish(&mut self, event: &ControlSurfaceEvent) {
        self.listeners.publish(event);
    }

    /// Passes what a client did to the check, if there is one.
    pub(in crate::io) fn report(&self, pass: impl FnOnce(&mut SignalingCheck)) {
        if let Some(Ok(mut check)) = self.check.as_deref().map(Mutex::lock) {
            pass(&mut check);
        }
    }
}

impl LockedHub {
    fn close_connections(&mut self, now: WallClock, code: CloseCode, reason: &str) {
        for conn in self.queues.queues.keys().copied().collect::<Vec<_>>() {
            self.hub.close_connection(now, conn, code, reason, &mut self.queues);
        }
    }

    fn counters_by_dialect(&self) -> Vec<(&'static str, DialectCounters)> {
        let mut counters = self.hub.counters_by_dialect();
        for (dialect, members) in self.rooms.iter().flat_map(FollowedRooms::local_members) {
            if let Some((_, counts)) = counters.iter_mut().find(|(name, _)| *name == dialect.name()) {
                counts.rooms += 1;
                counts.members += members as u64;
            }
        }
        for (conn, queue) in &self.queues.queues {
            let dialect_name = self.hub.dialect_name(*conn);
            if let Some((_, counts)) = counters.iter_mut().find(|(dialect, _)| Some(*dialect) == dialect_name) {
                counts.queued_bytes += queue.queued_bytes() as u64;
            }
        }
        counters
    }
}
