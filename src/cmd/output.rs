//! Standard output for the report, standard error for people.

use std::io::{self, Write};

use anyhow::Context;

/// Writes a line at once.
pub fn write_line(out: &mut impl Write, line: &str) -> io::Result<()> {
    writeln!(out, "{line}").and_then(|()| out.flush())
}

/// Writes a line. Whoever has closed the pipe has read enough.
pub fn print(out: &mut impl Write, line: &str) -> anyhow::Result<()> {
    match write_line(out, line) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Says something to the person at the terminal. Where standard error cannot be written to, nobody is there to be told.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "jamjam-dev: {text}");
}
