//! Turns the raw results of a run into a report.
//!
//! [`Report::new`] computes every figure, limit and warning once. [`text`], [`json`], [`junit`], [`markdown`] and [`html`] print the
//! report and compute nothing. All except [`json`] print the rows of `rows`. `docs/measuring.md` defines the figures, and `docs/report.schema.json` defines the structure of the
//! JSON document.

pub mod audio_figures;
mod audio_rows;
pub mod baseline;
pub mod brief;
pub mod buffer_table;
pub mod comparison;
mod connection_failures;
pub mod connection_figures;
pub mod figures;
pub mod findings;
pub mod html;
pub mod json;
pub mod junit;
pub mod limits;
pub mod machine;
pub mod markdown;
mod model;
pub mod quantities;
mod row;
mod rows;
pub mod run_record;
pub mod text;
pub mod time_series;
mod warnings;
pub mod wrap;

use audio_figures::{AudioFigures, AudioQualityFigures, CaptureFigures, PlaybackFigures};
use baseline::Baseline;
use buffer_table::JitterBufferTable;
use comparison::Comparison;
use connection_figures::{LinkFigures, MoqtFigures, WebSocketFigures};
use figures::{
    DatagramFigures, HostTimingFigures, LossReportFigures, PacingFigures, ServerFigures, StreamFigures, StreamInput,
    WaitFigures,
};
use limits::{Limits, Verdict};
pub use model::{Report, SCHEMA_VERSION, Streams, Warning};
use quantities::{RoundTrip, RunProtocol, unsigned_millis};
use time_series::TimeSeries;

use crate::client::{RunResults, StreamKind};
use crate::sanitize::{sanitize, sanitize_line};

/// Maximum length of the command line in bytes, with an ellipsis.
const MAX_COMMAND_LINE_BYTES: usize = 1_003;

impl Report {
    /// Computes the report of a run that has ended.
    pub fn new(run: &RunResults, limits: &Limits) -> Self {
        let stream = |kind| {
            let (rtt, lost_upstream) = (RoundTrip::of(run, kind), run.lost_upstream(kind));
            Some(StreamFigures::new(StreamInput { stream: run.stream(kind)?, rtt, lost_upstream }))
        };
        let audio = run.audio.as_ref();
        // If no audio was sent, there is no audio quality to report.
        let quality = audio.and_then(|audio| Some((audio, audio.quality.as_ref()?)));
        let quality = quality.filter(|(_, quality)| quality.sent_samples > 0);
        let limits = limits.evaluate(run);
        let verdict = Verdict::new(run, &limits);
        let mut report = Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION"),
            command: run.run_kind,
            target: run.target.clone(),
            command_line: sanitize_line(&run.origin.command_line, MAX_COMMAND_LINE_BYTES),
            host_name: run.origin.host_name.as_deref().map(sanitize),
            interval_ms: run.interval_ns.map(unsigned_millis),
            started_unix_ms: run.started_unix_ms,
            duration_ms: unsigned_millis(run.duration_ns),
            evaluated_stream: run.evaluated_stream,
            replies_expected: run.replies_expected,
            timeout_ms: unsigned_millis(run.timeout_ns),
            readiness_wait: run.readiness_wait.map(WaitFigures::new),
            loss_report: run.loss_report.as_ref().map(LossReportFigures::new),
            interrupted: run.interrupted,
            streams: Streams {
                audio: stream(StreamKind::Audio),
                ping: stream(StreamKind::Ping),
                keepalive: stream(StreamKind::Keepalive),
            },
            audio: audio.map(|audio| AudioFigures::new((run, audio))),
            capture: audio.and_then(|audio| audio.capture.as_ref()).map(CaptureFigures::new),
            playback: audio.and_then(|audio| audio.playback.as_ref()).map(PlaybackFigures::new),
            audio_quality: quality.map(AudioQualityFigures::new),
            pacing: run.pacing.as_ref().map(PacingFigures::new),
            host_timing: run.host_timing.as_ref().map(|host| HostTimingFigures::new((&run.pauses, host))),
            server: run.server.as_ref().map(ServerFigures::new),
            websocket: run.websocket.as_ref().map(WebSocketFigures::new),
            moqt: run.moqt.as_ref().map(MoqtFigures::new),
            link: run.link.as_ref().map(LinkFigures::new),
            time_series: TimeSeries::new(run),
            jitter_buffer: JitterBufferTable::new(run),
            findings: findings::findings(run),
            datagrams: DatagramFigures::new(run),
            limits,
            comparison: None,
            verdict,
            warnings: Vec::new(),
            protocol: RunProtocol::of_run(run),
        };
        report.warnings = warnings::warnings(&report);
        report
    }

    /// Adds the comparison of `run`, the run of this report, with an earlier report. The verdict fails if the run is worse.
    #[must_use]
    pub fn compared_with(mut self, run: &RunResults, baseline: &Baseline) -> Self {
        let comparison = Comparison::new(baseline, run);
        self.verdict.add_comparison(comparison.reasons());
        self.comparison = Some(comparison);
        self
    }
}
