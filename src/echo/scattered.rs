//! The way back over a bad path: replies wait here until they are due, each by its own fate, and leave singly.
//!
//! A reply is lost at once or becomes due by its hold, its jitter and what it is held back; then, where the bandwidth is
//! limited, it queues for that. Replies of one client to AUDIO keep their order among themselves, and so do the others: one
//! that jitter would let overtake is raised to the due time of the one before, unless it is to be reordered.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budget, Limits, Refused};
use super::delay_line::Pushed;
use super::fates::{Fate, FateObserver, Fated};
use super::guard::Guard;
use super::route::Route;
use super::{ANSWERS, Counters, SENDS, log};
use crate::link::{Link, Loss};
use crate::node::{Outcome, Sink, Transmit};
use crate::time::Time;
use crate::wire::{self, Kind};

/// What a waiting reply is charged beyond its own bytes, and each of its copies too: a node of a tree that may be half empty,
/// an allocation, and an entry for its client.
pub const SCATTERED_COST: usize = 500;

/// What is asked about one after the other: AUDIO and all else have budgets and an order of their own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    Audio,
    Answer,
}

/// A reply on its way.
struct Waiting {
    /// What is known of it. `copies` have left so far; `delay` is final once it has not to enter any more.
    fated: Fated,
    route: Route,
    bytes: Box<[u8]>,
    /// When it would leave over a good path.
    nominal: Time,
    /// Whether the limited bandwidth is still before it.
    entering: bool,
    /// Copies still to leave, and how far the second is behind the first.
    copies: u8,
    copy_after: Duration,
    /// Bytes and packets charged.
    charged: (usize, usize),
}

impl Waiting {
    fn class(&self) -> Class {
        if self.fated.kind == Kind::Audio { Class::Audio } else { Class::Answer }
    }
}

/// What waits for one client.
struct Last {
    due: Time,
    waiting: u32,
}

/// The line.
pub(super) struct Scattered {
    link: Link,
    observer: Box<dyn FateObserver>,
    counters: Arc<Counters>,
    audio: Budget,
    answers: Budget,
    /// By due time, and in the order of arrival.
    waiting: BTreeMap<(Time, u64), Waiting>,
    arrivals: u64,
    /// The last of each client's replies that is not held back, while any of them wait.
    last: HashMap<(Class, SocketAddr), Last>,
    audio_waiting: usize,
}

impl Scattered {
    pub(super) fn new(link: Link, observer: Box<dyn FateObserver>, counters: Arc<Counters>, limits: Limits) -> Self {
        let (audio, answers) = (Budget::new(limits, SCATTERED_COST), Budget::new(ANSWERS, SCATTERED_COST));
        let (waiting, last) = (BTreeMap::new(), HashMap::new());
        Self { link, observer, counters, audio, answers, waiting, arrivals: 0, last, audio_waiting: 0 }
    }

    /// Memory charged for what waits, in bytes.
    pub(super) fn charged(&self) -> u64 {
        self.audio.held() + self.answers.held()
    }

    /// AUDIO waiting.
    pub(super) fn audio_waiting(&self) -> usize {
        self.audio_waiting
    }

    /// When to look next.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes the reply to a packet that came at `at` and is to be held for `hold`. What is lost on purpose counts as admitted.
    /// `copy_admitted` is asked before a second copy is made.
    pub(super) fn push(
        &mut self,
        at: Time,
        hold: Duration,
        route: Route,
        bytes: &[u8],
        copy_admitted: impl FnOnce() -> bool,
    ) -> Pushed {
        let admitted = Pushed { admitted: 1, refused: None };
        // A reply is a packet.
        let Ok(packet) = wire::parse(bytes) else { return admitted };
        let kind = if packet.header.kind == Kind::LatencyPong { Kind::LatencyPing } else { packet.header.kind };
        let plan = self.link.decide(kind, packet.header.sequence);
        let fated = Fated {
            at,
            client: route.peer,
            kind,
            sequence: packet.header.sequence,
            fate: Fate::Sent,
            reordered: false,
            delay: Duration::ZERO,
            copies: 0,
        };
        if let Some(loss) = plan.loss {
            self.decided(Fated { fate: Fate::Lost(loss), ..fated });
            return admitted;
        }
        // Not a packet more leaves towards an address than its limits allow, on purpose or not.
        let copies = if plan.copies > 1 && !copy_admitted() { 1 } else { plan.copies };
        let charged = (bytes.len() * usize::from(copies), usize::from(copies));
        if let Some(reason) = self.charge(kind, route.peer, charged) {
            self.decided(Fated { fate: Fate::Refused, ..fated });
            return Pushed { admitted: 0, refused: Some((reason, 1)) };
        }
        let nominal = at + hold;
        let mut waiting = Waiting {
            fated: Fated { reordered: plan.reordered, ..fated },
            route,
            bytes: bytes.into(),
            nominal,
            entering: self.link.is_narrow(),
            copies,
            copy_after: Duration::ZERO,
            charged,
        };
        let class = waiting.class();
        let last = self.last.entry((class, route.peer)).or_insert(Last { due: Time::ZERO, waiting: 0 });
        last.waiting += 1;
        let mut due = (nominal + plan.jitter).max(last.due);
        if plan.reordered {
            due += self.link.reorder_by();
            self.counters.impaired_reordered.add(1);
        } else {
            last.due = due;
        }
        waiting.fated.delay = due - nominal;
        self.audio_waiting += usize::from(class == Class::Audio);
        self.arrivals += 1;
        self.waiting.insert((due, self.arrivals), waiting);
        admitted
    }

    /// Hands what is due to `sink`, or the first part of it.
    pub(super) fn poll_transmit(&mut self, now: Time, sink: &mut dyn Sink, guard: &mut Guard) {
        for _ in 0..SENDS {
            let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) else { break };
            let (due, place) = *first.key();
            if first.get().entering {
                let waiting = first.remove();
                self.enter(due, place, waiting);
                continue;
            }
            let Waiting { route, bytes, fated, .. } = first.get();
            let held = fated.kind == Kind::Audio;
            let transmit = Transmit { to: route.peer, from: route.local, bytes, stride: bytes.len() };
            let outcome = sink.send(transmit);
            match outcome {
                // A single datagram is never to be split.
                Outcome::Busy | Outcome::Split => break,
                Outcome::Sent => {
                    let counters = &self.counters;
                    counters.sent_bytes.add(bytes.len());
                    let lateness = if held { &counters.audio_lateness } else { &counters.answer_lateness };
                    lateness.add(now.since(due), 1);
                    if held {
                        guard.left(now, &transmit);
                        log::echoed(&transmit);
                    } else {
                        log::answered(&transmit);
                    }
                }
                Outcome::Failed => self.counters.send_failed.add(1),
            }
            let waiting = first.remove();
            self.left(due, place, waiting, outcome == Outcome::Sent);
        }
    }

    /// Gives up what waits. How many datagrams that is.
    pub(super) fn stop(mut self) -> usize {
        let waiting = std::mem::take(&mut self.waiting);
        let count = waiting.len();
        for (_, Waiting { fated, .. }) in waiting {
            let fate = if fated.copies > 0 { Fate::Sent } else { Fate::Stopped };
            self.decided(Fated { fate, ..fated });
        }
        count
    }

    /// Charges a packet and its copy, or nothing.
    fn charge(&mut self, kind: Kind, peer: SocketAddr, (bytes, packets): (usize, usize)) -> Option<Refused> {
        let budget = if kind == Kind::Audio { &mut self.audio } else { &mut self.answers };
        let (admitted, refused) = budget.admit(peer, bytes, bytes / packets);
        if refused.is_some() && admitted > 0 {
            budget.give_back(peer, admitted, admitted / (bytes / packets));
        }
        refused
    }

    /// A reply comes to the limited bandwidth.
    fn enter(&mut self, at: Time, place: u64, mut waiting: Waiting) {
        let size = (waiting.bytes.len(), waiting.copies);
        let Some(passage) = self.link.enter(at, size, waiting.route.peer.ip()) else {
            self.settle(&waiting, Fate::Queue);
            return;
        };
        waiting.entering = false;
        waiting.copy_after = passage.copy_after;
        waiting.fated.delay = passage.leaves - waiting.nominal;
        self.waiting.insert((passage.leaves, place), waiting);
    }

    /// A copy has left, or the system refused it.
    fn left(&mut self, due: Time, place: u64, mut waiting: Waiting, sent: bool) {
        if sent {
            waiting.fated.copies += 1;
            match waiting.class() {
                Class::Audio => self.counters.sent.add(1),
                Class::Answer => self.counters.answers.add(1),
            }
        }
        waiting.copies -= 1;
        if waiting.copies > 0 {
            self.counters.impaired_duplicated.add(1);
            self.waiting.insert((due + waiting.copy_after, place), waiting);
        } else {
            let fate = if waiting.fated.copies > 0 { Fate::Sent } else { Fate::Failed };
            self.settle(&waiting, fate);
        }
    }

    /// A reply does not wait any more.
    fn settle(&mut self, waiting: &Waiting, fate: Fate) {
        let (class, peer, (bytes, packets)) = (waiting.class(), waiting.route.peer, waiting.charged);
        match class {
            Class::Audio => {
                self.audio_waiting -= 1;
                self.audio.give_back(peer, bytes, packets);
            }
            Class::Answer => self.answers.give_back(peer, bytes, packets),
        }
        if let Some(last) = self.last.get_mut(&(class, peer)) {
            last.waiting -= 1;
            if last.waiting == 0 {
                self.last.remove(&(class, peer));
                // A crowd that has left takes its table along.
                if self.last.is_empty() && self.last.capacity() > 1024 {
                    self.last = HashMap::new();
                }
            }
        }
        self.decided(Fated { fate, ..waiting.fated });
    }

    fn decided(&mut self, fated: Fated) {
        match fated.fate {
            Fate::Lost(Loss::Asked) => self.counters.impaired_asked.add(1),
            Fate::Lost(Loss::Burst) => self.counters.impaired_burst.add(1),
            Fate::Lost(Loss::Single) => self.counters.impaired_lost.add(1),
            Fate::Queue => self.counters.impaired_queue.add(1),
            // Counted where the other lines count them.
            Fate::Sent | Fate::Refused | Fate::Failed | Fate::Stopped => {}
        }
        log::impaired(&fated);
        self.observer.on_fate(&fated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_reply_is_charged_at_least_what_its_bookkeeping_takes() {
        // A node of the tree has room for 11 and is at least 5 full, even at the edge where replies leave; the allocator takes
        // 16 bytes for the packet's own. A client's entry may be one of 7 in a table with 16 places.
        let place = size_of::<((Time, u64), Waiting)>() * 11 / 6 + 16;
        let client = (size_of::<((Class, SocketAddr), Last)>() + 1) * 16 / 7;
        assert!(place + client <= SCATTERED_COST, "{place} + {client}");
    }
}
