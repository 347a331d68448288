//! The configuration of a signaling server, and what the handlers of its HTTP routes share.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::io::clock;
use crate::io::connection_permit::{ConnectionLimiter, MAX_LIMITED_SOURCES, TLS_CONNECTION_BYTES};
use crate::io::http::body::{self, RequestError};
use crate::io::http::connection_info::ConnectionInfo;
use crate::io::log::SharedLogThrottle;
use crate::io::signaling::config::SignalingServerConfig;
use crate::io::signaling::event_stream::SharedListeners;
use crate::io::stop::StopToken;
use crate::lock::lock;
use crate::memory_budget::{MemoryAccount, MemoryBudget, OverBudget};
use crate::rate_limit::{Gcra, KeyedGcra, RequestRate};
use crate::signaling::Hub;
use crate::time::Time;

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
    /// Addresses that have read content of protected rooms on the console.
    pub(super) content_readers: Mutex<HashSet<IpAddr>>,
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
            content_readers: Mutex::default(),
            config,
        }
    }

    /// Whether the page that has caused a request may do so.
    pub(super) fn allows_origin(&self, headers: &HeaderMap) -> bool {
        self.hub.limits().allows_origin(headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()))
    }
}

/// The limit on requests of each source; `None`: no limit.
pub(super) type RequestLimiter = Option<Mutex<KeyedGcra<IpAddr>>>;

pub(super) fn request_limiter(limit: Option<RequestRate>) -> RequestLimiter {
    limit.map(|limit| Mutex::new(KeyedGcra::new(Gcra::with_request_rate(limit), MAX_LIMITED_SOURCES)))
}

/// The latest body of a page. Clients that read slowly keep few of them in memory, because a body is used again for a microsecond for each of
/// its bytes.
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
