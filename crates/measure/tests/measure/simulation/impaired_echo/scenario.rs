//! A scenario from a seed: an impaired echo server, one or two clients, and lossless links.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jamjam_core::echo::{BufferLimits, EchoConfig, EchoServer, ReplyEvent, ReplyObserver};
use jamjam_core::impairment::{BandwidthLimit, GilbertModel, Impairment};
use jamjam_measure::client::{
    AudioStreamConfig, AudioWorkload, ClientNode, ProbeConfig, ProbeWorkload, RunConfig, StreamKind,
};

use super::link::{Link, Quality};
use super::net::{Host, Machine, Net};
use super::participants::{OutcomeRecorder, Participant, Sound};
use super::reference_counts::Stream;
use super::simulated_socket::System;
use test_support::rng::Rng;

const MS: u64 = 1_000_000;

/// The events that the observer received.
#[derive(Clone, Default)]
pub(crate) struct EventRecorder(pub(crate) Arc<Mutex<Vec<ReplyEvent>>>);

impl ReplyObserver for EventRecorder {
    fn on_reply(&mut self, event: &ReplyEvent) {
        self.0.lock().expect("no thread panics with the lock").push(*event);
    }
}

/// A client and its link. Times are in nanoseconds.
pub(crate) struct Wire {
    pub(crate) client: SocketAddr,
    /// The one-way delay, which is equal in both directions.
    pub(crate) way: i64,
    pub(crate) echo_delay: i64,
    bits_per_second: Option<i64>,
    audio_payload: i64,
}

impl Wire {
    /// The transmission time of a reply if the bandwidth is limited. The length is the payload and 8 + 20 bytes of headers.
    pub(crate) fn takes(&self, stream: Stream) -> i64 {
        let Some(rate) = self.bits_per_second else { return 0 };
        let datagram = match stream {
            Stream::Audio => 12 + self.audio_payload,
            Stream::Ping => 12 + 12,
            Stream::Keepalive => 12,
        };
        let bits = (datagram + 28) * 8;
        (bits * 1_000_000_000 + rate - 1) / rate
    }
}

/// A simulation, the outcome recorders of its clients, and the event recorder of the server. Host 0 is the server.
pub(crate) struct Scenario {
    pub(crate) net: Net<Participant>,
    pub(crate) events: EventRecorder,
    pub(crate) clients: Vec<(OutcomeRecorder, Wire)>,
}

/// Draws a scenario.
pub(crate) fn draw(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let echo_delay = rng.pick(&[0, 1, 20, 100, 300]) * MS;
    let (events, mut net) = (EventRecorder::default(), Net::new(rng.fork()));
    let impairment = impairment(&mut rng);
    let bandwidth = impairment.bandwidth;
    net.hosts.push(server(&mut rng, echo_delay, impairment, &events));
    let hosts = rng.between(1, 2) as usize;
    let clients = (1..=hosts).map(|host| client(&mut rng, &mut net, host, echo_delay, bandwidth)).collect();
    Scenario { net, events, clients }
}

fn impairment(rng: &mut Rng) -> Impairment {
    let mut some = |maximum: f64| if rng.happens(0.5) { maximum * rng.below(1_001) as f64 / 1_000.0 } else { 0.0 };
    let (loss, duplicate, reorder) = (some(0.2), some(0.2), some(0.2));
    let (p, r) = (some(0.1), some(1.0));
    Impairment {
        loss,
        burst_loss: GilbertModel::new(p, r).ok(),
        dropped_sequences: if rng.happens(0.3) {
            let first = rng.below(100);
            format!("{first},{}-{}", first + 5, first + 9).parse().expect("a set")
        } else {
            "999999999".parse().expect("a set")
        },
        jitter: Duration::from_nanos(rng.pick(&[0, 0, 300_000, 5 * MS, 50 * MS])),
        reorder,
        reorder_delay: Duration::from_nanos(rng.pick(&[MS, 10 * MS, 150 * MS])),
        duplicate,
        bandwidth: rng.happens(0.4).then(|| BandwidthLimit {
            bits_per_second: rng.between(250_000, 4_000_000),
            max_queue_delay: Duration::from_nanos(rng.pick(&[0, 5 * MS, 250 * MS])),
        }),
        seed: rng.bits(),
    }
}

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8], 5_000 + host as u16))
}

/// A machine that wakes on time, so that packets leave as planned.
fn machine(rng: &mut Rng) -> Machine {
    let system = System { segments: rng.pick(&[1, 64]), ..System::default() };
    Machine { system, early_polls: rng.pick(&[0.0, 0.3]), segment_runs: rng.happens(0.5), ..Machine::default() }
}

fn server(rng: &mut Rng, echo_delay: u64, impairment: Impairment, events: &EventRecorder) -> Host<Participant> {
    let mut buffer_limits = BufferLimits::default();
    if rng.happens(0.1) {
        buffer_limits.per_client = Some(rng.between(2_000, 40_000));
    }
    let mut machine = machine(rng);
    // The server's simulated socket returns send errors only if there is no bandwidth limit. With a bandwidth limit, the second copy of a
    // reply leaves later than the first copy. A send error could then discard either copy. The expected times would depend on which of the
    // two copies the error discards.
    if impairment.bandwidth.is_none() && rng.happens(0.2) {
        machine.system.failed = 0.05;
    }
    let config = EchoConfig {
        delay: Duration::from_nanos(echo_delay),
        buffer_limits,
        log_sources: true,
        ..EchoConfig::default()
    };
    let echo = EchoServer::with_impairment(config, impairment, Box::new(events.clone()));
    let mut host = Host::new(address(0), Participant::Echo(Box::new(echo)), machine, 0, false);
    host.wake = None;
    host
}

fn client(
    rng: &mut Rng,
    net: &mut Net<Participant>,
    host: usize,
    echo_delay: u64,
    bandwidth: Option<BandwidthLimit>,
) -> (OutcomeRecorder, Wire) {
    let (here, recorder) = (address(host), OutcomeRecorder::default());
    let kinds = [StreamKind::Audio, StreamKind::Audio, StreamKind::Ping, StreamKind::Keepalive];
    let (prober, stream_kind) = (rng.happens(0.5), rng.pick(&kinds));
    let config = RunConfig {
        peer: address(0),
        evaluated_stream: if prober { stream_kind } else { StreamKind::Audio },
        server_delay: (!prober || stream_kind == StreamKind::Audio).then_some(Duration::from_nanos(echo_delay)),
        first_echo_timeout: Duration::from_nanos(echo_delay),
        // Longer than the maximum delay in these simulations.
        timeout: Duration::from_secs(2),
        replies_expected: true,
        wait_for: None,
        loss_report_nonce: None,
        loss_direction: false,
    };
    let (packets, start) = (rng.between(1, 250), rng.below(20 * MS));
    let mut node =
        Host::new(here, Participant::Echo(Box::new(EchoServer::new(EchoConfig::default()))), machine(rng), start, true);
    let audio_payload = if prober {
        let (interval, payload_len) = (rng.between(MS, 20 * MS), rng.pick(&[0, 64, 512, 1_460]));
        let probe_config =
            ProbeConfig { stream_kind, count: Some(packets), interval: Duration::from_nanos(interval), payload_len };
        node.node = Participant::Prober(Box::new(ClientNode::new(
            config,
            ProbeWorkload::new(probe_config),
            Box::new(recorder.clone()),
        )));
        payload_len
    } else {
        let (frame_samples, channels) = (rng.pick(&[64, 128]), rng.pick(&[1, 2]));
        let size = frame_samples as usize * usize::from(channels) * 4;
        let form = AudioStreamConfig {
            sample_rate: 48_000,
            channels,
            frame_samples,
            first_sequence: rng.pick(&[0, 1, u32::MAX]),
        };
        let packets = vec![(size, 0); packets as usize];
        let sound = Sound { packets, silent: false, clock: node.clock.clone(), next: 0 };
        node.node = Participant::Sender(Box::new(ClientNode::new(
            config,
            AudioWorkload::new(form, Box::new(sound)),
            Box::new(recorder.clone()),
        )));
        size
    };
    net.hosts.push(node);
    let way = rng.pick(&[1, 50_000, 10 * MS]);
    for ends in [(here, address(0)), (address(0), here)] {
        net.links.insert(ends, Link::new(Quality { delay: way, ..Quality::default() }, rng.fork()));
    }
    let wire = Wire {
        client: here,
        way: way as i64,
        echo_delay: echo_delay as i64,
        bits_per_second: bandwidth.map(|bandwidth| bandwidth.bits_per_second as i64),
        audio_payload: audio_payload as i64,
    };
    (recorder, wire)
}
