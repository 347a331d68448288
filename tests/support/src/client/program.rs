//! Runs the program from its command line.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use super::measured::{note_end, note_log};
use crate::TEST_TIMEOUT;

#[derive(Debug)]
pub struct ProgramOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Prepares the program with these arguments, in the project's folder and without settings from the environment.
pub fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = crate::command_without_settings(crate::built_program().as_ref());
    command.current_dir(crate::repository()).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end. The line is split at spaces.
pub fn run(line: &str) -> ProgramOutput {
    run_args(line.split_whitespace())
}

pub fn run_args(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> ProgramOutput {
    start(&mut command(args)).end()
}

pub fn run_with_input(args: impl IntoIterator<Item = impl AsRef<OsStr>>, input: Vec<u8>) -> ProgramOutput {
    let mut program = start(command(args).stdin(Stdio::piped()));
    let mut stdin = program.0.stdin.take().unwrap();
    // The program may end before it has read all input.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = program.end();
    writer.join().unwrap();
    output
}

/// A running program. Dropping this value kills the program.
pub struct Program(pub Child);

pub fn start(command: &mut Command) -> Program {
    let program = Program(command.spawn().unwrap());
    #[cfg(target_os = "linux")]
    super::stops::stop_once(command, &program.0);
    program
}

/// Starts the program. The line is split at spaces.
pub fn start_line(line: &str) -> Program {
    start(&mut command(line.split_whitespace()))
}

impl Program {
    /// Sends a signal by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.0.id())]).status().unwrap();
        assert!(sent.success(), "kill -s {name}: {sent}");
    }

    /// Waits for the first line on standard output. The returned reader has the rest; dropping it closes the pipe.
    pub fn first_line(&mut self) -> (String, BufReader<ChildStdout>) {
        self.first_line_with("")
    }

    /// Reads up to the first line with this text.
    pub fn first_line_with(&mut self, text: &'static str) -> (String, BufReader<ChildStdout>) {
        let mut stdout = BufReader::new(self.0.stdout.take().unwrap());
        bounded(&on_thread(move || {
            let found = stdout.by_ref().lines().map_while(Result::ok).find(|line| line.contains(text));
            (found.unwrap_or_default(), stdout)
        }))
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn end(mut self) -> ProgramOutput {
        let (stdout, stderr) = (all_of(self.0.stdout.take()), all_of(self.0.stderr.take()));
        let (stdout, stderr) = (bounded(&stdout), bounded(&stderr));
        // Both output pipes of the program are closed, so the program is about to exit.
        let status = self.0.wait().unwrap();
        assert!(!stderr.contains("panicked"), "{stderr}");
        let code = status.code().unwrap_or(-1);
        note_end(code, &stdout);
        note_log(&stderr);
        ProgramOutput { code, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A program that ends by itself is still running only if a test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a pipe, if there is one, to its end.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    on_thread(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_string(&mut text).unwrap();
        }
        text
    })
}

fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (result, receiver) = mpsc::channel();
    std::thread::spawn(move || result.send(work()));
    receiver
}

fn bounded<T>(result: &Receiver<T>) -> T {
    result.recv_timeout(TEST_TIMEOUT).expect("the program closes its output in time")
}
