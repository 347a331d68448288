//! Reads `fixtures/link/vectors.json`: golden datagrams of encrypted links. Several independent programs computed them.

use std::fs;

use serde_json::Value;

pub fn vectors() -> Value {
    let text = fs::read_to_string(crate::repository().join("fixtures/link/vectors.json")).expect("the fixture");
    serde_json::from_str(&text).expect("JSON")
}

pub fn bytes(value: &Value, member: &str) -> Vec<u8> {
    let text = value[member].as_str().unwrap_or_else(|| panic!("{member} is missing in {value}"));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}

pub fn key(value: &Value, member: &str) -> [u8; 32] {
    bytes(value, member).try_into().expect("32 bytes")
}

pub fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().unwrap_or_else(|| panic!("{member} is no list"))
}
