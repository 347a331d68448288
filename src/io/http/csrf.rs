//! Rejects cross-site requests. A browser sends a cross-site request on behalf of a page from another site.
//!
//! The body of a request that changes something must have the header `Content-Type: application/json`. An HTML form always sends another
//! content type, even without fields. A script of another site can send this header only after a CORS preflight. The server never grants
//! the preflight for these requests. For a request without a body, the browser sends an `Origin` header, which must match `Host`. Another
//! site's name can resolve to loopback (DNS rebinding). Therefore, pages that are available only on this machine also require a loopback
//! `Host`.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use thiserror::Error;

use crate::io::http::body;
use crate::io::http::request_host::RequestHost;

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CsrfError {
    /// The content type is not JSON.
    #[error("Send Content-Type: application/json")]
    ContentType,
    /// The request comes from a page of another site.
    #[error("Requests from pages of other sites are rejected")]
    Origin,
}

/// Checks the method and the headers of a request. Rejects a request that a page of another site could have sent.
pub fn check(method: &Method, headers: &HeaderMap) -> Result<(), CsrfError> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        // A link on another site may lead to a page of this server. Subresource requests of other sites, such as images, are rejected
        // before the server produces a response. The page of the other site could not read the response anyway.
        let is = |name: &'static str, what: &str| {
            single_header(headers, HeaderName::from_static(name)).map(|value| value.is_some_and(|value| value == what))
        };
        let is_subresource = is("sec-fetch-site", "cross-site")? && !is("sec-fetch-mode", "navigate")?;
        return if is_subresource { Err(CsrfError::Origin) } else { Ok(()) };
    }
    let content_type = single_header(headers, header::CONTENT_TYPE).map_err(|_| CsrfError::ContentType)?;
    let is_allowed = content_type.map_or_else(|| !has_body(headers), is_json);
    if !is_allowed {
        return Err(CsrfError::ContentType);
    }
    if has_other_origin(headers) { Err(CsrfError::Origin) } else { Ok(()) }
}

/// Whether a page of another origin caused the request, even by a link. Browsers send `Sec-Fetch-Site` or `Origin` with such a request.
pub fn is_caused_by_other_page(headers: &HeaderMap) -> bool {
    let site = single_header(headers, HeaderName::from_static("sec-fetch-site"));
    !matches!(site, Ok(None | Some("same-origin" | "none"))) || has_other_origin(headers)
}

/// Whether `Origin` differs from `Host`.
fn has_other_origin(headers: &HeaderMap) -> bool {
    let is_same = |origin| RequestHost::requested(headers).is_some_and(|host| is_same_origin(origin, host));
    single_header(headers, header::ORIGIN).map_or(true, |origin| !origin.is_none_or(is_same))
}

/// Whether the headers announce a body (RFC 9112, section 6.3).
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length.as_bytes() != b"0")
}

/// The value of a header that may occur only once. A repeated header or one that is not text is an error, because it is ambiguous.
fn single_header(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, CsrfError> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next().map(|value| value.to_str().map_err(|_| CsrfError::Origin)).transpose()?;
    if values.next().is_some() { Err(CsrfError::Origin) } else { Ok(value) }
}

fn is_json(media_type: &str) -> bool {
    media_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether the origin and the host are the same. The default port of the origin's scheme replaces a missing port. Behind a proxy that
/// terminates TLS, the server does not know the scheme of its clients.
fn is_same_origin(origin: &str, host: RequestHost<'_>) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let default_port = match &*scheme.to_ascii_lowercase() {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    RequestHost::parse(rest).is_some_and(|origin| origin.is_same(host, default_port))
}

/// Rejects requests whose `Host` is not a name or address of loopback.
pub fn require_loopback_host(router: Router) -> Router {
    router.layer(from_fn(async |request: Request, next: Next| -> Response {
        if has_loopback_host(request.headers()) {
            return next.run(request).await;
        }
        let error = "Only available on this host: use localhost, 127.0.0.1 or [::1]";
        body::error_response(StatusCode::MISDIRECTED_REQUEST, error)
    }))
}

/// Whether there is exactly one `Host` header and it names loopback. The port does not matter, because it may be forwarded.
pub fn has_loopback_host(headers: &HeaderMap) -> bool {
    RequestHost::requested(headers).is_some_and(RequestHost::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parsed = lines.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a header name"), value.parse().expect("a header value"))
        });
        parsed.collect()
    }

    fn check_post(lines: &[(&str, &str)]) -> Result<(), CsrfError> {
        check(&Method::POST, &headers(lines))
    }

    #[test]
    fn safe_methods_are_allowed_from_any_origin() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(check(&method, &headers(&[("origin", "https://evil.example")])), Ok(()));
        }
        let odd: Method = "BREW".parse().expect("a method");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE, odd] {
            for body in [("content-length", "2"), ("transfer-encoding", "chunked")] {
                assert_eq!(check(&method, &headers(&[body])), Err(CsrfError::ContentType), "{method}");
            }
            let cross_site = [("origin", "https://evil.example"), ("host", "a.example")];
            assert_eq!(check(&method, &headers(&cross_site)), Err(CsrfError::Origin), "{method}");
            assert_eq!(check(&method, &headers(&[("content-length", "0")])), Ok(()), "{method}");
            assert_eq!(check(&method, &HeaderMap::new()), Ok(()), "{method}");
        }
    }

    #[test]
    fn form_content_types_are_rejected() {
        for json in ["application/json", "application/json; charset=utf-8", "Application/JSON ;charset=utf-8"] {
            assert_eq!(check_post(&[("content-type", json)]), Ok(()), "{json}");
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
            assert_eq!(check_post(&[("content-type", other)]), Err(CsrfError::ContentType), "{other}");
        }
        let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
        assert_eq!(check_post(&twice), Err(CsrfError::ContentType));
    }

    #[test]
    fn only_same_origin_requests_are_allowed() {
        let from =
            |origin, host| check_post(&[("content-type", "application/json"), ("origin", origin), ("host", host)]);
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
            assert_eq!(from(origin, host), Err(CsrfError::Origin), "{origin} at {host}");
        }
        let json = ("content-type", "application/json");
        assert_eq!(check_post(&[json, ("origin", "https://a.example")]), Err(CsrfError::Origin), "without Host");
        let both = [json, ("host", "a.example"), ("origin", "https://a.example"), ("origin", "https://evil.example")];
        assert_eq!(check_post(&both), Err(CsrfError::Origin));
        let hosts = [json, ("origin", "https://a.example"), ("host", "evil.example"), ("host", "a.example")];
        assert_eq!(check_post(&hosts), Err(CsrfError::Origin));
    }

    fn allowed(hosts: &[&str]) -> bool {
        has_loopback_host(&hosts.iter().map(|host| (header::HOST, host.parse().expect("a header value"))).collect())
    }

    #[test]
    fn only_loopback_hosts_are_allowed() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(allowed(&[host]), "{host}");
        }
        for host in [
            "",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "localhost.:8080",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "192.0.2.1:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "[::ffff:192.0.2.1]:8080",
            "localhost:99999",
            "localhost, evil.example",
        ] {
            assert!(!allowed(&[host]), "{host}");
        }
        assert!(!allowed(&[]) && !allowed(&["localhost", "localhost"]) && !allowed(&["localhost", "evil.example"]));
    }
}
