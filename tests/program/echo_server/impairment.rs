//! The outcome log and the log of an impaired echo server, and what is not impaired.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use test_support::server::{Client, Server, Stats, audio, keepalive, poll_until};
use test_support::stun;

/// The type, sequence number and outcome in each row of the outcome log.
fn rows(file: &Path) -> Vec<[String; 3]> {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time_us,client,type,sequence,outcome,reordered,delay_us,copies"));
    let cells = lines.map(|line| <[&str; 8]>::try_from(line.split(',').collect::<Vec<_>>()).unwrap());
    cells.map(|[_, _, kind, sequence, outcome, ..]| [kind, sequence, outcome].map(str::to_owned)).collect()
}

#[test]
fn log_contains_the_options_that_reproduce_the_impairment() {
    let mut server = Server::start(&["--host", "127.0.0.1", "--loss", "30%", "--jitter", "1ms"]);
    let message = server.line_starting_with("echo: impairment enabled").message;
    let options = message.strip_prefix("echo: impairment enabled options=\"--loss 30% --jitter 1ms --seed ");
    let seed = options.and_then(|rest| rest.strip_suffix('"')).expect("a seed");
    assert!(seed.parse::<u64>().is_ok(), "{message}");
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
        assert_eq!(
            rows.iter().filter(|[kind, _, outcome]| kind == "KEEPALIVE" && outcome == "sent").count() as u64,
            syncs
        );
        let stopped =
            rows.iter().filter(|[_, _, outcome]| outcome == "stopped").map(|[_, sequence, _]| sequence.clone());
        assert!(stopped.eq((0..50).map(|sequence: u64| sequence.to_string())), "{rows:?}");
    }
}

#[test]
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
    poll_until("a dropped row", || {
        (0..100).for_each(|n| assert_eq!(client.exchange(&keepalive(n, &[])), keepalive(n, &[])));
        server.line_starting_with("Stats: ").message.contains(", outcome_log_dropped=").then_some(())
    });
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

#[test]
fn impairment_does_not_apply_to_stun_and_rate_limits_do() {
    let limit = ["--limit-loopback", "--max-bitrate-per-source", "8kbit", "--stats-interval", "20ms"];
    let mut server = Server::start(&[&["--host", "127.0.0.1", "--loss", "100%"], &limit[..]].concat());
    let client = Client::connect(server.address);
    // A Binding request without attributes.
    let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    (0..100).for_each(|_| client.send(&request));
    assert!(stun::is_response(&client.recv(), &stun::transaction(&request)));
    let stats = std::iter::repeat_with(|| Stats::parse(&server.line_starting_with("Stats: ")))
        .find(|stats| stats.count("stun_requests") + stats.count("dropped_packet_rate") == 100)
        .expect("an endless log");
    assert!(stats.count("stun_requests") > 0 && stats.count("dropped_packet_rate") > 0, "{stats}");
}
