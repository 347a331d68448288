//! The files of the repository and the programs that check them.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub fn read(name: &str) -> String {
    fs::read_to_string(crate::repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All files below `folder` with this extension, except build output.
pub fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

/// The metadata that cargo prints about the workspace in `folder`.
pub fn cargo_metadata(folder: &Path, options: &[&str]) -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["metadata", "--format-version", "1"]).args(options).current_dir(folder).output().unwrap();
    serde_json::from_str(&assert_success(&output)).unwrap()
}

/// Standard output of a command that must succeed.
pub fn assert_success(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Prints why a test is skipped, or fails it in CI, where `scripts/setup --tests` installs the tools.
pub fn note_missing(what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{what}");
    // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// Runs an external tool with `input`. `None` if it is not installed.
pub fn run_tool(command: &mut Command, input: &str) -> Option<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            note_missing(&format!("{} is not installed", command.get_program().display()));
            return None;
        }
        Err(error) => panic!("{command:?}: {error}"),
    };
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Some(output)
}
