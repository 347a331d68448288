//! Where a signaling server is: `ws://host:port/path`, or `wss://` with TLS.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use tungstenite::http::Uri;

/// The address of a signaling server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalingUrl {
    uri: Uri,
    secure: bool,
}

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// It has no scheme, or another one.
    #[error("write ws://HOST:PORT, or wss:// with TLS")]
    Scheme,
    /// It has no host, or is no URL.
    #[error("it is no URL; write ws://HOST:PORT, an IPv6 address in brackets")]
    Form,
    /// It has a name or a password in it, which would be seen by every user of the machine.
    #[error("a user name or password cannot be given in the URL")]
    Login,
}

impl SignalingUrl {
    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, without brackets.
    pub(in crate::io) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, or that of the scheme.
    pub(in crate::io) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// The path, as it is written; `/` where there is none.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query, as it is written; nothing where there is none.
    pub fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// The same server at another path, which has to be percent-encoded, and with more in its query.
    pub fn asking(&self, path: &str, more: &[(&str, &str)]) -> Result<Self, UrlError> {
        let mut query = form_urlencoded::Serializer::new(self.query().to_owned());
        query.extend_pairs(more);
        let query = query.finish();
        let mark = if query.is_empty() { "" } else { "?" };
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(format!("{path}{mark}{query}").parse().map_err(|_| UrlError::Form)?);
        Ok(Self { uri: Uri::from_parts(parts).map_err(|_| UrlError::Form)?, secure: self.secure })
    }

    /// What a request is made of.
    pub(in crate::io) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl FromStr for SignalingUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // A line feed from a file, or a blank from a hasty copy, is meant by nobody.
        let (scheme, rest) = text.trim().split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let secure = match &*scheme {
            "ws" => false,
            "wss" => true,
            _ => return Err(UrlError::Scheme),
        };
        // In small letters, in which alone the WebSocket library knows it.
        let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|_| UrlError::Form)?;
        let authority = uri.authority().ok_or(UrlError::Form)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Login);
        }
        // What follows a host is a port, or nothing.
        let behind = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port_is_read = behind.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
        if authority.host().is_empty() || !port_is_read {
            return Err(UrlError::Form);
        }
        Ok(Self { uri, secure })
    }
}

/// Without the query, which may hold what others need not see.
impl fmt::Display for SignalingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        let authority = self.uri.authority().map(axum::http::uri::Authority::as_str).unwrap_or_default();
        let path = if self.uri.path() == "/" { "" } else { self.uri.path() };
        write!(f, "{scheme}://{authority}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_in_every_spelling() {
        for (text, shown, host, port) in [
            ("ws://localhost:8080", "ws://localhost:8080", "localhost", 8080),
            ("ws://example.org", "ws://example.org", "example.org", 80),
            ("wss://example.org/", "wss://example.org", "example.org", 443),
            ("WSS://example.org:1/ws?token=secret", "wss://example.org:1/ws", "example.org", 1),
            (" Ws://localhost:8080\r\n", "ws://localhost:8080", "localhost", 8080),
            ("ws://[::1]:7", "ws://[::1]:7", "::1", 7),
            ("ws://[2001:db8::1]", "ws://[2001:db8::1]", "2001:db8::1", 80),
        ] {
            let url: SignalingUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (shown, host, port), "{text}");
            let scheme = if shown.starts_with("wss") { "wss" } else { "ws" };
            assert_eq!(url.uri().scheme_str(), Some(scheme), "{text}");
        }
    }

    #[test]
    fn more_is_asked_for_behind_what_was() {
        for (text, path, more, asked) in [
            ("ws://h", "/", &[][..], "ws://h/"),
            ("ws://h?a=1", "/rooms/x%20y", &[("token", "a.b_c-d")], "ws://h/rooms/x%20y?a=1&token=a.b_c-d"),
            ("wss://h:1/ws", "/ws", &[("room", "ä&b=c"), ("x", "1 2")], "wss://h:1/ws?room=%C3%A4%26b%3Dc&x=1+2"),
        ] {
            let url: SignalingUrl = text.parse().unwrap();
            assert_eq!(url.asking(path, more).unwrap().uri().to_string(), asked);
        }
        let url: SignalingUrl = "ws://h/p?q=1".parse().unwrap();
        assert_eq!((url.path(), url.query()), ("/p", "q=1"));
    }

    #[test]
    fn what_is_no_url_is_said_in_words() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("localhost:8080", UrlError::Scheme),
            ("http://localhost:8080", UrlError::Scheme),
            ("ws://", UrlError::Form),
            ("ws:///path", UrlError::Form),
            ("ws://:8080", UrlError::Form),
            ("ws://host:", UrlError::Form),
            ("ws://host:0", UrlError::Form),
            ("ws://host:65536", UrlError::Form),
            ("ws://host:http", UrlError::Form),
            ("ws://ho st", UrlError::Form),
            ("ws://me:secret@host", UrlError::Login),
        ] {
            assert_eq!(text.parse::<SignalingUrl>(), Err(error), "{text}");
        }
    }
}
