//! `signaling-server --relay-media`: clients that hear each other over a bad path, and the options.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use jamjam_dev::signaling::device::DeviceKey;
use serde_json::{Value, json};
use test_support::client::{at_once, run as run_line, start_line};
use test_support::server::{Member, Response, Server, TEST_TIMEOUT, run, send};

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
        assert_eq!((times, &outage["passed"]), ([Some(2_000.0), Some(1_000.0)], &json!(true)), "{outage:#}");
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
fn options_that_cannot_be_used_are_named() {
    for (options, error) in [
        (&["--loss", "1%"][..], "add --relay-media"),
        (&["--relay-ports", "40000-40099"], "--relay-media"),
        (&["--relay-addr", "192.0.2.1"], "--relay-media"),
        (&["--check", "--max-recovery", "2s"], "--relay-media"),
        (&["--relay-media", "--max-recovery", "2s"], "--check"),
        (&["--relay-media", "--relay-ports", "40000"], "such as 40000-40999"),
        (&["--relay-media", "--relay-ports", "40000-42000"], "such as 40000-40999"),
        (&["--relay-media", "--host", "::"], "give an IPv4 address as --host"),
        (&["--relay-media", "--trust-proxy"], "give --relay-addr HOST"),
        (&["--relay-media", "--relay-addr", "::1"], "has no IPv4 address"),
    ] {
        let host = if options.contains(&"--host") { &[][..] } else { &["--host", "127.0.0.1"] };
        let output = run(&[&["signaling-server", "--port", "0"], host, options].concat(), |_| {});
        assert!(output.code == 2 && output.stderr.contains(error), "{options:?}: {output:?}");
    }
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

const STUN: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

/// Requests that change paths between members.
fn change(server: &Server, request: &str) -> Response {
    send(server, "POST", "/admin/links", &[RIGHT, JSON], request)
}

/// A member with a socket, which publishes the socket's address in the room.
struct Musician {
    member: Member,
    socket: UdpSocket,
}

impl Musician {
    /// Enters a new room or `room` with this request.
    fn enter(mut member: Member, kind: &str, request: &Value) -> (Self, Value) {
        member.send(kind, request);
        let entered = member.skip_to(if kind == "CreateRoom" { "RoomCreated" } else { "RoomJoined" });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        (Self { member, socket }, entered["data"]["room_id"].clone())
    }

    fn publish(&mut self) {
        let address = self.socket.local_addr().unwrap();
        self.member.send("UpdatePeerInfo", &json!({"candidates": [], "public_addr": address, "local_addr": null}));
    }

    /// The address that the other member publishes.
    fn other(&mut self) -> SocketAddr {
        let update = self.member.skip_to("PeerUpdated");
        update["data"]["peer"]["public_addr"].as_str().expect("an address").parse().unwrap()
    }

    fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 100];
        let (len, from) = self.socket.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    }
}

#[test]
fn members_are_severed_restored_and_renumbered_by_requests() {
    let server = Server::start_signaling(&["--relay-media", "--docs-password", "sesame"]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let headers = DeviceKey::from_seed(&[3; 32]).headers(now);
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let connect = || Member::try_connect(server.address, "/v1/signaling", &headers);
    let request = json!({"room_name": "jam", "password": null, "peer_name": "Aki"});
    let (mut aki, room) = Musician::enter(Member::connect(server.address), "CreateRoom", &request);
    let request = json!({"room_id": room, "password": null, "peer_name": "Ben"});
    let (mut ben, _) = Musician::enter(connect().unwrap(), "JoinRoom", &request);
    aki.publish();
    ben.publish();
    let (to_ben, to_aki) = (aki.other(), ben.other());
    let response = change(&server, r#"{"from":"Aki","to":"Ben","loss":100}"#);
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"links": [{"from": "Aki", "to": "Ben", "loss": 100}], "severed": []}))
    );
    aki.socket.send_to(b"lost", to_ben).unwrap();
    // STUN passes, and shows that what was sent before has arrived.
    aki.socket.send_to(&STUN, to_ben).unwrap();
    assert_eq!(ben.receive().0, STUN);
    ben.socket.send_to(b"other direction", to_aki).unwrap();
    assert_eq!(aki.receive().0, b"other direction");
    assert_eq!(change(&server, r#"{"from":"*","loss":null}"#).json(), json!({"links": [], "severed": []}));
    aki.socket.send_to(b"restored", to_ben).unwrap();
    assert_eq!(ben.receive(), (b"restored".to_vec(), to_aki));
    assert_eq!(change(&server, r#"{"from":"Aki","renumber":true}"#).status, 200);
    aki.socket.send_to(b"renumbered", to_ben).unwrap();
    let (bytes, new) = ben.receive();
    assert!(bytes == b"renumbered" && new != to_aki, "{new} {to_aki}");
    ben.socket.send_to(b"answer", new).unwrap();
    assert_eq!(aki.receive(), (b"answer".to_vec(), to_ben));
    let response = change(&server, r#"{"from":"Ben","signaling":true}"#);
    assert_eq!(response.json(), json!({"links": [], "severed": ["Ben"]}));
    while ben.member.0.read().is_ok_and(|message| !message.is_close()) {}
    assert_eq!(connect().err(), Some(503));
    aki.socket.send_to(b"media lives", to_ben).unwrap();
    assert_eq!(ben.receive().0, b"media lives");
    assert_eq!(change(&server, r#"{"from":"Ben","signaling":false}"#).json(), json!({"links": [], "severed": []}));
    assert!(connect().is_ok());
}

#[test]
fn wrong_changes_of_paths_are_rejected_with_their_reason() {
    let server = Server::start_signaling(&["--relay-media", "--docs-password", "sesame"]);
    for (request, error) in [
        (r#"{"loss":100}"#, "missing field `from`"),
        (r#"{"from":"*","loss":101}"#, "100%"),
        (r#"{"from":"*","los":1}"#, "--los"),
        (r#"{"from":"*","seed":"1"}"#, "seed"),
        (r#"{"from":"*","outage":"5s"}"#, "LENGTH@START"),
        (r#"{"from":"*","loss":[1]}"#, "--loss"),
        (r#"{"from":"*","signaling":"yes"}"#, "signaling: invalid type"),
    ] {
        let response = change(&server, request);
        assert!(response.status == 422 && response.error().contains(error), "{request}: {response:?}");
    }
    assert_eq!(change(&server, r#"{"from":"*","network":"wifi","delay":"30ms"}"#).status, 200);
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let response = change(&server, r#"{"from":"*","loss":100}"#);
    assert!(response.status == 422 && response.error().contains("--relay-media"), "{response:?}");
}
