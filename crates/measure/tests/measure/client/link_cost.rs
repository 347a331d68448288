//! The cost of a sealed packet beside a plain one, for the client and the echo server. These measurements need an idle machine:
//! `cargo test --release -p jamjam-measure link_cost -- --ignored --nocapture`

use super::run_config;
use std::time::{Duration, Instant};
use test_support::link_client::{AUDIO, CONTROL, KEEPALIVE, LinkClient, header};
use test_support::node_driver::{MS, deliver, peer, poll};

use jamjam_core::node::{Node, SendStatus, Transmit, TransmitSink};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioSender, AudioStreamConfig, AudioWorkload, ClientNode, PayloadSource, SourcePoll, StreamKind,
};

use super::link::link_config;
use test_support::echo_link::{client_address, connect, server};

/// Packets of each measurement.
const PACKETS: u32 = 20_000;

/// The payload of the preset `balanced`: 128 samples for two channels.
const PAYLOAD: [u8; 1_024] = [7; 1_024];

/// Keeps the last datagram.
#[derive(Default)]
struct LastDatagram(Vec<u8>);

impl TransmitSink for LastDatagram {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        self.0.clear();
        self.0.extend_from_slice(transmit.contents);
        SendStatus::Sent
    }

    fn max_segments(&self, _: usize) -> usize {
        1
    }
}

fn per_packet(total: Duration) -> f64 {
    total.as_secs_f64() * 1e6 / f64::from(PACKETS)
}

/// Microseconds that the server needs to receive and to return a packet.
fn server_cost(is_sealed: bool) -> f64 {
    let mut echo = server(0);
    let mut client = is_sealed.then(|| connect(&mut echo, 0, client_address(1)));
    let mut total = Duration::ZERO;
    let mut sink = LastDatagram::default();
    for sequence in 0..PACKETS {
        let datagram = match &mut client {
            Some(client) => client.seal(AUDIO, sequence, 0, &PAYLOAD),
            None => [header(AUDIO, sequence, 0, 0), PAYLOAD.to_vec()].concat(),
        };
        let at = (1_000 + u64::from(sequence) * 2) * MS;
        let began = Instant::now();
        deliver(&mut echo, at, client_address(1), &datagram);
        echo.poll_transmit(Time::from_nanos(at), &mut sink);
        total += began.elapsed();
        assert_eq!(sink.0.len(), datagram.len());
    }
    per_packet(total)
}

struct Endless;

impl PayloadSource for Endless {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        payload.extend_from_slice(&PAYLOAD);
        SourcePoll::Ready
    }
}

/// Microseconds that the client needs to send a packet, and to receive its echo.
fn client_cost(is_sealed: bool) -> [f64; 2] {
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 2, frame_samples: 128, first_sequence: 0 };
    let workload = AudioWorkload::new(form, Box::new(Endless));
    let link = is_sealed.then(|| link_config(3, None));
    let mut node: AudioSender<Endless> =
        ClientNode::new(run_config(StreamKind::Audio), workload, Box::new(())).with_link(link);
    let mut server = is_sealed.then(|| {
        let sent = poll(&mut node, 0);
        let mut server = LinkClient::unsigned();
        assert!(server.on_control(sent.iter().find(|datagram| datagram[1] == CONTROL).expect("CONTROL")));
        deliver(&mut node, 0, peer(), &server.control());
        deliver(&mut node, 0, peer(), &server.seal(KEEPALIVE, 1, 0, b""));
        server
    });
    poll(&mut node, 0);
    let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
    let mut sink = LastDatagram::default();
    let mut returned = 0;
    let mut now = 0;
    while returned < PACKETS {
        now += 2_666_667;
        let began = Instant::now();
        node.poll_transmit(Time::from_nanos(now), &mut sink);
        let sent_in = began.elapsed();
        if sink.0.get(1) != Some(&AUDIO) {
            continue;
        }
        let echo = match &mut server {
            Some(server) => {
                let (kind, sequence, timestamp, payload) = server.open(&sink.0).expect("opened");
                server.seal(kind, sequence, timestamp, &payload)
            }
            None => sink.0.clone(),
        };
        let began = Instant::now();
        deliver(&mut node, now, peer(), &echo);
        receiving += began.elapsed();
        sending += sent_in;
        returned += 1;
    }
    assert!(node.into_results("", None, &mut ()).audio.expect("AUDIO").stats.returned >= u64::from(PACKETS));
    [per_packet(sending), per_packet(receiving)]
}

#[test]
#[ignore = "a measurement, needs an idle machine and --release"]
fn sealed_packet_costs_at_most_2_us_more_than_a_plain_one() {
    let median = |mut runs: Vec<f64>| {
        runs.sort_by(f64::total_cmp);
        runs[runs.len() / 2]
    };
    let of_five = |cost: &dyn Fn() -> f64| median((0..5).map(|_| cost()).collect());
    let echo = [false, true].map(|is_sealed| of_five(&|| server_cost(is_sealed)));
    // The server opens each packet and seals it again.
    let mut added = vec![("server, each direction", (echo[1] - echo[0]) / 2.0)];
    for (index, name) in ["client, sending", "client, receiving"].into_iter().enumerate() {
        let [plain, sealed] = [false, true].map(|is_sealed| of_five(&|| client_cost(is_sealed)[index]));
        println!("{name}: plain {plain:.2} µs, sealed {sealed:.2} µs");
        added.push((name, sealed - plain));
    }
    println!("server: plain {:.2} µs, sealed {:.2} µs for both directions", echo[0], echo[1]);
    for (name, added) in added {
        println!("{name}: {added:.2} µs more");
        assert!(added <= 2.0, "{name}: {added}");
    }
}
