//! Login for the pages of the operator: HTTP Basic authentication (RFC 7617) with one user name and one password.
//!
//! Without a configured password, a server on a terminal has a random one for this start, and prints it as part of a URL. The random
//! password is accepted only on this machine; requests with headers of a proxy do not count as local, because a reverse proxy on this machine
//! connects from loopback too. The URL gives the browser a cookie that is derived from the password, so that there are no sessions to store.
//!
//! Secrets are compared in constant time. An address with too many failed logins has to wait even if the password is right, so that an attacker
//! cannot try passwords without a limit.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tracing::warn;

use crate::io::clock;
use crate::io::connection_permit::MAX_LIMITED_SOURCES;
use crate::io::http::connection_info::ConnectionInfo;
use crate::io::http::request_host::RequestHost;
use crate::io::http::{body, csrf};
use crate::lock::lock;
use crate::rate_limit::{WindowLimit, WindowLimiter};
use crate::time::Time;

const BASIC_CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"docs\"");

/// A 401 response must contain a challenge (RFC 9110, section 15.5.2). For `Basic`, browsers would request a password, which the operator
/// does not have. For this unknown scheme, browsers show the response, which explains the login.
const TOKEN_CHALLENGE: HeaderValue = HeaderValue::from_static("Token realm=\"docs\"");

/// Browsers may store a page, but have to revalidate it, which requires the login again.
const CACHE_CONTROL_PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Headers that reverse proxies add.
const PROXY_HEADERS: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct RequestSource {
    /// The client's address, which a trusted proxy may have reported.
    pub address: IpAddr,
    /// Whether a trusted proxy reported the address.
    pub is_forwarded: bool,
}

impl From<&ConnectionInfo> for RequestSource {
    fn from(client: &ConnectionInfo) -> Self {
        Self { address: client.source.ip(), is_forwarded: client.is_forwarded }
    }
}

/// A user name and its password, stored as a SHA-256 digest. A name contains no colon (RFC 7617, section 2).
#[derive(Clone)]
pub struct Credentials([u8; 32]);

impl Credentials {
    /// The name must not contain a colon.
    pub fn new(name: &str, password: &str) -> Self {
        Self(Sha256::digest(format!("{name}:{password}")).into())
    }

    /// Parses the `Authorization` header. A repeated header is not accepted.
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
        let header = values.next().filter(|_| values.next().is_none())?;
        let (scheme, encoded) = header.to_str().ok()?.trim().split_once(' ')?;
        let pair = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
        Some(Self(Sha256::digest(pair).into()))
    }
}

/// Limit of failed logins per address. After that many failed logins, each login from the address is rejected until the period has passed
/// since the first of them.
const FAILURE_LIMIT: WindowLimit = WindowLimit { count: 20, period: Duration::from_secs(15 * 60) };

/// Default user name, which a random password has too.
pub const DEFAULT_USER_NAME: &str = "admin";

/// Why a login is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The server has no password.
    #[error("Login disabled, because no password is set: start the server with DOCS_PASSWORD")]
    Disabled,
    /// There is no `Authorization` header.
    #[error("Login required")]
    Missing,
    /// The name, the password or the header is wrong.
    #[error("Wrong name or password")]
    Invalid,
    /// There is only a random password, and the request has neither the password nor its cookie, or comes from another machine.
    #[error(
        "Login required: on the machine of the server, open the URL with a token that the server printed at startup. For other \
         machines, start signaling-server with DOCS_PASSWORD"
    )]
    TokenRequired,
    /// Too many failed logins from this address. Contains the time until the next attempt is allowed.
    #[error("Too many failed logins, please try again later")]
    RateLimited(Duration),
}

impl IntoResponse for LoginError {
    fn into_response(self) -> Response {
        let challenge = match self {
            Self::Missing | Self::Invalid => BASIC_CHALLENGE,
            Self::Disabled | Self::TokenRequired => TOKEN_CHALLENGE,
            Self::RateLimited(wait) => return body::too_many_requests(&self.to_string(), wait),
        };
        let response = body::error_response(StatusCode::UNAUTHORIZED, &self.to_string());
        ([(header::WWW_AUTHENTICATE, challenge)], response).into_response()
    }
}

/// A server's login, with its attempt limit. `Debug` prints no secret.
pub struct Login {
    credentials: Option<Credentials>,
    /// The value of the cookie, if the password is random.
    cookie: Option<String>,
    /// Whether browsers send the cookie over TLS only.
    is_tls: bool,
    /// Failed logins by address: first those of the operator, then those that pages of other origins cause. Such a page can send wrong
    /// passwords with the operator's browser, and must not lock the operator out.
    failed_attempts: [Mutex<WindowLimiter>; 2],
    /// Rejected logins with a wrong name or password.
    pub failed: AtomicU64,
    /// Logins rejected without a check, because there were too many failed logins from their address.
    pub rate_limited: AtomicU64,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// Rejects every login.
impl Default for Login {
    fn default() -> Self {
        Self {
            credentials: None,
            cookie: None,
            is_tls: false,
            failed_attempts: [(); 2].map(|()| Mutex::new(WindowLimiter::new(FAILURE_LIMIT, MAX_LIMITED_SOURCES))),
            failed: AtomicU64::new(0),
            rate_limited: AtomicU64::new(0),
        }
    }
}

impl Login {
    /// Accepts a name and a password.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..Self::default() }
    }

    /// Accepts the random password of this start, on this machine only.
    pub fn with_random_password(password: &str, is_tls: bool) -> Self {
        // A digest does not reveal the random text.
        let cookie = URL_SAFE_NO_PAD.encode(Sha256::digest(format!("cookie {password}")));
        Self { cookie: Some(cookie), is_tls, ..Self::new(Credentials::new(DEFAULT_USER_NAME, password)) }
    }

    /// Checks the login of a request: the cookie, or a name and a password. A request without a login does not count as a failed login.
    /// Nor does a wrong cookie: after a restart of the server, an open console would send an old cookie every second.
    pub fn check(&self, headers: &HeaderMap, client: RequestSource, now: Time) -> Result<(), LoginError> {
        let missing = match &self.cookie {
            Some(_) if !is_local(headers, client) => return Err(LoginError::TokenRequired),
            Some(cookie) if has_cookie(headers, cookie) => return Ok(()),
            Some(_) => LoginError::TokenRequired,
            None if self.credentials.is_none() => return Err(LoginError::Disabled),
            None => LoginError::Missing,
        };
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(missing);
        }
        self.check_credentials(Credentials::from_headers(headers), headers, client, now)
    }

    /// Exchanges the token in the URL, which is the random password, for the value of the `Set-Cookie` header.
    fn redeem(&self, token: &str, headers: &HeaderMap, client: RequestSource, now: Time) -> Result<String, LoginError> {
        let Some(cookie) = self.cookie.as_ref().filter(|_| is_local(headers, client)) else {
            return Err(LoginError::TokenRequired);
        };
        self.check_credentials(Some(Credentials::new(DEFAULT_USER_NAME, token)), headers, client, now)?;
        // Browsers send cookies to all ports of a host. With the port in the name, servers on one host do not replace each other's cookies.
        let port = RequestHost::requested(headers).map_or(80, |host| host.port_or(80));
        let secure = if self.is_tls { "; Secure" } else { "" };
        Ok(format!("jamjam-dev-{port}={cookie}; HttpOnly; SameSite=Strict; Path=/{secure}"))
    }

    /// Compares credentials, and counts and logs a rejection.
    fn check_credentials(
        &self,
        given: Option<Credentials>,
        headers: &HeaderMap,
        RequestSource { address, .. }: RequestSource,
        now: Time,
    ) -> Result<(), LoginError> {
        let failed = &self.failed_attempts[usize::from(csrf::is_cross_origin(headers))];
        let mut failed = lock(failed);
        let right = self.credentials.as_ref();
        let is_right = given.zip(right).is_some_and(|(given, right)| given.0.ct_eq(&right.0).into());
        let (count, reason) = match failed.retry_after(now, address) {
            Some(wait) => (&self.rate_limited, LoginError::RateLimited(wait)),
            None if is_right => return Ok(()),
            None => {
                let _ = failed.check(now, address);
                let is_random = self.cookie.is_some();
                (&self.failed, if is_random { LoginError::TokenRequired } else { LoginError::Invalid })
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        // The given name and password are not logged. They may be correct except for a typing error.
        warn!(target: "http", source = %address, reason = %reason, "login rejected");
        Err(reason)
    }
}

/// Whether one of the cookies has this value. Another server on this host can set a cookie of the same name.
fn has_cookie(headers: &HeaderMap, value: &str) -> bool {
    let pairs =
        headers.get_all(header::COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut given = pairs.filter_map(|pair| pair.split(|byte| *byte == b'=').nth(1));
    given.any(|given| given.ct_eq(value.as_bytes()).into())
}

/// Whether a request comes from this machine: from a loopback address, without a proxy, and to one loopback `Host`. Another site's name
/// can resolve to loopback (DNS rebinding). The port of `Host` does not matter, because it may be forwarded.
fn is_local(headers: &HeaderMap, client: RequestSource) -> bool {
    !client.is_forwarded
        && client.address.to_canonical().is_loopback()
        && !PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
        && RequestHost::requested(headers).is_some_and(RequestHost::is_loopback)
}

/// Adds `login` and the check for requests that pages of other origins cause to all routes of `router`. Both run before a body is read.
pub fn require_login(router: Router, login: &Arc<Login>) -> Router {
    // The fallback is set before the login layer, so that a 405 response also requires the login.
    let router = router.method_not_allowed_fallback(async || body::method_not_allowed());
    router.layer(from_fn_with_state(Arc::clone(login), login_middleware))
}

async fn login_middleware(
    State(login): State<Arc<Login>>,
    Extension(client): Extension<ConnectionInfo>,
    request: Request,
    next: Next,
) -> Response {
    let (headers, query, now) = (request.headers(), request.uri().query().unwrap_or_default(), clock::monotonic_now());
    let client = RequestSource::from(&client);
    let token = form_urlencoded::parse(query.as_bytes()).find_map(|(name, value)| (name == "token").then_some(value));
    if let Some(token) = token.filter(|_| login.cookie.is_some()) {
        // The redirect removes the token from the address bar.
        let cookie = match login.redeem(&token, headers, client, now) {
            Ok(cookie) => cookie,
            Err(error) => return error.into_response(),
        };
        let headers =
            [(header::LOCATION, "/console"), (header::SET_COOKIE, &*cookie), (header::CACHE_CONTROL, "no-store")];
        return (StatusCode::SEE_OTHER, headers).into_response();
    }
    let mut response = if let Err(error) = login.check(headers, client, now) {
        error.into_response()
    } else if csrf::is_forbidden(request.method(), headers) {
        body::error_response(StatusCode::FORBIDDEN, "Requests from pages of other sites are rejected")
    } else {
        next.run(request).await
    };
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(CACHE_CONTROL_PRIVATE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().expect("a header value"))).collect()
    }

    fn address(last: u8) -> RequestSource {
        RequestSource { address: [192, 0, 2, last].into(), is_forwarded: false }
    }

    fn login() -> Login {
        Login::new(Credentials::new("admin", "open: sesame ü"))
    }

    // printf 'admin:open: sesame ü' | base64
    const RIGHT: &str = "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8";

    #[test]
    fn only_the_exact_name_and_password_are_accepted() {
        let (login, now) = (login(), Time::ZERO);
        for right in [RIGHT, "basic  YWRtaW46b3Blbjogc2VzYW1lIMO8 ", "BASIC YWRtaW46b3Blbjogc2VzYW1lIMO8"] {
            assert_eq!(login.check(&headers(&[right]), address(1), now), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Basic !!!!",
            // Base64 of `admin`, which has no colon between name and password.
            "Basic YWRtaW4=",
            // Base64 of `admin:` (no password), `:open: sesame ü` (no name) and `:` (neither).
            "Basic YWRtaW46",
            "Basic Om9wZW46IHNlc2FtZSDDvA==",
            "Basic Og==",
            // Base64 of `Admin:open: sesame ü`, which has a wrong name. Then `admin:open: sesame` and `admin:open: sesame üx`, which have a
            // wrong password.
            "Basic QWRtaW46b3Blbjogc2VzYW1lIMO8",
            "Basic YWRtaW46b3Blbjogc2VzYW1l",
            "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8eA==",
            // The right credentials with another scheme, with wrong padding, twice in one header, and without a space.
            "Bearer YWRtaW46b3Blbjogc2VzYW1lIMO8",
            "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8=",
            "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8, Basic YWRtaW46b3Blbjogc2VzYW1lIMO8",
            "BasicYWRtaW46b3Blbjogc2VzYW1lIMO8",
        ] {
            assert_eq!(login.check(&headers(&[wrong]), address(1), now), Err(LoginError::Invalid), "{wrong}");
        }
        assert_eq!(login.check(&headers(&[RIGHT, RIGHT]), address(1), now), Err(LoginError::Invalid));
        assert_eq!(login.check(&HeaderMap::new(), address(1), now), Err(LoginError::Missing));
        assert_eq!((login.failed.load(Ordering::Relaxed), login.rate_limited.load(Ordering::Relaxed)), (16, 0));
    }

    #[test]
    fn pages_of_other_origins_cannot_lock_the_operator_out() {
        let wrong = "Basic YWRtaW46";
        let request = |login: &str, name: &'static str, value: &str| {
            let mut headers = headers(&[login]);
            headers.insert(header::HOST, HeaderValue::from_static("a.example"));
            headers.insert(name, value.parse().expect("a header value"));
            headers
        };
        let others = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ];
        let (login, now) = (login(), Time::ZERO);
        for (name, value) in others.repeat(5) {
            assert_eq!(login.check(&request(wrong, name, value), address(1), now), Err(LoginError::Invalid));
        }
        // A forged header gives no further guesses.
        for (name, value) in others {
            let rejected = login.check(&request(RIGHT, name, value), address(1), now);
            assert!(matches!(rejected, Err(LoginError::RateLimited(_))), "{name} {value}: {rejected:?}");
        }
        let own = [("sec-fetch-site", "none"), ("sec-fetch-site", "same-origin"), ("origin", "https://a.example")];
        for (name, value) in own.repeat(6) {
            assert_eq!(login.check(&request(RIGHT, name, value), address(1), now), Ok(()));
            assert_eq!(login.check(&request(wrong, name, value), address(1), now), Err(LoginError::Invalid));
        }
        for _ in 18..20 {
            assert_eq!(login.check(&headers(&[wrong]), address(1), now), Err(LoginError::Invalid));
        }
        assert!(matches!(login.check(&headers(&[RIGHT]), address(1), now), Err(LoginError::RateLimited(_))));
    }

    #[test]
    fn rate_limited_address_is_rejected_with_the_right_password_too() {
        let (login, start) = (login(), Time::ZERO);
        let at = |seconds| start + Duration::from_secs(seconds);
        let limited = |seconds| Err(LoginError::RateLimited(Duration::from_secs(seconds)));
        let wrong = headers(&["Basic YWRtaW46"]);
        let right = headers(&[RIGHT]);
        // Correct logins and requests without a login do not count as failed logins.
        for _ in 0..100 {
            assert_eq!(login.check(&right, address(1), at(0)), Ok(()));
            assert_eq!(login.check(&HeaderMap::new(), address(1), at(0)), Err(LoginError::Missing));
        }
        for second in 0..20 {
            assert_eq!(login.check(&wrong, address(1), at(second)), Err(LoginError::Invalid));
            assert_eq!(login.check(&right, address(1), at(second)), if second < 19 { Ok(()) } else { limited(881) });
        }
        assert_eq!(login.check(&wrong, address(1), at(20)), limited(880));
        assert_eq!(login.check(&right, address(2), at(20)), Ok(()));
        assert_eq!(login.check(&right, address(1), at(900)), Ok(()));
        assert_eq!((login.failed.load(Ordering::Relaxed), login.rate_limited.load(Ordering::Relaxed)), (20, 2));
    }

    #[test]
    fn without_a_password_every_login_is_rejected() {
        // An empty name with an empty password is not accepted either.
        for given in [&[RIGHT][..], &["Basic Og=="], &[]] {
            let rejected = Login::default().check(&headers(given), address(1), Time::ZERO);
            assert_eq!(rejected, Err(LoginError::Disabled), "{given:?}");
        }
        assert!(!format!("{:?}", login()).contains("sesame"));
    }

    const LOCAL: RequestSource =
        RequestSource { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), is_forwarded: false };

    /// A login whose random password is `random`, and the headers of a local request with these lines.
    fn random(lines: &[(&'static str, &str)]) -> (Login, HeaderMap) {
        let lines = [("host", "127.0.0.1:8080")].iter().chain(lines);
        let headers =
            lines.map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a header value")));
        (Login::with_random_password("random", false), headers.collect())
    }

    #[test]
    fn token_gives_a_cookie_that_opens_the_pages() {
        let (login, local) = random(&[]);
        let check = |headers: &HeaderMap| login.check(headers, LOCAL, Time::ZERO);
        let cookie = login.redeem("random", &local, LOCAL, Time::ZERO).expect("a cookie");
        let (pair, attributes) = cookie.split_once(';').expect("attributes");
        let value = pair.strip_prefix("jamjam-dev-8080=").expect("the name");
        assert_eq!(attributes, " HttpOnly; SameSite=Strict; Path=/");
        assert!(value.len() == 43 && !value.contains("random"), "{value}");
        // A cookie that another server on this host has set does not hide the right one.
        let others = format!("a=b; jamjam-dev-8080={}; {pair}", "A".repeat(43));
        for right in [pair, &others] {
            assert_eq!(check(&random(&[("cookie", right)]).1), Ok(()), "{right}");
        }
        // The output of `printf admin:random | base64`.
        assert_eq!(check(&random(&[("authorization", "Basic YWRtaW46cmFuZG9t")]).1), Ok(()));
        for wrong in ["", "jamjam-dev-8080", "jamjam-dev-8080=", &pair[..pair.len() - 1], &pair.to_lowercase()] {
            assert_eq!(check(&random(&[("cookie", wrong)]).1), Err(LoginError::TokenRequired), "{wrong}");
        }
        assert_eq!(login.failed.load(Ordering::Relaxed), 0);
        assert!(!format!("{login:?}").contains(value));
    }

    #[test]
    fn guessed_tokens_are_limited() {
        let (login, local) = random(&[]);
        for wrong in ["", "Random"].repeat(10) {
            assert_eq!(login.redeem(wrong, &local, LOCAL, Time::ZERO), Err(LoginError::TokenRequired));
        }
        let limited = login.redeem("random", &local, LOCAL, Time::ZERO);
        assert!(matches!(limited, Err(LoginError::RateLimited(_))), "{limited:?}");
        assert_eq!((login.failed.load(Ordering::Relaxed), login.rate_limited.load(Ordering::Relaxed)), (20, 1));
    }

    #[test]
    fn random_password_is_accepted_on_this_machine_only() {
        let from = |text: &str| RequestSource { address: text.parse().expect("an address"), is_forwarded: false };
        let basic = ("authorization", "Basic YWRtaW46cmFuZG9t");
        let decide = |lines: &[(&'static str, &str)], client| {
            let (login, headers) = random(&[lines, &[basic]].concat());
            assert_eq!(
                login.redeem("random", &headers, client, Time::ZERO).map(drop),
                login.check(&headers, client, Time::ZERO)
            );
            login.check(&headers, client, Time::ZERO)
        };
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(decide(&[], from(local)), Ok(()), "{local}");
        }
        for other in ["192.0.2.1", "0.0.0.0", "::ffff:192.0.2.1", "fe80::1"] {
            assert_eq!(decide(&[], from(other)), Err(LoginError::TokenRequired), "{other}");
        }
        let forwarded = RequestSource { is_forwarded: true, ..LOCAL };
        assert_eq!(decide(&[], forwarded), Err(LoginError::TokenRequired), "reported by a trusted proxy");
        for name in PROXY_HEADERS {
            assert_eq!(decide(&[(name, "127.0.0.1")], LOCAL), Err(LoginError::TokenRequired), "{name}");
        }
        for host in ["evil.example", "127.0.0.1"] {
            assert_eq!(decide(&[("host", host)], LOCAL), Err(LoginError::TokenRequired), "a second Host: {host}");
        }
        let (login, mut headers) = random(&[basic]);
        for host in ["evil.example", "192.0.2.1:8080", ""] {
            headers.insert(header::HOST, host.parse().expect("a header value"));
            assert_eq!(login.check(&headers, LOCAL, Time::ZERO), Err(LoginError::TokenRequired), "{host}");
        }
    }
}
