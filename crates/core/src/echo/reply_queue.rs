//! The queue of all replies, ordered by the time at which each may be sent.
//!
//! Replies to one client that are stored one after the other and due together leave as one segmented send, without a copy.

use std::sync::Arc;

use super::admission::Admission;
use super::counters::Counters;
use super::impaired_replies::{ImpairedReplies, PassingReply, event};
use super::links::Links;
use super::log_events;
use super::observer::DropReason;
use super::reply_memory::{ReplyMemory, cost};
use super::reply_store::{NewReplies, OrderedReplies, QueuedReply, ReplyClass, ReplyPath, ReplyState};
use super::sources::SourceTable;
use crate::datagram_store::DatagramStore;
use crate::node::{MAX_SENDS_PER_POLL, SendStatus, Transmit, TransmitSink};
use crate::outcome::Outcome;
use crate::path::Path;
use crate::time::Time;

/// If not all datagrams are queued: the number of those that are, which are the first, and the reason to drop the others.
pub(super) type PushResult = Result<(), (usize, DropReason)>;

pub(super) struct ReplyQueue {
    queued: OrderedReplies,
    /// The bytes of each class. In a common store, an AUDIO packet with a long delay could keep a chunk of immediate replies that have left.
    stores: [DatagramStore; 2],
    pub(super) memory: ReplyMemory,
    /// Number of queued AUDIO packets.
    pub(super) queued_audio: usize,
    /// When the last AUDIO is due. Receive timestamps of two receive queues can be out of order. Replies are sent in order.
    last_due: Time,
    /// Present if replies are impaired or observed. Then, each datagram must be pushed separately.
    pub(super) impaired: Option<ImpairedReplies>,
    /// The encrypted links, if they are enabled. They seal replies that leave.
    pub(super) links: Option<Links>,
    counters: Arc<Counters>,
}

impl ReplyQueue {
    pub(super) fn new(memory: ReplyMemory, counters: Arc<Counters>) -> Self {
        Self {
            queued: OrderedReplies::default(),
            stores: Default::default(),
            memory,
            queued_audio: 0,
            last_due: Time::ZERO,
            impaired: None,
            links: None,
            counters,
        }
    }

    /// When the next reply may be sent.
    pub(super) fn next_due(&self) -> Option<Time> {
        let passing = self.impaired.as_ref().and_then(|impaired| impaired.path.next_due());
        self.queued.peek().map(|reply| reply.send_at.max(reply.due)).into_iter().chain(passing).min()
    }

    /// Queues as many replies as the limits permit. If they are to be impaired, `new` is a single datagram.
    pub(super) fn push(&mut self, path: ReplyPath, new: NewReplies<'_>, is_impaired: bool) -> PushResult {
        let NewReplies { class, contents, segment_size, received_at, delay } = new;
        let count = contents.len().div_ceil(segment_size);
        let is_audio = class == ReplyClass::Audio;
        let mut due = received_at + delay;
        let is_impaired = is_impaired && self.impaired.is_some();
        if let Some(impaired) = self.impaired.as_mut().filter(|_| is_audio) {
            impaired.started.get_or_insert(received_at);
        } else if is_audio && self.queued_audio > 0 {
            due = due.max(self.last_due);
        }
        let state = if is_impaired { ReplyState::Impaired } else { ReplyState::Open };
        let send_at = if is_audio || is_impaired { due } else { Time::ZERO };
        let price = |bytes: usize, packets: usize| cost(bytes, packets, is_impaired);
        let (all, one) = (price(contents.len(), count), price(segment_size, 1));
        let mut result =
            self.memory.charge(path, class, all, one).map_err(|(bytes, reason)| ((bytes / one) as usize, reason));
        let accepted = result.map_or_else(|(accepted, _)| accepted, |()| count);
        let mut rest = &contents[..contents.len().min(accepted * segment_size)];
        while !rest.is_empty() {
            let Ok((position, len)) = self.stores[class as usize].push(rest, segment_size) else {
                let packets = rest.len().div_ceil(segment_size);
                self.memory.release(path, class, price(rest.len(), packets));
                result = Err((accepted - packets, DropReason::OutOfMemory));
                break;
            };
            if is_audio {
                self.queued_audio += len.div_ceil(segment_size);
                self.last_due = due;
            }
            let (len, segment_size) = (len as u32, segment_size as u16);
            self.queued.push(QueuedReply { send_at, position, due, path, len, segment_size, class, state });
            rest = &rest[len as usize..];
        }
        if let (Err(_), Some(impaired)) = (result, self.impaired.as_mut().filter(|_| is_impaired)) {
            impaired.report(&event(received_at, path.peer, contents, Outcome::Dropped));
        }
        result
    }

    /// Sends what is due, at most [`MAX_SENDS_PER_POLL`] times. Returns false if the socket accepts no more.
    pub(super) fn send_due(
        &mut self,
        now: Time,
        sink: &mut dyn TransmitSink,
        admission: &mut Admission,
        sources: &mut SourceTable,
    ) -> bool {
        let mut send_singly = false;
        for _ in 0..MAX_SENDS_PER_POLL {
            let max_segments = |len| if send_singly { 1 } else { sink.max_segments(len) };
            let Some((mut reply, passing)) = self.pop_due(now, admission, max_segments) else { break };
            if self.links.as_mut().is_some_and(|links| !links.permits(now, &reply)) {
                self.counters.dropped_old_link.add(reply.segment_count());
                self.on_left(reply, passing, Outcome::OldLink);
                continue;
            }
            let QueuedReply { path, class, .. } = reply;
            let transmit = transmit(&self.stores, &reply);
            let is_uncharged = class == ReplyClass::Audio && !reply.was_postponed();
            if is_uncharged
                && let send_at = admission.rate_limiter.send_time(now, path, &transmit)
                && send_at > now
            {
                admission.on_postponed(now, send_at, path, &transmit);
                self.put_back(QueuedReply { send_at, ..reply }, passing);
                continue;
            }
            if let Some(links) = &mut self.links {
                let datagrams = self.stores[class as usize].get_mut(reply.position, reply.len());
                links.seal(&mut reply, datagrams);
            }
            let transmit = self::transmit(&self.stores, &reply);
            let status = sink.send(transmit);
            match status {
                SendStatus::Sent => {
                    if is_uncharged {
                        admission.rate_limiter.charge_sent(now, path, &transmit);
                    }
                    self.record_sent(now, &reply, &transmit);
                    if class == ReplyClass::Audio {
                        sources.on_echoed(path.peer, transmit.segment_count());
                    }
                }
                SendStatus::Failed => self.counters.send_failed.add(transmit.segment_count()),
                SendStatus::WouldBlock => {
                    self.put_back(reply, passing);
                    return false;
                }
                SendStatus::GsoUnsupported => {
                    send_singly = true;
                    self.put_back(reply, passing);
                    continue;
                }
            }
            let is_sent = status == SendStatus::Sent;
            self.on_left(reply, passing, if is_sent { Outcome::Sent } else { Outcome::SendFailed });
        }
        true
    }

    /// Drops all queued replies. Returns the number of dropped replies.
    pub(super) fn stop(mut self) -> usize {
        let mut count = 0;
        let path = self.impaired.as_mut().map(|impaired| std::mem::take(&mut impaired.path));
        for passing in path.into_iter().flat_map(Path::into_rest) {
            count += 1;
            self.finish(&passing.token, Some(&passing), Outcome::DroppedAtStop);
        }
        while let Some(reply) = self.queued.pop() {
            count += reply.segment_count();
            self.finish(&reply, None, Outcome::DroppedAtStop);
        }
        count
    }

    /// Removes the first reply if it is due, with the replies that may leave in the same segmented send. With impairment, each datagram leaves
    /// alone.
    fn pop_due(
        &mut self,
        now: Time,
        admission: &mut Admission,
        max_segments: impl Fn(usize) -> usize,
    ) -> Option<(QueuedReply, Option<PassingReply>)> {
        if self.impaired.is_some() {
            return self.pop_impaired(now, admission);
        }
        let mut reply = *self.queued.peek().filter(|first| first.send_at <= now)?;
        self.queued.pop();
        let max_len = (max_segments(reply.segment_size()).max(1) * reply.segment_size()) as u32;
        if reply.len > max_len {
            let rest = QueuedReply { position: reply.position + u64::from(max_len), len: reply.len - max_len, ..reply };
            self.queued.push(rest);
            reply.len = max_len;
        }
        while let Some(next) = self.queued.peek()
            && next.send_at <= now
            && reply.len + next.len <= max_len
            && reply.is_followed_by(next)
            && DatagramStore::is_contiguous(reply.position, reply.len(), next.position)
        {
            reply.len += next.len;
            self.queued.pop();
        }
        Some((reply, None))
    }

    /// Removes the first reply if it is due. Replies whose delay is over enter the impaired path in the order of time.
    fn pop_impaired(&mut self, now: Time, admission: &mut Admission) -> Option<(QueuedReply, Option<PassingReply>)> {
        loop {
            let next = self.queued.peek().map_or(Time::MAX, |reply| reply.send_at);
            match self.impaired.as_mut()?.pop_due(now.min(next)) {
                Some(Ok(passing)) => {
                    let mut reply = passing.token;
                    if !reply.was_postponed() {
                        (reply.send_at, reply.due) = (passing.due, passing.due);
                    }
                    return Some((reply, Some(passing)));
                }
                Some(Err(passing)) => {
                    self.finish(&passing.token, Some(&passing), Outcome::BottleneckFull);
                    continue;
                }
                None if next > now => return None,
                None => {}
            }
            let reply = self.queued.pop()?;
            let impaired = self.impaired.as_mut().filter(|_| reply.state == ReplyState::Impaired);
            let Some(impaired) = impaired else { return Some((reply, None)) };
            let datagram = self.stores[reply.class as usize].get(reply.position, reply.len());
            let admits_copy = || admission.admit_copy(reply.path, reply.class, now, reply.len());
            if let Some(cause) = impaired.enter(reply, datagram, admits_copy) {
                self.finish(&reply, None, Outcome::Lost(cause));
            }
        }
    }

    /// Queues a reply again that did not leave.
    fn put_back(&mut self, reply: QueuedReply, passing: Option<PassingReply>) {
        match (passing, &mut self.impaired) {
            (Some(mut passing), Some(impaired)) => {
                (passing.token, passing.due) = (reply, reply.send_at);
                impaired.path.put_back(passing);
            }
            _ => self.queued.push(reply),
        }
    }

    /// A reply or its first copy left.
    fn on_left(&mut self, reply: QueuedReply, passing: Option<PassingReply>, outcome: Outcome) {
        let (Some(mut passing), Some(impaired)) = (passing, &mut self.impaired) else {
            return self.finish(&reply, None, outcome);
        };
        passing.token = QueuedReply { send_at: reply.due, ..reply };
        if let Some(passing) = impaired.on_left(passing, outcome == Outcome::Sent) {
            self.finish(&reply, Some(&passing), outcome);
        }
    }

    fn record_sent(&self, now: Time, reply: &QueuedReply, transmit: &Transmit<'_>) {
        let counters = &self.counters;
        let (sent, lateness) = match reply.class {
            ReplyClass::Audio => (&counters.sent, &counters.audio_lateness),
            ReplyClass::Immediate => (&counters.immediate_replies, &counters.immediate_lateness),
        };
        sent.add(transmit.segment_count());
        counters.sent_bytes.add(transmit.contents.len());
        // `due` is the due time of the first datagram, so lateness is never underestimated.
        lateness.observe(now.duration_since(reply.due), transmit.segment_count());
        log_events::log_sent(reply.class, transmit);
    }

    /// Frees the memory of a reply that has left the queue, and reports the outcome of an impaired reply.
    fn finish(&mut self, reply: &QueuedReply, passing: Option<&PassingReply>, outcome: Outcome) {
        if let (Outcome::Lost(_) | Outcome::BottleneckFull, Some(links)) = (outcome, &mut self.links) {
            links.take_counter(reply.path);
        }
        let store = &mut self.stores[reply.class as usize];
        let is_impaired = passing.is_some() || reply.state == ReplyState::Impaired;
        if let Some(impaired) = self.impaired.as_mut().filter(|_| is_impaired) {
            let entered_at = passing.map_or(reply.due, |passing| passing.entered_at);
            let received_at = impaired.received_at(reply.class, entered_at);
            let event = event(received_at, reply.path.peer, store.get(reply.position, reply.len()), outcome);
            impaired.report(&passing.map_or(event, |passing| event.after_path(passing)));
        }
        store.remove(reply.position, reply.len());
        let charged = cost(reply.len(), reply.segment_count(), is_impaired);
        self.memory.release(reply.path, reply.class, charged);
        if reply.class == ReplyClass::Audio {
            self.queued_audio -= reply.segment_count();
        }
    }
}

/// The datagrams of a reply.
fn transmit<'a>(stores: &'a [DatagramStore; 2], reply: &QueuedReply) -> Transmit<'a> {
    Transmit {
        socket: 0,
        destination: reply.path.peer,
        src_ip: reply.path.src_ip,
        contents: stores[reply.class as usize].get(reply.position, reply.len()),
        segment_size: reply.segment_size(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::echo::{EchoConfig, EchoServer};

    struct Accepting;

    impl TransmitSink for Accepting {
        fn send(&mut self, _: Transmit<'_>) -> SendStatus {
            SendStatus::Sent
        }
    }

    #[test]
    fn delayed_audio_keeps_no_memory_of_sent_immediate_replies() {
        let EchoServer { replies: mut queue, mut admission, source_table: mut sources, .. } =
            EchoServer::new(EchoConfig::default());
        let peer = SocketAddr::from(([127, 0, 0, 1], 5_000));
        let path = ReplyPath { peer, src_ip: None, is_limited: false, network: 0, keys: None };
        let (long, short) = (vec![0; 60_000], [0; 12]);
        for millis in 0..100 {
            let received_at = Time::from_millis(millis);
            let mut push = |class, delay, contents: &[u8]| {
                let new = NewReplies { class, received_at, delay, contents, segment_size: contents.len() };
                queue.push(path, new, false)
            };
            assert_eq!(push(ReplyClass::Audio, Duration::from_secs(3_600), &short), Ok(()));
            (0..4).for_each(|_| assert_eq!(push(ReplyClass::Immediate, Duration::ZERO, &long), Ok(())));
            assert!(queue.send_due(received_at, &mut Accepting, &mut admission, &mut sources));
        }
        assert_eq!(queue.queued_audio, 100);
        let allocated: usize = queue.stores.iter().map(DatagramStore::allocated).sum();
        assert!(allocated <= 4 << 20, "{allocated}");
    }
}
