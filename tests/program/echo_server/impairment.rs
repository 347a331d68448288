//! Tests the simulated network impairment of the echo server on real sockets. The tests compare the reports of `send` and `probe` with the
//! outcome log packet by packet.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use test_support::client;
use test_support::server;

use client::document;
use client::program::{self, ProgramOutput};
use server::TEST_TIMEOUT;
use server::client::Client;
use server::packet::{audio, keepalive};
use server::process::Server;

/// A row of the outcome log, as text.
#[derive(Clone, Debug)]
struct Row {
    stream: &'static str,
    sequence: u64,
    outcome: String,
    copies: u64,
}

fn rows(file: &Path) -> Vec<Row> {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time_us,client,type,sequence,outcome,reordered,delay_us,copies"));
    let row = |line: &str| {
        let [_, _, kind, sequence, outcome, _, _, copies] =
            <[&str; 8]>::try_from(line.split(',').collect::<Vec<_>>()).unwrap();
        let stream = match kind {
            "AUDIO" => "audio",
            "LATENCY_PING" => "ping",
            "KEEPALIVE" => "keepalive",
            other => panic!("{other}"),
        };
        let (sequence, copies) = (sequence.parse().unwrap(), copies.parse().unwrap());
        Row { stream, sequence, outcome: outcome.to_owned(), copies }
    };
    lines.map(row).collect()
}

/// For each packet: how often its outcome was `returned`, `duplicate` and `lost`. The key is the stream and the sequence number.
type Outcomes = BTreeMap<(String, u64), [u64; 3]>;

/// Compares the report and the JSON lines of a run with the outcome log of the server.
fn assert_same(finished: &ProgramOutput, rows: &[Row], what: &str) {
    let (lines, _) = document::lines(finished);
    let mut reported = Outcomes::new();
    for line in &lines {
        let key = (line["stream"].as_str().unwrap().to_owned(), line["sequence"].as_u64().unwrap());
        let index = match line["outcome"].as_str().unwrap() {
            "returned" => 0,
            "duplicate" => 1,
            "lost" => 2,
            other => panic!("{what}: {other}"),
        };
        reported.entry(key).or_default()[index] += 1;
    }
    let mut logged = Outcomes::new();
    for row in rows {
        let outcome = match row.copies {
            0 => [0, 0, 1],
            copies => [1, copies - 1, 0],
        };
        assert!(logged.insert((row.stream.to_owned(), row.sequence), outcome).is_none(), "{what}: {row:?} twice");
        assert_eq!(row.copies > 0, row.outcome == "sent", "{what}: {row:?}");
    }
    assert_eq!(reported, logged, "{what}");
}

#[test]
fn embedded_server_is_impaired_and_named_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        "send --tone 440 --duration 0.3s",
        "probe --packet audio --count 100 --interval 2ms",
        "probe --count 100 --interval 2ms",
        "probe --packet keepalive --count 100 --interval 2ms",
    ];
    let cases = lines.into_iter().enumerate();
    client::at_once(cases, |(n, line)| {
        let file = folder.path().join(format!("{n}.csv"));
        let impairment = "--loss 5% --reorder 5% --duplicate 5% --seed 3";
        let line = format!(
            "{line} --embedded --delay 20 {impairment} --timeout 3s --json-lines --outcome-log {}",
            file.to_str().unwrap()
        );
        let finished = program::run(&line);
        let rows = rows(&file);
        assert!(rows.iter().any(|row| row.outcome == "lost") && rows.iter().any(|row| row.copies == 2), "{rows:?}");
        assert_same(&finished, &rows, &line);
        let (_, report) = document::lines(&finished);
        let name = "embedded echo server (20 ms, --loss 5% --reorder 5%,10ms --duplicate 5% --seed 3)";
        assert_eq!(report["target"], name);
    });
}

#[test]
fn log_contains_the_options_that_reproduce_the_impairment() {
    let mut server = Server::start(&["--host", "127.0.0.1", "--loss", "30%", "--jitter", "1ms"]);
    let message = server.line_starting_with("echo: impairment enabled").message;
    let options = message.strip_prefix("echo: impairment enabled options=\"--loss 30% --jitter 1ms --seed ");
    let seed = options.and_then(|rest| rest.strip_suffix('"')).expect("a seed");
    assert!(seed.parse::<u64>().is_ok(), "{message}");
    // Without impairment, the log does not mention impairment.
    let finished = Server::start(&["--host", "127.0.0.1"]).stop("INT");
    assert!(finished.lines.iter().all(|line| !line.contains("impair")), "{:?}", finished.lines);
}

#[test]
fn outcome_log_is_complete_after_either_signal() {
    for signal in ["INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outcomes.csv");
        let server = Server::start(&["--host", "127.0.0.1", "-d", "1h", "--outcome-log", file.to_str().unwrap()]);
        let mut client = Client::connect(server.address);
        for sequence in 0..50 {
            client.send(&audio(sequence, 256));
        }
        let syncs = client.sync();
        let finished = server.stop(signal);
        assert_eq!((finished.code, finished.stats().count("dropped_at_stop")), (Some(0), 50), "{}", finished.stats());
        let rows = rows(&file);
        // The outcome log contains every reply even if no impairment is configured.
        assert_eq!(rows.iter().filter(|row| row.stream == "keepalive" && row.outcome == "sent").count() as u64, syncs);
        let stopped: Vec<u64> = rows.iter().filter(|row| row.outcome == "stopped").map(|row| row.sequence).collect();
        assert_eq!(stopped, (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn outcome_log_stops_at_its_maximum_size_and_counts_the_other_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outcomes.csv");
    let log = ["--outcome-log", file.to_str().unwrap(), "--outcome-log-max", "1KiB"];
    let mut server = Server::start(&[&["--host", "127.0.0.1", "-d", "0"], &log[..]].concat());
    let client = Client::connect(server.address);
    (0..100).for_each(|sequence| drop(client.exchange(&audio(sequence, 64))));
    server.line_starting_with("echo: the outcome log has reached --outcome-log-max; further rows are discarded");
    let stopped = server.stop("TERM");
    assert_eq!(stopped.code, Some(0));
    let size = fs::metadata(&file).unwrap().len();
    assert!((512..=1_024).contains(&size), "{size}");
    let missing = 100 - rows(&file).len();
    let notice = format!("jamjam-dev: {missing} rows are missing from the outcome log: the log reached");
    assert!(stopped.lines.iter().any(|line| line.starts_with(&notice)), "{:?}", stopped.lines);
}

#[test]
#[cfg(unix)]
fn outcome_log_write_error_is_logged_once_and_delays_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outcomes");
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let pipe = file.clone();
    // Reads the first line and closes the pipe.
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(fs::File::open(pipe).unwrap()).read_line(&mut line).unwrap();
        line
    });
    let mut server =
        Server::start(&["--host", "127.0.0.1", "--outcome-log", file.to_str().unwrap(), "--stats-interval", "50ms"]);
    assert!(reader.join().unwrap().starts_with("time_us,"));
    let client = Client::connect(server.address);
    // Packets are sent until the writing thread has failed and rows are dropped.
    let deadline = std::time::Instant::now() + TEST_TIMEOUT;
    for n in 0.. {
        let keepalive = keepalive(n, &[]);
        assert_eq!(client.exchange(&keepalive), keepalive);
        if n % 100 == 99 && server.line_starting_with("Stats: ").message.contains(", outcome_log_dropped=") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no row is dropped: {:?}", server.lines);
    }
    let warning = "WARN echo: cannot write the outcome log; further rows are discarded";
    let is_warning =
        |line: &&String| line.contains(warning) && line.contains("outcomes") && line.contains("Broken pipe");
    assert_eq!(server.lines.iter().filter(is_warning).count(), 1, "{:?}", server.lines);
    let finished = server.stop("INT");
    assert_eq!(finished.code, Some(3), "{:?}", finished.lines);
    assert_eq!(finished.lines.iter().filter(is_warning).count(), 1, "{:?}", finished.lines);
    let log_contains = |text: &str| finished.lines.iter().any(|line| line.contains(text));
    assert!(log_contains("cannot write the outcome log to") && log_contains("Broken pipe"), "{:?}", finished.lines);
}
