//! `load-echo`: several clients in one run, and a ramp.

use std::collections::BTreeMap;

use serde_json::json;
use test_support::client::{AUDIO, PING, Server, together};

use crate::clients::report;

#[test]
fn each_client_sends_all_packets_of_the_run() {
    let lines = [("-c 20 -i 10ms", "ping", PING, 20), ("--tone 440 --count 30 --delay 0", "audio", AUDIO, 30)];
    together(lines, |(line, stream, kind, packets)| {
        let server = Server::correct();
        let report = report(0, &format!("load-echo {line} --clients 5 {}", server.to()));
        assert_eq!(report["streams"][stream]["sent"], json!(5 * packets), "{report:#}");
        let mut times: BTreeMap<u32, usize> = BTreeMap::new();
        server.received_of(kind).iter().for_each(|packet| *times.entry(packet.sequence).or_default() += 1);
        assert!(times.len() == packets && times.values().all(|times| *times == 5), "{times:?}");
        let clients = &report["clients"];
        assert_eq!((&clients["count"], &clients["worst"]["sent"]), (&json!(5), &json!(packets)));
        assert!(clients["bytes_per_flow"].as_u64().unwrap() > 1_000 && clients["lateness"]["max_us"].is_number());
    });
}

#[test]
fn clients_have_links_of_their_own() {
    let report = report(0, "load-echo --embedded --link unsigned --packet audio -c 10 --clients 4");
    let link = &report["link"];
    assert_eq!((&link["encrypted"], &report["streams"]["audio"]["lost"]), (&json!(true), &json!(0)));
}
