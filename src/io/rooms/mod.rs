//! Rooms over WebSocket: the hub of [`crate::rooms`] behind real sockets.
//!
//! Each connection is one task that reads, and writes what waits in its own bounded queue. The hub sits behind one lock, under
//! which messages are read and queues are filled, and nothing is written or awaited; so a client that does not read harms itself alone.

mod admin;
mod admin_bbx;
mod backlog;
pub mod broadcast;
mod budget;
mod connection;
mod console;
mod docs;
mod door;
mod exposition;
mod frame;
mod health;
mod lines;
mod listeners;
mod pages;
mod queue;
pub mod surfaces;
mod switchboard;
mod upgrade;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

pub use broadcast::BroadcastHttp;
pub use budget::QueueBounds;

use crate::io::http::login::Login;
use crate::io::http::{self, Bounds, Places};
use crate::io::stop::Stop;
use crate::io::tls::server::Handshakes;
use crate::rooms::Hub;
use exposition::Exposition;
use pages::Pages;
use switchboard::Switchboard;

/// How long all connections have to end when the server is asked to.
pub const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the server is told beside its hub.
#[derive(Debug, Default)]
pub struct Options {
    /// What connections may take.
    pub bounds: Bounds,
    /// What may wait for those who do not read.
    pub queue: QueueBounds,
    /// TLS; without it, everything is plain.
    pub tls: Option<Arc<Handshakes>>,
    /// The HTTP side of broadcast rooms.
    pub broadcast: BroadcastHttp,
    /// Who may change what the server does, and read how; by default nobody.
    pub login: Arc<Login>,
}

/// Serves `hub` on `listener` until `stop` is requested and everybody was told so.
pub fn serve(listener: TcpListener, hub: Hub, options: Options, stop: &Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("rooms").enable_all().build()?;
    let stopped = Arc::new(Notify::new());
    let wake = Arc::clone(&stopped);
    stop.on_request(move || wake.notify_one());
    if stop.requested().is_none() {
        runtime.block_on(run(listener, hub, options, async move { stopped.notified().await }));
    }
    // Whoever did not end in time is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// The same on the caller's runtime, until `stopped` is.
pub async fn run(listener: TcpListener, hub: Hub, options: Options, stopped: impl Future<Output = ()>) {
    let (switchboard, ended) = Switchboard::new(hub, options.queue);
    serve_on(listener, &switchboard, ended, options, stopped).await;
}

/// Everybody is told to go, also where whoever serves them is given up.
struct Farewell<'a>(&'a Switchboard);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        self.0.close(STOP_PATIENCE);
    }
}

async fn serve_on(
    listener: TcpListener,
    switchboard: &Arc<Switchboard>,
    mut ended: mpsc::Receiver<Infallible>,
    options: Options,
    stopped: impl Future<Output = ()>,
) {
    let farewell = Farewell(switchboard);
    let places = Places::new(options.bounds);
    let limits = Arc::new(switchboard.ask(|_, hub, _| hub.limits().clone()));
    let dialects = limits.dialects;
    let Options { tls, login, broadcast, .. } = options;
    // What is on this machine alone may be watched by whoever is; behind a proxy nothing is.
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let is_watched_openly = is_local && !options.bounds.trust_proxy;
    let exposition = Exposition {
        switchboard: Arc::clone(switchboard),
        places: Arc::clone(&places),
        tls: tls.clone(),
        login: Arc::clone(&login),
    };
    let shutdown = Arc::new(Notify::new());
    let pages =
        Pages { switchboard: Arc::clone(switchboard), exposition, login, broadcast, dialects, is_watched_openly };
    let plain = pages.router(&shutdown);
    let router = door::router(plain, Arc::clone(switchboard), limits);
    tokio::select! {
        () = stopped => {}
        () = shutdown.notified() => {}
        () = http::accept(listener, router, places, tls) => {}
        () = switchboard.keep_time() => {}
    }
    drop(farewell);
    let _ = tokio::time::timeout(STOP_PATIENCE, ended.recv()).await;
}
