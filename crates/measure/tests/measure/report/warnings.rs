//! Warnings about anomalies in a run. The snapshots contain each run's warnings, and the causes that a warning lists.

use std::fmt::Write;
use std::time::Duration;

use jamjam_core::stats::{AddressChange, ClockJumps, ClockReading, HostTiming, PacingStats, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioResults, CaptureResults, LossReport, MoqtFailure, MoqtResults, PauseResults, RunResults, ScheduleResults,
    ServerResults, StopSignal,
};
use jamjam_moqt::Transport;
use test_support::snapshot;

use super::runs::{MS, all_lost, probe, report, send, stream};

/// Compares the warnings of all `runs` with a snapshot.
fn assert_warnings(snapshot: &str, runs: &[(String, RunResults)]) {
    let mut listed = String::new();
    for (name, run) in runs {
        writeln!(listed, "# {name}").expect("memory");
        for warning in report(run).head.warnings {
            writeln!(listed, "{}: {}", warning.code, warning.message).expect("memory");
            warning.details.iter().for_each(|detail| writeln!(listed, "- {detail}").expect("memory"));
        }
    }
    snapshot::assert_matches(snapshot, &listed);
}

/// A run whose 100 pings returned.
fn complete() -> RunResults {
    probe(stream(StreamStats::new(), [MS; 100]))
}

#[test]
fn run_without_replies_lists_causes_and_the_likely_one_first() {
    let lost = |what: &str, target: &str, port_unreachable| {
        let run = RunResults { target: target.to_owned(), port_unreachable, ..probe(all_lost()) };
        (format!("{what} of {target}"), run)
    };
    let mut runs = ["192.0.2.1:5000", "127.0.0.1:5000", "[2001:db8::1]:5000"]
        .map(|target| lost("closed port", target, 12))
        .to_vec();
    // A closed port of this host always causes ICMP port unreachable, and there is no other host on the path.
    let remote = ["192.0.2.1:5000", "echo.example:5000", "[2001:db8::1]:5000", "jam (192.0.2.1:5000)"];
    let local = ["127.0.0.1:5000", "localhost:5000", "[::1]:5000", "127.9.9.9:5000"];
    runs.extend([remote, local].concat().into_iter().map(|target| lost("silence", target, 0)));
    let audio = StreamStats { sent: 375, lost: 375, ..StreamStats::with_rtt_baseline() };
    let audio = send(AudioResults { stats: audio, ..AudioResults::default() });
    let ping = Some(stream(StreamStats::new(), [MS, MS]));
    runs.push(("pongs, but no AUDIO".to_owned(), RunResults { ping, ..audio.clone() }));
    let server = Some(ServerResults::default());
    runs.push(("reports of the server, but no AUDIO".to_owned(), RunResults { server, ..audio }));
    let unmatched = StreamStats { sent: 9, lost: 9, unmatched: 1, ..StreamStats::new() };
    runs.push(("unmatched datagrams".to_owned(), RunResults { stray: 4, ..probe(unmatched) }));
    assert_warnings("measure/warnings/no-replies", &runs);
}

#[test]
fn each_anomaly_of_a_stream_adds_a_warning() {
    let ping = |stats: StreamStats| probe(StreamStats { sent: 200, ..stream(stats, [MS; 100]) });
    let new = StreamStats::new;
    let silent = StreamStats { sent: 100, in_flight: 100, ..new() };
    let estimated = |pings: usize| {
        let stats = stream(StreamStats::with_rtt_baseline(), [100 * MS; 100]);
        let ping = Some(stream(new(), vec![MS; pings]));
        RunResults { ping, ..send(AudioResults { stats, ..AudioResults::default() }) }
    };
    let mut runs = vec![
        ("none", complete()),
        ("no replies expected", RunResults { replies_expected: false, ..probe(silent) }),
        ("only a damaged reply", probe(StreamStats { sent: 1, damaged: 1, damaged_copies: 1, ..new() })),
        ("one round trip", probe(stream(new(), [MS]))),
        ("damaged", ping(StreamStats { damaged: 1, damaged_copies: 2, ..new() })),
        ("unmatched", ping(StreamStats { unmatched: 3, ..new() })),
        ("port unreachable", RunResults { port_unreachable: 1, ..ping(new()) }),
        ("server delay from two pings", estimated(2)),
        ("server delay from three pings", estimated(3)),
    ];
    for error in
        ["EPERM: Operation not permitted", "EACCES: Permission denied", "ENETUNREACH: Unreachable", "ENOBUFS: No space"]
    {
        let host_timing = Some(HostTiming { send_errors: vec![error.to_owned()], ..HostTiming::default() });
        // Nothing was sent, so no cause on the path or at the server is named.
        let refused = StreamStats { not_sent: 9, ..new() };
        runs.push((error, RunResults { host_timing, ..probe(refused) }));
    }
    assert_warnings("measure/warnings/streams", &named(runs));
}

fn named(runs: Vec<(&str, RunResults)>) -> Vec<(String, RunResults)> {
    runs.into_iter().map(|(name, run)| (name.to_owned(), run)).collect()
}

#[test]
fn each_anomaly_of_audio_adds_a_warning() {
    let audio = |change: fn(&mut AudioResults)| {
        let stats = stream(StreamStats::with_rtt_baseline(), [100 * MS; 100]);
        let mut audio =
            AudioResults { stats, configured_server_delay_ns: Some(100_000_000), ..AudioResults::default() };
        change(&mut audio);
        send(audio)
    };
    // The echo times are 103 ms, and the ping takes 3 ms. Therefore, the server delay is 100 ms.
    let delayed = |given| {
        let stats = stream(StreamStats::with_rtt_baseline(), [103 * MS; 100]);
        let audio = AudioResults { stats, configured_server_delay_ns: Some(given), ..AudioResults::default() };
        RunResults { ping: Some(stream(StreamStats::new(), [3 * MS])), ..send(audio) }
    };
    let pause: fn(&mut AudioResults) =
        |audio| (audio.underruns, audio.source_paused_ns, audio.recording_dropped) = (1, 4_900_000_000, 1);
    let runs = vec![
        ("two underruns", audio(|audio| audio.underruns = 2)),
        ("underrun, pause of the source, dropped recording", audio(pause)),
        ("payload of 1460 bytes", audio(|audio| audio.payload_bytes = 1_460)),
        ("payload of 1461 bytes", audio(|audio| audio.payload_bytes = 1_461)),
        ("faster than --delay", audio(|audio| audio.configured_server_delay_ns = Some(100_000_001))),
        ("unknown server delay", audio(|audio| audio.configured_server_delay_ns = None)),
        ("--delay is wrong by 5 ms", delayed(95_000_000)),
        ("--delay is wrong by more than 5 ms", delayed(94_999_999)),
        ("default capture device", audio(|audio| audio.capture = Some(CaptureResults::default()))),
    ];
    assert_warnings("measure/warnings/audio", &named(runs));
}

/// Clock readings every 50 ms, in which the wall clock gains this number of milliseconds on the monotonic clock.
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
fn each_disturbance_of_this_host_adds_a_warning() {
    let host = |timing: HostTiming| RunResults { host_timing: Some(timing), ..complete() };
    let jumps = |gains: &[i64]| host(HostTiming { clock_jumps: clock(gains), ..HostTiming::default() });
    let dropped = |times| host(HostTiming { kernel_dropped: Some(times), ..HostTiming::default() });
    let moved = |addresses: &[&str]| {
        let change = |pair: &[&str]| AddressChange { from: pair[0].parse().unwrap(), to: pair[1].parse().unwrap() };
        let address_changes = addresses.windows(2).map(change).collect();
        host(HostTiming { address_changes, ..HostTiming::default() })
    };
    // 98 of the 100 values are small, and p99 is the 99th value. The upper edge of its bucket is limited by the maximum.
    let slow = |calls: i64, wakes: i64| {
        let mut timing = HostTiming::default();
        for n in 0..100 {
            timing.send_call.record(if n < 98 { 1_000 } else { calls });
            timing.timer_error.record(if n < 98 { 1_000 } else { wakes });
        }
        host(timing)
    };
    // With fewer than 100 values, p99 would describe only the first call of a run, which is always slow.
    let schedule =
        ScheduleResults { planned_ns: 1_000_000_000, actual_ns: 4_000_000_000, ..ScheduleResults::default() };
    let slow_schedule = RunResults { schedule: Some(schedule), ..complete() };
    let mut few = HostTiming::default();
    (0..99).for_each(|_| few.send_call.record(MS));
    let runs = vec![
        ("none", jumps(&[0, 0])),
        ("nothing dropped", dropped(0)),
        ("one datagram dropped", dropped(1)),
        ("seven datagrams dropped", dropped(7)),
        ("clock forward", jumps(&[0, 1_500])),
        ("clock back", jumps(&[-20])),
        ("two jumps", jumps(&[30, 0, -500])),
        ("one change of address", moved(&["192.0.2.1", "192.0.2.9"])),
        ("two changes of address", moved(&["192.0.2.1", "192.0.2.9", "192.0.2.7"])),
        ("send calls of 100 us, timer error of 1 ms", slow(100_000, 1_000_000)),
        ("slower send calls", slow(100_100, 0)),
        ("larger timer error", slow(0, 1_100_000)),
        ("few send calls", host(few)),
        ("sending takes four times as long as planned", slow_schedule),
    ];
    assert_warnings("measure/warnings/host", &named(runs));
}

#[test]
fn inaccurate_pacing_adds_a_warning_if_packets_returned() {
    let paced = |errors_ns: &[u64], interval_ms: u64| {
        let mut pacing = PacingStats::default();
        for (n, error) in (0_u64..).zip(errors_ns) {
            let due = Time::from_millis(n * interval_ms);
            pacing.on_sent(due, due + Duration::from_nanos(*error));
        }
        RunResults { pacing: Some(pacing), ..complete() }
    };
    let outliers = |count| [vec![5_000; 100 - count], vec![3_000_000; count]].concat();
    let drift = |last| [[1_000; 10], [last; 10]].concat();
    let mut imprecise = HostTiming::default();
    (0..1_000).for_each(|_| (imprecise.send_call.record(5 * MS), imprecise.timer_error.record(5 * MS)).0);
    let imprecise = RunResults { host_timing: Some(imprecise), ..paced(&[5_000_000], 1) };
    let runs = vec![
        ("1 ms", paced(&[1_000_000, 5_000], 1)),
        ("1.1 ms", paced(&[1_100_000, 5_000], 1)),
        ("one of 100 errors is large", paced(&outliers(1), 1)),
        ("two of 100 errors are large", paced(&outliers(2), 1)),
        ("small drift", paced(&drift(90_000), 1_000)),
        ("drift", paced(&drift(500_000), 1_000)),
        ("pacing, send calls and timers", imprecise.clone()),
        ("the same without replies", RunResults { ping: Some(all_lost()), ..imprecise }),
    ];
    assert_warnings("measure/warnings/pacing", &named(runs));
}

#[test]
fn unknown_loss_direction_is_reported_with_its_cause() {
    let lossy = StreamStats { sent: 103, lost: 3, ..stream(StreamStats::new(), [MS; 100]) };
    let with = |ping: &StreamStats, response_received, pings: Option<u32>| {
        let received = pings.map(|pings| [0, pings, 0]);
        let loss_report = LossReport { response_received, received, ..LossReport::default() };
        RunResults { loss_report: Some(loss_report), ..probe(ping.clone()) }
    };
    let interrupted = RunResults { interrupted: Some(StopSignal::Interrupt), ..with(&lossy, true, None) };
    let runs = vec![
        ("not requested", probe(lossy.clone())),
        ("not reported", with(&lossy, true, None)),
        ("not answered", with(&lossy, false, None)),
        ("interrupted", interrupted),
        ("known", with(&lossy, true, Some(101))),
        ("nothing lost", with(&stream(StreamStats::new(), [MS; 100]), false, None)),
    ];
    assert_warnings("measure/warnings/loss-direction", &named(runs));
}

#[test]
fn closed_moqt_connection_after_a_pause_of_this_host_is_attributed_to_it() {
    let closed = |paused_ms: i64| {
        let failure = Some(MoqtFailure::Closed { code: 1, reason: "reset by peer".to_owned() });
        let moqt = Some(MoqtResults { failure, ..MoqtResults::new(Transport::Quic, "track", 1) });
        let pauses = PauseResults { count: 1, total_ns: (paused_ms * MS).cast_unsigned(), recent: Vec::new() };
        RunResults { host_timing: Some(HostTiming::default()), moqt, pauses, ..probe(StreamStats::new()) }
    };
    assert_warnings("measure/warnings/moqt", &named(vec![("5 s", closed(5_000)), ("4.999 s", closed(4_999))]));
}
