//! Seeded simulations of clients and an echo server, in virtual time, with links that lose, repeat, delay, reorder and damage
//! datagrams. Every number that a client reports must equal the one that `reference_counts.rs` computes from the complete log.
//!
//! A failing seed is printed and belongs in [`PINNED`]. A change to the order in which `client_and_echo/scenario.rs` draws random numbers
//! changes the simulation of each seed. `SIMULATIONS=100000 cargo test -p jamjam-measure simulation` runs more simulations.

use super::{in_parallel, link, log, net, participants, reference_counts, simulated_socket};

mod compare_report;
mod differences;
mod scenario;
mod times;

use std::collections::BTreeMap;

use jamjam_measure::client::{RunResults, StreamKind};
use test_support::rng::simulations;

/// Seeds whose simulations failed in the past. A test runs these simulations again to detect regressions.
const PINNED: [u64; 3] = [17_399, 1_004_977, 2_032_601];

/// Prints the seed of the simulation on a panic.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation with seed {} failed", self.0);
        }
    }
}

/// Runs a simulation. Returns what `inspect` returns for the report of each client, and every difference between the reports and the expected
/// results.
fn run_simulation<T>(seed: u64, wraps: bool, inspect: fn(&RunResults) -> T) -> (Vec<T>, Vec<String>) {
    let seed = Seed(seed);
    let mut scenario = scenario::draw(seed.0, wraps);
    scenario.net.run();
    let (mut inspected, mut wrong) = (Vec::new(), Vec::new());
    // Host 0 is the server.
    for (host, facts) in scenario.net.hosts.into_iter().skip(1).zip(&scenario.parts) {
        let (run, differences) = compare_report::client(host, facts, scenario.delay);
        wrong.extend(differences.into_iter().map(|difference| format!("seed {}: {difference}", seed.0)));
        inspected.push(inspect(&run));
    }
    (inspected, wrong)
}

/// Runs simulations on all cores. Each report must contain the expected numbers. Returns what `inspect` returns for each report.
fn run_simulations<T: Send>(
    seeds: impl Iterator<Item = u64>,
    wraps: bool,
    inspect: fn(&RunResults) -> T,
) -> impl Iterator<Item = T> {
    let results = in_parallel(seeds.map(|seed| move || vec![run_simulation(seed, wraps, inspect)]).collect());
    let (inspected, wrong): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    let mut wrong = wrong.concat();
    wrong.sort();
    let first = wrong[..wrong.len().min(20)].join("\n");
    assert!(wrong.is_empty(), "{} differences, the first is:\n{first}", wrong.len());
    inspected.into_iter().flatten()
}

/// The number of occurrences of each kind of event in a run.
fn event_counts(run: &RunResults) -> Vec<(&'static str, u64)> {
    let mut seen = vec![
        ("stray", run.stray),
        ("underruns", run.audio.as_ref().map_or(0, |audio| audio.underruns)),
        ("answered", run.readiness_wait.is_some_and(|wait| wait.reply_received).into()),
        ("wait timed out", run.readiness_wait.is_some_and(|wait| !wait.reply_received).into()),
        ("estimated hold", run.server_delay().estimate.is_some().into()),
        ("no echo expected", (!run.replies_expected).into()),
    ];
    for stream in StreamKind::ALL.into_iter().filter_map(|kind| run.stream(kind)) {
        seen.extend([
            ("returned", stream.returned),
            ("lost", stream.lost),
            ("damaged", stream.damaged),
            ("in flight", stream.in_flight),
            ("duplicated", stream.duplicated),
            ("damaged copies", stream.damaged_copies),
            ("reordered", stream.reordered),
            ("unmatched", stream.unmatched),
            ("send failed", stream.not_sent),
            ("bursts of ten or more", stream.loss_bursts.lengths[9]),
            ("overtaken by more than five", (stream.reorder_extent.max() > Some(5)).into()),
        ]);
    }
    seen
}

#[test]
fn report_equals_reference_counts_in_every_simulation() {
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, n) in run_simulations(0..simulations(), false, event_counts).flatten() {
        *totals.entry(what).or_default() += n;
    }
    // Every kind of event must occur, otherwise the simulations prove nothing. The rarest one occurs in one of 200.
    assert!(
        simulations() < 1_000 || totals.values().all(|total| *total > 0),
        "an event hardly ever occurred: {totals:?}"
    );
}

#[test]
fn report_equals_reference_counts_while_sequence_numbers_wrap() {
    let of_run = |run: &RunResults| run.audio.as_ref().map_or(0, |audio| audio.stats.returned);
    let returned: u64 = run_simulations(0..simulations(), true, of_run).sum();
    assert!(returned > 1_000, "too few packets returned: {returned}");
}

#[test]
fn seeds_that_once_failed_pass() {
    run_simulations(PINNED.into_iter(), false, |_| ()).for_each(drop);
}
