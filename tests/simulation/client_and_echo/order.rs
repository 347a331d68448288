//! Bursts, reordering and delay variation of `docs/measuring.md` once more, from its text alone.

use super::reference_counts::DialectCounters;

/// "A row of lost packets, as long as it can be": the lengths of all of them.
pub(crate) fn bursts(losses: &[bool]) -> Vec<usize> {
    losses.split(|lost| !lost).map(<[bool]>::len).filter(|length| *length > 0).collect()
}

/// Of each reordered packet: its place in the order of arrival, and its arrival, less those of the first to arrive of the
/// packets that were sent after it.
pub(crate) fn overtaken(counts: &DialectCounters) -> Vec<(i64, i64)> {
    let arrived = |place: usize| counts.returns[place].1;
    let overtaker = |place: usize| (0..place).find(|before| counts.order[*before] > counts.order[place]);
    (0..counts.order.len())
        .filter_map(|place| Some((place, overtaker(place)?)))
        .map(|(place, first)| ((place - first) as i64, arrived(place) - arrived(first)))
        .collect()
}

/// Of every two neighbours in the order of sending that both returned: the round trip of the second less the first's.
pub(crate) fn differences(counts: &DialectCounters) -> Vec<i64> {
    let mut round_trips: Vec<(usize, i64)> = counts.order.iter().copied().zip(counts.round_trips()).collect();
    round_trips.sort_unstable();
    let neighbours = |pair: &&[(usize, i64)]| pair[1].0 == pair[0].0 + 1;
    round_trips.windows(2).filter(neighbours).map(|pair| pair[1].1 - pair[0].1).collect()
}
