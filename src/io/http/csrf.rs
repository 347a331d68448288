//! Rejects requests that pages of other origins cause, which a browser sends with the credentials of its user.
//!
//! Browsers add `Sec-Fetch-Site` to each request to a trustworthy URL, and `Origin` to each request that may change something; scripts cannot
//! set these headers. Because another site's name can resolve to loopback (DNS rebinding), a login that works only on this machine also
//! requires a loopback `Host`.

use axum::http::{HeaderMap, HeaderValue, Method, header};

use crate::io::http::request_host::RequestHost;

/// Whether a page of another origin caused the request, even by a link. Without `Sec-Fetch-Site`, `Origin` decides.
pub(super) fn is_cross_origin(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").into_iter().peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| site == "same-origin" || site == "none");
    }
    let requested = RequestHost::requested(headers);
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok()?;
        let (host, default_port) = match origin.strip_prefix("https://") {
            Some(host) => (host, 443),
            None => (origin.strip_prefix("http://")?, 80),
        };
        Some(RequestHost::parse(host)?.is_same(requested?, default_port))
    };
    headers.get_all(header::ORIGIN).into_iter().any(|origin| is_own(origin) != Some(true))
}

/// Whether a request is rejected. A page of another origin may only link to a page of this server.
pub(super) fn is_forbidden(method: &Method, headers: &HeaderMap) -> bool {
    let is_link = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
        && headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    is_cross_origin(headers) && !is_link
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parsed = lines.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a header name"), value.parse().expect("a header value"))
        });
        parsed.collect()
    }

    #[test]
    fn pages_of_other_origins_may_only_link() {
        let odd: Method = "BREW".parse().expect("a method");
        for foreign in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                assert!(!is_forbidden(&method, &headers(&[foreign])), "{method}");
                assert!(!is_forbidden(&method, &headers(&[foreign, ("sec-fetch-mode", "navigate")])), "{method}");
                for mode in ["no-cors", "cors", "websocket"] {
                    assert!(is_forbidden(&method, &headers(&[foreign, ("sec-fetch-mode", mode)])), "{method} {mode}");
                }
            }
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE, odd.clone()] {
                assert!(is_forbidden(&method, &headers(&[foreign, ("sec-fetch-mode", "navigate")])), "{method}");
                assert!(!is_forbidden(&method, &HeaderMap::new()), "{method}: not a browser");
            }
        }
    }

    #[test]
    fn sec_fetch_site_decides_before_origin() {
        let origin = [("origin", "https://a.example"), ("host", "b.example")];
        for (sites, expected) in [
            (&["same-origin"][..], false),
            (&["none"], false),
            (&["same-site"], true),
            (&["cross-site"], true),
            (&[""], true),
            (&["none", "cross-site"], true),
        ] {
            let lines: Vec<_> = sites.iter().map(|site| ("sec-fetch-site", *site)).chain(origin).collect();
            assert_eq!(is_cross_origin(&headers(&lines)), expected, "{sites:?}");
        }
    }

    #[test]
    fn origin_must_name_the_requested_host() {
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://LOCALHOST:8080", "localhost:8080"),
            ("https://a.example", "A.example"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://a.example", "a.example:80"),
            ("https://a.example", "a.example:443"),
        ] {
            assert!(!is_cross_origin(&headers(&[("origin", origin), ("host", host)])), "{origin} at {host}");
        }
        for (origin, host) in [
            ("null", "null"),
            ("", ""),
            ("http://", "a.example"),
            ("a.example", "a.example"),
            ("//a.example", "a.example"),
            ("chrome-extension://a.example", "a.example"),
            ("https://b.example", "a.example"),
            ("https://a.example.evil.example", "a.example"),
            ("https://a.example@evil.example", "evil.example"),
            ("http://a.example:8080", "a.example:8081"),
            ("http://a.example:8080", "a.example"),
        ] {
            assert!(is_cross_origin(&headers(&[("origin", origin), ("host", host)])), "{origin} at {host}");
        }
        let both = [("host", "a.example"), ("origin", "https://a.example"), ("origin", "https://evil.example")];
        assert!(is_cross_origin(&headers(&both)));
        assert!(is_cross_origin(&headers(&[("origin", "https://a.example")])), "without Host");
    }
}
