//! Where a MOQT server is: `moqt://host:4443/echo` over raw QUIC, `https://host:4443/echo` over WebTransport.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use thiserror::Error;
use url::{Position, Url};

use crate::moqt::{DEFAULT_PORT, Transport};

/// The address of a server and what is asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What carries the streams.
    pub transport: Transport,
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    /// The UDP port.
    pub port: u16,
    /// What is asked for, such as `/echo`, with its query if it has one.
    pub path: String,
}

/// Why a text is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// It has no scheme, or another one.
    #[error("write moqt://HOST:PORT/PATH for raw QUIC, or https://HOST:PORT/PATH for WebTransport")]
    Scheme,
    /// Its port is none.
    #[error("`{0}` is not a port; it is a number from 1 to 65535")]
    Port(String),
    /// It has no host, or is no URL.
    #[error("it is no URL: write moqt://HOST:PORT/PATH, an IPv6 address in brackets, and %20 for a blank in the path")]
    Form,
    /// It has a name or a password in it, which would be seen by every user of the machine.
    #[error("a user name or password cannot be given in the URL")]
    Login,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        // A line feed from a file, or a blank from a hasty copy, is meant by nobody.
        let (scheme, rest) = text.trim().split_once("://").ok_or(TargetError::Scheme)?;
        let is = |transport: &Transport| scheme.eq_ignore_ascii_case(transport.scheme());
        let transport = [Transport::Quic, Transport::WebTransport].into_iter().find(is).ok_or(TargetError::Scheme)?;
        let uri: Uri = format!("https://{rest}").parse().map_err(|_| TargetError::Form)?;
        let authority = uri.authority().ok_or(TargetError::Form)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::Login);
        }
        // What is after the last colon, and no number from 0 to 65535, is no port.
        let host = authority.host();
        if host.is_empty() {
            return Err(TargetError::Form);
        }
        let port = match authority.as_str().strip_prefix(host) {
            None | Some("") => DEFAULT_PORT,
            Some(behind) => {
                let port = behind.strip_prefix(':').unwrap_or(behind);
                let number = port.parse().ok().filter(|port| *port != 0);
                number.ok_or_else(|| TargetError::Port(port.to_owned()))?
            }
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // As URLs write it, whatever carries the streams: over WebTransport nothing else can be asked for.
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let url: Url = format!("https://localhost{path}").parse().map_err(|_| TargetError::Form)?;
        let path = &url[Position::BeforePath..Position::AfterQuery];
        Ok(Self { transport, host: host.to_owned(), port, path: path.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, host, port, path } = self;
        let scheme = transport.scheme();
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(transport: Transport, host: &str, port: u16, path: &str) -> Target {
        Target { transport, host: host.to_owned(), port, path: path.to_owned() }
    }

    #[test]
    fn a_url_says_what_carries_the_streams_and_has_the_port_of_the_protocol_unless_told() {
        let read = |text: &str| text.parse::<Target>();
        assert_eq!(read("moqt://localhost:4444/echo"), Ok(target(Transport::Quic, "localhost", 4_444, "/echo")));
        assert_eq!(read("HTTPS://h/echo?x=1\n"), Ok(target(Transport::WebTransport, "h", 4_443, "/echo?x=1")));
        assert_eq!(read("moqt://[::1]:1"), Ok(target(Transport::Quic, "::1", 1, "/")));
        for wrong in ["localhost:4443", "http://h/echo", "wss://h"] {
            assert_eq!(read(wrong), Err(TargetError::Scheme), "{wrong}");
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
                    read(&format!("{scheme}://{text}")).map(|target| target.path).as_deref(),
                    Ok(path),
                    "{text}"
                );
            }
        }
        for wrong in ["moqt://", "moqt:///echo", "moqt://::1:4443/echo", "moqt://h h/", "moqt://h/a b"] {
            assert_eq!(read(wrong), Err(TargetError::Form), "{wrong}");
        }
        for (wrong, port) in
            [("moqt://h:99999/", "99999"), ("https://[::1]:0/", "0"), ("moqt://h:/", ""), ("moqt://h:x", "x")]
        {
            assert_eq!(read(wrong), Err(TargetError::Port(port.to_owned())), "{wrong}");
        }
        assert_eq!(read("moqt://me:word@h/echo"), Err(TargetError::Login));
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["moqt://localhost:4443/echo", "https://[::1]:4443/echo", "https://127.0.0.1:1/"] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()).as_deref(), Ok(text));
        }
    }
}
