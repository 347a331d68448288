//! The echo server with an impaired reply path, in virtual time: order, copies, spacing and counts. Outcomes depend only on the documented
//! inputs.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use test_support::node_driver::{deliver, deliver_batch};
use test_support::recording_sink::RecordingSink;

use jamjam_core::echo::DropReason::{BufferFull, ClientBufferFull};
use jamjam_core::echo::{BufferLimits, EchoConfig, EchoServer, IMPAIRED_PACKET_OVERHEAD};
use jamjam_core::impairment::{BandwidthLimit, GilbertModel, Impairer, Impairment, LossCause};
use jamjam_core::node::{Node, SendStatus};
use jamjam_core::outcome::{ObservedImpairment, Outcome, OutcomeEvent};
use jamjam_core::time::Time;
use jamjam_core::wire::PacketType;
use jamjam_core::wire::stun::{CountsRequestTime, counts_request};
use proptest::prelude::*;

use super::{client, drops};

const MS: Duration = Duration::from_millis(1);

type Event = OutcomeEvent<SocketAddr>;

/// A server with an impairment, and the events that its observer receives.
fn server_with(config: EchoConfig, impairment: Impairment) -> (EchoServer, Receiver<Event>) {
    let (sender, log) = mpsc::channel();
    let observed: ObservedImpairment =
        (impairment, Box::new(move |event: &Event| sender.send(*event).expect("a receiver")));
    (EchoServer::new(config).with_impairment(Some(observed)), log)
}

fn server(delay: Duration, impairment: Impairment) -> (EchoServer, Receiver<Event>) {
    server_with(EchoConfig { delay, ..EchoConfig::default() }, impairment)
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
fn replies_leave_at_the_reported_delay_or_are_dropped_at_a_full_queue() {
    let bandwidth = Some(BandwidthLimit { bits_per_second: 200_000, max_queue_delay: 50 * MS });
    let (jitter, reorder) = (3 * MS, Some((0.2, 10 * MS)));
    let impairment = Impairment { jitter, reorder, duplicate: 0.2, bandwidth, seed: 2, ..Impairment::default() };
    let (mut echo, log) = server(20 * MS, impairment);
    let mut left = Vec::new();
    for n in 0..300 {
        let now = Time::from_millis(u64::from(n) * 2);
        left.extend(drain(&mut echo, now));
        receive(&mut echo, now, client(1), &audio(n));
    }
    left.extend(drain(&mut echo, Time::from_millis(2_000)));
    // A reply has 28 + 28 bytes (448 bits), which take 2.24 ms. The second copy leaves directly after the first.
    let copies = |event: Event| {
        let first = event.received_at + 20 * MS + event.added_delay;
        (0..event.copies_sent).map(move |copy| (first + u32::from(copy) * Duration::from_micros(2_240), event.sequence))
    };
    let events: Vec<Event> = log.try_iter().collect();
    let planned: Vec<(Time, u32)> = events.iter().copied().flat_map(copies).collect();
    assert_eq!(left.iter().map(|(at, bytes)| (*at, sequence(bytes))).collect::<Vec<_>>(), planned);
    assert_eq!(events.len(), 300);
    // With a copy of each fifth, the replies need a third more than the bandwidth.
    let full = events.iter().filter(|event| event.outcome == Outcome::BottleneckFull).count() as u64;
    let (counters, duplicated) = (echo.counters(), left.len() as u64 + full - 300);
    assert!(duplicated > 20 && full > 20, "{duplicated} {full}");
    assert_eq!((counters.impaired_duplicated.get(), counters.impaired_queue.get()), (duplicated, full));
    assert_eq!((counters.received.get(), counters.buffered_bytes.get()), (300, 0));
}

#[test]
fn server_that_stops_drops_what_it_holds_back() {
    let (mut echo, log) = server(Duration::ZERO, Impairment { reorder: Some((1.0, 10 * MS)), ..Impairment::default() });
    receive(&mut echo, Time::ZERO, client(1), &audio(1));
    assert_eq!(drain(&mut echo, Time::from_millis(500)), []);
    let counters = echo.counters();
    echo.stop();
    assert_eq!((counters.dropped_at_stop.get(), counters.buffered_bytes.get()), (1, 0));
    assert_eq!(log.try_recv().map(|event| event.outcome), Ok(Outcome::DroppedAtStop));
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
    let lost = log.try_iter().filter(|event| event.outcome == Outcome::Lost(LossCause::Outage));
    let lost: Vec<u64> = lost.map(|event| event.received_at.as_micros() / 1_000 - 1_000).collect();
    let expected = [20..30, 100..105, 150..155].into_iter().flatten().chain([202]);
    assert!(lost.iter().copied().eq(expected), "{lost:?}");
    assert_eq!(echo.counters().impaired_outage.get(), 21);
}

#[test]
fn keepalive_waits_neither_for_stun_nor_for_audio_and_has_an_outcome() {
    let (mut echo, log) = server(10 * MS, Impairment::default());
    receive(&mut echo, Time::ZERO, client(1), &counts_request([9; 12], CountsRequestTime::DuringRun));
    receive(&mut echo, Time::ZERO, client(1), &audio(1));
    receive(&mut echo, Time::ZERO, client(1), &packet(4, 7, 0));
    assert_eq!(drain(&mut echo, Time::ZERO).len(), 2);
    let outcomes: Vec<(u32, Outcome)> = log.try_iter().map(|event| (event.sequence, event.outcome)).collect();
    assert_eq!(outcomes, [(7, Outcome::Sent)]);
    assert_eq!(drain(&mut echo, Time::from_millis(10)).len(), 1);
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

#[test]
fn outcome_is_independent_of_ports_order_batches_and_other_packets() {
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
    let is_audio = |event: &&Event| event.class == Some(PacketType::Audio);
    let events: Vec<Event> = log.try_iter().collect();
    assert_eq!(events.iter().filter(is_audio).count(), 1_000);
    let mut alone = Impairer::new(everything(5));
    for event in events.iter().filter(is_audio) {
        let expected = alone.decide(event.class, event.sequence, None);
        let outcome = expected.loss.map_or((Outcome::Sent, expected.copies), |cause| (Outcome::Lost(cause), 0));
        assert_eq!((event.outcome, event.copies_sent), outcome, "{event:?}");
        assert_eq!(event.reordered, expected.loss.is_none() && expected.reorder_delay.is_some(), "{event:?}");
    }
}

#[test]
fn reply_and_its_copy_are_charged_once() {
    // Memory for a packet of 28 bytes.
    let one = (28 + IMPAIRED_PACKET_OVERHEAD) as u64;
    let buffer_limits = BufferLimits { total: Some(3 * one + 900), per_client: Some(one + 900) };
    let config = EchoConfig { delay: 10 * MS, buffer_limits, ..EchoConfig::default() };
    let (mut echo, log) = server_with(config, Impairment { duplicate: 1.0, ..Impairment::default() });
    receive(&mut echo, Time::ZERO, client(1), &audio(1));
    let counters = echo.counters();
    assert_eq!((counters.buffered.get(), counters.buffered_bytes.get()), (1, one));
    // After the first packet, 900 bytes are left below the limit of client 1. After the packets of clients 2 and 3, 900 bytes are left in
    // total.
    receive(&mut echo, Time::ZERO, client(1), &audio(2));
    for number in [2, 3, 4] {
        receive(&mut echo, Time::ZERO, client(number), &audio(1 + u32::from(number)));
    }
    assert_eq!(drops(&counters, [ClientBufferFull, BufferFull]), [1, 1]);
    assert_eq!((counters.received.get(), counters.buffered_bytes.get()), (3, 3 * one));
    assert_eq!(drain(&mut echo, Time::from_millis(10)).len(), 6);
    assert_eq!((counters.buffered.get(), counters.buffered_bytes.get()), (0, 0));
    let outcomes: Vec<(u32, Outcome)> = log.try_iter().map(|event| (event.sequence, event.outcome)).collect();
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
    let (sent, failed) = (SendStatus::Sent, SendStatus::Failed);
    sink.plan = [failed, failed, sent, failed, sent, SendStatus::WouldBlock].into();
    echo.poll_transmit(Time::from_millis(10), &mut sink);
    assert_eq!(echo.next_deadline(), Some(Time::from_millis(10)));
    let counters = echo.counters();
    echo.stop();
    assert_eq!((counters.sent.get(), counters.send_failed.get(), counters.dropped_at_stop.get()), (2, 3, 2));
    assert_eq!((counters.received.get(), counters.impaired_duplicated.get()), (4, 3));
    let outcomes: Vec<(u32, Outcome, u8)> = log.try_iter().map(|f| (f.sequence, f.outcome, f.copies_sent)).collect();
    let of_sent = [(1, Outcome::SendFailed, 0), (2, Outcome::Sent, 1), (3, Outcome::Sent, 1)];
    assert_eq!(outcomes, [&of_sent[..], &[(4, Outcome::DroppedAtStop, 0)]].concat());
}

#[test]
fn backlog_due_at_one_time_leaves_in_batches() {
    let (mut echo, _log) = server(10 * MS, Impairment { jitter: 1 * MS, ..Impairment::default() });
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
        let (mut echo, log) = server_with(config, Impairment { bandwidth, ..everything(seed) });
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

        let events: Vec<Event> = log.try_iter().collect();
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
