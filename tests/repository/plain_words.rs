//! Comments, docs, help and messages do not use the words of `scripts/rejected-words.txt`. A line with `plain-words: allow` is exempt.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const EXEMPTION: &str = "plain-words: allow";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rejected words, each with its replacement.
fn rejected_words() -> BTreeMap<String, String> {
    let list = fs::read_to_string(root().join("scripts/rejected-words.txt")).unwrap();
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(word, instead)| (word.to_owned(), instead.to_owned()))
        .collect()
}

/// All files below `folder` with this extension, except build output.
pub(crate) fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

/// README.md and all pages in `docs/`.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    files(&root().join("docs"), "md", &mut pages);
    pages
}

/// The part of a line of Rust that people read: its comment and its string literals.
fn prose_of_rust(line: &str) -> String {
    let mut prose = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['"', '/']) {
        if rest[at..].starts_with("//") {
            prose.push_str(&rest[at..]);
            break;
        }
        if rest[at..].starts_with('"') {
            let mut end = at + 1;
            let bytes = rest.as_bytes();
            while end < bytes.len() && bytes[end] != b'"' {
                end += 1 + usize::from(bytes[end] == b'\\');
            }
            prose.push_str(&rest[at..rest.len().min(end)]);
            prose.push(' ');
            rest = rest.get(end + 1..).unwrap_or_default();
        } else {
            rest = &rest[at + 1..];
        }
    }
    prose
}

/// The words of `text` outside of backticks, in lower case. Parts of identifiers do not count as words.
fn words(text: &str) -> impl Iterator<Item = String> {
    let outside = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let letters = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '.');
    let found: Vec<String> = outside
        .split(|c: char| !letters(c))
        .map(|word| word.trim_matches(['.', '-', '/']).to_lowercase())
        .filter(|word| word.chars().all(char::is_alphabetic))
        .collect();
    found.into_iter()
}

fn violations(name: &str, text: &str, is_rust: bool, rejected: &BTreeMap<String, String>) -> Vec<String> {
    let mut violations = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if !is_rust && line.starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.contains(EXEMPTION) {
            continue;
        }
        let prose = if is_rust { prose_of_rust(line) } else { line.to_owned() };
        for word in words(&prose) {
            if let Some(instead) = rejected.get(&word) {
                violations.push(format!("{name}:{number}: \"{word}\"; write: {instead}"));
            }
        }
    }
    violations
}

#[test]
fn comments_docs_and_messages_use_plain_words() {
    let rejected = rejected_words();
    let mut found = Vec::new();
    let mut rust = Vec::new();
    files(&root().join("src"), "rs", &mut rust);
    let pages = pages();
    for (path, is_rust) in rust.iter().map(|path| (path, true)).chain(pages.iter().map(|path| (path, false))) {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        found.extend(violations(&name, &fs::read_to_string(path).unwrap(), is_rust, &rejected));
    }
    assert!(found.is_empty(), "{} words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn rejected_word_is_found_in_comments_and_strings_only() {
    let rejected = rejected_words();
    let count = |line: &str| violations("a", line, true, &rejected).len();
    for line in ["// it is told", "let x = \"nobody came\";", "f(\"a\", \"it heard\") // why"] {
        assert_eq!(count(line), 1, "{line}");
    }
    for line in
        ["let told = heard();", "// the field `told`", "let x = \"is_told\";", "// told plain-words: allow", "a / told"]
    {
        assert_eq!(count(line), 0, "{line}");
    }
    assert_eq!(violations("a", "it is told\n```text\ntold\n```\n`told`", false, &rejected).len(), 1);
}
