//! The contents of standard output and standard error, and the behavior when they are closed.

use std::fs::File;
use std::io::Read;

use test_support::client::{ProgramOutput, Server, document, program, run, run_to_success, together};
use test_support::server::Server as Signaling;

use crate::clients::{codes, report};

const SEND: &str = "send --wav fixtures/audio/music-16bit-stereo-44k1.wav --duration 20ms --embedded --delay 0";
const PROBE: &str = "probe --embedded --count 3 --interval 1ms";
const ESCAPE: char = '\u{1b}';

/// Runs the program with `value` in the environment variable `name`.
fn run_with(name: &str, value: &str, line: &str) -> ProgramOutput {
    program::start(program::command(line.split_whitespace()).env(name, value)).end()
}

#[test]
fn standard_output_contains_only_the_report() {
    together([SEND, PROBE], |line| {
        let text = run(line);
        let first = format!("{} embedded echo server (", if line == SEND { "send to" } else { "probe of" });
        assert!(text.stdout.starts_with(&first) && text.stdout.contains("\nmeasured: "), "{text:?}");
        let json = run(&format!("{line} --json"));
        assert_eq!(document::report(&json)["verdict"]["passed"], true);
        let (packets, _) = document::lines(&run(&format!("{line} --json-lines")));
        assert!(packets.len() >= 3);
        // Standard error is the same for every report format.
        assert_eq!(text.stderr, json.stderr);
        assert_eq!(text.stderr.lines().count(), if line == SEND { 2 } else { 0 }, "{}", text.stderr);
    });
}

#[test]
fn pipe_output_has_no_colors_or_progress_unless_requested() {
    let plain = [run(SEND), run(PROBE), run(&format!("{PROBE} --color never")), run_with("NO_COLOR", "1", PROBE)];
    for output in plain {
        assert!(!output.stdout.contains(ESCAPE) && !output.stderr.contains([ESCAPE, '\r']), "{output:?}");
    }
    together([format!("{PROBE} --color always"), format!("--color always {PROBE}")], |line| {
        // `--color always` takes precedence over NO_COLOR.
        for output in [run(&line), run_with("NO_COLOR", "1", &line)] {
            assert!(output.code == 0 && output.stdout.contains("\u{1b}[1mmeasured\u{1b}[0m"), "{}", output.stdout);
        }
    });
    report(0, &format!("{PROBE} --color always"));
}

#[test]
fn closed_pipe_ends_the_output_of_every_command_quietly() {
    let server = Signaling::start_signaling(&[]);
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    run_to_success(&format!("{PROBE} --record-run {}", record.display()));
    let lines = [
        "--version",
        "--help",
        "help echo-server",
        "generate man",
        "generate complete-bash",
        "generate complete-zsh",
        "generate complete-fish",
        "devices",
        "publish --embedded --text words",
        &format!("{SEND} --json"),
        PROBE,
        &format!("{PROBE} --json"),
        // An endless run, too.
        "probe --embedded --count 0 --interval 1ms --json-lines",
        "doctor",
        &format!("rooms ws://{}", server.address),
        &format!("replay {}", record.display()),
        "probe host.invalid --json",
        "echo-server --host 127.0.0.1 --port 0 --check --duration 100ms",
        "signaling-server --host 127.0.0.1 --port 0 --check --duration 100ms",
        "token a:radio:60 --hmac-secret secret",
    ];
    together(lines, |line| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program::start(program::command(line.split_whitespace()).stdout(writer)).end();
        // A panic, which the program's end would report with code 101, is not quiet.
        assert!([0, 1, 3].contains(&output.code) && !output.stderr.contains("Broken pipe"), "{line}: {output:?}");
    });
}

#[test]
fn full_disk_is_reported_and_full_standard_error_is_ignored() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for line in [PROBE.to_owned(), format!("{PROBE} --json"), format!("{PROBE} --json-lines")] {
        let output = program::start(program::command(line.split_whitespace()).stdout(full())).end();
        assert_eq!(output.code, 3, "{output:?}");
        assert!(output.stderr.starts_with("jamjam-dev: cannot write to standard output: "), "{}", output.stderr);
    }
    let output = program::start(program::command(SEND.split_whitespace()).stderr(full())).end();
    assert_eq!(output.code, 0, "{output:?}");
    let failing = "send --wav missing.wav --embedded";
    let output = program::start(program::command(failing.split_whitespace()).stderr(full())).end();
    assert_eq!(output.code, 3, "{output:?}");
}

#[test]
fn packet_lines_are_flushed_at_once_and_two_signals_act_as_one() {
    let server = Server::correct();
    let line = format!("probe --count 0 --interval 1s --json-lines --to {}", server.to());
    let mut program = program::start_line(&line);
    // Lines are received while the program still runs. Therefore, the program does not hold its output in a buffer.
    let (first, mut stdout) = program.first_line_with(r#""type":"packet""#);
    document::valid(&first);
    assert!(program.is_running());
    // `timeout --signal INT` of coreutils sends the signal to its child and then to the child's process group.
    for _ in 0..2 {
        program.signal("INT");
    }
    assert_eq!(program.end().code, 130);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().last().unwrap().starts_with(r#"{"type":"report""#), "{rest}");
}

#[test]
fn receive_buffer_overflow_is_reported() {
    // The program sends 64 pings before it reads a reply. The smallest buffer holds only a few replies.
    let small = "probe --embedded --count 5000 --interval 1us --timeout 200ms --socket-buffer 1";
    for (line, overflows) in [(small, true), ("probe --embedded --count 5 --interval 1ms", false)] {
        // If the machine is busy, too few packets are sent for a verdict.
        let report = document::report(&run(&format!("{line} --json")));
        assert_eq!(report["host_timing"]["kernel_dropped"].as_u64() > Some(0), overflows, "{report:#}");
        assert_eq!(codes(&report).contains(&"kernel_dropped"), overflows, "{report:#}");
    }
}
