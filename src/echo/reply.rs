//! A reply: where it goes, when it may be sent, and where its bytes are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::node::Transmit;
use crate::time::Time;
use crate::wire;

/// The way back to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReplyPath {
    /// The client.
    pub(super) peer: SocketAddr,
    /// The local address at which the request arrived, if the system reports it.
    pub(super) src_ip: Option<IpAddr>,
    /// Whether limits apply. Datagrams from loopback to loopback may be exempt, because other hosts cannot send them.
    pub(super) is_limited: bool,
    /// Part of the keyed digest of the source's network ([`source_network`]). Networks with equal digests share their limits.
    pub(super) network: u32,
}

impl ReplyPath {
    /// Total length of these datagrams in bytes, with IP and UDP headers.
    pub(super) fn ip_len(self, datagrams: &Transmit<'_>) -> usize {
        datagrams.contents.len() + datagrams.segment_count() * wire::ip_udp_header_len(self.peer.ip())
    }
}

/// Class of a reply. Each class has its own buffer limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ReplyClass {
    /// The echo of AUDIO.
    Audio,
    /// A reply to KEEPALIVE, LATENCY_PING or STUN.
    Immediate,
}

/// Replies to one source, to be queued.
#[derive(Clone, Copy)]
pub(super) struct NewReplies<'a> {
    pub(super) class: ReplyClass,
    /// When the answered datagrams arrived.
    pub(super) received_at: Time,
    /// Time from the arrival to the reply, without impairment.
    pub(super) delay: Duration,
    /// One or more datagrams, none of them empty.
    pub(super) contents: &'a [u8],
    /// Length of each datagram; the last may be shorter.
    pub(super) segment_size: usize,
}

/// The class of a queued reply, and its position in the store of this class.
pub(super) type ReplyKey = (ReplyClass, u64);

/// One or more queued datagrams of one client. Each has `segment_size` bytes, but the last may be shorter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueuedReply {
    /// When the datagrams may be sent. Later than `due` if they exceeded the limits of their address when they were due. They then already
    /// count towards these limits. Immediate replies that are not impaired have [`Time::ZERO`], so that they precede AUDIO that is late.
    pub(super) at: Time,
    /// Position of the bytes in the store of the class, which increases with each stored datagram.
    pub(super) position: u64,
    pub(super) due: Time,
    pub(super) path: ReplyPath,
    pub(super) len: u32,
    pub(super) segment_size: u16,
    pub(super) class: ReplyClass,
}

impl QueuedReply {
    /// Identifies the reply while its bytes are stored.
    pub(super) fn key(&self) -> ReplyKey {
        (self.class, self.position)
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn segment_size(&self) -> usize {
        self.segment_size.into()
    }

    pub(super) fn was_postponed(&self) -> bool {
        self.at > self.due
    }

    pub(super) fn segment_count(&self) -> usize {
        self.len().div_ceil(self.segment_size())
    }

    /// Whether `next` can extend the segmented send of this reply, provided that their bytes are contiguous.
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
        // Only the last datagram of a segmented send may be shorter.
        let fits = next.segment_size == self.segment_size
            || (next.len < u32::from(self.segment_size) && next.len <= u32::from(next.segment_size));
        fits && self.len() % self.segment_size() == 0
            && (self.class, self.path, self.was_postponed()) == (next.class, next.path, next.was_postponed())
    }
}
