//! All files that `docs/ARCHITECTURE.md` names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A word in backticks that starts with one of these folders is a path.
const FOLDERS: &[&str] = &["src/", "tests/", "docs/", "fixtures/", "scripts/"];

/// All paths in backticks.
fn paths_in(page: &str) -> BTreeSet<&str> {
    let code = page.split('`').skip(1).step_by(2);
    code.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))).collect()
}

#[test]
fn every_path_in_the_architecture_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let paths = paths_in(&page);
    assert!(paths.len() > 30, "{paths:?}");
    let missing: Vec<&&str> = paths.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_module_is_on_the_crate_map() {
    let map = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let modules: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 5, "{modules:?}");
    for module in modules {
        let rows = map.lines().filter(|line| line.starts_with("//! | ") && line.contains(&format!("| [`{module}`] |")));
        assert_eq!(rows.count(), 1, "{module}");
    }
}

#[test]
fn path_is_found_between_backticks_only() {
    assert_eq!(
        paths_in("`src/a.rs`, src/b.rs, `Node`, `docs/c.md`").into_iter().collect::<Vec<_>>(),
        ["docs/c.md", "src/a.rs"]
    );
}
