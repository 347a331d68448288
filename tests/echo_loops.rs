//! Echo servers that hear of each other by forged datagrams, in virtual time: how often each answers, and when they are silent.
//!
//! A turn is both delays and the way there and back. AUDIO is answered three times and then once in 10 s and four delays, KEEPALIVE
//! four times and then once in 800 ms; each answer takes such a time from three or four of them, and each turn gives its own back.

#[path = "nodes/tape.rs"]
mod tape;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::echo::{Config, Counters, Echo};
use jamjam_dev::node::{Datagram, Node};
use jamjam_dev::time::Time;

use tape::Tape;

/// When, in which order, at which host, from whom, what.
type Arrival = (u64, u64, usize, SocketAddr, Vec<u8>);

/// Some hosts; one without a server answers whatever comes with the same at once, as others make them.
struct World {
    hosts: Vec<(SocketAddr, Option<Echo>)>,
    wire: BinaryHeap<Reverse<Arrival>>,
    order: u64,
    /// One way, in nanoseconds.
    way: u64,
}

const MS: u64 = 1_000_000;

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 5_000))
}

fn echo(delay_ms: u64) -> Echo {
    Echo::new(Config { delay: Duration::from_millis(delay_ms), ..Config::default() })
}

impl World {
    fn new(hosts: Vec<Option<Echo>>, way_ms: u64) -> Self {
        let hosts = (1..).map(address).zip(hosts).collect();
        Self { hosts, wire: BinaryHeap::new(), order: 0, way: way_ms * MS }
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
                && let Some(Reverse((_, _, host, from, bytes))) = self.wire.pop()
            {
                let here = self.hosts[host].0;
                match &mut self.hosts[host].1 {
                    Some(echo) => {
                        let at = Time::from_nanos(now);
                        echo.on_datagram(at, &[Datagram { from, to: None, at, bytes: &bytes, stride: bytes.len() }]);
                    }
                    None => self.send(now, here, from, bytes),
                }
            }
            for host in 0..self.hosts.len() {
                let (here, Some(echo)) = &mut self.hosts[host] else { continue };
                let (here, mut tape) = (*here, Tape::new());
                echo.poll_transmit(Time::from_nanos(now), &mut tape);
                for left in tape.left {
                    self.send(now, here, left.to, left.bytes);
                }
            }
        }
    }

    fn send(&mut self, now: u64, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let host = self.hosts.iter().position(|(address, _)| *address == to).expect("somebody at this address");
        self.put(now + self.way, host, from, bytes);
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
    [counters.sent.get(), counters.dropped_repeated.get(), counters.refused_rate.get()]
}

fn answer_counts(counters: &Counters) -> [u64; 3] {
    [counters.answers.get(), counters.dropped_repeated.get(), counters.refused_rate.get()]
}

/// A packet of version 1: type, sequence, timestamp 0, flags 0, payload.
fn packet(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &[0; 6], payload].concat()
}

#[test]
fn audio_goes_to_and_fro_three_times_or_four_with_long_delays() {
    // Delays of the two, one way, how often each echoes, and when the first hears it once more: after that many turns.
    for (delays, way, echoes, end) in [
        ([0, 0], 0, 3, 0),
        ([0, 0], 20, 3, 120),
        ([100, 100], 20, 3, 720),
        ([0, 3_000], 20, 3, 9_120),
        ([3_000, 0], 20, 3, 9_120),
        ([3_000, 3_000], 20, 3, 18_120),
        // At the fourth 3 x 250 s less 3 x 121 s are taken of 750, and 250 more are 637; at the fifth 4 x 129 s and 250 are 766.
        ([60_000, 60_000], 500, 4, 484_000),
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
    // The first would echo at 10 s, or 50 s, five times; the second takes 3 x 24.9 s and 30 of 90, or 4 x 47.9 s and 74 of 222.
    for (delays, echoes, end) in [([0, 5_000], [4, 3], 50 + 3 * 5_100), ([10_000, 16_000], [5, 4], 10_050 + 4 * 26_100)]
    {
        let mut world = World::pair(delays, 50);
        world.forge(0, 1, packet(1, 7, &[9; 512]));
        assert_eq!(world.run(), end, "{delays:?}");
        assert_eq!(world.counts(0, audio_counts), [echoes[0], 0, 0], "{delays:?}");
        assert_eq!(world.counts(1, audio_counts), [echoes[1], 1, 0], "{delays:?}");
    }
}

#[test]
fn a_sign_of_life_goes_to_and_fro_four_times_or_a_little_more_on_a_long_way() {
    // At a turn of 200 ms: before the fifth 4 x 800 less 4 x 200 ms are taken of 3,200, and 800 more are just as much; before the
    // sixth 5 x 600 and 800 are 3,800. At 330 ms the sixth finds 5 x 470 and 800, which are 3,150, the seventh 3,620.
    for (way, answers, end) in [(0, 4, 0), (20, 4, 160), (100, 5, 1_000), (150, 5, 1_500), (165, 6, 1_980)] {
        let mut world = World::pair([3_000, 3_000], way);
        world.forge(0, 1, packet(4, 7, &[]));
        assert_eq!(world.run(), end, "{way} ms");
        assert_eq!(world.counts(0, answer_counts), [answers, 1, 0], "{way} ms");
        assert_eq!(world.counts(1, answer_counts), [answers, 0, 0], "{way} ms");
    }
}

#[test]
fn a_loop_as_slow_as_a_clients_sign_of_life_cannot_be_told_from_one() {
    let mut world = World::pair([0, 0], 500);
    world.forge(0, 1, packet(4, 7, &[]));
    world.run_until(60_000);
    assert_eq!(world.counts(0, answer_counts), [61, 0, 0]);
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
    assert_eq!(world.counts(0, answer_counts), [4, 1, 0]);
}

#[test]
fn an_echo_server_of_another_make_is_answered_no_oftener() {
    for delay in [0, 100, 3_000] {
        let mut world = World::new(vec![Some(echo(delay)), None], 20);
        world.forge(0, 1, packet(1, 7, &[9; 512]));
        world.forge(0, 1, packet(4, 8, b"hello"));
        world.run();
        assert_eq!(world.counts(0, audio_counts), [3, 2, 0], "{delay} ms");
        assert_eq!(world.counts(0, answer_counts)[0], 4, "{delay} ms");
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
    assert_eq!(world.run(), 160);
    assert_eq!(world.counts(0, answer_counts), [1_000 + 3 * 320, 320, 680]);
    assert_eq!(world.counts(1, answer_counts), [1_000 + 3 * 320, 0, 0]);
}

#[test]
fn a_storm_at_the_full_rate_that_no_table_holds_dies_down_all_the_same() {
    // All that a turn of 6 s can carry: 8,000 a second. The table has room for 65,536.
    let mut world = World::pair([3_000, 3_000], 20);
    for number in 0..48_000 {
        world.forge(number / 8, 1, packet(1, number as u32, &[9; 64]));
    }
    assert!(world.run() < 120_000);
    let [sent, repeated, refused] = world.counts(0, audio_counts);
    assert!(sent < 4 * 48_000, "{sent}");
    assert!(repeated + refused <= 48_000 && repeated > 30_000, "{repeated} {refused}");
}
