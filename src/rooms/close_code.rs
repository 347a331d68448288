//! Codes of close frames (RFC 6455, section 7.4).

/// Whether a close frame may have this code: the others are reserved, or stand for closes without a frame.
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1_000..=1_003 | 1_007..=1_014 | 3_000..=4_999)
}
