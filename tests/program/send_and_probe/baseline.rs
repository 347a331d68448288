//! `--baseline`: exit codes, report files, and files that are not usable. The runs are replays of records with known packets.

use std::fs;
use std::path::PathBuf;
use test_support::client;

use client::program::{ProgramOutput, run_args};
use jamjam_dev::client::{PacketOutcome, RunKind, RunResults, StreamKind};
use jamjam_dev::report::json::{self, JsonLine, PacketLine};
use jamjam_dev::report::limits::Limits;
use jamjam_dev::report::run_record::{self, RecordedOptions};
use jamjam_dev::stats::StreamStats;
use tempfile::TempDir;

/// Run records and reports in a folder.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// Records a probe of `seconds` with 20 packets per second. Every `lost`-th packet is lost, the others return after about `rtt_us`.
    fn record(&self, name: &str, seconds: u32, lost: u32, rtt_us: f64) -> String {
        let run = RunResults {
            duration_ns: u64::from(seconds) * 1_000_000_000,
            ping: Some(StreamStats::new()),
            ..RunResults::new(RunKind::Probe, "a server", StreamKind::Ping)
        };
        let mut text = json::line(&RecordedOptions::new(Limits::default())).expect("a line");
        for sequence in 0..seconds * 20 {
            let sent_us = f64::from(sequence) * 50_000.0;
            let echo_time_us = (sequence % lost != 0).then(|| rtt_us + f64::from(sequence * 7 % 100) * 4.0);
            let outcome = if echo_time_us.is_some() { PacketOutcome::Returned } else { PacketOutcome::Lost };
            let returned_us = echo_time_us.map(|us| sent_us + us);
            let (stream, due_us) = (StreamKind::Ping, sent_us);
            let packet =
                PacketLine { stream, sequence, due_us, sent_us: Some(sent_us), returned_us, echo_time_us, outcome };
            text += &json::line(&JsonLine::Packet(packet)).expect("a line");
        }
        text += &run_record::end_line(&run, 0, None, None).expect("a line");
        fs::write(self.path(name), text).expect("a file");
        self.text(name)
    }

    /// Writes the report of a record.
    fn report(&self, record: &str, name: &str) -> String {
        let output = run_args(["probe", "--replay", record, "--json"]);
        assert_eq!(output.code, 0, "{}", output.stderr);
        fs::write(self.path(name), output.stdout).expect("a file");
        self.text(name)
    }
}

fn compare(record: &str, baseline: &str, words: &[&str]) -> ProgramOutput {
    run_args(["probe", "--replay", record, "--baseline", baseline].iter().chain(words))
}

#[test]
fn worse_run_exits_with_1_and_is_a_failure_in_junit_and_markdown() {
    let folder = Folder::new();
    let old = folder.report(&folder.record("old.jsonl", 150, 100, 20_000.0), "old.json");
    let new = folder.record("new.jsonl", 150, 25, 23_000.0);
    let (junit, markdown) = (folder.text("junit.xml"), folder.text("summary.md"));
    let output = compare(&new, &old, &["--junit", &junit, "--markdown", &markdown]);
    assert_eq!(output.code, 1, "{output:?}");
    let verdict = output.stdout.lines().last().expect("a verdict");
    assert_eq!(
        verdict,
        "FAILED: 3000 sent, 4 % lost, RTT p50/p99 23.2/23.4 ms, jitter buffer 2.7 ms, worse than the baseline"
    );
    for reason in [
        "failed: --baseline: loss worse by 3 percentage points",
        "failed: --baseline: mean of p50 worse by 3.015 ms (15 %)",
        "failed: --baseline: mean of p99 worse by 3.000 ms (15 %)",
    ] {
        assert!(output.stdout.lines().any(|line| line == reason), "{output:?}");
    }
    let junit = folder.read("junit.xml");
    for case in ["--baseline loss_ratio", "--baseline rtt_p50_us", "--baseline rtt_p99_us", "--baseline jitter_mean_us"]
    {
        assert!(junit.contains(&format!("<testcase name=\"{case}\"")), "{junit}");
    }
    assert_eq!(junit.matches("type=\"worse\"").count(), 3, "{junit}");
    let markdown = folder.read("summary.md");
    let row = "| loss | 1 % | 4 % | +3 points | ";
    assert!(markdown.lines().any(|line| line.starts_with(row) && line.ends_with("| **worse** |")), "{markdown}");
}

#[test]
fn equal_or_better_run_exits_with_0() {
    let folder = Folder::new();
    let old = folder.report(&folder.record("old.jsonl", 150, 100, 20_000.0), "old.json");
    let equal = folder.record("equal.jsonl", 150, 100, 20_010.0);
    let output = compare(&equal, &old, &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.ends_with(", not worse than the baseline\n"), "{output:?}");
    let better = folder.record("better.jsonl", 150, 1_000, 15_000.0);
    let output = compare(&better, &old, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&output.stdout).expect("a report");
    let results: Vec<&str> = report["comparison"]["figures"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|figure| figure["result"].as_str())
        .collect();
    assert_eq!((output.code, &results[..3]), (0, &["better", "better", "better"][..]), "{output:?}");
    let limited = compare(&better, &old, &["--max-p50", "1ms"]);
    assert_eq!(limited.code, 1, "{limited:?}");
}

#[test]
fn last_line_of_json_lines_is_read_even_after_16_mib_of_packets() {
    let folder = Folder::new();
    let record = folder.record("old.jsonl", 150, 100, 20_000.0);
    let report: serde_json::Value = serde_json::from_str(&folder.read_report(&record)).expect("a report");
    let packets = "{\"type\":\"packet\",\"stream\":\"ping\"}\n";
    for count in [1, (17 << 20) / packets.len()] {
        fs::write(folder.path("lines.jsonl"), packets.repeat(count) + &report.to_string() + "\n").expect("a file");
        let output = compare(&record, &folder.text("lines.jsonl"), &[]);
        assert_eq!(output.code, 0, "{output:?}");
    }
}

impl Folder {
    fn read_report(&self, record: &str) -> String {
        self.report(record, "report.json");
        self.read("report.json")
    }
}

#[test]
fn unusable_baseline_exits_with_3_before_anything_is_sent() {
    let folder = Folder::new();
    let valid = folder.report(&folder.record("valid.jsonl", 150, 100, 20_000.0), "valid.json");
    for (name, text) in [("empty", ""), ("deep", &"[".repeat(1 << 20)), ("list", "[1, 2]"), ("nul", "\0\0")] {
        fs::write(folder.path(name), text).expect("a file");
    }
    fs::write(folder.path("latin1"), b"{\"type\": \"\xff\"}").expect("a file");
    fs::write(folder.path("long"), vec![b'['; (16 << 20) + 1]).expect("a file");
    let cases = [
        (folder.text("missing"), "No such file"),
        (folder.text("."), "not a regular file"),
        ("/dev/zero".to_owned(), "not a regular file"),
        (folder.text("empty"), "not a report of `--json`"),
        (folder.text("deep"), "not a report of `--json`"),
        (folder.text("list"), "not a report of `--json`"),
        (folder.text("nul"), "not a report of `--json`"),
        (folder.text("latin1"), "not UTF-8 text"),
        (folder.text("long"), "the last line is longer than 16 MiB"),
        (folder.text("valid.jsonl"), "not a report of `--json`"),
    ];
    let server = client::server::Server::correct();
    for (file, error) in cases {
        let output = run_args(["probe", "--to", &server.to(), "--duration", "200s", "--baseline", &file]);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        assert!(output.stderr.contains("--baseline: cannot use") && output.stderr.contains(error), "{output:?}");
    }
    let to = server.to();
    let plans: [(&[&str], &str); 3] = [
        (
            &["probe", "--to", &to, "--packet", "audio", "--duration", "200s"],
            "the stream of the earlier run is LATENCY_PING, of this run AUDIO",
        ),
        (
            &["probe", "--embedded", "--moqt", "--duration", "200s"],
            "the transport of the earlier run is UDP, of this run MOQT (quic)",
        ),
        (
            &["send", "--tone", "440", "--duration", "200s", "--to", &to],
            "the command of the earlier run is probe, of this run send",
        ),
    ];
    for (words, error) in plans {
        let output = run_args(words.iter().chain(&["--baseline", &valid]));
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        assert!(output.stderr.contains(error), "{output:?}");
    }
    assert_eq!(server.received().len(), 0);
}

#[cfg(unix)]
#[test]
fn fifo_as_baseline_is_rejected_and_does_not_block() {
    let folder = Folder::new();
    let made = std::process::Command::new("mkfifo").arg(folder.path("fifo")).status().expect("mkfifo");
    assert!(made.success());
    let output = run_args(["probe", "--to", "127.0.0.1:9", "--baseline", &folder.text("fifo")]);
    assert!(output.code == 3 && output.stderr.contains("not a regular file"), "{output:?}");
}

#[test]
fn short_replay_is_undecided_and_the_baseline_is_not_overwritten() {
    let folder = Folder::new();
    let old = folder.report(&folder.record("old.jsonl", 150, 100, 20_000.0), "old.json");
    let short = folder.record("short.jsonl", 20, 100, 21_000.0);
    let output = compare(&short, &old, &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("\nmean of p50: too short to decide; use longer runs\n"), "{output:?}");
    let before = folder.read("old.json");
    let output = compare(&short, &old, &["--junit", &old]);
    assert!(output.code == 2 && output.stderr.contains("are the same file; give different files"), "{output:?}");
    let output =
        run_args(["send", "--tone", "440", "--duration", "200s", "--no-echo", "--to", "127.0.0.1", "--baseline", &old]);
    assert!(output.code == 2 && output.stderr.contains("'--no-echo' cannot be used with '--baseline"), "{output:?}");
    assert_eq!(folder.read("old.json"), before);
}
