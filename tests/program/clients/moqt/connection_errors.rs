//! Connections that fail or close, and servers that vanish, stall or stop sending at every stage: the reported message and exit code.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::client::{document, start_line, together};

use crate::clients::moqt::scripted_server::{Fault, ScriptedServer};
use crate::clients::moqt::{codes, failure, probe, report};

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
    let server = ScriptedServer::silent_at_first();
    let answered = report(0, &server.url, &server.trusted("--count 3 --interval 5ms"));
    let reported = &answered["moqt"];
    let expected = ["echo", "gomoqt-2025-02", "japan, kyoto, text"].map(|text| json!(text));
    assert_eq!(names.map(|name| reported[name].clone()), expected);
    assert_eq!(reported["connection_failure"], Value::Null);
    assert_eq!(document::counts(&answered, "ping", ["sent", "returned"]), [3, 3]);
    assert!(codes(&answered).contains(&"path_retried"), "{answered:#}");
    assert_eq!(server.groups.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn server_that_fails_at_any_moment_leaves_a_report_with_the_cause() {
    let cases = [
        (0, Fault::Stalled, Some(("unreachable", "no server listens there, or a firewall drops UDP"))),
        (2, Fault::Vanished, Some(("unreachable", "no program listens on this UDP port"))),
        (4, Fault::Silent, Some(("not_ready", "the server did not accept our subscription"))),
        // The second of five groups arrives. Usually, the server has returned the first group by then.
        (7, Fault::Silent, None),
        (7, Fault::Vanished, None),
    ];
    let cases = cases.into_iter().flat_map(|case| [false, true].map(|is_interrupted| (case, is_interrupted)));
    together(cases, |((stage, fault, expected), is_interrupted)| {
        let server = ScriptedServer::failing(stage, fault);
        let options = server.trusted("--count 5 --interval 20ms --timeout 5s --json");
        let program = start_line(&format!("probe --to {} {options}", server.url));
        while server.groups.recv_timeout(Duration::from_secs(30)).unwrap() > 0 {}
        if is_interrupted {
            program.signal("INT");
        }
        let output = program.end();
        let report = document::report(&output);
        let what = format!("{stage} {fault:?}: {report:#}");
        assert_eq!(output.stderr, "", "{what}");
        let [kind, _, message] = failure(&report);
        if is_interrupted {
            let ended = (output.code, &report["interrupted"], kind);
            assert_eq!(ended, (130, &json!("SIGINT"), &Value::Null), "{what}");
        } else if let Some((expected, words)) = expected {
            // Without a subscription, no frame can leave.
            assert_eq!((kind, output.code), (&json!(expected), 3), "{what}");
            assert!(message.as_str().is_some_and(|text| text.contains(words)), "{what}");
        } else {
            let names = ["sent", "returned", "lost", "excluded"];
            let [sent, returned, lost, excluded] = document::counts(&report, "ping", names);
            assert_eq!((kind, sent, sent - returned), (&Value::Null, 5, lost + excluded), "{what}");
            assert!(returned <= 1, "{what}");
            assert!(excluded >= 3 || output.code == i32::from(returned == 0), "{what}");
        }
    });
}
