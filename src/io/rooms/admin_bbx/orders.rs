//! Making and closing rooms, and speaking to those who are in them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;

use super::fields::{CLIENTS, NUMBER, NUMBERS, SECONDS, TEXT};
use super::forms::{ClosedRoom, Delivered, MadeRoom, NewRoom, Param, ParamRange, SurfaceRooms, Visualization};
use super::{BODY_BYTES, Refusal, SHOWN_BYTES, last_segment, read};
use crate::io::http::answer;
use crate::io::rooms::switchboard::Switchboard;
use crate::rooms::Making;

type Desk = State<Arc<Switchboard>>;

/// Rooms of control surfaces
#[utoipa::path(
    get, path = "/admin/bbx/rooms", tag = "surfaces", security(("login" = [])),
    responses((status = 200, description = "All there are", body = SurfaceRooms)),
)]
pub(in crate::io::rooms) async fn list(State(switchboard): Desk) -> Response {
    let rooms = switchboard.ask(|_, hub, _| hub.surface_rooms());
    answer::json(StatusCode::OK, &json!({ "rooms": rooms }))
}

/// Makes a room of control surfaces
#[utoipa::path(
    post, path = "/admin/bbx/rooms", tag = "surfaces", security(("login" = [])), request_body = NewRoom,
    responses(
        (status = 201, description = "It is there until it expires or is closed", body = MadeRoom),
        (status = 400, description = "The body is no JSON"),
        (status = 413, description = "The body is longer than 64 KiB"),
        (status = 422, description = "A member is missing, wrong or unknown"),
        (status = 507, description = "There are --bbx-max-rooms already"),
    ),
)]
pub(in crate::io::rooms) async fn make(State(switchboard): Desk, body: Body) -> Result<Response, Refusal> {
    let mut body = read(body, BODY_BYTES).await?;
    let members = body.take("maxClients", &CLIENTS)?;
    let life = body.take("expiresIn", &SECONDS)?.map(Duration::from_secs_f64);
    body.end()?;
    let making = Making { code: None, members, life };
    let made = switchboard.ask(|now, hub, _| hub.make_room(now, making))?;
    Ok(answer::json(StatusCode::CREATED, &made))
}

/// Closes a room of control surfaces, and everybody in it
#[utoipa::path(
    delete, path = "/admin/bbx/rooms/{code}", tag = "surfaces", security(("login" = [])),
    params(("code" = String, Path, description = "The room's code")),
    responses(
        (status = 200, description = "It is closed", body = ClosedRoom),
        (status = 404, description = "No room has this code"),
        (status = 422, description = "The code in the path cannot be decoded"),
    ),
)]
pub(in crate::io::rooms) async fn close(State(switchboard): Desk, uri: Uri) -> Result<Response, Refusal> {
    let code = last_segment(&uri)?;
    let clients = switchboard.ask(|_, hub, out| hub.close_room(&code, out))?;
    Ok(answer::json(StatusCode::OK, &json!({"closed": true, "clients": clients})))
}

/// Sets a parameter
#[utoipa::path(
    post, path = "/admin/bbx/param", tag = "surfaces", security(("login" = [])), request_body = Param,
    responses(
        (status = 200, description = "It is set, and everybody in the rooms was told", body = Delivered),
        (status = 400, description = "The body is no JSON"),
        (status = 413, description = "The body is longer than 64 KiB"),
        (status = 422, description = "A member is missing, wrong or unknown"),
        (status = 404, description = "No room has this code"),
        (status = 507, description = "The room has 4096 parameters already"),
    ),
)]
pub(in crate::io::rooms) async fn set(State(switchboard): Desk, body: Body) -> Result<Response, Refusal> {
    let mut body = read(body, BODY_BYTES).await?;
    let (name, value) = (body.need("name", &TEXT)?, body.need("value", &NUMBER)?);
    let room = body.take("room", &TEXT)?;
    body.end()?;
    let told = switchboard.ask(|_, hub, out| hub.set_param(room.as_deref(), &name, value, out));
    Ok(delivered(told?))
}

/// Declares the range of a parameter in all rooms
#[utoipa::path(
    put, path = "/admin/bbx/params/{name}", tag = "surfaces", security(("login" = [])), request_body = ParamRange,
    params(("name" = String, Path, description = "The parameter's name")),
    responses(
        (status = 200, description = "It holds, and how many were told of a value", body = Delivered),
        (status = 400, description = "The body is no JSON"),
        (status = 413, description = "The body is longer than 64 KiB"),
        (status = 422, description = "A member is missing, wrong or unknown"),
        (status = 507, description = "There are 4096 declared ranges already"),
    ),
)]
pub(in crate::io::rooms) async fn declare(State(switchboard): Desk, uri: Uri, body: Body) -> Result<Response, Refusal> {
    let name = last_segment(&uri)?;
    let mut body = read(body, BODY_BYTES).await?;
    let (min, max) = (body.need("min", &NUMBER)?, body.need("max", &NUMBER)?);
    let value = body.take("value", &NUMBER)?;
    body.end()?;
    if min > max {
        return Err(Refusal::Fields("\"min\" may not be above \"max\"".to_owned()));
    }
    let told = switchboard.ask(|_, hub, out| hub.set_range(&name, (min, max), value, out));
    Ok(delivered(told?))
}

/// Shows numbers to control surfaces
#[utoipa::path(
    post, path = "/admin/bbx/visualization", tag = "surfaces", security(("login" = [])), request_body = Visualization,
    responses(
        (status = 200, description = "Everybody in the rooms was told", body = Delivered),
        (status = 400, description = "The body is no JSON"),
        (status = 413, description = "The body is longer than 2 MiB"),
        (status = 422, description = "A member is missing, wrong or unknown"),
        (status = 404, description = "No room has this code"),
    ),
)]
pub(in crate::io::rooms) async fn show(State(switchboard): Desk, body: Body) -> Result<Response, Refusal> {
    let mut body = read(body, SHOWN_BYTES).await?;
    let data = body.need("data", &NUMBERS)?;
    let room = body.take("room", &TEXT)?;
    body.end()?;
    let told = switchboard.ask(|_, hub, out| hub.visualize(room.as_deref(), &data, out));
    Ok(delivered(told?))
}

/// How many clients were told.
fn delivered(clients: usize) -> Response {
    answer::json(StatusCode::OK, &json!({ "delivered": clients }))
}
