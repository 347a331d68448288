//! Handwritten run results.

pub(crate) mod link;
pub(crate) mod machine;
pub(crate) mod moqt;
pub(crate) mod websocket;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, RunKind, RunResults, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::time_series::IntervalFigures;
use serde_json::Value;

pub(crate) const MS: i64 = 1_000_000;

/// A stream whose packets all returned, with these round-trip times in nanoseconds.
pub(crate) fn stream(mut stream: StreamStats, round_trips: impl IntoIterator<Item = i64>) -> StreamStats {
    for ns in round_trips {
        stream.on_return(Time::ZERO, ns);
    }
    stream.sent = stream.returned;
    stream
}

pub(crate) fn probe(ping: StreamStats) -> RunResults {
    RunResults { ping: Some(ping), ..RunResults::new(RunKind::Probe, "127.0.0.1:5000", StreamKind::Ping) }
}

pub(crate) fn send(audio: AudioResults) -> RunResults {
    RunResults { audio: Some(audio), ..RunResults::new(RunKind::Send, "127.0.0.1:5000", StreamKind::Audio) }
}

/// A stream of 100 packets without a reply.
pub(crate) fn all_lost() -> StreamStats {
    StreamStats { sent: 100, lost: 100, ..StreamStats::new() }
}

/// The report of a run without limits.
pub(crate) fn report(run: &RunResults) -> Report {
    Report::new(run, &Limits::default())
}

pub(crate) fn document(run: &RunResults) -> Value {
    serde_json::to_value(report(run)).expect("numbers and texts")
}

/// An interval of a time series in which `returned` of the sent packets returned after `rtt_us`, and no other figure is known.
pub(crate) fn interval(start_s: u64, sent: u64, returned: u64, rtt_us: Option<f64>) -> IntervalFigures {
    IntervalFigures {
        start_s,
        sent,
        returned,
        lost: sent - returned,
        lost_upstream: None,
        lost_downstream: None,
        damaged: 0,
        in_flight: 0,
        not_sent: 0,
        dropped_by_hosts: 0,
        burst_max: 0,
        rtt_min_us: rtt_us,
        rtt_p50_us: rtt_us,
        rtt_p99_us: None,
        rtt_max_us: rtt_us,
        jitter_mean_us: rtt_us,
    }
}

/// All texts between `start` and `end`.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(between, _)| between).collect()
}
