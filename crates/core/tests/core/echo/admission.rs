//! The echo server limits the packet rate and the bit rate of its replies to each address. The server also ends reply loops between two
//! servers. The tests run nodes in virtual time.

use std::net::SocketAddr;
use std::time::Duration;
use test_support::echo_link::SECOND;
use test_support::node_driver::{MS, deadline, deliver, deliver_batch, poll};

use jamjam_core::echo::DropReason::{BitRate, PacketRate, Repeated, Type};
use jamjam_core::echo::{AdmissionConfig, EchoConfig, EchoServer};
use jamjam_core::impairment::Impairment;
use proptest::prelude::*;

use super::{address, drops, impaired, packet};

fn no_delay() -> EchoConfig {
    EchoConfig { delay: Duration::ZERO, ..EchoConfig::default() }
}

fn server(delay: Duration, admission: AdmissionConfig) -> EchoServer {
    EchoServer::new(EchoConfig { delay, admission, ..EchoConfig::default() })
}

/// The number of datagrams that the server sends immediately when this datagram arrives at `at` nanoseconds.
fn reply_count(echo: &mut EchoServer, at: u64, from: &str, bytes: &[u8]) -> usize {
    replies(echo, at, (from, None), bytes).len()
}

/// Delivers a datagram at `at` nanoseconds with this source and destination address. Returns the datagrams that are sent immediately.
fn replies(echo: &mut EchoServer, at: u64, (from, to): (&str, Option<&str>), contents: &[u8]) -> Vec<Vec<u8>> {
    let dst_ip = to.map(|ip| ip.parse().expect("an address"));
    deliver_batch(echo, at, (address(from), dst_ip), contents, contents.len().max(1));
    poll(echo, at)
}

#[test]
fn all_ports_and_reply_types_of_an_address_share_one_bucket() {
    let mut echo = server(Duration::ZERO, AdmissionConfig::default());
    // The maximum burst is an eighth of a second: 1,000 packets at 8,000 packets per second.
    let requests = |n| [packet(1, n, &[]), packet(4, n, &[]), packet(4, n, &[1, 2, 3, 4, 5]), packet(5, n, &[0; 12])];
    for round in 0..250 {
        for request in requests(round) {
            let from = format!("192.0.2.1:{}", 5_000 + round % 7);
            assert_eq!(reply_count(&mut echo, 0, &from, &request), 1, "{request:?}");
        }
    }
    // These 1,000 replies, a quarter of them AUDIO, have used up the burst. Further KEEPALIVEs, LATENCY_PINGs and route probes get no
    // reply.
    for request in &requests(1_000)[1..] {
        assert_eq!(reply_count(&mut echo, 0, "192.0.2.1:6000", request), 0, "{request:?}");
    }
    // A packet without a reply counts as ignored and is not charged to the rate limit.
    assert_eq!(reply_count(&mut echo, 0, "192.0.2.1:6000", &packet(2, 1, &[])), 0);
    let counters = echo.counters();
    assert_eq!((drops(&counters, [PacketRate, BitRate]), counters.ignored.get()), ([3, 0], 1));
    // Another address has its own bucket.
    assert_eq!(reply_count(&mut echo, 0, "192.0.2.2:5000", &packet(1, 1, &[])), 1);
    // One more reply is possible 1/8,000 of a second (125,000 ns) later.
    assert_eq!(reply_count(&mut echo, 124_999, "192.0.2.1:5000", &packet(4, 2_000, &[])), 0);
    assert_eq!(reply_count(&mut echo, 125_000, "192.0.2.1:5000", &packet(4, 2_001, &[])), 1);
}

#[test]
fn repeated_datagrams_without_a_reply_are_not_charged_to_the_rate_limit() {
    // Of 5,000 copies, three AUDIO packets or ten KEEPALIVEs are answered, the third and the fourth of these with a loop check.
    for (kind, answered) in [(1, 3), (4, 10)] {
        let mut echo = server(Duration::ZERO, AdmissionConfig::default());
        let copies = |echo: &mut EchoServer, at, sequence, count: usize| -> usize {
            let bytes = packet(kind, sequence, &[0; 8]);
            (0..count).map(|_| reply_count(echo, at, "192.0.2.1:5000", &bytes)).sum()
        };
        assert_eq!(copies(&mut echo, 0, 70_000, 5_000), answered, "type {kind}");
        let counters = echo.counters();
        assert_eq!(counters.dropped(Repeated).get(), 5_000 - answered as u64, "type {kind}");
        assert_eq!(counters.dropped(PacketRate).get(), 0, "type {kind}");
        // The rest of the burst of 1,000 replies is available.
        let distinct = (0..5_000).map(|sequence| packet(kind, sequence, &[0; 8]));
        let rest: usize = distinct.map(|bytes| reply_count(&mut echo, 0, "192.0.2.1:5000", &bytes)).sum();
        assert_eq!(rest, 1_000 - answered, "type {kind}");
        // A datagram above the rate limit does not count as received. Later, its copies are answered as usual.
        assert_eq!(copies(&mut echo, 0, 80_000, 20), 0, "type {kind}");
        let before = echo.counters().dropped(Repeated).get();
        copies(&mut echo, 20 * SECOND, 80_000, 20);
        assert_eq!(echo.counters().dropped(Repeated).get() - before, 20 - answered as u64, "type {kind}");
    }
}

#[test]
fn bit_rate_counts_the_reply_with_its_ip_header() {
    let admission = || AdmissionConfig { max_bit_rate: Some(8_000_000), ..AdmissionConfig::default() };
    // An eighth of a second at 8 Mbit/s is 1,000,000 bits. This burst has room for 125 IP packets of 1,000 bytes. Each IP packet has a UDP
    // payload of 972 bytes (IPv4) or 952 bytes (IPv6).
    for (from, len) in [("192.0.2.1:5000", 972), ("[2001:db8::1]:5000", 952), ("[::ffff:192.0.2.1]:5000", 972)] {
        let mut echo = server(Duration::ZERO, admission());
        let sent: usize = (0..200).map(|n| reply_count(&mut echo, 0, from, &packet(1, n, &vec![0; len - 12]))).sum();
        assert_eq!((sent, echo.counters().dropped(BitRate).get()), (125, 75), "{from}");
    }
    // So do copies.
    let duplicate = Impairment { duplicate: 1.0, ..Impairment::default() };
    let mut echo = impaired(EchoConfig { admission: admission(), ..no_delay() }, duplicate);
    (0..100).for_each(|n| deliver(&mut echo, 0, address("192.0.2.1:5000"), &packet(1, n, &[0; 960])));
    assert_eq!(poll(&mut echo, 0).len(), 125);
    // A pong always has 24 bytes, even if the ping is longer. With its IP and UDP headers, a pong has 52 bytes (416 bits). The burst of
    // 1,000,000 bits therefore has room for 2,403 pongs.
    let mut echo = server(Duration::ZERO, AdmissionConfig { max_packet_rate: None, ..admission() });
    let sent: usize = (0..3_000).map(|n| reply_count(&mut echo, 0, "192.0.2.1:5000", &packet(5, n, &[0; 1_000]))).sum();
    assert_eq!((sent, echo.counters().dropped(BitRate).get()), (2_403, 597));
}

#[test]
fn batch_is_answered_up_to_the_limit_and_without_its_rejected_packets() {
    let from = "192.0.2.1:5000";
    let batch = [1, 2, 3, 4].map(|number| packet(1, number, &[number as u8; 8]));
    let answered = |echo: &mut EchoServer, batch: &[Vec<u8>]| {
        deliver_batch(echo, 0, (address(from), None), &batch.concat(), batch[0].len());
        poll(echo, 10 * MS)
    };
    // A burst of three packets may enter the delay line.
    let admission = AdmissionConfig { max_packet_rate: Some(25), ..AdmissionConfig::default() };
    let mut echo = server(Duration::from_millis(10), admission);
    assert_eq!(answered(&mut echo, &batch), batch[..3]);
    assert_eq!((echo.counters().received.get(), echo.counters().dropped(PacketRate).get()), (3, 1));
    // Packet 2 was sent three times before.
    let mut echo = server(Duration::ZERO, AdmissionConfig::default());
    assert_eq!([(); 3].map(|()| reply_count(&mut echo, 0, from, &batch[1])), [1; 3]);
    assert_eq!(answered(&mut echo, &batch[..3]), [batch[0].clone(), batch[2].clone()]);
}

#[test]
fn source_outside_the_allowed_networks_gets_no_reply() {
    let allowed_networks =
        ["192.0.2.0/24", "2001:db8::/32"].map(|network| network.parse().expect("a network")).to_vec();
    let mut echo = server(Duration::ZERO, AdmissionConfig { allowed_networks, ..AdmissionConfig::default() });
    for from in ["192.0.2.1:5000", "[::ffff:192.0.2.200]:5000", "[2001:db8:9::1]:5000"] {
        assert_eq!(reply_count(&mut echo, 0, from, &packet(4, 1, &[])), 1, "{from}");
    }
    for from in ["192.0.3.1:5000", "127.0.0.1:5000", "[::1]:5000", "[2001:db9::1]:5000", "[::ffff:192.0.3.1]:5000"] {
        for kind in [1, 2, 4, 5, 7, 99] {
            assert_eq!(reply_count(&mut echo, 0, from, &packet(kind, 1, &[0; 20])), 0, "{from}");
        }
    }
    let counters = echo.counters();
    assert_eq!((counters.dropped_not_allowed.get(), counters.ignored.get(), counters.dropped(Type).get()), (30, 0, 0));
}

#[test]
fn forged_source_gets_no_reply() {
    // Linux accepts an IPv6 datagram from the network even if its source address is IPv4-mapped. A reply would be sent over IPv4 to the
    // address after `::ffff:`, which an attacker can choose freely.
    for (from, to, answered) in [
        ("0.0.0.0:5000", None, 0),
        ("[::ffff:0.0.0.0]:5000", None, 0),
        ("[ff02::1]:5000", None, 0),
        ("[::ffff:127.0.0.1]:53", Some("2001:db8::9"), 0),
        ("[::ffff:192.0.2.1]:5000", Some("::1"), 0),
        // The destination address shows that the datagram arrived over IPv4.
        ("[::ffff:192.0.2.1]:5000", Some("192.0.2.9"), 1),
        ("[::ffff:192.0.2.1]:5000", Some("::ffff:192.0.2.9"), 1),
    ] {
        let mut echo = server(Duration::ZERO, AdmissionConfig::default());
        for kind in [1, 4, 5] {
            let replies = replies(&mut echo, 0, (from, to), &packet(kind, 1, &[0; 12]));
            assert_eq!(replies.len(), answered, "{from} to {to:?}, type {kind}");
        }
        assert_eq!(echo.counters().dropped_invalid_source.get(), 3 * (1 - answered as u64), "{from} to {to:?}");
    }
}

#[test]
fn own_address_and_port_as_source_gets_no_reply() {
    let server = || EchoServer::new(EchoConfig { local_port: Some(5_000), ..no_delay() });
    let answered = |from, to| replies(&mut server(), 0, (from, Some(to)), &packet(4, 1, &[])).len();
    for own in [
        ("192.0.2.9:5000", "192.0.2.9"),
        ("[::ffff:192.0.2.9]:5000", "192.0.2.9"),
        ("192.0.2.9:5000", "::ffff:192.0.2.9"),
        ("[2001:db8::9]:5000", "2001:db8::9"),
        ("127.0.0.1:5000", "127.0.0.1"),
        ("[::1]:5000", "::1"),
    ] {
        assert_eq!(answered(own.0, own.1), 0, "{own:?}");
    }
    // A client on this machine gets a reply. A server at another address of this machine also gets a reply.
    assert_eq!((answered("192.0.2.9:5001", "192.0.2.9"), answered("192.0.2.8:5000", "192.0.2.9")), (1, 1));
}

#[test]
fn impairment_delay_extends_the_memory_of_repeated_datagrams() {
    let reordering = Impairment { reorder: Some((1.0, Duration::from_secs(100))), ..Impairment::default() };
    let mut echo = impaired(no_delay(), reordering);
    let repeated = packet(1, 7, &[]);
    for at in [0, 1, 2, 100, 609, 611] {
        reply_count(&mut echo, at * SECOND, "192.0.2.1:5000", &repeated);
    }
    // The first three packets are answered. The server can send the fourth answer no earlier than 610 s after the first packet. These 610 s
    // are 10 s plus six times the reordering delay of 100 s. So the packets at 100 s and 609 s are dropped. The packet at 611 s is
    // answered.
    assert_eq!((echo.counters().received.get(), echo.counters().dropped(Repeated).get()), (4, 2));
}

/// A packet that has a reply, and the time in microseconds since the previous packet.
fn request() -> impl Strategy<Value = (u64, u8, usize, u16)> {
    (prop_oneof![4 => 0u64..300, 1 => 0u64..400_000], prop_oneof![Just(1u8), Just(4), Just(5)], 12usize..1_400, 1u16..4)
}

proptest! {
    #[test]
    fn replies_per_address_never_exceed_rate_plus_burst(
        rate in 8u64..400,
        kilobits in 4_200u64..8_000,
        delay in 0u64..30,
        requests in prop::collection::vec(request(), 1..400),
        twice in any::<bool>(),
    ) {
        let admission = AdmissionConfig { max_packet_rate: Some(rate), max_bit_rate: Some(kilobits * 1_000), ..AdmissionConfig::default() };
        let config = EchoConfig { delay: Duration::from_millis(delay), admission, ..EchoConfig::default() };
        // The test also runs with every reply duplicated.
        let mut echo = impaired(config, Impairment { duplicate: if twice { 1.0 } else { 0.0 }, ..Impairment::default() });
        let mut left: Vec<(u64, u64)> = Vec::new();
        let mut now = 0;
        for (number, (passed, kind, len, port)) in (0..).zip(requests) {
            now += passed * 1_000;
            // Replies that are due before the next request are sent at their due time.
            while let Some(due) = deadline(&echo).filter(|due| *due < now) {
                left.extend(poll(&mut echo, due).iter().map(|bytes| (due, bytes.len() as u64)));
            }
            let from = SocketAddr::from(([192, 0, 2, 1], port));
            deliver(&mut echo, now, from, &packet(kind, number, &vec![0; len]));
            left.extend(poll(&mut echo, now).iter().map(|bytes| (now, bytes.len() as u64)));
        }
        for first in 0..left.len() {
            let mut bits = 0;
            for last in first..left.len() {
                bits += (left[last].1 + 28) * 8;
                let nanos = u128::from(left[last].0 - left[first].0 + 250 * MS);
                // Both sides are multiplied by the denominators to avoid rounding.
                prop_assert!((last - first + 1) as u128 * u128::from(SECOND) <= nanos * u128::from(rate));
                prop_assert!(u128::from(bits) * 1_000_000 <= nanos * u128::from(kilobits));
            }
        }
    }
}

/// A client sends one KEEPALIVE per second. Checks that the client receives one reply to each KEEPALIVE. Returns all replies that are not
/// echoes.
fn replies_besides_echoes(seconds: u64, keepalive: impl Fn(u64) -> Vec<u8>) -> Vec<(u64, Vec<u8>)> {
    let mut echo = server(Duration::ZERO, AdmissionConfig::default());
    let mut others = Vec::new();
    for second in 0..seconds {
        // The network delays some KEEPALIVEs and delivers some twice.
        let late = if second % 100 == 0 { 700 * MS } else { 0 };
        let at = second * SECOND + late;
        let sent = keepalive(second);
        for _ in 0..if second % 1_000 == 0 { 2 } else { 1 } {
            let left = replies(&mut echo, at, ("192.0.2.1:5000", None), &sent);
            assert_eq!(left.len(), 1, "second {second}");
            others.extend(left.into_iter().filter(|bytes| *bytes != sent).map(|bytes| (second, bytes)));
        }
    }
    assert_eq!(echo.counters().dropped(Repeated).get(), 0);
    others
}

#[test]
fn keepalives_of_a_client_are_answered_each_second_for_a_day() {
    let loop_checks = replies_besides_echoes(86_400, |_| packet(4, 0, b"alive"));
    // The client differs from an echo server only in that it does not return loop checks. This client receives two loop checks in a row,
    // and then one every 30 seconds.
    let times: Vec<u64> = loop_checks.iter().map(|(second, _)| *second).collect();
    assert!(times.windows(3).all(|three| three[2] - three[0] >= 29) && times.len() <= 86_400 / 30 + 2, "{times:?}");
    for (second, bytes) in loop_checks {
        // A KEEPALIVE without flags or payload.
        assert_eq!((&bytes[..2], &bytes[10..]), (&[1, 4][..], &[0, 0][..]), "second {second}");
    }
    // Counting KEEPALIVEs get only their echoes.
    assert_eq!(replies_besides_echoes(86_400, |second| packet(4, second as u32, &[])), []);
}

#[test]
fn keepalives_are_never_answered_with_more_packets_or_bytes() {
    // An attacker forges 20,000 sources. Four identical KEEPALIVEs are the number with the most loop checks per packet.
    let unlimited = AdmissionConfig { max_packet_rate: None, max_bit_rate: None, ..AdmissionConfig::default() };
    let (mut echo, keepalive) = (server(Duration::ZERO, unlimited), packet(4, 7, &[]));
    for source in 0..20_000_u32 {
        let from = format!("192.0.2.{}:{}", source % 250 + 1, 1_024 + source / 250);
        for number in 1..=4 {
            let left = replies(&mut echo, 0, (&from, None), &keepalive);
            assert_eq!(left.iter().map(Vec::len).collect::<Vec<_>>(), [12], "{from}, KEEPALIVE {number}");
        }
    }
    assert_eq!(echo.counters().loop_checks.get(), 2 * 20_000);
}

#[test]
fn only_a_source_that_returns_its_own_loop_check_is_not_answered() {
    let mut echo = server(Duration::ZERO, AdmissionConfig::default());
    let [one, other] = [(0, "192.0.2.1:5000"), (1, "192.0.2.1:5001")].map(|(at, from)| {
        let mut left = Vec::new();
        for _ in 0..3 {
            left = replies(&mut echo, at * SECOND, (from, None), &packet(4, 7, &[]));
        }
        assert_eq!(left.len(), 1, "a loop check");
        left.remove(0)
    });
    assert_ne!(one, other);
    let mut answered = |at: u64, from, bytes: &[u8]| reply_count(&mut echo, at * SECOND, from, bytes);
    // The server has sent loop check `one` to a source. This source now sends four packets, and none of them is identical to loop check
    // `one`. The first packet is a copy of loop check `other`. The server had sent `other` to a different source. The three other packets
    // are modified copies of loop check `one`. One copy is longer, one has another flag, and one has another sequence number. The server
    // answers all four packets like any KEEPALIVE.
    let (longer, mut flag, mut counted) = ([&one[..], &[0]].concat(), one.clone(), one.clone());
    flag[11] ^= 1;
    counted[5] ^= 1;
    for bytes in [&other, &longer, &flag, &counted] {
        assert_eq!(answered(3, "192.0.2.1:5000", bytes), 1, "{bytes:x?}");
    }
    assert_eq!(answered(3, "192.0.2.1:5000", &one), 0);
    // KEEPALIVEs from that address and port are dropped for a minute. Everything else is answered.
    for at in [3, 30, 62] {
        assert_eq!(answered(at, "192.0.2.1:5000", &packet(4, 100 + at as u32, &[])), 0, "{at} s");
        assert_eq!(answered(at, "192.0.2.1:5000", &packet(1, at as u32, &[])), 1, "{at} s");
        assert_eq!(answered(at, "192.0.2.1:5000", &packet(5, at as u32, &[0; 12])), 1, "{at} s");
        assert_eq!(answered(at, "192.0.2.1:5001", &packet(4, 100 + at as u32, &[])), 1, "{at} s");
    }
    assert_eq!(answered(64, "192.0.2.1:5000", &packet(4, 200, &[])), 1);
    let counters = echo.counters();
    assert_eq!((counters.loop_checks.get(), counters.dropped(Repeated).get()), (2, 4));
}

#[test]
fn loop_check_returned_after_two_minutes_is_an_ordinary_keepalive() {
    // Behind a NAT, the user of an address and port may change. The previous user cannot prevent replies to the current user.
    let mut echo = server(Duration::ZERO, AdmissionConfig::default());
    let mut check = Vec::new();
    for at in [0, 1, 2, 128, 129, 130] {
        check.extend(replies(&mut echo, at * SECOND, ("192.0.2.1:5000", None), &packet(4, 7, &[])).into_iter().next());
    }
    let (old, new) = (&check[2], &check[5]);
    assert_ne!(old, new);
    assert_eq!(reply_count(&mut echo, 130 * SECOND, "192.0.2.1:5000", old), 1);
    assert_eq!(reply_count(&mut echo, 130 * SECOND, "192.0.2.1:5000", new), 0);
}

#[test]
fn loop_check_is_sent_within_the_lowest_rate_limit() {
    // The limit is one per second with a burst of one.
    let mut echo = server(Duration::ZERO, AdmissionConfig { max_packet_rate: Some(1), ..AdmissionConfig::default() });
    let mut at_second =
        |second: u64, sequence| reply_count(&mut echo, second * SECOND, "192.0.2.1:5000", &packet(4, sequence, &[]));
    assert_eq!([0, 1, 2].map(|second| at_second(second, 7)), [1, 1, 1]);
    assert_eq!([3, 4].map(|second| at_second(second, 8)), [1, 1]);
    assert_eq!(echo.counters().loop_checks.get(), 1);
}

#[test]
fn repeated_datagram_is_answered_a_limited_number_of_times() {
    // Ten of each.
    let answered = |both: [Vec<u8>; 2]| -> usize {
        let mut echo = server(Duration::ZERO, AdmissionConfig::default());
        let mut answer = |bytes: &Vec<u8>| reply_count(&mut echo, 0, "192.0.2.1:5000", bytes);
        both.iter().map(|bytes| (0..10).map(|_| answer(bytes)).sum::<usize>()).sum()
    };
    // Loopback is exempt.
    let mut echo = server(Duration::ZERO, AdmissionConfig::default());
    let mut on_loopback = |bytes: &[u8]| replies(&mut echo, 0, ("127.0.0.1:5000", Some("127.0.0.1")), bytes).len();
    let both: usize = (0..10).map(|_| on_loopback(&packet(1, 1, &[5; 200])) + on_loopback(&packet(4, 1, &[]))).sum();
    assert_eq!(both, 20);
    // A datagram is distinct if its header, its length or its first 64 payload bytes differ. Later differences are ignored.
    for (offset, times) in [(2, 6), (6, 6), (10, 6), (12, 6), (75, 6), (76, 3)] {
        let mut other = packet(1, 1, &[5; 200]);
        other[offset] ^= 1;
        assert_eq!(answered([packet(1, 1, &[5; 200]), other]), times, "byte {offset}");
    }
    assert_eq!(answered([packet(1, 1, &[5; 200]), packet(1, 1, &[5; 199])]), 6);
}

#[test]
fn ports_are_separate_sources_and_pings_and_probes_may_repeat() {
    let mut echo = server(Duration::ZERO, AdmissionConfig::default());
    let bytes = packet(1, 1, &[5; 200]);
    let mut ten = |from: &str, bytes: &[u8]| (0..10).map(|_| reply_count(&mut echo, 0, from, bytes)).sum::<usize>();
    assert_eq!(["192.0.2.1:5000", "192.0.2.1:5001", "192.0.2.2:5000"].map(|from| ten(from, &bytes)), [3; 3]);
    assert_eq!(ten("192.0.2.1:5000", &packet(5, 1, &[0; 12])), 10);
    assert_eq!(ten("192.0.2.1:5000", &packet(4, 1, &[1, 0, 0, 0, 0])), 10);
    assert_eq!((echo.counters().dropped(Repeated).get(), echo.counters().received.get()), (21, 9));
}
