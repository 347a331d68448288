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
    let rows: [(&str, [u64; 10], u64); 7] = [
        ("x..xx.x.xxx......x", [3, 1, 1, 0, 0, 0, 0, 0, 0, 0], 3),
        ("....", [0; 10], 0),
        // An ongoing burst is counted by its current length.
        (".xxx", [0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 3),
        // Bursts of ten or more are one group.
        (&format!("..{}.", "x".repeat(9)), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 9),
        (&format!("..{}.", "x".repeat(10)), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 10),
        (&format!("..{}.", "x".repeat(1_000)), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 1_000),
        (&["x".repeat(12), "x".repeat(10), "x".repeat(9)].join("."), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2], 12),
    ];
    for (outcomes, lengths, longest) in rows {
        let found = bursts(outcomes);
        assert_eq!((found.lengths, found.longest), (lengths, longest), "{outcomes}");
    }
}

/// Feeds packets, each given as its index and its arrival time in milliseconds. For each overtaken packet, returns the index, the
/// reordering extent, and the late time offset in milliseconds.
fn overtaken(arrivals: &[(u64, u64)]) -> Vec<(u64, u64, i64)> {
    let mut reordering = Reordering::default();
    let find = |(index, ms): &(u64, u64)| {
        let found = reordering.on_arrival(*index, Time::from_millis(*ms))?;
        Some((*index, found.extent, found.late_time_offset_ns / 1_000_000))
    };
    arrivals.iter().filter_map(find).collect()
}

/// Arrivals, and the expected result of [`overtaken`].
type Row = (&'static [(u64, u64)], &'static [(u64, u64, i64)]);

#[test]
fn extent_and_late_time_offset_count_from_the_first_overtaking_packet() {
    let rows: [Row; 7] = [
        // Packets 5 to 8 overtake packet 4, which arrives at 210 ms. Packet 5 arrives first, at 148 ms (RFC 4737, sections 4.2 and 4.3).
        (
            &[(1, 68), (2, 88), (3, 108), (5, 148), (6, 168), (7, 188), (8, 208), (4, 210), (9, 228), (10, 248)],
            &[(4, 4, 62)],
        ),
        // Packets 5 and 6 arrive directly after packet 7, which arrives at 188 ms.
        (
            &[(1, 68), (2, 88), (3, 108), (4, 128), (7, 188), (5, 189), (6, 190), (8, 208), (9, 228), (10, 248)],
            &[(5, 1, 1), (6, 2, 2)],
        ),
        // Packet 3, at position 1, overtakes packets 2 and 1. Packet 6, at position 4, overtakes packets 4 and 5.
        (
            &[(0, 0), (3, 10), (2, 20), (1, 30), (6, 40), (7, 41), (4, 50), (5, 60)],
            &[(2, 1, 10), (1, 2, 20), (4, 2, 10), (5, 3, 20)],
        ),
        // Packet 1 is lost. The first packet that overtook packet 4 is packet 5, at position 3.
        (&[(0, 0), (2, 1), (3, 2), (5, 3), (6, 4), (4, 5)], &[(4, 2, 2)]),
        // Packet 1 is late. The first packet that overtook it is packet 2.
        (&[(0, 0), (2, 1), (3, 2), (5, 3), (6, 4), (1, 5)], &[(1, 4, 4)]),
        // A gap alone is no reordering, and the last possible index cannot be overtaken.
        (&[(0, 0), (1, 1), (5, 2), (6, 3), (9, 4)], &[]),
        (&[(u64::MAX - 1, 0), (u64::MAX, 1), (7, 2)], &[(7, 2, 2)]),
    ];
    for (arrivals, expected) in rows {
        assert_eq!(overtaken(arrivals), expected, "{arrivals:?}");
    }
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
