//! A page of another site must not make a browser, which knows the login, change what the server does.
//!
//! Two signs tell such a request. A form cannot send `application/json`, and a script that does so has to ask first, which is
//! never allowed here. And browsers say in `Origin` whose page asks.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, header};
use thiserror::Error;

/// Why a request is not believed to be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Breach {
    /// The body is not said to be JSON.
    #[error("Send Content-Type: application/json")]
    ContentType,
    /// A page of another site asks.
    #[error("Pages of other sites may not ask this")]
    Origin,
}

/// Whether a request by this method, with these headers, may change something.
pub fn check(method: &Method, headers: &HeaderMap) -> Result<(), Breach> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        // A link may lead here. What a page of another site loads in passing could not be read by it, but would be answered.
        let says = |name: &'static str, what: &str| {
            only(headers, HeaderName::from_static(name)).map(|value| value.is_some_and(|value| value == what))
        };
        let in_passing = says("sec-fetch-site", "cross-site")? && !says("sec-fetch-mode", "navigate")?;
        return if in_passing { Err(Breach::Origin) } else { Ok(()) };
    }
    if !only(headers, header::CONTENT_TYPE).is_ok_and(|value| value.is_some_and(is_json)) {
        return Err(Breach::ContentType);
    }
    match only(headers, header::ORIGIN)? {
        None => Ok(()),
        Some(origin) if only(headers, header::HOST)?.is_some_and(|host| is_at(origin, host)) => Ok(()),
        Some(_) => Err(Breach::Origin),
    }
}

/// The one value of a header. Several of them, or one that is no text, are a breach: which of them counts?
pub(super) fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Breach> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next().map(|value| value.to_str().map_err(|_| Breach::Origin)).transpose()?;
    if values.next().is_some() { Err(Breach::Origin) } else { Ok(value) }
}

/// Whether this media type is JSON, whatever its parameters.
fn is_json(media_type: &str) -> bool {
    media_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether a page of this origin comes from this host. A port that is not named is that of the origin's scheme, for both: where
/// a proxy ends TLS the server does not know which one its clients use.
fn is_at(origin: &str, host: &str) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let usual = match &*scheme.to_ascii_lowercase() {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let (origin, host) = (place(rest, usual), place(host, usual));
    origin.is_some() && origin == host
}

/// The host, in small letters, and the port.
pub(super) fn place(text: &str, usual: u16) -> Option<(String, u16)> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    // Whatever stands before the host, such as a name, is no part of either header.
    let port = text.strip_prefix(host)?;
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None => usual,
    };
    Some((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parsed = lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value")));
        parsed.collect()
    }

    fn post(lines: &[(&str, &str)]) -> Result<(), Breach> {
        check(&Method::POST, &headers(lines))
    }

    #[test]
    fn what_changes_nothing_may_come_from_anywhere() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(check(&method, &headers(&[("origin", "https://evil.example")])), Ok(()));
        }
        let odd: Method = "BREW".parse().expect("a method");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE, odd] {
            assert_eq!(check(&method, &HeaderMap::new()), Err(Breach::ContentType), "{method}");
        }
    }

    #[test]
    fn a_form_cannot_change_anything() {
        for json in ["application/json", "application/json; charset=utf-8", "Application/JSON ;charset=utf-8"] {
            assert_eq!(post(&[("content-type", json)]), Ok(()), "{json}");
        }
        for other in [
            "",
            "text/plain",
            "text/plain; application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
            "application/jsonp",
            "application/json, text/plain",
            ";application/json",
        ] {
            assert_eq!(post(&[("content-type", other)]), Err(Breach::ContentType), "{other}");
        }
        let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
        assert_eq!(post(&twice), Err(Breach::ContentType));
    }

    #[test]
    fn a_page_is_heard_where_it_comes_from_and_nowhere_else() {
        let from = |origin, host| post(&[("content-type", "application/json"), ("origin", origin), ("host", host)]);
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://LOCALHOST:8080", "localhost:8080"),
            ("https://a.example", "A.example"),
            ("https://a.example", "a.example:443"),
            ("https://a.example:443", "a.example"),
            ("http://a.example", "a.example:80"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("https://[2001:db8::a]", "[2001:DB8::A]:443"),
            ("http://192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(from(origin, host), Ok(()), "{origin} at {host}");
        }
        for (origin, host) in [
            ("null", "a.example"),
            ("", "a.example"),
            ("http://", "a.example"),
            ("http://", ""),
            ("a.example", "a.example"),
            ("//a.example", "a.example"),
            ("ftp://a.example", "a.example"),
            ("chrome-extension://a.example", "a.example"),
            ("https://b.example", "a.example"),
            ("https://a.example.evil.example", "a.example"),
            ("https://a.example@evil.example", "evil.example"),
            ("https://evil.example/a.example", "a.example"),
            ("http://a.example", "a.example:443"),
            ("https://a.example", "a.example:80"),
            ("http://a.example:8080", "a.example:8081"),
            ("http://a.example:8080", "a.example"),
            ("http://a.example:99999", "a.example"),
            ("http://a.example", "a.example:99999"),
            ("http://[::1]:8080", "[::2]:8080"),
            ("http://[::1]:8080", "localhost:8080"),
            ("https://a.example.", "a.example"),
            ("https://a.example, https://b.example", "a.example"),
        ] {
            assert_eq!(from(origin, host), Err(Breach::Origin), "{origin} at {host}");
        }
        let json = ("content-type", "application/json");
        assert_eq!(post(&[json, ("origin", "https://a.example")]), Err(Breach::Origin), "without Host");
        let both = [json, ("host", "a.example"), ("origin", "https://a.example"), ("origin", "https://evil.example")];
        assert_eq!(post(&both), Err(Breach::Origin));
        let hosts = [json, ("origin", "https://a.example"), ("host", "evil.example"), ("host", "a.example")];
        assert_eq!(post(&hosts), Err(Breach::Origin));
    }
}
