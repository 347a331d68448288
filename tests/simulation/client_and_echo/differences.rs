//! Every place where a report and the naive count differ, in words.

use std::fmt::Debug;

use jamjam_dev::stats::{self, Histogram};

use super::naive::{DialectCounters, Stream};
use super::order;
use super::times::{self, Spread};

/// The list.
#[derive(Default)]
pub(crate) struct Differences(pub(crate) Vec<String>);

impl Differences {
    pub(crate) fn same<T: PartialEq + Debug + Copy>(&mut self, what: &str, naive: T, reported: T) {
        if naive != reported {
            self.0.push(format!("{what}: {reported:?} is reported, the naive count says {naive:?}"));
        }
    }

    pub(crate) fn within<T: PartialOrd + Debug + Copy>(&mut self, what: &str, least: T, most: T, reported: T) {
        if reported < least || reported > most {
            self.0.push(format!("{what}: {reported:?} is reported, {least:?} to {most:?} is right"));
        }
    }

    /// Sums of floating-point numbers in another order differ in the last digits.
    fn close(&mut self, what: &str, naive: Option<f64>, reported: Option<f64>) {
        let close = naive.zip(reported).is_some_and(|(a, b)| (a - b).abs() <= 1e-3 + 1e-9 * a.abs());
        if !close {
            self.same(what, naive, reported);
        }
    }

    pub(crate) fn stream(&mut self, kind: Stream, naive: &DialectCounters, reported: &stats::StreamStats) {
        for (what, naive, reported) in [
            ("sent", naive.sent, reported.sent),
            ("returned", naive.returned, reported.returned),
            ("lost", naive.lost, reported.lost),
            ("damaged", naive.damaged, reported.damaged),
            ("in flight", naive.in_flight, reported.in_flight),
            ("duplicated", naive.duplicated, reported.duplicated),
            ("damaged copies", naive.damaged_copies, reported.damaged_copies),
            ("reordered", naive.reordered, reported.reordered),
            ("late", naive.late, reported.late),
            ("unmatched", naive.unmatched, reported.unmatched),
            ("send failed", naive.send_failed, reported.send_failed),
        ] {
            self.same(&format!("{kind:?} {what}"), naive, reported);
        }
        let settled = naive.sent - naive.in_flight;
        let loss = (settled > 0).then(|| naive.lost as f64 / settled as f64);
        self.same(&format!("{kind:?} loss ratio"), loss, reported.loss_ratio());

        let round_trips = naive.round_trips();
        let first_echo = round_trips.first().copied().filter(|_| kind == Stream::Audio).unwrap_or(0);
        let expected = times::spread(&round_trips, first_echo);
        self.spread(&format!("{kind:?} round trip"), &expected, &reported.rtt, reported.rtt_baseline());

        let (updates, mean, max) = times::jitter(&naive.returns);
        self.same(&format!("{kind:?} jitter updates"), updates, reported.jitter.count());
        self.close(&format!("{kind:?} jitter mean"), mean, reported.jitter.mean());
        self.close(&format!("{kind:?} jitter max"), max, reported.jitter.max());
        self.order(kind, naive, reported);
        self.variation(kind, naive, &expected, reported);
    }

    fn order(&mut self, kind: Stream, naive: &DialectCounters, reported: &stats::StreamStats) {
        let bursts = order::bursts(&naive.losses);
        let of_length = |n: usize| bursts.iter().filter(|burst| **burst == n).count() as u64;
        let longer = bursts.iter().filter(|burst| **burst >= 10).count() as u64;
        let lengths = std::array::from_fn(|place| if place < 9 { of_length(place + 1) } else { longer });
        self.same(&format!("{kind:?} burst lengths"), lengths, reported.loss_bursts.lengths());
        let longest = bursts.iter().max().map_or(0, |longest| *longest as u64);
        self.same(&format!("{kind:?} longest burst"), longest, reported.loss_bursts.longest());

        let ratio = (naive.returned > 0).then(|| naive.reordered as f64 / naive.returned as f64);
        self.same(&format!("{kind:?} reordered ratio"), ratio, reported.reordered_ratio());
        let (extents, offsets): (Vec<i64>, Vec<i64>) = order::overtaken(naive).into_iter().unzip();
        self.spread(&format!("{kind:?} extent"), &times::spread(&extents, 0), &reported.reorder_extent, 0);
        self.spread(
            &format!("{kind:?} late offset"),
            &times::spread(&offsets, 0),
            &reported.reorder_late_time_offset,
            0,
        );
    }

    fn variation(&mut self, kind: Stream, naive: &DialectCounters, round_trip: &Spread, reported: &stats::StreamStats) {
        let above = |value: Option<i64>| Some(value? - round_trip.min?);
        let pdv = [0.5, 0.9, 0.99, 0.999].map(|p| reported.pdv(p));
        self.same(&format!("{kind:?} PDV"), round_trip.percentiles.map(above), pdv);
        self.same(&format!("{kind:?} largest PDV"), above(round_trip.max), reported.max_pdv());

        let differences = order::differences(naive);
        let sizes: Vec<i64> = differences.iter().map(|difference| difference.abs()).collect();
        self.spread(&format!("{kind:?} IPDV"), &times::spread(&sizes, 0), reported.ipdv.magnitudes(), 0);
        self.same(&format!("{kind:?} least IPDV"), differences.iter().min().copied(), reported.ipdv.min());
        self.same(&format!("{kind:?} largest IPDV"), differences.iter().max().copied(), reported.ipdv.max());
    }

    /// `reported` counts its values less `base`.
    pub(crate) fn spread(&mut self, what: &str, naive: &Spread, reported: &Histogram, base: i64) {
        let percentile = |p| reported.percentile_if_enough(p).map(|value| value + base);
        self.same(&format!("{what} count"), naive.count, reported.count());
        self.same(&format!("{what} min"), naive.min, reported.min().map(|value| value + base));
        self.same(&format!("{what} max"), naive.max, reported.max().map(|value| value + base));
        self.close(&format!("{what} mean"), naive.mean, reported.mean().map(|mean| mean + base as f64));
        self.same(&format!("{what} percentiles"), naive.percentiles, [0.5, 0.9, 0.99, 0.999].map(percentile));
    }
}
