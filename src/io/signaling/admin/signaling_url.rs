//! `/api/v1/signaling`: the URL at which newer jamjam clients connect, which know only the address of the server.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::io::http::body;
use crate::io::http::forwarded::{has_https_proxy, requested_host};
use crate::io::reachable::reachable_addresses;
use crate::io::signaling::http_state::{Client, SharedState};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::signaling::NEWER_PATH;

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
pub(super) async fn signaling_server(
    State(state): SharedState,
    Extension(client): Client,
    headers: HeaderMap,
) -> Response {
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
