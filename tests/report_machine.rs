//! Bursts, reordering, delay variation and the machine in the report: under which names, in which rows, with which notes.

use std::time::Duration;

use jamjam_dev::flow::run::{AudioRun, Run};
use jamjam_dev::report::limits::{Limits, Measure};
use jamjam_dev::report::{Report, text};
use jamjam_dev::stats::{ClockJumps, ClockReading, Machine, Overtaken, Pacing, Stream};
use jamjam_dev::time::Time;
use serde_json::{Value, json};

#[path = "runs/machine.rs"]
mod machine;
mod runs;

use machine::machine;
use runs::{MS, probe, send, stream};

#[test]
fn what_the_order_of_sending_shows_stands_under_its_names() {
    let mut ping = stream(Stream::new(), (0..1_000).map(|n| 5_000 + n % 2_000));
    for lost in [false, true, true, false, true] {
        ping.bursts.on_settled(lost);
    }
    for (extent, late_ns) in [(1, 2_500), (1, 1_000), (5, 500)] {
        ping.on_overtaken(Overtaken { extent, late_ns });
    }
    // Differences of +300, −100, −100, … : 1 of 300 ns and 199 of 100 ns.
    for ns in [0, 300] {
        ping.ipdv.on_settled(Some(ns));
    }
    (0..199).for_each(|n| ping.ipdv.on_settled(Some(200 - 100 * n)));
    let report = Report::new(&probe(ping), &Limits::default());
    let document = serde_json::to_value(&report).unwrap();
    let found = |name: &str| document["streams"]["ping"][name].clone();
    assert_eq!(found("burst_lengths"), json!([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(found("burst_max"), json!(2));
    assert_eq!(found("reordered_ratio"), json!(0.003));
    // 7/3.
    assert_eq!((found("reorder_extent_mean"), found("reorder_extent_max")), (json!(2.333), json!(5)));
    assert_eq!(found("reorder_late_max_us"), json!(2.5));
    // Round trips of 5,000 to 5,999 ns, in buckets 4 ns wide: p50 5,499 → 5,499; p99 5,989 → 5,991; p99.9 5,998 → 5,999.
    let pdv = ["p50", "p99", "p999", "max"].map(|name| found(&format!("pdv_{name}_us")));
    assert_eq!(pdv, [0.499, 0.991, 0.999, 0.999].map(Value::from));
    let ipdv = ["count", "min_us", "max_us", "abs_mean_us", "abs_p50_us", "abs_p99_us"];
    // (300 + 199 × 100)/200 = 101 ns.
    let truth = [json!(200), json!(-0.1), json!(0.3), json!(0.101), json!(0.1), json!(0.1)];
    assert_eq!(ipdv.map(|name| found(&format!("ipdv_{name}"))), truth);
    let bursts = "\nbursts of loss        1 × 1 packet, 1 × 2; longest 2\n";
    let reordering = "\nreordering            0.3 %, extent mean 2.3, max 5, late by at most 2.5 µs\n";
    let variation = "\ndelay variation       p50 0.5 µs, p99 1.0 µs, p99.9 1.0 µs, max 1.0 µs\n";
    let neighbours = "\nfrom one to the next  mean 0.1 µs, p50 0.1 µs, p99 0.1 µs; -0.1 µs to 0.3 µs\n";
    let text = text::summary(&report, false);
    for row in [bursts, reordering, variation, neighbours] {
        assert!(text.contains(row), "{row}{text}");
    }
}

#[test]
fn each_percentile_stands_under_its_own_name() {
    let mut pacing = Pacing::default();
    for n in 1..=1_000 {
        let due = Time::from_millis(n);
        pacing.on_sent(due, due + Duration::from_nanos(2 * n));
    }
    let run = Run { pacing: Some(pacing), ..probe(stream(Stream::new(), 1..=1_000)) };
    let document = serde_json::to_value(Report::new(&run, &Limits::default())).unwrap();
    let ping = &document["streams"]["ping"];
    let found = ["min", "p50", "p90", "p99", "p999", "max", "mean"].map(|name| ping[format!("rtt_{name}_us")].clone());
    assert_eq!(found, [0.001, 0.5, 0.9, 0.99, 0.999, 1.0, 0.501].map(Value::from));
    let found = ["min", "p50", "p90", "p99", "p999", "max", "mean"]
        .map(|name| document["pacing"][format!("pacing_{name}_us")].clone());
    assert_eq!(found, [0.002, 1.0, 1.8, 1.98, 1.998, 2.0, 1.001].map(Value::from));
}

#[test]
fn delay_variation_needs_no_hold() {
    // Echo times 3,000,000 µs and 150 and 50 µs more, and no ping to tell the hold by.
    let audio = stream(Stream::relative(), [3_000_000_000, 3_000_150_000, 3_000_050_000]);
    let report = Report::new(&send(AudioRun { stream: audio, ..AudioRun::default() }), &Limits::default());
    let audio = report.streams.audio.unwrap();
    assert_eq!((audio.rtt_count, audio.rtt_p50_us), (0, None));
    // 50 µs lie in the bucket 49,984 … 50,015 ns of the distance from the first echo.
    assert_eq!((audio.variation.pdv_p50_us, audio.variation.pdv_max_us), (Some(50.015), Some(150.0)));
}

#[test]
fn what_the_machine_did_stands_under_its_names() {
    let report = Report::new(&Run { machine: Some(machine()), ..probe(Stream::new()) }, &Limits::default());
    let expected = json!({
        "send_call_count": 1_000, "send_call_p50_us": 0.5, "send_call_p99_us": 0.99, "send_call_max_us": 1.0,
        "wake_count": 1_000, "wake_p50_us": 1.0, "wake_p99_us": 1.98, "wake_max_us": 2.0,
        "clock_jumps": 2, "clock_jump_max_ms": -4_000.0, "suspended_ms": 2_000.0, "kernel_dropped": 12
    });
    assert_eq!(serde_json::to_value(&report).unwrap()["machine"], expected);
    let text = text::summary(&report, false);
    assert!(text.contains("\nsend call             p50 0.5 µs, p99 1.0 µs, max 1.0 µs\n"), "{text}");
    assert!(text.contains("\nwake-up               p50 1.0 µs, p99 2.0 µs, max 2.0 µs\n"), "{text}");
}

/// The notes of a run of which only the machine is worth one.
fn notes(machine: Machine) -> Vec<String> {
    let run = Run { machine: Some(machine), ..probe(stream(Stream::new(), [MS; 100])) };
    Report::new(&run, &Limits::default()).caveats.into_iter().map(|caveat| caveat.text).collect()
}

/// A machine whose wall clock gained these milliseconds on the monotonic one, 50 ms after each other.
fn clock(gains_ms: &[i64]) -> ClockJumps {
    let (mut clock, mut gained) = (ClockJumps::default(), 0);
    for (n, gain) in (0..).zip([&[0], gains_ms].concat()) {
        gained += gain;
        let (before, wall_ns) = (Time::from_millis(50 * n), (50 * n.cast_signed() + gained) * MS);
        clock.on_reading(ClockReading { before, wall_ns, boot_ns: None, after: before });
    }
    clock
}

#[test]
fn a_machine_that_behaved_has_no_notes() {
    assert_eq!(notes(Machine { kernel_dropped: Some(0), clock: clock(&[0, 0]), ..Machine::default() }), [""; 0]);
    assert_eq!(notes(Machine::default()), [""; 0]);
}

#[test]
fn what_our_own_receive_buffer_had_no_room_for_is_no_loss_of_the_path() {
    let dropped = |times| notes(Machine { kernel_dropped: Some(times), ..Machine::default() });
    let rest = "what it had no room for counts as lost, though the path is not to blame; give a larger --socket-buffer";
    assert_eq!(dropped(1), [format!("this machine's receive buffer was full once: {rest}")]);
    assert_eq!(dropped(7), [format!("this machine's receive buffer was full 7 times: {rest}")]);
}

#[test]
fn a_jump_of_the_clock_is_said_with_what_it_spoils() {
    let jumped = |gains: &[i64]| notes(Machine { clock: clock(gains), ..Machine::default() });
    let rest = "round trips of what was being received just then may be off by up to 50 ms, and started_unix_ms is by the \
                clock as it was at the end";
    assert_eq!(jumped(&[0, 1_500]), [format!("this machine's clock jumped by +1.500 s: {rest}")]);
    assert_eq!(jumped(&[-20]), [format!("this machine's clock jumped by -20.000 ms: {rest}")]);
    assert_eq!(jumped(&[30, 0, -500]), [format!("this machine's clock jumped 2 times, by up to -500.000 ms: {rest}")]);
}

#[test]
fn sleep_of_the_machine_is_said() {
    let mut clock = ClockJumps::default();
    for (mono, slept) in [(0, 0), (50, 90_000)] {
        let at = Time::from_millis(mono);
        let wall_ns = (mono.cast_signed() + slept) * MS;
        clock.on_reading(ClockReading { before: at, wall_ns, boot_ns: Some(wall_ns), after: at });
    }
    assert_eq!(
        notes(Machine { clock, ..Machine::default() }),
        [
            "this machine slept for 90.000 s during the run: what was on its way then is lost, or came later than is told"
        ]
    );
}

#[test]
fn slow_send_calls_and_late_wake_ups_are_said_by_their_p99() {
    let with = |calls: i64, wakes: i64| {
        let mut machine = Machine::default();
        // 98 quick ones; the 99th of 100 counts.
        for n in 0..100 {
            machine.send_call.record(if n < 98 { 1_000 } else { calls });
            machine.wake.record(if n < 98 { 1_000 } else { wakes });
        }
        notes(machine)
    };
    // The bucket of 100,000 ns ends at 100,031, the one of 1,000,000 ns at 1,000,447; the maximum caps both.
    assert_eq!(with(100_000, 1_000_000), [""; 0]);
    assert_eq!(
        with(100_100, 0),
        [
            "handing a packet to the system took 100.1 µs (p99), which is part of its round trip: read p99 and jitter with \
          care; a capture, a local firewall or other programs may slow it"
        ]
    );
    assert_eq!(
        with(0, 1_100_000),
        [
            "this machine woke up 1.100 ms late (p99): packets leave late and in bunches, and where the system stamps no \
          arrivals round trips are longer by it; close other programs, or measure from a machine with less to do"
        ]
    );
    // Too few for a p99 are not judged: the first call of a run is slow anyway.
    let mut few = Machine::default();
    (0..99).for_each(|_| few.send_call.record(MS));
    assert_eq!(notes(few), [""; 0]);
}

#[test]
fn the_longest_burst_is_held_against_its_limit() {
    let mut ping = stream(Stream::new(), [MS; 100]);
    (ping.sent, ping.lost) = (105, 5);
    for lost in [true, true, true, false, true, true] {
        ping.bursts.on_settled(lost);
    }
    let judge =
        |ping: &Stream, most| Report::new(&probe(ping.clone()), &Limits { max_burst: Some(most), ..Limits::default() });
    let kept = judge(&ping, 3);
    assert!(kept.verdict.passed);
    assert_eq!((kept.limits[0].measure, kept.limits[0].measured), (Measure::BurstMax, Some(3.0)));
    assert!(text::summary(&kept, false).contains("limit --max-burst 3 packets: 3 packets, kept\n"));
    assert_eq!(judge(&ping, 2).verdict.reasons, ["--max-burst 2 packets broken: 3 packets"]);
    assert!(judge(&stream(Stream::new(), [MS]), 0).verdict.passed);
    let unknown = Stream { in_flight: 3, ..stream(Stream::new(), []) };
    let broken = judge(&Stream { sent: 3, ..unknown }, 0);
    assert_eq!((broken.limits[0].measured, broken.limits[0].passed), (None, false));
    assert_eq!(broken.limits[0].note.as_deref(), Some("no packet's fate is known"));
}
