//! The jitter-buffer table: the packets that a receiver would lose with jitter buffers of different depths, and the delay of each depth.

use serde::Serialize;

use super::quantities::{RoundTrip, RunProtocol, format_count, format_share, thousandths};
use crate::client::{RunResults, StreamKind};

/// Depths of the table, in packets of 128 samples. The jamjam presets have depths of 0, 1, 4 and 8 packets, and a ring of 38 packets.
const DEPTHS: [u32; 11] = [0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 38];

/// Samples per channel in a packet of the jamjam preset "balanced".
const FRAME_SAMPLES: u32 = 128;

/// Sample rate in Hz.
const SAMPLE_RATE: u32 = 48_000;

/// With the recommended depth, at most this share of the packets is late.
const MAX_RECOMMENDED_LATE_RATIO: f64 = 0.001;

/// Minimum number of returned packets for an interpretation.
const MIN_PACKETS: u64 = 100;

/// The jitter-buffer table of the evaluated stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
pub struct JitterBufferTable {
    pub recommended_packets: Option<u32>,
    pub depths: Vec<BufferDepthFigures>,
    /// Packets with a known outcome.
    #[serde(skip)]
    settled: u64,
    /// Share of the packets that did not return intact, 0 to 1.
    #[serde(skip)]
    unreturned_ratio: f64,
    /// The assumptions behind the times of the table.
    #[serde(skip)]
    pub(super) assumptions: &'static str,
    /// Whether enough packets returned for an interpretation.
    #[serde(skip)]
    has_enough_packets: bool,
}

/// One depth of a jitter buffer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
pub struct BufferDepthFigures {
    pub depth_packets: u32,
    pub depth_ms: f64,
    pub late: u64,
    pub late_or_lost_ratio: f64,
    pub one_way_ms: Option<f64>,
}

impl JitterBufferTable {
    /// The table of the evaluated stream. `None` without a round trip, and for signaling servers, which carry no audio.
    pub(super) fn new(run: &RunResults) -> Option<Self> {
        let stream =
            run.stream(run.evaluated_stream).filter(|stream| stream.rtt.count() > 0 && run.websocket.is_none())?;
        // The server's delay does not change the differences between delays, so it need not be known.
        let echo_times = RoundTrip::echo_time(stream);
        let min_rtt_ms = RoundTrip::of(run, run.evaluated_stream).and_then(|rtt| rtt.min()).map(|ns| ns as f64 / 1e6);
        let observed = stream.observed();
        let unreturned_ratio = (observed.lost + observed.damaged) as f64 / observed.settled.max(1) as f64;
        let depths: Vec<BufferDepthFigures> = DEPTHS
            .into_iter()
            .map(|packets| {
                let depth_ns = duration_ns(packets);
                let late = echo_times.count_above_min(depth_ns);
                BufferDepthFigures {
                    depth_packets: packets,
                    depth_ms: thousandths(depth_ns as f64 / 1e6),
                    late,
                    late_or_lost_ratio: unreturned_ratio
                        + (1.0 - unreturned_ratio) * late as f64 / stream.rtt.count() as f64,
                    one_way_ms: min_rtt_ms.map(|min| thousandths(min / 2.0 + duration_ns(packets + 1) as f64 / 1e6)),
                }
            })
            .collect();
        let is_enough =
            |row: &&BufferDepthFigures| row.late as f64 <= MAX_RECOMMENDED_LATE_RATIO * stream.settled() as f64;
        let has_enough_packets = stream.returned >= MIN_PACKETS;
        let recommended = depths.iter().find(is_enough).filter(|_| has_enough_packets);
        let recommended_packets = recommended.map(|row| row.depth_packets);
        let assumptions = assumptions(run);
        let settled = stream.settled();
        Some(Self { recommended_packets, depths, settled, unreturned_ratio, assumptions, has_enough_packets })
    }

    /// The recommended depth in milliseconds. `None` if there are too few packets, or if no depth of the table suffices.
    pub(super) fn recommended_ms(&self) -> Option<f64> {
        self.recommended_packets.map(|packets| duration_ns(packets) as f64 / 1e6)
    }

    /// Whether there are enough packets for an interpretation, and no depth of the table suffices.
    pub(super) fn none_suffices(&self) -> bool {
        self.has_enough_packets && self.recommended_packets.is_none()
    }

    /// The meaning of the table in one sentence, without its period. Late and lost packets are separate, because no buffer avoids loss.
    pub(super) fn interpretation(&self) -> Option<String> {
        let recommended = self.depths.iter().find(|row| Some(row.depth_packets) == self.recommended_packets);
        let row = recommended.or(self.depths.last()).filter(|_| self.has_enough_packets)?;
        let late = format_share(row.late as f64 / self.settled.max(1) as f64);
        let packets = if self.unreturned_ratio > 0.0 {
            let lost = format_share(self.unreturned_ratio);
            format!("{late} of the packets would be late, and {lost} are lost with any buffer")
        } else {
            format!("{late} of the packets would be late or lost")
        };
        let delay = row.one_way_ms.map_or_else(String::new, |ms| format!("; about {ms:.0} ms one way"));
        let depth = format!("{:.1} ms", row.depth_ms);
        Some(match (row.depth_packets, recommended) {
            (0, Some(_)) => format!("Without a jitter buffer, {packets}{delay}"),
            (count, Some(_)) => {
                format!("With a {depth} jitter buffer ({}), {packets}{delay}", format_count(count.into(), "packet"))
            }
            (_, None) => format!("No jitter buffer up to {depth} suffices: {packets}"),
        })
    }
}

/// The assumptions behind the times of the table of `run`.
fn assumptions(run: &RunResults) -> &'static str {
    let is_delayed = run.evaluated_stream == StreamKind::Audio && run.server_delay().effective_ns() != Some(0);
    match (is_delayed, RunProtocol::of_run(run)) {
        (true, _) => {
            "assuming a symmetric path, 128-sample packets and 48 kHz; server delay and device latency not included"
        }
        // The server answers LATENCY_PING and KEEPALIVE without delay.
        (false, RunProtocol::Udp) if run.evaluated_stream != StreamKind::Audio => {
            "assuming a symmetric path, 128-sample packets and 48 kHz; device latency not included"
        }
        (false, _) => {
            "assuming a symmetric path, a server without delay, 128-sample packets and 48 kHz; device latency not included"
        }
    }
}

/// The duration of `packets` packets, in nanoseconds.
fn duration_ns(packets: u32) -> i64 {
    i64::from(packets) * i64::from(FRAME_SAMPLES) * 1_000_000_000 / i64::from(SAMPLE_RATE)
}
