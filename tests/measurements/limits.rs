//! Limits of `send` and `probe`, judged for real runs: the exit code, and the figure that each limit is compared with.

use std::time::Duration;

use serde_json::json;
use test_support::client::{Server, ServerAction, json_report, measured, run, together};

#[test]
fn each_limit_is_compared_with_its_figure() {
    measured(|| {
        let cases = [
            ("--max-loss 5%", 0, "loss_ratio", 0.05),
            ("--max-loss 4.999%", 1, "loss_ratio", 0.049_99),
            ("--max-p50 30s", 0, "rtt_p50_us", 30e6),
            ("--max-p50 50ms", 1, "rtt_p50_us", 50e3),
            ("--max-p99 30s", 0, "rtt_p99_us", 30e6),
            ("--max-p99 50ms", 1, "rtt_p99_us", 50e3),
            ("--max-jitter 30s", 0, "jitter_mean_us", 30e6),
            ("--max-jitter 5ms", 1, "jitter_mean_us", 5e3),
        ];
        together(cases, |(option, code, figure, allowed)| {
            // One of 20 packets is lost. The others return after 60 ms, every second one after 100 ms.
            let server = Server::with_delay(Duration::from_millis(60), |packet| match packet.index() % 20 {
                6 => ServerAction::Silence,
                index if index % 2 == 1 => ServerAction::Later(Duration::from_millis(40)),
                _ => ServerAction::Reply,
            });
            let line = format!("probe --count 120 --interval 1ms --timeout 300ms {option} --to {}", server.to());
            let report = json_report(code, &line);
            let judgments = report["judgments"].as_array().unwrap().iter();
            let limits: Vec<_> = judgments.filter(|judgment| !judgment["allowed"].is_null()).collect();
            let [limit] = limits[..] else { panic!("{report:#}") };
            let result = if code == 0 { "met" } else { "exceeded" };
            assert_eq!((&limit["figure"], &limit["result"]), (&json!(figure), &json!(result)), "{option}");
            assert_eq!((&limit["allowed"], &limit["measured"]), (&json!(allowed), &report["streams"]["ping"][figure]));
            assert_eq!(report["verdict"]["reasons"].as_array().unwrap().len(), code as usize, "{option}");
        });
    });
}

#[test]
fn ramp_that_meets_its_limits_passes() {
    measured(|| {
        let server = Server::correct();
        let output = run(&format!("load-echo --clients 1 --ramp -i 100ms --timeout 1s --max-p99 20s {}", server.to()));
        assert!(output.code == 0 && output.stdout.contains("result: 1 client"), "{output:?}");
    });
}
