//! Connections that come to nothing, or end: what is reported, in which words, and with which exit code.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};

use crate::websocket::fake::{nobody, raw, serve};
use crate::websocket::{codes, probe, report};
use test_support::client::document;
use test_support::client::program::start_line;

fn reasons(report: &Value) -> &Value {
    &report["verdict"]["reasons"]
}

#[test]
fn a_port_where_nobody_listens_is_nothing_heard() {
    let nobody = nobody();
    let folder = tempfile::tempdir().unwrap();
    let [junit, markdown] = ["junit.xml", "report.md"].map(|name| folder.path().join(name).display().to_string());
    let report = report(1, nobody, &["--junit", &junit, "--markdown", &markdown]);
    let cannot = format!("cannot connect to {nobody}: Connection refused (os error 111)");
    assert_eq!(reasons(&report), &json!(["nothing was sent", cannot]));
    assert_eq!(
        report["websocket"]["connection_failure"],
        json!({"kind": "unreachable", "close_code": null, "message": cannot})
    );
    assert_eq!((codes(&report), &report["target"]), (vec!["connection_failure"], &json!(format!("ws://{nobody}"))));
    let (junit, markdown) = (fs::read_to_string(junit).unwrap(), fs::read_to_string(markdown).unwrap());
    assert!(junit.contains(&format!("<error message=\"{cannot}\"")), "{junit}");
    assert!(markdown.starts_with("## FAILED: probe ws://"), "{markdown}");
}

#[test]
fn a_host_without_an_address_and_a_certificate_that_is_not_believed_are_unusable() {
    let ended = probe("no.such.host.invalid", &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""), "{ended:?}");
    let words = "cannot probe ws://no.such.host.invalid: cannot find an address for host `no.such.host.invalid`: ";
    assert!(ended.stderr.starts_with(&format!("jamjam-dev: {words}")), "{}", ended.stderr);
}

#[test]
fn a_server_that_closes_is_told_with_its_code_and_the_way_out() {
    for (dialect, code, reason, advice) in [
        ("webrtc", 1008, "Rate limit exceeded", "give a longer --interval"),
        ("webrtc", 1013, "", "try again later"),
        ("broadcast", 4002, "Server shutting down", "the server shuts down"),
        ("bbx", 3999, "whim", "check the server's log"),
    ] {
        let server = serve(move |number, mut guest| {
            guest.say(r#"{"type":"welcome"}"#);
            if number == 1 {
                // The listener hears nothing, and is not closed.
                while guest.hear().is_some() {}
                return;
            }
            for place in 0..5 {
                let Some(ping) = guest.hear() else { return };
                match dialect {
                    "bbx" if place < 3 => guest.pong(&ping, 1),
                    "webrtc" if place < 3 => guest.say(r#"{"type":"pong"}"#),
                    _ => {}
                }
            }
            guest.close(code, reason);
        });
        let options = ["--dialect", dialect, "--count", "1000", "--interval", "20", "--max-loss", "100%"];
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
        let told = reasons(&report).as_array().unwrap();
        assert!(told.contains(&json!(format!("{words} after {sent} messages"))), "{told:?}");
        let note =
            report["warnings"].as_array().unwrap().iter().find(|note| note["code"] == "connection_failure").unwrap();
        assert!(note["message"].as_str().unwrap().contains(advice), "{note}");
    }
}

#[test]
fn a_server_that_closes_when_all_is_answered_has_done_no_harm() {
    let server = serve(|_, mut guest| {
        for _ in 0..3 {
            let Some(ping) = guest.hear() else { return };
            guest.pong(&ping, 1);
        }
        guest.close(1001, "");
    });
    let report = report(0, server, &["--dialect", "bbx", "--count", "3", "--interval", "2"]);
    assert_eq!(
        (&report["streams"]["ping"]["returned"], &report["websocket"]["connection_failure"]),
        (&json!(3), &Value::Null)
    );
}

#[test]
fn who_is_not_let_in_is_told_in_the_servers_words() {
    let server = serve(|_, mut guest| {
        assert_eq!(guest.hear().unwrap()["type"], "join");
        guest.say(r#"{"type":"error","code":"INVALID_ROOM","message":"Invalid \u001b[31mroom"}"#);
        guest.hear();
    });
    // Though it is waited for: codes that are tried are counted.
    let report = report(1, server, &["--dialect", "bbx", "--room-code", "0000", "--wait-for", "20s"]);
    let words = "cannot join the room: Invalid \u{fffd}[31mroom";
    assert_eq!(
        report["websocket"]["connection_failure"],
        json!({"kind": "rejected", "close_code": null, "message": words})
    );
    assert_eq!(report["readiness_wait"]["reply_received"], json!(false));

    let server = serve(|_, guest| guest.close(4001, "Authentication required"));
    let ended = probe(format!("{server}/radio"), &[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let end = "FAILED: nothing was sent; the server closed the connection with code 4001 (Authentication required)\n";
    assert!(ended.stdout.ends_with(end), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("give --token-file FILE, or sign tokens with --hmac-secret-file FILE"),
        "{}",
        ended.stdout
    );
}

#[test]
fn what_is_not_there_yet_is_tried_again_until_it_is() {
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
    let waited = report(0, server, &["--count", "2", "--interval", "1", "--wait-for", "20s"]);
    assert_eq!(waited["readiness_wait"]["reply_received"], json!(true));
    // Two more attempts came to nothing, 100 ms apart.
    assert!(waited["readiness_wait"]["waited_ms"].as_f64().unwrap() >= 200.0);
}

#[test]
fn a_server_that_never_comes_is_given_up_when_the_time_is_over() {
    let nobody = nobody();
    let report = report(1, nobody, &["--wait-for", "250ms"]);
    assert_eq!(report["readiness_wait"]["reply_received"], json!(false));
    let told = reasons(&report);
    assert!(told[0].as_str().unwrap().starts_with("no reply within "), "{told}");
    assert!(told[1].as_str().unwrap().starts_with("cannot connect to "), "{told}");
}

#[test]
fn a_request_to_stop_while_it_runs_prints_the_report_so_far() {
    let (said, heard) = channel();
    let said = Mutex::new(said);
    let server = serve(move |_, mut guest| {
        for place in 0.. {
            let Some(ping) = guest.hear() else { return };
            guest.pong(&ping, 1);
            if place == 5 {
                said.lock().unwrap().send(()).unwrap();
            }
        }
    });
    let program = start_line(&format!("probe --to ws://{server} --dialect bbx --count 0 --interval 5 --json"));
    heard.recv_timeout(Duration::from_secs(30)).unwrap();
    program.signal("INT");
    let ended = program.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (130, ""), "{ended:?}");
    let report = document::report(&ended);
    assert_eq!((&report["interrupted"], &report["streams"]["ping"]["lost"]), (&json!("SIGINT"), &json!(0)));
    assert!(report["streams"]["ping"]["returned"].as_u64().unwrap() >= 5);
}

#[test]
fn a_request_to_stop_while_it_connects_ends_it_at_once() {
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
        let ended = program.end();
        assert_eq!((ended.code, ended.stdout.as_str()), (143, ""), "{ended:?}");
        assert_eq!(
            ended.stderr,
            format!("jamjam-dev: interrupted while connecting to ws://{server}; nothing was sent\n")
        );
    }
}
