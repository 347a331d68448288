//! `/api/v1/signaling`: the URL at which newer jamjam clients connect. They know only the address of the server.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;
use utoipa::ToSchema;

use crate::io::http::forwarded::{forwarded_host, has_https_proxy};
use crate::io::http::{ConnectionInfo, body};
use crate::io::signaling::admin::start_page::shown_host;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::signaling::NEWER_PATH;

/// What determines the URL.
pub(super) struct Discovery {
    /// The listen address, for clients that send no valid `Host`.
    pub(super) address: SocketAddr,
    pub(super) is_tls: bool,
    /// The URL, if the operator has configured it.
    pub(super) public_url: Option<WebSocketUrl>,
}

/// Where to connect.
#[derive(Serialize, ToSchema)]
struct SignalingServer {
    /// A URL that begins with `ws://` or `wss://`.
    url: String,
}

pub(super) fn router(discovery: Discovery) -> Router {
    Router::new().route("/api/v1/signaling", get(signaling_server)).with_state(Arc::new(discovery))
}

/// Signaling URL
///
/// The host is that of the request. Clients measure their clock with the header `Date`.
#[utoipa::path(
    get, path = "/api/v1/signaling", operation_id = "signaling", tag = "jamjam",
    responses((status = 200, description = "Where newer jamjam clients connect", body = SignalingServer)),
)]
pub(super) async fn signaling_server(
    State(discovery): State<Arc<Discovery>>,
    Extension(client): Extension<ConnectionInfo>,
    headers: HeaderMap,
) -> Response {
    let url = discovery.public_url.as_ref().map_or_else(
        || {
            let forwarded = client.is_forwarded.then_some(&headers);
            let is_tls = discovery.is_tls || forwarded.is_some_and(has_https_proxy);
            let host = forwarded.and_then(forwarded_host);
            let host = host.unwrap_or_else(|| shown_host(&headers, discovery.address));
            format!("ws{}://{host}{NEWER_PATH}", if is_tls { "s" } else { "" })
        },
        ToString::to_string,
    );
    let mut response = body::json_response(StatusCode::OK, &SignalingServer { url });
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
