//! How much may wait: a cap for all and a cap for each client, so that one client's flood leaves the others' memory
//! alone.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

/// What a waiting datagram is charged beyond its own bytes: at least what its bookkeeping really costs.
pub const PACKET_COST: usize = 100;

/// The caps, in bytes of memory. `None` is no cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all clients together.
    pub total: Option<u64>,
    /// For one client: an address and port.
    pub per_client: Option<u64>,
}

impl Default for Limits {
    /// 1 GiB in all, 64 MiB a client.
    fn default() -> Self {
        Self { total: Some(1 << 30), per_client: Some(64 << 20) }
    }
}

/// Why a datagram may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The cap for all is reached.
    Total,
    /// The cap for one client is reached.
    Client,
    /// The system has no memory.
    Memory,
}

/// The account of what waits.
pub(super) struct Budget {
    limits: Limits,
    /// What a datagram is charged beyond its own bytes.
    packet_cost: usize,
    total: u64,
    /// What each client is charged, by a digest of its address: an entry of 17 bytes, so that a crowd of clients with a
    /// packet each stays within what is charged. Two clients of one digest, which nobody has ever seen, would share a cap.
    clients: HashMap<u64, u64>,
}

impl Budget {
    /// Nothing waits yet. Each datagram will be charged `packet_cost` beyond its own bytes.
    pub(super) fn new(limits: Limits, packet_cost: usize) -> Self {
        Self { limits, packet_cost, total: 0, clients: HashMap::new() }
    }

    /// Bytes charged for all that waits.
    pub(super) fn held(&self) -> u64 {
        self.total
    }

    /// Charges as many of the `stride`-byte datagrams in `len` bytes as the caps allow. Returns how many of those bytes may
    /// wait, and which cap refused the rest.
    pub(super) fn admit(&mut self, peer: SocketAddr, len: usize, stride: usize) -> (usize, Option<Refused>) {
        let client = digest(peer);
        let held = self.clients.get(&client).copied().unwrap_or(0);
        let room = |cap: Option<u64>, held: u64| cap.map_or(u64::MAX, |cap| cap.saturating_sub(held));
        let (in_all, for_client) = (room(self.limits.total, self.total), room(self.limits.per_client, held));
        let (room, refused) =
            if for_client < in_all { (for_client, Refused::Client) } else { (in_all, Refused::Total) };
        let (admitted, refused) = if self.cost(len, len.div_ceil(stride)) <= room {
            (len, None)
        } else {
            ((room / self.cost(stride, 1)) as usize * stride, Some(refused))
        };
        if admitted > 0 {
            let cost = self.cost(admitted, admitted.div_ceil(stride));
            self.total += cost;
            *self.clients.entry(client).or_default() += cost;
        }
        (admitted, refused)
    }

    /// Takes back what `packets` datagrams of `bytes` bytes were charged.
    pub(super) fn give_back(&mut self, peer: SocketAddr, bytes: usize, packets: usize) {
        let cost = self.cost(bytes, packets);
        self.total -= cost;
        let client = digest(peer);
        if let Some(held) = self.clients.get_mut(&client) {
            *held -= cost;
            if *held == 0 {
                self.clients.remove(&client);
                // A crowd that has left takes its table along.
                if self.clients.is_empty() && self.clients.capacity() > 1024 {
                    self.clients = HashMap::new();
                }
            }
        }
    }

    fn cost(&self, bytes: usize, packets: usize) -> u64 {
        (bytes + packets * self.packet_cost) as u64
    }
}

fn digest(peer: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    peer.hash(&mut hasher);
    hasher.finish()
}
