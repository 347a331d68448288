//! Starts the server, reads its log, sends signals to it, and waits for its end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::line::{Line, Stats};
use super::{TEST_TIMEOUT, http, poll_until};
use crate::client::{Program, ProgramOutput, note_log, start};

/// A running server. Dropping this value kills the server.
pub struct Server {
    program: Program,
    /// The listening address: from the ready file, or of an echo server that registers from its log, because its room may never exist.
    pub address: SocketAddr,
    log: Receiver<String>,
    pub lines: Vec<String>,
    pub ready_file: PathBuf,
    _folder: TempDir,
}

pub struct ServerExit {
    /// The exit code of the server; `None` if a signal ended the server.
    pub code: Option<i32>,
    pub lines: Vec<String>,
}

impl ServerExit {
    /// The last statistics in the log. A signaling server in the same process may log the end of its connections after them.
    pub fn stats(&self) -> Stats {
        let last = self.lines.iter().rev().find(|line| line.contains(" Stats: "));
        Stats::parse(&Line::parse(last.expect("statistics")))
    }
}

/// Prepares the program without settings from the environment, in a time zone far from UTC.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = crate::command_without_settings(crate::built_program().as_ref());
    command.env("TZ", "Asia/Tokyo").stdin(Stdio::null()).args(arguments);
    command
}

/// Runs the program to its end.
pub fn run(arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> ProgramOutput {
    let mut command = program(arguments);
    prepare(&mut command);
    start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).end()
}

/// Runs a server with these arguments and a ready file to its end. Meanwhile, calls `work` with its address.
pub fn run_during(arguments: &[&str], work: impl FnOnce(SocketAddr, &Program)) -> ProgramOutput {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready.json");
    let mut command = program(arguments);
    command.arg("--ready-file").arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = start(&mut command);
    work(poll_until("a ready file", || ready_address(&file)), &running);
    running.end()
}

impl Server {
    /// Starts `echo-server --port 0` with more options, and waits until it listens. Every system grants the receive buffer, so the log is
    /// the same everywhere.
    pub fn start(options: &[&str]) -> Self {
        Self::start_with(options, |_| {})
    }

    /// Like [`Self::start`], but `prepare` can change the command first.
    pub fn start_with(options: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let buffer = if options.contains(&"--socket-buffer") { &[][..] } else { &["--socket-buffer", "204800"] };
        Self::start_as(&[&["--port", "0"], buffer, options].concat(), prepare)
    }

    /// Starts `echo-server` with these options and a ready file.
    pub fn start_as(options: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        Self::start_command("echo-server", options, prepare)
    }

    /// Starts `signaling-server` with more options, on loopback and a free port unless the options override it.
    pub fn start_signaling(options: &[&str]) -> Self {
        Self::start_signaling_with(options, |_| {})
    }

    /// Like [`Self::start_signaling`], but `prepare` can change the command first.
    pub fn start_signaling_with(options: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let mut arguments = Vec::new();
        for default in [["--host", "127.0.0.1"], ["--port", "0"]] {
            arguments.extend(default.into_iter().filter(|_| !options.contains(&default[0])));
        }
        arguments.extend(options);
        Self::start_command("signaling-server", &arguments, prepare)
    }

    /// Starts this server with only these options and a ready file, after `prepare` has changed the command.
    pub fn start_command(subcommand: &str, options: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let file = folder.path().join("ready.json");
        let mut command = program(&[subcommand, "--ready-file", file.to_str().unwrap()]);
        command.args(options);
        prepare(&mut command);
        let mut program = start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let ((line, log), (listening, listens_on)) = (mpsc::channel(), mpsc::channel());
        let stderr = BufReader::new(program.0.stderr.take().unwrap());
        thread::spawn(move || {
            for text in stderr.lines() {
                if let Some((_, address)) =
                    text.as_ref().ok().and_then(|text| text.split_once("Echo server listening on "))
                {
                    _ = listening.send(address.parse().expect("an address"));
                }
                if let Ok(text) = &text {
                    note_log(text);
                    // Pauses of this host may be reported between any two lines.
                    if text.contains(" did not run for ") {
                        continue;
                    }
                }
                // When the lines are no longer read, this thread ends and closes the pipe.
                if text.is_ok_and(|text| line.send(text).is_err()) {
                    break;
                }
            }
        });
        let registers = options.contains(&"--signaling-url");
        let address = poll_until("an address", || {
            if let Some(status) = program.0.try_wait().unwrap() {
                panic!("{options:?} ended at once, {status}: {:?}", log.iter().collect::<Vec<_>>());
            }
            if registers { listens_on.try_recv().ok() } else { ready_address(&file) }
        });
        Self { program, address, log, lines: Vec::new(), ready_file: file, _folder: folder }
    }

    pub fn id(&self) -> u32 {
        self.program.0.id()
    }

    pub fn line(&mut self) -> Line {
        let text = self.log.recv_timeout(TEST_TIMEOUT).expect("another line");
        self.lines.push(text);
        Line::parse(self.lines.last().unwrap())
    }

    /// Reads the log up to the next line whose message begins with `beginning`.
    pub fn line_starting_with(&mut self, beginning: &str) -> Line {
        loop {
            let line = self.line();
            if line.message.starts_with(beginning) {
                return line;
            }
        }
    }

    /// Sends a signal by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Sends a stop signal and waits for the end of the process.
    pub fn stop(self, signal: &str) -> ServerExit {
        self.signal(signal);
        self.end()
    }

    /// Waits for the end of the process.
    pub fn end(mut self) -> ServerExit {
        loop {
            match self.log.recv_timeout(TEST_TIMEOUT) {
                Ok(text) => self.lines.push(text),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running"),
            }
        }
        let code = self.program.0.wait().unwrap().code();
        ServerExit { code, lines: self.lines }
    }

    /// Suspends the process until it receives SIGCONT.
    #[cfg(target_os = "linux")]
    pub fn halt(&self) {
        // With `STOP_PROGRAMS`, the process may have been continued in between.
        poll_until("a halt", || {
            self.signal("STOP");
            (self.status("State") == "T").then_some(())
        });
    }

    pub fn close_log(&mut self) {
        self.log = mpsc::channel().1;
    }

    pub fn wait(&mut self) -> Option<i32> {
        poll_until("an end", || self.program.0.try_wait().unwrap()).code()
    }

    pub fn is_running(&mut self) -> bool {
        self.program.is_running()
    }

    /// A counter in the signaling server's `/metrics`: of one dialect, as `rooms{dialect="bbx"}`, or the sum over all dialects.
    pub fn metric(&self, name: &str) -> u64 {
        let page = http::get(self, "/metrics").body;
        let ends = if name.contains('{') { &[' '][..] } else { &[' ', '{'] };
        let lines = page.lines().filter_map(|line| line.strip_prefix(&format!("jamjam_signaling_{name}")));
        let values = lines.filter(|line| line.starts_with(ends)).map(|line| line.rsplit(' ').next().unwrap());
        let values: Vec<u64> = values.map(|value| value.parse().unwrap()).collect();
        assert!(!values.is_empty(), "no {name} in {page}");
        values.iter().sum()
    }

    /// The resident memory of the process in KiB, without the pages of files: code that runs for the first time adds such pages.
    #[cfg(target_os = "linux")]
    pub fn resident_kib(&self) -> u64 {
        self.status("RssAnon").parse().expect("kibibytes")
    }

    /// A field of `/proc/PID/status`, such as `VmRSS`, up to the first space.
    #[cfg(target_os = "linux")]
    pub fn status(&self, field: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
        line.split_whitespace().next().expect("a value").to_owned()
    }
}

/// The address in a ready file, once it exists: for UDP, or in the first URL.
pub fn ready_address(file: &Path) -> Option<SocketAddr> {
    let ready: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).expect("a whole file");
    let in_url = |name: &str| ready[name].as_str()?.split('/').nth(2);
    let authority = ready["udp"].as_str().or_else(|| in_url("ws_url")).or_else(|| in_url("moqt")).expect("an address");
    Some(authority.replace("localhost", "127.0.0.1").replace("%25", "%").parse().expect("an address"))
}

/// Makes the folder writable for servers that run as another user.
fn open_to_all(folder: &Path) {
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
}

/// Makes the command run as another user if the tests run as root.
#[cfg(target_os = "linux")]
pub fn as_unprivileged_user(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    if rustix::process::getuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
}
