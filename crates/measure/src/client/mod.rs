//! The client side: sends packets on a schedule, matches the replies, and returns the raw results of a run.
//!
//! A [`ClientNode`] runs a [`Workload`]: an [`AudioSender`] sends audio as a jamjam client does, a [`Prober`] small packets at an interval,
//! both optionally over an encrypted link ([`LinkConfig`]), and a [`WebSocketProber`] requests to a signaling server. Each keeps its packets
//! in a [`PacketTracker`], which updates the statistics of the streams as replies arrive; runs over MOQT use a [`FrameTracker`] instead.

mod connection_results;
mod hosts;
mod impairing_sink;
mod link;
mod live_figures;
mod loss_report;
mod moqt;
mod port_errors;
mod prober;
mod replay;
mod reply;
mod request_matcher;
mod results;
mod run;
mod schedule;
mod sender;
mod sent_packets;
mod wait_for_server;
mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

pub use connection_results::{
    ClockOffset, GroupCounts, MoqtConnectTimes, MoqtFailure, MoqtResults, WebSocketConnectTimes, WebSocketFailure,
    WebSocketResults,
};
pub use hosts::{PauseResults, ServerResults};
pub use link::{LinkConfig, LinkFailure, LinkResults, LinkSigning};
pub use live_figures::{LiveFigures, LiveSnapshot, UnfinishedResults};
pub use loss_report::{CountSample, LOSS_REPORT_TIMEOUT, LossReport};
pub use moqt::FrameTracker;
pub use prober::{ProbeConfig, ProbeWorkload, Prober};
pub use replay::{ReplayError, StreamCounts, replay};
pub use reply::ReceivedReply;
pub use request_matcher::RequestMatcher;
pub use results::{
    AudioPicture, AudioResults, CaptureResults, DelayEstimate, PacketEvent, PacketObserver, PacketOutcome,
    PlaybackResults, RecordedPacket, RunKind, RunOrigin, RunResults, ScheduleResults, SentAudio, SentImpairment,
    ServerDelay, StopSignal, StreamKind, WaitResult,
};
pub use run::{ClientNode, Workload, WorkloadStep};
pub use schedule::Schedule;
pub use sender::{AudioSender, AudioStreamConfig, AudioWorkload, PayloadSource, SourcePoll};
pub use sent_packets::{PacketTracker, SENT_PACKETS_CAPACITY};
pub use websocket::{JoinHandshake, WebSocketProber, WebSocketWorkload};

/// Configuration of a run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Address of the server. Datagrams from other addresses count as stray, unless the workload accepts them.
    pub peer: SocketAddr,
    /// The stream whose results are checked against the limits and shown in the live view.
    pub evaluated_stream: StreamKind,
    /// Configured delay of the server for AUDIO, if given.
    pub server_delay: Option<Duration>,
    /// Before the first echo arrives, an AUDIO packet times out after this time plus `timeout`.
    pub first_echo_timeout: Duration,
    /// Time-out of a packet. Once the stream has received a reply, the stream's minimum RTT is added.
    pub timeout: Duration,
    /// Whether replies are expected.
    pub replies_expected: bool,
    /// Maximum time to wait for the server before counting starts; `None` to start immediately.
    pub wait_for: Option<Duration>,
    /// Random bits for the transaction IDs of the queries to the server; `None` to send none.
    pub loss_report_nonce: Option<u128>,
    /// `--loss-direction`: counting starts only after the first query, and the results contain the counts of the server.
    pub loss_direction: bool,
}

impl RunConfig {
    /// A run that expects replies. It starts at once and sends no queries.
    pub fn new(peer: SocketAddr, evaluated_stream: StreamKind, timeout: Duration) -> Self {
        Self {
            peer,
            evaluated_stream,
            server_delay: None,
            first_echo_timeout: Duration::ZERO,
            timeout,
            replies_expected: true,
            wait_for: None,
            loss_report_nonce: None,
            loss_direction: false,
        }
    }
}
