//! A bad path, on purpose and by a seed: what it loses, delays, repeats and reorders.
//!
//! The fate of a packet is a function of the seed, its type and its index, and of nothing else: neither other packets, nor
//! ports, nor timing change it, and two runs agree. The index of AUDIO is its header's sequence number, so two clients lose
//! the same ones. The index of any other type is how many of its type were answered before, by anybody's count: clients may
//! send those with a constant sequence number. Only a limited bandwidth looks at the clock: what it delays or drops depends on what
//! else is there.

mod bottleneck;
mod burst;
mod chance;
mod sequences;

use std::net::IpAddr;
use std::time::Duration;

pub use bottleneck::{Bandwidth, Passage};
pub use burst::{Burst, BurstError};
pub use sequences::{Sequences, SequencesError};

use crate::time::{Time, nanos};
use crate::wire::Kind;
use bottleneck::Bottleneck;
use chance::{Chance, Question};

/// How far behind its time a packet is held back for reordering unless told otherwise.
pub const DEFAULT_REORDER_BY: Duration = Duration::from_millis(10);

/// How long the queue before a limited bandwidth is unless told otherwise.
pub const DEFAULT_QUEUE: Duration = Duration::from_millis(250);

/// What a path does to packets. The default does nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairment {
    /// The ratio of packets lost independently of each other, 0 to 1.
    pub loss: f64,
    /// Losses that come in bursts, besides.
    pub burst: Option<Burst>,
    /// AUDIO that is always lost, by its sequence numbers.
    pub drop_packets: Sequences,
    /// The longest extra delay; each packet's is evenly spread from 0 on.
    pub jitter: Duration,
    /// The ratio of packets held back, so that later ones pass, 0 to 1.
    pub reorder: f64,
    /// How long they are held back.
    pub reorder_by: Duration,
    /// The ratio of packets of which a second copy leaves, 0 to 1.
    pub duplicate: f64,
    /// The bandwidth that all packets share.
    pub bandwidth: Option<Bandwidth>,
    /// Another seed, other fates.
    pub seed: u64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: None,
            drop_packets: Sequences::default(),
            jitter: Duration::ZERO,
            reorder: 0.0,
            reorder_by: DEFAULT_REORDER_BY,
            duplicate: 0.0,
            bandwidth: None,
            seed: 0,
        }
    }
}

impl Impairment {
    /// How much later than over a good path a packet may leave.
    pub fn longest_delay(&self) -> Duration {
        let held_back = if self.reorder > 0.0 { self.reorder_by } else { Duration::ZERO };
        let queue = self.bandwidth.map_or(Duration::ZERO, |bandwidth| bandwidth.queue);
        self.jitter.saturating_add(held_back).saturating_add(queue)
    }
}

/// Why a packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its sequence number was named.
    Asked,
    /// It fell into a burst.
    Burst,
    /// Chance.
    Single,
}

/// What is to become of a packet, before any limited bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Lost, and why: the first reason in the order of [`Loss`].
    pub loss: Option<Loss>,
    /// How much later than its time it leaves.
    pub jitter: Duration,
    /// Whether it is then held back so that later ones pass.
    pub reordered: bool,
    /// How often it leaves: once or twice.
    pub copies: u8,
}

/// Packet types there may be: the type is a byte below this.
const KINDS: usize = Kind::LatencyInfo as usize + 1;

/// The path at work.
#[derive(Clone, Debug)]
pub struct Link {
    impairment: Impairment,
    bottleneck: Option<Bottleneck>,
    /// Packets so far, by type.
    counts: [u32; KINDS],
    /// The burst model's last answer, by type.
    bursts: [Option<(u32, bool)>; KINDS],
}

impl Link {
    /// A path that has carried nothing yet.
    pub fn new(impairment: Impairment) -> Self {
        let bottleneck = impairment.bandwidth.map(Bottleneck::new);
        Self { impairment, bottleneck, counts: [0; KINDS], bursts: [None; KINDS] }
    }

    /// How long a packet is held back that is to be reordered.
    pub fn reorder_by(&self) -> Duration {
        self.impairment.reorder_by
    }

    /// Whether packets also have to pass a limited bandwidth: [`Link::enter`].
    pub fn is_narrow(&self) -> bool {
        self.bottleneck.is_some()
    }

    /// The fate of the next packet of this type, which carries `sequence`.
    pub fn decide(&mut self, kind: Kind, sequence: u32) -> Fate {
        let count = &mut self.counts[kind as usize];
        let index = if kind == Kind::Audio { sequence } else { *count };
        *count = count.wrapping_add(1);
        let Impairment { loss, burst, drop_packets, jitter, reorder, duplicate, seed, .. } = &self.impairment;
        let chance = |question| Chance::new(*seed, kind, question);
        let happens = |ratio: f64, question| chance(question).uniform(index) < ratio;
        let known = &mut self.bursts[kind as usize];
        let loss = if kind == Kind::Audio && drop_packets.contains(sequence) {
            Some(Loss::Asked)
        } else if burst.is_some_and(|burst| burst.is_bad(chance(Question::Burst), index, known)) {
            Some(Loss::Burst)
        } else {
            happens(*loss, Question::Loss).then_some(Loss::Single)
        };
        Fate {
            loss,
            jitter: Duration::from_nanos(chance(Question::Jitter).up_to(nanos(*jitter), index)),
            reordered: happens(*reorder, Question::Reorder),
            copies: if happens(*duplicate, Question::Duplicate) { 2 } else { 1 },
        }
    }

    /// A packet with a payload of `len` bytes, of which so many copies leave, comes to the limited bandwidth at `at`; never
    /// before one that came earlier. `None`: it is dropped, with its copies.
    pub fn enter(&mut self, at: Time, size: (usize, u8), peer: IpAddr) -> Option<Passage> {
        match &mut self.bottleneck {
            Some(bottleneck) => bottleneck.enter(at, size, peer),
            None => Some(Passage { leaves: at, copy_after: Duration::ZERO }),
        }
    }
}
