//! Connections that fail or close, and servers that vanish, stall or stop sending at every stage: the reported message and exit code.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::client::{Program, ProgramOutput, document, start_line, together};

use crate::clients::moqt::scripted_server::{Fault, Greeting, ScriptedServer};
use crate::clients::moqt::{codes, failure, probe, report};

#[test]
fn missing_server_is_reported_with_the_time_waited() {
    // An open port that never replies. A QUIC client cannot distinguish it from a closed port.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let url = format!("moqt://127.0.0.1:{port}/echo");
    let report = report(3, &url, "--wait-for 300ms");
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

/// At the last stage, the second of five groups arrives. Usually, the server has returned the first group by then.
const LAST: u8 = 7;

/// Probes a server that fails at this stage, and calls `at_fault` when the fault begins.
fn probe_failing(stage: u8, fault: Fault, at_fault: impl FnOnce(&Program)) -> ProgramOutput {
    let server = ScriptedServer::failing(stage, fault);
    let options = server.trusted("--count 5 --interval 20ms --timeout 5s --json");
    let program = start_line(&format!("probe --to {} {options}", server.url));
    while server.groups.recv_timeout(Duration::from_secs(30)).unwrap() > 0 {}
    at_fault(&program);
    // `Program::end` sends no signal to the program. The function only waits until the program exits.
    program.end()
}

/// Checks every fault at every stage. All cases run concurrently, because they mostly wait.
fn for_every_stage_and_fault(check: impl Fn(u8, Fault) + Sync) {
    let cases = (0..=LAST).flat_map(|stage| Fault::ALL.map(|fault| (stage, fault)));
    together(cases, |(stage, fault)| check(stage, fault));
}

/// The expected connection failure, determined by hand.
fn expected(stage: u8, fault: Fault) -> Option<(&'static str, &'static str)> {
    // In stages 0 to 2, nothing is subscribed or announced, so the client connects again with the other path after 2 s, and fails again.
    match (stage, fault) {
        (0..=2, Fault::Stalled) => {
            Some(("unreachable", "within 5.000 s: no server listens there, or a firewall drops UDP"))
        }
        (0..=2, Fault::Vanished) => Some(("unreachable", "within 5.000 s: no program listens on this UDP port")),
        (0, Fault::Silent) | (0..=2, Fault::Restarted) => Some(("rejected", "setup timed out after 5 s")),
        (1 | 2, Fault::Silent) => Some(("not_ready", "the server did not subscribe to our track")),
        (4, Fault::Silent) => Some(("not_ready", "the server did not accept our subscription")),
        // At stage 3, the announcement is not yet written. At stage 4, it is written, but the fault begins before it is sent.
        (3 | 4, _) => Some(("not_ready", "the server did not announce the echo")),
        (5, Fault::Silent) => None,
        (5, _) => Some(("not_ready", "the server did not accept our subscription")),
        _ => None,
    }
}

#[test]
fn run_ends_with_a_report_when_its_server_vanishes_at_any_moment() {
    for_every_stage_and_fault(|stage, fault| {
        let output = probe_failing(stage, fault, |_| ());
        let report = document::report(&output);
        let what = format!("{stage} {fault:?}: {report:#}");
        assert_eq!(output.stderr, "", "{what}");
        let [reported_kind, _, message] = failure(&report);
        let Some((kind, words)) = expected(stage, fault) else {
            assert_eq!((reported_kind, &report["interrupted"]), (&Value::Null, &Value::Null), "{what}");
            let [sent, returned, lost, excluded] =
                document::counts(&report, "ping", ["sent", "returned", "lost", "excluded"]);
            assert_eq!((sent, sent - returned), (5, lost + excluded), "{what}");
            // If two groups arrive at once, the fault may begin before the first group is returned.
            let min_returned = u64::from(stage == LAST && fault == Fault::Silent && excluded == 0);
            assert!((min_returned..=u64::from(stage == LAST)).contains(&returned), "{what}");
            let is_judged = excluded < 3;
            assert!(!is_judged || output.code == i32::from(returned == 0), "{what}");
            return;
        };
        // Without a subscription, no frame can leave.
        assert_eq!((reported_kind, output.code), (&json!(kind), 3), "{what}");
        assert!(message.as_str().is_some_and(|text| text.contains(words)), "{what}");
    });
}

#[test]
fn stop_request_at_any_moment_ends_the_run_with_a_partial_report() {
    for_every_stage_and_fault(|stage, fault| {
        let output = probe_failing(stage, fault, |program| program.signal("INT"));
        assert_eq!((output.code, output.stderr.as_str()), (130, ""), "{stage} {fault:?}: {output:?}");
        let report = document::report(&output);
        let what = format!("{stage} {fault:?}: {report:#}");
        assert_eq!((&report["interrupted"], failure(&report)[0]), (&json!("SIGINT"), &Value::Null), "{what}");
        assert!(stage < 6 || document::counts(&report, "ping", ["sent"]) >= [u64::from(stage) - 5], "{what}");
    });
}
