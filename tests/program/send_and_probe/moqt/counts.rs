//! A server with known faults: the report contains exactly these faults.

use serde_json::{Value, json};

use crate::send_and_probe::moqt::scripted_server::{ScriptedServer, ServerAction};
use crate::send_and_probe::moqt::{codes, moqt, probe, report};
use test_support::client::document::{self, counts};

const GROUPS: [&str; 5] = ["groups_sent", "groups_returned", "groups_lost", "frames_missing", "groups_in_flight"];

#[test]
fn each_server_fault_is_counted_in_its_own_category() {
    let actions = [
        (3, ServerAction::Drop),
        (5, ServerAction::Truncate(1)),
        (7, ServerAction::Damage),
        (9, ServerAction::Twice),
        (11, ServerAction::AfterNext),
        (13, ServerAction::UnknownGroup),
        (14, ServerAction::Drop),
    ];
    let server = ScriptedServer::start(actions);
    let options = "--count 20 --frames-per-group 2 --interval 40ms --timeout 1s";
    let report = report(1, &server.url, &server.trusted(options));
    // 40 frames are sent. The 4 frames of groups 3 and 14 are lost. The second frame of group 5 is also lost. The first frame of group 7 is
    // changed.
    let names = ["sent", "returned", "lost", "damaged", "in_flight", "duplicated", "damaged_copies", "unmatched"];
    assert_eq!(counts(&report, "ping", names), [40, 34, 5, 1, 0, 2, 1, 1], "{report:#}");
    // Group 11 returns after group 12. (On a busy machine more groups may be reordered.)
    assert!(counts(&report, "ping", ["reordered"])[0] >= 2, "{report:#}");
    assert_eq!(moqt(&report, GROUPS), [20, 18, 2, 1, 0]);
    let stream = &report["streams"]["ping"];
    // The three bursts (group/frame) are {3/0, 3/1}, {5/1} and {14/0, 14/1}.
    assert_eq!(
        (&stream["burst_lengths"][0], &stream["burst_lengths"][1], &stream["burst_max"]),
        (&json!(1), &json!(2), &json!(2))
    );
    assert_eq!(stream["loss_ratio"], json!(0.125), "5 of 40");
    assert_eq!(report["verdict"]["reasons"], json!(["1 of 40 MOQT frames returned damaged"]));
    let reported = codes(&report);
    for code in ["damaged", "unmatched", "replies_missing"] {
        assert!(reported.contains(&code), "{reported:?}");
    }
    assert_eq!(server.groups.try_iter().collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn limits_apply_to_frames() {
    let server = ScriptedServer::start([(4, ServerAction::Drop)]);
    for (limit, code) in [("--max-loss 10%", 0), ("--max-loss 9%", 1), ("--max-p50 10s", 0), ("--max-p50 1us", 1)] {
        let options = format!("--count 10 --interval 5ms --timeout 300ms {limit}");
        let report = report(code, &server.url, &server.trusted(&options));
        assert_eq!(report["limits"][0]["passed"], json!(code == 0), "{limit}");
        assert_eq!(report["streams"]["ping"]["loss_ratio"], json!(0.1), "{limit}");
    }
}

#[test]
fn every_frame_has_a_json_line_with_its_number() {
    let server = ScriptedServer::start([(2, ServerAction::Drop), (3, ServerAction::Twice)]);
    let options = "--count 3 --frames-per-group 2 --interval 20ms --json-lines --timeout 500ms";
    let output = probe(&server.url, &server.trusted(options));
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    let (lines, report) = document::lines(&output);
    let outcomes = |line: &Value| (line["sequence"].as_u64().unwrap(), line["outcome"].as_str().unwrap().to_owned());
    let mut reported: Vec<_> = lines.iter().map(outcomes).collect();
    // Losses are reported at the end. Groups may overtake each other.
    assert!(reported[6..].iter().all(|(_, outcome)| outcome == "lost"), "{reported:?}");
    reported.sort_unstable();
    let expected = [
        (0, "returned"),
        (1, "returned"),
        (2, "lost"),
        (3, "lost"),
        (4, "duplicate"),
        (4, "returned"),
        (5, "duplicate"),
        (5, "returned"),
    ];
    assert_eq!(reported, expected.map(|(sequence, outcome)| (sequence, outcome.to_owned())));
    assert!(lines.iter().all(|line| line["stream"] == "ping" && line["sent_us"].as_f64().unwrap() >= 0.0));
    assert_eq!(moqt(&report, GROUPS), [3, 2, 1, 0, 0]);
}
