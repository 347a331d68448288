//! The report of a check: a judgment for each rule and source, and for what was expected of all.

use super::totals::AUDIO;
use super::{CheckReport, CheckedSource, CommandResult, EndedBy, Finding, NotJudged, Severity};
use crate::diagnosis::Diagnosis;
use crate::document::column::figures;
use crate::document::{Curve, CurveStyle, Document, Head, Judgment, Outcome, Point, Series};
use crate::report::media::MediaFigures;
use crate::report::quantities::format_count;
use crate::verdict::Judged;

/// A probable reason why nothing arrived.
const EXPANDED_COMMAND: &str = "the command of --run names no variable: in double quotes, a shell replaces $SERVER before this program starts, \
                                so use single quotes";

/// Only the first clients have charts, so that a browser can show the page.
const MAX_CHARTS: usize = 50;

figures! {
    /// What the clients of a server did.
    CheckFigures from (report, command): (&CheckReport, Option<CommandResult>) {
        /// The clients.
        sources: Vec<CheckedSource> = report.sources.clone();
        /// Datagrams of sources without a place, or further connections, which were not judged.
        @problem untracked: u64 = report.untracked;
        /// Addresses that sent only datagrams that are no jamjam packets, such as scanners and STUN clients.
        @problem strangers: u64 = report.strangers;
        /// The command that the server ran for the check.
        run: Option<CommandResult> = command;
        /// What the members of rooms have sent to each other, if the server relays it.
        media: Option<MediaFigures> = report.media.as_ref().map(|media| media.figures.clone());
    }
}

impl CheckReport {
    /// The report, in which a finding of at least the severity `fail_on` breaks its rule, and at least `expected` sources have to do what is
    /// expected. `command` is the one that the server ran for the check.
    pub fn document(mut self, fail_on: Severity, expected: usize, command: Option<CommandResult>) -> Document {
        let mut judgments = self.expectations(expected, command.as_ref());
        judgments.extend(self.sources.iter().flat_map(|source| of_source(source, fail_on)));
        judgments.extend(self.media.iter_mut().flat_map(|media| std::mem::take(&mut media.judgments)));
        let findings = || self.sources.iter().flat_map(|source| &source.findings);
        let warnings = findings().filter(|finding| finding.severity == Severity::Warning).count();
        let mut head = Head::new(self.server, "all clients".to_owned(), judgments);
        head.verdict = Outcome { limits_set: true, ..head.verdict };
        head.heading = format!("{} --check of all clients", self.server);
        if warnings > 0 {
            head.key_figures = format_count(warnings as u64, "warning");
        }
        head.facts = self.notes(command.as_ref()).collect();
        head.findings = self.sources.iter().flat_map(diagnoses).collect();
        head.seed = self.seed;
        if let Some(media) = &mut self.media {
            head.findings.append(&mut media.findings);
            head.warnings.append(&mut media.warnings);
        }
        let series = self.sources.iter().take(MAX_CHARTS).flat_map(series).collect();
        Document { series, ..Document::new(head, &CheckFigures::from((&self, command))) }
    }

    /// What was expected of all sources.
    fn expectations(&self, expected: usize, command: Option<&CommandResult>) -> Vec<Judgment> {
        let came = self.sources.iter().filter(|source| source.took_part).count();
        let nothing = if self.is_silent() { ", and nothing arrived at all" } else { "" };
        let too_few = format!("{came} of {expected} expected {}{nothing}", self.expectation);
        // What a connection sends is judged even if it joins no room.
        let is_judged = self.sources.iter().any(|source| source.took_part || source.details.is_none());
        let sources = if came < expected {
            (Judged::Exceeded, Some(too_few))
        } else if is_judged {
            (Judged::Met, None)
        } else {
            (Judged::NotJudged, Some("no client has done anything that could be judged".to_owned()))
        };
        let untracked = format!("{} {} were not judged", self.untracked, self.untracked_name);
        let untracked = Some(untracked).filter(|_| self.untracked > 0);
        let failure = command.map(|command| ("command", command.failure()));
        let others = failure.into_iter().chain([("places for all", untracked)]);
        let others = others.map(|(rule, reason)| (rule, (Judged::of(reason.is_none()), reason)));
        let all = others.chain([("expected sources", sources)]);
        all.map(|(rule, (result, reason))| Judgment::expectation(rule, result, reason)).collect()
    }

    fn is_silent(&self) -> bool {
        self.sources.is_empty() && self.strangers == 0
    }

    /// What else is to be said: what ended a command, and what repeats the run.
    fn notes(&self, command: Option<&CommandResult>) -> impl Iterator<Item = String> {
        let option = match command.map(|command| command.ended_by) {
            Some(EndedBy::Duration) => Some("--duration"),
            Some(EndedBy::UntilIdle) => Some("--until-idle"),
            _ => None,
        };
        let ended = option.map(|option| format!("{option} ended the command"));
        let expanded = command.filter(|command| self.is_silent() && !command.command.contains(['$', '%']));
        let expanded = expanded.map(|_| EXPANDED_COMMAND.to_owned());
        let seed = self.seed.map(|seed| format!("--seed {seed} repeats the impairment"));
        ended.into_iter().chain(expanded).chain(seed)
    }
}

/// A judgment for each rule.
fn of_source(source: &CheckedSource, fail_on: Severity) -> impl Iterator<Item = Judgment> {
    source.rules.iter().map(move |&rule| {
        let of_rule = source.findings.iter().filter(|finding| finding.rule == rule);
        let (severe, others): (Vec<_>, Vec<_>) = of_rule.partition(|finding| finding.severity >= fail_on);
        let join = |found: Vec<&Finding>| found.into_iter().map(sentence).collect::<Vec<_>>().join("; ");
        let is_of_rule = |part: &&NotJudged| part.rules.iter().any(|of_part| of_part.rule().id == rule);
        let (result, reason) = match source.not_judged.iter().find(is_of_rule) {
            _ if !severe.is_empty() => (Judged::Exceeded, join(severe)),
            Some(NotJudged { what, reason, .. }) => (Judged::NotJudged, format!("{what}: {reason}")),
            None => (Judged::Met, join(others)),
        };
        let reason = Some(reason).filter(|reason| !reason.is_empty());
        Judgment::of(source.name.clone(), rule.to_owned(), result, reason)
    })
}

/// What was found about a source, and what could not be judged.
fn diagnoses(source: &CheckedSource) -> Vec<Diagnosis> {
    let CheckedSource { name, findings, not_judged, .. } = source;
    let about = |one| Diagnosis { subject: Some(name.clone()), ..one };
    let found = findings.iter().map(|finding| {
        let first = finding.first.map(|first| {
            let sequence = if first.packet == "datagram" { String::new() } else { format!(" {}", first.sequence) };
            format!("; the first one is {}{sequence} at {:.3} s", first.packet, first.at_s)
        });
        let message = sentence(finding) + &first.unwrap_or_default();
        about(Diagnosis::new(finding.severity, finding.rule, finding.section, message))
    });
    let parts: Vec<_> = not_judged.iter().map(|part| format!("{} ({})", part.what, part.reason)).collect();
    let has_parts = parts.first().is_some_and(|_| not_judged[0].what != AUDIO);
    let message = format!("not judged: {}", parts.join(", "));
    let unjudged = has_parts.then(|| about(Diagnosis::new(Severity::Note, "not_judged", "docs/rules.md", message)));
    found.chain(unjudged).collect()
}

/// The severity, the message, how often, and where to read on.
fn sentence(Finding { rule, severity, message, count, unit, section, .. }: &Finding) -> String {
    let count = if *count > 1 { format!(" ({count} {unit})") } else { String::new() };
    format!("{severity}: {message}{count} [{rule}, {section}]")
}

/// What a person looks for: packets per second, their spacing, and the level.
fn series(source: &CheckedSource) -> Vec<Series> {
    let history = &source.history;
    let curve = |name, style, y: &dyn Fn(usize) -> Option<[f64; 2]>| {
        let point = |index: usize| {
            let x = [index as u64, index as u64 + 1].map(|number| (history.interval_s * number) as f64);
            Some(Point { x, y: y(index)? })
        };
        Curve { name, style, points: (0..history.intervals.len()).filter_map(point).collect() }
    };
    let rate = |index: usize| history.packet_rate(index).map(|rate| [0.0, rate]);
    let spacing = |index: usize| history.intervals[index].spacing_us.map(|(min, max)| [f64::from(min), f64::from(max)]);
    let level = |index: usize| {
        let level = 20.0 * f64::from(history.intervals[index].peak).log10();
        Some([MIN_LEVEL_DBFS, level]).filter(|_| level > MIN_LEVEL_DBFS)
    };
    let all = [
        ("AUDIO packets per second", "rate_per_s", curve("packets", CurveStyle::Bars, &rate)),
        ("time between packets", "spacing_us", curve("shortest to longest", CurveStyle::Band, &spacing)),
        ("peak level", "level_dbfs", curve("peak", CurveStyle::Bars, &level)),
    ];
    let all = all.into_iter().filter(|(.., curve)| !curve.points.is_empty());
    let title = |title: &str| format!("{}: {title}", source.name);
    all.map(|(name, axis, curve)| Series { title: title(name), axes: ["time_s", axis], curves: vec![curve] }).collect()
}

/// Levels below this are drawn as silence.
const MIN_LEVEL_DBFS: f64 = -60.0;
