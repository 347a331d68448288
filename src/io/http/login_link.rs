//! A one-time login link and the browser sessions that it starts.
//!
//! The link contains a random secret of 256 bits. The first browser that opens the link gets a cookie, and the link becomes invalid. The
//! server stores only SHA-256 digests of the secrets, which are compared in constant time. Unless remote logins are allowed, the link and
//! the cookie are accepted only from this machine. A reverse proxy on this machine connects from loopback too. Therefore, requests
//! with headers of a proxy do not count as local.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::ring;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::io::http::csrf;
use crate::io::private_file::PrivateFile;
use crate::time::Time;

/// Maximum number of sessions. A further session replaces the oldest one.
const MAX_SESSIONS: usize = 32;

/// Maximum lifetime of a session. All sessions end with the server.
const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Number of random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Headers that reverse proxies add.
const PROXY_HEADERS: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// Headers with which browsers mark requests that the user did not make.
const PURPOSE_HEADERS: [&str; 4] = ["sec-purpose", "purpose", "x-purpose", "x-moz"];

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct RequestSource {
    /// The client's address, which a trusted proxy may have reported.
    pub address: IpAddr,
    /// Whether a trusted proxy reported the address.
    pub is_forwarded: bool,
}

/// A new secret, as text for a URL or a cookie. `Debug` does not print it.
pub struct LinkSecret(String);

impl LinkSecret {
    fn random() -> io::Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        let filled = ring::default_provider().secure_random.fill(&mut bytes);
        filled.map_err(|_| io::Error::other("the system provides no random numbers"))?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text of the secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.0)
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret")
    }
}

/// The SHA-256 digest of a secret.
#[derive(Clone, Copy)]
struct SecretDigest([u8; 32]);

impl SecretDigest {
    fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// An unused link. Dropping it removes the file that contains the link.
struct UnusedLink {
    digest: SecretDigest,
    _file: Option<PrivateFile>,
}

struct Session {
    digest: SecretDigest,
    expires_at: Time,
}

#[derive(Default)]
struct LinkState {
    unused: Option<UnusedLink>,
    /// Sessions, oldest first.
    sessions: VecDeque<Session>,
    /// Whether the server is stopping, so that there are no more links.
    is_closed: bool,
}

/// The login links and sessions of one server.
pub struct LinkLogin {
    cookie_name: String,
    is_tls: bool,
    allow_remote: bool,
    state: Mutex<LinkState>,
}

impl fmt::Debug for LinkLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkLogin").field("cookie_name", &self.cookie_name).finish_non_exhaustive()
    }
}

impl LinkLogin {
    /// Creates the login of a server on `port`, without a link. With `is_tls`, browsers send the cookie only over TLS.
    pub fn new(port: u16, is_tls: bool, allow_remote: bool) -> Self {
        // Browsers send cookies to all ports of a host. With the port in the name, servers on one host do not replace each other's cookies.
        let cookie_name = format!("jamjam-dev-{port}");
        Self { cookie_name, is_tls, allow_remote, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a new link, which replaces an unused one. `None` if the server is stopping.
    pub fn create_link(&self) -> io::Result<Option<LinkSecret>> {
        let secret = LinkSecret::random()?;
        let mut state = self.state();
        if state.is_closed {
            return Ok(None);
        }
        state.unused = Some(UnusedLink { digest: secret.digest(), _file: None });
        Ok(Some(secret))
    }

    /// Keeps the file with the link until the link is used, replaced or revoked.
    pub fn attach_file(&self, secret: &LinkSecret, file: PrivateFile) {
        let digest = secret.digest();
        if let Some(unused) = &mut self.state().unused
            && bool::from(unused.digest.matches(&digest))
        {
            *unused = UnusedLink { digest, _file: Some(file) };
        }
    }

    /// Revokes the unused link and prevents further links. The server is stopping.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.unused = None;
    }

    /// Whether a request may use the link or a session.
    pub fn is_permitted(&self, headers: &HeaderMap, source: RequestSource) -> bool {
        self.allow_remote || is_local(headers, source)
    }

    /// Exchanges the secret of the unused link for a session. Returns the value of the `Set-Cookie` header, or `None` if the secret is
    /// wrong. `is_tls_at_proxy`: a proxy accepts TLS connections for this server.
    pub fn redeem(&self, secret: &str, is_tls_at_proxy: bool, now: Time) -> io::Result<Option<HeaderValue>> {
        // Created first: without random numbers, the link stays unused.
        let cookie = LinkSecret::random()?;
        let given = SecretDigest::of(secret);
        let mut state = self.state();
        if !state.unused.as_ref().is_some_and(|unused| unused.digest.matches(&given).into()) {
            return Ok(None);
        }
        state.unused = None;
        state.sessions.retain(|session| session.expires_at > now);
        if state.sessions.len() >= MAX_SESSIONS {
            state.sessions.pop_front();
        }
        state.sessions.push_back(Session { digest: cookie.digest(), expires_at: now + SESSION_LIFETIME });
        drop(state);
        let secure = if self.is_tls || is_tls_at_proxy { "; Secure" } else { "" };
        let cookie = format!("{}={}; HttpOnly; SameSite=Strict; Path=/{secure}", self.cookie_name, cookie.as_str());
        HeaderValue::from_str(&cookie).map(Some).map_err(io::Error::other)
    }

    /// Ends the sessions whose cookies the request has. Returns the value of the `Set-Cookie` header that removes the cookie.
    pub fn end_session(&self, headers: &HeaderMap) -> String {
        let mut state = self.state();
        for value in cookies(headers, &self.cookie_name) {
            let given = SecretDigest::of(value);
            state.sessions.retain(|session| !bool::from(given.matches(&session.digest)));
        }
        format!("{}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0", self.cookie_name)
    }

    /// Whether a request has the cookie of a session. Wrong cookies do not count as failed logins: after a restart of the server, an open
    /// console would send old cookies every second.
    pub fn has_session(&self, headers: &HeaderMap, source: RequestSource, now: Time) -> bool {
        if !self.is_permitted(headers, source) {
            return false;
        }
        let state = self.state();
        let mut is_valid = Choice::from(0);
        // Another server on this host can set a cookie of the same name. Therefore, all cookies of the name are compared.
        for value in cookies(headers, &self.cookie_name) {
            let given = SecretDigest::of(value);
            for session in &state.sessions {
                is_valid |= given.matches(&session.digest) & Choice::from(u8::from(session.expires_at > now));
            }
        }
        is_valid.into()
    }
}

/// The values of all cookies with this name.
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter_map(move |(of, value)| (of == name).then_some(value))
}

/// Whether a request comes from this machine: from a loopback address, without a proxy, and to a loopback `Host`. Another site's name
/// can resolve to loopback (DNS rebinding).
pub fn is_local(headers: &HeaderMap, source: RequestSource) -> bool {
    !source.is_forwarded
        && source.address.to_canonical().is_loopback()
        && !PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
        && csrf::has_loopback_host(headers)
}

/// Whether the request is a prefetch, a preview, the request of a frame or a resource, or a navigation that another site started. Only a
/// navigation of a whole tab that the user started may use the link. Pages of other sites can cause the other requests, but such guesses
/// must not block the operator's login.
pub fn is_prefetch(headers: &HeaderMap) -> bool {
    let values = |name: &str| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let is_early = |value: &[u8]| {
        let is = |purpose: &[u8]| value.get(..purpose.len()).is_some_and(|start| start.eq_ignore_ascii_case(purpose));
        is(b"prefetch") || is(b"preview")
    };
    values("sec-fetch-site").any(|site| site == b"cross-site" || site == b"same-site")
        || values("sec-fetch-mode").any(|mode| mode != b"navigate")
        || values("sec-fetch-dest").any(|destination| destination != b"document")
        || PURPOSE_HEADERS.iter().any(|name| values(name).any(is_early))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    const LOCAL: RequestSource =
        RequestSource { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), is_forwarded: false };

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parsed = lines.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a header name"), value.parse().expect("a header value"))
        });
        parsed.collect()
    }

    fn login() -> LinkLogin {
        LinkLogin::new(8_080, false, false)
    }

    /// Creates a link and uses it. Returns the headers of a request with the cookie.
    fn log_in(login: &LinkLogin, now: Time) -> HeaderMap {
        let secret = login.create_link().expect("random numbers").expect("a link");
        let cookie = login.redeem(secret.as_str(), false, now).expect("random numbers").expect("a session");
        let pair = cookie.to_str().expect("text").split(';').next().expect("a pair").to_owned();
        headers(&[("host", "127.0.0.1:8080"), ("cookie", &pair)])
    }

    #[test]
    fn secret_has_256_random_bits() {
        let secrets: std::collections::HashSet<String> =
            (0..100).map(|_| LinkSecret::random().expect("random numbers").0).collect();
        assert_eq!(secrets.len(), 100);
        assert!(secrets.iter().all(|secret| URL_SAFE_NO_PAD.decode(secret).is_ok_and(|bytes| bytes.len() == 32)));
        let secret = LinkSecret::random().expect("random numbers");
        assert!(!format!("{secret:?}").contains(secret.as_str()));
    }

    #[test]
    fn link_is_accepted_once_and_only_the_latest() {
        let login = login();
        assert!(login.redeem("", false, Time::ZERO).expect("random numbers").is_none(), "there is no link yet");
        let first = login.create_link().expect("random numbers").expect("a link");
        let second = login.create_link().expect("random numbers").expect("a link");
        for wrong in [first.as_str(), "", &second.as_str()[1..], &second.as_str().to_lowercase()] {
            assert!(login.redeem(wrong, false, Time::ZERO).expect("random numbers").is_none(), "{wrong}");
        }
        assert!(login.redeem(second.as_str(), false, Time::ZERO).expect("random numbers").is_some());
        assert!(login.redeem(second.as_str(), false, Time::ZERO).expect("random numbers").is_none(), "used twice");
        login.create_link().expect("random numbers").expect("a link");
        login.close();
        assert!(login.create_link().expect("random numbers").is_none());
        assert!(login.state().unused.is_none());
    }

    #[test]
    fn cookie_is_restricted_and_secure_with_tls() {
        for (is_tls, end) in [(false, ""), (true, "; Secure")] {
            let login = LinkLogin::new(8_080, is_tls, false);
            let secret = login.create_link().expect("random numbers").expect("a link");
            let cookie = login.redeem(secret.as_str(), false, Time::ZERO).expect("random numbers").expect("a session");
            let (pair, attributes) = cookie.to_str().expect("text").split_once(';').expect("attributes");
            assert_eq!(attributes, format!(" HttpOnly; SameSite=Strict; Path=/{end}"));
            let value = pair.strip_prefix("jamjam-dev-8080=").expect("the name");
            assert!(value.len() == 43 && value != secret.as_str(), "{value}");
        }
    }

    #[test]
    fn only_cookies_of_sessions_are_accepted() {
        let login = login();
        let right = log_in(&login, Time::ZERO);
        let has_session = |headers: &HeaderMap| login.has_session(headers, LOCAL, Time::ZERO);
        assert!(has_session(&right));
        let pair = right[header::COOKIE].to_str().expect("text").to_owned();
        let host = ("host", "localhost");
        let other_name = pair.replace("8080", "8081");
        let forged = format!("jamjam-dev-8080={}", "A".repeat(43));
        for wrong in ["", "jamjam-dev-8080", "jamjam-dev-8080=", &other_name, &forged, &pair[..pair.len() - 1]] {
            assert!(!has_session(&headers(&[host, ("cookie", wrong)])), "{wrong}");
        }
        // A cookie that another server on this host has set does not hide the right one.
        assert!(has_session(&headers(&[host, ("cookie", &format!("a=b; {forged}; {pair}"))])));
        assert!(has_session(&headers(&[host, ("cookie", &forged), ("cookie", &pair)])));
        let restarted = LinkLogin::new(8_080, false, false);
        log_in(&restarted, Time::ZERO);
        assert!(!restarted.has_session(&right, LOCAL, Time::ZERO), "a cookie of an earlier server");
    }

    #[test]
    fn sessions_end_after_their_lifetime_and_are_bounded() {
        let (login, end) = (login(), Time::ZERO + SESSION_LIFETIME);
        let oldest = log_in(&login, Time::ZERO);
        assert!(login.has_session(&oldest, LOCAL, Time::ZERO + SESSION_LIFETIME / 2));
        assert!(!login.has_session(&oldest, LOCAL, end));
        let others: Vec<HeaderMap> = (1..MAX_SESSIONS).map(|_| log_in(&login, Time::ZERO)).collect();
        assert!(login.has_session(&oldest, LOCAL, Time::ZERO));
        let newest = log_in(&login, Time::ZERO);
        assert!(!login.has_session(&oldest, LOCAL, Time::ZERO));
        assert!(others.iter().chain([&newest]).all(|headers| login.has_session(headers, LOCAL, Time::ZERO)));
        assert_eq!(login.state().sessions.len(), MAX_SESSIONS);
        log_in(&login, end);
        assert_eq!(login.state().sessions.len(), 1, "ended sessions are removed");
    }

    #[test]
    fn only_direct_requests_of_this_machine_are_local() {
        let host = ("host", "127.0.0.1:8080");
        let local = |lines: &[(&str, &str)], source| is_local(&headers(lines), source);
        let from = |text: &str| RequestSource { address: text.parse().expect("an address"), is_forwarded: false };
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(local(&[host], from(address)), "{address}");
        }
        for address in ["192.0.2.1", "0.0.0.0", "::ffff:192.0.2.1", "fe80::1"] {
            assert!(!local(&[host], from(address)), "{address}");
        }
        assert!(!local(&[host], RequestSource { is_forwarded: true, ..LOCAL }), "reported by a trusted proxy");
        for name in PROXY_HEADERS {
            assert!(!local(&[host, (name, "127.0.0.1")], LOCAL), "{name}");
        }
        for host in ["evil.example", "192.0.2.1:8080", ""] {
            assert!(!local(&[("host", host)], LOCAL), "{host}");
        }
        assert!(!local(&[], LOCAL) && !local(&[host, host], LOCAL));
        let remote = LinkLogin::new(8_080, false, true);
        assert!(remote.is_permitted(&HeaderMap::new(), from("192.0.2.1")));
        assert!(!login().is_permitted(&headers(&[host]), from("192.0.2.1")));
    }

    #[test]
    fn prefetches_and_resource_requests_are_recognized() {
        for (name, value) in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("purpose", "Prefetch"),
            ("x-purpose", "preview"),
            ("x-moz", "prefetch"),
            ("sec-fetch-mode", "no-cors"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "iframe"),
        ] {
            assert!(is_prefetch(&headers(&[(name, value)])), "{name}: {value}");
        }
        assert!(!is_prefetch(&headers(&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")])));
        assert!(!is_prefetch(&HeaderMap::new()));
    }
}
