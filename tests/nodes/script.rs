//! What a client is told in these tests, and what comes back to it.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::flow::Terms;
use jamjam_dev::flow::run::StreamKind;
use jamjam_dev::node::{Datagram, Node};
use jamjam_dev::time::Time;

use super::tape::Tape;

pub(crate) const MS: u64 = 1_000_000;

/// The other side.
pub(crate) fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 5_000))
}

/// Two seconds of time-out, answers expected, nothing else said.
pub(crate) fn terms(judged: StreamKind) -> Terms {
    Terms {
        peer: peer(),
        judged,
        hold: None,
        first_echo: Duration::from_secs(3),
        timeout: Duration::from_secs(2),
        late_after: None,
        answers_expected: true,
        wait_for: None,
        ask: None,
    }
}

/// One datagram that arrives at `at` nanoseconds and is read at once.
pub(crate) fn hear(node: &mut impl Node, at: u64, from: SocketAddr, bytes: &[u8]) {
    let at = Time::from_nanos(at);
    node.on_datagram(at, &[Datagram { from, to: None, at, bytes, stride: bytes.len() }]);
}

/// What leaves at `now` nanoseconds.
pub(crate) fn poll(node: &mut impl Node, now: u64) -> Vec<Vec<u8>> {
    let (mut tape, now) = (Tape::new(), Time::from_nanos(now));
    let mut left = Vec::new();
    // As the driver does: a node may leave a part of what is due for the next call.
    loop {
        node.poll_transmit(now, &mut tape);
        let part = tape.take();
        let more = !part.is_empty() && node.next_deadline().is_some_and(|deadline| deadline <= now);
        left.extend(part);
        if !more {
            return left;
        }
    }
}

pub(crate) fn deadline(node: &impl Node) -> Option<u64> {
    node.next_deadline().map(Time::as_nanos)
}

/// A header of version 1 without flags.
pub(crate) fn header(kind: u8, sequence: u32, timestamp: u32) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &timestamp.to_be_bytes(), &[0, 0]].concat()
}

/// The LATENCY_PONG to a LATENCY_PING.
pub(crate) fn pong(ping: &[u8]) -> Vec<u8> {
    let mut answer = ping.to_vec();
    answer[1] = 6;
    answer
}
