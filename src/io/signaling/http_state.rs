//! The configuration of a signaling server, and what the handlers of its HTTP routes share.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::address::source_network;
use crate::check::SignalingCheck;
use crate::io::clock;
use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, MAX_LIMITED_SOURCES, TLS_CONNECTION_BYTES};
use crate::io::http::ConnectionInfo;
use crate::io::http::body::{self, RequestError};
use crate::io::http::login::Login;
use crate::io::log::SharedLogThrottle;
use crate::io::moqt::MoqtUrl;
use crate::io::signaling::event_stream::SharedListeners;
use crate::io::stop::StopToken;
use crate::io::tls::server::HandshakeAcceptor;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::lock::lock;
use crate::memory_budget::{MemoryAccount, MemoryBudget, OverBudget};
use crate::rate_limit::{Gcra, KeyedGcra, RequestRate};
use crate::signaling::Hub;
use crate::signaling::token::Secret;
use crate::time::Time;

/// Configuration of the server, in addition to the hub's limits.
#[derive(Debug, Default)]
pub struct SignalingServerConfig {
    /// Connection limits.
    pub connection_limits: ConnectionLimits,
    /// TLS handshakes; `None`: plain TCP.
    pub tls: Option<Arc<HandshakeAcceptor>>,
    /// HTTP endpoints of broadcast rooms.
    pub broadcast: BroadcastHttpConfig,
    /// Login for the operator's pages. By default every login is rejected.
    pub login: Arc<Login>,
    /// URL of a MOQT echo in the same process, with its listen host, for the start page.
    pub moqt_url: Option<MoqtUrl>,
    /// URL at which newer jamjam clients connect; `None`: on the host that they requested.
    pub public_url: Option<WebSocketUrl>,
    /// Whether newer jamjam clients without device headers are rejected.
    pub is_device_required: bool,
    /// Receives what clients do, for `--check`; wrong messages only if the hub is strict.
    pub check: Option<Arc<Mutex<SignalingCheck>>>,
}

/// Configuration of the HTTP endpoints of broadcast rooms.
#[derive(Clone, Debug)]
pub struct BroadcastHttpConfig {
    /// Key that a token request must contain. If there is no key, tokens are issued to every client.
    pub issuer_key: Option<Secret>,
    /// Limit on token requests per source address.
    pub token_limit: Option<RequestRate>,
    /// Limit on posts per source address.
    pub post_limit: Option<RequestRate>,
}

impl Default for BroadcastHttpConfig {
    /// Each source address may send ten token requests per 15 minutes and 30 posts per minute.
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            issuer_key: None,
            token_limit: Some(RequestRate { count: 10, period: minutes(15) }),
            post_limit: Some(RequestRate { count: 30, period: minutes(1) }),
        }
    }
}

/// The arguments of a handler: what all handlers share, and the client that sent the request.
pub(super) type SharedState = State<Arc<HttpState>>;
pub(super) type Client = Extension<ConnectionInfo>;

/// What the handlers share.
pub(super) struct HttpState {
    pub(super) hub: Arc<Hub>,
    pub(super) listeners: SharedListeners,
    /// When the server was started.
    pub(super) started: Time,
    pub(super) config: SignalingServerConfig,
    pub(super) limiter: Arc<ConnectionLimiter>,
    /// Requested when the operator stops the server, and what runs beside it.
    pub(super) stop: StopToken,
    /// Limits the log lines about rejected upgrades, posts and token requests.
    pub(super) rejection_log_throttle: SharedLogThrottle,
    pub(super) token_limiter: RequestLimiter,
    pub(super) post_limiter: RequestLimiter,
    /// The listen address.
    pub(super) address: SocketAddr,
    pub(super) asyncapi: OnceLock<Bytes>,
    pub(super) openapi: OnceLock<Bytes>,
    pub(super) health: LatestBody,
    pub(super) webrtc_rooms: LatestBody,
    /// Limits the log lines about each address that reads content of protected rooms on the console.
    pub(super) content_readers: RequestLimiter,
}

impl HttpState {
    /// The state of a server that listens on `address`.
    pub(super) fn new(
        mut config: SignalingServerConfig,
        (hub, listeners): (&Arc<Hub>, &SharedListeners),
        address: SocketAddr,
        stop: &StopToken,
    ) -> Self {
        if config.tls.is_some() {
            config.connection_limits.bytes_per_connection = TLS_CONNECTION_BYTES;
        }
        let budget = &config.connection_limits.memory_budget;
        Self {
            hub: Arc::clone(hub),
            listeners: Arc::clone(listeners),
            started: clock::monotonic_now(),
            limiter: ConnectionLimiter::new(config.connection_limits.clone()),
            stop: stop.clone(),
            rejection_log_throttle: SharedLogThrottle::default(),
            token_limiter: request_limiter(config.broadcast.token_limit),
            post_limiter: request_limiter(config.broadcast.post_limit),
            address,
            asyncapi: OnceLock::new(),
            openapi: OnceLock::new(),
            health: LatestBody::new(budget),
            webrtc_rooms: LatestBody::new(budget),
            content_readers: request_limiter(Some(CONTENT_LOG_RATE)),
            config,
        }
    }

    /// Whether the page that has caused a request may do so.
    pub(super) fn allows_origin(&self, headers: &HeaderMap) -> bool {
        self.hub.limits().allows_origin(headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()))
    }
}

/// The console requests its state each second.
const CONTENT_LOG_RATE: RequestRate = RequestRate { count: 1, period: Duration::from_secs(86_400) };

/// The limit on requests of each source; `None`: no limit.
pub(super) type RequestLimiter = Option<Mutex<KeyedGcra<IpAddr>>>;

/// Counts a request of `source`. Fails with the wait until the next one, if the limit is reached.
pub(super) fn check_rate(limiter: &RequestLimiter, source: IpAddr) -> Result<(), Duration> {
    let Some(limiter) = limiter else { return Ok(()) };
    lock(limiter).try_charge(clock::monotonic_now(), source_network(source))
}

pub(super) fn request_limiter(limit: Option<RequestRate>) -> RequestLimiter {
    limit.map(|limit| Mutex::new(KeyedGcra::new(Gcra::with_request_rate(limit), MAX_LIMITED_SOURCES)))
}

/// The latest body of a page. It is reused for one microsecond per byte, so that clients that read slowly keep few bodies in memory.
pub(super) struct LatestBody {
    memory: Arc<MemoryAccount>,
    latest: Mutex<Option<(Instant, Result<Bytes, OverBudget>)>>,
}

impl LatestBody {
    pub(super) fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self { memory: budget.account(None), latest: Mutex::default() }
    }

    fn get(&self, now: Instant, build: impl FnOnce() -> String) -> Result<Bytes, OverBudget> {
        let mut latest = lock(&self.latest);
        if let Some((expiry, body)) = &*latest
            && now < *expiry
        {
            return body.clone();
        }
        *latest = None;
        let text = build();
        let expiry = now + Duration::from_micros(text.len() as u64);
        let body = self.memory.take(text.len() as u64).map(|memory| memory.attach(text));
        *latest = Some((expiry, body.clone()));
        body
    }

    pub(super) fn response(&self, build: impl FnOnce() -> String) -> Response {
        let body = self.get(Instant::now(), build).map_err(RequestError::from);
        body::allow_any_origin(body.map(|json| body::json_text_response(StatusCode::OK, json)).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shared_for_a_microsecond_per_byte_and_held_until_it_is_read() {
        let budget = MemoryBudget::new(Some(1_500));
        let (page, start) = (LatestBody::new(&budget), Instant::now());
        let body_at =
            |us, len| page.get(start + Duration::from_micros(us), || "x".repeat(len)).map(|body| (body.len(), body));
        let unread = [body_at(0, 1_000), body_at(999, 1)];
        assert!(unread.iter().all(|body| body.as_ref().is_ok_and(|(len, _)| *len == 1_000)));
        // Another body does not fit.
        assert_eq!(body_at(1_000, 600).map(drop), Err(OverBudget));
        drop(unread);
        assert_eq!((body_at(1_599, 600).map(drop), budget.held()), (Err(OverBudget), 0));
        assert!(body_at(1_600, 600).is_ok_and(|(len, _)| len == 600));
        assert_eq!(budget.held(), 600);
    }
}
