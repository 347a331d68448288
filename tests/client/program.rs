//! The program as a person starts it.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Nothing here takes as long; whoever does hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// The whole of standard output.
    pub stdout: String,
    /// The whole of standard error.
    pub stderr: String,
}

/// The program with these arguments in the project's folder and a plain environment, not yet started.
pub fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jamjam-dev"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "RUST_LOG", "ECHO_DELAY_MS", "SIGNALING_URL"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end. The line is cut at spaces.
pub fn run(line: &str) -> Ended {
    run_args(line.split_whitespace())
}

/// Runs the program to its end.
pub fn run_args(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    end(command(args).spawn().unwrap())
}

/// Runs the program to its end with `input` on standard input.
pub fn run_with_input(args: impl IntoIterator<Item = impl AsRef<OsStr>>, input: Vec<u8>) -> Ended {
    let mut child = command(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The program may end before it has read all of it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ended = end(child);
    writer.join().unwrap();
    ended
}

/// Waits for the end of a program that was started.
pub fn end(child: Child) -> Ended {
    let pid = child.id();
    let (result, output) = mpsc::channel();
    std::thread::spawn(move || result.send(child.wait_with_output()));
    let Ok(output) = output.recv_timeout(DEADLINE) else {
        signal(pid, "KILL");
        panic!("the program hangs");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ended { code: status.code().unwrap_or(-1), stdout: String::from_utf8(stdout).unwrap(), stderr }
}

/// Sends a signal to a process that this test started.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).status().unwrap();
    assert!(sent.success());
}
