//! Loops between two echo servers, in virtual time: a datagram with the forged source address of one server is sent to the other, and then
//! they answer each other's replies. The tests check how often each server answers and when the loop ends. One round takes both server delays
//! and both path delays.
//!
//! A loop of AUDIO ends because each server keeps a time budget for each packet, of at first three intervals of 10 s plus six times its delay.
//! Each echo of the packet takes one interval from the budget, which grows by one second per second up to its first value. If less than one
//! interval is left, the server drops the packet. Instead of the third reply to the same KEEPALIVE, a server sends a loop check, which only an
//! echo server returns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;
use test_support::node_driver::{MS, deliver};
use test_support::recording_sink::RecordingSink;

use jamjam_core::echo::DropReason::{PacketRate, Repeated};
use jamjam_core::echo::{AdmissionConfig, Counters, EchoConfig, EchoServer};
use jamjam_core::node::Node;
use jamjam_core::stats::Counter;
use jamjam_core::time::Time;
use proptest::prelude::*;

use super::{client, packet, server};

/// An arriving datagram: time, order, destination host, source, bytes.
type Arrival = (u64, u64, usize, SocketAddr, Vec<u8>);

/// The hosts of the network. A host without an `EchoServer` simulates an echo server of another project. Such a host returns every datagram
/// unchanged and immediately.
struct Network {
    hosts: Vec<(SocketAddr, Option<EchoServer>)>,
    wire: BinaryHeap<Reverse<Arrival>>,
    order: u64,
    /// Path delay in nanoseconds.
    path_delay: u64,
    /// For each KEEPALIVE that an `EchoServer` sent: the send time in nanoseconds, and the index of the host.
    keepalives_sent: Vec<(u64, usize)>,
}

impl Network {
    fn new(hosts: Vec<Option<EchoServer>>, path_delay_ms: u64) -> Self {
        let hosts = (1..).map(client).zip(hosts).collect();
        Self { hosts, wire: BinaryHeap::new(), order: 0, path_delay: path_delay_ms * MS, keepalives_sent: Vec::new() }
    }

    /// Creates two servers with these delays.
    fn pair(delays: [u64; 2], path_delay_ms: u64) -> Self {
        Self::new(delays.map(|delay| Some(server(delay))).into(), path_delay_ms)
    }

    /// Delivers a datagram to host 0 at `at_ms` with host `from` as its forged source.
    fn forge(&mut self, at_ms: u64, from: usize, bytes: Vec<u8>) {
        self.enqueue(at_ms * MS, 0, self.hosts[from].0, bytes);
    }

    fn enqueue(&mut self, at: u64, to: usize, from: SocketAddr, bytes: Vec<u8>) {
        self.order += 1;
        self.wire.push(Reverse((at, self.order, to, from, bytes)));
    }

    /// Runs until `end_ms` or until there are no more events. Returns the time of the last event in milliseconds.
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
                    Some(echo) => deliver(echo, now, source, &bytes),
                    None => self.send(now, here, source, bytes),
                }
            }
            for host in 0..self.hosts.len() {
                let (here, Some(echo)) = &mut self.hosts[host] else { continue };
                let (here, mut sink) = (*here, RecordingSink::new());
                echo.poll_transmit(Time::from_nanos(now), &mut sink);
                for left in sink.sent {
                    if left.bytes[1] == 4 {
                        self.keepalives_sent.push((now, host));
                    }
                    self.send(now, here, left.to, left.bytes);
                }
            }
        }
    }

    fn send(&mut self, now: u64, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        // A datagram is discarded if no simulated host has its destination address. A client, for example, is not a simulated host.
        if let Some(host) = self.hosts.iter().position(|(address, _)| *address == to) {
            self.enqueue(now + self.path_delay, host, from, bytes);
        }
    }

    /// Runs until there are no more events.
    fn run(&mut self) -> u64 {
        let last = self.run_until(3_600_000);
        assert!(self.wire.is_empty(), "the loop lasts longer than an hour");
        last
    }

    fn counts<const N: usize>(&self, host: usize, of: impl Fn(&Counters) -> [u64; N]) -> [u64; N] {
        of(&self.hosts[host].1.as_ref().expect("a server").counters())
    }
}

/// The numbers of sent echoes, of dropped repeated packets, and of packets above the rate limit.
fn audio_counts(counters: &Counters) -> [u64; 3] {
    [counters.sent.get(), counters.dropped(Repeated).get(), counters.dropped(PacketRate).get()]
}

fn answer_counts(counters: &Counters) -> [u64; 3] {
    [counters.immediate_replies.get(), counters.dropped(Repeated).get(), counters.dropped(PacketRate).get()]
}

#[test]
fn audio_loops_three_times() {
    // (server delays, path delay, echoes and dropped repetitions of each server, end of the loop), times in ms.
    let first_drops = [[3, 1], [3, 0]];
    // A server with a longer delay has a larger budget for each packet and uses it up faster. In the first of these rows, the budget of the
    // second server is 120 s, and each of three rounds uses 40 s minus the 5.1 s that pass. The 15.3 s that are left are less than 40 s.
    let second_drops = [[4, 0], [3, 1]];
    for (delays, path_delay, counts, end) in [
        ([0, 0], 0, first_drops, 0),
        ([0, 0], 20, first_drops, 120),
        ([0, 3_000], 20, first_drops, 9_120),
        ([3_000, 0], 20, first_drops, 9_120),
        ([60_000, 60_000], 500, first_drops, 363_000),
        // The maximum round trip (2 s) for which this number of rounds is guaranteed.
        ([0, 0], 1_000, first_drops, 6_000),
        ([3_000, 3_000], 1_000, first_drops, 24_000),
        ([0, 5_000], 50, second_drops, 50 + 3 * 5_100),
        ([10_000, 16_000], 50, second_drops, 10_050 + 3 * 26_100),
        ([0, 3_000], 1_000, second_drops, 1_000 + 3 * 5_000),
    ] {
        let mut network = Network::pair(delays, path_delay);
        network.forge(0, 1, packet(1, 7, &[9; 512]));
        assert_eq!(network.run(), end, "{delays:?}");
        let expected = counts.map(|[echoes, repeated]| [echoes, repeated, 0]);
        assert_eq!([0, 1].map(|host| network.counts(host, audio_counts)), expected, "{delays:?}");
    }
}

#[test]
fn keepalive_loop_ends_after_three_round_trips() {
    // The path delay is between 0 and 5 s. Instead of a third echo, the first server sends a loop check. The second server returns this loop
    // check.
    for path_delay in [0, 1, 20, 165, 399, 400, 401, 450, 500, 750, 999, 1_000, 2_000, 5_000] {
        let mut network = Network::pair([3_000, 3_000], path_delay);
        network.forge(0, 1, packet(4, 7, &[]));
        assert_eq!(network.run(), 6 * path_delay, "{path_delay} ms");
        let counts = |counters: &Counters| {
            [&counters.keepalives, &counters.loop_checks, &counters.immediate_replies, counters.dropped(Repeated)]
                .map(Counter::get)
        };
        // The first server drops the returned loop check.
        assert_eq!(network.counts(0, counts), [2, 1, 3, 1], "{path_delay} ms");
        assert_eq!(network.counts(1, counts), [3, 0, 3, 0], "{path_delay} ms");
    }
}

#[test]
fn loop_started_after_another_ends_as_quickly() {
    let mut network = Network::pair([0, 0], 1_000);
    // The first datagram starts a loop. The server then treats the source as an echo server for a minute. The test forges the datagram
    // again within this minute, shortly after this minute, and later.
    for at in [0, 20_000, 59_000, 70_000, 131_000, 500_000] {
        network.forge(at, 1, packet(4, 7, &[]));
        let end = network.run();
        assert!(end <= at + 6_000, "forged at {at} ms, ended at {end} ms");
    }
}

/// The maximum number of KEEPALIVEs that a host sends within any period of one second. Only KEEPALIVEs sent at or after `from_ms` count.
fn max_per_second(network: &Network, host: usize, from_ms: u64) -> usize {
    let of_host = network.keepalives_sent.iter().filter(|(at, of)| *of == host && *at >= from_ms * MS);
    let times: Vec<u64> = of_host.map(|(at, _)| *at).collect();
    let within = |first: usize| times[first..].partition_point(|at| *at < times[first] + 1_000 * MS);
    (0..times.len()).map(within).max().unwrap_or(0)
}

#[test]
fn keepalive_storm_is_20_replies_per_second_after_its_first_round() {
    // For the duration of one round trip, 8,000 forged packets per second arrive.
    for path_delay in [100, 400, 415, 500, 1_000] {
        let mut network = Network::pair([0, 0], path_delay);
        let last_forged = 2 * path_delay;
        for sequence in 0..last_forged * 8 {
            network.forge(sequence / 8, 1, packet(4, sequence as u32, &[7; 412]));
        }
        let end = network.run();
        assert!(end <= last_forged + 10_000, "{path_delay} ms: ended at {end} ms");
        for host in [0, 1] {
            // By this time, each server has answered each packet once.
            let first_round = last_forged + path_delay + 1;
            let maximum = max_per_second(&network, host, first_round);
            assert!(maximum <= 20 + 2, "{path_delay} ms: host {host} sent {maximum} packets in a second");
        }
    }
}

proptest! {
    #[test]
    fn every_keepalive_loop_ends_within_10_s_at_any_rate_limit(
        path_delay in 0u64..=1_000,
        delays in [0u64..4_000, 0u64..4_000],
        rate in prop::sample::select(vec![1, 2, 8, 15, 16, 100, 8_000]),
        forged in prop::collection::vec((0u64..3_000, 0u32..4, 0usize..20), 1..40),
    ) {
        let mut network = Network::pair(delays, path_delay);
        for ((_, host), delay) in network.hosts.iter_mut().zip(delays) {
            let admission = AdmissionConfig { max_packet_rate: Some(rate), ..AdmissionConfig::default() };
            *host = Some(EchoServer::new(EchoConfig { delay: Duration::from_millis(delay), admission, ..EchoConfig::default() }));
        }
        let mut last = 0;
        for (at, sequence, len) in forged {
            network.forge(at, 1, packet(4, sequence, &vec![3; len]));
            last = last.max(at);
        }
        let end = network.run();
        prop_assert!(end <= last + 10_000, "last forged at {last} ms, ended at {end} ms");
    }
}

#[test]
fn server_that_receives_its_own_address_as_source_ends_the_loop() {
    for (delay, end) in [(0, 0), (100, 300), (3_000, 9_000)] {
        let mut network = Network::new(vec![Some(server(delay))], 0);
        network.forge(0, 0, packet(1, 7, &[9; 512]));
        assert_eq!(network.run(), end);
        assert_eq!(network.counts(0, audio_counts), [3, 1, 0], "{delay} ms");
    }
    let mut network = Network::new(vec![Some(server(0))], 0);
    network.forge(0, 0, packet(4, 7, &[]));
    network.run();
    // Two echoes and a loop check are sent. The server does not answer the returned loop check.
    assert_eq!(network.counts(0, answer_counts), [3, 1, 0]);
}

#[test]
fn foreign_echo_server_is_answered_no_more_often() {
    for delay in [0, 100, 3_000] {
        let mut network = Network::new(vec![Some(server(delay)), None], 20);
        network.forge(0, 1, packet(1, 7, &[9; 512]));
        network.forge(0, 1, packet(4, 8, b"hello"));
        network.run();
        assert_eq!(network.counts(0, audio_counts), [3, 2, 0], "{delay} ms");
        assert_eq!(network.counts(0, answer_counts)[0], 2 + 1, "{delay} ms");
    }
}

#[test]
fn replies_of_another_type_cause_no_loop() {
    let mut network = Network::pair([0, 0], 20);
    // A ping, a pong, a route probe, and the reply to a route probe.
    for (kind, payload) in [(5, &[7; 12][..]), (6, &[7; 12]), (4, &[1, 7, 7, 7, 7]), (4, &[2, 7, 7, 7, 7])] {
        network.forge(0, 1, packet(kind, 7, payload));
    }
    assert_eq!(network.run(), 20);
    assert_eq!([0, 1].map(|host| network.counts(host, answer_counts)), [[2, 0, 0], [0; 3]]);
}

#[test]
fn thousand_forged_datagrams_end_like_one() {
    for (delays, end, counts) in [
        ([100, 100], 720, [[3_000, 1_000, 0], [3_000, 0, 0]]),
        ([3_000, 3_000], 18_120, [[3_000, 1_000, 0], [3_000, 0, 0]]),
        // Without a delay, the packets return after 40 ms. In this time, a rate of 8,000 per second allows 320 more packets. The other
        // packets are dropped and leave the loop.
        ([0, 0], 120, [[1_000 + 2 * 320, 320, 680], [1_000 + 2 * 320, 0, 0]]),
    ] {
        let mut network = Network::pair(delays, 20);
        (0..1_000).for_each(|sequence| network.forge(0, 1, packet(1, sequence, &[9; 64])));
        assert_eq!(network.run(), end, "{delays:?}");
        assert_eq!([0, 1].map(|host| network.counts(host, audio_counts)), counts, "{delays:?}");
    }
}

#[test]
fn storm_at_the_full_rate_ends_although_the_table_overflows() {
    // A round takes about 12 s. With at most 8,000 packets per second, at most 96,000 packets pass in one round. The table has 131,072
    // entries, eight per set.
    let mut network = Network::pair([6_000, 6_000], 20);
    for number in 0..96_000 {
        network.forge(number / 8, 1, packet(1, number as u32, &[9; 64]));
    }
    assert!(network.run() < 240_000);
    let [sent, repeated, over_rate] = network.counts(0, audio_counts);
    assert!(sent < 4 * 96_000, "{sent}");
    assert!(repeated + over_rate <= 96_000 && repeated > 60_000, "{repeated} {over_rate}");
}
