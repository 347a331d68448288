//! The report in a few lines, for runs whose main output is not the report, and its key figures in one line.

use std::fmt::Write;

use super::model::Report;
use super::quantities::{format_decimals, format_share};
use super::rows;
use crate::diagnosis::{Diagnosis, Severity};

/// The report in a few lines: key figures and problems. `publish` prints this short report: its main output is the received text.
pub fn lines(report: &Report) -> Vec<String> {
    let setup = report.moqt.as_ref().and_then(rows::moqt_setup);
    let setup = setup.map_or_else(String::new, |times| format!("; connection setup: {times}"));
    let mut lines = vec![key_figures(report) + &setup];
    lines.extend(report.warnings.iter().filter(|one| one.severity > Severity::Note).map(Diagnosis::text));
    if !report.verdict.passed {
        lines.push(format!("{}: {}", report.verdict.word(), report.verdict.reasons.join("; ")));
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
