//! Requests that are refused: what they are answered, and what the log says of them.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use serde::Serialize;
use tracing::warn;

use super::Desk;
use crate::io::http::{Client, answer};
use crate::rooms::harmless::harmless;

/// A request that is refused.
pub(super) struct Refused {
    response: Box<Response>,
    /// Why, without a word that came with it.
    why: &'static str,
}

impl Refused {
    /// With this status and error, which is also what the log says.
    pub(super) fn new(status: StatusCode, error: &'static str) -> Self {
        Self::because(error, answer::refusal(status, error))
    }

    /// With this answer.
    pub(super) fn because(why: &'static str, response: Response) -> Self {
        Self { response: Box::new(response), why }
    }

    /// With this status and body.
    pub(super) fn with_body(why: &'static str, status: StatusCode, body: &impl Serialize) -> Self {
        Self::because(why, answer::json(status, body))
    }

    /// Whoever asks has to show who they are, or something better.
    pub(super) fn unauthorised(why: &'static str, error: &str) -> Self {
        let mut response = answer::refusal(StatusCode::UNAUTHORIZED, error);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Self::because(why, response)
    }

    /// Whoever asks has asked too often.
    pub(super) fn too_many(error: &'static str, wait: Duration) -> Self {
        Self::because(error, answer::too_many(error, wait))
    }

    /// The answer, once it is counted and, now and then, complained about. Of the address the path only: there may be a token in
    /// the query.
    pub(super) fn told(self, desk: &Desk, client: &Client, uri: &Uri) -> Response {
        desk.switchboard.ask(|_, hub, _| hub.refused_request());
        if desk.complaints.may() {
            let (path, status) = (harmless(uri.path()), self.response.status().as_u16());
            warn!("Refused a request at {path} to {}: {} ({status})", client.from, self.why);
        }
        *self.response
    }
}
