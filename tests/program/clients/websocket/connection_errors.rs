//! Connections that fail or close: the reported message and exit code.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;

use serde_json::{Value, json};
use test_support::client::{command, document, start};
use test_support::server::TEST_TIMEOUT;

use crate::clients::websocket::scripted_server::{raw, serve};
use crate::clients::websocket::{failure, probe, report};

fn reasons(report: &Value) -> Vec<&str> {
    report["verdict"]["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect()
}

#[test]
fn server_close_after_all_replies_does_not_fail_the_run() {
    let server = serve(|_, mut connection| {
        for _ in 0..3 {
            let Some(ping) = connection.receive() else { return };
            connection.pong(&ping, 1);
        }
        connection.close(1001, "");
    });
    let report = report(0, server, "--dialect bbx --count 3 --interval 2ms");
    assert_eq!(document::counts(&report, "ping", ["sent", "lost"]), [3, 0]);
    assert_eq!(report["websocket"]["connection_failure"], Value::Null);
}

#[test]
fn rejected_join_is_reported_with_the_server_message() {
    let server = serve(|_, mut connection| {
        assert_eq!(connection.receive().unwrap()["type"], "join");
        connection.send_text(r#"{"type":"error","code":"INVALID_ROOM","message":"Invalid \u001b[31mroom"}"#);
        connection.receive();
    });
    // The client does not retry despite `--wait-for`, because a server limits the number of wrong room codes.
    let report = report(3, server, "--dialect bbx --room 0000 --wait-for 20s");
    let words = "cannot join the room: Invalid \u{fffd}[31mroom";
    assert_eq!(failure(&report), [&json!("rejected"), &Value::Null, &json!(words)]);
    assert_eq!(report["readiness_wait"]["reply_received"], json!(false));

    let server = serve(|_, connection| connection.close(4001, "Authentication required"));
    let output = probe(format!("{server}/radio"), "");
    assert_eq!(output.code, 3, "{output:?}");
    for words in [
        "\nfailed: nothing was sent\nfailed: the server closed the connection with code 4001 (Authentication required)\n",
        "Give the token in the URL (?token=TOKEN), or sign tokens with --hmac-secret @FILE",
    ] {
        assert!(output.stdout.contains(words), "{}", output.stdout);
    }
}

#[test]
fn connection_is_retried_until_the_server_is_available() {
    let server = raw(|number, mut stream: TcpStream| {
        if number < 3 {
            let _ = stream.read(&mut [0; 2_048]);
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let mut socket = tungstenite::accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let _ = socket.send(tungstenite::Message::text(r#"{"type":"RoomList","data":{"rooms":[]}}"#));
            }
        }
    });
    let once = report(3, server, "--count 2");
    assert!(reasons(&once)[1].contains("HTTP 503 Service Unavailable; the server is full or not ready"), "{once:#}");
    let waited = report(0, server, "--count 2 --interval 1ms --wait-for 20s");
    assert_eq!(waited["readiness_wait"]["reply_received"], json!(true));
    // Two more attempts failed at intervals of 100 ms.
    assert!(waited["readiness_wait"]["waited_ms"].as_f64().unwrap() >= 200.0);
}

#[test]
fn partial_report_precedes_a_closing_handshake_that_is_never_answered() {
    let folder = tempfile::tempdir().unwrap();
    let stdout = folder.path().join("stdout");
    let ((started, first), (closing, closed)) = (channel(), channel());
    let reported = stdout.clone();
    let server = serve(move |_, mut connection| {
        connection.send_text(r#"{"type":"welcome"}"#);
        while connection.receive().is_some() {
            _ = started.send(());
        }
        _ = closing.send(fs::read_to_string(&reported).unwrap());
        // The connection stays open.
        thread::park();
    });
    let line =
        format!("load-rooms ws://{server} --room r --dialect broadcast --json --clients 2 --rate 100 --duration 60s");
    let program = start(command(line.split(' ')).stdout(File::create(&stdout).unwrap()));
    first.recv_timeout(TEST_TIMEOUT).unwrap();
    program.signal("INT");
    let report = document::valid(&closed.recv_timeout(TEST_TIMEOUT).unwrap());
    assert_eq!((&report["interrupted"], program.end().code), (&json!("SIGINT"), 130), "{report:#}");
}
