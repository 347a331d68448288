//! The report as JSON. `--json` prints the report as one document. `--json-lines` prints one line per packet, and after these lines, the
//! report in one more line.

use serde::{Deserialize, Serialize};

use super::model::Report;
use super::quantities::micros;
use crate::client::{PacketOutcome, RecordedPacket, StreamKind};
use crate::time::Time;

/// One line of `--json-lines`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum JsonLine {
    /// A packet or a copy of a packet.
    Packet(PacketLine),
    /// The report, as the last line.
    Report(Box<Report>),
}

/// A received datagram, or a packet without a reply. Times are relative to the start of counting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PacketLine {
    /// The stream of the packet.
    pub stream: StreamKind,
    /// AUDIO and KEEPALIVE: the sequence of the header. `LATENCY_PING`: `ping_sequence` of the payload.
    pub sequence: u32,
    /// When the packet was due, in microseconds.
    pub due_us: f64,
    /// When the packet was sent, in microseconds; `None` if it was not sent.
    pub sent_us: Option<f64>,
    /// When this copy arrived, in microseconds.
    pub returned_us: Option<f64>,
    /// `returned_us` minus `sent_us`; for AUDIO, this includes the server delay.
    pub echo_time_us: Option<f64>,
    /// The outcome of the packet.
    pub outcome: PacketOutcome,
}

impl PacketLine {
    /// The line of a packet. Times are relative to `started`, the start of counting.
    pub fn new(packet: &RecordedPacket, started: Time) -> Self {
        let RecordedPacket { stream, sequence, due, sent_at, received_at, outcome } = *packet;
        let since = |time: Time| time.signed_nanos_since(started);
        Self {
            stream,
            sequence,
            due_us: micros(since(due)),
            sent_us: (outcome != PacketOutcome::NotSent).then(|| micros(since(sent_at))),
            returned_us: received_at.map(|at| micros(since(at))),
            echo_time_us: received_at.map(|at| micros(at.signed_nanos_since(sent_at))),
            outcome,
        }
    }
}

/// The report as one indented document, ending with a line feed.
pub fn document(report: &Report) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&JsonLine::Report(Box::new(report.clone())))?;
    text.push('\n');
    Ok(text)
}

/// One line, ending with a line feed.
pub fn line(line: &JsonLine) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    Ok(text)
}
