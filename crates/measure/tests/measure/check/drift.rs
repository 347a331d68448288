//! The interval of the drift is right even if the delays of neighboring packets are similar.

use jamjam_core::impairment::splitmix64;
use jamjam_core::stats::DriftEstimator;
use jamjam_core::time::Time;
use jamjam_measure::check::{CheckedSource, Severity};

use test_support::rng::simulations;

use super::wrong_client::{Sent, check, client};

const PACKET_S: f64 = 128.0 / 48_000.0;

/// Random numbers of one simulation.
struct Random {
    seed: u64,
    index: u64,
}

impl Random {
    /// Normally distributed by the sum of four uniform numbers, which is close enough.
    fn normal(&mut self) -> f64 {
        let bits = splitmix64(self.seed, self.index);
        self.index += 1;
        let sum: f64 = (0..4).map(|part| ((bits >> (16 * part)) & 0xFFFF) as f64 / 65_536.0).sum();
        (sum - 1.999_97) * 3.0_f64.sqrt()
    }
}

/// The interval after 60 s of packets whose delays have a correlation that decays by 1/e in 1 s.
fn interval(seed: u64, ppm: f64, delay_ns: impl Fn(f64) -> f64) -> [f64; 2] {
    let mut random = Random { seed: splitmix64(7, seed), index: 0 };
    let decay = (-PACKET_S).exp();
    let mut state = random.normal();
    let mut drift = DriftEstimator::new(48_000);
    for n in 0..60 * 375 + 2 {
        let sent_ns = f64::from(n) * PACKET_S * 1e9 / (1.0 + ppm / 1e6);
        drift.on_callback(128, Time::from_nanos((1e9 + sent_ns + delay_ns(state)) as u64));
        state = decay * state + (1.0 - decay * decay).sqrt() * random.normal();
    }
    drift.interval_ppm().unwrap()
}

/// How many in a thousand intervals contain the drift, and their half widths in ascending order.
fn simulate(delay_ns: impl Fn(f64) -> f64) -> (usize, Vec<f64>) {
    let mut contained = 0;
    let mut widths = Vec::new();
    for seed in 0..simulations() {
        let ppm = if seed % 2 == 0 { 50.0 } else { -50.0 };
        let [low, high] = interval(seed, ppm, &delay_ns);
        contained += usize::from((low..=high).contains(&ppm));
        widths.push((high - low) / 2.0);
    }
    widths.sort_by(f64::total_cmp);
    (contained * 1_000 / widths.len(), widths)
}

#[test]
fn drift_interval_holds_under_correlated_jitter_of_2_ms() {
    // As with `--jitter`, delays are between 0 and 2 ms and nearly uniform: the logistic function is close to the normal distribution.
    let (contained, widths) = simulate(|state| 2e6 / (1.0 + (-1.702 * state).exp()));
    assert!(contained >= 995, "{contained}");
    assert!(widths[widths.len() / 2] < 22.0 && widths[widths.len() * 19 / 20 - 1] <= 40.0, "{widths:?}");
}

#[test]
fn drift_interval_is_wide_if_jitter_is_not_limited() {
    // With a standard deviation of 2 ms, no estimate from 60 s is better than ±64 ppm.
    let (contained, widths) = simulate(|state| 1e7 + 2e6 * state);
    assert!(contained >= 995, "{contained}");
    assert!(widths[widths.len() / 2] > 64.0, "{widths:?}");
}

/// The only source of a client of the table whose packets arrive at `arrival`, in seconds since the first one. `None` did not arrive.
fn arriving(name: &str, arrival: impl Fn(f64, &Sent) -> Option<f64>) -> CheckedSource {
    let sent = client(name).datagrams().into_iter().filter_map(|sent| {
        let at_s = arrival(sent.at.as_nanos() as f64 / 1e9 - 1.0, &sent)?;
        Some(Sent { at: Time::from_nanos(((1.0 + at_s) * 1e9) as u64), ..sent })
    });
    let [source] = <[_; 1]>::try_from(check(&sent.collect::<Vec<_>>()).sources).expect("a source");
    source
}

/// The interval of a client whose packets arrive at `arrival`, and which breaks no rule.
fn interval_of_client(arrival: impl Fn(f64) -> f64) -> [f64; 2] {
    let source = arriving("correct-2-channels-48000-plain", |at_s, _| Some(arrival(at_s)));
    assert!(source.findings.iter().all(|finding| finding.severity == Severity::Note), "{:#?}", source.findings);
    source.details.unwrap().drift.unwrap().interval_ppm
}

#[test]
fn drift_is_measured_between_pauses_of_a_stopped_host() {
    let stops = [(3.3, 0.051), (5.5, 0.1), (9.1, 0.5), (14.2, 0.06)];
    let [low, high] =
        interval_of_client(|at_s| at_s + stops.iter().filter(|stop| at_s >= stop.0).map(|stop| stop.1).sum::<f64>());
    assert!(low <= 0.0 && high >= 0.0 && high - low < 10.0, "{low} to {high}");
}

#[test]
fn drift_is_measured_across_a_stall_after_which_the_path_catches_up() {
    // Nothing arrives for 2.5 s, then twice as much as usual until all is there.
    let [low, high] =
        interval_of_client(|at_s| if (5.0..10.0).contains(&at_s) { at_s.max(7.5 + (at_s - 5.0) / 2.0) } else { at_s });
    assert!(low <= 0.0 && high >= 0.0 && high - low < 10.0, "{low} to {high}");
}

#[test]
fn path_that_catches_up_at_the_start_feigns_no_rate() {
    // The path holds back what is sent in the first 3 s, and delivers it at twice the rate. The run ends soon.
    let delayed = |at_s: f64, _: &Sent| Some(at_s.max(3.0 + at_s / 2.0)).filter(|_| at_s < 9.0);
    let findings = arriving("correct-2-channels-48000-plain", delayed).findings;
    assert!(findings.iter().all(|finding| finding.severity == Severity::Note), "{findings:#?}");
}

#[test]
fn client_that_a_busy_host_starves_has_no_certain_sample_rate() {
    // For seconds at a time, the client runs at 60 to 140 % of its rate. It sends AUDIO and KEEPALIVE only.
    let delayed = |at_s: f64, sent: &Sent| {
        let delay_s = 0.5 - 0.5 * ((at_s + 1.0) * std::f64::consts::TAU / 8.0).cos();
        [1, 4].contains(&sent.bytes[1]).then_some(at_s + delay_s)
    };
    let source = arriving("correct-january-client-128", delayed);
    assert!(source.findings.is_empty(), "{:#?}", source.findings);
    let details = source.details.as_ref().unwrap();
    assert_eq!((details.sample_rate, details.drift), (None, None), "{}", source.facts);
    assert!(source.not_judged.iter().any(|part| part.what == "packet rate"), "{:?}", source.not_judged);
}

/// The code, the severity and the message of what is found about a client whose packets arrive late in `seconds`, by this time per second. All
/// types may be delayed, or AUDIO alone; of LATENCY_PING, none may be sent.
fn found_behind_a_queue(
    seconds: f64,
    growth: f64,
    is_delayed: [bool; 2],
    has_pings: bool,
) -> Option<(&'static str, Severity, String)> {
    let source = arriving("correct-2-channels-48000-plain", |at_s, sent| {
        let late = if is_delayed[usize::from(sent.bytes[1] != 1)] { growth * at_s } else { 0.0 };
        (at_s < seconds && (has_pings || sent.bytes[1] != 5)).then_some(at_s + late)
    });
    let found = source.findings.into_iter().find(|finding| finding.severity > Severity::Note);
    found.map(|finding| (finding.rule, finding.severity, finding.message))
}

#[test]
fn queue_that_fills_is_the_path_if_pings_are_delayed_alike() {
    for growth in [-0.03, 0.02, 0.05, 0.15, 0.3] {
        for seconds in [4.0, 8.0, 12.0, 19.0] {
            assert_eq!(found_behind_a_queue(seconds, growth, [true; 2], true), None, "{growth} in {seconds} s");
        }
        // The client itself is too slow or too fast. A large error is found in less than 12 s.
        for seconds in [19.0, 8.0].into_iter().take(1 + usize::from(growth > 0.02)) {
            let (code, severity, text) = found_behind_a_queue(seconds, growth, [true, false], true).expect("a finding");
            assert_eq!((code, severity), ("packet_rate", Severity::Error), "{growth}");
            assert!(text.ends_with(&format!(" {:.0}", 48_000.0 / (1.0 + growth))), "{growth}: {text}");
        }
    }
}

#[test]
fn without_pings_a_wrong_rate_is_a_warning_until_it_has_cost_a_second() {
    let message = "packet rate does not fit sample_rate: expected 48000 samples per second, received 45714";
    for (seconds, severity, end) in
        [(13.0, Severity::Warning, ", or the delay of its path grows"), (19.5, Severity::Error, "")]
    {
        let growth = if severity == Severity::Error { 0.06 } else { 0.05 };
        let (code, found, text) = found_behind_a_queue(seconds, growth, [true; 2], false).expect("a finding");
        assert_eq!((code, found, text.ends_with(end)), ("packet_rate", severity, true), "{text}");
        assert!(severity == Severity::Error || text == format!("{message}{end}"), "{text}");
    }
}
