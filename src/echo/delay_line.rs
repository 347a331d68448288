//! The delay line: a first-in first-out queue of datagrams with due times. Memory is limited per client and in total.
//!
//! A queued packet takes its own bytes and at most [`ENTRY_LEN`] more. Packets of one client that are due together are stored contiguously.
//! These packets leave as one segmented send, without a copy.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use super::byte_fifo::ByteFifo;
use crate::address::is_loopback_to_loopback;
use crate::memory_budget::{DEFAULT_MEMORY_BUDGET, MemoryBudget, MemoryPermit};
use crate::node::{Receive, Transmit};
use crate::time::Time;

/// Length of a stored entry in bytes: due time, length, segment size, reply path.
const ENTRY_LEN: usize = 8 + 4 + 2 + REPLY_PATH_LEN;

/// One or more datagrams of one client with the same due time. Each datagram has `segment_size` bytes, but the last may be shorter.
#[derive(Clone, Copy)]
struct DelayLineEntry {
    due: Time,
    len: usize,
    segment_size: usize,
    reply_path: ReplyPath,
}

impl DelayLineEntry {
    fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.due.as_nanos().to_le_bytes());
        bytes[8..12].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[12..14].copy_from_slice(&(self.segment_size as u16).to_le_bytes());
        bytes[14..].copy_from_slice(&self.reply_path.to_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_LEN]) -> Self {
        let [d0, d1, d2, d3, d4, d5, d6, d7, l0, l1, l2, l3, s0, s1, reply_path @ ..] = bytes;
        Self {
            due: Time::from_nanos(u64::from_le_bytes([*d0, *d1, *d2, *d3, *d4, *d5, *d6, *d7])),
            len: u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize,
            segment_size: usize::from(u16::from_le_bytes([*s0, *s1])),
            reply_path: ReplyPath::from_bytes(reply_path),
        }
    }

    /// Number of datagrams in the first `len` bytes.
    fn segment_count(&self, len: usize) -> usize {
        len.div_ceil(self.segment_size.max(1)).max(1)
    }
}

/// Packet bytes are stored in memory chunks of this length. At most one packet in 128 KiB crosses a boundary and is copied.
const PACKET_CHUNK_LEN: usize = 128 * 1024;

/// Queue entries are stored in memory chunks of this length. The chunks are small, so that an idle delay line takes little memory.
const ENTRY_CHUNK_LEN: usize = 32 * 1024;

/// Limits of immediate replies, which stay queued only while the socket accepts no datagrams. AUDIO packets have separate limits.
/// Therefore, KEEPALIVEs are answered even if the delay line is full.
pub(super) const IMMEDIATE_REPLY_LIMITS: BufferLimits =
    BufferLimits { total: Some(16 << 20), per_client: Some(4 << 20) };

/// The result of [`DelayLine::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PushResult {
    /// Number of datagrams that were queued. These are the first of the pushed datagrams.
    pub(super) admitted: usize,
    /// Number of datagrams dropped, and the reason.
    pub(super) dropped: Option<(BufferFull, usize)>,
}

/// Datagrams in the order of their due times.
pub(super) struct DelayLine {
    account: BufferAccount,
    entries: ByteFifo<ENTRY_CHUNK_LEN>,
    bytes: ByteFifo<PACKET_CHUNK_LEN>,
    packets: usize,
    /// The oldest entry, without the bytes that were already sent.
    front: Option<DelayLineEntry>,
    newest_due: Time,
    /// Due datagrams that exceed the limits of their address, by the time at which they may be sent. They are still charged. Equal times
    /// are ordered by a sequence number.
    postponed: BTreeMap<(Time, u64), Postponed>,
    next_postponed: u64,
}

/// Datagrams of one client that wait until the limits of its address admit them.
struct Postponed {
    /// `len` counts the datagrams that are not sent yet. They are the last ones of `contents`.
    entry: DelayLineEntry,
    contents: Box<[u8]>,
}

/// Due datagrams.
pub(super) struct DueTransmit<'a> {
    /// The datagrams.
    pub(super) transmit: Transmit<'a>,
    /// Due time of the first datagram.
    pub(super) due: Time,
    /// Whether the datagrams were postponed until now.
    pub(super) was_postponed: bool,
}

impl DelayLine {
    /// An empty line, which also charges its datagrams to `budget`. With `limit_loopback`, loopback sources have a share of the memory like
    /// other sources.
    pub(super) fn new(limits: BufferLimits, limit_loopback: bool, budget: Arc<MemoryBudget>) -> Self {
        let (entries, bytes) = (ByteFifo::default(), ByteFifo::default());
        Self {
            account: BufferAccount::new(limits, PACKET_OVERHEAD, limit_loopback, budget),
            entries,
            bytes,
            packets: 0,
            front: None,
            newest_due: Time::ZERO,
            postponed: BTreeMap::new(),
            next_postponed: 0,
        }
    }

    /// Memory charged for queued datagrams, in bytes.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.account.charged()
    }

    /// Number of queued datagrams.
    pub(super) fn len(&self) -> usize {
        self.packets
    }

    /// When the next datagram may be sent.
    pub(super) fn next_due(&self) -> Option<Time> {
        let postponed = self.postponed.first_key_value().map(|((at, _), _)| *at);
        self.front.map(|entry| entry.due).into_iter().chain(postponed).min()
    }

    /// Appends as many datagrams of one client as the limits permit. No datagram may be empty. If `due` is earlier than the last entry's
    /// due time, `due` is raised to that time. Timestamps from two receive queues can be out of order. Replies must be sent in order.
    pub(super) fn push(&mut self, due: Time, reply_path: ReplyPath, bytes: &[u8], segment_size: usize) -> PushResult {
        let count = bytes.len().div_ceil(segment_size);
        let (len, full) = self.account.charge(reply_path, bytes.len(), segment_size);
        let admitted = len.div_ceil(segment_size);
        let result = PushResult { admitted, dropped: full.map(|reason| (reason, count - admitted)) };
        if len == 0 {
            return result;
        }
        if self.bytes.reserve(len).and_then(|()| self.entries.reserve(ENTRY_LEN)).is_err() {
            self.account.release(reply_path.peer, len, admitted);
            return PushResult { admitted: 0, dropped: Some((BufferFull::OutOfMemory, count)) };
        }
        let due = if self.front.is_some() { due.max(self.newest_due) } else { due };
        let entry = DelayLineEntry { due, len, segment_size, reply_path };
        self.bytes.push(&bytes[..len]);
        match self.front {
            None => self.front = Some(entry),
            Some(_) => self.entries.push(&entry.to_bytes()),
        }
        self.newest_due = due;
        self.packets += admitted;
        result
    }

    /// The first datagrams that are due at `now`, if any. Consecutive datagrams of one client with the same length form a single transmit.
    /// The last datagram may be shorter. A transmit has at most `max_segments(length)` datagrams. Postponed datagrams come first.
    pub(super) fn peek_due(&mut self, now: Time, max_segments: impl Fn(usize) -> usize) -> Option<DueTransmit<'_>> {
        if let Some(((at, _), Postponed { entry, contents })) = self.postponed.first_key_value()
            && *at <= now
        {
            let DelayLineEntry { due, len, segment_size, reply_path } = *entry;
            let unsent = &contents[contents.len() - len..];
            let contents = &unsent[..len.min(max_segments(segment_size).max(1) * segment_size)];
            return Some(DueTransmit {
                transmit: reply_path.transmit(contents, segment_size),
                due,
                was_postponed: true,
            });
        }
        let front = self.front.filter(|entry| entry.due <= now)?;
        let segment_size = front.segment_size;
        let max_len = max_segments(segment_size).max(1) * segment_size;
        let contiguous = self.bytes.contiguous_len();
        let (mut len, mut offset) = (front.len, 0);
        while len < max_len.min(contiguous) && len % segment_size == 0 && offset < self.entries.len() {
            let next = self.entry_at(offset);
            // Only the last datagram of a segmented send may be shorter.
            let fits =
                next.segment_size == segment_size || (next.len < segment_size && next.segment_count(next.len) == 1);
            if next.due > now || next.reply_path != front.reply_path || !fits {
                break;
            }
            len += next.len;
            offset += ENTRY_LEN;
        }
        len = len.min(max_len);
        if len > contiguous {
            // Sends whole datagrams up to the chunk boundary. A datagram that crosses the boundary is sent alone, from the scratch buffer.
            len = (contiguous / segment_size * segment_size).max(segment_size.min(front.len));
        }
        let transmit = front.reply_path.transmit(self.bytes.peek(len), segment_size);
        Some(DueTransmit { transmit, due: front.due, was_postponed: false })
    }

    /// Removes `len` bytes, as returned by [`DelayLine::peek_due`].
    pub(super) fn consume(&mut self, len: usize, was_postponed: bool) {
        if !was_postponed {
            self.remove_front(len, true);
        } else if let Some(mut first) = self.postponed.first_entry() {
            let entry = &mut first.get_mut().entry;
            let (peer, packets) = (entry.reply_path.peer, entry.segment_count(len));
            entry.len -= len;
            if entry.len == 0 {
                first.remove();
            }
            self.account.release(peer, len, packets);
            self.packets -= packets;
        }
    }

    /// Postpones the oldest `len` bytes, as returned by [`DelayLine::peek_due`], until `at`. Their memory stays charged.
    pub(super) fn postpone(&mut self, len: usize, at: Time) {
        let Some(front) = self.front else { return };
        let contents = self.bytes.peek(len).into();
        self.remove_front(len, false);
        self.next_postponed += 1;
        self.postponed
            .insert((at, self.next_postponed), Postponed { entry: DelayLineEntry { len, ..front }, contents });
    }

    /// Removes the oldest `len` bytes from the queue.
    fn remove_front(&mut self, len: usize, releases: bool) {
        self.bytes.consume(len);
        let mut remaining = len;
        while let Some(entry) = self.front.as_mut().filter(|_| remaining > 0) {
            let part = entry.len.min(remaining);
            if releases {
                let packets = entry.segment_count(part);
                self.account.release(entry.reply_path.peer, part, packets);
                self.packets -= packets;
            }
            remaining -= part;
            entry.len -= part;
            if entry.len == 0 {
                self.front = (self.entries.len() > 0).then(|| self.entry_at(0));
                self.entries.consume(ENTRY_LEN.min(self.entries.len()));
            }
        }
    }

    fn entry_at(&self, offset: usize) -> DelayLineEntry {
        let mut bytes = [0; ENTRY_LEN];
        self.entries.copy_to(offset, &mut bytes);
        DelayLineEntry::from_bytes(&bytes)
    }
}

/// Bytes charged for a queued datagram in addition to its own bytes. This number is at least the size of the datagram's queue entry.
pub const PACKET_OVERHEAD: usize = 100;

/// Memory limits in bytes; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Limit for all clients together. One source address may hold at most as much as is free. Loopback sources may hold all of it.
    pub total: Option<u64>,
    /// Limit for one client (address and port). Therefore, one client cannot use up the memory for all clients.
    pub per_client: Option<u64>,
}

impl Default for BufferLimits {
    /// 160 MiB in total, which is half of the default memory budget, and 64 MiB per client.
    fn default() -> Self {
        Self { total: Some(DEFAULT_MEMORY_BUDGET / 2), per_client: Some(64 << 20) }
    }
}

/// Why a datagram was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BufferFull {
    /// The total limit is reached.
    Total,
    /// The limit of the client is reached.
    Client,
    /// The source address holds its share of the memory budget.
    MemoryBudget,
    /// Allocation failed.
    OutOfMemory,
}

/// Memory charged for queued datagrams.
pub(super) struct BufferAccount {
    per_client: Option<u64>,
    /// Bytes charged for each datagram in addition to its own bytes.
    packet_overhead: usize,
    /// Whether loopback sources have a share, like other sources.
    limit_loopback: bool,
    /// Bytes charged to each client; the key is a digest of the client's address. Clients with equal digests share a limit.
    /// `packet_overhead` includes the 17 bytes of one entry in this map. Therefore, a client with a single packet also pays for its entry.
    charged_by_client: HashMap<u64, u64>,
    /// The limit for all clients of this queue.
    total: u64,
    used: u64,
    by_source: HashMap<std::net::IpAddr, u64>,
    /// The memory of the process.
    memory: MemoryPermit,
}

impl BufferAccount {
    /// An empty account. Each datagram is charged `packet_overhead` bytes in addition to its own bytes.
    pub(super) fn new(
        limits: BufferLimits,
        packet_overhead: usize,
        limit_loopback: bool,
        budget: Arc<MemoryBudget>,
    ) -> Self {
        let memory = budget.open(None, 0).expect("0 bytes are never refused").hold(0);
        let total = limits.total.unwrap_or(u64::MAX);
        let (charged_by_client, by_source) = (HashMap::new(), HashMap::new());
        Self {
            per_client: limits.per_client,
            packet_overhead,
            limit_loopback,
            charged_by_client,
            total,
            used: 0,
            by_source,
            memory,
        }
    }

    /// Total bytes charged.
    pub(super) fn charged(&self) -> u64 {
        self.used
    }

    /// Splits `len` bytes into datagrams of `segment_size` bytes. Charges as many datagrams as the limits permit. Returns the number of
    /// charged datagram bytes. If not all bytes were charged, also returns the limit that was reached.
    pub(super) fn charge(&mut self, path: ReplyPath, len: usize, segment_size: usize) -> (usize, Option<BufferFull>) {
        let ReplyPath { peer, src_ip } = path;
        let is_exempt = !self.limit_loopback && is_loopback_to_loopback(peer.ip(), src_ip);
        let client = client_digest(peer);
        let charged = self.charged_by_client.get(&client).copied().unwrap_or(0);
        let (cost, one) = (self.cost(len, len.div_ceil(segment_size)), self.cost(segment_size, 1));
        let free = self.per_client.map_or(u64::MAX, |limit| limit.saturating_sub(charged));
        let source = peer.ip();
        let of_source = self.by_source.get(&source).copied().unwrap_or(0);
        let share = if is_exempt { u64::MAX } else { (self.total / 2).saturating_sub(of_source) };
        let limits = [
            (free, BufferFull::Client),
            (share.min(self.total.saturating_sub(self.used)), BufferFull::Total),
            (self.memory.available(), BufferFull::MemoryBudget),
        ];
        let lowest = limits.into_iter().min_by_key(|(free, _)| *free).unwrap_or((0, BufferFull::Total));
        let (count, reason) = if cost <= lowest.0 {
            (0, None)
        } else {
            ((lowest.0 / one).min((len / segment_size) as u64), Some(lowest.1))
        };
        let cost = if reason.is_none() { cost } else { count * one };
        if cost == 0 || self.memory.resize(self.used + cost).is_err() {
            return (0, reason.or(Some(BufferFull::MemoryBudget)));
        }
        self.used += cost;
        *self.by_source.entry(source).or_default() += cost;
        *self.charged_by_client.entry(client).or_default() += cost;
        (if reason.is_none() { len } else { count as usize * segment_size }, reason)
    }

    /// Releases the charge of `packets` datagrams of `bytes` bytes in total.
    pub(super) fn release(&mut self, peer: SocketAddr, bytes: usize, packets: usize) {
        let cost = self.cost(bytes, packets);
        self.used -= cost;
        let _ = self.memory.resize(self.used);
        if let Some(held) = self.by_source.get_mut(&peer.ip()) {
            *held -= cost;
            if *held == 0 {
                self.by_source.remove(&peer.ip());
            }
        }
        let client = client_digest(peer);
        if let Some(charged) = self.charged_by_client.get_mut(&client) {
            *charged -= cost;
            if *charged == 0 {
                self.charged_by_client.remove(&client);
                // Frees the memory of a table that had many clients.
                if self.charged_by_client.is_empty() && self.charged_by_client.capacity() > 1024 {
                    self.charged_by_client = HashMap::new();
                }
            }
        }
    }

    fn cost(&self, bytes: usize, packets: usize) -> u64 {
        (bytes + packets * self.packet_overhead) as u64
    }
}

fn client_digest(peer: SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    peer.hash(&mut hasher);
    hasher.finish()
}

/// Length of a stored [`ReplyPath`] in bytes.
const REPLY_PATH_LEN: usize = 40;

const FAMILY_IPV4: u8 = 4;
const FAMILY_IPV6: u8 = 6;
const FAMILY_NONE: u8 = 0;

/// Destination and source address of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyPath {
    /// The client.
    pub(super) peer: SocketAddr,
    /// The local address at which the request arrived, if the system reports it.
    pub(super) src_ip: Option<IpAddr>,
}

impl ReplyPath {
    /// The path back to the source of `received`, from the address at which `received` arrived.
    pub(super) fn of(received: &Receive<'_>) -> Self {
        Self { peer: received.source, src_ip: received.dst_ip }
    }

    /// Datagrams of `segment_size` bytes to the client.
    fn transmit(self, contents: &[u8], segment_size: usize) -> Transmit<'_> {
        Transmit { destination: self.peer, src_ip: self.src_ip, contents, segment_size }
    }

    /// The stored form: client (family, address, port, scope), local address (family, address).
    fn to_bytes(self) -> [u8; REPLY_PATH_LEN] {
        let mut bytes = [0; REPLY_PATH_LEN];
        encode_ip(&mut bytes[..17], Some(self.peer.ip()));
        bytes[17..19].copy_from_slice(&self.peer.port().to_le_bytes());
        if let SocketAddr::V6(peer) = self.peer {
            bytes[19..23].copy_from_slice(&peer.scope_id().to_le_bytes());
        }
        encode_ip(&mut bytes[23..], self.src_ip);
        bytes
    }

    /// The inverse of [`ReplyPath::to_bytes`].
    fn from_bytes(bytes: &[u8; REPLY_PATH_LEN]) -> Self {
        let port = u16::from_le_bytes([bytes[17], bytes[18]]);
        let scope = u32::from_le_bytes([bytes[19], bytes[20], bytes[21], bytes[22]]);
        let peer = match decode_ip(&bytes[..17]) {
            Some(IpAddr::V6(ip)) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
            Some(IpAddr::V4(ip)) => SocketAddr::new(ip.into(), port),
            None => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        };
        Self { peer, src_ip: decode_ip(&bytes[23..]) }
    }
}

fn encode_ip(bytes: &mut [u8], ip: Option<IpAddr>) {
    match ip {
        Some(IpAddr::V4(ip)) => {
            bytes[0] = FAMILY_IPV4;
            bytes[1..5].copy_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            bytes[0] = FAMILY_IPV6;
            bytes[1..17].copy_from_slice(&ip.octets());
        }
        None => bytes[0] = FAMILY_NONE,
    }
}

fn decode_ip(bytes: &[u8]) -> Option<IpAddr> {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[1..17]);
    match bytes[0] {
        FAMILY_IPV4 => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
        FAMILY_IPV6 => Some(Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_path_round_trips_through_its_bytes() {
        let scoped = SocketAddrV6::new("fe80::1".parse().expect("an address"), 5000, 0, 3).into();
        let peers: [SocketAddr; 4] = [
            "1.2.3.4:5000".parse().expect("an address"),
            "[::ffff:1.2.3.4]:65535".parse().expect("an address"),
            "[2001:db8::7]:1".parse().expect("an address"),
            scoped,
        ];
        for peer in peers {
            for src_ip in [None, Some(IpAddr::from([127, 0, 0, 2])), Some("2001:db8::8".parse().expect("an address"))] {
                let reply_path = ReplyPath { peer, src_ip };
                assert_eq!(ReplyPath::from_bytes(&reply_path.to_bytes()), reply_path);
            }
        }
    }
}
