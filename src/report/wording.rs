//! How quantities read in a sentence or a table.

use super::caveats::Caveat;
use super::document::Report;
use super::limits::{Judgement, LimitUnit};
use crate::flow::run::{Command, Signal};

/// Microseconds in the unit that suits their size.
pub(super) fn time(us: f64) -> String {
    match us.abs() {
        size if size > 0.0 && size < 0.1 => format!("{:.0} ns", us * 1e3),
        size if size < 1e3 => format!("{us:.1} µs"),
        size if size < 1e6 => format!("{:.3} ms", us / 1e3),
        _ => format!("{:.3} s", us / 1e6),
    }
}

/// Microseconds in milliseconds however many they are: a hold of seconds must not hide what the path adds.
pub(super) fn fine_time(us: f64) -> String {
    if us.abs() < 1e3 { time(us) } else { format!("{:.3} ms", us / 1e3) }
}

/// A time that may be missing.
pub(super) fn time_or_dash(us: Option<f64>) -> String {
    us.map_or_else(|| "-".to_owned(), time)
}

/// A part of one as a percentage. What is not nothing never reads as 0 %.
pub(super) fn ratio(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent > 0.0 && percent < 0.001 {
        return "< 0.001 %".to_owned();
    }
    let digits = format!("{percent:.3}");
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// A limit, or what was held against it.
pub(super) fn limit(judgement: &Judgement, value: f64) -> String {
    match judgement.unit {
        LimitUnit::Ratio => ratio(value),
        LimitUnit::Packets => count(value as u64, "packet"),
        LimitUnit::Us => time(value),
        LimitUnit::Gaps => count(value as u64, "gap"),
        LimitUnit::Clips => count(value as u64, "clip"),
    }
}

/// What was held against a limit.
pub(super) fn found(judgement: &Judgement) -> String {
    judgement.measured.map_or_else(|| "no data".to_owned(), |found| limit(judgement, found))
}

/// What a reader must know about a limit, in brackets behind it; empty if nothing.
pub(super) fn note(judgement: &Judgement) -> String {
    judgement.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"))
}

/// A caveat and its points, a line each.
pub(super) fn caveat(caveat: &Caveat) -> String {
    let points = caveat.points.iter().enumerate().map(|(at, point)| format!("\n  {}. {point}", at + 1));
    format!("{}{}", caveat.text, points.collect::<String>())
}

/// A subcommand by its name.
pub(super) const fn command(command: Command) -> &'static str {
    match command {
        Command::Send => "send",
        Command::Probe => "probe",
    }
}

/// A signal by its name.
pub(super) const fn signal(signal: Signal) -> &'static str {
    match signal {
        Signal::Interrupt => "SIGINT",
        Signal::Terminate => "SIGTERM",
    }
}

/// `1 packet`, `2 packets`.
pub(super) fn count(n: u64, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// How a run went in a word, and what kept it from its end, as the beginning of a sentence: what did not go to its end has not
/// passed, whatever its numbers say.
pub(super) fn outcome(report: &Report, broken: Option<&str>) -> (&'static str, String) {
    match (broken, report.interrupted) {
        (Some(why), _) => ("BROKEN OFF", format!("{why}; until then: ")),
        (None, Some(name)) => ("INTERRUPTED", format!("{} came; until then: ", signal(name))),
        (None, None) if report.verdict.passed => ("PASSED", String::new()),
        (None, None) => ("FAILED", String::new()),
    }
}

/// When counting began, as ISO 8601 in UTC.
pub(super) fn started(report: &Report) -> Option<String> {
    let ms = i64::try_from(report.started_unix_ms).ok()?;
    Some(jiff::Timestamp::from_millisecond(ms).ok()?.to_string())
}
