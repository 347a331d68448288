//! Runs as a client would leave them, made by hand.

#![allow(dead_code, reason = "each test file uses a part of this")]

use jamjam_dev::flow::run::{AudioRun, Command, Run, StreamKind};
use jamjam_dev::stats::Stream;

pub(crate) const MS: i64 = 1_000_000;

/// A stream of which everything came back, with these round trips in nanoseconds.
pub(crate) fn stream(mut stream: Stream, round_trips: impl IntoIterator<Item = i64>) -> Stream {
    for ns in round_trips {
        stream.on_return(ns);
    }
    stream.sent = stream.returned;
    stream
}

pub(crate) fn probe(ping: Stream) -> Run {
    Run { ping: Some(ping), ..Run::new(Command::Probe, "127.0.0.1:5000", StreamKind::Ping) }
}

pub(crate) fn send(audio: AudioRun) -> Run {
    Run { audio: Some(audio), ..Run::new(Command::Send, "127.0.0.1:5000", StreamKind::Audio) }
}
