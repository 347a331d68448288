//! How the report writes quantities: units, rounding and the rows of the table of figures. This module also contains the names of
//! subcommands, signals and packets.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::client::{RunKind, RunResults, StopSignal, StreamKind};
use crate::signaling::Dialect;
use crate::stats::{Histogram, HistogramBar, StreamStats};

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The figure is a text, a boolean or a list. A number that is printed only inside a longer text also has the unit `None`.
    None,
    /// A plain number.
    Count,
    /// Packets.
    Packets,
    /// Samples per channel.
    Samples,
    /// Gaps in the returned audio.
    Gaps,
    /// Runs of clipped samples.
    Clips,
    /// A ratio, 0 to 1.
    Ratio,
    /// A time in microseconds, printed in ns, µs, ms or s, depending on its size.
    Us,
    /// A time in microseconds, printed in milliseconds if it is 1 ms or longer. An echo time of several seconds is not printed in seconds.
    /// The rounding would hide the network's part, which may be only some milliseconds.
    FineUs,
    /// A time in milliseconds, printed in ns, µs, ms or s, depending on its size.
    Ms,
}

impl Unit {
    /// Formats `value`, a number in this unit.
    pub(super) fn format(self, value: f64) -> String {
        match self {
            Self::None | Self::Count | Self::Packets | Self::Samples | Self::Gaps | Self::Clips => {
                self.format_integer(value as u64)
            }
            Self::Ratio => format_percent(value),
            Self::Us => format_time(value),
            Self::FineUs => format_time_ms(value),
            Self::Ms => format_time(value * 1e3),
        }
    }

    /// Writes the integer `n`, which is in this unit.
    pub(super) fn format_integer(self, n: u64) -> String {
        match self {
            Self::Packets => format_count(n, "packet"),
            Self::Samples => format_count(n, "sample"),
            Self::Gaps => format_count(n, "gap"),
            Self::Clips => format_count(n, "clip"),
            _ => n.to_string(),
        }
    }
}

/// Nanoseconds as microseconds.
pub(super) fn micros(ns: i64) -> f64 {
    ns as f64 / 1e3
}

/// Rounds a time to whole nanoseconds, then converts the time to microseconds.
pub(super) fn rounded_micros(ns: f64) -> f64 {
    // Adding zero turns -0.0 into 0.0.
    ns.round() / 1e3 + 0.0
}

/// Nanoseconds as milliseconds.
pub(super) fn millis(ns: i64) -> f64 {
    ns as f64 / 1e6
}

/// Nanoseconds as milliseconds.
pub(super) fn unsigned_millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// A duration in milliseconds, rounded to three decimals.
pub(super) fn duration_millis(duration: Duration) -> f64 {
    thousandths(duration.as_secs_f64() * 1e3)
}

/// The duration of `samples` per channel in milliseconds, rounded to three decimals.
pub(super) fn samples_to_millis(samples: u64, sample_rate: u32) -> f64 {
    thousandths(samples as f64 * 1e3 / f64::from(sample_rate.max(1)))
}

/// A linear magnitude in decibels, rounded to three decimals; `None` for zero.
pub(super) fn decibels(magnitude: f64) -> Option<f64> {
    (magnitude > 0.0).then(|| thousandths(20.0 * magnitude.log10()))
}

/// Rounded to three decimals; adding zero turns -0.0 into 0.0.
pub(super) fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3 + 0.0
}

/// Writes a time, given in microseconds, in ns, µs, ms or s, depending on its size.
pub(super) fn format_time(us: f64) -> String {
    match us.abs() {
        size if size > 0.0 && size < 0.1 => format!("{:.0} ns", us * 1e3),
        size if size < 1e3 => format!("{us:.1} µs"),
        size if size < 1e6 => format!("{:.3} ms", us / 1e3),
        _ => format!("{:.3} s", us / 1e6),
    }
}

/// Formats a time, which is given in microseconds. A time of 1 ms or longer is written in milliseconds with three decimals.
pub fn format_time_ms(us: f64) -> String {
    if us.abs() < 1e3 { format_time(us) } else { format!("{:.3} ms", us / 1e3) }
}

/// A time in milliseconds: `5.0 s`, `120 ms`.
pub fn format_length(ms: f64) -> String {
    if ms < 1e3 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1e3) }
}

/// A time in microseconds, or `-`.
pub(super) fn format_optional_time(us: Option<f64>) -> String {
    us.map_or_else(|| "-".to_owned(), format_time)
}

/// A ratio as a percentage. Only an exact zero is written as `0 %`.
pub fn format_percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent > 0.0 && percent < 0.001 {
        return "< 0.001 %".to_owned();
    }
    let digits = format!("{percent:.3}");
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// A ratio from 0 to 1 as a percentage with two decimals at most. A ratio above zero never appears as 0 %.
pub fn format_share(ratio: f64) -> String {
    let rounded = (ratio * 1e4).round() / 1e4;
    if ratio > 0.0 && rounded == 0.0 { "< 0.01 %".to_owned() } else { format_percent(rounded) }
}

/// `1 packet`, `2 packets`.
pub(super) fn format_count(n: u64, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// One figure, computed from the statistics `T`.
#[derive(Debug)]
pub struct Figure<T: 'static> {
    /// The JSON object that contains the figure.
    pub group: &'static str,
    /// The JSON name.
    pub name: &'static str,
    /// The unit of the value.
    pub unit: Unit,
    /// The label of the row in the text report; empty if the figure has none.
    pub label: &'static str,
    /// The value.
    pub value: fn(&T) -> Value,
    /// The place of the figure in the text report, and the condition for printing the figure.
    pub shown: Shown<T>,
    /// The summaries (Markdown, JUnit) in which the figure appears.
    pub key: Key,
}

/// Where the text report prints a figure.
#[derive(Debug)]
pub enum Shown<T: 'static> {
    /// The text report does not print the figure separately. The figure is either only in JSON or included in the row of another figure.
    JsonOnly,
    /// A row of the table that has one column per stream. The `u8` is the sort key of the row.
    Cell(u8, When),
    /// A row that contains only this figure.
    Row(When),
    /// A part of a row; the string is the name of the part. Consecutive figures with the same label share a row.
    Part(&'static str, When),
    /// A row composed of several figures of the group.
    Composed(fn(&T) -> String),
    /// A row composed of several figures of the group. If the function returns `None`, the row is hidden.
    ComposedIf(fn(&T) -> Option<String>),
}

/// The condition under which the text report prints a figure. Even with [`When::Always`], a row of cells is hidden if no stream has a
/// value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The figure is shown even if it has no value. A missing value is shown as `-`.
    Always,
    /// The figure is shown only if it has a value. Without the value, the whole row of the figure is hidden.
    Present,
    /// A part that is omitted if there is no value. If all parts of a row are omitted, the row is hidden.
    OptionalPart,
    /// The row is shown if any value is not 0.
    NonZero,
    /// The row is shown if any value is not 0 and the run expects replies.
    RepliesExpected,
    /// The row is shown if `--late-after` was given.
    LateAfter,
    /// The row is shown if `--loss-direction` was given. A missing value is `unknown`.
    LossReport,
}

/// The summaries (Markdown, JUnit) in which a figure appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// No summary.
    No,
    /// The Markdown summary.
    Summary,
    /// The Markdown summary and the JUnit properties.
    Property,
}

/// The value of a figure, if it is a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// No data.
    Missing,
    /// An integer.
    Count(u64),
    /// Any other number.
    Number(f64),
    /// Text, a boolean or a list.
    Other,
}

impl<T> Figure<T> {
    /// The value in the figure's unit; `None` without data.
    pub(super) fn format(&self, group: &T) -> Option<String> {
        match (self.value)(group) {
            Value::Count(n) => Some(self.unit.format_integer(n)),
            Value::Number(value) => Some(self.unit.format(value)),
            Value::Missing | Value::Other => None,
        }
    }
}

/// The rows (label and text) of a group of figures. The report prints these rows below the stream table.
pub(super) fn rows<T>(figures: &[Figure<T>], group: &T) -> Vec<(&'static str, String)> {
    let printed: Vec<&Figure<T>> =
        figures.iter().filter(|figure| !matches!(figure.shown, Shown::JsonOnly | Shown::Cell(..))).collect();
    let mut rows = Vec::new();
    for row in printed.chunk_by(|one, next| one.label == next.label) {
        let text = match &row[0].shown {
            Shown::Row(When::NonZero) if (row[0].value)(group) == Value::Count(0) => None,
            Shown::Composed(compose) => Some(compose(group)),
            Shown::ComposedIf(compose) => compose(group),
            Shown::Part(..) => join_parts(row, group),
            _ => row[0].format(group),
        };
        rows.extend(text.map(|text| (row[0].label, text)));
    }
    rows
}

/// `p50 1.0 µs, p99 -, max 2.0 µs`.
fn join_parts<T>(row: &[&Figure<T>], group: &T) -> Option<String> {
    let mut parts = Vec::new();
    for figure in row {
        let Shown::Part(part, when) = figure.shown else { continue };
        match (figure.format(group), when) {
            (Some(value), _) => parts.push(format!("{part} {value}")),
            (None, When::Present) => return None,
            (None, When::OptionalPart) => {}
            (None, _) => parts.push(format!("{part} -")),
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

macro_rules! value_from {
    ($($type:ty => |$value:ident| $result:expr;)*) => {
        $(#[allow(clippy::ref_option_ref, reason = "the macro `figures` passes each field by reference")]
        impl From<&$type> for Value {
            fn from($value: &$type) -> Self { $result }
        })*
    };
}

value_from! {
    u64 => |value| Self::Count(*value);
    u32 => |value| Self::Count(u64::from(*value));
    u16 => |value| Self::Count(u64::from(*value));
    f64 => |value| Self::Number(*value);
    Option<u64> => |value| value.map_or(Self::Missing, Self::Count);
    Option<u32> => |value| value.map_or(Self::Missing, |value| Self::Count(value.into()));
    Option<f64> => |value| value.map_or(Self::Missing, Self::Number);
    Option<i64> => |value| value.map_or(Self::Missing, |value| Self::Number(value as f64));
    bool => |_value| Self::Other;
    String => |_value| Self::Other;
    &'static str => |_value| Self::Other;
    Option<String> => |_value| Self::Other;
    Option<&'static str> => |_value| Self::Other;
    Option<SocketAddr> => |_value| Self::Other;
    Dialect => |_value| Self::Other;
}

impl<T> From<&Vec<T>> for Value {
    fn from(_list: &Vec<T>) -> Self {
        Self::Other
    }
}

impl<T> From<&Option<Vec<T>>> for Value {
    fn from(_list: &Option<Vec<T>>) -> Self {
        Self::Other
    }
}

impl<const N: usize> From<&[u64; N]> for Value {
    fn from(_list: &[u64; N]) -> Self {
        Self::Other
    }
}

/// Turns each group of the table into a struct with the constant `FIGURES`. The struct serializes to the JSON object. A row is
/// `name: type = value => unit, label, shown, key;`. A row without `=>` is `JsonOnly`. A row without `key` is in no summary. A
/// group may have statements in brackets before its rows. `new` executes these statements once and then computes the values of all rows.
macro_rules! figures {
    (@text $type:ident) => { figures!(@text $type Unit::None, "", Shown::JsonOnly) };
    (@text $type:ident $unit:expr, $label:expr, $shown:expr) => { figures!(@text $type $unit, $label, $shown, Key::No) };
    (@text $type:ident $unit:expr, $label:expr, $shown:expr, $key:expr) => { ($unit, $label, $shown, $key) };
    ($(
        $(#[$doc:meta])*
        $group:literal: $type:ident from $input:ident: $source:ty $([$($prelude:tt)*])? {
            $($name:ident: $field:ty = $value:expr $(=> $($text:expr),+)?;)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
        pub struct $type {
            $(pub $name: $field,)*
        }

        impl $type {
            /// The figures of this group in the order of the JSON object.
            pub const FIGURES: &'static [Figure<Self>] = &[$({
                let (unit, label, shown, key) = figures!(@text $type $($($text),+)?);
                Figure {
                    group: $group,
                    name: stringify!($name),
                    unit,
                    label,
                    value: |group| Value::from(&group.$name),
                    shown,
                    key,
                }
            },)*];

            /// Computes the figures of a run that has ended.
            pub(super) fn new($input: $source) -> Self {
                $($($prelude)*)?
                Self { $($name: $value,)* }
            }
        }
    )*};
}
pub(super) use figures;

/// The name of a subcommand.
pub(super) const fn command(command: RunKind) -> &'static str {
    match command {
        RunKind::Send => "send",
        RunKind::Probe => "probe",
    }
}

/// The name of a signal.
pub(super) const fn signal(signal: StopSignal) -> &'static str {
    match signal {
        StopSignal::Interrupt => "SIGINT",
        StopSignal::Terminate => "SIGTERM",
    }
}

/// The protocol of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunProtocol {
    Udp,
    WebSocket(Dialect),
    Moqt,
}

impl RunProtocol {
    pub(super) fn new(dialect: Option<Dialect>, moqt: bool) -> Self {
        match (dialect, moqt) {
            (Some(dialect), _) => Self::WebSocket(dialect),
            (None, true) => Self::Moqt,
            (None, false) => Self::Udp,
        }
    }

    pub(super) fn of_run(run: &RunResults) -> Self {
        Self::new(run.websocket.as_ref().map(|websocket| websocket.dialect), run.moqt.is_some())
    }
}

/// The names of a stream's packets: packet types over UDP, message types over WebSocket, frames over MOQT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamLabels {
    /// The type of the request.
    pub(super) request: &'static str,
    /// The type of the reply.
    pub(super) reply: &'static str,
    /// `packet`, `message` or `frame`.
    pub(super) request_unit: &'static str,
    /// `datagram`, `message` or `frame`.
    pub(super) reply_unit: &'static str,
}

impl StreamLabels {
    pub(super) fn new(protocol: RunProtocol, kind: StreamKind) -> Self {
        match (protocol, kind) {
            (RunProtocol::WebSocket(dialect), StreamKind::Ping) => Self {
                request: dialect.probe().request_type,
                reply: dialect.probe().response_type,
                request_unit: "message",
                reply_unit: "message",
            },
            (RunProtocol::Moqt, StreamKind::Ping) => {
                Self { request: "MOQT", reply: "MOQT", request_unit: "frame", reply_unit: "frame" }
            }
            _ => {
                Self { request: kind.name(), reply: kind.reply_name(), request_unit: "packet", reply_unit: "datagram" }
            }
        }
    }

    /// For example `LATENCY_PING packet` or `ping message`.
    pub(super) fn request_noun(self) -> String {
        format!("{} {}", self.request, self.request_unit)
    }

    /// `LATENCY_PONG datagram`, `pong message`.
    pub(super) fn reply_noun(self) -> String {
        format!("{} {}", self.reply, self.reply_unit)
    }
}

/// The round trips of one stream in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip<'a> {
    /// The measured round trips, each minus a baseline.
    histogram: &'a Histogram,
    /// Added to each value of `histogram` to restore the baseline. For AUDIO, `RoundTrip::of` also subtracts the server delay from this
    /// offset.
    offset: i64,
}

impl<'a> RoundTrip<'a> {
    /// The round trips of the stream `kind`. For AUDIO, the server delay is subtracted. `None` if the stream was not sent or the server
    /// delay is unknown.
    pub(super) fn of(run: &'a RunResults, kind: StreamKind) -> Option<Self> {
        let server_delay = if kind == StreamKind::Audio { run.server_delay().effective_ns()? } else { 0 };
        let echo_time = Self::echo_time(run.stream(kind)?);
        Some(Self { offset: echo_time.offset.saturating_sub(server_delay), ..echo_time })
    }

    /// The times from sending to return, which include the server delay.
    pub(super) fn echo_time(stream: &'a StreamStats) -> Self {
        Self { histogram: &stream.rtt, offset: stream.rtt_baseline() }
    }

    /// A round trip of the stream's history, in nanoseconds.
    pub(super) fn with_offset(&self, ns: i64) -> i64 {
        ns.saturating_add(self.offset)
    }

    pub(super) fn count(&self) -> u64 {
        self.histogram.count()
    }

    pub(super) fn min(&self) -> Option<i64> {
        self.histogram.min().map(|ns| ns.saturating_add(self.offset))
    }

    pub(super) fn max(&self) -> Option<i64> {
        self.histogram.max().map(|ns| ns.saturating_add(self.offset))
    }

    /// Number of round trips that exceed the smallest one by more than `ns`, with the resolution of the histogram.
    pub(super) fn count_above_min(&self, ns: i64) -> u64 {
        self.histogram.count_above_min(ns)
    }

    pub(super) fn mean(&self) -> Option<f64> {
        self.histogram.mean().map(|ns| ns + self.offset as f64)
    }

    /// The percentile `p`, 0 to 1; `None` if there are fewer than 1/(1−p) round trips.
    pub(super) fn percentile(&self, p: f64) -> Option<i64> {
        self.histogram.percentile_if_enough(p).map(|ns| ns.saturating_add(self.offset))
    }

    /// At most `n` bars of a histogram.
    pub(super) fn bars(&self, n: usize) -> Vec<HistogramBar> {
        self.histogram.bars(n, self.offset)
    }
}
