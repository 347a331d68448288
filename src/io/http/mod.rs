//! HTTP: the one accept loop, for those that look at a server (on a thread of its own, never in the way of UDP) and for
//! WebSocket.
//!
//! Connections are short of patience and bounded: whoever says nothing is closed, whoever is too many waits, and whoever holds
//! more than one address may have is closed at once. What becomes a WebSocket leaves the time limits and keeps its place.

pub mod answer;
mod forwarded;
pub mod here;
pub mod login;
pub mod metrics;
pub mod page;
mod places;
pub mod rate;
pub mod same_site;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(in crate::io) use places::party;
pub use places::{Place, Places};

use crate::io::stop::Stop;
use crate::io::tls::server::Handshakes;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections served at a time; more wait in the system's queue. `None` is no limit.
    pub connections: Option<usize>,
    /// Connections of one address at a time; more are closed at once. Loopback is exempt. `None` is no limit.
    pub per_address: Option<usize>,
    /// How long a TLS handshake and a request's head may take together, and how long a connection may be idle.
    pub patience: Duration,
    /// How long a connection may last, busy or not: one that asks and never reads must not keep its place. What has been
    /// upgraded is no longer under it, and an answer without an end begins it anew ([`Place::last`]) as it is read.
    pub lifetime: Duration,
    /// Whether a proxy stands before the server and says, in `X-Forwarded-For`, whom a request comes from.
    pub trust_proxy: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        let (patience, lifetime) = (Duration::from_secs(10), Duration::from_secs(60));
        Self { connections: Some(64), per_address: None, patience, lifetime, trust_proxy: false }
    }
}

/// Whose request it is: an extension of every request.
#[derive(Clone, Debug)]
pub struct Client {
    /// The other end of the connection; behind a proxy that is trusted whoever it says that asks, with the proxy's port.
    pub from: SocketAddr,
    /// Its place. Whoever takes the connection over by an upgrade keeps this as long as the connection.
    pub place: Arc<Place>,
}

/// A peer that is gone without a word is found after two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
#[cfg(not(windows))]
const KEEPALIVE_PROBES: u32 = 4;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The longest head of a request. Whoever sends it slowly holds as much for as long as the patience lasts, times the connections.
const HEAD_BYTES: usize = 16 << 10;

/// How long to wait when the system has no file descriptor left for a connection.
const BREATH: Duration = Duration::from_millis(100);

/// What to do about a port that is taken.
const IN_USE: &str = "the TCP port is in use by another program; choose another, or 0 for any free one";

/// Listens on `address`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        kind @ io::ErrorKind::AddrInUse => io::Error::new(kind, IN_USE),
        _ => error,
    })?;
    listener.set_nonblocking(true)?;
    // A thousand clients that come back at once after a restart wait here, not in a second round of SYN.
    SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

/// Serves `router` on a new thread called `name` until `stop` is requested.
pub fn spawn(name: &str, listener: TcpListener, router: Router, stop: &Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = Arc::new(Notify::new());
    let wake = Arc::clone(&stopped);
    stop.on_request(move || wake.notify_one());
    if stop.requested().is_some() {
        return Ok(());
    }
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = stopped.notified() => {}
                () = accept(listener, router, Places::new(Bounds::default()), None) => {}
            }
        });
    })?;
    Ok(())
}

/// Accepts connections on `listener` and serves `router` to them, after a handshake if there is `tls`, as far as there are
/// `places`. Ends only if the listener cannot be used.
pub async fn accept(listener: TcpListener, router: Router, places: Arc<Places>, tls: Option<Arc<Handshakes>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let bounds = places.bounds();
    loop {
        let free = places.free().await;
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let Some(place) = places.take(free, from.ip()) else { continue };
        prepare(&stream);
        let client = Client { from, place: Arc::new(place) };
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else { return serve(stream, client, router, bounds).await };
            let began = Instant::now();
            if let Some(stream) = tls.accept(stream, from, bounds.patience).await {
                // The handshake and the head of the first request have one time together.
                let patience = bounds.patience.saturating_sub(began.elapsed());
                serve(stream, client, router, Bounds { patience, ..bounds }).await;
            }
        });
    }
}

/// Serves one connection until it ends or is upgraded.
async fn serve<S>(stream: S, client: Client, router: Router, bounds: Bounds)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let place = Arc::clone(&client.place);
    let service = service_fn(move |mut request: Request<Incoming>| {
        client.place.asked();
        let mut client = client.clone();
        if let Some(told) = bounds.trust_proxy.then(|| forwarded::client(request.headers())).flatten() {
            client.from.set_ip(told);
        }
        request.extensions_mut().insert(client);
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES).timer(TokioTimer::new()).header_read_timeout(bounds.patience);
    // What a client does wrong is told to that client; there is nobody else to tell. An upgrade ends this future, not the
    // connection.
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    place.last();
    loop {
        match tokio::time::timeout_at(place.until(), serving.as_mut()).await {
            Ok(Err(error)) if error.is_timeout() => return place.late(),
            Ok(_) => return,
            Err(_) if place.until() <= Instant::now() => return,
            // Meanwhile more of an answer without an end was taken.
            Err(_) => {}
        }
    }
}

/// Small messages leave at once, and whoever vanishes is noticed. A system that refuses either still serves.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(KEEPALIVE_PROBES);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;

    use super::*;

    /// Long enough for a busy machine, and an end for a test that would wait for ever.
    const LONG: Duration = Duration::from_secs(20);

    /// A server with these bounds on a thread of its own, for as long as the tests run.
    fn serve(bounds: Bounds, router: Router) -> SocketAddr {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        std::thread::spawn(move || runtime.block_on(accept(listener, router, Places::new(bounds), None)));
        address
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a time-out");
        stream
    }

    fn ask(address: SocketAddr) -> String {
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn short() -> Bounds {
        Bounds {
            connections: Some(1),
            per_address: None,
            patience: Duration::from_millis(50),
            lifetime: LONG * 10,
            ..Bounds::default()
        }
    }

    #[test]
    fn whoever_says_nothing_loses_the_place() {
        let address = serve(short(), Router::new().route("/", get(async || "well")));
        // It holds the only place, and says nothing.
        let _silent = connect(address);
        assert!(ask(address).ends_with("well"));
    }

    #[test]
    fn whoever_asks_and_never_reads_loses_the_place_too() {
        let much = "x".repeat(64 << 20);
        let router = Router::new().route("/much", get(async move || much.clone())).route("/", get(async || "well"));
        let bounds = Bounds { patience: LONG * 10, lifetime: Duration::from_millis(50), ..short() };
        let address = serve(bounds, router);
        let mut deaf = connect(address);
        deaf.write_all(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
        assert!(ask(address).ends_with("well"));
    }

    #[test]
    fn no_more_are_served_at_a_time_than_there_are_places() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let router = Router::new().route(
            "/",
            get(move || {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Whoever could be served beside this one is, in the meantime.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    "well"
                }
            }),
        );
        let address = serve(
            Bounds { connections: Some(3), per_address: None, patience: LONG, lifetime: LONG, ..Bounds::default() },
            router,
        );
        let asking: Vec<_> = (0..20).map(|_| std::thread::spawn(move || ask(address))).collect();
        for one in asking {
            assert!(one.join().expect("an answer").ends_with("well"));
        }
        assert_eq!(seen.load(Ordering::SeqCst), 3);
    }
}
