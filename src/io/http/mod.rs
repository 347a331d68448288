//! HTTP for machines and people that look at a server, on a thread of its own: never in the way of UDP.
//!
//! Connections are few, short of patience and bounded: whoever says nothing is closed, whoever is too many waits.

pub mod metrics;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Notify, Semaphore};

use crate::io::stop::Stop;

/// What connections may take.
#[derive(Clone, Copy)]
struct Bounds {
    /// Connections served at a time; more wait in the system's queue.
    connections: usize,
    /// How long a request's head may take, and how long a connection may be idle.
    patience: Duration,
    /// How long a connection may last, busy or not: one that asks and never reads must not keep its place.
    lifetime: Duration,
}

const BOUNDS: Bounds = Bounds { connections: 64, patience: Duration::from_secs(10), lifetime: Duration::from_secs(60) };

/// How long to wait when the system has no file descriptor left for a connection.
const BREATH: Duration = Duration::from_millis(100);

/// Listens on `address`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
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
                () = accept(listener, router, BOUNDS) => {}
            }
        });
    })?;
    Ok(())
}

async fn accept(listener: TcpListener, router: Router, bounds: Bounds) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(bounds.connections));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(bounds.patience);
            // What a client does wrong is told to that client; there is nobody else to tell.
            let serving = http.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(bounds.lifetime, serving).await;
            drop(place);
        });
    }
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
        std::thread::spawn(move || runtime.block_on(accept(listener, router, bounds)));
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
        Bounds { connections: 1, patience: Duration::from_millis(50), lifetime: LONG * 10 }
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
        let address = serve(Bounds { connections: 3, patience: LONG, lifetime: LONG }, router);
        let asking: Vec<_> = (0..20).map(|_| std::thread::spawn(move || ask(address))).collect();
        for one in asking {
            assert!(one.join().expect("an answer").ends_with("well"));
        }
        assert_eq!(seen.load(Ordering::SeqCst), 3);
    }
}
