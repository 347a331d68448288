//! The document itself (`OpenAPI` 3.1). What an operation takes and answers is written beside the code that does it; here is
//! what they have in common.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi as _, ToSchema};

use crate::io::http::metrics;
use crate::io::rooms::admin_bbx::{events, orders};
use crate::io::rooms::broadcast::{posts, tokens};
use crate::io::rooms::{admin, console, health};
use crate::rooms::Dialects;

/// The operator's login, as operations name it.
const LOGIN: &str = "login";

/// Every error.
#[expect(dead_code, reason = "it describes what io::http::answer writes")]
#[derive(ToSchema)]
pub(in crate::io) struct Error {
    /// What is wrong, in a sentence.
    error: String,
}

/// Somebody asks too often.
#[expect(dead_code, reason = "it describes what io::http::answer writes")]
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::io) struct TooMany {
    error: String,
    /// Seconds until the next one is answered; also in `Retry-After`.
    retry_after: u64,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "jamjam-dev signaling-server", description = include_str!("about.md")),
    tags(
        (name = "watching", description = "What the server is doing"),
        (name = "broadcast", description = "Tokens for broadcast rooms, and content for them"),
        (name = "surfaces", description = "Rooms of control surfaces (bbx), for the operator alone"),
        (name = "operating", description = "For the operator alone"),
        (name = "description", description = "This document and its page"),
    ),
    paths(
        health::health,
        health::rooms,
        metrics::healthz,
        metrics::metrics,
        tokens::issue,
        posts::free,
        posts::typed,
        posts::own,
        orders::list,
        orders::make,
        orders::close,
        orders::set,
        orders::declare,
        orders::show,
        events::listen,
        admin::shut_down,
        console::console,
        console::console_file,
        console::console_state,
        super::home,
        super::read,
        super::file,
        super::swagger_json,
        super::openapi_json,
    ),
    components(schemas(Error, TooMany)),
    modifiers(&Schemes, &BehindTheLogin, &OneErrorShape),
)]
struct Document;

/// The document of a server that speaks `dialects`, as JSON.
pub(in crate::io::rooms) fn of(dialects: Dialects) -> String {
    let mut document = Document::openapi();
    for (tag, is_spoken) in [("broadcast", dialects.broadcast), ("surfaces", dialects.bbx)] {
        if !is_spoken {
            forget(&mut document, tag);
        }
    }
    // It is made of strings, numbers and lists.
    document.to_json().unwrap_or_default()
}

/// Leaves out what belongs to a dialect that is not spoken.
fn forget(document: &mut OpenApi, tag: &str) {
    let is_of = |operation: &Operation| operation.tags.iter().flatten().any(|of| of == tag);
    document.paths.paths.retain(|_, item| !operations_mut(item).any(|(_, operation)| is_of(operation)));
    document.tags.iter_mut().for_each(|tags| tags.retain(|of| of.name != tag));
}

/// The operations at a path, and whether they change anything.
fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [(false, get), (true, put), (true, post), (true, delete), (true, patch)]
        .into_iter()
        .filter_map(|(changes, operation)| Some((changes, operation.as_mut()?)))
}

/// How clients show who they are.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, scheme, description) in [
            (LOGIN, HttpAuthScheme::Basic, "The operator's: --docs-username and --docs-password"),
            ("room", HttpAuthScheme::Bearer, "A token for the room, as /auth/token gives it"),
            ("issuer", HttpAuthScheme::Bearer, "The key of --token-issuer-key, where one is set"),
        ] {
            let http = Http::builder().scheme(scheme).description(Some(description)).build();
            components.add_security_scheme(name, SecurityScheme::Http(http));
        }
    }
}

/// What all operations that take the login answer without it.
struct BehindTheLogin;

impl Modify for BehindTheLogin {
    fn modify(&self, document: &mut OpenApi) {
        let login = SecurityRequirement::new(LOGIN, [""; 0]);
        for (changes, operation) in document.paths.paths.values_mut().flat_map(operations_mut) {
            if !operation.security.iter().flatten().any(|needed| *needed == login) {
                continue;
            }
            let mut answers =
                vec![("401", "The login is missing or wrong"), ("429", "This address has failed to log in too often")];
            answers.extend(changes.then_some(("403", "No JSON was sent, or a page of another site asks")));
            for (status, description) in answers {
                let answer = || Response::new(description).into();
                operation.responses.responses.entry(status.to_owned()).or_insert_with(answer);
            }
        }
    }
}

/// Every error has the same form, which no operation has to say.
struct OneErrorShape;

impl Modify for OneErrorShape {
    fn modify(&self, document: &mut OpenApi) {
        for (_, operation) in document.paths.paths.values_mut().flat_map(operations_mut) {
            for (status, answer) in &mut operation.responses.responses {
                let RefOr::T(answer) = answer else { continue };
                if status.starts_with(['4', '5']) && answer.content.is_empty() {
                    let form = if status == "429" { "TooMany" } else { "Error" };
                    let content = Content::new(Some(Ref::from_schema_name(form)));
                    answer.content.insert("application/json".to_owned(), content.into());
                }
            }
        }
    }
}
