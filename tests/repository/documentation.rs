//! The pages name existing files, define the names that users read on `/metrics`, and a reader can follow the three paths.

use std::collections::BTreeSet;

use jamjam_dev::echo::Counters;
use jamjam_dev::io::moqt::CounterSnapshot;

use test_support::repository;
use test_support::repository_files::read;

/// The words in backticks that begin with a folder of the repository.
fn paths(page: &str) -> Vec<&str> {
    let folders = ["src/", "crates/", "tests/", "docs/", "fixtures/", "scripts/", "packaging/"];
    let code = page.split('`').skip(1).step_by(2).filter_map(|code| code.split(' ').next());
    code.filter(|word| folders.iter().any(|folder| word.starts_with(folder))).collect()
}

#[test]
fn every_named_file_exists() {
    for page in ["docs/ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(page);
        let paths = paths(&text);
        let missing: Vec<&&str> = paths.iter().filter(|path| !repository().join(path).exists()).collect();
        assert!(paths.len() > 30 && missing.is_empty(), "{page}: of {} files, {missing:?} are missing", paths.len());
    }
    let page = read("docs/protocol.md");
    for name in page.split('`').skip(1).step_by(2).filter(|word| word.contains(".hex")) {
        assert!(repository().join("fixtures/wire").join(name).exists(), "{name}");
    }
}

#[test]
fn every_module_is_on_the_map() {
    let map = read("src/lib.rs");
    for file in ["src/lib.rs", "crates/core/src/lib.rs", "crates/measure/src/lib.rs"] {
        let source = read(file);
        for module in source.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
            assert!(map.contains(&format!("[`{module}`]")), "{module} is not in the table of src/lib.rs");
        }
    }
}

/// Other counters have a help text in `/metrics`. These names become values of the label `reason`, which has none.
#[test]
fn every_reason_of_dropped_and_impaired_packets_is_documented() {
    let page = read("docs/measuring.md");
    let names: Vec<&str> = Counters::default().values().map(|(name, _)| name).collect();
    let is_reason = |name: &&&str| name.starts_with("dropped_") || name.starts_with("impaired_");
    for name in names.iter().filter(is_reason).chain(&["kernel_dropped"]) {
        assert!(page.contains(&format!("`{name}`")), "docs/measuring.md does not define {name}");
    }
    let moqt = CounterSnapshot { kernel_dropped: Some(0), ..CounterSnapshot::default() };
    let moqt: Vec<&str> = moqt.metrics().map(|(name, ..)| name).collect();
    for names in [names, moqt] {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two counters have one name: {names:?}");
    }
}
