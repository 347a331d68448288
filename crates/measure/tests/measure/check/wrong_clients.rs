//! Each client of the table has exactly the expected findings.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use jamjam_core::link::SealMistake;
use jamjam_core::time::Time;
use jamjam_measure::check::{ClientCheck, Finding, RULES, Rule};

use super::wrong_client::{Client, Sent, client, clients};

/// The findings about the only source.
pub(super) fn findings(datagrams: &[Sent]) -> Vec<Finding> {
    let mut check = ClientCheck::default();
    for datagram in datagrams {
        check.on_datagram(datagram.observed());
    }
    let report = check.report();
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

#[test]
fn message_names_the_field_and_what_was_expected_and_received() {
    let [finding] = &findings(&client("timestamp-counts-packets").datagrams())[..] else { panic!() };
    for part in ["timestamp", "expected 128", "received 1"] {
        assert!(finding.message.contains(part), "{}", finding.message);
    }
    // The packet before the second one, which is sent with the first KEEPALIVE, LATENCY_PING and LATENCY_INFO.
    let first = finding.first.unwrap();
    assert_eq!((first.packet, first.sequence), ("AUDIO", 1));
    assert_eq!(findings(&client("packets-of-20-ms").datagrams())[0].first.unwrap().packet, "AUDIO");
}

/// In 20 s, a client sends 7,500 AUDIO packets, 20 KEEPALIVE and LATENCY_PING each, and 4 LATENCY_INFO.
#[test]
fn count_of_a_finding_is_exact() {
    for (name, expected) in [
        ("samples-16-bit", "7500 packets"),
        ("payload-with-codec-byte", "7500 packets"),
        // The advances from one packet to the next.
        ("timestamp-counts-packets", "7499 packets"),
        ("timestamp-counts-bytes", "7499 packets"),
        ("sequence-step-2", "7499 packets"),
        ("sequence-constant", "7499 packets"),
        // KEEPALIVE, LATENCY_PING and LATENCY_INFO share the sequence. The first ones precede AUDIO.
        ("sequence-shared-by-all-types", "19 packets"),
        // Each 128th packet begins again.
        ("sequence-of-7-bits", "58 packets"),
        // All but two packets of the link.
        ("sealed-with-one-counter", "7543 packets"),
        ("version-2", "20 packets"),
        ("samples-silent", "9 times"),
        ("keepalive-never", "1 times"),
    ] {
        let found = findings(&client(name).datagrams());
        let counts: Vec<_> = found.iter().map(|finding| format!("{} {}", finding.count, finding.unit)).collect();
        assert_eq!(counts, [expected], "{name}: {found:#?}");
    }
}

#[test]
fn messages_about_links_name_the_mistake_or_what_to_compare() {
    let mut forged = client("sealed-with-another-header").datagrams();
    for datagram in forged.iter_mut().filter(|datagram| datagram.counter.is_none()) {
        datagram.mistake = Some(SealMistake::Header);
    }
    let counters = |counter: fn(u64) -> u64| {
        let mut sent = client("sealed-with-one-counter").datagrams();
        for (n, datagram) in (0..).zip(sent.iter_mut().filter(|datagram| datagram.drop_reason.is_some())) {
            datagram.bytes[12..20].copy_from_slice(&counter(n).to_be_bytes());
        }
        sent
    };
    let mut little_endian = counters(|n| (n + 2).swap_bytes());
    for datagram in little_endian.iter_mut().filter(|datagram| datagram.counter.is_some()) {
        datagram.counter = Some(1_u64.swap_bytes());
    }
    for (sent, expected) in [
        (forged, "one sealed without the header as associated data"),
        (client("sealed-with-wrong-keys").datagrams(), "compare the shared secret"),
        (client("sealed-with-one-counter").datagrams(), "each one 0"),
        (counters(|n| n % 100), "0 to 99 after 1, so it starts again"),
        (little_endian, "it is little-endian"),
        (client("control-invalid").datagrams(), "received a payload of 1 bytes"),
    ] {
        let found = findings(&sent);
        assert!(found.len() == 1 && found[0].message.contains(expected), "{expected}: {found:#?}");
    }
}

#[test]
fn message_about_groups_has_the_size_of_most() {
    let mut sent = client("groups-of-38-without-latency-info").datagrams();
    let audio = sent.iter_mut().filter(|datagram| datagram.bytes[1] == 1);
    // The path splits the group in which two seconds have passed.
    audio.skip(748).take(12).for_each(|datagram| datagram.at += Duration::from_millis(10));
    let found = findings(&sent);
    assert!(found[0].message.ends_with("received groups of 38 every 101.3 ms"), "{found:#?}");
}

#[test]
fn groups_at_unequal_intervals_are_listed_as_not_judged() {
    let mut sent = client("groups-of-38-without-latency-info").datagrams();
    let audio = sent.iter_mut().filter(|datagram| datagram.bytes[1] == 1).enumerate();
    audio.filter(|(n, _)| n / 38 % 2 == 1).for_each(|(_, datagram)| datagram.at += Duration::from_millis(25));
    let mut check = ClientCheck::default();
    for datagram in &sent {
        check.on_datagram(datagram.observed());
    }
    let source = &check.report().sources[0];
    assert!(source.findings.iter().all(|finding| finding.rule != "pacing"), "{source:#?}");
    let part = source.not_judged.iter().find(|part| part.what == "pacing");
    assert_eq!(part.map(|part| &*part.reason), Some("groups at unequal intervals"));
}

#[test]
fn each_rule_names_a_section_that_exists() {
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect::<String>()
    };
    for Rule { id, section, .. } in &RULES {
        let (page, fragment) = section.split_once('#').expect("an anchor");
        let page = fs::read_to_string(format!("{}/../../{page}", env!("CARGO_MANIFEST_DIR"))).expect(page);
        let mut headings = page.lines().filter(|line| line.starts_with("##"));
        assert!(headings.any(|heading| anchor(heading) == fragment), "{id}: {section}");
    }
}
