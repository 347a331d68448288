//! Login for the pages of the operator: HTTP Basic authentication (RFC 7617), or a session that a login link has started.
//!
//! There is one user name and one password; the password has no default. Without a password, the server prints a login link
//! ([`login_link`]). The name and the password are stored as SHA-256 digests, which are
//! compared in constant time. An address with too many failed logins has to wait even if the password is right. Otherwise, an attacker
//! could try passwords without a limit. Wrong login links count as failed logins too.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use tracing::{info, warn};

use crate::io::clock;
use crate::io::http::login_link::{self, LinkLogin, RequestSource};
use crate::io::http::{ConnectionInfo, MAX_LIMITED_SOURCES, body, csrf};
use crate::io::log::SharedLogThrottle;
use crate::rate_limit::{WindowLimit, WindowLimiter};
use crate::sanitize::escape_html_prose;
use crate::time::Time;

/// Default limit of failed logins per address.
const DEFAULT_FAILURE_LIMIT: WindowLimit = WindowLimit { count: 20, period: Duration::from_secs(15 * 60) };

/// How the operator enables logins from every machine.
const SIGNALING_SERVER_REMEDY: &str =
    "start `signaling-server` with `--docs-password-file FILE` or `--admin-token-remote`";

/// The same, if the server is part of another program, which has no options for the login.
const EMBEDDED_SERVER_REMEDY: &str = "use the subcommand `signaling-server` with `--docs-password-file FILE`";

const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"docs\"");

/// A 401 response must contain a challenge (RFC 9110, section 15.5.2). Browsers ignore this unknown scheme and show the page, which explains the
/// login. For `Basic`, browsers would request a password, and no password would be accepted.
const LINK_CHALLENGE: HeaderValue = HeaderValue::from_static("Link realm=\"docs\"");

/// Browsers may store a page, but have to revalidate it, which requires the login again.
const CACHE_CONTROL_PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// A user name and its password, stored as SHA-256 digests.
#[derive(Clone)]
pub struct Credentials {
    name: [u8; 32],
    password: [u8; 32],
}

impl Credentials {
    /// The name must not contain a colon (RFC 7617, section 2).
    pub fn new(name: &str, password: &str) -> Self {
        Self::from_bytes(name.as_bytes(), password.as_bytes())
    }

    fn from_bytes(name: &[u8], password: &[u8]) -> Self {
        let digest = |text| Sha256::digest(text).into();
        Self { name: digest(name), password: digest(password) }
    }

    /// Parses the value of an `Authorization` header.
    fn from_header(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.to_str().ok()?.trim().split_once(' ')?;
        let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(Self::from_bytes(&decoded[..colon], &decoded[colon + 1..]))
    }

    fn matches(&self, other: &Self) -> Choice {
        // The name and the password are always both compared. Therefore, rejecting a wrong name takes as long as rejecting a wrong
        // password.
        self.name.ct_eq(&other.name) & self.password.ct_eq(&other.password)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Why a login is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The server has neither a password nor login links.
    #[error("Login disabled: there is no password, and this listen address has no login link; {remedy}")]
    NoPasswordSet {
        /// How to enable logins.
        remedy: &'static str,
    },
    /// The request has no `Authorization` header.
    #[error("Login required")]
    Missing,
    /// The name, the password or the header is wrong.
    #[error("Wrong name or password")]
    Invalid,
    /// There is no password. The login needs a link that this machine can use.
    #[error("Login required: {}", link_advice(*.pid))]
    LinkRequired {
        /// Process id of the server, in responses to this machine.
        pid: Option<u32>,
    },
    /// The login link does not work for this client.
    #[error("The login link works only on the machine of the server. Open the link there, or {remedy}")]
    LinkNotLocal {
        /// How to enable logins from other machines.
        remedy: &'static str,
    },
    /// The login link is wrong, used or replaced.
    #[error("This login link has already been used or is invalid; {}", link_advice(*.pid))]
    LinkInvalid {
        /// Process id of the server, in responses to this machine.
        pid: Option<u32>,
    },
    /// The request is a prefetch or a preview, or comes from a script or from another site.
    #[error("Paste the login link into the address bar of a browser tab; the link is still valid")]
    LinkPrefetch,
    /// The system provides no random numbers for a session.
    #[error("The server cannot create a session now")]
    NoRandomNumbers,
    /// Too many failed logins from this address. Contains the time until the next attempt is allowed.
    #[error("Too many failed logins, please try again later")]
    RateLimited(Duration),
}

/// How the operator gets a login link. `pid` is the process id, in responses to this machine.
fn link_advice(pid: Option<u32>) -> String {
    let link = "the login link that the server printed at startup, or that is in the file named in the log";
    match pid {
        _ if cfg!(not(unix)) => format!("open {link}, or start `signaling-server` with `--docs-password-file FILE`"),
        Some(pid) => format!("open {link}. For a new link: `kill -USR1 {pid}`"),
        None => "open the login link on the machine of the server (new link: `kill -USR1 PID`), or start `signaling-server` with \
                 `--docs-password-file FILE`"
            .to_owned(),
    }
}

/// A server's login, with its attempt limit.
#[derive(Debug)]
pub struct Login {
    credentials: Option<Credentials>,
    link: Option<LinkLogin>,
    /// How to enable logins from every machine, for responses.
    remedy: &'static str,
    /// Failed logins by address, if they are limited: first those of the operator, then those that pages of other origins cause. Such
    /// a page can send wrong passwords with the operator's browser. It must not lock the operator out.
    failed_attempts: Option<[Mutex<WindowLimiter>; 2]>,
    failed_count: AtomicU64,
    rate_limited_count: AtomicU64,
    log_throttle: SharedLogThrottle,
}

impl Default for Login {
    /// The login of a server in another program: rejects every login.
    fn default() -> Self {
        Self { remedy: EMBEDDED_SERVER_REMEDY, ..Self::new(None, Some(DEFAULT_FAILURE_LIMIT)) }
    }
}

impl Login {
    /// The login of `signaling-server`. Without `credentials` every login is rejected. `failures` limits failed logins per address; `None` is no limit.
    pub fn new(credentials: Option<Credentials>, failures: Option<WindowLimit>) -> Self {
        let (failed_count, rate_limited_count) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            credentials,
            link: None,
            remedy: SIGNALING_SERVER_REMEDY,
            failed_attempts: failures
                .map(|limit| [(); 2].map(|()| Mutex::new(WindowLimiter::new(limit, MAX_LIMITED_SOURCES)))),
            failed_count,
            rate_limited_count,
            log_throttle: SharedLogThrottle::default(),
        }
    }

    /// Also accepts login links and their sessions.
    #[must_use]
    pub fn with_link(self, link: LinkLogin) -> Self {
        Self { link: Some(link), ..self }
    }

    /// The login links, if they are accepted.
    pub fn link(&self) -> Option<&LinkLogin> {
        self.link.as_ref()
    }

    /// Whether there is a password.
    pub fn has_password(&self) -> bool {
        self.credentials.is_some()
    }

    /// Rejected logins with a wrong name or password, or with a wrong link.
    pub fn failed_count(&self) -> u64 {
        self.failed_count.load(Ordering::Relaxed)
    }

    /// Logins rejected without a check, because there were too many failed logins from their address.
    pub fn rate_limited_count(&self) -> u64 {
        self.rate_limited_count.load(Ordering::Relaxed)
    }

    /// Checks the login of a request: a session's cookie, or a name and a password. The first request of a browser contains no login.
    /// Such a request does not count as a failed login.
    pub fn check(&self, headers: &HeaderMap, client: RequestSource, now: Time) -> Result<(), LoginError> {
        let source = client.address;
        if self.link.as_ref().is_some_and(|link| link.has_session(headers, client, now)) {
            return Ok(());
        }
        let Some(expected) = &self.credentials else {
            let pid = local_pid(headers, client);
            let no_link = LoginError::NoPasswordSet { remedy: self.remedy };
            return Err(if self.link.is_some() { LoginError::LinkRequired { pid } } else { no_link });
        };
        let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
        let Some(first) = values.next() else { return Err(LoginError::Missing) };
        if let Some(wait) = self.failed_attempts(headers).and_then(|mut failed| failed.retry_after(now, source)) {
            return Err(self.count_rejection(source, LoginError::RateLimited(wait)));
        }
        // A repeated header is not accepted.
        let given = Credentials::from_header(first).filter(|_| values.next().is_none());
        if given.is_some_and(|given| given.matches(expected).into()) {
            return Ok(());
        }
        let counted = self.failed_attempts(headers).map_or(Ok(()), |mut failed| failed.check(now, source));
        let reason = counted.map_or_else(LoginError::RateLimited, |()| LoginError::Invalid);
        Err(self.count_rejection(source, reason))
    }

    /// Exchanges the secret of a login link for a session. Returns the value of the `Set-Cookie` header. A rejected request does not use
    /// up the link.
    pub fn redeem_link(
        &self,
        secret: &str,
        headers: &HeaderMap,
        client: RequestSource,
        is_tls_at_proxy: bool,
        now: Time,
    ) -> Result<HeaderValue, LoginError> {
        let source = client.address;
        let Some(link) = &self.link else {
            let no_link = LoginError::NoPasswordSet { remedy: self.remedy };
            return Err(if self.has_password() { LoginError::Missing } else { no_link });
        };
        if !link.is_permitted(headers, client) {
            return Err(self.count_rejection(source, LoginError::LinkNotLocal { remedy: self.remedy }));
        }
        if login_link::is_prefetch(headers) {
            return Err(LoginError::LinkPrefetch);
        }
        if let Some(wait) = self.failed_attempts(headers).and_then(|mut failed| failed.retry_after(now, source)) {
            return Err(self.count_rejection(source, LoginError::RateLimited(wait)));
        }
        let redeemed = link.redeem(secret, is_tls_at_proxy, now).map_err(|_| LoginError::NoRandomNumbers)?;
        let Some(cookie) = redeemed else {
            let counted = self.failed_attempts(headers).map_or(Ok(()), |mut failed| failed.check(now, source));
            let invalid = LoginError::LinkInvalid { pid: local_pid(headers, client) };
            return Err(self.count_rejection(source, counted.map_or_else(LoginError::RateLimited, |()| invalid)));
        };
        info!(target: "http", source = %source, "login link used");
        Ok(cookie)
    }

    /// Failed logins by address that count for this request, if they are limited.
    fn failed_attempts(&self, headers: &HeaderMap) -> Option<MutexGuard<'_, WindowLimiter>> {
        let [own, of_other_pages] = self.failed_attempts.as_ref()?;
        let failed = if csrf::is_caused_by_other_page(headers) { of_other_pages } else { own };
        Some(failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts and logs a rejection. The given name and password are not logged. They may be correct except for a typing error.
    fn count_rejection(&self, source: IpAddr, reason: LoginError) -> LoginError {
        let is_limited = matches!(reason, LoginError::RateLimited(_));
        let count = if is_limited { &self.rate_limited_count } else { &self.failed_count };
        count.fetch_add(1, Ordering::Relaxed);
        if self.log_throttle.allow() {
            warn!(target: "http", source = %source, reason = %reason, "login rejected");
        }
        reason
    }
}

/// The process id of this server, for requests of this machine. Other clients cannot use it.
fn local_pid(headers: &HeaderMap, client: RequestSource) -> Option<u32> {
    login_link::is_local(headers, client).then(std::process::id)
}

impl LoginError {
    /// The response to a request with `headers`. A browser gets a page that explains how to log in with a link.
    pub fn response_for(self, headers: &HeaderMap) -> Response {
        let (status, challenge) = match self {
            Self::LinkRequired { .. } | Self::LinkInvalid { .. } | Self::NoPasswordSet { .. } => {
                (StatusCode::UNAUTHORIZED, Some(LINK_CHALLENGE))
            }
            Self::LinkNotLocal { .. } | Self::LinkPrefetch => (StatusCode::FORBIDDEN, None),
            Self::NoRandomNumbers => (StatusCode::SERVICE_UNAVAILABLE, None),
            Self::Missing | Self::Invalid => (StatusCode::UNAUTHORIZED, Some(CHALLENGE)),
            Self::RateLimited(wait) => return body::too_many_requests(&self.to_string(), wait),
        };
        let has_page = challenge.as_ref() != Some(&CHALLENGE) && accepts_html(headers);
        let mut response = if has_page {
            let page = ERROR_PAGE.replace("<!-- error -->", &escape_html_prose(&self.to_string()));
            let mut response = body::page_response("text/html; charset=utf-8", ERROR_PAGE_CSP, page);
            *response.status_mut() = status;
            response
        } else {
            body::error_response(status, &self.to_string())
        };
        response.headers_mut().extend(challenge.map(|challenge| (header::WWW_AUTHENTICATE, challenge)));
        response
    }
}

/// The page for a browser without a valid login link.
const ERROR_PAGE: &str = include_str!("login_error.html");
const ERROR_PAGE_CSP: &str = "style-src 'self'; img-src 'self'";

/// Whether the client prefers a page to JSON. Browsers list HTML first, and other clients do not list it.
fn accepts_html(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|kind| kind.trim().starts_with("text/html")))
}

/// Adds `login` and the checks of [`csrf`] to all routes of `router`. Both run before a body is read.
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
    let mut response = if let Err(error) = login.check(request.headers(), (&client).into(), clock::monotonic_now()) {
        error.response_for(request.headers())
    } else if let Err(error) = csrf::check(request.method(), request.headers()) {
        body::error_response(StatusCode::FORBIDDEN, &error.to_string())
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

    fn login(count: u32) -> Login {
        let rate = WindowLimit { count, period: Duration::from_secs(60) };
        Login::new(Some(Credentials::new("admin", "open: sesame ü")), Some(rate))
    }

    // printf 'admin:open: sesame ü' | base64
    const RIGHT: &str = "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8";

    #[test]
    fn only_the_exact_name_and_password_are_accepted() {
        let (login, now) = (login(1_000), Time::ZERO);
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
        assert_eq!((login.failed_count(), login.rate_limited_count()), (16, 0));
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
        let (login, now) = (login(4), Time::ZERO);
        for (name, value) in others {
            assert_eq!(login.check(&request(wrong, name, value), address(1), now), Err(LoginError::Invalid));
        }
        // A forged header gives no further guesses.
        for (name, value) in others {
            let rejected = login.check(&request(RIGHT, name, value), address(1), now);
            assert!(matches!(rejected, Err(LoginError::RateLimited(_))), "{name} {value}: {rejected:?}");
        }
        let own = [("sec-fetch-site", "none"), ("sec-fetch-site", "same-origin"), ("origin", "https://a.example")];
        for (name, value) in own {
            assert_eq!(login.check(&request(RIGHT, name, value), address(1), now), Ok(()));
            assert_eq!(login.check(&request(wrong, name, value), address(1), now), Err(LoginError::Invalid));
        }
        assert_eq!(login.check(&headers(&[wrong]), address(1), now), Err(LoginError::Invalid));
        assert!(matches!(login.check(&headers(&[RIGHT]), address(1), now), Err(LoginError::RateLimited(_))));
    }

    #[test]
    fn rate_limited_address_is_rejected_with_the_right_password_too() {
        let (login, start) = (login(2), Time::ZERO);
        let at = |seconds| start + Duration::from_secs(seconds);
        let wrong = headers(&["Basic YWRtaW46"]);
        let right = headers(&[RIGHT]);
        // Correct logins and requests without a login do not count as failed logins.
        for _ in 0..100 {
            assert_eq!(login.check(&right, address(1), at(0)), Ok(()));
            assert_eq!(login.check(&HeaderMap::new(), address(1), at(0)), Err(LoginError::Missing));
        }
        assert_eq!(login.check(&wrong, address(1), at(0)), Err(LoginError::Invalid));
        assert_eq!(login.check(&right, address(1), at(1)), Ok(()));
        assert_eq!(login.check(&wrong, address(1), at(20)), Err(LoginError::Invalid));
        for headers in [&right, &wrong] {
            let wait = Duration::from_secs(39);
            assert_eq!(login.check(headers, address(1), at(21)), Err(LoginError::RateLimited(wait)));
        }
        assert_eq!(login.check(&right, address(2), at(21)), Ok(()));
        assert_eq!(login.check(&right, address(1), at(60)), Ok(()));
        assert_eq!((login.failed_count(), login.rate_limited_count()), (2, 2));
    }

    #[test]
    fn without_a_password_every_login_is_rejected() {
        // An empty name with an empty password is not accepted either.
        for given in [RIGHT, "Basic Og=="] {
            for (login, remedy) in [
                (
                    Login::new(None, None),
                    "start `signaling-server` with `--docs-password-file FILE` or `--admin-token-remote`",
                ),
                // Another program has no such options.
                (Login::default(), "use the subcommand `signaling-server` with `--docs-password-file FILE`"),
            ] {
                let rejected = login.check(&headers(&[given]), address(1), Time::ZERO);
                assert_eq!(rejected, Err(LoginError::NoPasswordSet { remedy }), "{given}");
            }
        }
        assert!(!format!("{:?}", login(1)).contains("sesame"));
    }
}
