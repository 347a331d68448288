//! How deep JSON may be, where it is passed on without being read.

/// Lists and objects within each other: as many as are read anywhere.
pub(super) const DEEPEST: usize = 128;

/// Whether `text`, which is JSON, has more than `most` lists and objects within each other.
pub(super) fn is_deeper_than(text: &str, most: usize) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings_alone() {
        assert!(!is_deeper_than(r#"{"a":[{}],"b":[[]]}"#, 3));
        assert!(is_deeper_than(r#"{"a":[{}]}"#, 2));
        assert!(!is_deeper_than(r#"["[[[[\"[[[",[]]"#, 2));
        assert!(!is_deeper_than(r#"["\\",[]]"#, 2));
        assert!(is_deeper_than(&"[".repeat(129), 128));
    }
}
