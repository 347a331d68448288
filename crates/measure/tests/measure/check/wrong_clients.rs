//! Each client of the table has exactly the expected findings.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use jamjam_core::link::SealMistake;
use jamjam_core::time::Time;
use jamjam_measure::check::{ClientCheck, Finding, RULES};

use crate::schema::assert_section_exists;
use test_support::snapshot;

use super::wrong_client::{Client, Sent, check, client, clients};

/// The findings about the only source.
pub(super) fn findings(datagrams: &[Sent]) -> Vec<Finding> {
    let report = check(datagrams);
    assert_eq!(report.sources.len(), 1, "{report:#?}");
    report.sources[0].findings.clone()
}

fn names(findings: &[Finding]) -> Vec<(String, String)> {
    let name = |finding: &Finding| (finding.rule.to_owned(), format!("{:?}", finding.severity).to_lowercase());
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
        let (client, mut check, mut announced) = (client(name), ClientCheck::default(), Vec::new());
        let mut next = Time::ZERO;
        for datagram in client.datagrams() {
            check.on_datagram(datagram.observed());
            if datagram.at >= next {
                next = datagram.at + Duration::from_millis(100);
                announced.extend(check.take_new_findings(datagram.at).into_iter().map(|(_, finding)| finding));
            }
        }
        assert_eq!(names(&announced), client.expected(), "{name}");
    }
}

/// In 20 s, a client sends 7,500 AUDIO packets, 20 KEEPALIVE and LATENCY_PING each, and 4 LATENCY_INFO.
#[test]
fn counts_and_messages_match_their_snapshot() {
    let mut text = String::new();
    let mut add = |name: &str, sent: &[Sent]| {
        writeln!(text, "# {name}").expect("memory");
        for Finding { rule, count, unit, message, first, .. } in findings(sent) {
            writeln!(text, "{rule}, {count} {unit}: {message} {first:?}").expect("memory");
        }
    };
    for name in [
        "samples-16-bit",
        "payload-with-codec-byte",
        // The advances from one packet to the next.
        "timestamp-counts-packets",
        "timestamp-counts-bytes",
        "sequence-step-2",
        "sequence-constant",
        // KEEPALIVE, LATENCY_PING and LATENCY_INFO share the sequence. The first ones precede AUDIO.
        "sequence-shared-by-all-types",
        // Each 128th packet begins again.
        "sequence-of-7-bits",
        // All but two packets of the link.
        "sealed-with-one-counter",
        "sealed-with-wrong-keys",
        "control-invalid",
        "version-2",
        "samples-silent",
        "keepalive-never",
        "packets-of-20-ms",
    ] {
        add(name, &client(name).datagrams());
    }
    let mut forged = client("sealed-with-another-header").datagrams();
    for datagram in forged.iter_mut().filter(|datagram| datagram.counter.is_none()) {
        datagram.mistake = Some(SealMistake::Header);
    }
    add("the header is not associated data", &forged);
    let counters = |counter: fn(u64) -> u64| {
        let mut sent = client("sealed-with-one-counter").datagrams();
        for (n, datagram) in (0..).zip(sent.iter_mut().filter(|datagram| datagram.drop_reason.is_some())) {
            datagram.bytes[12..20].copy_from_slice(&counter(n).to_be_bytes());
        }
        sent
    };
    add("counters from 0 to 99", &counters(|n| n % 100));
    let mut little_endian = counters(|n| (n + 2).swap_bytes());
    for datagram in little_endian.iter_mut().filter(|datagram| datagram.counter.is_some()) {
        datagram.counter = Some(1_u64.swap_bytes());
    }
    add("little-endian counters", &little_endian);
    let mut grouped = client("groups-of-38-without-latency-info").datagrams();
    let audio = grouped.iter_mut().filter(|datagram| datagram.bytes[1] == 1);
    audio.skip(748).take(12).for_each(|datagram| datagram.at += Duration::from_millis(10));
    add("groups of 38, of which the path splits the one in which two seconds have passed", &grouped);
    snapshot::assert_matches("measure/check", &text);
}

#[test]
fn groups_at_unequal_intervals_are_listed_as_not_judged() {
    let mut sent = client("groups-of-38-without-latency-info").datagrams();
    let audio = sent.iter_mut().filter(|datagram| datagram.bytes[1] == 1).enumerate();
    audio.filter(|(n, _)| n / 38 % 2 == 1).for_each(|(_, datagram)| datagram.at += Duration::from_millis(25));
    let source = &check(&sent).sources[0];
    assert!(source.findings.iter().all(|finding| finding.rule != "pacing"), "{source:#?}");
    let part = source.not_judged.iter().find(|part| part.what == "pacing");
    assert_eq!(part.map(|part| &*part.reason), Some("groups at unequal intervals"));
}

#[test]
fn each_rule_names_a_section_that_exists() {
    for rule in &RULES {
        assert_section_exists(rule.section);
    }
}
