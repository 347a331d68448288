//! Pauses of the client and of the server with SIGSTOP and SIGCONT. The path loses nothing, so no packet may count as lost, and every packet
//! is sent.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use test_support::client::{document, program};
use test_support::server::Server;

/// Minimum duration of a pause, in milliseconds.
const PAUSE_MS: u64 = 1_200;

/// Stops a process for a while.
fn pause(signal: impl Fn(&str)) {
    sleep(Duration::from_millis(400));
    signal("STOP");
    sleep(Duration::from_millis(PAUSE_MS));
    signal("CONT");
}

fn count(stream: &Value, name: &str) -> u64 {
    stream[name].as_u64().unwrap_or_else(|| panic!("{name} in {stream}"))
}

#[test]
fn pauses_of_client_and_server_are_counted_and_lose_nothing() {
    // Holds what arrives during the pause.
    let server = Server::start(&["--host", "127.0.0.1", "-d", "100", "--socket-buffer", "4MiB"]);
    // Excluded packets make no gap.
    let line = format!("send --tone 440 --to {} --frame-size 240 --duration 3s --timeout 9s --json", server.address);
    let client = program::start_line(&line);
    pause(|name| client.signal(name));
    pause(|name| server.signal(name));
    // Pauses are found to within 60 ms.
    let least_ms = PAUSE_MS as f64 - 60.0;
    let report = document::report(&client.end());
    let stream = &report["streams"]["audio"];
    assert_eq!((count(stream, "sent"), count(stream, "not_sent")), (600, 0), "{report:#}");
    let outcomes = ["returned", "damaged", "lost", "excluded", "in_flight"];
    assert_eq!(outcomes.iter().map(|name| count(stream, name)).sum::<u64>(), count(stream, "sent"), "{report:#}");
    assert_eq!((count(stream, "lost"), count(&report["audio_quality"], "gaps")), (0, 0), "{report:#}");
    // The schedule moves by the pause of the client.
    let [planned, actual, shifted] = ["planned_duration_ms", "actual_duration_ms", "schedule_shift_total_ms"]
        .map(|name| report[name].as_f64().unwrap());
    assert!(planned == 3_000.0 && shifted >= least_ms && actual >= planned + shifted - 1.0, "{report:#}");
    for part in ["host_timing", "server"] {
        // A busy machine adds pauses of its own.
        assert!(report[part]["paused_ms"].as_f64() >= Some(least_ms), "{part}: {report:#}");
    }
    assert!(stream["rtt_max_us"].as_f64().unwrap() < 1_000_000.0, "{report:#}");
}
