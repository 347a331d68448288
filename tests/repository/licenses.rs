//! Every dependency has a license that `deny.toml` allows, and all of them come from one registry.
//!
//! cargo-deny checks this and more, but this test needs only cargo.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// Cargo's metadata for every package in `Cargo.lock`, for all platforms.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The strings in `allow = [...]` in `deny.toml`.
fn allowed() -> BTreeSet<String> {
    let deny = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let (_, list) = deny.split_once("\nallow = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be satisfied with only the `allowed` licenses. AND binds tighter than OR; old manifests write `/` for OR.
fn is_satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let result = any(&mut words, allowed);
    assert!(words.next().is_none(), "not an SPDX expression: {expression}");
    result
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut result = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        result |= all(words, allowed);
    }
    result
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let word = words.next().expect("the SPDX expression is complete");
    if word == "(" {
        let result = any(words, allowed);
        assert_eq!(words.next(), Some(")"), "the SPDX expression has a closing parenthesis");
        return result;
    }
    match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
        Some(exception) => allowed.contains(&format!("{word} WITH {exception}")),
        None => allowed.contains(word),
    }
}

#[test]
fn license_expression_is_parsed_as_spdx() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Unicode-3.0".to_owned()]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("Apache-2.0/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND OpenSSL", false),
        ("MIT OR Apache-2.0 AND OpenSSL", true),
        ("OpenSSL AND Apache-2.0 OR Zlib", false),
        ("MIT WITH LLVM-exception", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
    ] {
        assert_eq!(is_satisfied(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn every_package_has_an_allowed_license() {
    let allowed = allowed();
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|license| is_satisfied(license, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "not under {allowed:?}:\n{}", refused.join("\n"));
}

#[test]
fn every_allowed_license_is_in_use() {
    let allowed = allowed();
    let packages = packages();
    for license in &allowed {
        let without: BTreeSet<String> = allowed.iter().filter(|other| *other != license).cloned().collect();
        let needed = packages.iter().any(|package| !is_satisfied(package["license"].as_str().unwrap(), &without));
        assert!(needed, "deny.toml allows {license}, but no package needs it");
    }
}

#[test]
fn every_external_package_comes_from_crates_io() {
    let packages = packages();
    let sources: BTreeSet<&str> = packages.iter().filter_map(|package| package["source"].as_str()).collect();
    assert!(sources.len() == 1 && sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");
    let ours: Vec<&Value> = packages.iter().filter(|package| package["source"].is_null()).collect();
    let names: BTreeSet<&str> = ours.iter().filter_map(|package| package["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["fuzz-targets", "jamjam-dev", "test-support"]));
}
