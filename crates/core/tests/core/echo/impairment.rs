//! The echo server with an impaired reply path, in virtual time: order, copies, spacing and counts. Outcomes depend only on the documented
//! inputs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::node_driver::{deliver, deliver_batch};
use test_support::recording_sink::RecordingSink;

use jamjam_core::echo::DropReason::{BufferFull, ClientBufferFull};
use jamjam_core::echo::{BufferLimits, EchoConfig, EchoServer, IMPAIRED_PACKET_OVERHEAD};
use jamjam_core::impairment::{BandwidthLimit, GilbertModel, Impairment, LossCause};
use jamjam_core::node::{Node, SendStatus};
use jamjam_core::outcome::{ObservedImpairment, Outcome, OutcomeEvent};
use jamjam_core::time::Time;
use jamjam_core::wire::PacketType;
use jamjam_core::wire::stun::{CountsRequestTime, counts_request};
use proptest::prelude::*;

use super::client;

const MS: Duration = Duration::from_millis(1);

type Event = OutcomeEvent<SocketAddr>;

/// The events that the observer received.
#[derive(Clone, Default)]
struct EventLog(Arc<Mutex<Vec<Event>>>);

impl EventLog {
    fn observing(&self, impairment: Impairment) -> ObservedImpairment {
        let events = Arc::clone(&self.0);
        let observe = move |event: &Event| events.lock().expect("the lock is not poisoned").push(*event);
        (impairment, Box::new(observe))
    }

    fn all(&self) -> Vec<Event> {
        self.0.lock().expect("the lock is not poisoned").clone()
    }
}

fn server(delay: Duration, impairment: Impairment) -> (EchoServer, EventLog) {
    let log = EventLog::default();
    let config = EchoConfig { delay, ..EchoConfig::default() };
    (EchoServer::new(config).with_impairment(Some(log.observing(impairment))), log)
}

fn packet(kind: u8, sequence: u32, payload: usize) -> Vec<u8> {
    super::packet(kind, sequence, &vec![0; payload])
}

fn audio(sequence: u32) -> Vec<u8> {
    packet(1, sequence, 16)
}

fn sequence(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[2..6].try_into().expect("four bytes"))
}

fn receive(echo: &mut EchoServer, received_at: Time, source: SocketAddr, contents: &[u8]) {
    deliver(echo, received_at.as_nanos(), source, contents);
}

/// Polls the server at its deadlines up to `end`. Returns the sent datagrams with their times.
fn drain(echo: &mut EchoServer, end: Time) -> Vec<(Time, Vec<u8>)> {
    let (mut sink, mut left) = (RecordingSink::new(), Vec::new());
    while let Some(due) = echo.next_deadline().filter(|due| *due <= end) {
        echo.poll_transmit(due, &mut sink);
        left.extend(sink.take().into_iter().map(|bytes| (due, bytes)));
    }
    left
}

#[test]
fn jitter_delays_and_keeps_the_order_of_each_source() {
    let (mut echo, log) = server(20 * MS, Impairment { jitter: 5 * MS, seed: 1, ..Impairment::default() });
    for n in 0..1_000 {
        // Two clients send one packet per millisecond each. Independent delays of up to 5 ms would reorder the packets.
        for number in [1, 2] {
            receive(&mut echo, Time::from_millis(n), client(number), &audio(n as u32 * 10 + u32::from(number)));
        }
    }
    let left = drain(&mut echo, Time::from_millis(2_000));
    assert_eq!(left.len(), 2_000);
    for number in [1, 2] {
        let own = left.iter().filter(|(_, bytes)| sequence(bytes) % 10 == number);
        let mut longest = Duration::ZERO;
        for (n, (at, bytes)) in own.enumerate() {
            assert_eq!(sequence(bytes), n as u32 * 10 + number);
            let late = at.signed_nanos_since(Time::from_millis(n as u64 + 20));
            assert!((0..=5_000_000).contains(&late), "{late}");
            longest = longest.max(Duration::from_nanos(late.cast_unsigned()));
        }
        assert!(longest > 4 * MS, "{longest:?}");
    }
    assert!(log.all().iter().all(|event| event.outcome == Outcome::Sent && !event.reordered && event.copies_sent == 1));
    assert!(log.all().iter().any(|event| event.added_delay > 4 * MS));
}

#[test]
fn reported_delay_is_the_time_at_which_the_reply_left() {
    let bandwidth = Some(BandwidthLimit { bits_per_second: 1_000_000, max_queue_delay: 50 * MS });
    let impairment = Impairment {
        jitter: 3 * MS,
        reorder: Some((0.2, 10 * MS)),
        duplicate: 0.2,
        bandwidth,
        seed: 2,
        ..Impairment::default()
    };
    let (mut echo, log) = server(20 * MS, impairment);
    let mut left = Vec::new();
    for n in 0..300 {
        let now = Time::from_millis(u64::from(n) * 2);
        left.extend(drain(&mut echo, now));
        receive(&mut echo, now, client(1), &audio(n));
    }
    left.extend(drain(&mut echo, Time::from_millis(2_000)));
    // A reply has 28 + 28 bytes (448 bits). The second copy leaves directly after the first.
    let copies = |event: Event| {
        let first = event.received_at + 20 * MS + event.added_delay;
        (0..event.copies_sent).map(move |copy| (first + u32::from(copy) * Duration::from_micros(448), event.sequence))
    };
    let planned: Vec<(Time, u32)> = log.all().into_iter().flat_map(copies).collect();
    assert_eq!(left.iter().map(|(at, bytes)| (*at, sequence(bytes))).collect::<Vec<_>>(), planned);
    assert_eq!(log.all().len(), 300);
    let duplicated = left.len() as u64 - 300;
    assert!(duplicated > 20 && echo.counters().impaired_duplicated.get() == duplicated, "{duplicated}");
}

#[test]
fn bandwidth_limit_drops_replies_beyond_its_queue() {
    // A packet has 72 + 28 bytes (800 bits). At 100 kbit/s, the packet takes 8 ms.
    let bandwidth = Some(BandwidthLimit { bits_per_second: 100_000, max_queue_delay: 20 * MS });
    let (mut echo, log) = server(10 * MS, Impairment { bandwidth, ..Impairment::default() });
    for n in 1..=6 {
        receive(&mut echo, Time::ZERO, client(n as u8), &packet(1, n, 60));
    }
    receive(&mut echo, Time::from_millis(11), client(1), &packet(5, 9, 12));
    let left = drain(&mut echo, Time::from_millis(1_000));
    let left: Vec<(u64, u32)> = left.iter().map(|(at, bytes)| (at.as_micros(), sequence(bytes))).collect();
    // The AUDIO packets reach the queue at 10 ms. The first three packets wait 0, 8 and 16 ms. The fourth packet would wait 24 ms, and the
    // pong 23 ms, but the limit is 20 ms.
    assert_eq!(left, [(18_000, 1), (26_000, 2), (34_000, 3)]);
    let events = log.all();
    let queue = events.iter().filter(|event| event.outcome == Outcome::BottleneckFull);
    assert_eq!(queue.map(|event| event.sequence).collect::<Vec<_>>(), [4, 5, 6, 9]);
    let counters = echo.counters();
    assert_eq!((counters.impaired_queue.get(), counters.received.get(), counters.pings.get()), (4, 6, 1));
    assert_eq!((counters.buffered.get(), counters.buffered_bytes.get()), (0, 0));
}

#[test]
fn only_packets_chosen_for_reordering_are_overtaken() {
    let impairment = Impairment { reorder: Some((0.05, 10 * MS)), jitter: 5 * MS, seed: 3, ..Impairment::default() };
    // Packets are held back for 10 ms at least, and for 1 s at most.
    for interval in [1, 10, 20, 300] {
        let (mut echo, log) = server(20 * MS, impairment.clone());
        for n in 0..2_000 {
            let now = Time::from_millis(u64::from(n) * interval);
            drain(&mut echo, now);
            receive(&mut echo, now, client(1), &audio(n));
            // A KEEPALIVE is no AUDIO, and another client is not this one.
            receive(&mut echo, now, client(1), &packet(4, n, 0));
            receive(&mut echo, now, client(2), &audio(n));
        }
        drain(&mut echo, Time::from_millis(2_000 * interval + 2_000));
        let events = log.all();
        let audio = |event: &&Event| event.route == client(1) && event.class == Some(PacketType::Audio);
        let left: Vec<u32> = events.iter().filter(audio).map(|event| event.sequence).collect();
        assert_eq!(left.len(), 2_000);
        // RFC 4737: a packet is reordered if a packet that was sent later arrived before it.
        let mut highest = None;
        let mut passed = Vec::new();
        for sequence in left {
            if highest > Some(sequence) {
                passed.push(sequence);
            }
            highest = highest.max(Some(sequence));
        }
        let held_back = events.iter().filter(audio).filter(|event| event.reordered);
        let held_back: Vec<u32> = held_back.map(|event| event.sequence).collect();
        assert!((60..140).contains(&held_back.len()), "{held_back:?}");
        assert_eq!(passed, held_back, "an interval of {interval} ms");
        let reordered = events.iter().filter(|event| event.reordered).count() as u64;
        assert_eq!(echo.counters().impaired_reordered.get(), reordered);
    }
}

#[test]
fn reordered_packet_without_a_later_one_leaves_at_the_end() {
    // It waits for 1 s, or for the given time if that is longer.
    for (given, longest) in [(10, 1_000), (1_000, 1_000), (3_000, 3_000_u32)] {
        let impairment = Impairment { reorder: Some((1.0, given * MS)), ..Impairment::default() };
        let (mut echo, log) = server(20 * MS, impairment);
        receive(&mut echo, Time::ZERO, client(1), &audio(1));
        receive(&mut echo, Time::ZERO, client(2), &audio(1));
        receive(&mut echo, Time::ZERO, client(1), &packet(5, 1, 12));
        let left = drain(&mut echo, Time::from_millis(10_000));
        let times: Vec<u64> = left.iter().map(|(at, _)| at.as_micros() / 1_000).collect();
        assert_eq!(times, [0, 20, 20].map(|due| due + u64::from(longest)));
        let delays: Vec<Duration> = log.all().iter().map(|event| event.added_delay).collect();
        assert_eq!(delays, [longest * MS; 3]);
        assert_eq!((echo.counters().buffered.get(), echo.counters().buffered_bytes.get()), (0, 0));
    }
    // A server that stops drops what it holds back.
    let (mut echo, log) = server(Duration::ZERO, Impairment { reorder: Some((1.0, 10 * MS)), ..Impairment::default() });
    receive(&mut echo, Time::ZERO, client(1), &audio(1));
    assert_eq!(drain(&mut echo, Time::from_millis(500)), []);
    let counters = echo.counters();
    echo.stop();
    assert_eq!((counters.dropped_at_stop.get(), counters.buffered_bytes.get()), (1, 0));
    assert_eq!(log.all()[0].outcome, Outcome::DroppedAtStop);
}

#[test]
fn replies_of_all_types_to_a_client_keep_their_order() {
    let (mut echo, _) = server(Duration::ZERO, Impairment { jitter: 50 * MS, seed: 1, ..Impairment::default() });
    for n in 0..100 {
        let kind = [1, 4, 5][n as usize % 3];
        receive(&mut echo, Time::from_millis(u64::from(n)), client(1), &packet(kind, n, 16));
    }
    let left = drain(&mut echo, Time::from_millis(1_000));
    assert!(left.iter().map(|(_, bytes)| sequence(bytes)).eq(0..100), "{left:?}");
}

#[test]
fn outage_loses_what_arrives_in_it_and_nothing_that_waits() {
    let outages = "10ms@20ms,5ms@100ms/50ms".parse().expect("outages");
    let (mut echo, log) = server(15 * MS, Impairment { outages, ..Impairment::default() });
    // A KEEPALIVE does not start the time of outages, the first AUDIO at 1 s does.
    receive(&mut echo, Time::from_millis(25), client(2), &packet(4, 0, 0));
    for n in 0..200 {
        receive(&mut echo, Time::from_millis(1_000 + n), client(1), &audio(n as u32));
    }
    receive(&mut echo, Time::from_millis(1_202), client(2), &packet(4, 1, 0));
    drain(&mut echo, Time::from_millis(2_000));
    let lost = log.all().into_iter().filter(|event| event.outcome == Outcome::Lost(LossCause::Outage));
    let lost: Vec<u64> = lost.map(|event| event.received_at.as_micros() / 1_000 - 1_000).collect();
    let expected = [20..30, 100..105, 150..155].into_iter().flatten().chain([202]);
    assert!(lost.iter().copied().eq(expected), "{lost:?}");
    assert_eq!(echo.counters().impaired_outage.get(), 21);
}

#[test]
fn immediate_replies_do_not_wait_for_audio() {
    let (mut echo, _) = server(3_000 * MS, Impairment { jitter: 5 * MS, seed: 4, ..Impairment::default() });
    receive(&mut echo, Time::ZERO, client(1), &audio(1));
    receive(&mut echo, Time::ZERO, client(1), &packet(4, 1, 0));
    receive(&mut echo, Time::ZERO, client(1), &packet(5, 1, 12));
    let left = drain(&mut echo, Time::from_millis(5));
    assert_eq!(left.iter().map(|(_, bytes)| bytes[1]).collect::<Vec<_>>(), [4, 6]);
}

#[test]
fn keepalive_after_a_stun_request_has_an_outcome() {
    let (mut echo, log) = server(10 * MS, Impairment::default());
    receive(&mut echo, Time::ZERO, client(1), &counts_request([9; 12], CountsRequestTime::DuringRun));
    receive(&mut echo, Time::ZERO, client(1), &packet(4, 7, 0));
    assert_eq!(drain(&mut echo, Time::ZERO).len(), 2);
    let outcomes: Vec<(u32, Outcome)> = log.all().iter().map(|event| (event.sequence, event.outcome)).collect();
    assert_eq!(outcomes, [(7, Outcome::Sent)]);
    assert_eq!(echo.counters().buffered_bytes.get(), 0);
}

fn everything(seed: u64) -> Impairment {
    Impairment {
        loss: 0.1,
        burst_loss: Some(GilbertModel::new(0.05, 0.3).expect("a model")),
        dropped_sequences: "3,40-44".parse().expect("a set"),
        jitter: 5 * MS,
        reorder: Some((0.1, 10 * MS)),
        duplicate: 0.1,
        seed,
        ..Impairment::default()
    }
}

/// Outcome, reordering and copies of each AUDIO packet by client and sequence.
fn outcomes(log: &EventLog) -> BTreeMap<(IpAddr, u32), (Outcome, bool, u8)> {
    let audio = log.all().into_iter().filter(|event| event.class == Some(PacketType::Audio));
    audio.map(|f| ((f.route.ip(), f.sequence), (f.outcome, f.reordered, f.copies_sent))).collect()
}

#[test]
fn outcome_is_independent_of_ports_order_batches_and_other_packets() {
    let (mut echo, log) = server(10 * MS, everything(5));
    for n in 0..500 {
        drain(&mut echo, Time::from_millis(n));
        receive(&mut echo, Time::from_millis(n), client(1), &audio(n as u32));
    }
    drain(&mut echo, Time::from_millis(5_000));
    let alone = outcomes(&log);
    assert_eq!(alone.len(), 500);

    let (mut echo, log) = server(300 * MS, everything(5));
    let (first, second) = (SocketAddr::from(([192, 0, 2, 1], 777)), SocketAddr::from(([192, 0, 2, 2], 1)));
    // 3 and 500 have no common divisor. Therefore, steps of 3 modulo 500 visit each packet exactly once. This order differs from the
    // ascending order above. The packets arrive in batches of five with KEEPALIVEs between the batches.
    let order: Vec<u32> = (0..500).map(|n| n * 3 % 500).collect();
    for (n, batch) in order.chunks(5).enumerate() {
        let received_at = Time::from_millis(n as u64 * 40);
        drain(&mut echo, received_at);
        let bytes: Vec<u8> = batch.iter().flat_map(|n| audio(*n)).collect();
        for source in [first, second] {
            deliver_batch(&mut echo, received_at.as_nanos(), (source, None), &bytes, 28);
            receive(&mut echo, received_at, source, &packet(4, 0, 0));
        }
    }
    drain(&mut echo, Time::from_millis(50_000));
    let both = outcomes(&log);
    assert_eq!(both.len(), 1_000);
    for ((client_ip, sequence), outcome) in &both {
        assert_eq!(outcome, &alone[&(client(1).ip(), *sequence)], "packet {sequence} of {client_ip}");
    }
}

#[test]
fn reply_and_its_copy_are_charged_once() {
    // Memory for a packet of 28 bytes.
    let one = (28 + IMPAIRED_PACKET_OVERHEAD) as u64;
    let buffer_limits = BufferLimits { total: Some(3 * one + 900), per_client: Some(one + 900) };
    let config = EchoConfig { delay: 10 * MS, buffer_limits, ..EchoConfig::default() };
    let log = EventLog::default();
    let impairment = Impairment { duplicate: 1.0, ..Impairment::default() };
    let mut echo = EchoServer::new(config).with_impairment(Some(log.observing(impairment)));
    receive(&mut echo, Time::ZERO, client(1), &audio(1));
    let counters = echo.counters();
    assert_eq!((counters.buffered.get(), counters.buffered_bytes.get()), (1, one));
    // After the first packet, 900 bytes are left below the limit of client 1. After the packets of clients 2 and 3, 900 bytes are left in
    // total.
    receive(&mut echo, Time::ZERO, client(1), &audio(2));
    for number in [2, 3, 4] {
        receive(&mut echo, Time::ZERO, client(number), &audio(1 + u32::from(number)));
    }
    assert_eq!(
        (counters.dropped(ClientBufferFull).get(), counters.dropped(BufferFull).get(), counters.received.get()),
        (1, 1, 3)
    );
    assert_eq!(counters.buffered_bytes.get(), 3 * one);
    assert_eq!(drain(&mut echo, Time::from_millis(10)).len(), 6);
    assert_eq!((counters.buffered.get(), counters.buffered_bytes.get()), (0, 0));
    let outcomes: Vec<(u32, Outcome)> = log.all().iter().map(|event| (event.sequence, event.outcome)).collect();
    let (dropped, sent) = (Outcome::Dropped, Outcome::Sent);
    assert_eq!(outcomes, [(2, dropped), (5, dropped), (1, sent), (3, sent), (4, sent)]);
}

#[test]
fn failed_and_stopped_replies_have_an_outcome() {
    let (mut echo, log) = server(10 * MS, Impairment { duplicate: 1.0, ..Impairment::default() });
    for n in 1..=4 {
        receive(&mut echo, Time::ZERO, client(1), &audio(n));
    }
    let mut sink = RecordingSink::new();
    // Both copies of packet 1 and the second copy of packet 2 fail. The first copy of packet 3 is sent, and then the system reports
    // WouldBlock.
    sink.plan = [
        SendStatus::Failed,
        SendStatus::Failed,
        SendStatus::Sent,
        SendStatus::Failed,
        SendStatus::Sent,
        SendStatus::WouldBlock,
    ]
    .into();
    echo.poll_transmit(Time::from_millis(10), &mut sink);
    assert_eq!(echo.next_deadline(), Some(Time::from_millis(10)));
    let counters = echo.counters();
    echo.stop();
    assert_eq!((counters.sent.get(), counters.send_failed.get(), counters.dropped_at_stop.get()), (2, 3, 2));
    assert_eq!((counters.received.get(), counters.impaired_duplicated.get()), (4, 3));
    let outcomes: Vec<(u32, Outcome, u8)> = log.all().iter().map(|f| (f.sequence, f.outcome, f.copies_sent)).collect();
    assert_eq!(
        outcomes,
        [(1, Outcome::SendFailed, 0), (2, Outcome::Sent, 1), (3, Outcome::Sent, 1), (4, Outcome::DroppedAtStop, 0)]
    );
}

#[test]
fn backlog_due_at_one_time_leaves_in_batches() {
    let (mut echo, _) = server(10 * MS, Impairment { jitter: 1 * MS, ..Impairment::default() });
    (0..200).for_each(|n| receive(&mut echo, Time::ZERO, client(1), &audio(n)));
    let mut sink = RecordingSink::new();
    let now = Time::from_millis(100);
    for batch in [64, 64, 64, 8] {
        assert!(echo.next_deadline().is_some_and(|due| due <= now));
        echo.poll_transmit(now, &mut sink);
        assert_eq!(sink.take().len(), batch);
    }
    assert_eq!(echo.next_deadline(), None);
}

proptest! {
    /// Checks the rules of `docs/measuring.md`, and that the outcomes match the counts.
    #[test]
    fn every_reply_has_exactly_one_count_and_one_outcome(
        steps in prop::collection::vec((0u64..8, 1u8..4, prop::sample::select(vec![1u8, 1, 1, 4, 5, 2, 9])), 1..300),
        outcomes in prop::collection::vec(0u8..8, 0..400),
        (seed, narrow, cap) in (0u64..1_000, any::<bool>(), prop::option::of(500u64..9_000)),
    ) {
        let bandwidth = narrow.then_some(BandwidthLimit { bits_per_second: 200_000, max_queue_delay: 10 * MS });
        let limits = BufferLimits { total: None, per_client: cap };
        let config = EchoConfig { delay: 10 * MS, buffer_limits: limits, ..EchoConfig::default() };
        let log = EventLog::default();
        let mut echo = EchoServer::new(config).with_impairment(Some(log.observing(Impairment { bandwidth, ..everything(seed) })));
        let mut sink = RecordingSink::new();
        let outcome = |n: u8| match n { 0 => SendStatus::WouldBlock, 1 => SendStatus::Failed, _ => SendStatus::Sent };
        sink.plan = outcomes.into_iter().map(outcome).collect();
        let (mut now, mut requests) = (0, 0);
        for (n, (passed, from, kind)) in steps.iter().enumerate() {
            now += passed;
            requests += u64::from(matches!(kind, 1 | 4 | 5));
            receive(&mut echo, Time::from_millis(now), client(*from), &packet(*kind, n as u32, 16));
            echo.poll_transmit(Time::from_millis(now), &mut sink);
        }
        let counters = echo.counters();
        echo.stop();
        let sum = |names: &[&str]| {
            let fields = counters.values().filter(|(name, _)| names.contains(name));
            fields.map(|(_, count)| count).sum::<u64>()
        };
        let accepted = sum(&["received", "keepalives", "pings", "impaired_duplicated"]);
        let finished = sum(&["sent", "immediate_replies", "send_failed", "dropped_at_stop", "impaired_lost", "impaired_burst",
            "impaired_listed", "impaired_queue"]);
        prop_assert_eq!(accepted, finished);
        prop_assert_eq!(sum(&["buffered", "buffered_bytes"]), 0);

        let events = log.all();
        let with = |name: &str| events.iter().filter(|event| event.outcome.name() == name).count() as u64;
        prop_assert_eq!(events.len() as u64, requests);
        prop_assert_eq!(with("buffer_full"), sum(&["dropped_client_buffer_full", "dropped_buffer_full", "dropped_reply_buffer_full"]));
        for (outcome, name) in [("lost", "impaired_lost"), ("burst", "impaired_burst"), ("listed", "impaired_listed"),
            ("queue", "impaired_queue")] {
            prop_assert_eq!(with(outcome), sum(&[name]));
        }
        prop_assert_eq!(events.iter().map(|event| u64::from(event.copies_sent)).sum::<u64>(), sum(&["sent", "immediate_replies"]));
        let held_back = events.iter().filter(|event| event.reordered).count() as u64;
        prop_assert_eq!(held_back, sum(&["impaired_reordered"]));
        prop_assert!(events.iter().all(|event| (event.outcome == Outcome::Sent) == (event.copies_sent > 0)));
    }
}
