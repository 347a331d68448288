//! The history of a stream, compared with a computation from a list of all packets.

use jamjam_core::stats::{FinalOutcome, MAX_INTERVALS, StreamStats};
use jamjam_core::time::Time;

use test_support::rng::{Rng, simulations};

const SECOND: u64 = 1_000_000_000;

/// A simulated packet. Times in nanoseconds.
#[derive(Clone, Copy)]
struct Packet {
    sent_at: u64,
    /// The round trip, or the outcome without a reply.
    outcome: FinalOutcome,
}

/// A stream with losses in bursts, damaged packets and varying round trips. Some streams need more than [`MAX_INTERVALS`] seconds.
fn packets(rng: &mut Rng) -> Vec<Packet> {
    let (count, interval) = (1 + rng.below(1_500), [1, 2, 10, 100, 700, 3_000][rng.below(6) as usize] * 1_000_000);
    let (base, noise) = ([200, 100_000, 20_000_000][rng.below(3) as usize], 1 + rng.below(40_000_000));
    let start = rng.below(SECOND);
    let mut lost = false;
    let mut packets = Vec::new();
    for n in 0..count {
        lost = if lost { rng.below(3) > 0 } else { rng.below(20) == 0 };
        let outcome = match rng.below(40) {
            _ if lost => FinalOutcome::Lost,
            0 => FinalOutcome::Damaged,
            1 if n + 20 > count => FinalOutcome::InFlight,
            _ => FinalOutcome::Returned { rtt: (base + rng.below(noise)).cast_signed() },
        };
        packets.push(Packet { sent_at: start + n * interval + rng.below(1_000), outcome });
    }
    packets
}

fn record(packets: &[Packet]) -> StreamStats {
    let mut stats = StreamStats::new();
    for packet in packets {
        stats.on_sent(Time::from_nanos(packet.sent_at));
    }
    for (_, sent_at, rtt) in arrivals(packets) {
        stats.on_return(Time::from_nanos(sent_at), rtt);
    }
    for packet in packets {
        stats.on_settled(Time::from_nanos(packet.sent_at), packet.outcome);
    }
    stats
}

/// Arrival time, send time and round trip of the returned packets, in the order of arrival.
fn arrivals(packets: &[Packet]) -> Vec<(u64, u64, i64)> {
    let returned = packets.iter().filter_map(|packet| match packet.outcome {
        FinalOutcome::Returned { rtt } => Some((packet.sent_at + rtt.cast_unsigned(), packet.sent_at, rtt)),
        _ => None,
    });
    let mut arrivals: Vec<_> = returned.collect();
    arrivals.sort_unstable();
    arrivals
}

/// The nearest-rank percentile of sorted values, `percent` of 100. The value is rounded up to its bucket: the leading nine bits are kept.
fn rounded_percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let enough = sorted.len() * (100 - percent) >= 100;
    let exact = *sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).filter(|_| enough)?;
    let low_bits = if exact < 512 { 0 } else { (1i64 << (exact.ilog2() - 8)) - 1 };
    Some((exact | low_bits).min(*sorted.last()?))
}

#[test]
fn history_equals_a_naive_computation_in_every_simulation() {
    let mut coarse = 0;
    for seed in 0..simulations() {
        let packets = packets(&mut Rng::new(seed));
        let history = record(&packets).history;
        let origin = packets[0].sent_at;
        let span = packets.last().expect("a packet").sent_at - origin;
        let length =
            (0..20).map(|power| SECOND << power).find(|length| span / length < MAX_INTERVALS as u64).expect("a length");
        coarse += u64::from(length > SECOND);
        assert_eq!(history.interval_ns, length, "seed {seed}");
        let index_of = |sent_at: u64| ((sent_at - origin) / length) as usize;
        assert_eq!(history.intervals.len(), index_of(origin + span) + 1, "seed {seed}");

        let count = history.intervals.len();
        let mut jitter: Vec<Vec<f64>> = vec![Vec::new(); count];
        let mut round_trips: Vec<Vec<i64>> = vec![Vec::new(); count];
        let (mut estimate, mut previous) = (0.0, None);
        for (_, sent_at, rtt) in arrivals(&packets) {
            round_trips[index_of(sent_at)].push(rtt);
            if let Some(previous) = previous {
                estimate += (((rtt - previous) as f64).abs() - estimate) / 16.0;
                jitter[index_of(sent_at)].push(estimate);
            }
            previous = Some(rtt);
        }
        let mut outcomes: Vec<Vec<(FinalOutcome, u64)>> = vec![Vec::new(); count];
        let mut burst = 0;
        for packet in &packets {
            // A packet in flight neither extends nor ends a burst.
            let is_in_flight = packet.outcome == FinalOutcome::InFlight;
            burst = if packet.outcome == FinalOutcome::Lost { burst + 1 } else { burst * u64::from(is_in_flight) };
            outcomes[index_of(packet.sent_at)].push((packet.outcome, if is_in_flight { 0 } else { burst }));
        }

        for (index, interval) in history.intervals.iter().enumerate() {
            let (own, rtts) = (&outcomes[index], &mut round_trips[index]);
            let count = |outcome| own.iter().filter(|(other, _)| *other == outcome).count() as u64;
            rtts.sort_unstable();
            let context = format!("seed {seed}, interval {index}");
            let counts = [interval.sent, interval.returned, interval.lost, interval.damaged, interval.in_flight];
            let [lost, damaged, in_flight] =
                [FinalOutcome::Lost, FinalOutcome::Damaged, FinalOutcome::InFlight].map(count);
            assert_eq!(counts, [own.len() as u64, rtts.len() as u64, lost, damaged, in_flight], "{context}");
            let mut partly = interval.clone();
            partly.excluded = lost.min(1);
            assert_eq!(partly.to_stats(None).lost, lost + in_flight - partly.excluded, "{context}");
            assert_eq!(interval.burst_max, own.iter().map(|(_, burst)| *burst).max().unwrap_or(0), "{context}");
            let extremes = (rtts.first().copied(), rtts.last().copied());
            assert_eq!((interval.rtt_min(), interval.rtt_max()), extremes, "{context}");
            for (p, percent) in [(0.5, 50), (0.9, 90), (0.99, 99)] {
                assert_eq!(interval.rtt_percentile(p), rounded_percentile(rtts, percent), "{context}, p{percent}");
            }
            let mean = jitter[index].iter().sum::<f64>() / jitter[index].len() as f64;
            match interval.jitter_mean() {
                Some(reported) => assert!((reported - mean).abs() <= 1e-9 * mean, "{context}: {reported}, {mean}"),
                None => assert!(jitter[index].is_empty(), "{context}"),
            }
        }
    }
    assert!(coarse > simulations() / 10, "only {coarse} runs have intervals above one second");
}
