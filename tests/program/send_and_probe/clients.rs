//! Several clients in one run (`--clients`, `--ramp`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use test_support::client::{AUDIO, PING, Server, ServerAction, at_once, run};

use crate::send_and_probe::report;

#[test]
fn each_client_sends_all_packets_of_the_run() {
    let lines =
        [("probe -c 20 -i 10ms", "ping", PING, 20), ("send --tone 440 --count 30 --delay 0", "audio", AUDIO, 30)];
    at_once(lines, |(line, stream, kind, packets)| {
        let server = Server::correct();
        let report = report(0, &format!("{line} --clients 5 --to {}", server.to()));
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
    at_once([()], |()| {
        let report = report(0, "probe --embedded --link unsigned --packet audio -c 10 --clients 4");
        let link = &report["link"];
        assert_eq!((&link["encrypted"], &report["streams"]["audio"]["returned"]), (&json!(true), &json!(40)));
    });
}

#[test]
fn clients_without_a_reply_or_link_are_counted() {
    at_once(["--wait-for 1s", "--link unsigned --timeout 100ms"], |options| {
        let server = Server::silent();
        let report = report(1, &format!("probe --packet audio --clients 3 {options} --to {}", server.to()));
        assert_eq!(report["clients"]["count"], json!(3), "{report:#}");
    });
}

#[test]
fn client_that_alone_exceeds_a_limit_fails_the_run() {
    at_once([()], |()| {
        let is_lost = AtomicBool::new(false);
        let server = Server::with_actions(move |packet| match packet.sequence {
            3 if !is_lost.swap(true, Ordering::Relaxed) => ServerAction::Silence,
            _ => ServerAction::Reply,
        });
        let line = format!("probe -c 20 -i 10ms --timeout 1s --clients 10 --max-loss 2% --to {}", server.to());
        let report = report(1, &line);
        let [all, worst] = &report["limits"].as_array().unwrap()[..] else { panic!("{report:#}") };
        assert_eq!((&all["client"], &all["measured"], &all["passed"]), (&json!(null), &json!(0.005), &json!(true)));
        assert_eq!((&worst["measured"], &worst["passed"]), (&json!(0.05), &json!(false)));
        assert_eq!(worst["client"], report["clients"]["worst"]["number"]);
        let code = report["findings"][0]["code"].as_str().unwrap();
        assert!(["server_capacity", "host_limit"].contains(&code), "{code}");
    });
}

#[test]
fn ramp_without_links_ends_with_the_first_client() {
    at_once([()], |()| {
        let server = Server::silent();
        let limits = "--timeout 100ms --max-p99 1s";
        let output = run(&format!("probe --clients 9 --ramp --link unsigned {limits} --to {}", server.to()));
        assert!(
            output.stdout.contains("result: 0 clients within the limits; at 1, 1 client had no link"),
            "{output:?}"
        );
        assert_eq!(output.code, 1, "{output:?}");
    });
}

#[test]
fn ramp_ends_with_a_sentence_and_its_exit_code() {
    at_once([true, false], |replies| {
        let server = Server::with_actions(move |_| if replies { ServerAction::Reply } else { ServerAction::Silence });
        let line = format!("probe --clients 2 --ramp -i 100ms --timeout 100ms --max-p99 20s --to {}", server.to());
        let output = run(&line);
        let is_met = |clients: usize| output.stdout.contains(&format!("result: {clients} client"));
        // A busy host may be at its limit before.
        let is_late = output.stdout.contains("this host was at its limit");
        assert!(is_late || output.code == i32::from(!replies), "{output:?}");
        assert!(is_late || is_met(if replies { 2 } else { 0 }), "{output:?}");
        assert_eq!(output.code == 0, !is_met(0), "{output:?}");
    });
}
