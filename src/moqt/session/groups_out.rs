//! Groups that go out. What the transport has not taken of them is bounded: for a slow reader the oldest group is dropped
//! whole, so that what it does get is new.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::code;
use super::super::message::{Body, Flavour, GROUP_TYPE, Group};
use super::super::varint;
use super::Session;
use super::action::{Action, Event, Kind, Stream};

/// The longest payload in bytes that is copied behind its length rather than written after it.
const COPIED: usize = 1 << 10;

/// A group of which the transport has not taken all, or of which there is more to come.
#[derive(Debug)]
pub(super) struct Out {
    subscriber: Stream,
    unsent: usize,
    finished: bool,
}

/// All of them. Our streams are numbered in the order in which they were opened, so the first is the oldest.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    groups: BTreeMap<Stream, Out>,
    unsent: usize,
}

impl Outbox {
    pub(super) fn remove(&mut self, group: Stream) -> Option<Out> {
        let out = self.groups.remove(&group)?;
        self.unsent -= out.unsent;
        Some(out)
    }

    pub(super) fn taken(&mut self, group: Stream, bytes: usize) {
        let Some(out) = self.groups.get_mut(&group) else { return };
        let bytes = bytes.min(out.unsent);
        out.unsent -= bytes;
        self.unsent -= bytes;
        if out.unsent == 0 && out.finished {
            self.groups.remove(&group);
        }
    }

    /// The groups of one subscription.
    pub(super) fn of(&self, subscriber: Stream) -> Vec<Stream> {
        self.groups.iter().filter(|(_, out)| out.subscriber == subscriber).map(|(group, _)| *group).collect()
    }

    /// The oldest of those of which something waits, or of all if there are too many.
    fn surplus(&self, bytes: usize, groups: usize) -> Option<Stream> {
        if self.unsent > bytes {
            self.groups.iter().find(|(_, out)| out.unsent > 0).map(|(group, _)| *group)
        } else if self.groups.len() > groups {
            self.groups.keys().next().copied()
        } else {
            None
        }
    }
}

impl Session {
    /// Begins a group for a subscription that was agreed to. `None`: it does not want this one, or is no more.
    pub fn open_group(&mut self, subscriber: Stream, sequence: u64) -> Option<Stream> {
        let subscription = self.wanted_by(subscriber, sequence)?;
        let group = self.open(Kind::Uni);
        self.outbox.groups.insert(group, Out { subscriber, unsent: 0, finished: false });
        self.counts.groups_sent += 1;
        // GROUP is the same in both flavours.
        let header = Group { subscription, sequence }.framed(Flavour::Seed);
        self.put(group, [vec![GROUP_TYPE], header].concat().into());
        Some(group)
    }

    /// Sends a frame of a group, as it is. Of a group that was dropped nothing is sent.
    pub fn send_frame(&mut self, group: Stream, payload: Bytes) {
        if !self.outbox.groups.contains_key(&group) {
            return;
        }
        self.counts.frames_sent += 1;
        self.counts.bytes_sent += payload.len() as u64;
        let mut length = Vec::with_capacity(varint::LONGEST);
        varint::write(payload.len() as u64, &mut length);
        if payload.len() <= COPIED {
            length.extend_from_slice(&payload);
            self.put(group, length.into());
        } else {
            self.put(group, length.into());
            self.put(group, payload);
        }
    }

    /// Ends a group.
    pub fn finish_group(&mut self, group: Stream) {
        if let Some(out) = self.outbox.groups.get_mut(&group) {
            out.finished = true;
            self.actions.push_back(Action::Finish(group));
            self.outbox.taken(group, 0);
        }
    }

    /// Breaks a group off.
    pub fn reset_group(&mut self, group: Stream, code: u32) {
        if self.outbox.remove(group).is_some() {
            self.actions.push_back(Action::Reset(group, code));
        }
    }

    fn put(&mut self, group: Stream, bytes: Bytes) {
        let Some(out) = self.outbox.groups.get_mut(&group) else { return };
        out.unsent += bytes.len();
        self.outbox.unsent += bytes.len();
        self.actions.push_back(Action::Write(group, bytes));
        while let Some(oldest) = self.outbox.surplus(self.limits.unsent_bytes, self.limits.unsent_groups) {
            self.counts.groups_dropped += 1;
            tracing::debug!(group = ?oldest, unsent = self.outbox.unsent, "a slow reader: the oldest group is dropped");
            self.reset_group(oldest, code::EXPIRED);
            self.events.push_back(Event::GroupDropped { group: oldest });
        }
    }
}
