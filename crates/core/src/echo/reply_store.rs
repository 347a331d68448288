//! A queued reply, and the order of all replies.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::link::KeyId;
use crate::node::Transmit;
use crate::time::Time;
use crate::wire;

/// The way back to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplyPath {
    /// The client.
    pub(crate) peer: SocketAddr,
    /// The local address at which the request arrived, if the system reports it.
    pub(crate) src_ip: Option<IpAddr>,
    /// Whether limits apply. Datagrams from loopback to loopback may be exempt, because other hosts cannot send them.
    pub(crate) is_limited: bool,
    /// Part of the keyed digest of the source's network ([`source_network`]). Networks with equal digests share their limits.
    pub(crate) network: u32,
    /// The keys that seal the replies. The stored bytes are then laid out like an opened datagram.
    pub(crate) keys: Option<KeyId>,
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
    /// Whether the impaired network follows.
    pub(super) is_impaired: bool,
    /// One or more datagrams, none of them empty.
    pub(super) contents: &'a [u8],
    /// Length of each datagram; the last may be shorter.
    pub(super) segment_size: usize,
}

/// The impaired network follows the delay line.
pub(super) const IMPAIRED: u8 = 1;

/// The datagrams exceeded the limits of their address when they were due. They wait, and already count towards these limits.
pub(super) const POSTPONED: u8 = 2;

/// The datagrams are sealed, as they are when they first leave: sealed before their delay, their counters would be too old on arrival.
pub(super) const SEALED: u8 = 4;

/// One or more datagrams of one client. Each has `segment_size` bytes, but the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reply {
    /// When the first of them is due.
    pub(super) due: Time,
    pub(super) path: ReplyPath,
    /// Length of all datagrams.
    pub(super) len: u32,
    pub(super) segment_size: u16,
    pub(super) class: ReplyClass,
    /// [`IMPAIRED`], [`POSTPONED`] and [`SEALED`], in one byte because many replies wait.
    pub(super) marks: u8,
}

impl Reply {
    pub(super) fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn segment_size(&self) -> usize {
        self.segment_size.into()
    }

    pub(super) fn segment_count(&self) -> usize {
        self.len().div_ceil(self.segment_size())
    }
}

/// A reply in the delay line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueuedReply {
    /// When the datagrams may leave the delay line. Immediate replies that are not impaired have [`Time::ZERO`], so that they precede AUDIO
    /// that is late.
    pub(super) send_at: Time,
    /// Position of the bytes in the store of the class, which increases with each stored datagram.
    pub(super) position: u64,
    pub(super) reply: Reply,
}

impl QueuedReply {
    /// Whether `next` can extend the segmented send of this reply, provided that their bytes are contiguous. Impaired replies keep their times.
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
        let (one, next) = (&self.reply, &next.reply);
        // Only the last datagram of a segmented send may be shorter.
        let fits = next.segment_size == one.segment_size
            || (next.len < u32::from(one.segment_size) && next.len <= u32::from(next.segment_size));
        fits && !one.is(IMPAIRED)
            && one.len().is_multiple_of(one.segment_size())
            && (one.class, one.path, one.marks) == (next.class, next.path, next.marks)
    }
}

/// Number of replies in a block. Blocks are so large that their memory returns to the system at once.
const BLOCK_LEN: usize = 2_048;

/// Queued replies in the order in which they may be sent. With a constant delay, nearly all replies arrive in this order.
#[derive(Default)]
pub(super) struct OrderedReplies {
    /// Replies that were pushed in order. Blocks have a fixed length, so that growing copies nothing. Only a single block may be empty.
    in_order: VecDeque<VecDeque<QueuedReply>>,
    /// An empty block, kept so that a steady stream allocates nothing.
    spare: VecDeque<QueuedReply>,
    others: BinaryHeap<Reverse<QueuedReply>>,
}

impl OrderedReplies {
    pub(super) fn push(&mut self, reply: QueuedReply) {
        let last = self.in_order.back();
        if last.and_then(VecDeque::back).is_some_and(|last| reply < *last) {
            self.others.push(Reverse(reply));
            return;
        }
        if last.is_none_or(|block| block.len() == BLOCK_LEN) {
            let mut block = std::mem::take(&mut self.spare);
            block.reserve_exact(BLOCK_LEN);
            self.in_order.push_back(block);
        }
        if let Some(block) = self.in_order.back_mut() {
            block.push_back(reply);
        }
    }

    /// The first reply.
    pub(super) fn peek(&self) -> Option<&QueuedReply> {
        let others = self.others.peek().map(|Reverse(reply)| reply);
        self.in_order.front().and_then(VecDeque::front).into_iter().chain(others).min()
    }

    /// Removes the first reply.
    pub(super) fn pop(&mut self) -> Option<QueuedReply> {
        let first = *self.peek()?;
        if self.others.peek().is_some_and(|Reverse(other)| *other == first) {
            let capacity = self.others.capacity();
            if capacity > BLOCK_LEN && self.others.len() < capacity / 4 {
                self.others.shrink_to(capacity / 2);
            }
            return self.others.pop().map(|Reverse(reply)| reply);
        }
        let block = self.in_order.front_mut()?;
        block.pop_front();
        if block.is_empty() && self.in_order.len() > 1 {
            self.spare = self.in_order.pop_front().unwrap_or_default();
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn replies_leave_in_the_order_of_their_times(
            steps in prop::collection::vec((0u64..100, prop::collection::vec(0u64..5_000, 0..1_500), 0usize..1_500), 1..12),
        ) {
            let path = ReplyPath { peer: ([192, 0, 2, 1], 1).into(), src_ip: None, is_limited: true, network: 0, keys: None };
            let (mut replies, mut model) = (OrderedReplies::default(), std::collections::BTreeSet::new());
            let (mut now, mut position) = (0, 0);
            for (passed, early, popped) in steps {
                for early in early {
                    // Most replies arrive in order.
                    now += passed;
                    position += 1;
                    let send_at = Time::from_nanos(now + 5_000 - if early % 4 == 0 { early } else { 0 });
                    let class = ReplyClass::Audio;
                    let reply = Reply { due: send_at, path, len: 12, segment_size: 12, class, marks: 0 };
                    replies.push(QueuedReply { send_at, position, reply });
                    model.insert((send_at, position));
                }
                for _ in 0..popped {
                    let first = replies.pop().map(|reply| (reply.send_at, reply.position));
                    prop_assert_eq!(first, model.pop_first());
                }
            }
            prop_assert!(replies.in_order.len() * BLOCK_LEN <= 2 * BLOCK_LEN + model.len());
        }
    }
}
