//! How a phone opens the control surface example: the address of this server in its network, and a QR code, for the operator.

use std::net::IpAddr;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use form_urlencoded::parse;
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Serialize;
use utoipa::ToSchema;

use crate::io::http::body::{self, page_response};
use crate::io::reachable::network_address;
use crate::io::signaling::http_state::SharedState;

/// Minimum width of a QR code, in pixels.
const QR_PIXELS: u32 = 240;

/// QR code of a URL
#[utoipa::path(
    get, path = "/examples/qr.svg", operation_id = "exampleQr", tags = ["examples", "control surfaces"], security(("login" = [])),
    params(("url" = String, Query, description = "URL, such as that of `/examples/control-surface?room=CODE` on this server")),
    responses(
        (status = 200, description = "An image", content_type = "image/svg+xml", body = String),
        (status = 400, description = "The URL is missing or too long"),
    ),
)]
pub(super) async fn example_qr(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let url = parse(query.as_bytes()).find(|(name, _)| name == "url");
    let Some(code) = url.and_then(|(_, url)| QrCode::new(&*url).ok()) else {
        return body::error_response(StatusCode::BAD_REQUEST, "The URL is missing or too long for a QR code");
    };
    let image = code.render::<svg::Color<'_>>().min_dimensions(QR_PIXELS, QR_PIXELS).build();
    page_response("image/svg+xml", image)
}

/// The address of the server in its network.
#[derive(Serialize, ToSchema)]
pub(super) struct NetworkAddressResponse {
    /// Null if the server accepts connections from this machine only.
    #[schema(value_type = Option<String>, example = "192.168.1.5")]
    address: Option<IpAddr>,
    /// The port on which the server listens. For clients behind a forwarded port or a proxy, the port may differ.
    #[schema(example = 8080)]
    port: u16,
}

/// Network address of the server
#[utoipa::path(
    get, path = "/examples/address", operation_id = "exampleAddress", tags = ["examples", "control surfaces"], security(("login" = [])),
    responses((status = 200, description = "The address and the port at which phones in the same network reach the server", body = NetworkAddressResponse)),
)]
pub(super) async fn example_address(State(state): SharedState) -> Response {
    let (address, port) = (network_address(state.address), state.address.port());
    body::json_response(StatusCode::OK, &NetworkAddressResponse { address, port })
}
