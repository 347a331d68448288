//! Provides configuration, input and replies for client state machines.

use std::net::{IpAddr, SocketAddr};

use jamjam_core::node::{Node, Receive};
use jamjam_core::time::Time;

use super::recording_sink::RecordingSink;

pub const MS: u64 = 1_000_000;

pub fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 5_000))
}

/// Delivers one datagram that arrives at `at` nanoseconds and is read immediately.
pub fn deliver(node: &mut impl Node, at: u64, source: SocketAddr, contents: &[u8]) {
    deliver_batch(node, at, (source, None), contents, contents.len().max(1));
}

/// Delivers the datagrams of a batch, which arrive from a source at a destination address, if it is known.
pub fn deliver_batch(
    node: &mut impl Node,
    at: u64,
    (source, dst_ip): (SocketAddr, Option<IpAddr>),
    contents: &[u8],
    segment_size: usize,
) {
    let received_at = Time::from_nanos(at);
    node.on_datagram(received_at, &[Receive { socket: 0, source, dst_ip, received_at, contents, segment_size }]);
}

/// Returns the datagrams that the node sends at `now` nanoseconds.
pub fn poll(node: &mut impl Node, now: u64) -> Vec<Vec<u8>> {
    let (mut sink, now) = (RecordingSink::new(), Time::from_nanos(now));
    let mut datagrams = Vec::new();
    // Polls repeatedly like the driver. A node may leave some of the due packets for the next call.
    loop {
        node.poll_transmit(now, &mut sink);
        let part = sink.take();
        let more = !part.is_empty() && node.next_deadline().is_some_and(|deadline| deadline <= now);
        datagrams.extend(part);
        if !more {
            return datagrams;
        }
    }
}

pub fn deadline(node: &impl Node) -> Option<u64> {
    node.next_deadline().map(Time::as_nanos)
}

/// A header of version 1 without flags.
pub fn header(kind: u8, sequence: u32, timestamp: u32) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &timestamp.to_be_bytes(), &[0, 0]].concat()
}

/// The LATENCY_PONG to a LATENCY_PING.
pub fn pong(ping: &[u8]) -> Vec<u8> {
    let mut answer = ping.to_vec();
    answer[1] = 6;
    answer
}
