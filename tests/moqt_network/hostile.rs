//! Clients that violate the protocol are closed with an error code or ignored. They cost a bounded amount of memory, and other clients are
//! still echoed.

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::moqt::{MoqtVersion, SessionLimits, Transport};
use quinn::{ReadError, RecvStream, TransportConfig, VarInt};

use crate::manual_client::{ManualClient, UNI, receive, run_async};
use crate::memory;
use crate::test_server::{BOTH, TestServer};

#[test]
fn invalid_or_missing_setup_closes_the_session_with_a_code_and_a_reason() {
    let limits = SessionLimits { setup_timeout: Duration::from_secs(3), ..SessionLimits::default() };
    let server = &TestServer::start(MoqtServerConfig { limits, ..MoqtServerConfig::default() });
    let cases: [(&[u8], bool, u64, &str); 5] = [
        (b"\x40\x40", false, 0x3, "CLIENT_SETUP of an IETF draft up to 10"),
        // The stream ends. The length field is 17, but only 2 bytes follow.
        (b"\x00\x11\x01\xc0", true, 0x3, "malformed session stream: "),
        // The client offers only version 0x1234. Parameter 1 is the path.
        (b"\x00\x0b\x01\x52\x34\x01\x01\x05/echo", false, 0x12, "no common version: offered 0x1234"),
        (b"\x00\x11\x01\xc0", false, 0x13, "setup timed out after 3 s"),
        (b"", false, 0x13, "setup timed out after 3 s"),
    ];
    std::thread::scope(|scope| {
        for (over, (first, finish, code, reason)) in BOTH.into_iter().flat_map(|over| cases.map(|case| (over, case))) {
            scope.spawn(move || {
                let closed = run_async(async {
                    let mut manual_client = ManualClient::open(server, over).await;
                    let (mut send, _recv) = manual_client.bidi(first).await;
                    if finish {
                        // The stream may have been rejected already.
                        let _ = send.finish();
                    }
                    manual_client.closed().await
                });
                assert!(closed.0 == code && closed.1.contains(reason), "{over:?} {first:x?}: {closed:?}");
                server.ordinary_echo(over);
            });
        }
    });
}

/// A manual client with a session in this version. The session stream, if the version has one, stays open.
pub(crate) async fn open_session(
    server: &TestServer,
    over: Transport,
    version: MoqtVersion,
    transport: TransportConfig,
) -> (ManualClient, impl Sized) {
    let manual_client = ManualClient::open_in(server, over, version, transport).await;
    let Some(code) = version.rules().session_code else { return (manual_client, None) };
    let path = if over == Transport::Quic { &b"\x01\x01\x05/echo"[..] } else { b"\x00" };
    // The version code in eight bytes. The path is parameter 1.
    let body = [&[1], &(code | 0xc000_0000_0000_0000).to_be_bytes()[..], path].concat();
    let (send, mut recv) = manual_client.bidi(&[&[0, body.len() as u8], &body[..]].concat()).await;
    let pieces = pieces_of(version);
    assert_eq!(receive(&mut recv, pieces["session-server"].len()).await, pieces["session-server"]);
    (manual_client, Some((send, recv)))
}

/// The golden messages of a version. The message that accepts a subscription is always named `subscribe-ok`.
fn pieces_of(version: MoqtVersion) -> BTreeMap<String, Vec<u8>> {
    let mut pieces = test_support::moqt_golden::pieces(&format!("{}.txt", version.name()));
    if let Some(info) = pieces.remove("info") {
        pieces.insert("subscribe-ok".to_owned(), info);
    }
    pieces
}

/// Each version over each transport, and the index of the combination.
fn all_combinations() -> impl Iterator<Item = (u64, Transport, MoqtVersion)> {
    let combinations = BOTH.into_iter().flat_map(|over| MoqtVersion::ALL.map(|version| (over, version)));
    (0..).zip(combinations).map(|(index, (over, version))| (index, over, version))
}

#[test]
fn ten_thousand_streams_are_rejected_one_by_one() {
    let server = TestServer::start_alone(MoqtServerConfig::default());
    for (index, over, version) in all_combinations() {
        let before = index * 11_000;
        run_async(async {
            let (manual_client, _session) = open_session(&server, over, version, TransportConfig::default()).await;
            let memory = memory::now();
            for _ in 0..10_000 {
                // The server may reject the stream before its end.
                let _ = manual_client.uni(b"\x09").await.finish();
            }
            // Error code 0x10, over WebTransport added to 0x52e4_a40f_a8db, where application error codes begin (draft 02, section 4.3).
            let code = if over == Transport::Quic { 0x10 } else { 0x52e4_a40f_a8db + 0x10 };
            for _ in 0..1_000 {
                let (mut send, mut recv) = manual_client.bidi(b"\x09").await;
                let _ = send.finish();
                assert_eq!(recv.read(&mut [0]).await, Err(ReadError::Reset(VarInt::from_u64(code).unwrap())));
            }
            server.until("all are refused", |reading| reading.sessions.streams_unknown_type == before + 11_000).await;
            memory::settle_below(memory, 1 << 20).await;
        });
        server.ordinary_echo(over);
    }
}

#[test]
fn stalled_reader_loses_the_oldest_groups_and_uses_bounded_memory() {
    const GROUPS: u8 = 60;
    const FRAMES: usize = 16;
    let server = TestServer::start_alone(MoqtServerConfig::default());
    for (_, over, version) in all_combinations() {
        run_async(async {
            let before = server.totals.snapshot().sessions;
            let mut transport = TransportConfig::default();
            transport.stream_receive_window((64_u32 << 10).into()).receive_window((256_u32 << 10).into());
            transport.send_window(1 << 20);
            let (manual_client, _session) = open_session(&server, over, version, transport).await;
            let _streams = set_up_tracks(&manual_client, version).await;
            let memory = memory::now();
            // A frame of 65,536 bytes.
            let frame = [b"\x80\x01\x00\x00".to_vec(), vec![7; 65_536]].concat();
            for sequence in 1..=GROUPS {
                let mut group = manual_client.uni(&[0x00, 0x02, 0x00, sequence]).await;
                for _ in 0..FRAMES {
                    group.write_all(&frame).await.unwrap();
                }
                group.finish().unwrap();
            }
            let received = before.received_bytes + u64::from(GROUPS) * FRAMES as u64 * 65_536;
            let reading = server.until("all is received", |reading| reading.sessions.received_bytes == received).await;
            // Of 60 groups of 1 MiB, the server buffers at most 4 MiB besides the transport's buffers, and drops the others.
            assert!(
                reading.sessions.groups_dropped_slow_reader >= before.groups_dropped_slow_reader + 50,
                "{reading:#?}"
            );
            memory::settle_below(memory, 16 << 20).await;
            server.ordinary_echo(over);
        });
    }
}

/// Sets up a track: the client announces it, accepts the server's subscription, and subscribes to the echo.
async fn set_up_tracks(manual_client: &ManualClient, version: MoqtVersion) -> impl Sized {
    let pieces = pieces_of(version);
    let (mut announce_send, mut announce_request) = manual_client.accept_bidi().await;
    let please = receive(&mut announce_request, pieces["announce-please"].len()).await;
    // The hop ID of the server is random. It follows the prefix.
    let fixed = if version == MoqtVersion::Lite04 { 4 } else { please.len() };
    assert_eq!(please[..fixed], pieces["announce-please"][..fixed]);
    if version.rules().has_announce_init {
        announce_send.write_all(&pieces["announce-init-none"]).await.unwrap();
    }
    let announce = pieces.get("announce-active-client").unwrap_or(&pieces["announce-active"]);
    announce_send.write_all(announce).await.unwrap();
    let (send, mut recv) = manual_client.bidi(&pieces["subscribe"]).await;
    assert_eq!(receive(&mut recv, pieces["subscribe-ok"].len()).await, pieces["subscribe-ok"]);
    let (mut wanted_send, mut wanted) = manual_client.accept_bidi().await;
    let subscribe = pieces.get("subscribe-relayed").unwrap_or(&pieces["subscribe"]);
    assert_eq!(receive(&mut wanted, subscribe.len()).await, *subscribe);
    wanted_send.write_all(&pieces["subscribe-ok"]).await.unwrap();
    (announce_send, announce_request, wanted_send, wanted, send, recv)
}

/// Returns the stream of the first group that the server sends. The next bytes of the stream are the first frame of the group.
async fn first_echo(manual_client: &ManualClient, pieces: &BTreeMap<String, Vec<u8>>) -> RecvStream {
    let mut echo = manual_client.connection.accept_uni().await.unwrap();
    let mut begins = pieces["group"].clone();
    if manual_client.request.is_some() {
        // The first stream was HTTP/3's control stream with the settings.
        echo = manual_client.connection.accept_uni().await.unwrap();
        begins.splice(..0, UNI.iter().copied());
    }
    assert_eq!(receive(&mut echo, begins.len()).await, begins);
    echo
}

#[test]
fn frames_return_byte_for_byte_and_a_stopped_group_is_counted_and_abandoned() {
    let server = TestServer::start(MoqtServerConfig::default());
    for (index, over, version) in all_combinations() {
        let pieces = pieces_of(version);
        run_async(async {
            let (manual_client, _session) = open_session(&server, over, version, TransportConfig::default()).await;
            let _streams = set_up_tracks(&manual_client, version).await;
            let mut group = manual_client.uni(&[&pieces["group"][..], &pieces["frame"]].concat()).await;
            let mut echo = first_echo(&manual_client, &pieces).await;
            assert_eq!(receive(&mut echo, pieces["frame"].len()).await, pieces["frame"]);
            // The second frame and the end of the group are sent only now.
            group.write_all(&pieces["frame"]).await.unwrap();
            assert_eq!(receive(&mut echo, pieces["frame"].len()).await, pieces["frame"]);
            group.finish().unwrap();
            assert_eq!(echo.read_to_end(0).await.unwrap(), b"");
            let mut group = manual_client.uni(&[&pieces["group"][..], &pieces["frame"]].concat()).await;
            manual_client.connection.accept_uni().await.unwrap().stop(0_u32.into()).unwrap();
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            while server.totals.snapshot().sessions.groups_stopped <= index {
                group.write_all(&pieces["frame"]).await.unwrap();
                ticks.tick().await;
            }
        });
        server.ordinary_echo(over);
    }
}

/// A parameter or a path segment of a million bytes (0xf4240), with its length before it.
fn million_byte_field() -> Vec<u8> {
    [&[0x80, 0x0f, 0x42, 0x40][..], &vec![b'x'; 1_000_000]].concat()
}

/// A message, preceded by its length in four bytes.
fn message(body: &[u8]) -> Vec<u8> {
    [&(0x8000_0000 | body.len() as u32).to_be_bytes()[..], body].concat()
}

#[test]
fn subscription_parameters_are_not_retained() {
    let server = TestServer::start_alone(MoqtServerConfig::default());
    let pieces = test_support::moqt_golden::pieces("gomoqt-2025-02.txt");
    run_async(async {
        let (manual_client, _session) =
            open_session(&server, Transport::Quic, MoqtVersion::Gomoqt202502, TransportConfig::default()).await;
        let _streams = set_up_tracks(&manual_client, MoqtVersion::Gomoqt202502).await;
        let memory = memory::now();
        let mut open_streams = Vec::new();
        for number in 1..16 {
            // SUBSCRIBE: number, path of three segments, priority, order, first and last group, and one parameter of a million bytes.
            let track = b"\x03\x05japan\x05kyoto\x04text\x00\x00\x00\x00\x01\x07";
            let body = [&[number], &track[..], &million_byte_field()].concat();
            let (mut send, mut recv) = manual_client.bidi(&[&[2], &message(&body)[..]].concat()).await;
            assert_eq!(receive(&mut recv, pieces["info"].len()).await, pieces["info"]);
            // SUBSCRIBE_UPDATE repeats the fields that follow the path in SUBSCRIBE.
            send.write_all(&message(&[b"\x00\x00\x00\x00\x01\x07", &million_byte_field()[..]].concat())).await.unwrap();
            open_streams.push((send, recv));
        }
        // The server reads this group after all of these messages. The server then sends the group to each of the 16 subscribers.
        manual_client.uni(&[&pieces["group"][..], &pieces["frame"]].concat()).await;
        server.until("all are served", |reading| reading.sessions.frames_sent == 16).await;
        // Retained parameters would take 15,000,000 bytes of the subscriptions and as many of their updates.
        memory::settle_below(memory, 8_000_000).await;
    });
}
