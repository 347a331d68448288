//! HTTP/1.1 server: one accept loop. The WebSocket servers run this loop. The echo server runs this loop on a separate thread for metrics
//! and the demo page.
//!
//! Connections are limited in number and time. The time limits do not apply to an upgraded connection, which keeps its permit. Every server
//! has the routes `/metrics` (`OpenMetrics`) and `/healthz`.

pub mod body;
pub mod csrf;
pub mod login;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, ConnectionPermit};
use crate::io::stop::StopToken;
use crate::io::tls::server::HandshakeAcceptor;

/// The connection on which a request arrived. The server adds this value to every request as an `axum` extension.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client's address. Behind a trusted proxy, the source is the forwarded address with the proxy's port.
    pub source: SocketAddr,
    /// The permit of the connection. An upgraded connection keeps its permit until it closes.
    pub permit: Arc<ConnectionPermit>,
}

/// TCP keepalive: a vanished peer is detected after two minutes.
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
#[cfg(not(windows))]
const TCP_KEEPALIVE_PROBES: u32 = 4;

/// Length of the listen queue.
const LISTEN_BACKLOG: i32 = 1024;

/// Maximum size of a request head. Slow clients can occupy this much memory per connection until the handshake time-out.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Pause when the process has no file descriptor left for a connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Maximum number of addresses whose requests or failed logins are counted.
pub const MAX_LIMITED_SOURCES: usize = 100_000;

const PORT_IN_USE: &str = "the TCP port is in use by another program. Choose another port, or 0 for any free port";

/// Binds a non-blocking listener to `address`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        kind @ io::ErrorKind::AddrInUse => io::Error::new(kind, PORT_IN_USE),
        _ => error,
    })?;
    listener.set_nonblocking(true)?;
    // The backlog has room for a thousand clients that reconnect together after a restart.
    SockRef::from(&listener).listen(LISTEN_BACKLOG)?;
    Ok(listener)
}

/// Serves `router` on a new thread called `name` until `stop` is requested.
pub fn spawn(name: &str, listener: TcpListener, router: Router, stop: &StopToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = Arc::new(Notify::new());
    let wake = Arc::clone(&stopped);
    stop.on_stop(move || wake.notify_one());
    if stop.signal().is_some() {
        return Ok(());
    }
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = stopped.notified() => {}
                () = accept_loop(listener, router, ConnectionLimiter::new(ConnectionLimits::default()), None) => {}
            }
        });
    })?;
    Ok(())
}

/// Accepts connections and serves `router` to them, over TLS if `tls` is given. Returns only if the listener cannot be used.
pub async fn accept_loop(
    listener: TcpListener,
    router: Router,
    limiter: Arc<ConnectionLimiter>,
    tls: Option<Arc<HandshakeAcceptor>>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let limits = limiter.limits();
    loop {
        let slot = limiter.acquire().await;
        let Ok((stream, source)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let Some(permit) = limiter.assign(slot, source.ip()) else { continue };
        configure_tcp(&stream);
        let client = ConnectionInfo { source, permit: Arc::new(permit) };
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else { return serve_connection(stream, client, router, limits).await };
            let began = Instant::now();
            if let Some(stream) = tls.accept(stream, source, limits.handshake_timeout).await {
                // TLS handshake and request head share one time-out.
                let handshake_timeout = limits.handshake_timeout.saturating_sub(began.elapsed());
                serve_connection(stream, client, router, ConnectionLimits { handshake_timeout, ..limits }).await;
            }
        });
    }
}

/// Serves one connection until it ends or is upgraded.
async fn serve_connection<S>(stream: S, client: ConnectionInfo, router: Router, limits: ConnectionLimits)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let permit = Arc::clone(&client.permit);
    let service = service_fn(move |mut request: Request<Incoming>| {
        client.permit.on_request();
        let mut client = client.clone();
        if let Some(address) = limits.trust_proxy.then(|| forwarded_address(request.headers())).flatten() {
            client.source.set_ip(address);
        }
        request.extensions_mut().insert(client);
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEADER_BYTES).timer(TokioTimer::new()).header_read_timeout(limits.handshake_timeout);
    // Protocol errors are reported to the client. An upgrade ends this future, but not the connection.
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    permit.extend();
    loop {
        match tokio::time::timeout_at(permit.deadline(), serving.as_mut()).await {
            Ok(Err(error)) if error.is_timeout() => return permit.on_header_timeout(),
            Ok(_) => return,
            Err(_) if permit.deadline() <= Instant::now() => return,
            // The permit's deadline was extended during the wait, so the loop waits again.
            Err(_) => {}
        }
    }
}

/// Disables Nagle's algorithm and enables keepalive. Errors are ignored, because the connection works without these options.
fn configure_tcp(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE_IDLE).with_interval(TCP_KEEPALIVE_INTERVAL);
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(TCP_KEEPALIVE_PROBES);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Any client can send this header; it is used only behind a trusted proxy, which overwrites it.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The first address in the header, which may include a port.
fn forwarded_address(headers: &HeaderMap) -> Option<IpAddr> {
    let first = headers.get(FORWARDED_FOR)?.to_str().ok()?.split(',').next()?.trim();
    let bare = first.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(first);
    let address = bare.parse().or_else(|_| first.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// `OpenMetrics` 1.0, supported by Prometheus since version 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Produces the text of a scrape.
type Encoder = Arc<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>;

/// Serves `/metrics` with the result of `text`.
pub fn metrics_router(text: impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static) -> Router {
    let text: Encoder = Arc::new(text);
    Router::new().route("/metrics", get(serve_metrics)).with_state(text)
}

/// An encoder for all metrics of `registry`.
pub fn metrics_encoder(registry: Registry) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static {
    move || {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

/// Serves `/healthz` with `ok`.
pub fn healthz_router() -> Router {
    Router::new().route("/healthz", get(serve_healthz))
}

/// Metrics
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "monitoring", security((), ("login" = [])),
    responses((
        status = 200, content_type = "application/openmetrics-text", body = String,
        description = "OpenMetrics 1.0. Requires no login if the server listens on loopback without a proxy",
    )),
)]
pub(in crate::io) async fn serve_metrics(State(text): State<Encoder>) -> Response {
    match text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            body::error_response(StatusCode::INTERNAL_SERVER_ERROR, &format!("Cannot encode the metrics: {error}"))
        }
    }
}

/// Liveness
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "monitoring",
    responses((status = 200, description = "`ok`", content_type = "text/plain", body = String)),
)]
pub(in crate::io) async fn serve_healthz() -> &'static str {
    "ok\n"
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;

    use super::*;

    /// Maximum time of a test step, which is reached only if the server hangs.
    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// Starts a server on its own thread.
    fn start_server(limits: ConnectionLimits, router: Router) -> SocketAddr {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::thread::spawn(move || {
            runtime.block_on(accept_loop(listener, router, ConnectionLimiter::new(limits), None));
        });
        address
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time-out");
        stream
    }

    fn http_get(address: SocketAddr) -> String {
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        response
    }

    fn short_limits() -> ConnectionLimits {
        ConnectionLimits {
            max_connections: Some(1),
            max_connections_per_address: None,
            handshake_timeout: Duration::from_millis(50),
            max_lifetime: TEST_TIMEOUT * 10,
            ..ConnectionLimits::default()
        }
    }

    #[test]
    fn silent_connection_is_closed() {
        let address = start_server(short_limits(), Router::new().route("/", get(async || "ok")));
        // Occupies the only slot and sends nothing.
        let _silent = connect(address);
        assert!(http_get(address).ends_with("ok"));
    }

    #[test]
    fn connection_that_never_reads_is_closed() {
        let large = "x".repeat(64 << 20);
        let router = Router::new().route("/large", get(async move || large.clone())).route("/", get(async || "ok"));
        let limits = ConnectionLimits {
            handshake_timeout: TEST_TIMEOUT * 10,
            max_lifetime: Duration::from_millis(50),
            ..short_limits()
        };
        let address = start_server(limits, router);
        let mut stalled = connect(address);
        stalled.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
        assert!(http_get(address).ends_with("ok"));
    }

    #[test]
    fn concurrent_connections_are_limited() {
        let (now, max) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&max);
        let router = Router::new().route(
            "/",
            get(move || {
                let (now, max) = (Arc::clone(&now), Arc::clone(&max));
                async move {
                    max.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // The sleep gives other requests time to run concurrently with this request.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    "ok"
                }
            }),
        );
        let address = start_server(
            ConnectionLimits {
                max_connections: Some(3),
                max_connections_per_address: None,
                handshake_timeout: TEST_TIMEOUT,
                max_lifetime: TEST_TIMEOUT,
                ..ConnectionLimits::default()
            },
            router,
        );
        let clients: Vec<_> = (0..20).map(|_| std::thread::spawn(move || http_get(address))).collect();
        for client in clients {
            assert!(client.join().expect("a response").ends_with("ok"));
        }
        assert_eq!(seen.load(Ordering::SeqCst), 3);
    }

    fn forwarded(values: &[&str]) -> Option<String> {
        let headers: HeaderMap = values
            .iter()
            .map(|value| (FORWARDED_FOR.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        forwarded_address(&headers).map(|address| address.to_string())
    }

    #[test]
    fn first_valid_forwarded_address_is_used() {
        for (value, address) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 , 198.51.100.7", "192.0.2.1"),
            ("192.0.2.1:5000,198.51.100.7", "192.0.2.1"),
            ("2001:db8::a", "2001:db8::a"),
            ("[2001:db8::a]", "2001:db8::a"),
            ("[2001:db8::a]:5000", "2001:db8::a"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(forwarded(&[value]).as_deref(), Some(address), "{value}");
        }
        for value in
            ["", ",192.0.2.1", "unknown", "_hidden, 192.0.2.1", "192.0.2", "192.0.2.1;", "[192.0.2.1", "example.org"]
        {
            assert_eq!(forwarded(&[value]), None, "{value}");
        }
        assert_eq!(forwarded(&["192.0.2.1", "192.0.2.2"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(forwarded(&[]), None);
    }
}
