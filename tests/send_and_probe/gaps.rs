//! What `send` says that a listener would notice, against the fate log of the server that dropped it and against a server that
//! changes the sound.

use std::collections::BTreeSet;
use std::path::Path;
use test_support::client;

use client::document;
use client::packet::AUDIO;
use client::program::{command, run_args};
use client::server::{Deed, Server};
use serde_json::{Value, json};

/// The packets that the fate log of the embedded server has as dropped, from 0.
fn dropped(fates: &Path) -> BTreeSet<u64> {
    let rows = std::fs::read_to_string(fates).unwrap();
    let cells = rows.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let lost = cells.filter(|cells| cells[2] == "AUDIO" && ["lost", "burst"].contains(&cells[4]));
    // The first packet has sequence number 1.
    lost.map(|cells| cells[3].parse::<u64>().unwrap() - 1).collect()
}

/// Runs `send` for so many seconds over a path that drops packets in bursts, and holds its gaps against the fate log.
fn points_at_what_was_dropped(seconds: u32, least: usize) {
    let folder = tempfile::tempdir().unwrap();
    let fates = folder.path().join("fates.csv");
    let line = format!(
        "send --tone 440 --duration {seconds}s --embedded --delay 50 --burst-loss 1%,30% --jitter 5ms --reorder 1% --duplicate 1% \
         --seed 11 --json --max-gaps 0 --outcome-log"
    );
    // It may take longer than what the other tests run.
    let ended = command(line.split_whitespace().map(AsRef::as_ref).chain([fates.as_os_str()])).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let heard = &report["audio_quality"];
    let dropped = dropped(&fates);
    assert!(dropped.len() >= least, "only {} dropped", dropped.len());
    let mut told = BTreeSet::new();
    let mut before = None;
    for gap in heard["gap_list"].as_array().unwrap() {
        let (first, packets) = (gap["first_packet"].as_u64().unwrap(), gap["packets"].as_u64().unwrap());
        // Neighbours are one gap.
        assert!(before.is_none_or(|before| before < first), "{gap}");
        before = Some(first + packets);
        told.extend(first..first + packets);
        let at_ms = first as f64 * 128.0 / 48.0;
        assert!((gap["at_ms"].as_f64().unwrap() - at_ms).abs() < 0.001, "{gap}");
        assert!((gap["duration_ms"].as_f64().unwrap() - packets as f64 * 128.0 / 48.0).abs() < 0.001, "{gap}");
    }
    assert_eq!(heard["gap_packets"], dropped.len());
    assert_eq!(heard["quality_dropped"], 0);
    if heard["gaps"].as_u64().unwrap() <= 1_000 {
        assert_eq!(told, dropped);
    } else {
        assert!(told.iter().all(|packet| dropped.contains(packet)));
    }
}

#[test]
fn the_gaps_are_the_very_packets_that_were_dropped() {
    points_at_what_was_dropped(4, 20);
}

#[test]
fn sound_that_comes_back_changed_is_compared_with_what_was_sent() {
    let server = Server::that(|packet| if packet.kind == AUDIO { Deed::Halve } else { Deed::Answer });
    let line =
        format!("send --wav fixtures/audio/speech-16bit-mono-48k.wav --to {} --server-delay 0 --json", server.address);
    let ended = run_args(line.split_whitespace());
    // Damage is damage, however it sounds.
    assert_eq!(ended.code, 1, "{ended:?}");
    let heard = &document::report(&ended)["audio_quality"];
    assert_eq!((&heard["alignment"], &heard["shift_samples"]), (&json!("shifted"), &json!(0)), "{heard}");
    // 20 times the logarithm of a half; upside down.
    assert_eq!((&heard["gain_db"], &heard["correlation"]), (&json!(-6.021), &json!(-1.0)), "{heard}");
    let level = |side: &str| heard[side][0]["peak_dbfs"].as_f64().unwrap();
    assert!((level("sent_levels") - level("returned_levels") - 6.021).abs() < 0.002, "{heard}");
    assert_eq!(
        (&heard["gaps"], &heard["damaged_packets"]),
        (&json!(0), &document::report(&ended)["streams"]["audio"]["damaged"])
    );
}

/// Two minutes, as somebody would play: `.ci/full` runs it.
#[test]
#[ignore = "two minutes"]
fn in_two_minutes_too() {
    points_at_what_was_dropped(120, 800);
}
