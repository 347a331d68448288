//! Malicious clients of a `signaling-server` process: its memory is bounded, other clients are not affected, and each kind of abuse is
//! counted. `CHURN=100000 cargo test --test program signaling_abuse` opens and closes ten times as many connections as the default.

mod hostile;

use std::io::{Read, Write};
use std::iter::repeat_with;
use std::thread;
use std::time::Duration;

use test_support::server::{Member, Server, frame, frame_with_length, get, poll_until, tcp};

use crate::signaling_server::{SECRET, token};
use hostile::{Duo, MAX_MESSAGE_LEN, close_code, upgrade_request, upgraded};

/// Each message is counted, and other clients still chat. All invalid frames are tested in `src/io/websocket/checked_stream.rs`.
#[test]
fn invalid_message_closes_its_own_connection_with_its_code() {
    let oversized = [
        frame(0x81, &vec![b' '; MAX_MESSAGE_LEN + 1]),
        // Only the header.
        frame_with_length(0x82, i64::MAX as u64, b""),
    ];
    // No mask, and a close code that may not be sent.
    let violations = [vec![0x81, 0x02, b'h', b'i'], frame(0x88, &1006_u16.to_be_bytes())];
    let invalid_utf8 = [[frame(0x01, &[0xe2, 0x82]), frame(0x80, &[0x28])].concat(), frame(0x88, &[0x03, 0xe8, 0xff])];
    let server = Server::start_signaling(&[]);
    let mut duo = Duo::new(&server);
    for (code, count, messages) in [
        (1009, "closed_message_too_big_total", &oversized[..]),
        (1002, "closed_protocol_error_total", &violations),
        (1007, "closed_invalid_utf8_total", &invalid_utf8),
    ] {
        for (number, message) in (1..).zip(messages) {
            let mut stream = upgraded(server.address);
            stream.write_all(message).unwrap();
            let shown = &message[..message.len().min(16)];
            assert_eq!((close_code(stream), server.metric(count)), (Some(code), number), "{shown:02x?}");
            duo.chat();
        }
    }
    // Frames that the limit on messages does not count.
    let limited = Server::start_signaling(&["--rate-limit-messages", "50/s"]);
    let mut stream = upgraded(limited.address);
    stream.write_all(&frame(0x89, b"p").repeat(200)).unwrap();
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

/// The processor time of all threads of the server.
fn cpu_time(server: &Server) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let times = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(times.sum())
}

/// Each message has 99,000 values. The member may use 10 ms at once, and then a quarter of a core.
#[test]
fn member_that_used_up_its_processor_time_is_read_later_and_loses_nothing() {
    const MESSAGES: usize = 20;
    let server = Server::start_signaling(&SECRET);
    let path = format!("/radio?token={}", token("c", "radio"));
    let [mut sender, mut receiver] = [(); 2].map(|()| Member::connect_to(server.address, &path));
    assert_eq!(receiver.receive()["type"], "welcome");
    let uptime = || Duration::from_secs_f64(get(&server, "/health").json()["uptime"].as_f64().unwrap());
    let (began, used) = (uptime(), cpu_time(&server));
    let sending = thread::spawn(move || {
        for number in 0..MESSAGES {
            let message = format!("[{number}{}]", ",0".repeat(99_000));
            sender.send_text(&message);
        }
        sender
    });
    for number in 0..MESSAGES {
        assert_eq!(receiver.receive()["content"][0], number);
    }
    let (elapsed, used) = (uptime().saturating_sub(began), cpu_time(&server).saturating_sub(used));
    assert!(elapsed > 2 * used, "{used:?} of {elapsed:?}");
    let mut sender = sending.join().unwrap();
    sender.0.close(None).unwrap();
    let end = repeat_with(|| sender.0.read().unwrap()).find(tungstenite::Message::is_close);
    assert!(matches!(end, Some(tungstenite::Message::Close(None))));
}
