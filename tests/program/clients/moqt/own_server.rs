//! `probe` with the program's own MOQT echo server, over both transports and in all versions.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::json;
use test_support::client::{counts, document, start_line, together};
use test_support::server::Server;

use crate::clients::moqt::{failure, moqt, report};
use crate::echo_server::moqt::start;

#[test]
fn fifty_groups_of_two_return_over_both_transports_and_versions() {
    let (_server, log) = start(&[]);
    let broadcast = "/client.echo, index";
    let versions = [
        ("gomoqt-2025-02", "japan, kyoto, text"),
        ("gomoqt-0.9", broadcast),
        ("moq-lite-03", broadcast),
        ("moq-lite-04", broadcast),
    ];
    let schemes = [("moqt", "quic"), ("https", "webtransport")];
    for ((scheme, transport), (version, track)) in schemes.iter().flat_map(|scheme| versions.map(|case| (scheme, case)))
    {
        let url = format!("{scheme}://localhost:{}/echo", log.port());
        let options = "--count 50 --frames-per-group 2 --interval 4ms";
        let report = report(0, &url, &log.trusted(&format!("{options} --moqt-version {version}")));
        let [sent, returned, excluded] = counts(&report, "ping", ["sent", "returned", "excluded"]);
        assert_eq!((sent, returned + excluded), (100, 100), "{url} {version} {report:#}");
        assert_eq!(moqt(&report, ["groups_lost", "frames_per_group"]), [0, 2], "{report:#}");
        let reported = &report["moqt"];
        let names = ["transport", "version", "track"].map(|name| reported[name].as_str());
        assert_eq!(names, [*transport, version, track].map(Some));
        let parts = ["dns_ms", "quic_ms", "session_ms", "subscribe_ms"];
        assert!(parts.iter().all(|part| reported[part].as_f64().is_some_and(|ms| ms >= 0.0)), "{reported}");
        assert_eq!(reported["webtransport_ms"].is_f64(), *scheme == "https", "{reported}");
    }
}

#[test]
fn path_is_matched_equally_over_both_transports() {
    let (_server, log) = start(&[]);
    for (path, is_served) in [("a/../echo?x=1", true), ("%65cho", false), ("", false)] {
        for (scheme, kind, words) in [
            ("moqt", "closed", "; this server serves /echo)"),
            ("https", "rejected", "rejected the WebTransport session: HTTP status 404; our server has the path /echo"),
        ] {
            let url = format!("{scheme}://localhost:{}/{path}", log.port());
            let options = log.trusted("--count 1 --moqt-version gomoqt-2025-02");
            let report = report(if is_served { 0 } else { 3 }, &url, &options);
            let [reported_kind, code, message] = failure(&report);
            assert_eq!(reported_kind.as_str(), (!is_served).then_some(kind), "{url}");
            assert_eq!(code.as_u64(), (kind == "closed" && !is_served).then_some(0x13), "{url}");
            assert!(is_served || message.as_str().unwrap().ends_with(words), "{url}: {message}");
        }
    }
    // In moq-lite over raw QUIC, no message contains the path.
    for (scheme, code) in [("moqt", 0), ("https", 3)] {
        let url = format!("{scheme}://localhost:{}/other", log.port());
        let report = report(code, &url, &log.trusted("--moqt-version moq-lite-04 --count 1"));
        assert_eq!(report["moqt"]["retried_path"], json!(null));
    }
}

#[test]
fn embedded_server_replies_over_both_transports() {
    let cases = [("--moqt", "quic"), ("--moqt=quic", "quic"), ("--moqt=webtransport", "webtransport")];
    together(cases, |(option, transport)| {
        let line = format!("probe --embedded {option} --count 5 --interval 5ms --delay 30ms");
        let report = crate::clients::report(0, &line);
        assert_eq!(counts(&report, "ping", ["sent", "lost"]), [5, 0]);
        assert_eq!(report["target"], json!("embedded MOQT echo server (30 ms)"));
        // Without an option, the client offers all versions.
        assert_eq!(["transport", "version"].map(|name| &report["moqt"][name]), [transport, "moq-lite-04"]);
        // Unknown if this host paused during the whole run.
        assert!(report["streams"]["ping"]["rtt_min_us"].as_f64().is_none_or(|rtt_us| rtt_us >= 30_000.0), "{report:#}");
    });
}

#[test]
fn run_waits_for_a_server_that_starts_later() {
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap();
    unused.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let address = unused.local_addr().unwrap().to_string();
    let options = "--insecure --wait-for 30s --count 3 --interval 5ms --json";
    let program = start_line(&format!("probe --to moqt://{address}/echo {options}"));
    unused.recv(&mut [0; 2_048]).unwrap();
    drop(unused);
    let _server = Server::start(&["--host", "127.0.0.1", "--moqt", &address]);
    let output = program.end();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    let report = document::report(&output);
    let wait = &report["readiness_wait"];
    assert_eq!((&wait["reply_received"], counts(&report, "ping", ["sent", "lost"])), (&json!(true), [3, 0]));
    assert!(wait["waited_ms"].as_f64().unwrap() > 0.0);
}
