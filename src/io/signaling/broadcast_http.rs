//! HTTP endpoints of broadcast rooms: posts, the routes of room handlers, and tokens, which WebRTC rooms share.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::any;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::io::clock;
use crate::io::http::ConnectionInfo;
use crate::io::http::body::{self, LogReason, RequestError};
use crate::io::http::request_body::{parse_json, read_body};
pub use crate::io::signaling::http_state::BroadcastHttpConfig;
use crate::io::signaling::http_state::{Client, HttpState, SharedState, check_rate};
use crate::sanitize::sanitize;
use crate::signaling::token::{Audience, Claims, DEFAULT_LIFETIME_SECONDS, sign, verify};
use crate::signaling::{
    AcceptedPost, BearerToken, Dialect, MAX_WEBRTC_ROOM_BYTES, PostError, PostFormat, decode_room_name,
    is_valid_room_name,
};

/// Maximum size of a request body, in bytes. Larger content is sent over WebSocket.
pub const MAX_POST_BYTES: usize = 256 << 10;

/// The routes of broadcast rooms. Without broadcast rooms, only `/auth/token`.
pub(super) fn router(state: &Arc<HttpState>) -> OpenApiRouter {
    let has_broadcast_rooms = state.hub.limits().dialects.contains(&Dialect::Broadcast);
    let mut routes = OpenApiRouter::new().routes(routes!(issue_token).map(|token| token.options(body::preflight)));
    if has_broadcast_rooms {
        routes = routes
            .routes(routes!(post_content).map(|post| post.options(body::preflight)))
            .routes(routes!(post_typed).map(|post| post.options(body::preflight)));
    }
    routes = routes.layer(map_response(async |response| body::allow_any_origin(response)));
    if has_broadcast_rooms {
        routes = routes.routes(routes!(room_route).map(|_| any(room_route)));
    }
    routes.layer(from_fn_with_state(Arc::clone(state), log_rejection)).with_state(Arc::clone(state))
}

/// Counts and logs a rejected request. The log shows only the path: the query may contain a token.
async fn log_rejection(State(state): SharedState, Extension(client): Client, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let response = next.run(request).await;
    if let Some(LogReason(reason)) = response.extensions().get() {
        let limits = [StatusCode::TOO_MANY_REQUESTS, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::SERVICE_UNAVAILABLE];
        let is_limited = limits.contains(&response.status());
        let dialect = (uri.path() != "/auth/token").then_some(Dialect::Broadcast);
        state.hub.count_rejected_request(dialect, is_limited);
        if state.rejection_log_throttle.allow() {
            let (path, status) = (sanitize(uri.path()), response.status().as_u16());
            warn!(target: "http", path, source = %client.source, status, reason, "request rejected");
        }
    }
    response
}

/// The token in the `Authorization` header.
fn bearer_token(headers: &HeaderMap) -> Option<BearerToken> {
    BearerToken::from_authorization(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

const TOO_MANY_TOKENS: &str =
    "Too many token requests from this address; try again later (limit: the server's RATE_LIMIT_TOKEN)";
const TOO_MANY_POSTS: &str = "Too many posts from this address; try again later (limit: the server's RATE_LIMIT_POST)";

/// The response to an accepted post.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PostResponse {
    success: bool,
    /// Number of members that receive the post.
    client_count: usize,
    /// Delay of the post in milliseconds. `/{room}/postcontent` omits this field if there is no delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
}

/// The response to an accepted post with a `type` field.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TypedPostResponse {
    #[serde(flatten)]
    post: PostResponse,
    status: &'static str,
    room: String,
    /// Delivery time of the post, in milliseconds since the Unix epoch.
    scheduled_at: u64,
    /// The message that members receive.
    #[schema(value_type = Option<Object>)]
    echo: Option<Box<RawValue>>,
}

/// Post a message to a room
#[utoipa::path(
    post, path = "/{room}/postcontent", operation_id = "postContent", tag = "broadcast", security(("room" = [])), request_body = Object,
    params(("room" = String, Path, description = "Room name")),
    responses(
        (status = 200, description = "The message was relayed to the room, or is waiting until its delay ends", body = PostResponse),
        (status = 401, description = "The token is missing, invalid or for another room"),
        (status = 404, description = "Invalid room name"),
        (status = 422, description = "The body is not an object, or the room handler rejects the message"),
        (status = 429, description = "The rate limit or the limit on delayed messages is reached"),
        (status = 500, description = "The room handler has failed"),
    ),
)]
pub(super) async fn post_content(
    State(state): SharedState,
    Extension(client): Client,
    request: Request,
) -> Result<Response, RequestError> {
    accept_post(&state, &client, PostFormat::Object, request).await
}

/// Post a message with a `type` field to a room
///
/// The body is `{"type":"x","timestamp":"2026-01-01T00:00:00Z","data":{}}`, where the type is any text that is not empty, the timestamp is in
/// ISO 8601 format, and the data any object.
#[utoipa::path(
    post, path = "/rooms/{room}/post", operation_id = "postTyped", tag = "broadcast", security(("room" = [])), request_body = Object,
    params(("room" = String, Path, description = "Room name")),
    responses(
        (status = 202, description = "The message is queued for delivery", body = TypedPostResponse),
        (status = 401, description = "The token is missing, invalid or for another room"),
        (status = 404, description = "Invalid room name"),
        (status = 422, description = "Some fields are invalid (listed in `details`), or the room handler rejects the message"),
        (status = 429, description = "The rate limit or the limit on delayed messages is reached"),
        (status = 500, description = "The room handler has failed"),
    ),
)]
pub(super) async fn post_typed(
    State(state): SharedState,
    Extension(client): Client,
    request: Request,
) -> Result<Response, RequestError> {
    accept_post(&state, &client, PostFormat::Typed, request).await
}

async fn accept_post(
    state: &HttpState,
    client: &ConnectionInfo,
    format: PostFormat,
    request: Request,
) -> Result<Response, RequestError> {
    let segment = request.uri().path().split('/').nth(if format == PostFormat::Object { 1 } else { 2 });
    let room = decode_room_name(segment.unwrap_or_default())
        .ok_or_else(|| RequestError::new(StatusCode::NOT_FOUND, "Not found").with_reason("invalid room name"))?;
    check_rate(&state.post_limiter, client.source.ip())
        .map_err(|wait| RequestError::too_many_requests(TOO_MANY_POSTS, wait))?;
    let missing = "Authentication required";
    let token = bearer_token(request.headers()).ok_or_else(|| unauthorized(missing, missing))?;
    verify(state.hub.limits().broadcast.secret.as_ref(), token.as_str(), &room, clock::unix_ms())
        .map_err(|reason| unauthorized(reason, "Invalid or expired token"))?;
    let request = read_body(request, MAX_POST_BYTES).await?;
    let (source, post) = (client.source.ip(), (format, &**request.body()));
    // Without this, the connection handles many pipelined posts before other tasks get their turn.
    tokio::task::yield_now().await;
    let now = clock::now();
    let posted = state.hub.post_to_room(now, (source, client.permit.memory()), &room, post);
    let AcceptedPost { recipients, delay, message } = posted?;
    let delay_ms = delay.as_millis() as u64;
    let has_delay = format == PostFormat::Typed || delay > Duration::ZERO;
    let post = PostResponse { success: true, client_count: recipients, delay_ms: has_delay.then_some(delay_ms) };
    if format == PostFormat::Object {
        return Ok(body::json_response(StatusCode::OK, &post));
    }
    let echo = RawValue::from_string(message).ok();
    let queued = TypedPostResponse { post, status: "queued", room, scheduled_at: now.unix_ms() + delay_ms, echo };
    Ok(body::json_response(StatusCode::ACCEPTED, &queued))
}

/// Call a route of the room's handler
#[utoipa::path(
    get, path = "/rooms/{room}/{*path}", operation_id = "roomRoute", tag = "broadcast",
    description = "Accepts any method. The room's handler defines requests and responses. `path` may have several segments.",
    params(
        ("room" = String, Path, description = "Room name"),
        ("path" = String, Path, description = "Path defined by the handler"),
    ),
    responses(
        (status = 200, description = "The handler's response"),
        (status = 404, description = "The handler has no such route"),
        (status = 413, description = "The body is longer than 256 KiB"),
        (status = 500, description = "The handler has failed"),
    ),
)]
pub(super) async fn room_route(State(state): SharedState, request: Request) -> Result<Response, RequestError> {
    let mut segments = request.uri().path().splitn(4, '/').skip(2);
    let (name, rest) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default().to_owned());
    let Some(room) = decode_room_name(name) else { return Ok(body::not_found()) };
    let request = read_body(request, MAX_POST_BYTES).await?;
    let response = state.hub.handle_room_route(clock::now(), &room, &rest, &request)?;
    Ok(response.map_or_else(body::not_found, |response| response.map(Body::from)))
}

/// The response to a request for a WebRTC token, if every client could get tokens.
const NO_ISSUER_KEY: &str = "Tokens for WebRTC rooms need a token issuer key. Start the server with --token-issuer-key @FILE or \
                             TOKEN_ISSUER_KEY, and send the key as the bearer token";

/// Maximum length of a client id, in bytes. The client id is part of each message that members receive.
const MAX_CLIENT_ID_BYTES: usize = 256;

/// Maximum length of a token. It leaves room in the head of a request, which has at most 16 KiB.
const MAX_TOKEN_BYTES: usize = 12 << 10;

/// Times have a resolution of a millisecond.
const MIN_LIFETIME_SECONDS: f64 = 1e-3;

/// A request for a token.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TokenRequest {
    #[serde(default)]
    #[schema(example = "client-001", required)]
    client_id: String,
    #[serde(default)]
    #[schema(example = "radio", required)]
    room: String,
    /// The kind of room. For `webrtc`, `clientId` is the `userId` of the client.
    #[schema(default = "broadcast")]
    audience: Option<Audience>,
    /// Lifetime in seconds, at most one year.
    #[schema(default = 3600, exclusive_minimum = 0)]
    expires_in: Option<f64>,
    /// Additional claims in the token, for use by the room.
    metadata: Option<Map<String, Value>>,
}

/// An issued token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TokenResponse {
    token: String,
    /// Expiry time of the token, in milliseconds since the Unix epoch.
    expires_at: u64,
    client_id: String,
    room: String,
}

/// Issue a token for a room
#[utoipa::path(
    post, path = "/auth/token", operation_id = "issueToken", tag = "tokens", security((), ("issuer" = [])), request_body = TokenRequest,
    responses(
        (status = 200, description = "A token that is valid for the room until `expiresAt`", body = TokenResponse),
        (status = 400, description = "A field is missing, or the body is not JSON with these fields"),
        (status = 401, description = "The token issuer key is required"),
        (status = 403, description = "Tokens for WebRTC rooms need a token issuer key, and this server has none"),
        (status = 422, description = "The server would not accept such a token"),
        (status = 429, description = "The rate limit for token requests is reached"),
        (status = 503, description = "The server has no signing secret"),
    ),
)]
pub(super) async fn issue_token(
    State(state): SharedState,
    Extension(client): Client,
    request: Request,
) -> Result<Response, RequestError> {
    check_rate(&state.token_limiter, client.source.ip())
        .map_err(|wait| RequestError::too_many_requests(TOO_MANY_TOKENS, wait))?;
    if let Some(key) = &state.config.broadcast.issuer_key
        && bearer_token(request.headers()).is_none_or(|token| !key.matches(token.as_str()))
    {
        let error = "The token issuer key is required";
        return Err(unauthorized(error, error));
    }
    let request = read_body(request, MAX_POST_BYTES).await?;
    let TokenRequest { client_id, room, audience, expires_in, metadata } =
        parse_json(request.body()).map_err(|RequestError { reason, .. }| {
            let error = format!("Invalid request: {reason}");
            RequestError::new(StatusCode::BAD_REQUEST, error).with_reason("invalid request")
        })?;
    if client_id.is_empty() || room.is_empty() {
        let example = json!({"clientId": "client-001", "room": "radio", "expiresIn": 3_600});
        let error = "clientId and room are required";
        let body = json!({"error": error, "example": example}).to_string();
        return Err(RequestError { body, ..RequestError::new(StatusCode::BAD_REQUEST, error) });
    }
    let audience = audience.unwrap_or_default();
    if audience == Audience::WebRtc && state.config.broadcast.issuer_key.is_none() {
        return Err(RequestError::new(StatusCode::FORBIDDEN, NO_ISSUER_KEY));
    }
    let seconds = expires_in.unwrap_or(DEFAULT_LIFETIME_SECONDS);
    let Some(secret) = &state.hub.limits().broadcast.secret else {
        return Err(RequestError::new(StatusCode::SERVICE_UNAVAILABLE, "This server has no signing secret"));
    };
    let claims = Claims::new(&client_id, &room, metadata.unwrap_or_default(), clock::unix_ms(), seconds);
    let claims = claims.with_audience(audience);
    let (token, expires_at) = (sign(secret, &claims), claims.expires_ms().unwrap_or(u64::MAX));
    let (dialect, has_room) = match audience {
        Audience::Broadcast => (Dialect::Broadcast, is_valid_room_name(&room)),
        Audience::WebRtc => (Dialect::WebRtc, room.len() <= MAX_WEBRTC_ROOM_BYTES),
    };
    for (is_accepted, error) in [
        (state.hub.limits().dialects.contains(&dialect), "Invalid request: this server has no rooms of this audience"),
        (
            client_id.len() <= MAX_CLIENT_ID_BYTES && !client_id.contains(char::is_control),
            "Invalid request: clientId must have at most 256 bytes and no control characters",
        ),
        (
            has_room,
            "Invalid request: room must have at most 128 bytes. For broadcast rooms, it must not contain '/' or control characters, and \
             reserved names are not allowed",
        ),
        (seconds >= MIN_LIFETIME_SECONDS, "Invalid request: expiresIn must be a number of seconds from 0.001"),
        (!claims.has_too_many_values(), "Invalid request: metadata may have at most 100 values"),
        (token.len() <= MAX_TOKEN_BYTES, "Invalid request: metadata is too long for a token of at most 12 KiB"),
    ] {
        if !is_accepted {
            return Err(RequestError::new(StatusCode::UNPROCESSABLE_ENTITY, error));
        }
    }
    Ok(body::json_response(StatusCode::OK, &TokenResponse { token, expires_at, client_id, room }))
}

/// Rejects a request without a valid token or key.
fn unauthorized(reason: &str, error: &str) -> RequestError {
    let headers = vec![(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    RequestError { headers, ..RequestError::new(StatusCode::UNAUTHORIZED, error).with_reason(reason) }
}

impl From<PostError> for RequestError {
    fn from(PostError { status, reason, body }: PostError) -> Self {
        match body {
            Some(body) => Self { body: body.to_string(), ..Self::new(status, reason) },
            None if status == StatusCode::TOO_MANY_REQUESTS => Self::too_many_requests(reason, Duration::ZERO),
            None => Self::new(status, reason),
        }
    }
}
