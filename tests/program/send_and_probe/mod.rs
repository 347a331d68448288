//! `jamjam-dev send` and `jamjam-dev probe` as processes on real sockets.

use serde_json::Value;
use test_support::client::{document, run, run_to_success};

mod audio_source;
mod certificates;
mod clients;
mod command_line;
mod html_page;
mod impaired_sending;
mod limits_and_signals;
mod link;
mod live_view;
mod moqt;
mod musicians;
mod packet_counts;
mod packets;
mod record;
mod report_files;
mod rooms;
mod run_record;
mod source_quality;
mod stdout_and_stderr;
mod targets;
mod this_machine;
mod troubleshooting;
mod usage_errors;
mod websocket;

/// Runs `line` with `--json`, and checks the exit code. Returns the report, which must match the schema.
fn report(code: i32, line: &str) -> Value {
    let line = format!("{line} --json");
    let output = if code == 0 { run_to_success(&line) } else { run(&line) };
    assert_eq!(output.code, code, "{line}: {output:?}");
    document::report(&output)
}

/// The codes of a report's warnings.
fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}
