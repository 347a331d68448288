//! Figures of a run against a server that drops, repeats and reorders messages. Expected values were computed by hand.

use std::sync::{Mutex, mpsc};

use serde_json::json;
use test_support::client::counts;

use crate::clients::websocket::report;
use crate::clients::websocket::scripted_server::{ServerConnection, serve};

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
    let names = ["sent", "duplicated", "unmatched", "returned", "lost", "excluded"];
    let [sent, duplicated, unmatched, returned, lost, excluded] = counts(&report, "ping", names);
    assert_eq!((sent, duplicated, unmatched, returned + lost + excluded), (10, 1, 0, 10), "{report:#}");
    // A message that was in flight during a pause of this host is excluded.
    assert!(returned <= 9 && lost <= 1, "{report:#}");
    assert_eq!(report["stray"], 1);
    assert_eq!(report["websocket"]["connections"].as_array().unwrap().len(), 2);
}
