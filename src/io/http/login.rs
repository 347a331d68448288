//! Login for the pages of the operator: HTTP Basic authentication (RFC 7617) with one user name and one password.
//!
//! A browser also adds the stored password to requests that pages of other sites cause. Such requests are rejected before the password is
//! looked at, so that another site can neither act as the operator nor lock the operator out with wrong passwords. Browsers add
//! `Sec-Fetch-Site` to each request to a trustworthy URL, and `Origin` to each request that may change something; scripts cannot set these
//! headers. To a plain HTTP server on another host, they add only `Referer` to other requests, unless the page forbids it: use TLS. `Host` needs
//! no rule: if the name of another site resolves to this server (DNS rebinding), a browser sends no password, because it stores passwords by
//! origin.
//!
//! An address with too many failed logins has to wait even if the password is right, so that an attacker cannot try passwords without a limit.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing::warn;

use crate::address::source_network;
use crate::io::clock;
use crate::io::connection_permit::MAX_LIMITED_SOURCES;
use crate::io::http::ConnectionInfo;
use crate::io::http::body::{self, RequestError};
use crate::io::log::SharedLogThrottle;
use crate::lock::lock;
use crate::rate_limit::{Gcra, KeyedGcra, RequestRate};
use crate::signaling::token::Secret;
use crate::time::Time;

/// Default user name.
pub const DEFAULT_USER_NAME: &str = "admin";

/// Maximum number of failed logins per address. Above, each login from the address is rejected until one is available again.
pub const FAILURE_RATE: RequestRate = RequestRate { count: 20, period: Duration::from_secs(15 * 60) };

/// A 401 response must contain a challenge (RFC 9110, section 15.5.2).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"docs\"");

/// Browsers may store a page, but have to revalidate it, which requires the login again.
const CACHE_CONTROL_PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The response to a link on a page of another site. An empty reference means the URL of this page itself, and following it is a request of
/// this site.
const OTHER_SITE_PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
    <title>Link from another site</title>\n<p>A page of another site led here, so your login was not used. <a href=\"\">Open this page</a>\n";

/// A server's login, with its limit on failed logins.
#[derive(Debug)]
pub struct Login {
    /// `NAME:PASSWORD` in base64, as clients send it.
    credentials: Option<Secret>,
    failures: Mutex<KeyedGcra<IpAddr>>,
    /// Rejected logins with a wrong name or password.
    pub failed: AtomicU64,
    /// Logins rejected because there were too many failed logins from their address.
    pub rate_limited: AtomicU64,
    log_throttle: SharedLogThrottle,
}

/// Rejects every login.
impl Default for Login {
    fn default() -> Self {
        Self {
            credentials: None,
            failures: Mutex::new(KeyedGcra::new(Gcra::with_request_rate(FAILURE_RATE), MAX_LIMITED_SOURCES)),
            failed: AtomicU64::new(0),
            rate_limited: AtomicU64::new(0),
            log_throttle: SharedLogThrottle::default(),
        }
    }
}

impl Login {
    /// Accepts a name, which must not contain a colon (RFC 7617, section 2), and a password.
    pub fn new(name: &str, password: &str) -> Self {
        let credentials = Secret::new(&STANDARD.encode(format!("{name}:{password}")));
        Self { credentials: Some(credentials), ..Self::default() }
    }

    /// The response to a request that may not reach its handler. Only a wrong name or password counts as a failed login, not its absence.
    pub fn rejection(&self, method: &Method, headers: &HeaderMap, address: IpAddr, now: Time) -> Option<Response> {
        if is_from_other_site(headers) {
            return Some(reject_other_site(method, headers));
        }
        let Some(credentials) = &self.credentials else {
            let error = "Login disabled, because no password is set: start the server with DOCS_PASSWORD";
            return Some(body::error_response(StatusCode::FORBIDDEN, error));
        };
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Some(challenge("Login required")) };
        let given = given.to_str().unwrap_or_default().split_once(' ');
        let is_right = given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case("basic") && credentials.matches(given.trim_ascii())
        });
        let network = source_network(address);
        let mut failures = lock(&self.failures);
        let wait = Some(failures.wait(now, network)).filter(|wait| !wait.is_zero());
        let (count, error) = match wait {
            None if is_right => return None,
            None => {
                failures.charge(now, network, 1);
                (&self.failed, "Wrong name or password")
            }
            Some(_) => (&self.rate_limited, "Too many failed logins, please try again later"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        // The given name and password are not logged. They may be correct except for a typing error.
        if self.log_throttle.allow() {
            warn!(target: "http", source = %address, reason = %error, "login rejected");
        }
        Some(wait.map_or_else(|| challenge(error), |wait| RequestError::too_many_requests(error, wait).into_response()))
    }
}

fn challenge(error: &str) -> Response {
    ([(header::WWW_AUTHENTICATE, CHALLENGE)], body::error_response(StatusCode::UNAUTHORIZED, error)).into_response()
}

/// Whether a page of another site caused the request, even by a link. Programs such as curl send none of these headers.
fn is_from_other_site(headers: &HeaderMap) -> bool {
    let text = |name: &'static str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(page) = text("origin").or_else(|| text("referer")) else { return false };
    let host = page.strip_prefix("http://").or(page.strip_prefix("https://")).and_then(|rest| rest.split('/').next());
    host.zip(text("host")).is_none_or(|(host, own)| !host.eq_ignore_ascii_case(own))
}

fn reject_other_site(method: &Method, headers: &HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|types| types.to_str().ok());
    if method == Method::GET && accepts.is_some_and(|types| types.contains("text/html")) {
        let page = body::page_response("text/html; charset=utf-8", OTHER_SITE_PAGE);
        return (StatusCode::FORBIDDEN, page).into_response();
    }
    body::error_response(StatusCode::FORBIDDEN, "Requests from pages of other sites are rejected")
}

/// Adds `login` to all routes of `router`. It runs before a body is read.
pub fn require_login(router: Router, login: &Arc<Login>) -> Router {
    // The fallback is set before the login layer, so that a 405 response also requires the login.
    let router = router.method_not_allowed_fallback(async || body::method_not_allowed());
    router.route_layer(from_fn_with_state(Arc::clone(login), login_middleware))
}

async fn login_middleware(
    State(login): State<Arc<Login>>,
    Extension(client): Extension<ConnectionInfo>,
    request: Request,
    next: Next,
) -> Response {
    let now = clock::monotonic_now();
    let mut response = match login.rejection(request.method(), request.headers(), client.source.ip(), now) {
        Some(rejection) => rejection,
        None => next.run(request).await,
    };
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(CACHE_CONTROL_PRIVATE);
    response
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    type Lines<'a> = &'a [(&'static str, &'a str)];

    // printf 'admin:open: sesame ü' | base64
    const RIGHT: (&str, &str) = ("authorization", "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8");
    /// No password.
    const WRONG: (&str, &str) = ("authorization", "Basic YWRtaW46");
    const OTHER_SITE: (&str, &str) = ("sec-fetch-site", "cross-site");

    fn login() -> Login {
        Login::new("admin", "open: sesame ü")
    }

    /// The status of a request from the address 192.0.2.`last`, or 200 if it reaches its handler.
    fn status(login: &Login, method: &str, lines: Lines<'_>, last: u8, seconds: u64) -> u16 {
        let lines =
            lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a header value")));
        let (headers, now): (HeaderMap, _) = (lines.collect(), Time::ZERO + Duration::from_secs(seconds));
        let method = method.parse().expect("a method");
        let rejection = login.rejection(&method, &headers, [192, 0, 2, last].into(), now);
        rejection.map_or(200, |response| response.status().as_u16())
    }

    #[test]
    fn only_the_exact_credentials_open_a_page_and_not_from_other_sites() {
        let encoded = RIGHT.1.strip_prefix("Basic ").expect("the scheme");
        let spaced = format!("basic  {encoded} ");
        let (host, own) = (("host", "a.example:8080"), ("origin", "http://a.example:8080"));
        let rows: &[(&str, Lines<'_>, u16)] = &[
            // curl -X POST -u
            ("POST", &[RIGHT, host], 200),
            ("GET", &[("authorization", &*spaced)], 200),
            ("GET", &[], 401),
            ("BREW", &[WRONG], 401),
            // Of two headers, the first one counts.
            ("GET", &[WRONG, RIGHT], 401),
            // Sec-Fetch-Site decides before Origin.
            ("POST", &[RIGHT, host, ("sec-fetch-site", "same-origin"), ("origin", "https://b.example")], 200),
            ("GET", &[RIGHT, host, ("sec-fetch-site", "none")], 200),
            // To a plain HTTP server on another host, a browser sends only `Referer`.
            ("GET", &[RIGHT, host, ("referer", "http://A.example:8080/console")], 200),
            ("GET", &[RIGHT, host, ("referer", "http://evil.example/a.example:8080")], 403),
            ("POST", &[RIGHT, host, OTHER_SITE, own], 403),
            ("GET", &[RIGHT, host, OTHER_SITE], 403),
            ("GET", &[RIGHT, host, ("sec-fetch-site", "same-site")], 403),
            ("GET", &[RIGHT, host, ("sec-fetch-site", "")], 403),
            ("GET", &[WRONG, host, OTHER_SITE], 403),
            ("POST", &[RIGHT, host, own], 200),
            ("POST", &[RIGHT, host, ("origin", "https://a.example:8080")], 200),
            ("POST", &[RIGHT, host, ("origin", "http://a.example")], 403),
            ("POST", &[RIGHT, host, ("origin", "http://b.example:8080")], 403),
            ("POST", &[RIGHT, host, ("origin", "http://a.example:8080.evil.example")], 403),
            ("POST", &[RIGHT, host, ("origin", "chrome-extension://a.example:8080")], 403),
            ("POST", &[RIGHT, host, ("origin", "a.example:8080")], 403),
            ("POST", &[RIGHT, ("host", "null"), ("origin", "null")], 403),
            ("POST", &[RIGHT, own], 403),
            ("OPTIONS", &[host, ("origin", "https://evil.example")], 403),
            // A name of another site that resolves to this server: the browser has no password for it.
            ("POST", &[("host", "evil.example"), ("origin", "http://evil.example")], 401),
            ("GET", &[("host", "evil.example"), ("sec-fetch-site", "same-origin")], 401),
        ];
        for &(method, lines, expected) in rows {
            assert_eq!(status(&login(), method, lines, 1, 0), expected, "{method} {lines:?}");
            assert_eq!(status(&Login::default(), method, lines, 1, 0), 403, "{method} {lines:?}: no password is set");
        }
        // Base64 of `admin`, `:`, `:open: sesame ü`, `Admin:open: sesame ü`, `admin:open: sesame` and `admin:open: sesame üx`.
        let wrong = "YWRtaW4= Og== Om9wZW46IHNlc2FtZSDDvA== QWRtaW46b3Blbjogc2VzYW1lIMO8 YWRtaW46b3Blbjogc2VzYW1l \
                     YWRtaW46b3Blbjogc2VzYW1lIMO8eA== !!!!";
        let wrong = wrong.split(' ').map(|wrong| format!("Basic {wrong}"));
        let forms = ["", "Basic", "Basic "].map(str::to_owned).into_iter();
        let forms = forms.chain(["Bearer {}", "Basic{}", "Basic {}=", "{}"].map(|form| form.replace("{}", encoded)));
        for wrong in wrong.chain(forms) {
            assert_eq!(status(&login(), "GET", &[("authorization", &*wrong)], 1, 0), 401, "{wrong}");
        }
    }

    #[test]
    fn wrong_logins_lock_an_address_but_those_of_other_sites_do_not_count() {
        let login = login();
        let rows: &[(usize, u64, u8, Lines<'_>, u16)] = &[
            (100, 0, 1, &[RIGHT], 200),
            (100, 0, 1, &[], 401),
            (100, 0, 1, &[WRONG, OTHER_SITE], 403),
            (19, 0, 1, &[WRONG], 401),
            (1, 0, 1, &[RIGHT], 200),
            (1, 1, 1, &[WRONG], 401),
            (1, 1, 1, &[RIGHT], 429),
            (1, 1, 1, &[WRONG], 429),
            (1, 1, 2, &[RIGHT], 200),
            (1, 44, 1, &[RIGHT], 429),
            (1, 45, 1, &[RIGHT], 200),
        ];
        for &(count, seconds, last, lines, expected) in rows {
            let statuses: Vec<u16> = (0..count).map(|_| status(&login, "GET", lines, last, seconds)).collect();
            assert_eq!(statuses, vec![expected; count], "{lines:?} after {seconds} s");
        }
        assert_eq!((login.failed.load(Ordering::Relaxed), login.rate_limited.load(Ordering::Relaxed)), (20, 3));
        assert!(!format!("{login:?}").contains("YWRtaW4"));
    }
}
