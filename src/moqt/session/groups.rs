//! Incoming and outgoing groups. Unsent bytes are limited: if a subscriber is slow, the oldest group is dropped as a whole, so that the
//! remaining data is recent.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use tracing::debug;

use super::streams::{StreamRole, StreamState};
use super::{Session, SessionAction, SessionEvent, StreamDir, StreamHandle};
use crate::moqt::codec::{self, GROUP_STREAM_TYPE, GroupHeader, GroupItem};
use crate::moqt::error_code;

/// Consecutive writes to a group are joined into one write of at most this many bytes. A payload of at most this many bytes is copied
/// behind its length prefix.
const MAX_COALESCED_BYTES: usize = 1 << 10;

/// Bytes charged per unsent frame in addition to its payload, for its entry in `unsent_frames`.
const FRAME_OVERHEAD: usize = 8;

/// Capacity that `unsent_frames` may keep even if it contains fewer frames. A larger capacity is reduced when it exceeds four times the
/// number of frames.
const MIN_FRAME_CAPACITY: usize = 64;

/// A group that is not finished, or that the transport has not accepted completely.
#[derive(Debug)]
pub(super) struct OutgoingGroup {
    subscribe_stream: StreamHandle,
    /// Bytes that the transport has not accepted yet.
    unsent_bytes: usize,
    /// Lengths of the frames that the transport has not accepted completely.
    unsent_frames: VecDeque<u32>,
    /// Bytes of the first unsent frame that the transport has accepted; negative until it has accepted the whole group header.
    first_frame_written: isize,
    finished: bool,
}

impl OutgoingGroup {
    fn cost(&self) -> usize {
        self.unsent_bytes + FRAME_OVERHEAD * self.unsent_frames.len()
    }

    /// Records that the transport has accepted `bytes` more bytes of this group. Returns the number and payload bytes of the frames that
    /// are now complete.
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
    groups: BTreeMap<StreamHandle, OutgoingGroup>,
    /// Sum of `OutgoingGroup::cost` over all groups, in bytes.
    cost: usize,
}

impl OutgoingGroups {
    pub(super) fn remove(&mut self, group: StreamHandle) -> Option<OutgoingGroup> {
        let outgoing = self.groups.remove(&group)?;
        self.cost -= outgoing.cost();
        Some(outgoing)
    }

    /// Records that the transport has accepted `bytes` more bytes of a group. Returns the number and payload bytes of the frames that are
    /// now complete.
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

    /// The group to drop if a limit is exceeded: the oldest group with unsent bytes, or the oldest of all groups if there are too many.
    fn oldest_over_limit(&self, bytes: usize, groups: usize) -> Option<StreamHandle> {
        if self.cost > bytes {
            self.groups.iter().find(|(_, outgoing)| outgoing.unsent_bytes > 0).map(|(group, _)| *group)
        } else if self.groups.len() > groups {
            self.groups.keys().next().copied()
        } else {
            None
        }
    }
}

impl Session {
    /// Opens a group for an accepted subscription. `None` if the subscription has ended or its range does not contain
    /// the group.
    pub fn open_group(&mut self, subscribe_stream: StreamHandle, sequence: u64) -> Option<StreamHandle> {
        let subscribe_id = self.subscribe_id_wanting(subscribe_stream, sequence)?;
        let group = self.open_stream(StreamDir::Uni);
        let header = [vec![GROUP_STREAM_TYPE], GroupHeader { subscribe_id, sequence }.encode_with_length()].concat();
        let (unsent_frames, first_frame_written) = (VecDeque::new(), -(header.len() as isize));
        self.outgoing_groups.groups.insert(
            group,
            OutgoingGroup { subscribe_stream, unsent_bytes: 0, unsent_frames, first_frame_written, finished: false },
        );
        self.counters.groups_sent += 1;
        self.write_group(group, header.into());
        Some(group)
    }

    /// Sends a frame of a group. Frames of dropped groups are ignored.
    pub fn send_frame(&mut self, group: StreamHandle, payload: Bytes) {
        let Some(outgoing) = self.outgoing_groups.groups.get_mut(&group) else { return };
        outgoing.unsent_frames.push_back(payload.len() as u32);
        self.outgoing_groups.cost += FRAME_OVERHEAD;
        let mut length = Vec::with_capacity(codec::MAX_VARINT_LEN);
        codec::write_varint(payload.len() as u64, &mut length);
        if payload.len() <= MAX_COALESCED_BYTES {
            length.extend_from_slice(&payload);
            self.write_group(group, length.into());
        } else {
            self.write_group(group, length.into());
            self.write_group(group, payload);
        }
    }

    /// Finishes a group.
    pub fn finish_group(&mut self, group: StreamHandle) {
        if let Some(outgoing) = self.outgoing_groups.groups.get_mut(&group) {
            outgoing.finished = true;
            self.actions.push_back(SessionAction::Finish(group));
            let _ = self.outgoing_groups.on_bytes_written(group, 0);
        }
    }

    /// Resets a group.
    pub fn reset_group(&mut self, group: StreamHandle, code: u32) {
        if self.outgoing_groups.remove(group).is_some() {
            self.actions.push_back(SessionAction::Reset(group, code));
        }
    }

    /// Writes to a group and coalesces short writes.
    fn write_group(&mut self, group: StreamHandle, bytes: Bytes) {
        let Some(outgoing) = self.outgoing_groups.groups.get_mut(&group) else { return };
        outgoing.unsent_bytes += bytes.len();
        self.outgoing_groups.cost += bytes.len();
        match self.actions.back_mut() {
            Some(SessionAction::Write(last, before))
                if *last == group && before.len() + bytes.len() <= MAX_COALESCED_BYTES =>
            {
                let mut joined = BytesMut::from(std::mem::take(before));
                joined.extend_from_slice(&bytes);
                *before = joined.freeze();
            }
            _ => self.actions.push_back(SessionAction::Write(group, bytes)),
        }
        while let Some(oldest) =
            self.outgoing_groups.oldest_over_limit(self.limits.max_unsent_group_bytes, self.limits.max_outgoing_groups)
        {
            self.counters.groups_dropped_slow_reader += 1;
            debug!(
                target: "moqt",
                stream = ?oldest,
                queued_bytes = self.outgoing_groups.cost,
                reason = "slow reader",
                "oldest group dropped"
            );
            self.reset_group(oldest, error_code::GROUP_EXPIRED);
            self.events.push_back(SessionEvent::GroupDropped { group_stream: oldest });
        }
    }

    /// The ID of an accepted subscription, if its range contains this group.
    fn subscribe_id_wanting(&self, subscriber: StreamHandle, sequence: u64) -> Option<u64> {
        let state = self.streams.get(&subscriber).filter(|state| state.dir == StreamDir::Bi)?;
        let StreamRole::IncomingSubscribe(Some(subscription)) = &state.role else { return None };
        (subscription.accepted && subscription.subscribe.range.contains(sequence)).then_some(subscription.subscribe.id)
    }

    pub(super) fn on_group_item(&mut self, stream: StreamHandle, item: GroupItem) {
        match item {
            // A subscribe ID is registered when SUBSCRIBE is written, so no valid group can arrive before the registration.
            GroupItem::Header(group) if self.subscriptions.contains(group.subscribe_id) => {
                if let Some(StreamState { role: StreamRole::IncomingGroup { has_subscription, .. }, .. }) =
                    self.streams.get_mut(&stream)
                {
                    *has_subscription = true;
                }
                self.counters.groups_received += 1;
                let (subscribe_id, sequence) = (group.subscribe_id, group.sequence);
                self.events.push_back(SessionEvent::GroupStarted { group_stream: stream, subscribe_id, sequence });
            }
            GroupItem::Header(_) => {
                self.counters.groups_rejected += 1;
                self.remove_stream(stream);
                self.actions.push_back(SessionAction::StopSending(stream, error_code::INVALID_SUBSCRIBE_ID));
            }
            GroupItem::Frame(payload) => {
                self.counters.frames_received += 1;
                self.counters.received_bytes += payload.len() as u64;
                self.events.push_back(SessionEvent::FrameReceived { group_stream: stream, payload });
            }
        }
    }

    /// The group finished, or was aborted with a code.
    pub(super) fn on_group_ended(&mut self, group_stream: StreamHandle, code: Option<u32>) {
        self.counters.groups_aborted += u64::from(code.is_some());
        self.events.push_back(match code {
            None => SessionEvent::GroupEnded { group_stream },
            Some(code) => SessionEvent::GroupAborted { group_stream, code },
        });
    }
}
