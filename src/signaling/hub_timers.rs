//! Timers of the hub: heartbeats, idle time-outs, the maximum connection age, and the timers of the dialects. A heartbeat drops a connection
//! only after a ping, whatever the interval and the time-out are.

use tracing::info;

use super::close_code::CloseCode;
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink};
use super::hub::Hub;
use super::limits::Heartbeat;
use super::rooms::RoomKey;
use super::timers::{DialectTimer, TimerEvent};
use crate::time::{Time, WallClock};

/// Maximum number of timers that one call of [`Hub::on_deadline`] handles.
const MAX_TIMERS_PER_CALL: usize = 64;

/// Number of sent bytes after which a call of [`Hub::on_deadline`] handles no further timer.
const MAX_TIMER_BYTES_PER_CALL: u64 = 256 << 10;

impl Hub {
    /// The time at which the owner must call [`Hub::on_deadline`]. Other events can change this time.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next_deadline()
    }

    /// Handles timers that are due. A burst of timers takes several calls, between which [`Hub::next_deadline`] is in the past.
    /// Otherwise, the burst would block all connections, and would fill the queues of clients that read.
    pub fn on_deadline(&mut self, now: impl Into<WallClock>, sink: &mut dyn EventSink) {
        let now = now.into();
        let sent_before = self.total_sent_bytes();
        for _ in 0..MAX_TIMERS_PER_CALL {
            if self.total_sent_bytes() - sent_before >= MAX_TIMER_BYTES_PER_CALL {
                return;
            }
            let Some(event) = self.timers.pop_due(now.monotonic) else { return };
            match event {
                TimerEvent::Heartbeat { conn, last_ping } => self.on_heartbeat_timer(now, conn, last_ping, sink),
                TimerEvent::IdleTimeout(conn) => self.check_idle_timeout(now, conn, sink),
                TimerEvent::MaxAge(conn) => self.close_at_max_age(now, conn, sink),
                TimerEvent::ActivityLogExpiry => self.expire_activity_log(now.monotonic),
                TimerEvent::Dialect(dialect, timer) => {
                    let (mut ctx, dialects, limits) = self.system_context(now, dialect, sink);
                    dialects.get_mut(dialect).on_timer(&mut ctx, limits, timer);
                }
            }
        }
    }

    fn total_sent_bytes(&self) -> u64 {
        Dialect::ALL.iter().map(|dialect| self.counters[Some(*dialect)].sent_bytes).sum()
    }

    /// Starts the heartbeat of a connection, if it is still open and its dialect has one.
    pub(super) fn start_heartbeat(&mut self, now: Time, conn: ConnId) {
        if let Some(Heartbeat { interval: Some(interval), .. }) = self.heartbeat(conn) {
            self.schedule(now + interval, TimerEvent::Heartbeat { conn, last_ping: now });
        }
    }

    fn heartbeat(&self, conn: ConnId) -> Option<Heartbeat> {
        self.dialects.get(self.connections.get(&conn)?.dialect?).heartbeat(&self.limits)
    }

    /// Drops a connection that did not answer a ping in time. Otherwise, sends a ping if the interval has passed.
    fn on_heartbeat_timer(&mut self, now: WallClock, conn: ConnId, mut last_ping: Time, sink: &mut dyn EventSink) {
        let Some(Heartbeat { interval: Some(interval), timeout }) = self.heartbeat(conn) else { return };
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let dialect = connection.dialect;
        self.counters[dialect].cleanup_runs += 1;
        if connection.awaiting_pong && now.monotonic >= connection.last_seen + timeout {
            self.counters[dialect].closed_heartbeat_timeout += 1;
            info!(target: "signaling", conn = conn.0, source = %connection.source, "connection timed out");
            self.on_server_close(now, conn, CloseCode::ABNORMAL_CLOSURE.get(), "heartbeat timeout", sink);
            sink.abort(conn);
            return;
        }
        if now.monotonic >= last_ping + interval {
            (connection.awaiting_pong, last_ping) = (true, now.monotonic);
            sink.ping(conn);
        }
        let mut next = last_ping + interval;
        if connection.awaiting_pong {
            // When the ping is sent, the silence may already be longer than the time-out. In this case, a new full time-out starts
            // when the ping is sent. The connection must answer before the new time-out ends.
            let expires_at = connection.last_seen + timeout;
            next = next.min(if expires_at > now.monotonic { expires_at } else { now.monotonic + timeout });
        }
        self.schedule(next, TimerEvent::Heartbeat { conn, last_ping });
    }

    /// Schedules the idle time-out and the maximum age of the new connection `conn`. If this connection created a room, `created`
    /// is the key of this room. This method then also schedules the heartbeat of the room.
    pub(super) fn start_member_timers(&mut self, now: Time, conn: ConnId, dialect: Dialect, created: Option<RoomKey>) {
        if let (Some(room), Some(interval)) = (created, self.limits.heartbeat.interval) {
            self.schedule(now + interval, TimerEvent::Dialect(dialect, DialectTimer::RoomHeartbeat(room)));
        }
        if !self.connections.contains_key(&conn) {
            return;
        }
        let handler = self.dialects.get(dialect);
        let idle_timeout = handler.idle_timeout(&self.limits, conn);
        let max_age = handler.max_connection_age(&self.limits);
        for (after, event) in [(idle_timeout, TimerEvent::IdleTimeout(conn)), (max_age, TimerEvent::MaxAge(conn))] {
            if let Some(after) = after {
                self.schedule(now + after, event);
            }
        }
    }

    /// Closes a connection that sent no message for too long. Otherwise, schedules the next check for the time at which the connection's
    /// idle time-out ends.
    fn check_idle_timeout(&mut self, now: WallClock, conn: ConnId, sink: &mut dyn EventSink) {
        let Some(connection) = self.connections.get(&conn) else { return };
        let (dialect, last_message) = (connection.dialect, connection.last_message);
        let Some(timeout) = dialect.and_then(|dialect| self.dialects.get(dialect).idle_timeout(&self.limits, conn))
        else {
            return;
        };
        self.counters[dialect].cleanup_runs += 1;
        if now.monotonic < last_message + timeout {
            self.schedule(last_message + timeout, TimerEvent::IdleTimeout(conn));
        } else {
            self.counters[dialect].closed_idle_timeout += 1;
            self.close_connection(now, conn, CloseCode::IDLE_TIMEOUT, "Idle timeout", sink);
        }
    }

    /// Closes a connection that has reached the maximum age.
    fn close_at_max_age(&mut self, now: WallClock, conn: ConnId, sink: &mut dyn EventSink) {
        if let Some(connection) = self.connections.get(&conn) {
            let counters = &mut self.counters[connection.dialect];
            counters.cleanup_runs += 1;
            counters.closed_max_age += 1;
            self.close_connection(now, conn, CloseCode::MAX_CONNECTION_AGE, "Max connection age reached", sink);
        }
    }

    /// Schedules a timer. Occasionally removes the timers of connections and rooms that no longer exist.
    fn schedule(&mut self, at: Time, event: TimerEvent) {
        let Self { connections, timers, dialects, .. } = self;
        timers.insert(at, event);
        timers.prune(|event| match event {
            TimerEvent::Heartbeat { conn, .. } | TimerEvent::IdleTimeout(conn) | TimerEvent::MaxAge(conn) => {
                connections.contains_key(conn)
            }
            TimerEvent::ActivityLogExpiry => true,
            TimerEvent::Dialect(dialect, timer) => {
                timer.room().is_none_or(|room| dialects.get(*dialect).rooms().contains_room(room))
            }
        });
    }
}
