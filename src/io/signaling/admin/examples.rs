//! How a phone opens the control surface example: a QR code, for the operator.

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use form_urlencoded::parse;
use qrcode::QrCode;
use qrcode::render::svg;

use crate::io::http::body::{self, page_response};

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
