//! The impaired path: its rates and distributions. A decision depends only on seed, type and index. Expected values come from the formulas
//! of the models. The seeds are fixed, and the tolerance is 5 standard deviations.

use std::net::IpAddr;
use std::time::Duration;

use jamjam_core::impairment::{
    BandwidthLimit, Bottleneck, GilbertModel, Impairer, Impairment, ImpairmentDecision, LossCause, Outages,
};
use jamjam_core::time::Time;
use jamjam_core::wire::PacketType;

const DRAWS: u32 = 1_000_000;
const MS: Duration = Duration::from_millis(1);

/// The decisions for AUDIO packets 0, 1, 2, …
fn decisions(impairment: Impairment) -> impl Iterator<Item = ImpairmentDecision> {
    let mut link = Impairer::new(impairment);
    (0..DRAWS).map(move |sequence| link.decide(Some(PacketType::Audio), sequence, None))
}

/// Checks the number of successes of [`DRAWS`] independent draws with this probability.
fn assert_binomial(what: &str, probability: f64, counted: usize) {
    let n = f64::from(DRAWS);
    let (mean, deviation) = (n * probability, (n * probability * (1.0 - probability)).sqrt());
    let off = (counted as f64 - mean).abs();
    assert!(off <= 5.0 * deviation, "{what} {probability}: {counted} of {DRAWS}");
}

#[test]
fn loss_duplicates_and_reordering_have_the_configured_rates() {
    for (seed, ratio) in [(1, 0.0), (2, 0.001), (3, 0.01), (4, 0.25), (5, 0.999), (6, 1.0)] {
        let count = |impairment: Impairment, counts: fn(&ImpairmentDecision) -> bool| {
            decisions(Impairment { seed, ..impairment }).filter(counts).count()
        };
        let loss = Impairment { loss: ratio, ..Impairment::default() };
        assert_binomial("loss", ratio, count(loss, |decision| decision.loss == Some(LossCause::Random)));
        let duplicate = Impairment { duplicate: ratio, ..Impairment::default() };
        assert_binomial("duplicates", ratio, count(duplicate, |decision| decision.copies == 2));
        let reorder = Impairment { reorder: Some((ratio, 10 * MS)), ..Impairment::default() };
        assert_binomial("reordering", ratio, count(reorder, |decision| decision.reorder_delay == Some(10 * MS)));
    }
}

#[test]
fn default_impairment_changes_nothing() {
    let nothing = ImpairmentDecision { loss: None, delay: Duration::ZERO, reorder_delay: None, copies: 1 };
    assert!(decisions(Impairment::default()).all(|decision| decision == nothing));
}

type Is = fn(&ImpairmentDecision) -> bool;

#[test]
fn losses_are_independent_of_each_other_and_of_other_decisions() {
    let reorder = Some((0.1, 10 * MS));
    let all = Impairment { loss: 0.1, duplicate: 0.1, reorder, seed: 8, ..Impairment::default() };
    let decisions: Vec<ImpairmentDecision> = decisions(all).collect();
    let (lost, repeated): (Is, Is) = (|decision| decision.loss.is_some(), |decision| decision.copies == 2);
    let reordered: Is = |decision| decision.reorder_delay.is_some();
    for (what, first, second, apart) in [
        ("two losses", lost, lost, 1),
        ("two losses", lost, lost, 64),
        ("lost and repeated", lost, repeated, 0),
        ("lost and reordered", lost, reordered, 0),
        ("repeated and reordered", repeated, reordered, 0),
    ] {
        let pairs = decisions.iter().zip(&decisions[apart..]);
        assert_binomial(what, 0.01, pairs.filter(|(a, b)| first(a) && second(b)).count());
    }
}

/// The lengths of the runs of `true`, without the runs at both ends.
fn runs(states: &[bool]) -> Vec<usize> {
    let lengths = states.split(|state| !state).map(<[bool]>::len).filter(|len| *len > 0).collect::<Vec<_>>();
    lengths[1..lengths.len() - 1].to_vec()
}

#[test]
fn bursts_have_the_lengths_and_frequency_of_the_gilbert_model() {
    for (seed, p, r) in [(1, 0.01, 0.3), (2, 0.002, 0.05), (3, 0.5, 0.5), (4, 0.8, 0.7), (5, 0.95, 0.9)] {
        let burst_loss = Some(GilbertModel::new(p, r).expect("a model"));
        let impairment = Impairment { burst_loss, seed, ..Impairment::default() };
        let states: Vec<bool> = decisions(impairment).map(|decision| decision.loss == Some(LossCause::Burst)).collect();
        let lost = states.iter().filter(|lost| **lost).count() as f64;
        // The share of lost packets is p / (p + r). Adjacent states have the correlation λ = 1 − p − r. This correlation multiplies the
        // variance by (1 + λ) / (1 − λ).
        let (share, lambda) = (p / (p + r), 1.0 - p - r);
        let n = f64::from(DRAWS);
        let deviation = (n * share * (1.0 - share) * (1.0 + lambda) / (1.0 - lambda)).sqrt();
        assert!((lost - n * share).abs() <= 5.0 * deviation, "P {p} R {r}: {lost} lost");
        // Burst lengths are geometric: mean 1 / r, variance (1 − r) / r².
        for (what, probability, runs) in
            [("burst", r, runs(&states)), ("gap", p, runs(&states.iter().map(|lost| !lost).collect::<Vec<_>>()))]
        {
            let many = runs.len() as f64;
            let mean = runs.iter().sum::<usize>() as f64 / many;
            let deviation = ((1.0 - probability) / probability.powi(2) / many).sqrt();
            assert!((mean - 1.0 / probability).abs() <= 5.0 * deviation, "P {p} R {r}: mean {what} {mean}");
            let single = runs.iter().filter(|len| **len == 1).count() as f64;
            let deviation = (many * probability * (1.0 - probability)).sqrt();
            assert!((single - many * probability).abs() <= 5.0 * deviation, "P {p} R {r}: {single} {what}s of 1");
        }
    }
}

#[test]
fn burst_state_is_independent_of_the_query_order() {
    for (p, r) in [(0.01, 0.3), (0.0005, 0.0005), (0.95, 0.9), (1.0, 0.99)] {
        let burst_loss = Some(GilbertModel::new(p, r).expect("a model"));
        let impairment = Impairment { burst_loss, seed: 9, ..Impairment::default() };
        let in_order: Vec<ImpairmentDecision> = decisions(impairment.clone()).take(10_000).collect();
        // 7 and 10,000 have no common divisor. Therefore, every packet is requested once, but not directly after its predecessor.
        for order in [|n: u32| 9_999 - n, |n: u32| n * 7 % 10_000] {
            let mut link = Impairer::new(impairment.clone());
            for sequence in (0..10_000).map(order) {
                let decision = link.decide(Some(PacketType::Audio), sequence, None);
                assert_eq!(decision, in_order[sequence as usize]);
            }
        }
    }
}

#[test]
fn bursts_continue_where_sequence_numbers_wrap() {
    // The mean burst length is 1,000 packets. From one packet to the next, the state changes with a probability of only 0.001.
    let burst_loss = Some(GilbertModel::new(0.001, 0.001).expect("a model"));
    let changes = (0..1_000).filter(|seed| {
        let mut link = Impairer::new(Impairment { burst_loss, seed: *seed, ..Impairment::default() });
        link.decide(Some(PacketType::Audio), u32::MAX, None).loss != link.decide(Some(PacketType::Audio), 0, None).loss
    });
    // The state is expected to change between the two packets in 1 of the 1,000 simulated links. If the state were drawn anew for each
    // packet, it would change in half of them.
    assert!(changes.count() <= 6);
}

#[test]
fn invalid_gilbert_probabilities_are_rejected() {
    for (p, r, error) in [
        (0.0, 0.3, "P and R must be greater than 0"),
        (0.3, 0.0, "P and R must be greater than 0"),
        (0.0004, 0.0005, "P and R are too small"),
        (1.0, 1.0, "P and R are too close to 100%"),
    ] {
        let rejected = GilbertModel::new(p, r).unwrap_err().to_string();
        assert!(rejected.starts_with(error), "{rejected}");
    }
    assert!(GilbertModel::new(0.0005, 0.0005).is_ok() && GilbertModel::new(1.0, 0.999).is_ok());
}

#[test]
fn jitter_is_uniform_from_zero_to_the_configured_maximum() {
    let cells = 100u64;
    let mut counted = [0u64; 100];
    for decision in decisions(Impairment { jitter: 5 * MS, seed: 10, ..Impairment::default() }) {
        assert!(decision.delay <= 5 * MS);
        counted[(decision.delay.as_nanos() as u64 * cells / 5_000_001) as usize] += 1;
    }
    let expected = f64::from(DRAWS) / cells as f64;
    let chi_square: f64 = counted.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // The chi-square distribution with 99 degrees of freedom has mean 99 and standard deviation 14.1.
    assert!((28.0..170.0).contains(&chi_square), "{chi_square}");
}

#[test]
fn exactly_the_listed_audio_packets_are_dropped() {
    let dropped_sequences = "10,20-25".parse().expect("a set");
    let impairment = Impairment { dropped_sequences, loss: 0.5, seed: 11, ..Impairment::default() };
    let mut link = Impairer::new(impairment);
    let dropped: Vec<u32> =
        (0..1_000).filter(|n| link.decide(Some(PacketType::Audio), *n, None).loss == Some(LossCause::Listed)).collect();
    assert_eq!(dropped, [10, 20, 21, 22, 23, 24, 25]);
    // The listed numbers have no effect on packets of other types.
    assert!((0..1_000).all(|n| link.decide(Some(PacketType::Keepalive), n, None).loss != Some(LossCause::Listed)));
}

fn everything(seed: u64) -> Impairment {
    Impairment {
        loss: 0.1,
        burst_loss: Some(GilbertModel::new(0.02, 0.3).expect("a model")),
        jitter: 5 * MS,
        reorder: Some((0.1, 10 * MS)),
        duplicate: 0.1,
        seed,
        ..Impairment::default()
    }
}

#[test]
fn audio_is_indexed_by_sequence_and_other_types_by_count() {
    let mut alone = Impairer::new(everything(12));
    let [audio, pings, keepalives] = [PacketType::Audio, PacketType::LatencyPing, PacketType::Keepalive]
        .map(|class| (0..1_000).map(|sequence| alone.decide(Some(class), sequence, None)).collect::<Vec<_>>());
    // The impairer `crowded` decides on the three packet types in turn. It also decides on AUDIO packets that `alone` does not receive. All
    // pings of `crowded` have the same sequence number, and so do all its KEEPALIVEs. The decisions are the same as the decisions of
    // `alone`.
    let mut crowded = Impairer::new(everything(12));
    for index in 0..1_000 {
        assert_eq!(crowded.decide(Some(PacketType::Audio), index as u32, None), audio[index]);
        crowded.decide(Some(PacketType::Audio), 77_000 + index as u32, None);
        assert_eq!(crowded.decide(Some(PacketType::LatencyPing), 5, None), pings[index]);
        assert_eq!(crowded.decide(Some(PacketType::Keepalive), 900, None), keepalives[index]);
        let second_copy = crowded.decide(Some(PacketType::Audio), index as u32, None);
        assert_eq!(second_copy, audio[index]);
    }
    // Packets of different types get independent decisions, and different seeds give independent decisions.
    assert_ne!(audio, pings);
    assert_ne!(pings, keepalives);
    assert_ne!(decisions(everything(13)).take(1_000).collect::<Vec<_>>(), audio);
}

/// A payload of 472 bytes is an IPv4 packet of 500 bytes (4,000 bits). At 2 Mbit/s, this packet takes 2 ms.
const LEN: usize = 472;

fn narrow(max_queue_delay: Duration) -> (BandwidthLimit, Bottleneck) {
    (BandwidthLimit { bits_per_second: 2_000_000, max_queue_delay }, Bottleneck::default())
}

fn v4() -> IpAddr {
    [192, 0, 2, 1].into()
}

/// The time in microseconds at which a packet is sent, or `None` if it is dropped.
fn pass((limit, queue): &mut (BandwidthLimit, Bottleneck), at_us: u64, copies: u8) -> Option<u64> {
    let passage = queue.enter(Some(*limit), Time::from_nanos(at_us * 1_000), (LEN, copies), v4())?;
    assert_eq!(passage.copy_spacing, 2 * MS);
    Some(passage.at.as_micros())
}

#[test]
fn packets_leave_a_limited_bandwidth_one_after_the_other_or_are_dropped() {
    let mut link = narrow(250 * MS);
    // After 20 ms, the link is idle again. A duplicate also occupies the link for 2 ms.
    for (at, copies, leaves) in [
        (1_000, 1, 3_000),
        (1_500, 1, 5_000),
        (5_000, 1, 7_000),
        (20_000, 1, 22_000),
        (21_000, 2, 24_000),
        (21_000, 1, 28_000),
    ] {
        assert_eq!(pass(&mut link, at, copies), Some(leaves), "{at}");
    }
    let mut link = narrow(5 * MS);
    // The fourth packet would wait for 6 ms. A millisecond later it would wait for 5 ms, which is within the limit.
    for (at, copies, leaves) in [
        (0, 1, Some(2_000)),
        (0, 1, Some(4_000)),
        (0, 1, Some(6_000)),
        (0, 1, None),
        (999, 1, None),
        (1_000, 1, Some(8_000)),
        (1_000, 2, None),
    ] {
        assert_eq!(pass(&mut link, at, copies), leaves, "{at}");
    }
}

#[test]
fn ip_headers_count_and_a_mapped_address_is_ipv4() {
    let limit = Some(BandwidthLimit { bits_per_second: 1_000_000, max_queue_delay: MS });
    let after = |peer: &str| {
        let peer = peer.parse().expect("an address");
        Bottleneck::default().enter(limit, Time::ZERO, (12, 1), peer).expect("room").at.as_micros()
    };
    // Over IPv4, 12 + 8 + 20 bytes are 320 bits. Over IPv6, 12 + 8 + 40 bytes are 480 bits.
    assert_eq!((after("192.0.2.1"), after("::ffff:192.0.2.1"), after("2001:db8::1")), (320, 320, 480));
    let unlimited = Bottleneck::default().enter(None, Time::from_millis(7), (LEN, 2), v4()).expect("no limit");
    assert_eq!((unlimited.at, unlimited.copy_spacing), (Time::from_millis(7), Duration::ZERO));
}

#[test]
fn outages_are_judged_by_the_time_since_time_0() {
    let outages: Outages = "5s@30s,500ms@1m/60s".parse().expect("outages");
    let mut link = Impairer::new(Impairment { outages, ..Impairment::default() });
    let mut is_out = |millis: u64| {
        let decision = link.decide(None, 0, Some(Duration::from_millis(millis)));
        decision.loss == Some(LossCause::Outage)
    };
    for (start, end) in [(30_000, 35_000), (60_000, 60_500), (600_000, 600_500)] {
        assert_eq!([start - 1, start, end - 1, end].map(&mut is_out), [false, true, true, false], "{start} ms");
    }
    assert!(!is_out(0) && !is_out(90_000));
    assert_eq!(link.decide(None, 0, None).loss, None);
}

#[test]
fn invalid_outages_are_rejected() {
    let short = ["5s", "", "5@30s", "5s@0", "0s@0s", "5s@1d", "5s@30s/", "-1s@2s"];
    for part in short.into_iter().chain(["5s@30s/60", "60s@0s/60s", "999us@0s/2s", "1ns@0s/2ns"]) {
        let error = format!("5s@3s,{part}").parse::<Outages>().expect_err(part).to_string();
        assert!(error.starts_with(&format!("`{part}` is not LENGTH@START or LENGTH@START/PERIOD with")), "{error}");
    }
}

#[test]
fn constant_delay_and_jitter_add_up() {
    let delayed = Impairment { delay: 30 * MS, jitter: 5 * MS, seed: 4, ..Impairment::default() };
    let without = Impairment { delay: Duration::ZERO, ..delayed.clone() };
    for (delayed, without) in decisions(delayed).zip(decisions(without)).take(1_000) {
        assert_eq!(delayed.delay, without.delay + 30 * MS);
    }
}

#[test]
fn flows_have_decisions_of_their_own() {
    let decisions = |mut link: Impairer| -> Vec<_> { (0..1_000).map(|_| link.decide(None, 0, None)).collect() };
    let flow = |name| decisions(Impairer::for_flow(everything(12), name));
    let (one, other) = (flow("Aki,Ben,0,up"), flow("Aki,Ben,1,up"));
    assert_eq!(one, flow("Aki,Ben,0,up"));
    assert_ne!(one, other);
    assert_ne!(one, flow("Ben,Aki,0,up"));
    assert_eq!(flow(""), decisions(Impairer::new(everything(12))));
}
