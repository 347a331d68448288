//! Compares the gaps that `send` reports with the dropped packets in the server's outcome log. Another test uses a server that changes
//! the samples, and checks the damage that `send` reports.

use std::collections::BTreeSet;
use std::path::Path;
use test_support::client;

use client::document;
use client::packet::AUDIO;
use client::program::{command, run_args};
use client::server::{Server, ServerAction};
use serde_json::{Value, json};

/// The indices of the packets that the outcome log of the embedded server lists as dropped.
fn dropped(outcomes: &Path) -> BTreeSet<u64> {
    let rows = std::fs::read_to_string(outcomes).unwrap();
    let cells = rows.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let lost = cells.filter(|cells| cells[2] == "AUDIO" && ["lost", "burst"].contains(&cells[4]));
    // The first packet has sequence number 1.
    lost.map(|cells| cells[3].parse::<u64>().unwrap() - 1).collect()
}

/// Runs `send` for `seconds` over a path that drops packets in bursts. Compares the reported gaps with the outcome log.
fn check_gaps(seconds: u32, min_dropped: usize) {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = folder.path().join("outcomes.csv");
    let line = format!(
        "send --tone 440 --duration {seconds}s --embedded --delay 50 --loss 1%,30% --jitter 5ms --reorder 1% --duplicate 1% \
         --seed 11 --json --outcome-log"
    );
    // `command` is used instead of `run`, whose time limit may be too short for this run.
    let output = command(line.split_whitespace().map(AsRef::as_ref).chain([outcomes.as_os_str()])).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let received = &report["audio_quality"];
    let dropped = dropped(&outcomes);
    assert!(dropped.len() >= min_dropped, "only {} dropped", dropped.len());
    let mut reported = BTreeSet::new();
    let mut before = None;
    for gap in received["gap_list"].as_array().unwrap() {
        let (first, packets) = (gap["first_packet"].as_u64().unwrap(), gap["packets"].as_u64().unwrap());
        // Adjacent gaps are merged.
        assert!(before.is_none_or(|before| before < first), "{gap}");
        before = Some(first + packets);
        reported.extend(first..first + packets);
        let at_ms = first as f64 * 128.0 / 48.0;
        assert!((gap["at_ms"].as_f64().unwrap() - at_ms).abs() < 0.001, "{gap}");
        assert!((gap["duration_ms"].as_f64().unwrap() - packets as f64 * 128.0 / 48.0).abs() < 0.001, "{gap}");
    }
    assert_eq!(received["gap_packets"], dropped.len());
    assert_eq!(received["quality_dropped"], 0);
    if received["gaps"].as_u64().unwrap() <= 1_000 {
        assert_eq!(reported, dropped);
    } else {
        assert!(reported.iter().all(|packet| dropped.contains(packet)));
    }
}

#[test]
fn reported_gaps_are_exactly_the_dropped_packets() {
    check_gaps(4, 20);
}

#[test]
fn changed_audio_is_compared_with_the_sent_audio() {
    let server =
        Server::with_actions(|packet| if packet.kind == AUDIO { ServerAction::Halve } else { ServerAction::Reply });
    let line = format!("send --wav fixtures/audio/speech-16bit-mono-48k.wav --to {} --delay 0 --json", server.address);
    let output = run_args(line.split_whitespace());
    // Changed samples are damage, even if they sound similar.
    assert_eq!(output.code, 1, "{output:?}");
    let received = &document::report(&output)["audio_quality"];
    assert_eq!((&received["alignment"], &received["shift_samples"]), (&json!("shifted"), &json!(0)), "{received}");
    // The gain is 20 · log10(1/2) dB, and the sound is inverted.
    assert_eq!((&received["gain_db"], &received["correlation"]), (&json!(-6.021), &json!(-1.0)), "{received}");
    let level = |side: &str| received[side][0]["peak_dbfs"].as_f64().unwrap();
    assert!((level("sent_levels") - level("returned_levels") - 6.021).abs() < 0.002, "{received}");
    assert_eq!(
        (&received["gaps"], &received["damaged_packets"]),
        (&json!(0), &document::report(&output)["streams"]["audio"]["damaged"])
    );
}

/// This run lasts two minutes, as long as a real session. `.ci/full` runs this test.
#[test]
#[ignore = "two minutes"]
fn gaps_match_dropped_packets_for_two_minutes() {
    check_gaps(120, 800);
}
