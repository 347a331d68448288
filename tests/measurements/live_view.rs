//! The live view on a terminal. The tool `script` provides the terminal.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use test_support::client::{Server, command, measured, note_end, together};
use test_support::server::poll_until;

/// Erases the view: the row that contains the cursor.
const ERASE: &str = "\r\u{1b}[2K";

/// Begins each line of the view.
const DRAW: &str = "\u{1b}[J";

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
        script.current_dir(program.get_current_dir().unwrap());
        script.env_remove("NO_COLOR").env_remove("CI").env("TERM", self.name);
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
        poll_until(what, || is_expected(&self.read("terminal")).then_some(()));
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
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
        let (stdout, mut terminal) = (self.read("stdout"), self.read("terminal"));
        note_end(status.code().unwrap(), &stdout);
        // `script` adds a last line.
        terminal.truncate(terminal.rfind("\nScript done").expect("the last line"));
        TerminalRun { code: status.code().unwrap(), terminal, stdout }
    }
}

/// The lines that were drawn, without trailing spaces. Asserts that they contain no control sequences and the cursor did not change its row.
fn drawn_lines(terminal: &str) -> Vec<&str> {
    for sequence in terminal.split('\u{1b}').skip(1) {
        assert!(sequence.starts_with("[J") || sequence.starts_with("[2K"), "{sequence:?}: {terminal}");
    }
    terminal.split(DRAW).skip(1).map(|text| text.split(['\r', '\u{1b}']).next().unwrap().trim_end()).collect()
}

#[test]
fn terminal_shows_a_bar_that_is_erased_before_the_report() {
    measured(|| {
        let lines = [
            "probe --embedded --delay 0 --packet audio --interval 5ms --duration 1500ms --json",
            "send --tone 440 --duration 1500ms --embedded --delay 0 --json",
            "probe --embedded --moqt --interval 5ms --duration 1500ms --json",
        ];
        together(lines, |line| {
            let run = TERMINAL.run(line);
            assert_eq!(run.code, 0, "{line}: {}", run.terminal);
            for text in [" % ", "█", "s left  ", "lost 0 (0 %)", "round trip ", "sent "] {
                assert!(run.terminal.contains(text), "{line}: no {text}: {}", run.terminal);
            }
            drawn_lines(&run.terminal);
            assert!(run.terminal.ends_with(ERASE), "{line}: {:?}", run.terminal);
            // Standard output contains the report and nothing else.
            assert!(run.stdout.starts_with('{') && !run.stdout.contains('\u{1b}'), "{line}");
        });
        // Each of several targets has a line of its own.
        let targets = [Server::correct(), Server::correct()].map(|server| (server.to(), server));
        let [(one, _), (other, _)] = &targets;
        let run = TERMINAL.run(&format!("compare {one} {other} --interval 5ms --duration 1500ms --json"));
        assert!(run.code == 0 && run.terminal.ends_with(ERASE) && run.stdout.starts_with('{'), "{:?}", run.terminal);
        for target in [one, other] {
            assert!(run.terminal.contains(&format!("{target}  lost 0 (0 %)")), "no line of {target}: {}", run.terminal);
        }
    });
}

#[test]
fn endless_run_shows_a_spinner_until_ctrl_c_erases_it() {
    let mut program = TERMINAL.start("probe --embedded --count 0 --interval 5ms");
    program.wait_for("the view", |terminal| terminal.contains("lost "));
    program.press(b"\x03");
    let run = program.end();
    assert_eq!(run.code, 130, "{}", run.terminal);
    assert!(run.stdout.contains("received SIGINT") && run.stdout.contains("\nINTERRUPTED: "), "{}", run.stdout);
    let lines = drawn_lines(&run.terminal);
    assert!(lines.iter().any(|line| line.starts_with('⠁')) && !run.terminal.contains('█'), "{lines:?}");
    let (_, after) = run.terminal.split_once("^C").expect("the terminal echoes Ctrl-C");
    assert!(after.ends_with(ERASE) && !after.contains('\n'), "{after:?}");
}

#[test]
fn every_line_fits_and_a_narrow_view_begins_with_the_loss() {
    measured(|| {
        let line = "send --tone 440 --duration 1500ms --embedded --delay 0 --loss 5% --timeout 200ms";
        together([(80, 24), (59, 24), (20, 2), (80, 1), (4, 1)], |(columns, rows)| {
            let run = Terminal { columns, rows, ..TERMINAL }.run(line);
            assert_eq!(run.code, 0, "{}", run.stdout);
            let lines = drawn_lines(&run.terminal);
            assert!(lines.iter().all(|line| line.chars().count() <= usize::from(columns)), "{columns}: {lines:?}");
            let is_loss = |line: &&str| line.starts_with("lost") && !line.contains('█');
            assert_eq!(lines.iter().any(is_loss), columns < 60, "{columns}: {lines:?}");
            assert_eq!(lines.iter().any(|line| line.contains('█')), columns >= 60, "{columns}: {lines:?}");
        });
    });
}

#[test]
fn resized_terminal_keeps_one_row() {
    let mut program = TERMINAL.start("probe --embedded --count 0 --interval 5ms --loss 20% --timeout 100ms");
    program.wait_for("a long line", |terminal| drawn_lines(terminal).iter().any(|line| line.chars().count() > 61));
    let before = program.read("terminal").len();
    for columns in [61, 100] {
        program.resize(columns);
        program.wait_for("a line of another length", |terminal| {
            // A line and the spaces after it fill the row.
            terminal.get(before..).unwrap_or_default().split(DRAW).any(|text| {
                text.split(['\r', '\u{1b}']).next().is_some_and(|row| row.chars().count() == usize::from(columns))
            })
        });
    }
    program.press(b"\x03");
    drawn_lines(&program.end().terminal);
}

#[test]
fn nothing_is_drawn_where_it_would_disturb() {
    measured(|| {
        const PROBE: &str = "probe --embedded --interval 100ms --duration 1500ms";
        let direct = Terminal { shell: "exec PROGRAM", ..TERMINAL };
        let background = Terminal { shell: "bash -c 'set -m; PROGRAM >STDOUT & wait'", ..TERMINAL };
        let cases = [
            // Packet lines on the same terminal.
            (direct, "--json-lines", 16),
            // A background job.
            (background, "", 0),
            // Terminals without cursor sequences.
            (Terminal { name: "dumb", ..TERMINAL }, "", 0),
            (Terminal { name: "", ..TERMINAL }, "", 0),
            // The log of a CI server keeps every redrawn line.
            (Terminal { shell: "CI=true exec PROGRAM >STDOUT", ..TERMINAL }, "", 0),
            (TERMINAL, "--quiet", 0),
        ];
        together(cases, |(terminal, options, lines)| {
            let run = terminal.run(&format!("{PROBE} {options}"));
            assert_eq!((run.code, run.terminal.contains('\u{1b}')), (0, false), "{}", run.terminal);
            let json = run.terminal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let json: Vec<_> = json.map(|line| line["type"].clone()).collect();
            let shown = json.iter().filter(|name| ["packet", "report"].contains(&name.as_str().unwrap_or_default()));
            assert_eq!(shown.count(), lines, "{}", run.terminal);
            // The first line starts the recording of the terminal. A shell reports the end of a background job.
            let others = if terminal.shell == background.shell { 2 } else { 1 };
            assert_eq!(run.terminal.lines().count(), json.len() + others, "{}", run.terminal);
            assert_eq!(run.stdout.contains("\nmeasured: "), lines == 0, "{}", run.stdout);
        });
        // The packet lines are in a file. The colors of a report are no view.
        assert!(TERMINAL.run(&format!("{PROBE} --json-lines")).terminal.contains(ERASE));
        let colored =
            Terminal { shell: "exec PROGRAM --quiet", ..TERMINAL }.run("probe --embedded --count 1 --max-loss 0%");
        assert!(colored.terminal.contains("\u{1b}["), "{}", colored.terminal);
    });
}

#[test]
fn job_that_leaves_the_foreground_keeps_the_lines_of_the_shell() {
    measured(|| {
        let shells = [
            "bash -c 'set -m; PROGRAM >STDOUT; echo SHELL; bg; wait'",
            "bash -c 'set -m; PROGRAM >STDOUT; echo SHELL; fg'",
        ];
        together(shells, |shell| {
            let mut program = Terminal { shell, ..TERMINAL }.start("probe --embedded --interval 10ms --duration 3s");
            program.wait_for("the view", |terminal| terminal.contains("lost "));
            program.press(b"\x1a");
            let run = program.end();
            assert!(run.stdout.contains("\nmeasured: "), "{}", run.stdout);
            // In the foreground, the view is drawn again, in the row below the lines of the shell.
            let (_, after) = run.terminal.split_once("\nSHELL\r\n").unwrap();
            drawn_lines(&run.terminal);
            assert_eq!(after.contains(DRAW), shell.contains("fg"), "{after}");
        });
    });
}
