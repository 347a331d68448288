//! The earlier report of `--baseline`: reads the fields that a comparison needs. Any input yields a baseline or an error.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::quantities::format_time;
use super::time_series::IntervalFigures;
use crate::client::{RunKind, RunResults, StreamKind};
use crate::moqt::Transport;
use crate::sanitize::{sanitize, truncate_bytes};
use crate::signaling::Dialect;
use crate::stats::MAX_INTERVALS;
use crate::stats::comparison::MIN_VALUES;

/// Maximum length of the earlier report, in bytes.
pub const MAX_BASELINE_BYTES: u64 = 16 << 20;

/// Minimum duration of both runs. The variation of a shorter run cannot be estimated.
pub const MIN_COMPARED_DURATION: Duration = Duration::from_secs(120);

/// Version of the schema of the reports that are read.
const READ_SCHEMA_VERSION: u64 = 1;

/// Maximum magnitude of a time in a report, in microseconds (115 days).
const MAX_TIME_US: f64 = 1e13;
/// Maximum count in one interval. Sums of such counts do not overflow.
const MAX_COUNT: u64 = 1 << 50;
/// Maximum length of an interval in seconds.
const MAX_INTERVAL_SECONDS: u64 = 1 << 31;
/// Maximum length of a text from the file, in bytes.
const MAX_TEXT_BYTES: usize = 300;

/// Why a report cannot be used as a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BaselineError {
    /// The text is not a JSON report of this program.
    #[error("not a report of `--json` or `--json-lines`: {0}")]
    NotAReport(String),
    /// The report has another schema.
    #[error("unsupported schema_version {0}; this program reads {READ_SCHEMA_VERSION}")]
    Version(u64),
    /// A field contradicts the documentation.
    #[error("invalid report: {0}")]
    Invalid(String),
    /// The run had no replies to measure.
    #[error("the earlier run expected no replies, so there is nothing to compare")]
    NoReplies,
    /// The run was too short.
    #[error("the earlier run is too short: {0} s of packets; a comparison needs at least 120 s")]
    TooShort(u64),
    /// The runs measured different things.
    #[error("the runs are not comparable: {0}")]
    Different(String),
}

/// An earlier report.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    pub(super) target: String,
    pub(super) tool_version: String,
    pub(super) started_unix_ms: u64,
    pub(super) measurement: Measurement,
    pub(super) audio_format: Option<AudioFormat>,
    pub(super) interval_s: u64,
    pub(super) intervals: Vec<IntervalFigures>,
}

/// What a run measures. Runs with different measurements are not comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The subcommand.
    pub command: RunKind,
    /// The evaluated stream.
    pub stream: StreamKind,
    /// The transport of the packets.
    pub transport: RunTransport,
}

/// The transport of the packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunTransport {
    /// UDP datagrams.
    Udp,
    /// Messages of a dialect over WebSocket.
    WebSocket(Dialect),
    /// MOQT.
    Moqt(Transport),
}

impl fmt::Display for RunTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp => f.write_str("UDP"),
            Self::WebSocket(dialect) => write!(f, "WebSocket ({})", dialect.name()),
            Self::Moqt(transport) => write!(f, "MOQT ({})", transport.name()),
        }
    }
}

/// The packet size of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct AudioFormat {
    pub(super) sample_rate_hz: u32,
    pub(super) payload_bytes: u32,
}

#[derive(Deserialize)]
struct ReportFields {
    #[serde(rename = "type")]
    report_type: String,
    schema_version: u64,
    tool_version: String,
    command: RunKind,
    target: String,
    started_unix_ms: u64,
    evaluated_stream: StreamKind,
    replies_expected: bool,
    audio: Option<AudioFormat>,
    websocket: Option<WebSocketFields>,
    moqt: Option<MoqtFields>,
    time_series: Option<TimeSeriesFields>,
}

#[derive(Deserialize)]
struct WebSocketFields {
    dialect: Dialect,
}

#[derive(Deserialize)]
struct MoqtFields {
    transport: String,
}

#[derive(Deserialize)]
struct TimeSeriesFields {
    interval_s: u64,
    intervals: Vec<IntervalFigures>,
}

impl Baseline {
    /// Reads the report of `--json`, or the last line of `--json-lines`.
    pub fn parse(text: &str) -> Result<Self, BaselineError> {
        let is_packet_line = text.trim_start().starts_with("{\"type\":\"packet\"");
        let report = if is_packet_line { text.trim_end().lines().next_back().unwrap_or_default() } else { text };
        let fields: ReportFields =
            serde_json::from_str(report).map_err(|error| BaselineError::NotAReport(clean(&error.to_string())))?;
        if fields.report_type != "report" {
            return Err(BaselineError::NotAReport("the type is not `report`".to_owned()));
        }
        if fields.schema_version != READ_SCHEMA_VERSION {
            return Err(BaselineError::Version(fields.schema_version));
        }
        if !fields.replies_expected {
            return Err(BaselineError::NoReplies);
        }
        let Some(TimeSeriesFields { interval_s, intervals }) = fields.time_series else {
            return Err(BaselineError::Invalid("there is no time series, because no packet was sent".to_owned()));
        };
        check_intervals(interval_s, &intervals).map_err(BaselineError::Invalid)?;
        let seconds = interval_s * intervals.len() as u64;
        if seconds < MIN_COMPARED_DURATION.as_secs() {
            return Err(BaselineError::TooShort(seconds));
        }
        if intervals.len() < MIN_VALUES {
            return Err(BaselineError::Invalid(format!("fewer than {MIN_VALUES} intervals")));
        }
        let transport = match (fields.websocket, fields.moqt) {
            (Some(websocket), _) => RunTransport::WebSocket(websocket.dialect),
            (None, Some(moqt)) => {
                let known = [Transport::Quic, Transport::WebTransport];
                let transport = known.into_iter().find(|transport| transport.name() == moqt.transport);
                RunTransport::Moqt(transport.ok_or_else(|| BaselineError::Invalid("unknown transport".to_owned()))?)
            }
            (None, None) => RunTransport::Udp,
        };
        Ok(Self {
            target: clean(&fields.target),
            tool_version: clean(&fields.tool_version),
            started_unix_ms: fields.started_unix_ms,
            measurement: Measurement { command: fields.command, stream: fields.evaluated_stream, transport },
            audio_format: fields.audio,
            interval_s,
            intervals,
        })
    }

    /// Checks before a run that the run will be comparable. `duration` is the planned duration of sending, if it is known.
    pub fn check_plan(&self, planned: &Measurement, duration: Option<Duration>) -> Result<(), BaselineError> {
        if let Some(difference) = self.measurement.difference(planned) {
            return Err(BaselineError::Different(difference));
        }
        match duration {
            Some(duration) if duration < MIN_COMPARED_DURATION => Err(BaselineError::Different(format!(
                "this run would send for {}; a comparison needs at least 120 s. Give --duration 120s or longer",
                format_time(duration.as_secs_f64() * 1e6)
            ))),
            _ => Ok(()),
        }
    }
}

impl Measurement {
    /// The measurement of a run.
    pub(super) fn of_run(run: &RunResults) -> Self {
        let transport = match (&run.websocket, &run.moqt) {
            (Some(websocket), _) => RunTransport::WebSocket(websocket.dialect),
            (None, Some(moqt)) => RunTransport::Moqt(moqt.transport),
            (None, None) => RunTransport::Udp,
        };
        Self { command: run.run_kind, stream: run.evaluated_stream, transport }
    }

    /// The first difference between this earlier measurement and `new`.
    pub(super) fn difference(&self, new: &Self) -> Option<String> {
        let command = |kind| if kind == RunKind::Send { "send" } else { "probe" };
        let texts = |one: &Self| {
            [
                ("command", command(one.command).to_owned()),
                ("transport", one.transport.to_string()),
                ("stream", one.stream.name().to_owned()),
            ]
        };
        let mut pairs = texts(self).into_iter().zip(texts(new));
        pairs.find_map(|((what, old), (_, new))| (old != new).then(|| different(what, &old, &new)))
    }
}

/// `the transport was UDP and is WebSocket (jamjam)`.
pub(super) fn different(what: &str, old: &str, new: &str) -> String {
    format!("the {what} of the earlier run is {old}, of this run {new}")
}

/// Text of the file for output. Control characters are replaced, and long texts are cut.
fn clean(text: &str) -> String {
    sanitize(&truncate_bytes(text.to_owned(), MAX_TEXT_BYTES))
}

/// Checks the numbers of a time series. The later computations then neither overflow nor yield an infinite value.
fn check_intervals(interval_s: u64, intervals: &[IntervalFigures]) -> Result<(), String> {
    if !interval_s.is_power_of_two() || interval_s > MAX_INTERVAL_SECONDS {
        return Err(format!("interval_s {interval_s} is not a power of two"));
    }
    if intervals.len() > MAX_INTERVALS {
        return Err(format!("{} intervals; the maximum is {MAX_INTERVALS}", intervals.len()));
    }
    for (index, interval) in (0u64..).zip(intervals) {
        let IntervalFigures { start_s, sent, returned, lost, damaged, in_flight, .. } = *interval;
        let is_outcome_count = |count: u64| count <= sent;
        if start_s != index * interval_s {
            return Err(format!("interval {index} starts at {start_s} s instead of {} s", index * interval_s));
        }
        if sent > MAX_COUNT || ![returned, lost, damaged, in_flight].into_iter().all(is_outcome_count) {
            return Err(format!("the packet counts of interval {index} contradict each other"));
        }
        if returned + lost + damaged + in_flight > sent {
            return Err(format!("interval {index} has more outcomes than sent packets"));
        }
        let times = [interval.rtt_p50_us, interval.rtt_p99_us, interval.rtt_max_us, interval.jitter_mean_us];
        if times.into_iter().flatten().any(|us| us.is_nan() || us.abs() > MAX_TIME_US) {
            return Err(format!("a time of interval {index} is out of range"));
        }
        if interval.jitter_mean_us.is_some_and(|us| us < 0.0) {
            return Err(format!("the jitter of interval {index} is negative"));
        }
    }
    Ok(())
}
