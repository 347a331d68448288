//! `--baseline`: exit codes, report files, and files that are not usable. The runs are replays of records with known packets.

use std::fs;

use jamjam_dev::client::{PacketOutcome, RunKind, RunResults, StreamKind};
use jamjam_dev::report::json::{self, JsonLine, PacketLine};
use jamjam_dev::report::limits::Limits;
use jamjam_dev::report::run_record::{self, RecordedOptions};
use jamjam_dev::stats::StreamStats;
use tempfile::TempDir;
use test_support::client::{ProgramOutput, Server, run_args};
use test_support::snapshot;

/// Run records and reports in a folder.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn text(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.text(name)).expect("a file")
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
        fs::write(self.text(name), text).expect("a file");
        self.text(name)
    }

    /// Writes the report of a record.
    fn report(&self, record: &str, name: &str) -> String {
        let output = run_args(["probe", "--replay", record, "--json"]);
        assert_eq!(output.code, 0, "{}", output.stderr);
        fs::write(self.text(name), output.stdout).expect("a file");
        self.text(name)
    }
}

fn compare(record: &str, baseline: &str, words: &[&str]) -> ProgramOutput {
    run_args(["probe", "--replay", record, "--baseline", baseline].iter().chain(words))
}

#[test]
fn worse_run_exits_with_1_and_is_a_failure_in_all_reports() {
    let folder = Folder::new();
    let old = folder.report(&folder.record("old.jsonl", 150, 100, 20_000.0), "old.json");
    let new = folder.record("new.jsonl", 150, 25, 23_000.0);
    let (junit, markdown) = (folder.text("junit.xml"), folder.text("summary.md"));
    let output = compare(&new, &old, &["--junit", &junit, "--markdown", &markdown]);
    assert_eq!(output.code, 1, "{output:?}");
    snapshot::assert_matches(
        "send_and_probe/baseline_worse",
        &output.stdout.replace(env!("CARGO_PKG_VERSION"), "VERSION"),
    );
    assert_eq!(folder.read("junit.xml").matches("type=\"worse\"").count(), 3);
    let row = "| loss | 1 % | 4 % | +3 points | ";
    let markdown = folder.read("summary.md");
    assert!(markdown.lines().any(|line| line.starts_with(row) && line.ends_with("| **worse** |")), "{markdown}");
}

#[test]
fn last_line_of_json_lines_is_read_even_after_16_mib_of_packets() {
    let folder = Folder::new();
    let record = folder.record("old.jsonl", 150, 100, 20_000.0);
    folder.report(&record, "report.json");
    let report: serde_json::Value = serde_json::from_str(&folder.read("report.json")).expect("a report");
    let packets = "{\"type\":\"packet\",\"stream\":\"ping\"}\n";
    for count in [1, (17 << 20) / packets.len()] {
        fs::write(folder.text("lines.jsonl"), packets.repeat(count) + &report.to_string() + "\n").expect("a file");
        let output = compare(&record, &folder.text("lines.jsonl"), &[]);
        assert_eq!(output.code, 0, "{output:?}");
    }
    // The limits apply as well.
    assert_eq!(compare(&record, &folder.text("lines.jsonl"), &["--max-p50", "1ms"]).code, 1);
}

#[test]
fn unusable_baseline_exits_with_3_before_anything_is_sent() {
    let folder = Folder::new();
    let valid = folder.report(&folder.record("valid.jsonl", 150, 100, 20_000.0), "valid.json");
    let deep = "[".repeat(1 << 20).into_bytes();
    for (name, bytes) in [("empty", &b""[..]), ("deep", &deep), ("latin1", b"{\"type\": \"\xff\"}")] {
        fs::write(folder.text(name), bytes).expect("a file");
    }
    fs::write(folder.text("long"), vec![b'['; (16 << 20) + 1]).expect("a file");
    let made = std::process::Command::new("mkfifo").arg(folder.text("fifo")).status().expect("mkfifo");
    assert!(made.success());
    let server = Server::correct();
    let to = server.to();
    let probe = ["probe", "--to", &to];
    let cases = [
        (&probe[..], folder.text("fifo"), "not a regular file"),
        (&probe, folder.text("empty"), "not a report of `--json`"),
        (&probe, folder.text("deep"), "not a report of `--json`"),
        (&probe, folder.text("valid.jsonl"), "not a report of `--json`"),
        (&probe, folder.text("latin1"), "not UTF-8 text"),
        (&probe, folder.text("long"), "the last line is longer than 16 MiB"),
        (
            &["probe", "--to", &to, "--packet", "audio"],
            valid.clone(),
            "the stream of the earlier run is LATENCY_PING, of this run AUDIO",
        ),
        (
            &["probe", "--embedded", "--moqt"],
            valid.clone(),
            "the transport of the earlier run is UDP, of this run MOQT (quic)",
        ),
        (&["send", "--tone", "440", "--to", &to], valid, "the command of the earlier run is probe, of this run send"),
    ];
    for (words, file, error) in cases {
        let output = run_args(words.iter().chain(&["--duration", "200s", "--baseline", &file]));
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        assert!(output.stderr.contains("--baseline: ") && output.stderr.contains(error), "{output:?}");
    }
    assert_eq!(server.received().len(), 0);
}
