//! The gaps and damage that `send` reports, compared with the outcome log of the server that dropped the packets and with a server that
//! changes the sound.

use std::collections::BTreeSet;
use std::path::Path;
use test_support::client;

use client::document;
use client::packet::AUDIO;
use client::program::{command, run_args};
use client::server::{Server, ServerAction};
use serde_json::{Value, json};

/// The packets that are dropped in the outcome log of the embedded server, from 0.
fn dropped(outcomes: &Path) -> BTreeSet<u64> {
    let rows = std::fs::read_to_string(outcomes).unwrap();
    let cells = rows.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let lost = cells.filter(|cells| cells[2] == "AUDIO" && ["lost", "burst"].contains(&cells[4]));
    // The first packet has sequence number 1.
    lost.map(|cells| cells[3].parse::<u64>().unwrap() - 1).collect()
}

/// Runs `send` for so many seconds over a path that drops packets in bursts, and compares its gaps with the outcome log.
fn points_at_what_was_dropped(seconds: u32, least: usize) {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = folder.path().join("fates.csv");
    let line = format!(
        "send --tone 440 --duration {seconds}s --embedded --delay 50 --burst-loss 1%,30% --jitter 5ms --reorder 1% --duplicate 1% \
         --seed 11 --json --max-gaps 0 --outcome-log"
    );
    // It may take longer than what the other tests run.
    let ended = command(line.split_whitespace().map(AsRef::as_ref).chain([outcomes.as_os_str()])).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let received = &report["audio_quality"];
    let dropped = dropped(&outcomes);
    assert!(dropped.len() >= least, "only {} dropped", dropped.len());
    let mut reported = BTreeSet::new();
    let mut before = None;
    for gap in received["gap_list"].as_array().unwrap() {
        let (first, packets) = (gap["first_packet"].as_u64().unwrap(), gap["packets"].as_u64().unwrap());
        // Neighbours are one gap.
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
    points_at_what_was_dropped(4, 20);
}

#[test]
fn changed_audio_is_compared_with_the_sent_audio() {
    let server = Server::that(|packet| if packet.kind == AUDIO { ServerAction::Halve } else { ServerAction::Answer });
    let line =
        format!("send --wav fixtures/audio/speech-16bit-mono-48k.wav --to {} --server-delay 0 --json", server.address);
    let ended = run_args(line.split_whitespace());
    // Damage is damage, however it sounds.
    assert_eq!(ended.code, 1, "{ended:?}");
    let received = &document::report(&ended)["audio_quality"];
    assert_eq!((&received["alignment"], &received["shift_samples"]), (&json!("shifted"), &json!(0)), "{received}");
    // 20 times the logarithm of a half; upside down.
    assert_eq!((&received["gain_db"], &received["correlation"]), (&json!(-6.021), &json!(-1.0)), "{received}");
    let level = |side: &str| received[side][0]["peak_dbfs"].as_f64().unwrap();
    assert!((level("sent_levels") - level("returned_levels") - 6.021).abs() < 0.002, "{received}");
    assert_eq!(
        (&received["gaps"], &received["damaged_packets"]),
        (&json!(0), &document::report(&ended)["streams"]["audio"]["damaged"])
    );
}

/// Two minutes, the length of a real session: `.ci/full` runs it.
#[test]
#[ignore = "two minutes"]
fn gaps_match_dropped_packets_for_two_minutes() {
    points_at_what_was_dropped(120, 800);
}
