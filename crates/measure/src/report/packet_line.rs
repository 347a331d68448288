//! A line of `--json-lines`, and of a run record.

use serde::Deserialize;

use super::quantities::micros;
use crate::client::{PacketOutcome, RecordedPacket, StreamKind};
use crate::document::column::figures;
use jamjam_core::time::Time;

figures! {
    /// A received datagram, or a packet without a reply. Times are relative to the start of counting, in microseconds.
    #[derive(Copy, Deserialize)]
    PacketLine from (packet, started): (RecordedPacket, Time) [
        let since_start = |time: Time| micros(time.signed_nanos_since(started));
    ] {
        /// Stream of the packet.
        stream: StreamKind = packet.stream;
        /// Header sequence (audio, keepalive), `ping_sequence` (ping over UDP), message number (WebSocket) or frame number (MOQT).
        sequence: u32 = packet.sequence;
        /// Scheduled send time, from the first due time.
        due_us: f64 = since_start(packet.due);
        /// Send time on the same scale; null if the packet was not sent.
        sent_us: Option<f64> = (packet.outcome != PacketOutcome::NotSent).then(|| since_start(packet.sent_at));
        /// Arrival time on the same scale; null if no copy arrived.
        returned_us: Option<f64> = packet.received_at.map(since_start);
        /// `returned_us` - `sent_us`, including the server delay.
        echo_time_us: Option<f64> = packet.received_at.map(|at| micros(at.signed_nanos_since(packet.sent_at)));
        /// Outcome of the packet. Each matching datagram is one line, so a packet may have several.
        outcome: PacketOutcome = packet.outcome;
    }
}
