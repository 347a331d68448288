//! Names that users read in the log, on `/metrics` and in fixtures are documented.

use std::collections::BTreeSet;

use jamjam_dev::echo::Counters;
use jamjam_dev::io::moqt::CounterSnapshot;

use super::repository_files::{files, read, root};

#[test]
fn every_counter_of_the_echo_server_is_documented() {
    let mut pages = Vec::new();
    files(&root().join("docs"), "md", &mut pages);
    let docs: String = pages.iter().map(|page| std::fs::read_to_string(page).unwrap()).collect();
    let moqt = CounterSnapshot { kernel_dropped: Some(0), ..CounterSnapshot::default() };
    let udp: Vec<&str> = Counters::default().values().map(|(name, _)| name).collect();
    let moqt: Vec<&str> = moqt.metrics().map(|(name, _, _)| name).chain([CounterSnapshot::CONNECTIONS_OPEN]).collect();
    for names in [udp, moqt] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two counters have one name: {names:?}");
        for name in names {
            assert!(docs.contains(&format!("`{name}`")), "no page in docs/ defines the counter {name}");
        }
    }
}

#[test]
fn golden_packets_that_the_protocol_page_names_exist() {
    let page = read("docs/protocol.md");
    for name in page.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".hex")) {
        assert!(root().join("fixtures/wire").join(name).exists(), "{name}");
    }
}
