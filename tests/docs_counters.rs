//! Every count that the echo server prints is defined.

use jamjam_dev::echo::Counters;

#[test]
fn every_count_of_the_echo_server_is_defined_in_the_docs_and_no_other() {
    let docs = include_str!("../docs/measuring.md");
    let section = docs.split("## The echo server's statistics").nth(1).expect("the section");
    let section = section.split("\n### ").next().expect("its text, up to the metrics made of the same counts");
    let defined: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut counted: Vec<&str> = Counters::default().fields().map(|(name, _)| name).collect();
    counted.push("kernel_dropped");
    assert_eq!(defined, counted);
}
