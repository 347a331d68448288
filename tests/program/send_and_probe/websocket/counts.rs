//! Figures of runs against servers that delay, drop, repeat and reorder messages. Expected values were computed by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use test_support::client::document::counts;
use test_support::client::program::run;

use crate::send_and_probe::websocket::scripted_server::{ServerConnection, serve};
use crate::send_and_probe::websocket::{codes, probe, report};

const COUNTED: [&str; 6] = ["sent", "returned", "lost", "duplicated", "unmatched", "reordered"];

fn unix_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A bbx server. `replies` contains the number of replies to some pings, which are counted from 0. All other pings get one reply.
fn server_with_replies<const N: usize>(replies: [(usize, usize); N]) -> SocketAddr {
    let replies = BTreeMap::from(replies);
    serve(move |_, mut connection| {
        for index in 0.. {
            let Some(ping) = connection.receive() else { return };
            (0..*replies.get(&index).unwrap_or(&1)).for_each(|_| connection.pong(&ping, 1));
        }
    })
}

#[test]
fn dropped_and_duplicated_replies_are_counted_and_replayed() {
    let server = server_with_replies([(3, 0), (7, 0), (8, 0), (9, 0), (5, 2), (12, 3)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.jsonl").display().to_string();
    let options = format!("--dialect bbx --count 20 --interval 2ms --timeout 300ms --record-run {file}");
    let report = report(0, server, &options);
    let stream = &report["streams"]["ping"];
    assert_eq!(counts(&report, "ping", COUNTED), [20, 16, 4, 3, 0, 0]);
    // There is one isolated loss and one burst of three.
    assert_eq!(stream["burst_lengths"], json!([1, 0, 1, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((&report["evaluated_stream"], &report["streams"]["audio"]), (&json!("ping"), &Value::Null));
    assert!(codes(&report).contains(&"replies_missing"), "{report:#}");
    let replayed: Value = serde_json::from_str(&run(&format!("probe --replay {file} --json")).stdout).unwrap();
    assert_eq!(replayed, report);
}

#[test]
fn round_trip_is_the_reply_delay_within_a_margin() {
    let server = serve(|_, mut connection| {
        while let Some(ping) = connection.receive() {
            thread::sleep(Duration::from_millis(30));
            connection.pong(&ping, 1);
        }
    });
    // The interval exceeds the delay, so that no ping waits for the previous ping.
    let report = report(0, server, "--dialect bbx --count 12 --interval 60ms");
    let min_us = report["streams"]["ping"]["rtt_min_us"].as_f64().unwrap();
    assert!((30_000.0..55_000.0).contains(&min_us), "{min_us}");
}

#[test]
fn clock_offset_is_reported_within_its_error() {
    for (ahead_us, words) in [(3_600_000_000_i64, " ahead of this host, "), (-2_500_000, " behind this host, ")] {
        let server = serve(move |_, mut connection| {
            while let Some(ping) = connection.receive() {
                // The client reads its clock for the ping and for the pong. The server reads its own clock between these two readings.
                connection.pong(&ping, unix_us() + ahead_us);
            }
        });
        let options = "--dialect bbx --count 20 --interval 2ms";
        let websocket = &report(0, server, options)["websocket"];
        let [offset, error] =
            ["clock_offset_us", "clock_offset_error_us"].map(|name| websocket[name].as_f64().unwrap());
        // The server truncates to microseconds. Half a millisecond is allowed because the clock may be adjusted during the run.
        assert!((offset - ahead_us as f64).abs() <= error + 1.0 + 500.0, "{websocket}");
        let text = probe(server, options).stdout;
        let row = text.lines().find(|line| line.starts_with("clock offset")).unwrap();
        assert!(row.contains(words) && row.contains(" ± "), "{row}");
    }
}

#[test]
fn pings_contain_the_time_of_day_and_wait_for_sends_one_more() {
    let (sender, pings) = channel();
    let sender = Mutex::new(sender);
    let server = serve(move |_, mut connection| {
        while let Some(ping) = connection.receive() {
            sender.lock().unwrap().send(ping["client_time"].as_i64().unwrap()).unwrap();
            connection.pong(&ping, 1);
        }
    });
    let before = unix_us();
    let report = report(0, server, "--dialect bbx --count 3 --interval 1ms --wait-for 20s");
    let after = unix_us();
    assert_eq!(report["readiness_wait"]["reply_received"], json!(true));
    assert_eq!(report["streams"]["ping"]["sent"], 3);
    let times: Vec<i64> = pings.try_iter().collect();
    assert!(times.len() == 4 && times.is_sorted_by(|one, other| one < other), "{times:?}");
    assert!(before - 1_000 <= times[0] && times[3] <= after + 1_000, "{times:?}");
}

#[test]
fn reordered_duplicated_and_lost_relayed_messages_are_counted() {
    let first = Mutex::new(None::<ServerConnection>);
    let server = serve(move |_, mut second_member| {
        second_member.send_text(r#"{"type":"welcome","room":"r"}"#);
        let Some(mut first_member) = first.lock().unwrap().take() else {
            *first.lock().unwrap() = Some(second_member);
            return;
        };
        let mut late = None;
        for (index, message) in first_member.messages().iter().enumerate() {
            let text =
                json!({"type": "r-content", "content": message["content"], "timestamp": 1, "from": "c"}).to_string();
            // Some servers also send a message back to its sender. Such a copy does not count as a delivery to another member.
            first_member.send_text(text.clone());
            let deliveries = match index {
                2 => vec![],
                4 => {
                    late = Some(text);
                    vec![]
                }
                5 => vec![text, late.take().unwrap()],
                6 => vec![text.clone(), text],
                7 => vec![json!({"type": "r-content", "content": "somebody else"}).to_string(), text],
                _ => vec![text],
            };
            for text in deliveries {
                second_member.send_text(text);
            }
        }
    });
    let report = report(0, format!("{server}/r"), "--count 10 --interval 2ms --timeout 2s");
    assert_eq!(counts(&report, "ping", COUNTED), [10, 9, 1, 1, 0, 1], "{report:#}");
    assert_eq!((&report["streams"]["ping"]["reorder_extent_max"], &report["stray"]), (&json!(1), &json!(1)));
    assert_eq!(report["websocket"]["connections"].as_array().unwrap().len(), 2);
}

#[test]
fn replies_without_a_number_match_in_order_with_a_warning() {
    let server = serve(|_, mut connection| {
        for index in 0.. {
            let Some(requested) = connection.receive() else { return };
            assert_eq!(requested, json!({"type": "ListRooms"}));
            let times = if index == 7 { 2 } else { 1 };
            (0..times).for_each(|_| connection.send_text(r#"{"type":"RoomList","data":{"rooms":[]}}"#));
        }
    });
    let more = report(0, server, "--count 8 --interval 2ms");
    assert_eq!(counts(&more, "ping", COUNTED), [8, 8, 0, 0, 1, 0]);
    assert!(codes(&more).contains(&"replies_missing") && codes(&more).contains(&"unmatched"), "{more:#}");
}
