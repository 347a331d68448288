//! The live view on a terminal, and `--progress` without one. The tool `script` provides the terminal.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use test_support::client;

use client::at_once;
use client::document;
use client::program::{command, run};
use test_support::server::poll_until;

/// Erases the view: the cursor moves up, then everything below is erased.
const ERASE: &str = "A\r\u{1b}[J";

/// A run whose standard error is a terminal of 80 columns and 24 rows.
struct TerminalRun {
    /// The exit code.
    code: i32,
    /// Everything that the terminal received.
    terminal: String,
    /// Standard output, which is a file.
    stdout: String,
}

/// Runs the program with standard error on a terminal. If `stop_at` is given, the program is interrupted with Ctrl-C as soon as the terminal
/// has received this text.
fn run_in_terminal(line: &str, columns: u16, stop_at: Option<&str>) -> TerminalRun {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let program = command(line.split_whitespace());
    let words: Vec<&str> =
        [program.get_program()].into_iter().chain(program.get_args()).map(|word| word.to_str().unwrap()).collect();
    let shell = format!("stty cols {columns} rows 24; exec {} >{}", words.join(" "), file("stdout").display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--return", "--command", &shell]).arg(file("terminal"));
    script.current_dir(program.get_current_dir().unwrap()).env_remove("NO_COLOR").env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = script.spawn().unwrap();
    if let Some(text) = stop_at {
        poll_until("the view", || received(&file("terminal")).contains(text).then_some(()));
        // The terminal translates this character to SIGINT.
        running.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    }
    let status = poll_until("the end of the run", || running.try_wait().unwrap());
    let code = status.code().unwrap();
    TerminalRun { code, terminal: received(&file("terminal")), stdout: fs::read_to_string(file("stdout")).unwrap() }
}

fn received(file: &Path) -> String {
    fs::read(file).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn terminal_shows_a_view_that_is_erased_before_the_report() {
    let lines = [
        "probe --embedded --delay 0 --audio --interval 5ms --duration 1500ms --json",
        "send --tone 440 --duration 1500ms --embedded --delay 0 --json",
        "probe --embedded --moqt --interval 5ms --duration 1500ms --json",
    ];
    at_once(lines, |line| {
        let run = run_in_terminal(line, 80, None);
        assert_eq!(run.code, 0, "{line}: {}", run.terminal);
        for text in
            ["sent ", "packets/s", "lost 0 (0 %)", "last 10 s: 0 %", "burst now: 0", "round trip ", "p50 ", "jitter "]
        {
            assert!(run.terminal.contains(text), "{line}: no {text}: {}", run.terminal);
        }
        assert_eq!(run.terminal.contains("level sent -"), line.starts_with("send"), "{line}");
        let last = run.terminal.rfind(ERASE).expect("the view is erased");
        assert!(!run.terminal[last..].contains("round trip"), "{line}: {}", &run.terminal[last..]);
        // Standard output contains the report and nothing else.
        assert!(run.stdout.starts_with('{') && !run.stdout.contains('\u{1b}'), "{line}");
    });
}

#[test]
fn every_line_of_the_view_fits_the_terminal() {
    at_once([80, 40, 11, 2], |columns| {
        let line = "send --tone 440 --duration 1500ms --embedded --delay 0 --loss 5% --timeout 200ms";
        let run = run_in_terminal(line, columns, None);
        assert_eq!(run.code, 0, "{}", run.terminal);
        let view = &run.terminal[..run.terminal.rfind(ERASE).expect("the view is erased")];
        let drawn = view.split(['\r', '\n']).filter(|line| line.contains("\u{1b}[K"));
        for line in drawn {
            let mut visible = String::new();
            for part in line.split('\u{1b}').enumerate() {
                let (number, text) = part;
                let text = if number == 0 {
                    text
                } else {
                    text.split_once(|letter: char| letter.is_ascii_alphabetic()).map_or("", |(_, rest)| rest)
                };
                visible += text;
            }
            assert!(visible.chars().count() < usize::from(columns), "{columns}: {visible:?}");
        }
    });
}

#[test]
fn ctrl_c_erases_the_view_and_prints_the_report_so_far() {
    let run = run_in_terminal("probe --embedded --count 0 --interval 5ms", 80, Some("p50"));
    assert_eq!(run.code, 130, "{}", run.terminal);
    assert!(run.stdout.contains("interrupted by SIGINT") && run.stdout.contains("\nmeasured: "), "{}", run.stdout);
    let last = run.terminal.rfind(ERASE).expect("the view is erased");
    assert!(!run.terminal[last..].contains("round trip"), "{}", run.terminal);
}

#[test]
fn quiet_and_color_never_apply_to_the_view() {
    let line = "probe --embedded --count 50 --interval 5ms --loss 20% --timeout 100ms --json";
    let quiet = run_in_terminal(&format!("{line} --quiet --progress"), 80, None);
    assert_eq!((quiet.code, quiet.terminal.contains("sent "), quiet.terminal.contains('\u{1b}')), (0, false, false));
    let plain = run_in_terminal(&format!("{line} --color never"), 80, None);
    assert!(plain.terminal.contains("lost ") && !plain.terminal.contains("\u{1b}[0"), "{}", plain.terminal);
    let colored = run_in_terminal(line, 80, None);
    assert!(
        colored.terminal.contains("\u{1b}[0;1m") && colored.terminal.contains("\u{1b}[0;36m"),
        "{}",
        colored.terminal
    );
}

#[test]
fn progress_prints_a_line_per_second_without_a_terminal() {
    let run_line = "probe --embedded --interval 10ms --duration 3500ms --json";
    let output = run(&format!("{run_line} --progress"));
    assert_eq!(document::report(&output)["verdict"]["passed"], true);
    let lines: Vec<&str> = output.stderr.lines().collect();
    // A slow machine may miss seconds, but prints no second twice.
    assert!((1..=4).contains(&lines.len()), "{lines:?}");
    let mut previous = -1;
    for line in lines {
        let text = line.strip_prefix("jamjam-dev: ").unwrap();
        let (seconds, rest) = text.split_once(" s: ").unwrap();
        let seconds: i32 = seconds.parse().unwrap();
        assert!(
            seconds > previous && rest.contains(" sent, 0 % lost, round trip ") && rest.contains(", jitter "),
            "{line}"
        );
        previous = seconds;
    }
    for option in ["", "--progress --quiet"] {
        assert_eq!(run(&format!("{run_line} {option}")).stderr, "", "{option}");
    }
}

#[test]
fn progress_waits_for_the_first_reply() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = run(&format!("probe {} --wait-for 1500ms --progress", silent.local_addr().unwrap()));
    assert_eq!((output.code, output.stderr.as_str()), (1, "jamjam-dev: waiting for the first reply\n"));
}
