//! On request, the echo server reports to a client how many of the client's packets have arrived. The tests run in virtual time.

use std::net::SocketAddr;
use test_support::golden;
use test_support::node_driver::{MS, deliver};
use test_support::recording_sink::RecordingSink;
use test_support::stun;

use jamjam_core::echo::DropReason::BufferFull;
use jamjam_core::echo::{BufferLimits, EchoConfig, EchoServer};
use jamjam_core::node::Node;
use jamjam_core::time::Time;

fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn packet(kind: u8, sequence: u32) -> Vec<u8> {
    super::packet(kind, sequence, &[0; 12])
}

/// At `at` nanoseconds, sends a request for the counts of received packets. Returns the counts in the response.
pub(super) fn request_counts(echo: &mut EchoServer, at: u64, from: SocketAddr) -> Option<(u32, [u32; 3])> {
    let request = golden::packet("stun-loss-report-request.hex");
    deliver(echo, at, from, &request);
    let mut sink = RecordingSink::new();
    // One poll sends at most 64 replies, and there may be more than a thousand.
    for _ in 0..20 {
        echo.poll_transmit(Time::from_nanos(at), &mut sink);
    }
    let answers: Vec<Vec<u8>> =
        sink.take().into_iter().filter(|left| stun::is_response(left, &stun::transaction(&request))).collect();
    assert_eq!(answers.len(), 1, "one answer");
    assert!(answers[0].len() <= request.len());
    stun::counts_in(&answers[0])
}

#[test]
fn each_client_gets_its_own_distinct_packets_by_type() {
    let mut echo = EchoServer::new(EchoConfig::default());
    for sequence in [1, 2, 2, 5, 4] {
        deliver(&mut echo, 3_000, client(1), &packet(1, sequence));
    }
    for (kind, sequence) in [(4, 0), (5, 0), (5, 1), (5, 1), (2, 7), (3, 7), (6, 7)] {
        deliver(&mut echo, 5_000, client(1), &packet(kind, sequence));
    }
    deliver(&mut echo, 7_000, client(2), &packet(4, 0));
    assert_eq!(request_counts(&mut echo, 9_000, client(1)), Some((3, [4, 2, 1])));
    assert_eq!(request_counts(&mut echo, 9_000, client(2)), Some((7, [0, 0, 1])));
    // The server had no entry for the client.
    assert_eq!(request_counts(&mut echo, 9_000, client(3)), Some((9, [0, 0, 0])));
    // The next run from the same port has the same sequence numbers. However, its packets do not count as copies of packets of the first
    // run.
    deliver(&mut echo, 10_000, client(1), &packet(1, 1));
    deliver(&mut echo, 10_000, client(1), &packet(1, 1));
    assert_eq!(request_counts(&mut echo, 11_000, client(1)), Some((3, [5, 2, 1])));
}

#[test]
fn dropped_packets_are_counted_as_received() {
    let buffer_limits = BufferLimits { total: Some(300), per_client: None };
    let mut echo = EchoServer::new(EchoConfig { buffer_limits, ..EchoConfig::default() });
    for sequence in 0..10 {
        deliver(&mut echo, 0, client(1), &packet(1, sequence));
    }
    assert_eq!(echo.counters().dropped(BufferFull).get(), 9);
    assert_eq!(request_counts(&mut echo, 1, client(1)), Some((0, [10, 0, 0])));
}

#[test]
fn client_gets_counts_ten_times_a_second_and_then_its_address_only() {
    let mut echo = EchoServer::new(EchoConfig::default());
    for time in 0..10 {
        assert!(request_counts(&mut echo, time * MS, client(1)).is_some(), "{time}");
    }
    assert_eq!(request_counts(&mut echo, 10 * MS, client(1)), None);
    assert!(request_counts(&mut echo, 10 * MS, client(2)).is_some(), "another client");
    assert_eq!(request_counts(&mut echo, 999 * MS, client(1)), None);
    assert!(request_counts(&mut echo, 1_000 * MS, client(1)).is_some());
}

#[test]
fn beyond_1024_clients_counts_need_a_silent_client() {
    let mut echo = EchoServer::new(EchoConfig::default());
    for port in 1..=1_024 {
        deliver(&mut echo, 0, client(port), &packet(4, 0));
    }
    assert_eq!(request_counts(&mut echo, MS, client(5_000)), None);
    assert_eq!(echo.counters().untracked.get(), 1);
    assert_eq!(request_counts(&mut echo, 2 * MS, client(7)), Some((0, [0, 0, 1])));
    // No source log is active, so there is no deadline for a sweep. The next datagram triggers the sweep.
    assert_eq!(echo.next_deadline(), None);
    deliver(&mut echo, 11_000 * MS, client(5_000), &packet(4, 0));
    echo.poll_transmit(Time::from_millis(11_000), &mut RecordingSink::new());
    assert!(request_counts(&mut echo, 11_001 * MS, client(5_000)).is_some());
    // If the server removes the entry of a client, the counts restart. The client detects this from their new start time.
    deliver(&mut echo, 11_002 * MS, client(7), &packet(4, 0));
    assert_eq!(request_counts(&mut echo, 11_003 * MS, client(7)), Some((11_002_000, [0, 0, 1])));
}
