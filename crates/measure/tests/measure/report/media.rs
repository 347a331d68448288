//! The report of the bad room, whose node runs in virtual time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jamjam_core::impairment::Impairment;
use jamjam_core::media_relay::{MediaRelay, MediaRelayConfig, MediaRooms};
use jamjam_core::node::{Node, Receive};
use jamjam_core::time::Time;
use jamjam_measure::check::{CheckReport, CheckResult, Severity, SignalingCheck};
use jamjam_measure::report::media::MediaReport;
use jamjam_measure::verdict::Outcome;
use serde_json::json;
use test_support::node_driver::{header, poll};
use test_support::snapshot;

use crate::schema::assert_schema;

/// Three members. Aki and Ben play to each other through an outage, after which Ben is back 1.5 s later. Both attempt nothing with Cho.
fn report(limit: Option<Duration>) -> MediaReport {
    let outages = "500ms@1s,1s@6s".parse().expect("outages");
    let impairment = Impairment { outages, delay: Duration::from_millis(20), ..Impairment::default() };
    let config = MediaRelayConfig { impairment, ports: (40_000..40_006).collect(), ..MediaRelayConfig::default() };
    let rooms = MediaRooms::new(config, None, |_| Err(String::new()));
    let mut relay = MediaRelay::new(rooms.clone());
    let members = ["Aki", "Ben", "Cho"].map(|name| {
        let member = rooms
            .join(1, ["", name].map(str::to_owned), Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST)
            .expect("sockets");
        assert!(member.publish([SocketAddr::from(([127, 0, 0, 1], 5_000))].into_iter()));
        member
    });
    poll(&mut relay, Time::from_millis(900).as_nanos());
    let socket = |from: usize, to: usize| {
        let address = members[to].address_for(&members[from]).expect("an address");
        usize::from(address.port() - 40_000)
    };
    let ways = [(socket(0, 1), 5_000), (socket(1, 0), 5_001)];
    let mut receive = |ms, (socket, port): (usize, u16), contents: &[u8]| {
        let (received_at, source) = (Time::from_millis(ms), SocketAddr::from(([127, 0, 0, 1], port)));
        let segment_size = contents.len();
        poll(&mut relay, received_at.as_nanos());
        relay
            .on_datagram(received_at, &[Receive { socket, source, dst_ip: None, received_at, contents, segment_size }]);
    };
    let key = |key| [&header(3, 0, 0)[..], &[1, 1], &[key; 32]].concat();
    receive(990, ways[0], &key(1));
    for step in 0..750_u32 {
        let ms = 1_000 + 10 * u64::from(step);
        receive(ms, ways[0], &header(1, step, 0));
        if !(100..300).contains(&step) {
            receive(ms, ways[1], &header(1, step, 0));
        }
    }
    receive(8_500, ways[0], &key(2));
    // No host has this port.
    receive(8_600, (ways[0].0, 0), b"forged");
    drop(members);
    MediaReport::from((&rooms.take_results(), &rooms.counts(), None, limit))
}

/// The report of a check that contains it.
fn checked(limit: Option<Duration>) -> CheckResult {
    let report = CheckReport { media: Some(report(limit)), ..SignalingCheck::default().report() };
    CheckResult::new(report, Severity::Error, 0)
}

#[test]
fn text_and_junit_have_each_flow_and_each_outage_of_a_pair() {
    let [without, within] = [None, Some(Duration::from_secs(2))].map(checked);
    snapshot::assert_matches("measure/media", &format!("{}\n{}", without.text(), within.junit().expect("XML")));
    assert!(without.failures.is_empty() && within.failures.is_empty());
}

#[test]
fn slow_recovery_exceeds_the_limit() {
    let late = checked(Some(Duration::from_millis(1_400)));
    assert_eq!((late.verdict, late.failures.len()), (Outcome::Failed, 1), "{:?}", late.failures);
    assert!(
        late.failures[0].starts_with("room 1, outage 1 of Aki#1 and Ben#1: 500 ms at 1.0 s, recovered after 1.4 s"),
        "{late:?}"
    );
    assert_eq!(late.junit().expect("XML").matches("<failure").count(), 1);
}

#[test]
fn document_with_media_fits_the_schema() {
    let documents = [("with a limit", Some(Duration::from_secs(2))), ("without", None)];
    // An outcome that did not occur is missing, so that no outcome is required.
    let documents = documents.map(|(name, limit)| {
        let mut document = serde_json::to_value(checked(limit)).expect("JSON");
        let flows = document["media"]["rooms"][0]["flows"].as_array_mut().expect("flows");
        assert_eq!(flows[0]["outcomes"], json!({"outage": 150, "sent": 602}));
        for flow in flows {
            flow["outcomes"] = json!({});
        }
        (name.to_owned(), document)
    });
    assert_schema(include_str!("../../../../../docs/check.schema.json"), &documents);
}
