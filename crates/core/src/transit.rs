//! Datagrams on their way through an impaired network, after it is decided what happens to each ([`Impairer`](crate::impairment::Impairer)).
//!
//! The datagrams of one flow keep their order, whatever their class: a datagram whose delay would let it overtake the previous one leaves at
//! the same time as that one. Only a datagram that is reordered on purpose is overtaken: if no later datagram of its class and flow has left
//! when it is due, it is held until one of them leaves, or until the maximum time has passed. Then each datagram enters the queue of the
//! bandwidth limit.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::hash::Hash;
use std::mem;
use std::time::Duration;

use crate::datagram_store::DatagramStore;
use crate::impairment::{Departure, ImpairmentDecision, MAX_REORDER_DELAY, PACKET_CLASSES, PacketClass, class_index};
use crate::node::{BLOCKED_RETRY, MAX_SENDS_PER_POLL, SendStatus, TransmitSink};
use crate::outcome::{Outcome, OutcomeEvent};
use crate::time::Time;

/// Memory of a relay. No datagram enters while those in transit use as much: [`Transit::PRICE`] each, and the store of their bytes.
pub const RELAY_MEMORY: usize = 256 << 20;

/// Number of flows and datagrams above which empty tables return their memory.
const MAX_IDLE_CAPACITY: usize = 1_024;

/// A datagram in transit. `F` names its flow, and `T` is what else its owner keeps of it.
#[derive(Clone, Copy, Debug)]
pub struct InTransit<F, T = ()> {
    /// The flow.
    pub flow: F,
    /// What the owner keeps.
    pub kept: T,
    /// The class.
    pub class: PacketClass,
    /// The sequence number in its header, or 0.
    pub sequence: u32,
    /// When the next copy leaves.
    pub due: Time,
    /// Number of copies still to send.
    pub copies_left: u8,
    copies_sent: u8,
    len: u32,
    /// Position in the store; 0 if the datagram is empty.
    position: u64,
    /// When it would leave without impairment.
    entered_at: Time,
    /// When the queue of the bandwidth limit released the first copy, once the datagram has entered it.
    departure: Option<Departure>,
    /// Increases with each datagram that enters.
    number: u64,
    /// When a reordered datagram leaves even if no later one has left.
    hold_until: Option<Time>,
}

impl<F, T> InTransit<F, T> {
    /// The length, and the number of copies still to send.
    pub(crate) fn size(&self) -> (usize, u8) {
        (self.len as usize, self.copies_left)
    }
}

/// What has become of a datagram, or of one of its copies, that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was sent, or never will be.
    Left(Outcome),
    /// It leaves at this time.
    Later(Time),
    /// The system does not accept it now: [`SendStatus::WouldBlock`] or [`SendStatus::GsoUnsupported`].
    Refused(SendStatus),
}

impl From<SendStatus> for Exit {
    fn from(status: SendStatus) -> Self {
        match status {
            SendStatus::Sent => Self::Left(Outcome::Sent),
            SendStatus::Failed => Self::Left(Outcome::SendFailed),
            SendStatus::WouldBlock | SendStatus::GsoUnsupported => Self::Refused(status),
        }
    }
}

/// The owner of datagrams in transit, who decides where they leave.
pub trait Exits<F, T = ()> {
    /// Passes a datagram through the queue of the bandwidth limit, if there is one. `None` if that queue is full.
    fn bottleneck(&mut self, one: &InTransit<F, T>) -> Option<Departure>;

    /// Sends a copy of a datagram at `now`. Changes of `bytes` last, so that a further attempt or copy finds them.
    fn exit(&mut self, now: Time, one: &mut InTransit<F, T>, bytes: &mut [u8], sink: &mut dyn TransmitSink) -> Exit;

    /// A datagram is no longer in transit.
    fn on_outcome(&mut self, kept: T, event: OutcomeEvent<F>);
}

/// The order of one flow.
#[derive(Default)]
struct Order {
    /// When the last datagram leaves that is not reordered.
    last_due: Time,
    /// Number of datagrams in transit.
    count: u32,
    /// For each class, the highest number of those that have left.
    last_left: [u64; PACKET_CLASSES],
}

/// The datagrams of all flows, with their bytes.
pub struct Transit<F, T = ()> {
    /// When each datagram leaves, and its number. Other entries than that of its due time are outdated.
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    /// All datagrams by number.
    datagrams: HashMap<u64, InTransit<F, T>>,
    /// The reordered datagrams that are held until a later one leaves.
    held: BTreeSet<(F, PacketClass, u64)>,
    /// Entries exist while datagrams of the flow are in transit.
    flows: HashMap<F, Order>,
    last_number: u64,
    store: DatagramStore,
    max_bytes: usize,
    /// A socket was blocked: the next attempt is at this time, unless the driver knows better.
    retry_at: Time,
}

impl<F: Copy + Hash + Ord, T: Copy> Transit<F, T> {
    /// Maximum memory of a datagram in all tables, besides its bytes. A hash table has one more byte per slot, and doubles its slots when 7 of 8
    /// are in use: 16 slots for 7 entries. A vector doubles, and every node of a B-tree has room for 11 entries and contains at least 5 or 6. A
    /// datagram that was overtaken has two entries in the queue.
    pub const PRICE: usize = {
        let tables = size_of::<(u64, InTransit<F, T>)>() + 1 + size_of::<(F, Order)>() + 1;
        let queue = 2 * size_of::<Reverse<(Time, u64)>>() * 2;
        tables * 16 / 7 + queue + size_of::<(F, PacketClass, u64)>() * 11 / 6
    };

    /// Nothing is in transit. What would exceed `max_bytes` of memory does not enter.
    pub fn new(max_bytes: usize) -> Self {
        let (queue, datagrams, flows, last_number, store, retry_at) = <_>::default();
        Self { queue, datagrams, held: BTreeSet::new(), flows, last_number, store, max_bytes, retry_at }
    }

    /// A datagram enters, which would leave at `at` without impairment. An error is its outcome if it does not.
    pub fn enter(
        &mut self,
        at: Time,
        (flow, kept): (F, T),
        (class, sequence): (PacketClass, u32),
        decision: &ImpairmentDecision,
        bytes: &[u8],
    ) -> Result<(), Outcome> {
        if let Some(cause) = decision.loss {
            return Err(Outcome::Lost(cause));
        }
        if self.store.used() + self.datagrams.len() * Self::PRICE >= self.max_bytes {
            return Err(Outcome::Dropped);
        }
        let stored = if bytes.is_empty() { Ok((0, 0)) } else { self.store.push(bytes, bytes.len()) };
        let (position, len) = stored.map_err(|_| Outcome::Dropped)?;
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
        self.put_back(InTransit {
            flow,
            kept,
            class,
            sequence,
            due,
            copies_left: decision.copies,
            copies_sent: 0,
            len: len as u32,
            position,
            entered_at: at,
            departure: None,
            number: self.last_number,
            hold_until,
        });
        Ok(())
    }

    /// Lets what is due leave.
    pub fn send_due(&mut self, now: Time, sink: &mut dyn TransmitSink, exits: &mut impl Exits<F, T>) {
        for _ in 0..MAX_SENDS_PER_POLL {
            if let None | Some(Exit::Refused(_)) = self.send_next(now, now, sink, exits) {
                break;
            }
        }
    }

    /// Lets the next copy leave that is due by `until`, at `now`. `None` if there is none.
    pub(crate) fn send_next(
        &mut self,
        until: Time,
        now: Time,
        sink: &mut dyn TransmitSink,
        exits: &mut impl Exits<F, T>,
    ) -> Option<Exit> {
        let mut one = self.pop_due(until, exits)?;
        let bytes = if one.len == 0 { &mut [][..] } else { self.store.get_mut(one.position, one.len as usize) };
        let exit = exits.exit(now, &mut one, bytes, sink);
        self.retry_at = if let Exit::Refused(_) = exit { now + BLOCKED_RETRY } else { Time::ZERO };
        match exit {
            Exit::Left(outcome) => self.on_left(one, outcome, exits),
            Exit::Later(due) => self.put_back(InTransit { due, ..one }),
            Exit::Refused(_) => self.put_back(one),
        }
        Some(exit)
    }

    /// When to call [`Transit::send_due`] next. `None` if nothing is in transit.
    pub fn next_deadline(&self) -> Option<Time> {
        self.queue.peek().filter(|_| !self.datagrams.is_empty()).map(|Reverse((due, _))| self.retry_at.max(*due))
    }

    /// Drops all datagrams, in the order of time.
    pub fn drop_all(&mut self, exits: &mut impl Exits<F, T>) {
        for Reverse((_, number)) in mem::take(&mut self.queue).into_sorted_vec().into_iter().rev() {
            if let Some(one) = self.datagrams.remove(&number) {
                self.finish(&one, Outcome::DroppedAtStop, exits);
            }
        }
    }

    /// The next datagram that leaves by `now`.
    fn pop_due(&mut self, now: Time, exits: &mut impl Exits<F, T>) -> Option<InTransit<F, T>> {
        loop {
            let Reverse((due, number)) = *self.queue.peek().filter(|Reverse((due, _))| *due <= now)?;
            self.queue.pop();
            if self.datagrams.get(&number).is_none_or(|one| one.due != due) {
                continue;
            }
            let mut one = self.datagrams.remove(&number)?;
            let key @ (flow, class, _) = (one.flow, one.class, number);
            if let Some(until) = one.hold_until
                && one.due < until
                && self.flows.get(&flow).is_some_and(|order| order.last_left[class_index(class)] < number)
            {
                self.held.insert(key);
                self.put_back(InTransit { due: until, ..one });
                continue;
            }
            if one.departure.is_none() {
                self.held.remove(&key);
                one.departure = exits.bottleneck(&one);
                let Some(departure) = one.departure else {
                    self.finish(&one, Outcome::BottleneckFull, exits);
                    continue;
                };
                if mem::replace(&mut one.due, departure.at) < departure.at {
                    self.put_back(one);
                    continue;
                }
            }
            return Some(one);
        }
    }

    /// The datagram leaves at its due time.
    fn put_back(&mut self, one: InTransit<F, T>) {
        self.queue.push(Reverse((one.due, one.number)));
        self.datagrams.insert(one.number, one);
    }

    /// A copy was sent, or never will be. The last one lets those leave that are held for it.
    fn on_left(&mut self, mut one: InTransit<F, T>, outcome: Outcome, exits: &mut impl Exits<F, T>) {
        one.copies_sent += u8::from(outcome == Outcome::Sent);
        one.copies_left -= 1;
        if one.copies_left > 0 {
            one.due += one.departure.map_or(Duration::ZERO, |departure| departure.copy_spacing);
            return self.put_back(one);
        }
        let InTransit { flow, class, number, due, .. } = one;
        if let Some(order) = self.flows.get_mut(&flow).filter(|_| one.copies_sent > 0) {
            let last_left = &mut order.last_left[class_index(class)];
            *last_left = number.max(*last_left);
            while let Some(key) = self.held.range((flow, class, 0)..(flow, class, number)).next().copied() {
                self.held.remove(&key);
                if let Some(overtaken) = self.datagrams.get_mut(&key.2) {
                    overtaken.due = due;
                    self.queue.push(Reverse((due, key.2)));
                }
            }
        }
        self.finish(&one, outcome, exits);
    }

    /// A datagram is no longer in transit. Its outcome is that it was sent, if a copy was.
    fn finish(&mut self, one: &InTransit<F, T>, otherwise: Outcome, exits: &mut impl Exits<F, T>) {
        if one.len > 0 {
            self.store.remove(one.position, one.len as usize);
        }
        if let Some(order) = self.flows.get_mut(&one.flow) {
            order.count -= 1;
            if order.count == 0 {
                self.flows.remove(&one.flow);
            }
        }
        // Frees the memory of many flows.
        if self.flows.is_empty() && self.queue.capacity().max(self.flows.capacity()) > MAX_IDLE_CAPACITY {
            (self.queue, self.datagrams, self.flows) = <_>::default();
        }
        let InTransit { flow, kept, class, sequence, entered_at, copies_sent, .. } = *one;
        let outcome = if copies_sent > 0 { Outcome::Sent } else { otherwise };
        exits.on_outcome(
            kept,
            OutcomeEvent {
                reordered: one.hold_until.is_some(),
                added_delay: one.departure.map_or(Duration::ZERO, |departure| departure.at - entered_at),
                copies_sent,
                ..OutcomeEvent::of_arrival(entered_at, flow, (class, sequence), outcome)
            },
        );
    }
}
