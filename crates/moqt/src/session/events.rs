//! What a session reports to its owner: actions for the connection, events for the handler, and counters.

use bytes::Bytes;

use crate::message::{SubscribeGap, SubscribeUpdate, TrackPath};
use crate::version::MoqtVersion;

/// Handle of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamHandle {
    /// A stream opened by this session, with a number assigned by this session.
    Local(u64),
    /// A stream opened by the peer, numbered by the owner of the connection.
    Remote(u64),
}

/// Direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamDir {
    /// Bidirectional.
    Bi,
    /// Unidirectional, from the opener to the other end.
    Uni,
}

/// An action for the owner of the connection. Actions for one stream must keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// Open a stream for this handle. Later actions for this stream must wait until the peer's stream limit permits a new stream.
    OpenStream(StreamHandle, StreamDir),
    /// Append these bytes to the stream. When the transport has accepted some of them, call `Session::on_bytes_written`. There may be many
    /// short writes, so the owner of the connection should append the bytes to one queue per stream, instead of keeping a list of actions.
    Write(StreamHandle, Bytes),
    /// Finish our side of the stream after all pending bytes have been sent.
    Finish(StreamHandle),
    /// Reset our side of the stream with this code and discard unsent bytes.
    Reset(StreamHandle, u32),
    /// Send `STOP_SENDING` with this code and ignore further data.
    StopSending(StreamHandle, u32),
    /// Close the connection. No action follows this action.
    Close {
        /// A code of [`error_code`](crate::error_code).
        code: u32,
        /// Reason for logs.
        reason: String,
    },
}

/// An event for the session handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The setup is complete.
    Established {
        /// The negotiated version.
        version: MoqtVersion,
    },
    /// The peer requests announcements under `prefix`. Reply with `Session::announce_all`.
    AnnounceRequested {
        /// The stream of the request.
        announce_stream: StreamHandle,
        /// Prefix of the requested paths.
        prefix: TrackPath,
    },
    /// An announcement request of the peer ended.
    AnnounceRequestEnded {
        /// The stream of the request.
        announce_stream: StreamHandle,
    },
    /// The peer announces a path.
    Announced {
        /// The full path.
        path: TrackPath,
    },
    /// The peer no longer announces a path.
    Unannounced {
        /// The full path.
        path: TrackPath,
    },
    /// The peer subscribes to a track. Reply with `Session::accept_subscribe` or `Session::reject_request`, now or
    /// later.
    SubscribeRequested {
        /// The stream of the subscription.
        subscribe_stream: StreamHandle,
        /// The requested track.
        track: TrackPath,
        /// The requested groups.
        range: SubscribeUpdate,
    },
    /// The peer changed its subscription.
    SubscriptionUpdated {
        /// The stream of the subscription.
        subscribe_stream: StreamHandle,
        /// The requested groups.
        range: SubscribeUpdate,
    },
    /// The peer ended its subscription.
    Unsubscribed {
        /// The stream of the subscription.
        subscribe_stream: StreamHandle,
        /// Error code; `None` if it ended normally.
        code: Option<u32>,
    },
    /// The peer accepted our subscription. Groups may arrive before this event.
    SubscribeAccepted {
        /// The ID of our subscription.
        subscribe_id: u64,
    },
    /// The peer will not send some groups of our subscription.
    GroupsSkipped {
        /// The ID of our subscription.
        subscribe_id: u64,
        /// The groups.
        gap: SubscribeGap,
    },
    /// Our subscription ended or was rejected.
    SubscriptionEnded {
        /// The ID of our subscription.
        subscribe_id: u64,
        /// Error code; `None` if it ended normally.
        code: Option<u32>,
    },
    /// A group starts to arrive.
    GroupStarted {
        /// The stream of the group.
        group_stream: StreamHandle,
        /// The ID of our subscription.
        subscribe_id: u64,
        /// Sequence number of the group.
        sequence: u64,
    },
    /// A complete frame arrived.
    FrameReceived {
        /// The stream of the group.
        group_stream: StreamHandle,
        /// Payload of the frame.
        payload: Bytes,
    },
    /// All frames of the group arrived.
    GroupEnded {
        /// The stream of the group.
        group_stream: StreamHandle,
    },
    /// The group was reset or malformed.
    GroupAborted {
        /// The stream of the group.
        group_stream: StreamHandle,
        /// The peer's code, or ours for malformed data.
        code: u32,
    },
    /// The connection is closed. This is the last event.
    Closed {
        /// Error code.
        code: u32,
        /// Reason for logs.
        reason: String,
        /// Whether this end closed the connection.
        closed_locally: bool,
    },
}

jamjam_core::counters! {
/// Counters of one session.
SessionCounters {
    /// Sessions set up.
    Counter sessions,
    /// Connections that this program closed before a session was set up.
    Counter setups_failed,
    /// Paths announced by peers.
    Counter announcements,
    /// Announcements ignored because there are too many, or because their path is empty or too long.
    Counter announcements_rejected,
    /// Peer subscriptions accepted.
    Counter subscriptions,
    /// Peer subscriptions rejected.
    Counter subscriptions_rejected,
    /// Groups received; a group is counted when it starts to arrive.
    Counter groups_received,
    /// Frames received.
    Counter frames_received,
    /// Bytes in frames received.
    Counter received_bytes,
    /// Groups received that were reset or malformed.
    Counter groups_aborted,
    /// Groups rejected because they belong to no subscription.
    Counter groups_rejected,
    /// Groups sent; a group is counted for each subscriber when its transfer starts.
    Counter groups_sent,
    /// Frames sent; a frame is counted when the transport has accepted all its bytes.
    Counter frames_sent,
    /// Bytes in frames sent.
    Counter sent_bytes,
    /// Groups dropped because their subscriber reads too slowly.
    Counter groups_dropped_slow_reader,
    /// Groups dropped because the delay buffer is full; the newest groups are dropped first.
    Counter groups_dropped_buffer_full,
    /// Groups dropped because they have no subscriber.
    Counter groups_dropped_no_subscriber,
    /// Groups that the subscriber stopped (`STOP_SENDING`) before they were sent completely.
    Counter groups_stopped,
    /// Groups reset because the subscriber unsubscribed before they were sent completely.
    Counter groups_unsubscribed,
    /// Streams rejected because they exceed a limit.
    Counter streams_rejected,
    /// Streams rejected because their type is unknown.
    Counter streams_unknown_type,
    /// Requests rejected because this program does not support them: FETCH, INFO and PROBE.
    Counter requests_unsupported,
    /// Streams rejected because of a malformed message.
    Counter streams_malformed,
    /// Messages ignored because they contain nothing that this program uses.
    Counter messages_ignored,
}
}

impl SessionCounters {
    /// Groups that this end dropped because of a slow reader, a full buffer or a missing subscriber.
    pub fn groups_dropped(&self) -> [u64; 3] {
        [self.groups_dropped_slow_reader, self.groups_dropped_buffer_full, self.groups_dropped_no_subscriber]
    }
}
