//! No correct client is accused, whatever the network does, and no wrong one passes without a word.

use std::collections::BTreeMap;

use jamjam_core::time::Time;
use jamjam_measure::check::{CheckReport, CheckedSource, ClientCheck, Severity};
use serde_json::json;

use super::simulated_client::{Client, PATHS};
use super::wrong_client::{Client as WrongClient, clients};
use crate::simulation::in_parallel;

/// Simulates correct clients of 12 s, every tenth of 65 s, on all paths in turn. Returns those that were accused, by rule.
fn accused(clients: u64) -> BTreeMap<&'static str, Vec<String>> {
    let simulate = |seed: u64| {
        let client = Client::new(seed, if seed % 10 == 9 { 65.0 } else { 12.0 });
        let path = PATHS[(seed / 10 + seed) as usize % PATHS.len()];
        let findings = client.check(path).into_iter().flat_map(|source| source.findings);
        // Without the clock of the client, a warning that names both is right.
        let names_path = |text: &str| path.fill > 0.0 && text.contains("the delay of its path");
        let severe = findings.filter(|finding| {
            finding.severity > if names_path(&finding.message) { Severity::Warning } else { Severity::Note }
        });
        severe.map(|found| (found.rule, format!("{}: {client:?}: {}", path.name, found.message))).collect()
    };
    let mut by_rule = BTreeMap::<_, Vec<_>>::new();
    for (rule, client) in in_parallel((0..clients).map(|seed| move || simulate(seed)).collect()) {
        by_rule.entry(rule).or_default().push(client);
    }
    by_rule
}

fn assert_nobody_is_accused(clients: u64) {
    let accused = accused(clients);
    let text = |(rule, clients): (&&str, &Vec<String>)| {
        format!("{rule}: {} clients, such as {:#?}", clients.len(), &clients[..clients.len().min(3)])
    };
    assert!(accused.is_empty(), "{}", accused.iter().map(text).collect::<Vec<_>>().join("\n"));
}

#[test]
fn no_correct_client_is_accused() {
    assert_nobody_is_accused(100);
}

#[test]
#[ignore = "takes minutes: .ci/full runs it"]
fn none_of_ten_thousand_correct_clients_is_accused() {
    assert_nobody_is_accused(10_000);
}

/// The severe rules that a client breaks and that neither have a finding nor are listed as not judged, at each of the `ends` in seconds.
fn overlooked(mut client: WrongClient, ends: &[u64]) -> Vec<String> {
    client.row["seconds"] = json!(ends[ends.len() - 1] + 1);
    let severe: Vec<_> = client.expected().into_iter().filter(|(_, severity)| severity != "note").collect();
    let (mut check, mut overlooked) = (ClientCheck::default(), Vec::new());
    let mut ends = ends.iter().peekable();
    for datagram in if severe.is_empty() { Vec::new() } else { client.datagrams() } {
        check.on_datagram(datagram.observed());
        // The first datagram is sent at 1 s.
        let Some(seconds) = ends.next_if(|end| datagram.at >= Time::from_millis(1_000 * (1 + **end))) else { continue };
        let CheckReport { sources, strangers, .. } = check.report();
        for (rule, _) in &severe {
            let is_known = |source: &CheckedSource| {
                source.findings.iter().any(|finding| finding.rule == rule)
                    || source.not_judged.iter().flat_map(|part| part.rules).any(|of_part| of_part.rule().id == rule)
            };
            if strangers == 0 && !sources.iter().any(is_known) {
                overlooked.push(format!("{rule} of {} in {seconds} s", client.name()));
            }
        }
    }
    assert!(severe.is_empty() || ends.next().is_none(), "{}", client.name());
    overlooked
}

fn assert_nobody_is_overlooked(ends: &[u64]) {
    let overlooked = in_parallel(clients().into_iter().map(|client| move || overlooked(client, ends)).collect());
    assert!(overlooked.is_empty(), "{overlooked:#?}");
}

#[test]
fn wrong_client_is_found_or_listed_as_not_judged_after_any_time() {
    assert_nobody_is_overlooked(&[3, 6, 12]);
}

#[test]
#[ignore = "takes half of the time of all tests of this crate: .ci/full runs it"]
fn wrong_client_is_found_or_listed_as_not_judged_after_a_minute() {
    assert_nobody_is_overlooked(&[65]);
}
