//! What WebTransport adds: the request, its refusal, and streams of HTTP/3 that are nobody's.

use std::time::Duration;

use jamjam_dev::io::moqt::client::MoqtConnectError;
use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::moqt::SessionLimits;
use jamjam_dev::moqt::Transport;
use quinn::{RecvStream, SendStream, TransportConfig};

use crate::echoing::{Echoing, call, groups};
use crate::stranger::{Stranger, hear, play, request};

/// A set-up on a session that is there.
async fn set_up(stranger: &Stranger) -> (SendStream, RecvStream) {
    let pieces = test_support::moqt_golden::pieces("seed.txt");
    let (send, mut recv) = stranger.bidi(&pieces["session-client"]).await;
    assert_eq!(hear(&mut recv, pieces["session-server"].len()).await, pieces["session-server"]);
    (send, recv)
}

#[test]
fn an_unknown_path_is_answered_with_404_and_the_connection_stays_until_that_was_read() {
    let server = Echoing::start(MoqtServerConfig::default());
    play(async {
        let head = request("CONNECT", b"webtransport", b"/nope");
        let mut stranger = Stranger::ask(&server, &head, TransportConfig::default()).await;
        server.until("it is refused", |reading| reading.connections.requests_rejected == 1).await;
        // A connection that was closed would be gone after as many round trips as a stream needs to be refused.
        let mut other = stranger.connection.open_uni().await.unwrap();
        other.write_all(b"\x21").await.unwrap();
        other.finish().unwrap();
        assert_eq!(other.stopped().await, Ok(None), "it has arrived");
        assert!(stranger.connection.close_reason().is_none());
        assert_eq!(stranger.status().await, 404);
        assert_eq!(server.totals.snapshot().connections_open, 1);
        stranger.connection.close(0x100_u32.into(), b"");
        server.until("it is gone", |reading| reading.connections_open == 0).await;
    });
    let mut dial = server.dial(Transport::WebTransport);
    dial.url.path = "/nope".to_owned();
    let refused = call(&dial, &groups(1, 1)).err();
    assert!(matches!(refused, Some(MoqtConnectError::HttpStatus { status: 404, .. })), "{refused:?}");
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn a_request_that_is_none_for_a_session_is_answered_with_400() {
    let server = Echoing::start(MoqtServerConfig::default());
    let heads = [
        request("GET", b"", b"/echo"),
        request("CONNECT", b"websocket", b"/echo"),
        request("CONNECT", b"webtransport", b"/\xff\xfe"),
        // A length of more than there may be.
        b"\x01\x80\x01\x00\x00".to_vec(),
        // A DATA frame where the head should be.
        b"\x00\x01\x00".to_vec(),
    ];
    for (place, head) in heads.iter().enumerate() {
        play(async {
            let mut stranger = Stranger::ask(&server, head, TransportConfig::default()).await;
            assert_eq!(stranger.status().await, 400, "{head:x?}");
        });
        assert_eq!(server.totals.snapshot().connections.requests_rejected, place as u64 + 1);
    }
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn both_names_of_the_protocol_are_understood_from_a_client_that_says_nothing_of_webtransport_before() {
    let server = Echoing::start(MoqtServerConfig::default());
    for protocol in ["webtransport", "webtransport-h3"] {
        play(async {
            let head = request("CONNECT", protocol.as_bytes(), b"/echo");
            let mut stranger = Stranger::ask(&server, &head, TransportConfig::default()).await;
            assert_eq!(stranger.status().await, 200, "{protocol}");
            let _session = set_up(&stranger).await;
        });
    }
}

#[test]
fn an_answer_that_is_not_taken_is_given_up() {
    let setup_timeout = Duration::from_secs(1);
    let server = Echoing::start(MoqtServerConfig {
        limits: SessionLimits { setup_timeout, ..SessionLimits::default() },
        ..MoqtServerConfig::default()
    });
    play(async {
        let head = request("CONNECT", b"webtransport", b"/echo");
        let mut reader = Stranger::ask(&server, &head, TransportConfig::default()).await;
        assert_eq!(reader.status().await, 200);
        // What the server says before its answer: a control stream with SETTINGS (RFC 9114, section 7.2.4) of less than 64 bytes.
        let mut control = reader.connection.accept_uni().await.unwrap();
        let start = hear(&mut control, 3).await;
        assert_eq!(start[..2], [0x00, 0x04]);
        let settings = 3 + u32::from(start[2]);
        reader.connection.close(0x100_u32.into(), b"");
        // Room for that and not a byte more, and nobody reads it.
        let mut transport = TransportConfig::default();
        transport.receive_window(settings.into());
        let stranger = Stranger::ask(&server, &head, transport).await;
        server
            .until("it is refused", |reading| {
                reading.connections.requests_rejected == 1 && reading.connections_open == 0
            })
            .await;
        assert_eq!(server.totals.snapshot().sessions.setups_failed, 1);
        drop(stranger);
    });
    server.ordinary_echo(Transport::WebTransport);
}

#[test]
fn the_end_of_the_requests_stream_is_the_end_of_the_session() {
    let server = Echoing::start(MoqtServerConfig::default());
    // An end without a word, and one with code 7 and the reason "bye".
    for said in [&b""[..], b"\x00\x0a\x68\x43\x07\x00\x00\x00\x07bye"] {
        play(async {
            let mut stranger = Stranger::come(&server, Transport::WebTransport).await;
            let _session = set_up(&stranger).await;
            assert_eq!(server.totals.snapshot().connections_open, 1);
            let (send, _) = stranger.request.as_mut().unwrap();
            send.write_all(said).await.unwrap();
            send.finish().unwrap();
            server.until("the session has ended", |reading| reading.connections_open == 0).await;
        });
    }
}

#[test]
fn a_stream_that_never_says_what_it_is_for_keeps_no_other_waiting() {
    let server = Echoing::start(MoqtServerConfig::default());
    play(async {
        let stranger = Stranger::come(&server, Transport::WebTransport).await;
        let _session = set_up(&stranger).await;
        // Half a prefix each.
        let (mut half, _recv) = stranger.connection.open_bi().await.unwrap();
        half.write_all(b"\x40").await.unwrap();
        let mut other_half = stranger.connection.open_uni().await.unwrap();
        other_half.write_all(b"\x40\x54").await.unwrap();
        let subscribe = &test_support::moqt_golden::pieces("seed.txt")["subscribe"];
        let _later = stranger.bidi(subscribe).await;
        let (mut asked, mut recv) = stranger.theirs().await;
        let pieces = test_support::moqt_golden::pieces("seed.txt");
        assert_eq!(hear(&mut recv, pieces["announce-please"].len()).await, pieces["announce-please"]);
        asked.write_all(&pieces["announce-active"]).await.unwrap();
        server.until("the later one is agreed to", |reading| reading.sessions.subscriptions == 1).await;
    });
}

#[test]
fn streams_of_another_session_and_later_requests_are_refused_and_counted() {
    let server = Echoing::start(MoqtServerConfig::default());
    play(async {
        let stranger = Stranger::come(&server, Transport::WebTransport).await;
        let _session = set_up(&stranger).await;
        // Session 4, and a head where a prefix should be.
        let (mut other, _recv) = stranger.connection.open_bi().await.unwrap();
        other.write_all(b"\x40\x41\x04\x00").await.unwrap();
        assert_eq!(other.stopped().await.unwrap().unwrap().into_inner(), 0x3994_bd84);
        let (mut request, _recv) = stranger.connection.open_bi().await.unwrap();
        request.write_all(&crate::stranger::request("GET", b"", b"/")).await.unwrap();
        assert_eq!(request.stopped().await.unwrap().unwrap().into_inner(), 0x10b);
        server.until("both are counted", |reading| reading.connections.streams_stray == 2).await;
    });
    server.ordinary_echo(Transport::WebTransport);
}
