//! The echo server returns each datagram of a received batch unchanged. The grouping of the datagrams into send calls may differ.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{EchoConfig, EchoServer};
use jamjam_core::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_core::time::Time;

/// Splits sent batches into single datagrams, and counts the calls.
#[derive(Default)]
struct Wire {
    left: Vec<Vec<u8>>,
    sends: usize,
}

impl TransmitSink for Wire {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        self.left.extend(transmit.contents.chunks(transmit.segment_size).map(<[u8]>::to_vec));
        self.sends += 1;
        SendStatus::Sent
    }

    fn max_segments(&self, _: usize) -> usize {
        64
    }
}

/// An AUDIO packet of `len` bytes.
fn audio(sequence: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![1, 1, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0];
    packet.resize(len, sequence);
    packet
}

/// Delivers each of `batches` as one buffer and returns the sent datagrams. The segment size of a buffer is the length of its first
/// datagram.
fn echoed(batches: &[Vec<Vec<u8>>]) -> Wire {
    let source = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let mut echo = EchoServer::new(EchoConfig { delay: Duration::from_millis(5), ..EchoConfig::default() });
    let received_at = Time::from_millis(1);
    for batch in batches {
        let bytes = batch.concat();
        echo.on_datagram(
            received_at,
            &[Receive { source, dst_ip: None, received_at, contents: &bytes, segment_size: batch[0].len() }],
        );
    }
    let mut wire = Wire::default();
    echo.poll_transmit(Time::from_millis(6), &mut wire);
    assert_eq!(echo.counters().buffered.get(), 0);
    assert_eq!(echo.counters().buffered_bytes.get(), 0);
    assert_eq!(echo.counters().sent.get(), batches.concat().len() as u64, "each datagram is counted once");
    wire
}

#[test]
fn consecutive_datagrams_of_one_length_leave_in_one_send_call() {
    let batches = [vec![audio(1, 500), audio(2, 500)], vec![audio(3, 500)], vec![audio(4, 100)], vec![audio(5, 500)]];
    let wire = echoed(&batches);
    assert_eq!(wire.left, batches.concat());
    assert_eq!(wire.sends, 2);
}

#[test]
fn batch_of_short_datagrams_after_a_long_one_stays_separate() {
    let batches = [vec![audio(1, 500)], vec![audio(2, 100), audio(3, 100), audio(4, 100)]];
    assert_eq!(echoed(&batches).left, batches.concat());
}
