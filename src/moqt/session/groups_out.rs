//! Groups that go out. What the transport has not taken of them is bounded: for a slow reader the oldest group is dropped
//! whole, so that what it does get is new.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::super::code;
use super::super::message::{Body, Flavour, GROUP_TYPE, Group};
use super::super::varint;
use super::Session;
use super::action::{Action, Event, Kind, Stream};

/// The most bytes of frames and their lengths that are copied together rather than written one after the other.
const COPIED: usize = 1 << 10;

/// Bytes that a frame is charged beside its own while it waits: its length is kept, to count it once it is taken.
const FRAME_OVERHEAD: usize = 8;

/// Lengths of frames for which there is room in any case. Beyond it there is room for no more than four times those that wait.
const KEPT: usize = 64;

/// A group of which the transport has not taken all, or of which there is more to come.
#[derive(Debug)]
pub(super) struct Out {
    subscriber: Stream,
    /// Bytes that the transport has not taken.
    unsent: usize,
    /// The lengths of the frames that it has not taken whole.
    frames: VecDeque<u32>,
    /// Bytes that it has taken of the first of these; below 0 as long as some of what comes before all frames is missing.
    begun: isize,
    finished: bool,
}

impl Out {
    fn charge(&self) -> usize {
        self.unsent + FRAME_OVERHEAD * self.frames.len()
    }

    /// The transport has taken `bytes` more. Returns how many frames are whole by that, and their bytes.
    fn taken(&mut self, bytes: usize) -> (u64, u64) {
        self.unsent -= bytes;
        self.begun += bytes as isize;
        let mut whole = (0, 0);
        while let Some(frame) = self.frames.front().map(|frame| u64::from(*frame)) {
            let size = (varint::size(frame) as u64 + frame) as isize;
            if self.begun < size {
                break;
            }
            self.begun -= size;
            self.frames.pop_front();
            whole = (whole.0 + 1, whole.1 + frame);
        }
        if self.frames.capacity() > KEPT.max(4 * self.frames.len()) {
            self.frames.shrink_to_fit();
        }
        whole
    }
}

/// All of them. Our streams are numbered in the order in which they were opened, so the first is the oldest.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    groups: BTreeMap<Stream, Out>,
    /// What all of them are charged.
    charged: usize,
}

impl Outbox {
    pub(super) fn remove(&mut self, group: Stream) -> Option<Out> {
        let out = self.groups.remove(&group)?;
        self.charged -= out.charge();
        Some(out)
    }

    /// The transport has taken `bytes` more of a group. Returns how many frames are whole by that, and their bytes.
    pub(super) fn taken(&mut self, group: Stream, bytes: usize) -> (u64, u64) {
        let Some(out) = self.groups.get_mut(&group) else { return (0, 0) };
        self.charged -= out.charge();
        let whole = out.taken(bytes.min(out.unsent));
        self.charged += out.charge();
        if out.unsent == 0 && out.finished {
            self.groups.remove(&group);
        }
        whole
    }

    /// The groups of one subscription.
    pub(super) fn of(&self, subscriber: Stream) -> Vec<Stream> {
        self.groups.iter().filter(|(_, out)| out.subscriber == subscriber).map(|(group, _)| *group).collect()
    }

    /// The oldest of those of which something waits, or of all if there are too many.
    fn surplus(&self, bytes: usize, groups: usize) -> Option<Stream> {
        if self.charged > bytes {
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
        // GROUP is the same in both flavours.
        let header = [vec![GROUP_TYPE], Group { subscription, sequence }.framed(Flavour::Seed)].concat();
        let (frames, begun) = (VecDeque::new(), -(header.len() as isize));
        self.outbox.groups.insert(group, Out { subscriber, unsent: 0, frames, begun, finished: false });
        self.counts.groups_sent += 1;
        self.put(group, header.into());
        Some(group)
    }

    /// Sends a frame of a group, as it is. Of a group that was dropped nothing is sent.
    pub fn send_frame(&mut self, group: Stream, payload: Bytes) {
        let Some(out) = self.outbox.groups.get_mut(&group) else { return };
        out.frames.push_back(payload.len() as u32);
        self.outbox.charged += FRAME_OVERHEAD;
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
            let _ = self.outbox.taken(group, 0);
        }
    }

    /// Breaks a group off.
    pub fn reset_group(&mut self, group: Stream, code: u32) {
        if self.outbox.remove(group).is_some() {
            self.actions.push_back(Action::Reset(group, code));
        }
    }

    /// Writes to a group: short bytes together with short ones before them.
    fn put(&mut self, group: Stream, bytes: Bytes) {
        let Some(out) = self.outbox.groups.get_mut(&group) else { return };
        out.unsent += bytes.len();
        self.outbox.charged += bytes.len();
        match self.actions.back_mut() {
            Some(Action::Write(last, before)) if *last == group && before.len() + bytes.len() <= COPIED => {
                let mut both = BytesMut::from(std::mem::take(before));
                both.extend_from_slice(&bytes);
                *before = both.freeze();
            }
            _ => self.actions.push_back(Action::Write(group, bytes)),
        }
        while let Some(oldest) = self.outbox.surplus(self.limits.unsent_bytes, self.limits.unsent_groups) {
            self.counts.groups_dropped += 1;
            tracing::debug!(group = ?oldest, waiting = self.outbox.charged, "a slow reader: the oldest group is dropped");
            self.reset_group(oldest, code::EXPIRED);
            self.events.push_back(Event::GroupDropped { group: oldest });
        }
    }
}
