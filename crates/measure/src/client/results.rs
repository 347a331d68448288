//! Raw results of one run. Counters and measurements are neither rounded nor compared with limits.
//! A [`PacketObserver`] receives the events of single packets, for recordings, audio analysis and JSON lines.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::document::column::json_types;

use super::connection_results::{MoqtResults, WebSocketResults};
use super::hosts::{PauseResults, ServerResults};
use super::link::LinkResults;
use super::loss_report::{LossReport, missing_packets};
use super::stream_kind::StreamKind;
use crate::waveform::Waveform;
use jamjam_core::audio::jitter_buffer::JitterBufferStats;
use jamjam_core::audio::quality::{AudioQuality, SourceQuality};
use jamjam_core::stats::{DriftEstimate, HostTiming, PacingStats, StreamStats};
use jamjam_core::time::Time;

/// What a run sends, named after the command that mainly sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// AUDIO packets, as a jamjam client sends them, whose echoes are evaluated; or texts over MOQT.
    Send,
    /// One stream of packets that only measure.
    #[default]
    Probe,
}

impl RunKind {
    /// The name of that command.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Probe => "probe",
        }
    }
}

/// The signal that interrupted a run, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum StopSignal {
    /// SIGINT (Ctrl-C).
    #[serde(rename = "SIGINT")]
    Interrupt = 2,
    /// SIGTERM.
    #[serde(rename = "SIGTERM")]
    Terminate = 15,
    /// The reader of standard output has closed the pipe, as `head` does.
    #[serde(rename = "SIGPIPE")]
    ClosedPipe = 13,
    /// SIGHUP: the terminal was closed.
    #[serde(rename = "SIGHUP")]
    Hangup = 1,
    /// Unknown: the run was killed, or its record is incomplete for another reason.
    #[serde(rename = "unknown")]
    Unknown = 9,
}

impl StopSignal {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::ClosedPipe => "SIGPIPE",
            Self::Hangup => "SIGHUP",
            Self::Unknown => "an unknown cause",
        }
    }

    /// Exit code of an interrupted run: 128 plus the signal number. A reader that needs no more output is no failure.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            signal => 128 + signal as u8,
        }
    }
}

/// Result of `--wait-for`. Packets sent or received before the first reply are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitResult {
    /// Time from the first attempt to the first reply or to the time-out, in nanoseconds.
    pub waited_ns: u64,
    /// Whether a reply arrived.
    pub reply_received: bool,
}

/// Durations and shifts of the schedule, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleResults {
    /// Duration of the packets according to the plan of the run.
    pub planned_ns: u64,
    /// Time from the start until the packets were sent, including the interval after the last one.
    pub actual_ns: u64,
    /// How often the rest of the schedule was delayed, because this host paused, was too slow, or could not write to the socket.
    pub shifts: u64,
    /// Sum of these delays.
    pub shift_total_ns: u64,
    /// The largest of these delays.
    pub shift_max_ns: u64,
}

/// The command and the host of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOrigin {
    /// The command line without secrets and folders. Empty if it is unknown.
    pub command_line: String,
    /// Name of the host that ran the command.
    pub host_name: Option<String>,
    /// The seed of the embedded server's impairment.
    pub seed: Option<u64>,
}

/// All results of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunResults {
    /// What was sent.
    pub run_kind: RunKind,
    /// The subcommand.
    pub command: String,
    /// Display name of the server.
    pub target: String,
    /// The command and the host.
    pub origin: RunOrigin,
    /// Time between packets, requests or groups that `probe` was given, in nanoseconds; `None` for `send`.
    pub interval_ns: Option<u64>,
    /// When counting started, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// From the start of counting to the end of the run, in nanoseconds.
    pub duration_ns: u64,
    /// The stream whose results are compared with the limits.
    pub evaluated_stream: StreamKind,
    /// Whether replies are expected; false with `--no-echo`.
    pub replies_expected: bool,
    /// `--timeout`: reply time-out in addition to the minimum RTT, in nanoseconds.
    pub timeout_ns: u64,
    /// Result of `--wait-for`, if it was given.
    pub readiness_wait: Option<WaitResult>,
    /// Result of `--loss-direction`, if it was given.
    pub loss_report: Option<LossReport>,
    /// The signal that interrupted the run.
    pub interrupted: Option<StopSignal>,
    /// Whether the run goes on: these are its results so far.
    #[serde(skip)]
    pub is_active: bool,
    /// AUDIO, if any was sent.
    pub audio: Option<AudioResults>,
    /// `LATENCY_PING`, if any were sent.
    #[serde(skip)]
    pub ping: Option<StreamStats>,
    /// KEEPALIVE, if any were sent.
    #[serde(skip)]
    pub keepalive: Option<StreamStats>,
    /// Pacing errors of the evaluated stream.
    #[serde(skip)]
    pub pacing: Option<PacingStats>,
    /// The schedule; `None` if no packet was planned, or the packets have no schedule.
    pub schedule: Option<ScheduleResults>,
    /// Pauses of this host.
    pub pauses: PauseResults,
    /// What the server reported about itself; `None` if it reported nothing.
    pub server: Option<ServerResults>,
    /// Timer errors, send call times, clock jumps and kernel drops of this machine, if measured.
    pub host_timing: Option<HostTiming>,
    /// Connections of a run over WebSocket.
    pub websocket: Option<WebSocketResults>,
    /// Connection of a run over MOQT.
    pub moqt: Option<MoqtResults>,
    /// Encrypted link of a run over UDP.
    pub link: Option<LinkResults>,
    /// Whether the run ended early, because the port answered its first packets with nothing but ICMP port unreachable.
    pub is_port_dead: bool,
    /// ICMP "port unreachable" messages received.
    pub port_unreachable: u64,
    /// When the first and the last of these messages since the start of counting were received, in nanoseconds since this start.
    pub port_unreachable_ns: Option<[i64; 2]>,
    /// When the last datagram of the server arrived, in nanoseconds since the start of counting.
    pub last_datagram_ns: Option<i64>,
    /// Datagrams that belong to no stream of the run. Such datagrams come from another address, are malformed, or have an unexpected type.
    pub stray: u64,
    /// The other address from which the first of these datagrams came.
    pub stray_source: Option<SocketAddr>,
    /// The clients, if these are the results of several.
    #[serde(skip)]
    pub clients: Option<ClientsResults>,
}

/// The clients of a run with several.
#[derive(Clone, Debug, Default)]
pub struct ClientsResults {
    /// Number of clients.
    pub count: usize,
    /// The number of the worst client, from 1, and its results.
    pub worst: (usize, Box<RunResults>),
    /// Largest number of bytes of a client with its packets and statistics at the end of the run.
    pub bytes_per_flow: usize,
    /// Number of clients whose link was not settled.
    pub without_link: usize,
    /// Number of clients to which the server reported nothing about itself.
    pub without_report: usize,
}

impl RunResults {
    /// Creates empty results of a run against `target`. Initially, replies are expected, and the time-out is the default of 2 s.
    pub fn new(run_kind: RunKind, target: impl Into<String>, evaluated_stream: StreamKind) -> Self {
        let (target, timeout_ns) = (target.into(), 2_000_000_000);
        let command = run_kind.name().to_owned();
        Self { run_kind, command, target, evaluated_stream, replies_expected: true, timeout_ns, ..Self::default() }
    }

    /// Statistics of one stream, if it was sent.
    pub fn stream(&self, kind: StreamKind) -> Option<&StreamStats> {
        match kind {
            StreamKind::Audio => self.audio.as_ref().map(|audio| &audio.stats),
            StreamKind::Ping => self.ping.as_ref(),
            StreamKind::Keepalive => self.keepalive.as_ref(),
        }
    }

    /// Statistics of the stream that is compared with the limits, if it was sent.
    pub(crate) fn evaluated(&self) -> Option<&StreamStats> {
        self.stream(self.evaluated_stream)
    }

    /// Like [`RunResults::evaluated`], mutable.
    pub(crate) fn evaluated_mut(&mut self) -> Option<&mut StreamStats> {
        self.stream_mut(self.evaluated_stream)
    }

    /// Like [`RunResults::stream`], mutable.
    pub(crate) fn stream_mut(&mut self, kind: StreamKind) -> Option<&mut StreamStats> {
        match kind {
            StreamKind::Audio => self.audio.as_mut().map(|audio| &mut audio.stats),
            StreamKind::Ping => self.ping.as_mut(),
            StreamKind::Keepalive => self.keepalive.as_mut(),
        }
    }

    /// Numbers of packets of a stream lost upstream and downstream; `None` if no loss has a known direction.
    pub fn lost_by_direction(&self, kind: StreamKind) -> Option<[u64; 2]> {
        let (loss_report, stream) = (self.loss_report.as_ref()?, self.stream(kind)?);
        if stream.lost == 0 {
            return Some([0, 0]);
        }
        if let Some(received) = loss_report.received.filter(|_| stream.excluded == 0) {
            let upstream = missing_packets(stream.sent, received[kind as usize]).min(stream.lost);
            return Some([upstream, stream.lost - upstream]);
        }
        // An interrupted run has packets in flight, and a pause leaves excluded ones. The samples during the run show the direction of the
        // losses at other times.
        let by_interval = loss_report.lost_upstream_by_interval(kind as usize, &stream.history);
        let known = by_interval.iter().zip(&stream.history.intervals);
        let known = known.filter_map(|(upstream, interval)| Some([(*upstream)?, interval.lost - (*upstream)?]));
        let sum = known.fold([0, 0], |sum, next| [sum[0] + next[0], sum[1] + next[1]]);
        Some(sum).filter(|sum| *sum != [0, 0])
    }

    /// The server's delay for AUDIO; both fields are `None` if no audio was sent.
    pub fn server_delay(&self) -> ServerDelay {
        let Some(audio) = &self.audio else { return ServerDelay::default() };
        let signed = |delay| i64::try_from(delay).unwrap_or(i64::MAX);
        ServerDelay {
            configured_ns: audio.configured_server_delay_ns.map(signed),
            reported_ns: self.server.as_ref().map(|server| signed(server.delay_ns)),
            estimate: self.ping.as_ref().and_then(|ping| DelayEstimate::new(audio.stats.min_rtt()?, ping)),
            // `probe --packet audio` sends no pings from which the delay could be estimated.
            assumed_ns: (self.run_kind == RunKind::Probe).then_some(0),
        }
    }
}

/// Delay that the server adds to AUDIO, in nanoseconds, from each source that knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerDelay {
    /// Value of `--delay`.
    pub configured_ns: Option<i64>,
    /// What the server reported.
    pub reported_ns: Option<i64>,
    /// Estimate from echo times and pings.
    pub estimate: Option<DelayEstimate>,
    /// Used if there is no other value.
    pub assumed_ns: Option<i64>,
}

impl ServerDelay {
    /// The delay from the best source: the user, the server, the estimate.
    pub fn effective_ns(self) -> Option<i64> {
        self.configured_ns.or(self.reported_ns).or(self.estimate.map(|estimate| estimate.ns)).or(self.assumed_ns)
    }
}

/// An estimate of the server delay, in nanoseconds. No value is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayEstimate {
    /// The smallest echo time minus the smallest ping.
    pub ns: i64,
    /// The interval that contains the delay.
    pub min_ns: i64,
    /// End of the interval.
    pub max_ns: i64,
}

impl DelayEstimate {
    /// Estimates the delay from the smallest echo time. The round trip of this echo without the delay may differ from the smallest ping by as
    /// much as most pings differ. With fewer than ten pings, it may differ by the whole smallest ping.
    fn new(min_echo_time: i64, ping: &StreamStats) -> Option<Self> {
        let min_ping = ping.min_rtt()?;
        let spread = ping.rtt.percentile_if_enough(0.9).map_or(min_ping, |p90| p90 - min_ping);
        let ns = min_echo_time - min_ping;
        let [ns, min_ns, max_ns] = [ns, ns - spread, (ns + spread).min(min_echo_time)].map(|ns| ns.max(0));
        Some(Self { ns, min_ns, max_ns })
    }
}

/// The waveforms of a run.
pub struct AudioPicture {
    /// Name of the source: a file or a device.
    pub name: String,
    /// Waveforms of the sent and the returned audio.
    pub waveform: Waveform,
    /// Number of sent or returned packets that the waveforms do not contain.
    pub missing_packets: u64,
}

/// Results of the AUDIO stream.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AudioResults {
    /// Counters and echo times. The RTTs include the server delay. This value is created with [`StreamStats::with_rtt_baseline`].
    #[serde(skip)]
    pub stats: StreamStats,
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Number of interleaved channels.
    pub channels: u16,
    /// Samples per channel in each packet.
    pub frame_samples: u32,
    /// Maximum payload length of a packet in bytes.
    pub payload_bytes: u32,
    /// Maximum length of a packet in bytes, with its IP and UDP headers.
    pub ip_bytes: u32,
    /// Sequence number of the first packet.
    pub first_sequence: u32,
    /// Samples sent per channel.
    pub sent_samples: u64,
    /// Value of `--delay`, or else the delay of the embedded server, in nanoseconds.
    pub configured_server_delay_ns: Option<u64>,
    /// Packets that were sent late because their samples were not ready when they were due.
    pub underruns: u64,
    /// Time by which underruns of more than [`MIN_PAUSE`](jamjam_core::time::MIN_PAUSE) delayed the schedule, in nanoseconds.
    pub source_paused_ns: u64,
    /// Capture device, if the audio came from one.
    pub capture: Option<CaptureResults>,
    /// Playback device, if returned audio was played.
    pub playback: Option<PlaybackResults>,
    /// Samples per channel written by `--record`; `None` without it.
    pub recorded_samples: Option<u64>,
    /// Returned packets missing from the recording because its queue was full.
    pub recording_dropped: u64,
    /// Samples per channel written by `--record-both`; `None` without it.
    pub recorded_both_samples: Option<u64>,
    /// Sent or returned packets missing from the `--record-both` file because its queue was full.
    pub recording_both_dropped: u64,
    /// Why the file was not sent as its header states.
    pub source_warning: Option<String>,
    /// Quality of the source before conversion, if analyzed.
    pub source_quality: Option<SourceQuality>,
    /// Quality of the returned audio, if analyzed.
    pub quality: Option<AudioQuality>,
    /// Packet events that the analyzer missed because its queue was full.
    pub quality_dropped: u64,
}

/// A capture device and its counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptureResults {
    /// Name of the device.
    pub device: String,
    /// Sample format of the device.
    pub sample_format: Cow<'static, str>,
    /// Sample rate of the device in Hz.
    pub sample_rate: u32,
    /// Number of interleaved channels of the device.
    pub channels: u16,
    /// Requested buffer size in frames.
    pub requested_buffer_frames: u32,
    /// Buffer size in frames that the device reports, if any.
    pub reported_buffer_frames: Option<u32>,
    /// Minimum and maximum number of frames per callback; both are 0 if there was no callback.
    pub callback_frames: (u32, u32),
    /// Captured frames, including dropped ones.
    pub frames: u64,
    /// Number of times the capture queue became full.
    pub overruns: u64,
    /// Frames dropped because the capture queue was full.
    pub overrun_frames: u64,
    /// Number of frames captured before the first overrun; `None` if there was no overrun.
    pub first_overrun_at: Option<u64>,
    /// Overruns that the device or its driver reported.
    pub xruns: u64,
    /// Drift of the device clock relative to the system clock, once enough was measured.
    pub drift: Option<DriftEstimate>,
    /// Duration of the audio that the drift is estimated from.
    pub drift_span: Duration,
    /// Error that stopped the device during the run.
    pub failure: Option<String>,
}

/// A playback device and its counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaybackResults {
    /// Name of the device.
    pub device: String,
    /// Sample format of the device.
    pub sample_format: Cow<'static, str>,
    /// Sample rate of the device in Hz.
    pub sample_rate: u32,
    /// Number of interleaved channels of the device.
    pub channels: u16,
    /// Requested buffer size in frames.
    pub requested_buffer_frames: u32,
    /// Buffer size in frames that the device reports, if any.
    pub reported_buffer_frames: Option<u32>,
    /// Value of `--jitter-buffer`; `None` for `auto`.
    pub jitter_buffer: Option<Duration>,
    /// Maximum output latency that the device reports.
    pub device_latency: Duration,
    /// Packets dropped because the queue to the audio thread was full.
    pub dropped: u64,
    /// Packets not yet played at the end of the run.
    pub unplayed: u64,
    /// Underruns that the device or its driver reported.
    pub xruns: u64,
    /// Drift of the device clock relative to the system clock, once enough was measured.
    pub drift: Option<DriftEstimate>,
    /// Duration of the audio that the drift is estimated from.
    pub drift_span: Duration,
    /// Error that stopped the device during the run.
    pub failure: Option<String>,
    /// Statistics of the jitter buffer.
    pub jitter_buffer_stats: JitterBufferStats,
}

/// Outcome of a sent packet, or of a received datagram that matches a sent packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketOutcome {
    /// The first intact copy arrived.
    Returned,
    /// Another datagram arrived for a packet that had already returned.
    Duplicate,
    /// A copy with different bytes arrived before any intact copy.
    Damaged,
    /// No copy arrived before the time-out.
    Lost,
    /// No copy arrived, and the packet was in flight during a pause of this host or of the server.
    Excluded,
    /// The system refused to send the packet.
    NotSent,
    /// No copy arrived, but the packet does not count as lost. The run was interrupted before the time-out, or expects no replies.
    InFlight,
}

/// A received datagram, or a packet without a reply, as recordings of a run contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedPacket {
    /// Stream of the packet.
    pub stream: StreamKind,
    /// Sequence number of the packet.
    pub sequence: u32,
    /// When the packet was due.
    pub due: Time,
    /// When the packet was sent; `due` if it was not sent.
    pub sent_at: Time,
    /// When the datagram arrived; `None` for a packet without a reply.
    pub received_at: Option<Time>,
    /// Outcome of the packet or datagram.
    pub outcome: PacketOutcome,
}

/// A change in the state of one packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketEvent<'a> {
    /// The packet in its new state.
    pub packet: RecordedPacket,
    /// Index of the packet in its stream, from 0.
    pub index: u64,
    /// Whether this is the first datagram received for the packet.
    pub is_first: bool,
    /// Payload of the datagram; empty if the event has no datagram.
    pub payload: &'a [u8],
}

/// An AUDIO packet that was sent. A packet that could not be sent also counts as part of the sent audio.
#[derive(Clone, Copy, Debug)]
pub struct SentAudio<'a> {
    /// Index of the packet in the AUDIO stream, from 0.
    pub index: u64,
    /// Sequence number of the packet.
    pub sequence: u32,
    /// Samples in wire format.
    pub payload: &'a [u8],
}

/// Receives packet events on the thread that runs the node. Implementations must not block and, after a warm-up, must not allocate.
pub trait PacketObserver: Send {
    /// Called after each AUDIO packet is sent or could not be sent.
    fn on_audio_sent(&mut self, _: SentAudio<'_>) {}
    /// Called for each packet event.
    fn on_packet(&mut self, event: PacketEvent<'_>);
}

/// Discards all events.
impl PacketObserver for () {
    fn on_packet(&mut self, _: PacketEvent<'_>) {}
}

/// Discards all events if `None`.
impl<O: PacketObserver> PacketObserver for Option<O> {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        if let Some(observer) = self {
            observer.on_audio_sent(sent);
        }
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        if let Some(observer) = self {
            observer.on_packet(event);
        }
    }
}

/// Passes each event to both observers in order.
impl<A: PacketObserver, B: PacketObserver> PacketObserver for (A, B) {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        self.0.on_audio_sent(sent);
        self.1.on_audio_sent(sent);
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        self.0.on_packet(event);
        self.1.on_packet(event);
    }
}

impl<O: PacketObserver + ?Sized> PacketObserver for &mut O {
    fn on_audio_sent(&mut self, sent: SentAudio<'_>) {
        (**self).on_audio_sent(sent);
    }

    fn on_packet(&mut self, event: PacketEvent<'_>) {
        (**self).on_packet(event);
    }
}

json_types! {
    PacketOutcome => {"enum": [
        PacketOutcome::Returned, PacketOutcome::Duplicate, PacketOutcome::Damaged,
        PacketOutcome::Lost, PacketOutcome::Excluded, PacketOutcome::NotSent, PacketOutcome::InFlight,
    ]};
    StopSignal => {"enum": [
        StopSignal::Interrupt, StopSignal::Terminate,
        StopSignal::ClosedPipe, StopSignal::Hangup, StopSignal::Unknown,
    ]};
}
