//! `/docs/asyncapi.json` returns the `AsyncAPI` 3.0 document of all WebSocket messages. `/docs/messages` shows the document and can send
//! messages.
//!
//! The schemas come from the types that parse and write the messages ([`message_docs`]). `AsyncAPI` cannot express close codes, so each
//! channel lists them in its description and in the extension `x-close-codes`.

use std::fmt::Write as _;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::io::http::body::{self, PAGE_STYLE, page_response};
use crate::signaling::SignalingLimits;
use crate::signaling::message_docs::{ChannelDoc, CloseDoc, MessageDoc, MessageDocs, ParameterDoc, message_docs};

const PAGE: &str = include_str!("asyncapi/messages.html");
const SCRIPT: &str = include_str!("asyncapi/messages.js");
const STYLE: &str = include_str!("asyncapi/messages.css");
const ABOUT: &str = include_str!("asyncapi/about.md");

/// Content security policy. The page loads scripts, styles and data only from this server, and connects only to this server.
const CSP: &str = "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'";

/// The document, the page and its files, for a server with these limits.
pub(super) fn router(limits: &SignalingLimits) -> Router {
    Router::new()
        .route("/docs/asyncapi.json", get(asyncapi_json))
        .route("/docs/messages", get(messages_page))
        .route("/docs/messages/{file}", get(messages_file))
        .with_state(Bytes::from(asyncapi_document(limits).to_string()))
}

/// `AsyncAPI` document
#[utoipa::path(
    get, path = "/docs/asyncapi.json", operation_id = "asyncapi", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "The WebSocket messages of all enabled dialects, as AsyncAPI 3.0", body = Object)),
)]
pub(super) async fn asyncapi_json(State(document): State<Bytes>) -> Response {
    page_response("application/json", CSP, document)
}

/// WebSocket messages
#[utoipa::path(
    get, path = "/docs/messages", operation_id = "messages", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "A page that shows the AsyncAPI document and sends messages", content_type = "text/html", body = String)),
)]
pub(super) async fn messages_page() -> Response {
    page_response("text/html; charset=utf-8", CSP, PAGE)
}

/// Files of the page of WebSocket messages
#[utoipa::path(
    get, path = "/docs/messages/{file}", operation_id = "messagesFile", tag = "documentation", security(("login" = [])),
    params(("file" = String, Path, description = "File name, for example `script.js`")),
    responses((status = 200, description = "A script or a style"), (status = 404, description = "No such file")),
)]
pub(super) async fn messages_file(Path(name): Path<String>) -> Response {
    match &*name {
        "style.css" => page_response("text/css; charset=utf-8", CSP, [PAGE_STYLE, STYLE].concat()),
        "script.js" => page_response("text/javascript; charset=utf-8", CSP, SCRIPT),
        _ => body::not_found(),
    }
}

/// The version of `AsyncAPI`.
const ASYNCAPI_VERSION: &str = "3.0.0";

/// The version of the WebSocket binding (`bindings.ws`).
const BINDING_VERSION: &str = "0.1.0";

/// The document for a server with these limits.
fn asyncapi_document(limits: &SignalingLimits) -> Value {
    let MessageDocs { channels, schemas } = message_docs(limits);
    let server = |protocol: &str| {
        json!({
            "host": "{host}",
            "protocol": protocol,
            "variables": {"host": {"default": "localhost:8080", "description": "Host and port of the server."}},
        })
    };
    let mut operations = Map::new();
    for channel in &channels {
        operations.extend(channel_operations(channel));
    }
    let documented = channels.iter().map(|channel| (channel.id.to_owned(), channel_object(channel)));
    json!({
        "asyncapi": ASYNCAPI_VERSION,
        "info": {"title": "jamjam-dev signaling-server", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "defaultContentType": "application/json",
        "servers": {"ws": server("ws"), "wss": server("wss")},
        "channels": documented.collect::<Map<_, _>>(),
        "operations": operations,
        "components": {"schemas": schemas},
    })
}

fn channel_object(channel: &ChannelDoc) -> Value {
    let messages = [("client", &channel.client_messages), ("server", &channel.server_messages)];
    let messages = messages.into_iter().flat_map(|(sender, messages)| {
        messages.iter().map(move |message| (message_key(sender, message), message_object(message)))
    });
    let mut object = json!({
        "address": channel.address,
        "title": channel.title,
        "description": format!("{}\n\n{}", channel.description, close_code_table(&channel.closes)),
        "tags": [{"name": channel.dialect.name()}],
        "messages": messages.collect::<Map<_, _>>(),
        "bindings": {"ws": binding(&channel.query_parameters)},
        "x-dialect": channel.dialect.name(),
        "x-summary": channel.description,
        "x-close-codes": channel.closes.iter().map(close_object).collect::<Vec<_>>(),
    });
    if !channel.path_parameters.is_empty() {
        let parameters = channel.path_parameters.iter().map(|parameter| {
            let description = sentence(parameter.description);
            (parameter.name.to_owned(), json!({"description": description, "examples": [parameter.example]}))
        });
        object["parameters"] = parameters.collect::<Map<_, _>>().into();
    }
    object
}

/// The WebSocket binding: the method of the upgrade request, and its query.
fn binding(parameters: &[ParameterDoc]) -> Value {
    let mut binding = json!({"method": "GET", "bindingVersion": BINDING_VERSION});
    if !parameters.is_empty() {
        let required: Vec<&str> =
            parameters.iter().filter(|parameter| parameter.is_required).map(|parameter| parameter.name).collect();
        let properties = parameters.iter().map(|parameter| {
            let mut schema = json!({"type": "string", "description": sentence(parameter.description)});
            if !parameter.example.is_empty() {
                schema["examples"] = json!([parameter.example]);
            }
            (parameter.name.to_owned(), schema)
        });
        binding["query"] =
            json!({"type": "object", "required": required, "properties": properties.collect::<Map<_, _>>()});
    }
    binding
}

/// The key of a message in its channel. A reference contains the key, so it has only characters that a reference need not escape.
fn message_key(sender: &str, message: &MessageDoc) -> String {
    let name: String = message.name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    format!("{sender}.{name}")
}

fn message_object(message: &MessageDoc) -> Value {
    let examples = message.examples.iter().map(|example| json!({"payload": example}));
    json!({
        "name": message.name,
        "title": message.name,
        "description": message.description,
        "payload": message.schema,
        "examples": examples.collect::<Vec<_>>(),
    })
}

/// The operations of a channel. `AsyncAPI` describes the server, so the server receives the messages of clients.
fn channel_operations(channel: &ChannelDoc) -> Vec<(String, Value)> {
    let operation = |action: &str, sender: &str, messages: &[MessageDoc]| {
        let reference =
            |message| json!({"$ref": format!("#/channels/{}/messages/{}", channel.id, message_key(sender, message))});
        let object = json!({
            "action": action,
            "channel": {"$ref": format!("#/channels/{}", channel.id)},
            "title": format!("{}: messages from {}", channel.title, if sender == "client" { "clients" } else { "the server" }),
            "messages": messages.iter().map(reference).collect::<Vec<_>>(),
        });
        (format!("{}.{action}", channel.id), object)
    };
    [("receive", "client", &channel.client_messages), ("send", "server", &channel.server_messages)]
        .into_iter()
        .filter(|(.., messages)| !messages.is_empty())
        .map(|(action, sender, messages)| operation(action, sender, messages))
        .collect()
}

fn close_object(close: &CloseDoc) -> Value {
    json!({"code": close.code.get(), "reason": close.reason, "description": sentence(close.cause)})
}

fn close_code_table(closes: &[CloseDoc]) -> String {
    let mut table = "| close code | reason | cause |\n| --- | --- | --- |\n".to_owned();
    for CloseDoc { code, reason, cause } in closes {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {code} | {reason} | {cause} |");
    }
    table
}

fn sentence(text: &str) -> String {
    format!("{text}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_resolves() {
        let document = asyncapi_document(&SignalingLimits::default());
        let text = document.to_string();
        let mut references = 0;
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().expect("a pointer");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > 60, "{references} references");
    }

    #[test]
    fn messages_of_a_channel_have_distinct_keys() {
        for channel in message_docs(&SignalingLimits::default()).channels {
            let count = channel.client_messages.len() + channel.server_messages.len();
            let object = channel_object(&channel);
            assert_eq!(object["messages"].as_object().map(Map::len), Some(count), "{}", channel.id);
        }
    }
}
