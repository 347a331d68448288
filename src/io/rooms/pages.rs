//! All that is answered over plain HTTP: what everybody may ask, and what only the operator may.

use std::sync::Arc;

use axum::Router;
use tokio::sync::Notify;

use super::exposition::Exposition;
use super::switchboard::Switchboard;
use super::{BroadcastHttp, admin, admin_bbx, broadcast, console, docs, health};
use crate::io::http::login::{self, Login};
use crate::io::http::metrics;
use crate::rooms::Dialects;

/// What it is made from.
pub(super) struct Pages {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) exposition: Exposition,
    pub(super) login: Arc<Login>,
    pub(super) broadcast: BroadcastHttp,
    pub(super) dialects: Dialects,
    /// Whether the counts are for everybody: whoever can ask is on this machine.
    pub(super) is_watched_openly: bool,
}

impl Pages {
    /// The routes. `shutdown` is told when the server has to end.
    pub(super) fn router(self, shutdown: &Arc<Notify>) -> Router {
        let Self { switchboard, exposition, login, broadcast, dialects, is_watched_openly } = self;
        let open = Router::new().merge(docs::way()).merge(metrics::alive()).merge(health::router(&switchboard, &login));
        // What is mounted here is behind the login, and safe from pages of other sites.
        let guarded = Router::new().merge(admin::router(&switchboard, shutdown)).merge(docs::router(dialects));
        let guarded = if dialects.bbx { guarded.merge(admin_bbx::router(Arc::clone(&switchboard))) } else { guarded };
        let guarded = guarded.merge(console::router(&switchboard));
        let watch = metrics::router(exposition.into_text());
        let (open, guarded) =
            if is_watched_openly { (open.merge(watch), guarded) } else { (open, guarded.merge(watch)) };
        let open = if dialects.broadcast { open.merge(broadcast::router(switchboard, broadcast)) } else { open };
        open.merge(login::protect(guarded, &login))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Map, Value};

    use super::*;
    use crate::io::http::{Bounds, Places};
    use crate::io::rooms::QueueBounds;
    use crate::rooms::{Hub, Limits};

    const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

    /// The router as `axum` shows it to a developer: it has no other way to tell its routes.
    fn shown(dialects: Dialects, is_watched_openly: bool) -> String {
        let hub = Hub::new(Limits { dialects, ..Limits::default() }, [1, 2, 3, 4]);
        let (switchboard, _ended) = Switchboard::new(hub, QueueBounds::default());
        let login = Arc::new(Login::default());
        let exposition = Exposition {
            switchboard: Arc::clone(&switchboard),
            places: Places::new(Bounds::default()),
            tls: None,
            login: Arc::clone(&login),
        };
        let broadcast = BroadcastHttp::default();
        let pages = Pages { switchboard, exposition, login, broadcast, dialects, is_watched_openly };
        format!("{:?}", pages.router(&Arc::default()))
    }

    /// Each path with its methods.
    fn routes(shown: &str) -> BTreeSet<String> {
        let shown = shown.split("fallback_router").next().expect("its routes");
        let (handlers, paths) = shown.split_once("node: ").expect("handlers, and their paths");
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

    fn document(dialects: Dialects) -> Value {
        serde_json::from_str(&docs::document::of(dialects)).expect("JSON")
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
    fn every_route_is_in_the_document_and_the_document_has_no_other() {
        let all = Dialects::default();
        let sets = [all, Dialects { broadcast: false, ..all }, Dialects { bbx: false, ..all }, Dialects::JAMJAM];
        for (dialects, openly) in sets.into_iter().flat_map(|dialects| [(dialects, true), (dialects, false)]) {
            let mut routes = routes(&shown(dialects, openly));
            assert!(routes.remove("get /docs/"), "the same page as /docs");
            // A wildcard has no form of its own there, nor has "any method".
            if routes.remove("any /rooms/{room}/{*rest}") {
                routes.insert("get /rooms/{room}/{path}".to_owned());
            }
            assert!(routes.contains("post /admin/shutdown") && routes.contains("get /metrics"), "{routes:?}");
            assert_eq!(routes.contains("post /auth/token"), dialects.broadcast);
            let described: BTreeSet<String> = operations(&document(dialects)).into_keys().collect();
            assert_eq!(routes, described, "{dialects:?}");
        }
    }

    #[test]
    fn what_the_document_refers_to_is_there() {
        let document = document(Dialects::default());
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
            let answers = operation["responses"].as_object().expect("answers");
            for (status, answer) in answers.iter().filter(|(status, _)| status.starts_with('4')) {
                let form = &answer["content"]["application/json"]["schema"]["$ref"];
                let expected = if status == "429" { "TooMany" } else { "Error" };
                assert!(form.as_str().is_some_and(|form| form.ends_with(expected)), "{name} {status}");
            }
        }
    }
}
