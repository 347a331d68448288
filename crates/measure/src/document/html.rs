//! A document as one HTML page that loads no other file. It is complete without its style sheet, because servers of build artifacts block it, and
//! has no script.
//!
//! External text is escaped where it is written, and never parsed as a template again.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::column::Place;
use super::table::{Label, Table};
use super::{Audio, Document, Head, Judgment, chart, grouped, shortened};
use crate::diagnosis::Diagnosis;
use crate::report::quantities::{format_count, format_time};
use crate::verdict::Judged;
use jamjam_core::sanitize::{escape_html, escape_html_prose, without_folders};
use jamjam_core::time::iso_time;

const STYLE: &str = include_str!("style.css");

/// Where the documentation is; empty if the package does not say so.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Longer tables are folded.
const MAX_ROWS: usize = 12;
/// Further judgments, diagnoses and charts are folded, and further reasons left out.
const MAX_ITEMS: usize = 8;
const MAX_CHARTS: usize = 3;
const MAX_REASONS: usize = 3;
/// Longer texts in a cell are broken into lines.
const MAX_CELL_CHARS: usize = 28;
/// The names of several subjects are folded if they are longer.
const MAX_NAMES_CHARS: usize = 60;

impl Document {
    /// The whole page. `style` is the style sheet that all pages of the program share, `version` that of the program.
    pub fn html(&self, style: &str, version: &str) -> String {
        let head = &self.head;
        let status = head.status();
        let title = format!("{status}: {}", head.heading());
        let title = [Some(title), started(head), head.host_name.clone()].into_iter().flatten().collect::<Vec<_>>();
        let command = match &*head.command_line {
            "" => String::new(),
            line => format!("<dt>Command</dt><dd><code>{}</code></dd>\n", escape_html(line)),
        };
        format!(
            include_str!("page.html"),
            title = escape_html(&title.join(", ")),
            style = [style, STYLE].concat(),
            class = status.to_lowercase().replace(' ', "-"),
            heading = format_args!("{status}: <bdi>{}</bdi>", escape_html(&head.heading())),
            content = content(self, true),
            command = command,
            version = escape_html(version),
        )
    }
}

fn started(head: &Head) -> Option<String> {
    (head.started_unix_ms > 0).then(|| iso_time(head.started_unix_ms))
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
        ("Waveforms".to_owned(), waveforms(&document.audio)),
    ];
    // Long tables are folded, and those that are not in a short text.
    let mut further = String::new();
    for one in &document.tables() {
        let title = if one.title.is_empty() { "Figures".to_owned() } else { escape_html(&capitalized(&one.title)) };
        let (html, count) = (table(one, &exceeded), one.rows.len());
        if html.is_empty() || count <= MAX_ROWS && !one.visible(Place::short).is_empty() {
            sections.push((title, html));
        } else {
            let count = if count > 1 { format!(" ({})", format_count(count as u64, "row")) } else { String::new() };
            further += &folded(&(title + &count), &html);
        }
    }
    sections.push(("Further figures".to_owned(), further));
    let part = |part: &Document| {
        let summary = format!("{}: <bdi>{}</bdi>", part.head.status(), escape_html(&part.head.target));
        folded(&summary, &content(part, false))
    };
    sections.push(("Reports".to_owned(), document.parts.iter().map(part).collect()));
    sections.retain(|(_, html)| !html.is_empty());
    let mut contents = String::new();
    if is_page {
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

/// A text with a capital letter.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the run came to, and how it was made.
fn summary(head: &Head) -> String {
    let conclusion = without_folders(&head.conclusion());
    let headline = if conclusion.is_empty() { conclusion } else { format!("Result: {conclusion}.") };
    let reasons = shortened(head.reasons(), MAX_REASONS);
    let host = head.host_name.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
    let started = started(head).map(|time| format!("Started {time}{host}"));
    let took = (head.duration_ms > 0.0).then(|| format!("took {}", format_time(head.duration_ms * 1e3)));
    let facts: Vec<_> = started.into_iter().chain(took).chain(head.facts.iter().cloned()).collect();
    let assumptions = head.assumptions.map_or_else(String::new, |text| format!("({text})"));
    let lines = [("figures", head.key_figures.clone()), ("quiet", assumptions), ("quiet", facts.join("; "))];
    let reasons = reasons.iter().map(|reason| ("reason", format!("{reason}.")));
    let lines = [("headline", headline)].into_iter().chain(reasons).chain(lines).filter(|(_, text)| !text.is_empty());
    let lines = lines.map(|(class, text)| format!("<p class=\"{class}\">{}</p>\n", escape_html_prose(&text)));
    lines.collect::<Vec<_>>().concat()
}

fn folded(summary: &str, content: &str) -> String {
    format!("<details><summary>{summary}</summary>\n{content}</details>\n")
}

/// The first items, and the others folded.
fn list(items: &[String], max: usize, what: &str, write: impl Fn(&[String]) -> String) -> String {
    let parts = items.split_at(items.len().min(max));
    let [shown, others] = [parts.0, parts.1].map(|items| if items.is_empty() { String::new() } else { write(items) });
    if others.is_empty() { shown } else { shown + &folded(&format_count(parts.1.len() as u64, what), &others) }
}

/// What was asked, the worst first. Subjects with the same result are one row, and expectations that were met are folded.
fn judgments(judgments: &[Judgment]) -> String {
    let rank = |one: &Judgment| (one.result != Judged::Exceeded && one.allowed.is_none(), one.result);
    // What has no value, such as a recovery that was not seen, is the worst.
    let excess = |one: &Judgment| Some((one.measured? - one.allowed?).abs() / one.allowed?);
    let excess = |one: &Judgment| excess(one).unwrap_or(f64::INFINITY);
    let mut sorted: Vec<_> = judgments.iter().collect();
    sorted.sort_by(|one, other| rank(one).cmp(&rank(other)).then(excess(other).total_cmp(&excess(one))));
    let row = |group: &Vec<&Judgment>| {
        let names: Vec<&str> = group.iter().map(|one| &*one.subject).collect();
        let (count, names) = (format_count(names.len() as u64, "subject"), escape_html(&names.join("; ")));
        let is_long = group.len() > 1 && names.chars().count() > MAX_NAMES_CHARS;
        let names = if is_long { folded(&count, &names) } else { names };
        let class = match group[0].result {
            Judged::Exceeded => "bad",
            Judged::NotJudged => "warn",
            Judged::Met => "",
        };
        let (rule, measured) = (escape_html(&group[0].name()), escape_html(&without_folders(&group[0].measured())));
        let word = group[0].result.word();
        format!(
            "<tr><th scope=\"row\"><code>{rule}</code> {names}</th><td class=\"{class}\">{word}</td><td class=\"words\">{measured}</td></tr>\n"
        )
    };
    let groups = grouped(sorted, |one| (rank(one), one.name(), one.measured()));
    let (met, others): (Vec<_>, Vec<_>) = groups.iter().partition(|group| rank(group[0]) == (true, Judged::Met));
    let [met, others] = [met, others].map(|groups| groups.into_iter().map(row).collect::<Vec<_>>());
    let write = |rows: &[String]| {
        let heads = ["asked", "result", "measured"].map(|name| format!("<th class=\"words\">{name}</th>")).concat();
        scrolling("Judgments", &format!("<thead><tr>{heads}</tr></thead>\n<tbody>\n{}</tbody>", rows.concat()))
    };
    list(&others, MAX_ITEMS, "further judgment", write) + &list(&met, 0, "met expectation", write)
}

/// What is wrong and what to do about it, once for equal sentences.
fn diagnoses(all: &[Diagnosis]) -> String {
    let item = |(subjects, one): (String, &Diagnosis)| {
        let subjects = escape_html(&subjects);
        let section = match REPOSITORY {
            "" => one.section.to_owned(),
            url => format!("<a href=\"{url}/blob/HEAD/{0}\">{0}</a>", one.section),
        };
        format!("<li><bdi>{subjects}</bdi>{} <span class=\"quiet\">{section}</span></li>\n", one.html())
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

/// The waveforms, each with a player for its beginning.
fn waveforms(all: &[Audio]) -> String {
    let side = |Audio { waveform, preview }: &Audio| {
        let player = preview.as_ref().map(|wav| {
            let (title, wav) = (escape_html(&waveform.title), STANDARD.encode(wav));
            format!(
                "<p class=\"preview\">preview (16 bit, 12 kHz, mono) <audio controls preload=\"metadata\" aria-label=\"{title}\" \
                 src=\"data:audio/wav;base64,{wav}\"></audio></p>\n"
            )
        });
        format!("<div>{}{}</div>\n", chart::figure(waveform), player.unwrap_or_default())
    };
    let sides: String = all.iter().map(side).collect();
    if sides.is_empty() { sides } else { format!("<div class=\"charts\">\n{sides}</div>\n") }
}

/// All figures of a table. Of many rows, those that exceeded something are the first.
fn table(table: &Table<'_>, exceeded: &BTreeSet<&str>) -> String {
    let Some(mut grid) = table.grid(Place::page) else { return String::new() };
    // The order of a few rows means something.
    if table.rows.len() > MAX_ROWS {
        grid.lines.sort_by_key(|(label, _)| !exceeded.contains(&*label.text));
    }
    let label = |Label { text, description }: &Label, scope: &str| {
        let class = if exceeded.contains(&**text) { " class=\"bad\"" } else { "" };
        let title =
            if description.is_empty() { String::new() } else { format!(" title=\"{}\"", escape_html(description)) };
        format!("<th scope=\"{scope}\"{class}{title}>{}</th>", escape_html(text))
    };
    let line = |(head, cells): &(Label, Vec<String>)| {
        let class = |text: &str| if text.chars().count() > MAX_CELL_CHARS { " class=\"words\"" } else { "" };
        let cells = cells.iter().map(|text| format!("<td{}>{}</td>", class(text), escape_html(text)));
        format!("<tr>{}{}</tr>\n", label(head, "row"), cells.collect::<String>())
    };
    let (heads, lines): (String, String) =
        (grid.heads.iter().map(|head| label(head, "col")).collect(), grid.lines.iter().map(line).collect());
    let heads = if grid.is_list() { String::new() } else { format!("<thead><tr><td></td>{heads}</tr></thead>\n") };
    scrolling(&table.title, &format!("{heads}<tbody>\n{lines}</tbody>"))
}

/// A table in a box that scrolls if the table is wider than the page.
fn scrolling(title: &str, table: &str) -> String {
    let title = escape_html(title);
    format!("<div class=\"wide\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\"><table>{table}</table></div>\n")
}
