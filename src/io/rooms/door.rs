//! What a request meets first: a WebSocket upgrade is let in or sent away by its path, everything else is plain HTTP.

use std::sync::Arc;

use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use tracing::debug;

use super::connection;
use super::queue::MOST_BYTES;
use super::switchboard::Switchboard;
use crate::io::http::{Client, answer};
use crate::rooms::{self, MESSAGE_BYTES};

/// What the WebSocket library buffers in each direction: an idle connection stays small.
const BUFFER: usize = 4 << 10;

/// What it may come to hold besides: the longest text that a queue lets through, and pongs. Whoever pings without end and
/// never reads gets no more of them.
const MOST_BUFFERED: usize = MOST_BYTES + (64 << 10);

/// The one version of the protocol (RFC 6455, section 4.1).
const VERSION: HeaderValue = HeaderValue::from_static("13");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

#[derive(Clone)]
struct Door {
    switchboard: Arc<Switchboard>,
    any_path: bool,
}

/// Puts the door before `plain`, which answers what asks for no WebSocket.
pub(super) fn router(plain: Router, switchboard: Arc<Switchboard>, any_path: bool) -> Router {
    plain
        .method_not_allowed_fallback(async || answer::method_not_allowed())
        .fallback(move |method: Method, uri: Uri| async move { elsewhere(&method, &uri, any_path) })
        .layer(from_fn_with_state(Door { switchboard, any_path }, enter))
}

/// Lets those in who ask for a dialect's WebSocket. An upgrade to anything else, such as HTTP/2, may be ignored
/// (RFC 9110, section 7.8).
async fn enter(
    State(door): State<Door>,
    Extension(client): Extension<Client>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
    next: Next,
) -> Response {
    if !asks_for_websocket(request.headers()) {
        return next.run(request).await;
    }
    let uri = request.uri();
    let route = match rooms::route(uri.path(), uri.query().unwrap_or_default(), door.any_path) {
        Ok(route) => route,
        Err(refusal) => {
            debug!(from = %client.from, "Refused an upgrade: {refusal}");
            return answer::not_found();
        }
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            debug!(from = %client.from, "Refused an upgrade: {rejection}");
            return malformed(&rejection);
        }
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

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// An upgrade that is not as RFC 6455, section 4.2.1, wants it.
fn malformed(rejection: &WebSocketUpgradeRejection) -> Response {
    use WebSocketUpgradeRejection::{ConnectionNotUpgradable, InvalidWebSocketVersionHeader, MethodNotGet};
    match rejection {
        MethodNotGet(_) => not_for_this_method("GET"),
        InvalidWebSocketVersionHeader(_) => {
            let mut response = upgrade_required("Sec-WebSocket-Version must be 13");
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, VERSION);
            response
        }
        ConnectionNotUpgradable(_) => upgrade_required("A WebSocket needs HTTP/1.1"),
        other => answer::refusal(other.status(), &other.body_text()),
    }
}

/// Plain HTTP where no page is.
fn elsewhere(method: &Method, uri: &Uri, any_path: bool) -> Response {
    if rooms::route(uri.path(), uri.query().unwrap_or_default(), any_path).is_err() {
        answer::not_found()
    } else if method == Method::GET || method == Method::HEAD {
        upgrade_required("This is a WebSocket endpoint: connect to it with ws:// or wss://")
    } else {
        not_for_this_method("GET,HEAD")
    }
}

fn upgrade_required(error: &str) -> Response {
    let mut response = answer::refusal(StatusCode::UPGRADE_REQUIRED, error);
    // Of this answer it is demanded (RFC 9110, section 15.5.22).
    response.headers_mut().insert(header::UPGRADE, WEBSOCKET);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}

fn not_for_this_method(allow: &'static str) -> Response {
    let mut response = answer::method_not_allowed();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
