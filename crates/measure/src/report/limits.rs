//! Limits that a run must meet, and the verdict. Every limit applies to the evaluated stream. It is not judged without data, or if the cause of
//! what was measured is this host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::diagnoses::path;
use super::quantities::{
    RoundTrip, RunProtocol, StreamLabels, format_count, format_length, format_time, rounded_micros,
};
use crate::client::{ClientsResults, RoomResults, RunResults, StreamKind};
use crate::document::Judgment;
use crate::verdict::Judged;
use jamjam_core::sanitize::sanitize_lines;
use jamjam_core::stats::StreamStats;
use jamjam_core::time::saturating_nanos;

/// The limits of a run. No limit is set by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// `--profile`, whose limits are among those below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// `--max-loss`: ratio of lost packets to settled packets, 0 to 1.
    pub max_loss: Option<f64>,
    /// `--max-p50`: median of the round-trip time.
    pub max_p50: Option<Duration>,
    /// `--max-p99`: 99th percentile of the round-trip time.
    pub max_p99: Option<Duration>,
    /// `--max-jitter`: mean of the running jitter estimate (RFC 3550, section 6.4.1).
    pub max_jitter: Option<Duration>,
}

/// A purpose of a path, with limits. `docs/rules.md` gives the sources of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Playing music over a local network.
    LanMusic,
    /// Playing music over the Internet.
    InternetMusic,
    /// Conversation.
    Voice,
}

impl Profile {
    /// The value of `--profile`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LanMusic => "lan-music",
            Self::InternetMusic => "internet-music",
            Self::Voice => "voice",
        }
    }

    /// The limits of the profile.
    pub fn limits(self) -> Limits {
        let (max_loss, max_p50, max_p99) = match self {
            Self::LanMusic => (0.001, 2, 4),
            Self::InternetMusic => (0.01, 23, 34),
            Self::Voice => (0.03, 200, 250),
        };
        let [max_p50, max_p99] = [max_p50, max_p99].map(|ms| Some(Duration::from_millis(ms)));
        Limits { profile: Some(self), max_loss: Some(max_loss), max_p50, max_p99, ..Limits::default() }
    }
}

impl Limits {
    /// These limits, with the limits of `other` where no limit is set here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            profile: self.profile.or(other.profile),
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

    /// Compares the run with each limit that was set, and then the worst of several clients. Times are compared in nanoseconds, before rounding.
    /// A busy host only worsens figures.
    pub fn evaluate(&self, run: &RunResults) -> Vec<Judgment> {
        let p = |p, name, figure| percentile(run, p, name, figure);
        let limits: Vec<LimitRow> = vec![
            ("--max-loss", |limits| limits.max_loss, loss(run), None),
            ("--max-p50", |limits| nanos(limits.max_p50), p(0.5, "p50", "rtt_p50_us"), Some(0.5)),
            ("--max-p99", |limits| nanos(limits.max_p99), p(0.99, "p99", "rtt_p99_us"), Some(0.99)),
            ("--max-jitter", |limits| nanos(limits.max_jitter), jitter(run), Some(0.99)),
        ];
        let evaluate = |(rule, limit, (figure, value, note), p): LimitRow| {
            let allowed = limit(self)?;
            let profile = self.profile.filter(|profile| limit(&profile.limits()) == Some(allowed)).map(Profile::name);
            let excess = value.map_or(0.0, |value| value - allowed);
            // Of what was met, it is unknown whether the packets that are missing would have.
            let missing = || run.evaluated().filter(|stream| !is_evaluated(stream, 9)).map(|one| evaluated(run, one));
            let reason = if excess > 0.0 { this_host(run, p, excess) } else { missing() };
            let is_judged = value.is_some() && reason.is_none();
            let result = if is_judged { Judged::of(excess <= 0.0) } else { Judged::NotJudged };
            let rounded = |value| if p.is_some() { rounded_micros(value) } else { value };
            let (allowed, measured) = (Some(rounded(allowed)), value.map(rounded));
            let judgment = Judgment::of(String::new(), rule.to_owned(), result, reason.or(note));
            Some(Judgment { figure: Some(figure), allowed, measured, profile, ..judgment })
        };
        let mut results: Vec<Judgment> = limits.into_iter().filter_map(evaluate).collect();
        if let Some(ClientsResults { worst: (number, worst), .. }) = &run.clients {
            let of_worst = self.evaluate(worst).into_iter();
            results.extend(of_worst.map(|judgment| Judgment { subject: format!("client {number}"), ..judgment }));
        }
        results
    }
}

fn nanos(limit: Option<Duration>) -> Option<f64> {
    limit.map(|limit| saturating_nanos(limit) as f64)
}

/// How this host explains at least half of the excess over a limit: nanoseconds of the percentile `p`, or else a ratio of lost packets.
fn this_host(run: &RunResults, p: Option<f64>, excess: f64) -> Option<String> {
    if let Some(p) = p {
        return path::this_host(run, excess as i64, p);
    }
    let lost = excess * run.evaluated()?.settled() as f64;
    let dropped = run.host_timing.as_ref()?.kernel_dropped.filter(|dropped| *dropped as f64 * 2.0 >= lost)?;
    Some(format!("the receive buffer of this host dropped {}", format_count(dropped, "datagram")))
}

/// The option of a limit, its value, what was measured, and for times the percentile of the delays on this host that may explain it.
type LimitRow = (&'static str, fn(&Limits) -> Option<f64>, Measured, Option<f64>);

/// A figure, its value, and a remark on it.
type Measured = (&'static str, Option<f64>, Option<String>);

fn loss(run: &RunResults) -> Measured {
    let ratio = run.evaluated().filter(|_| run.replies_expected).and_then(StreamStats::loss_ratio);
    ("loss_ratio", ratio, ratio.is_none().then(|| missing_data_reason(run, NO_OUTCOME)))
}

fn percentile(run: &RunResults, p: f64, name: &str, figure: &'static str) -> Measured {
    let rtt = RoundTrip::of(run, run.evaluated_stream).and_then(|rtt| Some((rtt, rtt.max()?)));
    let Some((rtt, maximum)) = rtt else {
        return (figure, None, Some(missing_data_reason(run, NO_REPLIES)));
    };
    let (value, figure, note) = if let Some(value) = rtt.percentile(p) {
        (value, figure, None)
    } else {
        let count = rtt.histogram.count();
        let note = format!("too few samples for {name} ({count}): the maximum is used instead");
        (maximum, "rtt_max_us", Some(note))
    };
    if value < 0 {
        // A negative round-trip time would meet any limit.
        let note = "negative round-trip time: the server delays AUDIO by less than --delay";
        return (figure, None, Some(note.to_owned()));
    }
    (figure, Some(value as f64), note)
}

fn jitter(run: &RunResults) -> Measured {
    let mean = run.evaluated().and_then(|stream| stream.jitter.mean());
    let reason = || missing_data_reason(run, "jitter needs two returned packets");
    ("jitter_mean_us", mean, mean.is_none().then(reason))
}

const NO_OUTCOME: &str = "too few packets had an outcome when the run ended";
const NO_REPLIES: &str = "no replies received";
const NOTHING_SENT: &str = "nothing was sent";

/// Why a figure of the evaluated stream has no data: `default`, unless there is a more specific reason.
fn missing_data_reason(run: &RunResults, default: &str) -> String {
    if !run.replies_expected {
        return "no replies were expected".to_owned();
    }
    let lacks_delay = run.evaluated_stream == StreamKind::Audio && run.server_delay().effective_ns().is_none();
    let reason = match run.evaluated() {
        None | Some(StreamStats { sent: 0, .. }) => NOTHING_SENT,
        Some(StreamStats { returned: 1.., .. }) if lacks_delay => {
            "the server delay is unknown because no LATENCY_PONG arrived; give --delay"
        }
        Some(_) => default,
    };
    reason.to_owned()
}

/// What is expected of every run: replies, or with `--no-echo` that all packets were sent, undamaged payloads, a connection that did not fail, and
/// messages in their rooms.
fn expectations(run: &RunResults, has_limits: bool) -> Vec<Judgment> {
    let stream = run.evaluated();
    let no_reply = no_reply_reason(run, stream);
    let has_measured = |one: &StreamStats| one.sent == 0 || is_evaluated(one, 5) || one.arrived == one.planned();
    let unmeasured = |one: &StreamStats| match one {
        _ if !run.replies_expected => None,
        // The time-out of no packet has passed.
        one if one.settled() == 0 && one.in_flight > 0 => Some(NO_OUTCOME.to_owned()),
        one => (!has_limits && !has_measured(one)).then(|| evaluated(run, one)),
    };
    let protocol = RunProtocol::of_run(run);
    let damage = |kind| damage_reason(StreamLabels::new(protocol, kind), run.stream(kind)?);
    let damage: Vec<String> = StreamKind::ALL.into_iter().filter_map(damage).collect();
    let damage = Some(damage.join("; ")).filter(|damage| !damage.is_empty());
    let judge = |exceeded: Option<String>, not_judged: Option<String>| match (exceeded, not_judged) {
        (Some(reason), _) => (Judged::Exceeded, Some(reason)),
        (None, Some(reason)) => (Judged::NotJudged, Some(reason)),
        (None, None) => (Judged::Met, None),
    };
    let replies_name = if run.replies_expected { REPLIES } else { "all packets sent" };
    let replies = judge(no_reply.clone(), stream.and_then(unmeasured));
    let silent = silent_client_reason(run).filter(|_| no_reply.is_none());
    let clients = run.clients.as_ref().map(|_| ("replies to each client", judge(silent, None)));
    let failure = || judge(connection_failure_reason(run, stream), None);
    let connection = (run.websocket.is_some() || run.moqt.is_some()).then(|| (CONNECTION, failure()));
    let intact = (run.replies_expected || damage.is_some()).then(|| ("payload intact", judge(damage, no_reply)));
    let rooms = run.websocket.as_ref().and_then(|websocket| websocket.rooms.as_ref()).zip(stream);
    let rooms = rooms.map(|(rooms, stream)| ("messages in rooms", judge(room_failure_reason(rooms, stream), None)));
    let all = [(replies_name, replies)].into_iter().chain(clients).chain(connection).chain(intact).chain(rooms);
    all.map(|(rule, (result, reason))| Judgment::expectation(rule, result, reason)).collect()
}

/// That replies came.
pub(crate) const REPLIES: &str = "replies received";
/// That the connection stayed.
pub(crate) const CONNECTION: &str = "connection";

/// What was asked of a run: expectations and limits.
pub fn judgments(run: &RunResults, limits: &Limits) -> Vec<Judgment> {
    let of_limits = limits.evaluate(run);
    expectations(run, !of_limits.is_empty()).into_iter().chain(of_limits).collect()
}

/// Whether no reply was received.
pub(super) fn has_no_replies(judgments: &[Judgment]) -> bool {
    judgments.iter().any(is_silence)
}

/// Whether it says that no reply was received.
pub(super) fn is_silence(one: &Judgment) -> bool {
    one.rule == REPLIES && one.result == Judged::Exceeded
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
    let Some(stream) = stream.filter(|stream| stream.sent > 0) else { return Some(NOTHING_SENT.to_owned()) };
    if !run.replies_expected {
        let (not_sent, planned) = (stream.not_sent, stream.planned());
        return (not_sent > 0).then(|| format!("{not_sent} of {planned} packets could not be sent"));
    }
    let is_silent = stream.lost > 0 && stream.returned == 0 && stream.damaged == 0;
    (is_silent && is_evaluated(stream, 5)).then(|| NO_REPLIES.to_owned())
}

/// Why the worst of several clients received no reply.
fn silent_client_reason(run: &RunResults) -> Option<String> {
    let (number, worst) = &run.clients.as_ref()?.worst;
    Some(format!("client {number}: {}", no_reply_reason(worst, worst.evaluated())?))
}

/// Whether at least so many tenths of the planned packets were sent and evaluated.
fn is_evaluated(stream: &StreamStats, tenths: u64) -> bool {
    (stream.sent - stream.excluded).saturating_mul(10) >= stream.planned().saturating_mul(tenths)
}

/// How many packets were evaluated, and why not all.
fn evaluated(run: &RunResults, stream: &StreamStats) -> String {
    let (sent, planned) = (stream.sent, stream.planned());
    if stream.excluded == 0 {
        let unit = StreamLabels::new(RunProtocol::of_run(run), run.evaluated_stream).request_unit;
        return format!("this host sent only {sent} of {}", format_count(planned, unit));
    }
    let server_ns = run.server.as_ref().map_or(0, |server| server.pauses.total_ns);
    let (host, ns) =
        if server_ns > run.pauses.total_ns { ("the server", server_ns) } else { ("this host", run.pauses.total_ns) };
    let length = format_length(ns as f64 / 1e6);
    format!("{host} did not run for {length}: only {} of {planned} evaluated", sent - stream.excluded)
}

/// Why the connection failed, and after how many messages or frames.
fn connection_failure_reason(run: &RunResults, stream: Option<&StreamStats>) -> Option<String> {
    let websocket = || Some((run.websocket.as_ref()?.failure.as_ref()?.to_string(), "message"));
    let moqt = || Some((run.moqt.as_ref()?.failure.as_ref()?.to_string(), "frame"));
    let (failure, unit) = websocket().or_else(moqt)?;
    // Those of rooms are deliveries.
    let is_in_rooms = run.websocket.as_ref().is_some_and(|websocket| websocket.rooms.is_some());
    let sent = stream.filter(|_| !is_in_rooms).map_or(0, |stream| stream.sent);
    let when = if sent > 0 { format!(" after {}", format_count(sent, unit)) } else { String::new() };
    Some(format!("{}{when}", sanitize_lines(&failure)))
}

/// What went wrong in rooms, other than missing messages.
fn room_failure_reason(rooms: &RoomResults, stream: &StreamStats) -> Option<String> {
    let counts = [
        (rooms.refused, "refused"),
        (rooms.disconnected, "disconnected"),
        (rooms.not_sent, "not sent"),
        (stream.duplicated, "delivered twice"),
        (stream.reordered, "delivered out of order"),
        (rooms.wrong_room, "delivered to another room"),
        (rooms.wrong_sender, "delivered with a wrong sender or number"),
    ];
    let texts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| format!("in rooms: {}", texts.join(", ")))
}

fn damage_reason(labels: StreamLabels, stream: &StreamStats) -> Option<String> {
    match (stream.damaged, stream.damaged_copies) {
        (0, 0) => None,
        (0, copies) => Some(format!("{copies} damaged {}s arrived, each before its intact copy", labels.reply_noun())),
        (packets, _) => Some(format!("{packets} of {} {}s returned damaged", stream.sent, labels.request_noun())),
    }
}
