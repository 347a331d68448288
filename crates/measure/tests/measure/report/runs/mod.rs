//! Handwritten run results.

pub(crate) mod link;
pub(crate) mod machine;
pub(crate) mod moqt;
pub(crate) mod websocket;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, RunKind, RunResults, StreamKind};

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
