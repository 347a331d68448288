//! Recovery from outages, in virtual time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use jamjam_core::direction::Direction::{self, Down, Up};
use jamjam_core::impairment::Outages;
use jamjam_core::media_relay::Recovery;
use jamjam_core::time::Time;

/// Time 0 of outages, in milliseconds.
const TIME_0: u64 = 7_000;

/// What became of a direction that carried AUDIO before: the recovery, or for how long there was none, in milliseconds.
type Returned = Option<Result<u64, u64>>;

/// A start and an end in milliseconds, and both directions.
type Judged = (u64, u64, [Option<Returned>; 2]);

/// A direction that was silent before the outage.
const SILENT: Option<Returned> = Some(None);

/// Up, where Down never carried AUDIO.
fn up(returned: Result<u64, u64>) -> [Option<Returned>; 2] {
    [Some(Some(returned)), None]
}

fn both(up: Result<u64, u64>, down: Result<u64, u64>) -> [Option<Returned>; 2] {
    [up, down].map(|one| Some(Some(one)))
}

fn time(ms: u64) -> Time {
    Time::from_millis(TIME_0 + ms)
}

/// AUDIO in a direction at these times, with a packet each so many milliseconds.
type Stream = (Direction, Range<u64>, usize);

/// Both directions between two members.
struct Pair([Recovery; 2]);

impl Pair {
    fn change(&mut self, at: Time, direction: Direction, outages: &Outages) {
        self.0.iter_mut().for_each(|one| one.change(at, direction, outages.clone()));
    }

    fn leave(&mut self, at: Time) {
        self.0.iter_mut().for_each(|one| one.left_at = Some(at));
    }
}

/// A pair with these outages in each direction.
fn recovery(outages: [&str; 2]) -> Pair {
    let mut recovery = Pair([Recovery::default(), Recovery::default()]);
    for (direction, text) in [Up, Down].into_iter().zip(outages) {
        recovery.change(time(0), direction, &outages_of(text));
    }
    recovery
}

fn outages_of(text: &str) -> Outages {
    if text.is_empty() { Outages::default() } else { text.parse().expect("outages") }
}

/// Feeds AUDIO in the order of time.
fn forward(recovery: &mut Pair, streams: &[Stream]) {
    let packets =
        |(direction, times, interval): &Stream| times.clone().step_by(*interval).map(|ms| (ms, *direction)).collect();
    let mut all: Vec<(u64, Direction)> = streams.iter().flat_map(|stream| -> Vec<_> { packets(stream) }).collect();
    all.sort_unstable();
    for (ms, direction) in all {
        recovery.0[direction as usize].on_forwarded(time(ms), time(ms), time(0));
    }
}

fn judged_until(mut recovery: Pair, end: u64) -> Vec<Judged> {
    let ms = |at: Time| at.duration_since(time(0)).as_millis() as u64;
    let length = |length: Duration| length.as_millis() as u64;
    let returned = |one: Option<Result<_, _>>| one.map(|one| one.map(length).map_err(length));
    let mut judged = BTreeMap::<_, [Option<Returned>; 2]>::new();
    for (direction, one) in recovery.0.iter_mut().enumerate() {
        one.close(time(end));
        for outage in &one.judged {
            judged.entry((ms(outage.start), ms(outage.end))).or_default()[direction] = Some(returned(outage.recovery));
        }
    }
    judged.into_iter().map(|((start, end), both)| (start, end, both)).collect()
}

/// What is judged of a run that ends at `end`.
fn judged(outages: &str, streams: &[Stream], end: u64) -> Vec<Judged> {
    let mut recovery = recovery([outages; 2]);
    forward(&mut recovery, streams);
    judged_until(recovery, end)
}

#[test]
fn recovery_is_the_time_from_the_end_of_the_outage_to_the_audio_that_stays() {
    for (case, streams, end, expected) in [
        ("at once", &[(Up, 0..5_000, 10)][..], 5_000, Ok(0)),
        ("later", &[(Up, 0..2_000, 10), (Up, 3_250..5_000, 10)], 5_000, Ok(250)),
        (
            "one packet, then silence",
            &[(Up, 0..2_000, 10), (Up, 3_050..3_051, 10), (Up, 3_500..5_000, 10)],
            5_000,
            Ok(500),
        ),
        ("silent after 0.8 s", &[(Up, 0..2_000, 10), (Up, 3_000..3_800, 10), (Up, 4_000..6_000, 10)], 6_000, Ok(1_000)),
        ("a packet in each interval", &[(Up, 0..2_000, 100), (Up, 3_070..5_000, 100)], 5_000, Ok(70)),
        ("packets too rare", &[(Up, 0..8_000, 210)], 8_000, Err(5_000)),
        ("never", &[(Up, 0..2_000, 10)], 8_000, Err(5_000)),
        ("back for too short a time", &[(Up, 0..2_000, 10), (Up, 3_500..4_400, 10)], 6_000, Err(3_000)),
        ("the run ends too early", &[(Up, 0..2_000, 10), (Up, 3_000..3_999, 10)], 3_999, Err(999)),
        ("the run ends in time", &[(Up, 0..2_000, 10), (Up, 3_000..4_000, 10)], 4_000, Ok(0)),
        ("the run ends during the outage", &[(Up, 0..2_000, 10)], 2_500, Err(0)),
    ] {
        let outage_end = end.min(3_000);
        assert_eq!(judged("1s@2s", streams, end), [(2_000, outage_end, up(expected))], "{case}");
    }
}

#[test]
fn each_direction_is_judged_by_itself() {
    let sent_up = [(Up, 0..2_000, 10), (Up, 3_100..6_000, 10)];
    for (case, down, expected) in [
        ("Down never carried AUDIO", vec![], None),
        ("Down had ended 1.01 s before", vec![(Down, 0..1_000, 10)], SILENT),
        ("Down is back later", vec![(Down, 0..2_000, 10), (Down, 3_400..6_000, 10)], Some(Some(Ok(400)))),
        ("Down had ended 0.99 s before", vec![(Down, 0..1_020, 10)], Some(Some(Err(3_000)))),
        ("Down is back earlier", vec![(Down, 0..6_000, 10)], Some(Some(Ok(0)))),
        ("Down never returns", vec![(Down, 0..2_000, 10)], Some(Some(Err(3_000)))),
        ("Down begins after the outage", vec![(Down, 5_000..6_000, 10)], None),
    ] {
        let streams = [&sent_up[..], &down].concat();
        assert_eq!(judged("1s@2s", &streams, 6_000), [(2_000, 3_000, [Some(Some(Ok(100))), expected])], "{case}");
    }
    // Of the outages in a silence, only the first is listed.
    let expected = [(2_000, 3_000, [SILENT, None]), (6_000, 7_000, up(Ok(0)))];
    assert_eq!(judged("1s@2s,1s@3500ms,1s@6s", &[(Up, 0..900, 10), (Up, 5_000..9_000, 10)], 9_000), expected);
}

#[test]
fn audio_that_had_arrived_before_the_end_of_an_outage_is_not_back() {
    // A delay of 3 s: what arrived before the outage leaves after it, and the rest never comes.
    let mut recovery = recovery(["1s@2s", ""]);
    (0..2_000).step_by(10).for_each(|ms| recovery.0[0].on_forwarded(time(ms + 3_000), time(ms), time(0)));
    assert_eq!(judged_until(recovery, 8_000), []);
}

#[test]
fn new_ports_are_judged_as_an_outage_without_length() {
    let mut recovery = recovery(["", ""]);
    forward(&mut recovery, &[(Up, 0..2_000, 10), (Down, 0..2_000, 10)]);
    recovery.0.iter_mut().for_each(|one| one.renumber(time(2_000)));
    // What arrived at the old port still leaves.
    (2_000..3_500).for_each(|ms| recovery.0[0].on_forwarded(time(ms), time(1_999), time(0)));
    forward(&mut recovery, &[(Up, 3_500..5_000, 10), (Down, 2_000..5_000, 10)]);
    assert_eq!(judged_until(recovery, 5_000), [(2_000, 2_000, both(Ok(1_500), Ok(0)))]);
}

#[test]
fn outages_that_overlap_or_touch_are_one_and_others_end_the_judgment() {
    for outages in
        ["1s@2s,1s@2500ms", "1s@2500ms,500ms@2s", "500ms@2s,500ms@2500ms,500ms@3s", "1500ms@2s,100ms@2s/200ms"]
    {
        let judged = judged(outages, &[(Up, 0..3_500, 10)], 3_500);
        assert_eq!(judged, [(2_000, 3_500, up(Err(0)))], "{outages}");
    }
    let expected: Vec<Judged> =
        [(2_000, 3_000, up(Ok(0))), (6_000, 7_000, up(Ok(0))), (10_000, 11_000, up(Err(500)))].into();
    assert_eq!(judged("1s@2s/4s", &[(Up, 0..11_500, 10)], 11_500), expected);
    let streams = &[(Up, 0..2_000, 10), (Up, 4_200..5_000, 10)];
    let expected: Vec<Judged> = [(2_000, 3_000, up(Err(1_500))), (4_500, 5_000, up(Err(3_000)))].into();
    assert_eq!(judged("1s@2s,500ms@4500ms", streams, 8_000), expected);
}

#[test]
fn silence_and_outages_after_a_member_left_are_not_judged() {
    for (streams, left_at, expected) in [
        (&[(Up, 0..2_000, 10)][..], 3_400, Err(400)),
        (&[(Up, 0..2_000, 10)], 2_400, Err(0)),
        // What still passes counts.
        (&[(Up, 0..2_000, 10), (Up, 3_500..5_000, 10)], 3_400, Ok(500)),
    ] {
        let mut recovery = recovery(["1s@2s"; 2]);
        forward(&mut recovery, &streams[..1]);
        recovery.leave(time(left_at));
        forward(&mut recovery, &streams[1..]);
        assert_eq!(judged_until(recovery, 8_000), [(2_000, 3_000, up(expected))], "{left_at}");
    }
    // The other member still sends to the one that has left, which reaches the relay.
    let mut recovery = recovery(["1s@2s/4s"; 2]);
    forward(&mut recovery, &[(Up, 0..2_000, 10), (Down, 0..2_000, 10)]);
    recovery.leave(time(2_400));
    forward(&mut recovery, &[(Up, 3_000..9_000, 10)]);
    assert_eq!(judged_until(recovery, 9_000), [(2_000, 3_000, both(Ok(0), Err(0)))]);
}

#[test]
fn severed_by_hand_is_an_outage_until_both_directions_are_restored() {
    let (severed, restored) = (Outages::endless(), Outages::default());
    let mut pair = recovery(["", ""]);
    forward(&mut pair, &[(Up, 0..2_000, 10), (Down, 0..2_000, 10)]);
    pair.change(time(2_000), Up, &severed);
    pair.change(time(2_000), Down, &severed);
    pair.change(time(3_000), Up, &restored);
    pair.change(time(3_500), Up, &restored);
    forward(&mut pair, &[(Up, 3_500..4_000, 10)]);
    pair.change(time(4_000), Down, &restored);
    forward(&mut pair, &[(Up, 4_000..6_000, 10), (Down, 4_040..6_000, 10)]);
    assert_eq!(judged_until(pair, 6_000), [(2_000, 4_000, both(Ok(0), Ok(40)))]);
    let mut one = recovery(["", ""]);
    forward(&mut one, &[(Up, 0..2_000, 10)]);
    one.change(time(2_000), Down, &severed);
    assert_eq!(judged_until(one, 6_000), [(2_000, 6_000, up(Err(0)))], "not restored");
}

#[test]
fn outage_of_either_direction_is_one_of_the_pair() {
    for outages in [["1s@2s", ""], ["", "1s@2s"], ["1s@2s", "500ms@2s"], ["600ms@2s", "500ms@2500ms"]] {
        let mut recovery = recovery(outages);
        forward(&mut recovery, &[(Up, 0..2_000, 10), (Down, 0..6_000, 10), (Up, 3_200..6_000, 10)]);
        assert_eq!(judged_until(recovery, 6_000), [(2_000, 3_000, both(Ok(200), Ok(0)))], "{outages:?}");
    }
}

#[test]
fn changed_outages_count_from_the_change_on() {
    let of_up = |times| [(Up, times, 10)];
    for (case, before, after, expected) in [
        ("added later", "", "1s@4s", vec![(4_000, 5_000, up(Ok(0)))]),
        ("over before the change", "", "1s@1s", vec![]),
        ("added within", "", "1s@2500ms", vec![(3_000, 3_500, up(Ok(0)))]),
        ("ended early", "2s@2s", "", vec![(2_000, 3_000, up(Ok(0)))]),
        ("made longer", "2s@2s", "2s@2500ms", vec![(2_000, 4_500, up(Ok(0)))]),
        ("unchanged", "2s@2s", "2s@2s", vec![(2_000, 4_000, up(Ok(0)))]),
    ] {
        let mut recovery = recovery([before, ""]);
        forward(&mut recovery, &of_up(0..if before.is_empty() { 3_000 } else { 2_000 }));
        recovery.change(time(3_000), Up, &outages_of(after));
        forward(&mut recovery, &of_up(3_000..6_500));
        assert_eq!(judged_until(recovery, 6_500), expected, "{case}");
    }
    // Restored during an outage of the configuration, which still applies.
    let mut recovery = recovery(["1s@2s", "1s@2s"]);
    forward(&mut recovery, &of_up(0..1_500));
    recovery.change(time(1_500), Up, &Outages::endless());
    recovery.change(time(2_500), Up, &outages_of("1s@2s"));
    forward(&mut recovery, &of_up(3_100..6_000));
    assert_eq!(judged_until(recovery, 6_000), [(1_500, 3_000, up(Ok(100)))]);
}
