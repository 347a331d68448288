//! After a warm-up, hot paths neither allocate nor free memory, and an endless run uses constant memory. This test has its own program,
//! because it counts the allocations of the whole process.

use std::alloc::System;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::audio::convert::{Packetizer, PacketizerConfig, map_to_device};
use jamjam_dev::audio::jitter_buffer::{self, JitterBuffer};
use jamjam_dev::audio::quality::{self, Analyzer};
use jamjam_dev::audio::sample_format::DeviceSampleFormat;
use jamjam_dev::audio::spsc::{capture_ring, packet_ring};
use jamjam_dev::client::{
    AudioStreamConfig, AudioWorkload, ClientNode, PacketEvent, PacketObserver, PacketOutcome, PayloadSource,
    ProbeConfig, ProbeWorkload, RecordedPacket, RunConfig, SentAudio, SourcePoll, StreamKind,
};
use jamjam_dev::echo::{AdmissionConfig, EchoConfig, EchoServer};
use jamjam_dev::impairment::Impairment;
use jamjam_dev::impairment_patch::ImpairmentPatch;
use jamjam_dev::io::recorder::{self, AudioSinks, Recording};
use jamjam_dev::media_relay::{MediaRelay, MediaRelayConfig, MediaRooms};
use jamjam_dev::node::{DriverWaker, Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_dev::node_group::NodeGroup;
use jamjam_dev::relay::Relay;
use jamjam_dev::signaling::{ControlSurfaceEvent, ControlSurfaceEventKind, InlineStr, event_queue};
use jamjam_dev::time::Time;
use jamjam_dev::waveform::Waveform;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use test_support::server::poll_until;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENT: &str = "192.0.2.1:7000";
const SERVER: &str = "192.0.2.2:5000";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A sink that accepts every datagram, and stores the last datagram so that a test can reply.
struct Wire {
    sent: usize,
    last: Vec<u8>,
}

impl TransmitSink for Wire {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        self.sent += transmit.segment_count();
        self.last.clear();
        self.last.extend_from_slice(transmit.contents);
        SendStatus::Sent
    }

    fn max_segments(&self, _: usize) -> usize {
        16
    }
}

fn wire() -> Wire {
    Wire { sent: 0, last: Vec::with_capacity(65_536) }
}

/// A datagram that is read when it arrives.
fn received<'a>(received_at: Time, source: &str, contents: &'a [u8]) -> Receive<'a> {
    Receive { socket: 0, source: address(source), dst_ip: None, received_at, contents, segment_size: contents.len() }
}

/// Runs `turn` 5,000 times to warm up, since some statistics cover five seconds. Counts the allocations and deallocations of 1,000 runs.
fn allocations(mut turn: impl FnMut(u64)) -> usize {
    (0..5_000).for_each(&mut turn);
    let region = Region::new(ALLOCATOR);
    (5_000..6_000).for_each(&mut turn);
    let change = region.change();
    change.allocations + change.reallocations + change.deallocations
}

fn audio() -> Vec<u8> {
    [&[1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[7; 512]].concat()
}

fn impairment() -> Impairment {
    let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(5));
    Impairment { delay, jitter, loss: 0.1, seed: 7, ..Impairment::default() }
}

fn echo_of_batches_and_pings() -> usize {
    // Limits that are checked for each packet but never reached.
    let admission = AdmissionConfig {
        max_packet_rate: Some(1_000_000),
        max_bit_rate: Some(1_000_000_000),
        ..AdmissionConfig::default()
    };
    let mut echo = EchoServer::new(EchoConfig { delay: Duration::from_millis(20), admission, ..EchoConfig::default() });
    let mut wire = wire();
    let audio = audio();
    let mut batch = audio.repeat(30);
    let ping = [1, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1];
    let count = allocations(|turn| {
        let now = Time::from_millis(turn);
        // Sequence numbers increase as in a stream: repeated datagrams would not be answered.
        for (sequence, packet) in (turn as u32 * 30..).zip(batch.chunks_mut(audio.len())) {
            packet[2..6].copy_from_slice(&sequence.to_be_bytes());
        }
        let audio = Receive { segment_size: audio.len(), ..received(now, CLIENT, &batch) };
        echo.on_datagram(now, &[audio, received(now, CLIENT, &ping)]);
        echo.poll_transmit(now, &mut wire);
    });
    // The echo server sent 6,000 pongs, and 30 AUDIO packets in each of 5,980 turns. The packets of the last 20 ms are still delayed.
    assert_eq!(wire.sent, 5_980 * 30 + 6_000);
    count
}

fn relayed_batches() -> usize {
    let targets = (address(SERVER), std::sync::mpsc::channel().1);
    let limits = AdmissionConfig { max_packet_rate: None, ..AdmissionConfig::default() };
    let mut relay = Relay::new(targets, 2, [impairment(), impairment()], limits, Box::new(|_| {}));
    let mut wire = wire();
    let mut audio = audio();
    let count = allocations(|turn| {
        let received_at = Time::from_millis(turn);
        audio[2..6].copy_from_slice(&(turn as u32).to_be_bytes());
        let batch = [received(received_at, CLIENT, &audio), received(received_at, SERVER, &audio)];
        relay.on_datagram(received_at, &[batch[0], Receive { socket: 1, ..batch[1] }]);
        relay.poll_transmit(received_at, &mut wire);
    });
    // A tenth is lost in each direction.
    assert!((10_500..11_000).contains(&wire.sent), "{}", wire.sent);
    count
}

/// Two members of a room play to each other.
fn relayed_media() -> usize {
    let impairment = ImpairmentPatch::from_words("delay 20ms jitter 5ms loss 10%").expect("options");
    let config = MediaRelayConfig { impairment, seed: 7, ports: vec![40_000, 40_001], ..MediaRelayConfig::default() };
    let rooms = MediaRooms::new(config, Some(Box::new(|_| {})));
    let members = ["Aki", "Ben"].map(|name| {
        rooms.join(1, [name, name].map(str::to_owned), ([127, 0, 0, 1].into(), [127, 0, 0, 1].into()), None)
    });
    let (mut relay, mut wire) = (MediaRelay::new(rooms), wire());
    let mut audio = audio();
    let count = allocations(|turn| {
        let received_at = Time::from_millis(turn);
        audio[2..6].copy_from_slice(&(turn as u32).to_be_bytes());
        for (socket, source) in ["127.0.0.1:5000", "127.0.0.1:5001"].into_iter().enumerate() {
            relay.on_datagram(received_at, &[Receive { socket, ..received(received_at, source, &audio) }]);
        }
        relay.poll_transmit(received_at, &mut wire);
    });
    assert!(members.iter().all(Option::is_some) && (10_500..11_000).contains(&wire.sent), "{}", wire.sent);
    count
}

struct Silence;

impl PayloadSource for Silence {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        payload.resize(payload.len() + 512, 0);
        SourcePoll::Ready
    }
}

fn run_config(evaluated_stream: StreamKind) -> RunConfig {
    RunConfig {
        server_delay: Some(Duration::ZERO),
        ..RunConfig::new(address(SERVER), evaluated_stream, Duration::from_secs(2))
    }
}

/// A client that sends a ping in each interval of this many milliseconds.
fn prober(ms: u64) -> ClientNode<ProbeWorkload> {
    let interval = Duration::from_millis(ms);
    let questions = ProbeConfig { stream_kind: StreamKind::Ping, count: None, interval, payload_len: 0 };
    ClientNode::new(run_config(StreamKind::Ping), ProbeWorkload::new(questions), Box::new(()))
}

/// Echoes every datagram of `client` at once, LATENCY_PING as LATENCY_PONG. Returns the numbers of datagrams and of allocations.
fn reflected(mut client: impl Node, step: Duration) -> (usize, usize) {
    let mut wire = wire();
    let mut now = Time::from_millis(1);
    let count = allocations(|_| {
        now += step;
        client.poll_transmit(now, &mut wire);
        if wire.last.get(1) == Some(&5) {
            wire.last[1] = 6;
        }
        client.on_datagram(now, &[received(now, SERVER, &wire.last)]);
    });
    (wire.sent, count)
}

/// The datagrams that each socket sent last.
struct Wires(Vec<Wire>);

impl TransmitSink for Wires {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        self.0[transmit.socket].send(transmit)
    }
}

/// Pings of four clients in one group, at intervals of 1 to 4 ms. Each ping returns in the turn in which it is sent.
fn pings_of_a_group() -> usize {
    let mut group = NodeGroup::new((1..=4).map(prober).collect(), ());
    let mut wires = Wires((1..=4).map(|_| wire()).collect());
    let count = allocations(|turn| {
        let now = Time::from_millis(1 + turn);
        while group.next_deadline().is_some_and(|deadline| deadline <= now) {
            group.poll_transmit(now, &mut wires);
        }
        for (socket, wire) in wires.0.iter_mut().enumerate().filter(|(_, wire)| !wire.last.is_empty()) {
            wire.last[1] = 6;
            group.on_datagram(now, &[Receive { socket, ..received(now, SERVER, &wire.last) }]);
            wire.last.clear();
        }
    });
    let sent: Vec<usize> = wires.0.iter().map(|wire| wire.sent).collect();
    assert_eq!(sent, [6_000, 3_000, 2_000, 1_500]);
    count
}

/// In each turn, 14 events are pushed to a queue with room for ten events. Ten events are queued and taken, and four events are dropped.
fn events_of_control_surfaces() -> usize {
    let (mut producer, mut consumer) = event_queue(10);
    let event = ControlSurfaceEvent {
        room: InlineStr::new("123456").unwrap(),
        node_id: InlineStr::new("69043ffa-0f20-473a-b977-27525b15a135").unwrap(),
        kind: ControlSurfaceEventKind::Param,
        name: InlineStr::new(&"x".repeat(256)).unwrap(),
        value: Some(0.7),
        at: Some(1),
        received_at: 1,
    };
    // The test stores the event. An audio thread also stores events that are not due yet.
    let mut stored = None;
    let count = allocations(|_| {
        assert_eq!((0..14).filter(|_| producer.push(event).is_ok()).count(), 10);
        while let Ok(popped) = consumer.pop() {
            assert!(popped.name == event.name && popped.node_id.len() == 36);
            stored = Some(popped);
        }
    });
    assert!(stored.is_some());
    count
}

/// The path of sound from a device to payloads, for every sample format: ring, waker, and a packetizer that mixes the channels.
fn sound_of_a_device() -> usize {
    let mut count = 0;
    for format in DeviceSampleFormat::ALL {
        let (mut capture, mut captured) = capture_ring(format, 2, 1_024);
        let (waker, counters) = (DriverWaker::default(), std::sync::Arc::clone(&capture.counters));
        waker.register(|| {});
        let shape = PacketizerConfig {
            input_rate: 48_000,
            input_channels: 2,
            output_rate: 48_000,
            output_channels: 1,
            frame_samples: 100,
            max_samples: None,
        };
        let mut framer = Packetizer::new(shape).expect("equal rates need no filter");
        let delivery = vec![0; 128 * 2 * format.bytes_per_sample];
        let (mut samples, mut payload) = (Vec::new(), Vec::new());
        count += allocations(|turn| {
            // In every tenth turn, the ring overflows before it is read.
            for _ in 0..if turn % 10 == 9 { 10 } else { 1 } {
                capture.push(&delivery, Time::from_millis(turn));
                waker.wake();
            }
            counters.xruns.add(1);
            while captured.pop(&mut samples).is_some() {
                framer.push(&samples);
                while framer.has_payload() {
                    payload.clear();
                    framer.next_payload(&mut payload);
                }
            }
        });
        assert_eq!(captured.state.overruns.get(), 600, "{format:?}");
    }
    count
}

/// The path of returned audio through a ring to a device callback, at the rate and in the format of the device.
fn sound_on_a_device() -> usize {
    let mut count = 0;
    for device_rate in [48_000, 44_100] {
        let (mut producer, mut consumer) = packet_ring(48_000, 2, 128, Duration::from_secs(1));
        let state = std::sync::Arc::clone(&producer.state);
        let config = jitter_buffer::JitterBufferConfig {
            rate: 48_000,
            channels: 2,
            frame_samples: 128,
            device_rate,
            device_block_frames: 128,
            jitter_allowance: None,
        };
        let mut jitter_buffer = JitterBuffer::new(config).expect("these rates can be matched");
        let format = DeviceSampleFormat::by_name("I24").expect("a format");
        let mut packet = Vec::with_capacity(256);
        let (mut frames, mut bytes) = (vec![0.0; 256], vec![0; 4 * 128 * 4]);
        count += allocations(|turn| {
            let now = Time::from_nanos(turn * 2_666_667);
            producer.state.sent_packets.set(turn + 1);
            // Some packets are lost and some are late. In the last 599 of every 1,000 turns, the ring is not read, so it overflows.
            if turn % 7 > 0 {
                producer.push(turn, now, std::iter::repeat_n(0.5, 256));
            }
            if turn % 11 == 0 {
                producer.push(turn.saturating_sub(40), now, std::iter::repeat_n(0.5, 256));
            }
            if turn % 1_000 > 400 {
                return;
            }
            jitter_buffer.set_sent_packets(consumer.state.sent_packets.get());
            while let Some(reported) = consumer.pop(&mut packet) {
                jitter_buffer.on_packet(reported.index, reported.received_at, &packet);
            }
            jitter_buffer.fill(&mut frames, now);
            format.encode(map_to_device(&frames, 2, 4), &mut bytes);
        });
        let played = jitter_buffer.stats();
        assert!(played.played > 0 && played.concealed > 0 && played.late > 0 && played.resyncs > 0, "{played:?}");
        assert!(state.dropped.get() > 0);
    }
    count
}

/// The node passes sent and returned packets to the recorder through a queue, which is sometimes full. The allocations of the recorder's
/// thread, which writes both recordings, are counted too.
fn recorder_of_both_sides() -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 2, frame_samples: 128, first_sequence: 1 };
    let create = |name| folder.path().join(name);
    let analyzer = Analyzer::new(quality::PacketFormat { sample_rate: 48_000, channels: 2, frame_samples: 128 });
    let sinks = AudioSinks {
        analyzer,
        recording: Some(Recording::of_returned(&create("returned"), form).expect("a file")),
        both_recording: Some(Recording::of_both(&create("both"), form).expect("a file")),
        waveform: Some(Waveform::new(48_000, 2, 128, 0)),
    };
    let (mut recorder_input, test_recorder) = recorder::spawn(sinks, form).expect("a thread");
    let payload = [7; 128 * 2 * 4];
    let returned = |index: u64| {
        let (stream, sequence, now, outcome) = (StreamKind::Audio, index as u32, Time::ZERO, PacketOutcome::Returned);
        let packet = RecordedPacket { stream, sequence, due: now, sent_at: now, received_at: Some(now), outcome };
        PacketEvent { packet, index, is_first: true, payload: &payload }
    };
    // The thread is warm when it writes the second pair of packets: then it has processed the first one.
    for pair in 0..2 {
        for index in pair * 2..pair * 2 + 2 {
            recorder_input.on_audio_sent(SentAudio { index, sequence: index as u32, payload: &payload });
            recorder_input.on_packet(returned(index));
        }
        // A header, and packets of 128 stereo frames with 24-bit samples.
        let written = 44 + (pair + 1) * 2 * 128 * 2 * 3;
        poll_until("written packets", || {
            (std::fs::metadata(create("returned")).expect("a file").len() >= written).then_some(())
        });
    }
    let count = allocations(|turn| {
        for index in turn * 4..turn * 4 + 4 {
            recorder_input.on_audio_sent(SentAudio { index, sequence: index as u32, payload: &payload });
            let returned = returned(index);
            let packet = RecordedPacket { received_at: None, outcome: PacketOutcome::Lost, ..returned.packet };
            let lost = PacketEvent { packet, is_first: false, payload: &[], ..returned };
            recorder_input.on_packet(if index % 3 > 0 { returned } else { lost });
        }
    });
    drop(recorder_input);
    let (_, dropped) = test_recorder.finish();
    // The disk is slower than this loop, so packets were dropped.
    assert!([&dropped.sent, &dropped.returned, &dropped.lost].iter().all(|count| count.get() > 0), "{dropped:?}");
    count
}

/// Sends a ping each millisecond for 20 minutes. In the second half, the amount of allocated memory does not grow.
fn endless_run() {
    let (mut node, mut wire) = (prober(1), wire());
    let mut ping = |n: u64| {
        let now = Time::from_millis(n);
        node.poll_transmit(now, &mut wire);
        // Every fourth ping is lost. The other pings return after 500 to 500.9 µs.
        if !n.is_multiple_of(4) {
            wire.last[1] = 6;
            let received_at = now + Duration::from_nanos(500_000 + n % 10 * 100);
            node.on_datagram(received_at, &[received(received_at, SERVER, &wire.last)]);
        }
    };
    // After 600 s and after 1,200 s, the intervals of the history are merged in pairs. Both times, 300 intervals remain.
    (0..600_001).for_each(&mut ping);
    let region = Region::new(ALLOCATOR);
    (600_001..1_200_001).for_each(&mut ping);
    let change = region.change();
    let more = change.bytes_allocated as i64 - change.bytes_deallocated as i64 + change.bytes_reallocated as i64;
    assert!(more <= 0, "{more} bytes more after 600,000 pings");

    let run = node.into_results("", Some(Time::from_millis(1_200_001)), &mut ());
    let stream = run.ping.expect("pings");
    // Of the pings 0 to 1,200,000, every fourth is lost: 300,001. Pings sent after 1,198,000.5 ms have not timed out yet. Of these, 500 did
    // not return: every fourth ping from 1,198,004 to 1,200,000 ms.
    assert_eq!((stream.sent, stream.returned, stream.lost, stream.in_flight), (1_200_001, 900_000, 299_501, 500));
    assert_eq!((stream.min_rtt(), stream.rtt.max()), (Some(500_000), Some(500_900)));
    // Each loss is isolated. Between two losses, three consecutive pings return. They form two pairs of adjacent pings. The round trip
    // decreases by at most 900 ns, for example from ping 9 to 10.
    assert_eq!((stream.loss_bursts.lengths[0], stream.loss_bursts.longest), (299_501, 1));
    let ipdv = (stream.ipdv.magnitudes.count(), stream.ipdv.min(), stream.ipdv.max());
    assert_eq!(ipdv, (600_000, Some(-900), Some(100)));
}

#[test]
fn warm_hot_paths_do_not_allocate_and_an_endless_run_does_not_grow() {
    assert_eq!(sound_of_a_device(), 0, "sound from a device");
    assert_eq!(sound_on_a_device(), 0, "sound to a device");
    assert_eq!(recorder_of_both_sides(), 0, "recorder");
    assert_eq!(events_of_control_surfaces(), 0, "events");
    assert_eq!(echo_of_batches_and_pings(), 0, "echo");
    assert_eq!(relayed_batches(), 0, "relay");
    assert_eq!(relayed_media(), 0, "relayed media");

    let form = AudioStreamConfig { sample_rate: 48_000, channels: 1, frame_samples: 128, first_sequence: 1 };
    let config = run_config(StreamKind::Audio);
    let sender = ClientNode::new(config, AudioWorkload::new(form, Box::new(Silence)), Box::new(()));
    let live = sender.live_figures();
    // 6,000 steps of 2.5 ms are 15 s. In 15 s, the sender sends 5,625 AUDIO, 15 KEEPALIVE, 15 LATENCY_PING and one LATENCY_INFO packet. The
    // first packet of each type is sent immediately.
    let (sent, count) = reflected(sender, Duration::from_micros(2_500));
    assert_eq!(sent, 5_625 + 15 + 15 + 1);
    assert_eq!(count, 0, "sender with a live view");
    assert_eq!(live.snapshot().sent, 5_625);

    let (sent, count) = reflected(prober(1), Duration::from_millis(1));
    assert_eq!(sent, 6_000);
    assert_eq!(count, 0, "prober");
    assert_eq!(pings_of_a_group(), 0, "group");

    endless_run();
}
