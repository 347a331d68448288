//! The memory of queued replies. It is limited per client, per address and in total.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use super::observer::DropReason;
use super::reply_store::{Reply, ReplyClass};
use crate::memory_budget::{DEFAULT_MEMORY_BUDGET, MemoryBudget, MemoryPermit};
use crate::transit::Transit;

/// Bytes charged for a queued datagram in addition to its own bytes: at least the size of the datagram's queue entry.
pub(super) const PACKET_OVERHEAD: usize = 100;

/// Bytes charged for a datagram in addition to its own bytes if replies are impaired: those in transit, and the entry of its client in a hash
/// table, as in [`Transit::PRICE`].
pub const IMPAIRED_PACKET_OVERHEAD: usize =
    Transit::<SocketAddr, Reply>::PRICE + (size_of::<(u64, u64)>() + 1) * 16 / 7;

/// Limits of immediate replies, which stay queued only while the socket accepts no datagrams. They are separate from those of AUDIO, so that
/// KEEPALIVEs are answered even if the memory for AUDIO is full.
const IMMEDIATE_REPLY_LIMITS: BufferLimits = BufferLimits { total: Some(16 << 20), per_client: Some(4 << 20) };

/// Number of buckets of addresses. The addresses in a bucket have one limit, as in the rate limiter.
const ADDRESS_BUCKETS: usize = 8_192;

/// Memory limits in bytes; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Limit for all clients together. One source address may hold half of it. Loopback sources may hold all of it.
    pub total: Option<u64>,
    /// Limit for one client (address and port), which cannot use up the memory for all clients.
    pub per_client: Option<u64>,
}

impl BufferLimits {
    /// Limits with this total. One client may hold two fifths of it.
    pub fn with_total(total: Option<u64>) -> Self {
        Self { total, per_client: total.map(|total| total / 5 * 2) }
    }
}

impl Default for BufferLimits {
    /// 160 MiB in total, which is half of the default memory budget, and 64 MiB per client.
    fn default() -> Self {
        Self::with_total(Some(DEFAULT_MEMORY_BUDGET / 2))
    }
}

/// If not all datagrams are queued: the number of those that are, which are the first, and the reason to drop the others.
pub(super) type PushResult = Result<(), (usize, DropReason)>;

pub(super) struct ReplyMemory {
    /// Bytes charged for a datagram in addition to its own bytes.
    overhead: usize,
    /// Number of datagrams of each class.
    pub(super) datagrams: [usize; 2],
    /// Limits of each class.
    limits: [BufferLimits; 2],
    /// Memory of each class, in bytes.
    held: [u64; 2],
    /// Memory of the addresses that are subject to limits.
    held_by_bucket: Vec<[u64; 2]>,
    /// Memory of each client and class, by [`client_digest`].
    held_by_client: HashMap<u64, u64>,
    /// The memory of both classes.
    permit: MemoryPermit,
}

impl ReplyMemory {
    /// No memory is held. `limits` apply to AUDIO. All replies hold memory of `budget`.
    pub(super) fn new(limits: BufferLimits, budget: &Arc<MemoryBudget>) -> Self {
        Self {
            overhead: PACKET_OVERHEAD,
            datagrams: [0; 2],
            limits: [limits, IMMEDIATE_REPLY_LIMITS],
            held: [0; 2],
            held_by_bucket: vec![[0; 2]; ADDRESS_BUCKETS],
            held_by_client: HashMap::new(),
            permit: budget.account(None).hold(0),
        }
    }

    /// Memory charged for queued replies, in bytes.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.iter().sum()
    }

    /// Charges more for each datagram from now on, because replies are impaired.
    pub(super) fn impair(&mut self) {
        self.overhead = IMPAIRED_PACKET_OVERHEAD;
    }

    /// Bytes charged for `datagrams` datagrams with `len` bytes in total.
    fn cost(&self, len: usize, datagrams: usize) -> u64 {
        (len + datagrams * self.overhead) as u64
    }

    /// Charges the datagrams of a reply, or as many of them as the limits permit.
    pub(super) fn charge(&mut self, reply: &Reply) -> PushResult {
        let Reply { path, class, .. } = *reply;
        let (all, one) = (self.cost(reply.len(), reply.segment_count()), self.cost(reply.segment_size(), 1));
        let index = class as usize;
        let limits = self.limits[index];
        let (total, per_client) = (limits.total.unwrap_or(u64::MAX), limits.per_client.unwrap_or(u64::MAX));
        let client = client_digest(path.peer, class);
        let of_client = self.held_by_client.get(&client).copied().unwrap_or(0);
        let of_bucket = self.held_by_bucket[path.network as usize % ADDRESS_BUCKETS][index];
        let address_limit = if path.is_limited { total / 2 } else { u64::MAX };
        let (client_full, full) = match class {
            ReplyClass::Audio => (DropReason::ClientBufferFull, DropReason::BufferFull),
            ReplyClass::Immediate => (DropReason::ReplyBufferFull, DropReason::ReplyBufferFull),
        };
        let limits = [
            (per_client.saturating_sub(of_client), client_full),
            (total.saturating_sub(self.held[index]), full),
            (address_limit.saturating_sub(of_bucket), full),
        ];
        let (free, full) = limits.into_iter().min_by_key(|(free, _)| *free).unwrap_or((0, full));
        let charged = if all <= free { all } else { free / one * one };
        if charged == 0 {
            return Err((0, full));
        }
        let datagrams = if charged == all { reply.segment_count() } else { (charged / one) as usize };
        if self.permit.resize(self.held_bytes() + charged).is_err() {
            return Err((0, DropReason::MemoryBudget));
        }
        self.held[index] += charged;
        self.datagrams[index] += datagrams;
        *self.held_by_client.entry(client).or_default() += charged;
        if path.is_limited {
            self.held_by_bucket[path.network as usize % ADDRESS_BUCKETS][index] += charged;
        }
        if charged == all { Ok(()) } else { Err((datagrams, full)) }
    }

    /// The datagrams of a reply are no longer queued.
    pub(super) fn release(&mut self, reply: &Reply) {
        let Reply { path, class, .. } = *reply;
        let (index, charged) = (class as usize, self.cost(reply.len(), reply.segment_count()));
        self.held[index] -= charged;
        self.datagrams[index] -= reply.segment_count();
        // Less memory is never refused.
        let _ = self.permit.resize(self.held_bytes());
        if path.is_limited {
            self.held_by_bucket[path.network as usize % ADDRESS_BUCKETS][index] -= charged;
        }
        if let Entry::Occupied(mut client) = self.held_by_client.entry(client_digest(path.peer, class)) {
            *client.get_mut() -= charged;
            if *client.get() == 0 {
                client.remove();
            }
        }
        // Returns the memory of a burst of many clients.
        if self.held_by_client.is_empty() && self.held_by_client.capacity() > 1_024 {
            self.held_by_client = HashMap::new();
        }
    }
}

/// Clients with equal digests share a limit. A digest takes less memory than an address.
fn client_digest(peer: SocketAddr, class: ReplyClass) -> u64 {
    let mut hasher = DefaultHasher::new();
    (peer, class).hash(&mut hasher);
    hasher.finish()
}
