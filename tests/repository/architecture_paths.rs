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
fn numbered_paths_fit_in_the_head() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let (_, section) = page.split_once("\n## Four paths\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    // The introduction of each numbered list, with its maximum of files and of their lines.
    for (introduction, max_files, max_lines) in [
        ("An AUDIO packet in the echo server:", 8, 2_500),
        ("A WebSocket chat message of the jamjam dialect in the signaling server:", 8, 2_500),
        ("A run of `probe` over UDP, from its options to its report:", 10, 3_000),
    ] {
        let (_, list) = section.split_once(introduction).expect(introduction);
        let (list, _) = list.trim_start().split_once("\n\n").unwrap();
        let entries = list.lines().filter_map(|line| line.split_once(". `src/"));
        let files: Vec<&str> = entries.map(|(_, rest)| rest.split('`').next().unwrap()).collect();
        let lines = files.iter().map(|file| fs::read_to_string(root.join("src").join(file)).unwrap().lines().count());
        let lines: usize = lines.sum();
        assert!((5..=max_files).contains(&files.len()) && lines <= max_lines, "{introduction} {lines} in {files:?}");
    }
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
