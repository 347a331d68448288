//! Starts the program by another program, for example by strace.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes `command` run `program` with `first` and then its own arguments. It keeps its environment, of which nothing may be inherited.
pub fn replace_program(command: &mut Command, program: &OsStr, first: &[&OsStr]) {
    let mut replaced = Command::new(program);
    replaced.stdin(Stdio::null()).args(first).args(command.get_args());
    replaced.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    *command = replaced;
}

/// Makes strace record system calls of `command` in `file`. The command's process remains the child of the test. Its log ends after the
/// record is complete.
pub fn record_system_calls(command: &mut Command, file: &Path, options: &[&str]) {
    let program = command.get_program().to_owned();
    let fixed = ["-D", "-f", "-y", "-o"].map(OsStr::new);
    let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    let first = [&fixed[..], &[file.as_os_str()], &options, &["--".as_ref(), &program]].concat();
    replace_program(command, "strace".as_ref(), &first);
}

/// Whether strace can record system calls. Prints a line if not. In CI, the test fails if strace is not installed.
///
/// # Panics
/// Panics in CI if strace is not installed.
pub fn can_record_system_calls() -> bool {
    let tried = Command::new("strace").args(["-D", "-o", "/dev/null", "true"]).output();
    let missing = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(_) => "strace is not permitted here",
        Err(_) => {
            let missing = "strace is not installed; sh scripts/setup --tests installs it on Debian";
            assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
            missing
        }
    };
    // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
    false
}
