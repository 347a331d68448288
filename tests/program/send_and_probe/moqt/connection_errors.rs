//! Connections that fail or close: the reported message and exit code.

use std::net::UdpSocket;

use serde_json::{Value, json};
use test_support::client::document;

use crate::send_and_probe::moqt::scripted_server::{Greeting, ScriptedServer};
use crate::send_and_probe::moqt::{codes, failure, probe, report};

#[test]
fn missing_server_is_reported_with_the_time_waited() {
    // An open port that never replies. A QUIC client cannot distinguish it from a closed port.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let url = format!("moqt://127.0.0.1:{port}/echo");
    let report = report(1, &url, "--wait-for 300ms");
    let words = format!(
        "no reply from {url} within 300.000 ms: no server listens there, or a firewall drops UDP. Check the host and port, and that the \
         server is running. Compare with `jamjam-dev probe --embedded --moqt` on this host"
    );
    assert_eq!(failure(&report), [&json!("unreachable"), &Value::Null, &json!(words)]);
    assert_eq!(report["readiness_wait"]["reply_received"], json!(false));
    assert_eq!((codes(&report), &report["target"]), (vec!["connection_failure"], &json!(url)));
    assert_eq!(report["streams"]["ping"], Value::Null);
}

#[test]
fn untrusted_certificate_is_reported_with_its_sha_256() {
    let server = ScriptedServer::start([]);
    let zeros = "0".repeat(64);
    let way_out = format!("give --cert-sha256 {}\n", server.sha256);
    let another = format!("certificate fingerprint mismatch: expected {zeros}, got {}. ", server.sha256);
    for (options, words, times) in [("", way_out, 2), (&format!("--cert-sha256 {zeros}"), another, 1)] {
        let output = probe(&server.url, options);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        assert!(output.stderr.starts_with(&format!("jamjam-dev: cannot use {}: ", server.url)), "{}", output.stderr);
        assert!(output.stderr.contains(&words), "{}", output.stderr);
        assert_eq!(output.stderr.matches(&server.sha256).count(), times, "{}", output.stderr);
    }
    report(0, &server.url, "--insecure --count 2");
    report(0, &server.url, &server.trusted("--count 2"));
}

#[test]
fn unanswered_first_attempt_is_only_reported_as_a_retry() {
    let names = ["retried_path", "version", "track"];
    // The first connection negotiates gomoqt-0.9.
    let server = ScriptedServer::greeting(&[Greeting::Silent, Greeting::Gomoqt202502], []);
    let answered = report(0, &server.url, &server.trusted("--count 3 --interval 5ms"));
    let reported = &answered["moqt"];
    let expected = ["echo", "gomoqt-2025-02", "japan, kyoto, text"].map(|text| json!(text));
    assert_eq!(names.map(|name| reported[name].clone()), expected);
    assert_eq!(reported["connection_failure"], Value::Null);
    assert_eq!(document::counts(&answered, "ping", ["sent", "returned"]), [3, 3]);
    assert!(codes(&answered).contains(&"path_retried"), "{answered:#}");
    assert_eq!(server.groups.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
}
