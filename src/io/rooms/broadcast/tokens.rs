//! `POST /auth/token`: a token for whoever may have one.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::body::read;
use super::refused::Refused;
use super::{Desk, bearer, counted, to_any_site};
use crate::io::http::{Client, answer};
use crate::rooms::broadcast::can_be_room;
use crate::rooms::broadcast::token::VALID;

/// The longest id that a token is made for, in bytes: everybody in the room is told it with each message.
const LONGEST_ID: usize = 256;

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
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let issued = issued(&desk, &client, &headers, body).await;
    to_any_site(issued.unwrap_or_else(|refusal| refusal.told(&desk, &client, &uri)))
}

async fn issued(desk: &Desk, client: &Client, headers: &HeaderMap, body: Body) -> Result<Response, Refused> {
    counted(&desk.tokens, client.from.ip())?;
    if let Some(key) = &desk.told.issuer_key
        && bearer(headers).is_none_or(|given| !given.is(key))
    {
        let error = "The token issuer key is required";
        return Err(Refused::unauthorised(error, error));
    }
    let body = read(headers, body, desk.told.post_bytes).await?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| invalid("Invalid request: the body is not JSON"))?;
    let text = |name| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(client_id), Some(room)) = (text("clientId"), text("room")) else { return Err(incomplete()) };
    if client_id.len() > LONGEST_ID {
        return Err(invalid("Invalid request: clientId must be at most 256 bytes"));
    }
    // A room that nobody can be in: most likely a mistake of whoever asks.
    if !can_be_room(room) {
        return Err(invalid(
            "Invalid request: room must be at most 128 bytes without / and control characters, and no reserved name",
        ));
    }
    let seconds = match body.get("expiresIn") {
        None | Some(Value::Null) => Some(VALID),
        Some(value) => value.as_f64().filter(|seconds| *seconds > 0.0),
    };
    let seconds = seconds.ok_or_else(|| invalid("Invalid request: expiresIn must be a number of seconds above 0"))?;
    let metadata = match body.get("metadata") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(members)) => members.clone(),
        Some(_) => return Err(invalid("Invalid request: metadata must be an object")),
    };
    let (token, expires_at) = desk
        .switchboard
        .ask(|now, hub, _| hub.issue(now, client_id, room, metadata, seconds))
        .ok_or_else(|| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "This server has no secret to sign with"))?;
    Ok(answer::json(StatusCode::OK, &Issued { token, expires_at, client_id, room }))
}

fn invalid(error: &'static str) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, error)
}

fn incomplete() -> Refused {
    let example = json!({"clientId": "client-001", "room": "radio", "expiresIn": 3_600});
    let error = "clientId and room are required";
    Refused::with_body(error, StatusCode::BAD_REQUEST, &json!({"error": error, "example": example}))
}
