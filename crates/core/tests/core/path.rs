//! The path of impaired datagrams: each leaves as often as decided, never early, and in the order of its flow.

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_core::impairment::{Departure, ImpairmentDecision, PacketClass};
use jamjam_core::path::{Passing, Path};
use jamjam_core::time::Time;
use jamjam_core::wire::PacketType;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const AUDIO: PacketClass = Some(PacketType::Audio);

fn decision(delay: u64, reordered: bool, copies: u8) -> ImpairmentDecision {
    let (delay, reorder_delay) = (Duration::from_millis(delay), reordered.then_some(10 * MS));
    ImpairmentDecision { loss: None, delay, reorder_delay, copies }
}

/// No bandwidth limit.
fn unlimited(passing: &Passing<u8, usize>) -> Departure {
    Departure { at: passing.due, copy_spacing: Duration::ZERO }
}

/// The token of each copy that leaves by `now`, with its due time in milliseconds.
fn leave(path: &mut Path<u8, usize>, now: u64) -> Vec<(u64, usize)> {
    let mut left = Vec::new();
    while let Some(passing) = path.pop_due(Time::from_millis(now), |passing| Some(unlimited(passing))) {
        let passing = passing.expect("no limit");
        left.push((passing.due.as_micros() / 1_000, passing.token));
        path.on_left(passing, true);
    }
    left
}

#[test]
fn classes_of_a_flow_keep_one_order_and_flows_do_not_wait_for_each_other() {
    let mut path = Path::default();
    path.enter(Time::ZERO, 1, AUDIO, &decision(20, false, 1), 0);
    path.enter(Time::from_millis(5), 1, None, &decision(0, false, 1), 1);
    path.enter(Time::from_millis(5), 2, None, &decision(0, false, 1), 2);
    assert_eq!(leave(&mut path, 100), [(5, 2), (20, 0), (20, 1)]);
    assert_eq!(path.next_due(), None);
}

#[test]
fn reordered_datagram_leaves_after_a_later_one_of_its_class() {
    let mut path = Path::default();
    path.enter(Time::ZERO, 1, AUDIO, &decision(0, true, 1), 0);
    path.enter(Time::from_millis(15), 1, None, &decision(0, false, 1), 1);
    path.enter(Time::from_millis(20), 2, AUDIO, &decision(0, false, 1), 2);
    path.enter(Time::from_millis(30), 1, AUDIO, &decision(0, false, 1), 3);
    assert_eq!(leave(&mut path, 29), [(15, 1), (20, 2)]);
    assert_eq!(leave(&mut path, 30), [(30, 3), (30, 0)]);
    // No time of the datagram that was held is left.
    assert_eq!(path.next_due(), None);
    path.enter(Time::from_millis(40), 1, AUDIO, &decision(0, true, 1), 4);
    assert_eq!(leave(&mut path, 1_039), []);
    assert_eq!(path.next_due(), Some(Time::from_millis(1_040)));
    assert_eq!(leave(&mut path, 1_040), [(1_040, 4)]);
    // It waits for a second, or for its own delay if that is longer.
    let long = ImpairmentDecision { reorder_delay: Some(3_000 * MS), ..decision(0, true, 1) };
    path.enter(Time::from_millis(2_000), 1, AUDIO, &long, 5);
    assert_eq!([4_999, 5_000].map(|now| leave(&mut path, now)), [vec![], vec![(5_000, 5)]]);
}

#[test]
fn overtaking_needs_a_datagram_that_was_sent() {
    let mut path = Path::default();
    path.enter(Time::ZERO, 1, AUDIO, &decision(0, true, 1), 0);
    path.enter(Time::from_millis(20), 1, AUDIO, &decision(0, false, 1), 1);
    let passing = path.pop_due(Time::from_millis(20), |passing| (passing.token == 0).then(|| panic!("it is held")));
    // The queue was full.
    assert_eq!(passing.expect("due").expect_err("full").token, 1);
    path.enter(Time::from_millis(30), 1, AUDIO, &decision(0, false, 1), 2);
    let passing =
        path.pop_due(Time::from_millis(30), |passing| Some(unlimited(passing))).expect("due").expect("no limit");
    path.on_left(passing, false);
    assert_eq!(leave(&mut path, 999), []);
    assert_eq!(leave(&mut path, 1_000), [(1_000, 0)]);
}

#[test]
fn datagram_that_was_put_back_is_the_next_one() {
    let mut path = Path::default();
    (0..3).for_each(|token| path.enter(Time::ZERO, 1, AUDIO, &decision(0, false, 1), token));
    let first = path.pop_due(Time::ZERO, |passing| Some(unlimited(passing))).expect("due").expect("no limit");
    path.put_back(first);
    assert_eq!(leave(&mut path, 0), [(0, 0), (0, 1), (0, 2)]);
}

#[test]
fn overtaken_datagram_waits_in_the_queue_of_the_limit_beyond_its_time() {
    let mut path = Path::default();
    path.enter(Time::ZERO, 1, AUDIO, &decision(0, true, 1), 0);
    path.enter(Time::from_millis(900), 1, AUDIO, &decision(0, false, 1), 1);
    let mut leave_by = |now| {
        let queue = |passing: &Passing<u8, usize>| {
            let at = if passing.token == 0 { Time::from_millis(2_000) } else { passing.due };
            Some(Departure { at, copy_spacing: Duration::ZERO })
        };
        let passing = path.pop_due(Time::from_millis(now), queue)?.expect("room in the queue");
        path.on_left(passing, true).map(|left| left.token)
    };
    // Without a later one, it would have left at 1 s.
    assert_eq!([900, 1_999, 2_000].map(&mut leave_by), [Some(1), None, Some(0)]);
}

/// Milliseconds since the last one, flow, whether it is AUDIO, delay, whether it is reordered, and copies.
type Step = (u64, u8, bool, u64, bool, u8);

proptest! {
    #[test]
    fn every_copy_leaves_once_in_order_and_not_early(
        steps in prop::collection::vec((0u64..5, 0u8..3, any::<bool>(), 0u64..30, prop::bool::weighted(0.1), 1u8..3), 1..300),
        polls in prop::collection::vec(any::<bool>(), 300),
        stopped in any::<bool>(),
    ) {
        let (mut path, mut now) = (Path::default(), 0);
        let mut entered: Vec<(u64, Step)> = Vec::new();
        let mut left: Vec<(u64, usize)> = Vec::new();
        for (token, (step, is_polled)) in steps.into_iter().zip(polls).enumerate() {
            let (passed, flow, is_audio, delay, reordered, copies) = step;
            now += passed;
            path.enter(Time::from_millis(now), flow, AUDIO.filter(|_| is_audio), &decision(delay, reordered, copies), token);
            entered.push((now, step));
            if is_polled {
                left.extend(leave(&mut path, now));
            }
        }
        if !stopped {
            left.extend(leave(&mut path, now + 2_000));
            prop_assert_eq!(path.next_due(), None);
        }
        let mut copies: BTreeMap<usize, u8> = BTreeMap::new();
        for (_, token) in &left {
            *copies.entry(*token).or_default() += 1;
        }
        for passing in path.into_rest() {
            *copies.entry(passing.token).or_default() += passing.copies_left;
        }
        for (token, (_, (.., expected))) in entered.iter().enumerate() {
            prop_assert_eq!(copies.get(&token), Some(expected));
        }
        for (at, token) in &left {
            let (entered_at, (_, _, _, delay, reordered, _)) = entered[*token];
            let earliest = entered_at + delay + if reordered { 10 } else { 0 };
            prop_assert!(*at >= earliest, "{} left at {} instead of {}", token, at, earliest);
        }
        for flow in 0..3 {
            let in_order = left.iter().filter(|(_, token)| entered[*token].1.1 == flow && !entered[*token].1.4);
            prop_assert!(in_order.is_sorted_by_key(|(_, token)| *token));
        }
    }
}
