//! Impairment from outside: the program on real sockets, what `send` and `probe` report held against the fate log packet by
//! packet.
//!
//! More seeds: `SEEDS=200 cargo test --test echo_server impairment`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use test_support::client;
use test_support::server;

use client::document;
use client::program::{self, Ended};
use serde_json::Value;
use server::PATIENCE;
use server::client::Client;
use server::packet::{Random, audio, keepalive};
use server::process::Server;

/// A row of the fate log, as text.
#[derive(Clone, Debug)]
struct Row {
    stream: &'static str,
    sequence: u64,
    fate: String,
    reordered: String,
    copies: u64,
}

fn rows(file: &Path) -> Vec<Row> {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time_us,client,type,sequence,outcome,reordered,delay_us,copies"));
    let row = |line: &str| {
        let [_, _, kind, sequence, fate, reordered, _, copies] =
            <[&str; 8]>::try_from(line.split(',').collect::<Vec<_>>()).unwrap();
        let stream = match kind {
            "AUDIO" => "audio",
            "LATENCY_PING" => "ping",
            "KEEPALIVE" => "keepalive",
            other => panic!("{other}"),
        };
        let (sequence, copies) = (sequence.parse().unwrap(), copies.parse().unwrap());
        Row { stream, sequence, fate: fate.to_owned(), reordered: reordered.to_owned(), copies }
    };
    lines.map(row).collect()
}

/// What became of each packet: how often it returned, came again, was lost.
type Fates = BTreeMap<(String, u64), [u64; 3]>;

/// Holds the report and the lines of a run against the fate log of its server.
fn assert_same(ended: &Ended, rows: &[Row], what: &str) {
    let (lines, report) = document::lines(ended);
    let mut reported = Fates::new();
    for line in &lines {
        let key = (line["stream"].as_str().unwrap().to_owned(), line["sequence"].as_u64().unwrap());
        let place = match line["outcome"].as_str().unwrap() {
            "returned" => 0,
            "duplicate" => 1,
            "lost" => 2,
            other => panic!("{what}: {other}"),
        };
        reported.entry(key).or_default()[place] += 1;
    }
    let mut logged = Fates::new();
    for row in rows {
        let fate = match row.copies {
            0 => [0, 0, 1],
            copies => [1, copies - 1, 0],
        };
        assert!(logged.insert((row.stream.to_owned(), row.sequence), fate).is_none(), "{what}: {row:?} twice");
        assert_eq!(row.copies > 0, row.fate == "sent", "{what}: {row:?}");
    }
    assert_eq!(reported, logged, "{what}");

    for stream in ["audio", "ping", "keepalive"] {
        let own: Vec<&Row> = rows.iter().filter(|row| row.stream == stream).collect();
        if report["streams"][stream].is_null() {
            assert!(own.is_empty(), "{what}");
            continue;
        }
        let sent = own.iter().filter(|row| row.copies > 0).map(|row| row.sequence);
        // Rows of what was sent stand in the order in which it left.
        let mut highest = None;
        let mut reordered = 0;
        for sequence in sent.clone() {
            reordered += u64::from(highest > Some(sequence));
            highest = highest.max(Some(sequence));
        }
        let returned = sent.count() as u64;
        let copies: u64 = own.iter().map(|row| row.copies).sum();
        let all = own.len() as u64;
        let expected = [all, returned, all - returned, copies - returned, reordered, 0];
        let names = ["sent", "returned", "lost", "duplicated", "reordered", "in_flight"];
        assert_eq!(document::counts(&report, stream, names), expected, "{what}: {stream}");
    }
}

/// Options that a seed draws.
fn options(seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut options = vec!["--seed".to_owned(), seed.to_string()];
    let mut maybe = |option: &str, value: String| {
        if random.next().is_multiple_of(2) {
            options.extend([option.to_owned(), value]);
        }
    };
    maybe("--loss", format!("{}.5%", seed % 8));
    maybe("--burst-loss", format!("{}%,{}%", 1 + seed % 3, 25 + seed % 50));
    maybe("--jitter", format!("{}ms", 1 + seed % 7));
    maybe("--reorder", format!("{}%,{}ms", 1 + seed % 5, 5 + seed % 10));
    maybe("--duplicate", format!("{}%", 1 + seed % 9));
    maybe("--drop-packets", format!("{},70-{}", seed % 60, 71 + seed % 20));
    // 128 samples in 552 bytes 375 times a second are 1.66 Mbit/s.
    maybe("--bandwidth", ["1mbit,50ms", "2Mbit", "1500kbit,5ms"][seed as usize % 3].to_owned());
    if options.len() == 2 {
        options.extend(["--loss".to_owned(), "1%".to_owned()]);
    }
    options
}

/// `send` against a server with these options: how it ended, and the fate log.
fn send(options: &[String], driver: &str) -> (Ended, Vec<Row>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fates.csv");
    let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
    all.extend(["--host", "127.0.0.1", "--delay", "20", "--driver", driver, "--outcome-log", file.to_str().unwrap()]);
    let server = Server::start(&all);
    let ended = program::run(&format!(
        "send --tone 440 --duration 0.3 --server-delay 20 --timeout 3s --json-lines --to {} --driver {driver}",
        server.address
    ));
    let stats = server.stop("INT").stats();
    assert_eq!(stats.count("kernel_dropped"), 0, "{stats}");
    assert_eq!(stats.count("outcome_log_dropped"), 0, "{stats}");
    let rows = rows(&file);
    for (name, fate) in [
        ("impaired_lost", "lost"),
        ("impaired_burst", "burst"),
        ("impaired_listed", "listed"),
        ("impaired_queue", "queue"),
        ("dropped_at_stop", "stopped"),
    ] {
        let logged = rows.iter().filter(|row| row.fate == fate).count() as u64;
        assert_eq!(stats.count(name), logged, "{name}: {stats}");
    }
    let reordered = rows.iter().filter(|row| row.reordered == "1").count() as u64;
    assert_eq!(stats.count("impaired_reordered"), reordered, "{stats}");
    (ended, rows)
}

#[test]
fn a_report_and_the_fate_log_tell_the_same_of_every_packet() {
    let seeds: u64 = std::env::var("SEEDS").map_or(6, |text| text.parse().expect("SEEDS is a number"));
    let all: Vec<u64> = (0..seeds).collect();
    // A few at a time: each is two processes that pace packets.
    for some in all.chunks(12) {
        client::at_once(some, |seed| {
            let driver = if seed % 4 == 3 { "portable" } else { "native" };
            let options = options(*seed);
            let (ended, rows) = send(&options, driver);
            // 0.3 s in packets of 128 samples at 48 kHz. How many signs of life there are beside it is the machine's matter.
            assert_eq!(rows.iter().filter(|row| row.stream == "audio").count(), 113, "{options:?}");
            assert_same(&ended, &rows, &format!("{options:?} {driver}"));
        });
    }
}

/// Sequence, fate, reordering and copies of AUDIO, by sequence.
fn audio_fates(rows: &[Row]) -> Vec<(u64, String, String, u64)> {
    let audio = rows.iter().filter(|row| row.stream == "audio");
    let mut fates: Vec<_> =
        audio.map(|row| (row.sequence, row.fate.clone(), row.reordered.clone(), row.copies)).collect();
    fates.sort();
    fates
}

#[test]
fn the_same_seed_means_the_same_fates_on_another_port_with_another_driver() {
    let line = "--loss 5% --burst-loss 2%,30% --jitter 3ms --reorder 4% --duplicate 5% --seed 11";
    let options: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let fates = client::at_once(["native", "native", "portable"], |driver| audio_fates(&send(&options, driver).1));
    assert_eq!(fates[0], fates[1]);
    assert_eq!(fates[0], fates[2]);
    let kinds: std::collections::BTreeSet<&str> = fates[0].iter().map(|(_, fate, ..)| fate.as_str()).collect();
    assert_eq!(kinds, ["burst", "lost", "sent"].into());
}

#[test]
fn exactly_the_packets_that_were_named_are_lost() {
    let options = ["--drop-packets".to_owned(), "10,20-25".to_owned()];
    let (ended, _) = send(&options, "native");
    let (lines, report) = document::lines(&ended);
    let lost: Vec<u64> =
        lines.iter().filter(|line| line["outcome"] == "lost").map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(lost, [10, 20, 21, 22, 23, 24, 25]);
    assert_eq!(document::counts(&report, "audio", ["lost", "duplicated", "reordered"]), [7, 0, 0]);
}

#[test]
fn the_embedded_server_is_impaired_too_and_the_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        "send --tone 440 --duration 0.3",
        "probe --audio --count 100 --interval 2",
        "probe --count 100 --interval 2",
        "probe --keepalive --count 100 --interval 2",
    ];
    let cases = lines.into_iter().enumerate();
    client::at_once(cases, |(n, line)| {
        let file = folder.path().join(format!("{n}.csv"));
        let impairment = "--loss 5% --reorder 5% --duplicate 5% --seed 3";
        let line = format!(
            "{line} --embedded --delay 20 {impairment} --timeout 3s --json-lines --outcome-log {}",
            file.to_str().unwrap()
        );
        let ended = program::run(&line);
        let rows = rows(&file);
        assert!(rows.iter().any(|row| row.fate == "lost") && rows.iter().any(|row| row.copies == 2), "{rows:?}");
        assert_same(&ended, &rows, &line);
        let (_, report) = document::lines(&ended);
        let name = "embedded echo server (20 ms, --loss 5% --reorder 5%,10ms --duplicate 5% --seed 3)";
        assert_eq!(report["target"], name);
    });
}

#[test]
fn the_log_says_with_which_options_the_same_happens_again() {
    let mut server = Server::start(&["--host", "127.0.0.1", "--loss", "30%", "--jitter", "1"]);
    let said = server.line_that_begins("echo: impairment enabled").message;
    let again = said
        .strip_prefix("echo: impairment enabled options=\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .expect("the options");
    let seed = again.strip_prefix("--loss 30% --jitter 1ms --seed ").expect("a seed");
    assert!(seed.parse::<u64>().is_ok(), "{said}");
    let answered = |server: &Server| {
        let client = Client::of(server.address);
        client.socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 100];
        // The n-th KEEPALIVE that a server hears has the same fate.
        (0..40)
            .map(|n| {
                client.send(&keepalive(n, &[]));
                client.socket.recv(&mut buffer).is_ok()
            })
            .collect::<Vec<_>>()
    };
    let first = answered(&server);
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    let mut options = vec!["--host", "127.0.0.1"];
    options.extend(again.split(' '));
    assert_eq!(answered(&Server::start(&options)), first);
    // Without impairment nothing is said of it.
    let ended = Server::start(&["--host", "127.0.0.1"]).stop("INT");
    assert!(ended.lines.iter().all(|line| !line.contains("impaired")), "{:?}", ended.lines);
}

#[test]
fn the_fate_log_is_whole_after_either_signal() {
    for signal in ["INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fates.csv");
        let options = ["--host", "127.0.0.1", "-d", "1h", "--outcome-log", file.to_str().unwrap()];
        let server = Server::start(&options);
        let mut client = Client::of(server.address);
        for sequence in 0..50 {
            client.send(&audio(sequence, 256));
        }
        let syncs = client.sync();
        let ended = server.stop(signal);
        assert_eq!((ended.code, ended.stats().count("dropped_at_stop")), (Some(0), 50), "{}", ended.stats());
        let rows = rows(&file);
        // Without impairment every reply is logged all the same.
        assert_eq!(rows.iter().filter(|row| row.stream == "keepalive" && row.fate == "sent").count() as u64, syncs);
        let stopped: Vec<u64> = rows.iter().filter(|row| row.fate == "stopped").map(|row| row.sequence).collect();
        assert_eq!(stopped, (0..50).collect::<Vec<_>>());
    }
}

#[test]
#[cfg(unix)]
fn a_fate_log_that_fails_under_way_holds_up_nothing_and_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fates");
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let pipe = file.clone();
    // Reads the first line and goes away.
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(fs::File::open(pipe).unwrap()).read_line(&mut line).unwrap();
        line
    });
    let mut server =
        Server::start(&["--host", "127.0.0.1", "--outcome-log", file.to_str().unwrap(), "--stats-interval", "50ms"]);
    assert!(reader.join().unwrap().starts_with("time_us,"));
    let client = Client::of(server.address);
    // Until the thread that writes has found out, and there are rows that nobody takes.
    let deadline = std::time::Instant::now() + PATIENCE;
    for n in 0.. {
        let keepalive = keepalive(n, &[]);
        assert_eq!(client.ask(&keepalive), keepalive);
        if n % 100 == 99 && server.line_that_begins("Stats: ").message.contains(", outcome_log_dropped=") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no row is dropped: {:?}", server.lines);
    }
    let ended = server.stop("INT");
    assert_eq!(ended.code, Some(3), "{:?}", ended.lines);
    let said = |text: &str| ended.lines.iter().any(|line| line.contains(text));
    assert!(said("cannot write the outcome log to") && said("Broken pipe"), "{:?}", ended.lines);
    assert!(said(", outcome_log_dropped="), "{:?}", ended.lines);
}

#[test]
fn losses_that_are_asked_for_are_measured() {
    let ended = program::run("probe --embedded --count 2000 --interval 0.5 --timeout 1s --loss 10% --seed 5 --json");
    let report = document::report(&ended);
    let [sent, lost] = document::counts(&report, "ping", ["sent", "lost"]);
    // 200 of 2,000, and 4 standard deviations of 13.4 either way.
    assert_eq!(sent, 2_000);
    assert!((147..=253).contains(&lost), "{lost}");
    assert!(matches!(&report["streams"]["ping"]["loss_ratio"], Value::Number(_)));
}
