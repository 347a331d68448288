//! Signaling over WebSocket: the server around the hub of [`crate::signaling`], and the client side of jamjam.
//!
//! Each connection is a task with a bounded send queue. The lock of a room is held while its messages are handled and queues are filled, but
//! never while a socket is written or anything is awaited, so that a slow reader affects only itself.

mod admin;
pub mod broadcast_http;
pub mod client;
mod config;
pub mod control_surface_server;
pub mod discovery;
pub(in crate::io) mod event_stream;
mod http_state;
pub mod probe;
mod probe_socket;
pub mod registration;
pub mod room_load;
pub(in crate::io) mod shared_hub;

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::client::StopSignal;
use crate::io::clock;
use crate::io::http;
use crate::io::http::body::{self, RequestError};
pub use crate::io::signaling::config::SignalingServerConfig;
use crate::io::signaling::http_state::{Client, HttpState, SharedState};
use crate::io::signaling::shared_hub::SharedHub;
use crate::io::stop::StopToken;
use crate::io::websocket::{connection, handshake};
use crate::io::worker::Worker;
use crate::sanitize::sanitize;
use crate::signaling::{self, CloseCode, Dialect, DialectCounters, Hub, NewConnection, Route, device};

/// Maximum time for closing all connections at shutdown. Then the server ends, even if clients have not read their data.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `hub` on `listener` until `stop` is requested and connections are closed.
pub fn serve(listener: TcpListener, hub: Hub, options: SignalingServerConfig, stop: &StopToken) -> io::Result<()> {
    spawn(listener, hub, options, stop)?.join();
    Ok(())
}

/// A server on a thread of its own.
pub struct ServerThread {
    hub: Arc<SharedHub>,
    worker: Worker<()>,
}

impl ServerThread {
    /// The counters of all dialects together.
    pub fn counters(&self) -> DialectCounters {
        self.hub.with_hub(|call| call.hub.total_counters())
    }

    /// Returns the number of open connections.
    pub fn open_connections(&self) -> impl Fn() -> u64 + Send + use<> {
        let hub = Arc::clone(&self.hub);
        move || hub.with_hub(|call| call.hub.total_counters().connections)
    }

    /// Waits until the server has stopped.
    pub fn join(self) {
        self.worker.join();
    }

    /// Waits until the server has stopped, but not longer than `timeout`.
    pub fn wait(&self, timeout: Duration) {
        self.worker.finished_within(timeout);
    }
}

/// Like [`serve`], but on a new thread.
pub fn spawn(
    listener: TcpListener,
    hub: Hub,
    options: SignalingServerConfig,
    stop: &StopToken,
) -> io::Result<ServerThread> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("signaling").enable_all().build()?;
    let hub = SharedHub::new(hub, &options);
    let (stop, stopped, served) = (stop.clone(), stop.to_notify(), Arc::clone(&hub));
    let worker = Worker::spawn("signaling", move || {
        runtime.block_on(serve_hub(listener, &served, options, &stop, stopped.notified()));
        // This call does not wait for connections that are still open.
        runtime.shutdown_background();
    })?;
    Ok(ServerThread { hub, worker })
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
    stop: &StopToken,
    stopped: impl Future<Output = ()>,
) {
    let close_guard = CloseAllGuard(hub);
    let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let state = Arc::new(HttpState::new(options, hub, address));
    let (limiter, tls) = (Arc::clone(&state.limiter), state.config.tls.clone());
    let fallback_state = Arc::clone(&state);
    let router = admin::router(&state)
        .method_not_allowed_fallback(async || body::method_not_allowed())
        .fallback(
            move |method: Method, uri: Uri| async move { fallback(&method, &uri, &fallback_state.limits.dialects) },
        )
        .layer(from_fn_with_state(Arc::clone(&state), upgrade_middleware));
    let (running, stopping) = watch::channel(false);
    let stopped = async {
        tokio::select! {
            () = stopped => {}
            // What runs beside the server ends with it.
            () = state.shutdown.notified() => stop.request(StopSignal::Terminate),
        }
        // Before the listener is closed: a response to a client that has seen the closed listener contains `Connection: close`.
        running.send_replace(true);
    };
    tokio::select! {
        () = stopped => {}
        () = http::accept_loop(listener, router, limiter, tls, stopping) => {}
        () = hub.run_timers() => {}
    }
    // The listener is closed here, because the accept loop has been dropped.
    drop(close_guard);
    running.send_replace(true);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, running.closed()).await.is_err() {
        warn!(target: "signaling", timeout = ?SHUTDOWN_TIMEOUT, "shutdown time-out; the remaining connections are dropped");
    }
}

/// Performs the WebSocket upgrade of a request to the URL of a dialect. An upgrade to another protocol, such as HTTP/2, is ignored
/// (RFC 9110, section 7.8).
async fn upgrade_middleware(
    State(state): SharedState,
    Extension(client): Client,
    mut request: Request,
    next: Next,
) -> Response {
    if handshake::has_lost_upgrade(&request) {
        log_rejection(&state, client.source, request.uri(), &handshake::LOST_UPGRADE);
        return upgrade_required(handshake::LOST_UPGRADE);
    }
    if !handshake::is_upgrade_request(request.headers()) {
        return next.run(request).await;
    }
    let uri = request.uri();
    let origin = request.headers().get(header::ORIGIN).map(|value| value.to_str().unwrap_or_default());
    let mut route = match signaling::route(uri.path(), uri.query().unwrap_or_default(), &state.limits.dialects) {
        Ok(_) if !state.limits.allows_origin(origin) => {
            Route::Rejected(CloseCode::ORIGIN_NOT_ALLOWED, "Origin not allowed")
        }
        Ok(route) => {
            let headers = request.headers().iter();
            route.with_headers(headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))))
        }
        Err(error) => {
            log_rejection(&state, client.source, uri, &error);
            return body::not_found();
        }
    };
    let (ip, local_ip, is_forwarded) = (client.source.ip().to_canonical(), client.local_ip, client.is_forwarded);
    let connection = |route| NewConnection { source: ip, local_ip, is_forwarded, route };
    let unix_seconds = clock::unix_ms() / 1_000;
    if let Route::NewerJamjam(proven) = &mut route {
        match device::verify(request.headers(), unix_seconds, state.config.is_device_required) {
            Ok(Some(device)) if state.hub.with_hub(|call| call.hub.is_severed(&device)) => {
                return body::error_response(StatusCode::SERVICE_UNAVAILABLE, "Severed by the operator");
            }
            Ok(device) => *proven = device,
            Err(error) => {
                log_rejection(&state, client.source, uri, &error);
                state.hub.on_rejected(&connection(route), &error);
                return body::error_response(StatusCode::UNAUTHORIZED, "Device not accepted");
            }
        }
    }
    if !client.permit.assign_client(client.source.ip(), client.is_forwarded) {
        return body::too_many_requests("Too many connections", Duration::ZERO);
    }
    let (source, uri, log_state) = (client.source, uri.clone(), Arc::clone(&state));
    let offers_subprotocol = request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let connection = connection(route);
    let hub = Arc::clone(&state.hub);
    let serve = async move |io| {
        let own_memory = client.permit.on_upgrade();
        let served = hub.on_connect(connection, client.permit.memory());
        // The hub does not count pings and fragments. Therefore, `connection::serve` limits their rate to the maximum message rate.
        connection::serve(io, &served, state.limits.message_limit()).await;
        // The slot is freed after the member has left. A shutdown waits until then, so that the close frame is sent.
        drop(served);
        if offers_subprotocol && state.subprotocol_log_throttle.allow() {
            // Browsers close a connection whose subprotocol was not accepted. The name is not logged, because clients put tokens there.
            info!(target: "http", source = %client.source, "the closed connection had offered a WebSocket subprotocol; this server speaks none");
        }
        drop(own_memory);
        drop(client);
    };
    handshake::accept_upgrade(&mut request, serve).unwrap_or_else(|error| {
        log_rejection(&log_state, source, &uri, &error.error);
        // The connection counts for this client, but a proxy may send requests of others on it.
        let mut response = rejection_response(error);
        response.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
        response
    })
}

/// Logs why an upgrade was rejected, for client developers. Only the path is logged: the query may contain a token.
fn log_rejection(state: &HttpState, source: SocketAddr, uri: &Uri, reason: &dyn Display) {
    if state.upgrade_log_throttle.allow() {
        warn!(target: "http", path = %sanitize(uri.path()), source = %source, reason = %reason, "WebSocket upgrade rejected");
    }
}

/// The response to an upgrade request that violates RFC 6455, section 4.2.1.
fn rejection_response(rejection: RequestError) -> Response {
    match rejection.status {
        StatusCode::METHOD_NOT_ALLOWED => method_not_allowed("GET"),
        // The only version of the protocol (RFC 6455, section 4.1).
        StatusCode::UPGRADE_REQUIRED => {
            ([(header::SEC_WEBSOCKET_VERSION, "13")], upgrade_required(&rejection.error)).into_response()
        }
        _ => rejection.into_response(),
    }
}

/// The response for paths without a page.
fn fallback(method: &Method, uri: &Uri, dialects: &[Dialect]) -> Response {
    if signaling::route(uri.path(), uri.query().unwrap_or_default(), dialects).is_err() {
        body::not_found()
    } else if method == Method::GET || method == Method::HEAD {
        upgrade_required("This is a WebSocket endpoint; connect with ws:// or wss://")
    } else {
        method_not_allowed("GET,HEAD")
    }
}

fn upgrade_required(error: &str) -> Response {
    // A 426 response must name the protocol (RFC 9110, section 15.5.22).
    let headers = [(header::UPGRADE, "websocket"), (header::CONNECTION, "Upgrade")];
    (headers, body::error_response(StatusCode::UPGRADE_REQUIRED, error)).into_response()
}

fn method_not_allowed(allow: &'static str) -> Response {
    ([(header::ALLOW, allow)], body::method_not_allowed()).into_response()
}
