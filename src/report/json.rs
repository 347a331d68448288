//! The report as JSON. `--json` prints the report as one document. `--json-lines` prints one line per packet, and after these lines, the
//! report in one more line.

use serde::Serialize;

use super::model::Report;
use super::quantities::micros;
use crate::client::PacketOutcome;
use crate::client::StreamKind;

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PacketLine {
    /// The stream of the packet.
    pub stream: StreamKind,
    /// AUDIO and KEEPALIVE: the sequence of the header. `LATENCY_PING`: `ping_sequence` of the payload.
    pub sequence: u32,
    /// When the packet was sent, in microseconds.
    pub sent_us: f64,
    /// When this copy arrived, in microseconds.
    pub returned_us: Option<f64>,
    /// `returned_us` minus `sent_us`; for AUDIO, this includes the server delay.
    pub echo_time_us: Option<f64>,
    /// The outcome of the packet.
    pub outcome: PacketOutcome,
}

impl PacketLine {
    /// Times in nanoseconds since the start of counting.
    pub fn new(
        stream: StreamKind,
        sequence: u32,
        sent_ns: i64,
        returned_ns: Option<i64>,
        outcome: PacketOutcome,
    ) -> Self {
        Self {
            stream,
            sequence,
            sent_us: micros(sent_ns),
            returned_us: returned_ns.map(micros),
            echo_time_us: returned_ns.map(|returned| micros(returned - sent_ns)),
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
