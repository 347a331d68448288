//! `GET /admin/bbx/events`: what control surfaces do, as a stream without an end (HTML, section 9.2).

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use crate::io::http::{Client, answer};
use crate::io::rooms::listeners::MOST_STREAMS;
use crate::io::rooms::switchboard::Switchboard;

/// What comes first, so that a listener knows that it is one.
const CONNECTED: Bytes = Bytes::from_static(b": connected\n\n");

/// What comes when there is nothing to tell, so that either end finds out when the other has gone.
const QUIET: Bytes = Bytes::from_static(b": quiet\n\n");

/// How often it comes in the time that a connection may last unread.
const PER_LIFETIME: u32 = 4;

/// What control surfaces do from now on
#[utoipa::path(
    get, path = "/admin/bbx/events", tag = "surfaces", security(("login" = [])),
    responses(
        (status = 200, description = "Server-sent events without an end: `{room, nodeId, kind, name, value?, at?, time}`", content_type = "text/event-stream", body = String),
        (status = 503, description = "16 listen already, or the server is about to end"),
    ),
)]
pub(in crate::io::rooms) async fn listen(
    State(switchboard): State<Arc<Switchboard>>,
    Extension(client): Extension<Client>,
) -> Response {
    let Some(mailbox) = switchboard.listen() else {
        let error = format!("{MOST_STREAMS} listen already, or the server is about to end; try again later");
        return answer::refusal(StatusCode::SERVICE_UNAVAILABLE, &error);
    };
    let place = client.place;
    // A stop waits until the end of this has left too.
    place.keep(switchboard.hold());
    let quiet = place.lifetime() / PER_LIFETIME;
    let events = stream::unfold((mailbox, place), move |(mailbox, place)| async move {
        // What came before has been taken.
        place.last();
        let text = match timeout(quiet, mailbox.next()).await {
            Ok(text) => text?,
            Err(_) => QUIET,
        };
        Some((text, (mailbox, place)))
    });
    let body = Body::from_stream(stream::once(ready(CONNECTED)).chain(events).map(Ok::<_, Infallible>));
    // The connection has no second use: at the end it is closed, so that a stop need not wait for it.
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ];
    (headers, body).into_response()
}
