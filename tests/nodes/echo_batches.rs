//! What arrives as a train of datagrams leaves as the same datagrams, however they are joined on the way.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::echo::{EchoConfig, EchoServer};
use jamjam_dev::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_dev::time::Time;

/// Takes what leaves apart into single datagrams, and counts the calls.
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

/// Lets `trains` arrive together, each cut by the length of its first datagram, and returns what leaves.
fn echoed(trains: &[Vec<Vec<u8>>]) -> Wire {
    let source = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let mut echo = EchoServer::new(EchoConfig { delay: Duration::from_millis(5), ..EchoConfig::default() });
    let received_at = Time::from_millis(1);
    for train in trains {
        let bytes = train.concat();
        echo.on_datagram(
            received_at,
            &[Receive { source, dst_ip: None, received_at, contents: &bytes, segment_size: train[0].len() }],
        );
    }
    let mut wire = Wire::default();
    echo.poll_transmit(Time::from_millis(6), &mut wire);
    assert_eq!(echo.counters().buffered.get(), 0);
    assert_eq!(echo.counters().buffered_bytes.get(), 0);
    assert_eq!(echo.counters().sent.get(), trains.concat().len() as u64, "each datagram is counted once");
    wire
}

#[test]
fn neighbours_of_one_length_leave_in_one_call_and_a_shorter_one_ends_it() {
    let trains = [vec![audio(1, 500), audio(2, 500)], vec![audio(3, 500)], vec![audio(4, 100)], vec![audio(5, 500)]];
    let wire = echoed(&trains);
    assert_eq!(wire.left, trains.concat());
    assert_eq!(wire.sends, 2);
}

#[test]
fn a_train_of_short_datagrams_behind_a_long_one_stays_apart() {
    let trains = [vec![audio(1, 500)], vec![audio(2, 100), audio(3, 100), audio(4, 100)]];
    assert_eq!(echoed(&trains).left, trains.concat());
}
