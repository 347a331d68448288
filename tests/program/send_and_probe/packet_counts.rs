//! The counts of `send` and `probe`, with servers that lose, repeat, reorder and damage specific packets.

use std::time::{Duration, Instant};
use test_support::client;

use client::packet::{AUDIO, KEEPALIVE, Packet};
use client::program::run;
use client::server::{Server, ServerAction, closed_udp_port};
use client::{at_once, document};
use serde_json::Value;

/// The action for each packet by its index in the stream. Of 40 packets, 4 are lost, and 1 returns only as a damaged copy.
fn decide(index: u32) -> ServerAction {
    match index {
        3 | 7 | 39 => ServerAction::Silence,
        5 => ServerAction::Times(3),
        10 | 20 => ServerAction::AfterNext,
        12 => ServerAction::Damage,
        13 => ServerAction::DamageThenReply,
        15 => ServerAction::UnknownSequence,
        _ => ServerAction::Reply,
    }
}

const COUNTED: [&str; 9] =
    ["sent", "returned", "lost", "damaged", "damaged_copies", "duplicated", "reordered", "unmatched", "in_flight"];
const COUNTS: [u64; 9] = [40, 35, 4, 1, 2, 2, 2, 1, 0];

#[test]
fn probe_counts_match_what_the_server_did_to_its_packets() {
    let requests = [("", "ping"), ("--packet keepalive", "keepalive"), ("--packet audio", "audio")];
    let cases = requests.iter().flat_map(|request| ["native", "portable"].map(|driver| (request, driver)));
    at_once(cases, |((option, stream), driver)| {
        let server = Server::with_actions(|packet| decide(packet.index()));
        let output = run(&format!(
            "probe {option} --count 40 --interval 2ms --timeout 500ms --to {} --driver {driver} --json",
            server.to()
        ));
        assert_eq!(output.code, 1, "{output:?}");
        let report = document::report(&output);
        assert_eq!(document::counts(&report, stream, COUNTED), COUNTS, "{stream} {driver}");
        assert_eq!(report["streams"][stream]["loss_ratio"], 0.1);
        let reason = report["verdict"]["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("1 of 40 ") && reason.ends_with(" packets returned damaged"), "{reason}");
    });
}

#[test]
fn send_counts_match_what_the_server_did_to_its_packets() {
    at_once(["native", "portable"], |driver| {
        let server = Server::with_audio(|sequence| decide(sequence - 1));
        // 40 packets of 128 samples, 1 ping and 1 KEEPALIVE.
        let output = run(&format!(
            "send --tone 440 --duration 106.67ms --delay 0 --timeout 500ms --to {} --driver {driver} --spin 0 --json",
            server.to()
        ));
        assert_eq!(output.code, 1, "{output:?}");
        let report = document::report(&output);
        assert_eq!(document::counts(&report, "audio", COUNTED), COUNTS, "{driver}");
        for stream in ["ping", "keepalive"] {
            assert_eq!(document::counts(&report, stream, ["sent", "returned", "lost"]), [1, 1, 0]);
        }
    });
}

#[test]
fn truncated_reply_is_damaged_or_unmatched() {
    // Truncated AUDIO keeps its header and counts as damaged. A truncated pong loses its number. A truncated KEEPALIVE is not a valid
    // packet.
    let names = ["lost", "damaged", "damaged_copies", "unmatched"];
    let cases = [
        ("--packet audio", "audio", [0, 1, 1, 0], 0),
        ("", "ping", [1, 0, 0, 1], 0),
        ("--packet keepalive", "keepalive", [1, 0, 0, 0], 1),
    ];
    at_once(cases, |(option, stream, counts, stray)| {
        let server =
            Server::with_actions(
                |packet| if packet.index() == 4 { ServerAction::Truncate } else { ServerAction::Reply },
            );
        let output =
            run(&format!("probe {option} --count 10 --interval 1ms --timeout 300ms --to {} --json", server.to()));
        let report = document::report(&output);
        assert_eq!(document::counts(&report, stream, names), counts, "{stream}");
        assert_eq!(report["stray"], stray, "{stream}");
        assert_eq!(output.code, i32::from(stream == "audio"));
    });
}

#[test]
fn datagram_without_a_request_is_stray_and_changes_no_other_count() {
    at_once([()], |()| {
        let server =
            Server::with_actions(
                |packet| if packet.index() == 4 { ServerAction::WithUnmatched } else { ServerAction::Reply },
            );
        let output = run(&format!("probe --count 10 --interval 1ms --to {} --json", server.to()));
        assert_eq!(output.code, 0, "{output:?}");
        let report = document::report(&output);
        assert_eq!(report["stray"], 3);
        assert_eq!(document::counts(&report, "ping", COUNTED), [10, 10, 0, 0, 0, 0, 0, 0, 0]);
    });
}

/// The causes listed by the warning for a run without replies.
fn reasons(report: &Value) -> [&str; 3] {
    let warnings = report["warnings"].as_array().unwrap();
    let warning = warnings.iter().find(|warning| warning["code"] == "no_replies").unwrap();
    let points = warning["details"].as_array().unwrap();
    [0, 1, 2].map(|at| points[at].as_str().unwrap())
}

#[test]
fn run_without_replies_fails_and_lists_the_likely_causes() {
    let lines = [
        "probe --count 5 --interval 1ms",
        "probe --packet audio --count 5 --interval 1ms --delay 0",
        "send --tone 440 --duration 20ms --delay 0",
    ];
    at_once(lines, |line| {
        let server = Server::silent();
        let output = run(&format!("{line} --timeout 100ms --to {} --json", server.to()));
        assert_eq!(output.code, 1, "{output:?}");
        let report = document::report(&output);
        assert_eq!(report["verdict"]["reasons"], serde_json::json!(["no replies received"]));
        let stream = &report["streams"][report["evaluated_stream"].as_str().unwrap()];
        assert_eq!((&stream["loss_ratio"], &stream["rtt_min_us"]), (&Value::from(1.0), &Value::Null));
        // The target is this host, so the port is open and no firewall is on the path.
        let [no_echo, closed, path] = reasons(&report);
        assert!(no_echo.contains(": likely, because a program on this host has the port open"), "{no_echo}");
        assert!(closed.ends_with(": unlikely, because ICMP port unreachable was not received"), "{closed}");
        assert!(path.ends_with(": unlikely, because the target is this host"), "{path}");

        // The text report lists the same causes.
        let output = run(&format!("{line} --timeout 100ms --to {}", server.to()));
        assert_eq!(output.code, 1);
        assert!(output.stdout.contains("possible causes:\n  1. "), "{}", output.stdout);
        assert!(output.stdout.contains("\nfailed: no replies received\nFAILED: "), "{}", output.stdout);
        assert!(!output.stdout.contains("0.0 µs  "), "{}", output.stdout);
    });
}

#[test]
fn server_that_answers_only_pings_is_distinguished_from_silence() {
    let server = Server::with_audio(|_| ServerAction::Silence);
    let output = run(&format!("send --tone 440 --duration 20ms --delay 0 --timeout 200ms --to {} --json", server.to()));
    assert_eq!(output.code, 1, "{output:?}");
    let report = document::report(&output);
    assert_eq!(document::counts(&report, "ping", ["sent", "returned"]), [1, 1]);
    let [server, _, path] = reasons(&report);
    assert!(path.ends_with("ruled out, because other datagrams arrived"), "{path}");
    assert!(server.contains("likely, because 1 LATENCY_PONG datagram arrived"), "{server}");
}

#[test]
fn closed_port_is_reported() {
    let lines = ["probe --count 5 --interval 1ms", "send --tone 440 --duration 20ms --delay 0"];
    let cases = lines.iter().flat_map(|line| ["native", "portable"].map(|driver| (line, driver)));
    at_once(cases, |(line, driver)| {
        let (_reserved, address) = closed_udp_port();
        let output = run(&format!("{line} --timeout 100ms --to {address} --driver {driver} --json"));
        assert_eq!(output.code, 1, "{output:?}");
        let report = document::report(&output);
        assert!(report["port_unreachable"].as_u64().unwrap() >= 1, "{report:#}");
        let [closed, _, server] = reasons(&report);
        assert!(
            closed.contains("port unreachable): likely, because ICMP port unreachable was received")
                && closed.ends_with("Check the port and the firewall, and that the server is running"),
            "{closed}"
        );
        assert!(server.ends_with(": unlikely, because no datagram arrived"), "{server}");
    });
}

#[test]
fn without_expected_echo_no_packet_is_lost() {
    let server = Server::silent();
    let output = run(&format!("send --tone 440 --duration 20ms --no-echo --to {} --json", server.to()));
    assert_eq!(output.code, 0, "{output:?}");
    let report = document::report(&output);
    assert_eq!(document::counts(&report, "audio", COUNTED), [8, 0, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!((&report["replies_expected"], &report["verdict"]["passed"]), (&false.into(), &true.into()));
    assert_eq!(server.received_of(AUDIO).len(), 8);
}

#[test]
fn nothing_is_counted_before_the_first_reply() {
    let lines = [
        "probe --count 10 --interval 1ms",
        "probe --packet audio --count 10 --interval 1ms",
        "send --tone 440 --duration 26.67ms --delay 0",
    ];
    let cases = lines.iter().flat_map(|line| ["native", "portable"].map(|driver| (line, driver)));
    at_once(cases, |(line, driver)| {
        // The server ignores the first packets, as if it had started late.
        let mut ignored = 3;
        let server = Server::with_actions(move |_| {
            ignored -= i32::from(ignored >= 0);
            if ignored >= 0 { ServerAction::Silence } else { ServerAction::Reply }
        });
        let output = run(&format!("{line} --wait-for 30s --to {} --driver {driver} --max-loss 0% --json", server.to()));
        assert_eq!(output.code, 0, "{output:?}");
        let report = document::report(&output);
        let stream = report["evaluated_stream"].as_str().unwrap();
        assert_eq!(document::counts(&report, stream, COUNTED), [10, 10, 0, 0, 0, 0, 0, 0, 0], "{line} {driver}");
        assert_eq!((&report["readiness_wait"]["reply_received"], &report["stray"]), (&true.into(), &0.into()));
        assert!(
            report["readiness_wait"]["waited_ms"].as_f64().unwrap() >= 300.0,
            "three keepalives 100 ms apart were ignored"
        );
        let keepalives: Vec<Packet> = server.received()[..4].to_vec();
        assert!(
            keepalives.iter().all(|keepalive| keepalive.kind == KEEPALIVE && keepalive.payload.is_empty()),
            "{keepalives:?}"
        );
    });
}

#[test]
fn wait_for_that_times_out_fails_and_sends_only_keepalives() {
    at_once(["probe --count 10", "send --tone 440 --duration 20ms"], |line| {
        let server = Server::silent();
        let output = run(&format!("{line} --wait-for 250ms --to {} --json", server.to()));
        assert_eq!(output.code, 1, "{output:?}");
        let report = document::report(&output);
        assert_eq!(report["readiness_wait"]["reply_received"], false);
        assert!(report["verdict"]["reasons"][0].as_str().unwrap().starts_with("no reply within 2"), "{report:#}");
        assert_eq!(document::counts(&report, report["evaluated_stream"].as_str().unwrap(), ["sent", "lost"]), [0, 0]);
        assert_eq!(reasons(&report).len(), 3);
        assert!(server.received().iter().all(|packet| packet.kind == KEEPALIVE));
    });
}

#[test]
fn wait_for_tries_an_unknown_name_again_over_every_protocol() {
    at_once(["", "ws://", "moqt://", "https://"], |scheme| {
        let began = Instant::now();
        let output = run(&format!("probe {scheme}host.invalid --wait-for 1100ms"));
        assert_eq!(output.code, 3, "{output:?}");
        assert!(began.elapsed() >= Duration::from_millis(500), "{scheme}: {output:?}");
        assert!(output.stderr.contains("cannot find an address for host `host.invalid`"), "{output:?}");
    });
}

#[test]
fn server_delay_is_estimated_from_pings_or_configured() {
    let hold = Duration::from_millis(300);
    let cases = [("", 300.0), ("--delay 250ms", 250.0), ("--delay 10s", 10_000.0)];
    at_once(cases, move |(option, counted)| {
        let server = Server::with_audio(move |_| ServerAction::Later(hold));
        let output = run(&format!("send --tone 440 --duration 50ms {option} --to {} --json", server.to()));
        assert_eq!(output.code, 0, "{output:?}");
        let audio = document::report(&output)["audio"].clone();
        let number = |name: &str| audio[name].as_f64();
        assert!(number("echo_time_min_us").unwrap() >= 300_000.0, "{audio:#}");
        // The estimate is the smallest AUDIO echo time minus the smallest ping round-trip time. The server delays AUDIO by 300 ms and does
        // not delay pings.
        assert!((200.0..1_000.0).contains(&number("server_delay_estimated_ms").unwrap()), "{audio:#}");
        let report = document::report(&output);
        let min_rtt = report["streams"]["audio"]["rtt_min_us"].as_f64().unwrap();
        let echo = number("echo_time_min_us").unwrap();
        if option.is_empty() {
            assert_eq!(
                (number("server_delay_configured_ms"), number("server_delay_ms")),
                (None, number("server_delay_estimated_ms"))
            );
            let ping = report["streams"]["ping"]["rtt_min_us"].as_f64().unwrap();
            assert!((min_rtt - ping).abs() < 0.01, "{min_rtt} {ping}");
        } else {
            assert_eq!(
                (number("server_delay_configured_ms"), number("server_delay_ms")),
                (Some(counted), Some(counted))
            );
            assert!((min_rtt - (echo - counted * 1e3)).abs() < 0.01, "{min_rtt} {echo}");
        }
    });
}

#[test]
fn server_delay_of_the_embedded_server_is_known_without_an_estimate() {
    let lines = ["probe --packet audio --count 5 --interval 1ms", "send --tone 440 --duration 20ms"];
    at_once(lines, |line| {
        for (delay, hold) in [("50", 50.0), ("40ms", 40.0)] {
            let report = document::report(&run(&format!("{line} --embedded --delay {delay} --json")));
            assert_eq!(report["audio"]["server_delay_configured_ms"], hold, "{line} {delay}");
            assert_eq!(report["audio"]["server_delay_ms"], hold, "{line} {delay}");
        }
    });
}
