//! Line breaks in the text report.

/// The indentation of continuation lines of sentences.
pub const CONTINUATION: &str = "  ";

/// Breaks lines that are longer than `width` at spaces. Continuation lines begin with `indentation`. Words longer than a line are not broken.
pub fn wrap(text: &str, width: usize, indentation: &str) -> String {
    let mut wrapped = String::with_capacity(text.len());
    for line in text.lines() {
        let mut column = 0;
        for word in line.split_inclusive(' ') {
            if column > indentation.len() && column + visible_length(word.trim_end()) > width {
                wrapped.truncate(wrapped.trim_end_matches(' ').len());
                wrapped.extend(["\n", indentation]);
                column = indentation.len();
            }
            wrapped += word;
            column += visible_length(word);
        }
        wrapped += "\n";
    }
    wrapped
}

/// Number of letters without ANSI color codes.
fn visible_length(text: &str) -> usize {
    let mut in_code = false;
    let is_visible = |letter: &char| {
        let was_in_code = in_code;
        in_code = *letter == '\x1b' || in_code && *letter != 'm';
        !in_code && !was_in_code
    };
    text.chars().filter(is_visible).count()
}
