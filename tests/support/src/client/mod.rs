//! Helpers for the tests of `send` and `probe`: the built program, servers, packets and WAV files, without any of the program's code.

pub mod document;
pub mod measured;
pub mod packet;
pub mod program;
pub mod server;
#[cfg(target_os = "linux")]
mod stops;
pub mod wav;

use std::panic::resume_unwind;
use std::path::PathBuf;

use serde_json::Value;

pub use document::{assert_valid, counts, report};
pub use measured::{measured, note_end, note_log};
pub use packet::{AUDIO, INFO, KEEPALIVE, PING, Packet};
pub use program::{Program, ProgramOutput, command, run, run_args, run_with_input, start, start_line};
pub use server::{Server, ServerAction, closed_tcp_port, closed_udp_port, free_port};
pub use wav::Wav;

pub fn fixture(name: &str) -> PathBuf {
    crate::repository().join("fixtures/audio").join(name)
}

/// Calls `work` with each of `items`, each on a thread of its own, and returns the results in order.
pub fn together<I: Send, O: Send>(items: impl IntoIterator<Item = I>, work: impl Fn(I) -> O + Sync) -> Vec<O> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Runs `line` with `--json`, and checks the exit code. Returns the report, which must match the schema.
pub fn json_report(code: i32, line: &str) -> Value {
    let line = format!("{line} --json");
    let output = run(&line);
    assert_eq!(output.code, code, "{line}: {output:?}");
    report(&output)
}

/// Runs the program, whose exit code must be 0.
pub fn run_to_success(line: &str) -> ProgramOutput {
    let output = run(line);
    assert_eq!(output.code, 0, "{line}: {output:?}");
    output
}
