//! Impairment like a recorded run: which datagrams are lost and how long they are delayed, by the time since the start.

use std::sync::Arc;
use std::time::Duration;

use jamjam_core::direction::Direction::{self, Down, Up};
use jamjam_core::impairment::{Impairer, Impairment, LossCause};
use jamjam_core::recorded_path::RecordedPath;
use jamjam_core::wire::PacketType;

const MS: u64 = 1_000_000;

/// A record of 40 ms. The packets at 20 ms and 25 ms are lost, the second without a neighbor.
fn record() -> RecordedPath {
    let packets = vec![(10 * MS, None), (20 * MS, Some(Up)), (25 * MS, Some(Down)), (30 * MS, None)];
    RecordedPath::new((7, packets), vec![(10e6, 40e6), (30e6, 60e6)], 40 * MS)
}

fn impairer(direction: Option<Direction>) -> Impairer {
    Impairer::new(Impairment { recorded: Some(Arc::new(record())), direction, ..Impairment::default() })
}

/// Whether a datagram is lost at this time in microseconds, and its delay in microseconds.
fn decide(direction: Option<Direction>, at: Option<u64>) -> (bool, u128) {
    let decision = impairer(direction).decide(None, 0, at.map(Duration::from_micros));
    assert!(matches!(decision.loss, None | Some(LossCause::Recorded)));
    (decision.loss.is_some(), decision.delay.as_micros())
}

#[test]
fn datagram_takes_the_recorded_packet_sent_last_before_it() {
    for (at, lost_in) in [
        // Before the first packet, nothing is lost.
        (0, None),
        (19_999, None),
        (20_000, Some(Up)),
        (24_999, Some(Up)),
        (25_000, Some(Down)),
        (29_999, Some(Down)),
        (30_000, None),
        // The record repeats after 40 ms.
        (60_000, Some(Up)),
        (4_025_000, Some(Down)),
    ] {
        let is_lost = |direction| decide(direction, Some(at)).0;
        let expected = [lost_in.is_some(), lost_in == Some(Up), lost_in == Some(Down)];
        assert_eq!([is_lost(None), is_lost(Some(Up)), is_lost(Some(Down))], expected, "{at} us");
    }
}

#[test]
fn delay_is_between_those_of_the_returned_packets() {
    // Round trips of 40 ms at 10 ms, 60 ms at 30 ms, and 40 ms at 50 ms, where the record repeats.
    for (at, round_trip) in [(10_000, 40_000), (15_000, 45_000), (20_000, 50_000), (30_000, 60_000), (35_000, 55_000)] {
        assert_eq!(decide(Some(Up), Some(at)).1, round_trip / 2, "{at} us");
        assert_eq!(decide(Some(Down), Some(at)).1, round_trip / 2, "{at} us");
        assert_eq!(decide(None, Some(at)).1, round_trip - 40_000, "{at} us");
    }
    assert_eq!([decide(Some(Up), Some(0)).1, decide(Some(Up), Some(85_000)).1], [25_000, 22_500]);
}

#[test]
fn audio_takes_the_recorded_packet_of_its_number_whenever_it_comes() {
    // Twice the record: its numbers are 7 to 10, and the packets 8 and 9 are lost.
    let numbers: Vec<u32> = (3..11).chain([u32::MAX]).collect();
    for start in [0, 12_345] {
        let lost = [None, Some(Up), Some(Down)].map(|direction| {
            let mut impairer = impairer(direction);
            let mut is_lost = |number: &&u32| {
                let at = Duration::from_micros(start + u64::from(**number % 7) * 900);
                impairer.decide(Some(PacketType::Audio), **number, Some(at)).loss == Some(LossCause::Recorded)
            };
            numbers.iter().filter(&mut is_lost).copied().collect::<Vec<_>>()
        });
        assert_eq!(lost, [vec![4, 5, 8, 9], vec![4, 8], vec![5, 9]], "{start}");
    }
    let decision = impairer(Some(Up)).decide(Some(PacketType::Audio), 9, Some(Duration::ZERO));
    assert_eq!(decision.delay.as_micros(), 27_500, "half of 55 ms at 25 ms");
}

#[test]
fn other_packets_follow_the_time_unless_they_are_numbered_and_dense() {
    let mut impairer = impairer(None);
    // Number 8 is lost, as what comes 20 ms after the start.
    for (number, at_ms, expected, case) in [
        (8, 0, false, "the first"),
        (9, 10, true, "by its number"),
        (9, 11, false, "not numbered"),
        (8, 511, true, "after 500 ms"),
        (9, 1_012, false, "after 501 ms"),
        (10, 1_020, false, "by its number"),
    ] {
        let decision = impairer.decide(Some(PacketType::LatencyPing), number, Some(Duration::from_millis(at_ms)));
        assert_eq!(decision.loss.is_some(), expected, "{case}");
    }
}

#[test]
fn nothing_is_recorded_before_the_start() {
    assert_eq!(decide(None, None), (false, 0));
}

#[test]
fn rate_warning_says_how_fast_the_record_passes() {
    let packets = (0..100).map(|n| (n * 10 * MS, None)).collect();
    let record = RecordedPath::new((0, packets), Vec::new(), 1_000 * MS);
    for (flow, speed) in [(375.0, Some("3.8")), (106.0, Some("1.1")), (104.0, None), (96.0, None), (40.0, Some("0.4"))]
    {
        let passes = |speed| format!("the record passes {speed} times as fast; as many packets in a row are lost");
        let expected = speed.map(|speed| format!("recorded at 100/s, this flow has {flow}/s: {}", passes(speed)));
        assert_eq!(record.rate_warning(flow), expected, "{flow}");
    }
}
