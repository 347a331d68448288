//! Connections that fail or close: the reported message and exit code.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::send_and_probe::moqt::scripted_server::{Greeting, ScriptedServer, ServerAction};
use crate::send_and_probe::moqt::{codes, moqt, probe, report};
use test_support::client::document;
use test_support::client::program::{run_args, start_line};

fn reasons(report: &Value) -> String {
    report["verdict"]["reasons"].to_string()
}

/// An open port that never replies. A QUIC client cannot distinguish such a port from a closed port.
fn silent_port() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[test]
fn missing_server_is_reported_with_the_time_waited() {
    let (_socket, port) = silent_port();
    let folder = tempfile::tempdir().unwrap();
    let [junit, markdown] = ["junit.xml", "report.md"].map(|name| folder.path().join(name).display().to_string());
    let url = format!("moqt://127.0.0.1:{port}/echo");
    let report = report(1, &url, &["--wait-for", "300ms", "--junit", &junit, "--markdown", &markdown]);
    let words = format!(
        "no reply from {url} within 300.000 ms: no server listens there, or a firewall drops UDP. Check the host and port, and that the \
         server is running. Compare with `jamjam-dev probe --embedded --moqt` on this host"
    );
    assert_eq!(
        report["moqt"]["connection_failure"],
        json!({"kind": "unreachable", "close_code": null, "message": words})
    );
    assert_eq!(
        (&report["readiness_wait"]["reply_received"], codes(&report)),
        (&json!(false), vec!["connection_failure"])
    );
    assert_eq!((&report["target"], &report["streams"]["ping"]), (&json!(url), &Value::Null));
    let [junit, markdown] = [junit, markdown].map(|file| std::fs::read_to_string(file).unwrap());
    assert!(junit.contains(&format!("message=\"{words}\"")), "{junit}");
    assert!(markdown.starts_with("## FAILED: probe moqt://"), "{markdown}");
}

#[test]
fn unresolvable_and_remote_hosts_are_rejected_before_any_report() {
    let output = probe("moqt://no.such.host.invalid/echo", &[]);
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    let words =
        "cannot use moqt://no.such.host.invalid:4443/echo: cannot find an address for host `no.such.host.invalid`: ";
    assert!(output.stderr.starts_with(&format!("jamjam-dev: {words}")), "{}", output.stderr);
    let output = probe("https://192.0.2.1/echo", &["--insecure"]);
    assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{output:?}");
    assert!(
        output.stderr.contains("--insecure requires a server on this machine, but 192.0.2.1 is remote"),
        "{}",
        output.stderr
    );
}

#[test]
fn untrusted_certificate_is_reported_with_its_sha_256() {
    let server = ScriptedServer::start([]);
    let zeros = "0".repeat(64);
    let way_out = format!("give --cert-sha256 {}\n", server.sha256);
    let another = format!("certificate fingerprint mismatch: expected {zeros}, got {}. ", server.sha256);
    for (options, words, times) in [(&[][..], way_out, 2), (&["--cert-sha256", &zeros], another, 1)] {
        let output = probe(&server.url, options);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        assert!(output.stderr.starts_with(&format!("jamjam-dev: cannot use {}: ", server.url)), "{}", output.stderr);
        assert!(output.stderr.contains(&words), "{}", output.stderr);
        assert_eq!(output.stderr.matches(&server.sha256).count(), times, "{}", output.stderr);
    }
    report(0, &server.url, &["--insecure", "--count", "2"]);
    report(0, &server.url, &server.with(&["--count", "2"]));
}

#[test]
fn server_close_is_reported_with_its_code_and_frames_in_flight_lost() {
    let server = ScriptedServer::start([(3, ServerAction::Drop), (6, ServerAction::Close(0x2a))]);
    let report = report(1, &server.url, &server.with(&["--count", "0", "--interval", "30ms", "--max-loss", "100%"]));
    let words = "the server closed the connection with code 0x2a (whim)";
    assert_eq!(report["moqt"]["connection_failure"], json!({"kind": "closed", "close_code": 42, "message": words}));
    let [sent, returned, lost, in_flight] =
        document::counts(&report, "ping", ["sent", "returned", "lost", "in_flight"]);
    // Groups 1, 2, 4 and 5 returned. All remaining groups that were sent before the close are lost.
    assert_eq!((returned, in_flight, sent), (4, 0, 4 + lost));
    assert!(reasons(&report).contains(&format!("{words} after {sent} frames")), "{report:#}");
    assert_eq!(moqt(&report, ["groups_sent", "groups_lost"]), [sent, lost]);
}

#[test]
fn unsupported_version_is_rejected_with_a_message() {
    let server = ScriptedServer::greeting(&[Greeting::UnofferedVersion], []);
    let report = report(1, &server.url, &server.with(&[]));
    let lost = &report["moqt"]["connection_failure"];
    let words = "the server selected version 0xff000001, which was not offered (offered: 0xffffff00, 0xfeedbabe)";
    assert_eq!(lost, &json!({"kind": "rejected", "close_code": null, "message": words}));
    assert!(report["moqt"]["quic_ms"].as_f64().unwrap() > 0.0, "{report:#}");
    assert_eq!(report["moqt"]["session_ms"], Value::Null);
}

#[test]
fn unanswered_first_attempt_is_only_reported_as_a_retry() {
    // The first connection negotiates gomoqt-0.9; the second does not negotiate a version.
    let server = ScriptedServer::greeting(&[Greeting::Silent, Greeting::UnofferedVersion], []);
    let refused = report(1, &server.url, &server.with(&[]));
    let reported = &refused["moqt"];
    assert_eq!(
        (&reported["retried_path"], &reported["connection_failure"]["kind"]),
        (&json!("echo"), &json!("rejected"))
    );
    assert_eq!((&reported["version"], &reported["track"]), (&Value::Null, &json!("/client.echo, index")), "{reported}");
    assert_eq!((&reported["session_ms"], &reported["subscribe_ms"]), (&Value::Null, &Value::Null), "{reported}");
    assert!(codes(&refused).contains(&"path_retried"), "{refused:#}");

    let server = ScriptedServer::greeting(&[Greeting::Silent, Greeting::Gomoqt202502], []);
    let answered = report(0, &server.url, &server.with(&["--count", "3", "--interval", "5ms"]));
    let reported = &answered["moqt"];
    assert_eq!((&reported["retried_path"], &reported["connection_failure"]), (&json!("echo"), &Value::Null));
    assert_eq!(
        (&reported["version"], &reported["track"]),
        (&json!("gomoqt-2025-02"), &json!("japan, kyoto, text")),
        "{reported}"
    );
    assert_eq!(document::counts(&answered, "ping", ["sent", "returned"]), [3, 3]);
    assert!(codes(&answered).contains(&"path_retried"), "{answered:#}");
    assert_eq!(server.groups.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn server_unsubscribe_ends_the_run_and_is_not_counted_as_loss() {
    let server = ScriptedServer::start([(3, ServerAction::Unsubscribe)]);
    let report = report(1, &server.url, &server.with(&["--count", "6", "--interval", "1s", "--max-loss", "100%"]));
    let words = "the server unsubscribed from our track";
    assert_eq!(
        report["moqt"]["connection_failure"],
        json!({"kind": "not_ready", "close_code": null, "message": words})
    );
    assert!(reasons(&report).contains(words), "{report:#}");
    let [sent, returned] = document::counts(&report, "ping", ["sent", "returned"]);
    // Groups 1 to 3 return, and then the server unsubscribes. If the machine stalls for a second, the client may send a fourth group first.
    assert!(returned == 3 && sent <= 4, "{report:#}");
}

#[test]
fn stop_request_prints_the_partial_report() {
    let server = ScriptedServer::start([(2, ServerAction::Drop)]);
    for (signal, code, name) in [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")] {
        let program = start_line(&format!(
            "probe --to {} --cert-sha256 {} --count 0 --interval 20ms --timeout 60s --json",
            server.url, server.sha256
        ));
        while server.groups.recv_timeout(Duration::from_secs(30)).unwrap() < 5 {}
        program.signal(signal);
        let output = program.end();
        assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{output:?}");
        let report = document::report(&output);
        assert_eq!(report["interrupted"], json!(name));
        assert_eq!(report["moqt"]["connection_failure"], Value::Null);
        let [returned, lost, in_flight] = document::counts(&report, "ping", ["returned", "lost", "in_flight"]);
        // Group 2 could still return within the timeout of a minute.
        assert!(returned >= 3 && lost == 0 && in_flight >= 1, "{report:#}");
        server.groups.try_iter().count();
    }
}

#[test]
fn stop_request_while_connecting_ends_the_run_at_once() {
    let (socket, port) = silent_port();
    let program = start_line(&format!("probe --to moqt://127.0.0.1:{port}/echo"));
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.recv(&mut [0; 2_048]).unwrap();
    program.signal("TERM");
    let output = program.end();
    assert_eq!((output.code, output.stdout.as_str()), (143, ""), "{output:?}");
    let words = format!("interrupted while connecting to moqt://127.0.0.1:{port}/echo; nothing was sent\n");
    assert_eq!(output.stderr, format!("jamjam-dev: {words}"));
}

#[test]
fn invalid_options_of_moqt_runs_are_explained() {
    for (line, words) in [
        ("probe --moqt", "--embedded"),
        ("probe --to moqt://127.0.0.1:9/ --delay 5", "--delay has no effect over MOQT; it applies to"),
        ("probe --embedded --moqt=udp", "[possible values: quic, webtransport]"),
        ("probe --to moqt://127.0.0.1:9/ --frames-per-group 0", "0 is not in 1..=10000"),
        ("probe --to moqt://127.0.0.1:9/ --size 1048577", "--size 1048577: a MOQT frame has at most 1048576 bytes"),
        ("probe --to moqt://127.0.0.1:9/ --size -1", "`-1` is not a number; expected a size such as 64MiB or 4096"),
        ("probe --to moqt://127.0.0.1:9/ --size 99999999999999999999999999", "is too large; the maximum is"),
        (
            "probe --to moqt://127.0.0.1:9/ --moqt-version moq-lite-05",
            "[possible values: moq-lite-04, moq-lite-03, gomoqt-2025-02, gomoqt-0.9]",
        ),
        ("probe --to moqt://127.0.0.1:99999/", "invalid port `99999`: give a number from 1 to 65535"),
        ("probe --to moqt:///echo", "invalid URL; expected moqt://HOST:PORT/PATH"),
        ("probe --to moqt://127.0.0.1:9/ --interval 0", "--interval: too short"),
        ("send --to moqt://127.0.0.1:9/", "nothing to send: give --text TEXT"),
        ("send --embedded --moqt", "nothing to send: give --text TEXT"),
        ("send --to 127.0.0.1:9 --text x", "--text has no effect over UDP; it applies to MOQT"),
        ("send --to moqt://127.0.0.1:9/ --text x --tone 440", "--tone has no effect over MOQT"),
        ("send --to moqt://127.0.0.1:9/ --text x --no-echo", "--no-echo has no effect over MOQT"),
        ("send --to moqt://127.0.0.1:9/ --text - --text -", "standard input can be read only once"),
        ("send --to ws://127.0.0.1:9/ --text x", "send needs a UDP target, not a signaling server (ws://, wss://)"),
    ] {
        let output = run_args(line.split(' '));
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{line}: {}", output.stderr);
        assert!(output.stderr.contains(words), "{line}: {}", output.stderr);
    }
}
