//! Datagrams in transit: each leaves as often as decided, never early, and in the order of its flow. All owners agree with one naive model.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{AdmissionConfig, EchoConfig, EchoServer};
use jamjam_core::impairment::{Bottleneck, Departure, Impairer, Impairment, ImpairmentDecision, PacketClass};
use jamjam_core::impairment_patch::ImpairmentPatch;
use jamjam_core::media_relay::{MediaMember, MediaRelay, MediaRelayConfig, MediaRooms};
use jamjam_core::node::{BLOCKED_RETRY, Node, Receive, SendStatus, TransmitSink};
use jamjam_core::outcome::{Outcome, OutcomeEvent};
use jamjam_core::relay::Relay;
use jamjam_core::time::Time;
use jamjam_core::transit::{Exit, Exits, InTransit, RELAY_MEMORY, Transit};
use jamjam_core::wire::PacketType;
use proptest::prelude::*;
use test_support::recording_sink::RecordingSink;

const MS: Duration = Duration::from_millis(1);
const AUDIO: PacketClass = Some(PacketType::Audio);
const SENT: Exit = Exit::Left(Outcome::Sent);

fn decision(delay: u64, reordered: bool, copies: u8) -> ImpairmentDecision {
    let (delay, reorder_delay) = (Duration::from_millis(delay), reordered.then_some(10 * MS));
    ImpairmentDecision { loss: None, delay, reorder_delay, copies }
}

/// Lets everything leave at once, unless something else is planned.
#[derive(Default)]
struct Owner {
    exits: VecDeque<Exit>,
    /// When the queue of the bandwidth limit releases some datagrams; `None` if it is full.
    departures: HashMap<u32, Option<Time>>,
    /// Of each copy that left: when, and its number.
    left: Vec<(u64, u32)>,
    outcomes: Vec<(u32, Outcome)>,
}

impl Exits<u8, u32> for Owner {
    fn bottleneck(&mut self, one: &InTransit<u8, u32>) -> Option<Departure> {
        let at = self.departures.get(&one.kept).copied().unwrap_or(Some(one.due))?;
        Some(Departure { at, copy_spacing: Duration::ZERO })
    }

    fn exit(&mut self, now: Time, one: &mut InTransit<u8, u32>, bytes: &mut [u8], _: &mut dyn TransmitSink) -> Exit {
        assert_eq!(bytes, one.kept.to_be_bytes());
        assert!(one.due <= now);
        let exit = self.exits.pop_front().unwrap_or(SENT);
        if exit == SENT {
            self.left.push((one.due.as_micros() / 1_000, one.kept));
        }
        exit
    }

    fn on_outcome(&mut self, kept: u32, event: OutcomeEvent<u8>) {
        self.outcomes.push((kept, event.outcome));
    }
}

struct Net {
    transit: Transit<u8, u32>,
    owner: Owner,
}

impl Net {
    fn new() -> Self {
        Self { transit: Transit::new(RELAY_MEMORY), owner: Owner::default() }
    }

    fn enter(&mut self, at: u64, flow: u8, class: PacketClass, decision: &ImpairmentDecision, number: u32) {
        let bytes = number.to_be_bytes();
        assert_eq!(
            self.transit.enter(Time::from_millis(at), (flow, number), (class, number), decision, &bytes),
            Ok(())
        );
    }

    /// Each copy that leaves by `now`, with its due time in milliseconds.
    fn leave(&mut self, now: u64) -> Vec<(u64, u32)> {
        let (now, mut sink) = (Time::from_millis(now), RecordingSink::new());
        while self.transit.next_deadline().is_some_and(|due| due <= now) {
            self.transit.send_due(now, &mut sink, &mut self.owner);
        }
        std::mem::take(&mut self.owner.left)
    }
}

#[test]
fn classes_of_a_flow_keep_one_order_and_flows_do_not_wait_for_each_other() {
    let mut net = Net::new();
    net.enter(0, 1, AUDIO, &decision(20, false, 1), 0);
    net.enter(5, 1, None, &decision(0, false, 1), 1);
    net.enter(5, 2, None, &decision(0, false, 1), 2);
    assert_eq!(net.leave(100), [(5, 2), (20, 0), (20, 1)]);
    assert_eq!(net.transit.next_deadline(), None);
}

#[test]
fn reordered_datagram_leaves_after_a_later_one_of_its_class() {
    let mut net = Net::new();
    net.enter(0, 1, AUDIO, &decision(0, true, 1), 0);
    net.enter(15, 1, None, &decision(0, false, 1), 1);
    net.enter(20, 2, AUDIO, &decision(0, false, 1), 2);
    net.enter(30, 1, AUDIO, &decision(0, false, 1), 3);
    assert_eq!(net.leave(29), [(15, 1), (20, 2)]);
    assert_eq!(net.leave(30), [(30, 3), (30, 0)]);
    // No time of the datagram that was held is left.
    assert_eq!(net.transit.next_deadline(), None);
    net.enter(40, 1, AUDIO, &decision(0, true, 1), 4);
    assert_eq!(net.leave(1_039), []);
    assert_eq!(net.transit.next_deadline(), Some(Time::from_millis(1_040)));
    assert_eq!(net.leave(1_040), [(1_040, 4)]);
    // It waits for a second, or for its own delay if that is longer.
    let long = ImpairmentDecision { reorder_delay: Some(3_000 * MS), ..decision(0, true, 1) };
    net.enter(2_000, 1, AUDIO, &long, 5);
    assert_eq!([4_999, 5_000].map(|now| net.leave(now)), [vec![], vec![(5_000, 5)]]);
}

#[test]
fn overtaking_needs_a_datagram_that_was_sent() {
    let mut net = Net::new();
    net.enter(0, 1, AUDIO, &decision(0, true, 1), 0);
    net.enter(20, 1, AUDIO, &decision(0, false, 1), 1);
    net.enter(30, 1, AUDIO, &decision(0, false, 1), 2);
    (net.owner.departures, net.owner.exits) = ([(1, None)].into(), [Exit::Left(Outcome::SendFailed)].into());
    assert_eq!(net.leave(999), []);
    assert_eq!(net.leave(1_000), [(1_000, 0)]);
    let outcomes = [(1, Outcome::BottleneckFull), (2, Outcome::SendFailed), (0, Outcome::Sent)];
    assert_eq!(net.owner.outcomes, outcomes);
}

#[test]
fn datagram_that_does_not_leave_is_the_next_one_or_leaves_later() {
    let mut net = Net::new();
    (0..3).for_each(|number| net.enter(0, 1, AUDIO, &decision(0, false, 1), number));
    let blocked = Exit::Refused(SendStatus::WouldBlock);
    net.owner.exits = [blocked, SENT, Exit::Later(Time::from_millis(7))].into();
    assert_eq!([0, 1, 7].map(|now| net.leave(now)), [vec![], vec![(0, 0), (0, 2)], vec![(7, 1)]]);
}

#[test]
fn socket_that_accepts_again_delays_nothing() {
    let mut net = Net::new();
    (0..2).for_each(|number| net.enter(0, 1, AUDIO, &decision(0, false, 1), number));
    net.owner.exits = [Exit::Refused(SendStatus::WouldBlock)].into();
    assert_eq!(net.leave(0), []);
    assert_eq!(net.transit.next_deadline(), Some(Time::ZERO + BLOCKED_RETRY));
    // The driver has been told so.
    net.transit.send_due(Time::ZERO, &mut RecordingSink::new(), &mut net.owner);
    assert_eq!(net.owner.left, [(0, 0), (0, 1)]);
    net.enter(0, 1, AUDIO, &decision(0, false, 1), 2);
    assert_eq!(net.transit.next_deadline(), Some(Time::ZERO));
}

#[test]
fn overtaken_datagram_waits_in_the_queue_of_the_limit_beyond_its_time() {
    let mut net = Net::new();
    net.enter(0, 1, AUDIO, &decision(0, true, 1), 0);
    net.enter(900, 1, AUDIO, &decision(0, false, 1), 1);
    net.owner.departures = [(0, Some(Time::from_millis(2_000)))].into();
    // Without a later one, it would have left at 1 s.
    assert_eq!([900, 1_999, 2_000].map(|now| net.leave(now)), [vec![(900, 1)], vec![], vec![(2_000, 0)]]);
}

/// A datagram of the model.
struct Modeled {
    flow: usize,
    is_audio: bool,
    sequence: u32,
    due: Time,
    /// The first one.
    planned: Time,
    hold_until: Option<Time>,
    has_passed_bottleneck: bool,
    spacing: Duration,
    copies_left: u8,
    is_sent: bool,
}

/// The order of all datagrams, found by looking at each of them at every step.
struct Model {
    /// In the order of arrival.
    datagrams: Vec<Modeled>,
    impairment: Impairment,
    bottlenecks: [Bottleneck; 3],
    /// The bottleneck of each flow.
    bottleneck_of: [usize; 3],
}

impl Model {
    fn enter(&mut self, at: Time, flow: usize, is_audio: bool, sequence: u32, decision: &ImpairmentDecision) {
        if decision.loss.is_some() {
            return;
        }
        let in_order = self.datagrams.iter().filter(|one| one.flow == flow && one.hold_until.is_none());
        let mut due = in_order.map(|one| one.planned).fold(at + decision.delay, Time::max);
        let reorder = decision.reorder_delay;
        let hold_until = reorder.map(|delay| due + delay.max(Duration::from_secs(1)));
        due += reorder.unwrap_or_default();
        self.datagrams.push(Modeled {
            flow,
            is_audio,
            sequence,
            due,
            planned: due,
            hold_until,
            has_passed_bottleneck: false,
            spacing: Duration::ZERO,
            copies_left: decision.copies,
            is_sent: false,
        });
    }

    /// The sequence numbers of what leaves at `now`, and whether the socket is blocked then. It accepts what `plan` says.
    fn poll(&mut self, now: Time, plan: &mut VecDeque<SendStatus>) -> (Vec<u32>, bool) {
        let mut sent = Vec::new();
        loop {
            let waiting = (0..self.datagrams.len()).filter(|n| self.datagrams[*n].copies_left > 0);
            let Some(n) = waiting.min_by_key(|n| (self.datagrams[*n].due, *n)) else { return (sent, false) };
            let Modeled { flow, is_audio, due, hold_until, .. } = self.datagrams[n];
            if due > now {
                return (sent, false);
            }
            let mut later = self.datagrams[n + 1..].iter().filter(|one| (one.flow, one.is_audio) == (flow, is_audio));
            let is_overtaken = later.any(|one| one.copies_left == 0 && one.is_sent);
            if let Some(until) = hold_until.filter(|until| due < *until && !is_overtaken) {
                self.datagrams[n].due = until;
                continue;
            }
            if !self.datagrams[n].has_passed_bottleneck {
                let size = (28, self.datagrams[n].copies_left);
                let bottleneck = &mut self.bottlenecks[self.bottleneck_of[flow]];
                let Some(departure) = bottleneck.enter(self.impairment.bandwidth, due, size, [127, 0, 0, 1].into())
                else {
                    self.datagrams[n].copies_left = 0;
                    continue;
                };
                let one = &mut self.datagrams[n];
                (one.has_passed_bottleneck, one.due, one.spacing) = (true, departure.at, departure.copy_spacing);
                continue;
            }
            let status = plan.pop_front().unwrap_or(SendStatus::Sent);
            if status == SendStatus::WouldBlock {
                return (sent, true);
            }
            let one = &mut self.datagrams[n];
            one.copies_left -= 1;
            if status == SendStatus::Sent {
                one.is_sent = true;
                sent.push(one.sequence);
            }
            if one.copies_left > 0 {
                one.due += one.spacing;
            } else if one.is_sent {
                let left_at = one.due;
                let held = |one: &&mut Modeled| {
                    let of_flow = (one.flow, one.is_audio) == (flow, is_audio) && one.copies_left > 0;
                    of_flow && !one.has_passed_bottleneck && one.hold_until == Some(one.due)
                };
                self.datagrams[..n].iter_mut().filter(held).for_each(|one| one.due = left_at);
            }
        }
    }
}

/// An owner of datagrams in transit, of which datagrams of three flows are received.
struct User {
    node: Box<dyn Node>,
    /// The socket and the source of each flow.
    flows: [(usize, SocketAddr); 3],
    /// Decides about each flow: with one impairer for all, or one of its own.
    impairers: Vec<Impairer>,
    bottleneck_of: [usize; 3],
    _members: Vec<MediaMember>,
}

fn client(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 4_000))
}

/// All clients of an echo server share decisions and bottleneck.
fn echo_server(impairment: &Impairment) -> User {
    let config = EchoConfig { delay: Duration::ZERO, ..EchoConfig::default() };
    let node = EchoServer::new(config).with_impairment(Some((impairment.clone(), Box::new(|_| {}))));
    let flows = [1, 2, 3].map(|number| (0, client(number)));
    let impairers = vec![Impairer::new(impairment.clone())];
    User { node: Box::new(node), flows, impairers, bottleneck_of: [0; 3], _members: Vec::new() }
}

/// Each client of a relay has its own.
fn relay(impairment: &Impairment) -> User {
    let (_, targets) = std::sync::mpsc::channel();
    let (impairments, limits) = ([impairment.clone(), impairment.clone()], AdmissionConfig::default());
    let node =
        Relay::new(("192.0.2.9:5000".parse().expect("an address"), targets), 3, impairments, limits, Box::new(|_| {}));
    let flows = [1, 2, 3].map(|number| (0, client(number)));
    let impairers = [1, 2, 3].map(|number| Impairer::for_flow(impairment.clone(), &format!("client {number} up")));
    User { node: Box::new(node), flows, impairers: impairers.into(), bottleneck_of: [0, 1, 2], _members: Vec::new() }
}

/// Each pair in a room has its own decisions, and each receiver a bottleneck.
fn room(words: &str, impairment: &Impairment) -> User {
    let ports: Vec<u16> = (40_000..40_006).collect();
    let patch = ImpairmentPatch::from_words(words).expect("an impairment");
    let config = MediaRelayConfig {
        impairment: patch,
        seed: impairment.seed,
        ports: ports.clone(),
        ..MediaRelayConfig::default()
    };
    let rooms = MediaRooms::new(config, None);
    let member = |number: u8| {
        let names = [number.to_string(), number.to_string()];
        let ips = (client(number).ip(), [192, 0, 2, 1].into());
        let member = rooms.join(1, names, ips, None).expect("sockets");
        assert!(member.publish([client(number)].into_iter()));
        member
    };
    let members: Vec<MediaMember> = [1, 2, 3].map(member).into();
    let ways = [(1, 2), (3, 2), (2, 1)];
    let flows = ways.map(|(from, to)| {
        let at = members[to - 1].address_for(&members[from - 1]).expect("an address");
        (usize::from(at.port() - ports[0]), client(from as u8))
    });
    let impairer = |(from, to)| Impairer::for_flow(impairment.clone(), &format!("{from}#1>{to}#1"));
    let node = Box::new(MediaRelay::new(rooms));
    User { node, flows, impairers: ways.map(impairer).into(), bottleneck_of: [0, 0, 1], _members: members }
}

/// Milliseconds since the last one, flow, whether it is AUDIO, whether the node is polled, and how often the socket refuses or fails.
type Step = (u64, usize, bool, bool, Vec<u8>);

proptest! {
    #[test]
    fn all_owners_send_what_a_naive_model_sends(
        steps in prop::collection::vec(
            (1u64..5, 0usize..3, prop::bool::weighted(0.8), any::<bool>(), prop::collection::vec(0u8..8, 0..4)), 1..200),
        (seed, limit) in (any::<u64>(), prop::sample::select(vec!["", " bandwidth 200kbit,10ms"])),
    ) {
        let words = format!("loss 10% delay 3ms jitter 5ms reorder 10%,10ms duplicate 20%{limit}");
        let patch = ImpairmentPatch::from_words(&words).expect("an impairment");
        let impairment = Impairment { seed, ..patch.impairment() };
        for (name, mut user) in [("echo", echo_server(&impairment)), ("relay", relay(&impairment)), ("room", room(&words, &impairment))] {
            let (impairment, bottleneck_of) = (impairment.clone(), user.bottleneck_of);
            let mut model = Model { datagrams: Vec::new(), impairment, bottlenecks: <_>::default(), bottleneck_of };
            let mut sink = RecordingSink::new();
            let mut now = Time::from_millis(1);
            // The owners' names count the clients in the order of their first datagrams.
            let first = (0..3).map(|flow| (1, flow, true, false, Vec::new()));
            let last = [(5_000, 0, true, true, Vec::new()); 1];
            for (sequence, step) in (0..).zip(first.chain(steps.iter().cloned()).chain(last)) {
                let (passed, flow, is_audio, is_polled, plan): Step = step;
                now += Duration::from_millis(passed);
                let (socket, source) = user.flows[flow];
                let contents = &[&[1, if is_audio { 1 } else { 4 }][..], &u32::to_be_bytes(sequence), &[0; 22]].concat();
                let dst_ip = Some([192, 0, 2, 1].into());
                let received = Receive { socket, source, dst_ip, received_at: now, contents, segment_size: 28 };
                user.node.on_datagram(now, &[received]);
                let class = Some(if is_audio { PacketType::Audio } else { PacketType::Keepalive });
                let index = flow % user.impairers.len();
                let decision = user.impairers[index].decide(class, sequence, Some(now - Time::from_millis(1)));
                model.enter(now, flow, is_audio, sequence, &decision);
                if is_polled {
                    let status = |n| match n { 0 => SendStatus::WouldBlock, 1 => SendStatus::Failed, _ => SendStatus::Sent };
                    let mut plan: VecDeque<SendStatus> = plan.into_iter().map(status).collect();
                    sink.plan.clone_from(&plan);
                    let (expected, is_blocked) = model.poll(now, &mut plan);
                    // A poll that is blocked ends.
                    user.node.poll_transmit(now, &mut sink);
                    while !is_blocked && user.node.next_deadline().is_some_and(|due| due <= now) {
                        user.node.poll_transmit(now, &mut sink);
                    }
                    let sent = sink.take().into_iter().map(|bytes| u32::from_be_bytes(bytes[2..6].try_into().expect("four bytes")));
                    prop_assert_eq!(sent.collect::<Vec<_>>(), expected, "{}", name);
                    sink.plan.clear();
                }
            }
        }
    }
}
