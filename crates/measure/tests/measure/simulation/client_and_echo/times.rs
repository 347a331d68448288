//! The due times of `docs/measuring.md`, implemented independently.

/// n times the interval, which is given as numerator and denominator in seconds. The result is rounded down to nanoseconds. For example,
/// 128/48,000 s is not a whole number of nanoseconds.
pub(crate) fn offset(n: usize, (numerator, denominator): (u64, u64)) -> i64 {
    (n as u128 * u128::from(numerator) * 1_000_000_000 / u128::from(denominator)) as i64
}

/// The pacing errors of the packets that the system did not refuse. The first packet is due at `first`.
pub(crate) fn pacing(left: &[i64], refused: &[bool], first: i64, interval: (u64, u64)) -> Vec<i64> {
    (0..left.len()).filter(|n| !refused[*n]).map(|n| left[n] - first - offset(n, interval)).collect()
}
