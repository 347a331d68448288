//! A scenario drawn from a seed: one echo server, its clients, and the paths between them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{BufferLimits, EchoConfig, EchoServer};
use jamjam_measure::client::{
    AudioStreamConfig, AudioWorkload, ClientNode, ProbeConfig, ProbeWorkload, RunConfig, StreamKind,
};

use super::link::{Link, Quality};
use super::net::{Host, Machine, Net};
use super::participants::{OutcomeRecorder, Participant, Sound};
use super::simulated_socket::System;
use super::times;
use test_support::rng::Rng;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// The facts about one client that the checks need.
pub(crate) struct ClientFacts {
    pub(crate) config: RunConfig,
    /// Interval between the packets of the evaluated stream in seconds, as numerator and denominator.
    pub(crate) interval: (u64, u64),
    /// The times at which the AUDIO packets of a sender were ready.
    pub(crate) ready: Vec<u64>,
    /// The number of packets that the run sends unless it is stopped.
    pub(crate) total: Option<u64>,
    /// The number of samples per channel in these packets, for a sender.
    pub(crate) samples: Option<u64>,
    pub(crate) start: u64,
    pub(crate) recorder: OutcomeRecorder,
}

/// A simulation and its clients. The clients are the hosts from number 1 on. Host 0 is the server.
pub(crate) struct Scenario {
    pub(crate) net: Net<'static>,
    pub(crate) delay: u64,
    pub(crate) parts: Vec<ClientFacts>,
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8], 5_000 + host as u16))
}

/// Draws a scenario. `wraps`: whether all clients send AUDIO whose sequence numbers wrap during the run.
pub(crate) fn draw(seed: u64, wraps: bool) -> Scenario {
    let mut rng = Rng::new(seed);
    let delay = rng.pick(&[0, 1, 5, 20, 100, 300]) * MS;
    let mut net = Net::new(rng.fork(), Box::new(|_, _, _| Vec::new()));
    net.hosts.push(server(&mut rng, delay));
    let clients = if rng.happens(0.2) { rng.between(2, 3) } else { 1 };
    let mut links = HashMap::new();
    let parts = (1..=clients as usize).map(|host| client(&mut rng, &mut net, &mut links, host, delay, wraps)).collect();
    net.path = Box::new(move |now, ends, bytes| {
        links.get_mut(&ends).map_or_else(Vec::new, |link: &mut Link| link.carry(now, bytes))
    });
    Scenario { net, delay, parts }
}

fn machine(rng: &mut Rng) -> Machine {
    let rough = rng.happens(0.3);
    let system = System {
        // Drawn from a clone of the generator, so that the pinned seeds still draw the same scenarios.
        split: if rng.clone().happens(0.2) { 0.3 } else { 0.0 },
        segments: rng.pick(&[1, 2, 64]),
        busy: if rough { rng.pick(&[0.0, 0.02, 0.3]) } else { 0.0 },
        failed: if rough { rng.pick(&[0.0, 0.02, 0.1]) } else { 0.0 },
    };
    let (lateness, stalls) = (rng.pick(&[0, 60_000, 1_000_000]), rng.pick(&[0.0, 0.0, 0.01]));
    let (early_polls, segment_runs) = (rng.pick(&[0.0, 0.0, 0.3]), rng.happens(0.5));
    Machine { system, lateness, stalls, early_polls, segment_runs }
}

fn server(rng: &mut Rng, delay: u64) -> Host {
    let mut buffer_limits = BufferLimits::default();
    if rng.happens(0.1) {
        buffer_limits.per_client = Some(rng.between(500, 20_000));
        buffer_limits.total = Some(rng.between(500, 30_000));
    }
    let delay = Duration::from_nanos(delay);
    let echo = EchoServer::new(EchoConfig { delay, buffer_limits, log_sources: true, ..EchoConfig::default() });
    let mut host = Host::new(address(0), Participant::Echo(Box::new(echo)), machine(rng), 0, false);
    host.wake = None;
    host
}

fn quality(rng: &mut Rng) -> Quality {
    let mut some = |maximum: f64| if rng.happens(0.5) { maximum * rng.below(1_000) as f64 / 1_000.0 } else { 0.0 };
    let (loss, burst, duplicate) = (some(0.2), some(0.03), some(0.2));
    let (damage, truncation) = (some(0.1), some(0.05));
    let longest = rng.pick(&[1, MS, 30 * MS, 200 * MS]);
    let delay = rng.below(longest);
    let jitter = rng.pick(&[0, 0, 10_000, MS, 20 * MS]);
    Quality { loss, burst, duplicate, delay, jitter, damage, truncation }
}

fn client(
    rng: &mut Rng,
    net: &mut Net<'_>,
    links: &mut HashMap<[usize; 2], Link>,
    number: usize,
    delay: u64,
    wraps: bool,
) -> ClientFacts {
    let (here, server) = (address(number), address(0));
    let start = rng.pick(&[0, 1, 5 * SECOND]);
    let prober = !wraps && rng.happens(0.5);
    let kind = if prober {
        rng.pick(&[StreamKind::Ping, StreamKind::Keepalive, StreamKind::Audio])
    } else {
        StreamKind::Audio
    };
    let mut config = config(rng, server, kind, prober, delay);
    let recorder = OutcomeRecorder::default();
    let mut host =
        Host::new(here, Participant::Echo(Box::new(EchoServer::new(EchoConfig::default()))), machine(rng), start, true);
    let facts = if prober {
        let (probe_config, facts) = probe_config(rng, kind, start, &config, &recorder);
        let workload = ProbeWorkload::new(probe_config);
        host.node = Participant::Prober(Box::new(ClientNode::new(config, workload, Box::new(recorder))));
        facts
    } else {
        config.replies_expected = config.wait_for.is_some() || !rng.happens(0.07);
        let (form, mut sound, facts) = sound(rng, wraps, start, &mut host.machine, &config, &recorder);
        sound.clock = host.clock.clone();
        let workload = AudioWorkload::new(form, Box::new(sound));
        host.node = Participant::Sender(Box::new(ClientNode::new(config, workload, Box::new(recorder))));
        facts
    };
    let length = facts.total.map_or(2 * SECOND, |n| times::offset(n as usize, facts.interval) as u64);
    if facts.total.is_none() || rng.happens(0.2) {
        let from = start + facts.config.wait_for.map_or(0, |wait| wait.as_nanos() as u64 / 3);
        let after = rng.pick(&[100 * MS, 3 * SECOND]);
        host.interrupt = Some(from + rng.below(length + delay + after));
    }
    net.hosts.push(host);
    for ends in [[number, 0], [0, number]] {
        let quality = quality(rng);
        links.insert(ends, Link::new(quality, rng.fork()));
    }
    if facts.config.wait_for.is_some() {
        // The server starts after its client, or never.
        let longest = rng.pick(&[1, SECOND, 4 * SECOND]);
        net.hosts[0].up_from = start + rng.below(longest);
    }
    foreign_datagrams(rng, net, here, server, start..start + length + delay + 100 * MS);
    facts
}

fn config(rng: &mut Rng, peer: SocketAddr, evaluated_stream: StreamKind, prober: bool, delay: u64) -> RunConfig {
    let about = rng.pick(&[0, delay / 2, delay, delay + 3 * MS]);
    let given = rng.happens(0.4).then(|| Duration::from_nanos(about));
    let probed = (evaluated_stream == StreamKind::Audio).then(|| given.unwrap_or_default());
    let timeout = Duration::from_millis(rng.pick(&[30, 150, 500, 2_000]));
    RunConfig {
        server_delay: if prober { probed } else { given },
        first_echo_timeout: given.unwrap_or(Duration::from_secs(3)),
        wait_for: rng.happens(0.15).then(|| Duration::from_millis(rng.between(500, 3_000))),
        ..RunConfig::new(peer, evaluated_stream, timeout)
    }
}

fn probe_config(
    rng: &mut Rng,
    stream_kind: StreamKind,
    start: u64,
    config: &RunConfig,
    recorder: &OutcomeRecorder,
) -> (ProbeConfig, ClientFacts) {
    let count = if rng.happens(0.1) { None } else { Some(rng.between(1, 400)) };
    let interval = match rng.below(10) {
        // A run that is long enough for separate figures of its first and last five seconds.
        0 => rng.between(100, 400) * MS,
        1 => 50_000,
        _ => rng.between(MS, 20 * MS),
    };
    let count = if interval > 50 * MS { count.map(|count| count % 120 + 1) } else { count };
    let payload_len = rng.pick(&[0, 3, 4, 64, 1_460]);
    let probe_config = ProbeConfig { stream_kind, count, interval: Duration::from_nanos(interval), payload_len };
    let (config, recorder, interval) = (config.clone(), recorder.clone(), (interval, SECOND));
    (probe_config, ClientFacts { config, interval, ready: Vec::new(), total: count, samples: None, start, recorder })
}

fn sound(
    rng: &mut Rng,
    wraps: bool,
    start: u64,
    machine: &mut Machine,
    config: &RunConfig,
    recorder: &OutcomeRecorder,
) -> (AudioStreamConfig, Sound, ClientFacts) {
    let sample_rate = rng.pick(&[8_000, 44_100, 48_000, 96_000]);
    let frame_samples = rng.pick(&[32, 64, 128, 256, 480, 960]);
    let channels = rng.pick(&[1, 2]);
    let packets = rng.between(1, 400);
    let first_sequence = if wraps {
        0u32.wrapping_sub(rng.between(1, packets) as u32)
    } else {
        rng.pick(&[0, 1, 77, 0x7FFF_FFF0, 0x8000_0000, u32::MAX])
    };
    let last = if rng.happens(0.5) { frame_samples } else { rng.between(1, frame_samples.into()) as u32 };
    let starves = config.wait_for.is_none() && rng.happens(0.2);
    if starves {
        machine.stalls = 0.0;
        machine.lateness = machine.lateness.min(60_000);
    }
    let mut ready = 0;
    let mut times = Vec::new();
    for packet in 0..packets {
        if starves && rng.happens(0.03) {
            let due = start + packet * u64::from(frame_samples) * SECOND / u64::from(sample_rate);
            ready = ready.max(due + rng.below(40 * MS));
        }
        times.push(ready);
    }
    let bytes = |samples: u32| samples as usize * usize::from(channels) * 4;
    let sizes = (0..packets).map(|packet| bytes(if packet + 1 == packets { last } else { frame_samples }));
    let (packets_with_times, silent) = (sizes.zip(times.iter().copied()).collect(), rng.happens(0.2));
    let sound = Sound { packets: packets_with_times, silent, clock: std::rc::Rc::default(), next: 0 };
    let interval = (frame_samples.into(), sample_rate.into());
    let samples = Some((packets - 1) * u64::from(frame_samples) + u64::from(last));
    let (config, recorder) = (config.clone(), recorder.clone());
    let facts = ClientFacts { config, interval, ready: times, total: Some(packets), samples, start, recorder };
    (AudioStreamConfig { sample_rate, channels, frame_samples, first_sequence }, sound, facts)
}

/// Datagrams that no node of this simulation sends.
fn foreign_datagrams(rng: &mut Rng, net: &mut Net<'_>, to: SocketAddr, peer: SocketAddr, during: std::ops::Range<u64>) {
    let count = if rng.happens(0.5) { 0 } else { rng.below(20) };
    for _ in 0..count {
        // The datagram is sent after the client's first poll, which begins the run.
        let at = rng.between(during.start, during.end).max(during.start + 1);
        let from = if rng.happens(0.3) { SocketAddr::from(([10, 9, 9, 9], 7)) } else { peer };
        let mut bytes: Vec<u8> = (0..rng.below(40)).map(|_| rng.bits() as u8).collect();
        if rng.happens(0.8) && bytes.len() >= 2 {
            bytes[0] = 1;
            bytes[1] = rng.between(0, 8) as u8;
        }
        if bytes.len() >= 6 {
            // A number that the client may use in the run, one that it may use in a `--wait-for` KEEPALIVE, or a random one.
            match rng.below(3) {
                0 => bytes[2..6].copy_from_slice(&(rng.below(300) as u32).to_be_bytes()),
                1 => bytes[2..6].copy_from_slice(&(0x8000_0000 + rng.below(30) as u32).to_be_bytes()),
                _ => {}
            }
        }
        net.arrive(at, from, to, bytes);
    }
}
