//! The report as a job summary for CI systems.

use crate::report::runs;
use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_measure::client::{AudioResults, RunKind, RunResults, StopSignal, StreamKind};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::{Report, markdown, text};

use runs::{MS, probe, send, stream};

/// The summary up to the collapsed section, and that section.
fn parts(run: &RunResults, limits: &Limits, exceeded: Option<&str>) -> (String, String) {
    let summary = markdown::summary(&Report::new(run, limits), exceeded);
    let (shown, folded) = summary.split_once("<details>\n").unwrap();
    (shown.to_owned(), folded.to_owned())
}

fn shown(run: &RunResults, limits: &Limits) -> String {
    parts(run, limits, None).0
}

#[test]
fn probe_with_one_lost_packet_matches_the_expected_summary() {
    let mut ping = stream(StreamStats::new(), (0..99).map(|n| 40_000 + n * 500));
    (ping.sent, ping.lost) = (100, 1);
    let run = RunResults { duration_ns: 1_003_000_000, ..probe(ping) };
    let limits = Limits { max_loss: Some(0.0), max_p99: Some(Duration::from_millis(5)), ..Limits::default() };
    let expected = "\
## FAILED: probe 127.0.0.1:5000

--max-loss 0 % exceeded: 1 %. The run took 1.003 s.

| limit | allowed | measured | result |
| --- | ---: | ---: | --- |
| `--max-loss` | 0 % | 1 % | **exceeded** |
| `--max-p99` | 5.000 ms | 89.0 µs | met (too few samples for p99 (99): the maximum is used instead) |

| | LATENCY_PING |
| --- | ---: |
| sent | 100 |
| returned | 99 |
| lost | 1 |
| loss | 1 % |
| damaged | 0 |
| duplicated | 0 |
| reordered | 0 |
| round trip p50 | 64.5 µs |
| round trip max | 89.0 µs |
| jitter mean | 0.4 µs |

- the direction of the loss is unknown; --loss-direction requests it from a jamjam-dev server
- only 99 round trips measured: a 99th percentile (p99) needs 100

";
    assert_eq!(shown(&run, &limits), expected);
}

#[test]
fn successful_send_matches_the_expected_summary() {
    let audio = stream(StreamStats::with_rtt_baseline(), [100_060_000; 1_000]);
    let run = RunResults {
        duration_ns: 10_100_000_000,
        ping: Some(stream(StreamStats::new(), [60_000, 60_000, 70_000])),
        ..send(AudioResults { stats: audio, ..AudioResults::default() })
    };
    let expected = "\
## measured: send 127.0.0.1:5000

replies received; no limits set. The run took 10.100 s.

| | AUDIO | LATENCY_PING |
| --- | ---: | ---: |
| sent | 1000 | 3 |
| returned | 1000 | 3 |
| lost | 0 | 0 |
| loss | 0 % | 0 % |
| damaged | 0 | 0 |
| duplicated | 0 | 0 |
| reordered | 0 | 0 |
| round trip p50 | 60.0 µs | 60.0 µs |
| round trip p99 | 60.0 µs | - |
| round trip max | 60.0 µs | 70.0 µs |
| jitter mean | 0.0 µs | 0.3 µs |

- Without a jitter buffer, 0 % of the packets would be late or lost; about 3 ms one way (assuming a symmetric path, 128-sample packets and \
48 kHz; server delay and device latency not included).

";
    assert_eq!(shown(&run, &Limits::default()), expected);
}

#[test]
fn incomplete_run_has_not_passed() {
    let fine = probe(stream(StreamStats::new(), [MS; 100]));
    let heading =
        |run: &RunResults, exceeded| parts(run, &Limits::default(), exceeded).0.lines().next().unwrap().to_owned();
    assert_eq!(heading(&fine, None), "## measured: probe 127.0.0.1:5000");
    assert_eq!(heading(&fine, Some("gone")), "## ABORTED: probe 127.0.0.1:5000");
    let run = RunResults { interrupted: Some(StopSignal::Terminate), ..fine };
    assert_eq!(heading(&run, None), "## INTERRUPTED: probe 127.0.0.1:5000");
    let why = "received SIGTERM; results so far: replies received; no limits set. The run took 0.0 µs.";
    assert_eq!(shown(&run, &Limits::default()).lines().nth(2), Some(why));
}

#[test]
fn likely_causes_of_no_reply_are_a_list() {
    let run = probe(StreamStats { sent: 100, lost: 100, ..StreamStats::new() });
    let limits = Limits { max_loss: Some(0.1), max_jitter: Some(Duration::from_millis(1)), ..Limits::default() };
    let shown = shown(&run, &limits);
    let list = "
- no LATENCY\\_PONG received; possible causes:
  1. the server does not answer LATENCY\\_PING: likely, because a program on this host has the port open. Check the port, and whether the server \
restricts sources (--allow)
  2. the port is closed or a firewall rejects packets (ICMP port unreachable): unlikely, because ICMP port unreachable was not received
  3. the host is wrong, a firewall drops UDP, or the server restricts sources (--allow): unlikely, because the target is this host

";
    assert!(shown.ends_with(list), "{shown}");
    let row = "| `--max-jitter` | 1.000 ms | no data | **exceeded** (jitter needs two returned packets) |\n";
    assert!(shown.contains(row), "{shown}");
}

#[test]
fn full_report_is_in_a_collapsed_section() {
    let run = probe(stream(StreamStats::new(), [MS; 100]));
    let report = text::details(&Report::new(&run, &Limits::default()), false);
    let expected = format!("<summary>The whole report</summary>\n\n```text\n{report}```\n\n</details>\n");
    assert_eq!(parts(&run, &Limits::default(), None).1, expected);
}

#[test]
fn hostile_target_name_is_escaped() {
    let target = "a|b`c\n## d <img src=x> ~~&amp;~~ [e](f) *g* _h_ \\\n````\ni";
    let run = RunResults {
        ping: Some(stream(StreamStats::new(), [MS; 3])),
        ..RunResults::new(RunKind::Probe, target, StreamKind::Ping)
    };
    let (shown, folded) = parts(&run, &Limits::default(), Some(target));
    let escaped =
        "a\\|b\\`c \\#\\# d &lt;img src=x&gt; \\~\\~&amp;amp;\\~\\~ \\[e\\](f) \\*g\\* \\_h\\_ \\\\ \\`\\`\\`\\` i";
    let mut lines = shown.lines();
    assert_eq!(lines.next().unwrap(), format!("## ABORTED: probe {escaped}"));
    assert_eq!(lines.nth(1).unwrap().split("; results so far").next(), Some(escaped));
    // The fence is one backtick longer than the longest run of backticks inside the block. Therefore, the block ends at the right place.
    assert!(folded.starts_with("<summary>The whole report</summary>\n\n`````text\n"), "{folded}");
    assert!(folded.ends_with("\n`````\n\n</details>\n"), "{folded}");
    assert_eq!(folded.matches("`````").count(), 2, "{folded}");
}
