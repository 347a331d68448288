//! The open connections, and the part of each one's state that is the same for all dialects.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use super::device::DeviceId;
use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::limits::SignalingLimits;
use super::route::Route;
use super::timers::TimerKey;
use jamjam_core::address::source_network;
use jamjam_core::log_throttle::LogThrottle;
use jamjam_core::rate_limit::Gcra;
use jamjam_core::time::Time;

/// A message counts as one unit against the rate limit, and as one more for each full block of this many bytes.
const BYTES_PER_RATE_UNIT: usize = 16 << 10;

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

/// A connection.
#[allow(clippy::struct_excessive_bools, reason = "the four facts are independent")]
pub(super) struct ConnectionState {
    pub(super) source: IpAddr,
    /// The server's address at which the connection arrived.
    pub(super) local_ip: Ipv4Addr,
    /// `None` until the first message selects the dialect.
    pub(super) dialect: Option<Dialect>,
    /// Whether the URL selected the dialect. In the jamjam dialect, it does so only for newer clients.
    pub(super) is_dialect_in_url: bool,
    /// The device that a newer jamjam client has proven.
    pub(super) device: Option<DeviceId>,
    /// Whether the connection is closed, and counted only until it has left its room.
    pub(super) is_leaving: bool,
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
    pub(super) failed_guesses: u16,
    /// The timer of the next check.
    pub(super) check: Option<TimerKey>,
    /// Time of the last message; before the first message, the connect time.
    pub(super) last_message: Time,
    pub(super) connected_at: Time,
}

const _: () = assert!(size_of::<ConnectionState>() <= 112, "the state of an idle connection is small");

impl ConnectionState {
    pub(super) fn new((source, local_ip): (IpAddr, Ipv4Addr), route: &Route, at: Time) -> Self {
        let dialect = route.dialect();
        let device = if let Route::NewerJamjam(device) = route { device.clone() } else { None };
        Self {
            source,
            local_ip,
            dialect,
            is_dialect_in_url: dialect.is_some(),
            device,
            is_leaving: false,
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
