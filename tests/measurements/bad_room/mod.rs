//! `signaling-server --relay-media`: clients that hear each other over a bad path.

mod scenarios;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::client::{ProgramOutput, measured, run, start_line, together};
use test_support::server::{Member, Server, run_during};

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

/// Two programs play in a room with `--loss 20% --seed 7`. Returns the outcomes and the losses that both report.
fn played(path: &str, link: &str) -> (Outcomes, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outcomes.csv");
    let options = ["--relay-media", "--loss", "20%", "--seed", "7", "--outcome-log", file.to_str().unwrap()];
    let mut signaling = Server::start_signaling(&options);
    assert!(signaling.line_starting_with("relay: relaying media").message.contains(" host=127.0.0.1 "));
    let mut member = Member::connect(signaling.address);
    member.create_room("jam");
    let url = format!("ws://{}{path}", signaling.address);
    let line = format!("send --tone 220 --duration 4s --clients 1 --signaling-url {url} --room jam --json");
    let other = start_line(&line);
    member.skip_to("PeerJoined");
    let outputs = [run(&line), other.end()];
    // Whoever is in the room sees one address of each member, which is the relay's.
    let update = member.skip_to("PeerUpdated")["data"]["peer"].clone();
    let address = &update["public_addr"];
    assert!(address.as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{update}");
    assert_eq!((update["candidates"].as_array().map(Vec::len), &update["local_addr"]), (Some(1), &Value::Null));
    assert_eq!(&update["candidates"][0]["address"], address);
    // Otherwise, the server would wait for the answer to its close.
    drop(member);
    let exit = signaling.stop("TERM");
    assert_eq!(exit.code, Some(0));
    let has_counts =
        |line: &String| line.contains("relay: stats ") && line.contains(" lost=") && line.contains(" sent=");
    assert!(exit.lines.iter().any(has_counts), "{:?}", exit.lines);
    let losses = outputs.iter().flat_map(|output| {
        assert_eq!((output.code, &*output.stderr), (0, ""), "{output:?}");
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        let heard: Vec<_> =
            report["directions"].as_array().unwrap().iter().filter(|one| one["packets"] != json!(0)).cloned().collect();
        assert_eq!(heard.len(), 1, "{report:#}");
        assert_eq!(heard[0]["link"], link);
        heard.into_iter().map(|one| one["loss_ratio"].as_f64().unwrap())
    });
    (audio_rows(&fs::read_to_string(&file).unwrap()), losses.collect())
}

#[test]
fn clients_hear_each_other_with_the_loss_of_the_path() {
    measured(|| {
        together([("", "plain"), ("/v1/signaling", "signed")], |(path, link)| {
            let (outcomes, losses) = played(path, link);
            assert_eq!((outcomes.len(), losses.len()), (2, 2), "{:?}", outcomes.keys());
            for rows in outcomes.values() {
                let lost = rows.iter().filter(|(_, outcome)| outcome == "lost").count();
                assert!((0.15..0.25).contains(&(lost as f64 / rows.len() as f64)), "{lost} of {}", rows.len());
                assert!(rows.iter().all(|(_, outcome)| ["lost", "sent"].contains(&outcome.as_str())));
            }
            // What the relay has lost between the first and the last packet that it has sent is what the receiver misses.
            let expected = outcomes.values().map(|rows| {
                let sent: Vec<u64> =
                    rows.iter().filter(|(_, outcome)| outcome == "sent").map(|(sequence, _)| *sequence).collect();
                let (first, last) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
                1.0 - sent.len() as f64 / (last - first + 1) as f64
            });
            let sorted = |mut losses: Vec<f64>| {
                losses.sort_by(f64::total_cmp);
                losses
            };
            for (expected, found) in sorted(expected.collect()).into_iter().zip(sorted(losses)) {
                assert!((expected - found).abs() < 0.02, "{expected} {found}");
            }
        });
    });
}

#[test]
fn check_judges_what_members_send_before_the_impairment() {
    measured(|| {
        together([("", "plain"), ("/v1/signaling", "encrypted")], |(path, link)| {
            let folder = tempfile::tempdir().unwrap();
            let junit = folder.path().join("report.xml");
            let path_options = ["--loss", "20%", "--outage", "1s@2s", "--max-recovery", "30s"];
            let report_options = ["--junit", junit.to_str().unwrap()];
            let output = check(&[&path_options[..], &report_options].concat(), |address| {
                let mut member = Member::connect(address);
                member.create_room("jam");
                let url = format!("ws://{address}{path}");
                let line = format!("send --tone 220 --duration 5s --clients 1 --signaling-url {url} --room jam --json");
                let other = start_line(&line);
                member.skip_to("PeerJoined");
                assert_eq!([run(&line), other.end()].map(|output| output.code), [0, 0]);
            });
            let report: Value = serde_json::from_str(&output.stdout).unwrap();
            assert_eq!((output.code, &report["verdict"]), (0, &json!("passed")), "{output:?}");
            let room = &report["media"]["rooms"][0];
            let flows = room["flows"].as_array().unwrap().iter().filter(|flow| flow["datagrams"] != json!(0));
            let lost: Vec<bool> = flows.clone().map(|flow| flow["outcomes"]["outage"].as_u64() > Some(100)).collect();
            // Both play to each other; the member that has created the room has no address.
            assert_eq!((room["members"].as_u64(), lost), (Some(3), vec![true, true]), "{room:#}");
            assert!(room["complete_after_ms"].is_number(), "{room:#}");
            let outage = &room["outages"][0];
            let times = [&outage["start_ms"], &outage["length_ms"]].map(Value::as_f64);
            assert_eq!((times, &outage["result"]), ([Some(2_000.0), Some(1_000.0)], &json!("met")), "{outage:#}");
            let ends: Vec<f64> = flows.filter_map(|flow| flow["last_audio_ms"].as_f64()).collect();
            assert!(ends.len() == 2 && ends.iter().all(|end| *end > 4_000.0), "{ends:?} {report:#}");
            let sources = report["sources"].as_array().unwrap().iter();
            let senders: Vec<_> =
                sources.filter(|source| source["name"].as_str().unwrap().starts_with("room ")).collect();
            assert_eq!(senders.len(), 2, "{report:#}");
            for sender in senders {
                let (facts, text) = (sender["facts"].as_str().unwrap(), sender.to_string());
                assert!(facts.contains(&format!("{link} link, ")), "{facts}");
                assert!(!text.contains(r#""rule":"loss""#), "{text}");
                assert_eq!(text.contains(r#""reason":"sealed""#), link == "encrypted", "{text}");
            }
            let junit = fs::read_to_string(&junit).unwrap();
            assert_eq!(junit.matches(r#"name="counter_repeated" classname="room "#).count(), 2, "{junit}");
            assert!(junit.contains(", outage 1 of "), "{junit}");
        });
    });
}
