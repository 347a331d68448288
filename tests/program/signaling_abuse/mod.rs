//! Malicious clients of a `signaling-server` process: its memory is bounded, other clients are not affected, and each kind of abuse is
//! counted. `CHURN=100000 cargo test --test program signaling_abuse` opens and closes ten times as many connections as the default.

mod hostile;

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use test_support::server::{Member, Server, Since, frame, frame_with_length, poll_until, tcp};

use hostile::{Duo, MAX_MESSAGE_LEN, close_code, upgrade_request, upgraded};

/// Each message is counted, and other clients still chat. All invalid frames are tested in `src/io/websocket/checked_stream.rs`.
#[test]
fn invalid_message_closes_its_own_connection_with_its_code() {
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    for (code, count, message) in [
        (1009, "closed_message_too_big_total", frame(0x81, &vec![b' '; MAX_MESSAGE_LEN + 1])),
        // No mask.
        (1002, "closed_protocol_error_total", vec![0x81, 0x02, b'h', b'i']),
        (1007, "closed_invalid_utf8_total", [frame(0x01, &[0xe2, 0x82]), frame(0x80, &[0x28])].concat()),
    ] {
        let mut stream = upgraded(server.address);
        stream.write_all(&message).unwrap();
        assert_eq!((close_code(stream), server.metric(count)), (Some(code), 1));
        duo.chat();
    }
    // Frames that the limit on messages does not count.
    let limited = Server::start_signaling(&["--rate-limit-messages", "50/s"]);
    let mut stream = upgraded(limited.address);
    stream.write_all(&frame(0x89, b"p").repeat(600)).unwrap();
    assert_eq!((close_code(stream), limited.metric("closed_frame_rate_total")), (Some(1008), 1));
    // A message of exactly the maximum length is only ignored, because spaces are not JSON.
    duo.0.send_text(&" ".repeat(MAX_MESSAGE_LEN));
    duo.chat();
    poll_until("all but two are gone", || (server.metric("connections") == 2).then_some(()));
}

/// Meanwhile, hundreds of requests are incomplete, and each takes little memory.
#[test]
fn slow_handshake_is_closed_at_the_timeout_and_counted() {
    const INCOMPLETE: u64 = 300;
    let server = Server::start_signaling(&[]);
    let (mut duo, before) = (Duo::new(&server), server.resident_kib());
    let incomplete: Vec<_> = (0..INCOMPLETE).map(|_| tcp(server.address)).collect();
    for mut stream in &incomplete {
        stream.write_all(b"GET / HT").unwrap();
    }
    Duo::new(&server).chat();
    let grown = server.resident_kib().saturating_sub(before) * 1_024 / INCOMPLETE;
    assert!(grown < 26_000, "{grown} bytes each");
    let (mut slow, mut silent) = (tcp(server.address), tcp(server.address));
    let request = upgrade_request("/", "");
    let sent = request.bytes().take_while(|byte| {
        // The request would take longer than the time-out of 10 s.
        thread::park_timeout(Duration::from_millis(100));
        slow.write_all(&[*byte]).is_ok()
    });
    assert!(sent.count() < request.len(), "the complete request was accepted");
    let mut nothing = Vec::new();
    assert!(silent.read_to_end(&mut nothing).is_ok() && !nothing.starts_with(b"HTTP/1.1 101"));
    let expected = INCOMPLETE + 2;
    poll_until("all are counted", || (server.metric("handshake_timeouts_total") == expected).then_some(()));
    duo.chat();
}

#[test]
fn ten_thousand_short_connections_leave_nothing_behind() {
    let churn: usize = std::env::var("CHURN").map_or(10_000, |text| text.parse().expect("a number"));
    let server = Server::start_signaling(&[]);
    let round = |times: usize| {
        thread::scope(|scope| {
            for part in 0..4 {
                let address = server.address;
                scope.spawn(move || {
                    for number in 0..times / 4 {
                        let mut stream = upgraded(address);
                        // A quarter sends a close frame. The others leave after nothing, an incomplete frame, or the creation of a room.
                        let create = br#"{"type":"CreateRoom","data":{"room_name":"r","peer_name":"p"}}"#;
                        let bytes = match (number + part) % 4 {
                            0 => frame(0x88, b""),
                            1 => Vec::new(),
                            2 => frame_with_length(0x81, 100, b"half"),
                            _ => frame(0x81, create),
                        };
                        drop(stream.write_all(&bytes));
                    }
                });
            }
        });
        let names = ["connections", "rooms", "members", "queued_bytes"];
        poll_until("no connection is left", || names.iter().all(|name| server.metric(name) == 0).then_some(()));
        server.resident_kib()
    };
    let early = round(churn / 5);
    let late = round(churn - churn / 5);
    assert!(late < early + 4_096, "{early} KiB, then {late} KiB");
    Duo::new(&server).chat();
}

/// Each message has 99,000 values and costs 399 units: 386 for these, and 13 for 198 kB. The client may use 8,000 units at once, and then
/// 4,000 per second.
#[test]
fn client_that_sends_costly_messages_is_read_later_and_loses_nothing() {
    let server = Server::start_signaling(&[]);
    let mut client = Member::connect(server.address);
    let costly = format!("[0{}]", ",0".repeat(99_000));
    let began = Since::now();
    (0..60).for_each(|_| client.send_text(&costly));
    assert!(client.rooms().is_empty());
    began.assert_at_least(Duration::from_millis((60 * 399 - 8_000) / 4 - 100));
    assert_eq!(server.metric("messages_received_total"), 61);
    client.close("");
}
