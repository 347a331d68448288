//! `docs/dev/dependencies.md` gives the reason for each crate that this workspace uses, and for no other crate.

use std::collections::BTreeSet;

use super::repository_files::{cargo_metadata, read, root};

#[test]
fn every_crate_has_one_row_with_its_reason() {
    let metadata = cargo_metadata(root(), &["--locked", "--offline", "--no-deps"]);
    let packages = metadata["packages"].as_array().unwrap();
    let tests = root().join("tests");
    let ours = packages
        .iter()
        .filter(|package| !package["manifest_path"].as_str().unwrap().starts_with(tests.to_str().unwrap()));
    let dependencies = ours.flat_map(|package| package["dependencies"].as_array().unwrap());
    // A crate of this workspace has a path.
    let external = dependencies.filter(|dependency| dependency["path"].is_null());
    let used: BTreeSet<&str> = external.map(|dependency| dependency["name"].as_str().unwrap()).collect();

    let page = read("docs/dev/dependencies.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.iter().all(|row| row.len() == 3 && row.iter().all(|cell| !cell.is_empty())), "{rows:?}");
    let explained: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let unique: BTreeSet<&str> = explained.iter().copied().collect();
    assert_eq!(unique.len(), explained.len(), "a crate is listed twice");
    assert_eq!(unique, used);
}
