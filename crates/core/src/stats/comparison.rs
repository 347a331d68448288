//! Compares the means of two time series whose neighboring values depend on each other.
//!
//! Losses come in bursts and delays drift, so that the variance of a mean is larger than the variance of the values divided by their number.
//! It is estimated from the slowest components of the series, its first cosine coefficients: the equal-weighted cosine estimate of the
//! long-run variance (Lazarus, Lewis, Stock and Watson, 2018). The ratio of the mean's error to the estimated standard deviation has Student's
//! t distribution, with as many degrees of freedom as components.

use std::f64::consts::PI;

/// The value of one interval. The weight is the number of packets. An interval without data has weight 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeightedValue {
    /// The value, such as the median of the interval.
    pub value: f64,
    /// The weight, at least 0.
    pub weight: f64,
}

/// The weighted mean. `None` if no value has a weight, or if the numbers are too large.
pub fn weighted_mean(values: &[WeightedValue]) -> Option<f64> {
    let total: f64 = values.iter().map(|one| one.weight).sum();
    let mean: f64 = values.iter().map(|one| one.value * (one.weight / total)).sum();
    (total > 0.0 && mean.is_finite()).then_some(mean)
}

/// The margin of error of the difference between the means of two series in the order of time, which the difference exceeds with a probability
/// of 0.2 % if both have the same expected mean. `None` if a series has fewer than five values or no weight, or if the numbers are too large.
pub fn margin_of_error(old: &[WeightedValue], new: &[WeightedValue]) -> Option<f64> {
    // The quantile of Student's t distribution for a probability of 99.9 %.
    let (components, quantile) = match old.len().min(new.len()) {
        0..5 => return None,
        5..30 => (4, 7.173),
        _ => (10, 4.144),
    };
    let margin = quantile * (variance_of_mean(old, components)? + variance_of_mean(new, components)?).sqrt();
    margin.is_finite().then_some(margin)
}

/// The estimated variance of the weighted mean. The slowest component takes two lengths of the series, and component number n takes 2/n
/// lengths.
fn variance_of_mean(values: &[WeightedValue], components: u32) -> Option<f64> {
    let total: f64 = values.iter().map(|one| one.weight).sum();
    let mean = weighted_mean(values)?;
    let coefficient = |component: u32| {
        let frequency = PI * f64::from(component) / values.len() as f64;
        let term = |(index, one): (usize, &WeightedValue)| {
            (one.value - mean) * (one.weight / total) * (frequency * (index as f64 + 0.5)).cos()
        };
        values.iter().enumerate().map(term).sum::<f64>()
    };
    let power: f64 = (1..=components).map(|component| coefficient(component).powi(2)).sum();
    Some(2.0 * power / f64::from(components))
}
