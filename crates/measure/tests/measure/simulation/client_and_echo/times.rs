//! The times of `docs/measuring.md`, implemented independently: percentiles, jitter and pacing.

const SECOND: i64 = 1_000_000_000;

/// Count, minimum, mean, maximum and p50, p90, p99, p99.9 of whole nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) min: Option<i64>,
    pub(crate) mean: Option<f64>,
    pub(crate) max: Option<i64>,
    pub(crate) percentiles: [Option<i64>; 4],
}

/// The upper edge of the bucket that contains `value`.
fn upper_edge(value: i64) -> i64 {
    let magnitude = value.abs();
    if magnitude < 2_048 {
        return value;
    }
    let mut octave = 2_048;
    while octave * 2 <= magnitude {
        octave *= 2;
    }
    let width = octave / 1_024;
    let lower = magnitude / width * width;
    if value < 0 { -lower } else { lower + width - 1 }
}

/// Computes the statistics of `values`. The percentiles use the nearest rank. The program's
/// histogram stores `value - base`. Therefore, the percentiles of `value - base` are computed and rounded. Then, `base` is added again.
pub(crate) fn spread(values: &[i64], base: i64) -> Spread {
    let mut sorted: Vec<i64> = values.iter().map(|value| value - base).collect();
    sorted.sort_unstable();
    let n = sorted.len();
    let percentile = |per_mille: usize| {
        let shown = n * (1_000 - per_mille) >= 1_000;
        shown.then(|| base + upper_edge(sorted[(n * per_mille).div_ceil(1_000) - 1]).min(sorted[n - 1]))
    };
    Spread {
        count: n as u64,
        min: values.iter().min().copied(),
        mean: (n > 0).then(|| values.iter().map(|value| *value as f64).sum::<f64>() / n as f64),
        max: values.iter().max().copied(),
        percentiles: [500, 900, 990, 999].map(percentile),
    }
}

/// The jitter estimate of RFC 3550: number of updates, mean and maximum. `returns` contains the departure and arrival times in order of
/// arrival.
pub(crate) fn jitter(returns: &[(i64, i64)]) -> (u64, Option<f64>, Option<f64>) {
    let (mut j, mut estimates) = (0.0, Vec::new());
    for pair in returns.windows(2) {
        let [(s0, r0), (s1, r1)] = [pair[0], pair[1]];
        let d = ((r1 - r0) - (s1 - s0)).abs() as f64;
        j += (d - j) / 16.0;
        estimates.push(j);
    }
    let n = estimates.len();
    let mean = (n > 0).then(|| estimates.iter().sum::<f64>() / n as f64);
    (n as u64, mean, estimates.into_iter().reduce(f64::max))
}

/// The pacing errors of all packets. `edges` contains the errors of the first and the last five seconds, unless these seconds overlap.
pub(crate) struct Pacing {
    pub(crate) all: Vec<i64>,
    pub(crate) edges: Option<(Vec<i64>, Vec<i64>)>,
}

/// n times the interval, which is given as numerator and denominator in seconds. The result is rounded down to nanoseconds. For example,
/// 128/48,000 s is not a whole number of nanoseconds.
pub(crate) fn offset(n: usize, (numerator, denominator): (u64, u64)) -> i64 {
    (n as u128 * u128::from(numerator) * 1_000_000_000 / u128::from(denominator)) as i64
}

pub(crate) fn pacing(left: &[i64], refused: &[bool], first: i64, interval: (u64, u64)) -> Pacing {
    let first_sent = refused.iter().position(|refused| !refused).map_or(0, |n| offset(n, interval));
    let second = |n: usize| (offset(n, interval) - first_sent) / SECOND;
    let error = |n: usize| left[n] - first - offset(n, interval);
    let of = |wanted: &dyn Fn(i64) -> bool| {
        (0..left.len()).filter(|n| !refused[*n] && wanted(second(*n))).map(error).collect()
    };
    let last = refused.iter().rposition(|refused| !refused).map_or(0, second);
    let edges = (last >= 9).then(|| (of(&|second| second < 5), of(&|second| second > last - 5)));
    Pacing { all: of(&|_| true), edges }
}
