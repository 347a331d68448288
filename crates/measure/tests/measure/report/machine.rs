//! Bursts, reordering, delay variation and machine statistics in the report: their names, rows and warnings.

use crate::report::runs;
use crate::report::runs::machine;
use std::time::Duration;

use jamjam_core::stats::{
    AddressChange, ClockJumps, ClockReading, HostTiming, PacingStats, ReorderedPacket, StreamStats,
};
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, PauseResults, RunResults, ServerResults};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::{Report, html, junit, text};
use serde_json::{Value, json};

use machine::machine;
use runs::{MS, probe, send, stream};

#[test]
fn bursts_and_reordering_appear_under_their_names() {
    let mut ping = stream(StreamStats::new(), (0..1_000).map(|n| 5_000 + n % 2_000));
    for lost in [false, true, true, false, true] {
        ping.loss_bursts.on_settled(Time::ZERO, lost);
    }
    for (extent, late_time_offset_ns) in [(1, 2_500), (1, 1_000), (5, 500)] {
        ping.on_reordered(ReorderedPacket { extent, late_time_offset_ns });
    }
    // The differences are +300 ns once and −100 ns 199 times.
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
    // The mean is 7/3.
    assert_eq!((found("reorder_extent_mean"), found("reorder_extent_max")), (json!(2.333), json!(5)));
    assert_eq!(found("reorder_late_time_offset_max_us"), json!(2.5));
    // The round trips are 5,000 to 5,999 ns in buckets that are 4 ns wide. Each percentile is rounded up to the upper edge of its bucket.
    // The exact p50 is 5,499 ns. This value is the upper edge of a bucket and does not change. The exact p99 is 5,989 ns, and the upper
    // edge of its bucket is 5,991 ns. The exact p99.9 is 5,998 ns, and the upper edge of its bucket is 5,999 ns.
    let pdv = ["p50", "p99", "p999", "max"].map(|name| found(&format!("pdv_{name}_us")));
    assert_eq!(pdv, [0.499, 0.991, 0.999, 0.999].map(Value::from));
    let ipdv = ["count", "min_us", "max_us", "abs_mean_us", "abs_p50_us", "abs_p99_us"];
    // (300 + 199 × 100)/200 = 101 ns.
    let exact = [json!(200), json!(-0.1), json!(0.3), json!(0.101), json!(0.1), json!(0.1)];
    assert_eq!(ipdv.map(|name| found(&format!("ipdv_{name}"))), exact);
    let bursts = "\nloss bursts           1 × 1 packet, 1 × 2; longest 2\n";
    let reordering = "\nreordering            0.3 %, extent mean 2.3, max 5, late by up to 2.5 µs\n";
    let variation = "\nPDV                   p50 0.5 µs, p99 1.0 µs, p99.9 1.0 µs, max 1.0 µs\n";
    let neighbors = "\nIPDV                  mean 0.1 µs, p50 0.1 µs, p99 0.1 µs; -0.1 µs to 0.3 µs\n";
    let text = text::details(&report, false);
    for row in [bursts, reordering, variation, neighbors] {
        assert!(text.contains(row), "{row}{text}");
    }
}

#[test]
fn each_percentile_appears_under_its_own_name() {
    let mut pacing = PacingStats::default();
    for n in 1..=1_000 {
        let due = Time::from_millis(n);
        pacing.on_sent(due, due + Duration::from_nanos(2 * n));
    }
    let run = RunResults { pacing: Some(pacing), ..probe(stream(StreamStats::new(), 1..=1_000)) };
    let document = serde_json::to_value(Report::new(&run, &Limits::default())).unwrap();
    let ping = &document["streams"]["ping"];
    let found = ["min", "p50", "p90", "p99", "p999", "max", "mean"].map(|name| ping[format!("rtt_{name}_us")].clone());
    assert_eq!(found, [0.001, 0.5, 0.9, 0.99, 0.999, 1.0, 0.501].map(Value::from));
    let found = ["min", "p50", "p90", "p99", "p999", "max", "mean"]
        .map(|name| document["pacing"][format!("pacing_{name}_us")].clone());
    assert_eq!(found, [0.002, 1.0, 1.8, 1.98, 1.998, 2.0, 1.001].map(Value::from));
}

#[test]
fn delay_variation_needs_no_server_delay() {
    // The echo times are 3,000,000 µs, 3,000,150 µs and 3,000,050 µs. There is no ping from which the server delay could be estimated.
    let audio = stream(StreamStats::with_rtt_baseline(), [3_000_000_000, 3_000_150_000, 3_000_050_000]);
    let report = Report::new(&send(AudioResults { stats: audio, ..AudioResults::default() }), &Limits::default());
    let audio = report.streams.audio.unwrap();
    assert_eq!((audio.rtt_count, audio.rtt_p50_us), (0, None));
    // The differences between the three echo times and the first echo time are 0 µs, 150 µs and 50 µs. The median of the differences is
    // 50 µs. This value is in the bucket from 49,984 to 50,015 ns.
    assert_eq!((audio.pdv_p50_us, audio.pdv_max_us), (Some(50.015), Some(150.0)));
}

#[test]
fn machine_statistics_appear_under_their_names() {
    let change = AddressChange { from: "192.0.2.1".parse().unwrap(), to: "2001:db8::1".parse().unwrap() };
    let refused = vec!["EPERM: Operation not permitted".to_owned()];
    let host = HostTiming { send_errors: refused, address_changes: vec![change], ..machine() };
    let report = Report::new(&RunResults { host_timing: Some(host), ..probe(StreamStats::new()) }, &Limits::default());
    let expected = json!({
        "send_call_count": 1_000, "send_call_p50_us": 0.5, "send_call_p99_us": 0.99, "send_call_max_us": 1.0,
        "timer_error_count": 1_000, "timer_error_p50_us": 1.0, "timer_error_p99_us": 1.98, "timer_error_max_us": 2.0,
        "clock_jumps": 2, "clock_jump_max_ms": -4_000.0, "pauses": 0, "paused_ms": 0.0,
        "suspended_ms": 2_000.0, "kernel_dropped": 12, "send_errors": ["EPERM: Operation not permitted"],
        "address_changes": [{"from": "192.0.2.1", "to": "2001:db8::1"}]
    });
    assert_eq!(serde_json::to_value(&report).unwrap()["host_timing"], expected);
    let text = text::details(&report, false);
    assert!(text.contains("\nsend call             p50 0.5 µs, p99 1.0 µs, max 1.0 µs\n"), "{text}");
    assert!(text.contains("\ntimer error           p50 1.0 µs, p99 2.0 µs, max 2.0 µs\n"), "{text}");
}

/// The warnings of a run in which only the machine has anomalies.
fn notes(machine: HostTiming) -> Vec<String> {
    let run = RunResults { host_timing: Some(machine), ..probe(stream(StreamStats::new(), [MS; 100])) };
    Report::new(&run, &Limits::default()).warnings.into_iter().map(|warning| warning.message).collect()
}

/// Clock readings at intervals of 50 ms. In each interval, the wall clock gains this number of milliseconds on the
/// monotonic clock.
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
fn machine_without_disturbances_adds_no_warnings() {
    assert_eq!(
        notes(HostTiming { kernel_dropped: Some(0), clock_jumps: clock(&[0, 0]), ..HostTiming::default() }),
        [""; 0]
    );
    assert_eq!(notes(HostTiming::default()), [""; 0]);
}

#[test]
fn local_receive_buffer_overflow_is_not_path_loss() {
    let dropped = |times| notes(HostTiming { kernel_dropped: Some(times), ..HostTiming::default() });
    let message = |datagrams| {
        format!(
            "the receive buffer of this host was full and dropped {datagrams}. Unanswered packets count as dropped by this host, as far as \
             they may be among these datagrams. Give a larger --socket-buffer"
        )
    };
    assert_eq!(dropped(1), [message("1 datagram")]);
    assert_eq!(dropped(7), [message("7 datagrams")]);
}

#[test]
fn clock_jump_is_reported_with_the_affected_figures() {
    let jumped = |gains: &[i64]| notes(HostTiming { clock_jumps: clock(gains), ..HostTiming::default() });
    let rest = "A round-trip time at the moment of a jump may be wrong by up to 50 ms. The start time (started_unix_ms) is \
                calculated from the clock at the end of the run. Therefore, the start time may differ from the clock at the start";
    assert_eq!(jumped(&[0, 1_500]), [format!("the clock of this host jumped by +1.500 s. {rest}")]);
    assert_eq!(jumped(&[-20]), [format!("the clock of this host jumped by -20.000 ms. {rest}")]);
    assert_eq!(
        jumped(&[30, 0, -500]),
        [format!("the clock of this host jumped 2 times, by up to -500.000 ms. {rest}")]
    );
}

#[test]
fn pauses_of_both_hosts_are_reported_with_their_length() {
    let paused = |count, total_ns| PauseResults { count, total_ns, recent: Vec::new() };
    let server = ServerResults { delay_ns: 0, pauses: paused(2, 640_000_000), dropped: 3, ..ServerResults::default() };
    let run = RunResults {
        host_timing: Some(HostTiming::default()),
        pauses: paused(1, 5_040_000_000),
        server: Some(server),
        ..probe(stream(StreamStats::new(), [MS; 100]))
    };
    let report = Report::new(&run, &Limits::default());
    let json = serde_json::to_value(&report).unwrap();
    let pauses = |part: &str| (json[part]["pauses"].clone(), json[part]["paused_ms"].clone());
    assert_eq!(pauses("host_timing"), (json!(1), json!(5_040.0)));
    assert_eq!((pauses("server"), &json["server"]["dropped"]), ((json!(2), json!(640.0)), &json!(3)));
    let outputs = [
        text::summary(&report, false),
        html::page(&report, None, None, "", "0"),
        junit::document(&report, None).unwrap(),
    ];
    for output in outputs {
        assert!(output.contains("this host did not run for 5.0 s"), "{output}");
        assert!(output.contains("the server did not run for 640 ms in 2 pauses"), "{output}");
    }
}

#[test]
fn slow_send_calls_and_late_wake_ups_are_reported_by_p99() {
    let with = |calls: i64, wakes: i64| {
        let mut machine = HostTiming::default();
        // 98 of the 100 values are small, and p99 is the 99th value.
        for n in 0..100 {
            machine.send_call.record(if n < 98 { 1_000 } else { calls });
            machine.timer_error.record(if n < 98 { 1_000 } else { wakes });
        }
        notes(machine)
    };
    // The bucket of 100,000 ns ends at 100,031 ns. The bucket of 1,000,000 ns ends at 1,000,447 ns. However, a percentile is never above
    // the largest recorded value.
    assert_eq!(with(100_000, 1_000_000), [""; 0]);
    assert_eq!(
        with(100_100, 0),
        ["send calls on this host took 100.1 µs (p99). Round-trip times and jitter include this time. A packet \
          capture, a local firewall or another program may slow down send calls"]
    );
    assert_eq!(
        with(0, 1_100_000),
        [
            "timers on this host fired 1.100 ms late (p99), so packets leave late and in bursts. If the kernel does not timestamp \
          received packets, round-trip times are also longer by this amount. Close other programs or measure from a less busy host"
        ]
    );
    // With fewer than 100 values, the 99th percentile (p99) would be the slowest value. The first call of a run is always slow. This p99
    // would therefore describe only the first call. For this reason, a report of fewer than 100 values contains no p99 and no warning.
    let mut few = HostTiming::default();
    (0..99).for_each(|_| few.send_call.record(MS));
    assert_eq!(notes(few), [""; 0]);
}
