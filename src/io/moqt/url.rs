//! URL of a MOQT server: `moqt://host:4443/echo` over raw QUIC, `https://host:4443/echo` over WebTransport.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use thiserror::Error;
use url::{Position, Url};

use crate::address::{HostPort, ParseHostError, join_host_port, url_authority, without_zone};
use crate::moqt::{DEFAULT_PORT, Transport, without_query};

/// Transport, address and path of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoqtUrl {
    /// Transport of the streams.
    pub transport: Transport,
    /// Host name or address; IPv6 without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// Path and query, such as `/echo`.
    pub path: String,
}

/// Reason why a text is not a server URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseMoqtUrlError {
    /// The scheme is missing or unknown.
    #[error("unknown scheme: write moqt://HOST:PORT/PATH for raw QUIC, or https://HOST:PORT/PATH for WebTransport")]
    Scheme,
    /// The host or the port is invalid.
    #[error(transparent)]
    Host(ParseHostError),
    /// The host is missing, or the text is not a URL.
    #[error(
        "invalid URL; expected moqt://HOST:PORT/PATH. Write IPv6 addresses in brackets, and a space in the path as %20"
    )]
    Malformed,
    /// The URL contains a user name or password, which other users of the machine could see.
    #[error("the URL must not contain a user name or password")]
    Userinfo,
}

impl FromStr for MoqtUrl {
    type Err = ParseMoqtUrlError;

    fn from_str(text: &str) -> Result<Self, ParseMoqtUrlError> {
        // Ignores surrounding white space, such as a line feed from a file.
        let (scheme, rest) = text.trim_ascii().split_once("://").ok_or(ParseMoqtUrlError::Scheme)?;
        let has_scheme = |transport: &Transport| scheme.eq_ignore_ascii_case(transport.scheme());
        let transport =
            [Transport::Quic, Transport::WebTransport].into_iter().find(has_scheme).ok_or(ParseMoqtUrlError::Scheme)?;
        let (userinfo, HostPort { host, port }, rest) = HostPort::split_url(rest).map_err(|error| match error {
            ParseHostError::Missing | ParseHostError::Brackets(_) => ParseMoqtUrlError::Malformed,
            error => ParseMoqtUrlError::Host(error),
        })?;
        if userinfo.is_some() {
            return Err(ParseMoqtUrlError::Userinfo);
        }
        let port = port.unwrap_or(DEFAULT_PORT);
        let uri = format!("https://{}{rest}", join_host_port(without_zone(&host), port));
        let uri: Uri = uri.parse().map_err(|_| ParseMoqtUrlError::Malformed)?;
        // For both transports, the path is normalized like that of an HTTPS URL, because WebTransport can send only a normalized path.
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let url: Url = format!("https://localhost{path}").parse().map_err(|_| ParseMoqtUrlError::Malformed)?;
        let path = &url[Position::BeforePath..Position::AfterQuery];
        Ok(Self { transport, host, port, path: path.to_owned() })
    }
}

impl MoqtUrl {
    /// The URL with its query, for the request, whose host has no zone. The query may contain a token, so that this text must not be printed.
    pub(super) fn with_query(&self) -> String {
        let Self { transport, host, port, path } = self;
        format!("{}://{}{path}", transport.scheme(), join_host_port(without_zone(host), *port))
    }
}

/// Prints the URL without the query, which may contain a token.
impl fmt::Display for MoqtUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, host, port, path } = self;
        let authority = url_authority(&join_host_port(host, *port));
        write!(f, "{}://{authority}{}", transport.scheme(), without_query(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(transport: Transport, host: &str, port: u16, path: &str) -> MoqtUrl {
        MoqtUrl { transport, host: host.to_owned(), port, path: path.to_owned() }
    }

    #[test]
    fn url_selects_transport_and_default_port() {
        let read = |text: &str| text.parse::<MoqtUrl>();
        assert_eq!(read("moqt://localhost:4444/echo"), Ok(url(Transport::Quic, "localhost", 4_444, "/echo")));
        assert_eq!(read("HTTPS://h/echo?x=1\n"), Ok(url(Transport::WebTransport, "h", 4_443, "/echo?x=1")));
        assert_eq!(read("moqt://[::1]:1"), Ok(url(Transport::Quic, "::1", 1, "/")));
        for wrong in ["localhost:4443", "http://h/echo", "wss://h"] {
            assert_eq!(read(wrong), Err(ParseMoqtUrlError::Scheme), "{wrong}");
        }
        for (text, path) in [
            ("h/a/../b", "/b"),
            ("h/./b?x", "/b?x"),
            ("h/%65", "/%65"),
            ("h/\u{e9}?\u{e9}", "/%C3%A9?%C3%A9"),
            ("h/b/", "/b/"),
        ] {
            for scheme in ["moqt", "https"] {
                assert_eq!(
                    read(&format!("{scheme}://{text}")).map(|parsed| parsed.path).as_deref(),
                    Ok(path),
                    "{text}"
                );
            }
        }
        for wrong in ["moqt://", "moqt:///echo", "moqt://::1:4443/echo", "moqt://h h/", "moqt://h/a b", "https://[]"] {
            assert_eq!(read(wrong), Err(ParseMoqtUrlError::Malformed), "{wrong}");
        }
        for (wrong, port) in
            [("moqt://h:99999/", "99999"), ("https://[::1]:0/", "0"), ("moqt://h:/", ""), ("moqt://h:x", "x")]
        {
            assert_eq!(read(wrong), Err(ParseMoqtUrlError::Host(ParseHostError::Port(port.to_owned()))), "{wrong}");
        }
        assert_eq!(read("moqt://me:word@h/echo"), Err(ParseMoqtUrlError::Userinfo));
    }

    #[test]
    fn query_is_requested_but_not_displayed() {
        let url: MoqtUrl = "https://h:1/a/b?jwt=s3cret&x=?#f".parse().expect("a URL");
        assert_eq!(url.to_string(), "https://h:1/a/b");
        assert_eq!(url.with_query(), "https://h:1/a/b?jwt=s3cret&x=?");
    }

    #[test]
    fn url_displays_as_parsed() {
        for text in ["moqt://localhost:4443/echo", "https://[fe80::1%25lo]:4443/echo", "https://127.0.0.1:1/"] {
            let url = text.parse::<MoqtUrl>().expect(text);
            assert_eq!((url.to_string(), url.with_query()), (text.to_owned(), text.replace("%25lo", "")));
        }
    }
}
