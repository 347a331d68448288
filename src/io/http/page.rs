//! Pages that are in the program: a browser loads nothing for them that is not named here, and takes them for nothing else.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

/// What all pages of ours have in common; what is each page's own comes after it.
pub const HOUSE_STYLE: &str = include_str!("house.css");

/// What no page may do, whatever else it may: come from elsewhere, be framed, send forms.
const NOTHING_ELSE: &str = "default-src 'none'";
const AND_NEVER: &str = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers with `body`, of the media type `kind`. `allowed` is what it may load and whom it may ask: directives of a content
/// security policy (CSP level 3), between semicolons.
pub fn page(kind: &'static str, allowed: &str, body: impl Into<Body>) -> Response {
    let policy = format!("{NOTHING_ELSE}; {allowed}; {AND_NEVER}");
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(NOTHING_ELSE));
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let mut response = Response::new(body.into());
    response.headers_mut().extend(headers);
    response
}
