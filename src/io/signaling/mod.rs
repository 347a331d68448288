//! Signaling over WebSocket: the server around the hub of [`crate::signaling`], and the client side of jamjam.
//!
//! Each connection is one task with a bounded send queue. One lock protects the hub and is held while messages are handled and queues are
//! filled. No socket is written and nothing is awaited under the lock. Therefore, a slow reader affects only itself.

mod admin;
pub mod broadcast_http;
pub mod client;
pub mod control_surface_server;
pub(in crate::io) mod event_stream;
pub mod registration;
pub(in crate::io) mod shared_hub;

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::io::clock;
use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, TLS_CONNECTION_BYTES};
use crate::io::http::login::Login;
use crate::io::http::{self, ConnectionInfo, body};
use crate::io::log::SharedLogThrottle;
use crate::io::moqt::MoqtUrl;
use crate::io::signaling::admin::HttpRoutes;
use crate::io::signaling::admin::metrics::SignalingCollector;
use crate::io::signaling::broadcast_http::BroadcastHttpConfig;
use crate::io::signaling::shared_hub::SharedHub;
use crate::io::stop::StopToken;
use crate::io::tls::server::HandshakeAcceptor;
use crate::io::websocket::handshake::{UpgradeError, WebSocketUrl};
use crate::io::websocket::{connection, handshake};
use crate::sanitize::sanitize;
use crate::signaling::{self, DialectSet, Hub, NewConnection, Route, SignalingLimits, device};

/// Maximum time for closing all connections at shutdown. Then the server ends, even if clients have not read their data.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Configuration of the server, in addition to the hub's limits.
#[derive(Debug, Default)]
pub struct SignalingServerConfig {
    /// Connection limits.
    pub connection_limits: ConnectionLimits,
    /// Number of messages queued for one connection above which superseded updates are dropped; `None`: 256.
    pub max_updates: Option<usize>,
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
}

/// Serves `hub` on `listener` until `stop` is requested and connections are closed.
pub fn serve(listener: TcpListener, hub: Hub, options: SignalingServerConfig, stop: &StopToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("signaling").enable_all().build()?;
    let stopped = stop.to_notify();
    runtime.block_on(serve_async(listener, hub, options, async move { stopped.notified().await }));
    // This call does not wait for connections that are still open.
    runtime.shutdown_background();
    Ok(())
}

/// Like [`serve`], but on the caller's runtime and until `stopped` completes.
pub async fn serve_async(
    listener: TcpListener,
    hub: Hub,
    options: SignalingServerConfig,
    stopped: impl Future<Output = ()>,
) {
    let hub = SharedHub::new(hub, options.max_updates, &options.connection_limits);
    serve_hub(listener, &hub, options, stopped).await;
}

/// Closes all connections when the guard is dropped. If the serving future is dropped, the guard is dropped too.
struct CloseAllGuard<'a>(&'a SharedHub);

impl Drop for CloseAllGuard<'_> {
    fn drop(&mut self) {
        self.0.close_all(SHUTDOWN_TIMEOUT);
    }
}

async fn serve_hub(
    listener: TcpListener,
    hub: &Arc<SharedHub>,
    options: SignalingServerConfig,
    stopped: impl Future<Output = ()>,
) {
    let close_guard = CloseAllGuard(hub);
    let has_trusted_proxies = options.connection_limits.trusted_proxies.is_some();
    let limits = Arc::new(hub.with_hub(|_, hub, _| hub.limits().clone()));
    let mut connection_limits = options.connection_limits;
    if options.tls.is_some() {
        connection_limits.bytes_per_connection = TLS_CONNECTION_BYTES;
    }
    let limiter = ConnectionLimiter::new(connection_limits);
    let SignalingServerConfig { tls, login, broadcast, moqt_url, public_url, is_device_required, .. } = options;
    // On loopback without a proxy only local users can connect, so metrics need no login.
    let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let is_local = address.ip().to_canonical().is_loopback();
    let metrics_are_public = is_local && !has_trusted_proxies;
    let collector =
        SignalingCollector { hub: Arc::clone(hub), connection_limiter: Arc::clone(&limiter), tls: tls.clone(), login };
    let shutdown = Arc::new(Notify::new());
    let pages = HttpRoutes { collector, broadcast, address, moqt_url, public_url, metrics_are_public };
    let plain = pages.router(&shutdown);
    let device_check = DeviceCheck { is_required: is_device_required, unix_ms: clock::unix_ms };
    let router = upgrade_router(plain, Arc::clone(hub), limits, device_check);
    let (running, stopping) = watch::channel(false);
    tokio::select! {
        () = stopped => {}
        () = shutdown.notified() => {}
        () = http::accept_loop(listener, router, limiter, tls, stopping) => {}
        () = hub.run_timers() => {}
    }
    // The listener is closed here, because the accept loop has been dropped.
    drop(close_guard);
    let _ = running.send(true);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, running.closed()).await.is_err() {
        warn!(target: "signaling", timeout = ?SHUTDOWN_TIMEOUT, "shutdown time-out; the remaining connections are dropped");
    }
}

/// The only WebSocket protocol version (RFC 6455, section 4.1).
const SUPPORTED_VERSION: HeaderValue = HeaderValue::from_static("13");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// How the device headers of newer jamjam clients are checked.
#[derive(Clone, Copy)]
struct DeviceCheck {
    is_required: bool,
    /// Returns the Unix time in milliseconds.
    unix_ms: fn() -> u64,
}

#[derive(Clone)]
struct UpgradeState {
    hub: Arc<SharedHub>,
    limits: Arc<SignalingLimits>,
    device_check: DeviceCheck,
    log_throttle: Arc<SharedLogThrottle>,
}

impl UpgradeState {
    /// Logs why an upgrade was rejected, for client developers. Only the path is logged: the query may contain a token.
    fn log_rejection(&self, source: SocketAddr, uri: &Uri, reason: &dyn Display) {
        if self.log_throttle.allow() {
            warn!(target: "http", path = %sanitize(uri.path()), source = %source, reason = %reason, "WebSocket upgrade rejected");
        }
    }
}

/// Handles WebSocket upgrade requests, and passes all other requests to `plain`.
fn upgrade_router(
    plain: Router,
    hub: Arc<SharedHub>,
    limits: Arc<SignalingLimits>,
    device_check: DeviceCheck,
) -> Router {
    let dialects = limits.dialects;
    let state = UpgradeState { hub, limits, device_check, log_throttle: Arc::default() };
    plain
        .method_not_allowed_fallback(async || body::method_not_allowed())
        .fallback(move |method: Method, uri: Uri| async move { fallback(&method, &uri, dialects) })
        .layer(from_fn_with_state(state, upgrade_middleware))
}

/// Performs the WebSocket upgrade of a request to the URL of a dialect. An upgrade to another protocol, such as HTTP/2, is ignored
/// (RFC 9110, section 7.8).
async fn upgrade_middleware(
    State(state): State<UpgradeState>,
    Extension(client): Extension<ConnectionInfo>,
    mut request: Request,
    next: Next,
) -> Response {
    if !handshake::is_upgrade_request(request.headers()) {
        return next.run(request).await;
    }
    let uri = request.uri();
    let origin = request.headers().get(header::ORIGIN).map(|value| value.to_str().unwrap_or_default());
    let route = match signaling::route(uri.path(), uri.query().unwrap_or_default(), state.limits.dialects) {
        Ok(_) if !state.limits.allows_origin(origin) => Route::OriginNotAllowed,
        Ok(route) => {
            let headers = request.headers().iter();
            route.with_headers(headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))))
        }
        Err(error) => {
            state.log_rejection(client.source, uri, &error);
            return body::not_found();
        }
    };
    let DeviceCheck { is_required, unix_ms } = state.device_check;
    if let Route::NewerJamjam = route
        && let Err(error) = device::verify(request.headers(), unix_ms() / 1_000, is_required)
    {
        state.log_rejection(client.source, uri, &error);
        return body::error_response(StatusCode::UNAUTHORIZED, "Device not accepted");
    }
    if !client.permit.assign_client(client.source.ip(), client.is_forwarded) {
        return body::too_many_requests("Too many connections", Duration::ZERO);
    }
    let (source, uri, log_state) = (client.source, uri.clone(), state.clone());
    let serve = async move |io| {
        let own_memory = client.permit.on_upgrade();
        let source = client.source.ip().to_canonical();
        let connection = NewConnection { source, is_forwarded: client.is_forwarded, route };
        let served = state.hub.on_connect(connection, client.permit.memory());
        // The hub does not count pings and fragments. Therefore, `connection::serve` limits their rate to the maximum message rate.
        connection::serve(io, &served, state.limits.message_limit()).await;
        // The slot is freed after the member has left. A shutdown waits until then, so that the close frame is sent.
        drop(served);
        drop(own_memory);
        drop(client);
    };
    handshake::accept_upgrade(&mut request, serve).unwrap_or_else(|error| {
        log_state.log_rejection(source, &uri, &error);
        // The connection counts for this client, but a proxy may send requests of others on it.
        let mut response = rejection_response(error);
        response.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
        response
    })
}

/// The response to an upgrade request that violates RFC 6455, section 4.2.1.
fn rejection_response(error: UpgradeError) -> Response {
    let UpgradeError { status, reason } = error;
    match status {
        StatusCode::METHOD_NOT_ALLOWED => method_not_allowed("GET"),
        StatusCode::UPGRADE_REQUIRED => {
            let mut response = upgrade_required(reason);
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, SUPPORTED_VERSION);
            response
        }
        _ => body::error_response(status, reason),
    }
}

/// The response for paths without a page.
fn fallback(method: &Method, uri: &Uri, dialects: DialectSet) -> Response {
    if signaling::route(uri.path(), uri.query().unwrap_or_default(), dialects).is_err() {
        body::not_found()
    } else if method == Method::GET || method == Method::HEAD {
        upgrade_required("This is a WebSocket endpoint; connect with ws:// or wss://")
    } else {
        method_not_allowed("GET,HEAD")
    }
}

fn upgrade_required(error: &str) -> Response {
    let mut response = body::error_response(StatusCode::UPGRADE_REQUIRED, error);
    // A 426 response must name the protocol (RFC 9110, section 15.5.22).
    response.headers_mut().insert(header::UPGRADE, WEBSOCKET);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}

fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = body::method_not_allowed();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use serde_json::Value;

    use super::*;

    /// The time of the golden device headers, in milliseconds.
    const VECTOR_TIME: u64 = 1_800_000_000_000;

    /// Starts a server whose clock always shows [`VECTOR_TIME`].
    fn start_server(is_required: bool) -> SocketAddr {
        let limits = SignalingLimits::default();
        let hub = SharedHub::new(Hub::new(limits.clone(), [1, 2, 3, 4]), None, &ConnectionLimits::default());
        let device_check = DeviceCheck { is_required, unix_ms: || VECTOR_TIME };
        let router = upgrade_router(Router::new(), hub, Arc::new(limits), device_check);
        let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::thread::spawn(move || {
            let (_running, stopping) = watch::channel(false);
            let limiter = ConnectionLimiter::new(ConnectionLimits::default());
            runtime.block_on(http::accept_loop(listener, router, limiter, None, stopping));
        });
        address
    }

    /// The head of the response to an upgrade request with the headers of this entry.
    fn upgrade(server: SocketAddr, entry: &Value) -> String {
        let mut stream = TcpStream::connect(server).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let headers = entry["headers"].as_object().into_iter().flatten();
        let headers: Vec<String> =
            headers.map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap_or(""))).collect();
        let headers = headers.concat();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        write!(stream, "GET /v1/signaling HTTP/1.1\r\nHost: x\r\n{upgrade}{headers}\r\n").expect("a request");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("a response") > 0 {
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("text")
    }

    #[test]
    fn golden_device_headers_are_accepted_and_rejected_ones_get_401() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/link/vectors.json");
        let text = std::fs::read_to_string(path).expect("the fixture");
        let vectors: Value = serde_json::from_str(&text).expect("JSON");
        let device = &vectors["device_headers"];
        for is_required in [false, true] {
            let server = start_server(is_required);
            let accepted = upgrade(server, device);
            assert!(accepted.starts_with("HTTP/1.1 101 "), "{accepted}");
            let rejected = device["rejected"].as_array().expect("a list");
            assert_eq!(rejected.len(), 14);
            for entry in rejected {
                let response = upgrade(server, entry);
                assert!(response.starts_with("HTTP/1.1 401 "), "{}: {response}", entry["why"]);
                assert!(response.contains("\r\ndate: "), "{response}");
            }
        }
    }
}
