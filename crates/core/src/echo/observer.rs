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
    /// All reasons with their names, which are those of the label `reason` of the metric `jamjam_echo_dropped_total`.
    pub const ALL: [(Self, &'static str); 19] = [
        (Self::Short, "short"),
        (Self::Version, "version"),
        (Self::Type, "type"),
        (Self::Payload, "payload"),
        (Self::Stun, "stun"),
        (Self::Repeated, "repeated"),
        (Self::PacketRate, "packet_rate"),
        (Self::BitRate, "bit_rate"),
        (Self::KeyExchange, "key_exchange"),
        (Self::KeyRate, "key_rate"),
        (Self::Plain, "plain"),
        (Self::NoKeys, "no_keys"),
        (Self::Replayed, "replayed"),
        (Self::NotOpened, "not_opened"),
        (Self::BufferFull, "buffer_full"),
        (Self::ClientBufferFull, "client_buffer_full"),
        (Self::ReplyBufferFull, "reply_buffer_full"),
        (Self::MemoryBudget, "memory_budget"),
        (Self::OutOfMemory, "out_of_memory"),
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
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

/// Receives every datagram of an allowed source, on the node's thread. It must not block.
pub trait SourceObserver: Send {
    /// A datagram was received.
    fn on_datagram(&mut self, datagram: ObservedDatagram<'_>);
}

impl SourceObserver for Vec<Box<dyn SourceObserver>> {
    fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        for observer in self {
            observer.on_datagram(datagram);
        }
    }
}
