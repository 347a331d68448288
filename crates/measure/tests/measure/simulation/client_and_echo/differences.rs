//! Collects every difference between a client's report and the expected numbers of `reference_counts`. The tests of `jamjam-core` check how
//! percentiles, jitter and delay variation follow from the values that are compared here.

use std::fmt::Debug;

use jamjam_core::stats::{self, Histogram};
use jamjam_measure::client::StreamKind;

use super::reference_counts::StreamCounts;

/// The list of differences.
#[derive(Default)]
pub(crate) struct Differences(pub(crate) Vec<String>);

impl Differences {
    pub(crate) fn same<T: PartialEq + Debug + Copy>(&mut self, what: &str, reference: T, reported: T) {
        if reference != reported {
            self.0.push(format!("{what}: {reported:?} is reported, {reference:?} is expected"));
        }
    }

    pub(crate) fn within<T: PartialOrd + Debug + Copy>(&mut self, what: &str, minimum: T, maximum: T, reported: T) {
        if reported < minimum || reported > maximum {
            self.0.push(format!("{what}: {reported:?} is reported, {minimum:?} to {maximum:?} is right"));
        }
    }

    pub(crate) fn stream(&mut self, kind: StreamKind, reference: &StreamCounts, reported: &stats::StreamStats) {
        for (what, reference, reported) in [
            ("sent", reference.sent, reported.sent),
            ("returned", reference.returned, reported.returned),
            ("lost", reference.lost, reported.lost),
            ("damaged", reference.damaged, reported.damaged),
            ("in flight", reference.in_flight, reported.in_flight),
            ("duplicated", reference.duplicated, reported.duplicated),
            ("damaged copies", reference.damaged_copies, reported.damaged_copies),
            ("reordered", reference.reordered, reported.reordered),
            ("unmatched", reference.unmatched, reported.unmatched),
            ("not sent", reference.send_failed, reported.not_sent),
        ] {
            self.same(&format!("{kind:?} {what}"), reference, reported);
        }
        // Packets after the first packet in flight are only known if they returned.
        let known = reference.losses.iter().zip(&reference.refused);
        let known = known.take(reference.first_in_flight.unwrap_or(reference.losses.len()));
        let known: Vec<bool> = known.filter(|(_, refused)| !**refused).map(|(lost, _)| *lost).collect();
        let lost = known.iter().filter(|lost| **lost).count();
        let loss = (!known.is_empty()).then(|| lost as f64 / known.len() as f64);
        self.same(&format!("{kind:?} loss ratio"), loss, reported.loss_ratio());
        self.spread(&format!("{kind:?} round trip"), &reference.round_trips(), &reported.rtt, reported.rtt_baseline());
        self.order(kind, reference, reported);
        let differences = delay_differences(reference);
        let sizes: Vec<i64> = differences.iter().map(|difference| difference.abs()).collect();
        self.spread(&format!("{kind:?} IPDV"), &sizes, &reported.ipdv.magnitudes, 0);
        self.same(&format!("{kind:?} smallest IPDV"), differences.iter().min().copied(), reported.ipdv.min());
        self.same(&format!("{kind:?} largest IPDV"), differences.iter().max().copied(), reported.ipdv.max());
    }

    fn order(&mut self, kind: StreamKind, reference: &StreamCounts, reported: &stats::StreamStats) {
        let bursts = bursts(&reference.losses);
        let of_length = |n: usize| bursts.iter().filter(|burst| **burst == n).count() as u64;
        let longer = bursts.iter().filter(|burst| **burst >= 10).count() as u64;
        let lengths = std::array::from_fn(|index| if index < 9 { of_length(index + 1) } else { longer });
        self.same(&format!("{kind:?} burst lengths"), lengths, reported.loss_bursts.lengths);
        let longest = bursts.iter().max().map_or(0, |longest| *longest as u64);
        self.same(&format!("{kind:?} longest burst"), longest, reported.loss_bursts.longest);
        let ratio = (reference.returned > 0).then(|| reference.reordered as f64 / reference.returned as f64);
        self.same(&format!("{kind:?} reordered ratio"), ratio, reported.reordered_ratio());
        let (extents, offsets): (Vec<i64>, Vec<i64>) = overtaken(reference).into_iter().unzip();
        self.spread(&format!("{kind:?} extent"), &extents, &reported.reorder_extent, 0);
        self.spread(&format!("{kind:?} late offset"), &offsets, &reported.reorder_late_time_offset, 0);
    }

    /// Compares count, minimum, maximum and mean of values. The histogram `reported` contains each value minus `base`.
    pub(crate) fn spread(&mut self, what: &str, values: &[i64], reported: &Histogram, base: i64) {
        let mean = values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64;
        self.same(&format!("{what} count"), values.len() as u64, reported.count());
        self.same(&format!("{what} min"), values.iter().min().copied(), reported.min().map(|value| value + base));
        self.same(&format!("{what} max"), values.iter().max().copied(), reported.max().map(|value| value + base));
        // Floating-point sums in a different order differ in the last digits.
        let reported = reported.mean().map(|mean| mean + base as f64);
        if !reported.is_some_and(|reported| (mean - reported).abs() <= 1e-3 + 1e-9 * mean.abs()) {
            self.same(&format!("{what} mean"), (!values.is_empty()).then_some(mean), reported);
        }
    }
}

/// Returns the length of each run of consecutive lost packets, in the order of sending.
fn bursts(losses: &[bool]) -> Vec<usize> {
    losses.split(|lost| !lost).map(<[bool]>::len).filter(|length| *length > 0).collect()
}

/// For each reordered packet P: how many positions in the order of arrival, and how many nanoseconds, it arrived after the first of the packets
/// that were sent after P.
fn overtaken(counts: &StreamCounts) -> Vec<(i64, i64)> {
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
fn delay_differences(counts: &StreamCounts) -> Vec<i64> {
    let mut round_trips: Vec<(usize, i64)> = counts.order.iter().copied().zip(counts.round_trips()).collect();
    round_trips.sort_unstable();
    let neighbors = |pair: &&[(usize, i64)]| pair[1].0 == pair[0].0 + 1;
    round_trips.windows(2).filter(neighbors).map(|pair| pair[1].1 - pair[0].1).collect()
}
