//! Clients that violate the protocol are closed with an error code or ignored. They cost a bounded amount of memory, and other clients are
//! still echoed.

use std::time::Duration;

use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::moqt::Transport;
use quinn::{ReadError, TransportConfig, VarInt};

use crate::manual_client::{ManualClient, golden, receive, run_async};
use crate::memory;
use crate::test_server::{BOTH, TestServer};

#[test]
fn ten_thousand_streams_are_rejected_one_by_one() {
    let server = TestServer::start_alone(MoqtServerConfig::default());
    for (before, over) in (0..).step_by(11_000).zip(BOTH) {
        run_async(async {
            let manual_client = ManualClient::open(&server, over).await;
            let _session = manual_client.set_up().await;
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
    for over in BOTH {
        run_async(async {
            let before = server.totals.snapshot().sessions;
            let mut transport = TransportConfig::default();
            transport.stream_receive_window((64_u32 << 10).into()).receive_window((256_u32 << 10).into());
            transport.send_window(1 << 20);
            let manual_client = ManualClient::open_with(&server, over, transport).await;
            let _session = manual_client.set_up().await;
            let _streams = set_up_tracks(&manual_client).await;
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
async fn set_up_tracks(manual_client: &ManualClient) -> impl Sized {
    let pieces = golden();
    let (mut announce_send, mut announce_request) = manual_client.accept_bidi().await;
    assert_eq!(receive(&mut announce_request, pieces["announce-please"].len()).await, pieces["announce-please"]);
    announce_send.write_all(&pieces["announce-active"]).await.unwrap();
    let (send, mut recv) = manual_client.bidi(&pieces["subscribe"]).await;
    assert_eq!(receive(&mut recv, pieces["info"].len()).await, pieces["info"]);
    let (mut wanted_send, mut wanted) = manual_client.accept_bidi().await;
    assert_eq!(receive(&mut wanted, pieces["subscribe"].len()).await, pieces["subscribe"]);
    wanted_send.write_all(&pieces["info"]).await.unwrap();
    (announce_send, announce_request, wanted_send, wanted, send, recv)
}

#[test]
fn stopped_group_is_counted_and_abandoned() {
    let server = TestServer::start(MoqtServerConfig::default());
    let pieces = golden();
    for (before, over) in (0..).zip(BOTH) {
        run_async(async {
            let manual_client = ManualClient::open(&server, over).await;
            let _session = manual_client.set_up().await;
            let _streams = set_up_tracks(&manual_client).await;
            let mut group = manual_client.uni(&[&pieces["group"][..], &pieces["frame"]].concat()).await;
            if over == Transport::WebTransport {
                // The first stream was HTTP/3's control stream.
                let _control = manual_client.connection.accept_uni().await.unwrap();
            }
            manual_client.connection.accept_uni().await.unwrap().stop(0_u32.into()).unwrap();
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            while server.totals.snapshot().sessions.groups_stopped == before {
                group.write_all(&pieces["frame"]).await.unwrap();
                ticks.tick().await;
            }
        });
        server.ordinary_echo(over);
    }
}
