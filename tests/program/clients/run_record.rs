//! `--record-run` and `replay`: a report can be reproduced from the packets of its run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use test_support::client::{ProgramOutput, Server, ServerAction, document, measured, program, run, together};
use test_support::server::Server as Signaling;
use test_support::snapshot;

/// The report of one run in all formats.
#[derive(Debug, PartialEq, Eq)]
struct Reports {
    stdout: String,
    junit: String,
    markdown: String,
    html: String,
}

/// Runs the program with the words of `line`, and with JUnit, Markdown and HTML files in `folder`.
fn reports(line: &str, folder: &Path) -> (i32, Reports) {
    let [junit, markdown, html] = ["junit.xml", "summary.md", "page.html"].map(|name| folder.join(name));
    let mut command = program::command(line.split_whitespace());
    command.arg("--junit").arg(&junit).arg("--markdown").arg(&markdown).arg("--html").arg(&html);
    let output = program::start(&mut command).end();
    let read = |file: &PathBuf| fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let (junit, markdown, html) = (read(&junit), read(&markdown), read(&html));
    (output.code, Reports { junit, markdown, html, stdout: output.stdout.clone() })
}

/// Records a run with the words of `line`. Returns the folder, the record, the exit code and the reports.
fn record(line: &str) -> (TempDir, PathBuf, i32, Reports) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("run.jsonl");
    let (code, reports) = reports(&format!("{line} --record-run {}", file.display()), folder.path());
    (folder, file, code, reports)
}

/// Like [`record`] for a run that passes.
fn record_success(line: &str) -> (TempDir, PathBuf) {
    let (folder, file, code, reports) = record(line);
    assert_eq!(code, 0, "{}", reports.stdout);
    (folder, file)
}

fn replay(file: &Path, options: &str) -> ProgramOutput {
    run(&format!("replay {} {options}", file.display()))
}

/// The report of a replayed probe.
fn replayed(code: i32, file: &Path) -> Value {
    let output = replay(file, "--json");
    assert_eq!(output.code, code, "{output:?}");
    document::report(&output)
}

/// A server that loses, damages, repeats and delays packets.
fn faulty_server() -> Server {
    Server::with_delay(Duration::from_millis(2), |packet| match packet.sequence % 10 {
        3 => ServerAction::Silence,
        5 => ServerAction::Damage,
        7 => ServerAction::Times(2),
        8 => ServerAction::AfterNext,
        9 => ServerAction::Later(Duration::from_millis(20)),
        _ => ServerAction::Reply,
    })
}

#[test]
fn replay_reproduces_every_report_byte_for_byte() {
    let (udp, signaling) = (faulty_server(), Signaling::start_signaling(&[]));
    let probe = format!("probe --to {} --count 120 --interval 2ms --timeout 200ms --max-loss 5%", udp.to());
    let send = format!("send --tone 440 --duration 300ms --delay 2ms --timeout 200ms --to {}", udp.to());
    let embedded = "probe --embedded --count 50 --interval 2ms --loss 10% --seed 1 --timeout 200ms".to_owned();
    let moqt = "probe --embedded --moqt --count 20 --interval 2ms".to_owned();
    let unreachable = "probe --to moqt://127.0.0.1:1/echo --timeout 1s".to_owned();
    let websocket = format!("probe --to ws://{} --count 20 --interval 2ms", signaling.address);
    together([probe, send, embedded, moqt, unreachable, websocket], |line| {
        for format in ["", "--json"] {
            let (folder, file, code, recorded) = record(&format!("{line} {format}"));
            let mut runs = [(code, recorded), reports(&format!("replay {} {format}", file.display()), folder.path())];
            if line.starts_with("send") {
                // A replayed page has no waveforms.
                for (_, reports) in &mut runs {
                    reports.html.clear();
                }
            }
            assert!(runs[0] == runs[1], "{line} {format}");
        }
    });
}

#[test]
fn replay_of_an_interrupted_run_has_the_exit_code_of_the_verdict() {
    let (server, folder) = (Server::correct(), TempDir::new().unwrap());
    let file = folder.path().join("run.jsonl");
    let line = format!("probe --count 0 --interval 1ms --json --to {} --record-run {}", server.to(), file.display());
    let running = program::start_line(&line);
    server.wait_for(20);
    running.signal("INT");
    let live = running.end();
    assert_eq!(live.code, 130, "{live:?}");
    let again = replay(&file, "--json");
    let has_failed = document::report(&live)["verdict"]["passed"] == false;
    assert_eq!((again.code, again.stdout), (has_failed.into(), live.stdout));
}

#[test]
fn edited_packet_changes_the_report_and_limits_can_be_replaced() {
    let server = Server::correct();
    // With a limit, a pause of this host can leave too few packets.
    measured(|| {
        let (_folder, file) =
            record_success(&format!("probe --count 60 --interval 20ms --max-loss 1% --to {}", server.to()));
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| {
            let mut packet: Value = serde_json::from_str(line).unwrap();
            if packet["sequence"] == 59 {
                packet["outcome"] = "lost".into();
                (packet["returned_us"], packet["echo_time_us"]) = (Value::Null, Value::Null);
            }
            packet.to_string()
        });
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(replayed(1, &file)["streams"]["ping"]["lost"], 1);
        assert_eq!(replay(&file, "--max-loss 5%").code, 0);
    });
}

#[test]
fn invalid_record_is_rejected_with_the_line_number() {
    let server = Server::correct();
    let (folder, file) = record_success(&format!("probe --count 3 --interval 1ms --to {}", server.to()));
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"type\":\"progress\"")).collect();
    let [options, first, second, third, end, report] = lines[..] else { panic!("{text}") };
    let other_sent = second.replace("\"sent_us\":", "\"sent_us\":1");
    let too_far = second.replace("\"sequence\":1,", "\"sequence\":100,");
    // Neither the progress nor the report is needed.
    let complete = folder.path().join("complete.jsonl");
    fs::write(&complete, [options, first, second, third, end].join("\n")).unwrap();
    assert_eq!(replayed(0, &complete), replayed(0, &file));
    let newer_options = options.replace("\"record_version\":3", "\"record_version\":4,\"more\":[]");
    let progress = "{\"type\":\"progress\",\"elapsed_ns\":1,\"packets\":[0,1,0],\"packets_dropped\":7}\n";
    let cases: [&[&str]; 13] = [
        &[],
        &[first],
        &["{", "  \"type\": \"report\","],
        &["hello"],
        &[&newer_options, first, end],
        &[options, progress],
        &[options, first, second, third, end, report, options],
        &[options, first, second, third, end, report, first],
        &[options, first, "{\"type\":\"packet\"", end],
        &[options, first, &other_sent, third, end],
        &[options, first, &too_far, third, end],
        &[options, first, third, end],
        &[options, first, second, third, end, end],
    ];
    let damaged = folder.path().join("damaged.jsonl");
    let errors = cases.map(|lines| {
        fs::write(&damaged, lines.join("\n")).unwrap();
        let output = replay(&damaged, "");
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        output.stderr.replace(&folder.path().display().to_string(), "FOLDER")
    });
    snapshot::assert_matches("clients/run_record_errors", &errors.concat());
}

/// Which packets of such a record are lost is tested in crates/measure.
#[test]
fn record_of_a_killed_run_is_reported_as_interrupted() {
    let (server, folder) = (Server::correct(), TempDir::new().unwrap());
    let file = folder.path().join("run.jsonl");
    let running = program::start_line(&format!(
        "probe --count 0 --interval 2ms --to {} --record-run {}",
        server.to(),
        file.display()
    ));
    server.wait_for(200);
    running.signal("KILL");
    running.end();
    let mut text = fs::read_to_string(&file).unwrap();
    // A file system may cut the last line.
    text.truncate(text.trim_end().len() - 5);
    fs::write(&file, &text).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let packets = lines.filter(|line| line["sequence"].is_u64()).count() as u64;
    let report = replayed(0, &file);
    assert_eq!((&report["interrupted"], &report["target"]), (&"unknown".into(), &server.to().into()));
    let [sent, returned, excluded] = document::counts(&report, "ping", ["sent", "returned", "excluded"]);
    assert!(sent >= packets && (returned..=returned + excluded).contains(&packets), "{packets}: {report:#}");
}

#[test]
fn record_that_cannot_be_written_fails_the_run() {
    let output = run("probe --count 3 --embedded --record-run /dev/full");
    assert_eq!(output.code, 3, "{output:?}");
    let error = "--record-run: cannot write /dev/full";
    assert!(output.stdout.contains("measured") && output.stderr.contains(error), "{output:?}");
}
