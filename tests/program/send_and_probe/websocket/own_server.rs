//! `probe` with the program's own signaling server, in all four dialects, with and without TLS.

use std::fs;

use serde_json::{Value, json};

use crate::send_and_probe::websocket::{probe, report};
use test_support::certificate::Authority;
use test_support::client::document;
use test_support::client::program::{run_args, start_line};
use test_support::server::process::Server;

const SECRET: &str = "test-secret";

/// Starts a server with the bbx room 4711.
fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--hmac-secret", SECRET, "--bbx-room", "4711"], options].concat())
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let file = folder.path().join(name);
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// Sends twenty requests in every dialect and checks that all are answered.
fn all_dialects(url: &str, trust: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let secret = format!("@{}", file(&folder, "secret", "test-secret\n"));
    // A token for client c1 in room radio until 2100, signed by an independent program.
    let token = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg";
    let with_token = format!("{url}/radio?token={token}");
    let at_ws = format!("{url}/ws");
    for (to, options, dialect, connections, joins) in [
        (url, &[][..], "jamjam", 1, false),
        (url, &["--dialect", "bbx"], "bbx", 1, false),
        (url, &["--dialect", "bbx", "--room", "4711"], "bbx", 1, true),
        (url, &["--dialect", "webrtc"], "webrtc", 1, true),
        (url, &["--dialect", "webrtc", "--room", "a b"], "webrtc", 1, true),
        (url, &["--dialect", "broadcast", "--hmac-secret", &secret], "broadcast", 2, true),
        (&at_ws, &["--dialect", "broadcast", "--room", "ä b", "--hmac-secret", &secret], "broadcast", 2, true),
        (&with_token, &[], "broadcast", 2, true),
    ] {
        let line = ["probe", "--to", to, "--count", "20", "--interval", "2ms", "--max-loss", "0%", "--json"];
        let output = run_args(line.iter().chain(trust).chain(options));
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{options:?} {output:?}");
        let report = document::report(&output);
        let (stream, websocket) = (&report["streams"]["ping"], &report["websocket"]);
        let counts =
            ["sent", "returned", "duplicated", "reordered", "unmatched"].map(|name| stream[name].as_u64().unwrap());
        assert_eq!(counts, [20, 20, 0, 0, 0], "{options:?} {report:#}");
        assert_eq!((&websocket["dialect"], &report["stray"]), (&json!(dialect), &json!(0)), "{options:?}");
        let made = websocket["connections"].as_array().unwrap();
        assert_eq!(made.len(), connections);
        for one in made {
            assert_eq!((one["join_ms"].is_f64(), one["tls_ms"].is_f64()), (joins, url.starts_with("wss")), "{one}");
        }
        let waits = trust.contains(&"--wait-for");
        assert_eq!(
            report["readiness_wait"].get("reply_received").cloned().unwrap_or_default(),
            if waits { json!(true) } else { Value::Null },
            "{report:#}"
        );
        // Both ends use the same clock.
        let clock = websocket["clock_offset_us"].as_f64();
        assert_eq!(clock.is_some(), dialect == "bbx");
        let error = websocket["clock_offset_error_us"].as_f64().unwrap_or_default();
        assert!(clock.is_none_or(|clock| clock.abs() <= error + 500.0), "{websocket}");
        assert!(!output.stdout.contains("eyJ"), "a token is shown: {}", output.stdout);
    }
}

#[test]
fn every_dialect_replies_without_tls() {
    let server = start(&[]);
    all_dialects(&format!("ws://{}", server.address), &[]);
}

#[test]
fn every_dialect_replies_over_tls() {
    let authority = Authority::new();
    let server = start(&authority.certify().options());
    let ca = authority.own();
    all_dialects(
        &format!("wss://localhost:{}", server.address.port()),
        &["--ca", ca.to_str().unwrap(), "--wait-for", "20s"],
    );

    let url = format!("wss://localhost:{}", server.address.port());
    let output = run_args(["probe", "--to", &url]);
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    let words = format!("jamjam-dev: cannot probe {url}: TLS with `localhost` failed: certificate not trusted");
    assert!(output.stderr.starts_with(&words), "{}", output.stderr);
    let output = run_args(["probe", "--to", &url, "--insecure", "--count", "2"]);
    let warning = format!("jamjam-dev: --insecure: the certificate of {url} is not verified\n");
    assert_eq!((output.code, output.stderr), (0, warning));
    let plain = probe(server.address, &[]);
    assert_eq!((plain.code, plain.stdout.as_str()), (3, ""), "{plain:?}");
    assert!(plain.stderr.ends_with("the server uses TLS; use wss:// instead of ws://\n"), "{}", plain.stderr);
}

#[test]
fn invalid_token_is_reported_with_a_remedy() {
    let server = start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let wrong = format!("@{}", file(&folder, "secret", "another secret"));
    let report = report(1, server.address, &["--dialect", "broadcast", "--hmac-secret", &wrong]);
    let lost = &report["websocket"]["connection_failure"];
    assert_eq!((&lost["close_code"], &lost["kind"]), (&json!(4002), &json!("closed")));
    assert!(report["warnings"][0]["message"].as_str().unwrap().contains("the server's secret (--hmac-secret @FILE)"));
}

#[test]
fn server_shutdown_ends_and_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let secret = file(&folder, "secret", SECRET);
    let server = start(&[]);
    let mut program = start_line(&format!(
        "probe --to ws://{} --dialect broadcast --hmac-secret @{secret} --count 0 --interval 5ms --json-lines",
        server.address
    ));
    let (_, rest) = program.first_line();
    let output = server.stop("TERM");
    assert_eq!(output.code, Some(0));
    let last = std::io::BufRead::lines(rest).map_while(Result::ok).last().unwrap();
    let report: Value = serde_json::from_str(&last).unwrap();
    document::assert_valid(&report);
    assert_eq!(program.end().code, 1);
    let text = "the server closed the connection with code 4002 (Server shutting down)";
    assert_eq!(
        report["websocket"]["connection_failure"],
        json!({"kind": "closed", "close_code": 4002, "message": text})
    );
    assert!(report["streams"]["ping"]["returned"].as_u64().unwrap() > 0);
}

#[test]
fn exceeded_message_rate_is_reported_as_the_cause() {
    let server = start(&["--rate-limit-messages", "10/s"]);
    let report = report(1, server.address, &["--count", "100", "--interval", "1ms"]);
    assert_eq!(report["websocket"]["connection_failure"]["close_code"], 1008, "{report:#}");
    assert!(report["warnings"][0]["message"].as_str().unwrap().contains("Give a longer --interval"));
    // A burst may contain as many messages as the rate permits in two seconds.
    assert!(report["streams"]["ping"]["returned"].as_u64().unwrap() >= 20, "{report:#}");
}
