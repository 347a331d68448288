//! The report of a relay, whose node runs in virtual time.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use jamjam_core::echo::AdmissionConfig;
use jamjam_core::impairment::Impairment;
use jamjam_core::node::{Node, Receive};
use jamjam_core::recorded_path::RecordedPath;
use jamjam_core::relay::Relay;
use jamjam_core::time::Time;
use jamjam_measure::document::Document;
use jamjam_measure::report::relay::{self, RelayCounts};
use jamjam_measure::verdict::Verdict;
use serde_json::{Value, json};
use test_support::node_driver::{header, poll};
use test_support::snapshot;

use crate::schema::assert_schema;

/// What a run finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// The host of the relay has dropped datagrams, and did not run for 1.3 s.
    OfHost,
    All,
}

/// One client, which loses two AUDIO packets on the way up. There is a socket for no other one.
fn report(found: Found) -> Document {
    report_with(Impairment::default(), found)
}

fn report_with(up: Impairment, found: Found) -> Document {
    let target: SocketAddr = "192.0.2.9:5000".parse().expect("an address");
    let up = Impairment { dropped_sequences: "3-4".parse().expect("a set"), ..up };
    let (targets, impairments, limits) = (mpsc::channel().1, [up, Impairment::default()], AdmissionConfig::default());
    let mut relay = Relay::new((target, targets), 1, impairments, limits, Box::new(|_| {}));
    if found == Found::All {
        let (received_at, contents) = (Time::ZERO, &b"early"[..]);
        let early = Receive { socket: 1, source: target, dst_ip: None, received_at, contents, segment_size: 5 };
        relay.on_datagram(Time::ZERO, &[early]);
    }
    let mut receive = |now_ms, ms, client: u8, contents: &[u8]| {
        let [received_at, now] = [ms, now_ms].map(Time::from_millis);
        let (segment_size, source) = (contents.len(), SocketAddr::from(([198, 51, 100, client], 4_000)));
        relay.on_datagram(now, &[Receive { socket: 0, source, dst_ip: None, received_at, contents, segment_size }]);
        poll(&mut relay, now.as_nanos());
    };
    for (sequence, ms) in (0..10).zip((1_000..).step_by(10)) {
        receive(ms, ms, 1, &header(1, sequence, 0));
    }
    receive(if found == Found::Nothing { 1_100 } else { 2_400 }, 1_100, 1, b"foreign");
    if found == Found::All {
        receive(2_400, 2_400, 2, b"no socket");
    }
    let [of_host, own] = [found != Found::Nothing, found == Found::All].map(u64::from);
    let strays = (own, (own > 0).then(|| SocketAddr::from(([192, 0, 2, 9], 5_001))));
    let counts = RelayCounts { unreachable: 3 * own, kernel_dropped: Some(2 * of_host), strays };
    relay::document("echo.example.org:5000".to_owned(), 7, &relay.into_results(), counts, true)
}

#[test]
fn text_has_a_row_for_each_direction_and_junit_has_the_findings() {
    let reports = [Found::Nothing, Found::OfHost, Found::All].map(report);
    assert_eq!(
        reports.each_ref().map(|report| report.head.verdict.result),
        [Verdict::Passed, Verdict::NotMeasured, Verdict::Failed]
    );
    snapshot::assert_matches(
        "measure/relay",
        &reports.map(|one| one.text(false, false, None) + "\n" + &one.junit()).join("\n"),
    );
}

#[test]
fn rate_of_a_recorded_run_is_a_warning_and_fails_no_case() {
    let recorded = RecordedPath::new((0, (0..50).map(|n| (n * 20_000_000, None)).collect()), Vec::new(), 1_000_000_000);
    let report =
        report_with(Impairment { recorded: Some(Arc::new(recorded)), ..Impairment::default() }, Found::Nothing);
    let warning =
        "recorded at 50/s, this flow has 100/s: the record passes 2.0 times as fast; as many packets in a row are lost";
    let text = report.text(false, false, None);
    assert!(text.contains(&format!("\nwarning: {warning}\n")), "{text}");
    assert_eq!(report.to_json()["warnings"][0]["message"], warning);
    assert!(report.junit().contains("failures=\"0\""));
}

#[test]
fn document_of_a_relay_fits_the_schema() {
    let documents = [("good", report(Found::Nothing)), ("findings", report(Found::All))]
        .map(|(name, report)| (name.to_owned(), Value::Object(report.to_json())));
    assert_eq!(documents[0].1["directions"][0]["outcomes"], json!({"listed": 2, "sent": 9}));
    assert_schema(&documents);
}
