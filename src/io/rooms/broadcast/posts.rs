//! Content for rooms over HTTP, in the two forms that there are, and what rooms answer themselves.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::read;
use super::refused::Refused;
use super::{Desk, bearer, counted, to_any_site};
use crate::io::http::{Client, answer};
use crate::rooms::broadcast::{Form, Posted, Refusal, room_name};

/// Content was taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Taken {
    success: bool,
    /// To how many members it goes.
    client_count: usize,
    /// Milliseconds until it does, if it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
}

/// The same, as it is told to who posts in the typed form.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Queued {
    #[serde(flatten)]
    taken: Taken,
    status: &'static str,
    room: String,
    /// Milliseconds since 1970.
    scheduled_at: u64,
    /// What members are sent.
    #[schema(value_type = Option<Object>)]
    echo: Option<Box<RawValue>>,
}

/// The typed form.
#[expect(dead_code, reason = "it describes what the hub reads")]
#[derive(ToSchema)]
struct Typed {
    r#type: String,
    /// ISO 8601.
    #[schema(example = "2026-01-01T00:00:00Z")]
    timestamp: String,
    #[schema(value_type = Object)]
    data: (),
}

/// Content for a room
#[utoipa::path(
    post, path = "/{room}/postcontent", operation_id = "postContent", tag = "broadcast", security(("room" = [])), request_body = Object,
    params(("room" = String, Path, description = "The room's name")),
    responses(
        (status = 200, description = "Relayed, or waits for its time", body = Taken),
        (status = 400, description = "No JSON"),
        (status = 401, description = "No token, or not one for this room"),
        (status = 404, description = "No room can have this name"),
        (status = 413, description = "The body is longer than --post-max"),
        (status = 422, description = "No object, or the room does not take it"),
        (status = 429, description = "--rate-limit-post, or too much waits"),
    ),
)]
pub(in crate::io::rooms) async fn free(
    State(desk): State<Arc<Desk>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    posted(&desk, &client, Form::Free, request).await
}

/// Content for a room, in the typed form
#[utoipa::path(
    post, path = "/rooms/{room}/post", operation_id = "postTyped", tag = "broadcast", security(("room" = [])), request_body = Typed,
    params(("room" = String, Path, description = "The room's name")),
    responses(
        (status = 202, description = "Waits for its time, which may have come", body = Queued),
        (status = 400, description = "No JSON"),
        (status = 401, description = "No token, or not one for this room"),
        (status = 404, description = "No room can have this name"),
        (status = 413, description = "The body is longer than --post-max"),
        (status = 422, description = "Wrong members, which `details` names, or the room does not take it"),
        (status = 429, description = "--rate-limit-post, or too much waits"),
    ),
)]
pub(in crate::io::rooms) async fn typed(
    State(desk): State<Arc<Desk>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    posted(&desk, &client, Form::Typed, request).await
}

async fn posted(desk: &Desk, client: &Client, form: Form, request: Request) -> Response {
    let uri = request.uri().clone();
    let taken = take(desk, client, form, request).await;
    to_any_site(taken.unwrap_or_else(|refusal| refusal.told(desk, client, &uri)))
}

async fn take(desk: &Desk, client: &Client, form: Form, request: Request) -> Result<Response, Refused> {
    let mut segments = request.uri().path().split('/').skip(1);
    let segment = match form {
        Form::Free => segments.next(),
        Form::Typed => segments.nth(1),
    };
    let room = room_name(segment.unwrap_or_default())
        .map_err(|_| Refused::because("no room can have this name", answer::not_found()))?;
    counted(&desk.posts, client.from.ip())?;
    let missing = "Authentication required";
    let given = bearer(request.headers()).ok_or_else(|| Refused::unauthorised(missing, missing))?;
    desk.switchboard
        .ask(|now, hub, _| hub.authorise(now, &room, &given))
        .map_err(|why| Refused::unauthorised(why.reason(), "Invalid or expired token"))?;
    let (parts, body) = request.into_parts();
    let body = read(&parts.headers, body, desk.told.post_bytes).await?;
    let (posted, now_ms) =
        desk.switchboard.ask(|now, hub, out| (hub.post(now, &room, form, &body, out), now.unix_us / 1_000));
    let Posted { clients, delay, frame } = posted.map_err(|refusal| refused(&refusal))?;
    let delay_ms = delay.as_millis() as u64;
    let told = form == Form::Typed || delay > Duration::ZERO;
    let taken = Taken { success: true, client_count: clients, delay_ms: told.then_some(delay_ms) };
    if form == Form::Free {
        return Ok(answer::json(StatusCode::OK, &taken));
    }
    let echo = RawValue::from_string(frame).ok();
    let queued = Queued { taken, status: "queued", room, scheduled_at: now_ms + delay_ms, echo };
    Ok(answer::json(StatusCode::ACCEPTED, &queued))
}

fn refused(refusal: &Refusal) -> Refused {
    match refusal {
        Refusal::Json => Refused::new(StatusCode::BAD_REQUEST, "Invalid JSON"),
        Refusal::Object => Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "Payload must be a JSON object"),
        // In its own words it may have quoted what was posted.
        Refusal::Room(error) => {
            Refused::with_body("the room does not take it", StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": error}))
        }
        Refusal::Fields(details) => {
            let why = "Validation failed";
            Refused::with_body(why, StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": why, "details": details}))
        }
        Refusal::TooManyWaiting => Refused::too_many("Too many delayed messages are waiting", Duration::ZERO),
    }
}

/// Whatever a room answers below its path
#[utoipa::path(
    get, path = "/rooms/{room}/{path}", operation_id = "askRoom", tag = "broadcast",
    description = "By any method: what it takes and answers is up to the room's handler. `path` may have several segments.",
    params(
        ("room" = String, Path, description = "The room's name"),
        ("path" = String, Path, description = "What its handler knows"),
    ),
    responses(
        (status = 200, description = "What the room answers"),
        (status = 404, description = "Nothing is there"),
        (status = 413, description = "The body is longer than --post-max"),
    ),
)]
pub(in crate::io::rooms) async fn own(
    State(desk): State<Arc<Desk>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    let mut segments = request.uri().path().splitn(4, '/').skip(2);
    let (name, rest) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default().to_owned());
    let Ok(room) = room_name(name) else { return answer::not_found() };
    // Whoever finds nothing here is told so before the body is read.
    if !desk.switchboard.ask(|now, hub, _| hub.has_route(now, &room, &rest)) {
        return answer::not_found();
    }
    let (parts, body) = request.into_parts();
    let body = match read(&parts.headers, body, desk.told.post_bytes).await {
        Ok(body) => body,
        Err(refusal) => return refusal.told(&desk, &client, &parts.uri),
    };
    let request = Request::from_parts(parts, body);
    let answered = desk.switchboard.ask(|now, hub, _| hub.ask_room(now, &room, &rest, &request));
    answered.map_or_else(answer::not_found, |response| response.map(Body::from))
}
