//! Usage errors: removes tokens and passwords in URLs, and names the command for what users try.

use std::ffi::OsString;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What users try, after the subcommands with which they try it, and what does what they mean. `HOST` is a word where no host belongs.
const OTHER_WORDS: [(&str, &str, &str); 29] = [
    ("", "check judge test", "`jamjam-dev echo-server --check` checks a client; for rooms, `signaling-server --check`"),
    ("", "listen serve server", "`jamjam-dev echo-server` returns audio, `jamjam-dev signaling-server` has rooms"),
    ("", "client connect play", "`jamjam-dev send` sends audio, `jamjam-dev probe` measures a server"),
    ("", "ping measure", "`jamjam-dev probe` measures a server"),
    ("", "bench load stress", "`jamjam-dev load-echo` loads an echo server, `load-rooms` a signaling server"),
    ("", "proxy forward netem", "`jamjam-dev relay` forwards UDP over a bad network"),
    ("", "list ls", "`jamjam-dev rooms` lists rooms, `jamjam-dev devices` sound devices"),
    ("", "-4 -6", "--bind 0.0.0.0 uses IPv4, --bind :: IPv6"),
    (
        "--network --loss --outage --like --jitter --reorder --duplicate --bandwidth",
        "--to [HOST[:PORT]|URL] [HOST[:PORT]]",
        "impairment is for --embedded; `jamjam-dev relay` impairs the path to another server",
    ),
    ("--play", "HOST", "give the device after an equals sign: --play=DEVICE"),
    ("send probe load-echo", "--port", "give the port after the host: HOST:PORT"),
    ("echo-server signaling-server relay", "-q --quiet", "for a shorter log, set RUST_LOG=warn in the environment"),
    ("send", "HOST --host --target", "for a target, give --to HOST[:PORT]"),
    ("probe load-echo compare", "--host --target", "give the target alone: HOST[:PORT]"),
    ("echo-server signaling-server", "HOST", "give the port as --port PORT"),
    ("echo-server signaling-server", "--bind --address --listen", "--host ADDRESS and --port PORT say where to listen"),
    ("musicians", "HOST", "give the server as --signaling-url URL, and its room as --room NAME"),
    ("publish", "HOST", "give each text as --text TEXT"),
    ("token", "HOST", "join client and room by a colon: CLIENT:ROOM"),
    ("send probe", "--clients", "`load-echo` has many clients, `load-rooms` many members; `musicians` play in a room"),
    ("relay", "HOST", "quote the options of a direction, such as --up \"loss 5%\""),
    ("relay", "--listen --target --to", "give both addresses alone: relay LISTEN TARGET"),
    ("relay", "--up --down", "its options have no dashes, such as --up \"loss 5%\""),
    ("rooms", "--signaling-url --to", "give the URL alone: jamjam-dev rooms URL"),
    ("", "--max-latency --max-rtt --max-median", "--max-p50 and --max-p99 limit the round-trip time"),
    ("", "--output --out", "--html, --junit, --markdown and --record-run write files"),
    ("echo-server signaling-server", "--tls --tls-cert --tls-key", "--cert and --key enable TLS"),
    ("", "--tls-cert --tls-ca", "--ca trusts a CA, and --cert-sha256 one certificate"),
    ("probe", "HOST", "for several targets, `jamjam-dev compare HOST HOST`"),
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
            (_, Some("[FILE]")) | (Some("[FILE]"), _) => "HOST",
            // The value of an option that clap takes for another option.
            (Some(word), _) if is_unknown && word.contains(' ') => "--up",
            (Some(word), _) if is_unknown && !word.starts_with('-') => "HOST",
            (word, _) => word.and_then(|word| word.split(' ').next()).unwrap_or_default(),
        };
    let is_tried_with =
        |names: &str| names.is_empty() || names.split(' ').any(|name| arguments.iter().any(|one| one == name));
    let has_word = |words: &str| words.split(' ').any(|other| other == word);
    let tip = OTHER_WORDS.iter().find(|(names, words, _)| is_tried_with(names) && has_word(words));
    // Clap proposes to give an unknown option as a value after `--`.
    error.remove(ContextKind::Suggested);
    if let Some((.., tip)) = tip {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![(*tip).into()]));
    }
    error
}

/// Removes tokens and passwords in URLs from an error.
pub(crate) fn without_secrets(mut error: Error) -> Error {
    let mut is_target = false;
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let text = if is_target { target_without_secrets(text) } else { url_without_secrets(text) };
            // The value of an option with this value name is a target.
            is_target = text.contains("HOST") || text.contains("URL");
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
