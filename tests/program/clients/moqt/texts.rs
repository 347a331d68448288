//! `publish`: typed text returns line by line.

use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::json;
use test_support::client::{ProgramOutput, command, document, run, run_args, start as start_program};

use crate::clients::moqt::scripted_server::{ScriptedServer, ServerAction};
use crate::echo_server::moqt::start;

/// The printed lines, sorted: groups may overtake each other.
fn lines(output: &ProgramOutput) -> Vec<&str> {
    let mut lines: Vec<&str> = output.stdout.strip_suffix('\n').unwrap_or_default().split('\n').collect();
    lines.sort_unstable();
    lines
}

#[test]
fn texts_return_as_lines_with_the_result_on_standard_error() {
    let (_server, log) = start(&[]);
    for scheme in ["moqt", "https"] {
        let url = format!("{scheme}://localhost:{}/echo", log.port());
        let line = ["publish", "--text", "hello", "--text", "", "--text", "日本 京都", "--interval", "20ms", &url];
        let output = run_args(line.into_iter().chain(log.trusted("").split_whitespace()));
        assert_eq!((output.code, lines(&output)), (0, vec!["", "hello", "日本 京都"]), "{output:?}");
        assert!(output.stderr.starts_with("jamjam-dev: 3 sent"), "{}", output.stderr);
        assert!(output.stderr.contains(", DNS "), "{}", output.stderr);
        // A pause of this host is a warning.
        assert!(output.stderr.lines().skip(1).all(|line| line.contains("did not run")), "{}", output.stderr);
    }
}

#[test]
fn typed_lines_return_without_line_endings_while_standard_input_is_open() {
    let line = "publish --embedded --text - --interval 1ms";
    let mut program = start_program(command(line.split(' ')).stdin(Stdio::piped()));
    let mut typed = program.0.stdin.take().unwrap();
    typed.write_all(b"first\r\n").unwrap();
    let (first, mut rest) = program.first_line();
    typed.write_all(b"\nno end").unwrap();
    // The end of standard input ends the run.
    drop(typed);
    let mut output = program.end();
    rest.read_to_string(&mut output.stdout).unwrap();
    assert_eq!((output.code, first.trim_end(), lines(&output)), (0, "first", vec!["", "no end"]), "{output:?}");
}

#[test]
fn lost_or_changed_text_fails_the_run() {
    let lost = [(1, ServerAction::Drop), (2, ServerAction::Drop)];
    let changed = [(1, ServerAction::Damage), (2, ServerAction::Twice)];
    let no_reply = "jamjam-dev: FAILED: no replies received\n";
    for (actions, stdout, started, ended) in [
        (lost, vec![""], "jamjam-dev: 2 sent, 100 % lost; MOQT: transport ", no_reply),
        (changed, vec!["again", "again", "iello"], "", "FAILED: 1 of 2 MOQT frames returned damaged\n"),
    ] {
        let server = ScriptedServer::start(actions);
        let options = server.trusted("--text hello --text again --interval 500ms --timeout 300ms");
        let output = run(&format!("publish {} {options}", server.url));
        assert_eq!(lines(&output), stdout, "{output:?}");
        // A text that was in flight during a pause of this host is not judged.
        let is_failure = output.code == 1 && output.stderr.starts_with(started) && output.stderr.ends_with(ended);
        assert!(is_failure || output.code == 4 && output.stderr.contains("did not run for "), "{output:?}");
    }
}

#[test]
fn json_output_replaces_the_text_lines() {
    let output = run("publish --embedded --text hello --json");
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:?}");
    let report = document::report(&output);
    assert_eq!((&report["command"], &report["evaluated_stream"]), (&json!("publish"), &json!("ping")));
    assert_eq!(document::counts(&report, "ping", ["sent", "lost"]), [1, 0]);
}
