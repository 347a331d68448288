//! Clients in one group report the same as if each ran alone, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter;
use std::time::Duration;

use jamjam_core::node::{BLOCKED_RETRY, Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_core::node_group::NodeGroup;
use jamjam_core::stats::{Histogram, History, Interval, Ipdv, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    ClientNode, ProbeConfig, ProbeWorkload, Prober, RunConfig, RunResults, SharedRecord, StreamKind,
};
use jamjam_measure::report::clients::merge_clients;
use jamjam_measure::report::limits::Limits;
use test_support::node_driver::{MS, peer, pong};
use test_support::rng::Rng;

/// The socket of a client and its path. What a client sends returns after 5 to 25 ms or is lost, and some sends would block.
struct Path {
    rng: Rng,
    blocked_until: u64,
}

/// Datagrams in flight: time of arrival, serial number, socket, bytes.
type InFlight = BinaryHeap<Reverse<(u64, u64, usize, Vec<u8>)>>;

struct Sockets<'a> {
    now: u64,
    paths: &'a mut [Path],
    in_flight: &'a mut InFlight,
    serial: &'a mut u64,
    is_blocked: bool,
}

impl TransmitSink for Sockets<'_> {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        let Path { rng, blocked_until } = &mut self.paths[transmit.socket];
        if *blocked_until <= self.now && rng.happens(0.02) {
            *blocked_until = self.now + rng.between(1, 120 * MS);
        }
        if *blocked_until > self.now {
            self.is_blocked = true;
            return SendStatus::WouldBlock;
        }
        let is_ping = transmit.contents[1] == 5;
        let reply = if is_ping { pong(transmit.contents) } else { transmit.contents.to_vec() };
        *self.serial += 1;
        if !rng.happens(0.05) {
            let at = self.now + rng.between(5 * MS, 25 * MS);
            self.in_flight.push(Reverse((at, *self.serial, transmit.socket, reply)));
        }
        SendStatus::Sent
    }
}

/// Runs `node` until it has finished. Its socket i has the random numbers of `seeds[i]`.
fn run(node: &mut impl Node, seeds: &[u64]) {
    let mut paths: Vec<Path> = seeds.iter().map(|seed| Path { rng: Rng::new(*seed), blocked_until: 0 }).collect();
    let (mut now, mut serial, mut in_flight) = (0, 0, InFlight::new());
    loop {
        while in_flight.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((at, _, socket, contents))) = in_flight.pop() else { break };
            let (received_at, segment_size) = (Time::from_nanos(at), contents.len());
            let contents = &contents;
            let received = Receive { socket, source: peer(), dst_ip: None, received_at, contents, segment_size };
            node.on_datagram(Time::from_nanos(now), &[received]);
        }
        let mut sink =
            Sockets { now, paths: &mut paths, in_flight: &mut in_flight, serial: &mut serial, is_blocked: false };
        node.poll_transmit(Time::from_nanos(now), &mut sink);
        // A single socket that would block is tried again as those of a group are.
        let retry = (sink.is_blocked && seeds.len() == 1).then(|| now + BLOCKED_RETRY.as_nanos() as u64);
        let Some(deadline) = node.next_deadline() else { return };
        let deadline = retry.unwrap_or(deadline.as_nanos().max(now));
        now = in_flight.peek().map_or(deadline, |Reverse((at, ..))| deadline.min(*at));
    }
}

fn results(client: Prober) -> RunResults {
    client.into_results("", None, &mut ())
}

/// The results of a group of probers that share a record.
fn group_results(probers: impl Iterator<Item = Prober>, seeds: &[u64]) -> (Vec<RunResults>, SharedRecord) {
    let mut group = NodeGroup::new(probers.collect(), SharedRecord::default());
    run(&mut group, seeds);
    let (mut probers, mut record) = group.into_nodes();
    for prober in &mut probers {
        prober.settle(&mut record, None);
    }
    (probers.into_iter().map(results).collect(), record)
}

/// A prober that shares a record, or is alone.
fn prober(seed: u64, stream_kind: StreamKind, shares_record: bool) -> Prober {
    let mut rng = Rng::new(seed);
    let timeout = Duration::from_millis(rng.between(15, 500));
    let config = RunConfig { shares_record, ..RunConfig::new(peer(), stream_kind, timeout) };
    let (count, interval) = (Some(rng.between(1, 60)), Duration::from_millis(rng.between(1, 20)));
    let workload = ProbeWorkload::new(ProbeConfig { stream_kind, count, interval, payload_len: 64 });
    ClientNode::new(config, workload, Box::new(()))
}

/// All statistics of the evaluated stream except its history.
fn statistics(run: &RunResults) -> StreamStats {
    let stream = run.stream(run.evaluated_stream).expect("a stream");
    StreamStats { history: History::default(), ..stream.clone() }
}

/// The statistics that each client has for itself.
fn own_statistics(run: &RunResults) -> String {
    format!("{:?}", StreamStats { ipdv: Ipdv::default(), ..statistics(run) })
}

fn merged(runs: impl Iterator<Item = RunResults>, record: SharedRecord) -> RunResults {
    let mut run = merge_clients(runs.map(|run| (run, 1)), &Limits::default()).expect("clients");
    record.add_to(&mut run);
    run
}

#[test]
fn clients_that_share_a_record_report_the_same_as_alone() {
    for (seed, kind) in [(1, StreamKind::Ping), (2, StreamKind::Keepalive), (3, StreamKind::Ping)] {
        let seeds: Vec<u64> = (0..30).map(|number| seed * 1_000 + number).collect();
        let (together, record) = group_results(seeds.iter().map(|seed| prober(*seed, kind, true)), &seeds);
        let alone = seeds.iter().map(|seed| {
            let mut alone = prober(*seed, kind, false);
            run(&mut alone, &[*seed]);
            results(alone)
        });
        let alone: Vec<RunResults> = alone.collect();
        for (together, alone) in iter::zip(&together, &alone) {
            assert_eq!(own_statistics(together), own_statistics(alone));
            let started_at = |run: &RunResults| run.stream(kind).and_then(|stream| stream.history.started_at);
            assert!(started_at(together).is_some() && started_at(together) <= started_at(alone));
        }
        let mut lateness = Histogram::default();
        alone.iter().filter_map(|run| run.pacing.as_ref()).for_each(|pacing| lateness.merge(&pacing.all));
        let together = merged(together.into_iter(), record);
        let alone = merged(alone.into_iter(), SharedRecord::default());
        assert_eq!(format!("{:?}", statistics(&together)), format!("{:?}", statistics(&alone)));
        let pacing = together.pacing.as_ref().map(|pacing| &pacing.all);
        assert_eq!(format!("{pacing:?}"), format!("{:?}", Some(&lateness)));
        // Each packet is in the shared history once.
        let stream = together.stream(kind).expect("a stream");
        let all = Interval::sum(&stream.history.intervals);
        assert_eq!(
            (all.sent, all.returned, all.lost, all.rtt_max()),
            (stream.sent, stream.returned, stream.lost, stream.rtt.max())
        );
        assert!(stream.returned > 400 && stream.lost > 10, "{} returned, {} lost", stream.returned, stream.lost);
    }
}

#[test]
fn round_trips_of_audio_have_one_baseline_for_all_clients() {
    let seeds: Vec<u64> = (1..20).collect();
    let (runs, record) = group_results(seeds.iter().map(|seed| prober(*seed, StreamKind::Audio, true)), &seeds);
    let stats = |run: &RunResults| run.audio.as_ref().expect("AUDIO").stats.clone();
    let min = runs.iter().filter_map(|run| stats(run).min_rtt()).min();
    assert_eq!(stats(&merged(runs.into_iter(), record)).min_rtt(), min);
    // What a client does without the others.
    for seed in seeds {
        let mut alone = prober(seed, StreamKind::Audio, false);
        run(&mut alone, &[seed]);
        assert!(min <= stats(&results(alone)).min_rtt().or(min));
    }
}
