//! An endless run uses constant memory. This test has its own program, because it counts the allocations of the whole process.

use std::alloc::System;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::client::{ClientNode, ProbeConfig, ProbeWorkload, RunConfig, StreamKind};
use jamjam_dev::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_dev::time::Time;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Stores the last datagram.
struct Last(Vec<u8>);

impl TransmitSink for Last {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        self.0.clear();
        self.0.extend_from_slice(transmit.contents);
        SendStatus::Sent
    }

    fn max_segments(&self, _: usize) -> usize {
        1
    }
}

#[test]
fn memory_stays_constant_in_an_endless_run() {
    let peer = SocketAddr::from(([192, 0, 2, 2], 5_000));
    let config = RunConfig {
        peer,
        evaluated_stream: StreamKind::Ping,
        server_delay: None,
        first_echo_timeout: Duration::from_secs(3),
        timeout: Duration::from_secs(2),
        replies_expected: true,
        wait_for: None,
        loss_report_nonce: None,
        loss_direction: false,
    };
    let interval = Duration::from_millis(1);
    let questions = ProbeConfig { stream_kind: StreamKind::Ping, count: None, interval, payload_len: 0 };
    let mut node = ClientNode::new(config, ProbeWorkload::new(questions), Box::new(()));
    let mut sink = Last(Vec::with_capacity(64));
    let mut ping = |n: u64| {
        let now = Time::from_millis(n);
        node.poll_transmit(now, &mut sink);
        // Every fourth ping is lost. The other pings return after 500 to 500.9 µs.
        if !n.is_multiple_of(4) {
            sink.0[1] = 6;
            let received_at = now + Duration::from_nanos(500_000 + n % 10 * 100);
            node.on_datagram(
                received_at,
                &[Receive { source: peer, dst_ip: None, received_at, contents: &sink.0, segment_size: 24 }],
            );
        }
    };
    // After 600 s and after 1,200 s, the intervals of the history are merged in pairs. Both times, 300 intervals remain.
    (0..600_001).for_each(&mut ping);
    let region = Region::new(ALLOCATOR);
    (600_001..1_200_001).for_each(&mut ping);
    let change = region.change();
    // The amount of allocated memory has not grown.
    let more = change.bytes_allocated as i64 - change.bytes_deallocated as i64 + change.bytes_reallocated as i64;
    assert!(more <= 0, "{more} bytes more after 600,000 pings");

    let run = node.into_results("", Some(Time::from_millis(1_200_001)), &mut ());
    let stream = run.ping.expect("pings");
    // Of the pings 0 to 1,200,000, every fourth is lost: 300,001.
    assert_eq!((stream.sent, stream.returned), (1_200_001, 900_000));
    // Pings sent after 1,198,000.5 ms have not timed out yet. Of these pings, 500 did not return: every fourth ping from 1,198,004 to
    // 1,200,000 ms.
    assert_eq!((stream.lost, stream.in_flight), (299_501, 500));
    assert_eq!((stream.min_rtt(), stream.rtt.max()), (Some(500_000), Some(500_900)));
    // Each loss is isolated. Between two losses, three consecutive pings return. They form two pairs of adjacent pings. The round trip
    // decreases by at most 900 ns, for example from ping 9 to 10.
    assert_eq!((stream.loss_bursts.lengths[0], stream.loss_bursts.longest), (299_501, 1));
    let ipdv = (stream.ipdv.magnitudes.count(), stream.ipdv.min(), stream.ipdv.max());
    assert_eq!(ipdv, (600_000, Some(-900), Some(100)));
}
