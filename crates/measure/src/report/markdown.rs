//! The report as GitHub-flavored Markdown for the summary of a CI job: the verdict, limits, key figures and warnings, and the text report in a
//! collapsed block.

use std::fmt::Write;

use super::model::Report;
use super::quantities::format_time;
use super::rows::{self, Level};
use super::text;
use crate::diagnosis::Diagnosis;
use crate::verdict::Judged;
use jamjam_core::sanitize::{escape_markdown as escape, sanitize_lines};

/// The whole summary. `error` is the socket or file error that ended the run early.
pub fn summary(report: &Report, error: Option<&str>) -> String {
    let mut parts = vec![heading(report, error), limits(report), streams(report)];
    parts.extend([&report.findings, &report.warnings].map(|list| list.iter().map(Diagnosis::markdown).collect()));
    parts.push(details_block(report));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn heading(report: &Report, error: Option<&str>) -> String {
    let (status, until) = report.status_line(error);
    let (command, target) = (&report.command, escape(&report.target));
    let [until, headline, reason] = [&until, &report.headline, &report.verdict_reason()].map(|text| escape(text));
    let duration = format_time(report.duration_ms * 1e3);
    let reason = if reason.is_empty() { reason } else { format!("{reason}. ") };
    format!("## {status}: {command} {target}\n\n{until}{headline}.\n\n{reason}The run took {duration}.\n")
}

fn limits(report: &Report) -> String {
    if report.limits.is_empty() {
        return String::new();
    }
    let mut table = "| limit | allowed | measured | result |\n| --- | ---: | ---: | --- |\n".to_owned();
    for limit in &report.limits {
        let [allowed, measured, note] = limit.texts().map(|text| escape(&text));
        let word = limit.result.word();
        let result = if limit.result == Judged::Met { word.to_owned() } else { format!("**{word}**") };
        // Writing to a string cannot fail.
        _ = writeln!(table, "| `{}` | {allowed} | {measured} | {result}{note} |", limit.label());
    }
    table
}

fn streams(report: &Report) -> String {
    let rows = rows::stream_rows(report);
    if rows.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = report.streams.iter().map(|(kind, _)| report.labels(kind).request).collect();
    let mut table = format!("| | {} |\n| --- |{}\n", names.join(" | "), " ---: |".repeat(names.len()));
    for row in rows.iter().filter(|row| row.level == Level::Short) {
        let cells: Vec<String> = row.cells.iter().map(|cell| escape(cell)).collect();
        _ = writeln!(table, "| {} | {} |", row.label, cells.join(" | "));
    }
    table
}

/// The text report in a collapsed block.
fn details_block(report: &Report) -> String {
    let text = sanitize_lines(&text::details(report, false));
    // The fence is longer than any run of backticks in the text, so that the text cannot close it.
    let longest_run = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest_run + 1));
    format!("<details>\n<summary>The whole report</summary>\n\n{fence}text\n{text}{fence}\n\n</details>\n")
}
