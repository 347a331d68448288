//! Loss direction in the report.

use crate::report::runs;
use jamjam_core::stats::StreamStats;
use jamjam_measure::client::{LossReport, RunResults, StopSignal, StreamKind};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::{Report, markdown, text};
use serde_json::{Value, json};

use runs::{MS, probe, stream};

/// A run that lost three of 103 pings, with the counters that the server reported.
fn lossy(server_report: impl Into<Option<LossReport>>) -> RunResults {
    RunResults {
        loss_report: server_report.into(),
        ..probe(StreamStats { sent: 103, lost: 3, ..stream(StreamStats::new(), [MS; 100]) })
    }
}

fn server_report(response_received: bool, pings: Option<u32>) -> LossReport {
    let mapped_address = response_received.then(|| "[2001:db8::7]:40000".parse().expect("an address"));
    LossReport { response_received, mapped_address, received: pings.map(|pings| [0, pings, 0]), samples: Vec::new() }
}

fn document(run: &RunResults) -> Value {
    serde_json::to_value(Report::new(run, &Limits::default())).unwrap()
}

fn split(run: &RunResults) -> [Value; 2] {
    let ping = &document(run)["streams"]["ping"];
    ["lost_upstream", "lost_downstream"].map(|name| ping[name].clone())
}

fn summary(run: &RunResults) -> String {
    text::details(&Report::new(run, &Limits::default()), false)
}

/// The warnings in the report of a run for which no limit (such as `--max-loss`) is set.
fn notes(run: &RunResults) -> Vec<String> {
    Report::new(run, &Limits::default()).warnings.into_iter().map(|warning| warning.message).collect()
}

#[test]
fn loss_report_appears_in_json_and_text() {
    let reported = lossy(server_report(true, Some(101)));
    assert_eq!(split(&reported), [json!(2), json!(1)]);
    assert_eq!(
        document(&reported)["loss_report"],
        json!({"response_received": true, "mapped_address": "[2001:db8::7]:40000"})
    );
    assert_eq!(split(&lossy(server_report(false, None))), [Value::Null, Value::Null]);
    assert_eq!(
        document(&lossy(server_report(false, None)))["loss_report"],
        json!({"response_received": false, "mapped_address": null})
    );
    let nothing_lost =
        RunResults { loss_report: Some(server_report(false, None)), ..probe(stream(StreamStats::new(), [MS])) };
    assert_eq!(split(&nothing_lost), [json!(0), json!(0)]);
    assert_eq!(
        (split(&lossy(None)), &document(&lossy(None))["loss_report"]),
        ([Value::Null, Value::Null], &Value::Null)
    );
}

#[test]
fn server_counts_are_clamped_to_sent_packets_and_may_wrap() {
    let upstream = |analyzed: u32| lossy(server_report(true, Some(analyzed))).lost_upstream(StreamKind::Ping);
    assert_eq!([100, 101, 103].map(upstream), [3, 2, 0].map(Some));
    assert_eq!([0, 50, 99, 104, 2_000_000_000].map(upstream), [3, 3, 3, 0, 0].map(Some));
    // 2^32 + 103 packets were sent, so the server's count has wrapped.
    let ping = StreamStats { sent: (1 << 32) + 103, lost: 3, ..stream(StreamStats::new(), [MS; 100]) };
    let run = RunResults { loss_report: Some(server_report(true, Some(101))), ..probe(ping) };
    assert_eq!(run.lost_upstream(StreamKind::Ping), Some(2));
}

#[test]
fn table_shows_loss_direction_only_if_requested() {
    let text = summary(&lossy(server_report(true, Some(101))));
    let rows = "\nlost                             3\nlost upstream                    2\nlost downstream                  1\nloss ";
    assert!(text.contains(rows) && text.contains("\nmapped address        [2001:db8::7]:40000\n"), "{text}");
    let short = text::summary(&Report::new(&lossy(server_report(true, Some(101))), &Limits::default()), false);
    assert!(short.contains("\nmapped address        [2001:db8::7]:40000\n"), "{short}");
    let text = summary(&lossy(server_report(false, None)));
    let rows = "\nlost upstream              unknown\nlost downstream            unknown\n";
    assert!(text.contains(rows) && text.contains("\nmapped address        unknown\n"), "{text}");
    let text = summary(&lossy(None));
    assert!(!text.contains("lost upstream") && !text.contains("mapped address"), "{text}");
}

#[test]
fn job_summary_shows_the_loss_direction() {
    let summary = |run: &RunResults| markdown::summary(&Report::new(run, &Limits::default()), None);
    let reported = summary(&lossy(server_report(true, Some(101))));
    assert!(
        reported.contains("\n| lost | 3 |\n| lost upstream | 2 |\n| lost downstream | 1 |\n| loss | "),
        "{reported}"
    );
    assert!(!summary(&lossy(None)).contains("| lost upstream |"));
}

#[test]
fn unknown_loss_direction_is_reported_with_its_cause() {
    assert_eq!(
        notes(&lossy(None)),
        ["the direction of the loss is unknown; --loss-direction requests it from a jamjam-dev server"]
    );
    let unknown = |why| [format!("the direction of 3 lost LATENCY_PING packets is unknown: {why}")];
    let not_reported = "the server did not report its packet counts, reported them only once, or restarted";
    assert_eq!(notes(&lossy(server_report(true, None))), unknown(not_reported));
    let not_answered = "the server did not answer the requests for its packet counts";
    assert_eq!(notes(&lossy(server_report(false, None))), unknown(not_answered));
    let interrupted = RunResults { interrupted: Some(StopSignal::Interrupt), ..lossy(server_report(true, None)) };
    assert_eq!(
        notes(&interrupted),
        unknown("the run was interrupted before the server's final packet counts were requested")
    );
    assert_eq!(notes(&lossy(server_report(true, Some(101)))), [""; 0]);
    assert_eq!(
        notes(&RunResults {
            loss_report: Some(server_report(false, None)),
            ..probe(stream(StreamStats::new(), [MS; 100]))
        }),
        [""; 0]
    );
    // If no reply returned at all, no warning mentions `--loss-direction`.
    let silence = notes(&probe(StreamStats { sent: 100, lost: 100, ..StreamStats::new() }));
    assert!(silence.iter().all(|note| !note.contains("--loss-direction")), "{silence:?}");
}
