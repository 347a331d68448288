//! Removes tokens and passwords in URLs from usage errors.

use clap::Error;
use clap::error::{ContextKind, ContextValue};

/// Removes tokens and passwords in URLs from an error.
pub fn without_secrets(mut error: Error) -> Error {
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
