//! The memory of queued replies. It is limited per client, per address and in total.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use super::observer::DropReason;
use super::reply_store::{ReplyClass, ReplyPath};
use crate::memory_budget::{DEFAULT_MEMORY_BUDGET, MemoryBudget, MemoryPermit};

/// Bytes charged for a queued datagram in addition to its own bytes: at least the size of the datagram's queue entry.
pub(super) const PACKET_OVERHEAD: usize = 100;

/// Bytes charged for an impaired reply in addition to its own bytes. These bytes also cover the entries of hash tables.
pub const IMPAIRED_PACKET_OVERHEAD: usize = 1_000;

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

pub(super) struct ReplyMemory {
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

    /// Charges `all` bytes, or as many times `one` as the limits permit. If this is not all, returns the number of charged bytes and the
    /// reason to drop the rest.
    pub(super) fn charge(
        &mut self,
        path: ReplyPath,
        class: ReplyClass,
        all: u64,
        one: u64,
    ) -> Result<(), (u64, DropReason)> {
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
        if self.permit.resize(self.held_bytes() + charged).is_err() {
            return Err((0, DropReason::MemoryBudget));
        }
        self.held[index] += charged;
        *self.held_by_client.entry(client).or_default() += charged;
        if path.is_limited {
            self.held_by_bucket[path.network as usize % ADDRESS_BUCKETS][index] += charged;
        }
        if charged == all { Ok(()) } else { Err((charged, full)) }
    }

    pub(super) fn release(&mut self, path: ReplyPath, class: ReplyClass, charged: u64) {
        let index = class as usize;
        self.held[index] -= charged;
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

/// Bytes charged for `packets` datagrams of `bytes` bytes in total.
pub(super) fn cost(bytes: usize, packets: usize, is_impaired: bool) -> u64 {
    let overhead = if is_impaired { IMPAIRED_PACKET_OVERHEAD } else { PACKET_OVERHEAD };
    (bytes + packets * overhead) as u64
}

/// Clients with equal digests share a limit. A digest takes less memory than an address.
fn client_digest(peer: SocketAddr, class: ReplyClass) -> u64 {
    let mut hasher = DefaultHasher::new();
    (peer, class).hash(&mut hasher);
    hasher.finish()
}
