//! Datagrams on their paths, with their bytes: stores what enters, and sends what is due.

use std::hash::Hash;
use std::mem;

use crate::datagram_store::DatagramStore;
use crate::impairment::{Departure, ImpairmentDecision, PacketClass};
use crate::node::{BLOCKED_RETRY, MAX_SENDS_PER_POLL, SendStatus, Transmit, TransmitSink};
use crate::outcome::{Outcome, OutcomeEvent};
use crate::path::{Passing, Path};
use crate::pauses::Pauses;
use crate::time::Time;

/// No datagram enters while those on their paths use this much memory: [`OVERHEAD`] each, and the store of their bytes.
const MAX_BUFFERED: usize = 256 << 20;

/// Memory for a datagram besides its bytes.
const OVERHEAD: usize = 300;

/// Where the datagrams of each flow leave. `F` names a flow.
pub trait Exits<F> {
    /// Passes a datagram through the queue of the bandwidth limit, if there is one. `size` is its length and the number of its copies.
    fn bottleneck(&mut self, flow: F, due: Time, size: (usize, u8)) -> Option<Departure>;

    /// The socket and the addresses of a datagram that leaves now, without its bytes. `None` if the flow leads nowhere.
    fn exit(&self, flow: F) -> Option<Transmit<'static>>;

    /// A copy of a datagram of this class and sequence number has left.
    fn on_copy(&mut self, flow: F, now: Time, packet: (PacketClass, u32));

    /// A datagram has left its path.
    fn on_outcome(&mut self, event: OutcomeEvent<F>);
}

/// What is kept of a datagram.
#[derive(Clone, Copy)]
struct Stored {
    sequence: u32,
    /// Position in the store; 0 if the datagram is empty.
    position: u64,
    len: usize,
}

/// The datagrams on all paths.
pub struct Transit<F> {
    path: Path<F, Stored>,
    store: DatagramStore,
    /// A socket was blocked: nothing is sent before this time.
    retry_at: Time,
    pub(crate) pauses: Pauses,
}

impl<F> Default for Transit<F> {
    fn default() -> Self {
        let (path, store, retry_at, pauses) = <_>::default();
        Self { path, store, retry_at, pauses }
    }
}

impl<F: Copy + Hash + Ord> Transit<F> {
    /// A datagram arrives at `at`, and enters unless it is lost or exceeds a limit. Returns whether it does; otherwise, reports its outcome.
    pub fn enter(
        &mut self,
        at: Time,
        (flow, packet): (F, (PacketClass, u32)),
        decision: &ImpairmentDecision,
        is_admitted: bool,
        bytes: &[u8],
        exits: &mut impl Exits<F>,
    ) -> bool {
        let outcome = if let Some(cause) = decision.loss {
            Outcome::Lost(cause)
        } else if !is_admitted {
            Outcome::Limit
        } else if let Some(position) = self.store(bytes) {
            let (class, sequence) = packet;
            self.path.enter(at, flow, class, decision, Stored { sequence, position, len: bytes.len() });
            return true;
        } else {
            Outcome::Dropped
        };
        exits.on_outcome(OutcomeEvent::of_arrival(at, flow, packet, outcome));
        false
    }

    /// The position of these bytes in the store, if there is memory left.
    fn store(&mut self, bytes: &[u8]) -> Option<u64> {
        if self.store.used() + self.path.count() * OVERHEAD >= MAX_BUFFERED {
            return None;
        }
        if bytes.is_empty() { Some(0) } else { Some(self.store.push(bytes, bytes.len()).ok()?.0) }
    }

    /// Sends what is due.
    pub fn send_due(&mut self, now: Time, sink: &mut dyn TransmitSink, exits: &mut impl Exits<F>) {
        self.pauses.on_call(now, self.next_deadline());
        for _ in 0..MAX_SENDS_PER_POLL {
            let bottleneck =
                |one: &Passing<F, Stored>| exits.bottleneck(one.flow, one.due, (one.token.len, one.copies_left));
            let passing = match self.path.pop_due(now, bottleneck) {
                None => return,
                Some(Err(full)) => {
                    self.finish(full, Outcome::BottleneckFull, exits);
                    continue;
                }
                Some(Ok(passing)) => passing,
            };
            let Stored { sequence, position, len } = passing.token;
            let contents = if len == 0 { &[] } else { self.store.get(position, len) };
            let status = exits
                .exit(passing.flow)
                .map_or(SendStatus::Failed, |exit| sink.send(Transmit { contents, segment_size: len, ..exit }));
            if status == SendStatus::WouldBlock {
                self.path.put_back(passing);
                self.retry_at = now + BLOCKED_RETRY;
                return;
            }
            let is_sent = status == SendStatus::Sent;
            if is_sent {
                self.pauses.on_sent(passing.due, now);
                exits.on_copy(passing.flow, now, (passing.class, sequence));
            }
            if let Some(passed) = self.path.on_left(passing, is_sent) {
                self.finish(passed, Outcome::SendFailed, exits);
            }
        }
    }

    /// When to call [`Transit::send_due`] next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.path.next_due().map(|due| due.max(self.retry_at))
    }

    /// Drops all datagrams, at the end.
    pub fn drop_all(&mut self, exits: &mut impl Exits<F>) {
        for passing in mem::take(&mut self.path).into_rest() {
            self.finish(passing, Outcome::DroppedAtStop, exits);
        }
    }

    /// Removes the bytes and reports the outcome: sent if a copy was sent.
    fn finish(&mut self, passing: Passing<F, Stored>, otherwise: Outcome, exits: &mut impl Exits<F>) {
        let Passing { flow, token, class, entered_at, .. } = passing;
        if token.len > 0 {
            self.store.remove(token.position, token.len);
        }
        let event = OutcomeEvent::of_arrival(entered_at, flow, (class, token.sequence), otherwise);
        exits.on_outcome(event.after_path(&passing));
    }
}
