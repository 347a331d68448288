//! A report as data. Each command delivers a [`Document`]: its [`Head`] with the verdict, and a body that `figures!` declares. Five printers
//! print any document: [`text`], [`json`], [`junit`], [`markdown`] and [`html`]. They know columns, judgments and series, but no run and no room.

pub(crate) mod chart;
pub mod column;
pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod schema;
pub mod text;
pub mod wrap;

use serde_json::{Map, Value};

use crate::client::StopSignal;
use crate::diagnosis::Diagnosis;
use crate::verdict::{Judged, Verdict, decide};
use column::{Column, Columns, Figures, Place, Shape, figures};

/// Incremented if a field is removed or changes its meaning, but not if a field is added.
pub const SCHEMA_VERSION: u32 = 1;

figures! {
    /// One thing that was asked of a run, and what it came to.
    Judgment {
        /// What was judged, such as a client or a pair of members; empty if it is the whole run.
        @subject subject: String;
        /// The option that sets the limit, or what was expected.
        rule: String;
        /// The profile that sets the limit.
        profile: Option<&'static str>;
        /// The figure that was compared with the limit, by its name, whose end is the unit.
        figure: Option<&'static str>;
        /// The limit, in the unit of the figure.
        allowed: Option<f64>;
        /// The value of the figure; null without data.
        measured: Option<f64>;
        /// `not_judged` if data are missing, or this host explains them.
        result: Judged;
        /// Why it was exceeded or not judged, or why another figure was compared.
        reason: Option<String>;
        /// A judgment that was not judged has no effect beside others of its group that were.
        #[serde(skip)]
        @skip group: String;
    }

    /// What all judgments come to.
    Outcome {
        /// Whether nothing was exceeded and each subject was judged.
        passed: bool;
        /// `not_measured` if nothing was exceeded, but nothing could be judged of a subject to which a limit applies.
        result: Verdict;
        /// Whether a limit was given.
        limits_set: bool;
        /// Why the run failed or measured nothing, in the words of the text report.
        reasons: Vec<String>;
    }

    /// How a report begins.
    Head {
        /// Changes if a field is removed or changes its meaning.
        schema_version: u32;
        /// Version of the program.
        tool_version: &'static str;
        /// The command.
        command: String;
        /// What it measured.
        target: String;
        /// The command line, without secrets.
        command_line: String;
        /// Name of this host, if it is known.
        host_name: Option<String>;
        /// Start of counting, in milliseconds since 1970.
        started_unix_ms: u64;
        /// Time from the start to the end of counting.
        duration_ms: f64;
        /// The seed that repeats the impairment, if there is any.
        seed: Option<u64>;
        /// The signal that ended the run early.
        interrupted: Option<StopSignal>;
        /// What all judgments come to.
        verdict: Outcome;
        /// What was asked of the run: limits and expectations.
        judgments: Vec<Judgment>;
        /// What is notable about the path.
        findings: Vec<Diagnosis>;
        /// Problems, and reasons to interpret figures with care.
        warnings: Vec<Diagnosis>;
        /// What the report is about: `send to 127.0.0.1:5000`.
        #[serde(skip)]
        @skip heading: String;
        /// Lines below the heading that say how the run was made.
        #[serde(skip)]
        @skip facts: Vec<String>;
        /// The sentence that a musician wants to read, without its period.
        #[serde(skip)]
        @skip headline: String;
        /// What the headline assumes.
        #[serde(skip)]
        @skip assumptions: Option<&'static str>;
        /// The most important figures in one line.
        #[serde(skip)]
        @skip key_figures: String;
        /// The error that ended the run early.
        #[serde(skip)]
        @skip error: Option<String>;
        /// Whether the run has not ended.
        #[serde(skip)]
        @skip is_active: bool;
    }
}

impl Judgment {
    /// Something that every run must come to. It does not excuse a limit that was not judged.
    pub(crate) fn expectation(rule: &str, result: Judged, reason: Option<String>) -> Self {
        Self { group: rule.to_owned(), ..Self::of(String::new(), rule.to_owned(), result, reason) }
    }

    /// A rule for one of several subjects.
    pub(crate) fn of(subject: String, rule: String, result: Judged, reason: Option<String>) -> Self {
        let (group, profile, figure, allowed, measured) = (subject.clone(), None, None, None, None);
        Self { subject, rule, profile, figure, allowed, measured, result, reason, group }
    }

    /// The same about this subject alone.
    #[must_use]
    pub(crate) fn about(self, subject: String) -> Self {
        Self { group: subject.clone(), subject, ..self }
    }

    /// The same in another group.
    #[must_use]
    pub(crate) fn in_group(self, group: String) -> Self {
        Self { group, ..self }
    }

    /// `--max-p99 5.000 ms`, whatever sets the limit.
    pub fn name(&self) -> String {
        self.rule.clone() + &self.format(self.allowed).map_or_else(String::new, |allowed| format!(" {allowed}"))
    }

    /// What the user gave, after the subject: `client 17: --max-loss 1 %`, or `--profile voice, loss 3 %`.
    pub fn label(&self) -> String {
        let subject = if self.subject.is_empty() { String::new() } else { format!("{}: ", self.subject) };
        match self.profile {
            Some(profile) => {
                let name = self.name();
                format!("{subject}--profile {profile}, {}", name.trim_start_matches("--max-"))
            }
            None => subject + &self.name(),
        }
    }

    /// A value in the unit of the figure.
    fn format(&self, value: Option<f64>) -> Option<String> {
        Some(column::format_figure(self.figure?, value?))
    }

    /// The value of the figure, or that there is none.
    pub(crate) fn value(&self) -> String {
        self.format(self.measured).unwrap_or_else(|| "no data".to_owned())
    }

    /// ` (too few samples …)`, or an empty text.
    pub(crate) fn note(&self) -> String {
        self.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"))
    }

    /// What was measured, with a remark: `61.000 ms (too few samples …)`.
    pub fn measured(&self) -> String {
        match (self.figure, &self.reason) {
            (None, reason) => reason.clone().unwrap_or_default(),
            (Some(_), reason) => {
                let is_reason_only = self.measured.is_none() && self.result == Judged::Exceeded;
                let reason_only = reason.clone().filter(|_| is_reason_only);
                reason_only.unwrap_or_else(|| self.value() + &self.note())
            }
        }
    }

    /// Why the run failed or measured nothing: `--max-p99 5.000 ms exceeded: 61.000 ms`.
    pub fn sentence(&self) -> String {
        match self.figure {
            Some(_) => format!("{} {}: {}", self.label(), self.result.word(), self.measured()),
            None if self.subject.is_empty() => self.measured(),
            None => format!("{}: {}", self.subject, self.measured()),
        }
    }
}

impl Outcome {
    /// What these judgments come to.
    pub fn of(judgments: &[Judgment]) -> Self {
        let limits_set = judgments.iter().any(|judgment| judgment.allowed.is_some());
        let all = judgments.iter().map(|one| (&*one.group, one.result, one));
        let (result, decisive) = decide(all);
        let reasons = decisive.into_iter().map(Judgment::sentence).collect();
        Self { passed: result == Verdict::Passed, result, limits_set, reasons }
    }

    /// The verdict in one or two words; a run without limits that did not fail is only measured.
    pub fn word(&self) -> &'static str {
        if self.passed && !self.limits_set { "measured" } else { self.result.word() }
    }
}

impl Head {
    /// The head of a report of `command` about `target`.
    pub fn new(command: &str, target: String, judgments: Vec<Judgment>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION"),
            heading: format!("{command} of {target}"),
            command: command.to_owned(),
            target,
            command_line: String::new(),
            host_name: None,
            started_unix_ms: 0,
            duration_ms: 0.0,
            seed: None,
            interrupted: None,
            verdict: Outcome::of(&judgments),
            judgments,
            findings: Vec::new(),
            warnings: Vec::new(),
            facts: Vec::new(),
            headline: String::new(),
            assumptions: None,
            key_figures: String::new(),
            error: None,
            is_active: false,
        }
    }

    /// The limits among the judgments.
    pub fn limits(&self) -> Vec<&Judgment> {
        self.judgments.iter().filter(|judgment| judgment.allowed.is_some()).collect()
    }

    /// Makes this the head of a report about an error, which alone decides the verdict.
    pub fn abort(&mut self, error: String) {
        let limits_set = self.verdict.limits_set;
        self.verdict = Outcome { passed: false, result: Verdict::Failed, limits_set, reasons: vec![error.clone()] };
        self.error = Some(error);
    }

    /// The status of the run as one word, and a prefix for the reason of the verdict, which names why the run did not complete.
    pub(crate) fn status(&self) -> (&'static str, String) {
        let so_far = "results so far: ";
        match (&self.error, self.interrupted) {
            (Some(error), _) => ("ABORTED", format!("{error}; {so_far}")),
            (None, Some(signal)) => ("INTERRUPTED", format!("received {}; {so_far}", signal.name())),
            (None, None) if self.is_active => ("RUNNING", so_far.to_owned()),
            (None, None) => (self.verdict.word(), String::new()),
        }
    }

    /// Why the run passed or failed, besides what its headline says.
    pub(crate) fn reason(&self) -> String {
        let reasons = self.verdict.reasons.iter().filter(|reason| !self.headline.starts_with(*reason));
        let reasons: Vec<&str> = reasons.map(String::as_str).collect();
        match (self.verdict.passed, self.verdict.limits_set) {
            (false, _) => reasons.join("; "),
            (true, true) => "no limit exceeded".to_owned(),
            (true, false) => "no limits set".to_owned(),
        }
    }
}

/// A report.
pub struct Document {
    /// What every report has.
    pub head: Head,
    /// What this report has, with its columns.
    pub body: Map<String, Value>,
    /// The columns of the body.
    pub columns: &'static Columns,
    /// For charts.
    pub series: Vec<Series>,
    /// The sent and the returned audio, as HTML.
    pub audio: Option<String>,
    /// The reports of several targets.
    pub parts: Vec<Document>,
}

/// Values over an axis.
pub struct Series {
    /// What is shown.
    pub title: String,
    /// The axes, by names like those of columns, whose end is the unit: `time_s`, `rtt_us`.
    pub axes: [&'static str; 2],
    /// Several curves over the same axes.
    pub curves: Vec<Curve>,
}

/// One curve.
pub struct Curve {
    /// Its name in the legend.
    pub name: &'static str,
    /// How it is drawn.
    pub style: CurveStyle,
    /// In the order of the horizontal axis.
    pub points: Vec<Point>,
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurveStyle {
    /// A line through the upper ends.
    Line,
    /// An area between the lower and the upper ends.
    Band,
    /// A bar for each point.
    Bars,
}

/// A value of a curve, over a part of the horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The part of the horizontal axis.
    pub x: [f64; 2],
    /// Lower and upper end.
    pub y: [f64; 2],
}

/// Rows of a document with the same columns.
pub struct Table<'a> {
    /// The last part of its place in the JSON document.
    pub title: String,
    /// Whether it is printed only on the page.
    is_page_only: bool,
    /// Whether its rows have numbers in place of names.
    is_numbered: bool,
    /// The columns that are printed somewhere.
    pub columns: Vec<TableColumn>,
    /// Its rows.
    pub rows: Vec<Row<'a>>,
}

/// A column of a table.
pub struct TableColumn {
    /// What people call it.
    pub label: String,
    /// Its declaration.
    pub column: &'static Column,
    /// Where it is in the object of a row.
    path: Vec<&'static str>,
}

/// A row of a table.
pub struct Row<'a> {
    /// What it is about; empty in a table of one row.
    pub subject: String,
    /// A value for each column.
    pub values: Vec<&'a Value>,
}

impl Document {
    /// A report with this body.
    pub fn new<T: Figures>(head: Head, body: &T) -> Self {
        let (series, audio, parts) = (Vec::new(), None, Vec::new());
        Self { head, body: column::to_object(body), columns: T::COLUMNS, series, audio, parts }
    }

    /// The tables of the body.
    pub fn tables(&self) -> Vec<Table<'_>> {
        let mut tables = Vec::new();
        add_tables("", self.columns, &self.body, &mut tables);
        tables
    }
}

/// The columns of a row, and whether there may be several.
fn row_columns(column: &Column) -> Option<(&'static Columns, bool)> {
    fn of_shape(shape: &Shape) -> Option<(&'static Columns, bool)> {
        match shape {
            Shape::Value(_) => None,
            Shape::Row(columns) => Some((columns, false)),
            Shape::Optional(inner) => of_shape(inner),
            Shape::List(inner) => of_shape(inner).map(|(columns, _)| (columns, true)),
        }
    }
    of_shape(&(column.shape)())
}

/// Adds the tables of an object: its own values, and those of its rows.
fn add_tables<'a>(title: &str, columns: &'static Columns, object: &'a Map<String, Value>, tables: &mut Vec<Table<'a>>) {
    let nested = columns.columns.iter().filter(|column| column.is_printed());
    let nested: Vec<_> = nested.filter_map(|column| Some((column, row_columns(column)?))).collect();
    let is_of_first = |(_, (columns, is_list)): &(_, (&Columns, bool))| !is_list && columns.name == nested[0].1.0.name;
    if nested.len() > 1 && nested.len() == columns.columns.len() && nested.iter().all(is_of_first) {
        // Several rows of one type are a table.
        let rows =
            nested.iter().filter_map(|(column, _)| Some((column.label(), object.get(column.name)?.as_object()?)));
        tables.extend(Table::new(title, nested[0].1.0, rows, true));
        return;
    }
    tables.extend(Table::new(title, columns, [(String::new(), object)].into_iter(), false));
    for (column, (of_rows, _)) in nested {
        match object.get(column.name) {
            Some(Value::Object(object)) => add_tables(&column.label(), of_rows, object, tables),
            Some(Value::Array(rows)) => {
                let rows = rows.iter().filter_map(Value::as_object).enumerate();
                let rows = rows.map(|(index, row)| ((index + 1).to_string(), row));
                let title = format!("{title} {}", column.label());
                let table = Table::new(title.trim_start(), of_rows, rows, true);
                let is_page_only = column.place == Place::page;
                let is_numbered = !of_rows.columns.iter().any(|column| column.place == Place::subject);
                tables.extend(table.map(|table| Table { is_page_only, is_numbered, ..table }));
            }
            _ => {}
        }
    }
}

/// What a row is about, in the words of judgments: `room 1, Anna to Ben, outage 1`.
fn subject(columns: &[&Column], row: &Map<String, Value>) -> String {
    let is_way = |column: &Column| ["from", "to"].contains(&column.name);
    let mut text = String::new();
    for (index, column) in columns.iter().enumerate() {
        if is_way(column) && index > 0 && is_way(columns[index - 1]) {
            text.extend([" ", column.name, " "]);
        } else if index > 0 {
            text += ", ";
        }
        let value = &row[column.name];
        // A number with a unit says what it is.
        if value.is_number() && column.label() == column.name {
            text.extend([column.name, " "]);
        }
        text += &column.format(value);
    }
    text
}

/// The columns of a row that are printed somewhere. Those of a row within a row follow with its name if `is_flat`.
fn table_columns(columns: &'static Columns, is_flat: bool, outer: &[&'static Column], all: &mut Vec<TableColumn>) {
    for column in columns.columns.iter().filter(|column| column.is_printed()) {
        let parts = [outer, &[column]].concat();
        match row_columns(column) {
            None => {
                let (label, path): (Vec<String>, _) = parts.iter().map(|part| (part.label(), part.name)).unzip();
                all.push(TableColumn { label: label.join(" "), column, path });
            }
            Some((inner, false)) if is_flat => table_columns(inner, true, &parts, all),
            Some(_) => {}
        }
    }
}

impl<'a> Table<'a> {
    /// The rows with their names, which their subjects replace; `None` without a row or a value that is printed.
    fn new(
        title: &str,
        columns: &'static Columns,
        rows: impl Iterator<Item = (String, &'a Map<String, Value>)>,
        is_flat: bool,
    ) -> Option<Self> {
        let subjects: Vec<_> = columns.columns.iter().filter(|column| column.place == Place::subject).collect();
        let mut all = Vec::new();
        table_columns(columns, is_flat, &[], &mut all);
        let row = |(name, object): (String, &'a Map<String, Value>)| {
            let subject = subject(&subjects, object);
            let value = |column: &TableColumn| {
                let (first, rest) = column.path.split_first()?;
                rest.iter().try_fold(object.get(*first)?, |value, name| value.get(name))
            };
            let values = all.iter().map(|column| value(column).unwrap_or(&Value::Null)).collect();
            Row { subject: if subjects.is_empty() { name } else { subject }, values }
        };
        let rows: Vec<_> = rows.map(row).collect();
        (!all.is_empty() && !rows.is_empty()).then(|| Self {
            title: title.to_owned(),
            is_page_only: false,
            is_numbered: false,
            columns: all,
            rows,
        })
    }

    /// The columns that are printed in a short or a whole text, or on the page, with their positions. A column without a value is not.
    pub(crate) fn visible(&self, with_details: bool, is_page: bool) -> Vec<(usize, &TableColumn)> {
        let is_zero = |value: &Value| value.as_f64() == Some(0.0) || value.is_null();
        let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let is_visible = |(position, TableColumn { column, .. }): &(usize, &TableColumn)| {
            let mut values = self.rows.iter().map(|row| row.values[*position]);
            match column.place {
                Place::short => values.any(|value| !is_empty(value)),
                Place::full => (with_details || is_page) && values.any(|value| !is_empty(value)),
                Place::page => is_page && values.any(|value| !is_empty(value)),
                _ if with_details || is_page => values.any(|value| !is_empty(value)),
                _ => !values.all(|value| is_zero(value) || is_empty(value)),
            }
        };
        let columns = if self.is_page_only && !is_page { &[] } else { &self.columns[..] };
        columns.iter().enumerate().filter(is_visible).collect()
    }
}
