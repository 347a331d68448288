//! The jitter-buffer table: the packets that a receiver would lose with jitter buffers of different depths, and the delay of each depth.

use super::quantities::{RoundTrip, thousandths};
use crate::client::RunResults;
use crate::document::column::figures;
use jamjam_core::stats::StreamStats;
use jamjam_core::wire::SAMPLE_RATE;

/// Depths of the table, in packets of 128 samples. The jamjam presets have depths of 0, 1, 4 and 8 packets, and a ring of 38 packets.
const DEPTHS: [u32; 11] = [0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 38];

/// Samples per channel in a packet of the jamjam preset "balanced".
const FRAME_SAMPLES: u32 = 128;

/// With the recommended depth, at most this share of the packets is late.
const MAX_RECOMMENDED_LATE_RATIO: f64 = 0.001;

/// Minimum number of returned packets for a recommendation.
pub(super) const MIN_PACKETS: u64 = 100;

figures! {
    /// What a receiver would lose of the evaluated stream, by the depth of its jitter buffer.
    JitterBufferTable from (run, stream): (&RunResults, &StreamStats) [
        let depths = DEPTHS.map(|packets| BufferDepthFigures::from((run, stream, packets)));
        let max_late = MAX_RECOMMENDED_LATE_RATIO * stream.settled() as f64;
        let has_enough_packets = stream.returned >= MIN_PACKETS;
        let recommended = depths.iter().find(|row| row.late as f64 <= max_late).filter(|_| has_enough_packets);
    ] {
        /// Smallest depth, in packets, with which at most 0.1 % of the settled packets are `late`; null if there is none, or if fewer than 100
        /// packets returned.
        recommended_packets: Option<u32> = recommended.map(|row| row.depth_packets);
        /// Whether there are enough packets.
        #[serde(skip)]
        @skip is_reliable: bool = has_enough_packets;
        /// One object for each depth: multiples of a packet of 128 samples at 48 kHz, from 0 to 38 packets.
        depths: Vec<BufferDepthFigures> = depths.into();
    }

    /// One depth of a jitter buffer.
    BufferDepthFigures from (run, stream, packets): (&RunResults, &StreamStats, u32) [
        // The server's delay does not change the differences between delays, so it need not be known.
        let late = stream.rtt.count_above_min(duration_ns(packets));
        // The share of the packets that did not return intact.
        let observed = stream.observed();
        let unreturned = (observed.lost + observed.damaged) as f64 / observed.settled.max(1) as f64;
        let min_rtt_ms = RoundTrip::of(run, run.evaluated_stream).and_then(|rtt| rtt.min()).map(|ns| ns as f64 / 1e6);
    ] {
        /// Depth in packets of 128 samples.
        depth_packets: u32 = packets;
        /// Depth in milliseconds; this is also the delay that the buffer adds.
        @subject depth_ms: f64 = thousandths(duration_ns(packets) as f64 / 1e6);
        /// Returned packets whose round trip exceeds the smallest round trip of the run by more than the depth. This assumes that all delay
        /// variation occurs in one direction, the worst case.
        late: u64 = late;
        /// u + (1 - u) * `late` / `returned`, where u is the share of lost and damaged packets, of the same packets as for `loss_ratio`.
        late_or_lost_ratio: f64 = unreturned + (1.0 - unreturned) * late as f64 / stream.rtt.count() as f64;
        /// Half the smallest round trip, plus the depth, plus one packet of 2.667 ms; null if the server delay is unknown.
        one_way_ms: Option<f64> = min_rtt_ms.map(|min| thousandths(min / 2.0 + duration_ns(packets + 1) as f64 / 1e6));
    }
}

impl JitterBufferTable {
    /// The table of the evaluated stream. `None` without a round trip, and for signaling servers, which carry no audio.
    pub(super) fn new(run: &RunResults) -> Option<Self> {
        let stream = run.evaluated().filter(|stream| stream.rtt.count() > 0 && run.websocket.is_none())?;
        Some((run, stream).into())
    }

    /// The recommended depth, if there is one.
    pub(super) fn recommended(&self) -> Option<&BufferDepthFigures> {
        self.depths.iter().find(|row| Some(row.depth_packets) == self.recommended_packets)
    }
}

/// The duration of `packets` packets, in nanoseconds.
fn duration_ns(packets: u32) -> i64 {
    i64::from(packets) * i64::from(FRAME_SAMPLES) * 1_000_000_000 / i64::from(SAMPLE_RATE)
}
