//! A document as one HTML page that loads no other file. It is complete without its style sheet, because servers of build artifacts block it, and
//! has no script.
//!
//! External text is escaped where it is written, and never parsed as a template again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Document, Head, Judgment, Row, Table, TableColumn, chart};
use crate::diagnosis::Diagnosis;
use crate::report::quantities::{format_count, format_time, start_time};
use crate::verdict::Judged;
use jamjam_core::sanitize::{escape_html, escape_html_prose, without_folders};

const STYLE: &str = include_str!("style.css");

/// Where the documentation is; empty if the package does not say so.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Longer tables are folded.
const MAX_ROWS: usize = 12;
/// Further judgments and diagnoses are folded.
const MAX_ITEMS: usize = 8;
/// Tables with at most so many rows have a line for each column.
const MAX_ROWS_AS_COLUMNS: usize = 3;
/// Further charts are folded, and further reasons left out.
const MAX_CHARTS: usize = 4;
const MAX_REASONS: usize = 3;
/// Longer texts in a cell are broken into lines.
const MAX_CELL_CHARS: usize = 28;
/// The names of several subjects are folded if they are longer.
const MAX_NAMES_CHARS: usize = 60;
/// A report with more sections has a table of contents.
const MAX_SECTIONS_WITHOUT_CONTENTS: usize = 3;

impl Document {
    /// The whole page. `style` is the style sheet that all pages of the program share, `version` that of the program.
    pub fn html(&self, style: &str, version: &str) -> String {
        let head = &self.head;
        let status = head.status().0;
        let class = match status {
            "PASSED" => "passed",
            "measured" => "measured",
            "FAILED" => "failed",
            _ => "incomplete",
        };
        let title = format!("{status}: {}", head.heading);
        let title = [Some(title), started(head), head.host_name.clone()].into_iter().flatten().collect::<Vec<_>>();
        let command = match &*head.command_line {
            "" => String::new(),
            line => format!("<dt>Command</dt><dd><code>{}</code></dd>\n", escape_html(line)),
        };
        format!(
            include_str!("page.html"),
            title = escape_html(&title.join(", ")),
            style = [style, STYLE].concat(),
            class = class,
            heading = format_args!("{status}: <bdi>{}</bdi>", escape_html(&head.heading)),
            content = content(self, true),
            command = command,
            version = escape_html(version),
        )
    }
}

fn started(head: &Head) -> Option<String> {
    let time = start_time(head.started_unix_ms).filter(|_| head.started_unix_ms > 0)?;
    Some(time.to_string())
}

/// All below the heading. Only the whole page has a table of contents.
fn content(document: &Document, is_page: bool) -> String {
    let head = &document.head;
    let exceeded = head.judgments.iter().filter(|one| one.result == Judged::Exceeded);
    let exceeded: BTreeSet<&str> = exceeded.map(|one| &*one.subject).filter(|subject| !subject.is_empty()).collect();
    let mut sections = vec![
        ("Judgments".to_owned(), judgments(&head.judgments)),
        ("Findings".to_owned(), diagnoses(&head.findings)),
        ("Warnings".to_owned(), diagnoses(&head.warnings)),
        ("Charts".to_owned(), charts(document, &exceeded)),
        ("Waveforms".to_owned(), document.audio.clone().unwrap_or_default()),
    ];
    sections.extend(document.tables().iter().map(|one| (table_title(one), table(one, &exceeded))));
    let part = |part: &Document| {
        let summary = format!("{}: <bdi>{}</bdi>", part.head.status().0, escape_html(&part.head.target));
        folded(&summary, &content(part, false))
    };
    sections.push(("Reports".to_owned(), document.parts.iter().map(part).collect()));
    sections.retain(|(_, html)| !html.is_empty());
    let mut contents = String::new();
    if is_page && sections.len() > MAX_SECTIONS_WITHOUT_CONTENTS {
        let links = sections.iter().zip(1..).map(|((title, _), number)| format!("<a href=\"#s{number}\">{title}</a>"));
        contents = format!("<nav aria-label=\"Contents\">{}</nav>\n", links.collect::<Vec<_>>().join(" · "));
    }
    let mut text = format!("<header>\n{}{contents}</header>\n", summary(head));
    for ((title, html), number) in sections.iter().zip(1..) {
        let id = if is_page { format!(" id=\"s{number}\"") } else { String::new() };
        // Writing to a string cannot fail.
        _ = write!(text, "<section{id}><h2>{title}</h2>\n{html}</section>\n");
    }
    format!("<div class=\"report\">\n{text}</div>\n")
}

fn table_title(table: &Table<'_>) -> String {
    if table.title.is_empty() { "Figures".to_owned() } else { escape_html(&capitalized(&table.title)) }
}

/// A text with a capital letter.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the run came to, and how it was made.
fn summary(head: &Head) -> String {
    let headline = match format!("{}{}", without_folders(&head.status().1), head.headline).trim_end_matches([' ', ':'])
    {
        "" => String::new(),
        text => format!("Result: {text}."),
    };
    let reasons: Vec<String> = if head.verdict.passed {
        vec![format!("{}.", capitalized(&head.reason()))]
    } else {
        head.verdict.reasons.iter().filter(|one| !head.headline.starts_with(*one)).cloned().collect()
    };
    let further = reasons.len().checked_sub(MAX_REASONS).filter(|more| *more > 0);
    let further = further.map(|more| format!("And {more} more, see the judgments."));
    let reasons = reasons.into_iter().take(MAX_REASONS).chain(further).map(|reason| ("reason", reason));
    let host = head.host_name.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
    let started = started(head).map(|time| format!("Started {time}{host}"));
    let took = (head.duration_ms > 0.0).then(|| format!("took {}", format_time(head.duration_ms * 1e3)));
    let facts: Vec<_> = started.into_iter().chain(took).chain(head.facts.iter().cloned()).collect();
    let assumptions = head.assumptions.map_or_else(String::new, |text| format!("({text})"));
    let lines = [("figures", head.key_figures.clone()), ("quiet", assumptions), ("quiet", facts.join("; "))];
    let lines = [("headline", headline)].into_iter().chain(reasons).chain(lines).filter(|(_, text)| !text.is_empty());
    let lines = lines.map(|(class, text)| format!("<p class=\"{class}\">{}</p>\n", escape_html_prose(&text)));
    lines.collect::<Vec<_>>().concat()
}

fn folded(summary: &str, content: &str) -> String {
    format!("<details><summary>{summary}</summary>\n{content}</details>\n")
}

/// The first items, and the others folded.
fn list(items: &[String], max: usize, what: &str, write: impl Fn(&[String]) -> String) -> String {
    let (shown, others) = items.split_at(items.len().min(max));
    match (shown.is_empty(), others.len() as u64) {
        (true, _) => String::new(),
        (false, 0) => write(shown),
        (false, count) => write(shown) + &folded(&format_count(count, what), &write(others)),
    }
}

/// What was asked, the worst first. Subjects with the same result are one row, and expectations that were met are folded.
fn judgments(judgments: &[Judgment]) -> String {
    let rank = |one: &Judgment| match one.result {
        Judged::Exceeded => 0,
        Judged::NotJudged => 1,
        Judged::Met if one.allowed.is_some() => 2,
        Judged::Met => 3,
    };
    // What has no value, such as a recovery that was not seen, is the worst.
    let excess = |one: &Judgment| Some((one.measured? - one.allowed?).abs() / one.allowed?);
    let excess = |one: &Judgment| excess(one).unwrap_or(f64::INFINITY);
    let mut sorted: Vec<_> = judgments.iter().map(|one| (rank(one), one)).collect();
    sorted.sort_by(|(rank, one), (other_rank, other)| rank.cmp(other_rank).then(excess(other).total_cmp(&excess(one))));
    let mut rows = Vec::<(usize, String, String, Vec<&str>)>::new();
    let mut numbers = BTreeMap::new();
    for (rank, one) in sorted {
        let rule = Judgment { subject: String::new(), ..one.clone() }.name();
        let number = *numbers.entry((rank, rule.clone(), one.measured())).or_insert(rows.len());
        if number == rows.len() {
            rows.push((rank, rule, one.measured(), Vec::new()));
        }
        rows[number].3.push(&one.subject);
    }
    let row = |(rank, rule, measured, subjects): &(usize, String, String, Vec<&str>)| {
        let (names, count) = (subjects.join("; "), subjects.len() as u64);
        let is_long = count > 1 && names.chars().count() > MAX_NAMES_CHARS;
        let names = escape_html(&names);
        let names = if is_long { folded(&format_count(count, "subject"), &names) } else { names };
        let result = match rank {
            0 => "<strong class=\"bad\">exceeded</strong>",
            1 => "<span class=\"warn\">not judged</span>",
            _ => "met",
        };
        let [rule, measured] = [rule, measured].map(|text| escape_html(text));
        format!(
            "<tr><th scope=\"row\"><code>{rule}</code> {names}</th><td>{result}</td><td class=\"words\">{measured}</td></tr>\n"
        )
    };
    let write = |rows: &[String]| {
        let heads = ["asked", "result", "measured"].map(|name| format!("<th class=\"words\">{name}</th>")).concat();
        scrolling("Judgments", &format!("<thead><tr>{heads}</tr></thead>\n<tbody>\n{}</tbody>", rows.concat()))
    };
    let (met, others): (Vec<_>, Vec<_>) = rows.iter().partition(|(rank, ..)| *rank == 3);
    let [met, others] = [met, others].map(|rows| rows.into_iter().map(row).collect::<Vec<_>>());
    let met = match met.len() as u64 {
        0 => String::new(),
        count => folded(&format!("{} met", format_count(count, "expectation")), &write(&met)),
    };
    list(&others, MAX_ITEMS, "further judgment", write) + &met
}

/// What is wrong and what to do about it, once for equal sentences.
fn diagnoses(all: &[Diagnosis]) -> String {
    let item = |(one, subjects): (&Diagnosis, String)| {
        let subjects = if subjects.is_empty() { subjects } else { format!("<bdi>{}</bdi>: ", escape_html(&subjects)) };
        let section = match REPOSITORY {
            "" => one.section.to_owned(),
            url => format!("<a href=\"{url}/blob/HEAD/{0}\">{0}</a>", one.section),
        };
        format!("<li>{subjects}{} <span class=\"quiet\">{section}</span></li>\n", one.html())
    };
    let items: Vec<String> = Diagnosis::grouped(all).into_iter().map(item).collect();
    list(&items, MAX_ITEMS, "further one", |items| format!("<ul>\n{}</ul>\n", items.concat()))
}

/// All charts, those of what exceeded something first.
fn charts(document: &Document, exceeded: &BTreeSet<&str>) -> String {
    let mut series: Vec<_> = document.series.iter().collect();
    series.sort_by_key(|one| !one.title.split_once(": ").is_some_and(|(subject, _)| exceeded.contains(subject)));
    let figures: Vec<String> = series.into_iter().map(chart::figure).filter(|figure| !figure.is_empty()).collect();
    list(&figures, MAX_CHARTS, "further chart", |figures| {
        format!("<div class=\"charts\">\n{}</div>\n", figures.concat())
    })
}

/// A line for each column of a few rows, or for each row of many, those that exceeded something first. Long tables are folded.
fn table(table: &Table<'_>, exceeded: &BTreeSet<&str>) -> String {
    let columns = table.visible(true, true);
    let mut rows: Vec<&Row<'_>> = table.rows.iter().collect();
    // The order of a few rows means something.
    if rows.len() > MAX_ROWS {
        rows.sort_by_key(|row| !exceeded.contains(&*row.subject));
    }
    let value = |row: &Row<'_>, position: usize| cell(&table.columns[position].column.format(row.values[position]));
    let name = |column: &TableColumn, scope: &str| {
        let (label, description) = (escape_html(&column.label), escape_html(&column.column.description()));
        format!("<th scope=\"{scope}\" title=\"{description}\">{label}</th>")
    };
    let subject = |row: &Row<'_>, scope: &str| {
        let class = if exceeded.contains(&*row.subject) { " class=\"bad\"" } else { "" };
        format!("<th scope=\"{scope}\"{class}>{}</th>", escape_html(&row.subject))
    };
    let line = |head: String, cells: String| format!("<tr>{head}{cells}</tr>\n");
    let is_turned = rows.len() <= MAX_ROWS_AS_COLUMNS;
    let (heads, lines): (String, String) = if is_turned {
        let lines = columns.iter().map(|(position, column)| {
            line(name(column, "row"), rows.iter().map(|row| value(row, *position)).collect())
        });
        (rows.iter().map(|row| subject(row, "col")).collect(), lines.collect())
    } else {
        let lines = rows
            .iter()
            .map(|row| line(subject(row, "row"), columns.iter().map(|(position, _)| value(row, *position)).collect()));
        (columns.iter().map(|(_, column)| name(column, "col")).collect(), lines.collect())
    };
    let has_names = rows.iter().any(|row| !row.subject.is_empty());
    let heads = if has_names { format!("<thead><tr><td></td>{heads}</tr></thead>\n") } else { String::new() };
    let html = scrolling(&table.title, &format!("{heads}<tbody>\n{lines}</tbody>"));
    match rows.len() {
        _ if columns.is_empty() => String::new(),
        count if count > MAX_ROWS => folded(&format_count(count as u64, "row"), &html),
        _ => html,
    }
}

/// A table in a box that scrolls if the table is wider than the page.
fn scrolling(title: &str, table: &str) -> String {
    let title = escape_html(title);
    format!("<div class=\"wide\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\"><table>{table}</table></div>\n")
}

fn cell(text: &str) -> String {
    let class = if text.chars().count() > MAX_CELL_CHARS { " class=\"words\"" } else { "" };
    format!("<td{class}>{}</td>", escape_html(text))
}
