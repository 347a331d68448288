//! Timers of the hub: those of the dialects, and a check of each connection, which pings it or closes it because of a missing pong, its
//! idle time or its age. Whatever interval and time-out are, a connection is dropped only after a ping.

use tracing::info;

use super::counters::counters_index;
use super::event_sink::ConnId;
use super::hub::{Hub, HubCall};
use super::limits::Heartbeat;
use super::timers::TimerEvent;
use jamjam_core::close_code::CloseCode;
use jamjam_core::time::Time;

/// Maximum number of timers that one call of [`HubCall::on_deadline`] handles.
const MAX_TIMERS_PER_CALL: usize = 64;

/// Number of sent bytes after which a call of [`HubCall::on_deadline`] handles no further timer.
const MAX_TIMER_BYTES_PER_CALL: u64 = 256 << 10;

/// When a connection is to be closed or pinged. `None`: never.
struct ConnectionDeadlines {
    /// Its silence reaches the time-out.
    silent: Time,
    /// It counts as lost without an answer to the last ping.
    lost: Option<Time>,
    /// It has sent no message for too long.
    idle: Option<Time>,
    /// It has reached the maximum age.
    max_age: Option<Time>,
    ping: Option<Time>,
    /// Whether the connection is pinged at that time.
    is_pinged: bool,
}

impl Hub {
    /// The time at which the owner must call [`HubCall::on_deadline`]. Other events can change this time.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    fn total_sent_bytes(&self) -> u64 {
        self.counters.iter().map(|counters| counters.sent_bytes).sum()
    }

    /// Schedules the next check of a connection, if it is still open and its dialect has time limits. `last_ping` is the time of the last
    /// ping, and before the first one that of the selection of the dialect.
    pub(super) fn schedule_check(&mut self, conn: ConnId, last_ping: Time) {
        let deadlines = self.connection_deadlines(conn, last_ping);
        let Some(ConnectionDeadlines { lost, idle, max_age, ping, .. }) = deadlines else { return };
        if let Some(next) = [lost, idle, max_age, ping].into_iter().flatten().min() {
            self.timers.insert(next, TimerEvent::ConnectionCheck { conn, last_ping });
        }
        self.prune_timers();
    }

    /// Occasionally removes timers of former connections, rooms and messages, which would have no effect.
    pub(super) fn prune_timers(&mut self) {
        let Self { connections, timers, dialects, .. } = self;
        timers.prune(|event| match event {
            TimerEvent::ConnectionCheck { conn, .. } => connections.contains_key(conn),
            TimerEvent::Room { dialect, room } => dialects.rooms(*dialect).exists(*room),
            TimerEvent::ActivityLogExpiry => true,
        });
    }

    fn connection_deadlines(&self, conn: ConnId, last_ping: Time) -> Option<ConnectionDeadlines> {
        let connection = self.connections.get(&conn)?;
        let handler = self.dialects.get(connection.dialect?);
        let Heartbeat { interval, timeout } = handler.heartbeat(&self.limits);
        let silent = connection.silent_since + timeout;
        Some(ConnectionDeadlines {
            silent,
            lost: connection.awaiting_pong.then_some(silent),
            idle: handler.idle_timeout(&self.limits, conn).map(|timeout| connection.last_message + timeout),
            max_age: handler.max_connection_age(&self.limits).map(|age| connection.connected_at + age),
            ping: interval.map(|interval| last_ping + interval),
            is_pinged: handler.is_pinged(conn),
        })
    }
}

impl HubCall<'_> {
    /// Handles timers that are due. A burst of timers takes several calls, between which [`Hub::next_deadline`] is in the past.
    /// Otherwise, the burst would block all connections, and would fill the queues of clients that read.
    pub fn on_deadline(&mut self) {
        let now = self.now.monotonic;
        let sent_before = self.hub.total_sent_bytes();
        for _ in 0..MAX_TIMERS_PER_CALL {
            if self.hub.total_sent_bytes() - sent_before >= MAX_TIMER_BYTES_PER_CALL {
                return;
            }
            let Some(event) = self.hub.timers.pop_due(now) else { return };
            match event {
                TimerEvent::ConnectionCheck { conn, last_ping } => self.check_connection(conn, last_ping),
                TimerEvent::ActivityLogExpiry => self.hub.activity_log.clear_if_expired(now, &mut self.hub.timers),
                TimerEvent::Room { dialect, room } => {
                    let (mut ctx, dialects) = self.system_context(dialect);
                    dialects.rooms_mut(dialect).on_timer(&mut ctx, room);
                }
            }
        }
    }

    /// Closes or pings a connection if it is time for it, and schedules the next check.
    fn check_connection(&mut self, conn: ConnId, mut last_ping: Time) {
        let now = self.now.monotonic;
        let deadlines = self.hub.connection_deadlines(conn, last_ping);
        let Some(ConnectionDeadlines { silent, lost, idle, max_age, ping, is_pinged }) = deadlines else { return };
        let Some(connection) = self.hub.connections.get_mut(&conn) else { return };
        let counters = &mut self.hub.counters[counters_index(connection.dialect)];
        counters.cleanup_runs += 1;
        let is_over = |deadline: Option<Time>| deadline.is_some_and(|at| now >= at);
        if is_over(lost) {
            counters.closed_heartbeat_timeout += 1;
            info!(target: "signaling", conn = conn.0, source = %connection.source, "connection timed out");
            self.on_server_close(conn, CloseCode::ABNORMAL_CLOSURE, "heartbeat timeout");
            self.sink.abort(conn);
        } else if is_over(idle) {
            counters.closed_idle_timeout += 1;
            self.close_connection(conn, CloseCode::IDLE_TIMEOUT, "Idle timeout");
        } else if is_over(max_age) {
            counters.closed_max_age += 1;
            self.close_connection(conn, CloseCode::MAX_CONNECTION_AGE, "Max connection age reached");
        } else {
            if is_over(ping) {
                last_ping = now;
                // A ping must not arrive between a request and its answer.
                if !connection.has_waiting_message && is_pinged {
                    if now >= silent {
                        // The server paused, or the time-out is shorter than the interval. A new full time-out starts.
                        connection.silent_since = now;
                    }
                    connection.awaiting_pong = true;
                    self.sink.ping(conn);
                }
            }
            self.hub.schedule_check(conn, last_ping);
        }
    }
}
