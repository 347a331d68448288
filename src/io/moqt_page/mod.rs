//! `--demo-page`: MOQT in a browser. A person types, the page says it to the echo server over WebTransport, and shows what comes
//! back and how long that took.
//!
//! The page is one file that loads nothing: its style and scripts are in it, allowed by their hashes. What it has to know of the
//! server it asks for, anew before each connection: a server that was started again has another certificate.

mod facts;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

pub use facts::{Certificate, Facts};

use crate::io::http::page::{HOUSE_STYLE, page};
use crate::io::http::{answer, here};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const WIRE: &str = include_str!("wire.js");
const SCRIPT: &str = include_str!("script.js");

/// Alone among other pages a page's clock is not made coarser than 5 µs.
const ISOLATED: [(HeaderName, HeaderValue); 2] = [
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
];

/// The page, and what it may do.
struct Demo {
    html: String,
    allowed: String,
    facts: Box<dyn Fn() -> Option<Facts> + Send + Sync>,
}

/// The page, for this machine alone. `origin` is where WebTransport is, such as `https://localhost:4443`; `facts` gives what is so
/// at that moment, unless the certificate cannot be read.
pub fn router(origin: &str, facts: impl Fn() -> Option<Facts> + Send + Sync + 'static) -> Router {
    // An address of IPv6 has no form in a content security policy.
    let place = if origin.contains('[') { "https:" } else { origin };
    let look = [HOUSE_STYLE, STYLE].concat();
    let [style, wire, script] = [&look, WIRE, SCRIPT].map(|text| STANDARD.encode(Sha256::digest(text)));
    let allowed = format!(
        "script-src 'sha256-{wire}' 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:; connect-src 'self' {place}"
    );
    let html = PAGE.replace("{style}", &look).replace("{wire}", WIRE).replace("{script}", SCRIPT);
    let demo = Demo { html, allowed, facts: Box::new(facts) };
    let routes = Router::new().route("/", get(home)).route("/facts", get(told)).with_state(Arc::new(demo));
    let routes = routes.method_not_allowed_fallback(async || answer::method_not_allowed());
    here::alone(routes.fallback(async || answer::not_found()))
}

async fn home(State(demo): State<Arc<Demo>>) -> Response {
    fresh(page("text/html; charset=utf-8", &demo.allowed, demo.html.clone()))
}

async fn told(State(demo): State<Arc<Demo>>) -> Response {
    match (demo.facts)() {
        Some(facts) => fresh(answer::json(StatusCode::OK, &facts)),
        None => answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, "The server's certificate cannot be read"),
    }
}

/// What another run of the server tells is another thing.
fn fresh(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().extend(ISOLATED);
    response
}
