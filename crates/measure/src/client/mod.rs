//! The client side: sends packets on a schedule, matches the replies, and returns the raw results of a run.
//!
//! A [`ClientNode`] runs a [`Workload`]: an [`AudioSender`] sends audio as a jamjam client does, a [`Prober`] small packets at an interval,
//! both optionally over an encrypted link ([`LinkConfig`]), and a [`WebSocketProber`] requests to a signaling server. A [`Musician`] sends the audio to
//! all members of a room, and judges what they send. Each keeps its packets
//! in a [`PacketTracker`], which updates the statistics of the streams as replies arrive; runs over MOQT use a [`FrameTracker`] instead.
//! The clients of one group share a [`SharedRecord`].

mod connection_results;
mod hosts;
mod link;
mod live_figures;
mod live_snapshot;
mod loss_report;
mod merged_results;
mod moqt;
mod musician;
mod port_errors;
mod prober;
mod replay;
mod reply;
mod request_matcher;
mod results;
mod room_load;
mod run;
mod run_config;
mod schedule;
mod sender;
mod sent_packets;
mod shared_record;
mod stream_kind;
mod wait_for_server;
mod websocket;

pub use connection_results::{
    ClockOffset, Ending, GroupCounts, MoqtConnectTimes, MoqtFailure, MoqtResults, RoomResults, WebSocketConnectTimes,
    WebSocketFailure, WebSocketResults,
};
pub use hosts::{PauseResults, ServerResults};
pub use link::{LinkConfig, LinkFailure, LinkResults, LinkSigning};
pub use live_figures::{LiveFigures, UnfinishedResults};
pub use live_snapshot::LiveSnapshot;
pub use loss_report::{CountSample, LossReport};
pub use moqt::FrameTracker;
pub use musician::{Heard, Musician, MusicianConfig, MusicianResults};
pub use prober::{ProbeConfig, ProbeWorkload, Prober};
pub use replay::{StreamCounts, replay};
pub use reply::ReceivedReply;
pub use request_matcher::RequestMatcher;
pub use results::{
    AudioPicture, AudioResults, CaptureResults, ClientsResults, DelayEstimate, PacketEvent, PacketObserver,
    PacketOutcome, PlaybackResults, RecordedPacket, RunKind, RunOrigin, RunResults, ScheduleResults, SentAudio,
    ServerDelay, StopSignal, WaitResult,
};
pub use room_load::{MAX_ROOM_MESSAGES, RoomLoad, RoomLoadConfig};
pub use run::{ClientNode, Workload, WorkloadStep};
pub use run_config::{BLOCKS, RunConfig};
pub use sender::{AudioSender, AudioStreamConfig, AudioWorkload, PayloadSource, SourcePoll};
pub use sent_packets::{PacketTracker, SENT_PACKETS_CAPACITY};
pub use shared_record::SharedRecord;
pub use stream_kind::StreamKind;
pub use websocket::{JoinHandshake, WebSocketProber, WebSocketWorkload};
