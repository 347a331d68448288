//! A row of the report, which the text, Markdown and HTML reports print.

use super::quantities::format_time_ms;

/// One row.
pub(super) struct Row {
    pub(super) label: &'static str,
    /// One cell for each stream that was sent. Below the table of streams, a row has a single cell.
    pub(super) cells: Vec<String>,
    pub(super) level: Level,
}

/// The reports that contain a row. The full text report and the page contain all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Also the short text report and the Markdown summary.
    Summary,
    /// Also the Markdown summary: a count of 0, which the short text report omits.
    ZeroCount,
    /// Also the short text report.
    Short,
    /// No other report.
    Full,
}

/// `p50 1.0 µs, p99 -, max 2.0 µs`. An echo time of several seconds is not printed in seconds. The rounding would hide the network's part,
/// which may be only some milliseconds.
pub(super) fn times_text<const N: usize>(times: [(&str, Option<f64>); N]) -> String {
    times.map(|(name, us)| format!("{name} {}", us.map_or_else(|| "-".to_owned(), format_time_ms))).join(", ")
}
