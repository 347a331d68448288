//! Limits and signals: exit codes of `send` and `probe`, and the corresponding reports.

use std::time::Duration;
use test_support::client;

use client::packet::{AUDIO, KEEPALIVE};
use client::program::{self, run};
use client::server::{Server, ServerAction};
use client::wav::Wav;
use client::{at_once, document};
use serde_json::{Value, json};

/// The minimum delay of each delayed reply.
const SLOW: Duration = Duration::from_millis(60);

#[test]
fn round_trip_limits_are_met_and_exceeded() {
    let cases = [
        ("--count 100 --max-p50 50ms", 1, "rtt_p50_us", ""),
        ("--count 100 --max-p50 30s", 0, "rtt_p50_us", ""),
        ("--count 100 --max-p99 50ms", 1, "rtt_p99_us", ""),
        ("--count 100 --max-p99 30s", 0, "rtt_p99_us", ""),
        ("--count 99 --max-p99 50ms", 1, "rtt_max_us", "99"),
        ("--count 1 --max-p50 50ms", 1, "rtt_max_us", "1"),
    ];
    at_once(cases, |(options, code, measure, note)| {
        let server = Server::with_delay(SLOW, |_| ServerAction::Reply);
        let output = run(&format!("probe {options} --interval 1ms --to {} --json", server.to()));
        assert_eq!(output.code, code, "{options}: {output:?}");
        let report = document::report(&output);
        let [limit] = &report["limits"].as_array().unwrap()[..] else { panic!("{report:#}") };
        assert_eq!((&limit["figure"], &limit["passed"]), (&json!(measure), &json!(code == 0)));
        let allowed = if options.contains("30s") { 30e6 } else { 50e3 };
        assert_eq!(limit["allowed"], allowed);
        assert!(limit["measured"].as_f64().unwrap() >= 60e3, "{limit:#}");
        assert_eq!(limit["note"].is_string(), !note.is_empty(), "{limit:#}");
        let reasons = report["verdict"]["reasons"].as_array().unwrap();
        assert_eq!(reasons.len(), code as usize, "{reasons:?}");
    });
}

#[test]
fn loss_limit_is_exact() {
    // One of 20 packets is lost, which is 5 %.
    for (limit, code) in [("5%", 0), ("4.999%", 1), ("0%", 1), ("0", 1), ("100%", 0)] {
        let server =
            Server::with_actions(
                |packet| if packet.index() == 6 { ServerAction::Silence } else { ServerAction::Reply },
            );
        let output =
            run(&format!("probe --count 20 --interval 1ms --timeout 300ms --max-loss {limit} --to {}", server.to()));
        assert_eq!(output.code, code, "{limit}: {output:?}");
        let (verdict, word) = if code == 0 { ("PASSED", "met") } else { ("FAILED", "exceeded") };
        assert!(output.stdout.lines().last().unwrap().starts_with(verdict), "{}", output.stdout);
        assert!(output.stdout.contains(&format!(": 5 %, {word}")), "{}", output.stdout);
    }
}

#[test]
fn jitter_limit_is_met_and_exceeded() {
    at_once([("5ms", 1), ("30s", 0)], |(limit, code)| {
        // Every second reply takes 60 ms longer, so the mean jitter approaches 60 ms.
        let server =
            Server::with_actions(
                |packet| if packet.index() % 2 == 0 { ServerAction::Reply } else { ServerAction::Later(SLOW) },
            );
        let output =
            run(&format!("probe --count 30 --interval 100ms --max-jitter {limit} --to {} --json", server.to()));
        assert_eq!(output.code, code, "{output:?}");
        let report = document::report(&output);
        let jitter = report["streams"]["ping"]["jitter_mean_us"].as_f64().unwrap();
        assert!((5e3..30e6).contains(&jitter), "{jitter}");
        assert_eq!(report["limits"][0]["measured"], jitter);
    });
}

#[test]
fn send_evaluates_audio_without_the_server_delay() {
    let cases = [
        ("--delay 0 --max-p50 50ms", 1),
        ("--delay 60ms --max-p50 30s --max-loss 0% --max-p99 30s --max-jitter 30s", 0),
    ];
    at_once(cases, |(limits, code)| {
        let server = Server::with_audio(|_| ServerAction::Later(SLOW));
        let output = run(&format!("send --tone 440 --duration 100ms {limits} --to {} --json", server.to()));
        assert_eq!(output.code, code, "{output:?}");
        let report = document::report(&output);
        assert_eq!(report["evaluated_stream"], "audio");
        assert_eq!(report["verdict"]["limits_set"], true);
    });
}

#[test]
fn limit_without_data_is_exceeded() {
    let server = Server::silent();
    let output =
        run(&format!("probe --count 3 --interval 1ms --timeout 100ms --max-p50 30s --to {} --json", server.to()));
    assert_eq!(output.code, 1, "{output:?}");
    let report = document::report(&output);
    assert_eq!((&report["limits"][0]["measured"], &report["limits"][0]["passed"]), (&Value::Null, &json!(false)));
    assert_eq!(report["verdict"]["reasons"], json!(["no replies received"]));
}

#[test]
fn signal_ends_a_run_with_a_partial_report_and_its_own_exit_code() {
    let lines = [
        "probe --count 0 --interval 1ms --json",
        "probe --count 0 --interval 1ms --packet audio --json",
        "send --tone 440 --delay 0 --json",
    ];
    // Under `nohup`, the program ignores SIGHUP.
    let hangup = (!jamjam_dev::io::os::is_hangup_ignored()).then_some(("HUP", 129, "SIGHUP"));
    let signals: Vec<_> = [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM")].into_iter().chain(hangup).collect();
    let cases = lines.iter().flat_map(|line| signals.iter().map(move |signal| (line, *signal)));
    let cases = cases.flat_map(|(line, signal)| ["native", "portable"].map(|driver| (line, signal, driver)));
    at_once(cases, |(line, (signal, code, name), driver)| {
        let server = Server::correct();
        let line = format!("{line} --to {} --driver {driver} --spin 0", server.to());
        let program = program::start_line(&line);
        server.wait_for(100);
        program.signal(signal);
        let output = program.end();
        assert_eq!(output.code, code, "{line}: {output:?}");
        let report = document::report(&output);
        assert_eq!(report["interrupted"], name);
        let stream = report["evaluated_stream"].as_str().unwrap();
        let [sent, returned, lost, in_flight] =
            document::counts(&report, stream, ["sent", "returned", "lost", "in_flight"]);
        assert!(sent >= 90 && returned > 0, "{report:#}");
        assert_eq!((lost, sent), (0, returned + in_flight));
    });
}

#[test]
fn interrupted_wait_and_run_without_replies_are_reported() {
    at_once([("--wait-for 1h", false), ("", true)], |(option, sends_no_keepalives)| {
        let server = Server::silent();
        let line = format!("probe {option} --count 0 --to {}", server.to());
        let program = program::start_line(&line);
        server.wait_for(3);
        program.signal("INT");
        let output = program.end();
        assert_eq!(output.code, 130, "{output:?}");
        assert!(output.stdout.lines().next().unwrap().contains("interrupted by SIGINT"), "{}", output.stdout);
        assert!(output.stdout.contains("\nfailed: "), "{}", output.stdout);
        assert!(output.stdout.contains("\nINTERRUPTED: "), "{}", output.stdout);
        assert_eq!(server.received_of(KEEPALIVE).is_empty(), sends_no_keepalives);
    });
}

#[test]
fn interrupted_recording_is_a_valid_wav_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("take.wav");
    let server = Server::correct();
    let line = format!("send --tone 440 --delay 0 --json --to {} --record", server.to());
    let mut command = program::command(line.split_whitespace());
    let program = program::start(command.arg(&file));
    server.wait_for(100);
    program.signal("INT");
    let output = program.end();
    assert_eq!(output.code, 130, "{output:?}");
    let report = document::report(&output);
    let recorded = Wav::read(&file).samples();
    let [sent, returned] = document::counts(&report, "audio", ["sent", "returned"]);
    assert_eq!(recorded.len() as u64, sent * 128);
    assert_eq!(report["audio"]["recorded_samples"], sent * 128);
    let samples: Vec<f32> = server.received_of(AUDIO).iter().flat_map(client::packet::Packet::samples).collect();
    let returned = returned as usize * 128;
    assert!(recorded[..returned] == samples[..returned] && recorded[returned..].iter().all(|sample| *sample == 0.0));
}

#[test]
fn every_output_line_is_json_and_the_last_is_the_report() {
    let lines = [
        "probe --count 40 --interval 1ms",
        "probe --count 40 --interval 1ms --packet keepalive",
        "send --tone 440 --duration 106.67ms --delay 0",
    ];
    let cases = lines.iter().flat_map(|line| ["native", "portable"].map(|driver| (line, driver)));
    at_once(cases, |(line, driver)| {
        let evaluated = if line.starts_with("send") { AUDIO } else { 0 };
        let server = Server::with_actions(move |packet| match packet.index() {
            _ if evaluated == AUDIO && packet.kind != AUDIO => ServerAction::Reply,
            3 | 7 => ServerAction::Silence,
            5 => ServerAction::Times(3),
            12 => ServerAction::Damage,
            13 => ServerAction::DamageThenReply,
            _ => ServerAction::Reply,
        });
        let to = server.to();
        let output = run(&format!("{line} --timeout 500ms --to {to} --driver {driver} --spin 0 --json-lines"));
        assert_eq!(output.code, 1, "{output:?}");
        let (packets, report) = document::lines(&output);
        let stream = report["evaluated_stream"].as_str().unwrap();
        let of = |outcome: &str| {
            packets.iter().filter(|line| line["stream"] == stream && line["outcome"] == outcome).count()
        };
        // Two lines have the outcome `damaged`: packet 12 and the first copy of packet 13. Packet 12 has no other line.
        assert_eq!(["returned", "duplicate", "damaged", "lost", "in_flight"].map(of), [37, 2, 2, 2, 0]);
        for line in &packets {
            let times = ["sent_us", "returned_us", "echo_time_us"].map(|name| line[name].as_f64());
            match times {
                [Some(sent), Some(returned), Some(trip)] => {
                    assert!(sent >= 0.0 && (returned - sent - trip).abs() < 0.01, "{line}");
                }
                [Some(_), None, None] => assert_eq!(line["outcome"], "lost"),
                _ => panic!("{line}"),
            }
        }
        let counts = document::counts(&report, stream, ["returned", "duplicated", "damaged_copies", "lost"]);
        assert_eq!(counts, [37, 2, 2, 2]);
    });
}
