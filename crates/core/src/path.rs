//! The path of datagrams through an impaired network, after it is decided what happens to each ([`Impairer`](crate::impairment::Impairer)).
//!
//! The datagrams of one flow keep their order, whatever their class: a datagram whose delay would let it overtake the previous one leaves at
//! the same time as that one. Only a datagram that is reordered on purpose is overtaken: if no later datagram of its class and flow has left
//! when it is due, it is held until one of them leaves, or until the maximum time has passed. Then each datagram enters the queue of the
//! bandwidth limit.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::impairment::{Departure, ImpairmentDecision, MAX_REORDER_DELAY, PACKET_CLASSES, PacketClass, class_index};
use crate::time::Time;

/// Number of flows and datagrams above which empty tables return their memory.
const MAX_IDLE_CAPACITY: usize = 1_024;

/// A datagram on the path.
#[derive(Clone, Copy, Debug)]
pub struct Passing<F, T> {
    /// The flow.
    pub flow: F,
    /// What the caller keeps of the datagram.
    pub token: T,
    /// The class.
    pub class: PacketClass,
    /// When the datagram would leave without impairment.
    pub entered_at: Time,
    /// When the next copy leaves.
    pub due: Time,
    /// Number of copies sent.
    pub copies_sent: u8,
    /// Number of copies still to send.
    pub copies_left: u8,
    /// When the queue of the bandwidth limit released the first copy, once the datagram has entered it.
    pub departure: Option<Departure>,
    /// Increases with each datagram that enters.
    number: u64,
    /// When a reordered datagram leaves even if no later one has left.
    pub hold_until: Option<Time>,
}

/// The order of one flow.
#[derive(Default)]
struct Flow {
    /// When the last datagram leaves that is not reordered.
    last_due: Time,
    /// Number of datagrams on the path.
    count: u32,
    /// For each class, the highest number of those that have left.
    last_left: [u64; PACKET_CLASSES],
}

/// Datagrams that pass an impaired path, in the order of time. `F` names a flow. `T` is what the caller keeps of a datagram, for example where
/// its bytes are.
pub struct Path<F, T> {
    /// When each datagram leaves, and its number. Other entries than that of its due time are outdated.
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    /// All datagrams by number.
    passing: HashMap<u64, Passing<F, T>>,
    /// The reordered datagrams that are held until a later one leaves.
    held: BTreeSet<(F, PacketClass, u64)>,
    /// Entries exist while datagrams of the flow are on the path.
    flows: HashMap<F, Flow>,
    last_number: u64,
}

impl<F, T> Default for Path<F, T> {
    fn default() -> Self {
        let (queue, passing, held, flows) = (BinaryHeap::new(), HashMap::new(), BTreeSet::new(), HashMap::new());
        Self { queue, passing, held, flows, last_number: 0 }
    }
}

impl<F: Copy + Hash + Ord, T: Copy> Path<F, T> {
    /// A datagram that is not lost enters. Without impairment, it would leave at `at`.
    pub fn enter(&mut self, at: Time, flow: F, class: PacketClass, decision: &ImpairmentDecision, token: T) {
        self.last_number += 1;
        let order = self.flows.entry(flow).or_default();
        order.count += 1;
        let mut due = (at + decision.delay).max(order.last_due);
        let mut hold_until = None;
        if let Some(delay) = decision.reorder_delay {
            hold_until = Some(due + delay.max(MAX_REORDER_DELAY));
            due += delay;
        } else {
            order.last_due = due;
        }
        self.put_back(Passing {
            flow,
            token,
            class,
            entered_at: at,
            due,
            copies_sent: 0,
            copies_left: decision.copies,
            departure: None,
            number: self.last_number,
            hold_until,
        });
    }

    /// When to call [`Path::pop_due`] next, at the latest. `None` if nothing is on the path.
    pub fn next_due(&self) -> Option<Time> {
        self.queue.peek().filter(|_| !self.passing.is_empty()).map(|Reverse((due, _))| *due)
    }

    /// Number of datagrams on the path.
    pub fn count(&self) -> usize {
        self.passing.len()
    }

    /// The next datagram that leaves by `now`, which the caller passes to [`Path::on_left`] or [`Path::put_back`]. `bottleneck` enters it into
    /// the queue of the bandwidth limit. `Err` if that queue is full: then no copy leaves.
    pub fn pop_due(
        &mut self,
        now: Time,
        mut bottleneck: impl FnMut(&Passing<F, T>) -> Option<Departure>,
    ) -> Option<Result<Passing<F, T>, Passing<F, T>>> {
        loop {
            let Reverse((due, number)) = *self.queue.peek().filter(|Reverse((due, _))| *due <= now)?;
            self.queue.pop();
            if self.passing.get(&number).is_none_or(|passing| passing.due != due) {
                continue;
            }
            let mut passing = self.passing.remove(&number)?;
            let key @ (flow, class, _) = (passing.flow, passing.class, number);
            if let Some(until) = passing.hold_until
                && passing.due < until
                && self.flows.get(&flow).is_some_and(|order| order.last_left[class_index(class)] < number)
            {
                passing.due = until;
                self.held.insert(key);
                self.put_back(passing);
                continue;
            }
            if passing.departure.is_none() {
                self.held.remove(&key);
                passing.departure = bottleneck(&passing);
                let Some(departure) = passing.departure else {
                    self.finish(flow);
                    return Some(Err(passing));
                };
                if std::mem::replace(&mut passing.due, departure.at) < departure.at {
                    self.put_back(passing);
                    continue;
                }
            }
            return Some(Ok(passing));
        }
    }

    /// The datagram could not leave: it leaves at its due time.
    pub fn put_back(&mut self, passing: Passing<F, T>) {
        self.queue.push(Reverse((passing.due, passing.number)));
        self.passing.insert(passing.number, passing);
    }

    /// A copy has left, or could not be sent. Returns the datagram if that was its last copy.
    pub fn on_left(&mut self, mut passing: Passing<F, T>, is_sent: bool) -> Option<Passing<F, T>> {
        passing.copies_sent += u8::from(is_sent);
        passing.copies_left -= 1;
        if passing.copies_left > 0 {
            passing.due += passing.departure.map_or(Duration::ZERO, |departure| departure.copy_spacing);
            self.put_back(passing);
            return None;
        }
        let Passing { flow, class, number, due, .. } = passing;
        if let Some(order) = self.flows.get_mut(&flow).filter(|_| passing.copies_sent > 0) {
            let last_left = &mut order.last_left[class_index(class)];
            *last_left = number.max(*last_left);
            while let Some(key) = self.held.range((flow, class, 0)..(flow, class, number)).next().copied() {
                self.held.remove(&key);
                if let Some(overtaken) = self.passing.get_mut(&key.2) {
                    overtaken.due = due;
                    self.queue.push(Reverse((due, key.2)));
                }
            }
        }
        self.finish(flow);
        Some(passing)
    }

    /// All datagrams, in the order of time.
    pub fn into_rest(mut self) -> impl Iterator<Item = Passing<F, T>> {
        let in_order = self.queue.into_sorted_vec().into_iter().rev();
        in_order.filter_map(move |Reverse((_, number))| self.passing.remove(&number))
    }

    /// A datagram of the flow is no longer on the path.
    fn finish(&mut self, flow: F) {
        if let Some(order) = self.flows.get_mut(&flow) {
            order.count -= 1;
            if order.count == 0 {
                self.flows.remove(&flow);
            }
        }
        // Frees the memory of many flows.
        if self.flows.is_empty() && self.queue.capacity().max(self.flows.capacity()) > MAX_IDLE_CAPACITY {
            *self = Self { last_number: self.last_number, ..Self::default() };
        }
    }
}

#[cfg(test)]
impl<F, T> Path<F, T> {
    /// Maximum memory of a datagram in all tables. A hash table has one more byte per slot, and doubles its slots when 7 of 8 are in use:
    /// 16 slots for 7 entries. A vector doubles, and every node of a B-tree has room for 11 entries and contains at least 5 or 6. A datagram
    /// that was overtaken has two entries in the queue.
    pub(crate) fn max_bytes_per_datagram() -> usize {
        let tables = size_of::<(u64, Passing<F, T>)>() + 1 + size_of::<(F, Flow)>() + 1;
        let queue = 2 * size_of::<Reverse<(Time, u64)>>() * 2;
        tables * 16 / 7 + queue + size_of::<(F, PacketClass, u64)>() * 11 / 6
    }
}
