//! Seeded simulations in virtual time: clients and an impaired echo server on a lossless link. The tests count the rows of the outcome log
//! by the definitions in `docs/measuring.md`. The report of each client and the counters of the server must contain the same counts. The
//! packet outcomes that each client reports must match the rows of the outcome log.
//!
//! `SIMULATIONS=10000 cargo test --test library simulation::impaired_echo` runs more simulations. `SEED=5000000` sets the first seed.

use crate::simulation::link;
use crate::simulation::net;
use crate::simulation::participants;
use crate::simulation::reference_counts;
use crate::simulation::simulated_socket;
mod outcome_log_counts;
mod scenario;

use std::collections::BTreeMap;

use jamjam_core::echo::ReplyEvent;
use jamjam_measure::client::{RunResults, StreamKind};

use outcome_log_counts::{Recount, Row};
use participants::Participant;
use scenario::{Scenario, Wire};

/// The results of a simulation: outcome log, server counters, and each client's report and observed packets.
struct FinishedSimulation {
    rows: Vec<Row>,
    counters: BTreeMap<&'static str, u64>,
    clients: Vec<(RunResults, Vec<reference_counts::Line>, Wire)>,
}

fn run_simulation(seed: u64) -> FinishedSimulation {
    let Scenario { mut net, events, clients } = scenario::draw(seed);
    net.run();
    let mut hosts = net.hosts.into_iter();
    let Some(Participant::Echo(echo)) = hosts.next().map(|host| host.node) else { panic!("host 0 is the server") };
    let counters = echo.counters();
    echo.stop();
    let mut reports = Vec::new();
    for (host, (mut recorder, wire)) in hosts.zip(clients) {
        assert_eq!(host.address, wire.client);
        let run = match host.node {
            Participant::Sender(node) => node.into_results("the server", None, &mut recorder),
            Participant::Prober(node) => node.into_results("the server", None, &mut recorder),
            Participant::Echo(_) => panic!("an echo server is not a client"),
        };
        let lines = recorder.0.lock().expect("no thread panics with the lock").clone();
        reports.push((run, lines, wire));
    }
    let mut file = format!("{}\n", ReplyEvent::CSV_HEADER).into_bytes();
    for event in events.0.lock().expect("no thread panics with the lock").iter() {
        event.write_csv(&mut file).expect("memory");
    }
    let rows = outcome_log_counts::read(&String::from_utf8(file).expect("text"));
    FinishedSimulation { rows, counters: counters.values().collect(), clients: reports }
}

/// Compares the outcome log with the clients' reports, the reported packet outcomes and the server's counters. Returns all differences.
fn differences(finished: &FinishedSimulation) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: String, log: u64, reported: u64| {
        if log != reported {
            wrong.push(format!("{what}: {reported} is reported, the outcome log has {log}"));
        }
    };
    for (run, lines, wire) in &finished.clients {
        let Recount { lines: expected, counts } = outcome_log_counts::count(&finished.rows, wire);
        for kind in StreamKind::ALL {
            let none = jamjam_core::stats::StreamStats::new();
            let reported = run.stream(kind).unwrap_or(&none);
            let log = counts[participants::stream(kind) as usize];
            for (what, log, reported) in [
                ("sent", log.sent, reported.sent),
                ("returned", log.returned, reported.returned),
                ("lost", log.lost, reported.lost),
                ("duplicated", log.duplicated, reported.duplicated),
                ("reordered", log.reordered, reported.reordered),
                ("damaged", 0, reported.damaged),
                ("unmatched", 0, reported.unmatched),
                ("in flight", 0, reported.in_flight),
            ] {
                same(format!("{kind:?} {what}"), log, reported);
            }
        }
        same("stray".to_owned(), 0, run.stray);
        let (mut expected, mut lines) = (expected, lines.clone());
        expected.sort_unstable();
        lines.sort_unstable();
        let first = expected.iter().zip(&lines).find(|(log, reported)| log != reported);
        same(format!("{first:?}"), 0, u64::from(first.is_some()));
        same("packets".to_owned(), expected.len() as u64, lines.len() as u64);
    }
    for (name, log) in outcome_log_counts::counters(&finished.rows) {
        same(name.to_owned(), log, finished.counters[name]);
    }
    wrong
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn report_counts_and_packets_equal_the_outcome_log() {
    let (first, simulations) = (number("SEED", 0), number("SIMULATIONS", 500));
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in first..first + simulations {
        let finished = std::panic::catch_unwind(|| run_simulation(seed))
            .unwrap_or_else(|_| panic!("the simulation with seed {seed}"));
        wrong.extend(differences(&finished).into_iter().map(|difference| format!("seed {seed}: {difference}")));
        for row in &finished.rows {
            *totals.entry(row.packet_outcome.clone()).or_default() += 1;
            *totals.entry("reordered".to_owned()).or_default() += u64::from(row.reordered);
            *totals.entry("second copies".to_owned()).or_default() += u64::from(row.copies.max(1) - 1);
        }
        for line in finished.clients.iter().flat_map(|(_, lines, _)| lines) {
            *totals.entry(format!("{:?} {:?}", line.stream, line.packet_outcome)).or_default() += 1;
        }
    }
    let few = wrong[..wrong.len().min(20)].join("\n");
    assert!(wrong.is_empty(), "{} differences, the first are:\n{few}", wrong.len());
    // Every kind of outcome must occur, otherwise the simulations prove nothing. `stopped` cannot occur, because all clients wait for their
    // replies.
    println!("{totals:?}");
    let packet_outcomes =
        ["sent", "lost", "burst", "listed", "queue", "buffer_full", "failed", "reordered", "second copies"];
    let seen =
        packet_outcomes.iter().all(|packet_outcome| totals.get(*packet_outcome).is_some_and(|total| *total >= 100));
    assert!(simulations < 500 || seen, "an outcome hardly ever occurred: {totals:?}");
    assert!(simulations < 500 || totals.values().all(|total| *total >= 20), "{totals:?}");
}

#[test]
fn same_seed_gives_every_packet_the_same_outcome() {
    for seed in 0..20 {
        assert_eq!(run_simulation(seed).rows, run_simulation(seed).rows, "seed {seed}");
    }
}
