//! Limits that a run must meet, and the verdict. Every limit applies to the evaluated stream. A limit for which there is no
//! data counts as exceeded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quantities::{ResultRow, RoundTrip, RunProtocol, StreamLabels, Unit, format_count, format_time};
use crate::client::{RunResults, StreamKind};
use jamjam_core::sanitize::sanitize;
use jamjam_core::stats::StreamStats;
use jamjam_core::time::saturating_nanos;

/// The limits of a run. No limit is set by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// `--max-loss`: ratio of lost packets to settled packets, 0 to 1.
    pub max_loss: Option<f64>,
    /// `--max-p50`: median of the round-trip time.
    pub max_p50: Option<Duration>,
    /// `--max-p99`: 99th percentile of the round-trip time.
    pub max_p99: Option<Duration>,
    /// `--max-jitter`: mean of the running jitter estimate (RFC 3550, section 6.4.1).
    pub max_jitter: Option<Duration>,
}

/// A purpose of a path, with limits. `docs/measuring.md` gives the sources of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Playing music over a local network.
    LanMusic,
    /// Playing music over the Internet.
    InternetMusic,
    /// Conversation.
    Voice,
}

impl Profile {
    /// The limits of the profile.
    pub fn limits(self) -> Limits {
        let (max_loss, max_p50, max_p99) = match self {
            Self::LanMusic => (0.001, 2, 4),
            Self::InternetMusic => (0.01, 23, 34),
            Self::Voice => (0.03, 200, 250),
        };
        Limits {
            max_loss: Some(max_loss),
            max_p50: Some(Duration::from_millis(max_p50)),
            max_p99: Some(Duration::from_millis(max_p99)),
            ..Limits::default()
        }
    }
}

/// The result of comparing a figure of the run with one limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitResult {
    /// The name of the limit, such as `max_loss`.
    pub limit: &'static str,
    /// The figure that was compared, by its JSON name.
    pub figure: &'static str,
    /// The unit of `allowed` and `measured`: `ratio` or `us`.
    pub unit: Unit,
    /// The maximum.
    pub allowed: f64,
    /// The value of the figure; `None` without data.
    pub measured: Option<f64>,
    /// Whether the limit was met.
    pub passed: bool,
    /// Why there is no data, or why a substitute figure was compared with the limit.
    pub note: Option<String>,
}

/// Headings of the columns of [`LimitResult::row`] after the option.
pub(super) const LIMIT_HEADINGS: [&str; 3] = ["allowed", "measured", "result"];

impl LimitResult {
    /// The option that sets the limit: `--max-loss`.
    pub(super) fn option(&self) -> String {
        format!("--{}", self.limit.replace('_', "-"))
    }

    /// `1 %`, `5.000 ms`.
    pub(super) fn allowed_text(&self) -> String {
        self.unit.format(self.allowed)
    }

    /// `0.5 %`, `no data`.
    pub(super) fn measured_text(&self) -> String {
        self.measured.map_or_else(|| "no data".to_owned(), |measured| self.unit.format(measured))
    }

    /// The result as a row of a table.
    pub(super) fn row(&self) -> ResultRow {
        ResultRow {
            label: format!("`{}`", self.option()),
            values: vec![self.allowed_text(), self.measured_text()],
            result: if self.passed { "met" } else { "exceeded" },
            is_bad: !self.passed,
            note: self.note.clone(),
        }
    }

    /// Returns ` (note)`, which starts with a space. The text is empty if there is no note.
    pub(super) fn note_text(&self) -> String {
        self.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"))
    }
}

impl Limits {
    /// These limits, with the limits of `other` where no limit is set here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            max_loss: self.max_loss.or(other.max_loss),
            max_p50: self.max_p50.or(other.max_p50),
            max_p99: self.max_p99.or(other.max_p99),
            max_jitter: self.max_jitter.or(other.max_jitter),
        }
    }

    /// Whether any limit was set.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Compares the run with each limit that was set. Times are compared in nanoseconds, before rounding.
    pub fn evaluate(&self, run: &RunResults) -> Vec<LimitResult> {
        let nanos = |limit: Option<Duration>| limit.map(|limit| saturating_nanos(limit) as f64);
        let limits = [
            ("max_loss", Unit::Ratio, self.max_loss, loss(run)),
            ("max_p50", Unit::Us, nanos(self.max_p50), percentile(run, 0.5, "p50", "rtt_p50_us")),
            ("max_p99", Unit::Us, nanos(self.max_p99), percentile(run, 0.99, "p99", "rtt_p99_us")),
            ("max_jitter", Unit::Us, nanos(self.max_jitter), jitter(run)),
        ];
        let evaluate = |(limit, unit, allowed, measured): (_, Unit, Option<f64>, Measured)| {
            let (allowed, Measured { figure, value, note }) = (allowed?, measured);
            let passed = value.is_some_and(|value| value <= allowed);
            let [allowed, measured] = [Some(allowed), value].map(|value| value.map(|value| unit.rounded(value)));
            Some(LimitResult { limit, figure, unit, allowed: allowed?, measured, passed, note })
        };
        limits.into_iter().filter_map(evaluate).collect()
    }
}

/// The value of a figure, and a remark on it.
struct Measured {
    figure: &'static str,
    value: Option<f64>,
    note: Option<String>,
}

impl Measured {
    fn new(figure: &'static str, value: Result<f64, String>) -> Self {
        Self { figure, value: value.as_ref().ok().copied(), note: value.err() }
    }
}

fn loss(run: &RunResults) -> Measured {
    let stream = run.stream(run.evaluated_stream).filter(|_| run.replies_expected);
    let ratio = stream.and_then(StreamStats::loss_ratio);
    Measured::new("loss_ratio", ratio.ok_or_else(|| missing_data_reason(run, NO_OUTCOME)))
}

fn percentile(run: &RunResults, p: f64, name: &str, figure: &'static str) -> Measured {
    let rtt = RoundTrip::of(run, run.evaluated_stream);
    let (percentile, maximum) = rtt.map(|rtt| (rtt.percentile(p), rtt.max())).unwrap_or_default();
    let (value, figure, note) = match (percentile, maximum) {
        (Some(_), _) => (percentile, figure, None),
        (None, Some(_)) => {
            let count = rtt.map_or(0, |rtt| rtt.histogram.count());
            let note = format!("too few samples for {name} ({count}): the maximum is used instead");
            (maximum, "rtt_max_us", Some(note))
        }
        (None, None) => (None, figure, Some(missing_data_reason(run, NO_REPLIES))),
    };
    if value.is_some_and(|ns| ns < 0) {
        // A negative round-trip time would meet any limit.
        let note = "negative round-trip time: the server delays AUDIO by less than --delay";
        return Measured::new(figure, Err(note.to_owned()));
    }
    Measured { figure, value: value.map(|ns| ns as f64), note }
}

fn jitter(run: &RunResults) -> Measured {
    let mean = run.stream(run.evaluated_stream).and_then(|stream| stream.jitter.mean());
    let mean = mean.ok_or_else(|| missing_data_reason(run, "jitter needs two returned packets"));
    Measured::new("jitter_mean_us", mean)
}

const NO_OUTCOME: &str = "too few packets had an outcome when the run ended";
const NO_REPLIES: &str = "no replies received";
const NOTHING_SENT: &str = "nothing was sent";

/// Why a figure of the evaluated stream has no data. Returns `default` if there is no more specific reason.
fn missing_data_reason(run: &RunResults, default: &str) -> String {
    if !run.replies_expected {
        return "no replies were expected".to_owned();
    }
    match run.stream(run.evaluated_stream) {
        None | Some(StreamStats { sent: 0, .. }) => NOTHING_SENT.to_owned(),
        Some(stream)
            if run.evaluated_stream == StreamKind::Audio
                && stream.returned > 0
                && run.server_delay().effective_ns().is_none() =>
        {
            "the server delay is unknown because no LATENCY_PONG arrived; give --delay".to_owned()
        }
        Some(_) => default.to_owned(),
    }
}

/// Whether the run passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the run passed.
    pub passed: bool,
    /// Whether any limit, such as `--max-loss`, or `--baseline` was set. Without limits, the run passes if replies arrived, all undamaged, and the
    /// connection did not fail. With `--no-echo` and without limits, the run passes if all packets were sent.
    pub limits_set: bool,
    /// Why the run failed; empty if it passed.
    pub reasons: Vec<String>,
    /// Why no reply arrived, or why a run that expects no replies did not send all packets.
    #[serde(skip)]
    pub no_reply_reason: Option<String>,
    /// Why a run that sent less than half of its plan failed.
    #[serde(skip)]
    pub mostly_not_sent: Option<String>,
    /// For each stream with damaged replies, a sentence that reports the damage.
    #[serde(skip)]
    pub damage_reasons: Vec<String>,
}

impl Verdict {
    /// The verdict in one word. A run without limits that did not fail is only measured.
    pub fn word(&self) -> &'static str {
        match (self.passed, self.limits_set) {
            (false, _) => "FAILED",
            (true, true) => "PASSED",
            (true, false) => "measured",
        }
    }

    /// Adds the reasons why a comparison failed. The comparison counts as a limit. Without replies, it has no figures to compare.
    pub(super) fn add_comparison(&mut self, reasons: Vec<String>) {
        self.limits_set = true;
        if self.no_reply_reason.is_none() {
            self.reasons.extend(reasons);
            self.passed = self.reasons.is_empty();
        }
    }

    pub(super) fn new(run: &RunResults, limits: &[LimitResult]) -> Self {
        let stream = run.stream(run.evaluated_stream);
        let no_reply_reason = no_reply_reason(run, stream);
        let mostly_not_sent = stream.and_then(|stream| mostly_not_sent_reason(run, stream));
        let protocol = RunProtocol::of_run(run);
        let damage = |kind| damage_reason(StreamLabels::new(protocol, kind), run.stream(kind)?);
        let damage_reasons: Vec<String> = StreamKind::ALL.into_iter().filter_map(damage).collect();
        // If there is a `no_reply_reason`, limits without a measured value are not listed as exceeded. The `no_reply_reason` already
        // explains why these values are missing.
        let exceeded = limits
            .iter()
            .filter(|limit| !limit.passed && (no_reply_reason.is_none() || limit.measured.is_some()))
            .map(exceeded_limit);
        let reasons: Vec<String> = no_reply_reason
            .clone()
            .into_iter()
            .chain(mostly_not_sent.clone())
            .chain(connection_failure_reason(run, stream))
            .chain(damage_reasons.clone())
            .chain(exceeded)
            .collect();
        let (passed, limits_set) = (reasons.is_empty(), !limits.is_empty());
        Self { passed, limits_set, reasons, no_reply_reason, mostly_not_sent, damage_reasons }
    }
}

/// Why no reply arrived, or why a run that expects no replies did not send all packets.
fn no_reply_reason(run: &RunResults, stream: Option<&StreamStats>) -> Option<String> {
    if let Some(wait) = run.readiness_wait.filter(|wait| !wait.reply_received) {
        return Some(format!("no reply within {}", format_time(wait.waited_ns as f64 / 1e3)));
    }
    if let Some((_, timeout_ns)) = run.link.and_then(|link| link.failure) {
        return Some(format!("no encrypted link within {:?}", Duration::from_nanos(timeout_ns)));
    }
    if run.is_port_dead {
        let answered_for = format_time(run.duration_ns as f64 / 1e3);
        return Some(format!(
            "the port answered with nothing but ICMP port unreachable for {answered_for}, so the run ended early"
        ));
    }
    let Some(stream) = stream.filter(|stream| stream.sent > 0) else {
        return Some(NOTHING_SENT.to_owned());
    };
    if !run.replies_expected {
        let (not_sent, planned) = (stream.not_sent, stream.planned());
        return (not_sent > 0).then(|| format!("{not_sent} of {planned} packets could not be sent"));
    }
    (stream.returned == 0 && stream.damaged == 0).then(|| NO_REPLIES.to_owned())
}

/// A run that sent less than half of its plan measured too little.
fn mostly_not_sent_reason(run: &RunResults, stream: &StreamStats) -> Option<String> {
    let (sent, planned) = (stream.sent, stream.planned());
    let unit = StreamLabels::new(RunProtocol::of_run(run), run.evaluated_stream).request_unit;
    (run.replies_expected && sent > 0 && sent < planned.div_ceil(2))
        .then(|| format!("this host sent only {sent} of {}", format_count(planned, unit)))
}

/// Why the connection failed, and after how many messages or frames.
fn connection_failure_reason(run: &RunResults, stream: Option<&StreamStats>) -> Option<String> {
    let websocket =
        run.websocket.as_ref().and_then(|websocket| Some((websocket.failure.as_ref()?.to_string(), "message")));
    let (failure, unit) = websocket.or_else(|| Some((run.moqt.as_ref()?.failure.as_ref()?.to_string(), "frame")))?;
    let sent = stream.map_or(0, |stream| stream.sent);
    let when = if sent > 0 { format!(" after {}", format_count(sent, unit)) } else { String::new() };
    Some(format!("{}{when}", sanitize(&failure)))
}

fn damage_reason(labels: StreamLabels, stream: &StreamStats) -> Option<String> {
    match (stream.damaged, stream.damaged_copies) {
        (0, 0) => None,
        (0, copies) => Some(format!("{copies} damaged {}s arrived, each before its intact copy", labels.reply_noun())),
        (packets, _) => Some(format!("{packets} of {} {}s returned damaged", stream.sent, labels.request_noun())),
    }
}

fn exceeded_limit(limit: &LimitResult) -> String {
    let (option, allowed) = (limit.option(), limit.allowed_text());
    format!("{option} {allowed} exceeded: {}{}", limit.measured_text(), limit.note_text())
}
