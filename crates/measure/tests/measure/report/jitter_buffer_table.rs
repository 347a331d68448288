//! The jitter-buffer table, compared with a replay of all packets.

use jamjam_core::stats::{FinalOutcome, StreamStats};
use jamjam_measure::client::{AudioResults, RunResults, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use serde_json::Value;

use super::runs::{MS, probe, send};
use test_support::rng::{Rng, simulations};

fn stream(stats: StreamStats, outcomes: &[FinalOutcome]) -> StreamStats {
    super::time_series::stream(stats, outcomes.len() as u64, |n| outcomes[n as usize])
}

fn table(run: &RunResults) -> Value {
    super::runs::document(run)["jitter_buffer"].clone()
}

/// A value in the resolution of the histogram: the eleven leading bits, rounded up.
fn rounded(value: i64, max: i64) -> i64 {
    let magnitude = value.unsigned_abs();
    let low_bits = magnitude.checked_ilog2().map_or(0, |log2| (1_u64 << log2.saturating_sub(10)) - 1);
    if value < 0 { -((magnitude & !low_bits) as i64) } else { ((magnitude | low_bits) as i64).min(max) }
}

#[test]
fn table_equals_a_naive_replay_in_every_simulation() {
    let (mut recommended, mut without) = (0, 0);
    for seed in 0..simulations() {
        let mut rng = Rng::new(seed);
        let is_audio = rng.below(2) == 0;
        let base = 1 + rng.below(200_000_000);
        let max_noise = [2_000_000, 40_000_000, 300_000_000][rng.below(3) as usize];
        let noise = 1 + rng.below(max_noise);
        let rare = rng.below(4) > 0;
        let outcomes: Vec<FinalOutcome> = (0..=rng.below(1_500))
            .map(|_| match rng.below(50) {
                0 => FinalOutcome::Lost,
                1 => FinalOutcome::Damaged,
                2 => FinalOutcome::InFlight,
                n => {
                    let delay = if rare && n > 3 { rng.below(noise / 10 + 1) } else { rng.below(noise) };
                    FinalOutcome::Returned { rtt: (base + delay).cast_signed() }
                }
            })
            .collect();
        let run = if is_audio {
            let stats = stream(StreamStats::with_rtt_baseline(), &outcomes);
            send(AudioResults { stats, configured_server_delay_ns: Some(0), ..AudioResults::default() })
        } else {
            probe(stream(StreamStats::new(), &outcomes))
        };
        let rtt = |outcome: &FinalOutcome| if let FinalOutcome::Returned { rtt } = outcome { Some(*rtt) } else { None };
        let rtts: Vec<i64> = outcomes.iter().filter_map(rtt).collect();
        let Some(first) = rtts.first() else {
            assert_eq!(table(&run), Value::Null, "seed {seed}");
            continue;
        };
        let relative: Vec<i64> = rtts.iter().map(|rtt| if is_audio { rtt - first } else { *rtt }).collect();
        let max = *relative.iter().max().expect("a round trip");
        let delays: Vec<i64> = relative.iter().map(|rtt| rounded(*rtt, max)).collect();
        let min = *delays.iter().min().expect("a round trip");
        let settled = outcomes.iter().filter(|outcome| **outcome != FinalOutcome::InFlight).count() as u64;
        // Packets after the first packet in flight are only known if they returned.
        let known = outcomes.split(|outcome| *outcome == FinalOutcome::InFlight).next().expect("a part");
        let unreturned = known.iter().filter(|outcome| matches!(outcome, FinalOutcome::Lost | FinalOutcome::Damaged));
        let unreturned = unreturned.count() as f64 / known.len().max(1) as f64;
        let table = table(&run);
        let mut enough = None;
        let rows = table["depths"].as_array().expect("a list");
        for (row, packets) in rows.iter().zip([0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 38]) {
            let depth_ns = packets * 128 * 1_000_000_000 / 48_000;
            // The receiver plays a packet at its send time + the smallest delay + the depth.
            let late = delays.iter().filter(|delay| **delay > min + depth_ns).count() as u64;
            assert_eq!((&row["depth_packets"], &row["late"]), (&packets.into(), &late.into()), "seed {seed}");
            let ratio = unreturned + (1.0 - unreturned) * late as f64 / rtts.len() as f64;
            assert!((row["late_or_lost_ratio"].as_f64().expect("a number") - ratio).abs() < 1e-12, "seed {seed}");
            let smallest = *rtts.iter().min().expect("a round trip") as f64 / 1e6;
            let one_way = smallest / 2.0 + (packets + 1) as f64 * 128.0 / 48.0;
            assert!((row["one_way_ms"].as_f64().expect("a number") - one_way).abs() < 0.002, "seed {seed}: {row}");
            enough = enough.or((late * 1_000 <= settled).then_some(packets));
        }
        // Few packets justify no recommendation.
        let enough = enough.filter(|_| rtts.len() >= 100);
        assert_eq!(table["recommended_packets"], enough.map_or(Value::Null, Value::from), "seed {seed}");
        *if enough.is_some() { &mut recommended } else { &mut without } += 1;
    }
    assert!(recommended > simulations() / 5 && without > simulations() / 20, "{recommended} {without}");
}

#[test]
fn headline_names_loss_depth_share_and_delay() {
    let headline = |outcomes: &[FinalOutcome]| {
        let run = probe(stream(StreamStats::new(), outcomes));
        let text = Report::new(&run, &Limits::default()).document().text(false, false, None);
        text.lines().find_map(|line| line.strip_prefix("result: ")).map(str::to_owned).expect("a headline")
    };
    let line = |delays: [i64; 4]| {
        let outcome =
            |n: usize| if n < 4 { FinalOutcome::Lost } else { FinalOutcome::Returned { rtt: delays[n % 4] * MS } };
        (0..400).map(outcome).collect::<Vec<_>>()
    };
    // Neither one lost nor one returned packet of many is rounded to nothing.
    let mut many = vec![FinalOutcome::Returned { rtt: 10 * MS }; 30_000];
    many[7] = FinalOutcome::Lost;
    let mut one = vec![FinalOutcome::Lost; 30_000];
    one[7] = FinalOutcome::Returned { rtt: 10 * MS };
    let on_time = "all that return are on time without a jitter buffer, about 8 ms one way";
    for (outcomes, loss, buffer) in [
        (line([10, 10, 10, 10]), "1 %", on_time),
        (
            line([10, 10, 15, 20]),
            "1 %",
            "a 10.7 ms jitter buffer (4 packets) plays all that return, about 18 ms one way",
        ),
        (
            line([10, 10, 10, 500]),
            "1 %",
            "no jitter buffer up to 101.3 ms suffices, because 25 % of the others would be late; ",
        ),
        (many, "< 0.01 %", on_time),
        (one, "> 99.99 %", ""),
    ] {
        let expected = format!("{loss} of the packets were lost; {buffer}");
        assert!(headline(&outcomes).starts_with(&expected), "{}", headline(&outcomes));
    }
    assert_eq!(
        headline(&vec![FinalOutcome::Returned { rtt: MS }; 99]),
        "no packet was lost; the median round trip is 1.000 ms."
    );
}

#[test]
fn one_way_delay_is_unknown_without_the_server_delay() {
    let stats = stream(StreamStats::with_rtt_baseline(), &[FinalOutcome::Returned { rtt: 3_000 * MS }; 200]);
    let run = send(AudioResults { stats, ..AudioResults::default() });
    assert_eq!(run.evaluated_stream, StreamKind::Audio);
    let table = table(&run);
    assert_eq!((&table["depths"][0]["one_way_ms"], &table["depths"][0]["late"]), (&Value::Null, &0.into()));
}
