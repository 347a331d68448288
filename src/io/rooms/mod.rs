//! Rooms over WebSocket: the hub of [`crate::rooms`] behind real sockets.
//!
//! Each connection is one task that reads, and writes what waits in its own bounded queue. The hub sits behind one lock, under
//! which queues are filled and nothing else happens; so a client that does not read harms itself alone.

mod connection;
mod exposition;
mod queue;
mod switchboard;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tokio::sync::Notify;
use tracing::debug;

pub use queue::{MOST_BYTES, MOST_MESSAGES};

use crate::io::http::{self, Bounds, Client, Places, metrics};
use crate::io::stop::Stop;
use crate::rooms::{self, Hub, MESSAGE_BYTES};
use exposition::Exposition;
use switchboard::Switchboard;

/// What the WebSocket library buffers in each direction: an idle connection stays small.
const BUFFER: usize = 4 << 10;

/// What it may come to hold besides: the longest text that a queue lets through, and pongs. Whoever pings without end and
/// never reads gets no more of them.
const MOST_BUFFERED: usize = MOST_BYTES + (64 << 10);

/// How long all connections have to end when the server is asked to.
pub const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the server is told beside its hub.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What connections may take.
    pub bounds: Bounds,
    /// Whether every path is taken for `/`.
    pub any_path: bool,
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
    let places = Places::new(options.bounds);
    let (switchboard, mut ended) = Switchboard::new(hub);
    let exposition = Exposition { switchboard: Arc::clone(&switchboard), places: Arc::clone(&places) };
    let door = Door { switchboard: Arc::clone(&switchboard), any_path: options.any_path };
    let router = metrics::router(exposition.into_text()).merge(Router::new().fallback(enter).with_state(door));
    tokio::select! {
        () = stopped => {}
        () = http::accept(listener, router, places) => {}
    }
    switchboard.close(STOP_PATIENCE);
    let _ = tokio::time::timeout(STOP_PATIENCE, ended.recv()).await;
}

/// What a request meets first.
#[derive(Clone)]
struct Door {
    switchboard: Arc<Switchboard>,
    any_path: bool,
}

/// Upgrades a request that asks for a dialect, and sends all others away.
async fn enter(
    State(door): State<Door>,
    Extension(client): Extension<Client>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if !headers.contains_key(header::UPGRADE) {
        return not_found();
    }
    let route = match rooms::route(uri.path(), uri.query().unwrap_or_default(), door.any_path) {
        Ok(route) => route,
        Err(refusal) => {
            debug!(from = %client.from, "Refused an upgrade: {refusal}");
            return not_found();
        }
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(MOST_BUFFERED)
        .max_message_size(MESSAGE_BYTES)
        .max_frame_size(MESSAGE_BYTES)
        .on_upgrade(async move |socket| {
            let line = door.switchboard.connect(client.from.ip().to_canonical(), route);
            connection::serve(socket, &line, &door.switchboard).await;
            // The place is free when the connection has ended.
            drop(client.place);
        })
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], r#"{"error":"Not found"}"#).into_response()
}
