//! HTTP routes in addition to the WebSocket: public pages, pages behind the login, and the URL at which newer jamjam
//! clients connect, which know only the address of the server.

mod asyncapi;
mod console;
mod control_surface_api;
mod health;
pub(super) mod metrics;
mod openapi;
mod pages;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::io::http::forwarded::{has_https_proxy, requested_host};
use crate::io::http::{self, body, login};
use crate::io::reachable::reachable_addresses;
use crate::io::signaling::broadcast_http;
use crate::io::signaling::http_state::{Client, HttpState, SharedState};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::signaling::{Dialect, NEWER_PATH};

/// All routes.
pub(super) fn router(state: &Arc<HttpState>) -> Router {
    let [open, protected] = routes(state).map(Router::from);
    let open = open.layer(from_fn_with_state(Arc::clone(state), require_allowed_origin));
    open.merge(login::require_login(protected, &state.config.login))
}

/// The routes that are open, and those that require the login and reject requests from pages of other sites, with their descriptions.
fn routes(state: &Arc<HttpState>) -> [OpenApiRouter; 2] {
    let dialects = &state.hub.limits().dialects;
    let mut open = pages::routes(pages::OPEN)
        .route("/static/{file}", get(pages::swagger_ui_file))
        .route("/readyz", get(http::serve_healthz))
        .routes(routes!(http::serve_healthz))
        .routes(routes!(asyncapi::asyncapi_json))
        .routes(routes!(health::health).map(|health| health.options(body::preflight)))
        .routes(routes!(health::rooms).map(|rooms| rooms.options(body::preflight)));
    let mut protected = pages::routes(pages::LOGIN)
        .route("/docs/swagger.json", get(openapi::openapi_json))
        .routes(routes!(openapi::openapi_json))
        .routes(routes!(health::shut_down))
        .routes(routes!(console::links, console::change_links))
        .routes(routes!(console::console_state))
        .routes(routes!(console::disconnect))
        .routes(routes!(console::close_room));
    if dialects.contains(&Dialect::Jamjam) {
        open = open.routes(routes!(signaling_server));
    }
    if dialects.contains(&Dialect::ControlSurface) {
        protected = protected
            .routes(routes!(control_surface_api::example_qr))
            .routes(routes!(control_surface_api::list_rooms, control_surface_api::create_room))
            .routes(routes!(control_surface_api::close_room))
            .routes(routes!(control_surface_api::set_param))
            .routes(routes!(control_surface_api::declare_range))
            .routes(routes!(control_surface_api::broadcast_visualization))
            .routes(routes!(control_surface_api::event_stream));
    }
    let [mut open, mut protected] = [open, protected].map(|routes| routes.with_state(Arc::clone(state)));
    let metrics = http::metrics_router(metrics::registry(state));
    // On loopback without a proxy only local users can connect, so metrics need no login.
    if state.address.ip().to_canonical().is_loopback() && state.config.connection_limits.trusted_proxies.is_none() {
        open = open.merge(metrics);
    } else {
        protected = protected.merge(metrics);
    }
    if dialects.contains(&Dialect::Broadcast) || dialects.contains(&Dialect::WebRtc) {
        open = open.merge(broadcast_http::router(state));
    }
    [open, protected]
}

/// Rejects requests of pages whose origin is not allowed. Routes behind the login are stricter: see [`login`].
async fn require_allowed_origin(State(state): SharedState, request: Request, next: Next) -> Response {
    if state.allows_origin(request.headers()) {
        return next.run(request).await;
    }
    body::error_response(StatusCode::FORBIDDEN, "Origin not allowed (allowed origins: the server's --origin)")
}

/// Where to connect.
#[derive(Serialize, ToSchema)]
struct SignalingServer {
    /// A URL that begins with `ws://` or `wss://`.
    url: String,
}

/// Signaling URL
///
/// The host is that of the request. Clients measure their clock with the header `Date`.
#[utoipa::path(
    get, path = "/api/v1/signaling", operation_id = "signaling", tag = "jamjam",
    responses((status = 200, description = "Where newer jamjam clients connect", body = SignalingServer)),
)]
async fn signaling_server(State(state): SharedState, Extension(client): Client, headers: HeaderMap) -> Response {
    let url = state.config.public_url.as_ref().map_or_else(
        || {
            let is_tls = state.config.tls.is_some() || client.is_forwarded && has_https_proxy(&headers);
            // A request of HTTP/1.0 may name no host.
            let address = || reachable_addresses(state.address).first().copied().unwrap_or(state.address).to_string();
            let host = requested_host(&headers, client.is_forwarded).map_or_else(address, str::to_owned);
            format!("ws{}://{host}{NEWER_PATH}", if is_tls { "s" } else { "" })
        },
        WebSocketUrl::with_query,
    );
    body::no_store(body::json_response(StatusCode::OK, &SignalingServer { url }))
}
