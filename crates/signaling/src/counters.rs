//! Counters and gauges of each dialect, with the help texts of `/metrics`.

use super::dialect::Dialect;

/// The label of connections that have not selected a dialect.
pub const UNDECIDED: &str = "undecided";

jamjam_core::counters! {
/// Counters and gauges of one dialect.
DialectCounters {
    /// Open WebSocket connections.
    Gauge connections,
    /// Open rooms.
    Gauge rooms,
    /// Connections that are in a room.
    Gauge members,
    /// Messages of broadcast rooms that wait until their delay ends.
    Gauge delayed_messages,
    /// Bytes queued for clients that read slowly.
    Gauge queued_bytes,
    /// Connections opened, by initial dialect (`undecided` if the URL selects none).
    Counter connections_opened,
    /// Messages received.
    Counter messages_received,
    /// Bytes received in text messages.
    Counter received_bytes,
    /// Messages sent, counted once per receiver.
    Counter messages_sent,
    /// Bytes sent in text messages, counted once per receiver.
    Counter sent_bytes,
    /// Messages that had no effect, or with `--strict` were incomplete. The sender received an error only with `--strict`.
    Counter messages_ignored,
    /// Messages read later, because the messages of their address have cost too much.
    Counter messages_postponed,
    /// Control surface events produced for event listeners.
    Counter control_surface_events,
    /// Room codes rejected without a check because of too many wrong codes.
    Counter codes_not_checked,
    /// New control surface parameters rejected because the room or the address has its maximum number.
    Counter parameters_rejected,
    /// Rejected messages and requests. Reasons are limits, room handlers, missing or invalid tokens, and invalid content. Requests for tokens are `undecided`.
    Counter requests_rejected,
    /// Rejected messages and requests that exceeded a limit. They are also counted in `requests_rejected`.
    Counter requests_limited,
    /// Connections closed because they exceeded the message rate.
    Counter closed_message_rate,
    /// Connections closed because they did not answer a ping in time.
    Counter closed_heartbeat_timeout,
    /// Connections closed because they sent no message within the idle time-out.
    Counter closed_idle_timeout,
    /// Connections closed because they reached the maximum connection age.
    Counter closed_max_age,
    /// Connections closed because their token was missing or invalid.
    Counter closed_invalid_token,
    /// Connections that the operator closed on the console.
    Counter closed_by_operator,
    /// Rooms that the operator closed on the console.
    Counter rooms_closed_by_operator,
    /// Connections closed because they sent too many pings or fragments.
    Counter closed_frame_rate,
    /// Connections closed because a message was too long.
    Counter closed_message_too_big,
    /// Connections closed because a text message was not UTF-8.
    Counter closed_invalid_utf8,
    /// Connections closed because they violated the WebSocket protocol.
    Counter closed_protocol_error,
    /// Connections closed because they read too slowly.
    Counter closed_slow_reader,
    /// Messages dropped because the receiving connection read too slowly and was therefore closed.
    Counter messages_dropped_slow_reader,
    /// Connections closed because their messages exceeded the memory budget.
    Counter closed_for_memory,
    /// Parameter updates replaced by a newer value before a slow client read them.
    Counter updates_coalesced,
}
}

impl DialectCounters {
    /// Counts a rejected request.
    pub(super) fn add_rejected(&mut self, is_limited: bool) {
        self.requests_rejected += 1;
        self.requests_limited += u64::from(is_limited);
    }

    /// Counts one message of `bytes` bytes that is sent to `receivers` connections.
    pub(super) fn add_sent(&mut self, receivers: usize, bytes: usize) {
        self.messages_sent += receivers as u64;
        self.sent_bytes += (receivers * bytes) as u64;
    }
}

/// The counters of each dialect, and of undecided connections, by [`counters_index`].
pub(super) type CountersByDialect = [DialectCounters; Dialect::ALL.len() + 1];

/// The place of a dialect in [`CountersByDialect`]; `None` stands for undecided connections.
pub(super) fn counters_index(dialect: Option<Dialect>) -> usize {
    dialect.map_or(0, |dialect| dialect as usize + 1)
}

/// The name of a dialect in `/health` and `/metrics`.
pub(super) fn counters_name(dialect: Option<Dialect>) -> &'static str {
    dialect.map_or(UNDECIDED, Dialect::name)
}
