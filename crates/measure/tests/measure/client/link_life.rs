//! The life of a link between client and echo server, in virtual time. The ends share only the derivation of keys and the sealing.

use super::run_config;
use crate::simulation::log::Event;
use crate::simulation::net::{Net, Path, intact};
use crate::simulation::participants::{Participant, Sound};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use test_support::link_client::{AUDIO, CONTROL, KEEPALIVE, LATENCY_PING};
use test_support::node_driver::{MS, deliver, poll};

use jamjam_core::echo::EchoServer;
use jamjam_core::link::LinkKey;
use jamjam_measure::client::{
    AudioStreamConfig, AudioWorkload, ClientNode, LinkResults, LinkSigning, ProbeConfig, ProbeWorkload, RunConfig,
    RunResults, StreamKind,
};

use super::link::link_config;
use test_support::echo_link::{LINK_KEY_SEED, SECOND, client_address, server};

/// Time on the way in each direction.
const LATENCY: u64 = MS;

/// The number of the server among the hosts.
const SERVER: usize = 1;

/// The type of LATENCY_INFO.
const LATENCY_INFO: u8 = 7;

/// A sender of `packets` stereo packets of 32 samples, 1,500 each second.
fn sender(packets: usize, entropy: u8, signing: Option<LinkSigning>) -> Participant {
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 2, frame_samples: 32, first_sequence: 0 };
    let workload = AudioWorkload::new(form, Box::new(Sound::ready(packets, 256)));
    let node = ClientNode::new(run_config(StreamKind::Audio), workload, Box::new(()));
    Participant::Sender(Box::new(node.with_link(Some(link_config(entropy, signing)))))
}

fn signing(server_seed: [u8; 32]) -> LinkSigning {
    LinkSigning { own: LinkKey::from_seed(&[8; 32]), server: LinkKey::from_seed(&server_seed).public() }
}

fn good_path<'a>() -> Path<'a> {
    intact(|_, _, _| vec![LATENCY])
}

/// Selects datagrams by direction (whether to the server) and bytes.
type Selects = fn(bool, &[u8]) -> bool;

/// A path that loses the first `count` datagrams for which `is_meant` is true.
fn losing<'a>(count: usize, is_meant: Selects) -> Path<'a> {
    let mut left = count;
    intact(move |_, [_, to], datagram| {
        if left > 0 && is_meant(to == SERVER, datagram) {
            left -= 1;
            return Vec::new();
        }
        vec![LATENCY]
    })
}

/// Runs until the client has finished. Returns its results, and what it has sent, with times.
fn finish(mut net: Net<'_>) -> (RunResults, Vec<(u64, Vec<u8>)>) {
    net.run();
    let client = net.hosts.swap_remove(0);
    let sent = client.log.into_iter().filter_map(|event| match event {
        Event::Sent { at, bytes, .. } => Some((at.cast_unsigned(), bytes)),
        Event::Received { .. } => None,
    });
    (client.node.into_results(), sent.collect())
}

fn run(client: Participant, server: EchoServer, path: Path<'_>) -> (RunResults, Vec<(u64, Vec<u8>)>) {
    finish(Net::of_client(client, server, path))
}

fn link(run: &RunResults) -> LinkResults {
    run.link.expect("a link")
}

fn returned(run: &RunResults) -> (u64, u64) {
    let stats = &run.audio.as_ref().expect("AUDIO").stats;
    assert_eq!((stats.damaged, stats.unmatched), (0, 0));
    (stats.sent, stats.returned)
}

/// Times of the packets of one type, in milliseconds.
fn times(sent: &[(u64, Vec<u8>)], kind: u8) -> Vec<u64> {
    sent.iter().filter(|(_, datagram)| datagram[1] == kind).map(|(at, _)| at / MS).collect()
}

/// Checks that no counter was used twice. Before the link is settled, the server may have had several keys.
fn assert_counters_are_unique(sent: &[(u64, Vec<u8>)]) {
    let mut counters = HashSet::new();
    for (at, datagram) in sent.iter().filter(|(_, datagram)| datagram[11] & 1 == 1) {
        assert!(counters.insert(datagram[12..20].to_vec()), "a counter occurs twice at {at}");
    }
    assert!(!counters.is_empty());
}

#[test]
fn lost_handshake_datagram_delays_the_link_until_the_next_repeat() {
    let cases: [(&str, usize, Selects); 5] = [
        ("the first CONTROL", 1, |to_server, datagram| to_server && datagram[1] == CONTROL),
        ("the answer", 1, |to_server, datagram| !to_server && datagram[1] == CONTROL),
        ("the sealed KEEPALIVE of the server", 1, |to_server, datagram| !to_server && datagram[11] == 1),
        ("all sealed KEEPALIVE of the first exchange", 2, |_, datagram| datagram[11] == 1),
        ("the plain KEEPALIVE", 1, |to_server, datagram| to_server && datagram[1] == KEEPALIVE),
    ];
    for (what, count, is_lost) in cases {
        for signing in [None, Some(signing(LINK_KEY_SEED))] {
            let (run, sent) = run(sender(150, 4, signing), server(50), losing(count, is_lost));
            let setup = link(&run).setup_ns.expect("an encrypted link");
            assert!(setup <= 250 * MS + 4 * LATENCY, "{what}: {setup}");
            assert_eq!(returned(&run), (150, 150), "{what}");
            assert_counters_are_unique(&sent);
        }
    }
}

#[test]
fn client_keeps_the_habits_of_a_jamjam_client() {
    // 4,500 packets wait in the delay line, 35 times as many as the replay window has.
    let (run, sent) = run(sender(18_000, 4, Some(signing(LINK_KEY_SEED))), server(3_000), good_path());
    assert_eq!(returned(&run), (18_000, 18_000));
    assert_eq!((link(&run).not_opened, link(&run).replayed), (0, 0));
    assert_eq!(run.server_delay().estimate.map(|delay| delay.ns), Some(3_000 * MS as i64));
    let seconds: Vec<u64> = (0..12).collect();
    // The link is settled after 2 ms. KEEPALIVE continues while the client waits for the last echoes.
    let pings = times(&sent, LATENCY_PING);
    assert_eq!(pings, seconds.iter().map(|second| second * 1_000 + 2).collect::<Vec<_>>());
    let keepalives = times(&sent, KEEPALIVE);
    assert!(keepalives.windows(2).all(|pair| pair[1] - pair[0] <= 1_000), "{keepalives:?}");
    assert!(keepalives.last().is_some_and(|last| *last > 14_000), "{keepalives:?}");
    // The plain one of the start, and the sealed one of the exchange. From then on, one per second.
    let stream = seconds.iter().map(|second| second * 1_000 + 2);
    assert_eq!(keepalives[..14], [0, 2].into_iter().chain(stream).collect::<Vec<_>>());
    let infos = times(&sent, LATENCY_INFO);
    assert_eq!(infos[..3], [2, 5_002, 10_002]);
    assert_eq!(times(&sent, 2), Vec::<u64>::new());
    // 12 + 8 + 256 + 16.
    assert!(sent.iter().filter(|(_, datagram)| datagram[1] == AUDIO).all(|(_, datagram)| datagram.len() == 292));
}

#[test]
fn packets_of_the_link_itself_do_not_hide_upstream_loss() {
    for (kind, packet_type) in [(StreamKind::Audio, 1), (StreamKind::Ping, 5), (StreamKind::Keepalive, 4)] {
        let config = RunConfig { loss_report_nonce: Some(1 << 64), loss_direction: true, ..run_config(kind) };
        let interval = Duration::from_secs(2);
        let probe = ProbeConfig { stream_kind: kind, count: Some(6), interval, payload_len: 16 };
        let client = ClientNode::new(config, ProbeWorkload::new(probe).with_link(true), Box::new(()));
        let mut left = 2;
        let path = intact(move |at, [_, to], datagram| {
            let is_lost = to == SERVER && at > 3 * SECOND && datagram[..2] == [1, packet_type] && left > 0;
            left -= u32::from(is_lost);
            if is_lost { Vec::new() } else { vec![LATENCY] }
        });
        let client = Participant::Prober(Box::new(client.with_link(Some(link_config(4, None)))));
        let (run, sent) = run(client, server(50), path);
        let received = run.loss_report.and_then(|report| report.received).expect("counts");
        assert_eq!(received[kind as usize], 4, "{kind:?}");
        // KEEPALIVE and LATENCY_PING every second, and six packets of the stream in their place.
        let count = |packet_type| times(&sent, packet_type).iter().filter(|at| **at > 500).count();
        assert!([4, 5].into_iter().all(|other| other == packet_type || count(other) > 9), "{kind:?}");
    }
}

#[test]
fn link_is_settled_on_a_path_that_loses_repeats_and_reorders() {
    let mut losses = 0;
    for seed in 0..30 {
        let mut random = test_support::rng::Rng::new(seed);
        let mut arrived = HashMap::new();
        let path = intact(move |_, [_, to], _| {
            let copies = [random.below(100) >= 10, random.below(100) < 5];
            let mut delays = Vec::new();
            for (is_sent, spread) in copies.into_iter().zip([35, 1_000]) {
                if is_sent {
                    *arrived.entry(to).or_insert(0) += 1;
                    delays.push((5 + random.below(spread)) * MS);
                }
            }
            delays
        });
        let (run, sent) =
            run(sender(750, 4, if seed % 2 == 0 { None } else { Some(signing(LINK_KEY_SEED)) }), server(300), path);
        assert!(link(&run).is_encrypted && link(&run).setup_ns < Some(3 * SECOND), "seed {seed}: {:?}", link(&run));
        let (sent_count, returned) = returned(&run);
        assert_eq!(sent_count, 750, "seed {seed}");
        // A fifth is lost on average. Copies arrive again and do not open again.
        assert!((500..700).contains(&returned), "seed {seed}: {returned}");
        assert!(link(&run).replayed > 0, "seed {seed}");
        losses += sent_count - returned;
        assert_counters_are_unique(&sent);
    }
    assert!((3_000..6_000).contains(&losses), "{losses}");
}

#[test]
fn client_that_restarts_on_its_port_settles_a_new_link() {
    let mut net = Net::of_client(sender(1_500, 4, None), server(500), good_path());
    net.run_until(700 * MS);
    net.restart(0, sender(600, 5, None));
    let (run, _) = finish(net);
    // Audio of the first link never arrives as audio of the second.
    assert_eq!(returned(&run), (600, 600));
    assert_eq!(link(&run).setup_ns, Some(2 * LATENCY));
}

#[test]
fn server_that_restarts_during_the_exchange_gives_a_link_with_its_new_key() {
    // The server answers, but its sealed KEEPALIVE and that of the client are lost. Then the server restarts.
    let mut net = Net::of_client(sender(300, 4, None), server(50), losing(3, |_, datagram| datagram[11] == 1));
    net.run_until(100 * MS);
    let mut restarted = server(50);
    // Its key pairs differ from those of the first server.
    let Event::Sent { bytes: control, .. } = &net.hosts[0].log[1] else { panic!("CONTROL") };
    deliver(&mut restarted, 0, client_address(9), control);
    poll(&mut restarted, 0);
    net.restart(SERVER, Participant::Echo(Box::new(restarted)));
    let (run, sent) = finish(net);
    assert_eq!(returned(&run), (300, 300));
    assert!(link(&run).setup_ns.is_some_and(|setup| (250 * MS..=500 * MS + 4 * LATENCY).contains(&setup)));
    assert!(times(&sent, CONTROL).len() <= 4);
}

#[test]
fn settled_link_refuses_the_keys_of_a_restarted_server() {
    let mut net = Net::of_client(sender(3_000, 4, Some(signing(LINK_KEY_SEED))), server(100), good_path());
    net.run_until(SECOND);
    net.restart(SERVER, Participant::Echo(Box::new(server(100))));
    let (run, sent) = finish(net);
    // The client has no reason to send CONTROL, and the new server has no keys. Its echoes are the client's own sealed packets.
    assert_eq!(times(&sent, CONTROL).len(), 2);
    let (sent_count, returned) = returned(&run);
    assert_eq!(sent_count, 3_000);
    assert!((1_200..1_500).contains(&returned), "{returned}");
    assert!(link(&run).is_encrypted && link(&run).not_opened > 1_400, "{:?}", link(&run));
}
