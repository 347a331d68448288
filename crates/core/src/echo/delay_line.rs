//! The delay line: the queue of all replies, ordered by the time at which each may leave.
//!
//! Replies to one client that are stored one after the other and due together leave as one segmented send, without a copy. Impaired replies
//! leave it for the impaired network.

use super::impaired_replies::ImpairedReplies;
use super::observer::DropReason;
use super::reply_exit::ReplyExit;
use super::reply_memory::{PushResult, ReplyMemory};
use super::reply_store::{IMPAIRED, NewReplies, OrderedReplies, QueuedReply, Reply, ReplyClass, ReplyPath};
use crate::datagram_store::DatagramStore;
use crate::node::TransmitSink;
use crate::outcome::Outcome;
use crate::time::Time;
use crate::transit::Exit;

#[derive(Default)]
pub(super) struct DelayLine {
    queued: OrderedReplies,
    /// The bytes of each class. In a common store, an AUDIO packet with a long delay could keep a chunk of immediate replies that have left.
    stores: [DatagramStore; 2],
    /// When the last AUDIO is due. Receive timestamps of two receive queues can be out of order. Replies are sent in order.
    last_due: Time,
}

impl DelayLine {
    /// When the next reply may leave.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.queued.peek().map(|queued| queued.send_at.max(queued.reply.due))
    }

    /// Queues as many replies as the limits permit.
    pub(super) fn push(&mut self, path: ReplyPath, new: NewReplies<'_>, memory: &mut ReplyMemory) -> PushResult {
        let NewReplies { class, received_at, delay, is_impaired, contents, segment_size } = new;
        let is_audio = class == ReplyClass::Audio;
        let mut due = received_at + delay;
        // What enters the impaired network is put in order there.
        if is_audio && !is_impaired && memory.datagrams[class as usize] > 0 {
            due = due.max(self.last_due);
        }
        let send_at = if is_audio || is_impaired { due } else { Time::ZERO };
        let (len, segment_size) = (contents.len() as u32, segment_size as u16);
        let marks = if is_impaired { IMPAIRED } else { 0 };
        let mut reply = Reply { due, path, len, segment_size, class, marks };
        let mut result = memory.charge(&reply);
        let accepted = result.map_or_else(|(accepted, _)| accepted, |()| reply.segment_count());
        let mut rest = &contents[..contents.len().min(accepted * reply.segment_size())];
        while !rest.is_empty() {
            let Ok((position, len)) = self.stores[class as usize].push(rest, reply.segment_size()) else {
                reply.len = rest.len() as u32;
                memory.release(&reply);
                result = Err((accepted - reply.segment_count(), DropReason::OutOfMemory));
                break;
            };
            if is_audio {
                self.last_due = due;
            }
            reply.len = len as u32;
            self.queued.push(QueuedReply { send_at, position, reply });
            rest = &rest[len..];
        }
        result
    }

    /// When the first reply leaves: in the past if it precedes AUDIO that is late.
    pub(super) fn first_at(&self) -> Option<Time> {
        self.queued.peek().map(|queued| queued.send_at)
    }

    /// Lets the first reply leave if it is due: an impaired one for the impaired network, and others with those that may leave in the same
    /// segmented send. `None` if none is due.
    pub(super) fn send_next(
        &mut self,
        sink: &mut dyn TransmitSink,
        exit: &mut ReplyExit<'_>,
        impaired: Option<&mut ImpairedReplies>,
        sends_singly: bool,
    ) -> Option<Exit> {
        let mut queued = self.pop_due(exit.now, |len| if sends_singly { 1 } else { sink.max_segments(len) })?;
        let QueuedReply { position, reply, .. } = &mut queued;
        let store = &mut self.stores[reply.class as usize];
        let datagrams = store.get_mut(*position, reply.len());
        if let Some(impaired) = impaired.filter(|_| reply.is(IMPAIRED)) {
            impaired.enter(reply, datagrams, exit);
            store.remove(*position, reply.len());
            return Some(Exit::Later(reply.due));
        }
        let left = exit.send(reply, datagrams, sink);
        match left {
            Exit::Left(_) => {
                store.remove(*position, reply.len());
                exit.memory.release(reply);
            }
            Exit::Later(send_at) => self.queued.push(QueuedReply { send_at, ..queued }),
            Exit::Refused(_) => self.queued.push(queued),
        }
        Some(left)
    }

    /// Reports all replies that were to be impaired, at the end.
    pub(super) fn drop_all(mut self, impaired: &mut ImpairedReplies) {
        while let Some(QueuedReply { position, reply, .. }) = self.queued.pop() {
            let datagrams = self.stores[reply.class as usize].get(position, reply.len());
            let datagrams = datagrams.chunks(reply.segment_size()).filter(|_| reply.is(IMPAIRED));
            impaired.report(reply.due, reply.path.peer, datagrams, Outcome::DroppedAtStop);
        }
    }

    /// Removes the first reply if it is due, with the replies that may leave in the same segmented send.
    fn pop_due(&mut self, now: Time, max_segments: impl Fn(usize) -> usize) -> Option<QueuedReply> {
        let mut first = *self.queued.peek().filter(|first| first.send_at <= now)?;
        self.queued.pop();
        let segment_size = first.reply.segment_size();
        let max_len = (max_segments(segment_size).max(1) * segment_size) as u32;
        if first.reply.len > max_len {
            let reply = Reply { len: first.reply.len - max_len, ..first.reply };
            self.queued.push(QueuedReply { position: first.position + u64::from(max_len), reply, ..first });
            first.reply.len = max_len;
        }
        while let Some(next) = self.queued.peek()
            && next.send_at <= now
            && first.reply.len + next.reply.len <= max_len
            && first.is_followed_by(next)
            && DatagramStore::is_contiguous(first.position, first.reply.len(), next.position)
        {
            first.reply.len += next.reply.len;
            self.queued.pop();
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::reply_memory::PACKET_OVERHEAD;
    use super::*;
    use crate::echo::{EchoConfig, EchoServer};
    use crate::node::{Node, SendStatus, Transmit};

    struct Accepting;

    impl TransmitSink for Accepting {
        fn send(&mut self, _: Transmit<'_>) -> SendStatus {
            SendStatus::Sent
        }
    }

    #[test]
    fn delayed_audio_keeps_no_memory_of_sent_immediate_replies() {
        let mut server = EchoServer::new(EchoConfig::default());
        let peer = SocketAddr::from(([127, 0, 0, 1], 5_000));
        let path = ReplyPath { peer, src_ip: None, is_limited: false, network: 0, keys: None };
        let (long, short) = (vec![0; 60_000], [0; 12]);
        for millis in 0..100 {
            let received_at = Time::from_millis(millis);
            let mut push = |class, delay, contents: &[u8]| {
                let segment_size = contents.len();
                let new = NewReplies { class, received_at, delay, is_impaired: false, contents, segment_size };
                server.line.push(path, new, &mut server.memory)
            };
            assert_eq!(push(ReplyClass::Audio, Duration::from_secs(3_600), &short), Ok(()));
            (0..4).for_each(|_| assert_eq!(push(ReplyClass::Immediate, Duration::ZERO, &long), Ok(())));
            server.poll_transmit(received_at, &mut Accepting);
        }
        assert_eq!(server.memory.datagrams, [100, 0]);
        let allocated: usize = server.line.stores.iter().map(DatagramStore::allocated).sum();
        assert!(allocated <= 4 << 20, "{allocated}");
    }

    #[test]
    fn overhead_covers_the_memory_of_a_queued_reply() {
        assert!(size_of::<QueuedReply>() <= PACKET_OVERHEAD);
    }
}
