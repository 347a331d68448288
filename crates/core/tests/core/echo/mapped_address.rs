//! The echo server learns its mapped address from a STUN server, in virtual time.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use test_support::echo_link::SECOND;
use test_support::golden;
use test_support::logged::logged;
use test_support::node_driver::{MS, deadline, deliver, deliver_batch};
use test_support::recording_sink::{RecordingSink, SentDatagram};
use test_support::stun::{self, transaction};

use jamjam_core::echo::DropReason::Short;
use jamjam_core::echo::{AdmissionConfig, EchoConfig, EchoServer, StunConfig};
use jamjam_core::impairment::Impairment;
use jamjam_core::node::{Node, SendStatus};
use jamjam_core::time::Time;

use super::{address, impaired, packet};

/// The address in the responses of `tests/support/src/stun.rs` and of RFC 5769.
const MAPPED: &str = "192.0.2.1:32853";

fn server() -> SocketAddr {
    address("198.51.100.7:3478")
}

/// Makes the echo server send requests to `server`. Returns the echo server, and a channel with the addresses that its observer receives.
fn with_stun_server(mut echo: EchoServer, server: SocketAddr) -> (EchoServer, Receiver<SocketAddr>) {
    let (sender, reported) = mpsc::channel();
    let observer = move |address| sender.send(address).expect("the receiver exists");
    echo.monitor_mapped_address(
        StunConfig { server: Box::new(move || Some(server)), hash_key: [1, 2, 3, 4] },
        Box::new(observer),
    );
    (echo, reported)
}

fn with_default_server() -> (EchoServer, Receiver<SocketAddr>) {
    with_stun_server(EchoServer::new(EchoConfig { delay: Duration::ZERO, ..EchoConfig::default() }), server())
}

fn poll(echo: &mut EchoServer, now: u64) -> Vec<SentDatagram> {
    let mut sink = RecordingSink::new();
    echo.poll_transmit(Time::from_nanos(now), &mut sink);
    sink.sent
}

/// Returns the request that is sent at `now`. Nothing else may be sent.
fn next_request(echo: &mut EchoServer, now: u64) -> Vec<u8> {
    let mut left = poll(echo, now);
    assert_eq!(left.len(), 1, "{left:02x?}");
    assert_eq!((left[0].to, left[0].from), (server(), None));
    left.remove(0).bytes
}

/// A message of this type with a XOR-MAPPED-ADDRESS of `ip` and `port`, in the family of `ip`.
fn response(kind: u16, transaction: [u8; 12], ip: IpAddr, port: u16) -> Vec<u8> {
    let (family, octets) = match ip {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mask = [&[0x21, 0x12, 0xa4, 0x42][..], &transaction].concat();
    let xor = |bytes: &[u8]| -> Vec<u8> { bytes.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect() };
    let value = [&[0, family][..], &xor(&port.to_be_bytes()), &xor(&octets)].concat();
    let head = [kind.to_be_bytes(), (value.len() as u16 + 4).to_be_bytes()].concat();
    let attribute = [0x0020_u16.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat();
    [&head[..], &mask[..4], &transaction, &attribute, &value].concat()
}

fn success(request: &[u8], mapped_address: &str) -> Vec<u8> {
    let mapped_address = address(mapped_address);
    response(0x0101, transaction(request), mapped_address.ip(), mapped_address.port())
}

fn counts(echo: &EchoServer) -> [u64; 3] {
    let count = |name| echo.counters().values().find(|(other, _)| *other == name).expect("a counter").1;
    ["mapped_address_requests", "mapped_address_responses", "mapped_address_timeouts"].map(count)
}

#[test]
fn first_poll_sends_a_20_byte_request_and_its_response_is_reported() {
    let (mut echo, reported) = with_default_server();
    assert!(deadline(&echo).is_some_and(|at| at <= SECOND), "the node has a deadline");
    let request = next_request(&mut echo, SECOND);
    assert_eq!(request[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], "a Binding request without attributes");
    assert_eq!(request.len(), 20);
    deliver(&mut echo, SECOND + 30 * MS, server(), &success(&request, "203.0.113.5:40000"));
    assert_eq!(reported.try_iter().collect::<Vec<_>>(), [address("203.0.113.5:40000")]);
    assert_eq!(poll(&mut echo, SECOND + 30 * MS), [], "nothing is echoed to the STUN server");
    let counters = echo.counters();
    assert_eq!((counts(&echo), counters.received.get(), counters.sources.get()), ([1, 1, 0], 0, 0));
    assert_eq!((counters.received_bytes.get(), counters.sent_bytes.get()), (32, 20));
    assert_eq!(deadline(&echo), Some(26 * SECOND), "25 s after the request");
}

#[test]
fn every_25_s_a_new_transaction_reports_only_changes() {
    let (mut echo, reported) = with_default_server();
    let mut transactions = HashSet::new();
    let changes = ["203.0.113.5:40000", "203.0.113.5:40001", "[2001:db8::5]:40001", "203.0.113.5:40000"];
    for (mapped_address, at) in changes[..1].iter().chain(&changes).zip((0..).map(|round| round * 25 * SECOND)) {
        let request = next_request(&mut echo, at);
        assert!(transactions.insert(transaction(&request)));
        deliver(&mut echo, at + MS, server(), &success(&request, mapped_address));
        assert_eq!(deadline(&echo), Some(at + 25 * SECOND));
        assert_eq!(poll(&mut echo, at + 25 * SECOND - 1), [], "not before its time");
    }
    assert_eq!(reported.try_iter().collect::<Vec<_>>(), changes.map(address));
    assert_eq!(counts(&echo), [5, 5, 0]);
}

#[test]
fn transactions_depend_on_every_word_of_the_secret() {
    let first = |hash_key| {
        let mut echo = EchoServer::new(EchoConfig::default());
        echo.monitor_mapped_address(StunConfig { server: Box::new(|| Some(server())), hash_key }, Box::new(|_| {}));
        transaction(&next_request(&mut echo, 0))
    };
    let keys = [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
    let firsts: HashSet<[u8; 12]> = keys.into_iter().map(first).collect();
    assert_eq!(firsts.len(), keys.len());
    assert!(firsts.iter().all(|transaction| transaction[..8] != [0; 8] && transaction[8..] != [0; 4]), "{firsts:02x?}");
}

#[test]
fn unanswered_request_is_sent_four_times_before_the_next_round() {
    let (mut echo, reported) = with_default_server();
    let mut rounds = Vec::new();
    for begin in [0, 25 * SECOND] {
        let first = next_request(&mut echo, begin);
        for after in [500, 1_500, 3_500] {
            let due = begin + after * MS;
            assert_eq!(deadline(&echo), Some(due));
            assert_eq!(poll(&mut echo, due - 1), []);
            assert_eq!(next_request(&mut echo, due), first, "the request has the same transaction ID");
        }
        assert_eq!(deadline(&echo), Some(begin + 7_500 * MS));
        assert_eq!(poll(&mut echo, begin + 7_500 * MS), []);
        assert_eq!(deadline(&echo), Some(begin + 25 * SECOND));
        rounds.push(first);
    }
    assert_ne!(rounds[0], rounds[1]);
    assert_eq!(counts(&echo), [8, 0, 2]);
    // A late response is accepted if it arrives before the next request. A response to an older request is not accepted.
    deliver(&mut echo, 40 * SECOND, server(), &success(&rounds[1], MAPPED));
    assert_eq!(reported.try_recv(), Ok(address(MAPPED)));
    assert_eq!((deadline(&echo), counts(&echo)), (Some(50 * SECOND), [8, 1, 2]));
}

#[test]
fn any_response_to_a_repeated_request_ends_the_round() {
    let (mut echo, reported) = with_default_server();
    let request = next_request(&mut echo, 0);
    next_request(&mut echo, 500 * MS);
    for at in [600, 26_000] {
        deliver(&mut echo, at * MS, server(), &success(&request, MAPPED));
        assert_eq!(deadline(&echo), Some(25 * SECOND));
    }
    assert_eq!(reported.try_iter().count(), 1);
    assert_eq!((echo.counters().received.get(), counts(&echo)), (0, [2, 2, 0]));
    // In the next round, the transaction ID of the first round is no longer valid.
    next_request(&mut echo, 27 * SECOND);
    deliver(&mut echo, 27 * SECOND, server(), &success(&request, "192.0.2.9:9"));
    assert_eq!((reported.try_iter().count(), echo.counters().received.get()), (0, 1));
}

#[test]
fn forged_response_is_echoed_and_not_reported() {
    let (mut echo, reported) = with_default_server();
    let right = success(&[0; 20], MAPPED);
    deliver(&mut echo, 0, server(), &right);
    assert_eq!(echo.counters().received.get(), 1, "the response is treated as AUDIO, because no request was sent yet");
    assert_eq!(poll(&mut echo, 0).len(), 2, "the echo and the request");
    let request = next_request(&mut echo, 500 * MS);
    let right = success(&request, MAPPED);
    let mut forged = vec![(address("198.51.100.8:3478"), right.clone()), (address("198.51.100.7:3479"), right.clone())];
    // Flips a bit of the cookie or of the transaction ID.
    for byte in [4, 7, 8, 19] {
        let mut wrong = right.clone();
        wrong[byte] ^= 1;
        forged.push((server(), wrong));
    }
    let sent = forged.len();
    for (from, bytes) in forged {
        deliver(&mut echo, 600 * MS, from, &bytes);
        let left = poll(&mut echo, 600 * MS);
        assert_eq!(left, [SentDatagram { to: from, from: None, bytes }], "the datagram is treated as AUDIO");
    }
    assert_eq!(reported.try_iter().count(), 0);
    assert_eq!((echo.counters().received.get(), counts(&echo)), (1 + sent as u64, [2, 0, 0]));
    deliver(&mut echo, 700 * MS, server(), &right);
    assert_eq!(reported.try_recv(), Ok(address(MAPPED)));
}

#[test]
fn truncated_or_unusable_response_is_consumed_and_not_reported() {
    let (mut echo, reported) = with_default_server();
    let request = next_request(&mut echo, 0);
    let (plain, with_fingerprint) = (success(&request, MAPPED), stun::response(&transaction(&request), &[]));
    let cut = |whole: &Vec<u8>| (20..whole.len()).map(|len| whole[..len].to_vec()).collect::<Vec<_>>();
    let mut unusable = [cut(&plain), cut(&with_fingerprint)].concat();
    let with = |kind, ip: &str, port| response(kind, transaction(&request), ip.parse().expect("an address"), port);
    unusable.push(with(0x0111, "192.0.2.1", 32_853));
    for ip in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255"] {
        unusable.push(with(0x0101, ip, 32_853));
    }
    unusable.push(with(0x0101, "192.0.2.1", 0));
    // One success response has no attributes. In another success response, the address length does not match the address family.
    unusable.push([&[1, 1, 0, 0][..], &request[4..]].concat());
    let mut family = plain.clone();
    family[25] = 2;
    unusable.push(family);
    for bytes in &unusable {
        deliver(&mut echo, MS, server(), bytes);
    }
    assert_eq!((reported.try_iter().count(), poll(&mut echo, MS), deadline(&echo)), (0, Vec::new(), Some(500 * MS)));
    let consumed = unusable.len() as u64;
    assert_eq!((echo.counters().received.get(), counts(&echo)), (0, [1, consumed, 0]));
    // A response that is cut before the end of its transaction ID is treated as AUDIO. A response of less than 12 bytes counts as
    // too short.
    for len in 0..20 {
        deliver(&mut echo, 2 * MS, server(), &plain[..len]);
    }
    let counters = echo.counters();
    assert_eq!((counters.received.get(), counters.dropped(Short).get(), counts(&echo)[1]), (8, 12, consumed));
    deliver(&mut echo, 3 * MS, server(), &with_fingerprint);
    assert_eq!(reported.try_recv(), Ok(address(MAPPED)));
}

#[test]
fn ipv4_server_and_mapped_address_are_canonicalized() {
    let mapped = address("[::ffff:198.51.100.7]:3478");
    for (server_address, answers_from) in [(mapped, server()), (server(), mapped)] {
        let (mut echo, reported) = with_stun_server(EchoServer::new(EchoConfig::default()), server_address);
        let left = poll(&mut echo, 0);
        assert_eq!(left[0].to, server_address, "as configured");
        deliver(&mut echo, MS, answers_from, &success(&left[0].bytes, "[::ffff:192.0.2.1]:32853"));
        assert_eq!(reported.try_recv(), Ok(address(MAPPED)));
    }
}

#[test]
fn other_datagrams_are_echoed_while_a_response_is_pending() {
    let (mut echo, reported) = with_default_server();
    let request = next_request(&mut echo, 0);
    let client = address("192.0.2.9:7000");
    let audio = |sequence| packet(1, sequence, &[7; 20]);
    deliver(&mut echo, MS, client, &audio(1));
    assert_eq!(poll(&mut echo, MS), [SentDatagram { to: client, from: None, bytes: audio(1) }]);
    // The AUDIO packets have the same length as a response. Therefore, all datagrams may arrive as one batch.
    let batch = [audio(2), success(&request, MAPPED), audio(3)].concat();
    deliver_batch(&mut echo, 2 * MS, (server(), None), &batch, 32);
    let left: Vec<Vec<u8>> = poll(&mut echo, 2 * MS).into_iter().map(|left| left.bytes).collect();
    assert_eq!(left, [audio(2), audio(3)]);
    assert_eq!(reported.try_recv(), Ok(address(MAPPED)));
    // The STUN server may also send requests.
    deliver(&mut echo, 3 * MS, server(), &golden::packet("stun-request.hex"));
    assert_eq!(poll(&mut echo, 3 * MS).len(), 1);
    assert_eq!((echo.counters().stun_requests.get(), echo.counters().received.get()), (1, 3));
}

#[test]
fn admission_limits_and_impairment_do_not_affect_stun() {
    let allowed_networks = vec!["192.0.2.0/24".parse().expect("a network")];
    let admission = AdmissionConfig { allowed_networks, max_packet_rate: Some(1), ..AdmissionConfig::default() };
    let config = EchoConfig { admission, ..EchoConfig::default() };
    let lost = Impairment { loss: 1.0, ..Impairment::default() };
    let (mut echo, _reported) = with_stun_server(impaired(config, lost), server());
    for round in 0..20 {
        let request = next_request(&mut echo, round * 25 * SECOND);
        deliver(&mut echo, round * 25 * SECOND, server(), &success(&request, MAPPED));
    }
    assert_eq!((counts(&echo), echo.counters().dropped_not_allowed.get()), ([20, 20, 0], 0));
}

#[test]
fn request_is_sent_first_and_a_failed_send_counts_as_an_attempt() {
    let (mut echo, _reported) = with_default_server();
    deliver(&mut echo, 0, address("192.0.2.9:7000"), &packet(4, 1, &[]));
    let mut sink = RecordingSink::new();
    sink.plan.extend([SendStatus::WouldBlock, SendStatus::Failed]);
    echo.poll_transmit(Time::ZERO, &mut sink);
    assert_eq!((sink.sent.len(), sink.plan.len(), deadline(&echo)), (0, 1, Some(0)), "the poll stops at the request");
    echo.poll_transmit(Time::from_nanos(MS), &mut sink);
    // The KEEPALIVE was sent, and the request will be retransmitted.
    assert_eq!((sink.sent.len(), deadline(&echo)), (1, Some(501 * MS)));
    assert_eq!((counts(&echo), echo.counters().send_failed.get()), ([0; 3], 0));
    assert_eq!(next_request(&mut echo, 501 * MS).len(), 20);
}

#[test]
fn clock_jump_causes_no_burst_of_requests() {
    let (mut echo, _reported) = with_default_server();
    next_request(&mut echo, 0);
    next_request(&mut echo, 100 * SECOND);
    assert_eq!((poll(&mut echo, 100 * SECOND), deadline(&echo)), (Vec::new(), Some(101 * SECOND)));
}

#[test]
fn timeout_is_logged_once_and_a_mapped_address_when_it_changes() {
    let (mut echo, _reported) = with_default_server();
    // Each row is a round: the type and the port of the mapped address of the response, if any, and what the logged line contains.
    for (round, (answer, line)) in (0..).zip([
        (None, "failed stun_server=198.51.100.7:3478 reason=\"no response\" retry_s=25"),
        (None, ""),
        (Some((0x0101, 1)), "learned mapped_address=192.0.2.1:1 stun_server=198.51.100.7:3478"),
        (Some((0x0101, 1)), ""),
        (Some((0x0101, 2)), "changed mapped_address=192.0.2.1:2 previous=192.0.2.1:1"),
        (Some((0x0111, 2)), "reason=\"no usable address in the response\" last_mapped_address=192.0.2.1:2"),
        (None, ""),
    ]) {
        let lines = logged(|| {
            let began = round * 25 * SECOND;
            let request = next_request(&mut echo, began);
            if let Some((kind, port)) = answer {
                deliver(
                    &mut echo,
                    began,
                    server(),
                    &response(kind, transaction(&request), [192, 0, 2, 1].into(), port),
                );
            }
            while let Some(due) = deadline(&echo).filter(|due| *due < began + 25 * SECOND) {
                poll(&mut echo, due);
            }
        });
        assert_eq!(lines.len(), usize::from(!line.is_empty()), "round {round}: {lines:?}");
        assert!(lines.concat().contains(line), "round {round}: {lines:?}");
    }
}

#[test]
fn server_may_become_known_later_and_its_error_response_is_logged() {
    let (name_server, answers) = mpsc::channel();
    let mut echo = EchoServer::new(EchoConfig::default());
    let config = StunConfig { server: Box::new(move || answers.try_recv().ok()), hash_key: [0; 4] };
    echo.monitor_mapped_address(config, Box::new(|address| panic!("{address}")));
    assert_eq!((poll(&mut echo, 0), deadline(&echo)), (Vec::new(), Some(200 * MS)));
    name_server.send(server()).expect("the receiver exists");
    let request = next_request(&mut echo, 200 * MS);
    // RFC 8489, section 14.8: error 401.
    let error = [&[0x01, 0x11, 0, 20][..], &request[4..], &[0, 9, 0, 16, 0, 0, 4, 1], b"Unauthorized"].concat();
    deliver(&mut echo, 200 * MS, server(), &error);
    let lines = logged(|| [700, 1_700, 3_700, 7_700].into_iter().for_each(|due| drop(poll(&mut echo, due * MS))));
    assert!(lines.len() == 1 && lines[0].contains("reason=\"error 401 Unauthorized\""), "{lines:?}");
    assert_eq!(counts(&echo), [4, 1, 1]);
}
