//! The report as data: what every output format prints. `docs/report.schema.json` describes each field.

use std::fmt::Write;
use std::net::SocketAddr;

use super::audio_figures::{AudioQualityFigures, CaptureFigures, PlaybackFigures};
use super::buffer_table::JitterBufferTable;
use super::clients::ClientsFigures;
use super::connection_figures::{ConnectionFailure, LinkFigures, MoqtFigures, RoomFigures, WebSocketFigures};
use super::figures::{
    AudioFigures, HostTimingFigures, LossReportFigures, PacingFigures, ServerFigures, StreamFigures, WaitFigures,
};
use super::limits::{self, Limits};
use super::quantities::{RunProtocol, StreamLabels, format_decimals, format_share, unsigned_millis};
use super::ramp::RampFigures;
use super::series;
use super::time_series::TimeSeries;
use crate::client::{RunResults, StreamKind};
use crate::document::column::figures;
use crate::document::{Document, Head};
use jamjam_core::sanitize::{sanitize, sanitize_line};

/// Maximum length of the command line in bytes, with an ellipsis.
const MAX_COMMAND_LINE_BYTES: usize = 1_003;

figures! {
    /// The report of one run.
    Report from (run, limits): (&RunResults, &Limits) [
        let audio = run.audio.as_ref();
        // If no audio was sent, there is no audio quality to report.
        let quality = audio.and_then(|audio| Some((audio, audio.quality.as_ref()?)));
        let quality = quality.filter(|(_, quality)| quality.sent_samples > 0);
        let schedule = run.schedule.unwrap_or_default();
    ] {
        /// What every report has.
        #[serde(skip)]
        @skip head: Head = head(run, limits);
        /// `--interval` of probe, in milliseconds; null for send, whose packets are due when their audio is.
        @short interval_ms: Option<f64> = run.interval_ns.map(unsigned_millis);
        /// Time in which the packets should have been sent, including the interval after the last one; null if nothing was sent, or if the packets
        /// have no schedule, such as those of `publish --text` and `load-rooms`.
        planned_duration_ms: Option<f64> = run.schedule.map(|schedule| unsigned_millis(schedule.planned_ns));
        /// Time in which they were sent, including the interval after the last one; null as above.
        actual_duration_ms: Option<f64> = run.schedule.map(|schedule| unsigned_millis(schedule.actual_ns));
        /// How often an overdue packet delayed the rest of the schedule.
        @problem schedule_shifts: u64 = schedule.shifts;
        /// Sum of these delays.
        @problem schedule_shift_total_ms: f64 = unsigned_millis(schedule.shift_total_ns);
        /// The largest of these delays.
        @problem schedule_shift_max_ms: f64 = unsigned_millis(schedule.shift_max_ns);
        /// Stream that limits, verdict, findings, pacing and time series refer to: `audio` if audio was sent, otherwise the only stream.
        evaluated_stream: StreamKind = run.evaluated_stream;
        /// Whether replies were expected: not with --no-echo.
        replies_expected: bool = run.replies_expected;
        /// Value of --timeout.
        timeout_ms: f64 = unsigned_millis(run.timeout_ns);
        /// Result of --wait-for; null without this option.
        readiness_wait: Option<WaitFigures> = run.readiness_wait.map(Into::into);
        /// Result of --loss-direction; null without this option.
        loss_report: Option<LossReportFigures> = run.loss_report.as_ref().map(Into::into);
        /// Counts and statistics of the packets, by stream.
        streams: Streams = run.into();
        /// Format and timing of the AUDIO packets; null if no audio was sent.
        audio: Option<AudioFigures> = audio.map(|audio| (run, audio).into());
        /// The microphone of `send --mic`, with frames counted at the device's rate; null without a microphone.
        capture: Option<CaptureFigures> = audio.and_then(|audio| Some(audio.capture.as_ref()?.into()));
        /// The output device and jitter buffer of `send --play`; null without this option.
        playback: Option<PlaybackFigures> = audio.and_then(|audio| Some(audio.playback.as_ref()?.into()));
        /// Comparison of the returned audio with the sent audio; null unless send sent audio. Positions are milliseconds of audio from the
        /// first sample sent.
        audio_quality: Option<AudioQualityFigures> = quality.map(Into::into);
        /// Pacing error of the evaluated stream: send time minus due time, negative if early; null if it does not apply.
        pacing: Option<PacingFigures> = run.pacing.as_ref().map(Into::into);
        /// Delays and errors of the machine that measured; null if it does not apply.
        host_timing: Option<HostTimingFigures> = run.host_timing.as_ref().map(|host| (&run.pauses, host).into());
        /// What a jamjam-dev server reported about itself; null if it reported nothing.
        server: Option<ServerFigures> = run.server.as_ref().map(Into::into);
        /// Connections to a signaling server; null over UDP and MOQT.
        websocket: Option<WebSocketFigures> = run.websocket.as_ref().map(|websocket| (run, websocket).into());
        /// Groups and connection over MOQT; null over UDP and WebSocket.
        moqt: Option<MoqtFigures> = run.moqt.as_ref().map(Into::into);
        /// Encrypted link; null without --link.
        link: Option<LinkFigures> = run.link.as_ref().map(Into::into);
        /// The clients of load-echo, whose figures the report contains together; otherwise null.
        clients: Option<ClientsFigures> = run.clients.as_ref().map(|clients| (run, clients).into());
        /// Result of load-echo --ramp, which decides the verdict unless no reply was received; otherwise null.
        ramp: Option<RampFigures> = None;
        /// The evaluated stream over time; null if it was not sent.
        time_series: Option<TimeSeries> = run.evaluated().map(|stream| (run, &stream.history).into());
        /// What a receiver would lose with jitter buffers of different depths; null if no packet of the evaluated stream returned, and for
        /// signaling servers.
        jitter_buffer: Option<JitterBufferTable> = JitterBufferTable::new(run);
        /// ICMP port unreachable errors reported by the system, possibly not all that arrived.
        @problem port_unreachable: u64 = run.port_unreachable;
        /// Datagrams from another address, that are no packets, or whose type answers none of the requests; over WebSocket, messages that are
        /// no responses.
        @problem stray: u64 = run.stray;
        /// The other address from which the first stray datagram came; null without one, in runs with a room, and on systems other than
        /// Linux.
        @problem stray_source: Option<SocketAddr> = run.stray_source;
        /// The protocol, which names the packets.
        #[serde(skip)]
        @skip protocol: RunProtocol = RunProtocol::of_run(run);
    }

    /// The figures of each stream; `null` for a stream that was not sent.
    Streams from run: &RunResults [
        let stream = |kind| Some((run, kind, run.stream(kind)?).into());
    ] {
        /// AUDIO packets; null if none were planned.
        audio: Option<StreamFigures> = stream(StreamKind::Audio);
        /// LATENCY_PING packets, WebSocket requests or MOQT frames; null if none were planned.
        ping: Option<StreamFigures> = stream(StreamKind::Ping);
        /// KEEPALIVE packets; null if none were planned.
        keepalive: Option<StreamFigures> = stream(StreamKind::Keepalive);
    }
}

/// The head of the report of a run, without diagnoses and headline.
fn head(run: &RunResults, limits: &Limits) -> Head {
    let head = Head::new(&run.command, run.target.clone(), limits::judgments(run, limits));
    Head {
        seed: run.origin.seed,
        command_line: sanitize_line(&run.origin.command_line, MAX_COMMAND_LINE_BYTES),
        host_name: run.origin.host_name.as_deref().map(sanitize),
        started_unix_ms: run.started_unix_ms,
        duration_ms: unsigned_millis(run.duration_ns),
        interrupted: run.interrupted,
        is_active: run.is_active,
        ..head
    }
}

impl Report {
    /// The report as a document.
    pub fn document(&self) -> Document {
        Document { series: series::of_run(self), ..Document::new(self.head.clone(), self) }
    }

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

    /// The most important figures of the evaluated stream in one line: `150 sent, 1.3 % lost, RTT p50/p99 1.81/4.01 ms, buffer 5.3 ms`.
    pub(super) fn key_figures(&self) -> String {
        let Some(stream) = self.evaluated() else { return "0 sent".to_owned() };
        let mut text = format!("{} sent", stream.sent);
        if !self.replies_expected {
            return text + ", no replies expected";
        }
        if let Some(ratio) = stream.loss_ratio {
            _ = write!(text, ", {} lost", format_share(ratio));
        }
        let times = [("p50", stream.rtt_p50_us), ("p99", stream.rtt_p99_us), ("max", stream.rtt_max_us)];
        let times = times.into_iter().filter_map(|(name, us)| Some((name, format_briefly(us? / 1e3)))).take(2);
        let (names, values): (Vec<_>, Vec<_>) = times.unzip();
        if !names.is_empty() {
            _ = write!(text, ", RTT {} {} ms", names.join("/"), values.join("/"));
        }
        if let Some(table) = &self.jitter_buffer {
            match table.recommended() {
                Some(depth) => _ = write!(text, ", jitter buffer {:.1} ms", depth.depth_ms),
                None if table.is_reliable => text += ", no buffer suffices",
                None => {}
            }
        }
        text
    }

    /// Why there was no connection, or why it ended early.
    pub(super) fn connection_failure(&self) -> Option<&ConnectionFailure> {
        let websocket = self.websocket.as_ref().and_then(|websocket| websocket.connection_failure.as_ref());
        let moqt = || self.moqt.as_ref()?.connection_failure.as_ref();
        websocket.or_else(moqt).or_else(|| self.link.as_ref()?.connection_failure.as_ref())
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
        let verdict = &self.head.verdict;
        if !verdict.passed && is_refused && !has_begun { 3 } else { verdict.result.exit_code() }
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

/// A number with three significant digits, but at most three decimals.
fn format_briefly(value: f64) -> String {
    let decimals = match value.abs() {
        magnitude if magnitude >= 99.95 => 0,
        magnitude if magnitude >= 9.995 => 1,
        magnitude if magnitude >= 0.9995 => 2,
        _ => 3,
    };
    format_decimals(value, decimals)
}
