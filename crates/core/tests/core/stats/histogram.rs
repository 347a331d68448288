//! Percentiles from the histogram, compared with percentiles from the sorted values.

use jamjam_core::stats::{Histogram, HistogramBar};
use proptest::prelude::*;

/// The nearest-rank percentile: the smallest value with enough values at or below it. Enough means at least `per_million` millionths of all
/// values.
fn nearest_rank(values: &[i64], per_million: u128) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let enough = |at: usize| (at as u128 + 1) * 1_000_000 >= per_million * sorted.len() as u128;
    sorted[(0..sorted.len()).find(|at| enough(*at)).unwrap()]
}

fn histogram(values: &[i64]) -> Histogram {
    let mut histogram = Histogram::default();
    for value in values {
        histogram.record(*value);
    }
    histogram
}

/// Values of every realistic size, nanoseconds to hours, positive and negative.
fn value() -> impl Strategy<Value = i64> {
    (0..44u32, any::<i64>(), any::<bool>()).prop_map(|(bits, any, negative)| {
        let magnitude = (any & i64::MAX) >> (62 - bits);
        if negative { -magnitude } else { magnitude }
    })
}

proptest! {
    #[test]
    fn percentile_never_underestimates_and_is_within_a_thousandth(
        values in prop::collection::vec(value(), 1..400),
        per_million in 0..=1_000_000u32,
    ) {
        let exact = nearest_rank(&values, u128::from(per_million));
        let found = histogram(&values).percentile(f64::from(per_million) / 1e6).unwrap();
        let maximum = *values.iter().max().unwrap();
        prop_assert!(exact <= found && found <= maximum, "{exact} <= {found} <= {maximum}");
        prop_assert!(i128::from(found - exact) * 1_000 < i128::from(exact).abs().max(1), "{found} for {exact}");
    }

    #[test]
    fn count_extremes_and_mean_are_exact(values in prop::collection::vec(value(), 1..400)) {
        let histogram = histogram(&values);
        let sum: i128 = values.iter().map(|value| i128::from(*value)).sum();
        prop_assert_eq!(histogram.count(), values.len() as u64);
        prop_assert_eq!(histogram.min(), values.iter().min().copied());
        prop_assert_eq!(histogram.max(), values.iter().max().copied());
        prop_assert_eq!(histogram.mean(), Some(sum as f64 / values.len() as f64));
    }

    #[test]
    fn merged_histograms_equal_the_histogram_of_all_values(
        one in prop::collection::vec(value(), 0..100),
        other in prop::collection::vec(value(), 1..100),
    ) {
        let mut merged = histogram(&one);
        merged.merge(&histogram(&other));
        let all = histogram(&[one, other].concat());
        for p in [0.0, 0.25, 0.5, 0.9, 1.0] {
            prop_assert_eq!(merged.percentile(p), all.percentile(p));
        }
        prop_assert_eq!((merged.count(), merged.min(), merged.max()), (all.count(), all.min(), all.max()));
        prop_assert_eq!(merged.mean(), all.mean());
    }

    #[test]
    fn bars_contain_every_value_between_round_edges(
        values in prop::collection::vec(-50_000_000i64..50_000_000, 1..300),
        offset in -100_000_000i64..100_000_000,
        n in 2..15usize,
    ) {
        let bars = histogram(&values).bars(n, offset);
        prop_assert!(!bars.is_empty() && bars.len() <= n);
        prop_assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), values.len() as u64);
        prop_assert!(bars[0].lower <= values.iter().min().unwrap() + offset);
        for pair in bars.windows(2) {
            prop_assert_eq!(pair[0].upper, Some(pair[1].lower));
        }
        prop_assert_eq!(bars[bars.len() - 1].upper, None);
    }
}

#[test]
fn percentile_is_the_upper_edge_of_its_bucket() {
    // At 2^20 ns, buckets are 1,024 ns wide, so 1,048,576 … 1,049,599 share a bucket. For negative values, the upper edge is the edge
    // nearer to zero.
    let positive = histogram(&[1_048_600, 2_000_000_000]);
    assert_eq!(positive.percentile(0.5), Some(1_049_599));
    let negative = histogram(&[-1_049_000, 5]);
    assert_eq!(negative.percentile(0.5), Some(-1_048_576));
    // A percentile never exceeds the maximum.
    assert_eq!(histogram(&[-1_049_000]).percentile(0.5), Some(-1_049_000));
}

#[test]
fn values_at_both_ends_of_the_range_are_counted() {
    let histogram = histogram(&[i64::MIN, i64::MAX]);
    assert_eq!((histogram.min(), histogram.max(), histogram.count()), (Some(i64::MIN), Some(i64::MAX), 2));
    assert_eq!(histogram.percentile(1.0), Some(i64::MAX));
    assert_eq!(histogram.percentile(0.0), Some(i64::MIN));
    assert_eq!(histogram.mean(), Some(-0.5));
}

#[test]
fn percentile_rank_is_not_raised_by_floating_point_error() {
    // 0.07 × 100 is 7.000000000000001 in floating point, but the rank is 7.
    let values: Vec<i64> = (1..=100).collect();
    assert_eq!(histogram(&values).percentile(0.07), Some(7));
    assert_eq!(histogram(&values).percentile(0.99), Some(99));
}

#[test]
fn percentile_is_hidden_until_there_are_enough_values() {
    for (p, enough) in [(0.5, 2), (0.9, 10), (0.99, 100), (0.999, 1_000)] {
        let values: Vec<i64> = (0..enough).collect();
        assert!(histogram(&values).percentile_if_enough(p).is_some(), "{p} of {enough}");
        assert_eq!(histogram(&values[1..]).percentile_if_enough(p), None, "{p}: one value less than {enough}");
    }
}

#[test]
fn empty_or_cleared_histogram_has_no_figures() {
    let mut cleared = histogram(&[1, -5_000, 7_000_000]);
    cleared.clear();
    for empty in [&Histogram::default(), &cleared] {
        assert_eq!((empty.count(), empty.min(), empty.max(), empty.mean()), (0, None, None, None));
        assert_eq!((empty.percentile(0.5), empty.percentile_if_enough(0.5)), (None, None));
        assert_eq!(empty.bars(10, 0), []);
    }
    cleared.record(3);
    assert_eq!((cleared.count(), cleared.percentile(0.5), cleared.max()), (1, Some(3), Some(3)));
}

#[test]
fn recorded_histogram_with_an_impossible_sum_is_rejected() {
    let is_valid = |sum: i32| {
        let record = format!(r#"{{"sum":{sum},"min":1,"max":3,"buckets":[[1,1],[3,1]]}}"#);
        serde_json::from_str::<Histogram>(&record).is_ok()
    };
    assert_eq!([1, 2, 4, 6, 7].map(is_valid), [false, true, true, true, false]);
}

#[test]
fn bars_use_the_smallest_round_step_that_fits() {
    // The values are between 12 and 31 µs. The five bars are 5 µs wide and start at 10 µs.
    let bars = histogram(&[12_000, 14_000, 16_000, 31_000]).bars(5, 0);
    let found: Vec<_> = bars.iter().map(|bar| (bar.lower, bar.count)).collect();
    assert_eq!(found, [(10_000, 2), (15_000, 1), (20_000, 0), (25_000, 0), (30_000, 1)]);
    // A single outlier does not flatten the bars.
    let bars = histogram(&[vec![500_000; 999], vec![90_000_000]].concat()).bars(10, 0);
    assert_eq!(bars, [HistogramBar { lower: 500_000, upper: None, count: 1_000 }]);
}

#[test]
fn bars_over_the_whole_range_do_not_overflow() {
    for offset in [i64::MIN, 0, i64::MAX] {
        let bars = histogram(&[i64::MIN, 0, i64::MAX]).bars(10, offset);
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 3);
    }
}
