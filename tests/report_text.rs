//! The summary as a person reads it, and the caveats in it.

use std::time::Duration;

use jamjam_dev::report::limits::Limits;
use jamjam_dev::report::run::{AudioRun, Command, Run, Signal, StreamKind};
use jamjam_dev::report::{Report, text};
use jamjam_dev::stats::{Pacing, Stream};
use jamjam_dev::time::Time;

const MS: i64 = 1_000_000;

fn stream(mut stream: Stream, round_trips: impl IntoIterator<Item = i64>) -> Stream {
    for ns in round_trips {
        stream.on_return(ns);
    }
    stream.sent = stream.returned;
    stream
}

fn probe(ping: Stream) -> Run {
    Run { ping: Some(ping), ..Run::new(Command::Probe, "127.0.0.1:5000", StreamKind::Ping) }
}

fn send(audio: AudioRun) -> Run {
    Run { audio: Some(audio), ..Run::new(Command::Send, "127.0.0.1:5000", StreamKind::Audio) }
}

fn summary(run: &Run, limits: &Limits) -> String {
    text::summary(&Report::new(run, limits), false)
}

/// The notes of a run without limits.
fn notes(run: &Run) -> Vec<String> {
    let summary = summary(run, &Limits::default());
    summary.lines().filter_map(|line| line.strip_prefix("note: ").map(str::to_owned)).collect()
}

fn last_line(run: &Run, limits: &Limits) -> String {
    summary(run, limits).lines().last().unwrap().to_owned()
}

#[test]
fn a_probe_that_lost_one_packet() {
    let mut ping = stream(Stream::new(), (0..99).map(|n| 40_000 + n * 500));
    (ping.sent, ping.lost) = (100, 1);
    let run = Run { duration_ns: 1_003_000_000, ..probe(ping) };
    let limits = Limits { max_loss: Some(0.0), max_p99: Some(Duration::from_millis(5)), ..Limits::default() };
    // Each |D| is 500 ns but for none: J climbs from 31.25 towards 500; mean 424 ns, last 499 ns.
    let expected = "\
probe of 127.0.0.1:5000, 1.003 s

                      LATENCY_PING
sent                           100
returned                        99
lost                             1
loss                           1 %
damaged                          0
duplicated                       0
reordered                        0
round trips                     99
round trip min             40.0 µs
round trip mean            64.5 µs
round trip p50             64.5 µs
round trip p90             84.5 µs
round trip max             89.0 µs
jitter mean                 0.4 µs
jitter max                  0.5 µs

histogram of LATENCY_PING's round trip
        40.0 µs to 45.0 µs  ████████████████████████████████████████ 10
        45.0 µs to 50.0 µs  ████████████████████████████████████████ 10
        50.0 µs to 55.0 µs  ████████████████████████████████████████ 10
        55.0 µs to 60.0 µs  ████████████████████████████████████████ 10
        60.0 µs to 65.0 µs  ████████████████████████████████████████ 10
        65.0 µs to 70.0 µs  ████████████████████████████████████████ 10
        70.0 µs to 75.0 µs  ████████████████████████████████████████ 10
        75.0 µs to 80.0 µs  ████████████████████████████████████████ 10
        80.0 µs to 85.0 µs  ████████████████████████████████████████ 10
              from 85.0 µs  ████████████████████████████████████ 9

limit --max-loss 0 %: 1 %, broken
limit --max-p99 5.000 ms: 89.0 µs, kept (too few samples for p99 (99): the maximum is judged)

note: only 99 round trips: a p99 takes 100

FAILED: --max-loss 0 % broken: 1 %
";
    assert_eq!(summary(&run, &limits), expected);
}

#[test]
fn a_send_that_was_interrupted() {
    let audio = AudioRun {
        stream: Stream { reordered: 1, late: 2, ..stream(Stream::relative(), [100_060_000; 1_000]) },
        sample_rate: 48_000,
        channels: 1,
        frame_samples: 128,
        payload_bytes: 512,
        recorded_samples: Some(128_000),
        ..AudioRun::default()
    };
    let mut pacing = Pacing::default();
    for n in 0..1_000 {
        let due = Time::from_millis(n * 10);
        pacing.on_sent(due, due + Duration::from_micros(if n < 999 { 2 } else { 900 }));
    }
    let run = Run {
        duration_ns: 10_100_000_000,
        late_after_ns: Some(1_000_000),
        ping: Some(stream(Stream::new(), [60_000, 60_000, 70_000])),
        keepalive: Some(Stream { sent: 3, in_flight: 3, ..Stream::new() }),
        pacing: Some(pacing),
        interrupted: Some(Signal::Interrupt),
        stray: 1,
        ..send(audio)
    };
    let expected = "\
send to 127.0.0.1:5000, 10.100 s, interrupted by SIGINT
audio: 48000 Hz, 1 channel, 128 samples a packet (512 payload bytes)

                             AUDIO  LATENCY_PING     KEEPALIVE
sent                          1000             3             3
returned                      1000             3             0
lost                             0             0             0
loss                           0 %           0 %             -
damaged                          0             0             0
duplicated                       0             0             0
reordered                        1             0             0
late                             2             0             0
in flight                        0             0             3
round trips                   1000             3             0
round trip min             60.0 µs       60.0 µs             -
round trip mean            60.0 µs       63.3 µs             -
round trip p50             60.0 µs       60.0 µs             -
round trip p90             60.0 µs             -             -
round trip p99             60.0 µs             -             -
round trip p99.9           60.0 µs             -             -
round trip max             60.0 µs       70.0 µs             -
jitter mean                 0.0 µs        0.3 µs             -
jitter max                  0.0 µs        0.6 µs             -

histogram of AUDIO's round trip
              from 60.0 µs  ████████████████████████████████████████ 1000

hold                  100.000 ms (given -, estimated 100.000 ms)
echo time             min 100.060 ms, p50 100.060 ms, p99 100.060 ms, max 100.060 ms
recorded              128000 samples
pacing error          p50 2.0 µs, p99 2.0 µs, p99.9 2.0 µs, max 900.0 µs
pacing error p50      first 5 s 2.0 µs, last 5 s 2.0 µs
stray                 1

note: 3 KEEPALIVE packets could still have been answered when the run was interrupted: neither returned nor lost
note: 1 datagram belonged to no stream of this run

PASSED: answers came back; no limits were set
";
    assert_eq!(summary(&run, &Limits::default()), expected);
}

#[test]
fn a_probe_that_heard_nothing() {
    let run = Run { duration_ns: 3_000_000_000, ..probe(Stream { sent: 100, lost: 100, ..Stream::new() }) };
    let expected = "\
probe of 127.0.0.1:5000, 3.000 s

                      LATENCY_PING
sent                           100
returned                         0
lost                           100
loss                         100 %
damaged                          0
duplicated                       0
reordered                        0
round trips                      0

note: no LATENCY_PING came back; there are three usual reasons
  1. nothing listens on that port, and the host says \"port unreachable\": it was not seen
  2. the host or the port is wrong, or a firewall drops UDP: nothing at all answered, so look here first: try \
`jamjam-dev probe --embedded`, then `jamjam-dev probe` on the server's own machine; where both pass, it is the way between
  3. what listens there does not answer LATENCY_PING: then something else would answer; nothing did

FAILED: nothing came back
";
    assert_eq!(summary(&run, &Limits::default()), expected);
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
            "1 LATENCY_PING datagram came back with other bytes than were sent: the server or a box on the way changes them"
        ]
    );
}

#[test]
fn a_bar_of_one_beside_a_bar_of_thousands_is_seen() {
    let run = probe(stream(Stream::new(), [vec![1_000; 9_900], vec![3_000], vec![5_000; 150]].concat()));
    let summary = summary(&run, &Limits::default());
    assert!(summary.contains("3.0 µs to 4.0 µs  █ 1\n"), "{summary}");
}

#[test]
fn a_closed_port_is_told_from_a_silent_path() {
    let lost = || probe(Stream { sent: 100, lost: 100, ..Stream::new() });
    let [port, path, _] = reasons(&Run { refused: 12, ..lost() });
    assert!(port.ends_with("seen 12 times, so this is it"), "{port}");
    assert!(path.ends_with("something answered, so this is not it"), "{path}");
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
    assert!(server.ends_with("2 LATENCY_PING came back, so this is it: give --hold or a longer --timeout"), "{server}");
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
            "2 LATENCY_PING datagrams came back with other bytes than were sent: the server or a box on the way changes them"
        ]
    );
    assert_eq!(
        notes(&ping(Stream { send_failed: 1, ..Stream::new() })),
        ["1 LATENCY_PING packet could not be sent and count as lost"]
    );
    assert_eq!(
        notes(&ping(Stream { unmatched: 3, ..Stream::new() })),
        ["3 LATENCY_PING datagrams answered nothing we sent: from a run before, or somebody else's"]
    );
    assert_eq!(
        notes(&Run { refused: 1, ..ping(Stream::new()) }),
        ["the host said \"port unreachable\" during the run: did the server start late or stop early?"]
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
    assert_eq!(audio(|audio| audio.underruns = 2), ["the source was not ready for 2 packets, sent as silence"]);
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
        ["no LATENCY_PING came back, so the server's hold is unknown and with it AUDIO's round trip: give --hold"]
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
fn the_last_line_is_the_verdict() {
    let fine = probe(stream(Stream::new(), [MS; 100]));
    let limits = Limits { max_loss: Some(0.0), ..Limits::default() };
    assert_eq!(last_line(&fine, &Limits::default()), "PASSED: answers came back; no limits were set");
    assert_eq!(last_line(&fine, &limits), "PASSED: every limit was kept");
    let silent = Run { answers_expected: false, ..probe(Stream { sent: 5, in_flight: 5, ..Stream::new() }) };
    assert_eq!(
        last_line(&silent, &Limits::default()),
        "PASSED: everything was sent; no answers were expected, no limits were set"
    );
}

#[test]
fn colour_adds_escape_codes_and_nothing_else() {
    let report = Report::new(&probe(Stream { sent: 5, lost: 5, ..Stream::new() }), &Limits::default());
    let (plain, coloured) = (text::summary(&report, false), text::summary(&report, true));
    assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31mFAILED\x1b[0m"));
    let mut stripped = coloured;
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
}
