//! `jamjam-dev send` and `jamjam-dev probe` as processes on real sockets.

use serde_json::Value;
use test_support::client::json_report as report;

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

/// The codes of a report's warnings.
fn codes(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}
