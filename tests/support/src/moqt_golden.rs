//! Reads the files in `fixtures/moqt`: lines of a name, a colon and pairs of hexadecimal digits, and comments from `#` on. Anything else is
//! rejected, so that a typing error cannot be mistaken for a shorter message.

use std::collections::BTreeMap;
use std::fs;

use crate::golden::bytes as bytes_of;

/// The pieces of `gomoqt-2025-02.txt` or `gomoqt-0.9.txt`.
pub fn pieces(file: &str) -> BTreeMap<String, Vec<u8>> {
    let path = crate::repository().join("fixtures/moqt").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let pieces: Vec<(String, Vec<u8>)> = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, bytes) = line.split_once(':').unwrap_or_else(|| panic!("{file}: no colon in `{line}`"));
            (name.to_owned(), bytes_of(bytes).unwrap_or_else(|word| panic!("{file}: `{word}` is not a byte")))
        })
        .collect();
    let count = pieces.len();
    let pieces: BTreeMap<_, _> = pieces.into_iter().collect();
    assert_eq!(pieces.len(), count, "{file}: a name is used twice");
    pieces
}
