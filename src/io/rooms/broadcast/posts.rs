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

use super::{Desk, bearer, counted, read, to_any_site, unauthorised};
use crate::io::http::{Client, answer};
use crate::rooms::broadcast::{Form, Posted, Refusal, room_name};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    success: bool,
    client_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    queued: Option<Queued>,
}

/// What the typed form is told beside.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Queued {
    status: &'static str,
    room: String,
    /// Milliseconds since 1970.
    scheduled_at: u64,
    echo: Option<Box<RawValue>>,
}

/// `POST /{room}/postcontent`.
pub(super) async fn free(
    State(desk): State<Arc<Desk>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    to_any_site(posted(&desk, &client, Form::Free, request).await.unwrap_or_else(|refusal| refusal))
}

/// `POST /rooms/{room}/post`.
pub(super) async fn typed(
    State(desk): State<Arc<Desk>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    to_any_site(posted(&desk, &client, Form::Typed, request).await.unwrap_or_else(|refusal| refusal))
}

async fn posted(desk: &Desk, client: &Client, form: Form, request: Request) -> Result<Response, Response> {
    let mut segments = request.uri().path().split('/').skip(1);
    let segment = match form {
        Form::Free => segments.next(),
        Form::Typed => segments.nth(1),
    };
    let room = room_name(segment.unwrap_or_default()).map_err(|_| answer::not_found())?;
    counted(&desk.posts, client.from.ip()).map_err(|refusal| *refusal)?;
    let given = bearer(request.headers()).ok_or_else(|| unauthorised("Authentication required"))?;
    if desk.switchboard.ask(|now, hub, _| hub.authorise(now, &room, &given)).is_err() {
        return Err(unauthorised("Invalid or expired token"));
    }
    let body = read(request.into_body(), desk.told.post_bytes).await?;
    let (posted, now_ms) =
        desk.switchboard.ask(|now, hub, out| (hub.post(now, &room, form, &body, out), now.unix_us / 1_000));
    let Posted { clients, delay, frame } = posted.map_err(|refusal| refused(&refusal))?;
    let delay_ms = delay.as_millis() as u64;
    let mut taken = Taken {
        success: true,
        client_count: clients,
        delay_ms: (form == Form::Typed || delay > Duration::ZERO).then_some(delay_ms),
        queued: None,
    };
    if form == Form::Free {
        return Ok(answer::json(StatusCode::OK, &taken));
    }
    let echo = RawValue::from_string(frame).ok();
    taken.queued = Some(Queued { status: "queued", room, scheduled_at: now_ms + delay_ms, echo });
    Ok(answer::json(StatusCode::ACCEPTED, &taken))
}

fn refused(refusal: &Refusal) -> Response {
    let error = refusal.to_string();
    match refusal {
        Refusal::Json => answer::refusal(StatusCode::BAD_REQUEST, &error),
        Refusal::Object | Refusal::Room(_) => answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, &error),
        Refusal::Fields(details) => {
            answer::json(StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": error, "details": details}))
        }
        Refusal::TooManyWaiting => answer::too_many(&error, Duration::ZERO),
    }
}

/// Whatever a room answers below its path.
pub(super) async fn own(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let mut segments = request.uri().path().splitn(4, '/').skip(2);
    let (name, rest) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default().to_owned());
    let Ok(room) = room_name(name) else { return answer::not_found() };
    let (parts, body) = request.into_parts();
    let body = match read(body, desk.told.post_bytes).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let request = Request::from_parts(parts, body);
    let answered = desk.switchboard.ask(|now, hub, _| hub.ask_room(now, &room, &rest, &request));
    answered.map_or_else(answer::not_found, |response| response.map(Body::from))
}
