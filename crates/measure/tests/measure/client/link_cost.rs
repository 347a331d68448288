//! The cost of a sealed packet beside a plain one, for the client and the echo server. These measurements need an idle machine:
//! `cargo test --release -p jamjam-measure link_cost -- --ignored --nocapture`

use std::time::{Duration, Instant};

use jamjam_core::node::Node;
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioStreamConfig, AudioWorkload, ClientNode, SourcePoll, StreamKind};

use super::link::{link_config, settle};
use super::{Source, run_config};
use test_support::echo_link::{client_address, connect, server};
use test_support::link_client::{AUDIO, header};
use test_support::node_driver::{MS, deliver, peer, poll};
use test_support::recording_sink::RecordingSink;

/// Packets of each measurement.
const PACKETS: u32 = 20_000;

/// The payload of the preset `balanced`: 128 samples for two channels.
const PAYLOAD: [u8; 1_024] = [7; 1_024];

fn per_packet(total: Duration) -> f64 {
    total.as_secs_f64() * 1e6 / f64::from(PACKETS)
}

/// Microseconds that the server needs to receive and to return a packet.
fn server_cost(is_sealed: bool) -> f64 {
    let mut echo = server(0);
    let mut client = is_sealed.then(|| connect(&mut echo, 0, client_address(1)));
    let (mut total, mut sink) = (Duration::ZERO, RecordingSink::new());
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
        assert_eq!(sink.take()[0].len(), datagram.len());
    }
    per_packet(total)
}

/// Microseconds that the client needs to send a packet, and to receive its echo.
fn client_cost(is_sealed: bool) -> [f64; 2] {
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 2, frame_samples: 128, first_sequence: 0 };
    let source = Source(|payload: &mut Vec<u8>| {
        payload.extend_from_slice(&PAYLOAD);
        SourcePoll::Ready
    });
    let workload = AudioWorkload::new(form, Box::new(source));
    let link = is_sealed.then(|| link_config(3, None));
    let mut node = ClientNode::new(run_config(StreamKind::Audio), workload, Box::new(())).with_link(link);
    let mut server = is_sealed.then(|| settle(&mut node));
    poll(&mut node, 0);
    let (mut sending, mut receiving, mut sink) = (Duration::ZERO, Duration::ZERO, RecordingSink::new());
    let (mut returned, mut now) = (0, 0);
    while returned < PACKETS {
        now += 2_666_667;
        let began = Instant::now();
        node.poll_transmit(Time::from_nanos(now), &mut sink);
        let sent_in = began.elapsed();
        let Some(mut echo) = sink.take().pop().filter(|datagram| datagram[1] == AUDIO) else { continue };
        if let Some(server) = &mut server {
            let (kind, sequence, timestamp, payload) = server.open(&echo).expect("opened");
            echo = server.seal(kind, sequence, timestamp, &payload);
        }
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
    let of_five = |cost: &dyn Fn() -> f64| {
        let mut runs: Vec<f64> = (0..5).map(|_| cost()).collect();
        runs.sort_by(f64::total_cmp);
        runs[2]
    };
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
