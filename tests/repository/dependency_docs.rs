//! `docs/dependencies.md` has a line for each crate that `Cargo.toml` names, and for no other crate.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// The crates that `Cargo.toml` names, for building and for testing, on any platform.
fn named() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let package = packages.find(|package| package["name"] == env!("CARGO_PKG_NAME")).unwrap();
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies.iter().map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

/// The table rows: ``| `crate` | purpose | reason | alternative |``.
fn rows() -> Vec<Vec<String>> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/dependencies.md")).unwrap();
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn every_crate_is_explained_once_and_no_explanation_is_stale() {
    let explained: Vec<String> = rows().iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let unique: BTreeSet<String> = explained.iter().cloned().collect();
    assert_eq!(explained.len(), unique.len(), "a crate is listed twice: {explained:?}");
    let named = named();
    let missing: Vec<&String> = named.difference(&unique).collect();
    let stale: Vec<&String> = unique.difference(&named).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/dependencies.md does not list {missing:?}, and lists {stale:?}, which are not used"
    );
}

#[test]
fn explanation_contains_purpose_reason_and_alternative() {
    for row in rows() {
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}
