//! Timers of the hub: those of the dialects, and a check of each connection, which pings it or closes it because of a missing pong, its
//! idle time or its age. Whatever interval and time-out are, a connection is dropped only after a ping.

use tracing::info;

use super::counters::DialectCounters;
use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::hub::{Hub, HubCall};
use super::limits::{BroadcastSettings, Heartbeat};
use super::lock::lock;
use super::rooms::AnyRooms;
use super::timers::TimerEvent;
use jamjam_core::close_code::CloseCode;
use jamjam_core::time::Time;

/// Maximum number of timers that one call of [`HubCall::on_deadline`] handles.
const MAX_TIMERS_PER_CALL: usize = 64;

/// Number of sent bytes after which a call of [`HubCall::on_deadline`] handles no further timer.
const MAX_TIMER_BYTES_PER_CALL: u64 = 256 << 10;

impl Hub {
    /// The time at which the owner must call [`HubCall::on_deadline`]. Other events can change this time.
    pub fn next_deadline(&self) -> Option<Time> {
        lock(&self.state.timers).next_deadline()
    }

    fn total_sent_bytes(&self) -> u64 {
        self.state.counters().iter().map(|counters| counters.sent_bytes).sum()
    }

    /// Schedules the next check of a connection, if it is still open and its dialect has time limits. `last_ping` is the time of the last
    /// ping, and before the first one that of the selection of the dialect.
    pub(super) fn schedule_check(&self, conn: ConnId, last_ping: Time) {
        let deadlines = self.connection_deadlines(conn, last_ping);
        if let Some(next) = deadlines.into_iter().flatten().flatten().min() {
            let timer = lock(&self.state.timers).insert(next, TimerEvent::ConnectionCheck { conn, last_ping });
            if self.state.connection(conn, |connection| connection.check = Some(timer)).is_none() {
                lock(&self.state.timers).remove(timer);
            }
        }
    }

    /// When a connection counts as lost without an answer to the last ping, when it has sent no message for too long, when it reaches the
    /// maximum age, and when it is pinged.
    fn connection_deadlines(&self, conn: ConnId, last_ping: Time) -> Option<[Option<Time>; 4]> {
        let (dialect, limits) = (self.state.dialect_of(conn)?, &self.state.limits);
        let Heartbeat { interval, timeout } = limits.heartbeat_of(dialect);
        let BroadcastSettings { idle_timeout, max_connection_age, .. } = limits.broadcast;
        let is_broadcast = dialect == Dialect::Broadcast;
        let idle = idle_timeout.filter(|_| is_broadcast && !self.broadcast.is_control_channel(conn));
        let age = max_connection_age.filter(|_| is_broadcast);
        self.state.connection(conn, |connection| {
            let lost = connection.awaiting_pong.then(|| connection.silent_since + timeout);
            let idle = idle.map(|timeout| connection.last_message + timeout);
            let max_age = age.map(|age| connection.connected_at + age);
            [lost, idle, max_age, interval.map(|interval| last_ping + interval)]
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
            let Some(event) = lock(&self.hub.state.timers).pop_due(now) else { return };
            match event {
                TimerEvent::ConnectionCheck { conn, last_ping } => self.check_connection(conn, last_ping),
                TimerEvent::ActivityLogExpiry => {
                    let next = lock(&self.hub.state.activity_log).clear_if_expired(now);
                    self.hub.state.schedule_expiry(next);
                }
                TimerEvent::Room { dialect, room } => {
                    self.hub.rooms(dialect).on_timer(&mut self.system_context(dialect), room);
                }
            }
        }
    }

    /// Closes or pings a connection if it is time for it, and schedules the next check.
    fn check_connection(&mut self, conn: ConnId, mut last_ping: Time) {
        let (hub, now) = (self.hub, self.now.monotonic);
        let deadlines = hub.connection_deadlines(conn, last_ping);
        let Some((dialect, [lost, idle, max_age, ping])) = hub.state.dialect_of(conn).zip(deadlines) else { return };
        let is_over = |deadline: Option<Time>| deadline.is_some_and(|at| now >= at);
        let count = |update: fn(&mut DialectCounters)| hub.state.count(Some(dialect), update);
        if is_over(lost) {
            count(|counters| counters.closed_heartbeat_timeout += 1);
            let source = hub.state.connection(conn, |connection| connection.source);
            info!(target: "signaling", conn = conn.0, source = source.map(tracing::field::display), "connection timed out");
            self.on_server_close(conn, CloseCode::ABNORMAL_CLOSURE, "heartbeat timeout");
            self.sink.abort(conn);
        } else if is_over(idle) {
            count(|counters| counters.closed_idle_timeout += 1);
            self.close_connection(conn, CloseCode::IDLE_TIMEOUT, "Idle timeout");
        } else if is_over(max_age) {
            count(|counters| counters.closed_max_age += 1);
            self.close_connection(conn, CloseCode::MAX_CONNECTION_AGE, "Max connection age reached");
        } else {
            if is_over(ping) {
                last_ping = now;
                // Outside rooms, an older jamjam client takes the first frame that it receives as the answer to its request.
                let is_pinged = dialect != Dialect::Jamjam || hub.jamjam.rooms.is_member(conn);
                let timeout = hub.state.limits.heartbeat_of(dialect).timeout;
                let pings = hub.state.connection(conn, |connection| {
                    // A ping must not arrive between a request and its answer.
                    if connection.has_waiting_message || !is_pinged {
                        return false;
                    }
                    if now >= connection.silent_since + timeout {
                        // The server paused, or the time-out is shorter than the interval. A new full time-out starts.
                        connection.silent_since = now;
                    }
                    connection.awaiting_pong = true;
                    true
                });
                if pings == Some(true) {
                    self.sink.ping(conn);
                }
            }
            hub.schedule_check(conn, last_ping);
        }
    }
}
