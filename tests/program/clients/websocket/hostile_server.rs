//! Hostile WebSocket servers: the client counts unexpected messages, bounds messages and waiting times, and reports failures.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;
use test_support::client::{counts, together};
use test_support::server::Since;
use tungstenite::Message;

use crate::clients::websocket::scripted_server::{raw, serve};
use crate::clients::websocket::{failure, probe, report};

/// Most requests time out before or after a pause of this host.
const FEW: &str = "--dialect bbx --count 2 --interval 3s --timeout 3s";

#[test]
fn slow_upgrade_response_does_not_extend_the_timeout() {
    let server = raw(|_, mut stream| {
        let _ = stream.read(&mut [0; 2_048]);
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        for byte in b"HTTP/1.1 101 Switching Protocols\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            let _ = stream.read(&mut [0]);
        }
    });
    let began = Since::now();
    let report = report(3, server, "--wait-for 400ms");
    assert_eq!(report["readiness_wait"]["reply_received"], json!(false));
    // The run ends after the `--wait-for` time of 400 ms, long before the default connection timeout.
    began.assert_at_least(Duration::from_millis(300));
    assert!(report["readiness_wait"]["waited_ms"].as_f64().unwrap() < 9_000.0, "{report:#}");
}

#[test]
fn garbage_matches_no_request_and_is_counted() {
    let server = serve(|_, mut connection| {
        while let Some(ping) = connection.receive() {
            connection.send_text("");
            connection.send_text("[".repeat(100_000));
            connection.send_text(r#"{"type":"pong"}"#);
            connection.send_text(r#"{"type":"pong","client_time":1e999}"#);
            connection.send_text(r#"{"type":"pong","client_time":12,"server_time":"x"}"#);
            let pong = format!(r#"{{"type":"pong","client_time":{},"server_time":1}}"#, ping["client_time"]);
            let _ = connection.socket.send(Message::binary(pong.into_bytes()));
            let _ = connection.socket.send(Message::Ping(vec![0; 125].into()));
            let _ = connection.socket.send(Message::Pong(vec![].into()));
        }
    });
    let report = report(1, server, FEW);
    // Per ping, a pong without a timestamp is unmatched, and five messages are stray: empty, nested, two invalid values, and binary.
    assert_eq!(counts(&report, "ping", ["sent", "returned", "unmatched"]), [2, 0, 2]);
    assert_eq!(report["stray"], 10);
    assert!(report["warnings"][0]["message"].as_str().unwrap().contains("other messages arrived"), "{report:#}");
}

#[test]
fn message_flood_neither_hides_replies_nor_delays_the_end() {
    let server = serve(|_, mut connection| {
        let pings = connection.messages();
        while connection.socket.send(Message::text(r#"{"type":"update","param":"x","value":1}"#)).is_ok() {
            if let Ok(ping) = pings.try_recv() {
                connection.pong(&ping, 1);
            }
        }
    });
    let report = report(0, server, "--dialect bbx --count 5 --interval 2ms --timeout 10s");
    assert_eq!(counts(&report, "ping", ["sent", "lost"]), [5, 0]);
    assert!(report["stray"].as_u64().unwrap() > 0);
}

#[test]
fn fragment_flood_does_not_delay_the_end() {
    let server = serve(|_, mut connection| {
        connection.receive();
        let stream = connection.socket.get_mut();
        // A text message that never ends.
        let _ = stream.write_all(&[0x01, 0]);
        while stream.write_all(&[0; 8 << 10]).is_ok() {}
    });
    report(1, server, FEW);
}

#[test]
fn ping_flood_of_a_server_that_reads_nothing_ends_the_run() {
    let server = serve(|_, mut connection| {
        let pings = [&[0x89, 125][..], &[0; 125]].concat().repeat(500);
        while connection.socket.get_mut().write_all(&pings).is_ok() {}
    });
    let report = report(1, server, "--dialect bbx --count 0 --interval 1ms --timeout 1s");
    let message = "the connection broke: the server has accepted no data for 1s";
    assert_eq!(failure(&report), [&json!("broken"), &json!(null), &json!(message)]);
}

#[test]
fn close_frame_is_read_if_the_server_accepts_no_reply() {
    let server = serve(|_, mut connection| {
        let stream = connection.socket.get_mut();
        stream.peek(&mut [0]).unwrap();
        // Pings and a close frame. The system then resets the connection, because a request is unread.
        let _ = stream.write_all(&[&[0x89, 0].repeat(3_000)[..], &[0x88, 2, 0x0f, 0xa1]].concat());
    });
    assert_eq!(failure(&report(1, server, FEW))[1], 4001);
}

#[test]
fn protocol_violations_and_abrupt_closes_are_reported() {
    let too_long = "the connection broke: received a message of more than 16777216 bytes";
    let cases = [
        // A reserved opcode, invalid UTF-8, the start of a text of 2^40 bytes, and no bytes.
        (&[0x83, 0][..], "broken", json!(null), ""),
        (&[0x81, 1, 0xff], "broken", json!(null), ""),
        (&[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0], "broken", json!(null), too_long),
        (&[], "closed", json!(null), ""),
        // The close codes 1014 and 1006, which a server must not send.
        (&[0x88, 2, 0x03, 0xf6], "closed", json!(1002), "(Protocol violation)"),
        (&[0x88, 2, 0x03, 0xee], "closed", json!(1002), "(Protocol violation)"),
    ];
    together(cases, |(bytes, kind, code, words)| {
        let server = serve(move |_, mut connection| {
            connection.receive();
            let _ = connection.socket.get_mut().write_all(bytes);
            if !bytes.is_empty() {
                while connection.receive().is_some() {}
            }
        });
        let report = report(1, server, FEW);
        let [reported_kind, reported_code, message] = failure(&report);
        assert_eq!((reported_kind, reported_code), (&json!(kind), &code), "{bytes:?}");
        assert!(message.as_str().unwrap().contains(words), "{message}");
    });
}

#[test]
fn server_error_message_is_shown_once_and_escaped() {
    let server = serve(|_, mut connection| {
        connection.send_text(r#"{"type":"welcome"}"#);
        while connection.receive().is_some() {
            connection.send_text(r#"{"type":"error","error":"Username \u001b[31mrequired"}"#);
        }
    });
    let output = probe(format!("{server}/chat"), FEW.trim_start_matches("--dialect bbx"));
    assert_eq!(output.code, 1, "{output:?}");
    let words = "warning: the first error that the server reported: Username \u{fffd}[31mrequired\n";
    assert_eq!(output.stdout.matches(words).count(), 1, "{}", output.stdout);
}
