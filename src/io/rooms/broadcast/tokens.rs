//! `POST /auth/token`: a token for whoever may have one.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Desk, bearer, counted, read, to_any_site, unauthorised};
use crate::io::http::{Client, answer};
use crate::rooms::broadcast::room_name;
use crate::rooms::broadcast::token::VALID;

/// Who wants a token for what.
#[expect(dead_code, reason = "it describes what is read member by member, to say what is missing")]
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct TokenRequest {
    #[schema(example = "client-001")]
    client_id: String,
    #[schema(example = "radio")]
    room: String,
    /// Seconds, a year at most.
    #[schema(default = 3600, exclusive_minimum = 0)]
    expires_in: Option<f64>,
    /// For the room.
    #[schema(value_type = Option<Object>)]
    metadata: (),
}

/// A token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Issued<'a> {
    token: String,
    /// Milliseconds since 1970.
    expires_at: u64,
    client_id: &'a str,
    room: &'a str,
}

/// A token for a room
#[utoipa::path(
    post, path = "/auth/token", operation_id = "issueToken", tag = "broadcast", security((), ("issuer" = [])), request_body = TokenRequest,
    responses(
        (status = 200, description = "It opens the room until it expires", body = Issued),
        (status = 400, description = "Something is missing, or no JSON"),
        (status = 401, description = "The server gives tokens to those alone who have the key"),
        (status = 413, description = "The body is longer than --post-max"),
        (status = 429, description = "--rate-limit-token"),
        (status = 503, description = "The server has no secret to sign with"),
    ),
)]
pub(in crate::io::rooms) async fn issue(
    State(desk): State<Arc<Desk>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    to_any_site(issued(&desk, &client, &headers, body).await.unwrap_or_else(|refusal| refusal))
}

async fn issued(desk: &Desk, client: &Client, headers: &HeaderMap, body: Body) -> Result<Response, Response> {
    counted(&desk.tokens, client.from.ip()).map_err(|refusal| *refusal)?;
    if let Some(key) = &desk.told.issuer_key
        && bearer(headers).is_none_or(|given| !given.is(key))
    {
        return Err(unauthorised("The token issuer key is required"));
    }
    let body = read(body, desk.told.post_bytes).await?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| invalid("the body is not JSON"))?;
    let text = |name| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(client_id), Some(room)) = (text("clientId"), text("room")) else { return Err(incomplete()) };
    // A room that nobody can be in: most likely a mistake of whoever asks.
    if room.contains('%') { Ok(room.to_owned()) } else { room_name(room) }.map_err(|_| {
        invalid("room must be at most 128 bytes without / and control characters, and no reserved name")
    })?;
    let seconds = match body.get("expiresIn") {
        None | Some(Value::Null) => Some(VALID),
        Some(value) => value.as_f64().filter(|seconds| *seconds > 0.0),
    };
    let seconds = seconds.ok_or_else(|| invalid("expiresIn must be a number of seconds above 0"))?;
    let metadata = match body.get("metadata") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(members)) => members.clone(),
        Some(_) => return Err(invalid("metadata must be an object")),
    };
    let (token, expires_at) = desk
        .switchboard
        .ask(|now, hub, _| hub.issue(now, client_id, room, metadata, seconds))
        .ok_or_else(|| answer::refusal(StatusCode::SERVICE_UNAVAILABLE, "This server has no secret to sign with"))?;
    Ok(answer::json(StatusCode::OK, &Issued { token, expires_at, client_id, room }))
}

fn invalid(why: &str) -> Response {
    answer::refusal(StatusCode::BAD_REQUEST, &format!("Invalid request: {why}"))
}

fn incomplete() -> Response {
    let example = json!({"clientId": "client-001", "room": "radio", "expiresIn": 3_600});
    let body = json!({"error": "clientId and room are required", "example": example});
    answer::json(StatusCode::BAD_REQUEST, &body)
}
