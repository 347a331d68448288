//! Compares the means of two time series whose neighboring values depend on each other.
//!
//! Losses come in bursts and delays drift. Therefore, the variance of a mean is larger than the variance of the values divided by their
//! number. It is estimated from the slowest components of the series, which are its first cosine coefficients. This is the equal-weighted
//! cosine estimate of the long-run variance (Lazarus, Lewis, Stock and Watson, 2018). The ratio of the mean's error to the estimated
//! standard deviation has Student's t distribution. The degrees of freedom are the number of components.

use std::f64::consts::{FRAC_PI_2, PI};

/// Minimum number of values in a series.
pub const MIN_VALUES: usize = 30;

/// Number of steps of the numerical integrations.
const INTEGRATION_STEPS: u32 = 400;

/// The value of one interval. The weight is the number of packets. An interval without data has weight 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeightedValue {
    /// The value, such as the median of the interval.
    pub value: f64,
    /// The weight, at least 0.
    pub weight: f64,
}

/// The weighted mean of a series, with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanEstimate {
    /// The weighted mean.
    pub mean: f64,
    /// Estimated variance of the mean.
    pub variance: f64,
    /// Number of components in the estimate.
    pub components: u32,
}

impl MeanEstimate {
    /// Estimates the mean of values in the order of time. `components` is the number of cosine coefficients. The slowest component takes
    /// two lengths of the series, and component number n takes 2/n lengths. Returns `None` if there are fewer than [`MIN_VALUES`] values, if no value has
    /// a weight, or if the numbers are too large.
    pub fn new(values: &[WeightedValue], components: u32) -> Option<Self> {
        let total: f64 = values.iter().map(|one| one.weight).sum();
        if values.len() < MIN_VALUES || total <= 0.0 {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|one| one.value * (one.weight / total)).sum::<f64>();
        let coefficient = |component: u32| {
            let frequency = PI * f64::from(component) / count;
            let term = |(index, one): (usize, &WeightedValue)| {
                (one.value - mean) * (one.weight / total) * (frequency * (index as f64 + 0.5)).cos()
            };
            values.iter().enumerate().map(term).sum::<f64>()
        };
        let power: f64 = (1..=components).map(|component| coefficient(component).powi(2)).sum();
        let variance = 2.0 * power / f64::from(components.max(1));
        (mean.is_finite() && variance.is_finite()).then_some(Self { mean, variance, components })
    }
}

/// The difference between the means of two series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanDifference {
    /// The mean of the second series minus the mean of the first one.
    pub change: f64,
    /// A change with a larger magnitude is significant.
    pub margin: f64,
}

impl MeanDifference {
    /// Compares two means. If both series have the same mean, the change exceeds the margin with the probability `significance`.
    pub fn new(old: MeanEstimate, new: MeanEstimate, significance: f64) -> Self {
        let variance = old.variance + new.variance;
        // Welch and Satterthwaite, also if both variances are 0.
        let largest = old.variance.max(new.variance);
        let [a, b] = [old, new].map(|one| if largest > 0.0 { one.variance / largest } else { 1.0 });
        let degrees_of_freedom =
            (a + b).powi(2) / (a * a / f64::from(old.components.max(2)) + b * b / f64::from(new.components.max(2)));
        let quantile = student_t_quantile(1.0 - significance / 2.0, degrees_of_freedom);
        Self { change: new.mean - old.mean, margin: quantile * variance.sqrt() }
    }

    /// Whether the change is larger than random variation explains.
    pub fn is_significant(&self) -> bool {
        self.change.abs() > self.margin
    }
}

/// The quantile of Student's t distribution for a probability from 0.5 to less than 1, with two or more degrees of freedom.
pub fn student_t_quantile(probability: f64, degrees_of_freedom: f64) -> f64 {
    // Substitute t = √ν / tan φ. The upper tail is then the integral of sin^(ν-1) from 0 to φ, divided by twice the integral to π/2.
    let integral = |end: f64| {
        let step = end / f64::from(INTEGRATION_STEPS);
        let term = |n: u32| {
            let weight = match n {
                0 | INTEGRATION_STEPS => 1.0,
                n if n % 2 == 1 => 4.0,
                _ => 2.0,
            };
            weight * (f64::from(n) * step).sin().powf(degrees_of_freedom - 1.0)
        };
        (0..=INTEGRATION_STEPS).map(term).sum::<f64>() * step / 3.0
    };
    let target = 2.0 * integral(FRAC_PI_2) * (1.0 - probability);
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if integral(middle) < target { low = middle } else { high = middle }
    }
    degrees_of_freedom.sqrt() / f64::midpoint(low, high).tan()
}
