//! The relay in virtual time: who gets which datagram when, from which socket, and what is counted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use jamjam_core::echo::AdmissionConfig;
use jamjam_core::impairment::{BandwidthLimit, Impairment};
use jamjam_core::node::{BLOCKED_RETRY, Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_core::outcome::{Outcome, OutcomeEvent};
use jamjam_core::relay::{Relay, RelayResults, RelayRoute};
use jamjam_core::stats::{Arrivals, SequenceTracker};
use jamjam_core::time::{Pause, Time};
use test_support::logged::logged;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A sent datagram: when, from which socket, to which address, and its bytes.
type Sent = (Time, usize, SocketAddr, Vec<u8>);

type Event = OutcomeEvent<RelayRoute>;

/// Accepts everything unless it is blocked.
#[derive(Default)]
struct Sink {
    now: Time,
    sent: Vec<Sent>,
    sources: Vec<Option<IpAddr>>,
    is_blocked: bool,
}

impl TransmitSink for Sink {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        if self.is_blocked {
            return SendStatus::WouldBlock;
        }
        self.sent.push((self.now, transmit.socket, transmit.destination, transmit.contents.to_vec()));
        self.sources.push(transmit.src_ip);
        SendStatus::Sent
    }
}

struct Net {
    relay: Relay,
    sink: Sink,
    log: Receiver<Event>,
    targets: Sender<SocketAddr>,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn target() -> SocketAddr {
    address("192.0.2.9:5000")
}

fn client(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 4_000))
}

fn at(ms: u64) -> Time {
    Time::from_millis(1_000 + ms)
}

/// An AUDIO packet without samples.
fn audio(sequence: u32) -> Vec<u8> {
    [&[1, 1][..], &sequence.to_be_bytes(), &[0; 6]].concat()
}

impl Net {
    fn new(up: Impairment, down: Impairment, sockets: usize) -> Self {
        let (targets, new_targets) = mpsc::channel();
        let (events, log) = mpsc::channel();
        let observer = Box::new(move |event: &Event| events.send(*event).expect("a receiver"));
        let relay = Relay::new((target(), new_targets), sockets, [up, down], AdmissionConfig::default(), observer);
        Self { relay, sink: Sink::default(), log, targets }
    }

    fn plain(sockets: usize) -> Self {
        Self::new(Impairment::default(), Impairment::default(), sockets)
    }

    /// Runs until nothing is due by `end`.
    fn run(&mut self, end: Time) {
        while let Some(due) = self.relay.next_deadline().filter(|due| *due <= end) {
            self.sink.now = due.max(self.sink.now);
            self.relay.poll_transmit(self.sink.now, &mut self.sink);
        }
        self.sink.now = end;
    }

    /// A datagram of `source` arrives at `socket`, after everything that is due before.
    fn receive(&mut self, at: Time, socket: usize, source: SocketAddr, contents: &[u8]) {
        self.run(at);
        let dst_ip = Some(IpAddr::from([192, 0, 2, 1]));
        let received = Receive { socket, source, dst_ip, received_at: at, contents, segment_size: contents.len() };
        self.relay.on_datagram(at, &[received]);
    }

    fn up(&mut self, at: Time, source: SocketAddr, contents: &[u8]) {
        self.receive(at, 0, source, contents);
    }

    /// The driver calls the node at `now`, and passes datagrams that arrived at these times.
    fn call_late(&mut self, now: Time, arrivals: &[Time]) {
        for (received_at, contents) in arrivals.iter().copied().zip([b"late"].into_iter().cycle()) {
            let received =
                Receive { socket: 0, source: client(1), dst_ip: None, received_at, contents, segment_size: 4 };
            self.relay.on_datagram(now, &[received]);
        }
        self.sink.now = now;
        self.relay.poll_transmit(now, &mut self.sink);
    }

    fn down(&mut self, at: Time, socket: usize, contents: &[u8]) {
        self.receive(at, socket, target(), contents);
    }

    fn finish(mut self, end: Time) -> (Vec<Sent>, RelayResults, Vec<Event>) {
        self.run(end);
        let results = self.relay.into_results();
        (self.sink.sent, results, self.log.try_iter().collect())
    }
}

#[test]
fn each_client_has_a_socket_of_its_own_and_gets_what_returns_there() {
    let mut net = Net::plain(3);
    net.up(at(0), client(1), b"one");
    net.up(at(0), client(2), b"two");
    net.down(at(1), 2, b"to two");
    net.down(at(1), 1, b"to one");
    net.up(at(2), client(1), b"");
    net.run(at(2));
    let sent = |ms, socket, to, text: &str| (at(ms), socket, to, text.as_bytes().to_vec());
    let up = [sent(0, 1, target(), "one"), sent(0, 2, target(), "two")];
    let down = [sent(1, 0, client(2), "to two"), sent(1, 0, client(1), "to one")];
    assert_eq!(net.sink.sent, [&up[..], &down, &[sent(2, 1, target(), "")]].concat());
    // A reply leaves from the address at which the client sent.
    let own = Some(IpAddr::from([192, 0, 2, 1]));
    assert_eq!(net.sink.sources, [None, None, own, own, None]);
}

#[test]
fn losses_in_the_results_the_log_and_the_sent_datagrams_agree() {
    let lossy = Impairment { loss: 0.2, duplicate: 0.1, jitter: 3 * MS, seed: 7, ..Impairment::default() };
    let mut net = Net::new(lossy, Impairment::default(), 2);
    for sequence in 0..1_000 {
        net.up(at(sequence.into()), client(1), &audio(sequence));
        net.up(at(sequence.into()), client(2), &audio(sequence));
    }
    let (sent, results, events) = net.finish(at(2_000));
    let lost_of = |number: usize| {
        let is_lost =
            |event: &&Event| event.route.from == client(number as u8) && matches!(event.outcome, Outcome::Lost(_));
        events.iter().filter(is_lost).map(|event| event.sequence).collect::<Vec<_>>()
    };
    assert_ne!(lost_of(1), lost_of(2), "each client has losses of its own");
    for (client, number) in results.clients.iter().zip(1..) {
        let lost = lost_of(number);
        let flow = &client.flows[0];
        assert!((120..280).contains(&lost.len()), "{}", lost.len());
        assert_eq!(flow.outcomes, [("lost", lost.len() as u64), ("sent", 1_000 - lost.len() as u64)].into());
        assert_eq!((flow.datagrams, flow.arrived.loss_ratio()), (1_000, Some(0.0)));
        let of_client = sent.iter().filter(|(_, socket, ..)| *socket == number);
        let sequence = |(.., bytes): &Sent| u32::from_be_bytes(bytes[2..6].try_into().expect("four bytes"));
        let sequences: Vec<u32> = of_client.map(sequence).collect();
        assert!(sequences.is_sorted() && lost.iter().all(|sequence| !sequences.contains(sequence)));
        let left = flow.forwarded().sequences;
        assert_eq!((left.received, u64::from(left.distinct)), (sequences.len() as u64, 1_000 - lost.len() as u64));
        assert!(left.duplicates > 50 && left.gaps == lost.len() as u64, "{left:?}");
    }
    assert_eq!(events.len(), 2_000);
}

#[test]
fn outage_counts_from_the_first_datagram_and_spares_what_waits_in_the_delay() {
    let impairment =
        Impairment { outages: "100ms@50ms".parse().expect("outages"), delay: 80 * MS, ..Impairment::default() };
    // Each direction has a delay of its own.
    let mut net = Net::new(impairment.clone(), Impairment { delay: 5 * MS, ..impairment }, 2);
    net.up(at(0), client(1), &audio(0));
    net.up(at(49), client(2), &audio(1));
    net.up(at(50), client(2), &audio(2));
    net.down(at(149), 1, b"lost");
    net.down(at(150), 1, b"sent");
    let (sent, results, _) = net.finish(at(1_000));
    assert_eq!(sent.iter().map(|one| one.0).collect::<Vec<_>>(), [at(80), at(129), at(155)]);
    let outcomes = |client: usize, flow: usize| results.clients[client].flows[flow].outcomes.clone();
    assert_eq!(outcomes(1, 0), [("outage", 1), ("sent", 1)].into());
    assert_eq!(outcomes(0, 1), [("outage", 1), ("sent", 1)].into());
}

#[test]
fn bandwidth_is_a_queue_of_each_client_and_direction() {
    // A datagram of 97 bytes takes 1 ms with its headers. Two more fit into the queue.
    let limit = BandwidthLimit { bits_per_second: 1_000_000, max_queue_delay: 2 * MS };
    let impairment = Impairment { bandwidth: Some(limit), ..Impairment::default() };
    let mut net = Net::new(impairment.clone(), impairment, 2);
    for number in [1, 2] {
        (0..4).for_each(|_| net.up(at(0), client(number), &[7; 97]));
    }
    net.down(at(0), 1, &[7; 97]);
    let (sent, results, _) = net.finish(at(100));
    let times = |socket| sent.iter().filter(|one| one.1 == socket).map(|one| one.0).collect::<Vec<_>>();
    assert_eq!([times(1), times(2)], [[at(1), at(2), at(3)]; 2].map(Vec::from));
    assert_eq!(times(0), [at(1)]);
    assert_eq!(results.clients[1].flows[0].outcomes, [("queue", 1), ("sent", 3)].into());
}

#[test]
fn further_client_takes_the_socket_of_the_one_that_was_idle_longest() {
    let mut net = Net::plain(2);
    net.up(at(0), client(1), b"a");
    net.up(at(1_000), client(2), b"b");
    // A datagram of the target keeps the first client.
    net.down(at(2_000), 1, b"c");
    net.up(at(5_999), client(3), b"too early");
    net.up(at(6_000), client(3), b"d");
    // It is idle, but no other one needs its socket.
    net.up(at(300_000), client(1), b"e");
    net.up(at(300_001), client(2), b"f");
    // Now both are idle.
    net.up(at(305_001), client(3), b"g");
    let (sent, results, _) = net.finish(at(305_001));
    let sockets: Vec<_> = sent.iter().map(|(_, socket, ..)| *socket).collect();
    assert_eq!(sockets, [1, 2, 0, 2, 1, 2, 1]);
    assert_eq!((results.former, results.unassigned), (3, [1, 0, 0]));
    // Those that came back are new clients.
    let clients: Vec<_> = results.clients.iter().map(|client| (client.number, client.address)).collect();
    assert_eq!(clients, [(4, client(2)), (5, client(3))]);
}

#[test]
fn client_with_a_datagram_on_its_path_keeps_its_socket() {
    let mut net = Net::new(Impairment { delay: 200 * SECOND, ..Impairment::default() }, Impairment::default(), 2);
    (1..=2).for_each(|number| net.up(at(0), client(number), b"a"));
    net.up(at(199_000), client(3), b"dropped");
    net.up(at(201_000), client(3), b"b");
    let (sent, results, _) = net.finish(at(500_000));
    assert_eq!(sent.iter().map(|one| one.0).collect::<Vec<_>>(), [at(200_000), at(200_000), at(401_000)]);
    assert_eq!((results.former, results.unassigned), (1, [1, 0, 0]));
}

#[test]
fn idle_client_of_the_address_with_the_most_clients_gives_way() {
    let mut net = Net::plain(3);
    let same_host = address("198.51.100.1:4001");
    for (ms, source) in [(0, client(2)), (1_000, client(1)), (2_000, same_host)] {
        net.up(at(ms), source, b"a");
    }
    net.down(at(3_000), 2, b"to client 1");
    // Client 2 has been idle for longer, but alone at its address, and the other one has received something.
    net.up(at(7_500), client(3), b"b");
    net.up(at(8_000), client(4), b"c");
    let (_, results, _) = net.finish(at(8_000));
    let clients: Vec<_> = results.clients.iter().map(|client| client.address).collect();
    assert_eq!(clients, [client(1), client(3), client(4)]);
}

#[test]
fn single_client_gives_way_though_the_target_sends_on_and_first() {
    let mut net = Net::new(Impairment::default(), Impairment { delay: 30 * MS, ..Impairment::default() }, 1);
    net.down(at(0), 1, b"before the client");
    net.up(at(10), client(1), b"a");
    (20..5_000).step_by(10).for_each(|ms| net.down(at(ms), 1, &audio(ms as u32)));
    net.up(at(5_009), client(2), b"too early");
    net.up(at(5_010), client(2), b"b");
    net.down(at(5_020), 1, b"answer");
    let (sent, results, _) = net.finish(at(6_000));
    let answer = sent.last().expect("an answer");
    assert_eq!((answer.2, &answer.3[..]), (client(2), &b"answer"[..]));
    assert_eq!((results.former, results.unassigned), (1, [1, 0, 1]));
}

#[test]
fn memory_that_a_delayed_datagram_keeps_in_use_counts() {
    let mut net = Net::new(Impairment { delay: 3_600 * SECOND, ..Impairment::default() }, Impairment::default(), 1);
    // No limit applies to an address of this host.
    let (source, long) = (address("192.0.2.1:4000"), vec![7; 64_900]);
    for _ in 0..600 {
        // The others leave at once, but their bytes fill the same chunk of 512 KiB.
        net.up(at(0), source, &[7; 5_000]);
        (0..8).for_each(|_| net.down(at(0), 1, &long));
        net.run(at(0));
        net.sink.sent.clear();
    }
    let (_, results, _) = net.finish(at(0));
    let up = &results.clients[0].flows[0].outcomes;
    // 256 MiB are 512 chunks.
    assert!((500..=512).contains(&up["stopped"]) && up["stopped"] + up["buffer_full"] == 600, "{up:?}");
}

#[test]
fn further_clients_and_forged_sources_are_dropped_and_the_first_is_logged() {
    let mut net = Net::plain(1);
    let lines = logged(|| {
        (1..=3).for_each(|number| net.up(at(0), client(number), b"a"));
        for forged in ["0.0.0.0:7", "255.255.255.255:7", "224.0.0.1:7", "198.51.100.3:0"] {
            net.up(at(0), address(forged), b"x");
        }
    });
    let warnings: Vec<_> = lines.iter().filter(|line| line.starts_with("WARN")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("address=198.51.100.2:4000"), "{lines:?}");
    let (sent, results, _) = net.finish(at(10));
    assert_eq!((sent.len(), results.clients.len(), results.unassigned), (1, 1, [2, 4, 0]));
}

#[test]
fn limits_apply_to_what_goes_to_clients_except_on_this_host() {
    let mut net = Net::plain(3);
    // The address at which datagrams arrive is one of this host.
    let sources = [client(1), address("192.0.2.1:4000")];
    for (socket, source) in (1..).zip(sources) {
        net.up(at(0), source, b"hello");
        for n in 0..8_000 {
            net.down(at(n / 20), socket, &[0; 100]);
            net.up(at(n / 20), source, &[0; 100]);
        }
    }
    let (_, results, events) = net.finish(at(1_000));
    let [limited, exempt] = [0, 1].map(|index| results.clients[index].flows[1].outcomes.clone());
    // 8,000 packets/s for 0.4 s, and a burst of 1,000.
    assert!((4_180..=4_220).contains(&limited["sent"]), "{limited:?}");
    assert_eq!(limited["sent"] + limited["limit"], 8_000);
    assert_eq!(exempt, [("sent", 8_000)].into());
    assert!(results.clients.iter().all(|client| client.flows[0].outcomes == [("sent", 8_001)].into()));
    assert_eq!(events.iter().filter(|event| event.outcome == Outcome::Limit).count() as u64, limited["limit"]);
}

#[test]
fn unreachable_target_is_counted() {
    let mut net = Net::plain(2);
    let counts = Arc::clone(&net.relay.counts);
    net.up(at(0), client(1), b"a");
    net.relay.on_port_unreachable(at(1), 1);
    net.relay.on_port_unreachable(at(1), 1);
    // This error is about a client.
    net.relay.on_port_unreachable(at(1), 0);
    assert_eq!(counts[0].get(), 2);
}

#[test]
fn datagrams_go_to_the_new_address_of_the_target() {
    let mut net = Net::plain(1);
    net.up(at(0), client(1), b"a");
    net.run(at(0));
    let moved = address("192.0.2.77:5000");
    net.targets.send(moved).expect("a relay");
    net.up(at(1), client(1), b"b");
    let (sent, _, events) = net.finish(at(2));
    assert_eq!(sent.iter().map(|one| one.2).collect::<Vec<_>>(), [target(), moved]);
    assert_eq!(events[1].route.to_string(), "198.51.100.1:4000,192.0.2.77:5000,up");
}

#[test]
fn blocked_socket_is_tried_again_and_loses_nothing() {
    let mut net = Net::plain(1);
    net.sink.is_blocked = true;
    (0..3).for_each(|sequence| net.up(at(0), client(1), &audio(sequence)));
    net.relay.poll_transmit(at(0), &mut net.sink);
    assert_eq!(net.relay.next_deadline(), Some(at(0) + BLOCKED_RETRY));
    net.sink.is_blocked = false;
    let (sent, results, _) = net.finish(at(10));
    assert_eq!(sent.into_iter().map(|one| one.3).collect::<Vec<_>>(), [audio(0), audio(1), audio(2)]);
    assert_eq!(results.clients[0].flows[0].outcomes, [("sent", 3)].into());
}

#[test]
fn audio_is_measured_before_and_after_the_impairment() {
    let lossy = Impairment { dropped_sequences: "3-5".parse().expect("a set"), ..Impairment::default() };
    let mut net = Net::new(lossy, Impairment::default(), 1);
    // The sender skips a packet.
    for sequence in (0..10).chain(11..20) {
        net.up(at(u64::from(sequence) * 10), client(1), &audio(sequence));
    }
    // A success response of STUN begins like AUDIO.
    let stun = [1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    net.down(at(200), 1, &stun);
    net.down(at(210), 1, b"foreign");
    let (_, results, _) = net.finish(at(1_000));
    let [up, down] = &results.clients[0].flows;
    let facts = |audio: &jamjam_core::stats::Arrivals| {
        (audio.sequences.received, audio.sequences.gaps, audio.longest_silence, audio.rate())
    };
    assert_eq!(facts(&up.arrived), (19, 1, 20 * MS, Some(18.0 / 0.19)));
    assert_eq!(facts(&up.forwarded()), (16, 4, 40 * MS, Some(15.0 / 0.19)));
    assert_eq!((down.datagrams, down.arrived.sequences.received), (2, 0));
}

#[test]
fn time_without_running_is_a_pause_and_what_it_delayed_is_late() {
    let stopped = |delay, calls: &[(u64, &[u64])]| {
        let mut net = Net::new(Impairment { delay, ..Impairment::default() }, Impairment::default(), 1);
        net.up(at(0), client(1), b"first");
        let lines = logged(|| {
            net.call_late(at(0), &[]);
            for (now, arrivals) in calls {
                net.call_late(at(*now), &arrivals.iter().map(|ms| at(*ms)).collect::<Vec<_>>());
            }
        });
        let delays = net.relay.into_results().delays;
        (delays.pauses, delays.paused.as_millis(), delays.late, Vec::from(delays.times), lines)
    };
    let pause = |start, end| Pause { start: at(start), end: at(end) };
    let line =
        |text: &str, pauses: u64| format!("WARN {text} pauses_total={pauses} paused_ms_total={}", 1_300 * pauses);
    for (case, delay, calls, expected) in [
        ("arrival", Duration::ZERO, &[(1_400, &[100, 900, 1_380][..])][..], (1, 1_300, 2, vec![pause(100, 1_400)])),
        ("deadline", 100 * MS, &[(1_400, &[1_350])], (1, 1_300, 1, vec![pause(100, 1_400)])),
        ("nothing was due", 5_000 * MS, &[(1_400, &[100])], (0, 0, 0, vec![])),
        ("at most 50 ms", 100 * MS, &[(150, &[]), (1_250, &[1_200])], (0, 0, 0, vec![])),
        ("nothing to do", Duration::ZERO, &[(9_000, &[8_990])], (0, 0, 0, vec![])),
    ] {
        let (pauses, paused, late, times, lines) = stopped(delay, calls);
        assert_eq!((pauses, paused, late, times), expected, "{case}");
        assert_eq!(lines, vec![line("did not run for 1.3 s", 1); pauses as usize], "{case}");
    }
    // It runs, but reads each datagram only 0.6 s after its arrival. Further lines of this second are omitted.
    let calls = (0..70).map(|call| if call < 60 { (call * 10, vec![]) } else { (call * 10, vec![call * 10 - 600]) });
    let calls: Vec<(u64, Vec<u64>)> = calls.collect();
    let steps: Vec<_> = calls.iter().map(|(now, arrivals)| (*now, &arrivals[..])).collect();
    let (pauses, _, late, times, lines) = stopped(Duration::ZERO, &steps);
    assert_eq!((pauses, late, times), (0, 10, vec![pause(0, 690)]));
    assert_eq!(lines, [line("sent datagrams late by 0.6 s", 0)]);
}

#[test]
fn what_was_dropped_until_the_end_is_lost_and_what_is_delayed_is_not() {
    for (case, outage, delay_ms, lost, silence_ms) in [
        ("cut until the end", "1h@3s", 0, 700, 7_000),
        ("cut from the start", "1h@0s", 0, 1_000, 9_990),
        ("over before the end", "7s@2s", 0, 700, 7_010),
        // Of what arrived before the outage, the last 50 packets are on their path when it begins.
        ("delayed", "1h@3s", 500, 700, 6_500),
        ("on its path at the end", "1s@3s", 2_000, 100, 1_010),
    ] {
        let delay = Duration::from_millis(delay_ms);
        let impairment = Impairment { outages: outage.parse().expect("outages"), delay, ..Impairment::default() };
        let mut net = Net::new(impairment, Impairment::default(), 1);
        (0..1_000).for_each(|sequence| net.up(at(u64::from(sequence) * 10), client(1), &audio(sequence)));
        let (_, results, _) = net.finish(at(9_990));
        let after = results.clients[0].flows[0].forwarded();
        let waiting = if case == "on its path at the end" { 200 } else { 0 };
        assert_eq!(u64::from(after.sequences.distinct), 1_000 - lost - waiting, "{case}");
        assert_eq!((after.sequences.gaps, after.longest_silence), (lost, MS * silence_ms), "{case}");
    }
}

/// Numbers of packets, lost ones, duplicates and late ones.
fn counts_after(sequences: impl Iterator<Item = u32>) -> [u64; 4] {
    let mut arrivals = Arrivals::default();
    for (ms, sequence) in (0..).zip(sequences) {
        arrivals.record(Time::from_millis(ms), sequence);
    }
    let SequenceTracker { received, gaps, duplicates, reordered, .. } = arrivals.sequences;
    [received, gaps, duplicates, reordered]
}

#[test]
fn thirty_ascending_packets_without_a_new_highest_number_are_a_restart() {
    let lossy = || (0..1_000).filter(|sequence| sequence % 10 != 5);
    assert_eq!(counts_after((0..1_000).chain(lossy())), [1_900, 100, 0, 0]);
    for before in [31, 1_000, 5_000, 60_000, 100_000] {
        assert_eq!(counts_after((0..before).chain(0..30)), [u64::from(before) + 30, 0, 0, 0], "{before}");
    }
    assert_eq!(counts_after((0..1_000).chain(0..29)), [1_029, 0, 29, 0], "one too few");
    // Neighbors change their places, each packet comes twice, and one of the stream before comes late.
    let swapped = (0..100).flat_map(|n| [n ^ 1, n ^ 1]);
    assert_eq!(counts_after((0..998).chain([999, 0, 998]).chain(swapped)), [1_201, 0, 101, 51]);
    // Late packets that close gaps are none.
    assert_eq!(counts_after((0..500).map(|n| 2 * n).chain((400..499).map(|n| 2 * n + 1))), [599, 400, 0, 99]);
}
