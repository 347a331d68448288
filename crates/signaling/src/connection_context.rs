//! What the hub and a dialect know of a connection, and how a dialect replies, sends messages and closes connections.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use tracing::warn;

use super::counters::DialectCounters;
use super::device::DeviceId;
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink};
use super::hub::{Hub, lock};
use super::json::to_json;
use super::limits::SignalingLimits;
use super::member_log::ConnectionClose;
use super::room::Caller;
use super::route::Route;
use super::timers::TimerKey;
use jamjam_core::address::source_network;
use jamjam_core::close_code::CloseCode;
use jamjam_core::log_throttle::LogThrottle;
use jamjam_core::memory_budget::MemoryPermit;
use jamjam_core::rate_limit::Gcra;
use jamjam_core::send_queue::UpdateKey;
use jamjam_core::time::{Time, WallClock};

/// A message counts as one unit against the rate limit, and as one more for each full block of this many bytes.
const BYTES_PER_RATE_UNIT: usize = 16 << 10;

/// Number of wrong room codes or passwords after which a connection is closed.
const MAX_FAILED_GUESSES: u16 = 20;

/// How many bytes of lists, and of messages that joins cause, a source pays off per second.
pub(super) const REQUESTED_BYTES_PER_SECOND: u64 = 1 << 20;

/// Maximum debt of a source that requests a list, as seconds of [`REQUESTED_BYTES_PER_SECOND`]. Only the last list may exceed it.
pub(super) const MAX_LIST_DEBT: Duration = Duration::from_secs(1);

/// Maximum debt of a source that joins a room. It is high, because many clients behind one address may join at the same time.
pub(super) const MAX_JOIN_DEBT: Duration = Duration::from_secs(32);

/// All connections by their numbers.
#[derive(Default)]
pub(super) struct Connections {
    pub(super) by_number: HashMap<ConnId, ConnectionState>,
    /// The network of each connection that has not selected a dialect yet. The numbers are in the order of connecting.
    pub(super) undecided: BTreeMap<ConnId, IpAddr>,
}

impl Connections {
    /// Adds a connection that has not selected a dialect. If their maximum number is reached, returns one to close: the oldest one from the
    /// same address if this has used up its share, otherwise the oldest one. A source is exempt from the share if it may be a proxy on loopback
    /// that connects for all its clients.
    pub(super) fn insert_undecided(
        &mut self,
        conn: ConnId,
        state: ConnectionState,
        is_exempt: bool,
        limits: &SignalingLimits,
    ) -> Option<ConnId> {
        let &SignalingLimits { max_undecided, max_undecided_per_address, .. } = limits;
        let per_address = if is_exempt { max_undecided } else { max_undecided_per_address };
        let (source, all) = (source_network(state.source), &mut self.undecided);
        let mut own = all.iter().filter(|(_, other)| **other == source);
        let oldest = own.next().filter(|_| 1 + own.count() >= per_address);
        let oldest = oldest.or_else(|| all.first_key_value().filter(|_| all.len() >= max_undecided));
        let oldest = oldest.map(|(conn, _)| *conn);
        if let Some(oldest) = &oldest {
            all.remove(oldest);
        }
        all.insert(conn, source);
        self.by_number.insert(conn, state);
        oldest
    }
}

/// The part of a connection's state that is the same for all dialects.
pub(super) struct ConnectionState {
    pub(super) source: IpAddr,
    /// `None` until the first message selects the dialect.
    pub(super) dialect: Option<Dialect>,
    /// Whether the URL selected the dialect. In the jamjam dialect, it does so only for newer clients.
    pub(super) is_dialect_in_url: bool,
    /// The device that a newer jamjam client has proven.
    device: Option<DeviceId>,
    /// Theoretical arrival time of the next message (GCRA).
    message_arrival: Time,
    /// Limits log lines about rejected messages.
    pub(super) log_throttle: LogThrottle,
    /// Last time that the connection sent anything. After a longer silence than the time-out, the time of the first ping.
    pub(super) silent_since: Time,
    /// Whether a ping has been sent since then.
    pub(super) awaiting_pong: bool,
    /// Whether a message has arrived that waits for its sender's processor time.
    pub(super) has_waiting_message: bool,
    /// Wrong room codes and passwords so far.
    failed_guesses: u16,
    /// The timer of the next check.
    pub(super) check: Option<TimerKey>,
    /// Time of the last message; before the first message, the connect time.
    pub(super) last_message: Time,
    pub(super) connected_at: Time,
}

const _: () = assert!(size_of::<ConnectionState>() <= 104, "the state of an idle connection is small");

impl ConnectionState {
    pub(super) fn new(source: IpAddr, route: &Route, at: Time) -> Self {
        let dialect = route.dialect();
        let device = if let Route::NewerJamjam(device) = route { device.clone() } else { None };
        Self {
            source,
            dialect,
            is_dialect_in_url: dialect.is_some(),
            device,
            message_arrival: at,
            log_throttle: LogThrottle::default(),
            silent_since: at,
            awaiting_pong: false,
            has_waiting_message: false,
            failed_guesses: 0,
            check: None,
            last_message: at,
            connected_at: at,
        }
    }

    /// Records that the connection is alive.
    pub(super) fn record_activity(&mut self, now: Time) {
        (self.silent_since, self.awaiting_pong) = (now, false);
    }

    /// Whether a message of `bytes` bytes conforms to the message rate `limit`; a conforming message is charged.
    pub(super) fn allow_message(&mut self, now: Time, limit: Gcra, bytes: usize) -> bool {
        let conforms = limit.try_advance(self.message_arrival, now, 1).is_some();
        if conforms {
            // One available unit is enough for a long message, which then uses several.
            let units = 1 + (bytes / BYTES_PER_RATE_UNIT) as u64;
            self.message_arrival = limit.advance(self.message_arrival, now, units);
        }
        conforms
    }
}

/// What a dialect may use while it handles an event of one connection.
pub(super) struct ConnectionContext<'a> {
    pub(super) now: WallClock,
    pub(super) conn: ConnId,
    pub(super) source: IpAddr,
    pub(super) dialect: Option<Dialect>,
    pub(super) hub: &'a Hub,
    pub(super) sink: &'a mut dyn EventSink,
}

impl ConnectionContext<'_> {
    /// Whether the connection belongs to a newer jamjam client, which only these connect to a path of the dialect, and the device that it has
    /// proven.
    pub(super) fn newer_client(&self) -> (bool, Option<DeviceId>) {
        let client =
            self.hub.connection(self.conn, |connection| (connection.is_dialect_in_url, connection.device.clone()));
        client.unwrap_or_default()
    }

    /// Updates the counters of the dialect.
    pub(super) fn count(&self, update: impl FnOnce(&mut DialectCounters)) {
        self.hub.count(self.dialect, update);
    }

    /// Closes a connection that is not in a room.
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        if let Some(removed) = self.hub.take_connection(conn) {
            let close = ConnectionClose { code, reason, server_reason: Some(reason) };
            self.hub.record_removed(self.now, conn, &removed, None, &close);
            self.sink.close(conn, code, reason);
        }
    }

    /// Counts a request that a limit rejected.
    pub(super) fn count_limited(&self) {
        self.count(|counters| {
            counters.requests_limited += 1;
            counters.requests_rejected += 1;
        });
    }

    /// Counts a wrong room code or password. Returns true if the connection must be closed, because it has guessed too often.
    pub(super) fn count_failed_guess(&self) -> bool {
        let counted = self.hub.connection(self.conn, |connection| {
            connection.failed_guesses += 1;
            connection.failed_guesses >= MAX_FAILED_GUESSES
        });
        counted.unwrap_or(false)
    }

    /// Sends a message to the connection.
    pub(super) fn reply(&mut self, message: &impl Serialize) {
        self.deliver(&[self.conn], to_json(message), None, false);
    }

    /// Sends a text message to these connections. It supersedes unsent messages with the same key. If it `is_requested`, the bytes of all
    /// receivers are charged to the source.
    pub(super) fn deliver(&mut self, to: &[ConnId], text: String, key: Option<UpdateKey>, is_requested: bool) {
        if is_requested {
            let bytes = (to.len() * text.len()) as u64;
            lock(&self.hub.requested_bytes).charge(self.now.monotonic, source_network(self.source), bytes);
        }
        self.count(|counters| counters.add_sent(to.len(), text.len()));
        match key {
            Some(key) => self.sink.send_update(to, text, key),
            None => self.sink.send(to, text),
        }
    }

    /// Counts and logs a rejected request, and closes its connection. As with [`Self::close`], the connection must have left its room.
    pub(super) fn reject_and_close(&mut self, code: CloseCode, reason: &str) {
        self.reject_with_detail(code, reason, None);
    }

    /// Like [`Self::reject_and_close`]. The log line also contains `detail`, which the client receives only with `--strict`.
    pub(super) fn reject_with_detail(&mut self, code: CloseCode, reason: &str, detail: Option<&'static str>) {
        let (reason, detail) = self.close_reason(code, reason, detail);
        if code == CloseCode::TRY_AGAIN_LATER {
            self.count_limited();
        } else {
            self.count(|counters| counters.requests_rejected += 1);
        }
        if lock(&self.hub.log_throttle).allow(self.now.monotonic) {
            warn!(target: "signaling", conn = self.conn.0, source = %self.source, code = code.get(), reason, detail, "connection rejected");
        }
        self.close(self.conn, code, reason);
    }
}

impl Caller for ConnectionContext<'_> {
    fn has_room(&mut self, to: &[ConnId]) -> bool {
        self.sink.has_room(self.now.monotonic, to)
    }

    fn take_memory(&mut self, bytes: u64) -> Option<MemoryPermit> {
        self.sink.take_memory(bytes)
    }

    /// Whether the source has requested so few bytes of states and lists that its debt is at most `max`. To be checked before a reply is built.
    fn may_request(&mut self, max: Duration) -> bool {
        lock(&self.hub.requested_bytes).debt(self.now.monotonic, source_network(self.source)) <= max
    }
}
