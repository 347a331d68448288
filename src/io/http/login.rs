//! HTTP Basic (RFC 7617): who may read the description of the server and change what it does.
//!
//! There is one name and one password, and neither is built in. Both are kept and compared as digests, so that the time a
//! comparison takes tells neither how much of them was right nor how long they are. Whoever fails too often has to wait, with the
//! right password too: otherwise a guesser would notice when to stop.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

use super::rate::{Rate, Rates};
use super::{Client, answer, same_site};
use crate::io::complaints::Complaints;

/// Failed logins of one address unless told otherwise, and in how much time.
const FAILURES: Rate = Rate { most: 20, per: Duration::from_secs(15 * 60) };

/// What a browser asks its user for.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"docs\"");

/// A browser may keep pages, and asks each time whether they still hold; that takes the login again.
const NOT_FOR_OTHERS: HeaderValue = HeaderValue::from_static("private, no-cache");

/// A name and its password. Only their digests are kept.
#[derive(Clone)]
pub struct Credentials {
    name: [u8; 32],
    password: [u8; 32],
}

impl Credentials {
    /// Those of this name, in which there can be no colon (RFC 7617, section 2), and this password.
    pub fn new(name: &str, password: &str) -> Self {
        Self::of(name.as_bytes(), password.as_bytes())
    }

    fn of(name: &[u8], password: &[u8]) -> Self {
        let digest = |text| Sha256::digest(text).into();
        Self { name: digest(name), password: digest(password) }
    }

    /// Those that the value of an `Authorization` header shows.
    fn shown(header: &HeaderValue) -> Option<Self> {
        let (scheme, told) = header.to_str().ok()?.trim().split_once(' ')?;
        let told = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(told.trim()).ok())??;
        let colon = told.iter().position(|byte| *byte == b':')?;
        Some(Self::of(&told[..colon], &told[colon + 1..]))
    }

    fn are(&self, other: &Self) -> Choice {
        // Both are always compared: a wrong name takes as long as a wrong password.
        self.name.ct_eq(&other.name) & self.password.ct_eq(&other.password)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no password that could be right.
    #[error(
        "Nobody is let in: there is no docs password; give signaling-server --docs-password-file FILE, or set DOCS_PASSWORD"
    )]
    Nobody,
    /// Nothing was shown.
    #[error("Login required")]
    Missing,
    /// It was not the right thing.
    #[error("Wrong name or password")]
    Wrong,
    /// It was wrong too often. How long to wait.
    #[error("Too many failed logins, please try again later")]
    TooOften(Duration),
}

/// The one login of a server.
#[derive(Debug)]
pub struct Login {
    expected: Option<Credentials>,
    failures: Rates,
    failed: AtomicU64,
    blocked: AtomicU64,
    complaints: Complaints,
}

impl Default for Login {
    /// Nobody is let in.
    fn default() -> Self {
        Self::new(None, Some(FAILURES))
    }
}

impl Login {
    /// A login for whoever shows `expected`, if there is such a thing. One address may fail as often as `failures` says, or for ever.
    pub fn new(expected: Option<Credentials>, failures: Option<Rate>) -> Self {
        let (failed, blocked) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { expected, failures: Rates::new(failures), failed, blocked, complaints: Complaints::default() }
    }

    /// Logins that were wrong.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Logins that were not looked at, because their address had failed too often.
    pub fn blocked(&self) -> u64 {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Whether a request with these headers, from this address, is let in. A browser's first question comes without a
    /// login: that is no failure.
    pub fn check(&self, headers: &HeaderMap, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        let Some(expected) = &self.expected else { return Err(Refusal::Nobody) };
        let mut shown = headers.get_all(header::AUTHORIZATION).into_iter();
        let Some(first) = shown.next() else { return Err(Refusal::Missing) };
        if let Some(wait) = self.failures.wait(from, now) {
            return Err(self.refused(from, Refusal::TooOften(wait)));
        }
        // Two of them are no login.
        let given = Credentials::shown(first).filter(|_| shown.next().is_none());
        if given.is_some_and(|given| given.are(expected).into()) {
            return Ok(());
        }
        let why = self.failures.take(from, now).map_or_else(Refusal::TooOften, |()| Refusal::Wrong);
        Err(self.refused(from, why))
    }

    /// Counts it, and says so: what was shown is not said, since it may be nearly right.
    fn refused(&self, from: IpAddr, why: Refusal) -> Refusal {
        let count = if why == Refusal::Wrong { &self.failed } else { &self.blocked };
        count.fetch_add(1, Ordering::Relaxed);
        if self.complaints.may() {
            warn!("Refused a login from {from}: {why}");
        }
        why
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::TooOften(wait) = self {
            return answer::too_many(&self.to_string(), wait);
        }
        let mut response = answer::refusal(StatusCode::UNAUTHORIZED, &self.to_string());
        response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
        response
    }
}

/// Puts all routes of `router` behind `login`, those that change something behind the rule of [`same_site`] too, before a body
/// is read.
pub fn protect(router: Router, login: &Arc<Login>) -> Router {
    // What is not for a method is said behind the login as well, which is why it is said here.
    let router = router.method_not_allowed_fallback(async || answer::method_not_allowed());
    router.layer(from_fn_with_state(Arc::clone(login), guard))
}

async fn guard(
    State(login): State<Arc<Login>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    let from = client.from.ip();
    let mut response = if let Err(refusal) = login.check(request.headers(), from, Instant::now()) {
        refusal.into_response()
    } else if let Err(breach) = same_site::check(request.method(), request.headers()) {
        answer::refusal(StatusCode::FORBIDDEN, &breach.to_string())
    } else {
        next.run(request).await
    };
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NOT_FOR_OTHERS);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().expect("a value"))).collect()
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn login(most: u32) -> Login {
        let rate = Rate { most, per: Duration::from_secs(60) };
        Login::new(Some(Credentials::new("admin", "open: sesame ü")), Some(rate))
    }

    // printf 'admin:open: sesame ü' | base64, and so on.
    const RIGHT: &str = "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8";

    #[test]
    fn the_right_name_with_the_right_password_and_nothing_else_opens() {
        let (login, now) = (login(1_000), Instant::now());
        for right in [RIGHT, "basic  YWRtaW46b3Blbjogc2VzYW1lIMO8 ", "BASIC YWRtaW46b3Blbjogc2VzYW1lIMO8"] {
            assert_eq!(login.check(&headers(&[right]), address(1), now), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Basic !!!!",
            // Without a colon: admin
            "Basic YWRtaW4=",
            // admin: and :open: sesame ü and :
            "Basic YWRtaW46",
            "Basic Om9wZW46IHNlc2FtZSDDvA==",
            "Basic Og==",
            // Admin:open: sesame ü, admin:open: sesame, admin:open: sesame üx
            "Basic QWRtaW46b3Blbjogc2VzYW1lIMO8",
            "Basic YWRtaW46b3Blbjogc2VzYW1l",
            "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8eA==",
            // The right ones by another scheme, in another alphabet's padding, twice in one.
            "Bearer YWRtaW46b3Blbjogc2VzYW1lIMO8",
            "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8=",
            "Basic YWRtaW46b3Blbjogc2VzYW1lIMO8, Basic YWRtaW46b3Blbjogc2VzYW1lIMO8",
            "BasicYWRtaW46b3Blbjogc2VzYW1lIMO8",
        ] {
            assert_eq!(login.check(&headers(&[wrong]), address(1), now), Err(Refusal::Wrong), "{wrong}");
        }
        assert_eq!(login.check(&headers(&[RIGHT, RIGHT]), address(1), now), Err(Refusal::Wrong));
        assert_eq!(login.check(&HeaderMap::new(), address(1), now), Err(Refusal::Missing));
        assert_eq!((login.failed(), login.blocked()), (16, 0));
    }

    #[test]
    fn who_fails_too_often_waits_even_with_the_right_password_and_others_do_not() {
        let (login, start) = (login(2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let wrong = headers(&["Basic YWRtaW46"]);
        let right = headers(&[RIGHT]);
        // Neither what is right nor what is not shown is counted.
        for _ in 0..100 {
            assert_eq!(login.check(&right, address(1), at(0)), Ok(()));
            assert_eq!(login.check(&HeaderMap::new(), address(1), at(0)), Err(Refusal::Missing));
        }
        assert_eq!(login.check(&wrong, address(1), at(0)), Err(Refusal::Wrong));
        assert_eq!(login.check(&right, address(1), at(1)), Ok(()));
        assert_eq!(login.check(&wrong, address(1), at(20)), Err(Refusal::Wrong));
        for headers in [&right, &wrong] {
            let wait = Duration::from_secs(39);
            assert_eq!(login.check(headers, address(1), at(21)), Err(Refusal::TooOften(wait)));
        }
        assert_eq!(login.check(&right, address(2), at(21)), Ok(()));
        assert_eq!(login.check(&right, address(1), at(60)), Ok(()));
        assert_eq!((login.failed(), login.blocked()), (2, 2));
    }

    #[test]
    fn without_a_password_nobody_is_let_in_and_nothing_shows_one() {
        let right = headers(&[RIGHT]);
        assert_eq!(Login::default().check(&right, address(1), Instant::now()), Err(Refusal::Nobody));
        // Neither does an empty name with an empty password open what has none.
        assert_eq!(Login::default().check(&headers(&["Basic Og=="]), address(1), Instant::now()), Err(Refusal::Nobody));
        assert!(!format!("{:?}", login(1)).contains("sesame"));
    }
}
