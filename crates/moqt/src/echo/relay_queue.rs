//! The groups that wait for their due time or for a subscriber, and their relay to the subscribers.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error_code;
use crate::{Session, StreamHandle};
use jamjam_core::time::Time;

/// Bytes that are counted towards [`MoqtEchoConfig::max_buffered_bytes`](super::MoqtEchoConfig::max_buffered_bytes) for each frame, in addition to its payload.
const FRAME_OVERHEAD: usize = 64;
/// Bytes that are counted towards the same limit for each waiting group, in addition to its frames, so that the limit also bounds the number
/// of groups, all of which the echo often scans.
const GROUP_OVERHEAD: usize = 1 << 10;

/// Maximum number of items that one turn relays: frames and ends of groups, each to all subscribers of the track. One turn must not receive
/// more, or the queue would grow.
const MAX_ITEMS_PER_TURN: usize = 64;

/// An item of a group, to be relayed when it is due.
#[derive(Debug)]
pub(super) enum RelayItem {
    /// A frame.
    Frame(Bytes),
    /// The group has ended.
    Fin,
    /// The group was reset.
    Reset(u32),
}

impl RelayItem {
    fn cost(&self) -> usize {
        FRAME_OVERHEAD + if let Self::Frame(payload) = self { payload.len() } else { 0 }
    }
}

/// Relays one group from its incoming stream to one outgoing stream per subscriber.
#[derive(Debug)]
struct GroupRelay {
    source: StreamHandle,
    /// The subscription that the group belongs to.
    subscribe_id: u64,
    sequence: u64,
    /// Outgoing streams; `None` until the relay starts.
    destinations: Option<Vec<StreamHandle>>,
    items: VecDeque<(Time, RelayItem)>,
    cost: usize,
}

impl GroupRelay {
    /// Whether the relay has not started, and the outgoing streams are not open yet.
    fn is_unstarted(&self) -> bool {
        self.destinations.is_none()
    }

    /// Whether the next item is due.
    fn is_due(&self, now: Time) -> bool {
        self.items.front().is_some_and(|(due, _)| *due <= now)
    }

    /// Relays at most `left` due items and subtracts their number from `left`. Returns whether the group is complete.
    fn relay_due(&mut self, now: Time, session: &mut Session, left: &mut usize) -> bool {
        let due = self.items.iter().take(*left).take_while(|(due, _)| *due <= now).count();
        *left -= due;
        // All items are written for one subscriber after the other, so that short writes can be coalesced.
        for group in self.destinations.iter().flatten() {
            for (_, item) in self.items.range(..due) {
                match item {
                    RelayItem::Frame(payload) => session.send_frame(*group, payload.clone()),
                    RelayItem::Fin => session.finish_group(*group),
                    RelayItem::Reset(code) => session.reset_group(*group, *code),
                }
            }
        }
        let mut is_complete = false;
        for (_, item) in self.items.drain(..due) {
            self.cost -= item.cost();
            is_complete = !matches!(item, RelayItem::Frame(_));
        }
        is_complete
    }
}

/// All groups in the echo, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RelayQueue {
    groups: VecDeque<GroupRelay>,
}

impl RelayQueue {
    /// Adds a group.
    pub(super) fn start_group(&mut self, source: StreamHandle, subscribe_id: u64, sequence: u64) {
        self.groups.push_back(GroupRelay {
            source,
            subscribe_id,
            sequence,
            destinations: None,
            items: VecDeque::new(),
            cost: GROUP_OVERHEAD,
        });
    }

    /// Adds an item to a group. Items of dropped groups are ignored.
    pub(super) fn push(&mut self, source: StreamHandle, due: Time, item: RelayItem) {
        let Some(relay) = self.groups.iter_mut().rev().find(|relay| relay.source == source) else { return };
        relay.cost += item.cost();
        relay.items.push_back((due, item));
    }

    /// Bytes charged for all queued groups.
    pub(super) fn cost(&self) -> usize {
        self.groups.iter().map(|relay| relay.cost).sum()
    }

    /// Relays the due items, at most [`MAX_ITEMS_PER_TURN`]. `subscribers` returns the streams on which the peer subscribed to the echo of the
    /// track to which we have subscribed with this ID. A group whose track has no subscriber stays in the queue. Returns whether due items
    /// remain.
    pub(super) fn relay_due<'a>(
        &mut self,
        now: Time,
        session: &mut Session,
        subscribers: impl Fn(u64) -> &'a [StreamHandle],
    ) -> bool {
        let (mut left, mut has_backlog) = (MAX_ITEMS_PER_TURN, false);
        self.groups.retain_mut(|relay| {
            let subscribers = subscribers(relay.subscribe_id);
            if relay.is_unstarted() && relay.is_due(now) && !subscribers.is_empty() && left > 0 {
                let sequence = relay.sequence;
                let open = |subscriber: &StreamHandle| session.open_group(*subscriber, sequence);
                let destinations: Vec<StreamHandle> = subscribers.iter().filter_map(open).collect();
                session.counters.groups_dropped_no_subscriber += u64::from(destinations.is_empty());
                relay.destinations = Some(destinations);
            }
            let is_complete = !relay.is_unstarted() && relay.relay_due(now, session, &mut left);
            has_backlog |= !is_complete && relay.is_due(now) && !(relay.is_unstarted() && subscribers.is_empty());
            !is_complete
        });
        has_backlog
    }

    /// Drops whole groups until at most `max_bytes` are counted for the others: first those without a subscriber, from the oldest on, and then
    /// the newest, so that the older ones are relayed on time.
    pub(super) fn drop_over_limit(
        &mut self,
        max_bytes: usize,
        session: &mut Session,
        has_subscribers: impl Fn(u64) -> bool,
    ) {
        while self.cost() > max_bytes {
            if self.drop_first(session, |relay| !has_subscribers(relay.subscribe_id)) {
                continue;
            }
            let Some(newest) = self.groups.pop_back() else { break };
            session.counters.groups_dropped_buffer_full += 1;
            for group in newest.destinations.into_iter().flatten() {
                session.reset_group(group, error_code::LIMIT_EXCEEDED);
            }
        }
    }

    /// Drops the oldest unstarted groups of a subscription, except for the last `max_groups`.
    pub(super) fn drop_unsubscribed(&mut self, subscription: u64, max_groups: usize, session: &mut Session) {
        let is_of = |relay: &GroupRelay| relay.subscribe_id == subscription;
        let count = self.groups.iter().filter(|relay| relay.is_unstarted() && is_of(relay)).count();
        for _ in max_groups..count {
            self.drop_first(session, is_of);
        }
    }

    /// Drops unstarted groups of subscriptions for which `has_ended` is true.
    pub(super) fn drop_orphaned(&mut self, session: &mut Session, has_ended: impl Fn(u64) -> bool) {
        while self.drop_first(session, |relay| has_ended(relay.subscribe_id)) {}
    }

    /// Drops the oldest unstarted group that matches. Returns whether there was one.
    fn drop_first(&mut self, session: &mut Session, matches: impl Fn(&GroupRelay) -> bool) -> bool {
        let first = self.groups.iter().position(|relay| relay.is_unstarted() && matches(relay));
        let is_dropped = first.and_then(|index| self.groups.remove(index)).is_some();
        session.counters.groups_dropped_no_subscriber += u64::from(is_dropped);
        is_dropped
    }

    /// Whether a group of the subscription is queued.
    pub(super) fn has_subscription(&self, subscription: u64) -> bool {
        self.groups.iter().any(|relay| relay.subscribe_id == subscription)
    }

    /// When the next item that can be relayed is due.
    pub(super) fn next_deadline(&self, has_subscribers: impl Fn(u64) -> bool) -> Option<Time> {
        let can_relay = |relay: &&GroupRelay| !relay.is_unstarted() || has_subscribers(relay.subscribe_id);
        self.groups.iter().filter(can_relay).filter_map(|relay| relay.items.front().map(|(due, _)| *due)).min()
    }
}
