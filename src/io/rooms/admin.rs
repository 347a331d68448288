//! What the operator can have done over HTTP.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::info;
use utoipa::ToSchema;

use super::switchboard::Switchboard;
use crate::io::http::{Client, answer};

/// The longest body, in bytes: there is nothing to say in it.
const BODY_BYTES: usize = 4 << 10;

#[derive(Clone)]
pub(super) struct Desk {
    switchboard: Arc<Switchboard>,
    shutdown: Arc<Notify>,
}

/// The route that ends the server: it tells `shutdown`.
pub(super) fn router(switchboard: &Arc<Switchboard>, shutdown: &Arc<Notify>) -> Router {
    let desk = Desk { switchboard: Arc::clone(switchboard), shutdown: Arc::clone(shutdown) };
    Router::new().route("/admin/shutdown", post(shut_down)).with_state(desk)
}

/// The operator has nothing to say.
#[derive(ToSchema)]
struct Nothing {}

/// The server ends.
#[derive(Serialize, ToSchema)]
struct Stopping {
    stopping: bool,
}

/// Ends the server, as SIGTERM does
#[utoipa::path(
    post, path = "/admin/shutdown", operation_id = "shutDown", tag = "operating", security(("login" = [])), request_body = Nothing,
    responses(
        (status = 202, description = "It ends: everybody is closed, for at most 5 s", body = Stopping),
        (status = 400, description = "The body is no JSON"),
        (status = 413, description = "The body is longer than 4 KiB"),
        (status = 422, description = "The body is no object"),
    ),
)]
pub(super) async fn shut_down(State(desk): State<Desk>, Extension(client): Extension<Client>, body: Body) -> Response {
    let Ok(body) = to_bytes(body, BODY_BYTES).await else {
        return answer::refusal(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large");
    };
    // Nothing at all is as good as an empty object.
    let body = if body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&body) };
    match body {
        Ok(Value::Object(_)) => {}
        Ok(_) => return answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, "Payload must be a JSON object"),
        Err(_) => return answer::refusal(StatusCode::BAD_REQUEST, "Invalid JSON"),
    }
    info!("{} asks the server to end", client.from.ip());
    // The answer leaves before the server does.
    client.place.keep(desk.switchboard.hold());
    desk.shutdown.notify_one();
    let mut response = answer::json(StatusCode::ACCEPTED, &Stopping { stopping: true });
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use axum::extract::Request;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;
    use crate::io::http::{Bounds, Places};
    use crate::io::rooms::QueueBounds;
    use crate::rooms::{Hub, Limits};

    #[test]
    fn the_server_does_not_end_before_the_connection_that_asked_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let hub = Hub::new(Limits::default(), [1, 2, 3, 4]);
            let (switchboard, mut ended) = Switchboard::new(hub, QueueBounds::default());
            let (shutdown, places) = (Arc::new(Notify::new()), Places::new(Bounds::default()));
            let from = SocketAddr::from(([192, 0, 2, 1], 5_000));
            let place = places.take(places.free().await, from.ip()).expect("a place");
            let client = Client { from, place: Arc::new(place) };
            let mut request = Request::post("/admin/shutdown").body(Body::empty()).expect("a request");
            request.extensions_mut().insert(client.clone());
            let router = TowerToHyperService::new(router(&switchboard, &shutdown));
            let Ok(response) = router.call(request).await;
            assert_eq!(response.status(), StatusCode::ACCEPTED);
            shutdown.notified().await;
            switchboard.close(Duration::ZERO);
            assert_eq!(ended.try_recv(), Err(TryRecvError::Empty), "the answer is still to leave");
            drop(client);
            assert_eq!(ended.recv().await, None);
        });
    }
}
