//! The HTTP side of broadcast rooms: tokens, content for rooms, and what rooms answer themselves.

mod body;
pub(super) mod posts;
mod refused;
pub(super) mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, post};

use self::refused::Refused;
use super::switchboard::Switchboard;
use crate::io::complaints::Complaints;
use crate::io::http::rate::{Rate, Rates};
use crate::rooms::broadcast::Given;
use crate::rooms::broadcast::token::Secret;

/// The longest body of a request unless told otherwise, in bytes.
pub const POST_BYTES: usize = 256 << 10;

/// What the HTTP side of broadcast rooms is told.
#[derive(Clone, Debug)]
pub struct BroadcastHttp {
    /// What has to be shown to be given a token; without it everybody is given one.
    pub issuer_key: Option<Secret>,
    /// Tokens that one address may ask for.
    pub token_rate: Option<Rate>,
    /// Posts of one address.
    pub post_rate: Option<Rate>,
    /// The longest body, in bytes.
    pub post_bytes: usize,
}

impl Default for BroadcastHttp {
    /// Ten tokens in 15 minutes and 30 posts a minute; 256 KiB.
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            issuer_key: None,
            token_rate: Some(Rate { most: 10, per: minutes(15) }),
            post_rate: Some(Rate { most: 30, per: minutes(1) }),
            post_bytes: POST_BYTES,
        }
    }
}

/// What every request is answered with.
pub(in crate::io::rooms) struct Desk {
    switchboard: Arc<Switchboard>,
    told: BroadcastHttp,
    tokens: Rates,
    posts: Rates,
    complaints: Complaints,
}

/// The routes of broadcast rooms.
pub(super) fn router(switchboard: Arc<Switchboard>, told: BroadcastHttp) -> Router {
    let (tokens, posts) = (Rates::new(told.token_rate), Rates::new(told.post_rate));
    let desk = Arc::new(Desk { switchboard, told, tokens, posts, complaints: Complaints::default() });
    Router::new()
        .route("/auth/token", post(tokens::issue).options(preflight))
        .route("/{room}/postcontent", post(posts::free).options(preflight))
        .route("/rooms/{room}/post", post(posts::typed).options(preflight))
        .route("/rooms/{room}/{*rest}", any(posts::own))
        .with_state(desk)
}

/// What a browser asks before a script may ask.
async fn preflight() -> Response {
    let mut response = to_any_site(Response::new(Body::empty()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, Authorization"));
    response
}

fn to_any_site(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// What the `Authorization` header shows.
fn bearer(headers: &HeaderMap) -> Option<Given> {
    Given::bearer(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

/// Counts a request; the answer if there were too many.
fn counted(rates: &Rates, from: IpAddr) -> Result<(), Refused> {
    rates
        .take(from, Instant::now())
        .map_err(|wait| Refused::too_many("Too many requests, please try again later", wait))
}
