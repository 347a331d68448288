//! The time series of the report, compared with a computation from a list of all packets.

use jamjam_core::stats::{FinalOutcome, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, CountSample, LossReport, RunKind, RunResults, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use serde_json::{Value, json};

use super::runs::{MS, probe};
use test_support::rng::{Rng, simulations};

const SECOND: u64 = 1_000_000_000;

/// A stream of one packet every 20 ms. `outcome` returns the outcome of a packet.
pub(super) fn stream(mut stats: StreamStats, packets: u64, outcome: impl Fn(u64) -> FinalOutcome) -> StreamStats {
    let sent_at = |n: u64| Time::from_nanos(7 + n * SECOND / 50);
    for n in 0..packets {
        stats.on_sent(sent_at(n));
        if let FinalOutcome::Returned { rtt } = outcome(n) {
            stats.on_return(sent_at(n), rtt);
        }
    }
    (0..packets).for_each(|n| stats.on_settled(sent_at(n), outcome(n)));
    stats
}

fn document(run: &RunResults) -> Value {
    super::runs::document(run)["time_series"].clone()
}

#[test]
fn worst_ten_seconds_equal_a_naive_search_in_every_simulation() {
    for seed in 0..simulations() {
        let mut rng = Rng::new(seed);
        let packets = 50 * (10 + rng.below(100)) + rng.below(50);
        let lossless = rng.below(4) == 0;
        let outcomes: Vec<FinalOutcome> = (0..packets)
            .map(|_| match rng.below(30) {
                0 if !lossless => FinalOutcome::Lost,
                1 => FinalOutcome::Damaged,
                _ => FinalOutcome::Returned { rtt: (5_000 + rng.below(200)).cast_signed() },
            })
            .collect();
        let report = document(&probe(stream(StreamStats::new(), packets, |n| outcomes[n as usize])));

        let seconds: Vec<&[FinalOutcome]> = outcomes.chunks(50).collect();
        assert_eq!(report["intervals"].as_array().expect("a list").len(), seconds.len(), "seed {seed}");
        let mut worst: Option<(usize, f64, Option<i64>)> = None;
        for start in 0..(seconds.len() + 1).saturating_sub(10) {
            let window: Vec<FinalOutcome> = seconds[start..start + 10].concat();
            let lost = window.iter().filter(|outcome| **outcome == FinalOutcome::Lost).count();
            let rtt =
                |outcome: &FinalOutcome| if let FinalOutcome::Returned { rtt } = outcome { Some(*rtt) } else { None };
            let mut rtts: Vec<i64> = window.iter().filter_map(rtt).collect();
            rtts.sort_unstable();
            // Histograms of intervals keep the nine leading bits of a value and round up.
            let p99 = (rtts.len() >= 100).then(|| rtts[(rtts.len() * 99).div_ceil(100) - 1] | 0xf);
            let p99 = p99.map(|p99| p99.min(*rtts.last().expect("a round trip")));
            let ratio = lost as f64 / window.len() as f64;
            if worst.is_none_or(|(_, worst_ratio, worst_p99)| (ratio, p99) > (worst_ratio, worst_p99)) {
                worst = Some((start, ratio, p99));
            }
        }
        let expected = worst.filter(|_| seconds.len() >= 20).map_or(Value::Null, |(start, ratio, p99)| {
            json!({"start_s": start, "duration_s": 10, "loss_ratio": ratio, "rtt_p99_us": p99.map(|ns| ns as f64 / 1e3)})
        });
        assert_eq!(report["worst_ten_seconds"], expected, "seed {seed}");
    }
}

#[test]
fn intervals_contain_counts_times_and_direction() {
    // Second 0: all packets return after 2 ms. Second 1: ten packets in a row are lost, four of them upstream.
    let outcome = |n| {
        if (60..70).contains(&n) { FinalOutcome::Lost } else { FinalOutcome::Returned { rtt: 2 * MS } }
    };
    let samples =
        [(50, 50), (100, 96)].map(|(sent, received)| CountSample { sent: [0, sent, 0], received: [0, received, 0] });
    let (received, samples) = (Some([0, 96, 0]), samples.to_vec());
    let loss_report = Some(LossReport { response_received: true, received, samples, ..LossReport::default() });
    let run = RunResults { loss_report, ..probe(stream(StreamStats::new(), 100, outcome)) };
    let series = document(&run);
    assert_eq!((&series["interval_s"], &series["worst_ten_seconds"]), (&json!(1), &Value::Null));
    let expected = json!({
        "start_s": 1, "sent": 50, "not_sent": 0, "returned": 40, "lost": 10, "lost_upstream": 4, "lost_downstream": 6, "damaged": 0,
        "in_flight": 0, "excluded": 0, "burst_max": 10, "rtt_min_us": 2_000.0, "rtt_p50_us": 2_000.0, "rtt_p99_us": null,
        "rtt_max_us": 2_000.0, "jitter_mean_us": 0.0
    });
    assert_eq!(series["intervals"][1], expected);
    assert_eq!(series["intervals"][0]["lost_upstream"], 0);
}

#[test]
fn audio_times_exclude_the_server_delay() {
    let outcome = |n: u64| FinalOutcome::Returned { rtt: 3_000 * MS + (n as i64 % 2) * MS };
    let stats = stream(StreamStats::with_rtt_baseline(), 50, outcome);
    let audio = AudioResults { stats, configured_server_delay_ns: Some(2_990_000_000), ..AudioResults::default() };
    let run = RunResults { audio: Some(audio), ..RunResults::new(RunKind::Send, "a server", StreamKind::Audio) };
    let interval = &document(&run)["intervals"][0];
    assert_eq!((&interval["rtt_min_us"], &interval["rtt_max_us"]), (&json!(10_000.0), &json!(11_000.0)));
    let unknown = AudioResults { configured_server_delay_ns: None, ..run.audio.clone().expect("audio") };
    let interval = &document(&RunResults { audio: Some(unknown), ..run })["intervals"][0];
    assert_eq!((&interval["rtt_min_us"], &interval["returned"]), (&Value::Null, &json!(50)));
}

#[test]
fn curves_of_the_charts_are_the_intervals_of_the_report() {
    let outcome = |n: u64| FinalOutcome::Returned { rtt: (1 + n as i64 % 10) * MS };
    let report = Report::new(&probe(stream(StreamStats::new(), 200, outcome)), &Limits::default());
    let document = report.document();
    let curve = |name| {
        let curve = document.series[0].curves.iter().find(|curve| curve.name == name).unwrap();
        curve.points.iter().map(|point| point.y).collect::<Vec<_>>()
    };
    let intervals = &report.time_series.as_ref().unwrap().intervals;
    let ends = intervals.iter().map(|one| [one.rtt_min_us, one.rtt_max_us].map(Option::unwrap)).collect::<Vec<_>>();
    let medians = intervals.iter().map(|one| [0.0, one.rtt_p50_us.unwrap()]).collect::<Vec<_>>();
    assert_eq!((intervals.len(), curve("min to max"), curve("p50")), (4, ends, medians));
    assert!(document.html("", "0").contains(">3 s</text>"), "the labels of a short run are seconds");
}
