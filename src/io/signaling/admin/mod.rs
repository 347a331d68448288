//! HTTP routes in addition to the WebSocket: public pages, pages behind the login, and `POST /admin/shutdown`.

mod asyncapi;
mod console;
mod control_surface_api;
mod examples;
mod health;
pub(super) mod metrics;
mod openapi;
mod pages;
mod signaling_url;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post, put};

use crate::io::http::login;
use crate::io::http::{self, body};
use crate::io::signaling::broadcast_http;
use crate::io::signaling::http_state::{HttpState, SharedState};
use crate::signaling::{Dialect, SignalingLimits};

/// All routes.
pub(super) fn router(state: &Arc<HttpState>) -> Router {
    let HttpState { config, limits: SignalingLimits { dialects, .. }, .. } = &**state;
    let mut public = pages::routes(pages::OPEN)
        .route("/static/{file}", get(pages::swagger_ui_file))
        .route("/docs/asyncapi.json", get(asyncapi::asyncapi_json))
        .route("/healthz", get(http::serve_healthz))
        .route("/readyz", get(http::serve_healthz))
        .route("/health", get(health::health).options(body::preflight))
        .route("/rooms", get(health::rooms).options(body::preflight));
    // These routes require the login and reject requests from pages of other sites.
    let mut protected = pages::routes(pages::LOGIN)
        .route("/admin/shutdown", post(health::shut_down))
        .route("/admin/links", get(console::links).post(console::change_links))
        .route("/docs/swagger.json", get(openapi::openapi_json))
        .route("/openapi.json", get(openapi::openapi_json))
        .route("/console/state", get(console::console_state))
        .route("/console/disconnect", post(console::disconnect))
        .route("/console/close-room", post(console::close_room));
    if dialects.contains(&Dialect::Jamjam) {
        public = public.route("/api/v1/signaling", get(signaling_url::signaling_server));
    }
    if dialects.contains(&Dialect::ControlSurface) {
        protected = protected
            .route("/examples/qr.svg", get(examples::example_qr))
            .route("/admin/bbx/rooms", get(control_surface_api::list_rooms).post(control_surface_api::create_room))
            .route("/admin/bbx/rooms/{code}", delete(control_surface_api::close_room))
            .route("/admin/bbx/param", post(control_surface_api::set_param))
            .route("/admin/bbx/params/{name}", put(control_surface_api::declare_range))
            .route("/admin/bbx/visualization", post(control_surface_api::broadcast_visualization))
            .route("/admin/bbx/events", get(control_surface_api::event_stream));
    }
    let (mut public, mut protected) = (public.with_state(Arc::clone(state)), protected.with_state(Arc::clone(state)));
    let metrics = http::metrics::router(metrics::registry(state));
    // On loopback without a proxy only local users can connect, so metrics need no login.
    if state.address.ip().to_canonical().is_loopback() && config.connection_limits.trusted_proxies.is_none() {
        public = public.merge(metrics);
    } else {
        protected = protected.merge(metrics);
    }
    if dialects.contains(&Dialect::Broadcast) || dialects.contains(&Dialect::WebRtc) {
        public = public.merge(broadcast_http::router(state));
    }
    let public = public.layer(from_fn_with_state(Arc::clone(state), require_allowed_origin));
    public.merge(login::require_login(protected, &config.login))
}

/// Rejects requests of pages whose origin is not allowed. Routes behind the login are stricter: see [`login`].
async fn require_allowed_origin(State(state): SharedState, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if state.limits.allows_origin(origin) {
        return next.run(request).await;
    }
    body::error_response(StatusCode::FORBIDDEN, "Origin not allowed (allowed origins: the server's --origin)")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Map, Value};

    use std::net::SocketAddr;

    use crate::io::signaling::config::SignalingServerConfig;
    use crate::io::signaling::event_stream::SharedListeners;
    use crate::io::stop::StopToken;
    use crate::signaling::Hub;

    use super::*;

    const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

    /// The debug output of the router: `axum` has no other way to list routes.
    fn debug_router(dialects: &[Dialect], address: [u8; 4]) -> String {
        let hub = Hub::new(SignalingLimits { dialects: dialects.to_vec(), ..SignalingLimits::default() }, [1, 2, 3, 4]);
        let served = (&Arc::new(hub), &SharedListeners::default());
        let state = HttpState::new(
            SignalingServerConfig::default(),
            served,
            SocketAddr::from((address, 8_080)),
            &StopToken::default(),
        );
        format!("{:?}", router(&Arc::new(state)))
    }

    /// Each path with its methods.
    fn routes(debug: &str) -> BTreeSet<String> {
        let debug = debug.split("fallback_router").next().expect("its routes");
        let (handlers, paths) = debug.split_once("node: ").expect("handlers, and their paths");
        let entries = |text: &str| -> BTreeMap<String, String> {
            let entry = |entry: &str| entry.split_once("): ").map(|(id, what)| (id.to_owned(), what.to_owned()));
            text.split("RouteId(").skip(1).filter_map(entry).collect()
        };
        let handlers = entries(handlers);
        let of_path = |(id, path): (String, String)| {
            let path = path.split('"').nth(1).expect("a path").to_owned();
            let handler = &handlers[&id];
            let methods = METHODS.into_iter().filter(|method| !handler.contains(&format!("{method}: None")));
            let methods: Vec<String> = methods.map(|method| format!("{method} {path}")).collect();
            if methods.is_empty() { vec![format!("any {path}")] } else { methods }
        };
        entries(paths).into_iter().flat_map(of_path).collect()
    }

    fn openapi_document() -> Value {
        serde_json::from_slice(&openapi::DOCUMENT).expect("JSON")
    }

    fn operations(document: &Value) -> BTreeMap<String, Map<String, Value>> {
        let paths = document["paths"].as_object().expect("paths").iter();
        let of_path = |(path, item): (&String, &Value)| {
            let item = item.as_object().expect("operations").clone();
            let path = path.clone();
            item.into_iter().map(move |(method, operation)| {
                (format!("{method} {path}"), operation.as_object().expect("an operation").clone())
            })
        };
        paths.flat_map(of_path).collect()
    }

    #[test]
    fn openapi_document_lists_exactly_the_routes() {
        let all = Dialect::ALL;
        let without = |one| all.into_iter().filter(|dialect| *dialect != one).collect();
        let without = [Dialect::Jamjam, Dialect::Broadcast, Dialect::ControlSurface].map(without);
        let sets: Vec<Vec<Dialect>> = [all.to_vec(), vec![Dialect::Jamjam]].into_iter().chain(without).collect();
        // Metrics are public on loopback only.
        let addresses = [[127, 0, 0, 1], [192, 0, 2, 1]];
        let described: BTreeSet<String> = operations(&openapi_document()).into_keys().collect();
        for (dialects, address) in sets.iter().flat_map(|dialects| addresses.map(|address| (dialects, address))) {
            let mut paths = routes(&debug_router(dialects, address));
            assert!(paths.remove("get /readyz"), "the same response as /healthz");
            assert!(paths.remove("get /docs/swagger.json"), "the same document as /openapi.json");
            // Pages for people and their files are no part of the API.
            for path in pages::PAGES.map(|(path, ..)| path).into_iter().chain(["/static/{file}"]) {
                assert!(paths.remove(&format!("get {path}")), "{path}");
            }
            // OpenAPI cannot describe a wildcard in a path, or a route that accepts every HTTP method.
            if paths.remove("any /rooms/{room}/{*rest}") {
                paths.insert("get /rooms/{room}/{path}".to_owned());
            }
            assert!(paths.contains("post /admin/shutdown") && paths.contains("get /metrics"), "{paths:?}");
            assert_eq!(paths.contains("post /auth/token"), *dialects != [Dialect::Jamjam]);
            assert!(
                paths.is_subset(&described) && (paths == described || dialects.len() < all.len()),
                "{dialects:?}: {paths:?}"
            );
        }
    }

    #[test]
    fn references_path_parameters_and_security_schemes_are_defined() {
        let document = openapi_document();
        for document in [&document, &asyncapi::asyncapi_document(&SignalingLimits::default())] {
            let text = document.to_string();
            let pointers = text.split("\"$ref\":\"#").skip(1).filter_map(|reference| reference.split('"').next());
            assert!(pointers.inspect(|it| assert!(document.pointer(it).is_some(), "{it}")).count() > 60);
        }
        for (name, operation) in operations(&document) {
            let (_, path) = name.split_once(' ').expect("a path");
            let in_path: BTreeSet<&str> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
            let parameters = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
            let described: Vec<&Value> = parameters.iter().filter(|parameter| parameter["in"] == "path").collect();
            let named: BTreeSet<&str> = described.iter().filter_map(|parameter| parameter["name"].as_str()).collect();
            assert_eq!((in_path, true), (named, described.iter().all(|one| one["required"] == true)), "{name}");
            for needed in operation.get("security").and_then(Value::as_array).into_iter().flatten() {
                for scheme in needed.as_object().expect("schemes").keys() {
                    assert!(document["components"]["securitySchemes"][scheme].is_object(), "{name}: {scheme}");
                }
            }
        }
    }
}
