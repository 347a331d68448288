//! HTTP Basic authentication (RFC 7617) for the pages of the operator.
//!
//! There is one user name and one password; neither has a default. The name and the password are stored as SHA-256 digests, which are
//! compared in constant time. An address with too many failed logins has to wait even if the password is right. Otherwise, an attacker
//! could try passwords without a limit.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use tracing::warn;

use crate::io::clock;
use crate::io::http::{ConnectionInfo, MAX_LIMITED_SOURCES, body, csrf};
use crate::io::log::SharedLogThrottle;
use crate::rate_limit::{WindowLimit, WindowLimiter};
use crate::time::Time;

/// Default limit of failed logins per address.
const DEFAULT_FAILURE_LIMIT: WindowLimit = WindowLimit { count: 20, period: Duration::from_secs(15 * 60) };

const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"docs\"");

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
    /// The server has no password.
    #[error("Login disabled: no password is set; use --docs-password-file FILE or set DOCS_PASSWORD")]
    NoPasswordSet,
    /// The request has no `Authorization` header.
    #[error("Login required")]
    Missing,
    /// The name, the password or the header is wrong.
    #[error("Wrong name or password")]
    Invalid,
    /// Too many failed logins from this address. Contains the time until the next attempt is allowed.
    #[error("Too many failed logins, please try again later")]
    RateLimited(Duration),
}

/// A server's login, with its attempt limit.
#[derive(Debug)]
pub struct Login {
    credentials: Option<Credentials>,
    failed_attempts: Option<Mutex<WindowLimiter>>,
    failed_count: AtomicU64,
    rate_limited_count: AtomicU64,
    log_throttle: SharedLogThrottle,
}

impl Default for Login {
    /// Rejects every login.
    fn default() -> Self {
        Self::new(None, Some(DEFAULT_FAILURE_LIMIT))
    }
}

impl Login {
    /// Without `credentials` every login is rejected. `failures` limits failed logins per address; `None` is no limit.
    pub fn new(credentials: Option<Credentials>, failures: Option<WindowLimit>) -> Self {
        let (failed_count, rate_limited_count) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            credentials,
            failed_attempts: failures.map(|limit| Mutex::new(WindowLimiter::new(limit, MAX_LIMITED_SOURCES))),
            failed_count,
            rate_limited_count,
            log_throttle: SharedLogThrottle::default(),
        }
    }

    /// Rejected logins with a wrong name or password.
    pub fn failed_count(&self) -> u64 {
        self.failed_count.load(Ordering::Relaxed)
    }

    /// Logins rejected without a check, because there were too many failed logins from their address.
    pub fn rate_limited_count(&self) -> u64 {
        self.rate_limited_count.load(Ordering::Relaxed)
    }

    /// Checks the login of a request. The first request of a browser contains no login. Such a request does not count as a failed login.
    pub fn check(&self, headers: &HeaderMap, source: IpAddr, now: Time) -> Result<(), LoginError> {
        let Some(expected) = &self.credentials else { return Err(LoginError::NoPasswordSet) };
        let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
        let Some(first) = values.next() else { return Err(LoginError::Missing) };
        if let Some(wait) = self.failed_attempts().and_then(|mut failed| failed.retry_after(now, source)) {
            return Err(self.count_rejection(source, LoginError::RateLimited(wait)));
        }
        // A repeated header is not accepted.
        let given = Credentials::from_header(first).filter(|_| values.next().is_none());
        if given.is_some_and(|given| given.matches(expected).into()) {
            return Ok(());
        }
        let counted = self.failed_attempts().map_or(Ok(()), |mut failed| failed.check(now, source));
        let reason = counted.map_or_else(LoginError::RateLimited, |()| LoginError::Invalid);
        Err(self.count_rejection(source, reason))
    }

    /// Failed logins by address, if they are limited.
    fn failed_attempts(&self) -> Option<MutexGuard<'_, WindowLimiter>> {
        self.failed_attempts.as_ref().map(|failed| failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts and logs a rejection. The given name and password are not logged. They may be correct except for a typing error.
    fn count_rejection(&self, source: IpAddr, reason: LoginError) -> LoginError {
        let count = if reason == LoginError::Invalid { &self.failed_count } else { &self.rate_limited_count };
        count.fetch_add(1, Ordering::Relaxed);
        if self.log_throttle.allow() {
            warn!(target: "http", source = %source, reason = %reason, "login rejected");
        }
        reason
    }
}

impl IntoResponse for LoginError {
    fn into_response(self) -> Response {
        if let Self::RateLimited(wait) = self {
            return body::too_many_requests(&self.to_string(), wait);
        }
        let mut response = body::error_response(StatusCode::UNAUTHORIZED, &self.to_string());
        response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
        response
    }
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
    let source = client.source.ip();
    let mut response = if let Err(error) = login.check(request.headers(), source, clock::monotonic_now()) {
        error.into_response()
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

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
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
        let right = headers(&[RIGHT]);
        assert_eq!(Login::default().check(&right, address(1), Time::ZERO), Err(LoginError::NoPasswordSet));
        // An empty name with an empty password is not accepted either.
        assert_eq!(
            Login::default().check(&headers(&["Basic Og=="]), address(1), Time::ZERO),
            Err(LoginError::NoPasswordSet)
        );
        assert!(!format!("{:?}", login(1)).contains("sesame"));
    }
}
