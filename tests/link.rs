//! The impaired path: its rates, its distributions, and that a fate depends on seed, type and index alone. Expected values
//! come from the models' own formulas, with room for chance: 5 standard deviations, and seeds that do not change.

use std::net::IpAddr;
use std::time::Duration;

use jamjam_dev::link::{Bandwidth, Burst, BurstError, Fate, Impairment, Link, Loss};
use jamjam_dev::time::Time;
use jamjam_dev::wire::Kind;

const DRAWS: u32 = 1_000_000;
const MS: Duration = Duration::from_millis(1);

/// The fates of AUDIO packets 0, 1, 2, …
fn fates(impairment: Impairment) -> impl Iterator<Item = Fate> {
    let mut link = Link::new(impairment);
    (0..DRAWS).map(move |sequence| link.decide(Kind::Audio, sequence))
}

/// Of [`DRAWS`] independent draws with this probability, so many may succeed.
fn assert_binomial(what: &str, probability: f64, counted: usize) {
    let n = f64::from(DRAWS);
    let (mean, deviation) = (n * probability, (n * probability * (1.0 - probability)).sqrt());
    let off = (counted as f64 - mean).abs();
    assert!(off <= 5.0 * deviation, "{what} {probability}: {counted} of {DRAWS}");
}

#[test]
fn loss_duplicates_and_reordering_have_the_rates_that_were_asked_for() {
    for (seed, ratio) in [(1, 0.0), (2, 0.001), (3, 0.01), (4, 0.25), (5, 0.999), (6, 1.0)] {
        let count = |impairment: Impairment, counts: fn(&Fate) -> bool| {
            fates(Impairment { seed, ..impairment }).filter(counts).count()
        };
        let loss = Impairment { loss: ratio, ..Impairment::default() };
        assert_binomial("loss", ratio, count(loss, |fate| fate.loss == Some(Loss::Single)));
        let duplicate = Impairment { duplicate: ratio, ..Impairment::default() };
        assert_binomial("duplicates", ratio, count(duplicate, |fate| fate.copies == 2));
        let reorder = Impairment { reorder: ratio, ..Impairment::default() };
        assert_binomial("reordering", ratio, count(reorder, |fate| fate.reordered));
    }
}

#[test]
fn what_is_not_asked_for_does_not_happen() {
    let nothing = Fate { loss: None, jitter: Duration::ZERO, reordered: false, copies: 1 };
    assert!(fates(Impairment::default()).all(|fate| fate == nothing));
}

#[test]
fn losses_do_not_know_of_each_other_nor_of_the_other_fates() {
    let all = Impairment { loss: 0.1, duplicate: 0.1, reorder: 0.1, seed: 8, ..Impairment::default() };
    let fates: Vec<Fate> = fates(all).collect();
    let both = |a: fn(&Fate) -> bool, b: fn(&Fate) -> bool, apart: usize| {
        fates.iter().zip(&fates[apart..]).filter(|(first, second)| a(first) && b(second)).count()
    };
    for apart in [1, 2, 3, 64] {
        assert_binomial("two losses", 0.01, both(|fate| fate.loss.is_some(), |fate| fate.loss.is_some(), apart));
    }
    assert_binomial("lost and repeated", 0.01, both(|fate| fate.loss.is_some(), |fate| fate.copies == 2, 0));
    assert_binomial("lost and reordered", 0.01, both(|fate| fate.loss.is_some(), |fate| fate.reordered, 0));
    assert_binomial("repeated and reordered", 0.01, both(|fate| fate.copies == 2, |fate| fate.reordered, 0));
}

/// The lengths of the runs of `true`, one that is cut off at an end left out.
fn runs(states: &[bool]) -> Vec<usize> {
    let whole = states.split(|state| !state).map(<[bool]>::len).filter(|len| *len > 0).collect::<Vec<_>>();
    whole[1..whole.len() - 1].to_vec()
}

#[test]
fn bursts_are_as_long_and_as_frequent_as_in_gilberts_model() {
    for (seed, p, r) in [(1, 0.01, 0.3), (2, 0.002, 0.05), (3, 0.5, 0.5), (4, 0.8, 0.7), (5, 0.95, 0.9)] {
        let burst = Some(Burst::new(p, r).expect("a model"));
        let states: Vec<bool> = fates(Impairment { burst, seed, ..Impairment::default() })
            .map(|fate| {
                assert!(matches!(fate.loss, None | Some(Loss::Burst)));
                fate.loss.is_some()
            })
            .collect();
        let lost = states.iter().filter(|lost| **lost).count() as f64;
        // p / (p + r) of all; neighbours hang together, which widens chance's room by (1 + λ) / (1 − λ), λ = 1 − p − r.
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
fn a_burst_is_the_same_from_whichever_packet_one_looks_first() {
    for (p, r) in [(0.01, 0.3), (0.0005, 0.0005), (0.95, 0.9), (1.0, 0.99)] {
        let burst = Some(Burst::new(p, r).expect("a model"));
        let impairment = Impairment { burst, seed: 9, ..Impairment::default() };
        let mut forwards = Link::new(impairment.clone());
        let in_order: Vec<Fate> = (0..10_000).map(|sequence| forwards.decide(Kind::Audio, sequence)).collect();
        let mut backwards = Link::new(impairment.clone());
        let mut reversed: Vec<Fate> = (0..10_000).rev().map(|n| backwards.decide(Kind::Audio, n)).collect();
        reversed.reverse();
        assert_eq!(in_order, reversed);
        // 7 and 10,000 have no common divisor: every packet once, far from its neighbours.
        let mut leaping = Link::new(impairment.clone());
        for place in (0..10_000).map(|n| n * 7 % 10_000) {
            assert_eq!(leaping.decide(Kind::Audio, place), in_order[place as usize]);
        }
        for place in [0, 5, 9_999] {
            assert_eq!(Link::new(impairment.clone()).decide(Kind::Audio, place), in_order[place as usize]);
        }
    }
}

#[test]
fn bursts_go_on_where_sequence_numbers_wrap() {
    // A burst of 1,000 packets on average: at any seam the state almost never changes.
    let burst = Some(Burst::new(0.001, 0.001).expect("a model"));
    let changes = (0..1_000).filter(|seed| {
        let mut link = Link::new(Impairment { burst, seed: *seed, ..Impairment::default() });
        link.decide(Kind::Audio, u32::MAX).loss != link.decide(Kind::Audio, 0).loss
    });
    // 1 of 1,000 on average; independent states would differ in half of them.
    assert!(changes.count() <= 6);
}

#[test]
fn probabilities_that_make_no_burst_model_are_refused() {
    for (p, r, error) in [
        (0.0, 0.3, BurstError::Zero),
        (0.3, 0.0, BurstError::Zero),
        (0.0004, 0.0005, BurstError::Rare),
        (1.0, 1.0, BurstError::Alternating),
    ] {
        assert_eq!(Burst::new(p, r), Err(error));
    }
    assert!(Burst::new(0.0005, 0.0005).is_ok() && Burst::new(1.0, 0.999).is_ok());
}

#[test]
fn jitter_is_evenly_spread_from_nothing_to_what_was_asked_for() {
    let cells = 100u64;
    let mut counted = [0u64; 100];
    for fate in fates(Impairment { jitter: 5 * MS, seed: 10, ..Impairment::default() }) {
        assert!(fate.jitter <= 5 * MS);
        counted[(fate.jitter.as_nanos() as u64 * cells / 5_000_001) as usize] += 1;
    }
    let expected = f64::from(DRAWS) / cells as f64;
    let chi_square: f64 = counted.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // 99 degrees of freedom: mean 99, deviation 14.1.
    assert!((28.0..170.0).contains(&chi_square), "{chi_square}");
}

#[test]
fn exactly_the_named_audio_packets_are_dropped_whatever_else_is_asked_for() {
    let drop_packets = "10,20-25".parse().expect("a set");
    let impairment = Impairment { drop_packets, loss: 0.5, seed: 11, ..Impairment::default() };
    let mut link = Link::new(impairment);
    let asked: Vec<u32> = (0..1_000).filter(|n| link.decide(Kind::Audio, *n).loss == Some(Loss::Asked)).collect();
    assert_eq!(asked, [10, 20, 21, 22, 23, 24, 25]);
    // The same numbers on other packets mean nothing.
    assert!((0..1_000).all(|n| link.decide(Kind::Keepalive, n).loss != Some(Loss::Asked)));
}

fn everything(seed: u64) -> Impairment {
    Impairment {
        loss: 0.1,
        burst: Some(Burst::new(0.02, 0.3).expect("a model")),
        jitter: 5 * MS,
        reorder: 0.1,
        duplicate: 0.1,
        seed,
        ..Impairment::default()
    }
}

#[test]
fn audio_is_known_by_its_sequence_and_all_else_by_its_place() {
    let mut alone = Link::new(everything(12));
    let audio: Vec<Fate> = (0..1_000).map(|sequence| alone.decide(Kind::Audio, sequence)).collect();
    let pings: Vec<Fate> = (0..1_000).map(|sequence| alone.decide(Kind::LatencyPing, sequence)).collect();
    let keepalives: Vec<Fate> = (0..1_000).map(|_| alone.decide(Kind::Keepalive, 0)).collect();
    // Another client's AUDIO between them, and numbers that a ping does not need.
    let mut crowded = Link::new(everything(12));
    for place in 0..1_000 {
        assert_eq!(crowded.decide(Kind::Audio, place as u32), audio[place]);
        crowded.decide(Kind::Audio, 77_000 + place as u32);
        assert_eq!(crowded.decide(Kind::LatencyPing, 5), pings[place]);
        assert_eq!(crowded.decide(Kind::Keepalive, 900), keepalives[place]);
        assert_eq!(
            crowded.decide(Kind::Audio, place as u32),
            audio[place],
            "a second copy shares the first one's fate"
        );
    }
    // A type is not another's shadow, a seed not another's.
    assert_ne!(audio, pings);
    assert_ne!(pings, keepalives);
    let mut other = Link::new(everything(13));
    assert_ne!((0..1_000).map(|sequence| other.decide(Kind::Audio, sequence)).collect::<Vec<_>>(), audio);
}

/// A payload of 472 bytes is 500 bytes in IPv4, 4,000 bits: 2 ms at 2 Mbit/s.
const LEN: usize = 472;

fn narrow(queue: Duration) -> Link {
    let bandwidth = Some(Bandwidth { bits_per_second: 2_000_000, queue });
    Link::new(Impairment { bandwidth, ..Impairment::default() })
}

fn v4() -> IpAddr {
    [192, 0, 2, 1].into()
}

/// When it leaves, in microseconds.
fn pass(link: &mut Link, at_us: u64, copies: u8) -> Option<u64> {
    let passage = link.enter(Time::from_nanos(at_us * 1_000), (LEN, copies), v4())?;
    assert_eq!(passage.copy_after, 2 * MS);
    Some(passage.leaves.as_micros())
}

#[test]
fn packets_leave_a_limited_bandwidth_one_after_the_other() {
    let mut link = narrow(250 * MS);
    assert!(link.is_narrow());
    assert_eq!(pass(&mut link, 1_000, 1), Some(3_000));
    assert_eq!(pass(&mut link, 1_500, 1), Some(5_000));
    assert_eq!(pass(&mut link, 5_000, 1), Some(7_000));
    // Free again.
    assert_eq!(pass(&mut link, 20_000, 1), Some(22_000));
    // A copy takes its own time, and the next one waits for it.
    assert_eq!(pass(&mut link, 21_000, 2), Some(24_000));
    assert_eq!(pass(&mut link, 21_000, 1), Some(28_000));
}

#[test]
fn the_queue_before_it_drops_what_would_wait_longer() {
    let mut link = narrow(5 * MS);
    assert_eq!(pass(&mut link, 0, 1), Some(2_000));
    assert_eq!(pass(&mut link, 0, 1), Some(4_000));
    assert_eq!(pass(&mut link, 0, 1), Some(6_000));
    // It would wait for 6 ms. A millisecond later 5 are left, which is kept.
    assert_eq!(pass(&mut link, 0, 1), None);
    assert_eq!(pass(&mut link, 999, 1), None);
    assert_eq!(pass(&mut link, 1_000, 1), Some(8_000));
    assert_eq!(pass(&mut link, 1_000, 2), None);
}

#[test]
fn the_headers_of_ip_count_and_a_mapped_address_is_ipv4() {
    let bandwidth = Some(Bandwidth { bits_per_second: 1_000_000, queue: MS });
    let after = |peer: &str| {
        let mut link = Link::new(Impairment { bandwidth, ..Impairment::default() });
        let peer = peer.parse().expect("an address");
        link.enter(Time::ZERO, (12, 1), peer).expect("room").leaves.as_micros()
    };
    // 12 + 8 + 20 bytes are 320 bits, 12 + 8 + 40 are 480.
    assert_eq!((after("192.0.2.1"), after("::ffff:192.0.2.1"), after("2001:db8::1")), (320, 320, 480));
    let mut wide = Link::new(Impairment::default());
    let passage = wide.enter(Time::from_millis(7), (LEN, 2), v4()).expect("no limit");
    assert_eq!((wide.is_narrow(), passage.leaves, passage.copy_after), (false, Time::from_millis(7), Duration::ZERO));
}
