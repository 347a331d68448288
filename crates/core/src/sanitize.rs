//! Makes text from the network safe to print. Control and bidirectional characters are replaced, the length is limited, and HTML is
//! escaped.

/// Maximum length of sanitized text, in characters: a few terminal lines.
const MAX_SANITIZED_CHARS: usize = 256;

/// Replaces control and bidirectional characters with U+FFFD and truncates the text to 256 characters and an ellipsis. For text of others:
/// sentences of this program are never truncated.
pub fn sanitize(text: &str) -> String {
    sanitize_line(text, text.char_indices().nth(MAX_SANITIZED_CHARS).map_or(text.len(), |(end, _)| end))
}

/// Maximum length of a name in the log, in characters. Clients choose names, and many clients fill the log.
const MAX_LOGGED_NAME_CHARS: usize = 48;

/// Like [`sanitize`], for a name in the log: truncates the name to 48 characters and an ellipsis.
pub fn sanitize_name(name: &str) -> String {
    sanitize_line(name, name.char_indices().nth(MAX_LOGGED_NAME_CHARS).map_or(name.len(), |(end, _)| end))
}

/// Replaces control and bidirectional characters other than line feeds with U+FFFD.
pub fn sanitize_lines(text: &str) -> String {
    text.chars().map(|letter| if letter == '\n' { letter } else { sanitize_char(letter) }).collect()
}

/// Replaces control and bidirectional characters with U+FFFD. Before that, truncates the text to `max_bytes` and an ellipsis.
pub fn sanitize_line(text: &str, max_bytes: usize) -> String {
    let kept = prefix(text, max_bytes);
    let ellipsis = (kept.len() < text.len()).then_some('\u{2026}');
    kept.chars().map(sanitize_char).chain(ellipsis).collect()
}

/// Shortens each absolute path in a message to the name of its file. A path begins with a slash after a space, a quote or a bracket, and ends
/// at the next space.
pub fn without_folders(text: &str) -> String {
    let shortened = |word: &str| {
        let start = word.trim_start_matches(['\'', '"', '`', '(']);
        let (quotes, path) = word.split_at(word.len() - start.len());
        match path.rsplit_once('/').filter(|_| path.starts_with('/')) {
            Some((_, name)) => format!("{quotes}{name}"),
            None => word.to_owned(),
        }
    };
    text.split(' ').map(shortened).collect::<Vec<_>>().join(" ")
}

/// The character, or U+FFFD if a terminal acts on it: controls, line separators, and marks that change the writing direction.
pub fn sanitize_char(letter: char) -> char {
    match letter {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        letter => letter,
    }
}

/// Escapes text for HTML elements and quoted attributes. Control characters other than line feeds, and characters that change the
/// writing direction, are replaced.
pub fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            letter => escaped.push(sanitize_char(letter)),
        }
    }
    escaped
}

/// Escapes text that this program wrote, in which backticks mark code.
pub fn escape_html_prose(text: &str) -> String {
    let parts = text.split('`').map(escape_html).enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { part } else { format!("<code>{part}</code>") }).collect()
}

/// Escapes text for Markdown, so that it has no special meaning there or in HTML. Control characters become spaces, and characters that change the
/// writing direction are replaced.
pub fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            letter if letter.is_control() => escaped.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => escaped.extend(['\\', letter]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            letter => escaped.push(sanitize_char(letter)),
        }
    }
    escaped
}

/// The same for text that this program wrote, in which backticks mark code.
pub fn escape_markdown_prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { escape_markdown(part) } else { format!("`{part}`") }).collect()
}

/// Truncates `text` to at most `max_bytes` bytes, at a character boundary.
pub fn truncate_bytes(mut text: String, max_bytes: usize) -> String {
    text.truncate(prefix(&text, max_bytes).len());
    text
}

/// The longest prefix of `text` that has at most `max_bytes` bytes and ends at a character boundary.
pub fn prefix(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prose_outside_of_code_is_escaped() {
        assert_eq!(escape_markdown_prose("*a* `*b*` <c> `<d>`"), "\\*a\\* `*b*` &lt;c&gt; `<d>`");
    }

    #[test]
    fn control_and_bidi_characters_are_replaced_and_length_is_limited() {
        assert_eq!(sanitize("a\u{1b}[31m\n\u{202e}b"), "a\u{fffd}[31m\u{fffd}\u{fffd}b");
        assert_eq!(sanitize(&"ä".repeat(256)), "ä".repeat(256));
        assert_eq!(sanitize(&"ä".repeat(257)), "ä".repeat(256) + "…");
        assert_eq!([3, 2].map(|max_bytes| sanitize_line("aä", max_bytes)), ["aä", "a…"]);
        assert_eq!(sanitize_lines("a\u{1b}[31m\n\u{202e}b"), "a\u{fffd}[31m\n\u{fffd}b");
        assert_eq!(sanitize_name(&"ä".repeat(48)), "ä".repeat(48));
        assert_eq!(sanitize_name(&"ä".repeat(49)), "ä".repeat(48) + "…");
    }

    #[test]
    fn absolute_path_in_a_message_becomes_its_file_name() {
        let message = "cannot read /home/ann/a.wav: (/tmp/b c) 'x/y' 1/2";
        assert_eq!(without_folders(message), "cannot read a.wav: (b c) 'x/y' 1/2");
        assert_eq!(without_folders("at moqt://h/echo, https://h/x"), "at moqt://h/echo, https://h/x");
    }

    #[test]
    fn text_is_cut_at_a_character_boundary() {
        assert_eq!([2, 3].map(|bytes| truncate_bytes("aä".to_owned(), bytes)), ["a", "aä"]);
    }
}
