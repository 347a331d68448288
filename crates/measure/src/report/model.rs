//! The report as data: what every output format prints. `docs/report.schema.json` describes each field.

use std::net::SocketAddr;

use serde::Serialize;

use super::audio_figures::{AudioQualityFigures, CaptureFigures, PlaybackFigures};
use super::buffer_table::JitterBufferTable;
use super::clients::ClientsFigures;
use super::connection_figures::{ConnectionFailure, LinkFigures, MoqtFigures, RoomFigures, WebSocketFigures};
use super::figures::{
    AudioFigures, HostTimingFigures, LossReportFigures, PacingFigures, ServerFigures, StreamFigures, WaitFigures,
    figures,
};
use super::limits::{LimitResult, Limits, RunVerdict};
use super::quantities::{self, RunProtocol, StreamLabels, unsigned_millis};
use super::ramp::RampFigures;
use super::time_series::TimeSeries;
use crate::client::{RunResults, StopSignal, StreamKind};
use crate::diagnosis::Diagnosis;
use jamjam_core::sanitize::{sanitize, sanitize_line};

/// Maximum length of the command line in bytes, with an ellipsis.
const MAX_COMMAND_LINE_BYTES: usize = 1_003;

/// Incremented if a field is removed or changes its meaning, but not if a field is added.
pub const SCHEMA_VERSION: u32 = 1;

figures! {
    /// The report of one run.
    Report from (run, limits): (&RunResults, &Limits) [
        let audio = run.audio.as_ref();
        // If no audio was sent, there is no audio quality to report.
        let quality = audio.and_then(|audio| Some((audio, audio.quality.as_ref()?)));
        let quality = quality.filter(|(_, quality)| quality.sent_samples > 0);
        let schedule = run.schedule.unwrap_or_default();
        let limits = limits.evaluate(run);
        let verdict = (run, limits.as_slice()).into();
    ] {
        schema_version: u32 = SCHEMA_VERSION;
        tool_version: &'static str = env!("CARGO_PKG_VERSION");
        command: String = run.command.clone();
        target: String = run.target.clone();
        command_line: String = sanitize_line(&run.origin.command_line, MAX_COMMAND_LINE_BYTES);
        host_name: Option<String> = run.origin.host_name.as_deref().map(sanitize);
        interval_ms: Option<f64> = run.interval_ns.map(unsigned_millis);
        started_unix_ms: u64 = run.started_unix_ms;
        duration_ms: f64 = unsigned_millis(run.duration_ns);
        planned_duration_ms: Option<f64> = run.schedule.map(|schedule| unsigned_millis(schedule.planned_ns));
        actual_duration_ms: Option<f64> = run.schedule.map(|schedule| unsigned_millis(schedule.actual_ns));
        schedule_shifts: u64 = schedule.shifts;
        schedule_shift_total_ms: f64 = unsigned_millis(schedule.shift_total_ns);
        schedule_shift_max_ms: f64 = unsigned_millis(schedule.shift_max_ns);
        evaluated_stream: StreamKind = run.evaluated_stream;
        replies_expected: bool = run.replies_expected;
        timeout_ms: f64 = unsigned_millis(run.timeout_ns);
        readiness_wait: Option<WaitFigures> = run.readiness_wait.map(Into::into);
        loss_report: Option<LossReportFigures> = run.loss_report.as_ref().map(Into::into);
        interrupted: Option<StopSignal> = run.interrupted;
        streams: Streams = run.into();
        audio: Option<AudioFigures> = audio.map(|audio| (run, audio).into());
        capture: Option<CaptureFigures> = audio.and_then(|audio| Some(audio.capture.as_ref()?.into()));
        playback: Option<PlaybackFigures> = audio.and_then(|audio| Some(audio.playback.as_ref()?.into()));
        audio_quality: Option<AudioQualityFigures> = quality.map(Into::into);
        pacing: Option<PacingFigures> = run.pacing.as_ref().map(Into::into);
        host_timing: Option<HostTimingFigures> = run.host_timing.as_ref().map(|host| (&run.pauses, host).into());
        server: Option<ServerFigures> = run.server.as_ref().map(Into::into);
        websocket: Option<WebSocketFigures> = run.websocket.as_ref().map(|websocket| (run, websocket).into());
        moqt: Option<MoqtFigures> = run.moqt.as_ref().map(Into::into);
        link: Option<LinkFigures> = run.link.as_ref().map(Into::into);
        clients: Option<ClientsFigures> = run.clients.as_ref().map(|clients| (run, clients).into());
        ramp: Option<RampFigures> = None;
        time_series: Option<TimeSeries> = run.evaluated().map(|stream| (run, &stream.history).into());
        jitter_buffer: Option<JitterBufferTable> = JitterBufferTable::new(run);
        findings: Vec<Diagnosis> = Vec::new();
        port_unreachable: u64 = run.port_unreachable;
        stray: u64 = run.stray;
        stray_source: Option<SocketAddr> = run.stray_source;
        limits: Vec<LimitResult> = limits;
        verdict: RunVerdict = verdict;
        warnings: Vec<Diagnosis> = Vec::new();
        #[serde(skip)]
        headline: String = String::new();
        #[serde(skip)]
        is_active: bool = run.is_active;
        #[serde(skip)]
        protocol: RunProtocol = RunProtocol::of_run(run);
    }

    /// The figures of each stream; `null` for a stream that was not sent.
    Streams from run: &RunResults [
        let stream = |kind| Some((run, kind, run.stream(kind)?).into());
    ] {
        audio: Option<StreamFigures> = stream(StreamKind::Audio);
        ping: Option<StreamFigures> = stream(StreamKind::Ping);
        keepalive: Option<StreamFigures> = stream(StreamKind::Keepalive);
    }
}

impl Report {
    /// The figures of the stream that is compared with the limits, if it was sent.
    pub(super) fn evaluated(&self) -> Option<&StreamFigures> {
        self.streams.get(self.evaluated_stream)
    }

    /// The words that the report uses for the packets of a stream, for example `packet` or `frame`.
    pub(super) fn labels(&self, kind: StreamKind) -> StreamLabels {
        StreamLabels::new(self.protocol, kind)
    }

    /// What the times of the jitter-buffer table assume, if there are enough packets. The round trips of MOQT include any delay of the server.
    pub(super) fn assumptions(&self) -> Option<&'static str> {
        let text = if self.moqt.is_none() {
            "assuming a symmetric path, 128-sample packets and 48 kHz; server delay and device latency not included"
        } else {
            "assuming a symmetric path, a server without delay, 128-sample packets and 48 kHz; device latency not included"
        };
        self.jitter_buffer.as_ref()?.is_reliable.then_some(text)
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

    /// The status of the run as one word, and a prefix for the reason of the verdict, which names why the run did not complete. `error` is the
    /// error that ended it early.
    pub(super) fn status_line(&self, error: Option<&str>) -> (&'static str, String) {
        let so_far = "results so far: ";
        match (error, self.interrupted) {
            (Some(error), _) => ("ABORTED", format!("{error}; {so_far}")),
            (None, Some(signal)) => ("INTERRUPTED", format!("received {}; {so_far}", quantities::signal(signal))),
            (None, None) if self.is_active => ("RUNNING", so_far.to_owned()),
            (None, None) => (self.verdict.word(), String::new()),
        }
    }

    /// Why the run passed or failed, besides what its headline says.
    pub(super) fn verdict_reason(&self) -> String {
        let reasons = self.verdict.reasons.iter().filter(|reason| !self.headline.starts_with(*reason));
        let reasons: Vec<&str> = reasons.map(String::as_str).collect();
        match (self.verdict.passed, self.limits.is_empty(), self.replies_expected) {
            (false, ..) => reasons.join("; "),
            (true, false, _) => "no limit exceeded".to_owned(),
            (true, true, true) => "replies received; no limits set".to_owned(),
            (true, true, false) => "all packets sent; no limits set".to_owned(),
        }
    }

    /// The figures of a load on rooms.
    pub(super) fn rooms(&self) -> Option<&RoomFigures> {
        self.websocket.as_ref()?.rooms.as_ref()
    }

    /// The exit code of a run that was not interrupted: that of its verdict, or 3 if it failed before a packet left, or before a member joined a
    /// room.
    pub fn exit_code(&self) -> u8 {
        let stream = self.evaluated();
        let has_begun =
            stream.is_some_and(|stream| stream.sent > 0) || self.rooms().is_some_and(|rooms| rooms.joined > 0);
        // Over UDP, KEEPALIVE and the set-up of a link may have left before: there was no reply. The system refuses all packets if it has no
        // route or a firewall rule.
        let is_refused = self.protocol != RunProtocol::Udp || stream.is_some_and(|stream| stream.not_sent > 0);
        if !self.verdict.passed && is_refused && !has_begun { 3 } else { self.verdict.result.exit_code() }
    }
}

impl Streams {
    /// The figures of one stream, if it was sent.
    pub fn get(&self, kind: StreamKind) -> Option<&StreamFigures> {
        [&self.audio, &self.ping, &self.keepalive][kind as usize].as_ref()
    }

    /// The streams that were sent, in the order of the table's columns.
    pub fn iter(&self) -> impl Iterator<Item = (StreamKind, &StreamFigures)> {
        StreamKind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }
}
