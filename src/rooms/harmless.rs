//! What strangers wrote, so that a terminal or a log shows it and does nothing else.

/// Of a stranger's words, no more characters than this are shown: a line or two.
const LONGEST: usize = 256;

/// `text` without what acts on a terminal, and cut to 256 characters.
pub fn harmless(text: &str) -> String {
    text.chars().take(LONGEST).map(|letter| if acts(letter) { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// Whether a terminal does something at this character: controls, ends of lines, what turns the direction of writing.
pub fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of `text`, of at most `most` bytes, whole letters only.
pub(super) fn cut(mut text: String, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}
