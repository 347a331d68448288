//! A report as data. Each command delivers a [`Document`]: its [`Head`] with the verdict, and a body that `figures!` declares. Five printers
//! print any document: [`text`], [`json`], [`junit`], [`markdown`] and [`html`]. They know columns, judgments and series, but no run and no room.

pub(crate) mod chart;
pub mod column;
pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod schema;
pub mod table;
pub mod text;
pub mod wrap;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::client::StopSignal;
use crate::diagnosis::Diagnosis;
use crate::verdict::{Judged, Verdict, decide};
use column::{Columns, Figures, figures, format_figure};

/// Incremented if a field is removed or changes its meaning, but not if a field is added.
pub const SCHEMA_VERSION: u32 = 1;

figures! {
    /// One thing that was asked of a run, and what it came to.
    #[derive(Default)]
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
        /// A judgment that was not judged has no effect beside others of its group that were. If empty, those of its subject are its group.
        #[serde(skip)]
        @skip group: String;
        /// Whether it was asked for, and is not expected of every run.
        #[serde(skip)]
        @skip is_limit: bool;
    }

    /// What all judgments come to.
    #[derive(Default)]
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
    #[derive(Default)]
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
        /// Lines below the heading that say how the run was made.
        #[serde(skip)]
        @skip facts: Vec<String>;
        /// The sentence that a musician wants to read, without its period.
        #[serde(skip)]
        @skip headline: String;
        /// The rule of the judgment that the headline states, if it states one.
        #[serde(skip)]
        @skip stated_rule: String;
        /// What the headline assumes.
        #[serde(skip)]
        @skip assumptions: Option<&'static str>;
        /// The most important figures in one line.
        #[serde(skip)]
        @skip key_figures: String;
        /// Whether the run has not ended.
        #[serde(skip)]
        @skip is_active: bool;
    }
}

/// That no error ended the run. Only an aborted run is judged by it.
const COMPLETED: &str = "run completed";

impl Judgment {
    /// Something that every run must come to. It does not excuse a limit that was not judged.
    pub(crate) fn expectation(rule: &str, result: Judged, reason: Option<String>) -> Self {
        Self { rule: rule.to_owned(), result, reason, group: rule.to_owned(), ..Self::default() }
    }

    /// A limit or a rule for one of several subjects.
    pub(crate) fn of(subject: String, rule: String, result: Judged, reason: Option<String>) -> Self {
        Self { subject, rule, result, reason, is_limit: true, ..Self::default() }
    }

    /// `--max-p99 5.000 ms`, whatever sets the limit.
    pub fn name(&self) -> String {
        let allowed = self.figure.zip(self.allowed);
        allowed.map_or(self.rule.clone(), |(figure, value)| format!("{} {}", self.rule, format_figure(figure, value)))
    }

    /// What the user gave: `--max-loss 1 %`, or `--profile voice, loss 3 %`.
    pub(crate) fn asked(&self) -> String {
        let profile = |profile| format!("--profile {profile}, {}", self.name().trim_start_matches("--max-"));
        self.profile.map_or_else(|| self.name(), profile)
    }

    /// The same after the subject: `client 17: --max-loss 1 %`.
    pub fn label(&self) -> String {
        let subject = if self.subject.is_empty() { "" } else { &*format!("{}: ", self.subject) };
        format!("{subject}{}", self.asked())
    }

    /// What was measured, with a remark: `61.000 ms (too few samples …)`.
    pub fn measured(&self) -> String {
        let value = match (self.figure, self.measured) {
            (Some(figure), Some(value)) => Some(format_figure(figure, value)),
            (Some(_), None) if self.result != Judged::Exceeded => Some("no data".to_owned()),
            (_, None) | (None, _) => None,
        };
        match (value, self.reason.clone()) {
            (Some(value), Some(reason)) => format!("{value} ({reason})"),
            (value, reason) => value.or(reason).unwrap_or_default(),
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
        let (result, decisive) = decide(judgments);
        Self {
            passed: result == Verdict::Passed,
            result,
            limits_set: judgments.iter().any(|one| one.is_limit),
            reasons: decisive.into_iter().map(Judgment::sentence).collect(),
        }
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
            command: command.to_owned(),
            target,
            verdict: Outcome::of(&judgments),
            judgments,
            ..Self::default()
        }
    }

    /// What the report is about: `send to 127.0.0.1:5000`.
    pub(crate) fn heading(&self) -> String {
        let preposition = match &*self.command {
            "send" | "publish" | "relay" => "to",
            "musicians" => "in",
            _ => "of",
        };
        format!("{} {preposition} {}", self.command, self.target)
    }

    /// The limits among the judgments.
    pub fn limits(&self) -> Vec<&Judgment> {
        self.judgments.iter().filter(|judgment| judgment.allowed.is_some()).collect()
    }

    /// The exit code: that of the signal that ended the run early, or of the verdict.
    pub fn exit_code(&self) -> u8 {
        self.interrupted.map_or(self.verdict.result.exit_code(), StopSignal::exit_code)
    }

    /// Adds that an error ended the run, which therefore failed.
    pub fn abort(&mut self, error: String) {
        self.judgments.insert(0, Judgment::expectation(COMPLETED, Judged::Exceeded, Some(error)));
        self.verdict = Outcome::of(&self.judgments);
    }

    /// The status of the run as one word.
    pub(crate) fn status(&self) -> &'static str {
        match self.interrupted {
            _ if self.error().is_some() => "ABORTED",
            Some(_) => "INTERRUPTED",
            None if self.is_active => "RUNNING",
            None => self.verdict.word(),
        }
    }

    /// The error that ended the run.
    fn error(&self) -> Option<&str> {
        self.judgments.iter().find(|one| one.rule == COMPLETED)?.reason.as_deref()
    }

    /// What the run came to, as a sentence without its period, after what ended it early.
    pub(crate) fn conclusion(&self) -> String {
        let signal = self.interrupted.map(|signal| format!("received {}", signal.name()));
        let cause = self.error().map(str::to_owned).or(signal);
        let so_far = if cause.is_some() || self.is_active { "results so far: " } else { "" };
        let result = Some(format!("{so_far}{}", self.headline)).filter(|_| !self.headline.is_empty());
        cause.into_iter().chain(result).collect::<Vec<_>>().join("; ")
    }

    /// Why the run passed or failed, besides what its conclusion says.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let is_news = |one: &&Judgment| one.rule != COMPLETED && one.rule != self.stated_rule;
        match (self.verdict.passed, self.verdict.limits_set) {
            (false, _) => decide(&self.judgments).1.into_iter().filter(is_news).map(Judgment::sentence).collect(),
            (true, true) => vec!["no limit exceeded".to_owned()],
            (true, false) => vec!["no limits set".to_owned()],
        }
    }
}

/// The first texts, and how many others there are.
pub(crate) fn shortened(mut texts: Vec<String>, max: usize) -> Vec<String> {
    let more = texts.len().saturating_sub(max);
    texts.truncate(max);
    texts.extend((more > 0).then(|| format!("and {more} more")));
    texts
}

/// Those with the same key together, in the order of the first of each.
pub(crate) fn grouped<T, K: Ord>(all: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<Vec<T>> {
    let (mut positions, mut groups) = (BTreeMap::new(), Vec::<Vec<T>>::new());
    for one in all {
        let position = *positions.entry(key(&one)).or_insert(groups.len());
        if position == groups.len() {
            groups.push(Vec::new());
        }
        groups[position].push(one);
    }
    groups
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
    /// The sent and the returned audio.
    pub audio: Vec<Audio>,
    /// The reports of several targets.
    pub parts: Vec<Document>,
}

/// Audio in one direction.
pub struct Audio {
    /// Its course.
    pub waveform: Series,
    /// Its beginning as a WAV file.
    pub preview: Option<Vec<u8>>,
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

impl Point {
    /// The part of the horizontal axis with its unit: `1 s to 2 s`.
    fn part(&self, axis: &str) -> String {
        let [from, to] = self.x.map(|value| format_figure(axis, value));
        match self.x {
            [start, end] if start >= end => from,
            [_, end] if end.is_infinite() => format!("from {from}"),
            _ => format!("{from} to {to}"),
        }
    }
}

impl Document {
    /// A report with this body.
    pub fn new<T: Figures>(mut head: Head, body: &T) -> Self {
        head.facts.extend(head.seed.map(|seed| format!("--seed {seed} repeats the impairment")));
        let (series, audio, parts) = (Vec::new(), Vec::new(), Vec::new());
        Self { head, body: column::to_object(body), columns: T::COLUMNS, series, audio, parts }
    }
}
