//! `probe` with the program's own signaling server, in all four dialects, with and without TLS.

use std::fs;

use serde_json::{Value, json};
use test_support::certificate::Authority;
use test_support::client::{document, run, run_to_success, start_line};
use test_support::server::Server;

use crate::clients::websocket::{failure, probe};

const SECRET: &str = "test-secret";

/// Starts a server with the bbx room 4711.
fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--hmac-secret", SECRET, "--bbx-room", "4711"], options].concat())
}

/// The option with a file that contains the secret.
fn secret(folder: &tempfile::TempDir, secret: &str) -> String {
    let file = folder.path().join("secret");
    fs::write(&file, secret).unwrap();
    format!("--hmac-secret @{}", file.display())
}

/// Sends twenty requests in every dialect and checks that all are answered.
fn all_dialects(url: &str, trust: &str) {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret(&folder, "test-secret\n");
    // A token for client c1 in room radio until 2100, signed by an independent program.
    let token = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg";
    for (path, options, dialect, connections, joins) in [
        ("", "", "jamjam", 1, false),
        ("", "--dialect bbx", "bbx", 1, false),
        ("", "--dialect bbx --room 4711", "bbx", 1, true),
        ("", "--dialect webrtc", "webrtc", 1, true),
        ("", "--dialect webrtc --room ä", "webrtc", 1, true),
        ("", &format!("--dialect broadcast {secret}"), "broadcast", 2, true),
        ("/ws", &format!("--dialect broadcast --room ä {secret}"), "broadcast", 2, true),
        (&format!("/radio?token={token}"), "", "broadcast", 2, true),
    ] {
        let line = format!("probe --to {url}{path} --count 20 --interval 2ms --json {trust} {options}");
        let output = run_to_success(&line);
        assert_eq!(output.stderr, "", "{options} {output:?}");
        assert!(!output.stdout.contains("eyJ"), "a token is shown: {}", output.stdout);
        let report = document::report(&output);
        let names = ["sent", "lost", "duplicated", "reordered", "unmatched"];
        assert_eq!(document::counts(&report, "ping", names), [20, 0, 0, 0, 0], "{options} {report:#}");
        let websocket = &report["websocket"];
        assert_eq!((&websocket["dialect"], &report["stray"]), (&json!(dialect), &json!(0)), "{options}");
        let made = websocket["connections"].as_array().unwrap();
        assert_eq!(made.len(), connections);
        for one in made {
            assert_eq!((one["join_ms"].is_f64(), one["tls_ms"].is_f64()), (joins, url.starts_with("wss")), "{one}");
        }
        let waited = report["readiness_wait"].get("reply_received").cloned().unwrap_or_default();
        assert_eq!(waited, if trust.contains("--wait-for") { json!(true) } else { Value::Null }, "{report:#}");
        // Both ends use the same clock.
        let clock = websocket["clock_offset_us"].as_f64();
        let error = websocket["clock_offset_error_us"].as_f64().unwrap_or_default();
        assert_eq!(clock.is_some(), dialect == "bbx");
        assert!(clock.is_none_or(|clock| clock.abs() <= error + 500.0), "{websocket}");
    }
}

#[test]
fn every_dialect_replies_with_and_without_tls() {
    let server = start(&[]);
    all_dialects(&format!("ws://{}", server.address), "");
    let output = run(&format!("probe --to wss://{}", server.address));
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    assert!(
        output.stderr.ends_with("the server does not use TLS; check the port, or use ws:// instead of wss://\n"),
        "{}",
        output.stderr
    );

    let authority = Authority::new();
    let server = start(&authority.certify().options());
    let url = format!("wss://localhost:{}", server.address.port());
    all_dialects(&url, &format!("--ca {} --wait-for 20s", authority.own().display()));

    let output = run(&format!("probe --to {url}"));
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    let words = format!("jamjam-dev: cannot probe {url}: TLS with `localhost` failed: certificate not trusted");
    assert!(output.stderr.starts_with(&words), "{}", output.stderr);
    let output = run(&format!("probe --to {url} --insecure --count 2"));
    let warning = format!("jamjam-dev: --insecure: the certificate of {url} is not verified\n");
    assert_eq!((output.code, output.stderr), (0, warning));
    let plain = probe(server.address, "");
    assert!(plain.code == 3 && plain.stdout.contains("use wss:// instead of ws://"), "{plain:?}");
}

#[test]
fn server_shutdown_ends_and_fails_the_run() {
    let (server, folder) = (start(&[]), tempfile::tempdir().unwrap());
    let options = format!("--dialect broadcast {} --count 0 --interval 5ms --json-lines", secret(&folder, SECRET));
    let mut program = start_line(&format!("probe --to ws://{} {options}", server.address));
    let (_, rest) = program.first_line_with(r#""type":"packet""#);
    assert_eq!(server.stop("TERM").code, Some(0));
    let last = std::io::BufRead::lines(rest).map_while(Result::ok).last().unwrap();
    let report = document::valid(&last);
    assert_eq!(program.end().code, 1);
    let text = "the server closed the connection with code 4002 (Server shutting down)";
    assert_eq!(failure(&report), [&json!("closed"), &json!(4002), &json!(text)]);
    let [sent, returned, lost, excluded] = document::counts(&report, "ping", ["sent", "returned", "lost", "excluded"]);
    assert!(returned + excluded > 0 && sent == returned + lost + excluded, "{report:#}");
    let reasons = report["verdict"]["reasons"].as_array().unwrap();
    assert!(reasons.contains(&json!(format!("{text} after {sent} messages"))), "{reasons:?}");
}
