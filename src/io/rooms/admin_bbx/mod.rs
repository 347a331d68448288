//! What a program does with its rooms of control surfaces over HTTP: `/admin/bbx/…`. Whoever serves this asks for a login first.

pub(super) mod events;
mod fields;
mod forms;
pub(super) mod orders;
#[cfg(test)]
mod over_http;
#[cfg(test)]
mod streams;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use percent_encoding::percent_decode_str;
use thiserror::Error;

use super::switchboard::Switchboard;
use crate::io::http::answer;
use crate::rooms::Unfit;

/// The longest body but for visualizations, in bytes.
const BODY_BYTES: usize = 64 << 10;

/// The longest body of a visualization: as many numbers as it may have, however they are written.
const SHOWN_BYTES: usize = 2 << 20;

/// The routes. Nobody is asked for a login here.
pub(super) fn router(switchboard: Arc<Switchboard>) -> Router {
    Router::new()
        .route("/admin/bbx/rooms", get(orders::list).post(orders::make))
        .route("/admin/bbx/rooms/{code}", delete(orders::close))
        .route("/admin/bbx/param", post(orders::set))
        .route("/admin/bbx/params/{name}", put(orders::declare))
        .route("/admin/bbx/visualization", post(orders::show))
        .route("/admin/bbx/events", get(events::listen))
        .with_state(switchboard)
}

/// Why nothing was done.
#[derive(Debug, Error, PartialEq)]
pub(super) enum Refusal {
    #[error("The body is not JSON: {0}")]
    NotJson(String),
    #[error("The body may have at most {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Fields(String),
    #[error("{0}")]
    Unfit(#[from] Unfit),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotJson(_) => StatusCode::BAD_REQUEST,
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unfit(Unfit::NoRoom) => StatusCode::NOT_FOUND,
            Self::Unfit(Unfit::TooManyRooms(_) | Unfit::TooManyParameters) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Fields(_) | Self::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        answer::refusal(status, &self.to_string())
    }
}

/// The members of a body of at most `most` bytes.
async fn read(body: Body, most: usize) -> Result<fields::Fields, Refusal> {
    let body = to_bytes(body, most).await.map_err(|_| Refusal::TooLong(most))?;
    fields::Fields::of(&body)
}

/// The last segment of a path, percent-decoded once.
fn last_segment(uri: &Uri) -> Result<String, Refusal> {
    let segment = uri.path().rsplit('/').next().unwrap_or_default();
    let is_broken = |rest: &str| rest.len() < 2 || !rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if segment.split('%').skip(1).any(is_broken) {
        return Err(Refusal::Fields("In the path, % has to be followed by two hexadecimal digits".to_owned()));
    }
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(Into::into).map_err(|_| Refusal::Fields("The path's last part is not UTF-8 once decoded".to_owned()))
}
