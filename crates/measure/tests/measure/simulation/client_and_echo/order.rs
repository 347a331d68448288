//! Bursts, reordering and delay variation as defined in `docs/measuring.md`, implemented independently.

use super::reference_counts::StreamCounts;

/// Returns the length of each run of consecutive lost packets, in the order of sending.
pub(crate) fn bursts(losses: &[bool]) -> Vec<usize> {
    losses.split(|lost| !lost).map(<[bool]>::len).filter(|length| *length > 0).collect()
}

/// Returns a pair for each reordered packet P. Let F be the first packet to arrive among those sent after P. The first value of the pair is
/// P's position in order of arrival minus F's position. The second value is P's arrival time minus F's arrival time.
pub(crate) fn overtaken(counts: &StreamCounts) -> Vec<(i64, i64)> {
    let arrived = |index: usize| counts.returns[index].1;
    // For each arrival, the newest packet that has arrived so far.
    let newest = counts.order.iter().scan(0, |newest, position| {
        *newest = *position.max(newest);
        Some(*newest)
    });
    let newest: Vec<usize> = newest.collect();
    let overtaker = |index: usize| {
        let first = newest.partition_point(|newest| *newest <= counts.order[index]);
        (first < index).then_some(first)
    };
    (0..counts.order.len())
        .filter_map(|index| Some((index, overtaker(index)?)))
        .map(|(index, first)| ((index - first) as i64, arrived(index) - arrived(first)))
        .collect()
}

/// For two consecutively sent packets that both returned: the second round trip minus the first.
pub(crate) fn differences(counts: &StreamCounts) -> Vec<i64> {
    let mut round_trips: Vec<(usize, i64)> = counts.order.iter().copied().zip(counts.round_trips()).collect();
    round_trips.sort_unstable();
    let neighbors = |pair: &&[(usize, i64)]| pair[1].0 == pair[0].0 + 1;
    round_trips.windows(2).filter(neighbors).map(|pair| pair[1].1 - pair[0].1).collect()
}
