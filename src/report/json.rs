//! The report as JSON, for `--json` and `--json-lines`. Both carry the same document.

use super::document::Report;
use super::lines::Line;

/// The report as one document over many lines, ending with a line feed.
pub fn document(report: &Report) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&Line::Report(Box::new(report.clone())))?;
    text.push('\n');
    Ok(text)
}

/// One line, ending with a line feed.
pub fn line(line: &Line) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    Ok(text)
}
