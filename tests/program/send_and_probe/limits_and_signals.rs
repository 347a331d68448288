//! Limits and signals: exit codes of `send` and `probe`, and the corresponding reports.

use std::time::Duration;

use serde_json::json;
use test_support::client::{Server, ServerAction, at_once, document, start_line};

use crate::send_and_probe::report;

#[test]
fn each_limit_is_compared_with_its_figure() {
    let cases = [
        ("--max-loss 5%", 0, "loss_ratio", 0.05),
        ("--max-loss 4.999%", 1, "loss_ratio", 0.049_99),
        ("--max-p50 30s", 0, "rtt_p50_us", 30e6),
        ("--max-p50 50ms", 1, "rtt_p50_us", 50e3),
        ("--max-p99 30s", 0, "rtt_p99_us", 30e6),
        ("--max-p99 50ms", 1, "rtt_p99_us", 50e3),
        ("--max-jitter 30s", 0, "jitter_mean_us", 30e6),
        ("--max-jitter 0", 1, "jitter_mean_us", 0.0),
    ];
    at_once(cases, |(option, code, figure, allowed)| {
        // One of 20 packets is lost. The others return after 60 ms.
        let server = Server::with_delay(Duration::from_millis(60), |packet| match packet.index() % 20 {
            6 => ServerAction::Silence,
            _ => ServerAction::Reply,
        });
        let line = format!("probe --count 120 --interval 1ms --timeout 300ms {option} --to {}", server.to());
        let report = report(code, &line);
        let [limit] = &report["limits"].as_array().unwrap()[..] else { panic!("{report:#}") };
        assert_eq!((&limit["figure"], &limit["passed"]), (&json!(figure), &json!(code == 0)), "{option}");
        assert_eq!((&limit["allowed"], &limit["measured"]), (&json!(allowed), &report["streams"]["ping"][figure]));
        assert_eq!(report["verdict"]["reasons"].as_array().unwrap().len(), code as usize, "{option}");
    });
}

#[test]
fn signal_ends_a_run_with_a_partial_report_and_its_own_exit_code() {
    let lines = ["probe --count 0 --interval 1ms", "probe --count 0 --interval 1ms --packet audio", "send --tone 440"];
    // Under `nohup`, the program ignores SIGHUP.
    let hangup = (!jamjam_dev::io::os::is_hangup_ignored()).then_some(("HUP", 129, "SIGHUP"));
    let signals: Vec<_> = [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")].into_iter().chain(hangup).collect();
    let cases = lines.iter().flat_map(|line| signals.iter().map(move |signal| (line, *signal)));
    let cases = cases.flat_map(|(line, signal)| ["native", "portable"].map(|driver| (line, signal, driver)));
    at_once(cases, |(line, (signal, code, name), driver)| {
        let server = Server::correct();
        let delay = if line.contains("audio") || line.contains("tone") { "--delay 0" } else { "" };
        let program = start_line(&format!("{line} {delay} --json --to {} --driver {driver} --spin 0", server.to()));
        server.wait_for(100);
        program.signal(signal);
        let output = program.end();
        assert_eq!(output.code, code, "{line}: {output:?}");
        let report = document::report(&output);
        assert_eq!(report["interrupted"], name);
        let stream = report["evaluated_stream"].as_str().unwrap();
        let names = ["sent", "returned", "lost", "in_flight"];
        let [sent, returned, lost, in_flight] = document::counts(&report, stream, names);
        assert!(sent >= 90 && returned > 0, "{report:#}");
        assert_eq!((lost, sent), (0, returned + in_flight));
    });
}
