//! What a request meets first: a WebSocket upgrade is let in or sent away by its path, everything else is plain HTTP.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use tracing::warn;

use super::connection;
use super::switchboard::Switchboard;
use super::upgrade::{self, Refusal};
use crate::io::complaints::Complaints;
use crate::io::http::{Client, answer};
use crate::rooms::harmless::harmless;
use crate::rooms::{self, Dialects, Limits, Route};

/// The one version of the protocol (RFC 6455, section 4.1).
const VERSION: HeaderValue = HeaderValue::from_static("13");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

#[derive(Clone)]
struct Door {
    switchboard: Arc<Switchboard>,
    limits: Arc<Limits>,
    complaints: Arc<Complaints>,
}

impl Door {
    /// Tells a developer what their client did wrong. Of the address the path only: there may be a token in the query.
    fn complain(&self, from: SocketAddr, uri: &Uri, why: &dyn Display) {
        if self.complaints.may() {
            warn!("Refused a WebSocket at {} to {from}: {why}", harmless(uri.path()));
        }
    }
}

/// Puts the door before `plain`, which answers what asks for no WebSocket.
pub(super) fn router(plain: Router, switchboard: Arc<Switchboard>, limits: Arc<Limits>) -> Router {
    let dialects = limits.dialects;
    plain
        .method_not_allowed_fallback(async || answer::method_not_allowed())
        .fallback(move |method: Method, uri: Uri| async move { elsewhere(&method, &uri, dialects) })
        .layer(from_fn_with_state(Door { switchboard, limits, complaints: Arc::default() }, enter))
}

/// Lets those in who ask for a dialect's WebSocket. An upgrade to anything else, such as HTTP/2, may be ignored
/// (RFC 9110, section 7.8).
async fn enter(
    State(door): State<Door>,
    Extension(client): Extension<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    if !upgrade::is_asked(request.headers()) {
        return next.run(request).await;
    }
    let uri = request.uri();
    let header = |name| request.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let route = match rooms::route(uri.path(), uri.query().unwrap_or_default(), door.limits.dialects) {
        Ok(_) if !door.limits.welcomes(header(header::ORIGIN)) => Route::Unwelcome,
        Ok(Route::Broadcast(asked)) => {
            let asked = asked.or_shown(header(header::AUTHORIZATION));
            let all = request.headers().iter();
            Route::Broadcast(asked.showing(all.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))))
        }
        Ok(route) => route,
        Err(refusal) => {
            door.complain(client.from, uri, &refusal);
            return answer::not_found();
        }
    };
    if !client.place.is_for(client.from.ip()) {
        return answer::too_many("Too many connections", Duration::ZERO);
    }
    let (from, uri, complaining) = (client.from, uri.clone(), door.clone());
    let serve = async move |io| {
        let line = door.switchboard.connect(client.from.ip().to_canonical(), route);
        // Pings and fragments, which the hub does not see, have the rate of messages.
        connection::serve(io, &line, &door.switchboard, door.limits.rate).await;
        // The place is free when the connection has ended.
        drop(client.place);
    };
    upgrade::accept(&mut request, serve).unwrap_or_else(|refusal| {
        complaining.complain(from, &uri, &refusal);
        malformed(refusal)
    })
}

/// An upgrade that is not as RFC 6455, section 4.2.1, wants it.
fn malformed(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Method => not_for_this_method("GET"),
        Refusal::Version => {
            let mut response = upgrade_required(&refusal.to_string());
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, VERSION);
            response
        }
        Refusal::Http => upgrade_required(&refusal.to_string()),
        Refusal::Choice | Refusal::Connection | Refusal::Key => {
            answer::refusal(StatusCode::BAD_REQUEST, &refusal.to_string())
        }
    }
}

/// Plain HTTP where no page is.
fn elsewhere(method: &Method, uri: &Uri, dialects: Dialects) -> Response {
    if rooms::route(uri.path(), uri.query().unwrap_or_default(), dialects).is_err() {
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
