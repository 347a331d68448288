//! A thousand seeded worlds in virtual time: clients and an echo server, joined by links that lose, repeat, delay,
//! reorder and damage; every number that a client reports equals that of a naive count over the complete log, made
//! after the fact from the text of `docs/measuring.md` alone.
//!
//! A seed that fails is printed; put it into [`PINNED`]. More worlds: `WORLDS=100000 cargo test --test world`. Other
//! ones: `SEED=5000000`, the first seed.

#[path = "world/chance.rs"]
mod chance;
#[path = "world/check.rs"]
mod check;
#[path = "world/differences.rs"]
mod differences;
#[path = "world/ending.rs"]
mod ending;
#[path = "world/link.rs"]
mod link;
#[path = "world/log.rs"]
mod log;
#[path = "world/naive.rs"]
mod naive;
#[path = "world/net.rs"]
mod net;
#[path = "world/outlet.rs"]
mod outlet;
#[path = "world/play.rs"]
mod play;
#[path = "world/scene.rs"]
mod scene;
#[path = "world/times.rs"]
mod times;

use jamjam_dev::flow::run::{Run, StreamKind};

use scene::Theme;

/// Worlds that failed once.
const PINNED: [u64; 0] = [];

/// Says which world it was when something in it panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world with seed {} failed", self.0);
        }
    }
}

/// Runs a world. What its clients report, and all that is wrong with it.
fn live(seed: u64, theme: Theme) -> (Vec<Run>, Vec<String>) {
    let seed = Seed(seed);
    let mut scene = scene::draw(seed.0, theme);
    scene.net.run();
    let (mut runs, mut wrong) = (Vec::new(), Vec::new());
    for (host, part) in scene.net.hosts.into_iter().skip(1).zip(&scene.parts) {
        let (run, differences) = check::client(host, part, scene.delay);
        wrong.extend(differences.into_iter().map(|difference| format!("seed {}: {difference}", seed.0)));
        runs.push(run);
    }
    (runs, wrong)
}

/// Runs worlds and returns what their clients report, which is right in every one.
fn live_all(seeds: impl Iterator<Item = u64>, theme: Theme) -> Vec<Run> {
    let (mut runs, mut wrong) = (Vec::new(), Vec::new());
    for seed in seeds {
        let (more, differences) = live(seed, theme);
        runs.extend(more);
        wrong.extend(differences);
    }
    assert!(
        wrong.is_empty(),
        "{} differences, the first of them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    runs
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn every_number_equals_the_naive_count_in_a_thousand_worlds() {
    let first = number("SEED", 0);
    let mut totals = [0u64; 17];
    for run in live_all(first..first + number("WORLDS", 1_000), Theme::Any) {
        for stream in StreamKind::ALL.iter().filter_map(|kind| run.stream(*kind)) {
            totals[0] += stream.returned;
            totals[1] += stream.lost;
            totals[2] += stream.damaged;
            totals[3] += stream.in_flight;
            totals[4] += stream.duplicated;
            totals[5] += stream.damaged_copies;
            totals[6] += stream.reordered;
            totals[7] += stream.late;
            totals[8] += stream.unmatched;
            totals[9] += stream.send_failed;
        }
        totals[10] += run.stray;
        totals[11] += run.audio.as_ref().map_or(0, |audio| audio.underruns);
        totals[12] += u64::from(run.wait.is_some_and(|wait| wait.answered));
        totals[13] += u64::from(run.wait.is_some_and(|wait| !wait.answered));
        totals[14] += u64::from(run.hold().estimated_ns.is_some());
        totals[15] += u64::from(run.pacing.is_some_and(|pacing| pacing.edges().is_some()));
        totals[16] += u64::from(!run.answers_expected);
    }
    // Worlds in which nothing goes wrong prove nothing.
    assert!(totals.iter().all(|total| *total >= 20), "something hardly ever happened: {totals:?}");
}

#[test]
fn numbers_are_right_while_sequences_wrap() {
    let runs = live_all(0..100, Theme::Wrap);
    assert!(runs.iter().all(|run| run.audio.is_some()));
}

#[test]
fn worlds_that_failed_once_stay_right() {
    live_all(PINNED.into_iter(), Theme::Any);
}
