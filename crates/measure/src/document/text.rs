//! A document as text: heading, tables, small charts, warnings, findings, result, limits and verdict.

use std::fmt::Write;

use super::{CurveStyle, Document, Head, Judgment, Row, Series, Table, TableColumn, column};
use crate::diagnosis::{Diagnosis, Severity};
use crate::report::quantities::format_time;
use crate::verdict::Judged;

const LABEL_WIDTH: usize = 20;
/// Width of a column: the length of the longest heading of a stream, `LATENCY_PING`, plus two spaces.
const COLUMN_WIDTH: usize = 14;
const MAX_BAR_WIDTH: usize = 40;
/// Charts with more bars are not drawn as text.
const MAX_BARS: usize = 12;
/// A table that is wider than this has a block for each row if the text is not for a terminal.
const MAX_PIPED_WIDTH: usize = 140;
/// Limits and reasons beyond these are counted.
const MAX_LINES: usize = 8;
/// Reasons in the line of the verdict.
const MAX_REASONS: usize = 3;
/// Tables with at most so many rows have a line for each column.
const MAX_ROWS_AS_COLUMNS: usize = 3;

/// ANSI colors, if enabled.
#[derive(Clone, Copy)]
struct Style(bool);

impl Style {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn judged(self, judged: Judged, text: &str) -> String {
        let code = match judged {
            Judged::Met => "32",
            Judged::NotJudged => "33",
            Judged::Exceeded => "31",
        };
        self.with(code, text)
    }

    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
}

impl Document {
    /// The most important figures, or all `with_details`, for a terminal of this width. The last line contains the verdict and the key figures.
    /// `color` adds ANSI codes.
    pub fn text(&self, with_details: bool, color: bool, width: Option<usize>) -> String {
        let (head, style) = (&self.head, Style(color));
        let mut parts = vec![heading(head, style)];
        parts.extend(self.tables().iter().map(|one| table(one, with_details, style, width.unwrap_or(MAX_PIPED_WIDTH))));
        parts.extend(self.series.iter().filter(|_| with_details).filter_map(bars));
        parts.extend(self.parts.iter().filter(|_| with_details).map(|part| part.text(true, color, width)));
        parts.push(diagnoses("warning", "33", &head.warnings, style));
        parts.push(diagnoses("finding", "1", &head.findings, style));
        parts.push(result(head, style));
        parts.push(limits(head, style));
        parts.push(verdict(head, style));
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }

    /// The verdict, the key figures and the problems, for runs whose main output is not the report.
    pub fn brief(&self) -> Vec<String> {
        let Head { key_figures, warnings, verdict, .. } = &self.head;
        let mut lines = vec![key_figures.clone() + &self.tables().iter().filter_map(Table::brief).collect::<String>()];
        lines.extend(warnings.iter().filter(|one| one.severity > Severity::Note).map(Diagnosis::text));
        if !verdict.passed {
            lines.push(format!("{}: {}", verdict.word(), verdict.reasons.join("; ")));
        }
        lines
    }
}

fn heading(head: &Head, style: Style) -> String {
    let mut text = style.strong(&head.heading);
    if head.duration_ms > 0.0 {
        text += &style.strong(&[", ", &format_time(head.duration_ms * 1e3)].concat());
    }
    if let Some(signal) = head.interrupted {
        text = [text, ", ".to_owned(), style.with("33", &format!("interrupted by {}", signal.name()))].concat();
    }
    text.push('\n');
    text + &head.facts.iter().flat_map(|fact| [fact, "\n"]).collect::<String>()
}

impl Table<'_> {
    /// The figures of a single row without a name: `; MOQT: groups sent 2, groups lost 0`.
    fn brief(&self) -> Option<String> {
        let [row] = &self.rows[..] else { return None };
        let columns = self.visible(false, false).into_iter();
        let cell = |(position, one): (usize, &TableColumn)| {
            format!("{} {}", one.label, one.column.format(row.values[position]))
        };
        let cells = columns.map(cell).collect::<Vec<_>>().join(", ");
        let is_shown = [&row.subject, &self.title, &cells].map(String::is_empty) == [true, false, false];
        is_shown.then(|| format!("; {}: {cells}", self.title))
    }

    /// The cells that are printed, line by line with the head. A few rows are columns, so that the first cell of a line is a label.
    pub(super) fn cells(&self, with_details: bool) -> Vec<Vec<String>> {
        let columns = self.visible(with_details, false);
        if columns.is_empty() {
            return Vec::new();
        }
        let cell = |position: usize, row: &Row<'_>| self.columns[position].column.format(row.values[position]);
        let line = |first: &str, others: &mut dyn Iterator<Item = String>| {
            [first.to_owned()].into_iter().chain(others).collect::<Vec<_>>()
        };
        if self.rows.len() <= MAX_ROWS_AS_COLUMNS {
            let head = line(
                if self.is_numbered { &self.title } else { "" },
                &mut self.rows.iter().map(|row| row.subject.clone()),
            );
            let lines = columns
                .iter()
                .map(|(position, column)| line(&column.label, &mut self.rows.iter().map(|row| cell(*position, row))));
            [head].into_iter().chain(lines).collect()
        } else {
            let head = line(&self.title, &mut columns.iter().map(|(_, column)| column.label.clone()));
            let lines = self
                .rows
                .iter()
                .map(|row| line(&row.subject, &mut columns.iter().map(|(position, _)| cell(*position, row))));
            [head].into_iter().chain(lines).collect()
        }
    }
}

/// A line for each column of a few rows, or for each row of many. A table that is wider than the terminal has a block for each row.
fn table(table: &Table<'_>, with_details: bool, style: Style, width: usize) -> String {
    let cells = table.cells(with_details);
    let [head, lines @ ..] = &cells[..] else { return String::new() };
    let chars = |text: &String| text.chars().count();
    let label_width = cells.iter().map(|line| chars(&line[0])).max().unwrap_or(0).max(LABEL_WIDTH);
    if let [_, subject] = &head[..]
        && subject.is_empty()
    {
        let title = if table.title.is_empty() { String::new() } else { style.strong(&table.title) + "\n" };
        let lines = lines.iter().map(|line| format!("{:label_width$}  {}\n", line[0], line[1]));
        return title + &lines.collect::<Vec<_>>().concat();
    }
    if let [(position, column)] = table.visible(with_details, false)[..]
        && table.rows.iter().all(|row| row.values[position].is_string())
    {
        let line = |row: &Row<'_>| format!("{}: {}\n", row.subject, column.column.format(row.values[position]));
        return style.strong(&table.title) + "\n" + &table.rows.iter().map(line).collect::<String>();
    }
    let is_turned = table.rows.len() <= MAX_ROWS_AS_COLUMNS;
    // Long labels at the head of a column are broken.
    let longest_word = |text: &str| text.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
    let column_width = |column: usize| {
        let cells = lines.iter().map(|line| chars(&line[column])).max().unwrap_or(0);
        cells.max(longest_word(&head[column])).max(if is_turned { COLUMN_WIDTH - 2 } else { 0 }) + 2
    };
    let widths: Vec<usize> = (1..head.len()).map(column_width).collect();
    if label_width + widths.iter().sum::<usize>() > width {
        let block = |subject: &String, values: &mut dyn Iterator<Item = (&String, &String)>| {
            let values = values.map(|(label, value)| format!("  {label:LABEL_WIDTH$}  {value}\n"));
            style.strong(subject) + "\n" + &values.collect::<String>()
        };
        let of_column = |column| block(&head[column], &mut lines.iter().map(|line| (&line[0], &line[column])));
        let of_line = |line: &Vec<String>| block(&line[0], &mut head.iter().zip(line).skip(1));
        return if is_turned { (1..head.len()).map(of_column).collect() } else { lines.iter().map(of_line).collect() };
    }
    let line = |cells: &[&str]| {
        let others = cells[1..].iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        format!("{:label_width$}{}", cells[0], others.collect::<String>())
    };
    let broken: Vec<Vec<String>> =
        head[1..].iter().zip(&widths).map(|(label, width)| break_label(label, width - 2)).collect();
    let height = broken.iter().map(Vec::len).max().unwrap_or(1);
    let mut text = String::new();
    for index in 0..height {
        // The last line of each label is beside the values.
        let part = |label: &'_ Vec<String>| {
            (index + label.len()).checked_sub(height).map_or("", |index| label[index].as_str()).to_owned()
        };
        let parts: Vec<String> = broken.iter().map(part).collect();
        let first = if index + 1 == height { &*head[0] } else { "" };
        let cells: Vec<&str> = [first].into_iter().chain(parts.iter().map(String::as_str)).collect();
        text += &(style.strong(line(&cells).trim_end()) + "\n");
    }
    for cells in lines {
        text += &(line(&cells.iter().map(String::as_str).collect::<Vec<_>>()) + "\n");
    }
    text
}

/// The lines of a label whose words fit into this width.
fn break_label(label: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in label.split(' ') {
        let last = lines.len() - 1;
        if lines[last].is_empty() {
            word.clone_into(&mut lines[last]);
        } else if lines[last].chars().count() + 1 + word.chars().count() <= width {
            lines[last] = format!("{} {word}", lines[last]);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A few bars as lines.
fn bars(Series { title, axes, curves }: &Series) -> Option<String> {
    let [curve] = &curves[..] else { return None };
    if curve.style != CurveStyle::Bars {
        return None;
    }
    let points = &curve.points;
    let highest = points.iter().map(|point| point.y[1]).fold(0.0, f64::max);
    if points.len() > MAX_BARS || highest == 0.0 {
        return None;
    }
    let mut text = format!("{title}\n");
    for point in points {
        let [from, to] = point.x.map(|x| column::format_figure(axes[0], x));
        let edge = if point.x[1].is_finite() { format!("{from} to {to}") } else { format!("from {from}") };
        // Rounded up, so that a small bar is visible.
        let length = (point.y[1] * MAX_BAR_WIDTH as f64 / highest).ceil() as usize;
        let value = column::format_figure(axes[1], point.y[1]);
        // Writing to a string cannot fail.
        _ = writeln!(text, "{edge:>26}  {} {value}", "█".repeat(length));
    }
    Some(text)
}

/// A line for each different diagnosis, with what it is about.
fn diagnoses(word: &str, code: &str, list: &[Diagnosis], style: Style) -> String {
    let line = |(one, subjects): (&Diagnosis, String)| {
        let subjects = if subjects.is_empty() { subjects } else { subjects + ": " };
        [&*style.with(code, &format!("{word}:")), " ", &subjects, &one.text(), "\n"].concat()
    };
    Diagnosis::grouped(list).into_iter().map(line).collect()
}

/// What the run means for a musician, with the assumptions.
fn result(head: &Head, style: Style) -> String {
    if head.headline.is_empty() {
        return String::new();
    }
    let assumptions = head.assumptions.map(|text| format!("({text})\n")).unwrap_or_default();
    format!("{} {}.\n{assumptions}", style.strong("result:"), head.headline)
}

/// A line for each limit. Of many, those that were met are no news.
fn limits(head: &Head, style: Style) -> String {
    let all = head.limits();
    let is_shown = |one: &&&Judgment| all.len() <= MAX_LINES || one.result != Judged::Met;
    let line = |one: &&Judgment| {
        let word = style.judged(one.result, one.result.word());
        format!("limit {}: {}, {word}{}\n", one.label(), one.value(), one.note())
    };
    shortened(&all.iter().filter(is_shown).map(line).collect::<Vec<_>>())
}

/// The first lines, and the number of others.
fn shortened(lines: &[String]) -> String {
    let more = lines.len().checked_sub(MAX_LINES).filter(|more| *more > 0);
    let more = more.map_or_else(String::new, |more| format!("and {more} more\n"));
    lines.iter().take(MAX_LINES).cloned().collect::<String>() + &more
}

/// The reasons for a failure, then the verdict with the most important figures in one line.
fn verdict(head: &Head, style: Style) -> String {
    let verdict = &head.verdict;
    let judged = verdict.result.judged();
    let word = match head.interrupted {
        Some(_) => style.with("33", head.status().0),
        None if verdict.passed && !verdict.limits_set => style.strong(verdict.word()),
        None => style.judged(judged, verdict.word()),
    };
    if head.key_figures.is_empty() && !verdict.reasons.is_empty() {
        let more = verdict.reasons.len().saturating_sub(MAX_REASONS);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let first: Vec<&str> = verdict.reasons.iter().take(MAX_REASONS).map(String::as_str).collect();
        return format!("{word}: {}{more}\n", first.join("; "));
    }
    let label = style.judged(judged, &format!("{}:", verdict.result.word().to_lowercase()));
    let reasons = verdict.reasons.iter().map(|reason| [&label, " ", reason, "\n"].concat());
    let reasons = shortened(&reasons.collect::<Vec<_>>());
    let colon = if head.key_figures.is_empty() { "" } else { ": " };
    [&reasons, &word, colon, &head.key_figures, "\n"].concat()
}
