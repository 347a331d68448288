//! Against a server whose every fault is known: the report tells each of them, and no other.

use serde_json::{Value, json};

use crate::moqt::fake::{Deed, Fake};
use crate::moqt::{codes, moqt, report};
use test_support::client::document::{self, counts};
use test_support::client::program::run_args;

const GROUPS: [&str; 5] = ["groups_sent", "groups_returned", "groups_lost", "frames_missing", "groups_in_flight"];

#[test]
fn each_fault_of_a_server_is_counted_as_what_it_is() {
    let deeds = [
        (3, Deed::Drop),
        (5, Deed::Cut(1)),
        (7, Deed::Alter),
        (9, Deed::Twice),
        (11, Deed::Hold),
        (13, Deed::Invent),
        (14, Deed::Drop),
    ];
    let server = Fake::start(deeds);
    let options = server.with(&["--count", "20", "--frames-per-group", "2", "--interval", "40", "--timeout", "1s"]);
    let report = report(1, &server.url, &options);
    // 40 frames: 4 of groups 3 and 14 and the second of group 5 are lost, the first of group 7 comes changed.
    let names = ["sent", "returned", "lost", "damaged", "in_flight", "duplicated", "damaged_copies", "unmatched"];
    assert_eq!(counts(&report, "ping", names), [40, 34, 5, 1, 0, 2, 1, 1], "{report:#}");
    // Group 11 comes after group 12. (A machine that is busy may put more groups in another order.)
    assert!(counts(&report, "ping", ["reordered"])[0] >= 2, "{report:#}");
    assert_eq!(moqt(&report, GROUPS), [20, 18, 2, 1, 0]);
    let stream = &report["streams"]["ping"];
    // 3/0 and 3/1; 5/1; 14/0 and 14/1.
    assert_eq!(
        (&stream["burst_lengths"][0], &stream["burst_lengths"][1], &stream["burst_max"]),
        (&json!(1), &json!(2), &json!(2))
    );
    assert_eq!(stream["loss_ratio"], json!(0.125), "5 of 40");
    assert_eq!(report["verdict"]["reasons"], json!(["1 of 40 MOQT frames returned damaged"]));
    let told = codes(&report);
    for code in ["damaged", "unmatched", "replies_missing"] {
        assert!(told.contains(&code), "{told:?}");
    }
    assert_eq!(server.groups.try_iter().collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn limits_judge_frames() {
    let server = Fake::start([(4, Deed::Drop)]);
    let line = ["--count", "10", "--interval", "5", "--timeout", "300ms"];
    for (limits, code, measured) in [
        (["--max-loss", "10%"], 0, json!(0.1)),
        (["--max-loss", "9%"], 1, json!(0.1)),
        (["--max-burst", "1"], 0, json!(1.0)),
        (["--max-burst", "0"], 1, json!(1.0)),
        (["--max-p50", "10s"], 0, json!(null)),
        (["--max-p50", "1us"], 1, json!(null)),
    ] {
        let report = report(code, &server.url, &server.with(&[&line[..], &limits].concat()));
        let limit = &report["limits"][0];
        assert_eq!(limit["passed"], json!(code == 0), "{limits:?}");
        assert!(measured.is_null() || limit["measured"] == measured, "{limits:?} {limit}");
    }
}

#[test]
fn a_group_that_the_server_gives_up_is_told_beside_its_loss() {
    let server = Fake::start([(2, Deed::Refuse)]);
    let line = ["--count", "3", "--frames-per-group", "2", "--interval", "400", "--frame-interval", "200"];
    let report = report(0, &server.url, &server.with(&[&line[..], &["--timeout", "300ms"]].concat()));
    assert_eq!(moqt(&report, GROUPS), [3, 2, 1, 0, 0]);
    assert_eq!(moqt(&report, ["groups_stopped", "groups_dropped"]), [1, 0]);
    assert!(codes(&report).contains(&"groups_dropped"), "{report:#}");
}

#[test]
fn every_frame_has_a_line_of_json_with_its_number() {
    let server = Fake::start([(2, Deed::Drop), (3, Deed::Twice)]);
    let line =
        ["probe", "--to", &server.url, "--count", "3", "--frames-per-group", "2", "--interval", "20", "--json-lines"];
    let ended = run_args(line.iter().chain(&server.with(&["--timeout", "500ms"])));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let (lines, report) = document::lines(&ended);
    let fates = |line: &Value| (line["sequence"].as_u64().unwrap(), line["outcome"].as_str().unwrap().to_owned());
    let mut told: Vec<_> = lines.iter().map(fates).collect();
    // What is lost is known at the end; groups may overtake each other.
    assert!(told[6..].iter().all(|(_, fate)| fate == "lost"), "{told:?}");
    told.sort_unstable();
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
    assert_eq!(told, expected.map(|(sequence, fate)| (sequence, fate.to_owned())));
    assert!(lines.iter().all(|line| line["stream"] == "ping" && line["sent_us"].as_f64().unwrap() >= 0.0));
    assert_eq!(moqt(&report, GROUPS), [3, 2, 1, 0, 0]);
}
