//! Every dependency has a license that `deny.toml` allows, comes from one registry, and has its reason in `docs/dev/dependencies.md`. Unlike
//! cargo-deny, this needs only cargo.

use std::collections::BTreeSet;

use serde_json::Value;

use test_support::repository;
use test_support::repository_files::{cargo_metadata, read};

/// The strings in `allow = [...]` in `deny.toml`.
fn allowed_licenses() -> BTreeSet<String> {
    let deny = read("deny.toml");
    let list = deny.split_once("\nallow = [").unwrap().1.split_once(']').unwrap().0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be satisfied with only the `allowed` licenses. Parentheses are ignored and OR binds tighter than AND,
/// which never accepts what the expression does not permit. Old manifests write `/` for OR.
fn is_satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" AND ").all(|part| part.split(" OR ").any(|license| allowed.contains(license)))
}

#[test]
fn every_package_has_an_allowed_license_and_comes_from_crates_io() {
    // Of all platforms.
    let metadata = cargo_metadata(repository(), &["--locked"]);
    let (packages, allowed) = (metadata["packages"].as_array().unwrap(), allowed_licenses());
    let refused = |allowed: &BTreeSet<String>| -> Vec<String> {
        let name = |package: &Value| format!("{} {}: {}", package["name"], package["version"], package["license"]);
        let is_refused =
            |package: &&Value| !package["license"].as_str().is_some_and(|text| is_satisfied(text, allowed));
        packages.iter().filter(is_refused).map(name).collect()
    };
    assert_eq!(refused(&allowed), [""; 0], "not under {allowed:?}");
    for license in &allowed {
        let others = allowed.iter().filter(|other| *other != license).cloned().collect();
        assert!(!refused(&others).is_empty(), "deny.toml allows {license}, but no package needs it");
    }
    for package in packages {
        let is_ours = package["manifest_path"].as_str().unwrap().starts_with(repository().to_str().unwrap());
        let expected =
            if is_ours { Value::Null } else { "registry+https://github.com/rust-lang/crates.io-index".into() };
        assert_eq!(package["source"], expected, "{}", package["name"]);
    }
}

#[test]
fn every_crate_has_one_row_with_its_reason() {
    let metadata = cargo_metadata(repository(), &["--locked", "--offline", "--no-deps"]);
    let packages = metadata["packages"].as_array().unwrap();
    let tests = repository().join("tests").display().to_string();
    let ours = packages.iter().filter(|package| !package["manifest_path"].as_str().unwrap().starts_with(&tests));
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
    let mut explained: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    explained.sort_unstable();
    assert_eq!(explained, used.into_iter().collect::<Vec<_>>());
}
