//! This project's MOQT client connected to this project's MOQT server.

use std::time::Duration;

use jamjam_dev::io::moqt::client;
use jamjam_dev::io::moqt::connect::MoqtConnectOptions;
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::moqt::Transport;
use jamjam_dev::moqt::client::{MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use jamjam_dev::moqt::{MoqtVersion, SessionLimits};

use crate::memory;
use crate::ordered_exchange::OrderedExchange;
use crate::test_server::{BOTH, TestServer, all_frames, groups, run_client};

#[test]
fn fifty_groups_of_two_frames_return_in_order_over_both_transports() {
    let server = TestServer::start(MoqtServerConfig::default());
    for transport in BOTH {
        let each = MoqtVersion::ALL.map(|version| (vec![version], version));
        for (offers, version) in each.into_iter().chain([(MoqtVersion::ALL.to_vec(), MoqtVersion::Lite04)]) {
            let mut options = server.connect_options(transport);
            options.offered_versions = offers;
            let run = run_client(&options, &groups(50, 2)).unwrap();
            assert_eq!(run.outcome.handler.outcome(), Some(&MoqtRunOutcome::Completed));
            assert_eq!(run.returned_frames(), all_frames(50, 2), "{transport:?} {:?}", options.offered_versions);
            let is_expected = |event: &MoqtClientEvent| matches!(event, MoqtClientEvent::Established { version: actual, .. } if *actual == version);
            assert!(run.events.iter().any(is_expected), "{transport:?} {version:?}: {:?}", run.events[0]);
            let is_unmatched =
                |event: &MoqtClientEvent| matches!(event, MoqtClientEvent::FrameReturned { sent_at: None, .. });
            assert!(!run.events.iter().any(is_unmatched));
        }
    }
    let reading = server.wait("all have gone", |reading| reading.connections_open == 0);
    assert_eq!((reading.connections.connections_quic, reading.connections.connections_webtransport), (5, 5));
    let counts = reading.sessions;
    assert_eq!(
        (counts.sessions, counts.groups_received, counts.frames_received, counts.frames_sent),
        (10, 500, 1_000, 1_000)
    );
}

#[test]
fn twenty_concurrent_clients_each_receive_their_own_frames() {
    let server = TestServer::start(MoqtServerConfig::default());
    let clients: Vec<_> = (0..20)
        .map(|number| {
            let options = server.connect_options(BOTH[number % 2]);
            std::thread::spawn(move || run_client(&options, &groups(10, 2)).unwrap())
        })
        .collect();
    for client in clients {
        let run = client.join().unwrap();
        assert_eq!(run.outcome.handler.outcome(), Some(&MoqtRunOutcome::Completed));
        assert_eq!(run.returned_frames(), all_frames(10, 2));
    }
    let reading = server.totals.snapshot();
    assert_eq!((reading.sessions.sessions, reading.sessions.frames_sent), (20, 400));
}

#[test]
fn second_frame_returns_before_the_group_ends() {
    let server = TestServer::start(MoqtServerConfig::default());
    for (transport, version) in BOTH.into_iter().flat_map(|over| MoqtVersion::ALL.map(|version| (over, version))) {
        // The client sends the second frame after the echo of the first frame. After the echo of the second frame, the client ends the
        // group.
        let options = MoqtConnectOptions { offered_versions: vec![version], ..server.connect_options(transport) };
        let outcome = client::run_session(&options, OrderedExchange::default, |_| (), &StopToken::default()).unwrap();
        assert_eq!(outcome.handler.received, ["first", "second", "end"], "{transport:?} {version:?}");
    }
}

#[test]
fn shutdown_closes_every_session_with_code_0_and_a_reason() {
    for transport in BOTH {
        let mut server = TestServer::start(MoqtServerConfig::default());
        let options = server.connect_options(transport);
        let endless = MoqtClientConfig { group_count: None, ..groups(0, 1) };
        let client = std::thread::spawn(move || run_client(&options, &endless).unwrap());
        server.wait("frames are echoed", |reading| reading.sessions.frames_sent > 3);
        server.stop();
        let run = client.join().unwrap();
        let expected =
            MoqtRunOutcome::Closed { code: 0, reason: "server is shutting down".to_owned(), closed_locally: false };
        assert_eq!(run.outcome.handler.outcome(), Some(&expected), "{transport:?}");
    }
}

#[test]
fn each_setup_phase_has_its_duration() {
    let server = TestServer::start(MoqtServerConfig::default());
    for transport in BOTH {
        let setup_time = run_client(&server.connect_options(transport), &groups(1, 1)).unwrap().outcome.connect_times;
        assert!(setup_time.quic_ns.is_some_and(|took| took > 0) && setup_time.session_ns.is_some_and(|took| took > 0));
        assert_eq!(setup_time.webtransport_ns.is_some(), transport == Transport::WebTransport);
    }
}

#[test]
fn long_session_uses_no_more_memory_than_a_short_one() {
    // A busy machine may queue frames. The limits are high enough that nothing is dropped.
    let limits = SessionLimits { max_outgoing_groups: 10_000, ..SessionLimits::default() };
    let server = TestServer::start_alone(MoqtServerConfig { limits: limits.clone(), ..MoqtServerConfig::default() });
    let config = MoqtClientConfig { group_interval: Duration::from_micros(500), ..groups(10_000, 1) };
    let (mut returned_frames, mut early, mut grown) = (0, 0, 0);
    let observe = |client: &mut MoqtClient| {
        for event in std::iter::from_fn(|| client.poll_event()) {
            returned_frames += u64::from(matches!(event, MoqtClientEvent::FrameReturned { .. }));
        }
        if returned_frames < 1_000 {
            early = memory::now();
        }
        grown = memory::since(early);
    };
    let options = MoqtConnectOptions { limits, ..server.connect_options(Transport::WebTransport) };
    let outcome =
        client::run_session(&options, || MoqtClient::new(config.clone()), observe, &StopToken::default()).unwrap();
    assert_eq!(outcome.handler.outcome(), Some(&MoqtRunOutcome::Completed));
    // Growth is measured from the 1,000th group on. If each of the 9,000 groups retained 100 bytes, memory would grow by 900,000 bytes.
    assert!(returned_frames == 10_000 && grown < 450_000, "{returned_frames} groups, {grown} bytes more");
}
