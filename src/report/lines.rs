//! The report as it streams: one JSON document a line, a line per datagram and the report as the last.

use serde::Serialize;

use super::document::Report;
use super::numbers::micros;
use crate::flow::Fate;
use crate::flow::run::StreamKind;

/// One line of `--json-lines`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    /// What became of a packet or one of its copies.
    Packet(Packet),
    /// The end.
    Report(Box<Report>),
}

/// One datagram that came back, or one packet of which none did. Times count from the start of the run's counting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Packet {
    /// The stream it belongs to.
    pub stream: StreamKind,
    /// AUDIO and KEEPALIVE: the header's sequence. `LATENCY_PING`: the payload's `ping_sequence`.
    pub sequence: u32,
    /// When the packet left, in microseconds.
    pub sent_us: f64,
    /// When this copy arrived, in microseconds.
    pub returned_us: Option<f64>,
    /// From leaving to this arrival, in microseconds; AUDIO's hold is part of it.
    pub round_trip_us: Option<f64>,
    /// What became of it.
    pub fate: Fate,
}

impl Packet {
    /// A line from times in nanoseconds since the start of counting.
    pub fn new(stream: StreamKind, sequence: u32, sent_ns: i64, returned_ns: Option<i64>, fate: Fate) -> Self {
        Self {
            stream,
            sequence,
            sent_us: micros(sent_ns),
            returned_us: returned_ns.map(micros),
            round_trip_us: returned_ns.map(|returned| micros(returned - sent_ns)),
            fate,
        }
    }
}
