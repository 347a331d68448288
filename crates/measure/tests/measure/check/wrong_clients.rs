//! Each client of the table has exactly the expected findings.

use std::collections::BTreeSet;

use jamjam_core::echo::SourceObserver;
use jamjam_core::time::Time;
use jamjam_measure::check::{ClientCheck, Finding, RULES};

use super::wrong_client::{Client, Sent, client, clients};

const PROTOCOL: &str = include_str!("../../../../../docs/protocol.md");

/// The findings about the only source.
pub(super) fn findings(datagrams: &[Sent]) -> Vec<Finding> {
    let mut check = ClientCheck::new();
    for datagram in datagrams {
        check.on_datagram(datagram.observed());
    }
    let report = check.report();
    assert_eq!(report.sources.len(), 1, "{report:#?}");
    report.sources[0].findings.clone()
}

fn names(findings: &[Finding]) -> Vec<(String, String)> {
    let name = |finding: &Finding| (finding.code.to_owned(), format!("{:?}", finding.severity).to_lowercase());
    let mut names: Vec<_> = findings.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn each_client_has_exactly_the_expected_findings() {
    let mut failed = Vec::new();
    for client in clients() {
        let found = findings(&client.datagrams());
        let mut expected = client.expected();
        expected.sort();
        if names(&found) != expected {
            failed.push(format!("{}: {found:#?}", client.name()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_rule_about_clients_has_a_wrong_client() {
    let tested: BTreeSet<String> = clients().iter().flat_map(Client::expected).map(|(rule, _)| rule).collect();
    let rules: BTreeSet<String> = RULES.iter().map(|rule| rule.id.to_owned()).collect();
    let network = ["loss", "reordering", "duplicates", "jitter"].map(str::to_owned).into();
    assert_eq!(rules.difference(&tested).cloned().collect::<BTreeSet<String>>(), network);
    assert!(clients().iter().filter(|client| !client.expected().is_empty()).count() >= 40);
}

#[test]
fn findings_are_announced_once_while_the_client_is_connected() {
    for name in ["samples-16-bit", "keepalive-never", "sealed-with-wrong-keys", "correct-2-channels-48000-plain"] {
        let (client, mut check, mut announced) = (client(name), ClientCheck::new(), Vec::new());
        let mut next = Time::ZERO;
        for datagram in client.datagrams() {
            check.on_datagram(datagram.observed());
            if datagram.at >= next {
                next = datagram.at + std::time::Duration::from_millis(100);
                announced.extend(check.take_new_findings(datagram.at).into_iter().map(|(_, finding)| finding));
            }
        }
        assert_eq!(names(&announced), client.expected(), "{name}");
    }
}

#[test]
fn message_names_the_field_and_what_was_expected_and_received() {
    let [finding] = &findings(&client("timestamp-counts-packets").datagrams())[..] else { panic!() };
    for part in ["timestamp", "expected 128", "received 1"] {
        assert!(finding.message.contains(part), "{}", finding.message);
    }
    assert!(finding.count > 1_000);
    // The packet before the second one, which is sent with the first KEEPALIVE, LATENCY_PING and LATENCY_INFO.
    let first = finding.first.unwrap();
    assert_eq!((first.packet, first.sequence), ("AUDIO", 1));
}

#[test]
fn further_sources_are_counted_and_not_judged() {
    let datagram = client("version-2").datagrams().remove(0);
    let mut check = ClientCheck::new();
    for host in 0..1_030_u16 {
        let mut datagram = datagram.clone();
        datagram.source.set_port(1 + host);
        check.on_datagram(datagram.observed());
    }
    let report = check.report();
    assert_eq!((report.sources.len(), report.untracked), (1_024, 6));
}

#[test]
fn each_rule_names_a_section_of_the_protocol() {
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect::<String>()
    };
    let anchors: Vec<String> = PROTOCOL.lines().filter(|line| line.starts_with("##")).map(anchor).collect();
    for rule in &RULES {
        assert!(
            anchors.iter().any(|anchor| format!("docs/protocol.md#{anchor}") == rule.section),
            "{}: {}",
            rule.id,
            rule.section
        );
    }
}
