//! `signaling-server --relay-media`: clients that hear each other over a bad path, and the options.

use std::collections::BTreeMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use jamjam_dev::signaling::device::DeviceKey;
use serde_json::{Value, json};
use test_support::client::{at_once, run as run_line, start_line};
use test_support::server::{Member, Server, send};

use super::check::check;
use super::http::login::{JSON, RIGHT};

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
    let outputs = [run_line(&line), other.end()];
    // Whoever is in the room sees one address of each member, which is the relay's.
    let update = member.skip_to("PeerUpdated")["data"]["peer"].clone();
    let address = &update["public_addr"];
    assert!(address.as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{update}");
    assert_eq!((update["candidates"].as_array().map(Vec::len), &update["local_addr"]), (Some(1), &Value::Null));
    assert_eq!(&update["candidates"][0]["address"], address);
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
    at_once([("", "plain"), ("/v1/signaling", "signed")], |(path, link)| {
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
}

#[test]
fn check_judges_what_members_send_before_the_impairment() {
    at_once([("", "plain"), ("/v1/signaling", "encrypted")], |(path, link)| {
        let folder = tempfile::tempdir().unwrap();
        let junit = folder.path().join("report.xml");
        let fixed = ["--relay-media", "--loss", "20%", "--outage", "1s@2s", "--max-recovery", "30s"];
        let ended = ["--until-idle", "3s", "--json", "--junit", junit.to_str().unwrap()];
        let (code, report, log) = check(&[&fixed[..], &ended].concat(), |address, _| {
            let mut member = Member::connect(address);
            member.create_room("jam");
            let url = format!("ws://{address}{path}");
            let line = format!("send --tone 220 --duration 7s --clients 1 --signaling-url {url} --room jam --json");
            let other = start_line(&line);
            member.skip_to("PeerJoined");
            assert_eq!([run_line(&line), other.end()].map(|output| output.code), [0, 0]);
        });
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((code, &report["verdict"]), (Some(0), &json!("passed")), "{report:#}\n{log}");
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
        assert!(ends.len() == 2 && ends.iter().all(|end| *end > 5_000.0), "{ends:?} {report:#}");
        let sources = report["sources"].as_array().unwrap().iter();
        let senders: Vec<_> = sources.filter(|source| source["name"].as_str().unwrap().starts_with("room ")).collect();
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
}

#[test]
fn relay_has_the_given_address_and_ports() {
    // No system assigns these ports by itself.
    let first = 20_000 + std::process::id() % 8_000;
    let ports = format!("{first}-{}", first + 3);
    let options = ["--relay-media", "--relay-addr", "192.0.2.9", "--relay-ports", &ports];
    let server = Server::start_signaling(&options);
    let (mut aki, mut ben) = (Member::connect(server.address), Member::connect(server.address));
    let room = aki.create_room("jam");
    ben.join(&room);
    aki.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": "10.0.0.1:5000", "local_addr": null}));
    let peer = ben.skip_to("PeerUpdated")["data"]["peer"].clone();
    let (host, port) = peer["public_addr"].as_str().unwrap().split_once(':').unwrap();
    assert!(host == "192.0.2.9" && (first..first + 4).contains(&port.parse().unwrap()), "{peer} {ports}");
}

/// What then happens to the media is tested in `harness`, `scenarios` and `crates/core/tests/core/media_relay.rs`.
#[test]
fn paths_are_changed_by_requests_and_a_severed_device_is_refused() {
    let server = Server::start_signaling(&["--relay-media", "--docs-password", "sesame"]);
    let change = |request: &str| send(&server, "POST", "/admin/links", &[RIGHT, JSON], request);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let headers = DeviceKey::from_seed(&[3; 32]).headers(now);
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let connect = || Member::try_connect(server.address, "/v1/signaling", &headers);
    let (mut aki, mut ben) = (Member::connect(server.address), connect().unwrap());
    let room = aki.create_room("jam");
    ben.send("JoinRoom", &json!({"room_id": room, "password": null, "peer_name": "Ben"}));
    ben.receive_type("RoomJoined");
    let link = json!({"from": "Ann", "to": "Ben", "loss": 100});
    for (request, links, severed) in [
        (&*link.to_string(), json!([link]), json!([])),
        (r#"{"from":"*","loss":null}"#, json!([]), json!([])),
        (r#"{"from":"Ann","renumber":true}"#, json!([]), json!([])),
        (r#"{"from":"Ben","signaling":true}"#, json!([]), json!(["Ben"])),
    ] {
        let response = change(request);
        assert_eq!((response.status, response.json()), (200, json!({"links": links, "severed": severed})), "{request}");
    }
    while ben.0.read().is_ok_and(|message| !message.is_close()) {}
    assert_eq!(connect().err(), Some(503));
    let restored = change(r#"{"from":"Ben","signaling":false}"#).json();
    assert_eq!(restored, json!({"links": [], "severed": []}));
    assert!(connect().is_ok());
    assert_eq!(change(r#"{"from":"*","network":"wifi","delay":"30ms"}"#).status, 200);
}

#[test]
fn change_of_paths_without_relayed_media_is_rejected_with_the_option() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let response = send(&server, "POST", "/admin/links", &[RIGHT, JSON], r#"{"from":"*","loss":100}"#);
    assert!(response.status == 422 && response.error().contains("--relay-media"), "{response:?}");
}
