//! A client and an echo server whose hosts pause, in virtual time: what arrives meanwhile waits in a small receive buffer, or is dropped.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jamjam_core::echo::{EchoConfig, EchoServer};
use jamjam_core::node::{Node, Receive};
use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioSender, AudioStreamConfig, AudioWorkload, ClientNode, PayloadSource, ProbeConfig, ProbeWorkload, RunConfig,
    RunResults, SourcePoll, StreamKind,
};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use jamjam_measure::verdict::Judged;
use test_support::node_driver::{MS, peer};
use test_support::recording_sink::RecordingSink;
use test_support::rng::Rng;

const SECOND: u64 = 1_000 * MS;

/// Time between two batches that a host reads.
const READ_INTERVAL: u64 = MS / 10;

/// A host that does not run during its pauses.
#[derive(Default)]
struct Host {
    wake: u64,
    pauses: Vec<(u64, u64)>,
    inbox: VecDeque<(u64, Vec<u8>)>,
    /// Number of datagrams that its receive buffer dropped.
    dropped: u64,
}

impl Host {
    fn new(pauses: &[(u64, u64)]) -> Self {
        Self { pauses: pauses.to_vec(), ..Self::default() }
    }

    /// The first time from `at` on at which the host runs.
    fn runs_at(&self, at: u64) -> u64 {
        let next = self.pauses.get(self.pauses.partition_point(|(_, end)| *end <= at));
        next.filter(|(start, _)| *start <= at).map_or(at, |(_, end)| *end)
    }

    fn receive(&mut self, at: u64, datagram: Vec<u8>) {
        // A default receive buffer of Linux holds about this many small datagrams.
        if self.inbox.len() == 180 {
            self.dropped += 1;
            return;
        }
        self.inbox.push_back((at, datagram));
        self.wake = self.wake.min(self.runs_at(at));
    }

    /// Runs `node` once, and returns what it sends.
    fn run(&mut self, node: &mut dyn Node, from: SocketAddr, now: u64) -> Vec<Vec<u8>> {
        let waiting: Vec<_> = self.inbox.drain(..self.inbox.len().min(16)).collect();
        let batch = waiting.iter().map(|(at, contents)| Receive {
            socket: 0,
            source: from,
            dst_ip: None::<IpAddr>,
            received_at: Time::from_nanos(*at),
            contents,
            segment_size: contents.len(),
        });
        let batch: Vec<Receive<'_>> = batch.collect();
        if !batch.is_empty() {
            node.on_datagram(Time::from_nanos(now), &batch);
        }
        let mut sink = RecordingSink::new();
        node.poll_transmit(Time::from_nanos(now), &mut sink);
        let next = if self.inbox.is_empty() { None } else { Some(now + READ_INTERVAL) };
        let deadline = node.next_deadline().map(|at| at.as_nanos().max(now + 1));
        self.wake = next.into_iter().chain(deadline).min().map_or(u64::MAX, |at| self.runs_at(at));
        sink.take()
    }
}

/// A run over a path that takes 5 ms per direction and loses a share of the datagrams. `pauses` are those of the client and of the server.
struct Path {
    loss: f64,
    delay: Duration,
    pauses: [Vec<(u64, u64)>; 2],
}

impl Path {
    /// Runs `node` until it ends. Returns the datagrams that the receive buffers dropped.
    fn run(&self, node: &mut dyn Node) -> u64 {
        let mut server = EchoServer::new(EchoConfig { delay: self.delay, ..EchoConfig::default() });
        let mut hosts = [Host::new(&self.pauses[0]), Host::new(&self.pauses[1])];
        let client = SocketAddr::from(([192, 0, 2, 1], 40_000));
        let (mut rng, mut serial, mut arrivals) = (Rng::new(1), 0_u64, BinaryHeap::new());
        while node.next_deadline().is_some() {
            let arrival =
                arrivals.peek().map_or(u64::MAX, |Reverse((at, ..)): &Reverse<(u64, u64, usize, Vec<u8>)>| *at);
            let runs = usize::from(hosts[1].wake < hosts[0].wake);
            let now = hosts[runs].wake;
            if arrival <= now {
                let Some(Reverse((at, _, to, datagram))) = arrivals.pop() else { break };
                hosts[to].receive(at, datagram);
                continue;
            }
            let sent = match runs {
                0 => hosts[0].run(node, peer(), now),
                _ => hosts[1].run(&mut server, client, now),
            };
            for datagram in sent {
                serial += 1;
                // Queries of the client must arrive, so that it knows the server's pauses.
                if datagram[0] != 1 || !rng.happens(self.loss) {
                    arrivals.push(Reverse((now + 5 * MS, serial, 1 - runs, datagram)));
                }
            }
        }
        hosts.iter().map(|host| host.dropped).sum()
    }
}

fn config(path: &Path) -> RunConfig {
    let first_echo_timeout = Duration::from_secs(3);
    let timeout = Duration::from_secs(9);
    let config = RunConfig::new(peer(), StreamKind::Audio, timeout);
    RunConfig { first_echo_timeout, loss_report_nonce: Some(1 << 64), loss_direction: path.loss > 0.0, ..config }
}

/// Packets of silence.
struct Silence(u64);

impl PayloadSource for Silence {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        let Some(left) = self.0.checked_sub(1) else { return SourcePoll::End };
        self.0 = left;
        payload.resize(payload.len() + 512, 0);
        SourcePoll::Ready
    }
}

/// Sends `packets` packets, 375 per second.
fn send(path: &Path, packets: u64) -> (RunResults, u64) {
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 1, frame_samples: 128, first_sequence: 1 };
    let workload = AudioWorkload::new(form, Box::new(Silence(packets)));
    let mut node: AudioSender<Silence> = ClientNode::new(config(path), workload, Box::new(()));
    let dropped = path.run(&mut node);
    (node.into_results("", None, &mut ()), dropped)
}

/// Sends one small packet every `interval_ms`.
fn probe(path: &Path, packets: u64, interval_ms: u64) -> (RunResults, u64) {
    let interval = Duration::from_millis(interval_ms);
    let probe = ProbeConfig { stream_kind: StreamKind::Audio, count: Some(packets), interval, payload_len: 64 };
    let mut node = ClientNode::new(config(path), ProbeWorkload::new(probe), Box::new(()));
    let dropped = path.run(&mut node);
    (node.into_results("", None, &mut ()), dropped)
}

/// The AUDIO stream, whose sums are right.
fn audio(run: &RunResults, planned: u64) -> &StreamStats {
    for stream in StreamKind::ALL.into_iter().filter_map(|kind| run.stream(kind)) {
        let StreamStats { sent, returned, damaged, lost, excluded, in_flight, .. } = *stream;
        assert_eq!(sent, returned + damaged + lost + excluded + in_flight);
        assert_eq!(stream.rtt.count(), returned);
        let sum =
            |part: fn(&jamjam_core::stats::Interval) -> u64| stream.history.intervals.iter().map(part).sum::<u64>();
        let parts =
            [sum(|part| part.sent), sum(|part| part.returned), sum(|part| part.lost), sum(|part| part.excluded)];
        assert_eq!(parts, [sent, returned, lost, excluded]);
    }
    let stream = &run.audio.as_ref().expect("AUDIO").stats;
    assert_eq!((stream.sent, stream.not_sent), (planned, 0));
    stream
}

#[test]
fn pause_of_five_seconds_loses_nothing_and_changes_no_round_trip() {
    for (delay_ms, paused_host) in [(100, 0), (100, 1), (3_000, 0), (3_000, 1)] {
        let mut pauses = [Vec::new(), Vec::new()];
        pauses[paused_host] = vec![(6 * SECOND, 11 * SECOND)];
        let path = Path { loss: 0.0, delay: Duration::from_millis(delay_ms), pauses };
        let (run, dropped) = send(&path, 7_500);
        let stream = audio(&run, 7_500);
        let what =
            format!("delay {delay_ms} ms, host {paused_host}: {} dropped, {} excluded", dropped, stream.excluded);
        assert_eq!(stream.lost, 0, "{what}");
        // In flight: what was sent in the echo time before a pause of this host, or since then until the end of a pause of the server.
        let echo_time = delay_ms * 1_000_000 + 10 * MS;
        let at_most = (echo_time + 400 * MS + 5 * SECOND * paused_host as u64) * 375 / SECOND;
        assert!(stream.excluded <= at_most && stream.excluded >= (echo_time - 10 * MS) * 300 / SECOND, "{what}");
        let [min, max] = [stream.rtt.min(), stream.rtt.max()].map(|ns| ns.expect("round trips"));
        assert!(max - min < 10 * MS as i64, "{what}: {min} to {max}");
        // The packets of this host take 20 s, and 5 s longer after its pause. Nothing else is late.
        let schedule = run.schedule.expect("a schedule");
        let (shifts, shifted) = if paused_host == 0 { (1, 5 * SECOND) } else { (0, 0) };
        assert_eq!((schedule.planned_ns, schedule.shifts), (20 * SECOND, shifts), "{what}");
        let differences =
            [schedule.shift_total_ns.abs_diff(shifted), schedule.actual_ns.abs_diff(20 * SECOND + shifted)];
        assert!(differences.iter().all(|ns| *ns < 5 * MS), "{what}: {schedule:?}");
        assert!(dropped > 100 || paused_host == 0, "{what}");
    }
}

#[test]
fn pause_while_the_server_holds_a_packet_excludes_nothing() {
    let count = |pauses: [Vec<(u64, u64)>; 2]| {
        let path = Path { loss: 0.0, delay: Duration::from_secs(3), pauses };
        let (run, _) = probe(&path, 1, 20);
        (audio(&run, 1).returned, audio(&run, 1).excluded)
    };
    // The packet is sent at 0 ms, is at the server from 5 to 3,005 ms, and returns at 3,010 ms.
    for host in 0..2 {
        for (from, to, expected) in [(1_000, 2_500, (1, 0)), (1_000, 3_100, (0, 1)), (5, 1_000, (0, 1))] {
            let mut pauses = [Vec::new(), Vec::new()];
            pauses[host] = vec![(from * MS, to * MS)];
            assert_eq!(count(pauses), expected, "host {host} paused from {from} to {to} ms");
        }
    }
    // Of 6 s, a pause of 103 ms excludes about two times 103 ms, the time to read what waited, and what the time of the report leaves open.
    let path = Path { loss: 0.0, delay: Duration::from_secs(3), pauses: [Vec::new(), vec![(4_000 * MS, 4_103 * MS)]] };
    let (run, _) = send(&path, 2_231);
    assert!((60..220).contains(&audio(&run, 2_231).excluded), "{}", audio(&run, 2_231).excluded);
}

/// Pauses from `start` to `end`, of up to `longest`, with `gap` on average between them.
fn random_pauses(rng: &mut Rng, end: u64, longest: u64, gap: u64) -> Vec<(u64, u64)> {
    let (mut pauses, mut at) = (Vec::new(), 0);
    loop {
        at += rng.between(1, 2 * gap);
        let length = rng.between(1, longest);
        if at + length > end {
            return pauses;
        }
        pauses.push((at, at + length));
        at += length;
    }
}

#[test]
fn path_without_loss_has_none_in_an_hour_of_random_pauses() {
    let mut rng = Rng::new(7);
    for delay in [Duration::from_millis(100), Duration::from_secs(3)] {
        // The last report of the server must arrive, so that its last pause is known.
        let mut pauses = || random_pauses(&mut rng, 3_500 * SECOND, 8 * SECOND, 20 * SECOND);
        let path = Path { loss: 0.0, delay, pauses: [pauses(), pauses()] };
        let packets = 50 * 3_600;
        let (run, dropped) = probe(&path, packets, 20);
        let stream = audio(&run, packets);
        let what = format!("{delay:?}: {dropped} dropped, {} excluded, {} lost", stream.excluded, stream.lost);
        assert!(stream.lost == 0 && dropped > 1_000 && stream.returned > packets / 3, "{what}");
    }
}

#[test]
fn loss_of_the_path_is_right_although_a_host_pauses_half_of_the_run() {
    for paused_host in 0..2 {
        let mut pauses = [Vec::new(), Vec::new()];
        pauses[paused_host] = vec![(5 * SECOND, 15 * SECOND)];
        // Each direction loses 5.13 %, so both lose 10 %.
        let path = Path { loss: 0.0513, delay: Duration::from_millis(100), pauses };
        let (run, _) = send(&path, 7_500);
        let stream = audio(&run, 7_500);
        let ratio = stream.loss_ratio().expect("evaluated packets");
        assert!((0.085..0.115).contains(&ratio), "host {paused_host}: {ratio}");
        let [upstream, downstream] = run.lost_by_direction(StreamKind::Audio).expect("directions");
        assert!(upstream * 2 > downstream && downstream * 2 > upstream, "{upstream} {downstream}");
        assert!(upstream + downstream <= stream.lost, "{upstream} {downstream}");
    }
}

#[test]
fn run_that_evaluated_less_than_half_has_measured_nothing() {
    let path = |host: usize| {
        let mut pauses = [Vec::new(), Vec::new()];
        // The server already pauses when the first packet arrives.
        pauses[host] = vec![(3 * MS, 2_003 * MS)];
        Path { loss: 0.0, delay: Duration::ZERO, pauses }
    };
    let limits = Limits { max_loss: Some(0.0), max_p99: Some(Duration::from_nanos(1)), ..Limits::default() };
    for (host, name) in ["this host", "the server"].into_iter().enumerate() {
        let (run, _) = probe(&path(host), 3, 1);
        let report = Report::new(&run, &limits);
        let reasons = &report.head.verdict.reasons;
        assert_eq!(report.exit_code(), 4, "{reasons:?}");
        assert!(
            report.head.limits().iter().all(|limit| limit.result == Judged::NotJudged),
            "{:?}",
            report.head.limits()
        );
        let cause = format!("({name} did not run for 2.0 s: only 0 of 3 evaluated)");
        assert!(reasons.iter().all(|reason| reason.ends_with(&cause)), "{reasons:?}");
        assert!(report.head.warnings.iter().all(|warning| warning.code != "no_replies"), "{:?}", report.head.warnings);
    }
}

#[test]
fn host_that_is_too_slow_for_its_schedule_is_a_warning() {
    let interval = Duration::from_micros(1);
    let probe = ProbeConfig { stream_kind: StreamKind::Keepalive, count: Some(1_000_000), interval, payload_len: 0 };
    let config = RunConfig::new(peer(), StreamKind::Keepalive, Duration::from_secs(2));
    let mut node = ClientNode::new(config, ProbeWorkload::new(probe), Box::new(()));
    let mut sink = RecordingSink::new();
    let mut now = 0;
    // Sending takes 4 µs per packet.
    while node.live_figures().snapshot().sent < 1_000_000 {
        node.poll_transmit(Time::from_nanos(now), &mut sink);
        now += 4_000 * sink.take().len().max(1) as u64;
    }
    let mut run = node.into_results("", Some(Time::from_nanos(now)), &mut ());
    if let Some(stream) = &mut run.keepalive {
        (stream.returned, stream.lost, stream.in_flight) = (stream.sent, 0, 0);
    }
    let schedule = run.schedule.expect("a schedule");
    assert_eq!((schedule.planned_ns, run.pauses.count), (SECOND, 0));
    assert!((4 * SECOND).abs_diff(schedule.actual_ns) < 60 * MS, "{schedule:?}");
    let report = Report::new(&run, &Limits::default());
    let warning = &report.head.warnings[0];
    assert_eq!((warning.code, report.exit_code()), ("slow_schedule", 0));
    assert_eq!(warning.message, "this host sent 4 times slower than planned");
}
