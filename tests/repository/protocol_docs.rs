//! `docs/protocol.md` names all golden packets and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every text between backticks that ends with `.hex` or `.txt`, the extensions of the fixtures.
fn named(page: &str) -> BTreeSet<String> {
    let code = page.split('`').skip(1).step_by(2);
    let is_fixture = |word: &&str| [".hex", ".txt"].iter().any(|ending| word.ends_with(ending));
    code.filter(is_fixture).map(str::to_owned).collect()
}

#[test]
fn protocol_docs_name_exactly_the_existing_fixtures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/protocol.md")).unwrap();
    let there: BTreeSet<String> = fs::read_dir(root.join("fixtures/wire"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(there.len() > 10, "{there:?}");
    assert_eq!(named(&page), there);
}

#[test]
fn fixture_name_is_found_between_backticks_only() {
    let page = "`a.hex` is one, b.hex none; `c.hex`, `d.md` and `e.txt`";
    assert_eq!(named(page), ["a.hex", "c.hex", "e.txt"].map(str::to_owned).into());
}
