//! Usage errors: removes tokens and passwords in URLs, and names the options that are similar to an unknown one.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// Similarity above which two words or names count as similar: a typing error in a word of four letters.
const MIN_SIMILARITY: f64 = 0.6;

/// What users try, after the subcommands with which they try it, and what does what they mean. `HOST` is a word where no host belongs.
const OTHER_WORDS: [(&str, &str, &str); 9] = [
    (
        "",
        "check judge test",
        "`jamjam-dev echo-server --check` checks a client; for rooms, `jamjam-dev signaling-server --check`",
    ),
    ("", "listen serve server", "`jamjam-dev echo-server` returns audio, `jamjam-dev signaling-server` has rooms"),
    ("", "client connect play", "`jamjam-dev send` sends audio, `jamjam-dev probe` measures a server"),
    ("", "ping measure", "`jamjam-dev probe` measures a server"),
    ("", "proxy forward netem", "`jamjam-dev relay` forwards UDP over a bad network"),
    ("send probe", "--port", "give the port after the host: HOST:PORT"),
    ("echo-server signaling-server relay", "-q --quiet", "for a shorter log, set RUST_LOG=warn in the environment"),
    ("send", "HOST", "for a target, give --to HOST[:PORT]"),
    ("relay", "--up --down", "its options have no dashes, such as --up \"loss 5%\""),
];

/// Adds to the error about an unknown subcommand or argument what does what it means.
pub(crate) fn with_other_words(mut error: Error, arguments: &[OsString]) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let word =
        match (text(ContextKind::InvalidSubcommand).or(text(ContextKind::InvalidArg)), text(ContextKind::PriorArg)) {
            (_, Some("[FILE]")) => "HOST",
            // The value of an option that clap takes for another option.
            (Some(word), _) if is_unknown && word.contains(' ') => "--up",
            (Some(word), _) if is_unknown && !word.starts_with('-') => "HOST",
            (word, _) => word.and_then(|word| word.split(' ').next()).unwrap_or_default(),
        };
    let is_tried_with =
        |names: &str| names.is_empty() || names.split(' ').any(|name| arguments.iter().any(|one| one == name));
    let has_word = |words: &str| words.split(' ').any(|other| other == word);
    if let Some((.., tip)) = OTHER_WORDS.iter().find(|(names, words, _)| is_tried_with(names) && has_word(words)) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![(*tip).into()]));
    }
    error
}

/// Replaces clap's suggestion for an unknown option, which compares letters only, by the options of the subcommand with the most similar words.
pub(crate) fn with_similar_options(mut error: Error, command: &Command, arguments: &[OsString]) -> Error {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return error };
    let mut command = command.clone();
    command.build();
    let subcommand = arguments.iter().find_map(|word| command.find_subcommand(word));
    let (ErrorKind::UnknownArgument, Some(unknown), Some(subcommand)) =
        (error.kind(), unknown.strip_prefix("--"), subcommand)
    else {
        return error;
    };
    let scored = subcommand.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(|argument| {
        let help = argument.get_help().map(|help| help.to_string().to_lowercase()).unwrap_or_default();
        let name = argument.get_long()?;
        Some((similarity(unknown, name, &help)?, format!("--{name}")))
    });
    let scored: Vec<_> = scored.collect();
    let best = scored.iter().map(|(score, _)| *score).max();
    let similar: Vec<String> =
        scored.into_iter().filter(|(score, _)| Some(*score) == best).map(|(_, name)| name).collect();
    error.remove(ContextKind::Suggested);
    error.remove(ContextKind::SuggestedArg);
    error.insert(ContextKind::Usage, ContextValue::StyledStr(subcommand.clone().render_usage()));
    if !similar.is_empty() {
        error.insert(ContextKind::SuggestedArg, ContextValue::Strings(similar));
    }
    error
}

/// How similar an unknown option is to the option `name`, in percent: the share of their words that are similar. Words of the unknown option
/// in the description `help` decide between equally similar options. `None` if no word is similar.
fn similarity(unknown: &str, name: &str, help: &str) -> Option<usize> {
    let is_similar = |one: &str, other: &str| strsim::normalized_damerau_levenshtein(one, other) > MIN_SIMILARITY;
    let is_abbreviation = |one: &str, other: &str| one.len() >= 3 && other.starts_with(one);
    let (words, name_words): (Vec<&str>, Vec<&str>) = (unknown.split(['-', '_']).collect(), name.split('-').collect());
    let in_name = |word: &&&str| name_words.iter().any(|own| is_similar(word, own) || is_abbreviation(word, own));
    let in_help = |word: &&&str| help.split(' ').any(|own| is_abbreviation(word, own));
    let shared = words.iter().filter(in_name).count();
    let score = if is_similar(unknown, name) { 100 } else { 200 * shared / (words.len() + name_words.len()) };
    (score > 0).then(|| score + words.iter().filter(in_help).count())
}

/// Removes tokens and passwords in URLs from an error.
pub(crate) fn without_secrets(mut error: Error) -> Error {
    let mut is_target = false;
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let text = if is_target { target_without_secrets(text) } else { url_without_secrets(text) };
            // The value of an option with this value name is a target.
            is_target = text.contains("HOST");
            error.insert(kind, ContextValue::String(text));
        }
    }
    error
}

/// A URL without user name, password and query, which may contain secrets.
pub(super) fn url_without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.split_once('?').map_or(text.to_owned(), |(start, _)| format!("{start}?..."));
    };
    let (address, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if query.contains('@') {
        // The question mark may be part of a password.
        return format!("{scheme}://...");
    }
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    let ellipsis = if query.is_empty() { "" } else { "?..." };
    format!("{scheme}://{address}{ellipsis}")
}

/// Like [`url_without_secrets`], for a target that may have no scheme. Words that are no targets, such as file names, may contain `@` and `#`.
fn target_without_secrets(text: &str) -> String {
    if text.contains("://") {
        return url_without_secrets(text);
    }
    url_without_secrets(&format!("udp://{text}")).split_off("udp://".len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_removed_from_urls() {
        for (text, shown) in [
            ("ws://h/rooms/r?token=secret", "ws://h/rooms/r?..."),
            ("wss://h?token=secret", "wss://h?..."),
            ("wss://me:secret@h:8443/x#secret", "wss://h:8443/x?..."),
            ("wss://me:sec/ret@h/x", "wss://h/x"),
            ("wss://me:sec?ret@h/x", "wss://..."),
            ("moqt://h/echo", "moqt://h/echo"),
            ("host?token=secret", "host?..."),
            ("host:1", "host:1"),
        ] {
            assert_eq!(url_without_secrets(text), shown);
            assert_eq!(target_without_secrets(text), shown);
        }
        for (text, shown) in [("me:secret@h:1", "h:1"), ("h#secret", "h?..."), ("me:sec?ret@h", "...")] {
            assert_eq!(target_without_secrets(text), shown);
        }
    }
}
