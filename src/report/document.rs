//! The report: everything that is printed, computed once.

use serde::Serialize;

use super::capture::CaptureNumbers;
use super::caveats::{Caveat, caveats};
use super::direction::AskedNumbers;
use super::heard::HeardNumbers;
use super::limits::{Judgement, Limits};
use super::machine::MachineNumbers;
use super::moqt::MoqtNumbers;
use super::names::{Names, Spoken};
use super::numbers::{PacingNumbers, StreamNumbers, micros, millis, unsigned_millis};
use super::playback::PlaybackNumbers;
use super::round_trip::RoundTrip;
use super::verdict::Verdict;
use super::websocket::{LostWords, WebSocketNumbers};
use crate::flow::run::{AudioRun, Command, Run, Signal, StreamKind, Wait};

/// Rises when a field changes its meaning or goes away; a new field alone does not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// A run's report. `docs/measuring.md` defines each field under its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct Report {
    pub schema_version: u32,
    pub tool_version: &'static str,
    pub command: Command,
    pub target: String,
    pub started_unix_ms: u64,
    pub duration_ms: f64,
    pub judged: StreamKind,
    pub answers_expected: bool,
    pub timeout_ms: f64,
    pub late_after_ms: Option<f64>,
    pub wait: Option<WaitNumbers>,
    pub asked: Option<AskedNumbers>,
    pub interrupted: Option<Signal>,
    pub streams: Streams,
    pub audio: Option<AudioNumbers>,
    pub capture: Option<CaptureNumbers>,
    pub playback: Option<PlaybackNumbers>,
    pub heard: Option<HeardNumbers>,
    pub pacing: Option<PacingNumbers>,
    pub machine: Option<MachineNumbers>,
    pub websocket: Option<WebSocketNumbers>,
    pub moqt: Option<MoqtNumbers>,
    pub refused: u64,
    pub stray: u64,
    pub limits: Vec<Judgement>,
    pub verdict: Verdict,
    pub caveats: Vec<Caveat>,
}

/// The streams that were sent; `null` for the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "named like the streams")]
pub struct Streams {
    pub audio: Option<StreamNumbers>,
    pub ping: Option<StreamNumbers>,
    pub keepalive: Option<StreamNumbers>,
}

/// How `--wait-for` went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct WaitNumbers {
    pub waited_ms: f64,
    pub answered: bool,
}

/// What belongs to AUDIO alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct AudioNumbers {
    pub sample_rate_hz: u32,
    pub channels: u16,
    pub frame_samples: u32,
    pub payload_bytes: u32,
    pub hold_ms: Option<f64>,
    pub hold_given_ms: Option<f64>,
    pub hold_estimated_ms: Option<f64>,
    pub echo_min_us: Option<f64>,
    pub echo_p50_us: Option<f64>,
    pub echo_p99_us: Option<f64>,
    pub echo_max_us: Option<f64>,
    pub underruns: u64,
    pub recorded_samples: Option<u64>,
    pub record_dropped: u64,
    pub recorded_both_samples: Option<u64>,
    pub record_both_dropped: u64,
}

impl Report {
    /// Computes the report of a run that has ended.
    pub fn new(run: &Run, limits: &Limits) -> Self {
        let stream =
            |kind| Some(StreamNumbers::new(run.stream(kind)?, RoundTrip::of(run, kind), run.lost_outward(kind)));
        let limits = limits.judge(run);
        let verdict = Verdict::new(run, &limits);
        let mut report = Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION"),
            command: run.command,
            target: run.target.clone(),
            started_unix_ms: run.started_unix_ms,
            duration_ms: unsigned_millis(run.duration_ns),
            judged: run.judged,
            answers_expected: run.answers_expected,
            timeout_ms: unsigned_millis(run.timeout_ns),
            late_after_ms: run.late_after_ns.map(unsigned_millis),
            wait: run.wait.map(WaitNumbers::from),
            asked: run.asked.map(AskedNumbers::from),
            interrupted: run.interrupted,
            streams: Streams {
                audio: stream(StreamKind::Audio),
                ping: stream(StreamKind::Ping),
                keepalive: stream(StreamKind::Keepalive),
            },
            audio: run.audio.as_ref().map(|audio| AudioNumbers::new(run, audio)),
            capture: run.audio.as_ref().and_then(|audio| audio.capture.as_ref()).map(CaptureNumbers::from),
            playback: run.audio.as_ref().and_then(|audio| audio.playback.as_ref()).map(PlaybackNumbers::from),
            heard: run.audio.as_ref().and_then(HeardNumbers::of),
            pacing: run.pacing.as_ref().map(PacingNumbers::from),
            machine: run.machine.as_ref().map(MachineNumbers::from),
            websocket: run.websocket.as_ref().map(WebSocketNumbers::from),
            moqt: run.moqt.as_ref().map(MoqtNumbers::from),
            refused: run.refused,
            stray: run.stray,
            limits,
            verdict,
            caveats: Vec::new(),
        };
        report.caveats = caveats(&report);
        report
    }

    /// What the packets of a stream are called.
    pub(super) fn names(&self, kind: StreamKind) -> Names {
        let spoken = Spoken::of(self.websocket.as_ref().map(|websocket| websocket.dialect), self.moqt.is_some());
        Names::of(spoken, kind)
    }

    /// Whether datagrams were exchanged as they are, and not over a connection.
    pub(super) fn is_over_udp(&self) -> bool {
        self.websocket.is_none() && self.moqt.is_none()
    }

    /// Why there was no connection, or none any more.
    pub(super) fn connection_lost(&self) -> Option<&LostWords> {
        let websocket = self.websocket.as_ref().and_then(|websocket| websocket.connection_lost.as_ref());
        websocket.or_else(|| self.moqt.as_ref()?.connection_lost.as_ref())
    }

    /// 0 passed, 1 failed. What an interrupted run exits with is the caller's matter.
    pub fn exit_code(&self) -> u8 {
        self.verdict.exit_code()
    }
}

impl Streams {
    /// The numbers of one stream, if it was sent.
    pub fn get(&self, kind: StreamKind) -> Option<&StreamNumbers> {
        match kind {
            StreamKind::Audio => self.audio.as_ref(),
            StreamKind::Ping => self.ping.as_ref(),
            StreamKind::Keepalive => self.keepalive.as_ref(),
        }
    }

    /// The streams that were sent, in the order of the report's columns.
    pub fn iter(&self) -> impl Iterator<Item = (StreamKind, &StreamNumbers)> {
        StreamKind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }
}

impl From<Wait> for WaitNumbers {
    fn from(wait: Wait) -> Self {
        Self { waited_ms: unsigned_millis(wait.waited_ns), answered: wait.answered }
    }
}

impl AudioNumbers {
    fn new(run: &Run, audio: &AudioRun) -> Self {
        let echo = RoundTrip::with_hold(&audio.stream);
        let hold = run.hold();
        Self {
            sample_rate_hz: audio.sample_rate,
            channels: audio.channels,
            frame_samples: audio.frame_samples,
            payload_bytes: audio.payload_bytes,
            hold_ms: hold.ns().map(millis),
            hold_given_ms: hold.given_ns.map(millis),
            hold_estimated_ms: hold.estimated_ns.map(millis),
            echo_min_us: echo.min().map(micros),
            echo_p50_us: echo.percentile(0.5).map(micros),
            echo_p99_us: echo.percentile(0.99).map(micros),
            echo_max_us: echo.max().map(micros),
            underruns: audio.underruns,
            recorded_samples: audio.recorded_samples,
            record_dropped: audio.record_dropped,
            recorded_both_samples: audio.recorded_both_samples,
            record_both_dropped: audio.record_both_dropped,
        }
    }
}
