//! `jamjam-dev send` and `jamjam-dev probe` as processes on real sockets.

use serde_json::Value;
use test_support::client::{document, json_report as report, run};

mod audio_source;
mod certificates;
mod command_line;
mod html_page;
mod link;
mod load_echo;
mod moqt;
mod musicians;
mod packet_counts;
mod packets;
mod record;
mod report_files;
mod rooms;
mod run_record;
mod signals;
mod source_quality;
mod stdout_and_stderr;
mod this_machine;
mod troubleshooting;
mod websocket;

/// Probes `url` with `--json`. Returns the report, which must match the schema, and checks that standard error is empty.
fn probed(code: i32, url: &str, options: &str) -> Value {
    let output = run(&format!("probe --to {url} --json {options}"));
    // A host that did not run has measured too little, but has counted everything.
    let code = if code == 0 && output.code == 4 { 4 } else { code };
    assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{output:?}");
    document::report(&output)
}

/// The codes of a report's warnings.
fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}
