//! Tests of loss bursts, and of reordering by the definitions of RFC 4737. The expected values are computed by hand.

use jamjam_core::stats::{LossBursts, ReorderedPacket, Reordering, StreamStats};
use jamjam_core::time::Time;

/// One letter per packet in sending order: `x` is lost.
fn bursts(outcomes: &str) -> LossBursts {
    let mut bursts = LossBursts::default();
    outcomes.chars().for_each(|outcome| _ = bursts.on_settled(Time::ZERO, outcome == 'x'));
    bursts
}

#[test]
fn bursts_are_counted_by_their_length() {
    let found = bursts("x..xx.x.xxx......x");
    assert_eq!(found.lengths, [3, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(found.longest, 3);
    assert_eq!((bursts("....").lengths, bursts("....").longest), ([0; 10], 0));
}

#[test]
fn bursts_of_nine_and_ten_differ_and_longer_ones_are_grouped() {
    for (length, bucket) in [(9, 8), (10, 9), (11, 9), (1_000, 9)] {
        let found = bursts(&format!("..{}..", "x".repeat(length)));
        let mut expected = [0; 10];
        expected[bucket] = 1;
        assert_eq!((found.lengths, found.longest), (expected, length as u64), "{length}");
    }
    let found = bursts(&["x".repeat(12), "x".repeat(10), "x".repeat(9)].join("."));
    assert_eq!((found.lengths[8], found.lengths[9], found.longest), (1, 2, 12));
}

#[test]
fn ongoing_burst_is_counted_by_its_current_length() {
    assert_eq!(bursts(".xx").lengths, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bursts(".xxx").lengths, [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
}

/// Feeds packets, each given as its index and its arrival time in milliseconds. For each overtaken packet, returns the index, the
/// reordering extent, and the late time offset in milliseconds.
fn overtaken(arrivals: &[(u64, u64)]) -> Vec<(u64, u64, i64)> {
    let mut reordering = Reordering::default();
    let mut found = Vec::new();
    for (index, ms) in arrivals {
        if let Some(ReorderedPacket { extent, late_time_offset_ns }) =
            reordering.on_arrival(*index, Time::from_millis(*ms))
        {
            found.push((*index, extent, late_time_offset_ns / 1_000_000));
        }
    }
    found
}

#[test]
fn packet_overtaken_by_four_has_extent_four() {
    // Packets 5 to 8 overtake packet 4, which arrives at 210 ms. Of packets 5 to 8, packet 5 arrives first, at 148 ms. By RFC 4737, the
    // extent (section 4.2) and the late time offset (section 4.3) count from this arrival.
    let arrivals = [(1, 68), (2, 88), (3, 108), (5, 148), (6, 168), (7, 188), (8, 208), (4, 210), (9, 228), (10, 248)];
    assert_eq!(overtaken(&arrivals), [(4, 4, 62)]);
}

#[test]
fn two_packets_overtaken_by_one_have_extents_one_and_two() {
    // Packets 5 and 6 arrive directly after packet 7, which arrives at 188 ms.
    let arrivals = [(1, 68), (2, 88), (3, 108), (4, 128), (7, 188), (5, 189), (6, 190), (8, 208), (9, 228), (10, 248)];
    assert_eq!(overtaken(&arrivals), [(5, 1, 1), (6, 2, 2)]);
}

#[test]
fn reordering_extent_is_measured_to_the_first_overtaking_packet() {
    // The first packet that overtakes packets 2 and 1 is packet 3, at position 1. The first packet that overtakes packets 4 and 5 is packet
    // 6, at position 4.
    let arrivals = [(0, 0), (3, 10), (2, 20), (1, 30), (6, 40), (7, 41), (4, 50), (5, 60)];
    assert_eq!(overtaken(&arrivals), [(2, 1, 10), (1, 2, 20), (4, 2, 10), (5, 3, 20)]);
}

#[test]
fn loss_before_a_gap_does_not_change_the_overtaking_packet() {
    // Packet 1 is lost. The first packet that overtook packet 4 is packet 5, at position 3. The loss before packet 2 does not change this.
    assert_eq!(overtaken(&[(0, 0), (2, 1), (3, 2), (5, 3), (6, 4), (4, 5)]), [(4, 2, 2)]);
    // If the late packet is packet 1, the first packet that overtook it is packet 2.
    assert_eq!(overtaken(&[(0, 0), (2, 1), (3, 2), (5, 3), (6, 4), (1, 5)]), [(1, 4, 4)]);
}

#[test]
fn evicted_packets_do_not_affect_later_arrivals() {
    let mut reordering = Reordering::default();
    // In this loop, only packets with an even number n arrive. Packet n has position n/2 in the order of arrival. Packet n overtakes packet
    // n − 1, which has not arrived.
    for n in (0..1_000).step_by(2) {
        assert_eq!(reordering.on_arrival(n, Time::from_millis(n)), None);
    }
    reordering.discard_before(901);
    let by = |extent, late_ms: i64| Some(ReorderedPacket { extent, late_time_offset_ns: late_ms * 1_000_000 });
    // Packet 901 was overtaken by 902 at position 451, and arrives at position 500.
    assert_eq!(reordering.on_arrival(901, Time::from_millis(1_000)), by(500 - 451, 98));
    reordering.discard_before(998);
    assert_eq!(reordering.on_arrival(999, Time::from_millis(1_001)), None);
    assert_eq!(reordering.on_arrival(1_001, Time::from_millis(1_002)), None);
    assert_eq!(reordering.on_arrival(1_000, Time::from_millis(1_007)), by(1, 5));
}

#[test]
fn stream_statistics_sum_reordering_extents() {
    let mut stream = StreamStats::new();
    (0..8).for_each(|_| stream.on_return(Time::ZERO, 1_000));
    assert_eq!((stream.reordered_ratio(), stream.reorder_extent.mean()), (Some(0.0), None));
    stream.on_reordered(ReorderedPacket { extent: 1, late_time_offset_ns: 500 });
    stream.on_reordered(ReorderedPacket { extent: 6, late_time_offset_ns: 300 });
    assert_eq!((stream.reordered, stream.reordered_ratio()), (2, Some(0.25)));
    assert_eq!((stream.reorder_extent.mean(), stream.reorder_extent.max()), (Some(3.5), Some(6)));
    assert_eq!(stream.reorder_late_time_offset.max(), Some(500));
    assert_eq!(StreamStats::new().reordered_ratio(), None);
}
