//! A server with known faults: the report contains exactly these faults.

use std::collections::BTreeMap;

use serde_json::json;

use crate::send_and_probe::moqt::scripted_server::{ScriptedServer, ServerAction};
use crate::send_and_probe::moqt::{codes, moqt, probe};
use test_support::client::document::{self, counts};

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
    let options = "--count 20 --frames-per-group 2 --interval 40ms --timeout 1s --json-lines";
    let output = probe(&server.url, &server.trusted(options));
    assert_eq!((output.code, output.stderr.as_str()), (1, ""), "{output:?}");
    let (lines, report) = document::lines(&output);
    let mut outcomes = BTreeMap::<&str, usize>::new();
    for line in &lines {
        assert!(line["stream"] == "ping" && line["sent_us"].as_f64().unwrap() >= 0.0, "{line}");
        *outcomes.entry(line["outcome"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(outcomes, BTreeMap::from([("damaged", 1), ("duplicate", 2), ("lost", 5), ("returned", 34)]));
    // 40 frames are sent. The 4 frames of groups 3 and 14 are lost. The second frame of group 5 is also lost. The first frame of group 7 is
    // changed.
    let names = ["sent", "returned", "lost", "damaged", "in_flight", "duplicated", "damaged_copies", "unmatched"];
    assert_eq!(counts(&report, "ping", names), [40, 34, 5, 1, 0, 2, 1, 1], "{report:#}");
    // Group 11 returns after group 12. (On a busy machine more groups may be reordered.)
    assert!(counts(&report, "ping", ["reordered"])[0] >= 2, "{report:#}");
    let groups = ["groups_sent", "groups_returned", "groups_lost", "frames_missing", "groups_in_flight"];
    assert_eq!(moqt(&report, groups), [20, 18, 2, 1, 0]);
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
