//! HTTP routes in addition to the WebSocket: public pages, pages behind the login, and `POST /admin/shutdown`.

mod asyncapi;
mod console;
mod console_operations;
mod control_surface_api;
mod discovery;
pub(super) mod examples;
mod health;
pub(super) mod metrics;
mod openapi;
mod start_page;
mod static_files;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::sync::Notify;

use crate::io::http::login;
use crate::io::http::{self, body};
use crate::io::moqt::MoqtUrl;
use crate::io::signaling::admin::discovery::Discovery;
use crate::io::signaling::admin::examples::ExamplePages;
use crate::io::signaling::admin::metrics::SignalingCollector;
use crate::io::signaling::admin::start_page::StartPage;
use crate::io::signaling::broadcast_http::{self, BroadcastHttpConfig};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::signaling::{Dialect, SignalingLimits};

/// The shared state and the configuration of the HTTP routes.
pub(super) struct HttpRoutes {
    pub(super) collector: SignalingCollector,
    pub(super) broadcast: BroadcastHttpConfig,
    /// The listen address.
    pub(super) address: SocketAddr,
    /// URL of a MOQT echo in the same process, with its listen host.
    pub(super) moqt_url: Option<MoqtUrl>,
    /// URL at which newer jamjam clients connect; `None`: on the host that they requested.
    pub(super) public_url: Option<WebSocketUrl>,
    /// Whether `/metrics` needs no login, because only local users can connect.
    pub(super) metrics_are_public: bool,
}

impl HttpRoutes {
    /// All routes. `shutdown` is notified when the operator stops the server.
    pub(super) fn router(self, shutdown: &Arc<Notify>) -> Router {
        let Self { collector, broadcast, address, moqt_url, public_url, metrics_are_public } = self;
        let (hub, login) = (Arc::clone(&collector.hub), Arc::clone(&collector.login));
        let limits = Arc::new(hub.with_hub(|_, hub, _| hub.limits().clone()));
        let dialects = limits.dialects;
        let example_pages = ExamplePages { dialects, listen_address: address };
        let is_tls = collector.tls.is_some();
        let start = StartPage { limits: Arc::clone(&limits), address, is_tls, moqt_url };
        let mut public = Router::new()
            .merge(start_page::router(start))
            .merge(static_files::router())
            .merge(asyncapi::router(&limits))
            .merge(http::healthz_router())
            .merge(examples::router(example_pages))
            .merge(health::router(&hub, &login, &collector.connection_limiter.limits().memory_budget));
        if dialects.contains(Dialect::Jamjam) {
            public = public.merge(discovery::router(Discovery { address, is_tls, public_url }));
        }
        // These routes require the login and reject requests from pages of other sites.
        let mut protected = Router::new()
            .merge(health::shutdown_router(shutdown))
            .merge(openapi::router(dialects))
            .merge(console::router(&hub))
            .merge(console_operations::router(Arc::clone(&hub)))
            .merge(examples::operator_router(example_pages));
        if dialects.contains(Dialect::ControlSurface) {
            protected = protected.merge(control_surface_api::router(Arc::clone(&hub)));
        }
        let metrics_router = http::metrics::router(collector.into_encoder());
        if metrics_are_public {
            public = public.merge(metrics_router);
        } else {
            protected = protected.merge(metrics_router);
        }
        if dialects.contains(Dialect::Broadcast) || dialects.contains(Dialect::WebRtc) {
            public = public.merge(broadcast_http::router(hub, broadcast, dialects));
        }
        public.layer(from_fn_with_state(limits, require_allowed_origin)).merge(login::require_login(protected, &login))
    }
}

/// Rejects requests of pages whose origin is not allowed. Routes behind the login are stricter: see [`http::csrf`].
async fn require_allowed_origin(State(limits): State<Arc<SignalingLimits>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if limits.allows_origin(origin) {
        return next.run(request).await;
    }
    body::error_response(StatusCode::FORBIDDEN, "Origin not allowed (allowed origins: the server's --origin)")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Map, Value};

    use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits};
    use crate::io::signaling::shared_hub::SharedHub;
    use crate::signaling::{DialectSet, Hub};

    use super::*;

    const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

    /// The debug output of the router: `axum` has no other way to list routes.
    fn debug_router(dialects: DialectSet, metrics_are_public: bool) -> String {
        let hub = Hub::new(SignalingLimits { dialects, ..SignalingLimits::default() }, [1, 2, 3, 4]);
        let hub = SharedHub::new(hub, None, &ConnectionLimits::default());
        let collector = SignalingCollector {
            hub,
            connection_limiter: ConnectionLimiter::new(ConnectionLimits::default()),
            tls: None,
            login: Arc::default(),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 8_080));
        let routes = HttpRoutes {
            collector,
            broadcast: BroadcastHttpConfig::default(),
            address,
            moqt_url: None,
            public_url: None,
            metrics_are_public,
        };
        format!("{:?}", routes.router(&Arc::default()))
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

    fn openapi_document(dialects: DialectSet) -> Value {
        serde_json::from_str(&openapi::openapi_json_for(dialects)).expect("JSON")
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
        let all = DialectSet::default();
        let without = [Dialect::Jamjam, Dialect::Broadcast, Dialect::ControlSurface].map(|one| all.without(one));
        let sets = [all, DialectSet::JAMJAM_ONLY].into_iter().chain(without);
        for (dialects, openly) in sets.flat_map(|dialects| [(dialects, true), (dialects, false)]) {
            let mut paths = routes(&debug_router(dialects, openly));
            assert!(paths.remove("get /docs/"), "the same page as /docs");
            assert!(paths.remove("get /docs/swagger.json"), "the same document as /openapi.json");
            assert!(paths.remove("get /examples"), "the same page as /examples/");
            // OpenAPI cannot describe a wildcard in a path, or a route that accepts every HTTP method.
            if paths.remove("any /rooms/{room}/{*rest}") {
                paths.insert("get /rooms/{room}/{path}".to_owned());
            }
            assert!(paths.contains("post /admin/shutdown") && paths.contains("get /metrics"), "{paths:?}");
            assert_eq!(paths.contains("post /auth/token"), dialects != DialectSet::JAMJAM_ONLY);
            let described: BTreeSet<String> = operations(&openapi_document(dialects)).into_keys().collect();
            assert_eq!(paths, described, "{dialects:?}");
        }
    }

    #[test]
    fn openapi_references_resolve() {
        let document = openapi_document(DialectSet::default());
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().expect("a pointer");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let tags: BTreeSet<&str> =
            document["tags"].as_array().expect("tags").iter().filter_map(|tag| tag["name"].as_str()).collect();
        let mut ids = BTreeSet::new();
        for (name, operation) in operations(&document) {
            assert!(ids.insert(operation["operationId"].to_string()), "{name}: its id is another's");
            assert!(operation["tags"][0].as_str().is_some_and(|tag| tags.contains(tag)), "{name}");
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
            let answers = operation["responses"].as_object().expect("responses");
            for (status, answer) in answers.iter().filter(|(status, _)| status.starts_with('4')) {
                let form = &answer["content"]["application/json"]["schema"]["$ref"];
                let expected = if status == "429" { "TooManyRequestsBody" } else { "ErrorBody" };
                assert!(form.as_str().is_some_and(|form| form.ends_with(expected)), "{name} {status}");
            }
        }
    }
}
