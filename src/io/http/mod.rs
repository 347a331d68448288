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

/// Connections served at a time; more wait in the system's queue.
const CONNECTIONS: usize = 64;

/// How long a request's head may take, and how long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(10);

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
                () = accept(listener, router) => {}
            }
        });
    })?;
    Ok(())
}

async fn accept(listener: TcpListener, router: Router) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            // What a client does wrong is told to that client; there is nobody else to tell.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}
