//! Signaling over WebSocket: the server around the hub of [`crate::signaling`], and the client side of jamjam.
//!
//! Each connection is a task with a bounded send queue. The lock of a room is held while its messages are handled and queues are filled, but
//! never while a socket is written or anything is awaited, so that a slow reader affects only itself.

mod admin;
pub mod broadcast_http;
pub mod client;
pub mod control_surface_server;
pub mod discovery;
pub(in crate::io) mod event_stream;
mod http_state;
pub mod probe;
mod probe_socket;
pub mod registration;
pub mod room_load;

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::io::clock;
use crate::io::connection_permit::ConnectionRejection;
use crate::io::http;
use crate::io::http::body::{self, RequestError};
use crate::io::signaling::event_stream::SharedListeners;
pub use crate::io::signaling::http_state::SignalingServerConfig;
use crate::io::signaling::http_state::{Client, HttpState, SharedState};
use crate::io::stop::StopToken;
use crate::io::websocket::handshake::upgrade_required;
use crate::io::websocket::{connection, handshake};
use crate::io::worker::Worker;
use crate::lock::lock;
use crate::memory_budget::OverBudget;
use crate::sanitize::sanitize;
use crate::signaling::{self, ControlSurfaceEvent, Hub, NewConnection, Route, device};

/// Maximum time for closing all connections at shutdown. Then the server ends, even if clients have not read their data.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A server on a thread of its own.
pub struct ServerThread {
    /// The hub that it serves.
    pub hub: Arc<Hub>,
    /// The thread.
    pub worker: Worker<()>,
}

/// Serves `hub` on `listener` on a new thread, until `stop` is requested and connections are closed.
pub fn spawn(
    listener: TcpListener,
    hub: Hub,
    options: SignalingServerConfig,
    stop: &StopToken,
) -> io::Result<ServerThread> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("signaling").enable_all().build()?;
    let listener = http::register(listener, &runtime)?;
    let (hub, listeners) = connect(hub, &options);
    let (stop, stopped, served) = (stop.clone(), stop.to_notify(), Arc::clone(&hub));
    let worker = Worker::spawn("signaling", move || {
        runtime.block_on(serve_hub(listener, (&served, &listeners), options, &stop, stopped.notified()));
        // This call does not wait for connections that are still open.
        runtime.shutdown_background();
    })?;
    Ok(ServerThread { hub, worker })
}

/// Connects a hub with the memory budget, the check and the listeners of its events.
fn connect(hub: Hub, config: &SignalingServerConfig) -> (Arc<Hub>, SharedListeners) {
    let listeners = SharedListeners::default();
    let (published, check) = (Arc::clone(&listeners), config.check.clone());
    let listener = Box::new(move |event: &ControlSurfaceEvent| lock(&published).publish(event));
    let budget = &config.connection_limits.memory_budget;
    (Arc::new(hub.connected(budget, listener, check.map(|check| check as _))), listeners)
}

/// Closes all connections when the guard is dropped. If the serving future is dropped, the guard is dropped too.
struct CloseAllGuard<'a>(&'a Hub, &'a SharedListeners);

impl Drop for CloseAllGuard<'_> {
    fn drop(&mut self) {
        lock(self.1).close_all();
        self.0.shut_down(SHUTDOWN_TIMEOUT);
    }
}

/// Pause between two batches of timers, in which other tasks empty the queues.
const BATCH_PAUSE: Duration = Duration::from_millis(1);

/// Runs the hub's timers until the future is dropped.
async fn run_timers(hub: &Hub) {
    loop {
        let mut sleep = pin!(tokio::time::sleep(Duration::MAX));
        poll_fn(|cx| {
            let Some(next) = hub.next_deadline(cx.waker()) else { return Poll::Pending };
            let wait = next.duration_since(clock::monotonic_now());
            if wait.is_zero() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(Instant::now() + wait);
            sleep.as_mut().poll(cx)
        })
        .await;
        hub.on_deadline(clock::now());
        tokio::time::sleep(BATCH_PAUSE).await;
    }
}

async fn serve_hub(
    listener: tokio::net::TcpListener,
    (hub, listeners): (&Arc<Hub>, &SharedListeners),
    options: SignalingServerConfig,
    stop: &StopToken,
    stopped: impl Future<Output = ()>,
) {
    let close_guard = CloseAllGuard(hub, listeners);
    let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let state = Arc::new(HttpState::new(options, (hub, listeners), address, stop));
    let (limiter, tls) = (Arc::clone(&state.limiter), state.config.tls.clone());
    let router = admin::router(&state)
        .method_not_allowed_fallback(async || body::method_not_allowed())
        .fallback_service(fallback.with_state(Arc::clone(&state)))
        .layer(from_fn_with_state(Arc::clone(&state), upgrade_middleware));
    let (running, stopping) = watch::channel(false);
    let stopped = async {
        stopped.await;
        // Before the listener is closed: a response to a client that has seen the closed listener contains `Connection: close`.
        running.send_replace(true);
    };
    tokio::select! {
        () = stopped => {}
        () = http::accept_loop(listener, router, limiter, tls, stopping) => {}
        () = run_timers(hub) => {}
    }
    // The listener is closed here, because the accept loop has been dropped.
    drop(close_guard);
    running.send_replace(true);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, running.closed()).await.is_err() {
        warn!(target: "signaling", timeout = ?SHUTDOWN_TIMEOUT, "shutdown time-out; the remaining connections are dropped");
    }
}

/// The route of a WebSocket upgrade to the URL of a dialect, and the response that accepts it. `None` for other requests: an upgrade to
/// another protocol, such as HTTP/2, is ignored (RFC 9110, section 7.8).
fn check_upgrade(state: &HttpState, request: &Request) -> Result<Option<(Route, Response)>, RequestError> {
    if handshake::has_lost_upgrade(request) {
        return Err(upgrade_required(handshake::LOST_UPGRADE));
    }
    if !handshake::is_upgrade_request(request) {
        return Ok(None);
    }
    let (uri, headers) = (request.uri(), request.headers());
    let route = signaling::route(uri.path(), uri.query().unwrap_or_default(), &state.hub.limits().dialects);
    let not_found = RequestError::new(StatusCode::NOT_FOUND, "Not found");
    let route = route.map_err(|error| not_found.with_reason(error.to_string()))?;
    let is_allowed = state.allows_origin(headers);
    let route = if is_allowed { route.with_headers(headers) } else { Route::OriginNotAllowed };
    Ok(Some((route, handshake::accept_upgrade(request)?)))
}

/// A 401 response must contain a challenge (RFC 9110, section 15.5.2). No registered scheme has the headers of [`device`].
const DEVICE_CHALLENGE: HeaderValue = HeaderValue::from_static("Device");

/// Performs WebSocket upgrades.
async fn upgrade_middleware(
    State(state): SharedState,
    Extension(client): Client,
    request: Request,
    next: Next,
) -> Response {
    let uri = request.uri();
    let (mut route, accepted) = match check_upgrade(&state, &request) {
        Ok(Some(accepted)) => accepted,
        Ok(None) => return next.run(request).await,
        Err(error) => {
            log_rejection(&state, client.source, uri, &error.reason);
            return error.into_response();
        }
    };
    let (ip, local_ip) = (client.source.ip().to_canonical(), client.local_ip);
    let connection = |route| NewConnection { source: ip, local_ip, route };
    let unix_seconds = clock::unix_ms() / 1_000;
    if let Route::NewerJamjam(proven) = &mut route {
        match device::verify(request.headers(), unix_seconds, state.config.is_device_required) {
            Ok(Some(device)) if state.hub.is_severed(&device) => {
                return body::error_response(StatusCode::SERVICE_UNAVAILABLE, "Severed by the operator");
            }
            Ok(device) => *proven = device,
            Err(error) => {
                log_rejection(&state, client.source, uri, &error);
                state.hub.on_rejected(&connection(route), &error);
                let headers = vec![(header::WWW_AUTHENTICATE, DEVICE_CHALLENGE)];
                let rejected = RequestError::new(StatusCode::UNAUTHORIZED, "Device not accepted");
                return RequestError { headers, ..rejected }.into_response();
            }
        }
    }
    if let Err(reason) = client.permit.assign_client(client.source.ip(), client.is_forwarded) {
        let too_many = || RequestError::too_many_requests("Too many connections", Duration::ZERO);
        let is_over_budget = matches!(reason, ConnectionRejection::OverBudget(_));
        return if is_over_budget { OverBudget.into() } else { too_many() }.into_response();
    }
    let connection = connection(route);
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // An error means that the client left before the response was sent.
        let Ok(upgraded) = upgrade.await else { return };
        let own_memory = client.permit.on_upgrade();
        // The slot is freed after the member has left. A shutdown waits until then, so that the close frame is sent.
        connection::serve(TokioIo::new(upgraded), &state.hub, connection, client.permit.memory()).await;
        drop(own_memory);
        drop(client);
    });
    accepted
}

/// Logs why an upgrade was rejected, for client developers. Only the path is logged: the query may contain a token.
fn log_rejection(state: &HttpState, source: SocketAddr, uri: &Uri, reason: &dyn Display) {
    if state.rejection_log_throttle.allow() {
        warn!(target: "http", path = %sanitize(uri.path()), source = %source, reason = %reason, "WebSocket upgrade rejected");
    }
}

/// The response for paths without a page.
async fn fallback(State(state): SharedState, method: Method, uri: Uri) -> Response {
    if signaling::route(uri.path(), uri.query().unwrap_or_default(), &state.hub.limits().dialects).is_err() {
        body::not_found()
    } else if method == Method::GET || method == Method::HEAD {
        upgrade_required("This is a WebSocket endpoint; connect with ws:// or wss://").into_response()
    } else {
        ([(header::ALLOW, "GET,HEAD")], body::method_not_allowed()).into_response()
    }
}
