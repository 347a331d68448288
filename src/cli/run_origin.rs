//! Where a run comes from: the command line and the host name, for the report. The command line contains no secrets and no folders of this
//! machine, because reports are shared.

use std::env;
use std::path::Path;
use std::sync::OnceLock;

use super::usage_error::url_without_secrets;
use crate::client::{RunOrigin, RunResults};
use crate::io::os;
use crate::sanitize::{prefix, sanitize, sanitize_char};

/// The option of a run whose value is a secret. Wrong options never stand in a report.
const SECRET_OPTION: &str = "--hmac-secret";

/// Options whose values are free text. A question mark in such a value does not begin the query of a URL.
const TEXT_OPTIONS: [&str; 2] = ["--text", "--room"];

/// Replaces a secret.
const REDACTED: &str = "***";

/// Maximum length of the command line in bytes, without the ellipsis.
const MAX_COMMAND_LINE_BYTES: usize = 1_000;

/// The subcommand of this process.
static COMMAND: OnceLock<String> = OnceLock::new();

pub(super) fn set_command(name: &str) {
    _ = COMMAND.set(name.to_owned());
}

/// The subcommand of this process.
pub(crate) fn command() -> &'static str {
    COMMAND.get().map_or("", String::as_str)
}

/// Adds to a run of this process where it comes from.
pub(crate) fn with_origin(run: RunResults) -> RunResults {
    let words = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let origin = RunOrigin {
        command_line: command_line(words),
        host_name: os::host_name().as_deref().map(sanitize),
        seed: None,
    };
    RunResults { command: command().to_owned(), origin, ..run }
}

/// The command line for the report. `words` does not contain the name of the program.
fn command_line(words: impl Iterator<Item = String>) -> String {
    let mut line = "jamjam-dev".to_owned();
    let mut option = String::new();
    for word in words {
        line.push(' ');
        line += &quoted(&redacted(&word, &option));
        option = word;
    }
    match prefix(&line, MAX_COMMAND_LINE_BYTES) {
        cut if cut.len() < line.len() => format!("{cut}\u{2026}"),
        _ => line,
    }
}

/// A word without secrets and folders. `previous` is the word before it, which may be an option.
fn redacted(word: &str, previous: &str) -> String {
    if previous == SECRET_OPTION {
        return REDACTED.to_owned();
    }
    let (option, value) = match word.split_once('=') {
        Some((option, value)) if option.starts_with('-') => (format!("{option}="), value),
        _ => (String::new(), word),
    };
    let name = option.trim_end_matches('=');
    let is_room_code = [name, previous].contains(&"--room") && room_name(value) == REDACTED;
    let value = if is_room_code || name == SECRET_OPTION {
        REDACTED.to_owned()
    } else if value.starts_with('/') || Path::new(value).is_absolute() {
        file_name(value)
    } else if TEXT_OPTIONS.contains(&name) || TEXT_OPTIONS.contains(&previous) {
        value.to_owned()
    } else {
        url_without_secrets(value)
    };
    option + &value
}

/// What is shown of a room: not its code.
pub(crate) fn room_name(room: &str) -> &str {
    if room.bytes().all(|byte| byte.is_ascii_digit()) { REDACTED } else { room }
}

/// The name of a file without its folder. The path is shown in messages to the user, but not in reports.
pub(crate) fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "/".to_owned())
}

/// Quotes a word for a shell if necessary, and replaces control characters.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:=,%@+?*#[]{}~".contains(letter);
    let word: String = word.chars().map(sanitize_char).collect();
    if !word.is_empty() && word.chars().all(is_plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        command_line(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn command_line_contains_no_secrets() {
        for (words, expected) in [
            (&["--hmac-secret", "s3cret", "--json"][..], "jamjam-dev --hmac-secret *** --json"),
            (&["--hmac-secret=s3cret"], "jamjam-dev --hmac-secret=***"),
            (&["--html=key.html", "x", "token", "y"], "jamjam-dev --html=key.html x token y"),
            (&["--room", "4711", "--room=4711", "--room", "jam"], "jamjam-dev --room *** --room=*** --room jam"),
            (&["ws://h/rooms/r?token=s3cret"], "jamjam-dev ws://h/rooms/r?..."),
            (&["--to", "wss://me:s3cret@h:8443/x#s3cret"], "jamjam-dev --to wss://h:8443/x?..."),
            (&["--signaling-url=wss://me:s3cret@h"], "jamjam-dev --signaling-url=wss://h"),
        ] {
            assert_eq!(line(words), expected);
        }
    }

    #[test]
    fn command_line_contains_no_folders_and_no_control_characters() {
        for (words, expected) in [
            (&["--html", "/home/ann/my takes/a.html"][..], "jamjam-dev --html a.html"),
            (&["--html=/tmp/x/page.html"], "jamjam-dev --html=page.html"),
            (&["--wav", "takes/a.wav"], "jamjam-dev --wav takes/a.wav"),
            (&["send", "/home/ann/my take.wav"], "jamjam-dev send 'my take.wav'"),
            (&["send", "/"], "jamjam-dev send /"),
            (&["moqt://h/echo"], "jamjam-dev moqt://h/echo"),
            (&["--text", "who's there?", ""], r"jamjam-dev --text 'who'\''s there?' ''"),
            (&["--text", "a\u{1b}[2J\n\u{202e}b"], "jamjam-dev --text 'a\u{fffd}[2J\u{fffd}\u{fffd}b'"),
        ] {
            assert_eq!(line(words), expected);
        }
    }

    #[test]
    fn command_line_is_cut_at_a_character_boundary() {
        let long = line(&["--text", &"ä".repeat(5_000)]);
        assert!(long.len() <= MAX_COMMAND_LINE_BYTES + '\u{2026}'.len_utf8() && long.ends_with("ä\u{2026}"), "{long}");
    }
}
