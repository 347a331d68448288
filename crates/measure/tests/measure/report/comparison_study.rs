//! Rates of false alarms and of detections of `--baseline`, measured with simulated packets on steady, bursty and drifting lines.
//!
//! The full study prints the rates in `docs/measuring.md`. It needs about a minute:
//! `cargo test --locked --test library comparison_study -- --ignored --nocapture`

use jamjam_measure::report::comparison::{ComparisonResult, compare};
use jamjam_measure::report::time_series::{IntervalFigures, TimeSeries};

use test_support::rng::Rng;

const PACKETS_PER_SECOND: usize = 50;
/// The duration of a long run. It has intervals of 4 s. Shorter runs have intervals of 1 s.
const LONG: usize = 1_800;
/// Median round trip without drift and bursts, in microseconds.
const BASE_US: f64 = 20_000.0;

#[derive(Clone, Copy, Debug, PartialEq)]
enum LineKind {
    /// Independent losses and exponentially distributed queueing delays.
    Steady,
    /// Losses in bursts of 6 packets on average (Gilbert and Elliott), and stalls of 20 to 120 ms.
    Bursty,
    /// The base delay and the loss drift: a random walk that returns to its mean with a time constant of 120 s, plus a sinusoid.
    Drifting,
}

/// The parameters of a line.
#[derive(Clone, Copy)]
struct Line {
    kind: LineKind,
    /// Factor of all base delays.
    delay: f64,
    /// Mean loss ratio.
    loss: f64,
}

fn uniform(rng: &mut Rng) -> f64 {
    ((rng.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * uniform(rng).ln()
}

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * uniform(rng).ln()).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// A random walk that returns to 0, with standard deviation 1. One step is one second.
struct Walk(f64);

impl Walk {
    const TIME_CONSTANT_S: f64 = 120.0;

    fn step(&mut self, rng: &mut Rng) {
        let kept = (-1.0 / Self::TIME_CONSTANT_S).exp();
        self.0 = kept * self.0 + (1.0 - kept * kept).sqrt() * normal(rng);
    }
}

/// Sends packets over a line for `run_seconds`.
fn simulate(line: Line, run_seconds: usize, seed: u64) -> TimeSeries {
    const MEAN_BURST: f64 = 6.0;
    let interval_seconds = if run_seconds == LONG { 4 } else { 1 };
    let mut rng = Rng::new(seed.wrapping_mul(0x9E37_79B9).wrapping_add(seed));
    let (mut delay_walk, mut loss_walk) = (Walk(normal(&mut rng)), Walk(normal(&mut rng)));
    let phase = uniform(&mut rng) * std::f64::consts::TAU;
    let (mut in_burst, mut stall_us, mut jitter_us) = (false, 0.0, 0.0);
    let mut previous: Option<f64> = None;
    let mut intervals = Vec::new();
    let mut round_trips = Vec::with_capacity(interval_seconds * PACKETS_PER_SECOND);
    for interval in 0..run_seconds / interval_seconds {
        round_trips.clear();
        let (mut lost, mut jitter_sum) = (0, 0.0);
        for second in 0..interval_seconds {
            let at_s = (interval * interval_seconds + second) as f64;
            delay_walk.step(&mut rng);
            loss_walk.step(&mut rng);
            let sinusoid = (at_s / 600.0 * std::f64::consts::TAU + phase).sin();
            let (base_us, loss) = match line.kind {
                // The mean of a log-normal factor is exp(σ²/2).
                LineKind::Drifting => {
                    (BASE_US + 400.0 * delay_walk.0 + 300.0 * sinusoid, line.loss * (0.2 * loss_walk.0 - 0.02).exp())
                }
                _ => (BASE_US, line.loss),
            };
            let enter_burst = loss / MEAN_BURST / (1.0 - loss);
            for _ in 0..PACKETS_PER_SECOND {
                let is_lost = if line.kind == LineKind::Bursty {
                    let chance = if in_burst { 1.0 - 1.0 / MEAN_BURST } else { enter_burst };
                    in_burst = uniform(&mut rng) < chance;
                    // A stall every 20 s on average, which ends within a second.
                    if uniform(&mut rng) < 1.0 / (20.0 * PACKETS_PER_SECOND as f64) {
                        stall_us = 20_000.0 + 100_000.0 * uniform(&mut rng);
                    }
                    stall_us *= 0.9;
                    in_burst
                } else {
                    uniform(&mut rng) < loss
                };
                if is_lost {
                    lost += 1;
                    continue;
                }
                let rtt = base_us * line.delay + exponential(&mut rng, 500.0) + stall_us;
                if let Some(previous) = previous {
                    jitter_us += ((rtt - previous).abs() - jitter_us) / 16.0;
                }
                previous = Some(rtt);
                jitter_sum += jitter_us;
                round_trips.push(rtt as u64);
            }
        }
        let (sent, returned) = ((interval_seconds * PACKETS_PER_SECOND) as u64, round_trips.len());
        let mut percentile = |p: f64, minimum: usize| {
            let rank = ((returned as f64 * p).ceil() as usize).max(1) - 1;
            (returned >= minimum).then(|| round_up(*round_trips.select_nth_unstable(rank).1))
        };
        let (p50, p99, max) = (percentile(0.5, 2), percentile(0.99, 100), percentile(1.0, 1));
        intervals.push(IntervalFigures {
            start_s: (interval * interval_seconds) as u64,
            sent,
            returned: returned as u64,
            lost,
            lost_upstream: None,
            lost_downstream: None,
            damaged: 0,
            in_flight: 0,
            not_sent: 0,
            dropped_by_hosts: 0,
            burst_max: 0,
            rtt_min_us: None,
            rtt_p50_us: p50,
            rtt_p99_us: p99,
            rtt_max_us: max,
            jitter_mean_us: (returned > 0).then(|| jitter_sum / returned as f64),
        });
    }
    TimeSeries { interval_s: interval_seconds as u64, intervals, worst_ten_seconds: None }
}

/// Rounds up to the nine leading bits of the nanoseconds, like the histograms of the time series.
fn round_up(us: u64) -> f64 {
    let ns = us * 1_000;
    let shift = ns.checked_ilog2().unwrap_or(0).saturating_sub(8);
    (((ns >> shift) + 1) << shift) as f64 / 1e3
}

#[derive(Debug, Default)]
struct Rates {
    pairs: u64,
    false_alarms: u64,
    slower_detected: u64,
    lossier_detected: u64,
    doubled_detected: u64,
}

impl Rates {
    fn percent(&self, count: u64) -> f64 {
        count as f64 * 100.0 / self.pairs as f64
    }

    /// Compares `pairs` pairs of runs on lines of one kind. The second line of a pair is identical, or has a higher p50 or a higher loss.
    fn measure(kind: LineKind, run_seconds: usize, pairs: u64) -> Self {
        let line = Line { kind, delay: 1.0, loss: 0.005 };
        let median = (BASE_US + 500.0 * 2f64.ln()) / BASE_US;
        let slower = Line { delay: 1.0 + 0.1 * median, ..line };
        let lossier = Line { loss: line.loss + 0.01, ..line };
        let doubled = Line { delay: 1.0 + median, ..line };
        let mut rates = Self { pairs, ..Self::default() };
        for pair in 0..pairs {
            let run = |line: Line, seed: u64| simulate(line, run_seconds, 5 * pair + seed);
            let old = run(line, 0);
            let results = |new: TimeSeries| {
                let figures = compare(&old, &new).into_iter();
                figures.map(|figure| (figure.figure, figure.result)).collect::<Vec<_>>()
            };
            let is_alarm = |(_, result): &(_, _)| matches!(result, ComparisonResult::Worse | ComparisonResult::Better);
            rates.false_alarms += u64::from(results(run(line, 1)).iter().any(is_alarm));
            let has = |new, figure| u64::from(results(new).contains(&(figure, ComparisonResult::Worse)));
            rates.slower_detected += has(run(slower, 2), "rtt_p50_us");
            rates.lossier_detected += has(run(lossier, 3), "loss_ratio");
            rates.doubled_detected += has(run(doubled, 4), "rtt_p50_us");
        }
        println!(
            "{kind:?}, {run_seconds} s: {pairs} pairs, false alarms {:.1} %, detected: p50 +10 % {:.1} %, loss +1 point {:.1} %, p50 \
             +100 % {:.1} %",
            rates.percent(rates.false_alarms),
            rates.percent(rates.slower_detected),
            rates.percent(rates.lossier_detected),
            rates.percent(rates.doubled_detected)
        );
        rates
    }
}

/// Checks the rates of runs of 10 s, 2 minutes and 30 minutes.
fn check(kind: LineKind, pairs: u64, max_false_alarms: u64) {
    for run_seconds in [10, 120, LONG] {
        let rates = Rates::measure(kind, run_seconds, pairs);
        assert!(rates.false_alarms <= max_false_alarms, "{run_seconds} s: {rates:?}");
        assert!(rates.percent(rates.doubled_detected) >= 95.0, "{run_seconds} s: {rates:?}");
        if run_seconds == LONG {
            assert!(rates.percent(rates.slower_detected) >= 95.0, "{rates:?}");
            assert!(rates.percent(rates.lossier_detected) >= 95.0, "{rates:?}");
        }
    }
}

/// Pairs in the normal test run.
const FEW_PAIRS: u64 = 40;
/// Pairs of the full study.
const ALL_PAIRS: u64 = 1_000;

#[test]
fn steady_bursty_and_drifting_lines_have_few_false_alarms_and_detect_changes() {
    for kind in [LineKind::Steady, LineKind::Bursty, LineKind::Drifting] {
        check(kind, FEW_PAIRS, 1);
    }
}

#[test]
#[ignore = "needs minutes"]
fn lines_have_1_percent_false_alarms_in_1000_pairs() {
    for kind in [LineKind::Steady, LineKind::Bursty, LineKind::Drifting] {
        check(kind, ALL_PAIRS, 10);
    }
}
