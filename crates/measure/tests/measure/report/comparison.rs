//! Comparison with an earlier report: statistics, the decision rule, hostile reports and the output formats.

use std::f64::consts::TAU;

use jamjam_core::stats::comparison::{WeightedValue, margin_of_error, weighted_mean};
use jamjam_core::stats::{FinalOutcome, StreamStats};
use jamjam_measure::client::{RunKind, RunResults, StreamKind};
use jamjam_measure::report::baseline::Baseline;
use jamjam_measure::report::comparison::ComparisonResult::{self, Better, Unchanged, Undecided, Worse};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::quantities::RunProtocol;
use jamjam_measure::report::{Report, json, junit, markdown, text};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::runs::{MS, probe};
use super::time_series::stream;
use test_support::rng::Rng;
use test_support::snapshot;

/// `seconds` of packets. Lost are `loss` per mille of the packets, the others return after 20 ms plus up to 2 ms, times `factor`.
pub(super) fn run(seconds: u64, seed: u64, loss: u64, factor: f64) -> RunResults {
    let mut rng = Rng::new(seed);
    let mut outcome = || {
        if rng.below(1_000) < loss {
            return FinalOutcome::Lost;
        }
        let rtt = (20 * MS + rng.below(2_000_000) as i64) as f64 * factor;
        FinalOutcome::Returned { rtt: rtt as i64 }
    };
    let outcomes: Vec<FinalOutcome> = (0..seconds * 50).map(|_| outcome()).collect();
    let stats = stream(StreamStats::new(), seconds * 50, |n| outcomes[n as usize]);
    RunResults { started_unix_ms: 1_795_000_000_000, ..probe(stats) }
}

fn document(run: &RunResults) -> String {
    json::document(&Report::new(run, &Limits::default())).expect("a document")
}

pub(super) fn baseline(run: &RunResults) -> Baseline {
    Baseline::parse(&document(run)).expect("a report")
}

fn compared(old: &RunResults, new: &RunResults) -> Report {
    Report::new(new, &Limits::default()).compared_with(new, &baseline(old))
}

fn results(report: &Report) -> Vec<(&'static str, ComparisonResult)> {
    let comparison = report.comparison.as_ref().expect("a comparison");
    comparison.figures.iter().map(|figure| (figure.figure, figure.result)).collect()
}

#[test]
fn excluded_packets_do_not_count_as_settled() {
    // Of ten packets, five are excluded. Of the other five, one was lost.
    let outcome = |n| match n % 10 {
        0 => FinalOutcome::Lost,
        1..6 => FinalOutcome::Excluded,
        _ => FinalOutcome::Returned { rtt: 20 * MS },
    };
    let run = probe(stream(StreamStats::new(), 1_000, outcome));
    let comparison = compared(&run, &run).comparison.expect("a comparison");
    let [old, new] = [comparison.figures[0].old, comparison.figures[0].new].map(|loss| loss.expect("a loss"));
    assert!((old - 0.2).abs() < 1e-9 && (new - 0.2).abs() < 1e-9, "{old}, {new}");
}

fn not_comparable(old: &RunResults, new: &RunResults) -> String {
    let report = compared(old, new);
    assert!(!report.verdict.passed);
    report.comparison.and_then(|comparison| comparison.not_comparable).expect("a reason")
}

#[test]
fn weighted_mean_and_margin_equal_reference_values() {
    let values: Vec<WeightedValue> =
        (0..40).map(|n| WeightedValue { value: f64::from(n * n % 17), weight: f64::from(1 + n % 3) }).collect();
    let mean = weighted_mean(&values).expect("a mean");
    assert!((mean - 7.556_962_025_316_456).abs() < 1e-12, "{mean}");
    for (count, expected) in REFERENCE_MARGINS {
        let margin = margin_of_error(&values, &values[..count]).expect("a margin");
        assert!((margin / expected - 1.0).abs() < 1e-3, "{count}: {margin}");
    }
    assert_eq!(margin_of_error(&values, &values[..4]), None);
    assert_eq!(weighted_mean(&[WeightedValue::default(); 40]), None);
    assert_eq!(margin_of_error(&values, &[WeightedValue::default(); 40]), None);
}

/// The output of this Python program:
///
/// ```python
/// import numpy as np; from scipy.stats import t
/// def variance(k, b):
///     n = np.arange(k); x = n*n % 17; w = 1 + n % 3; e = (x - (x*w).sum() / w.sum())*w / w.mean()
///     return np.mean([2/k*(e*np.cos(np.pi*j*(n + .5)/k)).sum()**2 for j in range(1, b + 1)])/k
/// print([(k, t.ppf(.999, b)*np.sqrt(variance(40, b) + variance(k, b))) for k, b in ((40, 10), (30, 10), (29, 4), (5, 4))])
/// ```
const REFERENCE_MARGINS: [(usize, f64); 4] = [(40, 6.654_264), (30, 7.213_260), (29, 11.717_441), (5, 22.015_133)];

#[test]
fn identical_lines_are_unchanged_and_pass() {
    let report = compared(&run(300, 1, 10, 1.0), &run(300, 2, 10, 1.0));
    let names = ["loss_ratio", "rtt_p50_us", "rtt_p99_us", "jitter_mean_us"];
    assert_eq!(results(&report), names.map(|name| (name, Unchanged)));
    assert_eq!((report.verdict.word(), report.exit_code()), ("PASSED", 0));
    assert!(text::summary(&report, false).ends_with(", not worse than the baseline\n"));
}

#[test]
fn slower_or_lossier_line_fails_and_faster_line_passes() {
    let (slow, fast, lossy) = (run(300, 1, 10, 1.1), run(300, 2, 10, 1.0), run(300, 2, 30, 1.0));
    for (old, new, figure, begin, end) in [
        (&fast, &slow, 1, "--baseline: mean of p50 worse by 2.", " ms (10 %)"),
        (&fast, &lossy, 0, "--baseline: loss worse by ", " percentage points"),
    ] {
        let worse = compared(old, new);
        assert_eq!((results(&worse)[figure].1, worse.exit_code()), (Worse, 1));
        let reason = &worse.verdict.reasons[0];
        assert!(reason.starts_with(begin) && reason.ends_with(end), "{reason}");
    }
    let better = compared(&slow, &fast);
    assert_eq!((results(&better)[1], better.exit_code()), (("rtt_p50_us", Better), 0));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum LineKind {
    /// Independent losses and exponentially distributed queueing delays.
    Steady,
    /// Losses in bursts of 6 packets on average (Gilbert and Elliott), and stalls of 20 to 120 ms, one every 20 s on average.
    Bursty,
    /// The base delay and the loss drift: a random walk that returns to its mean with a time constant of 120 s, plus a sinusoid.
    Drifting,
}

/// A run with this mean loss, and with a base delay of 20 ms times `factor`.
fn line(kind: LineKind, seconds: u64, seed: u64, factor: f64, mean_loss: f64) -> RunResults {
    const MEAN_BURST: f64 = 6.0;
    let mut rng = Rng::new(seed);
    let mut uniform = || ((rng.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (phase, mut walks) = (TAU * uniform(), [0.0; 2]);
    let (mut in_burst, mut stall_ms) = (false, 0.0);
    let outcome = |n: u64| {
        let kept = (-1.0_f64 / 120.0).exp();
        for walk in walks.iter_mut().filter(|_| n.is_multiple_of(50)) {
            let normal = (-2.0 * uniform().ln()).sqrt() * (TAU * uniform()).cos();
            *walk = kept * *walk + (1.0 - kept * kept).sqrt() * normal;
        }
        let (mut base_ms, mut loss) = (20.0, mean_loss);
        if kind == LineKind::Drifting {
            base_ms += 0.4 * walks[0] + 0.3 * (n as f64 / 30_000.0 * TAU + phase).sin();
            loss *= (0.2 * walks[1]).exp();
        }
        if kind == LineKind::Bursty {
            let chance = if in_burst { 1.0 - 1.0 / MEAN_BURST } else { loss / MEAN_BURST / (1.0 - loss) };
            in_burst = uniform() < chance;
            let starts = uniform() < 0.001;
            stall_ms = if starts { 20.0 + 100.0 * uniform() } else { stall_ms * 0.9 };
        }
        if in_burst || kind != LineKind::Bursty && uniform() < loss {
            return FinalOutcome::Lost;
        }
        let rtt_ms = base_ms * factor - 0.5 * uniform().ln() + stall_ms;
        FinalOutcome::Returned { rtt: (rtt_ms * MS as f64) as i64 }
    };
    let outcomes: Vec<FinalOutcome> = (0..seconds * 50).map(outcome).collect();
    probe(stream(StreamStats::new(), seconds * 50, |n| outcomes[n as usize]))
}

/// `PAIRS=1000 cargo test --release -p jamjam-measure few_false_alarms -- --nocapture` measures more pairs, and runs of 30 minutes.
#[test]
fn steady_bursty_and_drifting_lines_have_few_false_alarms_and_detect_changes() {
    let study = std::env::var("PAIRS").ok().map(|pairs| pairs.parse().expect("a number"));
    let pairs = study.unwrap_or(40);
    let durations: &[u64] = if study.is_some() { &[10, 120, 1_800] } else { &[10, 120] };
    for kind in [LineKind::Steady, LineKind::Bursty, LineKind::Drifting] {
        for &seconds in durations {
            // False alarms, doubled delay, delay + 10 %, loss + 1 percentage point. Short runs need not detect the last two.
            let mut counts = [0; 4];
            for pair in 0..pairs {
                let run = |seed, factor, loss| line(kind, seconds, 5 * pair + seed, factor, loss);
                let old = run(0, 1.0, 0.005);
                let results = |new: &RunResults| results(&compared(&old, new));
                let is_alarm = |(_, result): &(_, _)| matches!(result, Worse | Better);
                counts[0] += u64::from(results(&run(1, 1.0, 0.005)).iter().any(is_alarm));
                counts[1] += u64::from(results(&run(2, 2.0, 0.005))[1] == ("rtt_p50_us", Worse));
                if study.is_some() {
                    counts[2] += u64::from(results(&run(3, 1.1, 0.005))[1] == ("rtt_p50_us", Worse));
                    counts[3] += u64::from(results(&run(4, 1.0, 0.015))[0] == ("loss_ratio", Worse));
                }
            }
            println!("{kind:?}, {seconds} s: {counts:?} of {pairs} pairs");
            let enough = |count: u64| count * 100 >= pairs * 95;
            let is_detected = enough(counts[1]) && (seconds < 1_800 || enough(counts[2]) && enough(counts[3]));
            assert!(counts[0] <= (pairs / 100).max(1) && is_detected, "{kind:?}, {seconds} s: {counts:?}");
        }
    }
}

/// A run of 200 s. `rtt` returns the round trip of a packet, in nanoseconds.
fn timed(rtt: impl Fn(u64) -> i64) -> RunResults {
    probe(stream(StreamStats::new(), 50 * 200, |n| FinalOutcome::Returned { rtt: rtt(n) }))
}

#[test]
fn only_significant_and_relevant_changes_are_better_or_worse() {
    let (constant, relevant) = (timed(|_| 20 * MS), timed(|_| 22 * MS));
    let irrelevant = compared(&constant, &timed(|_| 20 * MS + 300_000));
    assert!(results(&irrelevant).iter().all(|(_, result)| *result == Unchanged), "{:?}", results(&irrelevant));
    assert_eq!(results(&compared(&constant, &relevant))[1], ("rtt_p50_us", Worse));
    // The delay doubles in the middle of the run.
    let unsteady = |rtt: i64| timed(move |n| if n < 50 * 100 { rtt } else { 2 * rtt });
    let report = compared(&unsteady(20 * MS), &unsteady(24 * MS));
    assert_eq!((results(&report)[1], report.exit_code()), (("rtt_p50_us", Undecided), 0));
}

#[test]
fn run_with_shorter_intervals_adopts_the_longer_ones() {
    let (long, short) = (run(1_500, 1, 10, 1.0), run(300, 2, 10, 1.0));
    let report = compared(&long, &short);
    let comparison = report.comparison.as_ref().expect("a comparison");
    assert_eq!(comparison.interval_s, 4);
    assert!(results(&report).iter().all(|(_, result)| *result == Unchanged), "{:?}", results(&report));
    // Percentiles of an earlier report cannot be merged.
    let report = compared(&short, &long);
    let results: Vec<ComparisonResult> = results(&report).iter().map(|(_, result)| *result).collect();
    assert_eq!(results, [Unchanged, Undecided, Undecided, Unchanged]);
    assert!(text::summary(&report, false).contains("the intervals have different lengths: 1 s and 4 s"));
}

#[test]
fn runs_that_measure_different_things_are_not_comparable() {
    let (old, new) = (run(200, 1, 10, 1.0), run(200, 2, 10, 1.0));
    let stream_kind =
        RunResults { evaluated_stream: StreamKind::Keepalive, keepalive: new.ping.clone(), ..new.clone() };
    let difference = "the stream of the earlier run is LATENCY_PING, of this run KEEPALIVE";
    assert_eq!(not_comparable(&old, &stream_kind), difference);
    let command = RunResults { run_kind: RunKind::Send, ..new.clone() };
    assert_eq!(not_comparable(&old, &command), "the command of the earlier run is probe, of this run send");
    // The plan of a run is checked before the run.
    let planned = |stream| baseline(&old).difference((RunKind::Probe, stream, RunProtocol::Udp));
    assert_eq!(planned(StreamKind::Ping), None);
    let difference = "the stream of the earlier run is LATENCY_PING, of this run AUDIO";
    assert_eq!(planned(StreamKind::Audio).as_deref(), Some(difference));
    let sparse = timed(|_| 20 * MS);
    let mut halved: Value = serde_json::from_str(&document(&sparse)).expect("a document");
    for interval in halved["time_series"]["intervals"].as_array_mut().expect("a list") {
        (interval["sent"], interval["returned"]) = (25.into(), 25.into());
    }
    let halved = Baseline::parse(&halved.to_string()).expect("a report");
    let report = Report::new(&sparse, &Limits::default()).compared_with(&sparse, &halved);
    let difference = "the packet rate of the earlier run is 25.0 packets/s, of this run 50.0 packets/s";
    assert_eq!(report.verdict.reasons, [format!("--baseline: not comparable: {difference}")]);
}

#[test]
fn run_without_packets_is_not_compared_and_a_run_of_seconds_is_undecided() {
    let old = run(120, 1, 10, 1.0);
    assert_eq!(not_comparable(&old, &run(0, 2, 0, 1.0)), "this run sent no packets");
    let report = compared(&old, &run(4, 2, 10, 1.0));
    assert_eq!(results(&report).iter().filter(|(_, result)| *result != Undecided).count(), 0, "{:?}", report.verdict);
    assert!(text::summary(&report, false).contains(", undecided against the baseline"));
}

#[test]
fn short_runs_are_compared_and_show_large_changes_only() {
    let old = run(10, 1, 10, 1.0);
    let report = compared(&old, &run(10, 2, 10, 2.0));
    assert_eq!((results(&report)[1], report.exit_code()), (("rtt_p50_us", Worse), 1));
    let report = compared(&old, &run(10, 2, 10, 1.1));
    assert_eq!((results(&report)[1], report.exit_code()), (("rtt_p50_us", Undecided), 0));
    assert!(text::summary(&report, false).contains("\nmean of p50: too short to decide; use longer runs\n"));
    // A run of a second has no margin of error, but its figures are printed.
    let report = compared(&old, &run(1, 2, 10, 2.0));
    let figures = report.comparison.expect("a comparison").figures;
    assert!(figures.iter().all(|figure| figure.result == Undecided && figure.new.is_some()), "{figures:?}");
}

#[test]
fn figures_are_in_the_text_junit_and_markdown_reports() {
    let report = compared(&run(300, 1, 10, 1.0), &run(300, 2, 30, 1.2));
    let (text, markdown) = (text::summary(&report, false), markdown::summary(&report, None));
    let (markdown, _) = markdown.split_once("<details>").expect("a collapsed section");
    let junit = super::formats::junit_document(&report, None);
    let all = format!("{text}\n=== Markdown\n{markdown}=== JUnit\n{junit}");
    snapshot::assert_matches("measure/report/comparison", &all.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn invalid_report_is_rejected_with_a_reason() {
    let valid: Value = serde_json::from_str(&document(&run(130, 1, 10, 1.0))).expect("a document");
    let parse = |report: &Value| Baseline::parse(&report.to_string()).map(|_| ());
    assert!(parse(&valid).is_ok());
    let cases = [
        ("/type", json!("packet"), "the type is not `report`"),
        ("/schema_version", json!(2), "unsupported schema_version 2"),
        ("/replies_expected", json!(false), "expected no replies"),
        ("/time_series", Value::Null, "there is no time series"),
        ("/time_series/interval_s", json!(3), "interval_s 3 is not a power of two"),
        ("/time_series/interval_s", json!(0), "interval_s 0 is not a power of two"),
        ("/time_series/intervals", json!([]), "there is no time series"),
        ("/time_series/intervals/2/sent", json!(-1), "invalid value"),
        ("/time_series/intervals/2/lost", json!(u64::MAX), "more outcomes than sent packets"),
        ("/time_series/intervals/2/damaged", json!(50), "more outcomes than sent packets"),
        ("/time_series/intervals/2/rtt_p50_us", json!(1e300), "a time of interval 2 is out of range"),
        ("/time_series/intervals/2/rtt_p50_us", json!("1"), "invalid type"),
        ("/command", json!("receive"), "unknown variant"),
    ];
    for (pointer, value, error) in cases {
        let mut report = valid.clone();
        *report.pointer_mut(pointer).expect("a field") = value;
        let message = parse(&report).expect_err(pointer);
        assert!(message.contains(error), "{pointer}: {message}");
    }
    let text = valid.to_string();
    for (text, error) in [
        (String::new(), "EOF"),
        (text.replace("\"rtt_p50_us\":", "\"rtt_p50_us\":1e999,\"x\":"), "number out of range"),
        (text.replacen("\"command\":", "\"command\":\"send\",\"command\":", 1), "duplicate field"),
        ("[".repeat(1_000_000), "invalid type"),
        (format!("{{\"x\":{}", "[".repeat(1_000_000)), "EOF while parsing a list"),
    ] {
        let message = Baseline::parse(&text).map(|_| ()).expect_err(error);
        assert!(message.contains(error), "{error}: {message}");
    }
}

#[test]
fn target_of_the_earlier_report_is_printed_without_control_characters() {
    let old = RunResults { target: format!("\u{1b}[2J\n{}", "x".repeat(10_000)), ..run(130, 1, 10, 1.0) };
    let text = text::summary(&compared(&old, &run(130, 2, 10, 1.0)), false);
    let line = text.lines().find(|line| line.starts_with("compared with")).expect("a heading");
    assert!(line.len() < 500 && !line.contains('\u{1b}') && line.contains("xxx, version"), "{line}");
}

#[test]
fn last_line_of_json_lines_is_a_baseline() {
    let report = Report::new(&run(130, 1, 10, 1.0), &Limits::default());
    let line = json::line(&json::JsonLine::Report(&report)).expect("a line");
    let lines = format!("{{\"type\":\"packet\",\"stream\":\"ping\"}}\n{line}");
    assert_eq!(Baseline::parse(&lines), Baseline::parse(&line));
    assert!(Baseline::parse(&line).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_accepted_numbers_yield_finite_figures(
        interval_exponent in 0u32..64,
        numbers in prop::collection::vec((any::<u64>(), any::<f64>(), -1e13f64..1e13), 30..150),
    ) {
        let mut report: Value = serde_json::from_str(&document(&run(130, 1, 10, 1.0))).expect("a document");
        let template = report["time_series"]["intervals"][0].clone();
        let interval_s = 1u64 << interval_exponent;
        let interval = |(index, (count, any_time, time)): (u64, &(u64, f64, f64))| {
            let mut interval = template.clone();
            let sent = *count;
            interval["start_s"] = index.wrapping_mul(interval_s).into();
            (interval["sent"], interval["returned"], interval["lost"]) = (sent.into(), (sent / 2).into(), (sent / 3).into());
            let time = if index % 50 == 49 { *any_time } else { *time };
            (interval["rtt_p50_us"], interval["rtt_p99_us"], interval["rtt_max_us"]) = (time.into(), time.into(), Value::Null);
            interval["jitter_mean_us"] = time.abs().into();
            interval
        };
        report["time_series"]["interval_s"] = interval_s.into();
        report["time_series"]["intervals"] = (0u64..).zip(&numbers).map(interval).collect();
        if let Ok(baseline) = Baseline::parse(&report.to_string()) {
            check_all_formats(&run(130, 2, 10, 1.0), &baseline);
        }
    }
}

/// Prints a comparison in all formats. All numbers must be finite.
fn check_all_formats(new: &RunResults, baseline: &Baseline) {
    let report = Report::new(new, &Limits::default()).compared_with(new, baseline);
    for figure in &report.comparison.as_ref().expect("a comparison").figures {
        let numbers =
            [figure.old, figure.new, figure.change, figure.relative_change, figure.smallest_detectable_change];
        assert!(numbers.into_iter().flatten().all(f64::is_finite), "{figure:?}");
    }
    let _ = (text::summary(&report, true), markdown::summary(&report, None));
    let _ = (junit::document(&report, None).expect("XML"), json::document(&report).expect("JSON"));
}
