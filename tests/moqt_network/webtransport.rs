//! WebTransport over QUIC: the request, its rejection, and HTTP/3 streams outside of sessions.

use std::time::Duration;

use jamjam_dev::io::moqt::CounterSnapshot;
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::moqt::{SessionLimits, Transport};
use quinn::{ConnectionError, TransportConfig};

use crate::manual_client::{ManualClient, golden, receive, request, request_with, run_async};
use crate::test_server::TestServer;

#[test]
fn unknown_path_gets_404_and_closes_after_the_response_is_read() {
    let server = TestServer::start(MoqtServerConfig::default());
    run_async(async {
        let head = request("CONNECT", b"webtransport", b"/nope");
        let mut manual_client = ManualClient::open_with_request(&server, &head, TransportConfig::default()).await;
        server.until("it is refused", |reading| reading.connections.requests_rejected == 1).await;
        // When the server has acknowledged another stream, the client would have received a close that the server had sent before.
        let mut other = manual_client.connection.open_uni().await.unwrap();
        other.write_all(b"\x21").await.unwrap();
        other.finish().unwrap();
        assert_eq!(other.stopped().await, Ok(None), "the stream has arrived");
        assert!(manual_client.connection.close_reason().is_none());
        assert_eq!(manual_client.status().await, 404);
        assert_eq!(server.totals.snapshot().connections_open, 1);
        manual_client.connection.close(0x100_u32.into(), b"");
        server.until("it is gone", |reading| reading.connections_open == 0).await;
    });
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn only_valid_requests_for_a_session_get_200() {
    let server = TestServer::start(MoqtServerConfig::default());
    let valid = request("CONNECT", b"webtransport", b"/echo");
    let with = |mut head: Vec<u8>, fields: &[u8]| {
        head[2] += fields.len() as u8;
        head.extend(fields);
        head
    };
    let mut rejected = 0;
    for (head, status) in [
        (valid.clone(), 200),
        (request("CONNECT", b"webtransport-h3", b"/echo"), 200),
        (with(valid.clone(), b"\x23foo\x01x"), 200),
        (request("GET", b"", b"/echo"), 400),
        (request("CONNECT", b"websocket", b"/echo"), 400),
        (request("CONNECT", b"webtransport", b"/\xff\xfe"), 400),
        // A HEADERS frame whose length is above the maximum, and a DATA frame in place of the head.
        (b"\x01\x80\x01\x00\x00".to_vec(), 400),
        (b"\x00\x01\x00".to_vec(), 400),
    ] {
        run_async(async {
            let mut manual_client = ManualClient::open_with_request(&server, &head, TransportConfig::default()).await;
            assert_eq!(manual_client.status().await, status, "{head:x?}");
            if status == 200 {
                let _session = manual_client.set_up().await;
            }
        });
        rejected += u64::from(status == 400);
        assert_eq!(server.totals.snapshot().connections.requests_rejected, rejected);
    }
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn first_supported_offer_is_selected_and_other_fields_are_ignored() {
    let server = TestServer::start(MoqtServerConfig::default());
    for (offer, selected) in [
        (r#""moq-lite-05", "moq-lite-03", "moq-lite-04""#, Some("\"moq-lite-03\"")),
        (r#""moq-lite-04";q=1"#, Some("\"moq-lite-04\"")),
        (r#""moqt-16","moq-00","moq-lite-04""#, Some("\"moq-00\"")),
        // A malformed field, or one with other values than strings, is ignored.
        ("moq-lite-04", None),
        (r#""moq-lite-04"#, None),
        (r#""moq-lite-04", 7"#, None),
        (r#"("moq-lite-04")"#, None),
        ("", None),
    ] {
        run_async(async {
            let head = request_with("CONNECT", b"webtransport", b"/echo", offer.as_bytes());
            let mut manual_client = ManualClient::open_with_request(&server, &head, TransportConfig::default()).await;
            let (status, protocol) = manual_client.response().await;
            assert_eq!((status, protocol.as_deref()), (200, selected), "{offer}");
            if selected.is_some_and(|name| name.contains("lite")) {
                // ANNOUNCE_REQUEST with the prefix `/`. There is no setup.
                let (_send, mut recv) = manual_client.accept_bidi().await;
                let len = if selected == Some("\"moq-lite-03\"") { 0x02 } else { 0x0a };
                assert_eq!(receive(&mut recv, 4).await, [0x01, len, 0x01, b'/'], "{offer}");
            } else {
                let _session = manual_client.set_up().await;
            }
        });
    }
    assert_eq!(server.totals.snapshot().sessions.setups_failed, 0);
}

#[test]
fn more_than_64_kib_after_a_request_closes_the_connection() {
    let server = TestServer::start(MoqtServerConfig::default());
    run_async(async {
        let mut manual_client = ManualClient::open(&server, Transport::WebTransport).await;
        let _session = manual_client.set_up().await;
        let (send, _) = manual_client.request.as_mut().unwrap();
        // Empty DATA frames. The server may close before everything is sent.
        let _ = send.write_all(&b"\x00\x00".repeat(40 << 10)).await;
        let ConnectionError::ApplicationClosed(close) = manual_client.connection.closed().await else {
            panic!("the server did not close the connection")
        };
        // H3_EXCESSIVE_LOAD.
        assert_eq!(close.error_code.into_inner(), 0x107);
        assert!(close.reason.windows(14).any(|text| text == b"too many bytes"), "{close}");
        let is_counted = |reading: &CounterSnapshot| {
            (reading.connections_open, reading.connections.connections_closed_excessive_load) == (0, 1)
        };
        server.until("it is counted", is_counted).await;
    });
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn offer_without_a_supported_version_is_rejected_with_its_names() {
    let server = TestServer::start(MoqtServerConfig::default());
    run_async(async {
        let head = request_with("CONNECT", b"webtransport", b"/echo", br#""moq-lite-05", "moqt-16""#);
        let mut manual_client = ManualClient::open_with_request(&server, &head, TransportConfig::default()).await;
        assert_eq!(manual_client.response().await, (200, None));
        let (code, reason) = manual_client.closed().await;
        let names = "offered moq-lite-05, moqt-16, supported moq-lite-04, moq-lite-03, moq-00";
        assert_eq!((code, reason), (0x12, format!("no common version: {names}")));
        server.until("it is counted", |reading| reading.connections.requests_rejected == 1).await;
        assert_eq!(server.totals.snapshot().sessions.setups_failed, 1);
    });
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn unread_response_is_given_up() {
    let setup_timeout = Duration::from_secs(3);
    let server = TestServer::start(MoqtServerConfig {
        limits: SessionLimits { setup_timeout, ..SessionLimits::default() },
        ..MoqtServerConfig::default()
    });
    run_async(async {
        let head = request("CONNECT", b"webtransport", b"/echo");
        let mut reader = ManualClient::open_with_request(&server, &head, TransportConfig::default()).await;
        assert_eq!(reader.status().await, 200);
        // Before its response, the server sends a control stream with SETTINGS (RFC 9114, section 7.2.4). SETTINGS has less than 64 bytes.
        let mut control = reader.connection.accept_uni().await.unwrap();
        let start = receive(&mut control, 3).await;
        assert_eq!(start[..2], [0x00, 0x04]);
        let settings = 3 + u32::from(start[2]);
        reader.connection.close(0x100_u32.into(), b"");
        // The client's flow-control window is exactly as large as SETTINGS, so the server cannot send its response.
        let mut transport = TransportConfig::default();
        transport.receive_window(settings.into());
        let manual_client = ManualClient::open_with_request(&server, &head, transport).await;
        server
            .until("it is refused", |reading| {
                reading.connections.requests_rejected == 1 && reading.connections_open == 0
            })
            .await;
        assert_eq!(server.totals.snapshot().sessions.setups_failed, 1);
        drop(manual_client);
    });
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn end_of_the_request_stream_ends_the_session() {
    let server = TestServer::start(MoqtServerConfig::default());
    // A close without a reason, and one with code 7 and the reason "bye".
    for request_bytes in [&b""[..], b"\x00\x0a\x68\x43\x07\x00\x00\x00\x07bye"] {
        run_async(async {
            let mut manual_client = ManualClient::open(&server, Transport::WebTransport).await;
            let _session = manual_client.set_up().await;
            assert_eq!(server.totals.snapshot().connections_open, 1);
            let (send, _) = manual_client.request.as_mut().unwrap();
            send.write_all(request_bytes).await.unwrap();
            send.finish().unwrap();
            server.until("the session has ended", |reading| reading.connections_open == 0).await;
        });
    }
}

#[test]
fn stream_without_a_type_does_not_block_other_streams() {
    let server = TestServer::start(MoqtServerConfig::default());
    run_async(async {
        let manual_client = ManualClient::open(&server, Transport::WebTransport).await;
        let _session = manual_client.set_up().await;
        // Each of these streams has only half of its prefix.
        let (mut half, _recv) = manual_client.connection.open_bi().await.unwrap();
        half.write_all(b"\x40").await.unwrap();
        let mut other_half = manual_client.connection.open_uni().await.unwrap();
        other_half.write_all(b"\x40\x54").await.unwrap();
        let pieces = golden();
        let _later = manual_client.bidi(&pieces["subscribe"]).await;
        let (mut announce_request, mut recv) = manual_client.accept_bidi().await;
        assert_eq!(receive(&mut recv, pieces["announce-please"].len()).await, pieces["announce-please"]);
        announce_request.write_all(&pieces["announce-active"]).await.unwrap();
        server.until("the later one is agreed to", |reading| reading.sessions.subscriptions == 1).await;
    });
}

#[test]
fn streams_of_other_sessions_and_later_requests_are_rejected() {
    let server = TestServer::start(MoqtServerConfig::default());
    run_async(async {
        let manual_client = ManualClient::open(&server, Transport::WebTransport).await;
        let _session = manual_client.set_up().await;
        // A stream of session 4, which does not exist, and one that begins with an HTTP request instead of a WebTransport stream header.
        let (mut other, _recv) = manual_client.connection.open_bi().await.unwrap();
        other.write_all(b"\x40\x41\x04\x00").await.unwrap();
        assert_eq!(other.stopped().await.unwrap().unwrap().into_inner(), 0x3994_bd84);
        let (mut request, _recv) = manual_client.connection.open_bi().await.unwrap();
        request.write_all(&crate::manual_client::request("GET", b"", b"/")).await.unwrap();
        assert_eq!(request.stopped().await.unwrap().unwrap().into_inner(), 0x10b);
        server.until("both are counted", |reading| reading.connections.streams_stray == 2).await;
    });
    server.ordinary_echo(Transport::WebTransport);
}
