//! The earlier report of `--baseline`: reads the fields that a comparison needs. Any input yields a baseline or an error.

use serde::Deserialize;

use super::quantities::RunProtocol;
use super::time_series::{IntervalFigures, TimeSeries};
use crate::client::{RunKind, StreamKind};
use jamjam_core::sanitize::{sanitize, truncate_bytes};
use jamjam_moqt::Transport;
use jamjam_signaling::Dialect;

/// Maximum length of the earlier report, in bytes.
pub const MAX_BASELINE_BYTES: u64 = 16 << 20;

/// Version of the schema of the reports that are read.
const READ_SCHEMA_VERSION: u64 = 1;

/// Maximum magnitude of a time in a report, in microseconds (115 days).
const MAX_TIME_US: f64 = 1e13;
/// Maximum length of a text from the file, in bytes.
const MAX_TEXT_BYTES: usize = 300;

/// An earlier report.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    pub(super) report: ReportFields,
    pub(super) measurement: Measurement,
    pub(super) series: TimeSeries,
}

/// What a run measures: its subcommand, its evaluated stream and the protocol of its packets. Runs with different measurements are not
/// comparable.
pub type Measurement = (RunKind, StreamKind, RunProtocol);

/// The packet size of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct AudioFormat {
    pub(super) sample_rate_hz: u32,
    pub(super) payload_bytes: u32,
}

/// The fields of the report that a comparison needs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct ReportFields {
    #[serde(rename = "type")]
    report_type: String,
    schema_version: u64,
    pub(super) tool_version: String,
    command: RunKind,
    pub(super) target: String,
    pub(super) started_unix_ms: u64,
    evaluated_stream: StreamKind,
    replies_expected: bool,
    pub(super) audio: Option<AudioFormat>,
    websocket: Option<WebSocketFields>,
    moqt: Option<MoqtFields>,
    time_series: Option<TimeSeries>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct WebSocketFields {
    dialect: Dialect,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct MoqtFields {
    transport: String,
}

impl Baseline {
    /// Reads the report of `--json`, or the last line of `--json-lines`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with("{\"type\":\"run\"") {
            return Err(not_a_report("this is a run record; give the output of `--replay FILE --json`"));
        }
        let is_packet_line = text.trim_start().starts_with("{\"type\":\"packet\"");
        let report = if is_packet_line { text.trim_end().lines().next_back().unwrap_or_default() } else { text };
        let mut report: ReportFields =
            serde_json::from_str(report).map_err(|error| not_a_report(&clean(&error.to_string())))?;
        if report.report_type != "report" {
            return Err(not_a_report("the type is not `report`"));
        }
        if report.schema_version != READ_SCHEMA_VERSION {
            let version = report.schema_version;
            return Err(format!("unsupported schema_version {version}; this program reads {READ_SCHEMA_VERSION}"));
        }
        if !report.replies_expected {
            return Err("the earlier run expected no replies, so there is nothing to compare".to_owned());
        }
        let Some(series) = report.time_series.take().filter(|series| !series.intervals.is_empty()) else {
            return Err("invalid report: there is no time series, because no packet was sent".to_owned());
        };
        check_intervals(&series).map_err(|reason| format!("invalid report: {reason}"))?;
        let transport = |moqt: &MoqtFields| {
            let known = [Transport::Quic, Transport::WebTransport];
            let transport = known.into_iter().find(|transport| transport.name() == moqt.transport);
            transport.ok_or("invalid report: unknown transport")
        };
        let moqt = report.moqt.as_ref().map(transport).transpose()?;
        let protocol = RunProtocol::new(report.websocket.as_ref().map(|websocket| websocket.dialect), moqt);
        (report.target, report.tool_version) = (clean(&report.target), clean(&report.tool_version));
        Ok(Self { measurement: (report.command, report.evaluated_stream, protocol), report, series })
    }

    /// The first difference between what the earlier run measured and what `new` measures. Runs with a difference are not comparable.
    pub fn difference(&self, new: Measurement) -> Option<String> {
        let texts = |(command, stream, protocol): Measurement| {
            let (command, stream) = (command.name().to_owned(), stream.name().to_owned());
            [("command", command), ("transport", protocol.to_string()), ("stream", stream)]
        };
        let mut pairs = texts(self.measurement).into_iter().zip(texts(new));
        pairs.find_map(|((what, old), (_, new))| (old != new).then(|| different(what, &old, &new)))
    }
}

/// `the transport was UDP and is WebSocket (jamjam)`.
pub(super) fn different(what: &str, old: &str, new: &str) -> String {
    format!("the {what} of the earlier run is {old}, of this run {new}")
}

fn not_a_report(reason: &str) -> String {
    format!("not a report of `--json` or `--json-lines`: {reason}")
}

/// Text of the file for output. Control characters are replaced, and long texts are cut.
fn clean(text: &str) -> String {
    sanitize(&truncate_bytes(text.to_owned(), MAX_TEXT_BYTES))
}

/// Checks the numbers of a time series. The later computations then neither overflow nor yield an infinite value.
fn check_intervals(series: &TimeSeries) -> Result<(), String> {
    if !series.interval_s.is_power_of_two() {
        return Err(format!("interval_s {} is not a power of two", series.interval_s));
    }
    for (index, interval) in series.intervals.iter().enumerate() {
        let IntervalFigures { sent, returned, lost, damaged, in_flight, .. } = *interval;
        let outcomes: u128 = [returned, lost, damaged, in_flight].map(u128::from).iter().sum();
        if outcomes > u128::from(sent) {
            return Err(format!("interval {index} has more outcomes than sent packets"));
        }
        let times = [interval.rtt_p50_us, interval.rtt_p99_us, interval.rtt_max_us, interval.jitter_mean_us];
        if times.into_iter().flatten().any(|us| us.is_nan() || us.abs() > MAX_TIME_US) {
            return Err(format!("a time of interval {index} is out of range"));
        }
    }
    Ok(())
}
