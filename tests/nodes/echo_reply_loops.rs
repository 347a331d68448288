//! Echo servers that hear of each other by forged datagrams, in virtual time: how often each answers, and when they are silent.
//!
//! A turn is both delays and the way there and back. AUDIO is answered three times and then once in 10 s and six delays; each answer
//! takes such a time from three of them, and each turn gives its own back. The third KEEPALIVE of the same bytes is preceded by a loop
//! check, which only an echo server returns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;
use test_support::tape;

use jamjam_dev::echo::{AdmissionConfig, Counters, EchoConfig, EchoServer};
use jamjam_dev::node::{Node, Receive};
use jamjam_dev::stats::Counter;
use jamjam_dev::time::Time;
use proptest::prelude::*;

use tape::Tape;

/// When, in which order, at which host, from whom, what.
type Arrival = (u64, u64, usize, SocketAddr, Vec<u8>);

/// Some hosts; one without a server answers whatever comes with the same at once, as others make them.
struct World {
    hosts: Vec<(SocketAddr, Option<EchoServer>)>,
    wire: BinaryHeap<Reverse<Arrival>>,
    order: u64,
    /// One way, in nanoseconds.
    way: u64,
    /// When which host sent a KEEPALIVE, in nanoseconds.
    sent: Vec<(u64, usize)>,
}

const MS: u64 = 1_000_000;

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 5_000))
}

fn echo(delay_ms: u64) -> EchoServer {
    EchoServer::new(EchoConfig { delay: Duration::from_millis(delay_ms), ..EchoConfig::default() })
}

impl World {
    fn new(hosts: Vec<Option<EchoServer>>, way_ms: u64) -> Self {
        let hosts = (1..).map(address).zip(hosts).collect();
        Self { hosts, wire: BinaryHeap::new(), order: 0, way: way_ms * MS, sent: Vec::new() }
    }

    /// Two servers with these delays.
    fn pair(delays: [u64; 2], way_ms: u64) -> Self {
        Self::new(delays.map(|delay| Some(echo(delay))).into(), way_ms)
    }

    /// A datagram reaches host 0 at `at_ms` that says it comes from host `from`.
    fn forge(&mut self, at_ms: u64, from: usize, bytes: Vec<u8>) {
        self.put(at_ms * MS, 0, self.hosts[from].0, bytes);
    }

    fn put(&mut self, at: u64, to: usize, from: SocketAddr, bytes: Vec<u8>) {
        self.order += 1;
        self.wire.push(Reverse((at, self.order, to, from, bytes)));
    }

    /// Lets everything happen until `end_ms` or until nothing more can. Returns when the last thing happened, in milliseconds.
    fn run_until(&mut self, end_ms: u64) -> u64 {
        let mut last = 0;
        loop {
            let arrival = self.wire.peek().map(|Reverse(next)| next.0);
            let deadlines = self.hosts.iter().filter_map(|(_, echo)| Some(echo.as_ref()?.next_deadline()?.as_nanos()));
            let Some(now) = deadlines.chain(arrival).min().filter(|now| *now <= end_ms * MS) else {
                return last / MS;
            };
            last = now;
            while let Some(Reverse(next)) = self.wire.peek()
                && next.0 == now
                && let Some(Reverse((_, _, host, source, bytes))) = self.wire.pop()
            {
                let here = self.hosts[host].0;
                match &mut self.hosts[host].1 {
                    Some(echo) => {
                        let received_at = Time::from_nanos(now);
                        echo.on_datagram(
                            received_at,
                            &[Receive {
                                source,
                                dst_ip: None,
                                received_at,
                                contents: &bytes,
                                segment_size: bytes.len(),
                            }],
                        );
                    }
                    None => self.send(now, here, source, bytes),
                }
            }
            for host in 0..self.hosts.len() {
                let (here, Some(echo)) = &mut self.hosts[host] else { continue };
                let (here, mut tape) = (*here, Tape::new());
                echo.poll_transmit(Time::from_nanos(now), &mut tape);
                for left in tape.left {
                    if left.bytes[1] == 4 {
                        self.sent.push((now, host));
                    }
                    self.send(now, here, left.to, left.bytes);
                }
            }
        }
    }

    fn send(&mut self, now: u64, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        // What is for a client ends there.
        if let Some(host) = self.hosts.iter().position(|(address, _)| *address == to) {
            self.put(now + self.way, host, from, bytes);
        }
    }

    /// Until nothing more can happen.
    fn run(&mut self) -> u64 {
        let last = self.run_until(3_600_000);
        assert!(self.wire.is_empty(), "the loop goes on for an hour");
        last
    }

    fn counts<const N: usize>(&self, host: usize, of: impl Fn(&Counters) -> [u64; N]) -> [u64; N] {
        of(&self.hosts[host].1.as_ref().expect("a server").counters())
    }
}

/// Echoes sent, and what was not answered because it repeated itself or went over the rate.
fn audio_counts(counters: &Counters) -> [u64; 3] {
    [counters.sent.get(), counters.dropped_repeated.get(), counters.dropped_packet_rate.get()]
}

fn answer_counts(counters: &Counters) -> [u64; 3] {
    [counters.immediate_replies.get(), counters.dropped_repeated.get(), counters.dropped_packet_rate.get()]
}

/// A packet of version 1: type, sequence, timestamp 0, flags 0, payload.
fn packet(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &[0; 6], payload].concat()
}

#[test]
fn audio_goes_to_and_fro_three_times() {
    // Delays of the two, one way, how often each echoes, and when the first hears it once more: after that many turns.
    for (delays, way, echoes, end) in [
        ([0, 0], 0, 3, 0),
        ([0, 0], 20, 3, 120),
        ([100, 100], 20, 3, 720),
        ([0, 3_000], 20, 3, 9_120),
        ([3_000, 0], 20, 3, 9_120),
        ([3_000, 3_000], 20, 3, 18_120),
        ([60_000, 60_000], 500, 3, 363_000),
        // The longest round trip for which this is promised.
        ([0, 0], 1_000, 3, 6_000),
        ([3_000, 3_000], 1_000, 3, 24_000),
    ] {
        let mut world = World::pair(delays, way);
        world.forge(0, 1, packet(1, 7, &[9; 512]));
        assert_eq!(world.run(), end, "{delays:?}");
        assert_eq!(world.counts(0, audio_counts), [echoes, 1, 0], "{delays:?}");
        assert_eq!(world.counts(1, audio_counts), [echoes, 0, 0], "{delays:?}");
    }
}

#[test]
fn of_two_delays_the_longer_one_ends_what_the_shorter_one_would_go_on_with() {
    // The first would echo five times, or four; the second finds 3 x 34.9 s of 120 taken and needs 40, or 3 x 79.9 s of 318 and needs 106.
    for (delays, way, echoes, end) in [
        ([0, 5_000], 50, [4, 3], 50 + 3 * 5_100),
        ([10_000, 16_000], 50, [4, 3], 10_050 + 3 * 26_100),
        ([0, 3_000], 1_000, [4, 3], 1_000 + 3 * 5_000),
    ] {
        let mut world = World::pair(delays, way);
        world.forge(0, 1, packet(1, 7, &[9; 512]));
        assert_eq!(world.run(), end, "{delays:?}");
        assert_eq!(world.counts(0, audio_counts), [echoes[0], 0, 0], "{delays:?}");
        assert_eq!(world.counts(1, audio_counts), [echoes[1], 1, 0], "{delays:?}");
    }
}

#[test]
fn a_keepalive_exchange_ends_after_three_round_trips() {
    // One way up to 5 s. The third time, a loop check goes ahead of the echo, and comes back ahead of it. The other server answers
    // it and sends its own.
    for way in [0, 1, 20, 165, 399, 400, 401, 450, 500, 750, 999, 1_000, 2_000, 5_000] {
        let mut world = World::pair([3_000, 3_000], way);
        world.forge(0, 1, packet(4, 7, &[]));
        assert_eq!(world.run(), 6 * way, "{way} ms");
        let counts = |counters: &Counters| {
            [&counters.keepalives, &counters.loop_checks, &counters.immediate_replies, &counters.dropped_repeated]
                .map(Counter::get)
        };
        // Of the first: both loop checks and the fourth KEEPALIVE are not answered.
        assert_eq!(world.counts(0, counts), [3, 1, 4, 3], "{way} ms");
        assert_eq!(world.counts(1, counts), [4, 1, 5, 0], "{way} ms");
    }
}

#[test]
fn after_an_exchange_a_new_one_ends_just_as_soon() {
    let mut world = World::pair([0, 0], 1_000);
    // Within the minute in which the source counts as an echo server, after it, and much later.
    for at in [0, 20_000, 59_000, 70_000, 131_000, 500_000] {
        world.forge(at, 1, packet(4, 7, &[]));
        let end = world.run();
        assert!(end <= at + 6_000, "forged at {at} ms, ended at {end} ms");
    }
}

/// How often a host sends in the second in which it sends most, of those that begin at `from_ms` or later.
fn most_in_a_second(world: &World, host: usize, from_ms: u64) -> usize {
    let times: Vec<u64> =
        world.sent.iter().filter(|(at, of)| *of == host && *at >= from_ms * MS).map(|(at, _)| *at).collect();
    let within = |first: usize| times[first..].partition_point(|at| *at < times[first] + 1_000 * MS);
    (0..times.len()).map(within).max().unwrap_or(0)
}

#[test]
fn a_storm_of_keepalives_is_20_replies_per_second_after_its_first_turn() {
    // As much as 8,000 packets per second let through in one round trip.
    for way in [100, 400, 415, 500, 1_000] {
        let mut world = World::pair([0, 0], way);
        let last_forged = 2 * way;
        for sequence in 0..last_forged * 8 {
            world.forge(sequence / 8, 1, packet(4, sequence as u32, &[7; 412]));
        }
        let end = world.run();
        assert!(end <= last_forged + 10_000, "{way} ms: ended at {end} ms");
        for host in [0, 1] {
            // Each server has answered each packet once.
            let first_turn = last_forged + way + 1;
            let most = most_in_a_second(&world, host, first_turn);
            assert!(most <= 20 + 2, "{way} ms: host {host} sent {most} packets in a second");
        }
    }
}

#[test]
fn a_storm_of_keepalives_ends_the_same_beside_audio_of_fifty_clients() {
    let mut world = World::pair([3_000, 3_000], 1_000);
    // More than any table holds: 375 packets per second each, for 12 s.
    for number in 0..50 * 375 * 12_u32 {
        let from = SocketAddr::from(([198, 51, 100, (number % 50) as u8], 5_000));
        world.put(u64::from(number) * 1_000 * MS / 18_750, 0, from, packet(1, number / 50, &[0; 8]));
    }
    (0..300).for_each(|sequence| world.forge(3_000, 1, packet(4, sequence, &[])));
    world.run();
    let last = world.sent.last().map_or(0, |(at, _)| *at) / MS;
    assert!(last <= 3_000 + 10_000, "the last KEEPALIVE was sent at {last} ms");
    for host in [0, 1] {
        let most = most_in_a_second(&world, host, 3_000 + 1_001);
        assert!(most <= 20 + 2, "host {host} sent {most} packets in a second");
    }
}

#[test]
fn a_keepalive_exchange_ends_however_low_the_rate() {
    for rate in [1, 2, 8, 15, 16, 100] {
        for way in [50, 500, 1_000] {
            let mut world = World::pair([0, 0], way);
            for (_, host) in &mut world.hosts {
                let admission = AdmissionConfig { max_packet_rate: Some(rate), ..AdmissionConfig::default() };
                *host = Some(EchoServer::new(EchoConfig { admission, ..EchoConfig::default() }));
            }
            world.forge(0, 1, packet(4, 7, &[]));
            let end = world.run();
            assert!(end <= 10_000, "{rate} per second, {way} ms: ended at {end} ms");
        }
    }
}

proptest! {
    #[test]
    fn every_keepalive_exchange_ends_within_10_s(
        way in 0u64..=1_000,
        delays in [0u64..4_000, 0u64..4_000],
        forged in prop::collection::vec((0u64..3_000, 0u32..4, 0usize..20), 1..40),
    ) {
        let mut world = World::pair(delays, way);
        let mut last = 0;
        for (at, sequence, len) in forged {
            world.forge(at, 1, packet(4, sequence, &vec![3; len]));
            last = last.max(at);
        }
        let end = world.run();
        prop_assert!(end <= last + 10_000, "last forged at {last} ms, ended at {end} ms");
    }
}

#[test]
fn a_server_that_is_handed_its_own_address_falls_silent_too() {
    for (delay, end) in [(0, 0), (100, 300), (3_000, 9_000)] {
        let mut world = World::new(vec![Some(echo(delay))], 0);
        world.forge(0, 0, packet(1, 7, &[9; 512]));
        assert_eq!(world.run(), end);
        assert_eq!(world.counts(0, audio_counts), [3, 1, 0], "{delay} ms");
    }
    let mut world = World::new(vec![Some(echo(0))], 0);
    world.forge(0, 0, packet(4, 7, &[]));
    world.run();
    // Three echoes and a loop check, which comes back, as the fourth KEEPALIVE does.
    assert_eq!(world.counts(0, answer_counts), [4, 2, 0]);
}

#[test]
fn an_echo_server_of_another_make_is_answered_no_oftener() {
    for delay in [0, 100, 3_000] {
        let mut world = World::new(vec![Some(echo(delay)), None], 20);
        world.forge(0, 1, packet(1, 7, &[9; 512]));
        world.forge(0, 1, packet(4, 8, b"hello"));
        world.run();
        assert_eq!(world.counts(0, audio_counts), [3, 3, 0], "{delay} ms");
        assert_eq!(world.counts(0, answer_counts)[0], 3 + 1, "{delay} ms");
    }
}

#[test]
fn what_is_answered_with_something_else_does_not_come_back() {
    let mut world = World::pair([0, 0], 20);
    // A ping, a pong, a route probe, its reply.
    for (kind, payload) in [(5, &[7; 12][..]), (6, &[7; 12]), (4, &[1, 7, 7, 7, 7]), (4, &[2, 7, 7, 7, 7])] {
        world.forge(0, 1, packet(kind, 7, payload));
    }
    assert_eq!(world.run(), 20);
    assert_eq!(world.counts(0, answer_counts), [2, 0, 0]);
    assert_eq!(world.counts(1, answer_counts), [0, 0, 0]);
}

#[test]
fn a_stun_response_reads_as_audio_and_ends_as_audio_does() {
    let mut world = World::pair([100, 100], 20);
    // Binding success response, 12 bytes of attributes, magic cookie, transaction, XOR-MAPPED-ADDRESS.
    let head = [1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    world.forge(0, 1, [&head[..], &[0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]].concat());
    world.run();
    assert_eq!(world.counts(0, audio_counts), [3, 1, 0]);
}

#[test]
fn a_thousand_forged_datagrams_are_no_different() {
    for (delays, end) in [([100, 100], 720), ([3_000, 3_000], 18_120)] {
        let mut world = World::pair(delays, 20);
        (0..1_000).for_each(|sequence| world.forge(0, 1, packet(1, sequence, &[9; 64])));
        assert_eq!(world.run(), end, "{delays:?}");
        assert_eq!(world.counts(0, audio_counts), [3_000, 1_000, 0], "{delays:?}");
        assert_eq!(world.counts(1, audio_counts), [3_000, 0, 0], "{delays:?}");
    }
    // Without a delay they come back after 40 ms, in which 8,000 a second make room for 320. What is refused is out of the loop.
    let mut world = World::pair([0, 0], 20);
    (0..1_000).for_each(|sequence| world.forge(0, 1, packet(1, sequence, &[9; 64])));
    assert_eq!(world.run(), 120);
    assert_eq!(world.counts(0, audio_counts), [1_000 + 2 * 320, 320, 680]);
    assert_eq!(world.counts(1, audio_counts), [1_000 + 2 * 320, 0, 0]);
    let mut world = World::pair([0, 0], 20);
    (0..1_000).for_each(|sequence| world.forge(0, 1, packet(4, sequence, &[])));
    // Of those that come back ten have an answer, and these are too early the next time.
    assert_eq!(world.run(), 80);
    assert_eq!(world.counts(0, answer_counts), [1_000 + 10, 310 + 10, 680]);
    assert_eq!(world.counts(1, answer_counts), [1_000 + 10, 0, 0]);
}

#[test]
fn a_storm_at_the_full_rate_that_no_table_holds_dies_down_all_the_same() {
    // All that a turn of 12 s can carry: 8,000 a second. The table has room for 131,072, eight of each set.
    let mut world = World::pair([6_000, 6_000], 20);
    for number in 0..96_000 {
        world.forge(number / 8, 1, packet(1, number as u32, &[9; 64]));
    }
    assert!(world.run() < 240_000);
    let [sent, repeated, refused] = world.counts(0, audio_counts);
    assert!(sent < 4 * 96_000, "{sent}");
    assert!(repeated + refused <= 96_000 && repeated > 60_000, "{repeated} {refused}");
}
