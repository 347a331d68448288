//! Real documents against the published schema, which describes each field, and text reports against the rows in `docs/measuring.md`.

use crate::report::runs::machine;
use crate::report::runs::websocket;
use crate::report::runs::{link, moqt};
use std::collections::HashSet;
use std::time::Duration;

use boon::{Compiler, SchemaIndex, Schemas};
use jamjam_core::audio::jitter_buffer::{BufferDepth, JitterBufferStats};
use jamjam_core::audio::quality::{Analyzer, PacketFormat, ReturnStatus, SourceMeter, SourceQuality};
use jamjam_core::stats::{DriftEstimate, FinalOutcome, HostTiming, PacingStats, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioResults, LossReport, RunKind, RunResults, ServerResults, StopSignal, StreamKind, WaitResult,
};
use jamjam_measure::client::{CaptureResults, PacketOutcome, PlaybackResults, RecordedPacket};
use jamjam_measure::report::json::{JsonLine, PacketLine};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::{Report, json, text};
use serde_json::{Value, json};

use machine::machine;

const MS: i64 = 1_000_000;
const MEASURING: &str = include_str!("../../../../../docs/measuring.md");
const SCHEMA: &str = include_str!("../../../../../docs/report.schema.json");

fn every_limit() -> Limits {
    let limit = |ms| Some(Duration::from_millis(ms));
    Limits { max_loss: Some(0.01), max_p50: limit(5), max_p99: limit(20), max_jitter: limit(1) }
}

fn stream(mut stream: StreamStats, round_trips: impl IntoIterator<Item = i64>) -> StreamStats {
    for ns in round_trips {
        stream.on_return(Time::ZERO, ns);
    }
    stream.sent = stream.returned;
    stream
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

/// A run that captures sound from a device. In this run, every kind of capture event occurs.
fn captured() -> RunResults {
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
    run
}

/// A run that plays the returned sound on a device. In this run, every kind of playback event occurs.
fn played() -> RunResults {
    let mut run = run_without_anomalies();
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
            7 => analyzer.on_returned(index, &[0.0; 128], ReturnStatus::Damaged),
            _ => analyzer.on_returned(index, packet, ReturnStatus::Intact),
        }
    }
    let mut run = run_without_anomalies();
    let audio = run.audio.as_mut().unwrap();
    (audio.source_quality, audio.quality, audio.quality_dropped) =
        (Some(intake.source_quality()), Some(analyzer.finish()), 2);
    run
}

fn probe(ping: StreamStats) -> RunResults {
    RunResults { ping: Some(ping), ..RunResults::new(RunKind::Probe, "127.0.0.1:5000", StreamKind::Ping) }
}

/// A run in which every counter is nonzero.
fn run_with_all_anomalies() -> RunResults {
    let mut run = run_without_anomalies();
    for stream in [run.audio.as_mut().map(|audio| &mut audio.stats), run.ping.as_mut()].into_iter().flatten() {
        stream.sent += 60;
        (stream.lost, stream.damaged, stream.in_flight, stream.send_failed) = (30, 20, 10, 5);
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
    RunResults {
        port_unreachable: 2,
        stray: 3,
        interrupted: Some(StopSignal::Terminate),
        host_timing: Some(machine()),
        server: Some(ServerResults::default()),
        ..run
    }
}

/// The client sent 1,000 pings, and 30 pings received no reply. The server received 980 of the 1,000 pings.
fn reported() -> RunResults {
    let server_report = LossReport {
        response_received: true,
        mapped_address: Some(([192, 0, 2, 1], 7).into()),
        received: Some([0, 980, 0]),
        samples: Vec::new(),
    };
    let ping = StreamStats { sent: 1_000, lost: 30, ..stream(StreamStats::new(), vec![MS; 970]) };
    RunResults { loss_report: Some(server_report), ..probe(StreamStats { sent: 1_000, ..ping }) }
}

pub(super) fn runs() -> Vec<(&'static str, RunResults)> {
    let lost = StreamStats { sent: 100, lost: 100, ..StreamStats::new() };
    let endless = StreamStats { sent: u64::MAX / 2, ..stream(StreamStats::new(), (0..5_000).map(|n| n * 777)) };
    let interrupted = StreamStats { sent: 3, in_flight: 3, ..StreamStats::new() };
    let unknown_server_delay =
        AudioResults { stats: stream(StreamStats::with_rtt_baseline(), [3_000 * MS]), ..AudioResults::default() };
    let in_vain = Some(WaitResult { waited_ns: 10_000_000_000, reply_received: false });
    let half_minute = |n| if n % 50 == 3 { FinalOutcome::Lost } else { FinalOutcome::Returned { rtt: 10 * MS } };
    let mut runs = vec![
        ("half a minute", probe(super::time_series::stream(StreamStats::new(), 1_500, half_minute))),
        ("all well", run_without_anomalies()),
        ("all wrong", run_with_all_anomalies()),
        ("captured", captured()),
        ("played", played()),
        ("audio quality", analyzed(|n| if n % 2 == 0 { 1.0 } else { -1.0 })),
        ("audio quality of silence", analyzed(|_| 0.0)),
        ("all lost", probe(lost.clone())),
        ("refused", RunResults { port_unreachable: 100, host_timing: Some(HostTiming::default()), ..probe(lost) }),
        ("one answer", probe(stream(StreamStats::new(), [MS]))),
        ("endless", probe(endless)),
        (
            "loss report without a response",
            RunResults { loss_report: Some(LossReport::default()), ..probe(stream(StreamStats::new(), [MS])) },
        ),
        ("loss report", reported()),
        ("interrupted", RunResults { interrupted: Some(StopSignal::Interrupt), ..probe(interrupted.clone()) }),
        ("no echo", RunResults { replies_expected: false, ..probe(interrupted) }),
        ("wait timed out", RunResults { readiness_wait: in_vain, ..probe(StreamStats::new()) }),
        ("nothing at all", RunResults::new(RunKind::Probe, "", StreamKind::Keepalive)),
        ("hold unknown", RunResults { audio: Some(unknown_server_delay), ping: None, ..run_without_anomalies() }),
    ];
    runs.extend(websocket::websocket_runs());
    runs.extend(moqt::moqt_runs());
    runs.extend(link::link_runs());
    runs
}

/// The line of a packet that was sent 500 ns late. The times are in nanoseconds after the start of counting.
fn packet_line(
    stream: StreamKind,
    sequence: u32,
    sent_ns: u64,
    returned_ns: Option<u64>,
    outcome: PacketOutcome,
) -> PacketLine {
    let started = Time::from_millis(1);
    let at = |ns| started + Duration::from_nanos(ns);
    let (due, sent_at, received_at) =
        (at(sent_ns).saturating_sub(Duration::from_nanos(500)), at(sent_ns), returned_ns.map(at));
    PacketLine::from((RecordedPacket { stream, sequence, due, sent_at, received_at, outcome }, started))
}

fn documents() -> Vec<(String, Value)> {
    let mut documents = Vec::new();
    for (name, run) in runs() {
        for (suffix, limits) in [("", Limits::default()), (", limits", every_limit())] {
            let text = json::document(&Report::new(&run, &limits)).unwrap();
            documents.push((format!("{name}{suffix}"), serde_json::from_str(&text).unwrap()));
        }
    }
    let baseline = super::comparison::baseline(&super::comparison::run(130, 1, 10, 1.0));
    for (name, seconds) in [("comparison", 130), ("too short for a comparison", 60)] {
        let new = super::comparison::run(seconds, 2, 30, 1.0);
        let text = json::document(&Report::new(&new, &Limits::default()).compared_with(&new, &baseline)).unwrap();
        documents.push((name.to_owned(), serde_json::from_str(&text).unwrap()));
    }
    let lines = [
        packet_line(StreamKind::Audio, u32::MAX, 1_000, Some(3_500), PacketOutcome::Returned),
        packet_line(StreamKind::Ping, 0, 0, Some(1), PacketOutcome::Duplicate),
        packet_line(StreamKind::Keepalive, 0, 0, Some(1), PacketOutcome::Damaged),
        packet_line(StreamKind::Keepalive, 1, 5, None, PacketOutcome::Lost),
        packet_line(StreamKind::Keepalive, 1, 5, None, PacketOutcome::InFlight),
    ];
    for packet in lines {
        let text = json::line(&JsonLine::Packet(packet)).unwrap();
        documents.push((format!("{packet:?}"), serde_json::from_str(&text).unwrap()));
    }
    documents
}

fn schema() -> (Schemas, SchemaIndex) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let schema = serde_json::from_str(SCHEMA).unwrap();
    compiler.add_resource("report.schema.json", schema).unwrap();
    let index = compiler.compile("report.schema.json", &mut schemas).unwrap();
    (schemas, index)
}

/// Calls `see` with every object in `value` and its path.
fn objects(value: &Value, at: &str, see: &mut dyn FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            see(at, map);
            map.iter().for_each(|(key, value)| objects(value, &format!("{at}/{key}"), see));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| objects(value, &format!("{at}/{index}"), see));
        }
        _ => {}
    }
}

#[test]
fn every_document_matches_the_schema() {
    let (schemas, index) = schema();
    for (name, document) in documents() {
        if let Err(error) = schemas.validate(&document, index) {
            panic!("{name}: {error:#}");
        }
    }
}

#[test]
fn schema_rejects_an_unknown_field_at_any_position() {
    let (schemas, index) = schema();
    let mut places = 0;
    for (name, document) in documents() {
        let mut found = Vec::new();
        objects(&document, "", &mut |at, _| found.push(at.to_owned()));
        for at in found {
            let mut planted = document.clone();
            planted.pointer_mut(&at).unwrap()["surprise"] = json!(1);
            assert!(schemas.validate(&planted, index).is_err(), "{name}: an unknown field in {at} was accepted");
            places += 1;
        }
    }
    assert!(places > 100, "only {places} places tried");
}

#[test]
fn schema_requires_every_field() {
    let (schemas, index) = schema();
    for (name, document) in documents() {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        objects(&document, "", &mut |at, map| {
            // One of several equal objects in an array is sufficient, such as one second of a time series.
            let keys: Vec<String> = map.keys().cloned().collect();
            let names: Vec<&str> = at.split('/').filter(|name| name.parse::<usize>().is_err()).collect();
            if seen.insert((names.join("/"), keys.clone())) {
                found.extend(keys.into_iter().map(|key| (at.to_owned(), key)));
            }
        });
        for (at, key) in found {
            let mut cut = document.clone();
            cut.pointer_mut(&at).unwrap().as_object_mut().unwrap().remove(&key);
            assert!(schemas.validate(&cut, index).is_err(), "{name}: {at} without {key} was accepted");
        }
    }
}

#[test]
fn every_limit_compares_a_printed_figure() {
    let (mut printed, mut compared) = (HashSet::new(), HashSet::new());
    for (_, document) in documents() {
        objects(&document["streams"], "", &mut |_, map| printed.extend(map.keys().cloned()));
        objects(&document["audio_quality"], "", &mut |_, map| printed.extend(map.keys().cloned()));
        let limits = document["limits"].as_array().into_iter().flatten();
        compared.extend(limits.map(|limit| limit["figure"].as_str().unwrap().to_owned()));
    }
    assert_eq!(compared.len(), 5, "4 limits, and the maximum instead of p99: {compared:?}");
    assert!(compared.is_subset(&printed), "{compared:?}");
}

/// The schema requires every printed field (see above), so these are all fields.
#[test]
fn schema_describes_every_field() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut described = 0;
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        objects(definition, name, &mut |at, map| {
            let is_condition = ["/if/", "/then/", "/else/"].iter().any(|part| at.contains(part));
            for (field, value) in map.iter().filter(|_| at.ends_with("/properties") && !is_condition) {
                let text = value["description"].as_str().unwrap_or_default();
                assert!(text.ends_with('.'), "{at}/{field} has no description");
                described += 1;
            }
        });
    }
    assert!(described > 250, "{described}");
}

#[test]
fn every_text_label_is_in_the_table_of_rows() {
    // In the text summary, each row begins with its label. The table names labels in inline code.
    let (_, table) = MEASURING.split_once("## Rows of the text report").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let labels: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
    let mut seen = std::collections::BTreeSet::new();
    for (name, run) in runs() {
        let summary = text::details(&Report::new(&run, &every_limit()), false);
        for line in summary.lines().skip(1) {
            let Some((label, _)) = line.split_once("  ").filter(|(label, _)| !label.is_empty()) else { continue };
            assert!(labels.contains(&label), "{name}: {label:?} is not defined");
            seen.insert(label.to_owned());
        }
    }
    assert_eq!(seen.len(), 54, "{seen:?}");
}

#[test]
fn link_is_printed_with_its_fields() {
    let report = Report::new(&link::all_counts(), &Limits::default());
    let document: Value = serde_json::from_str(&json::document(&report).unwrap()).unwrap();
    let expected = json!({
        "signed": true, "encrypted": true, "setup_ms": 2.5, "dropped_not_opened": 1, "dropped_replayed": 2, "dropped_no_keys": 3,
        "dropped_plain": 4, "dropped_key_exchange": 5, "connection_failure": null
    });
    assert_eq!(document["link"], expected);
    let text = text::summary(&report, false);
    let row = "encrypted, signed; set up in 2.500 ms; dropped: 1 not opened, 2 replayed, 3 sealed without keys, 4 plain, 5 with a refused key";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("warning: 13 packets of the server did not belong to the link"), "{text}");
    assert!(text.contains("warning: 2 packets of the server arrived more than once"), "{text}");
    for (name, run) in link::link_runs().into_iter().skip(2) {
        let report = Report::new(&run, &Limits::default());
        assert_eq!(report.verdict.reasons, ["no encrypted link within 5s"], "{name}");
        assert_eq!((report.warnings.len(), report.warnings[0].code), (1, "connection_failure"), "{name}");
    }
}

#[test]
fn moqt_run_is_printed_with_its_fields() {
    let report = Report::new(&moqt::all_kinds(), &Limits::default());
    let document: Value = serde_json::from_str(&json::document(&report).unwrap()).unwrap();
    let expected = json!({
        "transport": "webtransport", "version": "gomoqt-2025-02", "track": "japan, kyoto, text", "frames_per_group": 2, "retried_path": null,
        "groups_sent": 10, "groups_returned": 7, "groups_lost": 2, "groups_in_flight": 1, "frames_missing": 3,
        "groups_stopped": 4, "groups_dropped": 1,
        "dns_ms": 3.0, "quic_ms": 4.0, "webtransport_ms": 5.0, "session_ms": 6.0, "subscribe_ms": 7.0,
        "connection_failure": null
    });
    assert_eq!(document["moqt"], expected);
    let text = text::details(&report, false);
    for line in [
        "MOQT over WebTransport, version gomoqt-2025-02: japan, kyoto, text; 2 frames per group",
        "groups                10 sent, 7 returned, 2 lost, 1 in flight, 4 stopped by the server, 1 dropped before they were sent \
         completely; 3 frames missing in other groups",
        "connection setup      DNS 3.000 ms, QUIC 4.000 ms, CONNECT 5.000 ms, session 6.000 ms, subscription 7.000 ms",
        "warning: QUIC loses no data, so missing frames have another cause. The server did not return 2 groups and 3 frames in other \
         groups in time. If a client reads too slowly, a jamjam-dev server drops the oldest groups. If --delay makes a jamjam-dev \
         server store too much data, the server drops the newest groups. A gomoqt server must first register its subscription to the \
         client's track. The server rejects groups that arrive earlier",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
}

#[test]
fn known_run_has_known_figures() {
    let mut ping = StreamStats::new();
    for ns in [1_000, 2_000, 1_500] {
        ping.on_return(Time::ZERO, ns);
    }
    (ping.sent, ping.lost) = (4, 1);
    let report = Report::new(&RunResults { duration_ns: 1_500_000, ..probe(ping) }, &Limits::default());
    let document: Value = serde_json::from_str(&json::document(&report).unwrap()).unwrap();
    let ping = &document["streams"]["ping"];
    let expected = json!({
        "sent": 4, "not_sent": 0, "returned": 3, "lost": 1, "lost_upstream": null, "lost_downstream": null,
        "dropped_by_this_host": 0, "dropped_by_server_host": 0, "damaged": 0, "in_flight": 0,
        "loss_ratio": 0.25,
        "duplicated": 0, "damaged_copies": 0, "reordered": 0, "unmatched": 0, "send_failed": 0,
        "rtt_count": 3, "rtt_min_us": 1.0, "rtt_mean_us": 1.5, "rtt_p50_us": 1.5, "rtt_p90_us": null,
        "rtt_p99_us": null, "rtt_p999_us": null, "rtt_max_us": 2.0,
        "rtt_histogram": [
            {"from_us": 1.0, "to_us": 2.0, "count": 2}, {"from_us": 2.0, "to_us": null, "count": 1}
        ],
        // The transit differences |D| of RFC 3550 are 1,000 and 500 ns. J is first 62.5, then 62.5 + 437.5/16 = 89.84375. The mean is
        // 76.171875 ns, rounded to 76.
        "jitter_count": 2, "jitter_mean_us": 0.076, "jitter_max_us": 0.09,
        "burst_lengths": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "burst_max": 0, "reordered_ratio": 0.0,
        "reorder_extent_mean": null, "reorder_extent_max": 0, "reorder_late_time_offset_max_us": null,
        // The median 1.5 and the maximum 2, both minus the minimum 1.
        "pdv_p50_us": 0.5, "pdv_p99_us": null, "pdv_p999_us": null, "pdv_max_us": 1.0,
        "ipdv_count": 0, "ipdv_min_us": null, "ipdv_max_us": null,
        "ipdv_abs_mean_us": null, "ipdv_abs_p50_us": null, "ipdv_abs_p99_us": null
    });
    assert_eq!(*ping, expected);
    assert_eq!((&document["type"], &document["schema_version"]), (&json!("report"), &json!(1)));
    assert_eq!((&document["duration_ms"], &document["verdict"]["passed"]), (&json!(1.5), &json!(true)));
    assert_eq!((&document["streams"]["audio"], &document["audio"]), (&Value::Null, &Value::Null));
}

#[test]
fn send_fields_have_their_values() {
    let document = serde_json::to_value(Report::new(&run_without_anomalies(), &Limits::default())).unwrap();
    let at = |pointer: &str| document.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone();
    let expected = [
        ("/command", json!("send")),
        ("/target", json!("echo.example:5000")),
        ("/started_unix_ms", json!(1_795_000_000_000u64)),
        ("/duration_ms", json!(5_433.333_333)),
        ("/evaluated_stream", json!("audio")),
        ("/timeout_ms", json!(2_000.0)),
        ("/readiness_wait", json!({"waited_ms": 12.345_678, "reply_received": true})),
        ("/interrupted", Value::Null),
        ("/audio/echo_time_min_us", json!(100_000.0)),
        ("/audio/echo_time_max_us", json!(101_999.0)),
        ("/audio/sample_rate_hz", json!(48_000)),
        ("/audio/server_delay_ms", json!(99.0)),
        ("/audio/recorded_samples", json!(256_000)),
        ("/streams/audio/rtt_min_us", json!(1_000.0)),
        ("/streams/audio/rtt_max_us", json!(2_999.0)),
    ];
    for (pointer, value) in expected {
        assert_eq!(at(pointer), value, "{pointer}");
    }
    let near = |pointer: &str, exact: f64| {
        let found = at(pointer).as_f64().unwrap();
        assert!(exact <= found && found - exact < 2.0, "{pointer}: {found} for {exact}");
    };
    // The 2,000 echo times are 100 ms plus 0 to 1,999 µs. p50 is the 1,000th echo time, and p99 is the 1,980th. The histogram buckets of
    // these two values are 512 and 1,024 ns wide.
    near("/audio/echo_time_p50_us", 100_999.0);
    near("/audio/echo_time_p99_us", 101_979.0);
}

#[test]
fn input_device_statistics_appear_in_json_and_text() {
    let report = Report::new(&captured(), &Limits::default());
    let expected = json!({
        "device": "hw:0 (A card)", "device_format": "I24", "device_rate_hz": 44_100, "device_channels": 2,
        "requested_buffer_frames": 128, "reported_buffer_frames": 120, "callback_min_frames": 60, "callback_max_frames": 120,
        "captured_frames": 1_234_567, "overruns": 2, "overrun_frames": 300, "overrun_first_at_frame": 48_000, "xruns": 1,
        "drift_ppm": -12.346, "drift_uncertainty_ppm": 0.125, "drift_span_s": 28, "device_lost": "it has disappeared"
    });
    assert_eq!(serde_json::to_value(&report.capture).unwrap(), expected);
    let text = text::details(&report, false);
    for line in [
        "capture device: hw:0 (A card), I24, 2 channels, 44100 Hz",
        "captured              1234567 frames, 60 to 120 per callback (requested buffer: 128 frames)",
        "overruns              2; 300 frames lost, first at frame 48000",
        "capture xruns         1",
        "capture clock         -12.3 ppm, ± 0.1, over 28 s",
        "warning: the capture device was lost during the run: it has disappeared",
        "warning: the sender did not read the capture device in time (2 times). The sent audio lacks 300 frames. The missing audio \
         was not replaced with silence",
        "warning: the capture device or its driver lost audio of unknown length (1 time): try a larger --device-buffer",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
    }
}

#[test]
fn playback_statistics_appear_in_json_and_text() {
    let mut run = played();
    let report = Report::new(&run, &Limits::default());
    let expected = json!({
        "device": "loud\u{7}", "device_format": "I16", "device_rate_hz": 44_100, "device_channels": 2, "requested_buffer_frames": 256,
        "reported_buffer_frames": 240, "jitter_buffer_ms": 10.0, "played": 900, "concealed": 17, "late": 11, "late_max_ms": 4.25,
        "early": 2, "skipped": 5, "queue_full": 3, "unplayed": 216, "non_finite_samples": 1, "resyncs": 1, "depth_min_ms": 14.7, "depth_mean_ms": 15.123, "depth_max_ms": 15.8,
        "jitter_allowance_ms": 10.0, "device_latency_ms": 5.333, "rate_correction_ppm": -45.312, "xruns": 2, "drift_ppm": 37.5,
        "drift_uncertainty_ppm": 1.86, "drift_span_s": 11, "device_lost": "it has disappeared"
    });
    assert_eq!(serde_json::to_value(&report.playback).unwrap(), expected);
    let text = text::details(&report, false);
    for line in [
        "playback device: loud , I16, 2 channels, 44100 Hz",
        "played                900 packets; 17 concealed; 11 late, by up to 4.250 ms; 5 skipped; 2 early; 216 unplayed at the end",
        "jitter buffer         depth 15.1 ms (14.7 to 15.8), jitter allowance 10.000 ms; 1 resync",
        "playback latency      5.333 ms, reported by the device",
        "playback xruns        2",
        "playback clock        +37.5 ppm, ± 1.9, over 11 s; played 45.3 ppm slower at the end",
        "warning: the playback device was lost during the run: it has disappeared; later audio was not played",
        "warning: the playback queue was full and dropped 3 packets. The device stopped, or too many packets arrived at once",
        "warning: the playback device ran out of audio (2 times): try a larger --device-buffer",
        "warning: 11 packets arrived too late to be played. A larger --jitter-buffer, or auto, plays more packets but adds delay",
        "warning: 1 NaN or infinite sample replaced with 0 before playback",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
    }
    // No errors, nothing played yet, and nothing pending.
    let playback = run.audio.as_ref().unwrap().playback.clone().unwrap();
    run.audio.as_mut().unwrap().playback = Some(PlaybackResults {
        jitter_buffer: None,
        dropped: 0,
        unplayed: 0,
        xruns: 0,
        drift: None,
        failure: None,
        jitter_buffer_stats: JitterBufferStats {
            jitter_allowance: Duration::from_millis(5),
            ..JitterBufferStats::default()
        },
        ..playback
    });
    let report = Report::new(&run, &Limits::default());
    let text = text::details(&report, false);
    for line in [
        "played                0 packets; 0 concealed",
        "jitter buffer         nothing played, jitter allowance auto, 5.000 ms",
        "playback clock        - (needs 10 s); no rate correction",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
    }
    assert!(!text.contains("playback xruns") && !text.contains("warning: the playback device"), "{text}");
}

#[test]
fn device_without_errors_takes_two_lines_of_text() {
    let mut run = run_without_anomalies();
    let capture =
        CaptureResults { device: "x\u{1b}[2J".to_owned(), sample_format: "F32".into(), ..CaptureResults::default() };
    run.audio.as_mut().unwrap().capture = Some(CaptureResults {
        frames: 256,
        callback_frames: (128, 128),
        requested_buffer_frames: 128,
        channels: 1,
        ..capture
    });
    let text = text::details(&Report::new(&run, &Limits::default()), false);
    assert!(text.contains("capture device: x [2J, F32, 1 channel, 0 Hz\n"), "{text}");
    assert!(
        text.contains("captured              256 frames, 128 per callback (requested buffer: 128 frames)\n"),
        "{text}"
    );
    assert!(text.contains("capture clock         - (needs 10 s)\n"), "{text}");
    assert!(
        !text.contains("overruns") && !text.contains("xruns") && !text.contains("warning: the capture device"),
        "{text}"
    );
}

#[test]
fn maximum_jitter_differs_from_the_last_jitter() {
    // The transit differences |D| of RFC 3550 are 1,600 and 0 ns: J = 100, then 93.75.
    let run = probe(stream(StreamStats::new(), [0, 1_600, 1_600]));
    let document = serde_json::to_value(Report::new(&run, &Limits::default())).unwrap();
    assert_eq!(document["streams"]["ping"]["jitter_max_us"], json!(0.1));
    assert_eq!(document["streams"]["ping"]["jitter_mean_us"], json!(0.097));
}

#[test]
fn microseconds_have_at_most_three_decimals() {
    for (name, document) in documents() {
        objects(&document, "", &mut |at, map| {
            for (key, value) in map.iter().filter(|(key, _)| key.ends_with("_us")) {
                let text = value.to_string();
                let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
                assert!(decimals <= 3, "{name}: {at}/{key} is {text}");
            }
        });
    }
}

#[test]
fn json_lines_are_single_lines_and_the_last_is_the_document() {
    let packet = packet_line(StreamKind::Audio, 7, 1_500, Some(4_000), PacketOutcome::Returned);
    assert_eq!(
        json::line(&JsonLine::Packet(packet)).unwrap(),
        "{\"type\":\"packet\",\"stream\":\"audio\",\"sequence\":7,\"due_us\":1.0,\"sent_us\":1.5,\"returned_us\":4.0,\
         \"echo_time_us\":2.5,\"outcome\":\"returned\"}\n"
    );
    let report = Report::new(&run_with_all_anomalies(), &every_limit());
    let line = json::line(&JsonLine::Report(&report)).unwrap();
    assert_eq!(line.matches('\n').count(), 1);
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(parse(&line), parse(&json::document(&report).unwrap()));
}

#[test]
fn audio_quality_appears_in_json_and_text() {
    // A square wave at full scale: every sample is 1.0 or −1.0, so all samples count as clipped. 128 samples are 2.667 ms.
    let run = analyzed(|n| if n % 2 == 0 { 1.0 } else { -1.0 });
    let report = Report::new(&run, &Limits::default());
    let document: Value = serde_json::from_str(&json::document(&report).unwrap()).unwrap();
    let level = |clips, samples| {
        json!({
            "peak_dbfs": 0.0, "rms_dbfs": 0.0, "clips": clips, "clipped_samples": samples, "first_clip_at_ms": 0.0,
            "non_finite_samples": 0
        })
    };
    // The returned audio has 896 samples: 128 samples are silence, and 768 samples have full scale. The RMS level is the square root of
    // 768/896, which is -0.669 dB.
    let mut returned = level(4, 768);
    returned["rms_dbfs"] = json!(-0.669);
    let expected = json!({
        "gaps": 2, "gap_packets": 3, "gap_ms": 8.0, "gap_ratio": 0.3, "gap_max_ms": 5.333,
        "gap_max_at_ms": 2.667, "gap_packets_overflow": 0,
        "gap_list": [
            {"at_ms": 2.667, "duration_ms": 5.333, "first_packet": 1, "packets": 2},
            {"at_ms": 13.333, "duration_ms": 2.667, "first_packet": 5, "packets": 1}
        ],
        "sent_levels": [level(1, 1_280)], "sent_silent": false,
        "source_clips": 1, "source_clipped_samples": 1_280, "source_first_clip_at_ms": 0.0, "source_silence_ms": 0.0,
        "source_non_finite_samples": 0, "source_replaced_samples": 0,
        "returned_levels": [returned], "returned_silent": false, "damaged_packets": 1,
        "alignment": "insufficient_audio", "shift_samples": null, "correlation": null, "gain_db": null, "quality_dropped": 2
    });
    assert_eq!(document["audio_quality"], expected);
    let text = text::details(&report, false);
    for line in [
        "gaps                  2, 8.000 ms in total (30 %), longest 5.333 ms; at 0.003 s (5.333 ms), 0.013 s (2.667 ms)",
        "level                 sent peak 0.0 dBFS, RMS 0.0 dBFS, clipped 1 time; returned peak 0.0 dBFS, RMS -0.7 dBFS, clipped 4 times",
        "alignment             - (the returned audio of damaged packets is too short or silent)",
        "warning: the sent audio is clipped 1 time, first at 0.0 \u{b5}s: the source is too loud",
        "warning: gaps, levels and alignment do not cover 2 packets: this host was too slow to analyze all audio",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn non_finite_samples_appear_in_json_and_text() {
    let limits = Limits::default();
    // Packets 1 and 9 contain one NaN sample each. Packet 1 is missing, and packet 9 returned. The echo of packet 7 contained only silence.
    let report = Report::new(&analyzed(|n| if n % 1_000 == 200 { f32::NAN } else { 0.5 }), &limits);
    let document: Value = serde_json::from_str(&json::document(&report).unwrap()).unwrap();
    let found = &document["audio_quality"];
    assert_eq!([&found["source_non_finite_samples"], &found["source_replaced_samples"]], [2, 0]);
    assert_eq!(
        [&found["sent_levels"][0]["non_finite_samples"], &found["returned_levels"][0]["non_finite_samples"]],
        [2, 1]
    );
    let text = text::details(&report, false);
    for line in [
        "level                 sent peak -6.0 dBFS, RMS -6.0 dBFS, 2 NaN or infinite samples; returned peak -6.0 dBFS, RMS -6.7 dBFS, 1 NaN or infinite sample",
        "warning: 2 NaN or infinite samples in the source (sent unchanged): playback programs output noise or silence for these samples",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
    }
    let mut run = analyzed(|_| 0.5);
    let taken = SourceQuality { rate: 44_100, non_finite_samples: 1, replaced_samples: 1, ..SourceQuality::default() };
    run.audio.as_mut().unwrap().source_quality = Some(taken);
    let text = text::details(&Report::new(&run, &limits), false);
    let line = "warning: 1 NaN or infinite sample in the source (replaced with 0)";
    assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
}

#[test]
fn silent_microphone_adds_a_warning() {
    let mut run = analyzed(|_| 0.0);
    let note = |run: &RunResults| text::details(&Report::new(run, &Limits::default()), false);
    assert!(note(&run).contains("warning: the sent audio is digital silence: check the source"), "{}", note(&run));
    assert!(
        note(&run).contains("level                 sent digital silence; returned digital silence\n"),
        "{}",
        note(&run)
    );
    run.audio.as_mut().unwrap().capture = Some(CaptureResults::default());
    let server_report = "warning: the microphone delivered only digital silence. The microphone may be muted, or this program may lack permission";
    assert!(note(&run).contains(server_report), "{}", note(&run));
}
