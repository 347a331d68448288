//! `--demo-page`: a page that sends typed text to the echo server over WebTransport. The page shows replies and RTT. The page is one
//! document without external resources. A content security policy allows the page's style and scripts by hash. A restarted server may have
//! a new certificate. Therefore, the page requests the server information before each connection.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{Decode, Error};
use x509_cert::spki::ObjectIdentifier;

use crate::io::http::body::{PAGE_STYLE, page_response};
use crate::io::http::{body, csrf};
use crate::io::tls::Fingerprint;

const PAGE_HTML: &str = include_str!("page.html");
const DEMO_CSS: &str = include_str!("style.css");
const MOQT_JS: &str = include_str!("moqt.js");
const PAGE_JS: &str = include_str!("page.js");

/// Cross-origin isolation raises the clock resolution of the page to 5 µs.
const CROSS_ORIGIN_ISOLATION: [(HeaderName, HeaderValue); 2] = [
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
];

/// OIDs of elliptic-curve keys and of P-256 (RFC 5480, section 2.1.1).
const EC_PUBLIC_KEY_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// Server information for the page, sent as JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Origin of the WebTransport URL, such as `https://localhost:4443`.
    pub origin: String,
    /// Served path.
    pub path: String,
    /// Prefix of the announcements that the server requests.
    pub prefix: Vec<String>,
    /// Delay of each frame in milliseconds.
    pub delay_ms: f64,
    /// The current certificate.
    #[serde(flatten)]
    pub certificate: CertificateInfo,
}

/// Certificate properties that a browser checks for `serverCertificateHashes`. The key must be ECDSA P-256, and the
/// lifetime at most 14 days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    /// SHA-256 of the certificate in hexadecimal digits.
    pub sha256: String,
    /// Whether the certificate's key is ECDSA P-256.
    pub is_p256: bool,
    /// Start of validity, in milliseconds since the Unix epoch.
    pub not_before_ms: u64,
    /// End of validity, in milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

impl CertificateInfo {
    /// Reads a DER certificate.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = CertificateInner::<Raw>::from_der(der)?;
        let parsed = parsed.tbs_certificate();
        let key = &parsed.subject_public_key_info().algorithm;
        let curve = key.parameters.as_ref().and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let validity = parsed.validity();
        let [not_before_ms, not_after_ms] =
            [validity.not_before, validity.not_after].map(|time| time.to_unix_duration().as_secs() * 1_000);
        Ok(Self {
            sha256: Fingerprint::from_certificate(der).to_string(),
            is_p256: key.oid == EC_PUBLIC_KEY_OID && curve == Some(P256_OID),
            not_before_ms,
            not_after_ms,
        })
    }
}

/// The page with its content security policy.
struct DemoPage {
    html: String,
    csp: String,
    server_info: Box<dyn Fn() -> Option<ServerInfo> + Send + Sync>,
}

/// Routes of the page, restricted to loopback host names. `origin` is the WebTransport origin, such as
/// `https://localhost:4443`. `server_info` returns the current information, or `None` if the certificate cannot be
/// read.
pub fn router(origin: &str, server_info: impl Fn() -> Option<ServerInfo> + Send + Sync + 'static) -> Router {
    // A content security policy cannot contain an IPv6 address.
    let connect_source = if origin.contains('[') { "https:" } else { origin };
    let css = [PAGE_STYLE, DEMO_CSS].concat();
    let [style, moqt_js, page_js] = [&css, MOQT_JS, PAGE_JS].map(|text| STANDARD.encode(Sha256::digest(text)));
    let csp = format!(
        "script-src 'sha256-{moqt_js}' 'sha256-{page_js}'; style-src 'sha256-{style}'; img-src data:; connect-src 'self' {connect_source}"
    );
    let html = PAGE_HTML.replace("{style}", &css).replace("{moqt_js}", MOQT_JS).replace("{page_js}", PAGE_JS);
    let demo = DemoPage { html, csp, server_info: Box::new(server_info) };
    let routes =
        Router::new().route("/", get(get_page)).route("/server-info", get(get_server_info)).with_state(Arc::new(demo));
    let routes = routes.method_not_allowed_fallback(async || body::method_not_allowed());
    csrf::require_loopback_host(routes.fallback(async || body::not_found()))
}

async fn get_page(State(demo): State<Arc<DemoPage>>) -> Response {
    uncached(page_response("text/html; charset=utf-8", &demo.csp, demo.html.clone()))
}

async fn get_server_info(State(demo): State<Arc<DemoPage>>) -> Response {
    match (demo.server_info)() {
        Some(server_info) => uncached(body::json_response(StatusCode::OK, &server_info)),
        None => body::error_response(StatusCode::INTERNAL_SERVER_ERROR, "Cannot read the server certificate"),
    }
}

/// Disables caching, because the content differs between runs of the server. Adds the headers for cross-origin isolation.
fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().extend(CROSS_ORIGIN_ISOLATION);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 10`. The expected values are from
    /// `openssl x509 -fingerprint -sha256 -dates`.
    const P256_CERT: &str = "MIIBbTCCAROgAwIBAgIUTv/bpJUWjJycg8+FCfAe0Mt8MIowCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAeFw0yNjExMjAxOTM5\
        NDlaFw0yNjExMzAxOTM5NDlaMAwxCjAIBgNVBAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQmb+bvJb9PRu8vmInxqMq5\
        QF6yD7kLAYP10tJUdRzBpMr+lI6XvzGOMQxMasCwS2ghtFbJh9/B5CWJ3PcKe66uo1MwUTAdBgNVHQ4EFgQUv15lqJdkYI+Sm/Af\
        GfV47HrXZbgwHwYDVR0jBBgwFoAUv15lqJdkYI+Sm/AfGfV47HrXZbgwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBF\
        AiEA4WPBQyuiEM7n+sK1L3+jurcvgY6fYG0B+yrb1MsjwdkCIF0Fo9WqCQaUdifkApvYU1LEyfTTa5G3AG9sCwO0akDN";
    /// A certificate like `P256_CERT`, but with a P-384 key.
    const P384_CERT: &str = "MIIBqjCCATCgAwIBAgIUPuHHAO6sPDiztxqGUzfK47nHz4UwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAeFw0yNjExMjAxOTM5\
        NDlaFw0yNjExMzAxOTM5NDlaMAwxCjAIBgNVBAMMAWEwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAASPovOcrcyh6pjBguTQrEArMBLd\
        rtMOwuxbgjRWC2pYPJCcoggKfusFxN3SU2doVM2GY3IV2pkk61m+t4gCqe+kdfMKO8UvDg0eXJ/fNJcsdRjh8HycRRJvsGDWCJh9\
        wl+jUzBRMB0GA1UdDgQWBBRT+FTytgbXeJ0up2kkoLEGgA2CozAfBgNVHSMEGDAWgBRT+FTytgbXeJ0up2kkoLEGgA2CozAPBgNV\
        HRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA2gAMGUCMQDNPP0zcymKr2DJZCbMMX24eliWEVNtzqz+pj5kZpbY+mhoRt6sHOyS7y8f\
        94rOh7MCMHYgFDDmvMBtnIX4WsbsS3PDmDcHmaO3vaOVhRXODf28YVVBnHelSIJxCXvLIK9v7w==";

    fn certificate_info(text: &str) -> Result<CertificateInfo, Error> {
        CertificateInfo::from_der(&STANDARD.decode(text).expect("base64").into())
    }

    #[test]
    fn certificate_info_matches_openssl() {
        let expected = CertificateInfo {
            sha256: "a08c9d5463a0a770ace9ec38e58c6a91e650d0f567499886a6fff794c2053d5d".to_owned(),
            is_p256: true,
            // Nov 20 19:39:49 2026 GMT and ten days later.
            not_before_ms: 1_795_203_589_000,
            not_after_ms: 1_796_067_589_000,
        };
        assert_eq!(certificate_info(P256_CERT), Ok(expected));
        let other = certificate_info(P384_CERT).expect("a certificate");
        assert_eq!(&other.sha256[..8], "3aed9a32");
        assert!(!other.is_p256);
        assert!(certificate_info("AAAA").is_err());
    }
}
