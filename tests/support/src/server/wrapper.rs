//! Starts the program by strace.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::repository_files::note_missing;

/// Makes strace record system calls of `command` in `file`. Its process remains the child of the test and keeps its environment, and its
/// log ends after the record is complete.
pub fn record_system_calls(command: &mut Command, file: &Path, options: &[&str]) {
    let mut traced = Command::new("strace");
    traced.stdin(Stdio::null()).args(["-D", "-f", "-y", "-o"]).arg(file).args(options).arg("--");
    traced.arg(command.get_program()).args(command.get_args());
    traced.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    *command = traced;
}

/// Whether strace can record system calls. Prints a line if not; in CI, the test then fails if strace is not installed.
pub fn can_record_system_calls() -> bool {
    let tried = Command::new("strace").args(["-D", "-o", "/dev/null", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => return true,
        // This bypasses the test runner's capture, which hides the output of passing tests.
        Ok(_) => _ = writeln!(std::io::stderr(), "SKIPPED: strace is not permitted here"),
        Err(_) => note_missing("strace is not installed; sh scripts/setup --tests installs it on Debian"),
    }
    false
}
