//! `jamjam-dev relay` as a process between real sockets: the program's own clients and server, and plain UDP.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::client::{Program, ProgramOutput, closed_udp_port, command, document, run_args, start};
use test_support::server::{Client, Server, Since, TEST_TIMEOUT, keepalive, packet, poll_until, ready_address};

/// A running relay on a free port of 127.0.0.1, unless it listens elsewhere.
struct Relay {
    program: Program,
    address: SocketAddr,
    folder: TempDir,
}

impl Relay {
    fn start(target: SocketAddr, options: &str) -> Self {
        Self::start_on("127.0.0.1:0", target, options)
    }

    fn start_on(listen: &str, target: SocketAddr, options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready.json");
        let line = format!("relay {listen} {target} --ready-file {} {options}", file.display());
        let mut program = start(&mut command(words(&line)));
        let address = poll_until("the ready file", || {
            assert!(program.is_running(), "the relay has ended");
            ready_address(&file)
        });
        Self { program, address, folder }
    }

    /// Ends the relay. Returns its report.
    fn end(self, signal: &str) -> (Value, ProgramOutput) {
        self.program.signal(signal);
        let output = self.program.end();
        assert_eq!(output.code, 0, "{output:?}");
        (document::valid(&output.stdout), output)
    }
}

/// The words of a line, in which `_` stands for a space in a word.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split_whitespace().map(|word| word.replace('_', " "))
}

/// The number of datagrams of all clients in a direction with an outcome.
fn count(report: &Value, direction: &str, outcome: &str) -> u64 {
    let directions = report["directions"].as_array().unwrap().iter().filter(|one| one["direction"] == direction);
    directions.map(|one| one["outcomes"][outcome].as_u64().unwrap_or(0)).sum()
}

/// The rows of an outcome log: direction, sequence and outcome.
fn rows(file: &Path) -> Vec<(String, u32, String)> {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time_us,from,to,direction,type,sequence,outcome,reordered,delay_us,copies"));
    let cells = lines.map(|line| <[&str; 10]>::try_from(line.split(',').collect::<Vec<_>>()).unwrap());
    cells
        .map(|[_, _, _, way, _, sequence, outcome, ..]| (way.into(), sequence.parse().unwrap(), outcome.into()))
        .collect()
}

#[test]
fn report_and_outcome_log_agree_with_what_the_target_receives() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("outcomes.csv");
    let options = format!("--up drop-packets_3-4 --json --outcome-log {}", log.display());
    let relay = Relay::start(target.local_addr().unwrap(), &options);
    let client = Client::connect(relay.address);
    (0..6).for_each(|sequence| client.send(&packet(1, sequence, b"")));
    let mut received = [0; 64];
    for sequence in [0, 1, 2, 5] {
        let len = target.recv(&mut received).unwrap();
        assert_eq!(received[..len], packet(1, sequence, b""));
    }
    let (report, _) = relay.end("INT");
    let mut rows = rows(&log);
    rows.sort_by_key(|row| row.1);
    let outcome = |sequence| if [3, 4].contains(&sequence) { "listed" } else { "sent" };
    assert_eq!(rows, (0..6).map(|n| ("up".to_owned(), n, outcome(n).to_owned())).collect::<Vec<_>>());
    assert_eq!(["sent", "listed"].map(|outcome| count(&report, "up", outcome)), [4, 2], "{report:#}");
}

#[test]
fn delay_of_a_direction_is_part_of_the_round_trip() {
    let server = Server::start(&["--host", "127.0.0.1"]);
    for (delay, least_ms) in [("--up delay_30ms", 30), ("--down delay_30ms", 30), ("--delay 30ms", 60)] {
        let relay = Relay::start(server.address, &format!("{delay} --json"));
        let (client, sent) = (Client::connect(relay.address), Since::now());
        assert_eq!(client.exchange(&keepalive(1, b"")), keepalive(1, b""));
        sent.assert_at_least(Duration::from_millis(least_ms));
        relay.end("TERM");
    }
}

#[test]
fn two_clients_of_any_protocol_are_two_sources_over_ipv4_and_ipv6() {
    for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("127.0.0.1:0", "::1")] {
        let target = UdpSocket::bind((host, 0)).unwrap();
        target.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let relay = Relay::start_on(listen, target.local_addr().unwrap(), "--json");
        let clients = [(); 2].map(|()| Client::bind(&relay.address.ip().to_string(), relay.address));
        let mut sources = BTreeSet::new();
        for (client, text) in clients.iter().zip(["one", "another"]) {
            for datagram in [text.as_bytes().to_vec(), vec![7; 20_000]] {
                client.send(&datagram);
                let mut buffer = vec![0; 65_536];
                let (len, source) = target.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], datagram);
                sources.insert(source);
                target.send_to(format!("reply to {text}").as_bytes(), source).unwrap();
                assert_eq!(client.recv(), format!("reply to {text}").as_bytes());
            }
        }
        assert_eq!(sources.len(), 2);
        let (report, output) = relay.end("INT");
        let addresses: Vec<_> = clients.iter().map(|client| Value::from(client.address().to_string())).collect();
        let ups = report["directions"].as_array().unwrap().iter().step_by(2);
        let listed: Vec<_> = ups.map(|one| one["address"].clone()).collect();
        assert_eq!((listed, count(&report, "down", "sent")), (addresses, 4), "{output:?}");
    }
}

#[test]
fn target_where_nothing_listens_is_named_and_fails_a_case() {
    let ((_taken, target), folder) = (closed_udp_port(), tempfile::tempdir().unwrap());
    let junit = folder.path().join("relay.xml");
    let mut relay = Relay::start(target, &format!("--junit {}", junit.display()));
    let client = Client::connect(relay.address);
    client.send(b"is anybody there?");
    let log = BufReader::new(relay.program.0.stderr.take().unwrap());
    let named = log.lines().map(Result::unwrap).find(|line| line.contains("nothing listens at the target"));
    assert!(named.is_some_and(|line| line.contains(&format!("address={target}"))));
    relay.program.signal("INT");
    let output = relay.program.end();
    assert_eq!(output.code, 1);
    let finding = "finding: ICMP errors, since nothing listens at the target: 1";
    assert!(output.stdout.contains(finding), "{}", output.stdout);
    let cases = fs::read_to_string(junit).unwrap();
    assert!(cases.contains("failures=\"1\"") && cases.contains("nothing listens at the target: 1"), "{cases}");
    drop(relay.folder);
}

#[test]
fn two_programs_hear_each_other_from_the_configured_addresses() {
    let (client, target) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    target.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    // No system assigns this port by itself.
    let back = SocketAddr::from(([127, 0, 0, 1], 28_000 + (std::process::id() % 2_000) as u16));
    let target_address = target.local_addr().unwrap();
    let relay = Relay::start(target_address, &format!("--back {back} --json"));
    let mut buffer = [0; 16];
    client.send_to(b"hello", relay.address).unwrap();
    assert_eq!(target.recv_from(&mut buffer).unwrap(), (5, back));
    target.send_to(b"unasked", back).unwrap();
    assert_eq!(client.recv_from(&mut buffer).unwrap(), (7, relay.address));
    let in_use = run_args(words(&format!("relay 127.0.0.1:0 {target_address} --back {back}")));
    assert!(in_use.code == 3 && in_use.stderr.contains("in use"), "{in_use:?}");
    let (report, _) = relay.end("INT");
    assert_eq!(report["findings"], json!([]), "{report:#}");
}
