//! Reads `fixtures/wire`: pairs of hexadecimal digits, and comments from `#` to the end of the line. Anything else is rejected, so that a
//! typing error cannot be mistaken for a shorter packet.

use std::fs;
use std::path::PathBuf;

pub fn folder() -> PathBuf {
    crate::repository().join("fixtures/wire")
}

/// Returns the bytes in `text`. The error contains the first word that does not consist of two lower-case hexadecimal digits.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let words = text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_ascii_whitespace());
    words
        .map(|word| {
            let is_pair = word.len() == 2 && word.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            is_pair.then(|| u8::from_str_radix(word, 16).unwrap()).ok_or_else(|| word.to_owned())
        })
        .collect()
}

/// The bytes of one fixture, such as `audio-mono.hex`.
pub fn packet(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    bytes(&text).unwrap_or_else(|word| panic!("{name}: `{word}` is not a byte"))
}

pub fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "echo-replies.txt")
        .collect();
    names.sort();
    names
}
