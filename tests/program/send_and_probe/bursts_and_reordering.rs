//! Bursts, reordering and machine statistics, with servers that lose and delay specific packets.

use client::program::run;
use client::server::{Server, ServerAction};
use client::{at_once, document};
use serde_json::json;
use test_support::client;

/// 18 of 40 packets are lost in bursts of 1, 2, 5, 6 and 4. One packet is damaged, and packet 16 overtakes packet 15.
fn decide(index: u32) -> ServerAction {
    match index {
        3 | 10 | 11 | 20..=24 | 26..=31 | 36..=39 => ServerAction::Silence,
        15 => ServerAction::AfterNext,
        25 => ServerAction::Damage,
        _ => ServerAction::Reply,
    }
}

#[test]
fn bursts_and_reordering_extents_match_what_the_server_caused() {
    let requests = [("", "ping"), ("--packet keepalive", "keepalive"), ("--packet audio", "audio")];
    let cases = requests.iter().flat_map(|request| ["native", "portable"].map(|driver| (request, driver)));
    at_once(cases, |((option, name), driver)| {
        let server = Server::with_actions(|packet| decide(packet.index()));
        let output = run(&format!(
            "probe {option} --count 40 --interval 2ms --timeout 500ms --to {} --driver {driver} --json",
            server.to()
        ));
        let report = document::report(&output);
        let stream = &report["streams"][name];
        assert_eq!(document::counts(&report, name, ["sent", "returned", "lost", "damaged"]), [40, 21, 18, 1]);
        // The damaged packet ends the burst before it and is not part of a burst.
        assert_eq!(stream["burst_lengths"], json!([1, 1, 0, 1, 1, 1, 0, 0, 0, 0]), "{driver}");
        // `ipdv_count` is the number of pairs of consecutive packets that both returned. Such pairs overlap: packets 0 to 2 form the pairs
        // (0, 1) and (1, 2). Packets 4 to 9 form 5 overlapping pairs, and packets 12 to 19 form 7 overlapping pairs. Packets 32 to 35 form
        // 3 overlapping pairs.
        let names = ["burst_max", "reordered", "reorder_extent_max", "ipdv_count"];
        assert_eq!(document::counts(&report, name, names), [6, 1, 1, 17], "{driver}");
        assert_eq!((&stream["reordered_ratio"], &stream["reorder_extent_mean"]), (&json!(1.0 / 21.0), &json!(1.0)));
        assert!(stream["reorder_late_time_offset_max_us"].as_f64().unwrap() >= 0.0, "{stream:#}");
        let range = ["rtt_max_us", "rtt_min_us", "pdv_max_us"].map(|name| stream[name].as_f64().unwrap());
        assert!((range[0] - range[1] - range[2]).abs() < 0.01, "{range:?}");
    });
}

#[test]
fn longest_burst_ignores_other_loss() {
    // Five of 20 packets are lost: three in a row, and two in a row.
    let ignored = |index| (5..8).contains(&index) || (10..12).contains(&index);
    let server =
        Server::with_actions(
            move |packet| if ignored(packet.index()) { ServerAction::Silence } else { ServerAction::Reply },
        );
    let output = run(&format!("probe --count 20 --interval 1ms --timeout 300ms --to {}", server.to()));
    assert_eq!(output.code, 0, "{output:?}");
    let row = "\nloss bursts           1 × 2 packets, 1 × 3; longest 3\n";
    assert!(output.stdout.contains(row), "{}", output.stdout);
}

#[test]
fn report_contains_send_call_and_wake_up_times() {
    let cases = ["native", "portable"].into_iter().flat_map(|driver| {
        ["probe --count 30 --interval 5ms", "send --tone 440 --duration 100ms --delay 0"].map(|line| (driver, line))
    });
    at_once(cases, |(driver, line)| {
        let server = Server::correct();
        let output = run(&format!("{line} --to {} --driver {driver} --json", server.to()));
        assert_eq!(output.code, 0, "{output:?}");
        let report = document::report(&output);
        let machine = &report["host_timing"];
        // There is one send call for each datagram of the run, including LATENCY_INFO, which gets no reply.
        let calls = machine["send_call_count"].as_u64().unwrap();
        assert_eq!(calls, (server.received().len() + server.queries()) as u64, "{machine:#}");
        assert!(machine["send_call_max_us"].as_f64().unwrap() > 0.0, "{machine:#}");
        // At least one sleep lasted its full duration: the last one, after all packets had returned.
        assert!(machine["timer_error_count"].as_u64().unwrap() >= 1, "{machine:#}");
        assert!(machine["timer_error_max_us"].as_f64().unwrap() >= 0.0, "{machine:#}");
    });
}
