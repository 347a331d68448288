//! A document as text: heading, tables, small charts, warnings, findings, result, limits and verdict.

use std::fmt::Write;

use super::column::{Place, format_figure};
use super::table::{Grid, Label, Table};
use super::wrap::wrap;
use super::{CurveStyle, Document, Head, Judgment, Series, shortened};
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
/// Limits, reasons and, without details, diagnoses beyond these are counted.
const MAX_LINES: usize = 8;
/// Reasons in the line of the verdict.
const MAX_REASONS: usize = 3;

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
        let (up_to, table_width) =
            (if with_details { Place::full } else { Place::short }, width.unwrap_or(MAX_PIPED_WIDTH));
        let mut parts = vec![heading(head, style)];
        parts.extend(self.tables().iter().map(|one| table(one, up_to, style, table_width)));
        parts.extend(self.series.iter().filter(|_| with_details).filter_map(bars));
        parts.extend(self.parts.iter().filter(|_| with_details).map(|part| part.text(true, color, width)));
        let max = if with_details { usize::MAX } else { MAX_LINES };
        parts.push(diagnoses("warning", "33", &head.warnings, style, max));
        parts.push(diagnoses("finding", "1", &head.findings, style, max));
        parts.push(result(head, style));
        parts.push(limits(head, style));
        parts.push(verdict(head, style));
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }

    /// The verdict, the key figures and the problems, for runs whose main output is not the report.
    pub fn brief(&self) -> Vec<String> {
        let Head { key_figures, warnings, verdict, .. } = &self.head;
        let mut lines = vec![key_figures.clone() + &self.tables().iter().filter_map(brief).collect::<String>()];
        lines.extend(warnings.iter().filter(|one| one.severity > Severity::Note).map(Diagnosis::text));
        if !verdict.passed {
            lines.push(format!("{}: {}", verdict.word(), verdict.reasons.join("; ")));
        }
        lines
    }
}

fn heading(head: &Head, style: Style) -> String {
    let took = Some(format_time(head.duration_ms * 1e3)).filter(|_| head.duration_ms > 0.0);
    let took = took.map_or_else(String::new, |time| format!(", {time}"));
    style.strong(&[head.heading(), took].concat())
        + "\n"
        + &head.facts.iter().flat_map(|fact| [fact, "\n"]).collect::<String>()
}

/// The figures of a single row without a name: `; MOQT: groups sent 2, groups lost 0`.
fn brief(table: &Table<'_>) -> Option<String> {
    let grid = table.grid(Place::short).filter(|grid| grid.is_turned && grid.is_list() && !table.title.is_empty())?;
    let cells: Vec<_> = grid.lines.iter().map(|(label, cells)| format!("{} {}", label.text, cells[0])).collect();
    Some(format!("; {}: {}", table.title, cells.join(", ")))
}

/// A line for each column of a few rows, or for each row of many. A table that is wider than the terminal has a block for each row.
fn table(table: &Table<'_>, up_to: Place, style: Style, width: usize) -> String {
    let Some(grid) = table.grid(up_to) else { return String::new() };
    let chars = |text: &str| text.chars().count();
    let labels = grid.lines.iter().map(|(label, _)| chars(&label.text));
    let label_width = labels.chain([chars(&table.title), LABEL_WIDTH]).max().unwrap_or(0);
    if grid.is_list() {
        let cells = |(label, cells): &(Label, Vec<String>)| {
            let label =
                if grid.is_turned { format!("{:label_width$} ", label.text) } else { format!("{}:", label.text) };
            format!("{label} {}\n", cells[0])
        };
        let title = if table.title.is_empty() { String::new() } else { style.strong(&table.title) + "\n" };
        return title + &grid.lines.iter().map(cells).collect::<String>();
    }
    // Long labels at the head of a column are broken.
    let column_width = |(index, head): (usize, &Label)| {
        let cells = grid.lines.iter().map(|(_, cells)| chars(&cells[index]));
        let least = if grid.is_turned { COLUMN_WIDTH - 2 } else { 0 };
        cells.chain(head.text.split(' ').map(chars)).chain([least]).max().unwrap_or(0) + 2
    };
    let widths: Vec<usize> = grid.heads.iter().enumerate().map(column_width).collect();
    if label_width + widths.iter().sum::<usize>() > width {
        let Grid { heads, lines, .. } = if grid.is_turned { grid.turned() } else { grid };
        let block = |(subject, cells): &(Label, Vec<String>)| {
            let line = |(head, cell): (&Label, &String)| format!("  {:LABEL_WIDTH$}  {cell}\n", head.text);
            style.strong(&subject.text) + "\n" + &heads.iter().zip(cells).map(line).collect::<String>()
        };
        return lines.iter().map(block).collect();
    }
    let line = |label: &str, cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        format!("{label:label_width$}{}", cells.collect::<String>())
    };
    let heads = grid.heads.iter().zip(&widths).map(|(head, width)| wrap(&head.text, width - 2, ""));
    let heads: Vec<Vec<String>> = heads.map(|lines| lines.lines().map(str::to_owned).collect()).collect();
    let height = heads.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for index in 0..height {
        // The last line of each label is beside the values.
        let part =
            |head: &Vec<String>| head.get((index + head.len()).wrapping_sub(height)).cloned().unwrap_or_default();
        let title = if index + 1 == height { &table.title } else { "" };
        let line = line(title, &heads.iter().map(part).collect::<Vec<_>>());
        text += &(style.strong(line.trim_end()) + "\n");
    }
    text + &grid.lines.iter().map(|(label, cells)| line(&label.text, cells) + "\n").collect::<String>()
}

/// A few bars as lines.
fn bars(Series { title, axes, curves }: &Series) -> Option<String> {
    let [curve] = &curves[..] else { return None };
    let highest = curve.points.iter().map(|point| point.y[1]).fold(0.0, f64::max);
    if curve.style != CurveStyle::Bars || curve.points.len() > MAX_BARS || highest == 0.0 {
        return None;
    }
    let mut text = format!("{title}\n");
    for point in &curve.points {
        // Rounded up, so that a small bar is visible.
        let bar = "█".repeat((point.y[1] * MAX_BAR_WIDTH as f64 / highest).ceil() as usize);
        // Writing to a string cannot fail.
        _ = writeln!(text, "{:>26}  {bar} {}", point.part(axes[0]), format_figure(axes[1], point.y[1]));
    }
    Some(text)
}

/// A line for each different diagnosis, with what it is about, up to a number.
fn diagnoses(word: &str, code: &str, list: &[Diagnosis], style: Style, max: usize) -> String {
    let line = |(subjects, one): (String, &Diagnosis)| {
        format!("{} {subjects}{}", style.with(code, &format!("{word}:")), one.text())
    };
    lines(Diagnosis::grouped(list).into_iter().map(line).collect(), max)
}

/// What the run means for a musician, with the assumptions.
fn result(head: &Head, style: Style) -> String {
    let conclusion = head.conclusion();
    let assumptions = head.assumptions.map(|text| format!("({text})\n")).unwrap_or_default();
    if conclusion.is_empty() { conclusion } else { format!("{} {conclusion}.\n{assumptions}", style.strong("result:")) }
}

/// A line for each limit. Of many, those that were met are no news.
fn limits(head: &Head, style: Style) -> String {
    let all = head.limits();
    let is_shown = |one: &&&Judgment| all.len() <= MAX_LINES || one.result != Judged::Met;
    let line = |one: &&Judgment| {
        format!("limit {}: {}, {}", one.label(), one.measured(), style.judged(one.result, one.result.word()))
    };
    lines(all.iter().filter(is_shown).map(line).collect(), MAX_LINES)
}

/// The first lines, and the number of others.
fn lines(lines: Vec<String>, max: usize) -> String {
    shortened(lines, max).into_iter().map(|line| line + "\n").collect()
}

/// The reasons for a failure, then the verdict with the most important figures in one line. Without figures, the reasons are in this line.
fn verdict(head: &Head, style: Style) -> String {
    let (verdict, judged) = (&head.verdict, head.verdict.result.judged());
    let word = match head.interrupted {
        Some(_) => style.with("33", head.status()),
        None if verdict.passed && !verdict.limits_set => style.strong(head.status()),
        None => style.judged(judged, head.status()),
    };
    let label = style.judged(judged, &format!("{}:", verdict.result.word().to_lowercase()));
    let (reasons, end) = if head.key_figures.is_empty() {
        (Vec::new(), shortened(verdict.reasons.clone(), MAX_REASONS).join("; "))
    } else {
        (verdict.reasons.iter().map(|reason| format!("{label} {reason}")).collect(), head.key_figures.clone())
    };
    let colon = if end.is_empty() { "" } else { ": " };
    lines(reasons, MAX_LINES) + &[&*word, colon, &end, "\n"].concat()
}
