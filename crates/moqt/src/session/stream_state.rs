//! The state of a session: its streams, each with a role and unread data, outgoing groups, and our subscriptions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::events::{StreamDir, StreamHandle};
use crate::codec::{self, DecodeError, Decoded, Deframer};
use crate::message::{IETF_SERVER_SETUP_START, SubscribeUpdate, TrackPath};

/// Role of a stream.
#[derive(Debug)]
pub(super) enum StreamRole {
    /// The type byte has not been read yet. Before the setup is complete, this byte is read only on the session stream.
    Untyped,
    /// The session stream during the setup.
    SessionSetup,
    /// The session stream after the setup.
    SessionUpdates,
    /// The peer's announcement request, with its prefix once it has been received.
    IncomingAnnounceRequest { prefix: Option<TrackPath> },
    /// The peer's subscription, once it has been received.
    IncomingSubscribe(Option<IncomingSubscription>),
    /// Our announcement request.
    OutgoingAnnounceRequest(AnnounceRequest),
    /// The peer's GOAWAY, which is ignored.
    IncomingGoaway,
    /// Our subscription. `has_reply_types`: whether a type precedes each reply.
    OutgoingSubscribe { subscribe_id: u64, accepted: bool, has_reply_types: bool },
    /// An incoming group. Until its header has been read, `has_header` is false.
    IncomingGroup { has_header: bool },
}

/// A subscription of the peer.
#[derive(Debug)]
pub(super) struct IncomingSubscription {
    pub(super) id: u64,
    pub(super) range: SubscribeUpdate,
    pub(super) accepted: bool,
}

/// State of our announcement request.
#[derive(Debug)]
pub(super) struct AnnounceRequest {
    pub(super) prefix: TrackPath,
    /// Whether the initial reply has arrived. Always true in protocol versions that have no initial reply.
    pub(super) init_received: bool,
    pub(super) announced: BTreeSet<TrackPath>,
}

/// The next item of a stream.
pub(super) enum StreamItem {
    /// The stream type.
    Type(u8),
    /// A message body or frame, after its type if it has one.
    Message(Option<u8>, Bytes),
}

/// State of one stream.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) dir: StreamDir,
    pub(super) role: StreamRole,
    pub(super) deframer: Deframer,
    /// Whether the peer finished its side.
    pub(super) finished: bool,
    /// Written bytes that the transport has not accepted yet.
    pub(super) unsent_bytes: usize,
}

impl StreamState {
    pub(super) fn new(dir: StreamDir, role: StreamRole) -> Self {
        Self { dir, role, deframer: Deframer::default(), finished: false, unsent_bytes: 0 }
    }

    /// Whether the server replied to our setup as servers of IETF drafts do.
    pub(super) fn is_ietf_reply(&self) -> bool {
        matches!(self.role, StreamRole::SessionSetup) && self.deframer.starts_with(&IETF_SERVER_SETUP_START)
    }

    /// Takes the next item from the buffer.
    pub(super) fn next_item(&mut self) -> Result<Option<StreamItem>, DecodeError> {
        Ok(match self.role {
            StreamRole::Untyped => self.deframer.next_byte().map(StreamItem::Type),
            StreamRole::OutgoingSubscribe { has_reply_types: true, .. } => {
                self.deframer.next_typed()?.map(|(reply_type, body)| StreamItem::Message(Some(reply_type), body))
            }
            _ => self.deframer.next_length_prefixed()?.map(|body| StreamItem::Message(None, body)),
        })
    }

    /// Called when the peer has ended its side of the stream. Returns an error if the data received so far is incomplete.
    pub(super) fn check_end(&self) -> Decoded {
        match &self.role {
            StreamRole::Untyped => Err(DecodeError::UnexpectedEnd("stream type")),
            StreamRole::SessionSetup => Err(DecodeError::UnexpectedEnd("setup")),
            StreamRole::IncomingAnnounceRequest { prefix: None } => Err(DecodeError::UnexpectedEnd("ANNOUNCE_PLEASE")),
            StreamRole::IncomingSubscribe(None) => Err(DecodeError::UnexpectedEnd("SUBSCRIBE")),
            StreamRole::IncomingGroup { has_header: false } if self.deframer.buffered() == 0 => {
                Err(DecodeError::UnexpectedEnd("GROUP"))
            }
            _ => self.deframer.check_end(),
        }
    }
}

/// How the peer's side of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// Normally.
    Finished,
    /// The peer sent `RESET_STREAM` or `STOP_SENDING`, or exceeded a limit.
    Reset(u32),
    /// The stream ended because of malformed data.
    Malformed(DecodeError),
}

/// Bytes charged per unsent frame in addition to its payload, for its entry in `unsent_frames`.
pub(super) const FRAME_OVERHEAD: usize = 8;

/// Capacity that `unsent_frames` may keep even if it contains fewer frames. A larger one is reduced if it exceeds four times their number.
const MIN_FRAME_CAPACITY: usize = 64;

/// A group that is not finished, or that the transport has not accepted completely.
#[derive(Debug)]
pub(super) struct OutgoingGroup {
    pub(super) subscribe_stream: StreamHandle,
    /// Bytes that the transport has not accepted yet.
    pub(super) unsent_bytes: usize,
    /// Lengths of the frames that the transport has not accepted completely.
    pub(super) unsent_frames: VecDeque<u32>,
    /// How many bytes of the first frame in `unsent_frames` the transport has already accepted; negative while it has not accepted the whole
    /// group header.
    pub(super) first_frame_written: isize,
    pub(super) finished: bool,
}

impl OutgoingGroup {
    fn cost(&self) -> usize {
        self.unsent_bytes + FRAME_OVERHEAD * self.unsent_frames.len()
    }

    /// Records that the transport has accepted `bytes` more bytes of this group. Returns how many frames are now complete, and the total
    /// payload bytes of these frames.
    fn on_bytes_written(&mut self, bytes: usize) -> (u64, u64) {
        self.unsent_bytes -= bytes;
        self.first_frame_written += bytes as isize;
        let mut complete = (0, 0);
        while let Some(frame) = self.unsent_frames.front().map(|frame| u64::from(*frame)) {
            let size = (codec::varint_len(frame) as u64 + frame) as isize;
            if self.first_frame_written < size {
                break;
            }
            self.first_frame_written -= size;
            self.unsent_frames.pop_front();
            complete = (complete.0 + 1, complete.1 + frame);
        }
        if self.unsent_frames.capacity() > MIN_FRAME_CAPACITY.max(4 * self.unsent_frames.len()) {
            self.unsent_frames.shrink_to_fit();
        }
        complete
    }
}

/// All outgoing groups. Our streams are numbered in opening order, so the first is the oldest.
#[derive(Debug, Default)]
pub(super) struct OutgoingGroups {
    pub(super) groups: BTreeMap<StreamHandle, OutgoingGroup>,
    /// Sum of `OutgoingGroup::cost` over all groups, in bytes.
    pub(super) cost: usize,
}

impl OutgoingGroups {
    pub(super) fn remove(&mut self, group: StreamHandle) -> Option<OutgoingGroup> {
        let outgoing = self.groups.remove(&group)?;
        self.cost -= outgoing.cost();
        Some(outgoing)
    }

    /// Records that the transport has accepted `bytes` more bytes of a group. Returns how many frames are now complete, and the total
    /// payload bytes of these frames.
    pub(super) fn on_bytes_written(&mut self, group: StreamHandle, bytes: usize) -> (u64, u64) {
        let Some(outgoing) = self.groups.get_mut(&group) else { return (0, 0) };
        self.cost -= outgoing.cost();
        let complete = outgoing.on_bytes_written(bytes.min(outgoing.unsent_bytes));
        self.cost += outgoing.cost();
        if outgoing.unsent_bytes == 0 && outgoing.finished {
            self.groups.remove(&group);
        }
        complete
    }

    /// The groups of one subscription.
    pub(super) fn of_subscription(&self, subscriber: StreamHandle) -> Vec<StreamHandle> {
        self.groups
            .iter()
            .filter(|(_, outgoing)| outgoing.subscribe_stream == subscriber)
            .map(|(group, _)| *group)
            .collect()
    }

    /// The group to drop; `None` if no limit is exceeded. If the unsent data exceeds `bytes`, the oldest group with unsent bytes, and if only
    /// the number of groups exceeds `groups`, the oldest of all.
    pub(super) fn oldest_over_limit(&self, bytes: usize, groups: usize) -> Option<StreamHandle> {
        if self.cost > bytes {
            self.groups.iter().find(|(_, outgoing)| outgoing.unsent_bytes > 0).map(|(group, _)| *group)
        } else if self.groups.len() > groups {
            self.groups.keys().next().copied()
        } else {
            None
        }
    }
}

/// Maximum number of ended subscriptions whose late groups are still accepted.
pub(super) const RECENTLY_ENDED_CAPACITY: usize = 16;

/// Our subscriptions.
#[derive(Debug, Default)]
pub(super) struct OutgoingSubscriptions {
    pub(super) next_id: u64,
    pub(super) active: BTreeMap<u64, StreamHandle>,
    /// The most recently ended subscriptions. A group, which has its own stream, may arrive after the end of its subscription.
    pub(super) recently_ended: VecDeque<u64>,
}

impl OutgoingSubscriptions {
    pub(super) fn contains(&self, subscribe_id: u64) -> bool {
        self.active.contains_key(&subscribe_id) || self.recently_ended.contains(&subscribe_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_frames_leave_no_memory_behind() {
        let unsent_frames = VecDeque::from(vec![0; 4_096]);
        let subscribe_stream = StreamHandle::Local(0);
        let mut group = OutgoingGroup {
            subscribe_stream,
            unsent_bytes: 4_096,
            unsent_frames,
            first_frame_written: 0,
            finished: false,
        };
        assert_eq!(group.on_bytes_written(4_095), (4_095, 0));
        assert!(group.unsent_frames.capacity() <= MIN_FRAME_CAPACITY);
    }
}
