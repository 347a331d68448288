//! The text summary.

use crate::report::runs;
use std::time::Duration;

use jamjam_core::stats::{PacingStats, StreamStats};
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, RunResults, StopSignal};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::{Report, text};

use runs::{MS, probe, send, stream};

fn summary(run: &RunResults, limits: &Limits) -> String {
    text::details(&Report::new(run, limits), false)
}

fn last_line(run: &RunResults, limits: &Limits) -> String {
    summary(run, limits).lines().last().unwrap().to_owned()
}

#[test]
fn probe_with_one_lost_packet_matches_the_expected_text() {
    let mut ping = stream(StreamStats::new(), (0..99).map(|n| 40_000 + n * 500));
    (ping.sent, ping.lost) = (100, 1);
    let run = RunResults { duration_ns: 1_003_000_000, ..probe(ping) };
    let limits = Limits { max_loss: Some(0.0), max_p99: Some(Duration::from_millis(5)), ..Limits::default() };
    // |D| is always 500 ns, so J rises from 31.25 ns towards 500 ns. The mean of J is 424 ns, and the last value of J is 499 ns.
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

histogram of LATENCY_PING round-trip times
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

PDV                   p50 24.5 µs, p99 -, p99.9 -, max 49.0 µs

       jitter buffer          late  late or lost       one way
              0.0 ms            98          99 %        2.7 ms
              2.7 ms             0           1 %        5.4 ms
              5.3 ms             0           1 %        8.0 ms
             10.7 ms             0           1 %       13.4 ms
             16.0 ms             0           1 %       18.7 ms
             21.3 ms             0           1 %       24.0 ms
             32.0 ms             0           1 %       34.7 ms
             42.7 ms             0           1 %       45.4 ms
             64.0 ms             0           1 %       66.7 ms
             85.3 ms             0           1 %       88.0 ms
            101.3 ms             0           1 %      104.0 ms

limit --max-loss 0 %: 1 %, exceeded
limit --max-p99 5.000 ms: 89.0 µs, met (too few samples for p99 (99): the maximum is used instead)

warning: the direction of the loss is unknown; --loss-direction requests it from a jamjam-dev server
warning: only 99 round trips measured: a 99th percentile (p99) needs 100

failed: --max-loss 0 % exceeded: 1 %
FAILED: 100 sent, 1 % lost, RTT p50/max 0.065/0.089 ms
";
    assert_eq!(summary(&run, &limits), expected);
}

#[test]
fn interrupted_send_matches_the_expected_text() {
    let audio = AudioResults {
        stats: StreamStats { reordered: 1, ..stream(StreamStats::with_rtt_baseline(), [100_060_000; 1_000]) },
        sample_rate: 48_000,
        channels: 1,
        frame_samples: 128,
        payload_bytes: 512,
        recorded_samples: Some(128_000),
        ..AudioResults::default()
    };
    let mut pacing = PacingStats::default();
    for n in 0..1_000 {
        let due = Time::from_millis(n * 10);
        pacing.on_sent(due, due + Duration::from_micros(if n < 999 { 2 } else { 900 }));
    }
    let run = RunResults {
        duration_ns: 10_100_000_000,
        ping: Some(stream(StreamStats::new(), [60_000, 60_000, 70_000])),
        keepalive: Some(StreamStats { sent: 3, in_flight: 3, ..StreamStats::new() }),
        pacing: Some(pacing),
        interrupted: Some(StopSignal::Interrupt),
        stray: 1,
        ..send(audio)
    };
    let expected = "\
send to 127.0.0.1:5000, 10.100 s, interrupted by SIGINT
audio: 48000 Hz, 1 channel, 128 samples per packet (512 payload bytes)

                             AUDIO  LATENCY_PING     KEEPALIVE
sent                          1000             3             3
returned                      1000             3             0
lost                             0             0             0
loss                           0 %           0 %             -
damaged                          0             0             0
duplicated                       0             0             0
reordered                        1             0             0
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

histogram of AUDIO round-trip times
              from 60.0 µs  ████████████████████████████████████████ 1000

server delay          100.000 ms (estimated between 99.940 ms and 100.060 ms), not part of the round trips
echo time             min 100.060 ms, p50 100.060 ms, p99 100.060 ms, max 100.060 ms
recorded              128000 samples
PDV                   p50 0.0 µs, p99 0.0 µs, p99.9 0.0 µs, max 0.0 µs
pacing error          p50 2.0 µs, p99 2.0 µs, p99.9 2.0 µs, max 900.0 µs
pacing error p50      first 5 s 2.0 µs, last 5 s 2.0 µs
stray                 1

       jitter buffer          late  late or lost       one way
              0.0 ms             0           0 %        2.7 ms  recommended
              2.7 ms             0           0 %        5.4 ms
              5.3 ms             0           0 %        8.0 ms
             10.7 ms             0           0 %       13.4 ms
             16.0 ms             0           0 %       18.7 ms
             21.3 ms             0           0 %       24.0 ms
             32.0 ms             0           0 %       34.7 ms
             42.7 ms             0           0 %       45.4 ms
             64.0 ms             0           0 %       66.7 ms
             85.3 ms             0           0 %       88.0 ms
            101.3 ms             0           0 %      104.0 ms

warning: 3 KEEPALIVE packets in flight when the run was interrupted (counted neither as returned nor as lost)
warning: 1 datagram belonged to no stream of this run

finding: 0.1 % of the packets arrived out of order, up to 0 packets late. Typical causes are several parallel paths and radio links that \
retransmit lost frames.

Without a jitter buffer, 0 % of the packets would be late or lost; about 3 ms one way.
(assuming a symmetric path, 128-sample packets and 48 kHz; server delay and device latency not included)

INTERRUPTED: 1000 sent, 0 % lost, RTT p50/p99 0.06/0.06 ms, jitter buffer 0.0 ms
";
    assert_eq!(summary(&run, &Limits::default()), expected);
}

#[test]
fn probe_without_replies_matches_the_expected_text() {
    let run =
        RunResults { duration_ns: 3_000_000_000, ..probe(StreamStats { sent: 100, lost: 100, ..StreamStats::new() }) };
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

warning: no LATENCY_PONG received; possible causes:
  1. the server does not answer LATENCY_PING: likely, because a program on this host has the port open. Check the port, and whether the server \
restricts sources (--allow)
  2. the port is closed or a firewall rejects packets (ICMP port unreachable): unlikely, because ICMP port unreachable was not received
  3. the host is wrong, a firewall drops UDP, or the server restricts sources (--allow): unlikely, because the target is this host

failed: no replies received
FAILED: 100 sent, 100 % lost
";
    assert_eq!(summary(&run, &Limits::default()), expected);
}

#[test]
fn histogram_bar_of_one_value_is_visible() {
    let run = probe(stream(StreamStats::new(), [vec![1_000; 9_900], vec![3_000], vec![5_000; 150]].concat()));
    let summary = summary(&run, &Limits::default());
    assert!(summary.contains("3.0 µs to 4.0 µs  █ 1\n"), "{summary}");
}

#[test]
fn last_line_is_the_verdict() {
    let fine = probe(stream(StreamStats::new(), [MS; 100]));
    let limits = Limits { max_loss: Some(0.0), ..Limits::default() };
    assert_eq!(
        last_line(&fine, &Limits::default()),
        "measured: 100 sent, 0 % lost, RTT p50/p99 1/1 ms, jitter buffer 0.0 ms"
    );
    assert_eq!(last_line(&fine, &limits), "PASSED: 100 sent, 0 % lost, RTT p50/p99 1/1 ms, jitter buffer 0.0 ms");
    let silent =
        RunResults { replies_expected: false, ..probe(StreamStats { sent: 5, in_flight: 5, ..StreamStats::new() }) };
    assert_eq!(last_line(&silent, &Limits::default()), "measured: 5 sent, no replies expected");
}

#[test]
fn color_adds_only_escape_codes() {
    let report = Report::new(&probe(StreamStats { sent: 5, lost: 5, ..StreamStats::new() }), &Limits::default());
    let (plain, colored) = (text::details(&report, false), text::details(&report, true));
    assert!(!plain.contains('\x1b') && colored.contains("\x1b[31mFAILED\x1b[0m"));
    let mut stripped = colored;
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
}
