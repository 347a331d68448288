//! The limits of the server on connections and memory.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use jamjam_dev::client::StopSignal;
use jamjam_dev::io::moqt::client::{self, SessionRecord};
use jamjam_dev::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::io::moqt::{CounterSnapshot, bind_all};
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::memory_budget::MemoryBudget;
use jamjam_dev::moqt::client::{MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use jamjam_dev::moqt::{SessionLimits, Transport};
use quinn::TransportConfig;
use test_support::TEST_TIMEOUT;

use crate::manual_client::{ManualClient, connect, run_async};
use crate::memory;
use crate::test_server::{TestServer, groups, run_client, trusting_verifier};

#[test]
fn connection_limit_applies_and_a_closed_connection_frees_a_slot() {
    let server = TestServer::start(MoqtServerConfig { max_connections: 2, ..MoqtServerConfig::default() });
    run_async(async {
        let one = ManualClient::open(&server, Transport::Quic).await;
        let two = ManualClient::open(&server, Transport::WebTransport).await;
        server.until("both are there", |reading| reading.connections_open == 2).await;
        let options = server.connect_options(Transport::Quic);
        let expected =
            format!("cannot connect to {}: the server accepts no more connections at the moment", options.url);
        let third_client = std::thread::spawn(move || run_client(&options, &groups(1, 1)).err()).join().unwrap();
        let Some(MoqtConnectError::Failed(reason)) = third_client else { panic!("{third_client:?}") };
        assert_eq!(reason, expected);
        assert_eq!(server.totals.snapshot().connections.connections_rejected_limit, 1);
        one.connection.close(0_u32.into(), b"");
        server.until("one is gone", |reading| reading.connections_open == 1).await;
        server.ordinary_echo(Transport::Quic);
        drop(two);
    });
}

#[test]
fn longest_idle_connection_is_closed_for_a_new_client() {
    let min_idle = Duration::from_millis(500);
    let server = TestServer::start(MoqtServerConfig { max_connections: 3, min_idle, ..MoqtServerConfig::default() });
    run_async(async {
        let (options, stop) = (server.connect_options(Transport::Quic), StopToken::default());
        let (create, stopped) = (|| MoqtClient::new(groups(1 << 20, 1)), stop.clone());
        let active = std::thread::spawn(move || client::run_session(&options, create, |_, _| (), &stopped));
        server.until("one is there", |reading| reading.connections_open == 1).await;
        let mut keep_alive = TransportConfig::default();
        keep_alive.keep_alive_interval(Some(min_idle / 4));
        let idle = ManualClient::open_with(&server, Transport::Quic, keep_alive).await;
        let _session = idle.set_up().await;
        server.until("two are there", |reading| reading.connections_open == 2).await;
        let other = ManualClient::open(&server, Transport::WebTransport).await;
        server.until("three are there", |reading| reading.connections_open == 3).await;
        // Neither keep-alives nor streams without a group end the idle time.
        let mut ticks = tokio::time::interval(min_idle / 4);
        ticks.tick().await;
        for _ in 0..4 {
            ticks.tick().await;
            let _ = idle.uni(b"\x09").await.finish();
        }
        server.until("the streams are rejected", |reading| reading.sessions.streams_unknown_type == 4).await;
        let options = server.connect_options(Transport::Quic);
        let new = std::thread::spawn(move || run_client(&options, &groups(1, 1)));
        // Waits at once: a keep-alive that is sent to the closed connection later is answered with a reset, which hides the reason.
        let reason = idle.connection.closed().await.to_string();
        assert!(reason.contains("closed as idle"), "{reason}");
        let new = new.join().unwrap().unwrap();
        assert_eq!(new.client.outcome(), Some(&MoqtRunOutcome::Completed));
        assert_eq!(server.totals.snapshot().connections.connections_closed_idle, 1);
        assert!(other.connection.close_reason().is_none());
        // A connection that transfers groups is not idle.
        assert!(!active.is_finished());
        stop.request(StopSignal::Terminate);
        active.join().unwrap().unwrap();
    });
}

/// The first packet of a client to a socket that never answers.
fn first_packet() -> Vec<u8> {
    let to = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("moqt://{}/echo", to.local_addr().unwrap()).parse().unwrap();
    let mut options = MoqtConnectOptions::new(url, trusting_verifier());
    options.limits = SessionLimits { setup_timeout: Duration::from_millis(500), ..SessionLimits::default() };
    run_client(&options, &groups(1, 1)).err().expect("no answer");
    let mut packet = vec![0; 2_048];
    let len = to.recv(&mut packet).unwrap();
    packet.truncate(len);
    packet
}

#[test]
fn packet_of_an_unvalidated_address_closes_no_idle_connection() {
    let config = MoqtServerConfig { max_connections: 2, min_idle: Duration::ZERO, ..MoqtServerConfig::default() };
    let server = TestServer::start(config);
    run_async(async {
        let one = ManualClient::open(&server, Transport::Quic).await;
        let other = ManualClient::open(&server, Transport::Quic).await;
        server.until("both are there", |reading| reading.connections_open == 2).await;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let packet = std::thread::spawn(first_packet).join().unwrap();
        let retries = server.totals.snapshot().connections.retries_sent;
        socket.send_to(&packet, server.address).unwrap();
        let is_sent = |counts: &CounterSnapshot| counts.connections.retries_sent > retries;
        let reading = server.until("a Retry packet", is_sent).await;
        assert_eq!((reading.connections.connections_closed_idle, reading.connections_open), (0, 2));
        assert!(one.connection.close_reason().is_none() && other.connection.close_reason().is_none());
    });
}

#[test]
fn attempts_on_all_sockets_are_accepted_in_turn() {
    let packets = [(); 4].map(|()| first_packet());
    let bound = bind_all(&[([127, 0, 0, 1], 0).into(), ([127, 0, 0, 2], 0).into()]).unwrap();
    // All attempts wait before the server starts.
    let clients: Vec<Vec<UdpSocket>> = bound
        .iter()
        .map(|socket| {
            let client = |packet: &Vec<u8>| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                client.send_to(packet, socket.address).unwrap();
                client
            };
            packets.iter().map(client).collect()
        })
        .collect();
    // The server accepts two attempts, and answers the others with Retry packets.
    let _server = TestServer::start_on(bound, MoqtServerConfig { max_connections: 4, ..MoqtServerConfig::default() });
    let is_accepted = |client: &&UdpSocket| {
        let mut answer = [0; 2_048];
        client.recv(&mut answer).unwrap();
        answer[0] & 0xf0 != 0xf0
    };
    let accepted: Vec<usize> = clients.iter().map(|clients| clients.iter().filter(is_accepted).count()).collect();
    assert_eq!(accepted, [1, 1]);
}

#[test]
fn connections_are_rejected_or_closed_when_memory_is_scarce() {
    let memory_budget = MemoryBudget::new(Some(10 << 20));
    let config = MoqtServerConfig { memory_budget: Arc::clone(&memory_budget), ..MoqtServerConfig::default() };
    let server = TestServer::start(config);
    run_async(async {
        let greedy = ManualClient::open(&server, Transport::Quic).await;
        let _session = greedy.set_up().await;
        let moderate = ManualClient::open(&server, Transport::WebTransport).await;
        server.until("both are there", |reading| reading.connections_open == 2).await;
        // Other clients hold the rest, except for 1,200 KiB.
        let others = memory_budget.account(None);
        let packets = others.take(others.available() - (1_200 << 10)).unwrap();
        // Each stream counts 96 KiB. The moderate client has fewer than ten.
        let mut streams = Vec::new();
        for _ in 0..12 {
            streams.push(greedy.uni(b"\x00").await);
        }
        let open = |len: u64| memory_budget.held() >= (10 << 20) - (1_200 << 10) + len * (96 << 10);
        server.until("the streams are open", |_| open(12)).await;
        let _thirteenth = greedy.uni(b"\x00").await;
        let reason = greedy.connection.closed().await.to_string();
        assert!(reason.contains("the memory budget is used up"), "{reason}");
        let is_closed = |counts: &CounterSnapshot| counts.connections.connections_closed_memory == 1;
        let is_freed = || memory_budget.held() < 8 << 20;
        server.until("it is closed", |reading| is_closed(reading) && reading.connections_open == 1 && is_freed()).await;
        // A small session keeps its connection while nothing is left. A new connection does not fit.
        let rest = others.take(others.available()).unwrap();
        let before = memory_budget.held();
        let _stream = moderate.uni(b"\x00").await;
        server.until("its stream is open", |_| memory_budget.held() > before).await;
        let options = server.connect_options(Transport::Quic);
        let third_client = std::thread::spawn(move || run_client(&options, &groups(1, 1)).err()).join().unwrap();
        assert!(matches!(third_client, Some(MoqtConnectError::Failed(_))), "{third_client:?}");
        let reading = server.totals.snapshot();
        assert_eq!((reading.connections.connections_rejected_memory, reading.connections_open), (1, 1));
        assert!(moderate.connection.close_reason().is_none());
        drop((packets, rest));
        server.ordinary_echo(Transport::Quic);
        drop(moderate);
    });
    drop(server);
    assert_eq!(memory_budget.held(), 0);
}

#[test]
fn idle_connection_is_closed_and_counted() {
    let server =
        TestServer::start(MoqtServerConfig { idle_timeout: Duration::from_secs(3), ..MoqtServerConfig::default() });
    // The client no longer runs. Its timer ends the connection too, and a stateless reset would then end it at the server.
    let _client = run_async(connect(&server, b"moq-00", TransportConfig::default()));
    server.wait("it is closed", |reading| {
        reading.connections_open == 0 && reading.connections.connections_timed_out == 1
    });
}

#[test]
fn long_session_uses_no_more_memory_than_a_short_one() {
    // A busy machine may queue frames. The limits are high enough that nothing is dropped.
    let limits = SessionLimits { max_outgoing_groups: 10_000, ..SessionLimits::default() };
    let server = TestServer::start_alone(MoqtServerConfig { limits: limits.clone(), ..MoqtServerConfig::default() });
    let config = MoqtClientConfig { group_interval: Duration::from_micros(500), ..groups(10_000, 1) };
    let (mut returned_frames, mut early, mut grown) = (0, 0, 0);
    let observe = |client: &mut MoqtClient, _: &SessionRecord<'_>| {
        for event in std::iter::from_fn(|| client.poll_event()) {
            returned_frames += u64::from(matches!(event, MoqtClientEvent::FrameReturned { .. }));
        }
        if returned_frames < 1_000 {
            early = memory::now();
        }
        grown = memory::since(early);
    };
    let options = MoqtConnectOptions { limits, ..server.connect_options(Transport::WebTransport) };
    let client =
        client::run_session(&options, || MoqtClient::new(config.clone()), observe, &StopToken::default()).unwrap();
    assert_eq!(client.outcome(), Some(&MoqtRunOutcome::Completed));
    // Growth is measured from the 1,000th group on. If each of the 9,000 groups retained 100 bytes, memory would grow by 900,000 bytes.
    assert!(returned_frames == 10_000 && grown < 450_000, "{returned_frames} groups, {grown} bytes more");
}
