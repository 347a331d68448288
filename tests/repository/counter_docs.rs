//! Every counter that the echo server prints is documented, and counter names are unique.

use std::collections::BTreeSet;

use jamjam_dev::echo::Counters;
use jamjam_dev::io::moqt::CounterSnapshot;

#[test]
fn echo_server_counters_match_the_docs() {
    let docs = include_str!("../../docs/measuring.md");
    let section = docs.split("## The echo server's statistics").nth(1).expect("the section");
    let section = section.split("\n### ").next().expect("the section's text up to the metrics with the same counts");
    let defined: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut counted: Vec<&str> = Counters::default().values().map(|(name, _)| name).collect();
    counted.push("kernel_dropped");
    assert_eq!(defined, counted);
}

#[test]
fn moqt_counters_match_the_docs() {
    let docs = include_str!("../../docs/measuring.md");
    let section = docs.split("### MOQT counters").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let defined: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let reading = CounterSnapshot { kernel_dropped: Some(0), ..CounterSnapshot::default() };
    let counted: Vec<&str> =
        [CounterSnapshot::CONNECTIONS_OPEN].into_iter().chain(reading.metrics().map(|(name, _, _)| name)).collect();
    assert_eq!(defined, counted);
    assert_eq!(counted.iter().collect::<BTreeSet<_>>().len(), counted.len(), "two counters have the same name");
}
