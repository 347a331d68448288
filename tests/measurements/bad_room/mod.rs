//! `signaling-server --relay-media`: clients that hear each other over a bad path.

mod scenarios;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::client::{ProgramOutput, measured, run, start_line, together};
use test_support::server::{Member, run_during};

/// Runs a server that checks its clients, and stops it after `clients` have done their part.
fn check(options: &[&str], clients: impl FnOnce(SocketAddr)) -> ProgramOutput {
    let fixed = ["signaling-server", "--host", "127.0.0.1", "--port", "0", "--check", "--json", "--relay-media"];
    run_during(&[&fixed, options].concat(), |address, running| {
        clients(address);
        running.signal("INT");
    })
}

/// Outcomes of AUDIO by sender and receiver: sequence number and outcome of each.
type Outcomes = BTreeMap<(String, String), Vec<(u64, String)>>;

/// The rows of an outcome log with AUDIO. No name contains a comma.
fn audio_rows(log: &str) -> Outcomes {
    let mut rows = Outcomes::new();
    for row in log.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>()).filter(|row| row[4] == "AUDIO") {
        let way = (row[1].to_owned(), row[2].to_owned());
        rows.entry(way).or_default().push((row[5].parse().unwrap(), row[6].to_owned()));
    }
    rows
}

/// What the relay has lost between the first and the last packet that it has sent is what the receiver misses.
fn loss_ratio(rows: &[(u64, String)]) -> f64 {
    let [lost, sent] = ["lost", "sent"].map(|expected| {
        let rows = rows.iter().filter(|(_, outcome)| outcome == expected);
        rows.map(|(sequence, _)| *sequence).collect::<Vec<_>>()
    });
    let of_random = lost.len() as f64 / (lost.len() + sent.len()) as f64;
    assert!((0.15..0.25).contains(&of_random), "{of_random}");
    let (first, last) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    1.0 - sent.len() as f64 / (last - first + 1) as f64
}

/// What a program has heard of the only other member that plays, over this kind of link.
fn heard_loss(output: &ProgramOutput, link: &str) -> f64 {
    assert_eq!(output.code, 0, "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let heard: Vec<_> =
        report["directions"].as_array().unwrap().iter().filter(|one| one["packets"] != json!(0)).collect();
    assert_eq!((heard.len(), &heard[0]["link"]), (1, &json!(link)), "{report:#}");
    heard[0]["loss_ratio"].as_f64().unwrap()
}

#[test]
fn clients_hear_the_loss_of_the_path_and_are_judged_by_what_they_send() {
    measured(|| {
        together([("", "plain"), ("/v1/signaling", "signed")], |(path, link)| {
            let folder = tempfile::tempdir().unwrap();
            let [junit, log] = ["report.xml", "outcomes.csv"].map(|name| folder.path().join(name));
            let path_options = ["--loss", "20%", "--seed", "7", "--outage", "1s@2s", "--max-recovery", "30s"];
            let file_options = ["--junit", junit.to_str().unwrap(), "--outcome-log", log.to_str().unwrap()];
            let mut losses = [0.0; 2];
            let output = check(&[&path_options[..], &file_options].concat(), |address| {
                let mut member = Member::connect(address);
                member.create_room("jam");
                let url = format!("ws://{address}{path}");
                let line =
                    format!("musicians --tone 220 --duration 5s --clients 1 --signaling-url {url} --room jam --json");
                let other = start_line(&line);
                member.skip_to("PeerJoined");
                losses = [run(&line), other.end()].map(|output| heard_loss(&output, link));
            });
            let outcomes = audio_rows(&fs::read_to_string(&log).unwrap());
            let mut expected: Vec<f64> = outcomes.values().map(|rows| loss_ratio(rows)).collect();
            losses.sort_by(f64::total_cmp);
            expected.sort_by(f64::total_cmp);
            assert_eq!(expected.len(), 2, "{:?}", outcomes.keys());
            let is_equal = |(expected, found): (&f64, &f64)| (expected - found).abs() < 0.02;
            assert!(expected.iter().zip(&losses).all(is_equal), "{expected:?} {losses:?}");

            let report: Value = serde_json::from_str(&output.stdout).unwrap();
            assert_eq!((output.code, &report["verdict"]["passed"]), (0, &json!(true)), "{output:?}");
            assert!(output.stderr.contains("relay: stats "), "{}", output.stderr);
            let media = &report["media"];
            let room = &media["rooms"][0];
            let flows = media["flows"].as_array().unwrap().iter().filter(|flow| flow["datagrams"] != json!(0));
            let lost: Vec<bool> = flows.clone().map(|flow| flow["outcomes"]["outage"].as_u64() > Some(100)).collect();
            // Both play to each other; the member that has created the room has no address.
            assert_eq!((room["members"].as_u64(), lost), (Some(3), vec![true, true]), "{room:#}");
            assert!(room["complete_after_ms"].is_number(), "{room:#}");
            let outage = &media["outages"][0];
            let times = [&outage["start_ms"], &outage["length_ms"]].map(Value::as_f64);
            assert_eq!(times, [Some(2_000.0), Some(1_000.0)], "{outage:#}");
            let ends: Vec<f64> = flows.filter_map(|flow| flow["last_audio_ms"].as_f64()).collect();
            assert!(ends.len() == 2 && ends.iter().all(|end| *end > 4_000.0), "{ends:?} {report:#}");
            let sources = report["sources"].as_array().unwrap().iter();
            let senders: Vec<_> =
                sources.filter(|source| source["name"].as_str().unwrap().starts_with("room ")).collect();
            assert_eq!(senders.len(), 2, "{report:#}");
            let kind = if link == "signed" { "encrypted link, " } else { "plain link, " };
            for sender in senders {
                let (facts, text) = (sender["facts"].as_str().unwrap(), sender.to_string());
                assert!(facts.contains(kind), "{facts}");
                assert!(!text.contains(r#""rule":"loss""#), "{text}");
                assert_eq!(text.contains(r#""reason":"sealed""#), link == "signed", "{text}");
            }
            let junit = fs::read_to_string(&junit).unwrap();
            assert_eq!(junit.matches(r#"name="counter_repeated" classname="room "#).count(), 2, "{junit}");
            assert!(junit.contains(", outage 1\""), "{junit}");
        });
    });
}
