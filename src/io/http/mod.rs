//! HTTP/1.1 server: one accept loop, which the WebSocket servers run, and which the echo server runs on a separate thread for metrics.
//!
//! Connections are limited in number and time. The time limits do not apply to an upgraded connection, which keeps its permit. Every server
//! has the routes `/metrics` and `/healthz`, and the echo server `/sources`.

pub mod body;
pub mod forwarded;
pub mod login;
pub mod request_body;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::address::ipv4;
use crate::echo::SharedSources;
use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, ConnectionPermit};
use crate::io::http::forwarded::FORWARDED_FOR;
use crate::io::http::login::Login;
use crate::io::stop::StopToken;
use crate::io::tls::server::{AcceptedStream, HandshakeAcceptor, PLAIN_HTTP_ERROR};
use crate::io::websocket::handshake::is_upgrade_request;
use crate::io::worker::Worker;

/// TCP keepalive: a vanished peer is detected after two minutes, if it has acknowledged everything.
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
#[cfg(not(windows))]
const TCP_KEEPALIVE_PROBES: u32 = 4;

/// Maximum time for which sent data is not acknowledged. While data waits for an acknowledgement, the kernel sends no keepalive, but retransmits
/// the data for up to 16 minutes. With a ping of each member every 30 s, a vanished member is detected within two minutes. It is also the time without an
/// acknowledgement after which a keepalive closes the connection. Only Linux has this option.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(90);

/// Size of the send buffer of a connection. The kernel uses up to twice as much. Without this limit, each client that does not read could
/// occupy megabytes of kernel memory, which count towards the memory limit of a container.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Length of the listen queue.
const LISTEN_BACKLOG: i32 = 1024;

/// Maximum size of a request head. Slow clients can occupy this much memory per connection until the handshake time-out.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Pause when the process has no file descriptor left for a connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The connection on which a request arrived. The server adds this value to every request as an `axum` extension.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client's address. Behind a trusted proxy, the source is the forwarded address with the proxy's port.
    pub source: SocketAddr,
    /// The server's address at which the connection arrived. For IPv6, this is the loopback address of IPv4.
    pub local_ip: Ipv4Addr,
    /// Whether a trusted proxy reported the source.
    pub is_forwarded: bool,
    /// The permit of the connection. An upgraded connection keeps its permit until it closes.
    pub permit: Arc<ConnectionPermit>,
    /// True when the server stops. The server waits until all connections have dropped their receivers.
    pub stopping: watch::Receiver<bool>,
}

/// Binds a non-blocking listener to `address`. `[::]` also accepts IPv4.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // A system may default to IPv6 only (net.ipv6.bindv6only).
        socket.set_only_v6(false)?;
    }
    // A restarted server can bind while old connections are in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    // The backlog has room for a thousand clients that reconnect together after a restart.
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// The page at `/` of the metrics.
const METRICS_LINKS: &str = "<!DOCTYPE html>\n<title>jamjam-dev echo-server</title>\n\
    <p><a href=\"/metrics\">/metrics</a> counters, for Prometheus\n\
    <p><a href=\"/healthz\">/healthz</a> ok while the server runs\n";
/// Only the UDP echo has sources.
const SOURCES_LINK: &str = "<p><a href=\"/sources\">/sources</a> active clients, as JSON\n";

/// Serves `/metrics` with the metrics of `registry`, `/sources` and `/healthz`, and at `/` links to them, on a new thread until `stop` is
/// requested. `/sources` requires the `login`.
pub fn spawn_metrics(
    listener: TcpListener,
    registry: Registry,
    sources: Option<SharedSources>,
    login: Login,
    stop: &StopToken,
) -> io::Result<()> {
    let mut router = Router::from(metrics_router(registry)).route("/healthz", get(serve_healthz));
    let mut links = String::from(METRICS_LINKS);
    if let Some(sources) = sources {
        links.push_str(SOURCES_LINK);
        let serve = async move || body::json_response(StatusCode::OK, &sources.to_json());
        router = router.merge(login::require_login(Router::new().route("/sources", get(serve)), &Arc::new(login)));
    }
    router = router.route("/", get(async move || body::page_response("text/html; charset=utf-8", links)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = register(listener, &runtime)?;
    let stopped = stop.to_notify();
    let serve = async move {
        let (limiter, (_running, stopping)) =
            (ConnectionLimiter::new(ConnectionLimits::default()), watch::channel(false));
        tokio::select! {
            () = stopped.notified() => {}
            () = accept_loop(listener, router, limiter, None, stopping) => {}
        }
    };
    Worker::spawn("metrics", move || runtime.block_on(serve)).map(drop)
}

/// Registers the listener with the event loop of `runtime`.
pub(in crate::io) fn register(listener: TcpListener, runtime: &Runtime) -> io::Result<tokio::net::TcpListener> {
    let _entered = runtime.enter();
    tokio::net::TcpListener::from_std(listener)
}

/// Accepts connections and serves `router` to them, over TLS if `tls` is given. Does not return.
pub(in crate::io) async fn accept_loop(
    listener: tokio::net::TcpListener,
    router: Router,
    limiter: Arc<ConnectionLimiter>,
    tls: Option<Arc<HandshakeAcceptor>>,
    stopping: watch::Receiver<bool>,
) {
    loop {
        let slot = limiter.acquire().await;
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                limiter.log_failed_accept(&error);
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let Some(permit) = limiter.assign(slot, source.ip()) else { continue };
        configure_tcp(&stream);
        let stopping = stopping.clone();
        let local_ip = stream.local_addr().ok().and_then(|local| ipv4(local.ip())).unwrap_or(Ipv4Addr::LOCALHOST);
        let permit = Arc::new(permit);
        let mut client = ConnectionInfo { source, local_ip, is_forwarded: false, permit, stopping };
        let limits = limiter.limits.clone();
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else { return serve_connection(stream, client, router, limits).await };
            let stream = tokio::select! {
                stream = tls.accept(stream, source, limits.handshake_timeout) => stream,
                _ = client.stopping.wait_for(|stopping| *stopping) => None,
            };
            match stream {
                Some(AcceptedStream::Tls(stream)) => serve_connection(stream, client, router, limits).await,
                Some(AcceptedStream::PlainHttp(stream)) => {
                    let router = Router::new().fallback(reject_plain_http);
                    serve_connection(stream, client, router, limits).await;
                }
                None => {}
            }
        });
    }
}

/// The response to plain HTTP on a TLS port.
async fn reject_plain_http() -> Response {
    let response = body::error_response(StatusCode::BAD_REQUEST, PLAIN_HTTP_ERROR);
    ([(header::CONNECTION, "close")], response).into_response()
}

/// Guard the two warnings about proxies: the mistake is the same for all connections.
static MISSING_HEADER: Once = Once::new();
static IGNORED_HEADER: Once = Once::new();

/// Serves one connection until it ends or is upgraded. When the server stops, the connection ends after the response to its current
/// request. A connection without a request then ends at once.
#[doc(hidden)]
pub async fn serve_connection<S>(stream: S, client: ConnectionInfo, router: Router, limits: ConnectionLimits)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let (permit, mut stopping, source) = (Arc::clone(&client.permit), client.stopping.clone(), client.source);
    let service = service_fn(move |mut request: Request<Incoming>| {
        client.permit.on_request();
        let mut client = client.clone();
        let (headers, peer) = (request.headers(), client.source.ip());
        let proxies = limits.trusted_proxies.as_ref().filter(|proxies| proxies.trusts(peer));
        match proxies.map(|proxies| proxies.client_address(headers)) {
            Some(Some(address)) => {
                client.source.set_ip(address);
                client.is_forwarded = true;
            }
            Some(None) if is_upgrade_request(&request) => MISSING_HEADER.call_once(|| {
                warn!(target: "http", %peer, "a proxy that --trust-proxy names sends no usable X-Forwarded-For, so its clients count as one address, or on loopback have no limits; let it set the header");
            }),
            None if headers.contains_key(FORWARDED_FOR) => IGNORED_HEADER.call_once(|| {
                warn!(target: "http", %peer, "X-Forwarded-For is ignored, because --trust-proxy does not name this peer; if it is a proxy, its clients count as one address");
            }),
            _ => {}
        }
        let permit = Arc::clone(&client.permit);
        let hosts = request.headers().get_all(header::HOST).iter().count();
        let has_valid_host = hosts == 1 || hosts == 0 && request.version() == Version::HTTP_10;
        if let Some(uri) = without_trailing_slash(&request) {
            *request.uri_mut() = uri;
        }
        request.extensions_mut().insert(client);
        let response = has_valid_host.then(|| router.call(request));
        async move {
            let mut response = if let Some(response) = response {
                response.await?
            } else {
                let error = "Send exactly one Host header";
                permit.on_malformed_request(source, error);
                body::error_response(StatusCode::BAD_REQUEST, error)
            };
            if permit.is_scarce() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    // A client may end its direction after its last request (`nc -N`), and is answered.
    http.half_close(true).max_buf_size(MAX_HEADER_BYTES);
    // Protocol errors are reported to the client. An upgrade ends this future, but not the connection.
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut is_ending = false;
    loop {
        let served = tokio::select! {
            biased;
            // First, so that the response to a request whose end arrives now contains `Connection: close`.
            _ = stopping.wait_for(|stopping| *stopping), if !is_ending => {
                // A request that has arrived is read now.
                if !permit.has_request() && (serving.as_mut().now_or_never().is_some() || !permit.has_request()) {
                    return;
                }
                is_ending = true;
                serving.as_mut().graceful_shutdown();
                continue;
            }
            served = tokio::time::timeout_at(permit.deadline(), serving.as_mut()) => served,
        };
        match served {
            Ok(Err(error)) if error.is_parse() => return permit.on_malformed_request(source, &error.to_string()),
            Ok(_) => return,
            Err(_) if permit.deadline() <= Instant::now() => return permit.on_timeout(),
            // The permit's deadline was extended during the wait, so the loop waits again.
            Err(_) => {}
        }
    }
}

/// The path of a request may end with a slash. That of a WebSocket is kept, because the dialects accept the slash where it is allowed.
fn without_trailing_slash(request: &Request<Incoming>) -> Option<Uri> {
    let uri = request.uri();
    let path = uri.path().strip_suffix('/').filter(|path| !path.is_empty() && !path.ends_with('/'))?;
    let query = uri.query().unwrap_or_default();
    if request.headers().contains_key(header::UPGRADE) { None } else { format!("{path}?{query}").parse().ok() }
}

/// Disables Nagle's algorithm, detects vanished peers and limits the send buffer. Errors are ignored, because the connection works without these
/// options.
fn configure_tcp(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES);
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE_IDLE).with_interval(TCP_KEEPALIVE_INTERVAL);
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(TCP_KEEPALIVE_PROBES);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
}

/// Serves `/metrics` with all metrics of `registry`, in the text format 0.0.4 of Prometheus, which all tools can read.
pub(in crate::io) fn metrics_router(registry: Registry) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(serve_metrics)).with_state(Arc::new(registry))
}

/// Metrics
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "monitoring",
    responses((
        status = 200, body = String, content_type = "text/plain",
        description = "The Prometheus text format 0.0.4. Requires no login if the server listens on loopback without a proxy",
    )),
)]
pub(in crate::io) async fn serve_metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string cannot fail");
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}

/// Liveness
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "monitoring",
    responses((status = 200, description = "`ok`. A signaling server answers `/readyz` in the same way", content_type = "text/plain", body = String)),
)]
pub(in crate::io) async fn serve_healthz() -> &'static str {
    "ok\n"
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::memory_budget::MemoryBudget;

    /// Maximum time of a test step, which is reached only if the server hangs.
    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// Starts a server on its own thread.
    fn serve(listener: TcpListener, limits: ConnectionLimits, router: Router) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = register(listener, &runtime).expect("a listener");
        std::thread::spawn(move || {
            let (_running, stopping) = watch::channel(false);
            runtime.block_on(accept_loop(listener, router, ConnectionLimiter::new(limits), None, stopping));
        });
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time-out");
        stream
    }

    #[test]
    fn connection_that_never_reads_is_closed() {
        let large = "x".repeat(64 << 20);
        let router = Router::new().route("/large", get(async move || large.clone())).route("/", get(async || "ok"));
        let limits = ConnectionLimits {
            max_connections: Some(1),
            handshake_timeout: TEST_TIMEOUT * 10,
            max_lifetime: Duration::from_millis(50),
            ..ConnectionLimits::default()
        };
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr().expect("an address");
        serve(listener, limits, router);
        // It occupies the only slot.
        let mut stalled = connect(address);
        stalled.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
        let mut other = connect(address);
        other.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
        let mut response = String::new();
        other.read_to_string(&mut response).expect("a response");
        assert!(response.ends_with("ok"), "{response}");
    }

    #[test]
    fn every_complete_request_is_answered_after_the_end_of_its_client() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let mut client = connect(listener.local_addr().expect("an address"));
        let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";
        client.write_all(requests.as_bytes()).expect("requests");
        client.shutdown(std::net::Shutdown::Write).expect("the end");
        // During each of the responses, the end of the client's direction has arrived.
        let on_get = async || tokio::task::yield_now().await;
        let on_post = async |body: String| {
            tokio::task::yield_now().await;
            body
        };
        serve(listener, ConnectionLimits::default(), Router::new().route("/", get(on_get).post(on_post)));
        let mut responses = String::new();
        client.read_to_string(&mut responses).expect("responses");
        assert_eq!(
            (responses.matches("HTTP/1.1 200 OK").count(), responses.ends_with("body")),
            (2, true),
            "{responses}"
        );
    }

    /// A member is pinged every 30 s, and a vanished one must leave within two minutes.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn unacknowledged_data_ends_a_connection_90_seconds_after_a_ping() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let _client = connect(listener.local_addr().expect("an address"));
        let (stream, _) = listener.accept().await.expect("a connection");
        configure_tcp(&stream);
        let socket = SockRef::from(&stream);
        let seconds = [socket.tcp_user_timeout().expect("an option"), socket.tcp_keepalive_time().ok()];
        assert_eq!(seconds.map(|option| option.map(|time| time.as_secs())), [Some(90), Some(60)]);
    }

    /// Sends a request, and then begins another one. Returns the headers of the response, and how long the connection then stayed open.
    async fn idle_time(limits: ConnectionLimits) -> (String, Duration) {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let limiter = ConnectionLimiter::new(limits.clone());
        let permit = limiter.assign(limiter.acquire().await, [192, 0, 2, 1].into()).expect("a permit");
        let stopping = watch::channel(false);
        let source = SocketAddr::from(([192, 0, 2, 1], 9));
        let (permit, local_ip) = (Arc::new(permit), Ipv4Addr::LOCALHOST);
        let info = ConnectionInfo { source, local_ip, is_forwarded: false, permit, stopping: stopping.1 };
        tokio::spawn(serve_connection(server, info, Router::new().route("/", get(async || "ok")), limits));
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
        let mut response = vec![0; 1 << 10];
        let length = client.read(&mut response).await.expect("a response");
        let began = Instant::now();
        let _ = client.write_all(b"GET / HTTP/1.1\r\n").await;
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
        (String::from_utf8_lossy(&response[..length]).to_lowercase(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_stay_for_75_seconds_while_most_slots_and_memory_are_free() {
        let seconds = |elapsed: Duration| elapsed.as_millis().div_ceil(1_000);
        let (response, idle) = idle_time(ConnectionLimits::default()).await;
        assert_eq!((response.contains("connection: close"), seconds(idle)), (false, 75));
        let half_full = ConnectionLimits { max_connections: Some(1), ..ConnectionLimits::default() };
        let memory_budget = MemoryBudget::new(Some(320 << 10));
        // A connection holds 36 KiB, and one address may hold an eighth of the budget.
        let _held = memory_budget.open(None, 160 << 10);
        let no_memory = ConnectionLimits { memory_budget, ..ConnectionLimits::default() };
        for limits in [half_full, no_memory] {
            let (response, idle) = idle_time(limits).await;
            assert_eq!((response.contains("connection: close"), seconds(idle)), (true, 0));
        }
    }
}
