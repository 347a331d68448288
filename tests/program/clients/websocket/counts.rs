//! Figures of runs against servers that delay, drop, repeat and reorder messages. Expected values were computed by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};
use test_support::client::{counts, run};

use crate::clients::websocket::scripted_server::{ServerConnection, serve};
use crate::clients::websocket::{codes, report};

/// Checks how many messages returned and were lost, among those that were not in flight during a pause of this host.
fn assert_received(report: &Value, expected: [u64; 2]) {
    let [returned, lost, excluded] = counts(report, "ping", ["returned", "lost", "excluded"]);
    assert_eq!(returned + lost + excluded, expected.iter().sum::<u64>(), "{report:#}");
    assert!(returned <= expected[0] && lost <= expected[1], "{report:#}");
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
    let options = format!("--dialect bbx --count 20 --interval 20ms --timeout 2s --record-run {file}");
    let report = report(0, server, &options);
    assert_eq!(counts(&report, "ping", ["sent", "duplicated", "unmatched"]), [20, 3, 0]);
    assert_received(&report, [16, 4]);
    assert_eq!((&report["evaluated_stream"], &report["streams"]["audio"]), (&json!("ping"), &Value::Null));
    assert!(codes(&report).contains(&"replies_missing"), "{report:#}");
    let replayed: Value = serde_json::from_str(&run(&format!("replay {file} --json")).stdout).unwrap();
    assert_eq!(replayed, report);
}

#[test]
fn reordered_duplicated_and_lost_relayed_messages_are_counted() {
    let (waiting, first_member) = mpsc::channel::<ServerConnection>();
    let first_member = Mutex::new(first_member);
    let server = serve(move |number, mut second_member| {
        second_member.send_text(r#"{"type":"welcome","room":"r"}"#);
        if number % 2 == 0 {
            waiting.send(second_member).unwrap();
            return;
        }
        let mut first_member = first_member.lock().unwrap().recv().unwrap();
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
    let report = report(0, format!("{server}/r"), "--count 10 --interval 20ms --timeout 2s");
    assert_eq!(counts(&report, "ping", ["sent", "duplicated", "unmatched"]), [10, 1, 0], "{report:#}");
    assert_received(&report, [9, 1]);
    assert_eq!(report["stray"], 1);
    assert_eq!(report["websocket"]["connections"].as_array().unwrap().len(), 2);
}
