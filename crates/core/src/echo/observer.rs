//! What each source sends, for those who judge, record or capture it.

use std::net::{IpAddr, SocketAddr};

use crate::link::SealMistake;
use crate::time::Time;

/// Why the server returns no reply to a datagram of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// Shorter than a header.
    Short,
    /// A version other than 1.
    Version,
    /// An unknown type.
    Type,
    /// An invalid payload for the type.
    Payload,
    /// A malformed STUN request.
    Stun,
    /// Repeated too often, or a KEEPALIVE of an echo server.
    Repeated,
    /// Above the packet rate of the address.
    PacketRate,
    /// Above the bit rate of the address.
    BitRate,
    /// CONTROL that is no valid key exchange.
    KeyExchange,
    /// Too many key exchanges or sessions.
    KeyRate,
    /// Plain on an encrypted link, or plain AUDIO where a link is required.
    Plain,
    /// Sealed, but the source has no keys.
    NoKeys,
    /// Sealed with a counter that was received before or is too old.
    Replayed,
    /// Sealed, but does not open with the keys of the source.
    NotOpened,
    /// The memory limit for all clients is reached.
    BufferFull,
    /// The memory limit for one client is reached.
    ClientBufferFull,
    /// Too many immediate replies are queued.
    ReplyBufferFull,
    /// The share of the address in the memory budget is used.
    MemoryBudget,
    /// Memory allocation failed.
    OutOfMemory,
}

impl DropReason {
    /// All reasons with the names of their counters and a sentence for the log. A malformed datagram has a more precise one.
    pub const ALL: [(Self, &'static str, &'static str); 19] = [
        (Self::Short, "dropped_short", "malformed"),
        (Self::Version, "dropped_version", "malformed"),
        (Self::Type, "dropped_type", "malformed"),
        (Self::Payload, "dropped_payload", "malformed"),
        (Self::Stun, "dropped_stun", "malformed"),
        (Self::Repeated, "dropped_repeated", "repeated too often, or from an echo server"),
        (Self::PacketRate, "dropped_packet_rate", "the address exceeds its packet rate"),
        (Self::BitRate, "dropped_bit_rate", "the address exceeds its bit rate"),
        (Self::KeyExchange, "dropped_key_exchange", "CONTROL is not a valid key exchange"),
        (Self::KeyRate, "dropped_key_rate", "too many key exchanges or links"),
        (Self::Plain, "dropped_plain", "plain packet on an encrypted link"),
        (Self::NoKeys, "dropped_no_keys", "sealed packet without keys"),
        (Self::Replayed, "dropped_replayed", "counter of a sealed packet repeated or too old"),
        (Self::NotOpened, "dropped_not_opened", "sealed packet does not open"),
        (Self::BufferFull, "dropped_buffer_full", "buffer full"),
        (Self::ClientBufferFull, "dropped_client_buffer_full", "the client's share of the buffer is full"),
        (Self::ReplyBufferFull, "dropped_reply_buffer_full", "too many replies are queued"),
        (Self::MemoryBudget, "dropped_memory_budget", "the memory budget is used up"),
        (Self::OutOfMemory, "dropped_out_of_memory", "out of memory"),
    ];

    /// The name in logs, and as the label `reason` of the metric `jamjam_echo_dropped_total`.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1.split_at("dropped_".len()).1
    }

    pub(super) const fn sentence(self) -> &'static str {
        Self::ALL[self as usize].2
    }

    /// Whether the datagram is neither a packet nor a STUN message.
    pub(super) const fn is_malformed(self) -> bool {
        matches!(self, Self::Short | Self::Version | Self::Type | Self::Payload | Self::Stun)
    }
}

/// A datagram of a source.
#[derive(Clone, Copy, Debug)]
pub struct ObservedDatagram<'a> {
    /// When it was received.
    pub at: Time,
    /// The source, as received.
    pub source: SocketAddr,
    /// The local address at which it arrived, if the system reports it.
    pub dst_ip: Option<IpAddr>,
    /// The bytes. Of a sealed packet that was opened, the header and the opened payload.
    pub bytes: &'a [u8],
    /// Its counter, if it was sealed and has been opened. A client counts all packets of a link from 0.
    pub counter: Option<u64>,
    /// Why the server drops it; `None` if it is handled.
    pub drop_reason: Option<DropReason>,
    /// Why it does not open, if that is known. Only a few datagrams of a link are examined.
    pub mistake: Option<SealMistake>,
}

/// Receives every datagram of an allowed source.
pub(super) type SourceObserver = Box<dyn FnMut(ObservedDatagram<'_>) + Send>;
