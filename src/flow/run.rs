//! The raw result of one run of `send` or `probe`: facts and counts, nothing judged, nothing rounded.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::capture::CaptureRun;
use super::moqt::MoqtRun;
use super::playback::PlaybackRun;
use super::websocket::WebSocketRun;
use crate::heard::{Heard, Taken};
use crate::stats::{Machine, Pacing, Stream};
use crate::wire::Kind;

/// Which subcommand ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// `jamjam-dev send`: audio as a client sends it, judged by its AUDIO, or texts over MOQT.
    Send,
    /// `jamjam-dev probe`: one stream, judged by it.
    Probe,
}

/// The streams a run can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// AUDIO packets, returned after the server's hold.
    Audio,
    /// `LATENCY_PING`, answered by `LATENCY_PONG`; over WebSocket the question of the dialect, and its answer; over MOQT a
    /// frame, and the same frame.
    Ping,
    /// KEEPALIVE, returned at once.
    Keepalive,
}

impl StreamKind {
    /// Every kind, in the order of a report's columns.
    pub const ALL: [Self; 3] = [Self::Audio, Self::Ping, Self::Keepalive];

    /// The packet type that is sent.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => Kind::Audio.name(),
            Self::Ping => Kind::LatencyPing.name(),
            Self::Keepalive => Kind::Keepalive.name(),
        }
    }

    /// The packet type that answers it.
    pub const fn answer_name(self) -> &'static str {
        match self {
            Self::Ping => Kind::LatencyPong.name(),
            Self::Audio | Self::Keepalive => self.name(),
        }
    }
}

/// What ended a run before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// Ctrl-C.
    #[serde(rename = "SIGINT")]
    Interrupt,
    /// A polite kill.
    #[serde(rename = "SIGTERM")]
    Terminate,
}

/// How `--wait-for` went. Nothing that happened before the first answer is in any other number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// From the first attempt to the first answer, or to giving up, in nanoseconds.
    pub waited_ns: u64,
    /// Whether an answer came.
    pub answered: bool,
}

/// Everything a run leaves behind.
#[derive(Clone, Debug)]
pub struct Run {
    /// Which subcommand.
    pub command: Command,
    /// Whom it spoke to, as a person would write it.
    pub target: String,
    /// When counting began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// From the start of counting to the end of the run, in nanoseconds.
    pub duration_ns: u64,
    /// The stream whose numbers decide.
    pub judged: StreamKind,
    /// False for `--no-echo`: nothing is expected back.
    pub answers_expected: bool,
    /// `--timeout`: how long after the last expected return the run waits, in nanoseconds.
    pub timeout_ns: u64,
    /// `--late-after`, in nanoseconds.
    pub late_after_ns: Option<u64>,
    /// How `--wait-for` went, if it was given.
    pub wait: Option<Wait>,
    /// What the server told, if it was asked (`--ask-server`).
    pub asked: Option<Asked>,
    /// What cut the run short.
    pub interrupted: Option<Signal>,
    /// AUDIO, if it was sent.
    pub audio: Option<AudioRun>,
    /// `LATENCY_PING`, if any were sent.
    pub ping: Option<Stream>,
    /// KEEPALIVE, if any were sent.
    pub keepalive: Option<Stream>,
    /// Pacing errors of the judged stream.
    pub pacing: Option<Pacing>,
    /// What the machine has cost and done, where it was watched.
    pub machine: Option<Machine>,
    /// The connections, of a run over WebSocket.
    pub websocket: Option<WebSocketRun>,
    /// The connection, of a run over MOQT.
    pub moqt: Option<MoqtRun>,
    /// ICMP "port unreachable" messages seen.
    pub refused: u64,
    /// Datagrams that belong to no stream of this run: from another address, no packet, or a type not expected.
    pub stray: u64,
}

impl Run {
    /// A run of `command` against `target` in which nothing has happened yet: answers expected, 2 s of time-out.
    pub fn new(command: Command, target: impl Into<String>, judged: StreamKind) -> Self {
        Self {
            command,
            target: target.into(),
            started_unix_ms: 0,
            duration_ns: 0,
            judged,
            answers_expected: true,
            timeout_ns: 2_000_000_000,
            late_after_ns: None,
            wait: None,
            asked: None,
            interrupted: None,
            audio: None,
            ping: None,
            keepalive: None,
            pacing: None,
            machine: None,
            websocket: None,
            moqt: None,
            refused: 0,
            stray: 0,
        }
    }

    /// The numbers of one stream, if it was sent.
    pub fn stream(&self, kind: StreamKind) -> Option<&Stream> {
        match kind {
            StreamKind::Audio => self.audio.as_ref().map(|audio| &audio.stream),
            StreamKind::Ping => self.ping.as_ref(),
            StreamKind::Keepalive => self.keepalive.as_ref(),
        }
    }

    /// How many of a stream's lost packets were lost on their way to the server; `None` where nobody knows.
    pub fn lost_outward(&self, kind: StreamKind) -> Option<u64> {
        let (asked, stream) = (self.asked.as_ref()?, self.stream(kind)?);
        if stream.lost == 0 {
            return Some(0);
        }
        // Counts wrap; what is missing is few.
        let missing = (stream.sent as u32).wrapping_sub(asked.heard?[kind as usize]).cast_signed();
        Some(u64::from(missing.max(0).cast_unsigned()).min(stream.lost))
    }

    /// The server's hold, if audio was sent.
    pub fn hold(&self) -> Hold {
        let Some(audio) = &self.audio else { return Hold::default() };
        let least = |kind| self.stream(kind).and_then(Stream::min_round_trip);
        let estimated_ns = least(StreamKind::Audio).zip(least(StreamKind::Ping)).map(|(echo, ping)| echo - ping);
        Hold { given_ns: audio.hold_given_ns.map(|hold| i64::try_from(hold).unwrap_or(i64::MAX)), estimated_ns }
    }
}

/// What a server told of the client that asked it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether it answered at all.
    pub answered: bool,
    /// The client's address as the server sees it.
    pub seen_as: Option<SocketAddr>,
    /// Distinct packets that it has heard in this run, by [`StreamKind`]; they wrap at 2^32.
    pub heard: Option<[u32; 3]>,
}

/// How long the server held AUDIO back, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// What `--hold` says.
    pub given_ns: Option<i64>,
    /// The smallest echo time less the smallest `LATENCY_PING` round trip.
    pub estimated_ns: Option<i64>,
}

impl Hold {
    /// The one that counts: given, else estimated.
    pub fn ns(self) -> Option<i64> {
        self.given_ns.or(self.estimated_ns)
    }
}

/// What belongs to AUDIO alone.
#[derive(Clone, Debug, Default)]
pub struct AudioRun {
    /// Counters and echo times. Its round trips are echo times, hold included; make it with [`Stream::relative`].
    pub stream: Stream,
    /// Samples a second and channel.
    pub sample_rate: u32,
    /// Interleaved channels.
    pub channels: u16,
    /// Samples a channel and packet.
    pub frame_samples: u32,
    /// Payload bytes of the largest packet.
    pub payload_bytes: u32,
    /// Samples a channel sent.
    pub sent_samples: u64,
    /// `--hold`, in nanoseconds. `probe --audio` sets 0 where the option is not given: it sends no pings.
    pub hold_given_ns: Option<u64>,
    /// Packets whose samples were not ready when they were due; they left as soon as they were.
    pub underruns: u64,
    /// What is known of the device that the sound came from, if it came from one.
    pub capture: Option<CaptureRun>,
    /// What is known of the device that played what came back, if one did.
    pub playback: Option<PlaybackRun>,
    /// Samples a channel written by `--record`; `None` without it.
    pub recorded_samples: Option<u64>,
    /// Returned packets that the recording had to leave out.
    pub record_dropped: u64,
    /// Samples a channel written by `--record-both`; `None` without it.
    pub recorded_both_samples: Option<u64>,
    /// Packets of either side that this recording had to leave out.
    pub record_both_dropped: u64,
    /// What was noticed of the sound before anything was done to it, if anybody listened to that.
    pub taken: Option<Taken>,
    /// What a listener would have noticed, if anybody listened.
    pub heard: Option<Heard>,
    /// Packets of either side, and missing ones, that the listener was not told of.
    pub heard_dropped: u64,
}
