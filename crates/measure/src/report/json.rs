//! The report as JSON. `--json` prints the report as one document. `--json-lines` prints one line per packet, and after these lines, the
//! report in one more line.

use serde::{Deserialize, Serialize};

use super::figures::figures;
use super::model::Report;
use super::quantities::micros;
use super::targets::{PairFigures, TargetsReport};
use crate::client::{PacketOutcome, RecordedPacket, StreamKind};
use jamjam_core::time::Time;

/// One line of `--json-lines`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum JsonLine<'a> {
    /// A packet or a copy of a packet.
    Packet(PacketLine),
    /// The report, as the last line.
    Report(&'a Report),
    /// The reports of several targets, which are one document.
    Targets {
        /// The reports, the best target first.
        targets: Vec<JsonLine<'a>>,
        /// Each target compared with the next one.
        pairs: &'a [PairFigures],
    },
}

figures! {
    /// A received datagram, or a packet without a reply. Times are relative to the start of counting, in microseconds.
    #[derive(Copy, Deserialize)]
    PacketLine from (packet, started): (RecordedPacket, Time) [
        let since_start = |time: Time| micros(time.signed_nanos_since(started));
    ] {
        stream: StreamKind = packet.stream;
        sequence: u32 = packet.sequence;
        due_us: f64 = since_start(packet.due);
        sent_us: Option<f64> = (packet.outcome != PacketOutcome::NotSent).then(|| since_start(packet.sent_at));
        returned_us: Option<f64> = packet.received_at.map(since_start);
        echo_time_us: Option<f64> = packet.received_at.map(|at| micros(at.signed_nanos_since(packet.sent_at)));
        outcome: PacketOutcome = packet.outcome;
    }
}

/// The reports of several targets.
pub fn targets(TargetsReport { targets, pairs, .. }: &TargetsReport) -> JsonLine<'_> {
    JsonLine::Targets { targets: targets.iter().map(|target| JsonLine::Report(&target.report)).collect(), pairs }
}

/// One line, ending with a line feed.
pub fn line(line: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string(line)? + "\n")
}
