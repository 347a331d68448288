//! All files that `docs/ARCHITECTURE.md` names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Folders whose files are named by their full path.
const FOLDERS: &[&str] = &["src/", "tests/", "docs/", "fixtures/", "scripts/"];

/// Every path between backticks.
fn named(page: &str) -> BTreeSet<&str> {
    let code = page.split('`').skip(1).step_by(2);
    code.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))).collect()
}

#[test]
fn every_path_in_the_architecture_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let named = named(&page);
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<&&str> = named.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_module_is_on_the_crate_map() {
    let map = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let rooms: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(rooms.len() > 5, "{rooms:?}");
    for room in rooms {
        let rows = map.lines().filter(|line| line.starts_with("//! | ") && line.contains(&format!("| [`{room}`] |")));
        assert_eq!(rows.count(), 1, "{room}");
    }
}

#[test]
fn path_is_found_between_backticks_only() {
    assert_eq!(
        named("`src/a.rs`, src/b.rs, `Node`, `docs/c.md`").into_iter().collect::<Vec<_>>(),
        ["docs/c.md", "src/a.rs"]
    );
}
