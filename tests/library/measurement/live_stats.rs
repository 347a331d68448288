//! The figures of the live view, compared with a naive computation over all packets of simulated runs.

use std::time::Duration;

use jamjam_dev::client::{
    LiveConfig, LiveObserver, LiveSnapshot, LiveStats, PacketEvent, PacketObserver, PacketOutcome, SentAudio,
    StreamKind, live_events,
};
use jamjam_dev::time::{Pause, Time};

use super::runs::MS;
use crate::simulation::rng::Rng;

const SECOND: i64 = 1_000 * MS;

const CONFIG: LiveConfig = LiveConfig {
    evaluated_stream: StreamKind::Ping,
    timeout: Duration::from_millis(500),
    first_reply_timeout: Duration::ZERO,
    server_delay: None,
    replies_expected: true,
    has_levels: false,
};

fn time(ns: i64) -> Time {
    Time::from_nanos((5 * SECOND + ns).cast_unsigned())
}

/// A datagram that arrives for a packet.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: i64,
    packet: usize,
    is_intact: bool,
}

/// The packets of a run by their send times, and the datagrams that arrive.
struct SimulatedRun {
    sent: Vec<i64>,
    arrivals: Vec<Arrival>,
}

/// A run with bursts of loss, reordering, duplicates, damaged copies, and replies after the time-out.
fn simulated_run(rng: &mut Rng) -> SimulatedRun {
    let packets = 200 + rng.below(3_000);
    let interval = (1 + rng.below(20)).cast_signed() * MS;
    let base = (1 + rng.below(100)).cast_signed() * MS;
    let loss_permille = [0, 10, 100, 500][rng.below(4) as usize];
    let mut in_burst = false;
    let sent: Vec<i64> = (0..packets as i64).map(|n| n * interval + rng.below(MS as u64).cast_signed()).collect();
    let mut arrivals = Vec::new();
    for (packet, sent_at) in sent.iter().enumerate() {
        in_burst = if in_burst { rng.below(4) > 0 } else { rng.below(1_000) < loss_permille };
        if in_burst {
            continue;
        }
        let extra = match rng.below(50) {
            // Beyond the time-out.
            0 => 600 * MS + rng.below(900 * MS as u64).cast_signed(),
            1 => rng.below(100 * MS as u64).cast_signed(),
            _ => rng.below(3 * MS as u64).cast_signed(),
        };
        let at = sent_at + base + extra;
        match rng.below(40) {
            0 => arrivals.push(Arrival { at, packet, is_intact: false }),
            1 => arrivals.extend([false, true].map(|is_intact| Arrival {
                at: at + i64::from(is_intact) * MS,
                packet,
                is_intact,
            })),
            2 => arrivals.extend([0, 700 * MS].map(|later| Arrival { at: at + later, packet, is_intact: true })),
            _ => arrivals.push(Arrival { at, packet, is_intact: true }),
        }
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    SimulatedRun { sent, arrivals }
}

impl SimulatedRun {
    /// Passes all events up to `now` to the observer, as the tracker of sent packets does.
    fn observe(&self, (from, now): (i64, i64), observer: &mut LiveObserver) {
        let mut sent = self.sent.iter().filter(|at| (from..now).contains(*at)).peekable();
        for (number, arrival) in
            self.arrivals.iter().enumerate().filter(|(_, arrival)| (from..now).contains(&arrival.at))
        {
            while let Some(at) = sent.next_if(|at| **at <= arrival.at) {
                observer.on_sent(StreamKind::Ping, time(*at));
            }
            let earlier = || self.arrivals[..number].iter().filter(|other| other.packet == arrival.packet);
            let outcome = match (earlier().any(|other| other.is_intact), arrival.is_intact) {
                (true, _) => PacketOutcome::Duplicate,
                (false, true) => PacketOutcome::Returned,
                (false, false) => PacketOutcome::Damaged,
            };
            observer.on_packet(PacketEvent {
                stream: StreamKind::Ping,
                index: arrival.packet as u64,
                sequence: arrival.packet as u32,
                due: time(self.sent[arrival.packet]),
                sent_at: time(self.sent[arrival.packet]),
                received_at: Some(time(arrival.at)),
                outcome,
                is_first: earlier().next().is_none(),
                payload: &[],
            });
        }
        sent.for_each(|at| observer.on_sent(StreamKind::Ping, time(*at)));
    }

    /// The figures at `now`, computed from all packets.
    fn naive(&self, now: i64) -> LiveSnapshot {
        let sent: Vec<i64> = self.sent.iter().copied().filter(|at| *at < now).collect();
        let Some(first) = sent.first() else { return LiveSnapshot::default() };
        let arrived: Vec<Arrival> = self.arrivals.iter().copied().filter(|arrival| arrival.at < now).collect();
        // The first intact copy of each packet, in the order of arrival.
        let mut returns: Vec<(i64, i64)> = Vec::new();
        let mut returned = vec![false; sent.len()];
        for arrival in arrived.iter().filter(|arrival| arrival.is_intact) {
            if !std::mem::replace(&mut returned[arrival.packet], true) {
                returns.push((arrival.at, arrival.at - sent[arrival.packet]));
            }
        }
        let mut replies = vec![false; sent.len()];
        for arrival in &arrived {
            replies[arrival.packet] = true;
        }
        let min_rtt = returns.iter().map(|(_, rtt)| *rtt).min().unwrap_or(0);
        let timed_out = |packet: &usize| now >= sent[*packet] + min_rtt + 500 * MS;
        let settled = (0..sent.len()).take_while(|packet| replies[*packet] || timed_out(packet)).count();
        let lost = replies[..settled].iter().filter(|reply| !**reply).count();
        let recent: Vec<usize> =
            (0..settled).filter(|packet| sent[settled - 1] - sent[*packet] <= 10 * SECOND).collect();
        let recent_lost = recent.iter().filter(|packet| !replies[**packet]).count();
        let ratio = |lost: usize, all: usize| (all > 0).then(|| lost as f64 / all as f64);
        let mut jitter = None;
        for pair in returns.windows(2) {
            let previous = jitter.unwrap_or(0.0);
            jitter = Some(previous + ((pair[1].1 - pair[0].1).abs() as f64 - previous) / 16.0);
        }
        let last_reply = arrived.last().map_or(i64::MIN, |arrival| arrival.at);
        let unanswered = (0..sent.len()).find(|packet| sent[*packet] > last_reply && !replies[*packet]);
        let second = |at: i64| (at - first) / SECOND;
        let last = second(now);
        let in_second = |number: i64| returns.iter().filter(move |(at, _)| second(*at) == number).map(|(_, rtt)| *rtt);
        LiveSnapshot {
            elapsed_ns: (now - first).cast_unsigned(),
            sent: sent.len() as u64,
            returned: returns.len() as u64,
            rate: (last > 0).then(|| sent.iter().filter(|at| second(**at) == last - 1).count() as u64),
            lost: lost as u64,
            replies_expected: true,
            loss_ratio: ratio(lost, settled),
            current_loss_ratio: ratio(recent_lost, recent.len()),
            current_burst: replies[..settled].iter().rev().take_while(|reply| !**reply).count() as u64,
            rtt_last_ns: returns.last().map(|(_, rtt)| *rtt),
            jitter_ns: jitter,
            unanswered_ns: unanswered.map(|packet| (now - sent[packet]).cast_unsigned()),
            rtt_max_by_second: ((last - 59).max(0)..=last).map(|number| in_second(number).max()).collect(),
            ..LiveSnapshot::default()
        }
    }
}

#[test]
fn figures_equal_a_naive_computation_in_200_simulations() {
    let mut late_returns = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let run = simulated_run(&mut rng);
        let (mut observer, mut events) = live_events(&CONFIG);
        let mut stats = LiveStats::new(CONFIG);
        let end = run.sent[run.sent.len() - 1] + 2 * SECOND;
        let (mut from, mut lost_before) = (0, 0);
        while from < end {
            let now = from + 1 + rng.below(2 * SECOND as u64).cast_signed();
            run.observe((from, now), &mut observer);
            stats.read(&mut events);
            let snapshot = stats.snapshot(time(now));
            let naive = run.naive(now);
            // Percentiles are compared in another test. Bursts that late replies shorten are not defined here.
            let compared = LiveSnapshot { rtt_p50_ns: None, rtt_p99_ns: None, loss_bursts: 0, ..snapshot.clone() };
            assert_eq!(compared, naive, "seed {seed} at {now}");
            late_returns += u32::from(snapshot.lost < lost_before);
            (from, lost_before) = (now, snapshot.lost);
        }
    }
    assert!(late_returns > 50, "{late_returns} late returns");
}

/// Sends packets 10 ms apart. Each returns after its round trip in milliseconds, unless that is `None`.
fn snapshot_of(round_trips: &[Option<i64>], config: LiveConfig, now: i64) -> LiveSnapshot {
    let (mut observer, mut events) = live_events(&config);
    let mut stats = LiveStats::new(config);
    for (n, rtt) in (0..).zip(round_trips) {
        let sent_at = time(n * 10 * MS);
        observer.on_sent(config.evaluated_stream, sent_at);
        observer.on_audio_sent(SentAudio {
            index: n.cast_unsigned(),
            sequence: n as u32,
            payload: &0.5_f32.to_le_bytes(),
        });
        let Some(rtt) = rtt else { continue };
        observer.on_packet(PacketEvent {
            stream: config.evaluated_stream,
            index: n.cast_unsigned(),
            sequence: n as u32,
            due: sent_at,
            sent_at,
            received_at: Some(time(n * 10 * MS + rtt * MS)),
            outcome: PacketOutcome::Returned,
            is_first: true,
            payload: &(-0.25_f32).to_le_bytes(),
        });
    }
    stats.read(&mut events);
    stats.snapshot(time(now))
}

#[test]
fn percentiles_are_those_of_all_round_trips() {
    let round_trips: Vec<Option<i64>> = (1..=200).map(Some).collect();
    let snapshot = snapshot_of(&round_trips, CONFIG, 3 * SECOND);
    let close = |ns: Option<i64>, expected: i64| ns.is_some_and(|ns| (ns - expected).abs() <= expected / 1_000);
    assert!(close(snapshot.rtt_p50_ns, 100 * MS) && close(snapshot.rtt_p99_ns, 198 * MS), "{snapshot:?}");
}

#[test]
fn packets_in_flight_are_not_lost() {
    let snapshot = snapshot_of(&[None; 30], CONFIG, 499 * MS);
    assert_eq!((snapshot.sent, snapshot.lost, snapshot.loss_ratio, snapshot.current_burst), (30, 0, None, 0));
    let snapshot = snapshot_of(&[None; 30], CONFIG, 645 * MS);
    // The packets of the first 145 ms timed out.
    assert_eq!(
        (snapshot.lost, snapshot.loss_ratio, snapshot.current_burst, snapshot.loss_bursts),
        (15, Some(1.0), 15, 1)
    );
    let no_echo = LiveConfig { replies_expected: false, ..CONFIG };
    let snapshot = snapshot_of(&[None; 30], no_echo, 100 * SECOND);
    assert_eq!((snapshot.sent, snapshot.lost, snapshot.loss_ratio), (30, 0, None));
}

#[test]
fn pause_is_shown_and_neither_loses_nor_delays_packets() {
    let (mut observer, mut events) = live_events(&CONFIG);
    let mut stats = LiveStats::new(CONFIG);
    let packet = |n: i64, received_at: Option<i64>, outcome| PacketEvent {
        stream: StreamKind::Ping,
        index: n.cast_unsigned(),
        sequence: n as u32,
        due: time(n * 10 * MS),
        sent_at: time(n * 10 * MS),
        received_at: received_at.map(time),
        outcome,
        is_first: received_at.is_some(),
        payload: &[],
    };
    // Packets 100 to 699 are not sent. Of the others, only packet 710 is lost. The reply to packet 99 is read after the pause.
    for n in 0..800_i64 {
        if n == 99 {
            observer.on_sent(StreamKind::Ping, time(990 * MS));
            continue;
        }
        if n == 100 {
            observer.on_pause(Pause { start: time(990 * MS), end: time(7 * SECOND) });
            stats.read(&mut events);
            let paused = stats.snapshot(time(7 * SECOND));
            assert_eq!((paused.lost, paused.unanswered_ns, paused.paused_ns), (0, Some(0), 6_010 * MS as u64));
            observer.on_packet(packet(99, Some(7 * SECOND), PacketOutcome::Returned));
        }
        if (100..700).contains(&n) {
            observer.on_packet(packet(n, None, PacketOutcome::NotSent));
            continue;
        }
        observer.on_sent(StreamKind::Ping, time(n * 10 * MS));
        if n != 710 {
            observer.on_packet(packet(n, Some(n * 10 * MS + MS), PacketOutcome::Returned));
        }
    }
    stats.read(&mut events);
    let snapshot = stats.snapshot(time(9 * SECOND));
    assert_eq!((snapshot.sent, snapshot.not_sent, snapshot.returned, snapshot.lost), (200, 600, 199, 1));
    assert_eq!((snapshot.loss_ratio, snapshot.current_loss_ratio), (Some(0.005), Some(0.005)));
    assert_eq!((snapshot.loss_bursts, snapshot.current_burst, snapshot.unanswered_ns), (1, 0, None));
    assert_eq!((snapshot.rtt_p99_ns, snapshot.jitter_ns), (Some(MS), Some(0.0)));
}

#[test]
fn packets_in_flight_are_not_lost_at_high_rates() {
    let (mut observer, mut events) = live_events(&CONFIG);
    let mut stats = LiveStats::new(CONFIG);
    // 100,000 packets per second; each returns after 100 µs, when ten later packets have been sent.
    let sent_at = |n: u64| time(n as i64 * 10_000);
    for n in 0..300_000_u64 {
        observer.on_sent(StreamKind::Ping, sent_at(n));
        if let Some(returned) = n.checked_sub(10) {
            observer.on_packet(PacketEvent {
                stream: StreamKind::Ping,
                index: returned,
                sequence: returned as u32,
                due: sent_at(returned),
                sent_at: sent_at(returned),
                received_at: Some(sent_at(n)),
                outcome: PacketOutcome::Returned,
                is_first: true,
                payload: &[],
            });
        }
        if n % 1_000 == 0 {
            stats.read(&mut events);
        }
    }
    stats.read(&mut events);
    let snapshot = stats.snapshot(sent_at(300_000));
    assert_eq!((snapshot.sent, snapshot.returned, snapshot.lost, snapshot.events_dropped), (300_000, 299_990, 0, 0));
}

#[test]
fn audio_round_trips_exclude_the_server_delay_if_it_is_known() {
    let round_trips = [Some(1_020), Some(1_030), Some(1_020)];
    let audio = LiveConfig { evaluated_stream: StreamKind::Audio, has_levels: true, ..CONFIG };
    let unknown = snapshot_of(&round_trips, audio, 1_100 * MS);
    assert_eq!((unknown.rtt_last_ns, unknown.includes_server_delay), (Some(1_020 * MS), true));
    let known = LiveConfig { server_delay: Some(Duration::from_secs(1)), ..audio };
    let snapshot = snapshot_of(&round_trips, known, 1_100 * MS);
    assert_eq!((snapshot.rtt_last_ns, snapshot.includes_server_delay), (Some(20 * MS), false));
    assert_eq!(snapshot.rtt_max_by_second, [None, Some(30 * MS)]);
    assert_eq!((snapshot.sent_peak, snapshot.returned_peak), (Some(0.5), Some(0.25)));
    // The levels of earlier seconds are not shown.
    let later = snapshot_of(&round_trips, known, 4 * SECOND);
    assert_eq!((later.has_levels, later.sent_peak, later.returned_peak), (true, None, None));
}

#[test]
fn silence_counts_from_the_first_unanswered_packet_after_a_reply() {
    let unanswered = |round_trips: &[Option<i64>], now| snapshot_of(round_trips, CONFIG, now).unanswered_ns;
    let ns = |ms: i64| Some((ms * MS).cast_unsigned());
    // All packets were answered, or those without a reply were sent before the last reply.
    assert_eq!(unanswered(&[Some(1); 3], 10 * SECOND), None);
    assert_eq!(unanswered(&[Some(1), None, None, Some(1)], 10 * SECOND), None);
    assert_eq!(unanswered(&[Some(50), None, None], 10 * SECOND), None);
    // Before the first reply, and after a reply. Packets that timed out long ago still count.
    assert_eq!(unanswered(&[None; 3], 300 * MS), ns(300));
    assert_eq!(unanswered(&[Some(1), None, Some(1), None, None], 300 * MS), ns(270));
    assert_eq!(unanswered(&[vec![Some(1)], vec![None; 6_000]].concat(), 60 * SECOND), ns(59_990));
    let no_echo = LiveConfig { replies_expected: false, ..CONFIG };
    assert_eq!(snapshot_of(&[None; 3], no_echo, 10 * SECOND).unanswered_ns, None);
}

#[test]
fn dropped_events_are_counted_and_the_figures_stay_possible() {
    let (mut observer, mut events) = live_events(&CONFIG);
    let mut stats = LiveStats::new(CONFIG);
    for n in 0..100_000 {
        observer.on_sent(StreamKind::Ping, time(n * 1_000));
    }
    stats.read(&mut events);
    observer.on_sent(StreamKind::Ping, time(200 * MS));
    stats.read(&mut events);
    let snapshot = stats.snapshot(time(300 * MS));
    assert_eq!((snapshot.sent, snapshot.events_dropped, snapshot.lost), (100_001, 100_000 - 65_536, 0));
}
