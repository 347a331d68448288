//! The live view on a terminal, and `--progress` without one. The tool `script` provides the terminal.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use test_support::client;

use client::at_once;
use client::document;
use client::program::note_pauses;
use client::program::{command, run};
use test_support::server::poll_until;

/// Erases the view: the cursor moves up, then everything below is erased.
const ERASE: &str = "A\r\u{1b}[J";

/// A program that runs in a terminal.
struct TerminalProgram {
    folder: TempDir,
    running: Child,
}

/// The end of a run in a terminal.
struct TerminalRun {
    /// The exit code.
    code: i32,
    /// Everything that the terminal received.
    terminal: String,
    /// Standard output, if it is a file.
    stdout: String,
}

/// A terminal of 80 columns and 24 rows in which standard output is redirected to a file.
const TERMINAL: Terminal = Terminal { columns: 80, rows: 24, name: "xterm", shell: "exec PROGRAM >STDOUT" };

#[derive(Clone, Copy)]
struct Terminal {
    columns: u16,
    rows: u16,
    /// TERM.
    name: &'static str,
    /// The shell command. PROGRAM stands for the program with its arguments, STDOUT for the file of standard output.
    shell: &'static str,
}

impl Terminal {
    fn start(self, line: &str) -> TerminalProgram {
        let folder = TempDir::new().unwrap();
        let program = command(line.split_whitespace());
        let words: Vec<&str> =
            [program.get_program()].into_iter().chain(program.get_args()).map(|word| word.to_str().unwrap()).collect();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let shell = self.shell.replace("PROGRAM", &words.join(" ")).replace("STDOUT", &file("stdout"));
        let shell = format!("stty cols {} rows {}; tty >{}; {shell}", self.columns, self.rows, file("tty"));
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", &shell, &file("terminal")]);
        script.current_dir(program.get_current_dir().unwrap()).env_remove("NO_COLOR").env("TERM", self.name);
        script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = script.spawn().unwrap();
        TerminalProgram { folder, running }
    }

    fn run(self, line: &str) -> TerminalRun {
        self.start(line).end()
    }
}

impl TerminalProgram {
    /// Waits until the terminal has received a text for which `is_expected` is true.
    fn wait_for(&self, what: &str, is_expected: impl Fn(&str) -> bool) {
        poll_until(what, || is_expected(&self.received()).then_some(()));
    }

    fn received(&self) -> String {
        received(&self.folder.path().join("terminal"))
    }

    /// Presses keys. The terminal translates \x03 to SIGINT and \x1a to SIGTSTP.
    fn press(&mut self, keys: &[u8]) {
        self.running.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    fn resize(&self, columns: u16) {
        let terminal = fs::read_to_string(self.folder.path().join("tty")).unwrap();
        let columns = columns.to_string();
        let status = Command::new("stty").args(["-F", terminal.trim(), "cols", &columns]).status().unwrap();
        assert!(status.success());
    }

    fn end(mut self) -> TerminalRun {
        let status = poll_until("the end of the run", || self.running.try_wait().unwrap());
        let (stdout, terminal) = (received(&self.folder.path().join("stdout")), self.received());
        note_pauses(&[&stdout, &terminal]);
        TerminalRun { code: status.code().unwrap(), terminal, stdout }
    }
}

/// Runs the program with standard error on a terminal. If `stop_at` is given, the program is interrupted with Ctrl-C as soon as the terminal
/// has received this text.
fn run_in_terminal(line: &str, columns: u16, stop_at: Option<&str>) -> TerminalRun {
    let mut program = Terminal { columns, ..TERMINAL }.start(line);
    if let Some(text) = stop_at {
        program.wait_for("the view", |terminal| terminal.contains(text));
        program.press(b"\x03");
    }
    program.end()
}

/// The numbers of rows by which the cursor moved up.
fn moves_up(terminal: &str) -> Vec<usize> {
    let sequences = terminal.split("\u{1b}[").skip(1);
    sequences.filter_map(|text| text.split_once('A')?.0.parse().ok()).collect()
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

/// The lines that were drawn, without color sequences.
fn drawn_lines(terminal: &str) -> Vec<String> {
    let drawn = terminal.split(['\r', '\n']).filter(|line| line.contains("\u{1b}[2K"));
    let visible = |line: &str| {
        let (first, sequences) = line.split_once('\u{1b}').unwrap();
        let after_sequence =
            |text: &str| text.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest).to_owned();
        first.to_owned() + &sequences.split('\u{1b}').map(after_sequence).collect::<String>()
    };
    drawn.map(visible).collect()
}

#[test]
fn every_line_fits_and_a_narrow_view_begins_with_the_loss() {
    let line = "send --tone 440 --duration 1500ms --embedded --delay 0 --loss 5% --timeout 200ms";
    at_once([80, 59, 20, 19, 2], |columns| {
        let run = run_in_terminal(line, columns, None);
        assert_eq!(run.code, 0, "{}", run.terminal);
        let lines = drawn_lines(&run.terminal);
        for line in &lines {
            assert!(line.chars().count() < usize::from(columns), "{columns}: {line:?}");
        }
        let is_loss = |line: &String| line.starts_with("lost ") && line.contains(" %)");
        assert_eq!(lines.iter().any(is_loss), (20..60).contains(&columns), "{columns}: {lines:?}");
        assert_eq!(run.terminal.contains('\u{1b}'), columns >= 20, "{columns}: {}", run.terminal);
    });
}

#[test]
fn view_leaves_one_row_of_a_low_terminal_free() {
    let line = "probe --embedded --delay 0 --interval 5ms --duration 1500ms";
    at_once([24, 4, 2, 1], |rows| {
        let run = Terminal { rows, ..TERMINAL }.run(line);
        assert_eq!(run.code, 0, "{}", run.terminal);
        let highest = moves_up(&run.terminal).into_iter().max().unwrap_or(0);
        assert_eq!(highest, usize::from(rows - 1).min(4), "{rows}: {}", run.terminal);
        // The most important lines remain: the loss, then the title and the round trip.
        let shown =
            ["lost 0", "packets/s", "round trip ", "max of each second"].map(|text| run.terminal.contains(text));
        let expected = match rows {
            24 => [true; 4],
            4 => [true, true, true, false],
            2 => [true, false, false, false],
            _ => [false; 4],
        };
        assert_eq!(shown, expected, "{rows}: {}", run.terminal);
    });
}

#[test]
fn narrowed_terminal_keeps_no_remains_of_wrapped_lines() {
    let mut program = TERMINAL.start("probe --embedded --count 0 --interval 5ms --loss 20% --timeout 100ms");
    let has_long_lines = |terminal: &str| {
        let lines = drawn_lines(terminal);
        moves_up(terminal).last() == Some(&4) && lines.iter().rev().take(4).any(|line| line.chars().count() > 62)
    };
    program.wait_for("a view with long lines", has_long_lines);
    let before = moves_up(&program.received()).len();
    program.resize(61);
    program.wait_for("a view after the change", |terminal| moves_up(terminal).len() > before + 5);
    program.press(b"\x03");
    let run = program.end();
    let after = &moves_up(&run.terminal)[before..];
    assert!(after.iter().any(|rows| *rows > 4), "{after:?}: {}", run.terminal);
    assert_eq!(after.last(), Some(&4), "{after:?}");
}

#[test]
fn packet_lines_on_the_same_terminal_are_not_overwritten() {
    let terminal = Terminal { shell: "exec PROGRAM", ..TERMINAL };
    let run = terminal.run("probe --embedded --json-lines --interval 100ms --duration 1s");
    assert_eq!((run.code, run.terminal.contains('\u{1b}')), (0, false), "{}", run.terminal);
    let lines = run.terminal.lines().filter(|line| line.starts_with('{'));
    assert_eq!(lines.filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count(), 11);
    // Without packet lines on this terminal, there is a view.
    let run = TERMINAL.run("probe --embedded --json-lines --interval 100ms --duration 1s");
    assert!(run.terminal.contains(ERASE), "{}", run.terminal);
}

#[test]
fn background_job_draws_nothing() {
    let terminal = Terminal { shell: "bash -c 'set -m; PROGRAM >STDOUT & wait'", ..TERMINAL };
    let run = terminal.run("probe --embedded --interval 5ms --duration 1s");
    assert_eq!((run.code, run.terminal.contains('\u{1b}')), (0, false), "{}", run.terminal);
    assert!(run.stdout.contains("\nmeasured: "), "{}", run.stdout);
}

#[test]
fn job_that_leaves_the_foreground_keeps_the_lines_of_the_shell() {
    let shells = [
        "bash -c 'set -m; PROGRAM >STDOUT; echo SHELL; bg; wait'",
        "bash -c 'set -m; PROGRAM >STDOUT; sleep 1.5; echo SHELL; fg'",
    ];
    at_once(shells, |shell| {
        let mut program = Terminal { shell, ..TERMINAL }.start("probe --embedded --interval 5ms --duration 3s");
        program.wait_for("the view", |terminal| terminal.contains("p50"));
        program.press(b"\x1a");
        let run = program.end();
        assert!(run.stdout.contains("\nmeasured: "), "{}", run.stdout);
        let (_, after) = run.terminal.split_once("\nSHELL\r").unwrap();
        // In the foreground, the view is drawn again, below the lines of the shell.
        let drawn = after.find("\u{1b}[2K");
        assert_eq!(drawn.is_some(), shell.contains("fg"), "{}", run.terminal);
        assert!(moves_up(&after[..drawn.unwrap_or(after.len())]).is_empty(), "{after}");
    });
}

#[test]
fn terminal_without_cursor_sequences_receives_none() {
    at_once(["dumb", ""], |name| {
        let terminal = Terminal { name, shell: "exec PROGRAM", ..TERMINAL };
        let run = terminal.run("probe --embedded --interval 5ms --duration 1500ms --loss 20% --progress");
        assert_eq!((run.code, run.terminal.contains('\u{1b}')), (0, false), "{}", run.terminal);
        assert!(run.terminal.contains(" sent, ") && run.terminal.contains("measured: "), "{}", run.terminal);
    });
    let run = Terminal { shell: "exec PROGRAM --quiet", ..TERMINAL }.run("probe --embedded --count 1 --max-loss 0%");
    assert!(run.terminal.contains("\u{1b}["), "{}", run.terminal);
}

#[test]
fn end_of_sending_is_shown_instead_of_a_rate_of_zero() {
    let line = "send --tone 440 --duration 500ms --embedded --delay 0 --loss 50% --timeout 4s";
    let run = run_in_terminal(line, 80, None);
    for text in ["waiting for missing replies", "level sent -, returned -"] {
        assert!(run.terminal.contains(text), "no {text}: {}", run.terminal);
    }
    assert!(!run.terminal.contains(" 0 packets/s") && !run.terminal.contains("silent"), "{}", run.terminal);
}

#[test]
fn answered_packets_are_not_reported_as_silence() {
    let run = run_in_terminal("probe --embedded --count 2 --interval 2500ms", 80, None);
    assert!(run.terminal.contains("sent 1 of 2") && !run.terminal.contains("no reply"), "{}", run.terminal);
}

#[test]
fn ctrl_c_erases_the_view_and_prints_the_report_so_far() {
    let run = run_in_terminal("probe --embedded --count 0 --interval 5ms", 80, Some("p50"));
    assert_eq!(run.code, 130, "{}", run.terminal);
    assert!(run.stdout.contains("interrupted by SIGINT") && run.stdout.contains("\nINTERRUPTED: "), "{}", run.stdout);
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
    let mut previous = 0;
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
