//! Many clients on one driver, each with a socket of its own.
//!
//! A call costs as much as the clients that are due or that received something, however many the group has.

use crate::node::{BLOCKED_RETRY, MAX_SENDS_PER_POLL, Node, Receive, SendStatus, Transmit, TransmitSink};
use crate::time::{Pause, Time};

/// What the clients of a group share. The group owns it and lends it to the client that runs.
pub trait GroupContext<N> {
    /// Calls `client` at `now`.
    fn call(&mut self, client: &mut N, _now: Time, call: impl FnOnce(&mut N)) {
        call(client);
    }
}

/// The clients share nothing.
impl<N> GroupContext<N> for () {}

/// Clients that are one [`Node`]. Client i has socket i, and behaves as if it had a driver of its own and socket 0. A client whose
/// [`Node::next_deadline`] is `None` or [`Time::MAX`] after a poll has finished and is not called again. Wakers of the clients have no effect.
#[derive(Debug)]
pub struct NodeGroup<N, C> {
    clients: Vec<N>,
    context: C,
    /// The deadlines with their clients, as a tree: the children of entry i are 2 i and 2 i + 1, and the leaves are the last half. Each parent is
    /// its earlier child. A client that has finished has [`Time::MAX`].
    deadlines: Vec<(Time, usize)>,
}

impl<N: Node, C: GroupContext<N>> NodeGroup<N, C> {
    /// A group that first polls all `nodes`, which share `context`.
    pub fn new(nodes: Vec<N>, context: C) -> Self {
        let deadlines = vec![(Time::MAX, 0); 2 * nodes.len().max(1)];
        let mut group = Self { clients: nodes, context, deadlines };
        (0..group.clients.len()).for_each(|socket| group.set_deadline(socket, Time::ZERO));
        group
    }

    /// The nodes, in the order of their sockets, and what they shared.
    pub fn into_nodes(self) -> (Vec<N>, C) {
        (self.clients, self.context)
    }

    fn set_deadline(&mut self, socket: usize, deadline: Time) {
        let tree = &mut self.deadlines;
        let mut entry = self.clients.len() + socket;
        tree[entry] = (deadline, socket);
        while entry > 1 {
            entry /= 2;
            tree[entry] = tree[2 * entry].min(tree[2 * entry + 1]);
        }
    }

    /// Makes the client of `socket` due at `at`, unless it was due earlier. `None` if it has finished.
    fn wake(&mut self, socket: usize, at: Time) -> Option<(&mut N, &mut C)> {
        let (deadline, _) = self.deadlines[self.clients.len() + socket];
        if deadline == Time::MAX {
            return None;
        }
        self.set_deadline(socket, at.min(deadline));
        Some((&mut self.clients[socket], &mut self.context))
    }
}

impl<N: Node, C: GroupContext<N>> Node for NodeGroup<N, C> {
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]) {
        if let Some((client, context)) = batch.first().and_then(|first| self.wake(first.socket, now)) {
            context.call(client, now, |client| client.on_datagram(now, batch));
        }
    }

    /// Polls the clients in the order in which they became due, each at the time at which the one before has sent. The last one may exceed
    /// [`MAX_SENDS_PER_POLL`].
    fn poll_transmit(&mut self, mut now: Time, sink: &mut dyn TransmitSink) {
        let mut sends = 0;
        while sends < MAX_SENDS_PER_POLL && self.deadlines[1].0 <= now {
            let (_, socket) = self.deadlines[1];
            let mut sink = SocketSink { sink: &mut *sink, socket, sends: 0, is_blocked: false };
            let client = &mut self.clients[socket];
            self.context.call(client, now, |client| client.poll_transmit(now, &mut sink));
            // A poll takes time even if nothing is due.
            sends += sink.sends.max(1);
            let is_blocked = sink.is_blocked;
            let deadline = match client.next_deadline() {
                None => Time::MAX,
                Some(_) if is_blocked => now + BLOCKED_RETRY,
                // A client with a backlog continues after those that are due.
                Some(deadline) => deadline.max(now),
            };
            now = sink.sink.sent_at().unwrap_or(now);
            self.set_deadline(socket, deadline);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        Some(self.deadlines[1].0).filter(|deadline| *deadline < Time::MAX)
    }

    fn on_address_changed(&mut self, socket: usize, silence: Pause) {
        if let Some((client, _)) = self.wake(socket, silence.end) {
            client.on_address_changed(0, silence);
        }
    }

    fn on_port_unreachable(&mut self, now: Time, socket: usize) {
        if let Some((client, _)) = self.wake(socket, now) {
            client.on_port_unreachable(now, 0);
        }
    }

    /// The clients that wait for nothing have finished.
    fn on_stop(&mut self) -> bool {
        for socket in 0..self.clients.len() {
            if !self.wake(socket, Time::ZERO).is_some_and(|(client, _)| client.on_stop()) {
                self.set_deadline(socket, Time::MAX);
            }
        }
        self.next_deadline().is_some()
    }
}

/// Sends from the socket of a client.
struct SocketSink<'a> {
    sink: &'a mut dyn TransmitSink,
    socket: usize,
    sends: usize,
    is_blocked: bool,
}

impl TransmitSink for SocketSink<'_> {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        let status = self.sink.send(Transmit { socket: self.socket, ..transmit });
        self.sends += 1;
        self.is_blocked |= status == SendStatus::WouldBlock;
        status
    }

    fn max_segments(&self, len: usize) -> usize {
        self.sink.max_segments(len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;

    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    /// A client that sends one datagram at each time in `times`, in milliseconds, at most 40 per poll.
    #[derive(Default)]
    struct Timetable {
        times: VecDeque<u64>,
        polled_at: Time,
        polls: usize,
        received: usize,
        waits_after_stop: bool,
    }

    impl Node for Timetable {
        fn on_datagram(&mut self, _: Time, batch: &[Receive<'_>]) {
            self.received += batch.len();
        }

        fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
            (self.polls, self.polled_at) = (self.polls + 1, now);
            for _ in 0..40 {
                let is_due = self.times.front().is_some_and(|at| Time::from_millis(*at) <= now);
                if !is_due || sink.send(Transmit::datagram(PEER, b"x")) == SendStatus::WouldBlock {
                    break;
                }
                self.times.pop_front();
            }
        }

        fn next_deadline(&self) -> Option<Time> {
            self.times.front().map(|at| Time::from_millis(*at))
        }

        fn on_stop(&mut self) -> bool {
            self.waits_after_stop
        }
    }

    /// Records the sockets of the datagrams. The sockets in `blocked` accept nothing. With a time, each send takes 1 ms.
    #[derive(Default)]
    struct Sockets {
        sent: Vec<usize>,
        blocked: Vec<usize>,
        sent_at: Option<Time>,
    }

    impl TransmitSink for Sockets {
        fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
            if self.blocked.contains(&transmit.socket) {
                return SendStatus::WouldBlock;
            }
            self.sent.push(transmit.socket);
            self.sent_at = self.sent_at.map(|at| at + Duration::from_millis(1));
            SendStatus::Sent
        }

        fn sent_at(&self) -> Option<Time> {
            self.sent_at
        }
    }

    fn group(times: &[&[u64]]) -> NodeGroup<Timetable, ()> {
        let client = |times: &&[u64]| Timetable { times: times.iter().copied().collect(), ..Timetable::default() };
        NodeGroup::new(times.iter().map(client).collect(), ())
    }

    fn poll(group: &mut NodeGroup<Timetable, ()>, ms: u64, sockets: &mut Sockets) -> Vec<usize> {
        group.poll_transmit(Time::from_millis(ms), sockets);
        std::mem::take(&mut sockets.sent)
    }

    fn receive(group: &mut NodeGroup<Timetable, ()>, ms: u64, socket: usize) {
        let (received_at, contents) = (Time::from_millis(ms), b"x");
        let received = Receive { socket, source: PEER, dst_ip: None, received_at, contents, segment_size: 1 };
        group.on_datagram(received_at, &[received]);
    }

    fn polls(group: &NodeGroup<Timetable, ()>) -> Vec<usize> {
        group.clients.iter().map(|client| client.polls).collect()
    }

    #[test]
    fn only_due_and_receiving_clients_are_polled() {
        // The trees of one to nine clients have all shapes.
        for count in 1..10 {
            let times: Vec<[u64; 2]> = (0..count).map(|i| [10 + i * 7 % count, 30]).collect();
            let mut group = group(&times.iter().map(<[u64; 2]>::as_slice).collect::<Vec<_>>());
            let mut sockets = Sockets::default();
            assert_eq!((group.next_deadline(), poll(&mut group, 0, &mut sockets)), (Some(Time::ZERO), vec![]));
            for ms in 10..10 + count {
                let due: Vec<usize> = (0..count as usize).filter(|i| times[*i][0] == ms).collect();
                let next = times.iter().map(|times| times[0]).filter(|at| *at >= ms).min();
                assert_eq!(group.next_deadline(), Some(Time::from_millis(next.unwrap_or(30))), "{count} {ms}");
                assert_eq!(poll(&mut group, ms, &mut sockets), due, "{count} clients");
            }
            assert_eq!(polls(&group), vec![2; count as usize]);
            receive(&mut group, 29, 0);
            assert_eq!(group.next_deadline(), Some(Time::from_millis(29)));
            assert!(poll(&mut group, 29, &mut sockets).is_empty());
            assert_eq!(polls(&group).iter().sum::<usize>(), 2 * count as usize + 1);
            assert_eq!(poll(&mut group, 30, &mut sockets).len() as u64, count);
            assert_eq!(group.next_deadline(), None, "{count} clients");
        }
    }

    #[test]
    fn finished_client_receives_nothing_more() {
        let mut group = group(&[&[1], &[1, 2]]);
        assert_eq!(poll(&mut group, 1, &mut Sockets::default()), [0, 1]);
        receive(&mut group, 2, 0);
        receive(&mut group, 2, 1);
        assert_eq!(poll(&mut group, 2, &mut Sockets::default()), [1]);
        assert_eq!(group.into_nodes().0.iter().map(|node| node.received).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn blocked_client_delays_no_other() {
        let (mut group, mut sockets) = (group(&[&[1], &[1, 5]]), Sockets { blocked: vec![0], ..Sockets::default() });
        assert_eq!((poll(&mut group, 1, &mut sockets), polls(&group)), (vec![1], vec![1, 1]));
        assert_eq!(group.next_deadline(), Some(Time::from_millis(2)));
        assert_eq!((poll(&mut group, 5, &mut sockets), polls(&group)), (vec![1], vec![2, 2]));
        assert_eq!(group.next_deadline(), Some(Time::from_millis(6)));
        sockets.blocked.clear();
        assert_eq!((poll(&mut group, 6, &mut sockets), group.next_deadline()), (vec![0], None));
    }

    #[test]
    fn sends_of_one_poll_are_limited_and_clients_take_turns() {
        let (mut group, mut sockets) = (group(&[&[1; 80], &[1; 40], &[1; 40]]), Sockets::default());
        assert_eq!(poll(&mut group, 1, &mut sockets), [[0; 40], [1; 40]].concat());
        // Client 0 still has a backlog, and is due again because it receives. Client 2 was due before.
        receive(&mut group, 2, 0);
        assert_eq!(poll(&mut group, 2, &mut sockets), [[2; 40], [0; 40]].concat());
    }

    #[test]
    fn each_client_sends_at_a_time_of_its_own() {
        let mut group = group(&[&[10], &[10, 11], &[10], &[13]]);
        let mut sockets = Sockets { sent_at: Some(Time::from_millis(10)), ..Sockets::default() };
        assert_eq!(poll(&mut group, 10, &mut sockets), [0, 1, 1, 2, 3]);
        let polled_at = group.clients.iter().map(|client| client.polled_at.as_micros() / 1_000);
        assert_eq!(polled_at.collect::<Vec<_>>(), [10, 11, 13, 14]);
    }

    #[test]
    fn after_a_stop_only_clients_that_wait_continue() {
        let mut group = group(&[&[1], &[1], &[1]]);
        group.clients[1].waits_after_stop = true;
        assert!(group.on_stop());
        assert_eq!((poll(&mut group, 1, &mut Sockets::default()), group.next_deadline()), (vec![1], None));
        assert!(!group.on_stop());
    }
}
