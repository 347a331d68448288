//! Real documents against the published schema, against the sections of the documentation and against snapshots.

use std::fmt::Write;
use std::time::Duration;

use jamjam_core::audio::jitter_buffer::{BufferDepth, JitterBufferStats};
use jamjam_core::audio::quality::{Analyzer, PacketFormat, SourceMeter, SourceQuality};
use jamjam_core::stats::{
    AddressChange, DriftEstimate, FinalOutcome, HostTiming, PacingStats, ReorderedPacket, StreamStats,
};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioResults, CaptureResults, LossReport, PacketOutcome, PauseResults, PlaybackResults, RecordedPacket, RunKind,
    RunResults, ScheduleResults, ServerResults, SharedRecord, StopSignal, StreamKind, WaitResult, WebSocketFailure,
    WebSocketResults,
};
use jamjam_measure::report::Report;
use jamjam_measure::report::clients::merge_clients;
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::packet_line::PacketLine;
use jamjam_measure::report::ramp::{RampFigures, RampStepFigures};
use jamjam_measure::report::targets::TargetsReport;
use jamjam_measure::run_record;
use jamjam_measure::verdict::Judged;
use jamjam_signaling::Dialect;
use serde_json::{Value, json};
use test_support::snapshot;

use crate::schema::{assert_schema, assert_section_exists, objects};

use super::runs::{self, MS, all_lost, document, machine, probe, report, stream};

fn every_limit() -> Limits {
    let limit = |ms| Some(Duration::from_millis(ms));
    Limits { max_loss: Some(0.01), max_p50: limit(5), max_p99: limit(20), max_jitter: limit(1), ..Limits::default() }
}

fn run_without_anomalies() -> RunResults {
    let audio = AudioResults {
        stats: stream(StreamStats::with_rtt_baseline(), (0..2_000).map(|n| 100 * MS + n * 1_000)),
        sample_rate: 48_000,
        channels: 1,
        frame_samples: 128,
        payload_bytes: 512,
        recorded_samples: Some(256_000),
        ..AudioResults::default()
    };
    let mut pacing = PacingStats::default();
    for second in 0..20 {
        let due = Time::from_millis(second * 500);
        pacing.on_sent(due, due + Duration::from_micros(7));
    }
    RunResults {
        started_unix_ms: 1_795_000_000_000,
        duration_ns: 5_433_333_333,
        readiness_wait: Some(WaitResult { waited_ns: 12_345_678, reply_received: true }),
        audio: Some(audio),
        ping: Some(stream(StreamStats::new(), [MS, 2 * MS, 3 * MS])),
        keepalive: Some(stream(StreamStats::new(), [MS])),
        pacing: Some(pacing),
        ..RunResults::new(RunKind::Send, "echo.example:5000", StreamKind::Audio)
    }
}

/// A run that captures and plays sound. Every kind of capture and playback event occurs.
fn devices() -> RunResults {
    let mut run = run_without_anomalies();
    run.audio.as_mut().unwrap().capture = Some(CaptureResults {
        device: "hw:0 (A card)".to_owned(),
        sample_format: "I24".into(),
        sample_rate: 44_100,
        channels: 2,
        requested_buffer_frames: 128,
        reported_buffer_frames: Some(120),
        callback_frames: (60, 120),
        frames: 1_234_567,
        overruns: 2,
        overrun_frames: 300,
        first_overrun_at: Some(48_000),
        xruns: 1,
        drift: Some(DriftEstimate { ppm: -12.345_67, uncertainty_ppm: 0.125 }),
        drift_span: Duration::from_secs(28),
        failure: Some("it has disappeared".to_owned()),
    });
    let jitter_buffer_stats = JitterBufferStats {
        played: 900,
        concealed: 17,
        late: 11,
        max_lateness: Duration::from_micros(4_250),
        early: 2,
        skipped: 5,
        non_finite_samples: 1,
        resyncs: 1,
        depth: Some(BufferDepth { min: 0.0147, mean: 0.015_123_4, max: 0.0158 }),
        jitter_allowance: Duration::from_millis(10),
        rate_correction_ppm: -45.312_49,
    };
    let playback = PlaybackResults {
        device: "loud\u{7}".to_owned(),
        sample_format: "I16".into(),
        sample_rate: 44_100,
        channels: 2,
        requested_buffer_frames: 256,
        reported_buffer_frames: Some(240),
        jitter_buffer: Some(Duration::from_millis(10)),
        device_latency: Duration::from_micros(5_333),
        dropped: 3,
        unplayed: 216,
        xruns: 2,
        drift: Some(DriftEstimate { ppm: 37.5, uncertainty_ppm: 1.86 }),
        drift_span: Duration::from_secs(11),
        failure: Some("it has disappeared".to_owned()),
        jitter_buffer_stats,
    };
    run.audio.as_mut().unwrap().playback = Some(playback);
    run
}

/// A run that captured and played a moment ago. No error occurred, and nothing was played yet.
fn devices_at_the_start() -> RunResults {
    let mut run = devices();
    let audio = run.audio.as_mut().unwrap();
    audio.capture = Some(CaptureResults {
        device: "x\u{1b}[2J".to_owned(),
        sample_format: "F32".into(),
        frames: 256,
        callback_frames: (128, 128),
        requested_buffer_frames: 128,
        channels: 1,
        ..CaptureResults::default()
    });
    let (jitter_allowance, device_latency) = (Duration::from_millis(5), Duration::from_micros(5_333));
    let jitter_buffer_stats = JitterBufferStats { jitter_allowance, ..JitterBufferStats::default() };
    let playback = PlaybackResults { device_latency, jitter_buffer_stats, ..PlaybackResults::default() };
    audio.playback = Some(PlaybackResults { sample_format: "I16".into(), ..playback });
    run
}

/// An analyzed run of ten packets of 128 samples. Packets 1, 2 and 5 are missing, and packet 7 returned damaged.
fn analyzed(sound: impl Fn(usize) -> f32) -> RunResults {
    let mut analyzer = Analyzer::new(PacketFormat { sample_rate: 48_000, channels: 1, frame_samples: 128 });
    let sound: Vec<f32> = (0..1_280).map(sound).collect();
    let mut intake = SourceMeter::new(48_000, 1, false);
    intake.add_samples(&sound);
    for (index, packet) in (0..).zip(sound.chunks(128)) {
        analyzer.on_sent(index, packet);
        match index {
            1 | 2 | 5 => analyzer.on_lost(index),
            7 => analyzer.on_damaged(index, &[0.0; 128]),
            _ => analyzer.on_returned(index, packet),
        }
    }
    let mut run = run_without_anomalies();
    let audio = run.audio.as_mut().unwrap();
    (audio.source_quality, audio.quality) = (Some(intake.source_quality()), Some(analyzer.finish()));
    audio.quality_dropped = 2;
    run
}

/// A run in which every counter is nonzero.
pub(super) fn run_with_all_anomalies() -> RunResults {
    let mut run = run_without_anomalies();
    for stream in [run.audio.as_mut().map(|audio| &mut audio.stats), run.ping.as_mut()].into_iter().flatten() {
        stream.sent += 62;
        stream.excluded = 2;
        (stream.lost, stream.damaged, stream.in_flight, stream.not_sent) = (30, 20, 10, 5);
        (stream.duplicated, stream.damaged_copies, stream.reordered) = (7, 25, 3);
        stream.unmatched = 4;
        (1..=3).for_each(|extent| stream.reorder_extent.record(extent));
        stream.reorder_late_time_offset.record(5 * MS);
        (0..30).for_each(|_| _ = stream.loss_bursts.on_settled(Time::ZERO, true));
        (0..300).for_each(|n| stream.ipdv.on_settled(Some(n % 2)));
    }
    let audio = run.audio.as_mut().unwrap();
    (audio.underruns, audio.recording_dropped, audio.payload_bytes) = (1, 1, 7_680);
    audio.configured_server_delay_ns = Some(5_000_000);
    let paused = |count, total_ns| PauseResults { count, total_ns, recent: Vec::new() };
    let server = ServerResults { pauses: paused(2, 640_000_000), dropped: 3, ..ServerResults::default() };
    let (host_timing, pauses, server) = (Some(machine()), paused(1, 5_040_000_000), Some(server));
    let interrupted = Some(StopSignal::Terminate);
    let shifts = ScheduleResults {
        shifts: 2,
        shift_total_ns: 1_250_000_000,
        shift_max_ns: 1_000_000_000,
        ..ScheduleResults::default()
    };
    let schedule = Some(ScheduleResults { planned_ns: 3_000_000_000, actual_ns: 4_251_000_000, ..shifts });
    RunResults { schedule, port_unreachable: 2, stray: 3, interrupted, host_timing, pauses, server, ..run }
}

/// The client sent 1,000 pings, and 30 pings received no reply. The server received 980 of the 1,000 pings.
fn reported() -> RunResults {
    let (mapped_address, received) = (Some(([192, 0, 2, 1], 7).into()), Some([0, 980, 0]));
    let server_report = LossReport { response_received: true, mapped_address, received, samples: Vec::new() };
    let ping = StreamStats { sent: 1_000, lost: 30, ..stream(StreamStats::new(), vec![MS; 970]) };
    RunResults { loss_report: Some(server_report), ..probe(StreamStats { sent: 1_000, ..ping }) }
}

pub(super) fn runs() -> Vec<(&'static str, RunResults)> {
    [runs_over_udp(), runs::websocket_runs(), runs::moqt_runs(), runs::link_runs()].into_iter().flatten().collect()
}

fn runs_over_udp() -> Vec<(&'static str, RunResults)> {
    let lost = all_lost();
    let endless = StreamStats { sent: u64::MAX / 2, ..stream(StreamStats::new(), (0..5_000).map(|n| n * 777)) };
    let interrupted = StreamStats { sent: 3, in_flight: 3, ..StreamStats::new() };
    let unknown_server_delay =
        AudioResults { stats: stream(StreamStats::with_rtt_baseline(), [3_000 * MS]), ..AudioResults::default() };
    let one_ms = || stream(StreamStats::new(), [MS]);
    let in_vain = Some(WaitResult { waited_ns: 10_000_000_000, reply_received: false });
    let half_minute = |n| if n % 50 == 3 { FinalOutcome::Lost } else { FinalOutcome::Returned { rtt: 10 * MS } };
    let mut runs = vec![
        ("half a minute", probe(super::time_series::stream(StreamStats::new(), 1_500, half_minute))),
        ("all well", run_without_anomalies()),
        ("all wrong", run_with_all_anomalies()),
        ("devices", devices()),
        ("devices at the start", devices_at_the_start()),
        ("audio quality", analyzed(|n| if n % 2 == 0 { 1.0 } else { -1.0 })),
        ("audio quality of silence", analyzed(|_| 0.0)),
        ("all lost", probe(lost.clone())),
        ("refused", RunResults { port_unreachable: 100, host_timing: Some(HostTiming::default()), ..probe(lost) }),
        ("one answer", probe(one_ms())),
    ];
    // In two parts, because an unoptimized build holds all elements on the stack.
    runs.extend(vec![
        ("endless", probe(endless)),
        ("no loss report", RunResults { loss_report: Some(LossReport::default()), ..probe(one_ms()) }),
        ("loss report", reported()),
        ("interrupted", RunResults { interrupted: Some(StopSignal::Interrupt), ..probe(interrupted.clone()) }),
        ("no echo", RunResults { replies_expected: false, ..probe(interrupted) }),
        ("wait timed out", RunResults { readiness_wait: in_vain, ..probe(StreamStats::new()) }),
        ("nothing at all", RunResults::new(RunKind::Probe, "", StreamKind::Keepalive)),
        ("clients", several_clients()),
        ("hold unknown", RunResults { audio: Some(unknown_server_delay), ping: None, ..run_without_anomalies() }),
    ]);
    runs
}

/// Two clients, of which the second is worse.
fn several_clients() -> RunResults {
    let clients = [[MS; 100], [2 * MS; 100]].map(|times| (probe(stream(StreamStats::new(), times)), 40_000));
    let (mut run, mut record) =
        (merge_clients(clients.into_iter(), &Limits::default()).unwrap(), SharedRecord::default());
    (0..200).map(Time::from_millis).for_each(|due| record.pacing.on_sent(due, due));
    record.add_to(&mut run);
    run
}

/// The report of a ramp with a step of each kind.
fn ramp_report() -> Report {
    let step = |clients, result, us: Option<f64>| RampStepFigures {
        clients,
        result,
        loss_ratio: us.map(|_| 0.0),
        rtt_p50_us: us,
        rtt_p99_us: us,
        jitter_mean_us: us,
        lateness_p99_us: us,
        reason: String::new(),
    };
    let steps = vec![step(1, Judged::Met, Some(1.5)), step(2, Judged::Exceeded, None)];
    let ramp = Some(RampFigures { clients: 1, result: "1 client".to_owned(), steps });
    Report { ramp, ..report(&several_clients()) }
}

/// The line of a packet that was sent 500 ns late. The times are in nanoseconds after the start of counting.
fn packet_line(stream: StreamKind, sequence: u32, sent: u64, back: Option<u64>, outcome: PacketOutcome) -> PacketLine {
    let started = Time::from_millis(1);
    let at = |ns| started + Duration::from_nanos(ns);
    let (due, sent_at, received_at) = (at(sent).saturating_sub(at(500) - started), at(sent), back.map(at));
    PacketLine::from((RecordedPacket { stream, sequence, due, sent_at, received_at, outcome }, started))
}

fn documents() -> Vec<(String, Value)> {
    let mut documents = Vec::new();
    for (name, run) in runs() {
        for (suffix, limits) in [("", Limits::default()), (", limits", every_limit())] {
            let report = Report::new(&run, &limits);
            documents.push((format!("{name}{suffix}"), Value::Object(report.document().to_json())));
        }
    }
    documents.push(("ramp".to_owned(), Value::Object(ramp_report().document().to_json())));
    let targets = runs_over_udp().into_iter().map(|(_, run)| (run, None));
    let targets = TargetsReport::new(targets.take(3).collect(), &every_limit());
    documents.push(("targets".to_owned(), Value::Object(targets.document().to_json())));
    let lines = [
        packet_line(StreamKind::Audio, u32::MAX, 1_000, Some(3_500), PacketOutcome::Returned),
        packet_line(StreamKind::Ping, 0, 0, Some(1), PacketOutcome::Duplicate),
        packet_line(StreamKind::Keepalive, 0, 0, Some(1), PacketOutcome::Damaged),
        packet_line(StreamKind::Keepalive, 1, 5, None, PacketOutcome::Lost),
        packet_line(StreamKind::Keepalive, 1, 5, None, PacketOutcome::InFlight),
    ];
    for packet in lines {
        documents.push((format!("{packet:?}"), serde_json::from_str(&run_record::packet_line(packet)).unwrap()));
    }
    documents
}

#[test]
fn schema_accepts_exactly_the_fields_of_every_document() {
    let documents = documents();
    for (name, document) in &documents {
        objects(document, "", &mut |at, map| {
            for (key, value) in map.iter().filter(|(key, _)| key.ends_with("_us")) {
                let text = value.to_string();
                let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
                assert!(decimals <= 3, "{name}: {at}/{key} is {text}");
            }
        });
    }
    let places = assert_schema(&documents);
    assert!(places > 100, "only {places} places tried");
}

#[test]
fn each_diagnosis_names_a_section_of_the_documentation() {
    for (_, run) in runs() {
        let head = report(&run).head;
        head.findings.iter().chain(&head.warnings).for_each(|found| assert_section_exists(found.section));
    }
}

/// A run with loss bursts, reordering and differences of adjacent delays, of +300 ns once and of −100 ns 199 times.
fn bursts_and_reordering() -> RunResults {
    let mut ping = stream(StreamStats::new(), (0..1_000).map(|n| 5_000 + n % 2_000));
    for lost in [false, true, true, false, true] {
        ping.loss_bursts.on_settled(Time::ZERO, lost);
    }
    for (extent, late_time_offset_ns) in [(1, 2_500), (1, 1_000), (5, 500)] {
        ping.on_reordered(ReorderedPacket { extent, late_time_offset_ns });
    }
    for ns in [0, 300] {
        ping.ipdv.on_settled(Some(ns));
    }
    (0..199).for_each(|n| ping.ipdv.on_settled(Some(200 - 100 * n)));
    probe(ping)
}

/// Each percentile has its own value: the round trips are 1 to 1,000 ns, and the pacing errors twice as long.
fn percentiles() -> RunResults {
    let mut pacing = PacingStats::default();
    for n in 1..=1_000 {
        let due = Time::from_millis(n);
        pacing.on_sent(due, due + Duration::from_nanos(2 * n));
    }
    let change = AddressChange { from: "192.0.2.1".parse().unwrap(), to: "2001:db8::1".parse().unwrap() };
    let send_errors = vec!["EPERM: Operation not permitted".to_owned()];
    let host_timing = Some(HostTiming { send_errors, address_changes: vec![change], ..machine() });
    RunResults { pacing: Some(pacing), host_timing, ..probe(stream(StreamStats::new(), 1..=1_000)) }
}

/// Each member of the JSON document of a run in one line. The other formats print the same values (`html.rs`).
fn assert_report(snapshot: &str, run: &RunResults) {
    let mut lines = String::new();
    for (name, value) in report(run).document().to_json().iter().filter(|(_, value)| !value.is_null()) {
        writeln!(lines, "{name}: {value}").unwrap();
    }
    let lines = lines.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    snapshot::assert_matches(&format!("measure/json/{snapshot}"), &lines);
}

#[test]
fn figures_of_streams_match_their_snapshots() {
    // The transit differences |D| of RFC 3550 are 1,000 and 500 ns, so J is 62.5, then 62.5 + 437.5/16 = 89.84375, and 76.171875 ns on average.
    let ping = StreamStats { sent: 4, lost: 1, ..stream(StreamStats::new(), [1_000, 2_000, 1_500]) };
    assert_report("three-round-trips", &RunResults { duration_ns: 1_500_000, ..probe(ping) });
    // The 2,000 echo times are 100 ms plus 0 to 1,999 µs. p50 is the 1,000th and p99 the 1,980th, in buckets of 512 and 1,024 ns.
    assert_report("send", &run_without_anomalies());
    // Percentiles are rounded up to the edges of buckets of 4 ns. The mean difference is (300 + 199 × 100)/200 = 101 ns, the mean extent 7/3.
    assert_report("bursts-and-reordering", &bursts_and_reordering());
    assert_report("percentiles", &percentiles());
    assert_report("all-wrong", &run_with_all_anomalies());
}

#[test]
fn figures_of_devices_and_audio_quality_match_their_snapshots() {
    assert_report("devices", &devices());
    assert_report("devices-at-the-start", &devices_at_the_start());
    // Every sample of a square wave at full scale is clipped. 128 samples are 2.667 ms. Of the 896 returned samples, 128 are silence, so the RMS
    // level is the square root of 768/896, -0.669 dB.
    assert_report("square-wave", &analyzed(|n| if n % 2 == 0 { 1.0 } else { -1.0 }));
    // Packets 1, which is missing, and 9, which returned, contain one NaN sample each. The echo of packet 7 contained only silence.
    assert_report("non-finite-samples", &analyzed(|n| if n % 1_000 == 200 { f32::NAN } else { 0.5 }));
    let mut silent = analyzed(|_| 0.0);
    assert_report("silence", &silent);
    let audio = silent.audio.as_mut().unwrap();
    audio.capture = Some(CaptureResults::default());
    let replaced = SourceQuality { non_finite_samples: 1, replaced_samples: 1, ..SourceQuality::default() };
    audio.source_quality = Some(SourceQuality { rate: 44_100, ..replaced });
    assert_report("silent-microphone", &silent);
}

#[test]
fn figures_of_connections_and_servers_match_their_snapshots() {
    assert_report("link", &runs::link_with_all_counts());
    assert_report("moqt", &runs::moqt_with_all_kinds());
    assert_report("websocket", &runs::websocket_runs()[0].1);
    assert_report("websocket-rooms", &runs::websocket_runs()[5].1);
    assert_report("loss-report", &reported());
    let unanswered = RunResults { loss_report: Some(LossReport::default()), ..reported() };
    assert_report("loss-report-without-a-response", &unanswered);
    for (name, run) in runs::link_runs().into_iter().skip(2) {
        let report = report(&run);
        assert_eq!(report.head.verdict.reasons, ["no encrypted link within 5s"], "{name}");
        assert_eq!((report.head.warnings.len(), report.head.warnings[0].code), (1, "connection_failure"), "{name}");
    }
}

#[test]
fn sentences_of_this_program_are_whole_and_foreign_text_is_cut_visibly() {
    let long = "x".repeat(257);
    let cut = format!("{}\u{2026}", &long[..256]);
    let closed = WebSocketFailure::Closed { code: Some(4_000), reason: long.clone() };
    for (failure, message) in [
        (WebSocketFailure::Unreachable(long.clone()), long),
        (closed, format!("the server closed the connection with code 4000 ({cut})")),
    ] {
        let failed = WebSocketResults { failure: Some(failure), ..WebSocketResults::new(Dialect::Jamjam) };
        let run = runs::websocket_run(failed, None);
        assert_eq!(document(&run)["websocket"]["connection_failure"]["message"], *message);
        assert_eq!(report(&run).head.verdict.reasons.last(), Some(&message));
    }
}

#[test]
fn server_counts_are_clamped_to_sent_packets_and_may_wrap() {
    let lossy = |sent: u64, received: u32| {
        let ping = StreamStats { sent, lost: 3, ..stream(StreamStats::new(), [MS; 100]) };
        let loss_report = LossReport { received: Some([0, received, 0]), ..LossReport::default() };
        RunResults { loss_report: Some(loss_report), ..probe(ping) }
            .lost_by_direction(StreamKind::Ping)
            .expect("counts")[0]
    };
    let upstream = |received| lossy(103, received);
    assert_eq!([100, 101, 103].map(upstream), [3, 2, 0]);
    assert_eq!([0, 50, 99, 104, 2_000_000_000].map(upstream), [3, 3, 3, 0, 0]);
    assert_eq!(lossy((1 << 32) + 103, 101), 2, "the server's count has wrapped");
}

#[test]
fn delay_variation_needs_no_server_delay() {
    // The echo times are 3,000,000 µs, 3,000,150 µs and 3,000,050 µs. There is no ping from which the server delay could be estimated.
    let stats = stream(StreamStats::with_rtt_baseline(), [3_000_000_000, 3_000_150_000, 3_000_050_000]);
    let audio = &document(&super::runs::send(AudioResults { stats, ..AudioResults::default() }))["streams"]["audio"];
    assert_eq!((&audio["rtt_count"], &audio["rtt_p50_us"]), (&json!(0), &Value::Null));
    // The median difference to the first echo time is 50 µs, in the bucket from 49,984 to 50,015 ns.
    assert_eq!((&audio["pdv_p50_us"], &audio["pdv_max_us"]), (&json!(50.015), &json!(150.0)));
}

#[test]
fn packet_line_has_its_times_in_microseconds() {
    let packet = packet_line(StreamKind::Audio, 7, 1_500, Some(4_000), PacketOutcome::Returned);
    assert_eq!(
        run_record::packet_line(packet),
        "{\"type\":\"packet\",\"stream\":\"audio\",\"sequence\":7,\"due_us\":1.0,\"sent_us\":1.5,\"returned_us\":4.0,\
         \"echo_time_us\":2.5,\"outcome\":\"returned\"}\n"
    );
}
