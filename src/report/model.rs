//! The report as data: what every output format prints. `docs/measuring.md` defines each field under its JSON name.

use serde::Serialize;

use super::audio_figures::{AudioFigures, AudioQualityFigures, CaptureFigures, PlaybackFigures};
use super::buffer_table::JitterBufferTable;
use super::comparison::Comparison;
use super::connection_figures::{ConnectionFailure, LinkFigures, MoqtFigures, WebSocketFigures};
use super::figures::{
    DatagramFigures, HostTimingFigures, LossReportFigures, PacingFigures, ServerFigures, StreamFigures, WaitFigures,
};
use super::findings::Finding;
use super::limits::{LimitResult, Verdict};
use super::quantities::{self, RunProtocol, StreamLabels, format_count};
use super::time_series::TimeSeries;
use crate::client::{RunKind, StopSignal, StreamKind};

/// Incremented if a field is removed or changes its meaning, but not if a field is added.
pub const SCHEMA_VERSION: u32 = 1;

/// The version with the commit, as `--version` prints them.
pub(super) const VERSION_WITH_COMMIT: &str = concat!(env!("CARGO_PKG_VERSION"), ", commit ", env!("BUILD_COMMIT"));

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
pub struct Report {
    pub schema_version: u32,
    pub tool_version: &'static str,
    pub command: RunKind,
    pub target: String,
    pub command_line: String,
    pub host_name: Option<String>,
    pub interval_ms: Option<f64>,
    pub started_unix_ms: u64,
    pub duration_ms: f64,
    pub evaluated_stream: StreamKind,
    pub replies_expected: bool,
    pub timeout_ms: f64,
    pub readiness_wait: Option<WaitFigures>,
    pub loss_report: Option<LossReportFigures>,
    pub interrupted: Option<StopSignal>,
    pub streams: Streams,
    pub audio: Option<AudioFigures>,
    pub capture: Option<CaptureFigures>,
    pub playback: Option<PlaybackFigures>,
    pub audio_quality: Option<AudioQualityFigures>,
    pub pacing: Option<PacingFigures>,
    pub host_timing: Option<HostTimingFigures>,
    pub server: Option<ServerFigures>,
    pub websocket: Option<WebSocketFigures>,
    pub moqt: Option<MoqtFigures>,
    pub link: Option<LinkFigures>,
    pub time_series: Option<TimeSeries>,
    pub jitter_buffer: Option<JitterBufferTable>,
    pub findings: Vec<Finding>,
    #[serde(flatten)]
    pub datagrams: DatagramFigures,
    pub limits: Vec<LimitResult>,
    pub comparison: Option<Comparison>,
    pub verdict: Verdict,
    pub warnings: Vec<Warning>,
    #[serde(skip)]
    pub(super) protocol: RunProtocol,
}

/// The figures of each stream; `null` for a stream that was not sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is named after its stream")]
pub struct Streams {
    pub audio: Option<StreamFigures>,
    pub ping: Option<StreamFigures>,
    pub keepalive: Option<StreamFigures>,
}

/// A problem with the run, or a reason to interpret its figures with care.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Identifies the subject of the warning for programs that read the report.
    pub code: &'static str,
    /// The problem, its cause and its remedy.
    pub message: String,
    /// Possible causes, the likeliest first.
    pub details: Vec<String>,
}

impl Warning {
    /// The message, then one numbered line for each detail.
    pub(super) fn lines(&self) -> String {
        let details = self.details.iter().enumerate().map(|(index, detail)| format!("\n  {}. {detail}", index + 1));
        format!("{}{}", self.message, details.collect::<String>())
    }
}

/// The warnings found so far.
#[derive(Default)]
pub(super) struct Warnings(pub(super) Vec<Warning>);

impl Warnings {
    pub(super) fn add(&mut self, code: &'static str, message: impl Into<String>) {
        self.0.push(Warning { code, message: message.into(), details: Vec::new() });
    }

    /// Warns about a count that is not 0. `{}` in the message stands for the count with its noun.
    pub(super) fn count(&mut self, code: &'static str, count: u64, noun: &str, message: &str) {
        if count > 0 {
            self.add(code, message.replace("{}", &format_count(count, noun)));
        }
    }
}

impl Report {
    /// Returns the words that the report uses for the packets of a stream, for example `packet` or `frame`.
    pub(super) fn labels(&self, kind: StreamKind) -> StreamLabels {
        StreamLabels::new(self.protocol, kind)
    }

    /// `one packet every 20.000 ms`, for runs of `probe`.
    pub(super) fn send_rate(&self) -> Option<String> {
        let unit = match &self.moqt {
            Some(moqt) if moqt.frames_per_group > 1 => "group",
            _ => self.labels(self.evaluated_stream).request_unit,
        };
        self.interval_ms.map(|ms| format!("one {unit} every {}", quantities::format_time(ms * 1e3)))
    }

    /// Why there was no connection, or why it ended early.
    pub(super) fn connection_failure(&self) -> Option<&ConnectionFailure> {
        let websocket = self.websocket.as_ref().and_then(|websocket| websocket.connection_failure.as_ref());
        let moqt = || self.moqt.as_ref()?.connection_failure.as_ref();
        websocket.or_else(moqt).or_else(|| self.link.as_ref()?.connection_failure.as_ref())
    }

    /// Returns two texts: the status of the run as one word, and a prefix for the reason of the verdict. If the run did not complete, the
    /// prefix contains the cause. If the run completed, the prefix is empty. `error` is the error that ended the run early.
    pub(super) fn status_line(&self, error: Option<&str>) -> (&'static str, String) {
        match (error, self.interrupted) {
            (Some(error), _) => ("ABORTED", format!("{error}; results so far: ")),
            (None, Some(signal)) => {
                ("INTERRUPTED", format!("received {}; results so far: ", quantities::signal(signal)))
            }
            (None, None) => (self.verdict.word(), String::new()),
        }
    }

    /// 0 if the run passed, 1 if it failed.
    pub fn exit_code(&self) -> u8 {
        self.verdict.exit_code()
    }
}

impl Streams {
    /// The figures of one stream, if it was sent.
    pub fn get(&self, kind: StreamKind) -> Option<&StreamFigures> {
        match kind {
            StreamKind::Audio => self.audio.as_ref(),
            StreamKind::Ping => self.ping.as_ref(),
            StreamKind::Keepalive => self.keepalive.as_ref(),
        }
    }

    /// The streams that were sent, in the order of the table's columns.
    pub fn iter(&self) -> impl Iterator<Item = (StreamKind, &StreamFigures)> {
        StreamKind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }
}
