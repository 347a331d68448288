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
use crate::test_server::{BOTH, TestServer, all_frames, groups, run_client};

#[test]
fn concurrent_clients_receive_their_own_groups_in_order_in_every_version() {
    let server = &TestServer::start(MoqtServerConfig::default());
    let each = MoqtVersion::ALL.map(|version| (vec![version], version)).into_iter();
    let offers: Vec<_> = each.chain([(MoqtVersion::ALL.to_vec(), MoqtVersion::Lite04)]).collect();
    std::thread::scope(|scope| {
        for (transport, (offers, version)) in
            BOTH.into_iter().flat_map(|over| offers.iter().map(move |one| (over, one)))
        {
            scope.spawn(move || {
                let options =
                    MoqtConnectOptions { offered_versions: offers.clone(), ..server.connect_options(transport) };
                let run = run_client(&options, &groups(50, 2)).unwrap();
                assert_eq!(run.outcome.handler.outcome(), Some(&MoqtRunOutcome::Completed));
                assert_eq!(run.returned_frames(), all_frames(50, 2), "{transport:?} {offers:?}");
                let is_expected = |event: &MoqtClientEvent| matches!(event, MoqtClientEvent::Established { version: actual, .. } if actual == version);
                assert!(run.events.iter().any(is_expected), "{transport:?} {version:?}: {:?}", run.events[0]);
                let is_unmatched =
                    |event: &MoqtClientEvent| matches!(event, MoqtClientEvent::FrameReturned { sent_at: None, .. });
                assert!(!run.events.iter().any(is_unmatched));
                let times = run.outcome.connect_times;
                assert!(times.quic_ns.is_some_and(|took| took > 0) && times.session_ns.is_some_and(|took| took > 0));
                assert_eq!(times.webtransport_ns.is_some(), transport == Transport::WebTransport);
            });
        }
    });
    let reading = server.wait("all have gone", |reading| reading.connections_open == 0);
    assert_eq!((reading.connections.connections_quic, reading.connections.connections_webtransport), (5, 5));
    let counts = reading.sessions;
    assert_eq!(
        (counts.sessions, counts.groups_received, counts.frames_received, counts.frames_sent),
        (10, 500, 1_000, 1_000)
    );
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
