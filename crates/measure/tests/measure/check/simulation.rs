//! No correct client is accused, whatever the network does.

use std::collections::BTreeMap;
use std::thread;

use jamjam_measure::check::Severity;

use super::simulated_client::{Client, PATHS};

/// Simulates correct clients of 12 s, every tenth of 65 s, on all paths in turn. Returns those that were accused, by rule.
fn accused(clients: u64) -> BTreeMap<&'static str, Vec<String>> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let simulate = |core: u64| {
        let mut accused: Vec<(&'static str, String)> = Vec::new();
        for seed in (core..clients).step_by(cores as usize) {
            let client = Client::new(seed, if seed % 10 == 9 { 65.0 } else { 12.0 });
            let path = PATHS[(seed / 10 + seed) as usize % PATHS.len()];
            let source = client.check(path);
            let severe = source.findings.iter().filter(|finding| finding.severity > Severity::Note);
            accused.extend(severe.map(|found| (found.rule, format!("{}: {client:?}: {}", path.name, found.message))));
        }
        accused
    };
    let mut by_rule = BTreeMap::<_, Vec<_>>::new();
    thread::scope(|scope| {
        let simulations: Vec<_> = (0..cores).map(|core| scope.spawn(move || simulate(core))).collect();
        for simulation in simulations {
            for (rule, client) in simulation.join().unwrap() {
                by_rule.entry(rule).or_default().push(client);
            }
        }
    });
    by_rule
}

fn assert_nobody_is_accused(clients: u64) {
    let accused = accused(clients);
    let text = |(rule, clients): (&&str, &Vec<String>)| format!("{rule}: {} clients, such as {:#?}", clients.len(), &clients[..clients.len().min(3)]);
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
