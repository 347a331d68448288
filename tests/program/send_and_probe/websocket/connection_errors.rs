//! Connections that fail or close: the reported message and exit code.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};

use crate::send_and_probe::websocket::scripted_server::{raw, serve};
use crate::send_and_probe::websocket::{codes, probe, report};
use test_support::client::document;
use test_support::client::program::start_line;
use test_support::client::server::closed_tcp_port;

fn reasons(report: &Value) -> &Value {
    &report["verdict"]["reasons"]
}

#[test]
fn closed_port_is_reported_as_no_reply() {
    let (_socket, closed) = closed_tcp_port();
    let folder = tempfile::tempdir().unwrap();
    let [junit, markdown] = ["junit.xml", "report.md"].map(|name| folder.path().join(name).display().to_string());
    let report = report(1, closed, &["--junit", &junit, "--markdown", &markdown]);
    let cannot = format!(
        "cannot connect to {closed}: Connection refused (os error 111). No program listens on this TCP port, or a firewall rejects it. \
         Check the host and port, and that the server is running"
    );
    assert_eq!(reasons(&report), &json!(["nothing was sent", cannot]));
    assert_eq!(
        report["websocket"]["connection_failure"],
        json!({"kind": "unreachable", "close_code": null, "message": cannot})
    );
    assert_eq!((codes(&report), &report["target"]), (vec!["connection_failure"], &json!(format!("ws://{closed}"))));
    let (junit, markdown) = (fs::read_to_string(junit).unwrap(), fs::read_to_string(markdown).unwrap());
    assert!(junit.contains(&format!("<error message=\"{cannot}\"")), "{junit}");
    assert!(markdown.starts_with("## FAILED: probe ws://"), "{markdown}");
}

#[test]
fn unresolvable_host_ends_the_run_with_exit_code_3() {
    let output = probe("no.such.host.invalid", &[]);
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    let words = "cannot probe ws://no.such.host.invalid: cannot find an address for host `no.such.host.invalid`: ";
    assert!(output.stderr.starts_with(&format!("jamjam-dev: {words}")), "{}", output.stderr);
}

#[test]
fn server_close_is_reported_with_its_code_and_a_remedy() {
    for (dialect, code, reason, advice) in [
        ("webrtc", 1008, "Rate limit exceeded", "Give a longer --interval"),
        ("webrtc", 1013, "", "Try again later"),
        ("broadcast", 4002, "Server shutting down", "the server is shutting down"),
        ("bbx", 3999, "whim", "check the server's log"),
    ] {
        let server = serve(move |number, mut connection| {
            connection.send_text(r#"{"type":"welcome"}"#);
            if number == 1 {
                // In the broadcast dialect, connection 1 never sends. After the welcome, the server sends nothing to it and does not
                // close it.
                while connection.receive().is_some() {}
                return;
            }
            for index in 0..5 {
                let Some(ping) = connection.receive() else { return };
                match dialect {
                    "bbx" if index < 3 => connection.pong(&ping, 1),
                    "webrtc" if index < 3 => connection.send_text(r#"{"type":"pong"}"#),
                    _ => {}
                }
            }
            connection.close(code, reason);
        });
        let options = ["--dialect", dialect, "--count", "1000", "--interval", "20ms", "--max-loss", "100%"];
        let report = report(1, server, &options);
        let stream = &report["streams"]["ping"];
        let (sent, lost) = (stream["sent"].as_u64().unwrap(), stream["lost"].as_u64().unwrap());
        let returned = if dialect == "broadcast" { 0 } else { 3 };
        assert!((5..1_000).contains(&sent), "{sent}");
        assert_eq!((lost, &stream["returned"]), (sent - returned, &json!(returned)), "{dialect}");
        let words =
            if reason.is_empty() { format!("with code {code}") } else { format!("with code {code} ({reason})") };
        let words = format!("the server closed the connection {words}");
        assert_eq!(
            report["websocket"]["connection_failure"],
            json!({"kind": "closed", "close_code": code, "message": words})
        );
        let reported = reasons(&report).as_array().unwrap();
        assert!(reported.contains(&json!(format!("{words} after {sent} messages"))), "{reported:?}");
        let note =
            report["warnings"].as_array().unwrap().iter().find(|note| note["code"] == "connection_failure").unwrap();
        assert!(note["message"].as_str().unwrap().contains(advice), "{note}");
    }
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
    let report = report(0, server, &["--dialect", "bbx", "--count", "3", "--interval", "2ms"]);
    assert_eq!(
        (&report["streams"]["ping"]["returned"], &report["websocket"]["connection_failure"]),
        (&json!(3), &Value::Null)
    );
}

#[test]
fn rejected_join_is_reported_with_the_server_message() {
    let server = serve(|_, mut connection| {
        assert_eq!(connection.receive().unwrap()["type"], "join");
        connection.send_text(r#"{"type":"error","code":"INVALID_ROOM","message":"Invalid \u001b[31mroom"}"#);
        connection.receive();
    });
    // The client does not retry despite `--wait-for`, because a server limits the number of wrong room codes.
    let report = report(1, server, &["--dialect", "bbx", "--room", "0000", "--wait-for", "20s"]);
    let words = "cannot join the room: Invalid \u{fffd}[31mroom";
    assert_eq!(
        report["websocket"]["connection_failure"],
        json!({"kind": "rejected", "close_code": null, "message": words})
    );
    assert_eq!(report["readiness_wait"]["reply_received"], json!(false));

    let server = serve(|_, connection| connection.close(4001, "Authentication required"));
    let output = probe(format!("{server}/radio"), &[]);
    assert_eq!(output.code, 1, "{output:?}");
    let end = "\nfailed: nothing was sent\nfailed: the server closed the connection with code 4001 (Authentication required)\n";
    assert!(output.stdout.contains(end), "{}", output.stdout);
    assert!(
        output.stdout.contains("Give the token in the URL (?token=TOKEN), or sign tokens with --hmac-secret @FILE"),
        "{}",
        output.stdout
    );
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
    let once = report(1, server, &["--count", "2"]);
    assert!(
        reasons(&once)[1].as_str().unwrap().contains("HTTP 503 Service Unavailable; the server is full or not ready")
    );
    let waited = report(0, server, &["--count", "2", "--interval", "1ms", "--wait-for", "20s"]);
    assert_eq!(waited["readiness_wait"]["reply_received"], json!(true));
    // Two more attempts failed at intervals of 100 ms.
    assert!(waited["readiness_wait"]["waited_ms"].as_f64().unwrap() >= 200.0);
}

#[test]
fn missing_server_is_given_up_after_the_timeout() {
    let (_socket, closed) = closed_tcp_port();
    let report = report(1, closed, &["--wait-for", "250ms"]);
    assert_eq!(report["readiness_wait"]["reply_received"], json!(false));
    let reported = reasons(&report);
    assert!(reported[0].as_str().unwrap().starts_with("no reply within "), "{reported}");
    assert!(reported[1].as_str().unwrap().starts_with("cannot connect to "), "{reported}");
}

#[test]
fn stop_request_during_a_run_prints_the_partial_report() {
    let (sender, received) = channel();
    let sender = Mutex::new(sender);
    let server = serve(move |_, mut connection| {
        for index in 0.. {
            let Some(ping) = connection.receive() else { return };
            connection.pong(&ping, 1);
            if index == 5 {
                sender.lock().unwrap().send(()).unwrap();
            }
        }
    });
    let program = start_line(&format!("probe --to ws://{server} --dialect bbx --count 0 --interval 5ms --json"));
    received.recv_timeout(Duration::from_secs(30)).unwrap();
    program.signal("INT");
    let output = program.end();
    assert_eq!((output.code, output.stderr.as_str()), (130, ""), "{output:?}");
    let report = document::report(&output);
    assert_eq!((&report["interrupted"], &report["streams"]["ping"]["lost"]), (&json!("SIGINT"), &json!(0)));
    assert!(report["streams"]["ping"]["returned"].as_u64().unwrap() >= 5);
}

#[test]
fn stop_request_while_connecting_ends_the_run_at_once() {
    for upgrades in [false, true] {
        let (reached, waiting) = channel();
        let reached = Mutex::new(reached);
        let server = raw(move |_, mut stream| {
            if upgrades {
                let mut socket = tungstenite::accept(stream).unwrap();
                reached.lock().unwrap().send(()).unwrap();
                let _ = socket.read();
            } else {
                let _ = stream.read(&mut [0; 1]);
                reached.lock().unwrap().send(()).unwrap();
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        });
        let program = start_line(&format!("probe --to ws://{server}/?roomId=r --count 2"));
        waiting.recv_timeout(Duration::from_secs(30)).unwrap();
        program.signal("TERM");
        let output = program.end();
        assert_eq!((output.code, output.stdout.as_str()), (143, ""), "{output:?}");
        assert_eq!(
            output.stderr,
            format!("jamjam-dev: interrupted while connecting to ws://{server}; nothing was sent\n")
        );
    }
}
