//! Every dependency has a license that `deny.toml` allows, and comes from one registry. Unlike cargo-deny, this needs only cargo.

use std::collections::BTreeSet;

use serde_json::Value;

use super::repository_files::{cargo_metadata, read, root};

/// The metadata of every package in `Cargo.lock`, for all platforms.
fn packages() -> Vec<Value> {
    cargo_metadata(root(), &["--locked"])["packages"].as_array().unwrap().clone()
}

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
fn every_package_has_an_allowed_license_and_each_is_needed() {
    let (packages, allowed) = (packages(), allowed_licenses());
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
}

#[test]
fn every_external_package_comes_from_crates_io() {
    for package in packages() {
        let is_ours = package["manifest_path"].as_str().unwrap().starts_with(root().to_str().unwrap());
        match package["source"].as_str() {
            Some(source) => assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{package}"),
            None => assert!(is_ours, "{package}"),
        }
    }
}
