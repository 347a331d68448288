//! The delay line: datagrams wait here, first in first out, until they are due.
//!
//! A waiting packet costs its own bytes and [`RECORD`] more. Neighbours of one client that are due together lie side
//! by side and leave as one segmented send, without a copy.

use super::budget::{Budget, Limits, PACKET_COST, Refused};
use super::byte_fifo::ByteFifo;
use super::route::{ROUTE_LEN, Route};
use crate::node::Transmit;
use crate::time::Time;

/// Bytes of bookkeeping beside each entry: due time, length, stride, route.
const RECORD: usize = 8 + 4 + 2 + ROUTE_LEN;

/// One or more datagrams of one client, `stride` bytes each (the last may be shorter), due together.
#[derive(Clone, Copy)]
struct Entry {
    due: Time,
    len: usize,
    stride: usize,
    route: Route,
}

impl Entry {
    fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.due.as_nanos().to_le_bytes());
        bytes[8..12].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[12..14].copy_from_slice(&(self.stride as u16).to_le_bytes());
        bytes[14..].copy_from_slice(&self.route.to_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD]) -> Self {
        let [d0, d1, d2, d3, d4, d5, d6, d7, l0, l1, l2, l3, s0, s1, route @ ..] = bytes;
        Self {
            due: Time::from_nanos(u64::from_le_bytes([*d0, *d1, *d2, *d3, *d4, *d5, *d6, *d7])),
            len: u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize,
            stride: usize::from(u16::from_le_bytes([*s0, *s1])),
            route: Route::from_bytes(route),
        }
    }

    /// Datagrams in the first `len` bytes.
    fn count(&self, len: usize) -> usize {
        len.div_ceil(self.stride.max(1)).max(1)
    }
}

/// Chunk length of the packets' bytes: at most one packet in 128 KiB straddles a boundary and is copied.
const BYTES: usize = 128 * 1024;

/// Chunk length of the entries: an idle line should hold little.
const ENTRIES: usize = 32 * 1024;

/// What became of the datagrams that [`DelayLine::push`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    /// How many wait now: the first ones.
    pub(super) admitted: usize,
    /// How many of the last ones may not, and why.
    pub(super) refused: Option<(Refused, usize)>,
}

/// The line itself.
pub(super) struct DelayLine {
    budget: Budget,
    entries: ByteFifo<ENTRIES>,
    bytes: ByteFifo<BYTES>,
    packets: usize,
    /// The oldest entry, less what has left of it.
    head: Option<Entry>,
    newest_due: Time,
}

impl DelayLine {
    /// An empty line that keeps to `limits`.
    pub(super) fn new(limits: Limits) -> Self {
        let (entries, bytes) = (ByteFifo::default(), ByteFifo::default());
        Self {
            budget: Budget::new(limits, PACKET_COST),
            entries,
            bytes,
            packets: 0,
            head: None,
            newest_due: Time::ZERO,
        }
    }

    /// Memory charged for what waits, in bytes.
    pub(super) fn charged(&self) -> u64 {
        self.budget.held()
    }

    /// Datagrams waiting.
    pub(super) fn packets(&self) -> usize {
        self.packets
    }

    /// When the oldest is due.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.head.map(|entry| entry.due)
    }

    /// Appends one or more datagrams of one client, none of them empty, as far as the limits allow. A `due` before that of
    /// the last entry is raised to it: stamps of two receive queues may cross, the order of arrival may not.
    pub(super) fn push(&mut self, due: Time, route: Route, bytes: &[u8], stride: usize) -> Pushed {
        let given = bytes.len().div_ceil(stride);
        let (len, refused) = self.budget.admit(route.peer, bytes.len(), stride);
        let admitted = len.div_ceil(stride);
        let pushed = Pushed { admitted, refused: refused.map(|reason| (reason, given - admitted)) };
        if len == 0 {
            return pushed;
        }
        if self.bytes.reserve(len).and_then(|()| self.entries.reserve(RECORD)).is_err() {
            self.budget.give_back(route.peer, len, admitted);
            return Pushed { admitted: 0, refused: Some((Refused::Memory, given)) };
        }
        let due = if self.head.is_some() { due.max(self.newest_due) } else { due };
        let entry = Entry { due, len, stride, route };
        self.bytes.push(&bytes[..len]);
        match self.head {
            None => self.head = Some(entry),
            Some(_) => self.entries.push(&entry.to_bytes()),
        }
        self.newest_due = due;
        self.packets += admitted;
        pushed
    }

    /// What leaves first of all that is due at `now`: neighbours of one client and one length as a single transmit
    /// of at most `segments(length)` datagrams.
    pub(super) fn head(&mut self, now: Time, segments: impl Fn(usize) -> usize) -> Option<Transmit<'_>> {
        let head = self.head.filter(|entry| entry.due <= now)?;
        let most = segments(head.stride).max(1) * head.stride;
        let side_by_side = self.bytes.contiguous();
        let (mut len, mut offset) = (head.len, 0);
        while len < most.min(side_by_side) && len % head.stride == 0 && offset < self.entries.len() {
            let next = self.entry_at(offset);
            // A single shorter datagram may be the last; a train of shorter ones would be cut in other places.
            let fits = next.stride == head.stride || (next.len < head.stride && next.count(next.len) == 1);
            if next.due > now || next.route != head.route || !fits {
                break;
            }
            len += next.len;
            offset += RECORD;
        }
        len = len.min(most);
        if len > side_by_side {
            // Whole datagrams up to the boundary; one that straddles it goes alone, gathered by the store.
            len = (side_by_side / head.stride * head.stride).max(head.stride.min(head.len));
        }
        let Route { peer, local } = head.route;
        Some(Transmit { to: peer, from: local, bytes: self.bytes.front(len), stride: head.stride })
    }

    /// Forgets the oldest `len` bytes: what [`DelayLine::head`] lent.
    pub(super) fn drop_head(&mut self, len: usize) {
        self.bytes.pop(len);
        let mut left = len;
        while let Some(entry) = self.head.as_mut().filter(|_| left > 0) {
            let part = entry.len.min(left);
            let packets = entry.count(part);
            self.budget.give_back(entry.route.peer, part, packets);
            self.packets -= packets;
            left -= part;
            entry.len -= part;
            if entry.len == 0 {
                self.head = (self.entries.len() > 0).then(|| self.entry_at(0));
                self.entries.pop(RECORD.min(self.entries.len()));
            }
        }
    }

    fn entry_at(&self, offset: usize) -> Entry {
        let mut bytes = [0; RECORD];
        self.entries.copy_out(offset, &mut bytes);
        Entry::from_bytes(&bytes)
    }
}
