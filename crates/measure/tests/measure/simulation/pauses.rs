//! A client and an echo server whose hosts pause, in virtual time: what arrives meanwhile waits in a small receive buffer, or is dropped.

use std::time::Duration;

use jamjam_core::echo::{EchoConfig, EchoServer};
use jamjam_core::stats::{Interval, StreamStats};
use jamjam_measure::client::{
    AudioStreamConfig, AudioWorkload, ClientNode, ProbeConfig, ProbeWorkload, RunConfig, RunResults, StreamKind,
};
use test_support::node_driver::{MS, peer};
use test_support::rng::Rng;

use super::net::{Net, intact};
use super::participants::{Participant, Sound};

const SECOND: u64 = 1_000 * MS;

/// A run over a path that takes 5 ms per direction and loses a share of the datagrams. `pauses` are those of the client and of the server.
struct Path {
    loss: f64,
    delay: Duration,
    pauses: [Vec<(u64, u64)>; 2],
}

impl Path {
    fn config(&self) -> RunConfig {
        let first_echo_timeout = Duration::from_secs(3);
        let config = RunConfig::new(peer(), StreamKind::Audio, Duration::from_secs(9));
        RunConfig { first_echo_timeout, loss_report_nonce: Some(1 << 64), loss_direction: self.loss > 0.0, ..config }
    }

    /// Runs a client until it ends. Returns its results, and the number of datagrams that the receive buffers dropped.
    fn run(self, client: Participant) -> (RunResults, u64) {
        let server = EchoServer::new(EchoConfig { delay: self.delay, ..EchoConfig::default() });
        let mut rng = Rng::new(1);
        // Queries of the client must arrive, so that it knows the server's pauses.
        let mut arrives = move |datagram: &[u8]| datagram[0] != 1 || !rng.happens(self.loss);
        let path = intact(move |_, _, datagram| if arrives(datagram) { vec![5 * MS] } else { Vec::new() });
        let mut net = Net::of_client(client, server, path);
        for (host, pauses) in net.hosts.iter_mut().zip(self.pauses) {
            host.pauses = pauses;
        }
        net.run();
        let dropped = net.hosts.iter().map(|host| host.dropped).sum();
        (net.hosts.swap_remove(0).node.into_results(), dropped)
    }

    /// Sends `packets` packets, 375 per second.
    fn send(self, packets: usize) -> (RunResults, u64) {
        let form = AudioStreamConfig { sample_rate: 48_000, channels: 1, frame_samples: 128, first_sequence: 1 };
        let workload = AudioWorkload::new(form, Box::new(Sound::ready(packets, 512)));
        let client = ClientNode::new(self.config(), workload, Box::new(()));
        self.run(Participant::Sender(Box::new(client)))
    }

    /// Sends one small packet every 20 ms.
    fn probe(self, packets: u64) -> (RunResults, u64) {
        let interval = Duration::from_millis(20);
        let probe = ProbeConfig { stream_kind: StreamKind::Audio, count: Some(packets), interval, payload_len: 64 };
        let client = ClientNode::new(self.config(), ProbeWorkload::new(probe), Box::new(()));
        self.run(Participant::Prober(Box::new(client)))
    }
}

/// The AUDIO stream, whose sums are right.
fn audio(run: &RunResults, planned: u64) -> &StreamStats {
    for stream in StreamKind::ALL.into_iter().filter_map(|kind| run.stream(kind)) {
        let StreamStats { sent, returned, damaged, lost, excluded, in_flight, .. } = *stream;
        assert_eq!(sent, returned + damaged + lost + excluded + in_flight);
        assert_eq!(stream.rtt.count(), returned);
        let all = Interval::sum(&stream.history.intervals);
        assert_eq!([all.sent, all.returned, all.lost, all.excluded], [sent, returned, lost, excluded]);
    }
    let stream = &run.audio.as_ref().expect("AUDIO").stats;
    assert_eq!((stream.sent, stream.not_sent), (planned, 0));
    stream
}

#[test]
fn pause_while_the_server_holds_a_packet_excludes_nothing() {
    let count = |pauses: [Vec<(u64, u64)>; 2]| {
        let path = Path { loss: 0.0, delay: Duration::from_secs(3), pauses };
        let (run, _) = path.probe(1);
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
    let (run, _) = path.send(2_231);
    assert!((60..220).contains(&audio(&run, 2_231).excluded), "{}", audio(&run, 2_231).excluded);
}

/// Pauses of up to 8 s, with 20 s on average between them. The last report of the server must arrive, so that its last pause is known.
fn random_pauses(rng: &mut Rng) -> Vec<(u64, u64)> {
    let mut at = 0;
    let next = || {
        let start = at + rng.between(1, 40 * SECOND);
        at = start + rng.between(1, 8 * SECOND);
        Some((start, at)).filter(|_| at <= 3_500 * SECOND)
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn path_without_loss_has_none_in_an_hour_of_random_pauses() {
    let mut rng = Rng::new(7);
    for delay in [Duration::from_millis(100), Duration::from_secs(3)] {
        let path = Path { loss: 0.0, delay, pauses: [random_pauses(&mut rng), random_pauses(&mut rng)] };
        let packets = 50 * 3_600;
        let (run, dropped) = path.probe(packets);
        let stream = audio(&run, packets);
        let what = format!("{delay:?}: {dropped} dropped, {} excluded, {} lost", stream.excluded, stream.lost);
        assert!(stream.lost == 0 && dropped > 1_000 && stream.returned > packets / 3, "{what}");
        let [min, max] = [stream.rtt.min(), stream.rtt.max()].map(|ns| ns.expect("round trips"));
        // Less than 50 ms of each host is no pause.
        assert!(max - min < 110 * MS as i64, "{what}: round trips of {min} to {max}");
    }
}

#[test]
fn loss_of_the_path_is_right_although_a_host_pauses_half_of_the_run() {
    for paused_host in 0..2 {
        let mut pauses = [Vec::new(), Vec::new()];
        pauses[paused_host] = vec![(5 * SECOND, 15 * SECOND)];
        // Each direction loses 5.13 %, so both lose 10 %.
        let path = Path { loss: 0.0513, delay: Duration::from_millis(100), pauses };
        let (run, _) = path.send(7_500);
        let stream = audio(&run, 7_500);
        let ratio = stream.loss_ratio().expect("evaluated packets");
        assert!((0.085..0.115).contains(&ratio), "host {paused_host}: {ratio}");
        let [upstream, downstream] = run.lost_by_direction(StreamKind::Audio).expect("directions");
        assert!(upstream * 2 > downstream && downstream * 2 > upstream, "{upstream} {downstream}");
        assert!(upstream + downstream <= stream.lost, "{upstream} {downstream}");
    }
}
