//! Groups on their way through the echo: frames wait until they are due, each group's in order, and in bounded memory.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::code;
use super::super::session::{Session, Stream};
use crate::time::Time;

/// Bytes that a frame is charged beside its own.
const FRAME_OVERHEAD: usize = 64;
/// Bytes that a group is charged: so many that those that wait are few enough to be gone through often.
const GROUP_OVERHEAD: usize = 1 << 10;

/// What comes next in a group.
#[derive(Debug)]
pub(super) enum Item {
    /// A frame.
    Frame(Bytes),
    /// Its end.
    End,
    /// It broke off.
    Broken(u32),
}

impl Item {
    fn charge(&self) -> usize {
        FRAME_OVERHEAD + if let Self::Frame(payload) = self { payload.len() } else { 0 }
    }
}

/// One group, from the stream on which it comes to those on which it goes.
#[derive(Debug)]
pub(super) struct Relay {
    from: Stream,
    /// The subscription that it comes by.
    pub(super) subscription: u64,
    sequence: u64,
    /// Where it goes, once it has begun to.
    to: Option<Vec<Stream>>,
    items: VecDeque<(Time, Item)>,
    charged: usize,
}

impl Relay {
    /// Whether it has not begun to go anywhere.
    pub(super) fn waits(&self) -> bool {
        self.to.is_none()
    }

    /// Hands on what is due. Returns whether that was the last of it.
    fn pump(&mut self, now: Time, session: &mut Session, subscribers: &[Stream]) -> bool {
        while self.items.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, item)) = self.items.pop_front() else { break };
            self.charged -= item.charge();
            let sequence = self.sequence;
            let to = self.to.get_or_insert_with(|| {
                subscribers.iter().filter_map(|subscriber| session.open_group(*subscriber, sequence)).collect()
            });
            for group in to {
                match &item {
                    Item::Frame(payload) => session.send_frame(*group, payload.clone()),
                    Item::End => session.finish_group(*group),
                    Item::Broken(code) => session.reset_group(*group, *code),
                }
            }
            if !matches!(item, Item::Frame(_)) {
                return true;
            }
        }
        false
    }
}

/// All groups on their way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Line {
    relays: VecDeque<Relay>,
    charged: usize,
}

impl Line {
    /// A group begins to come.
    pub(super) fn begin(&mut self, from: Stream, subscription: u64, sequence: u64) {
        let relay = Relay { from, subscription, sequence, to: None, items: VecDeque::new(), charged: GROUP_OVERHEAD };
        self.charged += GROUP_OVERHEAD;
        self.relays.push_back(relay);
    }

    /// More of a group has come. Of one that was dropped nothing is kept.
    pub(super) fn push(&mut self, from: Stream, due: Time, item: Item) {
        let Some(relay) = self.relays.iter_mut().rev().find(|relay| relay.from == from) else { return };
        let charge = item.charge();
        relay.charged += charge;
        self.charged += charge;
        relay.items.push_back((due, item));
    }

    /// Hands on what is due to the subscribers that `subscribers` names for each subscription. What nobody has subscribed to
    /// waits.
    pub(super) fn pump<'a>(&mut self, now: Time, session: &mut Session, subscribers: impl Fn(u64) -> &'a [Stream]) {
        let mut charged = 0;
        self.relays.retain_mut(|relay| {
            let subscribers = subscribers(relay.subscription);
            let is_over = (!relay.waits() || !subscribers.is_empty()) && relay.pump(now, session, subscribers);
            charged += if is_over { 0 } else { relay.charged };
            !is_over
        });
        self.charged = charged;
    }

    /// Drops the oldest groups whole until what waits takes `most` bytes at most. Returns how many those were.
    pub(super) fn shed(&mut self, most: usize, session: &mut Session) -> u64 {
        let mut dropped = 0;
        while self.charged > most && self.drop_first(session, |_| true) {
            dropped += 1;
        }
        dropped
    }

    /// Of the groups of a subscription that have not begun to go anywhere, drops the oldest but `most`.
    pub(super) fn shed_waiting(&mut self, subscription: u64, most: usize, session: &mut Session) -> u64 {
        let is_one = |relay: &Relay| relay.waits() && relay.subscription == subscription;
        let surplus = self.relays.iter().filter(|relay| is_one(relay)).count().saturating_sub(most);
        (0..surplus).map(|_| u64::from(self.drop_first(session, is_one))).sum()
    }

    /// Drops the groups that have not begun to go anywhere and never will: their subscription `is_over`.
    pub(super) fn shed_orphans(&mut self, session: &mut Session, is_over: impl Fn(u64) -> bool) -> u64 {
        let mut dropped = 0;
        while self.drop_first(session, |relay| relay.waits() && is_over(relay.subscription)) {
            dropped += 1;
        }
        dropped
    }

    fn drop_first(&mut self, session: &mut Session, which: impl Fn(&Relay) -> bool) -> bool {
        let Some(at) = self.relays.iter().position(which) else { return false };
        let Some(relay) = self.relays.remove(at) else { return false };
        self.charged -= relay.charged;
        for group in relay.to.into_iter().flatten() {
            session.reset_group(group, code::EXPIRED);
        }
        true
    }

    /// Whether anything of a subscription is on its way.
    pub(super) fn has(&self, subscription: u64) -> bool {
        self.relays.iter().any(|relay| relay.subscription == subscription)
    }

    /// When something that can go is due.
    pub(super) fn deadline(&self, has_subscribers: impl Fn(u64) -> bool) -> Option<Time> {
        let can_go = |relay: &&Relay| !relay.waits() || has_subscribers(relay.subscription);
        self.relays.iter().filter(can_go).filter_map(|relay| relay.items.front().map(|(due, _)| *due)).min()
    }
}
