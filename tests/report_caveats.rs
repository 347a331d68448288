//! What a person who knows measuring would add to the numbers.

use std::time::Duration;

use jamjam_dev::flow::run::{AudioRun, Run};
use jamjam_dev::report::Report;
use jamjam_dev::report::limits::Limits;
use jamjam_dev::stats::{Pacing, Stream};
use jamjam_dev::time::Time;

mod runs;

use runs::{MS, probe, send, stream};

/// The notes of a run without limits.
fn notes(run: &Run) -> Vec<String> {
    Report::new(run, &Limits::default()).caveats.into_iter().map(|caveat| caveat.text).collect()
}

/// The three reasons that a run which heard nothing is given.
fn reasons(run: &Run) -> [String; 3] {
    let report = Report::new(run, &Limits::default());
    <[String; 3]>::try_from(report.caveats[0].points.clone()).unwrap()
}

#[test]
fn what_came_back_damaged_is_not_called_silence() {
    let run = probe(Stream { sent: 1, damaged: 1, damaged_copies: 1, ..Stream::new() });
    assert_eq!(
        notes(&run),
        [
            "1 LATENCY_PONG datagram came back with other bytes than were sent: the server or a box on the way changes them"
        ]
    );
}

#[test]
fn a_closed_port_is_told_from_a_silent_path() {
    let lost = || probe(Stream { sent: 100, lost: 100, ..Stream::new() });
    let [port, path, _] = reasons(&Run { refused: 12, ..lost() });
    assert!(port.ends_with("both say \"port unreachable\": seen 12 times, so look here first"), "{port}");
    assert!(path.ends_with("\"port unreachable\" came, so hardly this"), "{path}");
    let [port, path, _] = reasons(&lost());
    assert!(port.ends_with("it was not seen") && path.contains("look here first"), "{port} {path}");
}

#[test]
fn answered_pings_beside_silent_audio_point_at_the_server() {
    let audio = AudioRun { stream: Stream { sent: 375, lost: 375, ..Stream::relative() }, ..AudioRun::default() };
    let run = Run { ping: Some(stream(Stream::new(), [MS, MS])), ..send(audio) };
    let [_, path, server] = reasons(&run);
    assert!(path.ends_with("something answered, so this is not it"), "{path}");
    assert!(server.starts_with("no echo server listens there, or it holds AUDIO longer"), "{server}");
    assert!(server.ends_with("2 LATENCY_PONG came, so this is it: give --hold or a longer --timeout"), "{server}");
}

#[test]
fn datagrams_that_answer_nothing_point_at_another_server() {
    let run = Run { stray: 4, ..probe(Stream { sent: 9, lost: 9, unmatched: 1, ..Stream::new() }) };
    let [_, _, server] = reasons(&run);
    assert!(server.ends_with("5 datagrams came that answer nothing we sent, so this is it"), "{server}");
}

#[test]
fn a_clean_run_has_no_notes() {
    assert_eq!(notes(&probe(stream(Stream::new(), [MS; 100]))), [""; 0]);
    let silent = Stream { sent: 100, in_flight: 100, ..Stream::new() };
    assert_eq!(notes(&Run { answers_expected: false, ..probe(silent) }), [""; 0]);
}

#[test]
fn each_oddity_is_named() {
    let ping = |ping: Stream| probe(Stream { sent: 200, ..stream(ping, [MS; 100]) });
    assert_eq!(notes(&probe(stream(Stream::new(), [MS]))), ["only 1 round trip: a p99 takes 100"]);
    assert_eq!(
        notes(&ping(Stream { damaged: 1, damaged_copies: 2, ..Stream::new() })),
        [
            "2 LATENCY_PONG datagrams came back with other bytes than were sent: the server or a box on the way changes them"
        ]
    );
    assert_eq!(
        notes(&ping(Stream { send_failed: 1, ..Stream::new() })),
        ["1 LATENCY_PING packet could not be sent and count as lost"]
    );
    assert_eq!(
        notes(&ping(Stream { unmatched: 3, ..Stream::new() })),
        ["3 LATENCY_PONG datagrams answered nothing we sent: from a run before, or somebody else's"]
    );
    assert_eq!(
        notes(&Run { refused: 1, ..ping(Stream::new()) }),
        [
            "\"port unreachable\" came during the run: did the server start late or stop early, or does a firewall reject now \
          and then?"
        ]
    );
}

#[test]
fn each_oddity_of_audio_is_named() {
    let audio = |change: fn(&mut AudioRun)| {
        let stream = stream(Stream::relative(), [100 * MS; 100]);
        let mut audio = AudioRun { stream, hold_given_ns: Some(100_000_000), ..AudioRun::default() };
        change(&mut audio);
        notes(&send(audio))
    };
    assert_eq!(audio(|_| ()), [""; 0]);
    assert_eq!(
        audio(|audio| audio.underruns = 2),
        ["the source was not ready for 2 packets when they were due: they left late"]
    );
    assert_eq!(audio(|audio| audio.record_dropped = 1), ["the recording lacks 1 packet that came back"]);
    assert_eq!(audio(|audio| audio.payload_bytes = 1_460), [""; 0]);
    assert_eq!(
        audio(|audio| audio.payload_bytes = 1_461),
        [
            "1461 payload bytes do not fit one Ethernet frame: each packet travels in pieces, and one lost piece loses it"
        ]
    );
    assert_eq!(
        audio(|audio| audio.hold_given_ns = Some(100_000_001)),
        ["AUDIO came back sooner than --hold says: the server holds it for less"]
    );
    assert_eq!(
        audio(|audio| audio.hold_given_ns = None),
        ["no LATENCY_PONG came, so the server's hold is unknown and with it AUDIO's round trip: give --hold"]
    );
}

#[test]
fn a_hold_that_differs_from_what_was_seen_is_named() {
    // Echo times of 103 ms and pings of 3 ms: the server holds 100 ms.
    let run = |given| {
        let stream_of_audio = stream(Stream::relative(), [103 * MS; 100]);
        let audio = AudioRun { stream: stream_of_audio, hold_given_ns: Some(given), ..AudioRun::default() };
        notes(&Run { ping: Some(stream(Stream::new(), [3 * MS])), ..send(audio) })
    };
    assert_eq!(run(95_000_000), [""; 0]);
    assert_eq!(run(94_999_999), ["--hold says 95.000 ms, the server seems to hold 100.000 ms"]);
}

#[test]
fn a_pacing_error_over_a_millisecond_asks_for_care_with_jitter() {
    let run = |micros: &[u64]| {
        let mut pacing = Pacing::default();
        for (n, micros) in micros.iter().enumerate() {
            let due = Time::from_millis(n as u64);
            pacing.on_sent(due, due + Duration::from_micros(*micros));
        }
        notes(&Run { pacing: Some(pacing), ..probe(stream(Stream::new(), [MS; 100])) })
    };
    assert_eq!(run(&[1_000, 5]), [""; 0]);
    assert_eq!(run(&[1_100, 5]), ["own pacing error maximum was 1.100 ms: read jitter with care"]);
    // One straggler in a hundred is beyond p99; two are not.
    let mut errors = vec![5; 100];
    errors[50] = 3_000;
    assert_eq!(run(&errors), [""; 0]);
    errors[51] = 3_000;
    assert_eq!(run(&errors), ["own pacing error p99 was 3.000 ms: read jitter with care"]);
}

#[test]
fn a_drift_of_our_own_pacing_is_named() {
    let run = |last: u64| {
        let mut pacing = Pacing::default();
        for second in 0..20 {
            let due = Time::from_millis(second * 1_000);
            pacing.on_sent(due, due + Duration::from_nanos(if second < 10 { 1_000 } else { last }));
        }
        notes(&Run { pacing: Some(pacing), ..probe(stream(Stream::new(), [MS; 100])) })
    };
    assert_eq!(run(90_000), [""; 0]);
    assert_eq!(run(500_000), ["own pacing drifted: median error 1.0 µs at first, 500.0 µs at last"]);
}

#[test]
fn a_hold_estimated_from_few_pings_is_said() {
    let run = |pings: usize| {
        let mut run = send(AudioRun { stream: stream(Stream::relative(), [100 * MS; 100]), ..AudioRun::default() });
        run.ping = Some(stream(Stream::new(), vec![MS; pings]));
        notes(&run)
    };
    assert_eq!(
        run(2),
        ["the server's hold was estimated from 2 pings: what the best of them took too long is missing from AUDIO's \
          round trips; a longer run or --hold makes them firm"]
    );
    assert_eq!(run(3), [""; 0]);
}
