//! A document as GitHub-flavored Markdown for the summary of a CI job: the verdict, the judgments, the tables and the diagnoses, and the whole text
//! in a collapsed block.

use std::fmt::Write;

use super::{Document, Judgment, Table};
use crate::diagnosis::Diagnosis;
use crate::report::quantities::format_time;
use crate::verdict::{Judged, Verdict};
use jamjam_core::sanitize::{escape_markdown as escape, sanitize_lines};

impl Document {
    /// The whole summary.
    pub fn markdown(&self) -> String {
        let mut parts = vec![heading(self), judgments(self)];
        parts.extend(self.tables().iter().map(table));
        let Self { head, .. } = self;
        parts.extend([&head.findings, &head.warnings].map(|list| list.iter().map(Diagnosis::markdown).collect()));
        parts.push(details(self));
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }
}

fn heading(Document { head, .. }: &Document) -> String {
    let (status, until) = head.status();
    let [target, until, headline, reason] =
        [&head.target, &until, &head.headline, &head.reason()].map(|text| escape(text));
    let reason = if reason.is_empty() { reason } else { format!("{reason}. ") };
    let duration = Some(format_time(head.duration_ms * 1e3)).filter(|_| head.duration_ms > 0.0);
    let duration = duration.map_or_else(String::new, |duration| format!("The run took {duration}."));
    let headline = [until, headline].concat();
    let headline = if headline.is_empty() { headline } else { headline.trim_end_matches([' ', ':']).to_owned() + "." };
    let title = format!("## {status}: {} {target}", head.command);
    let parts = [title, headline, (reason + &duration).trim().to_owned()];
    parts.iter().filter(|part| !part.is_empty()).map(|part| part.clone() + "\n").collect::<Vec<_>>().join("\n")
}

fn judgments(Document { head, .. }: &Document) -> String {
    let mut table = "| asked | measured | result |\n| --- | ---: | --- |\n".to_owned();
    // Expectations that were met are no news, and what was not judged is only if nothing else was.
    let is_news = |one: &&Judgment| match one.result {
        Judged::Exceeded => true,
        Judged::NotJudged => one.allowed.is_some() || head.verdict.result == Verdict::NotMeasured,
        Judged::Met => one.allowed.is_some(),
    };
    let judgments = head.judgments.iter().filter(is_news);
    let mut is_empty = true;
    for judgment in judgments {
        let (name, measured, word) = (judgment.label(), escape(&judgment.measured()), judgment.result.word());
        let result = if judgment.result == Judged::Met { word.to_owned() } else { format!("**{word}**") };
        // Writing to a string cannot fail.
        _ = writeln!(table, "| {} | {measured} | {result} |", escape(&name));
        is_empty = false;
    }
    if is_empty { String::new() } else { table }
}

/// A table of the most important columns: of a few rows, one row for each column.
fn table(table: &Table<'_>) -> String {
    let cells = table.cells(false);
    let [head, rows @ ..] = &cells[..] else { return String::new() };
    let line =
        |cells: &[String]| format!("| {} |\n", cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "));
    let rule = format!("| --- |{}\n", " ---: |".repeat(head.len() - 1));
    let title = if table.title.is_empty() { String::new() } else { format!("### {}\n\n", escape(&table.title)) };
    title + &line(head) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

/// The text report in a collapsed block.
fn details(document: &Document) -> String {
    let text = sanitize_lines(&document.text(true, false, None));
    // The fence is longer than any run of backticks in the text, so that the text cannot close it.
    let longest_run = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest_run + 1));
    format!("<details>\n<summary>The whole report</summary>\n\n{fence}text\n{text}{fence}\n\n</details>\n")
}
