//! A document as GitHub-flavored Markdown for the summary of a CI job: the verdict, the judgments, the tables and the diagnoses, and the whole text
//! in a collapsed block.

use super::column::Place;
use super::table::{Grid, Label, Table};
use super::{Document, Judgment, shortened};
use crate::diagnosis::Diagnosis;
use crate::report::quantities::format_time;
use crate::verdict::{Judged, Verdict};
use jamjam_core::sanitize::{escape_markdown as escape, escape_markdown_prose, sanitize_lines};

/// Further findings and warnings are counted.
const MAX_DIAGNOSES: usize = 8;

impl Document {
    /// The whole summary.
    pub fn markdown(&self) -> String {
        let mut parts = vec![heading(self), judgments(self)];
        parts.extend(self.tables().iter().map(table));
        let Self { head, .. } = self;
        parts.extend(
            [("finding", &head.findings), ("warning", &head.warnings)].map(|(word, list)| diagnoses(word, list)),
        );
        parts.push(details(self));
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }
}

fn diagnoses(word: &str, list: &[Diagnosis]) -> String {
    let item = |(subjects, one): (String, &Diagnosis)| {
        format!("- **{word}:** {}{}\n", escape(&subjects), one.write(escape_markdown_prose))
    };
    let items = shortened(Diagnosis::grouped(list).into_iter().map(item).collect(), MAX_DIAGNOSES);
    items.into_iter().map(|item| item.trim_end().to_owned() + "\n").collect()
}

fn heading(Document { head, .. }: &Document) -> String {
    let title = format!("## {}: {}", head.status(), escape(&head.heading()));
    let took = Some(format_time(head.duration_ms * 1e3)).filter(|_| head.duration_ms > 0.0);
    let took = took.map_or_else(String::new, |duration| format!("The run took {duration}."));
    let [conclusion, reasons] = [head.conclusion(), head.reasons().join("; ")];
    let [conclusion, reasons] =
        [conclusion, reasons].map(|text| if text.is_empty() { text } else { escape(&text) + "." });
    let parts = [title, conclusion, escape(&head.key_figures), [reasons, took].join(" ").trim().to_owned()];
    parts.iter().filter(|part| !part.is_empty()).map(|part| part.clone() + "\n").collect::<Vec<_>>().join("\n")
}

fn judgments(Document { head, .. }: &Document) -> String {
    // Expectations that were met are no news, and what was not judged is only if nothing else was.
    let is_news = |one: &&Judgment| match one.result {
        Judged::Exceeded => true,
        Judged::NotJudged => one.allowed.is_some() || head.verdict.result == Verdict::NotMeasured,
        Judged::Met => one.allowed.is_some(),
    };
    let row = |one: &Judgment| {
        let (label, measured, word) = (escape(&one.label()), escape(&one.measured()), one.result.word());
        let stars = if one.result == Judged::Met { "" } else { "**" };
        format!("| {label} | {measured} | {stars}{word}{stars} |\n")
    };
    let rows = head.judgments.iter().filter(is_news).map(row).collect::<String>();
    if rows.is_empty() { rows } else { format!("| asked | measured | result |\n| --- | ---: | --- |\n{rows}") }
}

/// A table of the most important columns.
fn table(table: &Table<'_>) -> String {
    let Some(Grid { heads, lines, .. }) = table.grid(Place::short) else { return String::new() };
    let row = |cells: &mut dyn Iterator<Item = &String>| {
        format!("| {} |\n", cells.map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "))
    };
    let title = if table.title.is_empty() { String::new() } else { format!("### {}\n\n", escape(&table.title)) };
    let rule = format!("| --- |{}\n", " ---: |".repeat(heads.len()));
    let head = row(&mut [String::new()].iter().chain(heads.iter().map(|head| &head.text)));
    let lines = lines.iter().map(|(Label { text, .. }, cells)| row(&mut [text].into_iter().chain(cells)));
    title + &head + &rule + &lines.collect::<String>()
}

/// The text report in a collapsed block.
fn details(document: &Document) -> String {
    let text = sanitize_lines(&document.text(true, false, None));
    // The fence is longer than any run of backticks in the text, so that the text cannot close it.
    let longest_run = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest_run + 1));
    format!("<details>\n<summary>The whole report</summary>\n\n{fence}text\n{text}{fence}\n\n</details>\n")
}
