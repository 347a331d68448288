//! The report as GitHub-flavoured Markdown, for the summary of a CI job: verdict, limits, key numbers, notes, and the
//! whole report for people folded away below.

use std::fmt::Write;

use super::document::Report;
use super::{text, wording};

/// The rows of the report's table that a reader of a summary looks for; all of them stand in the folded part.
const KEY_ROWS: [&str; 14] = [
    "sent",
    "returned",
    "lost",
    "loss",
    "lost outward",
    "lost homeward",
    "damaged",
    "duplicated",
    "reordered",
    "late",
    "round trip p50",
    "round trip p99",
    "round trip max",
    "jitter mean",
];

/// The whole summary. `broken` is what could not be used to the end (a socket, a file), if anything.
pub fn summary(report: &Report, broken: Option<&str>) -> String {
    let parts = [heading(report, broken), limits(report), streams(report), notes(report), folded(report)];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

fn heading(report: &Report, broken: Option<&str>) -> String {
    let (word, cut) = wording::outcome(report, broken);
    let (command, target) = (wording::command(report.command), plain(&report.target));
    let (why, took) = (plain(&text::why(report)), wording::time(report.duration_ms * 1e3));
    let cut = plain(&cut);
    format!("## {word}: {command} {target}\n\n{cut}{why}. The run took {took}.\n")
}

fn limits(report: &Report) -> String {
    if report.limits.is_empty() {
        return String::new();
    }
    let mut table = "| limit | allowed | measured | |\n| --- | ---: | ---: | --- |\n".to_owned();
    for judgement in &report.limits {
        let option = judgement.limit.option();
        let allowed = plain(&wording::limit(judgement, judgement.asked));
        let found = plain(&wording::found(judgement));
        let kept = if judgement.passed { "kept" } else { "**broken**" };
        let note = plain(&wording::note(judgement));
        // Writing to a string cannot fail.
        _ = writeln!(table, "| `{option}` | {allowed} | {found} | {kept}{note} |");
    }
    table
}

fn streams(report: &Report) -> String {
    let rows = text::rows(report);
    if rows.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = report.streams.iter().map(|(kind, _)| report.names(kind).sent).collect();
    let mut table = format!("| | {} |\n| --- |{}\n", names.join(" | "), " ---: |".repeat(names.len()));
    for (label, cells) in rows.iter().filter(|(label, _)| KEY_ROWS.contains(label)) {
        let cells: Vec<String> = cells.iter().map(|cell| plain(cell)).collect();
        _ = writeln!(table, "| {label} | {} |", cells.join(" | "));
    }
    table
}

fn notes(report: &Report) -> String {
    let mut list = String::new();
    for caveat in &report.caveats {
        _ = writeln!(list, "- {}", prose(&caveat.text));
        for (at, point) in caveat.points.iter().enumerate() {
            _ = writeln!(list, "  {}. {}", at + 1, prose(point));
        }
    }
    list
}

/// The report as `text` prints it, behind a click.
fn folded(report: &Report) -> String {
    let text = text::summary(report, false);
    let fence = "`".repeat(3.max(longest_run_of_backticks(&text) + 1));
    format!("<details>\n<summary>The whole report</summary>\n\n{fence}text\n{text}{fence}\n\n</details>\n")
}

/// A fence that is longer than any run within ends only where we end it.
fn longest_run_of_backticks(text: &str) -> usize {
    text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0)
}

/// Text that means nothing but itself: names of targets and messages of the system come from outside.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            letter if letter.is_control() => escaped.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => escaped.extend(['\\', letter]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Our own sentences, in which backticks mark what can be typed.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { plain(part) } else { format!("`{part}`") }).collect()
}
