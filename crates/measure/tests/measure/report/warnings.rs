//! Warnings about anomalies in a run.

use crate::report::runs;
use std::time::Duration;

use jamjam_core::stats::{AddressChange, HostTiming, PacingStats, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, MoqtFailure, MoqtResults, PauseResults, RunResults, ServerResults};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use jamjam_moqt::Transport;

use runs::{MS, probe, send, stream};

/// The warnings of a run without limits.
fn notes(run: &RunResults) -> Vec<String> {
    Report::new(run, &Limits::default()).warnings.into_iter().map(|warning| warning.message).collect()
}

/// The three possible causes listed for a run without replies, the likely one first.
fn reasons(run: &RunResults) -> [String; 3] {
    let report = Report::new(run, &Limits::default());
    <[String; 3]>::try_from(report.warnings[0].details.clone()).unwrap()
}

#[test]
fn damaged_reply_is_not_reported_as_no_reply() {
    let run = probe(StreamStats { sent: 1, damaged: 1, damaged_copies: 1, ..StreamStats::new() });
    assert_eq!(
        notes(&run),
        ["1 LATENCY_PONG datagram arrived with changed bytes. The server or a device on the path modifies packets"]
    );
}

#[test]
fn closed_port_is_distinguished_from_a_silent_path() {
    let lost = |target: &str| RunResults {
        target: target.to_owned(),
        ..probe(StreamStats { sent: 100, lost: 100, ..StreamStats::new() })
    };
    for target in ["192.0.2.1:5000", "127.0.0.1:5000"] {
        let [port, path, server] = reasons(&RunResults { port_unreachable: 12, ..lost(target) });
        let received = "(ICMP port unreachable): likely, because ICMP port unreachable was received 12 times. Check the port and the \
                        firewall, and that the server is running";
        assert!(port.ends_with(received), "{port}");
        assert!(path.ends_with(": unlikely, because ICMP port unreachable was received"), "{path}");
        assert!(server.ends_with(": unlikely, because no datagram arrived"), "{server}");
    }
    for target in ["192.0.2.1:5000", "echo.example:5000", "[2001:db8::1]:5000", "jam (192.0.2.1:5000)"] {
        let [path, port, server] = reasons(&lost(target));
        assert!(path.contains("(--allow): likely, because no datagram arrived. Run `jamjam-dev probe"), "{path}");
        assert!(port.ends_with(": unlikely, because ICMP port unreachable was not received"), "{port}");
        assert!(server.ends_with(": unlikely, because no datagram arrived"), "{server}");
    }
    // A closed port of this host always causes ICMP port unreachable, and there is no other host on the path.
    for target in ["127.0.0.1:5000", "localhost:5000", "[::1]:5000", "127.9.9.9:5000"] {
        let [server, port, path] = reasons(&lost(target));
        assert!(server.contains(": likely, because a program on this host has the port open"), "{server}");
        assert!(port.ends_with(": unlikely, because ICMP port unreachable was not received"), "{port}");
        assert!(path.ends_with(": unlikely, because the target is this host"), "{path}");
    }
}

#[test]
fn pongs_without_audio_replies_indicate_the_server() {
    let audio = AudioResults {
        stats: StreamStats { sent: 375, lost: 375, ..StreamStats::with_rtt_baseline() },
        ..AudioResults::default()
    };
    let run = RunResults { ping: Some(stream(StreamStats::new(), [MS, MS])), ..send(audio) };
    let [server, _, path] = reasons(&run);
    assert!(path.ends_with("ruled out, because other datagrams arrived"), "{path}");
    assert!(server.starts_with("the server does not return AUDIO, or its delay exceeds the run duration"), "{server}");
    assert!(
        server.ends_with(
            "likely, because 2 LATENCY_PONG datagrams arrived. Give --delay or a longer --timeout, or --link unsigned if the server \
             requires encrypted links"
        ),
        "{server}"
    );
}

#[test]
fn server_that_answered_a_query_is_an_echo_server() {
    let stats = StreamStats { sent: 5, lost: 5, ..StreamStats::with_rtt_baseline() };
    let audio = send(AudioResults { stats, ..AudioResults::default() });
    let [server, _, path] = reasons(&RunResults { server: Some(ServerResults::default()), ..audio });
    assert!(server.starts_with("the server does not return AUDIO, or its delay exceeds the run duration"), "{server}");
    assert!(server.contains(": likely, because the server answered another request"), "{server}");
    assert!(path.ends_with(": ruled out, because other datagrams arrived"), "{path}");
}

#[test]
fn unmatched_datagrams_indicate_another_server() {
    let run = RunResults { stray: 4, ..probe(StreamStats { sent: 9, lost: 9, unmatched: 1, ..StreamStats::new() }) };
    let [server, _, _] = reasons(&run);
    let arrived = ": likely, because 5 datagrams arrived without a matching request. Check the port, and that the server is an echo server";
    assert!(server.ends_with(arrived), "{server}");
}

#[test]
fn clean_run_has_no_warnings() {
    assert_eq!(notes(&probe(stream(StreamStats::new(), [MS; 100]))), [""; 0]);
    let silent = StreamStats { sent: 100, in_flight: 100, ..StreamStats::new() };
    assert_eq!(notes(&RunResults { replies_expected: false, ..probe(silent) }), [""; 0]);
}

#[test]
fn each_anomaly_adds_a_warning() {
    let ping = |ping: StreamStats| probe(StreamStats { sent: 200, ..stream(ping, [MS; 100]) });
    assert_eq!(
        notes(&probe(stream(StreamStats::new(), [MS]))),
        ["only 1 round trip measured: a 99th percentile (p99) needs 100"]
    );
    assert_eq!(
        notes(&ping(StreamStats { damaged: 1, damaged_copies: 2, ..StreamStats::new() })),
        ["2 LATENCY_PONG datagrams arrived with changed bytes. The server or a device on the path modifies packets"]
    );
    assert_eq!(
        notes(&ping(StreamStats { unmatched: 3, ..StreamStats::new() })),
        ["3 LATENCY_PONG datagrams matched no request: replies to an earlier run or to another client"]
    );
    assert_eq!(
        notes(&RunResults { port_unreachable: 1, ..ping(StreamStats::new()) }),
        ["ICMP port unreachable was received during the run. The server started late or stopped early, or a firewall \
          intermittently rejects packets"]
    );
}

#[test]
fn refused_sends_are_named_with_what_to_check() {
    for (error, check) in [
        ("EPERM: Operation not permitted", "conntrack"),
        ("EACCES: Permission denied", "prohibits the target"),
        ("ENETUNREACH: Network is unreachable", "no route"),
        ("ENOBUFS: No buffer space available", "Check the firewall, the routes and the addresses"),
    ] {
        let host_timing = HostTiming { send_errors: vec![error.to_owned()], ..HostTiming::default() };
        let refused = StreamStats { not_sent: 9, send_failed: 9, ..StreamStats::new() };
        let run = RunResults { host_timing: Some(host_timing), ..probe(refused) };
        // Nothing was sent, so no cause on the path or at the server is named.
        let [message] = <[String; 1]>::try_from(notes(&run)).unwrap();
        let beginning = format!("this host refused to send 9 LATENCY_PING packets (counted as not sent): {error}. ");
        assert!(message.starts_with(&beginning) && message.contains(check), "{message}");
    }
}

#[test]
fn change_of_address_is_named_with_both_addresses() {
    let change = |from: &str, to: &str| AddressChange { from: from.parse().unwrap(), to: to.parse().unwrap() };
    let changed = |address_changes| {
        let host_timing = HostTiming { address_changes, ..HostTiming::default() };
        let run = RunResults { host_timing: Some(host_timing), ..probe(stream(StreamStats::new(), [MS; 100])) };
        let [message] = <[String; 1]>::try_from(notes(&run)).unwrap();
        message
    };
    let once = vec![change("192.0.2.1", "192.0.2.9")];
    assert!(changed(once.clone()).starts_with("this host's address changed from 192.0.2.1 to 192.0.2.9, and"));
    let twice = [once, vec![change("192.0.2.9", "192.0.2.7")]].concat();
    assert!(changed(twice).starts_with("this host's address changed from 192.0.2.1 to 192.0.2.9 to 192.0.2.7, and"));
}

#[test]
fn closed_moqt_connection_after_a_pause_of_this_host_is_attributed_to_it() {
    let message = |paused_ms: i64| {
        let failure = Some(MoqtFailure::Closed { code: 1, reason: "reset by peer".to_owned() });
        let moqt = Some(MoqtResults { failure, ..MoqtResults::new(Transport::Quic, "track", 1) });
        let pauses = PauseResults { count: 1, total_ns: (paused_ms * MS).cast_unsigned(), recent: Vec::new() };
        let run = RunResults { host_timing: Some(HostTiming::default()), moqt, pauses, ..probe(StreamStats::new()) };
        notes(&run).remove(0)
    };
    assert!(message(5_000).ends_with(": this host paused, and the idle connection ended"));
    assert!(message(4_999).contains(": the server failed, or this client read too slowly"), "{}", message(4_999));
}

#[test]
fn each_audio_anomaly_adds_a_warning() {
    let audio = |change: fn(&mut AudioResults)| {
        let stats = stream(StreamStats::with_rtt_baseline(), [100 * MS; 100]);
        let mut audio =
            AudioResults { stats, configured_server_delay_ns: Some(100_000_000), ..AudioResults::default() };
        change(&mut audio);
        notes(&send(audio))
    };
    assert_eq!(audio(|_| ()), [""; 0]);
    assert_eq!(
        audio(|audio| audio.underruns = 2),
        ["underrun: the source delivered 2 packets too late to be sent on time"]
    );
    assert_eq!(
        audio(|audio| (audio.underruns, audio.source_paused_ns) = (1, 4_900_000_000)),
        [
            "underrun: the source delivered 1 packet too late to be sent on time. It had no audio for 4.9 s, by which the audio after it \
             was sent later"
        ]
    );
    assert_eq!(audio(|audio| audio.recording_dropped = 1), ["the recording lacks 1 returned packet"]);
    assert_eq!(audio(|audio| audio.payload_bytes = 1_460), [""; 0]);
    assert_eq!(
        audio(|audio| audio.payload_bytes = 1_461),
        [
            "1461 payload bytes do not fit in one Ethernet frame. Packets are fragmented, and a packet is lost if one fragment is lost"
        ]
    );
    assert_eq!(
        audio(|audio| audio.configured_server_delay_ns = Some(100_000_001)),
        ["AUDIO returned earlier than --delay allows: the actual server delay is shorter"]
    );
    assert_eq!(
        audio(|audio| audio.configured_server_delay_ns = None),
        ["no LATENCY_PONG received, so the server delay and the AUDIO round-trip times are unknown: give --delay"]
    );
}

#[test]
fn server_delay_mismatch_adds_a_warning() {
    // The echo times are 103 ms, and the ping takes 3 ms. Therefore, the server delay is 100 ms.
    let run = |given| {
        let stream_of_audio = stream(StreamStats::with_rtt_baseline(), [103 * MS; 100]);
        let audio =
            AudioResults { stats: stream_of_audio, configured_server_delay_ns: Some(given), ..AudioResults::default() };
        notes(&RunResults { ping: Some(stream(StreamStats::new(), [3 * MS])), ..send(audio) })
    };
    assert_eq!(run(95_000_000), [""; 0]);
    assert_eq!(run(94_999_999), ["--delay is 95.000 ms, but the measured server delay is 100.000 ms"]);
}

#[test]
fn pacing_error_above_1_ms_adds_a_jitter_warning() {
    let run = |micros: &[u64]| {
        let mut pacing = PacingStats::default();
        for (n, micros) in micros.iter().enumerate() {
            let due = Time::from_millis(n as u64);
            pacing.on_sent(due, due + Duration::from_micros(*micros));
        }
        notes(&RunResults { pacing: Some(pacing), ..probe(stream(StreamStats::new(), [MS; 100])) })
    };
    assert_eq!(run(&[1_000, 5]), [""; 0]);
    assert_eq!(run(&[1_100, 5]), ["the pacing error on this host (maximum 1.100 ms) is part of the jitter"]);
    // One outlier in a hundred does not affect p99. Two outliers affect p99.
    let mut errors = vec![5; 100];
    errors[50] = 3_000;
    assert_eq!(run(&errors), [""; 0]);
    errors[51] = 3_000;
    assert_eq!(run(&errors), ["the pacing error on this host (p99 3.000 ms) is part of the jitter"]);
}

#[test]
fn run_without_replies_has_no_warnings_about_the_precision_of_round_trips() {
    let mut pacing = PacingStats::default();
    pacing.on_sent(Time::ZERO, Time::from_millis(5));
    let mut host = HostTiming::default();
    (0..1_000).for_each(|_| host.send_call.record(5_000_000));
    (0..1_000).for_each(|_| host.timer_error.record(5_000_000));
    let run = |ping| RunResults { pacing: Some(pacing.clone()), host_timing: Some(host.clone()), ..probe(ping) };
    let codes = |run: &RunResults| -> Vec<&str> {
        Report::new(run, &Limits::default()).warnings.iter().map(|warning| warning.code).collect()
    };
    let unanswered = StreamStats { sent: 100, lost: 100, ..StreamStats::new() };
    assert_eq!(codes(&run(unanswered)), ["no_replies"]);
    let answered = codes(&run(stream(StreamStats::new(), [MS; 100])));
    assert_eq!(answered, ["slow_send_calls", "timer_error", "pacing_error"]);
}

#[test]
fn local_pacing_drift_adds_a_warning() {
    let run = |last: u64| {
        let mut pacing = PacingStats::default();
        for second in 0..20 {
            let due = Time::from_millis(second * 1_000);
            pacing.on_sent(due, due + Duration::from_nanos(if second < 10 { 1_000 } else { last }));
        }
        notes(&RunResults { pacing: Some(pacing), ..probe(stream(StreamStats::new(), [MS; 100])) })
    };
    assert_eq!(run(90_000), [""; 0]);
    assert_eq!(
        run(500_000),
        ["the pacing on this host drifted. Median error: 1.0 µs in the first 5 s, 500.0 µs in the last 5 s"]
    );
}

#[test]
fn server_delay_estimated_from_few_pings_adds_a_warning() {
    let run = |pings: usize| {
        let mut run = send(AudioResults {
            stats: stream(StreamStats::with_rtt_baseline(), [100 * MS; 100]),
            ..AudioResults::default()
        });
        run.ping = Some(stream(StreamStats::new(), vec![MS; pings]));
        notes(&run)
    };
    assert_eq!(
        run(2),
        [
            "the server delay is estimated from only 2 pings, so AUDIO round-trip times are less accurate. Use a longer run or \
          --delay"
        ]
    );
    assert_eq!(run(3), [""; 0]);
}
