//! Clients that flood the stream of the CONNECT request with empty frames and capsules.

use std::sync::atomic::{AtomicBool, Ordering};

use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::moqt::client::MoqtRunOutcome;
use jamjam_dev::moqt::{SessionLimits, Transport};
use quinn::{ConnectionError, TransportConfig};

use crate::manual_client::{ManualClient, receive, request, run_async};
use crate::test_server::{BOTH, TIMEOUT, TestServer, all_frames, groups, run_client};

/// More than the 64 KiB that the server reads from the stream of a CONNECT request.
const ENOUGH: usize = 80 << 10;

/// HTTP/3's `H3_EXCESSIVE_LOAD`.
const EXCESSIVE_LOAD: u64 = 0x107;

/// A server whose setup timeout is long enough for a busy machine.
fn long_timeouts() -> MoqtServerConfig {
    MoqtServerConfig {
        limits: SessionLimits { setup_timeout: TIMEOUT, ..SessionLimits::default() },
        ..MoqtServerConfig::default()
    }
}

/// Returns the bytes of five floods that carry no application data. Three floods consist of empty frames: of type DATA, of a reserved type,
/// or of an unknown type. The fourth flood consists of empty capsules in DATA frames. The fifth flood begins with a
/// `CLOSE_WEBTRANSPORT_SESSION` capsule without a code, and continues like the fourth flood.
fn flood_bytes() -> [Vec<u8>; 5] {
    let capsules = [&b"\x00\x7f\xfe"[..], &b"\x17\x00".repeat(8_191)].concat();
    let repeated = |bytes: &[u8]| bytes.repeat(ENOUGH.div_ceil(bytes.len()));
    let short = [&b"\x00\x03\x68\x43\x00"[..], &repeated(&capsules)].concat();
    [repeated(b"\x00\x00"), repeated(b"\x21\x00"), repeated(b"\x3f\x00"), repeated(&capsules), short]
}

/// Sends the bytes on the request stream, and waits until the server has closed the connection. Returns the code and the reason.
async fn flood(manual_client: &mut ManualClient, bytes: &[u8]) -> (u64, String) {
    let (send, _) = manual_client.request.as_mut().unwrap();
    // The server may close before everything is sent.
    let _ = send.write_all(bytes).await;
    match manual_client.connection.closed().await {
        ConnectionError::ApplicationClosed(close) => {
            (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
        }
        error => panic!("the server did not close the connection: {error}"),
    }
}

#[test]
fn empty_frames_beyond_16_kib_before_a_request_are_rejected() {
    let server = TestServer::start(long_timeouts());
    let head = request("CONNECT", b"webtransport", b"/echo");
    for (frames, status) in [(8_000, 200), (8_192, 400)] {
        run_async(async {
            let bytes = [&b"\x21\x00".repeat(frames)[..], &head].concat();
            let mut manual_client = ManualClient::open_with_request(&server, &bytes, TransportConfig::default()).await;
            assert_eq!(manual_client.status().await, status, "{frames} frames");
        });
    }
    assert_eq!(server.totals.snapshot().connections.requests_rejected, 1);
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn more_than_64_kib_after_a_request_closes_the_connection() {
    let server = TestServer::start(long_timeouts());
    let pieces = test_support::moqt_golden::pieces("gomoqt-2025-02.txt");
    let mut closed = 0;
    for bytes in flood_bytes() {
        for is_set_up in [false, true] {
            run_async(async {
                let mut manual_client = ManualClient::open(&server, Transport::WebTransport).await;
                let mut session = None;
                if is_set_up {
                    let (_, recv) = session.insert(manual_client.bidi(&pieces["session-client"]).await);
                    assert_eq!(receive(recv, pieces["session-server"].len()).await, pieces["session-server"]);
                }
                let (code, reason) = flood(&mut manual_client, &bytes).await;
                assert_eq!(code, EXCESSIVE_LOAD, "{:x?}: {reason}", &bytes[..5]);
                assert!(reason.contains("too many bytes"), "{reason}");
                closed += 1;
                let counted = |arrivals: jamjam_dev::io::moqt::ConnectionCounters| {
                    arrivals.connections_closed_excessive_load == closed
                };
                server
                    .until("it is counted", |reading| reading.connections_open == 0 && counted(reading.connections))
                    .await;
            });
        }
    }
    assert_eq!(server.totals.snapshot().sessions.setups_failed, closed / 2);
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn flooding_clients_are_closed_and_another_echo_is_complete() {
    let server = &TestServer::start(long_timeouts());
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = flood_bytes().into_iter().take(3).map(|bytes| {
            scope.spawn(move || {
                let mut closed = 0;
                // Each client reconnects as soon as the server has closed its connection.
                while closed == 0 || !done.load(Ordering::Relaxed) {
                    run_async(async {
                        let mut manual_client = ManualClient::open(server, Transport::WebTransport).await;
                        assert_eq!(flood(&mut manual_client, &bytes).await.0, EXCESSIVE_LOAD);
                    });
                    closed += 1;
                }
                closed
            })
        });
        let flooding: Vec<_> = flooding.collect();
        for transport in BOTH {
            let run = run_client(&server.connect_options(transport), &groups(50, 1)).unwrap();
            assert_eq!(run.outcome.handler.outcome(), Some(&MoqtRunOutcome::Completed));
            assert_eq!(run.returned_frames(), all_frames(50, 1));
        }
        done.store(true, Ordering::Relaxed);
        for flooder in flooding {
            assert!(flooder.join().unwrap() > 0);
        }
    });
}
