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
/// Frames and ends of groups that are handed on in one turn, to each subscriber: no fewer than come in one, or they would pile up.
const AT_ONCE: usize = 64;

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

    /// Whether the next of it is due.
    fn is_due(&self, now: Time) -> bool {
        self.items.front().is_some_and(|(due, _)| *due <= now)
    }

    /// Hands on what is due of it, but no more than `left`, which it lessens. Returns whether that was the last of it.
    fn pump(&mut self, now: Time, session: &mut Session, left: &mut usize) -> bool {
        let due = self.items.iter().take(*left).take_while(|(due, _)| *due <= now).count();
        *left -= due;
        // All of it to one before any of it to the next: what is short can be written together.
        for group in self.to.iter().flatten() {
            for (_, item) in self.items.range(..due) {
                match item {
                    Item::Frame(payload) => session.send_frame(*group, payload.clone()),
                    Item::End => session.finish_group(*group),
                    Item::Broken(code) => session.reset_group(*group, *code),
                }
            }
        }
        let mut is_over = false;
        for (_, item) in self.items.drain(..due) {
            self.charged -= item.charge();
            is_over = !matches!(item, Item::Frame(_));
        }
        is_over
    }
}

/// What has become of what was due.
#[derive(Debug, Default)]
pub(super) struct Pumped {
    /// Groups that none of those who had subscribed wanted.
    pub(super) unwanted: u64,
    /// Whether there is more than is handed on in one turn.
    pub(super) behind: bool,
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

    /// Bytes that all that waits is charged.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    /// Hands on what is due, as much as one turn may, to the subscribers that `subscribers` names for each subscription. What nobody
    /// has subscribed to waits.
    pub(super) fn pump<'a>(
        &mut self,
        now: Time,
        session: &mut Session,
        subscribers: impl Fn(u64) -> &'a [Stream],
    ) -> Pumped {
        let (mut charged, mut left, mut pumped) = (0, AT_ONCE, Pumped::default());
        self.relays.retain_mut(|relay| {
            let subscribers = subscribers(relay.subscription);
            if relay.waits() && relay.is_due(now) && !subscribers.is_empty() && left > 0 {
                let sequence = relay.sequence;
                let open = |subscriber: &Stream| session.open_group(*subscriber, sequence);
                let to: Vec<Stream> = subscribers.iter().filter_map(open).collect();
                pumped.unwanted += u64::from(to.is_empty());
                relay.to = Some(to);
            }
            let is_over = !relay.waits() && relay.pump(now, session, &mut left);
            if !is_over {
                charged += relay.charged;
                pumped.behind |= relay.is_due(now) && !(relay.waits() && subscribers.is_empty());
            }
            !is_over
        });
        self.charged = charged;
        pumped
    }

    /// Drops groups whole until what waits takes `most` bytes at most: first those that nobody has subscribed to, the oldest first, for
    /// they may wait in vain; then the newest, so that what there is room for leaves when it is due. Returns how many of the newest, and
    /// how many of the others.
    pub(super) fn shed(
        &mut self,
        most: usize,
        session: &mut Session,
        has_subscribers: impl Fn(u64) -> bool,
    ) -> (u64, u64) {
        let (mut no_room, mut no_reader) = (0, 0);
        while self.charged > most {
            let in_vain = self.relays.iter().position(|relay| relay.waits() && !has_subscribers(relay.subscription));
            let Some(at) = in_vain.or(self.relays.len().checked_sub(1)) else { break };
            self.drop_one(at, session);
            *(if in_vain.is_some() { &mut no_reader } else { &mut no_room }) += 1;
        }
        (no_room, no_reader)
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
        let first = self.relays.iter().position(which);
        first.inspect(|at| self.drop_one(*at, session)).is_some()
    }

    fn drop_one(&mut self, at: usize, session: &mut Session) {
        let Some(relay) = self.relays.remove(at) else { return };
        self.charged -= relay.charged;
        for group in relay.to.into_iter().flatten() {
            session.reset_group(group, code::TOO_MUCH);
        }
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
