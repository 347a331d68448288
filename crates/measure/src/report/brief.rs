//! The report in a few lines, for runs whose main output is not the report, and its key figures in one line.

use std::fmt::Write;

use super::model::{Report, Warning};
use super::quantities::{format_count, format_decimals, format_share, format_time};
use super::rows;

/// Codes of the warnings that the short report contains.
const PRINTED: [&str; 7] =
    ["connection_failure", "no_replies", "replies_missing", "groups_dropped", "damaged", "unmatched", "in_flight"];

/// The report in a few lines: replies, round trips and problems. `send` prints this short report if received text is its main output.
pub fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(stream) = report.evaluated().filter(|stream| stream.sent > 0) {
        let unit = report.labels(report.evaluated_stream).request_unit;
        let mut line = format!("{} of {} returned", stream.returned, format_count(stream.sent, unit));
        if let Some(min) = stream.rtt_min_us {
            _ = write!(line, ", round trip {}", format_time(min));
        }
        if let Some(max) = stream.rtt_max_us.filter(|_| stream.rtt_count > 1) {
            _ = write!(line, " to {}", format_time(max));
        }
        if let Some(times) = report.moqt.as_ref().and_then(rows::moqt_setup) {
            _ = write!(line, "; connection setup: {times}");
        }
        lines.push(line);
    }
    lines.extend(report.warnings.iter().filter(|warning| PRINTED.contains(&warning.code)).map(Warning::lines));
    if !report.verdict.passed {
        lines.push(format!("FAILED: {}", report.verdict.reasons.join("; ")));
    }
    lines
}

/// The most important figures of the evaluated stream in one line: `150 sent, 1.3 % lost, RTT p50/p99 1.81/4.01 ms, buffer 5.3 ms`.
pub(super) fn key_figures(report: &Report) -> String {
    let Some(stream) = report.evaluated() else { return "0 sent".to_owned() };
    let mut text = format!("{} sent", stream.sent);
    if !report.replies_expected {
        return text + ", no replies expected";
    }
    if let Some(ratio) = stream.loss_ratio {
        _ = write!(text, ", {} lost", format_share(ratio));
    }
    let times = [("p50", stream.rtt_p50_us), ("p99", stream.rtt_p99_us), ("max", stream.rtt_max_us)];
    let times = times.into_iter().filter_map(|(name, us)| Some((name, format_briefly(us? / 1e3)))).take(2);
    let (names, values): (Vec<_>, Vec<_>) = times.unzip();
    if !names.is_empty() {
        _ = write!(text, ", RTT {} {} ms", names.join("/"), values.join("/"));
    }
    if let Some(table) = &report.jitter_buffer {
        match table.recommended() {
            Some(depth) => _ = write!(text, ", jitter buffer {:.1} ms", depth.depth_ms),
            None if table.is_reliable => text += ", no buffer suffices",
            None => {}
        }
    }
    text
}

/// A number with three significant digits, but at most three decimals.
fn format_briefly(value: f64) -> String {
    let decimals = match value.abs() {
        magnitude if magnitude >= 99.95 => 0,
        magnitude if magnitude >= 9.995 => 1,
        magnitude if magnitude >= 0.9995 => 2,
        _ => 3,
    };
    format_decimals(value, decimals)
}
